"""The routes of voices: those that come with the API, those that were cloned, and new clones (API §8)."""

import hashlib
import re
from collections.abc import Container
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.api.answers import api_key, as_json, json_body, require_key
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import OptionalText, is_uuid, sentences
from sync_mcp.sandbox.api.inputs import FindFile
from sync_mcp.sandbox.api.limits import Limits
from sync_mcp.sandbox.media.measure import measure
from sync_mcp.sandbox.settings import VOICE_CLONE_PRICE
from sync_mcp.sandbox.world import Clone, World

_NAMES = re.findall(
    r"\w+",
    """
    Ada Aino Alma Amara Anouk Arun Astrid Bela Bruno Camille Chidi Clara Dario Delia Diego Edda Elio Emre
    Enzo Esther Farah Felix Fiona Gita Greta Hana Hugo Ida Ilse Imani Ines Ivo Jana Jonas Juno Kaito Karim
    Lars Leila Lena Linh Lucia Malik Mara Mateo Mila Nadia Nils Noor Olga Omar Paola Petra Quinn Rafael Rosa
    Samir Sofia Tariq Yuki
    """,
)
_MANNERS = ("calm narrator", "bright and quick", "deep and slow", "warm storyteller", "dry newsreader")
_CLONED = ("My own voice", "Product tour, 2026", "Señora Núñez")

_HOUR = timedelta(hours=1)
_LARGEST_SAMPLE_BYTES = 1024**3

PREMADE_COUNT = len(_NAMES) * len(_MANNERS)


def is_voice(voice_id: str, clones: Container[str]) -> bool:
    """Return whether a script can be spoken in a voice, named by its id or the provider's."""
    return voice_id in clones or voice_id in _voice_ids()


class Voices:
    """Shows the voices, clones new ones and deletes those."""

    def __init__(self, world: World, find_file: FindFile) -> None:
        self._world = world
        self._find_file = find_file
        self._limits = Limits(world)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/voices", require_key(self.index), methods=["GET"]),
            Route("/v2/voices", require_key(self.clone), methods=["POST"]),
            Route("/v2/voices/{id}", require_key(self.get), methods=["GET"]),
            Route("/v2/voices/{id}", require_key(self.delete), methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """List all voices, the cloned ones first; the API has no pages here."""
        if request.query_params.get("provider", "elevenlabs") != "elevenlabs":
            raise bare_refusal(400, ["provider must be one of: elevenlabs"])
        return as_json(self._voices())

    async def get(self, request: Request) -> Response:
        """Show a voice, by its id or the provider's."""
        wanted = cast(str, request.path_params["id"])
        for voice in self._voices():
            if wanted in (voice["id"], voice["voiceId"]):
                return as_json(voice)
        # The same code has another status where a script asks for the voice.
        raise refusal("voice_not_found", status=404)

    async def clone(self, request: Request) -> Response:
        """Clone a voice from a recording in the storage; each call makes another one."""
        world, contents, settings = self._world, self._world.contents, self._world.settings
        self._limits.check_rate_of(f"clone {api_key(request)}", settings.clones_per_hour, _HOUR)
        try:
            body = _CloneBody.model_validate(await json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        if (body.url is None) == (body.asset_id is None):
            raise bare_refusal(400, ["exactly one of url and assetId must be given"])
        path = await self._sample(body)
        await self._check_sample(path)
        if any(voice["name"] == body.name for voice in self._voices()):
            raise refusal("voice_name_conflict", field="name")
        allowed = settings.limits.voice_clones
        if allowed is not None and len(contents.clones) >= allowed:
            raise refusal("voice_clone_limit_reached")
        id = world.new_id("voice")
        clone = Clone(id, _provider_id(f"cloned {id}"), body.name, world.clock.now(), VOICE_CLONE_PRICE)
        contents.clones[id] = clone
        contents.cloned.append(clone)
        return as_json({"id": id, "voiceId": clone.provider_id, "name": clone.name}, 201)

    async def delete(self, request: Request) -> Response:
        """Delete a cloned voice."""
        if self._world.contents.clones.pop(cast(str, request.path_params["id"]), None) is None:
            raise refusal("voice_not_found", status=404)
        return as_json(True)

    async def _sample(self, body: "_CloneBody") -> Path:
        """Return the recording that a clone is to be made from: it must lie in the storage."""
        world = self._world
        if body.asset_id is not None:
            if not is_uuid(body.asset_id):
                raise refusal("invalid_asset_id_format", field="assetId")
            asset = world.contents.assets.get(body.asset_id.lower())
            if asset is None:
                raise refusal("asset_not_found", field="assetId")
            if asset.fields["type"] == "IMAGE":
                raise refusal("voice_sample_type_unsupported", field="assetId")
            return world.storage.uploads[asset.url_path].path
        own, url = urlsplit(world.base_url), urlsplit(body.url or "")
        if (url.scheme, url.netloc) != (own.scheme, own.netloc):
            raise refusal("voice_sample_upload_required", field="url")
        found = await self._find_file(unquote(url.path), url.query)
        if found is None:
            raise refusal("voice_sample_not_accessible", field="url")
        return found

    async def _check_sample(self, path: Path) -> None:
        if await self._world.in_worker(lambda: path.stat().st_size) > _LARGEST_SAMPLE_BYTES:
            raise refusal("voice_sample_source_too_large")
        try:
            info = await self._world.in_worker(lambda: measure(path))
        except MediaError as error:
            raise refusal("voice_sample_invalid") from error
        if info.kind == "image":
            raise refusal("voice_sample_type_unsupported")
        if not info.is_heard:
            raise refusal("voice_sample_extraction_failed")
        if (info.duration_seconds or 0.0) < self._world.settings.shortest_sample_seconds:
            raise refusal("voice_sample_too_short")

    def _voices(self) -> list[dict[str, JsonValue]]:
        own = [clone.to_json() for clone in self._world.contents.clones.values()]
        return own + _all_voices(f"{self._world.base_url}/samples/speech.wav")


class _CloneBody(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    provider: Literal["elevenlabs"]
    url: OptionalText = None
    asset_id: OptionalText = None


@cache
def _voice_ids() -> frozenset[str]:
    return frozenset(str(voice[name]) for voice in _all_voices("") for name in ("id", "voiceId"))


def _all_voices(preview: str) -> list[dict[str, JsonValue]]:
    cloned = [_make_cloned(name) for name in _CLONED]
    premade = [_make_premade(f"{name} - {manner}", preview) for manner in _MANNERS for name in _NAMES]
    return cloned + premade


def _make_cloned(name: str) -> dict[str, JsonValue]:
    id = str(uuid5(NAMESPACE_URL, f"sync-sandbox/voice/{name}"))
    voice_id = _provider_id(f"cloned {name}")
    return {"id": id, "internalVoiceId": id, "voiceId": voice_id, "name": name, "provider": "elevenlabs"}


def _make_premade(name: str, preview: str) -> dict[str, JsonValue]:
    id = _provider_id(name)
    return {"id": id, "voiceId": id, "name": name, "provider": "elevenlabs", "previewUrl": preview}


def _provider_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:20]
