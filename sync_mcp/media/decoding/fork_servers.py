"""The servers that fork a worker for each of many files, from the side of who has them looked at."""

import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process

_PIECE_BYTES = 1 << 16
_END_SECONDS = 5.0


def can_fork() -> bool:
    """Return whether this system can do what the servers do."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        # A kernel older than 5.3.
        return False
    return True


class ForkServers:
    """As many servers as there are looks at once; they end with the block that has them.

    Args:
        start: starts a server on a descriptor.
    """

    def __init__(self, start: Callable[[int], Awaitable[Process]]) -> None:
        self._start = start
        self._idle: list[_ForkServer] = []

    async def decode(self, task: str, descriptor: int, seconds: float, most_bytes: int) -> bytes:
        """Return what a worker has written when it has ended, however it ended, or when that was too much.

        Where this is cancelled, the worker is killed.

        Raises:
            FileRefused: as `start`.
        """
        async with self._server() as server:
            return await server.decode(f"{task} {seconds}", descriptor, most_bytes)

    @asynccontextmanager
    async def _server(self) -> AsyncGenerator["_ForkServer"]:
        if not self._idle:
            await self._begin()
        server = self._idle.pop()
        try:
            yield server
        finally:
            if server.is_idle:
                self._idle.append(server)
            else:
                await server.end()

    async def _begin(self) -> None:
        ours, its = socket.socketpair()
        ours.setblocking(False)
        try:
            # Cancelled half way, starting would leave a process that nobody knows of.
            with its, anyio.CancelScope(shield=True):
                self._idle.append(_ForkServer(await self._start(its.fileno()), ours))
        except BaseException:
            ours.close()
            raise

    async def end(self) -> None:
        """End all servers."""
        while self._idle:
            await self._idle.pop().end()


class _ForkServer:
    """A server, which has one worker at a time."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self.is_idle = True
        """Whether it can be given another file."""

    async def decode(self, order: str, descriptor: int, most_bytes: int) -> bytes:
        self.is_idle = False
        answers, its = os.pipe()
        try:
            try:
                socket.send_fds(self._channel, [order.encode()], [descriptor, its])
            except ConnectionError:
                # It has ended by itself: whoever reads nothing says so.
                return b""
            finally:
                os.close(its)
            output = await _read(answers, most_bytes)
        finally:
            os.close(answers)
        if len(output) <= most_bytes:
            await anyio.wait_readable(self._channel)
            with suppress(ConnectionError):
                self.is_idle = bool(self._channel.recv(1))
        return output

    async def end(self) -> None:
        """End it, and with it the worker that it has."""
        with anyio.CancelScope(shield=True):
            self._channel.close()
            with anyio.move_on_after(_END_SECONDS):
                await self._process.wait()
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await self._process.aclose()


async def _read(descriptor: int, most_bytes: int) -> bytes:
    """Return what comes until its end, or a little more than there should be."""
    output = b""
    while len(output) <= most_bytes:
        await anyio.wait_readable(descriptor)
        piece = os.read(descriptor, _PIECE_BYTES)
        if not piece:
            break
        output += piece
    return output
