"""What `sync-mcp ledger` shows and does: whatever changes the ledger says first what it does to the money."""

import os
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.fields import EXTRAS
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    APIResponseError,
    InvalidRequestError,
    LedgerError,
    NotFoundError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.ledger import Ledger, remedy
from sync_mcp.payments.limits import Spending, dollars
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.stores.sqlite import LOST_CODES
from sync_mcp.texts import ID_LIMIT, REASON_LIMIT, clean, count_of, format_id, plain_id, safe

SHOWN = 20
"""Entries of a listing, unless it is told otherwise; what is open is listed in any case."""
PRUNED_AFTER_DAYS = 90

_ACCOUNT_SHOWN = 16
_MODEL_SHOWN = 20
_TEXT_SHOWN = 400
_DAY_SECONDS = 86_400.0
_LOOK: RequestOptions = {"timeout_in_seconds": 10.0, "max_retries": 1}
_PAID_AGAIN = "a repeat of the call is sent as a new one and paid."
_UNLESS_KNOWN = {
    True: "",
    False: f" If that stays so, {_PAID_AGAIN}",
    None: f" If the API knows no such job, {_PAID_AGAIN}",
}
_COST_ASKED = "Paid calls, and get_account, ask the API for it."


@dataclass(frozen=True, slots=True)
class Plan:
    """Something that is done on the user's word: `told` says what it does, `do` does it and says so."""

    told: str
    do: Callable[[], str]


def fitted(text: str, columns: int) -> str:
    """Return a text whose lines fit so many columns, broken between words alone; 0 lets them be."""
    return "\n".join(_fitted(line, columns) for line in text.split("\n")) if columns else text


def _fitted(line: str, columns: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def listed(ledger: Ledger, limit: int | None) -> str:
    """Return a table, what is open before the rest and the newest first, and what each account has spent.

    `limit` is how many entries are shown; what is open is shown in any case. None is all.
    """
    if not ledger.exists():
        return _none_yet(ledger)
    now = time.time()
    is_open = ledger.entries(limit=None, are_open=True)
    # Those that need the user come before those that only need time.
    is_open.sort(key=lambda entry: not entry.is_unresolved(now))
    room = None if limit is None else max(0, limit - len(is_open))
    settled = ledger.entries(limit=None if room is None else room + 1, are_open=False)
    lines = _table([*is_open, *settled[:room]], now)
    if room is not None and len(settled) > room:
        lines.append("... and older ones: --all shows them, --limit so many.")
    for account, base_url, spending in ledger.accounts():
        lines += ["", *_totals(account, base_url, spending)]
    unresolved = [entry for entry in is_open if entry.is_unresolved(now)]
    if unresolved:
        lines += [
            "",
            f"Unresolved: {_ids(unresolved)}. Each one's `{ledger_command('show', 'ID')}` says what to do.",
        ]
    return "\n".join(lines)


def shown(ledger: Ledger, entry_id: int) -> str:
    """Return all that is known of an entry, and what can be done about it.

    Raises:
        InvalidRequestError: there is none.
    """
    entry = _entry(ledger, entry_id)
    now = time.time()
    facts = (
        ("state", _state(entry, now)),
        ("what", entry.summary),
        ("besides", ", ".join(_besides(entry))),
        ("tool", entry.tool),
        ("asked by", entry.caller),
        ("take", str(entry.take)),
        ("attempt", str(entry.attempt)),
        ("account", f"{entry.account} at {entry.base_url}"),
        ("generation", entry.generation_id),
        (
            "named",
            f"{format_id(entry.named_id)} (by the API, while the outcome was unknown)"
            if entry.named_id
            else None,
        ),
        ("ended", entry.status),
        ("error", entry.error_code),
        ("estimate", _exact(entry.estimate_usd)),
        ("cost", _exact(entry.cost_usd)),
        ("charged", entry.charged),
        ("counts", _counts_now(entry, now)),
        ("counts on", f"{_moment(entry.created_at)[:10]} (UTC)"),
        ("first sent", _moment(entry.first_sent_at)),
        ("settled", _moment(entry.settled_at) if entry.settled_at is not None else None),
        ("key", entry.idempotency_key),
        ("digest", f"{entry.digest} (version {entry.digest_version})"),
    )
    lines = [f"Entry {entry.id}"]
    lines += [f"  {name:<10} {_whole_words(value)}" for name, value in facts if value]
    return "\n".join([*lines, "", *_ways(entry, now)])


@dataclass(frozen=True, slots=True)
class Sighting:
    """Whether the API knows a job, or None where that was not to be learnt; `told` says so to the user."""

    is_known: bool | None
    told: str
    is_running: bool = False
    """Whether the API shows it as a job that has not ended."""


def look_up(
    ledger: Ledger, entry: Entry, generation_id: str, *, api_key: str | None, base_url: str
) -> Sighting:
    """Ask the API for a job, where this key can see the jobs of the entry's account."""
    if api_key is None:
        return _unseen("no key is set (SYNC_API_KEY)")
    if base_url != entry.base_url:
        return _unseen(f"the call went to {entry.base_url}, and SYNC_BASE_URL is {base_url}")
    return anyio.run(_looked_up, ledger, entry, generation_id, api_key)


async def _looked_up(ledger: Ledger, entry: Entry, generation_id: str, api_key: str) -> Sighting:
    async with AsyncSync(api_key=api_key, base_url=entry.base_url) as sync:
        account = ledger.account_of(sync.key_fingerprint, entry.base_url)
        if account is not None and account[0] != entry.account:
            return _unseen(f"the key is of {account[0]}, and the call was of {entry.account}")
        try:
            job = await _job(sync, generation_id)
        except SyncError as error:
            return _unseen(f"the API could not tell: {safe(error.whole_message, REASON_LIMIT).rstrip('.')}")
    if job is None:
        return Sighting(False, f"The API knows no generation {generation_id}.")
    made = f", made {_moment(job.created_at.timestamp())}" if job.created_at else ""
    what = f"{safe(job.model or 'a model that it does not tell', _MODEL_SHOWN)}, {safe(job.status, 40)}"
    return Sighting(True, f"The API knows this job: {what}{made}.", is_running=not job.finished)


async def _job(sync: AsyncSync, generation_id: str) -> Generation | None:
    try:
        return await sync.generations.get(generation_id, request_options=_LOOK)
    except RequestRejectedError:
        # It has no ids of such a form.
        return None
    except NotFoundError:
        listed = await sync.generations.list(ids=[generation_id], request_options=_LOOK)
        job = next((job for job in listed if job.id == generation_id), None)
        if job is None and listed.unreadable:
            raise APIResponseError("The API's list has an entry that cannot be read.") from None
        return job


def _unseen(reason: str) -> Sighting:
    return Sighting(None, f"The id is not looked up, as {reason}.")


def resolving(
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
    entry = _open_to(ledger, entry_id, lambda entry: entry.state == "accepted")
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
        f"Entry {entry.id}, {_whole_words(entry.summary)}, is noted as what made generation {generation_id}.",
        f"Its money, {_held(entry)}, counts against the budgets until the job's real cost is known. "
        f"{_COST_ASKED} The same call, made again, is answered with this job and pays nothing.",
        f"{sighting.told}{_UNLESS_KNOWN[sighting.is_known]}",
    ]
    if entry.named_id and entry.named_id != generation_id:
        told.append(f"The API itself named another job for it: {format_id(safe(entry.named_id, ID_LIMIT))}.")

    def do() -> str:
        ledger.resolve(entry.id, generation_id, as_seen=entry)
        return f"Entry {entry.id} is the job {generation_id} now."

    return Plan("\n".join(told), do)


def releasing(ledger: Ledger, entry_id: int, *, look: Callable[[Ledger, Entry, str], Sighting]) -> Plan:
    """Return the plan to let go of an attempt, so that the same call makes it anew without a question.

    `look` asks the API for the job of an attempt that is to be noted as one that made nothing.

    Raises:
        InvalidRequestError: there is nothing that stands in the way of the same call, or the API shows the
            job: it was made, and its money counts.
    """
    entry = _open_to(ledger, entry_id, lambda entry: entry.state == "accepted" or entry.asks_again)

    def do() -> str:
        ledger.release(entry.id, as_seen=entry)
        return f"Entry {entry.id} is released."

    if entry.asks_again:
        told = (
            f"Entry {entry.id}, {_whole_words(entry.summary)}, does not stand in the way of the same "
            f"call any more: that is paid as a new attempt, without asking. {_counts_on(entry)}"
        )
        return Plan(told, do)
    job = entry.generation_id or entry.named_id or ""
    sighting = None
    if plain_id(job) and ledger.owner(entry, job) is None:
        sighting = look(ledger, entry, job)
        if sighting.is_known:
            raise InvalidRequestError(_shown_job(entry, job, sighting))
    doubt = (
        "it was accepted: if the API shows its job again, that is paid all the same"
        if entry.state == "accepted"
        else "nobody knows whether it made a job. If it did, that job is paid all the same"
    )
    told = [
        f"Entry {entry.id}, {_whole_words(entry.summary)}, is noted as an attempt that made nothing.",
        f"Its money, {_held(entry)}, stands free again, and the same call, made again, is sent as a new "
        "attempt and paid.",
        f"WARNING: it was sent at {_moment(entry.first_sent_at)}, and {doubt}, and a repeat is paid a second "
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


def _shown_job(entry: Entry, job: str, sighting: Sighting) -> str:
    """Return why an attempt is not let go of whose job the API shows, and what to do instead."""
    if entry.generation_id is None:
        way = f"Note it as this entry's job: {ledger_command('resolve', str(entry.id), job)}"
    elif sighting.is_running:
        way = f"Wait for it: get_generation with {job} shows when it has ended."
    else:
        way = f"get_generation with {job} shows its result or its error, and notes what it cost."
    return f"Entry {entry.id} is not released: it made {job}, and its money counts. {sighting.told} {way}"


def pruning(ledger: Ledger, days: int) -> Plan | None:
    """Return the plan to delete what is old and cost nothing; None where there is no such thing."""
    before = time.time() - days * _DAY_SECONDS
    entries, quotes = ledger.prunable(before) if ledger.exists() else (0, 0)
    if not entries and not quotes:
        return None
    told = (
        f"{count_of(entries, 'entry', 'entries')} settled more than {days} days ago that cost nothing "
        f"{_is(entries)} deleted, and {count_of(quotes, 'quote')} from before that. It changes nothing "
        "about the money.\n"
        "What was paid, or may have been, stays: it counts against the budgets, and a repeat of such a call "
        "is answered with its job instead of being paid again."
    )

    def do() -> str:
        return f"{count_of(ledger.prune(before), 'entry', 'entries')} deleted."

    return Plan(told, do)


def giving_up(ledger: Ledger) -> Plan | None:
    """Return the plan to go on without what a ledger lost; None where it lost nothing."""
    fault = _fault(ledger)
    if fault is None or fault.code not in LOST_CODES:
        return None
    told = [fault.message, *_plan(ledger), *_losses(ledger)]

    def do() -> str:
        kept = ", ".join(path.name for path in ledger.give_up())
        more = f" Kept in {ledger.folder}: {kept}." if kept else ""
        return f"Going on without what was lost.{more}"

    return Plan("\n".join(told), do)


def checked(ledger: Ledger) -> tuple[str, bool]:
    """Return how the ledger is, with what to do about what is wrong, and whether all is well."""
    findings = list(_findings(ledger))
    wrong = sum(do is not None for _, _, do in findings)
    lines = [
        f"{name:<10} {state}" if do is None else f"{name:<10} {state}\n  WRONG -> {do}"
        for name, state, do in findings
    ]
    last = "All is well." if not wrong else f"{count_of(wrong, 'thing')} {_is(wrong)} wrong."
    return "\n".join([*lines, last]), not wrong


def _plan(ledger: Ledger) -> Iterator[str]:
    """Yield what going on without what was lost does to the files."""
    if ledger.set_aside():
        yield "The damaged ledger is given up; its files stay."
    if ledger.path.exists():
        yield f"The ledger is {ledger.path} as it is now."
    else:
        yield "The next paid call begins a new ledger."


def _losses(ledger: Ledger) -> Iterator[str]:
    """Yield what going on without what was lost means for the money."""
    has_copy = ledger.path.exists()
    which = (
        "that do not stand in it are not known"
        if has_copy
        else "that were made before are not known any more"
    )
    yield (
        f"Jobs {which}: a repeat of such a call is sent as a new one and paid again. What was unresolved is "
        "forgotten: look in list_generations before you repeat a call."
    )
    if has_copy:
        yield "Budgets count what stands in it: what was spent besides no longer counts against them."
    else:
        yield "Budgets begin anew: what was spent before no longer counts against them."


_Finding = tuple[str, str, str | None]
"""What was looked at, how it is, and what to do where it is wrong."""


def _findings(ledger: Ledger) -> Iterator[_Finding]:
    try:
        if not ledger.exists():
            yield "ledger", _none_yet(ledger), None
        else:
            entries = ledger.check()
            yield "ledger", str(ledger.path), None
            yield "whole", f"yes; version {ledger.version}", None
            is_open = ledger.entries(limit=None, are_open=True)
            unresolved = [entry for entry in is_open if entry.is_unresolved(time.time())]
            yield from _counts(entries, len(is_open), unresolved)
            yield from _permissions(ledger)
    except LedgerError as error:
        yield from _unusable(ledger, error)
    given_up = ledger.given_up()
    if given_up:
        yield "given up", f"{', '.join(path.name for path in given_up)}: kept, not read", None


def _counts(entries: int, is_open: int, unresolved: Sequence[Entry]) -> Iterator[_Finding]:
    count = count_of(entries, "entry", "entries")
    yield "entries", f"{count}: {entries - is_open} settled, {is_open} open", None
    if unresolved:
        held = dollars(sum((entry.counted_usd for entry in unresolved), Decimal(0)))
        yield (
            "unresolved",
            f"{_ids(unresolved)}: nobody knows whether a job was made; {held} counts as spent",
            f"`{ledger_command('show', 'ID')}` says what to do about each.",
        )


def _unusable(ledger: Ledger, error: LedgerError) -> Iterator[_Finding]:
    if error.code not in LOST_CODES:
        yield "ledger", error.message, remedy(error)
        return
    yield "ledger", error.message, None
    for path in ledger.set_aside():
        yield "set aside", f"{path.name}, {path.stat().st_size} bytes", None
    for loss in _losses(ledger):
        yield "lost", loss, None
    yield (
        "way out",
        "yours to decide",
        f"If you have a copy of the file, or a newer one, put it at {ledger.path} while nothing runs: what "
        "stands in it is kept. Then, or to go on without a copy: " + ledger_command("check", "--accept-loss"),
    )


def _permissions(ledger: Ledger) -> Iterator[_Finding]:
    if os.name != "posix":
        return
    names = (f"{path.name}*" for path in (ledger.path, ledger.mark_path))
    files = sorted(path for name in names for path in ledger.folder.glob(name) if path.is_file())
    for path in files:
        mode = _mode(path)
        mend = f"Others on this machine can read or write it: chmod 600 '{path}'" if mode & 0o077 else None
        if mend or path == ledger.path:
            yield "file", f"{path.name} {mode:04o}", mend
    mode = _mode(ledger.folder)
    mend = f"Others can put another file in its place: chmod 700 '{ledger.folder}'" if mode & 0o022 else None
    yield "folder", f"{ledger.folder} {mode:04o}", mend


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _fault(ledger: Ledger) -> LedgerError | None:
    """Return what makes the ledger unusable."""
    try:
        if ledger.exists():
            ledger.check()
    except LedgerError as error:
        return error
    return None


def _none_yet(ledger: Ledger) -> str:
    return f"There is none yet; the first paid call makes {ledger.path}."


def _entry(ledger: Ledger, entry_id: int) -> Entry:
    entry = ledger.entry(entry_id) if ledger.exists() else None
    if entry is None:
        raise InvalidRequestError(
            f"There is no entry {entry_id} in {ledger.path}: {ledger_command('list')} shows them."
        )
    return entry


def _open_to(ledger: Ledger, entry_id: int, decision: Callable[[Entry], bool]) -> Entry:
    """Return an attempt that the user may decide about.

    Raises:
        InvalidRequestError: there is nothing to decide; the message says why, and what to do instead.
    """
    entry = _entry(ledger, entry_id)
    now = time.time()
    if not entry.is_unresolved(now) and not decision(entry):
        ways = " ".join(line.strip() for line in _ways(entry, now))
        raise InvalidRequestError(f"Entry {entry.id} is not in doubt ({_state(entry, now)}). {ways}")
    return entry


def _table(entries: Sequence[Entry], now: float) -> list[str]:
    rows = [("ID", "WRITTEN (UTC)", "STATE", "MODEL", "USD", "ACCOUNT", "GENERATION")]
    rows += [
        (
            str(entry.id),
            _moment(entry.created_at)[:16],
            _state(entry, now),
            safe(entry.model, _MODEL_SHOWN),
            _amount(entry),
            safe(entry.account, _ACCOUNT_SHOWN),
            safe(entry.generation_id or entry.named_id or "-", ID_LIMIT),
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _totals(account: str, base_url: str, spending: Spending) -> list[str]:
    unresolved = f" in {count_of(spending.unresolved, 'attempt')}" if spending.unresolved else ""
    return [
        f"{safe(account, ID_LIMIT)} at {safe(base_url, _TEXT_SHOWN)}",
        f"  spent today (UTC) {dollars(spending.today_usd)}, this month {dollars(spending.month_usd)}, "
        f"ever {dollars(spending.ever_usd)};",
        f"  of it reserved for jobs whose cost is not known yet {dollars(spending.reserved_usd)}, "
        f"unresolved {dollars(spending.unresolved_usd)}{unresolved}",
    ]


def _state(entry: Entry, now: float) -> str:
    """Return an entry's state in plain words."""
    if entry.is_unresolved(now):
        return "unresolved"
    if entry.state == "preparing":
        return "given up before it was sent" if entry.is_abandoned(now) else "uploading its files"
    charge = {"yes": "charged", "no": "free"}.get(entry.charged, "cost unknown")
    match entry.state:
        case "sending":
            return "being sent"
        case "accepted":
            return "made, not settled"
        case "ended" if entry.status == "COMPLETED":
            return "done" if entry.charged != "no" else "done, free"
        case "ended":
            return f"{safe(entry.status or 'ended', 40).lower()}, {charge}"
        case "deleted":
            return f"deleted, {charge}"
        case "closed":
            return "made, gone since"
        case "released":
            return f"released, {charge}"
        case _:
            return f"{entry.state}, free"


def _ways(entry: Entry, now: float) -> list[str]:
    """Return what can be done about an entry, and what each way does to the money."""
    id = str(entry.id)
    if entry.is_unresolved(now):
        named = plain_id(entry.named_id or "") or "GENERATION_ID"
        return [
            f"Nobody knows whether it made a job. Until that is known, {_held(entry)} counts as spent.",
            "  Make the same call again: it looks for the job, and sends the call again under the same key "
            "where that is still safe. Nothing is paid twice.",
            f"  {ledger_command('resolve', id, named)}",
            "    it made this job: its money counts until the real cost is known",
            f"  {ledger_command('release', id)}",
            "    it made nothing: its money stands free, and the same call is paid as a new attempt",
        ]
    job = f"job {safe(entry.generation_id, ID_LIMIT)}" if entry.generation_id else "job"
    if entry.state == "accepted":
        return [
            f"It made {job}. {_held(entry)} counts until the real cost is known. {_COST_ASKED}",
            *(
                [f"  The API says {safe(entry.status, 40)!r} of it, which is not known here."]
                if entry.status
                else []
            ),
            f"  {ledger_command('resolve', id, safe(entry.generation_id or '', ID_LIMIT))}",
            "    it has ended: its estimate stands for its cost until that is known",
            f"  {ledger_command('release', id)}",
            "    it was never made: its money stands free, and the same call is paid as a new attempt",
        ]
    if entry.asks_again:
        gone = {"deleted": f"Its {job} was deleted.", "closed": f"Its {job} is no longer shown by the API."}
        return [
            gone.get(entry.state, "It was charged, or may have been."),
            f"  The same call asks you before a new attempt is paid. {_counts_on(entry)}",
            f"  {ledger_command('release', id)}",
            "    the same call is paid as a new attempt without asking; what this one cost stays spent",
        ]
    match entry.state:
        case "preparing" if not entry.is_abandoned(now):
            told = "A process is uploading its files; nothing was sent yet."
        case "sending":
            told = "A process is sending it. If that dies, it can be decided here a few seconds later."
        case "ended" if entry.status == "COMPLETED":
            told = f"Its {job} is done. The same call is answered with it and pays nothing."
        case "ended":
            told = "It cost nothing. The same call is sent as a new attempt and paid."
        case "released" if entry.charged != "no":
            told = f"You let go of it. {_counts_on(entry)} The same call is paid as a new attempt."
        case _:
            told = "It made nothing and cost nothing. The same call is sent as a new attempt and paid."
    return [f"Nothing is to be decided here. {told}"]


def _counts_now(entry: Entry, now: float) -> str:
    counted = Decimal(0) if entry.is_abandoned(now) else entry.counted_usd
    return f"{_exact(counted)} against the budgets"


def _counts_on(entry: Entry) -> str:
    """Return what becomes of the money of a job that may have been charged."""
    if entry.cost_usd is None and entry.state != "closed":
        return f"{_held(entry)} counts until its real cost is known. {_COST_ASKED}"
    return f"{_held(entry)[:1].upper()}{_held(entry)[1:]} stays spent."


def _whole_words(text: str) -> str:
    """Return a text on one line, cut between words where it is too long."""
    shown = clean(text, _TEXT_SHOWN)
    kept, blank, _ = shown.rpartition(" ")
    is_cut = shown.endswith("…") and not text.rstrip().endswith("…")
    return f"{kept} …" if is_cut and blank else shown


def _besides(entry: Entry) -> Iterator[str]:
    for name, value in entry.extras.items():
        # The webhook's address may be a secret: its digest alone is kept.
        yield EXTRAS.get(name, name) if name == "webhookUrl" else f"{EXTRAS.get(name, name)} {value}"


def _amount(entry: Entry) -> str:
    if entry.charged == "no":
        known, guessed = Decimal(0), None
    else:
        known, guessed = entry.cost_usd, entry.estimate_usd
    if known is not None:
        return dollars(known).removesuffix(" USD")
    return "?" if guessed is None else f"~{dollars(guessed).removesuffix(' USD')}"


def _held(entry: Entry) -> str:
    if entry.cost_usd is None and entry.estimate_usd is None:
        return "an unknown amount (as 0.00 USD)"
    return dollars(entry.counted_usd)


def _exact(amount: Decimal | None) -> str:
    return "not known" if amount is None else f"{amount:f} USD"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ids(entries: Sequence[Entry]) -> str:
    return ", ".join(str(entry.id) for entry in entries)


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
