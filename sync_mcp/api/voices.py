"""Voices: those that come with the API, and those that the account has cloned (API §8)."""

import builtins
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import JsonValue

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.models import CamelModel
from sync_mcp.api.options import RequestOptions
from sync_mcp.texts import VOICE_NAME_LIMIT, fold_words

_SEARCH_LIMIT = 80
# Whoever looks for a voice says these too, and they tell none from another.
_SAYING_LITTLE = frozenset(("a", "an", "and", "the", "with", "voice", "voices"))


class Voice(CamelModel):
    """A voice that a script can be spoken in."""

    id: str
    """What `Text.voice_id` takes."""
    internal_voice_id: str | None = None
    """The API's own id of a cloned voice."""
    voice_id: str | None = None
    """The provider's id."""
    name: str | None = None
    provider: Literal["elevenlabs"] | str | None = None
    preview_url: str | None = None
    """A recording of it."""
    restriction: JsonValue = None
    """What stands in the way of its use, as the API tells it."""


class Voices:
    """The voices of an account; reached as `AsyncSync.voices`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self,
        *,
        search: str | None = None,
        provider: str = "elevenlabs",
        request_options: RequestOptions | None = None,
    ) -> builtins.list[Voice]:
        """Return all voices, hundreds of them; the API has no pages here and tells no language.

        With `search` only those with one of its words in the name, the best first; the API has no search.
        """
        call = Call("GET", "/v2/voices", query={"provider": provider}, is_list=True)
        reply = await self._transport.read(call, request_options)
        voices, _ = reply.read_list(Voice, "list of voices")
        return voices if search is None else find_voices(voices, search)

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Voice:
        """Return one voice.

        Raises:
            NotFoundError: the account has no voice by this id.
        """
        call = Call("GET", f"/v2/voices/{check_id(id, 'A voice')}")
        return (await self._transport.read(call, request_options)).read_as(Voice, "voice")


def find_voices(voices: Iterable[Voice], search: str) -> list[Voice]:
    """Return the voices with a word of `search` in the name, those that it stands for best first.

    Case, accents and marks make no difference. Without a word in it, `search` finds all as they are.
    """
    asked = fold_words(search, _SEARCH_LIMIT)
    words = split_search(asked)
    ranked = [
        (rank, voice)
        for voice in voices
        if (rank := _rank(fold_words(voice.name or "", VOICE_NAME_LIMIT), asked, words)) is not None
    ]
    return [voice for _, voice in sorted(ranked, key=lambda entry: entry[0])]


def split_search(search: str) -> list[str]:
    """Return the words of a search that tell one voice from another; all of them where none does."""
    words = list(dict.fromkeys(fold_words(search, _SEARCH_LIMIT).split()))
    return [word for word in words if word not in _SAYING_LITTLE] or words


def _rank(name: str, search: str, words: Sequence[str]) -> tuple[int, int] | None:
    """Return how well a name fits, the smaller the better; None where it has no word of the search."""
    whole = (
        name == search or not search,
        name.startswith(f"{search} "),
        name.startswith(search),
        all(f" {word}" in f" {name}" for word in words),
        all(word in name for word in words),
    )
    if any(whole):
        return whole.index(True), 0
    # A whole word counts for more than the beginning of one, and that for more than a part.
    fits = [
        3 if f" {word} " in f" {name} " else 2 if f" {word}" in f" {name}" else 1 if word in name else 0
        for word in words
    ]
    count = sum(map(bool, fits))
    return (len(whole) + len(words) - count, -sum(fits)) if count else None
