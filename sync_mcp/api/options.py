"""What one call may set for itself."""

import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, TypedDict

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import near

IDEMPOTENCY_HEADER = "Idempotency-Key"
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class RequestOptions(TypedDict, total=False):
    """What one call may set for itself; the keys are those of the API's own SDK, and `idempotency_key`.

    `timeout_in_seconds` bounds the whole call with its retries, `max_retries` their number.
    `idempotency_key` (1 to 128 letters, digits and `. _ ~ -`) counts for a create alone.
    """

    timeout_in_seconds: float
    max_retries: int
    additional_headers: Mapping[str, Any]
    additional_query_parameters: Mapping[str, Any]
    additional_body_parameters: Mapping[str, Any]
    idempotency_key: str


_OPTION_NAMES = tuple(RequestOptions.__annotations__)


def check_options(options: RequestOptions) -> None:
    """Refuse options that are unknown or unusable.

    Raises:
        InvalidRequestError: one sentence for each fault.
    """
    faults = [
        f"request_options has no key {name!r}{near(name, _OPTION_NAMES)}"
        for name in options
        if name not in _OPTION_NAMES
    ]
    seconds = options.get("timeout_in_seconds", 1.0)
    if not (math.isfinite(seconds) and seconds > 0):
        faults.append("request_options.timeout_in_seconds must be more than 0.")
    if options.get("max_retries", 0) < 0:
        faults.append("request_options.max_retries must be 0 or more.")
    if faults:
        raise InvalidRequestError(faults)


def new_idempotency_key() -> str:
    """Return a key that no other create has."""
    return f"sync-mcp-{uuid.uuid4()}"


def take_idempotency_key(options: RequestOptions | None) -> tuple[str | None, RequestOptions]:
    """Return the one key that options give to a create, or None, and the options without it.

    It is taken out where a caller's options come in; from there on the key is an argument.

    Raises:
        InvalidRequestError: two different keys, or one that the API would refuse.
    """
    rest: RequestOptions = {**(options or RequestOptions())}
    headers = dict(rest.get("additional_headers", {}))
    given = [str(headers.pop(name)) for name in list(headers) if name.lower() == IDEMPOTENCY_HEADER.lower()]
    own = rest.pop("idempotency_key", None)
    if own is not None:
        given.append(own)
    if len(set(given)) > 1:
        raise InvalidRequestError("request_options names two different idempotency keys: keep one.")
    if given and not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise InvalidRequestError("An idempotency key has 1 to 128 letters, digits and . _ ~ -")
    if headers or "additional_headers" in rest:
        rest["additional_headers"] = headers
    return (given[0] if given else None), rest
