"""What the doctor says of serving HTTP on this machine."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from sync_mcp.sandbox import Sandbox
from sync_mcp.serving.tokens import own_token
from tests.cli.test_doctor import KEY, TOKEN, examined, remedies
from tests.serving.http.web import serving


def looked_at(*flags: str, token: str = "") -> subprocess.CompletedProcess[str]:
    return examined("--sandbox", "--http", *flags, SYNC_MCP_HTTP_TOKEN=token)


def test_a_port_that_is_free_is_well() -> None:
    done = looked_at("--port", "0")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^http +can be served on 127\.0\.0\.1:0$", done.stdout, re.MULTILINE)


def test_a_port_that_something_else_has_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # It says nothing, which must not hold up the report.
        port = taken.getsockname()[1]
        done = looked_at("--port", str(port))
    assert (done.returncode, done.stderr) == (1, "")
    assert remedies(done.stdout).keys() == {"http"}
    assert f"127.0.0.1:{port}" in remedies(done.stdout)["http"]
    assert "--port" in remedies(done.stdout)["http"]


def test_a_server_of_this_kind_that_runs_there_is_well(sandbox: Sandbox) -> None:
    with serving(sandbox) as web:
        done = looked_at("--port", str(web.port))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"already served on 127.0.0.1:{web.port}" in done.stdout


def test_a_file_of_tokens_that_cannot_be_used_is_wrong(tmp_path: Path) -> None:
    done = examined("--sandbox", "--http", "--port", "0", SYNC_MCP_HTTP_TOKENS_FILE=str(tmp_path / "none"))
    assert str(tmp_path / "none") in remedies(done.stdout)["http"]


@pytest.mark.skipif(os.name != "posix", reason="this system has no modes")
def test_the_servers_own_token_is_wrong_where_others_can_read_it(home: Path, sandbox: Sandbox) -> None:
    own_token(home)
    flags = ("--http", "--port", "0")
    assert examined(*flags, SYNC_API_KEY=KEY, SYNC_BASE_URL=sandbox.url).returncode == 0
    (home / "http-token").chmod(0o640)
    done = examined(*flags, SYNC_API_KEY=KEY, SYNC_BASE_URL=sandbox.url)
    assert "http-token" in remedies(done.stdout)["http"]


def test_an_address_that_is_not_this_machines_is_wrong() -> None:
    flags = ("--host", "192.0.2.1", "--port", "0", "--allowed-host", "mcp.example.com")
    done = looked_at(*flags, token=TOKEN)
    assert (done.returncode, done.stderr) == (1, "")
    assert "192.0.2.1:0" in remedies(done.stdout)["http"]
    assert "--host" in remedies(done.stdout)["http"]
