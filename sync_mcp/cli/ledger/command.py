"""`sync-mcp ledger`: whatever changes the ledger says first what it does to the money."""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from rich.text import Text

from sync_mcp.cli.documents import print_document
from sync_mcp.cli.flags import home_of_flags, read_settings
from sync_mcp.cli.ledger.checks import check_ledger
from sync_mcp.cli.ledger.documents import describe, describe_listing
from sync_mcp.cli.ledger.entries import (
    ENTRIES_LISTED,
    HEADS,
    Listing,
    cells,
    describe_entry,
    find_entry,
    find_listed,
    list_entries,
    rest_of,
)
from sync_mcp.cli.ledger.moving import copy_ledger, migrate
from sync_mcp.cli.ledger.plans import Plan, plan_loss, plan_prune, plan_release, plan_resolve
from sync_mcp.cli.ledger.sightings import Sighting, look_up
from sync_mcp.cli.ledgers import open_ledger
from sync_mcp.cli.screen import is_on_terminal, show_lines, show_table, waiting
from sync_mcp.cli.streams import stop
from sync_mcp.errors import InvalidRequestError, LedgerError
from sync_mcp.payments.ledger import TERMINAL_BUSY_SECONDS, Ledger
from sync_mcp.payments.rows import OPEN_STATES, Entry

PRUNED_AFTER_DAYS = 90

_ID, _WRITTEN, _STATE, _MODEL, _USD, _ACCOUNT, _GENERATION = range(len(HEADS))
_LAYOUTS = (
    [[field] for field in range(len(HEADS))],
    [[_ID], [_WRITTEN, _STATE], [_USD, _MODEL], [_GENERATION, _ACCOUNT]],
    [[_ID, _WRITTEN, _STATE, _USD, _MODEL, _ACCOUNT, _GENERATION]],
)
"""Of the listing, for terminals that are wide, usual and narrow."""


def run(arguments: argparse.Namespace) -> None:
    """Do what one command of `sync-mcp ledger` says, and end the program with its exit code."""
    settings = read_settings(arguments, only=["home", "database_url"])
    if arguments.act == "copy":
        if arguments.to is None and settings.database_url is not None:
            arguments.to = settings.database_url.get_secret_value()
        # What is copied is a file's.
        settings = settings.model_copy(update={"database_url": None})
    ledger = open_ledger(settings, busy_seconds=TERMINAL_BUSY_SECONDS)
    try:
        with home_of_flags(arguments):
            _act(ledger, arguments)
    finally:
        ledger.close()


def _act(ledger: Ledger, arguments: argparse.Namespace) -> NoReturn:
    try:
        sys.exit(_ACTS[arguments.act](ledger, arguments))
    except LedgerError as error:
        stop(f"{error.message} {error.to_user}")
    except InvalidRequestError as error:
        stop(error.message)


def _list(ledger: Ledger, arguments: argparse.Namespace) -> int:
    limit = None if arguments.all else arguments.limit or ENTRIES_LISTED
    if arguments.json:
        print_document(describe_listing(ledger, find_listed(ledger, limit)))
        return 0
    listing = find_listed(ledger, limit) if is_on_terminal() else None
    if listing is None:
        show_lines(list_entries(ledger, limit))
    else:
        _draw(listing)
    return 0


def _draw(listing: Listing) -> None:
    rows: list[list[Text]] = []
    for entry in listing.entries:
        row = [Text(cell) for cell in cells(entry, listing.now)]
        row[_STATE].stylize(_style_of(entry, listing.now))
        rows.append(row)
    show_table(HEADS, rows, _LAYOUTS)
    show_lines("\n".join(rest_of(listing)))


def _style_of(entry: Entry, now: float) -> str:
    """Return how a state is shown: what needs the user stands out, and what needs nobody does not."""
    if entry.is_unresolved(now):
        return "bold yellow"
    return "cyan" if entry.state in OPEN_STATES else ""


def _show(ledger: Ledger, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_document({"entry": describe(find_entry(ledger, arguments.entry), ledger.store.now())})
    else:
        show_lines(describe_entry(ledger, arguments.entry))
    return 0


def _resolve(ledger: Ledger, arguments: argparse.Namespace) -> int:
    plan = plan_resolve(
        ledger, arguments.entry, arguments.generation, look=_look(arguments), unseen=arguments.unseen
    )
    return _carry_out(plan, arguments)


def _release(ledger: Ledger, arguments: argparse.Namespace) -> int:
    return _carry_out(plan_release(ledger, arguments.entry, look=_look(arguments)), arguments)


def _look(arguments: argparse.Namespace) -> Callable[[Ledger, Entry, str], Sighting]:
    """Return what asks the API for a job, by the key and the address of the settings."""
    settings = read_settings(arguments, only=["api_key", "base_url", "sandbox"])
    key = None
    # A placeholder is no key: the ledger can be looked at and settled without one.
    if settings.api_key is not None and not settings.sandbox and not settings.sends_placeholder:
        key = settings.api_key.get_secret_value()

    def look(ledger: Ledger, entry: Entry, generation_id: str) -> Sighting:
        with waiting("Asking the API for the job ..."):
            return look_up(ledger, entry, generation_id, api_key=key, base_url=settings.base_url)

    return look


def _check(ledger: Ledger, arguments: argparse.Namespace) -> int:
    plan = plan_loss(ledger) if arguments.accept_loss else None
    if plan is not None and _carry_out(plan, arguments):
        return 1
    told, is_well = check_ledger(ledger)
    show_lines(told)
    return 0 if is_well else 1


def _prune(ledger: Ledger, arguments: argparse.Namespace) -> int:
    days = PRUNED_AFTER_DAYS if arguments.before is None else arguments.before
    plan = plan_prune(ledger, days)
    if plan is None:
        show_lines(
            f"Nothing that cost nothing was settled more than {days} days ago: there is nothing to delete."
        )
        return 0
    return _carry_out(plan, arguments)


def _migrate(ledger: Ledger, arguments: argparse.Namespace) -> int:  # noqa: ARG001 - as every act is called
    show_lines(migrate(ledger))
    return 0


def _copy(ledger: Ledger, arguments: argparse.Namespace) -> int:
    if arguments.to is None:
        stop("say where to: --to URL, or SYNC_MCP_DATABASE_URL")
    target = Ledger(database_url=arguments.to, busy_seconds=TERMINAL_BUSY_SECONDS)
    try:
        show_lines(copy_ledger(ledger, target))
    finally:
        target.close()
    return 0


_ACTS: Mapping[str, Callable[[Ledger, argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "resolve": _resolve,
    "release": _release,
    "check": _check,
    "prune": _prune,
    "migrate": _migrate,
    "copy": _copy,
}
"""By the names of the commands; each returns the exit code."""


def _carry_out(plan: Plan, arguments: argparse.Namespace) -> int:
    """Carry a plan out once the user has agreed; the exit code says whether it was."""
    show_lines(plan.told)
    if not arguments.yes and not _agrees():
        show_lines("Nothing was changed.")
        return 1
    show_lines(plan.do())
    return 0


def _agrees() -> bool:
    if not sys.stdin.isatty():
        stop("nothing was changed: there is no terminal to ask on; give --yes to do it")
    try:
        return input("Do it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
