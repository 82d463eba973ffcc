"""The ids that a caller gives, before they stand in a path."""

import re

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import plain_id

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_id(id: str, noun: str = "A generation") -> str:
    """Return an id that may stand in a path; `noun` says with its article what it is of.

    Raises:
        InvalidRequestError: it is none.
    """
    if not plain_id(id):
        raise InvalidRequestError(f"{noun} id has letters, digits, _ and - only: copy it whole.")
    return id


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID, as the API writes one."""
    return _UUID.fullmatch(text) is not None
