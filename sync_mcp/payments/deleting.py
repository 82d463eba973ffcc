"""Deletions: what a job cost is read before it is gone, and stays spent after."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.generation_reads import PAGE_LIMIT
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import SyncError
from sync_mcp.payments.accounts import Accounts
from sync_mcp.payments.call import LOOK_SECONDS
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import Settling, instant

logger = logging.getLogger("sync_mcp.payments")

_AT_ONCE = 4
"""So many jobs are asked about or deleted at the same time."""


class Deleting:
    """Deletes jobs that the ledger may know."""

    def __init__(self, ledger: Ledger, settling: Settling, accounts: Accounts) -> None:
        self._ledger = ledger
        self._settling = settling
        self._accounts = accounts

    async def delete_job(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete one job by `delete`.

        Raises:
            LedgerError: the ledger cannot be written; nothing was deleted.
            SyncError: as of a delete without a guard.
        """
        entries = await self._find(sync, [id])
        if id in entries:
            job = await sync.generations.get(id, request_options=_options())
            await self._settle(sync, entries, [job])
        await delete()
        await self._note(sync, entries)

    async def delete_jobs(
        self, sync: AsyncSync, jobs: Sequence[Generation]
    ) -> Mapping[str, SyncError | None]:
        """Delete jobs that have ended; return what came of each by its id, None where it is gone.

        Raises:
            LedgerError: the ledger cannot be read or written; of what it knows nothing was deleted.
        """
        entries = await self._find(sync, [job.id for job in jobs])
        await self._settle(sync, entries, jobs)
        outcomes: dict[str, SyncError | None] = {}

        async def delete(job: Generation) -> None:
            try:
                await sync.generations.delete(job.id)
            except SyncError as error:
                outcomes[job.id] = error
                return
            outcomes[job.id] = None
            if job.id in entries:
                await self._note(sync, {job.id: entries[job.id]})

        await _for_each(jobs, delete)
        return outcomes

    async def delete_project(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a project by `delete`, and with it the jobs in it.

        Raises:
            LedgerError: the ledger cannot be written; nothing was deleted.
            SyncError: the project's jobs cannot be listed; nothing was deleted. Or as without a guard.
        """
        known: dict[str, Entry] = {}
        if self._ledger.exists():
            async for page in _pages(sync.generations.iterate(project_id=id)):
                entries = await self._find(sync, [job.id for job in page])
                await self._settle(sync, entries, page)
                known |= entries
        await delete()
        # An API that keeps the jobs of a deleted project shows them still (API §10 tells both).
        for ids in _slices(list(known)):
            try:
                kept = {job.id for job in await sync.generations.list(ids=ids)}
            except SyncError as error:
                # The project is gone; a create that looks for one of its jobs learns what became of it.
                logger.warning("which jobs went with a project is not known: %s", error)
                continue
            await self._note(sync, {id: known[id] for id in ids if id not in kept})

    async def _find(self, sync: AsyncSync, ids: Sequence[str]) -> dict[str, Entry]:
        """Return the entries that made these jobs, by the jobs' ids, where the ledger knows them."""
        if not ids or not self._ledger.exists():
            return {}
        makers = await do_in_thread(self._ledger.makers_of, ids, sync.base_url)
        return {id: entry for id, entry in makers.items() if entry.generation_id == id}

    async def _settle(
        self, sync: AsyncSync, entries: Mapping[str, Entry], jobs: Sequence[Generation]
    ) -> None:
        """Write down how jobs ended and what they cost, as far as the API tells it."""
        ended = [job for job in jobs if job.finished and job.id in entries]
        if sum(entries[job.id].cost_usd is None for job in ended) > 1:
            # One page of the export tells of all of them.
            account = await self._accounts.get(sync)
            await self._settling.settle_account(sync, account, _options(), is_due=True)
            entries = await self._find(sync, [job.id for job in ended])

        async def settle(job: Generation) -> None:
            await self._settling.settle_job(sync, entries[job.id], job, _options())

        await _for_each([job for job in ended if job.id in entries], settle)

    async def _note(self, sync: AsyncSync, entries: Mapping[str, Entry]) -> None:
        now = instant(sync).seconds
        for id, entry in entries.items():
            await do_in_thread(partial(self._ledger.delete_job, entry.id, generation_id=id, now=now))


def _options() -> RequestOptions:
    return {"timeout_in_seconds": LOOK_SECONDS}


async def _for_each(jobs: Sequence[Generation], do: Callable[[Generation], Awaitable[None]]) -> None:
    """Do something with each job, a few at a time; the first failure ends it."""
    failures: list[SyncError] = []
    turns = anyio.CapacityLimiter(_AT_ONCE)

    async def in_turn(job: Generation) -> None:
        async with turns:
            if failures:
                return
            try:
                await do(job)
            except SyncError as error:
                failures.append(error)

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(in_turn, job)
    if failures:
        raise failures[0]


async def _pages(jobs: AsyncIterator[Generation]) -> AsyncIterator[list[Generation]]:
    page: list[Generation] = []
    async for job in jobs:
        page.append(job)
        if len(page) == PAGE_LIMIT:
            yield page
            page = []
    if page:
        yield page


def _slices(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + PAGE_LIMIT] for start in range(0, len(ids), PAGE_LIMIT)]
