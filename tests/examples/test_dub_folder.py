import csv
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

import pytest

from sync_mcp import Ledger
from sync_mcp.campaigns.report import COLUMNS
from sync_mcp.sandbox import Fault, Sandbox
from tests.media.clips import make_media
from tests.serving.stdio.forked import run_forked, start_forked

DUB_FOLDER = Path(__file__).parents[2] / "examples" / "dub_folder.py"
CREATE = "/v2/generate"
VOICE = ("--voice", "My own voice")
PATIENCE_SECONDS = 60
TOLD_LATE_SECONDS = 601
"""After so long without a cost, a failure counts as free."""
SOON_SECONDS = 0.02


@pytest.fixture(scope="module")
def module_sandbox() -> Iterator[Sandbox]:
    with Sandbox(job_seconds=0.5) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(module_sandbox: Sandbox) -> Iterator[Sandbox]:
    module_sandbox.reset()
    module_sandbox.configure(job_seconds=0.5)
    yield module_sandbox
    module_sandbox.clear_faults()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_media(path, picture="libx264", sound="aac", size=(320, 240), frames=50, fps=25).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, clip: bytes, module_sandbox: Sandbox) -> Path:
    """A folder with two clips and their scripts, and one with its recording."""
    folder = tmp_path / "course"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.mp4").write_bytes(clip)
    (folder / "one.txt").write_text("Welcome.", encoding="utf-8")
    (folder / "two.txt").write_text("Goodbye.", encoding="utf-8")
    with urlopen(module_sandbox.samples.audio, timeout=30) as recording:
        (folder / "three.wav").write_bytes(recording.read())
    return folder


def _command(folder: Path, *flags: str, budget: str) -> list[str]:
    return [sys.executable, str(DUB_FOLDER), str(folder), "--budget-usd", budget, *flags]


def _environment(sandbox: Sandbox, key: str = "any") -> dict[str, str]:
    return os.environ | {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": key}


def dub(
    sandbox: Sandbox, folder: Path, *flags: str, budget: str = "20", key: str = "any"
) -> subprocess.CompletedProcess[str]:
    done = run_forked(
        _command(folder, *flags, budget=budget), _environment(sandbox, key), timeout=PATIENCE_SECONDS
    )
    assert "Traceback" not in done.stderr
    return done


def costs(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.synced.mp4"))


def creates(sandbox: Sandbox) -> int:
    return sum((request.method, request.path) == ("POST", CREATE) for request in sandbox.requests)


def leave_only(folder: Path, name: str) -> None:
    for clip in folder.glob("*.mp4"):
        if clip.stem != name:
            clip.unlink()


def in_ledger(folder: Path, statement: str) -> list[tuple[str, ...]]:
    """Do something to the folder's ledger; return the rows that come of it."""
    with closing(sqlite3.connect(Ledger(folder / ".dub_folder").file.path)) as ledger, ledger:
        return ledger.execute(statement).fetchall()


ALL = ["one.synced.mp4", "three.synced.mp4", "two.synced.mp4"]


def test_every_clip_is_dubbed_once_and_a_second_run_pays_nothing(sandbox: Sandbox, folder: Path) -> None:
    first = dub(sandbox, folder, *VOICE)
    assert first.returncode == 0, first.stdout + first.stderr
    assert results(folder) == ALL
    rows = costs(folder)
    assert [(row["status"], row["output"], row["error"]) for row in rows.values()] == [
        ("saved", name, "") for name in ALL
    ]
    assert {row["generation_id"] for row in rows.values()} == set(sandbox.generations)
    spent = sum(charge.amount_usd for charge in sandbox.charges)
    assert sum(Decimal(row["cost_usd"]) for row in rows.values()) == spent > 0
    assert all(Decimal(row["estimate_usd"]) > 0 for row in rows.values())
    assert f"3 of 3 clips done, {spent} USD spent" in first.stdout

    second = dub(sandbox, folder, *VOICE)
    assert second.returncode == 0
    assert creates(sandbox) == len(sandbox.charges) == 3
    assert costs(folder) == rows


def test_a_lost_result_is_fetched_again_and_not_paid_again(sandbox: Sandbox, folder: Path) -> None:
    leave_only(folder, "one")
    dub(sandbox, folder, *VOICE)
    rows = costs(folder)
    (folder / "one.synced.mp4").unlink()
    (folder / "report.csv").unlink()
    assert dub(sandbox, folder, *VOICE).returncode == 0
    assert results(folder) == ALL[:1]
    assert creates(sandbox) == 1
    assert costs(folder)["one.mp4"] == rows["one.mp4"]


def test_another_script_is_another_job_once_its_result_is_deleted(sandbox: Sandbox, folder: Path) -> None:
    leave_only(folder, "one")
    dub(sandbox, folder, *VOICE)
    made = costs(folder)["one.mp4"]
    (folder / "one.txt").write_text("Welcome back.", encoding="utf-8")
    left = dub(sandbox, folder, *VOICE)
    assert (left.returncode, creates(sandbox)) == (0, 1)
    row = costs(folder)["one.mp4"]
    assert (row["output"], row["cost_usd"]) == (made["output"], made["cost_usd"])
    (folder / "one.synced.mp4").unlink()
    assert dub(sandbox, folder, *VOICE).returncode == 0
    assert (results(folder), creates(sandbox)) == (ALL[:1], 2)


def test_what_the_budget_does_not_allow_is_not_sent_and_says_so(sandbox: Sandbox, folder: Path) -> None:
    sandbox.configure(concurrency=1)
    done = dub(sandbox, folder, *VOICE, budget="0.15")
    assert done.returncode == 1
    assert results(folder) == ["one.synced.mp4"]
    assert sum(charge.amount_usd for charge in sandbox.charges) <= Decimal("0.15")
    row = costs(folder)["three.mp4"]
    assert (row["status"], row["generation_id"], row["output"]) == ("planned", "", "")
    assert "0.15 USD" in row["error"]
    assert row["error"] in done.stdout

    dub(sandbox, folder, *VOICE, budget="0.15")
    assert creates(sandbox) == 1
    raised = dub(sandbox, folder, *VOICE, budget="5")
    assert raised.returncode == 0
    assert (results(folder), creates(sandbox)) == (ALL, 3)


def _killed_once(sandbox: Sandbox, folder: Path, jobs: int) -> None:
    """Start a run and kill it when the API has accepted so many jobs and none has ended."""
    with start_forked(_command(folder, *VOICE, budget="20"), _environment(sandbox)) as running:
        ends_at = time.monotonic() + PATIENCE_SECONDS
        try:
            while len(sandbox.generations) < jobs:
                assert running.poll() is None
                assert time.monotonic() < ends_at
                time.sleep(0.01)
        finally:
            running.kill()


def _let_leases_run_out(folder: Path) -> None:
    """Spare the next run the seconds for which the dead one is thought alive."""
    assert len(in_ledger(folder, "UPDATE entries SET leased_until = 0 RETURNING id")) == 2


def test_a_run_that_is_killed_while_jobs_run_is_finished_by_the_next_with_one_job_for_each_clip(
    sandbox: Sandbox, folder: Path
) -> None:
    sandbox.configure(job_seconds=3600, concurrency=2)
    # Killed with the second create on its way: the API has taken it, and the run never hears of it.
    sandbox.add_fault(Fault(method="POST", path=CREATE, skip=1, delay_seconds=30, when="after"))
    _killed_once(sandbox, folder, jobs=2)
    assert results(folder) == []
    _let_leases_run_out(folder)
    sandbox.clear_faults()
    sandbox.configure(job_seconds=0.5)
    sandbox.advance(3600)

    again = dub(sandbox, folder, *VOICE)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(folder) == ALL
    assert len(sandbox.generations) == len(sandbox.charges) == 3
    assert {row["generation_id"] for row in costs(folder).values()} == set(sandbox.generations)


def test_one_failure_does_not_stop_the_others_and_is_made_again_once_it_is_known_to_be_free(
    sandbox: Sandbox, folder: Path
) -> None:
    sandbox.configure(concurrency=1)
    sandbox.add_fault(Fault(job="fail", error="The face cannot be seen."))
    told = folder / "told.log"
    with (
        told.open("w") as stdout,
        start_forked(
            _command(folder, *VOICE, budget="20"), _environment(sandbox), stdout=stdout.fileno()
        ) as running,
    ):
        ends_at = time.monotonic() + PATIENCE_SECONDS
        try:
            while told.read_text().count(": saved") < 2:
                assert running.poll() is None
                assert time.monotonic() < ends_at
                time.sleep(SOON_SECONDS)
            assert "one.mp4: It failed: The face cannot be seen." in told.read_text()
            # Until then it may still be charged.
            sandbox.advance(TOLD_LATE_SECONDS)
            in_ledger(folder, "UPDATE campaign_rows SET not_before = 0")
            assert running.wait(PATIENCE_SECONDS) == 0
        finally:
            running.kill()
    assert results(folder) == ALL
    row = costs(folder)["one.mp4"]
    assert (row["status"], row["error"]) == ("saved", "")
    assert "3 of 3 clips done" in told.read_text()


def test_a_failure_that_was_charged_is_not_paid_again_unless_its_line_names_another_take(
    sandbox: Sandbox, folder: Path
) -> None:
    leave_only(folder, "one")
    sandbox.add_fault(Fault(job="fail", charged=True))
    dub(sandbox, folder, *VOICE)
    failed = costs(folder)
    again = dub(sandbox, folder, *VOICE)
    assert again.returncode == 1
    assert "To pay again write take 2 into its line of report.csv" in again.stdout
    assert (creates(sandbox), costs(folder)) == (1, failed)
    (folder / "report.csv").write_text("clip,take\none.mp4,2\n", encoding="utf-8")
    assert dub(sandbox, folder, *VOICE).returncode == 0
    assert creates(sandbox) == 2
    assert costs(folder)["one.mp4"]["take"] == "2"


def test_a_clip_without_its_one_usable_speech_is_told_and_the_others_are_dubbed(
    sandbox: Sandbox, folder: Path, clip: bytes
) -> None:
    for name in ("bare.mp4", "both.mp4", "empty.mp4", "latin.mp4", "twin.mp4", "twin.MOV", "._one.mp4"):
        (folder / name).write_bytes(clip)
    for name, content in (
        *(("both.txt", b"A"), ("both.mp3", b"B"), ("empty.txt", b" \n"), ("latin.txt", b"caf\xe9")),
        *(("twin.txt", b"A"), ("noise.mp4", b"no media"), ("noise.txt", b"A"), ("stray.txt", b"A")),
    ):
        (folder / name).write_bytes(content)
    done = dub(sandbox, folder, *VOICE)
    assert done.returncode == 1
    assert results(folder) == ALL
    assert creates(sandbox) == 3
    errors = {row["clip"]: row["error"] for row in costs(folder).values() if row["status"] == "refused"}
    assert errors.keys() == {
        *("bare.mp4", "both.mp4", "empty.mp4", "latin.mp4", "twin.mp4", "twin.MOV", "noise.mp4")
    }
    assert errors["bare.mp4"] == "Put bare.txt or bare.wav beside it, not both; there is neither."
    assert errors["both.mp4"].endswith(" not both; there is both.mp3 and both.txt.")
    assert errors["empty.mp4"] == "empty.txt is empty."
    assert errors["latin.mp4"].startswith("latin.txt cannot be read as UTF-8 text")
    assert errors["twin.mp4"] == errors["twin.MOV"] == "Another clip is called twin too: rename one."
    assert "noise.mp4 is no video" in errors["noise.mp4"]
    assert all(f"{clip}: {error}" in done.stdout for clip, error in errors.items())


def test_scripts_need_a_voice_and_recordings_none(sandbox: Sandbox, folder: Path) -> None:
    done = dub(sandbox, folder)
    assert done.returncode == 1
    assert results(folder) == ["three.synced.mp4"]
    assert costs(folder)["one.mp4"]["error"] == "Say with --voice who speaks one.txt."


def test_a_voice_that_is_not_the_only_one_stops_it_before_anything_is_sent(
    sandbox: Sandbox, folder: Path
) -> None:
    for voice, told in (("Ada", "did you mean 'Ada - "), ("nobody", "'nobody' is no voice of this account")):
        done = dub(sandbox, folder, "--voice", voice)
        assert done.returncode == 1
        assert told in done.stderr
    assert creates(sandbox) == 0


@pytest.mark.parametrize("budget", ["-1", "nan", "much", "inf"])
def test_a_budget_that_is_none_is_refused(sandbox: Sandbox, folder: Path, budget: str) -> None:
    done = dub(sandbox, folder, budget=budget)
    assert done.returncode == 2
    assert "budget" in done.stderr


def test_a_costs_file_that_cannot_be_read_or_written_stops_no_clip(sandbox: Sandbox, folder: Path) -> None:
    leave_only(folder, "one")
    columns = ",".join(COLUMNS)
    (folder / "report.csv").write_bytes(f"{columns}\n1;St\xe4tus\none.mp4;\xe9\n".encode("latin-1"))
    assert dub(sandbox, folder, *VOICE).returncode == 0
    assert costs(folder).keys() == {"one.mp4"}
    (folder / "report.csv").unlink()
    (folder / "report.csv").mkdir()
    (folder / "one.synced.mp4").unlink()
    done = dub(sandbox, folder, *VOICE)
    assert (done.returncode, results(folder)) == (0, ALL[:1])
    assert "report.csv cannot be written" in done.stderr


def test_a_table_of_another_kind_is_not_written_over_and_nothing_is_paid(
    sandbox: Sandbox, folder: Path
) -> None:
    (folder / "report.csv").write_text("student,grade\n", encoding="utf-8")
    done = dub(sandbox, folder, *VOICE)
    assert done.returncode == 1
    assert "report.csv is in " in done.stderr
    assert "Move it away" in done.stderr
    assert (folder / "report.csv").read_text(encoding="utf-8") == "student,grade\n"
    assert creates(sandbox) == 0


def test_a_wrong_key_ends_with_a_sentence(sandbox: Sandbox, folder: Path) -> None:
    for key in ("", "sk_invalid"):
        done = dub(sandbox, folder, key=key)
        assert done.returncode == 1
        assert "SYNC_API_KEY" in done.stderr
