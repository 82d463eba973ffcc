"""What a user pastes into a host to make it start, or reach, this server."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "SYNC_API_KEY"
TOKEN = "SYNC_MCP_HTTP_TOKEN"  # noqa: S105 - the name of a variable
INSPECTOR = "npx -y @modelcontextprotocol/inspector@2.12.0"
_BRIDGE = ["-y", "mcp-remote@0.15.1"]


@dataclass(frozen=True, slots=True)
class Installation:
    """How this server is started or reached: by `command`, or at `url` where it already serves HTTP."""

    command: tuple[str, ...]
    sandbox: bool = False
    url: str | None = None
    """Where it serves HTTP; None for a server that the host starts itself."""
    has_token: bool = False
    http_flags: tuple[str, ...] = ()
    """The flags by which it serves HTTP as set."""

    @property
    def name(self) -> str:
        return "sync-sandbox" if self.sandbox else "sync"

    @property
    def arguments(self) -> list[str]:
        return [*self.command[1:], *(["--sandbox"] if self.sandbox else [])]

    @property
    def needs_key(self) -> bool:
        # A server that already runs has its key already.
        return not self.sandbox and self.url is None


def this_command() -> tuple[str, ...]:
    """Return the command that starts this very installation, by absolute paths."""
    script = shutil.which("sync-mcp", path=str(Path(sys.executable).parent))
    return (script,) if script else (sys.executable, "-m", "sync_mcp")


def http_origin(host: str, port: int) -> str:
    """Return the URL of a server on this machine; where it listens on every address, by its loopback one."""
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def configuration(host: str, server: Installation) -> str:
    """Return what to paste or run for `host`, one of `HOSTS`, and where."""
    told = HOSTS[host](server)
    if server.url is None:
        return told
    start = shlex.join([server.command[0], *server.arguments, "--http", *server.http_flags])
    return f"First start the server, and keep it running:\n\n{start}\n\n{told}"


def _claude_desktop(server: Installation) -> str:
    if server.url is None:
        entry = _stdio(server, {KEY: "your key"})
    else:
        # Its configuration file knows no URLs; a bridge makes one of a command.
        header = ["--header", f"Authorization:Bearer ${{{TOKEN}}}"] if server.has_token else []
        entry: dict[str, Any] = {"command": "npx", "args": [*_BRIDGE, server.url, *header]}
        if server.has_token:
            entry["env"] = {TOKEN: "your token"}
    return (
        "Put this into claude_desktop_config.json (Settings, Developer, Edit Config) and restart Claude "
        "Desktop.\n"
        "macOS: ~/Library/Application Support/Claude/claude_desktop_config.json\n"
        "Windows: %APPDATA%\\Claude\\claude_desktop_config.json\n\n"
        f"{_json({'mcpServers': {server.name: entry}})}"
    )


def _claude_code(server: Installation) -> str:
    if server.url is None:
        key = f'--env {KEY}="${KEY}" ' if server.needs_key else ""
        command = shlex.join([server.command[0], *server.arguments])
        line = f"claude mcp add {key}--transport stdio {server.name} -- {command}"
    else:
        header = f' --header "Authorization: Bearer ${TOKEN}"' if server.has_token else ""
        line = f"claude mcp add --transport http {server.name} {server.url}{header}"
    return f"Run this in the folder of your project:\n\n{line}"


def _cursor(server: Installation) -> str:
    if server.url is None:
        entry = _stdio(server, {KEY: f"${{env:{KEY}}}"})
    else:
        entry = _http(server, f"${{env:{TOKEN}}}")
    return (
        "Put this into ~/.cursor/mcp.json, or into .cursor/mcp.json of a project.\n\n"
        f"{_json({'mcpServers': {server.name: entry}})}"
    )


def _vs_code(server: Installation) -> str:
    if server.url is None:
        entry = {"type": "stdio", **_stdio(server, {KEY: "${input:sync_api_key}"})}
    else:
        entry = {"type": "http", **_http(server, "${input:sync_http_token}")}
    inputs = [
        {"type": "promptString", "id": name, "description": variable, "password": True}
        for name, variable, asked in (
            ("sync_api_key", KEY, server.needs_key),
            ("sync_http_token", TOKEN, server.has_token and server.url is not None),
        )
        if asked
    ]
    whole = {**({"inputs": inputs} if inputs else {}), "servers": {server.name: entry}}
    return f"Put this into .vscode/mcp.json of a project.\n\n{_json(whole)}"


def _codex(server: Installation) -> str:
    lines = [f"[mcp_servers.{server.name}]"]
    if server.url is None:
        lines += [f"command = {_toml(server.command[0])}", f"args = {_toml(server.arguments)}"]
        lines += [f"env_vars = {_toml([KEY])}"] if server.needs_key else []
    else:
        lines += [f"url = {_toml(server.url)}"]
        lines += [f"bearer_token_env_var = {_toml(TOKEN)}"] if server.has_token else []
    return "Add this to ~/.codex/config.toml.\n\n" + "\n".join(lines)


def _inspector(server: Installation) -> str:
    if server.url is None:
        key = f' -e {KEY}="${KEY}"' if server.needs_key else ""
        line = f"{INSPECTOR}{key} {shlex.join([server.command[0], *server.arguments])}"
    else:
        header = f' --header "Authorization: Bearer ${TOKEN}"' if server.has_token else ""
        line = f"{INSPECTOR} --server-url {server.url} --transport http{header}"
    return f"Run this; it needs Node 22.19 or newer:\n\n{line}"


HOSTS: Mapping[str, Callable[[Installation], str]] = {
    "claude-desktop": _claude_desktop,
    "claude-code": _claude_code,
    "cursor": _cursor,
    "vs-code": _vs_code,
    "codex": _codex,
    "inspector": _inspector,
}


def _stdio(server: Installation, key: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"command": server.command[0], "args": server.arguments}
    return {**entry, "env": dict(key)} if server.needs_key else entry


def _http(server: Installation, token: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"url": server.url}
    return {**entry, "headers": {"Authorization": f"Bearer {token}"}} if server.has_token else entry


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _toml(value: object) -> str:
    # TOML's basic strings and arrays of them are JSON's.
    return json.dumps(value, ensure_ascii=False)
