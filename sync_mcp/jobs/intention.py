"""What a create means, however it is spelled: the same intention is made and paid once."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast
from urllib.parse import unquote

from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.errors import InvalidRequestError
from sync_mcp.text import safe, without_queries

DIGEST_VERSION = 1
"""Written beside each digest. What goes into a digest changes with a new version only: an upgrade that
digested the same call differently would pay for it again."""

HIGHEST_TAKE = 10_000
_SCRIPT_SHOWN = 80
_PLACE_SHOWN = 300
_EXTRAS = ("outputFileName", "webhookUrl", "projectId")
"""They say what becomes of the result, not what is made."""

# As the API documents them (API §3.1): a call that spells one out means the same as one that does not.
_OPTION_DEFAULTS: Mapping[str, object] = {
    "sync_mode": "bounce",
    "temperature": 0.5,
    "occlusion_detection_enabled": False,
    "model_mode": "face",
    "reasoning_enabled": False,
}
_SPEAKER_DEFAULTS: Mapping[str, object] = {"auto_detect": False, "v3": False}
_VOICE_DEFAULTS: Mapping[str, object] = {"stability": 0.5, "similarityBoost": 0.75}
_DUB_DEFAULTS: Mapping[str, object] = {"sourceLang": "auto"}
_LANGUAGES = ("targetLang", "sourceLang")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

_ORIGIN = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)((?:[^/?#]*@)?)([^/?#]*)")
_SIGNATURE_STARTS = ("x-amz-", "x-goog-")
_SIGNATURE_NAMES = frozenset(
    {
        "awsaccesskeyid",
        "expires",
        "googleaccessid",
        "key-pair-id",
        "ossaccesskeyid",
        "policy",
        "q-ak",
        "q-header-list",
        "q-key-time",
        "q-sign-algorithm",
        "q-sign-time",
        "q-signature",
        "q-url-param-list",
        "security-token",
        "sig",
        "signature",
        "x-oss-access-key-id",
        "x-oss-additional-headers",
        "x-oss-credential",
        "x-oss-date",
        "x-oss-expires",
        "x-oss-security-token",
        "x-oss-signature",
        "x-oss-signature-version",
    }
)
# Of Azure: short words, which mean a signature only beside one.
_BESIDE_SIG = frozenset(
    {"se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"}
)


@dataclass(frozen=True)
class Intention:
    """One thing to be made for one account, and the canonical request that makes it.

    `take` tells apart what is made again on purpose.
    """

    request: GenerationRequest
    account: str
    base_url: str
    take: int = 1
    names: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """What local files are called, by the hash of their content: for the user, and of no account."""

    @classmethod
    def of(
        cls,
        request: GenerationRequest,
        *,
        account: str,
        base_url: str,
        take: int = 1,
        names: Mapping[str, str] | None = None,
    ) -> "Intention":
        """Return the intention behind a request.

        Raises:
            InvalidRequestError: `take` is not a number from 1 on.
        """
        if not 1 <= take <= HIGHEST_TAKE:
            raise InvalidRequestError(f"take must lie between 1 and {HIGHEST_TAKE}.")
        canonical = GenerationRequest.from_wire(_canonical(request.to_wire()))
        return cls(canonical, account, base_url, take, names or {})

    @cached_property
    def body_digest(self) -> str:
        """SHA-256 of what is made, for whichever take."""
        meant = {name: value for name, value in self.request.to_wire().items() if name not in _EXTRAS}
        # In order only then: a signature must not decide which input comes first.
        return _sha256([DIGEST_VERSION, self.base_url, self.account, _canonical(unsigned(meant))])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the intention."""
        return _sha256([self.body_digest, self.take])

    def idempotency_key(self, attempt: int) -> str:
        """Return the key under which this attempt is sent, from every process and machine."""
        return f"sync-mcp-{_sha256([self.digest, attempt])[:48]}"

    @cached_property
    def extras(self) -> Json:
        """What does not count: the result's name and project, and where its end is told, by digest only."""
        wire = self.request.to_wire()
        kept: Json = {name: wire[name] for name in _EXTRAS if name in wire}
        if "webhookUrl" in kept:
            kept["webhookUrl"] = _sha256(kept["webhookUrl"])
        return kept

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        wire = self.request.to_wire()
        parts = [_shown(item, self.names) for item in cast(list[Json], wire["input"])]
        if isinstance(wire.get("dubParams"), Mapping):
            parts.append(f"dubbed into {safe(str(wire['dubParams'].get('targetLang')), 20)}")
        if self.take > 1:
            parts.append(f"take {self.take}")
        return f"{safe(self.request.model, 80)}: {', '.join(parts)}"


def _shown(item: Json, names: Mapping[str, str]) -> str:
    kind = safe(str(item.get("type")), 20)
    if isinstance(item.get("provider"), Mapping):
        provider: Json = item["provider"]
        script = safe(str(provider.get("script", "")), _SCRIPT_SHOWN)
        return f'{kind} "{script}" (voice {safe(str(provider.get("voiceId")), 80)})'
    place = str(item.get("url") or item.get("assetId") or "")
    place = names.get(place.partition(":")[2], place)
    return f"{kind} {safe(without_queries(place), _PLACE_SHOWN)}"


def _canonical(wire: Json) -> Json:
    """Return a create's JSON without what changes nothing: defaults, empty fields, the order of inputs."""
    body = cast(Json, _filled(_plain(wire)))
    body["model"] = str(body.get("model", "")).strip()
    has_segments = bool(body.get("segments"))
    body["input"] = sorted((_item(item, has_segments) for item in body.get("input", [])), key=_place)
    if isinstance(body.get("options"), Mapping):
        body["options"] = _options(body["options"])
    if isinstance(body.get("segments"), list):
        # What is the default for the whole may be a change in a part: there it stays.
        body["segments"] = sorted(body["segments"], key=_place)
    if isinstance(body.get("dubParams"), Mapping):
        body["dubParams"] = _without(_in_lower_case(body["dubParams"], _LANGUAGES), _DUB_DEFAULTS)
    return {"input": [], **cast(Json, _filled(body))}


def _item(item: Json, has_segments: bool) -> Json:
    if not has_segments:
        # Only a segment refers to it.
        item = {name: value for name, value in item.items() if name != "refId"}
    if isinstance(item.get("assetId"), str) and _UUID.fullmatch(item["assetId"].strip()):
        item = _in_lower_case(item, ("assetId",))
    if isinstance(item.get("provider"), Mapping):
        provider = _without(item["provider"], _VOICE_DEFAULTS)
        if isinstance(provider.get("voiceId"), str):
            provider["voiceId"] = provider["voiceId"].strip()
        item = {**item, "provider": provider}
    return item


def _in_lower_case(fields: Json, names: Iterable[str]) -> Json:
    return fields | {
        name: fields[name].strip().lower() for name in names if isinstance(fields.get(name), str)
    }


def _options(options: Json) -> Json:
    kept = _without(options, _OPTION_DEFAULTS)
    speaker = kept.get("active_speaker_detection")
    if isinstance(speaker, Mapping):
        kept["active_speaker_detection"] = _without(cast(Json, speaker), _SPEAKER_DEFAULTS)
    return kept


def _without(fields: Json, defaults: Mapping[str, object]) -> Json:
    return {name: value for name, value in fields.items() if not _is_default(value, defaults.get(name))}


def _is_default(value: object, default: object) -> bool:
    # To Python 0 is False, to the API it is not.
    return default is not None and value == default and isinstance(value, bool) == isinstance(default, bool)


def _filled(value: object) -> object:
    """Return a JSON value without empty objects and arrays in objects."""
    if isinstance(value, Mapping):
        fields = {name: _filled(inner) for name, inner in cast(Mapping[str, object], value).items()}
        return {name: inner for name, inner in fields.items() if inner is not None and inner not in ({}, [])}
    if isinstance(value, list):
        return [_filled(inner) for inner in cast(list[object], value)]
    return value


def _place(item: Any) -> tuple[bool, str]:
    is_picture = isinstance(item, Mapping) and cast(Json, item).get("type") in ("video", "image")
    return not is_picture, json.dumps(item, sort_keys=True)


def _plain(value: object) -> object:
    """Return a JSON value with its whole numbers and the hosts of its URLs in one spelling."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _walked(value, _plain, _plain_url)


def unsigned(value: object) -> Any:
    """Return a JSON value with the signatures of its URLs left out."""
    return _walked(value, unsigned, _same_clip)


def _walked(value: object, inner: Callable[[object], object], of_url: Callable[[str], str]) -> object:
    if isinstance(value, Mapping):
        fields = cast(Mapping[str, object], value)
        return {
            name: of_url(field) if isinstance(field, str) and _is_url(name) else inner(field)
            for name, field in fields.items()
        }
    return [inner(item) for item in cast(list[object], value)] if isinstance(value, list) else value


def _is_url(name: str) -> bool:
    return name == "url" or name.endswith(("_url", "Url"))


def _plain_url(url: str) -> str:
    return _ORIGIN.sub(lambda found: f"{found[1].lower()}{found[2]}{found[3].lower()}", url.strip())


def _same_clip(url: str) -> str:
    """Return a URL without what only proves that it may be fetched."""
    whole, hash_sign, fragment = url.partition("#")
    place, _, query = whole.partition("?")
    pairs = [(unquote(pair.partition("=")[0]).lower(), pair) for pair in query.split("&")]
    dropped = _BESIDE_SIG if any(name == "sig" for name, _ in pairs) else frozenset[str]()
    kept = [pair for name, pair in pairs if not _is_signature(name) and name not in dropped]
    if len(kept) == len(pairs):
        return url
    return f"{place}{'?' if kept else ''}{'&'.join(kept)}{hash_sign}{fragment}"


def _is_signature(name: str) -> bool:
    return name in _SIGNATURE_NAMES or name.startswith(_SIGNATURE_STARTS)


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differing_extras(first: Json, second: Json) -> list[str]:
    """Return the names, as tools spell them, of what two calls with one intention say differently."""
    spelled = {"outputFileName": "output_file_name", "webhookUrl": "webhook_url", "projectId": "project_id"}
    return [spelled[name] for name in _EXTRAS if first.get(name) != second.get(name)]
