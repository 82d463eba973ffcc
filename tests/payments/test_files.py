"""Creates whose inputs are still on this machine: held against the budgets while they are uploaded."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from sync_mcp import (
    AsyncSync,
    Audio,
    Guard,
    InvalidRequestError,
    Ledger,
    LimitReached,
    OutcomeUnknown,
    QuoteRefused,
    Video,
)
from sync_mcp.api.models import GenerationRequest
from sync_mcp.errors import APITimeoutError, ApprovalRequired, UnderWay
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Instant, Token
from sync_mcp.payments.book import attempts
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.payments.files import asset_key, with_assets
from sync_mcp.payments.intention import Intention
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, PRICE, Clock, Files, paid, sent
from .entries import begun, intended, quoted, refuse, wished

pytestmark = pytest.mark.anyio

GuardOf = Callable[..., Guard]

BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


class Asking:
    """Whoever has to be asked whatever the price."""

    above_usd = Decimal(0)

    async def ask(self, proposal: Proposal) -> None:
        raise AssertionError(f"nobody is asked here: {proposal.reasons}")


@BOTH
async def test_the_asset_of_a_local_file_is_what_is_sent(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    made = await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
    [entry] = guard.ledger.entries(limit=10)
    [video, _] = made.job.input or []
    assert isinstance(video, Video)
    assert entry.assets == {asset_key("video", files.sha256): video.asset_id}
    assert "clip.mp4" in entry.summary
    assert made.price is not None
    assert made.price.note == "as long as the video: 5 s at 25 fps"
    # What the API measures counts, once it has the files.
    assert made.price.usd == 5 * 25 * Decimal("0.002")
    assert entry.estimate_usd == PRICE


async def test_the_same_content_again_is_the_same_job_and_not_uploaded(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files
) -> None:
    first = await guard_of().create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
    again = await guard_of().create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
    assert (again.reused, again.job.id) == (True, first.job.id)
    assert files.uploads == len(paid(sandbox)) == 1


@BOTH
async def test_what_an_upload_is_for_is_held_against_the_budgets_meanwhile(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard_of: GuardOf,
    request_of: Callable[..., GenerationRequest],
    files: Files,
) -> None:
    files.may_go = anyio.Event()
    guard, other = guard_of(ever="0.3"), guard_of(ever="0.3")
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(
            guard.create, PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files)
        )
        with anyio.fail_after(10):
            await files.begun.wait()
        with pytest.raises(LimitReached):
            await other.create(PaidCall(sync, GenerationAct.of(request_of())))
        files.may_go.set()
    assert len(paid(sandbox)) == 1


async def test_an_upload_that_fails_leaves_nothing_behind_and_its_quote_good(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    request = files.request(sandbox)
    terms: dict[str, Any] = {"files": files, "approval": Asking()}
    price = await guard.pricing.price(sync, GenerationAct.of(request), {}, files=files)
    foresight = await guard.foresee(
        PaidCall(sync, GenerationAct.of(request), **terms), price, wants_quote=True
    )
    assert foresight.token
    token = Token(foresight.token)
    files.error = APITimeoutError("The storage did not answer.")
    with pytest.raises(APITimeoutError, match="storage"):
        await guard.create(PaidCall(sync, GenerationAct.of(request), files=files, token=token))
    assert guard.ledger.entries(limit=10) == []
    assert (await guard.spending(sync)).ever_usd == 0
    files.error = None
    made = await guard.create(PaidCall(sync, GenerationAct.of(request), files=files, token=token))
    assert made.attempt == 1
    assert len(paid(sandbox)) == 1


@BOTH
async def test_an_upload_outlasts_its_call_and_a_repeat_joins_it(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files
) -> None:
    files.may_go = anyio.Event()
    request = files.request(sandbox)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            guard = guard_of(task_group=task_group)
            with pytest.raises(APITimeoutError, match="half way"):
                await guard.create(
                    PaidCall(sync, GenerationAct.of(request), files=files, ends_at=anyio.current_time() + 2),
                )
            # In another process too.
            with pytest.raises(APITimeoutError, match="half way"):
                await guard_of().create(
                    PaidCall(sync, GenerationAct.of(request), files=files, ends_at=anyio.current_time() + 2),
                )
            files.may_go.set()
            made = await guard.create(PaidCall(sync, GenerationAct.of(request), files=files))
            assert made.reused
    assert files.uploads == len(paid(sandbox)) == 1


async def test_one_whose_upload_is_done_when_the_time_is_up_is_said_to_be_on_its_way(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files
) -> None:
    # Until the time is up a slow machine too has uploaded, and is told nothing yet.
    sandbox.add_fault(Fault(path=CREATE, delay_seconds=6))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as task_group:
            guard = guard_of(task_group=task_group)
            terms: dict[str, Any] = {"files": files, "ends_at": anyio.current_time() + 5}
            with pytest.raises(UnderWay):
                await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), **terms))
            made = await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
            assert made.reused
    assert len(paid(sandbox)) == len(sent(sandbox)) == 1


async def test_an_upload_whose_process_died_counts_for_nothing_and_the_call_begins_anew(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard_of: GuardOf,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = files.request(sandbox)
    guard = guard_of(ever="0.3")
    account = await guard.account(sync)
    intention = Intention(GenerationAct.of(request), account=account.name, base_url=account.base_url)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "LEASE_SECONDS", -1.0)
        begun(guard.ledger, usd="0.2", intention=intention, has_files=True)
    spending = await guard.spending(sync)
    assert (spending.ever_usd, spending.reserved_usd, spending.unresolved) == (0, 0, 0)
    assert await guard.list_unresolved(sync) == []
    price = await guard.pricing.price(sync, GenerationAct.of(request), {}, files=files)
    foresight = await guard.foresee(
        PaidCall(sync, GenerationAct.of(request), files=files), price, wants_quote=False
    )
    assert foresight.course == "new attempt"
    made = await guard.create(PaidCall(sync, GenerationAct.of(request), files=files))
    assert (made.attempt, made.reused) == (1, False)
    assert len(paid(sandbox)) == len(guard.ledger.entries(limit=10)) == 1


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_create_in_doubt_goes_on_with_the_asset_that_it_was_sent_with(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files, drop: Any
) -> None:
    sandbox.add_fault(Fault(path=CREATE, drop=drop))
    sandbox.add_fault(Fault(path="/v2/generations", status=503, times=None))
    request = files.request(sandbox)
    with pytest.raises(OutcomeUnknown):
        await guard_of().create(
            PaidCall(sync, GenerationAct.of(request), options={"max_retries": 0}, files=files)
        )
    sandbox.clear_faults()
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(request), files=files))
    [entry] = guard_of().ledger.entries(limit=10)
    [video, _] = made.job.input or []
    assert isinstance(video, Video)
    assert list(entry.assets.values()) == [video.asset_id]
    assert files.uploads == len(paid(sandbox)) == 1


@BOTH
async def test_a_call_that_names_the_asset_and_one_that_names_the_path_make_one_job(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asset = await sync.assets.upload(files.clip)
    named = files.request(sandbox)
    named = GenerationRequest.model_validate(
        {"model": "lipsync-2", "input": [Video(asset_id=asset.id), named.input[1]]}
    )
    first = await guard.create(PaidCall(sync, GenerationAct.of(named)))
    second = await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
    assert (second.reused, second.job.id) == (True, first.job.id)
    third = await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files, take=2))
    fourth = await guard.create(PaidCall(sync, GenerationAct.of(named), take=2))
    assert (fourth.reused, fourth.job.id) == (True, third.job.id)
    assert len(paid(sandbox)) == 2


async def test_a_create_in_doubt_that_named_the_asset_is_gone_on_with_by_the_path(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asset = await sync.assets.upload(files.clip)
    of_path = files.request(sandbox)
    named = GenerationRequest.model_validate(
        {"model": "lipsync-2", "input": [Video(asset_id=asset.id), of_path.input[1]]}
    )
    sandbox.add_fault(Fault(path=CREATE, drop="before"))
    sandbox.add_fault(Fault(path="/v2/generations", status=503, times=None))
    with pytest.raises(OutcomeUnknown):
        await guard.create(PaidCall(sync, GenerationAct.of(named), options={"max_retries": 0}))
    sandbox.clear_faults()
    made = await guard.create(PaidCall(sync, GenerationAct.of(of_path), files=files))
    assert made.how == "sent now"
    assert len(paid(sandbox)) == 1


async def test_what_costs_more_than_it_seemed_to_is_held_against_the_limits_again(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files
) -> None:
    files.output_seconds = 0.5
    guard = guard_of(per_job="0.1")
    with pytest.raises(LimitReached):
        await guard.create(PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files))
    assert (paid(sandbox), sent(sandbox)) == ([], [])
    assert guard.ledger.entries(limit=10) == []
    made = await guard_of(per_job="0.3").create(
        PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files)
    )
    assert made.price is not None
    assert made.price.usd == PRICE


@BOTH
async def test_a_create_that_is_cancelled_while_its_files_are_uploaded_is_not_made(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, files: Files
) -> None:
    files.may_go = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as server:
            guard = guard_of(task_group=server)
            async with anyio.create_task_group() as call:
                call.start_soon(
                    guard.create, PaidCall(sync, GenerationAct.of(files.request(sandbox)), files=files)
                )
                await files.begun.wait()
                call.cancel_scope.cancel()
    assert guard_of().ledger.entries(limit=10) == []
    assert sent(sandbox) == []


def test_a_process_that_slept_through_its_upload_has_to_begin_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(home)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "LEASE_SECONDS", -1.0)
        id = begun(ledger, has_files=True, owner="me")
    assert not ledger.renew(id, "me")
    assert ledger.send(id, wished(owner="me"), intended("sent")) == "lost"


def test_an_upload_over_midnight_counts_on_the_day_that_it_ends(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(home)
    with monkeypatch.context() as patch:
        # As if it had been renewed all the while.
        patch.setattr(attempts, "LEASE_SECONDS", 86_400 + 60)
        id = begun(ledger, has_files=True, limits={"per_day_usd": "1.5"})
    clock.now += 86_400
    ledger.accept(begun(ledger, "another"), "job")
    with pytest.raises(LimitReached):
        ledger.send(id, wished(limits={"per_day_usd": "1.5"}), intended("sent"))


def test_who_comes_back_with_a_used_quote_is_told_why_its_job_was_refused(home: Path) -> None:
    ledger = Ledger(home)
    token = quoted(ledger, intended(), 1, None)
    id = begun(ledger, token=token, has_files=True)
    assert ledger.send(id, wished(), intended("sent")) == "mine"
    refuse(ledger, id, "me", "insufficient_credits")
    with pytest.raises(QuoteRefused, match="refused: insufficient_credits"):
        begun(ledger, attempt=2, token=token)


@pytest.mark.parametrize("asset_id", ["sha256:", "sha256:00"])
async def test_what_stands_for_a_local_file_is_no_asset_id(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, asset_id: str
) -> None:
    media = [Video(asset_id=asset_id), Audio(url=sandbox.samples.audio)]
    request = GenerationRequest.model_validate({"model": "lipsync-2", "input": media})
    with pytest.raises(InvalidRequestError, match="no asset"):
        await guard.create(PaidCall(sync, GenerationAct.of(request)))
    assert guard.ledger.entries(limit=10) == []


def test_whoever_lost_an_attempt_while_it_uploaded_does_not_send_it(home: Path) -> None:
    ledger = Ledger(home)
    id = begun(ledger, has_files=True, owner="first")
    assert ledger.send(id, wished(owner="second"), intended("sent")) == "lost"
    ledger.withdraw(id, "second")
    attempt = wished(owner="first", now=Instant(5.0), assets={"hash": "asset"})
    assert ledger.send(id, attempt, intended("sent")) == "mine"
    entry = ledger.entry(id)
    assert entry is not None
    assert (entry.state, entry.assets, entry.first_sent_at) == ("sending", {"hash": "asset"}, 5.0)
    ledger.withdraw(id, "first")
    assert ledger.entry(id) is not None


async def test_the_same_bytes_under_another_name_are_asked_about_after_a_failure_that_was_charged(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    by_path = files.request(sandbox)
    by_asset = with_assets(by_path, await files.upload(sync))
    sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
    await guard.create(PaidCall(sync, GenerationAct.of(by_asset)))
    sandbox.advance(100)
    for request, given in ((by_asset, None), (by_path, files), (by_path, files)):
        with pytest.raises(ApprovalRequired, match="ended FAILED and was charged"):
            await guard.create(PaidCall(sync, GenerationAct.of(request), files=given))
    assert len(sent(sandbox)) == 1


async def test_a_file_whose_job_failed_and_was_charged_is_made_again_when_the_user_agreed(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    request = files.request(sandbox)
    sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
    await guard.create(PaidCall(sync, GenerationAct.of(request), files=files))
    sandbox.advance(100)
    terms: dict[str, Any] = {"files": files, "approval": Asking()}
    price = await guard.pricing.price(sync, GenerationAct.of(request), {}, files=files)
    with pytest.raises(ApprovalRequired):
        await guard.create(PaidCall(sync, GenerationAct.of(request), files=files))
    foresight = await guard.foresee(
        PaidCall(sync, GenerationAct.of(request), **terms), price, wants_quote=True
    )
    assert foresight.token
    made = await guard.create(
        PaidCall(sync, GenerationAct.of(request), files=files, token=Token(foresight.token))
    )
    assert (made.how, made.attempt) == ("made", 2)
