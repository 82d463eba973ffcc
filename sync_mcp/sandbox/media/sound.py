"""The sound of an output: voices laid on a track of silence."""

import math
import wave
from collections.abc import Iterator
from pathlib import Path

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from sync_mcp.media.decoding.probe import open_container, picture_stream, sound_stream
from sync_mcp.sandbox.media.decoding import decode_frames

RATE = 48_000
_FRAME_BYTES = 4
"""Two channels of 16 bits."""
_FRAME_SAMPLES = 1024
_TONE_HZ = 440
_TONE_PEAK = 8_000
_SILENT_PEAK = 100
"""Of 32768: 50 dB below the loudest; the noise of a silent track lies under it."""


class Track:
    """A stereo track of fixed length, kept in a file so that a long one costs no memory."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.samples = round(seconds * RATE)
        self._file = path.open("w+b")
        # The hole in the file reads as zeros, which are silence.
        self._file.truncate(self.samples * _FRAME_BYTES)

    def __enter__(self) -> "Track":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lay(self, source: Path, *, at: float = 0.0, skip: float = 0.0, seconds: float | None = None) -> None:
        """Write the sound of `source` at `at` seconds, leaving out its first `skip` seconds.

        It replaces what is there already, for `seconds` at most.
        """
        start = round(at * RATE)
        end = self.samples if seconds is None else min(self.samples, start + round(seconds * RATE))
        to_skip = round(skip * RATE)
        self._file.seek(start * _FRAME_BYTES)
        left = end - start
        for data in _decode(source):
            if left <= 0:
                return
            skipped = min(to_skip, len(data) // _FRAME_BYTES)
            to_skip -= skipped
            part = data[skipped * _FRAME_BYTES :][: left * _FRAME_BYTES]
            self._file.write(part)
            left -= len(part) // _FRAME_BYTES

    def tone(self, at: float, seconds: float) -> None:
        """Write a tone over a part of the track."""
        start = round(at * RATE)
        samples = max(0, min(self.samples, start + round(seconds * RATE)) - start)
        levels = [round(_TONE_PEAK * math.sin(2 * math.pi * _TONE_HZ * n / RATE)) for n in range(samples)]
        self._file.seek(start * _FRAME_BYTES)
        self._file.write(b"".join(level.to_bytes(2, "little", signed=True) * 2 for level in levels))

    def silence(self, at: float, seconds: float) -> None:
        """Write silence over a part of the track."""
        start = round(at * RATE)
        end = min(self.samples, start + round(seconds * RATE))
        self._file.seek(start * _FRAME_BYTES)
        self._file.write(bytes(max(0, end - start) * _FRAME_BYTES))

    def frames(self) -> Iterator[AudioFrame]:
        """Yield the track as frames of stereo 16 bit samples."""
        self._file.seek(0)
        done = 0
        while done < self.samples:
            samples = min(_FRAME_SAMPLES, self.samples - done)
            frame = AudioFrame(format="s16", layout="stereo", samples=samples)
            frame.planes[0].update(self._file.read(samples * _FRAME_BYTES))
            frame.sample_rate = RATE
            frame.pts = done
            done += samples
            yield frame

    def save(self, target: Path) -> None:
        """Write the track as a WAV file."""
        with wave.open(str(target), "wb") as file:
            file.setparams((2, 2, RATE, self.samples, "NONE", ""))
            for frame in self.frames():
                file.writeframes(_bytes(frame))


def _decode(source: Path) -> Iterator[bytes]:
    """Yield the sound of a file from where its picture begins, if it has one."""
    resampler: AudioResampler | None = None
    shape: tuple[str, str, int] | None = None
    with open_container(source) as container:
        stream = sound_stream(container)
        if stream is None:
            return
        late = _late_samples(container, stream)
        while late > 0:
            samples = min(late, RATE)
            late -= samples
            yield bytes(samples * _FRAME_BYTES)
        early = -late * _FRAME_BYTES
        for frame in decode_frames(container, [stream]):
            if not isinstance(frame, AudioFrame):
                continue
            parts: list[AudioFrame] = []
            if resampler is None or shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                # What was joined may have another rate or other channels from here on.
                parts = resampler.resample(None) if resampler is not None else []
                shape = frame.format.name, frame.layout.name, frame.sample_rate
                resampler = AudioResampler(format="s16", layout="stereo", rate=RATE)
            frame.pts = None
            for part in (*parts, *resampler.resample(frame)):
                data = _bytes(part)
                yield data[early:]
                early = max(0, early - len(data))
        for part in resampler.resample(None) if resampler is not None else ():
            yield _bytes(part)


def is_loud(frame: AudioFrame) -> bool:
    """Return whether there is anything to hear in a frame."""
    frame.pts = None
    for part in AudioResampler(format="s16", layout="mono").resample(frame):
        samples = memoryview(bytes(part.planes[0])[: part.samples * 2]).cast("h")
        if max(samples) > _SILENT_PEAK or min(samples) < -_SILENT_PEAK:
            return True
    return False


def _late_samples(container: InputContainer, sound: AudioStream) -> int:
    """Return by how much the sound of a video begins after its picture; below 0 before it."""
    picture = picture_stream(container)
    if picture is None or picture.start_time is None or sound.start_time is None:
        return 0
    begins = float(sound.start_time * (sound.time_base or 0) - picture.start_time * (picture.time_base or 0))
    return round(begins * RATE)


def _bytes(frame: AudioFrame) -> bytes:
    # A plane may be padded beyond its samples.
    return bytes(memoryview(frame.planes[0])[: frame.samples * _FRAME_BYTES])
