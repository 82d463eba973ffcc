from pathlib import Path

import httpx
import pytest

from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import SAMPLE_FILES, sample
from tests.docs.pages import ROOT
from tests.media.clips import make_media
from tests.sandbox.wire import ask, code_of, create, dubbed, lipsync, text, uploaded, video


def test_the_samples_are_a_clip_a_photo_a_sentence_and_a_clip_that_says_it() -> None:
    clip, photo, speech, speaking = (probe(sample(name)) for name in SAMPLE_FILES)
    assert (speaking.kind, speaking.duration_seconds, speaking.fps) == ("video", 5.0, 25.0)
    assert speaking.has_audio
    assert (clip.kind, clip.duration_seconds, clip.fps, clip.has_audio) == ("video", 5.0, 25.0, False)
    assert (photo.kind, photo.duration_seconds) == ("image", None)
    assert (speech.kind, speech.width) == ("audio", None)
    assert speech.duration_seconds == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("speaker.mp4", "video/mp4"),
        ("speaker.jpg", "image/jpeg"),
        ("speech.wav", "audio/wav"),
        ("speaking.mp4", "video/mp4"),
    ],
)
def test_the_samples_are_served_whole_in_parts_and_by_head(
    sandbox: Sandbox, name: str, media_type: str
) -> None:
    url = f"{sandbox.url}/samples/{name}"
    content = sample(name).read_bytes()
    whole = ask("GET", url)
    assert (whole.content, whole.headers["content-type"]) == (content, media_type)
    part = ask("GET", url, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    head = ask("HEAD", url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))


def test_nothing_but_the_samples_is_served(sandbox: Sandbox) -> None:
    for name in ("samples.py", "..%2Fserver.py"):
        assert ask("GET", f"{sandbox.url}/samples/{name}").status_code == 404


def test_every_list_of_samples_names_all_of_them(sandbox: Sandbox, api: httpx.Client) -> None:
    urls = [f"{sandbox.url}/samples/{name}" for name in SAMPLE_FILES]
    assert ask("GET", f"{sandbox.url}/sandbox").json()["samples"] == urls
    handle = sandbox.samples
    assert [handle.video, handle.image, handle.audio, handle.speaking] == urls
    missing = lipsync(sandbox, input=[video(sandbox) | {"url": f"{sandbox.url}/samples/none.mp4"}, text()])
    told = api.post("/v2/generate", json=missing).json()["suggestion"]
    assert all(url in told for url in urls)
    assert all(
        f"`{name}`" in (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8") for name in SAMPLE_FILES
    )


def test_nobody_real_is_seen_in_the_samples() -> None:
    maker = (ROOT / "tests" / "sandbox" / "make_recording.py").read_text(encoding="utf-8")
    assert "skimage" not in maker
    assert "def face(" in maker


@pytest.mark.parametrize("path", ["/v2/generate", "/v2/analyze/cost"])
@pytest.mark.parametrize("how", ["url", "asset without a sound", "asset with silence"])
def test_a_silent_video_is_refused_for_a_dub(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, path: str, how: str
) -> None:
    item = video(sandbox)
    if how != "url":
        sound = "aac" if how == "asset with silence" else None
        clip = make_media(tmp_path / "v.mp4", picture="libx264", sound=sound, silent=True)
        item = {"type": "video", "assetId": uploaded(api, "v.mp4", "video/mp4", clip.read_bytes())}
    refused = api.post(path, json=dubbed(item))
    assert code_of(refused) == (422, "generation_input_video_invalid")
    assert "nothing to hear" in refused.json()["message"]
    assert refused.json()["field"] == f"input[0].{'url' if how == 'url' else 'assetId'}"
    assert sandbox.charges == []


def test_the_speaking_sample_is_dubbed(sandbox: Sandbox, api: httpx.Client) -> None:
    made = create(api, dubbed({"type": "video", "url": sandbox.samples.speaking}))
    assert made["status"] == "PENDING"


@pytest.mark.parametrize("path", ["/v2/generate", "/v2/analyze/cost"])
def test_a_voice_that_is_not_listed_is_refused(sandbox: Sandbox, api: httpx.Client, path: str) -> None:
    cloned, *_, premade = api.get("/v2/voices").json()
    for voice_id, status in (
        ("v1", 422),
        (premade["name"], 422),
        (premade["id"], 201),
        (cloned["id"], 201),
        (cloned["voiceId"], 201),
    ):
        script = text()
        script["provider"]["voiceId"] = voice_id
        answer = api.post(path, json=lipsync(sandbox, input=[video(sandbox), script]))
        assert answer.is_error == (status == 422)
        if answer.is_error:
            assert code_of(answer) == (422, "voice_not_found")
            assert answer.json()["field"] == "input[1].provider.voiceId"
    assert len(sandbox.charges) == (3 if path == "/v2/generate" else 0)
