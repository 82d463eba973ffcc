"""How many jobs are: a list for each hundred of them, and one by one those that the lists leave out."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.generation_reads import PAGE_LIMIT, GenerationReads
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    APIConnectionError,
    AuthenticationError,
    RateLimitError,
    SyncError,
    is_unknown_id,
)

TICK_SECONDS = 2.0
"""How often jobs are looked at while several are waited for."""

READ_SECONDS = 10.0
"""How long an answer to a look may take."""

_LONGEST_TICK_SECONDS = 16.0
_FAILURES_OF_A_LIST = 3
_CHARACTERS_OF_IDS = 6000
"""A longer address is refused by servers and proxies."""
_COMMA_CHARACTERS = 3

Outcome = Generation | SyncError
"""The state of a job, or why it cannot be told."""


class Watched:
    """What is known of a job that is waited for."""

    def __init__(self, id: str, latest: Generation | None = None) -> None:
        self.id = id
        self.latest = latest
        self.fault: SyncError | None = None
        """What the last reading met with, where that may pass."""
        self.error: SyncError | None = None
        """Why nothing more can be told of it."""
        self.is_wanted = True
        """Whether somebody waits for it still."""
        self.asking: anyio.CancelScope | None = None
        self.asked_at = 0.0

    @property
    def outcome(self) -> Outcome | None:
        return self.error or self.latest

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.error is not None or (self.latest is not None and self.latest.finished)

    def tell(self, generation: Generation) -> None:
        """Take note of a state that was read."""
        # Two readings may overtake each other: a job never goes back to where it was.
        if self.ended:
            return
        self.fault = None
        if self.latest is None or generation.status != "PENDING" or self.latest.status == "PENDING":
            self.latest = generation
        self.on_news()

    def fail(self, error: SyncError) -> None:
        """Take note of a reading that failed."""
        if self.ended:
            return
        if error.retryable:
            self.fault = error
        else:
            self.error = error
        self.on_news()

    def on_news(self) -> None:
        """Is called when something was learned of it."""

    def leave(self) -> None:
        """Nobody waits for it any more: it is not asked for by itself either."""
        self.is_wanted = False
        if self.asking is not None:
            self.asking.cancel()


class Looks:
    """Looks at jobs in every tick, as long as they are waited for; a throttled API is looked at less often.

    Args:
        reads_of: the reads of the account whose jobs they are.
        options: of what is asked.
        explain_missing: says what is known here of a job that the API does not show.
    """

    def __init__(
        self,
        reads_of: Callable[[], GenerationReads],
        options: RequestOptions | None = None,
        explain_missing: Callable[[str], Awaitable[SyncError | None]] | None = None,
    ) -> None:
        self._reads_of = reads_of
        self._options = options or RequestOptions()
        self._explain_missing = explain_missing
        self.tick_seconds = TICK_SECONDS
        self.next_at = 0.0
        """When, on anyio's clock, the next look is due, where the API does not want to be left alone."""
        self._slowed = False
        self._failed_lists = 0

    @property
    def allowance(self) -> Allowance:
        """What every read of the account's waits is taken from."""
        return self._reads_of().allowance

    @property
    def once(self) -> RequestOptions:
        """The options of a read: the next tick is the next attempt."""
        return {**self._options, "timeout_in_seconds": READ_SECONDS, "max_retries": 0}

    async def look(self, jobs: Sequence[Watched], asking: TaskGroup) -> None:
        """Read how the jobs are; what the lists leave out is asked for in `asking`, beside the ticks."""
        self._slowed = False
        self.next_at = anyio.current_time() + self.tick_seconds
        left_out = await self._read_lists(jobs)
        if not self._slowed:
            self.tick_seconds = max(TICK_SECONDS, self.tick_seconds / 2)
        await self._ask_singly(left_out, asking)

    async def explain(self, id: str, error: SyncError) -> SyncError:
        """Return what is known here of a job that the API says it does not have."""
        if self._explain_missing is None or not is_unknown_id(getattr(error, "status", None)):
            return error
        return await self._explain_missing(id) or error

    def slow_down(self, error: SyncError) -> None:
        """Look less often, and leave the API alone for as long as the error says."""
        if not self._slowed:
            self._slowed = True
            self.tick_seconds = min(self.tick_seconds * 2, _LONGEST_TICK_SECONDS)
        self.next_at = max(self.next_at, anyio.current_time() + self.tick_seconds)
        self.allowance.rest_for(error)

    async def _read_lists(self, jobs: Sequence[Watched]) -> list[Watched]:
        """Read how the jobs are, and return those that the lists left out."""
        left_out: list[Watched] = []
        async with anyio.create_task_group() as reading:
            for page in _pages(jobs):
                await self.allowance.take()
                reading.start_soon(self._read_list, page, left_out)
        return left_out

    async def _read_list(self, jobs: Sequence[Watched], left_out: list[Watched]) -> None:
        try:
            listed = await self._reads_of().list(
                ids=[job.id for job in jobs], limit=PAGE_LIMIT, request_options=self.once
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
        self.slow_down(error)
        if isinstance(error, RateLimitError | APIConnectionError):
            return False
        self._failed_lists += 1
        return self._failed_lists >= _FAILURES_OF_A_LIST

    async def _ask_singly(self, jobs: Sequence[Watched], asking: TaskGroup) -> None:
        """Ask for jobs by themselves, as many as the read limit has room for; the others have their turn."""
        turns = sorted((job for job in jobs if job.asking is None), key=lambda job: job.asked_at)
        for job in turns[: max(1, self.allowance.spare)]:
            await self.allowance.take()
            if anyio.current_time() < self.allowance.rests_until:
                return
            job.asked_at = anyio.current_time()
            # Beside the ticks: an answer that is late must not hold up the others.
            asking.start_soon(self._ask, job)

    async def ask(self, job: Watched) -> None:
        """Read at once how one job is."""
        await self.allowance.take()
        await self._ask(job)

    async def _ask(self, job: Watched) -> None:
        with anyio.CancelScope() as scope:
            job.asking = scope
            if not job.is_wanted:
                return
            try:
                job.tell(await self._reads_of().get(job.id, request_options=self.once))
            except SyncError as error:
                if isinstance(error, RateLimitError):
                    self.slow_down(error)
                job.fail(await self.explain(job.id, error))
        # Another reading may have taken its place.
        if job.asking is scope:
            job.asking = None


def _pages(jobs: Sequence[Watched]) -> Iterator[list[Watched]]:
    page: list[Watched] = []
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
