"""A call ends within its limit, whatever it was doing; what is paid for is never lost with it."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from mcp import Client
from pydantic import SecretStr

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.context import CALL_SECONDS
from sync_mcp.tools.generation_arguments import LONGEST_WAIT_SECONDS

from .assistant import Assistant, Facts, Told, arrived, creates, media, sent

pytestmark = pytest.mark.anyio

SLACK_SECONDS = 1.0
"""What a busy machine may add."""

on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 3.0)
    return 3.0


@pytest.fixture
async def watched(sandbox: Sandbox) -> AsyncIterator[tuple[Assistant, dict[str, anyio.Event]]]:
    """An assistant, and for each tool an event that is set when a call to it has ended inside the server."""
    ended = {tool.name: anyio.Event() for tool in TOOLS}

    def watch(name: str, run: Any) -> Any:
        async def watched(*arguments: Any) -> Any:
            try:
                return await run(*arguments)
            finally:
                ended[name].set()

        return watched

    tools = [replace(tool, run=watch(tool.name, tool.run)) for tool in TOOLS]
    server = create_server(Settings(), sandbox_url=sandbox.url, tools=tools)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client), ended


def test_the_limits_leave_time_for_an_answer_within_fifty_five_seconds() -> None:
    assert CALL_SECONDS <= 55
    assert LONGEST_WAIT_SECONDS + 2 <= CALL_SECONDS


def _requests(sandbox: Sandbox) -> dict[str, tuple[str, Facts]]:
    request: Facts = {"input": media(sandbox)}
    return {
        "create": ("create_generation", request),
        "create and wait": ("create_generation", {**request, "wait_seconds": 50}),
        "create by a new model": ("create_generation", {**request, "model": "lipsync-9"}),
        "get": ("get_generation", {"id": "g-1"}),
        "wait": ("get_generation", {"id": "g-1", "wait_seconds": 50}),
        "wait for many": ("wait_for_generations", {"ids": ["g-1", "g-2"], "wait_seconds": 50}),
        "list": ("list_generations", {}),
        "estimate": ("estimate_cost", request),
        "estimate by duration": ("estimate_cost", {**request, "duration_seconds": 5}),
    }


@on_both_loops
@pytest.mark.parametrize("path", ["*", "/v2/generations"])
async def test_every_call_ends_in_time_when_the_api_is_late(
    assistant: Assistant, sandbox: Sandbox, limit: float, path: str
) -> None:
    sandbox.add_fault(Fault(path=path, delay_seconds=60, when="before", times=None))
    sandbox.add_fault(Fault(path="/v2/generate", drop="before", times=None))
    took: dict[str, float] = {}
    answers: dict[str, Told] = {}

    async def call(what: str, tool: str, arguments: Facts) -> None:
        began = anyio.current_time()
        answers[what] = await assistant.call(tool, arguments)
        took[what] = anyio.current_time() - began

    async with anyio.create_task_group() as calls:
        for what, (tool, arguments) in _requests(sandbox).items():
            calls.start_soon(call, what, tool, arguments)
    assert max(took.values()) < limit + SLACK_SECONDS, took
    told = {(answers[what].code, answers[what].money_spent) for what in ("create", "create and wait")}
    if creates(sandbox):
        # One of the two, which are the same, was sent; the other waited for it.
        assert told - {("create_under_way", "unknown")} == {("outcome_unknown", "unknown")}
    else:
        assert told == {("api_timeout", "no")}
    assert bool(creates(sandbox)) == (path != "*")
    assert sandbox.charges == []


async def test_a_job_that_fails_as_the_time_runs_out_is_told_though_its_reason_is_late(
    assistant: Assistant, sandbox: Sandbox, limit: float
) -> None:
    for path in ("/v2/errors", "/v2/generate/*/costs"):
        sandbox.add_fault(Fault(path=path, delay_seconds=60, when="before", times=None))
    sandbox.add_fault(Fault(job="fail", error_code="generation_pipeline_failed"))
    # The first call of a process takes its time to open the ledger.
    await assistant.facts("get_account")
    assistant.on_progress = lambda: sandbox.advance(60)
    began = anyio.current_time()
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=50)
    assert anyio.current_time() - began < limit + SLACK_SECONDS
    assert (told["status"], told["api_code"]) == ("FAILED", "generation_pipeline_failed")
    assert told["charged"] == "unknown"
    assert told["remedy"]


async def test_a_wait_is_cut_to_what_the_call_has_left(
    assistant: Assistant, sandbox: Sandbox, limit: float
) -> None:
    began = anyio.current_time()
    told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=50)
    assert anyio.current_time() - began < limit + SLACK_SECONDS
    assert told["status"] == "PENDING"
    assert "get_generation" in told["next_step"]


@on_both_loops
async def test_a_create_that_its_call_has_no_time_for_is_told_and_gone_on_with_by_the_same_call(
    assistant: Assistant, sandbox: Sandbox, limit: float
) -> None:
    for path in ("/v2/generate", "/v2/generations"):
        sandbox.add_fault(Fault(path=path, delay_seconds=60, times=None))
    began = anyio.current_time()
    told = await assistant.error("create_generation", input=media(sandbox))
    assert anyio.current_time() - began < limit + SLACK_SECONDS
    assert (told.code, told.money_spent) == ("outcome_unknown", "unknown")
    assert "failed" not in told.text
    assert "Make exactly this call again" in told.text
    sandbox.clear_faults()
    facts = await assistant.facts("create_generation", input=media(sandbox))
    assert facts["reused"] is True
    assert [charge.generation_id for charge in sandbox.charges] == [facts["generation_id"]]
    assert len({request.headers["idempotency-key"] for request in creates(sandbox)}) == 1


async def _cancelled(assistant: Assistant, sandbox: Sandbox, when: str, tool: str, **arguments: Any) -> None:
    """Make a call and cancel it as soon as such a request has come to the API."""
    method, path = when.split()
    async with anyio.create_task_group() as calls:

        async def call() -> None:
            await assistant.call(tool, arguments)

        calls.start_soon(call)
        await arrived(sandbox, method, path)
        calls.cancel_scope.cancel()


async def test_cancelling_a_wait_ends_it_at_once_and_leaves_the_job_alone(
    watched: tuple[Assistant, dict[str, anyio.Event]], sandbox: Sandbox
) -> None:
    assistant, ended = watched
    created = await assistant.facts("create_generation", input=media(sandbox))
    generation_id = created["generation_id"]
    wait = {"id": generation_id, "wait_seconds": 50}
    await _cancelled(assistant, sandbox, "GET /v2/generate/*", "get_generation", **wait)
    with anyio.fail_after(5):
        await ended["get_generation"].wait()
    sandbox.advance(60)
    told = await assistant.facts("get_generation", id=generation_id)
    assert told["status"] == "COMPLETED"
    assert len(sandbox.charges) == 1


async def test_cancelling_a_create_on_its_way_loses_nothing(
    watched: tuple[Assistant, dict[str, anyio.Event]], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sync_mcp")
    assistant, ended = watched
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=0.5))
    request = media(sandbox)
    await _cancelled(assistant, sandbox, "POST /v2/generate", "create_generation", input=request)
    with anyio.fail_after(5):
        await ended["create_generation"].wait()
    [sending] = creates(sandbox)
    # The key stood in the log before the request went out.
    assert f"key={sending.headers['idempotency-key']}" in caplog.text
    told = await assistant.facts("create_generation", input=request)
    assert told["reused"] is True
    assert [charge.generation_id for charge in sandbox.charges] == [told["generation_id"]]
    assert len(sent(sandbox)) == 1
    assert f"accepted as generation {told['generation_id']}" in caplog.text


async def test_a_create_that_is_cancelled_while_it_waits_for_the_end_is_not_paid_again(
    watched: tuple[Assistant, dict[str, anyio.Event]], sandbox: Sandbox
) -> None:
    assistant, ended = watched
    request = {"input": media(sandbox), "wait_seconds": 50}
    await _cancelled(assistant, sandbox, "GET /v2/generate/*", "create_generation", **request)
    with anyio.fail_after(5):
        await ended["create_generation"].wait()
    told = await assistant.facts("create_generation", input=media(sandbox))
    assert told["reused"] is True
    assert [charge.generation_id for charge in sandbox.charges] == [told["generation_id"]]


async def test_a_refusal_that_nobody_heard_does_not_meet_the_next_call(
    watched: tuple[Assistant, dict[str, anyio.Event]], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    assistant, ended = watched
    body: Facts = {"message": "No.", "errorCode": "account_on_hold"}
    sandbox.add_fault(Fault(path="/v2/generate", status=402, body=body, delay_seconds=0.3))
    await _cancelled(assistant, sandbox, "POST /v2/generate", "create_generation", input=media(sandbox))
    with anyio.fail_after(5):
        await ended["create_generation"].wait()
        while "work whose call was cancelled ended: payment_required" not in caplog.text:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    told = await assistant.facts("create_generation", input=media(sandbox))
    assert not {"note", "reused"} & told.keys()
    assert len(sandbox.charges) == 1
    assert len({request.headers["idempotency-key"] for request in creates(sandbox)}) == 2


async def test_a_call_is_answered_while_another_waits(assistant: Assistant, sandbox: Sandbox) -> None:
    created = await assistant.facts("create_generation", input=media(sandbox))
    waited: list[Facts] = []

    async def wait() -> None:
        waited.append(await assistant.facts("get_generation", id=created["generation_id"], wait_seconds=50))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as calls:
            for _ in range(5):
                calls.start_soon(wait)
            await arrived(sandbox, "GET", "/v2/generate/*", wait="true")
            listed = await assistant.facts("list_generations")
            assert len(listed["generations"]) == 1
            await assistant.facts("estimate_cost", input=media(sandbox))
            assert waited == []
            sandbox.advance(60)
    assert [facts["status"] for facts in waited] == ["COMPLETED"] * 5


@pytest.mark.parametrize("path", ["/v2/account", "/v2/analyze/cost", "/v2/generate"])
async def test_a_create_that_waits_anyway_waits_until_the_api_takes_requests_again(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def no_retry(*_: object) -> bool:
        return False

    # As for a pause that is longer than the time of a single read.
    monkeypatch.setattr("sync_mcp.api.retry.Budget.pause", no_retry)
    sandbox.configure(job_seconds=0)
    body: Facts = {"message": "Slow down.", "errorCode": "rate_limit_exceeded", "statusCode": 429}
    sandbox.add_fault(Fault(path=path, status=429, body=body, headers={"Retry-After": "1"}))
    with anyio.fail_after(40):
        told = await assistant.facts("create_generation", input=media(sandbox), wait_seconds=30)
    assert told["generation_id"] == sandbox.charges[0].generation_id
    assert len(sandbox.charges) == 1
    assert len({request.headers["idempotency-key"] for request in creates(sandbox)}) == 1


async def test_a_create_that_does_not_wait_so_long_is_told_when_to_call_again(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    body: Facts = {"message": "Slow down.", "errorCode": "rate_limit_exceeded", "statusCode": 429}
    sandbox.add_fault(Fault(path="/v2/generate", status=429, body=body, headers={"Retry-After": "48"}))
    with anyio.fail_after(20):
        told = await assistant.error("create_generation", input=media(sandbox), wait_seconds=40)
    assert (told.code, told.money_spent) == ("rate_limit_exceeded", "no")
    assert "The same call may work in 48 s." in told.text
    assert len(creates(sandbox)) == 1


@pytest.mark.parametrize("path", ["/v2/account", "/v2/[agu]*"])
async def test_the_ledgers_half_of_the_account_is_there_at_once_when_the_api_is_slow(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("sync_mcp.tools.money._API_SECONDS", 0.3)
    settings = Settings(api_key=SecretStr("sk_one"), base_url=sandbox.url, approve_above_usd="never")
    async with Client(create_server(settings), mode="legacy") as client:
        await Assistant(client).facts("create_generation", input=media(sandbox))
    sandbox.add_fault(Fault(path=path, delay_seconds=60, when="before", times=None))
    # Of another key nothing is known yet, and the API does not tell it in time.
    other = settings.model_copy(update={"api_key": SecretStr("sk_two")})
    async with Client(create_server(other), mode="legacy") as client:
        with anyio.fail_after(30):
            told = await Assistant(client).facts("get_account")
    assert told["spent_ever_usd"] == 0.226
    assert "plan" not in told
    assert "The API did not tell of the account (api_timeout): call get_account again later." in told["note"]
