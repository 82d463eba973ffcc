"""Many running jobs: learning of their ends soon, and with few requests.

Nobody tells how long a job takes. So the oldest one is held by the API's long poll; every two seconds all are
listed in any case, since a younger one may end first. Jobs that began together end together: after an end, a
list a moment later tells the ends that are to be expected by then, and while there are such, none is held.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.looks import Looks, Watched
from sync_mcp.api.models import Generation
from sync_mcp.api.news import News
from sync_mcp.api.wait import Look
from sync_mcp.errors import (
    APIStatusError,
    NotVisibleYet,
    RateLimitError,
    RequestRejectedError,
    SyncError,
    is_unknown_id,
)

_TOGETHER_SHARE = 0.1
_TOGETHER_SECONDS = 0.5
"""A job that is older than one was at its end, by no more than this, is still expected to end soon."""
_SOON_SHARE = 0.025
_SOON_SECONDS = 0.05
"""After an end, those that are expected to end meanwhile are listed when this share of its age has passed."""
_SETTLING_SECONDS = 0.1
_LOOKS_IN_VAIN = 2

Hold: TypeAlias = Callable[[str], Awaitable[Look]]
"""Reads a job by a long poll."""

OnEnd: TypeAlias = Callable[[Generation, SyncError | None], None]
"""Is told each end: the job, and the API's word where it cannot be read any more."""


class _Job(Watched):
    def __init__(self, generation: Generation, hear: "Callable[[_Job], None]") -> None:
        super().__init__(generation.id, generation)
        self.since = anyio.current_time()
        self._hear = hear
        self._looks_in_vain = 0

    @property
    def generation(self) -> Generation:
        assert self.latest is not None
        return self.latest

    def tell(self, generation: Generation) -> None:
        self._looks_in_vain = 0
        super().tell(generation)

    def fail(self, error: SyncError) -> None:
        is_unseen = isinstance(error, NotVisibleYet)
        # A job that was just made may not be everywhere at once.
        is_in_vain = is_unseen or (isinstance(error, APIStatusError) and is_unknown_id(error.status))
        self._looks_in_vain += is_in_vain
        if 0 < self._looks_in_vain < _LOOKS_IN_VAIN:
            return
        if is_unseen and not self.ended:
            # A guard says that it may show yet; its slot is not kept from the others for so long.
            self.error = error
            self.on_news()
        else:
            super().fail(error)

    def on_news(self) -> None:
        self._hear(self)


class RunningJobs:
    """The jobs that run, in their last known state; `watch` learns of their ends."""

    def __init__(self, hold: Hold, looks: Looks, on_end: OnEnd, news: News) -> None:
        self._hold = hold
        self._looks = looks
        self._on_end = on_end
        self._news = news
        self._jobs: dict[str, _Job] = {}
        self._long_poll = True
        self._is_looking = False
        # When to look at those that began together with one that has ended.
        self._soon_at = math.inf
        self._settled_at = self._ended_at = -math.inf

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Generation]:
        return (job.generation for job in self._jobs.values())

    def __contains__(self, id: str) -> bool:
        return id in self._jobs

    def add(self, generation: Generation) -> None:
        """Take in a job that was just made."""
        now = anyio.current_time()
        if self._looks.next_at <= now:
            self._looks.next_at = now + self._looks.tick_seconds
        self._jobs[generation.id] = _Job(generation, self._hear)
        self._news.spread()

    @property
    def look_is_due(self) -> bool:
        """Whether jobs should be listed now, or are being."""
        return self._need_looks and (self._is_looking or self._seconds_to_look <= 0)

    @property
    def settling_seconds(self) -> float:
        """How long, a moment at most, more ends are to be expected at once."""
        return max(0.0, self._settled_at - anyio.current_time())

    async def watch(self, may_hold: Callable[[], bool]) -> None:
        """Learn of ends until cancelled; no long poll begins while `may_hold` says no."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_looking, tasks)
            tasks.start_soon(self._keep_holding, may_hold)

    @property
    def _need_looks(self) -> bool:
        # A job that runs alone is held.
        return len(self._jobs) > (1 if self._long_poll else 0)

    @property
    def _looks_soon(self) -> bool:
        """Whether a list tells soon what a long poll would; one that is left alone is held all the same."""
        return self._need_looks and (self._is_looking or self._soon_at < math.inf)

    @property
    def _seconds_to_look(self) -> float:
        due_at = max(min(self._looks.next_at, self._soon_at), self._looks.allowance.rests_until)
        return due_at - anyio.current_time()

    async def _keep_looking(self, asking: TaskGroup) -> None:
        while True:
            await self._news.until(lambda: self._need_looks)
            if self._seconds_to_look > 0:
                await self._news.wait(self._seconds_to_look)
            else:
                await self._look(asking)

    async def _look(self, asking: TaskGroup) -> None:
        self._soon_at = math.inf
        self._is_looking = True
        try:
            await self._looks.look(list(self._jobs.values()), asking)
        except BaseException:
            # Broken off, it is due when the watch goes on.
            self._soon_at = -math.inf
            raise
        finally:
            self._is_looking = False
        # Counted from its end: the jobs that follow those that it saw end are made after it.
        self._looks.next_at = max(self._looks.next_at, anyio.current_time() + self._looks.tick_seconds)
        self._news.spread()

    async def _keep_holding(self, may_hold: Callable[[], bool]) -> None:
        while self._long_poll:
            await self._news.until(
                lambda: (
                    bool(self._jobs) and not self._looks_soon and (may_hold() or self.settling_seconds > 0)
                )
            )
            await self._looks.allowance.take()
            if self._jobs:
                await self._hold_one(next(iter(self._jobs.values())))

    async def _hold_one(self, job: _Job) -> None:
        asked_at = anyio.current_time()
        state: Generation | SyncError
        try:
            look = await self._hold(job.id)
        except RequestRejectedError:
            self._long_poll = False
            self._news.spread()
            return
        except SyncError as error:
            if isinstance(error, RateLimitError):
                self._looks.slow_down(error)
            state = error
        else:
            state = look.generation
            self._long_poll = look.long_polled or state.finished
        job.fail(state) if isinstance(state, SyncError) else job.tell(state)
        self._news.spread()
        tick_seconds = self._looks.tick_seconds
        if not job.ended and anyio.current_time() - asked_at < tick_seconds / 2:
            await anyio.sleep(tick_seconds)

    def _hear(self, job: _Job) -> None:
        if not job.ended or self._jobs.pop(job.id, None) is None:
            return
        job.leave()
        if job.error is None:
            self._expect_more_ends(anyio.current_time() - job.since)
        self._on_end(job.generation, job.error)
        self._news.spread()

    def _expect_more_ends(self, age_seconds: float) -> None:
        now = anyio.current_time()
        soon = min(max(_SOON_SECONDS, _SOON_SHARE * age_seconds), self._looks.tick_seconds)
        apart = max(_TOGETHER_SECONDS, _TOGETHER_SHARE * age_seconds)
        dues = [job.since + age_seconds - now for job in self._jobs.values()]
        are_expected = any(-apart <= due <= soon for due in dues)
        if not are_expected:
            self._settled_at = -math.inf
        elif now - self._ended_at > apart:
            self._settled_at = now + _SETTLING_SECONDS
        self._ended_at = now
        # One that is left alone is held.
        self._soon_at = min(self._soon_at, now + soon) if are_expected and self._need_looks else math.inf
