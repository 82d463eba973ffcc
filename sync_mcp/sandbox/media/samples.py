"""The sandbox's samples: a clip of a face that speaks, and its pictures, its first one and its sound alone.

The face is drawn and nobody's, and espeak-ng's voice says a sentence that was written for this project
(tests/sandbox/make_recording.py). They are under the project's own licence.
"""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import threading
import wave
from functools import cache
from pathlib import Path

import av
from av.video.frame import VideoFrame

from sync_mcp.machine.scratch import ScratchFolder

_RECORDING = Path(__file__).parent / "speaking.mp4"
_RATE = 16_000
_SPOKEN = 72_034
"""How many samples of sound the sentence takes, at `_RATE` a second; behind it the clip is silent."""

_taking = threading.Lock()


def sample(name: str) -> Path:
    """Return the file of a sample, one of `SAMPLE_FILES`; it stays where it is while the process runs.

    What is measured of a file is remembered for its path: so all sandboxes of a process share theirs.
    """
    if name == _RECORDING.name:
        return _RECORDING
    with _taking:
        path = _scratch().path / name
        if not path.exists():
            part = path.with_stem("part")
            _TAKEN[name](part)
            part.replace(path)
    return path


@cache
def _scratch() -> ScratchFolder:
    return ScratchFolder("sandbox")


def _take_clip(target: Path) -> None:
    with av.open(_RECORDING) as recording, av.open(target, "w", options={"movflags": "+faststart"}) as clip:
        [picture] = recording.streams.video
        stream = clip.add_stream_from_template(picture)
        for packet in recording.demux(picture):
            # The last is empty, and ends the stream.
            if packet.size:
                packet.stream = stream
                clip.mux(packet)


def _take_photo(target: Path) -> None:
    with av.open(_RECORDING) as recording:
        first: VideoFrame = next(recording.decode(video=0))
        first.to_image().save(target, quality=80)


def _take_speech(target: Path) -> None:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
    with av.open(_RECORDING) as recording, wave.open(str(target), "wb") as speech:
        speech.setparams((1, 2, _RATE, 0, "NONE", "not compressed"))
        left = _SPOKEN
        for frame in recording.decode(audio=0):
            for part in resampler.resample(frame):
                # A plane may be padded beyond its samples.
                count = min(left, part.samples)
                speech.writeframes(bytes(part.planes[0])[: count * 2])
                left -= count


_TAKEN = {"speaker.mp4": _take_clip, "speaker.jpg": _take_photo, "speech.wav": _take_speech}
SAMPLE_FILES = (*_TAKEN, _RECORDING.name)
