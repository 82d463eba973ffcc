from collections.abc import Iterator

import pytest

from sync_mcp.sandbox import Sandbox
from tests.serving.http.web import Web, serving


@pytest.fixture(scope="module")
def shared_web(shared_sandbox: Sandbox) -> Iterator[Web]:
    # Its tests together would pay more than may be paid unasked.
    with serving(shared_sandbox, env={"SYNC_MCP_APPROVE_ABOVE_USD": "1000"}) as web:
        yield web


@pytest.fixture
def web(sandbox: Sandbox, shared_web: Web) -> Iterator[Web]:
    """A server that has lived through the tests before this one, and must live on."""
    yield shared_web
    assert shared_web.server.process.poll() is None
