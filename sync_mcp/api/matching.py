"""Whether a job that the API shows is the one that a create asked for.

The API does not show a job letter for letter as it was asked for: a model may have a date behind its name,
inputs stand in another order, URLs lead to the API's own copy, and some fields are not shown at all. Who
takes every difference for another job pays a second time for a job that was made; who takes every likeness
for the job hands out what another call made. So there are three verdicts:

- *yes*: all that is shown agrees. The job is taken.
- *maybe*: nothing clearly contradicts. The job is not taken, and nothing is sent again while it is there.
- *no*: it is clearly another's, or something that a rewriting cannot explain contradicts.

Here what was sent and what is shown are compared; the time and the owner of a job are for `create` to judge.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeGuard
from urllib.parse import unquote, urlsplit

from sync_mcp.api.models import Json

Verdict = Literal["yes", "maybe", "no"]
Likeness = Literal["same", "hidden", "possible", "other"]
"""All that is shown agrees, and nothing that tells is left out; it agrees, but something that tells is not
shown; it does not agree, and does not clearly contradict; it clearly contradicts."""

_TELLING = ("options", "segments", "dubParams")
_UNASKED = ("segments", "dubParams")
"""Where they are shown and were not asked for, it is hardly the same job."""
_NAMING = ("url", "assetId")
_MODELS = ("sync-3", "lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta", "react-1")
_SEPARATORS = re.compile(r"[-_.@:/ ]+")
_VOICE = ("script", "voiceId", "stability", "similarityBoost")
_PLACES_REMEMBERED = 1000
_CLOSE = 1e-6
"""A number that went through 32 bits comes back a little different."""
_SHARED_STORAGE = re.compile(
    r"storage\.(googleapis|cloud\.google)\.com|s3([.-][a-z0-9-]+)*\.amazonaws\.com"
    r"|[a-z0-9]+\.r2\.cloudflarestorage\.com"
)
"""Hosts of many owners: there the first part of the path is the owner's, as a host is elsewhere."""
_PROOF = re.compile(
    r"sig|token|polic|expir|auth|hash|hmac|cred|key|secret|session|nonce|time|date|version"
    r"|^(x-.*|e|h|s|t|st|se|sp|sr|sv|ske|skt|sks|skv|skoid|sktid|sip|spr)$",
    re.IGNORECASE,
)
"""Parameters that may prove a right to fetch: signed anew they differ, and the clip is the same."""


def compare(sent: Json, shown: Json) -> Likeness:
    """Return how like a job that is shown is to a request that was sent."""
    if any(
        _is_told(sent.get(name)) and _is_told(shown.get(name)) and contradict(sent[name], shown[name])
        for name, contradict in _CONTRADICTIONS.items()
    ):
        return "other"
    if not _agrees_as_a_whole(sent, shown):
        return "possible"
    hidden = any(_is_told(sent.get(name)) and not _is_told(shown.get(name)) for name in _TELLING)
    return "hidden" if hidden else "same"


def is_other_model(mine: object, theirs: object) -> bool:
    """Return whether two names are surely of two models; behind a name there may be a date or a build."""
    families = _family(mine), _family(theirs)
    return None not in families and families[0] != families[1]


def _is_told(value: object) -> bool:
    return value not in (None, "", [], {})


# What agrees


def _agrees_as_a_whole(sent: Json, shown: Json) -> bool:
    mine, theirs = _items(sent.get("input")), _items(shown.get("input"))
    return (
        sent.get("model") == shown.get("model")
        and not any(_is_told(shown.get(name)) and not _is_told(sent.get(name)) for name in _UNASKED)
        and bool(mine)
        and _pair_off(mine, theirs, _is_same_item)
        and all(
            _agree(name, sent[name], shown[name])
            for name in sent.keys() & shown.keys() - {"input"}
            if _is_told(sent[name]) and _is_told(shown[name])
        )
    )


def _is_same_item(mine: object, theirs: object) -> bool:
    if not (_is_object(mine) and _is_object(theirs)):
        return False
    voices = mine.get("provider"), theirs.get("provider")
    is_named = any(name in mine and name in theirs for name in _NAMING) or all(
        _is_object(voice) and "script" in voice for voice in voices
    )
    return is_named and _agree("", mine, theirs)


def _agree(name: str, mine: object, theirs: object) -> bool:
    """Return whether nothing in `theirs` differs from `mine`; what only one of them has does not count."""
    if _is_object(mine) and _is_object(theirs):
        return all(_agree(inner, mine[inner], theirs[inner]) for inner in mine.keys() & theirs.keys())
    if _is_array(mine) and _is_array(theirs):
        if name == "segments":
            return _pair_off(mine, theirs, lambda one, other: _agree("", one, other))
        return len(mine) == len(theirs) and all(
            _agree("", one, other) for one, other in zip(mine, theirs, strict=True)
        )
    if isinstance(mine, str) and isinstance(theirs, str):
        return mine == theirs or (name == "outputFileName" and _file_name(mine) == _file_name(theirs))
    return not _is_other_value(mine, theirs) if _is_number(mine) and _is_number(theirs) else mine == theirs


# What contradicts


def _family(model: object) -> str | None:
    """Return the known model that a name begins with, if any: a date or a build may stand behind it."""
    name = f"{_plain(model)}-"
    known = [one for one in _MODELS if name.startswith(f"{_plain(one)}-")]
    return max(known, key=len, default=None)


def _plain(model: object) -> str:
    """Return a model's name in one spelling, whatever stands between its parts."""
    return _SEPARATORS.sub("-", str(model).strip().casefold())


def _are_other_inputs(mine: object, theirs: object) -> bool:
    return not _pair_off(_items(mine), _items(theirs), lambda one, other: not _is_other_item(one, other))


def _is_other_item(mine: object, theirs: object) -> bool:
    if not (_is_object(mine) and _is_object(theirs)):
        return False
    voice, other_voice = mine.get("provider"), theirs.get("provider")
    return (
        _is_other_value(mine.get("type"), theirs.get("type"))
        or _is_other_value(mine.get("assetId"), theirs.get("assetId"))
        or _is_other_url(mine.get("url"), theirs.get("url"))
        or (
            _is_object(voice)
            and _is_object(other_voice)
            and any(_is_other_value(voice.get(name), other_voice.get(name)) for name in _VOICE)
        )
    )


def _are_other_segments(mine: object, theirs: object) -> bool:
    return not _pair_off(_items(mine), _items(theirs), lambda one, other: not _is_other_value(one, other))


def _is_other_dub(mine: object, theirs: object) -> bool:
    languages = [_language(dub) for dub in (mine, theirs)]
    shorter, longer = sorted(languages, key=len)
    return bool(shorter) and shorter != longer and not longer.startswith(f"{shorter}-")


def _language(dub: object) -> str:
    told = dub.get("targetLang") if _is_object(dub) else None
    return told.strip().casefold().replace("_", "-") if isinstance(told, str) else ""


def _is_other_file_name(mine: object, theirs: object) -> bool:
    names = _file_name(mine), _file_name(theirs)
    return all(names) and names[0] != names[1]


def _file_name(name: object) -> str:
    """Return a file name as the API rewrites it (API §3.1): spaces to underscores, the rest stripped."""
    bare = str(name).strip().removesuffix(".mp4")
    return re.sub(r"[^A-Za-z0-9_-]", "", re.sub(r"\s", "_", bare))


def _is_other_webhook(mine: object, theirs: object) -> bool:
    # Nobody rewrites where a user wants to be told.
    one, other = _place(str(mine)), _place(str(theirs))
    if one is None or other is None:
        return False
    return one.host != other.host or _is_other_url(mine, theirs)


def _is_other_url(mine: object, theirs: object) -> bool:
    """Return whether two URLs of one host lead to different things; a copy elsewhere has a URL of its own."""
    one, other = _place(str(mine)), _place(str(theirs))
    if one is None or other is None or one.host != other.host:
        return False
    shared = one.query.keys() & other.query.keys()
    return one.path != other.path or any(one.query[name] != other.query[name] for name in shared)


class _Place(NamedTuple):
    host: str
    path: str
    query: Mapping[str, str]


@lru_cache(_PLACES_REMEMBERED)
def _place(url: str) -> _Place | None:
    """Return where a URL leads, in one spelling and without what may prove a right to fetch."""
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").removesuffix(".")
    except ValueError:
        return None
    path = unicodedata.normalize("NFC", unquote(parts.path)).strip("/")
    if _SHARED_STORAGE.fullmatch(host):
        owner, _, path = path.partition("/")
        host = f"{host}/{owner}"
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    query = {name: unquote(value) for name, _, value in pairs if value and not _PROOF.search(unquote(name))}
    return _Place(host, path, query) if host else None


def _is_other_value(mine: object, theirs: object) -> bool:
    """Return whether two values say different things; of two kinds of value, nobody knows."""
    if _is_object(mine) and _is_object(theirs):
        return any(
            _is_other_url(mine[name], theirs[name])
            if name.lower().endswith("url")
            else _is_other_value(mine[name], theirs[name])
            # The API may name the inputs anew.
            for name in (mine.keys() & theirs.keys()) - {"refId"}
        )
    if _is_array(mine) and _is_array(theirs):
        return len(mine) != len(theirs) or any(
            _is_other_value(one, other) for one, other in zip(mine, theirs, strict=True)
        )
    if isinstance(mine, str) and isinstance(theirs, str):
        return bool(mine and theirs) and _words(mine) != _words(theirs)
    if isinstance(mine, bool) and isinstance(theirs, bool):
        return mine != theirs
    if _is_number(mine) and _is_number(theirs):
        return not math.isclose(mine, theirs, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return False


def _words(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


_CONTRADICTIONS: Mapping[str, Callable[[object, object], bool]] = {
    "model": is_other_model,
    "input": _are_other_inputs,
    "segments": _are_other_segments,
    "options": _is_other_value,
    "dubParams": _is_other_dub,
    "dialogueEdit": _is_other_value,
    "outputFileName": _is_other_file_name,
    "projectId": _is_other_value,
    "webhookUrl": _is_other_webhook,
}


# Pieces


def _pair_off(
    mine: Sequence[object], theirs: Sequence[object], fit: Callable[[object, object], bool]
) -> bool:
    """Return whether each of `mine` has one of `theirs` for its own that fits, and none is left over."""
    if len(mine) != len(theirs):
        return False
    holder: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        # Its own place first, and then what is free: mostly the order is the same.
        order = sorted(range(len(theirs)), key=lambda other: (other in holder, other != index))
        for other in order:
            if other in tried or not fit(mine[index], theirs[other]):
                continue
            tried.add(other)
            if other not in holder or place(holder[other], tried):
                holder[other] = index
                return True
        return False

    return all(place(index, set()) for index in range(len(mine)))


def _items(value: object) -> Sequence[object]:
    return value if _is_array(value) else []


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
