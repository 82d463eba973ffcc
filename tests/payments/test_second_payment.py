"""Ways in which a job could be paid twice, or without limit, that a reader found."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from pydantic import JsonValue

from sync_mcp import AsyncSync, Dub, Guard, LimitReached, OutcomeUnknown, SyncError, Video
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalRequired
from sync_mcp.payments.call import Made
from sync_mcp.payments.consent import Proposal
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

ESTIMATE, COSTS = "/v2/analyze/cost", "/v2/generate/*/costs"
NEVER_ARRIVES = Fault(path=CREATE, drop="before", times=None)


class Refusing:
    """Asks whatever the price, and gets no."""

    above_usd = Decimal(0)

    async def ask(self, proposal: Proposal) -> None:
        raise ApprovalRequired(proposal.reasons[0].text, question="", quote_id=None, next_step="")


async def leave_in_doubt(make: Make, **terms: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 2, **terms)


async def test_one_guard_keeps_two_apis_apart(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf
) -> None:
    with Sandbox(job_seconds=60) as second:
        async with AsyncSync(api_key="sk_first", base_url=second.url) as other:
            first = await make()
            await make(client=other)
            again = await make()
        assert again.job.id == first.job.id
        assert len(paid(sandbox)) == len(paid(second)) == 1


@pytest.mark.parametrize("usd", [0, -5])
async def test_a_price_that_no_job_has_is_unknown(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, usd: float
) -> None:
    body: JsonValue = [{"estimatedFrameCount": 0, "estimatedGenerationCost": usd}]
    sandbox.add_fault(Fault(path=ESTIMATE, status=200, body=body, times=None))
    with pytest.raises(LimitReached, match="unknown"):
        await make(by=guard_of(ever="100"))
    with pytest.raises(LimitReached, match="unknown"):
        await make(max_cost_usd=Decimal(100))
    with pytest.raises(ApprovalRequired, match="unknown"):
        await make(approval=Refusing())
    assert sent(sandbox) == []


async def test_an_estimate_that_fails_now_is_not_replaced_by_the_callers_duration(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(Fault.api_error("controller_unavailable", path=ESTIMATE, times=None))
    with pytest.raises(LimitReached, match="unknown"):
        await make(by=guard_of(ever="100"), duration_seconds=0.1)
    assert sent(sandbox) == []


@pytest.mark.parametrize(
    "terms", [{"max_cost_usd": Decimal("0.1")}, {"limits": {"per_job": "0.1"}}, {"limits": {"ever": "0.1"}}]
)
async def test_a_create_in_doubt_is_not_sent_again_beyond_the_limits_of_now(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, terms: dict[str, Any]
) -> None:
    sandbox.add_fault(NEVER_ARRIVES)
    await leave_in_doubt(make)
    sandbox.clear_faults()
    before = len(sent(sandbox))
    terms = {"limits": {}, **terms}
    await leave_in_doubt(make, by=guard_of(**terms.pop("limits")), **terms)
    assert len(sent(sandbox)) == before
    assert paid(sandbox) == []


async def test_a_create_in_doubt_does_not_stand_in_its_own_way(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(NEVER_ARRIVES)
    await leave_in_doubt(make, by=guard_of(ever="0.3", per_day="0.3"))
    sandbox.clear_faults()
    await make(by=guard_of(ever="0.3", per_day="0.3"))
    assert paid(sandbox) == [PRICE]


async def test_money_stays_held_until_the_cost_is_final(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync
) -> None:
    guard = guard_of()
    sandbox.configure(usage_export=False)
    await make(by=guard)
    sandbox.advance(100)
    body: JsonValue = {"availability": "pending", "totalCostUsd": "0", "knownSubtotalUsd": "0"}
    sandbox.add_fault(Fault(path=COSTS, status=200, body=body))
    assert (await guard.spending(sync)).ever_usd == PRICE
    body = {"availability": "partial", "totalCostUsd": None, "knownSubtotalUsd": "5.00"}
    sandbox.add_fault(Fault(path=COSTS, status=200, body=body))
    assert (await guard.spending(sync)).ever_usd == 5
    assert (await guard.spending(sync)).ever_usd == PRICE


async def test_a_list_that_cannot_be_read_whole_closes_no_job(sandbox: Sandbox, make: Make) -> None:
    first = await make()
    sandbox.add_fault(Fault.api_error("generation_not_found", path="/v2/generat*/*", times=None))
    listed: JsonValue = [{"id": first.job.id, "state": "PROCESSING"}]
    sandbox.add_fault(Fault(path="/v2/generations", status=200, body=listed, times=None))
    with pytest.raises(SyncError, match="cannot be read"):
        await make()
    assert len(sent(sandbox)) == 1


async def test_an_answer_that_tells_of_no_account_fixes_none(sandbox: Sandbox, make: Make) -> None:
    sandbox.add_fault(Fault(path="/v2/account", status=200, body={}))
    with pytest.raises(SyncError, match="no account"):
        await make()
    first = await make()
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        assert (await make(client=other)).job.id == first.job.id


async def test_a_gateways_refusal_of_what_went_through_is_no_refusal_of_the_apis(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(Fault(path=CREATE, status=403, body={"error": "proxy"}, when="after"))
    made = await make()
    assert (await make()).job.id == made.job.id
    assert len(paid(sandbox)) == 1


async def test_a_conflict_after_a_doubt_takes_no_older_job(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf
) -> None:
    older = await sync.generations.create(model="lipsync-2", input=request_of().input)
    sandbox.advance(3600)
    sandbox.configure(idempotency="conflict")
    sandbox.add_fault(Fault(path=CREATE, drop="after", job="hide"))
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 3)
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 3)
    assert len(paid(sandbox)) == 2
    assert older.id


async def test_a_dub_into_another_language_is_not_taken_for_ours(
    sandbox: Sandbox, make: Make, sync: AsyncSync
) -> None:
    video = Video(url=sandbox.samples.speaking)
    request = GenerationRequest.model_validate(
        {"model": "lipsync-2", "input": [video], "dub": Dub(target_lang="es")}
    )
    sandbox.add_fault(NEVER_ARRIVES)
    await leave_in_doubt(make, request=request)
    sandbox.clear_faults()
    other = await sync.generations.create(model="lipsync-2", input=[video], dub=Dub(target_lang="fr"))
    shown: JsonValue = [
        {
            "id": other.id,
            "status": "PENDING",
            "model": "lipsync-2",
            "createdAt": str(other.to_wire()["createdAt"]),
            "input": [{"type": "video", "url": sandbox.samples.video}],
        }
    ]
    sandbox.add_fault(Fault(path="/v2/generations", status=200, body=shown, times=None))
    made = await make(request)
    assert made.job.id != other.id
    assert len(paid(sandbox)) == 2
