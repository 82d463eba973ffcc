"""Nothing is paid unasked, and no limit is passed."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest
from pydantic import JsonValue

from sync_mcp import AsyncSync, Guard, LimitReached, Limits, QuoteRefused
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalRequired
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made
from sync_mcp.payments.limits import Spending, Spent, dollars
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, Asker, Files, paid, sent

pytestmark = [pytest.mark.anyio, pytest.mark.both]

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

USAGE = "/v2/usage/generations"
PATIENCE_SECONDS = 30
NO_PRICE = Fault.api_error("cost_estimate_unavailable", path="/v2/analyze/cost", times=None)


@pytest.mark.parametrize(
    ("limit", "name", "left"),
    [
        ({"per_job": "0.225"}, "per_job_usd", ""),
        ({"per_day": "0.225"}, "per_day_usd", ", of which 0.225 USD is left until "),
        ({"ever": "0.225"}, "ever_usd", ", of which 0.225 USD is left."),
    ],
)
async def test_a_job_beyond_a_limit_is_refused_before_it_is_sent_and_the_limit_is_named_and_told(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, limit: dict[str, str], name: str, left: str
) -> None:
    with pytest.raises(LimitReached) as refused:
        await make(by=guard_of(**limit))
    error = refused.value
    assert f"would cost 0.226 USD, and Limits.{name} is 0.225 USD{left}" in error.message
    assert (error.limit, error.price_usd) == (name, PRICE)
    assert error.limit_usd == error.left_usd == Decimal("0.225")
    assert (error.until is not None) == (name == "per_day_usd")
    assert sent(sandbox) == []


@pytest.mark.parametrize("limit", [{"per_job": "0.1"}, {"per_day": "0.1"}, {"ever": "0.1"}])
@pytest.mark.parametrize("faults", [[], [NO_PRICE]], ids=["known price", "unknown price"])
async def test_a_limit_of_the_library_speaks_to_a_programmer_and_not_to_a_model(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, limit: dict[str, str], faults: list[Fault]
) -> None:
    for fault in faults:
        sandbox.add_fault(fault)
    with pytest.raises(LimitReached) as refused:
        await make(by=guard_of(**limit))
    said = f"{refused.value.message} {refused.value.next_step}"
    for word in ("SYNC_MCP", "user", "server", "duration_seconds", "argument"):
        assert word not in said


async def test_of_an_unknown_price_a_refusal_names_no_one_limit(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(NO_PRICE)
    with pytest.raises(LimitReached) as refused:
        await make(by=guard_of(per_day="5", ever="9"))
    error = refused.value
    assert (error.limit, error.price_usd, error.limit_usd, error.left_usd) == (None, None, None, None)


async def test_max_cost_usd_is_told_as_the_calls_own_limit(sandbox: Sandbox, make: Make) -> None:
    with pytest.raises(LimitReached) as refused:
        await make(max_cost_usd=Decimal("0.2"))
    error = refused.value
    assert (error.limit, error.limit_usd, error.price_usd) == ("max_cost_usd", Decimal("0.2"), PRICE)


DAY_ENDS_AT = datetime(2026, 11, 28, tzinfo=UTC)
SPENT = Spending(
    today_usd=Decimal(5),
    month_usd=Decimal(8),
    ever_usd=Decimal(9),
    reserved_usd=Decimal(4),
    unresolved_usd=Decimal(3),
    unresolved=2,
    day_ends_at=DAY_ENDS_AT,
)


@pytest.mark.parametrize(
    ("created_at", "today", "month"),
    [
        (datetime(2026, 11, 27, 0, 0, tzinfo=UTC), 4, 7),
        (datetime(2026, 11, 26, 23, 59, tzinfo=UTC), 5, 7),
        (datetime(2026, 11, 1, tzinfo=UTC), 5, 7),
        (datetime(2026, 10, 31, 23, 59, tzinfo=UTC), 5, 8),
    ],
)
def test_without_one_attempt_its_money_is_gone_from_every_sum_that_it_stood_in(
    created_at: datetime, today: int, month: int
) -> None:
    left = SPENT.without(Decimal(1), created_at.timestamp())
    # What is reserved and in doubt is no matter of the limits, and not in it.
    assert left == Spent(Decimal(today), Decimal(month), Decimal(8), DAY_ENDS_AT)


def test_each_limit_stands_with_what_is_left_of_it_and_until_when() -> None:
    limits = Limits(per_job_usd=Decimal(1), per_day_usd=Decimal(7), ever_usd=Decimal(6))
    assert [(row.name, row.limit_usd, row.left_usd, row.until) for row in limits.standings(SPENT)] == [
        ("per_job_usd", 1, 1, None),
        ("per_day_usd", 7, 2, DAY_ENDS_AT),
        # More was spent than there is: nothing is left, and not less.
        ("ever_usd", 6, 0, None),
    ]
    assert Limits().standings(SPENT) == []


def test_what_is_left_of_the_budgets_is_no_matter_of_the_limit_for_one_job() -> None:
    assert Limits(per_job_usd=Decimal(1), per_day_usd=Decimal(7)).sum_left(SPENT) == 2
    assert Limits(per_job_usd=Decimal(1)).sum_left(SPENT) is None
    assert Limits(per_day_usd=Decimal(7), ever_usd=Decimal(10)).sum_left(SPENT) == 1


async def test_a_job_that_just_fits_is_made(sandbox: Sandbox, make: Make, guard_of: GuardOf) -> None:
    await make(by=guard_of(per_job="0.226", per_day="0.226", ever="0.226"))
    assert paid(sandbox) == [PRICE]


async def test_eight_processes_at_once_keep_a_budget_together(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, request_of: RequestOf
) -> None:
    refused: list[LimitReached] = []

    async def create(number: int) -> None:
        try:
            await make(request_of(f"?n={number}"), by=guard_of(ever="1.00"))
        except LimitReached as error:
            refused.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            for number in range(8):
                task_group.start_soon(create, number)
    assert paid(sandbox) == [PRICE] * 4
    assert len(refused) == 4


async def test_what_was_not_charged_stands_free_again(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, request_of: RequestOf
) -> None:
    guard = guard_of(ever="0.30")
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await make(by=guard)
    with pytest.raises(LimitReached):
        await make(request_of("?n=2"), by=guard)
    sandbox.advance(100)
    # It may be charged yet: that it is not is believed after ten minutes.
    with pytest.raises(LimitReached):
        await make(request_of("?n=2"), by=guard)
    sandbox.advance(610)
    await make(request_of("?n=2"), by=guard)
    assert paid(sandbox) == [PRICE]


async def test_with_a_limit_an_unknown_price_is_refused_and_without_one_it_goes(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(NO_PRICE)
    with pytest.raises(LimitReached, match="unknown"):
        await make(by=guard_of(ever="100"))
    assert sent(sandbox) == []
    made = await make()
    assert made.price is not None
    assert made.price.usd is None


async def test_the_callers_duration_is_a_hint_and_never_a_price(
    sandbox: Sandbox, make: Make, request_of: RequestOf, guard_of: GuardOf
) -> None:
    measured = await make(duration_seconds=1000)
    assert measured.price is not None
    assert (measured.price.usd, measured.price.note) == (PRICE, None)
    sandbox.add_fault(NO_PRICE)
    user = Asker("1", "quote")
    with pytest.raises(ApprovalRequired):
        await make(request_of("?n=2"), duration_seconds=0.1, approval=user)
    [reason] = user.asked[0].reasons
    assert "The price is unknown" in reason.text
    assert "0.1 s, which nobody measured, would cost about" in reason.text
    for limits in ({"per_job": "1"}, {"per_day": "1"}, {"ever": "1"}):
        with pytest.raises(LimitReached, match="unknown"):
            await make(request_of("?n=2"), duration_seconds=0.1, by=guard_of(**limits))
    with pytest.raises(LimitReached, match="unknown"):
        await make(request_of("?n=2"), duration_seconds=0.1, max_cost_usd=Decimal(1))
    assert len(sent(sandbox)) == 1


async def test_the_callers_frame_rate_is_a_hint_and_never_a_price(
    sandbox: Sandbox, guard: Guard, sync: AsyncSync, files: Files
) -> None:
    files.fps = None
    act = GenerationAct.of(files.request(sandbox))
    prices = [await guard.pricing.price(sync, act, {}, fps=fps, files=files) for fps in (None, 1.0, 240.0)]
    assert len({price.usd for price in prices}) == 1
    assert prices[1].usd is not None
    assert prices[1].counted == "5 s at 25 fps"


@pytest.mark.parametrize("faults", [[], [NO_PRICE]])
async def test_max_cost_usd_refuses_a_higher_and_an_unknown_price(
    sandbox: Sandbox, make: Make, faults: list[Fault]
) -> None:
    for fault in faults:
        sandbox.add_fault(fault)
    with pytest.raises(LimitReached, match="max_cost_usd"):
        await make(max_cost_usd=Decimal("0.2"))
    assert sent(sandbox) == []


async def test_max_cost_usd_does_not_raise_a_limit(sandbox: Sandbox, make: Make, guard_of: GuardOf) -> None:
    with pytest.raises(LimitReached):
        await make(by=guard_of(per_job="0.1"), max_cost_usd=Decimal(100))
    assert sent(sandbox) == []


@pytest.mark.parametrize(("above", "asks"), [("0.226", False), ("0.225", True), ("0", True)])
async def test_the_user_is_asked_above_a_price(sandbox: Sandbox, make: Make, above: str, asks: bool) -> None:
    asker = Asker(above)
    await make(approval=asker)
    assert bool(asker.asked) == asks
    assert len(paid(sandbox)) == 1


async def test_the_user_is_asked_about_an_unknown_price(sandbox: Sandbox, make: Make) -> None:
    sandbox.add_fault(NO_PRICE)
    asker = Asker("100")
    await make(approval=asker)
    assert "unknown" in asker.asked[0].reasons[0].text


async def test_the_user_is_asked_for_every_further_take(sandbox: Sandbox, make: Make) -> None:
    asker = Asker("100")
    await make(approval=asker)
    await make(approval=asker, take=2)
    assert ["take 2" in proposal.reasons[0].text for proposal in asker.asked] == [True]


async def test_after_a_charged_failure_the_user_is_asked_whatever_the_price(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
    await make()
    sandbox.advance(100)
    asker = Asker("100", "quote")
    with pytest.raises(ApprovalRequired):
        await make(approval=asker)
    assert "was charged" in asker.asked[0].reasons[0].text
    assert len(sent(sandbox)) == 1


async def test_after_a_failure_of_unknown_cost_the_user_is_asked(sandbox: Sandbox, make: Make) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await make()
    sandbox.advance(100)
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/generate/*/costs", times=None))
    asker = Asker("100", "quote")
    with pytest.raises(ApprovalRequired):
        await make(approval=asker)
    assert "may have been charged" in asker.asked[0].reasons[0].text
    assert len(sent(sandbox)) == 1


async def test_what_was_made_before_comes_before_prices_and_questions(sandbox: Sandbox, make: Make) -> None:
    await make()
    asker = Asker("0", "quote")
    made = await make(approval=asker, max_cost_usd=Decimal(0), token=Token("q_none"))
    assert made.reused
    assert asker.asked == []


async def _quote(make: Make, request: GenerationRequest) -> str:
    with pytest.raises(ApprovalRequired) as required:
        await make(request, approval=Asker("0", "quote"))
    assert required.value.quote_id
    return required.value.quote_id


async def test_a_quote_is_good_once_for_its_own_call(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    quote_id = await _quote(make, request_of())
    with pytest.raises(QuoteRefused, match="another call"):
        await make(request_of("?n=2"), token=Token(quote_id), approval=Asker("0", "quote"))
    assert sent(sandbox) == []
    made = await make(token=Token(quote_id), approval=Asker("0", "quote"))
    assert not made.reused
    with pytest.raises(QuoteRefused, match="used"):
        await make(request_of("?n=2"), token=Token(quote_id), approval=Asker("0", "quote"))
    assert len(sent(sandbox)) == 1


async def test_an_invented_quote_pays_for_nothing(sandbox: Sandbox, make: Make) -> None:
    with pytest.raises(QuoteRefused, match="no such quote"):
        await make(token=Token("q_invented"))
    assert sent(sandbox) == []


async def test_an_expired_quote_pays_for_nothing(
    sandbox: Sandbox, make: Make, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote_id = await _quote(make, request_of())
    monkeypatch.setattr("sync_mcp.payments.book.agreements.QUOTE_SECONDS", -1.0)
    with pytest.raises(QuoteRefused, match="expired"):
        await make(token=Token(quote_id))
    assert sent(sandbox) == []


async def test_a_quote_does_not_cover_a_higher_price(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    quote_id = await _quote(make, request_of())
    sandbox.add_fault(
        Fault(
            path="/v2/analyze/cost",
            status=200,
            body=[{"estimatedFrameCount": 113, "estimatedGenerationCost": 0.5}],
            times=None,
        )
    )
    user = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await make(token=Token(quote_id), approval=user)
    # The refusal brings the price of now and a quote for it: nobody is sent round in a circle.
    assert user.asked[0].price.usd == Decimal("0.5")
    assert sent(sandbox) == []
    assert required.value.quote_id
    await make(token=Token(required.value.quote_id), approval=user)
    assert len(sent(sandbox)) == 1


async def test_the_spending_of_an_account_counts_what_is_reserved_and_what_it_really_cost(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    await make()
    running = await guard.spending(sync)
    assert (running.today_usd, running.reserved_usd) == (PRICE, PRICE)
    sandbox.advance(100)
    await make(request_of("?n=2"))
    ended = await guard.spending(sync)
    assert (ended.ever_usd, ended.month_usd, ended.reserved_usd) == (2 * PRICE, 2 * PRICE, PRICE)
    assert (ended.unresolved, ended.unresolved_usd) == (0, 0)


async def test_what_has_ended_is_settled_by_one_request_for_the_export(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    for number in range(5):
        await make(request_of(f"?n={number}"))
    sandbox.advance(100)
    before = len(sandbox.requests)
    assert (await guard.spending(sync)).reserved_usd == 0
    assert [request.path for request in sandbox.requests[before:]] == ["/v2/usage/generations"]
    before = len(sandbox.requests)
    await guard.spending(sync)
    assert len(sandbox.requests) == before


async def test_without_an_export_one_request_for_the_list_tells_what_has_ended(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, request_of: RequestOf
) -> None:
    sandbox.configure(usage_export=False)
    for number in range(5):
        await make(request_of(f"?n={number}"))
    sandbox.advance(100)
    before = len(sandbox.requests)
    assert (await guard.spending(sync)).reserved_usd == 0
    asked = [request.path for request in sandbox.requests[before:]]
    assert asked.count("/v2/generations") == 1
    assert sum(path.endswith("/costs") for path in asked) == 5
    before = len(sandbox.requests)
    await guard.spending(sync)
    assert len(sandbox.requests) == before


async def test_settling_is_throttled_to_one_request_a_second_and_one_round_in_ten(
    sandbox: Sandbox,
    make: Make,
    guard: Guard,
    sync: AsyncSync,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e-9)
    sandbox.configure(usage_export=False, concurrency=40)
    for number in range(30):
        await make(request_of(f"?n={number}"))
    sandbox.advance(100)
    for _ in range(5):
        await guard.spending(sync)
    settling = [
        request.path
        for request in sandbox.requests
        if request.path.endswith("/costs")
        or request.path == "/v2/usage/generations"
        or (request.path == "/v2/generations" and "ids" in request.query)
    ]
    assert len(settling) <= 10


async def test_a_create_does_not_wait_for_another_one_that_is_settling(
    sandbox: Sandbox, make: Make, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("settling", "guard"):
        monkeypatch.setattr(f"sync_mcp.payments.{module}.SETTLE_SECONDS", 600.0)
    await make()
    sandbox.advance(100)
    sandbox.add_fault(Fault(path=USAGE, delay_seconds=600))

    async def settle() -> None:
        await make(request_of("?n=2"))

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(settle)
        await _seen(sandbox, USAGE)
        # The answer to the other one's read never comes within this test.
        with anyio.fail_after(PATIENCE_SECONDS):
            await make(request_of("?n=3"))
        task_group.cancel_scope.cancel()
    assert len(sent(sandbox)) == 2


async def test_before_a_refusal_who_is_settling_is_waited_for(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, request_of: RequestOf
) -> None:
    guard = guard_of(ever="0.4")
    sandbox.add_fault(Fault(job="fail"))
    await make(by=guard)
    # By now it is known to be free, once the export has told.
    sandbox.advance(1000)
    sandbox.add_fault(Fault(path=USAGE, delay_seconds=0.5))
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(guard.spending, sync)
        await _seen(sandbox, USAGE)
        with anyio.fail_after(PATIENCE_SECONDS):
            await make(request_of("?n=2"), by=guard)
    assert len(sent(sandbox)) == 2


async def _seen(sandbox: Sandbox, path: str) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        # The sandbox runs in a thread of its own.
        while not any(request.path == path for request in sandbox.requests):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_real_cost_above_the_estimate_is_shown_and_counts(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync
) -> None:
    guard = guard_of(ever="0.5")
    sandbox.configure(usage_export=False)
    made = await make(by=guard)
    sandbox.advance(100)
    body: JsonValue = {"availability": "complete", "totalCostUsd": "0.4", "knownSubtotalUsd": "0.4"}
    sandbox.add_fault(Fault(path="/v2/generate/*/costs", status=200, body=body))
    again = await make(by=guard)
    assert again.job.id == made.job.id
    assert again.notes == ["It cost 0.40 USD, more than the estimate, 0.226 USD."]
    assert (await guard.spending(sync)).ever_usd == Decimal("0.4")
    with pytest.raises(LimitReached, match=r"of which 0\.10 USD is left"):
        await make(take=2, by=guard)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("1", "1.00 USD"),
        ("0.226", "0.226 USD"),
        ("12.5", "12.50 USD"),
        ("0.00534", "0.0053 USD"),
        ("100", "100.00 USD"),
    ],
)
def test_an_amount_is_shown_with_the_places_that_matter(amount: str, shown: str) -> None:
    assert dollars(Decimal(amount)) == shown


@pytest.mark.parametrize("limit", ["-0.01", "1000001", "NaN"])
def test_a_limit_that_cannot_be_is_refused_by_its_name(limit: str) -> None:
    with pytest.raises(ValueError, match=r"Limits\.per_day_usd must lie between 0 and 1000000 USD"):
        Limits(per_day_usd=Decimal(limit))


def test_a_limit_that_is_no_decimal_is_refused_with_what_one_looks_like() -> None:
    limits: Any = {"ever_usd": 2.5}
    with pytest.raises(TypeError, match=r"Limits\.ever_usd .* such as Decimal\('2\.50'\), not float 2\.5"):
        Limits(**limits)
