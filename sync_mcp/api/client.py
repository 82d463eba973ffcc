"""The client: one object for one account, its endpoints in groups."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar
from urllib.parse import quote

import anyio
from pydantic import ValidationError

from sync_mcp.api.account import Account
from sync_mcp.api.assets import Assets
from sync_mcp.api.batches import Batch, Batches, BatchRequest
from sync_mcp.api.book import Book, MemoryBook
from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.create import Creator
from sync_mcp.api.dialogue_edits import DialogueEdit, DialogueEdits
from sync_mcp.api.downloads import fetch_file
from sync_mcp.api.feedback import Feedback
from sync_mcp.api.file_size import LARGEST_BYTES
from sync_mcp.api.generations import Generations
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.kinds import JobKind, JobT
from sync_mcp.api.models import CamelModel, Generation, GenerationRequest, Json
from sync_mcp.api.options import RequestOptions, take_idempotency_key
from sync_mcp.api.projects import Projects
from sync_mcp.api.speech import Speech, Speeches, SpeechRequest
from sync_mcp.api.storage import download, read_chunks
from sync_mcp.api.transcriptions import Transcriptions
from sync_mcp.api.uploads import OnProgress
from sync_mcp.api.usage import Usage
from sync_mcp.api.voices import ClonedVoice, CloneRequest, Voices
from sync_mcp.api.webhooks import Webhooks
from sync_mcp.errors import APIResponseError, InvalidRequestError, SyncError

DEFAULT_BASE_URL = "https://api.sync.so"
DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MAX_RETRIES = 4

_ModelT = TypeVar("_ModelT", bound=CamelModel)


@dataclass(frozen=True, slots=True)
class Ping:
    """How the API could be reached."""

    latency_seconds: float
    clock_offset_seconds: float | None
    """How far this machine's clock is ahead of the API's; None where the API tells no time."""


class CreateGuard(Protocol):
    """What stands between the creates of a client and the money."""

    async def create_for(
        self, sync: "AsyncSync", request: GenerationRequest, options: RequestOptions | None, take: int
    ) -> Generation:
        """Return the job that `request` makes, or made before."""
        ...

    async def speech_for(
        self, sync: "AsyncSync", request: SpeechRequest, options: RequestOptions | None, take: int
    ) -> Speech:
        """Return the speech that `request` makes, or made before."""
        ...

    async def clone_for(
        self, sync: "AsyncSync", request: CloneRequest, consent: str, options: RequestOptions | None
    ) -> ClonedVoice:
        """Return the voice that `request` clones with its owner's consent, or cloned before."""
        ...

    async def batch_for(
        self, sync: "AsyncSync", request: BatchRequest, options: RequestOptions | None, take: int
    ) -> Batch:
        """Return the batch that `request` makes, or made before."""
        ...

    async def dialogue_edit_for(
        self, sync: "AsyncSync", body: Json, options: RequestOptions | None, take: int
    ) -> DialogueEdit:
        """Return the dialogue edit that `body` makes, or made before."""
        ...

    async def delete_voice_for(
        self, sync: "AsyncSync", id: str, delete: Callable[[], Awaitable[None]]
    ) -> None:
        """Delete a cloned voice, and note that it is gone."""
        ...

    async def delete_for(self, sync: "AsyncSync", id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a job once what it cost is known as far as it can be."""
        ...

    async def delete_project_for(
        self, sync: "AsyncSync", id: str, delete: Callable[[], Awaitable[None]]
    ) -> None:
        """Delete a project once what its jobs cost is known as far as it can be."""
        ...

    async def explain_missing(self, sync: "AsyncSync", generation_id: str) -> SyncError | None:
        """Return what is known of a job that the API does not show; None where it was not made here."""
        ...


class AsyncSync:
    """An async client for the Sync API, on asyncio or trio.

        async with AsyncSync() as sync:
            generation = await sync.generations.create(model="lipsync-2", input=[...])

    From its first call until it is closed, it belongs to the event loop of that call: have one for each loop.

    What the API offers stands in these attributes:
        generations: make, price, wait for, list, download and delete videos; `create_many` makes many.
        batches: make 20 to 500 videos in one request, and read what came of each.
        assets: upload local files, and find, list, download and delete what was uploaded.
        speech: say a script without a video.
        voices: the voices that can say a script; clone one's own, and delete those.
        transcriptions: what a video or recording says, word by word.
        dialogue_edits: have words of a video said anew, to be heard before it is rendered.
        projects: what belongs together, under one name.
        account: the plan, how many jobs may run at once, the balance, and the organizations of the key.
        usage: what the jobs of a time did cost, where the organization has that export.
        models: what there is to make a video with.
        errors: what the API's error codes mean.
        feedback: tell Sync what is wrong.
        webhooks: the organization's secret, and what it has signed.

    Args:
        api_key: the key; by default the environment's SYNC_API_KEY.
        base_url: the API's origin; by default SYNC_BASE_URL, else https://api.sync.so.
        timeout: seconds for one call with all its retries; `request_options` may set it for a call.
        max_retries: how often one call is repeated, where that is safe and can help.
        guard: makes each create once and within limits, such as `Guard(Ledger(), Limits(...))`; by default
            every create is a job of its own.

    Raises:
        ConfigurationError: there is no key, or the base URL is unusable.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_retries: int = DEFAULT_MAX_RETRIES,
        guard: CreateGuard | None = None,
    ) -> None:
        self._transport = Transport(
            api_key=api_key if api_key is not None else os.environ.get("SYNC_API_KEY", ""),
            base_url=base_url or os.environ.get("SYNC_BASE_URL") or DEFAULT_BASE_URL,
            timeout_seconds=timeout,
            max_retries=max_retries,
        )
        guarded = partial(guard.create_for, self) if guard else None
        deletes = partial(guard.delete_for, self) if guard else None
        explains = partial(guard.explain_missing, self) if guard else None
        self._creator = Creator(self._transport)
        self.generations = Generations(self._transport, self._creator, guarded, deletes, explains)
        self.projects = Projects(self._transport, partial(guard.delete_project_for, self) if guard else None)
        speaks = partial(guard.speech_for, self) if guard else None
        self.speech = Speeches(self._transport, self._creator, self.generations.allowance, speaks)
        batches = partial(guard.batch_for, self) if guard else None
        self.batches = Batches(self._transport, self._creator, self.generations.allowance, batches)
        self.assets = Assets(self._transport)
        clones = partial(guard.clone_for, self) if guard else None
        deletes_voice = partial(guard.delete_voice_for, self) if guard else None
        self.voices = Voices(self._transport, self._creator, clones, deletes_voice)
        self.account = Account(self._transport)
        self.usage = Usage(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.feedback = Feedback(self._transport)
        edits = partial(guard.dialogue_edit_for, self) if guard else None
        self.dialogue_edits = DialogueEdits(self._transport, self._creator, self.generations.allowance, edits)
        self.transcriptions = Transcriptions(self._transport, self.generations.allowance)
        self.models = Models(self._transport)
        self.errors = Errors(self._transport)

    @property
    def base_url(self) -> str:
        """The API's origin."""
        return self._transport.base_url

    @property
    def api_time(self) -> datetime:
        """Now, by the API's clock as its last answer told it; until then by this machine's."""
        return self._transport.api_time

    @property
    def has_heard_time(self) -> bool:
        """Whether an answer of the API's has told the time."""
        return self._transport.has_heard_time

    @property
    def key_fingerprint(self) -> str:
        """What tells one key from another, and from which no key can be found."""
        return self._transport.key_fingerprint

    @property
    def sandboxed(self) -> bool:
        """Whether answers come from a sandbox, which marks them; False until the first answer."""
        return self._transport.sandboxed

    @property
    def memory(self) -> MemoryBook:
        """What this client remembers of its creates; a book that outlives it begins with that."""
        return self._creator.memory

    async def create_as(
        self,
        kind: JobKind[JobT],
        book: Book,
        key: str,
        body: Json,
        *,
        request_options: RequestOptions | None = None,
    ) -> JobT:
        """Make a job of any kind of this JSON under this key, of which the caller keeps book: for a guard.

        Raises:
            APIConnectionError: the API could not be reached; nothing was sent.
            APIStatusError: the API refused; nothing was made.
            NotSent: the book does not let it go out; nothing was sent.
            OutcomeUnknown: it was sent, and whether it was accepted could not be found out.
        """
        given, options = take_idempotency_key(request_options)
        if given not in (None, key):
            raise InvalidRequestError("request_options names another idempotency key than the attempt's.")
        return await self._creator.create_as(kind, book, key, body, options)

    async def get_job(
        self, kind: JobKind[JobT], id: str, *, request_options: RequestOptions | None = None
    ) -> JobT:
        """Return a job of any kind.

        Raises:
            NotFoundError: there is none of this id, as far as the API shows it.
            SyncError: as any read.
        """
        reply = await self._transport.read(Call("GET", f"{kind.path}/{quote(id, safe='')}"), request_options)
        try:
            return kind.model.from_wire(reply.data)
        except ValidationError:
            raise APIResponseError(f"The API's answer is no {kind.name}.") from None

    async def ping(self, *, request_options: RequestOptions | None = None) -> Ping:
        """Ask the API for what it tells without a key, and say how that went."""
        asked_at = anyio.current_time()
        reply = await self._transport.read(Call("GET", "/v2/errors", is_list=True), request_options)
        latency = anyio.current_time() - asked_at
        return Ping(latency, _clock_offset_seconds(reply.server_time, latency))

    @asynccontextmanager
    async def fetch(
        self, url: str, folder: Path, *, limit_bytes: int, on_progress: OnProgress | None = None
    ) -> AsyncGenerator[Path]:
        """Fetch a file of a public https host, or of the API's own, into `folder`, for as long as it is used.

        The key does not go with it, and no address of a private network is asked.

        Raises:
            FileRefused: it is larger than `limit_bytes`, or cannot be written.
            APIConnectionError, APITimeoutError, APIResponseError: it could not be had.
        """

        async def same_url() -> str:
            return url

        async with fetch_file(
            self._transport, same_url, folder, limit_bytes=limit_bytes, on_progress=on_progress
        ) as path:
            yield path

    async def first_bytes(self, url: str, size: int) -> bytes:
        """Return how a file begins that `fetch` would fetch, and leave the rest.

        Raises:
            APIConnectionError, APITimeoutError, APIResponseError: it could not be had.
        """
        begin = bytearray()
        async with (
            download(self._transport, url, {"range": f"bytes=0-{size - 1}"}) as answer,
            aclosing(read_chunks(answer, LARGEST_BYTES)) as chunks,
        ):
            async for chunk in chunks:
                begin += chunk
                if len(begin) >= size:
                    break
        return bytes(begin[:size])

    async def aclose(self) -> None:
        """Close the connections.

        Raises:
            ConfigurationError: they belong to another event loop.
        """
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncSync(base_url={self.base_url!r})"


class Models:
    """The models that this account can use; reached as `AsyncSync.models`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, *, request_options: RequestOptions | None = None) -> list[ModelInfo]:
        """Return the models that are not deprecated (API §7)."""
        return await _read_list(self._transport, "/v2/models", ModelInfo, request_options)


class Errors:
    """The API's catalogue of error codes; reached as `AsyncSync.errors`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, *, request_options: RequestOptions | None = None) -> list[ErrorInfo]:
        """Return every error code with the API's message and suggestion (API §11)."""
        return await _read_list(self._transport, "/v2/errors", ErrorInfo, request_options)


def _clock_offset_seconds(told: datetime | None, latency_seconds: float) -> float | None:
    if told is None:
        return None
    # The date was written while the answer was under way, and is cut to whole seconds.
    return (datetime.now(UTC) - told).total_seconds() - latency_seconds / 2 - 0.5


async def _read_list(
    transport: Transport, path: str, model: type[_ModelT], options: RequestOptions | None
) -> list[_ModelT]:
    reply = await transport.read(Call("GET", path, is_list=True), options)
    models, unreadable = reply.read_list(model, f"answer to {path}")
    if unreadable:
        raise APIResponseError(f"The API's answer to {path} is unreadable.", status=reply.status)
    return models
