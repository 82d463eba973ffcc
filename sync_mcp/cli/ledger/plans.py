"""What the user may decide about the ledger: each plan says what it does to the money before it does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sync_mcp.api.models import RUNNING_STATUSES
from sync_mcp.cli.ledger.checks import fault_of, losses
from sync_mcp.cli.ledger.entries import (
    COST_ASKED,
    amount_held,
    cut_between_words,
    find_entry,
    is_or_are,
    moment,
    state_in_words,
    ways_out,
    what_counts_on,
)
from sync_mcp.cli.ledger.sightings import Sighting
from sync_mcp.errors import InvalidRequestError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.act import COMPLETED, FAILED_STATUSES
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.stores.sqlite import LOST_CODES
from sync_mcp.texts import ID_LIMIT, count_of, format_id, plain_id, safe

_DAY_SECONDS = 86_400.0
_PAID_AGAIN = "a repeat of the call is sent as a new one and paid."
_UNLESS_KNOWN = {
    True: "",
    False: f" If that stays so, {_PAID_AGAIN}",
    None: f" If the API knows no such job, {_PAID_AGAIN}",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Something that is done on the user's word: `told` says what it does, `do` does it and says so."""

    told: str
    do: Callable[[], str]


def plan_resolve(
    ledger: Ledger,
    entry_id: int,
    generation_id: str,
    *,
    look: Callable[[Ledger, Entry, str], Sighting],
    unseen: bool = False,
) -> Plan:
    """Return the plan to note which job an attempt made; `look` asks the API for that.

    With `unseen` a job is noted that the API does not know.

    Raises:
        InvalidRequestError: this cannot be.
    """
    entry = _find_undecided(ledger, entry_id, lambda entry: entry.state == "accepted")
    if not plain_id(generation_id):
        raise InvalidRequestError(f"{safe(generation_id, 60)!r} is no id of a generation.")
    owner = ledger.owner(entry, generation_id)
    if owner is not None:
        raise InvalidRequestError(f"Generation {generation_id} is the job of entry {owner.id}.")
    sighting = look(ledger, entry, generation_id)
    if sighting.is_known is False and not unseen:
        raise InvalidRequestError(
            f"The API knows no generation {generation_id} for this key. Copy the whole id from "
            "list_generations, or from the list at https://sync.so; one that was made a moment ago may show "
            "in a minute. To note it all the same: "
            + ledger_command("resolve", str(entry.id), generation_id, "--unseen")
        )
    told = [
        f"Entry {entry.id}, {cut_between_words(entry.summary)}, is noted as what made generation "
        f"{generation_id}.",
        f"Its money, {amount_held(entry)}, counts against the budgets until the job's real cost is known. "
        f"{COST_ASKED} {_what_the_same_call_does(entry, generation_id, sighting)}",
        f"{sighting.told}{_UNLESS_KNOWN[sighting.is_known]}",
    ]
    if entry.named_id and entry.named_id != generation_id:
        told.append(f"The API itself named another job for it: {format_id(safe(entry.named_id, ID_LIMIT))}.")

    def do() -> str:
        ledger.resolve(entry.id, generation_id, as_seen=entry)
        return f"Entry {entry.id} is the job {generation_id} now."

    return Plan("\n".join(told), do)


def _what_the_same_call_does(entry: Entry, generation_id: str, sighting: Sighting) -> str:
    """Return what the same call comes to once a job is noted as an attempt's."""
    if sighting.status in FAILED_STATUSES:
        return (
            f"Its job ended {sighting.status}: the same call, made again, is paid as a new attempt, and asks "
            "you first unless this one was surely free."
        )
    is_over = entry.state == "accepted" and entry.generation_id == generation_id
    is_strange = sighting.status not in ("", COMPLETED, *RUNNING_STATUSES)
    if sighting.is_strange_for_long or (is_over and is_strange):
        return "The same call, made again, asks you before it is paid as a new attempt."
    return "The same call, made again, is answered with this job and pays nothing."


def plan_release(ledger: Ledger, entry_id: int, *, look: Callable[[Ledger, Entry, str], Sighting]) -> Plan:
    """Return the plan to let go of an attempt, so that the same call makes it anew without a question.

    `look` asks the API for the job of an attempt that is to be noted as one that made nothing.

    Raises:
        InvalidRequestError: there is nothing that stands in the way of the same call, or the API shows the
            job: it was made, and its money counts.
    """
    entry = _find_undecided(ledger, entry_id, lambda entry: entry.state == "accepted" or entry.asks_again)

    def do() -> str:
        ledger.release(entry.id, as_seen=entry)
        return f"Entry {entry.id} is released."

    if entry.asks_again:
        told = (
            f"Entry {entry.id}, {cut_between_words(entry.summary)}, does not stand in the way of the same "
            f"call any more: that is paid as a new attempt, without asking. {what_counts_on(entry)}"
        )
        return Plan(told, do)
    job = entry.generation_id or entry.named_id or ""
    sighting = None
    if plain_id(job) and ledger.owner(entry, job) is None:
        sighting = look(ledger, entry, job)
        if sighting.is_strange_for_long and entry.state == "accepted":
            return _plan_end(ledger, entry, job, sighting)
        if sighting.is_known:
            raise InvalidRequestError(_why_not_released(entry, job, sighting))
    doubt = (
        "it was accepted: if the API shows its job again, that is paid all the same"
        if entry.state == "accepted"
        else "nobody knows whether it made a job. If it did, that job is paid all the same"
    )
    told = [
        f"Entry {entry.id}, {cut_between_words(entry.summary)}, is noted as an attempt that made nothing.",
        f"Its money, {amount_held(entry)}, stands free again, and the same call, made again, is sent as a "
        "new attempt and paid.",
        f"WARNING: it was sent at {moment(entry.first_sent_at)}, and {doubt}, and a repeat is paid a second "
        "time: look first in list_generations, or in the list at https://sync.so.",
    ]
    if sighting is not None:
        told.append(sighting.told)
    if entry.named_id:
        way = (
            f": `{ledger_command('resolve', str(entry.id), entry.named_id)}` says so"
            if plain_id(entry.named_id)
            else ""
        )
        told.append(
            f"The API named generation {format_id(safe(entry.named_id, ID_LIMIT))} for it, so it was "
            f"probably made{way}."
        )
    return Plan("\n".join(told), do)


def _plan_end(ledger: Ledger, entry: Entry, job: str, sighting: Sighting) -> Plan:
    """Return the plan to let go of a job that has been in a status that nobody knows for more than a day."""
    told = (
        f"Entry {entry.id}, {cut_between_words(entry.summary)}, is noted as ended, and does not stand in the "
        f"way of the same call any more: that is paid as a new attempt, without asking. "
        f"{what_counts_on(entry)}\n{sighting.told} WARNING: if it runs still, both are paid."
    )

    def do() -> str:
        ledger.resolve(entry.id, job, as_seen=entry)
        ledger.release(entry.id)
        return f"Entry {entry.id} is released."

    return Plan(told, do)


def _why_not_released(entry: Entry, job: str, sighting: Sighting) -> str:
    """Return why an attempt whose job the API shows is not let go of, and what to do instead."""
    if entry.generation_id is None:
        way = f"Note it as this entry's job: {ledger_command('resolve', str(entry.id), job)}"
    elif sighting.is_running:
        way = f"Wait for it: get_generation with {job} shows when it has ended."
        if sighting.status not in RUNNING_STATUSES:
            way += " Once its status, which is not known here, has lasted a day, this command ends it."
    else:
        way = f"get_generation with {job} shows its result or its error, and notes what it cost."
    return f"Entry {entry.id} is not released: it made {job}, and its money counts. {sighting.told} {way}"


def plan_prune(ledger: Ledger, days: int) -> Plan | None:
    """Return the plan to delete what is old and cost nothing; None where there is no such thing."""
    if not ledger.exists():
        return None
    before = ledger.store.now() - days * _DAY_SECONDS
    entries, quotes = ledger.prunable(before)
    if not entries and not quotes:
        return None
    told = (
        f"{count_of(entries, 'entry', 'entries')} settled more than {days} days ago that cost nothing "
        f"{is_or_are(entries)} deleted, and {count_of(quotes, 'quote')} from before that. It changes nothing "
        "about the money.\n"
        "What was paid, or may have been, stays: it counts against the budgets, and a repeat of such a call "
        "is answered with its job instead of being paid again."
    )

    def do() -> str:
        return f"{count_of(ledger.prune(before), 'entry', 'entries')} deleted."

    return Plan(told, do)


def plan_loss(ledger: Ledger) -> Plan | None:
    """Return the plan to go on without what a ledger lost; None where it lost nothing."""
    fault = None if ledger.database is not None else fault_of(ledger)
    if fault is None or fault.code not in LOST_CODES:
        return None
    told = [fault.message, *_file_changes(ledger), *losses(ledger)]

    def do() -> str:
        kept = ", ".join(path.name for path in ledger.file.give_up())
        more = f" Kept in {ledger.file.folder}: {kept}." if kept else ""
        return f"Going on without what was lost.{more}"

    return Plan("\n".join(told), do)


def _file_changes(ledger: Ledger) -> Iterator[str]:
    """Yield what going on without what was lost does to the files."""
    if ledger.file.set_aside():
        yield "The damaged ledger is given up; its files stay."
    if ledger.file.path.exists():
        yield f"The ledger is {ledger.store.place} as it is now."
    else:
        yield "The next paid call begins a new ledger."


def _find_undecided(ledger: Ledger, entry_id: int, decision: Callable[[Entry], bool]) -> Entry:
    """Return an attempt that the user may decide about.

    Raises:
        InvalidRequestError: there is nothing to decide; the message says why, and what to do instead.
    """
    entry = find_entry(ledger, entry_id)
    now = ledger.store.now()
    if not entry.is_unresolved(now) and not decision(entry):
        ways = " ".join(line.strip() for line in ways_out(entry, now))
        raise InvalidRequestError(f"Entry {entry.id} is not in doubt ({state_in_words(entry, now)}). {ways}")
    return entry
