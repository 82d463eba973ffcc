"""What the routes share: who asks, what is in the query and the body, and how a file is sent."""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_mcp.sandbox.api.catalogue import Refusal, bare_refusal
from sync_mcp.sandbox.media.storage import StorageRefusal

INVALID_KEY = "sk_invalid"
Handler = Callable[[Request], Awaitable[Response]]

_NO_KEY = "Neither Cookie nor x-api-key header was given: one of them is needed"


def require_key(handler: Handler) -> Handler:
    """Let only requests with an API key through to `handler` (API §1.2)."""

    async def handle(request: Request) -> Response:
        key = request.headers.get("x-api-key", "")
        if not key.strip():
            raise bare_refusal(401, _NO_KEY)
        if key.strip() == INVALID_KEY:
            raise Refusal(401, {"message": "Unauthorized", "statusCode": 401})
        return await handler(request)

    return handle


def api_key(request: Request) -> str:
    """Return the key that a request came with."""
    return request.headers.get("x-api-key", "").strip()


async def json_body(request: Request) -> object:
    """Return the JSON body of a request.

    Raises:
        Refusal: 415 for another kind of body, 400 for one that is no JSON.
    """
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise bare_refusal(415, "The sandbox takes JSON bodies; upload files by POST /v2/assets/upload.")
    try:
        return cast(object, json.loads(await request.body()))
    except ValueError as error:
        raise bare_refusal(400, "The body is not valid JSON.") from error


def query_values(request: Request, name: str) -> list[str]:
    """Return the values of a query parameter: by commas, repeated, or as a JSON array (API §23.8)."""
    values: list[str] = []
    for text in request.query_params.getlist(name):
        if text.startswith("["):
            values += _json_strings(text, name)
        else:
            values += [part.strip() for part in text.split(",") if part.strip()]
    return values


def query_moment(request: Request, name: str) -> datetime | None:
    """Return a query parameter that is a time in UTC, or None where it is not given."""
    text = request.query_params.get(name)
    return None if text is None else read_moment(text, name)


def read_moment(text: str, name: str) -> datetime:
    """Return a time in UTC.

    Raises:
        Refusal: 400, it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise bare_refusal(400, [f"{name} must be a time in UTC such as 2026-11-02T09:30:00Z"])
    return moment


def _json_strings(text: str, name: str) -> list[str]:
    try:
        items = cast(object, json.loads(text))
    except ValueError as error:
        raise bare_refusal(400, [f"{name} must be a list"]) from error
    return [str(item) for item in cast(list[object], items)] if isinstance(items, list) else []


def page_limit(request: Request) -> int | None:
    """Return the query's `limit`, from 1 to 100.

    Raises:
        Refusal: 400 for another value, or a cursor without it.
    """
    text = request.query_params.get("limit")
    if text is None:
        if "cursor" in request.query_params:
            raise bare_refusal(400, ["cursor needs limit"])
        return None
    return whole_limit(text, 100)


def whole_limit(text: str, most: int) -> int:
    """Return a query's `limit`, from 1 to `most`.

    Raises:
        Refusal: 400 for another value.
    """
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= most:
        raise bare_refusal(400, [f"limit must be a whole number from 1 to {most}"])
    return int(text)


def page_start(request: Request, ids: list[str]) -> int:
    """Return the place in a list of these ids that the query's `cursor` points behind.

    Raises:
        Refusal: 400 for a cursor that is not in the list.
    """
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return 0
    if cursor not in ids:
        raise bare_refusal(400, ["cursor must be the one that the page before gives"])
    return ids.index(cursor) + 1


def refusal_answer(refusal: Refusal) -> Response:
    """Return the answer for a refusal."""
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def storage_refusal_answer(refusal: StorageRefusal) -> Response:
    """Return the answer of the storage for a refusal: XML, as object stores write it."""
    error = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    page = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
    return Response(page, refusal.status, media_type="application/xml")


def file_answer(request: Request, path: Path, media_type: str, file_name: str | None = None) -> Response:
    """Return a file, or the range of it that the request asks for unless `If-Range` names another content."""
    status = path.stat()
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"'}
    if file_name is not None:
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(file_name)}"
    size = status.st_size
    is_same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    wanted = _range(request.headers.get("range"), size) if is_same else None
    if wanted is None:
        return Response(path.read_bytes(), 200, headers, media_type)
    start, end = wanted
    if start >= end:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(status_code=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    with path.open("rb") as file:
        file.seek(start)
        return Response(file.read(end - start), 206, headers, media_type)


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def plain(text: str) -> Response:
    """Return bare text, as the download routes do."""
    return Response(text, media_type="text/plain")


def as_json(value: object, status: int = 200) -> JSONResponse:
    """Return a JSON answer."""
    return JSONResponse(value, status)
