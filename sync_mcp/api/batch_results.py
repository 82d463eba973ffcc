"""The result file of a batch: behind a redirect, a line of JSON for each row, in keys nobody documents."""

import json
from collections.abc import Mapping
from typing import Self, cast
from urllib.parse import urljoin, urlsplit

from pydantic import JsonValue, ValidationError

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.storage import download, read_chunks
from sync_mcp.errors import SyncError

_LARGEST_BYTES = 32 * 1024**2
_INNER = ("generation", "response", "result", "output")
"""Where the facts of a row may stand inside it."""
_SPELLINGS = {
    "request_id": ("request_id", "requestId", "custom_id"),
    "generation_id": ("generationId", "generation_id", "id"),
    "status": ("status", "generationStatus", "generation_status"),
    "output_url": ("outputUrl", "output_url", "outputMediaUrl", "output_media_url"),
    "error": ("error", "errorMessage", "error_message", "message"),
    "error_code": ("errorCode", "error_code"),
}


class BatchResult(CamelModel):
    """What became of a row."""

    request_id: str = ""
    """What the caller calls it."""
    status: str = "UNKNOWN"
    """As of a generation."""
    generation_id: str | None = None
    """None where no generation was made of it."""
    output_url: str | None = None
    """Signed, and good for a while."""
    error: str | None = None
    error_code: str | None = None

    @classmethod
    def read(cls, line: Mapping[str, object]) -> Self:
        """Read a line of the file, whatever it calls its fields."""
        inner = [line[name] for name in _INNER if isinstance(line.get(name), Mapping)]
        facts = {name: value for one in inner for name, value in cast(Mapping[str, object], one).items()}
        facts |= {name: value for name, value in line.items() if name != "id" or "id" not in facts}
        read: dict[str, object] = {}
        for name, spellings in _SPELLINGS.items():
            told = [facts[one] for one in spellings if facts.get(one) not in (None, "")]
            read[name] = told[0] if told else None
        failure = read["error"]
        if isinstance(failure, Mapping):
            known = cast(Mapping[str, JsonValue], failure)
            read["error"] = known.get("message") or known.get("error")
            read["error_code"] = read["error_code"] or known.get("code") or known.get("errorCode")
        texts = {name: str(value) for name, value in read.items() if value is not None}
        if "status" not in texts and ("output_url" in texts or "error" in texts):
            texts["status"] = "COMPLETED" if "output_url" in texts else "FAILED"
        texts["status"] = texts.get("status", "UNKNOWN").upper()
        return cls.model_validate(texts)

    def with_request_id(self, request_id: str) -> Self:
        """Return it by another `request_id`."""
        return self.model_copy(update={"request_id": request_id})


async def read_results(
    transport: Transport, output_url: str, options: RequestOptions
) -> tuple[list[BatchResult], int]:
    """Return the rows that an output URL of the API's tells of, and how many lines are unreadable.

    Where it is on the API's own host the key is sent there, and to no place that it leads to.

    Raises:
        APIStatusError, APIResponseError, APIConnectionError, APITimeoutError: they could not be had.
    """
    budget = transport.budget(options)
    while True:
        try:
            content = await _fetch(transport, output_url, options)
            break
        except SyncError as error:
            if not error.retryable or not await budget.pause(error.retry_after_seconds):
                raise
    results: list[BatchResult] = []
    unreadable = 0
    for line in filter(None, map(bytes.strip, content.splitlines())):
        try:
            results.append(BatchResult.read(cast(Mapping[str, object], _as_object(line))))
        except (ValueError, ValidationError):
            unreadable += 1
    return results, unreadable


def _as_object(line: bytes) -> object:
    value: object = json.loads(line)
    if not isinstance(value, Mapping):
        raise ValueError("it is no object")
    return cast(object, value)


async def _fetch(transport: Transport, url: str, options: RequestOptions) -> bytes:
    place, base = urlsplit(url), urlsplit(transport.base_url)
    if (place.scheme, place.netloc) == (base.scheme, base.netloc):
        path = f"{place.path}?{place.query}" if place.query else place.path
        call = Call("GET", path, plain=True, is_list=True)
        reply = await transport.send(call, transport.budget(options), options)
        if reply.ok and isinstance(reply.data, str):
            return reply.data.encode()
        led = reply.headers.get("location")
        if not (300 <= reply.status < 400 and led):
            raise transport.error_from(reply)
        url = urljoin(url, led)
    content = bytearray()
    async with download(transport, url) as answer:
        async for chunk in read_chunks(answer, _LARGEST_BYTES):
            content += chunk
    return bytes(content)
