import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.http.web import Web, post, serving
from tests.server.host import COMMAND
from tests.stdio.process import WAIT_SECONDS

TOKEN = "a-Token-of-24-characters"
LISTING: dict[str, Any] = {"name": "list_generations", "arguments": {}}


@pytest.fixture(scope="module")
def guarded(shared_sandbox: Sandbox) -> Iterator[Web]:
    flags = ("--allowed-host", "mcp.example.com")
    with serving(shared_sandbox, *flags, env={"SYNC_MCP_HTTP_TOKEN": TOKEN}) as web:
        yield web


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost"])
def test_this_machine_may_be_called_by_its_own_names(web: Web, host: str) -> None:
    assert post(web.url, "tools/list", host=host.format(port=web.port)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "*"])
def test_a_foreign_host_is_refused(web: Web, host: str, sandbox: Sandbox) -> None:
    assert post(web.url, "tools/call", LISTING, host=host.format(port=web.port)).status_code in (400, 421)
    assert sandbox.requests == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example"])
def test_a_foreign_origin_is_refused(web: Web, origin: str, sandbox: Sandbox) -> None:
    assert post(web.url, "tools/call", LISTING, origin=origin).status_code == 403
    assert sandbox.requests == []


def test_an_origin_on_this_machine_is_welcome(web: Web) -> None:
    assert post(web.url, "tools/list", origin=f"http://localhost:{web.port}").status_code == 200


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, "Bearer"),
        ("Bearer another-token-of-24-cha", 'Bearer error="invalid_token"'),
        (f"Bearer {TOKEN}x", 'Bearer error="invalid_token"'),
        (f"Bearer {TOKEN.lower()}", 'Bearer error="invalid_token"'),
        (f"Basic {TOKEN}", 'Bearer error="invalid_token"'),
        (TOKEN, 'Bearer error="invalid_token"'),
        ("Bearer", 'Bearer error="invalid_token"'),
        ("", 'Bearer error="invalid_token"'),
    ],
)
def test_without_the_token_nothing_is_served(
    guarded: Web, authorization: str | None, challenge: str, sandbox: Sandbox
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = post(guarded.url, "tools/call", LISTING, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == challenge
    assert TOKEN not in answer.text
    assert sandbox.requests == []


def test_two_tokens_at_once_are_none(guarded: Web) -> None:
    lines = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
    assert httpx.post(guarded.url, headers=lines, json={}, trust_env=False).status_code == 401


@pytest.mark.parametrize("host", ["mcp.example.com", "mcp.example.com:8443", "127.0.0.1"])
def test_with_the_token_the_named_hosts_are_served_and_it_is_not_passed_on(
    guarded: Web, host: str, sandbox: Sandbox
) -> None:
    answer = post(guarded.url, "tools/call", LISTING, host=host, authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    [request] = sandbox.requests
    assert TOKEN not in str(request.headers)


def test_the_token_does_not_open_a_host_that_was_not_named(guarded: Web) -> None:
    answer = post(guarded.url, "tools/list", host="evil.example", authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 421


def test_health_needs_no_token_asks_nothing_upstream_and_tells_nothing_else(
    guarded: Web, sandbox: Sandbox
) -> None:
    answer = httpx.get(guarded.health, trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert sandbox.requests == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_stream_that_could_never_say_anything_is_not_opened(web: Web, method: str) -> None:
    answer = httpx.request(method, web.url, headers={"accept": "text/event-stream"}, trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_beyond_four_mebibytes_is_refused(web: Web) -> None:
    big = {"name": "list_generations", "arguments": {"cursor": "x" * 5_000_000}}
    assert post(web.url, "tools/call", big).status_code == 413
    assert post(web.url, "tools/list").status_code == 200


def test_what_is_no_message_is_refused_and_the_next_is_served(web: Web) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    for body in (b"{", b"[]", b"null", b'{"jsonrpc": "2.0"}', b"[" * 100_000):
        answer = httpx.post(web.url, content=body, headers=headers, trust_env=False)
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text
    assert post(web.url, "tools/list").status_code == 200


def refused(*flags: str, **environment: str) -> str:
    """The one line with which the command does not start."""
    done = subprocess.run(
        [COMMAND, "--sandbox", "--http", *flags],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr), done.stderr
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_elsewhere_it_does_not_start_without_a_token_and_names(host: str) -> None:
    told = refused("--host", host)
    assert "SYNC_MCP_HTTP_TOKEN" in told
    assert "--allowed-host" in told
    assert "--allowed-host" not in refused("--host", host, "--allowed-host", "mcp.example.com")
    assert "SYNC_MCP_HTTP_TOKEN" not in refused("--host", host, SYNC_MCP_HTTP_TOKEN=TOKEN)


def test_a_name_of_elsewhere_needs_a_token_on_this_machine_too() -> None:
    assert "SYNC_MCP_HTTP_TOKEN" in refused("--allowed-host", "mcp.example.com")


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in refused("--port", port)


@pytest.mark.parametrize(
    "token", ["short", "with spaces between all the words", "zu-kurz-wäre-er-nicht-aber"]
)
def test_a_token_that_protects_nothing_is_refused_and_not_shown(token: str) -> None:
    told = refused(SYNC_MCP_HTTP_TOKEN=token)
    assert "SYNC_MCP_HTTP_TOKEN" in told
    assert token not in told
