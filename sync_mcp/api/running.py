"""Many running jobs: learning of their ends soon, and with few requests.

Nobody tells how long a job takes. So the oldest one is held by the API's long poll, and its end brings a list
of the others; every two seconds they are listed in any case, since a younger one may end first. Jobs that
began together end together: after the first of them the last one is held, and its end brings the list.
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.api.wait import Look
from sync_mcp.errors import APIStatusError, RateLimitError, RequestRejectedError, SyncError, is_unknown_id

TICK_SECONDS = 2.0
"""How often running jobs are listed, and how long after a fault they are asked for again."""

_TOGETHER_SHARE = 0.1
_TOGETHER_SECONDS = 0.5
"""Jobs began together where their ages differ by no more than so many seconds, or this share of them."""
_SOON_SHARE = 0.05
_SOON_SECONDS = 0.05
"""After an end, those that began together with it are listed when this share of its age has passed."""
_SETTLING_SECONDS = 0.1
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LOOKS_IN_VAIN = 2

Turn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until the next request may go out."""

Hold: TypeAlias = Callable[[str], Awaitable[Look]]
"""Reads a job by a long poll."""

States: TypeAlias = Callable[[Sequence[str], Turn], Awaitable[Mapping[str, Generation | SyncError]]]
"""Reads jobs, each request at its turn."""

OnEnd: TypeAlias = Callable[[Generation, SyncError | None], None]
"""Is told each end: the job, and the API's word where it cannot be read any more."""


class News:
    """Wakes whoever waits for something to change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def spread(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, seconds: float = math.inf) -> None:
        """Return at the next news, or after so many seconds."""
        event = self._event
        with anyio.move_on_after(seconds):
            await event.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return as soon as the news makes `holds` true."""
        while not holds():
            await self.wait()


@dataclass(slots=True, eq=False)
class _Job:
    generation: Generation
    since: float
    looks_in_vain: int = 0


class RunningJobs:
    """The jobs that run, in their last known state; `watch` learns of their ends."""

    def __init__(self, hold: Hold, states: States, turn: Turn, on_end: OnEnd, news: News) -> None:
        self._hold = hold
        self._states = states
        self._on_end = on_end
        self._news = news
        self._jobs: dict[str, _Job] = {}
        self._next_turn = turn
        self._read_again_at = -math.inf
        self._long_poll = True
        self._tick_at = -math.inf
        # While those are awaited that began together with a job that has ended: its age, and when to look.
        self._ended_age = math.inf
        self._soon_at = math.inf
        self._settled_at = -math.inf

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Generation]:
        return (job.generation for job in self._jobs.values())

    def __contains__(self, id: str) -> bool:
        return id in self._jobs

    def add(self, generation: Generation) -> None:
        """Take in a job that was just made."""
        now = anyio.current_time()
        if self._tick_at <= now:
            self._tick_at = now + TICK_SECONDS
        self._jobs[generation.id] = _Job(generation, now)
        self._news.spread()

    @property
    def look_is_due(self) -> bool:
        """Whether jobs should be listed now."""
        return self._need_looks and self._seconds_to_look <= 0

    @property
    def settling_seconds(self) -> float:
        """How long, a moment at most, more ends are to be expected at once."""
        return max(0.0, self._settled_at - anyio.current_time())

    async def watch(self, may_hold: Callable[[], bool]) -> None:
        """Learn of ends until cancelled; no long poll begins while `may_hold` says no."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_looking)
            tasks.start_soon(self._keep_holding, may_hold)

    @property
    def _need_looks(self) -> bool:
        # A job that runs alone is held.
        return len(self._jobs) > (1 if self._long_poll else 0)

    @property
    def _seconds_to_look(self) -> float:
        return min(self._tick_at, self._soon_at) - anyio.current_time()

    async def _turn(self) -> None:
        await anyio.sleep(max(0.0, self._read_again_at - anyio.current_time()))
        await self._next_turn()

    async def _keep_looking(self) -> None:
        while True:
            await self._news.until(lambda: self._need_looks)
            if self._seconds_to_look > 0:
                await self._news.wait(self._seconds_to_look)
            else:
                await self._look()

    async def _look(self) -> None:
        states = await self._states(list(self._jobs), self._turn)
        self._tick_at = anyio.current_time() + TICK_SECONDS
        self._soon_at = math.inf
        for id, state in states.items():
            self._note(id, state)
        self._news.spread()

    async def _keep_holding(self, may_hold: Callable[[], bool]) -> None:
        while self._long_poll:
            await self._news.until(lambda: bool(self._jobs) and (may_hold() or self.settling_seconds > 0))
            await self._turn()
            together = self._began_together()
            if together:
                await self._hold_one(together[-1].generation.id)
            elif self._jobs:
                await self._hold_one(next(iter(self._jobs)))

    def _began_together(self) -> list[_Job]:
        """The jobs that began about when the one did that has just ended, oldest first."""
        if self._ended_age == math.inf:
            return []
        now = anyio.current_time()
        apart = max(_TOGETHER_SECONDS, _TOGETHER_SHARE * self._ended_age)
        jobs = [job for job in self._jobs.values() if abs(now - job.since - self._ended_age) <= apart]
        # By the API's time: the answers to creates overtake each other.
        return sorted(jobs, key=lambda job: job.generation.created_at or _LONG_AGO)

    async def _hold_one(self, id: str) -> None:
        asked_at = anyio.current_time()
        state: Generation | SyncError
        try:
            look = await self._hold(id)
        except RequestRejectedError:
            self._long_poll = False
            self._news.spread()
            return
        except SyncError as error:
            state = error
        else:
            state = look.generation
            self._long_poll = look.long_polled or state.finished
        expected = self._jobs.get(id) in self._began_together()
        self._note(id, state)
        if expected and id not in self._jobs and self._began_together():
            # The last of them has ended, so the others have too.
            self._soon_at = anyio.current_time()
        self._news.spread()
        if id in self._jobs and anyio.current_time() - asked_at < TICK_SECONDS / 2:
            await anyio.sleep(TICK_SECONDS)

    def _note(self, id: str, state: Generation | SyncError) -> None:
        job = self._jobs.get(id)
        if job is None:
            return
        now = anyio.current_time()
        error: SyncError | None = None
        if isinstance(state, Generation):
            job.generation = state
            job.looks_in_vain = 0
            if not state.finished:
                return
        else:
            if isinstance(state, RateLimitError):
                self._read_again_at = now + (state.retry_after_seconds or TICK_SECONDS)
            # A job that was just made may not be everywhere at once.
            job.looks_in_vain += isinstance(state, APIStatusError) and is_unknown_id(state.status)
            if state.retryable or 0 < job.looks_in_vain < _LOOKS_IN_VAIN:
                return
            error = state
        del self._jobs[id]
        if error is None:
            self._expect_more_ends(now - job.since)
        self._on_end(job.generation, error)

    def _expect_more_ends(self, age_seconds: float) -> None:
        now = anyio.current_time()
        if not self._began_together():
            self._settled_at = now + _SETTLING_SECONDS
        self._ended_age = age_seconds
        if self._began_together():
            soon = min(max(_SOON_SECONDS, _SOON_SHARE * age_seconds), TICK_SECONDS)
            self._soon_at = min(self._soon_at, now + soon)
        else:
            self._ended_age = self._soon_at = math.inf
            self._settled_at = -math.inf
