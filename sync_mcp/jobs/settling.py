"""What jobs did cost: read from the API when it knows, with as few requests as can be.

The API's export of an account's finished jobs tells hundreds of costs in one request. Where an account does
not have it, one list tells what has ended, and each cost is asked for by itself.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Protocol, TypeVar, cast

import anyio
from anyio import to_thread

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Generation, GenerationCost
from sync_mcp.api.transport import RequestOptions
from sync_mcp.api.usage import USAGE_PAGE_LIMIT, UsageItem, UsagePage
from sync_mcp.errors import LedgerError, NotFoundError, PermissionDeniedError, SyncError
from sync_mcp.jobs.ledger import Charged, Entry, Instant, Ledger
from sync_mcp.text import safe

logger = logging.getLogger("sync_mcp.jobs")

RUNNING_STATUSES = frozenset({"PENDING", "PROCESSING"})
SETTLE_SECONDS = 6.0
"""The longest that settling holds a call up."""
_PAUSE_SECONDS = 10.0
"""How long after settling an account is left alone."""
_REQUESTS_PER_SECOND = 1.0
_REQUESTS_AT_ONCE = 10
_SETTLED_AT_ONCE = 100
_EXPORT_MARGIN = timedelta(minutes=5)
_EXPORTED_WITHIN_SECONDS = 900.0
_STRANGE_STATUS_SECONDS = 86_400.0
"""How long a job may be in a status that nobody knows before its cost is asked for as of one that ended."""
_ID_LIMIT = 128

_ResultT = TypeVar("_ResultT")


class Payer(Protocol):
    """Whose money it is."""

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...


@dataclass(slots=True)
class _Account:
    """What is remembered of settling one account."""

    settled_at: float = -_PAUSE_SECONDS
    has_export: bool = True
    requests_left: float = _REQUESTS_AT_ONCE
    counted_at: float = field(default_factory=anyio.current_time)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    def take_request(self) -> bool:
        """Return whether one more request may go into settling now, and count it."""
        now = anyio.current_time()
        gained = (now - self.counted_at) * _REQUESTS_PER_SECOND
        self.requests_left = min(float(_REQUESTS_AT_ONCE), self.requests_left + gained)
        self.counted_at = now
        if self.requests_left < 1:
            return False
        self.requests_left -= 1
        return True


def instant(sync: AsyncSync) -> Instant:
    """Return the time, by the API's clock where it was heard."""
    return Instant(sync.api_time.timestamp(), sync.has_heard_time)


class Settling:
    """Writes down how jobs ended and what they cost."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accounts: dict[tuple[str, str], _Account] = {}

    async def settle_account(
        self, sync: AsyncSync, payer: Payer, options: RequestOptions, *, is_due: bool = False
    ) -> None:
        """Write down what has ended; what cannot be read stays as it is.

        An account is settled at most every ten seconds, or where it `is_due`: because a call would be refused
        otherwise, or somebody asks for the sum. Where another call is settling it, only who is due waits.
        """
        account = self._accounts.setdefault((payer.name, payer.base_url), _Account())
        if account.lock.locked() and not is_due:
            # The API may be slow, and what it tells is written down for the next call as well.
            return
        async with account.lock:
            if not is_due and anyio.current_time() - account.settled_at < _PAUSE_SECONDS:
                return
            now = instant(sync).seconds
            entries = await self._do(
                partial(self._ledger.unsettled, payer.name, payer.base_url, _SETTLED_AT_ONCE, now)
            )
            if not entries:
                return
            account.settled_at = anyio.current_time()
            with anyio.move_on_after(SETTLE_SECONDS):
                if account.has_export:
                    await self._settle_by_export(account, sync, entries, options)
                if not account.has_export:
                    await self._settle_by_list(account, sync, entries, options)

    async def settle_failure(
        self, sync: AsyncSync, payer: Payer, entry: Entry, job: Generation, options: RequestOptions
    ) -> Charged:
        """Write down how a job ended that has no result; return whether it was charged.

        The export says when it ended, by which a cost of 0 is believed or not; the single cost does not.
        """
        await self.settle_account(sync, payer, options, is_due=True)
        now = await self._do(partial(self._ledger.entry, entry.id))
        charged, _ = await self.settle_job(sync, now or entry, job, options)
        return charged

    async def settle_job(
        self, sync: AsyncSync, entry: Entry, job: Generation, options: RequestOptions
    ) -> tuple[Charged, Decimal | None]:
        """Write down how a job ended; return whether it was charged, and what it cost where that is known."""
        if entry.state == "ended" and entry.cost_usd is not None and entry.status == job.status:
            return _charged(entry), entry.cost_usd
        try:
            cost = await sync.generations.get_cost(job.id, request_options={**options, "max_retries": 1})
        except SyncError:
            cost = GenerationCost()
        settled = await self._write(sync, entry, job.id, job.status, cost, error_code=job.error_code)
        return (_charged(settled), settled.cost_usd) if settled else (cost.charged, None)

    async def finished_since(
        self, sync: AsyncSync, payer: Payer, since: datetime, options: RequestOptions
    ) -> Sequence[UsageItem] | None:
        """Return the jobs that finished since a time, by the export; None where it cannot tell."""
        account = self._accounts.setdefault((payer.name, payer.base_url), _Account())
        if not account.has_export:
            return None
        page = await self._export_page(account, sync, since, None, options)
        return page.items if page is not None and page.next_cursor is None else None

    async def _export_page(
        self, account: _Account, sync: AsyncSync, since: datetime, cursor: str | None, options: RequestOptions
    ) -> UsagePage | None:
        """Return a page of the export, or None where it cannot be read, or not now."""
        if not account.take_request():
            return None
        try:
            return await sync.usage.generations(
                since,
                sync.api_time + _EXPORT_MARGIN,
                limit=USAGE_PAGE_LIMIT,
                cursor=cursor,
                request_options=options,
            )
        except (NotFoundError, PermissionDeniedError):
            account.has_export = False
        except SyncError as error:
            logger.warning("the export of finished jobs cannot be read: %s", error)
        return None

    async def _settle_by_export(
        self, account: _Account, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> None:
        by_id = {entry.generation_id: entry for entry in entries}
        first = datetime.fromtimestamp(min(entry.first_sent_at for entry in entries), UTC)
        cursor: str | None = None
        while True:
            page = await self._export_page(account, sync, first - _EXPORT_MARGIN, cursor, options)
            if page is None:
                return
            for row in page.items:
                status = row.generation_status
                entry = by_id.pop(row.generation_id, None) if status else None
                if entry is not None and status:
                    await self._write_quietly(sync, entry, status, row, ended_at=row.finished_at)
            if page.next_cursor is None or page.next_cursor == cursor or not by_id:
                break
            cursor = page.next_cursor
        # A job that was rejected, or has a status that nobody knows, may never be exported.
        now = instant(sync).seconds
        missing = [
            entry
            for entry in by_id.values()
            if entry.state == "accepted" and now - entry.first_sent_at > _EXPORTED_WITHIN_SECONDS
        ]
        if missing:
            await self._settle_by_list(account, sync, missing, options)

    async def _settle_by_list(
        self, account: _Account, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> None:
        if not account.take_request():
            return
        try:
            listed = await sync.generations.list(
                ids=[str(entry.generation_id) for entry in entries], request_options=options
            )
        except SyncError as error:
            logger.warning("what has ended cannot be asked: %s", error)
            return
        by_id = {job.id: job for job in listed}
        for entry in entries:
            job = by_id.get(str(entry.generation_id))
            if job is None or job.status in RUNNING_STATUSES or not account.take_request():
                continue
            try:
                await (self.settle_job if job.finished else self.settle_strange)(sync, entry, job, options)
            except LedgerError as error:
                logger.warning("generation %s cannot be settled: %s", safe(job.id, _ID_LIMIT), error)

    async def settle_strange(
        self, sync: AsyncSync, entry: Entry, job: Generation, options: RequestOptions
    ) -> None:
        """Write down the status of a job that has been in one that nobody knows for a day, and its cost."""
        if instant(sync).seconds - entry.first_sent_at >= _STRANGE_STATUS_SECONDS:
            note = partial(self._ledger.note_status, entry.id, generation_id=job.id, status=job.status)
            await self._do(note)
            try:
                cost = await sync.generations.get_cost(job.id, request_options={**options, "max_retries": 1})
            except SyncError:
                return
            if cost.final_usd is not None:
                await self._write(sync, entry, job.id, job.status, cost, error_code=job.error_code)

    async def _write_quietly(
        self, sync: AsyncSync, entry: Entry, status: str, cost: GenerationCost, *, ended_at: datetime | None
    ) -> None:
        job_id = str(entry.generation_id)
        try:
            await self._write(sync, entry, job_id, status, cost, ended_at=ended_at)
        except LedgerError as error:
            logger.warning("generation %s cannot be settled: %s", safe(job_id, _ID_LIMIT), error)

    async def _write(
        self,
        sync: AsyncSync,
        entry: Entry,
        job_id: str,
        status: str,
        cost: GenerationCost,
        *,
        error_code: str | None = None,
        ended_at: datetime | None = None,
    ) -> Entry | None:
        return await self._do(
            partial(
                self._ledger.settle,
                entry.id,
                status=status,
                generation_id=job_id,
                error_code=error_code,
                cost_usd=cost.final_usd,
                counted_usd=cost.so_far_usd,
                charged=cost.charged,
                now=instant(sync).seconds,
                ended_at=None if ended_at is None else ended_at.timestamp(),
            )
        )

    async def _do(self, work: Callable[[], _ResultT]) -> _ResultT:
        return await to_thread.run_sync(work)


def _charged(entry: Entry) -> Charged:
    return cast(Charged, entry.charged)
