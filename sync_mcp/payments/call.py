"""One call of a create, and what it comes to: its terms, the attempt that it makes, its job."""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, Literal, TypeVar

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.background.watching import Watcher
from sync_mcp.errors import Handle, LimitReached, RateLimitError, SyncError, UnderWay
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.consent import NOBODY_TO_ASK, Approval, Reason
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import instant
from sync_mcp.payments.wish import Account, Instant, Token

LOOK_SECONDS = 8.0

_ResultT = TypeVar("_ResultT")

How = Literal["made", "was there", "found", "sent now"]
"""How a call came by its job: it made it; it was there before; the job of an earlier send of unknown outcome
was found; that send had not arrived, and was repeated now."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a create may be paid.

    `approval` asks the user; by default nobody can be asked. `max_cost_usd` can only lower what the limits
    allow. The caller's `duration_seconds` is a hint that is shown, and sets no price. Until `slot_until`, on
    anyio's clock, a create waits for one of the account's jobs to end where all its slots are taken, and for
    as long as a 429 asks; `watcher` is the account's, where it has one. `files` are uploaded once the create
    is agreed to and written down; that goes on where the call ends before. `token` is what the user agreed
    by. `webhook_hosts` are those that may be told of a job's end unasked; None for any. With
    `refuses_late_segments` a segment that ends after the video is refused, else warned of. `notes` are put to
    the user with the question, in which voices are called by `voice_names`. `on_begin` is called before
    anything can be paid. `caller` is the name of who asks, which stands in the ledger; a quote is good for
    them alone.
    """

    take: int = 1
    max_cost_usd: Decimal | None = None
    duration_seconds: float | None = None
    files: LocalFiles | None = None
    token: Token | None = None
    approval: Approval = NOBODY_TO_ASK
    webhook_hosts: Collection[str] | None = None
    refuses_late_segments: bool = False
    notes: Sequence[str] = ()
    voice_names: Mapping[str, str] = field(default_factory=dict[str, str])
    on_begin: Callable[[], None] | None = None
    slot_until: float = -math.inf
    watcher: Watcher | None = None
    ends_at: float = math.inf
    caller: str | None = None


JobT = TypeVar("JobT", bound=Job)


@dataclass(slots=True)
class Made(Generic[JobT]):
    """A job, and how this call came by it."""

    job: JobT
    attempt: int
    how: How
    price_usd: Decimal | None = None
    """What is reserved for it, where this call made it."""
    price: Price | None = None
    notes: list[str] = field(default_factory=list[str])

    @property
    def reused(self) -> bool:
        """Whether the job existed before this call."""
        return self.how in ("was there", "found")


Course = Literal["new attempt", "was there", "in doubt", "under way", "not visible", "not readable"]
"""What a create does first: it makes a new attempt, where it may; it gives back the job that is there; it
looks for the job of an earlier send; it waits for another call; it says that the job is not visible yet, or
that its state cannot be read now."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a create would meet with now."""

    course: Course
    job: Job | None = None
    """The job that is there."""
    ledger_id: int | None = None
    """The attempt that is in doubt or under way."""
    hindrance: str | None = None
    """Why the attempt in doubt would be looked for and not sent again, as the end of a sentence."""
    failure: SyncError | None = None
    """What it would be told, where its job cannot be seen or read."""
    note: str | None = None
    """What became of the attempt before a new one, where the user is not asked about that."""
    refusal: LimitReached | None = None
    most_usd: Decimal | None = None
    """The most that it may cost now; None where nothing limits it."""
    reasons: Sequence[Reason] = ()
    """Why the user would be asked; empty where they would not."""
    token: str | None = None
    """A quote to go ahead with, where one was wanted."""


@dataclass(frozen=True, slots=True)
class Next:
    """The attempt that is to be made, and why there is one before it."""

    attempt: int
    note: str | None = None
    paid_before: int | None = None
    """The entry of an attempt that was or may have been charged: the user is asked whatever the price."""
    repeats: Entry | None = None
    """The attempt whose key is sent again first: an API that keeps keys answers it with its job."""

    @property
    def key_to_repeat(self) -> str | None:
        return None if self.repeats is None else self.repeats.idempotency_key


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `create`, made out."""

    sync: AsyncSync
    account: Account
    intention: Intention
    options: RequestOptions
    terms: Terms
    tool: str
    gone: anyio.Event
    """Set once nobody waits for the call any more: then nothing is sent, for the first time or again."""

    @property
    def seconds_left(self) -> float:
        return self.terms.ends_at - anyio.current_time()

    @property
    def now(self) -> Instant:
        return instant(self.sync)

    @property
    def is_sandbox(self) -> bool:
        return self.account.is_sandbox or self.sync.sandboxed

    def reading(self, seconds: float = LOOK_SECONDS) -> RequestOptions:
        """Return the options of a read on the way."""
        within = max(1.0, min(seconds, self.seconds_left))
        headers = self.options.get("additional_headers", {})
        return {"timeout_in_seconds": within, "max_retries": 2, "additional_headers": headers}

    def under_way(self, message: str) -> UnderWay:
        """Return what is told where another call or process is busy with this very create."""
        handle = Handle(self.intention.digest)
        return UnderWay(handle, message, code="create_under_way", money_spent="unknown")


def host_to_ask_about(call: Call) -> str | None:
    """Return who gets the finished job's URL and may not without the user's word; None for nobody."""
    allowed, host = call.terms.webhook_hosts, call.intention.act.webhook_host
    return host if allowed is not None and host not in allowed else None


async def pause_for(terms: Terms, error: RateLimitError, gone: anyio.Event | None = None) -> bool:
    """Wait as long as the API asks for; return False where the caller does not wait so long, or is gone."""
    seconds = error.retry_after_seconds
    if seconds is None or anyio.current_time() + seconds >= min(terms.slot_until, terms.ends_at):
        return False
    gone = gone or anyio.Event()
    with anyio.move_on_after(seconds):
        await gone.wait()
    return not gone.is_set()


async def look_patiently(terms: Terms, look: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
    """Look, which costs nothing, and again when the API takes requests again, within the caller's wait."""
    while True:
        try:
            return await look()
        except RateLimitError as error:
            if not await pause_for(terms, error):
                raise
