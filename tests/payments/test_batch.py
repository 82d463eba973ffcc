"""A batch goes through the guard once, at the sum of its rows; without a key it is never sent twice."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import pytest

from sync_mcp import AsyncSync, Audio, GenerationRequest, InvalidRequestError, Ledger, Video
from sync_mcp.api.batches import BatchRow, make_batch_request
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    LimitReached,
    OutcomeUnknown,
    PaymentRequiredError,
    SyncError,
)
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.guard import Guard
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import PRICE, Asker, paid

pytestmark = pytest.mark.anyio

BATCH = "/v2/batch"
GuardOf = Callable[..., Guard]


def requests(sandbox: Sandbox, count: int = 20, query: str = "") -> list[GenerationRequest]:
    return [
        GenerationRequest(
            model="lipsync-2",
            input=[
                Video(url=f"{sandbox.samples.video}?clip={number}{query}"),
                Audio(url=sandbox.samples.audio),
            ],
        )
        for number in range(count)
    ]


def batch(sandbox: Sandbox, count: int = 20, **more: Any) -> BatchAct:
    return BatchAct.of(make_batch_request(requests(sandbox, count), **more))


def posts(sandbox: Sandbox) -> list[Any]:
    return [one.body for one in sandbox.requests if (one.method, one.path) == ("POST", BATCH)]


async def test_a_batch_is_one_act_at_the_sum_of_its_rows_and_made_and_paid_once(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, ledger: Ledger
) -> None:
    made = await guard_of().create(PaidCall(sync, batch(sandbox)))
    assert (made.how, made.job.status, made.price_usd) == ("made", "PENDING", 20 * PRICE)
    # In another order, by other names, or from another process: it is the same batch.
    rows = [BatchRow(one, f"scene-{number}") for number, one in enumerate(reversed(requests(sandbox)))]
    again = await guard_of().create(PaidCall(sync, BatchAct.of(make_batch_request(rows))))
    assert (again.how, again.job.id, len(posts(sandbox))) == ("was there", made.job.id, 1)
    assert len(paid(sandbox)) == 20
    entry = ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    assert (entry.kind, entry.state, entry.estimate_usd) == ("batch", "accepted", 20 * PRICE)
    assert (entry.title or "").startswith("batch of 20: speaker.mp4")
    [sent] = posts(sandbox)
    names = [row["request_id"] for row in sent["rows"]]
    assert names[:2] == [f"row-1~{entry.idempotency_key}", f"row-2~{entry.idempotency_key}"]
    assert all("idempotency-key" not in one.headers for one in sandbox.requests)


async def test_what_a_batch_did_cost_is_the_sum_of_its_generations_once_it_has_ended(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, ledger: Ledger
) -> None:
    sandbox.add_fault(Fault(path=BATCH, job="fail", rows=(1, 2, 3)))
    made = await guard_of().create(PaidCall(sync, batch(sandbox)))
    sandbox.advance(60)
    spent = await guard_of().spending(sync)
    entry = ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    assert (entry.state, entry.status, entry.cost_usd) == ("ended", "COMPLETED", 17 * PRICE)
    assert (spent.today_usd, spent.reserved_usd) == (17 * PRICE, 0)
    assert sum(paid(sandbox)) == 17 * PRICE


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_batch_whose_answer_is_lost_is_never_sent_again_and_is_found_by_our_key_in_its_results(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, drop: Literal["before", "after"]
) -> None:
    sandbox.add_fault(Fault(method="POST", path=BATCH, drop=drop))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as unknown:
            await guard_of().create(PaidCall(sync, batch(sandbox), options={"max_retries": 0}))
        assert "get_batch" in unknown.value.next_step
        # While it runs the list alone shows it, which tells no row: it may be another's.
        assert unknown.value.reason == ("maybe_seen" if drop == "after" else "not_found")
        assert len(unknown.value.maybe_ids) == (drop == "after")
    sandbox.advance(60)
    if drop == "after":
        found = await guard_of().create(PaidCall(sync, batch(sandbox)))
        assert (found.how, found.job.status) == ("found", "COMPLETED")
        assert (await guard_of().create(PaidCall(sync, batch(sandbox)))).job.id == found.job.id
    assert (len(posts(sandbox)), len(sandbox.charges)) == (1, 20 * (drop == "after"))


async def test_another_batch_of_as_many_rows_is_not_taken_for_the_lost_one(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as elsewhere:
        await elsewhere.batches.create(requests(sandbox))
    sandbox.advance(60)
    sandbox.add_fault(Fault(method="POST", path=BATCH, drop="before"))
    with pytest.raises(OutcomeUnknown) as unknown:
        await guard_of().create(PaidCall(sync, batch(sandbox), options={"max_retries": 0}))
    assert (unknown.value.reason, unknown.value.maybe_ids) == ("not_found", ())
    assert len(posts(sandbox)) == 2


async def test_another_take_is_another_batch(sync: AsyncSync, sandbox: Sandbox, guard: Guard) -> None:
    first = await guard.create(PaidCall(sync, batch(sandbox)))
    second = await guard.create(PaidCall(sync, batch(sandbox), take=2))
    assert first.job.id != second.job.id
    assert posts(sandbox)[0]["rows"][0]["request_id"] != posts(sandbox)[1]["rows"][0]["request_id"]


async def test_the_client_with_a_guard_makes_a_batch_once(sandbox: Sandbox, guard: Guard) -> None:
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as client:
        made = [await client.batches.create(requests(sandbox)) for _ in range(2)]
    assert (made[0].id, len(posts(sandbox))) == (made[1].id, 1)


async def test_a_limit_counts_the_whole_batch_before_it_is_sent(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    for limit in ("per_job", "per_day", "ever"):
        with pytest.raises(LimitReached, match=r"would cost 4\.52 USD"):
            await guard_of(**{limit: "4.5"}).create(PaidCall(sync, batch(sandbox)))
    with pytest.raises(LimitReached, match="max_cost_usd"):
        await guard_of().create(PaidCall(sync, batch(sandbox), max_cost_usd=Decimal(4)))
    guard = guard_of(per_day="5")
    await guard.create(PaidCall(sync, batch(sandbox)))
    with pytest.raises(LimitReached):
        await guard.create(PaidCall(sync, batch(sandbox), take=2))
    assert len(posts(sandbox)) == 1


async def test_the_user_is_asked_with_the_rows_and_the_total_and_a_quote_is_for_these_rows_alone(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    asker = Asker("1", "no")
    with pytest.raises(ApprovalDenied):
        await guard.create(PaidCall(sync, batch(sandbox), approval=asker))
    pieces = asker.asked[0].attempts[0].intention.act.pieces({})
    assert (pieces[0], pieces[-1], asker.asked[0].price.usd) == (
        "videos: 20, each paid",
        "and 17 more rows",
        20 * PRICE,
    )
    assert 'row "row-1": "speaker.mp4 + speech.wav"' in pieces
    asks = Asker("1", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.create(PaidCall(sync, batch(sandbox), approval=asks))
    token = Token(required.value.quote_id or "")
    with pytest.raises(SyncError, match="another call"):
        await guard.create(PaidCall(sync, batch(sandbox, 21), approval=asks, token=token))
    await guard.create(PaidCall(sync, batch(sandbox), approval=asks, token=token))
    assert [len(sent["rows"]) for sent in posts(sandbox)] == [20]


async def test_a_webhook_is_asked_about_whatever_the_price(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    act = batch(sandbox, webhook_url="https://hooks.example.com/secret")
    asker = Asker("1000")
    await guard.create(PaidCall(sync, act, approval=asker, webhook_hosts=frozenset()))
    assert 'where the end is told: "hooks.example.com"' in asker.asked[0].attempts[0].intention.act.pieces({})
    assert posts(sandbox)[0]["webhook_url"] == "https://hooks.example.com/secret"


async def test_a_row_whose_price_is_unknown_makes_that_of_the_batch_unknown_and_is_named(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    rows = requests(sandbox)
    rows[6] = GenerationRequest(
        model="lipsync-2",
        input=[Video(url="https://gone.example.com/a.mp4"), Audio(url=sandbox.samples.audio)],
    )
    act = BatchAct.of(make_batch_request(rows))
    with pytest.raises(LimitReached, match="price of the job is unknown"):
        await guard_of(ever="1000").create(PaidCall(sync, act))
    asker = Asker("1000", "no")
    with pytest.raises(ApprovalDenied):
        await guard_of().create(PaidCall(sync, act, approval=asker))
    [reason] = asker.asked[0].reasons
    assert "that of row 7 is not known" in reason.text
    assert posts(sandbox) == []


async def test_prices_that_cannot_be_told_now_stop_the_batch_and_those_known_are_not_asked_again(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.add_fault(Fault(path="/v2/analyze/cost", status=503, skip=10, times=None))
    with pytest.raises(SyncError, match="row ") as failed:
        await guard.create(PaidCall(sync, batch(sandbox), options={"max_retries": 0}))
    assert (failed.value.retryable, failed.value.money_spent, posts(sandbox)) == (True, "no", [])
    sandbox.clear_faults()
    await guard.create(PaidCall(sync, batch(sandbox)))
    priced = [one for one in sandbox.requests if one.path == "/v2/analyze/cost" and one.status == 200]
    # Ten were told at first. Of those that were asked beside the one that failed an answer may be lost on its
    # way, but not that of all: eight at most are asked at once.
    assert 20 <= len(priced) < 30


async def test_a_429_while_the_rows_are_priced_is_waited_out(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.payments.row_prices._PAUSE_SECONDS", 0.0)
    sandbox.configure(retry_after="absent")
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path="/v2/analyze/cost", skip=5, times=3))
    made = await guard.create(PaidCall(sync, batch(sandbox), options={"max_retries": 0}))
    assert made.price_usd == 20 * PRICE


async def test_too_many_prices_for_one_call_are_asked_in_the_next(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.payments.row_prices._SECONDS", 0.0)
    with pytest.raises(SyncError, match="0 of 20 rows") as late:
        await guard.create(PaidCall(sync, batch(sandbox)))
    assert (late.value.retryable, late.value.money_spent, posts(sandbox)) == (True, "no", [])


async def test_each_refusal_of_the_apis_leaves_nothing_spent(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.configure(plan="growth")
    with pytest.raises(PaymentRequiredError):
        await guard.create(PaidCall(sync, batch(sandbox)))
    sandbox.configure(plan="scale")
    body: Any = {"statusCode": 409, "errorCode": "batch_plan_required", "message": "no"}
    sandbox.add_fault(Fault(method="POST", path=BATCH, status=409, body=body))
    with pytest.raises(SyncError):
        await guard.create(PaidCall(sync, batch(sandbox)))
    assert guard.ledger.entries(limit=None, are_open=True) == []
    assert (await guard.create(PaidCall(sync, batch(sandbox)))).how == "made"
    assert len(sandbox.charges) == 20


async def test_rows_that_mean_the_same_are_refused_before_anything_is_asked(sandbox: Sandbox) -> None:
    rows = requests(sandbox)
    rows[8] = GenerationRequest.model_validate(
        {**rows[2].model_dump(), "input": list(reversed(rows[2].input)), "output_file_name": "other"}
    )
    with pytest.raises(InvalidRequestError, match="row 9 is the same as row 3"):
        BatchAct.of(make_batch_request(rows))
    assert sandbox.requests == []
