"""When a create of unknown outcome goes out again: the API's list may lag, its export may show the job."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Guard, OutcomeUnknown
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalRequired
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, NEVER_MADE, PRICE, Asker, leave_in_doubt, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

LISTED_WITHIN_SECONDS = 60.0
LOST = Fault(method="POST", path=CREATE, drop="after")
NEVER_ARRIVED = Fault(method="POST", path=CREATE, drop="before")
EXPORT = "/v2/usage/generations"


@pytest.fixture
def late_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the API's list as in a day of work."""
    monkeypatch.setattr("sync_mcp.api.create.LISTED_WITHIN_SECONDS", LISTED_WITHIN_SECONDS)


async def unknown(make: Make, **terms: Any) -> OutcomeUnknown:
    """Make a create, and return how it ended without a job."""
    with pytest.raises(OutcomeUnknown) as caught:
        await make(**terms)
    return caught.value


# The list lags


@pytest.mark.usefixtures("late_lists")
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_lost_answer_a_lagging_list_and_ignored_keys_pay_once(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, processes: int
) -> None:
    sandbox.configure(idempotency="ignore", list_lag_seconds=30, get_lag_seconds=30)
    sandbox.add_fault(LOST)
    await unknown(make)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as another:
        elsewhere: dict[str, Any] = {} if processes == 1 else {"by": guard_of(), "client": another}
        for _ in range(3):
            await unknown(make, **elsewhere)
        sandbox.advance(31)
        made = await make(**elsewhere)
    assert (made.how, len(paid(sandbox)), len(sent(sandbox))) == ("found", 1, 1)


@pytest.mark.usefixtures("late_lists")
async def test_a_create_that_never_arrived_is_sent_by_the_call_after_the_time_that_was_told(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(NEVER_ARRIVED)
    error = await unknown(make)
    seconds = error.retry_after_seconds
    assert seconds is not None
    assert f"Make exactly this call again in {seconds:.0f} s" in error.next_step
    await unknown(make)
    assert len(sent(sandbox)) == 1
    sandbox.advance(seconds)
    made = await make()
    assert (made.how, len(paid(sandbox)), len(set(sent(sandbox)))) == ("sent now", 1, 1)


@pytest.mark.usefixtures("late_lists")
async def test_a_repeat_that_is_lost_too_is_waited_for_from_its_own_send(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.configure(idempotency="ignore", list_lag_seconds=30)
    sandbox.add_fault(NEVER_ARRIVED)
    sandbox.add_fault(LOST)
    await unknown(make)
    sandbox.advance(LISTED_WITHIN_SECONDS + 5)
    await unknown(make)
    assert len(sent(sandbox)) == 2
    await unknown(make)
    sandbox.advance(31)
    assert (await make()).how == "found"
    assert (len(sent(sandbox)), len(paid(sandbox))) == (2, 1)


# The export shows a job


def at(minutes: int) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


MINUTES = {
    "ten minutes before": -10,
    "ten minutes after": 10,
    "in another zone": -8 * 60,
    "100 minutes before": -100,
    "100 minutes after": 100,
    "a day before": -24 * 60,
}


def timed(row: dict[str, object]) -> dict[str, object]:
    """Return a row with its moments as times."""
    return {n: at(MINUTES[str(v)]) if str(v) in MINUTES else v for n, v in row.items()}


def finished(**more: object) -> dict[str, object]:
    """Return what the export tells of a job that nobody knows."""
    moment = at(0)
    return {
        "generationId": "0b5fda45-0000-4000-8000-000000000000",
        "generationStatus": "COMPLETED",
        "model": "lipsync-2",
        "createdAt": moment,
        "finishedAt": moment,
        "availability": "complete",
        "totalCostUsd": "0.226",
        **more,
    }


def shows(sandbox: Sandbox, *rows: object) -> None:
    body: Any = {"items": list(rows), "nextCursor": None}
    sandbox.add_fault(Fault(method="GET", path=EXPORT, status=200, body=body, times=None))


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"model": "lipsync-2-20260101"},
        {"model": None},
        {"createdAt": None},
        {"createdAt": "ten minutes before"},
        {"createdAt": "ten minutes after"},
        {"createdAt": "in another zone"},
        {"model": "Lipsync-2"},
        {"model": "LIPSYNC_2"},
        {"model": "lipsync-2:latest"},
        {"model": "sync/lipsync-2"},
        {"generationId": None},
        {"totalCostUsd": "0.3"},
        {"totalCostUsd": "0"},
        {"totalCostUsd": "9", "availability": "pending"},
    ],
    ids=str,
)
async def test_a_finished_job_that_may_be_it_holds_a_create_in_doubt_back(
    sandbox: Sandbox, make: Make, row: dict[str, object]
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished(**timed(row)))
    error = await unknown(make)
    assert "the API's export has a job that may be it" in error.next_step
    assert len(sent(sandbox)) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"model": "lipsync-2-pro"},
        {"createdAt": "100 minutes before"},
        {"createdAt": "100 minutes after"},
        {"createdAt": "a day before"},
        {"totalCostUsd": "2.26"},
        {"totalCostUsd": "0.01"},
    ],
    ids=str,
)
async def test_a_finished_job_that_cannot_be_it_holds_nothing_back(
    sandbox: Sandbox, make: Make, row: dict[str, object]
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished(**timed(row)))
    await make()
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.api_error("internal_error", path=EXPORT, times=None),
        Fault(path=EXPORT, status=400, body={"statusCode": 400, "message": "no"}, times=None),
        Fault(path=EXPORT, status=200, body={"items": [], "nextCursor": "again"}, times=None),
        Fault(path=EXPORT, status=200, body={"items": [], "nextCursor": 5}, times=None),
        Fault(path=EXPORT, status=200, body={"items": [], "nextCursor": {"id": "c"}}, times=None),
        Fault(path=EXPORT, status=200, body={"items": [], "hasMore": True}, times=None),
        Fault(path=EXPORT, status=200, body={"items": [], "nextCursor": "", "has_more": True}, times=None),
        Fault(path=EXPORT, status=200, body={"items": ["no row"], "nextCursor": None}, times=None),
        Fault(path=EXPORT, status=200, body={"items": "none"}, times=None),
        Fault(path=EXPORT, html=True, times=None),
        Fault(path=EXPORT, drop="before", times=None),
    ],
    ids=[
        "500",
        "400",
        "no end",
        "a number as cursor",
        "an object as cursor",
        "more without a cursor",
        "more with an empty cursor",
        "an unreadable row",
        "no list",
        "a gateway",
        "no answer",
    ],
)
async def test_while_the_export_cannot_be_read_to_its_end_nothing_is_sent_again_and_a_time_is_told(
    sandbox: Sandbox, make: Make, fault: Fault
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    sandbox.add_fault(fault)
    error = await unknown(make)
    seconds = error.retry_after_seconds
    assert seconds
    assert f"Make exactly this call again in {seconds:.0f} s." in error.next_step
    assert "nothing was sent now, since the API's export of finished jobs " in error.next_step
    await unknown(make)
    assert len(sent(sandbox)) == 1
    sandbox.clear_faults()
    assert (await make()).how == "sent now"
    assert (len(paid(sandbox)), len(set(sent(sandbox)))) == (1, 1)


async def test_a_finished_job_on_a_later_page_of_the_export_holds_a_create_back(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    for number in range(3):
        other = finished(model="sync-3", generationId=f"other-{number}")
        page: Any = {"items": [other], "nextCursor": f"page {number}"}
        sandbox.add_fault(Fault(path=EXPORT, status=200, body=page))
    shows(sandbox, finished())
    error = await unknown(make)
    assert "the API's export has a job that may be it" in error.next_step
    assert len(sent(sandbox)) == 1


async def test_of_an_export_without_an_end_so_many_pages_are_read_and_the_user_may_settle_it(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    for number in range(21):
        other = finished(model="sync-3", generationId=f"other-{number}")
        page: Any = {"items": [other], "nextCursor": f"page {number}"}
        sandbox.add_fault(Fault(path=EXPORT, status=200, body=page))
    error = await unknown(make)
    assert error.retry_after_seconds is None
    assert "has more than 20 pages. Or look in list_generations." in error.next_step
    assert ledger_command("show", "1") in error.next_step
    asked = [request for request in sandbox.requests if request.path == EXPORT]
    assert (len(asked), len(sent(sandbox))) == (20, 1)


async def test_the_export_is_asked_though_settling_has_no_request_left(
    sandbox: Sandbox, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e-9)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_AT_ONCE", 0)
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished())
    assert "the API's export has a job that may be it" in (await unknown(make)).next_step
    assert len(sent(sandbox)) == 1


@pytest.mark.parametrize("status", [403, 404, 501])
async def test_that_there_is_no_export_is_believed_when_it_was_said_twice_some_time_apart(
    sandbox: Sandbox, make: Make, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    body: Any = {"statusCode": status, "message": "no"}
    sandbox.add_fault(Fault(path=EXPORT, status=status, body=body, times=None))
    error = await unknown(make)
    assert "the API's export of finished jobs is not there now" in error.next_step
    assert f"Make exactly this call again in {error.retry_after_seconds:.0f} s." in error.next_step
    await unknown(make)
    assert len(sent(sandbox)) == 1
    monkeypatch.setattr("sync_mcp.payments.settling_pace.NO_EXPORT_APART_SECONDS", 0.0)
    assert (await make()).how == "sent now"


async def test_an_export_that_was_denied_once_is_asked_again(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    await make(request_of("?n=2"))
    sandbox.add_fault(Fault(path=EXPORT, status=404, body={"statusCode": 404, "message": "no"}))
    await guard.spending(sync)
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished())
    assert "the API's export has a job that may be it" in (await unknown(make)).next_step
    assert len(sent(sandbox)) == 2


async def test_an_export_that_is_not_there_is_asked_for_again_after_a_while(
    sandbox: Sandbox, make: Make, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> int:
        return sum(request.path == EXPORT for request in sandbox.requests)

    monkeypatch.setattr("sync_mcp.payments.settling_pace.NO_EXPORT_APART_SECONDS", 0.0)
    sandbox.configure(usage_export=False)
    for number in range(2):
        sandbox.add_fault(NEVER_ARRIVED)
        await make(request_of(f"?n={number}"))
    assert asked() == 1
    sandbox.configure(usage_export=True)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._NO_EXPORT_KEPT_SECONDS", 0.0)
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished())
    assert "the API's export has a job that may be it" in (await unknown(make)).next_step


async def test_while_the_list_cannot_be_asked_for_what_the_export_shows_a_time_is_told(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    shows(sandbox, finished())
    # The search of the whole list is before and after it.
    sandbox.add_fault(Fault(path="/v2/generations", status=200, body=[], times=2))
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/generations", times=3))
    error = await unknown(make)
    assert "the API's export has jobs that may be it, and its list cannot be asked" in error.next_step
    assert error.retry_after_seconds
    assert len(sent(sandbox)) == 1


async def test_the_last_of_many_finished_jobs_holds_a_create_back_as_the_first_does(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf
) -> None:
    # Those before it are in the list, which tells that they are of another model.
    job = await sync.generations.create(model="sync-3", input=request_of().input)
    ids = [f"other-{number}" for number in range(120)]

    def listed(names: list[str]) -> Any:
        return [{**job.to_wire(), "id": name} for name in names]

    sandbox.add_fault(NEVER_ARRIVED)
    for _ in range(2):
        for page in (ids[:100], ids[100:], []):
            sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=200, body=listed(page)))
    for page in (ids[:50], ids[50:100], ids[100:]):
        sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=200, body=listed(page)))
    shows(sandbox, *(finished(generationId=name) for name in ids), finished())
    error = await unknown(make)
    assert "the API's export has a job that may be it" in error.next_step
    assert len(sent(sandbox)) == 2


async def test_where_keys_are_kept_a_finished_job_that_may_be_it_does_not_stand_in_the_way(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf
) -> None:
    other = request_of("?other=1")
    for _ in range(2):
        await sync.generations.create(
            model=other.model, input=other.input, request_options={"idempotency_key": "twice"}
        )
        sandbox.advance(600)
    sandbox.add_fault(Fault(method="POST", path=CREATE, drop="after", job="hide"))
    shows(sandbox, finished(createdAt=None))
    made = await make()
    assert made.job.id == sandbox.charges[-1].generation_id
    assert len(paid(sandbox)) == 2


# Two takes


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_two_takes_that_are_both_looked_for_at_once_each_come_to_a_job_of_their_own(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, request_of: RequestOf, processes: int
) -> None:
    sandbox.configure(idempotency="ignore")
    for _ in range(2):
        sandbox.add_fault(LOST)
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, times=None))
    first, second = guard_of(), guard_of()
    for take, guard in ((1, first), (2, second)):
        with pytest.raises(OutcomeUnknown):
            await guard.create(
                PaidCall(sync, GenerationAct.of(request_of()), options={"max_retries": 0}, take=take)
            )
    sandbox.clear_faults()
    # Both are taken over before either has seen the list.
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", delay_seconds=1, times=2))
    told: list[str] = []
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as another:

        async def again(take: int) -> None:
            guard, client = (first, sync) if take == 1 or processes == 1 else (second, another)
            made = await guard.create(
                PaidCall(client, GenerationAct.of(request_of()), options={"max_retries": 0}, take=take)
            )
            told.append(made.job.id)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as calls:
                calls.start_soon(again, 1)
                calls.start_soon(again, 2)
    assert sorted(told) == sorted(charge.generation_id for charge in sandbox.charges)
    assert len(set(told)) == 2


# What it counts by when it goes out again


@pytest.mark.parametrize("agrees", [True, False])
async def test_what_was_paid_unasked_is_a_sum_for_what_goes_out_again_after_more_than_a_day_too(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf, *, agrees: bool
) -> None:
    guard = guard_of(resend_hours=72)
    await sync.account.get()
    user = Asker("0.3", "yes" if agrees else "quote")

    async def create(number: int) -> Made[Generation]:
        return await guard.create(PaidCall(sync, GenerationAct.of(request_of(f"?n={number}")), approval=user))

    await leave_in_doubt(sandbox, sync, guard, request_of("?n=1"), NEVER_MADE, approval=user)
    sandbox.advance(30 * 3600)
    await sync.account.get()
    await create(2)
    assert user.asked == []
    if agrees:
        assert (await create(1)).how == "sent now"
        assert len(paid(sandbox)) == 2
        assert await guard.sum_unasked(sync) == PRICE
    else:
        with pytest.raises(ApprovalRequired):
            await create(1)
        assert paid(sandbox) == [PRICE]
    [proposal] = user.asked
    assert "paid or held without asking within a day" in proposal.reasons[0].text


async def test_a_quote_for_what_goes_out_again_after_more_than_a_day_pays_it_once(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    guard = guard_of(resend_hours=72)
    await sync.account.get()
    user = Asker("0.3", "quote")
    await leave_in_doubt(sandbox, sync, guard, request_of("?n=1"), NEVER_MADE, approval=user)
    sandbox.advance(30 * 3600)
    await sync.account.get()
    await guard.create(PaidCall(sync, GenerationAct.of(request_of("?n=2")), approval=user))
    with pytest.raises(ApprovalRequired) as required:
        await guard.create(PaidCall(sync, GenerationAct.of(request_of("?n=1")), approval=user))
    token = Token(required.value.quote_id or "")
    act = GenerationAct.of(request_of("?n=1"))
    assert (await guard.create(PaidCall(sync, act, approval=user, token=token))).how == "sent now"
    assert (await guard.create(PaidCall(sync, act, approval=user, token=token))).how == "was there"
    assert len(paid(sandbox)) == 2


async def test_what_is_found_after_midnight_counts_on_the_day_of_its_send(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    await sync.account.get()
    sandbox.advance((86_400 - sync.api_time.timestamp() % 86_400 - 60) % 86_400)
    guard = guard_of(per_day="0.3")
    await leave_in_doubt(sandbox, sync, guard, request_of("?n=1"), LOST)
    sandbox.advance(300)
    await sync.account.get()
    made = await guard.create(PaidCall(sync, GenerationAct.of(request_of("?n=1"))))
    assert (made.how, (await guard.spending(sync)).today_usd) == ("found", 0)
    # The day's budget is whole for another.
    await guard.create(PaidCall(sync, GenerationAct.of(request_of("?n=2"))))
    assert (await guard.spending(sync)).today_usd == PRICE
