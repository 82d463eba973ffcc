"""Going through folders and opening files on Windows, which has no descriptors of folders.

A file is opened by its path, and Windows is asked afterwards where what is open really lies.
"""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sync_mcp.media.paths.inside import Outside, Place, is_marked_hidden, place_below, refuse_irregular

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
# Not blocking: nobody may ever write to a pipe that was put in a file's place.
_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE = os.O_RDONLY | _NO_LINK | _NOT_BLOCKING | getattr(os, "O_BINARY", 0)


@contextmanager
def walk(root: Path, parts: Sequence[str]) -> Generator[None]:
    """Check that a folder is reached from `root` through visible folders alone."""
    path = root
    for part in parts:
        path /= part
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        if is_marked_hidden(found):
            raise Outside
    yield


def open_below(place: Place) -> int:
    """Open a file for reading without following a link, and return its descriptor.

    Raises:
        Outside: a link or a hidden folder stands in the way.
        OSError: it is missing, or must not be read.
        FileRefused: it is no regular file.
    """
    with walk(place.root, place.parts[:-1]):
        refuse_irregular(place.path, place.path.lstat().st_mode)
        descriptor = os.open(place.path, _FILE)
    try:
        # By the open file itself: a folder on the way may have become a link meanwhile.
        if place_below(_path_of(descriptor), [place.root]) is None:
            raise Outside
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_at(descriptor: int, folder: Place, name: str) -> bool:
    """Return whether an open file is the one called `name` in `folder`.

    Raises:
        Outside: a link or a hidden folder stands in the way.
        OSError: there is none of this name.
    """
    with walk(folder.root, folder.parts):
        return os.path.normcase(_path_of(descriptor)) == os.path.normcase(folder.path / name)


def _path_of(descriptor: int) -> Path:
    """Return where an open file really is."""
    assert sys.platform == "win32"
    # Here, so that the module can be imported, and its types are checked, on every system.
    import msvcrt

    buffer = ctypes.create_unicode_buffer(32_768)
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
    if not ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, buffer, len(buffer), 0):
        raise ctypes.WinError()
    path = buffer.value.removeprefix("\\\\?\\")
    return Path(f"\\\\{path[4:]}" if path.startswith("UNC\\") else path)


def path_on_disk(descriptor: int, path: Path) -> Path:  # noqa: ARG001 - the path has the disk's spelling
    """Return the path with the file's name as the disk has it: on Windows that is how it was resolved."""
    return path
