"""Work that goes on when the call that began it has ended, and calls that go one after another."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from sync_mcp.errors import InternalError, SyncError
from sync_mcp.texts import FAULT_LIMIT, safe

logger = logging.getLogger(__name__)

_ResultT = TypeVar("_ResultT")


async def do_in_thread(work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
    """Do in a thread what blocks: the disk takes its time."""
    return await to_thread.run_sync(partial(work, *arguments))


async def do_to_its_end(
    work: Callable[[], Awaitable[_ResultT]],
    task_group: TaskGroup | None,
    *,
    on_left: Callable[[], None],
) -> _ResultT:
    """Do what must not stop in the middle, whatever becomes of the caller.

    It goes on in `task_group` when its caller is cancelled; without one it holds its caller up. `on_left` is
    called once the caller waits no more.

    Raises:
        Exception: as `work`.
    """
    flight = _Flight[_ResultT]()
    if task_group is None:
        async with anyio.create_task_group() as own:
            own.start_soon(flight.fly_shielded, work)
            await _land(flight, on_left)
    else:
        task_group.start_soon(flight.fly, work)
        await _land(flight, on_left)
    if flight.error is not None:
        raise flight.error
    return flight.results[0]


async def _land(flight: "_Flight[_ResultT]", on_left: Callable[[], None]) -> None:
    try:
        await flight.landed.wait()
    except BaseException:
        flight.is_awaited = False
        on_left()
        raise


class _Flight(Generic[_ResultT]):
    """Work that goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.is_awaited = True
        self.results: list[_ResultT] = []
        self.error: Exception | None = None

    async def fly_shielded(self, work: Callable[[], Awaitable[_ResultT]]) -> None:
        with anyio.CancelScope(shield=True):
            await self.fly(work)

    async def fly(self, work: Callable[[], Awaitable[_ResultT]]) -> None:
        try:
            self.results.append(await work())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
            if not self.is_awaited:
                reason = str(error) if isinstance(error, SyncError) else repr(error)
                logger.warning("a create whose call was cancelled ended: %s", safe(reason, FAULT_LIMIT))
        except BaseException:
            self.error = InternalError(
                "The server stopped while the create was on its way.", money_spent="unknown"
            )
            raise
        finally:
            self.landed.set()


class Turns:
    """Lets calls that mean the same go one after another."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def turn(self, key: str, until: float, busy: Callable[[], SyncError]) -> AsyncGenerator[None]:
        """Have one's turn under a key, on anyio's clock until a time at the latest.

        Raises:
            SyncError: `busy`, where the turn did not come in time.
        """
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            await _take(turn.lock, until, busy)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]


async def _take(lock: anyio.Lock, until: float, busy: Callable[[], SyncError]) -> None:
    try:
        # A call whose time is up stands in nobody's way, and nobody in its own.
        lock.acquire_nowait()
    except anyio.WouldBlock:
        with anyio.CancelScope(deadline=until) as scope:
            await lock.acquire()
        if scope.cancelled_caught:
            raise busy() from None


class _Turn:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0
