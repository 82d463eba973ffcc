"""A campaign's file, read: CSV or JSON lines, a line for each video. Nothing that it names is opened here."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sync_mcp.api.models import Json
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.texts import clean, near

MOST_ROWS = 5000
MOST_BYTES = 50 * 1024**2
HIGHEST_TAKE = 10_000
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_WORD_LIMIT = 40
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")

_SYNC_MODES = ("bounce", "loop", "cut_off", "silence", "remap")
_MODEL_MODES = ("lips", "face", "head")
_EMOTIONS = ("happy", "sad", "angry", "disgusted", "surprised", "neutral")
_TEXTS = ("video", "image", "audio", "script", "voice", "language", "model", "output")


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return read


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _flag(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError
    return text.lower() in _TRUE


_OPTIONS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "sync_mode": (_one_of(_SYNC_MODES), f"one of {', '.join(_SYNC_MODES)}"),
    "temperature": (_share, "a number from 0 to 1"),
    "model_mode": (_one_of(_MODEL_MODES), f"one of {', '.join(_MODEL_MODES)}"),
    "prompt": (_one_of(_EMOTIONS), f"one of {', '.join(_EMOTIONS)}"),
    "occlusion_detection_enabled": (_flag, "true or false"),
    "reasoning_enabled": (_flag, "true or false"),
}
"""Columns that are options of the API, each with what reads it and what it is."""

COLUMNS = (*_TEXTS, "take", *_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one line asks for.

    Attributes:
        number: of the file's line on which it begins; the first one is 1.
        video: a path, a URL or an asset: the face.
        image: the same, in place of a video.
        audio: the same: the voice.
        script: what is said, by `voice`.
        voice: a voice's name or id.
        language: into which the video's own speech is dubbed: a code or a name.
        model: by which it is made.
        output: what its video is called.
        take: tells apart what is made again on purpose.
        options: the API's own.
    """

    number: int
    video: str | None = None
    image: str | None = None
    audio: str | None = None
    script: str | None = None
    voice: str | None = None
    language: str | None = None
    model: str | None = None
    output: str | None = None
    take: int = 1
    options: Json = field(default_factory=lambda: cast(Json, {}))


@dataclass(frozen=True, slots=True)
class Table:
    """A campaign's file, read: its lines, and what is wrong with others."""

    lines: Sequence[Line]
    faults: Sequence[str] = ()


def read_table(path: Path) -> Table:
    """Return the lines of a campaign's file; blocks.

    Raises:
        FileRefused: it cannot be read.
        InvalidRequestError: it is no text.
    """
    text = _read(path)
    faults: list[str] = []
    is_json = path.suffix.lower() in _JSON_ENDINGS
    lines: list[Line] = []
    for number, cells in _json_rows(text, faults) if is_json else _csv_rows(text, faults):
        if len(lines) == MOST_ROWS:
            faults.append(f"line {number}: a campaign has at most {MOST_ROWS} rows: make several of it.")
            break
        line = _line(number, cells, faults)
        if line is not None:
            lines.append(line)
    if not lines and not faults:
        faults.append(f"line 1: there is no row; the columns are {', '.join(COLUMNS)}.")
    return Table(lines, faults)


def cross_languages(clips: Sequence[str], languages: Sequence[str]) -> list[Line]:
    """Return a line for each clip in each language.

    Raises:
        InvalidRequestError: there are none, or too many.
    """
    pairs = [(clip, language) for clip in clips for language in languages]
    _check_number(len(pairs))
    return [Line(number=number, video=clip, language=to) for number, (clip, to) in enumerate(pairs, 1)]


def cross_voices(clips: Sequence[str], script: str, voices: Sequence[str]) -> list[Line]:
    """Return a line for each clip with a script said by each voice.

    Raises:
        InvalidRequestError: there are none, or too many.
    """
    pairs = [(clip, voice) for clip in clips for voice in voices]
    _check_number(len(pairs))
    return [
        Line(number=number, video=clip, script=script, voice=voice)
        for number, (clip, voice) in enumerate(pairs, 1)
    ]


def _check_number(count: int) -> None:
    if not 1 <= count <= MOST_ROWS:
        raise InvalidRequestError(f"A campaign has 1 to {MOST_ROWS} rows, and these are {count}.")


def _read(path: Path) -> str:
    shown = clean(str(path), 200)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        why = clean(error.strerror or "it cannot be opened", _WORD_LIMIT)
        raise FileRefused(
            f"{shown} cannot be read: {why}.", code="file_not_readable", next_step="Name the campaign's file."
        ) from error
    if len(content) > MOST_BYTES:
        raise InvalidRequestError(
            f"{shown} is larger than {MOST_BYTES // 1024**2} MB: that is no campaign's."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidRequestError(
            f"line {line}: this is no UTF-8 text: save the file as UTF-8 (in a spreadsheet: CSV UTF-8)."
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InvalidRequestError(
            f"line {line}: there is a NUL byte: save the file as UTF-8 text, it is none as it is."
        )
    return text


def _csv_rows(text: str, faults: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    # A cell may be a script of some length; what is too long is said of the script.
    csv.field_size_limit(MOST_BYTES)
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    head: list[str] | None = None
    begins = 1
    try:
        for cells in reader:
            number, begins = begins, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if head is None:
                head = [cell.lower().replace(" ", "_").replace("-", "_") for cell in cells]
                if not _check_head(number, head, faults):
                    return
                continue
            if any(cells[len(head) :]):
                faults.append(
                    f"line {number}: there are {len(cells)} cells, and {len(head)} columns: a text with the "
                    "separator in it stands in double quotes."
                )
                continue
            yield number, {name: cell for name, cell in zip(head, cells, strict=False) if cell and name}
    except csv.Error as error:
        faults.append(f"line {begins}: this is no CSV: {clean(str(error), _WORD_LIMIT)}.")


def _check_head(number: int, head: Sequence[str], faults: list[str]) -> bool:
    before = len(faults)
    faults.extend(_unknown(number, name) for name in head if name and name not in COLUMNS)
    twice = [name for name in COLUMNS if head.count(name) > 1]
    faults.extend(f"line {number}: the column {name} stands there twice." for name in twice)
    return len(faults) == before


def _unknown(number: int, name: str) -> str:
    shown = clean(name, _WORD_LIMIT)
    return f"line {number}: there is no column {shown!r}{near(shown, COLUMNS)} Columns: {', '.join(COLUMNS)}."


def _json_rows(text: str, faults: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    if text.lstrip().startswith("["):
        faults.append("line 1: this is a JSON array: write one object a line, without brackets and commas.")
        return
    for number, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            told: object = json.loads(written)
        except (ValueError, RecursionError) as error:
            at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            faults.append(f"line {number}: this is no JSON{at}: write one object a line.")
            continue
        if not isinstance(told, dict):
            faults.append(f'line {number}: this is no object: write {{"video": "...", "language": "fr"}}.')
            continue
        cells = cast(dict[str, Any], told)
        unknown = [name for name in cells if name not in COLUMNS]
        wrong = [
            name
            for name in cells
            if name in COLUMNS and not isinstance(cells[name], str | int | float | None)
        ]
        faults.extend(_unknown(number, name) for name in unknown)
        faults.extend(f"line {number}: {name} is neither text nor a number." for name in wrong)
        if not unknown and not wrong:
            plain = {name: _plain(cell) for name, cell in cells.items() if cell is not None}
            yield number, {name: cell for name, cell in plain.items() if cell}


def _plain(cell: str | float) -> str:
    """Return a value of JSON as it would stand in a cell."""
    return str(cell).lower() if isinstance(cell, bool) else str(cell).strip()


def _line(number: int, cells: Mapping[str, str], faults: list[str]) -> Line | None:
    """Return a line, or None where it is wrong; `faults` then says why."""
    wrong = [f"line {number}: {fault}" for fault in _faults_of(cells)]
    options: dict[str, object] = {}
    for name, (read, what) in _OPTIONS.items():
        if name in cells:
            try:
                options[name] = read(cells[name])
            except ValueError:
                shown = clean(cells[name], _WORD_LIMIT)
                wrong.append(f"line {number}: {name} is {what}, and not {shown!r}.")
    take = cells.get("take", "1")
    if not (take.isascii() and take.isdecimal() and 1 <= int(take[:9]) <= HIGHEST_TAKE):
        wrong.append(
            f"line {number}: take is a whole number from 1 to {HIGHEST_TAKE}, and not "
            f"{clean(take, _WORD_LIMIT)!r}."
        )
    faults += wrong
    if wrong:
        return None
    texts = {name: cells[name] for name in _TEXTS if name in cells}
    return Line(number=number, **texts, take=int(take), options=cast(Json, options))


def _faults_of(cells: Mapping[str, str]) -> Iterator[str]:
    face = [name for name in ("video", "image") if name in cells]
    if not face:
        yield "there is no video and no image: name a file, a URL or an asset."
    if len(face) > 1:
        yield "video and image are both named: a face is one of them."
    if "script" in cells and "voice" not in cells:
        yield "the script has no voice: name one in the column voice."
    if "voice" in cells and "script" not in cells:
        yield "the voice has nothing to say: give a script."
    voices = [name for name in ("audio", "script", "language") if name in cells]
    if not voices and "voice" not in cells:
        yield "nothing says what is said: give audio, or script and voice, or the language of a dub."
    if len(voices) > 1:
        also = "a dub takes the video's own speech, " if "language" in voices else ""
        yield f"{' and '.join(voices)} are both given: {also}take one of them."
    if "language" in cells and "image" in cells and "video" not in cells:
        yield "an image has no speech to dub: leave language out."
