"""Drive the MCP server as a host does, over stdio, and print what an assistant would see.

python examples/assistant.py
python examples/assistant.py COMMAND ARGUMENT...      (another server; by default: sync-mcp --sandbox)
"""

import asyncio
import json
import re
import sys
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import TextContent

SANDBOX = [sys.executable, "-m", "sync_mcp", "--sandbox"]


async def main(command: str, *arguments: str) -> None:
    async with Client(StdioServerParameters(command=command, args=list(arguments))) as client:
        instructions = client.instructions or ""
        print(instructions)
        for tool in (await client.list_tools()).tools:
            print(f"\n{tool.name}: {tool.description}")

        # On its sandbox the server's instructions name sample media: a video, an image and an audio.
        video, _, audio, _ = re.findall(r"http://\S+/samples/[\w.]+", instructions)
        media = [{"type": "video", "url": video}, {"type": "audio", "url": audio}]
        await call(client, "estimate_cost", input=media)
        job = await call(client, "create_generation", input=media)
        await call(client, "get_generation", generation_id=job["generation_id"], wait_seconds=45)
        await call(client, "list_generations")
        # A slip: the answer says what is wrong, that nothing was paid, and what to do.
        await call(client, "create_generation", input=media, modle="lipsync-2-pro")


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    print(f"\n> {tool} {json.dumps(arguments)}")
    result = await client.call_tool(tool, arguments, progress_callback=show_progress)
    for block in result.content:
        if isinstance(block, TextContent):
            print(block.text)
    return result.structured_content or {}


async def show_progress(progress: float, total: float | None, message: str | None) -> None:
    print(f"  ... {message}")


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or SANDBOX)))
