import socket
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from typing import Any

import anyio
import pytest
from mcp import Client

from sync_mcp.sandbox import Fault, Sandbox
from tests.http.web import Web, post, serving
from tests.server.host import media, until
from tests.stdio.process import WAIT_SECONDS, send_sigint, send_sigterm

DRAINS_WITHIN_SECONDS = 10.0


@contextmanager
def connection(web: Web) -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", web.port), WAIT_SECONDS) as opened:
        yield opened


def said(opened: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    with suppress(ConnectionError):
        while part := opened.recv(65536):
            data += part
    return data


@pytest.mark.parametrize("stop", [send_sigterm, send_sigint])
def test_an_idle_server_ends_at_once_with_exit_code_0(sandbox: Sandbox, stop: Any) -> None:
    with serving(sandbox) as web, connection(web):
        post(web.url, "tools/list")
        stop(web.server)
        assert web.server.process.wait(5) == 0
        assert "Traceback" not in web.server.all_stderr()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("tool", ["create_generation", "get_generation"])
async def test_a_waiting_call_is_answered_when_the_server_is_to_end(
    sandbox: Sandbox, mode: Any, tool: str
) -> None:
    waiting = anyio.Event()

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        waiting.set()

    with serving(sandbox) as web, anyio.fail_after(30):
        began = time.monotonic()
        async with Client(web.url, mode=mode) as client:
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


@pytest.mark.anyio
async def test_a_create_on_its_way_is_answered_before_the_server_ends(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=2, when="after"))
    with serving(sandbox) as web, anyio.fail_after(30):
        async with Client(web.url) as client:
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


def test_a_client_that_says_nothing_is_let_go_and_holds_up_nobody(sandbox: Sandbox) -> None:
    with serving(sandbox, patience=0.5) as web, connection(web) as silent, connection(web) as halting:
        halting.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert post(web.url, "tools/list").status_code == 200
        assert said(silent) == b""
        assert said(halting) == b""


def test_a_client_that_never_ends_its_body_is_let_go(sandbox: Sandbox) -> None:
    head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n"
    with serving(sandbox, patience=0.5) as web, connection(web) as slow:
        slow.sendall(head + b'{"jsonrpc"')
        assert post(web.url, "tools/list").status_code == 200
        assert said(slow).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_is_kept_is_not_closed_as_a_silent_one(sandbox: Sandbox) -> None:
    with serving(sandbox, patience=5) as web, closing(HTTPConnection("127.0.0.1", web.port)) as kept:
        for _ in range(3):
            kept.request("GET", "/health")
            opened = kept.sock
            assert kept.getresponse().read() == b'{"status":"ok"}'
            assert kept.sock is opened
