"""How much an assistant reads: the tools' listing, and the answers of two whole stories."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mcp import Client
from mcp_types import TextContent, Tool

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Sandbox
from sync_mcp.tools.answers import SANDBOX_MARK

LARGEST_LISTING = 11_600
"""Bytes of the tools as a model sees them."""
LARGEST_INSTRUCTIONS = 900
SANDBOX_ORIGIN = "http://127.0.0.1:65535"
"""The longest that an embedded sandbox has."""
LARGEST_ONE_CLIP = 2_300
"""Bytes of the answers from a price to the saved file."""
LARGEST_MANY_JOBS = 7_000
"""Bytes of the answers that price, make and wait for `MANY_JOBS`."""
LANGUAGES = ("es", "fr", "de", "it", "pt", "pl", "nl", "sv", "tr", "ja", "ko", "hi")
MANY_JOBS = len(LANGUAGES)
LARGEST_TOGETHER = 5_500
"""Bytes of the answers that price, make and wait for as many by `create_generations`."""
MOST_CALLS_TOGETHER = 6


def listing_bytes(tools: Iterable[Tool]) -> int:
    """Return how long the tools are as a model sees them: names, descriptions, input schemas."""
    seen = [
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        for tool in tools
    ]
    return len(_compact(seen))


@dataclass
class Reader:
    """Calls tools, and counts what it is answered: the text and the structured content, each by itself.

    Whoever pays does not read the sandbox's mark: without `counts_mark` it is left out.
    """

    client: Client
    counts_mark: bool = True
    text_bytes: int = 0
    structured_bytes: int = 0
    answers: list[str] = field(default_factory=list[str])

    @property
    def most_bytes(self) -> int:
        """What a host's model reads at most: hosts show the one or the other."""
        return max(self.text_bytes, self.structured_bytes)

    async def call(self, tool: str, **arguments: Any) -> Mapping[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        assert not result.is_error, text
        # What is answered with a picture has its line of text alone.
        structured = dict(result.structured_content or {})
        if not self.counts_mark:
            text = text.replace(f"sandbox: {SANDBOX_MARK}\n", "")
            structured.pop("sandbox", None)
        self.answers.append(text)
        self.text_bytes += len(text.encode())
        self.structured_bytes += len(_compact(structured)) if structured else len(text.encode())
        return structured


async def one_clip() -> Reader:
    """Play the story of a clip and a script: price, create, wait, look, save."""
    with Sandbox() as sandbox, TemporaryDirectory() as folder:
        server = create_server(Settings(download_dir=Path(folder)), sandbox_url=sandbox.url)
        async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
            voices = await client.call_tool("list_voices", {})
            assert voices.structured_content
            voice = voices.structured_content["voices"][0]["voice_id"]
            text = {"type": "text", "voice_id": voice, "script": "Welcome to our spring collection."}
            media = [{"type": "video", "url": sandbox.samples.video}, text]
            reader = Reader(client)
            await reader.call("estimate_cost", input=media, duration_seconds=5)
            made = await reader.call("create_generation", input=media, max_cost_usd=1, duration_seconds=5)
            sandbox.advance(60)
            job = made["generation_id"]
            await reader.call("get_generation", generation_id=job, wait_seconds=45)
            await reader.call("preview_generation", generation_id=job)
            await reader.call("download_generation", generation_id=job)
            return reader


async def many_jobs() -> Reader:
    """Play the story of a clip that is dubbed into many languages: each priced and made, all waited for."""
    with Sandbox(plan="enterprise") as sandbox, TemporaryDirectory() as folder:
        server = create_server(
            Settings(download_dir=Path(folder), approve_above_usd="never"), sandbox_url=sandbox.url
        )
        async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
            reader = Reader(client, counts_mark=False)
            jobs: list[str] = []
            for language in LANGUAGES:
                wanted: dict[str, Any] = {
                    "model": "lipsync-2",
                    "input": [{"type": "video", "url": sandbox.samples.speaking}],
                    "dub": {"target_lang": language},
                }
                await reader.call("estimate_cost", **wanted)
                made = await reader.call("create_generation", **wanted)
                jobs.append(made["generation_id"])
            sandbox.advance(60)
            await reader.call("wait_for_generations", generation_ids=jobs)
            return reader


async def jobs_together() -> Reader:
    """Play the same story by `create_generations`: all priced, made and waited for at once."""
    with Sandbox(plan="enterprise") as sandbox, TemporaryDirectory() as folder:
        server = create_server(Settings(download_dir=Path(folder)), sandbox_url=sandbox.url)
        async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
            reader = Reader(client, counts_mark=False)
            clip = {"type": "video", "url": sandbox.samples.speaking}
            wanted = [{"input": [clip], "dub": {"target_lang": language}} for language in LANGUAGES]
            priced = await reader.call("create_generations", requests=wanted, dry_run=True)
            made = await reader.call("create_generations", requests=wanted, quote_id=priced["quote_id"])
            sandbox.advance(60)
            jobs = [row["generation_id"] for row in made["generations"]]
            assert len(jobs) == MANY_JOBS
            await reader.call("wait_for_generations", generation_ids=jobs)
            return reader


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
