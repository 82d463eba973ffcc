"""The picture of an output: frames of a video walked through as sync_mode says, or a photo that moves."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from sync_mcp.media.decoding.probe import open_container, picture_stream
from sync_mcp.sandbox.media.decoding import decode_frames

Walk = Literal["forward", "loop", "bounce", "stretch"]
"""How the frames of the source are taken: once, again and again, to and fro, or slower or faster."""

_LONG_EDGE, _SHORT_EDGE = 1280, 720
_LEAST_EDGE = 32
_ZOOM = 0.12
_ZOOM_SECONDS = 10
# By the signs of a display matrix and by the orientation of EXIF: what makes a picture upright.
_BY_MATRIX = {
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip"],
    (-1, 0, 0, -1): ["hflip", "vflip"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, 1, -1, 0): ["transpose=clock"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
    (0, -1, 1, 0): ["transpose=cclock"],
}
_BY_EXIF = {
    2: ["hflip"],
    3: ["hflip", "vflip"],
    4: ["vflip"],
    5: ["transpose=cclock_flip"],
    6: ["transpose=clock"],
    7: ["transpose=clock_flip"],
    8: ["transpose=cclock"],
}
_BY_ROTATION = {-90: 6, 90: 8, 180: 3, -180: 3}
_EXIF_ORIENTATION = 274
_PHOTOS = ("JPEG", "PNG", "WEBP")


def output_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of the output for a picture: at most 720p, in even numbers as H.264 wants them."""
    scale = min(1.0, _LONG_EDGE / max(width, height), _SHORT_EDGE / min(width, height))
    return _even(width * scale), _even(height * scale)


def _even(edge: float) -> int:
    return max(_LEAST_EDGE, round(edge / 2) * 2)


def walk_indices(walk: Walk, available: int, wanted: int) -> Iterator[int]:
    """Yield which of `available` source frames each of `wanted` output frames shows."""
    for number in range(wanted):
        if walk == "loop":
            yield number % available
        elif walk == "bounce":
            step = number % max(1, 2 * (available - 1))
            yield min(step, 2 * (available - 1) - step)
        elif walk == "stretch":
            yield min(available - 1, number * available // wanted)
        else:
            yield min(available - 1, number)


def moving_frames(
    source: Path, size: tuple[int, int], fps: Fraction, indices: Iterable[int], work: Path
) -> Iterator[VideoFrame]:
    """Yield the frames of a video at these indices, which may go back; `work` is a folder for scratch."""
    wanted = list(indices)
    forward = all(later >= earlier for earlier, later in pairwise(wanted))
    steady = steady_frames(source, size, fps)
    if forward:
        yield from _pick(steady, wanted)
        return
    with FrameStore(work / "frames.mjpeg", size) as store:
        for frame in _first(steady, max(wanted) + 1):
            store.append(frame)
        for index in wanted:
            yield store.frame(min(index, len(store) - 1))


def steady_frames(source: Path, size: tuple[int, int], fps: Fraction) -> Iterator[VideoFrame]:
    """Yield a video's frames upright, in `size`, yuv420p, at a constant rate."""
    shown: VideoFrame | None = None
    slot = 0
    for time, frame in _frames_with_times(source, size):
        while shown is not None and Fraction(slot) / fps < time:
            yield shown
            slot += 1
        shown = frame
    if shown is not None:
        yield shown


def still_frames(source: Path, size: tuple[int, int], fps: Fraction, wanted: int) -> Iterator[VideoFrame]:
    """Yield frames of a camera that slowly comes nearer to a photo and draws back."""
    with open_container(source) as container:
        stream = picture_stream(container)
        frames = decode_frames(container, [stream]) if stream else iter(())
        photo = next((frame for frame in frames if isinstance(frame, VideoFrame)), None)
    if photo is None:
        return
    width, height = size
    period = _ZOOM_SECONDS * float(fps)
    zoom = f"z=1+{_ZOOM}*(0.5-0.5*cos(2*PI*on/{period}))"
    centre = "x=(iw-iw/zoom)/2:y=(ih-ih/zoom)/2"
    # zoompan moves in whole pixels; enlarging first makes the movement smooth.
    filters = [
        *upright_steps(photo, source),
        f"scale={width * 2}:{height * 2}",
        f"zoompan={zoom}:{centre}:d={wanted}:s={width}x{height}:fps={fps}",
        "format=yuv420p",
    ]
    graph = _graph(photo, filters)
    graph.vpush(photo)
    graph.vpush(None)
    for _ in range(wanted):
        yield graph.vpull()


class FrameStore:
    """Frames that can be looked up in any order, kept compressed in a file."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._file = path.open("w+b")
        self._places: list[tuple[int, int]] = []
        self._encoder = _jpeg("w")
        self._encoder.width, self._encoder.height = size
        self._encoder.pix_fmt = "yuvj420p"
        self._encoder.time_base = Fraction(1, 25)
        self._encoder.options = {"qmin": "2", "qmax": "2"}
        self._decoder = _jpeg("r")
        # A frame by itself would set up the conversion anew.
        self._to_jpeg, self._from_jpeg = VideoReformatter(), VideoReformatter()

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def append(self, frame: VideoFrame) -> None:
        """Add a frame."""
        picture = self._to_jpeg.reformat(frame, format="yuvj420p")
        picture.pts = len(self._places)
        picture.time_base = Fraction(1, 25)
        data = b"".join(bytes(packet) for packet in self._encoder.encode(picture))
        self._places.append((self._file.tell(), len(data)))
        self._file.write(data)

    def frame(self, index: int) -> VideoFrame:
        """Return a copy of a frame."""
        start, length = self._places[index]
        self._file.seek(start)
        (picture,) = self._decoder.decode(Packet(self._file.read(length)))
        return self._from_jpeg.reformat(picture, format="yuv420p")


def _jpeg(mode: Literal["r", "w"]) -> VideoCodecContext:
    context = av.CodecContext.create("mjpeg", mode)
    # Frame threads would hold pictures back; each packet must give its picture at once.
    context.thread_count = 1
    return context


def _pick(frames: Iterator[VideoFrame], wanted: list[int]) -> Iterator[VideoFrame]:
    shown: VideoFrame | None = None
    at = -1
    for index in wanted:
        while at < index and (coming := next(frames, None)) is not None:
            shown, at = coming, at + 1
        if shown is not None:
            yield shown


def _first(frames: Iterator[VideoFrame], count: int) -> Iterator[VideoFrame]:
    for _, frame in zip(range(count), frames, strict=False):
        yield frame


def _frames_with_times(source: Path, size: tuple[int, int]) -> Iterator[tuple[float, VideoFrame]]:
    with open_container(source) as container:
        stream = picture_stream(container)
        if stream is None:
            return
        stream.thread_type = "AUTO"
        graph: Graph | None = None
        shape: tuple[int, int, str] | None = None
        start: float | None = None
        frames = (frame for frame in decode_frames(container, [stream]) if isinstance(frame, VideoFrame))
        for number, frame in enumerate(frames):
            if graph is None or shape != (frame.width, frame.height, frame.format.name):
                shape = frame.width, frame.height, frame.format.name
                steps = upright_steps(frame, source)
                # A picture that needs no change is copied all the same: the decoder still looks at its own.
                graph = _graph(frame, [*steps, f"scale={size[0]}:{size[1]}", "format=yuv420p", "copy"])
            time = frame.time if frame.pts is not None else number / float(stream.average_rate or 25)
            start = time if start is None else start
            frame.pts, frame.time_base = number, Fraction(1, 25)
            graph.vpush(frame)
            yield max(0.0, time - start), graph.vpull()


def upright_steps(frame: VideoFrame, source: Path) -> list[str]:
    """Return the filters that turn and mirror a picture as it is meant to be seen."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # Beside what PyAV does not know it tells nothing of the rest: photos have it in their EXIF.
        return _BY_EXIF.get(_exif_orientation(source) or _BY_ROTATION.get(frame.rotation, 1), [])
    if matrix is None:
        return []
    a, b, _, c, d, *_ = (_sign(number) for number in struct.unpack("<9i", bytes(matrix)))
    return _BY_MATRIX.get((a, b, c, d), [])


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def is_sideways(steps: Sequence[str]) -> bool:
    """Return whether filters turn a picture by a quarter."""
    return any(step.startswith("transpose") for step in steps)


def size_as_shown(frame: VideoFrame, stream: VideoStream, steps: Sequence[str]) -> tuple[int, int]:
    """Return how large a picture is shown, upright and in square pixels."""
    ratio = stream.sample_aspect_ratio
    pixel_width = float(ratio) if ratio and 0.1 < ratio < 10 else 1.0
    width, height = max(1, round(frame.width * pixel_width)), frame.height
    return (height, width) if is_sideways(steps) else (width, height)


def _exif_orientation(source: Path) -> int | None:
    """Return the orientation of a photo; None for a file that is no photo."""
    faults = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    with suppress(*faults), Image.open(source, formats=_PHOTOS) as image:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    return None


def _graph(frame: VideoFrame, filters: list[str]) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    steps = [graph.add(*step.partition("=")[::2]) for step in filters]
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    return graph
