"""Calls that are under way, or come, when the server is to end."""

import anyio
import pytest
from mcp import Client

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox

from .assistant import Assistant, arrived

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
LIST = "/v2/generations"
SLOW_SECONDS = 20.0


@both_backends
async def test_a_read_under_way_and_one_that_comes_later_are_told_that_the_server_ends(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.process.STOP_SECONDS", 0.7)
    stopping = anyio.Event()
    server = create_server(Settings(), sandbox_url=sandbox.url, stopping=stopping)
    sandbox.add_fault(Fault(method="GET", path=LIST, delay_seconds=SLOW_SECONDS, times=None))
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        assistant = Assistant(client)

        async def ask() -> None:
            told = await assistant.call("list_generations")
            assert told.meta["money_spent"] == "no"
            assert "Make exactly this call again once the server runs again." in told.text

        with anyio.fail_after(10):
            async with anyio.create_task_group() as calls:
                calls.start_soon(ask)
                await arrived(sandbox, "GET", LIST)
                stopping.set()
            await ask()


async def test_a_call_that_ends_before_the_server_is_not_disturbed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.process.STOP_SECONDS", 50.0)
    stopping = anyio.Event()
    server = create_server(Settings(), sandbox_url=sandbox.url, stopping=stopping)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        stopping.set()
        assert (await Assistant(client).facts("list_generations"))["generations"] == []
