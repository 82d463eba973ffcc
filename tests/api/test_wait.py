"""Waiting for a job: soon when it ends, never longer than asked, and without a hand on the job itself."""

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from sync_mcp import (
    APIResponseError,
    APITimeoutError,
    AsyncSync,
    AuthenticationError,
    Generation,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import job, make, trail, until
from .raw_server import Answer, RawServer, Received, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]
HELD = {"X-Sync-Wait-Mode": "long_poll", "Retry-After": "2"}
NO_SUCH_QUERY = answer(400, {"message": ["property include should not exist"], "statusCode": 400})


def state(status: str, *, held: bool = False, **more: object) -> Answer:
    return answer(200, job(status=status, **more), HELD if held else None)


def queries(server: RawServer) -> list[str]:
    return [one.target.partition("?")[2] for one in server.received]


def polls(requests: list[Received]) -> list[int]:
    """Return how long each long poll was to be held."""
    targets = [one.target for one in requests if "wait=true" in one.target]
    return [int(target.rpartition("timeout=")[2]) for target in targets]


@both_backends
async def test_a_wait_ends_with_the_job_by_the_apis_long_poll(sandbox: Sandbox, sync: AsyncSync) -> None:
    created = await make(sync, sandbox)
    asked = len(sandbox.requests)
    ended: list[Generation] = []

    async def wait() -> None:
        ended.append(await sync.generations.wait(created.id))

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: any("wait" in one.query for one in sandbox.requests))
            sandbox.advance(60)
    assert (ended[0].id, ended[0].status, ended[0].finished) == (created.id, "COMPLETED", True)
    assert ended[0].output_url
    held = [one for one in sandbox.requests[asked:] if "wait" in one.query]
    assert [(one.query["wait"], one.query["timeout"]) for one in held] == [("true", "10")]
    assert "include" not in held[0].query


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "REJECTED", "CANCELED"])
async def test_a_job_that_has_ended_is_returned_at_once(
    serve: Serve, client_of: ClientOf, pauses: list[float], status: str
) -> None:
    server = serve(state(status))
    generation = await client_of(server).generations.wait("job-1", 60)
    assert (generation.status, generation.finished) == (status, True)
    assert (len(server.received), pauses) == (1, [])


async def test_a_failed_job_tells_its_code(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", error_code="generation_pipeline_failed"))
    created = await make(sync, sandbox)
    sandbox.advance(60)
    generation = await sync.generations.wait(created.id)
    assert (generation.status, generation.error_code) == ("FAILED", "generation_pipeline_failed")


async def test_an_unknown_status_is_waited_through(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(state("QUEUED"), state("RENDERING_TWICE", held=True), state("COMPLETED", held=True))
    assert (await client_of(server).generations.wait("job-1", 60)).status == "COMPLETED"


@pytest.mark.parametrize(
    "refusal", [state("PENDING"), answer(400, {"message": ["wait should not exist"]})], ids=["ignored", "400"]
)
async def test_an_api_without_the_long_poll_is_polled(
    serve: Serve, client_of: ClientOf, pauses: list[float], refusal: Answer
) -> None:
    server = serve(state("PENDING"), refusal, *[state("PENDING")] * 4, state("COMPLETED"))
    assert (await client_of(server).generations.wait("job-1", 600)).status == "COMPLETED"
    assert polls(server.received) == [10]
    assert len(server.received) == 7
    # After the refusal the state is read at once, and then after pauses that grow.
    assert pauses == pytest.approx([2, 3, 4.5, 6.75])


async def test_an_api_that_knows_no_query_at_all_is_polled_plainly(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(NO_SUCH_QUERY, state("PENDING"), NO_SUCH_QUERY, state("PROCESSING"), state("COMPLETED"))
    assert (await client_of(server).generations.wait("job-1", 600)).status == "COMPLETED"
    assert queries(server) == ["include=progress", "", "wait=true&timeout=10", "", ""]


async def test_a_long_poll_that_answers_at_once_is_not_asked_again_without_a_pause(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    hasty = state("PROCESSING", held=True)
    server = serve(state("PROCESSING"), *[hasty] * 3, state("COMPLETED", held=True))
    await client_of(server).generations.wait("job-1", 600)
    assert len(pauses) == 3
    assert all(pause >= 2 for pause in pauses)


async def test_a_wait_returns_the_present_state_when_its_time_is_up(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    created = await make(sync, sandbox)
    started = time.monotonic()
    generation = await sync.generations.wait(created.id, 1)
    assert 0.9 <= time.monotonic() - started < 8
    assert (generation.id, generation.status, generation.finished) == (created.id, "PENDING", False)


@both_backends
async def test_a_wait_returns_the_last_known_state_from_an_api_that_answers_no_more(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(state("PROCESSING", progress_percent=40), Answer(hangs=True))
    started = time.monotonic()
    generation = await client_of(server).generations.wait("job-1", 0.2)
    assert time.monotonic() - started < 5
    assert (generation.status, generation.progress_percent) == ("PROCESSING", 40)


async def test_a_wait_of_no_time_reads_the_state_once(sandbox: Sandbox, sync: AsyncSync) -> None:
    created = await make(sync, sandbox)
    asked = len(sandbox.requests)
    assert (await sync.generations.wait(created.id, 0)).status == "PENDING"
    assert trail(sandbox.requests[asked:]) == [f"GET /v2/generate/{created.id}"]


async def test_a_wait_in_which_nothing_was_ever_read_is_an_error(serve: Serve, client_of: ClientOf) -> None:
    client = client_of(serve(Answer(hangs=True)))
    with pytest.raises(APITimeoutError):
        await client.generations.wait("job-1", 0.1, request_options={"timeout_in_seconds": 0.2})


@pytest.mark.parametrize(("seconds", "longest"), [(3.9, 3), (0.5, 1), (600, 10), (None, 10)])
async def test_a_long_poll_is_no_longer_than_the_time_that_is_left(
    serve: Serve, client_of: ClientOf, pauses: list[float], seconds: float | None, longest: int
) -> None:
    server = serve(state("PROCESSING"), state("COMPLETED", held=True))
    await client_of(server).generations.wait("job-1", seconds)
    assert polls(server.received) == [longest]


PASSING: dict[str, Answer] = {
    "reset": Answer(resets=True),
    "closed": Answer(),
    "cut": Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"),
    "a gateway's page": answer(502, b"<html>", kind="text/html"),
    "an empty answer": answer(200, b""),
    "no generation": answer(200, {"message": "?"}),
    "503": answer(503, {"message": "busy"}),
    "429": answer(429, {"message": "slow down"}),
    "408": answer(408, {"message": "late"}),
}


@both_backends
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_passing_faults_are_waited_out(
    serve: Serve, client_of: ClientOf, pauses: list[float], fault: Answer
) -> None:
    server = serve(fault, fault, state("PROCESSING"), fault, fault, state("COMPLETED", held=True))
    assert (await client_of(server).generations.wait("job-1", 600)).status == "COMPLETED"
    assert pauses == pytest.approx([2, 3, 4.5, 6.75])


async def test_faults_to_the_end_of_the_time_return_the_last_known_state(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(state("PROCESSING"), answer(503, {"message": "busy"}, {"Retry-After": "60"}))
    with anyio.fail_after(10):
        assert (await client_of(server).generations.wait("job-1", 0.3)).status == "PROCESSING"


async def test_the_retry_time_of_a_fault_is_kept_to(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    busy = answer(503, {"message": "busy"}, {"Retry-After": "45"})
    await client_of(serve(busy, state("COMPLETED"))).generations.wait("job-1", 600)
    assert pauses == [45]


async def test_the_retry_time_of_a_429_is_counted_from_the_moment_it_was_told(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    busy = answer(429, {"message": "slow down"}, {"Retry-After": "45"})
    await client_of(serve(busy, state("COMPLETED"))).generations.wait("job-1", 600)
    # The pause takes no time here, and is a part of the rest.
    first, rest = pauses
    assert first == 2
    assert 30 < rest <= 45


@both_backends
async def test_what_one_wait_is_told_by_a_429_holds_for_every_other_wait_of_the_client(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    throttled, other = (await make(sync, sandbox)).id, (await make(sync, sandbox)).id
    sandbox.advance(60)
    asked = len(sandbox.requests)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", headers={"Retry-After": "1"}))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sync.generations.wait, throttled)
            await until(lambda: sync.generations.allowance.rests_for is not None)
            assert (await sync.generations.wait(other)).status == "COMPLETED"
    refused, *later = sandbox.requests[asked:]
    assert refused.status == 429
    assert len(later) == 2
    assert all((one.at - refused.at).total_seconds() >= 0.99 for one in later)


async def test_a_wait_that_ends_while_the_api_wants_to_be_left_alone_says_so_and_asks_for_nothing(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    created = await make(sync, sandbox)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", headers={"Retry-After": "60"}))
    with pytest.raises(RateLimitError):
        await sync.generations.wait(created.id, 0)
    asked = len(sandbox.requests)
    with pytest.raises(RateLimitError):
        await sync.generations.wait(created.id, 0.1)
    assert len(sandbox.requests) == asked


LASTING: list[tuple[Answer, type[SyncError]]] = [
    (answer(404, {"message": "m", "errorCode": "generation_not_found"}), NotFoundError),
    (answer(401, {"message": "Unauthorized", "statusCode": 401}), AuthenticationError),
    (answer(403, {"message": "m"}), PermissionDeniedError),
    (answer(400, {"message": "m", "errorCode": "invalid_generation_id"}), RequestRejectedError),
    (answer(302, b"", {"Location": "https://elsewhere.example/"}), APIResponseError),
    (answer(404, b"<html>", kind="text/html"), APIResponseError),
]


@pytest.mark.parametrize(("lasting", "kind"), LASTING)
@pytest.mark.parametrize("known", [[], [state("PROCESSING")]], ids=["at first", "later"])
async def test_an_answer_that_waiting_cannot_change_ends_the_wait(
    serve: Serve,
    client_of: ClientOf,
    pauses: list[float],
    lasting: Answer,
    kind: type[SyncError],
    known: list[Answer],
) -> None:
    server = serve(*known, lasting)
    with pytest.raises(kind):
        await client_of(server).generations.wait("job-1", 600)
    assert pauses == []


@both_backends
async def test_each_state_is_reported_with_the_progress_that_the_api_tells(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    created = await make(sync, sandbox)
    seen: list[tuple[str, float | None]] = []

    async def note(generation: Generation) -> None:
        seen.append((generation.status, generation.progress_percent))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: sync.generations.wait(created.id, on_update=note))
            await until(lambda: any("wait" in one.query for one in sandbox.requests))
            sandbox.advance(30)
            await until(lambda: (seen[-1][1] or 0) >= 50)
            sandbox.advance(60)
    assert seen[0] == ("PENDING", 0)
    assert [status for status, _ in seen[1:]] == ["PROCESSING"] * (len(seen) - 2) + ["COMPLETED"]
    held = [one.query["timeout"] for one in sandbox.requests if "wait" in one.query]
    assert all(int(seconds) <= 5 for seconds in held)


async def test_an_api_that_tells_no_progress_is_not_asked_for_it_again(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    seen: list[float | None] = []

    async def note(generation: Generation) -> None:
        seen.append(generation.progress_percent)

    held = state("PROCESSING", held=True)
    server = serve(state("PROCESSING"), held, held, state("COMPLETED", held=True))
    await client_of(server).generations.wait("job-1", 600, on_update=note)
    assert queries(server)[0] == "include=progress"
    assert polls(server.received) == [10, 10, 10]
    assert seen == [None] * 4


async def test_an_error_of_the_watcher_ends_the_wait(serve: Serve, client_of: ClientOf) -> None:
    async def fail(generation: Generation) -> None:
        raise LookupError(generation.id)

    with pytest.raises(LookupError, match="job-1"):
        await client_of(serve(state("PENDING"))).generations.wait("job-1", 60, on_update=fail)


@both_backends
async def test_cancelling_a_wait_leaves_the_job_alone(sandbox: Sandbox, sync: AsyncSync) -> None:
    created = await make(sync, sandbox)
    asked = len(sandbox.requests)
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sync.generations.wait, created.id)
            await until(lambda: any("wait" in one.query for one in sandbox.requests))
            tasks.cancel_scope.cancel()
    assert (await sync.generations.get(created.id)).status == "PENDING"
    assert {one.method for one in sandbox.requests[asked:]} == {"GET"}
    sandbox.advance(60)
    assert (await sync.generations.wait(created.id)).status == "COMPLETED"
    assert len(sandbox.charges) == 1


async def test_a_job_of_a_colleague_is_waited_for_too(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    not_mine: Any = answer(404, {"message": "m", "errorCode": "generation_not_found"})
    server = serve(not_mine, state("PROCESSING"), not_mine, state("COMPLETED"))
    assert (await client_of(server).generations.wait("job-1", 600)).status == "COMPLETED"
    assert trail(server.received) == ["GET /v2/generate/job-1", "GET /v2/generations/job-1"] * 2


@both_backends
async def test_a_wait_ends_in_its_time_though_others_have_used_the_reads_up(
    serve: Serve, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.allowance._READS_AT_ONCE", 1)
    monkeypatch.setattr("sync_mcp.api.allowance._READS_PER_SECOND", 0.001)
    client = client_of(serve(state("PROCESSING")))
    await client.generations.allowance.take()
    with anyio.fail_after(60):
        told = await client.generations.wait("job-1", 1)
    assert told.status == "PROCESSING"
