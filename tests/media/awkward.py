"""Files as they come from recorders, phones and broken downloads: awkward, or not what they seem."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import array
import json
import math
import struct
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tests.media.clips import make_media


def talk_then_quiet(path: Path) -> Path:
    """Write 30 s of ADTS AAC, loud at first: the bit rate of its beginning tells a fraction of that."""
    return make_tracks(path, [(16_000, 3.0)], format="adts", seconds=30.0)


def two_rates(path: Path) -> Path:
    """Write two MP3s of 4 s one behind the other, of another rate and other channels."""
    first = make_media(path.with_name("first.mp3"), sound="libmp3lame", seconds=4.0)
    second = make_tracks(path.with_name("second.mp3"), [(48_000, 4.0)], codec="libmp3lame", layout="stereo")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def chained(path: Path) -> Path:
    """Write two voice notes of 4 s one behind the other: the times begin again at 0."""
    note = make_media(path.with_name("note.ogg"), sound="libopus", seconds=4.0)
    path.write_bytes(note.read_bytes() * 2)
    return path


def half(path: Path) -> Path:
    """Write the first half of a clip of 4 s whose index comes first."""
    whole = make_media(path, picture="libx264", sound="aac", frames=40, options={"movflags": "+faststart"})
    return cut(whole, 0.5)


def cut(path: Path, share: float) -> Path:
    """Keep the beginning of a file alone."""
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


def sound_alone(path: Path) -> Path:
    """Write sound without a picture."""
    return make_media(path, sound="libopus" if path.suffix == ".webm" else "aac", seconds=4.0)


def behind(path: Path, box: bytes) -> Path:
    """Write a clip of 4 s behind a box of this name."""
    clip = make_media(path, picture="libx264", sound="aac", frames=40)
    content = (b"isom" if box == b"styp" else b"") + bytes(24)
    first = struct.pack(">I", 8 + len(content)) + box + content
    whole = bytearray(clip.read_bytes())
    at = 0
    # What the index says of places in the file moves with them.
    while (at := whole.find(b"stco", at + 1)) > 0:
        (count,) = struct.unpack_from(">I", whole, at + 8)
        places = struct.unpack_from(f">{count}I", whole, at + 12)
        struct.pack_into(f">{count}I", whole, at + 12, *(place + len(first) for place in places))
    path.write_bytes(first + whole)
    return path


def photo(path: Path, width: int, height: int) -> Path:
    """Write a photo of one colour."""
    codec, pixels = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    return make_media(
        path,
        picture=codec,
        pixels=pixels,
        frames=1,
        size=(width, height),
        format="image2",
        draw=lambda _, w, h: bytes([90]) * (w * h * 3),
    )


def make_tracks(
    path: Path,
    tracks: list[tuple[int, float]],
    *,
    codec: str = "aac",
    picture: bool = False,
    layout: str = "mono",
    late: float = 0.0,
    seconds: float | None = None,
    format: str | None = None,
    still: bool = False,
) -> Path:
    """Write a file of sounds, each with its rate and how many seconds of it are loud.

    The sounds begin `late`; a picture has 4 s.
    """
    with av.open(str(path), "w", format=format) as container:
        video = container.add_stream("libx264", rate=10) if picture else None
        sounds = [container.add_stream(codec, rate=rate, layout=layout) for rate, _ in tracks]
        if isinstance(video, VideoStream):
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for number in range(40):
                frame = VideoFrame(64, 48, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([80 if still else number * 5]) * plane.buffer_size)
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        for stream, (rate, loud) in zip(sounds, tracks, strict=True):
            assert isinstance(stream, AudioStream)
            stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 32_000
            length = seconds or 4.0
            for frame in _tones(stream, rate, loud, length, late):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def _tones(stream: AudioStream, rate: int, loud: float, seconds: float, late: float) -> list[AudioFrame]:
    size = stream.frame_size or 1024
    is_whole = stream.format.name.startswith("s16")
    # After so many samples the tone begins again, so no more of them need be worked out.
    period = rate // math.gcd(rate, 440)
    wave = [0.3 * math.sin(n * 440 * math.tau / rate) for n in range(period)]
    once = array.array("h" if is_whole else "f", [round(v * 32767) if is_whole else v for v in wave])
    tone = once * (size // period + 2)
    frames: list[AudioFrame] = []
    for number in range(round(seconds * rate / size)):
        frame = AudioFrame(format=stream.format.name, layout=stream.layout.name, samples=size)
        begin = number * size
        part = tone[begin % period :][:size].tobytes()
        data = part if begin < loud * rate else bytes(len(part))
        for plane in frame.planes:
            plane.update(data + bytes(plane.buffer_size - len(data)))
        frame.sample_rate, frame.pts = rate, begin + round(late * rate)
        frame.time_base = Fraction(1, rate)
        frames.append(frame)
    return frames


def spatial_first(path: Path) -> Path:
    """Write a video with a sound that nobody decodes first, and an ordinary one beside it."""
    content = make_tracks(path, [(16_000, 4.0)] * 2, picture=True).read_bytes()
    for name, other in ((b"mp4a", b"apac"), (b"esds", b"free")):
        at = content.index(name)
        content = content[:at] + other + content[at + 4 :]
    path.write_bytes(content)
    return path


def gsm(path: Path, seconds: int = 4) -> Path:
    """Write a WAV of GSM, as answering machines do."""
    data = bytes(65) * (25 * seconds)
    form = struct.pack("<HHIIHHHH", 0x31, 1, 8000, 1625, 65, 0, 2, 320)
    fact = struct.pack("<4sII", b"fact", 4, 8000 * seconds)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + fact
        + struct.pack("<4sI", b"data", len(data))
        + data
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


NO_MEDIA: list[tuple[str, bytes, str, str]] = [
    ("page.mp4", b"\n<!DOCTYPE html><html><head><title>Sign in</title>", "a web page", "direct link"),
    ("error.mp4", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML", "direct link"),
    ("answer.wav", json.dumps({"error": "not found"}).encode(), "JSON", "direct link"),
    ("pointer.mov", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
    ("list.mp4", b"#EXTM3U\n#EXTINF:5,\na.ts\n", "a playlist", "that it lists"),
    ("clips.mp4", b"PK\x03\x04" + bytes(200), "an archive", "Unpack"),
]
"""What lies under a media file's name by mistake: name, content, what it is called, the way on."""
