from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from sync_mcp.sandbox import Sandbox
from tests.serving.http.web import Web, call, serving

CALLS = 1_000
ROUNDS = 3
WORKERS = 16
GROWTH_MIB = 0.4
"""In a thousand calls: it would be 4 MiB in ten thousand."""
LIST = "list_generations"
REQUESTS = (call(LIST, {}), call(LIST, {}, "legacy"))
ENDS = (b"}}}}", b"0\r\n\r\n")


def resident_mib(web: Web) -> float:
    told = Path(f"/proc/{web.server.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in told.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


async def list_jobs(web: Web, calls: int) -> None:
    """Make so many calls, every fourth of them of the handshake era."""
    left = iter(range(calls))

    async def work() -> None:
        async with await anyio.connect_tcp("127.0.0.1", web.port) as opened:
            stream = BufferedByteReceiveStream(opened)
            for number in left:
                await opened.send(REQUESTS[number % 4 == 0])
                # The modern era's answer is one object, the other's a stream of chunks.
                answer = await stream.receive_until(ENDS[number % 4 == 0], 100_000)
                assert b'"isError":false' in answer

    with anyio.fail_after(100):
        async with anyio.create_task_group() as workers:
            for _ in range(WORKERS):
                workers.start_soon(work)


@pytest.mark.anyio
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no process's memory")
async def test_memory_stays_flat_from_one_thousand_calls_to_the_next(sandbox: Sandbox) -> None:
    with serving(sandbox) as web:
        await list_jobs(web, CALLS)
        grown: list[float] = []
        # What is kept of each call is kept in every round; what the allocator puts by is not.
        while len(grown) < ROUNDS and (not grown or grown[-1] >= GROWTH_MIB):
            before = resident_mib(web)
            await list_jobs(web, CALLS)
            grown.append(resident_mib(web) - before)
        assert min(grown) < GROWTH_MIB, grown
