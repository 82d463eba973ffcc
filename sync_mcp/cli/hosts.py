"""What a user pastes into a host to make it start, or reach, this server."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

KEY = "SYNC_API_KEY"
TOKEN = "SYNC_MCP_HTTP_TOKEN"  # noqa: S105 - the name of a variable
TOKENS_FILE = "SYNC_MCP_HTTP_TOKENS_FILE"
INSPECTOR = "npx -y @modelcontextprotocol/inspector@2.12.0"
_BRIDGE = ["-y", "mcp-remote@0.15.1"]
_BRIDGED_IN_THE_CLEAR = ("localhost", "127.0.0.1")
_YOUR_KEY, _YOUR_TOKEN = "your key", "your token"
_IN_SHELL = " (on Windows: in Git Bash)"


@dataclass(frozen=True, slots=True)
class Installation:
    """How this server is started or reached: by `command`, or at `url` where it already serves HTTP."""

    command: tuple[str, ...]
    sandbox: bool = False
    url: str | None = None
    """Where it serves HTTP; None for a server that the host starts itself."""
    has_token: bool = False
    """Whether it wants a token over HTTP."""
    token: str | None = None
    """The token that the server made itself, to be printed; another is referred to by its variable."""
    has_token_file: bool = False
    http_flags: tuple[str, ...] = ()
    """The flags by which it serves HTTP as set."""

    @property
    def name(self) -> str:
        """What the host calls it."""
        return "sync-sandbox" if self.sandbox else "sync"

    @property
    def arguments(self) -> list[str]:
        """What follows the first word of its command."""
        return [*self.command[1:], *(["--sandbox"] if self.sandbox else [])]

    @property
    def needs_key(self) -> bool:
        """Whether the host has to hand it the key; a server that serves HTTP has its own."""
        return not self.sandbox and self.url is None

    @property
    def wants_token(self) -> bool:
        """Whether the host has to hand it a token by a variable."""
        return self.has_token and self.url is not None and self.token is None

    @property
    def starts_with(self) -> list[str]:
        """The variables that the server needs where it serves HTTP."""
        tokens = TOKENS_FILE if self.has_token_file else TOKEN
        return [*([] if self.sandbox else [KEY]), *([tokens] if self.wants_token else [])]


def http_origin(host: str, port: int) -> str:
    """Return the URL of a server; where it listens on every address, by its loopback one."""
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    if re.fullmatch(r"[^:]+:\d+|\[.*\]:\d+", name):
        return f"http://{name}"
    return f"http://[{name.strip('[]')}]:{port}" if ":" in name else f"http://{name}:{port}"


def configuration(host: str, server: Installation) -> str:
    """Return what to paste or run for `host`, one of `HOSTS` or `ALIASES`, and where."""
    told = HOSTS[ALIASES.get(host, host)](server)
    if server.url is None:
        return told
    start = shlex.join([server.command[0], *server.arguments, "--http", *server.http_flags])
    needed = _with(server.starts_with)
    return f"First start the server{needed}, and keep it running{_IN_SHELL}:\n\n{start}\n\n{told}"


def _claude_desktop(server: Installation) -> str:
    where = [
        "Add this to claude_desktop_config.json (Settings, Developer, Edit Config), then restart the app.",
        "macOS: ~/Library/Application Support/Claude/claude_desktop_config.json",
        "Windows: %APPDATA%\\Claude\\claude_desktop_config.json",
        *_to_put_in(server),
    ]
    entry = _stdio(server, _YOUR_KEY) if server.url is None else _bridge(server, server.url)
    return _paste(where, _json({"mcpServers": {server.name: entry}}))


def _claude_code(server: Installation) -> str:
    # Claude Code puts the variable in when it starts the server: the key stands in no command and no file.
    if server.url is None:
        key = f"--env '{KEY}=${{{KEY}}}' " if server.needs_key else ""
        command = shlex.join([server.command[0], *server.arguments])
        line = f"claude mcp add {key}--transport stdio {server.name} -- {command}"
    else:
        line = f"claude mcp add --transport http {server.name} {shlex.quote(server.url)}"
        if server.has_token:
            line += f" --header 'Authorization: Bearer {server.token or f'${{{TOKEN}}}'}'"
    where = [f"Run this in the folder of your project{_IN_SHELL}."]
    where += _start_line(server, "Claude Code")
    return _paste(where, line)


def _cursor(server: Installation) -> str:
    entry = _entry(server, f"${{env:{KEY}}}", f"${{env:{TOKEN}}}")
    where = ["Add this to ~/.cursor/mcp.json, or to .cursor/mcp.json of a project."]
    where += _start_line(server, "Cursor")
    return _paste(where, _json({"mcpServers": {server.name: entry}}))


def _gemini_cli(server: Installation) -> str:
    entry = _entry(server, f"${KEY}", f"${TOKEN}", place="httpUrl")
    where = [
        "Add this to ~/.gemini/settings.json, or to .gemini/settings.json of a project.",
        *_start_line(server, "Gemini CLI"),
        "It starts servers in folders alone that you have told it to trust.",
    ]
    return _paste(where, _json({"mcpServers": {server.name: entry}}))


def _opencode(server: Installation) -> str:
    entry: dict[str, Any]
    if server.url is None:
        entry = {"type": "local", "command": [server.command[0], *server.arguments]}
        entry |= {"environment": {KEY: f"{{env:{KEY}}}"}} if server.needs_key else {}
    else:
        entry = {"type": "remote", **_http(server, server.url, f"{{env:{TOKEN}}}")}
    where = ["Add this to ~/.config/opencode/opencode.json, or to opencode.json of a project."]
    where += _start_line(server, "opencode")
    return _paste(where, _json({"mcp": {server.name: entry}}))


def _windsurf(server: Installation) -> str:
    entry = _entry(server, f"${{env:{KEY}}}", f"${{env:{TOKEN}}}", place="serverUrl")
    where = ["Add this to ~/.codeium/windsurf/mcp_config.json."]
    where += _start_line(server, "Windsurf")
    return _paste(where, _json({"mcpServers": {server.name: entry}}))


def _zed(server: Installation) -> str:
    # Zed takes what stands there letter for letter: it puts no variables in.
    entry = _entry(server, _YOUR_KEY, _YOUR_TOKEN)
    where = ["Add this to what the command 'zed: open settings file' opens.", *_to_put_in(server)]
    return _paste(where, _json({"context_servers": {server.name: entry}}))


def _vs_code(server: Installation) -> str:
    if server.url is None:
        entry = {"type": "stdio", **_stdio(server, f"${{input:{KEY}}}")}
    else:
        entry = {"type": "http", **_http(server, server.url, f"${{input:{TOKEN}}}")}
    inputs = [
        {"type": "promptString", "id": name, "description": name, "password": True}
        for name in _variables(server)
    ]
    where = [
        "Add this to .vscode/mcp.json of a project, or to what the command "
        "'MCP: Open User Configuration' opens.",
        *(f"VS Code asks for {name} when it starts the server." for name in _variables(server)),
    ]
    whole = {**({"inputs": inputs} if inputs else {}), "servers": {server.name: entry}}
    return _paste(where, _json(whole))


def _codex(server: Installation) -> str:
    lines = [f"[mcp_servers.{server.name}]"]
    if server.url is None:
        lines += [f"command = {_toml(server.command[0])}", f"args = {_toml(server.arguments)}"]
        lines += [f"env_vars = {_toml([KEY])}"] if server.needs_key else []
    else:
        lines += [f"url = {_toml(server.url)}"]
        lines += [f"bearer_token_env_var = {_toml(TOKEN)}"] if server.wants_token else []
        if server.token:
            lines += [f"http_headers = {{ Authorization = {_toml(f'Bearer {server.token}')} }}"]
    where = ["Add this to ~/.codex/config.toml."]
    where += _start_line(server, "Codex")
    return _paste(where, "\n".join(lines))


def _inspector(server: Installation) -> str:
    if server.url is None:
        key = f' -e {KEY}="${KEY}"' if server.needs_key else ""
        line = f"{INSPECTOR}{key} {shlex.join([server.command[0], *server.arguments])}"
    else:
        line = f"{INSPECTOR} --server-url {shlex.quote(server.url)} --transport http{_header(server)}"
    return f"Run this{_with(_variables(server))}; it needs Node 22.19 or newer{_IN_SHELL}:\n\n{line}"


HOSTS: Mapping[str, Callable[[Installation], str]] = {
    "claude-desktop": _claude_desktop,
    "claude-code": _claude_code,
    "cursor": _cursor,
    "vs-code": _vs_code,
    "codex": _codex,
    "gemini-cli": _gemini_cli,
    "opencode": _opencode,
    "windsurf": _windsurf,
    "zed": _zed,
    "inspector": _inspector,
}


ALIASES: Mapping[str, str] = {"vscode": "vs-code"}
"""Other spellings of their names."""


def _paste(where: list[str], block: str) -> str:
    return "\n".join(where) + f"\n\n{block}"


def _variables(server: Installation) -> list[str]:
    """Return the variables that the host's own entry refers to."""
    return [*([KEY] if server.needs_key else []), *([TOKEN] if server.wants_token else [])]


def _with(variables: list[str]) -> str:
    return f" with {' and '.join(variables)} set" if variables else ""


def _start_line(server: Installation, host: str) -> list[str]:
    """Return the line for a host that puts variables in when it starts the server."""
    return [f"Start {host}{_with([name])}." for name in _variables(server)]


def _to_put_in(server: Installation) -> list[str]:
    """Return the line for a host that puts no variables in: the user does."""
    key = [f'Put the key ({KEY}) in place of "{_YOUR_KEY}".'] if server.needs_key else []
    token = [f'Put the token ({TOKEN}) in place of "{_YOUR_TOKEN}".'] if server.wants_token else []
    return key + token


def _entry(server: Installation, key: str, token: str, *, place: str = "url") -> dict[str, Any]:
    """Return how a host starts or reaches the server; `key` and `token` stand for those, as it spells it."""
    return _stdio(server, key) if server.url is None else _http(server, server.url, token, place=place)


def _stdio(server: Installation, key: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"command": server.command[0], "args": server.arguments}
    return {**entry, "env": {KEY: key}} if server.needs_key else entry


def _http(server: Installation, url: str, token: str, *, place: str = "url") -> dict[str, Any]:
    entry: dict[str, Any] = {place: url}
    bearer = f"Bearer {server.token or token}"
    return {**entry, "headers": {"Authorization": bearer}} if server.has_token else entry


def _bridge(server: Installation, url: str) -> dict[str, Any]:
    """Return a command that speaks to `url`, for a host whose configuration knows no URLs."""
    plain = [] if urlsplit(url).hostname in _BRIDGED_IN_THE_CLEAR else ["--allow-http"]
    # On Windows a space in an argument would tear it apart, so the whole value is a variable.
    header = ["--header", "Authorization:${AUTHORIZATION}"] if server.has_token else []
    entry: dict[str, Any] = {"command": "npx", "args": [*_BRIDGE, url, *plain, *header]}
    bearer = f"Bearer {server.token or _YOUR_TOKEN}"
    return {**entry, "env": {"AUTHORIZATION": bearer}} if server.has_token else entry


def _header(server: Installation) -> str:
    token = server.token or f"${TOKEN}"
    return f' --header "Authorization: Bearer {token}"' if server.has_token else ""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _toml(value: object) -> str:
    # TOML's basic strings and arrays of them are JSON's.
    return json.dumps(value, ensure_ascii=False)
