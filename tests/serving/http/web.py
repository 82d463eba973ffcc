"""The command sync-mcp --http as a process, and a proxy that hands its requests round."""

import json
import re
import socket
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import anyio
import httpx
import httpx2
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.server.host import COMMAND, KEY
from tests.serving.stdio.process import MODERN_META, WAIT_SECONDS, ServerProcess, request, started

Mode = Literal["auto", "legacy"]
both_eras = pytest.mark.parametrize("mode", ["auto", "legacy"])

TOKEN = "a-Token-of-24-characters"
BEARER = f"Bearer {TOKEN}"

_IMPATIENT = """
import sys
from sync_mcp.cli import main as cli
from sync_mcp.serving import http
http._SILENT_SECONDS = float(sys.argv.pop(1))
http._HEAD_SECONDS = http._BODY_SECONDS = float(sys.argv.pop(1))
cli.main()
"""


class Upstream(Protocol):
    """What stands in for the API."""

    @property
    def url(self) -> str: ...


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
    api: Upstream,
    *flags: str,
    patience: float | None = None,
    begun_patience: float | None = None,
    env: Mapping[str, str] | None = None,
    forked: bool = True,
) -> Generator[Web]:
    """Serve HTTP with `api` in the place of the Sync API, to those who have `TOKEN`."""
    command: tuple[str, ...] = (COMMAND,)
    if patience is not None:
        command = (sys.executable, "-c", _IMPATIENT, str(patience), str(begun_patience or patience))
    settings = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": api.url, "SYNC_MCP_HTTP_TOKEN": TOKEN, **(env or {})}
    begun = started((*command, "--http", "--port", "0", *flags), settings, forked=forked)
    with begun as server:
        told = server.stderr.until(lambda line: b"/mcp" in line).decode()
        found = re.search(r"http://\S+/mcp", told)
        assert found
        yield Web(server, found[0])


@asynccontextmanager
async def connected(url: str, mode: Mode, token: str = TOKEN) -> AsyncGenerator[Client]:
    """A client of the SDK that has the token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60), trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def post(
    url: str,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    authorization: str | None = BEARER,
    **headers: str,
) -> httpx.Response:
    """Send one request of the modern era."""
    told, body = _request(method, params or {}, "auto")
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    if authorization is not None:
        more["authorization"] = authorization
    return httpx.post(url, content=body, headers=told | more, timeout=WAIT_SECONDS, trust_env=False)


def call(tool: str, arguments: Mapping[str, Any], mode: Mode = "auto") -> bytes:
    """Return the bytes of a call of either era that wants to be told progress."""
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
    headers, body = _request("tools/call", params, mode)
    return head(**headers, content_length=str(len(body))) + body


def head(method: str = "POST", *, authorization: str | None = BEARER, **headers: str) -> bytes:
    """Return the bytes of a request's head; underscores in the names stand for hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [] if authorization is None else [f"Authorization: {authorization}"]
    return "\r\n".join([f"{method} /mcp HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def _request(method: str, params: Mapping[str, Any], mode: Mode) -> tuple[dict[str, str], bytes]:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    given = dict(params)
    if mode == "legacy":
        headers["mcp-protocol-version"] = "2025-11-25"
    else:
        given["_meta"] = MODERN_META | given.get("_meta", {})
        headers |= {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
        headers |= {"mcp-name": given["name"]} if "name" in given else {}
    return headers, json.dumps(request(1, method, given)).encode()


@contextmanager
def connection(web: Web) -> Generator[socket.socket]:
    """A connection on which a test says byte for byte what it means to."""
    with socket.create_connection(("127.0.0.1", web.port), WAIT_SECONDS) as opened:
        yield opened


def until_said(opened: socket.socket, wanted: bytes) -> bytes:
    """All that comes until these bytes have come."""
    data = b""
    while wanted not in data:
        part = opened.recv(65536)
        assert part, data
        data += part
    return data


def said(opened: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with suppress(ConnectionError):
        while part := opened.recv(65536):
            data += part
    return data


class RoundRobin:
    """A proxy on loopback that hands each request to the next of several servers."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self.handed = [0] * len(ports)
        self._next = 0

    @contextmanager
    def running(self) -> Generator[str]:
        with start_blocking_portal() as portal:
            served, port = portal.start_task(self._run)
            try:
                yield f"http://127.0.0.1:{port}/mcp"
            finally:
                served.cancel()

    async def _run(self, *, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listening:
            task_status.started(listening.extra(SocketAttribute.local_port))
            await listening.serve(self._serve)

    async def _serve(self, client: SocketStream) -> None:
        async with client:
            with suppress(anyio.IncompleteRead, anyio.BrokenResourceError):
                coming = BufferedByteReceiveStream(client)
                head = await coming.receive_until(b"\r\n\r\n", 65536)
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await coming.receive_exactly(int(length[1]) if length else 0)
                turn = self._next
                self._next = (turn + 1) % len(self._ports)
                self.handed[turn] += 1
                # One request to a connection, so that the next one goes to the next server.
                once = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head) + b"\r\nConnection: close\r\n\r\n"
                async with await anyio.connect_tcp("127.0.0.1", self._ports[turn]) as server:
                    await server.send(once + body)
                    async for data in server:
                        await client.send(data)
