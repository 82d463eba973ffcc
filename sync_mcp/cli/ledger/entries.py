"""Entries of the ledger in words: the table, all of one entry, and what can be done about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from sync_mcp.api.fields import EXTRAS
from sync_mcp.errors import InvalidRequestError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Spending, dollars
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import ID_LIMIT, clean, count_of, format_id, plain_id, safe

ENTRIES_LISTED = 20
"""Entries of a listing, unless it is told otherwise; what is open is listed in any case."""
_ACCOUNT_LIMIT = 16
MODEL_LIMIT = 20
_TEXT_LIMIT = 400
COST_ASKED = "Paid calls, and get_account, ask the API for it."


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing shows: entries, the open ones first, and what each account has spent."""

    ledger: Ledger
    now: float
    entries: Sequence[Entry]
    has_more: bool
    """Whether there are older ones, which are not listed."""
    accounts: Sequence[tuple[str, str, Spending]]
    """The name of each, its address, and what it has spent."""


def find_listed(ledger: Ledger, limit: int | None) -> Listing | None:
    """Return what is to be listed, None where there is no ledger.

    `limit` is how many entries are shown; what is open is shown in any case. None is all.
    """
    if not ledger.exists():
        return None
    now = ledger.store.now()
    is_open = ledger.entries(limit=None, are_open=True)
    # Those that need the user come before those that only need time.
    is_open.sort(key=lambda entry: not entry.is_unresolved(now))
    room = None if limit is None else max(0, limit - len(is_open))
    settled = ledger.entries(limit=None if room is None else room + 1, are_open=False)
    has_more = room is not None and len(settled) > room
    return Listing(ledger, now, [*is_open, *settled[:room]], has_more, ledger.accounts())


def list_entries(ledger: Ledger, limit: int | None) -> str:
    """Return a listing in plain lines: a table, and what each account has spent."""
    listing = find_listed(ledger, limit)
    if listing is None:
        return none_yet(ledger)
    rows = [HEADS, *map(partial(cells, now=listing.now), listing.entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*table, *rest_of(listing)])


def rest_of(listing: Listing) -> list[str]:
    """Return what stands below the table, in lines."""
    lines = ["... and older ones: --all shows them, --limit so many."] if listing.has_more else []
    for account, base_url, spending in listing.accounts:
        lines += ["", *_totals(account, base_url, spending)]
    unresolved = [entry for entry in listing.entries if entry.is_unresolved(listing.now)]
    if unresolved:
        lines += [
            "",
            f"Unresolved: {id_list(unresolved)}. Each one's `{ledger_command('show', 'ID')}` "
            "says what to do.",
        ]
    return lines


def describe_entry(ledger: Ledger, entry_id: int) -> str:
    """Return all that is known of an entry, and what can be done about it.

    Raises:
        InvalidRequestError: there is none.
    """
    entry = find_entry(ledger, entry_id)
    now = ledger.store.now()
    facts = (
        ("state", state_in_words(entry, now)),
        ("what", entry.summary),
        ("besides", ", ".join(besides(entry))),
        ("tool", entry.tool),
        ("asked by", entry.caller),
        ("campaign", entry.campaign),
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
        ("counts", f"{_exact(count_now(entry, now))} against the budgets"),
        ("counts on", f"{moment(entry.created_at)[:10]} (UTC)"),
        ("first sent", moment(entry.first_sent_at)),
        ("settled", moment(entry.settled_at) if entry.settled_at is not None else None),
        ("key", entry.idempotency_key),
        ("digest", f"{entry.digest} (version {entry.digest_version})"),
    )
    lines = [f"Entry {entry.id}"]
    lines += [f"  {name:<10} {cut_between_words(value)}" for name, value in facts if value]
    return "\n".join([*lines, "", *ways_out(entry, now)])


def none_yet(ledger: Ledger) -> str:
    """Return what is said where there is no ledger."""
    begins = "makes" if ledger.database is None else "begins one in"
    return f"There is none yet; the first paid call {begins} {ledger.store.place}."


def find_entry(ledger: Ledger, entry_id: int) -> Entry:
    """Return an entry by its number.

    Raises:
        InvalidRequestError: there is none.
    """
    entry = ledger.entry(entry_id) if ledger.exists() else None
    if entry is None:
        raise InvalidRequestError(
            f"There is no entry {entry_id} in {ledger.store.place}: {ledger_command('list')} shows them."
        )
    return entry


HEADS = ("ID", "WRITTEN (UTC)", "STATE", "MODEL", "USD", "ACCOUNT", "GENERATION")


def cells(entry: Entry, now: float) -> tuple[str, ...]:
    """Return what stands of an entry in a listing, below each of `HEADS`."""
    return (
        str(entry.id),
        moment(entry.created_at)[:16],
        state_in_words(entry, now),
        safe(entry.model, MODEL_LIMIT),
        _amount(entry),
        safe(entry.account, _ACCOUNT_LIMIT),
        safe(entry.generation_id or entry.named_id or "-", ID_LIMIT),
    )


def _totals(account: str, base_url: str, spending: Spending) -> list[str]:
    unresolved = f" in {count_of(spending.unresolved, 'attempt')}" if spending.unresolved else ""
    return [
        f"{safe(account, ID_LIMIT)} at {safe(base_url, _TEXT_LIMIT)}",
        f"  spent today (UTC) {dollars(spending.today_usd)}, this month {dollars(spending.month_usd)}, "
        f"ever {dollars(spending.ever_usd)};",
        f"  of it reserved for jobs whose cost is not known yet {dollars(spending.reserved_usd)}, "
        f"unresolved {dollars(spending.unresolved_usd)}{unresolved}",
    ]


def state_in_words(entry: Entry, now: float) -> str:
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


def ways_out(entry: Entry, now: float) -> list[str]:
    """Return what can be done about an entry, and what each way does to the money."""
    id = str(entry.id)
    if entry.is_unresolved(now):
        named = plain_id(entry.named_id or "") or "GENERATION_ID"
        return [
            f"Nobody knows whether it made a job. Until that is known, {amount_held(entry)} counts as spent.",
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
            f"It made {job}. {amount_held(entry)} counts until the real cost is known. {COST_ASKED}",
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
            f"  The same call asks you before a new attempt is paid. {what_counts_on(entry)}",
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
            told = f"You let go of it. {what_counts_on(entry)} The same call is paid as a new attempt."
        case _:
            told = "It made nothing and cost nothing. The same call is sent as a new attempt and paid."
    return [f"Nothing is to be decided here. {told}"]


def count_now(entry: Entry, now: float) -> Decimal:
    """Return what of an entry stands against the budgets, in US dollars."""
    return Decimal(0) if entry.is_abandoned(now) else entry.counted_usd


def what_counts_on(entry: Entry) -> str:
    """Return what becomes of the money of a job that may have been charged."""
    if entry.cost_usd is None and entry.state != "closed":
        return f"{amount_held(entry)} counts until its real cost is known. {COST_ASKED}"
    return f"{amount_held(entry)[:1].upper()}{amount_held(entry)[1:]} stays spent."


def cut_between_words(text: str) -> str:
    """Return a text on one line, cut between words where it is too long."""
    shown = clean(text, _TEXT_LIMIT)
    kept, blank, _ = shown.rpartition(" ")
    is_cut = shown.endswith("…") and not text.rstrip().endswith("…")
    return f"{kept} …" if is_cut and blank else shown


def besides(entry: Entry) -> Iterator[str]:
    """Yield what else was asked for, each with its name."""
    for name, value in entry.extras.items():
        # The webhook's address may be a secret: its digest alone is kept.
        argument = EXTRAS.get(name, name)
        yield argument if name == "webhookUrl" else f"{argument} {value}"


def _amount(entry: Entry) -> str:
    if entry.charged == "no":
        known, guessed = Decimal(0), None
    else:
        known, guessed = entry.cost_usd, entry.estimate_usd
    if known is not None:
        return dollars(known).removesuffix(" USD")
    return "?" if guessed is None else f"~{dollars(guessed).removesuffix(' USD')}"


def amount_held(entry: Entry) -> str:
    """Return the money of an entry that counts against the budgets, in US dollars."""
    if entry.cost_usd is None and entry.estimate_usd is None:
        return "an unknown amount (as 0.00 USD)"
    return dollars(entry.counted_usd)


def _exact(amount: Decimal | None) -> str:
    return "not known" if amount is None else f"{amount:f} USD"


def moment(seconds: float) -> str:
    """Return a time, in seconds since 1970, as it is told: in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def id_list(entries: Sequence[Entry]) -> str:
    """Return the numbers of entries with commas between."""
    return ", ".join(str(entry.id) for entry in entries)


def is_or_are(number: int) -> str:
    """Return the verb for so many things."""
    return "is" if number == 1 else "are"
