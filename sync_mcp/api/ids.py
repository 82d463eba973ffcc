"""The ids that a caller gives, before they stand in a path."""

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import plain_id


def check_id(id: str, noun: str = "A generation") -> str:
    """Return an id that may stand in a path; `noun` says with its article what it is of.

    Raises:
        InvalidRequestError: it is none.
    """
    if not plain_id(id):
        raise InvalidRequestError(f"{noun} id has letters, digits, _ and - only: copy it whole.")
    return id
