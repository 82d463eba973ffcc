from functools import partial
from typing import Any

import anyio
import pytest

from sync_mcp.api.generations import Generations
from sync_mcp.sandbox import Fault, Sandbox
from tests.api.conftest import until
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, arrived, creates, media, quote_in, sent

pytestmark = pytest.mark.anyio

MODELS = ("sync-3", "lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta", "react-1")


async def test_a_create_answers_at_once_with_the_handle_and_what_to_call_next(
    either_era: Assistant, sandbox: Sandbox
) -> None:
    told = await either_era.facts("create_generation", input=media(sandbox), model="lipsync-2-pro")
    assert told["generation_id"] in sandbox.generations
    assert (told["status"], told["model"]) == ("PENDING", "lipsync-2-pro")
    assert not {"output_url", "charged", "note", "model_note"} & told.keys()
    for words in ("get_generation with wait_seconds 45", "do not create it again"):
        assert words in told["next_step"]
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(("visual", "model"), [("video", "lipsync-2"), ("image", "sync-3")])
async def test_the_model_taken_by_default_is_said_and_no_word_of_the_others(
    assistant: Assistant, sandbox: Sandbox, visual: str, model: str
) -> None:
    url = sandbox.samples.video if visual == "video" else sandbox.samples.image
    request = [{"type": visual, "url": url}, media(sandbox)[1]]
    told = await assistant.call("create_generation", input=request)
    assert (told.facts["model"], sent(sandbox)[0]["model"]) == (model, model)
    assert not any(other in told.text.split() for other in MODELS if other != model)


async def test_a_script_and_a_dub_reach_the_api_as_it_spells_them(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    video = media(sandbox)[0]
    speech = {"type": "text", "script": "Hello.", "voice_id": VOICE, "stability": 0, "similarity_boost": 0.2}
    await assistant.facts("create_generation", input=[video, speech])
    dub = {"target_lang": "es", "source_lang": "en"}
    speaking = {"type": "video", "url": sandbox.samples.speaking}
    await assistant.facts("create_generation", input=[speaking], dub=dub)
    spoken, dubbed = sent(sandbox)
    provider = {"name": "elevenlabs", "voiceId": VOICE, "script": "Hello."}
    assert spoken["input"][1] == {
        "type": "text",
        "provider": {**provider, "stability": 0, "similarityBoost": 0.2},
    }
    assert dubbed["input"] == [speaking]
    assert dubbed["dubParams"] == {"targetLang": "es", "sourceLang": "en", "providerName": "elevenlabs"}


async def test_a_job_that_ends_within_the_wait_is_the_answer(either_era: Assistant, sandbox: Sandbox) -> None:
    either_era.on_progress = lambda: sandbox.advance(60)
    told = await either_era.facts("create_generation", input=media(sandbox), wait_seconds=30)
    assert told["status"] == "COMPLETED"
    assert told["output_url"].startswith(f"{sandbox.url}/outputs/{told['generation_id']}.mp4?")
    assert told["output_duration_seconds"] > 0
    assert "model_note" not in told
    assert len(sandbox.charges) == 1
    assert [progress for progress, _, _ in either_era.progress] == sorted(
        progress for progress, _, _ in either_era.progress
    )


async def test_a_job_that_fails_within_the_wait_is_explained(assistant: Assistant, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(job="fail", error_code="generation_input_video_invalid"))
    assistant.on_progress = lambda: sandbox.advance(60)
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=30)
    assert (told["status"], told["api_code"]) == ("FAILED", "generation_input_video_invalid")
    # It ended a moment ago: what the API is going to charge may not be recorded yet.
    assert told["charged"] == "unknown"
    assert "may have been charged" in told["next_step"]
    assert told["remedy"].startswith("Ask the user for the video as MP4 with H.264")
    assert told["api_says"].endswith("Convert it to H.264 in MP4.")


async def test_a_wait_that_is_too_short_ends_in_the_handle(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=0.1)
    assert told["status"] in ("PENDING", "PROCESSING")
    assert told["generation_id"] in sandbox.generations
    assert "get_generation with wait_seconds 45" in told["next_step"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404, "body": {"message": "gone"}},
        {"status": 401, "body": {"message": "Unauthorized"}},
        {"status": 503, "body": {"message": "down"}},
        {"html": True},
        {"drop": "before"},
        {"status": 200, "body": {"id": 5}},
    ],
    ids=lambda fault: next(iter(fault.items()))[0],
)
async def test_whatever_becomes_of_the_wait_the_answer_is_the_handle(
    assistant: Assistant, sandbox: Sandbox, fault: Facts
) -> None:
    for path in ("/v2/generate/*", "/v2/generations/*"):
        sandbox.add_fault(Fault.model_validate({**fault, "method": "GET", "path": path, "times": None}))
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=0.2)
    assert told["generation_id"] in sandbox.generations
    assert told["status"] == "PENDING"
    assert len(sandbox.charges) == 1


async def test_a_fault_of_this_program_in_the_wait_does_not_hide_the_job_either(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(Generations, "wait", broken)
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=10)
    assert told["generation_id"] in sandbox.generations


async def test_the_same_call_again_is_told_the_same_job_as_often_as_it_is_made(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    first = await assistant.facts("create_generation", input=media(sandbox))
    assert not {"reused", "note"} & first.keys()
    running = [await assistant.facts("create_generation", input=media(sandbox)) for _ in range(2)]
    sandbox.advance(60)
    ended = [await assistant.facts("create_generation", input=media(sandbox)) for _ in range(2)]
    for again in (*running, *ended):
        assert again["generation_id"] == first["generation_id"]
        assert again["reused"] is True
        assert "nothing new was made or paid" in again["note"]
    assert [told["status"] for told in running] == ["PENDING"] * 2
    assert all(told["status"] == "COMPLETED" and told["output_url"] for told in ended)
    assert len(creates(sandbox)) == len(sandbox.charges) == 1


async def test_what_only_names_the_result_makes_no_second_job_and_is_told(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    first = await assistant.facts("create_generation", input=media(sandbox), output_file_name="one")
    for more in ({}, {"output_file_name": "two"}, {"webhook_url": "https://example.com/hook"}):
        again = await assistant.facts("create_generation", input=media(sandbox), **more)
        assert again["generation_id"] == first["generation_id"]
        assert "output_file_name" in again["note"]
        assert ("webhook_url" in again["note"]) == ("webhook_url" in more)
    assert len(creates(sandbox)) == 1


async def test_another_take_is_asked_about_and_then_made_once(assistant: Assistant, sandbox: Sandbox) -> None:
    first = await assistant.facts("create_generation", input=media(sandbox))
    asked = await assistant.error("create_generation", input=media(sandbox), take=2)
    assert (asked.code, asked.money_spent) == ("approval_required", "no")
    assert len(creates(sandbox)) == 1
    quote = {"quote_id": quote_in(asked)}
    second = await assistant.facts("create_generation", input=media(sandbox), take=2, **quote)
    assert second["generation_id"] != first["generation_id"]
    assert "reused" not in second
    again = await assistant.facts("create_generation", input=media(sandbox), take=2)
    assert (again["generation_id"], again["reused"]) == (second["generation_id"], True)
    keys = {charge.idempotency_key for charge in sandbox.charges}
    assert len(keys) == len(sandbox.charges) == 2


async def test_for_unattended_work_each_take_is_made_without_asking(
    unattended: Assistant, sandbox: Sandbox
) -> None:
    told = [
        await unattended.facts("create_generation", input=media(sandbox), take=take) for take in (1, 2, 3)
    ]
    assert len({facts["generation_id"] for facts in told}) == len(sandbox.charges) == 3


async def test_after_a_failure_that_cost_nothing_the_same_call_makes_the_next_attempt(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(job="fail"))
    failed = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert "ended FAILED and may have been charged" in asked.text
    sandbox.advance(610)
    second = await assistant.facts("create_generation", input=media(sandbox))
    assert second["generation_id"] != failed["generation_id"]
    assert "reused" not in second
    assert f"{failed['generation_id']}) ended FAILED and was not charged" in second["note"]
    first_sent, second_sent = creates(sandbox)
    assert first_sent.headers["idempotency-key"] != second_sent.headers["idempotency-key"]
    assert [charge.released for charge in sandbox.charges] == [True, False]


async def test_after_a_failure_that_was_paid_the_user_is_asked_before_the_next_attempt(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(job="fail", charged=True))
    failed = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert (asked.code, asked.money_spent) == ("approval_required", "no")
    assert f"{failed['generation_id']}) ended FAILED and was charged" in asked.text
    assert len(creates(sandbox)) == 1
    second = await assistant.facts("create_generation", input=media(sandbox), quote_id=quote_in(asked))
    assert second["generation_id"] != failed["generation_id"]
    assert len(creates(sandbox)) == len(sandbox.charges) == 2


async def test_identical_calls_at_once_make_one_job(assistant: Assistant, sandbox: Sandbox) -> None:
    told: list[Facts] = []

    async def create(**more: object) -> None:
        told.append(await assistant.facts("create_generation", input=media(sandbox), **more))

    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=0.3))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as calls:
            for _ in range(4):
                calls.start_soon(create)
            # The same request, however it is spelled.
            calls.start_soon(partial(create, model="lipsync-2", wait_seconds=0, options={}))
    assert len({facts["generation_id"] for facts in told}) == len(sandbox.charges) == 1
    assert sum(facts.get("reused", False) for facts in told) == 4
    assert len(creates(sandbox)) == 1


async def test_a_create_joins_the_same_one_that_still_waits_for_its_end(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told: list[Facts] = []

    async def create() -> None:
        told.append(await assistant.facts("create_generation", input=media(sandbox), wait_seconds=40))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as calls:
            calls.start_soon(create)
            await arrived(sandbox, "GET", "/v2/generate/*")
            told.append(await assistant.facts("create_generation", input=media(sandbox)))
            sandbox.advance(60)
    second, first = told
    assert second["generation_id"] == first["generation_id"]
    assert second["reused"] is True
    assert "reused" not in first
    assert first["status"] == "COMPLETED"
    assert len(sandbox.charges) == 1


async def test_different_creates_at_once_are_different_jobs(assistant: Assistant, sandbox: Sandbox) -> None:
    async def create(model: str) -> None:
        await assistant.facts("create_generation", input=media(sandbox), model=model)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as calls:
            for model in MODELS[1:4]:
                calls.start_soon(create, model)
    assert sorted(body["model"] for body in sent(sandbox)) == sorted(MODELS[1:4])
    assert len({charge.idempotency_key for charge in sandbox.charges}) == 3


async def test_a_cost_that_no_job_has_does_not_hide_the_job_and_its_estimate_stands(
    unattended: Assistant, sandbox: Sandbox
) -> None:
    made = await unattended.facts("create_generation", input=media(sandbox))
    sandbox.advance(100)
    body: Facts = {"availability": "complete", "totalCostUsd": "1e30", "knownSubtotalUsd": "1e30"}
    sandbox.add_fault(Fault(path="/v2/generate/*/costs", status=200, body=body, times=None))
    again = await unattended.facts("create_generation", input=media(sandbox))
    assert (again["generation_id"], again["status"]) == (made["generation_id"], "COMPLETED")
    assert "It cost" not in again["note"]
    assert (await unattended.facts("get_account"))["spent_ever_usd"] == 0.226


async def test_a_create_that_waits_for_a_slot_and_a_wait_for_the_job_that_has_it_share_one_watcher(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure(plan="hobbyist")
    first = await assistant.facts("create_generation", input=media(sandbox))
    # A wait for a slot that is not the server's own watcher's could not begin.
    monkeypatch.setattr("sync_mcp.payments.slots.Watcher", None)
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.01)
    told: list[Facts] = []

    async def create() -> None:
        request = [media(sandbox)[0], {"type": "text", "script": "Hello.", "voice_id": VOICE}]
        told.append(await assistant.facts("create_generation", input=request, wait_seconds=40))

    def polled() -> bool:
        path = f"/v2/generate/{first['generation_id']}"
        return any(one.path == path and "wait" in one.query for one in sandbox.requests)

    with anyio.fail_after(50):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create)
            await until(polled)
            sandbox.advance(60)
            await until(lambda: len(sandbox.charges) == 2)
            sandbox.advance(60)
    assert told[0]["status"] == "COMPLETED"
