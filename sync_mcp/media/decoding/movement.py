"""Whether a picture moves: more than what a codec makes of one and the same picture, less than lips do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_COARSE_SIDE, _COARSE_LEVELS, _COARSE_PIXELS = 64, 4, 1
_FINE_SIDE, _FINE_LEVELS, _FINE_PIXELS = 256, 8, 2
_FINE_FROM = 720
"""From which height and width on lips may be too small for the coarse pixels."""


class Movement:
    """Compares pictures with the first one that it is shown."""

    def __init__(self) -> None:
        self._first: dict[int, bytes] = {}

    def is_in(self, frame: VideoFrame) -> bool:
        """Return whether a picture is not as the first one was."""
        return self._changed(frame, _COARSE_SIDE, _COARSE_LEVELS, _COARSE_PIXELS) or (
            min(frame.width, frame.height) >= _FINE_FROM
            and self._changed(frame, _FINE_SIDE, _FINE_LEVELS, _FINE_PIXELS)
        )

    def _changed(self, frame: VideoFrame, side: int, levels: int, pixels: int) -> bool:
        """Return whether so many of `side` by `side` pixels are not as in the first picture."""
        now = bytes(frame.reformat(side, side, "gray", interpolation="AREA").planes[0])
        first = self._first.setdefault(side, now)
        return now != first and sum(abs(a - b) > levels for a, b in zip(first, now, strict=True)) >= pixels
