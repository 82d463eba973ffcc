"""What `--help` says of each command: whole words at any width, and examples that can be typed."""

import re
import shlex

import pytest

from sync_mcp.cli.parser import create_parser

COMMANDS = (
    "",
    "config",
    "doctor",
    "demo",
    "sandbox",
    "campaign",
    *(f"campaign {name}" for name in ("plan", "run", "approve", "list", "show", "stop", "retry", "report")),
    "ledger",
    *(
        f"ledger {name}"
        for name in ("list", "show", "resolve", "release", "check", "prune", "migrate", "copy")
    ),
)
every_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.cli.parser.command_here", lambda: "sync-mcp")


def helped(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        create_parser().parse_args([*command.split(), "--help"])
    return capsys.readouterr().out


def test_these_are_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        f"{command} {name}".strip()
        for command in COMMANDS
        for name in re.findall(r"^    ([a-z]+) ", helped(command, capsys).partition("commands:")[2], re.M)
    }
    assert told == {*COMMANDS} - {""}


@every_command
def test_the_help_ends_in_examples_of_the_command_that_can_be_typed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(
        r"^  (sync-mcp.*)$", helped(command, capsys).partition("\nexample")[2], re.MULTILINE
    )
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[1 : 1 + len(command.split())] == command.split()
        assert create_parser().parse_args(words[1:]).module


@every_command
def test_the_help_breaks_no_word_at_any_width(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[list[str]] = []
    for columns in ("40", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        shown.append(helped(command, capsys).split())
    assert shown[0] == shown[1] == shown[2]
