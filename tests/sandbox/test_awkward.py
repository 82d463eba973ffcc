"""Awkward media in the sandbox: measured by decoding, rendered as they are meant to be seen and heard."""

# pyright: reportUnknownMemberType=false

import inspect
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.api import files, planning
from sync_mcp.sandbox.media import measure
from sync_mcp.sandbox.media.measure import measure as measured
from tests.media import awkward
from tests.media.clips import make_media
from tests.sandbox.wire import (
    Json,
    ask,
    audio,
    code_of,
    create,
    dubbed,
    fetched,
    finished,
    lipsync,
    loudness_of,
    text,
    uploaded,
)

_TYPES = {
    ".mp4": "video/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".aac": "audio/aac",
    ".jpg": "image/jpeg",
}


def _asset(api: httpx.Client, path: Path) -> Json:
    content_type = _TYPES[path.suffix]
    asset_id = uploaded(api, path.name, content_type, path.read_bytes())
    return {"type": content_type.partition("/")[0], "assetId": asset_id}


def _small(api: httpx.Client, tmp_path: Path) -> Json:
    """Put a clip into the storage of which it takes little to render even a long output."""
    return _asset(api, make_media(tmp_path / "small.mp4", picture="libx264", frames=50))


def _made(sandbox: Sandbox, api: httpx.Client, tmp_path: Path, body: Json) -> Path:
    done = finished(sandbox, api, body)
    assert done["status"] == "COMPLETED"
    return fetched(done["outputUrl"], tmp_path / "output.mp4")


# How long media are


def test_the_sandbox_does_not_measure_as_the_client_does() -> None:
    for module in (measure, planning):
        assert "probe(" not in inspect.getsource(module)


@pytest.mark.parametrize(
    ("make", "name", "seconds"),
    [
        (awkward.talk_then_quiet, "talk.aac", 30.0),
        (awkward.two_rates, "two.mp3", 8.05),
        (awkward.chained, "notes.ogg", 8.0),
    ],
)
def test_a_voice_is_as_long_as_it_decodes_and_its_job_can_be_fetched(
    sandbox: Sandbox,
    api: httpx.Client,
    tmp_path: Path,
    make: Callable[[Path], Path],
    name: str,
    seconds: float,
) -> None:
    path = make(tmp_path / name)
    assert measured(path).duration_seconds == pytest.approx(seconds, abs=0.1)
    body = lipsync(sandbox, input=[_small(api, tmp_path), _asset(api, path)])
    output = _made(sandbox, api, tmp_path, body)
    assert measured(output).duration_seconds == pytest.approx(seconds, abs=0.15)


def test_what_changes_while_nobody_looks_is_measured_anew(tmp_path: Path) -> None:
    path = make_media(tmp_path / "v.wav", sound="pcm_s16le", seconds=1.0)
    assert measured(path).duration_seconds == 1.0
    make_media(path, sound="pcm_s16le", seconds=2.0)
    assert measured(path).duration_seconds == 2.0


def test_a_video_that_breaks_off_is_refused(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    item = _asset(api, awkward.half(tmp_path / "half.mp4"))
    for body in (lipsync(sandbox, input=[item, audio(sandbox)]), dubbed(item)):
        assert code_of(api.post("/v2/generate", json=body)) == (422, "generation_input_video_invalid")


@pytest.mark.parametrize("fps", [1, 50])
def test_pictures_are_counted_by_the_rate_of_the_video(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, fps: int
) -> None:
    path = make_media(tmp_path / "v.mp4", picture="libx264", sound="aac", frames=4 * fps, fps=fps)
    body = dubbed(_asset(api, path))
    [estimate] = api.post("/v2/analyze/cost", json=body).json()
    assert estimate["estimatedFrameCount"] == 4 * fps


# How pictures are shown


def _corners(frame: VideoFrame) -> list[tuple[int, int]]:
    """Return the corners of a picture that are bright; the sandbox's mark lies in the upper left."""
    gray = frame.reformat(format="gray")
    plane = gray.planes[0]
    data = memoryview(plane)
    right, bottom = gray.width - 8, gray.height - 8
    places = {(0, 0): (8, 40), (1, 0): (right, 40), (0, 1): (8, bottom), (1, 1): (right, bottom)}
    return [corner for corner, (x, y) in places.items() if data[y * plane.line_size + x] > 150]


def _first_frame(path: Path) -> VideoFrame:
    with av.open(str(path), "r") as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize(
    ("orientation", "lit"),
    [(1, (1, 0)), (2, (0, 0)), (3, (0, 1)), (4, (1, 1)), (5, (0, 1)), (6, (1, 1)), (7, (1, 0)), (8, (0, 0))],
)
def test_a_photo_is_turned_and_mirrored_as_its_exif_says(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, orientation: int, lit: tuple[int, int]
) -> None:
    photo = Image.new("RGB", (320, 240))
    photo.paste((255, 255, 255), (160, 0, 320, 120))
    exif = Image.Exif()
    exif[274] = orientation
    photo.save(tmp_path / "photo.jpg", exif=exif)
    body = {"model": "sync-3", "input": [_asset(api, tmp_path / "photo.jpg"), text("x" * 15)]}
    frame = _first_frame(_made(sandbox, api, tmp_path, body))
    assert (frame.width > frame.height) == (orientation < 5)
    assert _corners(frame) == [lit]


def _lit_clip(path: Path, *, rotation: int = 0, hflip: bool = False, ratio: Fraction | None = None) -> Path:
    """Write a second of a clip of 320 by 240 that is bright in its upper right."""
    picture = bytes(160) + b"\xeb" * 160
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        for number in range(10):
            frame = VideoFrame(320, 240, "yuv420p")
            frame.planes[0].update(picture * 120 + bytes(320 * 120))
            for plane in frame.planes[1:]:
                plane.update(bytes([128]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("how", "size", "lit"),
    [
        ({"hflip": True}, (320, 240), (0, 0)),
        ({"rotation": 90}, (240, 320), (0, 0)),
        ({"rotation": 90, "hflip": True}, (240, 320), (1, 0)),
        ({"ratio": Fraction(2, 1)}, (640, 240), (1, 0)),
    ],
)
def test_a_video_is_turned_mirrored_and_stretched_as_it_says(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, how: Any, size: tuple[int, int], lit: tuple[int, int]
) -> None:
    clip = _lit_clip(tmp_path / "clip.mp4", **how)
    body = lipsync(sandbox, input=[_asset(api, clip), text("x" * 15)])
    frame = _first_frame(_made(sandbox, api, tmp_path, body))
    assert (frame.width, frame.height) == size
    assert _corners(frame) == [lit]


@pytest.mark.parametrize(("point", "status"), [((100, 300), 201), ((300, 100), 201), ((300, 300), 422)])
def test_a_point_of_a_turned_video_is_taken_in_either_picture(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, point: tuple[int, int], status: int
) -> None:
    clip = _asset(api, _lit_clip(tmp_path / "clip.mp4", rotation=90))
    speaker = {"active_speaker_detection": {"coordinates": point, "frame_number": 0}}
    body = lipsync(sandbox, input=[clip, audio(sandbox)], options=speaker)
    assert api.post("/v2/generate", json=body).status_code == status


def test_a_photo_of_12_megapixels_is_taken_and_a_video_of_that_size_is_not(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    photo = _asset(api, awkward.photo(tmp_path / "phone.jpg", 4032, 3024))
    create(api, {"model": "sync-3", "input": [photo, audio(sandbox)]})
    large = make_media(
        tmp_path / "large.mp4",
        picture="mpeg4",
        frames=1,
        size=(4032, 3024),
        draw=lambda _, width, height: bytes(width * height * 3),
    )
    body = lipsync(sandbox, input=[_asset(api, large), audio(sandbox)])
    assert code_of(api.post("/v2/generate", json=body)) == (422, "generation_input_resolution_unsupported")


# How sound is heard


def _loud_tenths(path: Path, seconds: int) -> list[bool]:
    return [peak > 1000 for peak in loudness_of(path, seconds)]


def test_sound_that_begins_after_the_picture_does_so_in_the_output(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    clip = awkward.make_tracks(tmp_path / "late.mp4", [(16_000, 2.0)], picture=True, late=2.0, seconds=2.0)
    loud = _loud_tenths(_made(sandbox, api, tmp_path, dubbed(_asset(api, clip))), 4)
    assert not any(loud[:18])
    assert all(loud[22:38])


def test_sound_that_changes_its_rate_and_channels_is_heard_to_its_end(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    items = [_small(api, tmp_path), _asset(api, awkward.two_rates(tmp_path / "two.mp3"))]
    loud = _loud_tenths(_made(sandbox, api, tmp_path, lipsync(sandbox, input=items)), 8)
    assert all(loud[2:38])
    assert all(loud[43:78])


# A job that is done can be fetched


def test_a_job_whose_output_cannot_be_made_any_more_does_not_end_completed(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", sound="aac")
    asset = _asset(api, clip)
    made = create(api, dubbed(asset))
    # It is another file before anybody fetches what was made of it.
    [kept] = [path for path in (sandbox.folder / "uploads").iterdir() if path.is_file()]
    kept.write_bytes(b"no video any more")
    sandbox.advance(sandbox.settings.job_seconds)
    assert api.get(f"/v2/generations/{made['id']}/download").status_code == 409
    done = api.get(f"/v2/generate/{made['id']}").json()
    assert (done["status"], done["errorCode"]) == ("FAILED", "generation_pipeline_failed")
    assert done["outputUrl"] is None


@pytest.mark.parametrize("looks_first", ["list", "count", "costs"])
def test_whoever_looks_first_no_list_and_no_cost_calls_a_job_completed_that_cannot_be_fetched(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, looks_first: str
) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", sound="aac")
    made = create(api, dubbed(_asset(api, clip)))
    [kept] = [path for path in (sandbox.folder / "uploads").iterdir() if path.is_file()]
    kept.write_bytes(b"no video any more")
    sandbox.advance(sandbox.settings.job_seconds)
    if looks_first == "list":
        assert api.get("/v2/generations", params={"status": "COMPLETED"}).json() == []
        [row] = api.get("/v2/generations", params={"status": "FAILED"}).json()
        assert row["id"] == made["id"]
    elif looks_first == "count":
        counted = [
            api.get("/v2/generations/count", params={"status": status}).json()["count"]
            for status in ("COMPLETED", "FAILED")
        ]
        assert counted == [0, 1]
    else:
        costs = api.get(f"/v2/generate/{made['id']}/costs").json()
        assert (costs["generationStatus"], costs["totalCostUsd"]) == ("FAILED", "0")


def test_an_output_that_fails_while_it_is_made_is_not_there_and_its_job_has_failed(
    sandbox: Sandbox, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("no picture")

    monkeypatch.setattr(files, "render", failing)
    done = finished(sandbox, api, lipsync(sandbox))
    assert ask("GET", done["outputUrl"]).status_code == 404
    assert api.get(f"/v2/generate/{done['id']}").json()["status"] == "FAILED"
