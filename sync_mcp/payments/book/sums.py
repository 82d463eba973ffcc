"""Money: what stands against the limits, and what was paid unasked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
)

from sync_mcp.errors import LimitReached
from sync_mcp.payments.attempt import Attempt, Instant, MustAsk
from sync_mcp.payments.book.rules import DAY_SECONDS, Moment, Rules
from sync_mcp.payments.limits import (
    Spending,
    Spent,
    last_believed,
    next_utc_midnight,
    start_of_month,
    utc_midnight,
)
from sync_mcp.payments.rows import DAYS, ENTRIES, IS_ABANDONED, IS_UNRESOLVED, Entry, lease_times

UNASKED_SECONDS = 86_400.0
"""Over so long a time what was paid unasked is summed."""


@dataclass(frozen=True, slots=True)
class WrongDay:
    """A day, UTC, whose kept sum is not what its entries count together, in US dollars."""

    day: date
    is_sandbox: bool
    kept_usd: Decimal
    entries_usd: Decimal


class Sums(Rules):
    """What was spent, and what is held."""

    def sum_spent(self, *, is_sandbox: bool, now: Instant) -> Spent:
        """Return what stands against the limits, of all accounts: real money, or the sandbox's."""
        with self.store.reading() as connection:
            return sum_spent(connection, self._moment(connection, now), is_sandbox=is_sandbox)

    def spending(self, *, is_sandbox: bool = False, now: Instant | None = None) -> Spending:
        """Return what has been spent and what is held, by all accounts: real money, or the sandbox's."""
        with self.store.reading() as connection:
            moment = self._moment(connection, now)
            spent = sum_spent(connection, moment, is_sandbox=is_sandbox)
            pool = {"is_sandbox": is_sandbox, **lease_times(moment.clock)}
            opened = connection.execute(_OPEN_OF_POOL, pool).one()
            return _as_spending([spent.today_usd, spent.month_usd, spent.ever_usd, *opened], moment)

    def sum_unasked(self, *, is_sandbox: bool, now: Instant) -> Decimal:
        """Return what was paid within a day without anybody's consent, or is about to be."""
        with self.store.reading() as connection:
            return sum_unasked(connection, self._moment(connection, now), is_sandbox=is_sandbox)

    def sum_unasked_beyond(self, attempt: Attempt, entry: Entry) -> Decimal | None:
        """Return what was paid unasked within a day, where an attempt in doubt may not go out now without the
        user's yes; None where it may.
        """
        with self.store.reading() as connection:
            return sum_unasked_beyond(connection, attempt, entry, self._moment(connection, attempt.now))

    def accounts(self) -> list[tuple[str, str, Spending]]:
        """Return each account that has entries, its base URL, and what it has spent."""
        with self.store.reading() as connection:
            moment = self._moment(connection)
            return [
                (account, base_url, _spending_of_account(connection, account, base_url, moment))
                for account, base_url in connection.execute(_ACCOUNTS).all()
            ]

    def find_wrong_days(self) -> list[WrongDay]:
        """Return the days whose kept sums are not what their entries count, by reading all of these.

        There are none as long as the database keeps the sums: a file may be changed by something else.
        """
        with self.store.reading() as connection:
            return _find_wrong_days(connection)

    def sum_days_anew(self) -> list[WrongDay]:
        """Have the sum of each day be what its entries count; return the days where it was not."""
        with self.store.transaction() as connection:
            wrong = _find_wrong_days(connection)
            if wrong:
                connection.execute(delete(DAYS))
                connection.execute(insert(DAYS).from_select(DAYS.columns.keys(), _SUMS_OF_ENTRIES))
            return wrong


def sum_spent(connection: Connection, now: Moment, *, is_sandbox: bool) -> Spent:
    """Return what stands against the limits, by the sums of the days: every create asks."""
    days = {name: int(begins // DAY_SECONDS) for name, begins in _days(now).items()}
    counted = connection.execute(_SUMS_OF_DAYS, {"is_sandbox": is_sandbox, **days}).one()
    # The days have what was abandoned since; which that is, is a matter of the time.
    times = {**_days(now), **lease_times(now.clock)}
    abandoned = connection.execute(_ABANDONED_OF_POOL, {"is_sandbox": is_sandbox, **times}).one()
    today_usd, month_usd, ever_usd = (
        (amount or Decimal(0)) - (of_it or Decimal(0))
        for amount, of_it in zip(counted, abandoned, strict=True)
    )
    return Spent(today_usd, month_usd, ever_usd, next_utc_midnight(now.day_time))


def sum_unasked(connection: Connection, now: Moment, *, is_sandbox: bool) -> Decimal:
    """Return what was paid within a day without anybody's consent, or is about to be."""
    asked = {
        "is_sandbox": is_sandbox,
        "since": now.day_time - UNASKED_SECONDS,
        "latest_believed": now.day_time + DAY_SECONDS,
        **lease_times(now.clock),
    }
    return connection.execute(_UNASKED, asked).scalar() or Decimal(0)


def check_limits(connection: Connection, attempt: Attempt, now: Moment) -> None:
    """Refuse an attempt that would pass a limit.

    Raises:
        LimitReached: which one.
    """
    if attempt.limits.any:
        spent = sum_spent(connection, now, is_sandbox=attempt.is_sandbox)
        refusal = attempt.limits.refusal(attempt.price.usd, spent)
        if refusal is not None:
            raise refusal


def refusal_besides(
    connection: Connection, attempt: Attempt, entry: Entry, now: Moment
) -> LimitReached | None:
    """Return which limit stands against an attempt whose money an entry holds already, if any."""
    spent = sum_spent(connection, now, is_sandbox=attempt.is_sandbox)
    return attempt.limits.refusal(attempt.price.usd, spent.without(entry.counted_usd, entry.created_at))


def check_unasked(connection: Connection, attempt: Attempt, now: Moment) -> None:
    """Refuse an attempt that nobody agreed to where more would be paid unasked than the user lets.

    Raises:
        MustAsk: the user has to agree first.
    """
    if attempt.unasked_usd is None:
        return
    before = sum_unasked(connection, now, is_sandbox=attempt.is_sandbox)
    if attempt.price.usd is None or before + attempt.price.usd > attempt.unasked_usd:
        raise MustAsk(before)


def sum_unasked_beyond(connection: Connection, attempt: Attempt, entry: Entry, now: Moment) -> Decimal | None:
    """Return what was paid unasked within a day, where an attempt in doubt that goes out now would pass what
    may be; None where it may go. What it holds itself is in that sum, unless it is a day old.
    """
    most, price = attempt.unasked_usd, attempt.price.usd
    is_summed = now.day_time - UNASKED_SECONDS < entry.created_at <= now.day_time + DAY_SECONDS
    is_agreed = attempt.token is not None or attempt.is_agreed
    if not entry.is_unasked or is_summed or is_agreed or most is None:
        return None
    before = sum_unasked(connection, now, is_sandbox=attempt.is_sandbox)
    return before if price is None or before + price > most else None


def is_covered(connection: Connection, agreed_usd: Decimal | None, attempt: Attempt, now: Moment) -> bool:
    """Return whether what was agreed to holds for the price of now.

    Who agreed to an unknown price has not agreed to one that is known by now and would be asked about.
    """
    if agreed_usd is None:
        most = attempt.unasked_usd
        if attempt.price.usd is None or most is None:
            return True
        unasked = sum_unasked(connection, now, is_sandbox=attempt.is_sandbox)
        return unasked + attempt.price.usd <= most
    return attempt.price.usd is not None and attempt.price.usd <= agreed_usd


def _find_wrong_days(connection: Connection) -> list[WrongDay]:
    kept, counted = (_by_day(connection.execute(query).all()) for query in (_KEPT_SUMS, _SUMS_OF_ENTRIES))
    days = sorted(kept.keys() | counted.keys(), key=lambda key: (key[1], key[0]))
    nothing = Decimal(0)
    return [
        WrongDay(
            datetime.fromtimestamp(day * DAY_SECONDS, UTC).date(),
            is_sandbox,
            kept.get((is_sandbox, day), nothing),
            counted.get((is_sandbox, day), nothing),
        )
        for is_sandbox, day in days
        if kept.get((is_sandbox, day), nothing) != counted.get((is_sandbox, day), nothing)
    ]


def _by_day(sums: Sequence[Any]) -> Mapping[tuple[bool, int], Decimal]:
    return {(is_sandbox, day): counted_usd for is_sandbox, day, counted_usd in sums}


def _spending_of_account(connection: Connection, account: str, base_url: str, now: Moment) -> Spending:
    whose = {"account": account, "base_url": base_url, **_days(now), **lease_times(now.clock)}
    return _as_spending(connection.execute(_SUMS_OF_ACCOUNT, whose).one(), now)


def _days(now: Moment) -> dict[str, float]:
    """Return when the days begin that bound the sums."""
    return {
        "day": utc_midnight(now.day_time),
        "month": start_of_month(now.day_time),
        "believed_until": last_believed(now.day_time),
    }


def _as_spending(row: Sequence[Any], now: Moment) -> Spending:
    *sums, in_doubt = row
    today, month, ever, reserved, unresolved = (amount or Decimal(0) for amount in sums)
    return Spending(today, month, ever, next_utc_midnight(now.day_time), reserved, unresolved, in_doubt)


def _sum_where(condition: ColumnElement[bool]) -> ColumnElement[Decimal]:
    return func.sum(ENTRIES.c.counted_usd).filter(condition)


# Put together once: that takes longer than their running.
_OF_ACCOUNT = (ENTRIES.c.account == bindparam("account")) & (ENTRIES.c.base_url == bindparam("base_url"))
_OF_POOL = ENTRIES.c.is_sandbox == bindparam("is_sandbox")
# What a clock that ran far ahead has written belongs to no day that is known: a day later than tomorrow.
_IS_BELIEVED = ENTRIES.c.created_at < bindparam("believed_until")
_IS_TODAYS = (ENTRIES.c.created_at >= bindparam("day")) & _IS_BELIEVED
_IS_THIS_MONTHS = (ENTRIES.c.created_at >= bindparam("month")) & _IS_BELIEVED
# What has ended counts by its estimate too, until its cost is known; of a job that is gone that stays so.
_IS_BY_ESTIMATE = ENTRIES.c.cost_usd.is_(None) & (ENTRIES.c.state != "closed")
_OPEN_SUMS = (
    _sum_where(_IS_BY_ESTIMATE & ~IS_ABANDONED & ~IS_UNRESOLVED),
    _sum_where(IS_UNRESOLVED),
    func.count().filter(IS_UNRESOLVED),
)
_SUMS = (_sum_where(_IS_TODAYS), _sum_where(_IS_THIS_MONTHS), func.sum(ENTRIES.c.counted_usd))
_ABANDONED_OF_POOL = select(*_SUMS).where(_OF_POOL, IS_ABANDONED)
_OPEN_OF_POOL = select(*_OPEN_SUMS).where(_OF_POOL, _IS_BY_ESTIMATE)
_SUMS_OF_ACCOUNT = select(*_SUMS, *_OPEN_SUMS).where(_OF_ACCOUNT, ~IS_ABANDONED)
_IS_BELIEVED_DAY = DAYS.c.day < bindparam("believed_until")
_SUMS_OF_DAYS = select(
    func.sum(DAYS.c.counted_usd).filter((DAYS.c.day >= bindparam("day")) & _IS_BELIEVED_DAY),
    func.sum(DAYS.c.counted_usd).filter((DAYS.c.day >= bindparam("month")) & _IS_BELIEVED_DAY),
    func.sum(DAYS.c.counted_usd),
).where(DAYS.c.is_sandbox == bindparam("is_sandbox"))
_KEPT_SUMS = select(DAYS)
# A day as the database itself has it, which keeps the sums.
_DAYS_AND_PART = ENTRIES.c.created_at / DAY_SECONDS
_DAYS_CAST = cast(_DAYS_AND_PART, BigInteger)
# Some databases round up what others cut.
_DAY_OF_ENTRY = (_DAYS_CAST - case((_DAYS_CAST > _DAYS_AND_PART, 1), else_=0)).label("day")
_SUMS_OF_ENTRIES = select(ENTRIES.c.is_sandbox, _DAY_OF_ENTRY, func.sum(ENTRIES.c.counted_usd)).group_by(
    ENTRIES.c.is_sandbox, _DAY_OF_ENTRY.name
)
_UNASKED = select(func.sum(ENTRIES.c.counted_usd)).where(
    _OF_POOL,
    ENTRIES.c.is_unasked,
    ENTRIES.c.created_at > bindparam("since"),
    ENTRIES.c.created_at <= bindparam("latest_believed"),
    ~IS_ABANDONED,
)
_ACCOUNTS = (
    select(ENTRIES.c.account, ENTRIES.c.base_url).distinct().order_by(ENTRIES.c.account, ENTRIES.c.base_url)
)
