"""`sync-mcp campaign`: plan many videos, agree to their total, have them made; killed, it goes on from there.

Its exit codes: 0 every video is saved, 1 some are not, 2 the file or a flag is wrong, 3 a budget or a price
stands against it, 130 interrupted (jobs that run go on).
"""

import argparse
import contextlib
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import kind_of_name
from sync_mcp.campaigns.campaigns import Campaigns, new_folder, usual_folder
from sync_mcp.campaigns.plan import Plan
from sync_mcp.campaigns.rows import NEEDS_USER, TO_DO, Campaign, Row
from sync_mcp.campaigns.table import Table, cross_languages, cross_voices, name_of_clips
from sync_mcp.cli.campaign.documents import describe, describe_list
from sync_mcp.cli.campaign.words import (
    list_campaigns,
    tell_campaign,
    tell_dearer,
    tell_known,
    tell_next,
    tell_others,
    tell_plan,
    tell_progress,
)
from sync_mcp.cli.campaign.work import open_telling
from sync_mcp.cli.documents import print_document
from sync_mcp.cli.flags import home_of_flags, read_settings
from sync_mcp.cli.ledgers import check_usable, open_ledger
from sync_mcp.cli.sandbox import own_sandbox
from sync_mcp.cli.screen import is_on_terminal, show_lines, waiting
from sync_mcp.cli.streams import log_to_stderr, stop
from sync_mcp.errors import ConfigurationError, FileRefused, InvalidRequestError, SyncError
from sync_mcp.machine.scratch import ScratchFolder
from sync_mcp.media.paths.usual import usual_roots
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits
from sync_mcp.settings import Settings
from sync_mcp.texts import MESSAGE_LIMIT, clean, count_of, safe, visible

_SHOWN = 200
_ALL_SAVED, _SOME_NOT, _WRONG, _STOPPED = 0, 1, 2, 3
_USED = (
    "api_key",
    "base_url",
    "sandbox",
    "home",
    "database_url",
    "media_roots",
    "max_usd_per_job",
    "budget_usd_per_day",
    "budget_usd",
    "resend_hours",
    "campaign_slots",
)


def run(arguments: argparse.Namespace) -> None:
    """Do what one command of `sync-mcp campaign` says, and end the program with its exit code."""
    settings = read_settings(arguments, only=_USED)
    log_to_stderr("warning")
    try:
        with home_of_flags(arguments):
            sys.exit(_ACTS[arguments.act](settings, arguments))
    except InvalidRequestError as error:
        # As many lines as there are faults.
        told = [*(safe(fault, MESSAGE_LIMIT) for fault in error.faults), error.next_step]
        print("\n".join(filter(None, told)), file=sys.stderr)
        sys.exit(_WRONG)
    except ConfigurationError:
        raise
    except SyncError as error:
        print(f"sync-mcp: {error.whole_message} {error.next_step}".rstrip(), file=sys.stderr)
        sys.exit(_WRONG if isinstance(error, FileRefused) else _SOME_NOT)


# What needs no API


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        book = campaigns.book
        found = book.list_campaigns() if campaigns.guard.ledger.exists() else []
        counted = [(each, book.count(each), book.money(each)) for each in found]
    if arguments.json:
        print_document(describe_list(counted))
    else:
        show_lines(list_campaigns(counted))
    return 0


def _show(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        campaign = campaigns.book.get(arguments.campaign)
        rows = campaigns.book.rows(campaign)
        money = campaigns.book.money(campaign)
        runner = campaigns.book.find_runner(campaign.account, campaign.base_url)
    if arguments.json:
        print_document(describe(campaign, rows, money))
    else:
        show_lines(tell_campaign(campaign, rows, money, runner))
    return 0


def _approve(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        campaign = campaigns.book.get(arguments.campaign)
        campaigns.book.check_plan(campaign.id)
        _agree(arguments, tell_plan(Plan(campaign, campaigns.book.rows(campaign))))
        campaign = campaigns.book.approve(campaign.id, budget_usd=arguments.budget)
    show_lines(f"Approved. `sync-mcp campaign run {campaign.id}` has it made.")
    return 0


def _stop(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        campaign, skipped = campaigns.book.stop(arguments.campaign)
    show_lines(
        f"Campaign {campaign.id} is stopped: {count_of(skipped, 'row is', 'rows are')} skipped. What runs "
        f"is paid, and `sync-mcp campaign run {campaign.id}` fetches it. `sync-mcp campaign retry "
        f"{campaign.id}` has what was skipped made after all."
    )
    return 0


def _retry(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        campaign = campaigns.book.get(arguments.campaign)
        rows = campaigns.book.rows(campaign, (*NEEDS_USER, "skipped"))
        chosen = [row for row in rows if not arguments.rows or row.number in arguments.rows]
        again = [row.number for row in chosen if row.state == "charged"]
        told: list[str] = []
        if dearer := _with_higher_prices(chosen):
            told.append(tell_dearer(dearer))
        if again:
            numbers = ", ".join(map(str, again))
            told.append(f"Of these, rows {numbers} were or may have been charged: they are paid again.")
        if told:
            _agree(arguments, "\n".join(told))
        campaign, numbered = campaigns.book.retry(campaign.id, arguments.rows)
    if not numbered:
        show_lines(f"Campaign {campaign.id} has no row that needs a retry.")
        return 0
    show_lines(
        f"`sync-mcp campaign run {campaign.id}` goes on with {count_of(len(numbered), 'row')}: what was made "
        "is fetched, and all else is made."
    )
    return 0


def _with_higher_prices(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that can go at a higher price; to one that is not known now nobody can agree."""
    return [row for row in rows if row.state == "dearer" and row.dearer_usd is not None]


def _report(settings: Settings, arguments: argparse.Namespace) -> int:
    with _open(settings) as campaigns:
        report = anyio.run(lambda: campaigns.report(arguments.campaign, with_pictures=True))
    show_lines(f"{visible(str(report.html))}\n{visible(str(report.csv))}")
    return 0


# What asks the API


def _plan(settings: Settings, arguments: argparse.Namespace) -> int:
    async def plan(campaigns: Campaigns, sync: AsyncSync) -> int:
        made = await _make_plan(campaigns, sync, settings, arguments)
        if arguments.json:
            print_document(describe(made.campaign, made.rows, campaigns.book.money(made.campaign)))
        elif made.campaign.state != "planned":
            show_lines(tell_known(await campaigns.progress(made.campaign.id)))
        else:
            show_lines(f"{tell_plan(made)}\n{_tell_way_on(settings, made.campaign)}")
        return 0

    return _with_api(settings, plan)


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.yes and arguments.budget is None:
        stop("--yes needs --budget-usd: together they are your yes, and the most that it may cost")

    async def run(campaigns: Campaigns, sync: AsyncSync) -> int:
        campaign = await _find_or_plan(campaigns, sync, settings, arguments)
        if others := _find_others(campaigns, campaign):
            print(tell_others(others), file=sys.stderr)
        if campaign.state not in ("ended", "stopped"):
            if campaign.approved_at is None:
                campaigns.book.check_plan(campaign.id)
                _agree(arguments, tell_plan(Plan(campaign, campaigns.book.rows(campaign))))
            campaign = await campaigns.approve(campaign.id, budget_usd=arguments.budget)
        interrupted = _tell_interrupted(settings, campaign)
        await _have_made(campaigns, sync, campaign, interrupted)
        dearer = _with_higher_prices(campaigns.book.rows(campaign))
        if dearer and not arguments.yes and sys.stdin.isatty():
            _show_beside(arguments, tell_dearer(dearer))
            if _is_agreed():
                campaigns.book.retry(campaign.id, [row.number for row in dearer])
                await _have_made(campaigns, sync, campaign, interrupted)
        progress, rows = await campaigns.progress(campaign.id), campaigns.book.rows(campaign)
        told = [tell_progress(progress)]
        if not settings.sandbox:
            # One of a sandbox of the command's own ends with it.
            told += tell_next(campaign, rows)
        try:
            report = await campaigns.report(campaign.id)
            told.append(f"Report: {visible(str(report.html))}")
        except FileRefused as error:
            print(f"sync-mcp: {error.whole_message} {error.next_step}", file=sys.stderr)
        if arguments.json:
            print_document(describe(progress.campaign, rows, progress.money))
        else:
            show_lines("\n".join(told))
        if progress.campaign.state in ("paused", "waiting") or progress.counts.of(["dearer"]):
            return _STOPPED
        return _ALL_SAVED if progress.counts.of(["saved"]) == progress.counts.all else _SOME_NOT

    return _with_api(settings, run)


async def _have_made(campaigns: Campaigns, sync: AsyncSync, campaign: Campaign, interrupted: str) -> None:
    """Have a campaign made; who ends it before its end is told what becomes of it."""
    try:
        with open_telling(campaigns.book, campaign) as telling:
            await campaigns.run(sync, on_turn=telling.tell_turn, on_wait=telling.tell_wait)
    except BaseException as error:
        if not isinstance(error, Exception):
            print(interrupted, file=sys.stderr)
        raise


def _tell_way_on(settings: Settings, campaign: Campaign) -> str:
    # A sandbox of the command's own, and its ledger, end with the command: no later one finds the plan.
    if settings.sandbox:
        return "`sync-mcp campaign run` in place of `plan`, with the same words, has it made on the sandbox."
    return f"`sync-mcp campaign run {campaign.id}` asks for your yes and has it made."


def _tell_interrupted(settings: Settings, campaign: Campaign) -> str:
    if settings.sandbox:
        return "Interrupted: the sandbox has ended, and its jobs with it. The same command begins anew."
    again = f"`sync-mcp campaign run {campaign.id}`"
    return f"Interrupted: jobs that run go on. {again} fetches them and does the rest."


async def _find_or_plan(
    campaigns: Campaigns, sync: AsyncSync, settings: Settings, arguments: argparse.Namespace
) -> Campaign:
    """Return the campaign that is meant: one that was planned, or one that is planned now."""
    [first, *others] = arguments.files
    is_of_clips = others or arguments.languages or arguments.script is not None
    if not is_of_clips and not await run_sync(_is_there, first):
        campaign = _find_campaign(campaigns, first)
        account = await campaigns.guard.account(sync)
        if not campaign.is_of(account):
            raise InvalidRequestError(
                f"Campaign {campaign.id} is of another account: {campaign.account} at {campaign.base_url}."
            ).advise(
                next_step="Run it with that account's key (SYNC_API_KEY), and the SYNC_BASE_URL of then."
            )
        return campaign
    try:
        made = await _make_plan(campaigns, sync, settings, arguments)
    except InvalidRequestError as error:
        if not is_of_clips and (known := await run_sync(_find_begun, campaigns, first)):
            again = f"`sync-mcp campaign run {known.id}` goes on with what was planned of it before."
            error.advise(next_step=f"{error.next_step} {again}")
        raise
    if not arguments.json and made.notes:
        show_lines("\n".join(made.notes))
    return made.campaign


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        # Such as a name that is too long for any file.
        return False


def _find_begun(campaigns: Campaigns, path: str) -> Campaign | None:
    """Return the newest campaign of a file that goes on, whatever is wrong with that by now."""
    source = str(Path(path).absolute())
    going = ("approved", "waiting", "paused", "stopped")
    known = campaigns.book.list_campaigns()
    return next((each for each in known if each.source == source and each.state in going), None)


def _find_others(campaigns: Campaigns, campaign: Campaign) -> list[tuple[Campaign, int]]:
    """Return what else of the account is made by a run of a campaign, and how many rows each has left."""
    book = campaigns.book
    others = [
        (other, book.count(other).of(TO_DO))
        for other in book.list_campaigns()
        if other.id != campaign.id
        and (other.account, other.base_url) == (campaign.account, campaign.base_url)
        and other.state in ("approved", "waiting")
    ]
    return [(other, left) for other, left in others if left]


def _find_campaign(campaigns: Campaigns, named: str) -> Campaign:
    """Return the campaign that is named in place of a file.

    Raises:
        InvalidRequestError: there is none, or there are several.
    """
    if not campaigns.book.find(named):
        raise InvalidRequestError(f"There is neither a file nor a campaign {clean(named, _SHOWN)!r}.").advise(
            next_step="Give the path of a file of rows, or an id: `sync-mcp campaign list` tells them."
        )
    return campaigns.book.get(named)


async def _make_plan(
    campaigns: Campaigns, sync: AsyncSync, settings: Settings, arguments: argparse.Namespace
) -> Plan:
    source, table = _read_clips(arguments)
    output: Path | str | None = arguments.output
    if output is None and settings.sandbox:
        output = await run_sync(_new_folder, source)
    with waiting("Reading the files and asking for prices ..."):
        return await campaigns.plan(
            sync,
            source,
            table=table,
            voice=arguments.voices[0] if table is None and arguments.voices else None,
            output=output,
            name=None if table is None else name_of_clips(arguments.files),
            model=arguments.model,
            budget_usd=arguments.budget,
            max_usd_per_row=arguments.max_usd_per_row,
            keep_going=arguments.keep_going,
        )


def _new_folder(source: str) -> Path:
    return new_folder(usual_folder(Path(source).absolute(), "sandbox-videos"))


def _read_clips(arguments: argparse.Namespace) -> tuple[str, Table | None]:
    """Return the file of rows or the folder of clips; or where clips are named, a folder and their rows."""
    files: list[str] = arguments.files
    if not arguments.languages and arguments.script is None:
        if len(files) > 1 or kind_of_name(files[0]) is not None:
            stop("name one file of rows, or one folder; or clips, with --language, or --script and --voice")
        if len(arguments.voices or ()) > 1:
            stop("one --voice says the scripts of a folder: name one")
        return files[0], None
    if arguments.languages and arguments.script is not None:
        stop("--language dubs the clip's own speech: leave --script out, or take it alone")
    clips = [file if "://" in file else str(Path(file).absolute()) for file in files]
    if arguments.languages:
        return str(Path.cwd()), Table(cross_languages(clips, arguments.languages))
    if not arguments.voices:
        stop("--script needs --voice: say who speaks")
    return str(Path.cwd()), Table(cross_voices(clips, str(arguments.script), arguments.voices))


def _with_api(settings: Settings, act: Callable[[Campaigns, AsyncSync], Awaitable[int]]) -> int:
    """Do what asks the API, on the sandbox where the settings say so; return the exit code."""
    settings.check_key()
    with own_sandbox(settings) as sandbox, _open(settings) as campaigns:

        async def do() -> int:
            key = None if settings.api_key is None else settings.api_key.get_secret_value()
            url = settings.base_url if sandbox is None else sandbox.url
            async with AsyncSync(
                api_key=key if sandbox is None else "any", base_url=url, guard=campaigns.guard
            ) as sync:
                return await act(campaigns, sync)

        return anyio.run(do)


@contextlib.contextmanager
def _open(settings: Settings) -> Generator[Campaigns]:
    """Open the ledger of the settings, that of an embedded sandbox for as long as it runs."""
    with contextlib.ExitStack() as ends:
        if settings.sandbox:
            ledger = Ledger(ends.enter_context(ScratchFolder("ledger")).path)
        else:
            ledger = open_ledger(settings)
            check_usable(ledger)
        ends.callback(ledger.close)
        guard = Guard(ledger, Limits(**settings.limits), resend_hours=settings.resend_hours)
        roots = usual_roots() if settings.media_roots is None else settings.media_roots
        yield Campaigns(guard, roots=roots, slots=settings.campaign_slots)


def _agree(arguments: argparse.Namespace, told: str) -> None:
    """Have the user agree to what is told; the program ends where they do not."""
    if arguments.yes:
        return
    _show_beside(arguments, told)
    if not sys.stdin.isatty():
        stop("nothing was paid: there is no terminal to ask on; give --yes with --budget-usd, or approve it")
    if not _is_agreed():
        _show_beside(arguments, "Nothing was paid.")
        sys.exit(_SOME_NOT)


def _show_beside(arguments: argparse.Namespace, told: str) -> None:
    """Show what is no document: where one is asked for, standard output is for that alone."""
    if vars(arguments).get("json"):
        print(told, file=sys.stderr)
    else:
        show_lines(told)


def _is_agreed() -> bool:
    # The answer is waited for wherever standard output leads to.
    out = sys.stdout if is_on_terminal() else sys.stderr
    print("Go ahead? [y/N] ", end="", file=out, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


_ACTS: Mapping[str, Callable[[Settings, argparse.Namespace], int]] = {
    "plan": _plan,
    "run": _run,
    "approve": _approve,
    "list": _list,
    "show": _show,
    "stop": _stop,
    "retry": _retry,
    "report": _report,
}
"""By the names of the commands; each returns the exit code."""
