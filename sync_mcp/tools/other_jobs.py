"""Waiting for jobs of every kind: those that are no generations are told as generations are."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import anyio

from sync_mcp.api.batches import Batch
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.dialogue_edits import DialogueEdit
from sync_mcp.api.looks import Outcome
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.speech import Speech
from sync_mcp.api.transcriptions import Transcription
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import APIStatusError, InvalidRequestError, LedgerError, SyncError, is_unknown_id
from sync_mcp.payments.acts.act import PaidAct
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.rows import Entry
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_answers import BATCH, DIALOGUE_EDIT, SPEECH, TRANSCRIPTION
from sync_mcp.tools.job_answers import COPY_THE_ID
from sync_mcp.tools.wait_answers import HOW_TOLD, is_no_job

_MOST_MISSED = 5
"""After so many ids that no job of any kind has, no more are looked for among the other kinds."""
_LOOKS_AT_ONCE = 5
_NOUN_SECONDS = 5.0
"""How long an error is held up to say what else an id is of."""

OnNews = Callable[[Mapping[str, Outcome]], Awaitable[None]]
_JobT_co = TypeVar("_JobT_co", covariant=True)
_JobT = TypeVar("_JobT", Speech, DialogueEdit, Transcription, Batch)


class _Jobs(Protocol[_JobT_co]):
    """The jobs of a kind, as far as they are waited for."""

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> _JobT_co: ...

    async def wait(self, id: str, timeout: float) -> _JobT_co: ...


@dataclass(frozen=True, slots=True)
class _Kind(Generic[_JobT]):
    """A kind of jobs: what such a job is called, where they are, and as what it is paid for."""

    noun: str
    jobs_of: Callable[[AsyncSync], _Jobs[_JobT]]
    act: type[PaidAct[_JobT]] | None = None

    async def look(self, context: CallContext, id: str, entry: Entry | None) -> Outcome:
        if entry is not None and self.act is not None:
            recalled = self.act.recall(id, entry.extras, entry.assets)
            if recalled is not None:
                return self._as_generation(recalled)
        try:
            jobs = self.jobs_of(context.account.client)
            return self._as_generation(await jobs.get(id, request_options=context.reading))
        except SyncError as error:
            return await self._explain(context, id, error) if entry is not None else error

    async def wait(self, context: CallContext, id: str, seconds: float) -> Outcome:
        try:
            return self._as_generation(await self.jobs_of(context.account.client).wait(id, seconds))
        except SyncError as error:
            return error

    async def _explain(self, context: CallContext, id: str, error: SyncError) -> SyncError:
        """Return what the ledger says of a job that it knows and the API does not show, else the error."""
        if self.act is None or not is_no_job(error):
            return error
        return await context.account.explain_missing(id, self.act.kind) or error

    def _as_generation(self, job: _JobT) -> Generation:
        """Return a job in the words in which generations are told."""
        sound = job if isinstance(job, Speech) else None
        return Generation(
            id=job.id,
            status=self.act.status_of(job) if self.act else job.status,
            created_at=job.created_at,
            output_url=sound and sound.url,
            output_duration=sound and sound.duration,
            error_code=job.error_code,
        )


_AnyKind = _Kind[Speech] | _Kind[DialogueEdit] | _Kind[Transcription] | _Kind[Batch]
_KINDS: Sequence[_AnyKind] = (
    _Kind(SPEECH, lambda client: client.speech, SpeechAct),
    _Kind(DIALOGUE_EDIT, lambda client: client.dialogue_edits, DialogueEditAct),
    _Kind(TRANSCRIPTION, lambda client: client.transcriptions),
    _Kind(BATCH, lambda client: client.batches, BatchAct),
)


@dataclass(frozen=True, slots=True)
class OtherJob:
    """A job that is known to be of another kind; `entry` is what the ledger has of it."""

    kind: _AnyKind
    entry: Entry | None = None


async def find_others(context: CallContext, ids: Sequence[str]) -> dict[str, OtherJob]:
    """Return those of the jobs that the ledger knows as no generations; none where it cannot be read."""
    guard, client = context.process.guard, context.account.client
    try:
        if not guard.ledger.exists():
            return {}
        known = await do_in_thread(guard.ledger.makers_of, ids, client.base_url)
    except LedgerError:
        return {}
    kinds = {kind.act.kind: kind for kind in _KINDS if kind.act is not None}
    return {id: OtherJob(kinds[entry.kind], entry) for id, entry in known.items() if entry.kind in kinds}


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
        first = await job.kind.look(context, id, job.entry)
        await note({id: first})
        if not _has_ended(first):
            await note({id: await job.kind.wait(context, id, seconds)})

    async with anyio.create_task_group() as waiting:
        if videos:
            waiting.start_soon(wait_for_videos)
        for id, job in others.items():
            waiting.start_soon(wait_for_other, id, job)
    return told


async def look_for_others(
    context: CallContext, outcomes: Mapping[str, Outcome], others: Collection[str]
) -> tuple[dict[str, OtherJob], dict[str, Generation]]:
    """Return those of the jobs that no generation is, and that are of another kind all the same: not of this
    ledger's making, or free. With them, how they are.
    """
    unknown = [id for id, outcome in outcomes.items() if is_no_job(outcome) and id not in others]
    found: dict[str, OtherJob] = {}
    states: dict[str, Generation] = {}
    missed: list[str] = []
    turns = anyio.CapacityLimiter(_LOOKS_AT_ONCE)

    async def look(id: str) -> None:
        async with turns:
            if len(missed) >= _MOST_MISSED:
                return
            for kind in _KINDS:
                outcome = await kind.look(context, id, None)
                if isinstance(outcome, Generation):
                    found[id], states[id] = OtherJob(kind), outcome
                    return
            missed.append(id)

    async with anyio.create_task_group() as looking:
        for id in unknown:
            looking.start_soon(look, id)
    return found, states


@asynccontextmanager
async def explain_if_missing(context: CallContext, generation_id: str) -> AsyncGenerator[None]:
    """Say what an id is before it is called wrong: of a job that is not visible yet, or of another kind."""
    id = generation_id.strip()
    try:
        yield
    except APIStatusError as error:
        if not is_unknown_id(error.status):
            raise
        explained = await context.account.explain_missing(id)
        if explained is not None:
            raise explained from error
        noun = await _find_noun(context, id, error)
        if noun is None:
            error.advise(next_step=COPY_THE_ID)
        else:
            error.advise(message=f"This is the id of a {noun}, and of no video.", next_step=HOW_TOLD[noun])
        raise
    except InvalidRequestError as error:
        # It cannot be one: nothing was asked.
        error.advise(next_step=COPY_THE_ID)
        raise


async def _find_noun(context: CallContext, id: str, error: APIStatusError) -> str | None:
    """Return what a job is called that is no generation; None where nothing shows that there is one."""
    others = await find_others(context, [id])
    if not others:
        with anyio.move_on_after(_NOUN_SECONDS):
            others, _ = await look_for_others(context, {id: error}, ())
    return others[id].kind.noun if others else None


def _has_ended(outcome: Outcome) -> bool:
    return isinstance(outcome, SyncError) or outcome.finished
