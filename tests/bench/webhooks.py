"""How soon a webhook reaches who waits in another process: a figure for the table of `make bench`."""

import os
import tempfile
import time
from statistics import median
from typing import Any

import anyio
from mcp import Client

from sync_mcp import AsyncSync, Audio, Video
from sync_mcp.sandbox import Sandbox
from tests.api.conftest import until
from tests.serving.http.web import connected, serving

ENDS = 10
SECRET = "whsec_of_the_bench_alone"
PUBLIC = {"SYNC_MCP_PUBLIC_URL": "https://mcp.example.com"}
OURS = "https://mcp.example.com/webhooks/sync"


async def told_seconds() -> float:
    """Return the median from a job's end to the answer of a process that the webhook did not come to.

    It waits for another job too, so that no long poll tells it, and its lists are ten seconds apart.
    """
    late: list[float] = []
    with (
        tempfile.TemporaryDirectory() as home,
        Sandbox(plan="enterprise", job_seconds=1000, webhook_secret=SECRET) as sandbox,
        serving(sandbox, env={"SYNC_MCP_HOME": home, "SYNC_MCP_WEBHOOK_SECRET": SECRET, **PUBLIC}) as taking,
        serving(sandbox, env={"SYNC_MCP_HOME": home, **PUBLIC}) as waiting,
    ):
        sandbox.configure(webhook_origin=f"http://127.0.0.1:{taking.port}")
        async with (
            AsyncSync(api_key="bench", base_url=sandbox.url) as sync,
            connected(waiting.url, "legacy") as client,
        ):
            for _ in range(ENDS):
                late.append(await _lateness(client, sandbox, sync))
    return median(late)


async def _lateness(client: Client, sandbox: Sandbox, sync: AsyncSync) -> float:
    media: list[Any] = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    ids: list[str] = []
    for seconds in (1000, 100_000):
        sandbox.configure(job_seconds=seconds)
        ids.append((await sync.generations.create(model="lipsync-2", input=media, webhook_url=OURS)).id)
    ended_at = answered_at = 0.0
    looked = _lists(sandbox)

    async def wait() -> None:
        nonlocal answered_at
        arguments = {"generation_ids": ids, "until": "any", "wait_seconds": 45}
        answer = await client.call_tool("wait_for_generations", arguments)
        answered_at = time.perf_counter()
        assert answer.structured_content
        assert "COMPLETED" in [row["status"] for row in answer.structured_content["generations"]]

    async with anyio.create_task_group() as calls:
        calls.start_soon(wait)
        await until(lambda: _lists(sandbox) > looked)
        # At a moment that no interval knows of.
        await anyio.sleep(0.1 + int.from_bytes(os.urandom(1)) / 256)
        ended_at = time.perf_counter()
        sandbox.advance(1000)
    return answered_at - ended_at


def _lists(sandbox: Sandbox) -> int:
    return sum(one.path == "/v2/generations" and "ids" in one.query for one in sandbox.requests)
