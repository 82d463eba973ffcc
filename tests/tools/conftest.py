from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from mcp import Client

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Sandbox

from .assistant import Assistant

TRUSTING = Settings(approve_above_usd=Decimal(1000), webhook_hosts=("example.com",))
"""Of a user who lets the assistant pay for whole days of work."""


@pytest.fixture
async def assistant(sandbox: Sandbox) -> AsyncIterator[Assistant]:
    server = create_server(TRUSTING, sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client)


@pytest.fixture
async def unattended(sandbox: Sandbox) -> AsyncIterator[Assistant]:
    """An assistant whose user is asked for nothing."""
    server = create_server(Settings(approve_above_usd="never"), sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client)


@pytest.fixture(params=["legacy", "auto"])
async def either_era(sandbox: Sandbox, request: pytest.FixtureRequest) -> AsyncIterator[Assistant]:
    """The assistant of a host of the handshake era, and of the modern one."""
    server = create_server(TRUSTING, sandbox_url=sandbox.url)
    async with Client(server, mode=request.param, read_timeout_seconds=60) as client:
        yield Assistant(client)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts the client pauses for a moment only."""
    monkeypatch.setattr("sync_mcp.api.transport._FIRST_BACKOFF_SECONDS", 0.005)
