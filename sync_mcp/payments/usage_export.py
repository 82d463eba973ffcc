"""Reading the API's export of an account's finished jobs: a page of it, or all since a time."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.usage import USAGE_PAGE_LIMIT, UsageItem, UsagePage
from sync_mcp.errors import APIResponseError, APIStatusError, SyncError
from sync_mcp.payments.settling_pace import NO_EXPORT_APART_SECONDS, SettledAccount

logger = logging.getLogger("sync_mcp.payments")

EXPORT_TOLERANCE = timedelta(hours=1)
"""By so much the times in the export may differ from the API's `Date`, as those in its list may."""
EXPORT_RETRY_SECONDS = 30.0
"""After so long the export is asked again, where it could not be read and the API named no time."""
_PAGES = 20
"""So many pages are read before a create is sent again: 10,000 jobs."""
_SECONDS = 8.0
"""The longest that this reading takes."""
_NO_EXPORT = frozenset({403, 404, 405, 410, 501})
"""By these an API says that it has no export; a gateway may say so too, for a moment."""


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why an attempt is not sent now, as the end of a sentence."""

    why: str
    retry_after_seconds: float | None = None
    """When that may be over, where it is known."""


async def read_page(
    account: SettledAccount,
    sync: AsyncSync,
    since: datetime,
    cursor: str | None,
    options: RequestOptions,
) -> UsagePage | None:
    """Return a page of the jobs that finished since a time; None where the API says that it has no export.

    Raises:
        SyncError: it cannot be read now.
    """
    try:
        page = await sync.usage.generations(
            since,
            sync.api_time + EXPORT_TOLERANCE,
            limit=USAGE_PAGE_LIMIT,
            cursor=cursor,
            request_options=options,
        )
    except SyncError as error:
        logger.warning("the export of finished jobs cannot be read: %s", error)
        has_status = isinstance(error, APIStatusError | APIResponseError)
        if not has_status or error.status not in _NO_EXPORT:
            raise
        account.note_export(is_denied=True)
        return None
    account.note_export(is_denied=False)
    return page


async def read_all_since(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> Sequence[UsageItem] | Hindrance:
    """Return the jobs that finished since a time, or why they are not known.

    The export is read to its end; where the API has none there are no such jobs.
    """
    if not account.has_export:
        return ()
    with anyio.move_on_after(_SECONDS):
        return await _read_to_its_end(account, sync, since - EXPORT_TOLERANCE, options)
    return _cannot_tell("cannot be read to its end in time")


async def _read_to_its_end(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> Sequence[UsageItem] | Hindrance:
    rows: list[UsageItem] = []
    cursors: list[str | None] = [None]
    while len(cursors) <= _PAGES:
        try:
            page = await read_page(account, sync, since, cursors[-1], options)
        except SyncError as error:
            return _cannot_tell("cannot be read now", error.retry_after_seconds)
        if page is None:
            if not account.has_export:
                return ()
            return _cannot_tell("is not there now", NO_EXPORT_APART_SECONDS + 1)
        if page.unreadable:
            return _cannot_tell("has a row that cannot be read")
        rows += page.items
        if page.lacks_cursor:
            return _cannot_tell("has a next page whose cursor cannot be read")
        if page.next_cursor is None:
            return rows
        if page.next_cursor in cursors:
            return _cannot_tell("repeats itself")
        cursors.append(page.next_cursor)
    return Hindrance(f"the API's export of finished jobs has more than {_PAGES} pages")


def _cannot_tell(how: str, retry_after_seconds: float | None = None) -> Hindrance:
    """Return that the export cannot tell for now."""
    seconds = math.ceil(retry_after_seconds or EXPORT_RETRY_SECONDS)
    return Hindrance(f"the API's export of finished jobs {how}", seconds)
