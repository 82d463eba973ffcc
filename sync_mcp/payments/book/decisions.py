"""The user's own way out: what they can look at and decide about."""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, delete, exists, func, select

from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.book.rules import Rules, accept_job, find_owners, note_end
from sync_mcp.payments.rows import (
    DECLINED,
    ENTRIES,
    IS_ABANDONED,
    OPEN_STATES,
    QUOTES,
    Entry,
    delete_entry,
    entries_in,
    find_entry,
    lease_times,
)


class Decisions(Rules):
    """Showing the user what stands in the ledger, and doing what they decide."""

    def entry(self, entry_id: int) -> Entry | None:
        """Return one entry."""
        with self.store.reading() as connection:
            return find_entry(connection, entry_id)

    def entries(self, *, limit: int | None, are_open: bool | None = None) -> list[Entry]:
        """Return entries of all accounts, newest first; `are_open` takes those alone, or the others."""
        query = select(ENTRIES).order_by(ENTRIES.c.id.desc()).limit(limit)
        if are_open is not None:
            query = query.where(ENTRIES.c.state.in_(OPEN_STATES) == are_open)
        with self.store.reading() as connection:
            return entries_in(connection.execute(query))

    def owner(self, entry: Entry, generation_id: str) -> Entry | None:
        """Return the other attempt that is known to have made a job, if there is one."""
        with self.store.reading() as connection:
            return next(iter(find_owners(connection, entry, generation_id)), None)

    def resolve(self, entry_id: int, generation_id: str, *, as_seen: Entry | None = None) -> None:
        """Note, on the user's word, which job an attempt made.

        An accepted attempt whose own job is named so is over: its estimate stands for its cost
        until that is known.

        Raises:
            InvalidRequestError: the attempt is settled, the job is known to be another's, or the attempt is
                no longer what the user decided about.
        """
        with self.store.transaction() as connection:
            now = self.store.now()
            entry = _get_open(connection, entry_id, now)
            _check_as_seen(entry, as_seen)
            for other in find_owners(connection, entry, generation_id):
                raise InvalidRequestError(f"Generation {generation_id} is the job of entry {other.id}.")
            if entry.state == "accepted" and entry.generation_id == generation_id:
                note_end(connection, entry, "ended", "unknown", entry.counted_usd, now)
            else:
                accept_job(connection, entry, generation_id, was_found=False)

    def release(self, entry_id: int, *, as_seen: Entry | None = None) -> None:
        """Let go of an attempt, on the user's word: the same call makes it anew, without a question.

        Of an open one the user says that it made nothing: its money stands free again. What an ended one cost
        stays spent.

        Raises:
            InvalidRequestError: its job is completed, nothing was ever sent of it, a process is busy with it,
                or it is no longer what the user decided about.
        """
        with self.store.transaction() as connection:
            now = self.store.now()
            entry = find_entry(connection, entry_id)
            if entry is not None:
                _check_as_seen(entry, as_seen)
            if entry is not None and entry.asks_again:
                note_end(connection, entry, "released", entry.charged, entry.counted_usd, now)
            else:
                note_end(connection, _get_open(connection, entry_id, now), "released", "no", Decimal(0), now)

    def prunable(self, before: float) -> tuple[int, int]:
        """Return how many entries and how many quotes `prune` would delete."""
        old_quotes = select(func.count()).select_from(QUOTES).where(QUOTES.c.made_at < before)
        with self.store.reading() as connection:
            entries = _find_prunable(connection, before, self.store.now())
            return len(entries), connection.execute(old_quotes).scalar_one()

    def prune(self, before: float) -> int:
        """Delete what was settled before a time and cost nothing, and old quotes; return how many went.

        What was paid stays: it counts, and a repeat is answered with its job. So does the last attempt where
        its key has been taken: a repeat must not get the same one.
        """
        with self.store.transaction() as connection:
            gone = _find_prunable(connection, before, self.store.now())
            for entry in gone:
                delete_entry(connection, entry)
            connection.execute(delete(QUOTES).where(QUOTES.c.made_at < before))
            connection.execute(delete(DECLINED).where(DECLINED.c.declined_at < before))
            return len(gone)

    def check(self) -> int:
        """Open the ledger, look whether it is whole, and return how many entries it has.

        Raises:
            LedgerError: it cannot be used.
        """
        with self.store.transaction() as connection:
            self.store.check(connection)
            return connection.execute(select(func.count()).select_from(ENTRIES)).scalar_one()


def _get_open(connection: Connection, entry_id: int, now: float) -> Entry:
    """Return an attempt that the user may decide about."""
    entry = find_entry(connection, entry_id)
    if entry is None:
        raise InvalidRequestError(f"There is no entry {entry_id}.")
    if entry.state != "accepted" and not entry.is_unresolved(now):
        raise InvalidRequestError(f"Entry {entry_id} is {entry.state}: there is nothing to decide about it.")
    return entry


def _check_as_seen(entry: Entry, as_seen: Entry | None) -> None:
    """Refuse to carry a decision out that was made about another state than this one."""
    if as_seen is not None and (entry.state, entry.generation_id) != (as_seen.state, as_seen.generation_id):
        raise InvalidRequestError(
            f"Entry {entry.id} has changed meanwhile, and is {entry.state} now: look again."
        )


def _find_prunable(connection: Connection, before: float, now: float) -> Sequence[Entry]:
    # A refused attempt may go as well: it does not stand for the ones before it.
    later = ENTRIES.alias()
    is_last = ~exists().where(
        later.c.digest == ENTRIES.c.digest,
        later.c.attempt > ENTRIES.c.attempt,
        later.c.state != "refused",
    )
    cost_nothing = select(ENTRIES).where(
        ENTRIES.c.settled_at < before,
        ENTRIES.c.charged == "no",
        ENTRIES.c.counted_usd == Decimal(0),
        (ENTRIES.c.state == "refused") | (ENTRIES.c.state.in_(("ended", "released")) & ~is_last),
    )
    abandoned = select(ENTRIES).where(ENTRIES.c.created_at < before, IS_ABANDONED)
    return [
        *entries_in(connection.execute(cost_nothing)),
        *entries_in(connection.execute(abandoned, lease_times(now))),
    ]
