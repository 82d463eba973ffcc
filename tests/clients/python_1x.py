"""A client on an older release of the Python SDK makes a video on the sandbox.

python_1x.py URL
python_1x.py COMMAND [ARGUMENT...]
"""

# Checked against the release of this project's own environment, which has other names.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

import json
import re
import sys
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client import streamable_http
from mcp.client.stdio import stdio_client

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
TOOLS = {path.stem.removeprefix("tool_") for path in SNAPSHOTS.glob("tool_*.json")}
LIMIT_SECONDS = 60


async def main(target: str, *arguments: str) -> None:
    with anyio.fail_after(LIMIT_SECONDS):
        async with connection(target, arguments) as (read, write, *_), ClientSession(read, write) as session:
            era = await make_video(session)
    sys.stdout.write(f"ok: mcp {version('mcp')}, protocol {era}\n")


def connection(target: str, arguments: tuple[str, ...]) -> AbstractAsyncContextManager[Any]:
    if target.startswith("http"):
        return streamable_http.streamablehttp_client(target)
    return stdio_client(StdioServerParameters(command=target, args=list(arguments)))


async def make_video(session: ClientSession) -> str:
    greeting = await session.initialize()
    names = {tool.name for tool in (await session.list_tools()).tools}
    expect(names == TOOLS, f"the tools are {sorted(names)}")

    video, _, audio, _ = re.findall(r"http://\S+/samples/[\w.]+", greeting.instructions or "")
    # Of its own: the same request again would be answered with the job of the client before.
    own = f"{video}?{uuid4()}"
    created = await call(
        session,
        "create_generation",
        {"input": [{"type": "video", "url": own}, {"type": "audio", "url": audio}]},
    )
    finished = await call(
        session, "get_generation", {"generation_id": created["generation_id"], "wait_seconds": 40}
    )
    expect(finished["status"] == "COMPLETED", f"the job is {finished['status']}")
    expect(finished["output_url"].startswith("http"), f"the output is at {finished['output_url']}")
    return str(greeting.protocolVersion)


async def call(session: ClientSession, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    told: list[str | None] = []

    async def note(_: float, __: float | None, message: str | None) -> None:
        told.append(message)

    result = await session.call_tool(tool, arguments, progress_callback=note)
    expect(not result.isError, f"{tool} failed: {result.content}")
    text = "\n".join(block.text for block in result.content)
    # Releases that do not know the field keep it all the same.
    structured = result.model_dump()["structuredContent"]
    for name, value in structured.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        # What is more than a word stands in quotes.
        is_told = f"{name}: {shown}" in text or f"{name}: {json.dumps(value, ensure_ascii=False)}" in text
        expect(isinstance(value, list | dict) or is_told, f"the text lacks {name}")
    expect("SANDBOX" in text, "the text does not say that it comes from the sandbox")
    expect(bool(told) or "wait_seconds" not in arguments, f"{tool} told no progress")
    return structured


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
