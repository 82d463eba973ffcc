"""New ledgers as copies of one: to make one takes its file through all versions, which few tests look at."""

# pyright: reportPrivateUsage=false

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sync_mcp.payments.stores import sqlite
from sync_mcp.payments.stores.schema import RENAME
from sync_mcp.payments.stores.sqlite import SqliteStore


class LedgerCopies:
    """Makes the file of a ledger once, and a copy of it for each other one.

    Args:
        folder: where the first one lies.
    """

    def __init__(self, folder: Path) -> None:
        self._make: Callable[[SqliteStore], None] = SqliteStore._make
        self._migrations = sqlite._MIGRATIONS
        self._folder = folder
        self._content = b""

    def make(self, store: SqliteStore) -> None:
        """Make the file of a store, in the place of `SqliteStore._make`."""
        if sqlite._MIGRATIONS is not self._migrations:
            self._make(store)
            return
        if not self._content:
            first = SqliteStore(self._folder)
            self._make(first)
            self._content = first.path.read_bytes()
        store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = store.folder / f"{sqlite._NEW}{secrets.token_hex(8)}.sqlite3"
        try:
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self._content)
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute(RENAME)
                connection.execute("UPDATE ledger SET revision = 0")
            sqlite.give_name(path, store.path)
        finally:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
