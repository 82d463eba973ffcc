"""`sync-mcp campaign run` on a terminal: what is asked there, and what is seen while rows are made."""

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from sync_mcp.sandbox import Sandbox

from .conftest import COMMAND, SECONDS

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="this system has no terminal of its own for a test"
)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _run(environment: Mapping[str, str], folder: Path, *words: str, typed: str) -> tuple[int, str]:
    """Return how the command ended on a terminal of 60 columns, and what it showed there."""
    terminal, line = os.openpty()
    process = subprocess.Popen(
        [str(COMMAND), "campaign", "run", "course.csv", *words],
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "60"},
        cwd=folder,
        stdin=line,
        stdout=line,
        stderr=line,
        start_new_session=True,
    )
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


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_who_does_not_say_yes_pays_nothing(
    environment: Mapping[str, str], folder: Path, sandbox: Sandbox, answer: str
) -> None:
    code, shown = _run(environment, folder, typed=answer)
    assert code == 1, shown
    assert "Nothing was paid." in shown
    assert sandbox.charges == []


def test_a_bar_tells_how_many_are_made_and_for_how_much_and_each_row_as_it_is_saved(
    environment: Mapping[str, str], folder: Path, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=1.0)
    code, shown = _run(environment, folder, typed="y\n")
    assert code == 0, shown
    bars = re.findall(r"course\.csv, ([\d.]+) USD by now \S+ (\d)/4", shown)
    assert bars[0] == ("0.00", "0")
    # One line of a row that is being made, and one of each that is saved.
    assert re.search(r"^  one\.mp4, dubbed into es ", shown, re.MULTILINE)
    for name in ("one.es.mp4", "one.fr.mp4", "two.es.mp4", "two.fr.mp4"):
        assert f"saved as {name}" in shown
    assert "is ended: 4 saved." in " ".join(shown.split())
