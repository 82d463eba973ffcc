"""The six points at which a server dies, and what it and the one who starts it agree on."""

from typing import Literal, get_args

from sync_mcp.sandbox.faults.script import BATCH_PATH, CREATE_PATH, SPEECH_PATH

Point = Literal[
    "before-intention", "after-intention", "api-received", "api-accepted", "api-answered", "before-recorded"
]
POINTS: tuple[Point, ...] = get_args(Point)

KILL_VARIABLE = "TORTURE_KILL"
"""`point:number`: die there with the create or deletion of this number, or the next one that comes so far."""

EDITS_PATH = "/v2/dialogue-edits"
PAID_PATHS = (CREATE_PATH, SPEECH_PATH, "/v2/tts", "/v2/voices", BATCH_PATH, EDITS_PATH)
"""Where creates are sent."""
DELETED_PATH = "/v2/generations/"
"""Below it a job is deleted."""

DOOMED_HEADER = "x-torture-doomed"
"""On a create that hangs at the API, and whose sender is to be killed from outside: the point."""
PID_HEADER = "x-torture-pid"

HANGS: dict[str, dict[str, object]] = {
    "api-received": {"when": "before", "delay_seconds": 3.0},
    "api-accepted": {"when": "after", "delay_seconds": 6.0},
}
"""What the API does with such a create. What it has received it accepts when the sender is long dead, and
well before another process may take it over."""


def is_doomed(method: str, path: str) -> bool:
    """Whether a server may die of such a request."""
    return (method == "POST" and path in PAID_PATHS) or (method == "DELETE" and path.startswith(DELETED_PATH))
