"""Temporary folders that outlive no process for long: the next that starts removes what a killed one left.

A folder in use holds a locked file, whose lock ends with its process, however that ends.
"""

import os
import re
import stat
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Literal, Self

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Use = Literal["ledger", "output", "sandbox"]

LOCK_NAME = ".in-use"
_PREFIX = "sync-mcp-"
_NAME = re.compile(rf"{_PREFIX}(ledger|output|sandbox)-[a-z0-9_]{{8}}")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_TRIES = 10


class ScratchFolder:
    """A temporary folder for this user alone, which is removed at the end of the process at the latest.

    Attributes:
        path: where it is.
    """

    def __init__(self, use: Use) -> None:
        sweep()
        self.path, self._lock = _make(use)
        # For a process that ends without removing it.
        self._at_end = weakref.finalize(self, _remove, self.path, self._lock)

    def clear(self) -> None:
        """Remove the files in it and in its folders; the folders stay."""
        _empty(self.path)

    def remove(self) -> None:
        """Remove it with what is in it; more than once does no harm."""
        if self._at_end.detach() is not None:
            _remove(self.path, self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def sweep() -> None:
    """Remove the folders that killed processes of this user have left; one in use stays."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            with suppress(OSError):
                if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and _is_own(entry):
                    _sweep(Path(entry.path))


def _is_own(entry: "os.DirEntry[str]") -> bool:
    # Where there are no owners of such a kind, the temporary folder itself is the user's own.
    return os.name != "posix" or entry.stat(follow_symlinks=False).st_uid == os.geteuid()


def _sweep(folder: Path) -> None:
    # Without its lock nobody can tell whose it is, or whether it is used.
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | _NO_LINK)
    try:
        is_free = stat.S_ISREG(os.fstat(lock).st_mode) and _take(lock)
    except OSError:
        is_free = False
    if is_free:
        _remove(folder, lock)
    else:
        os.close(lock)


def _make(use: Use) -> tuple[Path, int | None]:
    """Return a new folder and its lock, None where the file system knows no locks: nobody will sweep that."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{use}-"))
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if _take(lock) and os.path.samestat(os.fstat(lock), (folder / LOCK_NAME).stat()):
                return folder, lock
        except FileNotFoundError:
            pass
        except OSError:
            os.close(lock)
            (folder / LOCK_NAME).unlink()
            return folder, None
        # Another process swept it before it was locked.
        os.close(lock)
    raise FileExistsError("Temporary folders are removed as soon as they are made.")


def _remove(folder: Path, lock: int | None) -> None:
    _clear(folder)
    # The lock's file goes last: the next sweep then takes what a killed one has left.
    if lock is not None:
        os.close(lock)
    with suppress(OSError):
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def _clear(folder: Path) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                rmtree(entry.path, ignore_errors=True)
            elif entry.name != LOCK_NAME:
                with suppress(OSError):
                    Path(entry.path).unlink()


def _empty(folder: Path) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                _empty(path)
            elif entry.name != LOCK_NAME:
                with suppress(OSError):
                    path.unlink()


if sys.platform == "win32":

    def _take(lock: int) -> bool:
        try:
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:

    def _take(lock: int) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
