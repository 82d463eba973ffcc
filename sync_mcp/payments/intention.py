"""What a create means, however it is spelled: the same intention is made and paid once."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast
from urllib.parse import unquote

from sync_mcp.api.fields import EXTRAS, REQUEST
from sync_mcp.api.models import GenerationRequest, Json, LocalMedia
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments import digest_v1
from sync_mcp.payments.canonical import canonical, is_url, sha256_of, urls_of
from sync_mcp.payments.files import asset_key, by_content, with_assets, with_local_media
from sync_mcp.payments.urls import dropped_signatures, plain_spelling, without_signatures
from sync_mcp.texts import safe, without_queries

DIGEST_VERSION = 2
"""Written beside each digest. What goes into a digest changes with a new version only: an upgrade that
digested the same call differently would pay for it again."""

HIGHEST_TAKE = 10_000
ABOUT_LIMIT = 60
"""The most characters of what a job is called in a list."""
_SCRIPT_SHOWN = 80
_PLACE_SHOWN = 300
_TOLD = tuple(field.wire for field in REQUEST.values() if field.role == "tells")
"""An address in them may be a secret: the ledger keeps its digest alone."""


@dataclass(frozen=True)
class Intention:
    """One thing to be made for one account, and the canonical request that makes it.

    Attributes:
        request: in its canonical form.
        body: the same as JSON, made once and kept; what a local file holds stands in the place of its asset.
        account: whose it is.
        base_url: the API that is to make it.
        take: tells apart what is made again on purpose.
    """

    request: GenerationRequest
    body: Json
    account: str
    base_url: str
    take: int = 1

    @classmethod
    def of(
        cls,
        request: GenerationRequest,
        *,
        account: str,
        base_url: str,
        take: int = 1,
    ) -> "Intention":
        """Return the intention behind a request.

        Raises:
            InvalidRequestError: `take` is not a number from 1 on, or an `asset_id` can be no asset's.
        """
        if not 1 <= take <= HIGHEST_TAKE:
            raise InvalidRequestError(f"take must lie between 1 and {HIGHEST_TAKE}.")
        sent = GenerationRequest.from_wire(canonical(by_content(request).to_wire()))
        return cls(with_local_media(sent, request.local_media), sent.to_wire(), account, base_url, take)

    @cached_property
    def body_digest(self) -> str:
        """SHA-256 of what is made, for whichever take."""
        return sha256_of([DIGEST_VERSION, self.base_url, self.account, self._meaning])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the intention."""
        return sha256_of([self.body_digest, self.take])

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of what is made and its take: two accounts that mean the same share it."""
        return sha256_of([DIGEST_VERSION, self._meaning, self.take])

    @cached_property
    def made_digest(self) -> str:
        """SHA-256 of what is made, for whichever account and take: what it costs goes by it."""
        return sha256_of(self._meaning)

    @cached_property
    def earlier_body_digests(self) -> tuple[str, ...]:
        """What the versions before made of this, for whichever take."""
        return (digest_v1.body_digest(self._made, self.account, self.base_url),)

    @cached_property
    def earlier_digests(self) -> tuple[str, ...]:
        """What the versions before made of this: under these an entry of theirs is found."""
        return tuple(digest_v1.digest(body, self.take) for body in self.earlier_body_digests)

    @cached_property
    def has_loose_earlier_digest(self) -> bool:
        """Whether an entry that is found by an earlier digest may be of another clip.

        Version 1 took for a signature what is none, and left it out.
        """
        kept = unsigned(self._made)
        return digest_v1.unsigned(kept) != kept

    @cached_property
    def dropped_signatures(self) -> tuple[str, ...]:
        """Whose signatures on its URLs do not count, each for the user: "Amazon S3 signature"."""
        signatures = (one for url in urls_of(self._made) for one in dropped_signatures(url))
        return tuple(dict.fromkeys(signatures))

    def idempotency_key(self, attempt: int) -> str:
        """Return the key under which this attempt is sent, from every process and machine."""
        return f"sync-mcp-{sha256_of([self.digest, attempt])[:48]}"

    @property
    def wire(self) -> Json:
        """The body as it is sent.

        Raises:
            InvalidRequestError: a local file is no asset yet.
        """
        self.request.check_is_sendable()
        return self.body

    @property
    def inputs(self) -> list[tuple[Json, str | None]]:
        """Each input as JSON, and what it is called where it is a local file."""
        names = (item.name if isinstance(item, LocalMedia) else None for item in self.request.input)
        return list(zip(cast(list[Json], self.body["input"]), names, strict=True))

    @property
    def _made(self) -> Json:
        return {name: value for name, value in self.body.items() if name not in EXTRAS}

    @cached_property
    def _meaning(self) -> Json:
        # In order only then: neither a signature nor a spelling must decide which input comes first.
        return canonical(unsigned(self._made))

    @cached_property
    def extras(self) -> Json:
        """What does not count: the result's name and project, and where its end is told, by digest only."""
        kept = {name: self.body[name] for name in EXTRAS if name in self.body}
        return {name: sha256_of(value) if name in _TOLD else value for name, value in kept.items()}

    def first_sent(self, extras: Json) -> "tuple[Intention, bool]":
        """Return it as an earlier call with these extras sent it, and whether that is all of it.

        Of a webhook the digest alone is kept: it is known again only where this call names the same one.
        """
        kept = {name: extras[name] for name in EXTRAS if name in extras and name not in _TOLD}
        hooks = {name: extras[name] for name in _TOLD if extras.get(name) is not None}
        known = {name: self.body[name] for name, hook in hooks.items() if hook == self.extras.get(name)}
        is_whole = len(known) == len(hooks)
        if {**kept, **known} == {name: self.body[name] for name in EXTRAS if name in self.body}:
            return self, is_whole
        first = self.request.with_fields({**dict.fromkeys(EXTRAS), **kept, **known})
        return replace(self, request=first, body=by_content(first).to_wire()), is_whole

    def with_assets(self, assets: Mapping[str, str]) -> "Intention":
        """Return it with the asset of each local file, by its `asset_key`, in its place.

        Raises:
            KeyError: a file has none.
        """
        if not self.request.local_media:
            return self
        items = [
            {**item, "assetId": assets[asset_key(given.type, given.sha256)]}
            if isinstance(given, LocalMedia)
            else item
            for given, item in zip(self.request.input, cast(list[Json], self.body["input"]), strict=True)
        ]
        return replace(self, request=with_assets(self.request, assets), body={**self.body, "input": items})

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        parts = [_shown(item, name) for item, name in self.inputs]
        if isinstance(self.body.get("dubParams"), Mapping):
            parts.append(f"dubbed into {safe(str(self.body['dubParams'].get('targetLang')), 20)}")
        if self.take > 1:
            parts.append(f"take {self.take}")
        return f"{safe(self.request.model, 80)}: {', '.join(parts)}"

    @cached_property
    def about(self) -> str:
        """What it is called in a list: the clip, what it says, and what else tells it from its like.

        "talk.mp4 + ben.wav", "photo.jpg: "Welcome to our…"", "talk.mp4, dubbed into fr".
        """
        clips: list[str] = []
        voices: list[str] = []
        scripts: list[str] = []
        for item, name in self.inputs:
            if isinstance(item.get("provider"), Mapping):
                scripts.append(str(item["provider"].get("script", "")))
            else:
                is_clip = item.get("type") in ("video", "image")
                (clips if is_clip else voices).append(_called(item, name))
        end = ""
        if isinstance(self.body.get("dubParams"), Mapping):
            end += f", dubbed into {safe(str(self.body['dubParams'].get('targetLang')), 8)}"
        if self.take > 1:
            end += f", take {self.take}"
        return _joined(clips, voices, scripts, ABOUT_LIMIT - len(end)) + end


def _joined(clips: Sequence[str], voices: Sequence[str], scripts: Sequence[str], room: int) -> str:
    clip = " + ".join(clips)
    if len(voices) + len(scripts) > 1:
        said = f" + {len(voices) + len(scripts)} voices"
        return _middle_cut(clip, room - len(said)) + said
    if scripts:
        # A clip with a long name leaves half of the room to what is said.
        clip = _middle_cut(clip, room // 2)
        return f'{clip}: "{safe(scripts[0], room - len(clip) - 4)}"'
    if voices:
        room -= 3
        voice = _middle_cut(voices[0], max(room // 2, room - len(clip)))
        return f"{_middle_cut(clip, room - len(voice))} + {voice}"
    return _middle_cut(clip, room)


def _middle_cut(name: str, limit: int) -> str:
    """Return a name, cut in its middle where it is too long: what tells files apart stands at its ends."""
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def _called(item: Json, name: str | None) -> str:
    """Return what an input is called: the name of its file, without folders."""
    asset_id = str(item.get("assetId") or "")
    if name is None and asset_id:
        name = f"asset {asset_id.partition('-')[0]}"
    if name is None:
        place = without_queries(str(item.get("url") or "")).partition("?")[0]
        name = unquote(place.rstrip("/").rpartition("/")[2])
    return safe(name, _PLACE_SHOWN) or safe(str(item.get("type")), 20)


def _shown(item: Json, name: str | None) -> str:
    kind = safe(str(item.get("type")), 20)
    if isinstance(item.get("provider"), Mapping):
        provider: Json = item["provider"]
        script = safe(str(provider.get("script", "")), _SCRIPT_SHOWN)
        return f'{kind} "{script}" (voice {safe(str(provider.get("voiceId")), 80)})'
    place = name or str(item.get("url") or item.get("assetId") or "")
    return f"{kind} {safe(without_queries(place), _PLACE_SHOWN)}"


def unsigned(value: object) -> Any:
    """Return a JSON value without what may differ in a repeat.

    Its URLs are without signatures and, like its texts, in one spelling.
    """
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, Mapping):
        return {name: _meant(name, inner) for name, inner in cast(Mapping[str, object], value).items()}
    return [unsigned(item) for item in cast(list[object], value)] if isinstance(value, list) else value


def _meant(name: str, value: object) -> object:
    if isinstance(value, str) and is_url(name):
        return plain_spelling(without_signatures(value))
    is_id = isinstance(value, str) and (name == "id" or name.endswith("Id"))
    # An id has no spelling but its own.
    return value if is_id else unsigned(value)


def _plain_text(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", lines)


def differing_extras(first: Json, second: Json) -> list[str]:
    """Return the names, as tools spell them, of what two calls with one intention say differently."""
    return [name for wire, name in EXTRAS.items() if first.get(wire) != second.get(wire)]
