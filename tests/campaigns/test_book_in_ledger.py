"""The tables of campaigns in the ledger: many hands on them, entries beside them, and what a turn reads."""

import sqlite3
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from sync_mcp import Ledger
from sync_mcp.campaigns.book import MOST_BEGUN, CampaignBook
from sync_mcp.campaigns.rows import CampaignState, request_of
from sync_mcp.campaigns.tables import CAMPAIGNS, ROWS, RUNNERS, SAVE
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.stores.schema import STATE

from .parts import ACCOUNT, BASE_URL, Clock, Desk, a_row, approved, planned
from .test_book import pay


@pytest.mark.file
@pytest.mark.parametrize("table", [CAMPAIGNS, ROWS, RUNNERS], ids=str)
def test_every_column_that_is_mapped_is_in_the_file(book: CampaignBook, home: Path, table: Any) -> None:
    book.list_campaigns()
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
        found = file.execute(f"PRAGMA table_info({table})").fetchall()
    is_needed = {column.name: not column.nullable for column in table.columns}
    assert {name: bool(needed) for _, name, _, needed, *_ in found} == is_needed


def test_lanes_on_connections_of_their_own_never_get_the_same_row(desk: Desk, home: Path) -> None:
    approved(desk.book, [a_row(number) for number in range(1, 25)])

    def take_all(lane: int) -> list[int]:
        ledger = Ledger(home)
        hand = Desk(CampaignBook(ledger.store))
        taken: list[int] = []
        while (found := hand.find(lane=str(lane))) is not None:
            taken.append(found[1].number)
        ledger.close()
        return taken

    with ThreadPoolExecutor(4) as lanes:
        taken = [number for numbers in lanes.map(take_all, range(4)) for number in numbers]
    assert sorted(taken) == list(range(1, 25))


def test_of_runners_that_ask_at_once_one_has_the_account(book: CampaignBook, home: Path) -> None:
    book.list_campaigns()

    def hold(number: int) -> str | None:
        ledger = Ledger(home)
        other = Desk(CampaignBook(ledger.store), f"runner {number}").hold()
        ledger.close()
        return other

    with ThreadPoolExecutor(4) as runners:
        told = list(runners.map(hold, range(8)))
    assert told.count(None) == 1
    assert set(told) - {None} == {f"the place of runner {told.index(None)}"}


@pytest.mark.file
def test_nothing_that_becomes_of_a_campaign_changes_an_entry(
    desk: Desk, ledger: Ledger, home: Path, clock: Clock
) -> None:
    pay(ledger, "clip-1", "1", cost="1")
    pay(ledger, "clip-2", "1")

    def how_far() -> object:
        # The database itself counts each change of an entry.
        with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
            return file.execute(STATE).fetchall(), file.execute("SELECT * FROM entries").fetchall()

    before = how_far()
    approved(desk.book, 4, budget_usd=Decimal(9))
    desk.save(desk.take(), "job-clip-1")
    desk.book.note(desk.take(), state="charged", generation_id="job-clip-2")
    desk.take()
    desk.book.set_state("c-1", "waiting", "The API is closed.", clock.now)
    desk.let_go()
    desk.hold()
    desk.book.stop("c-1")
    desk.book.retry("c-1")
    desk.book.money(desk.book.get("c-1"))
    desk.book.end_if_done("c-1")
    assert how_far() == before


def test_a_row_tells_what_its_job_did_cost_as_far_as_the_ledger_knows_it(desk: Desk, ledger: Ledger) -> None:
    pay(ledger, "clip-1", "1", cost="0.75")
    pay(ledger, "clip-2", "1")
    approved(desk.book)
    desk.save(desk.take(), "job-clip-1")
    desk.save(desk.take(), "job-clip-2")
    assert [row.cost_usd for row in desk.book.rows(desk.book.get("c-1"))] == [Decimal("0.75"), None, None]


def test_a_job_of_another_api_with_the_same_id_is_another_one(book: CampaignBook, ledger: Ledger) -> None:
    pay(ledger, "clip-1", "1", cost="0.75")
    campaign = planned(book, [a_row(1, generation_id="job-clip-1")], base_url="https://other.example")
    assert [row.cost_usd for row in book.rows(campaign)] == [None]


def test_a_runner_that_is_ended_in_order_leaves_no_row_a_begin_more_than_others(
    desk: Desk, clock: Clock
) -> None:
    approved(desk.book, 1)
    desk.book.note(desk.take(), generation_id="g")
    desk.let_go()
    for number in range(MOST_BEGUN):
        killed = Desk(desk.book, f"killed-{number}")
        clock.now += 60
        killed.hold()
        killed.take()
    clock.now += 60
    desk.hold()
    assert desk.find() is None
    assert [row.state for row in desk.book.rows(desk.book.get("c-1"))] == ["stuck"]


@pytest.mark.file
def test_what_came_of_a_row_that_the_ledger_has_no_more_is_nothing_to_wait_for(
    desk: Desk, ledger: Ledger, home: Path
) -> None:
    approved(desk.book, 1)
    row = desk.take()
    ledger.close()
    for path in home.glob("ledger*"):
        path.unlink()
    assert desk.book.note(row, state="made", generation_id="g") is None


@pytest.mark.parametrize("known", ["its job", "that it runs", "that it has ended"])
def test_a_job_that_is_paid_is_fetched_where_the_budget_has_no_room_for_the_row_before_it(
    desk: Desk, ledger: Ledger, clock: Clock, known: str
) -> None:
    second = GenerationAct.of(request_of(a_row(2)))
    digest = Intention(second, ACCOUNT, BASE_URL, 1).digest
    approved(desk.book, [a_row(1), a_row(2, digest=digest)], budget_usd=Decimal("1.5"))
    desk.book.note(desk.take(), state="planned", not_before=clock.now + 15)
    paid = desk.take()
    pay(ledger, "clip-2", "1", cost="1" if known == "that it has ended" else None)
    if known == "its job":
        desk.book.note(paid, generation_id="job-clip-2")
    clock.now += 60
    other = Desk(desk.book, "two")
    assert other.hold() is None
    assert other.take().number == 2
    assert other.find() is None
    assert desk.book.get("c-1").state == "approved"


def test_a_budget_pauses_no_campaign_that_looks_for_a_paid_job_later(
    desk: Desk, ledger: Ledger, clock: Clock
) -> None:
    approved(desk.book, 2, budget_usd=Decimal("1.5"))
    paid = desk.take()
    pay(ledger, "clip-1", "1")
    desk.book.note(paid, state="planned", generation_id="job-clip-1", not_before=clock.now + 60)
    assert desk.find() is None
    assert not desk.is_done()
    clock.now += 60
    desk.save(desk.take(), "job-clip-1")
    assert desk.find() is None
    assert desk.book.get("c-1").state == "paused"


# What a turn reads


@contextmanager
def reads(home: Path) -> Generator[list[str]]:
    """Collect how the database does what is asked of it meanwhile, step by step."""
    asked: list[tuple[str, Any]] = []
    steps: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "campaign" in statement or "runners" in statement:
            asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield steps
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
        for statement, parameters in asked:
            steps += [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.mark.file
@pytest.mark.parametrize("state", ["approved", "waiting", "stopped"])
def test_a_turn_reads_no_row_and_no_entry_but_by_an_index(
    desk: Desk, home: Path, clock: Clock, state: CampaignState
) -> None:
    approved(desk.book, budget_usd=Decimal(9), digest="1")
    approved(desk.book, id="c-2", digest="2", budget_usd=Decimal(9))
    desk.book.note(desk.take(lane="2"), state="made", generation_id="g")
    with reads(home) as steps:
        row = desk.take()
        desk.book.note(row, generation_id="h")
        desk.book.note(row, state="made")
        desk.book.note(desk.take(SAVE), state="saved", saved_as="/v.mp4")
        if state == "stopped":
            desk.book.stop("c-1")
        else:
            desk.book.set_state("c-1", state, "Why.", clock.now)
        desk.find()
        desk.book.end_if_done("c-1")
        desk.book.list_next(ACCOUNT, BASE_URL, 5)
        assert not desk.is_done()
        desk.hold()
    assert any("campaign_rows_by_state" in step for step in steps)
    # The campaigns themselves are few.
    read_whole = [step for step in steps if step.startswith("SCAN") and not step.startswith("SCAN campaigns")]
    assert read_whole == []
    sorted_here = [step for step in steps if "TEMP B-TREE" in step]
    assert set(sorted_here) <= {"USE TEMP B-TREE FOR ORDER BY"}
