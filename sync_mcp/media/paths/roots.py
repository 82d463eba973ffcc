"""Which local files may be read and where files may be written: below the allowed folders, and nowhere else.

What lies outside of them gets one and the same answer, whether it is there or not.
"""

import errno
import io
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from heapq import nlargest
from itertools import islice
from pathlib import Path, PurePath, PureWindowsPath
from types import TracebackType
from typing import BinaryIO
from urllib.parse import unquote

from sync_mcp.api.formats import HEAD_BYTES, kind_of_name, media_format
from sync_mcp.errors import FileRefused
from sync_mcp.texts import clean, did_you_mean, unwrapped

_WINDOWS = os.name == "nt"

_PATH_LIMIT = 4096
_NAME_LIMIT_BYTES = 240
_SHOWN_LIMIT = 120
_FOLDERS_SHOWN = 8
_NAMES_LISTED = 2000
_NEAR_NAMES = 3
_NEAR_NAMES_COMPARED = 20
_COMPARED_LENGTH = 80
_LIKE = 0.6
_MEDIA_LISTED = 10
_LISTED_LIMIT = 60

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
# Not blocking: nobody may ever write to a pipe that was put in a file's place.
_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE = os.O_RDONLY | _NO_LINK | _NOT_BLOCKING | getattr(os, "O_BINARY", 0)
# A folder may be passed through without the right to list it.
_FOLDER = os.O_RDONLY | _NO_LINK | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):(?P<rest>//.*)", re.IGNORECASE | re.DOTALL)
_FILE_URL = re.compile(r"//(?:localhost|127\.0\.0\.1|\[::1\])?(?P<path>/.*)", re.IGNORECASE | re.DOTALL)
# Where a chat's own machine keeps what was attached to it, or made there.
_OF_A_CHAT = re.compile(r"(?:sandbox:)?/mnt/(?:user-data|data)(?:/|$)|attachment:", re.IGNORECASE)
_OF_WINDOWS = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
# As a shell writes a name that a file was dragged into it by.
_ESCAPED = re.compile(r"\\([^\w./-])", re.ASCII)
_OTHER_MACHINE = re.compile(r"[\\/]{2}")
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"[<>:\"/\\|?*]")
# Marks that turn the direction of what is read: a name would look like another.
_TURNING = re.compile(r"[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")

# What stands in these is made by the system as it is read, or by whoever answers.
_NO_DISK = ("/proc", "/sys", "/dev", "/net")
_SYSTEM = (
    *(
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/sbin",
        "/sys",
        "/usr",
    ),
    *("/System", "/Library", "/Applications", "/private/etc"),
)
_SYSTEM_VARIABLES = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)", "ProgramW6432", "ProgramData")
_EVERYBODYS = (
    *("/home", "/Users", "/mnt", "/media", "/run", "/run/media", "/Volumes", "/net", "/opt", "/srv", "/var"),
    *("/tmp", "/var/tmp", "/private", "/private/tmp", "/private/var"),  # noqa: S108 - named to keep off them
)
_OF_PROGRAMS = ("Library", "AppData", "snap")
# What lies below these belongs to services or to other users, unless it is the user's home folder or one of
# `_OF_NOBODY`.
_OF_OTHERS = ("/home", "/Users", "/root", "/var/root", "/run", "/var", "/private/var")
_OF_NOBODY = ("/run/media", "/var/tmp", "/var/folders", "/private/var/tmp", "/private/var/folders")  # noqa: S108 - work may lie there
# A disk of Windows as its Linux shows it.
_WINDOWS_DISK = re.compile(
    r"/mnt/[a-z](?:/users(?:/[^/]+)?"
    r"|/(?:windows|program files[^/]*|programdata|users/[^/]+/appdata)(?:/.*)?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class OpenMedia:
    """A media file that may be read, open for it; its content begins like a format that the API takes."""

    path: Path
    """Without links."""
    file: BinaryIO
    """Unbuffered, at its beginning."""
    name: str

    def __enter__(self) -> "OpenMedia":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


class _Outside(Exception):
    """It is not below an allowed folder, or it is hidden there."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something lies, without links: `parts` below the allowed folder `root`."""

    root: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.parts)


_ANOTHER_FILE = "Name a file in an allowed folder, or ask the user to allow this one: SYNC_MCP_MEDIA_ROOTS."
_ANOTHER_PLACE = "Name a file or a folder in an allowed folder, or ask the user to set SYNC_MCP_MEDIA_ROOTS."


class MediaRoots:
    """The allowed folders. A folder that is missing is not offered until it is there.

    Every method blocks for as long as the disk takes: call it in a worker thread.
    """

    def __init__(self, folders: Sequence[Path], download_folder: Path | None) -> None:
        """Allow reading and writing below `folders`, and writing below `download_folder`.

        Each is absolute or begins with `~`. Without any, every local path is refused.
        """
        self._folders = _expanded(folders)
        self._download_folder = next(iter(_expanded([download_folder] if download_folder else [])), None)
        self._real: dict[Path, Path] = {}

    @classmethod
    def usual(cls) -> "MediaRoots":
        """Return what is allowed where the user has set nothing."""
        return cls(usual_roots(), usual_download_folder())

    @property
    def can_save(self) -> bool:
        """Whether there is any folder that may be written to; the disk is not looked at."""
        return bool(self._writable)

    def open(self, path: str) -> OpenMedia:
        """Open a media file, named as users do: absolute, below `~`, relative, quoted, or by a file:// URL.

        Nothing is read of what is not a regular, visible file below an allowed folder.

        Raises:
            FileRefused: `file_not_allowed`, `file_not_found`, `file_not_readable`, `file_empty`,
                `file_not_media`.
        """
        _refuse_without(self._folders)
        text = _plain(path)
        shown = _shown(text)
        try:
            return self._opened(self._place(_absolute(text), self._folders, network=_is_network(text)))
        except _Outside:
            raise self._elsewhere(text) or FileRefused(
                f"{shown} is not in a folder that may be read, or is hidden there{self._near_miss(text)} "
                f"{self._allowed(self._folders)}",
                code="file_not_allowed",
                next_step=_ANOTHER_FILE,
            ) from None
        except OSError as error:
            if not _is_missing(error):
                raise _unreadable(shown, error) from error
            raise self._elsewhere(text) or FileRefused(
                f"{shown} is not there{self._near_miss(text)} {self._allowed(self._folders)}",
                code="file_not_found",
                next_step="Check the path, or ask the user where the file lies.",
            ) from None

    def _opened(self, place: "_Place") -> OpenMedia:
        try:
            return _opened(place)
        except FileRefused as error:
            if place.path.is_dir():
                self._tell_media(error, place)
            raise

    def _tell_media(self, error: FileRefused, folder: "_Place") -> None:
        """Tell which media files lie in a folder that was named in the place of one."""
        names: list[str] = []
        for name in sorted(filter(kind_of_name, _names(folder.path)), key=_folded):
            with (
                suppress(_Outside, OSError, FileRefused),
                _opened(self._place(folder.path / name, self._folders)),
            ):
                names.append(f"{clean(name, _LISTED_LIMIT)!r}")
            if len(names) > _MEDIA_LISTED:
                break
        more = " and more" if len(names) > _MEDIA_LISTED else ""
        shown = ", ".join(names[:_MEDIA_LISTED]) or "no media file"
        error.message = f"{_short(folder.path)} is a folder, and holds {shown}{more}."
        if not names:
            error.message += f" {self._allowed(self._folders)}"
        error.next_step = (
            "Name a file in it." if names else "Name another file, or ask the user where the file lies."
        )

    def _elsewhere(self, text: str) -> FileRefused | None:
        """Return what is said of a path that is one of another machine by its letters; None of any other."""
        if _OF_A_CHAT.match(text):
            what = "is a file of the chat, attached to it or made there, and not on this computer"
            step = "Ask the user where it is on this computer, and give that path."
        elif _OF_WINDOWS.match(text) and not _WINDOWS:
            what = "is a path of Windows, and this server runs on another system"
            step = "Ask the user for its path on this computer."
        else:
            return None
        return FileRefused(
            f"{_shown(text)} {what}{self._near_miss(text)} {self._allowed(self._folders)}",
            code="file_not_found",
            next_step=step,
        )

    def destination(self, path: str | None, file_name: str) -> Path:
        """Return where a file is to be written: without links, in a folder that is there.

        `path` is a file or a folder (one that exists, or it ends in a separator), in which it is called
        `file_name`; None is the download folder, and a name alone is one in it. A name with another ending
        than `file_name`'s gets that too. What may be there is not looked at, but that it is no link, folder
        or device.

        Raises:
            FileRefused: `file_not_allowed`, `folder_not_found`, `file_not_writable`.
        """
        folders = self._writable
        if not folders:
            raise FileRefused(
                "Nothing can be saved here: over HTTP only where SYNC_MCP_DOWNLOAD_DIR or "
                "SYNC_MCP_MEDIA_ROOTS names a folder.",
                code="file_not_allowed",
                next_step=(
                    "get_generation tells output_url: give that to the user letter for letter, or ask them "
                    "to set a folder."
                ),
            )
        if path is None and self._download_folder is None:
            raise FileRefused(
                f"There is no download folder. {self._allowed(folders)}",
                code="folder_not_found",
                next_step="Give path, in an allowed folder, or ask the user to set SYNC_MCP_DOWNLOAD_DIR.",
            )
        text = str(self._download_folder) if path is None else _plain(path)
        shown = _shown(text)
        if self._download_folder is not None and _is_name_alone(text):
            text = str(self._download_folder / text)
        try:
            asked = _absolute(text)
            self._make_downloads(asked)
            place = self._place(asked, folders, network=_is_network(text))
            if place.path.is_dir():
                return _named(place, file_name)
            is_folder = text.endswith(("/", os.sep))
            folder = _Place(place.root, place.parts if is_folder else place.parts[:-1])
            if not folder.path.is_dir():
                raise FileRefused(
                    f"The folder {_short(folder.path)} is not there{_near_folder(folder)} "
                    f"{self._allowed(folders)}",
                    code="folder_not_found",
                    next_step="Name a folder that exists, or ask the user to make this one.",
                )
            return _named(folder, _with_ending(place.parts[-1], PurePath(file_name).suffix))
        except _Outside:
            raise FileRefused(
                f"{shown} is not in a folder that may be written to, or is hidden there. "
                f"{self._allowed(folders)}",
                code="file_not_allowed",
                next_step=_ANOTHER_PLACE,
            ) from None
        except OSError as error:
            raise FileRefused(
                f"{shown} cannot be written: {_reason(error)}. {self._allowed(folders)}",
                code="file_not_writable",
                next_step="Name another file or folder, or ask the user to make this one writable.",
            ) from error

    def check_open(self, descriptor: int, path: Path) -> None:
        """Check that the file open for writing is the one at `path`, and that no link leads there by now.

        Its name may be hidden, as that of a temporary file; its folder may not.

        Raises:
            FileRefused: `file_not_allowed`.
        """
        with suppress(_Outside, OSError):
            folder = _below(path.parent, self._existing(self._writable))
            if folder is not None and _is_at(descriptor, folder, path.name):
                return
        raise FileRefused(
            f"The folder of {_shown(str(path))} was changed while a file was written to it. "
            f"{self._allowed(self._writable)}",
            code="file_not_allowed",
            next_step=_ANOTHER_PLACE,
        )

    @property
    def _writable(self) -> tuple[Path, ...]:
        return self._folders if self._download_folder is None else (*self._folders, self._download_folder)

    def _existing(self, folders: Sequence[Path]) -> list[Path]:
        """Return the real places of the folders that are there; each is resolved once, when first needed."""
        for folder in folders:
            if folder not in self._real:
                real = Path(os.path.realpath(folder))
                if real.is_dir():
                    self._real[folder] = real
        return [self._real[folder] for folder in folders if folder in self._real]

    def _place(self, asked: Path, folders: Sequence[Path], *, network: bool = False) -> _Place:
        """Resolve an absolute path.

        Raises:
            _Outside: it leads out of `folders`, or to what is hidden.
        """
        real = self._existing(folders)
        named = _below(asked, [*folders, *real])
        if (network and not (_WINDOWS and named)) or (named is None and _is_no_disk(asked)):
            # Not even looked at: looking can take long there, or tell others.
            raise _Outside
        place = _resolved(asked, real)
        if os.path.lexists(place.path):
            return place
        return _resolved(_respelled(place), real)

    def _make_downloads(self, asked: Path) -> None:
        """Make the download folder where it is missing and the asked path lies in it; not the one above."""
        folder = self._download_folder
        if folder is None or _below(asked, [folder]) is None:
            return
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise FileRefused(
                f"The download folder {_short(folder)} cannot be made: {_reason(error)}.",
                code="folder_not_found",
                next_step="Name another folder, or ask the user to set SYNC_MCP_DOWNLOAD_DIR.",
            ) from error

    def _allowed(self, folders: Sequence[Path]) -> str:
        """Return a sentence that names the folders that are there."""
        existing = [folder for folder in folders if self._existing([folder])]
        if not existing:
            return "None of the allowed folders exists."
        shown = list(dict.fromkeys(clean(_short(folder), _SHOWN_LIMIT // 2) for folder in existing))
        more = f" and {len(shown) - _FOLDERS_SHOWN} more" if len(shown) > _FOLDERS_SHOWN else ""
        return f"Allowed folders: {', '.join(shown[:_FOLDERS_SHOWN])}{more}."

    def _near_miss(self, text: str) -> str:
        """Return the end of a sentence: "; did you mean X?" for a file that could be opened, else "."."""
        with suppress(_Outside, OSError, FileRefused):
            for path in dict.fromkeys(self._candidates(text)):
                with suppress(_Outside, OSError, FileRefused), _opened(self._place(path, self._folders)):
                    return did_you_mean(_short(path))
        return did_you_mean()

    def _candidates(self, text: str) -> Iterator[Path]:
        asked = _absolute(text)
        real = self._existing(self._folders)
        with suppress(_Outside):
            place = _resolved(asked, real)
            yield from _near_paths(place.root, place.parts)
        for root in real:
            # The folder in other letters, a path that was meant to begin there, a name without its folder.
            if _folded(str(asked)).startswith(_folded(f"{root}{os.sep}")):
                yield root.joinpath(*asked.parts[len(root.parts) :])
            yield root / text.lstrip("/\\")
            yield root / asked.name
            yield root / PureWindowsPath(text).name


def usual_roots(working_folder: Path | None = None) -> list[Path]:
    """Return the folders that are allowed where the user has set none.

    They are the working folder, where that is one for work and no system's, other user's, home or hidden
    folder, and the user's Desktop, Documents, Downloads, Movies or Videos, Music and Pictures.
    """
    import platformdirs

    roots: list[Path] = []
    with suppress(OSError):
        working = Path(os.path.realpath(working_folder or Path.cwd()))
        hidden = any(part.startswith(".") for part in working.parts)
        if not (hidden or _is_of_programs(working) or _is_of_others(working) or _is_too_wide(working)):
            roots.append(working)
    for folder in (
        platformdirs.user_desktop_path,
        platformdirs.user_documents_path,
        platformdirs.user_downloads_path,
        platformdirs.user_videos_path,
        platformdirs.user_music_path,
        platformdirs.user_pictures_path,
    ):
        with suppress(OSError, RuntimeError):
            path = folder()
            # A folder that the user has switched off is said to be the home folder itself.
            if path.is_absolute() and not _is_too_wide(Path(os.path.realpath(path))):
                roots.append(path)
    return list(dict.fromkeys(roots))


def usual_download_folder() -> Path | None:
    """Return the user's Downloads, or None where there is no such folder of its own."""
    import platformdirs

    with suppress(OSError, RuntimeError):
        path = platformdirs.user_downloads_path()
        if path.is_absolute() and not _is_too_wide(Path(os.path.realpath(path))):
            return path
    return None


def _is_too_wide(folder: Path) -> bool:
    """Return whether a folder belongs to the system or everybody, or holds the home folder."""
    if folder == Path(folder.anchor) or str(folder) in _EVERYBODYS:
        return True
    home = _home()
    if home is not None:
        home = Path(os.path.realpath(home))
        if folder == home or folder in home.parents:
            return True
        # Where a user has none of their own, the whole disk is said to be it.
        if home in folder.parents and home != Path(home.anchor):
            return False
    system = [*_SYSTEM, *filter(None, map(os.environ.get, _SYSTEM_VARIABLES))]
    return any(map(folder.is_relative_to, system))


def _is_of_programs(folder: Path) -> bool:
    home = _home()
    real = home and Path(os.path.realpath(home))
    return bool(real and real in folder.parents and folder.relative_to(real).parts[0] in _OF_PROGRAMS)


def _is_of_others(folder: Path) -> bool:
    """Return whether a folder lies in a service's or another user's."""
    home = _home()
    real = home and Path(os.path.realpath(home))
    if real and real != Path(real.anchor):
        if folder.is_relative_to(real):
            return False
        if _WINDOWS and real.parent.name.casefold() == "users" and folder.is_relative_to(real.parent):
            return True
    if any(map(folder.is_relative_to, _OF_NOBODY)):
        return False
    return any(map(folder.is_relative_to, _OF_OTHERS)) or _WINDOWS_DISK.fullmatch(str(folder)) is not None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _expanded(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders as absolute paths; below a home folder that nobody knows there is none."""
    home = _home()
    paths = [
        home and home.joinpath(*folder.parts[1:]) if folder.parts[:1] == ("~",) else folder
        for folder in folders
    ]
    return tuple(dict.fromkeys(_without_dots(str(path)) for path in paths if path))


def _plain(path: str) -> str:
    """Return the path that a text means, which may have been pasted: quoted, escaped, a file:// URL.

    Raises:
        FileRefused: it can be no path of this machine.
    """
    text = path.strip()
    if len(text) > _PATH_LIMIT:
        raise _no_path(text, "is too long for a path")
    bare = unwrapped(text)
    is_wrapped = bare != text
    url = None if _OF_A_CHAT.match(bare) else _URL.fullmatch(bare)
    if url:
        local = _FILE_URL.fullmatch(url["rest"]) if url["scheme"].lower() == "file" else None
        if local is None:
            raise _no_path(
                text,
                "is no path of this machine",
                next_step="Give what is on the web as url, not as path, or ask the user for the file.",
            )
        text = unquote(local["path"], errors="surrogateescape")
        if _WINDOWS and re.match(r"/[a-z]:", text, re.IGNORECASE):
            text = text[1:]
    elif is_wrapped:
        text = bare
    elif not _WINDOWS and not _OTHER_MACHINE.match(text):
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
    shown = _shown(text)
    return FileRefused(
        f"{shown} {why}." if shown else f"{why}.", code="file_not_allowed", next_step=next_step
    )


def _absolute(text: str) -> Path:
    """Return the absolute path without `~` and `..`, which are taken as they are written.

    `..` goes back in the text and not on the disk, so that what lies elsewhere makes no difference.

    Raises:
        OSError: it is relative, and the working folder is gone.
    """
    home = _home() if re.match(r"~(?:$|[/\\])" if _WINDOWS else r"~(?:$|/)", text) else None
    return _without_dots(f"{home}{text[1:]}" if home else text)


def _is_name_alone(text: str) -> bool:
    name = PureWindowsPath(text) if _WINDOWS else PurePath(text)
    return text not in ("~", ".", "..") and text == name.name


def _without_dots(path: str) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib keeps `..`, or follows links


def _is_network(text: str) -> bool:
    return _OTHER_MACHINE.match(text) is not None


def _is_no_disk(path: Path) -> bool:
    return any(_folded(f"{path}/").startswith(f"{place}/") for place in _NO_DISK)


def _below(path: Path, roots: Sequence[Path]) -> _Place | None:
    """Return where an absolute path lies in `roots` by its letters, or None.

    Raises:
        _Outside: it is below one of them, but hidden or of a device's name.
    """
    hidden = False
    for root in roots:
        if _is_no_disk(path) and not _is_no_disk(root):
            continue
        parts = _parts_below(path, root)
        if parts is None:
            continue
        if not any(map(_is_hidden_name, parts)):
            return _Place(root, parts)
        hidden = True
    if hidden:
        raise _Outside
    return None


def _parts_below(path: Path, root: Path) -> tuple[str, ...] | None:
    if path.is_relative_to(root):
        return path.relative_to(root).parts
    # The same folder in other letters, where the file system takes them for the same.
    above, parts = path.parts[: len(root.parts)], path.parts[len(root.parts) :]
    with suppress(OSError):
        if tuple(map(_folded, above)) == tuple(map(_folded, root.parts)) and Path(*above).samefile(root):
            return parts
    return None


def _is_hidden_name(name: str) -> bool:
    return name.startswith(".") or (_WINDOWS and (":" in name or _DEVICE.fullmatch(name) is not None))


def _resolved(path: Path, roots: Sequence[Path]) -> _Place:
    """Follow every link in `path`.

    Raises:
        _Outside: it leads out of `roots`, or to what is hidden.
    """
    try:
        place = _below(Path(os.path.realpath(path)), roots)
    except (OSError, RecursionError):
        place = None
    if place is None:
        raise _Outside
    return place


def _respelled(place: _Place) -> Path:
    """Return the path with the names as they stand on the disk where they differ by unseen things alone.

    Systems write their names with spaces and accents of other characters than those that come back in a
    copy of them.
    """
    path = place.root
    for part in place.parts:
        if not os.path.lexists(path / part):
            same = [name for name in _names(path) if _drawn(name) == _drawn(part)]
            part = same[0] if len(same) == 1 else part
        path /= part
    return path


def _near_paths(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield what is there below `folder` and named like `parts`, the likest first."""
    for index, part in enumerate(parts):
        if not os.path.lexists(folder / part):
            rest = parts[index + 1 :]
            near = [folder / name for name in _near_names(part, _names(folder))]
            yield from (path for path in (found.joinpath(*rest) for found in near) if os.path.lexists(path))
            if rest and near:
                yield from _near_paths(near[0], rest)
            return
        folder /= part
    yield folder


def _near_names(wanted: str, names: Sequence[str]) -> list[str]:
    """Return the names most like the wanted one; of files, the ending makes no difference."""
    word = _stem(wanted)
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(word)

    def likeness(name: str, *, exact: bool) -> float:
        matcher.set_seq1(_stem(name))
        return 2 * (_folded(name) == _folded(wanted)) + (matcher.ratio() if exact else matcher.quick_ratio())

    # What is exact takes long: it is worked out for the few that can be alike.
    possible = nlargest(_NEAR_NAMES_COMPARED, names, key=partial(likeness, exact=False))
    ranked = [(likeness(name, exact=True), name) for name in possible]
    return [name for ratio, name in nlargest(_NEAR_NAMES, ranked) if ratio >= _LIKE]


def _stem(name: str) -> str:
    return PurePath(_folded(name)).stem[:_COMPARED_LENGTH]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _NAMES_LISTED) if not _is_hidden_name(entry.name)]
    except OSError:
        return []


def _folded(name: str) -> str:
    return _drawn(name).casefold()


def _drawn(name: str) -> str:
    return "".join(" " if letter.isspace() else letter for letter in unicodedata.normalize("NFC", name))


def _opened(place: _Place) -> OpenMedia:
    """Open what `place` leads to without following any link, and look at its first bytes.

    Raises:
        _Outside: it is hidden, or has become a link.
        OSError: it is missing, or must not be read.
        FileRefused: it is no media file.
    """
    path = place.path
    if not place.parts:
        _refuse_irregular(path, stat.S_IFDIR)
    descriptor = _open_below(place)

    def opened_already(_path: str, _flags: int) -> int:
        return descriptor

    try:
        opened = os.fstat(descriptor)
        _refuse_irregular(path, opened.st_mode)
        if _is_marked_hidden(opened):
            raise _Outside
        if not opened.st_size:
            raise FileRefused(f"{_short(path)} is empty.", code="file_empty")
        path = _spelled(descriptor, path)
        # By its path, so that who takes the file over knows its name.
        file = io.FileIO(str(path), "rb", opener=opened_already)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        media_format(file.read(HEAD_BYTES), path.name)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return OpenMedia(path, file, path.name)


if sys.platform == "win32":
    import ctypes
    import msvcrt

    @contextmanager
    def _walked(root: Path, parts: Sequence[str]) -> Generator[None]:
        """Check that a folder is reached from `root` through visible folders alone."""
        path = root
        for part in parts:
            path /= part
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            if _is_marked_hidden(found):
                raise _Outside
        yield

    def _open_below(place: _Place) -> int:
        with _walked(place.root, place.parts[:-1]):
            _refuse_irregular(place.path, place.path.lstat().st_mode)
            descriptor = os.open(place.path, _FILE)
        try:
            # By the open file itself: a folder on the way may have become a link meanwhile.
            if _below(_path_of(descriptor), [place.root]) is None:
                raise _Outside
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_at(descriptor: int, folder: _Place, name: str) -> bool:
        with _walked(folder.root, folder.parts):
            return os.path.normcase(_path_of(descriptor)) == os.path.normcase(folder.path / name)

    def _path_of(descriptor: int) -> Path:
        """Return where an open file really is."""
        buffer = ctypes.create_unicode_buffer(32_768)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        if not ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, buffer, len(buffer), 0):
            raise ctypes.WinError()
        path = buffer.value.removeprefix("\\\\?\\")
        return Path(f"\\\\{path[4:]}" if path.startswith("UNC\\") else path)
else:

    @contextmanager
    def _walked(root: Path, parts: Sequence[str]) -> Generator[int]:
        """Open a folder by going there from `root` through visible folders alone, and no link."""
        descriptor = os.open(root, _FOLDER)
        try:
            for part in parts:
                inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
                if _is_marked_hidden(os.fstat(descriptor)):
                    raise _Outside
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_below(place: _Place) -> int:
        *folders, name = place.parts
        with _walked(place.root, folders) as folder:
            # Looked at before it is opened: opening alone makes some devices act, and a pipe's writer go on.
            _refuse_irregular(place.path, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            try:
                return os.open(name, _FILE, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK):
                    raise _Outside from None
                raise

    def _is_at(descriptor: int, folder: _Place, name: str) -> bool:
        with _walked(folder.root, folder.parts) as parent:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.fstat(descriptor))


if sys.platform == "darwin":
    import fcntl

    def _spelled(descriptor: int, path: Path) -> Path:
        """Return the path with the file's name as the disk has it, in whatever letters it was asked for."""
        real = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")
        name = Path(os.fsdecode(real)).name
        return path.with_name(name) if _folded(name) == _folded(path.name) else path
else:

    def _spelled(descriptor: int, path: Path) -> Path:  # noqa: ARG001 - the path has the disk's spelling
        return path


def _is_marked_hidden(found: os.stat_result) -> bool:
    attributes = getattr(found, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN
    return bool(attributes or getattr(found, "st_flags", 0) & getattr(stat, "UF_HIDDEN", 0x8000))


def _near_folder(place: _Place) -> str:
    """Return the end of a sentence: "; did you mean X?" for the folder that was meant, else "."."""
    path = next((path for path in _near_paths(place.root, place.parts) if path.is_dir()), None)
    return did_you_mean(*([_short(path)] if path else []))


def _named(folder: _Place, name: str) -> Path:
    """Return the path of a file called `name` in `folder`, where that can be a file.

    Raises:
        _Outside: the folder is hidden.
        OSError: it is no folder any more.
        FileRefused: the name will not do, or what bears it is no file.
    """
    _check_name(name)
    path = folder.path / name
    with _walked(folder.root, folder.parts):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return path
    if not stat.S_ISREG(mode):
        raise FileRefused(f"{_short(path)} is {_kind(mode)}.", code="file_not_writable")
    return path


def _with_ending(name: str, ending: str) -> str:
    return name if name.lower().endswith(ending.lower()) else f"{name}{ending}"


def _check_name(name: str) -> None:
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
    elif _DEVICE.fullmatch(name):
        wrong = "is the name of a device on Windows"
    elif len(os.fsencode(name)) > _NAME_LIMIT_BYTES:
        wrong = "is too long"
    elif name != name.strip() or name.endswith(".") or not name:
        wrong = "begins or ends in a space or ends in a dot"
    if wrong:
        raise FileRefused(
            f"The name {_shown(name)} {wrong}.",
            code="file_not_writable",
            next_step="Name the file otherwise.",
        )


def _refuse_without(folders: Sequence[Path]) -> None:
    if not folders:
        raise FileRefused(
            "Local files are off: over HTTP they can be used only if SYNC_MCP_MEDIA_ROOTS names folders.",
            code="file_not_allowed",
            next_step="Give a url or an asset_id instead of a path, or ask the user to set it.",
        )


def _refuse_irregular(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise _Outside
    if not stat.S_ISREG(mode):
        raise FileRefused(
            f"{_short(path)} is {_kind(mode)}.",
            code="file_not_readable",
            next_step="Name a file in it." if stat.S_ISDIR(mode) else None,
        )


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"


def _is_missing(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)


def _unreadable(shown: str, error: OSError) -> FileRefused:
    return FileRefused(
        f"{shown} cannot be read: {_reason(error)}.",
        code="file_not_readable",
        next_step="Check the file and who may read it.",
    )


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _shown(text: str) -> str:
    return clean(text, _SHOWN_LIMIT)


def _short(path: Path) -> str:
    """Return a path with `~` for the home folder."""
    home = _home()
    below = home is not None and path.is_relative_to(home) and path.relative_to(home)
    return str(Path("~", below)) if below else str(path)
