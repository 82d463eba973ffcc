"""`make campaign`: 60 clips in 3 languages, by real processes that are killed, stopped and doubled.

First a quiet run, of which is measured how busy the account's slots are and how often the API is asked; then
one that is killed again and again, whose runner sleeps for a minute while another takes over, and whose day's
budget ends in the middle. What was charged is judged by the sandbox's own record.
Last, 5,000 rows are planned.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from urllib.request import urlopen

from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.rows import Campaign
from sync_mcp.payments.ledger import Ledger
from sync_mcp.sandbox import Sandbox
from tests.campaigns.trial.plans import plan_many

_CLIPS, _LANGUAGES = 60, ("es", "fr", "de")
_SLOTS = 15
_JOB_SECONDS = 10.0
_HURRIED_JOB_SECONDS = 3.0
_STOPPED_SECONDS = 60.0
_RUN_SECONDS = 900.0
_SILENT_SECONDS = 90.0
"""A row in doubt is looked for again within these."""
_DAY_SECONDS = 86_400.0
_BUSY, _REQUESTS = 0.97, 3.0


class Trial:
    """One campaign of 180 rows, and the processes that have it made."""

    def __init__(self, folder: Path, sandbox: Sandbox, day_usd: str | None = None) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.environment = {
            **os.environ,
            "SYNC_MCP_HOME": str(folder / "home"),
            "SYNC_API_KEY": "trial",
            "SYNC_BASE_URL": sandbox.url,
        }
        if day_usd is not None:
            self.environment["SYNC_MCP_BUDGET_USD_PER_DAY"] = day_usd
        self.table = folder / "course.csv"
        self._started = 0
        self._id: str | None = None
        self._make_clips()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a run of the campaign, by its id once there is one: the plan is not made anew each time."""
        self._started += 1
        # Once it is known: a runner that sleeps may have the ledger locked.
        self._id = self._id or next((each.id for each in self._list_campaigns()), None)
        named = self._id or str(self.table)
        command = [sys.executable, "-m", "sync_mcp", "campaign", "run", named, "--yes"]
        with (self.folder / f"run-{self._started}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, "--budget-usd", "100"], env=self.environment, stdout=log, stderr=log
            )

    def count_saved(self) -> int:
        """Return how many rows are saved by now."""
        with self._open_book() as book:
            return sum(book.count(each).of(["saved"]) for each in book.list_campaigns())

    def _list_campaigns(self) -> list[Campaign]:
        if not Ledger(self.folder / "home").exists():
            return []
        with self._open_book() as book:
            return book.list_campaigns()

    @contextmanager
    def _open_book(self) -> Generator[CampaignBook]:
        ledger = Ledger(self.folder / "home")
        try:
            yield CampaignBook(ledger.store)
        finally:
            ledger.close()

    def judge(self) -> list[str]:
        """Return what is wrong with how it ended."""
        rows = _CLIPS * len(_LANGUAGES)
        charges = self.sandbox.charges
        keys = Counter(charge.idempotency_key for charge in charges)
        videos = [path for path in (self.folder / "course-videos").iterdir() if path.suffix == ".mp4"]
        found = {
            f"{len(charges)} charges for {rows} rows": len(charges) != rows,
            f"{len(keys)} keys for {rows} rows": len(keys) != rows,
            f"{self.count_saved()} rows are saved": self.count_saved() != rows,
            f"{len(videos)} videos lie in the folder": len(videos) != rows,
            "there is no report": not (self.folder / "course-videos" / "report.html").exists(),
        }
        return [*(fault for fault, is_so in found.items() if is_so), *self._tell_unsaved()]

    def _tell_unsaved(self) -> list[str]:
        with self._open_book() as book:
            return [
                f"row {row.number} is {row.state} after {row.begun} begun: {row.error}"
                for each in book.list_campaigns()
                for row in book.rows(each)
                if row.state != "saved"
            ]

    def _make_clips(self) -> None:
        with urlopen(self.sandbox.samples.speaking) as answer:
            clip: bytes = answer.read()
        lines = ["video,language"]
        for number in range(_CLIPS):
            # Another content each, by an empty box at its end: else all were one asset and one job.
            box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
            (self.folder / f"clip-{number:02}.mp4").write_bytes(clip + box)
            lines += [f"clip-{number:02}.mp4,{language}" for language in _LANGUAGES]
        self.table.write_text("\n".join(lines), encoding="utf-8")


def run_quietly(job_seconds: float) -> list[str]:
    """Have it made without a mishap; tell how busy the slots were, and how often the API was asked."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(plan="scale", concurrency=_SLOTS, job_seconds=job_seconds) as sandbox,
    ):
        trial = Trial(Path(folder), sandbox)
        code = trial.start().wait(_RUN_SECONDS)
        rows = _CLIPS * len(_LANGUAGES)
        sent = sorted(charge.at.timestamp() for charge in sandbox.charges)
        busy = rows * job_seconds / _SLOTS / (sent[-1] + job_seconds - sent[0])
        asked = [one for one in sandbox.requests if one.path.startswith("/v2/")]
        uploads = [one for one in asked if one.path.startswith("/v2/assets")]
        # The plan asks for the price of each row once.
        made_by = len(asked) - len(uploads) - rows
        print(f"slots busy               {busy:.3f} (at least {_BUSY}), jobs of {job_seconds:g} s")
        print(f"requests for each row    {made_by / rows:.2f} (at most {_REQUESTS})")
        print(f"  besides                1 for each row for the plan, {len(uploads)} for {_CLIPS} uploads")
        for what, number in Counter(f"{one.method} {_shape(one.path)}" for one in asked).most_common(8):
            print(f"  {what:40} {number}")
        faults = trial.judge()
        if code:
            faults.append(f"it ended with {code}")
        if busy < _BUSY:
            faults.append(f"the slots were busy for {busy:.3f} of the time")
        if made_by > _REQUESTS * rows:
            faults.append(f"the API was asked {made_by} times for {rows} rows")
        return faults


def run_with_mishaps(kills: int, random: Random) -> list[str]:
    """Have it made by runners that are killed, stopped and doubled, over two days' budgets."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(plan="scale", concurrency=_SLOTS, job_seconds=_HURRIED_JOB_SECONDS) as sandbox,
    ):
        # 180 rows at 0.25 USD: the first day ends after about two thirds of them.
        trial = Trial(Path(folder), sandbox, day_usd="30")
        for _ in range(kills):
            _kill_in_the_middle(trial, random)
        print(f"killed                   {kills} times, {len(sandbox.charges)} charges by then")
        sleeper = trial.start()
        time.sleep(8)
        sleeper.send_signal(signal.SIGSTOP)
        other = trial.start()
        time.sleep(_STOPPED_SECONDS)
        sleeper.send_signal(signal.SIGCONT)
        print(f"stopped for a minute     {len(sandbox.charges)} charges by then")
        _await_budget(trial, [sleeper, other])
        spent = sum(charge.amount_usd for charge in sandbox.charges)
        print(f"a day's budget           {spent:f} USD of 30 USD charged")
        faults = [f"{spent} USD were charged on a day with a budget of 30"] if spent > 30 else []
        sandbox.advance(_DAY_SECONDS)
        code = trial.start().wait(_RUN_SECONDS)
        if code:
            faults.append(f"the last run ended with {code}")
        return [*faults, *trial.judge()]


def _kill_in_the_middle(trial: Trial, random: Random) -> None:
    """Kill a run once it has paid for some more rows, at whatever it does then."""
    # A day's budget, which is to end later, has room for 120.
    charged = min(len(trial.sandbox.charges) + random.randint(1, 3), 110)
    process = trial.start()
    while len(trial.sandbox.charges) < charged and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 1))
    process.kill()
    process.wait()


def _await_budget(trial: Trial, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until nothing more is charged, and end the runners, which wait for the next day."""
    charged, since = -1, time.monotonic()
    while time.monotonic() - since < _SILENT_SECONDS:
        time.sleep(1)
        if len(trial.sandbox.charges) != charged:
            charged, since = len(trial.sandbox.charges), time.monotonic()
    for process in processes:
        process.kill()
        process.wait()


def _shape(path: str) -> str:
    return "/".join("ID" if len(part) > 20 else part for part in path.split("/"))


def main() -> int:
    """Run all; return 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("quiet", "mishaps", "plans"))
    given = parser.parse_args()
    faults: list[str] = []
    if given.only in (None, "quiet"):
        faults += run_quietly(_JOB_SECONDS)
    if given.only in (None, "mishaps"):
        faults += run_with_mishaps(given.kills, Random(given.seed))
    if given.only in (None, "plans"):
        faults += plan_many()
    print("\n".join(faults) or "It is as it should be.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
