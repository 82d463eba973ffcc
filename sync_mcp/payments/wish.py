"""A paid call that is about to be sent: whose money it is, the time, and the user's word."""

from dataclasses import dataclass
from decimal import Decimal

from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.rows import TokenKind


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
