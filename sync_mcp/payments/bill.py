"""The bill: what the jobs of a time did cost by the API's export, and whether the ledger agrees with it."""

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
from sync_mcp.errors import APIResponseError, InvalidRequestError
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import Settling

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

    A cost that it had counts as it stood before.
    """
    bill = await read_bill(sync, start, end)
    result = Comparison(bill_usd=bill.total_usd)
    known = await _learn(ledger, settling, sync, bill.rows) if ledger.exists() else {}
    for row in bill.rows:
        _place(result, row, known.get(row.generation_id or ""))
    if ledger.exists():
        await _add_unbilled(result, ledger, sync, accounts, start, end, billed=known.keys())
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


async def _add_unbilled(
    result: Comparison,
    ledger: Ledger,
    sync: AsyncSync,
    accounts: Collection[str],
    start: datetime,
    end: datetime,
    *,
    billed: Collection[str],
) -> None:
    """Put what the ledger has sent in the time and the bill lacks where it belongs."""
    sent = await do_in_thread(ledger.list_sent, accounts, sync.base_url, start.timestamp(), end.timestamp())
    unbilled = [entry for entry in sent if entry.generation_id not in billed]
    if not unbilled:
        return
    # It may have ended after the time, and stand in the next bill.
    later = await read_bill(sync, end, end + _ENDS_WITHIN)
    in_next = {row.generation_id for row in later.rows}
    for entry in unbilled:
        if entry.is_unresolved(ledger.store.now()):
            result.unresolved += 1
        elif entry.generation_id is None or entry.generation_id in in_next or entry.charged == "no":
            continue
        elif entry.state == "accepted" or entry.cost_usd is None:
            result.open += 1
        elif entry.cost_usd:
            result.ledger_usd += entry.cost_usd
            result.missing_there.append(Difference(entry.generation_id, entry.cost_usd, None, entry))


def _slices(rows: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
