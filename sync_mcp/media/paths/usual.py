"""The folders that are allowed where the user has set none: on Linux, macOS and Windows."""

import os
import re
from contextlib import suppress
from pathlib import Path

import platformdirs

from sync_mcp.media.paths.typed import WINDOWS, home_of_user

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


def usual_roots(working_folder: Path | None = None) -> list[Path]:
    """Return the folders that are allowed where the user has set none.

    They are the working folder, where that is one for work and no system's, other user's, home or hidden
    folder, and the user's Desktop, Documents, Downloads, Movies or Videos, Music and Pictures.
    """
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
    with suppress(OSError, RuntimeError):
        path = platformdirs.user_downloads_path()
        if path.is_absolute() and not _is_too_wide(Path(os.path.realpath(path))):
            return path
    return None


def _is_too_wide(folder: Path) -> bool:
    """Return whether a folder belongs to the system or everybody, or holds the home folder."""
    if folder == Path(folder.anchor) or str(folder) in _EVERYBODYS:
        return True
    home = home_of_user()
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
    home = home_of_user()
    real = home and Path(os.path.realpath(home))
    return bool(real and real in folder.parents and folder.relative_to(real).parts[0] in _OF_PROGRAMS)


def _is_of_others(folder: Path) -> bool:
    """Return whether a folder lies in a service's or another user's."""
    home = home_of_user()
    real = home and Path(os.path.realpath(home))
    if real and real != Path(real.anchor):
        if folder.is_relative_to(real):
            return False
        if WINDOWS and real.parent.name.casefold() == "users" and folder.is_relative_to(real.parent):
            return True
    if any(map(folder.is_relative_to, _OF_NOBODY)):
        return False
    return any(map(folder.is_relative_to, _OF_OTHERS)) or _WINDOWS_DISK.fullmatch(str(folder)) is not None
