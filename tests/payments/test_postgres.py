"""A ledger in PostgreSQL: what that place makes of it, beside the rules that hold wherever a ledger lies."""

import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection

from sync_mcp import ConfigurationError, Ledger, LedgerError, LimitReached
from sync_mcp.campaigns import tables
from sync_mcp.payments.book.attempts import LEASE_SECONDS
from sync_mcp.payments.rows import METADATA
from sync_mcp.payments.stores import postgres, schema
from sync_mcp.payments.stores.postgres import PostgresStore
from sync_mcp.payments.stores.postgres_schema import FIRST_VERSION, TABLES, VERSIONS
from tests.postgres import WITHOUT, is_available, run_statement, with_database
from tests.stores import Databases

from .entries import BASE_URL, JOB, begun, counted, found, intended, made, run_sql, wished

pytestmark = [pytest.mark.file, pytest.mark.skipif(not is_available(), reason=WITHOUT)]
OpenLedger = Callable[..., Ledger]


@pytest.fixture(scope="module")
def shared_url(databases: Databases) -> str:
    return databases.make()


@pytest.fixture
def url(shared_url: str) -> str:
    """A database in which nothing is."""
    run_statement(shared_url, "DROP SCHEMA IF EXISTS sync_mcp CASCADE")
    return shared_url


@pytest.fixture
def open_ledger(url: str) -> Iterator[OpenLedger]:
    """Open ledgers in the database, each as a process of its own has one."""
    opened: list[Ledger] = []

    def open_one(where: str = url, **how: Any) -> Ledger:
        opened.append(Ledger(database_url=where, **how))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


def store_of(ledger: Ledger) -> PostgresStore:
    assert ledger.database is not None
    return ledger.database


def first_of(connection: Connection, statement: str) -> Any:
    return connection.exec_driver_sql(statement).scalar()


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return password


@contextmanager
def refused(match: str, *, retryable: bool = False) -> Generator[list[LedgerError]]:
    """Expect that the ledger refuses what is done; what is yielded has its error then."""
    errors: list[LedgerError] = []
    with pytest.raises(LedgerError, match=match) as caught:
        yield errors
    errors.append(caught.value)
    assert caught.value.retryable is retryable
    assert caught.value.to_user


# The tables


def test_it_is_begun_by_the_first_call_that_needs_it(ledger: Ledger, url: str) -> None:
    assert not ledger.exists()
    assert run_statement(url, "SELECT to_regnamespace('sync_mcp') IS NULL") == [(True,)]
    assert made(ledger) == 1
    assert ledger.exists()
    assert ledger.check() == 1


def test_it_has_the_columns_of_the_rows_and_the_version_of_the_file(ledger: Ledger, url: str) -> None:
    ledger.check()
    found = run_statement(
        url, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'sync_mcp'"
    )
    mapped = {(table.name, column.name) for table in METADATA.tables.values() for column in table.columns}
    assert {*found} == {*mapped, ("ledger", "version")}
    assert {table.name for table in METADATA.tables.values()} == {*TABLES} >= {tables.RUNNERS.name}
    assert FIRST_VERSION + len(VERSIONS) - 1 == len(schema.VERSIONS)


def test_of_several_that_begin_it_at_once_one_does_and_all_use_it(open_ledger: OpenLedger) -> None:
    ledgers = [open_ledger() for _ in range(6)]
    with ThreadPoolExecutor(len(ledgers)) as pool:
        ids = list(pool.map(begun, ledgers, map(str, range(len(ledgers)))))
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]


def test_who_only_looks_begins_none(open_ledger: OpenLedger, url: str) -> None:
    looking = open_ledger(read_only=True)
    assert not looking.exists()
    with pytest.raises(LedgerError) as caught:
        looking.check()
    assert caught.value.code == "ledger_untouched"
    made(open_ledger())
    assert looking.check() == 1


def test_one_of_a_newer_version_is_refused_and_left_alone(open_ledger: OpenLedger, url: str) -> None:
    ledger = open_ledger()
    begun(ledger)
    run_statement(url, "UPDATE sync_mcp.ledger SET version = 99")
    for refuses in (ledger, open_ledger()):
        with pytest.raises(LedgerError, match="version 99 of a newer sync-mcp") as caught:
            begun(refuses, "other")
        assert caught.value.code == "ledger_newer"
        with refused("version 99"):
            store_of(refuses).migrate()
    assert run_statement(url, "SELECT count(*), max(id) FROM sync_mcp.entries") == [(1, 1)]


def test_an_older_one_is_brought_up_to_date_on_the_users_word_alone(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = open_ledger()
    made(older, usd="2")
    monkeypatch.setattr(postgres, "VERSIONS", (*VERSIONS, ("ALTER TABLE entries ADD COLUMN more TEXT",)))
    monkeypatch.setattr(postgres, "_NEWEST", FIRST_VERSION + len(VERSIONS))
    newer = open_ledger()
    with refused("needs 15"):
        counted(newer)
    assert store_of(newer).migrate() == (14, 15)
    assert store_of(newer).migrate() == (15, 15)
    assert counted(newer) == 2


def test_tables_that_are_gone_under_a_process_are_not_begun_anew(ledger: Ledger, url: str) -> None:
    made(ledger)
    run_statement(url, "DROP SCHEMA sync_mcp CASCADE")
    for _ in range(2):
        with refused("not whole"):
            begun(ledger, "other")


@pytest.mark.parametrize("statement", ["DELETE FROM ledger", "DROP TABLE days"])
def test_one_that_is_not_whole_is_refused(open_ledger: OpenLedger, statement: str) -> None:
    run_sql(ledger := open_ledger(), statement)
    for each in (ledger, open_ledger()):
        with refused("not whole"):
            each.check()


# Who may use it


def test_a_role_that_may_not_create_is_told_what_it_needs(open_ledger: OpenLedger, url: str) -> None:
    run_statement(url, "DROP ROLE IF EXISTS reader")
    run_statement(url, "CREATE ROLE reader LOGIN PASSWORD 'reads'")
    parts = urlsplit(url)
    as_reader = parts._replace(netloc=f"reader:reads@{parts.hostname}:{parts.port}").geturl()
    ledger = open_ledger(as_reader)
    with refused("permission denied for database"):
        begun(ledger)
    made(open_ledger())
    with refused("permission denied for schema"):
        begun(ledger)
    run_statement(url, "GRANT USAGE ON SCHEMA sync_mcp TO reader")
    run_statement(url, "GRANT ALL ON ALL TABLES IN SCHEMA sync_mcp TO reader")
    assert begun(ledger, "other") == 2
    run_statement(url, "DROP OWNED BY reader")
    run_statement(url, "DROP ROLE reader")


def _with_another_password(url: str) -> str:
    return url.replace(password_of(url), "s3cret-and-wr0ng")


def _with_another_role(url: str) -> str:
    return url.replace("tester", "nobody")


def _with_another_database(url: str) -> str:
    return with_database(url, "nowhere")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_with_another_password, "password authentication failed"),
        (_with_another_role, "password authentication failed"),
        (_with_another_database, '"nowhere" does not exist'),
    ],
)
def test_who_is_not_let_in_is_told_so_without_the_password(
    open_ledger: OpenLedger, url: str, change: Callable[[str], str], told: str
) -> None:
    wrong = change(url)
    ledger = open_ledger(wrong)
    with refused(told) as caught:
        begun(ledger)
    shown = [repr(ledger), caught[0].next_step, caught[0].to_user, *traceback.format_exception(caught[0])]
    assert password_of(wrong) not in "".join(shown)


def test_a_server_that_is_not_there_may_come_back(open_ledger: OpenLedger, url: str) -> None:
    parts = urlsplit(url)
    nobody = parts._replace(netloc="tester:s3cret@127.0.0.1:1").geturl()
    with refused("cannot be reached", retryable=True):
        begun(open_ledger(nobody))


def test_a_database_that_cannot_hold_all_texts_is_refused(
    open_ledger: OpenLedger, url: str, databases: Databases
) -> None:
    where = databases.make("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with refused("SQL_ASCII"):
        begun(open_ledger(where))


def test_an_old_server_is_refused(open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_OLDEST_SERVER", 99)
    with refused("needs 99"):
        begun(open_ledger())


def test_where_it_lies_is_told_without_the_password(ledger: Ledger, url: str) -> None:
    assert password_of(url) not in ledger.store.place
    assert ledger.store.place == url.replace(f":{password_of(url)}", "")


# Turns, time and what is read


def test_real_money_waits_for_real_money_and_not_for_a_sandboxes(open_ledger: OpenLedger) -> None:
    holder, other = open_ledger(), open_ledger(busy_seconds=0.05)
    begun(other)
    with holder.store.transaction(is_sandbox=False):
        with refused("in use by another process", retryable=True):
            begun(other, "real")
        begun(other, "play", is_sandbox=True)
        # Whose money it is, is not known before it is read.
        with refused("in use by another process", retryable=True):
            other.accept(1, JOB)
        assert counted(other) == 1
    begun(other, "real")
    with holder.store.transaction(is_sandbox=True):
        begun(other, "real again")


def test_a_budget_is_kept_by_all_processes_together(open_ledger: OpenLedger) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    ledgers[0].check()

    def reserve(number: int) -> bool:
        try:
            begun(ledgers[number % 4], f"clip-{number}", "1", limits={"ever_usd": "10"})
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(reserve, range(24)))
    assert taken == counted(ledgers[0]) == 10


@pytest.mark.parametrize("ahead_seconds", [-30.0, 30.0])
def test_a_machine_with_another_clock_takes_over_no_living_lease(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch, ahead_seconds: float
) -> None:
    id = begun(open_ledger(), owner="here")
    other, now = open_ledger(), time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead_seconds)
    entry = found(other, id)
    assert entry.is_leased(other.store.now())
    assert other.take_over(id, wished(owner="elsewhere")) == "lost"
    assert other.spending().unresolved == 0
    assert abs(entry.leased_until - LEASE_SECONDS - now()) < 10


def test_what_is_read_is_of_one_moment(open_ledger: OpenLedger) -> None:
    reader, writer = open_ledger(), open_ledger()
    begun(writer)
    with reader.store.reading() as connection:
        count = "SELECT count(*) FROM entries"
        before = first_of(connection, count)
        begun(writer, "other")
        assert first_of(connection, count) == before == 1
    assert run_sql(reader, count) == [(2,)]


def test_what_is_answered_stands_on_the_disk_and_no_wait_is_without_end(ledger: Ledger) -> None:
    with ledger.store.transaction() as connection:
        bounds = {
            name: first_of(connection, f"SHOW {name}")
            for name in (
                "synchronous_commit",
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
            )
        }
    assert list(bounds.values()) == ["on", "10s", "15s", "12s"]


# Connections


def _end_connections(url: str) -> None:
    run_statement(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_connection_that_the_server_has_ended_is_replaced(ledger: Ledger, url: str) -> None:
    begun(ledger)
    _end_connections(url)
    begun(ledger, "other")
    assert counted(ledger) == 2


def test_a_connection_that_ends_in_a_transaction_takes_all_of_it_along(ledger: Ledger, url: str) -> None:
    begun(ledger)
    with refused("cannot be reached|for now", retryable=True), ledger.store.transaction() as connection:
        connection.exec_driver_sql("UPDATE entries SET counted_usd = 0")
        _end_connections(url)
        connection.exec_driver_sql("SELECT 1")
    assert counted(ledger) == 1


def test_who_stops_in_a_transaction_loses_it_and_lets_the_others_go_on(
    open_ledger: OpenLedger,
) -> None:
    stopped = open_ledger()
    begun(stopped)
    with refused("let go|cannot be reached", retryable=True), stopped.store.transaction() as connection:
        connection.exec_driver_sql("UPDATE entries SET counted_usd = 0")
        # Sooner than it is set to, for the test's sake.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
        begun(open_ledger(), "other")
        connection.exec_driver_sql("SELECT 1")
    assert counted(stopped) == 2


def test_behind_a_pooler_nothing_is_prepared(open_ledger: OpenLedger, url: str) -> None:
    def count_prepared(ledger: Ledger) -> int:
        for _ in range(8):
            counted(ledger)
        with ledger.store.reading() as connection:
            return first_of(connection, "SELECT count(*) FROM pg_prepared_statements")

    assert count_prepared(open_ledger(f"{url}?pgbouncer=true")) == 0
    assert count_prepared(open_ledger()) > 0


# Texts and numbers


def test_a_text_that_the_server_refuses_is_kept_without_what_it_refuses(ledger: Ledger) -> None:
    id = made(ledger)
    ledger.note_saved(JOB, BASE_URL, "/a\0b.mp4")
    assert found(ledger, id).saved_as == "/a\ufffdb.mp4"
    assert ledger.maker_of("a\0b", BASE_URL) is None
    run_sql(ledger, "UPDATE entries SET generation_id = 'a\ufffdb'")
    assert ledger.maker_of("a\0b", BASE_URL) is not None


def test_a_number_that_no_entry_has_is_only_not_there(ledger: Ledger) -> None:
    begun(ledger)
    assert ledger.entry(2**53) is None


def test_what_is_made_of_words_in_any_language_is_told_apart_letter_by_letter(ledger: Ledger) -> None:
    for account in ("b", "B", "a", "ä"):
        begun(ledger, intention=intended(account=account))
    assert [account for account, _, _ in ledger.accounts()] == ["B", "a", "b", "ä"]


# What is given


def test_a_url_that_cannot_be_used_is_refused_when_it_is_given() -> None:
    with pytest.raises(ConfigurationError, match="names no database"):
        Ledger(database_url="postgresql://user:s3cret@127.0.0.1/")


def test_off_this_machine_the_server_proves_who_it_is_and_no_other_host_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGHOST", "PGHOSTADDR"):
        monkeypatch.setenv(name, "192.0.2.1")
    monkeypatch.setenv("PGSSLMODE", "disable")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("SSL_CERT_FILE", "/our/authority.pem")
    arguments = postgres._arguments_of("postgresql://jane:p%40ss@db.example.com:5433/sync")  # pyright: ignore[reportPrivateUsage]
    assert (arguments["sslmode"], arguments["sslrootcert"]) == ("verify-full", "/our/authority.pem")
    assert (arguments["host"], arguments["hostaddr"]) == ("db.example.com", "")
    assert (arguments["user"], arguments["password"], arguments["port"]) == ("jane", "p@ss", "5433")
