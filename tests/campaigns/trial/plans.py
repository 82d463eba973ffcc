"""A campaign as large as one can be: what it takes to plan 5,000 rows, and the book of each of their turns.

Run as a program it plans in a process of its own, whose time and memory are the plan's alone: beside its time
stand the processor's seconds, of itself and of its decoders, since other programs take theirs of the clock.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from statistics import median

import anyio
from sqlalchemy import Engine, event, update

from sync_mcp import AsyncSync, Guard, Ledger, Limits
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.campaigns import Campaigns
from sync_mcp.campaigns.rows import Campaign, Row, request_of
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.campaigns.tables import MAKE, ROWS, SAVE, Step
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt, Instant
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.price import Price
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.bench.reservations import multiply_entries

ROWS_PLANNED = 5_000
_FEW_FILES = 60
_SECONDS, _MIB, _SQL_MS = 60.0, 40.0, 10.0
_TURNS = 100
_MOST_USD = Decimal(1_000_000)
_HOLDER = "bench"


def write_clips(folder: Path, number: int) -> None:
    """Write clips of the sandbox's sample, each of another content by an empty box at its end."""
    clip = sample("speaking.mp4").read_bytes()
    for each in range(number):
        box = (16).to_bytes(4, "big") + b"free" + each.to_bytes(8, "big")
        (folder / _clip(each)).write_bytes(clip + box)


def _clip(number: int) -> str:
    return f"clip-{number:04}.mp4"


def plan_many() -> list[str]:
    """Plan 5,000 rows, of few files and of as many different ones; return what takes too much."""
    faults: list[str] = []
    for files in (_FEW_FILES, ROWS_PLANNED):
        with tempfile.TemporaryDirectory() as name, Sandbox(plan="scale") as sandbox:
            folder = Path(name)
            write_clips(folder, files)
            command = [sys.executable, "-m", __spec__.name, sandbox.url, name, str(files)]
            began = time.process_time()
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            found: Mapping[str, float] = json.loads(told)
            sandbox_cpu = time.process_time() - began
        what = f"{ROWS_PLANNED:,} rows of {files:,} files"
        print(f"{what:31} planned in {found['seconds']:.1f} s (at most {_SECONDS:g})")
        print(
            f"  seconds of a processor        {found['cpu']:.1f}, decoders {found['decoders_cpu']:.1f}, "
            f"sandbox {sandbox_cpu:.1f}"
        )
        print(f"  memory beyond one row's plan  {found['mib']:.1f} MiB (at most {_MIB:g})")
        print(
            f"  SQL for a turn                {found['sql_ms']:.1f} ms (at most {_SQL_MS:g}), "
            f"{found['book_ms']:.0f} with the disk"
        )
        bounds = {"seconds": _SECONDS, "mib": _MIB, "sql_ms": _SQL_MS}
        faults += [f"{what}: {name} {found[name]:.1f}" for name, most in bounds.items() if found[name] > most]
    return faults


async def _plan(base_url: str, folder: Path, files: int) -> dict[str, float]:
    ledger = Ledger(folder / "home")
    guard = Guard(ledger, Limits())
    lines = [
        Line(number=number + 1, video=_clip(number % files), language="es", take=number // files + 1)
        for number in range(ROWS_PLANNED)
    ]
    async with AsyncSync(api_key="trial", base_url=base_url, guard=guard) as sync:
        campaigns = Campaigns(guard)
        # All that a plan imports and connects is there afterwards.
        await campaigns.plan(sync, folder, table=Table(lines[:1]), name="one")
        before, own, decoders = _peak_mib(), _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        plan = await campaigns.plan(sync, folder, table=Table(lines), budget_usd=_MOST_USD)
        found = {
            "seconds": time.perf_counter() - began,
            "cpu": _cpu(resource.RUSAGE_SELF) - own,
            "decoders_cpu": _cpu(resource.RUSAGE_CHILDREN) - decoders,
            "mib": _peak_mib() - before,
        }
    assert len(plan.rows) == ROWS_PLANNED
    statements, whole = _turn_seconds(ledger, campaigns.book.approve(plan.campaign.id), plan.rows[0])
    found |= {"sql_ms": statements * 1000, "book_ms": whole * 1000}
    ledger.close()
    return found


def _turn_seconds(ledger: Ledger, campaign: Campaign, row: Row) -> tuple[float, float]:
    """Return what the book takes for a turn, statements alone and with the disk, at the median of some.

    It is that of the first rows or of the last ones, whichever is more.
    """
    book = CampaignBook(ledger.store)
    assert book.hold_runner(campaign.account, campaign.base_url, _HOLDER, "here") is None
    first = _median_turn(book, campaign)
    _pay_for_others(ledger, campaign, row)
    with book.store.transaction() as connection:
        done = ROWS.c.number.between(_TURNS, ROWS_PLANNED - 2 * _TURNS)
        connection.execute(update(ROWS).where(ROWS.c.campaign == campaign.id, done).values(state="saved"))
    return max(first, _median_turn(book, campaign))


def _median_turn(book: CampaignBook, campaign: Campaign) -> tuple[float, float]:
    statements: list[float] = []
    wholes: list[float] = []
    with _time_statements() as times:
        for _ in range(_TURNS):
            times.clear()
            wholes.append(_take_turn(book, campaign))
            statements.append(sum(times))
    return median(statements), median(wholes)


@contextmanager
def _time_statements() -> Generator[list[float]]:
    """Note how long each statement takes."""
    times: list[float] = []

    def begin(*_: object) -> None:
        times.append(-time.perf_counter())

    def end(*_: object) -> None:
        times[-1] += time.perf_counter()

    event.listen(Engine, "before_cursor_execute", begin)
    event.listen(Engine, "after_cursor_execute", end)
    try:
        yield times
    finally:
        event.remove(Engine, "before_cursor_execute", begin)
        event.remove(Engine, "after_cursor_execute", end)


def _pay_for_others(ledger: Ledger, campaign: Campaign, row: Row) -> None:
    """Have the ledger hold an entry for each row: the campaign's budget is held against their sum."""
    act = GenerationAct.of(request_of(row))
    intention = Intention(act, campaign.account, campaign.base_url, ROWS_PLANNED)
    limits, price = Limits(per_day_usd=_MOST_USD), Price(row.price_usd)
    now = Instant(time.time())
    ledger.begin(Attempt(intention, 1, _HOLDER, _HOLDER, limits, now, price, campaign=campaign.id))
    multiply_entries(ledger.file.path, ROWS_PLANNED)


def _take_turn(book: CampaignBook, campaign: Campaign) -> float:
    began = time.perf_counter()
    row = _take(book, campaign, MAKE)
    book.note(row, generation_id=f"job-{row.number}")
    book.note(row, state="made", generation_id=f"job-{row.number}")
    book.note(_take(book, campaign, SAVE), state="saved", saved_as="/video.mp4")
    book.end_if_done(campaign.id)
    book.has_nothing_left(campaign.account, campaign.base_url)
    return time.perf_counter() - began


def _take(book: CampaignBook, campaign: Campaign, step: Step) -> Row:
    taken = book.take_row(campaign.account, campaign.base_url, _HOLDER, f"{_HOLDER}-1", step)
    assert taken is not None
    return taken[1]


def _cpu(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    json.dump(anyio.run(_plan, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])), sys.stdout)
