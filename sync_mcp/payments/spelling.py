"""One spelling for what a repeat may spell otherwise and means all the same."""

import unicodedata
from collections.abc import Mapping
from typing import Any, cast

from sync_mcp.payments.canonical import is_url
from sync_mcp.payments.urls import plain_spelling, without_signatures


def in_one_spelling(value: object) -> Any:
    """Return a JSON value without what may differ in a repeat.

    Its URLs are without signatures and, like its texts, in one spelling.
    """
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, Mapping):
        return {name: _spell_field(name, inner) for name, inner in cast(Mapping[str, object], value).items()}
    return [in_one_spelling(item) for item in cast(list[object], value)] if isinstance(value, list) else value


def _spell_field(name: str, value: object) -> object:
    if isinstance(value, str) and is_url(name):
        return plain_spelling(without_signatures(value))
    is_id = isinstance(value, str) and (name == "id" or name.endswith("Id"))
    # An id has no spelling but its own.
    return value if is_id else in_one_spelling(value)


def _plain_text(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", lines)
