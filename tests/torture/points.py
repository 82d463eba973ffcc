"""The six points at which a server dies, and what it and the one who starts it agree on."""

from typing import Literal, get_args

Point = Literal[
    "before-intention", "after-intention", "api-received", "api-accepted", "api-answered", "before-recorded"
]
POINTS: tuple[Point, ...] = get_args(Point)

KILL_VARIABLE = "TORTURE_KILL"
"""`point:number`: die there with the create of this number, or the next one that comes so far."""

DOOMED_HEADER = "x-torture-doomed"
"""On a create that hangs at the API, and whose sender is to be killed from outside: the point."""
PID_HEADER = "x-torture-pid"

HANGS: dict[str, dict[str, object]] = {
    "api-received": {"when": "before", "delay_seconds": 3.0},
    "api-accepted": {"when": "after", "delay_seconds": 6.0},
}
"""What the API does with such a create. What it has received it accepts when the sender is long dead, and
well before another process may take it over."""
