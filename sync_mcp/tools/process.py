"""What all calls of a process share, whosever account they are for: its tasks, its stop clock, its book.

Nothing that belongs to an account is kept here.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from sync_mcp.tools.late import Late
from sync_mcp.tools.opening import BookOpening

if TYPE_CHECKING:
    from sync_mcp.payments.guard import Guard

STOP_SECONDS = 7.0
"""Once the server is to end, a call that is under way is answered within this time."""

_LAST_WORD_SECONDS = 0.5
_OPEN_GUARD: "Late[[BookOpening, TaskGroup, ExitStack], Guard]" = Late("book:open_guard")


@asynccontextmanager
async def open_process(
    opening: BookOpening, stopping: anyio.Event | None = None
) -> "AsyncGenerator[Process]":
    """Yield a process; with it end its tasks, then its accounts' connections, then its book."""
    with ExitStack() as ends:
        # The book outlives the creates: how they were left is written down in it.
        async with anyio.create_task_group() as tasks:
            process = Process(tasks, opening, ends, stopping)
            tasks.start_soon(process.end_calls_in_time)
            try:
                yield process
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await process.close_accounts()


class Process:
    """The one of a process; made when the server starts.

    `tasks` is where work goes on that outlasts a call. The first call that needs the book opens it; `ends`
    closes it.
    """

    def __init__(
        self, tasks: TaskGroup, opening: BookOpening, ends: ExitStack, stopping: anyio.Event | None = None
    ) -> None:
        self.tasks = tasks
        self.stopping = stopping or anyio.Event()
        """Set when the server is about to end: then a wait is answered with what is known."""
        self.ends_at = math.inf
        """When, on anyio's clock, every call must have ended; known once the server is to end."""
        self._limits: set[anyio.CancelScope] = set()
        self._opening = opening
        self._ends = ends
        self._closers = AsyncExitStack()
        self._guard: Guard | None = None

    @property
    def guard(self) -> "Guard":
        """What every paid call goes through: its book counts the money of all accounts together."""
        if self._guard is None:
            self._guard = _OPEN_GUARD(self._opening, self.tasks, self._ends)
        return self._guard

    def close_at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have an account's connections closed when the process ends."""
        self._closers.push_async_callback(close)

    async def close_accounts(self) -> None:
        """Close what was to be closed at the end."""
        await self._closers.aclose()

    @contextmanager
    def time_limit(self, ends_at: float) -> Generator[None]:
        """Let a call run until shortly before `ends_at`, or before the server ends.

        Raises:
            TimeoutError: it was still running then.
        """
        with anyio.fail_at(min(ends_at, self.ends_at) - _LAST_WORD_SECONDS) as scope:
            self._limits.add(scope)
            try:
                yield
            finally:
                self._limits.discard(scope)

    async def end_calls_in_time(self) -> None:
        """Wait until the server is to end; what is under way then ends while it can still be answered."""
        await self.stopping.wait()
        self.ends_at = anyio.current_time() + STOP_SECONDS
        for scope in self._limits:
            scope.deadline = min(scope.deadline, self.ends_at - _LAST_WORD_SECONDS)
