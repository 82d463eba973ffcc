"""The usage export: what the finished jobs of the whole organization cost (API §3.10)."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime

from pydantic import Field, JsonValue

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel, Figure, GenerationCost, ModelName, Moment
from sync_mcp.api.moments import between
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIResponseError, InvalidRequestError

USAGE_PAGE_LIMIT = 500
"""Most rows that one page of the export holds."""


class UsageItem(GenerationCost):
    """A job that has ended, and its cost as far as the API has recorded it; every field may be missing."""

    created_at: Moment | None = None
    finished_at: Moment | None = None
    model: ModelName | None = None
    billed_frames: Figure | None = None
    api_key: JsonValue = None
    """The key that made it, as the API tells of it; never the key itself."""

    @property
    def api_key_name(self) -> str | None:
        """The name of the key that made it, where the API tells one."""
        told = self.api_key.get("name") if isinstance(self.api_key, dict) else self.api_key
        return told if isinstance(told, str) else None


class UsagePage(CamelModel):
    """A page of ended jobs, oldest first; `next_cursor` asks for the next one, and is None on the last."""

    items: list[UsageItem] = Field(default_factory=list[UsageItem])
    next_cursor: str | None = None
    unreadable: int = Field(default=0, exclude=True)
    """Entries of the API's that are no rows, and are left out."""
    lacks_cursor: bool = Field(default=False, exclude=True)
    """Whether there seems to be a next page that cannot be asked for: its cursor is missing, or no string."""


class Usage:
    """What the account has used; reached as `AsyncSync.usage`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def generations(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        limit: int = 100,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> UsagePage:
        """Return one page of the jobs that ended from `start_time` on and before `end_time`, and their costs.

        A time without a zone is in UTC. `limit` runs from 1 to 500. `cursor` is the `next_cursor` of the page
        before. The API usually knows a cost within ten minutes of a job's end. Not every organization has
        this export.

        Raises:
            NotFoundError, PermissionDeniedError: this organization has no export.
        """
        if not 1 <= limit <= USAGE_PAGE_LIMIT:
            raise InvalidRequestError(f"limit must lie between 1 and {USAGE_PAGE_LIMIT}.")
        query = between("startTime", start_time, "endTime", end_time) | {"limit": str(limit)}
        if cursor:
            query["cursor"] = cursor
        reply = await self._transport.read(
            Call("GET", "/v2/usage/generations", query=query, is_list=True), request_options
        )
        items, unreadable = reply.read_list(UsageItem, "usage export", under="items")
        page = UsagePage.from_wire({**reply.fields, "items": items, "unreadable": unreadable})
        page.lacks_cursor = page.next_cursor is None and _names_next_page(reply.fields)
        return page

    async def generation_pages(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        limit: int = 100,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> AsyncGenerator[UsagePage]:
        """Yield page after page of what `generations` returns, each fetched when it is asked for.

        Raises:
            SyncError: as `generations`.
            APIResponseError: it cannot be read to its end: a cursor is missing, or brings nothing new.
        """
        seen: set[str] = set()
        while True:
            page = await self.generations(
                start_time, end_time, limit=limit, cursor=cursor, request_options=request_options
            )
            yield page
            if page.lacks_cursor:
                raise APIResponseError("The API's usage export has more pages, and names no way to them.")
            if page.next_cursor is None:
                return
            rows = {item.generation_id or item.model_dump_json() for item in page.items}
            # An API that repeats its pages would otherwise be read for ever, whatever cursors it names.
            if rows <= seen or page.next_cursor == cursor:
                raise APIResponseError("The API's usage export repeats itself, and does not come to an end.")
            seen |= rows
            cursor = page.next_cursor


def _names_next_page(fields: Mapping[str, object]) -> bool:
    """Return whether an answer that has no readable cursor tells of a next page all the same."""
    cursors = (fields.get("nextCursor"), fields.get("next_cursor"))
    has_more = (fields.get("hasMore"), fields.get("has_more"))
    return any(cursor not in (None, "") for cursor in cursors) or True in has_more
