"""Lanes and their runner: whose account it is, what a cancelled run leaves, and how the database is asked."""

from pathlib import Path

import anyio
import pytest

from sync_mcp.campaigns import lanes
from sync_mcp.campaigns.book import LEASE_SECONDS, CampaignBook
from sync_mcp.campaigns.rows import Campaign, Row, RowState
from sync_mcp.errors import FileRefused, InternalError, LedgerError
from sync_mcp.payments.rows import Entry

from .parts import PRICE, Clock, Studio, when

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def entries(studio: Studio) -> list[Entry]:
    return studio.campaigns.guard.ledger.entries(limit=None)


@BOTH
@pytest.mark.parametrize("state", ["running", "made", "saving", "saved"])
async def test_a_run_that_is_interrupted_leaves_rows_that_the_next_one_goes_on_with(
    studio: Studio, state: RowState
) -> None:
    campaign = await studio.approve(3)
    with anyio.CancelScope() as scope:
        await studio.run(when(state, scope.cancel))
    assert scope.cancelled_caught
    assert not {"running", "saving"} & set(studio.states(campaign))
    studio.open()
    await studio.run()
    assert studio.states(campaign) == ["saved"] * 3
    assert studio.charged == [PRICE] * 3
    assert len(set(studio.sent)) == len(entries(studio)) == 3


async def test_a_run_ends_at_once_where_nothing_is_left_to_do(studio: Studio) -> None:
    await studio.run()
    assert studio.turns == []


async def test_a_stop_in_the_middle_skips_the_rest_and_fetches_what_runs(studio: Studio) -> None:
    campaign = await studio.approve(4)
    await studio.run(when("made", lambda: studio.book.stop(campaign.id)))
    states = studio.states(campaign)
    assert set(states) == {"saved", "skipped"}
    assert studio.charged == [PRICE] * states.count("saved")
    assert studio.book.get(campaign.id).state == "ended"


async def test_with_one_slot_the_older_of_two_campaigns_goes_first_and_both_end(studio: Studio) -> None:
    studio.open(slots=1)
    first = await studio.approve(2, name="first")
    second = await studio.approve(
        [studio.line(number, output=f"second-{number}.mp4") for number in (7, 8)], name="second"
    )
    begun: list[str] = []

    def note(campaign: Campaign, row: Row) -> None:
        if row.state == "running":
            begun.append(campaign.id)

    await studio.run(note)
    assert studio.states(first) == studio.states(second) == ["saved", "saved"]
    # With one slot none runs when a row is taken: then the older one is next.
    assert begun == [first.id, first.id, second.id, second.id]


@BOTH
async def test_two_runners_at_once_pay_nothing_twice_and_the_second_is_told_who_has_the_account(
    studio: Studio,
) -> None:
    campaign = await studio.approve(4)
    first, second = studio.campaigns, studio.open()
    told: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run, studio.sync)
        with anyio.fail_after(60):
            await second.run(studio.sync, on_wait=told.append)
    assert studio.states(campaign) == ["saved"] * 4
    assert studio.charged == [PRICE] * 4
    assert all(place.startswith("process ") for place in told)
    first.guard.ledger.close()


async def test_a_runner_that_stood_still_for_a_minute_ends_its_lanes_and_goes_on_after_the_other(
    studio: Studio, clock: Clock
) -> None:
    campaign = await studio.approve(3)
    account = await studio.campaigns.guard.account(studio.sync)
    book = CampaignBook(studio.campaigns.guard.ledger.store)
    key = (account.name, account.base_url)

    def stand_still() -> None:
        # Meanwhile another process takes the account over, and ends.
        clock.now += LEASE_SECONDS
        assert book.hold_runner(*key, "other", "elsewhere") is None

    told: list[str] = []

    def let_go(place: str) -> None:
        told.append(place)
        book.let_go_runner(*key, "other")

    with anyio.fail_after(60):
        await studio.campaigns.run(studio.sync, on_turn=when("running", stand_still), on_wait=let_go)
    assert told == ["elsewhere"]
    assert studio.states(campaign) == ["saved"] * 3
    assert studio.charged == [PRICE] * 3


@BOTH
async def test_an_error_comes_out_of_a_run_as_itself_and_in_no_group(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.approve(1)
    lost = LedgerError("The ledger is gone.", code="ledger_missing")

    def fail(*_: object) -> None:
        raise lost

    monkeypatch.setattr(CampaignBook, "hold_runner", fail)
    with pytest.raises(LedgerError) as raised:
        await studio.run()
    assert raised.value is lost


async def test_a_fault_of_this_package_ends_a_run_as_an_error_that_says_what_to_do(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.approve(1)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(CampaignBook, "take_row", fail)
    with pytest.raises(InternalError, match="ZeroDivisionError") as raised:
        await studio.run()
    assert "it goes on, and pays nothing twice" in raised.value.next_step


async def test_what_cannot_be_read_ahead_in_an_unexpected_way_ends_no_run(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("sync_mcp.campaigns.lanes.prepare_row", fail)
    # A slot that is taken leaves rows to be read ahead.
    studio.open(slots=1)
    campaign = await studio.approve(3)
    await studio.run()
    assert studio.states(campaign) == ["saved"] * 3


async def test_who_listens_and_fails_ends_no_row(studio: Studio) -> None:
    campaign = await studio.approve(2)

    def fail(_: Campaign, row: Row) -> None:
        raise BrokenPipeError(row.number)

    await studio.run(fail)
    assert studio.states(campaign) == ["saved", "saved"]


async def test_while_no_row_is_due_one_lane_of_each_step_asks_the_database_and_the_others_wait(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_POLL_SECONDS", 3600.0)
    studio.sandbox.configure(job_seconds=60)
    studio.open(slots=15)
    await studio.approve(1)
    take_row = CampaignBook.take_row
    asked: list[str] = []

    def note(book: CampaignBook, account: str, base_url: str, holder: str, lane: str, step: object):
        asked.append(lane)
        return take_row(book, account, base_url, holder, lane, step)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(CampaignBook, "take_row", note)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(studio.run)
        with anyio.fail_after(60):
            while not studio.charged or len(asked) < 3:
                await anyio.wait_all_tasks_blocked()
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    # One took the row; of its step one more looks, and one of those that save.
    assert len(asked) == 3


async def test_the_report_is_written_at_the_end_also_where_costs_cannot_be_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.approve(1)

    async def fail(*_: object) -> None:
        raise LedgerError("It cannot be read.")

    monkeypatch.setattr(studio.campaigns.guard, "spending", fail)
    await studio.run()
    assert (Path(studio.folder) / "out" / "report.csv").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("odd")])
async def test_a_report_that_cannot_be_written_ends_no_run(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("sync_mcp.campaigns.campaigns.write_report", fail)
    campaign = await studio.approve(1)
    await studio.run()
    assert studio.states(campaign) == ["saved"]
    if isinstance(error, OSError):
        with pytest.raises(FileRefused, match="No space left"):
            await studio.campaigns.report(campaign.id)


async def test_once_a_lane_has_found_nothing_left_none_of_the_others_goes_on_without_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.open(slots=1)
    await studio.approve(1)
    second: list[Campaign] = []
    left = CampaignBook.has_nothing_left
    first_ended, approved = anyio.Event(), anyio.Event()

    def look(book: CampaignBook, account: str, base_url: str) -> bool:
        is_over = left(book, account, base_url)
        if is_over and not second:
            anyio.from_thread.run_sync(first_ended.set)
            anyio.from_thread.run(approved.wait)
        return is_over

    monkeypatch.setattr(CampaignBook, "has_nothing_left", look)

    async def approve_another() -> None:
        await first_ended.wait()
        second.append(await studio.approve(2, name="second"))
        approved.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(approve_another)
        with anyio.fail_after(30):
            await studio.run()
    assert studio.states(second[0]) == ["saved"] * 2
