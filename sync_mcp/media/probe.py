"""What a media file holds, found out by decoding it.

Only the formats that the API takes (API §19) are opened, by decoders that such files need, and nothing that a
file refers to is followed: a playlist that calls itself a video is no media here.

PyAV (the extra `sync-mcp[media]`) is imported on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MICROSECONDS = 1_000_000
_BUFFER_BYTES = 64 * 1024
_LONGEST_SECONDS = 7 * 24 * 3600
"""A header that tells more than a week lies."""
_MOST_FPS = 1000
_MOST_PIXELS = 64 * 1024 * 1024
"""Twice those of 8K, and many times what the API takes: more is a trap for who decodes it."""

# As FFmpeg names them. None of these reads another file, unlike playlists and patterns of names.
_FORMATS = (
    *("mov", "matroska", "avi", "wav", "mp3", "ogg", "flac", "aac", "asf"),
    *("jpeg_pipe", "png_pipe", "webp_pipe"),
)
# FFmpeg has decoders by the hundred, most of them for formats that nobody looks after any more.
_DECODERS = (
    *("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "h263"),
    *(
        "msmpeg4v2",
        "msmpeg4",
        "mpeg1video",
        "mpeg2video",
        "prores",
        "dnxhd",
        "cfhd",
        "qtrle",
        "svq3",
        "dvvideo",
    ),
    *(
        "rawvideo",
        "v210",
        "huffyuv",
        "ffvhuff",
        "ffv1",
        "utvideo",
        "png",
        "webp",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
    ),
    *("aac", "aac_fixed", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis", "flac", "alac"),
    *("ac3", "eac3", "wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice", "adpcm_ms", "adpcm_ima_wav"),
    *("adpcm_ima_qt", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le"),
    *("pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "speex"),
)
_OPEN_OPTIONS = {
    "format_whitelist": ",".join(_FORMATS),
    "codec_whitelist": ",".join(_DECODERS),
    # A name that no protocol has: whatever a file refers to stays unread.
    "protocol_whitelist": "none",
}


class MediaError(Exception):
    """A file is no media, or cannot be decoded; the message is a sentence about "It"."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a media file holds; width and height are as the picture is shown, after any rotation."""

    kind: Literal["video", "audio", "image"]
    format_name: str
    """The container as FFmpeg names it, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration_seconds: float | None
    """None for an image, and where a length that no header tells was not counted in time."""
    fps: float | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool
    video_codec: str | None = None
    """The codec of the moving or still picture as FFmpeg names it, such as `h264`."""
    audio_codec: str | None = None


def probe(source: Path | BinaryIO, *, count_until: float = math.inf) -> MediaInfo:
    """Return what `source` holds, having decoded the first frame of each kind.

    A length that no header tells is counted, which reads the whole file, until `time.monotonic()` passes
    `count_until`.

    Raises:
        MediaError: it is no media, is damaged, or holds neither picture nor sound.
    """
    with opened_media(source) as container:
        info = _describe(container)
        if info.kind == "video" and info.duration_seconds:
            last = _last_picture_seconds(container, info.duration_seconds, count_until)
            info = replace(info, duration_seconds=max(info.duration_seconds, last))
    if info.kind != "image" and not info.duration_seconds:
        with opened_media(source) as container:
            info = replace(info, duration_seconds=_counted_seconds(container, count_until))
    return info


@contextmanager
def opened_media(source: Path | BinaryIO) -> Generator[InputContainer]:
    """Open a file for decoding; its own position moves.

    Raises:
        MediaError: it is no media of a format that the API takes, or whatever goes wrong in decoding it.
    """
    import av
    from av.error import FFmpegError

    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file, opened_media(file) as container:
            yield container
        return
    try:
        source.seek(0)
        with av.open(
            _Nameless(source),
            "r",
            container_options=_OPEN_OPTIONS,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
        ) as container:
            yield container
    except MemoryError as error:
        raise MediaError("It is too large to be decoded here: its frames need too much memory.") from error
    except (FFmpegError, EOFError, ValueError, ArithmeticError) as error:
        raise MediaError("It cannot be decoded: no picture, sound or video that FFmpeg knows.") from error


class _Nameless:
    """A file without its name: FFmpeg takes names for patterns of many files, and guesses formats by them."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving or still pictures, passing over the cover of a song."""
    from av.stream import Disposition

    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(pictures, None)


def sound_stream(container: InputContainer) -> AudioStream | None:
    """Return the stream of sound that is heard."""
    return next(iter(container.streams.audio), None)


def decode_by_two(stream: VideoStream) -> None:
    """Have a stream decoded by two threads; has to be said before its first frame."""
    if not stream.codec_context.is_open:
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = 2


def clockwise_degrees(frame: VideoFrame) -> Literal[0, 90, 180, 270]:
    """Return by how much a frame has to be turned to be upright."""
    quarters = math.floor(-frame.rotation / 90 + 0.5) % 4
    return (0, 90, 180, 270)[quarters]


def _describe(container: InputContainer) -> MediaInfo:
    picture = picture_stream(container)
    sound = sound_stream(container)
    size = _decode_first(container, picture, sound)
    still = picture is not None and sound is None and _is_still(container, picture)
    rate = picture and (picture.average_rate or picture.guessed_rate)
    return MediaInfo(
        kind="image" if still else "video" if picture else "audio",
        format_name=container.format.name,
        duration_seconds=None if still else _told_seconds(container, picture or sound),
        fps=float(rate) if rate and not still and 0 < rate <= _MOST_FPS else None,
        width=size[0] if size else None,
        height=size[1] if size else None,
        has_video=picture is not None and not still,
        has_audio=sound is not None,
        video_codec=_codec_name(picture),
        audio_codec=_codec_name(sound),
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
    for stream in wanted:
        _check_decoder(stream)
    for frame in container.decode(*wanted):
        if not isinstance(frame, VideoFrame):
            heard = True
        elif size is None:
            sideways = clockwise_degrees(frame) in (90, 270)
            size = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        if (size or not picture) and (heard or not sound):
            return size
    raise MediaError(f"It holds no {'picture' if picture and not size else 'sound'} that can be decoded.")


def _check_decoder(stream: VideoStream | AudioStream) -> None:
    codec = stream.codec_context.codec
    if stream.type == "video" and stream.width * stream.height > _MOST_PIXELS:
        raise MediaError(f"It is {stream.width} by {stream.height} pixels, too large to be decoded here.")
    if codec.name not in _DECODERS:
        kind = "picture" if stream.type == "video" else "sound"
        raise MediaError(f"It has its {kind} in {codec.canonical_name}, which is not decoded here.")


def _codec_name(stream: VideoStream | AudioStream | None) -> str | None:
    return stream.codec_context.codec.canonical_name if stream is not None else None


def _is_still(container: InputContainer, stream: VideoStream) -> bool:
    return container.format.name.endswith("_pipe") and stream.frames <= 1


def _told_seconds(container: InputContainer, stream: VideoStream | AudioStream | None) -> float | None:
    told = None
    if stream is not None and stream.duration and stream.time_base:
        told = float(stream.duration * stream.time_base)
    elif container.duration:
        told = container.duration / _MICROSECONDS
    return told if told is not None and 0 < told <= _LONGEST_SECONDS else None


def _last_picture_seconds(container: InputContainer, told: float, until: float) -> float:
    """Return where a last picture ends that begins when the file is told to have ended, 0 without such a one.

    An MP4 counts its length in the order of decoding; a last picture that is held long may lie beyond it.
    """
    from av.error import FFmpegError

    picture = picture_stream(container)
    if picture is None or picture.time_base is None or not container.format.name.startswith("mov"):
        return 0.0
    start = picture.start_time or 0
    usual = 1 / float(picture.guessed_rate) if picture.guessed_rate else 0.0
    begins = ends = 0.0
    with suppress(FFmpegError, EOFError, ValueError, OverflowError):
        container.seek(start + round(told / picture.time_base), stream=picture)
        for packet in container.demux(picture):
            if packet.pts is not None and not packet.is_discard:
                at = float((packet.pts - start) * picture.time_base)
                if at >= begins:
                    begins, ends = at, at + min(float((packet.duration or 0) * picture.time_base), usual)
            if time.monotonic() > until:
                break
    return ends if told <= begins <= _LONGEST_SECONDS else 0.0


def _counted_seconds(container: InputContainer, until: float) -> float | None:
    """Measure a recording whose header has no length, such as one that was streamed to its file."""
    picture = picture_stream(container)
    stream = picture or container.streams.audio[0]
    start = Fraction(stream.start_time or 0) * (stream.time_base or 0)
    end = Fraction(0)
    packets = 0
    for packet in container.demux(stream):
        packets += bool(packet.size)
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base - start)
        if time.monotonic() > until:
            return None
    if not end and picture and picture.average_rate:
        end = packets / picture.average_rate
    if not 0 < end <= _LONGEST_SECONDS:
        raise MediaError("It is empty: it lasts no time at all.")
    return float(end)
