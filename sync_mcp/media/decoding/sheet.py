"""A contact sheet: what a video shows over its whole length, in one small JPEG."""

# PyAV does not type the images that it makes, Pillow not all that it makes of them.
# pyright: reportUnknownMemberType=false

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from PIL import Image as Pillow, ImageDraw, ImageFont
from PIL.Image import Image, Resampling, Transpose

from sync_mcp.media.decoding.findings import (
    SHEET_BYTES,
    SHEET_WIDTH,
    SMALL_SHEET_BYTES,
    SMALL_SHEET_WIDTH,
    ContactSheet,
    MediaError,
    MediaInfo,
)
from sync_mcp.media.decoding.probe import (
    clockwise_degrees,
    decode_by_two,
    open_container,
    picture_stream,
    probe,
)

_LEAST_CELL = 64, 40
"""Room for the time, in pictures that are smaller or mere strips."""
_GAP = 2
_BACKGROUND = (24, 24, 24)
_QUALITIES = (88, 80, 72, 64, 55, 45, 35)
_SMALLER = 0.75
_FONT_SIZE = 15
_SEEK_SECONDS = 2.0
"""Nearer than this, decoding on is quicker than going to a key frame."""
_FAILURES_PASSED_OVER = 50
_DEFAULT_FPS = 25.0


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a sheet looks."""

    width: int
    """Pixels, at most; of a still image, either side."""
    most_bytes: int
    frames: int
    edge_seconds: float
    """So far inside lie the first and the last frame, ..."""
    edge_share: float
    """... or so much of the whole length, whichever is less."""
    has_times: bool
    columns: int = 3

    @property
    def cell(self) -> int:
        return self.width // self.columns


_SHEET = _Layout(SHEET_WIDTH, SHEET_BYTES, frames=9, edge_seconds=0.25, edge_share=1 / 40, has_times=True)
# So few frames lie in the middle of their parts: many a video begins and ends in black.
_SMALL_SHEET = _Layout(
    SMALL_SHEET_WIDTH, SMALL_SHEET_BYTES, frames=3, edge_seconds=math.inf, edge_share=1 / 6, has_times=False
)


def draw_sheet(file: BinaryIO, deadline: float) -> ContactSheet:
    """Draw the contact sheet of `file`, decoding until `time.monotonic()` reaches `deadline`.

    A video of fewer frames has a smaller sheet, a still image one of itself.

    Raises:
        MediaError: it is no media, is damaged, or has no picture.
    """
    return _draw(file, deadline, _SHEET)


def draw_small_sheet(file: BinaryIO, deadline: float) -> ContactSheet:
    """Draw three frames of `file` side by side, otherwise as `draw_sheet`."""
    return _draw(file, deadline, _SMALL_SHEET)


def _draw(file: BinaryIO, deadline: float, layout: _Layout) -> ContactSheet:
    info = probe(file, count_until=time.monotonic() + (deadline - time.monotonic()) / 3)
    if info.kind == "audio":
        raise MediaError("has sound alone, and no picture to look at.")
    pictures = _pictures(file, info, deadline, layout)
    if not pictures:
        raise MediaError("holds no picture that can be decoded.")
    sheet = _assemble(pictures, layout, timed=layout.has_times and info.kind == "video")
    jpeg, width, height = _compress(sheet, layout.most_bytes)
    return ContactSheet(
        jpeg=jpeg,
        width=width,
        height=height,
        duration_seconds=info.duration_seconds,
        frame_seconds=tuple(round(at, 3) for at, _ in pictures) if info.kind == "video" else (),
    )


def _pictures(file: BinaryIO, info: MediaInfo, deadline: float, layout: _Layout) -> list[tuple[float, Image]]:
    if info.kind == "image":
        return _pictures_at(file, info, [0.0], deadline, layout.width)
    seconds = info.duration_seconds or 0.0
    pictures = _pictures_at(file, info, _moments(seconds, layout), deadline, layout.cell)
    last = pictures[-1][0] if pictures else 0.0
    if len(pictures) < layout.frames and last < seconds / 2 and time.monotonic() < deadline:
        # The header tells more than there is.
        with open_container(file) as container:
            end = _Reel(container, info.fps or _DEFAULT_FPS).end_after(
                last, (time.monotonic() + deadline) / 2
            )
        pictures = _pictures_at(file, info, _moments(end, layout), deadline, layout.cell) or pictures
    return pictures


def _moments(seconds: float, layout: _Layout) -> list[float]:
    """Return when to look: evenly, the first and the last a little inside."""
    edge = min(layout.edge_seconds, seconds * layout.edge_share)
    step = (seconds - 2 * edge) / (layout.frames - 1)
    return [edge + number * step for number in range(layout.frames)]


def _pictures_at(
    file: BinaryIO, info: MediaInfo, moments: list[float], deadline: float, side: int
) -> list[tuple[float, Image]]:
    found: dict[float, Image] = {}
    with open_container(file) as container:
        reel = _Reel(container, info.fps or _DEFAULT_FPS)
        for number, moment in enumerate(moments):
            now = time.monotonic()
            shown = reel.frame_at(moment, now + (deadline - now) / (len(moments) - number))
            if shown is not None and shown[0] not in found:
                found[shown[0]] = _small(shown[1], side, reel.pixel_width)
    return sorted(found.items(), key=lambda item: item[0])


class _Reel:
    """The frames of a video, looked up by time; the times of both are seconds from its beginning."""

    def __init__(self, container: InputContainer, fps: float) -> None:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError("holds no picture.")
        decode_by_two(stream)
        self._container = container
        self._stream = stream
        self._fps = fps
        self._start = float((stream.start_time or 0) * (stream.time_base or 0))
        ratio = stream.sample_aspect_ratio
        self.pixel_width = float(ratio) if ratio and 0.1 < ratio < 10 else 1.0
        """Of a pixel's height."""
        self._frames = self._decode()
        self._last: tuple[float, VideoFrame] | None = None

    def frame_at(self, moment: float, until: float) -> tuple[float, VideoFrame] | None:
        """Return the frame of `moment`, or the nearest before it that is decoded in time."""
        shown = self._last
        if moment > (shown[0] if shown else 0.0) + _SEEK_SECONDS:
            self._seek(moment)
        for shown in self._frames:
            self._last = shown
            if shown[0] >= moment - 0.5 / self._fps or time.monotonic() > until:
                break
        return shown

    def end_after(self, moment: float, until: float) -> float:
        """Return when the last frame is shown that can be decoded in time, going on from `moment`."""
        self._seek(moment)
        end = moment
        for at, _ in self._frames:
            end = max(end, at)
            if time.monotonic() > until:
                break
        return end

    def _seek(self, moment: float) -> None:
        try:
            offset = round((self._start + moment) / (self._stream.time_base or 1))
            self._container.seek(offset, stream=self._stream)
        except (FFmpegError, OverflowError):
            # No index: what comes next is decoded on the way there.
            return
        self._frames = self._decode()

    def _decode(self) -> Iterator[tuple[float, VideoFrame]]:
        at = self._last[0] if self._last else -1 / self._fps
        for _ in range(_FAILURES_PASSED_OVER):
            try:
                for frame in self._container.decode(self._stream):
                    at = frame.time - self._start if frame.pts is not None else at + 1 / self._fps
                    yield max(0.0, at), frame
                return
            except EOFError:
                return
            except (FFmpegError, ValueError):
                continue


def _small(frame: VideoFrame, side: int, pixel_width: float) -> Image:
    """Return a frame upright, with square pixels, no larger than a cell."""
    turns = {90: Transpose.ROTATE_270, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_90}
    width = frame.width * pixel_width
    # What is tiny is enlarged twice at most.
    scale = min(side / width, side / frame.height, 2.0)
    image = cast(
        Image,
        frame.to_image(
            width=max(1, round(width * scale)),
            height=max(1, round(frame.height * scale)),
            interpolation="AREA" if scale < 1 else "BICUBIC",
        ),
    )
    degrees = clockwise_degrees(frame)
    return image.transpose(turns[degrees]) if degrees else image


def _assemble(pictures: list[tuple[float, Image]], layout: _Layout, *, timed: bool) -> Image:
    columns = min(layout.columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(_LEAST_CELL[0], *(image.width for _, image in pictures))
    height = max(_LEAST_CELL[1], *(image.height for _, image in pictures))
    sheet = Pillow.new("RGB", (columns * width, rows * height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=_FONT_SIZE)
    long = pictures[-1][0] >= 60
    for number, (at, image) in enumerate(pictures):
        left, top = number % columns * width, number // columns * height
        image = image.crop((0, 0, min(image.width, width - _GAP), min(image.height, height - _GAP)))
        sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if timed:
            label = _clock(at, whole=long)
            place = (left + 6, top + height - _FONT_SIZE - 10)
            box = draw.textbbox(place, label, font=font)
            draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=(0, 0, 0))
            draw.text(place, label, fill=(255, 255, 255), font=font)
    return sheet


def _clock(seconds: float, *, whole: bool) -> str:
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if whole else f"{minutes}:{rest:02}.{tenths % 10}"


def _compress(sheet: Image, most_bytes: int) -> tuple[bytes, int, int]:
    """Return a JPEG that is small enough: of less quality first, then of less size."""
    while True:
        for quality in _QUALITIES:
            target = io.BytesIO()
            sheet.save(target, "JPEG", quality=quality, optimize=True)
            if target.tell() <= most_bytes:
                return target.getvalue(), sheet.width, sheet.height
        size = round(sheet.width * _SMALLER), round(sheet.height * _SMALLER)
        sheet = sheet.resize(size, Resampling.LANCZOS)
