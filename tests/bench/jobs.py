"""What the ledger, many waits and many creates cost: figures for the table of `make bench`."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from statistics import median, quantiles
from typing import Any

import anyio
from mcp import Client

from sync_mcp import AsyncSync, Audio, Settings, Video, create_server
from sync_mcp.api.looks import TICK_SECONDS
from sync_mcp.sandbox import Sandbox

PROCESSES = 4
CREATES_EACH = 100
WAITS = 200
FIRST_END_SECONDS = 10.0
ENDS_WITHIN_SECONDS = 20.0
MANY = 150
PAID = 180
SLOTS = 15
JOB_SECONDS = 2.0

_CREATES = """
import json, sys, time
from decimal import Decimal
from sync_mcp.api.models import GenerationRequest, Video
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.attempt import Attempt, Instant
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import Price

folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger, limits = Ledger(folder), Limits(per_day_usd=Decimal(100_000))
ledger.check()
seconds = []
for number in range(count):
    request = GenerationRequest(model="lipsync-2", input=[Video(url=f"https://example.com/{name}/{number}")])
    began = time.perf_counter()
    intention = Intention(GenerationAct.of(request), account="key:bench", base_url="https://api.sync.so")
    ledger.latest(intention)
    attempt = Attempt(intention, 1, "bench", name, limits, Instant(time.time()), Price(Decimal("0.5")))
    entry, _ = ledger.begin(attempt)
    ledger.accept(entry.id, f"{name}-{number}")
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""


def ledger_seconds() -> float:
    """Return the median of what the ledger takes of a create, four processes at once."""
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _CREATES, folder, f"p{number}", str(CREATES_EACH)],
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
            for number in range(PROCESSES)
        ]
        told = [process.communicate()[0] for process in processes]
    return median(seconds for line in told for seconds in json.loads(line))


@dataclass(frozen=True, slots=True)
class Waits:
    """What many waits at once cost, and how late they were answered."""

    requests: int
    allowed: float
    """Two for each tick, and one for each job that ended."""
    late_seconds: float
    """95th percentile from a job's end to its caller's answer."""


async def many_waits() -> Waits:
    """Let 200 calls of one server process wait for a job each; the jobs end one by one."""
    with Sandbox(concurrency=WAITS + 1, job_seconds=600) as sandbox:
        ends = await _jobs_that_end_in_turn(sandbox)
        async with _waiting_server(sandbox) as client:
            before, began = len(sandbox.requests), time.monotonic()
            late: list[float] = []

            async def wait_for(generation_id: str, ends_at: float) -> None:
                arguments = {"generation_id": generation_id, "wait_seconds": 50}
                answer = await client.call_tool("get_generation", arguments)
                assert answer.structured_content
                assert answer.structured_content["status"] == "COMPLETED"
                late.append(time.monotonic() - ends_at)

            async with anyio.create_task_group() as waiting:
                for generation_id, ends_at in ends.items():
                    waiting.start_soon(wait_for, generation_id, ends_at)
            ticks = (time.monotonic() - began) / TICK_SECONDS
            asked = len(sandbox.requests) - before
    return Waits(asked, 2 * ticks + WAITS, quantiles(late, n=20)[-1])


async def _jobs_that_end_in_turn(sandbox: Sandbox) -> Mapping[str, float]:
    """Make jobs; return when each ends, on this process's monotonic clock."""
    ends: dict[str, float] = {}
    media = _media(sandbox)
    async with AsyncSync(api_key="bench", base_url=sandbox.url) as sync:
        # The samples are looked at once, before the clock counts.
        await sync.generations.create(model="lipsync-2", input=media)
        began = time.monotonic()
        for number in range(WAITS):
            ends_at = began + FIRST_END_SECONDS + ENDS_WITHIN_SECONDS * number / WAITS
            sandbox.configure(job_seconds=ends_at - time.monotonic())
            ends[(await sync.generations.create(model="lipsync-2", input=media)).id] = ends_at
    return ends


@asynccontextmanager
async def _waiting_server(sandbox: Sandbox, **settings: Any) -> AsyncGenerator[Client]:
    server = create_server(Settings.model_validate({"sandbox": True, **settings}), sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=70) as client:
        yield client


async def settling_reads(*, has_export: bool) -> float:
    """Return how many reads of costs and usage each of 180 guarded creates causes, a job's end apart."""
    with Sandbox(plan="enterprise", job_seconds=60, usage_export=has_export) as sandbox:
        async with _waiting_server(sandbox, approve_above_usd="never", budget_usd=Decimal(1000)) as client:
            voice = {"type": "audio", "url": sandbox.samples.audio}
            for number in range(PAID):
                video = {"type": "video", "url": f"{sandbox.samples.video}?n={number}"}
                await client.call_tool("create_generation", {"input": [video, voice]})
                sandbox.advance(2)
        assert len(sandbox.charges) == PAID
        reads = sum(
            request.path.endswith("/costs")
            or request.path == "/v2/usage/generations"
            or (request.path == "/v2/generations" and "ids" in request.query)
            for request in sandbox.requests
        )
    return reads / PAID


async def slots_busy() -> float:
    """Return which share of their time the slots are busy while `create_many` works through 150 jobs."""
    with Sandbox(plan="scale", concurrency=SLOTS, job_seconds=JOB_SECONDS) as sandbox:
        async with AsyncSync(api_key="bench", base_url=sandbox.url) as sync:
            media = _media(sandbox)
            requests: list[Any] = [{"model": "lipsync-2", "input": media} for _ in range(MANY)]
            # As above.
            await sync.generations.wait((await sync.generations.create(**requests[0])).id)
            began = time.monotonic()
            async for outcome in sync.generations.create_many(requests):
                assert outcome.error is None, outcome.error
            return MANY * JOB_SECONDS / SLOTS / (time.monotonic() - began)


def _media(sandbox: Sandbox) -> list[Any]:
    return [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
