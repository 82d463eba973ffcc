"""Times as they are named: a year, a month, a day, or from one to another, in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import clean

_UNIT = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?)?")
_SHOWN = 60
_HOW = "such as 2026-10, 2026-10-31, 2026, or 2026-10-01/2026-10-15"


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` on, and before `end`."""

    start: datetime
    end: datetime


def read_period(text: str | None, now: datetime) -> Period:
    """Return the time that a text names; None names the month of `now`.

    The last day, month or year is in it, a time of day is not.

    Raises:
        InvalidRequestError: it names none, ends before it begins, or has not begun.
    """
    asked = (text or f"{now.astimezone(UTC):%Y-%m}").strip()
    first, slash, last = (part.strip() for part in asked.partition("/"))
    start, unit_end = _span(first, asked)
    end = _span(last, asked)[1] if slash else unit_end
    if not slash and start == end:
        raise InvalidRequestError(f"period: {_show(asked)} is a moment: name two, with / between.")
    if end <= start:
        raise InvalidRequestError(
            f"period: {_show(asked)} ends before it begins: name the earlier time first."
        )
    if start > now:
        raise InvalidRequestError(
            f"period: {_show(asked)} has not begun: it is {now.astimezone(UTC):%Y-%m-%dT%H:%MZ} (UTC)."
        )
    return Period(start, end)


def _span(text: str, asked: str) -> tuple[datetime, datetime]:
    """Return when what is named begins and ends; both are the same for a time of day."""
    found = _UNIT.fullmatch(text)
    try:
        if found is None:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            return moment, moment
        year, month, day = (int(found[name] or 0) for name in ("year", "month", "day"))
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        if day:
            return start, start + timedelta(days=1)
        months = year * 12 + (month if month else 12)
        return start, datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"period: {_show(asked)} names no time: write one {_HOW} (UTC).") from None


def _show(text: str) -> str:
    return repr(clean(text, _SHOWN))
