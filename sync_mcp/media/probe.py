"""What a media file holds, found out by decoding it.

PyAV (the extra `sync-mcp[media]`) is imported on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MICROSECONDS = 1_000_000
_STILL_FORMATS = ("image2", "gif", "webp_anim", "jpegxl_anim", "ico")


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
    from av.error import FFmpegError

    try:
        with _opened(source) as container:
            info = _describe(container)
        if info.kind != "image" and not info.duration_seconds:
            with _opened(source) as container:
                info = replace(info, duration_seconds=_counted_seconds(container))
    except (FFmpegError, EOFError, ValueError) as error:
        raise MediaError("It cannot be decoded: no picture, sound or video that FFmpeg knows.") from error
    return info


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving or still pictures, passing over the cover of a song."""
    from av.stream import Disposition

    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(pictures, None)


def _opened(source: Path | BinaryIO) -> InputContainer:
    import av

    if isinstance(source, Path):
        return av.open(str(source), "r")
    source.seek(0)
    return av.open(source, "r")


def _describe(container: InputContainer) -> MediaInfo:
    picture = picture_stream(container)
    sound = next(iter(container.streams.audio), None)
    size = _decode_first(container, picture, sound)
    still = picture is not None and sound is None and _is_still(container, picture)
    rate = picture and (picture.average_rate or picture.guessed_rate)
    return MediaInfo(
        kind="image" if still else "video" if picture else "audio",
        format_name=container.format.name,
        duration_seconds=None if still else _told_seconds(container, picture or sound),
        fps=float(rate) if rate and not still else None,
        width=size[0] if size else None,
        height=size[1] if size else None,
        has_video=picture is not None and not still,
        has_audio=sound is not None,
    )


def _decode_first(
    container: InputContainer, picture: VideoStream | None, sound: AudioStream | None
) -> tuple[int, int] | None:
    """Decode until each stream has shown a frame; return the size of the picture as it is shown."""
    from av.video.frame import VideoFrame

    size: tuple[int, int] | None = None
    heard = False
    wanted = [stream for stream in (picture, sound) if stream is not None]
    if not wanted:
        raise MediaError("It holds neither picture nor sound.")
    for frame in container.decode(*wanted):
        if not isinstance(frame, VideoFrame):
            heard = True
        elif size is None:
            sideways = frame.rotation % 180 != 0
            size = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        if (size or not picture) and (heard or not sound):
            return size
    raise MediaError(f"It holds no {'picture' if picture and not size else 'sound'} that can be decoded.")


def _is_still(container: InputContainer, stream: VideoStream) -> bool:
    name = container.format.name
    return (name.endswith("_pipe") or name in _STILL_FORMATS) and stream.frames <= 1


def _told_seconds(container: InputContainer, stream: VideoStream | AudioStream | None) -> float | None:
    if stream is not None and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / _MICROSECONDS if container.duration else None


def _counted_seconds(container: InputContainer) -> float:
    """Measure a recording whose header has no length, such as one that was streamed to its file."""
    picture = picture_stream(container)
    stream = picture or container.streams.audio[0]
    end = Fraction(0)
    packets = 0
    for packet in container.demux(stream):
        packets += bool(packet.size)
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    if not end and picture and picture.average_rate:
        end = packets / picture.average_rate
    if not end:
        raise MediaError("It is empty: it lasts no time at all.")
    return float(end)
