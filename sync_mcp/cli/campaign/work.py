"""What is seen of a campaign that is made: on a terminal a bar and a line for each row, elsewhere lines."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.rows import TO_DO, Campaign, Row
from sync_mcp.cli.campaign.words import tell_row
from sync_mcp.cli.screen import Screen, is_on_terminal
from sync_mcp.payments.limits import dollars

_ABOUT_COLUMNS = 48


class Telling(Protocol):
    """What is told of a run."""

    def tell_turn(self, campaign: Campaign, row: Row) -> None:
        """A row has begun or ended a turn."""
        ...

    def tell_wait(self, other: str) -> None:
        """Another runner has the account."""
        ...


@contextmanager
def open_telling(book: CampaignBook, campaign: Campaign) -> Generator[Telling]:
    """Have what happens in a run told until it ends."""
    if not is_on_terminal():
        yield _Lines(campaign)
        return
    counts, money = book.count(campaign), book.money(campaign)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Screen(),
        transient=True,
    )
    with progress:
        yield _Bars(
            progress,
            campaign,
            done=counts.all - counts.of(TO_DO),
            total=counts.all,
            made_usd=money.spent + money.held,
        )


class _Lines:
    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def tell_turn(self, campaign: Campaign, row: Row) -> None:
        if row.state not in ("running", "made", "saving"):
            other = "" if campaign.id == self._campaign.id else f"{campaign.id}, "
            # Standard output is for the document or the last words.
            print(f"{other}{tell_row(row)}", file=sys.stderr, flush=True)

    def tell_wait(self, other: str) -> None:
        print(_waits(other), file=sys.stderr, flush=True)


class _Bars:
    def __init__(
        self, progress: Progress, campaign: Campaign, *, done: int, total: int, made_usd: Decimal
    ) -> None:
        self._progress = progress
        self._campaign = campaign
        self._made_usd = made_usd
        self._whole = progress.add_task(self._head, total=total, completed=done)
        self._running: dict[int, TaskID] = {}

    def tell_turn(self, campaign: Campaign, row: Row) -> None:
        if campaign.id != self._campaign.id:
            return
        if row.state == "running":
            if row.number not in self._running:
                self._running[row.number] = self._progress.add_task(
                    f"  {row.about[:_ABOUT_COLUMNS]}", total=None
                )
            return
        if row.state == "made":
            self._made_usd += row.price_usd or Decimal(0)
        task = self._running.pop(row.number, None)
        if task is not None:
            self._progress.remove_task(task)
        if row.state not in TO_DO:
            self._progress.update(self._whole, advance=1, description=self._head)
            self._progress.console.print(Text(tell_row(row)), soft_wrap=True)

    @property
    def _head(self) -> str:
        return f"{self._campaign.name}, {dollars(self._made_usd)} by now"

    def tell_wait(self, other: str) -> None:
        self._progress.console.print(Text(_waits(other)), soft_wrap=True)


def _waits(other: str) -> str:
    return f"Another runner has this account: {other}. Waiting until it ends."
