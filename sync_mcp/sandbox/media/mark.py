"""The word SANDBOX, drawn into the corner of a picture."""

from functools import cache

from av.video.frame import VideoFrame

_GLYPHS = {
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "N": ("#...#", "##..#", "#.#.#", "#.#.#", "#..##", "#...#", "#...#"),
    "D": ("####.", "#...#", "#...#", "#...#", "#...#", "#...#", "####."),
    "B": ("####.", "#...#", "#...#", "####.", "#...#", "#...#", "####."),
    "O": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "X": ("#...#", "#...#", ".#.#.", "..#..", ".#.#.", "#...#", "#...#"),
}
_WORD = "SANDBOX"
_COLUMNS = len(_WORD) * 6 + 1
_DARK, _BRIGHT, _GREY = 16, 235, 128
_PICTURE_COLUMNS = 130
"""The mark covers about a third of the picture's width."""


def dot_size(width: int) -> int:
    """Return how many pixels wide a dot of the letters is in a picture of this width."""
    return max(1, round(width / _PICTURE_COLUMNS))


@cache
def _lines(size: int) -> list[bytes]:
    """Return the luma of each line of the mark."""
    letters = [".".join(_GLYPHS[letter][row] for letter in _WORD) for row in range(7)]
    empty = "." * _COLUMNS
    rows = [empty, *(f".{row}." for row in letters), empty]
    lines = [b"".join(bytes([_BRIGHT if dot == "#" else _DARK]) * size for dot in row) for row in rows]
    return [line for line in lines for _ in range(size)]


def draw(frame: VideoFrame) -> None:
    """Write the mark into the top left corner of a yuv420p frame, over what is there."""
    lines = _lines(dot_size(frame.width))[: frame.height]
    width, height = min(len(lines[0]), frame.width), len(lines)
    luma, *chroma = (memoryview(plane) for plane in frame.planes)
    step, half_step = frame.planes[0].line_size, frame.planes[1].line_size
    for y, line in enumerate(lines):
        luma[y * step : y * step + width] = line[:width]
    grey = bytes([_GREY]) * ((width + 1) // 2)
    for plane in chroma:
        for y in range((height + 1) // 2):
            plane[y * half_step : y * half_step + len(grey)] = grey
