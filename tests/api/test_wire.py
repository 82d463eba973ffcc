from typing import Any

import pytest

from sync_mcp import (
    ActiveSpeaker,
    AsyncSync,
    Audio,
    Dub,
    GenerationOptions,
    Image,
    OtherInput,
    RequestRejectedError,
    Segment,
    SegmentAudioInput,
    SegmentOptions,
    Text,
    Video,
)
from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import VOICE

pytestmark = pytest.mark.anyio

Request = dict[str, Any]


async def _sent(sandbox: Sandbox, sync: AsyncSync, request: Request) -> Request:
    """Create it, and return what reached the API, which accepted it once and estimates it alike."""
    generation = await sync.generations.create(**request)
    created = sandbox.requests[-1]
    assert (created.method, created.path, created.status) == ("POST", "/v2/generate", 201)
    assert [charge.generation_id for charge in sandbox.charges] == [generation.id]
    await sync.generations.estimate_cost(**request)
    assert sandbox.requests[-1].body == created.body
    assert isinstance(created.body, dict)
    return created.body


async def test_a_video_and_a_recording_reach_the_api_as_it_spells_them(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    items = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    assert await _sent(sandbox, sync, {"model": "lipsync-2", "input": items}) == {
        "model": "lipsync-2",
        "input": [
            {"type": "video", "url": sandbox.samples.video},
            {"type": "audio", "url": sandbox.samples.audio},
        ],
    }


async def test_an_image_and_a_script_reach_the_api_as_it_spells_them(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    text = Text(script="x" * 5000, voice_id=VOICE, stability=0, similarity_boost=1)
    options = GenerationOptions(active_speaker_detection=ActiveSpeaker(coordinates=[0, 5], frame_number=0))
    request = {"model": "sync-3", "input": [Image(url=sandbox.samples.image), text], "options": options}
    assert await _sent(sandbox, sync, request) == {
        "model": "sync-3",
        "input": [
            {"type": "image", "url": sandbox.samples.image},
            {
                "type": "text",
                "provider": {
                    "name": "elevenlabs",
                    "voiceId": VOICE,
                    "script": "x" * 5000,
                    "stability": 0,
                    "similarityBoost": 1,
                },
            },
        ],
        "options": {"active_speaker_detection": {"coordinates": [0, 5], "frame_number": 0}},
    }


async def test_segments_reach_the_api_as_it_spells_them(sandbox: Sandbox, sync: AsyncSync) -> None:
    override = SegmentOptions(
        sync_mode="cut_off",
        temperature=1,
        occlusion_detection_enabled=True,
        active_speaker_detection=ActiveSpeaker(auto_detect=True),
    )
    request = {
        "model": "lipsync-2-pro",
        "input": [
            Video(url=sandbox.samples.video),
            Audio(url=sandbox.samples.audio, ref_id="one"),
            Text(script="Hello.", voice_id=VOICE, ref_id="two"),
        ],
        # Out of order, and one begins where the other ends.
        "segments": [
            Segment(
                start_time=1.5,
                end_time=2.5,
                audio_input=SegmentAudioInput(ref_id="two"),
                options_override=override,
            ),
            Segment(
                start_time=0,
                end_time=1.5,
                audio_input=SegmentAudioInput(ref_id="one", start_time=0, end_time=1.5),
            ),
        ],
    }
    body = await _sent(sandbox, sync, request)
    assert body["input"][1] == {"type": "audio", "url": sandbox.samples.audio, "refId": "one"}
    assert body["input"][2]["refId"] == "two"
    assert body["segments"] == [
        {
            "startTime": 1.5,
            "endTime": 2.5,
            "audioInput": {"refId": "two"},
            "optionsOverride": {
                "sync_mode": "cut_off",
                "temperature": 1,
                "occlusion_detection_enabled": True,
                "active_speaker_detection": {"auto_detect": True},
            },
        },
        {"startTime": 0, "endTime": 1.5, "audioInput": {"refId": "one", "startTime": 0, "endTime": 1.5}},
    ]


async def test_a_dub_reaches_the_api_as_it_spells_it(sandbox: Sandbox, sync: AsyncSync) -> None:
    request = {
        "model": "lipsync-2",
        "input": [Video(url=sandbox.samples.speaking)],
        "dub": Dub(target_lang="es", source_lang="en"),
    }
    assert await _sent(sandbox, sync, request) == {
        "model": "lipsync-2",
        "input": [{"type": "video", "url": sandbox.samples.speaking}],
        "dubParams": {"targetLang": "es", "sourceLang": "en", "providerName": "elevenlabs"},
    }


async def test_all_that_can_be_set_reaches_the_api_as_it_spells_it(sandbox: Sandbox, sync: AsyncSync) -> None:
    request = {
        "model": "lipsync-2",
        "input": [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)],
        "options": GenerationOptions(
            sync_mode="loop",
            temperature=0,
            active_speaker_detection=ActiveSpeaker(
                auto_detect=False, v3=True, bounding_boxes=[None, [1, 2, 3, 4]]
            ),
            occlusion_detection_enabled=False,
            model_mode="lips",
            prompt="sad",
            reasoning_enabled=True,
        ),
        "webhook_url": "https://example.com/hook?a=1",
        "output_file_name": "Take_2-final",
        "project_id": sandbox.project_id,
    }
    body = await _sent(sandbox, sync, request)
    del body["input"]
    assert body == {
        "model": "lipsync-2",
        "options": {
            "sync_mode": "loop",
            "temperature": 0,
            "active_speaker_detection": {
                "auto_detect": False,
                "v3": True,
                "bounding_boxes": [None, [1, 2, 3, 4]],
            },
            "occlusion_detection_enabled": False,
            "model_mode": "lips",
            "prompt": "sad",
            "reasoning_enabled": True,
        },
        "webhookUrl": "https://example.com/hook?a=1",
        "outputFileName": "Take_2-final",
        "projectId": sandbox.project_id,
    }


async def test_what_is_empty_is_left_out_of_the_request(sandbox: Sandbox, sync: AsyncSync) -> None:
    request = {
        "model": "lipsync-2",
        "input": [Video(url=sandbox.samples.video, asset_id=""), Audio(url=sandbox.samples.audio)],
        "segments": [],
        "webhook_url": "",
        "output_file_name": "",
        "project_id": "",
    }
    assert set(await _sent(sandbox, sync, request)) == {"model", "input"}


async def test_words_that_are_new_to_the_api_are_left_to_it(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(extra_models=("lipsync-9",))
    request: Request = {
        "model": "lipsync-9",
        "input": [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)],
        "options": GenerationOptions.model_validate(
            {"sync_mode": "loop", "new_option": {"deep": [None, ""]}}
        ),
    }
    body = await _sent(sandbox, sync, request)
    assert body["options"] == {"sync_mode": "loop", "new_option": {"deep": [None, ""]}}


async def test_an_input_of_a_new_kind_is_left_to_the_api(sandbox: Sandbox, sync: AsyncSync) -> None:
    hologram = OtherInput.model_validate({"type": "hologram", "beamWidth": 3})
    for known in (Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)):
        with pytest.raises(RequestRejectedError):
            await sync.generations.create(model="lipsync-2", input=[hologram, known])
        body = sandbox.requests[-1].body
        assert isinstance(body, dict)
        assert body["input"] == [{"type": "hologram", "beamWidth": 3}, known.to_wire()]
    assert sandbox.charges == []


async def test_items_may_be_given_as_objects_in_either_spelling(sandbox: Sandbox, sync: AsyncSync) -> None:
    items = [
        {"type": "video", "url": sandbox.samples.video, "ref_id": "v"},
        {"type": "audio", "url": sandbox.samples.audio, "refId": "a"},
    ]
    body = await _sent(sandbox, sync, {"model": "lipsync-2", "input": items})
    assert body["input"] == [
        {"type": "video", "url": sandbox.samples.video, "refId": "v"},
        {"type": "audio", "url": sandbox.samples.audio, "refId": "a"},
    ]
