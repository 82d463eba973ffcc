"""What the files of a campaign are called: its videos after their clips, with what tells each apart."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from sync_mcp.campaigns.table import Line
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.media.paths.destinations import check_file_name
from sync_mcp.texts import clean

CSV_NAME = "report.csv"
HTML_NAME = "report.html"
_ENDING = ".mp4"
_STEM_BYTES = 90
"""Of a clip's name and of what is said: with both, take and number a name is one that every disk takes."""
_SHOWN = 80
_PLAIN_MARKS = " .()+-_"
_NOT_AT_ENDS = " .-+"


def name_output(line: Line) -> str | None:
    """Return what a line's video is called where the line says so; None where it does not.

    Raises:
        InvalidRequestError: it lies in another folder, or no file can be called so.
    """
    if line.output is None:
        return None
    name = unicodedata.normalize("NFC", line.output)
    if not all(map(_is_plain, name)) or PurePath(name).name != name or name.startswith(("-", "+")):
        raise InvalidRequestError(
            f"output {clean(name, _SHOWN)!r} is no plain file name: letters, digits, spaces and ._-+() "
            "alone, a letter or a digit first, without a folder."
        )
    whole = name if name.lower().endswith(_ENDING) else f"{name}{_ENDING}"
    try:
        check_file_name(whole)
    except FileRefused as error:
        raise InvalidRequestError(f"output {clean(name, _SHOWN)!r}: {error.message}") from error
    return whole


def invent_output(line: Line, language: str) -> str:
    """Return what a line's video is called where the line does not say so, without its ending.

    Args:
        line: what is asked for.
        language: the code of the language of a dub; "" where it is none.
    """
    clip = _stem(line.video or line.image or "") or "video"
    told = language or _stem(line.audio or "") or _plain(line.voice or "")
    told = "synced" if told in ("", clip) else told
    take = f".take{line.take}" if line.take > 1 else ""
    name = f"{clip}.{told}{take}"
    try:
        check_file_name(f"{name}{_ENDING}")
    except FileRefused:
        # Such as "nul": a device on Windows, whatever follows.
        name = f"video-{name}"
    return name


def name_beside(clip: str, mark: str) -> str:
    """Return what the video of a clip is called that lies beside it, without its ending: "lesson.synced"."""
    return f"{_plain_letters(PurePath(clip).stem) or 'video'}{mark}"


class Names:
    """The names of a campaign's videos; `given` are those that its lines ask for."""

    def __init__(self, given: Iterable[str]) -> None:
        self._taken = {name.casefold() for name in given}
        self._numbers: dict[str, int] = {}

    def find_free(self, name: str) -> str:
        """Return a name with its ending, and a number where another video has it, and take it."""
        number = self._numbers.get(name.casefold(), 0)
        while True:
            number += 1
            whole = f"{name}{_ENDING}" if number == 1 else f"{name}-{number}{_ENDING}"
            if whole.casefold() not in self._taken:
                self._numbers[name.casefold()] = number
                self._taken.add(whole.casefold())
                return whole


def _stem(place: str) -> str:
    """Return the name of a file, wherever it lies, without folder, query and ending."""
    path = place.partition("?")[0].partition("#")[0].replace("\\", "/").rstrip("/")
    return _plain(PurePath(path).stem)


def _plain(text: str) -> str:
    """Return a text as a part of a name: plain letters, not too many of them."""
    return _plain_letters(text).encode()[:_STEM_BYTES].decode(errors="ignore").strip(_NOT_AT_ENDS)


def _plain_letters(text: str) -> str:
    composed = unicodedata.normalize("NFC", text.strip())
    letters = "".join(letter if _is_plain(letter) else "_" for letter in composed)
    return re.sub(r"_{2,}", "_", letters).strip(_NOT_AT_ENDS)


def _is_plain(letter: str) -> bool:
    """Return whether it may stand in a name: a letter, its marks, a digit, or what is harmless."""
    return letter.isalnum() or letter in _PLAIN_MARKS or unicodedata.category(letter) in ("Mn", "Mc")
