"""What is to be known of a file before it is paid for: a still picture, a voice that nobody hears."""

import time
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from sync_mcp.media.decoding.findings import MediaError, MediaInfo
from sync_mcp.media.decoding.loudness import Loudness
from sync_mcp.media.decoding.movement import Movement
from sync_mcp.media.decoding.probe import (
    decode_by_two,
    is_decoded,
    open_container,
    picture_stream,
)

_LOOKING_SECONDS = 2.0
"""For each of the two: who speaks is seen and heard to do so within the first pictures and sounds."""
_FIRST_SECONDS = 1.0
"""Of a video, looked at picture by picture; after them at some moments of its length."""
_MOMENTS = 8
_SMALL_PIXELS = 512 * 512
"""Up to here a second thread takes longer to begin than it saves, as few pictures as are looked at."""


def notice(file: BinaryIO, info: MediaInfo, until: float) -> MediaInfo:
    """Return `info` with what was noticed until `time.monotonic()` reached `until`, or sooner."""
    has_several_sounds = False
    with suppress(MediaError), open_container(file) as container:
        has_several_sounds = len(_sounds(container)) > 1
        if info.kind == "video":
            info = replace(info, stands_still=_stands_still(container, info, _soon(until)))
    if has_several_sounds:
        info = replace(info, first_sound_is_silent=_first_sound_is_silent(file, _soon(until)))
    return info


def _soon(until: float) -> float:
    return min(until, time.monotonic() + _LOOKING_SECONDS)


def _stands_still(container: InputContainer, info: MediaInfo, until: float) -> bool:
    """Return whether all pictures that were looked at are the same; False where there was no time for it."""
    movement, seconds = Movement(), info.duration_seconds or 0.0
    moments = [seconds * number / (_MOMENTS + 1) for number in range(1, _MOMENTS + 1)]
    picture = picture_stream(container)
    if picture is None:
        return False
    if picture.width * picture.height > _SMALL_PIXELS:
        decode_by_two(picture)
    last = 0.0
    for moment in (0.0, *moments):
        at = _still_until(container, picture, movement, moment, until)
        if at is None:
            return False
        last = max(last, at)
    return last > 0


def _still_until(
    container: InputContainer, picture: VideoStream, movement: Movement, moment: float, until: float
) -> float | None:
    """Return when the last picture up to a moment was shown; None where one was not as the first."""
    start = float((picture.start_time or 0) * (picture.time_base or 0))
    if moment:
        with suppress(FFmpegError, OverflowError):
            container.seek(round((start + moment) / float(picture.time_base or 1)), stream=picture)
    last = 0.0
    for frame in container.decode(picture):
        if movement.is_in(frame) or time.monotonic() > until:
            return None
        last = frame.time - start if frame.pts is not None else last
        if last >= (moment or _FIRST_SECONDS):
            break
    return last


def _sounds(container: InputContainer) -> list[AudioStream]:
    return [stream for stream in container.streams.audio if is_decoded(stream)]


def _first_sound_is_silent(file: BinaryIO, until: float) -> bool:
    """Return whether the first of several sounds is silent, as far as there was time, and another is not."""
    with suppress(MediaError), open_container(file) as container:
        sounds = _sounds(container)
        heard = {stream.index: Loudness() for stream in sounds}
        first = sounds[0].index
        for packet in container.demux(*sounds):
            loudness = heard[packet.stream.index]
            if not loudness.is_heard:
                for frame in packet.decode():
                    if isinstance(frame, AudioFrame):
                        loudness.hear(frame)
            if heard[first].is_heard or time.monotonic() > until:
                break
        return not heard[first].is_heard and any(loudness.is_heard for loudness in heard.values())
    return False
