"""A campaign in cells that can be run one by one, as in a notebook: planned, agreed to, made, reported on.

    SYNC_API_KEY=... python examples/campaign.py ~/Movies/course 20 es fr

It dubs every .mp4 of the folder into the languages, for 20 USD at most. Run again it goes on from there;
what was paid is not paid again. With SYNC_API_KEY=any and SYNC_BASE_URL=http://127.0.0.1:8787 it runs on the
sandbox (`sync-mcp sandbox`), for nothing. In a notebook, write the folder, the budget and the languages
into the first cell.
"""

# %% What is to be made
import csv
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from sync_mcp import AsyncSync, Campaigns, Guard, Ledger, SyncError
from sync_mcp.campaigns.table import Table, cross_languages

if len(sys.argv) < 4:
    sys.exit("Name a folder of clips, the most that it may cost in USD, and languages.")
folder, budget, languages = Path(sys.argv[1]), Decimal(sys.argv[2]), sys.argv[3:]
clips = [str(clip) for clip in sorted(folder.absolute().glob("*.mp4"))]
campaigns = Campaigns(Guard(Ledger()))
ResultT = TypeVar("ResultT")


def do(work: Callable[[AsyncSync], Awaitable[ResultT]]) -> ResultT:
    """Do what asks the API, and wait for it: in a script, and in a notebook, whose own loop is at work."""

    async def with_client() -> ResultT:
        # An outage of some minutes is waited out.
        async with AsyncSync(guard=campaigns.guard, timeout=600, max_retries=50) as sync:
            return await work(sync)

    try:
        with start_blocking_portal() as portal:
            return portal.call(with_client)
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Jobs that run go on; the next run fetches them and does the rest.")


# %% What it costs; nothing is paid
rows = Table(cross_languages(clips, languages))
plan = do(lambda sync: campaigns.plan(sync, folder, table=rows, budget_usd=budget))
print(f"Videos: {len(plan.rows)}, for {plan.campaign.total_usd:f} USD.", *plan.notes)

# %% The yes, and the work; it may take a night, and be stopped and run again
if plan.campaign.state != "ended":
    do(lambda _: campaigns.approve(plan.campaign.id, budget_usd=budget))
    do(lambda sync: campaigns.run(sync, on_turn=lambda _, row: print(f"{row.about}: {row.state}")))

# %% How it went
report = do(lambda _: campaigns.report(plan.campaign.id))
with report.csv.open(encoding="utf-8-sig", newline="") as table:
    for row in csv.DictReader(table):
        print(row["clip"], row["language"], row["status"], row["cost_usd"], row["error"])
told = do(lambda _: campaigns.progress(plan.campaign.id))
print(f"{told.money.spent:f} USD spent, {told.money.held:f} USD held.", told.campaign.reason or "")
print(report.html)
if sys.stdout.isatty():
    webbrowser.open(report.html.as_uri())
if told.counts.of(["saved"]) != told.counts.all:
    sys.exit(1)
