import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.serving.stdio.forked import run_forked

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(job_seconds=0.5) as sandbox:
        yield sandbox


def run_example(name: str, *arguments: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return run_forked(command, os.environ | {"SYNC_API_KEY": ""} | env, typed=typed, timeout=60)


def lipsync(
    sandbox: Sandbox, *flags: str, typed: str = "", key: str = "any"
) -> subprocess.CompletedProcess[str]:
    media = (sandbox.samples.video, sandbox.samples.audio)
    return run_example("lipsync.py", *media, *flags, typed=typed, SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=key)


def test_lipsync_tells_the_price_and_prints_the_url_of_a_video(sandbox: Sandbox) -> None:
    done = lipsync(sandbox, "--yes")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(r"Price: [\d.]+ USD \(", lines[0])
    assert re.match(r"Created: \S+", lines[1])
    assert "COMPLETED" in lines[-2]
    with urlopen(lines[-1], timeout=30) as video:
        assert video.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("typed", ["no\n", ""], ids=["no", "nobody there"])
def test_lipsync_pays_nothing_unless_it_is_told_to(sandbox: Sandbox, typed: str) -> None:
    charged = len(sandbox.charges)
    done = lipsync(sandbox, typed=typed)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Make it?" in done.stdout
    assert "Created" not in done.stdout
    assert len(sandbox.charges) == charged


def test_lipsync_pays_where_the_answer_is_yes(sandbox: Sandbox) -> None:
    charged = len(sandbox.charges)
    assert lipsync(sandbox, typed="y\n").returncode == 0
    assert len(sandbox.charges) == charged + 1


def test_lipsync_ends_with_a_sentence_where_the_key_is_missing_or_wrong(sandbox: Sandbox) -> None:
    for key in ("", "sk_invalid"):
        done = lipsync(sandbox, "--yes", key=key)
        assert done.returncode == 1
        assert "SYNC_API_KEY" in done.stderr
        assert "Traceback" not in done.stderr


def two_speakers(sandbox: Sandbox, clip: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    says = ("--say", "0", "2", "Ada - warm storyteller", "320,180", "Is it ready?")
    answers = ("--say", "2", "4", "Aino - warm storyteller", "-", "It is.")
    return run_example(
        "two_speakers.py", str(clip), *says, *answers, *flags, SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="any"
    )


def test_two_speakers_of_a_clip_say_a_line_each_in_a_voice_of_their_own(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    clip = Path(shutil.copy(sample("speaker.mp4"), tmp_path / "interview.mp4"))
    done = two_speakers(sandbox, clip, "--yes")
    assert done.returncode == 0, done.stderr
    assert probe(tmp_path / "interview.speakers.mp4").has_audio
    job: Any = next(job for id, job in sandbox.generations.items() if id in done.stdout)
    first, second = job["segments"]
    assert (first["startTime"], first["endTime"], second["startTime"]) == (0, 2, 2)
    assert first["audioInput"]["refId"] != second["audioInput"]["refId"]
    assert first["optionsOverride"]["active_speaker_detection"]["coordinates"] == [320, 180]
    assert second["optionsOverride"]["active_speaker_detection"] == {"auto_detect": True}
    _, *speech = job["input"]
    assert len({text["provider"]["voiceId"] for text in speech}) == 2
    again = two_speakers(sandbox, clip, "--yes")
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_two_speakers_are_told_what_is_wrong_before_anything_is_paid(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    charged = len(sandbox.charges)
    clip = Path(shutil.copy(sample("speaker.mp4"), tmp_path / "interview.mp4"))
    for voice, face, told in (("nobody", "-", "0 voices are called"), ("Ada - warm", "320", "is no point")):
        done = two_speakers(sandbox, clip, "--say", "4", "4.5", voice, face, "Well.", "--yes")
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert len(sandbox.charges) == charged


def test_assistant_prints_what_the_server_says_of_itself_and_of_a_job() -> None:
    done = run_example("assistant.py")
    assert done.returncode == 0, done.stderr
    for told in (
        "The way: list_voices",
        "create_generation: Start a paid job",
        "cost_usd: ",
        "status: COMPLETED",
        "output_url: http://127.0.0.1:",
        "did you mean 'model'?",
        "No money was spent.",
    ):
        assert told in done.stdout
