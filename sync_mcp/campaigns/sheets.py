"""Small pictures of what was made: drawn once for each saved file, and kept beside the report."""

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import anyio

from sync_mcp.background.work import do_in_thread
from sync_mcp.campaigns.rows import Row
from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding.findings import SMALL_SHEET_BYTES
from sync_mcp.media.decoding.look import is_available, small_sheet
from sync_mcp.media.small_files import replace_file

MOST_SHEETS = 200
"""More pictures are no page that anybody looks through, nor a file that opens at once."""

_FOLDER = ".sheets"
_CANNOT_BE_DRAWN = frozenset({"file_damaged", "file_not_media", "file_too_slow"})
"""What every look at the same file ends in."""
_NOT_THERE = frozenset({"file_not_found", "file_not_readable"})

logger = logging.getLogger(__name__)


async def make_sheets(rows: Sequence[Row], folder: Path, *, limit_at_once: int = 1) -> int:
    """Draw a small sheet of each saved file that has none, at most `limit_at_once` at a time.

    It takes a second or so for each, twenty at most, and may be cancelled: what was drawn is kept in
    `folder`, beside the report. Where nothing can be decoded, or nothing be written, none is drawn.

    Returns:
        how many were drawn.
    """
    if not is_available():
        return 0
    waiting = iter(await do_in_thread(_find_without_sheet, rows, folder))
    made = 0

    async def draw() -> None:
        nonlocal made
        for video, sheet in waiting:
            try:
                await _draw(video, sheet)
            except FileRefused as error:
                if error.code in _NOT_THERE:
                    continue
                logger.warning("no more pictures for the report: %s", error)
                tasks.cancel_scope.cancel()
                return
            made += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(limit_at_once):
            tasks.start_soon(draw)
    return made


async def _draw(video: Path, sheet: Path) -> None:
    """Write the sheet of a video, an empty one where none can be drawn.

    Raises:
        FileRefused: the video is not there, or nothing can be decoded or written on this machine.
    """
    try:
        jpeg = (await small_sheet(video)).jpeg
    except FileRefused as error:
        if error.code not in _CANNOT_BE_DRAWN:
            raise
        jpeg = b""
    await do_in_thread(replace_file, [jpeg], sheet)


def have_sheets(rows: Iterable[Row]) -> list[Row]:
    """Return those of a campaign's rows, in their order, that are shown with a picture: the first saved."""
    return list(islice((row for row in rows if row.state == "saved" and row.saved_as), MOST_SHEETS))


def sheet_path(row: Row, folder: Path) -> Path | None:
    """Return where the sheet of a saved row lies once it is drawn, None where its video is gone; blocks."""
    try:
        status = Path(row.saved_as or "").stat()
    except (OSError, ValueError):
        return None
    return folder / _FOLDER / f"{row.number}-{status.st_size}-{status.st_mtime_ns}.jpg"


def read_sheet(sheet: Path) -> bytes | None:
    """Return a sheet's JPEG, empty where none can be drawn; None where it is not drawn yet; blocks."""
    try:
        with sheet.open("rb") as file:
            jpeg = file.read(SMALL_SHEET_BYTES + 1)
    except OSError:
        return None
    # The folder is the user's: what else lies there is no picture of ours.
    return jpeg if len(jpeg) <= SMALL_SHEET_BYTES and jpeg.startswith(b"\xff\xd8") else b""


def _find_without_sheet(rows: Iterable[Row], folder: Path) -> list[tuple[Path, Path]]:
    """Return the videos that have no sheet yet, each with the place of it."""
    found: list[tuple[Path, Path]] = []
    for row in have_sheets(rows):
        sheet = sheet_path(row, folder)
        if sheet is not None and not sheet.exists():
            found.append((Path(row.saved_as or ""), sheet))
    if found:
        try:
            (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("no pictures for the report: %s cannot be made: %s", _FOLDER, error.strerror)
            return []
    return found
