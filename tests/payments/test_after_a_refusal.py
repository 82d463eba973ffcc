"""A refused attempt cost nothing: it hides nothing of what was paid before it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sync_mcp import AsyncSync, Guard, OutcomeUnknown, SyncError, Video
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalRequired
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, Files, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

REFUSALS = pytest.mark.parametrize("refusal", ["rate_limit_exceeded", "account_payment_required"])
NEVER_ARRIVES = Fault(path=CREATE, drop="before", times=None)


class User:
    """Whoever is asked whatever the price, and says yes or no."""

    above_usd = None

    def __init__(self, *, agrees: bool) -> None:
        self.agrees = agrees
        self.heard: list[str] = []

    async def ask(self, proposal: Proposal) -> None:
        self.heard.append(proposal.reasons[0].text)
        if not self.agrees:
            raise ApprovalRequired(self.heard[-1], question="", quote_id=None, next_step="")


async def be_refused(sandbox: Sandbox, make: Make, refusal: str, **terms: Any) -> None:
    """Agree to an attempt that the API refuses."""
    sandbox.add_fault(Fault.api_error(refusal, path=CREATE, times=None))
    with pytest.raises(SyncError) as refused:
        await make(approval=User(agrees=True), ends_at=anyio.current_time() + 2, **terms)
    sandbox.clear_faults()
    assert refused.value.api_code == refusal


async def assert_it_asks(sandbox: Sandbox, make: Make, why: str, **terms: Any) -> None:
    before, user = len(sent(sandbox)), User(agrees=False)
    with pytest.raises(ApprovalRequired):
        await make(approval=user, **terms)
    assert len(sent(sandbox)) == before
    [heard] = user.heard
    assert why in heard


@REFUSALS
async def test_after_a_refused_repeat_of_a_hidden_job_the_next_repeat_asks_too_and_has_the_jobs_key(
    sandbox: Sandbox, make: Make, refusal: str
) -> None:
    sandbox.configure(get_lag_seconds=9000, list_lag_seconds=9000)
    first = await make()
    sandbox.advance(3700)
    for _ in range(2):
        await be_refused(sandbox, make, refusal)
        await assert_it_asks(sandbox, make, first.job.id)
    again = await make(approval=User(agrees=True))
    assert (again.job.id, again.attempt, again.how) == (first.job.id, 1, "was there")
    assert len(set(sent(sandbox))) == 1
    assert paid(sandbox) == [PRICE]


@REFUSALS
async def test_a_job_that_is_seen_again_is_given_back_though_a_repeat_of_it_was_refused(
    sandbox: Sandbox, make: Make, refusal: str
) -> None:
    sandbox.configure(get_lag_seconds=4000, list_lag_seconds=4000)
    first = await make()
    sandbox.advance(3700)
    await be_refused(sandbox, make, refusal)
    sandbox.advance(400)
    again = await make()
    assert (again.job.id, again.how) == (first.job.id, "was there")
    assert paid(sandbox) == [PRICE]


@REFUSALS
async def test_after_a_refused_attempt_that_followed_a_charged_failure_the_next_one_asks_too(
    sandbox: Sandbox, make: Make, refusal: str
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
    first = await make()
    sandbox.advance(1000)
    await be_refused(sandbox, make, refusal)
    await assert_it_asks(sandbox, make, f"Attempt 1 ({first.job.id}) ended FAILED and was charged")
    third = await make(approval=User(agrees=True))
    assert (third.attempt, third.how) == (3, "made")
    assert len(set(sent(sandbox))) == 3


async def test_after_a_refused_attempt_that_followed_a_deleted_job_the_next_one_asks_too(
    sandbox: Sandbox, make: Make, sync: AsyncSync, guard: Guard
) -> None:
    first = await make()
    sandbox.advance(100)
    id = first.job.id
    await guard.delete_for(sync, id, lambda: sync.generations.delete(id))
    await be_refused(sandbox, make, "rate_limit_exceeded")
    await assert_it_asks(sandbox, make, f"{id}, was deleted")


@REFUSALS
async def test_a_file_whose_asset_made_a_hidden_job_asks_though_a_repeat_of_that_was_refused(
    sandbox: Sandbox, make: Make, sync: AsyncSync, files: Files, refusal: str
) -> None:
    by_path = files.request(sandbox)
    asset = await sync.assets.upload(files.clip, sha256=files.sha256)
    by_asset = by_path.model_copy(update={"input": [Video(asset_id=asset.id), *(by_path.input or [])[1:]]})
    sandbox.configure(get_lag_seconds=9000, list_lag_seconds=9000)
    first = await make(by_asset)
    sandbox.advance(3700)
    await be_refused(sandbox, partial(make, by_asset), refusal)
    await assert_it_asks(sandbox, partial(make, by_path, files=files), first.job.id)
    assert paid(sandbox) == [PRICE]


async def test_a_key_whose_attempt_was_refused_asks_about_what_another_key_made_since(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    sandbox.add_fault(Fault(method="GET", path="/v2/account", status=403, body={}, times=None))
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as other:
        sandbox.add_fault(Fault.api_error("account_payment_required", path=CREATE))
        with pytest.raises(SyncError):
            await make(client=other)
        await make()
        await assert_it_asks(sandbox, make, "with another key of this address", client=other)
    assert paid(sandbox) == [PRICE]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("has_group", [True, False])
async def test_a_create_in_doubt_is_not_sent_again_for_a_caller_that_goes_away_while_it_is_looked_for(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard_of: GuardOf,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
    has_group: bool,
) -> None:
    sandbox.add_fault(NEVER_ARRIVES)
    with pytest.raises(OutcomeUnknown):
        await guard_of().create(
            PaidCall(sync, GenerationAct.of(request_of()), ends_at=anyio.current_time() + 2)
        )
    sandbox.clear_faults()
    before = len(sent(sandbox))
    create_as, caller = sync.create_as, anyio.CancelScope()

    async def be_left(*arguments: Any, **options: Any) -> Any:
        caller.cancel()
        # The caller hears of it before anything is looked for.
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        return await create_as(*arguments, **options)

    monkeypatch.setattr(sync, "create_as", be_left)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as work:
            guard = guard_of(task_group=work if has_group else None)
            with caller:
                await guard.create(PaidCall(sync, GenerationAct.of(request_of())))
    assert caller.cancelled_caught
    assert len(sent(sandbox)) == before
    assert paid(sandbox) == []
    assert [entry.state for entry in guard_of().ledger.entries(limit=10)] == ["unknown"]
    monkeypatch.setattr(sync, "create_as", create_as)
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(request_of())))
    assert made.how == "sent now"
    assert paid(sandbox) == [PRICE]


async def test_of_a_call_that_was_cancelled_before_its_send_the_log_names_no_other_process(
    sync: AsyncSync,
    guard_of: GuardOf,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    create_as, caller = sync.create_as, anyio.CancelScope()

    async def be_left(*arguments: Any, **options: Any) -> Any:
        caller.cancel()
        await anyio.wait_all_tasks_blocked()
        return await create_as(*arguments, **options)

    monkeypatch.setattr(sync, "create_as", be_left)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as work:
            with caller:
                await guard_of(task_group=work).create(PaidCall(sync, GenerationAct.of(request_of())))
    assert guard_of().ledger.entries(limit=10) == []
    assert "work whose call was cancelled ended: not_sent" in caplog.text
    assert "Another process" not in caplog.text
