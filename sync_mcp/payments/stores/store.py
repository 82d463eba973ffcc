"""What the book, and all above it, ask of the place where a ledger lies; a file is one, a server may be."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

Finding = tuple[str, str, str | None]
"""What was looked at, how it is, and what to do where it is wrong."""


class Store(Protocol):
    """Where a ledger lies."""

    def transaction(self, *, is_sandbox: bool | None = None) -> AbstractContextManager[Connection]:
        """Have the ledger to oneself from the first statement on: what is read is what a decision stands on.

        With `is_sandbox` a place may leave the other kind of money to others meanwhile: real money, or the
        sandbox's.

        Raises:
            LedgerError: the ledger cannot be read or written, or has lost what was in it.
        """
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Read without holding anybody up.

        Raises:
            LedgerError: the ledger cannot be read, or has lost what was in it.
        """
        ...

    def now(self) -> float:
        """Return the time by which leases and quotes are judged, in seconds since 1970.

        Within a transaction it is of that one: what several machines decide goes by one clock.
        """
        ...

    def check(self, connection: Connection) -> None:
        """Look through all of it, within a transaction, which fails where it is damaged."""
        ...

    def exists(self) -> bool:
        """Return whether a ledger was begun here, whole, damaged or gone; none is made.

        Raises:
            LedgerError: that cannot be looked at.
        """
        ...

    @property
    def place(self) -> str:
        """Where it lies, as the user is told it."""
        ...

    def findings(self) -> Iterator[Finding]:
        """Yield how the place of a whole ledger is, and what is wrong with it."""
        ...
