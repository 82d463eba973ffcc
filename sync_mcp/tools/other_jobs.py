"""Waiting for jobs of every kind: those that are no generations are told as generations are."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Literal

import anyio

from sync_mcp.api.looks import Outcome
from sync_mcp.api.models import Generation
from sync_mcp.api.speech import Speech
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LedgerError, SyncError
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.rows import Entry
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.job_answers import is_no_job

_MOST_TRIED = 5
"""Of ids that no generation has and the ledger does not know, so many are looked for as speech."""

OnNews = Callable[[Mapping[str, Outcome]], Awaitable[None]]


async def find_speeches(context: CallContext, ids: Sequence[str]) -> Mapping[str, Entry]:
    """Return the ledger's entries of those jobs that are speech; none where it cannot be read."""
    guard, client = context.process.guard, context.account.client
    try:
        if not guard.ledger.exists():
            return {}
        known = await do_in_thread(guard.ledger.makers_of, ids, client.base_url)
    except LedgerError:
        return {}
    return {id: entry for id, entry in known.items() if entry.kind == SpeechAct.kind}


async def wait_for_jobs(
    context: CallContext,
    ids: Sequence[str],
    seconds: float,
    speeches: Mapping[str, Entry],
    *,
    until: Literal["all", "any"],
    on_news: OnNews,
) -> dict[str, Outcome]:
    """Return how jobs are, of whichever kind, when all or any of them have ended, or after `seconds`.

    `speeches` are those that are known to be speech. As `Watcher.wait_for_many`.
    """
    watcher = context.account.watcher
    if not speeches:
        return await watcher.wait_for_many(ids, seconds, until=until, on_news=on_news)
    told: dict[str, Outcome] = {}
    videos = [id for id in ids if id not in speeches]

    async def note(news: Mapping[str, Outcome]) -> None:
        told.update(news)
        await on_news(told)
        is_enough = any(map(_has_ended, told.values())) and len(told) == len(ids)
        if until == "any" and is_enough:
            waiting.cancel_scope.cancel()

    async def wait_for_videos() -> None:
        await note(await watcher.wait_for_many(videos, seconds, until=until, on_news=note))

    async def wait_for_speech(id: str) -> None:
        first = await _look(context, id, speeches.get(id))
        await note({id: first})
        if not _has_ended(first):
            await note({id: await _wait(context, id, seconds)})

    async with anyio.create_task_group() as waiting:
        if videos:
            waiting.start_soon(wait_for_videos)
        for id in speeches:
            waiting.start_soon(wait_for_speech, id)
    return told


async def look_for_speeches(
    context: CallContext, outcomes: Mapping[str, Outcome], speeches: Collection[str]
) -> dict[str, Outcome]:
    """Return those of the jobs that no generation is, and that are speech which this ledger has not made."""
    unknown = [id for id, outcome in outcomes.items() if is_no_job(outcome) and id not in speeches]
    found: dict[str, Outcome] = {}
    for id in unknown[:_MOST_TRIED]:
        outcome = await _look(context, id, None)
        if isinstance(outcome, Generation):
            found[id] = outcome
    return found


async def _look(context: CallContext, id: str, entry: Entry | None) -> Outcome:
    recalled = SpeechAct.recall(id, entry.extras, entry.assets) if entry is not None else None
    if recalled is not None:
        return _as_generation(recalled)
    try:
        return _as_generation(await context.account.client.speech.get(id, request_options=context.reading))
    except SyncError as error:
        return error


async def _wait(context: CallContext, id: str, seconds: float) -> Outcome:
    try:
        return _as_generation(await context.account.client.speech.wait(id, seconds))
    except SyncError as error:
        return error


def _as_generation(speech: Speech) -> Generation:
    """Return a speech in the words in which generations are told."""
    return Generation(
        id=speech.id,
        status=SpeechAct.status_of(speech),
        created_at=speech.created_at,
        output_url=speech.url,
        output_duration=speech.duration,
        error_code=speech.error_code,
    )


def _has_ended(outcome: Outcome) -> bool:
    return isinstance(outcome, SyncError) or outcome.finished
