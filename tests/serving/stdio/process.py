"""A server as a real process, spoken to in raw lines over real pipes; every wait has a limit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, Any

import pytest

from tests.serving.stdio.forked import ForkedProcess

FIXTURE_SERVER = Path(__file__).with_name("fixture_server.py")
FIXTURE_COMMAND = (sys.executable, str(FIXTURE_SERVER))
ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 10.0
_LINE_SECONDS = 60.0
"""How long a line may take: the first server that starts in a clone compiles all that it loads."""
ENDS_WITHIN_SECONDS = 1.0
_STALLS = Path("/proc/pressure/cpu")

Frame = dict[str, Any]

MODERN_META: Frame = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


def request(request_id: object, method: str, params: Frame | None = None, **meta: Any) -> Frame:
    frame: Frame = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": dict(params or {})}
    if meta:
        frame["params"]["_meta"] = meta
    return frame


def call(request_id: object, tool: str, text: str = "", **meta: Any) -> Frame:
    return request(request_id, "tools/call", {"name": tool, "arguments": {"text": text}}, **meta)


def modern(frame: Frame) -> Frame:
    params = frame["params"]
    return frame | {"params": params | {"_meta": MODERN_META | params.get("_meta", {})}}


def notification(method: str, **params: object) -> Frame:
    return {"jsonrpc": "2.0", "method": method, "params": params}


INITIALIZE = request(
    "init",
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
)
INITIALIZED = notification("notifications/initialized")


def text_of(answer: Frame) -> str:
    return answer["result"]["content"][0]["text"]


def _stalled_seconds() -> float:
    """For how long so far something here has waited for a processor, where the system tells it."""
    try:
        some = _STALLS.read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


class _Lines:
    """Lines of a pipe, read as they come; `until` finds one, and `seen` holds all that were taken so far."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._queue: Queue[bytes | None] = Queue()
        self._read = 0
        self.seen: list[bytes] = []
        self._thread = Thread(target=self._pump, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _pump(self) -> None:
        for line in self._pipe:
            self._queue.put(line)
        self._queue.put(None)

    def until(self, wanted: Callable[[bytes], bool]) -> bytes:
        for line in self.seen:
            if wanted(line):
                return line
        deadline = time.monotonic() + _LINE_SECONDS
        while (line := self._queue.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
            self.seen.append(line)
            if wanted(line):
                return line
        raise AssertionError(f"the pipe ended before the line came; seen: {self.seen}")

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(WAIT_SECONDS)

    def to_the_end(self) -> list[bytes]:
        while (line := self._queue.get(timeout=WAIT_SECONDS)) is not None:
            self.seen.append(line)
        return self.seen


class ServerProcess:
    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, forked: bool = True) -> None:
        # What the developer has set for a server of his own is not for this one; the home is the test's.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SYNC_") or name == "SYNC_MCP_HOME"
        }
        env = inherited | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **env}
        self.process: subprocess.Popen[bytes]
        if forked and sys.platform == "linux":
            self.process = ForkedProcess(command, env)
        else:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                # A group of its own, so that what it leaves behind can be told from everything else.
                process_group=0 if os.name == "posix" else None,
            )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.stdin = self.process.stdin
        self.stdout_pipe, self.stderr_pipe = self.process.stdout, self.process.stderr
        self.stdout, self.stderr = _Lines(self.stdout_pipe), _Lines(self.stderr_pipe)
        self.stderr.start()

    def send(self, *frames: Frame) -> None:
        self.send_raw(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))

    def send_raw(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def answer(self, request_id: object) -> Frame:
        return self.frame(lambda frame: "method" not in frame and frame.get("id", "") == request_id)

    def frame(self, wanted: Callable[[Frame], bool]) -> Frame:
        return json.loads(self.stdout.until(lambda line: wanted(json.loads(line))))

    def ask(self, frame: Frame) -> Frame:
        self.send(frame)
        return self.answer(frame["id"])

    def initialize(self) -> None:
        self.ask(INITIALIZE)
        self.send(INITIALIZED)

    def told(self, text: str) -> None:
        self.stderr.until(lambda line: line.decode().strip() == text)

    def ends(self) -> int:
        """The exit code, within the time a host gives; while processors are short, none of it passes."""
        began, stalled = time.monotonic(), _stalled_seconds()
        code = self.process.wait(WAIT_SECONDS)
        seconds = time.monotonic() - began - (_stalled_seconds() - stalled)
        assert seconds <= ENDS_WITHIN_SECONDS
        return code

    def left_processes(self) -> bool:
        """Whether a process that it started is still there; to be asked once it has ended."""
        if os.name != "posix":
            pytest.skip("this system has no process groups")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 0)
            return True
        return False

    def all_frames(self) -> list[Frame]:
        return [json.loads(line) for line in self.stdout.to_the_end()]

    def all_stderr(self) -> str:
        return b"".join(self.stderr.to_the_end()).decode()


@contextmanager
def running(*, read_stdout: bool = True, forked: bool = True, **env: str) -> Generator[ServerProcess]:
    """The fixture server."""
    with started(FIXTURE_COMMAND, env, read_stdout=read_stdout, forked=forked) as server:
        yield server


@contextmanager
def started(
    command: Sequence[str], env: Mapping[str, str], *, read_stdout: bool = True, forked: bool = True
) -> Generator[ServerProcess]:
    """Any server; the imports of a forked one are made already."""
    server = ServerProcess(command, env, forked=forked)
    if read_stdout:
        server.stdout.start()
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(WAIT_SECONDS)
        server.stdout.join()
        server.stderr.join()
        for pipe in (server.stdin, server.stdout_pipe, server.stderr_pipe):
            with suppress(BrokenPipeError):
                pipe.close()


def close_stdin(server: ServerProcess) -> None:
    server.stdin.close()


def send_sigint(server: ServerProcess) -> None:
    _send(server, signal.SIGINT)


def send_sigterm(server: ServerProcess) -> None:
    _send(server, signal.SIGTERM)


def _send(server: ServerProcess, number: signal.Signals) -> None:
    if os.name != "posix":
        pytest.skip("this system ends a process by force, whatever the signal")
    server.process.send_signal(number)
