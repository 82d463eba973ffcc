"""What was made of an intention before: its job, or the attempt that comes next."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import NotVisibleYet, Standing, SyncError
from sync_mcp.payments.acts.act import COMPLETED, FAILED_STATUSES, FIRST_KIND, WEBHOOK, Job
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.attempt import Attempt
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.intention import Intention, differing_extras
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import dollars, minute
from sync_mcp.payments.rows import REPEATED_IN_VAIN, Entry
from sync_mcp.payments.settling import SETTLE_SECONDS, Settling
from sync_mcp.payments.told import is_final, may_have_ended
from sync_mcp.texts import plain_id

VISIBLE_WITHIN_SECONDS = 3600.0
"""How long after its send a job that the API's reads do not show is only waited for."""
_READ_AGAIN = {FIRST_KIND: "Call get_generation for it in a while."}
_SAME_CALL = "Make exactly this call again in a while: it pays nothing twice."
_NEW_KEY = "A repeat under its key was answered with it and made nothing: a new one goes out under a new key."


class History:
    """What the ledger and the API know of earlier attempts."""

    def __init__(self, ledger: Ledger, settling: Settling) -> None:
        self.ledger = ledger
        self._settling = settling

    async def find(self, call: PaidCall[Job]) -> Made[Job] | Attempt | Entry:
        """Return the job that is there, or the attempt that is to be made, or the one whose job nobody knows.

        Nothing is sent. What foretells a create goes by it as well, so that both are of one mind.

        Raises:
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: the state of its job cannot be read.
        """
        entry, number = await self._last(call)
        if entry is None:
            return call.attempt(number)
        if _may_be_another_clip(entry, call.intention):
            note = f"An older version of this program made entry {entry.id}, perhaps of another clip."
            return call.attempt(number, note, entry.id)
        if entry.generation_id is not None and entry.state in ("accepted", "ended"):
            found = await self._present(call, entry)
        else:
            found = entry if entry.is_open else _after(call, entry)
        # Those that were refused in between have their numbers.
        return replace(found, number=number) if isinstance(found, Attempt) else found

    async def _last(self, call: PaidCall[Job]) -> tuple[Entry | None, int]:
        """Return the attempt that the next one comes after, and the next one's number.

        One whose process died before anything was sent is taken back.
        """
        latest = await do_in_thread(self.ledger.latest, call.intention)
        while latest is not None and latest.is_abandoned(self.ledger.store.now()):
            await do_in_thread(self.ledger.withdraw_abandoned, call.intention)
            latest = await do_in_thread(self.ledger.latest, call.intention)
        if latest is None:
            return None, 1
        if latest.state != "refused":
            return latest, latest.attempt + 1
        return await do_in_thread(self.ledger.standing, call.intention), latest.attempt + 1

    async def _present(self, call: PaidCall[Job], entry: Entry) -> Made[Job] | Attempt:
        """Return the state of a job that was made, or what is to be made after it."""
        assert entry.generation_id is not None
        try:
            job = call.act.recall(entry.generation_id, entry.extras, entry.assets)
            if job is None:
                job = await call.look_patiently(partial(look_for, call, entry.generation_id))
        except SyncError as error:
            told = (
                f"This call's job {plain_id(entry.generation_id)} was made before; its state cannot be read "
                f"now. {_READ_AGAIN.get(call.act.kind, _SAME_CALL)} {error.next_step}"
            )
            error.advise(next_step=told.rstrip())
            raise
        if job is None:
            return self.repeat_of_unseen(call, entry)
        act, options = call.act, call.reading(SETTLE_SECONDS)
        may_be_read = may_have_ended(entry, job) and act.status_of(job) != COMPLETED
        if may_be_read and not is_final(entry, job):
            await self._settling.await_turn(call.whose, call.seconds_left)
        if job.finished and act.status_of(job) != COMPLETED:
            charged = await self._settling.settle_failure(call.sync, call.whose, entry, job, options)
            return _after_failure(call, replace(entry, status=job.status), charged)
        if job.finished:
            if entry.state == "ended" and entry.status != COMPLETED:
                # What was written down of it is not true any more, and its cost may not be.
                await self._settling.settle_job(call.sync, entry, job, options, whose=call.whose)
            await self._settling.settle_account(call.sync, call.whose, options)
            entry = await do_in_thread(self.ledger.entry, entry.id) or entry
        elif job.status not in act.running_statuses:
            await self._settling.settle_strange(call.sync, entry, job, options, whose=call.whose)
            now = await do_in_thread(self.ledger.entry, entry.id)
            if now is not None and now.state == "ended":
                return _after_failure(call, now, now.charged)
        made = Made(job, entry.attempt, "was there")
        made.notes.extend(notes_on_extras(entry, call))
        if act.signers:
            left_out = ", ".join(act.signers)
            made.notes.append(f"Its URLs were compared without what only lets them be fetched: {left_out}.")
        cost, estimate = entry.cost_usd, entry.estimate_usd
        if cost is not None and estimate is not None and cost > estimate:
            made.notes.append(f"It cost {dollars(cost)}, more than the estimate, {dollars(estimate)}.")
        return made

    def repeat_of_unseen(self, call: PaidCall[Job], entry: Entry) -> Attempt:
        """Return the repeat of a job that was made and that the API shows nowhere.

        A repeat goes out under the same key first: an API that keeps keys answers it with the job.

        Raises:
            NotVisibleYet: it was made a short time ago: the API's reads may lag.
        """
        now = call.now.seconds
        if now - entry.last_sent_at < VISIBLE_WITHIN_SECONDS:
            raise not_visible(entry, now)
        sent_on = minute(datetime.fromtimestamp(entry.last_sent_at, UTC))
        if entry.generation_id is None:
            note = (
                f"The API named {_tell_named_job(entry)} for this call, sent on {sent_on}, and does not show "
                "it; its money stays held."
            )
        else:
            note = (
                f"The job of this call, {_job_of(entry)}, was made on {sent_on}, and the API does not show "
                "it now; its money stays held."
            )
        if not call.act.kind_of_send.has_keys:
            return call.attempt(entry.attempt + 1, note, entry.id)
        if entry.error_code == REPEATED_IN_VAIN:
            note += f" {_NEW_KEY}"
            return call.attempt(entry.attempt + 1, note, entry.id)
        return call.attempt(entry.attempt + 1, note, entry.id, repeats=entry)


async def look_for(call: PaidCall[Job], job_id: str) -> Job | None:
    """Return a job of a call's own, or None where the API shows it nowhere."""
    return await call.act.find(call.sync, job_id, call.reading())


def _may_be_another_clip(entry: Entry, intention: Intention) -> bool:
    """Return whether an older version's entry may be of another clip: it took more for signatures."""
    is_of_now = intention.digest in (entry.digest, entry.sent_digest)
    return intention.act.has_loose_earlier_digest and not is_of_now


def _after(call: PaidCall[Job], entry: Entry) -> Attempt:
    """Return the attempt that follows a settled one, by what the ledger knows."""
    following = entry.attempt + 1
    if entry.state == "released":
        return call.attempt(following, "The user let go of the attempt before: this is a new one.")
    if entry.state == "ended":
        return _after_failure(call, entry, entry.charged)
    gone = "was deleted" if entry.state == "deleted" else "is no longer shown by the API"
    note = f"The job of this call, {_job_of(entry)}, {gone}; what it cost stays spent."
    return call.attempt(following, note, entry.id)


def _after_failure(call: PaidCall[Job], entry: Entry, charged: str) -> Attempt:
    """Return the attempt that follows a job without a result: the user is asked unless it was surely free."""
    status = entry.status if entry.status in FAILED_STATUSES else "in a status that is not known here"
    number = f"Attempt {entry.attempt} ({_job_of(entry)}) ended {status}"
    if charged == "no":
        return call.attempt(entry.attempt + 1, f"{number} and was not charged: this is a new one.")
    fate = "was charged" if charged == "yes" else "may have been charged"
    return call.attempt(entry.attempt + 1, f"{number} and {fate}.", entry.id)


def as_first_sent(call: PaidCall[Job], attempt: Attempt) -> tuple[PaidCall[Job], Attempt]:
    """Return a call and its attempt with the body of the first one where it goes out under its key."""
    entry = attempt.repeats
    if entry is None:
        return call, attempt
    first, is_whole = call.act.with_first_extras(entry.extras)
    if not is_whole:
        # A key with another body is refused by an API that keeps keys, and heard by none else.
        return call, replace(attempt, repeats=None)
    told = " ".join([attempt.note or "", *notes_on_extras(entry, call)])
    call = replace(call, act=first)
    return call, call.attempt(attempt.number, told, attempt.paid_before, repeats=entry)


def notes_on_extras(entry: Entry, call: PaidCall[Job]) -> list[str]:
    """Return what differs from the first call and does not count, a sentence for each.

    Whoever names no webhook has changed none, whatever the server puts in its place by now.
    """
    names = differing_extras(entry.extras, call.act.extras)
    notes: list[str] = []
    if "webhook_url" in names and not call.names_webhook:
        names.remove("webhook_url")
        if WEBHOOK in entry.extras:
            notes.append("The job's end is told where the first call said.")
    if names:
        notes.insert(0, f"The job keeps the first call's {' and '.join(names)}, not this call's.")
    return notes


def not_visible(entry: Entry, now: float) -> NotVisibleYet:
    """Return what is told of a job that the ledger knows and the API does not show."""
    return NotVisibleYet(
        entry.generation_id or entry.named_id or "",
        ledger_id=entry.id,
        made_at=minute(datetime.fromtimestamp(entry.last_sent_at, UTC)),
        may_appear=now - entry.last_sent_at < VISIBLE_WITHIN_SECONDS,
        standing=_standing(entry),
        job="generation" if entry.kind == FIRST_KIND else _noun_of(entry),
        tool=entry.tool,
    )


def _noun_of(entry: Entry) -> str:
    kind = KINDS.get(entry.kind)
    return "job" if kind is None else kind.noun


def _standing(entry: Entry) -> Standing:
    if entry.state == "released" and entry.charged == "no":
        return "let_go"
    if not entry.is_open:
        return "spent"
    return "held" if entry.generation_id is not None else "named"


def _tell_named_job(entry: Entry) -> str:
    """Return the job that the API named, as it may stand in a sentence of our own."""
    named = plain_id(entry.named_id or "")
    return f"the job {named}" if named else "a job, by what is no id,"


def _job_of(entry: Entry) -> str:
    """Return the id of the job of an attempt, as it may stand in a sentence of our own."""
    return plain_id(entry.generation_id or "") or "whose id is none"
