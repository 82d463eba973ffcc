"""Ledgers of tests in databases, in place of files: each folder's in a database of its own."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sync_mcp import Ledger
from sync_mcp.machine.home import home_folder
from sync_mcp.payments.stores.postgres_schema import SCHEMA, TABLES
from tests.postgres import run_statement, server_url, with_database

_NUMBERED = (("entries", "id"), ("deliveries", "number"))
_EMPTY = "; ".join(
    [f"SET search_path = {SCHEMA}"]
    + [f"DELETE FROM {table}" for table in TABLES]
    + [
        f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), 1, false)"
        for table, column in _NUMBERED
    ]
)


class Databases:
    """Databases of one worker: those for folders are made once, and emptied after each test.

    Args:
        folder: of the run, for what its workers share.
        run: the process with which the run ends.
    """

    def __init__(self, folder: Path, run: int) -> None:
        self._server = server_url(folder / "server", run)
        self._made: list[str] = []
        self._for_folders: list[str] = []

    def make(self, how: str = "") -> str:
        """Make a database in which nothing is, and return its URL; `how` is how it is made."""
        name = f"sync_mcp_test_{os.getpid()}_{len(self._made)}"
        run_statement(self._server, f"CREATE DATABASE {name} {how}")
        self._made.append(name)
        return with_database(self._server, name)

    @contextmanager
    def in_place_of_files(self) -> Generator[None]:
        """Have the ledger of each folder lie in a database that nothing else has."""
        urls: dict[Path, str] = {}
        opened: list[Ledger] = []
        open_ledger = Ledger.__init__

        def url_of(folder: Path) -> str:
            if folder not in urls:
                if len(urls) == len(self._for_folders):
                    self._for_folders.append(self._make_ledger())
                urls[folder] = self._for_folders[len(urls)]
            return urls[folder]

        def open_in_database(
            ledger: Ledger, folder: Path | str | None = None, *, database_url: str | None = None, **how: Any
        ) -> None:
            open_ledger(ledger, database_url=database_url or url_of(home_folder(folder)), **how)
            opened.append(ledger)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "__init__", open_in_database)
            try:
                yield
            finally:
                for ledger in opened:
                    ledger.close()
                for url in urls.values():
                    run_statement(url, _EMPTY)

    def _make_ledger(self) -> str:
        url = self.make()
        ledger = Ledger(database_url=url)
        assert ledger.database is not None
        ledger.database.migrate()
        ledger.close()
        return url

    def drop(self) -> None:
        """Drop all that was made."""
        for name in self._made:
            run_statement(self._server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
