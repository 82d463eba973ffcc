"""How a job ended is taken from what the API says of it, and is learned anew where that changes."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Guard, LimitReached
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalDenied, ApprovalRequired, NotFoundError, NotVisibleYet
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, Asker, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

EXPORT = "/v2/usage/generations"
COSTS = "/v2/generate/*/costs"
DAY_SECONDS = 86_400


async def pass_time(sandbox: Sandbox, sync: AsyncSync, seconds: float) -> None:
    """Move the API's clock, and have it heard."""
    sandbox.advance(seconds)
    await sync.account.get()


def entry_of(guard: Guard, number: int = 1) -> Entry:
    entry = guard.ledger.entry(number)
    assert entry
    return entry


def row_of(entry: Entry, sync: AsyncSync, status: str, usd: str) -> dict[str, object]:
    """Return what the export may say of an entry's job: when it was made, all that it cost, finished now."""
    return {
        "generationId": entry.generation_id,
        "generationStatus": status,
        "model": "lipsync-2",
        "createdAt": datetime.fromtimestamp(entry.last_sent_at, UTC).isoformat(),
        "finishedAt": sync.api_time.isoformat(),
        "availability": "complete",
        "totalCostUsd": usd,
    }


def tell_export(sandbox: Sandbox, *rows: dict[str, object]) -> None:
    body = {"items": list(rows), "nextCursor": None}
    sandbox.add_fault(Fault.model_validate({"path": EXPORT, "status": 200, "body": body, "times": None}))


def count_exports(sandbox: Sandbox) -> int:
    return sum(request.path == EXPORT for request in sandbox.requests)


async def make_beside_one_that_runs(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf, **terms: Any
) -> Made[Generation]:
    """Make a job that ends, and another that does not, for which the export is read; return the first."""
    made = await make(**terms)
    sandbox.add_fault(Fault(path=CREATE, job="stuck"))
    await make(request_of("?n=2"), **terms)
    await pass_time(sandbox, sync, 100)
    return made


@pytest.mark.parametrize("word", ["completed", "TIMED_OUT"])
async def test_a_status_that_nobody_knows_ends_no_job_before_a_day_and_is_not_paid_again(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, word: str
) -> None:
    late = Fault(path=CREATE, end_status=word, charged=True, cost_seconds=3600, cost_at_first="zero")
    sandbox.add_fault(late)
    made = await make()
    for seconds in (100, 700, 700):
        await pass_time(sandbox, sync, seconds)
        assert (await guard.spending(sync)).ever_usd == PRICE
        again = await make()
        assert (again.how, again.job.id) == ("was there", made.job.id)
    assert entry_of(guard).state == "accepted"
    await pass_time(sandbox, sync, DAY_SECONDS)
    assert (await guard.spending(sync)).ever_usd == PRICE
    ended = entry_of(guard)
    assert (ended.state, ended.status, ended.cost_usd) == ("ended", word, PRICE)
    assert paid(sandbox) == [PRICE]


async def test_a_budget_holds_though_a_job_of_a_strange_status_is_metered_hours_later(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, request_of: RequestOf
) -> None:
    sandbox.add_fault(
        Fault(path=CREATE, end_status="completed", charged=True, cost_seconds=3600, cost_at_first="zero")
    )
    guard = guard_of(ever="0.5")
    await make(by=guard)
    for number in (2, 3):
        await pass_time(sandbox, sync, 700)
        await guard.spending(sync)
        if number == 2:
            await make(request_of("?n=2"), by=guard)
    with pytest.raises(LimitReached):
        await make(request_of("?n=3"), by=guard)
    await pass_time(sandbox, sync, 8000)
    assert sum(paid(sandbox)) == (await guard.spending(sync)).ever_usd == 2 * PRICE


async def test_a_row_of_a_job_that_runs_ends_nothing(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.configure(job_seconds=7200)
    await make()
    await sync.account.get()
    tell_export(sandbox, row_of(entry_of(guard), sync, "PROCESSING", "0"))
    for seconds in (30, 700):
        await pass_time(sandbox, sync, seconds)
        assert (await guard.spending(sync)).ever_usd == PRICE
    assert entry_of(guard).state == "accepted"
    sandbox.clear_faults()
    await pass_time(sandbox, sync, 8000)
    assert (await guard.spending(sync)).ever_usd == PRICE
    assert entry_of(guard).status == "COMPLETED"


@pytest.mark.parametrize("word", ["PROCESSING", "TIMED_OUT"])
async def test_what_a_job_that_has_not_ended_costs_already_counts(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, word: str
) -> None:
    sandbox.configure(job_seconds=7200)
    await make()
    await sync.account.get()
    tell_export(sandbox, row_of(entry_of(guard), sync, word, "3"))
    assert (await guard.spending(sync)).ever_usd == 3
    assert entry_of(guard).state == "accepted"


async def test_a_strange_end_of_no_cost_is_not_believed_to_be_free_before_six_hours(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.configure(usage_export=False)
    sandbox.add_fault(Fault(path=CREATE, end_status="TIMED_OUT"))
    await make()
    await pass_time(sandbox, sync, DAY_SECONDS + 100)
    assert (await guard.spending(sync)).ever_usd == PRICE
    await pass_time(sandbox, sync, 3600)
    assert (await guard.spending(sync)).ever_usd == PRICE
    assert entry_of(guard).charged == "unknown"
    await pass_time(sandbox, sync, 6 * 3600)
    assert (await guard.spending(sync)).ever_usd == 0


async def test_what_the_export_tells_of_a_settled_job_beside_others_counts(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    await make_beside_one_that_runs(sandbox, make, sync, request_of)
    assert (await guard.spending(sync)).ever_usd == 2 * PRICE
    assert entry_of(guard).cost_usd == PRICE
    tell_export(sandbox, row_of(entry_of(guard), sync, "COMPLETED", "3"))
    read = count_exports(sandbox)
    await pass_time(sandbox, sync, 60)
    assert (await guard.spending(sync)).ever_usd == 3 + PRICE
    assert entry_of(guard).cost_usd == 3
    assert count_exports(sandbox) == read + 1


async def test_a_free_failure_that_the_export_tells_to_be_completed_counts(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await make()
    await pass_time(sandbox, sync, 1000)
    assert (await guard.spending(sync)).ever_usd == 0
    sandbox.add_fault(Fault(path=CREATE, job="stuck"))
    await make(request_of("?n=2"))
    tell_export(sandbox, row_of(entry_of(guard), sync, "COMPLETED", "0.226"))
    assert (await guard.spending(sync)).ever_usd == 2 * PRICE
    ended = entry_of(guard)
    assert (ended.status, ended.cost_usd, ended.charged) == ("COMPLETED", PRICE, "yes")


async def test_a_cost_that_was_told_once_is_not_taken_back_by_a_row_of_none(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    await make_beside_one_that_runs(sandbox, make, sync, request_of)
    await guard.spending(sync)
    tell_export(sandbox, row_of(entry_of(guard), sync, "COMPLETED", "0"))
    await pass_time(sandbox, sync, 7 * 3600)
    assert (await guard.spending(sync)).ever_usd == 2 * PRICE
    assert entry_of(guard).cost_usd == PRICE


@pytest.mark.parametrize(("status", "seconds"), [("FAILED", 600), ("COMPLETED", 6 * 3600)])
async def test_a_cost_of_nothing_is_not_believed_sooner_for_an_end_that_is_told_to_lie_before_the_send(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, status: str, seconds: float
) -> None:
    await make()
    await pass_time(sandbox, sync, 60)
    early = (sync.api_time - timedelta(hours=7)).isoformat()
    tell_export(sandbox, {**row_of(entry_of(guard), sync, status, "0"), "finishedAt": early})
    for wait in (0, seconds - 60):
        await pass_time(sandbox, sync, wait)
        assert (await guard.spending(sync)).ever_usd == PRICE
        assert entry_of(guard).charged == "unknown"
    # The time of its end is when that was first seen.
    await pass_time(sandbox, sync, 120)
    assert (await guard.spending(sync)).ever_usd == 0


@pytest.mark.parametrize(("status", "seconds"), [("FAILED", 600), ("COMPLETED", 6 * 3600)])
@pytest.mark.parametrize("made_hours_ago", [None, 9])
async def test_an_end_is_not_believed_of_a_row_that_is_wrong_about_when_the_job_was_made(
    sandbox: Sandbox,
    make: Make,
    guard: Guard,
    sync: AsyncSync,
    status: str,
    seconds: float,
    made_hours_ago: int | None,
) -> None:
    """Its zone may be wrong: such an end may lie between the send and the true one."""
    await make()
    await pass_time(sandbox, sync, 8 * 3600)
    off = None if made_hours_ago is None else (sync.api_time - timedelta(hours=made_hours_ago)).isoformat()
    early = (sync.api_time - timedelta(hours=7)).isoformat()
    row = row_of(entry_of(guard), sync, status, "0")
    tell_export(sandbox, {**row, "createdAt": off, "finishedAt": early})
    await guard.spending(sync)
    assert entry_of(guard).charged == "unknown"
    await pass_time(sandbox, sync, seconds + 60)
    assert (await guard.spending(sync)).ever_usd == 0


async def test_an_end_that_was_told_of_another_status_does_not_make_a_completed_job_free_at_once(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    await make_beside_one_that_runs(sandbox, make, sync, request_of)
    failed = row_of(entry_of(guard), sync, "FAILED", "0")
    await pass_time(sandbox, sync, 7 * 3600)
    tell_export(sandbox, failed)
    await guard.spending(sync)
    assert entry_of(guard).charged == "no"
    sandbox.clear_faults()
    tell_export(sandbox, {**failed, "generationStatus": "COMPLETED"})
    await guard.spending(sync)
    ended = entry_of(guard)
    assert (ended.status, ended.charged, ended.counted_usd) == ("COMPLETED", "unknown", PRICE)


async def test_an_end_that_is_told_to_lie_after_it_was_seen_keeps_nobody_asking_for_longer(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    await make()
    await pass_time(sandbox, sync, 60)
    row = row_of(entry_of(guard), sync, "FAILED", "0")
    tell_export(sandbox, row)
    await guard.spending(sync)
    await pass_time(sandbox, sync, 650)
    sandbox.clear_faults()
    tell_export(sandbox, {**row, "finishedAt": sync.api_time.isoformat()})
    assert (await guard.spending(sync)).ever_usd == 0


async def test_a_failure_of_no_cost_that_is_told_to_lie_before_the_send_is_not_made_again_unasked(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    late = Fault(path=CREATE, job="fail", charged=True, cost_seconds=3600, cost_at_first="zero")
    sandbox.add_fault(late)
    await make()
    await pass_time(sandbox, sync, 60)
    early = (sync.api_time - timedelta(hours=2)).isoformat()
    tell_export(sandbox, {**row_of(entry_of(guard), sync, "FAILED", "0"), "finishedAt": early})
    with pytest.raises(ApprovalRequired):
        await make()
    assert len(paid(sandbox)) <= 1


async def test_a_part_that_was_told_of_a_cost_is_not_forgotten_where_the_rest_cannot_be_read(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.configure(usage_export=False)
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    made = await make()
    await pass_time(sandbox, sync, 100)
    part = {"availability": "partial", "knownSubtotalUsd": "2"}
    sandbox.add_fault(Fault.model_validate({"path": COSTS, "status": 200, "body": part}))
    job = await sync.generations.get(made.job.id)
    await guard.settle_failure(sync, job)
    sandbox.add_fault(Fault.api_error("internal_error", path=COSTS, times=None))
    await guard.settle_failure(sync, job)
    assert entry_of(guard).counted_usd == Decimal(2)


class SlowAsker(Asker):
    """Says yes, by a form or by what it hands out, after something has happened; to a later question no."""

    def __init__(self, by: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__("0")
        self.by = by
        self.meanwhile = meanwhile

    async def ask(self, proposal: Proposal) -> None:
        self.asked.append(proposal)
        if len(self.asked) > 1:
            raise ApprovalDenied("The user declined.")
        token_id = None
        if self.by in ("quote", "question"):
            token_id = await proposal.hand_out("quote" if self.by == "quote" else "question")
        await self.meanwhile()
        if token_id is not None:
            raise ApprovalRequired("no", question="?", quote_id=token_id, next_step="")


@pytest.mark.parametrize("way", ["quote", "question", "several", "form"])
async def test_a_yes_after_a_free_failure_does_not_hold_once_that_was_charged(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf, way: str
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await make()
    await pass_time(sandbox, sync, 700)
    await guard.spending(sync)
    assert entry_of(guard).charged == "no"
    # The export is read for one that runs.
    sandbox.add_fault(Fault(path=CREATE, job="stuck"))
    await make(request_of("?n=2"))

    async def charge() -> None:
        tell_export(sandbox, row_of(entry_of(guard), sync, "FAILED", "0.5"))
        await guard.spending(sync)
        assert entry_of(guard).charged == "yes"

    user = SlowAsker(way, charge)
    act, token = GenerationAct.of(request_of()), None
    if way == "several":
        other = GenerationAct.of(request_of("?other"))
        token = await guard.agree([PaidCall(sync, one, approval=user) for one in (act, other)])
    elif way != "form":
        with pytest.raises(ApprovalRequired) as required:
            await make(approval=user)
        token = Token(required.value.quote_id or "", "quote" if way == "quote" else "question")
    with pytest.raises(ApprovalDenied):
        await make(approval=user, token=token)
    assert len(user.asked) == 2
    assert any("and was charged" in reason.text for reason in user.asked[-1].reasons)
    assert len(sent(sandbox)) == 2


@pytest.mark.parametrize("teller", ["a list", "the export"])
async def test_a_cost_that_was_known_counts_until_that_of_a_contradicting_status_is_told(
    sandbox: Sandbox,
    make: Make,
    guard_of: GuardOf,
    sync: AsyncSync,
    request_of: RequestOf,
    teller: str,
) -> None:
    guard = guard_of(ever="3.4")
    made = await make_beside_one_that_runs(sandbox, make, sync, request_of, by=guard)
    tell_export(sandbox, row_of(entry_of(guard), sync, "COMPLETED", "3"))
    assert (await guard.spending(sync)).ever_usd == 3 + PRICE
    sandbox.clear_faults()
    sandbox.add_fault(Fault.api_error("internal_error", path=COSTS, times=None))
    if teller == "a list":
        tell_export(sandbox)
        await guard.find_entries(sync, [made.job.model_copy(update={"status": "FAILED"})])
    else:
        failed = row_of(entry_of(guard), sync, "FAILED", "0")
        tell_export(sandbox, {**failed, "availability": "pending", "totalCostUsd": None})
    with pytest.raises(LimitReached):
        await make(request_of("?n=3"), by=guard)
    ended = entry_of(guard)
    assert (ended.status, ended.cost_usd, ended.counted_usd) == ("FAILED", None, 3)


@pytest.mark.parametrize("has_export", [True, False])
@pytest.mark.parametrize("fault", ["fails", "ends strangely"])
async def test_however_often_a_job_is_asked_for_its_settling_is_one_request_a_second(
    sandbox: Sandbox,
    make: Make,
    guard: Guard,
    sync: AsyncSync,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    *,
    has_export: bool,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e-9)
    monkeypatch.setattr("sync_mcp.payments.settling._TURN_SECONDS", 0.0)
    sandbox.configure(usage_export=has_export)
    fails = fault == "fails"
    sandbox.add_fault(
        Fault(path=CREATE, job="fail" if fails else None, end_status=None if fails else "TIMED_OUT")
    )
    made = await make()
    await pass_time(sandbox, sync, 100 if fails else DAY_SECONDS + 100)
    job = await sync.generations.get(made.job.id)
    asked_before = len(sandbox.requests)
    for _ in range(15):
        await guard.settle_failure(sync, job)
        # What may have been charged is not paid again unasked, be it that nobody may ask any more.
        with suppress(ApprovalRequired):
            await make()
    paths = [request.path for request in sandbox.requests[asked_before:]]
    lists = [
        request
        for request in sandbox.requests[asked_before:]
        if request.path == "/v2/generations" and "ids" in request.query
    ]
    assert sum(path.endswith("/costs") or path == EXPORT for path in paths) + len(lists) <= 10
    assert len(paid(sandbox)) <= 1


async def test_a_create_waits_for_its_turn_to_learn_that_a_failure_was_free(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many were asked for at the same moment."""
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await make()
    await pass_time(sandbox, sync, 100)
    with pytest.raises(ApprovalRequired):
        await make()
    await pass_time(sandbox, sync, 700)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1.0)
    account = guard._settling.account_of(await guard.account(sync))  # pyright: ignore[reportPrivateUsage]
    while account.take_request():
        pass
    assert (await make()).how == "made"


@pytest.mark.parametrize("fault", [{"job": "fail"}, {"end_status": "TIMED_OUT"}])
async def test_a_repeat_of_a_failure_whose_cost_is_known_waits_for_no_turn(
    sandbox: Sandbox,
    make: Make,
    guard: Guard,
    sync: AsyncSync,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, str],
) -> None:
    """However many were asked for at the same moment: of this one nothing is to be read."""
    sandbox.add_fault(Fault.model_validate({"path": CREATE, "charged": True, **fault}))
    await make()
    await pass_time(sandbox, sync, DAY_SECONDS + 700)
    assert (await guard.spending(sync)).ever_usd == PRICE
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e-9)
    monkeypatch.setattr("sync_mcp.payments.settling._TURN_SECONDS", 3600.0)
    account = guard._settling.account_of(await guard.account(sync))  # pyright: ignore[reportPrivateUsage]
    asked = len(sandbox.requests)
    with pytest.raises(ApprovalRequired):
        await make()
    paths = [request.path for request in sandbox.requests[asked:]]
    assert not [path for path in paths if path == EXPORT or path.endswith("/costs")]
    while account.take_request():
        pass
    with anyio.fail_after(30), pytest.raises(ApprovalRequired):
        await make()


async def test_a_client_with_a_guard_does_not_call_the_id_of_its_own_job_wrong(
    sandbox: Sandbox, guard: Guard, request_of: RequestOf
) -> None:
    sandbox.add_fault(Fault(path=CREATE, get_lag_seconds=30, list_lag_seconds=30))
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as sync:
        request = request_of()
        job = await sync.generations.create(model="lipsync-2", input=request.input)
        with pytest.raises(NotVisibleYet, match="is not visible yet"):
            await sync.generations.get(job.id)
        with pytest.raises(NotVisibleYet, match="is not visible yet"):
            await sync.generations.wait(job.id, timeout_seconds=0.1)
        with pytest.raises(NotVisibleYet):
            await sync.generations.create(model="lipsync-2", input=request.input)
        with pytest.raises(NotFoundError):
            await sync.generations.get("00000000-0000-0000-0000-000000000000")
        sandbox.advance(31)
        assert (await sync.generations.get(job.id)).id == job.id
        sandbox.advance(100)
        again = await sync.generations.create(model="lipsync-2", input=request.input)
        assert again.id == job.id
