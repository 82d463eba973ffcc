# pyright: basic
"""A stand-in for a model behind its maker's API, for hosts that are programs; it listens on loopback alone.

What the model would read goes out as an answer, what it would call comes in as the next turn.
"""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

from player import Answer, Turn, read_turn, say, say_tools

_TOOL = "create_generation"


class Dialect(Protocol):
    """How the API of one maker is spoken; a request is its JSON."""

    def read_tools(self, request: dict[str, Any]) -> list[str]:
        """The names of the server's tools, as the server spells them."""
        ...

    def read_answer(self, request: dict[str, Any], call: str) -> Answer | None:
        """What came back of the call with this id; None where there is nothing of it."""
        ...

    def write(self, call: str, turn: Turn | None) -> list[dict[str, Any]]:
        """The events of a turn that calls a tool, or of the last word."""
        ...


class Conversation:
    """One run of the host: its requests in their order, those that are made again included."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._calls = 0
        self._last: list[dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events that answer a request."""
        tools = self._dialect.read_tools(request)
        if _TOOL not in tools:
            # A title for the conversation, or the like.
            return self._dialect.write("none", None)
        with self._lock:
            if self._last is None:
                say_tools(tools)
            elif (told := self._dialect.read_answer(request, self._id)) is not None:
                say(told)
            else:
                return self._last
            self._calls += 1
            self._last = self._dialect.write(self._id, read_turn())
            return self._last

    @property
    def _id(self) -> str:
        return f"call_{self._calls}"


class _Handler(BaseHTTPRequestHandler):
    conversation: ClassVar[Conversation]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        try:
            request = json.loads(body)
        except ValueError:
            self.send_error(400)
            return
        events = self.conversation.answer(request)
        told = "".join(
            (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
            for event in events
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def do_GET(self) -> None:
        self.send_error(404)


class StandIn:
    """The API on a free port, for as long as the block runs; `url` is its origin."""

    def __init__(self, dialect: Dialect) -> None:
        handler = type("Handler", (_Handler,), {"conversation": Conversation(dialect)})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def run(self, command: list[str], environment: dict[str, str]) -> None:
        """Run the host to its end; what it prints goes to the log."""
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
