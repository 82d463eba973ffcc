import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.raw_server import Answer, RawServer
from tests.places import be_alone
from tests.sandbox.wire import VOICE
from tests.server.host import BEFORE_A_CREATE, KEY, Embedded, Host, embedded, hosted, media, until
from tests.serving.stdio.process import (
    WAIT_SECONDS,
    ServerProcess,
    close_stdin,
    send_sigint,
    send_sigterm,
    started,
)

Stop = Callable[[ServerProcess], None]

# A second is short where other tests take the processors; to start takes longer, and is not judged.
pytestmark = pytest.mark.alone("once started")

DEAF_NAME_SERVER = """
import socket, sys, threading

def resolve(*_, **__):
    print("resolving", file=sys.stderr, flush=True)
    threading.Event().wait()

socket.getaddrinfo = resolve
from sync_mcp.cli.main import main
main()
"""
# It has half a second for what comes last and then breaks off, which on a busy machine leaves files behind.
WITHOUT_LAST_RESORT = """
from sync_mcp.cli import serve
serve._LAST_MOMENTS_SECONDS = 60.0
from sync_mcp.cli.main import main
main()
"""
LONG_SCRIPT = {"type": "text", "voice_id": VOICE, "script": "hello " * 800}


@dataclass
class Sandboxed:
    """A server on its sandbox, whose temporary files all go to one folder."""

    host: Host
    sandbox: Embedded
    temporary: Path
    opened: ExitStack

    def create(self, **more: object) -> str:
        request = {"input": self.sandbox.media} | more
        return self.host.call("create_generation", **request)["structuredContent"]["generation_id"]

    def ends_and_leaves_nothing(self, stop: Stop) -> None:
        assert list(self.temporary.iterdir())
        stop(self.host.server)
        assert self.host.server.ends() == 0
        assert "Traceback" not in self.host.server.all_stderr()
        self.host.server.all_frames()
        assert not self.host.server.left_processes()
        assert list(self.temporary.iterdir()) == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.sandbox.port), WAIT_SECONDS).close()


@pytest.fixture
def sandboxed(tmp_path: Path) -> Iterator[Sandboxed]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary), "SYNC_MCP_APPROVE_ABOVE_USD": "never"}
    command = (sys.executable, "-c", WITHOUT_LAST_RESORT, "--sandbox")
    with started(command, env, forked=False) as server, ExitStack() as opened:
        host = Host(server).connect()
        be_alone()
        yield Sandboxed(host, embedded(host), temporary, opened)


def be_idle(server: Sandboxed) -> None:
    server.host.call("list_generations")


def wait_for_a_job(server: Sandboxed) -> None:
    server.sandbox.control("settings", {"job_seconds": 60}, method="PATCH")
    job = server.create()
    server.host.start("get_generation", {"generation_id": job, "wait_seconds": 45}, progressToken="p")
    server.host.progress("p")
    until(lambda: f"GET /v2/generate/{job}" in server.sandbox.asked())


def make_a_job_slowly(server: Sandboxed) -> None:
    charges = len(server.sandbox.control("charges"))
    server.sandbox.control("faults", {"path": "/v2/generate", "delay_seconds": 30, "when": "after"})
    another = {"input": server.sandbox.media, "options": {"temperature": 0.7}}
    server.host.start("create_generation", another)
    until(lambda: len(server.sandbox.control("charges")) > charges)


def fetch_media_that_never_come(server: Sandboxed) -> None:
    silent = server.opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    silent.settimeout(WAIT_SECONDS)
    video = {"type": "video", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/video.mp4"}
    # Asked by the API's own way: a tool sends no URL of this machine.
    body = json.dumps({"model": "lipsync-2", "input": [video, server.sandbox.media[1]]})
    asking = socket.create_connection(("127.0.0.1", server.sandbox.port), WAIT_SECONDS)
    server.opened.enter_context(asking)
    asking.sendall(
        f"POST /v2/generate HTTP/1.1\r\nHost: 127.0.0.1:{server.sandbox.port}\r\nx-api-key: sk_test\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    server.opened.enter_context(silent.accept()[0])


def render_a_long_video(server: Sandboxed) -> None:
    job = server.create(input=[server.sandbox.media[0], LONG_SCRIPT])
    server.sandbox.control("clock", {"advance_seconds": 60})
    output = server.host.call("get_generation", generation_id=job)["structuredContent"]["output_url"]
    host, _, path = str(output).removeprefix("http://").partition("/")
    viewer = socket.create_connection(("127.0.0.1", server.sandbox.port), WAIT_SECONDS)
    server.opened.enter_context(viewer)
    viewer.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    until(lambda: bool(list(server.temporary.glob("*/outputs/*"))))


@pytest.mark.parametrize("stop", [close_stdin, send_sigint, send_sigterm])
def test_the_server_ends_within_a_second_in_the_middle_of_a_wait_and_a_create_and_leaves_nothing(
    sandboxed: Sandboxed, stop: Stop
):
    wait_for_a_job(sandboxed)
    make_a_job_slowly(sandboxed)
    sandboxed.ends_and_leaves_nothing(stop)


@pytest.mark.parametrize(
    ("begin", "stop"),
    [
        (be_idle, close_stdin),
        (fetch_media_that_never_come, send_sigterm),
        (render_a_long_video, send_sigint),
    ],
)
def test_the_sandbox_ends_with_its_server_whatever_it_is_doing(
    sandboxed: Sandboxed, begin: Callable[[Sandboxed], None], stop: Stop
):
    begin(sandboxed)
    sandboxed.ends_and_leaves_nothing(stop)


def test_an_api_that_never_answers_cannot_hold_up_the_end():
    with (
        RawServer([Answer(hangs=True)], BEFORE_A_CREATE) as api,
        hosted(env={"SYNC_API_KEY": KEY, "SYNC_BASE_URL": api.url}, forked=False) as host,
    ):
        be_alone()
        host.start("create_generation", {"input": media("https://example.com"), "wait_seconds": 50})
        until(lambda: any(one.path == "/v2/generate" for one in api.received))
        close_stdin(host.server)
        assert host.server.ends() == 0
        assert "Traceback" not in host.server.all_stderr()
        assert not host.server.left_processes()


def test_a_name_server_that_never_answers_cannot_hold_up_the_end():
    env = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": "https://api.example"}
    with started((sys.executable, "-c", DEAF_NAME_SERVER), env, forked=False) as server:
        host = Host(server).connect()
        be_alone()
        host.start("list_generations", {})
        server.told("resolving")
        send_sigterm(server)
        assert server.ends() == 0
        assert "Traceback" not in server.all_stderr()
