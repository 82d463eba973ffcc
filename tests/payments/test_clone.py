"""A clone goes through the guard once, with its owner's consent; without a key it is never sent twice."""

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from sync_mcp import AsyncSync, InvalidRequestError, Ledger
from sync_mcp.api.models import LocalMedia
from sync_mcp.api.voices import make_clone_request
from sync_mcp.cli.ledger.entries import describe_entry
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    LimitReached,
    OutcomeUnknown,
    PermissionDeniedError,
    RateLimitError,
)
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.guard import Guard
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import Asker, Files

pytestmark = pytest.mark.anyio

VOICES = "/v2/voices"
CONSENT = "It is the voice of Ada Li, who agreed on 2 May."
GuardOf = Callable[..., Guard]


def clone(sandbox: Sandbox, name: str = "Ada Li", consent: str = CONSENT) -> CloneAct:
    return CloneAct.of(make_clone_request(name, consent, url=sandbox.samples.audio), consent)


def sent(sandbox: Sandbox) -> list[object]:
    return [one.body for one in sandbox.requests if (one.method, one.path) == ("POST", VOICES)]


async def test_a_voice_is_cloned_and_paid_once_and_the_consent_stands_in_the_ledger(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, ledger: Ledger
) -> None:
    made = await guard_of().create(PaidCall(sync, clone(sandbox)))
    assert (made.how, made.job.name, made.price_usd) == ("made", "Ada Li", None)
    # Other words of consent, or another process, are the same clone.
    again = await guard_of().create(PaidCall(sync, clone(sandbox, consent="Ada Li agreed once more.")))
    assert (again.how, again.job.id) == ("was there", made.job.id)
    assert sent(sandbox) == [{"name": "Ada Li", "provider": "elevenlabs", "url": sandbox.samples.audio}]
    entry = ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    assert (entry.kind, entry.state, entry.status, entry.title) == (
        "clone",
        "ended",
        "COMPLETED",
        "voice Ada Li",
    )
    assert f"consent {CONSENT}" in describe_entry(ledger, entry.id)
    assert all("idempotency-key" not in one.headers for one in sandbox.requests)


async def test_the_client_with_a_guard_clones_once_and_notes_that_a_voice_was_deleted(
    sandbox: Sandbox, guard: Guard
) -> None:
    recording = sandbox.samples.audio
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as client:
        made = [await client.voices.clone(name="Ada Li", consent=CONSENT, url=recording) for _ in range(2)]
        assert made[0].id == made[1].id
        for _ in range(2):
            await client.voices.delete(made[0].id)
        entry = guard.ledger.maker_of(made[0].id, client.base_url)
        assert entry is not None
        assert entry.state == "deleted"
        # It would be paid again.
        with pytest.raises(ApprovalRequired, match="was deleted"):
            await client.voices.clone(name="Ada Li", consent=CONSENT, url=recording)
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_clone_whose_answer_is_lost_is_looked_for_by_its_name_and_never_sent_again(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, drop: Literal["before", "after"]
) -> None:
    sandbox.add_fault(Fault(method="POST", path=VOICES, drop=drop))
    if drop == "after":
        made = await guard_of().create(PaidCall(sync, clone(sandbox)))
        assert (made.how, made.job.name) == ("made", "Ada Li")
        assert (await guard_of().create(PaidCall(sync, clone(sandbox)))).job.id == made.job.id
    else:
        for _ in range(2):
            with pytest.raises(OutcomeUnknown) as unknown:
                await guard_of().create(PaidCall(sync, clone(sandbox)))
            assert "list_voices" in unknown.value.next_step
            assert "sends nothing" in unknown.value.next_step
    assert len(sandbox.charges) == (drop == "after")
    posts = [one for one in sandbox.requests if (one.method, one.path) == ("POST", VOICES)]
    assert len(posts) == 1


async def test_a_clone_of_unknown_outcome_is_found_later_by_another_process(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    sandbox.add_fault(Fault(method="POST", path=VOICES, drop="after"))
    sandbox.add_fault(Fault(method="GET", path=VOICES, skip=1, times=None, status=503))
    with pytest.raises(OutcomeUnknown) as unknown:
        await guard_of().create(PaidCall(sync, clone(sandbox), options={"max_retries": 0}))
    assert unknown.value.reason == "list_unreadable"
    sandbox.clear_faults()
    made = await guard_of().create(PaidCall(sync, clone(sandbox)))
    assert (made.how, made.job.name, len(sandbox.charges)) == ("found", "Ada Li", 1)


async def test_a_name_that_is_taken_is_refused_before_anything_is_sent(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    with pytest.raises(InvalidRequestError, match="is called 'My own voice' already"):
        await guard.create(PaidCall(sync, clone(sandbox, "My own voice")))
    assert sent(sandbox) == []


async def test_each_refusal_of_the_apis_leaves_nothing_spent(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.configure(clones_per_hour=1, plan="free")
    with pytest.raises(PermissionDeniedError):
        await guard.create(PaidCall(sync, clone(sandbox)))
    with pytest.raises(RateLimitError):
        await guard.create(PaidCall(sync, clone(sandbox)))
    taken = Fault.api_error("voice_name_conflict", method="POST", path=VOICES)
    sandbox.configure(clones_per_hour=None, plan="scale")
    sandbox.add_fault(taken)
    with pytest.raises(Exception, match="does not fit the present state"):
        await guard.create(PaidCall(sync, clone(sandbox)))
    assert guard.ledger.entries(limit=None, are_open=True) == []
    assert (await guard.create(PaidCall(sync, clone(sandbox)))).how == "made"
    assert len(sandbox.charges) == 1


async def test_the_user_is_asked_with_the_consent_in_the_question(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    asker = Asker("1000", "no")
    with pytest.raises(ApprovalDenied):
        await guard.create(PaidCall(sync, clone(sandbox), approval=asker))
    pieces = asker.asked[0].attempts[0].intention.act.pieces({})
    assert f'the owner\'s consent, as you are said to have told it: "{CONSENT}"' in pieces
    assert sent(sandbox) == []


async def test_a_budget_counts_what_the_user_lets_hold_for_a_clone(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    with pytest.raises(LimitReached, match="publishes no price for a voice clone"):
        await guard_of(ever="1").create(PaidCall(sync, clone(sandbox)))
    guard = guard_of(ever="1", unpriced_usd=Decimal("0.6"))
    await guard.create(PaidCall(sync, clone(sandbox)))
    with pytest.raises(LimitReached, match="ever_usd"):
        await guard.create(PaidCall(sync, clone(sandbox, "Ben")))
    assert len(sent(sandbox)) == 1


async def test_a_recording_on_this_machine_is_uploaded_once_it_is_agreed_to(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, tmp_path: Path
) -> None:
    clip = tmp_path / "ada.mp4"
    shutil.copy(sample("speaking.mp4"), clip)
    files = Files(clip)
    act = CloneAct.of_file("Ada Li", CONSENT, LocalMedia(type="video", sha256=files.sha256, name="ada.mp4"))
    asks = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard_of().create(PaidCall(sync, act, files=files, approval=asks))
    assert (files.uploads, 'recording: "ada.mp4"' in act.pieces({})) == (0, True)
    token = Token(required.value.quote_id or "")
    made = await guard_of().create(PaidCall(sync, act, files=files, approval=asks, token=token))
    assert sent(sandbox) == [{"name": "Ada Li", "provider": "elevenlabs", "assetId": files.asset_id}]
    # Whoever names the asset means the same.
    named = make_clone_request("Ada Li", CONSENT, asset_id=files.asset_id)
    again = await guard_of().create(PaidCall(sync, CloneAct.of(named, CONSENT)))
    assert (again.how, again.job.id) == ("was there", made.job.id)


@pytest.mark.parametrize("consent", ["", "yes", "I agree", "x" * 301])
async def test_without_the_owners_consent_in_words_nothing_is_cloned(
    sync: AsyncSync, sandbox: Sandbox, consent: str
) -> None:
    with pytest.raises(InvalidRequestError, match="consent"):
        await sync.voices.clone(name="Ada Li", consent=consent, url=sandbox.samples.audio)
    assert sandbox.requests == []
