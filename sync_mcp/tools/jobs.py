"""The runs of the tools that look at jobs: get one, wait for several, list them."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.errors import APITimeoutError, InvalidRequestError, LedgerError, SyncError
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import clean, plain_id
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import ANSWER_SECONDS, CallContext
from sync_mcp.tools.generation_answers import GenerationAnswer, ListAnswer, WaitAnswer
from sync_mcp.tools.generation_arguments import GetArguments, ListArguments, WaitArguments
from sync_mcp.tools.job_answers import (
    COPY_THE_ID,
    advise_unresolved,
    find_costs,
    find_entries,
    fit_rows,
    generation_answer,
    list_next_step,
    list_unresolved,
)
from sync_mcp.tools.other_jobs import explain_if_missing, find_others, look_for_others, wait_for_jobs
from sync_mcp.tools.process import Process
from sync_mcp.tools.wait_answers import is_about_job, wait_answer

_PROGRESS_SECONDS = 4.0
_PROGRESS_READ_SECONDS = 1.5
"""How long the answer of a wait is held up to say how far the jobs are."""
_FIRST_LOOK_SECONDS = 2.5
_STATUS_LIMIT = 40
_SHOWN_ID = 40
_MOST_SHOWN = 8


async def get_generation(context: CallContext, arguments: GetArguments) -> GenerationAnswer:
    async with explain_if_missing(context, arguments.generation_id):
        watch = await _watch(context, arguments.generation_id.strip(), arguments.wait_seconds, None)
    return await generation_answer(context, watch.job, has_just_ended=watch.has_run)


async def wait_for_generations(context: CallContext, arguments: WaitArguments) -> WaitAnswer:
    ids = list(dict.fromkeys(id.strip() for id in arguments.generation_ids))
    malformed = [f"{clean(id, _SHOWN_ID)!r}" for id in ids if not plain_id(id)]
    if malformed:
        more = f" and {len(malformed) - _MOST_SHOWN} more" if len(malformed) > _MOST_SHOWN else ""
        error = InvalidRequestError(
            f"generation_ids: {', '.join(malformed[:_MOST_SHOWN])}{more} cannot be an id, which has letters, "
            "digits, _ and - only: copy it whole from list_generations or create_generation."
        )
        raise error.advise(next_step=COPY_THE_ID)
    watch = _ManyWatch(context, len(ids))
    others = await find_others(context, ids)

    async def wait(seconds: float) -> None:
        ends_at = anyio.current_time() + seconds
        first = await wait_for_jobs(context, ids, seconds, others, until=arguments.until, on_news=watch.note)
        watch.outcomes = first
        found, states = await look_for_others(context, first, others)
        others.update(found)
        first |= states
        await watch.note(first)

        async def note(news: Mapping[str, Generation | SyncError]) -> None:
            await watch.note({**first, **news})

        seconds_left = ends_at - anyio.current_time()
        if seconds_left > 0 and not all(job.finished for job in states.values()):
            # They are waited for as what they are.
            await note(
                await wait_for_jobs(context, ids, seconds_left, others, until=arguments.until, on_news=note)
            )

    await report_during(context, arguments.wait_seconds, watch.report, wait, lambda: bool(watch.outcomes))
    outcomes = watch.outcomes
    if not outcomes:
        raise APITimeoutError(f"The API did not answer in {arguments.wait_seconds:.0f} s.")
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, SyncError)]
    if len(failures) == len(ids) and not any(map(is_about_job, failures)):
        # What stands in the way of all of them is no matter of the jobs.
        raise failures[0]
    jobs = [job for job in outcomes.values() if not isinstance(job, SyncError)]
    known = await find_entries(context, jobs)
    kinds = {id: job.kind.noun for id, job in others.items()}
    videos = {id: job for id, job in outcomes.items() if id not in kinds}
    unknown = [job for job in jobs if job.id in videos and job.id not in {*known, *watch.have_run}]
    costs = await find_costs(context, unknown)
    progress = await _progress(context, videos)
    can_save = context.can_save
    answer = wait_answer(
        ids, outcomes, known, costs, progress, kinds, wants_urls=arguments.urls, can_save=can_save
    )
    for row in answer.generations:
        context.account.outputs.note(row.output_url)
    if len(ids) < len(arguments.generation_ids):
        answer.next_step += " Ids given more than once are told once."
    return answer


async def _progress(
    context: CallContext, outcomes: Mapping[str, Generation | SyncError]
) -> Mapping[str, float]:
    """Return how far the jobs are that run still, by their ids, as far as the API tells it at once."""
    running = [job for job in outcomes.values() if not isinstance(job, SyncError) and not job.finished]
    told = {job.id: job.progress_percent for job in running if job.progress_percent is not None}
    asked = [job.id for job in running if job.id not in told and job.status != "PENDING"]
    if asked and not context.process.stopping.is_set():
        seconds = min(_PROGRESS_READ_SECONDS, max(0.0, context.seconds_left - ANSWER_SECONDS))
        told |= await context.account.watcher.progress_of(asked, seconds)
    return told


async def list_generations(context: CallContext, arguments: ListArguments) -> ListAnswer:
    unresolved, ledger_fault = ([], None) if arguments.cursor else await _find_unresolved(context)
    # One row more than is shown tells whether there is a next page, without a second request.
    try:
        page = await context.account.client.generations.list(
            status=arguments.status,
            project_id=arguments.project_id,
            limit=arguments.limit + 1,
            cursor=arguments.cursor,
            request_options=context.reading,
        )
    except SyncError as error:
        if not unresolved:
            raise
        # What may have been paid for is told by the ledger, above all when the API tells nothing.
        return ListAnswer(
            unresolved=list_unresolved(unresolved),
            generations=[],
            next_step=(
                f"The API's list cannot be read now ({error.code}): call list_generations again in a "
                f"while. {advise_unresolved(unresolved)}"
            ),
        )
    rows = fit_rows(page[: arguments.limit], await find_entries(context, page[: arguments.limit]))
    more = len(page) > len(rows) or len(page) + page.unreadable > arguments.limit
    # What is no id is text of a stranger's.
    cursor = (plain_id(page[len(rows) - 1].id) or None) if rows and more else None
    return ListAnswer(
        unresolved=list_unresolved(unresolved),
        generations=rows,
        next_cursor=cursor,
        next_step=list_next_step(
            rows,
            cursor=cursor,
            narrowed=bool(arguments.status or arguments.project_id or arguments.cursor),
            unreadable=page.unreadable,
            unresolved=unresolved,
            ledger_fault=ledger_fault,
        ),
        note=f"What is unresolved cannot be told: {ledger_fault.message}" if ledger_fault else None,
    )


async def _find_unresolved(context: CallContext) -> tuple[list[Entry], LedgerError | None]:
    try:
        return await context.process.guard.list_unresolved(context.account.client), None
    except LedgerError as error:
        # The list is the way to see what there is, above all when the ledger is broken.
        return [], error


async def wait_for_job(
    context: CallContext, generation_id: str, seconds: float, known: Generation | None
) -> Generation:
    """Return the job at its end, or as it is after `seconds`, reporting progress meanwhile."""
    return (await _watch(context, generation_id, seconds, known)).job


async def _watch(
    context: CallContext, generation_id: str, seconds: float, known: Generation | None
) -> "_Watch":
    """Watch a job until its end, or for `seconds`, reporting progress meanwhile."""
    account, watch = context.account, _Watch(context, known)
    if not seconds:
        reading = context.reading
        watch.latest = await account.client.generations.get(generation_id, request_options=reading)
        return watch

    async def wait(seconds: float) -> None:
        watch.latest = await account.watcher.wait(generation_id, seconds, on_update=watch.note, known=known)

    await report_during(context, seconds, watch.report, wait, lambda: watch.latest is not None)
    if watch.latest is None:
        raise APITimeoutError(f"The API did not answer in {seconds:.0f} s.")
    return watch


async def report_during(
    context: CallContext,
    seconds: float,
    report: Callable[[], Coroutine[Any, Any, None]],
    wait: Callable[[float], Awaitable[None]],
    knows: Callable[[], bool],
) -> None:
    """Await `wait` with the seconds that it has, and `report` meanwhile; it ends early with the server.

    `knows` says whether there is something to answer with.
    """
    seconds = min(seconds, max(0.0, context.seconds_left - ANSWER_SECONDS))
    # Where many jobs are waited for, one that joins is looked at with the next tick.
    longest = min(
        max(seconds, _FIRST_LOOK_SECONDS) + ANSWER_SECONDS / 2, context.seconds_left - ANSWER_SECONDS / 2
    )
    failure: SyncError | None = None
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(report)
        try:
            # The API's last answer may come a little late; what is known by then is answer enough.
            with anyio.move_on_after(longest) as waiting:
                task_group.start_soon(_end_with_the_server, context.process, waiting, knows)
                await wait(seconds)
        except SyncError as error:
            failure = error
        task_group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _end_with_the_server(
    process: Process, waiting: anyio.CancelScope, knows: Callable[[], bool]
) -> None:
    await process.stopping.wait()
    longest = 0.0 if knows() else _FIRST_LOOK_SECONDS
    waiting.deadline = min(waiting.deadline, anyio.current_time() + longest)


class _Watch:
    """The latest state of a job that is waited for, told to the client every few seconds."""

    def __init__(self, context: CallContext, known: Generation | None) -> None:
        self._context = context
        self._started_at = anyio.current_time()
        self.latest = known
        self.has_run = False
        """Whether it ran still when it was first seen."""

    @property
    def job(self) -> Generation:
        """The job as it was seen last."""
        assert self.latest is not None
        return self.latest

    async def note(self, generation: Generation) -> None:
        self.latest = generation
        self.has_run = self.has_run or not generation.finished

    async def report(self) -> None:
        while True:
            elapsed = anyio.current_time() - self._started_at
            await self._context.report_progress(self._line(elapsed))
            await anyio.sleep(_PROGRESS_SECONDS)

    def _line(self, elapsed: float) -> str:
        status = clean(self.latest.status, _STATUS_LIMIT) if self.latest else "asking"
        percent = finite(self.latest.progress_percent) if self.latest else None
        share = "" if percent is None else f", {percent:.0f} %"
        return f"{status}{share}, {elapsed:.0f} s waited"


class _ManyWatch:
    """How the jobs are that are waited for; how many have ended is told to the client as they do."""

    def __init__(self, context: CallContext, total: int) -> None:
        self._context = context
        self._started_at = anyio.current_time()
        self._total = total
        self._ended = 0
        self._another_ended = anyio.Event()
        self.outcomes: Mapping[str, Generation | SyncError] = {}
        self.have_run: set[str] = set()
        """The jobs that ran still when they were first seen."""

    async def note(self, outcomes: Mapping[str, Generation | SyncError]) -> None:
        self.outcomes = outcomes
        self.have_run.update(
            id for id, job in outcomes.items() if isinstance(job, Generation) and not job.finished
        )
        ended = sum(isinstance(outcome, SyncError) or outcome.finished for outcome in outcomes.values())
        if ended > self._ended:
            self._ended = ended
            self._another_ended.set()

    async def report(self) -> None:
        while True:
            self._another_ended = anyio.Event()
            elapsed = anyio.current_time() - self._started_at
            await self._context.report_progress(
                f"{self._ended} of {self._total} ended, {elapsed:.0f} s waited"
            )
            with anyio.move_on_after(_PROGRESS_SECONDS):
                await self._another_ended.wait()
