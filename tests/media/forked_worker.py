"""The worker that decodes, forked from a process which has imported the decoders already.

It begins as if it had been started; tests of the worker itself start it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.to_thread import run_sync

from sync_mcp.media.decoding import look
from tests.serving.stdio.forked import ForkedProcess, share_parent

_PIECE_BYTES = 1 << 16


async def started(program: Sequence[str], stdin: int) -> Process:
    """Start a worker, or a server that forks them, as `look` does, on Linux alone."""
    return fork_python(["-m", *program], stdin)


def fork_decoders(address: bytes) -> None:
    """Let what is forked from this process fork its workers too, into its own group, as `started` does."""
    share_parent(address)

    async def start(program: Sequence[str], stdin: int) -> Process:
        return fork_python(["-m", *program], stdin, group=os.getpgrp())

    look._start = start  # pyright: ignore[reportPrivateUsage]


def fork_python(arguments: Sequence[str], stdin: int, *, group: int = 0) -> Process:
    """Start Python in the environment of a worker."""
    command = [sys.executable, *arguments]
    env = look._environment()  # pyright: ignore[reportPrivateUsage]
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        return _Worker(ForkedProcess(command, env, stdin=stdin, stderr=nowhere.fileno(), group=group))


class _Worker(Process):
    def __init__(self, process: ForkedProcess) -> None:
        self._process = process
        self._stdout = _Output(process)

    async def wait(self) -> int:
        return await run_sync(self._process.wait, abandon_on_cancel=True)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stdout.aclose()
            await self.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, signal: int) -> None:
        self._process.send_signal(signal)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def stdin(self) -> None:
        return None

    @property
    def stdout(self) -> ByteReceiveStream:
        return self._stdout

    @property
    def stderr(self) -> None:
        return None


class _Output(ByteReceiveStream):
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout
        self._pipe = process.stdout

    async def receive(self, max_bytes: int = _PIECE_BYTES) -> bytes:
        await anyio.wait_readable(self._pipe)
        piece = os.read(self._pipe.fileno(), max_bytes)
        if not piece:
            raise anyio.EndOfStream
        return piece

    async def aclose(self) -> None:
        self._pipe.close()
