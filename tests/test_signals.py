"""The suite itself, started as a script starts what it puts into the background."""

import os
import signal
import subprocess
import sys

import pytest

from tests.signals import hear_sigint

WAIT_SECONDS = 120
TELLS_WHETHER_IT_HEARS = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
def test_what_tests_start_hears_sigint_though_they_were_started_with_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hear_sigint()
        told = subprocess.check_output(
            [sys.executable, "-c", TELLS_WHETHER_IT_HEARS], encoding="utf-8", timeout=WAIT_SECONDS
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == "True\n"
