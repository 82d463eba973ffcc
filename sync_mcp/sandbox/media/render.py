"""Making the MP4 that a finished job delivers."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.media.mark import draw
from sync_mcp.sandbox.media.picture import (
    Walk,
    moving_frames,
    output_size,
    steady_frames,
    still_frames,
    walk_indices,
)
from sync_mcp.sandbox.media.sound import RATE, Track

_TRIED = 256


@dataclass(frozen=True, slots=True)
class Voice:
    """A sound, and where on the output's track it goes; seconds throughout."""

    path: Path
    at: float = 0.0
    skip: float = 0.0
    seconds: float | None = None
    """How much of the track it takes, silent where the sound is shorter; None for as long as it sounds."""


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What an output is made of."""

    visual: Path
    still: bool
    width: int
    height: int
    fps: float
    seconds: float
    source_seconds: float
    walk: Walk
    voices: tuple[Voice, ...]


class RenderCancelled(Exception):
    """The sandbox stops, and nobody waits for the output any more."""


def render(plan: RenderPlan, target: Path, cancelled: threading.Event) -> None:
    """Write the output: H.264 and AAC in MP4, with the mark in every picture.

    Raises:
        RenderCancelled: `cancelled` was set meanwhile.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            part = Path(folder) / "output.mp4"
            with Track(Path(folder) / "track.pcm", plan.seconds) as track:
                _lay_voices(plan, track)
                _write(plan, track, part, cancelled)
            part.replace(target)
    except (OSError, FFmpegError) as error:
        # A reset takes the files away under a render.
        if cancelled.is_set():
            raise RenderCancelled from error
        raise


def try_picture(plan: RenderPlan) -> None:
    """Make the first picture of an output, to see that it can be made; once is enough for a file that stays.

    Raises:
        MediaError: it cannot.
    """
    try:
        status = plan.visual.stat()
    except OSError as error:
        raise MediaError("is not there any more.", subject="Its picture") from error
    size, fps = output_size(plan.width, plan.height), _rate(plan.fps)
    _try_picture(plan.visual, status.st_mtime_ns, status.st_size, size, fps, still=plan.still)


@lru_cache(maxsize=_TRIED)
def _try_picture(
    path: Path, changed: int, length: int, size: tuple[int, int], fps: Fraction, *, still: bool
) -> None:
    del changed, length
    try:
        first = next(still_frames(path, size, fps, 1) if still else steady_frames(path, size, fps), None)
    except (FFmpegError, ValueError, ArithmeticError) as error:
        raise MediaError("cannot be rendered.", subject="Its picture") from error
    if first is None:
        raise MediaError("holds no picture that can be rendered.")


def _lay_voices(plan: RenderPlan, track: Track) -> None:
    for voice in plan.voices:
        if voice.seconds is not None:
            track.silence(voice.at, voice.seconds)
        track.lay(voice.path, at=voice.at, skip=voice.skip, seconds=voice.seconds)


def _write(plan: RenderPlan, track: Track, target: Path, cancelled: threading.Event) -> None:
    fps = _rate(plan.fps)
    with av.open(str(target), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height = output_size(plan.width, plan.height)
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="stereo", options={"aac_coder": "fast"})
        sounds = track.frames()
        heard = 0
        for number, frame in enumerate(_frames(plan, fps, target.parent)):
            if cancelled.is_set():
                raise RenderCancelled
            draw(frame)
            frame.pts, frame.time_base = number, 1 / fps
            # The encoder takes the type of the source's frame as an order, and would write key frames only.
            frame.pict_type = PictureType.NONE
            container.mux(video.encode(frame))
            # Sound goes in beside the picture, so that a player need not seek between them.
            while heard < Fraction(number + 1) / fps * RATE and (sound := next(sounds, None)):
                container.mux(audio.encode(sound))
                heard += sound.samples
        for sound in sounds:
            container.mux(audio.encode(sound))
        _finish(container, video, audio)


def _finish(container: OutputContainer, video: VideoStream, audio: AudioStream) -> None:
    container.mux(video.encode(None))
    container.mux(audio.encode(None))


def _frames(plan: RenderPlan, fps: Fraction, work: Path) -> Iterator[VideoFrame]:
    size = output_size(plan.width, plan.height)
    wanted = max(1, round(plan.seconds * fps))
    if plan.still:
        return still_frames(plan.visual, size, fps, wanted)
    available = max(1, round(plan.source_seconds * fps))
    return moving_frames(plan.visual, size, fps, walk_indices(plan.walk, available, wanted), work)


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)
