"""One intention, one job, whatever happens between the call and the answer."""

import math
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from sync_mcp import (
    AsyncSync,
    ConcurrencyLimitError,
    Guard,
    InvalidRequestError,
    Ledger,
    LedgerError,
    LimitReached,
    NotVisibleYet,
    OutcomeUnknown,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import ApprovalRequired, UnderWay
from sync_mcp.payments import ledger_book, slots
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.payments.rows import ENTRIES
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, Asker, paid, sent

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
LOST = Fault(path=CREATE, drop="after", times=None)


@BOTH
async def test_the_same_call_again_returns_the_same_job_and_pays_nothing(
    sandbox: Sandbox, make: Make
) -> None:
    first, again = await make(), await make()
    assert not first.reused
    assert again.reused
    assert again.job.id == first.job.id
    assert paid(sandbox) == [PRICE]
    assert len(sent(sandbox)) == 1


async def test_a_call_that_means_the_same_is_the_same(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    first = await make()
    plain = request_of()
    respelled = request_of(
        input=plain.input[::-1], options={"sync_mode": "bounce", "temperature": 0.5}, segments=None
    )
    assert (await make(respelled)).job.id == first.job.id
    assert len(paid(sandbox)) == 1


async def test_a_finished_job_is_returned_in_another_process_too(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    first = await make()
    sandbox.advance(100)
    again = await make(by=guard_of())
    assert (again.job.id, again.job.status) == (first.job.id, "COMPLETED")
    assert len(paid(sandbox)) == 1


async def test_what_does_not_count_is_told_when_it_differs(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    first = await make(request_of(output_file_name="one"))
    again = await make(request_of(output_file_name="two", webhook_url="https://example.com/hook"))
    assert again.job.id == first.job.id
    assert again.notes == [
        "The job keeps the first call's output_file_name and webhook_url, not this call's."
    ]


async def test_another_take_is_another_job(sandbox: Sandbox, make: Make) -> None:
    first, second = await make(), await make(take=2)
    assert first.job.id != second.job.id
    assert len(paid(sandbox)) == 2
    assert (await make(take=2)).job.id == second.job.id


@BOTH
async def test_the_same_call_at_the_same_moment_makes_one_job(sandbox: Sandbox, make: Make) -> None:
    ids: list[str] = []

    async def create() -> None:
        ids.append((await make()).job.id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as task_group:
            for _ in range(8):
                task_group.start_soon(create)
    assert len(set(ids)) == 1
    assert len(paid(sandbox)) == len(sent(sandbox)) == 1


async def test_two_processes_that_make_the_same_call_at_the_same_moment_make_one_job(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    ids: list[str] = []

    async def create(by: Guard) -> None:
        ids.append((await make(by=by)).job.id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as task_group:
            for _ in range(4):
                task_group.start_soon(create, guard_of())
    assert len(set(ids)) == 1
    assert len(paid(sandbox)) == 1


async def test_a_refused_create_costs_nothing_and_the_next_call_has_a_key_of_its_own(
    sandbox: Sandbox, make: Make, guard: Guard
) -> None:
    sandbox.add_fault(Fault.api_error("generation_input_video_invalid", path=CREATE))
    with pytest.raises(RequestRejectedError):
        await make()
    [entry] = guard.ledger.entries(limit=10)
    assert (entry.state, entry.counted_usd) == ("refused", 0)
    made = await make()
    assert (made.attempt, made.reused) == (2, False)
    assert len(set(sent(sandbox))) == 2
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize("idempotency", ["honour", "ignore", "expire", "conflict"])
async def test_a_create_whose_answer_is_lost_is_found_and_paid_once(
    sandbox: Sandbox, make: Make, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path=CREATE, drop="after"))
    made = await make()
    assert (await make()).job.id == made.job.id
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize("idempotency", ["honour", "ignore", "conflict"])
async def test_an_unknown_outcome_counts_as_spent_until_the_same_call_finds_the_job(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(LOST)
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/generations", times=None))
    guard = guard_of()
    with pytest.raises(OutcomeUnknown) as unknown:
        await make(by=guard, ends_at=anyio.current_time() + 3)
    assert "Make exactly this call again" in unknown.value.next_step
    [entry] = await guard.list_unresolved(sync)
    assert entry.counted_usd == PRICE
    sandbox.clear_faults()
    made = await make(by=guard_of())
    assert made.reused
    assert len(paid(sandbox)) == 1
    assert await guard.list_unresolved(sync) == []


async def test_a_create_that_never_arrived_is_sent_again_under_its_key(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(Fault(path=CREATE, drop="before", times=None))
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 2)
    assert paid(sandbox) == []
    sandbox.clear_faults()
    await make(by=guard_of())
    assert len(paid(sandbox)) == 1
    assert len(set(sent(sandbox))) == 1


async def test_what_a_new_process_sends_again_counts_on_the_apis_day_of_that_send(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.advance(5 * 86_400)
    sandbox.add_fault(Fault(path=CREATE, drop="before", times=None))
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 2)
    sandbox.clear_faults()
    sandbox.advance(3600)
    guard = guard_of()
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as fresh:
        await make(by=guard, client=fresh)
        now = fresh.api_time.timestamp()
    [entry] = guard.ledger.entries(limit=10)
    assert entry.created_at // 86_400 == now // 86_400


async def test_after_the_time_to_resend_an_unknown_create_is_only_looked_for(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault(path=CREATE, drop="before", times=None))
    with pytest.raises(OutcomeUnknown):
        await make(ends_at=anyio.current_time() + 2)
    sandbox.clear_faults()
    # The API tells whole seconds.
    sandbox.advance(5)
    await sync.account.get()
    before = len(sent(sandbox))
    with pytest.raises(OutcomeUnknown) as unknown:
        await make(by=guard_of(resend_hours=0))
    assert "and sends nothing, since too much time has passed" in unknown.value.next_step
    assert len(sent(sandbox)) == before
    assert paid(sandbox) == []


def _leave_sending(guard: Guard, entry_id: int, owner: str, *, leased_for: float) -> None:
    """Leave an entry as a process does that has written it down, and has not heard of its job."""
    left = {
        "state": "sending",
        "generation_id": None,
        "owner": owner,
        "leased_until": time.time() + leased_for,
    }
    with guard.ledger.store.transaction() as connection:
        connection.execute(update(ENTRIES).where(ENTRIES.c.id == entry_id).values(left))


async def test_a_dead_process_holds_nobody_up_for_longer_than_its_lease(
    sandbox: Sandbox, make: Make, guard: Guard, request_of: RequestOf, sync: AsyncSync
) -> None:
    await make()
    [entry] = guard.ledger.entries(limit=1)
    # As a process leaves it that died after it had written the intention down.
    _leave_sending(guard, entry.id, "dead", leased_for=0.3)
    again = await make()
    assert again.job.id == entry.generation_id
    assert len(paid(sandbox)) == 1


async def test_a_living_process_is_waited_for_as_long_as_the_call_lasts(
    sandbox: Sandbox, make: Make, guard: Guard
) -> None:
    await make()
    [entry] = guard.ledger.entries(limit=1)
    _leave_sending(guard, entry.id, "alive", leased_for=10)
    with pytest.raises(UnderWay) as caught:
        await make(ends_at=anyio.current_time() + 0.6)
    assert (caught.value.code, caught.value.money_spent) == ("create_under_way", "unknown")
    assert caught.value.handle.key == entry.digest
    assert len(sent(sandbox)) == 1


@BOTH
async def test_a_caller_that_goes_away_leaves_a_create_that_is_written_down(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, arrived = anyio.Event(), anyio.Event()
    create_as = sync.create_as

    async def tell(*arguments: Any, **options: Any) -> Any:
        sending.set()
        return await create_as(*arguments, **options)

    monkeypatch.setattr(sync, "create_as", tell)
    sandbox.add_fault(Fault(path=CREATE, delay_seconds=0.5))

    async def create() -> None:
        with anyio.CancelScope() as caller:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(cancel_once_sent, caller)
                await make()
                task_group.cancel_scope.cancel()
        arrived.set()

    async def cancel_once_sent(caller: anyio.CancelScope) -> None:
        await sending.wait()
        caller.cancel()

    with anyio.fail_after(10):
        await create()
        await arrived.wait()
    [entry] = guard.ledger.entries(limit=10)
    assert entry.state == "accepted"
    assert (await make()).job.id == entry.generation_id
    assert len(paid(sandbox)) == 1


async def test_after_an_uncharged_failure_the_same_call_is_the_next_attempt(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="fail", error_code="generation_pipeline_failed"))
    first = await make()
    sandbox.advance(100)
    with pytest.raises(ApprovalRequired, match="may have been charged"):
        await make()
    # By then the API has recorded what it is going to charge.
    sandbox.advance(610)
    second = await make()
    assert second.attempt == 2
    assert not second.reused
    assert second.notes == [
        f"Attempt 1 ({first.job.id}) ended FAILED and was not charged: this is a new one."
    ]
    assert paid(sandbox) == [PRICE]
    assert len(set(sent(sandbox))) == 2


async def make_in_vain(make: Make, error: type[SyncError]) -> None:
    for _ in range(2):
        with pytest.raises(error):
            await make()


async def test_a_job_that_was_made_a_short_time_ago_and_that_nobody_sees_is_waited_for(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    first = await make()
    await make_in_vain(make, NotVisibleYet)
    with pytest.raises(NotVisibleYet) as unseen:
        await make()
    assert unseen.value.generation_id == first.job.id
    assert "do not create it again" in unseen.value.next_step
    assert (unseen.value.retryable, unseen.value.money_spent) == (True, "yes")
    assert (await guard.spending(sync)).ever_usd == PRICE
    assert len(sent(sandbox)) == 1


async def test_after_an_hour_a_job_that_nobody_sees_is_asked_about_and_nothing_closes_it(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    first = await make()
    sandbox.advance(3601)
    await make_in_vain(make, ApprovalRequired)
    with pytest.raises(ApprovalRequired, match="does not show it now") as required:
        await make()
    assert "another take" in required.value.next_step
    [entry] = guard.ledger.entries(limit=10)
    assert (entry.state, entry.generation_id) == ("accepted", first.job.id)
    assert (await guard.spending(sync)).ever_usd == PRICE
    guard.ledger.release(entry.id)
    assert (await make()).how == "made"
    assert len(paid(sandbox)) == 2


@pytest.mark.parametrize("idempotency", ["honour", "ignore", "conflict"])
async def test_a_repeat_of_a_job_that_nobody_sees_goes_out_under_the_same_key_first(
    sandbox: Sandbox, make: Make, guard: Guard, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    first = await make()
    sandbox.advance(3601)
    user = Asker("1000")
    second = await make(approval=user)
    assert len(user.asked) == 1
    assert len(set(sent(sandbox)[:2])) == 1
    if idempotency == "conflict":
        # The key is taken, and its job not to be seen: what was agreed to went out under a key of its own.
        assert (second.how, second.attempt) == ("made", 3)
        states = [entry.state for entry in guard.ledger.entries(limit=10)]
        assert states == ["accepted", "refused", "accepted"]
        assert len(paid(sandbox)) == 2
    elif idempotency == "honour":
        # The API answered with the job that is there: nothing new was made.
        assert (second.job.id, second.how) == (first.job.id, "was there")
        assert [entry.state for entry in guard.ledger.entries(limit=10)] == ["accepted"]
        assert len(paid(sandbox)) == 1
    else:
        assert second.how == "made"
        assert [entry.state for entry in guard.ledger.entries(limit=10)] == ["accepted", "accepted"]
        assert len(paid(sandbox)) == 2


async def test_a_repeat_that_the_api_answers_with_the_hidden_job_is_asked_for_once_more_and_no_more(
    sandbox: Sandbox, make: Make, guard: Guard
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    first = await make()
    sandbox.advance(3601)
    user = Asker("1000")
    again = await make(approval=user)
    assert (again.job.id, again.how) == (first.job.id, "was there")
    assert "a new one goes out under a new key" in again.notes[-1]
    second = await make(approval=user)
    assert second.how == "made"
    assert "A repeat under its key was answered with it and made nothing" in user.asked[1].reasons[0].text
    assert (await make(approval=user)).job.id == second.job.id
    assert len(user.asked) == 2
    assert len(paid(sandbox)) == 2
    assert [key == sent(sandbox)[0] for key in sent(sandbox)] == [True, True, False]


async def test_a_job_of_a_late_send_that_the_reads_do_not_show_yet_is_only_waited_for(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(Fault(path=CREATE, drop="before", times=None))
    with pytest.raises(OutcomeUnknown):
        await make()
    sandbox.clear_faults()
    sandbox.advance(7200)
    sandbox.add_fault(Fault(path=CREATE, get_lag_seconds=60, list_lag_seconds=60))
    late = await make()
    assert late.how == "sent now"
    user = Asker("1000")
    with pytest.raises(NotVisibleYet) as lags:
        await make(approval=user)
    assert "is not visible yet" in lags.value.message
    assert user.asked == []
    assert len(paid(sandbox)) == 1


async def test_a_repeat_in_doubt_that_is_answered_with_the_hidden_job_made_and_paid_nothing(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    first = await make()
    sandbox.advance(3601)
    sandbox.add_fault(Fault(path=CREATE, drop="before", times=None))
    with pytest.raises(OutcomeUnknown):
        await make(approval=Asker("1000"))
    sandbox.clear_faults()
    sandbox.advance(70)
    again = await make(approval=Asker("1000"))
    assert (again.job.id, again.how, again.price_usd) == (first.job.id, "was there", None)
    assert len(set(sent(sandbox))) == 1
    assert len(paid(sandbox)) == 1


async def test_a_job_that_shows_again_after_a_repeat_in_vain_is_given_back_and_settled(
    sandbox: Sandbox, make: Make, guard: Guard, sync: AsyncSync
) -> None:
    sandbox.configure(usage_export=False)
    sandbox.add_fault(Fault(path=CREATE, get_lag_seconds=7000, list_lag_seconds=7000))
    first = await make()
    sandbox.advance(3601)
    await make(approval=Asker("1000"))
    sandbox.advance(7000)
    assert (await make()).job.id == first.job.id
    assert (await guard.spending(sync)).ever_usd == PRICE
    [entry] = guard.ledger.entries(limit=10)
    assert (entry.state, entry.error_code) == ("ended", None)


async def test_a_job_that_this_client_deleted_stays_spent_and_is_made_again_only_when_agreed_to(
    sandbox: Sandbox, guard: Guard, make: Make, sync: AsyncSync
) -> None:
    first = await make()
    sandbox.advance(100)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as guarded:
        await guarded.generations.delete(first.job.id)
    [entry] = guard.ledger.entries(limit=10)
    assert (entry.state, entry.status, entry.cost_usd) == ("deleted", "COMPLETED", PRICE)
    with pytest.raises(ApprovalRequired, match="was deleted"):
        await make()
    user = Asker("1000")
    assert (await make(approval=user)).how == "made"
    assert len(user.asked) == 1
    assert (await guard.spending(sync)).ever_usd == 2 * PRICE


async def test_a_job_that_only_one_path_forgets_is_not_made_again(sandbox: Sandbox, make: Make) -> None:
    first = await make()
    sandbox.add_fault(Fault.api_error("generation_not_found", path="/v2/generat*/*", times=None))
    assert (await make()).job.id == first.job.id
    assert len(paid(sandbox)) == 1


NO_ACCOUNT = Fault(path="/v2/account", status=404, body={"message": "none"}, times=None)


async def test_another_key_of_an_unknown_account_is_asked_before_it_pays_the_same_again(
    sandbox: Sandbox, make: Make, guard: Guard
) -> None:
    sandbox.add_fault(NO_ACCOUNT)
    first = await make()
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        with pytest.raises(ApprovalRequired, match="with another key of this address"):
            await make(client=other)
        second = await make(client=other, approval=Asker("1000"))
    assert second.job.id != first.job.id
    accounts = {entry.account for entry in guard.ledger.entries(limit=10)}
    assert len(accounts) == 2
    assert all(account.startswith("key:") and "sk_" not in account for account in accounts)


async def test_a_yes_does_not_cover_what_another_key_made_of_the_same_since(
    sandbox: Sandbox, make: Make
) -> None:
    sandbox.add_fault(NO_ACCOUNT)
    user = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await make(approval=user)
    token = Token(required.value.quote_id or "")
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        await make(client=other)
    with pytest.raises(ApprovalRequired) as again:
        await make(approval=user, token=token)
    told = " ".join(reason.text for reason in user.asked[-1].reasons)
    assert "The same was made or sent with another key since the user was told of it." in told
    assert "with another key of this address" in told
    assert len(paid(sandbox)) == 1
    await make(approval=user, token=Token(again.value.quote_id or ""))
    assert len(paid(sandbox)) == 2


@pytest.mark.parametrize("way", ["form", "several"])
async def test_a_yes_does_not_cover_what_another_key_made_while_the_question_was_open(
    sandbox: Sandbox, make: Make, sync: AsyncSync, guard: Guard, request_of: RequestOf, way: str
) -> None:
    sandbox.add_fault(NO_ACCOUNT)
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:

        class SlowUser(Asker):
            async def ask(self, proposal: Proposal) -> None:
                await super().ask(proposal)
                if len(self.asked) == 1:
                    await make(client=other)
                    sandbox.advance(60)
                    await sync.voices.list()

        user, token = SlowUser("0"), None
        if way == "several":
            acts = [GenerationAct.of(request_of(query)) for query in ("", "?other")]
            token = await guard.agree([PaidCall(sync, act, approval=user) for act in acts])
        # Asked anew and told of it, they say yes to that as well.
        await make(approval=user, token=token)
    assert len(user.asked) == 2
    told = " ".join(reason.text for reason in user.asked[-1].reasons)
    assert "with another key since the user was told of it" in told
    assert "with another key of this address" in told
    assert len(paid(sandbox)) == 2


async def test_an_account_that_was_not_told_once_is_asked_for_again(
    sandbox: Sandbox, make: Make, guard_of: GuardOf
) -> None:
    sandbox.add_fault(NO_ACCOUNT)
    await make()
    sandbox.clear_faults()
    # Under its name it is another intention by now, and it is known to be the same.
    with pytest.raises(ApprovalRequired, match="with another key of this address"):
        await make(by=guard_of())
    assert len(paid(sandbox)) == 1


async def test_the_budget_is_one_for_all_accounts_of_the_ledger(
    sandbox: Sandbox, make: Make, guard_of: GuardOf, request_of: RequestOf
) -> None:
    guard = guard_of(ever="0.30")
    await make(by=guard, request=request_of())
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        with pytest.raises(LimitReached):
            await make(request_of("?n=2"), by=guard, client=other)


async def test_two_keys_of_one_organization_are_one_account(sandbox: Sandbox, make: Make) -> None:
    first = await make()
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        assert (await make(client=other)).job.id == first.job.id


async def test_an_account_that_cannot_be_told_now_sends_nothing(sandbox: Sandbox, make: Make) -> None:
    sandbox.add_fault(Fault(path="/v2/account", html=True, times=None))
    with pytest.raises(Exception, match="not the API's JSON"):
        await make()
    assert sent(sandbox) == []


@pytest.mark.file
async def test_a_ledger_that_cannot_be_written_sends_nothing(
    sandbox: Sandbox, make: Make, tmp_path: Path
) -> None:
    place = tmp_path / "a file"
    place.write_text("", encoding="utf-8")
    with pytest.raises(LedgerError, match="cannot be written"):
        await make(by=Guard(Ledger(place / "home")))
    assert sent(sandbox) == []


async def test_a_ledger_that_breaks_after_the_api_has_accepted_loses_no_handle(
    sandbox: Sandbox, make: Make, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LedgerError("The disk is full.")

    monkeypatch.setattr(guard.ledger, "accept", full)
    made = await make()
    assert made.job.id
    assert "could not be written after the job was accepted" in made.notes[0]


async def test_an_idempotency_key_of_the_callers_own_is_refused(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    with pytest.raises(InvalidRequestError, match="leave it out"):
        await guard.create(
            PaidCall(sync, GenerationAct.of(request_of()), options={"idempotency_key": "mine"})
        )
    assert sent(sandbox) == []


async def test_a_full_plan_answers_which_jobs_hold_the_slots_and_costs_nothing(
    sandbox: Sandbox, make: Make, request_of: RequestOf, guard: Guard
) -> None:
    sandbox.configure(plan="hobbyist")
    first = await make()
    with pytest.raises(ConcurrencyLimitError) as full:
        await make(request_of("?n=2"))
    assert first.job.id in str(full.value)
    assert "wait_for_generations" in full.value.next_step
    assert full.value.next_step.startswith("Nothing was sent or charged.")
    assert [entry.state for entry in guard.ledger.entries(limit=10)] == ["refused", "accepted"]


async def test_a_create_waits_for_a_slot_within_its_time(
    sandbox: Sandbox, make: Make, request_of: RequestOf, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.05)
    sandbox.configure(plan="hobbyist")
    await make()
    waiting = anyio.Event()
    running = slots.list_running

    async def tell(*arguments: Any) -> Any:
        waiting.set()
        return await running(*arguments)

    monkeypatch.setattr(slots, "list_running", tell)

    async def end_the_first() -> None:
        await waiting.wait()
        sandbox.advance(100)

    made: Made[Generation] | None = None
    with anyio.fail_after(10):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(end_the_first)
            made = await make(request_of("?n=2"), slot_until=anyio.current_time() + 8)
    assert made
    assert not made.reused
    assert len(paid(sandbox)) == 2


@pytest.mark.parametrize("new_day_has_room", [True, False])
async def test_a_create_that_waits_for_a_slot_over_midnight_counts_on_the_day_of_its_send(
    sandbox: Sandbox,
    sync: AsyncSync,
    make: Make,
    request_of: RequestOf,
    guard_of: GuardOf,
    monkeypatch: pytest.MonkeyPatch,
    new_day_has_room: bool,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.05)
    sandbox.configure(plan="hobbyist")
    await sync.account.get()
    sandbox.advance((86_400 - sync.api_time.timestamp() % 86_400 - 20) % 86_400)
    await make(by=guard_of(per_day="0.5"))
    guard = guard_of(per_day="0.5")
    waiting, is_next_day = anyio.Event(), anyio.Event()
    running = slots.list_running

    async def tell(*arguments: Any) -> Any:
        is_first, jobs = not waiting.is_set(), await running(*arguments)
        if is_first:
            waiting.set()
            await is_next_day.wait()
        return jobs

    monkeypatch.setattr(slots, "list_running", tell)

    async def pass_midnight() -> None:
        await waiting.wait()
        sandbox.advance(100)
        if not new_day_has_room:
            for number in range(2):
                await make(request_of(f"?today={number}"), by=guard_of(per_day="0.5"))
                sandbox.advance(100)
        is_next_day.set()

    result: Made[Generation] | SyncError | None = None
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(pass_midnight)
            slot_until = anyio.current_time() + 15
            try:
                result = await guard.create(
                    PaidCall(sync, GenerationAct.of(request_of("?n=2")), slot_until=slot_until)
                )
            except SyncError as error:
                result = error
    spending = await guard.spending(sync)
    if new_day_has_room:
        assert isinstance(result, Made)
        assert spending.today_usd == PRICE
        assert len(paid(sandbox)) == 2
    else:
        assert isinstance(result, LimitReached)
        assert (result.limit, result.money_spent) == ("per_day_usd", "no")
        assert spending.today_usd == 2 * PRICE
        assert len(paid(sandbox)) == 3


@pytest.mark.parametrize("others_usd", [0.1, 0.4])
async def test_a_create_in_doubt_that_goes_out_again_after_midnight_counts_on_that_day_or_does_not_go(
    sandbox: Sandbox,
    sync: AsyncSync,
    request_of: RequestOf,
    guard_of: GuardOf,
    monkeypatch: pytest.MonkeyPatch,
    others_usd: float,
) -> None:
    await sync.account.get()
    sandbox.advance((86_400 - sync.api_time.timestamp() % 86_400 - 20) % 86_400)
    guard = guard_of(per_day="0.5")
    look = ledger_book.hindrance_in_export

    async def pass_midnight(*arguments: Any) -> Any:
        if len(sent(sandbox)) == 1:
            sandbox.advance(100)
            await sync.account.get()
            price: Any = [{"estimatedFrameCount": 1, "estimatedGenerationCost": others_usd}]
            sandbox.add_fault(Fault(path="/v2/analyze/cost", status=200, body=price))
            await guard_of(per_day="0.5").create(PaidCall(sync, GenerationAct.of(request_of("?today"))))
        return await look(*arguments)

    monkeypatch.setattr(ledger_book, "hindrance_in_export", pass_midnight)
    sandbox.add_fault(Fault(method="POST", path=CREATE, drop="before"))
    if others_usd == 0.1:
        await guard.create(PaidCall(sync, GenerationAct.of(request_of())))
        assert (await guard.spending(sync)).today_usd == PRICE + Decimal("0.1")
        assert len(sent(sandbox)) == 3
    else:
        with pytest.raises(OutcomeUnknown) as unknown:
            await guard.create(PaidCall(sync, GenerationAct.of(request_of())))
        assert "a limit stands against it by now" in unknown.value.next_step
        assert len(sent(sandbox)) == 2


@BOTH
@pytest.mark.parametrize("has_group", [True, False])
async def test_a_call_that_is_cancelled_while_it_waits_for_a_slot_sends_nothing_when_one_comes_free(
    sandbox: Sandbox,
    sync: AsyncSync,
    make: Make,
    request_of: RequestOf,
    guard_of: GuardOf,
    monkeypatch: pytest.MonkeyPatch,
    has_group: bool,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.05)
    sandbox.configure(plan="hobbyist")
    await make()
    sent_before = len(sent(sandbox))
    waiting = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as work:
            guard = guard_of(task_group=work if has_group else None)
            running = slots.list_running

            async def tell(*arguments: Any) -> Any:
                waiting.set()
                return await running(*arguments)

            monkeypatch.setattr(slots, "list_running", tell)
            async with anyio.create_task_group() as caller:
                slot_until = anyio.current_time() + 15
                caller.start_soon(
                    guard.create, PaidCall(sync, GenerationAct.of(request_of("?n=2")), slot_until=slot_until)
                )
                await waiting.wait()
                caller.cancel_scope.cancel()
            sandbox.advance(100)
    # It was refused once for want of a slot, and nothing followed.
    assert len(sent(sandbox)) == sent_before + 1
    assert len(paid(sandbox)) == 1
    assert [entry.state for entry in guard_of().ledger.entries(limit=10)] == ["refused", "accepted"]


async def test_a_call_that_was_cancelled_is_made_when_it_is_made_again(
    sandbox: Sandbox, sync: AsyncSync, make: Make, request_of: RequestOf, guard: Guard
) -> None:
    sandbox.configure(plan="hobbyist")
    await make()
    call = PaidCall(
        sync, GenerationAct.of(request_of("?n=2")), slot_until=anyio.current_time() + 30, ends_at=math.inf
    )
    with anyio.fail_after(60):
        with anyio.move_on_after(0.2):
            await guard.create(call)
        sandbox.advance(100)
        made = await guard.create(call)
    assert made.how == "made"
    assert len(paid(sandbox)) == 2


async def test_a_client_with_a_guard_makes_each_request_once(
    sandbox: Sandbox, guard: Guard, request_of: RequestOf
) -> None:
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as sync:
        media = request_of().input
        first = await sync.generations.create(model="lipsync-2", input=media)
        again = await sync.generations.create(model="lipsync-2", input=media)
        other = await sync.generations.create(model="lipsync-2", input=media, take=2)
    assert first.id == again.id != other.id
    assert sum(paid(sandbox), Decimal(0)) == 2 * PRICE


async def test_without_a_guard_a_take_is_refused(
    sandbox: Sandbox, sync: AsyncSync, request_of: RequestOf
) -> None:
    with pytest.raises(InvalidRequestError, match="with a guard alone"):
        await sync.generations.create(model="lipsync-2", input=request_of().input, take=2)
    assert sent(sandbox) == []


@BOTH
async def test_a_call_whose_time_is_up_is_not_told_of_another_that_there_is_not(
    sandbox: Sandbox, make: Make
) -> None:
    made = await make(ends_at=anyio.current_time() - 1)
    assert made.how == "made"
    assert len(paid(sandbox)) == 1
