"""Have the speaker of a clip say a script: the six tool calls that an assistant makes for it.

python examples/dub_file.py talk.mp4 --script "Welcome to our spring sale." --voice warm --max-usd 2

Without SYNC_API_KEY it runs on the sandbox. The result lies beside the clip: talk.synced.mp4, and its
contact sheet, talk.sheet.jpg.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from mcp import Client, MCPError, StdioServerParameters
from mcp_types import ImageContent, TextContent


class Refused(Exception):
    """A tool said no, or its answer will not do, and why."""


async def main(clip: Path, script: str, voice: str, max_usd: float) -> str | None:
    result = clip.with_suffix(".synced.mp4")
    if obstacle := obstacle_to(result):
        return f"Not made: {obstacle}"
    async with Client(server_for(clip.parent)) as client:
        try:
            job = await create(client, clip, script, voice, max_usd)
        except Refused as refused:
            return f"Not made: {refused}"
        try:
            await save(client, job, clip.with_suffix(".sheet.jpg"), result)
        except (Refused, MCPError, OSError) as error:
            return f"Not saved as {result.name}: {error}\nThe job is {job['generation_id']}."
    return None


def obstacle_to(result: Path) -> str:
    """Return why a result could not be saved: better known before it is paid for."""
    if result.exists():
        return f"{result} is there already: move it, or delete it."
    if not os.access(result.parent, os.W_OK):
        return f"{result.parent} cannot be written to."
    if os.pathsep in str(result.parent) and "SYNC_MCP_MEDIA_ROOTS" not in os.environ:
        return f"{result.parent} has a {os.pathsep!r} in it, which parts folders: move the clip elsewhere."
    return ""


async def create(client: Client, clip: Path, script: str, voice: str, max_usd: float) -> dict[str, Any]:
    listed = await call(client, "list_voices", search=voice)
    if not listed["voices"]:
        raise Refused(f"No voice is like {voice!r}.")
    speech = {"type": "text", "script": script, "voice_id": listed["voices"][0]["voice_id"]}
    request: dict[str, Any] = {"input": [{"type": "video", "path": str(clip)}, speech]}
    price = await call(client, "estimate_cost", **request)
    # Who names a highest price agrees to it; a quote is for this very request, once.
    request["max_cost_usd"] = max_usd
    if "quote_id" in price and price.get("cost_usd", max_usd) <= max_usd:
        request["quote_id"] = price["quote_id"]
    return await call(client, "create_generation", **request)


async def save(client: Client, job: dict[str, Any], sheet: Path, result: Path) -> None:
    id = job["generation_id"]
    while job["status"] in ("PENDING", "PROCESSING"):
        job = await call(client, "get_generation", generation_id=id, wait_seconds=45)
    if job["status"] != "COMPLETED":
        raise Refused(job.get("api_says", job["status"]))
    await call(client, "preview_generation", generation_id=id, sheet=sheet)
    saved = await call(client, "download_generation", generation_id=id, path=str(result))
    failed = [name for name, found in saved["checks"].items() if found.startswith("failed")]
    if failed:
        raise Refused(f"it failed a check ({', '.join(failed)}) and is kept as {saved['path']}.")


def server_for(folder: Path) -> StdioServerParameters:
    settings = {name: value for name, value in os.environ.items() if name.startswith("SYNC_")}
    settings.setdefault("SYNC_MCP_MEDIA_ROOTS", str(folder))
    sandbox = [] if settings.get("SYNC_API_KEY") else ["--sandbox"]
    return StdioServerParameters(
        command=sys.executable, args=["-m", "sync_mcp", "--log-level", "warning", *sandbox], env=settings
    )


async def call(client: Client, tool: str, sheet: Path | None = None, **arguments: Any) -> dict[str, Any]:
    print(f"\n> {tool} {json.dumps(arguments, ensure_ascii=False)}")
    result = await client.call_tool(tool, arguments, progress_callback=show_progress)
    text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
    print(text)
    # An upload or a download that takes longer than a call goes on: the same call joins it.
    if result.is_error and re.match("transfer_under_way|create_under_way", text):
        return await call(client, tool, sheet, **arguments)
    if result.is_error:
        raise Refused(f"{tool}: see above")
    for block in result.content:
        if isinstance(block, ImageContent) and sheet:
            await asyncio.to_thread(sheet.write_bytes, base64.b64decode(block.data))
    return result.structured_content or {}


async def show_progress(progress: float, total: float | None, message: str | None) -> None:
    print(f"  ... {message}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have the speaker of a clip say a script.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--script", required=True, help="what is said")
    parser.add_argument("--voice", default="", help="words of the voice's name, such as warm")
    parser.add_argument("--max-usd", type=float, default=2.0, help="pay no more than this")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.clip.resolve(), given.script, given.voice, given.max_usd)))
