"""Sending an attempt until its outcome is known, and keeping book of it."""

import logging
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import anyio

from sync_mcp.api.attempt import Attempt, Claim, Step
from sync_mcp.api.options import RequestOptions
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import (
    ConcurrencyLimitError,
    CreateUnderWay,
    LedgerError,
    LimitReached,
    NotSent,
    OutcomeUnknown,
    PaymentRequiredError,
    RateLimitError,
    SyncError,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.call import Call, host_to_ask_about, pause_for
from sync_mcp.payments.export import Hindrance, hindrance_in_export
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits, utc_midnight
from sync_mcp.payments.rows import RENEWAL_SECONDS, Entry
from sync_mcp.payments.settling import Settling
from sync_mcp.payments.slots import slot_came_free
from sync_mcp.payments.spelling import in_one_spelling
from sync_mcp.payments.wish import Instant, Wish

logger = logging.getLogger("sync_mcp.payments")

_SEND_SECONDS = 30.0
LIMIT_NOW = "a limit stands against it by now"
TOO_LATE = "too much time has passed since its first send"


@dataclass(frozen=True, slots=True)
class Sent:
    """A job that an attempt came to."""

    job: Job
    price_usd: Decimal | None
    note: str | None
    went_out: bool
    """Whether this call sent it: else it was only found."""
    was_there: bool = False
    """Whether the API answered a repeat with the job that was made before."""


class Sender:
    """Sends attempts in the name of one process.

    Args:
        ledger: where they are written down.
        limits: how much may be spent.
        settling: what is asked for jobs that have finished.
        owner: the name of this process.
        resend_seconds: how long after its first send an attempt of unknown outcome may be sent again.
    """

    def __init__(
        self, ledger: Ledger, limits: Limits, settling: Settling, owner: str, resend_seconds: float
    ) -> None:
        self.ledger = ledger
        self.settling = settling
        self._limits = limits
        self._owner = owner
        self._resend_seconds = resend_seconds

    def wish(self, call: Call, attempt: int, usd: Decimal | None, *, repeated_key: str | None) -> Wish:
        """Return the paid call as the ledger judges it."""
        return Wish(
            intention=call.intention,
            attempt=attempt,
            tool=call.tool,
            owner=self._owner,
            estimate_usd=usd,
            limits=self._limits,
            now=call.now,
            token=call.terms.token,
            unasked_usd=call.terms.approval.above_usd,
            has_files=bool(call.intention.act.local_media),
            is_sandbox=call.is_sandbox,
            caller=call.terms.caller,
            webhook_host=host_to_ask_about(call),
            repeated_key=repeated_key,
        )

    async def send(
        self,
        call: Call,
        entry: Entry,
        act: PaidAct[Job],
        *,
        is_new: bool,
        obstacle: str | None = None,
        despite_named: bool = False,
        is_repeat: bool = False,
    ) -> Sent:
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
            unsigned=in_one_spelling,
        )
        result: Job | BaseException | None = None
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(self.stay_alive, entry.id)
            result = await self._outcome(call, attempt, act)
            task_group.cancel_scope.cancel()
        entry = sending.entry
        assert result is not None
        if not isinstance(result, BaseException):
            return await self._accepted(entry, result, went_out=sending.went_out)
        if isinstance(result, OutcomeUnknown):
            hindrance = await sending.hindrance()
            if hindrance is not None:
                before, until = result.retry_after_seconds, hindrance.retry_after_seconds
                # Where no time is known when it ends, none is told.
                result.retry_after_seconds = None if until is None else max(until, before or 0.0)
            result.advise(next_step=self._way_out(entry, result, hindrance))
        elif isinstance(result, NotSent) and sending.refusal is not None:
            result = sending.refusal
        await self._note_failure(entry, result, is_new=is_new, went_out=sending.went_out)
        if isinstance(result, NotSent):
            raise CreateUnderWay("Another process has taken this create over.") from result
        raise result

    async def _accepted(self, entry: Entry, job: Job, *, went_out: bool) -> Sent:
        try:
            fate = await do_in_thread(self.ledger.accept, entry.id, job.id)
        except LedgerError as error:
            # It is made and paid: its handle must reach the caller whatever the disk does.
            logger.error("create key=%s: %s", entry.idempotency_key, error)
            note = f"The ledger could not be written after the job was accepted: {error.message}"
            return Sent(job, entry.estimate_usd, note, went_out=went_out)
        return Sent(job, entry.estimate_usd, None, went_out=went_out, was_there=fate == "was there")

    async def _outcome(self, call: Call, attempt: Attempt, act: PaidAct[Job]) -> Job | BaseException:
        while True:
            options: RequestOptions = {**call.options}
            if math.isfinite(call.seconds_left):
                # After a long upload the call may be over; the create is not.
                least = _SEND_SECONDS if call.terms.files else 1.0
                options["timeout_in_seconds"] = max(least, call.seconds_left)
            try:
                return await call.sync.create_as(act.job_kind(), attempt, act.body, request_options=options)
            except ConcurrencyLimitError as error:
                try:
                    if not await slot_came_free(call, error):
                        return error
                except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                    return error
            except RateLimitError as error:
                try:
                    if not await pause_for(call.terms, error, call.gone):
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
                    await do_in_thread(
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
                    await do_in_thread(self.ledger.call_off, entry.id, self._owner)
                else:
                    says_nothing_of_price = not isinstance(error, PaymentRequiredError)
                    await do_in_thread(
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

    def _way_out(self, entry: Entry, error: OutcomeUnknown, hindrance: Hindrance | None) -> str:
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
        return await do_in_thread(self.ledger.renew, entry_id, self._owner)

    async def withdraw(self, entry_id: int) -> None:
        """Take back an attempt of which nothing was sent."""
        await do_in_thread(self.ledger.withdraw, entry_id, self._owner)

    def is_too_late(self, now: Instant, entry: Entry) -> bool:
        """Return whether an attempt may not be sent again for its age."""
        return now.seconds - entry.first_sent_at > self._resend_seconds

    async def move_to_today(self, call: Call, entry: Entry) -> LimitReached | None:
        """Have an attempt that is about to be sent count on this day; return which limit forbids that."""
        if utc_midnight(entry.created_at) == utc_midnight(call.now.seconds):
            return None
        wish = self.wish(call, entry.attempt, entry.estimate_usd, repeated_key=None)
        return await do_in_thread(self.ledger.move_to_today, entry.id, wish)

    async def note_send(self, entry: Entry) -> None:
        """Write down when an attempt last went out, and whether an answer to it is to come."""
        await do_in_thread(
            partial(
                self.ledger.note_send,
                entry.id,
                self._owner,
                entry.last_sent_at,
                is_on_its_way=entry.is_on_its_way,
            )
        )

    async def _claim(self, entry_id: int, generation_id: str) -> Claim:
        return await do_in_thread(self.ledger.claim, entry_id, generation_id)

    async def _known_to_others(self, entry_id: int, generation_ids: Sequence[str]) -> Collection[str]:
        return await do_in_thread(self.ledger.known_to_others, entry_id, list(generation_ids))

    async def stay_alive(self, entry_id: int) -> None:
        """Renew the lease of an attempt until it is cancelled."""
        while True:
            await anyio.sleep(RENEWAL_SECONDS)
            try:
                await self.renew(entry_id)
            except LedgerError as error:
                logger.warning("the ledger cannot be written: %s", error)


class _Sending:
    """Whether an attempt may go out, asked before each send, and whether it did."""

    def __init__(
        self, sender: Sender, call: Call, entry: Entry, *, is_new: bool, obstacle: str | None
    ) -> None:
        self._sender = sender
        self._call = call
        self.entry = entry
        """The attempt, as it stands by what was sent of it."""
        self._is_new = is_new
        self._obstacle = obstacle
        self._renewed_at = time.time()
        self._has_asked_export = False
        """Whether the export was asked since the last send."""
        self._in_export: Hindrance | None = None
        self.refusal: LimitReached | None = None
        """Which limit stands against the day on which it would be sent."""
        self._sent_before = entry.last_sent_at
        self.went_out = False

    async def may_go_out(self) -> bool:
        """Return whether it may be sent now; then its money counts on this day."""
        if await self.hindrance() is not None:
            return False
        # What waited for a slot, or for its repeat, may have waited over midnight.
        self.refusal = await self._sender.move_to_today(self._call, self.entry)
        if self.refusal is not None:
            self._obstacle = LIMIT_NOW
        else:
            self.entry = replace(self.entry, created_at=self._call.now.seconds)
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
                await self._sender.note_send(self.entry)
        elif step == "made nothing":
            self.entry = replace(self.entry, last_sent_at=self._sent_before)
        elif self.entry.is_on_its_way:
            self.entry = replace(self.entry, is_on_its_way=False)
            try:
                await self._sender.note_send(self.entry)
            except LedgerError as error:
                # It is taken for one that is on its way, and those like it wait.
                logger.warning("create key=%s: %s", self.entry.idempotency_key, error)

    async def hindrance(self) -> Hindrance | None:
        """Return why the attempt is not sent, or None where it may be."""
        if self._obstacle is not None:
            return Hindrance(self._obstacle)
        if self._call.gone.is_set():
            return Hindrance("nobody waits for it any more")
        # Whoever slept through its lease has lost the attempt to another.
        if not 0 <= time.time() - self._renewed_at < RENEWAL_SECONDS:
            if not await self._sender.renew(self.entry.id):
                return Hindrance("another call goes on with it")
            self._renewed_at = time.time()
        if not self._is_new or self.went_out:
            if not self._is_new and self._sender.is_too_late(self._call.now, self.entry):
                return Hindrance(TOO_LATE)
            if not self._is_key_kept:
                return await self._hindrance_in_export()
        return None

    @property
    def _is_key_kept(self) -> bool:
        """Whether the API has shown that it keeps a key so long: then it answers a repeat with the job."""
        age = self._call.now.seconds - self.entry.first_sent_at
        return self._call.sync.keeps_keys_for(age)

    async def _hindrance_in_export(self) -> Hindrance | None:
        if not self._has_asked_export:
            self._in_export = await hindrance_in_export(
                self._sender.ledger, self._sender.settling, self._call, self.entry
            )
            self._has_asked_export = True
        return self._in_export
