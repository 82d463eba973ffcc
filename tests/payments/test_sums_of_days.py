"""The sums that budgets go by are those of the entries, whatever happens; what calls ask reads few."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any, get_args

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from sync_mcp import Ledger
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.book.sums import WrongDay
from sync_mcp.payments.rows import Entry, State

from .conftest import Clock
from .entries import (
    ACCOUNT,
    BASE_URL,
    JOB,
    begun,
    intended,
    left_open,
    now_of,
    refuse,
    run_sql,
    settle,
    unsettled,
    wished,
)

DAY_SECONDS = 86_400.0
PATIENCE_SECONDS = 60.0
STEPS, SEED = 100, 0
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
_Step = Callable[[Ledger, Entry, Random], object]


def _job(entry: Entry) -> str:
    return entry.generation_id or f"job-{entry.id}"


def _begin_another(ledger: Ledger, entry: Entry, random: Random) -> None:
    begun(
        ledger,
        f"{entry.id}-{random.random()}",
        random.choice(("0.000000001", "0.1", "2.345678901", None)),
        has_files=random.random() < 0.3,
        is_sandbox=random.random() < 0.3,
    )


def _settle(ledger: Ledger, entry: Entry, random: Random) -> None:
    cost = random.choice((None, "0", "0.000000001", "1.5", "3"))
    status = random.choice(("COMPLETED", "FAILED"))
    charged = random.choice(("yes", "no", "unknown"))
    settle(ledger, entry.id, status, charged=charged, cost=cost, generation_id=_job(entry))


_STEPS: Mapping[str, _Step] = {
    "begin": _begin_another,
    "send": lambda ledger, entry, random: ledger.send(
        entry.id, wished(usd=random.choice(("0.7", None)), has_files=True), intended(f"sent-{entry.id}")
    ),
    "withdraw": lambda ledger, entry, _: ledger.withdraw(entry.id, "me"),
    "call_off": lambda ledger, entry, _: ledger.call_off(entry.id, "me"),
    "take_over": lambda ledger, entry, _: ledger.take_over(entry.id, wished()),
    "move_to_today": lambda ledger, entry, _: ledger.move_to_today(entry.id, wished()),
    "claim": lambda ledger, entry, _: ledger.claim(entry.id, _job(entry)),
    "accept": lambda ledger, entry, _: ledger.accept(entry.id, _job(entry)),
    "accept a second job": lambda ledger, entry, _: ledger.accept(entry.id, f"second-{entry.id}"),
    "doubt": lambda ledger, entry, _: ledger.doubt(entry.id, "me", None),
    "refuse": lambda ledger, entry, _: refuse(ledger, entry.id, "me", "nope"),
    "note_status": lambda ledger, entry, _: ledger.note_status(
        entry.id, generation_id=_job(entry), status=None, counted_usd=Decimal("4.1")
    ),
    "settle": _settle,
    "settle again": _settle,
    "delete_job": lambda ledger, entry, _: ledger.delete_job(entry.id, generation_id=_job(entry), now=0),
    "resolve": lambda ledger, entry, _: ledger.resolve(entry.id, _job(entry)),
    "release": lambda ledger, entry, _: ledger.release(entry.id),
    "prune": lambda ledger, _entry, _: ledger.prune(1e12),
}
"""All that changes what entries count, or when, by the acts of the ledger's table."""


_Sums = Mapping[tuple[bool, int], Decimal]
"""By whether it is a sandbox's money, and the day."""


def _kept(ledger: Ledger) -> _Sums:
    """Return the sums that stand in the database."""
    sums = run_sql(ledger, "SELECT is_sandbox, day, counted_usd FROM days WHERE counted_usd <> 0")
    return {(bool(is_sandbox), day): Decimal(nano) / 10**9 for is_sandbox, day, nano in sums}


def _summed(entries: list[Entry]) -> _Sums:
    sums: defaultdict[tuple[bool, int], Decimal] = defaultdict(Decimal)
    for entry in entries:
        sums[entry.is_sandbox, int(entry.created_at // DAY_SECONDS)] += entry.counted_usd
    return {key: usd for key, usd in sums.items() if usd}


def test_on_every_way_through_the_states_the_sums_of_the_days_are_those_of_the_entries(
    ledger: Ledger, clock: Clock
) -> None:
    random, seen = Random(SEED), set[State]()
    begun(ledger)
    entries = ledger.entries(limit=None)
    for number in range(STEPS):
        step = random.choice(list(_STEPS.values())) if entries and number % 4 else _begin_another
        with suppress(InvalidRequestError):
            step(ledger, random.choice(entries), random)
        entries = ledger.entries(limit=None)
        assert _kept(ledger) == _summed(entries)
        # By that the open ones are found among all.
        assert all(entry.cost_usd is None for entry in entries if entry.is_open)
        seen |= {entry.state for entry in entries}
        clock.now += random.choice((0, 0, 0, 3600, DAY_SECONDS))
    assert ledger.find_wrong_days() == []
    assert seen == {*get_args(State)} - {"closed"}
    assert {is_sandbox for is_sandbox, _ in _kept(ledger)} == {False, True}
    assert len(_kept(ledger)) > 5


_KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = PERSIST")
# What does not fit is written into the file before the end of the transaction.
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE entries SET counted_usd = 2 * counted_usd, created_at = created_at - 86400")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.file
@posix_only
def test_a_process_that_is_killed_in_a_transaction_leaves_the_sums_that_its_entries_count(
    ledger: Ledger,
) -> None:
    for number in range(20):
        begun(ledger, f"clip-{number}")
    before = _summed(ledger.entries(limit=None))
    ledger.close()
    written = ledger.file.path.read_bytes()
    command = [sys.executable, "-S", "-c", _KILLED, ledger.file.path]
    assert subprocess.run(command, timeout=PATIENCE_SECONDS).returncode == -signal.SIGKILL
    assert ledger.file.path.read_bytes() != written
    assert ledger.find_wrong_days() == []
    assert _summed(ledger.entries(limit=None)) == _kept(ledger) == before


# By another hand


@pytest.mark.parametrize(
    ("statement", "kept"),
    [("UPDATE days SET counted_usd = 5000000001", "5.000000001"), ("DELETE FROM days", "0")],
)
def test_a_sum_that_another_hand_has_changed_is_found_and_made_that_of_the_entries(
    ledger: Ledger, clock: Clock, statement: str, kept: str
) -> None:
    begun(ledger, "one", "1.2")
    begun(ledger, "two", "0.1")
    run_sql(ledger, statement)
    today = datetime.fromtimestamp(clock.now, UTC).date()
    wrong = [WrongDay(today, is_sandbox=False, kept_usd=Decimal(kept), entries_usd=Decimal("1.3"))]
    assert ledger.find_wrong_days() == wrong
    assert ledger.spending().today_usd == Decimal(kept)
    assert ledger.sum_days_anew() == wrong
    assert ledger.sum_days_anew() == ledger.find_wrong_days() == []
    assert ledger.spending().today_usd == Decimal("1.3")


def test_a_sum_of_a_day_and_of_a_money_that_no_entry_has_is_found(ledger: Ledger) -> None:
    ledger.check()
    run_sql(ledger, "INSERT INTO days VALUES (true, 0, 2000000000)")
    wrong = WrongDay(date(1970, 1, 1), is_sandbox=True, kept_usd=Decimal(2), entries_usd=Decimal(0))
    assert ledger.sum_days_anew() == [wrong]
    assert ledger.find_wrong_days() == []


# Few entries are read


_READS: Mapping[str, tuple[Callable[[Ledger], object], str]] = {
    "sum_unasked": (
        lambda ledger: ledger.sum_unasked(is_sandbox=False, now=now_of()),
        "COVERING INDEX entries_unasked (is_sandbox=? AND created_at>? AND created_at<?)",
    ),
    "list_unsettled": (unsettled, "INDEX entries_without_cost (account=? AND base_url=?)"),
    "list_left_open": (left_open, "INDEX entries_without_cost (account=? AND base_url=?)"),
    "list_unresolved": (
        lambda ledger: ledger.list_unresolved([ACCOUNT], BASE_URL),
        "INDEX entries_without_cost (account=? AND base_url=?)",
    ),
    "spending": (lambda ledger: ledger.spending(), "INDEX entries_without_cost"),
    "maker_of": (lambda ledger: ledger.maker_of(JOB, BASE_URL), "INDEX ix_entries_named_id (named_id=?)"),
}
"""What a create or an answer about a job asks of the ledger, and how the database finds it."""


@pytest.mark.file
@pytest.mark.parametrize("read", _READS)
def test_what_calls_ask_is_found_without_reading_what_has_long_been_settled(
    ledger: Ledger, read: str
) -> None:
    ledger.check()
    ask, found_by = _READS[read]
    plans: list[str] = []

    def explain(*asked: Any) -> None:
        _, cursor, statement, parameters, *_ = asked
        if "FROM entries" in statement:
            told = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(line for *_, line in told)

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        ask(ledger)
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    assert [line for line in plans if line.endswith(found_by)]
    assert not [line for line in plans if line == "SCAN entries"]
