import pytest

from sync_mcp.media.probe import probe
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.storage import SAMPLE_FILES, SAMPLES
from tests.sandbox.wire import ask


def test_the_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir() if path.is_file()) <= 300_000


def test_the_samples_are_a_clip_a_photo_and_a_sentence() -> None:
    clip, photo, speech = (probe(SAMPLES / name) for name in SAMPLE_FILES)
    assert (clip.kind, clip.duration_seconds, clip.fps, clip.has_audio) == ("video", 5.0, 25.0, False)
    assert (photo.kind, photo.duration_seconds) == ("image", None)
    assert (speech.kind, speech.width) == ("audio", None)
    assert speech.duration_seconds == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("speaker.mp4", "video/mp4"), ("speaker.jpg", "image/jpeg"), ("speech.wav", "audio/wav")],
)
def test_the_samples_are_served_whole_in_parts_and_by_head(
    sandbox: Sandbox, name: str, media_type: str
) -> None:
    url = f"{sandbox.url}/samples/{name}"
    content = (SAMPLES / name).read_bytes()
    whole = ask("GET", url)
    assert (whole.content, whole.headers["content-type"]) == (content, media_type)
    part = ask("GET", url, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    head = ask("HEAD", url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))


def test_nothing_but_the_samples_is_served(sandbox: Sandbox) -> None:
    for name in ("make_samples.py", "README.md", "..%2Fserver.py"):
        assert ask("GET", f"{sandbox.url}/samples/{name}").status_code == 404
