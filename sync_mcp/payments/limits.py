"""How much may be spent: the user's limits, and what stands against them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from sync_mcp.api.models import HIGHEST_USD
from sync_mcp.errors import LimitReached, SyncError

_MOST_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Spent:
    """What stands against the limits, in US dollars; reserved and unresolved money is in the sums."""

    today_usd: Decimal
    month_usd: Decimal
    ever_usd: Decimal
    day_ends_at: datetime

    def without(self, counted_usd: Decimal, created_at: float) -> "Spent":
        """Return it without one attempt's money."""
        today = (self.day_ends_at - timedelta(days=1)).timestamp()
        # What a clock that ran far ahead has written is in the sum of no day.
        is_believed = created_at < last_believed(today)
        of_today = counted_usd if is_believed and created_at >= today else Decimal(0)
        of_month = counted_usd if is_believed and created_at >= start_of_month(today) else Decimal(0)
        return Spent(
            self.today_usd - of_today,
            self.month_usd - of_month,
            self.ever_usd - counted_usd,
            self.day_ends_at,
        )


@dataclass(frozen=True, slots=True)
class Spending(Spent):
    """What the ledger holds for one account or one kind of money, in US dollars.

    Reserved is what counts by an estimate: of jobs that are open, or have ended at a cost not known yet.
    """

    reserved_usd: Decimal
    unresolved_usd: Decimal
    unresolved: int
    """Attempts whose outcome is unknown."""


LimitName = Literal["per_job_usd", "per_day_usd", "ever_usd"]
"""The fields of `Limits`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit, and what is left of it."""

    name: LimitName
    limit_usd: Decimal
    left_usd: Decimal
    """At least 0; of a limit for one job it is always the whole."""
    until: datetime | None
    """When it begins anew, or None where it never does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be spent, in US dollars; None is no limit.

    Args:
        per_job_usd: on one job, by its estimate.
        per_day_usd: on the jobs of one day, UTC.
        ever_usd: on all jobs in the ledger.

    Raises:
        TypeError: a limit is no Decimal: a float would not be the amount that it is written as.
        ValueError: a limit is negative, too high, or no number.
    """

    per_job_usd: Decimal | None = None
    per_day_usd: Decimal | None = None
    ever_usd: Decimal | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is None:
                continue
            if not isinstance(limit, Decimal):
                raise TypeError(
                    f"Limits.{name} must be a Decimal of US dollars, such as Decimal('2.50'), "
                    f"not {type(limit).__name__} {limit!r}."
                )
            if not (limit.is_finite() and 0 <= limit <= HIGHEST_USD):
                raise ValueError(f"Limits.{name} must lie between 0 and {HIGHEST_USD} USD, not at {limit}.")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self != Limits()

    @property
    def has_budget(self) -> bool:
        """Whether there is a limit to what jobs cost together."""
        return replace(self, per_job_usd=None).any

    def standings(self, spent: Spent) -> list[Standing]:
        """Return each limit that is set, with what is left of it."""
        every: tuple[tuple[LimitName, Decimal | None, Decimal, datetime | None], ...] = (
            ("per_job_usd", self.per_job_usd, Decimal(0), None),
            ("per_day_usd", self.per_day_usd, spent.today_usd, spent.day_ends_at),
            ("ever_usd", self.ever_usd, spent.ever_usd, None),
        )
        return [
            Standing(name, limit, max(limit - counted, Decimal(0)), until)
            for name, limit, counted, until in every
            if limit is not None
        ]

    def refusal(self, price_usd: Decimal | None, spent: Spent) -> LimitReached | None:
        """Return why a job must not be sent, or None where no limit stands in its way."""
        if price_usd is None:
            if not self.any:
                return None
            return LimitReached(
                "The price of the job is unknown, and with a limit set nothing of unknown price is sent.",
                next_step="Make it of media that the API can price, or without limits.",
            )
        return _refusal_among(self.standings(spent), price_usd, "The job")

    def refusal_of_all(self, total_usd: Decimal, spent: Spent) -> LimitReached | None:
        """Return which budget several jobs would pass together, or None where none stands in their way."""
        return _refusal_among(self._budgets(spent), total_usd, "The jobs")

    def sum_left(self, spent: Spent) -> Decimal | None:
        """Return what the budgets leave for all further jobs, or None where there is none."""
        return min((budget.left_usd for budget in self._budgets(spent)), default=None)

    def _budgets(self, spent: Spent) -> list[Standing]:
        return [limit for limit in self.standings(spent) if limit.name != "per_job_usd"]


def call_refusal(price_usd: Decimal | None, max_cost_usd: Decimal) -> LimitReached | None:
    """Return why a job is more than its own call allows, or None where it is not."""
    if price_usd is not None and price_usd <= max_cost_usd:
        return None
    known = "is unknown" if price_usd is None else f"is {dollars(price_usd)}"
    return LimitReached(
        f"The price {known}, and max_cost_usd of this call is {dollars(max_cost_usd)}.",
        limit="max_cost_usd",
        limit_usd=max_cost_usd,
        left_usd=max_cost_usd,
        price_usd=price_usd,
    )


def refusal_of_unpriced(noun: str) -> LimitReached:
    """Return why a thing is not sent for which the API publishes no price, where there are limits."""
    return LimitReached(
        f"The API publishes no price for a {noun}, and with a limit set nothing of unknown price is sent.",
        next_step="Give the guard unpriced_usd: it says what to hold for each.",
        is_unpriced=True,
    )


def until_priced(refusal: LimitReached, fault: SyncError) -> LimitReached:
    """Return the refusal of a price that asking failed for: where the failure may pass, it may pass too."""
    if fault.retryable:
        refusal.retry_after_seconds = fault.retry_after_seconds
        told = "Call again later: the API could not tell the price now."
        refusal.advise(retryable=True, next_step=told)
    return refusal


def _refusal_among(limits: Sequence[Standing], price_usd: Decimal, what: str) -> LimitReached | None:
    """Return which of these limits `what` would pass at a price, or None where none stands in its way."""
    reached = [limit for limit in limits if price_usd > limit.left_usd]
    # One that begins anew is no reason to wait where another never does.
    limit = min(reached, key=lambda limit: limit.until is not None, default=None)
    if limit is None:
        return None
    until = f" until {minute(limit.until)}" if limit.until else ""
    left = f", of which {dollars(limit.left_usd)} is left{until}" if limit.name != "per_job_usd" else ""
    amount = dollars(limit.limit_usd)
    return LimitReached(
        f"{what} would cost {dollars(price_usd)}, and Limits.{limit.name} is {amount}{left}.",
        limit=limit.name,
        limit_usd=limit.limit_usd,
        left_usd=limit.left_usd,
        until=limit.until,
        price_usd=price_usd,
        what=what,
    )


def dollars(amount: Decimal) -> str:
    """Return an amount as it is read: two places, or four where they matter."""
    exact = amount.quantize(_MOST_PLACES)
    shown = f"{exact:f}".rstrip("0").rstrip(".")
    places = len(shown.partition(".")[2])
    return f"{exact:.2f} USD" if places <= 2 else f"{shown} USD"


def minute(moment: datetime) -> str:
    """Return a time as it is read, to the minute, UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def utc_midnight(now: float) -> float:
    """Return when the day of a time began, UTC; times are seconds since 1970."""
    return now - now % 86_400


def next_utc_midnight(now: float) -> datetime:
    """Return when the day of a time ends, UTC."""
    return datetime.fromtimestamp(utc_midnight(now), UTC) + timedelta(days=1)


def last_believed(now: float) -> float:
    """Return up to when a day is believed: what lies beyond tomorrow was written by a clock far ahead."""
    return utc_midnight(now) + 2 * 86_400


def start_of_month(now: float) -> float:
    """Return when the month of a time began, UTC."""
    return (
        datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    )
