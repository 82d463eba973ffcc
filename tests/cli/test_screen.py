"""What a person sees on a terminal, and what a pipe gets."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from sync_mcp import Ledger
from sync_mcp.cli.main import main
from sync_mcp.cli.telling import Plain
from tests.payments.entries import begun, ended, made

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="this system has no terminal of its own for a test"
)

JOB = "6533643b-aceb-4c40-967e-d9ba9baac39e"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OnTerminal = Callable[..., str]
Show = Callable[..., str]
Piped = Callable[..., str]


def run_main() -> int:
    """Run the command in this process, and return its exit code."""
    try:
        main()
    except SystemExit as end:
        return cast(int, end.code)
    return 0


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> OnTerminal:
    """What is shown on a terminal of so many columns, at which nobody types."""

    def run(act: Callable[[], object], columns: int = 80, **environment: str) -> str:
        shown = bytearray()
        ours, theirs = os.openpty()

        def read() -> None:
            # Linux tells by an error that the other end was closed.
            with suppress(OSError):
                while some := os.read(ours, 4096):
                    shown.extend(some)

        reader = Thread(target=read)
        reader.start()
        with os.fdopen(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
            for name in ("NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name, raising=False)
            known = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
            for name, value in (known | environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", terminal)
            act()
        reader.join(30)
        os.close(ours)
        return shown.decode().replace("\r\n", "\n").replace("\r", "\n")

    return run


@pytest.fixture
def show(on_terminal: OnTerminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """The command on a terminal."""
    ends_by = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str, columns: int = 80, **environment: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sync-mcp", *arguments])
        return on_terminal(run_main, columns, **environment)

    yield command
    signal.signal(signal.SIGTERM, ends_by)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Piped]:
    """The command where there is no terminal, which ends with this exit code."""
    ends_by = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str, code: int = 0, **environment: str) -> str:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.delenv("COLUMNS", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["sync-mcp", *arguments])
            assert run_main() == code
        return capfd.readouterr().out

    yield command
    signal.signal(signal.SIGTERM, ends_by)


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with closing(Ledger(home)) as ledger:
        made(ledger, "one", job=JOB)
        ended(ledger, "two", charged="yes", job="0b5fda45-aceb-4c40-967e-d9ba9baac39e")
        ledger.doubt(begun(ledger, "three"), "me", "0b5fda45-0000-4c40-967e-d9ba9baac39e")
        yield ledger


def words_of(text: str) -> set[str]:
    # A port and a time are another one each time.
    return set(re.sub(r"\d+", "0", text).split())


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("arguments", ["ledger list", "ledger show 3", "ledger check", "doctor --sandbox"])
def test_no_word_is_broken_at_the_margin_of_a_terminal(
    show: Show, piped: Piped, ledger: Ledger, arguments: str, columns: int
) -> None:
    shown = ESCAPE.sub("", show(*arguments.split(), columns=columns))
    # One entry is in doubt, which is not all well.
    told = piped(*arguments.split(), code=int(arguments == "ledger check"))
    assert words_of(told) <= words_of(shown)
    assert all(len(line.rstrip()) <= columns or len(line.split()) == 1 for line in shown.split("\n"))


def test_a_listing_is_a_table_where_it_fits_and_stands_in_fewer_columns_where_it_does_not(
    show: Show, ledger: Ledger
) -> None:
    lines = {
        columns: ESCAPE.sub("", show("ledger", "list", columns=columns)).split("\n")
        for columns in (40, 80, 200)
    }
    assert lines[200][0].split() == [
        "ID",
        "WRITTEN",
        "(UTC)",
        "STATE",
        "MODEL",
        "USD",
        "ACCOUNT",
        "GENERATION",
    ]
    assert lines[200][1].startswith("3 ")
    assert lines[80][1].split() == ["ID", "STATE", "MODEL", "ACCOUNT"]
    assert [line.rstrip() for line in lines[40][:2]] == ["ID", "WRITTEN (UTC)"]
    assert JOB in [line.strip() for line in lines[40]]


@pytest.mark.parametrize("arguments", ["ledger list", "ledger show 3", "ledger check", "config zed"])
def test_there_is_colour_on_a_terminal_unless_the_user_wants_none(
    show: Show, ledger: Ledger, arguments: str
) -> None:
    assert ESCAPE.search(show(*arguments.split()))
    assert not ESCAPE.search(show(*arguments.split(), NO_COLOR="1"))


@pytest.mark.parametrize("arguments", ["ledger list", "ledger show 3", "doctor --sandbox", "config zed"])
def test_a_pipe_gets_plain_whole_lines_whatever_is_said_of_the_terminal(
    piped: Piped, ledger: Ledger, arguments: str
) -> None:
    told = piped(*arguments.split(), FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="60")
    assert all(line.isprintable() for line in told.splitlines())
    assert max(map(len, told.splitlines())) > 60


def test_what_others_have_written_is_shown_as_it_is_and_makes_no_colour(show: Show, ledger: Ledger) -> None:
    id = begun(ledger, "[red]four[/] \x1b[31m")
    shown = show("ledger", "show", str(id), columns=200)
    assert "[red]four[/]" in shown
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize("columns", [40, 80])
def test_the_demo_breaks_no_word_and_shows_a_bar_while_it_waits(
    on_terminal: OnTerminal, columns: int
) -> None:
    place = Path("/a/folder/whose/name/is/longer/than/forty/columns/lipsync.mp4")

    def play() -> None:
        telling = Plain()
        with telling.show_call("get_generation", {}):
            telling.show_progress(1, "PROCESSING, 1 s waited")
        telling.show_question(
            ":smile: [red]What does a sentence cost that is longer than the terminal is wide?[/]"
        )
        telling.conclude(place, str(place))

    shown = on_terminal(play, columns)
    plain = ESCAPE.sub("", shown)
    assert "\x1b[36m│" in shown
    assert plain.count(str(place)) == 2
    assert ":smile: [red]What" in plain
    assert "\u2501" in plain
    assert all(len(line) <= columns or len(line.split()) == 1 for line in plain.split("\n"))


# --json


def test_the_ledger_as_json_has_each_entry_with_money_and_times_in_one_spelling(
    piped: Piped, show: Show, ledger: Ledger
) -> None:
    told = json.loads(piped("ledger", "list", "--json"))
    assert (told["exists"], told["has_more"]) == (True, False)
    assert told["ledger"] == str(ledger.file.path)
    unresolved, open_one, done = told["entries"]
    assert [entry["id"] for entry in told["entries"]] == [3, 1, 2]
    assert (unresolved["state"], unresolved["is_unresolved"]) == ("unknown", True)
    assert unresolved["named_generation_id"] == "0b5fda45-0000-4c40-967e-d9ba9baac39e"
    assert (open_one["state"], open_one["generation_id"]) == ("accepted", JOB)
    assert (open_one["is_open"], done["is_open"]) == (True, False)
    assert (done["estimate_usd"], done["cost_usd"], done["charged"]) == ("1", None, "yes")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["created_at"]) for one in told["entries"])
    assert (done["settled_at"] is None, open_one["settled_at"]) == (False, None)
    [account] = told["accounts"]
    assert account["spent_ever_usd"] == "3"
    assert (account["unresolved_usd"], account["unresolved_attempts"]) == ("1", 1)
    # A terminal gets the same letter for letter.
    assert json.loads(show("ledger", "list", "--json")) == told
    assert json.loads(piped("ledger", "list", "--json", "--limit", "2"))["has_more"]
    assert json.loads(piped("ledger", "show", "1", "--json")) == {"entry": open_one}


def test_where_there_is_no_ledger_its_json_says_so_and_none_is_made(piped: Piped, home: Path) -> None:
    told = json.loads(piped("ledger", "list", "--json"))
    assert (told["exists"], told["entries"], told["accounts"]) == (False, [], [])
    assert not home.exists()


def test_the_report_as_json_tells_each_fault_with_its_code_and_ends_as_the_report_does(
    piped: Piped, ledger: Ledger
) -> None:
    told = json.loads(piped("doctor", "--json", "--sandbox"))
    found = {finding["name"]: finding for finding in told["findings"]}
    assert told["fault_count"] == 0
    assert found["api"]["facts"]["is_sandbox"] is True
    assert isinstance(found["clock"]["facts"]["offset_seconds"], int)
    wrong = json.loads(piped("doctor", "--json", "--root", "here", code=1))
    [fault] = [finding for finding in wrong["findings"] if finding["remedy"]]
    assert (wrong["fault_count"], fault["code"]) == (1, "configuration_error")
    assert "--root must be" in fault["remedy"]


def test_the_report_as_json_tells_no_secret_and_amounts_as_decimals(piped: Piped, ledger: Ledger) -> None:
    secret = "sk_live-1234567890abcdef"
    told = piped("doctor", "--json", "--sandbox", SYNC_API_KEY=secret, SYNC_MCP_BUDGET_USD="1e2")
    assert secret[8:] not in told
    settings = {
        finding["facts"]["variable"]: finding["facts"]
        for finding in json.loads(told)["findings"]
        if finding["name"] == "setting"
    }
    assert settings["SYNC_API_KEY"] == {
        "variable": "SYNC_API_KEY",
        "value": None,
        "is_set": True,
        "source": "environment",
    }
    assert settings["SYNC_MCP_BUDGET_USD"]["value"] == "100"
