from typing import Any

import anyio
import pytest
from mcp import Client

from sync_mcp.sandbox import Fault, Sandbox
from tests.server.host import KEY, media, until
from tests.serving.http.web import TOKEN, Mode, RoundRobin, Web, both_eras, connected, post, serving
from tests.tools.calls import BY_DEFAULT

pytestmark = pytest.mark.anyio


async def a_whole_session(url: str, mode: Mode, sandbox: Sandbox) -> list[float]:
    """Price, make and wait for a video; return the progress that was told."""
    told: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        sandbox.advance(60)

    with anyio.fail_after(30):
        async with connected(url, mode) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == set(BY_DEFAULT)
            asked: dict[str, Any] = {"input": media(sandbox.url, f"?{mode}")}
            assert (await answered(client, "estimate_cost", asked))["cost_usd"] > 0
            job = await answered(client, "create_generation", asked)
            wait = {"generation_id": job["generation_id"], "wait_seconds": 45}
            result = await client.call_tool("get_generation", wait, progress_callback=progressed)
            assert result.structured_content
            assert result.structured_content["status"] == "COMPLETED"
            listed = await answered(client, "list_generations", {})
            assert [row["generation_id"] for row in listed["generations"]] == [job["generation_id"]]
    return told


async def answered(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content
    return result.structured_content


@both_eras
async def test_a_whole_session_works_with_progress(web: Web, sandbox: Sandbox, mode: Mode) -> None:
    assert await a_whole_session(web.url, mode, sandbox)
    assert len(sandbox.charges) == 1


@both_eras
async def test_any_of_two_workers_answers_any_request(sandbox: Sandbox, mode: Mode) -> None:
    with serving(sandbox) as one, serving(sandbox) as other:
        proxy = RoundRobin([one.port, other.port])
        with proxy.running() as url:
            assert await a_whole_session(url, mode, sandbox)
    assert min(proxy.handed) >= 2
    assert len(sandbox.charges) == 1


async def test_a_key_in_a_request_is_never_used_and_nothing_of_it_is_passed_on() -> None:
    told = {"x_api_key": "sk_of_a_stranger", "cookie": "of=a-stranger"}
    # It lets nobody in but with the server's own key.
    with Sandbox(tokens=[KEY]) as sandbox, serving(sandbox) as web:
        answer = post(web.url, "tools/call", {"name": "list_generations", "arguments": {}}, **told)
    assert answer.status_code == 200
    request = next(request for request in sandbox.requests if request.path == "/v2/generations")
    assert "cookie" not in request.headers
    assert "stranger" not in str(request.headers)
    assert TOKEN not in str(request.headers)


@both_eras
async def test_thirty_two_waits_in_flight_at_once_each_tell_progress_and_end_with_the_job(
    web: Web, sandbox: Sandbox, mode: Mode
) -> None:
    waiting: set[int] = set()
    answers: list[dict[str, Any]] = []

    async def wait(client: Client, number: int, job: str) -> None:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            waiting.add(number)
            if len(waiting) == 32:
                sandbox.advance(60)

        asked = {"generation_id": job, "wait_seconds": 45}
        result = await client.call_tool("get_generation", asked, progress_callback=progressed)
        answers.append(result.structured_content or {})

    with anyio.fail_after(30):
        async with connected(web.url, mode) as client:
            job = await answered(client, "create_generation", {"input": media(sandbox.url, f"?waits={mode}")})
            async with anyio.create_task_group() as calls:
                for number in range(32):
                    calls.start_soon(wait, client, number, job["generation_id"])
    assert [answer["status"] for answer in answers] == ["COMPLETED"] * 32


@both_eras
async def test_a_call_whose_connection_closes_stops_its_wait(web: Web, sandbox: Sandbox, mode: Mode) -> None:
    async with connected(web.url, mode) as client:
        job = await answered(client, "create_generation", {"input": media(sandbox.url, f"?closed={mode}")})
        waiting = anyio.Event()

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            waiting.set()

        async def wait() -> None:
            arguments = {"generation_id": job["generation_id"], "wait_seconds": 50}
            await client.call_tool("get_generation", arguments, progress_callback=progressed)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as calls:
                calls.start_soon(wait)
                await waiting.wait()
                await anyio.to_thread.run_sync(
                    until, lambda: any("wait" in r.query for r in sandbox.requests)
                )
                calls.cancel_scope.cancel()
    seen = len(sandbox.requests)
    # The long poll ends here, and whoever still waited would ask again.
    sandbox.advance(10)
    async with connected(web.url, mode) as client:
        await answered(client, "list_generations", {})
    assert [request.path for request in sandbox.requests[seen:]] == ["/v2/generations"]


@both_eras
async def test_a_create_whose_connection_closes_is_joined_by_the_same_call(
    web: Web, sandbox: Sandbox, mode: Mode
) -> None:
    asked: dict[str, Any] = {"input": media(sandbox.url, f"?joined={mode}"), "output_file_name": "joined"}
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=1, when="after"))
    async with connected(web.url, mode) as client:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as calls:
                calls.start_soon(client.call_tool, "create_generation", asked)
                await anyio.to_thread.run_sync(until, lambda: len(sandbox.charges) == 1)
                calls.cancel_scope.cancel()
    async with connected(web.url, mode) as client:
        with anyio.fail_after(20):
            job = await answered(client, "create_generation", asked)
    assert [charge.generation_id for charge in sandbox.charges] == [job["generation_id"]]
