"""The ledger: every paid call is written down before it is sent, and what came of it after.

A database file of the user's own, shared by all processes. Each method is one transaction and blocks for
as long as the disk takes: call it in a worker thread.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import platformdirs
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Index,
    UniqueConstraint,
    bindparam,
    create_engine,
    event,
    exists,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column
from sqlalchemy.types import JSON, TypeDecorator

from sync_mcp.errors import InvalidRequestError, LedgerError, QuoteRefused
from sync_mcp.jobs.intention import DIGEST_VERSION, Intention
from sync_mcp.jobs.limits import (
    HIGHEST_USD,
    Limits,
    Spending,
    dollars,
    next_utc_midnight,
    start_of_month,
    utc_midnight,
)
from sync_mcp.jobs.mark import UNREADABLE, Mark, advance_mark, read_mark
from sync_mcp.jobs.schema import RENAME, STATE, VERSION_1, VERSION_2
from sync_mcp.text import safe

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

LEASE_SECONDS = 12.0
"""How long a create counts as under way after its process was last heard of."""
RENEWAL_SECONDS = 3.0
_LONGEST_LEASE_SECONDS = 10 * LEASE_SECONDS
"""A lease that ends later was written under another clock; one that was set back a little ends none."""
QUOTE_SECONDS = 600.0
_STEP_BACK_SECONDS = 60.0
"""How far the clock may be set back under a quote."""
COST_KNOWN_WITHIN_SECONDS = 86_400.0
"""How long after a job's end the API is asked for its cost; then the estimate stands for it."""

FILE_NAME = "ledger.sqlite3"
MARK_NAME = "ledger.mark.json"
LOST_CODES = ("ledger_corrupt", "ledger_missing", "ledger_replaced")
"""Of a ledger that lost what was in it: damaged, gone, or another or older one in its place. Nothing is paid
until the user goes on without what is lost."""
UNTOUCHED_CODE = "ledger_untouched"
"""Of a ledger that is not looked at because that would change it; to use it sets it right."""
_SET_ASIDE = "ledger-corrupt-"
_GIVEN_UP = "ledger-given-up-"
_NEW = "ledger-new-"
_JOURNALS = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a file, the last two by the mode of version 1."""
_HEADER_BYTES = 100
_MODE_AT = 18
_WRITE_AHEAD = 2
"""What stands there in the header of a file whose latest changes may lie beside it."""
_BUSY_SECONDS = 10.0
_BUSY_PAUSE_SECONDS = 0.01
_READING = "sync_mcp_reading"
_NANO = 1_000_000_000
_REASON_LIMIT = 200
_ID_LIMIT = 80

State = Literal["preparing", "sending", "unknown", "accepted", "ended", "refused", "released", "closed"]
"""Of an attempt. Open: its files are on their way (`preparing`), it is on its way itself (`sending`), perhaps
made (`unknown`), made (`accepted`). Settled: its job has ended (`ended`), the API refused it (`refused`), the
user says that it was never made (`released`), the API no longer knows its job (`closed`)."""

OPEN_STATES: tuple[State, ...] = ("preparing", "sending", "unknown", "accepted")
Charged = Literal["yes", "no", "unknown"]


class _Dollars(TypeDecorator[Decimal]):
    """Money as a whole number of billionths: exact, and summed by any database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's own signature
        if value is None:
            return None
        # What no job can cost, as the network may say it, must neither free money nor break a sum.
        possible = min(max(value, Decimal(0)), HIGHEST_USD)
        return int((possible * _NANO).to_integral_value(rounding=ROUND_CEILING))

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        return None if value is None else Decimal(value) / _NANO


class _Base(DeclarativeBase):
    pass


class Entry(_Base):
    """One attempt at one intention. Times are seconds since 1970."""

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("digest", "attempt"),
        Index("entries_by_account", "account", "base_url", "created_at"),
        Index("entries_by_generation", "generation_id"),
        # An id that was told to the user is never given again.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str]
    base_url: Mapped[str]
    tool: Mapped[str]
    digest: Mapped[str]
    body_digest: Mapped[str] = mapped_column(index=True)
    sent_digest: Mapped[str | None] = mapped_column(index=True)
    """Of the same intention once its local files have become assets: who names the assets means the same."""
    digest_version: Mapped[int]
    take: Mapped[int]
    attempt: Mapped[int]
    idempotency_key: Mapped[str]
    model: Mapped[str]
    summary: Mapped[str]
    extras: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(index=True)
    owner: Mapped[str]
    leased_until: Mapped[float]
    estimate_usd: Mapped[Decimal | None] = mapped_column(_Dollars)
    counted_usd: Mapped[Decimal] = mapped_column(_Dollars)
    """What stands against the budgets: the estimate, then the real cost."""
    cost_usd: Mapped[Decimal | None] = mapped_column(_Dollars)
    charged: Mapped[str] = mapped_column(default="unknown")
    generation_id: Mapped[str | None]
    named_id: Mapped[str | None]
    """The job that the API named while its outcome was unknown."""
    was_found: Mapped[bool] = mapped_column(default=False)
    """The job was found in the API's list, not told by the create's own answer."""
    assets: Mapped[dict[str, str]] = mapped_column(JSON)
    """The asset that was sent for each local file, by the hash of its content."""
    status: Mapped[str | None]
    error_code: Mapped[str | None]
    created_at: Mapped[float]
    first_sent_at: Mapped[float]
    settled_at: Mapped[float | None]

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    def is_leased(self, now: float) -> bool:
        """Whether a living process is busy with it."""
        return (
            self.state in ("preparing", "sending") and now < self.leased_until <= now + _LONGEST_LEASE_SECONDS
        )

    def is_abandoned(self, now: float) -> bool:
        """Whether its process died before anything was sent: then it counts for nothing."""
        return self.state == "preparing" and not self.is_leased(now)

    def is_unresolved(self, now: float) -> bool:
        """Whether nobody knows what came of it: its outcome is unknown, or its process died on the way."""
        return self.state == "unknown" or (self.state == "sending" and not self.is_leased(now))


class _Quote(_Base):
    __tablename__ = "quotes"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    attempt: Mapped[int]
    price_usd: Mapped[Decimal | None] = mapped_column(_Dollars)
    made_at: Mapped[float]
    """By the ledger, whose time never goes back."""
    made_at_by_clock: Mapped[float]
    used_at: Mapped[float | None]


class _Account(_Base):
    """Which account a key belongs to; told once, it stays: a digest must not change under a job."""

    __tablename__ = "accounts"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]


def _through(statements: Sequence[str]) -> Callable[[Connection], None]:
    def migrate(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    return migrate


_MIGRATIONS: Sequence[Callable[[Connection], None]] = (_through(VERSION_1), _through(VERSION_2))
"""From each version to the next; a ledger's version is how many of them it has been through."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A paid call that is about to be sent."""

    intention: Intention
    attempt: int
    tool: str
    owner: str
    estimate_usd: Decimal | None
    limits: Limits
    sent_at: float
    """By the API's clock, where that is known: by it the job is looked for."""
    quote_id: str | None = None
    has_files: bool = False
    """Whether local files are to be uploaded before it can be sent."""


class _DamagedError(SQLAlchemyError):
    """The file is no longer whole."""


def remedy(error: LedgerError) -> str:
    """Return what the user can do about a ledger that cannot be used: the next step, put to the user."""
    told = error.next_step.removeprefix("Ask the user to ")
    return f"{told[:1].upper()}{told[1:]}"


class Ledger:
    """The user's ledger in a folder; the folder and the file are made when they are first needed.

    Beside the file lies its mark: how far it had come. A file that has come less far has lost entries.

    Args:
        folder: where the file lies; by default SYNC_MCP_HOME, else the user's data directory.
        read_only: look only: nothing is made, changed or moved.

    Attributes:
        folder: as given.
        path: the database file.
        mark_path: the file of its mark.
    """

    def __init__(self, folder: Path | str | None = None, *, read_only: bool = False) -> None:
        chosen = folder or os.environ.get("SYNC_MCP_HOME") or platformdirs.user_data_path("sync-mcp")
        self.folder = Path(chosen).expanduser().absolute()
        self.path = self.folder / FILE_NAME
        self.mark_path = self.folder / MARK_NAME
        self._read_only = read_only
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._opening = Lock()

    @property
    def version(self) -> int:
        """The version that a ledger has once it is open."""
        return len(_MIGRATIONS)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._opening:
            self._dispose()

    # Accounts

    def account_of(self, fingerprint: str, base_url: str) -> str | None:
        """Return the account of a key, where it is known."""
        with self._reading() as session:
            known = session.get(_Account, (fingerprint, base_url))
            return known.account if known else None

    def keep_account(self, fingerprint: str, base_url: str, account: str) -> str:
        """Note the account of a key and return it; what was noted before stays."""
        with self._transaction() as session:
            known = session.get(_Account, (fingerprint, base_url))
            if known is None:
                session.add(_Account(fingerprint=fingerprint, base_url=base_url, account=account))
            return known.account if known else account

    # Attempts

    def latest(self, digest: str) -> Entry | None:
        """Return the last attempt at an intention."""
        with self._reading() as session:
            return _latest(session, digest)

    def entry(self, entry_id: int) -> Entry | None:
        """Return one entry."""
        with self._reading() as session:
            return session.get(Entry, entry_id)

    def begin(self, wish: Wish) -> tuple[Entry, bool]:
        """Write an attempt down, so that it may be sent; the flag says whether it is this call's to send.

        It is another's where that was faster: then its entry is returned.

        Raises:
            LimitReached: a budget would be passed; nothing was written.
            QuoteRefused: the quote is not for this; nothing was written.
        """
        intention = wish.intention
        with self._transaction() as session:
            latest = _latest(session, intention.digest)
            if latest is not None and latest.attempt >= wish.attempt:
                return latest, False
            now = _now(session, intention.account, intention.base_url)
            if wish.quote_id is not None:
                _use_quote(session, wish, now, latest)
            spending = _spending(session, intention.account, intention.base_url, now)
            refusal = wish.limits.refusal(wish.estimate_usd, spending)
            if refusal is not None:
                raise refusal
            entry = Entry(
                account=intention.account,
                base_url=intention.base_url,
                tool=wish.tool,
                digest=intention.digest,
                body_digest=intention.body_digest,
                digest_version=DIGEST_VERSION,
                take=intention.take,
                attempt=wish.attempt,
                idempotency_key=intention.idempotency_key(wish.attempt),
                model=safe(intention.request.model, 80),
                summary=intention.summary,
                extras=intention.extras,
                state="preparing" if wish.has_files else "sending",
                owner=wish.owner,
                leased_until=time.time() + LEASE_SECONDS,
                assets={},
                estimate_usd=wish.estimate_usd,
                counted_usd=wish.estimate_usd or Decimal(0),
                created_at=now,
                first_sent_at=wish.sent_at,
                was_found=False,
                charged="unknown",
            )
            session.add(entry)
            session.flush()
            return entry, True

    def send(
        self, entry_id: int, wish: Wish, sent: Intention, assets: Mapping[str, str]
    ) -> Literal["mine", "lost", "made"]:
        """Note the assets that an attempt is sent with; return whether it is this owner's to send now.

        `sent` is the intention with them. It is `made` where a call that named them was faster: then this
        attempt is withdrawn. What it costs counts from now on, which may be another day than its upload's.

        Raises:
            LimitReached: a budget would be passed by now; the attempt was withdrawn.
        """
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is None or entry.owner != wish.owner or entry.state != "preparing":
                return "lost"
            if not entry.is_leased(time.time()):
                # It counted for nothing meanwhile, and others may have spent what it held.
                return "lost"
            twin = _latest(session, sent.digest)
            if twin is not None and (twin.is_open or twin.status == "COMPLETED"):
                _withdraw(session, entry)
                return "made"
            now = _now(session, entry.account, entry.base_url)
            spending = _spending(session, entry.account, entry.base_url, now)
            spending = spending.without(entry.counted_usd, entry.created_at)
            refusal = wish.limits.refusal(wish.estimate_usd, spending)
            if refusal is None:
                entry.state, entry.assets, entry.first_sent_at = "sending", dict(assets), wish.sent_at
                entry.sent_digest, entry.created_at = sent.digest, now
                entry.estimate_usd, entry.counted_usd = wish.estimate_usd, wish.estimate_usd or Decimal(0)
                entry.leased_until = time.time() + LEASE_SECONDS
                return "mine"
            _withdraw(session, entry)
        raise refusal

    def withdraw(self, entry_id: int, owner: str) -> None:
        """Take back an attempt of which nothing was sent; its quote is good again."""
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is not None and entry.state == "preparing" and entry.owner == owner:
                _withdraw(session, entry)

    def withdraw_abandoned(self, digest: str) -> None:
        """Take back the last attempt at an intention where its process died before anything was sent."""
        with self._transaction() as session:
            entry = _latest(session, digest)
            if entry is not None and entry.is_abandoned(time.time()):
                _withdraw(session, entry)

    def take_over(self, entry_id: int, owner: str) -> bool:
        """Make an attempt whose outcome is unknown, or whose process died, this owner's to go on with."""
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            now = time.time()
            free = entry.is_unresolved(now)
            if free:
                entry.state, entry.owner, entry.leased_until = "sending", owner, now + LEASE_SECONDS
            return free

    def renew(self, entry_id: int, owner: str) -> bool:
        """Show that the owner of an attempt is alive; return whether it is still this owner's to send."""
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is None or entry.state not in ("preparing", "sending") or entry.owner != owner:
                return False
            if entry.is_abandoned(time.time()):
                # It counted for nothing meanwhile: it has to begin anew.
                return False
            entry.leased_until = time.time() + LEASE_SECONDS
            return True

    def claim(self, entry_id: int, generation_id: str) -> Literal["mine", "another's", "unclear"]:
        """Say whether a job that was found in the API's list can be this attempt's, and note it if so."""
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            owners = _owners(session, entry, generation_id)
            if owners:
                return "another's"
            twins = session.scalars(
                select(Entry).where(
                    Entry.body_digest == entry.body_digest, Entry.id != entry_id, Entry.state == "sending"
                )
            )
            # One under way will be told its job. Of two in doubt either may have it: the other one's is made
            # when it is looked for in vain, and an answer that names it takes it back.
            if any(twin.is_leased(time.time()) for twin in twins):
                return "unclear"
            _accept(entry, generation_id, was_found=True)
            return "mine"

    def accept(self, entry_id: int, generation_id: str) -> None:
        """Note the job that an attempt made, as the API answered.

        Of an attempt that is known to have made another job, this is a second one: it gets an entry of its
        own, so that both count.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            for other in _owners(session, entry, generation_id):
                if other.was_found and other.state in ("accepted", "ended"):
                    # It took for its own what it found; the answer knows better.
                    other.state, other.generation_id, other.was_found = "unknown", None, False
                    other.settled_at = None
                    other.counted_usd = other.estimate_usd or Decimal(0)
            if entry.generation_id not in (None, generation_id):
                if not _owners(session, entry, generation_id):
                    _add_second_job(session, entry, generation_id)
            elif entry.generation_id is None or entry.state == "sending":
                _accept(entry, generation_id, was_found=False)

    def doubt(self, entry_id: int, owner: str, named_id: str | None) -> None:
        """Note that the outcome of an attempt is unknown; its money counts as spent."""
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                entry.state, entry.leased_until = "unknown", 0.0
                entry.named_id = named_id or entry.named_id

    def refuse(self, entry_id: int, owner: str, error_code: str) -> None:
        """Note that the API refused an attempt, or never saw it: it cost nothing."""
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                entry.error_code = safe(error_code, 80)
                _settle(entry, "refused", "no", Decimal(0), time.time())

    # What ends

    def unsettled(self, account: str, base_url: str, limit: int) -> list[Entry]:
        """Return accepted jobs that may have ended, and ended ones whose cost is not known, oldest first.

        Of more than the limit it is now these, now those: none is kept waiting by others for ever.
        """
        with self._reading() as session:
            chosen = (
                select(Entry.id)
                .where(
                    Entry.account == account,
                    Entry.base_url == base_url,
                    Entry.generation_id.is_not(None),
                    (Entry.state == "accepted")
                    | (
                        (Entry.state == "ended")
                        & Entry.cost_usd.is_(None)
                        & (Entry.settled_at > time.time() - COST_KNOWN_WITHIN_SECONDS)
                    ),
                )
                .order_by(func.random())
                .limit(limit)
            )
            query = (
                select(Entry).where(Entry.id.in_(chosen)).order_by(Entry.state, Entry.created_at, Entry.id)
            )
            return list(session.scalars(query))

    def settle(
        self,
        entry_id: int,
        *,
        generation_id: str,
        status: str,
        error_code: str | None,
        cost_usd: Decimal | None,
        charged: Charged,
        counted_usd: Decimal | None = None,
    ) -> None:
        """Note how a job ended, and what it cost; what was not charged stands free again.

        Nothing is done where the entry no longer has this job. What was known of its cost stays known.

        Args:
            entry_id: the job's entry.
            generation_id: the job.
            status: the status in which it ended.
            error_code: why it failed.
            cost_usd: what it cost, where that is finally known.
            charged: whether it was charged.
            counted_usd: what stands against the budgets until the cost is known, if more than the estimate.
        """
        with self._transaction() as session:
            entry = _having_job(session, entry_id, generation_id)
            if entry is None:
                return
            entry.status = safe(status, 40)
            entry.error_code = safe(error_code, 80) if error_code else None
            if charged == "no":
                cost_usd = Decimal(0)
            elif cost_usd is None and entry.cost_usd is not None:
                cost_usd = entry.cost_usd
                charged = cast(Charged, entry.charged) if charged == "unknown" else charged
            nothing = Decimal(0)
            counted = (
                max(entry.estimate_usd or nothing, counted_usd or nothing) if cost_usd is None else cost_usd
            )
            entry.cost_usd = cost_usd
            _settle(entry, "ended", charged, counted, time.time())

    def close_job(self, entry_id: int, *, generation_id: str) -> None:
        """Note that the API no longer knows a job; what it cost stays spent.

        Nothing is done where the entry no longer has this job.
        """
        with self._transaction() as session:
            entry = _having_job(session, entry_id, generation_id)
            if entry is not None:
                _settle(entry, "closed", cast(Charged, entry.charged), entry.counted_usd, time.time())

    # Money

    def spending(self, account: str, base_url: str) -> Spending:
        """Return what has been spent and what is held."""
        with self._reading() as session:
            return _spending(session, account, base_url, _now(session, account, base_url))

    def quote(self, intention: Intention, attempt: int, price_usd: Decimal | None) -> str:
        """Hand out a quote: good once, for ten minutes, for this attempt at this intention."""
        quote_id = f"q_{secrets.token_urlsafe(9)}"
        with self._transaction() as session:
            now = _now(session, intention.account, intention.base_url)
            session.add(
                _Quote(
                    id=quote_id,
                    digest=intention.digest,
                    attempt=attempt,
                    price_usd=price_usd,
                    made_at=now,
                    made_at_by_clock=time.time(),
                )
            )
        return quote_id

    def unresolved(self, account: str, base_url: str) -> list[Entry]:
        """Return the attempts whose outcome is unknown, or whose process died on the way, newest first."""
        with self._reading() as session:
            found = session.scalars(
                select(Entry)
                .where(Entry.account == account, Entry.base_url == base_url, _unresolved())
                .order_by(Entry.created_at.desc()),
                _lease_times(),
            )
            return list(found)

    # The user's own way out

    def entries(self, *, limit: int | None, are_open: bool | None = None) -> list[Entry]:
        """Return entries of all accounts, newest first; `are_open` takes those alone, or the others."""
        with self._reading() as session:
            query = select(Entry).order_by(Entry.id.desc()).limit(limit)
            if are_open is not None:
                query = query.where(Entry.state.in_(OPEN_STATES) == are_open)
            return list(session.scalars(query))

    def accounts(self) -> list[tuple[str, str, Spending]]:
        """Return each account that has entries, its base URL, and what it has spent."""
        with self._reading() as session:
            pairs = session.execute(
                select(Entry.account, Entry.base_url).distinct().order_by(Entry.account, Entry.base_url)
            ).all()
            return [
                (account, base_url, _spending(session, account, base_url, _now(session, account, base_url)))
                for account, base_url in pairs
            ]

    def owner(self, entry: Entry, generation_id: str) -> Entry | None:
        """Return the other attempt that is known to have made a job, if there is one."""
        with self._reading() as session:
            return next(iter(_owners(session, entry, generation_id)), None)

    def resolve(self, entry_id: int, generation_id: str) -> None:
        """Note, on the user's word, which job an attempt made.

        Raises:
            InvalidRequestError: the attempt's outcome is known, or the job is known to be another's.
        """
        with self._transaction() as session:
            entry = _undecided(session, entry_id)
            for other in _owners(session, entry, generation_id):
                raise InvalidRequestError(f"Generation {generation_id} is the job of entry {other.id}.")
            _accept(entry, generation_id, was_found=False)

    def release(self, entry_id: int) -> None:
        """Note, on the user's word, that an attempt made nothing: its money stands free again.

        Raises:
            InvalidRequestError: the attempt's outcome is known.
        """
        with self._transaction() as session:
            _settle(_undecided(session, entry_id), "released", "no", Decimal(0), time.time())

    def prunable(self, before: float) -> tuple[int, int]:
        """Return how many entries and how many quotes `prune` would delete."""
        with self._reading() as session:
            return len(_entries_to_prune(session, before)), len(_quotes_to_prune(session, before))

    def prune(self, before: float) -> int:
        """Delete what was settled before a time and cost nothing, and old quotes; return how many went.

        What was paid stays: it counts, and a repeat is answered with its job. So does the last attempt where
        its key has been taken: a repeat must not get the same one.
        """
        with self._transaction() as session:
            gone = _entries_to_prune(session, before)
            for row in (*gone, *_quotes_to_prune(session, before)):
                session.delete(row)
            return len(gone)

    # The file

    def check(self) -> int:
        """Open the file, look whether it is whole, and return how many entries it has.

        Raises:
            LedgerError: it cannot be used.
        """
        with self._transaction() as session:
            if session.scalar(text("PRAGMA integrity_check(1)")) != "ok":
                raise _DamagedError
            return session.scalar(select(func.count()).select_from(Entry)) or 0

    def exists(self) -> bool:
        """Return whether a ledger was begun here, whole, damaged or gone; none is made.

        Raises:
            LedgerError: the folder cannot be looked into.
        """
        try:
            return (
                _identity(self.path) is not None
                or bool(self.set_aside())
                or _identity(self.mark_path) is not None
            )
        except OSError as error:
            raise self._fault(error) from error

    def set_aside(self) -> list[Path]:
        """Return the damaged files that were set aside and that the user has not decided about."""
        return sorted(self.folder.glob(f"{_SET_ASIDE}*.sqlite3"))

    def given_up(self) -> list[Path]:
        """Return the damaged files that the user goes on without."""
        return sorted(self.folder.glob(f"{_GIVEN_UP}*.sqlite3"))

    def give_up(self) -> list[Path]:
        """Go on without what was lost, on the user's word; return the damaged files, which keep another name.

        A file that is in the ledger's place, such as an older copy, is the ledger from now on, and another
        one than before: what it was copied from is not taken for it.
        """
        kept: list[Path] = []
        try:
            for path in self.set_aside():
                target = path.with_name(path.name.replace(_SET_ASIDE, _GIVEN_UP))
                for suffix in ("", *_JOURNALS):
                    with contextlib.suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
                kept.append(target)
            self.mark_path.unlink(missing_ok=True)
            is_there = _identity(self.path) is not None
        except OSError as error:
            raise self._fault(error) from error
        if is_there:
            with self._transaction() as session:
                session.execute(text(RENAME))
        return kept

    def _transaction(self) -> AbstractContextManager[Session]:
        """Hold the write lock from the first statement on: what is read is what the decision stands on."""
        return self._session(reading=self._read_only)

    def _reading(self) -> AbstractContextManager[Session]:
        """Read without holding anybody up."""
        return self._session(reading=True)

    @contextmanager
    def _session(self, *, reading: bool) -> Generator[Session]:
        try:
            # Read first: the ledger may come further meanwhile, and so be ahead of its mark, never behind.
            mark = read_mark(self.mark_path)
            engine = self._opened(mark).execution_options(**{_READING: reading})
            with Session(engine, expire_on_commit=False) as session:
                with session.begin():
                    began = _state(session.connection())
                    # Another file may have been written into this one.
                    self._refuse_lesser(began, mark)
                    yield session
                    session.flush()
                    ended = began if reading else _state(session.connection())
                if ended != began:
                    self._advance_mark(ended)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._fault(error) from error

    def _opened(self, mark: Mark | None) -> Engine:
        with self._opening:
            if self._engine is not None and self._file == _identity(self.path):
                return self._engine
            # Moved or deleted under this process: what it holds open is no longer the ledger.
            self._dispose()
            # Looked at before those that were set aside: what is set aside meanwhile is not made anew.
            is_there = _identity(self.path) is not None
            if self.set_aside():
                raise self._corrupt()
            if is_there and not self.path.stat().st_size:
                # It gets its name when it is whole: what is empty was emptied.
                raise _DamagedError
            if not is_there and mark is not None:
                raise self._missing(mark)
            if self._read_only:
                self._engine, self._file = self._open_to_look()
            else:
                if not is_there:
                    self._make()
                self._engine, self._file = self._open_to_write(mark)
            return self._engine

    def _open_to_write(self, mark: Mark | None) -> tuple[Engine, tuple[int, int] | None]:
        self._leave_newer_alone()
        engine = _engine(self.path)
        event.listen(engine, "connect", _prepare)
        try:
            file = _identity(self.path)
            with engine.begin() as connection:
                self._migrate(connection)
                state = _state(connection)
                # Where it is refused it is not migrated either.
                self._refuse_lesser(state, mark)
        except BaseException:
            engine.dispose()
            raise
        self._advance_mark(state)
        return engine, file

    def _open_to_look(self) -> tuple[Engine, tuple[int, int] | None]:
        if _is_write_ahead(self.path):
            raise self._untouched("is as an earlier sync-mcp wrote it")
        engine = _engine(self.path, mode="ro")
        try:
            file = _identity(self.path)
            with engine.execution_options(**{_READING: True}).begin() as connection:
                if self._checked_version(connection) < self.version:
                    raise self._untouched("is as an earlier sync-mcp wrote it")
        except BaseException:
            engine.dispose()
            raise
        return engine, file

    def _make(self) -> None:
        """Make the file under another name; it gets its own when it is whole, unless another was faster."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{_NEW}{secrets.token_hex(8)}.sqlite3"
        try:
            # Made here first: what SQLite makes itself, others may read.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            engine = _engine(path)
            event.listen(engine, "connect", _prepare)
            try:
                with engine.begin() as connection:
                    connection.execute(text("CREATE TABLE ledger (version INTEGER NOT NULL)"))
                    connection.execute(text("INSERT INTO ledger VALUES (0)"))
                    self._migrate(connection)
            finally:
                engine.dispose()
            _name(path, self.path)
        finally:
            for suffix in ("", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def _dispose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _leave_newer_alone(self) -> None:
        # To open it for writing can write already: what its own version had left in the journal.
        read_only = f"{self.path.as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(read_only, uri=True, timeout=_BUSY_SECONDS)) as connection:
                versions = connection.execute("SELECT version FROM ledger").fetchall()
        except sqlite3.Error:
            # Damaged, or gone: the next look finds out.
            return
        for (version,) in versions:
            self._refuse_newer(version)

    def _refuse_newer(self, version: int) -> None:
        if version > len(_MIGRATIONS):
            raise LedgerError(
                f"The ledger {self.path} was written by a newer sync-mcp (version {version}).",
                code="ledger_newer",
                next_step="Ask the user to update sync-mcp. The file was left as it is.",
            )

    def _migrate(self, connection: Connection) -> None:
        version = self._checked_version(connection)
        for migrate in _MIGRATIONS[version:]:
            migrate(connection)
        if version < self.version:
            connection.execute(text("UPDATE ledger SET version = :now"), {"now": self.version})

    def _checked_version(self, connection: Connection) -> int:
        """Return the version of a file, having looked whether it is whole and not a newer one."""
        if connection.execute(text("PRAGMA quick_check(1)")).scalar() != "ok":
            raise _DamagedError
        if not inspect(connection).has_table("ledger"):
            raise _DamagedError
        versions = connection.execute(text("SELECT version FROM ledger")).scalars().all()
        if len(versions) != 1:
            raise _DamagedError
        [version] = versions
        # It may have been migrated by another process since it was looked at.
        self._refuse_newer(version)
        return version

    def _refuse_lesser(self, state: Mark, mark: Mark | None) -> None:
        """Refuse a ledger that is not the one that its mark tells of, or has come less far."""
        if mark is None or mark == UNREADABLE:
            return
        if state.ledger != mark.ledger:
            raise self._replaced(f"is another one than its mark {MARK_NAME} tells of")
        if state.revision < mark.revision:
            raise self._replaced(
                f"is an older copy, or has lost entries: it knows {_extent(state)}, and its mark {MARK_NAME} "
                f"{_extent(mark)}"
            )

    def _advance_mark(self, state: Mark) -> None:
        try:
            advance_mark(self.mark_path, state)
        except OSError as error:
            # The ledger itself is written, and a mark may be behind.
            logger.warning("the ledger's mark cannot be written: %s", safe(str(error), _REASON_LIMIT))

    def _fault(self, error: Exception) -> LedgerError:
        original = getattr(error, "orig", None) or error
        code = getattr(original, "sqlite_errorcode", 0)
        is_damaged = code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if is_damaged or isinstance(error, _DamagedError):
            if self._read_only:
                return _lost(f"The ledger {self.path} is damaged.", "ledger_corrupt")
            self._set_aside_now()
            return self._corrupt()
        # The next call looks at it anew: another file may have been written into this one.
        self.close()
        if self._read_only and code == sqlite3.SQLITE_READONLY_ROLLBACK:
            return self._untouched("was being written by a process that died")
        used = "read" if self._read_only else "written"
        return LedgerError(
            f"The ledger {self.path} cannot be {used}: {safe(str(original), _REASON_LIMIT)}.",
            next_step=_END_OTHERS if code & 0xFF == sqlite3.SQLITE_BUSY else _MAKE_ROOM,
        )

    def _set_aside_now(self) -> None:
        self.close()
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        for suffix in ("", *_JOURNALS):
            path = self.path.with_name(FILE_NAME + suffix)
            # The first process to see it may have moved it already.
            with contextlib.suppress(FileNotFoundError):
                path.rename(self.folder / f"{_SET_ASIDE}{stamp}.sqlite3{suffix}")

    def _corrupt(self) -> LedgerError:
        names = ", ".join(path.name for path in self.set_aside()) or FILE_NAME
        return _lost(
            f"The ledger was damaged and has been set aside in {self.folder} ({names}): what was paid before "
            "is not known any more, so nothing is paid for now.",
            "ledger_corrupt",
        )

    def _missing(self, mark: Mark) -> LedgerError:
        knew = "" if mark == UNREADABLE else f", which knew {_extent(mark)}"
        return _lost(
            f"The ledger {self.path} is gone{knew}: its mark {MARK_NAME} is still there. What was paid "
            "before is not known any more, so nothing is paid for now.",
            "ledger_missing",
        )

    def _replaced(self, how: str) -> LedgerError:
        return _lost(
            f"The ledger {self.path} {how}. What was paid since may not be known any more, so nothing is "
            "paid for now.",
            "ledger_replaced",
        )

    def _untouched(self, how: str) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} {how}: the next paid call, or `sync-mcp ledger check`, brings it up to "
            "date.",
            code=UNTOUCHED_CODE,
            next_step="Ask the user to run `sync-mcp ledger check`.",
        )


_MAKE_ROOM = (
    "Ask the user to make room on the disk and the folder writable, or name another folder in SYNC_MCP_HOME. "
    "Nothing is paid for without the ledger."
)
_END_OTHERS = (
    "Make the same call again in a while; nothing was paid for. If it stays so, ask the user to end other "
    "processes of sync-mcp, above all those of an earlier version."
)


def _lost(message: str, code: str) -> LedgerError:
    return LedgerError(
        message,
        code=code,
        next_step="Ask the user to run `sync-mcp ledger check`, which says what can be done.",
    )


def _extent(mark: Mark) -> str:
    return f"entries up to {mark.last_entry}, of {dollars(mark.counted_usd)} together"


def _state(connection: Connection) -> Mark:
    """Return how far an open ledger has come."""
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    row = driver.execute(STATE).fetchone()
    if row is None:
        raise _DamagedError
    ledger, revision, last_entry, counted = row
    return Mark(ledger, revision, last_entry, Decimal(counted) / _NANO)


def _is_write_ahead(path: Path) -> bool:
    """Return whether a file is kept as version 1 was: SQLite makes files beside it even to read it."""
    # Not while it is open: to close it lets go of this process's locks on it.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    return header[_MODE_AT : _MODE_AT + 1] == bytes([_WRITE_AHEAD])


def _engine(path: Path, *, mode: Literal["rw", "ro"] = "rw") -> Engine:
    """Return an engine for a file that is there: none is made, even if it goes meanwhile."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
            # Transactions are begun by hand: the driver would begin them too late for a lock.
            isolation_level=None,
        )

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _name(path: Path, name: Path) -> None:
    """Give a file a name, all at once; where another has it, nothing is done."""
    if sys.platform == "win32":
        # Neither replaces what there is, nor deletes what is open.
        with contextlib.suppress(FileExistsError, PermissionError):
            if _identity(name) is None:
                _delete_journal(name)
            path.rename(name)
        return
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        # A rename would replace what another process has named meanwhile.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _identity(name) is None:
            _delete_journal(name)
            path.rename(name)
    finally:
        os.close(folder)


def _delete_journal(path: Path) -> None:
    # Left by a file that was moved away without it, it would be played into the new one.
    for suffix in _JOURNALS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _prepare(connection: Any, _: object) -> None:
    _use_journal(connection)
    # With the folder: a journal that comes back after a power cut would take the last entry back.
    connection.execute("PRAGMA synchronous=EXTRA")


def _use_journal(connection: Any) -> None:
    """Have all that is committed stand in the file itself: it is whole without any file beside it."""
    ends_at = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            # To leave the mode of version 1, which needs the file alone, does not wait by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends_at:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    is_reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _latest(session: Session, digest: str) -> Entry | None:
    return session.scalars(_LATEST, {"digest": digest}).first()


def _owners(session: Session, entry: Entry, generation_id: str) -> list[Entry]:
    """Return the other attempts that are known to have made a job."""
    job = {"generation_id": generation_id, "entry_id": entry.id, "base_url": entry.base_url}
    return list(session.scalars(_OWNERS, job))


def _accept(entry: Entry, generation_id: str, *, was_found: bool) -> None:
    entry.state, entry.generation_id, entry.was_found = "accepted", generation_id, was_found
    entry.leased_until, entry.settled_at = 0.0, None
    entry.counted_usd = entry.estimate_usd or Decimal(0)


def _add_second_job(session: Session, entry: Entry, generation_id: str) -> None:
    """Write down that an attempt made another job besides the one that it is known for."""
    last = session.scalar(select(func.max(Entry.attempt)).where(Entry.digest == entry.digest))
    second = Entry(
        account=entry.account,
        base_url=entry.base_url,
        tool=entry.tool,
        digest=entry.digest,
        body_digest=entry.body_digest,
        digest_version=entry.digest_version,
        take=entry.take,
        attempt=(last or entry.attempt) + 1,
        idempotency_key=entry.idempotency_key,
        model=entry.model,
        summary=entry.summary,
        extras=entry.extras,
        owner=entry.owner,
        assets=entry.assets,
        estimate_usd=entry.estimate_usd,
        created_at=_now(session, entry.account, entry.base_url),
        first_sent_at=entry.first_sent_at,
        charged="unknown",
    )
    _accept(second, generation_id, was_found=False)
    session.add(second)
    session.flush()
    logger.error(
        "one attempt made two jobs, and both count: %s (entry %s) and %s (entry %s)",
        safe(entry.generation_id or "", _ID_LIMIT),
        entry.id,
        safe(generation_id, _ID_LIMIT),
        second.id,
    )


def _having_job(session: Session, entry_id: int, generation_id: str) -> Entry | None:
    """Return an entry if it has this job, and the job was not closed."""
    entry = session.get(Entry, entry_id)
    if entry is None or entry.generation_id != generation_id or entry.state not in ("accepted", "ended"):
        return None
    return entry


def _withdraw(session: Session, entry: Entry) -> None:
    for quote in session.scalars(
        select(_Quote).where(_Quote.digest == entry.digest, _Quote.attempt == entry.attempt)
    ):
        quote.used_at = None
    session.delete(entry)


def _settle(entry: Entry, state: State, charged: Charged, counted: Decimal, now: float) -> None:
    entry.state, entry.charged, entry.counted_usd = state, charged, counted
    entry.leased_until = 0.0
    # Its end, not when its cost was last asked for.
    entry.settled_at = now if entry.settled_at is None else entry.settled_at


def _undecided(session: Session, entry_id: int) -> Entry:
    """Return an attempt that the user may decide about."""
    entry = session.get(Entry, entry_id)
    if entry is None:
        raise InvalidRequestError(f"There is no entry {entry_id}.")
    if not entry.is_unresolved(time.time()):
        raise InvalidRequestError(f"The outcome of entry {entry_id} is not in doubt: it is {entry.state}.")
    return entry


def _lease_times() -> dict[str, float]:
    """Return what the conditions on leases compare with."""
    now = time.time()
    return {"now": now, "longest_lease": now + _LONGEST_LEASE_SECONDS}


def _abandoned() -> ColumnElement[bool]:
    """`Entry.is_abandoned`, as the database decides it."""
    return (Entry.state == "preparing") & ~_LEASED


def _unresolved() -> ColumnElement[bool]:
    """`Entry.is_unresolved`, as the database decides it."""
    return (Entry.state == "unknown") | ((Entry.state == "sending") & ~_LEASED)


def _entries_to_prune(session: Session, before: float) -> Sequence[Entry]:
    # A refused attempt may go as well: it does not stand for the ones before it.
    later = aliased(Entry)
    is_last = ~exists().where(
        later.digest == Entry.digest, later.attempt > Entry.attempt, later.state != "refused"
    )
    query = select(Entry).where(
        Entry.settled_at < before,
        Entry.charged == "no",
        Entry.counted_usd == Decimal(0),
        (Entry.state == "refused") | (Entry.state.in_(("ended", "released")) & ~is_last),
    )
    abandoned = select(Entry).where(Entry.created_at < before, _abandoned())
    return [*session.scalars(query), *session.scalars(abandoned, _lease_times())]


def _quotes_to_prune(session: Session, before: float) -> Sequence[_Quote]:
    return session.scalars(select(_Quote).where(_Quote.made_at < before)).all()


def _now(session: Session, account: str, base_url: str) -> float:
    """Return the time by the later of the clock and the ledger: a clock set back gives no second budget."""
    latest = session.scalar(_LATEST_TIME, {"account": account, "base_url": base_url})
    return max(time.time(), latest or 0.0)


def _use_quote(session: Session, wish: Wish, now: float, latest: Entry | None) -> None:
    quote = session.get(_Quote, wish.quote_id)
    if quote is None:
        raise QuoteRefused("There is no such quote.")
    if quote.used_at is not None:
        told = "The quote has been used: it is good for one job."
        if latest is not None and latest.attempt == quote.attempt and latest.state == "refused":
            # The call that it was used by may have ended before it came to know.
            told += f" That one was refused: {latest.error_code}."
        raise QuoteRefused(told)
    if (quote.digest, quote.attempt) != (wish.intention.digest, wish.attempt):
        raise QuoteRefused("The quote is for another call than this one.")
    # The ledger's time stands still while the clock is behind it, and the clock may be set back.
    age = time.time() - quote.made_at_by_clock
    if now - quote.made_at > QUOTE_SECONDS or not -_STEP_BACK_SECONDS <= age <= QUOTE_SECONDS:
        raise QuoteRefused("The quote has expired: it is good for ten minutes.")
    if quote.price_usd is not None and (wish.estimate_usd is None or wish.estimate_usd > quote.price_usd):
        raise QuoteRefused("The price is no longer what the quote says.")
    quote.used_at = now


def _spending(session: Session, account: str, base_url: str, now: float) -> Spending:
    asked = {
        "account": account,
        "base_url": base_url,
        "day": utc_midnight(now),
        "month": start_of_month(now),
        **_lease_times(),
    }
    today, month, ever, reserved, unresolved, in_doubt = session.execute(_SPENDING, asked).one()
    nothing = Decimal(0)
    return Spending(
        today_usd=today or nothing,
        month_usd=month or nothing,
        ever_usd=ever or nothing,
        reserved_usd=reserved or nothing,
        unresolved_usd=unresolved or nothing,
        unresolved=in_doubt,
        day_ends_at=next_utc_midnight(now),
    )


# What each create asks is put together once: that takes longer than its running.


def _sum_where(condition: ColumnElement[bool]) -> ColumnElement[Decimal]:
    return func.sum(Entry.counted_usd).filter(condition)


_LEASED = (Entry.leased_until > bindparam("now")) & (Entry.leased_until <= bindparam("longest_lease"))
_OF_ACCOUNT = (Entry.account == bindparam("account")) & (Entry.base_url == bindparam("base_url"))
_SPENDING = select(
    _sum_where(Entry.created_at >= bindparam("day")),
    _sum_where(Entry.created_at >= bindparam("month")),
    func.sum(Entry.counted_usd),
    _sum_where(Entry.state.in_(("preparing", "sending", "accepted")) & ~_unresolved()),
    _sum_where(_unresolved()),
    func.count().filter(_unresolved()),
).where(_OF_ACCOUNT, ~_abandoned())
_LATEST_TIME = select(func.max(Entry.created_at)).where(_OF_ACCOUNT)
_LATEST = (
    select(Entry)
    .where((Entry.digest == bindparam("digest")) | (Entry.sent_digest == bindparam("digest")))
    # An attempt under the other name of the same counts as one before.
    .order_by(Entry.attempt.desc(), Entry.id.desc())
    .limit(1)
)
_OWNERS = select(Entry).where(
    Entry.generation_id == bindparam("generation_id"),
    Entry.id != bindparam("entry_id"),
    Entry.base_url == bindparam("base_url"),
)
