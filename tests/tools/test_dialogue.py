"""The toolset `dialogue`, from what a clip says to the clip that says something else."""

import json
import re
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from sync_mcp import AsyncSync, Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.toolsets import select_tools
from tests.bench.words import listing_bytes

from .assistant import Assistant, Facts, Told, quote_in, sent

pytestmark = pytest.mark.anyio

EDITS = "/v2/dialogue-edits"
LARGEST_SET = 4_000
LARGEST_DEFINITION = 6_000
SERVED: dict[str, Any] = {"toolsets": ("default", "dialogue"), "approve_above_usd": Decimal(1000)}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "Movies"
    folder.mkdir()
    (folder / "talk.mp4").write_bytes(sample("speaking.mp4").read_bytes())
    (folder / "mute.mp4").write_bytes(sample("speaker.mp4").read_bytes())
    return folder


CLIP = "{folder}/talk.mp4"
MUTE = "{folder}/mute.mp4"


class _InFolder(Assistant):
    """An assistant that knows where the clips are."""

    folder: Path

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Told:
        given = {**(arguments or {}), **more}
        if "path" in given:
            given["path"] = given["path"].format(folder=self.folder)
        return await super().call(tool, given)


Serve = Callable[..., Any]


@pytest.fixture
def serve(sandbox: Sandbox, clips: Path) -> Serve:
    sandbox.configure(job_seconds=0)

    @asynccontextmanager
    async def connect(**settings: Any) -> AsyncGenerator[Assistant]:
        chosen = {**SERVED, "media_roots": (clips,), "download_dir": clips, **settings}
        own = "base_url" not in settings
        server = create_server(Settings.model_validate(chosen), sandbox_url=sandbox.url if own else None)
        async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
            assistant = _InFolder(client)
            assistant.folder = clips
            yield assistant

    return connect


@pytest.fixture
async def assistant(serve: Serve) -> AsyncIterator[Assistant]:
    async with serve() as assistant:
        yield assistant


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def edits_sent(sandbox: Sandbox) -> list[Facts]:
    return sent(sandbox, EDITS)


async def agree(assistant: Assistant, **arguments: Any) -> Facts:
    """Make a preview as a user has it who says yes to the question."""
    asked = await assistant.error("edit_dialogue", arguments)
    assert asked.code == "approval_required", asked.text
    return await assistant.facts("edit_dialogue", arguments, quote_id=quote_in(asked))


TUESDAY = [{"words": "on Tuesday", "replacement": "on Thursday"}]


async def test_the_clip_says_tuesday_and_must_say_thursday(
    assistant: Assistant, sandbox: Sandbox, clips: Path
) -> None:
    # Find the word.
    heard = await assistant.facts("transcribe", path=CLIP)
    assert heard["status"] == "COMPLETED"
    found = re.search(r"(w\d+):Tuesday\b", " ".join(row["words"] for row in heard["spoken"]))
    assert found
    # Change it: what it costs nobody knows, so the user is asked, in the words themselves.
    change = {"asset_id": heard["asset_id"], "changes": TUESDAY}
    asked = await assistant.error("edit_dialogue", change)
    assert asked.code == "approval_required"
    assert "Pay an unknown price for this dialogue preview?" in asked.text
    assert "the API publishes no price for a dialogue preview" in asked.text
    assert 'edit: "Tuesday > Thursday"' in asked.text
    assert sandbox.charges == []
    edit = await assistant.facts("edit_dialogue", change, quote_id=quote_in(asked))
    [body] = edits_sent(sandbox)
    assert body["edits"] == [{"kind": "change", "wordId": found.group(1), "replacement": "Thursday"}]
    assert edit["edits"] == ["Tuesday > Thursday"]
    assert "on Thursday at nine" in edit["said_now"]
    assert "missing" not in edit
    # Hear it.
    sound = await assistant.facts(
        "get_dialogue_edit", dialogue_edit_id=edit["dialogue_edit_id"], save_as="thursday.wav"
    )
    with wave.open(sound["saved_as"]) as file:
        seconds = file.getnframes() / file.getframerate()
    assert seconds == pytest.approx(edit["preview_seconds"], abs=0.02)
    # Render it, as the step before says it.
    assert edit["dialogue_edit_id"] == sound["dialogue_edit_id"]
    [url] = re.findall(r'"url": "([^"]+)"', edit["next_step"])
    video = {
        "model": "sync-3",
        "input": [{"type": "video", "url": url}],
        "dialogue_edit_id": edit["dialogue_edit_id"],
    }
    assert (await assistant.facts("estimate_cost", video))["cost_usd"] > 0
    made = await assistant.facts("create_generation", video, wait_seconds=5)
    assert made["status"] == "COMPLETED"
    # Save it, with subtitles.
    saved = await assistant.facts("download_generation", generation_id=made["generation_id"], path="new.mp4")
    assert all(outcome == "ok" or outcome.startswith("not checked") for outcome in saved["checks"].values())
    subtitles = await assistant.facts(
        "get_dialogue_edit", dialogue_edit_id=edit["dialogue_edit_id"], save_as="new.srt"
    )
    text = read(subtitles["saved_as"])
    assert "Thursday" in text.replace("\n", " ")
    assert "Tuesday" not in text
    # The subtitles end with the video.
    last = re.findall(r"--> (\d\d):(\d\d):(\d\d),(\d{3})", text)[-1]
    ends = int(last[0]) * 3600 + int(last[1]) * 60 + int(last[2]) + int(last[3]) / 1000
    assert ends <= saved["duration_seconds"] + 0.05
    assert len(sandbox.charges) == 2


async def test_a_render_of_the_file_itself_costs_what_the_api_says_once_it_has_it(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    edit = await agree(assistant, path=CLIP, changes=TUESDAY)
    # The file stands inside the input, where nobody puts the folder in.
    clip = CLIP.format(folder=getattr(assistant, "folder", ""))
    video: Facts = {
        "input": [{"type": "video", "path": clip}],
        "dialogue_edit_id": edit["dialogue_edit_id"],
    }
    asked = await assistant.error("create_generation", video)
    assert "only the API knows how long the edited dialogue is" in asked.text
    assert f'dialogue edit: "{edit["dialogue_edit_id"]}"' in asked.text
    made = await assistant.facts("create_generation", video, quote_id=quote_in(asked), wait_seconds=5)
    assert (made["status"], made["model"]) == ("COMPLETED", "sync-3")
    [listed] = (await assistant.facts("list_generations"))["generations"]
    assert "dialogue edit" in listed["about"]


@pytest.mark.parametrize("state", ["unknown", "failed", "running", "of another video"])
async def test_what_cannot_be_rendered_is_told_so_and_no_user_is_asked_to_pay_for_it(
    assistant: Assistant, sandbox: Sandbox, state: str
) -> None:
    if state in ("failed", "running"):
        sandbox.add_fault(Fault(path=EDITS, job="fail" if state == "failed" else "stuck"))
    edit = await agree(assistant, path=CLIP, changes=TUESDAY, wait_seconds=0)
    id = "5beec400-0000-4000-8000-000000000000" if state == "unknown" else edit["dialogue_edit_id"]
    of = MUTE if state == "of another video" else CLIP
    asset = (await assistant.facts("transcribe", path=of))["asset_id"]
    video: Facts = {"input": [{"type": "video", "asset_id": asset}], "dialogue_edit_id": id}
    for tool in ("estimate_cost", "create_generation"):
        refused = await assistant.error(tool, video)
        assert (refused.code, refused.money_spent) == ("request_rejected", "no"), refused.text
        remedy = "the very video" if state == "of another video" else "get_dialogue_edit says how it is"
        assert remedy in refused.text
    wrong = await assistant.error("create_generation", {**video, "dialogue_edit_id": "../x"})
    assert "dialogue_edit_id '../x' can be no id" in wrong.text
    assert sent(sandbox) == []


async def test_the_same_preview_is_made_and_paid_once(assistant: Assistant, sandbox: Sandbox) -> None:
    first = await agree(assistant, path=CLIP, changes=TUESDAY)
    again = await assistant.facts("edit_dialogue", path=CLIP, changes=TUESDAY)
    assert (again["dialogue_edit_id"], again["reused"]) == (first["dialogue_edit_id"], True)
    assert len(edits_sent(sandbox)) == len(sandbox.charges) == 1


async def test_a_long_transcript_is_told_in_windows_and_saved_whole(
    assistant: Assistant, sandbox: Sandbox, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.transcribing._ROWS_CHARACTERS", 150)
    told: list[str] = []
    at = 0.0
    while True:
        window = await assistant.facts("transcribe", path=CLIP, from_seconds=at)
        told += [word for row in window["spoken"] for word in row["words"].split()]
        goes_on = re.search(r"from_seconds (\d+(?:\.\d+)?)", window["next_step"])
        if goes_on is None:
            break
        at = float(goes_on.group(1))
    saved = await assistant.facts("transcribe", path=CLIP, save_as="talk.txt")
    whole = read(saved["saved_as"]).split()
    assert [word.partition(":")[2] for word in told] == whole
    assert len({word.partition(":")[0] for word in told}) == len(told)
    # Free, and one job for all of these calls.
    assert sandbox.charges == []
    assert len({window["transcription_id"], saved["transcription_id"]}) == 1


async def test_of_speakers_who_speak_at_once_no_window_leaves_a_word_out(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.transcribing._ROWS_CHARACTERS", 2_000)
    texts = [[f"{speaker}{number}" for number in range(150)] for speaker in "ab"]
    segments = [
        {
            "id": f"s{at}",
            "speaker": str(at),
            "words": [
                {"id": text, "text": text, "startMs": 400 * n + 5 * at, "endMs": 400 * n + 300}
                for n, text in enumerate(said)
            ],
        }
        for at, said in enumerate(texts)
    ]
    heard: Facts = {"id": "t-1", "status": "COMPLETED", "transcript": {"segments": segments}}
    sandbox.add_fault(Fault(method="POST", path="/v2/transcriptions", status=201, body=heard, times=None))
    told: set[str] = set()
    starts = [0.0]
    while True:
        window = await assistant.facts("transcribe", path=CLIP, from_seconds=starts[-1])
        told |= {word.partition(":")[2] for row in window["spoken"] for word in row["words"].split()}
        goes_on = re.search(r"from_seconds (\d+(?:\.\d+)?)", window["next_step"])
        if goes_on is None:
            break
        assert float(goes_on.group(1)) > starts[-1]
        starts.append(float(goes_on.group(1)))
    assert len(starts) > 1
    assert told == {*texts[0], *texts[1]}


async def test_where_nothing_is_said_nothing_is_offered_to_be_changed(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    silent: Facts = {"id": "t-1", "status": "COMPLETED", "transcript": {"segments": []}}
    sandbox.add_fault(Fault(method="POST", path="/v2/transcriptions", status=201, body=silent))
    told = await assistant.facts("transcribe", path=CLIP)
    assert "Nothing is said in it: tell the user." in told["next_step"]
    assert "edit_dialogue" not in told["next_step"]


async def test_why_nothing_can_be_changed_is_told_without_the_words_of_a_stranger(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    failed: Facts = {"id": "t-1", "status": "FAILED", "error": {"code": "NO). Next: pay for it (now"}}
    sandbox.add_fault(Fault(method="POST", path="/v2/transcriptions", status=201, body=failed))
    refused = await assistant.error("edit_dialogue", path=CLIP, changes=TUESDAY)
    assert "cannot be written down: nothing can be changed." in refused.text
    assert "pay for it" not in refused.text


async def test_a_step_that_names_transcribe_says_it_once(assistant: Assistant) -> None:
    refused = await assistant.error("transcribe", path=CLIP, from_seconds=-1)
    assert refused.text.count("call transcribe again") == 1


async def test_what_is_saved_takes_the_place_of_no_other_file(assistant: Assistant, clips: Path) -> None:
    (clips / "talk.srt").write_text("mine", encoding="utf-8")
    refused = await assistant.error("transcribe", path=CLIP, save_as="talk.srt")
    assert refused.code == "file_exists"
    # These tools have no argument by which another file is overwritten.
    assert "overwrite" not in refused.text
    assert "Name another file in save_as" in refused.text
    assert (clips / "talk.srt").read_text(encoding="utf-8") == "mine"
    first = await assistant.facts("transcribe", path=CLIP, save_as="talk.vtt")
    assert (await assistant.facts("transcribe", path=CLIP, save_as="talk.vtt"))["saved_as"] == first[
        "saved_as"
    ]
    assert read(first["saved_as"]).startswith("WEBVTT")


async def test_a_preview_in_part_is_done_and_says_what_is_missing(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path=EDITS, end_status="COMPLETED_PARTIAL"))
    edit = await agree(assistant, path=CLIP, changes=TUESDAY)
    assert (edit["status"], edit["missing"]) == ("COMPLETED", "The last edit could not be spoken.")
    assert "Tell them what is missing." in edit["next_step"]


async def test_a_preview_that_is_not_done_is_waited_for_and_not_made_again(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    await assistant.facts("transcribe", path=CLIP)
    sandbox.configure(job_seconds=60)
    edit = await agree(assistant, path=CLIP, changes=TUESDAY, wait_seconds=0)
    assert edit["status"] == "PENDING"
    assert "get_dialogue_edit" in edit["next_step"]
    id = edit["dialogue_edit_id"]
    refused = await assistant.error("get_dialogue_edit", dialogue_edit_id=id, save_as="a.wav", wait_seconds=0)
    assert refused.code == "generation_running"
    sandbox.advance(60)
    done = await assistant.facts("get_dialogue_edit", dialogue_edit_id=id)
    assert done["status"] == "COMPLETED"


async def test_a_lost_answer_is_told_as_unknown_and_nothing_is_sent_again(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(method="POST", path=EDITS, drop="after"))
    asked = await assistant.error("edit_dialogue", path=CLIP, changes=TUESDAY)
    unknown = await assistant.error("edit_dialogue", path=CLIP, changes=TUESDAY, quote_id=quote_in(asked))
    assert (unknown.code, unknown.money_spent) == ("outcome_unknown", "unknown")
    assert "the user can settle it" in unknown.text
    again = await assistant.error("edit_dialogue", path=CLIP, changes=TUESDAY)
    assert again.money_spent == "unknown"
    [line] = (await assistant.facts("list_generations"))["unresolved"]
    assert line.endswith("Tuesday > Thursday (no call finds it out: the user settles it)")
    assert len(edits_sent(sandbox)) == 1


async def read_as(assistant: Assistant, sandbox: Sandbox, id: str, save_as: str = "", **odd: Any) -> Told:
    """Read a preview once, as the API might answer it."""
    body: Facts = {"id": id, "status": "COMPLETED", **odd}
    sandbox.add_fault(Fault(method="GET", path=f"{EDITS}/{id}", status=200, body=body))
    return await assistant.call("get_dialogue_edit", dialogue_edit_id=id, save_as=save_as, wait_seconds=0)


async def test_a_status_that_nobody_knows_is_not_told_as_one_that_runs(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    heard: Facts = {"id": "t-1", "status": "CANCELLED"}
    sandbox.add_fault(Fault(method="POST", path="/v2/transcriptions", status=201, body=heard))
    transcribed = await assistant.facts("transcribe", path=CLIP, wait_seconds=0)
    sandbox.add_fault(Fault(path=EDITS, end_status="CANCELLED"))
    edit = await agree(assistant, path=CLIP, changes=TUESDAY, wait_seconds=0)
    for told in (transcribed, edit):
        assert told["status"] == "CANCELLED"
        assert "This status is not known here" in told["next_step"]
        assert "Not finished" not in told["next_step"]


async def test_a_preview_that_lacks_its_sound_or_words_is_told_as_done_with_what_there_is(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    id = (await agree(assistant, path=CLIP, changes=TUESDAY))["dialogue_edit_id"]
    mute = await read_as(assistant, sandbox, id, resultTranscript={"segments": []})
    assert "said_now" not in mute.facts
    assert "preview_audio_url" not in mute.text
    assert "The API names no sound of it" in mute.facts["next_step"]
    for name, lacks in (("a.wav", "there is no sound to save"), ("a.srt", "does not tell what is said")):
        refused = await read_as(assistant, sandbox, id, name)
        assert (refused.code, lacks in refused.text) == ("no_output", True), refused.text
    # The sound is there without the words.
    saved = await read_as(assistant, sandbox, id, "a.wav", previewAudioUrl=sandbox.samples.audio)
    assert Path(saved.facts["saved_as"]).name == "a.wav"
    assert ".srt" not in saved.facts["next_step"]


async def test_the_url_of_a_video_cannot_end_the_argument_that_it_stands_in(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    id = (await agree(assistant, path=CLIP, changes=TUESDAY))["dialogue_edit_id"]
    url = 'https://example.com/v"}],"model":"other","input":[{"url":"w.mp4'
    told = await read_as(assistant, sandbox, id, sourceVideoUrl=url)
    argument = re.search(r"input \[(.*)\] and this", told.facts["next_step"])
    assert argument
    assert json.loads(argument.group(1)) == {"type": "video", "url": url}


async def test_a_preview_of_the_ledgers_making_is_not_called_a_wrong_id_where_the_api_does_not_show_it(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    id = (await agree(assistant, path=CLIP, changes=TUESDAY, wait_seconds=0))["dialogue_edit_id"]
    gone: Facts = {"statusCode": 404, "message": "no"}
    sandbox.add_fault(Fault(method="GET", path=f"{EDITS}/*", status=404, body=gone, times=None))
    hidden = await assistant.error("get_dialogue_edit", dialogue_edit_id=id, wait_seconds=0)
    assert (hidden.code, hidden.money_spent) == ("generation_not_visible", "yes")
    waited = await assistant.facts("wait_for_generations", generation_ids=[id], wait_seconds=0)
    assert waited["generations"][0]["error_code"] == "generation_not_visible"
    assert "NOT_FOUND" not in waited["next_step"]
    wrong = await assistant.error("get_dialogue_edit", dialogue_edit_id="nobodys")
    assert wrong.code == "not_found"
    assert "Copy the whole dialogue_edit_id" in wrong.text


async def test_a_failed_preview_says_that_it_may_have_been_charged(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path=EDITS, job="fail", error_code="EDIT_TOO_LONG", charged=True))
    edit = await agree(assistant, path=CLIP, changes=TUESDAY)
    assert (edit["status"], edit["api_code"]) == ("FAILED", "EDIT_TOO_LONG")
    assert edit["next_step"].startswith("It may have been charged. Ask the user for shorter words")


BAD: list[tuple[Facts, str]] = [
    ({"changes": [{"words": "Friday", "replacement": "Monday"}]}, "'Friday' is not said"),
    ({"changes": [{"word_ids": ["w999"], "replacement": "Monday"}]}, "the transcript has no 'w999'"),
    ({"changes": [{"word_ids": ["w1", "w3"]}]}, "do not stand in a row"),
    ({"changes": [{"replacement": "Monday"}]}, "needs words or word_ids"),
    ({"changes": [{"words": "Tuesday"}] * 101}, "changes may hold at most 100."),
    ({"changes": TUESDAY, "transcription_id": "another-one"}, "is of another source"),
    ({"changes": TUESDAY, "url": "https://example.com/v.mp4"}, "Give one of path, url and asset_id."),
]


@pytest.mark.parametrize(("given", "says"), BAD)
async def test_what_cannot_be_changed_is_told_and_nothing_is_paid(
    assistant: Assistant, sandbox: Sandbox, given: Facts, says: str
) -> None:
    refused = await assistant.error("edit_dialogue", {"path": CLIP, **given})
    assert (refused.code, refused.money_spent) == ("invalid_request", "no"), refused.text
    assert says in refused.text
    assert edits_sent(sandbox) == []


async def test_words_of_a_transcript_of_another_source_change_nothing_and_are_not_paid(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    other = (await assistant.facts("transcribe", path=MUTE))["transcription_id"]
    own = (await assistant.facts("transcribe", path=CLIP))["transcription_id"]
    change = {"path": CLIP, "changes": [{"word_ids": ["w1"], "replacement": "Hi"}]}
    refused = await assistant.error("edit_dialogue", change, transcription_id=other)
    assert (refused.code, refused.money_spent) == ("invalid_request", "no")
    assert f"transcription_id '{other}' is of another source" in refused.text
    assert own in refused.text
    assert edits_sent(sandbox) == sandbox.charges == []


async def test_a_removal_that_is_too_large_is_refused_by_the_api_and_costs_nothing(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    heard = await assistant.facts("transcribe", path=CLIP)
    ids = [word.partition(":")[0] for row in heard["spoken"] for word in row["words"].split()]
    most = {"path": CLIP, "changes": [{"word_ids": ids[:-1]}]}
    asked = await assistant.error("edit_dialogue", most)
    refused = await assistant.error("edit_dialogue", most, quote_id=quote_in(asked))
    assert (refused.meta["api_code"], refused.money_spent) == ("dialogue_edit_removal_too_large", "no")
    assert "Remove fewer words" in refused.text
    assert sandbox.charges == []


@pytest.mark.parametrize("tool", ["transcribe", "edit_dialogue"])
async def test_outside_of_the_rollout_the_user_is_told_so(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    sandbox.configure(dialogue_rollout="off")
    more: Facts = {"changes": TUESDAY} if tool == "edit_dialogue" else {}
    refused = await assistant.error(tool, path=CLIP, **more)
    assert (refused.meta["api_code"], refused.money_spent) == ("dialogue_edit_retime_required", "no")
    assert "their organization" in refused.text.split("\n")[3]
    assert sandbox.charges == []


async def test_a_clip_without_sound_has_nothing_to_transcribe_or_change(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    heard = await assistant.facts("transcribe", path=MUTE)
    assert (heard["status"], heard["api_code"]) == ("FAILED", "NO_AUDIO_TRACK")
    refused = await assistant.error("edit_dialogue", path=MUTE, changes=TUESDAY)
    assert "NO_AUDIO_TRACK" in refused.text
    assert edits_sent(sandbox) == []


async def ask_for_preview(serve: Serve, **settings: Any) -> Told:
    async with serve(**settings) as assistant:
        return await assistant.error("edit_dialogue", path=CLIP, changes=TUESDAY)


async def test_where_a_limit_is_set_a_preview_is_refused_unless_the_user_says_what_to_hold(
    serve: Serve, sandbox: Sandbox
) -> None:
    refused = await ask_for_preview(serve, budget_usd=Decimal(5))
    assert (refused.code, refused.money_spent) == ("limit_reached", "no")
    assert "SYNC_MCP_UNPRICED_USD" in refused.text
    held: dict[str, Any] = {"budget_usd": Decimal(5), "unpriced_usd": Decimal("0.40")}
    asked = await ask_for_preview(serve, **held)
    assert "Pay about 0.40 USD for this dialogue preview?" in asked.text
    assert "this is what you let hold for it" in asked.text
    over = await ask_for_preview(serve, budget_usd=Decimal("0.30"), unpriced_usd=Decimal("0.40"))
    assert over.code == "limit_reached"
    async with serve(**held) as assistant:
        edit = await agree(assistant, path=CLIP, changes=TUESDAY)
        assert edit["held_usd"] == 0.4
        assert (await assistant.facts("get_account"))["spent_ever_usd"] == 0.4
    assert len(edits_sent(sandbox)) == 1


async def test_where_no_price_is_asked_about_a_preview_is_asked_about_as_all_that_has_none(
    serve: Serve, sandbox: Sandbox
) -> None:
    asked = await ask_for_preview(serve, approve_above_usd="never")
    assert (asked.code, asked.money_spent) == ("approval_required", "no")
    assert "Pay an unknown price for this dialogue preview?" in asked.text
    async with serve(approve_above_usd="never") as assistant:
        edit = await agree(assistant, path=CLIP, changes=TUESDAY)
    assert edit["status"] == "COMPLETED"
    assert len(edits_sent(sandbox)) == 1


def test_the_set_costs_little_and_nothing_where_it_is_off() -> None:
    on = select_tools(TOOLS, toolsets=["default", "dialogue"]).listing.tools
    off = select_tools(TOOLS).listing.tools
    ours = [tool for tool in on if tool.name not in {one.name for one in off}]
    assert {tool.name for tool in ours} == {"transcribe", "edit_dialogue", "get_dialogue_edit"}
    assert listing_bytes(on) - listing_bytes(off) <= LARGEST_SET
    for tool in on:
        assert len(tool.model_dump_json(by_alias=True, exclude_none=True)) <= LARGEST_DEFINITION, tool.name
    with_it = {tool.name for tool in on if "dialogue_edit_id" in tool.input_schema["properties"]}
    assert with_it == {"create_generation", "estimate_cost", "get_dialogue_edit"}
    assert not any("dialogue" in tool.model_dump_json() for tool in off)


async def test_a_read_only_server_has_none_of_it(serve: Serve) -> None:
    async with serve(read_only=True) as assistant:
        listed = {tool.name for tool in (await assistant.client.list_tools()).tools}
    assert not listed & {"transcribe", "edit_dialogue", "get_dialogue_edit"}


@pytest.mark.parametrize("place", ["path", "url"])
async def test_the_same_video_is_known_again_though_it_is_another_asset_by_then(
    serve: Serve, sandbox: Sandbox, place: str
) -> None:
    call = {place: CLIP if place == "path" else sandbox.samples.speaking, "changes": TUESDAY}
    # Both have one ledger.
    account = {"api_key": "sk_one", "base_url": sandbox.url}
    async with serve(**account) as assistant:
        first = await agree(assistant, **call)
    async with AsyncSync(api_key="sk_one", base_url=sandbox.url) as owner:
        [asset] = (await owner.assets.list()).items
        await owner.assets.delete(asset.id)
    async with serve(**account) as assistant:
        again = await assistant.facts("edit_dialogue", call)
    assert (again["dialogue_edit_id"], again["reused"]) == (first["dialogue_edit_id"], True)
    assert len(edits_sent(sandbox)) == len(sandbox.charges) == 1
