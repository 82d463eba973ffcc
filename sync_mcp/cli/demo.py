"""The demo: a clip is made to say a script, on the sandbox, by a client that starts the server as a host."""

import argparse
import base64
import json
import re
import sys
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast
from urllib.parse import urljoin

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, ImageContent

from sync_mcp.api.models import RUNNING_STATUSES
from sync_mcp.cli.sandbox import require_media
from sync_mcp.cli.streams import take_all_letters
from sync_mcp.cli.telling import Plain, Raw, Telling

_SERVER = StdioServerParameters(
    command=sys.executable, args=["-m", "sync_mcp", "--sandbox", "--log-level", "warning"]
)
_ANSWER_SECONDS = 60.0
_WAIT_SECONDS = 45
_JOB_SECONDS = 8
_SCRIPT = "Hello. Not a word of this was ever said before this very moment, and yet here it is."


class _DemoFailed(Exception):
    """A step did not give what the next one needs."""


def run(arguments: argparse.Namespace) -> None:
    """Play the demo, and end the program with its exit code."""
    require_media()
    take_all_letters()
    sys.exit(anyio.run(run_demo, arguments.output, Raw() if arguments.raw else Plain()))


async def run_demo(output: str, telling: Telling) -> int:
    """Make `<output>/lipsync.mp4` of a clip, telling each step and answer; return the exit code, 0 or 1.

    What lies in the folder stays: a second demo makes `lipsync-2.mp4`.
    """
    code = 1
    try:
        await _play(_new_folder(output), telling)
        code = 0
    except* (_DemoFailed, MCPError, OSError, HTTPException) as group:
        print(f"\nThe demo failed: {_innermost(group)}", file=sys.stderr)
    return code


async def _play(folder: Path, telling: Telling) -> None:
    clip, video, sheet = _free_paths(folder, "clip.mp4", "lipsync.mp4", "contact-sheet.jpg")
    # Whatever it costs it is asked about, so that the question is seen.
    ours = {"SYNC_MCP_MEDIA_ROOTS": str(folder), "SYNC_MCP_APPROVE_ABOVE_USD": "0"}
    server = _SERVER.model_copy(update={"env": {**(_SERVER.env or {}), **ours}})

    async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        del context
        telling.show_question(params.message)
        return ElicitResult(action="accept")

    async with Client(server, elicitation_callback=agree, read_timeout_seconds=_ANSWER_SECONDS) as client:
        assistant = _Assistant(client, telling)
        sample_url = _sample(await assistant.introduce(), "speaker.mp4")
        await anyio.to_thread.run_sync(_prepare, sample_url, clip)
        voices = await assistant.call("list_voices", {"search": "warm"})
        request: dict[str, Any] = {
            "input": [
                {"type": "video", "path": str(clip)},
                {"type": "text", "script": _SCRIPT, "voice_id": voices["voices"][0]["voice_id"]},
            ]
        }
        await assistant.call("estimate_cost", request)
        created = await assistant.call("create_generation", {**request, "max_cost_usd": 2})
        job = {"generation_id": str(created["generation_id"])}
        await assistant.wait_for(job)
        await assistant.call("preview_generation", job, picture=sheet)
        told = await assistant.call("download_generation", {**job, "path": str(video)})
    failed = [name for name, found in told["checks"].items() if found.startswith("failed")]
    if failed:
        raise _DemoFailed(f"the video failed a check ({', '.join(failed)}) and is kept as {told['path']}")
    telling.conclude(sheet, told["path"])


class _Assistant:
    """Calls tools as an assistant does, and tells what it asks and what it is told."""

    def __init__(self, client: Client, telling: Telling) -> None:
        self._client = client
        self._telling = telling

    async def introduce(self) -> str:
        """Tell what a host learns of the server on connecting, and return its instructions."""
        tools = (await self._client.list_tools()).tools
        self._telling.introduce(self._client.protocol_version, tools)
        return self._client.instructions or ""

    async def call(
        self, tool: str, arguments: dict[str, Any], *, picture: Path | None = None
    ) -> dict[str, Any]:
        """Tell a call and its answer, and return the answer's structured content."""
        with self._telling.show_call(tool, arguments):
            result = await self._client.call_tool(tool, arguments, progress_callback=self._tell_progress)
        self._telling.show_answer(tool, result)
        for block in result.content:
            if isinstance(block, ImageContent) and picture:
                await anyio.Path(picture).write_bytes(base64.b64decode(block.data))
        if result.is_error:
            raise _DemoFailed(f"{tool} was refused, see above")
        return result.structured_content or {}

    async def wait_for(self, job: dict[str, Any]) -> None:
        """Ask until the job has ended in a video."""
        for _ in range(3):
            told = await self.call("get_generation", {**job, "wait_seconds": _WAIT_SECONDS})
            if told["status"] == "COMPLETED":
                return
            if told["status"] not in RUNNING_STATUSES:
                break
        raise _DemoFailed("the job did not end in a video")

    async def _tell_progress(self, progress: float, total: float | None, message: str | None) -> None:
        del total
        self._telling.show_progress(progress, message or "")


def _new_folder(output: str) -> Path:
    folder = Path(output).resolve()
    # Before anything is made: a video that cannot be kept need not be made.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _DemoFailed(
            f"nothing can be written in {folder}: {reason}. Name another place: --output FOLDER"
        ) from error
    return folder


def _free_paths(folder: Path, *names: str) -> list[Path]:
    """Return paths of these names, all with the same number where one is taken: what is there stays."""
    paths, number = [folder / name for name in names], 1
    while any(path.exists() for path in paths):
        number += 1
        paths = [folder / f"{Path(name).stem}-{number}{Path(name).suffix}" for name in names]
    return paths


def _sample(instructions: str, name: str) -> str:
    found = re.search(rf"http://\S+/samples/{re.escape(name)}", instructions)
    if found is None:
        raise _DemoFailed(f"the server's instructions name no sample {name}")
    return found.group()


def _prepare(sample_url: str, clip: Path) -> None:
    """Put a clip where a user has one, and let the job last long enough for its progress to be seen."""
    clip.write_bytes(_ask(sample_url))
    _ask(urljoin(sample_url, "/sandbox/settings"), "PATCH", json.dumps({"job_seconds": _JOB_SECONDS}))


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
