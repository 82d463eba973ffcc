"""Generations: make, watch, list, price and delete lip-sync jobs (API §3, §4)."""

import builtins
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sync_mcp.api.checks import faults_of
from sync_mcp.api.create import Creator, readable_generations
from sync_mcp.api.estimate import estimate
from sync_mcp.api.models import (
    GENERATION_ID,
    CostEstimate,
    Dub,
    Generation,
    GenerationCost,
    GenerationOptions,
    GenerationRequest,
    GenerationStatus,
    Input,
    ModelName,
    Segment,
)
from sync_mcp.api.transport import Call, RequestOptions, Transport, check_options
from sync_mcp.api.wait import Look, OnUpdate, wait_until_finished
from sync_mcp.errors import (
    APIResponseError,
    InvalidRequestError,
    NotFoundError,
)

PAGE_LIMIT = 100
"""Most generations that one page of the API's list holds."""

_WAIT_MODE_HEADER = "x-sync-wait-mode"


class GenerationPage(list[Generation]):
    """A page of jobs; `unreadable` entries of the API's had no id or status and are left out."""

    def __init__(self, jobs: Iterable[Generation], *, unreadable: int) -> None:
        super().__init__(jobs)
        self.unreadable = unreadable


class Generations:
    """The generations of an account; reached as `AsyncSync.generations`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._creator = Creator(transport)

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
        request_options: RequestOptions | None = None,
    ) -> Generation:
        """Start a paid job and return it as the API accepted it.

        The request always carries an idempotency key, the caller's or a new one, and goes out again only
        under that key. Rules that are known here are checked before anything is sent.

        Raises:
            InvalidRequestError: the request breaks a known rule; nothing was sent.
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
        return await self._creator.create(request, request_options)

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Generation:
        """Return the present state of a job.

        Raises:
            NotFoundError: the account has no job by this id.
        """
        look = await self._look(_checked_id(id), {}, request_options)
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
        reply = await self._transport.read(Call("GET", "/v2/generations", query=query), options)
        if reply.entries is None:
            raise APIResponseError("The API's list of generations is no list.", status=reply.status)
        return readable_generations(reply.entries), len(reply.entries)

    async def estimate_cost(
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
        duration_seconds: float | None = None,
        fps: float | None = None,
        request_options: RequestOptions | None = None,
    ) -> CostEstimate:
        """Return what a job is likely to cost; nothing is started or charged.

        It takes what `create` takes, and what the caller knows of the media: `duration_seconds` of the
        output, and its frames per second. Figures that the API does not tell are None.
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

    async def delete(self, id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete a finished job and its output.

        Raises:
            ConflictError: the job has not ended yet; the API has no way to cancel one.
            NotFoundError: the account has no job by this id.
        """
        path = f"/v2/generations/{_checked_id(id)}"
        await self._transport.read(Call("DELETE", path), request_options)

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


def _request(
    *, input: Sequence[Input], segments: Sequence[Segment] | None, **fields: Any
) -> GenerationRequest:
    try:
        request = GenerationRequest.model_validate(
            {**fields, "input": list(input), "segments": list(segments) if segments else None}
        )
    except ValidationError as error:
        raise InvalidRequestError(
            [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}."
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None
    faults = faults_of(request)
    if faults:
        raise InvalidRequestError(faults)
    return request


def _listed(words: Sequence[str] | None) -> str:
    # One word alone is a sequence too, of letters.
    return words if isinstance(words, str) else ",".join(words or ())


def _checked_id(id: str) -> str:
    if not GENERATION_ID.fullmatch(id):
        raise InvalidRequestError("A generation id has letters, digits, _ and - only: copy it whole.")
    return id
