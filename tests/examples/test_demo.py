import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import StdioServerParameters
from PIL import Image, ImageChops, ImageStat

from sync_mcp.cli.demo import run_demo
from sync_mcp.cli.telling import Plain
from sync_mcp.media.decoding.probe import probe
from tests.docs.picture import SHEET, TERMINAL, transcript, without_progress
from tests.media.clips import frozen_at_first, make_media
from tests.serving.stdio.forked import run_forked, start_forked

STEPS = (
    "tools/list",
    "list_voices",
    "estimate_cost",
    "create_generation",
    "get_generation",
    "preview_generation",
    "download_generation",
)


def _run_demo(output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sync_mcp", "demo", "--output", str(output), *flags]
    return run_forked(command, os.environ, timeout=60)


def _demo_on(monkeypatch: pytest.MonkeyPatch, *arguments: str, output: Path) -> int:
    server = StdioServerParameters(command=sys.executable, args=list(arguments))
    monkeypatch.setattr("sync_mcp.cli.demo._SERVER", server)
    return anyio.run(run_demo, str(output), Plain())


def test_the_raw_demo_shows_every_call_and_answer_and_leaves_a_video_that_plays(tmp_path: Path) -> None:
    done = _run_demo(tmp_path / "new" / "folder", "--raw")
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
    assert "Pay about 0.35 USD" in done.stdout
    assert done.stderr == ""


def test_the_pictures_of_the_readme_show_what_the_demo_tells_a_person_and_makes(tmp_path: Path) -> None:
    done = _run_demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert transcript(TERMINAL.read_text(encoding="utf-8")) == without_progress(done.stdout, tmp_path), (
        "Run `make pictures`."
    )
    assert "\x1b" not in done.stdout
    shown, made = (Image.open(path).convert("RGB") for path in (SHEET, tmp_path / SHEET.name))
    assert shown.size == made.size
    # Another version of the codec makes other noise; another picture differs by far more.
    assert max(ImageStat.Stat(ImageChops.difference(shown, made)).mean) < 4
    assert all(picture.stat().st_size < 400_000 for picture in (TERMINAL, SHEET))


@pytest.mark.parametrize(("colour", "drawn"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)])
def test_the_demo_has_colour_where_it_is_wanted(colour: dict[str, str], drawn: bool) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")
    }
    code = "from sync_mcp.cli.telling import Plain; Plain().introduce('', [])"
    done = run_forked([sys.executable, "-c", code], environment | colour, timeout=60)
    assert ("\x1b[1m" in done.stdout, "\x1b[33m" in done.stdout) == (drawn, drawn)


def test_the_demo_fails_with_a_reason_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("in the way", encoding="utf-8")
    done = _run_demo(in_the_way)
    assert done.returncode == 1
    assert f"The demo failed: nothing can be written in {in_the_way}: " in done.stderr
    assert done.stderr.rstrip().endswith("Name another place: --output FOLDER")
    assert "Traceback" not in done.stderr


def test_the_demo_leaves_what_lies_in_its_folder_and_takes_names_that_are_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "lipsync.mp4").write_text("the first one", encoding="utf-8")

    def prepare(_sample_url: str, clip: Path) -> None:
        raise OSError(f"to {clip.name}")

    monkeypatch.setattr("sync_mcp.cli.demo._prepare", prepare)
    assert anyio.run(run_demo, str(tmp_path), Plain()) == 1
    assert "The demo failed: to clip-2.mp4" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lipsync.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_the_demo_ends_it_with_the_code_of_the_signal(
    tmp_path: Path, end: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "sync_mcp", "demo", "--output", str(tmp_path)]
    with start_forked(command, os.environ) as demo:
        assert demo.stdout
        assert demo.stderr
        try:
            assert any(b"Find a voice" in line for line in demo.stdout)
            demo.send_signal(end)
            assert demo.wait(60) == code
            assert demo.stderr.read() == b""
        finally:
            demo.kill()


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
    assert anyio.run(run_demo, str(tmp_path), Plain()) == 1
    told = capsys.readouterr()
    kept = tmp_path / "lipsync.failed-check.mp4"
    assert f"The demo failed: the video failed a check (movement) and is kept as {kept}" in told.err
    assert "The video: " not in told.out
    assert kept.exists()
    assert not (tmp_path / "lipsync.mp4").exists()


@pytest.mark.parametrize("letters", ["cp1252", "ascii"])
def test_the_demo_is_told_whatever_letters_the_console_has(letters: str) -> None:
    code = (
        "from sync_mcp.cli.streams import take_all_letters; from sync_mcp.cli.telling import Plain\n"
        "take_all_letters(); Plain().show_question('Pay?')"
    )
    environment = os.environ | {"PYTHONIOENCODING": letters}
    done = run_forked([sys.executable, "-c", code], environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "│ Pay?" in done.stdout
