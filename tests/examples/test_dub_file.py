import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox.media.samples import sample
from tests.media.clips import frozen_at_first, make_media
from tests.serving.stdio.forked import run_forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "dub_file.py"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(sample("speaker.mp4"), tmp_path / "talk.mp4"))


def run(clip: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(EXAMPLE), str(clip), "--script", "Welcome to our spring sale.", *flags]
    return run_forked(arguments, os.environ | {"SYNC_API_KEY": ""})


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


def test_a_result_that_fails_its_check_is_no_success_and_it_is_said_where_it_lies(tmp_path: Path) -> None:
    talk = tmp_path / "talk.mp4"
    clip = make_media(talk, picture="libx264", sound="aac", size=(160, 120), frames=100, draw=frozen_at_first)
    done = run(clip)
    assert done.returncode == 1
    kept = tmp_path / "talk.synced.failed-check.mp4"
    told = f"Not saved as talk.synced.mp4: it failed a check (movement) and is kept as {kept}."
    assert told in done.stderr
    assert kept.exists()


def test_a_result_that_is_there_already_is_said_before_anything_is_asked(clip: Path) -> None:
    clip.with_suffix(".synced.mp4").write_bytes(b"mine")
    done = run(clip)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Not made: " in done.stderr
    assert "talk.synced.mp4 is there already" in done.stderr
    assert clip.with_suffix(".synced.mp4").read_bytes() == b"mine"


def test_what_was_made_and_cannot_be_saved_is_told_with_its_job(clip: Path) -> None:
    clip.with_suffix(".sheet.jpg").mkdir()
    done = run(clip)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [id] = set(re.findall(r'"generation_id": "(\S+)"', done.stdout))
    assert "Not saved as talk.synced.mp4: " in done.stderr
    assert f"The job is {id}." in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no folder has a ; in its name by chance")
def test_a_folder_that_no_list_of_folders_can_name_is_told_by_a_sentence(clip: Path) -> None:
    folder = clip.parent / "c:d"
    folder.mkdir()
    done = run(Path(shutil.move(clip, folder)))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Not made: {folder} has a ':' in it" in done.stderr
    assert "Traceback" not in done.stderr
