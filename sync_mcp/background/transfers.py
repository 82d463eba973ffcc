"""Transfers that outlast the call that began them: they go on in the process, and a repeat joins them."""

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from sync_mcp.errors import InternalError, TransferUnderWay

if TYPE_CHECKING:
    from sync_mcp.api.uploads import OnProgress, Transfer

KEPT_SECONDS = 600.0
"""How long the outcome of a transfer is kept for those who come back for it."""

MOST_KEPT = 64

_T = TypeVar("_T")


class Transfers:
    """The transfers of a process; each runs in `task_group`, whatever becomes of the calls that wait."""

    def __init__(self, task_group: TaskGroup) -> None:
        self._task_group = task_group
        self._jobs: dict[Hashable, _Job] = {}

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
        one: a slow listener does not slow the transfer down. Cancelling the caller does not cancel the work.

        A result is kept for some minutes for all who come back for it. An error is told to those who wait, or
        else to the first who comes back; after that the work begins anew.

        Raises:
            TransferUnderWay: it had not ended by then.
            SyncError: as `work`.
        """
        self._drop_old()
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job()
            self._task_group.start_soon(self._run, key, job, work)
        job.waiting += 1
        try:
            with anyio.CancelScope(deadline=until):
                await job.follow(on_progress)
        finally:
            job.waiting -= 1
        if job.ended_at is None:
            raise TransferUnderWay(job.latest)
        if job.error is not None:
            self._drop(key, job)
            raise job.error
        return cast(_T, job.result)

    def latest(self, key: Hashable) -> "Transfer | None":
        """Return how far what is under way under `key` is, where something has moved."""
        job = self._jobs.get(key)
        return job.latest if job is not None and job.ended_at is None else None

    def is_done(self, key: Hashable) -> bool:
        """Return whether a result is kept under `key`."""
        job = self._jobs.get(key)
        return job is not None and job.ended_at is not None and job.error is None

    def forget(self, key: Hashable) -> None:
        """Let the next call under `key` begin anew, where a kept result no longer holds.

        What is under way is left alone.
        """
        job = self._jobs.get(key)
        if job is not None and job.ended_at is not None:
            del self._jobs[key]

    async def _run(
        self, key: Hashable, job: "_Job", work: "Callable[[OnProgress], Awaitable[object]]"
    ) -> None:
        error: Exception = InternalError("The server stopped during the transfer.", money_spent="no")
        try:
            job.end(result=await work(job.note))
        except Exception as raised:  # noqa: BLE001 - told to those who wait, and no end of the process
            error = raised
        finally:
            if job.ended_at is None:
                job.end(error=error)
            if job.error is not None and job.waiting:
                self._drop(key, job)

    def _drop(self, key: Hashable, job: "_Job") -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]

    def _drop_old(self) -> None:
        now = anyio.current_time()
        ended = sorted(
            (job.ended_at, number, key)
            for number, (key, job) in enumerate(self._jobs.items())
            if job.ended_at is not None
        )
        too_many = len(ended) - MOST_KEPT
        for place, (ended_at, _, key) in enumerate(ended):
            if place < too_many or now - ended_at > KEPT_SECONDS:
                del self._jobs[key]


class _Job:
    """One transfer: how far it is, and what came of it."""

    def __init__(self) -> None:
        self.latest: Transfer | None = None
        self.result: object = None
        self.error: Exception | None = None
        self.ended_at: float | None = None
        self.waiting = 0
        """How many calls wait for it."""
        self._moves = 0
        self._moved = anyio.Event()

    async def note(self, transfer: "Transfer") -> None:
        self.latest = transfer
        self._moves += 1
        self._wake()

    def end(self, *, result: object = None, error: Exception | None = None) -> None:
        self.result, self.error, self.ended_at = result, error, anyio.current_time()
        self._wake()

    async def follow(self, on_progress: "OnProgress | None") -> None:
        """Wait for the end, passing on how far it is."""
        told = 0
        while True:
            if on_progress is not None and self.latest is not None and self._moves > told:
                told = self._moves
                await on_progress(self.latest)
            elif self.ended_at is not None:
                return
            else:
                await self._moved.wait()

    def _wake(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
