"""`sync-mcp campaign run` on a terminal: what is asked there, and what is seen while rows are made."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.forked import start_forked

from .conftest import COMMAND, SECONDS

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="this system has no terminal of its own for a test"
)
RUN = [str(COMMAND), "campaign", "run", "course.csv"]
Start = Callable[[Mapping[str, str], int], "subprocess.Popen[bytes]"]
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _start(environment: Mapping[str, str], line: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        RUN, env=environment, stdin=line, stdout=line, stderr=line, start_new_session=True
    )


def _start_forked(environment: Mapping[str, str], line: int) -> "subprocess.Popen[bytes]":
    return start_forked(RUN, environment, stdin=line, stdout=line, stderr=line)


def _run(start: Start, environment: Mapping[str, str], typed: str) -> tuple[int, str]:
    """Return how the command ended on a terminal of 60 columns, and what it showed there."""
    terminal, line = os.openpty()
    process = start({**environment, "TERM": "xterm-256color", "COLUMNS": "60"}, line)
    os.close(line)
    shown = bytearray()

    def read() -> None:
        # Linux tells by an error that the other end was closed.
        with suppress(OSError):
            while some := os.read(terminal, 4096):
                shown.extend(some)

    reader = Thread(target=read)
    reader.start()
    os.write(terminal, typed.encode())
    code = process.wait(SECONDS)
    reader.join(SECONDS)
    os.close(terminal)
    return code, _ESCAPE.sub("", shown.decode())


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_who_does_not_say_yes_pays_nothing(
    environment: Mapping[str, str], sandbox: Sandbox, answer: str
) -> None:
    code, shown = _run(_start_forked, environment, typed=answer)
    assert code == 1, shown
    assert "Nothing was paid." in shown
    assert sandbox.charges == []


def test_a_bar_tells_how_many_are_made_and_for_how_much_and_each_row_as_it_is_saved(
    environment: Mapping[str, str], sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=1.0)
    code, shown = _run(_start, environment, typed="y\n")
    assert code == 0, shown
    bars = re.findall(r"course\.csv, ([\d.]+) USD by now \S+ (\d)/4", shown)
    assert bars[0] == ("0.00", "0")
    # One line of a row that is being made, and one of each that is saved.
    assert re.search(r"^  one\.mp4, dubbed into es ", shown, re.MULTILINE)
    for name in ("one.es.mp4", "one.fr.mp4", "two.es.mp4", "two.fr.mp4"):
        assert f"saved as {name}" in shown
    assert "is ended: 4 saved." in " ".join(shown.split())
