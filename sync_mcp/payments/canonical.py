"""The one form in which a create is sent and digested, and how its parts are reached.

Every version of the digest rests on it, so it never changes: a version that wants another form takes a new
one, and leaves this to the versions before.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from sync_mcp.api import fields as declared
from sync_mcp.api.models import Json

_LANGUAGES = ("targetLang", "sourceLang")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

_ORIGIN = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)((?:[^/?#]*@)?)([^/?#]*)")


def canonical(wire: Json) -> Json:
    """Return a create's JSON without what changes nothing: defaults, empty fields, the order of inputs."""
    body = _without(cast(Json, _drop_empty(_plain(wire))), declared.REQUEST)
    body["model"] = str(body.get("model", "")).strip()
    has_segments = bool(body.get("segments"))
    body["input"] = sorted((_item(item, has_segments) for item in body.get("input", [])), key=_place)
    if isinstance(body.get("options"), Mapping):
        body["options"] = _options(body["options"])
    if isinstance(body.get("segments"), list):
        # What is the default for the whole may be a change in a part: there it stays.
        body["segments"] = sorted(body["segments"], key=_place)
    if isinstance(body.get("dubParams"), Mapping):
        body["dubParams"] = _without(_in_lower_case(body["dubParams"], _LANGUAGES), declared.DUB)
    return {"input": [], **cast(Json, _drop_empty(body))}


def _item(item: Json, has_segments: bool) -> Json:
    item = _without(item, declared.TEXT if "provider" in item else declared.MEDIA)
    if not has_segments:
        # Only a segment refers to it.
        item = {name: value for name, value in item.items() if name != "refId"}
    if isinstance(item.get("assetId"), str) and _UUID.fullmatch(item["assetId"].strip()):
        item = _in_lower_case(item, ("assetId",))
    if isinstance(item.get("provider"), Mapping):
        provider = _without(item["provider"], declared.VOICE)
        if isinstance(provider.get("voiceId"), str):
            provider["voiceId"] = provider["voiceId"].strip()
        item = {**item, "provider": provider}
    return item


def _in_lower_case(fields: Json, names: Iterable[str]) -> Json:
    return fields | {
        name: fields[name].strip().lower() for name in names if isinstance(fields.get(name), str)
    }


def _options(options: Json) -> Json:
    kept = _without(options, declared.OPTIONS)
    speaker = kept.get("active_speaker_detection")
    if isinstance(speaker, Mapping):
        kept["active_speaker_detection"] = _without(cast(Json, speaker), declared.SPEAKER)
    return kept


def _without(fields: Json, declared_fields: declared.Fields) -> Json:
    """Return an object without what its fields say of themselves by default (API §3.1).

    A call that spells a default out means the same as one that does not.
    """
    defaults = declared.defaults_of(declared_fields)
    return {name: value for name, value in fields.items() if not _is_default(value, defaults.get(name))}


def _is_default(value: object, default: object) -> bool:
    # To Python 0 is False, to the API it is not.
    return default is not None and value == default and isinstance(value, bool) == isinstance(default, bool)


def _drop_empty(value: object) -> object:
    """Return a JSON value without empty objects and arrays in objects."""
    if isinstance(value, Mapping):
        fields = {name: _drop_empty(inner) for name, inner in cast(Mapping[str, object], value).items()}
        return {name: inner for name, inner in fields.items() if inner is not None and inner not in ({}, [])}
    if isinstance(value, list):
        return [_drop_empty(inner) for inner in cast(list[object], value)]
    return value


def _place(item: Any) -> tuple[bool, str]:
    is_picture = isinstance(item, Mapping) and cast(Json, item).get("type") in ("video", "image")
    return not is_picture, json.dumps(item, sort_keys=True)


def _plain(value: object) -> object:
    """Return a JSON value with its whole numbers and the hosts of its URLs in one spelling."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return walk(value, _plain, _plain_url)


def walk(value: object, inner: Callable[[object], object], of_url: Callable[[str], str]) -> object:
    """Return a JSON value with each URL in it as `of_url` has it, and everything else as `inner` does."""
    if isinstance(value, Mapping):
        fields = cast(Mapping[str, object], value)
        return {
            name: of_url(field) if isinstance(field, str) and is_url(name) else inner(field)
            for name, field in fields.items()
        }
    return [inner(item) for item in cast(list[object], value)] if isinstance(value, list) else value


def urls_of(value: object) -> Iterator[str]:
    """Yield each URL in a JSON value."""
    if isinstance(value, Mapping):
        for name, field in cast(Mapping[str, object], value).items():
            if isinstance(field, str) and is_url(name):
                yield field
            else:
                yield from urls_of(field)
    elif isinstance(value, list):
        for item in cast(list[object], value):
            yield from urls_of(item)


def is_url(name: str) -> bool:
    """Return whether a field of this name holds a URL."""
    return name == "url" or name.endswith(("_url", "Url"))


def _plain_url(url: str) -> str:
    return _ORIGIN.sub(lambda found: f"{found[1].lower()}{found[2]}{found[3].lower()}", url.strip())


def sha256_of(value: object) -> str:
    """Return the SHA-256 of a JSON value, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
