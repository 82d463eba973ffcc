"""`Campaigns`: many videos by one plan and one approval, planned, approved, run and reported on."""

import logging
import os
import stat
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain, count
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.background.watching import Watcher
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.campaigns.again import is_free_again
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.ends import Ends
from sync_mcp.campaigns.folders import find_speaker, read_folder
from sync_mcp.campaigns.lanes import Runner
from sync_mcp.campaigns.plan import Plan, Terms, make_plan
from sync_mcp.campaigns.priced import note_left
from sync_mcp.campaigns.report import Report, write_report
from sync_mcp.campaigns.rows import Campaign, Money, Row
from sync_mcp.campaigns.sheets import make_sheets
from sync_mcp.campaigns.table import Table, read_table
from sync_mcp.campaigns.tables import Counts
from sync_mcp.campaigns.turns import Workplace
from sync_mcp.errors import FileRefused, InternalError, InvalidRequestError, SyncError
from sync_mcp.media.decoding.look import look_at_many
from sync_mcp.media.inputs import LocalReader
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.payments.attempt import Account
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.limits import HIGHEST_USD
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.kept_lists import KeptLists
from sync_mcp.requests.own_outputs import OwnOutputs
from sync_mcp.texts import FAULT_LIMIT, clean, safe

logger = logging.getLogger("sync_mcp.campaigns")

REPORT_SECONDS = 30.0
"""How often the report is written anew while rows are made."""
_PATH_SHOWN = 200
_USUAL_LANES = 4
"""Where the API does not tell how many jobs an account may have at once."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is.

    Attributes:
        campaign: as it stands.
        counts: how many of its rows are in which state.
        money: what it comes to.
    """

    campaign: Campaign
    counts: Counts
    money: Money


class Campaigns:
    """The campaigns of a ledger: made through a guard, which alone pays.

    Args:
        guard: with the ledger and its limits.
        roots: folders whose files may be read, beside those of a campaign's own file; by default none.
        slots: the most jobs at once; by default, and at most, what the API allows the account.
    """

    def __init__(self, guard: Guard, *, roots: Sequence[Path | str] = (), slots: int | None = None) -> None:
        self.guard = guard
        self._roots = [Path(root).expanduser() for root in roots]
        self._slots = slots
        self.book = CampaignBook(guard.ledger.store)

    async def plan(
        self,
        sync: AsyncSync,
        source: Path | str,
        *,
        table: Table | None = None,
        voice: str | None = None,
        output: Path | str | None = None,
        name: str | None = None,
        model: str | None = None,
        budget_usd: Decimal | None = None,
        max_usd_per_row: Decimal | None = None,
        reads_beside: bool = True,
        keep_going: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Plan:
        """Plan a campaign and keep the plan; nothing is uploaded, made or paid.

        The same plan again, of which something is left to do, is the one that was kept.

        Args:
            sync: the client of the account that pays.
            source: the file with the rows; a folder, each clip of which is said by the script (.txt) or the
                recording of its name beside it; or with `table` what its relative paths lie beside.
            table: the rows, where they stand in no file.
            voice: of a folder, whose voice says the scripts: a name or an id.
            output: the folder for the videos and the report; by default that of `usual_folder`.
            name: what it is called; by default as the file.
            model: for rows that name none.
            budget_usd: the most that all of it may cost.
            max_usd_per_row: what a row counts whose price nobody can tell.
            reads_beside: whether files beside `source` may be read too: whoever names it is the user.
            keep_going: have planned what can be: what is wrong with a row makes it a `refused` one that says
                so, and one whose file is there already is left as that is, whatever it is of. Otherwise each
                of them stops the plan.
            on_progress: is told what is read or priced, how many of how many.

        Raises:
            InvalidRequestError: all that is wrong with the rows, by lines; with `keep_going` what is wrong
                with the file alone. Or an amount is none, or no voice is called so.
            FileRefused: the file cannot be read, or nothing can be written where the videos are to go.
            SyncError: prices or models cannot be told now.
        """
        _check_usd(budget_usd=budget_usd, max_usd_per_row=max_usd_per_row)
        path = await do_in_thread(_whole_path, source)
        facts = _Facts(sync)
        rows = await _read_rows(facts, path, voice) if table is None else table
        folder = await do_in_thread(_folder_for_videos, path, output)
        terms = Terms(
            name=name or path.name,
            source=path if reads_beside else None,
            folder=folder,
            beside=_folder_of(path),
            model=model,
            budget_usd=budget_usd,
            max_usd_per_row=max_usd_per_row,
            keep_going=keep_going,
            on_progress=on_progress,
        )
        async with look_at_many() as look:
            reader = LocalReader(self._roots_of(terms.source, terms.folder), Work(None), look)
            plan = await make_plan(self.guard, facts, reader, rows, terms)
        keep = partial(self.book.keep, plan.campaign, plan.rows, keep_going=keep_going)
        kept = await do_in_thread(keep)
        is_new = kept.id == plan.campaign.id
        if is_new and not keep_going:
            return Plan(kept, plan.rows, plan.notes)
        kept_rows = await do_in_thread(self.book.rows, kept)
        return Plan(kept, kept_rows, [*plan.notes, *(note_left(kept_rows) if is_new else ())])

    async def approve(self, id: str, *, budget_usd: Decimal | None = None) -> Campaign:
        """Note the user's yes to a plan, with the most that it may cost where they say so.

        Raises:
            InvalidRequestError: there is no such plan, it is older than an hour, another video has or is to
                have the name of one of its own, or the amount is none.
        """
        _check_usd(budget_usd=budget_usd)
        return await do_in_thread(partial(self.book.approve, id, budget_usd=budget_usd))

    async def resume(self, id: str) -> Campaign:
        """Have all rows of a campaign made after all for which no more is paid than was agreed to.

        These were skipped, failed free, could not be made or saved, or nobody knows of them; or their files
        are gone. What was or may have been charged, and what costs more than planned, waits for `retry`;
        and a campaign that nobody has agreed to waits for that.

        Raises:
            InvalidRequestError: there is no such campaign.
        """
        return await do_in_thread(partial(self._resume, id))

    def _resume(self, id: str) -> Campaign:
        campaign = self.book.get(id)
        numbers = [row.number for row in self.book.rows(campaign) if is_free_again(row)]
        return self.book.retry(campaign.id, numbers)[0] if numbers else self.book.go_on(campaign.id)

    async def retry(self, id: str, numbers: Sequence[int]) -> Campaign:
        """Have rows of a campaign made after all, by their numbers.

        What was or may have been charged is made and paid again as another take, and what cost more than
        planned goes at the price that was told.

        Raises:
            InvalidRequestError: there is no such campaign or row, or the row needs no retry.
        """
        if not numbers:
            return await do_in_thread(self.book.get, id)
        campaign, _ = await do_in_thread(self.book.retry, id, numbers)
        return campaign

    async def stop(self, id: str) -> Campaign:
        """Skip the rows of a campaign that wait for their turn.

        What was begun is made, paid and fetched: what was sent cannot be called back.

        Raises:
            InvalidRequestError: there is no such campaign.
        """
        campaign, _ = await do_in_thread(self.book.stop, id)
        return campaign

    async def run(
        self,
        sync: AsyncSync,
        *,
        on_turn: Callable[[Campaign, Row], None] | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Have the rows of all approved campaigns of an account made, saved and reported on.

        It ends once none is left that can be made without the user. It may be killed at any moment: the next
        run goes on.

        What it cannot tell `on_turn` is logged, and ends no row.

        Raises:
            SyncError: whose money it is cannot be told now, or the ledger cannot be used.
        """
        account = await self.guard.account(sync)
        while True:
            await self._run_once(sync, account, on_turn, on_wait)
            # What was agreed to while the report was written is made too: it was told that it goes on.
            if await do_in_thread(self.book.has_nothing_left, account.name, account.base_url):
                return

    async def _run_once(
        self,
        sync: AsyncSync,
        account: Account,
        on_turn: Callable[[Campaign, Row], None] | None,
        on_wait: Callable[[str], None] | None,
    ) -> None:
        lanes = await self._count_lanes(sync)
        touched: set[str] = set()

        def note_turn(campaign: Campaign, row: Row) -> None:
            touched.add(campaign.id)
            if on_turn is not None:
                on_turn(campaign, row)

        try:
            async with anyio.create_task_group() as tasks, self._workplace(sync) as place:
                runner = Runner(place, account, lanes, on_turn=note_turn, on_wait=on_wait)
                tasks.start_soon(self._report_now_and_then, touched)
                await runner.run()
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            # Out of task groups errors come in groups: a caller is told one, of this package.
            raise _first_of(group) from group
        # What jobs have cost is known some time after their end: what is told by now is in the report.
        try:
            await self.guard.spending(sync)
        except SyncError as error:
            logger.warning("what the last jobs have cost cannot be told now: %s", error)
        await self._report_all(touched)

    async def report(self, id: str, *, with_pictures: bool = False) -> Report:
        """Write a campaign's report into its folder, and return where it lies.

        Raises:
            InvalidRequestError: there is no such campaign.
            FileRefused: it cannot be written.
        """
        campaign = await do_in_thread(self.book.get, id)
        await do_in_thread(check_folder, campaign)
        rows = await do_in_thread(self.book.rows, campaign)
        money = await do_in_thread(self.book.money, campaign)
        folder, now = Path(campaign.folder), self.book.store.now()
        write = partial(write_report, campaign, rows, money, folder, now=now)
        try:
            report = await run_sync(write)
            if with_pictures and await make_sheets(rows, folder):
                report = await run_sync(write)
        except OSError as error:
            # Such as of a folder that is taken away in the middle.
            raise FileRefused(
                f"The report cannot be written: {error.strerror or type(error).__name__}.",
                code="file_not_writable",
                next_step="See that its folder is there and may be written to.",
            ) from error
        return report

    async def progress(self, id: str) -> Progress:
        """Return how far a campaign is.

        Raises:
            InvalidRequestError: there is no such campaign.
        """
        campaign = await do_in_thread(self.book.get, id)
        counts = await do_in_thread(self.book.count, campaign)
        return Progress(campaign, counts, await do_in_thread(self.book.money, campaign))

    async def rows(self, id: str) -> Sequence[Row]:
        """Return the rows of a campaign, with what they did cost as far as that is known by now.

        Raises:
            InvalidRequestError: there is no such campaign.
        """
        return await do_in_thread(lambda: self.book.rows(self.book.get(id)))

    async def list(self) -> Sequence[Campaign]:
        """Return the newest campaigns of the ledger, at most 50."""
        if not await do_in_thread(self.guard.ledger.exists):
            return []
        return await do_in_thread(self.book.list_campaigns)

    async def _count_lanes(self, sync: AsyncSync) -> int:
        allowed = (await sync.account.get()).concurrency or _USUAL_LANES
        return max(1, min(allowed, self._slots or allowed))

    @asynccontextmanager
    async def _workplace(self, sync: AsyncSync) -> AsyncGenerator[Workplace]:
        async with anyio.create_task_group() as tasks:
            explain = partial(self.guard.explain_missing, sync)
            ends = Ends(sync)
            tasks.start_soon(ends.watch)
            yield Workplace(
                facts=_Facts(sync),
                guard=self.guard,
                book=self.book,
                watcher=Watcher(lambda: sync, tasks, explain),
                ends=ends,
                work=Work(tasks),
                roots_of=self._roots_of_campaign,
            )
            tasks.cancel_scope.cancel()

    async def _report_now_and_then(self, touched: Collection[str]) -> None:
        while True:
            await anyio.sleep(REPORT_SECONDS)
            await self._report_all(touched)

    async def _report_all(self, touched: Collection[str]) -> None:
        for id in list(touched):
            try:
                await self.report(id, with_pictures=True)
            except Exception as error:  # noqa: BLE001 - a report that cannot be written ends no night's work
                told = error if isinstance(error, SyncError) else safe(repr(error), FAULT_LIMIT)
                logger.warning("the report of %s cannot be written: %s", id, told)

    def _roots_of_campaign(self, campaign: Campaign) -> MediaRoots:
        check_folder(campaign)
        return self._roots_of(Path(campaign.source) if campaign.source else None, Path(campaign.folder))

    def _roots_of(self, source: Path | None, folder: Path) -> MediaRoots:
        # Where nothing beside the rows may be read, the folder for the videos is for writing alone.
        more = [] if source is None else [_folder_of(source), folder]
        return MediaRoots([*self._roots, *more], folder)


async def _read_rows(facts: AccountFacts, source: Path, voice: str | None) -> Table:
    """Return the rows of a file or of a folder of clips.

    Raises:
        InvalidRequestError: there are none, or `voice` says nothing.
        FileRefused: it cannot be read.
        SyncError: the voices cannot be listed now.
    """
    if await do_in_thread(source.is_dir):
        speaker = None if voice is None else await find_speaker(facts, voice)
        return await do_in_thread(read_folder, source, speaker)
    if voice is not None:
        raise InvalidRequestError("The voice is for a folder of clips: rows of a file name their own.")
    return await do_in_thread(read_table, source)


def check_folder(campaign: Campaign) -> None:
    """Check that a folder within a server's own is still where it was when it was planned; blocks.

    Where a user has named the folder, they may have put it elsewhere, with a link in its place.

    Raises:
        FileRefused: a link leads out of it.
    """
    if not campaign.source and os.path.realpath(campaign.folder) != campaign.folder:
        raise FileRefused(
            f"The folder {clean(campaign.folder, _PATH_SHOWN)} is another than was planned: a link leads "
            "elsewhere by now.",
            code="file_not_allowed",
            next_step="Ask the user to put the folder itself back in the place of the link.",
        )


def usual_folder(source: Path, holding: str = "videos") -> Path:
    """Return where videos go that nobody named a folder for.

    It lies beside the file of rows and is named after it, or in the folder from which clips were named.
    """
    if source.is_dir():
        return source / f"campaign-{holding}"
    return source.with_name(f"{source.stem or 'campaign'}-{holding}")


def new_folder(usual: Path) -> Path:
    """Return a folder for a sandbox's videos that is not there yet: `usual`, or numbered; blocks.

    They would stand in the way of real ones, and of those of the next sandbox, whose ledger does not know
    them.
    """
    numbered = (usual.with_name(f"{usual.name}-{number}") for number in count(2))
    return next(folder for folder in chain([usual], numbered) if not folder.exists())


class _Facts:
    """The account of a client, as its requests are looked up for it."""

    def __init__(self, sync: AsyncSync) -> None:
        self.client = sync
        self.base_url = sync.base_url
        self.lists = KeptLists(lambda: sync)
        self.outputs = OwnOutputs(lambda: "", _knows_none)


async def _knows_none(_: str) -> bool:
    return False


def _first_of(group: ExceptionGroup[Exception]) -> SyncError:
    known, _ = group.split(SyncError)
    if known is not None:
        return _first_of_known(known)
    reason = safe(repr(group.exceptions), FAULT_LIMIT)
    return InternalError(f"The run ended in an unexpected way: {reason}.", money_spent="unknown").advise(
        next_step="Run it again: it goes on, and pays nothing twice. If it stays so, report it."
    )


def _first_of_known(group: ExceptionGroup[SyncError]) -> SyncError:
    first = group.exceptions[0]
    return first if isinstance(first, SyncError) else _first_of_known(first)


def _whole_path(path: Path | str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        # Of a user whom nobody knows, or beside a working folder that is gone.
        shown = clean(str(path), _PATH_SHOWN)
        raise FileRefused(
            f"Nobody knows where {shown} lies.", code="file_not_found", next_step="Give its whole path."
        ) from error


def _check_usd(**amounts: object) -> None:
    """Check that amounts of US dollars are such, where they are given.

    Raises:
        InvalidRequestError: which one is not.
    """
    for name, amount in amounts.items():
        if amount is None:
            continue
        is_amount = isinstance(amount, Decimal) and amount.is_finite() and 0 <= amount <= HIGHEST_USD
        if not is_amount:
            raise InvalidRequestError(
                f"{name} must be a Decimal of US dollars from 0 to {HIGHEST_USD}, such as Decimal('2.50'), "
                f"and not {clean(repr(amount), _PATH_SHOWN)}."
            )


def _folder_for_videos(source: Path, output: Path | str | None) -> Path:
    """Return where videos go; blocks.

    Raises:
        FileRefused: nothing can be written there: what was paid could not be saved.
    """
    folder = usual_folder(source) if output is None else _whole_path(output)
    fault = "it has no name" if output == "" else _fault_of_folder(folder)
    if fault:
        raise FileRefused(
            f"No video can be saved in {clean(str(folder), _PATH_SHOWN)}: {fault}.",
            code="file_not_writable",
            next_step="Take another folder (--output), or see that this one may be written to.",
        )
    # Under each of its names it is one folder.
    return Path(os.path.realpath(folder))


def _fault_of_folder(folder: Path) -> str:
    """Return why nothing can be written in a folder, or it cannot be made, as far as can be told; or ""."""
    for place in (folder, *folder.parents):
        try:
            is_folder = stat.S_ISDIR(place.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or "it is no path"
        if not is_folder:
            return f"{clean(place.name, _PATH_SHOWN)} is no folder"
        return "" if os.access(place, os.W_OK | os.X_OK) else "it may not be written to"
    return ""


def _folder_of(source: Path) -> Path:
    return source if source.is_dir() else source.parent
