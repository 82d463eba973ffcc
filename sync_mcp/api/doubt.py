"""The search for the job of a create of unknown outcome: by the API's name for it, and in the API's list."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic
from urllib.parse import quote

import anyio

from sync_mcp.api.book import Claim, Create, MemoryBook
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.kinds import JobKind, JobList, JobT
from sync_mcp.api.listing import Reading
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.replies import Reply
from sync_mcp.api.retry import Budget
from sync_mcp.errors import APIResponseError, DoubtReason, SyncError, is_unknown_id
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.api")

SEARCH_SECONDS = 8.0
"""The longest that one question of the search may take; a create leaves itself as much time for it."""
_PAGE = 100
_PAGES_SEARCHED = 100
"""Of a busy account, whose pages may be short."""
_PAGES_SEARCHED_OF_ANY_AGE = 5
"""Where the job may be as old as the account, there is no end to come to."""
_PAGE_TRIES = 2
_PAGE_PAUSE_SECONDS = 0.5
_PAGES_THAT_SHIFT = 3
"""After so many pages the first one may have changed."""
_LAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Finding(Generic[JobT]):
    """What a search brought: the job, or the reason why it did not."""

    found: JobT | None = None
    reason: DoubtReason = "not_found"
    failure: str = ""
    """Why the API could not be asked."""
    maybe_ids: Sequence[str] = ()


class Search(Generic[JobT]):
    """The search for one create's job; it may be made several times, and remembers what may be the job."""

    def __init__(
        self,
        kind: JobKind[JobT],
        transport: Transport,
        memory: MemoryBook,
        create: Create,
        budget: Budget,
        options: RequestOptions,
    ) -> None:
        self._kind = kind
        self._transport = transport
        self._memory = memory
        self._create = create
        self._budget = budget
        self._options = options

    async def run(self) -> Finding[JobT]:
        """Look for the job by the name that the API gave it, and in the API's list."""
        failure = ""
        named: JobT | DoubtReason | None = None
        try:
            named = await self._find_named()
            found = named if named is not None and not isinstance(named, str) else None
            if found is None and self._kind.listed is not None:
                found = await self._find_listed(self._kind.listed)
            if found is not None:
                self._memory.note_made(self._create, found.id)
                return Finding(found)
        except SyncError as error:
            logger.warning("create key=%s: the job cannot be searched for: %s", self._create.key, error)
            failure = error.message
        maybe_ids = await self._maybe_ids()
        if isinstance(named, str) and not self._create.sends.may_go_despite_named:
            return Finding(reason=named, maybe_ids=maybe_ids)
        if maybe_ids:
            return Finding(reason="maybe_seen", maybe_ids=maybe_ids)
        if failure:
            return Finding(reason="list_unreadable", failure=failure)
        if self._kind.listed is not None:
            return Finding()
        return Finding(reason="untraceable" if self._kind.leaves_no_trace else "no_list")

    async def _find_named(self) -> JobT | DoubtReason | None:
        """Return the job that the API named, or why it is not taken; None where it named none."""
        if self._create.sends.named_id is None:
            return None
        if not plain_id(self._create.sends.named_id):
            return "named_not_visible"
        reply = await self._ask(f"{self._kind.path}/{quote(self._create.sends.named_id, safe='')}", {})
        if is_unknown_id(reply.status):
            return "named_not_visible"
        found = self._kind.model.list_from_wire([reply.data]) if reply.ok else []
        if not found:
            raise self._transport.error_from(reply)
        job = found[0]
        if job.id != self._create.sends.named_id:
            raise APIResponseError(f"The API was asked for one {self._kind.name} and shows another.")
        claim = await self._claim(job) if self._create.match(job) != "no" else "another's"
        if claim == "unclear":
            self._create.sends.maybes[job.id] = job
            return "maybe_seen"
        return job if claim == "mine" else "named_is_anothers"

    async def _find_listed(self, listed: JobList) -> JobT | None:
        """Return the job where the API's list shows it; what may be it is noted.

        Raises:
            SyncError: the list cannot be read as far as the job may stand in it.
        """
        if listed.count_path is None:
            since = self._create.earliest.isoformat(timespec="seconds").replace("+00:00", "Z")
            page, length = await self._entries(listed, {listed.since: since} if listed.since else {})
            if len(page) < length:
                raise APIResponseError("The API's list has an entry that cannot be read.")
            return await self._own_of([await self._with_more(listed, job) for job in page])
        reading = Reading()
        is_readable = True
        while reading.state == "goes on":
            if reading.pages >= self._most_pages:
                raise APIResponseError(f"The API's list goes on after {reading.pages} pages.")
            page, length = await self._next_page(listed, reading)
            is_readable = is_readable and len(page) == length
            found = await self._own_of(reading.add(page, self._create.earliest))
            if found is not None:
                return found
        if not is_readable:
            raise APIResponseError("The API's list has an entry that cannot be read.")
        if reading.state == "stuck" and await self._count(listed.count_path) != reading.length:
            raise APIResponseError("The API's list repeats itself, and has more jobs than it shows.")
        if reading.pages >= _PAGES_THAT_SHIFT:
            page, _ = await self._page(listed, {})
            return await self._own_of(reading.add(page, self._create.earliest))
        return None

    async def _with_more(self, listed: JobList, job: JobT) -> JobT:
        """Return a job with what its list does not show, where it may be this one's."""
        if listed.read_more is None or self._create.match(job) != "maybe":
            return job
        options: RequestOptions = {"timeout_in_seconds": max(_LAST_SECONDS, self._budget.seconds_left)}
        more = await listed.read_more(self._transport, job.to_wire(), options)
        return self._kind.model.from_wire({**job.to_wire(), **more})

    async def _own_of(self, jobs: Sequence[JobT]) -> JobT | None:
        """Return which of these jobs this create made; note those that it may have made."""
        for job in jobs:
            verdict = self._create.match(job)
            claim = await self._claim(job) if verdict == "yes" else "unclear"
            if verdict == "no" or claim == "another's":
                self._create.sends.maybes.pop(job.id, None)
            elif claim == "mine":
                return job
            else:
                self._create.sends.maybes[job.id] = job
        return None

    async def _claim(self, job: JobT) -> Claim:
        """Return whose job it is that looks like this create's."""
        patience = self._budget.seconds_left - _LAST_SECONDS
        return await self._create.book.claim(self._create, job, patience)

    async def _maybe_ids(self) -> Sequence[str]:
        """Return the jobs seen that may be this one's, as far as nobody knows whose they are."""
        create = self._create
        ids = [name for name, job in create.sends.maybes.items() if create.match(job) != "no"]
        if not ids:
            return ids
        try:
            known = await create.book.find_others(create, ids)
        except SyncError as error:
            logger.warning("create key=%s: the book cannot be asked: %s", create.key, error)
            return ids
        return [name for name in ids if name not in known]

    async def _next_page(self, listed: JobList, reading: Reading) -> tuple[list[JobT], int]:
        query = {"cursor": reading.cursor} if reading.cursor else {}
        # What was read before would have to be read again: a later page is worth some tries.
        for _ in range(_PAGE_TRIES if reading.pages else 0):
            try:
                return await self._page(listed, query)
            except SyncError as error:
                seconds = error.retry_after_seconds or _PAGE_PAUSE_SECONDS
                if not error.retryable or seconds + _LAST_SECONDS > self._budget.seconds_left:
                    raise
            await anyio.sleep(seconds)
        return await self._page(listed, query)

    async def _page(self, listed: JobList, query: Mapping[str, str]) -> tuple[list[JobT], int]:
        """Return a page of the API's list, and how many entries it has, readable or not."""
        return await self._entries(listed, {"limit": str(_PAGE), **query})

    async def _entries(self, listed: JobList, query: Mapping[str, str]) -> tuple[list[JobT], int]:
        reply = await self._ask(listed.path, query, is_list=True)
        if not reply.ok or reply.entries is None:
            raise self._transport.error_from(reply)
        told = reply.server_time
        if told is not None:
            # The times in the list are the API's own, and this machine's clock may be wrong.
            self._create.api_is_ahead = told - datetime.now(UTC)
        return self._kind.model.list_from_wire(reply.entries), len(reply.entries)

    async def _count(self, path: str) -> object:
        """Return how many jobs the API says there are."""
        reply = await self._ask(path, {})
        return reply.fields.get("count") if reply.ok else None

    async def _ask(self, path: str, query: Mapping[str, str], *, is_list: bool = False) -> Reply:
        # The caller's headers too: they may say in which organization the job is made.
        options: RequestOptions = {"additional_headers": self._options.get("additional_headers", {})}
        call = Call("GET", path, query=query, is_list=is_list)
        return await self._transport.send(call, self._budget, options, send_seconds=SEARCH_SECONDS)

    @property
    def _most_pages(self) -> int:
        return _PAGES_SEARCHED_OF_ANY_AGE if self._create.sends.was_received else _PAGES_SEARCHED
