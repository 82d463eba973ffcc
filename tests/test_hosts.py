import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from sync_mcp.hosts import HOSTS, Installation, configuration, http_origin, this_command
from sync_mcp.tools.generations import TOOLS

KEY, TOKEN = "sk_Secret-0123456789", "a-Token-of-24-characters"
COMMAND = shutil.which("sync-mcp", path=str(Path(sys.executable).parent)) or ""
SPACED = ("/Users/Jane Doe/sync mcp/.venv/bin/sync-mcp",)
URL = "http://127.0.0.1:8000/mcp"
WAIT_SECONDS = 30

every_host = pytest.mark.parametrize("host", list(HOSTS))


def config(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "config", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


def block(told: str) -> str:
    """What is to be pasted or run: the last part."""
    return told.rsplit("\n\n", 1)[1]


def entry(host: str, told: str) -> dict[str, Any]:
    """The server as the host is told of it."""
    if host in ("claude-code", "inspector"):
        words = shlex.split(block(told))
        place = (
            words.index("--") + 1
            if "--" in words
            else next(n for n, word in enumerate(words) if "/bin/" in word)
        )
        return {"command": words[place], "args": words[place + 1 :]}
    text = told[re.search(r"^[{\[]", told, re.MULTILINE).start() :]  # type: ignore[union-attr]
    table: dict[str, Any] = tomllib.loads(text) if host == "codex" else json.loads(text)
    [servers] = (table[name] for name in ("mcpServers", "servers", "mcp_servers") if name in table)
    [server] = servers.values()
    return server


@every_host
@pytest.mark.parametrize("flags", [(), ("--sandbox",)], ids=["key", "sandbox"])
def test_what_a_host_is_told_starts_this_very_installation(host: str, flags: tuple[str, ...]) -> None:
    done = config(host, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    server = entry(host, done.stdout)
    assert Path(server["command"]).is_absolute()
    assert server["args"] == list(flags)
    parameters = StdioServerParameters(command=server["command"], args=server["args"])

    async def listed() -> list[str]:
        with anyio.fail_after(WAIT_SECONDS):
            async with Client(parameters) as client:
                return [tool.name for tool in (await client.list_tools()).tools]

    assert anyio.run(listed) == [tool.name for tool in TOOLS]


@every_host
@pytest.mark.parametrize("flags", [(), ("--sandbox",), ("--http",), ("--http", "--sandbox")], ids=str)
def test_no_secret_of_the_environment_is_printed(host: str, flags: tuple[str, ...]) -> None:
    done = config(host, *flags, SYNC_API_KEY=KEY, SYNC_MCP_HTTP_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout
    assert TOKEN not in done.stdout


@every_host
def test_the_variable_of_the_key_is_named_where_the_host_needs_one(host: str) -> None:
    assert "SYNC_API_KEY" in configuration(host, Installation((COMMAND,)))
    assert "SYNC_API_KEY" not in configuration(host, Installation((COMMAND,), sandbox=True))
    assert "SYNC_API_KEY" not in configuration(host, Installation((COMMAND,), url=URL))


@every_host
def test_over_http_it_says_how_to_start_the_server_and_where_it_is(host: str) -> None:
    done = config(host, "--http", "--port", "9123", "--sandbox")
    start = next(line for line in done.stdout.splitlines() if "--http" in line)
    assert shlex.split(start) == [COMMAND, "--sandbox", "--http", "--port", "9123"]
    assert "http://127.0.0.1:9123/mcp" in done.stdout.split(start)[1]


@every_host
def test_the_variable_of_the_token_is_named_where_there_is_one(host: str) -> None:
    named = configuration(host, Installation((COMMAND,), url=URL, has_token=True))
    assert "SYNC_MCP_HTTP_TOKEN" in named
    assert "SYNC_MCP_HTTP_TOKEN" not in configuration(host, Installation((COMMAND,), url=URL))


@every_host
def test_it_says_where_to_paste_or_to_run_it(host: str) -> None:
    first = configuration(host, Installation((COMMAND,))).splitlines()[0]
    assert re.search(r"\b(Put this into|Run this|Add this to)\b", first)


@every_host
def test_a_path_with_spaces_stays_one_word(host: str) -> None:
    assert entry(host, configuration(host, Installation(SPACED)))["command"] == SPACED[0]


def test_an_unknown_host_is_one_line_that_names_the_known_ones() -> None:
    done = config("emacs")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr)
    assert "claude-desktop" in done.stderr


def test_the_command_is_the_script_beside_this_python() -> None:
    assert this_command() == (COMMAND,)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("mcp.example.com", "http://mcp.example.com:8000"),
    ],
)
def test_a_server_on_every_address_is_reached_by_its_loopback_one(host: str, origin: str) -> None:
    assert http_origin(host, 8000) == origin
