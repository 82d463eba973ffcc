"""Dub every clip of a folder, unattended and within a budget; run again, it goes on where it stopped.

    SYNC_API_KEY=... python examples/dub_folder.py ~/course --voice "Ada - calm narrator" --budget-usd 20

Beside each clip (lesson.mp4) lies what is to be said: a script (lesson.txt), spoken by --voice, or a
recording (lesson.wav, .mp3 ...). The result comes beside it (lesson.synced.mp4), and what became of each and
what it cost into report.csv and report.html. A clip with a result is left alone: delete the result to make it
anew after a change.

The ledger of what was paid lies in the folder too (.dub_folder): the budget is for all runs together, and
what was paid is not paid again, wherever the last run was cut off. With SYNC_API_KEY=any and
SYNC_BASE_URL=http://127.0.0.1:8787 it runs on the sandbox (`sync-mcp sandbox`), for nothing.
"""

import argparse
import asyncio
import csv
import sys
from decimal import Decimal
from pathlib import Path

from sync_mcp import AsyncSync, Campaigns, Guard, Ledger, Limits, SyncError
from sync_mcp.campaigns.rows import Campaign, Row


async def dub(campaigns: Campaigns, folder: Path, voice: str | None, model: str) -> bool:
    """Dub what is not dubbed yet, and return whether every clip has its result."""
    takes = read_takes(folder / "report.csv")
    # An outage of some minutes is waited out.
    async with AsyncSync(guard=campaigns.guard, timeout=600, max_retries=50) as sync:
        for earlier in await campaigns.list():
            if earlier.state in ("approved", "waiting", "paused"):
                # What it has begun is fetched still; all else is planned as the folder is now.
                await campaigns.stop(earlier.id)
        plan = await campaigns.plan(sync, folder, voice=voice, output=folder, model=model, keep_going=True)
        id = plan.campaign.id
        await (campaigns.resume(id) if plan.campaign.approved_at else campaigns.approve(id))
        charged = [row for row in plan.rows if row.state == "charged"]
        await campaigns.retry(id, [row.number for row in charged if takes.get(row.clip, 1) > row.take])
        await campaigns.run(sync, on_turn=tell, on_wait=lambda other: print(f"Waiting for {other}."))
        spent = (await campaigns.guard.spending(sync)).ever_usd
    try:
        await campaigns.report(id)
    except SyncError as error:
        print(f"report.csv cannot be written, is it open elsewhere? {error.whole_message}", file=sys.stderr)
    rows = await campaigns.rows(id)
    for row in rows:
        if row.state != "saved":
            tell(plan.campaign, row)
        if row.state == "charged":
            print(f"  To pay again write take {row.take + 1} into its line of report.csv.")
    done = sum(row.state == "saved" for row in rows)
    print(f"{done} of {len(rows)} clips done, {spent:f} USD spent in all runs: see {folder / 'report.csv'}")
    return done == len(rows)


def tell(_: Campaign, row: Row) -> None:
    print(f"{row.clip}: {row.error or row.state}", flush=True)


def read_takes(table: Path) -> dict[str, int]:
    """Return the take of each clip as it stands in the table of the last run, where that can be read."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return {line["clip"]: int(line["take"]) for line in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}


def main() -> int:
    parser = argparse.ArgumentParser(description="Dub every clip of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voice", help="who speaks the scripts: a voice's name or id")
    parser.add_argument("--budget-usd", type=float, required=True, help="most that all runs may cost")
    parser.add_argument("--model", default="lipsync-2")
    given = parser.parse_args()
    if not given.folder.is_dir() or not 0 <= given.budget_usd <= 1_000_000:
        parser.error("give a folder, and a budget from 0 to 1000000")
    limits = Limits(ever_usd=Decimal(str(given.budget_usd)))
    campaigns = Campaigns(Guard(Ledger(given.folder / ".dub_folder"), limits))
    return 0 if asyncio.run(dub(campaigns, given.folder, given.voice, given.model)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Jobs that run go on; the next run fetches them and does the rest.")
