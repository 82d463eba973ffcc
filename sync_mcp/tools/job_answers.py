"""How jobs are told: one whole, several in rows, and what can be done next."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Literal, Protocol, TypeVar

import anyio
from pydantic import BaseModel

from sync_mcp.api.links import expiry
from sync_mcp.api.models import RUNNING_STATUSES, Generation
from sync_mcp.errors import (
    APIStatusError,
    APITimeoutError,
    InvalidRequestError,
    LedgerError,
    NotVisibleYet,
    SyncError,
    is_unknown_id,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.kinds import can_be_found
from sync_mcp.payments.costs import Cost
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import ID_LIMIT, clean, count_of, format_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import ANSWER_SECONDS, CallContext
from sync_mcp.tools.failures import explain_failure
from sync_mcp.tools.generation_answers import (
    DIALOGUE_EDIT,
    SPEECH,
    TRANSCRIPTION,
    AwaitedRow,
    GenerationAnswer,
    GenerationRow,
    WaitAnswer,
)
from sync_mcp.tools.generation_arguments import USUAL_WAIT_SECONDS
from sync_mcp.tools.withheld import say_no_video_is_made

logger = logging.getLogger("sync_mcp.tools")

_TEXT_LIMIT = 300
_COST_SECONDS = 6.0
"""How long an answer is held up to say what jobs did cost."""
_WORD_LIMIT = 80
_URL_LIMIT = 8000
_ROWS_CHARACTERS = 9000
_UNRESOLVED_SHOWN = 5
_LOST = " (no call finds it out: the user settles it)"
_URL_FIELD_CHARACTERS = len(',"output_url":""')

_RowT = TypeVar("_RowT", bound=BaseModel)


COPY_THE_ID = "Copy the whole generation_id from list_generations, or from create_generation."


@asynccontextmanager
async def explain_if_missing(context: CallContext, generation_id: str) -> AsyncGenerator[None]:
    """Ask the ledger before an id is called wrong: a job that was just made may not be visible yet."""
    try:
        yield
    except APIStatusError as error:
        if not is_unknown_id(error.status):
            raise
        explained = await context.account.explain_missing(generation_id.strip())
        if explained is not None:
            raise explained from error
        error.advise(next_step=COPY_THE_ID)
        raise
    except InvalidRequestError as error:
        # It cannot be one: nothing was asked.
        error.advise(next_step=COPY_THE_ID)
        raise


async def find_entries(context: CallContext, jobs: Sequence[Generation]) -> Mapping[str, Entry]:
    """Return what the ledger knows of jobs, by their ids; nothing where it cannot be read."""
    account = context.account
    try:
        # What it did cost is no reason to be late with what it is.
        with anyio.move_on_after(max(0.0, context.seconds_left - ANSWER_SECONDS)):
            return await context.process.guard.find_entries(account.client, jobs)
    except SyncError as error:
        logger.warning("what the ledger says of jobs cannot be told: %s", error)
    return {}


async def find_costs(context: CallContext, jobs: Sequence[Generation]) -> Mapping[str, Cost]:
    """Return what finished jobs did cost that the ledger does not know, where the API tells it at once."""
    with anyio.move_on_after(max(0.0, min(_COST_SECONDS, context.seconds_left - ANSWER_SECONDS))):
        return await context.process.guard.find_costs(context.account.client, jobs)
    return {}


class _OfLedger(Protocol):
    about: str | None
    saved_as: str | None
    cost_usd: float | None
    estimated_cost_usd: float | None


def _tell_entry(answer: _OfLedger, entry: Entry | None) -> None:
    """Put what the ledger knows of a job into an answer: what it is about, and what it costs."""
    if entry is None:
        return
    answer.about, answer.saved_as = _word(entry.title), entry.saved_as
    _tell_cost(answer, entry.cost_usd, entry.estimate_usd)


def _tell_cost(answer: _OfLedger, cost_usd: Decimal | None, estimate_usd: Decimal | None) -> None:
    """Put what a job did cost into an answer; where that is not known, what it was estimated at."""
    if cost_usd is not None:
        answer.cost_usd, answer.estimated_cost_usd = float(cost_usd), None
    elif estimate_usd is not None:
        answer.estimated_cost_usd = float(estimate_usd)


async def generation_answer(
    context: CallContext, generation: Generation, *, has_just_ended: bool = False
) -> GenerationAnswer:
    """Return how a job is told; what one did cost that `has_just_ended` the API does not know yet."""
    entry = (await find_entries(context, [generation])).get(generation.id)
    answer = GenerationAnswer(
        generation_id=safe(generation.id, ID_LIMIT),
        status=safe(generation.status, _WORD_LIMIT),
        model=_word(generation.model),
        created_at=_timestamp(generation.created_at),
        next_step="",
    )
    _tell_entry(answer, entry)
    if generation.status == "COMPLETED":
        is_asked_for = entry is None and not has_just_ended
        cost = (await find_costs(context, [generation])).get(generation.id) if is_asked_for else None
        if cost is not None:
            _tell_cost(answer, cost.usd, None)
        answer.output_url = whole_url(generation.output_url)
        context.account.outputs.note(answer.output_url)
        answer.output_url_expires_at = _timestamp(expiry(answer.output_url or ""))
        answer.output_duration_seconds = finite(generation.output_duration)
        answer.next_step = (
            _with_output(context.can_save, is_saved=answer.saved_as is not None)
            if answer.output_url
            else "There is no output URL yet: call get_generation with this generation_id again."
        )
    elif generation.finished:
        explanation = await explain_failure(context, generation)
        answer.api_code = _word(generation.error_code)
        answer.api_says = explanation.api_says or None
        answer.remedy = explanation.remedy
        answer.charged = explanation.charged
        if explanation.cost_usd is not None:
            # It may have been read after the ledger was.
            _tell_cost(answer, explanation.cost_usd, None)
        if context.can_create:
            answer.next_step = _AFTER_FAILURE[explanation.charged]
        else:
            why = say_no_video_is_made(context.withheld)
            answer.next_step = f"Tell the user why it failed, and what would help. {why}"
    elif generation.status not in RUNNING_STATUSES:
        answer.next_step = _STRANGE
    else:
        answer.progress_percent = finite(generation.progress_percent)
        answer.next_step = (
            f"Not finished: get_generation with wait_seconds {USUAL_WAIT_SECONDS} waits for it; do not "
            "create it again."
        )
    return answer


def _with_output(can_save: bool, *, is_saved: bool) -> str:
    """Return what can be done with an output; saving it is offered where this server can, and has not."""
    if is_saved:
        ways = "It was saved as saved_as; preview_generation shows it, by this generation_id. Or give"
    elif can_save:
        ways = "preview_generation shows it and download_generation saves it, by this generation_id. Or give"
    else:
        ways = "preview_generation shows it, by this generation_id. Give"
    fresh = "when it has expired, get_generation gives a fresh one."
    return f"{ways} the user output_url letter for letter; {fresh}"


_STRANGE = (
    "This status is not known here: the job may have ended, or run still. Tell the user, and look again in a "
    "while; do not create it again by yourself. Once it has lasted a day and its cost is told, the same "
    "create_generation call makes a new one, and asks the user first unless this one was free."
)
_AFTER_FAILURE = {
    "no": "Do what remedy says, then call create_generation again if the user wants it.",
    "yes": (
        "It failed and was charged: made again, it is paid again. Ask the user first; then do what remedy "
        "says and call create_generation again."
    ),
    "unknown": (
        "It may have been charged: made again, it may be paid again. Ask the user first; then do what remedy "
        "says and call create_generation again."
    ),
}


def _generation_row(generation: Generation, entry: Entry | None) -> GenerationRow:
    row = GenerationRow(
        generation_id=safe(generation.id, ID_LIMIT),
        status=safe(generation.status, _WORD_LIMIT),
        model=_word(generation.model),
        created_at=_timestamp(generation.created_at),
        output_file_name=_word(generation.output_file_name),
        api_code=_word(generation.error_code),
    )
    _tell_entry(row, entry)
    return row


def fit_rows(page: Sequence[Generation], known: Mapping[str, Entry]) -> list[GenerationRow]:
    """Return rows of a page, from its beginning, as many as a host shows whole in one answer."""
    return _fit([_generation_row(generation, known.get(generation.id)) for generation in page])


def _fit(rows: list[_RowT]) -> list[_RowT]:
    ends = accumulate(map(_length, rows))
    return rows[: max(1, sum(end <= _ROWS_CHARACTERS for end in ends))]


def _length(row: BaseModel) -> int:
    return len(row.model_dump_json(exclude_none=True))


def wait_answer(
    ids: Sequence[str],
    outcomes: Mapping[str, Generation | SyncError],
    known: Mapping[str, Entry],
    costs: Mapping[str, Cost],
    progress: Mapping[str, float],
    kinds: Mapping[str, str],
    *,
    wants_urls: bool,
    can_save: bool,
) -> WaitAnswer:
    """Return how the jobs `ids` are; one without an outcome could not be asked for.

    Of those that the ledger does not know `costs` says what they did cost; `kinds` are what those are called
    that are no generations. Where results can be saved by their ids, their URLs are long and of no use.
    """
    tells_urls = wants_urls or not can_save
    rows = [_row_of_outcome(id, outcomes.get(id), progress.get(id)) for id in ids]
    for row in rows:
        row.kind = kinds.get(row.generation_id)
        entry, cost = known.get(row.generation_id), costs.get(row.generation_id)
        _tell_entry(row, entry)
        if cost is not None:
            _tell_cost(row, cost.usd, None)
        if _state(outcomes.get(row.generation_id)) == "failed":
            _tell_charge(row, entry, cost)
    total = _sum_of_all([row.cost_usd for row in rows])
    count = Counter(_state(outcomes.get(id)) for id in ids)
    fitting = _fit(rows)
    if tells_urls:
        _put_urls(fitting, outcomes)
    return WaitAnswer(
        completed=count["completed"],
        failed=count["failed"],
        running=count["running"],
        unknown=count["missing"] + count["error"] + count["unknown"] + count["strange"] or None,
        total_cost_usd=total,
        estimated_total_usd=None if total is not None else _sum_of_all([_figure(row) for row in rows]),
        generations=fitting,
        next_step=_after_wait(
            count,
            [row for row in fitting if row.kind is None],
            [row for row in rows if row.kind is not None],
            left_out=len(rows) - len(fitting),
            tells_urls=tells_urls,
            can_save=can_save,
        ),
    )


def _tell_charge(row: AwaitedRow, entry: Entry | None, cost: Cost | None) -> None:
    """Put into the row of a failed job whether it was charged, as far as that is known."""
    # What is written down of another status says nothing of this one.
    is_settled = entry is not None and entry.status == row.status
    told = entry if is_settled else cost
    row.charged = "unknown" if told is None else told.charged
    if row.charged == "no":
        row.cost_usd, row.estimated_cost_usd = 0.0, None


def _figure(row: AwaitedRow) -> float | None:
    return row.estimated_cost_usd if row.cost_usd is None else row.cost_usd


def _sum_of_all(figures: Sequence[float | None]) -> float | None:
    """Return the sum, or None where a figure is missing."""
    told = [figure for figure in figures if figure is not None]
    return round(sum(told), 6) if told and len(told) == len(figures) else None


def is_no_job(outcome: object) -> bool:
    """Return whether the API says that the account has no job by this id."""
    return isinstance(outcome, APIStatusError) and is_unknown_id(outcome.status)


def is_about_job(outcome: object) -> bool:
    """Return whether an error is about one job, and not about what stands in the way of all."""
    return is_no_job(outcome) or isinstance(outcome, NotVisibleYet)


_State = Literal["completed", "failed", "running", "strange", "missing", "error", "unknown"]


def _state(outcome: Generation | SyncError | None) -> _State:
    if outcome is None or isinstance(outcome, SyncError):
        if is_no_job(outcome):
            return "missing"
        return "unknown" if outcome is None or outcome.retryable else "error"
    if not outcome.finished:
        return "running" if outcome.status in RUNNING_STATUSES else "strange"
    return "completed" if outcome.status == "COMPLETED" else "failed"


_STATUS_OF = {"missing": "NOT_FOUND", "error": "ERROR", "unknown": "UNKNOWN"}


def _row_of_outcome(
    id: str, outcome: Generation | SyncError | None, progress_percent: float | None
) -> AwaitedRow:
    if outcome is None or isinstance(outcome, SyncError):
        failure = APITimeoutError("") if outcome is None else outcome
        return AwaitedRow(
            generation_id=id,
            status=_STATUS_OF[_state(outcome)],
            error_code=failure.code,
            api_code=failure.api_code,
        )
    return AwaitedRow(
        generation_id=id,
        status=safe(outcome.status, _WORD_LIMIT),
        progress_percent=finite(progress_percent),
        api_code=_word(outcome.error_code),
    )


def _put_urls(rows: Sequence[AwaitedRow], outcomes: Mapping[str, Generation | SyncError]) -> None:
    """Put the output URLs into the rows, as many as fit."""
    room = _ROWS_CHARACTERS - sum(map(_length, rows))
    for row in rows:
        outcome = outcomes.get(row.generation_id)
        if row.status != "COMPLETED" or outcome is None or isinstance(outcome, SyncError):
            continue
        url = whole_url(outcome.output_url)
        length = len(url or "") + _URL_FIELD_CHARACTERS
        if url and length <= room:
            row.output_url = url
            room -= length


def _after_wait(
    count: Mapping[str, int],
    rows: Sequence[AwaitedRow],
    others: Sequence[AwaitedRow],
    *,
    left_out: int,
    tells_urls: bool,
    can_save: bool,
) -> str:
    """Return what can be done next; `rows` are those of videos, `others` of all other jobs."""
    steps: list[str] = []
    open_ids = count["running"] + count["unknown"]
    if open_ids:
        ids = count_of(open_ids, "id that has not ended", "ids that have not ended")
        steps.append(f"Call wait_for_generations again with only the {ids}.")
    completed = [row for row in rows if row.status == "COMPLETED"]
    saved = [row.saved_as is not None for row in completed]
    if all(saved):
        # What is there need not be saved again.
        can_save = False
    if any(row.output_url for row in rows):
        ways = (
            "preview_generation shows one and download_generation saves it; or give"
            if can_save
            else "preview_generation shows one; give"
        )
        steps.append(f"{ways} the user each output_url letter for letter.")
    elif count["completed"] > sum(row.status == "COMPLETED" for row in others) and not tells_urls:
        saves = " and download_generation saves it" if can_save else ""
        steps.append(f"By its generation_id, preview_generation shows one{saves}.")
    if any(row.kind == SPEECH and row.status == "COMPLETED" for row in others):
        steps.append("The same create_speech call saves a speech that is COMPLETED, and pays nothing.")
    if any(saved):
        steps.append("Where saved_as stands, it was saved there.")
    if tells_urls and any(not row.output_url for row in completed):
        steps.append("A COMPLETED row without output_url: get_generation gives it.")
    if count["strange"]:
        have = count_of(count["strange"], "job has", "jobs have")
        steps.append(f"{have} a status that is not known here: get_generation says more.")
    kinds = [row.kind for row in others if row.kind is not None]
    steps += [_HOW_TOLD[kind] for kind in dict.fromkeys(kinds) if kind in _HOW_TOLD]
    is_told_elsewhere = not rows and all(kind in _HOW_TOLD for kind in kinds)
    if not is_told_elsewhere and (count["failed"] or count["error"]):
        steps.append("get_generation tells why one failed, and what to change.")
    if count["missing"]:
        steps.append("NOT_FOUND: this account has no such job; copy whole ids from list_generations.")
    if left_out:
        one, several = (
            "row did not fit: call again with its id",
            "rows did not fit: call again with their ids",
        )
        steps.append(f"{count_of(left_out, one, several)}.")
    return " ".join(steps)


_HOW_TOLD = {
    DIALOGUE_EDIT: "get_dialogue_edit tells what a dialogue edit sounds like, lacks, or failed for.",
    TRANSCRIPTION: "transcribe, called as before, tells the words of a transcription.",
}

_NONE_MATCH = "None match: list_generations without these arguments lists all."
_NONE_LISTED = "The API's list has none yet."
_NONE = "The API's list has none yet: estimate_cost prices one, and create_generation makes it."


def list_unresolved(entries: Sequence[Entry]) -> list[str] | None:
    """Return creates of unknown outcome, a line for each, or None where there are none."""
    return [
        f"ledger_id {entry.id}, sent {_timestamp(datetime.fromtimestamp(entry.first_sent_at, UTC))}"
        f"{f', the API named {format_id(entry.named_id)}' if entry.named_id else ''}: "
        f"{safe(entry.summary, _TEXT_LIMIT)}{'' if can_be_found(entry.kind) else _LOST}"
        for entry in entries[:_UNRESOLVED_SHOWN]
    ] or None


def creates_in_doubt(count: int) -> str:
    """Return that so many creates have an unknown outcome."""
    return f"{count_of(count, 'create has', 'creates have')} an unknown outcome"


def advise_unresolved(entries: Sequence[Entry]) -> str:
    """Return what can be done about creates of unknown outcome."""
    tools = " or ".join(dict.fromkeys(entry.tool for entry in entries))
    return (
        f"{creates_in_doubt(len(entries))}: the same {tools} call looks for its job and pays nothing "
        f"twice. Or the user settles it with {ledger_command('show')} and its ledger_id."
    )


def list_next_step(
    rows: Sequence[GenerationRow],
    *,
    cursor: str | None,
    narrowed: bool,
    unreadable: int,
    unresolved: Sequence[Entry] = (),
    ledger_fault: LedgerError | None = None,
) -> str:
    steps: list[str] = []
    if ledger_fault is not None:
        steps.append(ledger_fault.next_step)
    if unresolved:
        steps.append(advise_unresolved(unresolved))
    if unreadable:
        are_left_out = f"could not be read and {'is' if unreadable == 1 else 'are'} left out"
        steps.append(f"{count_of(unreadable, 'entry', 'entries')} of the API's list {are_left_out}.")
    if rows:
        steps.append("get_generation with a generation_id gives its output URL or its error.")
    elif not unreadable:
        # Where one may have been made all the same, a new one is not what to do next.
        may_be_one = unresolved or ledger_fault is not None
        steps.append(_NONE_MATCH if narrowed else _NONE_LISTED if may_be_one else _NONE)
    if cursor:
        steps.append(
            f"For older ones, and the same arguments otherwise, call list_generations with cursor {cursor}."
        )
    return " ".join(steps)


def _word(text: str | None) -> str | None:
    return safe(text, _WORD_LIMIT) if text else None


def whole_url(url: str | None) -> str | None:
    # It is shown letter for letter, so it must be what a URL is: one word, and no text to be read.
    web = url and url.lower().startswith(("https://", "http://"))
    fits = web and url and " " not in url and url == clean(url, _URL_LIMIT)
    return url if fits else None


def _timestamp(moment: datetime | None) -> str | None:
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
    except OverflowError:
        return None
