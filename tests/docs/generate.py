"""Writes the generated parts of README.md and docs/; with --check it only says which are out of date.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from sync_mcp.api.estimate import PRICED_FPS
from sync_mcp.cli.hosts import HOSTS, Installation, configuration
from sync_mcp.requests.model_facts import KNOWN_MODELS
from sync_mcp.settings import Settings
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.toolsets import ALL, DEFAULT
from tests.docs.pages import PAGES, ROOT
from tests.hosts.pins import read_hosts
from tests.package.facts import PLACEHOLDER, Facts

ANSWERS = ROOT / "tests" / "snapshots"
STALE = "Out of date: run `make docs`."

CLONE_COMMAND = "/path/to/sync_mcp/.venv/bin/sync-mcp"
_WITH_KEY = Installation((CLONE_COMMAND,))
# For a developer who stands in a clone and has no key yet.
_TYPED = ".venv/bin/sync-mcp"
_SHOWN = {"inspector": Installation((_TYPED,), sandbox=True)}
_LANGUAGES = {"{": "json", "[": "toml"}
_PART = re.compile(r"(?P<start><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def generated(text: str) -> str:
    """Return `text` with every generated part as it should be."""

    def fill(part: re.Match[str]) -> str:
        return f"{part['start']}\n{PARTS[part['name']]()}\n\n{part['end']}"

    return _PART.sub(fill, text)


def _tool_table(toolset: str) -> str:
    rows = ["| Tool | What it does | Arguments (required ones in bold) |", "|---|---|---|"]
    for tool in (tool for tool in TOOLS if tool.toolset.name == toolset):
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


def _host(host: str) -> str:
    return _pasted(host, _SHOWN.get(host, _WITH_KEY))


def _pasted(host: str, server: Installation) -> str:
    where, block = configuration(host, server).split("\n\n", 1)
    # Each line of where to paste it stays a line of its own.
    lines = "  \n".join(where.splitlines())
    return f"{lines}\n\n```{_LANGUAGES.get(block[0], 'sh')}\n{block}\n```"


def _tried_hosts() -> str:
    hosts = read_hosts().values()
    rows = [
        "| Host | Tried with | Text | Structured content | Picture | Unknown argument |",
        "|---|---|---|---|---|---|",
    ]
    for host in hosts:
        seen = (host.text, host.structured, host.picture, host.error)
        rows.append(f"| {host.title} | `{host.package}` {host.version} | {' | '.join(seen)} |")
    return "\n".join([*rows, "", *(f"- {host.title}: {host.note}." for host in hosts if host.note)])


def _install() -> str:
    facts = Facts.read()
    started = f"uvx --from '{facts.requirement}' sync-mcp"
    lines = f"```sh\n{started} demo\nclaude mcp add sync-sandbox -- {started} --sandbox\n```"
    if facts.is_on_index:
        return lines
    wheel = f"dist/{facts.wheel}[media]"
    unknown = "Nothing is published yet, and the address above is a placeholder. "
    note = unknown if PLACEHOLDER in facts.repository else ""
    return (
        f"{lines}\n\n{note}In place of what stands in quotes, a clone (`/path/to/sync_mcp[media]`) or a "
        f"wheel of `make package` (`/path/to/{wheel}`) does as well."
    )


def _registry_name() -> str:
    return f"<!-- mcp-name: {Facts.read().registry_name} -->"


def _price_table() -> str:
    rows = ["| Model | A second | 10 seconds | 1 minute | 10 minutes |", "|---|---|---|---|---|"]
    for model, facts in KNOWN_MODELS.items():
        lowest, highest = facts.lowest_usd_per_second, facts.usd_per_frame * PRICED_FPS
        prices = (_from_to(lowest * seconds, highest * seconds) for seconds in (10, 60, 600))
        second = facts.usd_per_second(plan_is_known=False).replace("-", " to ")
        rows.append(f"| `{model}` | {second} | {' | '.join(prices)} |")
    return "\n".join(rows)


def _from_to(lowest: Decimal, highest: Decimal) -> str:
    return f"{lowest:.2f} to {highest:.2f}"


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
    **{f"host-{host}": partial(_host, host) for host in HOSTS},
    "tried-hosts": _tried_hosts,
    **{f"tools-{name}": partial(_tool_table, name) for name in TOOLS.sets if name not in (DEFAULT, ALL)},
    "settings": _settings_table,
    "prices": _price_table,
    "answer": _snapshot("answer_completed.txt"),
    "answer-estimate": _snapshot("answer_estimate.txt"),
    "error": _snapshot("answer_error_arguments.txt"),
}


def main() -> None:
    stale = [
        page
        for page in PAGES
        if generated(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")
    ]
    if "--check" in sys.argv[1:] and stale:
        sys.exit(f"{', '.join(page.name for page in stale)}: {STALE}")
    for page in stale:
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
