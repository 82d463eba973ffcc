"""How much may be spent: the user's limits, and what stands against them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sync_mcp.api.models import HIGHEST_USD

_MOST_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Spending:
    """What the ledger holds for one account, in US dollars; reserved and unresolved money is in the sums."""

    today_usd: Decimal
    month_usd: Decimal
    ever_usd: Decimal
    reserved_usd: Decimal
    unresolved_usd: Decimal
    unresolved: int
    """Attempts whose outcome is unknown."""
    day_ends_at: datetime

    def without(self, counted_usd: Decimal, created_at: float) -> "Spending":
        """Return it without one attempt's money."""
        is_todays = created_at >= (self.day_ends_at - timedelta(days=1)).timestamp()
        return replace(
            self,
            ever_usd=self.ever_usd - counted_usd,
            today_usd=self.today_usd - (counted_usd if is_todays else 0),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be spent, in US dollars; None is no limit.

    Args:
        per_job_usd: on one job, by its estimate.
        per_day_usd: on the jobs of one day, UTC.
        ever_usd: on all jobs in the ledger.

    Raises:
        ValueError: a limit is negative, or no number.
    """

    per_job_usd: Decimal | None = None
    per_day_usd: Decimal | None = None
    ever_usd: Decimal | None = None

    def __post_init__(self) -> None:
        for limit in (self.per_job_usd, self.per_day_usd, self.ever_usd):
            if limit is not None and not 0 <= limit <= HIGHEST_USD:
                raise ValueError(f"a limit lies between 0 and {HIGHEST_USD} USD")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in (self.per_job_usd, self.per_day_usd, self.ever_usd))

    def refusal(self, estimate_usd: Decimal | None, spending: Spending) -> str | None:
        """Return why a job must not be sent, or None where no limit stands in its way."""
        if estimate_usd is None:
            return (
                "The price of this job is unknown, and with a limit set nothing of unknown price is sent. "
                "Give duration_seconds, or ask the user about the limits (SYNC_MCP_MAX_USD_PER_JOB, "
                "SYNC_MCP_BUDGET_USD_PER_DAY, SYNC_MCP_BUDGET_USD)."
                if self.any
                else None
            )
        for name, variable, limit, left in self._rules(spending):
            if estimate_usd > left:
                return (
                    f"The job would cost {dollars(estimate_usd)}, and of {name} of {dollars(limit)} "
                    f"({variable}) {dollars(max(left, Decimal(0)))} is left. Only the user can change it, in "
                    "the settings of the server."
                )
        return None

    def _rules(self, spending: Spending) -> Iterator[tuple[str, str, Decimal, Decimal]]:
        if self.per_job_usd is not None:
            yield "the limit for one job", "SYNC_MCP_MAX_USD_PER_JOB", self.per_job_usd, self.per_job_usd
        if self.per_day_usd is not None:
            left = self.per_day_usd - spending.today_usd
            ends = f"{spending.day_ends_at:%Y-%m-%dT%H:%MZ}"
            yield f"today's budget (until {ends})", "SYNC_MCP_BUDGET_USD_PER_DAY", self.per_day_usd, left
        if self.ever_usd is not None:
            yield "the budget", "SYNC_MCP_BUDGET_USD", self.ever_usd, self.ever_usd - spending.ever_usd

    def left_usd(self, spending: Spending) -> Decimal | None:
        """Return how much one more job may cost, or None where nothing limits it."""
        left = [left for _, _, _, left in self._rules(spending)]
        return max(min(left), Decimal(0)) if left else None


def reason_to_ask(
    usd: Decimal | None, above_usd: Decimal, *, take: int, note: str | None = None
) -> str | None:
    """Return why the user has to agree to a price, or None where they need not be asked.

    `note` says why a price is unknown.
    """
    if take > 1:
        return f"It is take {take}: the same thing is made and paid again."
    if usd is None:
        return f"The price is unknown{f': {note}' if note else '.'}"
    if usd > above_usd or above_usd == 0:
        return f"It costs more than {dollars(above_usd)}."
    return None


def dollars(amount: Decimal) -> str:
    """Return an amount as it is read: two places, or four where they matter."""
    exact = amount.quantize(_MOST_PLACES)
    shown = f"{exact:f}".rstrip("0").rstrip(".")
    places = len(shown.partition(".")[2])
    return f"{exact:.2f} USD" if places <= 2 else f"{shown} USD"


def utc_midnight(now: float) -> float:
    """Return when the day of a time began, UTC; times are seconds since 1970."""
    return now - now % 86_400


def next_utc_midnight(now: float) -> datetime:
    """Return when the day of a time ends, UTC."""
    return datetime.fromtimestamp(utc_midnight(now), UTC) + timedelta(days=1)


def start_of_month(now: float) -> float:
    """Return when the month of a time began, UTC."""
    return (
        datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    )
