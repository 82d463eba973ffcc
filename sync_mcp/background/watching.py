"""One watcher for all waits of an account: it asks the API how jobs are while somebody waits for them.

While a single job is waited for, that is the API's long poll, which ends when the job does. While several
are, one list for each hundred of them tells in every tick how all of them are, and a job that the list leaves
out is asked for by itself. Nobody waiting, no request.

Where webhooks tell of a job's end, in whichever process they arrive, it is read again at once; then it is
looked at slowly beside that, since not every end is told.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.ids import check_id
from sync_mcp.api.looks import READ_SECONDS, TICK_SECONDS, Looks, Outcome, Watched
from sync_mcp.api.models import Generation
from sync_mcp.api.news import News
from sync_mcp.errors import APITimeoutError, InternalError, SyncError
from sync_mcp.texts import FAULT_LIMIT, safe

logger = logging.getLogger("sync_mcp.payments")

HEARING_SECONDS = 0.1
"""How often it is read what webhooks have told, while somebody waits for a job that names one of ours."""

TOLD_TICK_SECONDS = 10.0
"""How often several jobs are looked at whose ends are all to be told."""

_FIRST_ANSWER_SECONDS = TICK_SECONDS + READ_SECONDS

OnUpdate = Callable[[Generation], Awaitable[None]]
OnNews = Callable[[Mapping[str, Outcome]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hearing:
    """How what webhooks told is heard.

    Attributes:
        read: returns what came after a number, oldest first: the number of each delivery and its job's id.
        path: how the URL ends to which a job's end is told for us, by whichever process of this ledger.
        url: the whole one that jobs get here; None where they get none.
    """

    read: Callable[[int], Awaitable[Sequence[tuple[int, str]]]]
    path: str
    url: str | None = None


class Watcher:
    """The watcher of an account. It runs in `task_group` while somebody waits.

    `explain_missing` says what is known here of a job that the API does not show, `hearing` how it is heard
    what webhooks told.
    """

    def __init__(
        self,
        client_of: Callable[[], AsyncSync],
        task_group: TaskGroup,
        explain_missing: Callable[[str], Awaitable[SyncError | None]] | None = None,
        hearing: Hearing | None = None,
    ) -> None:
        self._client_of = client_of
        self._hearing = hearing
        self._is_deaf = False
        self._to_hear = anyio.Event()
        self._task_group = task_group
        self._looks = Looks(lambda: client_of().generations, explain_missing=explain_missing)
        self._jobs: dict[str, _Job] = {}
        self._looked_at = -math.inf
        self._running = False
        self._regrouped = News()
        self._followed: _Job | None = None
        self._following: anyio.CancelScope | None = None
        self._listing: anyio.CancelScope | None = None

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
                job.begin_with(known)
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
                    id, include_progress=True, request_options=self._looks.once
                )
            except SyncError as error:
                self._looks.allowance.rest_for(error)
                logger.debug("how far a job is cannot be told: %s", error)
                return
            if job.progress_percent is not None and not job.finished:
                told[id] = job.progress_percent

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as asking:
                for id in generation_ids[: self._looks.allowance.spare]:
                    await self._looks.allowance.take()
                    asking.start_soon(ask, id)
        return told

    @contextmanager
    def _waiting(self, generation_ids: Sequence[str], seconds: float) -> "Generator[_Wait]":
        ids = [check_id(id) for id in dict.fromkeys(generation_ids)]
        fault = self._looks.allowance.rests_for
        jobs = [self._jobs.setdefault(id, _Job(id, fault, self._note_read)) for id in ids]
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
                    job.leave()
            self._regroup()

    def _open(self) -> "list[_Job]":
        return [job for job in self._jobs.values() if not job.ended]

    def _regroup(self) -> None:
        """Go on with those who wait now: one joined, or one left."""
        self._regrouped.spread()
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
                    if self._hearing is not None:
                        asking.start_soon(self._hear, self._hearing, asking)
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
            generations = self._client_of().generations
            try:
                job.tell(await generations.wait(job.id, job.seconds_left, on_update=job.note))
            except SyncError as error:
                told = await self._looks.explain(job.id, error)
                job.fail(told)
                if told is not error and told.retryable:
                    # It was made a short time ago, and reads lag: it is looked for again.
                    await anyio.sleep(self._looks.tick_seconds)
        self._following = None

    async def _tick(self, asking: TaskGroup) -> None:
        """Look at all jobs when it is time to."""
        while len(jobs := self._open()) > 1 and anyio.current_time() < (due_at := self._due_at(jobs)):
            # Who joins, or is told of, may be due earlier.
            with anyio.CancelScope(deadline=due_at):
                await self._regrouped.wait()
        if len(jobs) < 2:
            return
        self._looked_at = anyio.current_time()
        with anyio.CancelScope() as self._listing:
            await self._looks.look(jobs, asking)
        self._listing = None

    def _due_at(self, jobs: "Sequence[_Job]") -> float:
        """Return when, on anyio's clock, several jobs are looked at next."""
        due_at = max(self._looks.next_at, self._looks.allowance.rests_until)
        are_told = not self._is_deaf and all(map(self._will_be_told, jobs))
        return max(due_at, self._looked_at + TOLD_TICK_SECONDS) if are_told else due_at

    # What webhooks tell

    def _will_be_told(self, job: "_Job") -> bool:
        """Return whether a job ran at its last reading, and a webhook of ours is to tell its end."""
        url = self._hearing.url if self._hearing else None
        return url is not None and job.is_read and not job.is_told and job.webhook_url == url

    def _is_heard(self, job: "_Job") -> bool:
        """Return whether its end may be told to a process of ours, whatever this one's settings are."""
        hook = job.webhook_url
        return self._hearing is not None and hook is not None and hook.endswith(self._hearing.path)

    def _note_read(self, job: "_Job") -> None:
        if not job.ended and self._is_heard(job):
            self._to_hear.set()

    async def _hear(self, hearing: Hearing, asking: TaskGroup) -> None:
        """Read a job again as soon as a webhook has told of it."""
        heard, self._is_deaf = 0, False
        try:
            while True:
                await self._to_hear.wait()
                for number, id in await hearing.read(heard):
                    heard = number
                    job = self._jobs.get(id)
                    if job is not None and not job.ended:
                        job.is_told = True
                        asking.start_soon(self._read_again, job)
                        self._regrouped.spread()
                if any(map(self._is_heard, self._open())):
                    await anyio.sleep(HEARING_SECONDS)
                else:
                    self._to_hear = anyio.Event()
        except SyncError as error:
            # They are looked at as if nobody told of them.
            logger.warning("what webhooks told cannot be read: %s", error)
            self._is_deaf = True
            self._regrouped.spread()

    async def _read_again(self, job: "_Job") -> None:
        # An answer that is on its way may be from before the end.
        if job.asking is not None:
            job.asking.cancel()
        await self._looks.ask(job)


class _Job(Watched):
    """What is known of a job, and who waits for it."""

    def __init__(self, id: str, fault: SyncError | None, on_read: "Callable[[_Job], None]") -> None:
        super().__init__(id)
        self.fault = fault
        self.waits: set[_Wait] = set()
        self.is_read = False
        """Whether it was read since it is waited for."""
        self.is_told = False
        """Whether a webhook has told of it meanwhile."""
        self._on_read = on_read

    @property
    def webhook_url(self) -> str | None:
        """Whom the API tells its end, as far as it is known."""
        return self.latest.webhook_url if self.latest is not None else None

    def begin_with(self, known: Generation) -> None:
        """Take a state that a caller has already: older than a webhook may be."""
        super().tell(known)

    def tell(self, generation: Generation) -> None:
        self.is_read = True
        super().tell(generation)
        self._on_read(self)

    @property
    def looked_at(self) -> bool:
        return self.outcome is not None or self.fault is not None

    @property
    def seconds_left(self) -> float:
        """For how long somebody still waits for it."""
        ends_at = max((wait.ends_at for wait in self.waits), default=0.0)
        return max(0.0, ends_at - anyio.current_time())

    async def note(self, generation: Generation) -> None:
        self.tell(generation)

    def on_news(self) -> None:
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


def _nothing_known(job: _Job, seconds: float) -> SyncError:
    return job.fault or APITimeoutError(f"The API did not answer in {seconds:.0f} s.")
