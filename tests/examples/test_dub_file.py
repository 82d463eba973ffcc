import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sync_mcp.media.probe import probe
from sync_mcp.sandbox.storage import SAMPLES

EXAMPLE = Path(__file__).parents[2] / "examples" / "dub_file.py"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(SAMPLES / "speaker.mp4", tmp_path / "talk.mp4"))


def run(clip: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), str(clip), "--script", "Welcome to our spring sale.", *flags],
        env=os.environ | {"SYNC_API_KEY": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=90,
    )


def test_a_clip_says_the_script_and_the_result_lies_beside_it(clip: Path) -> None:
    done = run(clip, "--voice", "warm")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = probe(clip.with_suffix(".synced.mp4"))
    assert (shown.has_video, shown.has_audio) == (True, True)
    assert clip.with_suffix(".sheet.jpg").read_bytes().startswith(b"\xff\xd8")
    calls = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("> ")]
    assert list(dict.fromkeys(calls)) == [
        "list_voices",
        "estimate_cost",
        "create_generation",
        "get_generation",
        "preview_generation",
        "download_generation",
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--max-usd", "0.01"), "create_generation: see above"),
        (("--voice", "zzzz"), "No voice is like 'zzzz'"),
    ],
)
def test_it_ends_with_a_sentence_where_it_may_not_or_cannot(
    clip: Path, flags: tuple[str, ...], words: str
) -> None:
    done = run(clip, *flags)
    assert done.returncode == 1
    assert f"Not made: {words}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not clip.with_suffix(".synced.mp4").exists()
