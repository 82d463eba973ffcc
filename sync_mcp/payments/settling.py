"""What jobs did cost: read from the API when it knows, with as few requests as can be.

The API's export of an account's finished jobs tells hundreds of costs in one request. Where an account does
not have it, one list tells what has ended, and each cost is asked for by itself.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import GenerationCost
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.usage import UsageItem
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LedgerError, SyncError
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.attempt import Account, Instant
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.metering import believe_end
from sync_mcp.payments.rows import Charged, Entry
from sync_mcp.payments.settling_pace import SettledAccount
from sync_mcp.payments.told import has_lasted, is_end, is_final, may_have_ended
from sync_mcp.payments.usage_export import (
    Hindrance,
    has_no_export,
    read_all_since,
    read_first_page,
    read_pages,
)
from sync_mcp.texts import ID_LIMIT, safe

logger = logging.getLogger("sync_mcp.payments")

SETTLE_SECONDS = 6.0
"""The longest that settling holds a call up."""
_PAUSE_SECONDS = 10.0
_REQUESTS_OF_A_TURN = 2
"""A page of the export, and the cost of the one job."""
_TURN_SECONDS = 5.0
"""How long after settling an account is left alone."""
_SETTLED_AT_ONCE = 100
_LEFT_OPEN_AT_ONCE = 5
"""Of what stayed open for more than a day, so many are asked for one by one in each settling."""
_EXPORT_MARGIN = timedelta(minutes=5)
_EXPORTED_WITHIN_SECONDS = 900.0


def instant(sync: AsyncSync) -> Instant:
    """Return the time, by the API's clock where it was heard."""
    return Instant(sync.api_time.timestamp(), sync.has_heard_time)


class Settling:
    """Writes down how jobs ended and what they cost."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accounts: dict[tuple[str, str], SettledAccount] = {}

    async def settle_account(
        self, sync: AsyncSync, whose: Account, options: RequestOptions, *, is_due: bool = False
    ) -> None:
        """Write down what has ended; what cannot be read stays as it is.

        An account is settled at most every ten seconds, or where it `is_due`: because a call would be refused
        otherwise, or somebody asks for the sum. Where another call is settling it, only who is due waits.
        """
        account = self.account_of(whose)
        if account.lock.locked() and not is_due:
            # The API may be slow, and what it tells is written down for the next call as well.
            return
        async with account.lock:
            if not is_due and anyio.current_time() - account.settled_at < _PAUSE_SECONDS:
                return
            asked = (whose.name, whose.base_url, _SETTLED_AT_ONCE, instant(sync).seconds)
            # What another version has made of a kind of its own is left to it.
            recent = await do_in_thread(self._ledger.list_unsettled, *asked)
            entries = [entry for entry in recent if entry.kind in KINDS]
            every = await do_in_thread(self._ledger.list_left_open, *asked)
            left_open = [entry for entry in every if entry.kind in KINDS and not account.is_put_off(entry.id)]
            if not entries and not left_open:
                return
            account.settled_at = anyio.current_time()
            with anyio.move_on_after(SETTLE_SECONDS):
                if entries:
                    await self._settle_recent(account, sync, entries, options)
                # What they take is what the newer ones leave of the requests.
                if left_open:
                    await self._settle_left_open(account, sync, left_open, options)

    async def await_turn(self, whose: Account, seconds: float) -> None:
        """Wait until a create can learn what an earlier job cost: it would ask needlessly otherwise."""
        await self.account_of(whose).await_requests(_REQUESTS_OF_A_TURN, min(seconds, _TURN_SECONDS))

    async def settle_failure(
        self, sync: AsyncSync, whose: Account, entry: Entry, job: Job, options: RequestOptions
    ) -> Charged:
        """Write down how a job ended that has no result; return whether it was charged.

        The export says when it ended, by which a cost of 0 is believed or not; the single cost does not.
        Where no more may be asked for now, it is what the ledger knows.
        """
        if is_final(entry, job):
            return entry.charged
        await self.settle_account(sync, whose, options, is_due=True)
        now = await do_in_thread(self._ledger.entry, entry.id)
        return await self.settle_job(sync, now or entry, job, options, whose=whose)

    async def settle_job(
        self,
        sync: AsyncSync,
        entry: Entry,
        job: Job,
        options: RequestOptions,
        *,
        whose: Account | None = None,
    ) -> Charged:
        """Write down how a job ended and what it cost; return whether it was charged.

        The request counts among those that may go into settling the account; without one it is asked
        whatever was asked before.
        """
        if entry.kind not in KINDS:
            # Another version has made it, and knows what it is.
            return entry.charged
        status = KINDS[entry.kind].status_of(job)
        if is_final(entry, job):
            return entry.charged
        may_ask = whose is None or self.account_of(whose).take_request()
        cost = (await self._cost(sync, entry, options) if may_ask else None) or GenerationCost()
        settled = await self._write(sync, entry, job.id, status, cost, error_code=job.error_code)
        return settled.charged if settled else cost.charged

    async def settle_contradicted(
        self,
        sync: AsyncSync,
        whose: Account,
        shown: Sequence[tuple[Entry, Job]],
        options: RequestOptions,
    ) -> None:
        """Write down how jobs ended that the API shows otherwise than the ledger has them, and the costs."""
        account = self.account_of(whose)
        with anyio.move_on_after(SETTLE_SECONDS):
            for entry, job in shown:
                if entry.kind not in KINDS:
                    continue
                cost = await self._cost(sync, entry, options) if account.take_request() else None
                status = KINDS[entry.kind].status_of(job)
                await self._write_quietly(sync, entry, status, cost or GenerationCost())

    async def read_finished_since(
        self, sync: AsyncSync, whose: Account, since: datetime, options: RequestOptions
    ) -> Sequence[UsageItem] | Hindrance:
        """Return the jobs that finished since a time, by the export, or why they are not known.

        Where the API has no export there are no such jobs.
        It is read whatever was asked of the API before: what it tells decides whether a create is paid again.
        """
        return await read_all_since(self.account_of(whose), sync, since, options)

    def account_of(self, whose: Account) -> SettledAccount:
        """Return what is remembered of settling an account, and how much may be read for it."""
        return self._accounts.setdefault((whose.name, whose.base_url), SettledAccount())

    async def _settle_recent(
        self, account: SettledAccount, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> None:
        listed = [entry for entry in entries if KINDS[entry.kind].job_kind().is_exported]
        if listed and not (
            account.has_export and await self._settle_by_export(account, sync, listed, options)
        ):
            await self._settle_by_list(account, sync, listed, options)
        await self._settle_singly(account, sync, [entry for entry in entries if entry not in listed], options)

    async def _settle_by_export(
        self, account: SettledAccount, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> bool:
        """Settle what the export tells; return whether there is one."""
        by_id = {entry.generation_id: entry for entry in entries}
        first = datetime.fromtimestamp(min(entry.first_sent_at for entry in entries), UTC)
        is_last = False
        async with aclosing(read_pages(account, sync, first - _EXPORT_MARGIN, options)) as pages:
            while by_id and not is_last:
                if not account.take_request():
                    return True
                try:
                    page = await anext(pages)
                except SyncError as error:
                    return not has_no_export(error)
                await self.settle_by_rows(sync, by_id, page.items)
                is_last = page.next_cursor is None
        # A job that was rejected, or has a status that nobody knows, may never be exported.
        now = instant(sync).seconds
        missing = [
            entry
            for entry in by_id.values()
            if entry.state == "accepted" and now - entry.first_sent_at > _EXPORTED_WITHIN_SECONDS
        ]
        if missing:
            await self._settle_by_list(account, sync, missing, options)
        return True

    async def settle_by_rows(
        self, sync: AsyncSync, by_id: dict[str | None, Entry], rows: Sequence[UsageItem]
    ) -> None:
        """Write down what rows of the export tell, and take out those of these entries that have ended.

        What they tell of other entries, settled ones too, was asked for anyway.
        """
        ids = [row.generation_id for row in rows if row.generation_id]
        try:
            known = await do_in_thread(self._ledger.makers_of, ids, sync.base_url) if ids else {}
        except LedgerError as error:
            logger.warning("what the export tells cannot be written down: %s", error)
            return
        for row in rows:
            entry = known.get(row.generation_id or "")
            if entry is None or entry.kind not in KINDS or not row.generation_status:
                continue
            if await self._settle_by_row(sync, entry, row, row.generation_status):
                by_id.pop(entry.generation_id, None)

    async def _settle_by_row(self, sync: AsyncSync, entry: Entry, row: UsageItem, status: str) -> bool:
        """Write down what a row of the export tells of an entry; return whether its job has ended by it.

        A status that is no end ends nothing. One that nobody knows does so after a day, with its cost.
        """
        costs_more = row.so_far_usd > entry.counted_usd
        ended_at = believe_end(
            row,
            sent_from=entry.first_sent_at,
            sent_until=entry.last_sent_at,
            now=instant(sync).seconds,
        )
        if entry.state == "accepted" and not is_end(status):
            with _quietly(entry):
                return await self._note_no_end(sync, entry, status, row, ended_at=ended_at)
            return False
        if not is_end(status) and status != entry.status:
            if costs_more:
                await self._write_quietly(sync, entry, entry.status or status, row)
            return False
        if entry.cost_usd is None or status != entry.status or costs_more:
            await self._write_quietly(sync, entry, status, row, ended_at=ended_at)
        return True

    async def _settle_left_open(
        self, account: SettledAccount, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> None:
        """Settle what stayed open for more than a day: by one page of the export, then a few one by one.

        The page begins with the oldest of them. Those are put off, so that the next time begins with others.
        """
        first = entries[:_LEFT_OPEN_AT_ONCE]
        for entry in first:
            # Before anything is asked: an API that never answers must not be asked the same each time.
            account.put_entry_off(entry.id)
        by_id = {entry.generation_id: entry for entry in entries if KINDS[entry.kind].job_kind().is_exported}
        await self._settle_singly(
            account, sync, [entry for entry in first if entry.generation_id not in by_id], options
        )
        if by_id and account.has_export and account.take_request():
            since = datetime.fromtimestamp(first[0].first_sent_at, UTC) - _EXPORT_MARGIN
            rows = await read_first_page(account, sync, since, options)
            await self.settle_by_rows(sync, by_id, rows)
        missing = [entry for entry in first if entry.generation_id in by_id]
        # Whether these have ended is not known.
        unknown = [entry for entry in missing if entry.state == "accepted" or entry.status is None]
        if unknown:
            await self._settle_by_list(account, sync, unknown, options)
        for entry in missing:
            if entry in unknown or not account.take_request():
                continue
            cost = await self._cost(sync, entry, options)
            if cost is not None:
                told = cost.generation_status
                status = told if told and is_end(told) else str(entry.status)
                await self._write_quietly(sync, entry, status, cost)

    async def _settle_by_list(
        self, account: SettledAccount, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
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
            if job is not None and may_have_ended(entry, job) and account.take_request():
                await self._settle_as_seen(sync, entry, job, options)

    async def _settle_singly(
        self, account: SettledAccount, sync: AsyncSync, entries: Sequence[Entry], options: RequestOptions
    ) -> None:
        """Settle jobs of kinds that the API neither lists nor exports."""
        for entry in entries:
            if not account.take_request():
                return
            try:
                job = await KINDS[entry.kind].find(sync, str(entry.generation_id), options)
            except SyncError as error:
                logger.warning("whether entry %s has ended cannot be asked: %s", entry.id, error)
                continue
            if job is not None and may_have_ended(entry, job):
                await self._settle_as_seen(sync, entry, job, options)

    async def _settle_as_seen(self, sync: AsyncSync, entry: Entry, job: Job, options: RequestOptions) -> None:
        with _quietly(entry):
            await (self.settle_job if job.finished else self.settle_strange)(sync, entry, job, options)

    async def settle_strange(
        self,
        sync: AsyncSync,
        entry: Entry,
        job: Job,
        options: RequestOptions,
        *,
        whose: Account | None = None,
    ) -> None:
        """Write down the status of a job that has been in one that nobody knows for a day, and its cost.

        The request counts as that of `settle_job` does.
        """
        if has_lasted(entry, instant(sync).seconds) and not is_final(entry, job):
            may_ask = whose is None or self.account_of(whose).take_request()
            cost = (await self._cost(sync, entry, options) if may_ask else None) or GenerationCost()
            await self._note_no_end(sync, entry, job.status, cost, error_code=job.error_code)

    async def _note_no_end(
        self,
        sync: AsyncSync,
        entry: Entry,
        status: str,
        cost: GenerationCost,
        *,
        error_code: str | None = None,
        ended_at: float | None = None,
    ) -> bool:
        """Write down what is told of an accepted job whose status is no end; return whether it ended by it.

        A status that nobody knows is written down after a day; with a final cost the job has ended then.
        """
        job_id = str(entry.generation_id)
        runs = status in KINDS[entry.kind].running_statuses
        is_strange = not runs and has_lasted(entry, instant(sync).seconds)
        if is_strange or cost.so_far_usd > entry.counted_usd:
            told = status if is_strange else None
            note = partial(self._ledger.note_status, entry.id, generation_id=job_id, status=told)
            await do_in_thread(partial(note, counted_usd=cost.so_far_usd))
        if not is_strange or cost.final_usd is None:
            return False
        await self._write(sync, entry, job_id, status, cost, error_code=error_code, ended_at=ended_at)
        return True

    async def _cost(self, sync: AsyncSync, entry: Entry, options: RequestOptions) -> GenerationCost | None:
        """Return what a job did cost as the API tells it, or None where it cannot be asked now."""
        return await KINDS[entry.kind].cost_of(sync, str(entry.generation_id), options)

    async def _write_quietly(
        self,
        sync: AsyncSync,
        entry: Entry,
        status: str,
        cost: GenerationCost,
        *,
        ended_at: float | None = None,
    ) -> None:
        with _quietly(entry):
            await self._write(sync, entry, str(entry.generation_id), status, cost, ended_at=ended_at)

    async def _write(
        self,
        sync: AsyncSync,
        entry: Entry,
        job_id: str,
        status: str,
        cost: GenerationCost,
        *,
        error_code: str | None = None,
        ended_at: float | None = None,
    ) -> Entry | None:
        return await do_in_thread(
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
                ended_at=ended_at,
            )
        )


@contextmanager
def _quietly(entry: Entry) -> Generator[None]:
    """Log that an entry cannot be written, and go on."""
    try:
        yield
    except LedgerError as error:
        logger.warning("job %s cannot be settled: %s", safe(str(entry.generation_id), ID_LIMIT), error)
