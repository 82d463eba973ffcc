"""What the value of an argument may be, and what is said of one that may not."""

from typing import Any

import pytest

from sync_mcp.sandbox import Fault, Sandbox

from .assistant import AUDIO, VIDEO, Assistant, Facts, media, refusal, sent

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({**VIDEO, "script": "Hello"}, "script"),
        ({**AUDIO, "voice_id": "v"}, "voice_id"),
        ({**AUDIO, "stability": 0.0}, "stability"),
        ({"type": "text", "script": "Hello", "voice_id": "v", "url": "https://h/a.wav"}, "url"),
        ({"type": "text", "script": "Hello", "voice_id": "v", "asset_id": "a"}, "asset_id"),
    ],
)
async def test_a_field_of_another_kind_of_item_is_refused(
    assistant: Assistant, sandbox: Sandbox, item: Facts, name: str
) -> None:
    told = await refusal(assistant, sandbox, "create_generation", {"input": [VIDEO, item]})
    assert f"input[1] ({item['type']}) does not take {name}." in told


@pytest.mark.parametrize(
    "spelled",
    [["completed"], "COMPLETED", " Completed ", '["Completed"]', "completed, failed", ["COMPLETED"]],
)
async def test_the_case_of_a_word_does_not_matter(
    assistant: Assistant, sandbox: Sandbox, spelled: object
) -> None:
    await assistant.facts("list_generations", status=spelled)
    assert sandbox.requests[0].query["status"].startswith("COMPLETED")
    video, audio = media(sandbox)
    await assistant.facts(
        "create_generation", input=[{**video, "type": "Video"}, audio], options={"sync_mode": "CUT-OFF"}
    )
    assert sent(sandbox)[0]["options"] == {"sync_mode": "cut_off"}


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("get_generation", {"id": 5}, "generation_id must be a text."),
        ("get_generation", {"id": "x", "wait_seconds": "soon"}, "wait_seconds must be a number."),
        ("get_generation", {"id": "x", "wait_seconds": True}, "wait_seconds must be a number, not true."),
        ("get_generation", {"id": "x", "wait_seconds": [5]}, "wait_seconds must be a number."),
        ("get_generation", {"id": "x", "wait_seconds": -1}, "wait_seconds must be at least 0."),
        ("get_generation", {"id": "x", "wait_seconds": "nan"}, "wait_seconds must be"),
        ("list_generations", {"limit": 2.5}, "limit must be a whole number."),
        ("list_generations", {"limit": 0}, "limit must be at least 1."),
        ("list_generations", {"limit": True}, "limit must be a whole number, not true."),
        ("list_generations", {"status": 5}, "status must be an array."),
        ("list_generations", {"status": [5]}, "status[0] must be one of 'PENDING', "),
        ("list_generations", {"status": ["DONE"]}, "status[0] must be one of PENDING, PROCESSING, "),
        ("estimate_cost", {"input": [VIDEO, AUDIO], "fps": -1}, "fps must be more than 0."),
        ("estimate_cost", {"input": [VIDEO, AUDIO], "fps": 1e300}, "fps must be at most 1000."),
        ("estimate_cost", {"input": [VIDEO, AUDIO], "duration_seconds": "x"}, "duration_seconds must be a"),
        ("estimate_cost", {"input": 7}, "input must be an array."),
        ("estimate_cost", {"input": "video and audio"}, "input must be a JSON array; the text given"),
        ("estimate_cost", {"input": ["video"]}, "input[0] must be a JSON object; the text given"),
        ("estimate_cost", {"input": [VIDEO], "options": [1]}, "options must be an object."),
        (
            "estimate_cost",
            {"input": [VIDEO], "options": "{"},
            "options must be a JSON object; the text given",
        ),
        ("estimate_cost", {"input": "[" * 100_000}, "input must be a JSON array; the text given"),
    ],
)
async def test_a_value_of_the_wrong_type_or_range_is_refused_in_a_sentence(
    assistant: Assistant, sandbox: Sandbox, tool: str, arguments: Facts, sentence: str
) -> None:
    told = await refusal(assistant, sandbox, tool, arguments)
    assert sentence in told
    assert told.count(" must be ") == 1


async def test_a_text_of_half_characters_is_refused(assistant: Assistant, sandbox: Sandbox) -> None:
    speech = '{"type": "text", "voice_id": "v", "script": "Hi \\ud83d"}'
    told = await refusal(assistant, sandbox, "create_generation", {"input": [VIDEO, speech]})
    assert "input[1].script holds half characters" in told


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("list_generations", {"x\n\x1b[31mNext: pay\u202e" + "y" * 500: 1}),
        ("list_generations", {"status": ["x\nNext: pay\u202e" + "y" * 500]}),
        ("create_generation", {"input": [VIDEO, AUDIO], "options": {"prompt": "a\r\n" + "b" * 500}}),
        ("create_generation", {"input": [VIDEO, {"type": "x\u0000" + "z" * 100_000}]}),
    ],
)
async def test_what_was_given_is_shown_cut_and_clean(
    assistant: Assistant, sandbox: Sandbox, tool: str, arguments: Facts
) -> None:
    told = await refusal(assistant, sandbox, tool, arguments)
    assert told.isprintable()
    assert len(told) < 400
    assert "…" in told


async def test_many_faults_are_cut_to_some(assistant: Assistant, sandbox: Sandbox) -> None:
    arguments: dict[str, Any] = {f"wrong_{number}": number for number in range(190)}
    told = await refusal(assistant, sandbox, "create_generation", {"input": [VIDEO, AUDIO], **arguments})
    assert told.count("There is no argument") == 12


@pytest.mark.parametrize("place", ["the arguments", "options", "input[0]"])
async def test_more_than_two_hundred_arguments_are_refused_before_they_are_looked_at(
    assistant: Assistant, sandbox: Sandbox, place: str
) -> None:
    many: dict[str, Any] = {f"modle_{number}": number for number in range(201)}
    arguments = {"the arguments": many, "options": {"options": many}, "input[0]": {"input": [many]}}[place]
    told = await refusal(assistant, sandbox, "create_generation", arguments)
    assert f"There are 201 names in {place}: more than 200 are not looked at." in told
    assert "modle" not in told


async def test_no_near_names_are_looked_for_beyond_the_faults_that_are_told(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for: list[str] = []

    def near(word: str, _: object) -> str:
        looked_for.append(word)
        return "."

    monkeypatch.setattr("sync_mcp.tools.arguments.near", near)
    await refusal(assistant, sandbox, "create_generation", {"input": [{"urll": "x"}] * 1000})
    assert len(looked_for) == 12


async def test_a_model_that_the_api_lists_is_taken_though_it_is_not_known_here(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.configure(extra_models=("lipsync-9",))
    told = await assistant.facts("create_generation", input=media(sandbox), model="lipsync-9")
    assert told["model"] == "lipsync-9"
    assert "model_note" not in told
    assert (await assistant.facts("estimate_cost", input=media(sandbox), model="lipsync-9"))["cost_usd"] > 0


@pytest.mark.parametrize(("model", "near"), [("lipsync2", "lipsync-2"), ("lipsync-10", "lipsync-1")])
@pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])
async def test_a_model_that_nobody_knows_is_refused_with_the_near_name(
    assistant: Assistant, sandbox: Sandbox, tool: str, model: str, near: str
) -> None:
    sandbox.configure(extra_models=("lipsync-11",))
    told = await assistant.error(tool, input=media(sandbox), model=model)
    assert told.code == "invalid_request"
    assert f"There is no model '{model}'; did you mean '{near}" in told.text
    assert "lipsync-11" in told.text
    assert sent(sandbox) == sent(sandbox, "/v2/analyze/cost") == []


async def test_a_model_whose_existence_cannot_be_asked_is_refused_as_that(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/models", status=401, body={"message": "Unauthorized"}, times=None))
    told = await assistant.error("create_generation", input=media(sandbox), model="lipsync-9")
    assert "could not be read (authentication_failed)" in told.text
    assert sent(sandbox) == []


@pytest.mark.parametrize("name", ["target_lang", "source_lang"])
async def test_a_language_that_nobody_knows_is_refused_once_with_the_near_one(
    assistant: Assistant, sandbox: Sandbox, name: str
) -> None:
    dub = {"target_lang": "French", name: "Spansh"}
    told = await refusal(assistant, sandbox, "create_generation", {"input": media(sandbox)[:1], "dub": dub})
    assert told.count("Spansh") == 1
    assert f"dub.{name} 'Spansh' is no language that the API dubs; did you mean 'es' (Spanish)?" in told
