"""Times in a query of the API."""

from datetime import UTC, datetime

from pydantic.alias_generators import to_snake

from sync_mcp.errors import InvalidRequestError


def between(after: str, since: datetime | None, before: str, until: datetime | None) -> dict[str, str]:
    """Return the query for what lies between two times, under the names that the API has for them.

    A time without a zone is in UTC; None is no bound.

    Raises:
        InvalidRequestError: it ends before it begins.
    """
    moments = {after: _to_utc(since), before: _to_utc(until)}
    first, last = moments.values()
    if first is not None and last is not None and first >= last:
        raise InvalidRequestError(f"{to_snake(after)} must be before {to_snake(before)}.")
    return {name: format_moment(moment) for name, moment in moments.items() if moment is not None}


def _to_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def format_moment(moment: datetime) -> str:
    """Return a time as the API writes it, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
