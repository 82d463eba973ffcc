# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox.media.samples import sample


def _clip(path: Path, rotation: int = 0, options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 98, 50, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(20):
            frame = VideoFrame(98, 50, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_is_described(tmp_path: Path) -> None:
    info = probe(_clip(tmp_path / "clip.mp4"))
    assert (info.kind, info.duration_seconds, info.fps, info.width, info.height) == (
        "video",
        2.0,
        10.0,
        98,
        50,
    )
    assert (info.has_video, info.has_audio) == (True, False)


def test_an_open_file_can_be_described() -> None:
    with sample("speech.wav").open("rb") as file:
        assert probe(file).kind == "audio"


def test_a_stream_without_a_length_in_its_header_is_measured(tmp_path: Path) -> None:
    path = _clip(tmp_path / "clip.mkv", options={"live": "1"})
    assert probe(path).duration_seconds == pytest.approx(2.0, abs=0.15)


def test_a_rotated_video_is_as_wide_as_it_is_shown(tmp_path: Path) -> None:
    info = probe(_clip(tmp_path / "phone.mp4", rotation=90))
    assert (info.width, info.height) == (50, 98)


@pytest.mark.parametrize("content", [b"", b"plain text", sample("speaker.mp4").read_bytes()[:3000]])
def test_what_cannot_be_decoded_is_a_media_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError):
        probe(path)
    with pytest.raises(MediaError):
        probe(io.BytesIO(content))


def test_a_header_without_pictures_is_a_media_error(tmp_path: Path) -> None:
    whole = sample("speaker.mp4").read_bytes()
    start = whole.index(b"mdat") + 4
    path = tmp_path / "hollow.mp4"
    path.write_bytes(whole[:start] + bytes(len(whole) - start))
    with pytest.raises(MediaError):
        probe(path)
