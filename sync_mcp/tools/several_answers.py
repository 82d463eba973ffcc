"""How several requests are told that are made together: their faults, their prices, and what came of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from sync_mcp.api.models import RUNNING_STATUSES, Generation
from sync_mcp.errors import (
    APIStatusError,
    AuthenticationError,
    ConcurrencyLimitError,
    ConfigurationError,
    FileRefused,
    InvalidRequestError,
    LedgerError,
    LimitReached,
    NotVisibleYet,
    OutcomeUnknown,
    SyncError,
    UnderWay,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.attempt import Attempt
from sync_mcp.payments.call import Made
from sync_mcp.payments.consent import Reason
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.together import Found, Outlook
from sync_mcp.texts import ID_LIMIT, REASON_LIMIT, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_answers import OneMade, SeveralAnswer
from sync_mcp.tools.generation_arguments import USUAL_WAIT_SECONDS
from sync_mcp.tools.job_answers import TOLD_LIMIT, tell_word
from sync_mcp.tools.limit_words import NOT_ROUND_IT, limit_message
from sync_mcp.tools.paid_calls import approval_of, tell_how
from sync_mcp.tools.question import ways_on
from sync_mcp.tools.remedies import next_step

Outcome = Made[Generation] | SyncError
"""What came of one of the creates."""

_TOOL = "create_generations"
_FAULTS_TOLD = 20
_STEPS_TOLD = 3
_NOTES_TOLD = 8
_NOTE_LIMIT = 240
_WHY_LIMIT = 160
_SAME_CALL = "make exactly this call again"


def check_faults(faults: Mapping[int, SyncError]) -> None:
    """Raise where requests cannot be made, by their indexes: one error that says what is wrong with which.

    Raises:
        SyncError: it is of the kind of the first of them; what only takes its time comes last.
    """
    refused = {number: error for number, error in sorted(faults.items()) if not isinstance(error, UnderWay)}
    if not refused:
        for error in faults.values():
            raise error
        return
    every = list(refused.values())
    lines = _by_number((sentence, number) for number, one in refused.items() for sentence in _sentences(one))
    more = len(lines) - _FAULTS_TOLD
    told = [*lines[:_FAULTS_TOLD], *([f"There are {more} more faults."] if more > 0 else [])]
    steps = " ".join(dict.fromkeys(error.next_step for error in every if error.next_step))
    of_all = {type(error) for error in every}
    if InvalidRequestError in of_all and of_all <= {InvalidRequestError, FileRefused}:
        raise InvalidRequestError(told).advise(message=" ".join(told), next_step=steps)
    first = next((one for one in every if not isinstance(one, InvalidRequestError | FileRefused)), every[0])
    if isinstance(first, LimitReached):
        # Each says its own figures.
        first = LimitReached(" ".join(told), limit=first.limit).advise(retryable=first.retryable)
        raise first.advise(message=" ".join(told))
    raise first.advise(message=" ".join(told), next_step=steps)


def _sentences(error: SyncError) -> Sequence[str]:
    match error:
        case InvalidRequestError():
            return error.faults
        case LimitReached():
            return [limit_message(error)]
        case _:
            return [error.message]


def tell_dry_run(
    context: CallContext,
    outlook: Outlook,
    reasons: Sequence[Reason],
    quote_id: str | None,
    notes: Sequence[Sequence[str]],
) -> SeveralAnswer:
    """Return what the requests would cost, and what their creates would meet with."""
    rows = [_row_of_outlook(outlook, number) for number in _each_once(outlook)]
    made_out = outlook.attempts
    answer = SeveralAnswer(
        made=0,
        reused=sum(bool(row.reused) for row in rows) or None,
        estimated_total_usd=_dollars(outlook.total.usd) if made_out else None,
        asks=" ".join(reason.text for reason in reasons) or None,
        quote_id=quote_id,
        generations=rows,
        note=_tell_notes(outlook, notes),
        next_step="",
    )
    if outlook.refusal is not None:
        answer.would_be_refused = limit_message(outlook.refusal)
        answer.next_step = (
            "Nothing was started, and all of it would be refused. Tell the user what stands against it. "
            f"{NOT_ROUND_IT}: fewer requests, or a cheaper model, are theirs to choose."
        )
        return answer
    nobody_agrees = approval_of(context).nobody_agrees
    if reasons and nobody_agrees is not None:
        refused = f"Nothing was started, and {_TOOL} would refuse it: {nobody_agrees}."
        answer.next_step = f"{refused} {ways_on(reasons) or 'Tell the user.'}"
        return answer
    steps = ["Nothing was started."]
    if not made_out:
        steps.append(f"{_TOOL} without dry_run gives back what was made before, and pays nothing.")
    else:
        what = "that the total is unknown" if outlook.total.usd is None else "the total"
        steps.append(f"Tell the user {what}; if they agree, the same call without dry_run makes all of it.")
    if quote_id is not None:
        good = "once, for ten minutes" if len(made_out) == 1 else "for an hour, once for each"
        steps.append(f"Only with their agreement, add quote_id: it is good {good}.")
    elif reasons and context.user.can_be_asked:
        steps.append("The user is then asked by the host's own form.")
    answer.next_step = " ".join(steps)
    return answer


def several_answer(
    context: CallContext,
    outlook: Outlook,
    outcomes: Mapping[int, Outcome],
    stopped: SyncError | None,
    notes: Sequence[Sequence[str]],
) -> SeveralAnswer:
    """Return what came of each request; one without an outcome was not begun, for `stopped` or for time."""
    rows = [_row_of_outcome(outlook, number, outcomes.get(number), stopped) for number in _each_once(outlook)]
    made = [one for one in outcomes.values() if isinstance(one, Made)]
    new = [one for one in made if not one.reused]
    prices = [one.price_usd for one in new]
    known = [price for price in prices if price is not None]
    unknown = sum(row.status in ("UNKNOWN", "NOT_VISIBLE") for row in rows)
    return SeveralAnswer(
        made=len(new),
        reused=len(made) - len(new) or None,
        unknown=unknown or None,
        not_made=len(rows) - len(made) - unknown or None,
        estimated_total_usd=float(sum(known, Decimal(0))) if known and len(known) == len(prices) else None,
        generations=rows,
        note=_tell_notes(outlook, [*notes], outcomes),
        next_step=_after_create(context, rows, outcomes, stopped),
    )


def _each_once(outlook: Outlook) -> list[int]:
    return [number for number in range(len(outlook.calls)) if number not in outlook.same_as]


def _about(outlook: Outlook, number: int) -> str:
    return safe(outlook.calls[number].intention.about, TOLD_LIMIT)


def _row_of_outlook(outlook: Outlook, number: int) -> OneMade:
    found: Found = outlook.found[number]
    row = OneMade(request=number + 1, about=_about(outlook, number), status="CHECKED")
    match found:
        case Attempt():
            row.estimated_cost_usd = _dollars(found.price.usd)
            if found.price.usd is None:
                row.why = safe(f"The price is unknown: {found.price.note}.", REASON_LIMIT)
        case Entry():
            row.status = "UNKNOWN"
            row.why = f"It was sent before (ledger entry {found.id}): {_TOOL} looks for its job first."
        case SyncError():
            _put_failure(row, found)
        case _:
            _put_job(row, found)
    return row


def _row_of_outcome(
    outlook: Outlook, number: int, outcome: Outcome | None, stopped: SyncError | None
) -> OneMade:
    row = OneMade(request=number + 1, about=_about(outlook, number), status="NOT_MADE")
    if _is_left(outcome, stopped):
        # What stood in the way of all is told once, by the next step.
        return row
    if isinstance(outcome, SyncError):
        _put_failure(row, outcome)
    elif outcome is not None:
        _put_job(row, outcome)
        row.estimated_cost_usd = _dollars(outcome.price_usd)
    return row


def _put_job(row: OneMade, made: Made[Job] | Made[Generation]) -> None:
    row.generation_id = safe(made.job.id, ID_LIMIT)
    row.status = safe(made.job.status, TOLD_LIMIT)
    row.reused = made.reused or None


def _put_failure(row: OneMade, error: SyncError) -> None:
    row.error_code, row.api_code = error.code, tell_word(error.api_code)
    message = limit_message(error) if isinstance(error, LimitReached) else error.message
    row.why = safe(message, _WHY_LIMIT)
    row.api_says = safe(error.api_says, _WHY_LIMIT) or None
    if isinstance(error, NotVisibleYet):
        row.generation_id, row.status = error.generation_id or None, "NOT_VISIBLE"
    elif error.money_spent != "no":
        row.status = "UNKNOWN"
    elif isinstance(error, UnderWay):
        row.status = "UPLOADING"
    elif isinstance(error, APIStatusError) and not error.retryable:
        row.status = "REFUSED"


def _after_create(
    context: CallContext,
    rows: Sequence[OneMade],
    outcomes: Mapping[int, Outcome],
    stopped: SyncError | None,
) -> str:
    """Return what can be done next."""
    count = Counter(row.status for row in rows)
    running = sum(row.status in RUNNING_STATUSES for row in rows)
    steps: list[str] = []
    if running:
        ids = (
            "generation_id of the one that runs"
            if running == 1
            else f"generation_id of the {running} that run"
        )
        steps.append(f"Call wait_for_generations with the {ids}.")
    if count["COMPLETED"]:
        saves = "download_generation saves" if context.can_save else "get_generation gives the URL of"
        steps.append(f"{saves} what is COMPLETED.")
    left = sum(_is_left(outcomes.get(row.request - 1), stopped) for row in rows)
    if left:
        steps.append(_advise_left(left, stopped))
    if count["UPLOADING"]:
        steps.append(f"UPLOADING goes on: {_SAME_CALL} in a while, it joins.")
    if count["UNKNOWN"]:
        steps.append(_advise_unknown(outcomes))
    steps += _advise_refused(rows, outcomes, stopped)
    return " ".join(steps) or "Nothing was made."


def is_about_all(error: SyncError) -> bool:
    """Return whether what one create was told foretells the same of the next."""
    if isinstance(error, OutcomeUnknown | UnderWay) or error.money_spent != "no":
        return False
    return error.retryable or isinstance(error, AuthenticationError | ConfigurationError | LedgerError)


def _is_left(outcome: Outcome | None, stopped: SyncError | None) -> bool:
    """Return whether a request was not made for what stood in the way of all, or for time."""
    if outcome is None:
        return True
    return stopped is not None and isinstance(outcome, SyncError) and is_about_all(outcome)


def _advise_left(left: int, stopped: SyncError | None) -> str:
    are = f"{left} {'is' if left == 1 else 'are'} not made"
    if stopped is None:
        return f"{are}, for this call's time was up: {_SAME_CALL}; what is made is not paid again."
    if isinstance(stopped, ConcurrencyLimitError):
        return (
            f"{are}: as many jobs run as the plan allows. Once one has ended (wait_for_generations with "
            f'until "any"), {_SAME_CALL} with wait_seconds {USUAL_WAIT_SECONDS}: what is made is not paid '
            "again."
        )
    return f"{are}: {stopped.message} {next_step(stopped, _TOOL)}"


def _advise_unknown(outcomes: Mapping[int, Outcome]) -> str:
    waits = [one.retry_after_seconds for one in outcomes.values() if isinstance(one, OutcomeUnknown)]
    seconds = max((wait for wait in waits if wait is not None), default=None)
    soon = "" if seconds is None else f" in {seconds:.0f} s"
    return (
        f"UNKNOWN may have been made: {_SAME_CALL}{soon}, which looks for it, and sends it again under the "
        "same key alone: nothing is paid twice. Make no other one of it; the user can settle it: "
        f"{ledger_command('show')}."
    )


def _advise_refused(
    rows: Sequence[OneMade], outcomes: Mapping[int, Outcome], stopped: SyncError | None
) -> list[str]:
    """Return what can be done about those that were refused for themselves, the same once."""
    steps: list[tuple[str, int]] = []
    for row in rows:
        outcome = outcomes.get(row.request - 1)
        if not isinstance(outcome, SyncError) or _is_left(outcome, stopped):
            continue
        if row.status in ("REFUSED", "NOT_MADE", "NOT_VISIBLE"):
            steps.append((next_step(outcome, _TOOL), row.request - 1))
    told = _by_number(steps)
    more = len(told) - _STEPS_TOLD
    also = ["error_code and why of a row say what else was wrong."] if more > 0 else []
    return [*told[:_STEPS_TOLD], *also]


def _tell_notes(
    outlook: Outlook, notes: Sequence[Sequence[str]], outcomes: Mapping[int, Outcome] | None = None
) -> str | None:
    """Return what is to be known of the requests besides, each once with their numbers."""
    twins = [
        f"Request {number + 1} is the same as request {first + 1}: it is one job. To make it twice give one "
        "of them another take."
        for number, first in outlook.same_as.items()
    ]
    told: list[tuple[str, int]] = []
    for number in _each_once(outlook):
        told += [(note, number) for note in notes[number]]
        found, outcome = outlook.found[number], (outcomes or {}).get(number)
        if outcomes is None and isinstance(found, Attempt) and found.price.usd is not None:
            told += [(f"Price: {note}.", number) for note in [found.price.note] if note]
        if isinstance(outcome, Made):
            hows = [] if outcome.how == "was there" else [*tell_how(outcome)]
            told += [(note, number) for note in [*hows, *outcome.notes]]
            price = outcome.price
            if price is not None and price.note:
                is_ours = outcome.price_usd in (None, price.usd)
                note = price.note if is_ours else "as the API measured the files"
                told.append((f"Price: {note}.", number))
    lines = [*twins, *(safe(line, _NOTE_LIMIT) for line in _by_number(told))]
    more = len(lines) - _NOTES_TOLD
    return " ".join([*lines[:_NOTES_TOLD], *([f"And {more} more notes."] if more > 0 else [])]) or None


def _by_number(told: Iterable[tuple[str, int]]) -> list[str]:
    """Return sentences, each once, with the requests before it that it is about."""
    numbers: dict[str, list[int]] = {}
    for sentence, number in told:
        numbers.setdefault(sentence, []).append(number + 1)
    return [f"{_name(of)}: {sentence}" for sentence, of in numbers.items()]


def _name(numbers: Sequence[int]) -> str:
    """Return requests by their numbers, as a sentence begins: "Request 3", "Requests 1 to 4, 7"."""
    if len(numbers) == 1:
        return f"Request {numbers[0]}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [str(a) if a == b else f"{a} to {b}" if b > a + 1 else f"{a}, {b}" for a, b in runs]
    return f"Requests {', '.join(parts)}"


def _dollars(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
