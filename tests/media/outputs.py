"""Completed jobs of the sandbox, and outputs that it would never deliver by itself."""

from pathlib import Path
from typing import Any

from sync_mcp import AsyncSync, Audio, Generation, Video
from sync_mcp.sandbox import Sandbox

KEY = "sk_embedded_sandbox"


async def completed(sandbox: Sandbox, **fields: Any) -> Generation:
    """Return a job that has ended, of the sandbox's samples unless `fields` say otherwise."""
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as sync:
        asked: dict[str, Any] = {
            "model": "lipsync-2",
            "input": [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)],
            **fields,
        }
        made = await sync.generations.create(**asked)
        sandbox.advance(61)
        return await sync.generations.get(made.id)


async def completed_with(sandbox: Sandbox, output: bytes, folder: Path, **fields: Any) -> Generation:
    """Return a job that has ended with this output."""
    generation = await completed(sandbox, **fields)
    before = set((sandbox.folder / "outputs").iterdir())
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as sync:
        # It is made when it is fetched first.
        (await sync.generations.download(generation.id, folder / "first.mp4")).unlink()
    [made] = set((sandbox.folder / "outputs").iterdir()) - before
    made.write_bytes(output)
    return generation


def names_in(folder: Path) -> set[str]:
    """Return what lies in a folder, hidden or not, beside the home of the test."""
    return {path.name for path in folder.iterdir()} - {"home"}
