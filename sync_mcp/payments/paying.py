"""Making a call's job: priced, agreed to, written down, sent; or found, where it was sent before."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Literal, TypeVar

import anyio

from sync_mcp.api.create import is_of_the_key
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.errors import (
    APIStatusError,
    InvalidRequestError,
    NotOffered,
    QuoteRefused,
    RateLimitError,
    SyncError,
)
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.asking import Asking
from sync_mcp.payments.attempt import Attempt, MustAsk
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import LOOK_SECONDS, Fate, Made, MadeElsewhere, PaidCall
from sync_mcp.payments.consent import Reason, price_reasons, refusal_reason
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.history import History, as_first_sent, look_for, notes_on_extras
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.ledger_book import LIMIT_NOW, TOO_LATE, LedgerBook, is_too_late
from sync_mcp.payments.price import Price
from sync_mcp.payments.pricing import Pricing
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.sending import send, stay_alive
from sync_mcp.payments.settling import SETTLE_SECONDS, Settling
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.payments")

_POLL_SECONDS = 0.25
_OTHER_WEBHOOK = (
    "its first call had another webhook_url, its own or this server's of that time, of which a digest alone "
    "is kept: a call that names that one sends it"
)
_ResultT = TypeVar("_ResultT")


class Payer:
    """Makes the job of a call, once.

    Args:
        ledger: where attempts are written down.
        settling: what is asked for jobs that have finished.
        pricing: what a job is likely to cost.
        history: what was made before.
        bounds: what it may cost.
        asking: how the user is asked.
        work: in which a create goes on when its caller is cancelled.
        resend_seconds: how long after its first send an attempt of unknown outcome may be sent again.
        unpriced_usd: what is held for an act for which the API publishes no price; None for nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        settling: Settling,
        pricing: Pricing,
        history: History,
        bounds: Bounds,
        asking: Asking,
        work: Work,
        resend_seconds: float,
        unpriced_usd: Decimal | None,
    ) -> None:
        self.ledger = ledger
        self.pricing = pricing
        self._settling = settling
        self._history = history
        self._bounds = bounds
        self._asking = asking
        self._work = work
        self._resend_seconds = resend_seconds
        self._unpriced_usd = unpriced_usd

    async def pay(self, call: PaidCall[Job]) -> Made[Job]:
        """Make the job of a call, or return the one that it made before.

        Raises:
            SyncError: as `Guard.create`.
        """
        while True:
            made = await self._try_once(call)
            if made != "changed":
                return made

    async def _try_once(self, call: PaidCall[Job]) -> Made[Job] | Literal["changed"]:
        """Return the job, unless the ledger has changed meanwhile and is to be read again."""
        found = await self._history.find(call)
        if isinstance(found, Made):
            return found
        if isinstance(found, Attempt):
            return await self._attempt(*as_first_sent(call, found))
        if found.is_leased(self.ledger.store.now()):
            await self._wait_for_other(call, found)
            return "changed"
        if found.state == "preparing":
            # Its process has died since: it is withdrawn as it is read again.
            return "changed"
        return await self._resume(call, found)

    async def _attempt(self, call: PaidCall[Job], attempt: Attempt) -> Made[Job] | Literal["changed"]:
        """Price an attempt, have it agreed to, write it down and send it."""
        await self._settling.settle_account(call.sync, call.whose, call.reading(SETTLE_SECONDS))
        price = await self.price(call)
        refusal = await self._bounds.standing_refusal(call, price)
        if refusal is not None:
            raise refusal
        attempt = await self._asking.note_newest(replace(attempt, price=price, now=call.now))
        # Any token skips the question here. Whether it is one, and covers this, is decided in the transaction
        # that writes the attempt down: there no other call can use it at the same moment.
        if attempt.token is None:
            attempt = replace(attempt, is_agreed=await self._asking.ask(call, attempt) or call.is_agreed)
        try:
            return await self._make(call, attempt)
        except MustAsk as must:
            reasons = price_reasons(price, must.unasked_usd, call.approval.above_usd, take=call.take)
        except QuoteRefused as refused:
            attempt = await self._asking.note_newest(attempt)
            reasons = [refusal_reason(refused), *await self._asking.reasons_for(call, attempt)]
        # What was agreed to is no longer what it is: the user is asked anew, with the price of now.
        await self._asking.ask(call, attempt, because=reasons)
        return await self._make(call, replace(attempt, token=None, is_agreed=True))

    async def price(self, call: PaidCall[Job]) -> Price:
        """Return what a call's act is likely to cost, waiting as long as a 429 asks.

        Raises:
            InvalidRequestError: it does not go with its media as they were measured.
            SyncError: as of an estimate.
        """
        price = await self._price_once(call)
        if isinstance(price.fault, RateLimitError) and await call.pause_for(price.fault):
            price = await self._price_once(call)
        _check_media(call, call.act, price)
        return price

    async def _price_once(self, call: PaidCall[Job]) -> Price:
        price = await self.pricing.price(
            call.sync,
            call.act,
            call.reading(),
            hint_seconds=call.duration_seconds,
            files=call.files,
            planned=call.planned,
        )
        if call.act.is_priced or self._unpriced_usd is None:
            return price
        return replace(price, usd=self._unpriced_usd, note=f"{price.note}; this is what you let hold for it")

    async def _make(self, call: PaidCall[Job], attempt: Attempt) -> Made[Job] | Literal["changed"]:
        """Write an attempt down and send it."""
        try:
            fate = await self._send(call, attempt)
        except NotOffered:
            act = call.act.otherwise(call.sync)
            if act is None:
                raise
            # Nothing was made, and a yes was given back: it holds for the same, whichever way it is sent.
            call = replace(call, act=act)
            attempt = replace(
                attempt, number=attempt.number + 1, repeats=None, intention=call.intention, now=call.now
            )
            fate = await self._send(call, attempt)
        except APIStatusError as error:
            if attempt.repeats is None or not is_of_the_key(error):
                raise
            # The API keeps the key and shows no job of it: what the user agreed to goes out under its own.
            attempt = replace(
                attempt, number=attempt.number + 1, repeats=None, token=None, is_agreed=True, now=call.now
            )
            fate = await self._send(call, attempt)
        if isinstance(fate, MadeElsewhere):
            return await self._try_once(replace(call, act=fate.act, files=None))
        if fate == "changed":
            return fate
        if attempt.note:
            fate.notes.insert(0, attempt.note)
        if fate.how == "made":
            fate.price = attempt.price
        elif attempt.repeats is not None:
            fate.attempt = attempt.repeats.attempt
        return fate

    async def _send(self, call: PaidCall[Job], attempt: Attempt) -> Fate:
        files = call.files if attempt.has_files else None
        if files is None:
            return await self._to_its_end(call, partial(self._begin_and_send, call, attempt))
        fate: Fate = "changed"
        with anyio.CancelScope(deadline=call.ends_at) as scope:
            work = partial(self._begin_upload_and_send, call, attempt, files)
            fate = await self._to_its_end(call, work)
        if scope.cancelled_caught:
            entry = await do_in_thread(self.ledger.latest, call.intention)
            if entry is not None and entry.state != "preparing":
                raise call.under_way("The files are uploaded, and the create is on its way.")
            raise files.under_way()
        return fate

    async def _begin_and_send(self, call: PaidCall[Job], attempt: Attempt) -> Fate:
        call.act.check_is_sendable()
        entry, is_ours = await self._begin(call, attempt)
        if not is_ours:
            return "changed"
        return await send(call, self._new_book(call, attempt, entry), call.act)

    def _new_book(self, call: PaidCall[Job], attempt: Attempt, entry: Entry) -> LedgerBook:
        """Return the book of an attempt that was just written down."""
        return LedgerBook(
            self.ledger,
            self._settling,
            call,
            entry,
            self._resend_seconds,
            is_new=True,
            is_repeat=attempt.repeats is not None,
            token=attempt.token,
        )

    async def _begin(self, call: PaidCall[Job], attempt: Attempt) -> tuple[Entry, bool]:
        # An upload goes on past the time of its call; else, until it is written down, nothing can be paid.
        if call.on_begin is not None and attempt.has_files:
            call.on_begin()
        written = await do_in_thread(self.ledger.begin, attempt)
        if call.on_begin is not None:
            call.on_begin()
        return written

    async def _begin_upload_and_send(self, call: PaidCall[Job], attempt: Attempt, files: LocalFiles) -> Fate:
        """Upload the files of an attempt and send it; say by which act it was made already, where it was."""
        entry, is_ours = await self._begin(call, attempt)
        if not is_ours:
            return "changed"
        try:
            ready = await self._upload(call, attempt, files, entry)
            if ready is None:
                return "changed"
            sent = call.intention.with_assets(ready.assets)
            whose = await do_in_thread(self.ledger.send, entry.id, replace(ready, now=call.now), sent)
            if whose == "asks":
                self.pricing.learn(call.sync, call.act, ready.price)
            if whose != "mine":
                return MadeElsewhere(sent.act) if whose == "made" else "changed"
            entry = replace(entry, estimate_usd=ready.price.usd)
            return await send(call, self._new_book(call, attempt, entry), sent.act)
        except SyncError as error:
            if (error.api_code or "").startswith("asset_") and error.money_spent == "no":
                files.forget()
                told = "An uploaded file was deleted: make the same call again, it is sent anew."
                error.advise(retryable=True, next_step=told)
            raise

    async def _upload(
        self, call: PaidCall[Job], attempt: Attempt, files: LocalFiles, entry: Entry
    ) -> Attempt | None:
        """Upload and price the files of an attempt; it is withdrawn where that comes to nothing.

        Return None where the caller is gone, or it costs more than it seemed to: then it begins anew.
        """
        ready: Attempt | SyncError | None = None
        try:
            async with anyio.create_task_group() as task_group:
                # While it lives, what it is going to cost is held.
                task_group.start_soon(stay_alive, self.ledger, entry.id, call.owner)
                task_group.start_soon(call.cancel_once_gone, task_group.cancel_scope)
                ready = await _outcome_of(self._ready(call, attempt, files))
                task_group.cancel_scope.cancel()
        finally:
            if call.gone.is_set() or not isinstance(ready, Attempt):
                with anyio.CancelScope(shield=True):
                    await do_in_thread(self.ledger.withdraw, entry.id, call.owner)
        if isinstance(ready, SyncError):
            raise ready
        return None if call.gone.is_set() else ready

    async def _ready(self, call: PaidCall[Job], attempt: Attempt, files: LocalFiles) -> Attempt | None:
        assets = await files.upload(call.sync)
        sent = call.act.with_assets(assets)
        # The API has the files now: what it measures is what it charges by.
        price = await self.pricing.price(call.sync, sent, {"timeout_in_seconds": LOOK_SECONDS})
        _check_media(call, sent, price)
        before = attempt.price.usd
        if price.usd is not None and before is not None and price.usd > before:
            self.pricing.learn(call.sync, call.act, price)
            return None
        return replace(attempt, assets=assets, price=attempt.price if price.usd is None else price)

    async def _resume(self, call: PaidCall[Job], entry: Entry) -> Made[Job] | Literal["changed"]:
        """Go on with an attempt whose outcome nobody knows: look for its job, or send it again."""
        if not call.sync.has_heard_time:
            # A process that was just started knows no time but this machine's, and the money counts on a day.
            with contextlib.suppress(SyncError):
                await call.sync.account.get(request_options=call.reading())
        told = notes_on_extras(entry, call)
        first, is_whole = call.act.with_first_extras(entry.extras)
        # Under the same key the same body: what the first call said besides holds.
        call = replace(call, act=first)
        price = Price(entry.estimate_usd)
        repeat = await self.find_unseen_repeat(call, entry) if is_whole else None
        attempt = call.attempt(entry.attempt, price=price)
        unasked = None
        may_go_out = call.act.kind_of_send.has_keys and not is_too_late(call.now, entry, self._resend_seconds)
        if repeat is None and is_whole and may_go_out:
            without = replace(attempt, token=None)
            unasked = await do_in_thread(self.ledger.sum_unasked_beyond, without, entry)
        asked = replace(repeat or attempt, price=price)
        reasons: list[Reason] = []
        if unasked is not None:
            reasons = price_reasons(price, unasked, call.approval.above_usd, take=call.take)
        if repeat is None and unasked is None:
            attempt = replace(attempt, token=None)
        elif attempt.token is not None:
            attempt = replace(attempt, paid_before=None if repeat is None else repeat.paid_before)
        else:
            attempt = await self._obtain_agreement(call, attempt, asked, reasons)
        go_on = partial(
            self._take_over_and_send,
            call,
            entry,
            despite_named=repeat is not None,
            obstacle=None if is_whole else _OTHER_WEBHOOK,
        )
        try:
            made = await self._to_its_end(call, partial(go_on, attempt=attempt))
        except QuoteRefused as refused:
            # As of a new attempt: the user is asked anew, with what they were not told.
            because = [refusal_reason(refused), *(reasons or await self._asking.reasons_for(call, asked))]
            attempt = await self._obtain_agreement(call, attempt, asked, because)
            made = await self._to_its_end(call, partial(go_on, attempt=attempt))
        if made != "changed":
            # One that was there was sent under the key of a job that nobody sees, and answered with that one.
            made.notes[:0] = told
        return made

    async def _obtain_agreement(
        self, call: PaidCall[Job], attempt: Attempt, asked: Attempt, reasons: Sequence[Reason]
    ) -> Attempt:
        """Have the user agree to an attempt as it is put to them; return it as they agreed to it."""
        asked = await self._asking.note_newest(asked)
        is_agreed = await self._asking.ask(call, asked, because=reasons)
        return replace(attempt, token=None, is_agreed=is_agreed, known_until=asked.known_until)

    async def find_unseen_repeat(self, call: PaidCall[Job], entry: Entry) -> Attempt | None:
        """Return why the user is asked before an attempt is sent again whose job the API named and hides.

        Raises:
            NotVisibleYet: it was sent a short time ago: the API's reads may lag.
        """
        has_no_key = not call.act.kind_of_send.has_keys
        if entry.named_id is None or has_no_key or is_too_late(call.now, entry, self._resend_seconds):
            # After that nothing goes out again: nobody is asked in vain.
            return None
        try:
            is_id = plain_id(entry.named_id)
            if is_id and await look_for(call, entry.named_id) is not None:
                return None
        except SyncError:
            # It is not known to be hidden: the search says what it finds, and nothing goes out.
            return None
        return replace(self._history.repeat_of_unseen(call, entry), number=entry.attempt)

    async def foresee_hindrance(self, call: PaidCall[Job], entry: Entry, *, is_whole: bool) -> str | None:
        """Return why an attempt in doubt would not be sent again, as far as that is known without a look."""
        if await self._bounds.refusal(call, entry.estimate_usd, held_by=entry) is not None:
            return LIMIT_NOW
        if not is_whole:
            return _OTHER_WEBHOOK
        return TOO_LATE if is_too_late(call.now, entry, self._resend_seconds) else None

    async def _take_over_and_send(
        self,
        call: PaidCall[Job],
        entry: Entry,
        *,
        attempt: Attempt,
        despite_named: bool,
        obstacle: str | None,
    ) -> Made[Job] | Literal["changed"]:
        if call.on_begin is not None:
            call.on_begin()
        fate = await do_in_thread(self.ledger.take_over, entry.id, attempt)
        if fate == "lost":
            return "changed"
        # Another process may have sent it since it was read.
        entry = await do_in_thread(self.ledger.entry, entry.id) or entry
        logger.warning("create key=%s goes on from an earlier call", entry.idempotency_key)
        act = call.act.with_assets(entry.assets)
        act.check_is_sendable()
        if fate != "send" or self._bounds.max_cost_refusal(call, entry.estimate_usd) is not None:
            obstacle = LIMIT_NOW
        book = LedgerBook(
            self.ledger,
            self._settling,
            call,
            entry,
            self._resend_seconds,
            is_new=False,
            obstacle=obstacle,
            despite_named=despite_named,
            token=attempt.token if fate == "send" else None,
        )
        return await send(call, book, act)

    async def _wait_for_other(self, call: PaidCall[Job], entry: Entry) -> None:
        """Wait until another process is done with an attempt, or dead."""
        while True:
            await anyio.sleep(_POLL_SECONDS)
            now = await do_in_thread(self.ledger.entry, entry.id)
            if now is None or not now.is_leased(self.ledger.store.now()):
                return
            if now.state == "preparing" and call.files is not None:
                await call.files.report()
            if call.seconds_left <= _POLL_SECONDS:
                if now.state == "preparing" and call.files is not None:
                    raise call.files.under_way()
                raise call.under_way("Another process is sending this very create.")

    async def _to_its_end(self, call: PaidCall[Job], work: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Do what must not stop in the middle, whatever becomes of the caller.

        Work that begins with an upload goes on past the time of its call too; a caller that goes away before
        that calls it off, as far as nothing was sent.
        """

        def call_off() -> None:
            if call.files is None or anyio.current_time() < call.ends_at:
                call.gone.set()

        return await self._work.finish(work, on_left=call_off)


async def _outcome_of(work: Awaitable[_ResultT]) -> _ResultT | SyncError:
    """Return what comes of it, failure included: out of a task group it would come in a group."""
    try:
        return await work
    except SyncError as error:
        return error


def _check_media(call: PaidCall[Job], act: PaidAct[Job], price: Price) -> None:
    """Refuse, or warn of, what does not go with the media as they were measured."""
    faults = act.faults_at(price)
    if faults and call.refuses_late_segments:
        raise InvalidRequestError(faults)
    for fault in faults:
        logger.warning("%s", fault)
