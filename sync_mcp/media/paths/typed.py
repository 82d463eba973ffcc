"""The path that a user typed or pasted, as a path of this machine, and a path as a message names it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import unquote

from sync_mcp.errors import FileRefused
from sync_mcp.texts import clean, unwrap

WINDOWS = os.name == "nt"
_PATH_LIMIT = 4096
DISPLAY_LIMIT = 120
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):(?P<rest>//.*)", re.IGNORECASE | re.DOTALL)
_FILE_URL = re.compile(r"//(?:localhost|127\.0\.0\.1|\[::1\])?(?P<path>/.*)", re.IGNORECASE | re.DOTALL)
# Where a chat's own machine keeps what was attached to it, or made there.
OF_A_CHAT = re.compile(r"(?:sandbox:)?/mnt/(?:user-data|data)(?:/|$)|attachment:", re.IGNORECASE)
OF_WINDOWS = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
# As a shell writes a name that a file was dragged into it by.
_ESCAPED = re.compile(r"\\([^\w./-])", re.ASCII)
_OTHER_MACHINE = re.compile(r"[\\/]{2}")


def plain_path(path: str) -> str:
    """Return the path that a text means, which may have been pasted: quoted, escaped, a file:// URL.

    Raises:
        FileRefused: it can be no path of this machine.
    """
    text = path.strip()
    if len(text) > _PATH_LIMIT:
        raise _no_path(text, "is too long for a path")
    bare = unwrap(text)
    is_wrapped = bare != text
    url = None if OF_A_CHAT.match(bare) else _URL.fullmatch(bare)
    if url:
        local = _FILE_URL.fullmatch(url["rest"]) if url["scheme"].lower() == "file" else None
        if local is None:
            raise _no_path(
                text,
                "is no path of this machine",
                next_step="Give what is on the web as url, not as path, or ask the user for the file.",
            )
        text = unquote(local["path"], errors="surrogateescape")
        if WINDOWS and re.match(r"/[a-z]:", text, re.IGNORECASE):
            text = text[1:]
    elif is_wrapped:
        text = bare
    elif not WINDOWS and not _OTHER_MACHINE.match(text):
        text = _ESCAPED.sub(r"\1", text)
    if not text.strip():
        raise _no_path(text, "The path is empty")
    if "\0" in text:
        raise _no_path(text, "has a NUL in it, as no path can")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise _no_path(text, "has characters that no path can have") from None
    return text


def _no_path(text: str, why: str, *, next_step: str = "Give path, a file on the user's disk.") -> FileRefused:
    shown = display_text(text)
    return FileRefused(
        f"{shown} {why}." if shown else f"{why}.", code="file_not_allowed", next_step=next_step
    )


def absolute_path(text: str) -> Path:
    """Return the absolute path without `~` and `..`, which are taken as they are written.

    `..` goes back in the text and not on the disk, so that what lies elsewhere makes no difference.

    Raises:
        OSError: it is relative, and the working folder is gone.
    """
    home = home_of_user() if re.match(r"~(?:$|[/\\])" if WINDOWS else r"~(?:$|/)", text) else None
    return path_without_dots(f"{home}{text[1:]}" if home else text)


def is_name_alone(text: str) -> bool:
    """Return whether a path is the name of a file, without any folder."""
    name = PureWindowsPath(text) if WINDOWS else PurePath(text)
    return text not in ("~", ".", "..") and text == name.name


def path_without_dots(path: str) -> Path:
    """Return an absolute path in which `..` went back in the text; no link is followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib keeps `..`, or follows links


def is_network(text: str) -> bool:
    """Return whether a path begins as one of another machine does, with two slashes."""
    return _OTHER_MACHINE.match(text) is not None


def home_of_user() -> Path | None:
    """Return the user's home folder; None where nobody knows it."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand_folders(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders as absolute paths; below a home folder that nobody knows there is none."""
    home = home_of_user()
    paths = [
        home and home.joinpath(*folder.parts[1:]) if folder.parts[:1] == ("~",) else folder
        for folder in folders
    ]
    return tuple(dict.fromkeys(path_without_dots(str(path)) for path in paths if path))


def display_text(text: str) -> str:
    """Return what a user typed as it stands in a message: on one line, and cut where it is long."""
    return clean(text, DISPLAY_LIMIT)


def display_path(path: Path) -> str:
    """Return a path with `~` for the home folder."""
    home = home_of_user()
    below = home is not None and path.is_relative_to(home) and path.relative_to(home)
    return str(Path("~", below)) if below else str(path)
