"""What a storage says when it refuses, and whether a fresh URL can help."""

from collections.abc import AsyncIterator, Callable

import pytest

from sync_mcp.api import storage
from sync_mcp.api.http import Transport
from sync_mcp.errors import APIResponseError

from .conftest import KEY
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

Serve = Callable[..., RawServer]


async def _refused(url: str) -> APIResponseError:
    async def body() -> AsyncIterator[bytes]:
        yield b"film"

    transport = Transport(api_key=KEY, base_url=url, timeout_seconds=5, max_retries=0)
    try:
        with pytest.raises(APIResponseError) as caught:
            await storage.put(transport, f"{url}/put", body(), size=4, content_type="video/mp4")
    finally:
        await transport.aclose()
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "RequestTimeout", True),
        (400, "EntityTooLarge", False),
        (403, "AccessDenied", True),
        (404, "NoSuchBucket", False),
        (503, "SlowDown", True),
    ],
)
async def test_a_refusal_names_the_storages_code_and_says_whether_a_fresh_url_can_help(
    serve: Serve, status: int, code: str, retryable: bool
) -> None:
    xml = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    error = await _refused(serve(answer(status, xml, kind="application/xml")).url)
    assert error.message == f"The storage at 127.0.0.1 refused the PUT: HTTP {status} {code}."
    assert (error.code, error.status, error.retryable) == ("storage_refused", status, retryable)


async def test_a_refusal_without_a_code_names_the_status_alone(serve: Serve) -> None:
    error = await _refused(serve(answer(400, b"<Error>", kind="application/xml")).url)
    assert error.message == "The storage at 127.0.0.1 refused the PUT: HTTP 400."
    assert not error.retryable


async def test_a_storage_that_says_when_to_come_back_is_heard(serve: Serve) -> None:
    error = await _refused(serve(answer(503, b"", {"Retry-After": "7"})).url)
    assert error.retry_after_seconds == 7
