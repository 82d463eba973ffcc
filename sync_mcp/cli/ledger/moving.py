"""Bringing a ledger in a database up to date, and copying one from a file into a database that has none."""

from sqlalchemy import Connection, Table, func, insert, select, text

from sync_mcp.campaigns.tables import CAMPAIGNS, ROWS, RUNNERS
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import (
    ACCOUNTS,
    DECLINED,
    DELIVERIES,
    ENTRIES,
    NAMES,
    OPEN_STATES,
    QUOTES,
    entries_in,
)
from sync_mcp.texts import count_of

_COPIED = (ENTRIES, QUOTES, DECLINED, NAMES, ACCOUNTS, DELIVERIES, CAMPAIGNS, ROWS)
"""What stands in a ledger but for runners, of which none lives, and for sums, which the database keeps."""
_NUMBERED = {ENTRIES.name: "id", DELIVERIES.name: "number"}
_ROWS_AT_ONCE = 1000


def migrate(ledger: Ledger) -> str:
    """Bring a ledger to the version of this program; return what was done."""
    if ledger.database is None:
        ledger.check()
        return f"{ledger.store.place} is up to date, as a file is whenever it is used."
    before, now = ledger.database.migrate()
    if before is None:
        return f"A ledger of version {now} is begun in {ledger.store.place}."
    if before == now:
        return f"{ledger.store.place} has version {now} already: nothing was changed."
    return f"{ledger.store.place} is brought from version {before} to {now}."


def copy_ledger(source: Ledger, target: Ledger) -> str:
    """Copy the ledger in a file into a database whose own is empty, numbers and all; return what was copied.

    Nobody can write to either meanwhile, and the file stays as it is.

    Raises:
        InvalidRequestError: there is none, it is in use, or the database's is not empty.
    """
    if not source.exists():
        raise InvalidRequestError(f"There is no ledger in {source.store.place}: there is nothing to copy.")
    with source.store.transaction() as read, target.store.transaction() as write:
        _check_rests(read, source.store.now())
        if any(_count(write, table) for table in (*_COPIED, RUNNERS)):
            raise InvalidRequestError(
                f"The ledger in {target.store.place} is not empty: one is copied there once, before anything "
                "is paid by it. Nothing was copied."
            )
        for table in _COPIED:
            _copy_rows(read, write, table)
        for table, column in _NUMBERED.items():
            _go_on_after(read, write, table, column)
        entries, quotes, campaigns = (_count(write, table) for table in (ENTRIES, QUOTES, CAMPAIGNS))
    told = (
        count_of(entries, "entry", "entries"),
        count_of(quotes, "quote"),
        count_of(campaigns, "campaign"),
    )
    return (
        f"Copied {', '.join(told)} and what belongs to them from {source.store.place} to "
        f"{target.store.place}.\n"
        "The file stays as it is, and knows nothing of what is paid from now on: end what uses it, and set "
        "SYNC_MCP_DATABASE_URL everywhere."
    )


def _check_rests(read: Connection, now: float) -> None:
    """Refuse to copy a ledger while a call or a campaign is under way: its outcome would go into the file.

    Raises:
        InvalidRequestError: one is.
    """
    is_open = entries_in(read.execute(select(ENTRIES).where(ENTRIES.c.state.in_(OPEN_STATES))))
    has_runner = read.execute(select(RUNNERS.c.holder).where(RUNNERS.c.leased_until > now)).first()
    if has_runner is not None or any(entry.is_leased(now) for entry in is_open):
        raise InvalidRequestError(
            "A paid call or a campaign is under way in the file, where its outcome will be written: end what "
            "uses it, and copy it then. Nothing was copied."
        )


def _copy_rows(read: Connection, write: Connection, table: Table) -> None:
    for rows in read.execute(select(table)).mappings().partitions(_ROWS_AT_ONCE):
        write.execute(insert(table), [dict(row) for row in rows])


def _go_on_after(read: Connection, write: Connection, table: str, column: str) -> None:
    """Have the next row get a number that none has had, as in the file."""
    last = read.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table}).scalar()
    if last:
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
        write.execute(sequence, {"table": table, "column": column, "last": last})


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
