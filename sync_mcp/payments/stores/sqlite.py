"""The ledger in a SQLite file of the user's own, which all their processes share.

Beside the file lies its mark: how far it had come. A file that has come less far has lost entries, and is
refused like a damaged one.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock, RLock

from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from sync_mcp.errors import LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.rows import from_nano
from sync_mcp.payments.stores.mark import UNREADABLE, Mark, advance_mark, read_mark
from sync_mcp.payments.stores.schema import (
    RENAME,
    STATE,
    VERSIONS,
)
from sync_mcp.payments.stores.sqlite_file import (
    BUSY_SECONDS,
    JOURNALS,
    READING,
    driver_of,
    find_permissions,
    give_name,
    identity,
    is_write_ahead,
    open_engine,
    prepare,
)
from sync_mcp.payments.stores.store import Finding
from sync_mcp.texts import REASON_LIMIT, safe

logger = logging.getLogger(__name__)

FILE_NAME = "ledger.sqlite3"
MARK_NAME = "ledger.mark.json"
LOST_CODES = ("ledger_corrupt", "ledger_missing", "ledger_replaced")
"""Of a ledger that lost what was in it: damaged, gone, or another or older one in its place. Nothing is paid
until the user goes on without what is lost."""
UNTOUCHED_CODE = "ledger_untouched"
"""Of a ledger that is not looked at because that would change it; to use it sets it right."""
_READER_SECONDS = 0.1
_SET_ASIDE = "ledger-corrupt-"
_SET_ASIDE_FILES = f"{_SET_ASIDE}*.sqlite3"
_GIVEN_UP = "ledger-given-up-"
_NEW = "ledger-new-"


def _through(statements: Sequence[str]) -> Callable[[Connection], None]:
    def migrate(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    return migrate


_MIGRATIONS: Sequence[Callable[[Connection], None]] = tuple(map(_through, VERSIONS))
"""From each version to the next; a ledger's version is how many of them it has been through."""


class _DamagedError(SQLAlchemyError):
    """The file is no longer whole."""


@dataclass(frozen=True, slots=True)
class _Engines:
    """An open file's engine, and the same one for transactions that only read."""

    writing: Engine
    reading: Engine


class SqliteStore:
    """A ledger's file in a folder (a `Store`); both are made when they are first needed.

    Args:
        folder: where the file lies.
        read_only: look only: nothing is made, changed or moved.
        busy_seconds: how long each step waits while another process uses the file.

    Attributes:
        folder: as given.
        path: the database file.
        mark_path: the file of its mark.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.mark_path = folder / MARK_NAME
        self._read_only = read_only
        self._busy_seconds = busy_seconds
        self._engines: _Engines | None = None
        self._file: tuple[int, int] | None = None
        self._opening = Lock()
        self._turns = RLock()
        self._seen: Mark | None = None
        """How far this process has seen the ledger come: it tells of a loss that took the mark as well."""

    def now(self) -> float:
        """Return the time by which leases and quotes are judged, in seconds since 1970: this machine's."""
        return time.time()

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._opening:
            self._dispose()

    # Transactions

    def transaction(
        self,
        *,
        is_sandbox: bool | None = None,  # noqa: ARG002 - a file has one lock
    ) -> AbstractContextManager[Connection]:
        """Hold the write lock from the first statement on: what is read is what the decision stands on.

        Raises:
            LedgerError: the ledger cannot be read or written, or has lost what was in it.
        """
        return self._connect(reading=self._read_only)

    def reading(self) -> AbstractContextManager[Connection]:
        """Read without holding anybody up.

        Raises:
            LedgerError: the ledger cannot be read, or has lost what was in it.
        """
        return self._connect(reading=True)

    @contextmanager
    def _take_turn(self, *, reading: bool) -> Generator[None]:
        """Have threads of this process hand the file on to each other: SQLite looks for its turn too seldom.

        Who only reads need not wait for one of them that another process holds up.
        """
        is_ours = self._turns.acquire(timeout=_READER_SECONDS if reading else self._busy_seconds)
        if not (is_ours or reading):
            raise self._busy()
        try:
            yield
        finally:
            if is_ours:
                self._turns.release()

    @contextmanager
    def _connect(self, *, reading: bool) -> Generator[Connection]:
        with self._take_turn(reading=reading), self._begin(reading=reading) as connection:
            yield connection

    @contextmanager
    def _begin(self, *, reading: bool) -> Generator[Connection]:
        try:
            # Read first: the ledger may come further meanwhile, and so be ahead of its mark, never behind.
            mark = read_mark(self.mark_path) or self._mark_put_back()
            engines = self._open_engines(mark)
            engine = engines.reading if reading else engines.writing
            with engine.begin() as connection:
                began = _state(connection)
                # Another file may have been written into this one.
                self._refuse_lesser(began, mark)
                yield connection
                ended = began if reading else _state(connection)
            if ended != began:
                self._advance_mark(ended)
            self._seen = ended if ended.revision and not self._read_only else None
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._fault(error) from error

    def check(self, connection: Connection) -> None:
        """Look through the whole file, within a transaction, which fails where that is damaged."""
        if connection.execute(text("PRAGMA integrity_check(1)")).scalar() != "ok":
            raise _DamagedError

    # What is there, and what was lost

    def exists(self) -> bool:
        """Return whether a ledger was begun here, whole, damaged or gone; none is made.

        Raises:
            LedgerError: the folder cannot be looked into.
        """
        # Each read of a job asks this: the folder is looked into once.
        try:
            names = {path.name for path in self.folder.iterdir()}
        except FileNotFoundError:
            names = set[str]()
        except OSError as error:
            raise self._fault(error) from error
        began = self.path.name in names or self.mark_path.name in names
        return began or self._seen is not None or any(fnmatchcase(name, _SET_ASIDE_FILES) for name in names)

    @property
    def place(self) -> str:
        """The path of the database file."""
        return str(self.path)

    def findings(self) -> Iterator[Finding]:
        """Yield the file's version, and who else on this machine can get at it and its folder."""
        yield "whole", f"yes; version {len(_MIGRATIONS)}", None
        yield from find_permissions(self.folder, self.path, self.mark_path)

    def set_aside(self) -> list[Path]:
        """Return the damaged files that were set aside and that the user has not decided about."""
        return sorted(self.folder.glob(_SET_ASIDE_FILES))

    def find_given_up(self) -> list[Path]:
        """Return the damaged files that the user goes on without."""
        return sorted(self.folder.glob(f"{_GIVEN_UP}*.sqlite3"))

    def give_up(self) -> list[Path]:
        """Go on without what was lost, on the user's word; return the damaged files, which keep another name.

        A file that is in the ledger's place, such as an older copy, is the ledger from now on, and another
        one than before: what it was copied from is not taken for it.
        """
        kept: list[Path] = []
        self._seen = None
        try:
            for path in self.set_aside():
                target = path.with_name(path.name.replace(_SET_ASIDE, _GIVEN_UP))
                for suffix in ("", *JOURNALS):
                    with contextlib.suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
                kept.append(target)
            self.mark_path.unlink(missing_ok=True)
        except OSError as error:
            raise self._fault(error) from error
        # Made at once where there is none: a process that knew the lost one finds this, and misses nothing.
        with self.transaction() as connection:
            connection.execute(text(RENAME))
        return kept

    def _mark_put_back(self) -> Mark | None:
        """Write down anew the mark of a ledger that was deleted under this process together with its mark.

        From then on it is a ledger that is gone, for all processes, with the same way out.
        """
        seen, self._seen = self._seen, None
        if seen is None or identity(self.path) is not None:
            return None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        advance_mark(self.mark_path, seen)
        return read_mark(self.mark_path)

    # The file

    def _open_engines(self, mark: Mark | None) -> _Engines:
        with self._opening:
            if self._engines is not None and self._file == identity(self.path):
                return self._engines
            # Moved or deleted under this process: what it holds open is no longer the ledger.
            self._dispose()
            # Looked at before those that were set aside: what is set aside meanwhile is not made anew.
            is_there = identity(self.path) is not None
            if self.set_aside():
                raise self._corrupt()
            if is_there and not self.path.stat().st_size:
                # It gets its name when it is whole: what is empty was emptied.
                raise _DamagedError
            if not is_there and mark is not None:
                raise self._missing(mark)
            if self._read_only:
                engine, self._file = self._open_to_look()
            else:
                if not is_there:
                    self._make()
                engine, self._file = self._open_to_write(mark)
            self._engines = _Engines(engine, engine.execution_options(**{READING: True}))
            return self._engines

    def _open_to_write(self, mark: Mark | None) -> tuple[Engine, tuple[int, int] | None]:
        self._leave_newer_alone()
        engine = open_engine(self.path, self._busy_seconds)
        event.listen(engine, "connect", prepare)
        try:
            file = identity(self.path)
            with engine.begin() as connection:
                self._migrate(connection)
                state = _state(connection)
                # Where it is refused it is not migrated either.
                self._refuse_lesser(state, mark)
        except BaseException:
            engine.dispose()
            raise
        self._advance_mark(state)
        return engine, file

    def _open_to_look(self) -> tuple[Engine, tuple[int, int] | None]:
        if is_write_ahead(self.path):
            raise self._error_untouched("is as an earlier sync-mcp wrote it")
        engine = open_engine(self.path, self._busy_seconds, mode="ro")
        try:
            file = identity(self.path)
            with engine.execution_options(**{READING: True}).begin() as connection:
                if self._check_version(connection) < len(_MIGRATIONS):
                    raise self._error_untouched("is as an earlier sync-mcp wrote it")
        except BaseException:
            engine.dispose()
            raise
        return engine, file

    def _make(self) -> None:
        """Make the file under another name; it gets its own when it is whole, unless another was faster."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{_NEW}{secrets.token_hex(8)}.sqlite3"
        try:
            # Made here first: what SQLite makes itself, others may read.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            engine = open_engine(path, self._busy_seconds)
            event.listen(engine, "connect", prepare)
            try:
                with engine.begin() as connection:
                    connection.execute(text("CREATE TABLE ledger (version INTEGER NOT NULL)"))
                    connection.execute(text("INSERT INTO ledger VALUES (0)"))
                    self._migrate(connection)
            finally:
                engine.dispose()
            give_name(path, self.path)
        finally:
            for suffix in ("", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def _dispose(self) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            engines.writing.dispose()

    def _leave_newer_alone(self) -> None:
        # To open it for writing can write already: what its own version had left in the journal.
        read_only = f"{self.path.as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(read_only, uri=True, timeout=self._busy_seconds)) as connection:
                versions = connection.execute("SELECT version FROM ledger").fetchall()
        except sqlite3.Error:
            # Damaged, or gone: the next look finds out.
            return
        for (version,) in versions:
            self._refuse_newer(version)

    def _refuse_newer(self, version: int) -> None:
        if version > len(_MIGRATIONS):
            raise LedgerError(
                f"The ledger {self.path} was written by a newer sync-mcp (version {version}).",
                code="ledger_newer",
            )

    def _migrate(self, connection: Connection) -> None:
        version = self._check_version(connection)
        for migrate in _MIGRATIONS[version:]:
            migrate(connection)
        if version < len(_MIGRATIONS):
            connection.execute(text("UPDATE ledger SET version = :now"), {"now": len(_MIGRATIONS)})

    def _check_version(self, connection: Connection) -> int:
        """Return the version of a file, having looked whether it is whole and not a newer one."""
        if connection.execute(text("PRAGMA quick_check(1)")).scalar() != "ok":
            raise _DamagedError
        if not inspect(connection).has_table("ledger"):
            raise _DamagedError
        versions = connection.execute(text("SELECT version FROM ledger")).scalars().all()
        if len(versions) != 1:
            raise _DamagedError
        [version] = versions
        # It may have been migrated by another process since it was looked at.
        self._refuse_newer(version)
        return version

    def _refuse_lesser(self, state: Mark, mark: Mark | None) -> None:
        """Refuse a ledger that is not the one that its mark tells of, or has come less far."""
        if mark is None:
            return
        if mark == UNREADABLE:
            # It is written anew with the next entry: until then nobody can tell, and nobody can decide.
            logger.warning(
                "the ledger's mark %s says nothing: whether entries are missing is not known", MARK_NAME
            )
            return
        if state.ledger != mark.ledger:
            raise self._loss_by_replacement(f"is another one than its mark {MARK_NAME} tells of")
        if state.revision < mark.revision:
            raise self._loss_by_replacement(
                f"is an older copy, or has lost entries: it knows {_extent(state)}, and its mark {MARK_NAME} "
                f"{_extent(mark)}"
            )

    def _advance_mark(self, state: Mark) -> None:
        try:
            advance_mark(self.mark_path, state)
        except OSError as error:
            # The ledger itself is written, and a mark may be behind.
            logger.warning("the ledger's mark cannot be written: %s", safe(str(error), REASON_LIMIT))

    def _fault(self, error: Exception) -> LedgerError:
        original = getattr(error, "orig", None) or error
        code = getattr(original, "sqlite_errorcode", 0)
        is_damaged = code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if is_damaged or isinstance(error, _DamagedError):
            if self._read_only:
                return LedgerError(f"The ledger {self.path} is damaged.", code="ledger_corrupt")
            self._set_aside_now()
            return self._corrupt()
        # The next call looks at it anew: another file may have been written into this one.
        self.close()
        if self._read_only and code == sqlite3.SQLITE_READONLY_ROLLBACK:
            return self._error_untouched("was being written by a process that died")
        if code & 0xFF == sqlite3.SQLITE_BUSY:
            return self._busy()
        used = "read" if self._read_only else "written"
        return LedgerError(
            f"The ledger {self.path} cannot be {used}: {safe(str(original), REASON_LIMIT)}.",
            to_user=_MAKE_ROOM,
        )

    def _busy(self) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} is in use by another process, which did not let go of it in time.",
            to_user=_END_OTHERS,
            next_step=_CALL_AGAIN,
        ).advise(retryable=True)

    def _set_aside_now(self) -> None:
        self.close()
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        for suffix in ("", *JOURNALS):
            path = self.path.with_name(FILE_NAME + suffix)
            # The first process to see it may have moved it already.
            with contextlib.suppress(FileNotFoundError):
                path.rename(self.folder / f"{_SET_ASIDE}{stamp}.sqlite3{suffix}")

    def _corrupt(self) -> LedgerError:
        names = ", ".join(path.name for path in self.set_aside()) or FILE_NAME
        return LedgerError(
            f"The ledger was damaged and has been set aside in {self.folder} ({names}): what was paid before "
            "is not known any more, so nothing is paid for now.",
            code="ledger_corrupt",
        )

    def _missing(self, mark: Mark) -> LedgerError:
        # It is told: another process may go on without it on the user's word.
        self._seen = None
        knew = "" if mark == UNREADABLE else f", which knew {_extent(mark)}"
        return LedgerError(
            f"The ledger {self.path} is gone{knew}: its mark {MARK_NAME} is still there. What was paid "
            "before is not known any more, so nothing is paid for now.",
            code="ledger_missing",
        )

    def _loss_by_replacement(self, how: str) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} {how}. What was paid since may not be known any more, so nothing is "
            "paid for now.",
            code="ledger_replaced",
        )

    def _error_untouched(self, how: str) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} {how}: the next paid call, or `{ledger_command('check')}`, brings it up "
            "to date.",
            code=UNTOUCHED_CODE,
        )


_MAKE_ROOM = (
    "Make room on the disk and the folder writable, or name another folder in SYNC_MCP_HOME. "
    "Nothing is paid for without the ledger."
)
_END_OTHERS = (
    "Try again in a while. If it stays so, end other processes of sync-mcp, above all those of an earlier "
    "version."
)
_CALL_AGAIN = (
    "Make the same call again in a while; nothing was paid for. If it stays so, ask the user to end other "
    "processes of sync-mcp, above all those of an earlier version."
)


def _extent(mark: Mark) -> str:
    return f"entries up to {mark.last_entry}, of {dollars(mark.counted_usd)} together"


def _state(connection: Connection) -> Mark:
    """Return how far an open ledger has come."""
    row = driver_of(connection).execute(STATE).fetchone()
    if row is None:
        raise _DamagedError
    ledger, revision, last_entry, counted = row
    return Mark(ledger, revision, last_entry, from_nano(counted))
