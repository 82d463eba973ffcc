"""`Campaigns` as a program has it: gone on with, retried and stopped on its word."""

from pathlib import Path

import pytest

from sync_mcp import Guard, Ledger
from sync_mcp.campaigns.campaigns import Campaigns
from sync_mcp.campaigns.rows import NEEDS_USER, RowState

from .parts import Desk, a_campaign, a_row, approved

pytestmark = pytest.mark.anyio


@pytest.fixture
def campaigns(ledger: Ledger) -> Campaigns:
    return Campaigns(Guard(ledger))


async def test_resume_goes_on_with_all_that_costs_no_more_than_was_agreed_to(
    desk: Desk, campaigns: Campaigns
) -> None:
    all_states: list[RowState] = [*NEEDS_USER, "skipped", "saved"]
    there = Path(__file__)
    rows = [
        a_row(number, state=state, generation_id="g", saved_as=str(there))
        for number, state in enumerate(all_states, 1)
    ]
    approved(desk.book, rows)
    assert (await campaigns.resume("c-1")).state == "approved"
    states = dict(zip(all_states, (row.state for row in await campaigns.rows("c-1")), strict=True))
    assert {before for before, now in states.items() if now in ("planned", "made")} == {
        *("failed", "unsaved", "unknown", "refused", "stuck", "skipped")
    }


async def test_resume_fetches_what_was_saved_and_is_gone(desk: Desk, campaigns: Campaigns) -> None:
    approved(desk.book, [a_row(1, state="saved", generation_id="g", saved_as="/gone/v.mp4")])
    await campaigns.resume("c-1")
    assert [row.state for row in await campaigns.rows("c-1")] == ["made"]


async def test_resume_goes_on_with_what_was_paused_or_stopped_and_leaves_one_that_nobody_agreed_to(
    desk: Desk, campaigns: Campaigns
) -> None:
    approved(desk.book)
    desk.book.set_state("c-1", "paused", "Its budget is spent.")
    assert (await campaigns.resume("c-1")).state == "approved"
    for _ in range(3):
        desk.take()
    await campaigns.stop("c-1")
    assert (await campaigns.resume("c-1")).state == "approved"
    desk.book.keep(a_campaign(id="c-2", digest="others", folder="/elsewhere"), [a_row(1, campaign="c-2")])
    assert (await campaigns.resume("c-2")).state == "planned"


async def test_retry_makes_the_named_rows_alone_and_none_where_none_is_named(
    desk: Desk, campaigns: Campaigns
) -> None:
    approved(desk.book, [a_row(number, state="charged") for number in (1, 2)])
    await campaigns.retry("c-1", [])
    assert [row.state for row in await campaigns.rows("c-1")] == ["charged", "charged"]
    await campaigns.retry("c-1", [2])
    assert [(row.state, row.take) for row in await campaigns.rows("c-1")] == [("charged", 1), ("planned", 2)]


async def test_stop_skips_what_waits(desk: Desk, campaigns: Campaigns) -> None:
    approved(desk.book, 2)
    assert (await campaigns.stop("c-1")).state == "ended"
    assert [row.state for row in await campaigns.rows("c-1")] == ["skipped", "skipped"]


async def test_the_campaigns_of_a_ledger_are_listed_the_newest_first_and_asking_makes_no_ledger(
    tmp_path: Path, desk: Desk, campaigns: Campaigns
) -> None:
    approved(desk.book)
    desk.book.keep(
        a_campaign(id="c-2", digest="others", folder="/elsewhere", created_at=2e9), [a_row(1, campaign="c-2")]
    )
    assert [each.id for each in await campaigns.list()] == ["c-2", "c-1"]
    home = tmp_path / "none"
    assert await Campaigns(Guard(Ledger(home))).list() == []
    assert not home.exists()
