"""Slow, silent, greedy and vanishing clients."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.server.host import media, until
from tests.serving.http.web import (
    Mode,
    Web,
    both_eras,
    call,
    connection,
    head,
    post,
    said,
    serving,
    until_said,
)
from tests.serving.stdio.process import WAIT_SECONDS

JOB = "00000000-0000-4000-8000-000000000001"
BREAKS_OFF_WITHIN_SECONDS = 5.0
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BODY_LIMIT = 4 * 1024 * 1024


@dataclass
class HeldUpstream:
    """Takes requests, one to a connection, and answers none; whether it is a sandbox it leaves unsaid."""

    listening: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def take(self) -> tuple[socket.socket, bytes]:
        """The next connection and the first line that came on it, but for the question what it is."""
        while True:
            taken, _ = self.listening.accept()
            taken.settimeout(BREAKS_OFF_WITHIN_SECONDS)
            asked = until_said(taken, b"\r\n\r\n").partition(b"\r\n")[0]
            if not asked.startswith(b"GET /v2/errors "):
                return taken, asked
            taken.close()


@pytest.fixture
def held() -> Iterator[HeldUpstream]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_SECONDS)
        yield HeldUpstream(listening)


@both_eras
def test_a_closed_connection_breaks_off_its_wait_and_the_api_is_asked_no_more(
    held: HeldUpstream, mode: Mode
) -> None:
    with serving(held) as web:
        with connection(web) as caller:
            caller.sendall(call("get_generation", {"generation_id": JOB, "wait_seconds": 45}, mode))
            waiting, asked = held.take()
            assert asked.startswith(f"GET /v2/generate/{JOB}".encode())
        with waiting, connection(web) as caller:
            # The end of the server's own connection: it does not wait for the answer any longer.
            assert waiting.recv(1) == b""
            caller.sendall(call("list_generations", {}, mode))
            listed, asked = held.take()
            listed.close()
        assert asked.startswith(b"GET /v2/generations")


def create(web: Web, arguments: dict[str, Any], mode: Mode) -> bytes:
    with connection(web) as caller:
        caller.sendall(call("create_generation", arguments, mode))
        return until_said(caller, b'"generation_id"')


@both_eras
@pytest.mark.parametrize("moment", ["on its way", "accepted", "while it waits for the end"])
def test_a_create_whose_connection_closes_is_paid_once_and_the_same_call_gets_its_job(
    web: Web, sandbox: Sandbox, mode: Mode, moment: str
) -> None:
    arguments: dict[str, Any] = {"input": media(sandbox.url, f"?{mode} {moment}".replace(" ", "-"))}
    waits = moment == "while it waits for the end"
    if not waits:
        sandbox.add_fault(Fault(method="POST", path="/v2/generate", delay_seconds=0.7, when="after"))
    with connection(web) as caller:
        caller.sendall(call("create_generation", arguments | ({"wait_seconds": 45} if waits else {}), mode))
        until(lambda: len(sandbox.charges) == 1)
        job = sandbox.charges[0].generation_id
        if waits:
            until_said(caller, b"notifications/progress")
    if moment == "accepted":
        web.server.stderr.until(lambda line: f"accepted as generation {job}".encode() in line)
    assert job.encode() in create(web, arguments, mode)
    assert [charge.generation_id for charge in sandbox.charges] == [job]


def test_a_connection_that_says_nothing_or_never_ends_its_head_is_closed(sandbox: Sandbox) -> None:
    with (
        serving(sandbox, patience=0.5) as web,
        connection(web) as silent,
        connection(web) as halting,
        connection(web) as again,
    ):
        halting.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        # One good request earns the next one no longer a time.
        again.sendall(HEALTH)
        until_said(again, b'{"status":"ok"}')
        again.sendall(HEALTH[:9])
        assert post(web.url, "tools/list").status_code == 200
        assert [said(one) for one in (silent, halting, again)] == [b"", b"", b""]


@pytest.mark.parametrize(
    ("opening", "drop", "answer"),
    [
        (b"POST /mcp HTTP/1.1\r\n", b"X-Drop: 1\r\n", b""),
        (head(content_length="1000000"), b" ", b"HTTP/1.1 408 "),
        (head(transfer_encoding="chunked"), b"1\r\n \r\n", b"HTTP/1.1 408 "),
    ],
    ids=["head", "body", "chunked body"],
)
def test_a_client_that_sends_drop_by_drop_gets_no_longer_for_it(
    sandbox: Sandbox, opening: bytes, drop: bytes, answer: bytes
) -> None:
    with serving(sandbox, patience=0.5) as web, connection(web) as slow:
        slow.settimeout(0.02)
        slow.sendall(opening)
        ends_at, told = time.monotonic() + WAIT_SECONDS, None
        while told is None and time.monotonic() < ends_at:
            try:
                slow.sendall(drop)
                told = slow.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                told = b""
        assert told is not None
        assert told.startswith(answer)
        assert told or not answer


def test_a_kept_connection_may_rest_longer_than_a_silent_one(sandbox: Sandbox) -> None:
    with serving(sandbox, patience=0.5) as web, connection(web) as kept:
        for _ in range(2):
            kept.sendall(HEALTH)
            until_said(kept, b'{"status":"ok"}')
            with connection(web) as silent:
                assert said(silent) == b""
        kept.sendall(HEALTH)
        assert until_said(kept, b'{"status":"ok"}').startswith(b"HTTP/1.1 200 ")


def test_two_hundred_connections_that_say_nothing_hold_up_nobody(web: Web) -> None:
    with ExitStack() as opened:
        for number in range(200):
            silent = opened.enter_context(connection(web))
            silent.sendall((b"", b"POST /mcp HT", head(content_length="99") + b"{")[number % 3])
        assert post(web.url, "tools/call", {"name": "list_generations", "arguments": {}}).status_code == 200


@pytest.mark.parametrize(
    ("opening", "chunk"),
    [
        (head(content_length=str(BODY_LIMIT + 1)), b"x" * BODY_LIMIT + b"x"),
        (head(transfer_encoding="chunked"), b"%x\r\n%b\r\n" % (BODY_LIMIT + 1, b"x" * (BODY_LIMIT + 1))),
    ],
    ids=["announced", "in chunks"],
)
def test_a_body_beyond_four_mebibytes_is_refused(web: Web, opening: bytes, chunk: bytes) -> None:
    with connection(web) as caller:
        caller.sendall(opening + chunk)
        assert until_said(caller, b"\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    assert post(web.url, "tools/list").status_code == 200


@both_eras
def test_a_client_that_leaves_in_the_middle_of_a_request_leaves_no_fault_in_the_log(
    sandbox: Sandbox, mode: Mode
) -> None:
    with serving(sandbox, "--log-level", "debug") as web:
        listing = call("list_generations", {}, mode)
        for begun in (b"", b"POST", listing.partition(b"{")[0], listing[:-5]):
            with connection(web) as caller:
                caller.sendall(begun)
        assert post(web.url, "tools/list").status_code == 200
        web.server.process.terminate()
        told = web.server.all_stderr()
    assert "ERROR" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD", "OPTIONS"])
def test_a_stream_that_could_never_say_anything_is_not_opened(web: Web, method: str) -> None:
    with connection(web) as caller:
        caller.sendall(head(method, accept="text/event-stream", connection="close"))
        answer = said(caller)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: POST\r\n" in answer.replace(b"Allow", b"allow")


def test_what_is_no_http_is_refused_and_the_next_is_served(web: Web) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"X: " + b"a" * 200_000):
        with connection(web) as caller:
            caller.sendall(noise)
            assert said(caller)[:13] in (b"HTTP/1.1 400 ", b"")
    assert post(web.url, "tools/list").status_code == 200
