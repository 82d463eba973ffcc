"""What an error of a database means for who pays by it: what to do next, and whether it passes by itself."""

from sqlalchemy.exc import DBAPIError, TimeoutError as NoConnectionFree

from sync_mcp.errors import LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.texts import REASON_LIMIT, safe

_CALL_AGAIN = (
    "Make the same call again in a while; nothing was paid for. If it stays so, ask the user to look at the "
    "database of the ledger."
)
_LOOK_AT_SERVER = "Look whether the database's server runs, and whether this machine reaches it."
_PASSING = ("08", "40", "53", "57")
"""Classes of codes: of the connection, of transactions in each other's way, of room, of the server's end."""
_NOT_LET_IN = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
    "permission denied",
    "certificate",
    "does not support SSL",
    "not permitted to log in",
)
"""What is said to who cannot connect as they are: before they are connected no code is told."""


def error_of(error: Exception, place: str) -> LedgerError:
    """Return what is told of an error of the database at `place`."""
    if isinstance(error, NoConnectionFree):
        return _passing(f"More calls at once use the ledger in {place} than this process has room for.")
    original = (error.orig or error) if isinstance(error, DBAPIError) else error
    code: str | None = getattr(original, "sqlstate", None)
    reason = _reason_of(original)
    match code:
        case None if any(said in reason for said in _NOT_LET_IN):
            return LedgerError(
                f"The ledger in {place} does not let this machine in: {reason}.",
                to_user="Correct SYNC_MCP_DATABASE_URL, or what the server lets in.",
            )
        case "55P03" | "57014":
            return _passing(
                f"The ledger in {place} is in use by another process, which did not let go of it in time."
            )
        case "25P03":
            return _passing(f"This process stopped in a transaction, and the ledger in {place} let go of it.")
        case "25006":
            return _passing(
                f"The ledger in {place} can only be read: the server is a replica, or set so.",
                "Name the server that takes writes in SYNC_MCP_DATABASE_URL.",
            )
        case "42501":
            return LedgerError(
                f"The role in SYNC_MCP_DATABASE_URL may not do what the ledger in {place} needs: {reason}.",
                to_user=f"Grant it CREATE on the database; or run `{ledger_command('migrate')}` as a role "
                "that has that, and grant this one the use of the schema sync_mcp and of all in it.",
            )
        case "42P01" | "42703" | "3F000":
            return LedgerError(
                f"The ledger in {place} is not whole: {reason}.",
                to_user="Restore the database from a backup: without it, what was paid is not known.",
            )
        case "53100":
            return LedgerError(
                f"The ledger in {place} cannot be written: {reason}.",
                to_user="Make room on the server's disk. Nothing is paid for without the ledger.",
            )
        case None:
            return _passing(f"The ledger in {place} cannot be reached: {reason}.")
        case _ if code.startswith(_PASSING):
            return _passing(f"The ledger in {place} cannot be used for now: {reason}.")
        case _:
            return LedgerError(
                f"The ledger in {place} cannot be used: {reason}.",
                to_user="Look at the database. Nothing is paid for without the ledger.",
            )


def _passing(message: str, to_user: str = _LOOK_AT_SERVER) -> LedgerError:
    return LedgerError(message, to_user=to_user, next_step=_CALL_AGAIN).advise(retryable=True)


def _reason_of(error: BaseException) -> str:
    """Return what the server or the driver says, without the values that were at work."""
    diagnosis = getattr(error, "diag", None)
    said = getattr(diagnosis, "message_primary", None) or str(error)
    lines = [line.strip() for line in str(said).removeprefix("connection failed: ").splitlines()]
    # What may be the reason is for the user to find out.
    told = " ".join(line for line in lines if not line.startswith("Is the server running"))
    return safe(told or type(error).__name__, REASON_LIMIT).rstrip(".")
