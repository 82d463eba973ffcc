"""When a create of unknown outcome goes out again: the API's list may lag, its export may show the job."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Guard, OutcomeUnknown
from sync_mcp.api.models import GenerationRequest
from sync_mcp.jobs.guard import Made, Terms
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

LISTED_WITHIN_SECONDS = 60.0
LOST = Fault(method="POST", path=CREATE, drop="after")
NEVER_ARRIVED = Fault(method="POST", path=CREATE, drop="before")
EXPORT = "/v2/usage/generations"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.api.transport._FIRST_BACKOFF_SECONDS", 0.005)


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


def at(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


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
    shows(sandbox, finished(**row))
    error = await unknown(make)
    assert "the API's export has a job that may be it" in error.next_step
    assert len(sent(sandbox)) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"model": "lipsync-2-pro"},
        {"createdAt": "an hour before"},
        {"createdAt": "an hour after"},
        {"totalCostUsd": "2.26"},
        {"totalCostUsd": "0.01"},
    ],
    ids=str,
)
async def test_a_finished_job_that_cannot_be_it_holds_nothing_back(
    sandbox: Sandbox, make: Make, row: dict[str, object]
) -> None:
    sandbox.add_fault(NEVER_ARRIVED)
    moments = {"an hour before": at(-1), "an hour after": at(1)}
    shows(sandbox, finished(**{name: moments.get(str(value), value) for name, value in row.items()}))
    await make()
    assert len(paid(sandbox)) == 1


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
    assert made.generation.id == sandbox.charges[-1].generation_id
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
            await guard.create(sync, request_of(), {"max_retries": 0}, Terms(take=take))
    sandbox.clear_faults()
    # Both are taken over before either has seen the list.
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", delay_seconds=1, times=2))
    told: list[str] = []
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as another:

        async def again(take: int) -> None:
            guard, client = (first, sync) if take == 1 or processes == 1 else (second, another)
            made = await guard.create(client, request_of(), {"max_retries": 0}, Terms(take=take))
            told.append(made.generation.id)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as calls:
                calls.start_soon(again, 1)
                calls.start_soon(again, 2)
    assert sorted(told) == sorted(charge.generation_id for charge in sandbox.charges)
    assert len(set(told)) == 2
