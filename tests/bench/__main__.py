"""`make bench`: one table of ratios against a bare SDK server, each measured interleaved in one run.

It prints and judges; it is no test. The numbers of one machine say little, the ratios of one run much.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from statistics import median
from typing import Any

import anyio
from mcp import Client
from mcp_types import Tool

from sync_mcp import Settings, create_server
from sync_mcp.payments.ledger import Ledger
from sync_mcp.sandbox import Sandbox
from sync_mcp.server import instructions
from sync_mcp.tools.core import TOOLS
from sync_mcp.tools.toolsets import select_tools
from tests.bench.wire import (
    BARE,
    OURS,
    Call,
    StdioServer,
    http_server,
    start_cpu_seconds,
    stdio_server,
    upstream,
)
from tests.bench.words import (
    LARGEST_INSTRUCTIONS,
    LARGEST_LISTING,
    LARGEST_MANY_JOBS,
    LARGEST_ONE_CLIP,
    LARGEST_TOGETHER,
    MANY_JOBS,
    MOST_CALLS_TOGETHER,
    SANDBOX_ORIGIN,
    jobs_together,
    listing_bytes,
    many_jobs,
    one_clip,
)

STARTS = 15
PROCESS_PAIRS = 4
LATENCY_PAIRS = 100
ROUNDS = 4
CALLS_A_ROUND = 320
IN_FLIGHT = 32
JOBS = 500
ENDS = 20
FIRST_TOOLS = ("create_generation", "get_generation", "list_generations", "estimate_cost")
"""The tools that the limit of the listing holds for; each that came later has a limit of its own."""

_ONLY_LATER = (
    "httpx",
    "av",
    "PIL",
    "sync_mcp.api",
    "sync_mcp.payments",
    "sync_mcp.sandbox",
    "sync_mcp.media",
    "sqlalchemy",
)
_MODULES_AFTER_LISTING = """
import sys
from sync_mcp.tools.core import TOOLS
from sync_mcp.serving import stdio
from sync_mcp import server
[tool.definition for tool in TOOLS]
print(*sorted(sys.modules))
"""


def row(what: str, measured: float, reach: float, *, unit: str = "", at_least: bool = False) -> bool:
    good = measured >= reach if at_least else measured <= reach
    bound = f"{'at least' if at_least else 'at most'} {reach:g}"
    line = f"{'ok ' if good else 'BAD'} {what:<62} {measured:>10.3f} {unit:<6} ({bound})"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return good


def starts() -> list[bool]:
    taken = [
        (
            start_cpu_seconds(BARE),
            start_cpu_seconds(OURS),
            start_cpu_seconds(OURS, "prompts/list"),
            start_cpu_seconds(OURS, "prompts/list", modern_era=True),
        )
        for _ in range(STARTS)
    ]
    tools, prompts, modern_prompts = (
        median(ours[number] / bare for bare, *ours in taken) for number in range(3)
    )
    loaded = subprocess.run(
        [sys.executable, "-c", _MODULES_AFTER_LISTING], capture_output=True, encoding="utf-8", check=True
    ).stdout.split()
    early = [name for name in loaded if any(f"{name}.".startswith(f"{late}.") for late in _ONLY_LATER)]
    return [
        row("start to tools/list, CPU time, ours / bare", tools, 0.95),
        row("start to prompts/list, the same, the bare one's tools/list", prompts, 0.95),
        row("start to prompts/list in the modern era, the same", modern_prompts, 0.95),
        row(f"modules loaded too early {' '.join(early[:5])}", len(early), 0),
    ]


async def reads(transport: str, start: Callable[..., Any]) -> list[bool]:
    more = () if transport == "stdio" else ("--http", "--port", "0")
    latencies: list[float] = []
    rates: list[float] = []
    async with upstream() as base_url:
        # One process of a server is faster than another of the same by several parts in a hundred.
        for _ in range(PROCESS_PAIRS):
            async with start((*OURS, *more), base_url) as ours, start((*BARE, *more), base_url) as bare:
                latencies += await _latencies(ours.call, bare.call)
                rates += await _rates(ours.call, bare.call)
    latency, rate = median(latencies), median(rates)
    name = f"get_generation over {transport}"
    return [
        row(f"{name}: latency, ours / bare", latency, 1.20),
        row(
            f"{name}: calls per second at {IN_FLIGHT} in flight, ours / bare",
            rate,
            0.85 if transport == "stdio" else 0.95,
            at_least=True,
        ),
    ]


async def reads_with_ledger() -> bool:
    """Once there is a ledger, each read of a job asks it for the job's name."""
    latencies: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        with closing(Ledger(Path(home))) as ledger, ledger.store.transaction():
            pass
        async with upstream() as base_url:
            for _ in range(PROCESS_PAIRS):
                async with (
                    stdio_server(OURS, base_url, SYNC_MCP_HOME=home) as ours,
                    stdio_server(BARE, base_url) as bare,
                ):
                    latencies += await _latencies(ours.call, bare.call)
    return row("the same latency over stdio, with a ledger", median(latencies), 1.80)


async def _latencies(ours: Call, bare: Call) -> list[float]:
    ratios: list[float] = []
    for number in range(LATENCY_PAIRS):
        first, second = (ours, bare) if number % 2 else (bare, ours)
        times = {first: await _seconds(first(number)), second: await _seconds(second(number))}
        if number >= LATENCY_PAIRS // 10:
            ratios.append(times[ours] / times[bare])
    return ratios


async def _rates(ours: Call, bare: Call) -> list[float]:
    ratios: list[float] = []
    for number in range(ROUNDS):
        first, second = (ours, bare) if number % 2 else (bare, ours)
        times = {call: await _seconds(_many(call)) for call in (first, second)}
        ratios.append(times[bare] / times[ours])
    return ratios


async def _many(call: Call) -> None:
    numbers = iter(range(CALLS_A_ROUND))

    async def work() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def _seconds(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def sizes() -> list[bool]:
    async with stdio_server(OURS, "http://127.0.0.1:9") as server:
        listing = json.loads(await server.listing())["result"]["tools"]
        memory = await asyncio.to_thread(_memory_mib, server.process.pid)
    seen = [Tool.model_validate(tool) for tool in listing]
    first = [tool for tool in listing if tool["name"] in FIRST_TOOLS]
    length = len(json.dumps(first, separators=(",", ":"), ensure_ascii=False).encode())
    whole = len(json.dumps(listing, separators=(",", ":"), ensure_ascii=False).encode())
    [create] = [len(json.dumps(tool, separators=(",", ":"))) for tool in first if "create" in tool["name"]]
    with Sandbox(plan="enterprise", job_seconds=1) as sandbox:
        await _fill(sandbox)
        with tempfile.TemporaryDirectory() as home:
            async with stdio_server(OURS, sandbox.url, SYNC_MCP_HOME=home) as server:
                # A server's first call also asks an API on this machine, once, whether it is a sandbox.
                await server.tool("list_generations")
                before = len(sandbox.requests)
                answer = await server.tool("list_generations")
                asked = len(sandbox.requests) - before
                memory_paid = await _memory_after_a_paid_create(server, sandbox)
    selection = select_tools(TOOLS)
    on_the_sandbox = len(instructions(SANDBOX_ORIGIN, selection).encode())
    return [
        row("tools/list for the four tools", length, 13_000, unit="bytes"),
        row(f"list_generations on an account of {JOBS} jobs", len(answer), 6000, unit="bytes"),
        row("requests that it makes upstream", asked, 1),
        row("memory after tools/list", memory, 66, unit="MiB"),
        row("memory after the first paid create", memory_paid, 115, unit="MiB"),
        row("the definition of create_generation", create, 6000, unit="bytes"),
        row("tools/list for all tools", whole, 20_000, unit="bytes"),
        row("all tools as a model sees them", listing_bytes(seen), LARGEST_LISTING, unit="bytes"),
        row(
            "the instructions",
            len(instructions(None, selection).encode()),
            LARGEST_INSTRUCTIONS,
            unit="bytes",
        ),
        row("the instructions on the sandbox", on_the_sandbox, LARGEST_INSTRUCTIONS, unit="bytes"),
    ]


async def answers() -> list[bool]:
    one, many, together = await one_clip(), await many_jobs(), await jobs_together()
    what = f"answers that price, make and wait for {MANY_JOBS} jobs"
    return [
        row("answers from a clip's price to its file", one.most_bytes, LARGEST_ONE_CLIP, unit="bytes"),
        row(what, many.most_bytes, LARGEST_MANY_JOBS, unit="bytes"),
        row("the same, made together", together.most_bytes, LARGEST_TOGETHER, unit="bytes"),
        row("calls that make them together", len(together.answers), MOST_CALLS_TOGETHER),
    ]


async def _memory_after_a_paid_create(server: StdioServer, sandbox: Sandbox) -> float:
    media = [{"type": "video", "url": sandbox.samples.video}, {"type": "audio", "url": sandbox.samples.audio}]
    assert b"generation_id" in await server.tool("create_generation", input=media)
    return await asyncio.to_thread(_memory_mib, server.process.pid)


def _memory_mib(pid: int) -> float:
    told = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, encoding="utf-8", check=True
    )
    return int(told.stdout) / 1024


@asynccontextmanager
async def _assistant(sandbox: Sandbox) -> AsyncGenerator[Client]:
    server = create_server(Settings(sandbox=True), sandbox_url=sandbox.url)
    async with Client(server, mode="legacy") as client:
        yield client


async def _fill(sandbox: Sandbox) -> None:
    from sync_mcp import AsyncSync

    async with AsyncSync(api_key="bench", base_url=sandbox.url) as sync:
        for _ in range(JOBS // 50):
            async with anyio.create_task_group() as making:
                for _ in range(50):
                    making.start_soon(_create, sync, sandbox)
            sandbox.advance(2)


async def _create(sync: Any, sandbox: Sandbox) -> str:
    from sync_mcp import Audio, Video

    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    return (await sync.generations.create(model="lipsync-2", input=media)).id


async def ends() -> list[bool]:
    from sync_mcp import AsyncSync

    late: list[float] = []
    with Sandbox(job_seconds=1000) as sandbox:
        async with AsyncSync(api_key="bench", base_url=sandbox.url) as sync, _assistant(sandbox) as client:
            for _ in range(ENDS):
                late.append(await _lateness(client, sandbox, await _create(sync, sandbox)))
    from tests.bench.webhooks import told_seconds

    told = await told_seconds()
    return [
        row("from a job's end to its waiting get_generation", median(late), 0.3, unit="s"),
        row("the same by webhook, to who waits in another process", told, 0.3, unit="s"),
    ]


async def _lateness(client: Client, sandbox: Sandbox, generation_id: str) -> float:
    job = {"generation_id": generation_id, "wait_seconds": 45}
    watched = anyio.Event()
    ended_at = 0.0

    async def wait() -> float:
        answer = await client.call_tool("get_generation", job, progress_callback=progressed)
        assert answer.structured_content
        assert answer.structured_content["status"] == "COMPLETED"
        return time.perf_counter() - ended_at

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        del progress, total, message
        watched.set()

    waiting = asyncio.create_task(wait())
    await watched.wait()
    # At a moment that no polling interval knows of.
    await asyncio.sleep(0.1 + int.from_bytes(os.urandom(1)) / 128)
    ended_at = time.perf_counter()
    sandbox.advance(1000)
    return await waiting


async def paid_work() -> list[bool]:
    from tests.bench.jobs import ledger_seconds, many_waits, settling_reads, slots_busy
    from tests.bench.reservations import ENTRIES, reservation_seconds

    waits = await many_waits()
    per_create = await asyncio.to_thread(ledger_seconds)
    reserved = await asyncio.to_thread(reservation_seconds)
    busy = await slots_busy()
    reads = [await settling_reads(has_export=has_export) for has_export in (True, False)]
    return [
        row("reads of costs and usage for each of 180 creates", reads[0], 0.2),
        row("the same where the API has no export", reads[1], 0.2),
        row(
            "requests of 200 waits at once, of two a tick and one for each end", waits.requests, waits.allowed
        ),
        row("from a job's end to its caller's answer, 95th percentile", waits.late_seconds, 2.3, unit="s"),
        row("the ledger for each create, four processes at once", per_create * 1000, 5, unit="ms"),
        row(f"a reservation among {ENTRIES:,} entries of one day", reserved * 1000, 15, unit="ms"),
        row("slots busy in create_many of 150 jobs, of the ideal", busy, 0.95, at_least=True),
    ]


async def uploads() -> list[bool]:
    if not sys.platform.startswith("linux"):
        return []
    from tests.bench.uploads import large_uploads

    made = await large_uploads()
    rows = [row("upload of 5 GiB: memory beyond the idle server", made.memory_mib, 32, unit="MiB")]
    if made.throughput is not None:
        rows.append(row("the same against sha256sum and curl", made.throughput, 0.8, at_least=True))
    return rows


async def main() -> int:
    # Whatever lies in the home of who runs it is neither read nor written.
    with tempfile.TemporaryDirectory() as home:
        os.environ["SYNC_MCP_HOME"] = home
        return await _measure()


async def _measure() -> int:
    good = await asyncio.to_thread(starts)
    good += await reads("stdio", stdio_server)
    good += await reads("HTTP", http_server)
    good.append(await reads_with_ledger())
    good += await sizes()
    good += await answers()
    good += await ends()
    good += await paid_work()
    good += await uploads()
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
