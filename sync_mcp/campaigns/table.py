"""A campaign's file, read: CSV or JSON lines, a line for each video. Nothing that it names is opened here."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, cast

from sync_mcp.api.formats import kind_of_name
from sync_mcp.api.models import Json
from sync_mcp.api.uploads import open_regular
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.texts import FILE_NAME_LIMIT, REASON_LIMIT, WORD_LIMIT, clean, count_of, near, safe

MOST_ROWS = 5000
MOST_BYTES = 50 * 1024**2
HIGHEST_TAKE = 10_000
_TAKE = re.compile(r"[0-9]{1,9}")
_MOST_UNKNOWN = 10
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")

_SYNC_MODES = ("bounce", "loop", "cut_off", "silence", "remap")
_MODEL_MODES = ("lips", "face", "head")
_EMOTIONS = ("happy", "sad", "angry", "disgusted", "surprised", "neutral")
TEXTS = ("video", "image", "audio", "script", "voice", "language", "model", "output")


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return read


def _share(text: str) -> float:
    # Spreadsheets of many countries write 0,5.
    number = float(text.replace(",", "."))
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

COLUMNS = (*TEXTS, "take", *_OPTIONS)

_Rows = Iterator[tuple[int, Mapping[str, str] | None]]
"""The line on which each row begins, and its cells that are not empty, by their columns; None where they
cannot be told, and the faults say why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one line asks for.

    Attributes:
        number: of the file's line on which it begins; the first one is 1.
        is_in_file: whether it stands in a file; its number is that of its row otherwise.
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
        fault: why it cannot be made, where who wrote it down knows that: a sentence.
    """

    number: int
    is_in_file: bool = True
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
    fault: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, as it is told: "line 7"."""
        return f"{'line' if self.is_in_file else 'row'} {self.number}"


@dataclass(frozen=True, slots=True)
class Table:
    """A campaign's file, read.

    Attributes:
        lines: what its rows ask for, as far as they can be read.
        faults: what is wrong with others, a sentence each, which begins with "line 7: ".
    """

    lines: Sequence[Line]
    faults: Sequence[str] = ()


def read_table(path: Path, open_file: Callable[[Path], io.RawIOBase] = open_regular) -> Table:
    """Return the lines of a campaign's file, and what is wrong with it; blocks.

    Raises:
        FileRefused: it cannot be read, or is far larger than a campaign's.
    """
    faults: list[str] = []
    lines: list[Line] = []
    text = _decode(_read(path, open_file), faults)
    rows = _json_rows if path.suffix.lower() in _JSON_ENDINGS else _csv_rows
    for count, (number, cells) in enumerate(rows(text, faults), 1):
        if count > MOST_ROWS:
            faults.append(f"line {number}: a campaign has at most {MOST_ROWS:,} rows: make several of it.")
            # Such a file is not planned: nobody need look at what its first rows name.
            return Table((), faults)
        line = None if cells is None else _line(number, cells, faults)
        if line is not None:
            lines.append(line)
    if not lines and not faults:
        what = "there is no row below the names of the columns" if text.strip() else "the file is empty"
        faults.append(f"line 1: {what}: write a line for each video. {_COLUMNS_ARE}")
    return Table(lines, faults)


_COLUMNS_ARE = f"The columns are {', '.join(COLUMNS)}."


def cross_languages(clips: Sequence[str], languages: Sequence[str]) -> list[Line]:
    """Return a line for each clip in each language.

    Raises:
        InvalidRequestError: there are none, or too many.
    """
    check_number(len(clips) * len(languages))
    pairs = ((clip, language) for clip in clips for language in languages)
    return [
        Line(number=number, is_in_file=False, video=clip, language=language)
        for number, (clip, language) in enumerate(pairs, 1)
    ]


def cross_voices(clips: Sequence[str], script: str, voices: Sequence[str]) -> list[Line]:
    """Return a line for each clip, a video or by its name an image, with a script said by each voice.

    Raises:
        InvalidRequestError: there are none, or too many.
    """
    check_number(len(clips) * len(voices))
    pairs = ((clip, voice) for clip in clips for voice in voices)
    return [
        Line(number=number, is_in_file=False, image=clip, script=script, voice=voice)
        if kind_of_name(clip) == "image"
        else Line(number=number, is_in_file=False, video=clip, script=script, voice=voice)
        for number, (clip, voice) in enumerate(pairs, 1)
    ]


def name_of_clips(clips: Sequence[str]) -> str:
    """Return what a campaign of these clips is called."""
    more = f" and {len(clips) - 1} more" if len(clips) > 1 else ""
    return f"{PurePath(clips[0]).name}{more}" if clips else ""


def check_number(count: int) -> None:
    """Check how many rows there are.

    Raises:
        InvalidRequestError: there are none, or too many.
    """
    if not 1 <= count <= MOST_ROWS:
        raise InvalidRequestError(f"A campaign has 1 to {MOST_ROWS:,} rows, and these are {count:,}.")


def _read(path: Path, open_file: Callable[[Path], io.RawIOBase]) -> bytes:
    shown = clean(path.name, FILE_NAME_LIMIT)
    try:
        with io.BufferedReader(open_file(path)) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileRefused(
            f"{shown} cannot be read: {error.strerror or type(error).__name__}.",
            code="file_not_readable",
            next_step="Check the file and who may read it.",
        ) from error
    if len(content) > MOST_BYTES:
        raise FileRefused(
            f"{shown} has more than {MOST_BYTES // 1024**2} MB: a campaign's file only names its videos.",
            code="file_too_large",
            next_step="Name a file of CSV or JSON lines.",
        )
    return content


def _decode(content: bytes, faults: list[str]) -> str:
    """Return the text of a file; "" where it is none, and `faults` says so."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text, wrong = content.decode(), content.find(b"\0")
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong < 0:
        return text
    line = content.count(b"\n", 0, wrong) + 1
    faults.append(
        f'line {line}: this is no text in UTF-8: save the file as UTF-8, in a spreadsheet as "CSV UTF-8".'
    )
    return ""


def _csv_rows(text: str, faults: list[str]) -> _Rows:
    first = next(filter(str.strip, io.StringIO(text, newline=None)), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: Sequence[str] | None = None
    begins = 1
    try:
        for cells in reader:
            number, begins = begins, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _find_columns(number, cells, faults)
                if columns is None:
                    return
            elif any(cells[len(columns) :]):
                faults.append(
                    f"line {number}: there are {count_of(len(cells), 'cell')}, and "
                    f"{count_of(len(columns), 'column')}: a text with the separator in it stands in "
                    "double quotes."
                )
                yield number, None
            else:
                yield number, _fill(number, columns, cells, faults)
    except csv.Error as error:
        faults.append(
            f"line {begins}: this row is no CSV ({clean(str(error), REASON_LIMIT)}): a text in double quotes "
            "ends with one, and one within it is doubled. What follows is not read."
        )


def _json_rows(text: str, faults: list[str]) -> _Rows:
    if text.lstrip().startswith("["):
        faults.append("line 1: this is a JSON array: write one object a line, without brackets and commas.")
        return
    for number, written in enumerate(io.StringIO(text, newline=None), 1):
        if written.strip():
            yield number, _json_cells(number, written, faults)


def _json_cells(number: int, written: str, faults: list[str]) -> Mapping[str, str] | None:
    try:
        # An object as its pairs: a name may stand in it twice. A whole number may have any length.
        told: object = json.loads(written, object_pairs_hook=tuple, parse_int=Decimal)
    except (ValueError, RecursionError) as error:
        at = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        faults.append(f"line {number}: this is no JSON{at}: write one object a line.")
        return None
    if not isinstance(told, tuple):
        faults.append(f'line {number}: this is no object: write {{"video": "...", "language": "fr"}}.')
        return None
    pairs = cast(tuple[tuple[str, object], ...], told)
    columns = _find_columns(number, [name for name, _ in pairs], faults)
    if columns is None:
        return None
    wrong = [
        f"line {number}: {column} {fault}."
        for column, (_, value) in zip(columns, pairs, strict=True)
        if (fault := _fault_of_value(column, value))
    ]
    texts = [_plain(value) for _, value in pairs]
    if not wrong and not _is_text("".join(texts)):
        wrong.append(
            f"line {number}: there is a NUL, or half of a character, written as \\u and digits: leave it out."
        )
    faults += wrong
    return None if wrong else _fill(number, columns, texts, faults)


def _fault_of_value(column: str, value: object) -> str:
    """Return why a value of JSON can stand in no cell of a column, or ""."""
    if column in TEXTS:
        return "" if isinstance(value, str | None) else "is no text: write it in double quotes"
    is_plain = isinstance(value, str | Decimal | float | bool | None)
    return "" if is_plain else "is neither text nor a number, nor true or false"


def _plain(value: object) -> str:
    """Return a value of JSON as it would stand in a cell."""
    return "" if value is None else str(value).strip()


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _find_columns(number: int, names: Sequence[str], faults: list[str]) -> Sequence[str] | None:
    """Return the columns, "" for one without a name; None where one is unknown, or stands there twice."""
    before = len(faults)
    columns = ["_".join(name.lower().replace("-", " ").split()) for name in names]
    unknown = {
        column: name for column, name in zip(columns, names, strict=True) if column and column not in COLUMNS
    }
    for column, name in list(unknown.items())[:_MOST_UNKNOWN]:
        all_of_them = f" {_COLUMNS_ARE}" if len(faults) == before else ""
        faults.append(
            f"line {number}: there is no column {safe(name, WORD_LIMIT)!r}"
            f"{near(column[:WORD_LIMIT], COLUMNS)}{all_of_them}"
        )
    if len(unknown) > _MOST_UNKNOWN:
        faults.append(f"line {number}: {len(unknown) - _MOST_UNKNOWN:,} more of its columns are unknown.")
    twice = [column for column in COLUMNS if columns.count(column) > 1]
    faults.extend(f"line {number}: the column {column} stands there twice." for column in twice)
    return columns if len(faults) == before else None


def _fill(
    number: int, columns: Sequence[str], texts: Sequence[str], faults: list[str]
) -> Mapping[str, str] | None:
    """Return a row's cells by their columns; None where a text has no column, and `faults` says so."""
    pairs = [(column, text) for column, text in zip(columns, texts, strict=False) if text]
    nameless = [safe(text, WORD_LIMIT) for column, text in pairs if not column]
    if nameless:
        faults.append(
            f"line {number}: {nameless[0]!r} stands in a column without a name: name it, or leave it out."
        )
        return None
    return dict(pairs)


def _line(number: int, cells: Mapping[str, str], faults: list[str]) -> Line | None:
    """Return a line, or None where it is wrong; `faults` then says why."""
    wrong = [f"line {number}: {fault}" for fault in _faults_of(cells)]
    options: dict[str, object] = {}
    for name, (read, what) in _OPTIONS.items():
        if name in cells:
            try:
                options[name] = read(cells[name])
            except ValueError:
                shown = safe(cells[name], WORD_LIMIT)
                wrong.append(f"line {number}: {name} is {what}, and not {shown!r}.")
    take = cells.get("take", "1")
    if not (_TAKE.fullmatch(take) and 1 <= int(take) <= HIGHEST_TAKE):
        wrong.append(
            f"line {number}: take is a whole number from 1 to {HIGHEST_TAKE:,}, and not "
            f"{safe(take, WORD_LIMIT)!r}."
        )
    faults += wrong
    if wrong:
        return None
    texts: dict[str, Any] = {name: cells[name] for name in TEXTS if name in cells}
    return Line(number=number, take=int(take), options=cast(Json, options), **texts)


def _faults_of(cells: Mapping[str, str]) -> Iterator[str]:
    if "video" not in cells and "image" not in cells:
        yield "there is no video and no image: name a file, a URL or an asset."
    elif "video" in cells and "image" in cells:
        yield "video and image are both named: a face is one of them."
    elif "image" in cells and "language" in cells:
        yield "an image has no speech to dub: leave language out."
    if "script" in cells and "voice" not in cells:
        yield "the script has no voice: name one in the column voice."
    voices = [name for name in ("audio", "script", "language") if name in cells]
    if "voice" in cells and "script" not in cells:
        yield f"the voice has no script: write what it says{', or leave voice out' if voices else ''}."
    elif not voices:
        yield "nothing says what is said: give audio, or script and voice, or the language of a dub."
    if len(voices) > 1:
        *others, last = voices
        why = ", since a dub takes the video's own speech" if "language" in voices else ""
        yield f"{', '.join(others)} and {last} exclude each other{why}: take one of them."
