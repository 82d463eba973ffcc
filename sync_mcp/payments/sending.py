"""Sending an attempt until its outcome is known, and keeping book of it."""

import logging
import math
from functools import partial

import anyio

from sync_mcp.api.options import RequestOptions
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import (
    ConcurrencyLimitError,
    LedgerError,
    NotSent,
    OutcomeUnknown,
    PaymentRequiredError,
    RateLimitError,
    SyncError,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.call import How, Made, PaidCall
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.ledger_book import LedgerBook
from sync_mcp.payments.rows import RENEWAL_SECONDS, Entry
from sync_mcp.payments.slots import slot_came_free
from sync_mcp.payments.usage_export import Hindrance

logger = logging.getLogger("sync_mcp.payments")

_SEND_SECONDS = 30.0
_ASKS_ONCE_MORE = "If it stays hidden, the same call asks once more, and a new one goes out under a new key."


async def send(call: PaidCall[Job], book: LedgerBook, act: PaidAct[Job]) -> Made[Job]:
    """Send the attempt of a book until its outcome is known, and write that down.

    Raises:
        SyncError: what came of it instead of a job.
    """
    result: Job | BaseException | None = None
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(stay_alive, book.ledger, book.entry.id, call.owner)
        result = await _outcome(call, book, act)
        task_group.cancel_scope.cancel()
    assert result is not None
    if not isinstance(result, BaseException):
        if call.on_made is not None:
            call.on_made(result)
        return await _accept(book, result)
    if isinstance(result, OutcomeUnknown):
        hindrance = await book.hindrance()
        if hindrance is not None:
            before, until = result.retry_after_seconds, hindrance.retry_after_seconds
            # Where no time is known when it ends, none is told.
            result.retry_after_seconds = None if until is None else max(until, before or 0.0)
        result.advise(next_step=_way_out(book.entry, result, hindrance, act.list_tool))
    elif isinstance(result, NotSent) and book.refusal is not None:
        result = book.refusal
    await _note_failure(book, call.owner, result)
    if isinstance(result, NotSent) and not call.gone.is_set():
        raise call.under_way("Another process has taken this create over.") from result
    raise result


async def stay_alive(ledger: Ledger, entry_id: int, owner: str) -> None:
    """Renew the lease of an attempt until it is cancelled."""
    while True:
        await anyio.sleep(RENEWAL_SECONDS)
        try:
            await do_in_thread(ledger.renew, entry_id, owner)
        except LedgerError as error:
            logger.warning("the ledger cannot be written: %s", error)


async def _accept(book: LedgerBook, job: Job) -> Made[Job]:
    entry = book.entry
    how: How = "made" if book.is_new else "sent now" if book.went_out else "found"
    made = Made(job, entry.attempt, how, entry.estimate_usd)
    try:
        if await do_in_thread(book.ledger.accept, entry.id, job.id) == "was there":
            return Made(job, entry.attempt, "was there", notes=[_ASKS_ONCE_MORE])
    except LedgerError as error:
        # It is made and paid: its handle must reach the caller whatever the disk does.
        logger.error("create key=%s: %s", entry.idempotency_key, error)
        made.notes.append(f"The ledger could not be written after the job was accepted: {error.message}")
    return made


async def _outcome(call: PaidCall[Job], book: LedgerBook, act: PaidAct[Job]) -> Job | BaseException:
    while True:
        options: RequestOptions = {**call.options}
        if math.isfinite(call.seconds_left):
            # After a long upload the call may be over; the create is not.
            least = _SEND_SECONDS if call.files else 1.0
            options["timeout_in_seconds"] = max(least, call.seconds_left)
        try:
            key = book.entry.idempotency_key
            return await call.sync.create_as(
                act.kind_of_send, book, key, act.body_under(key), request_options=options
            )
        except ConcurrencyLimitError as error:
            try:
                if not await slot_came_free(call, error):
                    return error
            except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                return error
        except RateLimitError as error:
            try:
                if not await call.pause_for(error):
                    return error
            except BaseException:  # noqa: BLE001 - the refusal is what is known of the create
                return error
        except BaseException as error:  # noqa: BLE001 - written down first, then raised
            return error


async def _note_failure(book: LedgerBook, owner: str, error: BaseException) -> None:
    entry, ledger = book.entry, book.ledger
    if not book.is_new or isinstance(error, OutcomeUnknown) or not isinstance(error, SyncError):
        named = error.generation_id if isinstance(error, OutcomeUnknown) else None
        unused = None if book.went_out else book.token
        note = partial(ledger.doubt, entry.id, owner, named, given_back=unused)
    elif isinstance(error, NotSent):
        # Nothing of it went out. What was refused keeps its number: its key may be known.
        note = partial(ledger.call_off, entry.id, owner)
    else:
        says_nothing_of_price = not isinstance(error, PaymentRequiredError)
        code = error.api_code or error.code
        note = partial(ledger.refuse, entry.id, owner, code, gives_quote_back=says_nothing_of_price)
    with anyio.CancelScope(shield=True):
        try:
            await do_in_thread(note)
        except LedgerError as failure:
            # Left as it is, it counts as spent, and the next call looks for the job.
            logger.error("create key=%s: %s", entry.idempotency_key, failure)


def _way_out(entry: Entry, error: OutcomeUnknown, hindrance: Hindrance | None, list_tool: str) -> str:
    """Return what to do about an attempt whose outcome stays unknown; `list_tool` shows what there is."""
    if error.reason == "maybe_seen":
        again = (
            "Exactly this call looks for the job again, and sends nothing while the API shows one that "
            "may be it. Where one of them is it, the user says so: "
            f"{ledger_command('resolve', str(entry.id), 'ID')}."
        )
    elif error.reason == "named_not_visible":
        again = (
            "The API's reads may lag behind its writes. Wait, then make exactly this call again: it looks "
            "for the job first. Do not create another one."
        )
    elif error.reason == "untraceable":
        again = "Exactly this call sends nothing: nobody can find out whether it was made."
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
    elif error.reason == "no_list":
        again = (
            "Make exactly this call again: it is sent under the same key, and the API answers with the job "
            "of the first, so nothing is paid twice."
        )
    else:
        again = (
            "Make exactly this call again: it looks for the job, and sends it under the same key where "
            "it is not there, so nothing is paid twice."
        )
    look = "" if error.reason in ("no_list", "untraceable") else f" Or look in {list_tool}."
    return (
        f"{again}{look} Its money counts as spent until then; the user can settle "
        f"it: {ledger_command('show', str(entry.id))}. {error.advice}"
    ).rstrip()
