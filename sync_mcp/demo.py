"""The demo: a lip-sync video made on the sandbox, by an MCP client that starts the server as a host does."""

import json
import re
import sys
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import TextContent

from sync_mcp.media.probe import MediaError, probe

_SERVER = StdioServerParameters(
    command=sys.executable, args=["-m", "sync_mcp", "--sandbox", "--log-level", "warning"]
)
_ANSWER_SECONDS = 60.0
_WAIT_SECONDS = 45
_JOB_SECONDS = 8


class _DemoFailed(Exception):
    """A step did not give what the next one needs."""


async def run_demo(output: str) -> int:
    """Make `<output>/lipsync.mp4`, printing each step and answer; return the exit code, 0 or 1."""
    code = 1
    try:
        await _play(_new_video(output))
        code = 0
    except* (_DemoFailed, MCPError, MediaError, OSError, HTTPException) as group:
        print(f"\nThe demo failed: {_innermost(group)}", file=sys.stderr)
    return code


async def _play(path: Path) -> None:
    async with Client(_SERVER, read_timeout_seconds=_ANSWER_SECONDS) as client:
        assistant = _Assistant(client)
        request = _request(await assistant.introduce())
        await anyio.to_thread.run_sync(_slow_down, request["input"][0]["url"])
        await assistant.call("estimate_cost", request)
        created = await assistant.call("create_generation", request)
        output_url = await assistant.wait_for(str(created["generation_id"]))
        await assistant.call("list_generations", {"limit": 3})
        # The sandbox ends with the server, so the video is fetched while that runs.
        print(f"\n> download output_url to {path}")
        print(await anyio.to_thread.run_sync(_download, output_url, path))
    print(f"\nThe video: {path}")


class _Assistant:
    """Calls tools as an assistant does, and prints what it asks and what it is told."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def introduce(self) -> str:
        """Print what a host learns of the server on connecting, and return its instructions."""
        print(f"Connected to sync-mcp --sandbox over stdio, protocol {self._client.protocol_version}.")
        print("\n> tools/list")
        for tool in (await self._client.list_tools()).tools:
            print(f"{tool.name:20}{tool.title}")
        return self._client.instructions or ""

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Print a call and its answer, and return the answer's structured content."""
        print(f"\n> {tool} {json.dumps(arguments)}")
        result = await self._client.call_tool(tool, arguments, progress_callback=self._tell_progress)
        for block in result.content:
            if isinstance(block, TextContent):
                print(block.text)
        if result.is_error or result.structured_content is None:
            raise _DemoFailed(f"{tool} was refused, see above")
        return result.structured_content

    async def wait_for(self, generation_id: str) -> str:
        """Ask until the job has ended, and return the URL of its video."""
        question = {"generation_id": generation_id, "wait_seconds": _WAIT_SECONDS}
        for _ in range(3):
            job = await self.call("get_generation", question)
            if job.get("output_url"):
                return str(job["output_url"])
            if job["status"] not in ("PENDING", "PROCESSING"):
                break
        raise _DemoFailed("the job did not end in a video")

    async def _tell_progress(self, progress: float, total: float | None, message: str | None) -> None:
        del total
        print(f"  ... {message or f'{progress:.0f} s'}", flush=True)


def _new_video(output: str) -> Path:
    folder = Path(output).resolve()
    # Before anything is made: what cannot be kept need not be.
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "lipsync.mp4"


def _request(instructions: str) -> dict[str, Any]:
    return {
        "model": "lipsync-2",
        "input": [
            {"type": "video", "url": _sample(instructions, "speaker.mp4")},
            {"type": "audio", "url": _sample(instructions, "speech.wav")},
        ],
    }


def _sample(instructions: str, name: str) -> str:
    found = re.search(rf"http://\S+/samples/{re.escape(name)}", instructions)
    if found is None:
        raise _DemoFailed(f"the server's instructions name no sample {name}")
    return found.group()


def _slow_down(sample_url: str) -> None:
    # So that the job lasts long enough for its progress to be seen.
    _ask(urljoin(sample_url, "/sandbox/settings"), "PATCH", json.dumps({"job_seconds": _JOB_SECONDS}))


def _download(url: str, path: Path) -> str:
    path.write_bytes(_ask(url))
    video = probe(path)
    if not (video.has_video and video.has_audio and video.duration_seconds):
        raise _DemoFailed(f"{path} is no video with sound")
    return f"{video.duration_seconds:.1f} s, {video.width}x{video.height}, picture and sound."


def _ask(url: str, method: str = "GET", body: str | None = None) -> bytes:
    # Directly: the sandbox is on this machine, whatever proxy the environment names.
    host, _, path = url.removeprefix("http://").partition("/")
    with closing(HTTPConnection(host, timeout=_ANSWER_SECONDS)) as connection:
        connection.request(method, f"/{path}", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        if reply.status != HTTPStatus.OK:
            raise _DemoFailed(f"{method} /{path.partition('?')[0]} was answered with {reply.status}")
        return reply.read()


def _innermost(error: BaseException) -> BaseException:
    # The client's task groups wrap what ends them, one group in another.
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
