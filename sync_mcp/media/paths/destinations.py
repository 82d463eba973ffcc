"""The name that a file gets where it is written: one that every system takes, and that misleads nobody."""

import os
import re
import stat
import unicodedata
from pathlib import Path

from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.inside import DEVICE_NAME, Place, kind_of_mode
from sync_mcp.media.paths.opening import walk
from sync_mcp.media.paths.typed import display_path, display_text

_NAME_LIMIT_BYTES = 240
_FORBIDDEN = re.compile(r"[<>:\"/\\|?*]")
# Marks that turn the direction of what is read: a name would look like another.
_TURNING = re.compile(r"[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


def file_in(folder: Place, name: str) -> Path:
    """Return the path of a file called `name` in `folder`, where that can be a file.

    Raises:
        Outside: the folder is hidden.
        OSError: it is no folder any more.
        FileRefused: the name will not do, or what bears it is no file.
    """
    check_file_name(name)
    path = folder.path / name
    with walk(folder.root, folder.parts):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return path
    if not stat.S_ISREG(mode):
        raise FileRefused(f"{display_path(path)} is {kind_of_mode(mode)}.", code="file_not_writable")
    return path


def add_ending(name: str, ending: str) -> str:
    """Return a name with this ending, such as ".mp4": added where it has another, or none."""
    return name if name.lower().endswith(ending.lower()) else f"{name}{ending}"


def check_file_name(name: str) -> None:
    """Refuse a name that is hidden, misleading, or forbidden on any system that the file may be copied to.

    Raises:
        FileRefused: `file_not_writable`.
    """
    wrong = ""
    if name.startswith("."):
        wrong = "is hidden"
    elif found := _FORBIDDEN.search(name):
        wrong = f"has a {found.group()} in it, which not every system takes"
    elif _TURNING.search(name) or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        wrong = "has characters in it that cannot be seen"
    elif DEVICE_NAME.fullmatch(name):
        wrong = "is the name of a device on Windows"
    elif len(os.fsencode(name)) > _NAME_LIMIT_BYTES:
        wrong = "is too long"
    elif name != name.strip() or name.endswith(".") or not name:
        wrong = "begins or ends in a space or ends in a dot"
    if wrong:
        raise FileRefused(
            f"The name {display_text(name)} {wrong}.",
            code="file_not_writable",
            next_step="Name the file otherwise.",
        )
