"""A folder with clips and a file of rows, and the command `sync-mcp campaign` on a sandbox of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.forked import run_forked

SECONDS = 60.0
COMMAND = Path(sys.executable).with_name("sync-mcp")
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, sandbox: Sandbox) -> Path:
    """A folder with clips, and a file of rows for two of them in two languages each."""
    sandbox.configure(job_seconds=0.2)
    with urlopen(sandbox.samples.speaking) as answer:
        clip: bytes = answer.read()
    (tmp_path / "lessons").mkdir()
    for number, name in enumerate(("one", "two", "three", "four")):
        # Another content each, by an empty box at its end.
        box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (tmp_path / "lessons" / f"{name}.mp4").write_bytes(clip + box)
    write_rows(tmp_path, "one", "two")
    return tmp_path


def write_rows(folder: Path, *names: str, languages: Sequence[str] = ("Spanish", "fr")) -> None:
    rows = [f"lessons/{name}.mp4,{language}" for name in names for language in languages]
    (folder / "course.csv").write_text("\n".join(["video,language", *rows]), encoding="utf-8")


@pytest.fixture
def environment(folder: Path, sandbox: Sandbox) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SYNC_")}
    return kept | {
        "SYNC_API_KEY": "any",
        "SYNC_BASE_URL": sandbox.url,
        "SYNC_MCP_HOME": str(folder / "home"),
        "SYNC_MCP_MEDIA_ROOTS": str(folder),
    }


@pytest.fixture
def run(environment: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)

    def run(
        *words: str, typed: str = "", stdin: int | None = None, more: Mapping[str, str] | None = None
    ) -> Done:
        command, env = [str(COMMAND), "campaign", *words], environment | dict(more or {})
        return run_forked(command, env, typed=typed, stdin=stdin, timeout=SECONDS)

    return run
