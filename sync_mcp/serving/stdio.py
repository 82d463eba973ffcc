"""Serve an MCP server on this process's stdin and stdout, to clients of both protocol eras.

A serving loop of the SDK keeps to the era of the first request it sees. Two of them run here side by side,
and each message goes to the one it belongs to: a client may probe `server/discover`, fall back to
`initialize`, or mix.
"""

import json
import logging
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from itertools import count
from threading import Thread
from typing import Any, cast

import anyio
import mcp_types as types
from anyio import to_thread
from anyio.from_thread import BlockingPortal
from mcp.os.win32.utilities import rebind_std_handle_to_fd
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.dispatcher import as_request_id, coerce_request_id
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp.shared.message import SessionMessage
from pydantic import ValidationError
from pydantic_core import from_json

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
MAX_LINE_BYTES = 4 * 1024 * 1024
MOST_IN_FLIGHT = 200
"""How many requests may wait for their answers; no more is read before some of them have got theirs."""
_READ_BYTES = 64 * 1024
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_CHARACTER_LIMIT = 1024 * 1024
GRACE_SECONDS = 0.3
"""How long requests already received may still be answered once stdin has closed, from one to the next."""
LONGEST_GRACE_SECONDS = 5.0
"""How long they all may take together."""
DELIVERY_SECONDS = 0.15
"""How long the last answers may take to reach a client that is slow to read them."""


async def serve_stdio(server: Server[Any], *, on_stop: Callable[[], None] | None = None) -> None:
    """Serve both protocol eras on stdin and stdout until stdin closes or SIGINT or SIGTERM arrives.

    Call it in the main thread. Descriptors and signal handlers stay taken for the rest of the process's life:
    nothing printed later reaches stdout, and a second signal cannot cut the exit short.

    The server's lifespan is entered once, and both eras see its state. Handlers still running at the end are
    cancelled; one that cannot be (a shield, a worker thread) holds up the return. `on_stop` is called as the
    cancelling starts, and can see to it that the process leaves all the same, as
    `sync_mcp.serving.ending.exit_within` does. At a signal it is called from another thread first, so that
    not even a blocked event loop keeps the process.
    """
    async with BlockingPortal() as portal:
        stopped = anyio.Event()
        _set_on_signal(stopped, portal, on_stop)
        with _Wire(portal, stopped) as wire:
            async with server.lifespan(server) as lifespan_state:
                await _Session(wire, stopped).run(server, lifespan_state, on_stop)
    # Python puts a handler of its own back to the default while the interpreter ends; this one stays.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _set_on_signal(stopped: anyio.Event, portal: BlockingPortal, on_stop: Callable[[], None] | None) -> None:
    # A handler written in Python has to wait for the main thread, and a signal that comes just as the event
    # loop falls asleep would not wake it. The wakeup descriptor is written to at once, on Windows too.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in STOP_SIGNALS:
        signal.signal(number, _ignore)

    def watch() -> None:
        while True:
            number = receiver.recv(1)[0]
            if number in STOP_SIGNALS:
                logger.debug("received %s", signal.Signals(number).name)
                if on_stop:
                    on_stop()
                with suppress(RuntimeError, CancelledError):
                    portal.call(stopped.set)

    Thread(target=watch, daemon=True).start()


def _ignore(_number: int, _frame: object) -> None:
    """Stand in for the default handler, which would end the process at once."""


def _claim_stdio() -> tuple[int, int]:
    """Return private duplicates of stdin and stdout; in their places stand an empty file and stderr."""
    stdin, stdout, null = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(null, 1)
    os.close(null)
    if sys.platform == "win32":
        for fd in (0, 1):
            rebind_std_handle_to_fd(fd)
    return stdin, stdout


class _Wire:
    """Stdin and stdout. What blocks does so in a daemon thread, where it cannot hold up the exit."""

    def __init__(self, portal: BlockingPortal, stopped: anyio.Event) -> None:
        self._portal, self._stopped = portal, stopped
        self._frames, self._to_stdout = anyio.create_memory_object_stream[bytes]()
        self._stdout_ended = anyio.Event()

    def __enter__(self) -> "_Wire":
        self._stdin, stdout = _claim_stdio()
        Thread(target=self._write, args=(stdout,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield each line of stdin; of one that is too long only so much that it shows."""
        begun = bytearray()
        # A terminal that hung up ends them too.
        with suppress(OSError):
            read = _reader(self._stdin)
            while chunk := await read():
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    yield bytes(begun + end)
                    begun.clear()
                begun += rest
                del begun[MAX_LINE_BYTES + 1 :]
        if begun:
            yield bytes(begun)

    async def send(self, message: types.JSONRPCMessage) -> None:
        """Write one message; drop it when stdout is no longer read."""
        if frame := _encode(message):
            with suppress(anyio.BrokenResourceError):
                await self._frames.send(frame)

    async def drain(self) -> None:
        """Wait until all that was sent is written."""
        self._frames.close()
        await self._stdout_ended.wait()

    def _write(self, fd: int) -> None:
        with suppress(RuntimeError, CancelledError):
            with suppress(OSError, anyio.EndOfStream):
                while True:
                    frame = memoryview(self._portal.call(self._next_frames))
                    while frame:
                        frame = frame[os.write(fd, frame) :]
            self._portal.call(self._end_stdout)

    async def _next_frames(self) -> bytes:
        """Return what is there to be written: each call of the portal costs two switches of thread."""
        frames = [await self._to_stdout.receive()]
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                frames.append(self._to_stdout.receive_nowait())
        return b"".join(frames)

    def _end_stdout(self) -> None:
        self._to_stdout.close()
        self._stdout_ended.set()
        self._stopped.set()


def _reader(fd: int) -> Callable[[], Awaitable[bytes]]:
    """Return what reads the next bytes of `fd`: where the event loop can wait for them, without a thread."""
    kind = os.fstat(fd).st_mode
    is_awaitable = sys.platform != "win32" and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))
    take = _taker(fd, kind) if is_awaitable else partial(os.read, fd, _READ_BYTES)

    async def read_awaited() -> bytes:
        while True:
            await anyio.wait_readable(fd)
            try:
                return take()
            except BlockingIOError:
                # Another process that reads the same pipe was faster.
                continue

    async def read_in_thread() -> bytes:
        while True:
            try:
                return await to_thread.run_sync(take, abandon_on_cancel=True)
            except BlockingIOError:
                # A terminal that whoever started this left non-blocking.
                await anyio.wait_readable(fd)

    return read_awaited if is_awaitable else read_in_thread


def _taker(fd: int, kind: int) -> Callable[[], bytes]:
    """Return what reads from a pipe or a socket and never waits, without a change for others who share it."""
    if stat.S_ISSOCK(kind):
        return partial(socket.socket(fileno=fd).recv, _READ_BYTES, socket.MSG_DONTWAIT)
    # Where the system has no such way to it, a read waits for what another reader took.
    with suppress(OSError):
        fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    return partial(os.read, fd, _READ_BYTES)


class _Era:
    """A serving loop of the SDK, and the requests it has yet to answer, numbered in order of arrival."""

    def __init__(self) -> None:
        self.to_loop, self._loop_reads = anyio.create_memory_object_stream[SessionMessage | Exception]()
        self._loop_writes, self.from_loop = anyio.create_memory_object_stream[SessionMessage]()
        # A client may use an id again before it is answered: then two are on their way under it.
        self.in_flight: dict[types.RequestId | None, list[int]] = {}

    @property
    def waiting(self) -> int:
        """How many requests have yet to be answered."""
        return sum(map(len, self.in_flight.values()))

    def latest(self, key: types.RequestId | None) -> int:
        """Return the number of the last request under an id, or 0 where none is on its way."""
        return max(self.in_flight.get(key, [0]))

    def forget(self, key: types.RequestId | None) -> None:
        """Note that one of the requests under an id is answered, or wants no answer any longer."""
        numbers = self.in_flight.pop(key, [])[:-1]
        if numbers:
            self.in_flight[key] = numbers

    async def serve(self, server: Server[Any], lifespan_state: Any) -> None:
        with self.to_loop:
            await serve_dual_era_loop(
                server, self._loop_reads, self._loop_writes, lifespan_state=lifespan_state
            )


class _Session:
    """One client: what it says goes to the loops, and what the loops say goes to it."""

    def __init__(self, wire: _Wire, stopped: anyio.Event) -> None:
        self._wire, self._stopped = wire, stopped
        self._legacy, self._modern = self._eras = _Era(), _Era()
        self._arrivals = count(1)
        self._answered = anyio.Event()

    async def run(self, server: Server[Any], lifespan_state: Any, on_stop: Callable[[], None] | None) -> None:
        with anyio.CancelScope() as delivery:
            async with anyio.create_task_group() as answering, anyio.create_task_group() as serving:
                for era in self._eras:
                    answering.start_soon(self._answer, era)
                    serving.start_soon(era.serve, server, lifespan_state)
                serving.start_soon(self._listen)
                await self._stopped.wait()
                if on_stop:
                    on_stop()
                delivery.deadline = anyio.current_time() + DELIVERY_SECONDS
                serving.cancel_scope.cancel()
            await self._wire.drain()

    async def _listen(self) -> None:
        async for line in self._wire.lines():
            await self._receive(line)
            await self._until_there_is_room()
        logger.debug("stdin closed")
        longest = anyio.current_time() + LONGEST_GRACE_SECONDS
        with anyio.move_on_after(GRACE_SECONDS) as grace:
            while any(era.in_flight for era in self._eras):
                self._answered = anyio.Event()
                await self._answered.wait()
                grace.deadline = min(longest, anyio.current_time() + GRACE_SECONDS)
        self._stopped.set()

    async def _until_there_is_room(self) -> None:
        # What waits to be answered is kept in memory, which a client that never reads would fill.
        while sum(era.waiting for era in self._eras) >= MOST_IN_FLIGHT:
            self._answered = anyio.Event()
            await self._answered.wait()

    async def _receive(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = _decode(line)
        except _Refused as refused:
            logger.warning("refused a line of %d bytes: %s", len(line), refused)
            await self._wire.send(refused.answer)
        else:
            await self._route(message).to_loop.send(SessionMessage(message))

    def _route(self, message: types.JSONRPCMessage) -> _Era:
        match message:
            case types.JSONRPCRequest():
                era = self._modern if _has_modern_envelope(message) else self._legacy
                era.in_flight.setdefault(coerce_request_id(message.id), []).append(next(self._arrivals))
            case types.JSONRPCNotification(method="notifications/cancelled"):
                # Nothing in it tells the era; where both have a request of this id, the later one is meant.
                request_id = cancelled_request_id_from_params(message.params)
                key = None if request_id is None else coerce_request_id(request_id)
                era = max(self._eras, key=lambda era: era.latest(key))
                era.forget(key)
            case _:
                era = self._legacy
        return era

    async def _answer(self, era: _Era) -> None:
        with era.from_loop:
            async for item in era.from_loop:
                await self._wire.send(item.message)
                match item.message:
                    case (
                        types.JSONRPCResponse(id=request_id)
                        | types.JSONRPCError(id=str() | int() as request_id)
                    ):
                        era.forget(coerce_request_id(request_id))
                        self._answered.set()
                    case _:
                        pass


class _Refused(Exception):
    """A line from the client that is no JSON-RPC message, and the error to answer it with."""

    def __init__(self, code: int, reason: str, request_id: types.RequestId | None = None) -> None:
        super().__init__(reason)
        self.answer = _error(code, reason, request_id)


def _decode(line: bytes) -> types.JSONRPCMessage:
    if len(line) > MAX_LINE_BYTES:
        raise _Refused(types.INVALID_REQUEST, f"a line is longer than {MAX_LINE_BYTES} bytes")
    try:
        frame = _parse(line)
    except ValueError as exc:
        raise _Refused(types.PARSE_ERROR, f"not JSON: {exc}") from None
    if not isinstance(frame, dict):
        raise _Refused(types.INVALID_REQUEST, "not one JSON-RPC object; batches are not served")
    fields = cast("dict[str, object]", frame)
    try:
        message = types.jsonrpc_message_adapter.validate_python(fields)
    except ValidationError:
        # The id of a malformed response is ours: an error under it could answer a request of the client's.
        request_id = as_request_id(fields.get("id")) if "method" in fields else None
        raise _Refused(types.INVALID_REQUEST, "not a JSON-RPC 2.0 message", request_id) from None
    # To the SDK a request with an unusable id is a notification, and its client would wait for ever. Some
    # clients write a notification's missing id as null.
    if isinstance(message, types.JSONRPCNotification) and "id" in fields:
        if fields["id"] is None and message.method.startswith("notifications/"):
            return message
        raise _Refused(types.INVALID_REQUEST, "an id is a string or an integer")
    return message


def _parse(line: bytes) -> object:
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        # JSON can spell half a character, as of an emoji that was cut: the tool says so to its caller.
        if _HALF_CHARACTER.search(line) is None or len(line) > _HALF_CHARACTER_LIMIT:
            raise
        try:
            frame = json.loads(line, parse_constant=_no_number)
            json.dumps(frame.get("id"), ensure_ascii=False).encode()
        except (ValueError, RecursionError, AttributeError):
            pass
        else:
            return frame
        raise


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON's")


def _encode(message: types.JSONRPCMessage) -> bytes | None:
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except ValueError as exc:
        logger.warning("a message could not be written as JSON: %s", exc)
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        return _encode(_error(types.INTERNAL_ERROR, "the answer could not be written as JSON", message.id))
    return None


def _error(code: int, text: str, request_id: types.RequestId | None) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=text))


def _has_modern_envelope(request: types.JSONRPCRequest) -> bool:
    meta: object = (request.params or {}).get("_meta")
    return (
        request.method != "initialize" and isinstance(meta, dict) and types.PROTOCOL_VERSION_META_KEY in meta
    )
