"""Commands whose standard streams are closed, full, or read by nobody."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.server.host import COMMAND
from tests.serving.stdio.process import WAIT_SECONDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the shell of this system closes no streams")


def run(arguments: str, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command by a shell, with nothing to read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
    return subprocess.run(
        ["/bin/bash", "-c", f'set -o pipefail; "$0" {arguments} {redirection}', COMMAND],
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("flags", ["", "--sandbox"])
def test_a_server_without_standard_streams_ends_as_if_nothing_came(closed: str, flags: str) -> None:
    done = run(flags, closed)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox", "--version"])
def test_output_that_nobody_wants_is_not_missed(arguments: str) -> None:
    done = run(arguments, ">&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox", "ledger list"])
def test_a_reader_that_goes_away_is_told_by_the_exit_code_alone(arguments: str, tmp_path: Path) -> None:
    # It reads nothing and has gone before the command has anything to say.
    done = run(f"{arguments}", "> >(exec true)", SYNC_MCP_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_that_cannot_be_written_is_one_line(arguments: str) -> None:
    done = run(arguments, "> /dev/full")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"sync-mcp: The output cannot be written: [^\n]+\n", done.stderr), done.stderr


def test_a_complaint_that_nobody_can_read_is_not_said_elsewhere() -> None:
    done = run("--nope", "2>&-")
    assert (done.returncode, done.stdout) == (2, "")
