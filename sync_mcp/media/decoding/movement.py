"""Whether a picture moves: more than what a codec makes of one and the same picture, less than lips do."""

from av.video.frame import VideoFrame

# Measured on one picture made a video of 40 frames (a gradient, stripes, noise; 640 by 480, 1280 by 720):
# H.264 of crf 23 and 35 changes the coarse pixels by 3 of 256 levels at most (stripes once by 5), the fine
# ones by 8. Crf 45, MPEG-4, and VP8 of 400 kbit/s can go beyond: such a video counts as one that moves, which
# accuses nobody.
_COARSE_SIDE = 64
"""So large a pixel takes the mean of what a codec does to it: 10 by 7 of the pixels of 640 by 480."""
_COARSE_LEVELS = 4
"""A mouth of 7 by 3 pixels in 640 by 480, or 10 by 5 in 1280 by 720, changes one by 13 or more."""
_COARSE_PIXELS = 1
"""Such a mouth lies in a single one of them: the next one changes by 3 or less."""
_FINE_SIDE = 256
"""A mouth of 12 by 6 pixels in 1920 by 1080 changes a coarse pixel by 4 of 30 levels, a fine one by 19."""
_FINE_LEVELS = 8
"""As far as the still H.264 above goes."""
_FINE_PIXELS = 2
"""The same mouth changes the second one by 17; one pixel alone is what a codec does to an edge."""
_FINE_FROM = 720
"""Of the shorter side; below it the coarse pixels see every mouth above, and noise in MPEG-4 changes fine
ones by 37 levels where nothing moves."""


class Movement:
    """Compares pictures with the first one that it is shown."""

    def __init__(self) -> None:
        self._first: dict[int, bytes] = {}

    def is_in(self, frame: VideoFrame) -> bool:
        """Return whether a picture is not as the first one was."""
        return self._has_changed(frame, _COARSE_SIDE, _COARSE_LEVELS, _COARSE_PIXELS) or (
            min(frame.width, frame.height) >= _FINE_FROM
            and self._has_changed(frame, _FINE_SIDE, _FINE_LEVELS, _FINE_PIXELS)
        )

    def _has_changed(self, frame: VideoFrame, side: int, levels: int, pixels: int) -> bool:
        """Return whether so many of `side` by `side` pixels are not as in the first picture."""
        now = bytes(frame.reformat(side, side, "gray", interpolation="AREA").planes[0])
        first = self._first.setdefault(side, now)
        return now != first and sum(abs(a - b) > levels for a, b in zip(first, now, strict=True)) >= pixels
