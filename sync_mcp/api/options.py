"""What one call may set for itself."""

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import near


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
