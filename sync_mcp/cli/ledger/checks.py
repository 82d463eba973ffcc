"""Whether the ledger is whole, and what is lost where it is not."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from sync_mcp.cli.ledger.entries import id_list, is_or_are, none_yet
from sync_mcp.errors import LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.stores.sqlite import LOST_CODES
from sync_mcp.payments.stores.store import Finding
from sync_mcp.texts import count_of


def check_ledger(ledger: Ledger) -> tuple[str, bool]:
    """Return how the ledger is, with what to do about what is wrong, and whether all is well."""
    findings = list(_findings(ledger))
    wrong = sum(do is not None for _, _, do in findings)
    lines = [
        f"{name:<10} {state}" if do is None else f"{name:<10} {state}\n  WRONG -> {do}"
        for name, state, do in findings
    ]
    last = "All is well." if not wrong else f"{count_of(wrong, 'thing')} {is_or_are(wrong)} wrong."
    return "\n".join([*lines, last]), not wrong


def losses(ledger: Ledger) -> Iterator[str]:
    """Yield what going on without what was lost means for the money."""
    has_copy = ledger.file.path.exists()
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


def _findings(ledger: Ledger) -> Iterator[Finding]:
    try:
        if not ledger.exists():
            yield "ledger", none_yet(ledger), None
        else:
            entries = ledger.check()
            yield "ledger", ledger.store.place, None
            whole, *others = ledger.store.findings()
            yield whole
            is_open = ledger.entries(limit=None, are_open=True)
            unresolved = [entry for entry in is_open if entry.is_unresolved(ledger.store.now())]
            yield from _counts(entries, len(is_open), unresolved)
            yield from _mend_sums(ledger)
            yield from others
    except LedgerError as error:
        yield from _unusable(ledger, error)
    given_up = ledger.file.find_given_up() if ledger.database is None else []
    if given_up:
        yield "given up", f"{', '.join(path.name for path in given_up)}: kept, not read", None


def _counts(entries: int, is_open: int, unresolved: Sequence[Entry]) -> Iterator[Finding]:
    count = count_of(entries, "entry", "entries")
    yield "entries", f"{count}: {entries - is_open} settled, {is_open} open", None
    if unresolved:
        held = dollars(sum((entry.counted_usd for entry in unresolved), Decimal(0)))
        yield (
            "unresolved",
            f"{id_list(unresolved)}: nobody knows whether a job was made; {held} counts as spent",
            f"`{ledger_command('show', 'ID')}` says what to do about each.",
        )


def _mend_sums(ledger: Ledger) -> Iterator[Finding]:
    """Have the sums that budgets go by be those of the entries; tell where they were not."""
    for wrong in ledger.sum_days_anew():
        money = "of the sandbox's money " if wrong.is_sandbox else ""
        yield (
            "sum",
            f"of {wrong.day} {money}was kept as {dollars(wrong.kept_usd)}; its entries count "
            f"{dollars(wrong.entries_usd)}, and so do the budgets from now on",
            None,
        )


def _unusable(ledger: Ledger, error: LedgerError) -> Iterator[Finding]:
    if error.code not in LOST_CODES:
        yield "ledger", error.message, error.to_user
        return
    yield "ledger", error.message, None
    for path in ledger.file.set_aside():
        yield "set aside", f"{path.name}, {path.stat().st_size} bytes", None
    for loss in losses(ledger):
        yield "lost", loss, None
    yield (
        "way out",
        "yours to decide",
        f"If you have a copy of the file, or a newer one, put it at {ledger.store.place} while nothing runs: "
        "what stands in it is kept. Then, or to go on without a copy: "
        + ledger_command("check", "--accept-loss"),
    )


def fault_of(ledger: Ledger) -> LedgerError | None:
    """Return what makes the ledger unusable."""
    try:
        if ledger.exists():
            ledger.check()
    except LedgerError as error:
        return error
    return None
