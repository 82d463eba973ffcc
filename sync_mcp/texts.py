"""Text from the network is data: bounded, printable, and without signed query strings."""

import json
import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

# How long a text from elsewhere may be where it stands among our words. What two places must agree about has
# its name here; a limit of one place alone stays there.

MESSAGE_LIMIT = 600
"""The longest message or next step: a few sentences."""
SAYING_LIMIT = 300
"""The most of what the API says, in its words."""
REASON_LIMIT = 200
"""The longest reason of a failure, as a part of a sentence of ours."""
FAULT_LIMIT = 300
"""The most of a fault that nobody expected, as the log shows it."""
ID_LIMIT = 128
"""The longest id, or text in the place of one."""
FILE_NAME_LIMIT = 120
VOICE_NAME_LIMIT = 60
WORD_LIMIT = 40
"""The longest single word, such as a kind or a type."""
PIECE_LIMIT = 80
"""The longest piece in a question to the user that somebody else has written."""

_SCHEME = r"[a-z][a-z0-9+.-]{0,20}://"
# Up to the next space, quotes and all: a quote may stand in a URL, and a signature may follow it.
_URL = re.compile(rf"{_SCHEME}\S*|\?[^\s?=]*=\S*", re.IGNORECASE)
_QUERY = re.compile(r"[?#]")
_USERINFO = re.compile(rf"(?P<scheme>{_SCHEME})[^\s/?#]*@", re.IGNORECASE)
_CLOSING = re.compile(r"[\"')\]}>]+[.,;:]*$")
_CLOSING_LIMIT = 6
# What is no word: the parts of a host or a path are shorter.
_VALUE_LIMIT = 1000
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LIMIT}}}")
_LIKE = 0.6
_AS_LIKE = 0.1
_BEGINNING = 3
_WRAPPINGS = frozenset(
    ('""', "''", "``", "<>", "\u201c\u201d", "\u201e\u201c", "\u2018\u2019", "\u00ab\u00bb")
)
_MARKDOWN_LINK = re.compile(r"!?\[[^]\n]*\]\((?P<target>(?:(?!\]\()[^\n])+)\)")
_BOLD = re.compile(r"\*\*(?P<inner>[^*\n]+)\*\*")
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_LONG_RUN = re.compile(r"[\w~+=-]{16,}")
# Marks that are drawn as nothing and are no control characters by Unicode's categories.
_BLANK = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159"
    r"\U000e0100-\U000e01ef]"
)
# What a terminal obeys: a colour, a move of the cursor, a title or a link.
_TERMINAL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
)
# Anything but the plain characters, which are as they are: most of a long text.
_UNUSUAL = re.compile(r"[^ -~]+")

_QUOTE_SIGNS = "\"'`" + "".join(map(chr, (0xAB, 0xBB, 0xB4, *range(0x2018, 0x2020), 0x2039, 0x203A)))
_QUOTES = str.maketrans("", "", _QUOTE_SIGNS)


def without_queries(text: str) -> str:
    """Return `text` with the query, fragment and credentials of every URL in it left out.

    A signed URL is a credential for as long as it holds, so errors and logs name the place only.
    """
    return _URL.sub(_place_alone, _USERINFO.sub(r"\g<scheme>", text))


def _place_alone(found: re.Match[str]) -> str:
    place, *query = _QUERY.split(found.group(), maxsplit=1)
    if not query:
        return place
    closing = _CLOSING.search(query[0][-_CLOSING_LIMIT:])
    return f"{place}?...{closing.group() if closing else ''}"


def visible(text: str) -> str:
    """Return `text` without control or invisible characters; a space of any kind becomes a plain one."""
    if text.isascii() and text.isprintable():
        return text
    return _UNUSUAL.sub(_visible_alone, _BLANK.sub("", _TERMINAL.sub("", text)))


def _visible_alone(found: re.Match[str]) -> str:
    return "".join(
        " " if character.isspace() else character
        for character in found.group()
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )


def clean(text: str, limit: int) -> str:
    """Return `text` on one line, without control or invisible characters, at most `limit` characters."""
    # Cut first: a body of megabytes is not worth normalizing to show its first line.
    shown = " ".join(visible(text[: limit * 4]).split())
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def safe(text: str, limit: int) -> str:
    """Return `text` as it may stand in an error or a log: clean, and without signed query strings."""
    # Cleaned first: an invisible character must not hide a URL, nor a long text cost time.
    return clean(without_queries(clean(text, limit * 4)), limit)


def plain_id(text: str) -> str:
    """Return an id that may stand in a path and in our words, or "" for a text that is no id."""
    return text if _ID.fullmatch(text) else ""


def format_id(name: str) -> str:
    """Return an id as it stands in a sentence; one that is no id is quoted, and cannot close that."""
    return plain_id(name) or json.dumps(name, ensure_ascii=False)


def without_quotes(text: str) -> str:
    """Return `text` without any kind of quotation mark: a text in quotes must not close them."""
    return text.translate(_QUOTES)


def in_quotes(text: str, limit: int = PIECE_LIMIT) -> str:
    """Return another's text as it stands in a question: bounded, in quotes that it cannot close."""
    plain = clean(without_quotes(without_queries(clean(text, 4 * limit))), limit)
    return f'"{plain}"'


def fold_words(text: str, limit: int) -> str:
    """Return words as they are compared: in lower case, without accents and marks, one space between."""
    parts = unicodedata.normalize("NFKD", clean(text, limit)).casefold()
    letters = "".join(character for character in parts if not unicodedata.combining(character))
    return _BETWEEN_WORDS.sub(" ", letters).strip()


def without_secrets(text: str) -> str:
    """Return a setting's value, on one line, without a key or credentials put there by mistake."""
    shown = without_queries(clean(text, _VALUE_LIMIT))
    _, at, place = shown.rpartition("@")
    return _LONG_RUN.sub("...", f"...@{place}" if at else shown)


def count_of(number: int, one: str, several: str | None = None) -> str:
    """Return a number with what it counts, in the singular or the plural."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def split_names(text: str) -> list[str]:
    """Return the names in a text with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def near(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: "; did you mean X?" for the known word most like `word`, else ".".

    A second word that is about as like is named too: "; did you mean X or Y?".
    """
    return did_you_mean(*find_near(word, known))


def find_near(word: str, known: Iterable[str]) -> list[str]:
    """Return the known word most like `word`, a second one where that is about as like, or nothing."""
    words = {name.casefold(): name for name in known}
    asked = word.casefold()
    begun = [name for name in words if len(asked) >= _BEGINNING and name.startswith(asked)]
    # What is cut short is meant by its beginning, however long the rest is.
    matches = begun if len(begun) == 1 else get_close_matches(asked, words, n=2, cutoff=_LIKE)
    if len(matches) == 2 and _likeness(asked, matches[0]) - _likeness(asked, matches[1]) > _AS_LIKE:
        matches = matches[:1]
    return [words[name] for name in matches]


def did_you_mean(*names: str) -> str:
    """Return the end of a sentence that names what was meant, or ends it where nothing is like it."""
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else "."


def _likeness(word: str, name: str) -> float:
    return SequenceMatcher(None, name, word).ratio()


def unwrap(text: str) -> str:
    """Return what was pasted without what stands around it: blanks, quotes, brackets, Markdown."""
    bare = text.strip()
    while True:
        link, bold = _MARKDOWN_LINK.fullmatch(bare), _BOLD.fullmatch(bare)
        first, inner, last = bare[:1], bare[1:-1], bare[-1:]
        if link:
            bare = link["target"].strip()
        elif inner and first + last in _WRAPPINGS and (first == "`" or last not in inner):
            bare = inner.strip()
        elif bold:
            bare = bold["inner"].strip()
        else:
            return bare
