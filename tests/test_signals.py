"""The suite itself, started as a script starts what it puts into the background."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAIT_SECONDS = 120
TEST = "tests/cli/test_ledger.py::test_on_a_terminal_the_user_is_asked"


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
def test_what_tests_start_hears_sigint_though_they_were_started_with_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        suite = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "130", TEST],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        told, _ = suite.communicate(timeout=WAIT_SECONDS)
    finally:
        suite.kill()
    assert suite.returncode == 0, told
    assert "1 passed" in told
