"""The ledger in a PostgreSQL database, which processes on many machines share.

All that writes takes a lock of the database first, one for real money and one for sandbox money: a budget is
a sum over all entries. Time is the database's: the machines' clocks may be far apart.
"""

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any, LiteralString, NoReturn, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import certifi
import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from sync_mcp.access import LOOPBACK, check_database_url
from sync_mcp.errors import LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.stores.postgres_faults import error_of
from sync_mcp.payments.stores.postgres_schema import FIRST_VERSION, SCHEMA, TABLES, VERSIONS
from sync_mcp.payments.stores.store import Finding
from sync_mcp.texts import safe

LOCK_SECONDS = 10.0
"""How long a transaction waits for its turn, unless it is said otherwise."""
_STATEMENT_SECONDS = 15.0
_IDLE_SECONDS = 12.0
"""Who stops for so long within a transaction, as a process that is stopped does, loses it."""
_CONNECT_SECONDS = 5
_OLDEST_SERVER = 13
_LOCKS = 0x73796E63
"""By this first number our locks are told from others' in the same database; the second is one of these."""
_REAL, _SANDBOX = 1, 2
_NEWEST = FIRST_VERSION + len(VERSIONS) - 1
_MEASURED_TIMES = 5

# Read of the catalogue itself: what functions such as to_regclass tell may be from before a wait for a lock.
_LOOK = """SELECT current_setting('server_version_num')::int AS server,
    current_setting('server_encoding') AS encoding,
    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'sync_mcp') AS has_schema,
    EXISTS (SELECT FROM pg_catalog.pg_tables WHERE (schemaname, tablename) = ('sync_mcp', 'ledger'))
        AS is_there"""
# Whatever the database is set to: what is answered stands in it.
_COMMIT_TO_DISK = "SET LOCAL synchronous_commit = on"
_NOW_AND_VERSION = "SELECT extract(epoch FROM clock_timestamp())::float8, version FROM sync_mcp.ledger"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a server and a database are."""

    server: int
    """Its version, as 150004 for 15.4."""
    encoding: str
    has_schema: bool
    is_there: bool


class PostgresStore:
    """A ledger in a database (a `Store`); its tables are made when they are first needed.

    Args:
        url: as `check_database_url` lets it pass.
        read_only: look only: nothing is made or changed.
        busy_seconds: how long each transaction waits for its turn.
    """

    def __init__(self, url: str, *, read_only: bool = False, busy_seconds: float = LOCK_SECONDS) -> None:
        self._arguments = _arguments_of(url)
        self._read_only = read_only
        self._bounds = (
            f"SET LOCAL search_path = {SCHEMA}; SET LOCAL lock_timeout = '{busy_seconds * 1000:.0f}ms'; "
            f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS * 1000:.0f}ms'; "
            f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS * 1000:.0f}ms'"
        )
        self._engine: Engine | None = None
        self._opening = Lock()
        self._is_known = False
        """Whether this process has seen the ledger there: one that is gone since is not begun anew."""
        self._told: tuple[float, float] | None = None
        """The time that the database told last, and how long this machine had run then."""

    def now(self) -> float:
        """Return the time by the database's clock, in seconds since 1970: each transaction asks for it.

        Since then it goes on as this machine counts seconds, whatever its clock is set to.
        """
        if self._told is None:
            with self.reading():
                pass
        assert self._told is not None
        told, had_run = self._told
        return told + _running_seconds() - had_run

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def open(self) -> None:
        """Connect, and look whether all can be used; where there is no ledger yet, it is begun.

        Raises:
            LedgerError: the database cannot be reached, or its ledger not be used.
        """
        with self.reading() as connection:
            self.check(connection)

    # Transactions

    def transaction(self, *, is_sandbox: bool | None = None) -> AbstractContextManager[Connection]:
        """Have one kind of money, or both, to oneself from the first statement on.

        Raises:
            LedgerError: the database cannot be reached or written.
        """
        if self._read_only:
            return self.reading()
        # Always in this order: no two wait for each other.
        kinds = (_REAL, _SANDBOX) if is_sandbox is None else (_SANDBOX if is_sandbox else _REAL,)
        return self._connect(f"BEGIN; {self._bounds}; {_COMMIT_TO_DISK}; {_lock(kinds)}; {_NOW_AND_VERSION}")

    def reading(self) -> AbstractContextManager[Connection]:
        """Read as of one moment, without holding anybody up.

        Raises:
            LedgerError: the database cannot be reached or read.
        """
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        return self._connect(f"{begin}; {self._bounds}; {_NOW_AND_VERSION}")

    @contextmanager
    def _connect(self, begin: str) -> Generator[Connection]:
        try:
            with self._open().connect() as connection, connection.begin():
                row = _run(connection, begin)
                if row is None:
                    self._refuse_half()
                told, version = row
                # Another process may have brought it up to date since.
                self._check_version(version)
                self._told = told, _running_seconds()
                yield connection
        except (SQLAlchemyError, psycopg.Error) as error:
            raise error_of(error, self.place) from error

    def check(self, connection: Connection) -> None:
        """Look whether all tables are there, within a transaction, which fails where one is not."""
        for table in TABLES:
            connection.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - a name of ours

    # What is there

    def exists(self) -> bool:
        """Return whether a ledger was begun in the database; none is made.

        Raises:
            LedgerError: the database cannot be reached.
        """
        if not self._is_known:
            self._is_known = self._look().is_there
        return self._is_known

    @property
    def place(self) -> str:
        """The database, without its password."""
        arguments = self._arguments
        host = arguments["host"]
        port = f":{arguments['port']}" if "port" in arguments else ""
        user = f"{arguments['user']}@" if "user" in arguments else ""
        where = "" if host.startswith("/") else f"[{host}]" if ":" in host else host
        return f"postgresql://{user}{where}{port}/{arguments['dbname']}"

    def findings(self) -> Iterator[Finding]:
        """Yield the versions, how long transactions take, and how far this machine's clock is off."""
        yield "whole", f"yes; version {_NEWEST}", None
        yield "server", self.describe(), None
        yield "commit", f"{self._measure_commit() * 1000:.1f} ms at the median of {_MEASURED_TIMES}", None

    def describe(self) -> str:
        """Return what server it is; of one with a ledger also how long that is asked, and whose clock is off.

        Raises:
            LedgerError: the database cannot be reached.
        """
        look = self._look()
        if not look.is_there:
            return f"PostgreSQL {look.server // 10_000}"
        began = time.perf_counter()
        with self.reading():
            ahead = time.time() - self.now()
        asked = (time.perf_counter() - began) * 1000
        return (
            f"PostgreSQL {look.server // 10_000}; schema version {_NEWEST}; a transaction that reads takes "
            f"{asked:.1f} ms; this machine's clock is {ahead:+.3f} s beside the server's, which alone decides"
        )

    def _measure_commit(self) -> float:
        seconds: list[float] = []
        for _ in range(_MEASURED_TIMES):
            began = time.perf_counter()
            with self.transaction() as connection:
                connection.exec_driver_sql("UPDATE ledger SET version = version")
            seconds.append(time.perf_counter() - began)
        return median(seconds)

    # The schema

    def migrate(self) -> tuple[int | None, int]:
        """Make the tables, or bring them to the version of this program, while nobody else writes.

        Returns:
            The version before, None where there was none, and the one that it has now.

        Raises:
            LedgerError: the database cannot be reached or changed, or its ledger is a newer program's.
        """
        try:
            with self._engine_without_look().connect() as connection, connection.begin():
                _run(connection, f"BEGIN; {self._bounds}; {_lock((_REAL, _SANDBOX))}")
                _refuse_unusable(look := _look_through(connection), self.place)
                before = self._migrate(connection, look)
        except (SQLAlchemyError, psycopg.Error) as error:
            raise error_of(error, self.place) from error
        self._is_known = True
        return before, _NEWEST

    def _migrate(self, connection: Connection, look: _Look) -> int | None:
        if not look.is_there:
            # Who may not make a schema can be given one.
            if not look.has_schema:
                connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            before, done = None, 0
        else:
            versions = connection.exec_driver_sql("SELECT version FROM ledger").scalars().all()
            if len(versions) != 1:
                self._refuse_half()
            [before] = versions
            if before > _NEWEST:
                self._check_version(before)
            done = before - FIRST_VERSION + 1
        for statement in (statement for version in VERSIONS[done:] for statement in version):
            connection.exec_driver_sql(statement)
        if before is None:
            connection.execute(text("INSERT INTO ledger VALUES (:now)"), {"now": _NEWEST})
        elif before < _NEWEST:
            connection.execute(text("UPDATE ledger SET version = :now"), {"now": _NEWEST})
        return before

    def _check_version(self, version: int) -> None:
        if version > _NEWEST:
            raise LedgerError(
                f"The ledger in {self.place} has the version {version} of a newer sync-mcp; this one knows "
                f"{_NEWEST}.",
                code="ledger_newer",
            )
        if version < _NEWEST:
            raise LedgerError(
                f"The ledger in {self.place} has the version {version}, and this sync-mcp needs {_NEWEST}.",
                to_user="Update sync-mcp on all machines that use this database, then run "
                f"`{ledger_command('migrate')}` on one of them.",
            )

    def _refuse_half(self) -> NoReturn:
        raise LedgerError(
            f"The ledger in {self.place} is not whole: its tables have no version.",
            to_user=f"Restore the database from a backup; or drop its schema {SCHEMA}, if nothing was ever "
            "paid by it.",
        )

    # Connections

    def _open(self) -> Engine:
        engine = self._engine_without_look()
        if not self._is_known:
            look = self._look()
            if look.is_there:
                self._is_known = True
            elif self._read_only:
                raise LedgerError(
                    f"There is no ledger in {self.place} yet: the next paid call begins one.",
                    code="ledger_untouched",
                )
            else:
                self.migrate()
        return engine

    def _look(self) -> _Look:
        try:
            with self._engine_without_look().connect() as connection:
                look = _look_through(connection)
        except (SQLAlchemyError, psycopg.Error) as error:
            raise error_of(error, self.place) from error
        _refuse_unusable(look, self.place)
        return look

    def _engine_without_look(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = _make_engine(self._arguments)
            return self._engine


def _look_through(connection: Connection) -> _Look:
    row = connection.exec_driver_sql(_LOOK).one()
    return _Look(row.server, row.encoding, row.has_schema, row.is_there)


def _refuse_unusable(look: _Look, place: str) -> None:
    if look.server < _OLDEST_SERVER * 10_000:
        raise LedgerError(
            f"The server of {place} is PostgreSQL {look.server // 10_000}; a ledger needs {_OLDEST_SERVER}.",
            to_user="Update the server, or name another one in SYNC_MCP_DATABASE_URL.",
        )
    if look.encoding != "UTF8":
        raise LedgerError(
            f"The database {place} has the encoding {safe(look.encoding, 20)}; the ledger needs UTF8.",
            to_user="Name a database in SYNC_MCP_DATABASE_URL that was made with ENCODING 'UTF8'.",
        )


def _lock(kinds: Sequence[int]) -> str:
    return "; ".join(f"SELECT pg_advisory_xact_lock({_LOCKS}, {kind})" for kind in kinds)


def _run(connection: Connection, statements: str) -> tuple[Any, ...] | None:
    """Run statements in one trip to the server; return the first row of the last one."""
    driver = cast(psycopg.Connection[tuple[Any, ...]], connection.connection.driver_connection)
    # Several in one are never prepared.
    cursor = driver.execute(cast(LiteralString, statements), prepare=False)
    while cursor.nextset():
        pass
    return None if cursor.description is None else cursor.fetchone()


def _arguments_of(url: str) -> dict[str, str]:
    """Return what the driver connects with; hosts that its own environment variables name do not count."""
    parts = urlsplit(check_database_url(url))
    host = parts.hostname or ""
    named = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "port": str(parts.port or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    arguments = {"application_name": "sync-mcp", "host": host, "hostaddr": ""}
    arguments |= {name: value for name, value in named.items() if value}
    if host and host not in LOOPBACK:
        arguments["sslmode"] = "verify-full"
        if not _has_own_authorities():
            # The driver's own library looks for the system's where there are none.
            arguments["sslrootcert"] = os.environ.get("SSL_CERT_FILE") or certifi.where()
    return arguments | dict(parse_qsl(parts.query))


def _has_own_authorities() -> bool:
    return bool(os.environ.get("PGSSLROOTCERT")) or Path("~/.postgresql/root.crt").expanduser().exists()


def _make_engine(given: Mapping[str, str]) -> Engine:
    arguments = dict(given)
    # A pooler that hands out a connection for each transaction knows nothing of what was prepared in another.
    threshold = None if arguments.pop("pgbouncer", "") == "true" else 5

    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            make_conninfo("", **arguments),
            connect_timeout=_CONNECT_SECONDS,
            client_encoding="UTF8",
            # Transactions are begun by hand: with their locks and bounds, in one trip.
            autocommit=True,
            prepare_threshold=threshold,
        )

    engine = create_engine(
        # Without an address: that has the password, and this is shown in errors.
        "postgresql+psycopg://",
        creator=connect,
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,
        pool_timeout=LOCK_SECONDS,
        hide_parameters=True,
        use_native_hstore=False,
    )
    event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
    return engine


def _without_nul(_: object, __: object, statement: str, parameters: Any, *___: object) -> tuple[str, Any]:
    """Take out of texts what PostgreSQL takes in none, of what is written and of what is looked for alike."""
    if isinstance(parameters, Mapping):
        return statement, _clean(cast(Mapping[str, object], parameters))
    many = cast(Sequence[Mapping[str, object]], parameters)
    return statement, [_clean(each) for each in many] if many else parameters


def _clean(parameters: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) else value
        for name, value in parameters.items()
    }


def _running_seconds() -> float:
    """Return how long this machine has run, with the time in which it slept where the system counts that."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
