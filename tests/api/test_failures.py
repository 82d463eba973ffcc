"""Every kind of bad answer is a typed error that keeps what the API said."""

import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from sync_mcp import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AsyncSync,
    AuthenticationError,
    ConcurrencyLimitError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SyncError,
)

from .conftest import KEY, trail
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


async def failure_of(client: AsyncSync) -> SyncError:
    with pytest.raises(SyncError) as caught:
        await client.models.list(request_options={"max_retries": 0})
    return caught.value


async def refusal_of(
    serve: Serve, client_of: ClientOf, status: int, body: Any, headers: Any = None
) -> APIStatusError:
    error = await failure_of(client_of(serve(answer(status, body, headers))))
    assert isinstance(error, APIStatusError)
    assert (error.status, error.money_spent) == (status, "no")
    return error


REFUSALS: list[tuple[int, dict[str, Any], type[APIStatusError]]] = [
    (401, {"message": "Either header must be provided", "error": "Unauthorized"}, AuthenticationError),
    (401, {"message": "Unauthorized", "statusCode": 401}, AuthenticationError),
    (400, {"message": ["a must be b", "c must be d"]}, RequestRejectedError),
    (400, {"message": "m", "errorCode": "invalid_generation_id"}, RequestRejectedError),
    (402, {"message": "m", "errorCode": "account_payment_required"}, PaymentRequiredError),
    (403, {"message": "m", "errorCode": "asset_forbidden"}, PermissionDeniedError),
    (404, {"message": "m", "error_code": "generation_not_found"}, NotFoundError),
    (404, {"message": "Cannot GET /v2/models", "error": "Not Found"}, NotFoundError),
    (409, {"message": "m", "errorCode": "generation_conflict"}, ConflictError),
    (413, {"message": "m", "errorCode": "generation_input_validation_failed"}, RequestRejectedError),
    (422, {"message": "m", "errorCode": "code_of_tomorrow"}, RequestRejectedError),
    (429, {"message": "m", "errorCode": "rate_limit_exceeded"}, RateLimitError),
    (429, {"message": "m", "errorCode": "concurrency_limit_reached"}, ConcurrencyLimitError),
    (429, {"message": "m", "errorCode": "batch_concurrency_limit_reached"}, ConcurrencyLimitError),
    (429, {"message": "Rate limit exceeded."}, RateLimitError),
    (429, {"message": "m", "concurrencyLimit": 3}, ConcurrencyLimitError),
    (429, {"message": "Concurrency limit reached."}, ConcurrencyLimitError),
    # The code decides, whatever the words say.
    (429, {"message": "concurrent calls", "errorCode": "rate_limit_exceeded"}, RateLimitError),
    (408, {"message": "m"}, ServerError),
    (418, {"message": "m", "errorCode": "teapot"}, ServerError),
    (500, {"message": "m", "errorCode": "internal_error"}, ServerError),
    (503, {"message": "m", "errorCode": "elevenlabs_service_unavailable"}, ServerError),
    (599, {}, ServerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
async def test_a_refusal_has_its_class_and_the_apis_code(
    serve: Serve, client_of: ClientOf, status: int, body: dict[str, Any], kind: type[SyncError]
) -> None:
    error = await refusal_of(serve, client_of, status, body)
    assert type(error) is kind
    assert error.api_code == body.get("errorCode", body.get("error_code"))
    # Whatever the API calls it: the word to branch on is ours.
    assert error.code == kind.code
    assert error.retryable == (status in (408, 418, 429, 500, 503, 599))
    assert error.next_step or kind is ConflictError


@both_backends
async def test_all_that_the_api_says_of_a_refusal_is_kept(serve: Serve, client_of: ClientOf) -> None:
    body = {
        "message": "You have too many generations in progress.",
        "errorCode": "concurrency_limit_reached",
        "suggestion": "Wait for in-flight generations to finish.",
        "field": "input[0].url",
        "requestId": "req_1",
        "activeGenerations": 3,
        "concurrencyLimit": 3,
        "retryAfterSeconds": 30,
    }
    error = await refusal_of(serve, client_of, 429, body)
    assert isinstance(error, ConcurrencyLimitError)
    assert (error.active_generations, error.concurrency_limit) == (3, 3)
    assert "3 jobs run, and the plan allows 3." in error.message
    assert error.api_says == f"{body['message']} {body['suggestion']}"
    assert str(error).endswith(f' The API says: "{error.api_says}" (concurrency_limit_reached)')
    assert error.suggestion == "Wait for in-flight generations to finish."
    assert error.next_step == ConcurrencyLimitError.next_step
    assert (error.field, error.request_id, error.retry_after_seconds) == ("input[0].url", "req_1", 30)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (["a must be b", "c must be d"], "a must be b; c must be d"),
        ([], ""),
        ("", ""),
        (None, ""),
        ({"deep": "er"}, ""),
        ("two\nlines\x1b[31m\u202e and\ttabs", "two lines and tabs"),
        (
            "see https://bucket.example/a.mp4?X-Amz-Signature=s3cret now",
            "see https://bucket.example/a.mp4?... now",
        ),
    ],
)
async def test_the_message_is_one_clean_line(
    serve: Serve, client_of: ClientOf, message: object, shown: str
) -> None:
    error = await refusal_of(serve, client_of, 400, {"message": message})
    assert error.api_says == shown
    assert error.message == "The API does not accept the request (HTTP 400)."


async def test_a_message_without_end_is_cut(serve: Serve, client_of: ClientOf) -> None:
    long = "x" * 1_000_000
    body = {"message": long, "suggestion": long, "errorCode": long, "field": long, "requestId": long}
    error = await refusal_of(serve, client_of, 400, body)
    told = (str(error), error.suggestion, error.api_says, error.api_code, error.field, error.request_id)
    assert all(text and len(text) < 800 for text in told)


@pytest.mark.parametrize(
    ("header", "in_body", "seconds"),
    [
        ("7", 30, 7),
        ("0.5", None, 0.5),
        ("-3", None, 0),
        (None, 30, 30),
        (None, "12", 12),
        ("soon", 30, 30),
        ("inf", None, None),
        ("nan", "nan", None),
        ("1e999", None, None),
        ("9" * 5000, None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None, None),
        ("21 Oct 99999 07:28:00 GMT", None, None),
        ("", None, None),
        (None, True, None),
        (None, [30], None),
        (None, 10**400, None),
        (None, None, None),
    ],
)
async def test_the_retry_time_is_read_from_the_header_else_from_the_body(
    serve: Serve, client_of: ClientOf, header: str | None, in_body: object, seconds: float | None
) -> None:
    body = {"message": "m", "retryAfterSeconds": in_body}
    headers = {} if header is None else {"Retry-After": header}
    error = await refusal_of(serve, client_of, 429, body, headers)
    assert error.retry_after_seconds == seconds


async def test_a_retry_time_may_be_a_date(serve: Serve, client_of: ClientOf) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    error = await refusal_of(serve, client_of, 503, {"message": "m"}, {"Retry-After": moment})
    assert error.retry_after_seconds == pytest.approx(85, abs=10)


UNREADABLE: dict[str, tuple[Answer, int | None]] = {
    "html": (answer(502, b"<html><h1>502 Bad Gateway</h1></html>", kind="text/html"), 502),
    "html that says 200": (answer(200, b"<html>Welcome to the hotel</html>", kind="text/html"), 200),
    "plain text": (answer(404, b"nothing here", kind="text/plain"), 404),
    "a list for an error": (answer(500, ["broken"]), 500),
    "a string for an error": (answer(400, "broken"), 400),
    "an object for a list": (answer(200, {"items": []}), 200),
    "strange models": (answer(200, [{"version": 2}]), 200),
    "an empty body": (answer(200, b""), 200),
    "no content": (Answer(b"HTTP/1.1 204 No Content\r\n\r\n"), 204),
    "not utf-8": (answer(200, b"\xff\xfe\xfd"), 200),
    "nested without end": (answer(200, b"[" * 1_000_000), 200),
    "a number without end": (answer(200, b"[" + b"9" * 10_000 + b"]"), 200),
    "cut in the body": (Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n[{"), None),
    "cut in a chunk": (Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[{"), None),
    "cut in the head": (Answer(b"HTTP/1.1 200 OK\r\nContent-Le"), None),
    "reset": (Answer(resets=True), None),
    "closed": (Answer(), None),
    "another protocol": (Answer(b"SSH-2.0-OpenSSH_9.9\r\n"), None),
    "a head without end": (Answer(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 0123456789\r\n" * 20_000), None),
    "not gzip": (answer(200, b"[]", {"Content-Encoding": "gzip"}), None),
    "too large": (answer(200, gzip.compress(bytes(80 * 1024**2)), {"Content-Encoding": "gzip"}), None),
    "cut short in gzip": (answer(200, gzip.compress(b"[]" * 99)[:-9], {"Content-Encoding": "gzip"}), None),
    "packed twice": (
        answer(200, gzip.compress(gzip.compress(b"[]")), {"Content-Encoding": "gzip, gzip"}),
        None,
    ),
    "packed as was not asked for": (
        answer(200, zlib.compress(b"[]"), {"Content-Encoding": "deflate"}),
        None,
    ),
}


@pytest.mark.parametrize(("given", "status"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_an_answer_that_is_not_the_apis_is_one_typed_error(
    serve: Serve, client_of: ClientOf, given: Answer, status: int | None
) -> None:
    server = serve(given)
    error = await failure_of(client_of(server))
    assert type(error) is APIResponseError
    assert (error.status, error.code, error.money_spent) == (status, "api_response_unreadable", "no")
    # A page with a plain 4xx stays what it is; all else may pass.
    assert error.retryable == (status not in (400, 404))
    assert "<h1>" not in str(error)
    assert len(str(error)) < 800


def padded(size: int) -> bytes:
    return b"[" + b" " * (size - 2) + b"]"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("is_list", "limit"), [(True, 8 * 1024**2), (False, 1024**2)])
async def test_an_answer_is_read_no_further_than_its_bound(
    serve: Serve, client_of: ClientOf, is_list: bool, limit: int, packed: bool
) -> None:
    def given(size: int) -> Answer:
        body = padded(size)
        return answer(200, gzip.compress(body), {"Content-Encoding": "gzip"}) if packed else answer(200, body)

    async def asked(client: AsyncSync) -> None:
        await (client.models.list() if is_list else client.account.get())

    with pytest.raises(APIResponseError, match=rf"longer than {limit:,} bytes"):
        await asked(client_of(serve(given(limit + 1))))
    with suppress(APIResponseError):
        await asked(client_of(serve(given(limit))))


async def test_an_answer_that_swells_is_unpacked_no_further_than_its_bound(
    serve: Serve, client_of: ClientOf
) -> None:
    packed = gzip.compress(padded(64 * 1024**2), compresslevel=1)
    swelling = answer(200, packed, {"Content-Encoding": "gzip"})
    client = client_of(serve(swelling))
    tracemalloc.start()
    try:
        with pytest.raises(APIResponseError, match="longer than 1,048,576 bytes"):
            await client.account.get()
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_key_is_not_sent_there(
    serve: Serve, client_of: ClientOf, status: int
) -> None:
    elsewhere = serve(answer(200, []))
    server = serve(answer(status, b"", {"Location": f"{elsewhere.url}/v2/models?token=s3cret"}))
    with pytest.raises(APIResponseError, match=r"redirects to 127\.0\.0\.1,") as caught:
        await client_of(server).models.list(request_options={"max_retries": 3})
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert "s3cret" not in str(caught.value)
    assert trail(server.received) == ["GET /v2/models"]
    assert elsewhere.connections == 0


@pytest.mark.parametrize("location", ["", "/v2/other", "http://[broken", "\\\\host"])
async def test_a_redirect_to_nowhere_is_told_too(serve: Serve, client_of: ClientOf, location: str) -> None:
    error = await failure_of(client_of(serve(answer(302, b"", {"Location": location}))))
    assert "redirects to another place" in str(error)


@pytest.mark.parametrize(
    "code", ["approval_required", "limit_reached", "read_only", "SANDBOX", "internal_error"]
)
async def test_what_the_api_calls_it_is_never_taken_for_a_word_of_ours(
    serve: Serve, client_of: ClientOf, code: str
) -> None:
    error = await refusal_of(
        serve, client_of, 422, {"message": "Pay.", "errorCode": code, "suggestion": "Go."}
    )
    assert (error.code, error.api_code) == ("request_rejected", code)
    assert error.next_step == RequestRejectedError.next_step
    assert (error.message, error.api_says) == ("The API does not accept the request (HTTP 422).", "Pay. Go.")


@both_backends
async def test_no_error_of_a_connection_holds_the_request_that_has_the_key(
    serve: Serve, client_of: ClientOf
) -> None:
    gone = RawServer([Answer()])
    gone.close()
    for server in (gone, serve(Answer(resets=True)), serve(Answer(hangs=True))):
        with pytest.raises(SyncError) as caught:
            await client_of(server, timeout=0.3).models.list(request_options={"max_retries": 0})
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@both_backends
async def test_a_refused_connection_says_that_nothing_was_sent(client_of: ClientOf) -> None:
    gone = RawServer([Answer()])
    gone.close()
    error = await failure_of(client_of(gone))
    assert type(error) is APIConnectionError
    assert (error.code, error.money_spent, error.retryable) == ("api_unreachable", "no", True)
    assert gone.url in str(error)


async def test_a_name_that_is_not_found_says_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with AsyncSync(api_key=KEY, base_url="http://localhost:1") as client:
        error = await failure_of(client)
    assert type(error) is APIConnectionError
    assert "Name or service not known" in str(error)


@both_backends
@pytest.mark.parametrize("given", [Answer(drips=True), Answer(hangs=True), Answer(reads=False, hangs=True)])
async def test_an_answer_that_drips_or_never_comes_ends_with_the_time_limit(
    serve: Serve, client_of: ClientOf, given: Answer
) -> None:
    client = client_of(serve(given))
    started = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        await client.models.list(request_options={"timeout_in_seconds": 0.2})
    assert time.monotonic() - started < 5
    assert (caught.value.code, caught.value.retryable) == ("api_timeout", True)


async def test_a_server_that_accepts_no_connection_in_time_was_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*arguments: Any, **more: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(anyio, "connect_tcp", never)
    async with AsyncSync(api_key=KEY, base_url="http://127.0.0.1:1", timeout=0.1) as client:
        error = await failure_of(client)
    assert type(error) is APIConnectionError
    assert "did not accept a connection in 0.1 s" in str(error)
