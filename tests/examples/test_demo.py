import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import StdioServerParameters

from sync_mcp.cli.demo import run_demo
from sync_mcp.media.decoding.probe import probe
from tests.media.clips import frozen_at_first, make_media
from tests.serving.stdio.forked import run_forked

STEPS = (
    "tools/list",
    "list_voices",
    "estimate_cost",
    "create_generation",
    "get_generation",
    "preview_generation",
    "download_generation",
)


def _run_demo(output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sync_mcp", "demo", "--output", str(output)]
    return run_forked(command, os.environ, timeout=60)


def _demo_on(monkeypatch: pytest.MonkeyPatch, *arguments: str, output: Path) -> int:
    server = StdioServerParameters(command=sys.executable, args=list(arguments))
    monkeypatch.setattr("sync_mcp.cli.demo._SERVER", server)
    return anyio.run(run_demo, str(output))


def test_the_demo_goes_every_step_and_leaves_a_video_that_plays(tmp_path: Path) -> None:
    done = _run_demo(tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stdout + done.stderr
    video = tmp_path / "new" / "folder" / "lipsync.mp4"
    shown = probe(video)
    assert shown.has_video
    assert shown.has_audio
    assert shown.duration_seconds is not None
    assert shown.duration_seconds > 1
    assert done.stdout.rstrip().endswith(str(video))
    assert (video.parent / "contact-sheet.jpg").read_bytes().startswith(b"\xff\xd8")
    places = [done.stdout.index(f"\n> {step}") for step in STEPS]
    assert places == sorted(places)
    for told in (
        "cost_usd: ",
        "generation_id: ",
        "status: COMPLETED",
        "output_url: ",
        "SANDBOX",
    ):
        assert told in done.stdout
    assert done.stdout.count("  ... ") >= 2
    assert done.stderr == ""


def test_the_demo_fails_with_a_reason_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("in the way", encoding="utf-8")
    done = _run_demo(in_the_way)
    assert done.returncode == 1
    assert f"The demo failed: nothing can be written in {in_the_way}: " in done.stderr
    assert done.stderr.rstrip().endswith("Name another place: --output FOLDER")
    assert "Traceback" not in done.stderr


def test_the_demo_fails_with_a_reason_where_the_server_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _demo_on(monkeypatch, "-c", "pass", output=tmp_path) == 1
    assert "The demo failed: " in capsys.readouterr().err


def test_the_demo_fails_with_a_reason_on_a_server_without_samples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _demo_on(monkeypatch, "-m", "sync_mcp", output=tmp_path) == 1
    assert "The demo failed: the server's instructions name no sample speaker.mp4" in capsys.readouterr().err


def test_the_demo_fails_where_the_video_fails_its_check_and_says_where_it_lies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def prepare(_sample_url: str, clip: Path) -> None:
        make_media(clip, picture="libx264", sound="aac", size=(160, 120), frames=100, draw=frozen_at_first)

    monkeypatch.setattr("sync_mcp.cli.demo._prepare", prepare)
    assert anyio.run(run_demo, str(tmp_path)) == 1
    told = capsys.readouterr()
    kept = tmp_path / "lipsync.failed-check.mp4"
    assert f"The demo failed: the video failed a check (movement) and is kept as {kept}" in told.err
    assert "The video: " not in told.out
    assert kept.exists()
    assert not (tmp_path / "lipsync.mp4").exists()
