"""The report of a campaign: a table for spreadsheets, and a page to look at, both written whole."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePath

from sync_mcp.campaigns.outputs import CSV_NAME, HTML_NAME
from sync_mcp.campaigns.report_page import GENERATOR, draw_page
from sync_mcp.campaigns.rows import Campaign, Money, Row
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.small_files import replace_file
from sync_mcp.media.tables import save_table
from sync_mcp.texts import ID_LIMIT, MESSAGE_LIMIT, clean, safe, visible

COLUMNS = (
    *("row", "language"),
    *("clip", "take", "generation_id", "status", "estimate_usd", "cost_usd", "output", "error"),
)
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Report:
    """Where a report lies."""

    csv: Path
    html: Path


def write_report(
    campaign: Campaign, rows: Sequence[Row], money: Money, folder: Path, *, now: float
) -> Report:
    """Write the report of a campaign into `folder`, in the place of the one before; blocks.

    The page shows the pictures that `make_sheets` has drawn in that folder by now. `rows` are all of the
    campaign's, in their order; `now` is in seconds since 1970.

    Raises:
        FileRefused: `file_not_writable`: the folder cannot be made or written to, or the report is open in a
            program that lets nobody else write it. The page is written first, so a table that is open in a
            spreadsheet leaves it up to date.
    """
    folder = Path(os.path.realpath(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(
            folder, f"The folder of the report cannot be made: {error.strerror or 'it has no such name'}."
        ) from error
    report = Report(folder / CSV_NAME, folder / HTML_NAME)
    page = draw_page(campaign, rows, money, folder, table=CSV_NAME, now=now)
    _write(folder, lambda: replace_file((piece.encode() for piece in page), report.html))
    roots = MediaRoots([folder], None)
    _write(folder, lambda: save_table(COLUMNS, _lines(rows), report.csv, roots, overwrite=True))
    return report


def is_report(path: Path) -> bool:
    """Return whether a file is the report of a campaign, and may be written anew; blocks."""
    own = {CSV_NAME: ",".join(COLUMNS), HTML_NAME: f'name="generator" content="{GENERATOR}"'}
    try:
        if path.name not in own or not path.is_file():
            return False
        with path.open("rb") as file:
            return own[path.name].encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _write(folder: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except FileRefused as error:
        raise _unwritable(folder, error.message) from error


def _unwritable(folder: Path, message: str) -> FileRefused:
    place = clean(str(folder), MESSAGE_LIMIT // 2)
    return FileRefused(
        message,
        code="file_not_writable",
        next_step=f"Close it where it is open, and check that {place} may be written to and has room.",
    )


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        yield (
            str(row.number),
            clean(row.language, ID_LIMIT),
            row.clip,
            str(row.take),
            clean(row.generation_id or "", ID_LIMIT),
            row.state,
            _exact(row.price_usd),
            _exact(row.cost_usd),
            visible(PurePath(row.saved_as).name) if row.saved_as else "",
            safe(row.error or "", 2 * MESSAGE_LIMIT),
        )


def _exact(amount: Decimal | None) -> str:
    """Return an amount for programs; nothing where it is not known."""
    return "" if amount is None else f"{amount:f}"
