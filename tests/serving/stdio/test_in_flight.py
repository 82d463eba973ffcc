"""A client that asks and asks, and does not read the answers."""

import json
import os
import select
import sys

import pytest

from sync_mcp.serving.stdio import MOST_IN_FLIGHT

from .process import (
    INITIALIZE,
    INITIALIZED,
    WAIT_SECONDS,
    ServerProcess,
    call,
    close_stdin,
    modern,
    notification,
    running,
    text_of,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pipe there cannot be asked")

REQUESTS = 1_000
TEXT = "x" * 4_000
NOT_READ_FOR_SECONDS = 1.0


def write_until_it_is_not_read(server: ServerProcess, data: bytes) -> int:
    """Write as much as the server takes, and return how much that was."""
    stdin = server.stdin.fileno()
    os.set_blocking(stdin, False)
    written = 0
    # A server that is only slow stops too early, and not too late.
    while written < len(data) and select.select([], [stdin], [], NOT_READ_FOR_SECONDS)[1]:
        written += os.write(stdin, data[written : written + 4096])
    os.set_blocking(stdin, True)
    return written


@pytest.mark.parametrize("has_one_id", [False, True], ids=["ids of their own", "one id for all"])
@pytest.mark.parametrize("modern_era", [False, True], ids=["legacy", "modern"])
def test_reading_stops_while_two_hundred_are_in_flight_and_goes_on_when_they_are_answered(
    modern_era: bool, has_one_id: bool
):
    frames = [call(0 if has_one_id else n, "echo", TEXT) for n in range(REQUESTS)]
    lines = [json.dumps(modern(frame) if modern_era else frame).encode() + b"\n" for frame in frames]
    with running(read_stdout=False, GRACE_SECONDS="60") as server:
        server.send(INITIALIZE, INITIALIZED)
        server.told("lifespan entered")
        data = b"".join(lines)
        written = write_until_it_is_not_read(server, data)
        # Beside those in flight only what pipes and a few reads hold.
        assert written < (MOST_IN_FLIGHT + 100) * len(lines[0])
        server.stdout.start()
        server.send_raw(data[written:])
        close_stdin(server)
        answered = [frame["id"] for frame in server.all_frames()]
        assert sorted(answered[1:]) == sorted(frame["id"] for frame in frames)
        assert server.process.wait(WAIT_SECONDS) == 0


def test_what_is_cancelled_makes_room_for_others(server: ServerProcess):
    for n in range(MOST_IN_FLIGHT + 5):
        server.send(call(n, "wait_forever", str(n)), notification("notifications/cancelled", requestId=n))
    assert text_of(server.ask(call("last", "echo", "last"))) == "last"
