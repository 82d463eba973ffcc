"""A plan that keeps going: what cannot be made is a row that says so, and what is there already is left."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sync_mcp import Ledger
from sync_mcp.campaigns.plan import Plan
from sync_mcp.campaigns.rows import Row
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.campaigns.tables import MAKE, SAVE
from sync_mcp.errors import InvalidRequestError

from .parts import PRICE, Desk, Studio, a_campaign, a_row, pay

pytestmark = pytest.mark.anyio


async def plan(studio: Studio, *lines: Line) -> Plan:
    return await studio.campaigns.plan(
        studio.sync, studio.folder, table=Table(lines), output=studio.folder / "out", keep_going=True
    )


def states(rows: Sequence[Row]) -> list[str]:
    return [row.state for row in rows]


# Lines


async def test_a_line_that_cannot_be_made_is_a_row_that_says_why_and_stops_no_other(studio: Studio) -> None:
    planned = await plan(
        studio,
        studio.line(1, voice="nobody", audio=None, script="Hello."),
        studio.line(2),
        studio.line(3, video=str(studio.folder / "gone.mp4")),
        studio.line(4, fault="Its script is empty."),
    )
    assert planned.campaign.total_usd == PRICE
    assert planned.notes[2] == "Row 4 (speaker.mp4) cannot be made: Its script is empty."
    assert states(planned.rows) == ["refused", "planned", "refused", "refused"]
    assert [row.clip for row in planned.rows][2:] == ["gone.mp4", "speaker.mp4"]
    nobody, _, gone, empty = [row.error or "" for row in planned.rows]
    assert nobody.startswith("voice 'nobody' is no voice of this account")
    assert "gone.mp4 is not there" in gone
    assert empty == "Its script is empty."


async def test_a_campaign_of_which_nothing_can_be_made_ends(studio: Studio) -> None:
    planned = await plan(studio, studio.line(1, fault="It is empty."))
    await studio.campaigns.approve(planned.campaign.id)
    await studio.run()
    assert studio.book.get(planned.campaign.id).state == "ended"


async def test_of_two_lines_that_want_one_name_the_second_is_refused(studio: Studio) -> None:
    planned = await plan(studio, studio.line(1, output="a"), studio.line(2, output="A"))
    assert states(planned.rows) == ["planned", "refused"]
    assert planned.rows[1].error == "output A.mp4 is that of line 1 too: give each its own."


async def test_what_is_wrong_with_a_line_is_planned_anew_and_not_retried(studio: Studio) -> None:
    wrong = studio.line(1, fault="It is empty.")
    planned = (await plan(studio, wrong)).campaign
    assert studio.book.retry(planned.id)[1] == []
    with pytest.raises(InvalidRequestError, match="row 1: it cannot be made: correct its line and plan"):
        studio.book.retry(planned.id, [1])
    assert (await plan(studio, wrong)).campaign.id == planned.id
    assert states((await plan(studio, studio.line(1))).rows) == ["planned"]


async def test_a_file_that_cannot_be_read_as_rows_stops_the_plan_all_the_same(studio: Studio) -> None:
    table = studio.folder / "rows.csv"
    table.write_text("video,language\na.mp4,fr\n,es\n", encoding="utf-8")
    with pytest.raises(InvalidRequestError, match="line 3: there is no video and no image"):
        await studio.campaigns.plan(studio.sync, table, keep_going=True)


# Files


@pytest.fixture
def saved(desk: Desk, tmp_path: Path, ledger: Ledger) -> Row:
    """A video that an earlier campaign has saved."""
    desk.book.keep(a_campaign(folder=str(tmp_path)), [a_row(1, campaign="c-1")])
    desk.book.approve("c-1")
    video = tmp_path / "clip-1.mp4"
    video.write_bytes(b"v")
    pay(ledger, "clip-1")
    desk.book.note(desk.take(), state="made", generation_id="job-clip-1")
    row = desk.book.note(desk.take(SAVE), state="saved", saved_as=str(video))
    assert row is not None
    return row


def keep(desk: Desk, folder: Path, *rows: Row) -> list[Row]:
    campaign = a_campaign(id="c-2", digest="of others", folder=str(folder))
    kept = desk.book.keep(campaign, [*rows], keep_going=True)
    return desk.book.rows(kept)


def test_a_file_that_is_there_is_left_as_it_is_whatever_it_is_of(
    desk: Desk, saved: Row, tmp_path: Path
) -> None:
    (tmp_path / "Clip-2.mp4").write_bytes(b"of the user's own")
    others = [a_row(number, campaign="c-2", digest=f"other-{number}") for number in (1, 2, 3)]
    one, two, three = keep(desk, tmp_path, *others)
    assert (one.state, one.saved_as, one.generation_id) == ("saved", saved.saved_as, "job-clip-1")
    assert (two.state, two.saved_as, two.generation_id) == ("saved", str(tmp_path / "Clip-2.mp4"), None)
    assert three.state == "planned"


def test_a_file_of_the_same_request_is_planned_and_costs_nothing(
    desk: Desk, saved: Row, tmp_path: Path
) -> None:
    [row] = keep(desk, tmp_path, a_row(1, campaign="c-2", digest=saved.digest))
    assert row.state == "planned"


@pytest.mark.usefixtures("saved")
def test_what_was_left_is_made_by_a_retry_once_its_file_is_gone(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "clip-2.mp4").write_bytes(b"of the user's own")
    keep(desk, tmp_path, *(a_row(number, campaign="c-2", digest=f"other-{number}") for number in (1, 2)))
    desk.book.approve("c-2")
    for number in (1, 2):
        (tmp_path / f"clip-{number}.mp4").unlink()
    desk.book.retry("c-2", [1, 2])
    assert [row.generation_id for row in (desk.take(MAKE, "1"), desk.take(MAKE, "2"))] == [None, None]


def test_what_another_campaign_is_to_make_still_is_refused_and_stops_no_other(
    desk: Desk, tmp_path: Path
) -> None:
    desk.book.keep(a_campaign(folder=str(tmp_path)), [a_row(1, campaign="c-1")])
    desk.book.approve("c-1")
    one, two = keep(desk, tmp_path, *(a_row(number, campaign="c-2", digest="other") for number in (1, 2)))
    assert (one.state, two.state) == ("refused", "planned")
    assert one.error is not None
    assert one.error.endswith("is to be another video, of campaign c-1.")
