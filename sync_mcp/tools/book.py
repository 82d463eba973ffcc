"""The book of a process, opened: the ledger, and the guard before it."""

from contextlib import ExitStack

from anyio.abc import TaskGroup

from sync_mcp.machine.home import default_home, home_folder
from sync_mcp.machine.installed import name_home
from sync_mcp.machine.scratch import ScratchFolder
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits
from sync_mcp.tools.opening import BookOpening


def open_guard(opening: BookOpening, tasks: TaskGroup, ends: ExitStack) -> Guard:
    """Return what every paid call goes through; what is to be closed after it is put on `ends`."""
    if opening.database_url is not None and not opening.is_scratch:
        ledger = Ledger(database_url=opening.database_url)
    else:
        ledger = _open_file(opening, ends)
    ends.callback(ledger.close)
    return Guard(
        ledger,
        Limits(**opening.limits),
        resend_hours=opening.resend_hours,
        task_group=tasks,
        unpriced_usd=opening.unpriced_usd,
    )


def _open_file(opening: BookOpening, ends: ExitStack) -> Ledger:
    named = ends.enter_context(ScratchFolder("ledger")).path if opening.is_scratch else opening.home
    home = home_folder(named)
    if home != default_home():
        # The user's terminal has not the environment of this process.
        ends.enter_context(name_home(home))
    return Ledger(home)
