"""Writes the snapshots beside it: what `tools/list` says of each tool, and what typical answers read like.

With --check it only says whether they are up to date. Ports, times and ids that differ from run to run are
replaced by fixed ones.
"""

import json
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp_types import TextContent

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox

FOLDER = Path(__file__).parent
PATTERNS = ("tool_*.json", "prompts.json", "answer_*.txt")
STALE = "tests/snapshots is out of date: run `make snapshots` and look at what changed."

_VARYING = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:8787"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "2026-11-30T12:00:00Z"),
    (re.compile(r"(?<=[?&])([\w-]+)=[^&\s]+"), r"\1=..."),
)


def snapshots() -> dict[str, str]:
    """Return the text of every snapshot by its file name."""
    return anyio.run(_snapshots)


def stale(wanted: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are missing, different, or left over."""
    found = {
        path.name: path.read_text(encoding="utf-8") for pattern in PATTERNS for path in FOLDER.glob(pattern)
    }
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


async def _snapshots() -> dict[str, str]:
    with anyio.fail_after(60):
        tools = await _tools()
        answers = await _answers()
        prompts = await _prompts()
    return {
        **{f"tool_{name}.json": text for name, text in tools.items()},
        **{f"answer_{name}.txt": text for name, text in answers.items()},
        "prompts.json": prompts,
    }


async def _tools() -> dict[str, str]:
    definitions: dict[str, dict[str, Any]] = {}
    # Those that are on by default are as they are then.
    for toolsets in (("all",), ("default",)):
        async with Client(create_server(Settings(toolsets=toolsets)), mode="legacy") as client:
            listed = (await client.list_tools()).tools
        definitions |= {
            tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed
        }
    return {
        name: json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, definition in definitions.items()
    }


async def _prompts() -> str:
    async with Client(create_server(Settings()), mode="legacy") as client:
        listed = (await client.list_prompts()).prompts
    told = [prompt.model_dump(mode="json", by_alias=True, exclude_none=True) for prompt in listed]
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


async def _answers() -> dict[str, str]:
    with Sandbox(job_seconds=10) as sandbox:
        # All scenes together are more than may be paid unasked.
        settings = Settings(sandbox=True, approve_above_usd=Decimal(100))
        server = create_server(settings, sandbox_url=sandbox.url)
        async with Client(server, mode="legacy") as client:
            return await _Scenes(client, sandbox).play()


class _Scenes:
    """One short life of an account on the sandbox, in which every typical answer occurs."""

    def __init__(self, client: Client, sandbox: Sandbox) -> None:
        self._client = client
        self._sandbox = sandbox
        self._media = [
            {"type": "video", "url": sandbox.samples.video},
            {"type": "audio", "url": sandbox.samples.audio},
        ]

    async def play(self) -> dict[str, str]:
        answers: dict[str, str] = {}
        answers["estimate"] = await self._text("estimate_cost", input=self._media, duration_seconds=10)
        answers["handle"] = await self._text("create_generation", input=self._media)
        first = self._job_id(answers["handle"])
        self._sandbox.advance(60)
        answers["completed"] = await self._text("get_generation", generation_id=first)
        answers["failed"] = await self._failed()
        await self._text("create_generation", input=self._media, model="lipsync-2-pro")
        answers["list"] = await self._text("list_generations", limit=2)
        answers["error_arguments"] = await self._text(
            "create_generation", input=self._media, modle="lipsync-2-pro", take=0
        )
        self._sandbox.add_fault(Fault.api_error("generation_input_video_inaccessible", path="/v2/generate"))
        answers["error_refused"] = await self._text("create_generation", input=self._media, model="sync-3")
        self._sandbox.add_fault(Fault.api_error("concurrency_limit_reached", path="/v2/generate"))
        answers["error_busy"] = await self._text("create_generation", input=self._media, model="sync-3")
        return {name: _fixed(text) + "\n" for name, text in answers.items()}

    async def _failed(self) -> str:
        self._sandbox.add_fault(Fault(job="fail", error_code="generation_pipeline_failed"))
        handle = await self._text("create_generation", input=self._media, model="lipsync-1.9.0-beta")
        self._sandbox.advance(60)
        return await self._text("get_generation", generation_id=self._job_id(handle))

    async def _text(self, tool: str, **arguments: Any) -> str:
        result = await self._client.call_tool(tool, arguments)
        return "\n".join(block.text for block in result.content if isinstance(block, TextContent))

    def _job_id(self, text: str) -> str:
        found = re.search(r"^generation_id: (\S+)$", text, re.MULTILINE)
        assert found, text
        return found[1]


def _fixed(text: str) -> str:
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text


def main() -> None:
    wanted = snapshots()
    changed = stale(wanted)
    if changed and "--check" in sys.argv[1:]:
        sys.exit(f"{STALE} ({', '.join(changed)})")
    for name in changed:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()


if __name__ == "__main__":
    main()
