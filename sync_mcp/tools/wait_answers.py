"""How several jobs are told that were waited for, of whichever kind, and what can be done next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from sync_mcp.api.models import RUNNING_STATUSES, Generation
from sync_mcp.errors import APIStatusError, APITimeoutError, NotVisibleYet, SyncError, is_unknown_id
from sync_mcp.payments.costs import Cost
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import count_of, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.generation_answers import (
    BATCH,
    DIALOGUE_EDIT,
    SPEECH,
    TRANSCRIPTION,
    AwaitedRow,
    WaitAnswer,
)
from sync_mcp.tools.job_answers import (
    ROWS_CHARACTERS,
    TOLD_LIMIT,
    fit,
    length_of,
    tell_cost,
    tell_entry,
    tell_word,
    whole_url,
)

_URL_FIELD_CHARACTERS = len(',"output_url":""')


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
        tell_entry(row, entry)
        if cost is not None:
            tell_cost(row, cost.usd, None)
        if _state(outcomes.get(row.generation_id)) == "failed":
            _tell_charge(row, entry, cost)
    total = _sum_of_all([row.cost_usd for row in rows])
    count = Counter(_state(outcomes.get(id)) for id in ids)
    videos = Counter(_state(outcomes.get(id)) for id in ids if id not in kinds)
    fitting = fit(rows)
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
            videos,
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
        status=safe(outcome.status, TOLD_LIMIT),
        progress_percent=finite(progress_percent),
        api_code=tell_word(outcome.error_code),
    )


def _put_urls(rows: Sequence[AwaitedRow], outcomes: Mapping[str, Generation | SyncError]) -> None:
    """Put the output URLs into the rows, as many as fit."""
    room = ROWS_CHARACTERS - sum(map(length_of, rows))
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
    videos: Mapping[str, int],
    rows: Sequence[AwaitedRow],
    others: Sequence[AwaitedRow],
    *,
    left_out: int,
    tells_urls: bool,
    can_save: bool,
) -> str:
    """Return what can be done next.

    `videos` counts those alone that are no jobs of another kind, `rows` are theirs, `others` of all others.
    """
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
    elif videos["completed"] and not tells_urls:
        saves = " and download_generation saves it" if can_save else ""
        steps.append(f"By its generation_id, preview_generation shows one{saves}.")
    ended = [row.kind for row in others if row.kind and row.status not in RUNNING_STATUSES]
    steps += [HOW_TOLD[kind] for kind in dict.fromkeys(ended)]
    if any(saved):
        steps.append("Where saved_as stands, it was saved there.")
    if tells_urls and any(not row.output_url for row in completed):
        steps.append("A COMPLETED row without output_url: get_generation gives it.")
    if videos["strange"]:
        have = count_of(videos["strange"], "job has", "jobs have")
        steps.append(f"{have} a status that is not known here: get_generation says more.")
    if videos["failed"] or videos["error"]:
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


HOW_TOLD = {
    SPEECH: "The same create_speech call saves a speech that is COMPLETED, and pays nothing.",
    DIALOGUE_EDIT: "get_dialogue_edit tells what a dialogue edit sounds like, lacks, or failed for.",
    TRANSCRIPTION: "transcribe, called as before, tells the words of a transcription.",
    BATCH: "get_batch tells which rows of a batch have no video; get_batch with path saves its results.",
}
"""Which tool tells more of a job that is no generation."""
