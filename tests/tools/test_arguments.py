"""Strict where a slip costs money, forgiving where the meaning is plain."""

import pytest

from sync_mcp.sandbox import Sandbox

from .assistant import AUDIO, VIDEO, Assistant, Facts, as_json, media, refusal, sent

pytestmark = pytest.mark.anyio

SEGMENT: Facts = {"start_time": 0, "end_time": 1, "audio_input": {"ref_id": "a"}}


@pytest.mark.parametrize(
    ("arguments", "place", "near"),
    [
        ({"input": [VIDEO, AUDIO], "modle": "sync-3"}, "modle", "model"),
        ({"input": [VIDEO, AUDIO], "webhook": "https://h/x"}, "webhook", "webhook_url"),
        ({"input": [VIDEO, {**AUDIO, "ulr": "x"}]}, "input[1].ulr", "url"),
        ({"input": [VIDEO, {**AUDIO, "assetsId": "x"}]}, "input[1].assets_id", "asset_id"),
        ({"options": {"snyc_mode": "loop"}}, "options.snyc_mode", "sync_mode"),
        (
            {"options": {"active_speaker_detection": {"autodetect": True}}},
            "options.active_speaker_detection.autodetect",
            "auto_detect",
        ),
        ({"segments": [{**SEGMENT, "endtime": 2}]}, "segments[0].endtime", "end_time"),
        ({"segments": [{"audio_input": {"refid": "a"}}]}, "segments[0].audio_input.refid", "ref_id"),
        (
            {"segments": [{**SEGMENT, "options_override": {"temprature": 1}}]},
            "segments[0].options_override.temprature",
            "temperature",
        ),
        ({"dub": {"target_language": "es"}}, "dub.target_language", "target_lang"),
    ],
)
async def test_an_unknown_name_at_any_depth_is_refused_with_the_near_one(
    assistant: Assistant, sandbox: Sandbox, arguments: Facts, place: str, near: str
) -> None:
    for tool in ("create_generation", "estimate_cost"):
        told = await refusal(assistant, sandbox, tool, arguments)
        assert f"There is no argument '{place}'; did you mean '{near}'?" in told


async def test_an_unknown_name_of_the_reading_tools_is_refused_too(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told = await refusal(assistant, sandbox, "get_generation", {"id": "x", "wait_second": 5})
    assert "'wait_second'; did you mean 'wait_seconds'?" in told
    told = await refusal(assistant, sandbox, "list_generations", {"cursr": "x"})
    assert "'cursr'; did you mean 'cursor'?" in told
    told = await refusal(assistant, sandbox, "list_generations", {"zzz": "x"})
    assert "There is no argument 'zzz'." in told


async def test_a_misspelt_wait_is_no_create_without_a_wait(assistant: Assistant, sandbox: Sandbox) -> None:
    await refusal(assistant, sandbox, "create_generation", {"input": media(sandbox), "wait": 20})


async def test_camel_case_is_read_at_every_depth(assistant: Assistant, sandbox: Sandbox) -> None:
    video, audio = media(sandbox)
    request = {
        "input": [video, {**audio, "refId": "a"}],
        "options": {"syncMode": "loop", "activeSpeakerDetection": {"autoDetect": True}},
        "segments": [
            {
                "startTime": 0,
                "endTime": 2,
                "audioInput": {"refId": "a", "startTime": 0, "endTime": 2},
                "optionsOverride": {"syncMode": "cut_off"},
            }
        ],
        "webhookUrl": "https://example.com/hook",
        "outputFileName": "clip",
        "projectId": sandbox.project_id,
        "waitSeconds": 0,
    }
    await assistant.facts("create_generation", request)
    [body] = sent(sandbox)
    assert body["options"] == {"sync_mode": "loop", "active_speaker_detection": {"auto_detect": True}}
    assert body["segments"] == [
        {
            "startTime": 0,
            "endTime": 2,
            "audioInput": {"refId": "a", "startTime": 0, "endTime": 2},
            "optionsOverride": {"sync_mode": "cut_off"},
        }
    ]
    assert body["webhookUrl"] == "https://example.com/hook"
    assert body["outputFileName"] == "clip"
    assert body["projectId"] == sandbox.project_id


@pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])
async def test_arrays_and_objects_may_come_as_json_strings(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    video, audio = media(sandbox)
    inner = as_json({"audio_input": as_json({"ref_id": "a"}), "start_time": 0, "end_time": 1})
    arguments = {
        "input": as_json([as_json(video), {**audio, "ref_id": "a"}]),
        "options": as_json({"sync_mode": "loop"}),
        "segments": [inner],
        "dub": "null",
    }
    await assistant.facts(tool, arguments)
    path = "/v2/generate" if tool == "create_generation" else "/v2/analyze/cost"
    [body] = sent(sandbox, path)
    assert body["input"] == [video, {**audio, "refId": "a"}]
    assert body["options"] == {"sync_mode": "loop"}
    assert body["segments"][0]["audioInput"] == {"refId": "a"}
    assert "dubParams" not in body


@pytest.mark.parametrize("nothing", [None, ""])
async def test_null_and_the_empty_text_leave_an_optional_argument_out(
    assistant: Assistant, sandbox: Sandbox, nothing: str | None
) -> None:
    video, audio = media(sandbox)
    names = ("model", "options", "segments", "webhook_url", "output_file_name", "project_id", "dub")
    arguments: Facts = {
        "input": [{**video, "asset_id": nothing, "ref_id": nothing, "script": nothing}, audio],
        **dict.fromkeys(names, nothing),
        "wait_seconds": nothing,
    }
    told = await assistant.facts("create_generation", arguments)
    assert told["model"] == "lipsync-2"
    assert sent(sandbox) == [{"model": "lipsync-2", "input": [video, audio]}]
    listed = await assistant.facts("list_generations", status=nothing, limit=nothing, cursor=nothing)
    assert len(listed["generations"]) == 1


@pytest.mark.parametrize("nothing", [None, ""])
async def test_nothing_does_not_stand_for_a_required_argument(
    assistant: Assistant, sandbox: Sandbox, nothing: str | None
) -> None:
    for tool, arguments, name in (
        ("create_generation", {"input": nothing}, "input"),
        ("get_generation", {"generation_id": nothing}, "generation_id"),
        ("create_generation", {"input": [{"type": nothing}, AUDIO]}, "input[0].type"),
        ("create_generation", {"input": [VIDEO], "dub": {"target_lang": nothing}}, "dub.target_lang"),
        (
            "estimate_cost",
            {"input": [VIDEO, AUDIO], "segments": [{**SEGMENT, "audio_input": {"ref_id": nothing}}]},
            "segments[0].audio_input.ref_id",
        ),
    ):
        assert f"{name} is missing." in await refusal(assistant, sandbox, tool, arguments)


async def test_all_faults_of_the_form_are_reported_together(assistant: Assistant, sandbox: Sandbox) -> None:
    arguments = {
        "modle": "x",
        "input": [{"type": "vidoe", "url": 5}, {"url": "https://h/a.wav"}],
        "options": {"temperature": 3, "sync_mode": "lop"},
        "wait_seconds": -1,
    }
    told = await refusal(assistant, sandbox, "create_generation", arguments)
    for sentence in (
        "'modle'; did you mean 'model'?",
        "input[0].type must be one of video, image, audio, text, not 'vidoe'; did you mean 'video'?",
        "input[0].url must be a text.",
        "input[1].type is missing.",
        "options.temperature must be at most 1.",
        "options.sync_mode must be one of bounce, loop, cut_off, silence, remap, not 'lop'; did you mean",
        "wait_seconds must be at least 0.",
    ):
        assert sentence in told
    assert told.count("input[0].type") == 1


async def test_all_faults_of_the_sense_are_reported_together(assistant: Assistant, sandbox: Sandbox) -> None:
    arguments = {
        "input": [{**VIDEO, "script": "Hello"}, {"type": "image", "url": "x"}, {"type": "audio"}],
        "webhook_url": "http://insecure.example.com",
        "output_file_name": "a b.mp4",
        "project_id": "7",
    }
    told = await refusal(assistant, sandbox, "create_generation", arguments)
    for words in (
        "input[0] (video) does not take script.",
        "input needs exactly one video or image, and has 2.",
        "input[1].url must be a whole http or https URL",
        "input[2] (audio) has no path, url or asset_id: give path,",
        "webhook_url must be a whole https URL",
        "output_file_name may hold",
        "project_id must be the UUID",
    ):
        assert words in told, words


async def test_a_name_given_twice_with_one_meaning_is_read_once(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    options: list[Facts] = [{"syncMode": "loop"}, {"sync_mode": "LOOP"}]
    arguments = {"input": media(sandbox), "options": options[0], "Options": as_json(options[1])}
    await assistant.facts("create_generation", arguments)
    assert sent(sandbox)[0]["options"] == {"sync_mode": "loop"}


@pytest.mark.parametrize(
    ("tool", "arguments", "name"),
    [
        ("get_generation", {"id": "a", "generationId": "b"}, "generation_id"),
        ("create_generation", {"input": [VIDEO, AUDIO], "wait_seconds": 5, "waitSeconds": 6}, "wait_seconds"),
        ("create_generation", {"input": [{**VIDEO, "assetId": "a", "asset_id": "b"}]}, "input[0].asset_id"),
    ],
)
async def test_a_name_given_twice_with_two_meanings_is_refused(
    assistant: Assistant, sandbox: Sandbox, tool: str, arguments: Facts, name: str
) -> None:
    told = await refusal(assistant, sandbox, tool, arguments)
    assert f"{name} is given twice with different values" in told
