"""The campaigns of a ledger: plans, consent, whose turn it is, and what becomes of rows; real files."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite as dialect

from sync_mcp import Ledger
from sync_mcp.api.models import Json
from sync_mcp.campaigns.book import (
    LEASE_SECONDS,
    MOST_BEGUN,
    CampaignBook,
    LeaseLost,
    new_holder,
)
from sync_mcp.campaigns.rows import CampaignState, RowState, request_of
from sync_mcp.campaigns.tables import APPROVED_WITHIN_SECONDS, MAKE, SAVE, next_row_query, sum_paid_query
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.intention import Intention

from .parts import (
    ACCOUNT,
    BASE_URL,
    NOON,
    Clock,
    Desk,
    a_campaign,
    a_request,
    a_row,
    approved,
    pay,
    planned,
    states,
)

# Consent


def test_a_plan_is_agreed_to_for_an_hour(book: CampaignBook, clock: Clock) -> None:
    planned(book)
    clock.now += APPROVED_WITHIN_SECONDS
    assert book.approve("c-1").state == "approved"


def test_after_an_hour_a_plan_is_made_anew_before_it_is_agreed_to(book: CampaignBook, clock: Clock) -> None:
    planned(book)
    clock.now += APPROVED_WITHIN_SECONDS + 1
    with pytest.raises(InvalidRequestError, match="more than an hour ago") as refused:
        book.approve("c-1")
    assert "Plan it again" in refused.value.next_step
    assert planned(book, id="c-2", created_at=clock.now).id == "c-1"
    assert book.approve("c-1").approved_at == clock.now


def test_what_can_not_be_agreed_to_is_told_before_the_user_is_asked(book: CampaignBook, clock: Clock) -> None:
    planned(book)
    book.check_plan("c-1")
    clock.now += APPROVED_WITHIN_SECONDS + 1
    with pytest.raises(InvalidRequestError, match="more than an hour ago"):
        book.check_plan("c-1")


def test_a_plan_with_other_rows_or_prices_is_another_campaign(book: CampaignBook) -> None:
    approved(book)
    other = planned(book, id="c-2", digest="of others")
    assert (other.id, other.state) == ("c-2", "planned")
    assert book.get("c-1").state == "approved"


def test_what_may_be_spent_is_said_anew_with_a_plan_that_nobody_has_agreed_to(book: CampaignBook) -> None:
    planned(book, budget_usd=Decimal(9))
    terms: dict[str, Any] = {"budget_usd": None, "max_usd_per_row": Decimal(2), "total_usd": Decimal(4)}
    kept = planned(book, id="c-2", **terms)
    assert kept == book.get("c-1") == a_campaign(**terms)


def test_the_same_plan_again_is_the_campaign_that_runs(book: CampaignBook) -> None:
    approved(book)
    assert planned(book, id="c-2").id == "c-1"
    assert len(book.list_campaigns()) == 1


@pytest.mark.parametrize("end", ["ended", "stopped"])
def test_the_same_plan_again_is_the_campaign_that_is_over(desk: Desk, end: str) -> None:
    approved(desk.book)
    if end == "stopped":
        desk.take()
    assert desk.book.stop("c-1")[0].state == end
    assert planned(desk.book, id="c-2").id == "c-1"


def test_the_same_plan_again_says_where_its_file_and_its_clips_lie_by_now(book: CampaignBook) -> None:
    approved(book, 2)
    moved = [a_row(number, line=number + 5, request=a_request(f"moved-{number}")) for number in (1, 2)]
    assert planned(book, moved, id="c-2", source="/elsewhere/course.csv").source == "/elsewhere/course.csv"
    rows = book.rows(book.get("c-1"))
    assert [(row.line, row.request) for row in rows] == [(row.line, row.request) for row in moved]
    assert book.get("c-1").state == "approved"


# One folder


def test_a_name_that_another_campaign_s_video_is_to_have_is_no_plan_s(desk: Desk) -> None:
    approved(desk.book, 2)
    other = [a_row(1, line=2, digest="other", output="CLIP-2.mp4")]
    with pytest.raises(InvalidRequestError) as refused:
        planned(desk.book, other, id="c-2", digest="of others")
    [fault] = refused.value.faults
    assert fault == "line 2: CLIP-2.mp4 in /videos/out is to be another video, of campaign c-1."
    assert refused.value.next_step == (
        "Take another folder (--output), or end what is left of that campaign "
        "(`sync-mcp campaign stop c-1`): nothing was uploaded or paid."
    )
    desk.book.stop("c-1")
    assert planned(desk.book, other, id="c-2", digest="of others").state == "planned"


def test_of_two_plans_with_one_name_for_two_videos_one_can_be_agreed_to(book: CampaignBook) -> None:
    planned(book, 2)
    planned(book, [a_row(1, digest="other")], id="c-2", digest="of others")
    book.approve("c-1")
    with pytest.raises(InvalidRequestError, match=r"row 1: clip-1\.mp4 in /videos/out is to be"):
        book.approve("c-2")
    assert book.get("c-2").state == "planned"


def test_the_same_video_may_have_its_name_in_two_campaigns(book: CampaignBook) -> None:
    approved(book, 2)
    assert approved(book, 3, id="c-2", digest="of more").state == "approved"


def test_no_row_of_a_plan_that_nobody_has_agreed_to_is_taken(desk: Desk) -> None:
    planned(desk.book)
    assert desk.find() is None
    assert desk.is_done()


def test_retry_of_what_nobody_has_agreed_to_waits_for_that(desk: Desk) -> None:
    planned(desk.book)
    desk.book.stop("c-1")
    campaign, _ = desk.book.retry("c-1")
    assert campaign.state == "planned"
    assert desk.find() is None


@pytest.mark.parametrize("state", ["ended", "stopped"])
def test_what_is_over_is_not_approved_and_retry_is_named(desk: Desk, state: str) -> None:
    approved(desk.book, 1)
    if state == "ended":
        desk.book.note(desk.take(), state="refused")
        desk.book.end_if_done("c-1")
    else:
        desk.take()
        desk.book.stop("c-1")
    with pytest.raises(InvalidRequestError) as refused:
        desk.book.approve("c-1")
    assert "campaign retry c-1" in refused.value.next_step


def test_a_campaign_is_named_by_the_beginning_of_its_id_or_by_its_name(book: CampaignBook) -> None:
    planned(book, id="c-112", name="one", digest="1")
    planned(book, id="c-113", name="two", digest="2")
    planned(book, id="c-220", name="three", digest="3")
    assert book.get("two").id == "c-113"
    assert book.get("c-112").id == "c-112"
    assert book.get("c-22").id == "c-220"
    with pytest.raises(InvalidRequestError, match="'c-11' is 2 campaigns"):
        book.get("c-11")
    for short in ("", "c", "c-2"):
        with pytest.raises(InvalidRequestError, match="no campaign"):
            book.get(short)


# Turns


def test_rows_are_taken_in_their_order_each_once(desk: Desk) -> None:
    approved(desk.book)
    assert [desk.take(lane=str(lane)).number for lane in range(3)] == [1, 2, 3]
    assert desk.find() is None


def test_a_row_is_left_alone_until_its_time(desk: Desk, clock: Clock) -> None:
    approved(desk.book, [a_row(1), a_row(2)])
    desk.book.note(desk.take(), state="planned", not_before=clock.now + 60)
    assert desk.take().number == 2
    assert desk.find() is None
    assert not desk.is_done()
    clock.now += 60
    assert desk.take().number == 1


def test_of_rows_with_one_digest_one_is_made_at_a_time(desk: Desk) -> None:
    approved(desk.book, [a_row(1), a_row(2, digest="digest-1"), a_row(3)])
    first = desk.take()
    assert desk.take(lane="2").number == 3
    assert desk.find() is None
    desk.book.note(first, state="made", generation_id="g")
    assert desk.take().number == 2


def test_the_campaign_with_the_fewest_running_rows_is_next(desk: Desk) -> None:
    approved(desk.book, 4, id="c-1", digest="1", created_at=NOON - 1)
    approved(desk.book, 4, id="c-2", digest="2")
    taken = [desk.take(lane=str(lane)) for lane in range(4)]
    assert [row.campaign for row in taken] == ["c-1", "c-2", "c-1", "c-2"]
    desk.book.note(taken[1], state="made", generation_id="g")
    assert desk.take().campaign == "c-2"


def test_another_accounts_rows_are_not_taken(desk: Desk) -> None:
    approved(desk.book, account="org:two")
    assert desk.find() is None
    assert desk.is_done()


def test_what_came_of_a_row_is_written_by_the_lane_alone_that_has_it(desk: Desk) -> None:
    approved(desk.book, 1)
    row = desk.take()
    desk.book.note(row, state="planned")
    again = desk.take(lane="2")
    assert desk.book.note(row, state="refused") is None
    assert desk.book.note(again, state="made", generation_id="g") is not None


def test_a_campaign_ends_with_its_last_row(desk: Desk) -> None:
    approved(desk.book, 2)
    desk.save(desk.take())
    assert desk.book.end_if_done("c-1").state == "approved"
    desk.book.note(desk.take(), state="refused")
    assert desk.book.end_if_done("c-1").state == "ended"
    assert desk.is_done()


@pytest.mark.parametrize("state", ["waiting", "paused", "stopped"])
def test_what_was_made_is_saved_whatever_its_campaign_waits_for(desk: Desk, state: CampaignState) -> None:
    approved(desk.book, 1)
    desk.book.note(desk.take(), state="made", generation_id="g")
    if state == "stopped":
        desk.book.stop("c-1")
    else:
        desk.book.set_state("c-1", state, "Why.", NOON * 2)
    assert not desk.is_done()
    assert desk.take(SAVE).number == 1


def test_a_waiting_campaign_goes_on_at_its_time(desk: Desk, clock: Clock) -> None:
    approved(desk.book)
    desk.book.set_state("c-1", "waiting", "The day's budget is spent.", clock.now + 60)
    assert desk.find() is None
    assert not desk.is_done()
    clock.now += 60
    desk.take()
    campaign = desk.book.get("c-1")
    assert (campaign.state, campaign.reason, campaign.resumes_at) == ("approved", None, None)


def test_a_clock_that_is_put_back_a_day_holds_neither_row_nor_campaign_up(desk: Desk, clock: Clock) -> None:
    approved(desk.book, 1)
    desk.book.note(desk.take(), state="planned", not_before=clock.now + 60)
    assert desk.find() is None
    clock.now -= 86_400
    assert desk.hold() is None
    desk.book.note(desk.take(), state="planned")
    desk.book.set_state("c-1", "waiting", "the day's budget", clock.now + 86_000)
    assert desk.find() is None
    clock.now -= 86_400
    assert desk.take().number == 1


def test_a_paused_campaign_waits_for_the_user_whatever_another_row_finds(desk: Desk) -> None:
    approved(desk.book)
    desk.book.set_state("c-1", "paused", "The whole budget is spent.")
    desk.book.set_state("c-1", "waiting", "The API is closed.", NOON)
    assert desk.book.get("c-1").reason == "The whole budget is spent."
    assert desk.find() is None
    assert desk.is_done()
    assert desk.book.approve("c-1").reason is None
    desk.take()


# Stop


def test_stop_skips_what_is_planned_at_once_and_leaves_what_runs(desk: Desk) -> None:
    approved(desk.book)
    running = desk.take()
    campaign, skipped = desk.book.stop("c-1")
    assert (campaign.state, skipped, states(desk.book)) == ("stopped", 2, ["running", "skipped", "skipped"])
    desk.save(running)
    assert desk.book.end_if_done("c-1").state == "ended"


def test_stop_with_nothing_running_ends(desk: Desk) -> None:
    approved(desk.book)
    assert desk.book.stop("c-1")[0].state == "ended"


def test_a_row_that_failed_free_is_not_made_again_once_its_campaign_was_stopped(desk: Desk) -> None:
    approved(desk.book, 1)
    row = desk.take()
    desk.book.stop("c-1")
    written = desk.book.note(row, state="planned", generation_id=None, is_begun=False)
    assert written is not None
    assert written.state == "skipped"


@pytest.mark.parametrize("known", ["nothing", "its job", "that it may have been sent"])
def test_what_a_killed_runner_had_begun_is_seen_to_after_a_stop(desk: Desk, known: str) -> None:
    approved(desk.book, 2)
    row = desk.take()
    if known == "its job":
        desk.book.note(row, generation_id="g")
    elif known == "that it may have been sent":
        desk.book.note(row, state="planned", is_begun=True)
    other = Desk(desk.book, "two")
    if known != "that it may have been sent":
        desk.let_go()
    desk.let_go()
    assert other.hold() is None
    desk.book.stop("c-1")
    assert states(desk.book) == ["planned", "skipped"]
    assert not other.is_done()
    assert other.take().number == 1


# Retry


@pytest.mark.parametrize("state", ["failed", "refused", "skipped", "stuck", "unknown"])
def test_retry_has_a_row_made_under_its_own_key(desk: Desk, state: RowState) -> None:
    approved(desk.book, 1)
    before = desk.take()
    desk.book.note(before, state=state, attempts=3)
    desk.book.end_if_done("c-1")
    campaign, numbers = desk.book.retry("c-1")
    assert (campaign.state, numbers) == ("approved", [1])
    row = desk.take()
    assert (row.digest, row.take, row.attempts) == (before.digest, 1, 0)


def test_retry_of_what_was_charged_is_another_take_with_a_digest_of_its_own(desk: Desk) -> None:
    second = a_row(2, request=a_row(1).request, take=2)
    approved(desk.book, [a_row(1), second])
    desk.book.note(desk.take(), state="charged", generation_id="g", attempts=1)
    desk.book.retry("c-1", [1])
    row = desk.take()
    # The second take is another row's.
    assert (row.number, row.take, row.generation_id) == (1, 3, None)
    act = GenerationAct.of(request_of(row))
    assert row.digest == Intention(act, ACCOUNT, BASE_URL, 3).digest


def test_retry_of_what_was_dearer_goes_at_the_price_that_was_told(desk: Desk) -> None:
    approved(desk.book, 1)
    desk.book.note(desk.take(), state="dearer", dearer_usd=Decimal(2))
    desk.book.retry("c-1")
    row = desk.take()
    assert (row.price_usd, row.dearer_usd) == (Decimal(2), None)


def test_retry_of_what_is_unsaved_fetches_it_and_makes_nothing(desk: Desk) -> None:
    approved(desk.book, 1)
    desk.book.note(desk.take(), state="made", generation_id="g")
    desk.book.note(desk.take(SAVE), state="unsaved")
    desk.book.retry("c-1")
    assert desk.find(MAKE) is None
    assert desk.take(SAVE).generation_id == "g"


def test_a_row_that_retry_names_twice_is_made_again_once(desk: Desk) -> None:
    approved(desk.book, 2)
    desk.book.note(desk.take(), state="refused")
    assert desk.book.retry("c-1", [1, 1])[1] == [1]


def test_retry_fetches_by_its_number_what_was_saved_and_is_not_there_any_more(
    desk: Desk, tmp_path: Path
) -> None:
    approved(desk.book, 1)
    desk.save(desk.take())
    video = tmp_path / "v.mp4"
    video.write_bytes(b"v")
    desk.book.note(desk.book.rows(desk.book.get("c-1"))[0], state="saved", saved_as=str(video))
    with pytest.raises(InvalidRequestError, match="row 1: it is saved, and its video is there"):
        desk.book.retry("c-1", [1])
    video.unlink()
    assert desk.book.retry("c-1")[1] == []
    assert desk.book.retry("c-1", [1])[1] == [1]
    assert desk.find(MAKE) is None
    assert desk.take(SAVE).generation_id == "g"


def test_a_take_of_a_clip_that_lies_elsewhere_too_is_a_take_of_the_same(desk: Desk) -> None:
    body = a_request("clip")["body"]
    file = {"input": 0, "type": "video", "sha256": "0" * 64, "name": "clip.mp4"}
    places: list[dict[str, object]] = [{**file, "path": f"/{number}/clip.mp4"} for number in (1, 2)]
    rows = [
        a_row(take, take=take, request=cast(Json, {"body": body, "files": [place]}))
        for take, place in enumerate(places, 1)
    ]
    approved(desk.book, rows)
    desk.book.note(desk.take(), state="charged")
    desk.book.retry("c-1", [1])
    assert [row.take for row in desk.book.rows(desk.book.get("c-1"))] == [3, 2]


def test_retry_of_a_row_that_needs_none_says_how_it_is_and_changes_nothing(desk: Desk) -> None:
    approved(desk.book, 2)
    desk.book.note(desk.take(), state="refused")
    with pytest.raises(InvalidRequestError) as refused:
        desk.book.retry("c-1", [1, 2, 9])
    assert refused.value.faults == ("row 2: it is planned.", "row 9: there is none.")
    assert states(desk.book) == ["refused", "planned"]


# Runners


def test_one_runner_at_a_time_has_an_account_and_the_other_is_told_who(desk: Desk) -> None:
    other = Desk(desk.book, "two")
    assert other.hold() == "the place of one"
    desk.let_go()
    assert other.hold() is None


def test_a_runner_that_is_not_heard_of_for_half_a_minute_is_taken_over_with_its_rows(
    desk: Desk, clock: Clock
) -> None:
    desk.hold()
    approved(desk.book, 1)
    before = desk.take()
    other = Desk(desk.book, "two")
    clock.now += LEASE_SECONDS - 1
    assert other.hold() is not None
    clock.now += 1
    assert other.hold() is None
    assert other.take().number == before.number
    assert desk.book.note(before, state="made") is None


@pytest.mark.skipif(os.name != "posix", reason="whether a process is gone is not told on this system")
def test_who_has_the_account_is_told_as_long_as_its_process_lives(book: CampaignBook) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        other.wait()
    gone = Desk(book, new_holder().replace(f" {os.getpid()} ", f" {other.pid} "))
    gone.hold()
    assert book.find_runner(ACCOUNT, BASE_URL) is None
    here = Desk(book, new_holder())
    assert here.hold() is None
    assert book.find_runner(ACCOUNT, BASE_URL) == f"the place of {here.holder}"


def test_a_runner_that_has_lost_the_account_takes_no_row(desk: Desk, clock: Clock) -> None:
    desk.hold()
    approved(desk.book)
    clock.now += LEASE_SECONDS
    Desk(desk.book, "two").hold()
    with pytest.raises(LeaseLost):
        desk.find()


def test_a_lease_of_a_clock_that_ran_far_ahead_holds_nobody_up(desk: Desk, clock: Clock) -> None:
    clock.now += 86_400
    desk.hold()
    clock.now -= 86_400
    assert Desk(desk.book, "two").hold() is None


def test_a_row_that_ended_its_runner_three_times_is_stuck(desk: Desk, clock: Clock) -> None:
    approved(desk.book, 1)
    for number in range(MOST_BEGUN):
        killed = Desk(desk.book, f"killed-{number}")
        clock.now += LEASE_SECONDS
        killed.hold()
        assert killed.take().number == 1
    clock.now += LEASE_SECONDS
    desk.hold()
    assert desk.find() is None
    assert states(desk.book) == ["stuck"]


def test_a_row_that_a_death_has_met_goes_behind_the_others(desk: Desk, clock: Clock) -> None:
    approved(desk.book, 3)
    killed = Desk(desk.book, "killed")
    clock.now += LEASE_SECONDS
    killed.hold()
    assert killed.take().number == 1
    clock.now += LEASE_SECONDS
    desk.hold()
    assert [desk.take(lane=str(lane)).number for lane in range(3)] == [2, 3, 1]


def test_rows_that_two_deaths_have_met_are_taken_one_by_one_and_only_that_which_meets_the_third_is_stuck(
    desk: Desk, clock: Clock
) -> None:
    approved(desk.book, 3)
    for number in range(MOST_BEGUN - 1):
        killed = Desk(desk.book, f"killed-{number}")
        clock.now += LEASE_SECONDS
        killed.hold()
        assert [killed.take(lane=str(lane)).number for lane in range(3)] == [1, 2, 3]
    clock.now += LEASE_SECONDS
    last = Desk(desk.book, "last")
    last.hold()
    # Alone: while its files are read, no other row is taken.
    first = last.take(lane="0")
    assert (first.number, last.find(lane="1")) == (1, None)
    desk.book.note(first, begun=0)
    assert last.take(lane="1").number == 2
    clock.now += LEASE_SECONDS
    desk.hold()
    # The first one was read before that death: it goes before those that deaths have met.
    first = desk.take(lane="0")
    assert (first.number, desk.find(lane="1")) == (1, None)
    desk.book.note(first, begun=0)
    third = desk.take(lane="1")
    desk.book.note(third, begun=0)
    assert (third.number, desk.find(lane="2")) == (3, None)
    assert states(desk.book) == ["running", "stuck", "running"]


def test_a_row_whose_job_is_known_is_not_what_ended_its_runner(desk: Desk, clock: Clock) -> None:
    approved(desk.book, 1)
    for number in range(2 * MOST_BEGUN):
        killed = Desk(desk.book, f"killed-{number}")
        clock.now += LEASE_SECONDS
        killed.hold()
        desk.book.note(killed.take(), generation_id="g")
    assert states(desk.book) == ["running"]


def test_a_runner_that_is_ended_in_order_holds_nothing_against_its_rows(desk: Desk) -> None:
    approved(desk.book, 1)
    for _ in range(2 * MOST_BEGUN):
        desk.hold()
        desk.take()
        desk.let_go()
    assert states(desk.book) == ["planned"]


# Money


def test_the_budget_counts_what_was_made_for_the_campaign_and_what_is_on_the_way(
    desk: Desk, ledger: Ledger
) -> None:
    approved(desk.book, 3, budget_usd=Decimal("2.5"))
    pay(ledger, "earlier", "1", cost="0.5")
    pay(ledger, "another's", "9", campaign="c-2")
    desk.take()
    desk.take(lane="2")
    assert desk.find() is None
    money = desk.book.money(desk.book.get("c-1"))
    assert (money.planned, money.spent, money.held) == (3, Decimal("0.5"), 2)


def test_a_budget_pauses_its_campaign_once_nothing_runs_that_may_cost_less(
    desk: Desk, ledger: Ledger
) -> None:
    approved(desk.book, 2, budget_usd=Decimal("1.5"))
    row = desk.take()
    assert desk.find() is None
    assert desk.book.get("c-1").state == "approved"
    pay(ledger, "clip-1", "1")
    desk.book.note(row, state="made", generation_id="job-clip-1")
    assert desk.find() is None
    campaign = desk.book.get("c-1")
    assert campaign.state == "paused"
    assert campaign.reason == (
        "Its budget of 1.50 USD has no room for row 2 (1.00 USD): 0.00 USD is spent and 1.00 USD held. "
        "A higher one (--budget-usd) goes on."
    )


def test_a_raised_budget_goes_on(desk: Desk) -> None:
    approved(desk.book, 1, budget_usd=Decimal("0.5"))
    assert desk.find() is None
    assert desk.book.approve("c-1", budget_usd=Decimal(1)).budget_usd == 1
    desk.take()


def test_the_budget_holds_nobody_up_whose_job_runs_already(desk: Desk, ledger: Ledger) -> None:
    approved(desk.book, 1, budget_usd=Decimal(1))
    row = desk.take()
    pay(ledger, "clip-1", "1")
    desk.book.note(row, generation_id="job-clip-1")
    desk.let_go()
    desk.hold()
    assert desk.take().generation_id == "job-clip-1"


def test_a_row_without_a_price_counts_the_most_that_it_may_cost_until_its_cost_is_known(
    desk: Desk, ledger: Ledger
) -> None:
    unpriced = [a_row(number, price_usd=None) for number in (1, 2)]
    approved(desk.book, unpriced, max_usd_per_row=Decimal(2), budget_usd=Decimal(3))
    row = desk.take()
    assert desk.find() is None
    pay(ledger, "clip-1", None)
    desk.book.note(row, state="made", generation_id="job-clip-1")
    assert desk.book.money(desk.book.get("c-1")).held == 2
    assert desk.find() is None
    pay(ledger, "cheap", None, cost="0.25")
    assert desk.book.money(desk.book.get("c-1")).spent == Decimal("0.25")


def test_two_rows_with_one_digest_are_planned_once(book: CampaignBook) -> None:
    campaign = planned(book, [a_row(1), a_row(2, digest="digest-1"), a_row(3)])
    assert book.money(campaign).planned == 2


# What a turn costs


def plan_of(home: Path, query: Select[Any, *tuple[Any, ...]]) -> list[str]:
    """Return how the database reads a query, step by step; parameters are not filled in."""
    compiled = str(query.compile(dialect=dialect.dialect(), compile_kwargs={"render_postcompile": True}))
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
        return [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {compiled}", [0] * compiled.count("?"))]


@pytest.mark.file
@pytest.mark.parametrize("state", ["approved", "stopped"])
def test_a_turn_finds_its_row_by_indexes_and_sorts_none(
    book: CampaignBook, home: Path, state: CampaignState
) -> None:
    campaign = approved(book)
    steps = plan_of(home, next_row_query(a_campaign(state=state), MAKE, NOON))
    assert campaign.state == "approved"
    assert "USING INDEX campaign_rows_by_state (campaign=? AND state=?)" in steps[0]
    assert any("USING INDEX campaign_rows_running" in step for step in steps[1:])
    assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step]


@pytest.mark.file
def test_what_a_campaign_has_cost_is_summed_from_an_index_alone(book: CampaignBook, home: Path) -> None:
    steps = plan_of(home, sum_paid_query(approved(book)))
    assert steps == ["SEARCH entries USING COVERING INDEX entries_of_campaigns (campaign=?)"]
