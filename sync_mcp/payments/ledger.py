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

from sqlalchemy import insert, select

from sync_mcp.machine.home import home_folder
from sync_mcp.payments.book.agreements import Agreements
from sync_mcp.payments.book.attempts import Attempts
from sync_mcp.payments.book.decisions import Decisions
from sync_mcp.payments.book.deliveries import Deliveries
from sync_mcp.payments.book.endings import Endings
from sync_mcp.payments.book.sums import Sums
from sync_mcp.payments.rows import ACCOUNTS
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.payments.stores.sqlite_file import BUSY_SECONDS

TERMINAL_BUSY_SECONDS = 2.0
"""How long a step waits for another process where a person looks on: they can try again themselves."""


class Ledger(Attempts, Agreements, Sums, Endings, Decisions, Deliveries):
    """The user's ledger in a folder; the folder and the file are made when they are first needed.

    Args:
        folder: where the file lies; by default SYNC_MCP_HOME, else the user's data directory.
        read_only: look only: nothing is made, changed or moved.
        busy_seconds: how long each step waits while another process uses the file; by default ten.

    Attributes:
        file: the store, with what only a file can lose, and be gone on without.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.file = SqliteStore(home_folder(folder), read_only=read_only, busy_seconds=busy_seconds)
        super().__init__(self.file)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self.file.close()

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
