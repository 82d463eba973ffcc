"""The command sync-mcp as a host starts it, and what a host says to it."""

import json
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from tests.api.raw_server import Answer, answer
from tests.serving.stdio.process import (
    INITIALIZE,
    INITIALIZED,
    WAIT_SECONDS,
    Frame,
    ServerProcess,
    modern,
    notification,
    request,
    started,
)

COMMAND = str(Path(sys.executable).with_name("sync-mcp"))
KEY = "sk_Secret-0123456789"
SANDBOX_MARK = "SANDBOX"

_TICK_SECONDS = 0.01
_open = build_opener(ProxyHandler({})).open


@dataclass
class Host:
    """A client of one era, connected to a server process."""

    server: ServerProcess
    modern_era: bool = False
    probes_first: bool = False
    instructions: str = ""
    _ids: "count[int]" = field(default_factory=lambda: count(1))

    def connect(self) -> "Host":
        if self.modern_era or self.probes_first:
            self.instructions = self._introduced(modern(request("probe", "server/discover")))
        if not self.modern_era:
            self.instructions = self._introduced(INITIALIZE)
            self.server.send(INITIALIZED)
        return self

    def send(self, method: str, params: Frame | None = None, **meta: Any) -> int:
        """Send a request and return its id."""
        frame = request(next(self._ids), method, params, **meta)
        self.server.send(modern(frame) if self.modern_era else frame)
        return frame["id"]

    def start(self, tool: str, arguments: Frame, **meta: Any) -> int:
        """Call a tool without waiting for its answer."""
        return self.send("tools/call", {"name": tool, "arguments": arguments}, **meta)

    def ask(self, method: str) -> Frame:
        return self.server.answer(self.send(method))["result"]

    def call(self, tool: str, **arguments: Any) -> Frame:
        """Call a tool and return its result, a good one or an error."""
        return self.result(self.start(tool, arguments))

    def result(self, request_id: int) -> Frame:
        return self.server.answer(request_id)["result"]

    def cancel(self, request_id: int) -> None:
        self.server.send(notification("notifications/cancelled", requestId=request_id))

    def progress(self, token: str, message: str = "") -> Frame:
        """The first progress with this message of the request that was sent with this token."""
        frame = self.server.frame(
            lambda frame: (
                frame.get("method") == "notifications/progress"
                and frame["params"]["progressToken"] == token
                and message in frame["params"]["message"]
            )
        )
        return frame["params"]

    def logged(self, text: str) -> str:
        """The log line with this text in it, when it comes."""
        return self.server.stderr.until(lambda line: text in line.decode()).decode().rstrip("\n")

    def _introduced(self, frame: Frame) -> str:
        return self.server.ask(frame)["result"]["instructions"]


@contextmanager
def hosted(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    modern_era: bool = False,
    probes_first: bool = False,
    forked: bool = True,
) -> Generator[Host]:
    """Start the command with these arguments, and connect to it."""
    # It is killed at the end, so that its temporary files have to be removed for it.
    with (
        TemporaryDirectory() as temporary,
        started((COMMAND, *arguments), {"TMPDIR": temporary, **(env or {})}, forked=forked) as server,
    ):
        yield Host(server, modern_era, probes_first).connect()


@dataclass(frozen=True)
class Embedded:
    """The control paths of the sandbox in a server that was started with --sandbox."""

    url: str

    @classmethod
    def named_in(cls, instructions: str) -> "Embedded":
        found = re.search(r"(http://127\.0\.0\.1:\d+)/samples/speaker\.mp4", instructions)
        assert found, instructions
        return cls(found.group(1))

    @property
    def media(self) -> list[Frame]:
        return media(self.url)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def control(self, path: str, body: Frame | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = Request(
            f"{self.url}/sandbox/{path}", data, {"content-type": "application/json"}, method=method
        )
        with _open(asked, timeout=WAIT_SECONDS) as answer:
            return json.load(answer)

    def asked(self) -> list[str]:
        """Every request to the API so far, as `METHOD /path`."""
        return [f"{one['method']} {one['path']}" for one in self.control("requests")]


def embedded(host: Host) -> Embedded:
    return Embedded.named_in(host.instructions)


def media(origin: str, query: str = "") -> list[Frame]:
    """A video and a voice; with another query it is another video."""
    return [
        {"type": "video", "url": f"{origin}/samples/speaker.mp4{query}"},
        {"type": "audio", "url": f"{origin}/samples/speech.wav"},
    ]


BEFORE_A_CREATE: Mapping[str, Answer] = {
    # An API on this machine is asked first whether it is a sandbox.
    "/v2/errors": answer(200, []),
    "/v2/account": answer(404, {"statusCode": 404, "message": "Not Found"}),
    "/v2/analyze/cost": answer(200, [{"estimatedFrameCount": 100, "estimatedGenerationCost": 0.2}]),
}
"""What an API says that is asked before a create, by path."""


def until(holds: Callable[[], bool]) -> None:
    """Wait for what happens elsewhere."""
    tick = Event()
    for _ in range(int(WAIT_SECONDS / _TICK_SECONDS)):
        if holds():
            return
        tick.wait(_TICK_SECONDS)
    raise AssertionError("it did not happen in time")


def text(result: Frame) -> str:
    """The text of a tool's result, which is all that some hosts show."""
    return "\n".join(block["text"] for block in result["content"])
