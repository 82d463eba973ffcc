"""A SQLite file: how it is opened, kept safe from a power cut, and given its name."""

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event

from sync_mcp.payments.stores.store import Finding

if sys.platform != "win32":
    import fcntl

JOURNALS = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a file, the last two by the mode of version 1."""
BUSY_SECONDS = 10.0
"""How long a ledger is waited for that another process uses, unless it is said otherwise."""
_PATIENT_SECONDS = 0.3
"""How long SQLite waits for its turn by itself: it looks ever more seldom, and may find it free never."""
_BUSY_PAUSE_SECONDS = 0.002
_HEADER_BYTES = 100
_MODE_AT = 18
_WRITE_AHEAD = 2
"""What stands there in the header of a file whose latest changes may lie beside it."""
READING = "sync_mcp_reading"
"""Of an engine: its transactions only read."""


def open_engine(path: Path, busy_seconds: float, *, mode: Literal["rw", "ro"] = "rw") -> Engine:
    """Return an engine for a file that is there: none is made, even if it goes meanwhile.

    Args:
        busy_seconds: how long each of its connections waits for the file while another process uses it.
    """

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_seconds,
            check_same_thread=False,
            # Transactions are begun by hand: the driver would begin them too late for a lock.
            isolation_level=None,
        )

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    driver = driver_of(connection)
    if connection.get_execution_options().get(READING, False):
        driver.execute("BEGIN")
    else:
        _execute_in_turn(driver, "BEGIN IMMEDIATE")


def _execute_in_turn(driver: sqlite3.Connection, statement: str) -> None:
    """Execute a statement that needs the file for itself, once others are done with it."""
    [busy_ms] = driver.execute("PRAGMA busy_timeout").fetchone()
    busy_seconds = busy_ms / 1000
    ends_at = time.monotonic() + busy_seconds
    _wait_by_itself(driver, min(_PATIENT_SECONDS, busy_seconds))
    try:
        while True:
            try:
                driver.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends_at:
                    raise
                _wait_by_itself(driver, 0)
                time.sleep(_BUSY_PAUSE_SECONDS)
            else:
                return
    finally:
        _wait_by_itself(driver, busy_seconds)


def _wait_by_itself(driver: sqlite3.Connection, seconds: float) -> None:
    driver.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def prepare(connection: Any, _: object) -> None:
    """Set a new connection up, so that no crash takes back what was committed."""
    # All that is committed stands in the file itself: it is whole without any file beside it. To leave the
    # mode of version 1, which needs the file alone, does not wait by itself.
    _execute_in_turn(connection, "PRAGMA journal_mode=PERSIST")
    # The end of a transaction is written into the journal and synced with it, so that no power cut takes the
    # last entry back. A journal that is deleted would need its folder synced as well.
    connection.execute("PRAGMA synchronous=FULL")


def is_write_ahead(path: Path) -> bool:
    """Return whether a file is kept as version 1 was: SQLite makes files beside it even to read it."""
    # Not while it is open: to close it lets go of this process's locks on it.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    return header[_MODE_AT : _MODE_AT + 1] == bytes([_WRITE_AHEAD])


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file is there, whatever it is called; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def give_name(path: Path, name: Path) -> None:
    """Give a file a name, all at once; where another has it, nothing is done."""
    if sys.platform == "win32":
        # Neither replaces what there is, nor deletes what is open.
        with contextlib.suppress(FileExistsError, PermissionError):
            if identity(name) is None:
                _delete_journal(name)
            path.rename(name)
        return
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        # A rename would replace what another process has named meanwhile.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if identity(name) is None:
            _delete_journal(name)
            path.rename(name)
    finally:
        os.close(folder)


def _delete_journal(path: Path) -> None:
    # Left by a file that was moved away without it, it would be played into the new one.
    for suffix in JOURNALS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def find_permissions(folder: Path, path: Path, mark: Path) -> Iterator[Finding]:
    """Yield who can get at a ledger's files and its folder, where the system tells that."""
    if os.name != "posix":
        return
    files = sorted(file for one in (path, mark) for file in folder.glob(f"{one.name}*") if file.is_file())
    for file in files:
        mode = _mode(file)
        mend = f"Others on this machine can read or write it: chmod 600 '{file}'" if mode & 0o077 else None
        if mend or file == path:
            yield "file", f"{file.name} {mode:04o}", mend
    mode = _mode(folder)
    mend = f"Others can put another file in its place: chmod 700 '{folder}'" if mode & 0o022 else None
    yield "folder", f"{folder} {mode:04o}", mend


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
