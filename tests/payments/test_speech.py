"""Speech goes through the guard as videos do: each paid once, whatever comes between, in its own words."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from sync_mcp import AsyncSync, Ledger
from sync_mcp.api.models import GenerationRequest
from sync_mcp.api.speech import make_speech_request
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    LimitReached,
    NotVisibleYet,
    OutcomeUnknown,
    QuoteRefused,
    RequestRejectedError,
)
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.guard import Guard
from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import VOICE

from .conftest import Asker
from .entries import found, run_sql

pytestmark = pytest.mark.anyio

JOBS, AT_ONCE = "/v2/tts/jobs", "/v2/tts"
HOLD = Decimal("0.02")
SCRIPT = "Hello, and welcome."
GuardOf = Callable[..., Guard]


def speech(sync: AsyncSync, script: str = SCRIPT, voice_id: str = VOICE) -> SpeechAct:
    return SpeechAct.of(make_speech_request(script, voice_id), sync)


def posts(sandbox: Sandbox, path: str) -> list[str | None]:
    """Return the keys of what was sent to a path."""
    return [
        one.headers.get("idempotency-key")
        for one in sandbox.requests
        if (one.method, one.path) == ("POST", path)
    ]


async def test_a_speech_is_made_and_paid_once(sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf) -> None:
    made = await guard_of().create(PaidCall(sync, speech(sync)))
    assert (made.how, made.price_usd, made.job.status) == ("made", None, "PENDING")
    again = await guard_of().create(PaidCall(sync, speech(sync)))
    assert (again.how, again.job.id) == ("was there", made.job.id)
    assert len(posts(sandbox, JOBS)) == 1
    # Another script, another voice, another take: each is another payment.
    other = (await sync.voices.list())[-1].id
    for act, take in ((speech(sync, "Bye."), 1), (speech(sync, voice_id=other), 1), (speech(sync), 2)):
        assert (await guard_of().create(PaidCall(sync, act, take=take))).how == "made"
    assert len(set(posts(sandbox, JOBS))) == len(sandbox.charges) == 4


async def test_the_client_with_a_guard_makes_a_speech_once(sandbox: Sandbox, guard: Guard) -> None:
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as client:
        ids = {(await client.speech.create(script=SCRIPT, voice_id=VOICE)).id for _ in range(2)}
    assert len(ids) == len(sandbox.charges) == 1


async def test_the_ledger_says_what_kind_of_act_it_was_and_what_it_is_called(
    sync: AsyncSync, guard: Guard, home: Path
) -> None:
    made = await guard.create(PaidCall(sync, speech(sync)))
    entry = guard.ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    assert (entry.kind, entry.model, entry.title) == ("speech", "elevenlabs", SCRIPT)
    assert run_sql(guard.ledger, "SELECT kind FROM entries") == [("speech",)]


async def test_a_lost_answer_is_repeated_under_the_same_key_and_paid_once(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.add_fault(Fault(method="POST", path=JOBS, drop="after"))
    made = await guard.create(PaidCall(sync, speech(sync)))
    [charge] = sandbox.charges
    assert charge.generation_id == made.job.id
    assert len(posts(sandbox, JOBS)) == 2
    assert len(set(posts(sandbox, JOBS))) == 1


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_in_another_process_a_speech_in_doubt_goes_on_under_its_key(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, drop: Literal["before", "after"]
) -> None:
    sandbox.add_fault(Fault(method="POST", path=JOBS, drop=drop, times=2))
    with pytest.raises(OutcomeUnknown) as unknown:
        await guard_of().create(PaidCall(sync, speech(sync), options={"max_retries": 1}))
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as other:
        made = await guard_of().create(PaidCall(other, speech(other)))
    assert made.how in ("sent now", "was there", "found")
    assert len(sandbox.charges) == 1
    assert set(posts(sandbox, JOBS)) == {unknown.value.idempotency_key}


async def test_a_refused_speech_costs_nothing(sync: AsyncSync, sandbox: Sandbox, guard: Guard) -> None:
    sandbox.add_fault(Fault.api_error("voice_blocked", method="POST", path=JOBS))
    with pytest.raises(RequestRejectedError):
        await guard.create(PaidCall(sync, speech(sync)))
    assert guard.ledger.spending().ever_usd == 0
    assert (await guard.create(PaidCall(sync, speech(sync)))).how == "made"
    assert len(set(posts(sandbox, JOBS))) == 2


# What it costs


async def test_under_a_limit_nothing_without_a_published_price_is_sent(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    with pytest.raises(LimitReached, match="publishes no price for a speech") as reached:
        await guard_of(per_day="5").create(PaidCall(sync, speech(sync)))
    assert reached.value.is_unpriced
    assert posts(sandbox, JOBS) == []


async def test_what_the_user_lets_hold_for_it_counts_in_the_budget(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    guard = guard_of(per_day="0.03", unpriced_usd=HOLD)
    made = await guard.create(PaidCall(sync, speech(sync)))
    assert made.price_usd == HOLD
    with pytest.raises(LimitReached, match="per_day_usd"):
        await guard.create(PaidCall(sync, speech(sync), take=2))
    assert len(posts(sandbox, JOBS)) == 1


@pytest.mark.parametrize("hold", [None, HOLD])
async def test_the_user_is_asked_whatever_is_held_and_in_words_of_its_own(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf, hold: Decimal | None
) -> None:
    asker = Asker("1000", "no")
    with pytest.raises(ApprovalDenied):
        await guard_of(unpriced_usd=hold).create(PaidCall(sync, speech(sync), approval=asker))
    [proposal] = asker.asked
    assert "publishes no price" in proposal.reasons[0].text
    act = proposal.attempts[0].intention.act
    assert act.noun == "speech"
    assert act.pieces({VOICE: "Ada"}) == [f'script (19 characters): "{SCRIPT}"', f'voice: "Ada" ("{VOICE}")']
    assert posts(sandbox, JOBS) == []


@pytest.mark.parametrize("hold", [None, HOLD])
async def test_where_no_price_is_asked_about_a_thing_without_one_is_and_what_has_one_is_not(
    sync: AsyncSync,
    sandbox: Sandbox,
    guard_of: GuardOf,
    request_of: Callable[..., GenerationRequest],
    hold: Decimal | None,
) -> None:
    asker = Asker(None, "no")
    guard = guard_of(unpriced_usd=hold)
    for _ in range(2):
        with pytest.raises(ApprovalDenied):
            await guard.create(PaidCall(sync, speech(sync), approval=asker))
    first, second = ([reason.text for reason in proposal.reasons] for proposal in asker.asked)
    assert (len(first), first[0][:29]) == (1, "The API publishes no price fo")
    assert second == [*first, "The user said no to this within a day."]
    assert posts(sandbox, JOBS) == []
    await guard.create(PaidCall(sync, GenerationAct.of(request_of()), approval=asker))
    assert (len(asker.asked), len(sandbox.charges)) == (2, 1)


async def test_a_program_that_names_nobody_to_ask_has_said_by_its_call_what_it_wants(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    await guard.create(PaidCall(sync, speech(sync)))
    assert len(sandbox.charges) == 1


async def test_a_quote_for_one_speech_is_good_for_that_one_alone(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    asker = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.create(PaidCall(sync, speech(sync), approval=asker))
    token = Token(required.value.quote_id or "")
    with pytest.raises(QuoteRefused, match="another call"):
        await guard.create(PaidCall(sync, speech(sync, "Bye."), approval=asker, token=token))
    assert (await guard.create(PaidCall(sync, speech(sync), approval=asker, token=token))).how == "made"
    assert len(posts(sandbox, JOBS)) == 1


# How it ends


async def test_how_a_speech_ended_is_written_down_in_the_ledgers_words(
    sync: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    guard = guard_of(unpriced_usd=HOLD)
    made = await guard.create(PaidCall(sync, speech(sync)))
    entry = guard.ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    sandbox.advance(60)
    # Nobody looks for it: it is settled with its account.
    await guard.spending(sync)
    settled = found(guard.ledger, entry.id)
    assert (settled.state, settled.status) == ("ended", "COMPLETED")
    # What it did cost nobody tells: what was held counts.
    assert (settled.cost_usd, settled.counted_usd) == (None, HOLD)
    again = await guard.create(PaidCall(sync, speech(sync)))
    assert (again.how, again.job.status) == ("was there", "SUCCESS")


async def test_after_a_speech_that_failed_and_may_be_charged_the_user_is_asked(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.add_fault(Fault(job="fail"))
    await guard.create(PaidCall(sync, speech(sync)))
    sandbox.advance(60)
    with pytest.raises(ApprovalRequired, match="may have been charged"):
        await guard.create(PaidCall(sync, speech(sync)))
    assert len(posts(sandbox, JOBS)) == 1


async def test_an_entry_of_a_kind_that_is_not_known_here_is_left_alone(
    sync: AsyncSync,
    sandbox: Sandbox,
    guard_of: GuardOf,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
) -> None:
    guard = guard_of(unpriced_usd=HOLD)
    made = await guard.create(PaidCall(sync, speech(sync)))
    sandbox.advance(60)
    monkeypatch.delitem(KINDS, SpeechAct.kind)
    assert (await guard.spending(sync)).ever_usd == HOLD
    entry = ledger.maker_of(made.job.id, sync.base_url)
    assert entry
    assert entry.state == "accepted"
    # Nor does anything break where its job is looked at.
    job = made.job.model_copy(update={"status": "SUCCESS"})
    assert await guard._settling.settle_job(sync, entry, job, {}) == "unknown"  # pyright: ignore[reportPrivateUsage]


# Where the organization has no speech jobs


@pytest.fixture
async def outside(sync: AsyncSync, sandbox: Sandbox) -> AsyncSync:
    """A client of an organization without speech jobs."""
    sandbox.configure(speech_jobs=False)
    return sync


async def test_without_speech_jobs_it_is_said_at_once_and_paid_once(
    outside: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    guard = guard_of()
    made = await guard.create(PaidCall(outside, speech(outside)))
    assert (made.how, made.job.finished, bool(made.job.url)) == ("made", True, True)
    entry = guard.ledger.maker_of(made.job.id, outside.base_url)
    assert entry
    # Nobody can ask for its end: it is written down with it.
    assert (entry.state, entry.status) == ("ended", "COMPLETED")
    again = await guard_of().create(PaidCall(outside, speech(outside)))
    assert (again.how, again.job.id) == ("was there", made.job.id)
    assert posts(sandbox, AT_ONCE) == [None]
    # That there are none was said twice, and is remembered.
    assert len(posts(sandbox, JOBS)) == 2
    await guard.create(PaidCall(outside, speech(outside, "Bye.")))
    assert (len(posts(sandbox, JOBS)), len(sandbox.charges)) == (2, 2)


async def test_the_users_yes_holds_for_the_other_way_too(
    outside: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    asker = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.create(PaidCall(outside, speech(outside), approval=asker))
    token = Token(required.value.quote_id or "")
    made = await guard.create(PaidCall(outside, speech(outside), approval=asker, token=token))
    assert (made.how, len(asker.asked), len(sandbox.charges)) == ("made", 1, 1)


async def test_said_at_once_with_a_lost_answer_it_is_never_sent_again(
    outside: AsyncSync, sandbox: Sandbox, guard_of: GuardOf
) -> None:
    outside.speech.has_jobs = False
    sandbox.add_fault(Fault(method="POST", path=AT_ONCE, drop="after"))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as unknown:
            await guard_of().create(PaidCall(outside, speech(outside)))
        assert unknown.value.idempotency_key == ""
    # Nor in the other way, once the organization has it.
    sandbox.configure(speech_jobs=True)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as later:
        with pytest.raises(OutcomeUnknown):
            await guard_of().create(PaidCall(later, speech(later)))
    assert (len(posts(sandbox, AT_ONCE)), len(posts(sandbox, JOBS)), len(sandbox.charges)) == (1, 0, 1)


async def test_a_503_that_names_a_fault_of_the_moment_is_no_word_about_the_rollout(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    down = Fault.api_error(
        "elevenlabs_service_unavailable", method="POST", path=JOBS, times=None, when="after"
    )
    sandbox.add_fault(down)
    with pytest.raises(OutcomeUnknown):
        await guard.create(PaidCall(sync, speech(sync)))
    assert (posts(sandbox, AT_ONCE), len(sandbox.charges)) == ([], 1)
    sandbox.clear_faults()
    assert (await guard.create(PaidCall(sync, speech(sync)))).how in ("found", "sent now", "was there")
    assert len(sandbox.charges) == 1


async def test_a_speech_that_the_api_does_not_show_yet_is_told_in_its_own_words(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    sandbox.add_fault(Fault(job="forget"))
    made = await guard.create(PaidCall(sync, speech(sync), tool="create_speech"))
    with pytest.raises(NotVisibleYet) as hidden:
        await guard.create(PaidCall(sync, speech(sync), tool="create_speech"))
    assert hidden.value.message.startswith(f"Speech {made.job.id} was made at ")
    assert "exactly the same create_speech call" in hidden.value.next_step
    assert len(sandbox.charges) == 1
