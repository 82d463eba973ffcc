"""Transcriptions and dialogue edits, from the client to the sandbox and back (API §25)."""

from collections.abc import AsyncIterator
from typing import Any

import av
import pytest

from sync_mcp import (
    APIStatusError,
    AsyncSync,
    DialogueEditRef,
    Generation,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknown,
    RequestRejectedError,
    ServerError,
    Text,
    Transcript,
    Video,
    WordChange,
    WordRemoval,
)
from sync_mcp.api.dialogue_edits import faults_of_edits
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.api.transcriptions import PASSAGE
from sync_mcp.sandbox.media.samples import sample

pytestmark = pytest.mark.anyio

EDITS = "/v2/dialogue-edits"


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    sandbox.configure(job_seconds=0)
    async with AsyncSync(api_key="sk_dialogue", base_url=sandbox.url) as client:
        yield client


async def upload(sync: AsyncSync, name: str = "speaking.mp4") -> str:
    return (await sync.assets.upload(sample(name))).url or ""


async def transcribe(sync: AsyncSync, url: str, **more: Any) -> Transcript:
    made = await sync.transcriptions.create(source_video_url=url, **more)
    done = await sync.transcriptions.wait(made.id, 5)
    assert done.transcript, done
    return done.transcript


def word_id(transcript: Transcript, text: str) -> str:
    return next(word.id for word in transcript.words if word.text.strip(".,") == text)


async def test_a_video_is_transcribed_and_the_same_source_and_window_is_the_same_job(
    sync: AsyncSync,
) -> None:
    url = await upload(sync)
    first = await sync.transcriptions.create(source_video_url=url)
    again = await sync.transcriptions.create(source_video_url=url)
    part = await sync.transcriptions.create(source_video_url=url, start_ms=0, end_ms=1_000)
    assert first.id == again.id != part.id
    done = await sync.transcriptions.wait(first.id, 5)
    assert (done.status, done.source_video_url) == ("COMPLETED", url)
    assert done.transcript
    assert done.transcript.speaker_count == 1
    assert PASSAGE.startswith(" ".join(word.text for word in done.transcript.words[:4]))
    cut = await sync.transcriptions.get(part.id)
    assert cut.transcript
    assert 0 < len(cut.transcript.words) < len(done.transcript.words)


async def test_what_was_made_from_a_script_is_heard_as_the_script(sync: AsyncSync, sandbox: Sandbox) -> None:
    made = await _speak(sync, sandbox, "See you on Tuesday at nine.")
    transcript = await transcribe(sync, made.output_url or "")
    assert transcript.to_text() == "See you on Tuesday at nine.\n"


async def _speak(sync: AsyncSync, sandbox: Sandbox, script: str) -> Generation:
    voice = (await sync.voices.list())[0].id
    video = Video(url=sandbox.samples.video)
    made = await sync.generations.create(
        model="lipsync-2", input=[video, Text(script=script, voice_id=voice)]
    )
    return await sync.generations.get(made.id)


@pytest.mark.parametrize(
    ("source", "code"), [("speaker.mp4", "NO_AUDIO_TRACK"), ("speaking.mp4", "SOURCE_TOO_LONG")]
)
async def test_what_cannot_be_transcribed_fails_with_its_reason(
    sync: AsyncSync, source: str, code: str
) -> None:
    most = 1 if code == "SOURCE_TOO_LONG" else None
    made = await sync.transcriptions.create(
        source_video_url=await upload(sync, source), max_source_seconds=most
    )
    ended = await sync.transcriptions.wait(made.id, 5)
    assert (ended.status, ended.finished, ended.error_code, ended.transcript) == ("FAILED", True, code, None)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"source_video_url": "https://a/v.mp4", "source_audio_url": "https://a/a.wav"},
        {"source_video_url": "https://a/v.mp4", "start_ms": 5, "end_ms": 5},
        {"source_video_url": "https://a/v.mp4", "end_ms": 3_600_001},
    ],
)
async def test_a_source_and_a_window_that_cannot_be_are_refused_before_anything_is_sent(
    sync: AsyncSync, sandbox: Sandbox, asked: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        await sync.transcriptions.create(**asked)
    assert sandbox.requests == []


async def test_only_what_lies_in_the_apis_storage_is_transcribed(sync: AsyncSync) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        await sync.transcriptions.create(source_video_url="https://example.com/v.mp4")
    assert refused.value.api_code == "file_not_in_org_storage"


async def test_another_key_finds_neither_a_transcription_nor_an_edit(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    made = await sync.transcriptions.create(source_video_url=await upload(sync))
    edit = await _edit(sync, "Tuesday", "Thursday")
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as other:
        with pytest.raises(NotFoundError):
            await other.transcriptions.get(made.id)
        with pytest.raises(NotFoundError):
            await other.dialogue_edits.get(edit)


@pytest.mark.parametrize(
    ("rollout", "error", "code"),
    [
        ("off", RequestRejectedError, "dialogue_edit_retime_required"),
        ("unknown", ServerError, "generation_infra_service_unavailable"),
    ],
)
async def test_outside_of_the_rollout_nothing_is_transcribed_edited_or_charged(
    sync: AsyncSync, sandbox: Sandbox, rollout: str, error: type[APIStatusError], code: str
) -> None:
    url = await upload(sync)
    transcript = await transcribe(sync, url)
    sandbox.configure(dialogue_rollout=rollout)
    with pytest.raises(error) as refused:
        await sync.transcriptions.create(source_video_url=url, request_options={"max_retries": 0})
    assert refused.value.api_code == code
    change = WordChange(word_id=word_id(transcript, "Tuesday"), replacement="Thursday")
    with pytest.raises(error) as refused:
        await sync.dialogue_edits.create(source_video_url=url, transcript=transcript, edits=[change])
    assert refused.value.api_code == code
    # That the rollout cannot be told is no doubt: nothing was made, and nothing is sent again by itself.
    assert len([one for one in sandbox.requests if one.path == EDITS]) == 1
    assert sandbox.charges == []


async def _edit(sync: AsyncSync, before: str, after: str) -> str:
    url = await upload(sync)
    transcript = await transcribe(sync, url)
    change = WordChange(word_id=word_id(transcript, before), replacement=after)
    made = await sync.dialogue_edits.create(source_video_url=url, transcript=transcript, edits=[change])
    return made.id


async def test_a_changed_word_and_a_removed_one_are_heard_and_what_follows_moves(sync: AsyncSync) -> None:
    url = await upload(sync)
    transcript = await transcribe(sync, url)
    words = transcript.words
    edits = [
        WordChange(word_id=words[1].id, replacement="toward the very", pronunciation="tword the very"),
        WordRemoval(word_ids=[words[3].id]),
    ]
    made = await sync.dialogue_edits.create(source_video_url=url, transcript=transcript, edits=edits)
    done = await sync.dialogue_edits.wait(made.id, 5)
    assert (done.status, done.has_preview, done.missing) == ("COMPLETED", True, None)
    assert done.edits == edits
    assert done.result_transcript
    said = [word.text for word in done.result_transcript.words]
    assert said == [words[0].text, "toward the very", words[2].text, *(word.text for word in words[4:])]
    assert [slot.output_duration_ms == 0 for slot in done.result_slots] == [False, True]
    # The sound is as long as it says, and the words end within it.
    with av.open(done.preview_audio_url or "") as sound:
        assert float(sound.duration or 0) / av.time_base == pytest.approx(
            (done.preview_duration_ms or 0) / 1000, abs=0.05
        )
    assert done.result_transcript.words[-1].end_ms <= (done.preview_duration_ms or 0)


async def test_a_preview_in_part_counts_as_done_and_says_what_is_missing(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path=EDITS, end_status="COMPLETED_PARTIAL"))
    done = await sync.dialogue_edits.wait(await _edit(sync, "Tuesday", "Thursday"), 5)
    assert (done.status, done.finished, done.has_preview) == ("COMPLETED_PARTIAL", True, True)
    assert done.missing == "The last edit could not be spoken."


async def test_an_edit_that_fails_says_why(sync: AsyncSync, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=EDITS, job="fail", error_code="VOICE_BLOCKED"))
    done = await sync.dialogue_edits.wait(await _edit(sync, "Tuesday", "Thursday"), 5)
    assert (done.status, done.has_preview, done.error_code) == ("FAILED", False, "VOICE_BLOCKED")


async def test_a_lost_answer_leaves_the_outcome_unknown_and_nothing_goes_out_again(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(method="POST", path=EDITS, drop="after"))
    with pytest.raises(OutcomeUnknown) as unknown:
        await _edit(sync, "Tuesday", "Thursday")
    assert unknown.value.reason == "untraceable"
    assert len([one for one in sandbox.requests if one.path == EDITS]) == 1


def test_edits_that_do_not_go_with_the_transcript_are_told_all_at_once() -> None:
    words = [{"id": f"w{n}", "text": "so", "startMs": n, "endMs": n + 1} for n in range(4)]
    transcript = Transcript.from_wire({"segments": [{"id": "s", "words": words}]})
    edits = [
        WordChange(word_id="w9", replacement="no"),
        WordChange(word_id="w1", replacement=" "),
        WordRemoval(word_ids=["w1"]),
        WordRemoval(word_ids=["w0", "w2"]),
        WordRemoval(word_ids=[]),
    ]
    told = faults_of_edits(transcript, edits)
    assert [fault.split(" ")[0] for fault in told] == [
        "edits[0]",
        "edits[1]",
        "edits[2]",
        "edits[3]",
        "edits[4]",
    ]
    assert "'w9'" in told[0]
    assert "101 edits" in faults_of_edits(transcript, [edits[0]] * 101)[0]


async def test_the_api_refuses_a_transcript_of_another_source_and_too_large_a_removal(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    url = await upload(sync)
    transcript = await transcribe(sync, url)
    spoken = await _speak(sync, sandbox, "See you on Tuesday at nine.")
    of_another = await transcribe(sync, spoken.output_url or "")
    before = len(sandbox.charges)
    most = WordRemoval(word_ids=[word.id for word in transcript.words[:-1]])
    for given, edit, code in (
        (of_another, WordRemoval(word_ids=[of_another.words[0].id]), "dialogue_edit_source_mismatch"),
        (transcript, most, "dialogue_edit_removal_too_large"),
    ):
        with pytest.raises(RequestRejectedError) as refused:
            await sync.dialogue_edits.create(source_video_url=url, transcript=given, edits=[edit])
        assert refused.value.api_code == code
    assert len(sandbox.charges) == before


async def test_the_edited_dialogue_is_rendered_into_its_video_and_is_as_long_as_the_preview(
    sync: AsyncSync,
) -> None:
    url = await upload(sync)
    edit = await sync.dialogue_edits.wait(await _edit(sync, "Tuesday", "Thursday"), 5)
    ref = DialogueEditRef(id=edit.id)
    price = await sync.generations.estimate_cost(model="sync-3", input=[Video(url=url)], dialogue_edit=ref)
    assert price.estimated_generation_cost
    made = await sync.generations.create(model="sync-3", input=[Video(url=url)], dialogue_edit=ref)
    done = await sync.generations.get(made.id)
    assert done.output_duration == pytest.approx((edit.preview_duration_ms or 0) / 1000, abs=0.01)
    # What is heard in it now is the edit's, and its subtitles fit it.
    heard = await transcribe(sync, done.output_url or "")
    assert edit.result_transcript
    assert heard.to_text().split() == edit.result_transcript.to_text().split()
    assert "Thursday" in heard.to_srt()
    assert heard.words[-1].end_ms / 1000 <= (done.output_duration or 0)


async def test_a_render_that_cannot_be_is_refused_and_not_charged(sync: AsyncSync, sandbox: Sandbox) -> None:
    edit = DialogueEditRef(id=await _edit(sync, "Tuesday", "Thursday"))
    url = await upload(sync)
    other = await upload(sync, "speaker.mp4")
    charged = len(sandbox.charges)
    with pytest.raises(InvalidRequestError, match="nothing else"):
        await sync.generations.create(
            model="sync-3",
            input=[Video(url=url), Text(script="Hi", voice_id="v")],
            dialogue_edit=edit,
        )
    with pytest.raises(InvalidRequestError, match="use sync-3"):
        await sync.generations.create(model="lipsync-2", input=[Video(url=url)], dialogue_edit=edit)
    for video, ref, code in (
        (other, edit, "dialogue_edit_source_mismatch"),
        (url, DialogueEditRef(id="5beec400-0000-4000-8000-000000000000"), "dialogue_edit_not_found"),
    ):
        with pytest.raises(RequestRejectedError) as refused:
            await sync.generations.create(model="sync-3", input=[Video(url=video)], dialogue_edit=ref)
        assert refused.value.api_code == code
    assert len(sandbox.charges) == charged
