from pathlib import Path

import anyio
import pytest
from mcp import Client

from sync_mcp.sandbox import Sandbox
from tests.http.web import Web, serving

CALLS = 10_000
WORKERS = 16
GROWTH_MIB = 8.0


def resident_mib(web: Web) -> float:
    told = Path(f"/proc/{web.server.process.pid}/statm").read_text(encoding="ascii")
    return int(told.split()[1]) * 4096 / 2**20


async def make_calls(web: Web, calls: int) -> None:
    left = iter(range(calls))

    async def work() -> None:
        async with Client(web.url) as client:
            for _ in left:
                # Refused before anything is asked upstream: it is the server's memory that is looked at.
                assert (await client.call_tool("get_generation", {})).is_error

    with anyio.fail_after(240):
        async with anyio.create_task_group() as workers:
            for _ in range(WORKERS):
                workers.start_soon(work)


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system tells no process's memory")
async def test_memory_stays_flat_over_ten_thousand_calls(sandbox: Sandbox) -> None:
    with serving(sandbox) as web:
        await make_calls(web, 2000)
        before = resident_mib(web)
        await make_calls(web, CALLS)
        assert resident_mib(web) - before < GROWTH_MIB
