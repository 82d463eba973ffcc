"""The mark beside a ledger: how far that has come, so that one which lost entries is not taken for whole."""

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast

if sys.platform != "win32":
    import fcntl

_MOST_BYTES = 4096
_MOST_USD = 10**12
_WAIT_SECONDS = 1.0
_PAUSE_SECONDS = 0.001


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


UNREADABLE = Mark("", 0, 0, Decimal(0))
"""Stands for a mark that says nothing any more: there was a ledger, and nobody knows how far it had come."""


def read_mark(path: Path) -> Mark | None:
    """Return the mark in a file, `UNREADABLE` where that is no mark, None where there is none.

    Raises:
        OSError: there is something that cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    try:
        found = cast(object, json.loads(content))
        if isinstance(found, dict):
            return _mark_of(cast(dict[str, object], found))
    except (ValueError, RecursionError):
        pass
    return UNREADABLE


def advance_mark(path: Path, mark: Mark) -> None:
    """Write a mark down, unless the one that is there has come as far: a mark never goes back.

    It is written after what it tells of, so that it is never ahead of its ledger. Where it cannot be written
    in time, it stays behind until the next one.

    Raises:
        OSError: it cannot be written.
    """
    with _turn(path.parent) as is_ours:
        known = read_mark(path) if is_ours else None
        if not is_ours or mark.revision <= (known.revision if known else 0):
            return
        told = {
            "ledger": mark.ledger,
            "revision": mark.revision,
            "last_entry": mark.last_entry,
            "counted_usd": f"{mark.counted_usd:f}",
        }
        new = path.with_name(f"{path.name}.new")
        with open(new, "w", encoding="utf-8", opener=_for_the_user_alone) as file:
            file.write(json.dumps(told))
        new.replace(path)


def _mark_of(found: dict[str, object]) -> Mark:
    ledger, revision, last_entry = found.get("ledger"), found.get("revision"), found.get("last_entry")
    if not (isinstance(ledger, str) and isinstance(revision, int) and isinstance(last_entry, int)):
        return UNREADABLE
    try:
        counted = Decimal(str(found.get("counted_usd")))
    except InvalidOperation:
        return UNREADABLE
    is_possible = counted.is_finite() and 0 <= counted <= _MOST_USD
    return Mark(ledger, revision, last_entry, counted) if is_possible else UNREADABLE


def _for_the_user_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _turn(folder: Path) -> Generator[bool]:
    """Let one process write the mark at a time; the flag says whether it is this one's turn."""
    if sys.platform == "win32":
        # A file that another has open cannot be replaced there: that alone keeps two from writing at once.
        yield True
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        yield _is_locked_in_time(opened)
    finally:
        os.close(opened)


if sys.platform != "win32":

    def _is_locked_in_time(opened: int) -> bool:
        # Without end it would wait for a process that was stopped in its turn.
        ends_at = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= ends_at:
                    return False
                time.sleep(_PAUSE_SECONDS)
            else:
                return True
