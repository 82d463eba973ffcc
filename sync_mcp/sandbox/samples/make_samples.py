"""Make the sandbox's samples: `python make_samples.py` in an environment with scikit-image and PyAV.

The face is the portrait of Eileen Collins by NASA, in the public domain, that scikit-image ships as
`skimage.data.astronaut`; the clip is a slow zoom into it. The voice is espeak-ng, which must be installed.
"""

# PyAV does not type the streams of its packets, scikit-image nothing.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingImports=false

import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import skimage.data
from av.filter import Graph
from av.video.frame import VideoFrame

SENTENCE = "Hello. This is a sample voice, made for your first video."
CLIP_SECONDS = 5
FPS = 25
SIDE = 360
"""Pixels along an edge of the clip and the photo."""

HERE = Path(__file__).parent


def portrait() -> VideoFrame:
    """Return the photo, cut to head and shoulders."""
    pixels = skimage.data.astronaut()[0:400, 20:420]
    frame = VideoFrame(400, 400, "rgb24")
    frame.planes[0].update(bytes(pixels.tobytes()))
    return frame


def zoomed(photo: VideoFrame, frames: int) -> Iterator[VideoFrame]:
    """Yield the photo as a camera sees it that comes slowly nearer."""
    graph = Graph()
    source = graph.add_buffer(
        width=photo.width, height=photo.height, format=photo.format, time_base=Fraction(1, FPS)
    )
    # zoompan moves in whole pixels; enlarging first makes the movement smooth.
    steps = [
        graph.add("scale", "2400:2400:flags=lanczos"),
        graph.add(
            "zoompan", f"z=1+0.12*on/{frames}:x=(iw-iw/zoom)/2:y=(ih-ih/zoom)/3:d={frames}:s={SIDE}x{SIDE}"
        ),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(source, *steps).configure()
    graph.vpush(photo)
    graph.vpush(None)
    for _ in range(frames):
        yield graph.vpull()


def make_photo(photo: VideoFrame) -> None:
    """Write speaker.jpg."""
    frame = photo.reformat(SIDE, SIDE, "yuvj420p", interpolation="LANCZOS")
    with av.open(str(HERE / "speaker.jpg"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("mjpeg", rate=1, options={"qmin": "3", "qmax": "3"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuvj420p"
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_clip(photo: VideoFrame) -> None:
    """Write speaker.mp4, which has no sound."""
    options = {"crf": "25", "preset": "veryslow"}
    faststart = {"movflags": "+faststart"}
    with av.open(str(HERE / "speaker.mp4"), "w", options=faststart) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number, frame in enumerate(zoomed(photo, CLIP_SECONDS * FPS)):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_speech() -> None:
    """Write speech.wav: mono, 16,000 samples a second."""
    spoken = HERE / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(spoken), SENTENCE], check=True)  # noqa: S603, S607
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
    with av.open(str(spoken), "r") as source, av.open(str(HERE / "speech.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    spoken.unlink()


if __name__ == "__main__":
    photo = portrait()
    make_photo(photo)
    make_clip(photo)
    make_speech()
