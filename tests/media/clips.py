"""Small real media files, made to measure."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

Draw = Callable[[int, int, int], bytes]
"""Returns the pixels of a frame, three bytes each, by its number, width and height."""


def rising(number: int, width: int, height: int) -> bytes:
    """Draw a grey that grows lighter from frame to frame."""
    return bytes([(40 + number * 8) % 256]) * (width * height * 3)


def frozen(number: int, width: int, height: int) -> bytes:
    """Draw the same stripes every time."""
    del number
    return b"".join(bytes([row * 7 % 256]) * (width * 3) for row in range(height))


def frozen_at_first(number: int, width: int, height: int) -> bytes:
    """Draw the same stripes for seven of ten seconds, and then a grey that grows lighter."""
    return frozen(number, width, height) if number < 70 else rising(number, width, height)


def make_media(
    path: Path,
    *,
    picture: str | None = None,
    sound: str | None = None,
    size: tuple[int, int] = (64, 48),
    frames: int = 20,
    fps: int = 10,
    times: Iterable[int] | None = None,
    draw: Draw = rising,
    pixels: str = "yuv420p",
    rotation: int = 0,
    silent: bool = False,
    seconds: float | None = None,
    format: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a file with a picture and a sound in these codecs; return its path.

    `times` are the frames' own, in steps of 1/`fps`; `seconds` is the length of the sound, by default the
    picture's.
    """
    with av.open(str(path), "w", format=format, options=options or {}) as container:
        video = audio = None
        if picture:
            video = container.add_stream(
                picture, rate=fps, options={"x265-params": "log-level=none"} if picture == "libx265" else {}
            )
            assert isinstance(video, VideoStream)
            video.width, video.height = size
            video.pix_fmt = pixels
            if rotation:
                video.set_display_rotation(rotation)
        if sound:
            audio = container.add_stream(
                sound,
                rate=48_000 if sound == "libopus" else 16_000,
                layout="mono",
                # How good it sounds is nothing to the tests, and how long it takes to encode is.
                options={"aac_coder": "fast"} if sound == "aac" else {},
            )
            assert isinstance(audio, AudioStream)
            audio.bit_rate = 32_000
        moments = list(times) if times is not None else list(range(frames))
        if video:
            _encode_picture(container, video, moments, fps, draw)
        if audio:
            length = seconds if seconds is not None else (moments[-1] + 1) / fps
            _encode_sound(container, audio, length, silent)
    return path


def _encode_picture(
    container: OutputContainer, stream: VideoStream, moments: list[int], fps: int, draw: Draw
) -> None:
    width, height = stream.width, stream.height
    # A frame by itself would set up the conversion anew.
    reformatter = VideoReformatter()
    for number, moment in enumerate(moments):
        frame = VideoFrame(width, height, "rgb24")
        row = width * 3
        rows = draw(number, width, height)
        pad = bytes(frame.planes[0].line_size - row)
        frame.planes[0].update(b"".join(rows[at : at + row] + pad for at in range(0, len(rows), row)))
        frame = reformatter.reformat(frame, format=stream.pix_fmt)
        frame.pts, frame.time_base = moment, Fraction(1, fps)
        frame.pict_type = PictureType.NONE
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _tone(rate: int, count: int) -> bytes:
    """Return so many samples of 16 bits of a tone of 440 Hz."""
    # After so many samples it begins again, so no more of them need be worked out.
    period = rate // math.gcd(rate, 440)
    wave = (round(12_000 * math.sin(number * 440 * math.tau / rate)) for number in range(period))
    once = b"".join(sample.to_bytes(2, "little", signed=True) for sample in wave)
    return (once * (count // period + 1))[: 2 * count]


def _encode_sound(container: OutputContainer, stream: AudioStream, seconds: float, silent: bool) -> None:
    rate = stream.rate
    count = round(seconds * rate)
    frame = AudioFrame(format="s16", layout="mono", samples=count)
    data = bytes(2 * count) if silent else _tone(rate, count)
    plane = frame.planes[0]
    plane.update(data + bytes(plane.buffer_size - len(data)))
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler(
        format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 1024
    )
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))
