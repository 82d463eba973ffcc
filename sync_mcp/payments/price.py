"""What an act is likely to cost, and on whose word.

Only lengths that the API or this server measured make a price. What the caller says of a length is a hint: it
is shown, and a price that stands on it alone is unknown to consent and limits, or whoever calls would set it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sync_mcp.errors import SyncError
from sync_mcp.payments.limits import HIGHEST_USD


@dataclass(frozen=True, slots=True)
class Price:
    """What a job is likely to cost.

    Attributes:
        usd: None where nobody measured it.
        note: on what it stands, or why nobody knows it.
        duration_seconds: the length of the output that it is for, as measured.
        counted: the length and the frame rate that it is for, as they are read.
        frames: how many frames the API says it has.
        credits: what the API says it costs in credits.
        hint_usd: what it would cost by the length that the caller tells.
        fault: why the API did not tell the price, where asking it failed.
        hint_fault: why the API did not tell the hint, where asking it failed.
        assumptions: on what the API's figures rest.
    """

    usd: Decimal | None
    note: str | None = None
    duration_seconds: float | None = None
    counted: str | None = None
    frames: float | None = None
    credits: float | None = None
    hint_usd: Decimal | None = None
    fault: SyncError | None = None
    hint_fault: SyncError | None = None
    assumptions: Sequence[str] = ()


UNPRICED = Price(None)
"""Of what nobody has asked the price yet."""


def believable(usd: Decimal | None) -> Decimal | None:
    """Return a price, or None for one that no job has: then nobody knows it."""
    return usd if usd is not None and usd.is_finite() and 0 < usd <= HIGHEST_USD else None


def total_of(prices: Sequence[Price]) -> Price:
    """Return the price of several acts together: unknown where that of one is."""
    known = [price.usd for price in prices if price.usd is not None]
    unknown = len(prices) - len(known)
    if unknown:
        return Price(None, f"that of {unknown} of {len(prices)} is not known")
    return Price(sum(known, Decimal(0)))
