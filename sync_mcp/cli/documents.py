"""What the command prints for programs: one JSON document, its money and times spelt in one way."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import JsonValue

from sync_mcp.cli.streams import print_text


def print_document(document: Mapping[str, JsonValue]) -> None:
    """Print one JSON document, the same wherever it goes to."""
    print_text(json.dumps(document, indent=2, ensure_ascii=False))


def money(amount: Decimal | None) -> str | None:
    """Return an amount of US dollars, exact and without an exponent; None where it is not known."""
    if amount is None:
        return None
    exact = f"{amount:f}"
    return exact.rstrip("0").rstrip(".") if "." in exact else exact


def timestamp(seconds: float | None) -> str | None:
    """Return a time, in seconds since 1970, by ISO 8601 in UTC, to the second; None where there is none."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
