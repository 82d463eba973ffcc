"""What a media file holds, found out by decoding it.

Only the formats that the API takes (API §19) are opened, by decoders that such files need, and nothing that a
file refers to is followed: a playlist that calls itself a video is no media here.

PyAV (the extra `sync-mcp[media]`) comes with this module: who only asks what was found imports `findings`.
"""

import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, cast

import av
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sync_mcp.media.decoding.findings import MediaError, MediaInfo, NotDecodedHere, size_that_fits
from sync_mcp.media.decoding.headers import tells_its_length

_MICROSECONDS = 1_000_000
_BUFFER_BYTES = 64 * 1024
_COUNTED = ("mp3", "aac", "ogg", "asf")
"""Of these FFmpeg guesses a length by the bit rate, or counts what lies before the first sound."""
_LATE_SECONDS = 0.1
"""The header of a file that begins later than this counts the time before it as length too."""
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
    *("gsm", "gsm_ms"),
)
_OPEN_OPTIONS = {
    "format_whitelist": ",".join(_FORMATS),
    "codec_whitelist": ",".join(_DECODERS),
    # A name that no protocol has: whatever a file refers to stays unread.
    "protocol_whitelist": "none",
}


def probe(source: Path | BinaryIO, *, count_until: float = math.inf) -> MediaInfo:
    """Return what `source` holds, having decoded the first frame of each kind.

    A length that no header tells is counted, which reads the whole file, until `time.monotonic()` passes
    `count_until`.

    Raises:
        MediaError: it is no media, is damaged, or holds neither picture nor sound.
    """
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            return probe(file, count_until=count_until)
    with open_container(source) as container:
        info = _describe(container, count_until)
        to_count = info.kind != "image" and _has_to_be_counted(source, container, info)
        if info.kind == "video" and info.duration_seconds and not to_count:
            told = info.duration_seconds
            last = _last_picture_seconds(container, told, count_until)
            if last > told:
                # The same pictures over more time.
                info = replace(info, duration_seconds=last, fps=info.fps and info.fps * told / last)
    if to_count:
        with open_container(source) as container:
            info = _count_length(container, info, count_until)
    return info


@contextmanager
def open_container(source: Path | BinaryIO) -> Generator[InputContainer]:
    """Open a file for decoding; its own position moves.

    Raises:
        MediaError: it is no media of a format that the API takes, or whatever goes wrong in decoding it.
    """
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file, open_container(file) as container:
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
        raise MediaError("is too large to be decoded here: its frames need too much memory.") from error
    except (FFmpegError, EOFError, ValueError, ArithmeticError) as error:
        raise MediaError("cannot be decoded: no picture, sound or video that FFmpeg knows.") from error


class _Nameless:
    """A file without its name: FFmpeg takes names for patterns of many files, and guesses formats by them."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving or still pictures, passing over the cover of a song.

    It is the first one that is decoded here, or else the first one.
    """
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return next(filter(is_decoded, pictures), pictures[0] if pictures else None)


def sound_stream(container: InputContainer) -> AudioStream | None:
    """Return the stream of sound that is heard: the first one that is decoded here, or else the first one."""
    sounds = list(container.streams.audio)
    return next(filter(is_decoded, sounds), sounds[0] if sounds else None)


def is_decoded(stream: VideoStream | AudioStream) -> bool:
    """Return whether this build decodes a stream."""
    return _codec(stream) in _DECODERS


def _codec(stream: VideoStream | AudioStream) -> str | None:
    # What FFmpeg does not know has no context, whatever PyAV's types say.
    context = cast(CodecContext | None, stream.codec_context)
    return context.codec.name if context is not None else None


def decode_by_two(stream: VideoStream) -> None:
    """Have a stream decoded by two threads; has to be said before its first frame."""
    if not stream.codec_context.is_open:
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = 2


def clockwise_degrees(frame: VideoFrame) -> Literal[0, 90, 180, 270]:
    """Return by how much a frame has to be turned to be upright."""
    quarters = math.floor(-frame.rotation / 90 + 0.5) % 4
    return (0, 90, 180, 270)[quarters]


def _describe(container: InputContainer, until: float) -> MediaInfo:
    picture, sound = picture_stream(container), sound_stream(container)
    first = _decode_first(container, picture, sound, until)
    if sound is not None and not first.is_heard:
        if picture is None:
            raise MediaError("holds no sound that can be decoded.")
        # What cannot be heard does not condemn what can be seen.
        sound = None
    still = picture is not None and sound is None and _is_still(container, picture)
    rate = picture and (picture.average_rate or picture.guessed_rate)
    return MediaInfo(
        kind="image" if still else "video" if picture else "audio",
        format_name=container.format.name,
        duration_seconds=None if still else _header_seconds(container, picture or sound),
        fps=float(rate) if rate and not still and 0 < rate <= _MOST_FPS else None,
        width=first.size[0] if first.size else None,
        height=first.size[1] if first.size else None,
        has_video=picture is not None and not still,
        has_audio=sound is not None,
        video_codec=_codec_name(picture),
        audio_codec=_codec_name(sound),
        is_turned=first.is_turned,
    )


@dataclass(slots=True)
class _First:
    """What the first frame of each kind shows."""

    size: tuple[int, int] | None = None
    """Of the picture as it is shown."""
    is_turned: bool = False
    is_heard: bool = False


def _decode_first(
    container: InputContainer, picture: VideoStream | None, sound: AudioStream | None, until: float
) -> _First:
    """Decode until each stream has shown a frame, passing over what cannot be decoded.

    Raises:
        MediaError: there is no picture where there should be one, or nothing at all.
    """
    wanted = [stream for stream in (picture, sound) if stream is not None]
    if not wanted:
        raise MediaError("holds neither picture nor sound.")
    for stream in wanted:
        check_decoder(stream)
    first = _First()
    for packet in container.demux(*wanted):
        frames: Sequence[object] = ()
        with suppress(FFmpegError, EOFError, ValueError):
            frames = packet.decode()
        for frame in frames:
            if not isinstance(frame, VideoFrame):
                first.is_heard = True
            elif first.size is None:
                first.is_turned = clockwise_degrees(frame) in (90, 270)
                width, height = frame.width, frame.height
                first.size = (height, width) if first.is_turned else (width, height)
        if (first.size or not picture) and (first.is_heard or not sound):
            return first
        if time.monotonic() > until:
            break
    if picture and not first.size:
        raise MediaError("holds no picture that can be decoded.")
    return first


def check_decoder(stream: VideoStream | AudioStream) -> None:
    """Check that a stream can be decoded here, before anything of it is.

    Raises:
        NotDecodedHere: by its format, or by its size.
    """
    kind = "picture" if stream.type == "video" else "sound"
    if not is_decoded(stream):
        name = _codec_name(stream)
        named = f"in {name}, which" if name else "in a format that"
        raise NotDecodedHere(f"has its {kind} {named} is not decoded here.")
    if stream.type == "video" and stream.width * stream.height > _MOST_PIXELS:
        width, height = size_that_fits(stream.width, stream.height)
        raise NotDecodedHere(
            f"is {stream.width} by {stream.height} pixels, too large to be decoded here: "
            f"make it smaller, such as {width} by {height}."
        )


def _codec_name(stream: VideoStream | AudioStream | None) -> str | None:
    if stream is None or _codec(stream) is None:
        return None
    return stream.codec_context.codec.canonical_name


def _is_still(container: InputContainer, stream: VideoStream) -> bool:
    return container.format.name.endswith("_pipe") and stream.frames <= 1


def _header_seconds(container: InputContainer, stream: VideoStream | AudioStream | None) -> float | None:
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


def _has_to_be_counted(file: BinaryIO, container: InputContainer, info: MediaInfo) -> bool:
    """Return whether no header tells the length, and the rate of the pictures, as they are."""
    name = container.format.name
    if not info.duration_seconds or name in _COUNTED:
        return not (name == "mp3" and info.duration_seconds and tells_its_length(file))
    if name.startswith("matroska"):
        return _begins_at(container) > _LATE_SECONDS
    picture = picture_stream(container) if info.has_video else None
    # An MP4 in fragments, whose index tells of none of its pictures.
    return picture is not None and name.startswith("mov") and not picture.frames


def _begins_at(container: InputContainer) -> float:
    return (container.start_time or 0) / _MICROSECONDS


def _count_length(container: InputContainer, info: MediaInfo, until: float) -> MediaInfo:
    """Return `info` with the length, and the rate of a picture, that its packets have."""
    told, name = info.duration_seconds, container.format.name
    # Where there is no time to count, what a header tells is better than nothing, and a guess is not.
    known = told if told and name.startswith(("matroska", "mov")) else None
    if known and name.startswith("matroska"):
        known -= _begins_at(container)
    stream = picture_stream(container) if info.has_video else sound_stream(container)
    assert stream is not None
    count = _count_packets(container, stream, until)
    fps = count.fps if info.has_video else None
    if not count.is_whole:
        return replace(info, duration_seconds=known if known and known > 0 else None, fps=fps)
    # What an encoder of MP3 puts before the sound is in its first frames.
    seconds = count.seconds - (_begins_at(container) if name == "mp3" else 0.0)
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise MediaError("is empty: it lasts no time at all.")
    return replace(info, duration_seconds=seconds, fps=fps)


@dataclass(frozen=True, slots=True)
class _Count:
    """What the packets of a stream are together."""

    seconds: float
    fps: float | None
    is_whole: bool
    """False where time was up before the end."""


def _count_packets(container: InputContainer, stream: VideoStream | AudioStream, until: float) -> _Count:
    total, begins, ends = 0, None, None
    packets = unknown = 0
    is_whole = True
    for packet in container.demux(stream):
        if time.monotonic() > until:
            is_whole = False
            break
        if not packet.size:
            continue
        packets += 1
        lasts = packet.duration or 0
        total += lasts
        unknown += not lasts
        if packet.pts is not None:
            begins = packet.pts if begins is None else min(begins, packet.pts)
            ends = packet.pts + lasts if ends is None else max(ends, packet.pts + lasts)
    base = stream.time_base or Fraction(0)
    seconds = float((ends - begins) * base) if begins is not None and ends is not None else 0.0
    if not seconds and stream.type == "video" and stream.average_rate:
        seconds = float(packets / stream.average_rate)
    fps = packets / seconds if seconds and packets / seconds <= _MOST_FPS else None
    # Sound that was joined begins anew at 0 with each part: the last time is not the end.
    if stream.type == "audio" and not unknown:
        seconds = float(total * base)
    return _Count(seconds, fps, is_whole)
