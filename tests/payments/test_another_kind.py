"""An act that makes no video goes through the guard from end to end: speech, which the API does not list."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from sync_mcp import AsyncSync, Ledger
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    LimitReached,
    OutcomeUnknown,
    RequestRejectedError,
)
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.guard import Guard

from .conftest import Asker
from .entries import found
from .speech import SpeechAct, SpeechApi, speech_api

pytestmark = pytest.mark.anyio

HELLO = SpeechAct("Hello, and welcome.", "voice-1")
PRICE = Decimal("0.019")
GuardOf = Callable[..., Guard]


@pytest.fixture(autouse=True)
def _speech_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, SpeechAct.kind, SpeechAct)


@pytest.fixture
def api() -> Iterator[SpeechApi]:
    with speech_api() as api:
        yield api


@pytest.fixture
async def speaker(api: SpeechApi) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key="sk_first", base_url=api.url) as client:
        yield client


async def test_a_speech_is_made_and_paid_once(speaker: AsyncSync, api: SpeechApi, guard_of: GuardOf) -> None:
    made = await guard_of().create(PaidCall(speaker, HELLO))
    assert (made.how, made.price_usd, made.job.status) == ("made", PRICE, "PROCESSING")
    again = await guard_of().create(PaidCall(speaker, HELLO))
    assert (again.how, again.job.id) == ("was there", made.job.id)
    assert len(api.keys) == 1
    # Another script, another voice, another take: each is another payment.
    for act, take in ((SpeechAct("Bye.", "voice-1"), 1), (SpeechAct(HELLO.script, "voice-2"), 1), (HELLO, 2)):
        assert (await guard_of().create(PaidCall(speaker, act, take=take))).how == "made"
    assert len(set(api.keys)) == 4


async def test_the_ledger_says_what_kind_of_act_it_was_and_what_it_is_called(
    speaker: AsyncSync, guard: Guard, home: Path
) -> None:
    made = await guard.create(PaidCall(speaker, HELLO))
    [entry] = [guard.ledger.maker_of(made.job.id, speaker.base_url)]
    assert entry
    assert (entry.kind, entry.model, entry.title) == ("speech", "elevenlabs", "Hello, and welcome.")
    assert entry.counted_usd == PRICE
    guard.ledger.close()
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
        assert file.execute("SELECT kind FROM entries").fetchall() == [("speech",)]


async def test_a_lost_answer_is_repeated_under_the_same_key_and_paid_once(
    speaker: AsyncSync, api: SpeechApi, guard: Guard
) -> None:
    api.troubles.append("loses its answer")
    made = await guard.create(PaidCall(speaker, HELLO))
    assert made.job.id in api.jobs
    assert len(api.jobs) == 1
    assert api.keys == [api.keys[0]] * 2


@pytest.mark.parametrize("trouble", ["loses its answer", "never gets it"])
async def test_in_another_process_a_speech_in_doubt_goes_on_under_its_key(
    speaker: AsyncSync, api: SpeechApi, guard_of: GuardOf, trouble: str
) -> None:
    api.troubles.extend([trouble] * 2)  # type: ignore[list-item]
    with pytest.raises(OutcomeUnknown) as unknown:
        await guard_of().create(PaidCall(speaker, HELLO, options={"max_retries": 1}))
    async with AsyncSync(api_key="sk_first", base_url=api.url) as other:
        made = await guard_of().create(PaidCall(other, HELLO))
    assert made.how in ("sent now", "was there", "found")
    assert len(api.jobs) == 1
    assert set(api.keys) == {unknown.value.idempotency_key}


async def test_a_refused_speech_costs_nothing(speaker: AsyncSync, api: SpeechApi, guard: Guard) -> None:
    api.troubles.append("refuses it")
    with pytest.raises(RequestRejectedError):
        await guard.create(PaidCall(speaker, HELLO))
    assert guard.ledger.spending().ever_usd == 0
    assert (await guard.create(PaidCall(speaker, HELLO))).how == "made"
    assert len(set(api.keys)) == 2


async def test_a_budget_holds_for_speech_and_video_together(
    speaker: AsyncSync, api: SpeechApi, guard_of: GuardOf
) -> None:
    guard = guard_of(per_day="0.03")
    await guard.create(PaidCall(speaker, HELLO))
    with pytest.raises(LimitReached):
        await guard.create(PaidCall(speaker, HELLO, take=2))
    assert len(api.keys) == 1


async def test_the_user_is_asked_about_this_speech_in_its_own_words(
    speaker: AsyncSync, api: SpeechApi, guard: Guard
) -> None:
    asker = Asker("0", "no")
    with pytest.raises(ApprovalDenied):
        await guard.create(PaidCall(speaker, HELLO, approval=asker))
    [proposal] = asker.asked
    act = proposal.attempts[0].intention.act
    assert act.noun == "speech"
    assert act.pieces({}) == ['script: "Hello, and welcome."', 'voice: "voice-1"']
    assert proposal.price.usd == PRICE
    assert api.keys == []


async def test_a_quote_for_one_speech_is_good_for_that_one_alone(
    speaker: AsyncSync, api: SpeechApi, guard: Guard
) -> None:
    asker = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.create(PaidCall(speaker, HELLO, approval=asker))
    token = Token(required.value.quote_id or "")
    other = SpeechAct(HELLO.script, "voice-2")
    with pytest.raises(Exception, match="another call"):
        await guard.create(PaidCall(speaker, other, approval=asker, token=token))
    assert (await guard.create(PaidCall(speaker, HELLO, approval=asker, token=token))).how == "made"
    assert len(api.keys) == 1


async def test_how_a_speech_ended_is_written_down_in_the_ledgers_words(
    speaker: AsyncSync, api: SpeechApi, guard: Guard
) -> None:
    made = await guard.create(PaidCall(speaker, HELLO))
    entry = guard.ledger.maker_of(made.job.id, speaker.base_url)
    assert entry
    api.end()
    # Nobody looks for it: it is settled with its account.
    await guard.spending(speaker)
    settled = found(guard.ledger, entry.id)
    assert (settled.state, settled.status) == ("ended", "COMPLETED")
    # What it did cost nobody tells: the price counts.
    assert (settled.cost_usd, settled.counted_usd) == (None, PRICE)
    again = await guard.create(PaidCall(speaker, HELLO))
    assert (again.how, again.job.status) == ("was there", "SUCCESS")


async def test_after_a_speech_that_failed_and_may_be_charged_the_user_is_asked(
    speaker: AsyncSync, api: SpeechApi, guard: Guard
) -> None:
    await guard.create(PaidCall(speaker, HELLO))
    api.end("FAILED", "elevenlabs_quota_exceeded")
    with pytest.raises(ApprovalRequired, match="may have been charged"):
        await guard.create(PaidCall(speaker, HELLO))
    assert len(api.keys) == 1


async def test_an_entry_of_a_kind_that_is_not_known_here_is_left_alone(
    speaker: AsyncSync, api: SpeechApi, guard: Guard, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    made = await guard.create(PaidCall(speaker, HELLO))
    api.end()
    monkeypatch.delitem(KINDS, SpeechAct.kind)
    assert (await guard.spending(speaker)).ever_usd == PRICE
    entry = ledger.maker_of(made.job.id, speaker.base_url)
    assert entry
    assert entry.state == "accepted"
    # Nor does anything break where its job is looked at.
    job = made.job.model_copy(update={"status": "SUCCESS"})
    assert await guard._settling.settle_job(speaker, entry, job, {}) == "unknown"  # pyright: ignore[reportPrivateUsage]
