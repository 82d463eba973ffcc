"""The rows of a plan: made of what its lines come to, each under a name of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import cast

from sync_mcp.api.models import Json
from sync_mcp.campaigns.faults import Faults
from sync_mcp.campaigns.outputs import Names, invent_output
from sync_mcp.campaigns.rows import Row
from sync_mcp.campaigns.table import Line
from sync_mcp.payments.canonical import sha256_of
from sync_mcp.payments.limits import dollars
from sync_mcp.texts import clean, count_of, safe

_NOTES = 5
_ABOUT_SHOWN = 80
_FAULT_SHOWN = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What a line comes to, before its video has a name; `fault` is why nothing can be made of it."""

    line: Line
    output: str | None
    about: str
    language: str
    request: Json
    digest: str
    price_usd: Decimal | None
    fault: str | None = None


def refuse(line: Line, faults: Sequence[str]) -> Priced:
    """Return what a line comes to that cannot be made as it is: a row that costs nothing and says why."""
    place = (line.video or line.image or "").partition("?")[0].replace("\\", "/")
    fault = safe(" ".join(faults), _FAULT_SHOWN)
    return Priced(
        line=line,
        output=None,
        about=clean(PurePath(place).name, _ABOUT_SHOWN) or line.place,
        language="",
        request=cast(Json, {"body": {}, "files": []}),
        digest=sha256_of(["refused", line.number, fault]),
        price_usd=Decimal(0),
        fault=fault,
    )


def make_rows(
    id: str, priced: Sequence[Priced], faults: Faults, *, keep_going: bool = False
) -> tuple[list[Row], list[str]]:
    """Return the rows, and which lines are one; a line that asks for what an earlier one does is none.

    What is found to be wrong with a line is noted in `faults`, or with `keep_going` in a row of its own.
    """
    names = Names(each.output for each in priced if each.output is not None)
    rows: list[Row] = []
    firsts: dict[str, Priced] = {}
    takers: dict[str, Priced] = {}
    notes: list[str] = []
    for each in priced:
        line, output = each.line, each.output
        taker = None if output is None else takers.setdefault(output.casefold(), each)
        if taker is not None and taker.digest != each.digest:
            fault = f"output {output} is that of {taker.line.place} too: give each its own."
            if not keep_going:
                faults.add(line, fault)
                continue
            each, output, taker = refuse(line, [fault]), None, None
        first = firsts.setdefault(each.digest, each)
        if first is not each:
            is_again = output is None or taker is not each
            end = "it is made once." if is_again else "it is made once, and saved under both names."
            notes.append(f"{line.place.capitalize()} asks for the video of {first.line.place}: {end}")
            if is_again:
                continue
        rows.append(
            Row(
                campaign=id,
                number=len(rows) + 1,
                line=line.number if line.is_in_file else None,
                about=each.about,
                language=each.language,
                request=each.request,
                digest=each.digest,
                take=line.take,
                price_usd=each.price_usd,
                state="planned" if each.fault is None else "refused",
                error=each.fault,
                output=output or names.find_free(invent_output(line, each.language)),
            )
        )
    return rows, _shorten(notes)


def _shorten(notes: list[str]) -> list[str]:
    """Return the first few of many notes alike, and how many more there are."""
    if len(notes) <= _NOTES:
        return notes
    return [*notes[: _NOTES - 1], f"So it is with {len(notes) - _NOTES + 1} more."]


def note_refused(rows: Sequence[Row]) -> list[str]:
    """Return which rows cannot be made, and why."""
    refused = [row for row in rows if row.state == "refused"]
    notes = [f"Row {row.number} ({row.clip}) cannot be made: {row.error}" for row in refused]
    return _shorten(notes)


def note_left(rows: Sequence[Row]) -> list[str]:
    """Return how many rows are left as they are."""
    left = sum(row.state == "saved" for row in rows)
    told = f"{count_of(left, 'row is', 'rows are')} left as they are and not paid: their files are there."
    return [told] if left else []


def note_unpriced(rows: Sequence[Row], most_usd: Decimal | None) -> list[str]:
    """Return what is to be known of rows whose prices nobody can tell, each of which counts `most_usd`."""
    unpriced = sum(row.price_usd is None for row in rows)
    if not unpriced or most_usd is None:
        return []
    counts = "counts" if unpriced == 1 else "each count"
    return [
        f"{count_of(unpriced, 'row')} without a known price {counts} {dollars(most_usd)}: what is to be paid "
        "is known once it is made."
    ]


def note_over_limit(rows: Sequence[Row], per_job_usd: Decimal | None) -> list[str]:
    """Return how many rows cost more than one job may: they would be refused at their turns."""
    if per_job_usd is None:
        return []
    over = sum(row.price_usd is not None and row.price_usd > per_job_usd for row in rows)
    costs = count_of(over, "row costs", "rows cost")
    return [f"{costs} more than one job may, {dollars(per_job_usd)}, and will not be made."] if over else []
