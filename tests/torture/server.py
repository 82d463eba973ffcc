"""The server as users start it, but for one thing: it dies at the point that TORTURE_KILL names."""

import json
import os
import signal
from dataclasses import replace
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from sync_mcp.api.transport import Budget, Call, Reply, RequestOptions, Transport
from sync_mcp.cli.main import main
from sync_mcp.payments.ledger import Entry
from sync_mcp.sandbox.faults.exchange import FAULT_HEADER
from sync_mcp.sandbox.faults.script import CREATE_PATH
from tests.torture.points import DOOMED_HEADER, HANGS, KILL_VARIABLE, PID_HEADER, Point


class _Doom:
    """Counts the creates that come to the point, until it is time."""

    def __init__(self, number: int) -> None:
        self._left = number

    def has_come(self) -> bool:
        self._left -= 1
        return self._left <= 0

    def strike(self) -> None:
        if self.has_come():
            os.kill(os.getpid(), signal.SIGKILL)


def install(point: Point, number: int) -> None:
    """Make this process die at `point`, with the create of this number that comes there."""
    doom = _Doom(number)
    if point in ("before-intention", "after-intention"):
        _die_with_intention(point, doom)
    elif point == "before-recorded":
        _die_before_recorded(doom)
    else:
        _die_at_the_api(point, doom)


def _die_with_intention(point: Point, doom: _Doom) -> None:
    def note(session: Session, _: object) -> None:
        session.info["begins"] = any(isinstance(new, Entry) for new in session.new)

    def strike(session: Session) -> None:
        if session.info.get("begins"):
            doom.strike()

    event.listen(Session, "after_flush", note)
    event.listen(Session, "before_commit" if point == "before-intention" else "after_commit", strike)


def _die_before_recorded(doom: _Doom) -> None:
    def note(session: Session, _: object) -> None:
        is_one = any(isinstance(entry, Entry) and entry.state == "accepted" for entry in session.dirty)
        session.info["records"] = session.info.get("records", False) or is_one

    def strike(session: Session) -> None:
        note(session, None)
        if session.info["records"]:
            doom.strike()

    # What was flushed before the end of its transaction is no longer seen there.
    event.listen(Session, "after_flush", note)
    event.listen(Session, "before_commit", strike)


def _die_at_the_api(point: Point, doom: _Doom) -> None:
    attempt = Transport.attempt

    async def doomed(
        self: Transport, call: Call, budget: Budget, options: RequestOptions | None = None, **more: Any
    ) -> Reply:
        if (call.method, call.path) != ("POST", CREATE_PATH):
            return await attempt(self, call, budget, options, **more)
        if point in HANGS and doom.has_come():
            marks = {
                DOOMED_HEADER: point,
                PID_HEADER: str(os.getpid()),
                FAULT_HEADER: json.dumps(HANGS[point]),
            }
            call = replace(call, headers={**call.headers, **marks})
        reply = await attempt(self, call, budget, options, **more)
        if point == "api-answered" and reply.ok and "id" in reply.fields:
            doom.strike()
        return reply

    Transport.attempt = doomed


if __name__ == "__main__":
    if os.environ.get(KILL_VARIABLE):
        name, _, count = os.environ[KILL_VARIABLE].partition(":")
        install(name, int(count))  # type: ignore[arg-type]
    main()
