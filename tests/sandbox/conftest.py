from collections.abc import Iterator

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import KEY


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.url, headers=KEY, timeout=15, verify=False) as client:
        yield client
