"""One intention, one job: what stands between a paid call and the money.

Each create is written into the ledger before it is sent, and what came of it after. A call that means what an
earlier one meant gets that one's job. Budgets hold for all processes that share the ledger.
"""

import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.create import Attempt, Claim, NotSent
from sync_mcp.api.models import Generation, GenerationCost, GenerationRequest
from sync_mcp.api.transport import RequestOptions
from sync_mcp.errors import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    ConcurrencyLimitError,
    ConfigurationError,
    CreateUnderWay,
    InternalError,
    InvalidRequestError,
    LedgerError,
    LimitReached,
    NotFoundError,
    OutcomeUnknown,
    SyncError,
)
from sync_mcp.jobs.files import LocalFiles, has_contents, with_assets
from sync_mcp.jobs.intention import Intention, differing_extras, unsigned
from sync_mcp.jobs.ledger import RENEWAL_SECONDS, Entry, Ledger, Wish
from sync_mcp.jobs.limits import Limits, Spending, dollars, reason_to_ask
from sync_mcp.text import safe

logger = logging.getLogger("sync_mcp.jobs")

RESEND_HOURS = 12.0
ORGANIZATION_HEADER = "x-sync-organization-id"
PRICED_FPS = 25
"""Frames per second of the API's outputs, by which it counts what it charges (API §17)."""
_LOOK_SECONDS = 8.0
_SETTLE_SECONDS = 6.0
_SETTLED_AT_ONCE = 100
_COSTS_AT_ONCE = 10
_POLL_SECONDS = 0.25
_SEND_SECONDS = 30.0
_SLOT_POLL_SECONDS = 2.0
_RUNNING_SHOWN = 15
_ID_LIMIT = 128
_REASON_LIMIT = 300

_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Price:
    """What a job is likely to cost; `note` says on whose word, or why nobody knows."""

    usd: Decimal | None
    note: str | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A paid call that the user is to agree to."""

    intention: Intention
    attempt: int
    price: Price
    reason: str
    left_usd: Decimal | None
    """What the budgets leave, or None where there is none."""
    duration_seconds: float | None
    """Length of the output, where it is known."""
    quote: Callable[[], Awaitable[str]]
    """Makes a quote for it."""


class Approval(Protocol):
    """How the user is asked."""

    @property
    def above_usd(self) -> Decimal:
        """The price from which on the user is asked; an unknown one is always above it."""
        ...

    async def ask(self, proposal: Proposal) -> None:
        """Return when the user has agreed.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a create may be paid.

    Without `approval` nobody is asked. `max_cost_usd` can only lower what the limits allow. The caller's
    `duration_seconds` counts only where the API cannot measure the media. Until `slot_until`, on anyio's
    clock, a create waits for one of the account's jobs to end where all its slots are taken. `files` are
    uploaded once the create is agreed to and written down; that goes on where the call ends before.
    """

    take: int = 1
    max_cost_usd: Decimal | None = None
    duration_seconds: float | None = None
    files: LocalFiles | None = None
    quote_id: str | None = None
    approval: Approval | None = None
    slot_until: float = -math.inf
    ends_at: float = math.inf


@dataclass(slots=True)
class Made:
    """A job, and how this call came by it."""

    generation: Generation
    attempt: int
    reused: bool
    price: Price | None = None
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is."""

    name: str
    base_url: str


@dataclass(frozen=True, slots=True)
class _Next:
    """The attempt that is to be made, and why there is one before it."""

    attempt: int
    note: str | None = None
    must_ask: bool = False


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of `create`, made out."""

    sync: AsyncSync
    account: Account
    intention: Intention
    options: RequestOptions
    terms: Terms
    tool: str

    @property
    def seconds_left(self) -> float:
        return self.terms.ends_at - anyio.current_time()

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
        self._resend_seconds = resend_hours * 3600
        self._task_group = task_group
        self._owner = secrets.token_hex(8)
        self._accounts: dict[tuple[str, str, str], Account] = {}
        self._turns: dict[str, _Turn] = {}
        self._prices: dict[str, Decimal] = {}
        """By what is made, what the API said that local files cost when it had them."""

    async def create_for(
        self, sync: AsyncSync, request: GenerationRequest, options: RequestOptions | None, take: int
    ) -> Generation:
        """Make a request's job, or return the one that it made before.

        Raises:
            LimitReached, LedgerError: nothing was sent.
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
            SyncError: as of a create without a guard.
        """
        given = dict(options or RequestOptions())
        if "idempotency_key" in given:
            raise InvalidRequestError(
                "With a guard the idempotency key follows from the request: leave it out."
            )
        if terms.files is None and has_contents(request):
            raise InvalidRequestError("An asset_id that begins with sha256: is no asset's: give its own id.")
        more = cast(Mapping[str, object], given.pop("additional_body_parameters", {}))
        account = await self.account(sync, options, seconds=terms.ends_at - anyio.current_time())
        call = _Call(
            sync,
            account,
            Intention.of(
                GenerationRequest.from_wire({**request.to_wire(), **more}),
                account=account.name,
                base_url=account.base_url,
                take=terms.take,
                names=terms.files.names if terms.files else None,
            ),
            cast(RequestOptions, given),
            terms,
            tool,
        )
        async with self._turn(call):
            while True:
                made = await self._made_or_none(call)
                if made is not None:
                    return made

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
        known = self._accounts.get(place)
        if known is None:
            name = f"org:{safe(chosen, _ID_LIMIT)}" if chosen else await self._account_name(sync, seconds)
            known = self._accounts[place] = Account(name, sync.base_url)
        return known

    async def quote(
        self, sync: AsyncSync, request: GenerationRequest, price: Price, *, take: int = 1
    ) -> str | None:
        """Hand out a quote for the next attempt at a request; None where its job is there already."""
        account = await self.account(sync)
        intention = Intention.of(request, account=account.name, base_url=account.base_url, take=take)
        await self._do(self.ledger.withdraw_abandoned, intention.digest)
        latest = await self._do(self.ledger.latest, intention.digest)
        if latest is not None and (latest.is_open or latest.status == "COMPLETED"):
            return None
        attempt = latest.attempt + 1 if latest else 1
        return await self._do(self.ledger.quote, intention, attempt, price.usd)

    async def spending(self, sync: AsyncSync) -> Spending:
        """Return what has been spent, after asking what has ended."""
        account = await self.account(sync)
        await self._settle_account(sync, account, {"timeout_in_seconds": _LOOK_SECONDS})
        return await self._do(self.ledger.spending, account.name, account.base_url)

    async def unresolved(self, sync: AsyncSync) -> list[Entry]:
        """Return the attempts of unknown outcome, newest first; nothing is asked of the API.

        Where there is no ledger yet, none is made.
        """
        if not self.ledger.exists():
            return []
        name = await self._do(self.ledger.account_of, sync.key_fingerprint, sync.base_url)
        return [] if name is None else await self._do(self.ledger.unresolved, name, sync.base_url)

    async def _made_or_none(self, call: _Call) -> Made | None:
        """Return the job, or None where the ledger has changed meanwhile and is to be read again."""
        entry = await self._do(self.ledger.latest, call.intention.digest)
        if entry is None:
            return await self._attempt(call, _Next(1))
        if entry.generation_id is not None and entry.state in ("accepted", "ended"):
            found = await self._present(call, entry)
            return found if isinstance(found, Made) else await self._attempt(call, found)
        if entry.is_leased(time.time()):
            await self._wait_for_other(call, entry)
            return None
        if entry.state == "preparing":
            await self._do(self.ledger.withdraw_abandoned, call.intention.digest)
            return None
        if entry.is_open:
            return await self._resume(call, entry)
        return await self._attempt(call, _Next(entry.attempt + 1, _AFTER.get(entry.state)))

    async def _present(self, call: _Call, entry: Entry) -> Made | _Next:
        """Return the state of a job that was made, or what is to be made after it."""
        assert entry.generation_id is not None
        try:
            generation = await call.sync.generations.get(entry.generation_id, request_options=call.reading())
        except NotFoundError:
            listed = await call.sync.generations.list(
                ids=[entry.generation_id], request_options=call.reading()
            )
            generation = next((job for job in listed if job.id == entry.generation_id), None)
            if generation is None and listed.unreadable:
                raise APIResponseError("The API's list has an entry that cannot be read.") from None
        except SyncError as error:
            error.next_step = (
                f"This call's job is {entry.generation_id}, made before; its state cannot be read now. Call "
                f"get_generation for it in a while. {error.next_step}"
            ).rstrip()
            raise
        if generation is None:
            await self._do(partial(self.ledger.close_job, entry.id, generation_id=entry.generation_id))
            return _Next(entry.attempt + 1, _AFTER["closed"])
        cost: Decimal | None = None
        if generation.finished:
            charged, cost = await self._settle_job(
                call.sync, entry, generation, call.reading(_SETTLE_SECONDS)
            )
            if generation.status != "COMPLETED":
                number = f"Attempt {entry.attempt} ({generation.id}) ended {safe(generation.status, 40)}"
                if charged == "no":
                    return _Next(entry.attempt + 1, f"{number} and was not charged: this is a new one.")
                fate = "was charged" if charged == "yes" else "may have been charged"
                return _Next(entry.attempt + 1, f"{number} and {fate}.", must_ask=True)
        made = Made(generation, entry.attempt, reused=True)
        made.notes.extend(_told_of_extras(entry, call.intention))
        if cost is not None and entry.estimate_usd is not None and cost > entry.estimate_usd:
            made.notes.append(
                f"It cost {dollars(cost)}, more than the estimate, {dollars(entry.estimate_usd)}."
            )
        return made

    async def _attempt(self, call: _Call, following: _Next) -> Made | None:
        """Price an attempt, have it agreed to, write it down and send it."""
        await self._settle_account(call.sync, call.account, call.reading(_SETTLE_SECONDS))
        price = await self.price(
            call.sync,
            call.intention.request,
            call.terms.duration_seconds,
            call.reading(),
            files=call.terms.files,
        )
        refusal = await self._refusal(call, price.usd)
        if refusal is not None:
            raise LimitReached(refusal)
        if call.terms.quote_id is None:
            await self._ask(call, following, price)
        wish = Wish(
            intention=call.intention,
            attempt=following.attempt,
            tool=call.tool,
            owner=self._owner,
            estimate_usd=price.usd,
            limits=self.limits,
            sent_at=call.sync.api_time.timestamp(),
            quote_id=call.terms.quote_id,
            has_files=has_contents(call.intention.request),
        )
        files = call.terms.files if wish.has_files else None
        if files is None:
            sent = await self._to_its_end(partial(self._begin_and_send, call, wish))
        else:
            calling_off = anyio.Event()
            work = partial(self._begin_upload_and_send, call, wish, files, calling_off)
            sent = None
            with anyio.CancelScope(deadline=call.terms.ends_at) as scope:
                try:
                    sent = await self._to_its_end(work)
                except anyio.get_cancelled_exc_class():
                    if anyio.current_time() < call.terms.ends_at:
                        # Nobody waits for it any more, and it has not been sent yet.
                        calling_off.set()
                    raise
            if scope.cancelled_caught:
                entry = await self._do(self.ledger.latest, call.intention.digest)
                if entry is not None and entry.state != "preparing":
                    raise CreateUnderWay("The files are uploaded, and the create is on its way.")
                raise files.under_way()
        if isinstance(sent, Intention):
            # A call that named the assets has made it.
            return await self._made_or_none(
                replace(call, intention=sent, terms=replace(call.terms, files=None))
            )
        if sent is None:
            return None
        generation, note = sent
        notes = [text for text in (following.note, note) if text]
        return Made(generation, following.attempt, reused=False, price=price, notes=notes)

    async def _begin_and_send(self, call: _Call, wish: Wish) -> tuple[Generation, str | None] | None:
        entry, is_ours = await self._do(self.ledger.begin, wish)
        return await self._send(call, entry, call.intention.request, is_new=True) if is_ours else None

    async def _begin_upload_and_send(
        self, call: _Call, wish: Wish, files: LocalFiles, calling_off: anyio.Event
    ) -> tuple[Generation, str | None] | Intention | None:
        """Upload the files of an attempt and send it; return the intention by which it was made already."""
        entry, is_ours = await self._do(self.ledger.begin, wish)
        if not is_ours:
            return None
        try:
            ready = await self._uploaded(call, wish, files, entry, calling_off)
            if ready is None:
                return None
            sent, assets, usd = ready
            wish = replace(wish, sent_at=call.sync.api_time.timestamp(), estimate_usd=usd)
            whose = await self._do(self.ledger.send, entry.id, wish, sent, assets)
            if whose != "mine":
                return sent if whose == "made" else None
            return await self._send(call, entry, sent.request, is_new=True)
        except SyncError as error:
            if error.code.startswith("asset_") and error.money_spent == "no":
                files.forget()
                error.retryable = True
                error.next_step = "An uploaded file was deleted: make the same call again, it is sent anew."
            raise

    async def _uploaded(
        self, call: _Call, wish: Wish, files: LocalFiles, entry: Entry, calling_off: anyio.Event
    ) -> "_Ready | None":
        """Upload and price the files of an attempt; it is withdrawn where that comes to nothing.

        Return None where the create is called off, or costs more than it seemed to: then it begins anew.
        """
        ready: _Ready | SyncError | None = None
        try:
            async with anyio.create_task_group() as task_group:
                # While it lives, what it is going to cost is held.
                task_group.start_soon(self._stay_alive, entry.id)
                task_group.start_soon(_cancel_with, calling_off, task_group.cancel_scope)
                ready = await _outcome_of(self._ready(call, wish, files))
                task_group.cancel_scope.cancel()
        finally:
            if calling_off.is_set() or not isinstance(ready, tuple):
                with anyio.CancelScope(shield=True):
                    await self._do(self.ledger.withdraw, entry.id, self._owner)
        if isinstance(ready, SyncError):
            raise ready
        return None if calling_off.is_set() else ready

    async def _ready(self, call: _Call, wish: Wish, files: LocalFiles) -> "_Ready | None":
        assets = await files.upload(call.sync)
        sent = replace(call.intention, request=with_assets(call.intention.request, assets))
        # The API has the files now: what it measures is what it charges by.
        price = await self.price(call.sync, sent.request, None, {"timeout_in_seconds": _LOOK_SECONDS})
        if price.usd is not None and wish.estimate_usd is not None and price.usd > wish.estimate_usd:
            self._prices[_made_by(call.intention.request)] = price.usd
            return None
        return sent, assets, price.usd or wish.estimate_usd

    async def _resume(self, call: _Call, entry: Entry) -> Made | None:
        """Go on with an attempt whose outcome nobody knows: look for its job, or send it again."""
        sent = await self._to_its_end(partial(self._take_over_and_send, call, entry))
        if sent is None:
            return None
        generation, note = sent
        notes = [*_told_of_extras(entry, call.intention), *([note] if note else [])]
        return Made(generation, entry.attempt, reused=True, notes=notes)

    async def _take_over_and_send(self, call: _Call, entry: Entry) -> tuple[Generation, str | None] | None:
        if not await self._do(self.ledger.take_over, entry.id, self._owner):
            return None
        logger.warning("create key=%s goes on from an earlier call", entry.idempotency_key)
        # Under the same key the same body: what the first call said besides holds.
        sent = with_assets(call.intention.request, entry.assets)
        wire = {name: value for name, value in sent.to_wire().items() if name not in _NAMING}
        first = {name: value for name, value in entry.extras.items() if name in _NAMING}
        request = GenerationRequest.from_wire({**wire, **first})
        may_send = await self._may_be_paid(call, entry)
        return await self._send(call, entry, request, is_new=False, may_send=may_send)

    async def _may_be_paid(self, call: _Call, entry: Entry) -> bool:
        """Return whether an attempt that may not have been made is within the limits of now."""
        return await self._refusal(call, entry.estimate_usd, besides=entry) is None

    async def _send(
        self, call: _Call, entry: Entry, request: GenerationRequest, *, is_new: bool, may_send: bool = True
    ) -> tuple[Generation, str | None]:
        """Send an attempt until its outcome is known, and write that down."""
        renewed_at = time.time()

        async def still_ours() -> bool:
            nonlocal renewed_at
            if not may_send:
                return False
            # Whoever slept through its lease has lost the attempt to another.
            if not 0 <= time.time() - renewed_at < RENEWAL_SECONDS:
                if not await self._do(self.ledger.renew, entry.id, self._owner):
                    return False
                renewed_at = time.time()
            return is_new or call.sync.api_time.timestamp() - entry.first_sent_at <= self._resend_seconds

        attempt = Attempt(
            entry.idempotency_key,
            claim=partial(self._claim, entry.id),
            sent_at=None if is_new else datetime.fromtimestamp(entry.first_sent_at, UTC),
            named_id=entry.named_id,
            may_send=still_ours,
            unsigned=unsigned,
        )
        result: Generation | BaseException | None = None
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(self._stay_alive, entry.id)
            result = await self._outcome(call, attempt, request)
            task_group.cancel_scope.cancel()
        if isinstance(result, Generation):
            try:
                await self._do(self.ledger.accept, entry.id, result.id)
            except LedgerError as error:
                # It is made and paid: its handle must reach the caller whatever the disk does.
                logger.error("create key=%s: %s", entry.idempotency_key, error)
                return result, f"The ledger could not be written after the job was accepted: {error.message}"
            return result, None
        assert result is not None
        await self._note_failure(entry, result, is_new=is_new)
        if isinstance(result, OutcomeUnknown):
            result.next_step = self._way_out(entry, result, may_send=await still_ours())
        if isinstance(result, NotSent):
            raise CreateUnderWay("Another process has taken this create over.") from result
        raise result

    async def _outcome(
        self, call: _Call, attempt: Attempt, request: GenerationRequest
    ) -> Generation | BaseException:
        while True:
            options: RequestOptions = {**call.options}
            if math.isfinite(call.seconds_left):
                # After a long upload the call may be over; the create is not.
                least = _SEND_SECONDS if call.terms.files else 1.0
                options["timeout_in_seconds"] = max(least, call.seconds_left)
            try:
                return await call.sync.generations.create_as(attempt, request, request_options=options)
            except ConcurrencyLimitError as error:
                try:
                    if not await self._slot_came_free(call, error):
                        return error
                except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                    return error
            except BaseException as error:  # noqa: BLE001 - written down first, then raised
                return error

    async def _note_failure(self, entry: Entry, error: BaseException, *, is_new: bool) -> None:
        with anyio.CancelScope(shield=True):
            try:
                if isinstance(error, SyncError) and not isinstance(error, OutcomeUnknown) and is_new:
                    await self._do(self.ledger.refuse, entry.id, self._owner, error.code)
                else:
                    named = error.generation_id if isinstance(error, OutcomeUnknown) else None
                    await self._do(self.ledger.doubt, entry.id, self._owner, named)
            except LedgerError as failure:
                # Left as it is, it counts as spent, and the next call looks for the job.
                logger.error("create key=%s: %s", entry.idempotency_key, failure)

    def _way_out(self, entry: Entry, error: OutcomeUnknown, *, may_send: bool) -> str:
        again = (
            "Make exactly this call again: it looks for the job, and sends it under the same key where it is "
            "not there, so nothing is paid twice."
            if may_send
            else "It may not be sent again now, as too much time has passed or a limit stands against it: "
            "exactly this call looks for the job, no more."
        )
        return (
            f"{again} Or look in list_generations. Its money counts as spent until then; the user can settle "
            f"it: sync-mcp ledger show {entry.id}. {error.advice}"
        ).rstrip()

    async def _claim(self, entry_id: int, generation_id: str) -> Claim:
        return await self._do(self.ledger.claim, entry_id, generation_id)

    async def _stay_alive(self, entry_id: int) -> None:
        while True:
            await anyio.sleep(RENEWAL_SECONDS)
            try:
                await self._do(self.ledger.renew, entry_id, self._owner)
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
        """Wait for one of the account's jobs to end; return False, with the error made out, if none does."""
        before: set[str] | None = None
        while True:
            running = await self._running(call)
            ids = {job.id for job in running}
            if before is not None and (before - ids):
                return True
            before = ids if before is None else before
            if anyio.current_time() + _SLOT_POLL_SECONDS >= min(call.terms.slot_until, call.terms.ends_at):
                _make_out(error, [job.id for job in running])
                return False
            if not running:
                # The list says that there is room: a moment later the API may know it too.
                await anyio.sleep(_SLOT_POLL_SECONDS)
                return True
            await anyio.sleep(_SLOT_POLL_SECONDS)

    async def _running(self, call: _Call) -> list[Generation]:
        try:
            return await call.sync.generations.list(
                status=["PENDING", "PROCESSING"], request_options=call.reading()
            )
        except SyncError as error:
            logger.warning("the running jobs cannot be listed: %s", error)
            return []

    async def _refusal(self, call: _Call, usd: Decimal | None, *, besides: Entry | None = None) -> str | None:
        """Return which limit stands against a price, if any; the money held by `besides` is its own."""
        most = call.terms.max_cost_usd
        if most is not None and (usd is None or usd > most):
            known = "is unknown" if usd is None else f"is {dollars(usd)}"
            return f"The price {known}, and max_cost_usd of this call is {dollars(most)}."
        if not self.limits.any:
            return None
        spending = await self._do(self.ledger.spending, call.account.name, call.account.base_url)
        if besides is not None:
            spending = spending.without(besides.counted_usd, besides.created_at)
        return self.limits.refusal(usd, spending)

    async def _ask(self, call: _Call, following: _Next, price: Price) -> None:
        """Have the user agree where the terms want it."""
        approval = call.terms.approval
        if approval is None:
            return
        if following.must_ask:
            reason = f"{following.note} Another attempt may be paid again."
        else:
            reason = reason_to_ask(price.usd, approval.above_usd, take=call.intention.take, note=price.note)
        if reason is None:
            return
        left: Decimal | None = None
        if self.limits.any:
            spending = await self._do(self.ledger.spending, call.account.name, call.account.base_url)
            left = self.limits.left_usd(spending)
        quote = partial(self._do, self.ledger.quote, call.intention, following.attempt, price.usd)
        await approval.ask(
            Proposal(call.intention, following.attempt, price, reason, left, price.duration_seconds, quote)
        )

    async def price(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        duration_seconds: float | None,
        options: RequestOptions,
        *,
        files: LocalFiles | None = None,
    ) -> Price:
        """Return what the API says that a request costs; by `duration_seconds` only where it cannot measure.

        What is still a local file is priced by its measured length.

        Raises:
            AuthenticationError, ConfigurationError: nothing could be sent either.
        """
        if has_contents(request):
            return await self._price_of_files(sync, request, duration_seconds, options, files)
        try:
            cost = await sync.generations.estimate_request(request, request_options=options)
        except (AuthenticationError, ConfigurationError):
            raise
        except SyncError as error:
            if isinstance(error, APIStatusError) and error.code.startswith(_BAD_INPUT):
                raise
            if error.retryable:
                # It can tell, only not now: the caller's figure does not take its place.
                return Price(None, safe(f"the estimate failed ({error.code}); try again.", 200))
            usd, why, length = None, safe(f"the estimate failed ({error.code})", 200), None
        else:
            usd, why = (
                _believable(cost.estimated_generation_cost),
                "the API cannot tell the price of these media",
            )
            frames = cost.estimated_frame_count
            length = None if frames is None else frames / PRICED_FPS
        if usd is not None:
            return Price(usd, None, length)
        if duration_seconds is None:
            return Price(None, f"{why}; duration_seconds may help.")
        try:
            cost = await sync.generations.estimate_request(
                request, duration_seconds=duration_seconds, request_options=options
            )
        except SyncError:
            return Price(None, f"{why}.")
        known = _believable(cost.estimated_generation_cost)
        note = None if known is None else "by duration_seconds, as the caller says"
        return Price(known, note, duration_seconds)

    async def _price_of_files(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        duration_seconds: float | None,
        options: RequestOptions,
        files: LocalFiles | None,
    ) -> Price:
        measured = files.output_seconds if files else None
        seconds = duration_seconds if measured is None else measured
        if seconds is None:
            why = files.length_note if files else None
            return Price(None, f"{why or 'the length is not known'}; duration_seconds may help.")
        try:
            cost = await sync.generations.estimate_request(
                request,
                duration_seconds=seconds,
                fps=(files.fps if files else None) or PRICED_FPS,
                request_options=options,
            )
        except (AuthenticationError, ConfigurationError):
            raise
        except SyncError as error:
            return Price(None, safe(f"the estimate failed ({error.code}); try again.", 200))
        note = (
            files.length_note if files and measured is not None else "by duration_seconds, as the caller says"
        )
        usd = _believable(cost.estimated_generation_cost)
        told = self._prices.get(_made_by(request))
        if told is not None and usd is not None and told > usd:
            return Price(told, "as the API measured the files", seconds)
        return Price(usd, note, seconds)

    async def _settle_account(self, sync: AsyncSync, account: Account, options: RequestOptions) -> None:
        """Write down what has ended, by one request for the list; what cannot be read stays as it is."""
        entries = await self._do(self.ledger.unsettled, account.name, account.base_url, _SETTLED_AT_ONCE)
        if not entries:
            return
        with anyio.move_on_after(_SETTLE_SECONDS):
            try:
                listed = await sync.generations.list(
                    ids=[str(entry.generation_id) for entry in entries], request_options=options
                )
            except SyncError as error:
                logger.warning("what has ended cannot be asked: %s", error)
                return
            by_id = {job.id: job for job in listed if job.finished}
            ended = [(entry, by_id[entry.generation_id]) for entry in entries if entry.generation_id in by_id]
            async with anyio.create_task_group() as task_group:
                at_once = anyio.CapacityLimiter(_COSTS_AT_ONCE)
                for entry, job in ended:
                    task_group.start_soon(self._settle_quietly, at_once, sync, entry, job, options)

    async def _settle_quietly(
        self,
        at_once: anyio.CapacityLimiter,
        sync: AsyncSync,
        entry: Entry,
        job: Generation,
        options: RequestOptions,
    ) -> None:
        try:
            async with at_once:
                await self._settle_job(sync, entry, job, options)
        except LedgerError as error:
            logger.warning("generation %s cannot be settled: %s", safe(job.id, _ID_LIMIT), error)

    async def _settle_job(
        self, sync: AsyncSync, entry: Entry, job: Generation, options: RequestOptions
    ) -> tuple[str, Decimal | None]:
        """Write down how a job ended; return whether it was charged, and what it cost where that is known."""
        if entry.state == "ended" and entry.cost_usd is not None:
            return entry.charged, entry.cost_usd
        try:
            cost = await sync.generations.get_cost(job.id, request_options={**options, "max_retries": 1})
        except SyncError:
            cost = GenerationCost()
        await self._do(
            partial(
                self.ledger.settle,
                entry.id,
                status=job.status,
                generation_id=job.id,
                error_code=job.error_code,
                cost_usd=cost.final_usd,
                counted_usd=cost.so_far_usd,
                charged=cost.charged,
            )
        )
        return cost.charged, cost.final_usd

    async def _account_name(self, sync: AsyncSync, seconds: float) -> str:
        fingerprint, base_url = sync.key_fingerprint, sync.base_url
        known = await self._do(self.ledger.account_of, fingerprint, base_url)
        if known is not None:
            return known
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
            # An API that has no such page will not have one for the next call either.
            if error.retryable or not 400 <= (error.status or 0) < 500:
                raise
        name = f"org:{safe(organization, _ID_LIMIT)}" if organization else f"key:{fingerprint}"
        return await self._do(self.ledger.keep_account, fingerprint, base_url, name)

    @asynccontextmanager
    async def _turn(self, call: _Call) -> AsyncGenerator[None]:
        """Let the calls of this process that mean the same go one after another."""
        turn = self._turns.setdefault(call.intention.digest, _Turn())
        turn.users += 1
        try:
            with anyio.CancelScope(deadline=call.terms.ends_at) as scope:
                await turn.lock.acquire()
            if scope.cancelled_caught:
                raise CreateUnderWay(
                    "Another call of this server asks the user about this very create, or is sending it."
                )
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[call.intention.digest]

    async def _to_its_end(self, work: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Do what must not stop in the middle, whatever becomes of the caller."""
        flight = _Flight[_ResultT]()
        if self._task_group is None:
            with anyio.CancelScope(shield=True):
                flight.results.append(await work())
        else:
            self._task_group.start_soon(flight.fly, work)
            try:
                await flight.landed.wait()
            except BaseException:
                flight.is_awaited = False
                raise
            if flight.error is not None:
                raise flight.error
        return flight.results[0]

    async def _do(self, work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        """Do one thing with the ledger, in a thread: the disk takes its time."""
        return await to_thread.run_sync(partial(work, *arguments))


class _Flight(Generic[_ResultT]):
    """Work that goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.is_awaited = True
        self.results: list[_ResultT] = []
        self.error: Exception | None = None

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


async def _cancel_with(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _made_by(request: GenerationRequest) -> str:
    """Return what tells one thing to be made from another, for whatever account."""
    return Intention.of(request, account="", base_url="").body_digest


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


_Ready = tuple[Intention, Mapping[str, str], Decimal | None]
"""An attempt whose files are uploaded: the intention with their assets, these, and what it costs."""

_NAMING = ("outputFileName", "projectId")
_BAD_INPUT = ("generation_input_", "asset_")
_AFTER: Mapping[str, str] = {
    "closed": "The API no longer knows the job that this call made before: this is a new one.",
    "released": "The user released the attempt before: this is a new one.",
}


def _believable(usd: Decimal | None) -> Decimal | None:
    """Return a price, or None for one that no job has: then nobody knows it."""
    return usd if usd is not None and usd > 0 else None


def _told_of_extras(entry: Entry, intention: Intention) -> list[str]:
    names = differing_extras(entry.extras, intention.extras)
    if not names:
        return []
    return [f"{', '.join(names)} of this call differ from the first one's, which hold for this job."]


def _make_out(error: ConcurrencyLimitError, running: list[str]) -> None:
    shown = [safe(name, _ID_LIMIT) for name in running[:_RUNNING_SHOWN]]
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
