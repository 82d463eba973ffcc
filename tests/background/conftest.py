"""A client of the sandbox, and tasks that go on beside a test, each test within a limit of time."""

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import TaskGroup

from sync_mcp import AsyncSync
from sync_mcp.sandbox import Sandbox
from tests.api.conftest import KEY

PATIENCE_SECONDS = 20


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, timeout=20) as client:
        yield client


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()
