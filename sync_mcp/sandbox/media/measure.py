"""What the media of a job hold, found out by decoding all of them, as rendering does.

This is a way of its own, beside that of the client: no header is believed, so a mistake cannot be shared.
"""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

from av.container import InputContainer
from av.video.frame import VideoFrame

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.media.decoding.probe import open_container, picture_stream, sound_stream
from sync_mcp.sandbox.media.decoding import decode_frames
from sync_mcp.sandbox.media.picture import is_sideways, size_as_shown, upright_steps
from sync_mcp.sandbox.media.sound import is_loud

_MISSING_SECONDS = 0.5
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a file holds."""

    kind: Literal["video", "audio", "image"]
    duration_seconds: float | None
    """None for an image."""
    fps: float | None
    """Pictures by seconds, however they are spread."""
    width: int | None
    height: int | None
    """Upright, in the pixels that are stored."""
    is_sideways: bool
    """Whether it is stored on its side."""
    shown_width: int | None
    shown_height: int | None
    """As it is shown, in square pixels."""
    has_video: bool
    has_audio: bool
    is_heard: bool
    """Whether its sound is more than silence."""


def measure(path: Path) -> Measurement:
    """Return what a file holds; what was measured once is remembered for as long as the file stays.

    Raises:
        MediaError: it is no media, breaks off, or holds nothing that can be decoded.
    """
    status = path.stat()
    return _measure(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_REMEMBERED)
def _measure(path: Path, changed: int, size: int) -> Measurement:
    del changed, size
    with open_container(path) as container:
        picture, sound = picture_stream(container), sound_stream(container)
        streams = [stream for stream in (picture, sound) if stream is not None]
        if not streams:
            raise MediaError("holds neither picture nor sound.")
        seen, heard, is_heard = _Seen(), Fraction(0), False
        for frame in decode_frames(container, streams):
            if isinstance(frame, VideoFrame):
                seen.take(frame)
            else:
                heard += Fraction(frame.samples, frame.sample_rate)
                is_heard = is_heard or is_loud(frame)
        first = seen.first
        if first is None and not heard:
            raise MediaError("holds no picture or sound that can be decoded.")
        still = first is not None and not heard and container.format.name.endswith("_pipe")
        seconds = seen.seconds(picture.average_rate if picture else None) if first is not None else heard
        _check_end(container, float(seconds))
        steps = upright_steps(first, path) if first is not None else []
        turned = is_sideways(steps)
        width, height = (first.width, first.height) if first is not None else (None, None)
        shown = size_as_shown(first, picture, steps) if first is not None and picture is not None else None
    return Measurement(
        kind="audio" if first is None else "image" if still else "video",
        duration_seconds=None if still else round(float(seconds), 6),
        fps=float(seen.count / seconds) if first is not None and not still and seconds else None,
        width=height if turned else width,
        height=width if turned else height,
        is_sideways=turned,
        shown_width=shown[0] if shown else None,
        shown_height=shown[1] if shown else None,
        has_video=first is not None and not still,
        has_audio=bool(heard),
        is_heard=is_heard,
    )


class _Seen:
    """The pictures that have come so far."""

    def __init__(self) -> None:
        self.first: VideoFrame | None = None
        self.count = 0
        self._begins = self._ends = Fraction(0)

    def take(self, frame: VideoFrame) -> None:
        """Take a picture into account."""
        at = Fraction(frame.pts or 0) * frame.time_base if frame.time_base else Fraction(0)
        ends = at + (Fraction(frame.duration or 0) * frame.time_base if frame.time_base else 0)
        if self.first is None:
            self.first, self._begins = frame, at
        self.count += 1
        self._begins, self._ends = min(self._begins, at), max(self._ends, ends)

    def seconds(self, usual_rate: Fraction | None) -> Fraction:
        """Return how long they last; by their usual rate where they have no times."""
        return (self._ends - self._begins) or self.count / (usual_rate or Fraction(25))


def _check_end(container: InputContainer, seconds: float) -> None:
    """Check that a file whose header knows its length has all of it.

    Raises:
        MediaError: it breaks off.
    """
    stream = picture_stream(container) or sound_stream(container)
    if stream is None or not container.format.name.startswith(("mov", "flac")):
        return
    told = float((stream.duration or 0) * (stream.time_base or 0))
    if seconds < told - _MISSING_SECONDS:
        raise MediaError(f"breaks off after {seconds:.1f} of {told:.1f} seconds.")
