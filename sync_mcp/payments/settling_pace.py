"""How often an account is settled, and with how many requests: what is remembered of it meanwhile."""

import math
import time
from dataclasses import dataclass, field

import anyio

_REQUESTS_PER_SECOND = 1.0
_REQUESTS_AT_ONCE = 10
_PUT_OFF_SECONDS = 600.0
_PUT_OFF_MOST_SECONDS = 86_400.0
"""How long what was asked for in vain is left alone: at first, and at most, as it doubles each time."""
NO_EXPORT_APART_SECONDS = 10.0
"""So far apart the API has to say twice that it has no export, and nothing else between, to be believed."""
_NO_EXPORT_KEPT_SECONDS = 900.0
"""How long that is believed before the export is asked for again."""


@dataclass(slots=True)
class SettledAccount:
    """What is remembered of settling one account."""

    settled_at: float = -math.inf
    denied_since: float | None = None
    """When the API first said that it has no export, where it has said nothing else since."""
    denied_at: float = 0.0
    put_off: "dict[int, _PutOff]" = field(default_factory=dict[int, "_PutOff"])
    """By entry: those that were asked for in vain."""
    requests_left: float = _REQUESTS_AT_ONCE
    counted_at: float = field(default_factory=anyio.current_time)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def has_export(self) -> bool:
        """Whether the export is asked for; not where the API has said twice, and lately, that it has none."""
        if self.denied_since is None or self.denied_at - self.denied_since < NO_EXPORT_APART_SECONDS:
            return True
        return anyio.current_time() - self.denied_at >= _NO_EXPORT_KEPT_SECONDS

    def note_export(self, *, is_denied: bool) -> None:
        """Note that the API has told of its export, or that it said to have none."""
        self.denied_at = anyio.current_time()
        if not is_denied:
            self.denied_since = None
        elif self.denied_since is None:
            self.denied_since = self.denied_at

    def is_put_off(self, entry_id: int) -> bool:
        """Return whether an entry was asked for in vain a short time ago."""
        waiting = self.put_off.get(entry_id)
        return waiting is not None and _seconds() < waiting.until

    def put_entry_off(self, entry_id: int) -> None:
        """Leave an entry alone for a while, each time longer."""
        before = self.put_off.get(entry_id)
        seconds = min(2 * before.seconds, _PUT_OFF_MOST_SECONDS) if before else _PUT_OFF_SECONDS
        self.put_off[entry_id] = _PutOff(_seconds() + seconds, seconds)

    def take_request(self) -> bool:
        """Return whether one more request may go into settling now, and count it."""
        if self._count_left() < 1:
            return False
        self.requests_left -= 1
        return True

    async def await_requests(self, number: int, seconds: float) -> None:
        """Wait until so many requests may go into settling, but no longer than so many seconds."""
        lacking = number - self._count_left()
        if lacking > 0:
            await anyio.sleep(min(lacking / _REQUESTS_PER_SECOND, seconds))

    def _count_left(self) -> float:
        now = anyio.current_time()
        gained = (now - self.counted_at) * _REQUESTS_PER_SECOND
        self.requests_left = min(float(_REQUESTS_AT_ONCE), self.requests_left + gained)
        self.counted_at = now
        return self.requests_left


@dataclass(frozen=True, slots=True)
class _PutOff:
    """How long an entry is left alone, and until when."""

    until: float
    seconds: float


def _seconds() -> float:
    """Return the time by which what was asked for in vain is left alone."""
    return time.monotonic()
