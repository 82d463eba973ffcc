import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.server.host import COMMAND, KEY
from tests.serving.http.web import BEARER, TOKEN, Web, connection, head, post, said, serving, until_said
from tests.serving.stdio.forked import run_forked
from tests.serving.stdio.process import WAIT_SECONDS

ACCEPT = {"Accept": "application/json, text/event-stream"}
LISTING: dict[str, Any] = {"name": "list_generations", "arguments": {}}


@pytest.fixture(scope="module")
def keyed_sandbox() -> Iterator[Sandbox]:
    """A sandbox that lets nobody in but with the server's own key."""
    with Sandbox(tokens=[KEY]) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def guarded(keyed_sandbox: Sandbox) -> Iterator[Web]:
    flags = ("--allowed-host", "MCP.example.com")
    with serving(keyed_sandbox, *flags, env={"SYNC_MCP_HTTP_TOKEN": TOKEN}) as web:
        yield web


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "localhost", "[::1]:{port}", "[::1]", "LocalHost:{port}"]
)
def test_this_machine_may_be_called_by_its_own_names(web: Web, host: str) -> None:
    assert post(web.url, "tools/list", host=host.format(port=web.port)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost:80@evil.example",
        "localhost:80.evil.example",
        "localhost:",
        "",
        "*",
    ],
)
def test_a_foreign_host_is_refused(web: Web, host: str, sandbox: Sandbox) -> None:
    assert post(web.url, "tools/call", LISTING, host=host.format(port=web.port)).status_code == 421
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://127.0.0.1.evil.example",
        "http://localhost:3000.evil.example",
        "http://localhost:3000@evil.example",
        "file://localhost",
        "localhost",
    ],
)
def test_a_foreign_origin_is_refused(web: Web, origin: str, sandbox: Sandbox) -> None:
    assert post(web.url, "tools/call", LISTING, origin=origin).status_code == 403
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "origin", ["http://localhost:{port}", "http://127.0.0.1:6274", "https://localhost", "HTTP://LOCALHOST:1"]
)
def test_an_origin_on_this_machine_is_welcome(web: Web, origin: str) -> None:
    assert post(web.url, "tools/list", origin=origin.format(port=web.port)).status_code == 200


def test_the_handshake_era_is_checked_likewise(guarded: Web, sandbox: Sandbox) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    for headers, status in (
        ({}, 401),
        (right | {"Host": "evil.example"}, 421),
        (right | {"Origin": "https://evil.example"}, 403),
        (right, 200),
    ):
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = httpx.post(guarded.url, json=body, headers=ACCEPT | headers, trust_env=False)
        assert answer.status_code == status
    assert sandbox.requests == []


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
    answer = post(guarded.url, "tools/call", LISTING, authorization=authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == challenge
    assert TOKEN not in answer.text
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "lines",
    [
        [b"Bearer " + TOKEN.encode()] * 2,
        [b"Bearer " + TOKEN.encode(), b"Bearer x"],
        [b"Bearer \xff\xfe\xc3\xa4"],
        [b"Bearer " + TOKEN.encode() + b"\xc3\xa4"],
    ],
    ids=["twice", "one of two", "no text", "no ASCII"],
)
def test_a_doubled_or_garbled_token_is_none(guarded: Web, lines: list[bytes]) -> None:
    headers = [(b"Authorization", line) for line in lines]
    answer = httpx.post(guarded.url, headers=headers, json={}, trust_env=False)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_a_stranger_is_turned_away_before_the_body_is_read(guarded: Web) -> None:
    with connection(guarded) as stranger:
        stranger.sendall(head(content_length="4000000", authorization=None))
        answer = until_said(stranger, b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/", "/mcp/", "/MCP", "//mcp", "/health/", "/nothing"])
def test_no_other_path_leads_around_the_token(guarded: Web, path: str) -> None:
    answer = httpx.post(guarded.url.removesuffix("/mcp") + path, json={}, trust_env=False)
    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["mcp.example.com", "mcp.example.com:8443", "127.0.0.1"])
@pytest.mark.parametrize("kind", ["Bearer", "bearer"])
def test_with_the_token_the_named_hosts_are_served_and_it_is_not_passed_on(
    guarded: Web, host: str, kind: str, keyed_sandbox: Sandbox
) -> None:
    keyed_sandbox.reset()
    origin = f"https://{host}"
    answer = post(
        guarded.url, "tools/call", LISTING, host=host, origin=origin, authorization=f"{kind} {TOKEN}"
    )
    assert answer.status_code == 200
    # At a server's first call it is asked besides whether it is a sandbox.
    assert keyed_sandbox.requests
    for request in keyed_sandbox.requests:
        assert "authorization" not in request.headers
        assert TOKEN not in str(request)


def test_neither_token_nor_key_is_logged(sandbox: Sandbox) -> None:
    env = {"SYNC_MCP_HTTP_TOKEN": TOKEN}
    with serving(sandbox, "--log-level", "debug", env=env) as web:
        for authorization in (f"Bearer {TOKEN}", f"Bearer {TOKEN}x", f"Basic {TOKEN}"):
            post(web.url, "tools/call", LISTING, authorization=authorization)
            post(web.url, "tools/list", host="evil.example", authorization=authorization)
        web.server.process.terminate()
        told = web.server.all_stderr()
    assert "evil.example" in told
    assert TOKEN not in told
    assert KEY not in told


def test_a_key_in_a_request_does_not_stand_in_for_the_one_that_is_missing(sandbox: Sandbox) -> None:
    with serving(sandbox, env={"SYNC_API_KEY": ""}) as web:
        answer = post(web.url, "tools/call", LISTING, x_api_key=KEY).json()
    assert answer["result"]["_meta"]["code"] == "api_key_missing"
    assert sandbox.requests == []


def test_the_token_does_not_open_a_host_that_was_not_named(guarded: Web) -> None:
    answer = post(guarded.url, "tools/list", host="evil.example", authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 421


def test_health_needs_no_token_asks_nothing_upstream_and_tells_nothing_else(
    guarded: Web, sandbox: Sandbox
) -> None:
    answer = httpx.get(guarded.health, trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert sandbox.requests == []


def test_what_is_no_message_is_refused_and_the_next_is_served(web: Web) -> None:
    headers = {"content-type": "application/json", "authorization": BEARER, **ACCEPT}
    for body in (b"{", b"[]", b"null", b'{"jsonrpc": "2.0"}', b"[" * 100_000):
        answer = httpx.post(web.url, content=body, headers=headers, trust_env=False)
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text
    assert post(web.url, "tools/list").status_code == 200


def refused(*flags: str, **environment: str) -> str:
    """The one line with which the command does not start."""
    done = run_forked([COMMAND, "--sandbox", "--http", *flags], environment, timeout=WAIT_SECONDS)
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


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_this_machines_is_one_line(host: str) -> None:
    told = refused("--host", host, "--port", "0", "--allowed-host", "a.example", SYNC_MCP_HTTP_TOKEN=TOKEN)
    assert f"{host}:0" in told


def test_with_token_and_names_it_serves_every_address_by_those_names_alone(sandbox: Sandbox) -> None:
    settings = {"HTTP_HOST": "0.0.0.0", "HTTP_TOKEN": TOKEN, "HTTP_ALLOWED_HOSTS": "a.example, b.example"}
    env = {f"SYNC_MCP_{name}": value for name, value in settings.items()}
    with serving(sandbox, env=env) as web:
        for host, status in (("a.example", 200), ("b.example:80", 200), ("0.0.0.0", 421), ("c.example", 421)):
            answer = post(web.url, "tools/list", host=host, authorization=f"Bearer {TOKEN}")
            assert answer.status_code == status
        assert post(web.url, "tools/list", host="a.example", authorization=None).status_code == 401


@pytest.mark.parametrize(
    "token", ["short", "with spaces between all the words", "zu-kurz-wäre-er-nicht-aber"]
)
def test_a_token_that_protects_nothing_is_refused_and_not_shown(token: str) -> None:
    told = refused(SYNC_MCP_HTTP_TOKEN=token)
    assert "SYNC_MCP_HTTP_TOKEN" in told
    assert token not in told


@pytest.mark.parametrize("path", ["/mcp/", "/health/", "/", "/nothing", "//mcp"])
def test_no_path_is_redirected(web: Web, path: str) -> None:
    for method in ("GET", "POST"):
        url = web.url.removesuffix("/mcp") + path
        answer = httpx.request(method, url, headers={"authorization": BEARER}, trust_env=False)
        assert (answer.status_code, answer.headers.get("location")) == (404, None)


@pytest.mark.parametrize("path", ["/", "/nothing", "/mcp/", "/health/", "/Health"])
def test_a_foreign_host_or_origin_is_refused_on_every_path_but_health(web: Web, path: str) -> None:
    url = web.url.removesuffix("/mcp")
    for header, status in (({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)):
        headers = {"authorization": BEARER, **header}
        assert httpx.get(url + path, headers=headers, trust_env=False).status_code == status
        assert httpx.get(web.health, headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize("path", [b"/mcp", b"/health", b"/nothing"])
@pytest.mark.parametrize("authorization", [None, BEARER])
def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(
    web: Web, path: bytes, authorization: str | None
) -> None:
    opening = head(authorization=authorization, content_length="4", transfer_encoding="chunked")
    with connection(web) as caller:
        caller.sendall(opening.replace(b"/mcp", path) + b"0\r\n\r\n")
        answer = said(caller)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
