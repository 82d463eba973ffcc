"""The mark beside a ledger: how far that has come, so that one which lost entries is not taken for whole."""

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_BYTES = 256
"""Of a mark: always as many, so that it is replaced by one write, whole or not at all."""
_MOST_USD = 10**12
_WAIT_SECONDS = 1.0
_PAUSE_SECONDS = 0.001
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a ledger has come."""

    ledger: str
    """Its id: another ledger has another."""
    revision: int
    """Goes up with every change of an entry, and never down."""
    last_entry: int
    counted_usd: Decimal
    """What all its entries count, together. It is told and never compared: costs may be below estimates."""


_MARK = TypeAdapter(Mark)
UNREADABLE = Mark("", 0, 0, Decimal(0))
"""Stands for a mark that says nothing any more: there was a ledger, and nobody knows how far it had come."""


def read_mark(path: Path) -> Mark | None:
    """Return the mark in a file, `UNREADABLE` where that is no mark, None where there is none.

    Raises:
        OSError: there is something that cannot be read.
    """
    try:
        with _open(path, os.O_RDONLY) as file, _turn(file, shared=True):
            return _read(file)
    except FileNotFoundError:
        return None


def advance_mark(path: Path, mark: Mark) -> None:
    """Write a mark down, unless the one that is there has come as far: a mark never goes back.

    It is written after what it tells of, so that it is never ahead of its ledger. Where it cannot be written
    in time, it stays behind until the next one.

    Raises:
        OSError: it cannot be written.
    """
    if not mark.revision:
        # No call was paid yet: there is nothing to lose.
        return
    with _open(path, os.O_RDWR | os.O_CREAT) as file, _turn(file, shared=False) as is_ours:
        if not is_ours or mark.revision <= _read(file).revision:
            return
        told = {
            "ledger": mark.ledger,
            "revision": mark.revision,
            "last_entry": mark.last_entry,
            "counted_usd": f"{mark.counted_usd:f}",
        }
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, f"{json.dumps(told):<{_BYTES - 1}}\n".encode())


def _read(file: int) -> Mark:
    os.lseek(file, 0, os.SEEK_SET)
    content = os.read(file, _BYTES)
    try:
        mark = _MARK.validate_json(content, strict=True)
    except ValidationError:
        return UNREADABLE
    return mark if 0 <= mark.counted_usd <= _MOST_USD else UNREADABLE


@contextmanager
def _open(path: Path, flags: int) -> Generator[int]:
    file = os.open(path, flags | _BINARY, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _turn(file: int, *, shared: bool) -> Generator[bool]:
    """Wait for one's turn with a mark; the flag says whether it came."""
    is_ours = _is_locked(file, shared=shared)
    try:
        yield is_ours
    finally:
        if is_ours:
            _unlock(file)


def _is_locked(file: int, *, shared: bool) -> bool:
    # Without end it would wait for a process that was stopped in its turn.
    ends_at = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            _lock(file, shared=shared)
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= ends_at:
                return False
            time.sleep(_PAUSE_SECONDS)
        else:
            return True


if sys.platform == "win32":

    def _lock(file: int, *, shared: bool) -> None:  # noqa: ARG001 - there is one kind of lock
        _change_lock(file, msvcrt.LK_NBLCK)

    def _unlock(file: int) -> None:
        # To close the file would do it too, but only some time later.
        _change_lock(file, msvcrt.LK_UNLCK)

    def _change_lock(file: int, mode: int) -> None:
        # The byte behind the mark, which need not be there: nobody else could read what is locked.
        os.lseek(file, _BYTES, os.SEEK_SET)
        msvcrt.locking(file, mode, 1)
else:

    def _lock(file: int, *, shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
