import os
import re
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.forked import run_forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "campaign.py"


@pytest.fixture
def folder(tmp_path: Path, sandbox: Sandbox) -> Path:
    sandbox.configure(job_seconds=0.2)
    folder = tmp_path / "course"
    folder.mkdir()
    with urlopen(sandbox.samples.speaking) as answer:
        (folder / "talk.mp4").write_bytes(answer.read())
    return folder


def test_a_folder_is_dubbed_by_a_campaign_and_a_second_run_pays_nothing(
    folder: Path, sandbox: Sandbox
) -> None:
    environment = os.environ | {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": "any"}
    command = [sys.executable, str(EXAMPLE), str(folder), "5", "es", "French"]
    done = run_forked(command, environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Videos: 2, for 0.5")
    assert "talk.mp4 fr saved 0.25" in done.stdout
    page = Path(done.stdout.splitlines()[-1])
    assert page.is_file()
    assert (page.parent / "talk.fr.mp4").stat().st_size > 1000
    again = run_forked(command, environment, timeout=60)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(sandbox.charges) == 2


@pytest.mark.anyio
async def test_its_cells_run_one_by_one_in_a_notebook_which_has_a_loop_of_its_own(
    folder: Path,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (("SYNC_BASE_URL", sandbox.url), ("SYNC_API_KEY", "any")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYNC_MCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["campaign.py", str(folder), "5", "es"])
    begun, *cells = re.split(r"^# %% ", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert begun.startswith('"""A campaign in cells')
    shared: dict[str, object] = {"__name__": "__main__"}
    told: list[str] = []
    for cell in cells:
        exec(compile(f"# {cell}", str(EXAMPLE), "exec"), shared)
        told.append(capsys.readouterr().out)
    asked, made, reported = told[1:]
    assert asked == "Videos: 1, for 0.25 USD.\n"
    assert made.endswith("talk.mp4, dubbed into es: saved\n")
    assert reported.startswith("talk.mp4 es saved 0.25")
    assert reported.endswith("report.html\n")
