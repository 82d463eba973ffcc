from collections.abc import Iterator

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import KEY


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    # Long enough that no job ends but by the clock that a test moves.
    with Sandbox(job_seconds=60) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.url, headers=KEY, timeout=15, verify=False) as client:
        yield client
