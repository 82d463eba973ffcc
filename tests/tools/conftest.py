import shutil
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample

from .assistant import Assistant

TRUSTING = Settings(toolsets=("all",), approve_above_usd=Decimal(1000), webhook_hosts=("example.com",))
"""Of a user who has every tool on, and lets the assistant pay for whole days of work."""


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


async def agree(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
    """Say yes in the user's place."""
    return types.ElicitResult(action="accept", content={})


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """A folder with a clip and a voice that the assistant of `local` may read."""
    folder = tmp_path / "Movies"
    folder.mkdir()
    shutil.copy(sample("speaker.mp4"), folder / "talk.mp4")
    shutil.copy(sample("speech.wav"), folder / "voice.wav")
    return folder


@pytest.fixture
def served(sandbox: Sandbox, movies: Path) -> Callable[..., Client]:
    """Connect to servers that may read `movies`; their user is asked for nothing unless settings say more.

    With `agrees` the host has a form, and its user says yes to whatever is asked all the same.
    """

    def client(*, agrees: bool = False, **settings: Any) -> Client:
        chosen = {"approve_above_usd": "never", "media_roots": (movies,), **settings}
        server = create_server(Settings.model_validate(chosen), sandbox_url=sandbox.url)
        callback = agree if agrees else None
        return Client(server, mode="legacy", elicitation_callback=callback, read_timeout_seconds=60)

    return client


@pytest.fixture
async def local(served: Callable[..., Client]) -> AsyncIterator[Assistant]:
    """An assistant that may read `movies`, and whose user is asked for nothing."""
    async with served() as client:
        yield Assistant(client)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts the client pauses for a moment only: how long it does has tests of its own."""
    monkeypatch.setattr("sync_mcp.api.retry._FIRST_BACKOFF_SECONDS", 0.005)
