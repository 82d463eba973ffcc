"""The server as users start it, but for one thing: it dies at the point that TORTURE_KILL names."""

import json
import os
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine, event

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.replies import Reply
from sync_mcp.api.retry import Budget
from sync_mcp.cli.main import main
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.sandbox.faults.exchange import FAULT_HEADER
from sync_mcp.sandbox.faults.script import CREATE_PATH
from tests.torture.points import DOOMED_HEADER, HANGS, KILL_VARIABLE, PID_HEADER, Point, is_doomed


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
    _die_with(doom, _is_begun, is_before=point == "before-intention")


def _die_before_recorded(doom: _Doom) -> None:
    _die_with(doom, _is_recorded, is_before=True)


def _is_begun(statement: str, _: Sequence[object]) -> bool:
    return statement.startswith("INSERT INTO entries")


def _is_recorded(statement: str, values: Sequence[object]) -> bool:
    return statement.startswith("UPDATE entries") and ("accepted" in values or "deleted" in values)


def _die_with(doom: _Doom, is_one: Callable[[str, Sequence[object]], bool], *, is_before: bool) -> None:
    """Die just before or just after a transaction is committed in which there is such a statement."""

    def note(connection: Connection, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if is_one(statement, values):
            connection.info["doomed"] = True

    transaction = SqliteStore.transaction

    @contextmanager
    def doomed(store: SqliteStore, *, is_sandbox: bool | None = None) -> Generator[Connection]:
        with transaction(store, is_sandbox=is_sandbox) as connection:
            info = connection.info
            info["doomed"] = False
            yield connection
            if is_before and info["doomed"]:
                doom.strike()
        if not is_before and info["doomed"]:
            doom.strike()

    event.listen(Engine, "before_cursor_execute", note)
    SqliteStore.transaction = doomed  # type: ignore[method-assign]


def _die_at_the_api(point: Point, doom: _Doom) -> None:
    send = Transport.send

    async def doomed(
        self: Transport, call: Call, budget: Budget, options: RequestOptions | None = None, **more: Any
    ) -> Reply:
        if not is_doomed(call.method, call.path):
            return await send(self, call, budget, options, **more)
        if point in HANGS and doom.has_come():
            marks = {
                DOOMED_HEADER: point,
                PID_HEADER: str(os.getpid()),
                FAULT_HEADER: json.dumps(HANGS[point]),
            }
            call = replace(call, headers={**call.headers, **marks})
        reply = await send(self, call, budget, options, **more)
        has_job = "id" in reply.fields or call.path != CREATE_PATH
        if point == "api-answered" and reply.ok and has_job:
            doom.strike()
        return reply

    Transport.send = doomed


if __name__ == "__main__":
    if os.environ.get(KILL_VARIABLE):
        name, _, count = os.environ[KILL_VARIABLE].partition(":")
        install(name, int(count))  # type: ignore[arg-type]
    main()
