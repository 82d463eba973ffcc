"""`sync-mcp campaign --sandbox`, whose sandbox and ledger end with the command."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.forked import run_forked

from .conftest import COMMAND, SECONDS, Done, Run, write_rows


@pytest.fixture
def alone(environment: dict[str, str]) -> Mapping[str, str]:
    """Without a key, and without the address of another sandbox."""
    return {
        name: value for name, value in environment.items() if name not in ("SYNC_API_KEY", "SYNC_BASE_URL")
    }


@pytest.fixture
def tried(alone: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)

    def run(*words: str) -> Done:
        return run_forked([str(COMMAND), "campaign", *words], alone, timeout=SECONDS)

    return run


def test_a_trial_lays_nothing_where_the_real_videos_or_those_of_the_next_trial_go(
    tried: Run, folder: Path, run: Run, sandbox: Sandbox
) -> None:
    write_rows(folder, "one", languages=["fr"])
    words = ["run", "course.csv", "--yes", "--budget-usd", "5"]
    for saved_in in ("course-sandbox-videos", "course-sandbox-videos-2"):
        done = tried(*words, "--sandbox")
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert str(folder / saved_in / "report.html") in done.stdout
        assert (folder / saved_in / "one.fr.mp4").is_file()
    assert sandbox.charges == []
    done = run(*words)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (folder / "course-videos" / "one.fr.mp4").is_file()


def test_its_plan_names_no_id_since_no_later_command_finds_it(tried: Run) -> None:
    done = tried("plan", "course.csv", "--sandbox")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "`sync-mcp campaign run` in place of `plan`, with the same words, has it made on the sandbox."
    )


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is asked for")
def test_interrupted_it_says_that_its_jobs_have_ended_with_it(alone: Mapping[str, str], folder: Path) -> None:
    running = subprocess.Popen(
        [str(COMMAND), "campaign", "run", "course.csv", "--yes", "--budget-usd", "5", "--sandbox"],
        env=alone,
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert running.stderr is not None
    while "saved as" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 130, said
    assert "Interrupted: the sandbox has ended, and its jobs with it. The same command begins anew." in said
    assert "campaign run c-" not in said


def test_without_a_key_or_the_sandbox_it_says_which_to_set(tried: Run) -> None:
    done = tried("plan", "course.csv")
    assert done.returncode == 2
    assert "There is no API key. Set SYNC_API_KEY" in done.stderr
    assert done.stdout == ""
