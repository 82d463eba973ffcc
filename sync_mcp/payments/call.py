"""One call that may be paid, and what it comes to."""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Generic, Literal, TypeVar

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.background.watching import Watcher
from sync_mcp.errors import Handle, LimitReached, RateLimitError, SyncError, UnderWay
from sync_mcp.payments.acts.act import Job, JobT_co, PaidAct
from sync_mcp.payments.attempt import Account, Attempt, Instant, Token
from sync_mcp.payments.consent import NOBODY_TO_ASK, Approval, Reason
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import UNPRICED, Price
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import instant

LOOK_SECONDS = 8.0

_ResultT = TypeVar("_ResultT")

How = Literal["made", "was there", "found", "sent now"]
"""How a call came by its job: it made it; it was there before; the job of an earlier send of unknown outcome
was found; that send had not arrived, and was repeated now."""


@dataclass(frozen=True)
class PaidCall(Generic[JobT_co]):
    """One call that may be paid: what is to be made, whose money it is, until when, and on whose word.

    Attributes:
        sync: the client that it is sent by.
        act: what is to be made.
        take: tells apart what is made again on purpose.
        options: of the send, as the client takes them.
        tool: what the call was made by, as the ledger tells it.
        account: whose money it is; the guard finds that out.
        owner: the process that pays, by the guard's name for it.
        limits: how much may be spent, by the guard's.
        max_cost_usd: what this call may cost; it can only lower what the limits allow.
        duration_seconds: the caller's hint of the length, which is shown and sets no price.
        planned: its price as it was asked before, of local files that hold the same still.
        files: what is uploaded once the call is agreed to and written down, also where it ends before.
        token: what the user agreed by.
        approval: asks the user; by default nobody can be asked.
        is_agreed: whether the user has agreed to it before, at `max_cost_usd`, as to one of many.
        webhook_hosts: those that may be told of a job's end unasked; None for any.
        own_webhook_url: whom a job's end is told where the caller names nobody; None for nobody.
        refuses_late_segments: whether a segment that ends after the video is refused; else it is warned of.
        notes: what is put to the user with the question.
        voice_names: what voices are called in it, by their ids.
        on_begin: called before anything can be paid.
        on_made: called with the job as soon as it is made, also where nobody waits for the call any more.
        slot_until: until when, on anyio's clock, it waits for one of the account's jobs to end where all
            slots are taken, and for as long as a 429 asks.
        watcher: the account's, where it has one.
        ends_at: when the call ends, on anyio's clock.
        campaign: the campaign that it is made for, by its id; the ledger sums what each has cost.
        caller: the name of who asks, which stands in the ledger; a quote is good for them alone.
        gone: set once nobody waits for it any more: then nothing is sent, for the first time or again.
    """

    sync: AsyncSync
    act: PaidAct[JobT_co]
    take: int = 1
    options: RequestOptions = field(default_factory=RequestOptions)
    tool: str = "create_generation"
    account: Account | None = None
    owner: str = ""
    limits: Limits = field(default_factory=Limits)
    max_cost_usd: Decimal | None = None
    duration_seconds: float | None = None
    planned: Price | None = None
    files: LocalFiles | None = None
    token: Token | None = None
    approval: Approval = NOBODY_TO_ASK
    is_agreed: bool = False
    webhook_hosts: Collection[str] | None = None
    own_webhook_url: str | None = None
    refuses_late_segments: bool = False
    notes: Sequence[str] = ()
    voice_names: Mapping[str, str] = field(default_factory=dict[str, str])
    on_begin: Callable[[], None] | None = None
    on_made: Callable[[Job], None] | None = None
    slot_until: float = -math.inf
    watcher: Watcher | None = None
    ends_at: float = math.inf
    campaign: str | None = None
    caller: str | None = None
    gone: anyio.Event = field(default_factory=anyio.Event)

    @property
    def whose(self) -> Account:
        """Whose money it is, once the guard has found that out."""
        assert self.account is not None
        return self.account

    @cached_property
    def intention(self) -> Intention:
        """What the call means, once it is known whose money it is."""
        return Intention(self.act, self.whose.name, self.whose.base_url, self.take)

    @property
    def seconds_left(self) -> float:
        return self.ends_at - anyio.current_time()

    @property
    def now(self) -> Instant:
        return instant(self.sync)

    @property
    def is_sandbox(self) -> bool:
        return self.whose.is_sandbox or self.sync.sandboxed

    @property
    def names_webhook(self) -> bool:
        """Whether its caller says where the job's end is told."""
        return self.act.webhook_url not in (None, self.own_webhook_url)

    @property
    def host_to_ask_about(self) -> str | None:
        """Who gets the finished job's URL and may not without the user's word; None for nobody."""
        allowed, host = self.webhook_hosts, self.act.webhook_host
        return host if allowed is not None and host not in allowed else None

    def attempt(
        self,
        number: int,
        note: str | None = None,
        paid_before: int | None = None,
        *,
        repeats: Entry | None = None,
        price: Price = UNPRICED,
    ) -> Attempt:
        """Return a numbered try at what the call means, as the ledger judges it now."""
        return Attempt(
            intention=self.intention,
            number=number,
            tool=self.tool,
            owner=self.owner,
            limits=self.limits,
            now=self.now,
            price=price,
            note=note,
            paid_before=paid_before,
            repeats=repeats,
            token=self.token,
            unasked_usd=self.approval.above_usd,
            has_files=bool(self.act.local_media),
            is_sandbox=self.is_sandbox,
            campaign=self.campaign,
            caller=self.caller,
            webhook_host=self.host_to_ask_about,
        )

    def reading(self, seconds: float = LOOK_SECONDS) -> RequestOptions:
        """Return the options of a read on the way."""
        within = max(1.0, min(seconds, self.seconds_left))
        headers = self.options.get("additional_headers", {})
        return {"timeout_in_seconds": within, "max_retries": 2, "additional_headers": headers}

    def under_way(self, message: str) -> UnderWay:
        """Return what is told where another call or process is busy with this very create."""
        handle = Handle(self.intention.digest)
        return UnderWay(handle, message, code="create_under_way", money_spent="unknown")

    async def cancel_once_gone(self, scope: anyio.CancelScope) -> None:
        """Cancel what is done for a caller once nobody waits for it any more."""
        await self.gone.wait()
        scope.cancel()

    async def pause_for(self, error: RateLimitError) -> bool:
        """Wait as long as the API asks for; return whether the caller waits so long, and is not gone."""
        seconds = error.retry_after_seconds
        if seconds is None or anyio.current_time() + seconds >= min(self.slot_until, self.ends_at):
            return False
        with anyio.move_on_after(seconds):
            await self.gone.wait()
        return not self.gone.is_set()

    async def look_patiently(self, look: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Look, which costs nothing, and again once the API takes requests, within the caller's wait."""
        while True:
            try:
                return await look()
            except RateLimitError as error:
                if not await self.pause_for(error):
                    raise


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
class MadeElsewhere:
    """A call that named the assets of its files has made the job of an attempt, which was taken back."""

    act: PaidAct[Job]
    """The same act, by that name."""


Fate = Made[Job] | MadeElsewhere | Literal["changed"]
"""What an attempt comes to: a job, or the name by which that is found, or the ledger is to be read again."""
