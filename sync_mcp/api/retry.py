"""When a call is made again, and how long it may go on."""

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio

from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIResponseError, APIStatusError, ConcurrencyLimitError, SyncError

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 16.0
_LONGEST_RETRY_AFTER = 86_400.0


class Budget:
    """The time and the retries that one call has, all its sends together."""

    def __init__(
        self,
        options: RequestOptions,
        *,
        timeout_seconds: float,
        max_retries: int,
        longest_pause_seconds: float = math.inf,
    ) -> None:
        self._longest_pause_seconds = longest_pause_seconds
        self.seconds = options.get("timeout_in_seconds", timeout_seconds)
        self.retries_left = options.get("max_retries", max_retries)
        self._ends_at = anyio.current_time() + self.seconds
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    @property
    def seconds_left(self) -> float:
        """How long the call may still take; 0 where its time is up."""
        return max(0.0, self._ends_at - anyio.current_time())

    async def pause(self, retry_after_seconds: float | None = None) -> bool:
        """Wait for the next send; return False at once where none is left."""
        seconds = random.uniform(0, self._backoff_seconds)  # noqa: S311 - jitter, not a secret
        self._backoff_seconds = min(self._backoff_seconds * 2, _LONGEST_BACKOFF_SECONDS)
        if retry_after_seconds is not None:
            seconds = max(seconds, retry_after_seconds)
        if self.retries_left <= 0 or seconds >= self.seconds_left or seconds > self._longest_pause_seconds:
            return False
        self.retries_left -= 1
        await anyio.sleep(seconds)
        return True


def is_worth_repeating(error: SyncError) -> bool:
    """Return whether a call that may be repeated is worth it after this error."""
    if isinstance(error, APIStatusError | APIResponseError) and error.status is not None:
        # Jobs take longer to end than a call has time.
        return may_pass(error.status) and not isinstance(error, ConcurrencyLimitError)
    return True


def may_pass(status: int) -> bool:
    """Return whether the same request may get another answer than this status a little later."""
    # A redirect or a plain 4xx stays what it is, whoever sent it; a 2xx was spoilt on its way.
    return not 300 <= status < 500 or status in (408, 429)


def retry_after(headers: Mapping[str, str], body: Mapping[str, object]) -> float | None:
    """Return the seconds to wait by the header (a number or an HTTP date), else by the body."""
    told = (_seconds_until(headers.get("retry-after")), _seconds_until(body.get("retryAfterSeconds")))
    return next((seconds for seconds in told if seconds is not None), None)


def _seconds_until(value: object) -> float | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        try:
            seconds = (parsedate_to_datetime(str(value)) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None
