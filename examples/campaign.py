"""A campaign in parts that can be run one by one, as in a notebook: planned, agreed to, made, reported on.

    SYNC_API_KEY=... python examples/campaign.py ~/Movies/course 20 es fr

It dubs every .mp4 of the folder into the languages, for 20 USD at most. Run again it goes on from there;
what was paid is not paid again. With SYNC_API_KEY=any and SYNC_BASE_URL=http://127.0.0.1:8787 it runs on the
sandbox (`sync-mcp sandbox`), for nothing.
"""

# %% What is to be made
import asyncio
import csv
import sys
import webbrowser
from collections import Counter
from decimal import Decimal
from pathlib import Path

from sync_mcp import AsyncSync, Campaigns, Guard, Ledger, SyncError

if len(sys.argv) < 4:
    sys.exit("Name a folder of clips, the most that it may cost in USD, and languages.")
folder, budget, languages = Path(sys.argv[1]), Decimal(sys.argv[2]), sys.argv[3:]
rows = [(clip.name, language) for clip in sorted(folder.glob("*.mp4")) for language in languages]
table = folder / "course.csv"
with table.open("w", encoding="utf-8", newline="") as file:
    csv.writer(file).writerows([("video", "language"), *rows])
campaigns = Campaigns(Guard(Ledger()))


# %% What it costs; nothing is paid
async def plan() -> str:
    async with AsyncSync() as sync:
        planned = await campaigns.plan(sync, table, budget_usd=budget)
    print(f"{len(planned.rows)} videos for {planned.campaign.total_usd:f} USD.", *planned.notes)
    return planned.campaign.id


# %% The yes, and the work; it may take a night, and be stopped and run again
async def make(id: str) -> None:
    await campaigns.approve(id, budget_usd=budget)
    # An outage of some minutes is waited out.
    async with AsyncSync(guard=campaigns.guard, timeout=600, max_retries=50) as sync:
        await campaigns.run(sync, on_turn=lambda _, row: print(f"{row.about}: {row.state}"))


# %% How it went
async def main() -> int:
    id = await plan()
    if (await campaigns.progress(id)).campaign.state != "ended":
        await make(id)
    page = (await campaigns.report(id)).html
    told = await campaigns.progress(id)
    print(
        Counter(dict(told.counts.by_state)), f"{told.money.spent:f} USD spent, {told.money.held:f} USD held."
    )
    print(page)
    if sys.stdout.isatty():
        webbrowser.open(page.as_uri())
    return 0 if told.counts.of(["saved"]) == told.counts.all else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Jobs that run go on; the next run fetches them and does the rest.")
