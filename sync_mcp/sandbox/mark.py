"""The word SANDBOX, drawn into the corner of a picture."""

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
_ROWS = 9
_DARK, _BRIGHT, _GREY = 16, 235, 128
_PICTURE_COLUMNS = 130
"""The mark covers about a third of the picture's width."""


def _rows() -> list[str]:
    letters = [".".join(_GLYPHS[letter][row] for letter in _WORD) for row in range(7)]
    empty = "." * _COLUMNS
    return [empty, *(f".{row}." for row in letters), empty]


def dot_size(width: int) -> int:
    """Return how many pixels wide a dot of the letters is in a picture of this width."""
    return max(1, round(width / _PICTURE_COLUMNS))


def draw(frame: VideoFrame) -> None:
    """Write the mark into the top left corner of a yuv420p frame, over what is there."""
    size = dot_size(frame.width)
    line_size = frame.planes[0].line_size
    luma = memoryview(frame.planes[0])
    width = min(_COLUMNS * size, frame.width)
    height = min(_ROWS * size, frame.height)
    for number, row in enumerate(_rows()):
        dots = b"".join(bytes([_BRIGHT if dot == "#" else _DARK]) * size for dot in row)[:width]
        for y in range(number * size, min((number + 1) * size, height)):
            luma[y * line_size : y * line_size + width] = dots
    for plane in frame.planes[1:3]:
        chroma = memoryview(plane)
        grey = bytes([_GREY]) * ((width + 1) // 2)
        for y in range((height + 1) // 2):
            chroma[y * plane.line_size : y * plane.line_size + len(grey)] = grey
