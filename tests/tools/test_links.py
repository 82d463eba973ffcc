"""Where media are said to lie: told before anything is paid, and why a file could not be looked at."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import VOICE

from .assistant import AUDIO, VIDEO, Assistant, Facts, asked, media, refusal, sent

pytestmark = pytest.mark.anyio

CREATES = pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])
PAGE = "https://www.youtube.com/watch?v=abc"
INSIDE = "http://192.168.1.20:8080/v.mp4"


@CREATES
async def test_a_page_in_the_place_of_a_file_is_refused_without_any_network(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    arguments = {"input": [{"type": "video", "url": PAGE}, AUDIO]}
    told = await refusal(assistant, sandbox, tool, arguments)
    assert "input[0].url is a page of YouTube, not a file: download it and give path, or" in told


async def test_an_upload_takes_neither_a_page_nor_a_place_inside(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    for url, words in (
        (PAGE, "url is a page of YouTube"),
        (f"<{PAGE}>", "url is a page of YouTube"),
        (INSIDE, "url leads to this machine or a private network"),
    ):
        assert words in await refusal(assistant, sandbox, "upload_asset", {"url": url})


@CREATES
@pytest.mark.parametrize(
    ("url", "words"),
    [
        (PAGE, "is a page of YouTube, not a file: give a direct link to the file."),
        (INSIDE, "leads to this machine or a private network, where the API fetches nothing: give a public"),
    ],
)
async def test_a_file_of_boxes_is_looked_at_by_its_letters_too_and_no_path_is_advised(
    assistant: Assistant, sandbox: Sandbox, tool: str, url: str, words: str
) -> None:
    boxes = {"active_speaker_detection": {"bounding_boxes_url": url}}
    told = await refusal(assistant, sandbox, tool, {"input": media(sandbox), "options": boxes})
    assert f"options.active_speaker_detection.bounding_boxes_url {words}" in told


@CREATES
@pytest.mark.parametrize(
    "url", [INSIDE, "http://localhost:8000/v.mp4", "https://nas.local/v.mp4", "http://127.0.0.1:1/v.mp4"]
)
async def test_a_url_that_only_this_network_has_is_refused(
    assistant: Assistant, sandbox: Sandbox, tool: str, url: str
) -> None:
    told = await refusal(assistant, sandbox, tool, {"input": [{"type": "video", "url": url}, AUDIO]})
    assert "input[0].url leads to this machine or a private network" in told
    assert "give the file as path" in told


@CREATES
@pytest.mark.parametrize(
    "asset_id", ["clip.mp4", "/home/me/clip.mp4", "https://h/clip.mp4", "my clip", "sha256:ab"]
)
async def test_an_asset_id_that_can_be_none_is_refused(
    assistant: Assistant, sandbox: Sandbox, tool: str, asset_id: str
) -> None:
    items = [{"type": "video", "asset_id": asset_id}, AUDIO]
    told = await refusal(assistant, sandbox, tool, {"input": items})
    assert (
        f"input[0].asset_id '{asset_id}' can be no id: copy it from upload_asset, or give a local file"
        in told
    )


@CREATES
@pytest.mark.parametrize("around", ['"{}"', " {}\n", "`{}`", "<{}>", "[clip]({})", "'{}'"])
async def test_what_stands_around_a_url_is_taken_off(
    assistant: Assistant, sandbox: Sandbox, tool: str, around: str
) -> None:
    video, audio = media(sandbox)
    plain: Facts = {"input": [video, audio], "webhook_url": "https://example.com/hook"}
    await assistant.facts(tool, plain)
    wrapped = {**plain, "input": [{**video, "url": around.format(video["url"])}, audio]}
    told = await assistant.facts(tool, wrapped, webhook_url=around.format("https://example.com/hook"))
    assert bool(told.get("reused")) == (tool == "create_generation")
    bodies = sent(sandbox, "/v2/analyze/cost")
    assert bodies[0] == bodies[-1]


# Why a file could not be looked at.


def nowhere(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let the system know no such hosts, whatever network it has."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


CASES = [
    ("{url}/samples/absent.mp4", "127.0.0.1 has nothing there (HTTP 404)"),
    ("{url}/v2/errors", "what it leads to is JSON, not a media file"),
    ("https://no-such-host.example.com/v.mp4", "there is no such host as no-such-host.example.com"),
    (
        "https://no-such-host.example.com/v.mp4?Expires=1700000000&Signature=s",
        "it has expired, by its own query on 2023-11-14 at 22:13 UTC",
    ),
]


@pytest.mark.parametrize(("url", "reason"), CASES)
async def test_why_a_url_could_not_be_looked_at_is_told_and_no_length_asked_for(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    nowhere(monkeypatch, "no-such-host.example.com")
    sandbox.add_fault(Fault.api_error("cost_estimate_unavailable", path="/v2/analyze/cost", times=None))
    items = [{"type": "video", "url": url.format(url=sandbox.url)}, media(sandbox)[1]]
    told = await assistant.facts("estimate_cost", input=items)
    assert told["assumptions"] == [f"input[0].url: {reason}"]
    assert "cost_usd" not in told
    assert "duration_seconds" not in str(told)
    assert "the job would most likely fail" in told["next_step"]
    guessed = await assistant.facts("estimate_cost", input=items, duration_seconds=30)
    assert any(told.startswith(f"input[0].url: {reason}; ") for told in guessed["assumptions"])
    assert "do not guess its length" in guessed["next_step"]


async def test_who_is_to_agree_to_an_unknown_price_is_told_that_the_file_is_not_there(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("cost_estimate_unavailable", path="/v2/analyze/cost", times=None))
    items = [{"type": "video", "url": f"{sandbox.url}/samples/absent.mp4"}, media(sandbox)[1]]
    told = await assistant.error("create_generation", input=items)
    assert (told.code, told.money_spent) == ("approval_required", "no")
    assert "input[0].url: 127.0.0.1 has nothing there (HTTP 404)" in told.text.split("\n")[0]
    assert "tell the user what is wrong with the file" in told.text
    lines = told.text.split("\n")
    question = next(number for number, line in enumerate(lines) if line.startswith("Pay an unknown price"))
    doubt = "It would most likely fail: input[0].url: 127.0.0.1 has nothing there (HTTP 404)."
    assert question < lines.index(doubt)
    there = await assistant.error("create_generation", input=media(sandbox))
    assert "what is wrong with the file" not in there.text


@pytest.mark.parametrize(("url", "reason"), CASES)
async def test_beside_a_local_file_the_reason_is_told_too(
    local: Assistant,
    sandbox: Sandbox,
    movies: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    reason: str,
) -> None:
    nowhere(monkeypatch, "no-such-host.example.com")
    items = [
        {"type": "video", "path": str(movies / "talk.mp4")},
        {"type": "audio", "url": url.format(url=sandbox.url)},
    ]
    told = await local.facts("estimate_cost", input=items, duration_seconds=30)
    assert f"the length of input[1] is not known; input[1]: {reason}" in told["assumptions"]
    assert not {"cost_usd", "hint_usd"} & told.keys()
    assert "do not guess its length" in told["next_step"]


async def test_a_file_that_is_there_and_has_no_price_is_asked_the_length_of(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("cost_estimate_unavailable", path="/v2/analyze/cost"))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "the API cannot tell the price of these media" in told["assumptions"]
    assert "duration_seconds" in told["next_step"]


# Voices.


@CREATES
async def test_a_voice_that_does_not_exist_is_refused_before_anything_is_paid(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    speech = {"type": "text", "script": "Hello.", "voice_id": "narrator"}
    told = await assistant.error(tool, input=[media(sandbox)[0], speech])
    assert (told.code, told.money_spent) == ("invalid_request", "no")
    assert (
        "input[1].voice_id 'narrator' is no voice of this account; did you mean 'Ada - calm narrator'"
        in told.text
    )
    assert "list_voices" in told.text
    assert sent(sandbox) == sent(sandbox, "/v2/analyze/cost") == []


async def test_a_letter_that_stands_in_many_names_means_none_of_them(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    speech = {"type": "text", "script": "Hello.", "voice_id": "v"}
    told = await assistant.error("create_generation", input=[media(sandbox)[0], speech])
    assert "did you mean" not in told.text
    assert "list_voices" in told.text


@CREATES
@pytest.mark.parametrize("name", ["Ada - calm narrator", "ada - calm  narrator", " Ada - calm narrator "])
async def test_the_exact_name_of_a_voice_is_taken_as_its_id(
    assistant: Assistant, sandbox: Sandbox, tool: str, name: str
) -> None:
    speech = {"type": "text", "script": "Hello.", "voice_id": VOICE}
    video = media(sandbox)[0]
    await assistant.facts(tool, input=[video, speech])
    told = await assistant.facts(tool, input=[video, {**speech, "voice_id": name}])
    assert bool(told.get("reused")) == (tool == "create_generation")
    for body in sent(sandbox, "/v2/analyze/cost"):
        assert body["input"][1]["provider"]["voiceId"] == VOICE


async def test_a_name_of_two_voices_is_taken_for_neither(assistant: Assistant, sandbox: Sandbox) -> None:
    voices: list[JsonValue] = [{"id": "a1", "name": "Ada"}, {"id": "a2", "name": "ada"}]
    sandbox.add_fault(Fault(path="/v2/voices", status=200, body=voices, times=None))
    speech = {"type": "text", "script": "Hello.", "voice_id": "Ada"}
    told = await assistant.error("create_generation", input=[media(sandbox)[0], speech])
    assert "'Ada' is the name of 2 voices: give the id of one (a1, a2)." in told.text
    assert sandbox.charges == []


async def test_a_voice_that_the_list_does_not_show_is_asked_for_by_its_id(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/voices", status=200, body=[], times=None))
    speech = {"type": "text", "script": "Hello.", "voice_id": VOICE}
    await assistant.facts("create_generation", input=[media(sandbox)[0], speech])
    assert len(asked(sandbox, "GET", f"/v2/voices/{VOICE}")) == 1


@pytest.mark.parametrize(
    "fault", [{"status": 403, "body": {"message": "Not yours."}}, {"status": 200, "body": {"voices": []}}]
)
async def test_where_the_voices_cannot_be_listed_a_voice_is_taken_as_it_is(
    assistant: Assistant, sandbox: Sandbox, fault: Facts
) -> None:
    sandbox.add_fault(Fault(path="/v2/voices", times=None, **fault))
    speech = {"type": "text", "script": "Hello.", "voice_id": "v"}
    # The API has the last word.
    told = await assistant.error("estimate_cost", input=[media(sandbox)[0], speech])
    assert told.meta["api_code"] == "voice_not_found"
    [body] = sent(sandbox, "/v2/analyze/cost")
    assert body["input"][1]["provider"]["voiceId"] == "v"


async def test_voices_that_cannot_be_listed_are_asked_for_once_however_many_speak(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/voices", status=403, body={"message": "Not yours."}, times=None))
    speeches = [
        {"type": "text", "script": "Hello.", "voice_id": f"v{name}", "ref_id": name} for name in ("a", "b")
    ]
    segments = [
        {"start_time": start, "end_time": start + 1, "audio_input": {"ref_id": name}}
        for start, name in enumerate(("a", "b"))
    ]
    await assistant.error("estimate_cost", input=[media(sandbox)[0], *speeches], segments=segments)
    assert len(asked(sandbox, "GET", "/v2/voices")) == 1


async def test_voices_are_not_looked_for_where_something_else_is_wrong(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    speech = {"type": "text", "script": "Hello.", "voice_id": "narrator"}
    await refusal(assistant, sandbox, "create_generation", {"input": [VIDEO, speech], "webhook_url": "x"})
