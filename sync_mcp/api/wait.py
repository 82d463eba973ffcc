"""Waiting for a job: by the API's long poll, and by polling where that is not there (API §3.3, §12)."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.errors import RateLimitError, RequestRejectedError, SyncError

LONG_POLL_SECONDS = 10
"""The longest `timeout` that the API's long poll takes."""

_WATCHED_POLL_SECONDS = 4
_ANSWER_SECONDS = 5.0
_SNAPSHOT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 10.0
_TOO_SOON_SECONDS = 0.5
_GRACE_SECONDS = 1.5
"""How long after the end of its time an answer is still waited for: the shortest long poll lasts 1 s."""

OnUpdate = Callable[[Generation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of a job, and whether the API held the answer back as a long poll."""

    generation: Generation
    long_polled: bool


LookAt = Callable[[Mapping[str, str], float], Awaitable[Look]]
"""Reads the job once, with these query parameters and within this many seconds."""


class Wait:
    """One wait for one job, until `ends_at` on anyio's clock."""

    def __init__(self, look: LookAt, ends_at: float, on_update: OnUpdate | None) -> None:
        self._look = look
        self._on_update = on_update
        self._ends_at = ends_at
        self._long_poll = True
        self._tells_progress = True
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    async def run(self) -> Generation:
        """Return the job when it has ended, or its last known state when the time is up.

        Raises:
            SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
        """
        generation: Generation | None = None
        while True:
            try:
                generation = await self._next_in_time(generation)
            except SyncError as error:
                # The job runs on whatever the network does; only what waiting cannot change ends the wait.
                if not error.retryable or (generation is None and self._seconds_left <= 0):
                    raise
                # A 429 is waited out by all who wait for jobs of the account, before the next reading.
                is_for_all = isinstance(error, RateLimitError)
                await self._pause(None if is_for_all else error.retry_after_seconds)
            if generation is not None and (generation.finished or self._seconds_left <= 0):
                return generation

    async def _next_in_time(self, known: Generation | None) -> Generation:
        """Return the next state, or the known one where the time is up before an answer comes."""
        ends_at = math.inf if known is None else self._ends_at + _GRACE_SECONDS
        with anyio.CancelScope(deadline=ends_at):
            return await self._next(known)
        assert known is not None
        return known

    async def _next(self, known: Generation | None) -> Generation:
        if known is None:
            return (await self._snapshot()).generation
        if self._long_poll:
            return await self._next_held()
        await self._pause()
        return (await self._snapshot()).generation

    @property
    def _seconds_left(self) -> float:
        return self._ends_at - anyio.current_time()

    async def _next_held(self) -> Generation:
        """Return the next state by a long poll, which ends when the job does."""
        # Between two long polls the progress is read, so someone who watches it gets shorter ones.
        longest = _WATCHED_POLL_SECONDS if self._on_update and self._tells_progress else LONG_POLL_SECONDS
        seconds = max(1, int(min(self._seconds_left, longest)))
        asked_at = anyio.current_time()
        look = await self._read({"wait": "true", "timeout": str(seconds)}, seconds + _ANSWER_SECONDS)
        if look is None or not look.long_polled:
            self._long_poll = False
        elif not look.generation.finished and anyio.current_time() - asked_at < _TOO_SOON_SECONDS:
            await self._pause()
        if look is None or (self._tells_progress and not look.generation.finished):
            look = await self._snapshot()
        return look.generation

    async def _snapshot(self) -> Look:
        if self._tells_progress:
            look = await self._read({"include": "progress"}, _SNAPSHOT_SECONDS)
            if look is not None:
                running = look.generation.status == "PROCESSING"
                self._tells_progress = not running or look.generation.progress_percent is not None
                return look
            self._tells_progress = False
        return await self._read_plainly()

    async def _read(self, query: Mapping[str, str], seconds: float) -> Look | None:
        """Return a reading, or None where the API does not know this query."""
        try:
            look = await self._look(query, seconds)
        except RequestRejectedError as error:
            if error.status != 400:
                raise
            return None
        await self._report(look)
        return look

    async def _read_plainly(self) -> Look:
        look = await self._look({}, _SNAPSHOT_SECONDS)
        await self._report(look)
        return look

    async def _report(self, look: Look) -> None:
        if self._on_update is not None:
            await self._on_update(look.generation)

    async def _pause(self, retry_after_seconds: float | None = None) -> None:
        seconds = max(self._pause_seconds, retry_after_seconds or 0.0)
        self._pause_seconds = min(self._pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)
        await anyio.sleep(max(0.0, min(seconds, self._seconds_left)))
