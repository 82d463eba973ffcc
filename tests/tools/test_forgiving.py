"""What is meant is done where that is safe: other shapes, fillers, wrappings, and what hosts add."""

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import VOICE

from .assistant import AUDIO, VIDEO, Assistant, Facts, as_json, asked, media, refusal, sent

pytestmark = pytest.mark.anyio

CREATES = pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])


def body_of(tool: str, sandbox: Sandbox) -> Facts:
    return sent(sandbox, "/v2/generate" if tool == "create_generation" else "/v2/analyze/cost")[-1]


async def made(assistant: Assistant, sandbox: Sandbox) -> str:
    return (await assistant.facts("create_generation", input=media(sandbox)))["generation_id"]


# More than the most.


async def test_a_wait_beyond_the_longest_is_taken_as_the_longest_and_told(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    made_id = await made(assistant, sandbox)
    sandbox.advance(600)
    note = "wait_seconds 300 was taken as 50, the most of one call."
    calls: list[tuple[str, Facts]] = [
        ("get_generation", {"generation_id": made_id}),
        ("wait_for_generations", {"generation_ids": [made_id]}),
        ("create_generation", {"input": media(sandbox)}),
    ]
    for tool, arguments in calls:
        for spelled in (300, "300", 300.0):
            told = await assistant.facts(tool, arguments, wait_seconds=spelled)
            assert told["next_step"].endswith(note), tool
        told = await assistant.facts(tool, arguments, wait_seconds=50)
        assert "was taken as" not in told["next_step"]


async def test_a_list_longer_than_a_page_is_taken_as_a_page_and_told(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told = await assistant.facts("list_generations", limit=1000)
    assert sandbox.requests[-1].query["limit"] == "51"
    assert "limit 1000 was taken as 50" in told["next_step"]


async def test_no_other_number_is_cut(assistant: Assistant, sandbox: Sandbox) -> None:
    given: Facts = {"input": media(sandbox), "max_cost_usd": 2_000_000, "take": 20_000}
    told = await refusal(assistant, sandbox, "create_generation", given)
    assert "max_cost_usd must be at most" in told
    assert "take must be at most 10000." in told
    await refusal(assistant, sandbox, "create_generation", {"input": media(sandbox), "wait_seconds": -1})


# Other shapes of input and dub.


@CREATES
async def test_an_input_may_be_one_object_or_named_by_kind(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    video, audio = media(sandbox)
    speaking = {"type": "video", "url": sandbox.samples.speaking}
    await assistant.facts(tool, input=speaking, dub={"target_lang": "es"})
    assert body_of(tool, sandbox)["input"] == [speaking]
    shapes: list[Any] = [
        {"video": video["url"], "audio": audio["url"]},
        {"video": {"url": video["url"]}, "audio": {**audio}},
        as_json({"video": f" <{video['url']}> ", "audio": {"url": audio["url"]}, "image": None}),
    ]
    for number, shape in enumerate(shapes):
        # Each is one and the same request: the ledger knows it again.
        told = await assistant.facts(tool, input=shape)
        assert bool(told.get("reused")) == (tool == "create_generation" and number > 0)
        assert body_of(tool, sandbox)["input"] == [video, audio]
    spoken = {"video": video["url"], "text": {"script": "Hello.", "voice_id": VOICE}}
    await assistant.facts(tool, input=spoken)
    assert body_of(tool, sandbox)["input"][1]["provider"]["script"] == "Hello."


@CREATES
async def test_an_input_may_be_a_url_or_several_whose_endings_tell_their_kind(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    video, audio = media(sandbox)
    await assistant.facts(tool, input=[video["url"], f"`{audio['url']}`"])
    assert body_of(tool, sandbox)["input"] == [video, audio]
    await assistant.facts(tool, input=sandbox.samples.speaking, dub="Spanish")
    assert body_of(tool, sandbox)["input"] == [{"type": "video", "url": sandbox.samples.speaking}]


async def test_an_input_may_be_a_path_whose_ending_tells_its_kind(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    as_items = [
        {"type": "video", "path": str(movies / "talk.mp4")},
        {"type": "audio", "path": str(movies / "voice.wav")},
    ]
    first = await local.facts("create_generation", input=as_items)
    again = await local.facts(
        "create_generation", input={"video": str(movies / "talk.mp4"), "audio": str(movies / "voice.wav")}
    )
    assert (again["generation_id"], again["reused"]) == (first["generation_id"], True)
    again = await local.facts(
        "create_generation", input=[f"`{movies / 'talk.mp4'}`", str(movies / "voice.wav")]
    )
    assert (again["generation_id"], again["reused"]) == (first["generation_id"], True)
    told = await local.error("create_generation", input=str(movies / "talk.mp4"))
    assert "input needs a voice" in told.text


async def test_a_text_that_names_no_file_is_no_input(assistant: Assistant, sandbox: Sandbox) -> None:
    for given in ("talk", "video and audio", "see talk.doc"):
        told = await refusal(assistant, sandbox, "create_generation", {"input": given})
        assert "input must be a JSON array" in told


@CREATES
@pytest.mark.parametrize("dub", ["Spanish", "es", " es ", {"target_lang": "es"}, '{"targetLang": "Spanish"}'])
async def test_a_dub_may_be_the_language_alone(
    assistant: Assistant, sandbox: Sandbox, tool: str, dub: object
) -> None:
    speaking = {"type": "video", "url": sandbox.samples.speaking}
    await assistant.facts(tool, input=[speaking], dub=dub)
    assert body_of(tool, sandbox)["dubParams"] == {"targetLang": "es", "providerName": "elevenlabs"}


async def test_a_dub_that_may_say_no_is_no_language(assistant: Assistant, sandbox: Sandbox) -> None:
    for dub in ("no", "No", "Spansh", True):
        told = await refusal(
            assistant, sandbox, "create_generation", {"input": media(sandbox)[:1], "dub": dub}
        )
        assert "dub" in told


# What hosts add, and what only fills a place.


@pytest.mark.parametrize("name", ["toolCallId", "sessionId", "action", "chatInput", "random_string"])
async def test_what_a_host_adds_to_every_call_is_left_out_with_a_line_in_the_log(
    assistant: Assistant, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.INFO, "sync_mcp.tools"):
        first = await assistant.facts("create_generation", {"input": media(sandbox), name: "x"})
    again = await assistant.facts("create_generation", {"input": media(sandbox), name: {"y": 1}})
    assert (again["generation_id"], again["reused"]) == (first["generation_id"], True)
    for tool in ("list_generations", "get_account", "list_models"):
        await assistant.facts(tool, {name: "x"})
    assert f"create_generation: left out what the host adds: {name}" in caplog.text


@pytest.mark.parametrize(
    "name", ["session_id", "tool_call_id", "Action", "toolcallid", "chat_input", "random"]
)
async def test_no_other_name_is_left_out_and_none_inside(
    assistant: Assistant, sandbox: Sandbox, name: str
) -> None:
    arguments = {"input": media(sandbox), name: "x"}
    assert "There is no argument" in await refusal(assistant, sandbox, "create_generation", arguments)
    inner = {"input": [VIDEO, {**AUDIO, "sessionId": "x"}]}
    assert "There is no argument" in await refusal(assistant, sandbox, "create_generation", inner)


@pytest.mark.parametrize("as_text", [False, True])
async def test_arguments_inside_arguments_are_the_arguments(
    assistant: Assistant, sandbox: Sandbox, *, as_text: bool
) -> None:
    inner: Facts = {"input": media(sandbox), "sessionId": "x"}
    wrapped: Facts = {"arguments": as_json(inner) if as_text else inner}
    first = await assistant.facts("create_generation", wrapped)
    for around in ({"toolCallId": "c"}, {"name": "create_generation"}):
        again = await assistant.facts("create_generation", {**wrapped, **around})
        assert again["generation_id"] == first["generation_id"]


async def test_arguments_beside_others_are_refused(assistant: Assistant, sandbox: Sandbox) -> None:
    wrapped: Facts = {"arguments": {"input": media(sandbox)}}
    for beside in ({"max_cost_usd": 1}, {"name": "estimate_cost"}, {"wait_seconds": 1}):
        told = await refusal(assistant, sandbox, "create_generation", {**wrapped, **beside})
        assert "There is no argument 'arguments'" in told


@CREATES
@pytest.mark.parametrize("filler", ["None", "null", "undefined"])
async def test_a_word_for_nothing_is_no_model_id_or_url(
    assistant: Assistant, sandbox: Sandbox, tool: str, filler: str
) -> None:
    video, audio = media(sandbox)
    given: Facts = {
        "model": filler,
        "input": [{**video, "asset_id": filler, "voice_id": filler}, {**audio, "assetId": filler}],
        "webhook_url": filler,
        "project_id": filler,
        "quote_id": filler,
        "dub": {},
    }
    told = await assistant.facts(tool, given)
    assert told["model"] == "lipsync-2"
    assert body_of(tool, sandbox) == {"model": "lipsync-2", "input": [video, audio]}
    assert "generation_id is missing." in (await assistant.error("get_generation", id=filler)).text


async def test_a_length_of_nothing_is_not_given(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=0, fps=0.0)
    assert told["cost_usd"] > 0
    assert "duration_seconds" not in str(told["assumptions"])
    await assistant.facts("create_generation", input=media(sandbox), duration_seconds=0, dub="{}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_cost_usd": "None"}, "max_cost_usd must be"),
        ({"max_cost_usd": "null"}, "max_cost_usd must be"),
        ({"wait_seconds": "None"}, "wait_seconds must be a number."),
        ({"options": {"sync_mode": "None"}}, "options.sync_mode must be one of"),
        ({"options": {"prompt": "null"}}, "options.prompt must be one of"),
        ({"output_file_name": "a b", "dub": {"target_lang": ""}}, "dub.target_lang is missing."),
        ({"take": 0}, "take must be at least 1."),
        ({"duration_seconds": False}, "duration_seconds must be a number, not false."),
        ({"duration_seconds": -1}, "duration_seconds must be more than 0."),
    ],
)
async def test_nothing_else_stands_for_nothing(
    assistant: Assistant, sandbox: Sandbox, given: Facts, words: str
) -> None:
    arguments = {"input": media(sandbox), **given}
    assert words in await refusal(assistant, sandbox, "create_generation", arguments)


SYNC_MODES = "one of bounce, loop, cut_off, silence, remap"


@pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])
@pytest.mark.parametrize(
    ("given", "place", "wanted"),
    [
        ({"options": {"sync_mode": "None"}}, "options.sync_mode", SYNC_MODES),
        ({"options": {"sync_mode": " default "}}, "options.sync_mode", SYNC_MODES),
        ({"options": {"model_mode": "null"}}, "options.model_mode", "one of lips, face, head"),
        ({"options": {"temperature": "None"}}, "options.temperature", "a number"),
        ({"options": {"reasoning_enabled": "None"}}, "options.reasoning_enabled", "true or false"),
    ],
)
async def test_an_option_of_nothing_is_told_its_values_and_that_it_may_be_left_out(
    assistant: Assistant, sandbox: Sandbox, tool: str, given: Facts, place: str, wanted: str
) -> None:
    told = await refusal(assistant, sandbox, tool, {"input": media(sandbox), **given})
    word = repr(next(iter(given["options"].values())).strip())
    assert f"{place} must be {wanted}, not {word}; leave it out for the default." in told
    assert "did you mean" not in told


async def test_a_word_that_is_needed_may_not_be_left_out(assistant: Assistant, sandbox: Sandbox) -> None:
    items = [{**media(sandbox)[0], "type": "None"}, media(sandbox)[1]]
    told = await refusal(assistant, sandbox, "create_generation", {"input": items})
    assert "input[0].type must be one of video, image, audio, text, not 'None'" in told
    assert "leave it out" not in told


async def test_a_limit_of_nothing_is_a_limit_of_nothing(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.error("create_generation", input=media(sandbox), max_cost_usd=0)
    assert told.code == "limit_reached"
    assert sandbox.charges == []


async def test_a_script_and_a_name_are_taken_as_they_are(assistant: Assistant, sandbox: Sandbox) -> None:
    speech = {"type": "text", "script": "None", "voice_id": VOICE, "ref_id": "null"}
    segments = [{"start_time": 0, "end_time": 1, "audio_input": {"ref_id": "null"}}]
    await assistant.facts("create_generation", input=[media(sandbox)[0], speech], segments=segments)
    [body] = sent(sandbox)
    assert body["input"][1]["provider"]["script"] == "None"
    assert body["input"][1]["refId"] == body["segments"][0]["audioInput"]["refId"] == "null"


# Ids in other words.


@pytest.mark.parametrize(
    "words",
    [
        "{id}",
        " {id} ",
        '"{id}"',
        "`{id}`",
        "\u201c{id}\u201d",
        "<{id}>",
        "The job {id} was accepted.",
        'generation_id: "{id}", status PENDING',
        "{id} (I mean {id})",
    ],
)
async def test_an_id_is_found_in_quotes_and_in_a_sentence_that_holds_one(
    assistant: Assistant, sandbox: Sandbox, words: str
) -> None:
    made_id = await made(assistant, sandbox)
    told = words.format(id=made_id)
    assert (await assistant.facts("get_generation", generation_id=told))["generation_id"] == made_id
    for given in (told, [told]):
        rows = (await assistant.facts("wait_for_generations", generation_ids=given, wait_seconds=0))[
            "generations"
        ]
        assert [row["generation_id"] for row in rows] == [made_id]


async def test_a_sentence_with_two_ids_names_none(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.error("get_generation", generation_id=f"{UUID(int=1)} or {UUID(int=2)}")
    assert told.code == "invalid_request"
    told = await assistant.error("wait_for_generations", generation_ids=f"{UUID(int=1)} or {UUID(int=2)}")
    assert told.code == "invalid_request"


async def test_ids_in_one_text_are_each_taken_off_their_quotes(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    first = await made(assistant, sandbox)
    told = await assistant.facts(
        "wait_for_generations", generation_ids=f"`{first}`, 'g-1'", wait_seconds=0, until="all"
    )
    assert [row["generation_id"] for row in told["generations"]] == [first, "g-1"]


# What was meant by a name.


@pytest.mark.parametrize(
    ("arguments", "given", "meant"),
    [
        ({"video_url": "https://h.example/v.mp4"}, "video_url", "input[].url"),
        ({"audio_url": "https://h.example/a.wav"}, "audio_url", "input[].url"),
        ({"video_path": "/v.mp4"}, "video_path", "input[].path"),
        ({"video": "https://h.example/v.mp4"}, "video", "input"),
        ({"sync_mode": "loop"}, "sync_mode", "options.sync_mode"),
        ({"syncMode": "loop"}, "sync_mode", "options.sync_mode"),
        ({"target_lang": "es"}, "target_lang", "dub.target_lang"),
        ({"target_language": "es"}, "target_language", "dub.target_lang"),
        ({"script": "Hello"}, "script", "input[].script"),
        ({"voice_id": "v"}, "voice_id", "input[].voice_id"),
        ({"temperature": 1}, "temperature", "options.temperature"),
        ({"coordinates": [1, 2]}, "coordinates", "options.active_speaker_detection.coordinates"),
        (
            {"options": {"coordinates": [1]}},
            "options.coordinates",
            "options.active_speaker_detection.coordinates",
        ),
        ({"segments": [{"ref_id": "a"}]}, "segments[0].ref_id", "segments[].audio_input.ref_id"),
        ({"input": [{**VIDEO, "sync_mode": "loop"}]}, "input[0].sync_mode", "options.sync_mode"),
    ],
)
@CREATES
async def test_a_name_in_the_wrong_place_is_told_its_own(
    assistant: Assistant, sandbox: Sandbox, tool: str, arguments: Facts, given: str, meant: str
) -> None:
    told = await refusal(assistant, sandbox, tool, {"input": [VIDEO, AUDIO], **arguments})
    assert f"There is no argument '{given}'; did you mean '{meant}'?" in told


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("lipsync-3", "'lipsync-2' or 'sync-3'"),
        ("sync-2", "'sync-3' or 'lipsync-2'"),
        ("lipsync-1.9", "'lipsync-1.9.0-beta'"),
        ("lipsync-1.9.0", "'lipsync-1.9.0-beta'"),
        ("react", "'react-1'"),
    ],
)
async def test_all_models_that_may_be_meant_are_named(
    assistant: Assistant, sandbox: Sandbox, model: str, meant: str
) -> None:
    told = await assistant.error("estimate_cost", input=media(sandbox), model=model)
    assert f"There is no model '{model}'; did you mean {meant}?" in told.text
    assert asked(sandbox, "POST", "/v2/analyze/cost") == []


# Paths.


@CREATES
async def test_all_wrong_paths_are_told_at_once(
    local: Assistant, sandbox: Sandbox, movies: Path, tool: str
) -> None:
    told = await local.error(
        tool,
        input=[
            {"type": "video", "path": str(movies / "absent.mp4")},
            {"type": "audio", "path": "/mnt/user-data/uploads/speech.mp3"},
        ],
    )
    assert told.money_spent == "no"
    assert "input[0]: " in told.text
    assert "absent.mp4 is not there" in told.text
    assert "input[1]: /mnt/user-data/uploads/speech.mp3 is a file of the chat" in told.text
    assert "Ask the user where it is on this computer" in told.text


async def test_a_folder_in_the_place_of_a_file_tells_what_is_in_it(local: Assistant, movies: Path) -> None:
    for tool, arguments in (
        ("upload_asset", {"path": str(movies)}),
        ("estimate_cost", {"input": [{"type": "video", "path": str(movies)}], "dub": "es"}),
    ):
        told = await local.error(tool, arguments)
        assert "is a folder, and holds 'talk.mp4', 'voice.wav'." in told.text
