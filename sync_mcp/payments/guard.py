"""One intention, one job: what stands between a paid call and the money.

Each create is written into the ledger before it is sent, and what came of it after. A call that means what an
earlier one meant gets that one's job. Budgets hold for all processes that share the ledger.
"""

import contextlib
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Generic, Literal, TypeVar, cast

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.create import LISTED_WITHIN_SECONDS, Attempt, Claim, Step, is_of_the_key
from sync_mcp.api.matching import is_other_model
from sync_mcp.api.models import Generation, GenerationRequest, Json
from sync_mcp.api.transport import RequestOptions
from sync_mcp.api.usage import UsageItem
from sync_mcp.errors import (
    APIResponseError,
    APIStatusError,
    ApprovalDenied,
    AuthenticationError,
    ConcurrencyLimitError,
    CreateUnderWay,
    InternalError,
    InvalidRequestError,
    LedgerError,
    LimitReached,
    NotSent,
    NotVisibleYet,
    OutcomeUnknown,
    PaymentRequiredError,
    QuoteRefused,
    RateLimitError,
    Standing,
    SyncError,
    is_unknown_id,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.consent import (
    DECLINED_REASON,
    NOBODY_TO_ASK,
    WEBHOOK_REASON,
    Approval,
    Proposal,
    Reason,
    price_reasons,
    repeat_reason,
    webhook_host,
)
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.intention import Intention, differing_extras, unsigned
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import (
    Limits,
    Spending,
    Spent,
    call_refusal,
    dollars,
    until_priced,
    utc_midnight,
)
from sync_mcp.payments.pricing import Price, Pricing
from sync_mcp.payments.rows import RENEWAL_SECONDS, REPEATED_IN_VAIN, Entry, TokenKind
from sync_mcp.payments.settling import (
    EXPORT_RETRY_SECONDS,
    EXPORT_TOLERANCE,
    RUNNING_STATUSES,
    SETTLE_SECONDS,
    Settling,
    instant,
)
from sync_mcp.payments.wish import Instant, MustAsk, Token, Wish
from sync_mcp.texts import plain_id, safe

logger = logging.getLogger("sync_mcp.payments")

RESEND_HOURS = 12.0
VISIBLE_WITHIN_SECONDS = 3600.0
"""How long after its send a job that the API's reads do not show is only waited for."""
ORGANIZATION_HEADER = "x-sync-organization-id"
_LOOK_SECONDS = 8.0
_POLL_SECONDS = 0.25
_SEND_SECONDS = 30.0
_SLOT_POLL_SECONDS = 2.0
_RUNNING_SHOWN = 15
_ACCOUNT_KEPT_SECONDS = 600.0
"""How long an account that the API would not name goes by its key, before it is asked again."""
_ID_LIMIT = 128
_REASON_LIMIT = 300

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
    as long as a 429 asks. `files` are uploaded once the create is agreed to and written down; that goes on
    where the call ends before. `token` is what the user agreed by. `webhook_hosts` are those that may be told
    of a job's end unasked; None for any. With `refuses_late_segments` a segment that ends after the video is
    refused, else warned of. `notes` are put to the user with the question, in which voices are called by
    `voice_names`. `on_begin` is called before anything can be paid. `caller` is the name of who asks, which
    stands in the ledger; a quote is good for them alone.
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
    ends_at: float = math.inf
    caller: str | None = None


@dataclass(slots=True)
class Made:
    """A job, and how this call came by it."""

    generation: Generation
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
    job: Generation | None = None
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
class Account:
    """Whose money it is."""

    name: str
    base_url: str
    is_sandbox: bool


@dataclass(frozen=True, slots=True)
class _Next:
    """The attempt that is to be made, and why there is one before it."""

    attempt: int
    note: str | None = None
    paid_before: int | None = None
    """The entry of an attempt that was or may have been charged: the user is asked whatever the price."""
    repeats: Entry | None = None
    """The attempt whose key is sent again first: an API that keeps keys answers it with its job."""

    @property
    def repeated_key(self) -> str | None:
        return None if self.repeats is None else self.repeats.idempotency_key


@dataclass(frozen=True, slots=True)
class _Call:
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

    def reading(self, seconds: float = _LOOK_SECONDS) -> RequestOptions:
        """Return the options of a read on the way."""
        within = max(1.0, min(seconds, self.seconds_left))
        headers = self.options.get("additional_headers", {})
        return {"timeout_in_seconds": within, "max_retries": 2, "additional_headers": headers}


class Guard:
    """Makes paid calls, each once, within the user's limits.

    Args:
        ledger: where they are written down.
        limits: how much may be spent; by default without limit.
        resend_hours: how long after its first send a create of unknown outcome may be sent again.
        task_group: where a create goes on when its caller is cancelled, until the group is; without one it
            holds its caller up.
    """

    def __init__(
        self,
        ledger: Ledger,
        limits: Limits | None = None,
        *,
        resend_hours: float = RESEND_HOURS,
        task_group: TaskGroup | None = None,
    ) -> None:
        self.ledger = ledger
        self.limits = limits or Limits()
        self.pricing = Pricing()
        self._settling = Settling(ledger)
        self._resend_seconds = resend_hours * 3600
        self._task_group = task_group
        self._owner = secrets.token_hex(8)
        self._accounts: dict[tuple[str, str, str], tuple[Account, float]] = {}
        """By key, address and chosen organization, with the time up to which it is believed."""
        self._turns: dict[str, _Turn] = {}

    async def create_for(
        self, sync: AsyncSync, request: GenerationRequest, options: RequestOptions | None, take: int
    ) -> Generation:
        """Make a request's job, or return the one that it made before.

        Raises:
            LimitReached, LedgerError: nothing was sent.
            ApprovalRequired: it would be paid again for what was or may have been charged; nothing was sent.
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: as of a create without a guard.
        """
        made = await self.create(sync, request, options, Terms(take=take))
        return made.generation

    async def create(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        options: RequestOptions | None,
        terms: Terms,
        *,
        tool: str = "create_generation",
    ) -> Made:
        """Make a request's job on these terms, or return the one that it made before.

        Raises:
            LimitReached, LedgerError, QuoteRefused, ApprovalRequired, ApprovalDenied: nothing was sent.
            CreateUnderWay: another call or process is busy with it.
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: as of a create without a guard.
        """
        call = await self._call(sync, request, options, terms, tool)
        async with self._turn(call):
            while True:
                made = await self._made_or_none(call)
                if made is not None:
                    return made

    async def foresee(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        terms: Terms,
        price: Price,
        *,
        wants_quote: bool,
    ) -> Foresight:
        """Say what a create of this price would meet with; nothing is sent.

        The quote is written down, and what is seen of how jobs ended.

        Raises:
            LedgerError: the ledger cannot be read.
            SyncError: whose money it is cannot be told now.
        """
        call = await self._call(sync, request, None, terms, "estimate_cost")
        try:
            found = await self._found(call)
            if isinstance(found, Made):
                return Foresight("was there", job=found.generation)
            if isinstance(found, Entry) and found.is_leased(time.time()):
                return Foresight("under way", ledger_id=found.id)
            if isinstance(found, Entry):
                _, is_whole = call.intention.first_sent(found.extras)
                following = await self._named_but_unseen(call, found) if is_whole else None
                if following is None:
                    hindrance = await self._known_hindrance(call, found, is_whole=is_whole)
                    return Foresight("in doubt", ledger_id=found.id, hindrance=hindrance)
                # Its money is held already: no limit stands in its own way.
                price, refusal, most_usd = Price(found.estimate_usd), None, None
            else:
                following = found
                refusal = await self._standing_refusal(call, price)
                most_usd = await self._most_usd(call)
        except LedgerError:
            raise
        except SyncError as error:
            course = "not visible" if isinstance(error, NotVisibleYet) else "not readable"
            return Foresight(course, failure=error)
        reasons = await self._reasons(call, following, price)
        token = None
        if reasons and refusal is None and wants_quote and request.input:
            token = await self._hand_out(call, following, price, "quote")
        note = following.note if following.paid_before is None else None
        return Foresight(
            "new attempt", note=note, refusal=refusal, most_usd=most_usd, reasons=reasons, token=token
        )

    async def question_age(self, token_id: str, caller: str | None) -> float | None:
        """Return how many seconds ago a question was put to a caller, or None where there was none."""
        return await self._do(self.ledger.question_age, token_id, caller)

    async def revoke(self, sync: AsyncSync, request: GenerationRequest, terms: Terms) -> None:
        """Take back every quote and question of what a request makes: the user said no to it."""
        call = await self._call(sync, request, None, terms, "create_generation")
        await self._revoke(call)

    async def delete_for(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a job that the ledger may know: what it cost is read first, and stays spent.

        Raises:
            LedgerError: the ledger cannot be written; nothing was deleted.
            SyncError: as of a delete without a guard.
        """
        entry = await self._maker_of(sync, id)
        if entry is not None and entry.generation_id == id:
            options: RequestOptions = {"timeout_in_seconds": _LOOK_SECONDS}
            job = await sync.generations.get(id, request_options=options)
            if job.finished:
                await self._settling.settle_job(sync, entry, job, options)
        await delete()
        if entry is not None and entry.generation_id == id:
            now = instant(sync).seconds
            await self._do(partial(self.ledger.delete_job, entry.id, generation_id=id, now=now))

    async def explain_missing(self, sync: AsyncSync, generation_id: str) -> NotVisibleYet | None:
        """Return what the ledger says of a job that the API does not show; None where it knows none."""
        entry = await self._maker_of(sync, generation_id)
        if entry is None or entry.state in ("deleted", "refused"):
            return None
        return _not_visible(entry, instant(sync).seconds)

    async def known_jobs(self, sync: AsyncSync, jobs: Sequence[Generation]) -> Mapping[str, Entry]:
        """Return the ledger's entries of these jobs, where it knows them, with their costs as far as told."""
        if not jobs or not self.ledger.exists():
            return {}
        ids = [job.id for job in jobs]
        known = await self._do(self.ledger.makers_of, ids, sync.base_url)
        if any(job.finished and job.id in known and known[job.id].cost_usd is None for job in jobs):
            account, options = await self.account(sync), RequestOptions(timeout_in_seconds=SETTLE_SECONDS)
            await self._settling.settle_account(sync, account, options)
            known = await self._do(self.ledger.makers_of, ids, sync.base_url)
            shown = [(known[job.id], job) for job in jobs if job.finished and job.id in known]
            let_go = [(entry, job) for entry, job in shown if entry.is_let_go_unseen]
            if let_go:
                await self._settling.settle_let_go(sync, account, let_go, options)
                known = await self._do(self.ledger.makers_of, ids, sync.base_url)
        return known

    async def note_saved(self, sync: AsyncSync, generation_id: str, path: str) -> None:
        """Note where a job's result was saved, where the ledger knows the job."""
        if self.ledger.exists():
            await self._do(self.ledger.note_saved, generation_id, sync.base_url, path)

    async def settle_failure(self, sync: AsyncSync, job: Generation) -> Entry | None:
        """Write down how a job without a result ended, where the ledger knows it; return its entry then."""
        entry = await self._maker_of(sync, job.id)
        if entry is None or entry.generation_id != job.id or not job.finished:
            return entry
        account, options = await self.account(sync), RequestOptions(timeout_in_seconds=SETTLE_SECONDS)
        await self._settling.settle_failure(sync, account, entry, job, options)
        return await self._do(self.ledger.entry, entry.id)

    async def account(
        self, sync: AsyncSync, options: RequestOptions | None = None, *, seconds: float = math.inf
    ) -> Account:
        """Return whose money the client's key spends; the API is asked once for each key.

        Raises:
            SyncError: it is not known yet, and the API cannot tell it now.
        """
        headers = (options or RequestOptions()).get("additional_headers", {})
        chosen = next((str(headers[n]) for n in headers if n.lower() == ORGANIZATION_HEADER), "")
        place = (sync.key_fingerprint, sync.base_url, chosen)
        known, until = self._accounts.get(place, (None, 0.0))
        if known is not None and anyio.current_time() < until:
            return known
        if chosen:
            known = Account(f"org:{safe(chosen, _ID_LIMIT)}", sync.base_url, sync.sandboxed)
        else:
            known = await self._own_account(sync, seconds)
        is_final = known.name.startswith("org:")
        until = math.inf if is_final else anyio.current_time() + _ACCOUNT_KEPT_SECONDS
        self._accounts[place] = (known, until)
        return known

    async def spending(self, sync: AsyncSync, *, seconds: float = math.inf) -> Spending:
        """Return what has been spent by all accounts of the ledger, after asking what has ended.

        What the API does not tell within `seconds` counts as it stands in the ledger.
        """
        known = await self._do(self.ledger.account_of, sync.key_fingerprint, sync.base_url)
        is_sandbox = known is not None and known[1]
        with anyio.move_on_after(seconds):
            account = await self.account(sync)
            is_sandbox = account.is_sandbox
            # Who asks for the sum is told what is known of it by now; the requests a second bound that too.
            options: RequestOptions = {"timeout_in_seconds": _LOOK_SECONDS}
            await self._settling.settle_account(sync, account, options, is_due=True)
        is_sandbox = is_sandbox or sync.sandboxed
        return await self._do(partial(self.ledger.spending, is_sandbox=is_sandbox, now=instant(sync)))

    async def unasked_usd(self, sync: AsyncSync) -> Decimal:
        """Return what was paid within a day without anybody's consent."""
        account = await self.account(sync)
        is_sandbox = account.is_sandbox or sync.sandboxed
        return await self._do(partial(self.ledger.unasked_usd, is_sandbox=is_sandbox, now=instant(sync)))

    async def unresolved(self, sync: AsyncSync) -> list[Entry]:
        """Return the attempts of unknown outcome, newest first; nothing is asked of the API.

        Where there is no ledger yet, none is made.
        """
        if not self.ledger.exists():
            return []
        known = await self._do(self.ledger.account_of, sync.key_fingerprint, sync.base_url)
        names = {f"key:{sync.key_fingerprint}", *([known[0]] if known else [])}
        return await self._do(self.ledger.unresolved, names, sync.base_url)

    async def _maker_of(self, sync: AsyncSync, generation_id: str) -> Entry | None:
        """Return the attempt that made a job, where there is a ledger and it knows the job."""
        if not self.ledger.exists():
            return None
        return await self._do(self.ledger.maker_of, generation_id, sync.base_url)

    async def _call(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        options: RequestOptions | None,
        terms: Terms,
        tool: str,
    ) -> _Call:
        given = dict(options or RequestOptions())
        if "idempotency_key" in given:
            raise InvalidRequestError(
                "With a guard the idempotency key follows from the request: leave it out."
            )
        more = cast(Mapping[str, object], given.pop("additional_body_parameters", {}))
        account = await _waited_out(
            terms, lambda: self.account(sync, options, seconds=terms.ends_at - anyio.current_time())
        )
        intention = Intention.of(
            request.with_fields(more) if more else request,
            account=account.name,
            base_url=account.base_url,
            take=terms.take,
        )
        return _Call(sync, account, intention, cast(RequestOptions, given), terms, tool, anyio.Event())

    async def _made_or_none(self, call: _Call) -> Made | None:
        """Return the job, or None where the ledger has changed meanwhile and is to be read again."""
        found = await self._found(call)
        if isinstance(found, Made):
            return found
        if isinstance(found, _Next):
            return await self._attempt(*_as_first_sent(call, found))
        if found.is_leased(time.time()):
            await self._wait_for_other(call, found)
            return None
        if found.state == "preparing":
            # Its process has died since: it is withdrawn as it is read again.
            return None
        return await self._resume(call, found)

    async def _found(self, call: _Call) -> Made | _Next | Entry:
        """Return the job that is there, or the attempt that is to be made, or the one whose job nobody knows.

        Nothing is sent. What foretells a create goes by it as well, so that both are of one mind.

        Raises:
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: the state of its job cannot be read.
        """
        entry, number = await self._last(call)
        if entry is None:
            return _Next(number)
        if _may_be_another_clip(entry, call.intention):
            note = f"An older version of this program made entry {entry.id}, perhaps of another clip."
            return _Next(number, note, entry.id)
        if entry.generation_id is not None and entry.state in ("accepted", "ended"):
            found = await self._present(call, entry)
        else:
            found = entry if entry.is_open else self._after(entry)
        # Those that were refused in between have their numbers.
        return replace(found, attempt=number) if isinstance(found, _Next) else found

    async def _last(self, call: _Call) -> tuple[Entry | None, int]:
        """Return the attempt that the next one comes after, and the next one's number.

        One whose process died before anything was sent is taken back.
        """
        latest = await self._do(self.ledger.latest, call.intention)
        while latest is not None and latest.is_abandoned(time.time()):
            await self._do(self.ledger.withdraw_abandoned, call.intention)
            latest = await self._do(self.ledger.latest, call.intention)
        if latest is None:
            return None, 1
        if latest.state != "refused":
            return latest, latest.attempt + 1
        return await self._do(self.ledger.standing, call.intention), latest.attempt + 1

    def _after(self, entry: Entry) -> _Next:
        """Return the attempt that follows a settled one, by what the ledger knows."""
        following = entry.attempt + 1
        if entry.state == "released":
            return _Next(following, "The user let go of the attempt before: this is a new one.")
        if entry.state == "ended":
            return _after_failure(entry, entry.charged)
        gone = "was deleted" if entry.state == "deleted" else "is no longer shown by the API"
        note = f"The job of this call, {_told_job(entry)}, {gone}; what it cost stays spent."
        return _Next(following, note, entry.id)

    async def _present(self, call: _Call, entry: Entry) -> Made | _Next:
        """Return the state of a job that was made, or what is to be made after it."""
        assert entry.generation_id is not None
        try:
            look = partial(self._look_for, call, entry.generation_id)
            generation = await _waited_out(call.terms, look)
        except SyncError as error:
            error.next_step = (
                f"This call's job {plain_id(entry.generation_id)} was made before; its state cannot be read "
                f"now. Call get_generation for it in a while. {error.next_step}"
            ).rstrip()
            raise
        if generation is None:
            return self._repeat_of_unseen(call, entry)
        options = call.reading(SETTLE_SECONDS)
        if generation.finished and generation.status != "COMPLETED":
            charged = await self._settling.settle_failure(call.sync, call.account, entry, generation, options)
            return _after_failure(replace(entry, status=generation.status), charged)
        if generation.finished:
            if entry.state == "ended" and entry.status != "COMPLETED":
                # What was written down of it is not true any more, and its cost may not be.
                await self._settling.settle_job(call.sync, entry, generation, options)
            await self._settling.settle_account(call.sync, call.account, options)
            entry = await self._do(self.ledger.entry, entry.id) or entry
        elif generation.status not in RUNNING_STATUSES:
            await self._settling.settle_strange(call.sync, entry, generation, options)
            now = await self._do(self.ledger.entry, entry.id)
            if now is not None and now.state == "ended":
                return _after_failure(now, now.charged)
        made = Made(generation, entry.attempt, "was there")
        made.notes.extend(_told_of_extras(entry, call.intention))
        if call.intention.dropped_signatures:
            left_out = ", ".join(call.intention.dropped_signatures)
            made.notes.append(f"Its URLs were compared without what only lets them be fetched: {left_out}.")
        cost, estimate = entry.cost_usd, entry.estimate_usd
        if cost is not None and estimate is not None and cost > estimate:
            made.notes.append(f"It cost {dollars(cost)}, more than the estimate, {dollars(estimate)}.")
        return made

    async def _look_for(self, call: _Call, generation_id: str) -> Generation | None:
        """Return a job, or None where neither it nor the list shows it."""
        try:
            return await call.sync.generations.get(generation_id, request_options=call.reading())
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
        try:
            listed = await call.sync.generations.list(ids=[generation_id], request_options=call.reading())
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
            # It does not take the id there either.
            return None
        found = next((job for job in listed if job.id == generation_id), None)
        if found is None and listed.unreadable:
            raise APIResponseError("The API's list has an entry that cannot be read.")
        return found

    def _repeat_of_unseen(self, call: _Call, entry: Entry) -> _Next:
        """Return the repeat of a job that was made and that the API shows nowhere.

        A repeat goes out under the same key first: an API that keeps keys answers it with the job.

        Raises:
            NotVisibleYet: it was made a short time ago: the API's reads may lag.
        """
        now = call.now.seconds
        if now - entry.last_sent_at < VISIBLE_WITHIN_SECONDS:
            raise _not_visible(entry, now)
        sent_on = _moment(entry.last_sent_at)
        if entry.generation_id is None:
            note = (
                f"The API named {_named_of(entry)} for this call, sent on {sent_on}, and does not show it; "
                "its money stays held."
            )
        else:
            note = (
                f"The job of this call, {_told_job(entry)}, was made on {sent_on}, and the API does not show "
                "it now; its money stays held."
            )
        if entry.error_code == REPEATED_IN_VAIN:
            note += f" {_NEW_KEY}"
            return _Next(entry.attempt + 1, note, entry.id)
        return _Next(entry.attempt + 1, note, entry.id, entry)

    async def _attempt(self, call: _Call, following: _Next) -> Made | None:
        """Price an attempt, have it agreed to, write it down and send it."""
        await self._settling.settle_account(call.sync, call.account, call.reading(SETTLE_SECONDS))
        price = await self._price(call)
        if isinstance(price.fault, RateLimitError) and await _paused_over(call.terms, price.fault):
            price = await self._price(call)
        _check_segments(call, call.intention.request, price)
        refusal = await self._standing_refusal(call, price)
        if refusal is not None:
            raise refusal
        wish = self._wish(call, following.attempt, price.usd, repeated_key=following.repeated_key)
        # Any token skips the question here. Whether it is one, and covers this, is decided in the transaction
        # that writes the attempt down: there no other call can use it at the same moment.
        if wish.token is None:
            wish = replace(wish, is_agreed=await self._ask(call, following, price))
        try:
            return await self._made(call, following, price, wish)
        except MustAsk as must:
            reasons = price_reasons(
                price, must.unasked_usd, call.terms.approval.above_usd, take=call.intention.take
            )
        except QuoteRefused as refused:
            if not refused.to_user:
                raise
            reason = Reason(refused.message, to_user=refused.to_user)
            reasons = [reason, *await self._reasons(call, following, price)]
        # What was agreed to is no longer what it is: the user is asked anew, with the price of now.
        await self._ask(call, following, price, because=reasons)
        return await self._made(call, following, price, replace(wish, token=None, is_agreed=True))

    async def _price(self, call: _Call) -> Price:
        return await self.pricing.price(
            call.sync,
            call.intention.request,
            call.terms.duration_seconds,
            call.reading(),
            files=call.terms.files,
            intention=call.intention,
        )

    def _wish(self, call: _Call, attempt: int, usd: Decimal | None, *, repeated_key: str | None) -> Wish:
        return Wish(
            intention=call.intention,
            attempt=attempt,
            tool=call.tool,
            owner=self._owner,
            estimate_usd=usd,
            limits=self.limits,
            now=call.now,
            token=call.terms.token,
            unasked_usd=call.terms.approval.above_usd,
            has_files=bool(call.intention.request.local_media),
            is_sandbox=call.is_sandbox,
            caller=call.terms.caller,
            webhook_host=_host_to_ask_about(call),
            repeated_key=repeated_key,
        )

    async def _made(self, call: _Call, following: _Next, price: Price, wish: Wish) -> Made | None:
        """Write an attempt down and send it."""
        try:
            sent = await self._sent(call, wish)
        except APIStatusError as error:
            if wish.repeated_key is None or not is_of_the_key(error):
                raise
            # The API keeps the key and shows no job of it: what the user agreed to goes out under its own.
            following = replace(following, attempt=following.attempt + 1, repeats=None)
            wish = replace(
                wish, attempt=following.attempt, repeated_key=None, token=None, is_agreed=True, now=call.now
            )
            sent = await self._sent(call, wish)
        if isinstance(sent, Intention):
            # A call that named the assets has made it.
            return await self._made_or_none(
                replace(call, intention=sent, terms=replace(call.terms, files=None))
            )
        if sent is None:
            return None
        notes = [text for text in (following.note, sent.note) if text]
        if sent.was_there and following.repeats is not None:
            notes.append(_ASKS_ONCE_MORE)
            return Made(sent.generation, following.repeats.attempt, "was there", notes=notes)
        return Made(sent.generation, following.attempt, "made", sent.price_usd, price, notes)

    async def _sent(self, call: _Call, wish: Wish) -> "_Sent | Intention | None":
        files = call.terms.files if wish.has_files else None
        if files is None:
            return await self._to_its_end(call, partial(self._begin_and_send, call, wish))
        sent = None
        with anyio.CancelScope(deadline=call.terms.ends_at) as scope:
            sent = await self._to_its_end(call, partial(self._begin_upload_and_send, call, wish, files))
        if scope.cancelled_caught:
            entry = await self._do(self.ledger.latest, call.intention)
            if entry is not None and entry.state != "preparing":
                raise CreateUnderWay("The files are uploaded, and the create is on its way.")
            raise files.under_way()
        return sent

    async def _begin_and_send(self, call: _Call, wish: Wish) -> "_Sent | None":
        body = call.intention.wire
        entry, is_ours = await self._begin(call, wish)
        if not is_ours:
            return None
        is_repeat = wish.repeated_key is not None
        return await self._send(call, entry, body, is_new=True, is_repeat=is_repeat)

    async def _begin(self, call: _Call, wish: Wish) -> tuple[Entry, bool]:
        if call.terms.on_begin is not None:
            call.terms.on_begin()
        return await self._do(self.ledger.begin, wish)

    async def _begin_upload_and_send(
        self, call: _Call, wish: Wish, files: LocalFiles
    ) -> "_Sent | Intention | None":
        """Upload the files of an attempt and send it; return the intention by which it was made already."""
        entry, is_ours = await self._begin(call, wish)
        if not is_ours:
            return None
        try:
            ready = await self._uploaded(call, wish, files, entry)
            if ready is None:
                return None
            sent, assets, price = ready
            usd = price.usd or wish.estimate_usd
            wish = replace(wish, now=call.now, estimate_usd=usd)
            whose = await self._do(self.ledger.send, entry.id, wish, sent, assets)
            if whose == "asks":
                self.pricing.learn(call.intention, price)
            if whose != "mine":
                return sent if whose == "made" else None
            entry = replace(entry, estimate_usd=usd)
            is_repeat = wish.repeated_key is not None
            return await self._send(call, entry, sent.wire, is_new=True, is_repeat=is_repeat)
        except SyncError as error:
            if (error.api_code or "").startswith("asset_") and error.money_spent == "no":
                files.forget()
                error.retryable = True
                error.next_step = "An uploaded file was deleted: make the same call again, it is sent anew."
            raise

    async def _uploaded(self, call: _Call, wish: Wish, files: LocalFiles, entry: Entry) -> "_Ready | None":
        """Upload and price the files of an attempt; it is withdrawn where that comes to nothing.

        Return None where the caller is gone, or it costs more than it seemed to: then it begins anew.
        """
        ready: _Ready | SyncError | None = None
        try:
            async with anyio.create_task_group() as task_group:
                # While it lives, what it is going to cost is held.
                task_group.start_soon(self._stay_alive, entry.id)
                task_group.start_soon(_cancel_with, call.gone, task_group.cancel_scope)
                ready = await _outcome_of(self._ready(call, wish, files))
                task_group.cancel_scope.cancel()
        finally:
            if call.gone.is_set() or not isinstance(ready, tuple):
                with anyio.CancelScope(shield=True):
                    await self._do(self.ledger.withdraw, entry.id, self._owner)
        if isinstance(ready, SyncError):
            raise ready
        return None if call.gone.is_set() else ready

    async def _ready(self, call: _Call, wish: Wish, files: LocalFiles) -> "_Ready | None":
        assets = await files.upload(call.sync)
        sent = call.intention.with_assets(assets)
        # The API has the files now: what it measures is what it charges by.
        price = await self.pricing.price(call.sync, sent.request, None, {"timeout_in_seconds": _LOOK_SECONDS})
        _check_segments(call, sent.request, price)
        if price.usd is not None and wish.estimate_usd is not None and price.usd > wish.estimate_usd:
            self.pricing.learn(call.intention, price)
            return None
        return sent, assets, price

    async def _resume(self, call: _Call, entry: Entry) -> Made | None:
        """Go on with an attempt whose outcome nobody knows: look for its job, or send it again."""
        if not call.sync.has_heard_time:
            # A process that was just started knows no time but this machine's, and the money counts on a day.
            with contextlib.suppress(SyncError):
                await call.sync.account.get(request_options=call.reading())
        told = _told_of_extras(entry, call.intention)
        first, is_whole = call.intention.first_sent(entry.extras)
        # Under the same key the same body: what the first call said besides holds.
        call = replace(call, intention=first)
        following = await self._named_but_unseen(call, entry) if is_whole else None
        wish = self._wish(call, entry.attempt, entry.estimate_usd, repeated_key=None)
        if following is None:
            wish = replace(wish, token=None)
        elif wish.token is None:
            await self._ask(call, following, Price(entry.estimate_usd))
        work = partial(
            self._take_over_and_send,
            call,
            entry,
            wish,
            despite_named=following is not None,
            obstacle=None if is_whole else _OTHER_WEBHOOK,
        )
        sent = await self._to_its_end(call, work)
        if sent is None:
            return None
        notes = [*told, *([sent.note] if sent.note else [])]
        if sent.was_there:
            # It was sent under the key of a job that nobody sees, and answered with that one.
            return Made(sent.generation, entry.attempt, "was there", notes=[*notes, _ASKS_ONCE_MORE])
        how = "sent now" if sent.went_out else "found"
        return Made(sent.generation, entry.attempt, how, sent.price_usd, notes=notes)

    async def _named_but_unseen(self, call: _Call, entry: Entry) -> _Next | None:
        """Return why the user is asked before an attempt is sent again whose job the API named and hides.

        Raises:
            NotVisibleYet: it was sent a short time ago: the API's reads may lag.
        """
        if entry.named_id is None or self.is_too_late(call.now, entry):
            # After that nothing goes out again: nobody is asked in vain.
            return None
        try:
            is_id = plain_id(entry.named_id)
            if is_id and await self._look_for(call, entry.named_id) is not None:
                return None
        except SyncError:
            # It is not known to be hidden: the search says what it finds, and nothing goes out.
            return None
        return replace(self._repeat_of_unseen(call, entry), attempt=entry.attempt)

    async def _known_hindrance(self, call: _Call, entry: Entry, *, is_whole: bool) -> str | None:
        """Return why an attempt in doubt would not be sent again, as far as that is known without a look."""
        if await self._refusal(call, entry.estimate_usd, held_by=entry) is not None:
            return _LIMIT_NOW
        if not is_whole:
            return _OTHER_WEBHOOK
        return _TOO_LATE if self.is_too_late(call.now, entry) else None

    async def _take_over_and_send(
        self, call: _Call, entry: Entry, wish: Wish, *, despite_named: bool, obstacle: str | None
    ) -> "_Sent | None":
        if call.terms.on_begin is not None:
            call.terms.on_begin()
        fate = await self._do(self.ledger.take_over, entry.id, wish)
        if fate == "lost":
            return None
        # Another process may have sent it since it was read.
        entry = await self._do(self.ledger.entry, entry.id) or entry
        logger.warning("create key=%s goes on from an earlier call", entry.idempotency_key)
        body = call.intention.with_assets(entry.assets).wire
        if fate != "send" or self._max_cost_refusal(call, entry.estimate_usd) is not None:
            obstacle = _LIMIT_NOW
        return await self._send(
            call, entry, body, is_new=False, obstacle=obstacle, despite_named=despite_named
        )

    async def _send(
        self,
        call: _Call,
        entry: Entry,
        body: Json,
        *,
        is_new: bool,
        obstacle: str | None = None,
        despite_named: bool = False,
        is_repeat: bool = False,
    ) -> "_Sent":
        """Send an attempt until its outcome is known, and write that down.

        With an `obstacle`, the end of a sentence, it is only looked for.
        """
        sending = _Sending(self, call, entry, is_new=is_new, obstacle=obstacle)
        attempt = Attempt(
            entry.idempotency_key,
            claim=partial(self._claim, entry.id),
            knows=partial(self._known_to_others, entry.id),
            sent_at=None if is_new else datetime.fromtimestamp(entry.first_sent_at, UTC),
            named_id=entry.named_id,
            resend_despite_named=despite_named,
            may_send=sending.may_go_out,
            last_sent_at=None if is_new else datetime.fromtimestamp(entry.last_sent_at, UTC),
            tell=sending.note,
            is_repeat=is_repeat,
            unsigned=unsigned,
        )
        result: Generation | BaseException | None = None
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(self._stay_alive, entry.id)
            result = await self._outcome(call, attempt, body)
            task_group.cancel_scope.cancel()
        entry = sending.entry
        if isinstance(result, Generation):
            return await self._accepted(entry, result, went_out=sending.went_out)
        assert result is not None
        if isinstance(result, OutcomeUnknown):
            hindrance = await sending.hindrance()
            if hindrance is not None:
                before, until = result.retry_after_seconds, hindrance.retry_after_seconds
                # Where no time is known when it ends, none is told.
                result.retry_after_seconds = None if until is None else max(until, before or 0.0)
            result.next_step = self._way_out(entry, result, hindrance)
        elif isinstance(result, NotSent) and sending.refusal is not None:
            result = sending.refusal
        await self._note_failure(entry, result, is_new=is_new, went_out=sending.went_out)
        if isinstance(result, NotSent):
            raise CreateUnderWay("Another process has taken this create over.") from result
        raise result

    async def _accepted(self, entry: Entry, generation: Generation, *, went_out: bool) -> "_Sent":
        try:
            fate = await self._do(self.ledger.accept, entry.id, generation.id)
        except LedgerError as error:
            # It is made and paid: its handle must reach the caller whatever the disk does.
            logger.error("create key=%s: %s", entry.idempotency_key, error)
            note = f"The ledger could not be written after the job was accepted: {error.message}"
            return _Sent(generation, entry.estimate_usd, note, went_out=went_out)
        return _Sent(generation, entry.estimate_usd, None, went_out=went_out, was_there=fate == "was there")

    async def _outcome(self, call: _Call, attempt: Attempt, body: Json) -> Generation | BaseException:
        while True:
            options: RequestOptions = {**call.options}
            if math.isfinite(call.seconds_left):
                # After a long upload the call may be over; the create is not.
                least = _SEND_SECONDS if call.terms.files else 1.0
                options["timeout_in_seconds"] = max(least, call.seconds_left)
            try:
                return await call.sync.generations.create_as(attempt, body, request_options=options)
            except ConcurrencyLimitError as error:
                try:
                    if not await self._slot_came_free(call, error):
                        return error
                except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                    return error
            except RateLimitError as error:
                try:
                    if not await _paused_over(call.terms, error, call.gone):
                        return error
                except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                    return error
            except BaseException as error:  # noqa: BLE001 - written down first, then raised
                return error

    async def _note_failure(
        self, entry: Entry, error: BaseException, *, is_new: bool, went_out: bool
    ) -> None:
        with anyio.CancelScope(shield=True):
            try:
                if not is_new or isinstance(error, OutcomeUnknown) or not isinstance(error, SyncError):
                    named = error.generation_id if isinstance(error, OutcomeUnknown) else None
                    await self._do(
                        partial(
                            self.ledger.doubt,
                            entry.id,
                            self._owner,
                            named,
                            gives_quote_back=not went_out,
                        )
                    )
                elif isinstance(error, NotSent):
                    # Nothing of it went out. What was refused keeps its number: its key may be known.
                    await self._do(self.ledger.call_off, entry.id, self._owner)
                else:
                    says_nothing_of_price = not isinstance(error, PaymentRequiredError)
                    await self._do(
                        partial(
                            self.ledger.refuse,
                            entry.id,
                            self._owner,
                            error.api_code or error.code,
                            gives_quote_back=says_nothing_of_price,
                        )
                    )
            except LedgerError as failure:
                # Left as it is, it counts as spent, and the next call looks for the job.
                logger.error("create key=%s: %s", entry.idempotency_key, failure)

    def _way_out(self, entry: Entry, error: OutcomeUnknown, hindrance: "_Hindrance | None") -> str:
        if error.reason == "maybe_seen":
            again = (
                "Exactly this call looks for the job again, and sends nothing while the API shows one that "
                "may be it. Where one of them is it, the user says so: "
                f"{ledger_command('resolve', str(entry.id), 'ID')}."
            )
        elif hindrance is not None and error.retry_after_seconds is not None:
            again = (
                f"Make exactly this call again in {error.retry_after_seconds:.0f} s. It looks for the job "
                f"again; nothing was sent now, since {hindrance.why}."
            )
        elif hindrance is not None:
            again = f"Exactly this call looks for the job again, and sends nothing, since {hindrance.why}."
        elif error.retry_after_seconds is not None:
            again = (
                f"Make exactly this call again in {error.retry_after_seconds:.0f} s: the API's list may lag "
                "so long. It looks for the job, and sends it under the same key where it is not there then."
            )
        else:
            again = (
                "Make exactly this call again: it looks for the job, and sends it under the same key where "
                "it is not there, so nothing is paid twice."
            )
        return (
            f"{again} Or look in list_generations. Its money counts as spent until then; the user can settle "
            f"it: {ledger_command('show', str(entry.id))}. {error.advice}"
        ).rstrip()

    async def renew(self, entry_id: int) -> bool:
        """Show that this process is alive; return whether an attempt is still its own to send."""
        return await self._do(self.ledger.renew, entry_id, self._owner)

    def is_too_late(self, now: Instant, entry: Entry) -> bool:
        """Return whether an attempt may not be sent again for its age."""
        return now.seconds - entry.first_sent_at > self._resend_seconds

    async def move_to_today(self, call: _Call, entry: Entry) -> LimitReached | None:
        """Have an attempt that is about to be sent count on this day; return which limit forbids that."""
        if utc_midnight(entry.created_at) == utc_midnight(call.now.seconds):
            return None
        wish = self._wish(call, entry.attempt, entry.estimate_usd, repeated_key=None)
        return await self._do(self.ledger.move_to_today, entry.id, wish)

    async def hindrance_in_export(self, call: _Call, entry: Entry) -> "_Hindrance | None":
        """Return why an attempt is not sent again by what the export tells of the jobs that have finished.

        A job that may be the attempt's and that the list lacks stands against it; so does not to know.
        """
        since = datetime.fromtimestamp(entry.first_sent_at, UTC)
        told = await self._settling.finished_since(call.sync, call.account, since, call.reading())
        if told.unknown is not None:
            return _Hindrance(told.unknown, told.retry_after_seconds)
        rows = [row for row in told.rows if _may_be(row, entry)]
        if any(not row.generation_id for row in rows):
            return _IN_EXPORT
        ids = [str(row.generation_id) for row in rows]
        known = await self._known_to_others(entry.id, ids) if ids else ()
        ids = [id for id in ids if id not in known]
        with anyio.move_on_after(_LOOK_SECONDS):
            for start in range(0, len(ids), _LISTED_AT_ONCE):
                some = ids[start : start + _LISTED_AT_ONCE]
                try:
                    listed = await call.sync.generations.list(ids=some, request_options=call.reading())
                except SyncError:
                    return _UNCOMPARED
                if not set(some) <= {job.id for job in listed}:
                    return _IN_EXPORT
            return None
        return _UNCOMPARED

    async def note_send(self, entry: Entry) -> None:
        """Write down when an attempt last went out, and whether an answer to it is to come."""
        await self._do(
            partial(
                self.ledger.note_send,
                entry.id,
                self._owner,
                entry.last_sent_at,
                is_on_its_way=entry.is_on_its_way,
            )
        )

    async def _claim(self, entry_id: int, generation_id: str) -> Claim:
        return await self._do(self.ledger.claim, entry_id, generation_id)

    async def _known_to_others(self, entry_id: int, generation_ids: Sequence[str]) -> Collection[str]:
        return await self._do(self.ledger.known_to_others, entry_id, list(generation_ids))

    async def _stay_alive(self, entry_id: int) -> None:
        while True:
            await anyio.sleep(RENEWAL_SECONDS)
            try:
                await self.renew(entry_id)
            except LedgerError as error:
                logger.warning("the ledger cannot be written: %s", error)

    async def _wait_for_other(self, call: _Call, entry: Entry) -> None:
        """Wait until another process is done with an attempt, or dead."""
        while True:
            await anyio.sleep(_POLL_SECONDS)
            now = await self._do(self.ledger.entry, entry.id)
            if now is None or not now.is_leased(time.time()):
                return
            if now.state == "preparing" and call.terms.files is not None:
                await call.terms.files.report()
            if call.seconds_left <= _POLL_SECONDS:
                if now.state == "preparing" and call.terms.files is not None:
                    raise call.terms.files.under_way()
                raise CreateUnderWay("Another process is sending this very create.")

    async def _slot_came_free(self, call: _Call, error: ConcurrencyLimitError) -> bool:
        """Wait for one of the account's jobs to end; return False, with the error made out, if none does.

        Once the caller is gone nothing is waited for: a free slot would be paid for unasked.
        """
        before: set[str] | None = None
        while not call.gone.is_set():
            running = await self._running(call)
            ids = {job.id for job in running}
            if before is not None and (before - ids):
                return not call.gone.is_set()
            before = ids if before is None else before
            if anyio.current_time() + _SLOT_POLL_SECONDS >= min(call.terms.slot_until, call.terms.ends_at):
                _make_out(error, [job.id for job in running])
                return False
            with anyio.move_on_after(_SLOT_POLL_SECONDS):
                await call.gone.wait()
            if not running:
                # The list says that there is room: a moment later the API may know it too.
                return not call.gone.is_set()
        return False

    async def _running(self, call: _Call) -> list[Generation]:
        try:
            return await call.sync.generations.list(
                status=["PENDING", "PROCESSING"], request_options=call.reading()
            )
        except SyncError as error:
            logger.warning("the running jobs cannot be listed: %s", error)
            return []

    async def _standing_refusal(self, call: _Call, price: Price) -> LimitReached | None:
        """Return which limit stands against a price, once it is known what has ended since."""
        refusal = await self._refusal(call, price.usd)
        if refusal is None:
            return None
        if price.usd is None:
            # No sum that is spent decides it.
            return until_priced(refusal, price.fault) if price.fault else refusal
        options = call.reading(SETTLE_SECONDS)
        await self._settling.settle_account(call.sync, call.account, options, is_due=True)
        return await self._refusal(call, price.usd)

    async def _refusal(
        self, call: _Call, usd: Decimal | None, *, held_by: Entry | None = None
    ) -> LimitReached | None:
        """Return which limit stands against a price, if any, besides what an entry holds for it already."""
        refusal = self._max_cost_refusal(call, usd)
        if refusal is not None or not self.limits.any:
            return refusal
        spent = await self._spent(call)
        if held_by is not None:
            spent = spent.without(held_by.counted_usd, held_by.created_at)
        return self.limits.refusal(usd, spent)

    def _max_cost_refusal(self, call: _Call, usd: Decimal | None) -> LimitReached | None:
        most = call.terms.max_cost_usd
        return None if most is None else call_refusal(usd, most)

    async def _spent(self, call: _Call) -> Spent:
        return await self._do(partial(self.ledger.spent, is_sandbox=call.is_sandbox, now=call.now))

    async def _most_usd(self, call: _Call) -> Decimal | None:
        """Return the most that a job may cost now, or None where nothing limits it."""
        bounds: list[Decimal] = []
        if self.limits.any:
            bounds = [limit.left_usd for limit in self.limits.standings(await self._spent(call))]
        if call.terms.max_cost_usd is not None:
            bounds.append(call.terms.max_cost_usd)
        return min(bounds, default=None)

    async def _left_usd(self, call: _Call) -> Decimal | None:
        return self.limits.left_usd(await self._spent(call)) if self.limits.has_budget else None

    async def _reasons(self, call: _Call, following: _Next, price: Price) -> list[Reason]:
        """Return why the user is asked about an attempt; nothing where they need not be."""
        reasons: list[Reason] = []
        if following.paid_before is not None:
            reasons.append(repeat_reason(following.note or "", following.paid_before))
        else:
            twin = await self._do(self.ledger.twin_elsewhere, call.intention)
            if twin is not None:
                note = f"The same was made or sent with another key of this address (ledger entry {twin.id})."
                reasons.append(repeat_reason(note, twin.id))
        if _host_to_ask_about(call) is not None:
            reasons.append(WEBHOOK_REASON)
        above = call.terms.approval.above_usd
        # Where nobody is asked about a price, nobody is asked about a no of before either.
        if above is not None and await self._do(self.ledger.was_declined, call.intention, call.terms.caller):
            reasons.append(DECLINED_REASON)
        unasked = Decimal(0) if above is None else await self._unasked_usd(call)
        return [*reasons, *price_reasons(price, unasked, above, take=call.intention.take)]

    async def _unasked_usd(self, call: _Call) -> Decimal:
        return await self._do(partial(self.ledger.unasked_usd, is_sandbox=call.is_sandbox, now=call.now))

    async def _ask(self, call: _Call, following: _Next, price: Price, because: Sequence[Reason] = ()) -> bool:
        """Have the user agree where that is needed; return whether they were asked.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not agreed; nothing was sent.
        """
        reasons = because or await self._reasons(call, following, price)
        if not reasons:
            return False
        approval = call.terms.approval
        proposal = Proposal(
            call.intention,
            following.attempt,
            price,
            reasons,
            call.terms.notes,
            None if approval.above_usd is None else await self._unasked_usd(call),
            await self._left_usd(call),
            call.is_sandbox,
            partial(self._hand_out, call, following, price),
            call.terms.voice_names,
        )
        try:
            await approval.ask(proposal)
        except ApprovalDenied as denied:
            if denied.is_the_users:
                await self._revoke(call)
            raise
        return True

    async def _revoke(self, call: _Call) -> None:
        """Take back what the user was told of a call they said no to, also where it names known assets."""
        await self._do(partial(self.ledger.revoke, call.intention, caller=call.terms.caller))
        files = call.terms.files
        if files is None:
            return
        assets: Mapping[str, str] | None = None
        with anyio.move_on_after(min(_LOOK_SECONDS, max(1.0, call.seconds_left))):
            try:
                assets = await files.known_assets(call.sync)
            except SyncError as error:
                logger.warning("which assets have the content of files cannot be told: %s", error)
        if assets is not None:
            sent = call.intention.with_assets(assets)
            await self._do(partial(self.ledger.revoke, call.intention, sent, caller=call.terms.caller))

    async def _hand_out(self, call: _Call, following: _Next, price: Price, kind: TokenKind) -> str:
        return await self._do(
            partial(
                self.ledger.quote,
                call.intention,
                following.attempt,
                price.usd,
                call.now,
                kind,
                caller=call.terms.caller,
                webhook_host=webhook_host(call.intention.request),
            )
        )

    async def _own_account(self, sync: AsyncSync, seconds: float) -> Account:
        fingerprint, base_url = sync.key_fingerprint, sync.base_url
        known = await self._do(self.ledger.account_of, fingerprint, base_url)
        # One that was named after its key may have a name by now.
        if known is not None and known[0].startswith("org:"):
            return Account(known[0], base_url, known[1])
        organization: str | None = None
        try:
            within = max(1.0, min(_LOOK_SECONDS, seconds))
            told = await sync.account.get(request_options={"timeout_in_seconds": within})
            organization = told.organization_id
            if organization is None and told.account is None and told.plan is None:
                raise APIResponseError("The API's answer is no account.")
        except AuthenticationError:
            raise
        except (APIStatusError, APIResponseError) as error:
            # An API that has no such page can still make videos: the account goes by its key for now.
            if error.retryable or not 400 <= (error.status or 0) < 500:
                raise
        if organization is None:
            return Account(f"key:{fingerprint}", base_url, sync.sandboxed)
        name = f"org:{safe(organization, _ID_LIMIT)}"
        note = partial(self.ledger.keep_account, fingerprint, base_url, name, is_sandbox=sync.sandboxed)
        return Account(await self._do(note), base_url, sync.sandboxed)

    @asynccontextmanager
    async def _turn(self, call: _Call) -> AsyncGenerator[None]:
        """Let the calls of this process that mean the same go one after another."""
        turn = self._turns.setdefault(call.intention.digest, _Turn())
        turn.users += 1
        try:
            await _take(turn.lock, call.terms.ends_at)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[call.intention.digest]

    async def _to_its_end(self, call: _Call, work: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Do what must not stop in the middle, whatever becomes of the caller.

        Work that begins with an upload goes on past the time of its call too; a caller that goes away before
        that calls it off, as far as nothing was sent.
        """
        flight = _Flight[_ResultT]()
        if self._task_group is None:
            async with anyio.create_task_group() as own:
                own.start_soon(flight.fly_shielded, work)
                await self._land(call, flight)
        else:
            self._task_group.start_soon(flight.fly, work)
            await self._land(call, flight)
        if flight.error is not None:
            raise flight.error
        return flight.results[0]

    async def _land(self, call: _Call, flight: "_Flight[_ResultT]") -> None:
        try:
            await flight.landed.wait()
        except BaseException:
            flight.is_awaited = False
            if call.terms.files is None or anyio.current_time() < call.terms.ends_at:
                call.gone.set()
            raise

    async def _do(self, work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        """Do one thing with the ledger, in a thread: the disk takes its time."""
        return await to_thread.run_sync(partial(work, *arguments))


class _Sending:
    """Whether an attempt may go out, asked before each send, and whether it did."""

    def __init__(
        self, guard: Guard, call: _Call, entry: Entry, *, is_new: bool, obstacle: str | None
    ) -> None:
        self._guard = guard
        self._call = call
        self.entry = entry
        """The attempt, as it stands by what was sent of it."""
        self._is_new = is_new
        self._obstacle = obstacle
        self._renewed_at = time.time()
        self._has_asked_export = False
        """Whether the export was asked since the last send."""
        self._in_export: _Hindrance | None = None
        self.refusal: LimitReached | None = None
        """Which limit stands against the day on which it would be sent."""
        self._sent_before = entry.last_sent_at
        self.went_out = False

    async def may_go_out(self) -> bool:
        """Return whether it may be sent now; then its money counts on this day."""
        if await self.hindrance() is not None:
            return False
        # What waited for a slot, or for its repeat, may have waited over midnight.
        self.refusal = await self._guard.move_to_today(self._call, self.entry)
        if self.refusal is not None:
            self._obstacle = _LIMIT_NOW
        return self.refusal is None

    async def note(self, step: Step) -> None:
        """Keep book of a step; the first send of a new attempt was written down with it."""
        if step == "sends":
            self._sent_before = self.entry.last_sent_at
            self.entry = replace(self.entry, last_sent_at=self._call.now.seconds, is_on_its_way=True)
            is_written = self._is_new and not self.went_out
            self.went_out = True
            # Its job may have finished by the time of a repeat.
            self._has_asked_export = False
            if not is_written:
                await self._guard.note_send(self.entry)
        elif step == "made nothing":
            self.entry = replace(self.entry, last_sent_at=self._sent_before)
        elif self.entry.is_on_its_way:
            self.entry = replace(self.entry, is_on_its_way=False)
            try:
                await self._guard.note_send(self.entry)
            except LedgerError as error:
                # It is taken for one that is on its way, and those like it wait.
                logger.warning("create key=%s: %s", self.entry.idempotency_key, error)

    async def hindrance(self) -> "_Hindrance | None":
        """Return why the attempt is not sent, or None where it may be."""
        if self._obstacle is not None:
            return _Hindrance(self._obstacle)
        if self._call.gone.is_set():
            return _Hindrance("nobody waits for it any more")
        # Whoever slept through its lease has lost the attempt to another.
        if not 0 <= time.time() - self._renewed_at < RENEWAL_SECONDS:
            if not await self._guard.renew(self.entry.id):
                return _Hindrance("another call goes on with it")
            self._renewed_at = time.time()
        if not self._is_new or self.went_out:
            if not self._is_new and self._guard.is_too_late(self._call.now, self.entry):
                return _Hindrance(_TOO_LATE)
            if not self._is_key_kept:
                return await self._hindrance_in_export()
        return None

    @property
    def _is_key_kept(self) -> bool:
        """Whether the API has shown that it keeps a key so long: then it answers a repeat with the job."""
        age = self._call.now.seconds - self.entry.first_sent_at
        return self._call.sync.generations.keeps_keys_for(age)

    async def _hindrance_in_export(self) -> "_Hindrance | None":
        if not self._has_asked_export:
            self._in_export = await self._guard.hindrance_in_export(self._call, self.entry)
            self._has_asked_export = True
        return self._in_export


class _Flight(Generic[_ResultT]):
    """Work that goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.is_awaited = True
        self.results: list[_ResultT] = []
        self.error: Exception | None = None

    async def fly_shielded(self, work: Callable[[], Awaitable[_ResultT]]) -> None:
        with anyio.CancelScope(shield=True):
            await self.fly(work)

    async def fly(self, work: Callable[[], Awaitable[_ResultT]]) -> None:
        try:
            self.results.append(await work())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
            if not self.is_awaited:
                reason = str(error) if isinstance(error, SyncError) else repr(error)
                logger.warning("a create whose call was cancelled ended: %s", safe(reason, _REASON_LIMIT))
        except BaseException:
            self.error = InternalError(
                "The server stopped while the create was on its way.", money_spent="unknown"
            )
            raise
        finally:
            self.landed.set()


async def _take(lock: anyio.Lock, until: float) -> None:
    try:
        # A call whose time is up stands in nobody's way, and nobody in its own.
        lock.acquire_nowait()
    except anyio.WouldBlock:
        with anyio.CancelScope(deadline=until) as scope:
            await lock.acquire()
        if scope.cancelled_caught:
            raise CreateUnderWay(
                "Another call of this server asks the user about this very create, or is sending it."
            ) from None


async def _cancel_with(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _outcome_of(work: Awaitable[_ResultT]) -> _ResultT | SyncError:
    """Return what comes of it, failure included: out of a task group it would come in a group."""
    try:
        return await work
    except SyncError as error:
        return error


class _Turn:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A job that an attempt came to."""

    generation: Generation
    price_usd: Decimal | None
    note: str | None
    went_out: bool
    """Whether this call sent it: else it was only found."""
    was_there: bool = False
    """Whether the API answered a repeat with the job that was made before."""


@dataclass(frozen=True, slots=True)
class _Hindrance:
    """Why an attempt is not sent now, as the end of a sentence."""

    why: str
    retry_after_seconds: float | None = None
    """When that may be over, where it is known."""


_IN_EXPORT = _Hindrance("the API's export has a job that may be it and that its list does not show")
_UNCOMPARED = _Hindrance(
    "the API's export has jobs that may be it, and its list cannot be asked for them now",
    EXPORT_RETRY_SECONDS,
)

_Ready = tuple[Intention, Mapping[str, str], Price]
"""An attempt whose files are uploaded: the intention with their assets, these, and its price by the API."""

_LIMIT_NOW = "a limit stands against it by now"
_TOO_LATE = "too much time has passed since its first send"
_NEW_KEY = "A repeat under its key was answered with it and made nothing: a new one goes out under a new key."
_ASKS_ONCE_MORE = "If it stays hidden, the same call asks once more, and a new one goes out under a new key."
_OTHER_WEBHOOK = (
    "its first call named another webhook_url, of which a digest alone is kept: a call that names that one "
    "sends it"
)
_ZONE_STEP = timedelta(minutes=30)
_ZONE_STEPS = 28
"""A time whose zone is left out or told wrongly is off by whole half hours, 14 hours at most ..."""
_ZONE_TOLERANCE = timedelta(minutes=2)
"""... give or take so much."""
_OTHER_PRICE = 2
"""A job that costs so many times what was estimated, or less by as much, is another."""
_LISTED_AT_ONCE = 50
_STATUSES = ("FAILED", "REJECTED", "CANCELED")


def _may_be_another_clip(entry: Entry, intention: Intention) -> bool:
    """Return whether an older version's entry may be of another clip: it took more for signatures."""
    is_of_now = intention.digest in (entry.digest, entry.sent_digest)
    return intention.has_loose_earlier_digest and not is_of_now


def _may_be(row: UsageItem, entry: Entry) -> bool:
    """Return whether a finished job may be what an attempt made, by all that the export tells of it."""
    if row.model is not None and is_other_model(entry.model, row.model):
        return False
    if row.created_at is not None and not _may_be_time_of(row.created_at, entry):
        return False
    # A cost of 0, or one that is not final, says nothing: it may be metered later.
    cost, estimate = row.final_usd, entry.estimate_usd
    return not cost or not estimate or estimate / _OTHER_PRICE <= cost <= estimate * _OTHER_PRICE


def _may_be_time_of(created_at: datetime, entry: Entry) -> bool:
    """Return whether a send of an attempt may have made a job at a time that the export tells."""
    first = datetime.fromtimestamp(entry.first_sent_at, UTC)
    last = datetime.fromtimestamp(entry.last_sent_at, UTC) + timedelta(seconds=LISTED_WITHIN_SECONDS)
    if first - EXPORT_TOLERANCE <= created_at <= last + EXPORT_TOLERANCE:
        return True
    return any(
        first - _ZONE_TOLERANCE <= created_at + step * _ZONE_STEP <= last + _ZONE_TOLERANCE
        for step in range(-_ZONE_STEPS, _ZONE_STEPS + 1)
    )


def _after_failure(entry: Entry, charged: str) -> _Next:
    """Return the attempt that follows a job without a result: the user is asked unless it was surely free."""
    status = entry.status if entry.status in _STATUSES else "in a status that is not known here"
    number = f"Attempt {entry.attempt} ({_told_job(entry)}) ended {status}"
    if charged == "no":
        return _Next(entry.attempt + 1, f"{number} and was not charged: this is a new one.")
    fate = "was charged" if charged == "yes" else "may have been charged"
    return _Next(entry.attempt + 1, f"{number} and {fate}.", entry.id)


def _check_segments(call: _Call, request: GenerationRequest, price: Price) -> None:
    """Refuse, or warn of, segments that end after the video does."""
    faults = price.segments_past_end(request)
    if faults and call.terms.refuses_late_segments:
        raise InvalidRequestError(faults)
    for fault in faults:
        logger.warning("%s", fault)


async def _paused_over(terms: Terms, error: RateLimitError, gone: anyio.Event | None = None) -> bool:
    """Wait as long as the API asks for; return False where the caller does not wait so long, or is gone."""
    seconds = error.retry_after_seconds
    if seconds is None or anyio.current_time() + seconds >= min(terms.slot_until, terms.ends_at):
        return False
    gone = gone or anyio.Event()
    with anyio.move_on_after(seconds):
        await gone.wait()
    return not gone.is_set()


async def _waited_out(terms: Terms, look: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
    """Look, which costs nothing, and again when the API takes requests again, within the caller's wait."""
    while True:
        try:
            return await look()
        except RateLimitError as error:
            if not await _paused_over(terms, error):
                raise


def _named_of(entry: Entry) -> str:
    """Return the job that the API named, as it may stand in a sentence of our own."""
    named = plain_id(entry.named_id or "")
    return f"the job {named}" if named else "a job, by what is no id,"


def _told_job(entry: Entry) -> str:
    return plain_id(entry.generation_id or "") or "whose id is none"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}"


def _not_visible(entry: Entry, now: float) -> NotVisibleYet:
    """Return what is told of a job that the ledger knows and the API does not show."""
    return NotVisibleYet(
        entry.generation_id or entry.named_id or "",
        ledger_id=entry.id,
        made_at=_moment(entry.last_sent_at),
        may_appear=now - entry.last_sent_at < VISIBLE_WITHIN_SECONDS,
        standing=_standing(entry),
    )


def _standing(entry: Entry) -> Standing:
    if entry.state == "released" and entry.charged == "no":
        return "let_go"
    if not entry.is_open:
        return "spent"
    return "held" if entry.generation_id is not None else "named"


def _host_to_ask_about(call: _Call) -> str | None:
    """Return who gets the finished job's URL and may not without the user's word; None for nobody."""
    allowed, host = call.terms.webhook_hosts, webhook_host(call.intention.request)
    return host if allowed is not None and host not in allowed else None


def _as_first_sent(call: _Call, following: _Next) -> tuple[_Call, _Next]:
    """Return a call and its next attempt with the body of the first one where it goes out under its key."""
    entry = following.repeats
    if entry is None:
        return call, following
    first, is_whole = call.intention.first_sent(entry.extras)
    if not is_whole:
        # A key with another body is refused by an API that keeps keys, and heard by none else.
        return call, replace(following, repeats=None)
    told = " ".join([following.note or "", *_told_of_extras(entry, call.intention)])
    return replace(call, intention=first), replace(following, note=told)


def _told_of_extras(entry: Entry, intention: Intention) -> list[str]:
    names = differing_extras(entry.extras, intention.extras)
    if not names:
        return []
    return [f"{', '.join(names)} of this call differ from the first one's, which hold for this job."]


def _make_out(error: ConcurrencyLimitError, running: list[str]) -> None:
    shown = [name for name in running if plain_id(name)][:_RUNNING_SHOWN]
    if shown:
        more = f" and {len(running) - len(shown)} more" if len(running) > len(shown) else ""
        error.message += f" Running: {', '.join(shown)}{more}."
        ids = ", ".join(f'"{name}"' for name in shown)
        error.next_step = (
            f"Nothing was sent or charged. Call wait_for_generations with generation_ids [{ids}] and until "
            '"any", then make this call again.'
        )
    else:
        error.next_step = "Nothing was sent or charged. Wait for a running job to end, then call again."
