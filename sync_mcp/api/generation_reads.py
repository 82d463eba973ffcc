"""Generations as they are read: one or many, their states, their costs, and their ends (API §3, §12)."""

import builtins
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from pydantic import ValidationError

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import Generation, GenerationCost, GenerationStatus
from sync_mcp.api.options import RequestOptions, check_options
from sync_mcp.api.wait import Look, OnUpdate, wait_until_finished
from sync_mcp.errors import (
    APIResponseError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.texts import plain_id

PAGE_LIMIT = 100
"""Most generations that one page of the API's list holds."""

Turn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until the next request may go out."""

_WAIT_MODE_HEADER = "x-sync-wait-mode"
_ASKED_AT_ONCE = 10


class GenerationPage(list[Generation]):
    """A page of jobs; `unreadable` entries of the API's had no id or status and are left out."""

    def __init__(self, jobs: Iterable[Generation], *, unreadable: int) -> None:
        super().__init__(jobs)
        self.unreadable = unreadable


class GenerationReads:
    """What is read of an account's generations: it costs nothing and is safe to repeat."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.allowance = Allowance()
        """How many reads may go out for all who wait for jobs of the account."""

    async def get(
        self, id: str, *, include_progress: bool = False, request_options: RequestOptions | None = None
    ) -> Generation:
        """Return the present state of a job, with `progress_percent` only where that is asked for.

        Raises:
            NotFoundError: the account has no job by this id.
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
        filters = {
            "status": _join(status),
            "ids": _join(ids),
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
        asked: list[str] = []
        for id in dict.fromkeys(ids):
            try:
                asked.append(check_id(id))
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
                "status": _join(status),
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

    async def get_cost(self, id: str, *, request_options: RequestOptions | None = None) -> GenerationCost:
        """Return what a job really cost; the API usually knows within ten minutes of its end.

        Raises:
            NotFoundError: the account has no job by this id.
        """
        path = f"/v2/generate/{check_id(id)}/costs"
        reply = await self._transport.read(Call("GET", path), request_options)
        try:
            return GenerationCost.from_wire(reply.data)
        except ValidationError as error:
            raise APIResponseError("The API's answer is no cost.", status=reply.status) from error

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
        with one client share its `allowance` of reads.

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
            with anyio.CancelScope(deadline=ends_at):
                await self.allowance.take()
            try:
                return await self._look(checked, query, options)
            except RateLimitError as error:
                self.allowance.rest_for(error)
                raise

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


def _join(words: Sequence[str] | None) -> str:
    # One word alone is a sequence too, of letters.
    return words if isinstance(words, str) else ",".join(words or ())


def check_id(id: str) -> str:
    """Return an id that may stand in a path.

    Raises:
        InvalidRequestError: it is none.
    """
    if not plain_id(id):
        raise InvalidRequestError("A generation id has letters, digits, _ and - only: copy it whole.")
    return id
