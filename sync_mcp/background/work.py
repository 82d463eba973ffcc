"""Work that goes on when the call that began it has ended: joined by its key, or done alone under one."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from sync_mcp.api.news import News
from sync_mcp.errors import Handle, InternalError, MoneySpent, SyncError, UnderWay
from sync_mcp.texts import FAULT_LIMIT, safe

if TYPE_CHECKING:
    from sync_mcp.api.uploads import OnProgress, Transfer

KEPT_SECONDS = 600.0
"""How long what came of work is kept for those who come back for it."""

MOST_KEPT = 64

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


async def do_in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """Do in a thread what blocks: the disk takes its time."""
    return await to_thread.run_sync(partial(work, *arguments))


class Work:
    """What is worked on, each piece under its key, whatever becomes of the calls that wait for it.

    It goes on in `task_group`, until that is cancelled; without one it holds up the call that began it.
    """

    def __init__(self, task_group: TaskGroup | None) -> None:
        self._task_group = task_group
        self._pieces: dict[Hashable, _Piece] = {}

    async def join(
        self,
        key: Hashable,
        work: "Callable[[OnProgress], Awaitable[_T]]",
        *,
        until: float,
        on_progress: "OnProgress | None" = None,
    ) -> _T:
        """Return what `work` returns, starting it unless it is under way or done under the same `key`.

        `until` is a time of anyio's clock. `on_progress` is awaited with the newest state, not with every
        one: a slow listener does not slow the work down. Cancelling the caller does not cancel the work.

        A result is kept for some minutes for all who come back for it. An error is told to those who wait, or
        else to the first who comes back; after that the work begins anew.

        Raises:
            UnderWay: it had not ended by then.
            SyncError: as `work`.
        """
        self._drop_old()
        piece = self._pieces.get(key)
        async with self._tasks() as tasks:
            if piece is None:
                piece = self._pieces[key] = _Piece(key)
                tasks.start_soon(self._run, piece, work, "no")
            with anyio.CancelScope(deadline=until):
                await piece.follow(on_progress)
        if piece.ended_at is None:
            raise UnderWay(Handle(key, piece.latest))
        if piece.error is not None:
            self._drop(piece)
            raise piece.error
        return cast(_T, piece.result)

    async def finish(self, work: Callable[[], Awaitable[_T]], *, on_left: Callable[[], None]) -> _T:
        """Do what must not stop in the middle, and return what it returns.

        It has a key of its own, so nobody joins it. `on_left` is called once the caller waits no more.

        Raises:
            Exception: as `work`.
        """

        async def do(_: "OnProgress") -> _T:
            return await work()

        piece = _Piece(None)
        async with self._tasks() as tasks:
            tasks.start_soon(self._run, piece, do, "unknown")
            try:
                await piece.follow()
            except BaseException:
                on_left()
                raise
        if piece.error is not None:
            raise piece.error
        return cast(_T, piece.result)

    @asynccontextmanager
    async def turn(
        self, key: Hashable, *, until: float, busy: Callable[[], SyncError]
    ) -> AsyncGenerator[None]:
        """Have one's turn under a key: those who name the same one go one after another.

        A call whose time is up stands in nobody's way, and nobody in its own.

        Raises:
            SyncError: `busy`, where the turn did not come until then, on anyio's clock.
        """
        # What has a turn is done by the caller itself: there is nothing to join.
        key = ("turn", key)
        while (before := self._pieces.get(key)) is not None:
            with anyio.CancelScope(deadline=until):
                await before.follow()
            if before.ended_at is None:
                raise busy()
        piece = self._pieces[key] = _Piece(key)
        try:
            yield
        finally:
            self._drop(piece)
            piece.end()

    def latest(self, key: Hashable) -> "Transfer | None":
        """Return how far what is under way under `key` is, where something has moved."""
        piece = self._pieces.get(key)
        return piece.latest if piece is not None and piece.ended_at is None else None

    def is_known(self, key: Hashable) -> bool:
        """Return whether something is under way under `key`, or a result kept."""
        return key in self._pieces

    def is_under_way(self, key: Hashable) -> bool:
        """Return whether something is under way under `key`."""
        piece = self._pieces.get(key)
        return piece is not None and piece.ended_at is None

    def is_done(self, key: Hashable) -> bool:
        """Return whether a result is kept under `key`."""
        piece = self._pieces.get(key)
        return piece is not None and piece.ended_at is not None and piece.error is None

    def forget(self, key: Hashable) -> None:
        """Let the next call under `key` begin anew, where a kept result no longer holds.

        What is under way is left alone.
        """
        piece = self._pieces.get(key)
        if piece is not None and piece.ended_at is not None:
            self._drop(piece)

    @asynccontextmanager
    async def _tasks(self) -> AsyncGenerator[TaskGroup]:
        """Have a task group for work to go on in."""
        if self._task_group is not None:
            yield self._task_group
            return
        async with anyio.create_task_group() as own:
            yield own

    async def _run(
        self, piece: "_Piece", work: "Callable[[OnProgress], Awaitable[object]]", may_have_spent: MoneySpent
    ) -> None:
        error: Exception = InternalError(
            "The server stopped while this was under way.", money_spent=may_have_spent
        )
        try:
            with anyio.CancelScope(shield=self._task_group is None):
                piece.end(result=await work(piece.note))
        except Exception as raised:  # noqa: BLE001 - told to those who wait, and no end of the process
            error = raised
            if piece.key is None and not piece.waiting:
                reason = str(error) if isinstance(error, SyncError) else repr(error)
                logger.warning("work whose call was cancelled ended: %s", safe(reason, FAULT_LIMIT))
        finally:
            if piece.ended_at is None:
                piece.end(error=error)
            if piece.error is not None and piece.waiting:
                self._drop(piece)

    def _drop(self, piece: "_Piece") -> None:
        if self._pieces.get(piece.key) is piece:
            del self._pieces[piece.key]

    def _drop_old(self) -> None:
        now = anyio.current_time()
        ended = sorted(
            (piece.ended_at, number, key)
            for number, (key, piece) in enumerate(self._pieces.items())
            if piece.ended_at is not None
        )
        too_many = len(ended) - MOST_KEPT
        for place, (ended_at, _, key) in enumerate(ended):
            if place < too_many or now - ended_at > KEPT_SECONDS:
                del self._pieces[key]


class _Piece:
    """A piece of work: how far it is, and what came of it."""

    def __init__(self, key: Hashable | None) -> None:
        self.key = key
        """None where nobody comes back for it."""
        self.latest: Transfer | None = None
        self.result: object = None
        self.error: Exception | None = None
        self.ended_at: float | None = None
        self.waiting = 0
        """How many calls wait for it."""
        self._moves = 0
        self._moved = News()

    async def note(self, transfer: "Transfer") -> None:
        self.latest = transfer
        self._moves += 1
        self._moved.spread()

    def end(self, *, result: object = None, error: Exception | None = None) -> None:
        self.result, self.error, self.ended_at = result, error, anyio.current_time()
        self._moved.spread()

    async def follow(self, on_progress: "OnProgress | None" = None) -> None:
        """Wait for the end, passing on how far it is."""
        told = 0
        self.waiting += 1
        try:
            while True:
                if on_progress is not None and self.latest is not None and self._moves > told:
                    told = self._moves
                    await on_progress(self.latest)
                elif self.ended_at is not None:
                    return
                else:
                    await self._moved.wait()
        finally:
            self.waiting -= 1
