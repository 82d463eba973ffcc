"""The bill: what the jobs of a time did cost by the API's export, and whether the ledger agrees with it."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.generation_reads import PAGE_LIMIT
from sync_mcp.api.usage import USAGE_PAGE_LIMIT, UsageItem
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import APIResponseError, InvalidRequestError, SyncError
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import Settling

logger = logging.getLogger("sync_mcp.payments")

_T = TypeVar("_T")

MOST_ROWS = 20_000
"""So many jobs of a bill are read at once."""
_ENDS_WITHIN = timedelta(days=1)
"""A job that was sent in a time may end so long after it."""
_NOTHING = Decimal(0)
_EXACT = Decimal("1e-9")
"""The ledger keeps billionths of a dollar."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What the API says of the jobs that ended in a time, the first to end first; each stands there once."""

    rows: Sequence[UsageItem]

    @property
    def total_usd(self) -> Decimal:
        """What they cost together, as far as it is known."""
        return sum((row.so_far_usd for row in self.rows), _NOTHING)

    @property
    def pending(self) -> Sequence[UsageItem]:
        """Those whose cost the API does not know yet, or not all of it."""
        return [row for row in self.rows if row.final_usd is None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A job whose cost stands in the ledger otherwise than in the bill; None where one of them has it not."""

    generation_id: str
    ledger_usd: Decimal | None
    bill_usd: Decimal | None
    entry: Entry | None = None


@dataclass(slots=True)
class Comparison:
    """The ledger beside the bill of a time."""

    bill_usd: Decimal = _NOTHING
    """All that the bill has."""
    ledger_usd: Decimal = _NOTHING
    """What the ledger had of the same jobs, and of those that are missing in the bill."""
    agreeing: int = 0
    agreeing_usd: Decimal = _NOTHING
    differing: list[Difference] = field(default_factory=list[Difference])
    missing_here: list[Difference] = field(default_factory=list[Difference])
    """Billed, and not in the ledger: made elsewhere with the same account, or before there was a ledger."""
    missing_there: list[Difference] = field(default_factory=list[Difference])
    """In the ledger, and not billed."""
    open: int = 0
    """Jobs whose cost one of the two does not know yet."""
    untold: int = 0
    """Jobs of kinds without a published price, such as speech: the bill does not tell them."""
    unresolved: int = 0
    """Creates of the time of which nobody knows whether they made a job."""

    @property
    def differences(self) -> list[tuple[str, Difference]]:
        """All of them, each with what it is."""
        return [
            *(("differing", one) for one in self.differing),
            *(("missing in the ledger", one) for one in self.missing_here),
            *(("missing in the bill", one) for one in self.missing_there),
        ]


async def read_bill(sync: AsyncSync, start: datetime, end: datetime) -> Bill:
    """Return the bill of the jobs that ended from `start` on and before `end`, read to its end.

    Raises:
        NotFoundError, PermissionDeniedError: this organization has no export.
        InvalidRequestError: there are more jobs than are read at once.
        APIResponseError: a row of it cannot be read, so that its sum would be wrong.
        SyncError: it cannot be read now.
    """
    rows: dict[str, UsageItem] = {}
    async with aclosing(sync.usage.generation_pages(start, end, limit=USAGE_PAGE_LIMIT)) as pages:
        async for page in pages:
            if page.unreadable:
                raise APIResponseError("The API's usage export has a row that cannot be read.")
            rows |= {row.generation_id or row.model_dump_json(): row for row in page.items}
            if len(rows) > MOST_ROWS:
                raise InvalidRequestError(
                    f"More than {MOST_ROWS:,} jobs ended in this time: name a shorter one."
                )
    return Bill(list(rows.values()))


async def find_projects(sync: AsyncSync, ids: Sequence[str]) -> Mapping[str, str | None]:
    """Return the project of each of these jobs, None for none; what the API does not list is left out."""
    found: dict[str, str | None] = {}
    for some in _slices(ids, PAGE_LIMIT):
        found |= {job.id: job.project_id for job in await sync.generations.list(ids=some)}
    return found


async def compare_with_bill(
    ledger: Ledger,
    settling: Settling,
    sync: AsyncSync,
    accounts: Collection[str],
    start: datetime,
    end: datetime,
) -> Comparison:
    """Hold a ledger against the bill of a time; what it did not know of a cost it learns from that.

    A cost that it had counts as it stood before. A batch is compared as one, by the rows of its generations.
    """
    bill = await read_bill(sync, start, end)
    result = Comparison(bill_usd=bill.total_usd)
    known: Mapping[str, Entry] = {}
    sent: list[Entry] = []
    if ledger.exists():
        known = await _learn(ledger, settling, sync, bill.rows)
        since = (start - _ENDS_WITHIN).timestamp()
        sent = await do_in_thread(ledger.list_sent, accounts, sync.base_url, since, end.timestamp())
    unbilled = [entry for entry in sent if entry.generation_id not in known]
    batches = await _find_batches(ledger, settling, sync, unbilled)
    parts = {id for batch in batches for id in batch.ids}
    for row in bill.rows:
        if row.generation_id not in parts:
            _place(result, row, known.get(row.generation_id or ""))
    billed = await _place_batches(result, sync, batches, bill, start, end)
    left = [one for one in unbilled if one.last_sent_at >= start.timestamp() and one.id not in billed]
    if left:
        # It may have ended after the time, and stand in the next bill.
        later = await read_bill(sync, end, end + _ENDS_WITHIN)
        _place_unbilled(result, left, {row.generation_id for row in later.rows}, ledger.store.now())
    return result


async def _learn(
    ledger: Ledger, settling: Settling, sync: AsyncSync, rows: Sequence[UsageItem]
) -> dict[str, Entry]:
    """Return what the ledger has of jobs, by their ids, with the costs that it learns now."""
    known: dict[str, Entry] = {}
    for some in _slices(rows, USAGE_PAGE_LIMIT):
        ids = [row.generation_id for row in some if row.generation_id]
        before = await do_in_thread(ledger.makers_of, ids, sync.base_url)
        await settling.settle_by_rows(sync, {}, some)
        after = await do_in_thread(ledger.makers_of, ids, sync.base_url)
        known |= after | {id: entry for id, entry in before.items() if entry.cost_usd is not None}
    return known


def _place(result: Comparison, row: UsageItem, entry: Entry | None) -> None:
    """Put a row of the bill where it belongs."""
    id, billed = row.generation_id or "", row.final_usd
    if entry is None:
        result.missing_here.append(Difference(id, None, row.so_far_usd))
        return
    held = entry.cost_usd
    result.ledger_usd += held or _NOTHING
    if billed is None or held is None:
        result.open += 1
    elif abs(billed - held) <= _EXACT:
        result.agreeing += 1
        result.agreeing_usd += billed
    else:
        result.differing.append(Difference(id, held, billed, entry))


@dataclass(frozen=True, slots=True)
class _Batch:
    """An entry whose job the bill tells by the generations in it."""

    entry: Entry
    ids: Sequence[str]


async def _find_batches(
    ledger: Ledger, settling: Settling, sync: AsyncSync, entries: Sequence[Entry]
) -> list[_Batch]:
    """Return those of these entries whose jobs are of many generations, with the costs that are known now."""
    batches: list[_Batch] = []
    for entry in entries:
        kind = KINDS.get(entry.kind)
        if kind is None or entry.generation_id is None or kind.job_kind().is_exported:
            continue
        try:
            ids = await kind.find_billed(sync, entry.generation_id, {})
            job = await kind.find(sync, entry.generation_id, {}) if ids and entry.cost_usd is None else None
            if job is not None and job.finished:
                await settling.settle_job(sync, entry, job, {})
        except SyncError as error:
            logger.info("what entry %s is billed by is not known: %s", entry.id, error)
            continue
        if ids:
            batches.append(_Batch(await do_in_thread(ledger.entry, entry.id) or entry, ids))
    return batches


async def _place_batches(
    result: Comparison, sync: AsyncSync, batches: Sequence[_Batch], bill: Bill, start: datetime, end: datetime
) -> set[int]:
    """Put batches where they belong; return the entries of those of which the bill has a row."""
    here = {row.generation_id: row for row in bill.rows}
    around = dict(here)
    if any(id not in here for batch in batches for id in batch.ids):
        # The rows of a batch end one by one, perhaps in two bills.
        for since, until in ((start - _ENDS_WITHIN, start), (end, end + _ENDS_WITHIN)):
            around |= {row.generation_id: row for row in (await read_bill(sync, since, until)).rows}
    placed: set[int] = set()
    for entry, ids in ((batch.entry, batch.ids) for batch in batches):
        own = Bill([here[id] for id in ids if id in here])
        whole = Bill([around[id] for id in ids if id in around])
        if not own.rows:
            continue
        placed.add(entry.id)
        held, billed = entry.cost_usd, whole.total_usd
        if held is not None:
            # What another bill has of it is compared there.
            result.ledger_usd += held - (billed - own.total_usd)
        if held is None or whole.pending or len(whole.rows) < len(ids):
            result.open += 1
        elif abs(billed - held) <= _EXACT:
            result.agreeing += len(own.rows)
            result.agreeing_usd += own.total_usd
        else:
            result.differing.append(Difference(str(entry.generation_id), held, billed, entry))
    return placed


def _place_unbilled(
    result: Comparison, entries: Sequence[Entry], in_next: Collection[str | None], now: float
) -> None:
    """Put what was sent in the time and the bill lacks where it belongs."""
    for entry in entries:
        if entry.is_unresolved(now):
            result.unresolved += 1
        elif entry.generation_id is None or entry.generation_id in in_next or entry.charged == "no":
            continue
        elif entry.kind in KINDS and not KINDS[entry.kind].is_priced:
            result.untold += 1
        elif entry.state == "accepted" or entry.cost_usd is None:
            result.open += 1
        elif entry.cost_usd:
            result.ledger_usd += entry.cost_usd
            result.missing_there.append(Difference(entry.generation_id, entry.cost_usd, None, entry))


def _slices(rows: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
