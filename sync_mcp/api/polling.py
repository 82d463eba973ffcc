"""Waiting for a job of which the API has no long poll: it is looked at again and again."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

import anyio

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.models import CamelModel
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import RateLimitError, SyncError

_READ_SECONDS = 10.0


class PolledJob(CamelModel):
    """A job that is looked at until it has ended."""

    LAST_STATUSES: ClassVar[frozenset[str]] = frozenset(
        {"COMPLETED", "COMPLETED_PARTIAL", "FAILED", "REJECTED", "CANCELED"}
    )

    id: str
    status: str

    @property
    def finished(self) -> bool:
        """Whether the status can no longer change."""
        return self.status in self.LAST_STATUSES


JobT = TypeVar("JobT", bound=PolledJob)
Look = Callable[[RequestOptions], Awaitable[tuple[JobT, float]]]
"""Reads a job, and says after how many seconds it is to be looked at again."""


def look_every(seconds: float, read: Callable[[RequestOptions], Awaitable[JobT]]) -> Look[JobT]:
    """Return what reads a job that is to be looked at again after so many seconds."""

    async def look(options: RequestOptions) -> tuple[JobT, float]:
        return await read(options), seconds

    return look


async def wait_for_end(
    look: Look[JobT],
    allowance: Allowance,
    timeout: float,
    *,
    known: JobT | None,
    first_pause: float,
    pause_after_fault: float,
) -> JobT:
    """Return a job when it has ended, or its latest state after `timeout` seconds.

    `known` is a state that the caller has already: it is looked at after `first_pause` seconds, else at
    once. Faults that may pass are waited out.

    Raises:
        SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
    """
    ends_at = anyio.current_time() + timeout
    pause = 0.0 if known is None else first_pause
    fault: SyncError | None = None
    while known is None or not known.finished:
        left = ends_at - anyio.current_time()
        if left <= 0 and (known is not None or fault is not None):
            break
        await anyio.sleep(max(0.0, min(pause, left)))
        await allowance.take()
        try:
            known, pause = await look({"timeout_in_seconds": _READ_SECONDS, "max_retries": 0})
        except SyncError as error:
            if not error.retryable:
                raise
            if isinstance(error, RateLimitError):
                allowance.rest_for(error)
            fault, pause = error, max(pause_after_fault, error.retry_after_seconds or 0.0)
    if known is None:
        assert fault is not None
        raise fault
    return known
