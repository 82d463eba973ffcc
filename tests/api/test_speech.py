"""Speech by the client: as a job where the organization has them, and else at once (API §9)."""

from collections.abc import Callable
from typing import Any

import pytest

from sync_mcp import AsyncSync, InvalidRequestError, NotFoundError, OutcomeUnknown, RequestRejectedError
from sync_mcp.api.speech import Speech
from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import VOICE

pytestmark = pytest.mark.anyio

JOBS, AT_ONCE = "/v2/tts/jobs", "/v2/tts"


def bodies(sandbox: Sandbox, path: str) -> list[Any]:
    return [one.body for one in sandbox.requests if (one.method, one.path) == ("POST", path)]


async def test_speech_is_a_job_that_is_asked_for_until_it_has_its_sound(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    made = await sync.speech.create(script="Hello.", voice_id=VOICE, stability=0, similarity_boost=0.2)
    assert (made.status, made.finished, made.url) == ("PENDING", False, None)
    asked = {"script": "Hello.", "voiceId": VOICE, "provider": "elevenlabs"}
    assert bodies(sandbox, JOBS) == [{**asked, "stability": 0, "similarityBoost": 0.2}]
    assert await sync.speech.wait(made.id, 0, known=made) == made
    sandbox.advance(60)
    ended = await sync.speech.wait(made.id, 30)
    assert (ended.id, ended.status, ended.finished, bool(ended.url)) == (made.id, "SUCCESS", True, True)
    assert (await sync.speech.get(made.id)).duration == ended.duration


async def test_where_there_are_no_speech_jobs_it_is_there_at_once(sync: AsyncSync, sandbox: Sandbox) -> None:
    sandbox.configure(speech_jobs=False)
    made = await sync.speech.create(script="Hello.", voice_id=VOICE)
    assert (made.status, made.finished, bool(made.url), bool(made.duration)) == ("SUCCESS", True, True, True)
    with pytest.raises(NotFoundError):
        await sync.speech.get(made.id)
    assert (len(bodies(sandbox, AT_ONCE)), len(sandbox.charges), sync.speech.has_jobs) == (1, 1, False)


async def test_speech_at_once_carries_no_key_and_is_never_sent_twice(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    sync.speech.has_jobs = False
    sandbox.add_fault(Fault(method="POST", path=AT_ONCE, drop="after"))
    with pytest.raises(OutcomeUnknown, match="takes no key") as unknown:
        await sync.speech.create(script="Hello.", voice_id=VOICE)
    assert (unknown.value.reason, unknown.value.idempotency_key) == ("untraceable", "")
    assert "Idempotency key" not in unknown.value.message
    [sent] = [one for one in sandbox.requests if one.method == "POST"]
    assert "idempotency-key" not in sent.headers


def given_or(given: dict[str, Any]) -> dict[str, Any]:
    """Return what a speech is made of, as far as it is not given otherwise."""
    return {"script": "Hello.", "voice_id": VOICE, **given}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"script": "x" * 5001}, "5,001 characters"),
        ({"script": " "}, "script is empty"),
        ({"voice_id": ""}, "voice_id is missing"),
        ({"stability": 2}, "stability must lie"),
        ({"similarity_boost": -1}, "similarity_boost must lie"),
        ({"take": 2}, "take counts with a guard"),
    ],
)
async def test_what_cannot_be_said_is_refused_before_anything_is_sent(
    sync: AsyncSync, sandbox: Sandbox, given: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidRequestError, match=word):
        await sync.speech.create(**given_or(given))
    assert sandbox.requests == []


async def test_a_voice_that_does_not_exist_is_refused_and_costs_nothing(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        await sync.speech.create(script="Hello.", voice_id="nobody")
    assert (refused.value.api_code, refused.value.money_spent) == ("voice_not_found", "no")
    assert sandbox.charges == []


async def test_a_job_that_failed_says_why(sync: AsyncSync, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(job="fail", error_code="voice_blocked"))
    made = await sync.speech.create(script="Hello.", voice_id=VOICE)
    sandbox.advance(60)
    ended = await sync.speech.wait(made.id, 5)
    assert (ended.status, ended.error_code, ended.url) == ("FAILED", "voice_blocked", None)


@pytest.mark.parametrize("answer", [{"id": "1"}, {"status": "PENDING"}, {}, []])
def test_what_has_no_id_or_neither_a_status_nor_a_sound_is_no_speech(answer: object) -> None:
    assert Speech.list_from_wire([answer]) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "voice_blocked"}, "voice_blocked"),
        ("voice_blocked", "voice_blocked"),
        (None, None),
        (1, None),
    ],
)
def test_the_reason_of_a_failure_is_read_in_whatever_form_it_comes(error: object, code: str | None) -> None:
    speech: Callable[[object], Speech] = Speech.from_wire
    assert speech({"id": "1", "status": "FAILED", "error": error}).error_code == code
