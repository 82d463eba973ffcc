"""Make the recording that the sandbox's samples are taken out of: `python -m tests.sandbox.make_recording`.

The face is drawn here, and is nobody's. The voice is that of espeak-ng, which must be installed.
"""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import subprocess
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageEnhance

RECORDING = Path(__file__).parents[2] / "sync_mcp" / "sandbox" / "media" / "speaking.mp4"
SENTENCE = "Hello. This is a sample voice, made for your first video."
CLIP_SECONDS = 5
FPS = 25
SIDE = 360
"""Pixels along an edge."""
RATE = 16_000
"""Samples of the speech in a second."""

_DRAWN = 2 * SIDE
"""Drawn larger, the edges come out smooth."""
_STRIPE = 60
_BLINK_FRAMES = 4
_BLINKS = (40, 95)
"""The frames in which a blink begins."""
_LOUD = 6000.0
_OPENINGS = 4
"""How many steps a mouth has: fewer pictures are told apart, and packed closer."""
_DARKEST = 0.8
"""The light of the first second; each further one is lighter, so that a picture tells when it is."""
_WALL, _STRIPES, _SHIRT = (214, 226, 236), (120, 150, 178), (190, 96, 80)
_SKIN, _SHADE, _HAIR = (240, 200, 160), (222, 172, 132), (84, 56, 44)
_WHITE, _EYE, _LIPS, _INSIDE = (250, 250, 250), (60, 84, 110), (190, 84, 84), (92, 32, 36)

Box = tuple[float, float, float, float]


def face(*, opened: float, blinks: bool) -> Image.Image:
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


def speak() -> bytes:
    """Return the sentence as 16-bit samples, with silence behind it until the end of the clip."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with TemporaryDirectory() as folder:
        told = Path(folder) / "spoken.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(told), SENTENCE], check=True)
        with av.open(told) as source:
            frames = [part for frame in source.decode(audio=0) for part in resampler.resample(frame)]
    sound = b"".join(bytes(part.planes[0])[: part.samples * 2] for part in frames)
    return sound.ljust(CLIP_SECONDS * RATE * 2, b"\0")


def mouths_of(sound: bytes) -> list[float]:
    """Return how far a mouth is opened in each frame that says this: the louder, the farther."""
    samples = memoryview(sound).cast("h")
    step = RATE // FPS
    parts = [samples[at : at + step] for at in range(0, len(samples), step)]
    loud = [min(1.0, math.sqrt(sum(one * one for one in part) / len(part)) / _LOUD) for part in parts]
    return [round(opened * _OPENINGS) / _OPENINGS for opened in loud]


def light_of(number: int) -> float:
    """Return how light it is in a frame, up to 1."""
    return _DARKEST + (1 - _DARKEST) * (number // FPS) / (CLIP_SECONDS - 1)


def make_recording(sound: bytes) -> None:
    """Write the clip, whose mouth says these samples."""
    with av.open(RECORDING, "w", options={"movflags": "+faststart"}) as container:
        # Noise that is put in to look sharp is only to be packed here: the face is drawn.
        options = {"crf": "33", "preset": "veryslow", "tune": "ssim"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 16_000
        for number, opened in enumerate(mouths_of(sound)):
            blinks = any(0 <= number - begin < _BLINK_FRAMES for begin in _BLINKS)
            picture = face(opened=opened, blinks=blinks).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            frame = VideoFrame.from_image(ImageEnhance.Brightness(picture).enhance(light_of(number)))
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        whole = AudioFrame(format="s16", layout="mono", samples=len(sound) // 2)
        whole.planes[0].update(sound + bytes(whole.planes[0].buffer_size - len(sound)))
        whole.sample_rate, whole.pts = RATE, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE, frame_size=1024)
        for part in (*resampler.resample(whole), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    make_recording(speak())
