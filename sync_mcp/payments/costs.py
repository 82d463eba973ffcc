"""What finished jobs did cost that no ledger knows: as far as the API tells it, by as few reads as can be."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Generation, GenerationCost
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.usage import UsageItem
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Instant
from sync_mcp.payments.metering import believe_cost, believe_end
from sync_mcp.payments.rows import Charged
from sync_mcp.payments.settling_pace import SettledAccount
from sync_mcp.payments.usage_export import read_first_page


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job did cost."""

    charged: Charged
    usd: Decimal | None
    """What it finally cost, where that is told and believed."""


_REMEMBERED = 1024


class FinalCosts:
    """What jobs that no ledger knows finally did cost: the API is asked for it once."""

    def __init__(self) -> None:
        self._costs: OrderedDict[tuple[str, str, str, str], Cost] = OrderedDict()

    def find(self, sync: AsyncSync, jobs: Sequence[Generation]) -> dict[str, Cost]:
        """Return what is remembered of jobs that were read with the client's key, by their ids."""
        keyed = {job.id: _key(sync, job) for job in jobs}
        return {id: self._costs[key] for id, key in keyed.items() if key in self._costs}

    def note(self, sync: AsyncSync, jobs: Sequence[Generation], costs: Mapping[str, Cost]) -> None:
        """Remember those of the costs that are final."""
        for job in jobs:
            cost = costs.get(job.id)
            if cost is not None and cost.usd is not None:
                self._costs[_key(sync, job)] = cost
        while len(self._costs) > _REMEMBERED:
            self._costs.popitem(last=False)


def _key(sync: AsyncSync, job: Generation) -> tuple[str, str, str, str]:
    return sync.base_url, sync.key_fingerprint, job.id, job.status


async def find_costs(
    account: SettledAccount,
    sync: AsyncSync,
    jobs: Sequence[Generation],
    now: Instant,
    options: RequestOptions,
) -> dict[str, Cost]:
    """Return what finished jobs did cost, by their ids; those are missing of which the API tells nothing now.

    One job is asked for by itself, and when it ended is looked for in the export where that matters; several
    are looked for in one page of it. Each read counts among those that may go into settling the account.
    """
    if len(jobs) == 1 and account.take_request():
        [job] = jobs
        cost = await GenerationAct.cost_of(sync, job.id, options)
        if cost is None:
            return {}
        rows = await _read_rows(account, sync, jobs, now, options) if cost.charged == "no" else {}
        return {job.id: _believe(cost, job, now, rows.get(job.id))}
    rows = await _read_rows(account, sync, jobs, now, options) if len(jobs) > 1 else {}
    return {job.id: _believe(rows[job.id], job, now, rows[job.id]) for job in jobs if job.id in rows}


async def _read_rows(
    account: SettledAccount,
    sync: AsyncSync,
    jobs: Sequence[Generation],
    now: Instant,
    options: RequestOptions,
) -> dict[str, UsageItem]:
    """Return what the export tells of jobs in the status that they have, as far as one page of it goes."""
    made = [job.created_at.timestamp() for job in jobs if job.created_at is not None]
    since = max(0.0, min(made, default=now.seconds))
    if since >= now.seconds or not account.has_export or not account.take_request():
        return {}
    rows = await read_first_page(account, sync, datetime.fromtimestamp(since, UTC), options)
    statuses = {job.id: job.status for job in jobs}
    by_id = {row.generation_id: row for row in rows if row.generation_id}
    return {id: row for id, row in by_id.items() if statuses.get(id) == row.generation_status}


def _believe(cost: GenerationCost, job: Generation, now: Instant, row: UsageItem | None = None) -> Cost:
    made_at = now.seconds if job.created_at is None else job.created_at.timestamp()
    ended_at = None
    if row is not None:
        ended_at = believe_end(row, sent_from=made_at, sent_until=made_at, now=now.seconds)
    # Where it is not known when a job ended, its own age has to do.
    since = made_at if ended_at is None else ended_at
    usd, charged = believe_cost(
        cost.final_usd, cost.charged, status=job.status, ended_at=since, now=now.seconds
    )
    return Cost(charged, usd)
