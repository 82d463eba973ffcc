"""The first run of make where it cannot succeed: its last words are the true reason and what to do."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 120
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("make") is None, reason="there is no make"
)


def cloned(folder: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "constraints.txt").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    return folder


def made(clone: Path, target: str, **environment: str) -> list[str]:
    """Return what make said, without its own last line."""
    tools = clone / "tools"
    tools.mkdir(exist_ok=True)
    # Without uv, wherever this machine has one.
    for name in ("awk", "cat", "grep", "mkdir", "rm", "sh", "touch"):
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [shutil.which("make") or "make", target, f"PYTHON={sys.executable}"],
        cwd=clone,
        env={"PATH": str(tools), "HOME": str(clone), "PIP_CONFIG_FILE": os.devnull} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    assert done.returncode != 0
    *said, last = done.stdout.strip().splitlines()
    assert last.startswith("make: ***")
    return said


@pytest.mark.parametrize("target", ["demo", "test"])
def test_where_nothing_can_be_written_make_says_so_and_what_to_do(tmp_path: Path, target: str) -> None:
    clone = cloned(tmp_path)
    # Nobody can make a folder there, whoever they are.
    (clone / ".venv").touch()
    [only] = made(clone, target)
    assert only.startswith(f"Nothing can be written in {clone}")
    assert "copy this folder" in only


@dataclass(frozen=True)
class FirstRun:
    """What make said where no package index could be reached, and the clone as that left it."""

    said: list[str]
    clone: Path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    # To make an environment with pip in it takes longest of all.
    clone = cloned(tmp_path_factory.mktemp("clone"))
    said = made(clone, "demo", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1")
    return FirstRun(said, clone)


def test_without_a_network_the_first_run_says_so_and_what_to_do(first_run: FirstRun) -> None:
    assert first_run.said[-1].startswith("No package index can be reached")
    assert "Connect to the network" in first_run.said[-1]


def test_another_failure_is_not_taken_for_a_missing_network(first_run: FirstRun) -> None:
    said = made(first_run.clone, "demo", PIP_NO_INDEX="1")
    # The next run sets it up anew.
    assert said[0] == "Setting up .venv ..."
    assert said[-1] == "The packages could not be installed, for the reason above."
    assert any("no-such-package" in line for line in said)
