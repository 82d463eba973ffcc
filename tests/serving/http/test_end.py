import os
import time
from typing import Any

import anyio
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.server.host import media, until
from tests.serving.http.web import (
    Mode,
    Web,
    both_eras,
    call,
    connected,
    connection,
    head,
    post,
    said,
    serving,
)
from tests.serving.stdio.process import WAIT_SECONDS, send_sigint, send_sigterm

DRAINS_WITHIN_SECONDS = 10.0
# A skip that a helper raises inside a task group would be a failure there.
ENDED_BY_SIGNALS = pytest.mark.skipif(
    os.name != "posix", reason="this system ends a process by force, whatever the signal"
)


@pytest.mark.parametrize("stop", [send_sigterm, send_sigint])
def test_an_idle_server_ends_at_once_with_exit_code_0(sandbox: Sandbox, stop: Any) -> None:
    with serving(sandbox) as web, connection(web):
        post(web.url, "tools/list")
        stop(web.server)
        assert web.server.process.wait(5) == 0
        assert "Traceback" not in web.server.all_stderr()


@ENDED_BY_SIGNALS
@pytest.mark.anyio
@both_eras
@pytest.mark.parametrize("tool", ["create_generation", "get_generation"])
async def test_a_waiting_call_is_answered_when_the_server_is_to_end(
    sandbox: Sandbox, mode: Mode, tool: str
) -> None:
    waiting = anyio.Event()

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        waiting.set()

    with serving(sandbox) as web, anyio.fail_after(30):
        began = time.monotonic()
        async with connected(web.url, mode) as client:
            # Known beforehand: the client checks an answer by the tool's schema, and would ask for it then.
            await client.list_tools()
            asked: dict[str, Any] = {"input": media(sandbox.url), "wait_seconds": 45}
            if tool == "get_generation":
                made = await client.call_tool("create_generation", {"input": asked["input"]})
                assert made.structured_content
                asked = {"generation_id": made.structured_content["generation_id"], "wait_seconds": 45}
            answers: list[Any] = []

            async def call() -> None:
                answers.append(await client.call_tool(tool, asked, progress_callback=progressed))

            async with anyio.create_task_group() as calls:
                calls.start_soon(call)
                await waiting.wait()
                began = time.monotonic()
                send_sigterm(web.server)
        [answer] = answers
        assert answer.structured_content["status"] == "PENDING"
        assert answer.structured_content["generation_id"] in sandbox.generations
        assert "get_generation" in answer.structured_content["next_step"]
        assert await anyio.to_thread.run_sync(web.server.process.wait, WAIT_SECONDS) == 0
        assert time.monotonic() - began < DRAINS_WITHIN_SECONDS


@ENDED_BY_SIGNALS
@pytest.mark.anyio
@both_eras
async def test_a_create_on_its_way_is_answered_before_the_server_ends(sandbox: Sandbox, mode: Mode) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=2, when="after"))
    with serving(sandbox) as web, anyio.fail_after(30):
        async with connected(web.url, mode) as client:
            await client.list_tools()
            answers: list[Any] = []

            async def create() -> None:
                answers.append(await client.call_tool("create_generation", {"input": media(sandbox.url)}))

            async with anyio.create_task_group() as calls:
                calls.start_soon(create)
                await anyio.to_thread.run_sync(until, lambda: len(sandbox.charges) == 1)
                send_sigterm(web.server)
        assert answers[0].structured_content["generation_id"] == sandbox.charges[0].generation_id
        assert await anyio.to_thread.run_sync(web.server.process.wait, WAIT_SECONDS) == 0


def test_neither_an_api_that_never_answers_nor_half_a_request_holds_up_the_end(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=60, when="after"))
    with serving(sandbox) as web, connection(web) as caller, connection(web) as halting:
        halting.sendall(head(content_length="99") + b"{")
        caller.sendall(call("create_generation", {"input": media(sandbox.url)}))
        until(lambda: len(sandbox.charges) == 1)
        send_sigterm(web.server)
        assert web.server.process.wait(DRAINS_WITHIN_SECONDS) == 0
        told = web.server.all_stderr()
    # By this key the job is found, and a repeat of it is not paid again.
    assert f"key={sandbox.charges[0].idempotency_key}" in told
    assert "Traceback" not in told


def test_nobody_new_is_taken_while_the_server_ends(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=1, when="after"))
    with serving(sandbox) as web, connection(web) as caller:
        caller.sendall(call("create_generation", {"input": media(sandbox.url)}))
        until(lambda: len(sandbox.charges) == 1)
        send_sigterm(web.server)
        until(lambda: _is_refused(web))
        assert sandbox.charges[0].generation_id.encode() in said(caller)
        assert web.server.process.wait(DRAINS_WITHIN_SECONDS) == 0


def _is_refused(web: Web) -> bool:
    try:
        with connection(web):
            return False
    except ConnectionError:
        return True
