"""Processes of sync-mcp and of the examples, forked from one which has imported already what they need.

To import it takes a second of each start and more, and many tests start one. From then on a forked one is as
any other: its own memory, streams, environment and group. What decodes for it is forked too, into its group.
Tests of the start itself run the command.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from threading import Event, Lock, Thread
from types import FrameType
from typing import IO, Any, cast

import anyio

import sync_mcp
from sync_mcp.cli import main as cli
from sync_mcp.tools.catalogue import TOOLS

START_SECONDS = 60.0
_MESSAGE_BYTES = 1 << 16
_STREAMS = (0, 1, 2)
CLOSED = -1
"""In the place of a descriptor: the stream is closed."""
_COMMAND = "sync_mcp.__main__"
_DECODERS = ("sync_mcp.media.decoding.worker", "sync_mcp.media.decoding.fork_server")


def run_forked(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    typed: str = "",
    stdin: int | None = None,
    timeout: float = 90.0,
    imports: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the command, or Python with a file, a module or code that imports these packages, to its end.

    Args:
        typed: comes to it over a pipe, where it gets no stream of its own as stdin.
    """
    command = list(arguments)
    if sys.platform != "linux":
        pipe = subprocess.PIPE
        given: dict[str, Any] = {"input": typed} if stdin is None else {"stdin": stdin}
        return subprocess.run(
            command, env=env, stdout=pipe, stderr=pipe, encoding="utf-8", timeout=timeout, **given
        )
    process = ForkedProcess(arguments, env, imports=tuple(imports), stdin=stdin)
    assert process.stdout
    assert process.stderr
    with process.stdout, process.stderr, ThreadPoolExecutor(2) as readers:
        told = [readers.submit(pipe.read) for pipe in (process.stdout, process.stderr)]
        try:
            if process.stdin:
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(typed.encode())
            code = process.wait(timeout)
        finally:
            process.kill()
        output, errors = (one.result(timeout).decode() for one in told)
    return subprocess.CompletedProcess(command, code, output, errors)


def start_forked(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start the command, or Python with a file, on these streams, each a descriptor or a pipe."""
    if sys.platform != "linux":
        return subprocess.Popen(list(arguments), env=dict(env), stdin=stdin, stdout=stdout, stderr=stderr)
    streams = [None if stream == subprocess.PIPE else stream for stream in (stdin, stdout, stderr)]
    return ForkedProcess(arguments, env, stdin=streams[0], stdout=streams[1], stderr=streams[2])


class ForkedProcess(subprocess.Popen[bytes]):
    """What `Popen` would be of the command, or of Python with a file, a module or code.

    With pipes, where it gets no stream that is open already, and a group of its own.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        imports: tuple[str, ...] = (),
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        group: int = 0,
    ) -> None:
        """Start it; where a group is named, in that one."""
        theirs: list[int] = []
        ours: list[IO[bytes] | None] = []
        given_streams = (stdin, stdout, stderr)
        for stream, given in zip(_STREAMS, given_streams, strict=True):
            if given == CLOSED:
                theirs.append(os.open(os.devnull, os.O_RDWR))
                ours.append(None)
            elif given is None:
                reads, writes = os.pipe()
                theirs.append(writes if stream else reads)
                ours.append(os.fdopen(reads, "rb") if stream else os.fdopen(writes, "wb"))
            else:
                theirs.append(os.dup(given))
                ours.append(None)
        self.args = list(arguments)
        self.stdin, self.stdout, self.stderr = ours
        self.returncode: int | None = None
        closed = [stream for stream in _STREAMS if given_streams[stream] == CLOSED]
        self.pid, self._ended = _parent(imports).fork(arguments, env, theirs, closed, group)
        for number in theirs:
            os.close(number)

    def poll(self) -> int | None:
        if self._ended.event.is_set():
            self.returncode = self._ended.code
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.event.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.returncode = self._ended.code
        return self.returncode


class _Ended:
    """Whether a process has ended, and how."""

    def __init__(self) -> None:
        self.event = Event()
        self.code = 0


class _Parent:
    """The process that forks, as one of those sees it who have it fork.

    Args:
        channel: a connection to it.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._started: list[tuple[int, _Ended]] = []
        self._has_started = Event()
        self._ordering = Lock()
        self._ended: dict[int, _Ended] = {}
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()
        atexit.register(self._end)

    def fork(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        streams: Sequence[int],
        closed: Sequence[int],
        group: int,
    ) -> tuple[int, _Ended]:
        """Start a process; one at a time, whichever thread asks for it."""
        order = json.dumps(
            {
                "arguments": list(arguments),
                "env": dict(env),
                "folder": str(Path.cwd()),
                "closed": list(closed),
                "group": group,
            }
        )
        with self._ordering:
            self._has_started.clear()
            socket.send_fds(self._channel, [order.encode()], streams)
            assert self._has_started.wait(START_SECONDS)
            return self._started.pop()

    def _listen(self) -> None:
        while message := self._channel.recv(_MESSAGE_BYTES):
            pid, code = json.loads(message)
            if code is None:
                self._ended[pid] = _Ended()
                self._started.append((pid, self._ended[pid]))
                self._has_started.set()
            else:
                ended = self._ended.pop(pid)
                ended.code = code
                ended.event.set()

    def _end(self) -> None:
        self._channel.shutdown(socket.SHUT_RDWR)
        self._listener.join(START_SECONDS)
        self._channel.close()


@cache
def _parent(imports: tuple[str, ...]) -> _Parent:
    # One that others share has imported what is sync_mcp's own.
    address = _shared if _shared is not None and not imports else start_parent(imports)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(address)
    return _Parent(channel)


def start_parent(imports: Sequence[str] = ()) -> bytes:
    """Start a process that forks, which ends with this one; return its address."""
    channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # By a name that the system makes, which is no file.
    listener.bind("")
    listener.listen()
    address: bytes = listener.getsockname()
    root = Path(__file__).parents[3]
    # Whoever is forked has its streams, which are buffered as they are by default.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(its.fileno()), str(listener.fileno()), *imports],
        env={**environment, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        pass_fds=(its.fileno(), listener.fileno()),
        # Of the kind that those have who are forked: Python writes to a terminal or a file otherwise.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What the terminal sends to the tests' group is not for it.
        process_group=0,
    )
    its.close()
    listener.close()

    def end() -> None:
        channel.close()
        with process:
            process.wait(START_SECONDS)

    atexit.register(end)
    return address


_shared: bytes | None = None
"""The address of one that is there already."""


def share_parent(address: bytes) -> None:
    """Have what this process starts here, and what is forked from it, forked by one that is there."""
    global _shared
    _shared = address


def _serve(starter: socket.socket, listener: socket.socket) -> None:
    """Fork whenever it is ordered to, and tell who has ended; return in each process that was forked.

    Args:
        starter: closed by the process that has started this one when it ends; nothing comes by it.
        listener: where those connect who have it fork.
    """
    gc.freeze()
    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, _wake)
    signal.set_wakeup_fd(wakes)
    channels: set[socket.socket] = set()
    whose: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for file in (woken, listener, starter):
            selector.register(file, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, _MESSAGE_BYTES)
                _tell_the_ended(whose)
            if starter in ready:
                # Nobody is there to order more.
                os._exit(0)
            if listener in ready:
                another, _ = listener.accept()
                if _is_of_this_user(another):
                    channels.add(another)
                    selector.register(another, selectors.EVENT_READ)
                else:
                    another.close()
            if not (ordering := channels & ready):
                continue
            asking = ordering.pop()
            order, streams = _receive(asking)
            if not order:
                selector.unregister(asking)
                channels.discard(asking)
                asking.close()
                continue
            told = json.loads(order)
            pid = os.fork()
            # Here too, so that it is in its group when it is told of.
            _join(pid, told["group"])
            if pid == 0:
                break
            whose[pid] = asking
            for number in streams:
                os.close(number)
            _tell(asking, pid, None)
    gc.enable()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(woken)
    os.close(wakes)
    for each in (starter, listener, *channels):
        each.close()
    for number, stream in zip(streams, _STREAMS, strict=True):
        os.dup2(number, stream)
        os.close(number)
    random.seed()
    closed: list[int] = told["closed"]
    for stream in closed:
        os.close(stream)
        # What Python has for a stream that is closed when it starts.
        name = ("stdin", "stdout", "stderr")[stream]
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
    if sys.stdout and sys.stdout.isatty():
        cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.argv = told["arguments"]


def _join(pid: int, group: int) -> None:
    """Put a process, or with 0 this one, into a group, or with 0 into one of its own."""
    # Who asked may have gone meanwhile, and its group with it; and so may the process.
    with suppress(OSError):
        os.setpgid(pid, group)


def _is_of_this_user(channel: socket.socket) -> bool:
    _, user, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user == os.getuid()


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Receive an order and the streams that go with it; nothing once the other end is closed."""
    try:
        order, streams, *_ = socket.recv_fds(channel, _MESSAGE_BYTES, len(_STREAMS))
    except ConnectionResetError:
        return b"", []
    return order, streams


def _tell(channel: socket.socket, pid: int, code: int | None) -> None:
    # Who asked may have gone meanwhile.
    with suppress(OSError):
        channel.send(json.dumps([pid, code]).encode())


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: that a signal came is told by the descriptor that it wakes."""


def _tell_the_ended(whose: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(whose.pop(pid), pid, os.waitstatus_to_exitcode(status))


def main() -> None:
    """Fork whenever it is ordered to, and run in each process that was forked what it is told."""
    # Of what is imported nothing is garbage.
    gc.disable()
    for module in pkgutil.walk_packages(sync_mcp.__path__, "sync_mcp."):
        if module.name != _COMMAND:
            importlib.import_module(module.name)
    for name in sys.argv[3:]:
        importlib.import_module(name)
    _make_what_each_makes_once()
    starter, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    importlib.import_module("tests.media.forked_worker").fork_decoders(listener.getsockname())
    _serve(starter, listener)
    code = 0
    try:
        _run()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    _end(code)


def _make_what_each_makes_once() -> None:
    """Make the tools' schemas, which never change: they are most of a server's start and of a first call."""
    for tool in TOOLS:
        assert tool.definition
        assert tool._whole_schema  # pyright: ignore[reportPrivateUsage]
    # It imports what a loop runs on.
    anyio.run(anyio.sleep, 0)
    for module in [sys.modules[name] for name in _DECODERS]:
        module.import_decoders()
        vars(module)["import_decoders"] = _do_nothing


def _do_nothing() -> None:
    """In the place of what was done before the process was forked."""


def _run() -> None:
    if sys.argv[0] == sys.executable:
        del sys.argv[0]
    match sys.argv[0]:
        case "-c":
            code = sys.argv.pop(1)
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case "-m":
            del sys.argv[0]
            if sys.argv[0] in _DECODERS:
                sys.modules[sys.argv[0]].main()
            else:
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        case program if program.endswith(".py"):
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
        case program:
            assert Path(program) == Path(sys.executable).with_name("sync-mcp"), program
            cli.main()


def _end(code: int) -> None:
    """End as Python does, but for giving back the memory of all that was imported: that takes longest."""
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    try:
        for stream in (sys.stdout, sys.stderr):
            # A program may have closed its streams, or have none.
            if stream and not stream.closed:
                stream.flush()
    except OSError:
        # Python says so in its own way.
        sys.exit(code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
