"""Whether a path lies inside an allowed folder, without links, and is visible there."""

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.typed import WINDOWS, display_path

_NAMES_LISTED = 2000
DEVICE_NAME = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE
)
# What stands in these is made by the system as it is read, or by whoever answers.
_NO_DISK = ("/proc", "/sys", "/dev", "/net")


class Outside(Exception):
    """It is not below an allowed folder, or it is hidden there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies, without links: `parts` below the allowed folder `root`."""

    root: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The absolute path of it."""
        return self.root.joinpath(*self.parts)


def place_below(path: Path, roots: Sequence[Path]) -> Place | None:
    """Return where an absolute path lies in `roots` by its letters, or None.

    Raises:
        Outside: it is below one of them, but hidden or of a device's name.
    """
    hidden = False
    for root in roots:
        if is_no_disk(path) and not is_no_disk(root):
            continue
        parts = _parts_below(path, root)
        if parts is None:
            continue
        if not any(map(is_hidden_name, parts)):
            return Place(root, parts)
        hidden = True
    if hidden:
        raise Outside
    return None


def _parts_below(path: Path, root: Path) -> tuple[str, ...] | None:
    if path.is_relative_to(root):
        return path.relative_to(root).parts
    # The same folder in other letters, where the file system takes them for the same.
    above, parts = path.parts[: len(root.parts)], path.parts[len(root.parts) :]
    with suppress(OSError):
        if tuple(map(fold, above)) == tuple(map(fold, root.parts)) and Path(*above).samefile(root):
            return parts
    return None


def is_no_disk(path: Path) -> bool:
    """Return whether an absolute path leads to what is made as it is read, by its letters."""
    return any(fold(f"{path}/").startswith(f"{place}/") for place in _NO_DISK)


def is_hidden_name(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or is a device of Windows there."""
    return name.startswith(".") or (WINDOWS and (":" in name or DEVICE_NAME.fullmatch(name) is not None))


def is_marked_hidden(found: os.stat_result) -> bool:
    """Return whether Windows or macOS notes that a file or folder is hidden."""
    attributes = getattr(found, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN
    return bool(attributes or getattr(found, "st_flags", 0) & getattr(stat, "UF_HIDDEN", 0x8000))


def resolve(path: Path, roots: Sequence[Path]) -> Place:
    """Follow every link in `path`.

    Raises:
        Outside: it leads out of `roots`, or to what is hidden.
    """
    try:
        place = place_below(Path(os.path.realpath(path)), roots)
    except (OSError, RecursionError):
        place = None
    if place is None:
        raise Outside
    return place


def respell(place: Place) -> Path:
    """Return the path with the names as they stand on the disk where they differ by unseen things alone.

    Systems write their names with spaces and accents of other characters than those that come back in a
    copy of them.
    """
    path = place.root
    for part in place.parts:
        if not os.path.lexists(path / part):
            same = [name for name in visible_names(path) if _normal_form(name) == _normal_form(part)]
            part = same[0] if len(same) == 1 else part
        path /= part
    return path


def visible_names(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden, 2,000 at most; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _NAMES_LISTED) if not is_hidden_name(entry.name)]
    except OSError:
        return []


def fold(name: str) -> str:
    """Return a name by which those are equal that differ in case, or in what nobody sees, alone."""
    return _normal_form(name).casefold()


def _normal_form(name: str) -> str:
    return "".join(" " if letter.isspace() else letter for letter in unicodedata.normalize("NFC", name))


def refuse_irregular(path: Path, mode: int) -> None:
    """Check by its mode that what lies at `path` is a regular file.

    Raises:
        Outside: it is a link.
        FileRefused: `file_not_readable`.
    """
    if stat.S_ISLNK(mode):
        raise Outside
    if not stat.S_ISREG(mode):
        raise FileRefused(
            f"{display_path(path)} is {kind_of_mode(mode)}.",
            code="file_not_readable",
            next_step="Name a file in it." if stat.S_ISDIR(mode) else None,
        )


def kind_of_mode(mode: int) -> str:
    """Return what has this mode, as a message says it; it is no regular file."""
    return "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"
