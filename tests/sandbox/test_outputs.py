# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import threading
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import httpx
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.mark import dot_size
from sync_mcp.sandbox.media.picture import output_size
from sync_mcp.sandbox.media.render import RenderPlan, render
from tests.media.clips import make_media
from tests.sandbox.wire import (
    Json,
    ask,
    audio,
    fetched,
    finished,
    image,
    lipsync,
    loudness_of,
    text,
    uploaded,
    video,
)

SPEECH_SECONDS = 4.502
LONG = "x" * 15 * 6
"""A script that the sample voice takes 6 seconds for."""


def _frames(path: Path) -> list[VideoFrame]:
    # A frame by itself would set up the conversion anew.
    reformatter = VideoReformatter()
    with av.open(str(path), "r") as container:
        return [reformatter.reformat(frame, format="gray") for frame in container.decode(video=0)]


def _luma(frame: VideoFrame, x: int, y: int) -> int:
    plane = frame.planes[0]
    return memoryview(plane)[y * plane.line_size + x]


def _difference(one: VideoFrame, other: VideoFrame) -> float:
    points = [(x, y) for x in range(10, one.width, 20) for y in range(80, one.height, 20)]
    return sum(abs(_luma(one, x, y) - _luma(other, x, y)) for x, y in points) / len(points)


@pytest.mark.parametrize(
    ("sync_mode", "voice", "seconds"),
    [
        ("bounce", "longer", 6.0),
        ("loop", "longer", 6.0),
        ("remap", "longer", 6.0),
        ("cut_off", "longer", 5.0),
        ("silence", "longer", 5.0),
        ("bounce", "shorter", SPEECH_SECONDS),
        ("loop", "shorter", SPEECH_SECONDS),
        ("remap", "shorter", SPEECH_SECONDS),
        ("cut_off", "shorter", SPEECH_SECONDS),
        ("silence", "shorter", 5.0),
    ],
)
def test_the_output_is_as_long_as_sync_mode_says(
    sandbox: Sandbox,
    api: httpx.Client,
    tmp_path: Path,
    sync_mode: str,
    voice: str,
    seconds: float,
) -> None:
    # Of few pixels: how long it is rests on their number nowhere.
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", frames=125, fps=25)
    source = {"type": "video", "assetId": uploaded(api, "clip.mp4", "video/mp4", clip.read_bytes())}
    spoken = text(LONG) if voice == "longer" else audio(sandbox)
    body = lipsync(sandbox, input=[source, spoken], options={"sync_mode": sync_mode})
    done = finished(sandbox, api, body)
    assert done["outputDuration"] == pytest.approx(seconds, abs=0.02)
    info = probe(fetched(done["outputUrl"], tmp_path / "output.mp4"))
    assert info.duration_seconds == pytest.approx(done["outputDuration"], abs=0.1)
    assert (info.has_video, info.has_audio, info.width, info.height) == (True, True, 64, 48)


def test_bounce_is_the_default(sandbox: Sandbox, api: httpx.Client) -> None:
    done = finished(sandbox, api, lipsync(sandbox, input=[video(sandbox), text(LONG)]))
    assert done["outputDuration"] == pytest.approx(6.0)


def _lit_corner(
    path: Path, codec: Literal["ffv1", "libx264"], width: int, height: int, rotation: int
) -> Path:
    """Write a dark clip of a second whose upper right corner is bright."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(10):
            frame = VideoFrame(width, height, "yuv444p")
            for number_of_plane, plane in enumerate(frame.planes):
                plane.update(bytes([128 if number_of_plane else 16]) * plane.buffer_size)
            luma = frame.planes[0]
            for y in range(height // 3):
                place = y * luma.line_size + width - width // 3
                memoryview(luma)[place : place + width // 3] = bytes([235]) * (width // 3)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rotation", "lit"),
    [("odd.mkv", "ffv1", 0, (1, 0)), ("phone.mp4", "libx264", 90, (0, 0))],
)
def test_odd_and_turned_pictures_come_out_even_and_upright(
    tmp_path: Path,
    name: str,
    codec: Literal["ffv1", "libx264"],
    rotation: int,
    lit: tuple[int, int],
) -> None:
    clip = _lit_corner(tmp_path / name, codec, 143, 111, rotation)
    info = probe(clip)
    assert (info.width, info.height) == ((111, 143) if rotation else (143, 111))
    plan = RenderPlan(clip, False, info.width or 0, info.height or 0, 10, 1.0, 1.0, "forward", ())
    render(plan, tmp_path / "output.mp4", threading.Event())
    frame = _frames(tmp_path / "output.mp4")[0]
    assert (frame.width, frame.height) == output_size(info.width or 0, info.height or 0)
    assert not frame.width % 2
    assert not frame.height % 2
    # The mark lies over the upper left corner, so that one is looked at beneath it.
    corners = {
        (x, y): _luma(frame, 5 + x * (frame.width - 10), 20 if not y else frame.height - 5)
        for x in (0, 1)
        for y in (0, 1)
    }
    assert [place for place, light in corners.items() if light > 150] == [lit]


def test_the_codecs_play_everywhere(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    done = finished(sandbox, api, lipsync(sandbox))
    path = fetched(done["outputUrl"], tmp_path / "output.mp4")
    with av.open(str(path), "r") as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec.name, picture.pix_fmt, sound.codec.name) == ("h264", "yuv420p", "aac")


def test_the_mark_stands_in_every_picture(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    done = finished(sandbox, api, lipsync(sandbox))
    frames = _frames(fetched(done["outputUrl"], tmp_path / "output.mp4"))
    plain = _frames(fetched(sandbox.samples.video, tmp_path / "plain.mp4"))
    dot = dot_size(360)
    # A dot in the top stroke of the S, and the empty dot before it.
    bright, dark = (3 * dot + dot // 2, dot + dot // 2), (dot + dot // 2, dot + dot // 2)
    for frame in frames:
        assert _luma(frame, *bright) > 180
        assert _luma(frame, *dark) < 60
    assert abs(_luma(plain[0], *bright) - _luma(plain[0], *dark)) < 30


def test_bounce_goes_back_and_loop_begins_again(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    shown: dict[str, list[VideoFrame]] = {}
    for mode in ("bounce", "loop"):
        items = [video(sandbox), text(LONG)]
        done = finished(sandbox, api, lipsync(sandbox, input=items, options={"sync_mode": mode}))
        shown[mode] = _frames(fetched(done["outputUrl"], tmp_path / f"{mode}.mp4"))
    first, last = shown["loop"][0], shown["loop"][124]
    assert _difference(first, last) > 8
    assert _difference(shown["loop"][126], first) < 3
    assert _difference(shown["bounce"][126], last) < 3
    assert _difference(shown["bounce"][149], shown["loop"][99]) < 3


def test_remap_stretches_the_picture(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    items = [video(sandbox), text(LONG)]
    done = finished(sandbox, api, lipsync(sandbox, input=items, options={"sync_mode": "remap"}))
    stretched = _frames(fetched(done["outputUrl"], tmp_path / "output.mp4"))
    plain = _frames(fetched(sandbox.samples.video, tmp_path / "plain.mp4"))
    assert _difference(stretched[-1], plain[-1]) < 3
    assert _difference(stretched[75], plain[62]) < 3


def test_an_image_moves_for_as_long_as_the_voice_speaks(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    done = finished(sandbox, api, {"model": "sync-3", "input": [image(sandbox), audio(sandbox)]})
    path = fetched(done["outputUrl"], tmp_path / "output.mp4")
    assert probe(path).duration_seconds == pytest.approx(SPEECH_SECONDS, abs=0.1)
    frames = _frames(path)
    assert _difference(frames[0], frames[100]) > 5


def test_the_sound_is_that_of_the_audio_and_silent_after_it(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    done = finished(sandbox, api, lipsync(sandbox, options={"sync_mode": "silence"}))
    loudness = loudness_of(fetched(done["outputUrl"], tmp_path / "output.mp4"), 5)
    assert max(loudness[:40]) > 1000
    assert max(loudness[46:]) < 100


def test_segments_are_spoken_in_their_places(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    segments = [
        {"startTime": 3, "endTime": 4, "audioInput": {"refId": "a", "startTime": 0, "endTime": 1}},
        {"startTime": 0, "endTime": 1, "audioInput": {"refId": "t"}},
    ]
    items = [video(sandbox), audio(sandbox, refId="a"), text(refId="t")]
    done = finished(sandbox, api, lipsync(sandbox, input=items, segments=segments))
    assert done["outputDuration"] == 5.0
    loudness = loudness_of(fetched(done["outputUrl"], tmp_path / "output.mp4"), 5)
    assert max(loudness[1:9]) > 1000
    assert max(loudness[31:39]) > 1000
    assert max(loudness[11:29] + loudness[41:]) < 100


def test_a_script_is_spoken_by_the_sample_voice(sandbox: Sandbox, api: httpx.Client, tmp_path: Path) -> None:
    done = finished(sandbox, api, lipsync(sandbox, input=[video(sandbox), text("x" * 90)]))
    speech = probe(fetched(done["synthesizedAudioUrl"], tmp_path / "speech.wav"))
    assert (speech.kind, speech.duration_seconds) == ("audio", pytest.approx(6.0))
    assert done["outputDuration"] == pytest.approx(6.0)


def test_a_dub_is_as_long_as_its_video_and_has_sound(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    dub: Json = {"providerName": "elevenlabs", "targetLang": "es"}
    done = finished(
        sandbox,
        api,
        lipsync(sandbox, input=[{"type": "video", "url": sandbox.samples.speaking}], dubParams=dub),
    )
    assert done["outputDuration"] == 5.0
    assert max(loudness_of(fetched(done["outputUrl"], tmp_path / "output.mp4"), 5)) > 1000


def test_an_output_url_holds_verbatim_and_for_a_time(sandbox: Sandbox, api: httpx.Client) -> None:
    done = finished(sandbox, api, lipsync(sandbox))
    url = done["outputUrl"]
    assert ask("GET", url).status_code == 200
    for wrong in (url.partition("?")[0], url[:-1], url.replace("%2F", "/"), f"{url}&x=1"):
        response = ask("GET", wrong)
        assert (response.status_code, response.headers["content-type"]) == (403, "application/xml")
    sandbox.advance(3600)
    assert ask("GET", url).status_code == 403
    fresh = api.get(f"/v2/generate/{done['id']}").json()["outputUrl"]
    assert fresh != url
    assert ask("GET", fresh).status_code == 200


def test_an_output_is_served_in_ranges_under_its_file_name(sandbox: Sandbox, api: httpx.Client) -> None:
    url = finished(sandbox, api, lipsync(sandbox, outputFileName="my clip"))["outputUrl"]
    whole = ask("GET", url)
    assert "my_clip.mp4" in whole.headers["content-disposition"]
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    for asked, start, end in (("0-9", 0, 10), (f"{size - 5}-", size - 5, size), ("-7", size - 7, size)):
        part = ask("GET", url, headers={"range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, whole.content[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    ranged = {"range": "bytes=0-9"}
    assert ask("GET", url, headers={**ranged, "if-range": whole.headers["etag"]}).status_code == 206
    assert ask("GET", url, headers={**ranged, "if-range": '"another"'}).content == whole.content
    beyond = ask("GET", url, headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
