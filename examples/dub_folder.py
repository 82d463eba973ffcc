"""Dub every clip of a folder, unattended and within a budget; run again, it goes on where it stopped.

    SYNC_API_KEY=... python examples/dub_folder.py ~/Movies/course --voice "Warm Narrator" --budget-usd 20

Beside each clip (lesson.mp4) lies what is to be said: a script (lesson.txt), spoken by --voice, or a
recording (lesson.wav, .mp3, .m4a ...). The result comes beside it (lesson.synced.mp4), and what each cost
into costs.csv. A clip with a result is left alone: delete that to make it anew after a change.

The ledger of what was paid lies in the folder too (.dub_folder): the budget is for all runs together, and
what was paid is not paid again, wherever the last run was cut off.

With SYNC_BASE_URL=http://127.0.0.1:8787 SYNC_API_KEY=any it runs on the sandbox (`sync-mcp sandbox`), for
nothing.
"""

import argparse
import asyncio
import csv
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path

from sync_mcp import (
    AsyncSync,
    Audio,
    CreateFields,
    CreateOutcome,
    Guard,
    Ledger,
    Limits,
    LimitReached,
    SyncError,
    Text,
    Video,
)

CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".avi")
SPEECH = (".txt", ".wav", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".flac", ".wma")


@dataclass
class Row:
    """A line of costs.csv; `cost_usd` is empty until the API tells the real cost."""

    clip: str
    generation_id: str = ""
    status: str = ""
    estimate_usd: str = ""
    cost_usd: str = ""
    output: str = ""
    error: str = ""


class Unusable(Exception):
    """What lies beside a clip is not what it takes to dub it."""


class Folder:
    """The clips of a folder, what is said in them, and what became of each."""

    def __init__(self, path: Path, voice: str, model: str, budget_usd: Decimal) -> None:
        self.path, self.voice, self.model = path, voice, model
        self.guard = Guard(Ledger(path / ".dub_folder"), Limits(ever_usd=budget_usd))
        self.costs = path / "costs.csv"
        self.clips = [file for file in sorted(path.iterdir()) if is_clip(file)]
        before = self.read_costs()
        self.rows = {clip: before.get(clip.name, Row(clip.name)) for clip in self.clips}
        self.sent: list[Path] = []

    async def dub(self, sync: AsyncSync) -> bool:
        """Dub what is not dubbed yet, and return whether every clip has its result."""
        if self.voice:
            self.voice = await voice_id(sync, self.voice)
        await self.guard.spending(sync)
        self.write_costs()
        async with sync.generations.create_many(self.requests(sync)) as outcomes:
            async for outcome in outcomes:
                await self.save(sync, self.sent[outcome.index], outcome)
        # By now the API may tell what the jobs have really cost.
        spent = (await self.guard.spending(sync)).ever_usd
        self.write_costs()
        done = sum(bool(row.output) for row in self.rows.values())
        print(f"{done} of {len(self.rows)} clips done, {spent:f} USD spent in all runs: see {self.costs}")
        return done == len(self.rows)

    async def requests(self, sync: AsyncSync) -> AsyncGenerator[CreateFields]:
        """Yield a request for each clip without a result, whenever create_many has room for one."""
        for clip in self.clips:
            row = self.rows[clip]
            if result_of(clip).exists():
                self.note(clip, status="COMPLETED", output=result_of(clip).name, error="")
                continue
            row.output = ""
            if self.was_charged_in_vain(row):
                self.note(
                    clip,
                    error=f"It failed and was charged: delete its line in {self.costs.name} to pay again.",
                )
                continue
            row.status = row.error = ""
            try:
                speech = self.speech_for(clip)
                video = await sync.assets.upload(clip, kind="video")
                if isinstance(speech, Path):
                    speech = Audio(asset_id=(await sync.assets.upload(speech, kind="audio")).id)
            except (Unusable, SyncError) as error:
                self.note(clip, status="NOT SENT", error=told(error))
                continue
            self.sent.append(clip)
            yield {"model": self.model, "input": [Video(asset_id=video.id), speech]}

    def speech_for(self, clip: Path) -> Text | Path:
        """Return what is said in a clip: its script, or the path of its recording.

        Raises:
            Unusable: there is nothing beside the clip, or too much.
        """
        if any(other.stem == clip.stem for other in self.clips if other != clip):
            raise Unusable(f"Another clip is called {clip.stem} too: rename one.")
        beside = [
            file for file in self.path.iterdir() if file.stem == clip.stem and file.suffix.lower() in SPEECH
        ]
        if len(beside) > 1:
            raise Unusable(f"Which one is it? {', '.join(sorted(file.name for file in beside))}: keep one.")
        if not beside:
            raise Unusable(
                f"Put a script, {clip.stem}.txt, or a recording, such as {clip.stem}.wav, beside it."
            )
        file = beside[0]
        if file.suffix.lower() != ".txt":
            return file
        if not self.voice:
            raise Unusable(f"Say with --voice who speaks {file.name}.")
        try:
            script = file.read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"{file.name} cannot be read as UTF-8 text: {error}") from None
        if not script:
            raise Unusable(f"{file.name} is empty.")
        return Text(script=script, voice_id=self.voice)

    def was_charged_in_vain(self, row: Row) -> bool:
        entry = self.entries.get(row.generation_id)
        return entry is not None and entry.status in ("FAILED", "REJECTED") and entry.charged != "no"

    async def save(self, sync: AsyncSync, clip: Path, outcome: CreateOutcome) -> None:
        """Download what was made of a clip."""
        job = outcome.generation
        try:
            if outcome.error is not None or job is None:
                raise outcome.error or AssertionError("neither a job nor an error")
            await sync.generations.download(job.id, result_of(clip))
        except SyncError as error:
            status = job.status if job else "NOT SENT" if error.money_spent == "no" else "UNKNOWN"
            self.note(clip, generation_id=job.id if job else "", status=status, error=told(error))
        else:
            self.note(clip, generation_id=job.id, status=job.status, output=result_of(clip).name)

    def note(self, clip: Path, **cells: str) -> None:
        row = self.rows[clip]
        for name, value in cells.items():
            setattr(row, name, value)
        print(f"{clip.name}: {row.error or row.output}", flush=True)
        self.write_costs()

    def read_costs(self) -> dict[str, Row]:
        names = [field.name for field in fields(Row)]
        if not self.costs.exists():
            return {}
        with self.costs.open(encoding="utf-8", newline="") as file:
            lines = [{name: line.get(name) or "" for name in names} for line in csv.DictReader(file)]
        return {line["clip"]: Row(**line) for line in lines}

    def write_costs(self) -> None:
        """Write costs.csv, with the amounts that the ledger has by now."""
        self.entries = {entry.generation_id: entry for entry in self.guard.ledger.entries(limit=None)}
        part = self.costs.with_suffix(".part")
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, [field.name for field in fields(Row)])
                table.writeheader()
                for row in self.rows.values():
                    entry = self.entries.get(row.generation_id)
                    if entry is not None:
                        row.estimate_usd, row.cost_usd = amount(entry.estimate_usd), amount(entry.cost_usd)
                    table.writerow(asdict(row))
            part.replace(self.costs)
        except OSError as error:
            # Such as while a spreadsheet has it open: the next one has all of it.
            print(f"{self.costs.name} cannot be written now: {error}", file=sys.stderr)


def is_clip(file: Path) -> bool:
    is_result = file.stem.endswith(".synced")
    return file.suffix.lower() in CLIPS and not is_result and not file.name.startswith(".")


def result_of(clip: Path) -> Path:
    return clip.with_suffix(".synced.mp4")


def amount(usd: Decimal | None) -> str:
    return "" if usd is None else f"{usd:f}"


def told(error: Exception) -> str:
    if isinstance(error, LimitReached):
        return error.message.split(". ")[0].replace("SYNC_MCP_BUDGET_USD", "--budget-usd")
    return f"{error.message} {error.next_step}".strip() if isinstance(error, SyncError) else str(error)


async def voice_id(sync: AsyncSync, wanted: str) -> str:
    """Return the id of the voice with this id or name."""
    voices = await sync.voices.list()
    found = [voice for voice in voices if wanted.lower() in (voice.id.lower(), (voice.name or "").lower())]
    if len(found) != 1:
        names = ", ".join(sorted(f"{voice.name} ({voice.id})" for voice in found or voices)[:20])
        sys.exit(f"--voice takes the name or the id of one voice, such as: {names}")
    return found[0].id


def dollars(text: str) -> Decimal:
    try:
        return Limits(ever_usd=Decimal(text)).ever_usd or Decimal(0)
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError("give an amount of US dollars, such as 20") from None


async def main() -> int:
    parser = argparse.ArgumentParser(description="Dub every clip of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voice", default="", help="who speaks the scripts: the name or id of a voice")
    parser.add_argument("--budget-usd", type=dollars, required=True, help="pay no more than this in all runs")
    parser.add_argument("--model", default="lipsync-2")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    folder = Folder(given.folder, given.voice, given.model, given.budget_usd)
    # An outage of some minutes is waited out.
    async with AsyncSync(guard=folder.guard, timeout=600, max_retries=50) as sync:
        return 0 if await folder.dub(sync) else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except SyncError as error:
        sys.exit(f"{error} {error.next_step}")
    except KeyboardInterrupt:
        sys.exit("Stopped; the jobs that run go on. Run it again to fetch them and do the rest.")
