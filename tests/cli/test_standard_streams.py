"""Commands whose standard streams are closed, full, or read by nobody."""

import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.server.host import COMMAND
from tests.serving.stdio.forked import CLOSED, ForkedProcess
from tests.serving.stdio.process import WAIT_SECONDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the shell of this system closes no streams")


def without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}


def run(
    arguments: str, redirection: str, descriptors: Collection[int] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command by a shell, with nothing to read; it has these descriptors too."""
    return subprocess.run(
        ["/bin/bash", "-c", f'set -o pipefail; "$0" {arguments} {redirection}', COMMAND],
        env=without_settings() | environment,
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


def run_on(
    arguments: str, *, stdin: int | None = None, stdout: int | None = None, **environment: str
) -> tuple[int, str, str]:
    """Run the command on these descriptors with nothing to read; return its exit code and what came of it."""
    if sys.platform != "linux":
        given = {sign: number for sign, number in (("<&", stdin), (">&", stdout)) if number is not None}
        redirections = (f"{sign}{'-' if number == CLOSED else number}" for sign, number in given.items())
        done = run(arguments, " ".join(redirections), {*given.values()} - {CLOSED}, **environment)
        return done.returncode, done.stdout, done.stderr
    words, env = [COMMAND, *arguments.split()], without_settings() | environment
    with ForkedProcess(words, env, stdin=stdin, stdout=stdout) as process:
        if process.stdin:
            process.stdin.close()
        # A few lines at most: none of them fills its pipe.
        said, complaints = (
            stream.read().decode() if stream else "" for stream in (process.stdout, process.stderr)
        )
        return process.wait(WAIT_SECONDS), said, complaints


@pytest.mark.parametrize("flags", ["", "--sandbox"])
def test_a_server_that_is_started_without_any_stream_ends_as_if_nothing_came(flags: str) -> None:
    done = run(flags, "<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("closed", [("stdin",), ("stdout",), ("stdin", "stdout")], ids=" ".join)
@pytest.mark.parametrize("flags", ["", "--sandbox"])
def test_a_server_without_standard_streams_ends_as_if_nothing_came(
    closed: tuple[str, ...], flags: str
) -> None:
    stdin, stdout = (CLOSED if stream in closed else None for stream in ("stdin", "stdout"))
    code, said, complaints = run_on(flags, stdin=stdin, stdout=stdout)
    assert (code, said) == (0, "")
    assert "Traceback" not in complaints


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox", "--version"])
def test_output_that_nobody_wants_is_not_missed(arguments: str) -> None:
    assert run_on(arguments, stdout=CLOSED) == (0, "", "")


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox", "ledger list"])
def test_a_reader_that_goes_away_is_told_by_the_exit_code_alone(arguments: str, tmp_path: Path) -> None:
    # It reads nothing and has gone before the command has anything to say.
    reads, writes = os.pipe()
    os.close(reads)
    try:
        assert run_on(arguments, stdout=writes, SYNC_MCP_HOME=str(tmp_path)) == (1, "", "")
    finally:
        os.close(writes)


@pytest.mark.parametrize("arguments", ["config codex", "doctor --sandbox"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_that_cannot_be_written_is_one_line(arguments: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, complaint = run_on(arguments, stdout=full.fileno())
    assert code == 1
    assert re.fullmatch(r"sync-mcp: The output cannot be written: [^\n]+\n", complaint), complaint


def test_a_complaint_that_nobody_can_read_is_not_said_elsewhere() -> None:
    done = run("--nope", "2>&-")
    assert (done.returncode, done.stdout) == (2, "")
