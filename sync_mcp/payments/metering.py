"""What is believed of a job's cost and end: the API meters late, and a time that it tells may be off."""

from datetime import datetime
from decimal import Decimal

from sync_mcp.api.usage import UsageItem
from sync_mcp.payments.acts.act import FAILED_STATUSES
from sync_mcp.payments.rows import Charged

# The API can say "complete, 0" of a job that it charges minutes or hours afterwards.
COMPLETED_FREE_AFTER_SECONDS = 6 * 3600.0
"""How long after its end a job's cost of 0 is not believed yet, also of one in a status that nobody knows."""
FAILED_FREE_AFTER_SECONDS = 600.0
"""The same for a job that failed: until then it may have been charged."""
_MADE_WITHIN_SECONDS = 120.0
"""So near to its send the export has to put a job's making for its end to be believed."""


def believe_cost(
    cost_usd: Decimal | None, charged: Charged, *, status: str, ended_at: float, now: float
) -> tuple[Decimal | None, Charged]:
    """Return what a job finally cost and whether it was charged, as far as that is believed by now.

    Args:
        cost_usd: what the API says that it finally cost, if it does.
        charged: whether it was charged, by the API's word.
        status: the status in which it ended, in the ledger's words.
        ended_at: when it ended, in seconds since 1970; as late as may be where that is not known.
        now: the time, in the same.
    """
    if charged != "no" and cost_usd != 0:
        return cost_usd, charged
    has_failed = status in FAILED_STATUSES
    if now - ended_at < (FAILED_FREE_AFTER_SECONDS if has_failed else COMPLETED_FREE_AFTER_SECONDS):
        return None, "unknown"
    return Decimal(0), "no"


def believe_end(row: UsageItem, *, sent_from: float, sent_until: float, now: float) -> float | None:
    """Return when a job ended as the export tells it, in seconds since 1970; None where that cannot be so.

    A time that is off would have a cost of 0 believed too early. It is told beside the time at which the job
    was made, which is known here: a row that is wrong about that may be wrong about the end. It has not
    ended before it was sent last, nor later than now.
    """
    made_at, ended_at = _seconds(row.created_at), _seconds(row.finished_at)
    if made_at is None or ended_at is None:
        return None
    is_made_then = sent_from - _MADE_WITHIN_SECONDS <= made_at <= sent_until + _MADE_WITHIN_SECONDS
    return ended_at if is_made_then and max(made_at, sent_until) <= ended_at <= now else None


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
