"""How many reads of an account may go out while jobs are waited for, and when, whoever waits."""

import math

import anyio
from anyio.lowlevel import checkpoint

from sync_mcp.errors import SyncError

# The API allows 600 reads a minute, for everything that uses the key (API §16.1): those who wait leave a part
# of them to all others.
_READS_PER_SECOND = 6.0
_READS_AT_ONCE = 120

_LONGEST_REST_SECONDS = 300.0
_ROUNDING = 1e-6


class Allowance:
    """What the reads of all who wait are counted by: so many at once, and then so many a second."""

    def __init__(self) -> None:
        self._next_at = -math.inf
        """When the next read may go out, had none been saved up."""
        self._rests_until = -math.inf
        self._rests_for: SyncError | None = None

    @property
    def spare(self) -> int:
        """How many may go out now."""
        seconds = anyio.current_time() - self._next_turn()
        return max(0, math.floor(seconds * _READS_PER_SECOND + _ROUNDING) + 1)

    async def take(self) -> None:
        """Wait until one more may go out, which none may while the API wants to be left alone.

        Who asks first goes first.
        """
        turn_at = self._next_turn()
        self._next_at = turn_at + 1 / _READS_PER_SECOND
        seconds = max(turn_at, self._rests_until) - anyio.current_time()
        try:
            await (anyio.sleep(seconds) if seconds > 0 else checkpoint())
        except BaseException:
            # Nothing goes out: the next one has this turn.
            self._next_at -= 1 / _READS_PER_SECOND
            raise

    @property
    def rests_until(self) -> float:
        """Until when, on anyio's clock, the API wants to be left alone; it told one of those who wait."""
        return self._rests_until

    @property
    def rests_for(self) -> SyncError | None:
        """What the API said, as long as it wants to be left alone."""
        return self._rests_for if anyio.current_time() < self._rests_until else None

    def rest_for(self, error: SyncError) -> None:
        """Have all who wait for jobs leave the API alone for as long as an error of its says."""
        seconds = min(error.retry_after_seconds or 0.0, _LONGEST_REST_SECONDS)
        until = anyio.current_time() + seconds
        if until > self._rests_until:
            self._rests_until, self._rests_for = until, error

    def _next_turn(self) -> float:
        saved_up = (_READS_AT_ONCE - 1) / _READS_PER_SECOND
        return max(self._next_at, anyio.current_time() - saved_up)
