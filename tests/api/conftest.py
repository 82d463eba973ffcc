from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack

import anyio
import pytest

from sync_mcp import AsyncSync
from sync_mcp.sandbox import Sandbox

from .raw_server import Answer, RawServer

KEY = "sk_Test-1234567890"


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, timeout=20) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start a raw server with these answers."""
    with ExitStack() as running:

        def start(*answers: Answer) -> RawServer:
            return running.enter_context(RawServer(list(answers)))

        yield start


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., AsyncSync]]:
    """Make a client of a raw server; its time is short, since nothing there deserves patience."""
    made: list[AsyncSync] = []

    def make(server: RawServer, *, timeout: float = 5, max_retries: int = 0) -> AsyncSync:
        made.append(AsyncSync(api_key=KEY, base_url=server.url, timeout=timeout, max_retries=max_retries))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client makes, in seconds; none of them takes any time."""
    made: list[float] = []
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    async def note(seconds: float) -> None:
        made.append(seconds)
        await sleep(0)

    monkeypatch.setattr(anyio, "sleep", note)
    return made
