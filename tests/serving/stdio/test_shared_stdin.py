"""A stdin that others read too, or that whoever started the server left non-blocking."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.places import be_alone

from .forked import start_forked
from .process import (
    FIXTURE_COMMAND,
    FIXTURE_SERVER,
    WAIT_SECONDS,
    ServerProcess,
    call,
    modern,
    request,
    running,
    send_sigint,
    send_sigterm,
    started,
    text_of,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no descriptors of this kind")

# Another reader takes the first that comes just after the server was told that there is something.
ROBBED_SERVER = f"""
import os, runpy, sys
import anyio
wait_readable = anyio.wait_readable
left = [1]

async def wait_and_be_robbed(fd):
    await wait_readable(fd)
    if left:
        left.pop()
        os.read(fd, 65536)
        print("robbed", file=sys.stderr, flush=True)

anyio.wait_readable = wait_and_be_robbed
sys.path.insert(0, os.path.dirname({str(FIXTURE_SERVER)!r}))
runpy.run_path({str(FIXTURE_SERVER)!r}, run_name="__main__")
"""


@pytest.mark.alone("once started")
@pytest.mark.parametrize("stop", [send_sigterm, send_sigint])
@pytest.mark.skipif(sys.platform != "linux", reason="only here can a shared pipe be read without waiting")
def test_a_server_whose_message_another_reader_took_is_not_blocked(stop: Any):
    with started((sys.executable, "-c", ROBBED_SERVER), {}, forked=False) as server:
        server.send(request("lost", "ping"))
        server.told("robbed")
        be_alone()
        stop(server)
        assert server.ends() == 0


def test_what_comes_after_a_message_that_another_reader_took_is_answered():
    with started((sys.executable, "-c", ROBBED_SERVER), {}) as server:
        server.send(request("lost", "ping"))
        server.told("robbed")
        assert text_of(server.ask(modern(call(1, "echo", "kept")))) == "kept"


@pytest.mark.alone("once started")
@pytest.mark.parametrize("stop", [send_sigterm, send_sigint])
def test_a_blocked_event_loop_cannot_hold_up_a_process_that_asked_for_a_last_resort(stop: Any):
    with running(forked=False, EXIT_WITHIN="1") as server:
        server.send(modern(call(1, "block_loop")))
        server.told("blocking the loop")
        be_alone()
        stop(server)
        assert server.ends() == 0


@contextmanager
def served_on(stdin: int) -> Generator["subprocess.Popen[bytes]"]:
    with start_forked(FIXTURE_COMMAND, os.environ, stdin=stdin) as server:
        try:
            yield server
        finally:
            server.kill()


def answered(server: "subprocess.Popen[bytes]") -> str:
    assert server.stdout
    return text_of(json.loads(server.stdout.readline()))


def line(number: int, text: str) -> bytes:
    return json.dumps(modern(call(number, "echo", text))).encode() + b"\n"


def test_a_terminal_that_does_not_block_is_waited_for():
    import pty

    terminal, stdin = pty.openpty()
    os.set_blocking(stdin, False)
    with served_on(stdin) as server:
        os.close(stdin)
        for number in range(3):
            os.write(terminal, line(number, f"typed {number}"))
            assert answered(server) == f"typed {number}"
        os.close(terminal)
        assert server.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_stays_as_it_was_for_those_who_share_it(blocking: bool):
    stdin, writing = os.pipe()
    os.set_blocking(stdin, blocking)
    with served_on(stdin) as server:
        os.write(writing, line(1, "piped"))
        assert answered(server) == "piped"
        assert os.get_blocking(stdin) == blocking
        os.close(writing)
        assert server.wait(WAIT_SECONDS) == 0
    os.close(stdin)


@pytest.mark.parametrize("blocking", [True, False])
def test_stdin_may_be_a_socket_as_node_gives_it(blocking: bool):
    ours, stdin = socket.socketpair()
    with ours, stdin:
        stdin.setblocking(blocking)
        with served_on(stdin.fileno()) as server:
            ours.sendall(line(1, "sent"))
            assert answered(server) == "sent"
            ours.shutdown(socket.SHUT_WR)
            assert server.wait(WAIT_SECONDS) == 0


def test_a_client_that_writes_thousands_and_closes_gets_every_answer(fresh_server: ServerProcess):
    count = 3000
    fresh_server.send(*(modern(request(number, "tools/list")) for number in range(count)))
    fresh_server.stdin.close()
    assert {frame["id"] for frame in fresh_server.all_frames()} == set(range(count))
    assert fresh_server.process.wait(WAIT_SECONDS) == 0
