"""A dialogue edit is paid once, though the API keeps no key for it, lists none, and publishes no price."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from sync_mcp import (
    AsyncSync,
    DialogueEdit,
    Guard,
    Ledger,
    LimitReached,
    Limits,
    OutcomeUnknown,
    RequestRejectedError,
    ServerError,
    Transcript,
    WordChange,
)
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import Asker

pytestmark = pytest.mark.anyio

EDITS = "/v2/dialogue-edits"
HELD = Decimal("0.30")


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    ledger = Ledger(home)
    yield ledger
    ledger.close()


@pytest.fixture
def guard(ledger: Ledger) -> Guard:
    return Guard(ledger, unpriced_usd=HELD)


@pytest.fixture
async def sync(sandbox: Sandbox, guard: Guard) -> AsyncIterator[AsyncSync]:
    sandbox.configure(job_seconds=0)
    async with AsyncSync(api_key="sk_edits", base_url=sandbox.url, guard=guard) as client:
        yield client


async def edit(
    sync: AsyncSync, sandbox: Sandbox, replacement: str = "Thursday", take: int = 1
) -> DialogueEdit:
    url = sandbox.samples.speaking
    transcript = await words_of(sync, url)
    tuesday = next(word.id for word in transcript.words if word.text == "Tuesday")
    change = WordChange(word_id=tuesday, replacement=replacement)
    return await sync.dialogue_edits.create(
        source_video_url=url, transcript=transcript, edits=[change], take=take
    )


async def words_of(sync: AsyncSync, url: str) -> Transcript:
    made = await sync.transcriptions.create(source_video_url=url)
    assert made.transcript
    return made.transcript


def posts(sandbox: Sandbox) -> int:
    return sum((one.method, one.path) == ("POST", EDITS) for one in sandbox.requests)


def entry_of(ledger: Ledger, job: DialogueEdit, sandbox: Sandbox) -> Entry:
    entry = ledger.maker_of(job.id, sandbox.url)
    assert entry
    return entry


async def test_the_same_edit_is_made_once_and_another_or_another_take_is_another(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    first = await edit(sync, sandbox)
    assert (await edit(sync, sandbox)).id == first.id
    others = [await edit(sync, sandbox, "Friday"), await edit(sync, sandbox, take=2)]
    assert len({first.id, *(other.id for other in others)}) == posts(sandbox) == len(sandbox.charges) == 3


async def test_the_ledger_says_what_it_was_and_holds_what_the_user_says(
    sync: AsyncSync, sandbox: Sandbox, ledger: Ledger, guard: Guard
) -> None:
    sandbox.add_fault(Fault(path=EDITS, end_status="COMPLETED_PARTIAL"))
    made = await edit(sync, sandbox)
    entry = entry_of(ledger, made, sandbox)
    assert (entry.kind, entry.title, entry.counted_usd) == ("dialogue_edit", "Tuesday > Thursday", HELD)
    # A preview in part has its result: nobody is asked before it is found again.
    spent = await guard.spending(sync)
    assert spent.ever_usd == HELD
    assert entry_of(ledger, made, sandbox).status == "COMPLETED"
    assert (await edit(sync, sandbox)).id == made.id


async def test_where_there_is_a_limit_it_is_refused_unless_it_is_said_what_to_hold(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    sandbox.configure(job_seconds=0)
    limits = Limits(per_day_usd=Decimal("0.50"))
    async with AsyncSync(api_key="sk_edits", base_url=sandbox.url, guard=Guard(ledger, limits)) as sync:
        with pytest.raises(LimitReached, match="publishes no price") as refused:
            await edit(sync, sandbox)
        assert refused.value.is_unpriced
    held = Guard(ledger, limits, unpriced_usd=HELD)
    async with AsyncSync(api_key="sk_edits", base_url=sandbox.url, guard=held) as sync:
        await edit(sync, sandbox)
        with pytest.raises(LimitReached, match=r"0\.30 USD"):
            await edit(sync, sandbox, "Friday")
    assert posts(sandbox) == 1


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_after_a_lost_answer_nothing_is_sent_again_and_the_money_stays_held(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard, drop: str
) -> None:
    sandbox.add_fault(Fault.model_validate({"method": "POST", "path": EDITS, "drop": drop}))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as unknown:
            await edit(sync, sandbox)
        assert unknown.value.reason == "untraceable"
        assert "nobody can find out" in unknown.value.next_step
    assert posts(sandbox) == 1
    spent = await guard.spending(sync)
    assert (spent.unresolved, spent.unresolved_usd) == (1, HELD)


async def test_what_the_api_refuses_costs_nothing_also_where_it_cannot_tell_the_rollout(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    for code, error in (
        ("dialogue_edit_removal_too_large", RequestRejectedError),
        ("generation_infra_service_unavailable", ServerError),
    ):
        sandbox.add_fault(Fault.api_error(code, method="POST", path=EDITS))
        with pytest.raises(error):
            await edit(sync, sandbox)
    assert (await guard.spending(sync)).ever_usd == 0
    assert posts(sandbox) == 2
    # What was refused is made when it is asked for again.
    await edit(sync, sandbox)
    assert len(sandbox.charges) == 1


async def test_the_user_is_asked_in_the_words_that_change_whatever_may_be_paid_unasked(
    sync: AsyncSync, sandbox: Sandbox, guard: Guard
) -> None:
    transcript = await words_of(sync, sandbox.samples.speaking)
    first = transcript.words[0]
    body = {
        "sourceVideoUrl": sandbox.samples.speaking,
        "transcript": transcript.to_wire(),
        "edits": [
            {"kind": "change", "wordId": first.id, "replacement": "Hi", "pronunciation": "high"},
            {"kind": "remove", "wordIds": [word.id for word in transcript.words[1:3]]},
        ],
    }
    asker = Asker("1000")
    call = PaidCall(sync, DialogueEditAct(body), approval=asker)
    made = await guard.create(call)
    [proposal] = asker.asked
    assert [reason.text for reason in proposal.reasons] == [
        "The API publishes no price for it: only the bill tells what it costs."
    ]
    assert proposal.attempts[0].intention.act.pieces({}) == [
        'video: "speaking.mp4"',
        'edit: "Welcome > Hi (said high)"',
        'edit: "without to the"',
    ]
    # It is found again by whoever asks, with another signature on its link and another project.
    signed = {**body, "projectId": "p", "sourceVideoUrl": body["sourceVideoUrl"]}
    again = await guard.create(PaidCall(sync, DialogueEditAct(signed)))
    assert again.job.id == made.job.id


def test_the_signature_of_its_video_does_not_count() -> None:
    def digest(url: str) -> str:
        act = DialogueEditAct({"sourceVideoUrl": url, "transcript": {}, "edits": []})
        return Intention(act, "org:one", "https://h").digest

    signed = "?X-Amz-Credential=a&X-Amz-Date=20261128T000000Z&X-Amz-Expires=60&X-Amz-Signature={}"
    assert digest(f"https://h/v.mp4{signed.format('1' * 64)}") == digest(
        f"https://h/v.mp4{signed.format('2' * 64)}"
    )
    assert digest("https://h/v.mp4") != digest("https://h/w.mp4")


def test_the_ids_of_a_transcription_and_the_asset_of_a_known_video_do_not_count() -> None:
    """Two processes that are told the same at once may have an asset and a transcription each."""

    def digest(asset: str, begin: str, changed: int, source: str | None = "sha256:1234") -> str:
        texts = ("on", "Tuesday", "or", "on", "Friday")
        words = [{"id": f"{begin}{number}", "text": text} for number, text in enumerate(texts)]
        body = {
            "sourceVideoUrl": f"https://h/{asset}.mp4",
            "transcript": {"id": begin, "segments": [{"words": words}]},
            "edits": [{"kind": "change", "wordId": f"{begin}{changed}", "replacement": "by"}],
        }
        return Intention(DialogueEditAct(body, source), "org:one", "https://h").digest

    assert digest("one", "a", 0) == digest("two", "b", 0)
    assert digest("one", "a", 0) != digest("one", "a", 3), "the same word in another place"
    assert digest("one", "a", 0) != digest("one", "a", 1)
    assert digest("one", "a", 0) != digest("one", "a", 0, "sha256:5678")
    assert digest("one", "a", 0, None) != digest("two", "a", 0, None)
