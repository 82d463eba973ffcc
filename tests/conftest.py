from collections.abc import Iterator

import pytest

from sync_mcp.sandbox import Sandbox


@pytest.fixture
def anyio_backend() -> str:
    # Tests of the main paths say for themselves that they run under trio as well.
    return "asyncio"


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    # Long enough that no job ends but by the clock that a test moves.
    with Sandbox(job_seconds=60) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox
