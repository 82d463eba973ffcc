"""The usage export: what the jobs of an organization cost, page by page."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sync_mcp import (
    APIResponseError,
    AsyncSync,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    UsageItem,
    UsagePage,
)

from .raw_server import RawServer, Received, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]

PATH = "/v2/usage/generations"
START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 11, 2, tzinfo=UTC)
ROW = {
    "generationId": "g-1",
    "generationStatus": "COMPLETED",
    "currency": "USD",
    "availability": "complete",
    "totalCostUsd": "0.226",
    "knownSubtotalUsd": "0.226",
    "createdAt": "2026-11-01T09:30:00.000Z",
    "finishedAt": "2026-11-01T09:31:00.000Z",
    "model": "lipsync-2",
    "billedFrames": 113,
    "apiKey": {"id": "k-1", "name": "studio"},
}


def row(id: str) -> dict[str, object]:
    return {**ROW, "generationId": id}


def page(*items: object, cursor: object = None) -> Any:
    return answer(200, {"items": list(items), "nextCursor": cursor})


def queries(received: list[Received]) -> list[dict[str, str]]:
    asked = [urlsplit(one.target) for one in received]
    assert {one.path for one in asked} == {PATH}
    return [{name: values[0] for name, values in parse_qs(one.query).items()} for one in asked]


async def ids(client: AsyncSync, **more: Any) -> list[str | None]:
    pages = client.usage.generation_pages(START, END, **more)
    return [item.generation_id async for page in pages for item in page.items]


@both_backends
async def test_a_page_tells_of_each_job_what_it_cost_and_what_it_was(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(page(ROW, cursor="c-1"))
    told = await client_of(server).usage.generations(START, END, limit=500, cursor="c-0")
    (item,) = told.items
    assert (item.generation_id, item.generation_status, item.final_usd) == (
        "g-1",
        "COMPLETED",
        Decimal("0.226"),
    )
    assert item.finished_at == datetime(2026, 11, 1, 9, 31, tzinfo=UTC)
    assert (item.model, item.billed_frames, item.api_key_name) == ("lipsync-2", 113, "studio")
    assert (told.next_cursor, told.unreadable) == ("c-1", 0)
    (asked,) = queries(server.received)
    assert asked == {
        "startTime": "2026-11-01T00:00:00Z",
        "endTime": "2026-11-02T00:00:00Z",
        "limit": "500",
        "cursor": "c-0",
    }


async def test_times_go_out_in_utc_whatever_zone_they_are_in(serve: Serve, client_of: ClientOf) -> None:
    server = serve(page())
    east = timezone(timedelta(hours=2))
    await client_of(server).usage.generations(datetime(2026, 11, 1, 2), datetime(2026, 11, 1, 6, tzinfo=east))
    (asked,) = queries(server.received)
    assert (asked["startTime"], asked["endTime"]) == ("2026-11-01T02:00:00Z", "2026-11-01T04:00:00Z")


@pytest.mark.parametrize(
    ("start", "end", "limit", "fault"),
    [(END, START, 1, "before"), (START, START, 1, "before"), (START, END, 0, "1"), (START, END, 501, "500")],
)
async def test_a_time_or_a_limit_that_cannot_be_is_refused(
    serve: Serve, client_of: ClientOf, start: datetime, end: datetime, limit: int, fault: str
) -> None:
    server = serve(page())
    with pytest.raises(InvalidRequestError, match=fault):
        await client_of(server).usage.generations(start, end, limit=limit)
    assert server.connections == 0


async def test_a_row_of_which_little_can_be_read_is_a_row_and_what_is_none_is_counted(
    serve: Serve, client_of: ClientOf
) -> None:
    odd = {
        "generationId": "g-2",
        "totalCostUsd": "1e30",
        "billedFrames": -1,
        "finishedAt": "soon",
        "apiKey": 7,
        "news": [1],
    }
    server = serve(page(odd, {}, "g-3", None, {"apiKey": "studio"}, cursor=5))
    told = await client_of(server).usage.generations(START, END)
    first, empty, named = told.items
    assert (first.generation_id, first.final_usd, first.charged) == ("g-2", None, "unknown")
    assert (first.billed_frames, first.finished_at, first.api_key_name) == (None, None, None)
    assert (first.model_extra or {})["news"] == [1]
    assert empty.generation_id is None
    assert named.api_key_name == "studio"
    assert (told.unreadable, told.next_cursor) == (2, None)


@pytest.mark.parametrize("body", [[], {"items": {}}, {"rows": []}, "none"])
async def test_an_export_that_is_no_list_is_an_error_and_not_an_empty_one(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError):
        await client_of(serve(answer(200, body))).usage.generations(START, END)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (403, PermissionDeniedError), (503, ServerError)]
)
async def test_an_organization_without_the_export_is_told_by_the_usual_error(
    serve: Serve, client_of: ClientOf, status: int, kind: type[Exception]
) -> None:
    client = client_of(serve(answer(status, {"message": "no"})))
    with pytest.raises(kind):
        await client.usage.generations(START, END)
    with pytest.raises(kind):
        await ids(client)


@both_backends
async def test_pages_are_read_to_the_end_and_none_that_is_not_asked_for(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(page(row("a"), row("b"), cursor="c-1"), page(row("c"), cursor="c-2"), page(row("d")))
    assert await ids(client_of(server), limit=2) == ["a", "b", "c", "d"]
    assert [asked.get("cursor") for asked in queries(server.received)] == [None, "c-1", "c-2"]
    server = serve(page(row("a"), cursor="c-1"))
    async with aclosing(client_of(server).usage.generation_pages(START, END, cursor="c-0")) as pages:
        first = await anext(pages)
    assert isinstance(first, UsagePage)
    assert isinstance(first.items[0], UsageItem)
    assert [asked.get("cursor") for asked in queries(server.received)] == ["c-0"]


@pytest.mark.parametrize("more", [{"nextCursor": 5}, {"next_cursor": [1]}, {"hasMore": True}])
async def test_a_next_page_that_cannot_be_asked_for_is_an_error_and_not_the_end(
    serve: Serve, client_of: ClientOf, more: dict[str, object]
) -> None:
    server = serve(*[answer(200, {"items": [row("a")], **more})] * 2)
    client = client_of(server)
    assert (await client.usage.generations(START, END)).lacks_cursor
    with pytest.raises(APIResponseError, match="more pages"):
        await ids(client)


@pytest.mark.parametrize("end", [{}, {"nextCursor": None}, {"nextCursor": ""}, {"hasMore": False}])
async def test_a_page_that_names_no_next_one_is_the_last(
    serve: Serve, client_of: ClientOf, end: dict[str, object]
) -> None:
    server = serve(answer(200, {"items": [row("a")], **end}))
    assert await ids(client_of(server)) == ["a"]


@pytest.mark.parametrize(
    "answers",
    [
        [page(row("a"), cursor="c-1"), page(row("b"), cursor="c-1")],
        [page(row("a"), cursor="c-1"), page(row("b"), cursor="c-2"), page(row("a"), cursor="c-1")],
        [page(row("a"), cursor="c-1"), page(row("b"), cursor="c-2"), page(row("b"), cursor="c-3")],
        [page(row("a"), {}, cursor="c-1"), page(row("b"), cursor="c-2"), page({}, cursor="c-3")],
        [page(row("a"), cursor="c-1"), page(row("b"), cursor="c-2"), page(cursor="c-3")],
    ],
    ids=["the same cursor", "a circle of cursors", "the same rows", "the same row without an id", "no rows"],
)
async def test_an_api_that_repeats_itself_is_not_read_for_ever_nor_taken_for_whole(
    serve: Serve, client_of: ClientOf, answers: list[Any]
) -> None:
    server = serve(*answers)
    seen: set[str | None] = set()

    async def read_all() -> None:
        async for page in client_of(server).usage.generation_pages(START, END):
            seen.update(item.generation_id for item in page.items)

    with pytest.raises(APIResponseError, match="repeats itself"):
        await read_all()
    assert seen - {None} == {"a", "b"}
    assert server.connections == len(answers)
