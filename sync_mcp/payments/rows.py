"""What stands in a ledger: its rows, and the states of an attempt.

A row is read whole and never changed in memory: `change` writes and returns it as it stands then.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Decimal
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Double,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.types import TypeDecorator

from sync_mcp.payments.acts.act import COMPLETED, FIRST_KIND
from sync_mcp.payments.intention import ABOUT_LIMIT
from sync_mcp.payments.limits import HIGHEST_USD
from sync_mcp.texts import safe

LEASE_SECONDS = 12.0
"""How long a create counts as under way after its process was last heard of."""
RENEWAL_SECONDS = 3.0
LONGEST_LEASE_SECONDS = 10 * LEASE_SECONDS
"""A lease that ends later was written under another clock; one that was set back a little ends none."""
NAMED_BY_KEY = "key:"
"""An account whose name the API does not tell begins so."""
REPEATED_IN_VAIN = "repeated_in_vain"
"""Stands in place of an error's code where the user agreed to a repeat of a job that nobody sees, and the API
answered that with the same job: the next one goes out under a new key."""

State = Literal[
    "preparing", "sending", "unknown", "accepted", "ended", "refused", "released", "deleted", "closed"
]
"""Of an attempt. Open: its files are on their way (`preparing`), it is on its way itself (`sending`), perhaps
made (`unknown`), made (`accepted`). Settled: its job has ended (`ended`), the API refused it (`refused`), the
user let go of it (`released`), its job was deleted by this client (`deleted`). `closed` stands in ledgers of
version 1 alone: a job that the API no longer showed."""

OPEN_STATES: tuple[State, ...] = ("preparing", "sending", "unknown", "accepted")
LET_GO: tuple[State, ...] = ("released", "deleted")
"""Of what stays as it is, whatever is learned of its job's cost."""
Charged = Literal["yes", "no", "unknown"]
TokenKind = Literal["quote", "question"]
"""A quote is handed to the model; a question is put by the host, which brings its token back."""

_NANO = 1_000_000_000


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
        return None if value is None else from_nano(value)


def from_nano(billionths: int) -> Decimal:
    """Return what stands in the file as US dollars."""
    return Decimal(billionths) / _NANO


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One attempt at one intention. Times are seconds since 1970."""

    id: int = 0
    account: str
    base_url: str
    tool: str
    digest: str
    body_digest: str
    sent_digest: str | None = None
    """Of the same intention once its local files have become assets: who names the assets means the same."""
    digest_version: int
    take: int
    attempt: int
    idempotency_key: str
    model: str
    summary: str
    extras: dict[str, Any]
    state: State
    owner: str
    leased_until: float
    estimate_usd: Decimal | None
    counted_usd: Decimal
    """What stands against the budgets: the estimate, then the real cost."""
    cost_usd: Decimal | None = None
    charged: Charged = "unknown"
    generation_id: str | None = None
    named_id: str | None = None
    """The job that the API named while its outcome was unknown."""
    was_found: bool = False
    """The job was found in the API's list, not told by the create's own answer."""
    assets: dict[str, str]
    """The asset that was sent for each local file, by the hash of its content."""
    status: str | None = None
    error_code: str | None = None
    created_at: float
    first_sent_at: float
    settled_at: float | None = None
    is_sandbox: bool = False
    """No real money: it is summed apart from what is."""
    is_unasked: bool = False
    """Nobody agreed to it: it counts against what may be paid unasked."""
    content_digest: str | None = None
    """Of what is made, whoever pays: it tells that two keys' calls mean the same."""
    last_sent_at: float = 0.0
    is_on_its_way: bool = True
    """An answer to it is to come; else, as long as it is open, it is in doubt."""
    caller: str | None = None
    """The name of the token that the call came with over HTTP, where it has one."""
    about: str | None = None
    """What it is called in a list; the versions before noted none."""
    saved_as: str | None = None
    """Where its result was saved last."""
    kind: str = FIRST_KIND
    """Of what kind its act is."""
    principal: str = ""
    """For whom it is made, where many share a ledger; empty as long as they are one."""
    campaign: str | None = None
    """The campaign that it was made for, by its id."""

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
            self.state in ("preparing", "sending") and now < self.leased_until <= now + LONGEST_LEASE_SECONDS
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
        return self.is_open or (has_ended and (self.charged != "no" or self.status == COMPLETED))

    @property
    def asks_again(self) -> bool:
        """Whether the same call asks before it makes another attempt: this one may have been paid."""
        has_no_result = self.state == "ended" and self.status != COMPLETED and self.charged != "no"
        return has_no_result or self.state in ("deleted", "closed")

    def is_unresolved(self, now: float) -> bool:
        """Whether nobody knows what came of it: its outcome is unknown, or its process died on the way."""
        return self.state == "unknown" or (self.state == "sending" and not self.is_leased(now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a user can agree by. Times are seconds since 1970."""

    id: str
    digest: str
    attempt: int
    price_usd: Decimal | None
    made_at: float
    """By the ledger, whose time never goes back."""
    made_at_by_clock: float
    used_at: float | None = None
    kind: TokenKind
    body_digest: str | None
    revoked_at: float | None = None
    """When the user said no to what it is for."""
    caller: str | None
    """For whom it is good: the name of the token that it was asked for with."""
    webhook_host: str | None
    """Who was told to the user to get the finished job's URL; None for nobody."""
    consent: str | None = None
    """What names the user's yes to several acts; each of them has a row, which is good once. Of a yes to one
    act the row itself is named."""
    paid_before: int | None = None
    """The entry of the attempt before, where the user was told that it was or may have been charged."""
    known_until: int = 0
    """The newest entry when the user was told: of what was made later they do not know."""
    used_by: int | None = None
    """The entry that it was used for."""
    avowal: str | None = None
    """What the user says by their yes beside that it may be paid, as they were told."""


METADATA = MetaData()
# What the file has of these, `stores/schema.py` makes, version by version.
_TYPES = {
    str: String,
    Literal: String,
    int: BigInteger,
    float: Double,
    bool: Boolean,
    Decimal: _Dollars,
    dict: JSON,
}


def columns_of(row: type[Any], key: Collection[str] = ("id",)) -> Iterator[Column[Any]]:
    """Yield a column for each field of a row's class; what may be None is nullable, `key` tells it apart."""
    for name, hint in get_type_hints(row).items():
        is_optional = NoneType in get_args(hint)
        kind = get_args(hint)[0] if is_optional else hint
        column_type = _TYPES[get_origin(kind) or kind]
        yield Column(name, column_type, primary_key=name in key, nullable=is_optional)


ENTRIES = Table("entries", METADATA, *columns_of(Entry))
QUOTES = Table("quotes", METADATA, *columns_of(Quote))
DECLINED = Table(
    "declined",
    METADATA,
    Column("body_digest", String, primary_key=True),
    Column("caller", String, primary_key=True),
    Column("declined_at", Double, nullable=False),
)
"""What a caller's user said no to last, and when: it holds for its other names too, once they are known. The
caller is the name of their token; empty for none."""
NAMES = Table(
    "names",
    METADATA,
    Column("digest", String, primary_key=True),
    Column("sent_digest", String, primary_key=True),
)
"""Other names of an intention: what it became with its assets, which another attempt had sent before."""
DAYS = Table(
    "days",
    METADATA,
    Column("is_sandbox", Boolean, primary_key=True),
    Column("day", BigInteger, primary_key=True),
    Column("counted_usd", _Dollars, nullable=False),
)
"""What the entries of a day count together, those that were abandoned too. A day is so many whole days after
1970 began, UTC; the database itself keeps them."""
ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("fingerprint", String, primary_key=True),
    Column("base_url", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("is_sandbox", Boolean, nullable=False),
)
"""Which account a key belongs to; told once, it stays: a digest must not change under a job."""
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("base_url", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("came_at", Double, nullable=False),
)
"""What webhooks have told, in the order in which it came, each news once; see `Deliveries`."""


def entries_in(found: CursorResult[Any]) -> list[Entry]:
    """Return the entries that were selected from `ENTRIES`."""
    return [Entry(**row) for row in found.mappings()]


def first_entry(found: CursorResult[Any]) -> Entry | None:
    """Return the first of the entries that were selected from `ENTRIES`; None where there is none."""
    return next(iter(entries_in(found)), None)


def quotes_in(found: CursorResult[Any]) -> list[Quote]:
    """Return the quotes that were selected from `QUOTES`."""
    return [Quote(**row) for row in found.mappings()]


def find_entry(connection: Connection, entry_id: int) -> Entry | None:
    """Return an entry, or None where there is none of this number."""
    return first_entry(connection.execute(_ENTRY_BY_ID, {"which": entry_id}))


def get_entry(connection: Connection, entry_id: int) -> Entry:
    """Return an entry that is to be there.

    Raises:
        NoResultFound: it is not, as in a ledger that was begun anew meanwhile.
    """
    return Entry(**connection.execute(_ENTRY_BY_ID, {"which": entry_id}).mappings().one())


def find_quotes(connection: Connection, token_id: str) -> list[Quote]:
    """Return what a token brings: a quote or a question for each act; nothing where there is none."""
    return quotes_in(connection.execute(_QUOTES_BY_TOKEN, {"which": token_id}))


def add_entry(connection: Connection, entry: Entry) -> Entry:
    """Write a new entry down; return it with its number."""
    written = {name: getattr(entry, name) for name in _WRITTEN}
    added = connection.execute(_ADD_ENTRY, written).inserted_primary_key
    assert added is not None
    return replace(entry, id=added[0])


def add_quote(connection: Connection, quote: Quote) -> None:
    """Write a new quote or question down."""
    connection.execute(_ADD_QUOTE, asdict(quote))


def change(connection: Connection, entry: Entry, **changes: Any) -> Entry:
    """Write into an entry what is other than before; return it as it stands then."""
    new = _differing(entry, changes)
    if not new:
        # The ledger has come no further.
        return entry
    connection.execute(_CHANGE_ENTRY, {"which": entry.id, **new})
    return replace(entry, **new)


def change_quote(connection: Connection, quote: Quote, **changes: Any) -> None:
    """Write into a quote what is other than before."""
    new = _differing(quote, changes)
    if new:
        connection.execute(_CHANGE_QUOTE, {"which": quote.id, **new})


def _differing(row: Entry | Quote, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if getattr(row, name) != value}


def delete_entry(connection: Connection, entry: Entry) -> None:
    """Delete an entry, as if it had never been."""
    connection.execute(_DELETE_ENTRY, {"which": entry.id})


def put(connection: Connection, table: Table, key: Mapping[str, Any], **values: Any) -> None:
    """Write a row that is found by `key`, over one that is there.

    It stands under the write lock: nobody else writes the same row meanwhile.
    """
    is_it = [table.c[name] == value for name, value in key.items()]
    if connection.execute(select(func.count()).select_from(table).where(*is_it)).scalar_one():
        if values:
            connection.execute(update(table).where(*is_it).values(values))
    else:
        connection.execute(insert(table).values({**key, **values}))


# The conditions on leases, as `lease_times` gives what they compare with.


def lease_times(now: float) -> dict[str, float]:
    """Return what the conditions on leases compare with."""
    return {"now": now, "longest_lease": now + LONGEST_LEASE_SECONDS}


_COLUMNS = ENTRIES.c
_IS_LEASED = (_COLUMNS.leased_until > bindparam("now")) & (
    _COLUMNS.leased_until <= bindparam("longest_lease")
)
IS_ABANDONED: ColumnElement[bool] = (_COLUMNS.state == "preparing") & ~_IS_LEASED
"""`Entry.is_abandoned`, as the database decides it."""
IS_UNRESOLVED: ColumnElement[bool] = (_COLUMNS.state == "unknown") | (
    (_COLUMNS.state == "sending") & ~_IS_LEASED
)
"""`Entry.is_unresolved`, as the database decides it."""
IS_LET_GO_UNSEEN: ColumnElement[bool] = (
    (_COLUMNS.state == "released") & (_COLUMNS.charged == "no") & _COLUMNS.cost_usd.is_(None)
)
"""`Entry.is_let_go_unseen`, as the database decides it of entries that have a job."""

# Put together once: that takes longer than their running.
_ENTRY_BY_ID = select(ENTRIES).where(_COLUMNS.id == bindparam("which"))
_QUOTES_BY_TOKEN = select(QUOTES).where(
    (QUOTES.c.id == bindparam("which")) | (QUOTES.c.consent == bindparam("which"))
)
_WRITTEN = [column.name for column in _COLUMNS if not column.primary_key]
_ADD_ENTRY = insert(ENTRIES)
_ADD_QUOTE = insert(QUOTES)
_CHANGE_ENTRY = update(ENTRIES).where(_COLUMNS.id == bindparam("which"))
_CHANGE_QUOTE = update(QUOTES).where(QUOTES.c.id == bindparam("which"))
_DELETE_ENTRY = delete(ENTRIES).where(_COLUMNS.id == bindparam("which"))
