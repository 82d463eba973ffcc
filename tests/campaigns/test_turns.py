"""What becomes of a row at its turn: on the sandbox, with its faults and its clock, and a real ledger."""

import shutil
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection

from sync_mcp.campaigns.rows import Campaign, Row, RowState
from sync_mcp.campaigns.tables import change_row
from sync_mcp.errors import FileRefused, LedgerError
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.sandbox import Fault
from sync_mcp.sandbox.api import files
from sync_mcp.sandbox.media.render import RenderPlan
from sync_mcp.sandbox.media.samples import sample

from .parts import CREATE, PRICE, Clock, Studio, when

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
FREE_FAILURE = Fault(path=CREATE, job="fail", error="No face.")


def of(rows: list[Row]) -> Row:
    [row] = rows
    return row


@BOTH
async def test_every_row_is_made_paid_once_checked_and_saved(studio: Studio) -> None:
    campaign = await studio.approve(3)
    await studio.run()
    rows = studio.rows(campaign)
    assert [row.state for row in rows] == ["saved"] * 3
    assert all(row.saved_as == str(studio.folder / "out" / row.output) for row in rows)
    assert studio.charged == [PRICE] * 3
    assert len(set(studio.sent)) == 3
    assert studio.book.get(campaign.id).state == "ended"
    assert studio.book.money(campaign).spent == 3 * PRICE
    assert (studio.folder / "out" / "report.html").exists()


async def test_what_a_campaign_pays_does_not_count_as_paid_unasked(studio: Studio) -> None:
    await studio.approve(1)
    await studio.run()
    assert studio.charged == [PRICE]
    assert await studio.campaigns.guard.sum_unasked(studio.sync) == 0


async def test_rows_with_one_digest_are_one_job_and_two_files(studio: Studio) -> None:
    twins = [studio.line(1, output="one.mp4"), studio.line(1, output="two.mp4")]
    campaign = await studio.approve(twins)
    await studio.run()
    assert studio.states(campaign) == ["saved", "saved"]
    assert studio.charged == [PRICE]
    assert sorted(path.name for path in (studio.folder / "out").glob("*.mp4")) == ["one.mp4", "two.mp4"]


@pytest.mark.parametrize(("deaths", "held_against"), [(0, 1), (1, 0), (2, 0)])
async def test_a_death_once_the_files_are_read_is_held_against_a_row_the_first_time_alone(
    deaths: int, held_against: int, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await studio.approve(1)
    with studio.book.store.transaction() as connection:
        change_row(connection, of(studio.rows(campaign)), {"begun": deaths})
    create, counted = Guard.create, list[int]()

    async def create_and_count(guard: Guard, call: PaidCall[Job]) -> Made[Job]:
        counted.append(of(studio.rows(campaign)).begun)
        return await create(guard, call)

    monkeypatch.setattr(Guard, "create", create_and_count)
    await studio.run()
    assert counted == [held_against]
    assert of(studio.rows(campaign)).begun == 0


# Prices


async def test_a_row_that_is_dearer_at_its_turn_is_not_sent_but_listed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await studio.approve(1)
    monkeypatch.setattr("sync_mcp.sandbox.settings.FRAME_PRICES", {"lipsync-2": Decimal("0.004")})
    # Another process has asked for no price yet.
    studio.open()
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, row.dearer_usd, studio.sent) == ("dearer", 2 * PRICE, [])
    assert row.error == "Its price is 0.452 USD now, and was planned at 0.226 USD: nothing was sent."
    studio.book.retry(campaign.id)
    await studio.run()
    assert studio.states(campaign) == ["saved"]
    assert studio.charged == [2 * PRICE]


async def test_a_price_that_cannot_be_told_at_its_turn_is_waited_for(studio: Studio, clock: Clock) -> None:
    campaign = await studio.approve(1)
    studio.open()
    studio.sandbox.add_fault(Fault(path="/v2/analyze/cost", status=503, times=None))

    def open_again() -> None:
        studio.sandbox.clear_faults()
        clock.now += 3600

    await studio.run(when("planned", open_again))
    assert studio.turns[:2] == [(1, "running"), (1, "planned")]
    assert studio.states(campaign) == ["saved"]


# Limits


async def test_the_days_budget_makes_a_campaign_wait_for_the_next_utc_day_and_go_on_then(
    studio: Studio, clock: Clock
) -> None:
    studio.open(slots=1, per_day_usd="0.3")
    campaign = await studio.approve(2)
    told: list[Campaign] = []

    async with anyio.create_task_group() as tasks:

        def pass_the_night(_: Campaign, row: Row) -> None:
            waiting = studio.book.get(campaign.id)
            if row.state == "planned" and waiting.resumes_at is not None:
                told.append(waiting)
                studio.sandbox.advance(waiting.resumes_at - clock.now + 1)
                clock.now = waiting.resumes_at
                # The API's time is heard with the next answer.
                tasks.start_soon(studio.sync.account.get)

        await studio.run(pass_the_night)
    state, reason = told[0].state, told[0].reason
    assert state == "waiting"
    assert reason is not None
    assert "the budget of a day (UTC) is 0.30 USD" in reason
    assert reason.endswith("00:00 UTC.")
    assert studio.states(campaign) == ["saved", "saved"]
    assert studio.charged == [PRICE, PRICE]


async def test_a_row_that_no_day_has_room_for_is_refused_and_not_waited_for(studio: Studio) -> None:
    studio.open(per_day_usd="0.1")
    campaign = await studio.approve(1)
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, studio.sent) == ("refused", [])
    assert "the budget of a day (UTC) is 0.10 USD" in (row.error or "")


async def test_the_whole_budget_pauses_a_campaign_and_says_so(studio: Studio) -> None:
    studio.open(slots=1, ever_usd="0.3")
    campaign = await studio.approve(3)
    await studio.run()
    paused = studio.book.get(campaign.id)
    assert paused.state == "paused"
    assert "the whole budget is 0.30 USD" in (paused.reason or "")
    assert studio.states(campaign) == ["saved", "planned", "planned"]
    assert studio.charged == [PRICE]


async def test_its_own_budget_pauses_a_campaign_and_what_was_made_is_saved(studio: Studio) -> None:
    campaign = await studio.approve(3, budget_usd=2 * PRICE)
    await studio.run()
    assert studio.book.get(campaign.id).state == "paused"
    assert studio.states(campaign) == ["saved", "saved", "planned"]
    await studio.campaigns.approve(campaign.id, budget_usd=3 * PRICE)
    await studio.run()
    assert studio.states(campaign) == ["saved"] * 3
    assert studio.charged == [PRICE] * 3


@pytest.mark.parametrize(
    ("code", "told"),
    [("account_payment_required", "https://sync.so/billing"), ("account_on_hold", "The account is on hold.")],
)
async def test_an_account_that_cannot_pay_pauses_a_campaign_and_says_why(
    studio: Studio, code: str, told: str
) -> None:
    campaign = await studio.approve(2)
    studio.sandbox.add_fault(Fault.api_error(code, path=CREATE, times=None))
    await studio.run()
    paused = studio.book.get(campaign.id)
    assert (paused.state, studio.states(campaign)) == ("paused", ["planned", "planned"])
    assert told in (paused.reason or "")


async def test_a_closed_api_is_waited_for_with_growing_pauses_and_the_campaign_says_why(
    studio: Studio, clock: Clock
) -> None:
    campaign = await studio.approve(2)
    studio.sandbox.add_fault(Fault(path="/v2/analyze/cost", status=503, times=None))
    studio.open(slots=1)
    pauses: list[float] = []
    told: list[Campaign] = []

    def pass_the_time(_: Campaign, row: Row) -> None:
        # The other lane may tell a moment later of the same time.
        if row.state == "planned" and row.not_before > clock.now:
            told.append(studio.book.get(campaign.id))
            pauses.append(row.not_before - clock.now)
            if len(pauses) == 3:
                studio.sandbox.clear_faults()
            clock.now = row.not_before

    await studio.run(pass_the_time)
    assert all((waiting.reason or "").startswith("The API cannot tell now what row") for waiting in told)
    assert pauses == [15, 30, 60]
    assert studio.states(campaign) == ["saved", "saved"]
    assert studio.charged == [PRICE, PRICE]


# Failures


@pytest.mark.parametrize(("failures", "ends"), [(2, "saved"), (3, "failed")])
async def test_a_free_failure_is_made_again_twice_at_most(
    studio: Studio, clock: Clock, failures: int, ends: RowState
) -> None:
    studio.sandbox.add_fault(FREE_FAILURE.model_copy(update={"times": failures}))
    campaign = await studio.approve(1)
    await _pass_time(studio, clock)
    row = of(studio.rows(campaign))
    assert (row.state, len(studio.sent)) == (ends, 3)
    assert studio.charged == ([PRICE] if ends == "saved" else [])
    if ends == "failed":
        assert row.error == ("It failed 3 times, free: No face. Change its clip or its model, then retry it.")


async def test_what_was_charged_waits_for_the_user_and_is_paid_again_as_another_take(studio: Studio) -> None:
    studio.sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True, error="No face."))
    campaign = await studio.approve(1, budget_usd=2 * PRICE)
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, row.take, studio.charged) == ("charged", 1, [PRICE])
    assert "No face. Made again it is paid again: retry does that." in (row.error or "")
    await studio.run()
    assert studio.charged == [PRICE]
    studio.book.retry(campaign.id)
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, row.take, studio.charged) == ("saved", 2, [PRICE, PRICE])
    assert studio.book.money(campaign).spent == 2 * PRICE


async def test_what_an_earlier_call_was_charged_for_is_asked_about_and_not_paid_again(
    studio: Studio,
) -> None:
    studio.sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
    first = await studio.approve(1, name="first")
    await studio.run()
    assert studio.states(first) == ["charged"]
    # The same rows in another campaign, agreed to with its total.
    studio.book.stop(first.id)
    second = await studio.approve([studio.line(1, output="other.mp4")], name="second")
    await studio.run()
    assert studio.states(second) == ["charged"]
    assert studio.charged == [PRICE]


async def test_what_nobody_knows_of_waits_for_the_user(studio: Studio, clock: Clock) -> None:
    campaign = await studio.approve(1)
    studio.sandbox.add_fault(Fault(method="POST", path=CREATE, drop="after", times=None))
    studio.sandbox.add_fault(Fault(path="/v2/generations", status=400, times=None))
    await _pass_time(studio, clock)
    row = of(studio.rows(campaign))
    assert (row.state, studio.charged) == ("unknown", [PRICE])
    studio.sandbox.clear_faults()
    studio.book.retry(campaign.id)
    await _pass_time(studio, clock)
    assert (studio.states(campaign), studio.charged) == (["saved"], [PRICE])


@pytest.mark.parametrize(
    "code", ["generation_plan_duration_exceeded", "dubbing_duration_exceeded", "asset_forbidden"]
)
async def test_what_the_api_does_not_take_is_refused_with_what_it_says(studio: Studio, code: str) -> None:
    campaign = await studio.approve(2)
    studio.sandbox.add_fault(Fault.api_error(code, path=CREATE, message="No such face."))
    await studio.run()
    assert sorted(studio.states(campaign)) == ["refused", "saved"]
    [error] = [row.error for row in studio.rows(campaign) if row.error]
    assert "No such face." in error


# Files


async def test_a_file_that_was_changed_since_the_plan_is_refused_and_nothing_is_sent(studio: Studio) -> None:
    clip = studio.folder / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    campaign = await studio.approve([studio.line(1, video=str(clip))])
    shutil.copy(sample("speaking.mp4"), clip)
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, studio.sent) == ("refused", [])
    assert (row.error or "").startswith("clip.mp4 is not the file that was planned")


async def test_what_was_sent_before_a_death_is_fetched_though_its_clip_is_gone_since(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = studio.folder / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    campaign = await studio.approve([studio.line(1, video=str(clip))])
    with monkeypatch.context() as patch, anyio.CancelScope() as life:
        create = Guard.create

        async def create_and_die(guard: Guard, call: PaidCall[Job]) -> Made[Job]:
            await create(guard, call)
            life.cancel()
            return await create(guard, call)

        patch.setattr(Guard, "create", create_and_die)
        await studio.run()
    assert (of(studio.rows(campaign)).generation_id, studio.charged) == (None, [PRICE])
    clip.unlink()
    studio.open()
    await studio.run()
    assert (studio.states(campaign), studio.charged) == (["saved"], [PRICE])


async def _do_nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(("times", "ends"), [(1, "saved"), (9, "refused")])
async def test_a_clip_that_a_busy_machine_reads_too_slowly_is_read_again_some_times(
    studio: Studio, clock: Clock, monkeypatch: pytest.MonkeyPatch, times: int, ends: RowState
) -> None:
    clip = studio.folder / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    campaign = await studio.approve([studio.line(1, video=str(clip))])
    read, left = LocalReader.read, [FileRefused("It was slow.", code="file_too_slow")] * times

    async def read_slowly(reader: LocalReader, *given: Any, **more: Any) -> InputFile:
        if left:
            raise left.pop()
        return await read(reader, *given, **more)

    monkeypatch.setattr(LocalReader, "read", read_slowly)
    # What is read ahead of a turn does not count.
    monkeypatch.setattr("sync_mcp.campaigns.lanes.prepare_row", _do_nothing)
    await _pass_time(studio, clock)
    assert studio.states(campaign) == [ends]
    assert studio.charged == ([PRICE] if ends == "saved" else [])


async def test_a_local_clip_is_uploaded_and_made(studio: Studio) -> None:
    clip = studio.folder / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    campaign = await studio.approve([studio.line(1, video=str(clip))])
    await studio.run()
    assert (studio.states(campaign), studio.charged) == (["saved"], [PRICE])


async def test_a_video_that_cannot_be_fetched_is_fetched_again_and_never_made_again(
    studio: Studio, clock: Clock
) -> None:
    campaign = await studio.approve(1)
    studio.sandbox.add_fault(Fault(path="/outputs/*", status=403, times=None))
    await _pass_time(studio, clock)
    row = of(studio.rows(campaign))
    assert row.state == "unsaved"
    assert (row.error or "").startswith("Its video was made, and cannot be saved:")
    studio.sandbox.clear_faults()
    studio.book.retry(campaign.id)
    await studio.run()
    assert studio.states(campaign) == ["saved"]
    assert (len(studio.sent), studio.charged) == (1, [PRICE])


async def test_a_file_of_another_content_is_not_overwritten(studio: Studio) -> None:
    campaign = await studio.approve([studio.line(1, output="mine.mp4")])
    (studio.folder / "out").mkdir()
    mine = studio.folder / "out" / "mine.mp4"
    mine.write_bytes(b"mine")
    await studio.run()
    row = of(studio.rows(campaign))
    assert (row.state, mine.read_bytes()) == ("unsaved", b"mine")


async def test_a_folder_that_is_missing_with_those_above_it_is_made(studio: Studio) -> None:
    folder = studio.folder / "videos" / "of" / ".today"
    campaign = await studio.approve(1, output=folder)
    await studio.run()
    assert studio.states(campaign) == ["saved"]
    assert list(folder.glob("*.mp4"))


async def test_where_a_video_lies_is_written_letter_for_letter(studio: Studio) -> None:
    folder = studio.folder / "two  spaces\nand a line"
    campaign = await studio.approve(1, output=folder)
    await studio.run()
    assert [of(studio.rows(campaign)).saved_as] == [str(path) for path in folder.glob("*.mp4")]


async def test_what_has_no_folder_to_go_to_is_fetched_once_it_has(studio: Studio) -> None:
    campaign = await studio.approve(1)
    (studio.folder / "out").write_bytes(b"in the way")
    await studio.run()
    row = of(studio.rows(campaign))
    assert row.state == "unsaved"
    assert (row.error or "").endswith("then retry: it is fetched again, and not made again.")
    (studio.folder / "out").unlink()
    studio.book.retry(campaign.id)
    await studio.run()
    assert (studio.states(campaign), studio.charged) == (["saved"], [PRICE])


async def test_a_video_that_fails_a_check_is_kept_apart_and_needs_the_user(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = files.render

    def break_off(plan: RenderPlan, target: Path, cancelled: Event) -> None:
        render(plan, target, cancelled)
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])

    monkeypatch.setattr(files, "render", break_off)
    campaign = await studio.approve(1)
    await studio.run()
    row = of(studio.rows(campaign))
    assert row.state == "unsaved"
    assert "fails the check" in (row.error or "")
    assert (row.saved_as or "").endswith(".failed-check.mp4")


# The ledger


@pytest.mark.file
async def test_a_ledger_that_is_in_use_ends_no_row(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await studio.approve(2)
    fails = _every_third_transaction_fails(monkeypatch)
    await studio.run()
    assert fails
    assert studio.states(campaign) == ["saved", "saved"]
    assert studio.charged == [PRICE, PRICE]


def _every_third_transaction_fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have every third transaction find the ledger in use, as long as rows run."""

    transaction = SqliteStore.transaction
    begun: list[int] = []
    fails: list[int] = []

    def in_use(store: SqliteStore, *, is_sandbox: bool | None = None) -> AbstractContextManager[Connection]:
        begun.append(1)
        if len(begun) > 6 and len(begun) % 3 == 0:
            fails.append(len(begun))
            raise LedgerError("The ledger is in use.").advise(retryable=True)
        return transaction(store, is_sandbox=is_sandbox)

    monkeypatch.setattr(SqliteStore, "transaction", in_use)
    return fails


async def _pass_time(studio: Studio, clock: Clock) -> None:
    """Run until nothing is left, the time that a row waits for passing at once."""

    def pass_on(_: Campaign, row: Row) -> None:
        if row.not_before > clock.now:
            studio.sandbox.advance(row.not_before - clock.now)
            clock.now = row.not_before

    await studio.run(pass_on)
