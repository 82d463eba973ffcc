"""A client over stdio that calls tools, gives calls up, and sees its server die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.serving.stdio.forked import ForkedProcess

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 75.0
START_SECONDS = 60.0

Frame = dict[str, Any]


class ServerDied(Exception):
    """The server ended before it answered."""


class CallGivenUp(Exception):
    """The client cancelled the call."""


def _start(env: Mapping[str, str], stderr: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.torture.server"]
    if sys.platform == "linux":
        return ForkedProcess(command, env, stderr=stderr)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, cwd=ROOT, env=env)


async def _streams(process: subprocess.Popen[bytes]) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    writing, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
    )
    return asyncio.StreamWriter(writing, protocol, None, loop), reader


class ServerProcess:
    """A server process, in the handshake era; several calls at once."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader
    ) -> None:
        self.process, self._stdin, self._stdout = process, stdin, stdout
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._number = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, env: Mapping[str, str], log: Path) -> "ServerProcess":
        """Start a server with these settings and no others, and greet it; its log is appended to `log`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
        with log.open("ab") as stderr:
            process = _start(kept | {"PYTHONPATH": str(ROOT), **env}, stderr.fileno())
        server = cls(process, *await _streams(process))
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "torture", "version": "1"},
        }
        try:
            async with asyncio.timeout(START_SECONDS):
                await server._ask("initialize", hello)
        except BaseException:
            await asyncio.shield(server.kill())
            raise
        server._send({"method": "notifications/initialized"})
        return server

    @property
    def alive(self) -> bool:
        return not self._reading.done()

    async def call(self, tool: str, arguments: Frame, *, give_up_after: float | None = None) -> Frame:
        """Return the result of a tool call; with `give_up_after` it is cancelled after so many seconds.

        Raises:
            ServerDied: no answer will come any more.
            CallGivenUp: it was cancelled.
        """
        params = {"name": tool, "arguments": arguments}
        return await self._ask("tools/call", params, give_up_after=give_up_after)

    async def ping(self) -> None:
        """Return once all that was sent before has been read."""
        await self._ask("ping", {})

    def strike(self) -> None:
        """Kill it, where it still lives."""
        # Not by the process's own method, which may take its exit code from under the one who waits for it.
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    async def kill(self) -> None:
        """Kill it, where it still lives, and wait for its end."""
        self.strike()
        await self.ended()

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.to_thread(self.process.wait)
        await self._reading
        self._stdin.close()

    async def _ask(self, method: str, params: Frame, *, give_up_after: float | None = None) -> Frame:
        if not self.alive:
            raise ServerDied
        self._number += 1
        number = self._number
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": number, "method": method, "params": params})
            async with asyncio.timeout(give_up_after or ANSWER_SECONDS):
                return await answered
        except TimeoutError:
            if give_up_after is None:
                raise
            self._send({"method": "notifications/cancelled", "params": {"requestId": number}})
            raise CallGivenUp from None
        finally:
            self._waiting.pop(number, None)

    def _send(self, frame: Frame) -> None:
        # Written into the pipe of one that has died, it is lost, as it would be.
        self._stdin.write(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")

    async def _read(self) -> None:
        with suppress(ConnectionError):
            while line := await self._stdout.readline():
                frame = json.loads(line)
                answered = self._waiting.get(frame.get("id"))
                if answered is not None and not answered.done():
                    answered.set_result(frame.get("result", frame))
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(ServerDied())
