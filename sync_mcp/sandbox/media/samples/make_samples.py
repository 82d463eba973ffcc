"""Make the sandbox's samples: `python make_samples.py` where the extra `sync-mcp[media]` is installed.

The face is drawn here, and is nobody's. The voice is espeak-ng's; where that is installed, it speaks anew.
"""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import shutil
import subprocess
import wave
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

SENTENCE = "Hello. This is a sample voice, made for your first video."
CLIP_SECONDS = 5
FPS = 25
FRAMES = CLIP_SECONDS * FPS
SIDE = 360
"""Pixels along an edge of the clips and the photo."""
RATE = 16_000
"""Samples of the speech in a second."""

HERE = Path(__file__).parent
_STEP = 128
"""Between two loudnesses of the speech: as fine as on a telephone, and packed in half the bytes."""
_DRAWN = 2 * SIDE
"""Drawn larger, the edges come out smooth."""
_STRIPE = 60
_NEARER = 40.0
"""How far the camera comes nearer."""
_BLINKS = (40, 95)
_LOUD = 6000.0
_WALL, _STRIPES, _SHIRT = (214, 226, 236), (120, 150, 178), (190, 96, 80)
_SKIN, _SHADE, _HAIR = (240, 200, 160), (222, 172, 132), (84, 56, 44)
_WHITE, _EYE, _LIPS, _INSIDE = (250, 250, 250), (60, 84, 110), (190, 84, 84), (92, 32, 36)

Box = tuple[float, float, float, float]


def face(*, opened: float = 0.0, blinks: bool = False) -> Image.Image:
    """Return the drawing, whose mouth is opened by so much from 0 to 1."""
    picture = Image.new("RGB", (_DRAWN, _DRAWN), _WALL)
    draw = ImageDraw.Draw(picture)
    for left in range(_STRIPE, _DRAWN, 2 * _STRIPE):
        draw.rectangle((left, 0, left + _STRIPE, _DRAWN), fill=_STRIPES)
    draw.ellipse((110, 560, 610, 1000), fill=_SHIRT)
    draw.rounded_rectangle((300, 470, 420, 620), 40, fill=_SHADE)
    draw.ellipse((180, 90, 540, 480), fill=_HAIR)
    draw.ellipse((206, 150, 514, 560), fill=_SKIN)
    draw.chord((190, 100, 530, 330), 180, 360, fill=_HAIR)
    for middle in (294, 426):
        draw.line((middle - 40, 276, middle + 40, 272), fill=_HAIR, width=12)
        if blinks:
            draw.line((middle - 34, 326, middle + 34, 326), fill=_SHADE, width=8)
        else:
            draw.ellipse(_around(middle, 324, 36, 24), fill=_WHITE)
            draw.ellipse(_around(middle, 324, 16, 16), fill=_EYE)
    draw.polygon(((360, 340), (336, 416), (384, 416)), fill=_SHADE)
    height = 9 + 38 * opened
    draw.ellipse(_around(360, 472, 62, height + 9), fill=_LIPS)
    draw.ellipse(_around(360, 472, 50, height * opened), fill=_INSIDE)
    return picture


def _around(x: float, y: float, width: float, height: float) -> Box:
    return x - width, y - height, x + width, y + height


def film(mouths: Sequence[float]) -> Iterator[Image.Image]:
    """Yield the face as a camera sees it that comes slowly nearer."""
    for number, opened in enumerate(mouths):
        blinks = any(0 <= number - begin < 4 for begin in _BLINKS)
        edge = _NEARER * number / len(mouths)
        seen = (edge, edge / 2, _DRAWN - edge, _DRAWN - 1.5 * edge)
        yield face(opened=opened, blinks=blinks).resize((SIDE, SIDE), Image.Resampling.LANCZOS, seen)


def make_photo() -> None:
    """Write speaker.jpg."""
    face().resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(HERE / "speaker.jpg", quality=80)


def make_clip(name: str, mouths: Sequence[float], sound: bytes = b"") -> None:
    """Write a clip whose mouth is opened so far in each frame, with 16-bit sound where there is some."""
    with av.open(str(HERE / name), "w", options={"movflags": "+faststart"}) as container:
        # Noise that is put in to look sharp is only to be packed here: the face is drawn.
        options = {"crf": "31", "preset": "veryslow", "tune": "ssim"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        if audio is not None:
            audio.bit_rate = 16_000
        for number, picture in enumerate(film(mouths)):
            frame = VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is None:
            return
        whole = AudioFrame(format="s16", layout="mono", samples=len(sound) // 2)
        whole.planes[0].update(sound + bytes(whole.planes[0].buffer_size - len(sound)))
        whole.sample_rate, whole.pts = RATE, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE, frame_size=1024)
        for part in (*resampler.resample(whole), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))


def speech_samples() -> bytes:
    """Return the samples of speech.wav, with silence behind them until the end of a clip."""
    with wave.open(str(HERE / "speech.wav"), "rb") as source:
        return source.readframes(source.getnframes()).ljust(CLIP_SECONDS * RATE * 2, b"\0")


def mouths_of(sound: bytes) -> list[float]:
    """Return how far a mouth is opened in each frame that says this: the louder, the farther."""
    samples = memoryview(sound).cast("h")
    step = RATE // FPS
    parts = [samples[at : at + step] for at in range(0, len(samples), step)]
    return [min(1.0, math.sqrt(sum(one * one for one in part) / len(part)) / _LOUD) for part in parts]


def make_speech() -> None:
    """Write speech.wav: mono, 16,000 samples a second."""
    told = HERE / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(told), SENTENCE], check=True)  # noqa: S603, S607
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(told), "r") as source, av.open(str(HERE / "speech.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    told.unlink()


def coarsen_speech() -> None:
    """Write speech.wav anew in coarser steps; silence stays silence, and what is coarse stays as it is."""
    with wave.open(str(HERE / "speech.wav"), "rb") as source:
        fine = memoryview(source.readframes(source.getnframes())).cast("h")
    coarse = array("h", (round(sample / _STEP) * _STEP for sample in fine))
    with wave.open(str(HERE / "speech.wav"), "wb") as target:
        target.setparams((1, 2, RATE, len(coarse), "NONE", "not compressed"))
        target.writeframes(coarse.tobytes())


if __name__ == "__main__":
    if shutil.which("espeak-ng"):
        make_speech()
    coarsen_speech()
    make_photo()
    make_clip("speaker.mp4", [0.0] * FRAMES)
    make_clip("speaking.mp4", mouths_of(speech_samples()), speech_samples())
