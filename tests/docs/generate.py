"""Writes the generated parts of README.md; with --check it only says whether they are up to date.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sync_mcp.cli.hosts import HOSTS, Installation, configuration
from sync_mcp.settings import Settings
from sync_mcp.tools.catalogue import TOOLS
from tests.package.facts import Facts

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ANSWERS = ROOT / "tests" / "snapshots"
STALE = "README.md is out of date: run `make docs`."

CLONE_COMMAND = "/path/to/sync_mcp/.venv/bin/sync-mcp"
_WITH_KEY = Installation((CLONE_COMMAND,))
# For a developer who stands in a clone and has no key yet.
_TYPED = ".venv/bin/sync-mcp"
_SHOWN = {"inspector": Installation((_TYPED,), sandbox=True)}
_LANGUAGES = {"{": "json", "[": "toml"}
_NAMES = {
    "claude-desktop": "Claude Desktop",
    "claude-code": "Claude Code",
    "cursor": "Cursor",
    "vs-code": "VS Code",
    "codex": "Codex",
    "gemini-cli": "Gemini CLI",
    "opencode": "opencode",
    "windsurf": "Windsurf",
    "zed": "Zed",
    "inspector": "MCP Inspector",
}

_PART = re.compile(r"(?P<start><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def generated(text: str) -> str:
    """Return `text` with every generated part as it should be."""

    def fill(part: re.Match[str]) -> str:
        return f"{part['start']}\n{PARTS[part['name']]()}\n\n{part['end']}"

    return _PART.sub(fill, text)


def _tool_table() -> str:
    rows = ["| Tool | What it does | Arguments (required ones in bold) |", "|---|---|---|"]
    for tool in TOOLS:
        required = tool.input_schema.get("required", [])
        names = [
            f"**`{name}`**" if name in required else f"`{name}`" for name in tool.input_schema["properties"]
        ]
        names.sort(key=lambda name: not name.startswith("**"))
        rows.append(f"| `{tool.name}` | {_first_sentence(tool.description)} | {', '.join(names)} |")
    return "\n".join(rows)


def _settings_table() -> str:
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, variable in Settings.VARIABLES.items():
        field = Settings.model_fields[name]
        rows.append(f"| `{variable}` | {_default(field.default)} | {field.description} |")
    return "\n".join(rows)


def _claude_desktop() -> str:
    return _pasted("claude-desktop", Installation((CLONE_COMMAND,), sandbox=True))


def _every_host() -> str:
    return "\n\n".join(
        f"### {_NAMES[host]}\n\n{_pasted(host, _SHOWN.get(host, _WITH_KEY))}" for host in HOSTS
    )


def _pasted(host: str, server: Installation) -> str:
    where, block = configuration(host, server).split("\n\n", 1)
    # Each line of where to paste it stays a line of its own.
    lines = "  \n".join(where.splitlines())
    return f"{lines}\n\n```{_LANGUAGES.get(block[0], 'sh')}\n{block}\n```"


def _install() -> str:
    facts = Facts.read()
    start = f"```sh\nuvx --from '{facts.requirement}' sync-mcp demo\n```"
    if facts.is_on_index:
        return start
    wheel = f"`uvx --from 'dist/{facts.wheel}[media]' sync-mcp demo`"
    return (
        f"{start}\n\nNothing is published yet, and the address above is a placeholder: put the true one in "
        f"its place, or start from a clone, where `make package` builds a wheel: {wheel}."
    )


def _registry_name() -> str:
    return f"<!-- mcp-name: {Facts.read().registry_name} -->"


def _command_help() -> str:
    commands = ((), ("config",), ("doctor",), ("demo",), ("sandbox",))
    return _fenced("\n\n".join(_help_of(*words) for words in commands))


def _help_of(*words: str) -> str:
    # As it is called in a clone, whatever is on the PATH here.
    script = (
        f"import sys; sys.argv = {[_TYPED, *words, '--help']}; from sync_mcp.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "PATH": ""}
    shown = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", timeout=30, check=True
    )
    lines = [line.rstrip() for line in shown.stdout.rstrip().splitlines() if line != "  "]
    return "\n".join([f"$ {' '.join((_TYPED, *words, '--help'))}", *lines])


def _snapshot(name: str) -> Callable[[], str]:
    return lambda: _fenced((ANSWERS / name).read_text(encoding="utf-8").rstrip())


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _default(value: object) -> str:
    if value is None:
        return "none"
    if value == ():
        return "none"
    return f"`{int(value)}`" if isinstance(value, bool) else f"`{value}`"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


PARTS: Mapping[str, Callable[[], str]] = {
    "install": _install,
    "registry-name": _registry_name,
    "claude-desktop": _claude_desktop,
    "hosts": _every_host,
    "tools": _tool_table,
    "settings": _settings_table,
    "help": _command_help,
    "answer": _snapshot("answer_completed.txt"),
    "error": _snapshot("answer_error_arguments.txt"),
}


def main() -> None:
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if wanted == text:
        return
    if "--check" in sys.argv[1:]:
        sys.exit(STALE)
    README.write_text(wanted, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
