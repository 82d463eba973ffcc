"""An attempt that is to be made: at what, by whom, at which price, and on whose word."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import UNPRICED, Price
from sync_mcp.payments.rows import Entry, TokenKind


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


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is."""

    name: str
    base_url: str
    is_sandbox: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One numbered try at an intention, before it is made; once it is written down it is an `Entry`.

    Attributes:
        number: which try it is, the first one is 1.
        tool: what the call was made by.
        owner: the process that makes it.
        limits: how much may be spent.
        now: when it is to be written down.
        price: what it is likely to cost, as far as that was asked by now.
        note: why there is one before it, and what came of that.
        paid_before: the entry of an attempt that was or may have been charged: the user must be asked.
        known_until: the ledger's newest entry before the user is told of it: a yes covers nothing made later.
        repeats: the attempt whose key is sent again first: an API that keeps keys answers it with its job.
        token: what the user agreed by; a form that is answered within the call leaves none.
        is_agreed: whether the user agreed within this call.
        unasked_usd: the most that may be paid unasked within a day; None for no such bound.
        has_files: whether local files are to be uploaded before it can be sent.
        assets: the asset of each of these, by its `asset_key`, once they are uploaded.
        is_sandbox: whether no real money is spent.
        campaign: the campaign that it is made for, by its id.
        caller: the name of the token that the call came with.
        webhook_host: whoever gets the finished job's URL and may not without the user's word.
    """

    intention: Intention
    number: int
    tool: str
    owner: str
    limits: Limits
    now: Instant
    price: Price = UNPRICED
    note: str | None = None
    paid_before: int | None = None
    known_until: int = 0
    repeats: Entry | None = None
    token: Token | None = None
    is_agreed: bool = False
    unasked_usd: Decimal | None = None
    has_files: bool = False
    assets: Mapping[str, str] = field(default_factory=dict[str, str])
    is_sandbox: bool = False
    campaign: str | None = None
    caller: str | None = None
    webhook_host: str | None = None

    @property
    def idempotency_key(self) -> str:
        """What it is sent under."""
        repeated = self.repeats
        return self.intention.idempotency_key(self.number) if repeated is None else repeated.idempotency_key


class MustAsk(Exception):
    """What was paid unasked and this together are more than the user lets be paid so; nothing was written."""

    def __init__(self, unasked_usd: Decimal) -> None:
        self.unasked_usd = unasked_usd
        super().__init__("the user has to be asked")
