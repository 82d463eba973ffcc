"""Dub every clip of a folder, unattended and within a budget; run again, it goes on where it stopped.

    SYNC_API_KEY=... python examples/dub_folder.py ~/Downloads/course --voice "Ada - warm" --budget-usd 20

Beside each clip (lesson.mp4) lies what is to be said: a script (lesson.txt), spoken by --voice, or a
recording (lesson.wav, .mp3 ...). The result comes beside it (lesson.synced.mp4), and what it cost into
costs.csv. A clip with a result is left alone: delete the result to make it anew after a change.

The ledger of what was paid lies in the folder too (.dub_folder): the budget is for all runs together, and
what was paid is not paid again, wherever the last run was cut off. With SYNC_API_KEY=any and
SYNC_BASE_URL=http://127.0.0.1:8787 it runs on the sandbox (`sync-mcp sandbox`), for nothing.
"""

import argparse
import asyncio
import csv
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Literal

from sync_mcp import (
    AsyncSync,
    Audio,
    CreateFields,
    CreateOutcome,
    Guard,
    Ledger,
    LimitReached,
    Limits,
    SyncError,
    Text,
    Video,
)

CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".avi")
SPEECH = (".txt", ".wav", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".flac", ".wma")
# The real cost is empty until the API tells it.
COLUMNS: tuple[str, ...] = (
    "clip",
    "take",
    "generation_id",
    "status",
    "estimate_usd",
    "cost_usd",
    "output",
    "error",
)


class Folder:
    """The clips of a folder, what is said in them, and what became of each."""

    def __init__(self, path: Path, voice: str, model: str, budget_usd: Decimal) -> None:
        self.path, self.voice, self.model = path, voice, model
        self.guard = Guard(Ledger(path / ".dub_folder"), Limits(ever_usd=budget_usd))
        self.costs = path / "costs.csv"
        self.clips = [file for file in sorted(path.iterdir()) if is_clip(file)]
        self.rows = {clip: dict.fromkeys(COLUMNS, "") | {"clip": clip.name} for clip in self.clips}
        with suppress(FileNotFoundError), self.costs.open(encoding="utf-8-sig", errors="replace") as file:
            for line in csv.DictReader(file):
                row = self.rows.get(path / (line.get("clip") or "?"), {})
                row |= {name: line.get(name) or "" for name in COLUMNS}
        self.sent: list[Path] = []
        self.uploaded = path / ".dub_folder" / "assets.json"
        self.assets: dict[str, str] = {}
        with suppress(FileNotFoundError, ValueError):
            self.assets = json.loads(self.uploaded.read_text(encoding="utf-8"))

    async def dub(self, sync: AsyncSync) -> bool:
        """Dub what is not dubbed yet, and return whether every clip has its result."""
        self.voice = self.voice and await voice_id(sync, self.voice)
        # Each time the ledger learns what the jobs before have really cost.
        await self.guard.spending(sync)
        self.write_costs()
        async with sync.generations.create_many(self.requests(sync)) as outcomes:
            async for outcome in outcomes:
                await self.save(sync, self.sent[outcome.index], outcome)
        spent = (await self.guard.spending(sync)).ever_usd
        self.write_costs()
        done = sum(bool(row["output"]) for row in self.rows.values())
        print(f"{done} of {len(self.rows)} clips done, {spent:f} USD spent in all runs: see {self.costs}")
        return done == len(self.rows)

    async def requests(self, sync: AsyncSync) -> AsyncGenerator[CreateFields]:
        """Yield a request for each clip without a result, whenever create_many has room for one."""
        for clip in self.clips:
            row = self.rows[clip]
            row["output"] = result_of(clip).name if result_of(clip).exists() else ""
            if row["output"]:
                self.note(clip, status="COMPLETED", error="")
                continue
            job = self.entries.get(row["generation_id"])
            take = int(row["take"]) if row["take"].isdecimal() else 1
            if job and job.status in ("FAILED", "REJECTED") and job.charged != "no" and take <= job.take:
                self.note(clip)
                print(
                    "  It was charged, or may be, which is known ten minutes after its end: to pay again "
                    f"write take {take + 1} into its line of {self.costs.name}."
                )
                continue
            row |= {"generation_id": "", "status": "", "estimate_usd": "", "cost_usd": "", "error": ""}
            try:
                speech = self.speech_for(clip)
                video = Video(asset_id=await self.asset_id(sync, clip, "video"))
                if isinstance(speech, Path):
                    speech = Audio(asset_id=await self.asset_id(sync, speech, "audio"))
            except ValueError as error:
                self.note(clip, status="NOT SENT", error=str(error))
            except SyncError as error:
                self.note(clip, status="NOT SENT", error=f"{error.whole_message} {error.next_step}".strip())
            else:
                self.sent.append(clip)
                yield {"model": self.model, "input": [video, speech], "take": take}

    async def asset_id(self, sync: AsyncSync, file: Path, kind: Literal["video", "audio"]) -> str:
        """Upload a file, once: from another asset it would be another job, and paid again."""
        content = content_mark(file)
        if content not in self.assets:
            self.assets[content] = (await sync.assets.upload(file, kind=kind)).id
            self.uploaded.write_text(json.dumps(self.assets), encoding="utf-8")
        return self.assets[content]

    def speech_for(self, clip: Path) -> Text | Path:
        """Return a clip's script, or the path of its recording; a ValueError says why there is none."""
        if sum(other.stem == clip.stem for other in self.clips) > 1:
            raise ValueError(f"Another clip is called {clip.stem} too: rename one.")
        alike = sorted(file for file in self.path.iterdir() if file.stem == clip.stem)
        beside = [file for file in alike if file.suffix.lower() in SPEECH]
        if len(beside) != 1:
            found = " and ".join(file.name for file in beside) or "neither"
            raise ValueError(f"Put {clip.stem}.txt or {clip.stem}.wav beside it, not both; there is {found}.")
        file = beside[0]
        if file.suffix.lower() != ".txt":
            return file
        if not self.voice:
            raise ValueError(f"Say with --voice who speaks {file.name}.")
        try:
            script = file.read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.name} cannot be read as UTF-8 text: {error}") from None
        if not script:
            raise ValueError(f"{file.name} is empty.")
        return Text(script=script, voice_id=self.voice)

    async def save(self, sync: AsyncSync, clip: Path, outcome: CreateOutcome) -> None:
        """Download what was made of a clip, and note how it went."""
        job = outcome.last_seen
        if job:
            self.rows[clip] |= {"generation_id": job.id, "status": job.status}
        try:
            if outcome.error:
                raise outcome.error
            job = outcome.generation
            self.note(clip, output=(await sync.generations.download(job.id, result_of(clip))).name)
        except LimitReached as error:
            reason = error.message
            if error.price_usd is not None:
                reason = (
                    f"It would cost {error.price_usd:f} USD, and of the budget of {error.limit_usd:f} USD "
                    f"(--budget-usd) {error.left_usd:f} USD is left."
                )
            self.note(clip, status="NOT SENT", error=reason)
        except SyncError as error:
            if (error.api_code or "").startswith("asset_"):
                # One was deleted in the account: the next run uploads anew.
                self.uploaded.unlink(missing_ok=True)
            status = job.status if job else "NOT SENT" if error.money_spent == "no" else "UNKNOWN"
            self.note(clip, status=status, error=f"{error.whole_message} {error.next_step}".strip())

    def note(self, clip: Path, **cells: str) -> None:
        row = self.rows[clip]
        row |= cells
        print(f"{clip.name}: {row['error'] or row['output']}", flush=True)
        self.write_costs()

    def write_costs(self) -> None:
        """Write costs.csv, with the amounts that the ledger has by now."""
        self.entries = {entry.generation_id: entry for entry in self.guard.ledger.entries(limit=None)}
        for row in self.rows.values():
            if job := self.entries.get(row["generation_id"]):
                row["estimate_usd"] = "" if job.estimate_usd is None else f"{job.estimate_usd:f}"
                row["cost_usd"] = "" if job.cost_usd is None else f"{job.cost_usd:f}"
        try:
            part = self.costs.with_suffix(".part")
            with part.open("w", encoding="utf-8-sig", newline="") as file:
                table = csv.DictWriter(file, COLUMNS)
                table.writeheader()
                table.writerows(self.rows.values())
            part.replace(self.costs)
        except OSError as error:
            print(f"{self.costs.name} cannot be written, is it open elsewhere? {error}", file=sys.stderr)


def is_clip(file: Path) -> bool:
    return file.suffix.lower() in CLIPS and file.name[0] != "." and not file.stem.endswith(".synced")


def result_of(clip: Path) -> Path:
    return clip.with_suffix(".synced.mp4")


def content_mark(file: Path) -> str:
    """Return what tells a file from itself after a change."""
    status = file.stat()
    return f"{file.name} {status.st_size} {status.st_mtime_ns}"


async def voice_id(sync: AsyncSync, wanted: str) -> str:
    """Return the id of the only voice by this id, or with these words in its name."""
    voices = await sync.voices.list()
    found = [voice for voice in voices if wanted == voice.id or wanted.lower() in (voice.name or "").lower()]
    if len(found) != 1:
        names = ", ".join(f"{voice.name} ({voice.id})" for voice in (found or voices)[:20])
        sys.exit(f"{len(found)} voices are called {wanted!r}; name one, such as: {names}")
    return found[0].id


async def main() -> int:
    parser = argparse.ArgumentParser(description="Dub every clip of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voice", default="", help="who speaks the scripts: a voice's name or id")
    parser.add_argument("--budget-usd", type=float, required=True, help="most that all runs may cost")
    parser.add_argument("--model", default="lipsync-2")
    given = parser.parse_args()
    if not given.folder.is_dir() or not 0 <= given.budget_usd <= 1_000_000:
        parser.error("give a folder, and a budget from 0 to 1000000")
    folder = Folder(given.folder, given.voice, given.model, Decimal(str(given.budget_usd)))
    # An outage of some minutes is waited out.
    async with AsyncSync(guard=folder.guard, timeout=600, max_retries=50) as sync:
        return 0 if await folder.dub(sync) else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Jobs that run go on; the next run fetches them and does the rest.")
