"""Which ledger a command works on: a database that the settings name, or a file."""

from sync_mcp.errors import ConfigurationError, LedgerError
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.stores.sqlite_file import BUSY_SECONDS
from sync_mcp.settings import Settings


def open_ledger(settings: Settings, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> Ledger:
    """Return the ledger of the settings.

    Raises:
        ConfigurationError: what a database needs is not installed.
    """
    if settings.database_url is None:
        return Ledger(settings.home, read_only=read_only, busy_seconds=busy_seconds)
    url = settings.database_url.get_secret_value()
    return Ledger(database_url=url, read_only=read_only, busy_seconds=busy_seconds)


def check_usable(ledger: Ledger) -> LedgerError | None:
    """Begin the ledger in a database where there is none; return what stands against it for now, if anything.

    Raises:
        ConfigurationError: it cannot be used, and that will not pass.
    """
    if ledger.database is None:
        return None
    try:
        ledger.database.open()
    except LedgerError as error:
        if not error.retryable:
            raise ConfigurationError(error.message, next_step=error.to_user) from None
        return error
    return None
