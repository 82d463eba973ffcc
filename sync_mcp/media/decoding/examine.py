"""Whether a video is what it should be: it decodes to its end, the picture moves, there is sound to hear."""

import time
from contextlib import suppress
from typing import BinaryIO

from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from sync_mcp.media.decoding.findings import Examination, MediaInfo
from sync_mcp.media.decoding.loudness import FULL_SCALE, Loudness
from sync_mcp.media.decoding.movement import Movement
from sync_mcp.media.decoding.probe import (
    decode_by_two,
    open_container,
    picture_stream,
    probe,
    sound_stream,
)

_SEQUENTIAL_SHARE = 0.7
"""Decoding from the beginning gets this share of the time; after it the end is looked at."""
_PACKETS_SHARE = 0.85
"""A walk through the packets of a file too long to decode has to end at this share of the time."""
_END_SECONDS = 2.0
_SAMPLES = 40
_LOUD_PEAK = 4096
_NEVER_ZERO = ("h264", "hevc")
"""Their packets begin with a length or a mark."""
_HOLE_BYTES = 16
_TOLERANCE_SECONDS = 0.5
_DEFAULT_FPS = 25.0


def examine(file: BinaryIO, deadline: float) -> Examination:
    """Decode `file` until `time.monotonic()` reaches `deadline`.

    Raises:
        MediaError: it is no media, or no frame of it can be decoded.
    """
    began = time.monotonic()
    info = probe(file, count_until=deadline)
    viewer = _Viewer(info)
    with open_container(file) as container:
        whole = viewer.decode(container, began + (deadline - began) * _SEQUENTIAL_SHARE)
    listed = False
    if not whole and not viewer.failed:
        with open_container(file) as container:
            listed = viewer.list_packets(container, began + (deadline - began) * _PACKETS_SHARE)
    if not whole and not viewer.failed and info.duration_seconds:
        with open_container(file) as container:
            _go_near_the_end(container, info.duration_seconds)
            viewer.decode(container, deadline)
    told = info.duration_seconds
    reached = told is None or viewer.end >= told - _TOLERANCE_SECONDS
    return Examination(
        info=info,
        counted_seconds=viewer.counted,
        sound_seconds=viewer.sound_end if info.has_audio and (whole or listed) else None,
        # An end that there was no time to reach is not held against the file.
        decodes_to_end=not viewer.failed and (reached or (viewer.out_of_time and not listed)),
        decoded_whole=whole,
        picture_moves=viewer.moved if viewer.pictures > 1 else None,
        sound_is_heard=viewer.loudness.is_heard if info.has_audio else None,
        sound_peak=viewer.loudness.peak / FULL_SCALE,
    )


def _go_near_the_end(container: InputContainer, seconds: float) -> None:
    # Without an index it goes on from where it stands.
    with suppress(FFmpegError, OverflowError):
        start = container.start_time or 0
        container.seek(start + round(max(0.0, seconds - _END_SECONDS) * 1_000_000))


class _Viewer:
    """Decodes a file, in several goes, and notes what it sees and hears."""

    def __init__(self, info: MediaInfo) -> None:
        self.end = 0.0
        self.counted = 0.0
        """As `end`, but with a last picture of usual length: what a file tells of it may be another's."""
        self.sound_end = 0.0
        self.failed = False
        self.out_of_time = False
        self.pictures = 0
        self.moved = False
        self.loudness = Loudness()
        self._info = info
        self._step = (info.duration_seconds or 0) / _SAMPLES
        self._next_sample = 0.0
        self._usual = 1 / (info.fps or _DEFAULT_FPS)
        self._movement = Movement()

    def decode(self, container: InputContainer, until: float) -> bool:
        """Decode on from where the container stands; return whether the end was reached."""
        picture, sound = picture_stream(container), sound_stream(container)
        streams = [stream for stream in (picture, sound) if stream is not None]
        if picture is not None:
            decode_by_two(picture)
        start = (container.start_time or 0) / 1_000_000
        try:
            for frame in container.decode(*streams):
                if isinstance(frame, VideoFrame):
                    self._see(frame, start)
                elif isinstance(frame, AudioFrame):
                    self._hear(frame, start)
                if time.monotonic() > until:
                    self.out_of_time = True
                    return False
        except (FFmpegError, EOFError, ValueError):
            self.failed = True
            return False
        self.out_of_time = False
        return True

    def list_packets(self, container: InputContainer, until: float) -> bool:
        """Go through what is to be decoded without decoding it; return whether the end was reached."""
        picture, sound = picture_stream(container), sound_stream(container)
        start = (container.start_time or 0) / 1_000_000
        try:
            for packet in container.demux(*(stream for stream in (picture, sound) if stream is not None)):
                self.failed = self.failed or packet.is_corrupt or self._is_hole(packet)
                if packet.pts is not None and packet.size and not packet.is_discard:
                    at = float(packet.pts * packet.time_base) - start
                    self._reach(packet.stream.type, at, float((packet.duration or 0) * packet.time_base))
                if time.monotonic() > until:
                    return False
        except (FFmpegError, EOFError, ValueError):
            self.failed = True
            return False
        return True

    def _is_hole(self, packet: "Packet[Stream]") -> bool:
        """Return whether there are zeros where the picture should be: a part of the file that never came."""
        if packet.stream.type != "video" or self._info.video_codec not in _NEVER_ZERO:
            return False
        return packet.size > _HOLE_BYTES and not any(memoryview(packet)[:_HOLE_BYTES])

    def _reach(self, kind: str, at: float, lasts: float) -> None:
        if kind == "audio":
            self.sound_end = max(self.sound_end, at + lasts)
        if kind == "video" or not self._info.has_video:
            self.end = max(self.end, at + lasts)
            self.counted = max(self.counted, at + (min(lasts, self._usual) if kind == "video" else lasts))

    def _see(self, frame: VideoFrame, start: float) -> None:
        at = frame.time - start if frame.pts is not None else self.pictures * self._usual
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self._usual
        self.pictures += 1
        self._reach("video", at, lasts)
        if self.moved or at < self._next_sample:
            return
        self._next_sample = at + self._step
        self.moved = self._movement.is_in(frame)

    def _hear(self, frame: AudioFrame, start: float) -> None:
        if frame.time is not None:
            self._reach("audio", frame.time - start, frame.samples / frame.sample_rate)
        if self.loudness.peak <= _LOUD_PEAK:
            self.loudness.hear(frame)
