"""The runs of start_campaign and get_campaign, and the runner of this server, which makes their rows."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.uploads import OnProgress
from sync_mcp.background.work import do_in_thread
from sync_mcp.campaigns.campaigns import Campaigns, Progress, check_folder
from sync_mcp.campaigns.report import HTML_NAME
from sync_mcp.campaigns.rows import NEEDS_USER, TO_DO, Campaign, Row, RowState
from sync_mcp.errors import InvalidRequestError, SyncError, UnderWay
from sync_mcp.machine.installed import campaign_command
from sync_mcp.payments.limits import dollars
from sync_mcp.texts import SAYING_LIMIT, clean, count_of, in_quotes, safe
from sync_mcp.tools.agreeing import Matter, agree
from sync_mcp.tools.campaigns import (
    MOST_ROWS_TOLD,
    CampaignAnswer,
    CampaignListRow,
    CampaignRow,
    GetCampaignArguments,
    StartArguments,
)
from sync_mcp.tools.context import CallContext

_RUN = ("campaigns",)
"""The key of the work that makes an account's rows."""
_POLL_SECONDS = 1.0
_LISTED = 10
_ROWS_ASKED = 10
PATH_LIMIT = 4096
_ABOUT_LIMIT = 50
_ERROR_LIMIT = 90
_MOST_BYTES = 1_400
_CURSOR_LIMIT = 8
_GOING = ("approved", "waiting")
_STATES: Mapping[str, Sequence[RowState] | None] = {
    "needs_user": NEEDS_USER,
    "left": TO_DO,
    "saved": ("saved",),
    "all": None,
}

logger = logging.getLogger("sync_mcp.tools")


def open_campaigns(context: CallContext) -> Campaigns:
    """Return the campaigns of the server's one user.

    Raises:
        InvalidRequestError: the server has several.
    """
    if context.caller is not None:
        raise InvalidRequestError(
            "Campaigns are made on a server for one user, and this one tells its callers apart by tokens."
        ).advise(next_step="Tell the user: `sync-mcp campaign` on their own machine makes them.")
    account = context.account
    return Campaigns(context.process.guard, roots=account.roots.folders, slots=account.campaign_slots)


def matter_of(campaign: Campaign, rows: Sequence[Row]) -> Matter:
    """Return what the user is asked before a campaign is made."""
    lines = [
        f"Make and pay for {count_of(len(rows), 'video')}, about {dollars(campaign.total_usd)} together? "
        "What is begun cannot be cancelled.",
        f"campaign: {in_quotes(campaign.name)}",
        f"folder: {in_quotes(campaign.folder)}",
        *(
            f"{in_quotes(row.about)}: "
            f"{'price unknown' if row.price_usd is None else f'about {dollars(row.price_usd)}'}"
            for row in rows[:_ROWS_ASKED]
        ),
    ]
    if len(rows) > _ROWS_ASKED:
        lines.append(f"and {len(rows) - _ROWS_ASKED} more")
    unpriced = count_unpriced(rows)
    if unpriced:
        most = dollars(campaign.max_usd_per_row or Decimal(0))
        lines.insert(1, f"The price of {unpriced} of them is unknown; each counts {most}.")
    # The digest stands for the rows at their prices, and with them for the total.
    return Matter("\n".join(lines), f"{campaign.id} {campaign.digest}", "Nothing was started", "quote_id")


def count_unpriced(rows: Sequence[Row]) -> int:
    """Return of how many nobody can tell the price."""
    return sum(row.price_usd is None for row in rows)


async def start_campaign(context: CallContext, arguments: StartArguments) -> CampaignAnswer:
    campaigns = open_campaigns(context)
    campaign = await _find(context, campaigns, arguments.campaign_id)
    if campaign.state == "planned":
        if campaign.source and context.account.policy.approve_above_usd is None:
            # Its user planned it, with folders of theirs, and nobody would ask them.
            raise InvalidRequestError(
                f"Campaign {campaign.id} was planned on the command line, and nobody has agreed to it: this "
                "server asks nobody (SYNC_MCP_APPROVE_ABOVE_USD=never)."
            ).advise(next_step=f"Tell the user: `{campaign_command('approve', campaign.id)}` agrees to it.")
        await do_in_thread(check_folder, campaign)
        try:
            # Nobody is asked about what cannot be agreed to.
            await do_in_thread(campaigns.book.check_plan, campaign.id)
            rows = await do_in_thread(campaigns.book.rows, campaign)
            await agree(context, matter_of(campaign, rows), arguments.quote_id)
            context.payment.begin()
            campaign = await campaigns.approve(campaign.id)
        except InvalidRequestError as error:
            raise error.advise(
                next_step="plan_campaign plans it again, with another folder where a file is in the way: "
                "nothing of it was paid."
            ) from None
    if campaign.state in _GOING or campaign.state == "stopped":
        context.payment.begin()
        await _keep_running(context, campaigns)
    return await _tell(context, campaigns, campaign)


async def get_campaign(context: CallContext, arguments: GetCampaignArguments) -> CampaignAnswer:
    campaigns = open_campaigns(context)
    if arguments.campaign_id is None:
        return await _list(context, campaigns)
    campaign = await _find(context, campaigns, arguments.campaign_id)
    ends_at = min(context.answer_at, anyio.current_time() + arguments.wait_seconds)
    while campaign.state == "approved" and anyio.current_time() < ends_at:
        await anyio.sleep(min(_POLL_SECONDS, max(0.0, ends_at - anyio.current_time())))
        campaign = await do_in_thread(campaigns.book.get, campaign.id)
    answer = await _tell(context, campaigns, campaign)
    rows = await do_in_thread(campaigns.book.rows, campaign, _STATES[arguments.status])
    _put_rows(answer, rows, arguments.cursor)
    return answer


async def _find(context: CallContext, campaigns: Campaigns, named: str) -> Campaign:
    """Return a campaign of this server's account.

    Raises:
        InvalidRequestError: there is none.
    """
    account = await campaigns.guard.account(context.account.client)
    found = await do_in_thread(campaigns.book.find, named)
    mine = [each for each in found if each.is_of(account)]
    if len(mine) == 1:
        return mine[0]
    which = "is several campaigns" if mine else "is no campaign of this account"
    raise InvalidRequestError(f"{clean(named, SAYING_LIMIT)!r} {which}.").advise(
        next_step="get_campaign without campaign_id lists them."
    )


async def _keep_running(context: CallContext, campaigns: Campaigns) -> None:
    """Have this server make what is to be made, and go on with that when the call has ended."""
    work = context.account.work

    async def run(_: OnProgress) -> None:
        await campaigns.run(context.account.client)

    # Of one that has ended nothing holds any more.
    work.forget(_RUN)
    with suppress(UnderWay):
        try:
            await work.join(_RUN, run, until=anyio.current_time())
        except UnderWay:
            raise
        except SyncError as error:
            # Of a run before: the next one begins now.
            logger.warning("the run of campaigns had ended: %s", error)
            await work.join(_RUN, run, until=anyio.current_time())


async def _list(context: CallContext, campaigns: Campaigns) -> CampaignAnswer:
    account = await campaigns.guard.account(context.account.client)
    found = [each for each in await do_in_thread(campaigns.book.list_campaigns) if each.is_of(account)]
    rows: list[CampaignListRow] = []
    for campaign in found[:_LISTED]:
        counts = await do_in_thread(campaigns.book.count, campaign)
        rows.append(
            CampaignListRow(
                campaign_id=campaign.id,
                name=clean(campaign.name, _ABOUT_LIMIT),
                state=campaign.state,
                rows=counts.all,
                saved=counts.of(["saved"]),
            )
        )
    step = "get_campaign with a campaign_id tells more of one."
    return CampaignAnswer(
        campaigns=rows, next_step=step if rows else "There is none yet: plan_campaign plans one."
    )


async def _tell(context: CallContext, campaigns: Campaigns, campaign: Campaign) -> CampaignAnswer:
    progress = await campaigns.progress(campaign.id)
    campaign, counts, money = progress.campaign, progress.counts, progress.money
    runner = await do_in_thread(campaigns.book.find_runner, campaign.account, campaign.base_url)
    report = Path(campaign.folder) / HTML_NAME
    is_there = await run_sync(report.is_file)
    need_user = counts.of(NEEDS_USER)
    answer = CampaignAnswer(
        campaign_id=campaign.id,
        name=clean(campaign.name, _ABOUT_LIMIT),
        state=campaign.state,
        reason=None if campaign.reason is None else safe(campaign.reason, SAYING_LIMIT),
        rows=counts.all,
        saved=counts.of(["saved"]),
        left=counts.of(TO_DO) or None,
        need_user=need_user or None,
        skipped=counts.of(["skipped"]) or None,
        planned_usd=float(money.planned),
        spent_usd=float(money.spent),
        held_usd=float(money.held) or None,
        made_by=runner if campaign.state in _GOING else None,
        # The report lies beside the videos.
        folder=None if is_there else clean(campaign.folder, PATH_LIMIT),
        report_path=clean(str(report), PATH_LIMIT) if is_there else None,
        next_step="",
    )
    is_here = context.account.work.is_under_way(_RUN)
    answer.next_step = _next_step(
        progress, is_made=is_here or runner is not None, is_here=is_here, has_report=is_there
    )
    return answer


def _next_step(progress: Progress, *, is_made: bool, is_here: bool, has_report: bool) -> str:
    campaign, counts = progress.campaign, progress.counts
    id = campaign.id
    if campaign.state == "planned":
        return "start_campaign makes it, within an hour of its plan; the user is asked first."
    if campaign.state in _GOING:
        if not is_made:
            return "Nobody makes it now: start_campaign goes on, and asks nobody again."
        till = " at the time in reason" if campaign.state == "waiting" else ""
        where = "while this server runs" if is_here else "in another process"
        # What runs on a sandbox of the server's own, no command finds.
        night = f"; for a night the user types `{campaign_command('run', id)}`"
        night = night if is_here and not campaign.is_sandbox else ""
        wait = " get_campaign with wait_seconds 50 waits." if campaign.state == "approved" else ""
        return f"It goes on by itself{till}, {where}{night}.{wait}"
    retry = f"`{campaign_command('retry', id)}`"
    if campaign.state == "paused":
        return (
            "Tell the user the reason. Once they have seen to that, and typed "
            f"`{campaign_command('approve', id)}`, start_campaign goes on."
        )
    needs = counts.of(NEEDS_USER)
    if needs or counts.of(["skipped"]):
        return (
            "Tell the user the report and which rows have no video; only they have those made again: "
            f"{retry}, then start_campaign. What was charged is paid again."
        )
    if has_report:
        return "All is saved: tell the user where the report lies, with the videos beside it."
    return "All is saved: tell the user the folder, into which the report is written now."


def _read_cursor(cursor: str | None) -> int:
    """Return after which row a page begins.

    Raises:
        InvalidRequestError: it is no number of a row.
    """
    if cursor is None:
        return 0
    if cursor.strip().isdecimal() and len(cursor) < _CURSOR_LIMIT:
        return int(cursor)
    raise InvalidRequestError(
        "cursor is no next_cursor of this list: copy it and keep the other arguments, or leave it out to "
        "begin again."
    )


def _put_rows(answer: CampaignAnswer, rows: Sequence[Row], cursor: str | None) -> None:
    """Put rows into an answer, as many as it has room for, from where the last one ended."""
    after = _read_cursor(cursor)
    listed: list[CampaignRow] = []
    size = len(answer.model_dump_json(exclude_none=True))
    for row in rows:
        if row.number <= after:
            continue
        told = CampaignRow(
            row=row.number,
            about=clean(row.about, _ABOUT_LIMIT),
            state=row.state,
            error=None if row.error is None else safe(row.error, _ERROR_LIMIT),
        )
        size += len(told.model_dump_json(exclude_none=True)) + 1
        if listed and (len(listed) == MOST_ROWS_TOLD or size > _MOST_BYTES):
            answer.next_cursor = str(listed[-1].row)
            break
        listed.append(told)
    answer.listed = listed or None
