"""One watcher for all waits of a process: it asks the API how jobs are while somebody waits for them.

While a single job is waited for, that is the API's long poll, which ends when the job does. While several
are, one list for each hundred of them tells in every tick how all of them are, and a job that the list leaves
out is asked for by itself. Nobody waiting, no request.
"""

import logging
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.generation_reads import PAGE_LIMIT
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    InternalError,
    InvalidRequestError,
    RateLimitError,
    SyncError,
    is_unknown_id,
)
from sync_mcp.texts import FAULT_LIMIT, plain_id, safe

logger = logging.getLogger("sync_mcp.payments")

TICK_SECONDS = 2.0
"""How often jobs are looked at while several are waited for."""

_READ_SECONDS = 10.0
_FIRST_ANSWER_SECONDS = TICK_SECONDS + _READ_SECONDS
_LONGEST_TICK_SECONDS = 16.0
_LONGEST_QUIET_SECONDS = 300.0
_FAILURES_OF_A_LIST = 3
_CHARACTERS_OF_IDS = 6000
"""A longer address is refused by servers and proxies."""
_COMMA_CHARACTERS = 3

Outcome = Generation | SyncError
"""The state of a job, or why it cannot be told."""

OnUpdate = Callable[[Generation], Awaitable[None]]
OnNews = Callable[[Mapping[str, Outcome]], Awaitable[None]]


class Watcher:
    """The watcher of one account; one for a process. It runs in `task_group` while somebody waits.

    `explain_missing` says what is known here of a job that the API does not show.
    """

    def __init__(
        self,
        client_of: Callable[[], AsyncSync],
        task_group: TaskGroup,
        explain_missing: Callable[[str], Awaitable[SyncError | None]] | None = None,
    ) -> None:
        self._client_of = client_of
        self._task_group = task_group
        self._explain_missing = explain_missing
        self._jobs: dict[str, _Job] = {}
        self._running = False
        self._regrouped = anyio.Event()
        self._followed: _Job | None = None
        self._following: anyio.CancelScope | None = None
        self._listing: anyio.CancelScope | None = None
        self._tick_seconds = TICK_SECONDS
        self._next_tick_at = 0.0
        self._quiet_until = 0.0
        self._fault: SyncError | None = None
        """Why nothing is asked until then."""
        self._slowed = False
        self._failed_lists = 0

    async def wait(
        self,
        generation_id: str,
        seconds: float,
        *,
        on_update: OnUpdate | None = None,
        known: Generation | None = None,
    ) -> Generation:
        """Return the job when it has ended, or its latest known state after `seconds`.

        `known` is a state that the caller has already. `on_update` is awaited with each new state. Nothing
        known in the whole time, the first answer is waited for a little longer. Cancelling the wait leaves
        the job alone. Passing faults are waited out.

        Raises:
            SyncError: an answer that waiting cannot change, such as NotFoundError, at once; or nothing but
                faults in the whole time.
        """
        with self._waiting([generation_id], seconds) as wait:
            [job] = wait.jobs
            if known is not None:
                job.tell(known)
            told: Generation | None = None

            async def pass_on() -> bool:
                nonlocal told
                if on_update is not None and job.latest is not None and job.latest is not told:
                    told = job.latest
                    await on_update(told)
                return job.ended

            await wait.until(pass_on)
            outcome = job.outcome or _nothing_known(job, seconds)
        if isinstance(outcome, SyncError):
            raise outcome
        return outcome

    async def wait_for_many(
        self,
        generation_ids: Sequence[str],
        seconds: float,
        *,
        until: Literal["all", "any"] = "all",
        on_news: OnNews | None = None,
    ) -> dict[str, Outcome]:
        """Return how each job is when all (or any) of them have ended, or after `seconds`.

        A job that cannot be told of is an error in the answer and counts as ended. With `any`, every job has
        been asked for once before the answer. `on_news` is awaited with what is known whenever that changes.

        Raises:
            SyncError: there is no client, or an id is malformed; faults of single jobs are in the answer.
        """
        ended_enough = all if until == "all" else any
        with self._waiting(generation_ids, seconds) as wait:

            async def pass_on() -> bool:
                if on_news is not None:
                    known = {job.id: job.outcome for job in wait.jobs}
                    await on_news({id: outcome for id, outcome in known.items() if outcome is not None})
                return wait.looked_at and ended_enough(job.ended for job in wait.jobs)

            await wait.until(pass_on)
            return {job.id: job.outcome or _nothing_known(job, seconds) for job in wait.jobs}

    async def progress_of(self, generation_ids: Sequence[str], seconds: float) -> dict[str, float]:
        """Return how far running jobs are, in percent, as far as the API tells that within `seconds`.

        The lists do not tell it: each is asked for by itself, as many as the read limit has room for.
        """
        told: dict[str, float] = {}

        async def ask(id: str) -> None:
            try:
                job = await self._client_of().generations.get(
                    id, include_progress=True, request_options=_once()
                )
            except SyncError as error:
                logger.debug("how far a job is cannot be told: %s", error)
                return
            if job.progress_percent is not None and not job.finished:
                told[id] = job.progress_percent

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as asking:
                for id in generation_ids[: self._allowance.spare]:
                    await self._allowance.take()
                    asking.start_soon(ask, id)
        return told

    @contextmanager
    def _waiting(self, generation_ids: Sequence[str], seconds: float) -> "Generator[_Wait]":
        if not all(map(plain_id, generation_ids)):
            raise InvalidRequestError("A generation id has letters, digits, _ and - only: copy it whole.")
        self._client_of()
        fault = self._fault if anyio.current_time() < self._quiet_until else None
        jobs = [self._jobs.setdefault(id, _Job(id, fault)) for id in dict.fromkeys(generation_ids)]
        wait = _Wait(jobs, anyio.current_time() + seconds)
        for job in jobs:
            job.waits.add(wait)
        self._regroup()
        try:
            yield wait
        finally:
            for job in jobs:
                job.waits.discard(wait)
                if not job.waits:
                    self._jobs.pop(job.id, None)
                    job.stop_asking()
            self._regroup()

    @property
    def _allowance(self) -> Allowance:
        return self._client_of().generations.allowance

    def _open(self) -> "list[_Job]":
        return [job for job in self._jobs.values() if not job.ended]

    def _regroup(self) -> None:
        """Go on with those who wait now: one joined, or one left."""
        regrouped, self._regrouped = self._regrouped, anyio.Event()
        regrouped.set()
        jobs = self._open()
        if self._following is not None and jobs != [self._followed]:
            self._following.cancel()
        if self._listing is not None and not jobs:
            self._listing.cancel()
        if jobs and not self._running:
            self._running = True
            self._task_group.start_soon(self._watch)

    async def _watch(self) -> None:
        ending = "The server stopped while the job was waited for."
        try:
            # Once more where somebody joined while the last requests were broken off.
            while self._open():
                async with anyio.create_task_group() as asking:
                    while jobs := self._open():
                        await (self._follow(jobs[0]) if len(jobs) == 1 else self._tick(asking))
                    asking.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - a fault here must not end the process
            logger.error("the watcher failed unexpectedly: %s", safe(repr(error), FAULT_LIMIT))
            ending = "Waiting failed in an unexpected way."
        finally:
            self._running = False
            for job in self._open():
                job.fail(InternalError(ending, money_spent="no"))

    async def _follow(self, job: "_Job") -> None:
        """Watch the only job by long poll, until it ends, its last wait does, or another one joins."""
        if job.seconds_left <= 0 and job.looked_at:
            # Those who wait for it are on their way out.
            await self._regrouped.wait()
            return
        self._followed = job
        with anyio.CancelScope() as self._following:
            await anyio.sleep(max(0.0, self._quiet_until - anyio.current_time()))
            generations = self._client_of().generations
            try:
                job.tell(await generations.wait(job.id, job.seconds_left, on_update=job.note))
            except SyncError as error:
                told = await self._explained(job, error)
                job.fail(told)
                if told is not error and told.retryable:
                    # It was made a short time ago, and reads lag: it is looked for again.
                    await anyio.sleep(TICK_SECONDS)
        self._following = None

    async def _explained(self, job: "_Job", error: SyncError) -> SyncError:
        """Return what is known here of a job that the API says it does not have."""
        if self._explain_missing is None or not is_unknown_id(getattr(error, "status", None)):
            return error
        return await self._explain_missing(job.id) or error

    async def _tick(self, asking: TaskGroup) -> None:
        """Look at all jobs when it is time to."""
        with anyio.CancelScope(deadline=max(self._next_tick_at, self._quiet_until)):
            while len(self._open()) > 1:
                await self._regrouped.wait()
        jobs = self._open()
        if len(jobs) < 2:
            return
        self._slowed = False
        self._next_tick_at = anyio.current_time() + self._tick_seconds
        with anyio.CancelScope() as self._listing:
            left_out = await self._read_lists(jobs)
            if not self._slowed:
                self._tick_seconds = max(TICK_SECONDS, self._tick_seconds / 2)
            await self._ask_singly(left_out, asking)
        self._listing = None

    async def _read_lists(self, jobs: "Sequence[_Job]") -> "list[_Job]":
        """Read how the jobs are, and return those that the lists left out."""
        left_out: list[_Job] = []
        async with anyio.create_task_group() as reading:
            for page in _pages(jobs):
                await self._allowance.take()
                reading.start_soon(self._read_list, page, left_out)
        return left_out

    async def _read_list(self, jobs: "Sequence[_Job]", left_out: "list[_Job]") -> None:
        generations = self._client_of().generations
        try:
            listed = await generations.list(
                ids=[job.id for job in jobs], limit=PAGE_LIMIT, request_options=_once()
            )
        except SyncError as error:
            if self._is_the_lists_own(error):
                left_out.extend(jobs)
                return
            for job in jobs:
                job.fail(error)
            return
        self._failed_lists = 0
        found = {generation.id: generation for generation in listed}
        for job in jobs:
            if job.id in found:
                job.tell(found[job.id])
            else:
                left_out.append(job)

    def _is_the_lists_own(self, error: SyncError) -> bool:
        """Return whether jobs can be asked for singly where a list failed so."""
        if isinstance(error, AuthenticationError):
            return False
        if not error.retryable:
            # One id that the API does not take spoils the list for all.
            return True
        self._slow_down(error)
        if isinstance(error, RateLimitError | APIConnectionError):
            return False
        self._failed_lists += 1
        return self._failed_lists >= _FAILURES_OF_A_LIST

    async def _ask_singly(self, jobs: "Sequence[_Job]", asking: TaskGroup) -> None:
        """Ask for jobs by themselves, as many as the read limit has room for; the others have their turn."""
        turns = sorted((job for job in jobs if job.asking is None), key=lambda job: job.asked_at)
        for job in turns[: max(1, self._allowance.spare)]:
            await self._allowance.take()
            if anyio.current_time() < self._quiet_until:
                return
            job.asked_at = anyio.current_time()
            # Beside the ticks: an answer that is late must not hold up the others.
            asking.start_soon(self._ask, job)

    async def _ask(self, job: "_Job") -> None:
        with anyio.CancelScope() as job.asking:
            if not job.waits:
                return
            try:
                job.tell(await self._client_of().generations.get(job.id, request_options=_once()))
            except SyncError as error:
                if isinstance(error, RateLimitError):
                    self._slow_down(error)
                job.fail(await self._explained(job, error))
        job.asking = None

    def _slow_down(self, error: SyncError) -> None:
        if not self._slowed:
            self._slowed = True
            self._tick_seconds = min(self._tick_seconds * 2, _LONGEST_TICK_SECONDS)
        now = anyio.current_time()
        self._next_tick_at = max(self._next_tick_at, now + self._tick_seconds)
        told = min(error.retry_after_seconds or 0.0, _LONGEST_QUIET_SECONDS)
        self._quiet_until = max(self._quiet_until, now + told)
        self._fault = error


class _Job:
    """What is known of a job, and who waits for it."""

    def __init__(self, id: str, fault: SyncError | None) -> None:
        self.id = id
        self.waits: set[_Wait] = set()
        self.latest: Generation | None = None
        self.fault = fault
        """What the last reading met with, where that may pass."""
        self.asking: anyio.CancelScope | None = None
        self.asked_at = 0.0
        self._error: SyncError | None = None

    @property
    def outcome(self) -> Outcome | None:
        return self._error or self.latest

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._error is not None or (self.latest is not None and self.latest.finished)

    @property
    def looked_at(self) -> bool:
        return self.outcome is not None or self.fault is not None

    @property
    def seconds_left(self) -> float:
        """For how long somebody still waits for it."""
        ends_at = max((wait.ends_at for wait in self.waits), default=0.0)
        return max(0.0, ends_at - anyio.current_time())

    def tell(self, generation: Generation) -> None:
        # Two readings may overtake each other: a job never goes back to where it was.
        if self.ended:
            return
        self.fault = None
        if self.latest is None or generation.status != "PENDING" or self.latest.status == "PENDING":
            self.latest = generation
        self._wake()

    async def note(self, generation: Generation) -> None:
        self.tell(generation)

    def fail(self, error: SyncError) -> None:
        if self.ended:
            return
        if error.retryable:
            self.fault = error
        else:
            self._error = error
        self._wake()

    def stop_asking(self) -> None:
        if self.asking is not None:
            self.asking.cancel()

    def _wake(self) -> None:
        for wait in self.waits:
            wait.wake()


class _Wait:
    """One caller's wait for jobs."""

    def __init__(self, jobs: Sequence[_Job], ends_at: float) -> None:
        self.jobs = jobs
        self.ends_at = ends_at
        self._news = anyio.Event()

    @property
    def looked_at(self) -> bool:
        return all(job.looked_at for job in self.jobs)

    def wake(self) -> None:
        self._news.set()

    async def until(self, pass_on: Callable[[], Awaitable[bool]]) -> None:
        """Await `pass_on` at every news, until it returns True or the time is up."""
        while True:
            self._news = anyio.Event()
            if await pass_on():
                return
            # Somebody who knows nothing yet is not sent away with nothing.
            deadline = self.ends_at if self.looked_at else self.ends_at + _FIRST_ANSWER_SECONDS
            with anyio.CancelScope(deadline=deadline):
                await self._news.wait()
            if anyio.current_time() >= deadline:
                return


def _pages(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    page: list[_Job] = []
    characters = 0
    for job in jobs:
        length = len(job.id) + _COMMA_CHARACTERS
        if page and (len(page) == PAGE_LIMIT or characters + length > _CHARACTERS_OF_IDS):
            yield page
            page, characters = [], 0
        page.append(job)
        characters += length
    if page:
        yield page


def _once() -> RequestOptions:
    # The next tick is the next attempt.
    return {"timeout_in_seconds": _READ_SECONDS, "max_retries": 0}


def _nothing_known(job: _Job, seconds: float) -> SyncError:
    return job.fault or APITimeoutError(f"The API did not answer in {seconds:.0f} s.")
