"""The money of each day: what the API charged, on the day on which it was asked to."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sync_mcp.sandbox import Charge, RecordedRequest

BETWEEN_DAYS = timedelta(seconds=3)
"""What is sent so near to midnight may count on either day: the API's Date tells whole seconds, and the
request takes its time."""
_DAY = timedelta(days=1)


def over_days(
    charges: Sequence[Charge], creates: Sequence[RecordedRequest], budgets: Mapping[date, Decimal]
) -> Iterator[str]:
    """Yield each day, or two days in a row, whose charges pass their budget."""
    certain: defaultdict[date, Decimal] = defaultdict(Decimal)
    between: defaultdict[date, Decimal] = defaultdict(Decimal)
    sent = sent_at(charges, creates)
    for charge in charges:
        moment = sent[charge.generation_id]
        midnight = _nearest_midnight(moment)
        if abs(moment - midnight) <= BETWEEN_DAYS:
            between[midnight.date()] += charge.amount_usd
        else:
            certain[moment.date()] += charge.amount_usd
    for day, budget in sorted(budgets.items()):
        if certain[day] > budget:
            yield f"over budget on {day}: {certain[day]} USD of {budget} USD"
        following = day + _DAY
        both = certain[day] + between[following] + certain[following]
        if following in budgets and both > budget + budgets[following]:
            yield f"over budget on {day} and {following} together: {both} USD"


def sent_at(charges: Sequence[Charge], creates: Sequence[RecordedRequest]) -> dict[str, datetime]:
    """Return when each job was asked for, by the API's clock: it may be made a little later."""
    arrivals: defaultdict[str, list[datetime]] = defaultdict(list)
    for request in creates:
        arrivals[request.headers.get("idempotency-key", "")].append(request.at)
    return {
        charge.generation_id: max(
            (at for at in arrivals[charge.idempotency_key or ""] if at <= charge.at), default=charge.at
        )
        for charge in charges
    }


def _nearest_midnight(moment: datetime) -> datetime:
    shifted = moment.astimezone(UTC) + _DAY / 2
    return shifted.replace(hour=0, minute=0, second=0, microsecond=0)
