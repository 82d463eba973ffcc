"""One yes to several acts, with their total: spent once for each, and for nothing else."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from sync_mcp import AsyncSync, Audio, Ledger, Video
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    InvalidRequestError,
    LimitReached,
    OutcomeUnknown,
    QuoteRefused,
    SyncError,
)
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.book.agreements import CONSENT_SECONDS, QUOTE_SECONDS
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import ANOTHER_TAKE_REASON
from sync_mcp.payments.guard import Guard
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.question import question_of

from .conftest import CREATE, PRICE, Asker, Clock, paid, sent
from .entries import begun, intended, now_of, priced, wished

pytestmark = pytest.mark.anyio

GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]
NAMES = ("one", "two", "three")


@pytest.fixture
def acts(request_of: RequestOf) -> list[GenerationAct]:
    return [GenerationAct.of(request_of(f"?clip={name}")) for name in NAMES]


def calls_of(sync: AsyncSync, acts: Sequence[GenerationAct], asker: Asker) -> list[PaidCall[Generation]]:
    return [PaidCall(sync, act, approval=asker) for act in acts]


async def test_the_user_is_asked_once_and_each_act_is_made_once_by_their_yes(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    asker = Asker("0")
    token = await guard.agree(calls_of(sync, acts, asker))
    [proposal] = asker.asked
    assert proposal.price.usd == 3 * PRICE
    assert paid(sandbox) == []
    silent = Asker("0", "no")
    for act in acts:
        await guard.create(PaidCall(sync, act, token=token, approval=silent))
    assert paid(sandbox) == [PRICE] * 3
    assert silent.asked == []
    with pytest.raises(QuoteRefused):
        await guard.create(PaidCall(sync, acts[0], token=token, take=2, approval=silent))
    assert len(paid(sandbox)) == 3


async def test_where_nobody_can_be_asked_here_one_quote_is_for_all_of_them(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    asker = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.agree(calls_of(sync, acts, asker))
    token = Token(required.value.quote_id or "")
    for act in acts:
        await guard.create(PaidCall(sync, act, token=token, approval=asker))
    assert len(paid(sandbox)) == 3
    assert len(asker.asked) == 1


async def test_what_was_made_before_is_not_paid_for_again_and_is_not_in_the_total(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    await guard.create(PaidCall(sync, acts[0]))
    asker = Asker("0")
    # The same one twice is one.
    await guard.agree(calls_of(sync, [*acts, acts[1]], asker))
    assert asker.asked[0].price.usd == 2 * PRICE
    assert [len(proposal.attempts) for proposal in asker.asked] == [2]


async def test_where_all_of_it_may_be_paid_unasked_nobody_is_asked(
    sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    asker = Asker("1")
    assert await guard.agree(calls_of(sync, acts, asker)) is None
    assert asker.asked == []
    # One alone would pass unasked, the three together do not.
    asker = Asker("0.5")
    assert await guard.agree(calls_of(sync, acts, asker)) is not None
    assert len(asker.asked) == 1


async def test_a_total_above_the_budget_is_refused_before_anybody_is_asked(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, acts: list[GenerationAct]
) -> None:
    asker = Asker("0")
    with pytest.raises(LimitReached, match=r"The jobs would cost 0\.678 USD"):
        await guard_of(per_day="0.5", per_job="0.3").agree(calls_of(sync, acts, asker))
    assert asker.asked == []
    assert await guard_of(per_day="0.7", per_job="0.3").agree(calls_of(sync, acts, asker)) is not None


async def test_a_no_to_all_of_them_takes_back_what_was_handed_out_for_each(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    with pytest.raises(ApprovalRequired) as required:
        await guard.agree(calls_of(sync, acts, Asker("0", "quote")))
    with pytest.raises(ApprovalDenied):
        await guard.agree(calls_of(sync, acts, Asker("0", "no")))
    token = Token(required.value.quote_id or "")
    for act in acts:
        with pytest.raises(QuoteRefused, match="said no"):
            await guard.create(PaidCall(sync, act, token=token, approval=Asker("0", "no")))
    assert paid(sandbox) == []


def test_a_quote_for_several_holds_for_each_at_its_own_price(ledger: Ledger) -> None:
    acts = [priced(intended(name), 1, usd) for name, usd in zip(NAMES, "123", strict=True)]
    token = Token(ledger.quote(acts, now_of()))
    with pytest.raises(QuoteRefused) as refused:
        begun(ledger, "one", "1.5", token=token)
    assert refused.value.code == "price_changed"
    begun(ledger, "two", "2", token=token)
    with pytest.raises(QuoteRefused, match="for other calls"):
        begun(ledger, "four", "1", token=token)
    begun(ledger, "one", "1", token=token)
    with pytest.raises(QuoteRefused, match="has been used"):
        ledger.begin(wished("one", "1", attempt=2, token=token))


async def test_a_look_that_sends_nothing_does_not_give_back_the_yes_that_a_send_used(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    token = await guard.agree(calls_of(sync, acts[:2], Asker("0")))
    silent, once = Asker("0", "no"), RequestOptions(max_retries=0)
    await guard.create(PaidCall(sync, acts[0], token=token, approval=silent))
    sandbox.add_fault(Fault(path=CREATE, idempotency_outcome_unknown="with_id", job="forget"))
    with pytest.raises(SyncError):
        await guard.create(PaidCall(sync, acts[1], token=token, approval=silent, options=once))
    for path in ("/v2/generat*/*", "/v2/generations"):
        sandbox.add_fault(Fault(method="GET", path=path, status=503, times=None))
    with pytest.raises(OutcomeUnknown):
        await guard.create(PaidCall(sync, acts[1], approval=silent, options=once))
    sandbox.clear_faults()
    sandbox.configure(idempotency="ignore")
    sandbox.advance(3700)
    await sync.account.get()
    with pytest.raises(QuoteRefused, match="has been used"):
        await guard.create(PaidCall(sync, acts[1], token=token, approval=silent))
    assert len(paid(sandbox)) == len(sent(sandbox)) == 2


async def test_a_yes_to_several_does_not_repeat_what_was_sent_without_it_since(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    token = await guard.agree(calls_of(sync, acts[:2], Asker("0")))
    await guard.create(PaidCall(sync, acts[0], token=token))
    sandbox.add_fault(Fault(path=CREATE, idempotency_outcome_unknown="with_id", job="forget"))
    with pytest.raises(SyncError):
        await guard.create(PaidCall(sync, acts[1], options=RequestOptions(max_retries=0)))
    sandbox.configure(idempotency="ignore")
    sandbox.advance(3700)
    await sync.account.get()
    with pytest.raises(ApprovalRequired, match="was charged, or may have been, since"):
        await guard.create(PaidCall(sync, acts[1], token=token))
    assert len(paid(sandbox)) == len(sent(sandbox)) == 2


def test_a_no_to_one_of_several_leaves_the_others(ledger: Ledger) -> None:
    names = [intended(name) for name in NAMES]
    token = Token(ledger.quote([priced(one) for one in names], now_of()))
    ledger.revoke(names[1])
    with pytest.raises(QuoteRefused, match="said no"):
        begun(ledger, "two", "1", token=token)
    begun(ledger, "one", "1", token=token)
    begun(ledger, "three", "1", token=token)


def test_a_quote_for_several_waits_an_hour_for_the_yes_and_then_holds_for_the_others(
    ledger: Ledger, clock: Clock
) -> None:
    names = [intended(name) for name in NAMES]
    late = Token(ledger.quote([priced(one) for one in names], now_of()))
    clock.now += CONSENT_SECONDS + 1
    with pytest.raises(QuoteRefused, match="good for an hour"):
        begun(ledger, "one", "1", token=late)
    in_time = Token(ledger.quote([priced(one) for one in names], now_of()))
    clock.now += QUOTE_SECONDS + 1
    begun(ledger, "one", "1", token=in_time)
    clock.now += 24 * 3600
    begun(ledger, "two", "1", token=in_time)


async def test_the_question_about_several_says_the_total_and_names_each_with_its_price(
    sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    asker = Asker("0")
    every = [GenerationAct.of(request_of(f"?clip={number}")) for number in range(22)]
    await guard.agree(calls_of(sync, every, asker))
    first, *lines = question_of(asker.asked[0]).splitlines()[1:]
    assert first.startswith("Pay about 4.972 USD for these 22 jobs?")
    assert "It cannot be cancelled once started." in first
    assert lines.pop(0) == "Every price is asked about."
    assert lines[:-1] == ['"speaker.mp4 + speech.wav": about 0.226 USD'] * 20
    assert lines[-1] == "and 2 more"


async def test_the_question_about_several_names_every_host_that_gets_a_finished_jobs_url(
    sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    asker = Asker("0")
    hosts = ["good.example.com", *["evil.example.net"] * 21]
    every = [
        GenerationAct.of(request_of(f"?clip={number}", webhook_url=f"https://{host}/done"))
        for number, host in enumerate(hosts)
    ]
    await guard.agree([PaidCall(sync, act, approval=asker, webhook_hosts=()) for act in every])
    *_, first, second = question_of(asker.asked[0]).splitlines()
    assert first == 'a finished job\'s URL goes to: "good.example.com"'
    assert second == 'a finished job\'s URL goes to: "evil.example.net"'


async def test_of_many_repeats_the_question_says_first_and_whole_what_it_costs_and_that_none_can_be_cancelled(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    asker = Asker("1000")
    every = [GenerationAct.of(request_of(f"?clip={number}")) for number in range(8)]
    for act in every:
        sandbox.add_fault(Fault(path=CREATE, job="fail", charged=True))
        await guard.create(PaidCall(sync, act))
    sandbox.advance(100)
    await guard.agree(calls_of(sync, every, asker))
    fixed, *lines = question_of(asker.asked[0]).splitlines()[1:]
    assert fixed.startswith("Pay about 1.808 USD for these 8 jobs?")
    assert fixed.endswith("It cannot be cancelled once started.")
    assert sum(line.endswith("Made again, it may be paid again.") for line in lines) == 8
    assert max(map(len, lines)) < 300


async def test_the_notes_of_each_reach_the_user_once(
    sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    asker = Asker("0")
    notes = (["It is dark."], ["It is long."], ["It is dark."])
    await guard.agree(
        [PaidCall(sync, act, approval=asker, notes=note) for act, note in zip(acts, notes, strict=True)]
    )
    assert asker.asked[0].notes == ["It is dark.", "It is long."]


async def test_of_several_it_is_said_that_some_are_another_take(
    sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    asker = Asker("100")
    await guard.agree(
        [PaidCall(sync, act, take, approval=asker) for take, act in enumerate(acts[:2], start=1)]
    )
    assert [reason.text for reason in asker.asked[0].reasons] == [ANOTHER_TAKE_REASON.text]


async def test_what_has_ended_since_is_asked_before_a_total_is_refused(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, acts: list[GenerationAct]
) -> None:
    guard = guard_of(per_day="0.5")
    sandbox.add_fault(Fault(path=CREATE, job="fail"))
    await guard.create(PaidCall(sync, acts[0]))
    sandbox.advance(3600)
    # What failed and cost nothing holds its estimate no more.
    assert await guard.agree(calls_of(sync, acts[1:], Asker("0"))) is not None


async def test_the_user_is_not_asked_about_segments_that_the_create_would_refuse(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    asker = Asker("0")
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio, ref_id="a")]
    late = {"start_time": 0, "end_time": 500, "audio_input": {"ref_id": "a"}}
    act = GenerationAct.of(request_of(input=media, segments=[late]))
    with pytest.raises(InvalidRequestError, match="segment"):
        await guard.agree([PaidCall(sync, act, approval=asker, refuses_late_segments=True)])
    assert asker.asked == []


def test_a_call_that_was_not_among_several_is_told_so_whatever_became_of_them(ledger: Ledger) -> None:
    names = [intended(name) for name in NAMES]
    token = Token(ledger.quote([priced(one) for one in names], now_of()))
    begun(ledger, "one", "1", token=token)
    ledger.revoke(names[1])
    with pytest.raises(QuoteRefused, match="for other calls"):
        begun(ledger, "stranger", "1", token=token)


def test_the_yes_to_several_is_found_for_what_is_left_once_one_was_made_by_it(ledger: Ledger) -> None:
    acts = [priced(intended(name), 1, "1") for name in NAMES]
    token = Token(ledger.quote(acts, now_of()))
    left = [wished("two", "1"), wished("three", "1")]
    # Until then nobody knows whether the user has said yes.
    assert ledger.find_agreed(left) is None
    begun(ledger, "one", "1", token=token)
    assert ledger.find_agreed(left) == token
    assert ledger.find_agreed(left[:1]) == token
    # It is for no other, for no higher price, and for nobody else.
    assert ledger.find_agreed([*left, wished("four", "1")]) is None
    assert ledger.find_agreed([wished("two", "2")]) is None
    assert ledger.find_agreed([wished("two", "1", caller="another")]) is None
    ledger.revoke(intended("two"))
    assert ledger.find_agreed(left) is None
    assert ledger.find_agreed(left[1:]) == token


def test_a_yes_is_held_against_all_of_several_before_one_is_made(ledger: Ledger) -> None:
    token = Token(ledger.quote([priced(intended(name), 1, "1") for name in NAMES], now_of()))
    ledger.check_agreed([wished(name, "1", token=token) for name in NAMES])
    with pytest.raises(QuoteRefused, match="for other calls"):
        ledger.check_agreed([wished(name, "1", token=token) for name in (*NAMES, "four")])
    # A look uses nothing up.
    begun(ledger, "one", "1", token=token)


async def test_of_several_calls_each_that_cannot_be_made_is_told_by_its_place(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    guard = guard_of(per_day="100", per_job="0.3")
    cheap, dear = request_of(), request_of(model="lipsync-2-pro")
    made = await guard.create(PaidCall(sync, GenerationAct.of(request_of("?clip=made"))))
    wanted = [request_of("?clip=made"), dear, cheap, cheap]
    outlook = await guard.together.look([PaidCall(sync, GenerationAct.of(one)) for one in wanted])
    assert isinstance(found := outlook.found[0], Made)
    assert found.job.id == made.job.id
    assert list(outlook.failures) == [1]
    assert isinstance(outlook.failures[1], LimitReached)
    assert outlook.same_as == {3: 2}
    assert [call.act.model for call, _ in outlook.attempts] == ["lipsync-2"]
    assert len(paid(sandbox)) == 1


async def test_a_price_that_has_risen_since_the_yes_to_several_is_asked_about_for_all_of_them(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, acts: list[GenerationAct]
) -> None:
    quoted = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await guard.agree(calls_of(sync, acts, quoted))
    token = Token(required.value.quote_id or "")
    dearer: Any = [{"estimatedFrameCount": 113, "estimatedGenerationCost": 0.5}]
    sandbox.add_fault(Fault(path="/v2/analyze/cost", status=200, body=dearer, times=None))
    asker = Asker("0")
    assert await guard.agree([PaidCall(sync, act, token=token, approval=asker) for act in acts]) != token
    [proposal] = asker.asked
    assert proposal.price.usd == Decimal("1.5")
    assert "The price is no longer what the user was told." in [one.text for one in proposal.reasons]
