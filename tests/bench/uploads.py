"""An upload through the server: what it takes of memory, and how fast it is beside `sha256sum` and `curl`."""

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sync_mcp.sandbox.media.samples import sample
from tests.bench.wire import OURS, StdioServer, stdio_server

UPLOAD_BYTES = int(os.environ.get("BENCH_UPLOAD_MIB", "5120")) * 1024**2 - 4096
PAIRS = 3
_LOOK_SECONDS = 0.02
_AT_ONCE = 1024**2


@dataclass(frozen=True, slots=True)
class Uploads:
    """What uploads of one large file came to."""

    memory_mib: float
    """The most that the server had beyond its idle state."""
    throughput: float | None
    """Of `sha256sum F && curl -T F`, in the same run; None where one of them is not installed."""


async def large_uploads() -> Uploads:
    """Upload a file of nearly 5 GiB some times, in turns with the two commands."""
    has_rivals = all(shutil.which(name) for name in ("sha256sum", "curl"))
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder, _sink() as url:
        path = Path(folder, "clip.mp4")
        await asyncio.to_thread(_make_clip, path)
        settings = {"SYNC_MCP_MEDIA_ROOTS": folder, "SYNC_MCP_HOME": str(Path(folder, "home"))}
        async with stdio_server(OURS, url, **settings) as server:
            small = Path(folder, "small.mp4")
            shutil.copy(sample("speaker.mp4"), small)
            await _upload(server, small)
            with _most_memory(server.process.pid) as memory:
                idle = memory[0]
                for _ in range(PAIRS):
                    began = time.perf_counter()
                    # Touched, so that nothing remembered of it counts.
                    await asyncio.to_thread(path.touch)
                    await _upload(server, path)
                    ours = time.perf_counter() - began
                    if has_rivals:
                        ratios.append(await asyncio.to_thread(_rival_seconds, path, url) / ours)
                most = memory[0]
    return Uploads(most - idle, median(ratios) if ratios else None)


async def _upload(server: StdioServer, path: Path) -> None:
    while True:
        answer = await server.tool("upload_asset", path=str(path))
        if b"transfer_under_way" not in answer:
            assert b'"asset_id"' in answer, answer
            return


def _rival_seconds(path: Path, url: str) -> float:
    began = time.perf_counter()
    command = f"sha256sum {path} > /dev/null && curl -sf -T {path} {url}/rival > /dev/null"
    subprocess.run(command, shell=True, check=True)
    return time.perf_counter() - began


def _make_clip(path: Path) -> None:
    """Write a real video, and after it a box of nothing that makes it large."""
    clip = sample("speaker.mp4").read_bytes()
    with path.open("wb") as file:
        file.write(clip + struct.pack(">I4sQ", 1, b"free", UPLOAD_BYTES - len(clip)))
        file.truncate(UPLOAD_BYTES)


@contextmanager
def _most_memory(pid: int) -> Generator[list[float]]:
    """Watch the resident memory of a process; the one entry is the most so far, in MiB."""
    most = [_memory_mib(pid)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_LOOK_SECONDS):
            most[0] = max(most[0], _memory_mib(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


@contextmanager
def _sink() -> Generator[str]:
    """Run a storage that takes everything and keeps nothing, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.uploads"], stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _answer(method: str, target: str, url: str) -> dict[str, object]:
    match method, target.partition("?")[0]:
        case "GET", "/v2/assets/uploaded":
            return {"asset": None}
        case "POST", "/v2/assets/upload":
            return {"uploadUrl": f"{url}/storage?signature=1", "url": f"{url}/storage", "expiresIn": 3600}
        case "POST", "/v2/assets":
            return {"id": "asset-1", "type": "VIDEO"}
        case _:
            return {}


def _serve(connection: socket.socket, url: str) -> None:
    view = memoryview(bytearray(_AT_ONCE))
    data = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in data:
                got = connection.recv(65536)
                if not got:
                    return
                data += got
            head, _, rest = data.partition(b"\r\n\r\n")
            first, *fields = head.decode().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
            }
            left = int(headers.get("content-length", "0")) - len(rest)
            if "expect" in headers:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while left > 0:
                count = connection.recv_into(view[: min(left, _AT_ONCE)])
                if not count:
                    return
                left -= count
            body = json.dumps(_answer(method, target, url)).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            data = b""


def _run_sink() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, url), daemon=True).start()


if __name__ == "__main__":
    _run_sink()
