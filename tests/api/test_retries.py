"""What is repeated, how often, after which pauses, and within which time."""

import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sync_mcp import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncSync,
    Audio,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknown,
    ServerError,
    SyncError,
    Video,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import AUDIO, VIDEO, job, make, trail
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]

PASSING: dict[str, Answer] = {
    **{str(status): answer(status, {"message": "m"}) for status in (408, 429, 500, 502, 503, 504, 599)},
    "a gateway's page": answer(502, b"<html>", kind="text/html"),
    "a throttling page": answer(429, b"<html>", kind="text/html"),
    "a late page": answer(408, b""),
    "a spoilt 200": answer(200, b""),
    "reset": Answer(resets=True),
    "closed": Answer(),
    "cut": Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n[{"),
}


@both_backends
@pytest.mark.parametrize("passing", PASSING.values(), ids=PASSING.keys())
async def test_a_read_is_repeated_after_what_may_pass(
    serve: Serve, client_of: ClientOf, pauses: list[float], passing: Answer
) -> None:
    server = serve(passing, passing, answer(200, []))
    assert await client_of(server, max_retries=2).models.list() == []
    assert server.connections == 3
    assert len(pauses) == 2


LASTING: dict[str, Answer] = {
    **{
        str(status): answer(status, {"message": "m"})
        for status in (400, 401, 402, 403, 404, 409, 413, 418, 422)
    },
    "as many jobs as the plan allows": answer(429, {"errorCode": "concurrency_limit_reached"}),
    "a redirect": answer(302, b"", {"Location": "/"}),
    "a page that is not there": answer(404, b"<html>", kind="text/html"),
}


@pytest.mark.parametrize("lasting", LASTING.values(), ids=LASTING.keys())
async def test_a_read_is_not_repeated_after_what_stays(
    serve: Serve, client_of: ClientOf, pauses: list[float], lasting: Answer
) -> None:
    server = serve(lasting)
    with pytest.raises(SyncError):
        await client_of(server, max_retries=4).models.list()
    assert (server.connections, pauses) == (1, [])


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_a_read_is_repeated_so_often_and_then_told(
    serve: Serve, client_of: ClientOf, pauses: list[float], retries: int
) -> None:
    server = serve(answer(503, {"message": "busy"}))
    with pytest.raises(ServerError, match="busy"):
        await client_of(server, max_retries=retries).models.list()
    assert server.connections == retries + 1


async def test_a_client_repeats_four_times_unless_told_otherwise(serve: Serve, pauses: list[float]) -> None:
    server = serve(answer(503, {"message": "busy"}))
    async with AsyncSync(api_key="sk_any", base_url=server.url) as client:
        with pytest.raises(ServerError):
            await client.models.list()
    assert server.connections == 5


async def test_a_connection_that_is_refused_is_tried_again(client_of: ClientOf, pauses: list[float]) -> None:
    gone = RawServer([Answer()])
    gone.close()
    with pytest.raises(APIConnectionError):
        await client_of(gone, max_retries=3).models.list()
    assert len(pauses) == 3


async def test_pauses_have_full_jitter_that_doubles_up_to_16_seconds(
    serve: Serve, client_of: ClientOf, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", note)
    client = client_of(serve(answer(503, {"message": "busy"})), timeout=1000, max_retries=8)
    with pytest.raises(ServerError):
        await client.models.list()
    highest = [0.5, 1, 2, 4, 8, 16, 16, 16]
    assert ranges[:8] == [(0, high) for high in highest]
    assert pauses == highest


async def test_pauses_differ_from_call_to_call(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    client = client_of(serve(answer(503, {"message": "busy"})), timeout=1000, max_retries=1)
    for _ in range(8):
        with pytest.raises(ServerError):
            await client.models.list()
    assert len(set(pauses)) == 8
    assert all(0 <= pause <= 0.5 for pause in pauses)


@pytest.mark.parametrize(
    ("body", "headers", "least"),
    [
        ({"message": "m"}, {"Retry-After": "20"}, 20),
        ({"message": "m", "retryAfterSeconds": 25}, {}, 25),
        ({"message": "m", "retryAfterSeconds": 25}, {"Retry-After": "20"}, 20),
        (b"<html>", {"Retry-After": "20"}, 20),
    ],
)
async def test_the_servers_retry_time_is_waited_for(
    serve: Serve, client_of: ClientOf, pauses: list[float], body: object, headers: Any, least: float
) -> None:
    server = serve(answer(429, body, headers), answer(200, []))
    await client_of(server, timeout=1000, max_retries=1).models.list()
    assert pauses == [least]


async def test_a_retry_time_beyond_the_time_limit_is_told_at_once(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(answer(429, {"message": "m"}, {"Retry-After": "3600"}))
    with pytest.raises(APIStatusError) as caught:
        await client_of(server, timeout=60, max_retries=4).models.list()
    assert caught.value.retry_after_seconds == 3600
    assert (server.connections, pauses) == (1, [])


@both_backends
async def test_all_attempts_together_end_with_the_time_limit(serve: Serve, client_of: ClientOf) -> None:
    server = serve(answer(503, {"message": "busy"}))
    started = time.monotonic()
    with pytest.raises(ServerError):
        await client_of(server, timeout=0.4, max_retries=1_000_000).models.list()
    assert time.monotonic() - started < 5


@both_backends
async def test_the_last_answer_is_told_where_the_time_cuts_an_attempt_short(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(answer(503, {"message": "busy"}), Answer(hangs=True))
    with pytest.raises(ServerError, match="busy"):
        await client_of(server, timeout=2, max_retries=1).models.list()
    assert server.connections == 2


@both_backends
async def test_a_delete_whose_answer_was_lost_is_done_when_the_job_is_gone(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    generation = await make(sync, sandbox)
    sandbox.advance(60)
    sandbox.add_fault(Fault(method="DELETE", drop="after"))
    await sync.generations.delete(generation.id)
    assert trail(sandbox.requests)[1:] == [f"DELETE /v2/generations/{generation.id}"] * 2
    assert sandbox.generations == {}


@pytest.mark.parametrize("before", [[], [answer(429, {"message": "slow down"})]])
async def test_a_delete_of_what_was_never_there_is_not_done(
    serve: Serve, client_of: ClientOf, pauses: list[float], before: list[Answer]
) -> None:
    gone = answer(404, {"message": "m", "errorCode": "generation_not_found"})
    with pytest.raises(NotFoundError):
        await client_of(serve(*before, gone), max_retries=2).generations.delete("job-1")


async def _iterate(client: AsyncSync, options: Any) -> None:
    async for _ in client.generations.iterate(request_options=options):
        pass


async def _estimate(client: AsyncSync, options: Any) -> object:
    media = [Video(url=VIDEO), Audio(url=AUDIO)]
    return await client.generations.estimate_cost(model="lipsync-2", input=media, request_options=options)


Method = Callable[[AsyncSync, Any], Awaitable[object]]
METHODS: dict[str, tuple[Method, object]] = {
    "create": (lambda client, options: make(client, options=options), job()),
    "get": (lambda client, options: client.generations.get("job-1", request_options=options), job()),
    "wait": (
        lambda client, options: client.generations.wait("job-1", 0, request_options=options),
        job(status="COMPLETED"),
    ),
    "list": (lambda client, options: client.generations.list(request_options=options), []),
    "iterate": (_iterate, []),
    "estimate_cost": (_estimate, [{"estimatedGenerationCost": 1}]),
    "get_cost": (lambda client, options: client.generations.get_cost("job-1", request_options=options), {}),
    "delete": (lambda client, options: client.generations.delete("job-1", request_options=options), job()),
    "models.list": (lambda client, options: client.models.list(request_options=options), []),
    "errors.list": (lambda client, options: client.errors.list(request_options=options), []),
}
each_method = pytest.mark.parametrize(("call", "body"), METHODS.values(), ids=METHODS.keys())


@each_method
async def test_every_method_adds_what_the_options_name(
    serve: Serve, client_of: ClientOf, call: Method, body: object
) -> None:
    server = serve(answer(200, body))
    await call(
        client_of(server),
        {
            "timeout_in_seconds": 5,
            "max_retries": 0,
            "additional_headers": {"X-Sync-Source": "mine", "X-Number": 7},
            "additional_query_parameters": {"extra": "a b", "flag": True},
            "additional_body_parameters": {"tomorrow": {"deep": 1}},
            "idempotency_key": "mine",
        },
    )
    [request] = server.received
    assert (request.headers["x-sync-source"], request.headers["x-number"]) == ("mine", "7")
    assert "extra=a+b" in request.target or "extra=a%20b" in request.target
    assert "flag=true" in request.target
    if request.method == "POST":
        sent = json.loads(request.body)
        assert (sent["tomorrow"], sent["model"]) == ({"deep": 1}, "lipsync-2")
    else:
        assert request.body == b""
    assert ("idempotency-key" in request.headers) == (request.path == "/v2/generate")


@each_method
async def test_every_method_keeps_to_its_own_time_limit(
    serve: Serve, client_of: ClientOf, call: Method, body: object
) -> None:
    started = time.monotonic()
    with pytest.raises((APITimeoutError, OutcomeUnknown)):
        await call(client_of(serve(Answer(hangs=True)), timeout=60), {"timeout_in_seconds": 0.2})
    assert time.monotonic() - started < 10


@each_method
async def test_every_method_keeps_to_its_own_number_of_retries(
    serve: Serve, client_of: ClientOf, pauses: list[float], call: Method, body: object
) -> None:
    server = serve(answer(503, {"message": "busy"}))
    with pytest.raises((ServerError, OutcomeUnknown)):
        await call(client_of(server, max_retries=4), {"max_retries": 0})
    # A create in doubt is looked for, which is no repeat.
    creates = server.received[0].path == "/v2/generate"
    assert len(server.received) == (2 if creates else 1)


@each_method
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_retrys": 1}, "no key 'max_retrys'; did you mean 'max_retries'?"),
        ({"timeout": 1}, "no key 'timeout'"),
        ({"max_retries": -1}, "max_retries must be 0 or more"),
        ({"timeout_in_seconds": 0}, "timeout_in_seconds must be more than 0"),
        ({"timeout_in_seconds": float("nan")}, "timeout_in_seconds must be more than 0"),
    ],
)
async def test_every_method_refuses_options_that_cannot_be(
    serve: Serve, client_of: ClientOf, call: Method, body: object, options: Any, told: str
) -> None:
    server = serve(answer(200, body))
    with pytest.raises(InvalidRequestError) as caught:
        await call(client_of(server), options)
    assert told in str(caught.value)
    assert server.connections == 0


async def test_the_options_of_one_call_leave_the_next_alone(serve: Serve, client_of: ClientOf) -> None:
    server = serve(answer(200, []))
    client = client_of(server)
    options: Any = {"additional_headers": {"X-Mine": "1"}, "additional_query_parameters": {"extra": "1"}}
    await client.models.list(request_options=options)
    await client.models.list()
    assert "x-mine" not in server.received[1].headers
    assert server.received[1].target == "/v2/models"
    assert options == {
        "additional_headers": {"X-Mine": "1"},
        "additional_query_parameters": {"extra": "1"},
    }
