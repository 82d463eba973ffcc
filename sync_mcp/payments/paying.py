"""Making a call's job: priced, agreed to, written down, sent; or found, where it was sent before."""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import anyio

from sync_mcp.api.create import is_of_the_key
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.errors import (
    APIStatusError,
    InvalidRequestError,
    QuoteRefused,
    RateLimitError,
    SyncError,
)
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.asking import Asking
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import LOOK_SECONDS, Call, Made, Next, pause_for
from sync_mcp.payments.consent import Reason, price_reasons
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.history import History, as_first_sent, look_for, notes_on_extras
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.ledger_book import LIMIT_NOW, TOO_LATE
from sync_mcp.payments.price import Price
from sync_mcp.payments.pricing import Pricing
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.sending import Sender, Sent
from sync_mcp.payments.settling import SETTLE_SECONDS, Settling
from sync_mcp.payments.wish import MustAsk, Wish
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.payments")

_POLL_SECONDS = 0.25
_ASKS_ONCE_MORE = "If it stays hidden, the same call asks once more, and a new one goes out under a new key."
_OTHER_WEBHOOK = (
    "its first call named another webhook_url, of which a digest alone is kept: a call that names that one "
    "sends it"
)
_ResultT = TypeVar("_ResultT")
_Ready = tuple[Intention, Mapping[str, str], Price]
"""An attempt whose files are uploaded: the intention with their assets, these, and its price by the API."""


class Payer:
    """Makes the job of a call, once.

    Args:
        ledger: where attempts are written down.
        settling: what is asked for jobs that have finished.
        pricing: what a job is likely to cost.
        history: what was made before.
        bounds: what it may cost.
        asking: how the user is asked.
        sender: how it is sent.
        work: in which a create goes on when its caller is cancelled.
    """

    def __init__(
        self,
        ledger: Ledger,
        settling: Settling,
        pricing: Pricing,
        history: History,
        bounds: Bounds,
        asking: Asking,
        sender: Sender,
        work: Work,
    ) -> None:
        self.ledger = ledger
        self.pricing = pricing
        self._settling = settling
        self._history = history
        self._bounds = bounds
        self._asking = asking
        self._sender = sender
        self._work = work

    async def pay(self, call: Call) -> Made[Job]:
        """Make the job of a call, or return the one that it made before.

        Raises:
            SyncError: as `Guard.create`.
        """
        while True:
            made = await self._try_once(call)
            if made is not None:
                return made

    async def _try_once(self, call: Call) -> Made[Job] | None:
        """Return the job, or None where the ledger has changed meanwhile and is to be read again."""
        found = await self._history.find(call)
        if isinstance(found, Made):
            return found
        if isinstance(found, Next):
            return await self._attempt(*as_first_sent(call, found))
        if found.is_leased(time.time()):
            await self._wait_for_other(call, found)
            return None
        if found.state == "preparing":
            # Its process has died since: it is withdrawn as it is read again.
            return None
        return await self._resume(call, found)

    async def _attempt(self, call: Call, following: Next) -> Made[Job] | None:
        """Price an attempt, have it agreed to, write it down and send it."""
        await self._settling.settle_account(call.sync, call.account, call.reading(SETTLE_SECONDS))
        price = await self.price(call)
        refusal = await self._bounds.standing_refusal(call, price)
        if refusal is not None:
            raise refusal
        wish = self._sender.wish(call, following.attempt, price.usd, repeated_key=following.key_to_repeat)
        # Any token skips the question here. Whether it is one, and covers this, is decided in the transaction
        # that writes the attempt down: there no other call can use it at the same moment.
        if wish.token is None:
            wish = replace(wish, is_agreed=await self._asking.ask(call, following, price))
        try:
            return await self._make(call, following, price, wish)
        except MustAsk as must:
            reasons = price_reasons(
                price, must.unasked_usd, call.terms.approval.above_usd, take=call.intention.take
            )
        except QuoteRefused as refused:
            if not refused.to_user:
                raise
            reason = Reason(refused.message, to_user=refused.to_user)
            reasons = [reason, *await self._asking.reasons_for(call, following, price)]
        # What was agreed to is no longer what it is: the user is asked anew, with the price of now.
        await self._asking.ask(call, following, price, because=reasons)
        return await self._make(call, following, price, replace(wish, token=None, is_agreed=True))

    async def price(self, call: Call) -> Price:
        """Return what a call's act is likely to cost, waiting as long as a 429 asks.

        Raises:
            InvalidRequestError: it does not go with its media as they were measured.
            SyncError: as of an estimate.
        """
        price = await self._price_once(call)
        if isinstance(price.fault, RateLimitError) and await pause_for(call.terms, price.fault):
            price = await self._price_once(call)
        _check_media(call, call.intention.act, price)
        return price

    async def _price_once(self, call: Call) -> Price:
        return await self.pricing.price(
            call.sync,
            call.intention.act,
            call.reading(),
            hint_seconds=call.terms.duration_seconds,
            files=call.terms.files,
        )

    async def _make(self, call: Call, following: Next, price: Price, wish: Wish) -> Made[Job] | None:
        """Write an attempt down and send it."""
        try:
            sent = await self._send(call, wish)
        except APIStatusError as error:
            if wish.repeated_key is None or not is_of_the_key(error):
                raise
            # The API keeps the key and shows no job of it: what the user agreed to goes out under its own.
            following = replace(following, attempt=following.attempt + 1, repeats=None)
            wish = replace(
                wish, attempt=following.attempt, repeated_key=None, token=None, is_agreed=True, now=call.now
            )
            sent = await self._send(call, wish)
        if isinstance(sent, Intention):
            # A call that named the assets has made it.
            return await self._try_once(replace(call, intention=sent, terms=replace(call.terms, files=None)))
        if sent is None:
            return None
        notes = [text for text in (following.note, sent.note) if text]
        if sent.was_there and following.repeats is not None:
            notes.append(_ASKS_ONCE_MORE)
            return Made(sent.job, following.repeats.attempt, "was there", notes=notes)
        return Made(sent.job, following.attempt, "made", sent.price_usd, price, notes)

    async def _send(self, call: Call, wish: Wish) -> Sent | Intention | None:
        files = call.terms.files if wish.has_files else None
        if files is None:
            return await self._to_its_end(call, partial(self._begin_and_send, call, wish))
        sent = None
        with anyio.CancelScope(deadline=call.terms.ends_at) as scope:
            sent = await self._to_its_end(call, partial(self._begin_upload_and_send, call, wish, files))
        if scope.cancelled_caught:
            entry = await do_in_thread(self.ledger.latest, call.intention)
            if entry is not None and entry.state != "preparing":
                raise call.under_way("The files are uploaded, and the create is on its way.")
            raise files.under_way()
        return sent

    async def _begin_and_send(self, call: Call, wish: Wish) -> Sent | None:
        call.intention.act.check_is_sendable()
        entry, is_ours = await self._begin(call, wish)
        if not is_ours:
            return None
        is_repeat = wish.repeated_key is not None
        return await self._sender.send(call, entry, call.intention.act, is_new=True, is_repeat=is_repeat)

    async def _begin(self, call: Call, wish: Wish) -> tuple[Entry, bool]:
        if call.terms.on_begin is not None:
            call.terms.on_begin()
        return await do_in_thread(self.ledger.begin, wish)

    async def _begin_upload_and_send(
        self, call: Call, wish: Wish, files: LocalFiles
    ) -> Sent | Intention | None:
        """Upload the files of an attempt and send it; return the intention by which it was made already."""
        entry, is_ours = await self._begin(call, wish)
        if not is_ours:
            return None
        try:
            ready = await self._upload(call, wish, files, entry)
            if ready is None:
                return None
            sent, assets, price = ready
            usd = price.usd or wish.estimate_usd
            wish = replace(wish, now=call.now, estimate_usd=usd)
            whose = await do_in_thread(self.ledger.send, entry.id, wish, sent, assets)
            if whose == "asks":
                self.pricing.learn(call.sync, call.intention.act, price)
            if whose != "mine":
                return sent if whose == "made" else None
            entry = replace(entry, estimate_usd=usd)
            is_repeat = wish.repeated_key is not None
            return await self._sender.send(call, entry, sent.act, is_new=True, is_repeat=is_repeat)
        except SyncError as error:
            if (error.api_code or "").startswith("asset_") and error.money_spent == "no":
                files.forget()
                told = "An uploaded file was deleted: make the same call again, it is sent anew."
                error.advise(retryable=True, next_step=told)
            raise

    async def _upload(self, call: Call, wish: Wish, files: LocalFiles, entry: Entry) -> _Ready | None:
        """Upload and price the files of an attempt; it is withdrawn where that comes to nothing.

        Return None where the caller is gone, or it costs more than it seemed to: then it begins anew.
        """
        ready: _Ready | SyncError | None = None
        try:
            async with anyio.create_task_group() as task_group:
                # While it lives, what it is going to cost is held.
                task_group.start_soon(self._sender.stay_alive, entry.id)
                task_group.start_soon(_cancel_with, call.gone, task_group.cancel_scope)
                ready = await _outcome_of(self._ready(call, wish, files))
                task_group.cancel_scope.cancel()
        finally:
            if call.gone.is_set() or not isinstance(ready, tuple):
                with anyio.CancelScope(shield=True):
                    await self._sender.withdraw(entry.id)
        if isinstance(ready, SyncError):
            raise ready
        return None if call.gone.is_set() else ready

    async def _ready(self, call: Call, wish: Wish, files: LocalFiles) -> _Ready | None:
        assets = await files.upload(call.sync)
        sent = call.intention.with_assets(assets)
        # The API has the files now: what it measures is what it charges by.
        price = await self.pricing.price(call.sync, sent.act, {"timeout_in_seconds": LOOK_SECONDS})
        _check_media(call, sent.act, price)
        if price.usd is not None and wish.estimate_usd is not None and price.usd > wish.estimate_usd:
            self.pricing.learn(call.sync, call.intention.act, price)
            return None
        return sent, assets, price

    async def _resume(self, call: Call, entry: Entry) -> Made[Job] | None:
        """Go on with an attempt whose outcome nobody knows: look for its job, or send it again."""
        if not call.sync.has_heard_time:
            # A process that was just started knows no time but this machine's, and the money counts on a day.
            with contextlib.suppress(SyncError):
                await call.sync.account.get(request_options=call.reading())
        told = notes_on_extras(entry, call.intention)
        first, is_whole = call.intention.first_sent(entry.extras)
        # Under the same key the same body: what the first call said besides holds.
        call = replace(call, intention=first)
        following = await self.find_unseen_repeat(call, entry) if is_whole else None
        wish = self._sender.wish(call, entry.attempt, entry.estimate_usd, repeated_key=None)
        if following is None:
            wish = replace(wish, token=None)
        elif wish.token is None:
            await self._asking.ask(call, following, Price(entry.estimate_usd))
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
            return Made(sent.job, entry.attempt, "was there", notes=[*notes, _ASKS_ONCE_MORE])
        how = "sent now" if sent.went_out else "found"
        return Made(sent.job, entry.attempt, how, sent.price_usd, notes=notes)

    async def find_unseen_repeat(self, call: Call, entry: Entry) -> Next | None:
        """Return why the user is asked before an attempt is sent again whose job the API named and hides.

        Raises:
            NotVisibleYet: it was sent a short time ago: the API's reads may lag.
        """
        if entry.named_id is None or self._sender.is_too_late(call.now, entry):
            # After that nothing goes out again: nobody is asked in vain.
            return None
        try:
            is_id = plain_id(entry.named_id)
            if is_id and await look_for(call, entry.named_id) is not None:
                return None
        except SyncError:
            # It is not known to be hidden: the search says what it finds, and nothing goes out.
            return None
        return replace(self._history.repeat_of_unseen(call, entry), attempt=entry.attempt)

    async def foresee_hindrance(self, call: Call, entry: Entry, *, is_whole: bool) -> str | None:
        """Return why an attempt in doubt would not be sent again, as far as that is known without a look."""
        if await self._bounds.refusal(call, entry.estimate_usd, held_by=entry) is not None:
            return LIMIT_NOW
        if not is_whole:
            return _OTHER_WEBHOOK
        return TOO_LATE if self._sender.is_too_late(call.now, entry) else None

    async def _take_over_and_send(
        self, call: Call, entry: Entry, wish: Wish, *, despite_named: bool, obstacle: str | None
    ) -> Sent | None:
        if call.terms.on_begin is not None:
            call.terms.on_begin()
        fate = await do_in_thread(self.ledger.take_over, entry.id, wish)
        if fate == "lost":
            return None
        # Another process may have sent it since it was read.
        entry = await do_in_thread(self.ledger.entry, entry.id) or entry
        logger.warning("create key=%s goes on from an earlier call", entry.idempotency_key)
        act = call.intention.act.with_assets(entry.assets)
        act.check_is_sendable()
        if fate != "send" or self._bounds.max_cost_refusal(call, entry.estimate_usd) is not None:
            obstacle = LIMIT_NOW
        return await self._sender.send(
            call, entry, act, is_new=False, obstacle=obstacle, despite_named=despite_named
        )

    async def _wait_for_other(self, call: Call, entry: Entry) -> None:
        """Wait until another process is done with an attempt, or dead."""
        while True:
            await anyio.sleep(_POLL_SECONDS)
            now = await do_in_thread(self.ledger.entry, entry.id)
            if now is None or not now.is_leased(time.time()):
                return
            if now.state == "preparing" and call.terms.files is not None:
                await call.terms.files.report()
            if call.seconds_left <= _POLL_SECONDS:
                if now.state == "preparing" and call.terms.files is not None:
                    raise call.terms.files.under_way()
                raise call.under_way("Another process is sending this very create.")

    async def _to_its_end(self, call: Call, work: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Do what must not stop in the middle, whatever becomes of the caller.

        Work that begins with an upload goes on past the time of its call too; a caller that goes away before
        that calls it off, as far as nothing was sent.
        """

        def call_off() -> None:
            if call.terms.files is None or anyio.current_time() < call.terms.ends_at:
                call.gone.set()

        return await self._work.finish(work, on_left=call_off)


async def _cancel_with(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _outcome_of(work: Awaitable[_ResultT]) -> _ResultT | SyncError:
    """Return what comes of it, failure included: out of a task group it would come in a group."""
    try:
        return await work
    except SyncError as error:
        return error


def _check_media(call: Call, act: PaidAct[Job], price: Price) -> None:
    """Refuse, or warn of, what does not go with the media as they were measured."""
    faults = act.faults_at(price)
    if faults and call.terms.refuses_late_segments:
        raise InvalidRequestError(faults)
    for fault in faults:
        logger.warning("%s", fault)
