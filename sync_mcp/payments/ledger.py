"""The ledger: every paid call is written down before it is sent, and what came of it after.

A database file of the user's own, shared by all processes. Each method is one transaction and blocks for
as long as the disk takes: call it in a worker thread.

An attempt is in one of nine states (`State`). What each act makes of it, by its owner and of its own job: the
next state, `gone` (taken back, as if it had never been), `!` (refused), `.` (nothing, or for another to do).
`*` is an attempt whose process has died: its lease has run out.

    act                 preparing  preparing*  sending   sending*  unknown   accepted
    send                sending    .           .         .         .         .
    withdraw            gone       gone        .         .         .         .
    call_off            .          .           gone      gone      .         .
    withdraw_abandoned  .          gone        .         .         .         .
    take_over           .          .           .         sending   sending   .
    claim               accepted   accepted    accepted  accepted  accepted  .
    accept              accepted   accepted    accepted  accepted  accepted  .
    doubt               .          .           unknown   unknown   .         .
    refuse              .          .           refused   refused   .         .
    settle              .          .           .         .         .         ended
    delete_job          .          .           .         .         .         deleted
    resolve             !          !           !         accepted  accepted  ended
    release             !          !           !         released  released  released

What the API says it made counts, whatever the ledger took the attempt for: also of one that was released
without a job.

    act                 ended     refused   released  deleted   closed
    send                .         .         .         .         .
    withdraw            .         .         .         .         .
    call_off            .         .         .         .         .
    withdraw_abandoned  .         .         .         .         .
    take_over           .         .         .         .         .
    claim               .         accepted  .         .         .
    accept              .         accepted  .         .         .
    doubt               .         .         .         .         .
    refuse              .         .         .         .         .
    settle              ended     .         released  deleted   .
    delete_job          deleted   .         .         .         .
    resolve             !         !         !         !         !
    release             released  !         !         released  released
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from sync_mcp.errors import ConfigurationError
from sync_mcp.machine.home import home_folder
from sync_mcp.machine.installed import postgres_install
from sync_mcp.payments.book.agreements import Agreements
from sync_mcp.payments.book.attempts import Attempts
from sync_mcp.payments.book.decisions import Decisions
from sync_mcp.payments.book.deliveries import Deliveries
from sync_mcp.payments.book.endings import Endings
from sync_mcp.payments.book.sums import Sums
from sync_mcp.payments.rows import ACCOUNTS
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.payments.stores.sqlite_file import BUSY_SECONDS

if TYPE_CHECKING:
    from sync_mcp.payments.stores.postgres import PostgresStore

TERMINAL_BUSY_SECONDS = 2.0
"""How long a step waits for another process where a person looks on: they can try again themselves."""


class Ledger(Attempts, Agreements, Sums, Endings, Decisions, Deliveries):
    """The user's ledger, a file in a folder or tables in a database; either is made when it is first needed.

    Args:
        folder: where the file lies; by default SYNC_MCP_HOME, else the user's data directory.
        database_url: of a PostgreSQL database, in place of a file; it needs the extra `postgres`.
        read_only: look only: nothing is made, changed or moved.
        busy_seconds: how long each step waits while another process uses the ledger; by default ten.

    Attributes:
        database: the store that is a database, with how it is brought up to date; None where it is a file.

    Raises:
        ConfigurationError: the URL cannot be used, or the extra is missing.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        database_url: str | None = None,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._file: SqliteStore | None = None
        self.database: PostgresStore | None = None
        if database_url is None:
            store = self._file = SqliteStore(
                home_folder(folder), read_only=read_only, busy_seconds=busy_seconds
            )
        else:
            store = self.database = _open_database(
                database_url, read_only=read_only, busy_seconds=busy_seconds
            )
        self._close = store.close
        super().__init__(store)

    @property
    def file(self) -> SqliteStore:
        """The store that is a file, with what only that can lose, and be gone on without.

        Raises:
            AttributeError: it lies in a `database`.
        """
        if self._file is None:
            raise AttributeError("a ledger in a database has no file")
        return self._file

    def close(self) -> None:
        """Close the file or the connections; the next call opens them again."""
        self._close()

    def exists(self) -> bool:
        """Return whether a ledger was begun here, whole, damaged or gone; none is made.

        Raises:
            LedgerError: the folder cannot be looked into.
        """
        return self.store.exists()

    # Accounts

    def account_of(self, fingerprint: str, base_url: str) -> tuple[str, bool] | None:
        """Return the account of a key and whether it is a sandbox's, where that is known."""
        is_it = (ACCOUNTS.c.fingerprint == fingerprint, ACCOUNTS.c.base_url == base_url)
        with self.store.reading() as connection:
            known = connection.execute(
                select(ACCOUNTS.c.account, ACCOUNTS.c.is_sandbox).where(*is_it)
            ).first()
            return None if known is None else (known.account, known.is_sandbox)

    def keep_account(self, fingerprint: str, base_url: str, account: str, *, is_sandbox: bool = False) -> str:
        """Note the account of a key and return it; what was noted before stays."""
        key = {"fingerprint": fingerprint, "base_url": base_url}
        is_it = (ACCOUNTS.c.fingerprint == fingerprint, ACCOUNTS.c.base_url == base_url)
        with self.store.transaction() as connection:
            known = connection.execute(select(ACCOUNTS.c.account).where(*is_it)).scalar()
            if known is None:
                connection.execute(
                    insert(ACCOUNTS).values({**key, "account": account, "is_sandbox": is_sandbox})
                )
            return account if known is None else known


def _open_database(url: str, *, read_only: bool, busy_seconds: float) -> "PostgresStore":
    """Return the store of a database.

    Raises:
        ConfigurationError: the URL cannot be used, or the extra is missing.
    """
    try:
        # Its driver is an extra, and loaded by those who have a database alone.
        from sync_mcp.payments.stores.postgres import PostgresStore
    except ImportError as error:
        raise ConfigurationError(
            "SYNC_MCP_DATABASE_URL needs what is not installed.", next_step=f"Run {postgres_install()}."
        ) from error
    try:
        return PostgresStore(url, read_only=read_only, busy_seconds=busy_seconds)
    except ValueError as error:
        raise ConfigurationError(f"The database's URL {error}.") from None
