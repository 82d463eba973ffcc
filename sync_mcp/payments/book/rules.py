"""What the parts of the ledger share: its store, and how attempts are found and changed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, select, union

from sync_mcp.payments.attempt import Instant
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.rows import (
    ENTRIES,
    NAMED_BY_KEY,
    NAMES,
    QUOTES,
    Charged,
    Entry,
    Quote,
    State,
    change,
    change_quote,
    delete_entry,
    entries_in,
    find_entry,
    first_entry,
    quotes_in,
)
from sync_mcp.payments.stores.store import Store

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a transaction, in seconds since 1970."""

    day_time: float
    """What days are counted by: the API's where it was heard, else the later of the clock and the ledger."""
    clock: float
    """What leases and the age of quotes are judged by: the store's own."""


class Rules:
    """The rules of a ledger, whatever store it lies in."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def _moment(self, connection: Connection, now: Instant | None = None) -> Moment:
        """Return the time of a transaction; `now` is by the API's clock where that was heard.

        Else days go by the later of the clock and the ledger, so that a clock that is set back gives no
        second budget; but an entry from a clock that once ran far ahead does not hold the time there.
        """
        clock = self.store.now()
        if now is not None and now.is_heard:
            return Moment(now.seconds, clock)
        seconds = clock if now is None else now.seconds
        latest = connection.execute(_LATEST_TIME, {"latest_believed": seconds + DAY_SECONDS}).scalar()
        return Moment(max(seconds, latest or 0.0), clock)


# Finding attempts


def find_latest(connection: Connection, intention: Intention) -> Entry | None:
    """Return the last attempt at an intention."""
    return _first(connection, _LATEST, intention)


def find_standing(connection: Connection, intention: Intention) -> Entry | None:
    """Return the last attempt at an intention that was not refused."""
    return _first(connection, _STANDING, intention)


def _first(connection: Connection, query: Select[Any], intention: Intention) -> Entry | None:
    # What an earlier version wrote down is the same attempt: an upgrade must not pay again.
    earlier = next(iter(intention.earlier_digests), intention.digest)
    asked = {"digest_asked": intention.digest, "earlier_asked": earlier}
    return first_entry(connection.execute(query, asked))


def find_owners(connection: Connection, entry: Entry, generation_id: str) -> list[Entry]:
    """Return the other attempts that are known to have made a job."""
    job = {"generation_id": generation_id, "entry_id": entry.id, "base_url": entry.base_url}
    return entries_in(connection.execute(_OWNERS, job))


def find_maker(connection: Connection, generation_id: str, base_url: str) -> Entry | None:
    """Return the attempt that made a job, or whose answer named it; of several the latest."""
    job = {"generation_id": generation_id, "base_url": base_url}
    return first_entry(connection.execute(_MAKER, job))


def find_twin_elsewhere(connection: Connection, intention: Intention, after: int = 0) -> Entry | None:
    """Return an attempt at the same thing for another account of this address that may be the same one.

    A key whose account the API does not tell is an account of its own. Only later entries count than the one
    of the number `after`.
    """
    own = intention.account.startswith(NAMED_BY_KEY)
    asked = {
        "content": intention.content_digest,
        "base_url": intention.base_url,
        "own_account": intention.account,
        "after": after,
    }
    found = entries_in(connection.execute(_TWINS_ELSEWHERE, asked))
    twins = (entry for entry in found if own or entry.account.startswith(NAMED_BY_KEY))
    return next((entry for entry in twins if entry.may_be_paid), None)


def find_with_job(
    connection: Connection,
    entry_id: int,
    generation_id: str,
    states: Collection[State] = ("accepted", "ended"),
) -> Entry | None:
    """Return an entry if it has this job, and is in one of these states."""
    entry = find_entry(connection, entry_id)
    if entry is None or entry.generation_id != generation_id or entry.state not in states:
        return None
    return entry


def names_of(connection: Connection, intentions: Sequence[Intention]) -> set[str]:
    """Return the digests under which the attempts at these intentions are known, of whichever take."""
    digests = [intention.digest for intention in intentions]
    bodies = [intention.body_digest for intention in intentions]
    is_one = ENTRIES.c.body_digest.in_(bodies) | ENTRIES.c.sent_digest.in_(digests)
    found = connection.execute(select(ENTRIES.c.digest, ENTRIES.c.sent_digest).where(is_one))
    return {*digests, *(name for row in found for name in row if name is not None)}


def tokens_used_by(connection: Connection, entry: Entry) -> list[Quote]:
    """Return what the user agreed by to an attempt, under whichever name of it."""
    return quotes_in(connection.execute(_TOKENS_USED, {"entry_id": entry.id}))


def tokens_left_for(connection: Connection, entry: Entry) -> list[Quote]:
    """Return what the user may agree by to an attempt still."""
    return quotes_in(connection.execute(_TOKENS_LEFT, {"of": entry.digest, "try": entry.attempt}))


# Changing them


def accept_job(connection: Connection, entry: Entry, generation_id: str, *, was_found: bool) -> Entry:
    """Note which job an attempt made."""
    return change(connection, entry, **_changes_of_acceptance(entry, generation_id, was_found=was_found))


def with_second_job(entry: Entry, attempt: int, generation_id: str) -> Entry:
    """Return the entry of another job that an attempt made besides the one that it is known for."""
    second = replace(
        entry,
        id=0,
        attempt=attempt,
        sent_digest=None,
        named_id=None,
        status=None,
        error_code=None,
        saved_as=None,
        is_on_its_way=True,
    )
    return replace(second, **_changes_of_acceptance(entry, generation_id, was_found=False))


def _changes_of_acceptance(entry: Entry, generation_id: str, *, was_found: bool) -> dict[str, Any]:
    return {
        "state": "accepted",
        "generation_id": generation_id,
        "was_found": was_found,
        "leased_until": 0.0,
        "settled_at": None,
        # It may have been taken for one that made nothing.
        "charged": "unknown",
        "cost_usd": None,
        "counted_usd": entry.estimate_usd or Decimal(0),
    }


def take_back(connection: Connection, entry: Entry) -> None:
    """Take an attempt back; what the user agreed by is good again."""
    for quote in tokens_used_by(connection, entry):
        change_quote(connection, quote, used_at=None, used_by=None)
    delete_entry(connection, entry)


def note_end(
    connection: Connection,
    entry: Entry,
    state: State,
    charged: Charged,
    counted_usd: Decimal,
    now: float,
    **more: Any,
) -> Entry:
    """Note what came of an attempt in the end, and what counts of it."""
    return change(
        connection,
        entry,
        **{
            # Its end, not when its cost was last asked for.
            "settled_at": now if entry.settled_at is None else entry.settled_at,
            "state": state,
            "charged": charged,
            "counted_usd": counted_usd,
            "leased_until": 0.0,
            **more,
        },
    )


# Put together once: that takes longer than their running.
_LATEST_TIME = select(func.max(ENTRIES.c.created_at)).where(
    ENTRIES.c.created_at <= bindparam("latest_believed")
)
_ASKED: tuple[BindParameter[str], ...] = (bindparam("digest_asked"), bindparam("earlier_asked"))
_NAME = (ENTRIES.c.digest, ENTRIES.c.sent_digest)
# Each by an index of its own: of conditions with "or" between, a database may read all entries.
_FOUND = union(
    *(select(ENTRIES.c.id).where(name.in_(_ASKED)) for name in _NAME),
    *(
        select(ENTRIES.c.id).join(NAMES, name == NAMES.c.sent_digest).where(NAMES.c.digest.in_(_ASKED))
        for name in _NAME
    ),
)
_ATTEMPTS = (
    select(ENTRIES)
    .where(ENTRIES.c.id.in_(_FOUND))
    # An attempt under the other name of the same counts as one before.
    .order_by(ENTRIES.c.attempt.desc(), ENTRIES.c.id.desc())
)
_LATEST = _ATTEMPTS.limit(1)
_STANDING = _ATTEMPTS.where(ENTRIES.c.state != "refused").limit(1)
_TWINS_ELSEWHERE = (
    select(ENTRIES)
    .where(
        ENTRIES.c.content_digest == bindparam("content"),
        ENTRIES.c.base_url == bindparam("base_url"),
        ENTRIES.c.account != bindparam("own_account"),
        ENTRIES.c.id > bindparam("after"),
    )
    .order_by(ENTRIES.c.id.desc())
)
_MAKER = (
    select(ENTRIES)
    .where(
        (ENTRIES.c.generation_id == bindparam("generation_id"))
        | (ENTRIES.c.named_id == bindparam("generation_id")),
        ENTRIES.c.base_url == bindparam("base_url"),
    )
    .order_by(ENTRIES.c.generation_id.is_(None), ENTRIES.c.id.desc())
    .limit(1)
)
_OWNERS = select(ENTRIES).where(
    ENTRIES.c.generation_id == bindparam("generation_id"),
    ENTRIES.c.id != bindparam("entry_id"),
    ENTRIES.c.base_url == bindparam("base_url"),
)
_TOKENS_USED = select(QUOTES).where(QUOTES.c.used_by == bindparam("entry_id"))
_TOKENS_LEFT = select(QUOTES).where(
    QUOTES.c.digest == bindparam("of"), QUOTES.c.attempt == bindparam("try"), QUOTES.c.used_at.is_(None)
)
