"""Going through folders and opening files by descriptors, as Linux and macOS can: no link is followed."""

import errno
import os
import stat
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sync_mcp.media.paths.inside import Outside, Place, fold, is_marked_hidden, refuse_irregular

if sys.platform == "darwin":
    import fcntl

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
# Not blocking: nobody may ever write to a pipe that was put in a file's place.
_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE = os.O_RDONLY | _NO_LINK | _NOT_BLOCKING | getattr(os, "O_BINARY", 0)
# A folder may be passed through without the right to list it.
_FOLDER = os.O_RDONLY | _NO_LINK | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)


@contextmanager
def walk(root: Path, parts: Sequence[str]) -> Generator[int]:
    """Open a folder by going there from `root` through visible folders alone, and no link."""
    descriptor = os.open(root, _FOLDER)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            if is_marked_hidden(os.fstat(descriptor)):
                raise Outside
        yield descriptor
    finally:
        os.close(descriptor)


def open_below(place: Place) -> int:
    """Open a file for reading without following a link, and return its descriptor.

    Raises:
        Outside: a link or a hidden folder stands in the way.
        OSError: it is missing, or must not be read.
        FileRefused: it is no regular file.
    """
    *folders, name = place.parts
    with walk(place.root, folders) as folder:
        # Looked at before it is opened: opening alone makes some devices act, and a pipe's writer go on.
        refuse_irregular(place.path, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        try:
            return os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise Outside from None
            raise


def is_at(descriptor: int, folder: Place, name: str) -> bool:
    """Return whether an open file is the one called `name` in `folder`.

    Raises:
        Outside: a link or a hidden folder stands in the way.
        OSError: there is none of this name.
    """
    with walk(folder.root, folder.parts) as parent:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.fstat(descriptor))


def path_on_disk(descriptor: int, path: Path) -> Path:
    """Return the path with the file's name as the disk has it, in whatever letters it was asked for."""
    if sys.platform != "darwin":
        return path
    real = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")
    name = Path(os.fsdecode(real)).name
    return path.with_name(name) if fold(name) == fold(path.name) else path
