import os
import sys
from pathlib import Path
from urllib.request import urlopen

from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.forked import run_forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "campaign.py"


def test_a_folder_is_dubbed_by_a_campaign_and_a_second_run_pays_nothing(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=0.2)
    with urlopen(sandbox.samples.speaking) as answer:
        (tmp_path / "talk.mp4").write_bytes(answer.read())
    environment = os.environ | {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": "any"}
    command = [sys.executable, str(EXAMPLE), str(tmp_path), "5", "es", "French"]
    done = run_forked(command, environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 videos for 0.5")
    assert (tmp_path / "course-videos" / "talk.fr.mp4").stat().st_size > 1000
    assert Path(done.stdout.splitlines()[-1]).is_file()
    again = run_forked(command, environment, timeout=60)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(sandbox.charges) == 2
