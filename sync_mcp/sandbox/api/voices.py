"""The routes of voices: those that come with the API, and a few that were cloned (API §8)."""

import hashlib
import re
from functools import cache
from typing import cast
from uuid import NAMESPACE_URL, uuid5

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import as_json, require_key
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.world import World

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

PREMADE_COUNT = len(_NAMES) * len(_MANNERS)


def is_voice(voice_id: str) -> bool:
    """Return whether a script can be spoken in a voice, named by its id or the provider's."""
    return voice_id in _voice_ids()


class Voices:
    """Shows the voices; none can be added."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/voices", require_key(self.index), methods=["GET"]),
            Route("/v2/voices/{id}", require_key(self.get), methods=["GET"]),
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

    def _voices(self) -> list[dict[str, JsonValue]]:
        return _all_voices(f"{self._world.base_url}/samples/speech.wav")


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
