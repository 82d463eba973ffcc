"""How jobs are told: one whole, several in rows, and what can be done next."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Protocol, TypeVar

import anyio
from pydantic import BaseModel

from sync_mcp.api.links import expiry
from sync_mcp.api.models import RUNNING_STATUSES, Generation
from sync_mcp.errors import (
    LedgerError,
    SyncError,
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
    GenerationAnswer,
    GenerationRow,
)
from sync_mcp.tools.generation_arguments import USUAL_WAIT_SECONDS
from sync_mcp.tools.withheld import say_no_video_is_made

logger = logging.getLogger("sync_mcp.tools")

_TEXT_LIMIT = 300
_COST_SECONDS = 6.0
"""How long an answer is held up to say what jobs did cost."""
TOLD_LIMIT = 80
"""Characters that are told of a word such as a status, or of a name."""
_URL_LIMIT = 8000
ROWS_CHARACTERS = 9000
"""Characters of the rows of one answer."""
_UNRESOLVED_SHOWN = 5
_LOST = " (no call finds it out: the user settles it)"

_RowT = TypeVar("_RowT", bound=BaseModel)


COPY_THE_ID = "Copy the whole generation_id from list_generations, or from create_generation."


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


def tell_entry(answer: _OfLedger, entry: Entry | None) -> None:
    """Put what the ledger knows of a job into an answer: what it is about, and what it costs."""
    if entry is None:
        return
    answer.about, answer.saved_as = tell_word(entry.title), entry.saved_as
    tell_cost(answer, entry.cost_usd, entry.estimate_usd)


def tell_cost(answer: _OfLedger, cost_usd: Decimal | None, estimate_usd: Decimal | None) -> None:
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
        status=safe(generation.status, TOLD_LIMIT),
        model=tell_word(generation.model),
        created_at=_timestamp(generation.created_at),
        next_step="",
    )
    tell_entry(answer, entry)
    if generation.status == "COMPLETED":
        is_asked_for = entry is None and not has_just_ended
        cost = (await find_costs(context, [generation])).get(generation.id) if is_asked_for else None
        if cost is not None:
            tell_cost(answer, cost.usd, None)
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
        answer.api_code = tell_word(generation.error_code)
        answer.api_says = explanation.api_says or None
        answer.remedy = explanation.remedy
        answer.charged = explanation.charged
        if explanation.cost_usd is not None:
            # It may have been read after the ledger was.
            tell_cost(answer, explanation.cost_usd, None)
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


STRANGE = (
    "This status is not known here: the job may have ended, or run still. Tell the user, and look again in a "
    "while"
)
"""What is said of a job of any kind in such a status, up to how it is looked at."""
_STRANGE = (
    f"{STRANGE}; do not create it again by yourself. Once it has lasted a day and its cost is told, the same "
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
        status=safe(generation.status, TOLD_LIMIT),
        model=tell_word(generation.model),
        created_at=_timestamp(generation.created_at),
        output_file_name=tell_word(generation.output_file_name),
        api_code=tell_word(generation.error_code),
    )
    tell_entry(row, entry)
    return row


def fit_rows(page: Sequence[Generation], known: Mapping[str, Entry]) -> list[GenerationRow]:
    """Return rows of a page, as many as fit."""
    return fit([_generation_row(generation, known.get(generation.id)) for generation in page])


def fit(rows: list[_RowT]) -> list[_RowT]:
    """Return rows from the first on, as many as a host shows whole in one answer."""
    ends = accumulate(map(length_of, rows))
    return rows[: max(1, sum(end <= ROWS_CHARACTERS for end in ends))]


def length_of(row: BaseModel) -> int:
    """Return how many characters a row has in an answer."""
    return len(row.model_dump_json(exclude_none=True))


_NONE_MATCH = "None match: list_generations without these arguments lists all."
_NONE_LISTED = "The API's list has none yet."
_NONE = "The API's list has none yet: estimate_cost prices one, and create_generation makes it."


def list_unresolved(entries: Sequence[Entry]) -> list[str] | None:
    """Return creates of unknown outcome, a line for each, or None where there are none."""
    return [
        f"ledger_id {entry.id}, sent {_timestamp(datetime.fromtimestamp(entry.first_sent_at, UTC))}"
        f"{f', the API named {format_id(entry.named_id)}' if entry.named_id else ''}: "
        f"{safe(entry.summary, _TEXT_LIMIT)}{'' if can_be_found(entry) else _LOST}"
        for entry in entries[:_UNRESOLVED_SHOWN]
    ] or None


def creates_in_doubt(count: int) -> str:
    """Return that so many creates have an unknown outcome."""
    return f"{count_of(count, 'create has', 'creates have')} an unknown outcome"


def advise_unresolved(entries: Sequence[Entry]) -> str:
    """Return what can be done about creates of unknown outcome."""
    settles = f"the user settles it with {ledger_command('show')} and its ledger_id."
    tools = " or ".join(dict.fromkeys(entry.tool for entry in entries if can_be_found(entry)))
    looks = f"the same {tools} call looks for its job and pays nothing twice. Or " if tools else ""
    return f"{creates_in_doubt(len(entries))}: {looks}{settles}"


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


def tell_word(text: str | None) -> str | None:
    """Return a word of the API's, or of the user's, cleaned and bounded."""
    return safe(text, TOLD_LIMIT) if text else None


def whole_url(url: str | None) -> str | None:
    """Return a URL that is to be copied, whole; None of what is none."""
    # It is shown letter for letter, so it must be what a URL is: one word, and no text to be read.
    web = url and url.lower().startswith(("https://", "http://"))
    fits = web and url and " " not in url and url == clean(url, _URL_LIMIT)
    return url if fits else None


def _timestamp(moment: datetime | None) -> str | None:
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
    except OverflowError:
        return None
