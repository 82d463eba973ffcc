"""The command sync-mcp --http as a process, and a proxy that hands its requests round."""

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from sync_mcp.sandbox import Sandbox
from tests.server.host import COMMAND, KEY
from tests.stdio.process import WAIT_SECONDS, ServerProcess, started

ERA = "2026-07-28"
_IMPATIENT = """
import sys
from sync_mcp import cli, http
http._HEAD_SECONDS = http._BODY_SECONDS = float(sys.argv.pop(1))
cli.main()
"""


@dataclass(frozen=True)
class Web:
    """A server process and where it is to be reached."""

    server: ServerProcess
    url: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    @property
    def health(self) -> str:
        return self.url.removesuffix("/mcp") + "/health"


@contextmanager
def serving(
    api: Sandbox, *flags: str, patience: float | None = None, env: Mapping[str, str] | None = None
) -> Generator[Web]:
    """Serve HTTP with `api` in the place of the Sync API."""
    command = (COMMAND,) if patience is None else (sys.executable, "-c", _IMPATIENT, str(patience))
    settings = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": api.url, **(env or {})}
    with started((*command, "--http", "--port", "0", *flags), settings) as server:
        told = server.stderr.until(lambda line: b"/mcp" in line).decode()
        found = re.search(r"http://\S+/mcp", told)
        assert found
        yield Web(server, found[0])


def post(url: str, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
    """Send one request of the modern era."""
    prefix = "io.modelcontextprotocol"
    meta: dict[str, Any] = {f"{prefix}/protocolVersion": ERA, f"{prefix}/clientCapabilities": {}}
    given = dict(params or {})
    named = {"Mcp-Name": given["name"]} if "name" in given else {}
    return httpx.post(
        url,
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": {**given, "_meta": meta}},
        headers={
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": ERA,
            "Mcp-Method": method,
            **named,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        timeout=WAIT_SECONDS,
        trust_env=False,
    )


class RoundRobin:
    """A proxy on loopback that hands each request to the next of several servers."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self.handed = [0] * len(ports)
        self._next = 0

    @contextmanager
    def running(self) -> Generator[str]:
        started_at: Future[tuple[int, Callable[[], object]]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(started_at)), daemon=True)
        thread.start()
        port, stop = started_at.result(WAIT_SECONDS)
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            stop()
            thread.join(WAIT_SECONDS)

    async def _run(self, started_at: "Future[tuple[int, Callable[[], object]]]") -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        started_at.set_result((port, partial(loop.call_soon_threadsafe, stopped.set)))
        await stopped.wait()
        listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            turn = self._next
            self._next = (turn + 1) % len(self._ports)
            self.handed[turn] += 1
            answers, onward = await asyncio.open_connection("127.0.0.1", self._ports[turn])
            # One request to a connection, so that the next one goes to the next server.
            once = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n"
            onward.write(once + body)
            while data := await answers.read(65536):
                writer.write(data)
                await writer.drain()
            await _closed(onward)
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
