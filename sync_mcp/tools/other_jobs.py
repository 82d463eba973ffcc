"""Waiting for jobs of every kind: those that are no generations are told as generations are."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from sync_mcp.api.batches import Batch
from sync_mcp.api.looks import Outcome
from sync_mcp.api.models import Generation
from sync_mcp.api.speech import Speech
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LedgerError, SyncError
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.rows import Entry
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.job_answers import is_no_job

_MOST_TRIED = 5
"""Of ids that no generation has and the ledger does not know, so many are looked for as other jobs."""
_KINDS = (SpeechAct.kind, BatchAct.kind)
"""Those that are waited for by their ids, beside generations."""

OnNews = Callable[[Mapping[str, Outcome]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OtherJob:
    """A job that is no generation: its kind, and what the ledger has of it, where it was made by that."""

    kind: str
    entry: Entry | None = None


async def find_other_jobs(context: CallContext, ids: Sequence[str]) -> Mapping[str, OtherJob]:
    """Return those jobs that the ledger knows to be no generations; none where it cannot be read."""
    guard, client = context.process.guard, context.account.client
    try:
        if not guard.ledger.exists():
            return {}
        known = await do_in_thread(guard.ledger.makers_of, ids, client.base_url)
    except LedgerError:
        return {}
    return {id: OtherJob(entry.kind, entry) for id, entry in known.items() if entry.kind in _KINDS}


async def wait_for_jobs(
    context: CallContext,
    ids: Sequence[str],
    seconds: float,
    others: Mapping[str, OtherJob],
    *,
    until: Literal["all", "any"],
    on_news: OnNews,
) -> dict[str, Outcome]:
    """Return how jobs are, of whichever kind, when all or any of them have ended, or after `seconds`.

    `others` are those that are known to be no generations. As `Watcher.wait_for_many`.
    """
    watcher = context.account.watcher
    if not others:
        return await watcher.wait_for_many(ids, seconds, until=until, on_news=on_news)
    told: dict[str, Outcome] = {}
    videos = [id for id in ids if id not in others]

    async def note(news: Mapping[str, Outcome]) -> None:
        told.update(news)
        await on_news(told)
        is_enough = any(map(_has_ended, told.values())) and len(told) == len(ids)
        if until == "any" and is_enough:
            waiting.cancel_scope.cancel()

    async def wait_for_videos() -> None:
        await note(await watcher.wait_for_many(videos, seconds, until=until, on_news=note))

    async def wait_for_other(id: str, job: OtherJob) -> None:
        first = await _look(context, id, job)
        await note({id: first})
        if not _has_ended(first):
            await note({id: await _wait(context, id, job.kind, seconds)})

    async with anyio.create_task_group() as waiting:
        if videos:
            waiting.start_soon(wait_for_videos)
        for id, job in others.items():
            waiting.start_soon(wait_for_other, id, job)
    return told


async def look_for_other_jobs(
    context: CallContext, outcomes: Mapping[str, Outcome], others: Collection[str]
) -> dict[str, tuple[OtherJob, Outcome]]:
    """Return those of the jobs that are of another kind, and that this ledger has not made."""
    unknown = [id for id, outcome in outcomes.items() if is_no_job(outcome) and id not in others]
    found: dict[str, tuple[OtherJob, Outcome]] = {}
    for id in unknown[:_MOST_TRIED]:
        for job in map(OtherJob, _KINDS):
            outcome = await _look(context, id, job)
            if isinstance(outcome, Generation):
                found[id] = job, outcome
                break
    return found


async def _look(context: CallContext, id: str, job: OtherJob) -> Outcome:
    entry = job.entry
    recalled = (
        SpeechAct.recall(id, entry.extras, entry.assets) if entry and job.kind == SpeechAct.kind else None
    )
    if recalled is not None:
        return _as_generation(job.kind, recalled)
    client, reading = context.account.client, context.reading
    try:
        if job.kind == BatchAct.kind:
            return _as_generation(job.kind, await client.batches.get(id, request_options=reading))
        return _as_generation(job.kind, await client.speech.get(id, request_options=reading))
    except SyncError as error:
        return error


async def _wait(context: CallContext, id: str, kind: str, seconds: float) -> Outcome:
    client = context.account.client
    try:
        if kind == BatchAct.kind:
            return _as_generation(kind, await client.batches.wait(id, seconds))
        return _as_generation(kind, await client.speech.wait(id, seconds))
    except SyncError as error:
        return error


def _as_generation(kind: str, job: Speech | Batch) -> Generation:
    """Return a job in the words in which generations are told."""
    sound = job if isinstance(job, Speech) else None
    return Generation(
        id=job.id,
        status=KINDS[kind].status_of(job),
        created_at=job.created_at,
        output_url=sound and sound.url,
        output_duration=sound and sound.duration,
        error_code=job.error_code,
    )


def _has_ended(outcome: Outcome) -> bool:
    return isinstance(outcome, SyncError) or outcome.finished
