"""Text from the network is data: bounded, printable, and without signed query strings."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_SCHEME = r"[a-z][a-z0-9+.-]{0,20}://"
_URL_WITH_QUERY = re.compile(rf"(?P<place>{_SCHEME}[^\s?#\"'<>]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_USERINFO = re.compile(rf"(?P<scheme>{_SCHEME})[^\s/@\"'<>]*@", re.IGNORECASE)


def without_queries(text: str) -> str:
    """Return `text` with the query, fragment and credentials of every URL in it left out.

    A signed URL is a credential for as long as it holds, so errors and logs name the place only.
    """
    return _URL_WITH_QUERY.sub(r"\g<place>?...", _USERINFO.sub(r"\g<scheme>", text))


def clean(text: str, limit: int) -> str:
    """Return `text` on one line, without control or invisible characters, at most `limit` characters."""
    # Cut first: a body of megabytes is not worth normalizing to show its first line.
    shown = "".join(
        " " if character.isspace() else character
        for character in text[: limit * 4]
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def safe(text: str, limit: int) -> str:
    """Return `text` as it may stand in an error or a log: clean, and without signed query strings."""
    # Cleaned first: an invisible character must not hide a URL, nor a long text cost time.
    return clean(without_queries(clean(text, limit * 4)), limit)


def near(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: "; did you mean X?" for the known word most like `word`, else "."."""
    folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[matches[0]]!r}?" if matches else "."
