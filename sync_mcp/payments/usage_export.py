"""Reading the API's export of an account's finished jobs: a page of it, or all since a time."""

import logging
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
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


async def read_pages(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> AsyncGenerator[UsagePage]:
    """Yield page after page of the jobs that finished since a time, to the last.

    Raises:
        SyncError: it cannot be read to its end now; `has_no_export` tells whether there is none.
    """
    until = sync.api_time + EXPORT_TOLERANCE
    pages = sync.usage.generation_pages(since, until, limit=USAGE_PAGE_LIMIT, request_options=options)
    async with aclosing(pages):
        try:
            async for page in pages:
                account.note_export(is_denied=False)
                yield page
        except SyncError as error:
            logger.warning("the export of finished jobs cannot be read: %s", error)
            if has_no_export(error):
                account.note_export(is_denied=True)
            raise


async def read_first_page(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> Sequence[UsageItem]:
    """Return the first jobs that finished since a time, none where the export cannot be read."""
    async with aclosing(read_pages(account, sync, since, options)) as pages:
        with suppress(SyncError):
            async for page in pages:
                return page.items
    return ()


def has_no_export(error: SyncError) -> bool:
    """Return whether an API says by an error that it has no export, be it for a moment."""
    return isinstance(error, APIStatusError | APIResponseError) and error.status in _NO_EXPORT


async def read_all_since(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> Sequence[UsageItem] | Hindrance:
    """Return the jobs that finished since a time, or why they are not known.

    The export is read to its end; where the API has none there are no such jobs.
    """
    if not account.has_export:
        return ()
    with anyio.move_on_after(_SECONDS):
        try:
            return await _read_to_its_end(account, sync, since - EXPORT_TOLERANCE, options)
        except SyncError as error:
            if not has_no_export(error):
                return _cannot_tell("cannot be read to its end now", error.retry_after_seconds)
            return _cannot_tell("is not there now", NO_EXPORT_APART_SECONDS + 1) if account.has_export else ()
    return _cannot_tell("cannot be read to its end in time")


async def _read_to_its_end(
    account: SettledAccount, sync: AsyncSync, since: datetime, options: RequestOptions
) -> Sequence[UsageItem] | Hindrance:
    rows: list[UsageItem] = []
    number = 0
    async with aclosing(read_pages(account, sync, since, options)) as pages:
        async for page in pages:
            if page.unreadable:
                return _cannot_tell("has a row that cannot be read")
            rows += page.items
            number += 1
            if number == _PAGES and page.next_cursor is not None:
                return Hindrance(f"the API's export of finished jobs has more than {_PAGES} pages")
    return rows


def _cannot_tell(how: str, retry_after_seconds: float | None = None) -> Hindrance:
    """Return that the export cannot tell for now."""
    seconds = math.ceil(retry_after_seconds or EXPORT_RETRY_SECONDS)
    return Hindrance(f"the API's export of finished jobs {how}", seconds)
