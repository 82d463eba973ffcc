"""More connections than a server can hold, and what strangers may write into its log."""

import re
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from sync_mcp.serving.connections import Connections
from tests.server.host import KEY
from tests.serving.http.web import TOKEN, Web, connection, head, post, said, serving, until_said
from tests.serving.stdio.process import WAIT_SECONDS, started

resource = pytest.importorskip("resource", reason="this system has no limits of descriptors")

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWERS_WITHIN_SECONDS = 1.0
STRANGERS = 200
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine on Linux alone")


@contextmanager
def with_descriptors(soft: int, hard: int, program: str = "cli.main()") -> Generator[Web]:
    """A server that was started with so many descriptors."""
    code = (
        "import resource, sys; from sync_mcp.cli import main as cli; from sync_mcp.serving import http; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); {program}"
    )
    command = (sys.executable, "-c", code, "--http", "--port", "0")
    env = {"SYNC_API_KEY": KEY, "SYNC_MCP_HTTP_TOKEN": TOKEN}
    with started(command, env) as server:
        found = re.search(r"http://\S+/mcp", server.stderr.until(lambda line: b"/mcp" in line).decode())
        assert found
        yield Web(server, found[0])


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough of them for the test itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this process may not open enough connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def opened_from(address: str, web: Web, number: int, stack: ExitStack) -> list[socket.socket]:
    return [
        stack.enter_context(
            socket.create_connection(("127.0.0.1", web.port), WAIT_SECONDS, source_address=(address, 0))
        )
        for _ in range(number)
    ]


@ON_LINUX
@pytest.mark.usefixtures("many_descriptors")
def test_eleven_hundred_idle_connections_from_one_address_leave_room_for_the_others() -> None:
    with with_descriptors(1024, 1024) as web, ExitStack() as stack:
        opened_from("127.0.0.2", web, 1100, stack)
        answer = httpx.get(web.health, timeout=ANSWERS_WITHIN_SECONDS, trust_env=False)
        assert answer.json() == {"status": "ok"}
        assert post(web.url, "tools/list").status_code == 200
        web.server.process.terminate()
        told = web.server.all_stderr()
    refused = [line for line in told.splitlines() if "too many" in line]
    assert 1 <= len(refused) < 20
    assert "127.0.0.2" in refused[0]
    assert len(told) < 10_000


@ON_LINUX
def test_an_address_gets_its_part_of_three_quarters_of_the_descriptors_and_a_local_proxy_all_of_it() -> None:
    # Where 128 are allowed, 96 are held: 24 of them by one address.
    with with_descriptors(128, 128) as web, ExitStack() as stack:
        for address, allowed in (("127.0.0.2", 24), ("127.0.0.1", 96 - 24)):
            held = opened_from(address, web, allowed, stack)
            for one in held:
                one.sendall(HEALTH)
                until_said(one, b'{"status":"ok"}')
            [more] = opened_from(address, web, 1, stack)
            assert said(more) == b""
            # Each that goes makes room for another.
            held[0].close()
            [again] = opened_from(address, web, 1, stack)
            again.sendall(HEALTH)
            until_said(again, b'{"status":"ok"}')


@ON_LINUX
def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one_first() -> None:
    with with_descriptors(64, 256) as web, ExitStack() as stack:
        for one in opened_from("127.0.0.1", web, 100, stack):
            one.sendall(HEALTH)
            until_said(one, b'{"status":"ok"}')


def test_a_network_of_ipv6_is_one_address_and_a_mapped_one_is_its_ipv4_one() -> None:
    held = Connections(128)
    parties = [held.admit(f"2001:db8::{number:x}") for number in range(1, 26)]
    assert parties.count(None) == 1
    assert held.admit("2001:db8:0:1::1")
    assert {held.admit("::ffff:192.0.2.7"), held.admit("192.0.2.7")} == {"192.0.2.7"}
    assert all(held.admit("::1") for _ in range(50))


def test_a_connection_that_sent_no_byte_goes_before_one_that_has_begun(sandbox: Sandbox) -> None:
    with serving(sandbox, patience=1.5, begun_patience=600) as web, connection(web) as begun:
        begun.sendall(head()[:20])
        with connection(web) as silent:
            assert said(silent) == b""
        begun.sendall(head()[20:-2] + b"content-length: 0\r\n\r\n")
        assert until_said(begun, b"\r\n\r\n").startswith(b"HTTP/1.1 ")


EXHAUSTED = """
import errno, os, socket
accept, failures = socket.socket.accept, 3000

def failing(self):
    global failures
    failures -= 1
    if failures > 0:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return accept(self)

socket.socket.accept = failing
import asyncio.constants
asyncio.constants.ACCEPT_RETRY_DELAY = 0.001
cli.main()
"""


def test_what_cannot_be_accepted_is_logged_once_a_second_and_without_a_traceback() -> None:
    program = f"exec({EXHAUSTED!r})"
    with with_descriptors(1024, 1024, program) as web, connection(web) as caller:
        caller.sendall(HEALTH)
        assert until_said(caller, b'{"status":"ok"}')
        # The rest of a second is told at its end.
        lines = [web.server.stderr.until(lambda line: b"within a second" in line).decode()]
        web.server.process.terminate()
        lines = [line for line in web.server.all_stderr().splitlines() if "accept" in line]
    assert "no connection can be accepted" in lines[0]
    assert len(lines) < 10
    assert not [line for line in lines if "Traceback" in line]


@pytest.mark.parametrize(
    ("told", "headers"),
    [
        ("refused a request without a right token", {"authorization": "Bearer of-a-stranger-who-guesses"}),
        ("refused the host evil.example", {"host": "evil.example"}),
        ("refused the origin https://evil.example", {"origin": "https://evil.example"}),
        ("Invalid HTTP request received.", {"content_length": "x"}),
        ("", {"connection": "upgrade", "upgrade": "websocket"}),
    ],
    ids=["token", "host", "origin", "no HTTP", "upgrade"],
)
def test_what_strangers_send_leaves_one_counted_line_a_second(
    sandbox: Sandbox, told: str, headers: dict[str, str]
) -> None:
    counts: list[int] = []

    def all_are_counted(line: bytes) -> bool:
        if b" WARNING " in line:
            assert told.encode() in line
            found = re.search(rb"\((\d+) times within a second\)", line)
            counts.append(int(found[1]) if found else 1)
        return sum(counts) >= STRANGERS

    with serving(sandbox) as web:
        opening = head(**{"content_length": "0"} | headers)
        if "host" in headers:
            opening = opening.replace(b"Host: 127.0.0.1\r\n", b"")
        for _ in range(STRANGERS):
            with connection(web) as stranger:
                stranger.sendall(opening)
                until_said(stranger, b"\r\n\r\n")
        web.server.stderr.until(all_are_counted)
    # A slow machine needs more seconds for them, and each second has its line.
    assert len(counts) < STRANGERS / 2
