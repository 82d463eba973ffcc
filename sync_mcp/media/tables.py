"""Tables on the disk: CSV that is written whole, read back, and only then named."""

import csv
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sync_mcp.api.downloads import check_destination, move_into_place
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.roots import MediaRoots

_ENCODING = "utf-8-sig"
"""Its mark at the beginning tells spreadsheets which letters these are."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is worked out by spreadsheets, whoever wrote it."""


@dataclass(frozen=True, slots=True)
class SavedTable:
    """A table that was saved."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    rows: int
    """Without the head."""


def save_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    destination: Path,
    roots: MediaRoots,
    *,
    overwrite: bool = False,
) -> SavedTable:
    """Save a table as `destination`, which `roots` has given; blocks.

    No cell is a formula: one that would be begins with an apostrophe.

    Raises:
        FileRefused: there is a file by that name, or it cannot be written, or reads back otherwise.
    """
    check_destination(destination, overwrite=overwrite)
    table = [list(head), *([_as_text(cell) for cell in row] for row in rows)]
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=destination.parent)
        part = Path(name)
        with os.fdopen(descriptor, "w", encoding=_ENCODING, newline="") as file:
            csv.writer(file).writerows(table)
            file.flush()
            os.fsync(file.fileno())
            roots.check_open(file.fileno(), part)
        content = part.read_bytes()
        if list(csv.reader(content.decode(_ENCODING).splitlines(keepends=True))) != table:
            raise FileRefused(
                f"{destination.name} reads back otherwise than it was written.",
                code="file_not_writable",
                next_step="Ask the user whether the disk is sound, or name another folder.",
            )
        move_into_place(part, destination, overwrite=overwrite)
    except OSError as error:
        raise FileRefused(
            f"{destination.name} cannot be written: {error.strerror or type(error).__name__}.",
            code="file_not_writable",
            next_step="Name another file or folder.",
        ) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink()
    return SavedTable(destination, len(content), hashlib.sha256(content).hexdigest(), len(table) - 1)


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
