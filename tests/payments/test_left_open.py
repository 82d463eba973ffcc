"""What a job did cost is written down whenever it is learned, and the asking has a bounded price."""

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from sync_mcp import AsyncSync, Guard, LimitReached
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.payments.call import Made
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, paid

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

DAY_SECONDS = 86_400
EXPORT = "/v2/usage/generations"
COSTS = "/v2/generate/*/costs"
FAILS = Fault(path=CREATE, job="fail")


def down(path: str) -> Fault:
    return Fault.api_error("internal_error", path=path, times=None)


def asked(sandbox: Sandbox) -> list[str]:
    """Return the paths of what settling asked for."""
    paths = [request.path for request in sandbox.requests if request.method == "GET"]
    return [path for path in paths if path in (EXPORT, "/v2/generations") or path.endswith("/costs")]


async def pass_days(sandbox: Sandbox, sync: AsyncSync, days: float) -> None:
    """Move the API's clock, and have it heard."""
    sandbox.advance(days * DAY_SECONDS)
    await sync.account.get()


@pytest.mark.parametrize("days", [1.1, 30, 400])
@pytest.mark.parametrize("has_export", [True, False])
async def test_a_free_failure_gives_its_money_back_however_late_that_is_learned(
    sandbox: Sandbox,
    make: Make,
    guard_of: GuardOf,
    sync: AsyncSync,
    request_of: RequestOf,
    days: float,
    has_export: bool,
) -> None:
    sandbox.configure(usage_export=has_export)
    sandbox.add_fault(FAILS)
    await make(by=guard_of(ever="0.3"))
    sandbox.advance(100)
    with pytest.raises(LimitReached):
        await make(request_of("?n=2"), by=guard_of(ever="0.3"))
    await pass_days(sandbox, sync, days)
    await make(request_of("?n=2"), by=guard_of(ever="0.3"))
    assert paid(sandbox) == [PRICE]


@pytest.mark.parametrize("faulty", [EXPORT, COSTS])
async def test_what_either_source_tells_late_is_written_down(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, faulty: str
) -> None:
    sandbox.configure(cost_seconds=2 * DAY_SECONDS, cost_at_first="pending")
    sandbox.add_fault(FAILS)
    await make()
    sandbox.advance(100)
    assert (await guard_of().spending(sync)).ever_usd == PRICE
    sandbox.add_fault(down(faulty))
    await pass_days(sandbox, sync, 3)
    assert (await guard_of().spending(sync)).ever_usd == 0


async def test_a_completed_job_that_costs_more_late_counts_more(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync
) -> None:
    sandbox.configure(cost_seconds=2 * DAY_SECONDS)
    await make()
    sandbox.advance(100)
    await guard_of().spending(sync)
    await pass_days(sandbox, sync, 3)
    sandbox.configure(usage_export=False)
    told = {"availability": "complete", "totalCostUsd": "7", "knownSubtotalUsd": "7"}
    sandbox.add_fault(Fault(path=COSTS, status=200, body=dict(told)))
    assert (await guard_of().spending(sync)).ever_usd == Decimal(7)


@pytest.mark.parametrize("state", ["released", "deleted"])
async def test_a_free_failure_that_was_let_go_of_gives_its_money_back_too(
    sandbox: Sandbox, make: Make, guard: Guard, guard_of: GuardOf, sync: AsyncSync, state: str
) -> None:
    sandbox.add_fault(FAILS)
    made = await make()
    sandbox.advance(100)
    await guard.spending(sync)
    if state == "released":
        guard.ledger.release(1)
    else:
        await guard.delete_for(sync, made.job.id, _nothing)
    assert (await guard.spending(sync)).ever_usd == PRICE
    await pass_days(sandbox, sync, 1.1)
    assert (await guard_of().spending(sync)).ever_usd == 0
    entry = guard.ledger.entry(1)
    assert entry
    assert (entry.state, entry.charged) == (state, "no")


async def _nothing() -> None:
    pass


async def test_a_weekend_of_jobs_is_settled_by_one_page_of_the_export(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, request_of: RequestOf
) -> None:
    for number in range(12):
        await make(request_of(f"?n={number}"))
    await pass_days(sandbox, sync, 3)
    before = len(asked(sandbox))
    assert (await guard_of().spending(sync)).reserved_usd == 0
    assert asked(sandbox)[before:] == [EXPORT]


async def test_what_never_answers_is_asked_for_a_few_at_a_time_then_left_alone_and_holds_no_new_one_up(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, request_of: RequestOf
) -> None:
    for number in range(12):
        sandbox.add_fault(Fault(path=CREATE, job="forget"))
        await make(request_of(f"?old={number}"))
    sandbox.advance(10 * DAY_SECONDS)
    guard = guard_of()
    sandbox.add_fault(down(COSTS))
    await make(request_of("?new=1"), by=guard)
    sandbox.advance(100)
    rounds: list[int] = []
    for _ in range(5):
        before = len(asked(sandbox))
        spending = await guard.spending(sync)
        rounds.append(len(asked(sandbox)) - before)
        # The new one is settled by the export in each case.
        assert spending.reserved_usd == 12 * PRICE
    # Two rounds were asked by the create and the first sum; in the end all are left alone.
    assert max(rounds) <= 8
    assert rounds[-1] == 0


async def test_what_was_left_alone_is_asked_for_again_later_and_ever_less_often(
    sandbox: Sandbox,
    make: Make,
    guard_of: GuardOf,
    sync: AsyncSync,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("sync_mcp.payments.settling_pace._seconds", lambda: now)
    sandbox.add_fault(FAILS)
    await make()
    sandbox.advance(100)
    await guard_of().spending(sync)
    await pass_days(sandbox, sync, 2)
    for path in (EXPORT, COSTS):
        sandbox.add_fault(down(path))
    guard = guard_of()

    async def has_asked() -> bool:
        before = len(asked(sandbox))
        await guard.spending(sync)
        return len(asked(sandbox)) > before

    told = [await has_asked(), await has_asked()]
    now += 601
    told += [await has_asked(), await has_asked()]
    now += 601
    told.append(await has_asked())
    now += 601
    told.append(await has_asked())
    assert told == [True, False, True, False, False, True]
    sandbox.clear_faults()
    now += DAY_SECONDS
    assert (await guard.spending(sync)).ever_usd == 0
