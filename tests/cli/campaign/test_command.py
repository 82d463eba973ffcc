"""`sync-mcp campaign`, as a real process on a real sandbox: what it says, pays and saves, and how it ends."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.docs.pages import ROOT
from tests.serving.stdio.forked import run_forked, start_forked

from .conftest import COMMAND, SECONDS, Done, Run, write_rows

SOON_SECONDS = 0.02
PAGE = (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8")


def _id_in(done: Done) -> str:
    found = re.search(r"c-[0-9a-f]{6}", done.stdout)
    assert found is not None, (done.stdout, done.stderr)
    return found[0]


def _videos(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "course-videos").glob("*.mp4"))


FOUR = ["one.es.mp4", "one.fr.mp4", "two.es.mp4", "two.fr.mp4"]


def test_the_page_s_commands_plan_pay_once_and_save_what_they_say(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    planned, asked, made, listed = (shlex.split(line, comments=True)[2:] for line in block.splitlines())
    done = run(*planned)
    assert done.returncode == 0, done.stderr
    assert "4 videos for about 1.00 USD" in done.stdout
    assert "Dubbed into es (2), fr (2)." in done.stdout
    assert sandbox.charges == []
    # No terminal to ask on: nothing is paid.
    done = run(*asked)
    assert done.returncode == 2
    assert "no terminal to ask on" in done.stderr
    assert sandbox.charges == []
    done = run(*made)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "is ended: 4 saved." in done.stdout
    assert _videos(folder) == FOUR
    assert len({charge.idempotency_key for charge in sandbox.charges}) == 4
    done = run(*listed)
    assert "4 of 4 saved" in done.stdout
    # Once more, it is done already.
    assert run(*made).returncode == 0
    assert len(sandbox.charges) == 4


def test_the_page_s_program_does_the_same(
    environment: dict[str, str], folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder)
    done = run_forked([sys.executable, "-c", program], environment, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 videos for 1.00 USD")
    assert Path(done.stdout.splitlines()[-1]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert _videos(folder) == FOUR
    assert len(sandbox.charges) == 4


def test_all_that_is_wrong_with_a_file_is_told_by_its_lines_before_anything_is_uploaded(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    (folder / "course.csv").write_text(
        "video,language,output\nlessons/one.mp4,Klingon,\nlessons/none.mp4,fr,\nlessons/two.mp4,fr,../two\n,fr,\n",
        encoding="utf-8",
    )
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 2
    assert done.stdout == ""
    for number in (2, 3, 4, 5):
        assert f"line {number}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(one.method == "POST" for one in sandbox.requests)


def test_a_file_that_is_not_there_ends_it_with_2(run: Run) -> None:
    done = run("plan", "nothing.csv")
    assert done.returncode == 2
    assert "nothing.csv cannot be read" in done.stderr


def test_yes_alone_is_no_consent(run: Run, sandbox: Sandbox) -> None:
    done = run("run", "course.csv", "--yes")
    assert done.returncode == 2
    assert "--yes needs --budget-usd" in done.stderr
    assert not any(one.path.startswith("/v2/") for one in sandbox.requests)


def test_a_budget_that_is_used_up_pauses_it_and_a_higher_one_goes_on(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    done = run("run", "course.csv", "--yes", "--budget-usd", "0.6")
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert "is paused" in done.stdout
    assert "budget of 0.60 USD" in done.stdout
    assert len(sandbox.charges) == 2
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert _videos(folder) == FOUR
    assert len(sandbox.charges) == 4


def test_a_campaign_is_run_by_its_id_and_shown_by_its_name(run: Run, folder: Path) -> None:
    id = _id_in(run("plan", "course.csv"))
    assert run("approve", id, "--yes").returncode == 0
    assert run("run", id, "--yes", "--budget-usd", "5").returncode == 0
    done = run("show", "course.csv")
    assert f"Campaign {id} (course.csv) is ended: 4 saved." in done.stdout
    assert str(folder / "course-videos") in done.stdout


def test_programs_are_told_each_row_and_the_money(run: Run) -> None:
    done = run("run", "course.csv", "--yes", "--budget-usd", "5", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["campaign"]["state"] == "ended"
    assert (told["campaign"]["planned_usd"], told["campaign"]["budget_usd"]) == ("1", "5")
    assert [row["state"] for row in told["rows"]] == ["saved"] * 4
    assert all(Path(row["saved_as"]).is_file() for row in told["rows"])
    [listed] = json.loads(run("list", "--json").stdout)["campaigns"]
    assert listed["rows_by_state"] == {"saved": 4}


def test_where_a_document_is_asked_for_a_question_does_not_stand_before_it(run: Run) -> None:
    done = run("run", "course.csv", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "4 videos for about 1.00 USD" in done.stderr


def test_a_report_that_cannot_be_written_hides_nothing_of_what_was_made(run: Run, folder: Path) -> None:
    id = _id_in(run("plan", "course.csv"))
    assert run("approve", id, "--yes").returncode == 0
    (folder / "course-videos" / "report.html" / "in the way").mkdir(parents=True)
    done = run("run", id, "--yes", "--budget-usd", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["state"] for row in json.loads(done.stdout)["rows"]} == {"saved"}
    assert "sync-mcp: report.html " in done.stderr


def test_what_else_is_gone_on_with_is_told_and_its_rows_apart(run: Run, folder: Path) -> None:
    write_rows(folder, "one")
    id = _id_in(run("plan", "course.csv"))
    assert run("approve", id, "--yes").returncode == 0
    write_rows(folder, "two")
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (
        f"Campaign {id} (course.csv) goes on too, with 2 rows left: `sync-mcp campaign stop {id}`"
        in done.stderr
    )
    told = [line for line in done.stderr.splitlines() if " saved as " in line]
    assert sorted(line.partition("row ")[0] for line in told) == ["", "", f"{id}, ", f"{id}, "]


def test_a_campaign_of_another_account_is_not_run_with_this_one_s_key(run: Run, sandbox: Sandbox) -> None:
    id = _id_in(run("plan", "course.csv"))
    elsewhere = {"SYNC_BASE_URL": sandbox.url.replace("127.0.0.1", "localhost")}
    done = run("run", id, "--yes", "--budget-usd", "5", more=elsewhere)
    assert done.returncode == 2
    assert f"Campaign {id} is of another account: " in done.stderr
    assert sandbox.url in done.stderr
    assert "0 of 4 saved" in run("list").stdout


def test_a_plan_that_was_agreed_to_is_told_as_that_with_its_own_budget(run: Run) -> None:
    id = _id_in(run("plan", "course.csv", "--budget-usd", "0.6"))
    assert run("approve", id, "--yes").returncode == 0
    done = run("plan", "course.csv", "--budget-usd", "5")
    assert "is approved: 4 waiting for a turn." in done.stdout
    assert "Budget: 0.60 USD." in done.stdout
    assert (
        f"`sync-mcp campaign run {id}` goes on with it, with --budget-usd at another budget." in done.stdout
    )


def test_a_folder_is_told_without_what_turns_a_terminal_s_words(run: Run) -> None:
    done = run("plan", "course.csv", "--output", "a\x1b[31m\nb\u202e")
    assert re.search(r"report go into \S*/a b\.$", done.stdout, re.MULTILINE)


def test_what_is_too_long_for_any_file_is_no_campaign(run: Run) -> None:
    done = run("run", "x" * 5000, "--yes", "--budget-usd", "5")
    assert done.returncode == 2
    assert done.stderr.startswith("There is neither a file nor a campaign 'xxx")


def test_clips_and_languages_need_no_file(run: Run, folder: Path, sandbox: Sandbox) -> None:
    words = ["lessons/one.mp4", "lessons/two.mp4", "--language", "es", "--output", "dubbed"]
    done = run("run", *words, "--yes", "--budget-usd", "5")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert sorted(path.name for path in (folder / "dubbed").glob("*.mp4")) == ["one.es.mp4", "two.es.mp4"]
    assert len(sandbox.charges) == 2


def test_a_folder_is_planned_with_what_lies_beside_its_clips_and_keeps_going(run: Run, folder: Path) -> None:
    for name in ("one", "two"):
        (folder / "lessons" / f"{name}.txt").write_text("Welcome.", encoding="utf-8")
    (folder / "lessons" / "three.mp4").unlink()
    done = run("plan", "lessons", "--voice", "My own voice")
    assert done.returncode == 2
    assert done.stderr.startswith("row 1: Put four.txt or four.wav beside it, not both; there is neither.")
    done = run("plan", "lessons", "--voice", "My own voice", "--keep-going")
    assert done.returncode == 0, done.stderr
    assert "2 videos for about" in done.stdout
    assert "Row 1 (four.mp4) cannot be made: Put four.txt" in done.stdout
    assert f"into {folder / 'lessons' / 'campaign-videos'}" in done.stdout


def test_what_is_stopped_is_not_paid_and_a_retry_has_it_made(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    id = _id_in(run("plan", "course.csv"))
    done = run("stop", id)
    assert "4 rows are skipped" in done.stdout
    # Neither the file nor the id has it made after all: how that is done is said.
    way_on = f"It was stopped: `sync-mcp campaign retry {id}` has what was skipped made after all."
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert (done.returncode, way_on in done.stdout) == (1, True)
    assert way_on in run("plan", "course.csv").stdout
    assert sandbox.charges == []
    assert run("retry", id, "1").returncode == 0
    assert run("run", id, "--yes", "--budget-usd", "5").returncode == 1
    assert _videos(folder) == ["one.es.mp4"]
    done = run("retry", id, "9")
    assert done.returncode == 2
    assert "row 9: there is none." in done.stderr


def test_a_row_that_was_charged_waits_for_the_user_and_is_paid_again_on_their_word(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    write_rows(folder, "one", languages=["fr"])
    sandbox.add_fault(_failing(charged=True))
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 1, (done.stdout, done.stderr)
    id = _id_in(done)
    assert "What needs you:" in run("show", id).stdout
    done = run("retry", id)
    assert done.returncode == 2
    assert "they are paid again" in done.stdout
    assert run("retry", id, "--yes").returncode == 0
    assert run("run", id, "--yes", "--budget-usd", "5").returncode == 0
    assert _videos(folder) == ["one.fr.mp4"]
    assert len(sandbox.charges) == 2


def _failing(*, charged: bool) -> Fault:
    return Fault.model_validate({"method": "POST", "path": "/v2/generate", "job": "fail", "charged": charged})


def test_where_a_file_is_wrong_by_now_it_is_said_how_what_was_begun_of_it_goes_on(
    run: Run, folder: Path
) -> None:
    id = _id_in(run("plan", "course.csv"))
    assert run("approve", id, "--yes").returncode == 0
    (folder / "lessons" / "one.mp4").unlink()
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 2
    assert f"`sync-mcp campaign run {id}` goes on with what was planned of it before." in done.stderr


def test_a_retry_of_what_has_become_dearer_is_asked_about(run: Run, folder: Path, sandbox: Sandbox) -> None:
    write_rows(folder, "one", languages=["fr"])
    dearer: list[dict[str, float]] = [{"estimatedFrameCount": 200, "estimatedGenerationCost": 0.4}]
    analyze = {"method": "POST", "path": "/v2/analyze/cost", "status": 200, "body": dearer, "times": None}
    sandbox.add_fault(Fault.model_validate(analyze))
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert (done.returncode, "1 dearer than planned" in done.stdout) == (3, True)
    done = run("retry", _id_in(done))
    assert done.returncode == 2
    assert "1 row costs more than planned, 0.40 USD in place of 0.25 USD" in done.stdout
    assert run("retry", "course.csv", "--yes").returncode == 0
    assert run("run", "course.csv", "--yes", "--budget-usd", "5").returncode == 0
    assert len(sandbox.charges) == 1


def test_a_file_that_is_there_and_is_another_s_stops_the_plan_before_anything_is_paid(
    run: Run, folder: Path, sandbox: Sandbox
) -> None:
    (folder / "course-videos").mkdir()
    (folder / "course-videos" / "one.fr.mp4").write_bytes(b"mine")
    done = run("run", "course.csv", "--yes", "--budget-usd", "5")
    assert done.returncode == 2
    assert "line 3: one.fr.mp4 is in " in done.stderr
    assert "--output" in done.stderr
    assert sandbox.charges == []
    # What an earlier campaign has saved of the same rows is no obstacle, and is not paid again.
    (folder / "course-videos" / "one.fr.mp4").unlink()
    assert run("run", "course.csv", "--yes", "--budget-usd", "5").returncode == 0
    write_rows(folder, "one", "two", "three")
    assert run("run", "course.csv", "--yes", "--budget-usd", "5").returncode == 0
    assert len(sandbox.charges) == 6


@pytest.mark.skipif(os.name != "posix", reason="a terminal is asked for")
def test_on_a_terminal_the_plan_is_asked_about_and_what_has_become_dearer_once_at_the_end(
    folder: Path, run: Run, sandbox: Sandbox
) -> None:
    write_rows(folder, "one")
    # Once the API has the files, it measures more than the plan did, of the first two that it prices.
    dearer: list[dict[str, float]] = [{"estimatedFrameCount": 200, "estimatedGenerationCost": 0.4}]
    sandbox.add_fault(
        Fault.model_validate(
            {"method": "POST", "path": "/v2/analyze/cost", "status": 200, "body": dearer, "times": None}
        )
    )
    terminal, line = os.openpty()
    os.write(terminal, b"y\ny\n")
    done = run("run", "course.csv", stdin=line)
    os.close(line)
    os.close(terminal)
    assert done.returncode == 0, (done.stdout, done.stderr)
    told = done.stdout
    assert told.index("2 videos for about 0.50 USD") < told.index(
        "2 rows cost more than planned, 0.80 USD in place of 0.50 USD"
    )
    assert len(sandbox.charges) == 2


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is asked for")
def test_killed_in_the_middle_it_goes_on_and_pays_and_saves_each_row_once(
    run: Run, folder: Path, environment: dict[str, str], sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=2.0, concurrency=3)
    write_rows(folder, "one", "two", "three", "four", languages=["es", "fr", "de"])
    words = [str(COMMAND), "campaign", "run", "course.csv", "--yes", "--budget-usd", "50"]
    with start_forked(words, environment) as first:
        assert first.stderr is not None
        # It is killed as soon as it has saved something, while others run.
        while b"saved as" not in first.stderr.readline():
            assert first.poll() is None
        first.kill()
    assert 0 < len(sandbox.charges) < 12
    done = run(*words[2:])
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert len(_videos(folder)) == 12
    assert len(sandbox.charges) == len({charge.idempotency_key for charge in sandbox.charges}) == 12


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is asked for")
def test_ctrl_c_says_how_it_goes_on_and_ends_with_130(
    folder: Path, environment: dict[str, str], sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=100.0)
    words = [str(COMMAND), "campaign", "run", "course.csv", "--yes", "--budget-usd", "50"]
    running = subprocess.Popen(
        words, env=environment, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while len(sandbox.charges) < 4:
        assert running.poll() is None
        time.sleep(SOON_SECONDS)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 130, said
    assert re.search(r"jobs that run go on\. `sync-mcp campaign run c-\w{6}` fetches them", said)
    assert "Traceback" not in said
