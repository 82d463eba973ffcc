"""Generations: make, watch, list, price and delete lip-sync jobs (API §3, §4)."""

import logging
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Unpack

from sync_mcp.api.account import Account
from sync_mcp.api.checks import faults_of
from sync_mcp.api.create import Creator
from sync_mcp.api.create_fields import make_request
from sync_mcp.api.downloads import fetch_file, save_file
from sync_mcp.api.estimate import estimate
from sync_mcp.api.file_size import LARGEST_BYTES
from sync_mcp.api.generation_reads import ExplainMissing, GenerationReads
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.kinds import GENERATIONS
from sync_mcp.api.looks import Looks
from sync_mcp.api.many import Calls, CreateMany, ManyRequest
from sync_mcp.api.models import (
    CostEstimate,
    Generation,
    GenerationRequest,
    Input,
    ModelName,
    RequestFields,
)
from sync_mcp.api.news import News
from sync_mcp.api.option_matrix import find_ignored_options
from sync_mcp.api.options import (
    RequestOptions,
    check_options,
    new_idempotency_key,
    take_idempotency_key,
)
from sync_mcp.api.running import OnEnd, RunningJobs
from sync_mcp.api.uploads import OnProgress
from sync_mcp.api.wait import LONG_POLL_SECONDS, Look
from sync_mcp.errors import (
    InvalidRequestError,
    NoOutput,
    SyncError,
)
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.api")

GuardedCreate = Callable[[GenerationRequest, RequestOptions | None, int], Awaitable[Generation]]
"""Makes a request once for each take."""

GuardedDelete = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Deletes a job once what it cost has been read."""

_HOLD_SECONDS = LONG_POLL_SECONDS + 5.0
_ACCOUNT_SECONDS = 15.0


class Generations(GenerationReads):
    """The generations of an account; reached as `AsyncSync.generations`."""

    def __init__(
        self,
        transport: Transport,
        creator: Creator,
        guarded: GuardedCreate | None = None,
        guarded_delete: GuardedDelete | None = None,
        explain_missing: ExplainMissing | None = None,
    ) -> None:
        super().__init__(transport, explain_missing)
        self._creator = creator
        self._guarded = guarded
        self._guarded_delete = guarded_delete

    async def create(
        self,
        *,
        model: ModelName,
        input: Sequence[Input],
        take: int = 1,
        request_options: RequestOptions | None = None,
        **fields: Unpack[RequestFields],
    ) -> Generation:
        """Start a paid job and return it as the API accepted it; `fields` are those of `RequestFields`.

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
        request = make_request(model=model, input=input, **fields)
        if self._guarded is not None:
            # Its keys follow from the request, and it says so to a caller who gives one.
            return await self._create(request, take, None, request_options)
        key, rest = take_idempotency_key(request_options)
        return await self._create(request, take, key, rest)

    async def _create(
        self, request: GenerationRequest, take: int, key: str | None, options: RequestOptions | None
    ) -> Generation:
        _check(faults_of(request))
        request.check_is_sendable()
        for option in find_ignored_options(request):
            # Logged, not raised by a filter of warnings: who moves here from the SDK gets the same job.
            logger.warning("%s", option.sentence)
        if self._guarded is not None:
            return await self._guarded(request, options, take)
        if take != 1:
            raise InvalidRequestError("take counts with a guard alone: without one each create is a new job.")
        sent_under = key or new_idempotency_key()
        book = self._creator.memory
        return await self._creator.create_as(GENERATIONS, book, sent_under, request.to_wire(), options)

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
            create=self._create,
            hold=partial(self._hold, options),
            looks=Looks(lambda: self, options),
            concurrency=lambda: self._concurrency(options),
        )
        return CreateMany(calls, requests, concurrency, options, keyed=self._guarded is None)

    def watch_many(self, on_end: OnEnd, news: News) -> RunningJobs:
        """Return what learns soon, and by few requests, of the ends of jobs that are added to it.

        It watches while its `watch` runs; `on_end` is told each end, and `news` is spread at each.
        """
        return RunningJobs(partial(self._hold, RequestOptions()), Looks(lambda: self), on_end, news)

    async def _hold(self, options: RequestOptions, id: str) -> Look:
        query = {"wait": "true", "timeout": str(LONG_POLL_SECONDS)}
        return await self._look(id, query, {**options, "timeout_in_seconds": _HOLD_SECONDS, "max_retries": 0})

    async def _concurrency(self, options: RequestOptions) -> int | None:
        try:
            account = await Account(self._transport).get(
                request_options={**options, "timeout_in_seconds": _ACCOUNT_SECONDS}
            )
        except SyncError as error:
            logger.warning("the account's concurrency cannot be read: %s", error)
            return None
        return account.concurrency

    async def estimate_cost(
        self,
        *,
        model: ModelName,
        input: Sequence[Input] = (),
        duration_seconds: float | None = None,
        fps: float | None = None,
        request_options: RequestOptions | None = None,
        **fields: Unpack[RequestFields],
    ) -> CostEstimate:
        """Return what a job is likely to cost; nothing is started or charged.

        It takes what `create` takes, and what the caller knows of the media: `duration_seconds` of the
        output, and its frames per second, 25 where nobody says. `model` and `duration_seconds` are enough.
        Figures that the API does not tell are None.
        """
        request = make_request(model=model, input=input, **fields)
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
        if not request.input and duration_seconds is None:
            raise InvalidRequestError("There is nothing to price: give input, or duration_seconds.")
        _check(faults_of(request, for_price=True))
        return await estimate(self._transport, request, duration_seconds, fps, request_options)

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
        fetch = partial(self.fetch, id, on_progress=on_progress, request_options=request_options)
        return await save_file(fetch, destination, overwrite=overwrite)

    @asynccontextmanager
    async def fetch(
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

        async with fetch_file(
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
        path = f"/v2/generations/{check_id(id)}"

        async def delete() -> None:
            await self._transport.read(Call("DELETE", path), request_options)

        await (delete() if self._guarded_delete is None else self._guarded_delete(id, delete))


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


def _check(faults: Sequence[str]) -> None:
    if faults:
        raise InvalidRequestError(faults)
