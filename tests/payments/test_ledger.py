"""The ledger on real files, in several processes, on a disk and a clock that misbehave."""

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from sqlalchemy import Connection, text, update

from sync_mcp import Ledger, LedgerError, LimitReached
from sync_mcp.errors import InvalidRequestError, QuoteRefused
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Instant, MustAsk, Token
from sync_mcp.payments.book.agreements import QUOTE_SECONDS
from sync_mcp.payments.book.endings import LEFT_OPEN_AFTER_SECONDS
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import HIGHEST_USD
from sync_mcp.payments.rows import ENTRIES, LEASE_SECONDS, Charged, TokenKind
from sync_mcp.payments.stores import sqlite, sqlite_file
from sync_mcp.payments.stores.sqlite import SqliteStore
from tests.serving.stdio.forked import run_forked

from .conftest import Clock
from .entries import (
    ACCOUNT,
    BASE_URL,
    JOB,
    LedgerOf,
    begun,
    counted,
    ended,
    found,
    generation_of,
    intended,
    is_taken,
    left_open,
    made,
    now_of,
    priced,
    quoted,
    refuse,
    run_sql,
    settle,
    unsettled,
    wished,
)

ANOTHER = "0b5fda45-0001"
DAY_SECONDS = 86_400.0
PATIENCE_SECONDS = 60
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs modes, forks or limits of POSIX")


@pytest.fixture(autouse=True)
def new_ledgers_are_copies() -> None:
    """Here they are not: each ledger is made as the product makes it."""


# The file


@pytest.mark.file
def test_a_ledger_lies_where_it_is_told_to_by_default_with_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_MCP_HOME", str(tmp_path / "named"))
    assert Ledger().file.folder == tmp_path / "named"
    assert Ledger(tmp_path / "given").file.folder == tmp_path / "given"
    monkeypatch.delenv("SYNC_MCP_HOME")
    assert Ledger().file.folder == platformdirs.user_data_path("sync-mcp")


@pytest.mark.file
def test_nothing_is_made_before_it_is_needed(ledger: Ledger, home: Path) -> None:
    assert not ledger.exists()
    assert not home.exists()
    ledger.check()
    assert ledger.exists()
    assert ledger.file.path == home / "ledger.sqlite3"


@pytest.mark.file
@posix_only
def test_the_user_alone_can_read_it(ledger: Ledger, home: Path) -> None:
    before = os.umask(0)
    try:
        id = begun(ledger)
        with closing(sqlite3.connect(ledger.file.path, isolation_level=None)) as writing:
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("DELETE FROM entries WHERE id = ?", (id,))
            modes = {path.name: path.stat().st_mode & 0o777 for path in (home, *home.iterdir())}
            writing.execute("ROLLBACK")
    finally:
        os.umask(before)
    assert modes.pop(home.name) == 0o700
    assert modes.keys() == {"ledger.sqlite3", "ledger.sqlite3-journal", "ledger.mark.json"}
    assert set(modes.values()) == {0o600}


@pytest.mark.file
@pytest.mark.parametrize("name", ["with space", "50%25 off", "what?mode=ro", "a#b;c", "ключ"])
@posix_only
def test_a_folder_may_have_any_name(ledger_of: LedgerOf, tmp_path: Path, name: str) -> None:
    first, second = ledger_of(tmp_path / name), ledger_of(tmp_path / name)
    id = begun(first)
    assert (tmp_path / name / "ledger.sqlite3").is_file()
    assert found(second, id).state == "sending"


@pytest.mark.file
def test_no_query_string_and_no_key_stands_in_the_file(ledger: Ledger) -> None:
    intention = intended(query="?X-Amz-Signature=SECRET&token=SECRET")
    request = generation_of(intention).request.model_copy(
        update={"webhook_url": "https://h/hook?secret=SECRET"}
    )
    begun(ledger, intention=Intention(GenerationAct.of(request), account=ACCOUNT, base_url=BASE_URL))
    ledger.close()
    kept = ledger.file.path.read_bytes()
    assert b"https://h/clip.mp4" in kept
    assert b"SECRET" not in kept


def test_many_threads_may_open_it_at_once(ledger: Ledger) -> None:
    def begin(number: int) -> int:
        return begun(ledger, f"clip-{number}")

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(begin, range(16)))
    assert len(ids) == 16


@pytest.mark.file
def test_a_file_that_was_moved_away_is_not_written_to_any_more(ledger: Ledger, home: Path) -> None:
    begun(ledger)
    elsewhere = ledger.file.path.rename(home / "elsewhere")
    content = elsewhere.read_bytes()
    # Whoever holds the old file open would keep books that nobody reads.
    with pytest.raises(LedgerError, match="is gone"):
        begun(ledger, "new")
    assert elsewhere.read_bytes() == content


@pytest.mark.file
def test_of_several_that_make_the_file_at_once_one_does_and_all_use_it(
    ledger: Ledger, ledger_of: LedgerOf, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ledger_of()
    migrations = sqlite._MIGRATIONS  # pyright: ignore[reportPrivateUsage]

    def make_slowly(connection: Connection) -> None:
        # Until it is whole it has no name; meanwhile another makes one, and writes to it.
        assert not ledger.file.path.exists()
        monkeypatch.setattr(sqlite, "_MIGRATIONS", migrations)
        begun(other, "theirs")
        migrations[0](connection)

    monkeypatch.setattr(sqlite, "_MIGRATIONS", (make_slowly, *migrations[1:]))
    begun(ledger, "ours")
    assert [entry.id for entry in other.entries(limit=None)] == [2, 1]
    other.close()
    ledger.close()
    kept = {"ledger.sqlite3", "ledger.sqlite3-journal", "ledger.mark.json"}
    assert {path.name for path in home.iterdir()} == kept


@pytest.mark.file
@posix_only
def test_a_process_that_dies_while_it_makes_the_file_leaves_none(ledger: Ledger, home: Path) -> None:
    _run(
        _PRELUDE
        + """
from sync_mcp.payments.stores import sqlite
sqlite._MIGRATIONS = (lambda _: os._exit(0),)
Ledger(folder).check()
os._exit(1)
""",
        str(home),
    )
    assert not ledger.exists()
    begun(ledger)


@pytest.mark.file
def test_a_file_that_is_set_aside_while_it_is_opened_is_not_made_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(ledger)
    ledger.close()
    set_aside = SqliteStore.set_aside

    def look(self: SqliteStore) -> list[Path]:
        found = set_aside(self)
        if ledger.file.path.exists():
            ledger.file.path.rename(ledger.file.path.with_name("ledger-corrupt-1.sqlite3"))
        return found

    monkeypatch.setattr(SqliteStore, "set_aside", look)
    with pytest.raises(LedgerError):
        begun(ledger, "new")
    assert not ledger.file.path.exists()


# Attempts


def test_an_attempt_is_written_down_once(ledger: Ledger, ledger_of: LedgerOf) -> None:
    entry, is_ours = ledger.begin(wished(usd="1.5", owner="first"))
    again, is_again_ours = ledger_of().begin(wished(usd="1.5", owner="second"))
    assert (is_ours, is_again_ours) == (True, False)
    assert again.id == entry.id
    assert again.owner == "first"
    assert (again.state, again.attempt, again.take, again.account) == ("sending", 1, 1, ACCOUNT)
    assert again.idempotency_key == intended().idempotency_key(1)
    assert (again.estimate_usd, again.counted_usd, again.cost_usd) == (Decimal("1.5"), Decimal("1.5"), None)
    assert counted(ledger) == Decimal("1.5")


def test_the_next_attempt_and_another_take_have_entries_and_keys_of_their_own(ledger: Ledger) -> None:
    first, second = begun(ledger), begun(ledger, attempt=2)
    third = begun(ledger, intention=intended(take=2))
    entries = [found(ledger, id) for id in (first, second, third)]
    assert len({entry.idempotency_key for entry in entries}) == 3
    latest = ledger.latest(intended())
    assert latest is not None
    assert latest.id == second


def test_a_living_owner_keeps_its_attempt_and_a_dead_one_loses_it(ledger: Ledger, clock: Clock) -> None:
    id = begun(ledger, owner="first")
    for _ in range(5):
        clock.now += LEASE_SECONDS - 1
        assert ledger.renew(id, "first")
        assert not ledger.renew(id, "second")
        assert not is_taken(ledger, id, "second")
        assert ledger.list_unresolved([ACCOUNT], BASE_URL) == []
    clock.now += LEASE_SECONDS
    assert [entry.id for entry in ledger.list_unresolved([ACCOUNT], BASE_URL)] == [id]
    assert is_taken(ledger, id, "second")
    # It is the second's now: the first cannot renew it, nor say what came of it.
    assert not is_taken(ledger, id, "third")
    assert not ledger.renew(id, "first")
    refuse(ledger, id, "first", "nope")
    ledger.doubt(id, "first", None)
    assert (found(ledger, id).state, found(ledger, id).owner) == ("sending", "second")
    ledger.doubt(id, "second", None)
    assert not ledger.renew(id, "second")
    assert not ledger.renew(99, "second")


def test_a_clock_that_is_set_back_a_little_ends_no_lease(ledger: Ledger, clock: Clock) -> None:
    id = begun(ledger)
    clock.now -= 1
    assert not is_taken(ledger, id, "second")
    assert ledger.list_unresolved([ACCOUNT], BASE_URL) == []


def test_a_lease_from_a_clock_that_ran_ahead_does_not_last_until_that_day(
    ledger: Ledger, clock: Clock
) -> None:
    id = begun(ledger)
    clock.now -= DAY_SECONDS
    assert is_taken(ledger, id, "second")


def test_a_refused_attempt_is_free_and_one_in_doubt_counts(ledger: Ledger) -> None:
    refused, doubted = begun(ledger, "one"), begun(ledger, "two")
    refuse(ledger, refused, "me", "bad\ninput")
    ledger.doubt(doubted, "me", JOB)
    ledger.doubt(doubted, "me", None)
    spending = ledger.spending()
    assert (spending.ever_usd, spending.unresolved_usd, spending.unresolved) == (1, 1, 1)
    assert spending.reserved_usd == 0
    assert (found(ledger, refused).charged, found(ledger, refused).error_code) == ("no", "bad input")
    assert (found(ledger, doubted).state, found(ledger, doubted).named_id) == ("unknown", JOB)
    assert is_taken(ledger, doubted, "second")


def test_an_attempt_of_a_dead_process_is_counted_among_the_unresolved(ledger: Ledger, clock: Clock) -> None:
    begun(ledger)
    spending = ledger.spending()
    assert (spending.reserved_usd, spending.unresolved) == (1, 0)
    clock.now += LEASE_SECONDS
    spending = ledger.spending()
    assert (spending.reserved_usd, spending.unresolved_usd, spending.unresolved) == (0, 1, 1)


def test_a_job_that_was_found_goes_to_one_attempt_alone(ledger: Ledger) -> None:
    first, second = begun(ledger, "one"), begun(ledger, "two")
    assert ledger.claim(first, JOB) == "mine"
    assert ledger.claim(second, JOB) == "another's"
    assert (found(ledger, first).state, found(ledger, first).was_found) == ("accepted", True)
    assert found(ledger, second).state == "sending"


def test_between_takes_of_the_same_thing_a_found_job_is_unclear(ledger: Ledger) -> None:
    first, second = begun(ledger), begun(ledger, intention=intended(take=2))
    assert ledger.claim(first, JOB) == "unclear"
    ledger.accept(second, ANOTHER)
    assert ledger.claim(first, JOB) == "mine"


def test_what_the_api_answers_goes_before_what_was_found(ledger: Ledger) -> None:
    finder, maker = begun(ledger, "one"), begun(ledger, "two")
    assert ledger.claim(finder, JOB) == "mine"
    ledger.accept(maker, JOB)
    assert (found(ledger, maker).state, found(ledger, maker).generation_id) == ("accepted", JOB)
    assert (found(ledger, finder).state, found(ledger, finder).generation_id) == ("unknown", None)
    assert counted(ledger) == 2


def test_an_answer_that_comes_twice_changes_nothing(ledger: Ledger) -> None:
    id = ended(ledger, charged="yes", cost="0.5")
    ledger.accept(id, JOB)
    assert (found(ledger, id).state, counted(ledger)) == ("ended", Decimal("0.5"))


@pytest.mark.parametrize("state", ["accepted", "ended", "deleted"])
def test_a_second_job_of_one_attempt_is_written_down_beside_the_first(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    id = made(ledger, usd="0.5")
    if state == "ended":
        settle(ledger, id, "FAILED", charged="yes", cost="0.5")
    elif state == "deleted":
        ledger.delete_job(id, generation_id=JOB, now=time.time())
    other = begun(ledger, usd="0.5", attempt=2, paid_before=id)
    # Told twice, it is written down once.
    for _ in range(2):
        ledger.accept(id, ANOTHER)
    second, untouched, first = ledger.entries(limit=None)
    assert (untouched.id, untouched.state) == (other, "sending")
    assert (first.id, first.state, first.generation_id) == (id, state, JOB)
    assert (second.state, second.generation_id, second.attempt) == ("accepted", ANOTHER, 3)
    assert (second.digest, second.summary, second.was_found) == (first.digest, first.summary, False)
    assert second.idempotency_key == first.idempotency_key
    assert (second.estimate_usd, counted(ledger)) == (Decimal("0.5"), Decimal("1.5"))
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert JOB in told
    assert ANOTHER in told


@pytest.mark.parametrize(
    ("charged", "cost", "counts", "reserved"),
    [
        ("yes", "0.7", "0.7", 0),
        ("yes", "1.3", "1.3", 0),
        ("yes", None, "1", 1),
        ("no", None, "0", 0),
        ("unknown", None, "1", 1),
    ],
)
def test_what_a_job_cost_counts_in_the_place_of_its_estimate_which_is_reserved_until_then(
    ledger: Ledger, charged: Charged, cost: str | None, counts: str, reserved: int
) -> None:
    ended(ledger, charged=charged, cost=cost)
    spending = ledger.spending()
    assert (spending.ever_usd, spending.reserved_usd) == (Decimal(counts), reserved)


@pytest.mark.parametrize(
    ("usd", "charged", "counted_usd", "counts"),
    [
        ("1", "unknown", "1.5", "1.5"),
        ("1", "yes", "0.5", "1"),
        (None, "unknown", "0.5", "0.5"),
        (None, "unknown", None, "0"),
        ("1", "no", "1.5", "0"),
    ],
)
def test_until_a_cost_is_known_the_most_that_it_may_be_counts(
    ledger: Ledger, usd: str | None, charged: Charged, counted_usd: str | None, counts: str
) -> None:
    id = made(ledger, usd=usd)
    most = None if counted_usd is None else Decimal(counted_usd)
    ended_at = time.time() - 3600
    settle(ledger, id, "FAILED", charged=charged, counted_usd=most, ended_at=ended_at)
    assert counted(ledger) == Decimal(counts)


@pytest.mark.parametrize(("charged", "cost"), [("yes", "0.7"), ("no", "0")])
def test_a_cost_that_was_known_stays_known(ledger: Ledger, charged: Charged, cost: str) -> None:
    id = ended(ledger, charged=charged, cost=cost)
    settle(ledger, id, str(found(ledger, id).status), charged="unknown", counted_usd=Decimal(3))
    entry = found(ledger, id)
    assert (entry.cost_usd, entry.charged, counted(ledger)) == (Decimal(cost), charged, Decimal(cost))


@pytest.mark.parametrize(
    ("status", "seconds", "charged"),
    [
        ("FAILED", 599, "unknown"),
        ("FAILED", 600, "no"),
        ("COMPLETED", 6 * 3600 - 1, "unknown"),
        ("COMPLETED", 6 * 3600, "no"),
    ],
)
def test_a_cost_of_nothing_is_believed_only_when_the_api_has_had_its_time(
    ledger: Ledger, status: str, seconds: float, charged: Charged
) -> None:
    id = made(ledger)
    settle(ledger, id, status, charged="no", cost="0", now=5_000.0)
    assert (found(ledger, id).charged, counted(ledger)) == ("unknown", 1)
    settle(ledger, id, status, charged="no", cost="0", now=5_000.0 + seconds)
    assert (found(ledger, id).charged, counted(ledger)) == (charged, 0 if charged == "no" else 1)


def test_a_status_that_contradicts_what_was_written_down_makes_its_cost_unknown_again(
    ledger: Ledger,
) -> None:
    id = ended(ledger, charged="no", cost="0")
    settle(ledger, id, "COMPLETED", charged="unknown")
    entry = found(ledger, id)
    assert (entry.status, entry.cost_usd, entry.charged, counted(ledger)) == ("COMPLETED", None, "unknown", 1)


@pytest.mark.parametrize(("cost", "counts"), [("3", "3"), ("0.5", "1")])
def test_a_contradicting_status_whose_cost_is_not_told_makes_no_cost_count_less(
    ledger: Ledger, cost: str, counts: str
) -> None:
    id = ended(ledger, charged="yes", cost=cost)
    settle(ledger, id, "FAILED", charged="no", cost="0", ended_at=time.time())
    entry = found(ledger, id)
    assert (entry.status, entry.cost_usd, entry.charged) == ("FAILED", None, "unknown")
    assert counted(ledger) == Decimal(counts)


def test_a_cost_that_is_told_to_be_another_counts_as_it_is_told_last(ledger: Ledger) -> None:
    id = ended(ledger, charged="yes", cost="0.5")
    settle(ledger, id, "COMPLETED", charged="yes", cost="0.75")
    assert counted(ledger) == Decimal("0.75")


def test_what_is_told_of_a_job_that_is_no_longer_an_entrys_changes_nothing(ledger: Ledger) -> None:
    def tell(id: int, job: str) -> None:
        settle(ledger, id, "FAILED", charged="no", generation_id=job)
        ledger.delete_job(id, generation_id=job, now=time.time())

    finder, maker = begun(ledger, "one"), begun(ledger, "two")
    ledger.claim(finder, JOB)
    # While its job is asked for, the attempt that made it is told so.
    ledger.accept(maker, JOB)
    tell(finder, JOB)
    tell(maker, ANOTHER)
    tell(99, JOB)
    assert (found(ledger, finder).state, found(ledger, maker).state) == ("unknown", "accepted")
    ledger.delete_job(maker, generation_id=JOB, now=time.time())
    tell(maker, JOB)
    assert (found(ledger, maker).state, counted(ledger)) == ("deleted", 2)


def test_a_cost_that_nobody_tells_is_asked_for_each_time_a_day_long_and_then_as_what_is_left_open(
    ledger: Ledger, clock: Clock
) -> None:
    id = ended(ledger, charged="unknown")
    asked = unsettled(ledger, 10)
    assert asked == [id]
    clock.now += LEFT_OPEN_AFTER_SECONDS / 2
    settle(ledger, id, "FAILED", charged="unknown")
    assert left_open(ledger) == []
    # That it was asked for again does not make the day begin anew.
    clock.now += LEFT_OPEN_AFTER_SECONDS / 2 + 1
    assert unsettled(ledger, 10) == []
    assert left_open(ledger) == [id]
    clock.now += 400 * LEFT_OPEN_AFTER_SECONDS
    assert left_open(ledger) == [id]
    assert counted(ledger) == 1


def test_what_is_left_open_is_running_deleted_or_let_go_of_and_may_cost_something(
    ledger: Ledger, clock: Clock
) -> None:
    running = made(ledger, "one", job="j1")
    deleted = ended(ledger, "two", charged="unknown", job="j2")
    ledger.delete_job(deleted, generation_id="j2", now=time.time())
    let_go = ended(ledger, "three", charged="unknown", job="j3")
    ledger.release(let_go)
    # Of these all is known.
    ended(ledger, "four", charged="yes", cost="1", job="j4")
    ended(ledger, "five", charged="no", cost="0", job="j5")
    ledger.release(made(ledger, "six", job="j6"))
    assert left_open(ledger) == []
    clock.now += LEFT_OPEN_AFTER_SECONDS + 1
    assert left_open(ledger) == [running, deleted, let_go]
    assert unsettled(ledger, 10) == []


@pytest.mark.parametrize("state", ["deleted", "released"])
def test_a_deleted_or_released_job_that_was_free_gives_its_money_back_and_stays_what_it_is(
    ledger: Ledger, state: str
) -> None:
    id = ended(ledger, charged="unknown")
    if state == "deleted":
        ledger.delete_job(id, generation_id=JOB, now=time.time())
    else:
        ledger.release(id)
    assert counted(ledger) == 1
    settle(ledger, id, "FAILED", charged="no", cost="0")
    assert (found(ledger, id).state, found(ledger, id).charged, counted(ledger)) == (state, "no", 0)


def test_what_the_user_said_made_nothing_takes_no_money_again(ledger: Ledger) -> None:
    id = made(ledger)
    ledger.release(id)
    settle(ledger, id, "FAILED", charged="unknown")
    assert (found(ledger, id).state, counted(ledger)) == ("released", 0)


@pytest.mark.parametrize(
    ("status", "cost", "charged", "counts", "now_charged"),
    [
        ("COMPLETED", "3", "yes", "3", "yes"),
        ("FAILED", "3", "yes", "3", "yes"),
        # That it was made is seen; what it cost is not told yet.
        ("COMPLETED", None, "unknown", "1", "unknown"),
    ],
)
def test_a_job_that_was_let_go_of_as_never_made_and_is_seen_to_cost_something_counts_again(
    ledger: Ledger, status: str, cost: str | None, charged: Charged, counts: str, now_charged: str
) -> None:
    id = made(ledger)
    ledger.release(id)
    assert counted(ledger) == 0
    settle(ledger, id, status, charged=charged, cost=cost)
    entry = found(ledger, id)
    assert (entry.state, entry.charged, counted(ledger)) == ("released", now_charged, Decimal(counts))


def test_a_job_that_was_let_go_of_as_never_made_is_asked_for_a_day(ledger: Ledger, clock: Clock) -> None:
    id = made(ledger)
    ledger.release(id)
    assert unsettled(ledger, 10) == [id]
    clock.now += LEFT_OPEN_AFTER_SECONDS + 1
    assert (unsettled(ledger, 10), left_open(ledger)) == ([], [])


def test_running_jobs_are_asked_for_before_costs_and_the_oldest_first(ledger: Ledger, clock: Clock) -> None:
    without_cost = ended(ledger, "one", charged="unknown", job="j1")
    running: list[int] = []
    for name in ("two", "three"):
        clock.now += 1
        running.append(made(ledger, name, job=name))
    ended(ledger, "four", charged="yes", cost="1", job="j4")
    assert unsettled(ledger, 10) == [*running, without_cost]


def test_every_job_is_asked_for_in_the_end_though_others_never_end(ledger: Ledger) -> None:
    ids = {made(ledger, name, job=name) for name in ("one", "two", "three", "four")}
    ids.add(ended(ledger, "five", charged="unknown", job="five"))
    waiting = set(ids)
    for _ in range(500):
        asked = set(unsettled(ledger, 2))
        assert len(asked) == 2
        waiting -= asked
        if not waiting:
            break
    assert not waiting


def test_a_job_that_was_deleted_stays_spent(ledger: Ledger) -> None:
    id = made(ledger)
    ledger.delete_job(id, generation_id=JOB, now=time.time())
    assert (found(ledger, id).state, counted(ledger)) == ("deleted", 1)
    assert unsettled(ledger, 10) == []


# Accounts


def test_an_account_stays_what_it_was_when_it_was_first_told(ledger: Ledger) -> None:
    assert ledger.account_of("print", BASE_URL) is None
    assert ledger.keep_account("print", BASE_URL, "key:print") == "key:print"
    assert ledger.keep_account("print", BASE_URL, "org:other") == "key:print"
    assert ledger.account_of("print", BASE_URL) == ("key:print", False)
    assert ledger.account_of("print", "https://other") is None


def test_accounts_are_told_apart_and_share_the_budgets(ledger: Ledger) -> None:
    begun(ledger, usd="1", limits={"ever_usd": "1"})
    other = intended(account="org:two")
    with pytest.raises(LimitReached):
        begun(ledger, usd="0.8", limits={"ever_usd": "1.79"}, intention=other)
    id = begun(ledger, usd="0.8", limits={"ever_usd": "1.8"}, intention=other)
    ledger.doubt(id, "me", None)
    assert counted(ledger) == Decimal("1.8")
    assert ledger.list_unresolved([ACCOUNT], BASE_URL) == []
    assert [entry.id for entry in ledger.list_unresolved(["org:two"], BASE_URL)] == [id]
    assert [(account, spending.ever_usd) for account, _, spending in ledger.accounts()] == [
        (ACCOUNT, 1),
        ("org:two", Decimal("0.8")),
    ]


# Money


@pytest.mark.parametrize(
    "usd", ["0", "0.000000001", "0.1", "0.226", "1.000000001", "123456.789012345", "1000000"]
)
def test_money_comes_out_as_it_went_in(ledger: Ledger, usd: str) -> None:
    id = ended(ledger, usd=usd, charged="yes", cost=usd)
    entry = found(ledger, id)
    assert (entry.estimate_usd, entry.cost_usd, entry.counted_usd) == (Decimal(usd),) * 3


def test_sums_are_exact(ledger: Ledger) -> None:
    for number in range(10):
        begun(ledger, f"clip-{number}", "0.100000001")
    assert counted(ledger) == Decimal("1.00000001")


def test_what_is_finer_than_a_billionth_is_rounded_up(ledger: Ledger) -> None:
    begun(ledger, usd="0.0000000001")
    assert counted(ledger) == Decimal("0.000000001")


@pytest.mark.parametrize(("usd", "counts"), [("-5", Decimal(0)), ("1e30", HIGHEST_USD)])
def test_an_absurd_price_frees_no_money_and_breaks_no_sum(ledger: Ledger, usd: str, counts: Decimal) -> None:
    ended(ledger, "one", usd, charged="yes", cost=usd)
    assert counted(ledger) == counts
    begun(ledger, "two", "1")
    assert counted(ledger) == counts + 1


@pytest.mark.parametrize("limit", ["per_job_usd", "per_day_usd", "ever_usd"])
def test_a_limit_can_be_reached_and_not_passed(ledger: Ledger, limit: str) -> None:
    begun(ledger, "one", "1.00", limits={limit: "1.00"})
    with pytest.raises(LimitReached):
        begun(ledger, "two", "1.000000001", limits={limit: "1.00"})
    assert counted(ledger) == 1
    assert ledger.latest(intended("two")) is None


def test_with_a_limit_an_unknown_price_is_refused_and_without_one_it_counts_nothing(ledger: Ledger) -> None:
    with pytest.raises(LimitReached, match="unknown"):
        begun(ledger, usd=None, limits={"ever_usd": "100"})
    assert found(ledger, begun(ledger, usd=None)).counted_usd == 0


def test_what_was_not_charged_can_be_spent_again(ledger: Ledger) -> None:
    budget = {"per_day_usd": "1"}
    ended(ledger, "one", "1", limits=budget, charged="no")
    id = begun(ledger, "two", "1", limits=budget)
    refuse(ledger, id, "me", "nope")
    begun(ledger, "three", "1", limits=budget)
    with pytest.raises(LimitReached):
        begun(ledger, "four", "0.01", limits=budget)


def test_the_budget_of_a_day_is_there_again_the_next_and_the_one_for_ever_is_not(
    ledger: Ledger, clock: Clock
) -> None:
    begun(ledger, "one", "1")
    clock.now += DAY_SECONDS
    begun(ledger, "two", "1", limits={"per_day_usd": "1"})
    with pytest.raises(LimitReached):
        begun(ledger, "three", "1", limits={"ever_usd": "2"})
    spending = ledger.spending()
    assert (spending.today_usd, spending.month_usd, spending.ever_usd) == (1, 2, 2)
    clock.now += 31 * DAY_SECONDS
    assert ledger.spending().month_usd == 0


def test_a_clock_that_jumps_back_gives_no_day_twice(ledger: Ledger, clock: Clock) -> None:
    budget = {"per_day_usd": "1"}
    begun(ledger, "one", "0.5", limits=budget)
    clock.now -= DAY_SECONDS
    begun(ledger, "two", "0.5", limits=budget)
    for days in (0, 1):
        clock.now += days * DAY_SECONDS
        with pytest.raises(LimitReached):
            begun(ledger, "three", "0.01", limits=budget)
    clock.now += DAY_SECONDS
    begun(ledger, "three", "1", limits=budget)


def test_the_sandboxs_money_is_never_counted_with_real_money(ledger: Ledger) -> None:
    begun(ledger, "one", "5", is_sandbox=True)
    begun(ledger, "two", "1", limits={"ever_usd": "1"})
    begun(ledger, "three", "4", limits={"ever_usd": "9"}, is_sandbox=True)
    assert ledger.spending().ever_usd == 1
    assert ledger.spending(is_sandbox=True).ever_usd == 9


def test_a_days_budget_goes_by_the_api_clock_where_it_was_heard(ledger: Ledger, clock: Clock) -> None:
    budget = {"per_day_usd": "1"}
    begun(ledger, "one", "1", limits=budget, now=Instant(clock.now, is_heard=True))
    clock.now += DAY_SECONDS
    with pytest.raises(LimitReached):
        # This machine's clock has jumped ahead by a day, and the API's has not.
        begun(ledger, "two", "1", limits=budget, now=Instant(clock.now - DAY_SECONDS, is_heard=True))


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_clock_that_was_once_far_ahead_does_not_hold_the_day_there(
    ledger: Ledger, clock: Clock, is_heard: bool
) -> None:
    budget = {"per_day_usd": "1"}
    begun(ledger, "ahead", "1", now=Instant(clock.now + 400 * DAY_SECONDS))
    for day in range(3):
        now = Instant(clock.now + day * DAY_SECONDS, is_heard)
        begun(ledger, f"day {day}", "1", limits=budget, now=now)
        with pytest.raises(LimitReached):
            begun(ledger, f"more on day {day}", "0.01", limits=budget, now=now)


def test_a_create_in_doubt_that_goes_out_again_counts_on_the_day_of_that_send(
    ledger: Ledger, clock: Clock
) -> None:
    budget = {"per_day_usd": "1"}
    id = begun(ledger, "late", "1", limits=budget)
    ledger.doubt(id, "me", None)
    clock.now += DAY_SECONDS
    assert is_taken(ledger, id, "second", "late", limits={})
    # Until it goes out it may yet be found.
    assert ledger.spending().today_usd == 0
    assert ledger.move_to_today(id, wished("late", "1", owner="second", limits={})) is None
    with pytest.raises(LimitReached):
        begun(ledger, "other", "0.01", limits=budget)


def test_a_create_in_doubt_is_only_looked_for_where_todays_budget_has_no_room_for_it(
    ledger: Ledger, clock: Clock
) -> None:
    budget = {"per_day_usd": "1"}
    id = begun(ledger, "late", "1", limits=budget)
    ledger.doubt(id, "me", None)
    clock.now += DAY_SECONDS
    begun(ledger, "other", "0.5", limits=budget)
    assert ledger.take_over(id, wished("late", "1", owner="second", limits={"per_day_usd": Decimal(1)})) == (
        "look"
    )
    assert ledger.spending().today_usd == Decimal("0.5")


def test_what_is_paid_unasked_is_a_sum_over_a_day_judged_with_the_writing(
    ledger: Ledger, clock: Clock
) -> None:
    most = Decimal(1)
    begun(ledger, "one", "0.6", unasked_usd=most)
    with pytest.raises(MustAsk) as must:
        begun(ledger, "two", "0.5", unasked_usd=most)
    assert must.value.unasked_usd == Decimal("0.6")
    # What the user agreed to does not count.
    begun(ledger, "two", "0.5", unasked_usd=most, is_agreed=True)
    begun(ledger, "three", "0.4", unasked_usd=most)
    clock.now += DAY_SECONDS + 1
    begun(ledger, "four", "1", unasked_usd=most)


def test_of_two_processes_at_once_the_second_is_asked_about(ledger: Ledger, ledger_of: LedgerOf) -> None:
    most = Decimal(1)

    def pay(number: int) -> bool:
        try:
            begun(ledger_of(), f"clip-{number}", "0.4", unasked_usd=most)
        except MustAsk:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(pay, range(8))) == 2


def test_what_an_older_version_wrote_down_is_the_same_attempt(ledger: Ledger) -> None:
    id = made(ledger)
    [earlier] = intended().earlier_digests
    with ledger.store.transaction() as connection:
        as_before = {"digest": earlier, "digest_version": 1}
        connection.execute(update(ENTRIES).where(ENTRIES.c.id == id).values(as_before))
    latest = ledger.latest(intended())
    assert latest is not None
    assert latest.id == id
    again, is_ours = ledger.begin(wished())
    assert (again.id, is_ours) == (id, False)


# Quotes


def test_a_quote_is_good_once(ledger: Ledger) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    begun(ledger, token=token)
    refuse(ledger, 1, "me", "nope")
    with pytest.raises(QuoteRefused, match="has been used"):
        begun(ledger, attempt=2, token=token)


def test_a_quote_is_not_used_up_by_a_refusal(ledger: Ledger) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    with pytest.raises(LimitReached):
        begun(ledger, token=token, limits={"ever_usd": "0.5"})
    begun(ledger, token=token)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"token": Token("q_invented")}, "no such quote"),
        ({"name": "other"}, "for another call"),
        ({"attempt": 2}, "for another call"),
        ({"usd": "1.01"}, "price is no longer"),
        ({"usd": None}, "price is no longer"),
    ],
)
def test_a_quote_for_anything_else_is_refused_and_stays_good(
    ledger: Ledger, changed: Mapping[str, Any], reason: str
) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    with pytest.raises(QuoteRefused, match=reason):
        begun(ledger, **{"token": token, **changed})
    assert ledger.entries(limit=None) == []
    begun(ledger, token=token)


@pytest.mark.parametrize(("seconds", "is_good"), [(QUOTE_SECONDS, True), (QUOTE_SECONDS + 1, False)])
def test_a_quote_is_good_for_ten_minutes(ledger: Ledger, clock: Clock, seconds: float, is_good: bool) -> None:
    token = quoted(ledger, intended(), 1, None)
    clock.now += seconds
    if is_good:
        begun(ledger, token=token)
    else:
        with pytest.raises(QuoteRefused, match="expired"):
            begun(ledger, token=token)


@pytest.mark.parametrize(
    ("seconds", "is_good"),
    [(-61, False), (-60, True), (-1, True), (QUOTE_SECONDS, True), (QUOTE_SECONDS + 1, False)],
)
@pytest.mark.parametrize("stands_still", [False, True])
def test_a_quote_is_good_for_ten_minutes_by_the_clock_as_well(
    ledger: Ledger, clock: Clock, stands_still: bool, seconds: float, is_good: bool
) -> None:
    if stands_still:
        # The ledger's time is a day ahead of the clock.
        clock.now += DAY_SECONDS
        begun(ledger, "other")
        clock.now -= DAY_SECONDS
    token = quoted(ledger, intended(), 1, None)
    clock.now += seconds
    if is_good:
        begun(ledger, token=token)
    else:
        with pytest.raises(QuoteRefused, match="expired"):
            begun(ledger, token=token)


def test_a_quote_for_an_unknown_price_does_not_pay_a_high_one_that_is_known_by_then(ledger: Ledger) -> None:
    token = quoted(ledger, intended(), 1, None)
    with pytest.raises(QuoteRefused, match="price is no longer"):
        begun(ledger, usd="500", token=token, unasked_usd=Decimal(1))
    begun(ledger, usd="0.9", token=token, unasked_usd=Decimal(1))


def test_a_quote_is_given_back_by_a_refusal_that_says_nothing_of_the_price(ledger: Ledger) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    id = begun(ledger, token=token)
    refuse(ledger, id, "me", "rate_limit_exceeded", gives_quote_back=True)
    begun(ledger, attempt=2, token=token)


def test_a_quote_for_a_file_is_good_for_its_asset_once_an_attempt_had_both_names(ledger: Ledger) -> None:
    by_path, by_asset = intended("path"), intended("asset")
    id = begun(ledger, intention=by_path, has_files=True)
    assert ledger.send(id, wished(intention=by_path), by_asset) == "mine"
    refuse(ledger, id, "me", "nope")
    token = quoted(ledger, by_path, 2, Decimal(1))
    begun(ledger, intention=by_asset, attempt=2, token=token)


def test_a_question_is_no_quote_and_a_quote_no_question(ledger: Ledger) -> None:
    quote = quoted(ledger, intended(), 1, Decimal(1))
    question = Token(ledger.quote([priced(intended(), 1)], now_of(), "question"), "question")
    with pytest.raises(QuoteRefused, match="no such question"):
        begun(ledger, token=Token(quote.id, "question"))
    with pytest.raises(QuoteRefused, match="no such quote"):
        begun(ledger, token=Token(question.id))
    begun(ledger, token=question)


@pytest.mark.parametrize("kind", ["quote", "question"])
def test_what_one_caller_was_asked_is_not_anothers_to_agree_to(ledger: Ledger, kind: TokenKind) -> None:
    token = Token(ledger.quote([priced(intended(), 1)], now_of(), kind, caller="ben"), kind)
    for other in ("eva", None):
        with pytest.raises(QuoteRefused, match=f"no such {kind}"):
            begun(ledger, token=token, caller=other)
    assert found(ledger, begun(ledger, token=token, caller="ben")).caller == "ben"


@pytest.mark.file
def test_a_ledger_from_before_callers_had_names_is_brought_up_to_date_and_keeps_its_quotes(
    ledger: Ledger, home: Path
) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    ledger.close()
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as older, older:
        for table in ("entries", "quotes"):
            older.execute(f"ALTER TABLE {table} DROP COLUMN caller")
        for column in ("about", "saved_as"):
            older.execute(f"ALTER TABLE entries DROP COLUMN {column}")
        older.execute("ALTER TABLE quotes DROP COLUMN webhook_host")
        older.execute("DROP TABLE declined")
        older.execute("DROP TABLE names")
        _take_back_to_version_6(older)
        older.execute("UPDATE ledger SET version = 3")
    assert found(ledger, begun(ledger, token=token)).caller is None


def _take_back_to_version_6(older: sqlite3.Connection) -> None:
    """Make a ledger what it was before version 7."""
    for index in (
        "ix_quotes_consent",
        "ix_quotes_used_by",
        "entries_unasked",
        "entries_without_cost",
        "ix_entries_named_id",
        "entries_of_campaigns",
    ):
        older.execute(f"DROP INDEX {index}")
    for table in ("campaigns", "campaign_rows", "runners"):
        older.execute(f"DROP TABLE {table}")
    for column in ("kind", "principal", "campaign"):
        older.execute(f"ALTER TABLE entries DROP COLUMN {column}")
    for column in ("consent", "paid_before", "known_until", "used_by", "avowal"):
        older.execute(f"ALTER TABLE quotes DROP COLUMN {column}")
    for trigger in ("day_added", "day_changed", "day_deleted"):
        older.execute(f"DROP TRIGGER {trigger}")
    older.execute("DROP TABLE days")
    older.execute("DROP TABLE deliveries")
    older.execute("DROP INDEX ix_entries_created_at")


@pytest.mark.file
def test_a_ledger_from_before_days_had_sums_keeps_its_money(
    ledger: Ledger, home: Path, ledger_of: LedgerOf
) -> None:
    made(ledger, "real", "2")
    begun(ledger, "play", "3", is_sandbox=True)
    before = [ledger.spending(is_sandbox=is_sandbox) for is_sandbox in (False, True)]
    ledger.close()
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as older, older:
        _take_back_to_version_6(older)
        older.execute("UPDATE ledger SET version = 6")
    newer = ledger_of(home)
    assert [newer.spending(is_sandbox=is_sandbox) for is_sandbox in (False, True)] == before
    assert [spending.ever_usd for spending in before] == [2, 3]


def test_the_sum_of_a_day_is_what_its_entries_count_whatever_becomes_of_them(
    ledger: Ledger, clock: Clock
) -> None:
    moved = begun(ledger, "moved", "1")
    made(ledger, "paid", "2")
    begun(ledger, "play", "4", is_sandbox=True)
    refuse(ledger, begun(ledger, "refused", "8"), "me", "nope")
    ended(ledger, "dear", "16", job="dear", charged="yes", cost="17")
    ended(ledger, "free", "32", job="free", charged="no", cost="0")
    ledger.withdraw(begun(ledger, "withdrawn", "64", has_files=True), "me")
    clock.now += DAY_SECONDS
    assert ledger.move_to_today(moved, wished("moved", "1")) is None
    begun(ledger, "later", "128")
    told = run_sql(ledger, "SELECT is_sandbox, counted_usd / 1000000000 FROM days ORDER BY day, is_sandbox")
    assert told == [(False, 2 + 17), (True, 4), (False, 1 + 128)]
    assert ledger.spending().today_usd == 129


def test_a_clock_that_was_far_ahead_lets_nothing_pass_the_budget_of_now(ledger: Ledger, clock: Clock) -> None:
    clock.now += 5 * DAY_SECONDS
    old = begun(ledger, "old", "5")
    ledger.doubt(old, "me", None)
    clock.now -= 5 * DAY_SECONDS
    now = Instant(clock.now, is_heard=True)
    begun(ledger, "new", "10", now=now)
    again = wished("old", "5", limits={"per_day_usd": 10}, now=now)
    assert ledger.take_over(old, again) == "look"
    assert isinstance(ledger.move_to_today(old, again), LimitReached)
    assert ledger.spending(now=now).today_usd == 10


def test_a_question_has_no_time_of_ours(ledger: Ledger, clock: Clock) -> None:
    question = Token(ledger.quote([priced(intended(), 1)], now_of(), "question"), "question")
    clock.now += 10 * QUOTE_SECONDS
    begun(ledger, token=question)


def test_a_no_revokes_every_quote_of_that_content_in_all_processes(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    tokens = {take: quoted(ledger, intended(take=take), 1, Decimal(1)) for take in (1, 2)}
    other = quoted(ledger, intended("other"), 1, Decimal(1))
    ledger_of().revoke(intended())
    for take, token in tokens.items():
        with pytest.raises(QuoteRefused, match="said no") as refused:
            begun(ledger, intention=intended(take=take), token=token)
        assert refused.value.code == "quote_revoked"
    begun(ledger, "other", token=other)


@pytest.mark.parametrize("end", ["refused", "called off", "in doubt"])
def test_a_no_holds_for_a_quote_too_whose_attempt_gives_it_back_afterwards(ledger: Ledger, end: str) -> None:
    token = quoted(ledger, intended(), 1, Decimal(1))
    id = begun(ledger, token=token)
    ledger.revoke(intended(take=2))
    again: Callable[[], object]
    if end == "refused":
        refuse(ledger, id, "me", "rate_limit_exceeded", gives_quote_back=True)
        again = partial(begun, ledger, attempt=2, token=token)
    elif end == "called off":
        ledger.call_off(id, "me")
        again = partial(begun, ledger, token=token)
    else:
        ledger.doubt(id, "me", None, given_back=token)
        again = partial(ledger.take_over, id, wished(token=token))
    with pytest.raises(QuoteRefused, match="said no") as refused:
        again()
    assert refused.value.code == "quote_revoked"


# The user's own way out


@pytest.mark.parametrize("died", [False, True])
def test_an_attempt_in_doubt_can_be_resolved_or_released(ledger: Ledger, clock: Clock, died: bool) -> None:
    ids = [begun(ledger, name) for name in ("one", "two")]
    if died:
        clock.now += LEASE_SECONDS
    else:
        for id in ids:
            ledger.doubt(id, "me", None)
    ledger.resolve(ids[0], JOB)
    ledger.release(ids[1])
    resolved, released = (found(ledger, id) for id in ids)
    assert (resolved.state, resolved.generation_id, resolved.counted_usd) == ("accepted", JOB, 1)
    assert (released.state, released.charged, released.counted_usd) == ("released", "no", 0)
    assert counted(ledger) == 1
    assert ledger.list_unresolved([ACCOUNT], BASE_URL) == []


def test_what_is_known_cannot_be_resolved_or_released(ledger: Ledger) -> None:
    ids = [
        begun(ledger, "sending"),
        ended(ledger, "ended", charged="yes", job="j2"),
        begun(ledger, "refused"),
        99,
    ]
    refuse(ledger, ids[2], "me", "nope")
    for id in ids:
        with pytest.raises(InvalidRequestError):
            ledger.resolve(id, ANOTHER)
        with pytest.raises(InvalidRequestError):
            ledger.release(id)
    assert [found(ledger, id).state for id in ids[:3]] == ["sending", "ended", "refused"]


def test_an_accepted_job_that_nobody_sees_can_be_released_at_any_time(ledger: Ledger) -> None:
    id = made(ledger)
    ledger.release(id)
    assert (found(ledger, id).state, counted(ledger)) == ("released", 0)


def test_an_accepted_job_of_a_strange_status_is_ended_by_its_own_id_and_its_money_stays(
    ledger: Ledger,
) -> None:
    id = made(ledger)
    ledger.note_status(id, generation_id=JOB, status="TIMED_OUT")
    ledger.resolve(id, JOB)
    entry = found(ledger, id)
    assert (entry.state, entry.status, entry.charged) == ("ended", "TIMED_OUT", "unknown")
    assert counted(ledger) == 1


def test_a_failure_that_was_charged_can_be_released_and_what_it_cost_stays_spent(ledger: Ledger) -> None:
    id = made(ledger)
    settle(ledger, id, "FAILED", charged="yes", cost="1")
    ledger.release(id)
    assert (found(ledger, id).state, counted(ledger)) == ("released", 1)


def test_an_attempt_cannot_be_resolved_with_the_job_of_another(ledger: Ledger) -> None:
    owner, id = made(ledger, "one"), begun(ledger, "two")
    ledger.doubt(id, "me", None)
    with pytest.raises(InvalidRequestError, match=f"job of entry {owner}"):
        ledger.resolve(id, JOB)
    assert found(ledger, id).state == "unknown"


def test_entries_are_listed_newest_first_the_open_and_the_settled_apart(ledger: Ledger) -> None:
    ids = [begun(ledger, name) for name in ("one", "two", "three")]
    refuse(ledger, ids[1], "me", "nope")
    assert [entry.id for entry in ledger.entries(limit=None)] == ids[::-1]
    assert [entry.id for entry in ledger.entries(limit=2)] == [ids[2], ids[1]]
    assert [entry.id for entry in ledger.entries(limit=None, are_open=True)] == [ids[2], ids[0]]
    assert [entry.id for entry in ledger.entries(limit=None, are_open=False)] == [ids[1]]


def test_pruning_deletes_what_cost_nothing_and_keeps_all_that_still_means_something(
    ledger: Ledger, clock: Clock
) -> None:
    refused = begun(ledger, "refused")
    refuse(ledger, refused, "me", "nope")
    superseded = ended(ledger, "superseded", charged="no", job="j1")
    kept = [
        # The last attempt, whose key the API knows.
        ended(ledger, "superseded", attempt=2, charged="no", job="j2"),
        ended(ledger, "paid", charged="yes", cost="1", job="j3"),
        # Of unknown price, and perhaps paid.
        unpriced := ended(ledger, "unpriced", None, charged="unknown", job="j4"),
        ended(ledger, "unpriced", None, attempt=2, paid_before=unpriced, charged="yes", job="j5"),
        made(ledger, "running", job="j6"),
        begun(ledger, "unknown"),
    ]
    quoted(ledger, intended("new"), 1, None)
    clock.now += 10
    quoted(ledger, intended("newer"), 1, None)
    before = clock.now - 5
    kept.append(recent := begun(ledger, "recent"))
    refuse(ledger, recent, "me", "nope")
    spent = counted(ledger)

    assert ledger.prunable(before) == (2, 1)
    assert ledger.prune(before) == 2
    assert ledger.prunable(before) == (0, 0)
    assert [entry.id for entry in ledger.entries(limit=None)] == kept[::-1]
    assert {refused, superseded}.isdisjoint(kept)
    assert counted(ledger) == spent


def test_pruning_never_lets_a_repeat_get_a_key_that_was_taken(ledger: Ledger, clock: Clock) -> None:
    # The API knows the first attempt's key. The second one, refused, may go, but does not free the first.
    failed = ended(ledger, charged="no")
    refused = begun(ledger, attempt=2)
    refuse(ledger, refused, "me", "nope")
    clock.now += 1
    for _ in range(2):
        ledger.prune(clock.now)
    assert [entry.id for entry in ledger.entries(limit=None)] == [failed]


def test_an_id_that_was_told_is_never_given_again(ledger: Ledger, clock: Clock) -> None:
    id = begun(ledger, "one")
    refuse(ledger, id, "me", "nope")
    clock.now += 1
    assert ledger.prune(clock.now) == 1
    assert begun(ledger, "two") > id


# Versions


def _set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE ledger SET version = ?", (version,))


def _files(folder: Path) -> dict[str, bytes]:
    # The lock file is shared memory: nothing of it is the ledger's.
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


@pytest.mark.file
def test_a_file_from_a_newer_version_is_refused_and_left_alone(ledger: Ledger, home: Path) -> None:
    begun(ledger)
    ledger.close()
    _set_version(ledger.file.path, 99)
    before = _files(home)
    for _ in range(2):
        with pytest.raises(LedgerError, match="newer") as refused:
            ledger.latest(intended())
        assert refused.value.code == "ledger_newer"
    assert _files(home) == before


@pytest.mark.file
@posix_only
def test_what_a_newer_version_had_on_its_way_is_left_alone_too(ledger: Ledger, home: Path) -> None:
    begun(ledger)
    ledger.close()
    # It keeps its file in another way, and its process dies with its last writes in the journal.
    _run(
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode=WAL')\n"
        "connection.execute('UPDATE ledger SET version = 99')\n"
        "os._exit(0)\n",
        str(ledger.file.path),
    )
    before = _files(home)
    assert before["ledger.sqlite3-wal"]
    with pytest.raises(LedgerError, match="newer"):
        ledger.check()
    assert _files(home) == before


@pytest.mark.file
def test_a_migration_goes_forward_without_loss(
    ledger: Ledger, ledger_of: LedgerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = ended(ledger, usd="1.5", charged="yes", cost="1.25")
    ledger.close()

    def next_one(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE entries ADD COLUMN note VARCHAR NOT NULL DEFAULT 'before'"))

    more = (*sqlite._MIGRATIONS, next_one)  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as upgrade:
        upgrade.setattr(sqlite, "_MIGRATIONS", more)
        upgraded = ledger_of()
        assert upgraded.check() == 1
        entry = found(upgraded, id)
        assert (entry.state, entry.cost_usd, entry.idempotency_key) == (
            "ended",
            Decimal("1.25"),
            intended().idempotency_key(1),
        )
        # Once: to add the column a second time would fail.
        upgraded.close()
        assert upgraded.check() == 1
        upgraded.close()
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(len(more),)]
        assert connection.execute("SELECT note FROM entries").fetchall() == [("before",)]
    with pytest.raises(LedgerError, match="newer"):
        ledger.check()


@pytest.mark.file
def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(ledger)
    ledger.close()

    def broken(connection: Connection) -> None:
        connection.execute(text("DELETE FROM entries"))
        connection.execute(text("SELECT nothing FROM nowhere"))

    both = (*sqlite._MIGRATIONS, broken)  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as upgrade:
        upgrade.setattr(sqlite, "_MIGRATIONS", both)
        with pytest.raises(LedgerError):
            ledger.check()
    assert ledger.check() == 1


# Damage


def _garble_header(path: Path) -> None:
    path.write_bytes(b"not a database, and never was one" * 100)


def _garble_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def _touch(path: Path) -> None:
    """Change the counter in the header by which each process learns that another one wrote."""
    content = bytearray(path.read_bytes())
    content[27] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _drop_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE ledger")


def _forget_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM ledger")


@pytest.mark.file
@pytest.mark.parametrize(
    "damage", [_garble_header, _garble_pages, _cut, _empty, _drop_version, _forget_version]
)
def test_a_damaged_file_is_set_aside_and_paid_calls_are_refused_until_the_user_decides(
    ledger: Ledger, ledger_of: LedgerOf, home: Path, damage: Callable[[Path], None]
) -> None:
    begun(ledger)
    ledger.close()
    damage(ledger.file.path)
    content = ledger.file.path.read_bytes()
    # In this process and in every other one.
    for each in (ledger, ledger, ledger_of()):
        with pytest.raises(LedgerError, match="damaged") as refused:
            each.begin(wished("new"))
        assert refused.value.code == "ledger_corrupt"
        assert refused.value.money_spent == "no"
    [kept] = ledger.file.set_aside()
    assert kept.read_bytes() == content
    assert not ledger.file.path.exists()
    assert ledger.exists()

    [given_up] = ledger.file.give_up()
    assert given_up.read_bytes() == content
    assert ledger.file.find_given_up() == [given_up]
    assert ledger.file.set_aside() == []
    begun(ledger_of(), "new")
    assert {path.name for path in home.glob("*.sqlite3")} == {given_up.name, "ledger.sqlite3"}


@pytest.mark.file
def test_damage_that_shows_while_it_is_open_sets_it_aside_as_well(ledger: Ledger) -> None:
    begun(ledger)
    _garble_pages(ledger.file.path)
    _touch(ledger.file.path)
    with pytest.raises(LedgerError) as refused:
        ledger.check()
    assert refused.value.code == "ledger_corrupt"
    assert len(ledger.file.set_aside()) == 1


@pytest.mark.file
def test_a_journal_is_kept_with_the_damaged_file_it_belongs_to(ledger: Ledger, home: Path) -> None:
    home.mkdir()
    for suffix in ("", "-journal", "-wal"):
        (home / f"ledger-corrupt-1.sqlite3{suffix}").write_text(suffix)
    assert ledger.file.give_up() == [home / "ledger-given-up-1.sqlite3"]
    assert {path.name: path.read_text() for path in home.glob("ledger-*")} == {
        "ledger-given-up-1.sqlite3": "",
        "ledger-given-up-1.sqlite3-journal": "-journal",
        "ledger-given-up-1.sqlite3-wal": "-wal",
    }


@pytest.mark.file
def test_a_process_with_a_damaged_file_open_does_not_touch_the_one_in_its_place(
    ledger: Ledger, ledger_of: LedgerOf, home: Path
) -> None:
    begun(ledger, "old")
    ledger.file.path.rename(home / "ledger-corrupt-1.sqlite3")
    other = ledger_of()
    other.file.give_up()
    begun(other, "new")
    assert ledger.latest(intended("old")) is None
    assert ledger.latest(intended("new")) is not None
    assert ledger.file.set_aside() == []


# Processes


_PRELUDE = """
import json, os, sys, time
from decimal import Decimal
from sync_mcp import Ledger
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.errors import LedgerError, LimitReached
from tests.payments.entries import begun, wished
folder = sys.argv[1]

def at_once(count, act):
    # Imported once; each child opens the ledger for itself, when all are there.
    ready_out, ready_in = os.pipe()
    go_out, go_in = os.pipe()
    children = []
    for number in range(count):
        if not (child := os.fork()):
            os.close(go_in)
            os.write(ready_in, b".")
            os.read(go_out, 1)
            try:
                act(number)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    for _ in children:
        os.read(ready_out, 1)
    os.close(go_in)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * count, codes
"""


def _run(script: str, *arguments: str) -> str:
    done = run_forked([sys.executable, "-c", script, *arguments], os.environ, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.file
@posix_only
def test_processes_that_begin_the_same_at_once_make_one_entry(ledger: Ledger, home: Path) -> None:
    told = _run(
        _PRELUDE
        + """
def act(number):
    entry, is_ours = Ledger(folder).begin(wished(owner=str(number)))
    print(f"{entry.id} {is_ours}\\n", end="", flush=True)

at_once(6, act)
""",
        str(home),
    ).split("\n")
    assert sorted(line for line in told if line) == ["1 False"] * 5 + ["1 True"]
    assert len(ledger.entries(limit=None)) == 1


@pytest.mark.file
@posix_only
def test_eight_processes_at_once_keep_a_budget_to_the_cent(ledger: Ledger, home: Path) -> None:
    told = _run(
        _PRELUDE
        + """
def act(number):
    ledger = Ledger(folder)
    for each in range(8):
        try:
            begun(ledger, f"clip-{number}-{each}", "0.37", limits={"per_day_usd": "5.00"})
        except LimitReached:
            print("refused\\n", end="", flush=True)

at_once(8, act)
""",
        str(home),
    )
    assert counted(ledger) == Decimal("4.81")
    assert told.count("refused") == 64 - 13
    assert len(ledger.entries(limit=None)) == 13


@pytest.mark.file
@posix_only
def test_an_attempt_whose_process_was_killed_is_there_and_can_be_gone_on_with(
    ledger: Ledger, home: Path, clock: Clock
) -> None:
    script = "begun(Ledger(folder), owner='killed'); print(time.time(), flush=True); os._exit(9)"
    command = [sys.executable, "-c", _PRELUDE + script, str(home)]
    done = run_forked(command, os.environ, timeout=PATIENCE_SECONDS)
    assert done.returncode == 9
    clock.now = float(done.stdout)
    assert not is_taken(ledger, 1, "me")
    clock.now += LEASE_SECONDS + 1
    assert is_taken(ledger, 1, "me")
    assert counted(ledger) == 1


# A disk that takes nothing


@posix_only
def test_a_folder_that_cannot_be_written_to_refuses_before_anything_is_sent() -> None:
    # Not in pytest's own folder, which nobody but its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="sync-mcp-test-"))
    try:
        for name in ("empty", "begun"):
            (folder / name).mkdir()
        with closing(Ledger(folder / "begun")) as ledger:
            begun(ledger)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        told = _run(
            _PRELUDE
            + """
import tempfile
with tempfile.TemporaryDirectory() as warm:
    # What is loaded late is loaded now.
    begun(Ledger(warm))
if not os.getuid():
    # What is forbidden to others is not forbidden to root.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in ("empty", "begun"):
    ledger = Ledger(os.path.join(folder, name))
    try:
        begun(ledger, "new")
    except LedgerError as error:
        print(error.code, error.money_spent, "cannot be written" in error.message)
""",
            str(folder),
        )
        assert told.splitlines() == ["ledger_unavailable no True"] * 2
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.file
def test_a_file_in_the_place_of_the_folder_refuses(ledger_of: LedgerOf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(LedgerError, match="cannot be written"):
            begun(ledger_of(folder))
    with pytest.raises(LedgerError):
        ledger_of(tmp_path / "file" / "inner").exists()


@pytest.mark.file
@posix_only
def test_a_full_disk_refuses_and_loses_nothing_and_goes_on_when_there_is_room(
    ledger: Ledger, home: Path
) -> None:
    told = _run(
        _PRELUDE
        + """
import resource
def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

ledger = Ledger(folder)
room(0)
try:
    begun(ledger, "first")
except LedgerError as error:
    print(error.code, error.money_spent)
room(200_000)
count = 0
try:
    while count < 1000:
        begun(ledger, f"clip-{count}", "0.01")
        count += 1
except LedgerError as error:
    print(error.code, error.money_spent)
room(resource.RLIM_INFINITY)
kept = ledger.check()
begun(ledger, "last", "0.01")
print(count, kept)
""",
        str(home),
    ).splitlines()
    assert told[:2] == ["ledger_unavailable no"] * 2
    count, kept = map(int, told[2].split())
    assert 0 < count == kept < 1000
    assert counted(ledger) == Decimal("0.01") * (count + 1)
    assert ledger.file.set_aside() == []


@pytest.mark.file
def test_another_process_that_holds_the_ledger_for_long_refuses(home: Path) -> None:
    ledger = Ledger(home, busy_seconds=0.05)
    begun(ledger)
    ledger.close()
    with closing(sqlite3.connect(ledger.file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(LedgerError, match="in use by another process") as caught:
            begun(ledger, "new")
        assert caught.value.retryable
        assert time.monotonic() - started < 5
    begun(ledger, "new")
    ledger.close()


def test_another_thread_that_holds_the_ledger_for_long_refuses(home: Path) -> None:
    ledger = Ledger(home, busy_seconds=0.05)
    begun(ledger)
    with ThreadPoolExecutor(1) as other, ledger.store.transaction():
        refused = other.submit(begun, ledger, "new").exception(timeout=60)
    assert isinstance(refused, LedgerError)
    assert refused.retryable
    begun(ledger, "new")


@pytest.mark.file
def test_a_thread_asks_for_the_file_once_another_of_its_process_has_let_go_of_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would be asked again and again, and find it free late: with many lanes at once, seconds late."""
    begun(ledger)
    busy: list[float] = []
    monkeypatch.setattr(time, "sleep", busy.append)
    monkeypatch.setattr(sqlite_file, "_PATIENT_SECONDS", 0.0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(partial(begun, ledger), [f"of {number}" for number in range(24)]))
    assert busy == []


@pytest.mark.file
def test_who_has_waited_a_while_for_its_turn_to_write_looks_for_it_often(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others write one after another, one that looks seldom never finds the file free."""
    begun(ledger)
    monkeypatch.setattr(sqlite_file, "_PATIENT_SECONDS", 0.0)
    pauses: list[float] = []
    with closing(sqlite3.connect(ledger.file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                other.rollback()

        monkeypatch.setattr(time, "sleep", pause)
        begun(ledger, "new")
    assert max(pauses) < 0.01


@pytest.mark.file
def test_a_file_that_a_process_of_version_1_has_open_is_waited_for(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(ledger, "first")
    ledger.close()
    with closing(sqlite3.connect(ledger.file.path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT * FROM entries").fetchall()
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            other.close()

        monkeypatch.setattr(time, "sleep", pause)
        begun(ledger)
    assert len(pauses) == 1
