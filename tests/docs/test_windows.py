"""docs/windows.md has every command of the README in PowerShell, and all that asks for the system."""

import re
import shlex
from pathlib import Path

from tests.docs.pages import ROOT
from tests.docs.test_readme import shell_commands
from tests.package.facts import Facts

GUIDE = (ROOT / "docs" / "windows.md").read_text(encoding="utf-8")
_ASKS = re.compile(r"\bos\.name\b|\bsys\.platform\b|^\s*import (?:fcntl|resource)\b", re.MULTILINE)


def _in_powershell(command: str) -> str:
    """How PowerShell is told what `command` tells a POSIX shell."""
    comment = re.search(r"\s+# .*$", command)
    told, remark = (command[: comment.start()], comment[0]) if comment else (command, "")
    words = shlex.split(told)
    if words[0] == "export":
        return "; ".join("$env:{} = '{}'".format(*word.split("=", 1)) for word in words[1:])
    if words[0] == "curl":
        return f"Invoke-RestMethod {_request(words[1:])}{remark}"
    told = told.replace("/path/to/sync_mcp", r"C:\path\to\sync_mcp").replace(
        Facts.read().requirement, "SOURCE"
    )
    return (
        re.sub(
            r"\S*\.venv/bin/\S+", lambda path: path[0].replace("/bin/", "/Scripts/").replace("/", "\\"), told
        )
        + remark
    )


def _request(words: list[str]) -> str:
    """The arguments of curl as those of Invoke-RestMethod."""
    url, method, headers, kind, body = "", "", "", "", ""
    rest = iter(words)
    for word in rest:
        if word == "-H":
            name, value = next(rest).split(": ", 1)
            kind, headers = (
                (f" -ContentType {value}", headers)
                if name == "content-type"
                else (kind, f" -Headers @{{ '{name}' = '{value}' }}")
            )
        elif word == "-d":
            method, body = " -Method Post", f" -Body '{next(rest)}'"
        elif word == "-X":
            method = f" -Method {next(rest).title()}"
        elif word.strip() and word != "-s":
            url = word
    return f"{url}{method}{headers}{kind}{body}"


def test_each_command_of_the_readme_stands_in_its_powershell_form() -> None:
    # What stands on two pages stands here once.
    others = dict.fromkeys(command for command in shell_commands() if not command.startswith("make "))
    told = [
        block.strip() for block in re.findall(r"^```powershell\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    ]
    assert told == [_in_powershell(command) for command in others]


def test_each_target_of_make_that_the_readme_begins_with_has_its_powershell_form() -> None:
    for command in shell_commands():
        if command.startswith("make "):
            assert f"| `{' '.join(shlex.split(command, comments=True))}` | `" in GUIDE


def test_each_module_that_asks_for_the_system_is_listed() -> None:
    asking = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sync_mcp").rglob("*.py")
        if _ASKS.search(path.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"^\| `(sync_mcp/[\w/.]+)` \|", GUIDE, re.MULTILINE)) == asking | {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "sync_mcp").rglob("open_*.py")
    }
    assert all((ROOT / Path(name)).exists() for name in asking)
