"""Waiting for a job of which the API has no long poll: it is read again, less and less often."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from sync_mcp.api.models import CamelModel
from sync_mcp.errors import SyncError

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0


_ENDED = frozenset({"COMPLETED", "COMPLETED_PARTIAL", "FAILED", "REJECTED", "CANCELED"})


class PolledJob(CamelModel):
    """A job that is read again until it has ended."""

    status: str

    @property
    def finished(self) -> bool:
        """Whether its status can no longer change."""
        return self.status in _ENDED


JobT = TypeVar("JobT", bound=PolledJob)


async def poll(
    read: Callable[[], Awaitable[JobT]],
    ends_at: float,
    on_update: Callable[[JobT], Awaitable[None]] | None = None,
) -> JobT:
    """Return a job when it has ended, or as it is when the time is up, on anyio's clock.

    Passing faults of the network are waited out, and `on_update` is awaited with each state read.

    Raises:
        SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
    """
    pause = _FIRST_PAUSE_SECONDS
    job: JobT | None = None
    while True:
        wait_seconds = pause
        try:
            job = await read()
        except SyncError as error:
            if not error.retryable or (job is None and anyio.current_time() >= ends_at):
                raise
            wait_seconds = max(pause, error.retry_after_seconds or 0.0)
        else:
            if on_update is not None:
                await on_update(job)
            if job.finished:
                return job
        left = ends_at - anyio.current_time()
        if job is not None and left <= 0:
            return job
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        await anyio.sleep(max(0.0, min(wait_seconds, left)))
