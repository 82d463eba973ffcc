import json
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from tests.places import be_alone

from . import process
from .process import (
    INITIALIZE,
    INITIALIZED,
    ServerProcess,
    call,
    close_stdin,
    modern,
    notification,
    request,
    send_sigint,
    send_sigterm,
    text_of,
)

Stop = Callable[[ServerProcess], None]

# A second is short where other tests take the processors; to start takes longer, and is not judged.
pytestmark = pytest.mark.alone("once started")


@contextmanager
def running(*, read_stdout: bool = True, forked: bool = False, **env: str) -> Generator[ServerProcess]:
    """The fixture server, started and alone."""
    # What is forked frees no memory at its end: that is for tests of what is answered before.
    with process.running(read_stdout=read_stdout, forked=forked, **env) as server:
        server.told("lifespan entered")
        be_alone()
        yield server


EVERY_STOP = pytest.mark.parametrize("stop", [close_stdin, send_sigint, send_sigterm])


@EVERY_STOP
def test_an_idle_server_that_heard_only_notifications_says_nothing_and_ends(stop: Stop):
    with running() as server:
        server.send(*(notification(f"notifications/{n}") for n in range(20)), INITIALIZED)
        stop(server)
        assert server.ends() == 0
        assert server.all_frames() == []
        assert "Traceback" not in server.all_stderr()


@pytest.mark.parametrize(
    ("stop", "backend"),
    [(close_stdin, "asyncio"), (send_sigint, "asyncio"), (send_sigterm, "asyncio"), (send_sigint, "trio")],
)
def test_a_server_with_waiting_calls_of_both_eras_cancels_them_and_ends(stop: Stop, backend: str):
    with running(BACKEND=backend, PYTHONWARNINGS="always") as server:
        server.initialize()
        server.send(call(1, "wait_forever", "legacy"), modern(call(2, "wait_forever", "modern")))
        server.told("waiting legacy")
        server.told("waiting modern")
        stop(server)
        assert server.ends() == 0
        told = server.all_stderr()
        assert told.count("lifespan entered") == 1
        assert {"cancelled legacy", "cancelled modern", "lifespan left"} <= set(told.splitlines())
        assert "Traceback" not in told
        assert "Warning" not in told
        assert {
            frame["id"]: frame["error"]["message"] for frame in server.all_frames() if "error" in frame
        } == {
            1: "Connection closed",
            2: "Connection closed",
        }


def test_a_signal_after_stdin_has_closed_does_not_spoil_the_exit_code():
    with running() as server:
        server.initialize()
        server.send(call(1, "wait_forever", "a"))
        server.told("waiting a")
        close_stdin(server)
        send_sigterm(server)
        server.told("lifespan left")
        send_sigterm(server)
        send_sigint(server)
        assert server.ends() == 0


def test_a_blocked_worker_thread_cannot_hold_up_a_process_that_asked_for_a_last_resort():
    with running(EXIT_WITHIN="1") as server:
        server.initialize()
        server.send(call(1, "block_thread"))
        server.told("blocking")
        send_sigterm(server)
        assert server.ends() == 0
        assert "Traceback" not in server.all_stderr()


def test_a_client_that_reads_nothing_cannot_hold_up_the_exit():
    with running(read_stdout=False) as server:
        server.send(INITIALIZE, INITIALIZED, *(call(n, "echo", "x" * 100_000) for n in range(5)))
        server.send(call(5, "print_noise"), call(6, "wait_forever", "a"))
        server.told("made noise")
        server.told("waiting a")
        close_stdin(server)
        assert server.ends() == 0
        assert "Traceback" not in server.all_stderr()


def test_a_client_that_closes_stdout_ends_the_server_quietly():
    with running(read_stdout=False) as server:
        server.send(INITIALIZE, INITIALIZED, call(1, "wait_forever", "a"))
        server.told("waiting a")
        server.stdout_pipe.close()
        server.send(*(call(n, "echo", "x" * 1000) for n in range(2, 10)))
        assert server.ends() == 0
        told = server.all_stderr()
        assert "cancelled a" in told
        assert "Traceback" not in told
        assert "BrokenPipe" not in told


def test_a_client_that_writes_all_and_closes_at_once_gets_every_answer_and_need_not_wait():
    frames = [
        modern(request("probe", "server/discover")),
        INITIALIZE,
        INITIALIZED,
        request("list", "tools/list"),
        call("never", "wait_forever"),
        notification("notifications/cancelled", requestId="never"),
        *(call(n, "echo", str(n)) for n in range(50)),
        modern(call("last", "take_a_moment", "last")),
    ]
    with running(forked=True, GRACE_SECONDS="60") as server:
        server.send_raw("\n".join(json.dumps(frame) for frame in frames).encode())
        close_stdin(server)
        assert text_of(server.answer("last")) == "last"
        assert server.ends() == 0
        answers = {frame["id"]: frame for frame in server.all_frames()}
        assert set(answers) == {"probe", "init", "list", "last", *range(50)}
        assert text_of(answers[49]) == "49"


def test_a_short_call_is_answered_though_one_beside_it_would_wait_for_ever():
    with running(forked=True, BACKEND="trio") as server:
        server.send(
            INITIALIZE, INITIALIZED, call(1, "wait_forever"), modern(call(2, "take_a_moment", "short"))
        )
        close_stdin(server)
        assert text_of(server.answer(2)) == "short"
        assert "error" in server.answer(1)
        assert server.ends() == 0
