import ast
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from sync_mcp.access import is_placeholder
from sync_mcp.cli.hosts import ALIASES, HOSTS, Installation, configuration, http_origin
from sync_mcp.machine.installed import this_command
from sync_mcp.tools.core import TOOLS
from tests.serving.stdio.forked import run_forked
from tests.serving.stdio.process import started

BY_DEFAULT = [tool.name for tool in TOOLS if tool.toolset.is_default]
KEY, TOKEN = "sk_Secret-0123456789", "a-Token-of-24-characters"
COMMAND = shutil.which("sync-mcp", path=str(Path(sys.executable).parent)) or ""
SPACED = ("/Users/Jane Doe/sync mcp/.venv/bin/sync-mcp",)
URL = "http://127.0.0.1:8000/mcp"
WAIT_SECONDS = 30

every_host = pytest.mark.parametrize("host", list(HOSTS))


def config(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_forked([COMMAND, "config", *arguments], environment, timeout=WAIT_SECONDS)


@cache
def configs(*flags: str, secrets: bool = False) -> dict[str, str]:
    """What each host is told, by one process, since a start takes longer than all of them."""
    done = run_forked(
        [sys.executable, "-c", _EVERY_HOST, *flags],
        {"SYNC_API_KEY": KEY, "SYNC_MCP_HTTP_TOKEN": TOKEN} if secrets else {},
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(zip(HOSTS, done.stdout.split("\0"), strict=False))


_EVERY_HOST = """
import sys
from sync_mcp.cli.main import main
from sync_mcp.cli.hosts import HOSTS
flags = sys.argv[1:]
for host in HOSTS:
    sys.argv = ["sync-mcp", "config", host, *flags]
    main()
    print(end="\\0")
"""


@cache
def tools_of(command: str, *arguments: str) -> list[str]:
    """The tools of the server that a command starts."""

    async def listed() -> list[str]:
        with anyio.fail_after(WAIT_SECONDS):
            async with Client(StdioServerParameters(command=command, args=list(arguments))) as client:
                return [tool.name for tool in (await client.list_tools()).tools]

    return anyio.run(listed)


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
    places = ("mcpServers", "servers", "mcp_servers", "mcp", "context_servers")
    [servers] = (table[name] for name in places if name in table)
    [server] = servers.values()
    if isinstance(server.get("command"), list):
        server["command"], *server["args"] = server["command"]
    return server


@every_host
@pytest.mark.parametrize("flags", [(), ("--sandbox",)], ids=["key", "sandbox"])
def test_what_a_host_is_told_starts_this_very_installation(host: str, flags: tuple[str, ...]) -> None:
    server = entry(host, configs(*flags)[host])
    assert Path(server["command"]).is_absolute()
    assert server["args"] == list(flags)
    assert tools_of(server["command"], *server["args"]) == BY_DEFAULT


@every_host
@pytest.mark.parametrize("flags", [(), ("--sandbox",), ("--http",), ("--http", "--sandbox")], ids=str)
def test_no_secret_of_the_environment_is_printed(host: str, flags: tuple[str, ...]) -> None:
    told = configs(*flags, secrets=True)[host]
    assert KEY not in told
    assert TOKEN not in told


@every_host
def test_the_variable_of_the_key_is_named_where_the_host_needs_one(host: str) -> None:
    assert "SYNC_API_KEY" in configuration(host, Installation((COMMAND,)))
    assert "SYNC_API_KEY" not in configuration(host, Installation((COMMAND,), sandbox=True))
    start, _, rest = configuration(host, Installation((COMMAND,), url=URL)).split("\n\n", 2)
    assert "with SYNC_API_KEY set" in start
    assert "SYNC_API_KEY" not in rest
    assert "SYNC_API_KEY" not in configuration(host, Installation((COMMAND,), sandbox=True, url=URL))


@every_host
def test_over_http_it_says_how_to_start_the_server_and_where_it_is(host: str) -> None:
    told = configs("--http", "--port", "9123", "--sandbox")[host]
    start = next(line for line in told.splitlines() if "--http" in line)
    assert shlex.split(start) == [COMMAND, "--sandbox", "--http", "--port", "9123"]
    assert "http://127.0.0.1:9123/mcp" in told.split(start)[1]


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


@pytest.mark.parametrize("flags", [("--host", "0.0.0.0"), ("--port", "0")], ids=str)
def test_a_server_that_would_not_start_or_be_found_is_one_line(flags: tuple[str, ...]) -> None:
    done = config("cursor", "--http", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr)
    assert "--allowed-host" in done.stderr or "--port" in done.stderr


@pytest.mark.parametrize("setting", ["SYNC_MCP_TOOLSETS", "SYNC_MCP_TOOLS"])
def test_a_server_with_a_set_or_a_tool_that_does_not_exist_is_one_line_that_names_it(setting: str) -> None:
    done = config("cursor", **{setting: "cora"})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"sync-mcp: {setting} names [^\n]+ 'cora'[^\n]+\n", done.stderr)


def test_a_server_on_another_address_is_called_by_a_name_that_it_answers_to() -> None:
    flags = ("--host", "192.0.2.1", "--allowed-host", "mcp.example.com")
    done = config("claude-desktop", "--http", *flags, SYNC_MCP_HTTP_TOKEN=TOKEN)
    arguments = entry("claude-desktop", done.stdout)["args"]
    assert "http://mcp.example.com:8000/mcp" in arguments
    # The bridge speaks plain HTTP beyond this machine only when it is told to.
    assert "--allow-http" in arguments
    assert f"--http {' '.join(flags)}\n" in done.stdout


def test_the_log_level_is_passed_on() -> None:
    assert entry("codex", config("codex", "--log-level", "debug").stdout)["args"] == ["--log-level", "debug"]


def test_what_vs_code_refers_to_it_asks_for_and_hides() -> None:
    for server in (Installation((COMMAND,)), Installation((COMMAND,), url=URL, has_token=True)):
        table = json.loads(block(configuration("vs-code", server)))
        referred = re.findall(r"\$\{input:(\w+)\}", json.dumps(table["servers"]))
        assert [asked["id"] for asked in table["inputs"]] == referred != []
        assert all(asked["password"] for asked in table["inputs"])


def test_the_bridge_of_claude_desktop_has_the_token_in_a_variable_and_no_space_in_a_word() -> None:
    # A space in an argument of npx does not survive on Windows.
    told = configuration("claude-desktop", Installation((COMMAND,), url=URL, has_token=True))
    server = entry("claude-desktop", told)
    assert not any(" " in word for word in server["args"])
    [name] = re.findall(r"^Authorization:\$\{(\w+)\}$", server["args"][-1])
    assert server["env"][name].startswith("Bearer ")


@pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a POSIX shell")
@pytest.mark.parametrize(
    ("host", "program", "handed"),
    [("claude-code", "claude", "${SYNC_API_KEY}"), ("inspector", "npx", f"{KEY} $x")],
)
def test_a_pasted_line_hands_over_the_key_and_the_command_word_for_word(
    tmp_path: Path, host: str, program: str, handed: str
) -> None:
    stub = tmp_path / program
    stub.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'import sys; print(sys.argv[1:])' \"$@\"\n")
    stub.chmod(0o755)
    server = Installation(("/home/jane's $HOME/sync mcp/bin/sync-mcp", "--log-level", "debug"))
    done = subprocess.run(
        ["/bin/sh", "-c", block(configuration(host, server))],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SYNC_API_KEY": f"{KEY} $x"},
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
        check=True,
    )
    words: list[str] = ast.literal_eval(done.stdout)
    assert words[-3:] == list(server.command)
    assert f"SYNC_API_KEY={handed}" in words


def test_claude_code_reads_the_key_and_the_token_from_its_environment() -> None:
    # Neither the shell's history nor the list of processes ever shows them.
    line = block(configuration("claude-code", Installation((COMMAND,))))
    assert shlex.split(line)[3:5] == ["--env", "SYNC_API_KEY=${SYNC_API_KEY}"]
    assert "'SYNC_API_KEY=${SYNC_API_KEY}'" in line
    line = block(configuration("claude-code", Installation((COMMAND,), url=URL, has_token=True)))
    assert "'Authorization: Bearer ${SYNC_MCP_HTTP_TOKEN}'" in line


def test_a_host_is_known_by_another_spelling_of_its_name_too() -> None:
    assert config("vscode").stdout == config("vs-code").stdout != ""
    assert ALIASES.keys().isdisjoint(HOSTS)


@pytest.mark.parametrize(
    ("host", "place", "told"),
    [
        ("gemini-cli", "env", "$SYNC_API_KEY"),
        ("opencode", "environment", "{env:SYNC_API_KEY}"),
        ("windsurf", "env", "${env:SYNC_API_KEY}"),
        ("zed", "env", "your key"),
    ],
)
def test_a_host_refers_to_the_key_in_its_own_way(host: str, place: str, told: str) -> None:
    assert entry(host, config(host).stdout)[place] == {"SYNC_API_KEY": told}
    assert place not in entry(host, config(host, "--sandbox").stdout)


@every_host
def test_what_stands_in_place_of_the_key_is_known_to_be_none(host: str) -> None:
    server = entry(host, config(host).stdout)
    values = server.get("env", server.get("environment", {})).values()
    # A host that does not put its variable in hands this on as it stands.
    assert all(map(is_placeholder, values))


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("gemini-cli", {"httpUrl": URL, "headers": {"Authorization": "Bearer $SYNC_MCP_HTTP_TOKEN"}}),
        (
            "opencode",
            {"type": "remote", "url": URL, "headers": {"Authorization": "Bearer {env:SYNC_MCP_HTTP_TOKEN}"}},
        ),
        ("windsurf", {"serverUrl": URL, "headers": {"Authorization": "Bearer ${env:SYNC_MCP_HTTP_TOKEN}"}}),
        ("zed", {"url": URL, "headers": {"Authorization": "Bearer your token"}}),
    ],
)
def test_a_host_is_told_of_a_url_in_its_own_way(host: str, server: dict[str, object]) -> None:
    assert entry(host, config(host, "--http", SYNC_MCP_HTTP_TOKEN=TOKEN).stdout) == server


def tools_over_http(start: str, url: str, headers: Mapping[str, str], **environment: str) -> list[str]:
    """Start a server by this line, and list its tools by this URL and these headers."""

    async def listed() -> list[str]:
        with anyio.fail_after(WAIT_SECONDS):
            async with (
                httpx2.AsyncClient(headers=headers, trust_env=False) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                return [tool.name for tool in (await client.list_tools()).tools]

    with started(shlex.split(start), environment, read_stdout=False) as process:
        process.stderr.until(lambda line: url.encode() in line)
        return anyio.run(listed)


@pytest.mark.parametrize("host", ["cursor", "vs-code", "codex"])
def test_the_printed_url_and_token_reach_the_server_that_the_printed_line_starts(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    told = config(host, "--http", "--port", port, "--sandbox", SYNC_MCP_HTTP_TOKEN=TOKEN).stdout
    start = next(line for line in told.splitlines() if "--http" in line)
    server = entry(host, told)
    given = server.get("headers", {}).get("Authorization") or f"Bearer ${{{server['bearer_token_env_var']}}}"
    header = re.sub(r"\$\{(env:|input:)?SYNC_MCP_HTTP_TOKEN\}", TOKEN, given)

    listed = tools_over_http(start, server["url"], {"Authorization": header}, SYNC_MCP_HTTP_TOKEN=TOKEN)
    assert listed == BY_DEFAULT


@every_host
def test_the_token_that_the_server_made_is_printed_in_the_header_and_asked_for_nowhere(
    host: str, tmp_path: Path
) -> None:
    told = config(host, "--http", SYNC_MCP_HOME=str(tmp_path)).stdout
    token = (tmp_path / "http-token").read_text(encoding="ascii").strip()
    assert f"Bearer {token}" in told
    assert "Authorization" in told
    assert "SYNC_MCP_HTTP_TOKEN" not in told
    assert "your token" not in told
    assert config(host, "--http", SYNC_MCP_HOME=str(tmp_path)).stdout == told


@pytest.mark.parametrize("host", ["cursor", "vs-code", "codex"])
def test_the_printed_header_opens_the_server_that_the_printed_line_starts(host: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    told = config(host, "--http", "--port", port, SYNC_MCP_HOME=str(tmp_path)).stdout
    start = next(line for line in told.splitlines() if "--http" in line)
    server = entry(host, told)
    headers = server.get("headers") or server["http_headers"]

    listed = tools_over_http(start, server["url"], headers, SYNC_MCP_HOME=str(tmp_path), SYNC_API_KEY=KEY)
    assert listed == BY_DEFAULT


def test_a_server_with_a_file_of_tokens_is_started_with_it_and_called_with_one_of_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "tokens").write_text(f"ben {TOKEN}\n", encoding="utf-8")
    done = config("cursor", "--http", SYNC_MCP_HTTP_TOKENS_FILE=str(tmp_path / "tokens"))
    start, _, rest = done.stdout.split("\n\n", 2)
    assert "SYNC_API_KEY and SYNC_MCP_HTTP_TOKENS_FILE set" in start
    assert "${env:SYNC_MCP_HTTP_TOKEN}" in rest
    assert TOKEN not in done.stdout + done.stderr


def test_letters_that_the_console_lacks_are_written_all_the_same() -> None:
    command = "/home/jürgen/模型/sync-mcp"
    program = (
        "from sync_mcp.cli import config, main as cli; "
        f"config.this_command = lambda: ({command!r},); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "config", "cursor"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    assert entry("cursor", done.stdout.decode())["command"] == command


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
