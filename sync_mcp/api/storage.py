"""Files to and from storages, which the API names by signed URLs: they never get the key."""

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from urllib.parse import urljoin

import anyio

from sync_mcp.api.http import OpenReply, Transport
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.public_hosts import host_of, url_refusal
from sync_mcp.api.retry import Budget, may_pass, retry_after
from sync_mcp.errors import APIResponseError, APITimeoutError

_STORAGE_SECONDS = 60.0
"""How long a storage may say nothing, or take nothing of what is sent."""
_SLOWEST_BYTES_PER_SECOND = 16 * 1024
_REDIRECTS = 5
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")
_CODE_WITHIN_BYTES = 4096


async def read_chunks(answer: OpenReply, size: int) -> AsyncGenerator[bytes]:
    """Yield the body that a storage sends, `size` bytes at most.

    Raises:
        APITimeoutError, APIResponseError: it broke off or came too slowly, or is longer than `size`.
    """
    received = 0
    ends_at = anyio.current_time() + _transfer_seconds(size)
    async with aclosing(answer.chunks()) as body:
        async for chunk in body:
            received += len(chunk)
            if received > size:
                raise _without_retry(APIResponseError(f"{answer.host} sends more than was announced."))
            if anyio.current_time() > ends_at:
                raise APITimeoutError(f"{answer.host} sends too slowly.")
            yield chunk


def transfer_budget(transport: Transport, options: RequestOptions | None) -> Budget:
    """Return the tries of a transfer, which may last as long as it goes on.

    Raises:
        InvalidRequestError: as `Transport.budget`.
    """
    return Budget(
        {"timeout_in_seconds": math.inf},
        timeout_seconds=math.inf,
        max_retries=transport.budget(options).retries_left,
        longest_pause_seconds=_STORAGE_SECONDS,
    )


async def put(
    transport: Transport, url: str, body: AsyncIterator[bytes], *, size: int, content_type: str
) -> None:
    """Send a body of `size` bytes to a signed URL, once, without the key; no redirect is followed.

    What `body` raises comes out as it is, and then the storage has not got the whole.

    Raises:
        APIConnectionError: nothing was sent.
        APITimeoutError, APIResponseError: it broke off; or the storage refused, and then the error has a
            status. `retryable` says whether a fresh URL can help.
    """
    headers = {"content-type": content_type, "content-length": str(size)}
    with anyio.move_on_after(_transfer_seconds(size)):
        reply = await transport.send_without_key("PUT", url, headers, body, silence_seconds=_STORAGE_SECONDS)
        try:
            if not 200 <= reply.status < 300:
                raise await _refusal("PUT", reply)
        finally:
            await reply.aclose()
        return
    raise APITimeoutError(f"{host_of(url)} takes the file too slowly.")


@asynccontextmanager
async def download(
    transport: Transport, url: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[OpenReply]:
    """Get a URL without the key, its redirects too: of a public https host, or of the API's own.

    The answer has the status 200 for the whole file, 206 for the range that was asked for.

    Raises:
        APIConnectionError: nothing was sent.
        APITimeoutError, APIResponseError: no usable answer; a fresh URL can help if it is `retryable`.
    """
    wanted = {"accept-encoding": "identity", **(headers or {})}
    for _ in range(_REDIRECTS + 1):
        reply = None
        with anyio.move_on_after(_STORAGE_SECONDS):
            reply = await transport.send_without_key("GET", url, wanted, silence_seconds=_STORAGE_SECONDS)
        if reply is None:
            raise APITimeoutError(f"{host_of(url)} did not answer in {_STORAGE_SECONDS:.0f} s.")
        try:
            place = reply.headers.get("location")
            if reply.status in (301, 302, 303, 307, 308) and place:
                url = _join(url, place)
                continue
            if reply.status not in (200, 206):
                raise await _refusal("GET", reply)
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise _without_retry(APIResponseError(f"{reply.host} sends the file compressed."))
            yield reply
            return
        finally:
            await reply.aclose()
    raise _without_retry(APIResponseError(f"{host_of(url)} redirects without end."))


async def _refusal(method: str, reply: OpenReply) -> APIResponseError:
    code: str | None = None
    with suppress(APITimeoutError, APIResponseError):
        # Storages tell the reason in XML; the first piece of it is enough.
        async with aclosing(reply.chunks(_CODE_WITHIN_BYTES)) as pieces:
            found = _CODE.search(await anext(pieces, b""))
            code = found[1].decode() if found else None
    status = reply.status
    reason = f"HTTP {status} {code}" if code else f"HTTP {status}"
    error = APIResponseError(
        f"The storage at {reply.host} refused the {method}: {reason}.",
        status=status,
        code="storage_refused",
        retry_after_seconds=retry_after(reply.headers, {}),
    )
    # 403 is how a signature that is out of time is told, and RequestTimeout how a body that came too slowly.
    return error.advise(retryable=may_pass(status) or status == 403 or code == "RequestTimeout")


def _join(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError:
        raise url_refusal("", "is not a URL") from None


def _without_retry(error: APIResponseError) -> APIResponseError:
    return error.advise(retryable=False)


def _transfer_seconds(size: int) -> float:
    return _STORAGE_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
