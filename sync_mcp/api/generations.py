"""Generations: make, watch, list, price and delete lip-sync jobs (API §3, §4)."""

import builtins
import logging
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync
from pydantic import ValidationError

from sync_mcp.api.account import Account
from sync_mcp.api.checks import faults_of, faults_without_input
from sync_mcp.api.create import Attempt, Creator
from sync_mcp.api.downloads import check_destination, fetched, move_into_place
from sync_mcp.api.estimate import estimate
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.many import Calls, CreateMany, ManyRequest
from sync_mcp.api.models import (
    CostEstimate,
    Dub,
    Generation,
    GenerationCost,
    GenerationOptions,
    GenerationRequest,
    GenerationStatus,
    Input,
    Json,
    ModelName,
    Segment,
)
from sync_mcp.api.option_matrix import ignored_options
from sync_mcp.api.options import RequestOptions, check_options
from sync_mcp.api.running import Turn
from sync_mcp.api.uploads import LARGEST_BYTES, OnProgress
from sync_mcp.api.wait import LONG_POLL_SECONDS, Look, OnUpdate, wait_until_finished
from sync_mcp.errors import (
    APIResponseError,
    InvalidRequestError,
    NoOutput,
    NotFoundError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.api")

PAGE_LIMIT = 100
"""Most generations that one page of the API's list holds."""

GuardedCreate = Callable[[GenerationRequest, RequestOptions | None, int], Awaitable[Generation]]
"""Makes a request once for each take."""

GuardedDelete = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Deletes a job once what it cost has been read."""

_WAIT_MODE_HEADER = "x-sync-wait-mode"
_ASKED_AT_ONCE = 10
_LOOK_SECONDS = 10.0
_HOLD_SECONDS = LONG_POLL_SECONDS + 5.0
_ACCOUNT_SECONDS = 15.0


class GenerationPage(list[Generation]):
    """A page of jobs; `unreadable` entries of the API's had no id or status and are left out."""

    def __init__(self, jobs: Iterable[Generation], *, unreadable: int) -> None:
        super().__init__(jobs)
        self.unreadable = unreadable


class Generations:
    """The generations of an account; reached as `AsyncSync.generations`."""

    def __init__(
        self,
        transport: Transport,
        guarded: GuardedCreate | None = None,
        guarded_delete: GuardedDelete | None = None,
    ) -> None:
        self._transport = transport
        self._creator = Creator(transport)
        self._guarded = guarded
        self._guarded_delete = guarded_delete

    async def create(
        self,
        *,
        model: ModelName,
        input: Sequence[Input],
        options: GenerationOptions | None = None,
        segments: Sequence[Segment] | None = None,
        webhook_url: str | None = None,
        output_file_name: str | None = None,
        project_id: str | None = None,
        dub: Dub | None = None,
        take: int = 1,
        request_options: RequestOptions | None = None,
    ) -> Generation:
        """Start a paid job and return it as the API accepted it.

        With a guard (see `AsyncSync`) the same request is made once: a repeat returns its job, and `take`
        makes it again on purpose. Without one, each call makes a job.

        The request always carries an idempotency key, the caller's or a new one, and goes out again only
        under that key. Rules that are known here are checked before anything is sent. An option that the
        model ignores is sent all the same, and a warning of it is logged.

        Raises:
            InvalidRequestError: the request breaks a known rule; nothing was sent.
            LimitReached, LedgerError: a guard's budget would be passed, or its ledger cannot be written.
            APIConnectionError: the API could not be reached; nothing was sent.
            APIStatusError: the API refused; nothing was made. A later try needs a new key.
            OutcomeUnknown: the request was sent, and whether it was accepted could not be found out.
        """
        request = _request(
            model=model,
            input=input,
            options=options,
            segments=segments,
            webhook_url=webhook_url,
            output_file_name=output_file_name,
            project_id=project_id,
            dub=dub,
        )
        _check(faults_of(request))
        request.check_is_sendable()
        for option in ignored_options(request):
            # Logged, not raised by a filter of warnings: who moves here from the SDK gets the same job.
            logger.warning("%s", option.sentence)
        if self._guarded is not None:
            return await self._guarded(request, request_options, take)
        if take != 1:
            raise InvalidRequestError("take counts with a guard alone: without one each create is a new job.")
        return await self._creator.create(request, request_options)

    def create_many(
        self,
        requests: Iterable[ManyRequest] | AsyncIterable[ManyRequest],
        concurrency: int | None = None,
        *,
        request_options: RequestOptions | None = None,
    ) -> CreateMany:
        """Make many creates, as many at once as there are slots, and yield what came of each as it is known.

            async for outcome in sync.generations.create_many(requests):
                ...

        A request is a `CreateFields` mapping, which is what `create` takes, or a `GenerationRequest`. They
        are taken from the iterable as slots get free. `concurrency` is by default the account's own limit.
        `request_options` holds for all that is sent; what a request's own say goes before it.

        What fails, as `create` fails, is that request's outcome and touches no other: see `CreateOutcome`. A
        create that the API has no slot for waits and goes out again under its key. The whole has no time
        limit; see `CreateMany` for what cancelling it leaves behind.

        Raises:
            InvalidRequestError: `requests` cannot be iterated over, `concurrency` is below 1, or
                `request_options` has an idempotency key, which belongs to one request.
        """
        options = request_options or RequestOptions()
        check_options(options)
        calls = Calls(
            create=lambda fields: self.create(**fields),
            hold=lambda id: self._look(
                id, {"wait": "true", "timeout": str(LONG_POLL_SECONDS)}, _once(options, _HOLD_SECONDS)
            ),
            states=lambda ids, turn: self.states(
                ids, turn=turn, request_options=_once(options, _LOOK_SECONDS)
            ),
            concurrency=lambda: self._concurrency(options),
        )
        return CreateMany(calls, requests, concurrency, options, keyed=self._guarded is None)

    async def _concurrency(self, options: RequestOptions) -> int | None:
        try:
            account = await Account(self._transport).get(
                request_options={**options, "timeout_in_seconds": _ACCOUNT_SECONDS}
            )
        except SyncError as error:
            logger.warning("the account's concurrency cannot be read: %s", error)
            return None
        return account.concurrency

    async def create_as(
        self, attempt: Attempt, body: Json, *, request_options: RequestOptions | None = None
    ) -> Generation:
        """Make a create of this JSON, of which the caller keeps book; what a guard uses.

        Raises:
            SyncError: as `create`.
        """
        return await self._creator.create_as(attempt, body, request_options)

    def keeps_keys_for(self, seconds: float) -> bool:
        """Return whether the API has shown to this client that it keeps an idempotency key for so long."""
        return self._creator.keeps_keys_for(seconds)

    async def get(
        self, id: str, *, include_progress: bool = False, request_options: RequestOptions | None = None
    ) -> Generation:
        """Return the present state of a job, with `progress_percent` only where that is asked for.

        Raises:
            NotFoundError: the account has no job by this id.
        """
        query = {"include": "progress"} if include_progress else {}
        look = await self._look(_checked_id(id), query, request_options)
        return look.generation

    async def list(
        self,
        *,
        status: Sequence[GenerationStatus] | None = None,
        ids: Sequence[str] | None = None,
        project_id: str | None = None,
        limit: int = PAGE_LIMIT,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> GenerationPage:
        """Return one page of jobs, newest first.

        `limit` runs from 1 to 100. `cursor` is the id of the last job on the page before; a page with fewer
        than `limit` jobs is the last one.
        """
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidRequestError(f"limit must lie between 1 and {PAGE_LIMIT}.")
        filters = {
            "status": _listed(status),
            "ids": _listed(ids),
            "projectId": project_id,
            "limit": str(limit),
            "cursor": cursor,
        }
        page, length = await self._page(filters, request_options)
        return GenerationPage(page[:limit], unreadable=length - len(page))

    async def states(
        self,
        ids: Iterable[str],
        *,
        turn: Turn | None = None,
        request_options: RequestOptions | None = None,
    ) -> dict[str, Generation | SyncError]:
        """Return each job's present state, or the error that stands in the way of it; nothing else is raised.

        Each hundred jobs cost one request; those that the API's list leaves out are asked for singly. An
        error that is not `retryable`, such as NotFoundError, is the API's word on that job. `turn` is awaited
        before each request.
        """
        states: dict[str, Generation | SyncError] = {}
        asked: builtins.list[str] = []
        for id in dict.fromkeys(ids):
            try:
                asked.append(_checked_id(id))
            except InvalidRequestError as error:
                states[id] = error
        for start in range(0, len(asked), PAGE_LIMIT):
            states |= await self._states(
                asked[start : start + PAGE_LIMIT], turn or checkpoint, request_options
            )
        return states

    async def _states(
        self, ids: Sequence[str], turn: Turn, options: RequestOptions | None
    ) -> dict[str, Generation | SyncError]:
        states: dict[str, Generation | SyncError] = {}
        page: Sequence[Generation] = ()
        try:
            await turn()
            page = await self.list(ids=ids, request_options=options)
        except (RequestRejectedError, NotFoundError):
            # An API that cannot list by id may still know each job.
            pass
        except SyncError as error:
            return dict.fromkeys(ids, error)
        states.update((generation.id, generation) for generation in page if generation.id in ids)
        limiter = anyio.CapacityLimiter(_ASKED_AT_ONCE)

        async def ask(id: str) -> None:
            async with limiter:
                await turn()
                try:
                    states[id] = await self.get(id, request_options=options)
                except SyncError as error:
                    states[id] = error

        async with anyio.create_task_group() as tasks:
            for id in ids:
                if id not in states:
                    tasks.start_soon(ask, id)
        return states

    async def iterate(
        self,
        *,
        status: Sequence[GenerationStatus] | None = None,
        project_id: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> AsyncIterator[Generation]:
        """Yield all jobs, newest first, fetching page after page as they are asked for."""
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            filters = {
                "status": _listed(status),
                "projectId": project_id,
                "limit": str(PAGE_LIMIT),
                "cursor": cursor,
            }
            page, length = await self._page(filters, request_options)
            fresh = [generation for generation in page if generation.id not in seen]
            for generation in fresh:
                seen.add(generation.id)
                yield generation
            # An API that ignored the cursor would otherwise be read for ever.
            if length < PAGE_LIMIT or not fresh:
                return
            cursor = page[-1].id

    async def _page(
        self, filters: Mapping[str, str | None], options: RequestOptions | None
    ) -> tuple[builtins.list[Generation], int]:
        """Return a page of jobs, and how many entries it has, readable or not."""
        query = {name: value for name, value in filters.items() if value}
        reply = await self._transport.read(Call("GET", "/v2/generations", query=query, is_list=True), options)
        if reply.entries is None:
            raise APIResponseError("The API's list of generations is no list.", status=reply.status)
        return Generation.list_from_wire(reply.entries), len(reply.entries)

    async def estimate_cost(
        self,
        *,
        model: ModelName,
        input: Sequence[Input] = (),
        options: GenerationOptions | None = None,
        segments: Sequence[Segment] | None = None,
        webhook_url: str | None = None,
        output_file_name: str | None = None,
        project_id: str | None = None,
        dub: Dub | None = None,
        duration_seconds: float | None = None,
        fps: float | None = None,
        request_options: RequestOptions | None = None,
    ) -> CostEstimate:
        """Return what a job is likely to cost; nothing is started or charged.

        It takes what `create` takes, and what the caller knows of the media: `duration_seconds` of the
        output, and its frames per second, 25 where nobody says. `model` and `duration_seconds` are enough.
        Figures that the API does not tell are None.
        """
        request = _request(
            model=model,
            input=input,
            options=options,
            segments=segments,
            webhook_url=webhook_url,
            output_file_name=output_file_name,
            project_id=project_id,
            dub=dub,
        )
        return await self.estimate_request(
            request, duration_seconds=duration_seconds, fps=fps, request_options=request_options
        )

    async def estimate_request(
        self,
        request: GenerationRequest,
        *,
        duration_seconds: float | None = None,
        fps: float | None = None,
        request_options: RequestOptions | None = None,
    ) -> CostEstimate:
        """Return what a whole request is likely to cost, as `estimate_cost` does."""
        if request.input:
            _check(faults_of(request))
        elif duration_seconds is not None:
            _check(faults_without_input(request))
        else:
            raise InvalidRequestError("There is nothing to price: give input, or duration_seconds.")
        return await estimate(self._transport, request, duration_seconds, fps, request_options)

    async def get_cost(self, id: str, *, request_options: RequestOptions | None = None) -> GenerationCost:
        """Return what a job really cost; the API usually knows within ten minutes of its end.

        Raises:
            NotFoundError: the account has no job by this id.
        """
        path = f"/v2/generate/{_checked_id(id)}/costs"
        reply = await self._transport.read(Call("GET", path), request_options)
        try:
            return GenerationCost.from_wire(reply.data)
        except ValidationError as error:
            raise APIResponseError("The API's answer is no cost.", status=reply.status) from error

    async def download(
        self,
        id: str,
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        request_options: RequestOptions | None = None,
    ) -> Path:
        """Fetch the output of a completed job and return where it is, which is `destination`.

        It comes under a temporary name in the same folder, goes on where it was cut, by a fresh URL, and gets
        its name when it is whole. `request_options` hold for what is asked of the API; the file may take as
        long as it comes.

        Raises:
            NoOutput: the job runs still, or ended without an output.
            NotFoundError: the account has no job by this id.
            FileRefused: there is a file by that name already, or it cannot be written.
            APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries.
        """
        path = Path(os.fspath(destination))
        await run_sync(lambda: check_destination(path, overwrite=overwrite))
        async with self.fetched(
            id, path.parent, on_progress=on_progress, request_options=request_options
        ) as part:
            await run_sync(lambda: move_into_place(part, path, overwrite=overwrite))
        return path

    @asynccontextmanager
    async def fetched(
        self,
        id: str,
        folder: Path,
        *,
        known: Generation | None = None,
        limit_bytes: int = LARGEST_BYTES,
        on_progress: OnProgress | None = None,
        request_options: RequestOptions | None = None,
    ) -> AsyncGenerator[Path]:
        """Fetch the output of a completed job into `folder` under a temporary name, while it is used.

        `known` is the job as it has just been read.

        Raises:
            NoOutput, NotFoundError: as `download`.
            FileRefused: it is larger than `limit_bytes`, or cannot be written.
            APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries.
        """
        generation = known or await self.get(id, request_options=request_options)
        urls = [output_url(generation)]

        async def fresh_url() -> str:
            return urls.pop() if urls else output_url(await self.get(id, request_options=request_options))

        async with fetched(
            self._transport,
            fresh_url,
            folder,
            limit_bytes=limit_bytes,
            on_progress=on_progress,
            request_options=request_options,
        ) as part:
            yield part

    async def delete(self, id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete a finished job and its output.

        With a guard, what it cost is read first and stays spent, and the same create afterwards is paid again
        only when the user has agreed.

        Raises:
            ConflictError: the job has not ended yet; the API has no way to cancel one.
            NotFoundError: the account has no job by this id.
        """
        path = f"/v2/generations/{_checked_id(id)}"

        async def delete() -> None:
            await self._transport.read(Call("DELETE", path), request_options)

        await (delete() if self._guarded_delete is None else self._guarded_delete(id, delete))

    async def wait(
        self,
        id: str,
        timeout_seconds: float | None = None,
        *,
        on_update: OnUpdate | None = None,
        request_options: RequestOptions | None = None,
    ) -> Generation:
        """Return the job when it has ended, or as it is after `timeout_seconds` (None: no limit).

        Ask `generation.finished` which of the two it is. `on_update` is awaited with each state read.
        Cancelling the wait leaves the job alone. Passing faults of the network are waited out.

        Raises:
            NotFoundError, AuthenticationError, ...: the API's answer, where waiting cannot change it.
        """
        checked = _checked_id(id)
        own: RequestOptions = {"max_retries": 0, **(request_options or {})}
        check_options(own)

        async def look(query: Mapping[str, str], seconds: float) -> Look:
            options: RequestOptions = {**own}
            options["timeout_in_seconds"] = min(seconds, options.get("timeout_in_seconds", seconds))
            return await self._look(checked, query, options)

        return await wait_until_finished(look, timeout_seconds, on_update)

    async def _look(self, id: str, query: Mapping[str, str], options: RequestOptions | None) -> Look:
        try:
            reply = await self._transport.read(Call("GET", f"/v2/generate/{id}", query=query), options)
        except NotFoundError as error:
            # A job of another member of the organization is found under this path alone (API §3.5).
            try:
                reply = await self._transport.read(Call("GET", f"/v2/generations/{id}"), options)
            except NotFoundError:
                raise error from None
        try:
            generation = Generation.from_wire(reply.data)
        except ValidationError as error:
            raise APIResponseError("The API's answer is no generation.", status=reply.status) from error
        return Look(generation, long_polled=_WAIT_MODE_HEADER in reply.headers)


def output_url(generation: Generation) -> str:
    """Return where the output of a completed job can be fetched, for as long as its signature holds.

    Raises:
        NoOutput: it has none.
    """
    shown = f"Generation {plain_id(generation.id)}".rstrip()
    if not generation.finished:
        raise NoOutput(
            f"{shown} has not ended: it has no output yet.",
            code="generation_running",
            next_step="Wait until it has ended, then call again.",
        ).advise(retryable=True)
    if generation.status != "COMPLETED":
        raise NoOutput(
            f"{shown} failed and has no output.",
            code="generation_failed",
            next_step="Correct what it failed for, and create it again.",
            api_code=generation.error_code,
            api_says=generation.error or "",
        )
    if not generation.output_url:
        raise NoOutput(
            f"{shown} has ended, and the API names no output.", next_step="Call again in a while."
        ).advise(retryable=True)
    return generation.output_url


def _request(
    *, input: Sequence[Input], segments: Sequence[Segment] | None, **fields: Any
) -> GenerationRequest:
    try:
        return GenerationRequest.model_validate(
            {**fields, "input": list(input), "segments": list(segments) if segments else None}
        )
    except ValidationError as error:
        raise InvalidRequestError(
            [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}."
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _check(faults: Sequence[str]) -> None:
    if faults:
        raise InvalidRequestError(faults)


def _once(options: RequestOptions, seconds: float) -> RequestOptions:
    """Return the options of a look that is soon taken again."""
    return {**options, "timeout_in_seconds": seconds, "max_retries": 0}


def _listed(words: Sequence[str] | None) -> str:
    # One word alone is a sequence too, of letters.
    return words if isinstance(words, str) else ",".join(words or ())


def _checked_id(id: str) -> str:
    if not plain_id(id):
        raise InvalidRequestError("A generation id has letters, digits, _ and - only: copy it whole.")
    return id
