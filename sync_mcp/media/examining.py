"""Whether a video is what it should be: it decodes to its end, the picture moves, there is sound to hear."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from sync_mcp.media.probe import MediaInfo, decode_by_two, opened_media, picture_stream, probe, sound_stream

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_SEQUENTIAL_SHARE = 0.7
"""Of the time there is, what decoding from the beginning gets before the end has to be looked at."""
_END_SECONDS = 2.0
_SAMPLES = 40
_SAMPLE_SIDE = 64
_MOVED_LEVELS = 4
"""More than what a codec makes of one and the same picture, less than lips do."""
_HEARD_PEAK = 104
"""Of 32,768: 50 dB below the loudest; under it lies the noise of a silent track."""
_SOUND_RATE = 8000
_TOLERANCE_SECONDS = 0.5
_DEFAULT_FPS = 25.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What decoding a file has shown."""

    info: MediaInfo
    counted_seconds: float
    """Where its last picture ends, or its last sound where it has no picture."""
    decodes_to_end: bool
    """Whether nothing failed in what was decoded, and it lasts as long as its header tells."""
    decoded_whole: bool
    """False for a file so long that there was time for its beginning and its last seconds alone."""
    picture_moves: bool | None
    """None where there is no picture, or a single one."""
    sound_is_heard: bool | None
    """False for silence; None where there is no sound."""


def examination(file: BinaryIO, deadline: float) -> Examination:
    """Decode `file` until `time.monotonic()` reaches `deadline`.

    Raises:
        MediaError: it is no media, or no frame of it can be decoded.
    """
    began = time.monotonic()
    info = probe(file, count_until=deadline)
    findings = _Findings(info)
    with opened_media(file) as container:
        whole = findings.take(container, began + (deadline - began) * _SEQUENTIAL_SHARE)
        if not whole and not findings.failed and info.duration_seconds:
            _go_near_the_end(container, info.duration_seconds)
            findings.take(container, deadline)
    told = info.duration_seconds
    reached = told is None or findings.end >= told - _TOLERANCE_SECONDS
    return Examination(
        info=info,
        counted_seconds=findings.end,
        # An end that there was no time to reach is not held against the file.
        decodes_to_end=not findings.failed and (reached or findings.out_of_time),
        decoded_whole=whole,
        picture_moves=findings.moved if findings.pictures > 1 else None,
        sound_is_heard=findings.peak > _HEARD_PEAK if info.has_audio else None,
    )


def _go_near_the_end(container: InputContainer, seconds: float) -> None:
    from av.error import FFmpegError

    # Without an index it goes on from where it stands.
    with suppress(FFmpegError, OverflowError):
        start = container.start_time or 0
        container.seek(start + round(max(0.0, seconds - _END_SECONDS) * 1_000_000))


class _Findings:
    """What has been seen and heard so far."""

    def __init__(self, info: MediaInfo) -> None:
        from av.audio.resampler import AudioResampler

        self.end = 0.0
        self.failed = False
        self.out_of_time = False
        self.pictures = 0
        self.moved = False
        self.peak = 0
        self._info = info
        self._step = (info.duration_seconds or 0) / _SAMPLES
        self._next_sample = 0.0
        self._first: bytes | None = None
        self._resampler: AudioResampler = AudioResampler(format="s16", layout="mono", rate=_SOUND_RATE)

    def take(self, container: InputContainer, until: float) -> bool:
        """Decode on from where the container stands; return whether the end was reached."""
        from av.audio.frame import AudioFrame
        from av.error import FFmpegError
        from av.video.frame import VideoFrame

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

    def _see(self, frame: VideoFrame, start: float) -> None:
        fps = self._info.fps or _DEFAULT_FPS
        at = frame.time - start if frame.pts is not None else self.pictures / fps
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / fps
        self.pictures += 1
        self.end = max(self.end, at + lasts)
        if self.moved or at < self._next_sample:
            return
        self._next_sample = at + self._step
        pixels = bytes(frame.reformat(_SAMPLE_SIDE, _SAMPLE_SIDE, "gray", interpolation="AREA").planes[0])
        if self._first is None:
            self._first = pixels
        self.moved = any(abs(a - b) > _MOVED_LEVELS for a, b in zip(self._first, pixels, strict=True))

    def _hear(self, frame: AudioFrame, start: float) -> None:
        if not self._info.has_video and frame.time is not None:
            self.end = max(self.end, frame.time - start + frame.samples / frame.sample_rate)
        if self.peak > _HEARD_PEAK:
            return
        frame.pts = None
        for part in self._resampler.resample(frame):
            samples = memoryview(part.planes[0])[: part.samples * 2].cast("h")
            self.peak = max(self.peak, max(samples, default=0), -min(samples, default=0))
