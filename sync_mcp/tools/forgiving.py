"""Arguments as they were meant: hosts and assistants wrap them in ways that have only one meaning.

Nothing here touches what may be paid (`max_cost_usd`), a script, or an option.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from sync_mcp.texts import plain_id, unwrap

INJECTED = frozenset(("toolCallId", "sessionId", "action", "chatInput", "random_string"))
"""Arguments that some hosts add to every call, and cannot leave out."""

_NOTHING = ("None", "null", "undefined")
_IDS = frozenset(("generation_id", "asset_id", "voice_id", "project_id", "leave_project_id", "quote_id"))
_URLS = frozenset(("url", "webhook_url"))
_LENGTHS = frozenset(("duration_seconds", "fps"))
_UUID = re.compile(r"(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])")
_KINDS = ("video", "image", "audio", "text")
_WEB = re.compile(r"https?://", re.IGNORECASE)
# A code of a language that is as likely to say that nothing is to be dubbed.
_NO = "no"


def without_injected(given: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of a call without those that hosts add by themselves."""
    return {name: value for name, value in given.items() if name not in INJECTED}


def unnest(given: Mapping[str, object], tool: str) -> Mapping[str, object]:
    """Return the arguments of a call to `tool` that came inside `arguments`, which stands alone."""
    if (
        "arguments" not in given
        or not given.keys() <= {"arguments", "name"}
        or given.get("name", tool) != tool
    ):
        return given
    inner = _read(given["arguments"])
    return cast(Mapping[str, object], inner) if isinstance(inner, Mapping) else given


def stands_for_nothing(name: str, value: object, *, in_options: bool) -> bool:
    """Return whether a value is only there to fill its place, so that it counts as not given."""
    if value is None or value == "":
        return True
    if name == "dub":
        return _read(value) == {}
    if name in _LENGTHS:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == 0
    takes_word = name == "model" or name in _IDS or name in _URLS
    return takes_word and not in_options and value in _NOTHING


def interpret(name: str, value: object) -> object:
    """Return the value of an argument in the form that its tool takes it in."""
    reading = _READINGS.get(name)
    return value if reading is None else reading(value)


def _interpret_items(value: object) -> object:
    """Return the items of an input that came as one of them, by their kinds, or as where they lie."""
    value = _read(value)
    if isinstance(value, str):
        item = _item_at(value)
        return value if item is None else [item]
    if isinstance(value, Mapping):
        given = cast(Mapping[str, object], value)
        if given and given.keys() <= set(_KINDS):
            return [_item_of(kind, inner) for kind, inner in given.items() if inner not in (None, "")]
        return [given]
    if isinstance(value, Sequence):
        items = cast(Sequence[object], value)
        return [(_item_at(item) or item) if isinstance(item, str) else item for item in items]
    return value


def _interpret_dub(value: object) -> object:
    """Return a dub that came as the language alone."""
    if not isinstance(value, str) or _read(value) is not value or value.strip().casefold() == _NO:
        return value
    return {"target_lang": value}


def _interpret_id(value: object) -> object:
    """Return the id that a text is, without what stands around it, or the only one in a sentence."""
    if not isinstance(value, str) or plain_id(value.strip()):
        return value
    bare = unwrap(value)
    if plain_id(bare):
        return bare
    found = {id.lower(): id for id in _UUID.findall(value)}
    return next(iter(found.values())) if len(found) == 1 else value


def _interpret_ids(value: object) -> object:
    """Return a list of ids, each as `_interpret_id` does."""
    read = _read(value)
    if isinstance(read, str):
        parts = [_interpret_id(part) for part in read.split(",") if part.strip()]
        are_ids = all(isinstance(part, str) and plain_id(part.strip()) for part in parts)
        return parts if are_ids else [_interpret_id(read)]
    return list(map(_interpret_id, cast(Sequence[object], read))) if isinstance(read, Sequence) else value


def _interpret_url(value: object) -> object:
    return unwrap(value) if isinstance(value, str) else value


_READINGS: Mapping[str, Callable[[object], object]] = {
    "input": _interpret_items,
    "dub": _interpret_dub,
    "generation_id": _interpret_id,
    "generation_ids": _interpret_ids,
    "asset_id": _interpret_id,
    "asset_ids": _interpret_ids,
    "project_id": _interpret_id,
    "leave_project_id": _interpret_id,
    "url": _interpret_url,
    "webhook_url": _interpret_url,
    "bounding_boxes_url": _interpret_url,
}


def _read(value: object) -> object:
    """Return what a text says in JSON; another value, and a text that is no JSON, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return cast(object, json.loads(value))
    except (ValueError, RecursionError):
        return value


def _item_of(kind: str, value: object) -> object:
    """Return the item of a kind that came as an object without it, or as its file or its script."""
    if isinstance(value, str):
        return {"type": kind, **({"script": value} if kind == "text" else _place(value))}
    return {"type": kind, **cast(Mapping[str, object], value)} if isinstance(value, Mapping) else value


def _item_at(text: str) -> object:
    """Return the item that a path or a URL stands for, of the kind that its ending tells; or None."""
    # The client's words come with the client, by the first call.
    from sync_mcp.api.formats import kind_of_name

    place = _place(text)
    kind = kind_of_name(re.split("[?#]", place["url"])[0] if "url" in place else place["path"])
    return None if kind is None else {"type": kind, **place}


def _place(text: str) -> dict[str, str]:
    bare = unwrap(text)
    return {"url": bare} if _WEB.match(bare) else {"path": bare}
