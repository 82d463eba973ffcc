"""Voices: those that come with the API, and those that the account has cloned (API §8)."""

import builtins
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from sync_mcp.api.create import Creator
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.kinds import JobKind, JobList
from sync_mcp.api.matching import Likeness
from sync_mcp.api.models import CamelModel, Json
from sync_mcp.api.options import RequestOptions, new_idempotency_key
from sync_mcp.errors import InvalidRequestError, NotFoundError
from sync_mcp.texts import VOICE_NAME_LIMIT, fold_words, plain_id, safe

_SEARCH_LIMIT = 80
_LONGEST_NAME = 100
LONGEST_CONSENT = 300
_LEAST_WORDS = 3
"""A bare yes names nobody."""
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


class ClonedVoice(Voice):
    """A voice that was cloned: it is there at once."""

    created_at: datetime | None = None
    """None: the API does not tell when it was made."""
    status: str = "COMPLETED"
    finished: bool = True
    """There is nothing to wait for."""
    error_code: str | None = None


class CloneRequest(CamelModel):
    """A voice that is to be cloned, from an asset or from what lies in Sync's storage at a URL."""

    name: str
    provider: Literal["elevenlabs"] = "elevenlabs"
    asset_id: str | None = None
    url: str | None = None


def _compare(sent: Json, shown: Json) -> Likeness:
    return "same" if shown.get("name") == sent.get("name") else "other"


CLONES = JobKind(
    name="voice",
    path="/v2/voices",
    model=ClonedVoice,
    listed=JobList("/v2/voices", None, _compare, is_told_by_name=True),
    has_keys=False,
    refused_by=("voice_name_conflict",),
)
"""Each call makes a voice (API §8); no two of an account have one name."""

GuardedClone = Callable[[CloneRequest, str, RequestOptions | None], Awaitable[ClonedVoice]]
"""Clones a voice within limits, with its owner's consent, or returns the one that it made before."""
GuardedDelete = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Deletes a voice, and notes that it is gone."""


class Voices:
    """The voices of an account; reached as `AsyncSync.voices`."""

    def __init__(
        self,
        transport: Transport,
        creator: Creator,
        guarded_clone: GuardedClone | None = None,
        guarded_delete: GuardedDelete | None = None,
    ) -> None:
        self._transport = transport
        self._creator = creator
        self._guarded_clone = guarded_clone
        self._guarded_delete = guarded_delete

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

    async def clone(
        self,
        *,
        name: str,
        consent: str,
        asset_id: str | None = None,
        url: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> ClonedVoice:
        """Clone a voice from a recording of it, which is paid, and return it.

        The API takes no key with it, so it is never sent twice: what came of a lost answer is looked for in
        the list of voices, by the name. With a guard (see `AsyncSync`) the same is cloned once.

        Args:
            name: what it is to be called, 1 to 100 characters; no other voice of the account has this name.
            consent: whose voice it is, and that they agreed to this, in words. A guard keeps it.
            asset_id: the recording as an asset, of sound or a video: best half a minute to two of one voice.
            url: or where it lies in Sync's storage.

        Raises:
            InvalidRequestError: the name is taken, there is no consent, or not one recording; nothing was
                sent.
            LimitReached, LedgerError: a guard's budget would be passed, or its ledger cannot be written.
            APIConnectionError: the API could not be reached; nothing was sent.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and whether it was accepted could not be found out.
        """
        request = make_clone_request(name, consent, asset_id=asset_id, url=url)
        if self._guarded_clone is not None:
            return await self._guarded_clone(request, consent, request_options)
        await self.check_name_is_free(request.name, request_options=request_options)
        memory, options = self._creator.memory, request_options
        return await self._creator.create_as(
            CLONES, memory, new_idempotency_key(), request.to_wire(), options
        )

    async def check_name_is_free(self, name: str, *, request_options: RequestOptions | None = None) -> None:
        """Check that no voice of the account is called so.

        Raises:
            InvalidRequestError: one is.
        """
        taken = [voice for voice in await self.list(request_options=request_options) if voice.name == name]
        if taken:
            raise InvalidRequestError(
                f"A voice of this account is called {safe(name, VOICE_NAME_LIMIT)!r} already "
                f"({plain_id(taken[0].id) or 'by what is no id'}): use that one, or give another name."
            )

    async def delete(self, id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete a cloned voice for good, by its own id; one that is not there any more is no error.

        Raises:
            InvalidRequestError: it can be no voice's id; nothing was sent.
        """
        call = Call("DELETE", f"/v2/voices/{check_id(id, 'A voice')}")

        async def delete() -> None:
            try:
                await self._transport.read(call, request_options)
            except NotFoundError:
                # The answer to an earlier send may have been lost.
                return

        await (delete() if self._guarded_delete is None else self._guarded_delete(id, delete))


def make_clone_request(
    name: str, consent: str, *, asset_id: str | None = None, url: str | None = None
) -> CloneRequest:
    """Return the request that clones a voice.

    Raises:
        InvalidRequestError: a sentence for each rule that it breaks.
    """
    faults = [*faults_of_clone(name, consent)]
    if (asset_id is None) == (url is None):
        faults.append("Give the recording as asset_id or as url, and not both.")
    if asset_id is not None and not plain_id(asset_id.strip()):
        faults.append("asset_id can be no id: copy it whole.")
    if faults:
        raise InvalidRequestError(faults)
    return CloneRequest(name=name.strip(), asset_id=asset_id and asset_id.strip(), url=url)


def faults_of_clone(name: str, consent: str) -> Iterator[str]:
    """Yield what is wrong with a clone's name, and with what is told of the owner's consent."""
    if not 1 <= len(name.strip()) <= _LONGEST_NAME:
        yield f"name must have 1 to {_LONGEST_NAME} characters."
    if len(consent) > LONGEST_CONSENT:
        yield f"consent has more than {LONGEST_CONSENT} characters: say it shorter."
    elif len(consent.split()) < _LEAST_WORDS:
        yield (
            "consent must say in words whose voice it is and that they agreed to it being cloned, such as "
            "'It is the voice of Ada Li, who agreed to this on 2 May': ask the user, and do not assume it."
        )


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
