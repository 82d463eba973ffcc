"""Subtitles of spoken words: cues that can be read, and the forms in which players take them.

Written here, since what is hard is where a cue ends, which no library of the formats decides; the tests read
what is written by FFmpeg, as players do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

LINE_CHARACTERS = 42
CUE_LINES = 2
LONGEST_CUE_MS = 7_000
PAUSE_MS = 1_200
"""Who says nothing for so long has ended what the cue says."""
_LEAST_MS = 1
_ENDS_A_SENTENCE = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word, and when it is said, in milliseconds."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown at once, in lines, from one time to another, in milliseconds."""

    start_ms: int
    end_ms: int
    lines: Sequence[str]


def make_cues(parts: Iterable[Iterable[Spoken]]) -> list[Cue]:
    """Return the cues of what is said, in the order of their times.

    Each part is what one speaker says: no cue goes over its end. A cue has two lines of 42 characters at
    most, and no word is split: one that is longer has a line of its own. No two cues are shown at once.
    """
    cues = [cue for part in parts for cue in _cues_of(part)]
    return list(_one_at_a_time(sorted(cues, key=lambda cue: cue.start_ms)))


def to_srt(cues: Iterable[Cue]) -> str:
    """Return cues as SubRip (.srt) has them."""
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_body(cue)}\n\n"
        for number, cue in enumerate(cues, 1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """Return cues as WebVTT (.vtt) has them."""
    shown = (
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escape(_body(cue))}\n\n"
        for cue in cues
    )
    return "".join(["WEBVTT\n\n", *shown])


def _cues_of(words: Iterable[Spoken]) -> Iterator[Cue]:
    taken: list[Spoken] = []
    for given in words:
        word = replace(given, text=_on_one_line(given.text))
        if not word.text:
            continue
        if taken and _begins_another(taken, word):
            yield _cue(taken)
            taken = []
        taken.append(word)
    if taken:
        yield _cue(taken)


def _begins_another(taken: Sequence[Spoken], word: Spoken) -> bool:
    """Return whether a word is said in the next cue."""
    said = _lines([*taken, word])
    ends_line = len(" ".join(one.text for one in taken)) > LINE_CHARACTERS // 2
    return (
        len(said) > CUE_LINES
        or word.start_ms - taken[-1].end_ms >= PAUSE_MS
        or word.end_ms - taken[0].start_ms > LONGEST_CUE_MS
        or (ends_line and taken[-1].text.endswith(_ENDS_A_SENTENCE))
    )


def _cue(words: Sequence[Spoken]) -> Cue:
    start = min(word.start_ms for word in words)
    end = max(word.end_ms for word in words)
    return Cue(start, max(end, start + _LEAST_MS), _lines(words))


def _lines(words: Sequence[Spoken]) -> list[str]:
    """Return what is said in as few lines as it goes into, two of them of about one length."""
    texts = [word.text for word in words]
    lines = _wrap(texts, LINE_CHARACTERS)
    if len(lines) != CUE_LINES:
        return lines
    halves = [(" ".join(texts[:n]), " ".join(texts[n:])) for n in range(1, len(texts))]
    fitting = [pair for pair in halves if max(map(len, pair)) <= LINE_CHARACTERS]
    return list(min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=lines))


def _wrap(texts: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines


def _one_at_a_time(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Yield cues so that each ends before the next begins; those that begin at once follow each other."""
    begins = 0
    for number, cue in enumerate(cues):
        start = max(cue.start_ms, begins)
        end = max(cue.end_ms, start + _LEAST_MS)
        following = cues[number + 1].start_ms if number + 1 < len(cues) else end
        if start < following < end:
            end = following
        yield Cue(start, end, cue.lines)
        begins = end


def _on_one_line(text: str) -> str:
    # An arrow would be read as the times of another cue.
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.replace("-->", "→").split())


def _body(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
