"""A server that answers byte for byte what a test scripts: for all that no real API would do."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

_PATIENCE_SECONDS = 5.0
_DRIP_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """What one connection gets, as bytes, and how it ends."""

    data: bytes = b""
    reads: bool = True
    """Whether the request is read first."""
    resets: bool = False
    """End with a reset instead of an orderly close."""
    hangs: bool = False
    """Say nothing more until the client goes away."""
    drips: bool = False
    """One byte at a time, for ever."""
    stalls: bool = False
    """Read nothing and say nothing until the server stops."""


def answer(
    status: int = 200, body: object = None, headers: Mapping[str, str] | None = None, *, kind: str = ""
) -> Answer:
    """Return a whole answer: JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Content-Type": kind or "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Answer(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + content)


@dataclass(slots=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case; a repeated header is joined by commas."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2]))


@dataclass
class RawServer:
    """Serves the answers one after the other, one to a connection; the last one is given again and again."""

    answers: list[Answer]
    by_path: "Mapping[str, Answer | Callable[[Received], Answer]]" = field(
        default_factory=dict[str, "Answer | Callable[[Received], Answer]"]
    )
    """What is answered at these paths instead, whatever the turn."""
    received: list[Received] = field(default_factory=list[Received])
    connections: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        # A connection of its own wakes the thread that waits for one.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), _PATIENCE_SECONDS):
            pass
        self._thread.join(_PATIENCE_SECONDS)
        self.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            connection, _ = self._listener.accept()
            if self._stopped.is_set():
                connection.close()
                return
            given = self.answers[min(self.connections, len(self.answers) - 1)]
            self.connections += 1
            with connection, suppress(OSError):
                connection.settimeout(_PATIENCE_SECONDS)
                if self.tls:
                    with self.tls.wrap_socket(connection, server_side=True) as secured:
                        self._handle(secured, given)
                else:
                    self._handle(connection, given)

    def _handle(self, connection: socket.socket, given: Answer) -> None:
        if given.stalls:
            self._stopped.wait()
            return
        if given.reads:
            self.received.append(_read(connection))
            fixed = self.by_path.get(self.received[-1].path, given)
            given = fixed if isinstance(fixed, Answer) else fixed(self.received[-1])
        if given.drips:
            self._drip(connection)
        connection.sendall(given.data)
        if given.hangs:
            while connection.recv(4096):
                pass
        if given.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _drip(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        while not self._stopped.wait(_DRIP_SECONDS):
            connection.sendall(b" ")


def _read(connection: socket.socket) -> Received:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    while len(body) < int(headers.get("content-length", "0")):
        body += _some(connection)
    return Received(method, target, headers, body)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client went away")
    return data
