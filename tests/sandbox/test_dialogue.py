"""Transcriptions and dialogue edits of the sandbox keep the API's contract (API §25, §5.0)."""

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import Json, ask, code_of, create, lipsync

EDITS = "/v2/dialogue-edits"
NOBODYS = "5beec400-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def at_once(sandbox: Sandbox) -> None:
    sandbox.configure(job_seconds=0)


def transcribed(api: httpx.Client, url: str, **window: int) -> Json:
    answer = api.post("/v2/transcriptions", json={"sourceVideoUrl": url, **window})
    assert answer.status_code == 201, answer.text
    return api.get(f"/v2/transcriptions/{answer.json()['id']}").json()


def edited(api: httpx.Client, url: str, edits: list[Json], **more: object) -> httpx.Response:
    transcript = transcribed(api, url)["transcript"]
    body = {"sourceVideoUrl": url, "transcript": transcript, "edits": edits, **more}
    return api.post(EDITS, json=body)


def words_of(transcript: Json) -> list[Json]:
    return [word for segment in transcript["segments"] for word in segment["words"]]


def change(word_id: str = "w1", replacement: str = "Hi") -> Json:
    return {"kind": "change", "wordId": word_id, "replacement": replacement}


def rendered(url: str, edit_id: str, **more: object) -> Json:
    video = {"type": "video", "url": url}
    return {"model": "sync-3", "input": [video], "dialogueEdit": {"id": edit_id}, **more}


def made(sandbox: Sandbox, api: httpx.Client) -> str:
    """Return the URL of a video that says another thing than the sample does."""
    return api.get(f"/v2/generate/{create(api, lipsync(sandbox))['id']}").json()["outputUrl"]


def test_a_transcription_has_words_with_ids_and_absolute_times(api: httpx.Client, sandbox: Sandbox) -> None:
    told = transcribed(api, sandbox.samples.speaking)
    assert (told["status"], told["sourceVideoUrl"]) == ("COMPLETED", sandbox.samples.speaking)
    words = words_of(told["transcript"])
    assert {"id", "text", "startMs", "endMs"} <= words[0].keys()
    part = transcribed(api, sandbox.samples.speaking, startMs=words[2]["startMs"])
    assert part["id"] != told["id"]
    assert words_of(part["transcript"])[0]["startMs"] >= words[2]["startMs"]
    assert sandbox.charges == []


def test_an_edit_shows_its_preview_its_words_and_what_moved(api: httpx.Client, sandbox: Sandbox) -> None:
    answer = edited(api, sandbox.samples.speaking, [change(), {"kind": "remove", "wordIds": ["w3", "w4"]}])
    assert answer.status_code == 201
    told = api.get(f"{EDITS}/{answer.json()['id']}").json()
    assert told["status"] == "COMPLETED"
    assert ask("GET", told["previewAudioUrl"]).headers["content-type"] == "audio/wav"
    said, [kept, gone] = words_of(told["resultTranscript"]), told["resultSlots"]
    assert [word["id"] for word in said[:3]] == ["w1", "w2", "w5"]
    assert set(kept) == {"outputStartMs", "outputDurationMs", "sourceStartMs", "sourceDurationMs"}
    assert (kept["outputDurationMs"] > 0, gone["outputDurationMs"]) == (True, 0)
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([change("w999")], "the transcript has no word w999"),
        ([change()] * 101, "edits"),
        ([], "edits"),
        ([change(), {"kind": "remove", "wordIds": ["w1"]}], "touches a word that another edit touches"),
        ([{"kind": "remove", "wordIds": ["w1", "w3"]}], "must be words in a row"),
    ],
)
def test_edits_that_do_not_apply_are_400_and_cost_nothing(
    api: httpx.Client, sandbox: Sandbox, edits: list[Json], words: str
) -> None:
    refused = edited(api, sandbox.samples.speaking, edits)
    assert (refused.status_code, words in str(refused.json()["message"])) == (400, True), refused.text
    assert sandbox.charges == []


def test_what_the_api_refuses_by_a_code_is_refused_by_it_and_costs_nothing(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    url = sandbox.samples.speaking
    transcript = transcribed(api, url)["transcript"]
    ids = [word["id"] for word in words_of(transcript)]
    large = edited(api, url, [{"kind": "remove", "wordIds": ids[:-1]}])
    assert code_of(large) == (422, "dialogue_edit_removal_too_large")
    assert large.json()["dialogueEditSection"].keys() == {"slotIndex", "sourceStartMs", "sourceDurationMs"}
    assert code_of(edited(api, url, [change()], startMs=0)) == (422, "dialogue_edit_unsupported")
    edit_id = edited(api, url, [change()]).json()["id"]
    other = made(sandbox, api)
    charged = len(sandbox.charges)
    assert code_of(api.post(EDITS, json={**_body(url, transcript), "sourceVideoUrl": other})) == (
        422,
        "dialogue_edit_source_mismatch",
    )
    for body, code in (
        (rendered(url, NOBODYS), "dialogue_edit_not_found"),
        (rendered(other, edit_id), "dialogue_edit_source_mismatch"),
        ({**rendered(url, edit_id), "input": lipsync(sandbox)["input"]}, "dialogue_edit_audio_conflict"),
    ):
        for path in ("/v2/generate", "/v2/analyze/cost"):
            assert code_of(api.post(path, json=body)) == (422, code)
    sandbox.configure(dialogue_rollout="off")
    for path, body in (("/v2/transcriptions", {"sourceVideoUrl": url}), (EDITS, _body(url, transcript))):
        assert code_of(api.post(path, json=body)) == (422, "dialogue_edit_retime_required")
    sandbox.configure(dialogue_rollout="unknown")
    assert code_of(api.post(EDITS, json=_body(url, transcript))) == (
        503,
        "generation_infra_service_unavailable",
    )
    assert len(sandbox.charges) == charged


def _body(url: str, transcript: Json) -> Json:
    return {"sourceVideoUrl": url, "transcript": transcript, "edits": [change()]}


def test_the_edits_of_a_batch_are_of_one_video_and_one_that_cannot_be_rendered_refuses_it(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    other = made(sandbox, api)
    own = edited(api, sandbox.samples.speaking, [change()]).json()["id"]
    of_other = edited(api, other, [change()]).json()["id"]
    charged = len(sandbox.charges)
    rows = [
        {"request_id": str(n), "endpoint": "/v2/generate", "payload": lipsync(sandbox)} for n in range(20)
    ]
    rows[3]["payload"] = rendered(sandbox.samples.speaking, own)
    for payload, code in (
        (rendered(other, of_other), "dialogue_edit_source_mismatch"),
        (rendered(other, NOBODYS), "dialogue_edit_not_found"),
    ):
        rows[5]["payload"] = payload
        refused = api.post("/v2/batch", json={"rows": rows})
        assert (code_of(refused), refused.json()["lineNumber"]) == ((422, code), 6)
    assert len(sandbox.charges) == charged
    rows[5]["payload"] = lipsync(sandbox)
    assert api.post("/v2/batch", json={"rows": rows}).status_code == 201
