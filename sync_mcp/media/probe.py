"""What a media file holds, found out by decoding it.

PyAV (the extra `sync-mcp[media]`) is imported on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MICROSECONDS = 1_000_000
_STILL_FORMATS = ("image2", "gif", "webp_anim", "jpegxl_anim", "ico")
_LONGEST_STILL_FRAMES = 1


class MediaError(Exception):
    """A file is no media, or cannot be decoded."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a media file holds; width and height are as the picture is shown, after any rotation."""

    kind: Literal["video", "audio", "image"]
    format_name: str
    """The container as FFmpeg names it, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration_seconds: float | None
    """None for an image."""
    fps: float | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool


def probe(source: Path | BinaryIO) -> MediaInfo:
    """Return what `source` holds, having decoded the first frame of each kind.

    Raises:
        MediaError: it is no media, is damaged, or holds neither picture nor sound.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(source) if isinstance(source, Path) else source, "r") as container:
            return _describe(container)
    except (FFmpegError, EOFError, ValueError) as error:
        raise MediaError("It cannot be decoded: no picture, sound or video that FFmpeg knows.") from error


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving or still pictures, passing over the cover of a song."""
    from av.stream import Disposition

    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(pictures, None)


def _describe(container: InputContainer) -> MediaInfo:
    picture = picture_stream(container)
    sound = next(iter(container.streams.audio), None)
    if picture is None and sound is None:
        raise MediaError("It holds neither picture nor sound.")
    size = _decode_picture(container, picture) if picture else None
    if sound:
        _decode_sound(container, sound)
    still = picture is not None and sound is None and _is_still(container, picture)
    duration = None if still else _duration_seconds(container, picture or sound)
    rate = picture and (picture.average_rate or picture.guessed_rate)
    return MediaInfo(
        kind="image" if still else "video" if picture else "audio",
        format_name=container.format.name,
        duration_seconds=duration,
        fps=float(rate) if rate and not still else None,
        width=size[0] if size else None,
        height=size[1] if size else None,
        has_video=picture is not None and not still,
        has_audio=sound is not None,
    )


def _decode_picture(container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    frame = next(container.decode(stream), None)
    if frame is None:
        raise MediaError("It holds no picture that can be decoded.")
    sideways = frame.rotation % 180 != 0
    return (frame.height, frame.width) if sideways else (frame.width, frame.height)


def _decode_sound(container: InputContainer, stream: AudioStream) -> None:
    if container.format.name not in ("image2", "png_pipe"):
        container.seek(0)
    if next(container.decode(stream), None) is None:
        raise MediaError("It holds no sound that can be decoded.")


def _is_still(container: InputContainer, stream: VideoStream) -> bool:
    name = container.format.name
    if name.endswith("_pipe") or name in _STILL_FORMATS:
        return stream.frames <= _LONGEST_STILL_FRAMES
    return False


def _duration_seconds(container: InputContainer, stream: VideoStream | AudioStream | None) -> float:
    if stream is not None and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / _MICROSECONDS
    return _counted_seconds(container, stream)


def _counted_seconds(container: InputContainer, stream: VideoStream | AudioStream | None) -> float:
    # A recording that was streamed to its file has no length in its header: the packets tell.
    end = Fraction(0)
    container.seek(0)
    for packet in container.demux():
        if stream is not None and packet.stream_index != stream.index:
            continue
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    if not end:
        raise MediaError("It is empty: it lasts no time at all.")
    return float(end)
