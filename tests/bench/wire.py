"""The smallest clients there are: what is measured is the server."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.upstream import JOB_ID

ROOT = Path(__file__).parents[2]
OURS = ("-m", "sync_mcp")
BARE = (str(Path(__file__).with_name("bare_server.py")),)
ERA = "2026-07-28"
WAIT_SECONDS = 60
_TOKEN = "a-Token-of-24-characters"

Call = Callable[[int], Awaitable[Any]]
_INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}
_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": ERA,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def environment(upstream: str) -> dict[str, str]:
    # The bench's own home, and no other setting of who runs it.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SYNC_") or name == "SYNC_MCP_HOME"
    }
    return kept | {
        "SYNC_BASE_URL": upstream,
        "SYNC_API_KEY": "bench",
        "PYTHONPATH": str(ROOT),
    }


@asynccontextmanager
async def upstream() -> AsyncGenerator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("upstream.py")), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


def _request(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _get_generation(number: int) -> dict[str, Any]:
    arguments = {"generation_id": JOB_ID}
    return _request(number, "tools/call", {"name": "get_generation", "arguments": arguments})


class StdioServer:
    """A server process spoken to in raw lines, in the handshake era."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self.process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._pump: asyncio.Task[None] | None = None

    async def introduce(self) -> None:
        self._pump = asyncio.create_task(self._read())
        await self.ask(_request(-1, "initialize", _INITIALIZE))
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def listing(self) -> bytes:
        return await self.ask(_request(-2, "tools/list", {}))

    async def call(self, number: int) -> None:
        answer = await self.ask(_get_generation(number))
        assert JOB_ID.encode() in answer, answer

    async def tool(self, name: str, **arguments: object) -> bytes:
        return await self.ask(_request(-3, "tools/call", {"name": name, "arguments": arguments}))

    async def ask(self, frame: dict[str, Any]) -> bytes:
        answered = self._waiting[frame["id"]] = asyncio.get_running_loop().create_future()
        self._send(frame)
        return await asyncio.wait_for(answered, WAIT_SECONDS)

    def _send(self, frame: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(frame).encode() + b"\n")

    async def _read(self) -> None:
        while line := await self._stdout.readline():
            number = json.loads(line).get("id")
            if number in self._waiting:
                self._waiting.pop(number).set_result(line)


def start_cpu_seconds(
    command: tuple[str, ...], listing: str = "tools/list", *, modern_era: bool = False
) -> float:
    """Return the CPU time that a server takes from its start to its answer to `listing`."""
    meta = {"_meta": _META} if modern_era else {}
    introduction = (
        [_request(1, "server/discover", meta)]
        if modern_era
        else [
            _request(1, "initialize", _INITIALIZE),
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
        ]
    )
    frames = [*introduction, _request(2, listing, meta)]
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment("http://127.0.0.1:9"),
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))
    process.stdin.flush()
    while json.loads(process.stdout.readline()).get("id") != 2:
        pass
    process.kill()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = -9
    process.stdin.close()
    process.stdout.close()
    return used.ru_utime + used.ru_stime


@asynccontextmanager
async def stdio_server(
    command: tuple[str, ...], base_url: str, **variables: str
) -> AsyncGenerator[StdioServer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(base_url) | variables,
        limit=2**24,
    )
    try:
        server = StdioServer(process)
        await server.introduce()
        yield server
    finally:
        process.kill()
        await process.wait()


class HttpServer:
    """A server spoken to over HTTP in the modern era, on as many connections as calls are under way."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, number: int) -> None:
        reader, writer = await self._connection()
        writer.write(self._post(number))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        answer = await reader.readexactly(int(length[1]))
        assert JOB_ID.encode() in answer, answer
        self._idle.append((reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            # A server closes what has rested too long, as connections do while a machine is busy elsewhere.
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()

    def _post(self, number: int) -> bytes:
        frame = _get_generation(number)
        frame["params"]["_meta"] = _META
        body = json.dumps(frame).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
            f"Authorization: Bearer {_TOKEN}\r\nMCP-Protocol-Version: {ERA}\r\n"
            "Mcp-Method: tools/call\r\nMcp-Name: get_generation\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@asynccontextmanager
async def http_server(command: tuple[str, ...], base_url: str) -> AsyncGenerator[HttpServer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stderr=asyncio.subprocess.PIPE,
        env=environment(base_url) | {"SYNC_MCP_HTTP_TOKEN": _TOKEN},
    )
    try:
        assert process.stderr
        while not (found := re.search(rb"http://\S+/mcp", await process.stderr.readline())):
            pass
        server = HttpServer(found[0].decode())
        yield server
        server.close()
    finally:
        process.kill()
        await process.wait()
