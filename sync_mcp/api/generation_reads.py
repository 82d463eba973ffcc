"""Generations as they are read: one or many, their states, their costs, and their ends (API §3, §12)."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import anyio

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.models import Generation, GenerationCost, GenerationStatus
from sync_mcp.api.options import RequestOptions, check_options
from sync_mcp.api.wait import Look, OnUpdate, Wait
from sync_mcp.errors import (
    InvalidRequestError,
    LedgerError,
    NotFoundError,
    RateLimitError,
    SyncError,
)

PAGE_LIMIT = 100
"""Most generations that one page of the API's list holds."""

ExplainMissing: TypeAlias = Callable[[str], Awaitable[SyncError | None]]
"""Returns what a guard knows of a job that the API does not show; None where it knows nothing."""

_WAIT_MODE_HEADER = "x-sync-wait-mode"


class GenerationPage(list[Generation]):
    """A page of jobs; `unreadable` entries of the API's had no id or status and are left out."""

    def __init__(self, jobs: Iterable[Generation], *, unreadable: int) -> None:
        super().__init__(jobs)
        self.unreadable = unreadable


class GenerationReads:
    """What is read of an account's generations: it costs nothing and is safe to repeat."""

    def __init__(self, transport: Transport, explain_missing: ExplainMissing | None = None) -> None:
        self._transport = transport
        self._explain_missing = explain_missing
        self.allowance = Allowance()
        """How many reads may go out for all who wait for jobs of the account."""

    async def get(
        self, id: str, *, include_progress: bool = False, request_options: RequestOptions | None = None
    ) -> Generation:
        """Return the present state of a job, with `progress_percent` only where that is asked for.

        Raises:
            NotFoundError: the account has no job by this id.
            NotVisibleYet: the guard has made it, and the API does not show it.
        """
        query = {"include": "progress"} if include_progress else {}
        look = await self._look(check_id(id), query, request_options)
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
        page = await self._page(status, ids, project_id, limit, cursor, request_options)
        return GenerationPage(page[:limit], unreadable=page.unreadable)

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
            page = await self._page(status, None, project_id, PAGE_LIMIT, cursor, request_options)
            fresh = [generation for generation in page if generation.id not in seen]
            for generation in fresh:
                seen.add(generation.id)
                yield generation
            # An API that ignored the cursor would otherwise be read for ever.
            if len(page) + page.unreadable < PAGE_LIMIT or not fresh:
                return
            cursor = page[-1].id

    async def _page(
        self,
        status: Sequence[GenerationStatus] | None,
        ids: Sequence[str] | None,
        project_id: str | None,
        limit: int,
        cursor: str | None,
        options: RequestOptions | None,
    ) -> GenerationPage:
        filters = {
            "status": _join(status),
            "ids": _join(ids),
            "projectId": project_id,
            "limit": str(limit),
            "cursor": cursor,
        }
        query = {name: value for name, value in filters.items() if value}
        reply = await self._transport.read(Call("GET", "/v2/generations", query=query, is_list=True), options)
        jobs, unreadable = reply.read_list(Generation, "list of generations")
        return GenerationPage(jobs, unreadable=unreadable)

    async def count(
        self,
        *,
        status: Sequence[GenerationStatus] | None = None,
        type: Literal["playground", "api"] | str | None = None,
        source: str | None = None,
        generation_source: str | None = None,
        current_user_only: bool = False,
        request_options: RequestOptions | None = None,
    ) -> int:
        """Return how many jobs there are, of these statuses, of this type, or from this source (API §3.6)."""
        filters = {
            "status": _join(status),
            "type": type,
            "source": source,
            "generationSource": generation_source,
            "currentUserOnly": "true" if current_user_only else None,
        }
        query = {name: value for name, value in filters.items() if value}
        reply = await self._transport.read(Call("GET", "/v2/generations/count", query=query), request_options)
        return reply.read_count("count")

    async def get_cost(self, id: str, *, request_options: RequestOptions | None = None) -> GenerationCost:
        """Return what a job really cost; the API usually knows within ten minutes of its end.

        Raises:
            NotFoundError: the account has no job by this id.
        """
        path = f"/v2/generate/{check_id(id)}/costs"
        reply = await self._transport.read(Call("GET", path), request_options)
        return reply.read_as(GenerationCost, "cost")

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
        Cancelling the wait leaves the job alone. Passing faults of the network are waited out. All who wait
        with one client share its `allowance` of reads: what one of them is told by a 429 holds for all.

        Raises:
            NotFoundError, AuthenticationError, ...: the API's answer, where waiting cannot change it.
        """
        checked = check_id(id)
        own: RequestOptions = {"max_retries": 0, **(request_options or {})}
        check_options(own)
        ends_at = anyio.current_time() + (math.inf if timeout_seconds is None else timeout_seconds)

        async def look(query: Mapping[str, str], seconds: float) -> Look:
            options: RequestOptions = {**own}
            options["timeout_in_seconds"] = min(seconds, options.get("timeout_in_seconds", seconds))
            # Whoever has no time left for a turn reads once all the same: nobody is sent away with nothing.
            with anyio.CancelScope(deadline=ends_at) as patience:
                await self.allowance.take()
            if patience.cancelled_caught and self.allowance.rests_for is not None:
                raise self.allowance.rests_for
            try:
                return await self._look(checked, query, options)
            except RateLimitError as error:
                self.allowance.rest_for(error)
                raise

        return await Wait(look, ends_at, on_update).run()

    async def _explain(self, id: str, error: NotFoundError) -> SyncError:
        """Return what a guard knows of a job that the API does not show, else the API's own word."""
        if self._explain_missing is None:
            return error
        try:
            return await self._explain_missing(id) or error
        except LedgerError:
            return error

    async def _look(self, id: str, query: Mapping[str, str], options: RequestOptions | None) -> Look:
        try:
            reply = await self._transport.read(Call("GET", f"/v2/generate/{id}", query=query), options)
        except NotFoundError as error:
            # A job of another member of the organization is found under this path alone (API §3.5).
            try:
                reply = await self._transport.read(Call("GET", f"/v2/generations/{id}"), options)
            except NotFoundError:
                raise await self._explain(id, error) from None
        return Look(reply.read_as(Generation, "generation"), long_polled=_WAIT_MODE_HEADER in reply.headers)


def _join(words: Sequence[str] | None) -> str:
    # One word alone is a sequence too, of letters.
    return words if isinstance(words, str) else ",".join(words or ())
