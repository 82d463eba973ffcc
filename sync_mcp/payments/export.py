"""What the API's export of finished jobs says of an attempt whose job its list does not show."""

from datetime import UTC, datetime, timedelta

import anyio

from sync_mcp.api.create import LISTED_WITHIN_SECONDS
from sync_mcp.api.matching import is_other_model
from sync_mcp.api.usage import UsageItem
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import SyncError
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.call import LOOK_SECONDS, PaidCall
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import Settling
from sync_mcp.payments.usage_export import EXPORT_RETRY_SECONDS, EXPORT_TOLERANCE, Hindrance

_ZONE_STEP = timedelta(minutes=30)
_ZONE_STEPS = 28
"""A time whose zone is left out or told wrongly is off by whole half hours, 14 hours at most ..."""
_ZONE_TOLERANCE = timedelta(minutes=2)
"""... give or take so much."""
_OTHER_PRICE = 2
"""A job that costs so many times what was estimated, or less by as much, is another."""
_LISTED_AT_ONCE = 50


_IN_EXPORT = Hindrance("the API's export has a job that may be it and that its list does not show")
_UNCOMPARED = Hindrance(
    "the API's export has jobs that may be it, and its list cannot be asked for them now",
    EXPORT_RETRY_SECONDS,
)


async def hindrance_in_export(
    ledger: Ledger, settling: Settling, call: PaidCall[Job], entry: Entry
) -> Hindrance | None:
    """Return why an attempt is not sent again by what the export tells of the jobs that have finished.

    A job that may be the attempt's and that the list lacks stands against it; so does not to know.
    """
    since = datetime.fromtimestamp(entry.first_sent_at, UTC)
    told = await settling.read_finished_since(call.sync, call.whose, since, call.reading())
    if isinstance(told, Hindrance):
        return told
    rows = [row for row in told if _may_be(row, entry)]
    if any(not row.generation_id for row in rows):
        return _IN_EXPORT
    ids = [str(row.generation_id) for row in rows]
    known = await do_in_thread(ledger.find_known_to_others, entry.id, ids) if ids else ()
    ids = [id for id in ids if id not in known]
    with anyio.move_on_after(LOOK_SECONDS):
        for start in range(0, len(ids), _LISTED_AT_ONCE):
            some = ids[start : start + _LISTED_AT_ONCE]
            try:
                listed = await call.sync.generations.list(ids=some, request_options=call.reading())
            except SyncError:
                return _UNCOMPARED
            if not set(some) <= {job.id for job in listed}:
                return _IN_EXPORT
        return None
    return _UNCOMPARED


def _may_be(row: UsageItem, entry: Entry) -> bool:
    """Return whether a finished job may be what an attempt made, by all that the export tells of it."""
    if row.model is not None and is_other_model(entry.model, row.model):
        return False
    if row.created_at is not None and not _may_be_time_of(row.created_at, entry):
        return False
    # A cost of 0, or one that is not final, says nothing: it may be metered later.
    cost, estimate = row.final_usd, entry.estimate_usd
    return not cost or not estimate or estimate / _OTHER_PRICE <= cost <= estimate * _OTHER_PRICE


def _may_be_time_of(created_at: datetime, entry: Entry) -> bool:
    """Return whether a send of an attempt may have made a job at a time that the export tells."""
    first = datetime.fromtimestamp(entry.first_sent_at, UTC)
    last = datetime.fromtimestamp(entry.last_sent_at, UTC) + timedelta(seconds=LISTED_WITHIN_SECONDS)
    if first - EXPORT_TOLERANCE <= created_at <= last + EXPORT_TOLERANCE:
        return True
    return any(
        first - _ZONE_TOLERANCE <= created_at + step * _ZONE_STEP <= last + _ZONE_TOLERANCE
        for step in range(-_ZONE_STEPS, _ZONE_STEPS + 1)
    )
