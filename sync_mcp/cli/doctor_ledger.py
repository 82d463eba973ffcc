"""What the doctor says of the ledger: that it is whole, and what a database is and how far away."""

import os
from collections.abc import Iterator

from sync_mcp.cli.findings import Finding
from sync_mcp.cli.ledgers import open_ledger
from sync_mcp.errors import ConfigurationError, LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.ledger import TERMINAL_BUSY_SECONDS, Ledger
from sync_mcp.payments.stores.sqlite import UNTOUCHED_CODE
from sync_mcp.settings import Settings
from sync_mcp.texts import count_of

_ANOTHER_HOME = "Make the folder writable, or name another one in SYNC_MCP_HOME: without it nothing is paid."


def look_at_ledger(settings: Settings) -> Iterator[Finding]:
    """Yield how the ledger of the settings is; nothing in it is changed."""
    try:
        ledger = open_ledger(settings, read_only=True, busy_seconds=TERMINAL_BUSY_SECONDS)
    except ConfigurationError as error:
        yield Finding("ledger", error.message, error.next_step, error.code, is_ours=True)
        return
    try:
        yield _describe(ledger) if ledger.exists() else _future(ledger)
        if ledger.database is not None:
            yield Finding("database", ledger.database.describe(), is_ours=True)
    except LedgerError as error:
        remedy = None if error.code == UNTOUCHED_CODE else error.to_user
        yield Finding("ledger", error.message, remedy, error.code if remedy else None, is_ours=True)
    finally:
        ledger.close()


def _describe(ledger: Ledger) -> Finding:
    entries = ledger.check()
    unresolved = sum(spending.unresolved for _, _, spending in ledger.accounts())
    wrong = len({wrong.day for wrong in ledger.find_wrong_days()})
    more = f": `{ledger_command('list')}` says what to do" if unresolved else ""
    told = f"; the sums of {count_of(wrong, 'day')} are not what the entries count" if wrong else ""
    mend = f"Run `{ledger_command('check')}`: it makes the sums that budgets go by what the entries count."
    return Finding(
        "ledger",
        f"{ledger.store.place}; entries: {entries}, unresolved: {unresolved}{more}{told}",
        mend if wrong else None,
        "ledger_sums_wrong" if wrong else None,
        is_ours=True,
        facts={"path": str(ledger.store.place), "entries": entries, "unresolved": unresolved},
    )


def _future(ledger: Ledger) -> Finding:
    if ledger.database is not None:
        told = f"none yet; the first paid call begins one in {ledger.store.place}"
        return Finding("ledger", told, is_ours=True)
    path = ledger.file.path
    place = next(folder for folder in path.parents if folder.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("ledger", f"none yet; the first paid call makes {path}", is_ours=True)
    state = f"{path} cannot be made: {place} cannot be written to"
    return Finding("ledger", state, _ANOTHER_HOME, "ledger_unavailable", is_ours=True)
