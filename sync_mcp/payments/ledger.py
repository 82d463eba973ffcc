"""The ledger: every paid call is written down before it is sent, and what came of it after.

A database file of the user's own, shared by all processes. Each method is one transaction and blocks for
as long as the disk takes: call it in a worker thread.

An attempt is in one of nine states (`State`). What each act makes of it, by its owner and of its own job: the
next state, `gone` (taken back, as if it had never been), `!` (refused), `.` (nothing, or for another to do).
`*` is an attempt whose process has died: its lease has run out.

    act                 preparing  preparing*  sending   sending*  unknown   accepted
    send                sending    .           .         .         .         .
    withdraw            gone       gone        .         .         .         .
    call_off            .          .           gone      gone      .         .
    withdraw_abandoned  .          gone        .         .         .         .
    take_over           .          .           .         sending   sending   .
    claim               accepted   accepted    accepted  accepted  accepted  .
    accept              accepted   accepted    accepted  accepted  accepted  .
    doubt               .          .           unknown   unknown   .         .
    refuse              .          .           refused   refused   .         .
    settle              .          .           .         .         .         ended
    delete_job          .          .           .         .         .         deleted
    resolve             !          !           !         accepted  accepted  ended
    release             !          !           !         released  released  released

What the API says it made counts, whatever the ledger took the attempt for: also of one that was released
without a job.

    act                 ended     refused   released  deleted   closed
    send                .         .         .         .         .
    withdraw            .         .         .         .         .
    call_off            .         .         .         .         .
    withdraw_abandoned  .         .         .         .         .
    take_over           .         .         .         .         .
    claim               .         accepted  .         .         .
    accept              .         accepted  .         .         .
    doubt               .         .         .         .         .
    refuse              .         .         .         .         .
    settle              ended     .         released  deleted   .
    delete_job          deleted   .         .         .         .
    resolve             !         !         !         !         !
    release             released  !         !         released  released
"""

import contextlib
import logging
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

from sqlalchemy import (
    URL,
    BigInteger,
    BindParameter,
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

from sync_mcp.errors import Code, InvalidRequestError, LedgerError, LimitReached, QuoteRefused, SyncError
from sync_mcp.machine.home import home_folder
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.intention import ABOUT_LIMIT, DIGEST_VERSION, Intention
from sync_mcp.payments.limits import (
    HIGHEST_USD,
    Limits,
    Spending,
    Spent,
    believed_until,
    dollars,
    next_utc_midnight,
    start_of_month,
    utc_midnight,
)
from sync_mcp.payments.stores.mark import UNREADABLE, Mark, advance_mark, read_mark
from sync_mcp.payments.stores.schema import (
    RENAME,
    STATE,
    VERSION_1,
    VERSION_2,
    VERSION_3,
    VERSION_4,
    VERSION_5,
    VERSION_6,
    VERSION_7,
)
from sync_mcp.texts import plain_id, safe

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
LEFT_OPEN_AFTER_SECONDS = 86_400.0
"""How long all jobs are asked for that run or have no cost yet; after that a few of them at a time."""
# The API meters late: it can say "complete, 0" of a job that it charges minutes or hours afterwards.
COMPLETED_FREE_AFTER_SECONDS = 6 * 3600.0
"""How long after its end a completed job's cost of 0 is not believed yet."""
FAILED_FREE_AFTER_SECONDS = 600.0
"""The same for a job that failed: until then it may have been charged."""
REPEATED_IN_VAIN = "repeated_in_vain"
"""Stands in place of an error's code where the user agreed to a repeat of a job that nobody sees, and the API
answered that with the same job: the next one goes out under a new key."""
UNASKED_SECONDS = 86_400.0
"""Over so long a time what was paid unasked is summed."""

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
_DAY_SECONDS = 86_400.0
_NAMED_BY_KEY = "key:"
"""An account whose name the API does not tell begins so."""
_REASON_LIMIT = 200
_ID_LIMIT = 80

State = Literal[
    "preparing", "sending", "unknown", "accepted", "ended", "refused", "released", "deleted", "closed"
]
"""Of an attempt. Open: its files are on their way (`preparing`), it is on its way itself (`sending`), perhaps
made (`unknown`), made (`accepted`). Settled: its job has ended (`ended`), the API refused it (`refused`), the
user let go of it (`released`), its job was deleted by this client (`deleted`). `closed` stands in ledgers of
version 1 alone: a job that the API no longer showed."""

OPEN_STATES: tuple[State, ...] = ("preparing", "sending", "unknown", "accepted")
_LET_GO: tuple[State, ...] = ("released", "deleted")
"""Of what stays as it is, whatever is learned of its job's cost."""
Charged = Literal["yes", "no", "unknown"]
TokenKind = Literal["quote", "question"]
"""A quote is handed to the model; a question is put by the host, which brings its token back."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A time in seconds since 1970, and whether the API told it: its days are the ones that count."""

    seconds: float
    is_heard: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """What shows that the user agreed: good once, for one attempt at one intention."""

    id: str
    kind: TokenKind = "quote"


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
    created_at: Mapped[float] = mapped_column(index=True)
    first_sent_at: Mapped[float]
    settled_at: Mapped[float | None]
    is_sandbox: Mapped[bool] = mapped_column(default=False)
    """No real money: it is summed apart from what is."""
    is_unasked: Mapped[bool] = mapped_column(default=False)
    """Nobody agreed to it: it counts against what may be paid unasked."""
    content_digest: Mapped[str | None] = mapped_column(index=True)
    """Of what is made, whoever pays: it tells that two keys' calls mean the same."""
    last_sent_at: Mapped[float] = mapped_column(default=0.0)
    is_on_its_way: Mapped[bool] = mapped_column(default=True)
    """An answer to it is to come; else, as long as it is open, it is in doubt."""
    caller: Mapped[str | None]
    """The name of the token that the call came with over HTTP, where it has one."""
    about: Mapped[str | None]
    """What it is called in a list; the versions before noted none."""
    saved_as: Mapped[str | None]
    """Where its result was saved last."""

    @property
    def title(self) -> str:
        """What it is called in a list, at most `ABOUT_LIMIT` characters."""
        return self.about or safe(self.summary.partition(": ")[2] or self.summary, ABOUT_LIMIT)

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

    @property
    def is_let_go_unseen(self) -> bool:
        """Whether the user let go of its job as one that was never made."""
        is_free = self.charged == "no" and self.cost_usd is None
        return self.state == "released" and self.generation_id is not None and is_free

    @property
    def may_be_paid(self) -> bool:
        """Whether a job stands behind it that is paid for, or may be."""
        has_ended = self.state in ("ended", "deleted", "closed")
        return self.is_open or (has_ended and (self.charged != "no" or self.status == "COMPLETED"))

    @property
    def asks_again(self) -> bool:
        """Whether the same call asks before it makes another attempt: this one may have been paid."""
        has_no_result = self.state == "ended" and self.status != "COMPLETED" and self.charged != "no"
        return has_no_result or self.state in ("deleted", "closed")

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
    kind: Mapped[str] = mapped_column(default="quote")
    body_digest: Mapped[str | None] = mapped_column(index=True)
    revoked_at: Mapped[float | None]
    """When the user said no to what it is for."""
    caller: Mapped[str | None]
    """For whom it is good: the name of the token that it was asked for with."""
    webhook_host: Mapped[str | None]
    """Who was told to the user to get the finished job's URL; None for nobody."""


class _Declined(_Base):
    """What the user said no to last, and when: it holds for its other names too, once they are known."""

    __tablename__ = "declined"

    body_digest: Mapped[str] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(primary_key=True)
    """Whose user it was, by the name of their token; empty for none."""
    declined_at: Mapped[float]


class _Name(_Base):
    """Another name of an intention: what it became with its assets, which another attempt had sent before."""

    __tablename__ = "names"

    digest: Mapped[str] = mapped_column(primary_key=True)
    sent_digest: Mapped[str] = mapped_column(primary_key=True)


class _Day(_Base):
    """What the entries of a day count together, those that were abandoned too."""

    __tablename__ = "days"

    is_sandbox: Mapped[bool] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    """How many whole days it is after 1970 began, UTC."""
    counted_usd: Mapped[Decimal] = mapped_column(_Dollars)


class _Account(_Base):
    """Which account a key belongs to; told once, it stays: a digest must not change under a job."""

    __tablename__ = "accounts"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    is_sandbox: Mapped[bool] = mapped_column(default=False)


def _through(statements: Sequence[str]) -> Callable[[Connection], None]:
    def migrate(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    return migrate


_MIGRATIONS: Sequence[Callable[[Connection], None]] = (
    _through(VERSION_1),
    _through(VERSION_2),
    _through(VERSION_3),
    _through(VERSION_4),
    _through(VERSION_5),
    _through(VERSION_6),
    _through(VERSION_7),
)
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
    now: Instant
    token: Token | None = None
    """What the user agreed by; a form that is answered within the call leaves none."""
    is_agreed: bool = False
    """Whether the user agreed within this call."""
    unasked_usd: Decimal | None = None
    """The most that may be paid unasked within a day; None for no such bound."""
    has_files: bool = False
    """Whether local files are to be uploaded before it can be sent."""
    is_sandbox: bool = False
    caller: str | None = None
    """The name of the token that the call came with."""
    webhook_host: str | None = None
    """Whoever gets the finished job's URL and may not without the user's word; None for nobody."""
    repeated_key: str | None = None
    """The key of an accepted attempt whose job nobody sees: a repeat goes out under it first."""


class MustAsk(Exception):
    """What was paid unasked and this together are more than the user lets be paid so; nothing was written."""

    def __init__(self, unasked_usd: Decimal) -> None:
        self.unasked_usd = unasked_usd
        super().__init__("the user has to be asked")


class _DamagedError(SQLAlchemyError):
    """The file is no longer whole."""


@dataclass(frozen=True, slots=True)
class _Engines:
    """An open file's engine, and the same one for transactions that only read."""

    writing: Engine
    reading: Engine


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
        self.folder = home_folder(folder)
        self.path = self.folder / FILE_NAME
        self.mark_path = self.folder / MARK_NAME
        self._read_only = read_only
        self._engines: _Engines | None = None
        self._file: tuple[int, int] | None = None
        self._opening = Lock()
        self._seen: Mark | None = None
        """How far this process has seen the ledger come: it tells of a loss that took the mark as well."""

    @property
    def version(self) -> int:
        """The version that a ledger has once it is open."""
        return len(_MIGRATIONS)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._opening:
            self._dispose()

    # Accounts

    def account_of(self, fingerprint: str, base_url: str) -> tuple[str, bool] | None:
        """Return the account of a key and whether it is a sandbox's, where that is known."""
        with self._reading() as session:
            known = session.get(_Account, (fingerprint, base_url))
            return (known.account, known.is_sandbox) if known else None

    def keep_account(self, fingerprint: str, base_url: str, account: str, *, is_sandbox: bool = False) -> str:
        """Note the account of a key and return it; what was noted before stays."""
        with self._transaction() as session:
            known = session.get(_Account, (fingerprint, base_url))
            if known is None:
                session.add(
                    _Account(
                        fingerprint=fingerprint, base_url=base_url, account=account, is_sandbox=is_sandbox
                    )
                )
            return known.account if known else account

    # Attempts

    def latest(self, intention: Intention) -> Entry | None:
        """Return the last attempt at an intention."""
        with self._reading() as session:
            return _latest(session, intention)

    def standing(self, intention: Intention) -> Entry | None:
        """Return the last attempt at an intention that was not refused: what a next one comes after.

        A refused one cost nothing, and says nothing of the job that may have been paid before it.
        """
        with self._reading() as session:
            return _standing(session, intention)

    def entry(self, entry_id: int) -> Entry | None:
        """Return one entry."""
        with self._reading() as session:
            return session.get(Entry, entry_id)

    def maker_of(self, generation_id: str, base_url: str) -> Entry | None:
        """Return the attempt that made a job, or whose answer named it; of several the latest."""
        with self._reading() as session:
            job = {"generation_id": generation_id, "base_url": base_url}
            return session.scalars(_MAKER, job).first()

    def makers_of(self, generation_ids: Sequence[str], base_url: str) -> dict[str, Entry]:
        """Return the attempt that made each of these jobs, where one is known."""
        with self._reading() as session:
            found = session.scalars(
                select(Entry).where(Entry.generation_id.in_(generation_ids), Entry.base_url == base_url)
            )
            return {str(entry.generation_id): entry for entry in found}

    def twin_elsewhere(self, intention: Intention) -> Entry | None:
        """Return an attempt at the same thing for another account of this address that may be the same one.

        A key whose account the API does not tell is an account of its own: after it was changed, the ledger
        cannot know whether the new one spends the same money.
        """
        with self._reading() as session:
            found = session.scalars(
                select(Entry)
                .where(
                    Entry.content_digest == intention.content_digest,
                    Entry.base_url == intention.base_url,
                    Entry.account != intention.account,
                )
                .order_by(Entry.id.desc())
            )
            own = intention.account.startswith(_NAMED_BY_KEY)
            return next(
                (
                    entry
                    for entry in found
                    if entry.may_be_paid and (own or entry.account.startswith(_NAMED_BY_KEY))
                ),
                None,
            )

    def begin(self, wish: Wish) -> tuple[Entry, bool]:
        """Write an attempt down, so that it may be sent; the flag says whether it is this call's to send.

        It is another's where that was faster: then its entry is returned.

        Raises:
            LimitReached: a budget would be passed; nothing was written.
            QuoteRefused: the quote is not for this; nothing was written.
            MustAsk: the user has to agree first; nothing was written.
        """
        intention = wish.intention
        with self._transaction() as session:
            latest = _latest(session, intention)
            if latest is not None and latest.attempt >= wish.attempt:
                return latest, False
            now = _now(session, wish.now)
            if wish.token is not None:
                _use_token(session, wish, now, latest)
            if wish.limits.any:
                refusal = wish.limits.refusal(wish.estimate_usd, _spent(session, wish.is_sandbox, now))
                if refusal is not None:
                    raise refusal
            is_unasked = wish.token is None and not wish.is_agreed
            if is_unasked:
                _check_unasked(session, wish, now)
            else:
                # The user has said yes since.
                declined = session.get(_Declined, (intention.body_digest, wish.caller or ""))
                if declined is not None:
                    session.delete(declined)
            entry = Entry(
                account=intention.account,
                base_url=intention.base_url,
                tool=wish.tool,
                digest=intention.digest,
                body_digest=intention.body_digest,
                content_digest=intention.content_digest,
                digest_version=DIGEST_VERSION,
                take=intention.take,
                attempt=wish.attempt,
                idempotency_key=wish.repeated_key or intention.idempotency_key(wish.attempt),
                model=safe(intention.request.model, 80),
                summary=intention.summary,
                about=intention.about,
                extras=intention.extras,
                state="preparing" if wish.has_files else "sending",
                owner=wish.owner,
                leased_until=time.time() + LEASE_SECONDS,
                assets={},
                estimate_usd=wish.estimate_usd,
                counted_usd=wish.estimate_usd or Decimal(0),
                created_at=now,
                first_sent_at=wish.now.seconds,
                last_sent_at=wish.now.seconds,
                was_found=False,
                charged="unknown",
                is_sandbox=wish.is_sandbox,
                is_unasked=is_unasked,
                caller=wish.caller,
            )
            session.add(entry)
            session.flush()
            return entry, True

    def send(
        self, entry_id: int, wish: Wish, sent: Intention, assets: Mapping[str, str]
    ) -> Literal["mine", "lost", "joined", "made", "asks"]:
        """Note the assets that an attempt is sent with; return whether it is this owner's to send now.

        `sent` is the intention with them. Where a call that named them has made it, and that may be paid,
        this attempt is withdrawn: it is `joined` where that one is found under both names from now on, else
        it is `made` under the other name. Where the price was unknown to who agreed to it and is known
        now, and would be asked about, it `asks`: it is withdrawn too. What it costs counts from now on, which
        may be another day than its upload's.

        Raises:
            LimitReached: a budget would be passed by now; the attempt was withdrawn.
            QuoteRefused: the user has said no to the same under its other name; the attempt was withdrawn.
        """
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is None or entry.owner != wish.owner or entry.state != "preparing":
                return "lost"
            if not entry.is_leased(time.time()):
                # It counted for nothing meanwhile, and others may have spent what it held.
                return "lost"
            twin = _standing(session, sent)
            # One that is known under this name too came before: the user was asked about it.
            is_other_name = session.get(_Name, (entry.digest, sent.digest)) is not None
            is_known_here = twin is not None and (
                is_other_name or entry.digest in (twin.digest, twin.sent_digest)
            )
            if twin is not None and twin.may_be_paid and not is_known_here:
                _withdraw(session, entry)
                if twin.sent_digest is not None:
                    session.merge(_Name(digest=entry.digest, sent_digest=sent.digest))
                    return "made"
                twin.sent_digest = entry.digest
                return "joined"
            now = _now(session, wish.now)
            refusal: SyncError | None = _refusal_besides(session, wish, entry, now)
            if refusal is None:
                refusal = _no_since(session, entry, wish, sent)
            if refusal is None and entry.estimate_usd is None and not _covers(session, None, wish, now):
                _withdraw(session, entry)
                return "asks"
            if refusal is None:
                if is_other_name and twin is not None:
                    # Who names it as at first finds this attempt too.
                    session.merge(_Name(digest=twin.digest, sent_digest=sent.digest))
                entry.state, entry.assets, entry.first_sent_at = "sending", dict(assets), wish.now.seconds
                entry.last_sent_at = wish.now.seconds
                entry.sent_digest, entry.created_at = sent.digest, now
                entry.estimate_usd, entry.counted_usd = wish.estimate_usd, wish.estimate_usd or Decimal(0)
                entry.leased_until = time.time() + LEASE_SECONDS
                return "mine"
            _withdraw(session, entry)
        raise refusal

    def withdraw(self, entry_id: int, owner: str) -> None:
        """Take back an attempt of which nothing was sent; its quote is good again."""
        self._take_back(entry_id, owner, "preparing")

    def call_off(self, entry_id: int, owner: str) -> None:
        """Take back an attempt on its way of which nothing went out, as its owner knows."""
        self._take_back(entry_id, owner, "sending")

    def _take_back(self, entry_id: int, owner: str, state: State) -> None:
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is not None and entry.state == state and entry.owner == owner:
                _withdraw(session, entry)

    def withdraw_abandoned(self, intention: Intention) -> None:
        """Take back the last attempt at an intention where its process died before anything was sent."""
        with self._transaction() as session:
            entry = _latest(session, intention)
            if entry is not None and entry.is_abandoned(time.time()):
                _withdraw(session, entry)

    def take_over(self, entry_id: int, wish: Wish) -> Literal["send", "look", "lost"]:
        """Make an attempt whose outcome is unknown, or whose process died, this owner's to go on with.

        It may be sent again where the limits of now allow that: then its money counts on the day of now.
        Else it may be looked for. It is lost where another is busy with it.

        Raises:
            QuoteRefused: the quote is not for this; nothing was changed.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            clock = time.time()
            if not entry.is_unresolved(clock):
                return "lost"
            now = _now(session, wish.now)
            is_allowed = _refusal_besides(session, wish, entry, now) is None
            # A quote is for a send: who only looks does not use it up.
            if is_allowed and wish.token is not None:
                _use_token(session, wish, now, entry)
            entry.state, entry.owner, entry.leased_until = "sending", wish.owner, clock + LEASE_SECONDS
            entry.is_on_its_way = False
            if not is_allowed:
                return "look"
            entry.created_at = now
            return "send"

    def move_to_today(self, entry_id: int, wish: Wish) -> LimitReached | None:
        """Have what an attempt costs count on the day of now, on which it is sent.

        Return which limit stands against that, if any: then it is not to be sent, and nothing was changed.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            now = _now(session, wish.now)
            if utc_midnight(entry.created_at) == utc_midnight(now):
                return None
            refusal = _refusal_besides(session, wish, entry, now)
            if refusal is None:
                entry.created_at = now
            return refusal

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

    def note_send(self, entry_id: int, owner: str, last_sent_at: float, *, is_on_its_way: bool) -> None:
        """Note when an attempt last went out, and whether an answer is to come or it is looked for."""
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is not None and entry.state == "sending" and entry.owner == owner:
                entry.last_sent_at, entry.is_on_its_way = last_sent_at, is_on_its_way

    def known_to_others(self, entry_id: int, generation_ids: Sequence[str]) -> set[str]:
        """Return which of these jobs other attempts are known to have made."""
        with self._reading() as session:
            entry = session.get_one(Entry, entry_id)
            found = session.scalars(
                select(Entry.generation_id).where(
                    Entry.generation_id.in_(generation_ids),
                    Entry.id != entry_id,
                    Entry.base_url == entry.base_url,
                )
            )
            return {str(generation_id) for generation_id in found}

    def claim(self, entry_id: int, generation_id: str) -> Literal["mine", "another's", "unclear"]:
        """Say whether a job that was found in the API's list can be this attempt's, and note it if so."""
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            if entry.generation_id is not None:
                # It was resolved meanwhile, by its answer or by the user.
                return "mine" if entry.generation_id == generation_id else "another's"
            if _owners(session, entry, generation_id):
                return "another's"
            twins = session.scalars(
                select(Entry).where(
                    Entry.body_digest == entry.body_digest,
                    Entry.id != entry_id,
                    Entry.state == "sending",
                    Entry.is_on_its_way,
                )
            )
            # One under way will be told its job. Of two in doubt, looked for at this moment or not, either
            # may have it, and who comes first does: the other one's is another, or is made when it is looked
            # for in vain, and an answer that names it takes it back.
            if any(twin.is_leased(time.time()) for twin in twins):
                return "unclear"
            _accept(entry, generation_id, was_found=True)
            return "mine"

    def accept(self, entry_id: int, generation_id: str) -> Literal["made", "was there"]:
        """Note the job that an attempt made, as the API answered.

        Of an attempt that is known to have made another job, this is a second one: it gets an entry of its
        own, so that both count. Where a repeat under an earlier attempt's key is answered with that one's
        job, nothing new was made: the repeat is withdrawn.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            for other in _owners(session, entry, generation_id):
                if other.idempotency_key == entry.idempotency_key and other.attempt < entry.attempt:
                    other.error_code = REPEATED_IN_VAIN
                    # What the user agreed by stays used: of a new key they are asked anew.
                    session.delete(entry)
                    return "was there"
                if other.was_found and other.state in ("accepted", "ended"):
                    # It took for its own what it found; the answer knows better.
                    other.state, other.generation_id, other.was_found = "unknown", None, False
                    other.settled_at = other.status = other.cost_usd = None
                    other.charged = "unknown"
                    other.counted_usd = other.estimate_usd or Decimal(0)
            if entry.generation_id not in (None, generation_id):
                if not _owners(session, entry, generation_id):
                    _add_second_job(session, entry, generation_id)
            elif entry.generation_id is None or entry.state == "sending":
                _accept(entry, generation_id, was_found=False)
            return "made"

    def doubt(
        self, entry_id: int, owner: str, named_id: str | None, *, gives_quote_back: bool = False
    ) -> None:
        """Note that the outcome of an attempt is unknown; its money counts as spent.

        A quote is given back where nothing went out by it.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                for quote in _tokens_of(session, entry) if gives_quote_back else ():
                    quote.used_at = None
                entry.state, entry.leased_until, entry.is_on_its_way = "unknown", 0.0, False
                entry.named_id = named_id or entry.named_id

    def refuse(self, entry_id: int, owner: str, error_code: str, *, gives_quote_back: bool) -> None:
        """Note that the API refused an attempt, or never saw it: it cost nothing.

        A quote is given back where the refusal says nothing of the price: it holds for the next attempt.
        """
        with self._transaction() as session:
            entry = session.get_one(Entry, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                entry.error_code = safe(error_code, 80)
                _settle(entry, "refused", "no", Decimal(0), time.time())
                if gives_quote_back:
                    for quote in _tokens_of(session, entry):
                        quote.used_at, quote.attempt = None, entry.attempt + 1

    # What ends

    def unsettled(self, account: str, base_url: str, limit: int, now: float) -> list[Entry]:
        """Return accepted jobs that may have ended, and ended ones whose cost is not known, oldest first.

        So are those that the user let go of as never made: they may show all the same.
        Of more than the limit it is now these, now those: none is kept waiting by others for ever. What stays
        so for a day is `left_open`.
        """
        since = now - LEFT_OPEN_AFTER_SECONDS
        return self._some_of(
            account,
            base_url,
            ((Entry.state == "accepted") & (Entry.first_sent_at > since))
            | ((_may_cost(("ended", "released")) | _LET_GO_UNSEEN) & (Entry.settled_at > since)),
            limit,
        )

    def left_open(self, account: str, base_url: str, limit: int, now: float) -> list[Entry]:
        """Return jobs of which it was not told within a day that they ended or what they cost, oldest first.

        So are those that were deleted, and those that the user let go of, as long as they count. Of more than
        the limit it is now these, now those.
        """
        until = now - LEFT_OPEN_AFTER_SECONDS
        found = self._some_of(
            account,
            base_url,
            ((Entry.state == "accepted") & (Entry.first_sent_at <= until))
            | (_may_cost(("ended", *_LET_GO)) & (Entry.settled_at <= until)),
            limit,
        )
        return sorted(found, key=lambda entry: entry.first_sent_at)

    def _some_of(self, account: str, base_url: str, which: ColumnElement[bool], limit: int) -> list[Entry]:
        """Return jobs of an account, the oldest first; of more than the limit now these, now those."""
        with self._reading() as session:
            chosen = (
                select(Entry.id)
                .where(
                    Entry.account == account,
                    Entry.base_url == base_url,
                    Entry.generation_id.is_not(None),
                    which,
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
            ended_at: when it ended, where the API told that; by default when its end was first seen.
        """
        with self._transaction() as session:
            entry = _having_job(session, entry_id, generation_id, ("accepted", "ended", *_LET_GO))
            if entry is None:
                return None
            costs = status == "COMPLETED" or charged == "yes" or bool(counted_usd)
            if entry.state in _LET_GO and entry.charged == "no" and not costs:
                return None
            contradicts = entry.status is not None and entry.status != safe(status, 40)
            entry.status = safe(status, 40)
            known = None if entry.error_code == REPEATED_IN_VAIN else entry.error_code
            entry.error_code = safe(error_code, 80) if error_code else known
            if entry.settled_at is None or ended_at is not None:
                entry.settled_at = now if ended_at is None else min(ended_at, now)
            if charged == "no" or cost_usd == 0:
                cost_usd, charged = _believed_free(entry, now)
            if cost_usd is None and entry.cost_usd is not None and not contradicts:
                cost_usd = entry.cost_usd
                charged = cast(Charged, entry.charged) if charged == "unknown" else charged
            nothing = Decimal(0)
            counted = (
                max(entry.estimate_usd or nothing, counted_usd or nothing) if cost_usd is None else cost_usd
            )
            entry.cost_usd = cost_usd
            state = entry.state if entry.state in _LET_GO else "ended"
            _settle(entry, state, charged, counted, now)
            return entry

    def note_status(self, entry_id: int, *, generation_id: str, status: str) -> None:
        """Note a status that nobody knows of a job that may run still: it is shown to the user."""
        with self._transaction() as session:
            entry = _having_job(session, entry_id, generation_id)
            if entry is not None and entry.state == "accepted":
                entry.status = safe(status, 40)

    def note_saved(self, generation_id: str, base_url: str, path: str) -> None:
        """Note where a job's result was saved; nothing is done where the ledger does not know the job."""
        with self._transaction() as session:
            job = {"generation_id": generation_id, "base_url": base_url}
            entry = session.scalars(_MAKER, job).first()
            if entry is not None and entry.generation_id == generation_id:
                entry.saved_as = path

    def delete_job(self, entry_id: int, *, generation_id: str, now: float) -> None:
        """Note that a job was deleted by this client; what it cost stays spent.

        Nothing is done where the entry no longer has this job.
        """
        with self._transaction() as session:
            entry = _having_job(session, entry_id, generation_id)
            if entry is not None:
                _settle(entry, "deleted", cast(Charged, entry.charged), entry.counted_usd, now)

    # Money

    def spent(self, *, is_sandbox: bool, now: Instant) -> Spent:
        """Return what stands against the limits, of all accounts: real money, or the sandbox's."""
        with self._reading() as session:
            return _spent(session, is_sandbox, _now(session, now))

    def spending(self, *, is_sandbox: bool = False, now: Instant | None = None) -> Spending:
        """Return what has been spent and what is held, by all accounts: real money, or the sandbox's."""
        with self._reading() as session:
            return _spending(session, is_sandbox, _now(session, now or Instant(time.time())))

    def unasked_usd(self, *, is_sandbox: bool, now: Instant) -> Decimal:
        """Return what was paid within a day without anybody's consent, or is about to be."""
        with self._reading() as session:
            return _unasked(session, is_sandbox, _now(session, now))

    def quote(
        self,
        intention: Intention,
        attempt: int,
        price_usd: Decimal | None,
        now: Instant,
        kind: TokenKind = "quote",
        *,
        caller: str | None = None,
        webhook_host: str | None = None,
    ) -> str:
        """Hand out what a user can agree by: good once, for this attempt at this intention and this caller.

        It covers that the finished job's URL goes to `webhook_host`, and to nobody else that must be asked
        about. A quote is good for ten minutes; a question has no time of ours.
        """
        token_id = f"{'q' if kind == 'quote' else 's'}_{secrets.token_urlsafe(9)}"
        with self._transaction() as session:
            session.add(
                _Quote(
                    id=token_id,
                    kind=kind,
                    digest=intention.digest,
                    body_digest=intention.body_digest,
                    attempt=attempt,
                    price_usd=price_usd,
                    made_at=_now(session, now),
                    made_at_by_clock=time.time(),
                    caller=caller,
                    webhook_host=webhook_host,
                )
            )
        return token_id

    def question_age(self, token_id: str, caller: str | None = None) -> float | None:
        """Return how many seconds ago a question was put to a caller, or None where there was none."""
        with self._reading() as session:
            question = session.get(_Quote, token_id)
            if question is None or question.kind != "question" or question.caller != caller:
                return None
            return time.time() - question.made_at_by_clock

    def revoke(self, *intentions: Intention, caller: str | None = None) -> None:
        """Take back a caller's quotes and questions of what is made, of any take: their user said no to it.

        What is named by its files and what is named by their assets is one thing: `intentions` are its names
        as far as they are known.
        """
        now = time.time()
        bodies = {intention.body_digest for intention in intentions}
        with self._transaction() as session:
            names = _names_of(session, intentions)
            for body_digest in bodies:
                session.merge(_Declined(body_digest=body_digest, caller=caller or "", declined_at=now))
            for quote in session.scalars(
                select(_Quote).where(
                    _Quote.body_digest.in_(bodies) | _Quote.digest.in_(names),
                    _Quote.caller.is_not_distinct_from(caller),
                    _Quote.used_at.is_(None),
                    _Quote.revoked_at.is_(None),
                )
            ):
                quote.revoked_at = now

    def was_declined(self, intention: Intention, caller: str | None) -> bool:
        """Return whether a caller's user said no to it within a day, and has not agreed to it since."""
        with self._reading() as session:
            declined = session.get(_Declined, (intention.body_digest, caller or ""))
            return declined is not None and 0 <= time.time() - declined.declined_at < _DAY_SECONDS

    def unresolved(self, accounts: Collection[str], base_url: str) -> list[Entry]:
        """Return the attempts whose outcome is unknown, or whose process died on the way, newest first."""
        with self._reading() as session:
            found = session.scalars(
                select(Entry)
                .where(Entry.account.in_(accounts), Entry.base_url == base_url, _unresolved())
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
            now = _now(session, Instant(time.time()))
            return [
                (account, base_url, _spending_of_account(session, account, base_url, now))
                for account, base_url in pairs
            ]

    def owner(self, entry: Entry, generation_id: str) -> Entry | None:
        """Return the other attempt that is known to have made a job, if there is one."""
        with self._reading() as session:
            return next(iter(_owners(session, entry, generation_id)), None)

    def resolve(self, entry_id: int, generation_id: str, *, as_seen: Entry | None = None) -> None:
        """Note, on the user's word, which job an attempt made.

        An accepted attempt whose own job is named so is over: its estimate stands for its cost
        until that is known.

        Raises:
            InvalidRequestError: the attempt is settled, the job is known to be another's, or the attempt is
                no longer what the user decided about.
        """
        with self._transaction() as session:
            entry = _open_entry(session, entry_id)
            _check_as_seen(entry, as_seen)
            for other in _owners(session, entry, generation_id):
                raise InvalidRequestError(f"Generation {generation_id} is the job of entry {other.id}.")
            if entry.state == "accepted" and entry.generation_id == generation_id:
                _settle(entry, "ended", "unknown", entry.counted_usd, time.time())
            else:
                _accept(entry, generation_id, was_found=False)

    def release(self, entry_id: int, *, as_seen: Entry | None = None) -> None:
        """Let go of an attempt, on the user's word: the same call makes it anew, without a question.

        Of an open one the user says that it made nothing: its money stands free again. What an ended one cost
        stays spent.

        Raises:
            InvalidRequestError: its job is completed, nothing was ever sent of it, a process is busy with it,
                or it is no longer what the user decided about.
        """
        with self._transaction() as session:
            entry = session.get(Entry, entry_id)
            if entry is not None:
                _check_as_seen(entry, as_seen)
            if entry is not None and entry.asks_again:
                _settle(entry, "released", cast(Charged, entry.charged), entry.counted_usd, time.time())
                return
            _settle(_open_entry(session, entry_id), "released", "no", Decimal(0), time.time())

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
            old_noes = session.scalars(select(_Declined).where(_Declined.declined_at < before))
            for row in (*gone, *_quotes_to_prune(session, before), *old_noes):
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
                or self._seen is not None
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
        self._seen = None
        try:
            for path in self.set_aside():
                target = path.with_name(path.name.replace(_SET_ASIDE, _GIVEN_UP))
                for suffix in ("", *_JOURNALS):
                    with contextlib.suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
                kept.append(target)
            self.mark_path.unlink(missing_ok=True)
        except OSError as error:
            raise self._fault(error) from error
        # Made at once where there is none: a process that knew the lost one finds this, and misses nothing.
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
            mark = read_mark(self.mark_path) or self._mark_put_back()
            engines = self._opened(mark)
            engine = engines.reading if reading else engines.writing
            with Session(engine, expire_on_commit=False) as session:
                with session.begin():
                    connection = session.connection()
                    began = _state(connection)
                    # Another file may have been written into this one.
                    self._refuse_lesser(began, mark)
                    yield session
                    session.flush()
                    ended = began if reading else _state(connection)
                if ended != began:
                    self._advance_mark(ended)
                self._seen = ended if ended.revision and not self._read_only else None
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._fault(error) from error

    def _mark_put_back(self) -> Mark | None:
        """Write down anew the mark of a ledger that was deleted under this process together with its mark.

        From then on it is a ledger that is gone, for all processes, with the same way out.
        """
        seen, self._seen = self._seen, None
        if seen is None or _identity(self.path) is not None:
            return None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        advance_mark(self.mark_path, seen)
        return read_mark(self.mark_path)

    def _opened(self, mark: Mark | None) -> "_Engines":
        with self._opening:
            if self._engines is not None and self._file == _identity(self.path):
                return self._engines
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
                engine, self._file = self._open_to_look()
            else:
                if not is_there:
                    self._make()
                engine, self._file = self._open_to_write(mark)
            self._engines = _Engines(engine, engine.execution_options(**{_READING: True}))
            return self._engines

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
        engines, self._engines = self._engines, None
        if engines is not None:
            engines.writing.dispose()

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
        if mark is None:
            return
        if mark == UNREADABLE:
            # It is written anew with the next entry: until then nobody can tell, and nobody can decide.
            logger.warning(
                "the ledger's mark %s says nothing: whether entries are missing is not known", MARK_NAME
            )
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
        is_busy = code & 0xFF == sqlite3.SQLITE_BUSY
        fault = LedgerError(
            f"The ledger {self.path} cannot be {used}: {safe(str(original), _REASON_LIMIT)}.",
            next_step=_END_OTHERS if is_busy else _MAKE_ROOM,
        )
        fault.retryable = is_busy
        return fault

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
        # It is told: another process may go on without it on the user's word.
        self._seen = None
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
            f"The ledger {self.path} {how}: the next paid call, or `{ledger_command('check')}`, brings it up "
            "to date.",
            code=UNTOUCHED_CODE,
        )


_MAKE_ROOM = (
    "Ask the user to make room on the disk and the folder writable, or name another folder in SYNC_MCP_HOME. "
    "Nothing is paid for without the ledger."
)
_END_OTHERS = (
    "Make the same call again in a while; nothing was paid for. If it stays so, ask the user to end other "
    "processes of sync-mcp, above all those of an earlier version."
)


def _lost(message: str, code: Code) -> LedgerError:
    return LedgerError(message, code=code)


def _extent(mark: Mark) -> str:
    return f"entries up to {mark.last_entry}, of {dollars(mark.counted_usd)} together"


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _state(connection: Connection) -> Mark:
    """Return how far an open ledger has come."""
    row = _driver(connection).execute(STATE).fetchone()
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
    # The end of a transaction is written into the journal and synced with it, so that no power cut takes the
    # last entry back. A journal that is deleted would need its folder synced as well.
    connection.execute("PRAGMA synchronous=FULL")


def _use_journal(connection: Any) -> None:
    """Have all that is committed stand in the file itself: it is whole without any file beside it."""
    ends_at = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=PERSIST")
        except sqlite3.OperationalError as error:
            # To leave the mode of version 1, which needs the file alone, does not wait by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends_at:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    is_reading = connection.get_execution_options().get(_READING, False)
    _driver(connection).execute("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _latest(session: Session, intention: Intention) -> Entry | None:
    return session.scalars(_LATEST, {"digests": _digests(intention)}).first()


def _standing(session: Session, intention: Intention) -> Entry | None:
    return session.scalars(_STANDING, {"digests": _digests(intention)}).first()


def _digests(intention: Intention) -> list[str]:
    # What an earlier version wrote down is the same attempt: an upgrade must not pay again.
    return [intention.digest, *intention.earlier_digests]


def _owners(session: Session, entry: Entry, generation_id: str) -> list[Entry]:
    """Return the other attempts that are known to have made a job."""
    job = {"generation_id": generation_id, "entry_id": entry.id, "base_url": entry.base_url}
    return list(session.scalars(_OWNERS, job))


def _accept(entry: Entry, generation_id: str, *, was_found: bool) -> None:
    entry.state, entry.generation_id, entry.was_found = "accepted", generation_id, was_found
    entry.leased_until, entry.settled_at = 0.0, None
    # It may have been taken for one that made nothing.
    entry.charged, entry.counted_usd = "unknown", entry.estimate_usd or Decimal(0)


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
        about=entry.about,
        extras=entry.extras,
        owner=entry.owner,
        assets=entry.assets,
        estimate_usd=entry.estimate_usd,
        created_at=entry.created_at,
        first_sent_at=entry.first_sent_at,
        last_sent_at=entry.last_sent_at,
        charged="unknown",
        is_sandbox=entry.is_sandbox,
        is_unasked=entry.is_unasked,
        content_digest=entry.content_digest,
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


def _having_job(
    session: Session, entry_id: int, generation_id: str, states: Collection[State] = ("accepted", "ended")
) -> Entry | None:
    """Return an entry if it has this job, and is in one of these states."""
    entry = session.get(Entry, entry_id)
    if entry is None or entry.generation_id != generation_id or entry.state not in states:
        return None
    return entry


def _names_of(session: Session, intentions: Sequence[Intention]) -> set[str]:
    """Return the digests under which the attempts at these intentions are known, of whichever take."""
    digests = [intention.digest for intention in intentions]
    found = session.scalars(
        select(Entry).where(
            Entry.body_digest.in_([intention.body_digest for intention in intentions])
            | Entry.sent_digest.in_(digests)
        )
    )
    names = (name for entry in found for name in (entry.digest, entry.sent_digest))
    return {*digests, *(name for name in names if name is not None)}


def _tokens_of(session: Session, entry: Entry) -> list[_Quote]:
    """Return what the user agreed by to an attempt, or may agree by."""
    found = session.scalars(
        select(_Quote).where(_Quote.digest == entry.digest, _Quote.attempt == entry.attempt)
    )
    return list(found)


def _withdraw(session: Session, entry: Entry) -> None:
    for quote in _tokens_of(session, entry):
        quote.used_at = None
    session.delete(entry)


def _believed_free(entry: Entry, now: float) -> tuple[Decimal | None, Charged]:
    """Return what a cost of 0 is worth by now: a job that ended a short time ago may be charged later."""
    is_completed = entry.status == "COMPLETED"
    least = COMPLETED_FREE_AFTER_SECONDS if is_completed else FAILED_FREE_AFTER_SECONDS
    if now - (entry.settled_at or now) < least:
        return None, "unknown"
    return Decimal(0), "no"


def _settle(entry: Entry, state: State, charged: Charged, counted: Decimal, now: float) -> None:
    entry.state, entry.charged, entry.counted_usd = state, charged, counted
    entry.leased_until = 0.0
    # Its end, not when its cost was last asked for.
    entry.settled_at = now if entry.settled_at is None else entry.settled_at


def _open_entry(session: Session, entry_id: int) -> Entry:
    """Return an attempt that the user may decide about."""
    entry = session.get(Entry, entry_id)
    if entry is None:
        raise InvalidRequestError(f"There is no entry {entry_id}.")
    if entry.state != "accepted" and not entry.is_unresolved(time.time()):
        raise InvalidRequestError(f"Entry {entry_id} is {entry.state}: there is nothing to decide about it.")
    return entry


def _check_as_seen(entry: Entry, as_seen: Entry | None) -> None:
    """Refuse to carry a decision out that was made about another state than this one."""
    if as_seen is not None and (entry.state, entry.generation_id) != (as_seen.state, as_seen.generation_id):
        raise InvalidRequestError(
            f"Entry {entry.id} has changed meanwhile, and is {entry.state} now: look again."
        )


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


def _may_cost(states: Sequence[State]) -> ColumnElement[bool]:
    """Of jobs in these states, which may have cost something that is not known."""
    return Entry.state.in_(states) & Entry.cost_usd.is_(None) & (Entry.charged != "no")


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


def _now(session: Session, now: Instant) -> float:
    """Return the time that days are counted by.

    The API's own where it was heard. Else the later of the clock and the ledger, so that a clock that is set
    back gives no second budget; but an entry from a clock that once ran far ahead does not hold the time
    there.
    """
    if now.is_heard:
        return now.seconds
    latest = session.scalar(_LATEST_TIME, {"latest_believed": now.seconds + _DAY_SECONDS})
    return max(now.seconds, latest or 0.0)


def _use_token(session: Session, wish: Wish, now: float, latest: Entry | None) -> None:
    token = wish.token
    assert token is not None
    quote = session.get(_Quote, token.id)
    # What another was asked about is not this one's to agree to, and not this one's to know of.
    if quote is None or quote.kind != token.kind or quote.caller != wish.caller:
        raise QuoteRefused(f"There is no such {token.kind}.", next_step=_ASK_AGAIN.get(token.kind))
    if quote.revoked_at is not None:
        raise _revoked()
    if quote.used_at is not None:
        told = "The quote has been used: it is good for one job."
        if latest is not None and latest.attempt == quote.attempt and latest.state == "refused":
            # The call that it was used by may have ended before it came to know.
            told += (
                f" That one was refused: {plain_id(latest.error_code or '') or 'the API did not say why'}."
            )
        raise QuoteRefused(told)
    # What is named by its file and what is named by its asset is one thing, once an attempt had both names.
    names = {wish.intention.digest, *((latest.digest, latest.sent_digest) if latest else ())}
    if quote.digest not in names or quote.attempt != wish.attempt:
        raise QuoteRefused(f"The {token.kind} is for another call than this one.")
    # The ledger's time stands still while the clock is behind it, and the clock may be set back.
    age = time.time() - quote.made_at_by_clock
    if token.kind == "quote" and (
        now - quote.made_at > QUOTE_SECONDS or not -_STEP_BACK_SECONDS <= age <= QUOTE_SECONDS
    ):
        raise QuoteRefused("The quote has expired: it is good for ten minutes.")
    if wish.webhook_host is not None and quote.webhook_host != wish.webhook_host:
        told = "another host for its webhook" if quote.webhook_host else "no webhook"
        raise QuoteRefused(
            f"What the user agreed to names {told}.",
            code="webhook_changed",
            to_user=f"What you agreed to names {told}.",
        )
    if not _covers(session, quote.price_usd, wish, now):
        raise QuoteRefused(
            "The price is no longer what the user was told.",
            code="price_changed",
            to_user="The price is no longer what you were told.",
        )
    quote.used_at = now


_ASK_AGAIN = {"question": "Make the same call again: the host puts the question to the user."}


def _covers(session: Session, agreed_usd: Decimal | None, wish: Wish, now: float) -> bool:
    """Whether what was agreed to holds for the price of now.

    Who agreed to an unknown price has not agreed to one that is known by now and would be asked about.
    """
    if agreed_usd is None:
        most = wish.unasked_usd
        if wish.estimate_usd is None or most is None:
            return True
        return _unasked(session, wish.is_sandbox, now) + wish.estimate_usd <= most
    return wish.estimate_usd is not None and wish.estimate_usd <= agreed_usd


def _no_since(session: Session, entry: Entry, wish: Wish, sent: Intention) -> QuoteRefused | None:
    """Return that the user has said no to it, by either name, since they were told what they agreed to."""
    token = None if wish.token is None else session.get(_Quote, wish.token.id)
    if token is None:
        return None
    told_at, names = token.made_at_by_clock, (entry.body_digest, sent.body_digest)
    said_no = (
        _Declined.body_digest.in_(names)
        & (_Declined.caller == (wish.caller or ""))
        & (_Declined.declined_at >= told_at)
    )
    token.revoked_at = session.scalar(select(func.max(_Declined.declined_at)).where(said_no))
    return None if token.revoked_at is None else _revoked()


def _revoked() -> QuoteRefused:
    return QuoteRefused("The user has said no to this since.", code="quote_revoked")


def _check_unasked(session: Session, wish: Wish, now: float) -> None:
    if wish.unasked_usd is None:
        return
    before = _unasked(session, wish.is_sandbox, now)
    if wish.estimate_usd is None or before + wish.estimate_usd > wish.unasked_usd:
        raise MustAsk(before)


def _unasked(session: Session, is_sandbox: bool, now: float) -> Decimal:
    asked = {
        "is_sandbox": is_sandbox,
        "since": now - UNASKED_SECONDS,
        "latest_believed": now + _DAY_SECONDS,
        **_lease_times(),
    }
    return session.scalar(_UNASKED, asked) or Decimal(0)


def _refusal_besides(session: Session, wish: Wish, entry: Entry, now: float) -> LimitReached | None:
    """Return which limit stands against a wish whose money an entry holds already, if any."""
    spent = _spent(session, wish.is_sandbox, now).without(entry.counted_usd, entry.created_at)
    return wish.limits.refusal(wish.estimate_usd, spent)


def _spent(session: Session, is_sandbox: bool, now: float) -> Spent:
    """Return what stands against the limits, by the sums of the days: every create asks."""
    days = {name: int(begins // _DAY_SECONDS) for name, begins in _days(now).items()}
    counted = session.execute(_SUMS_OF_DAYS, {"is_sandbox": is_sandbox, **days}).one()
    # The days have what was abandoned since: which that is, is a matter of the time.
    times = {**_days(now), **_lease_times()}
    abandoned = session.execute(_ABANDONED_OF_POOL, {"is_sandbox": is_sandbox, **times}).one()
    today_usd, month_usd, ever_usd = (
        (amount or Decimal(0)) - (of_it or Decimal(0))
        for amount, of_it in zip(counted, abandoned, strict=True)
    )
    return Spent(today_usd, month_usd, ever_usd, next_utc_midnight(now))


def _spending(session: Session, is_sandbox: bool, now: float) -> Spending:
    spent = _spent(session, is_sandbox, now)
    opened = session.execute(_OPEN_OF_POOL, {"is_sandbox": is_sandbox, **_lease_times()}).one()
    return _as_spending([spent.today_usd, spent.month_usd, spent.ever_usd, *opened], now)


def _spending_of_account(session: Session, account: str, base_url: str, now: float) -> Spending:
    whose = {"account": account, "base_url": base_url, **_days(now), **_lease_times()}
    return _as_spending(session.execute(_SUMS_OF_ACCOUNT, whose).one(), now)


def _days(now: float) -> dict[str, float]:
    """Return when the days begin that bound the sums."""
    return {"day": utc_midnight(now), "month": start_of_month(now), "believed_until": believed_until(now)}


def _as_spending(row: Sequence[Any], now: float) -> Spending:
    *sums, in_doubt = row
    today, month, ever, reserved, unresolved = (amount or Decimal(0) for amount in sums)
    return Spending(today, month, ever, next_utc_midnight(now), reserved, unresolved, in_doubt)


# What each create asks is put together once: that takes longer than its running.


def _sum_where(condition: ColumnElement[bool]) -> ColumnElement[Decimal]:
    return func.sum(Entry.counted_usd).filter(condition)


_LET_GO_UNSEEN = (Entry.state == "released") & (Entry.charged == "no") & Entry.cost_usd.is_(None)
"""`Entry.is_let_go_unseen`, as the database decides it of entries that have a job."""
_LEASED = (Entry.leased_until > bindparam("now")) & (Entry.leased_until <= bindparam("longest_lease"))
_OF_ACCOUNT = (Entry.account == bindparam("account")) & (Entry.base_url == bindparam("base_url"))
_OF_POOL = Entry.is_sandbox == bindparam("is_sandbox")
# What a clock that ran far ahead has written belongs to no day that is known: a day later than tomorrow.
_BELIEVED = Entry.created_at < bindparam("believed_until")
_TODAY = (Entry.created_at >= bindparam("day")) & _BELIEVED
_THIS_MONTH = (Entry.created_at >= bindparam("month")) & _BELIEVED
# What has ended counts by its estimate too, until its cost is known; of a job that is gone that stays so.
_BY_ESTIMATE = Entry.cost_usd.is_(None) & (Entry.state != "closed")
_OPEN_SUMS = (
    _sum_where(_BY_ESTIMATE & ~_abandoned() & ~_unresolved()),
    _sum_where(_unresolved()),
    func.count().filter(_unresolved()),
)
_SUMS = (_sum_where(_TODAY), _sum_where(_THIS_MONTH), func.sum(Entry.counted_usd))
_ABANDONED_OF_POOL = select(*_SUMS).where(_OF_POOL, _abandoned())
_OPEN_OF_POOL = select(*_OPEN_SUMS).where(_OF_POOL, _BY_ESTIMATE)
_SUMS_OF_ACCOUNT = select(*_SUMS, *_OPEN_SUMS).where(_OF_ACCOUNT, ~_abandoned())
_IS_BELIEVED = _Day.day < bindparam("believed_until")
_SUMS_OF_DAYS = select(
    func.sum(_Day.counted_usd).filter((_Day.day >= bindparam("day")) & _IS_BELIEVED),
    func.sum(_Day.counted_usd).filter((_Day.day >= bindparam("month")) & _IS_BELIEVED),
    func.sum(_Day.counted_usd),
).where(_Day.is_sandbox == bindparam("is_sandbox"))
_UNASKED = select(func.sum(Entry.counted_usd)).where(
    _OF_POOL,
    Entry.is_unasked,
    Entry.created_at > bindparam("since"),
    Entry.created_at <= bindparam("latest_believed"),
    ~_abandoned(),
)
_LATEST_TIME = select(func.max(Entry.created_at)).where(Entry.created_at <= bindparam("latest_believed"))
_ASKED: BindParameter[str] = bindparam("digests", expanding=True)
_OTHER_NAMES = select(_Name.sent_digest).where(_Name.digest.in_(_ASKED))
_ATTEMPTS = (
    select(Entry)
    .where(
        Entry.digest.in_(_ASKED)
        | Entry.sent_digest.in_(_ASKED)
        | Entry.digest.in_(_OTHER_NAMES)
        | Entry.sent_digest.in_(_OTHER_NAMES)
    )
    # An attempt under the other name of the same counts as one before.
    .order_by(Entry.attempt.desc(), Entry.id.desc())
)
_LATEST = _ATTEMPTS.limit(1)
_STANDING = _ATTEMPTS.where(Entry.state != "refused").limit(1)
_MAKER = (
    select(Entry)
    .where(
        (Entry.generation_id == bindparam("generation_id")) | (Entry.named_id == bindparam("generation_id")),
        Entry.base_url == bindparam("base_url"),
    )
    .order_by(Entry.generation_id.is_(None), Entry.id.desc())
    .limit(1)
)
_OWNERS = select(Entry).where(
    Entry.generation_id == bindparam("generation_id"),
    Entry.id != bindparam("entry_id"),
    Entry.base_url == bindparam("base_url"),
)
