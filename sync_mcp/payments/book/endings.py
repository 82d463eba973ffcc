"""What became of jobs: how they ended, what they cost, and where their results lie."""

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal

from sqlalchemy import ColumnElement, func, select

from sync_mcp.payments.book.rules import Rules, find_maker, find_with_job, note_end
from sync_mcp.payments.metering import believe_cost
from sync_mcp.payments.rows import (
    ENTRIES,
    IS_LET_GO_UNSEEN,
    LET_GO,
    REPEATED_IN_VAIN,
    Charged,
    Entry,
    State,
    change,
    entries_in,
)
from sync_mcp.texts import safe

LEFT_OPEN_AFTER_SECONDS = 86_400.0
"""How long all jobs are asked for that run or have no cost yet; after that a few of them at a time."""


class Endings(Rules):
    """Noting what became of jobs."""

    def list_unsettled(self, account: str, base_url: str, limit: int, now: float) -> list[Entry]:
        """Return accepted jobs that may have ended, and ended ones whose cost is not known, oldest first.

        So are those that the user let go of as never made: they may show all the same.
        Of more than the limit it is now these, now those: none is kept waiting by others for ever. What stays
        so for a day is `left_open`.
        """
        since = now - LEFT_OPEN_AFTER_SECONDS
        return self._some_of(
            account,
            base_url,
            ((ENTRIES.c.state == "accepted") & (ENTRIES.c.first_sent_at > since))
            | ((_may_cost("ended", "released") | IS_LET_GO_UNSEEN) & (ENTRIES.c.settled_at > since)),
            limit,
        )

    def list_left_open(self, account: str, base_url: str, limit: int, now: float) -> list[Entry]:
        """Return jobs of which it was not told within a day that they ended or what they cost, oldest first.

        So are those that were deleted, and those that the user let go of, as long as they count. Of more than
        the limit it is now these, now those.
        """
        until = now - LEFT_OPEN_AFTER_SECONDS
        found = self._some_of(
            account,
            base_url,
            ((ENTRIES.c.state == "accepted") & (ENTRIES.c.first_sent_at <= until))
            | (_may_cost("ended", *LET_GO) & (ENTRIES.c.settled_at <= until)),
            limit,
        )
        return sorted(found, key=lambda entry: entry.first_sent_at)

    def _some_of(self, account: str, base_url: str, which: ColumnElement[bool], limit: int) -> list[Entry]:
        """Return jobs of an account that have no cost, the oldest first.

        Of more than the limit it is now these, now those.
        """
        chosen = (
            select(ENTRIES.c.id)
            .where(
                ENTRIES.c.account == account,
                ENTRIES.c.base_url == base_url,
                ENTRIES.c.cost_usd.is_(None),
                ENTRIES.c.generation_id.is_not(None),
                which,
            )
            .order_by(func.random())
            .limit(limit)
        )
        query = (
            select(ENTRIES)
            .where(ENTRIES.c.id.in_(chosen))
            .order_by(ENTRIES.c.state, ENTRIES.c.created_at, ENTRIES.c.id)
        )
        with self.store.reading() as connection:
            return entries_in(connection.execute(query))

    def list_sent(self, accounts: Collection[str], base_url: str, since: float, until: float) -> list[Entry]:
        """Return the attempts of these accounts that were sent last from `since` on and before `until`."""
        query = (
            select(ENTRIES)
            .where(
                ENTRIES.c.account.in_(accounts),
                ENTRIES.c.base_url == base_url,
                ENTRIES.c.last_sent_at >= since,
                ENTRIES.c.last_sent_at < until,
            )
            .order_by(ENTRIES.c.last_sent_at, ENTRIES.c.id)
        )
        with self.store.reading() as connection:
            return entries_in(connection.execute(query))

    def settle(
        self,
        entry_id: int,
        *,
        generation_id: str,
        status: str,
        error_code: str | None,
        cost_usd: Decimal | None,
        charged: Charged,
        now: float,
        counted_usd: Decimal | None = None,
        ended_at: float | None = None,
    ) -> Entry | None:
        """Note how a job ended, and what it cost; what was not charged stands free again.

        Nothing is done where the entry no longer has this job. One that was deleted, or that the user let go
        of, stays so: only its cost is noted, and of one that counts for nothing no more than that it costs
        something after all. What was known of its cost stays known, until a status that
        contradicts it or another final cost is told. A cost of 0 is not believed while the API may still be
        metering.

        Args:
            entry_id: the job's entry.
            generation_id: the job.
            status: the status in which it ended.
            error_code: why it failed.
            cost_usd: what it cost, where that is finally known.
            charged: whether it was charged.
            now: the time, by the API's clock where that is known.
            counted_usd: what stands against the budgets until the cost is known, if more than the estimate.
            ended_at: when it ended, where the API told that; by default, and at the latest, when its end was
                first seen, as it is where the API told of another end before.
        """
        with self.store.transaction() as connection:
            entry = find_with_job(connection, entry_id, generation_id, ("accepted", "ended", *LET_GO))
            if entry is None:
                return None
            costs = status == "COMPLETED" or charged == "yes" or bool(counted_usd)
            if entry.state in LET_GO and entry.charged == "no" and not costs:
                return None
            contradicts = entry.status is not None and entry.status != safe(status, 40)
            known = None if entry.error_code == REPEATED_IN_VAIN else entry.error_code
            settled_at = entry.settled_at
            if settled_at is None or contradicts:
                # What is told anew has ended anew: how long a cost of 0 is not believed runs from now.
                settled_at = now
            if ended_at is not None and not contradicts:
                settled_at = min(ended_at, settled_at)
            ended = replace(
                entry,
                status=safe(status, 40),
                error_code=safe(error_code, 80) if error_code else known,
                settled_at=settled_at,
            )
            cost_usd, charged = believe_cost(
                cost_usd, charged, status=str(ended.status), ended_at=settled_at, now=now
            )
            if cost_usd is None and entry.cost_usd is not None and not contradicts:
                cost_usd = entry.cost_usd
                charged = entry.charged if charged == "unknown" else charged
            nothing = Decimal(0)
            # What it cost by an earlier word is not less for a later one that tells nothing.
            counted = (
                max(entry.estimate_usd or nothing, counted_usd or nothing, entry.counted_usd)
                if cost_usd is None
                else cost_usd
            )
            return note_end(
                connection,
                entry,
                entry.state if entry.state in LET_GO else "ended",
                charged,
                counted,
                now,
                status=ended.status,
                error_code=ended.error_code,
                settled_at=ended.settled_at,
                cost_usd=cost_usd,
            )

    def note_status(
        self, entry_id: int, *, generation_id: str, status: str | None, counted_usd: Decimal = Decimal(0)
    ) -> None:
        """Note of a job that may run still a status that nobody knows, and what it costs at least.

        The status is shown to the user; None leaves it as it is.
        """
        with self.store.transaction() as connection:
            entry = find_with_job(connection, entry_id, generation_id, ("accepted",))
            if entry is not None:
                change(
                    connection,
                    entry,
                    status=entry.status if status is None else safe(status, 40),
                    counted_usd=max(entry.counted_usd, counted_usd),
                )

    def note_saved(self, generation_id: str, base_url: str, path: str) -> None:
        """Note where a job's result was saved; nothing is done where the ledger does not know the job."""
        with self.store.transaction() as connection:
            entry = find_maker(connection, generation_id, base_url)
            if entry is not None and entry.generation_id == generation_id:
                change(connection, entry, saved_as=path)

    def note_asset(self, generation_id: str, base_url: str, name: str, asset_id: str) -> None:
        """Note which asset a job's result was kept as; nothing is done where the ledger does not know it."""
        with self.store.transaction() as connection:
            entry = find_maker(connection, generation_id, base_url)
            if entry is not None and entry.generation_id == generation_id:
                change(connection, entry, assets={**entry.assets, name: asset_id})

    def delete_job(self, entry_id: int, *, generation_id: str, now: float) -> None:
        """Note that a job was deleted by this client; what it cost stays spent.

        Nothing is done where the entry no longer has this job.
        """
        with self.store.transaction() as connection:
            entry = find_with_job(connection, entry_id, generation_id)
            if entry is not None:
                note_end(connection, entry, "deleted", entry.charged, entry.counted_usd, now)


def _may_cost(*states: State) -> ColumnElement[bool]:
    """Of jobs in these states, which may have cost something that is not known."""
    return ENTRIES.c.state.in_(states) & ENTRIES.c.cost_usd.is_(None) & (ENTRIES.c.charged != "no")
