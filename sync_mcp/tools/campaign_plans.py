"""The run of plan_campaign: what an assistant names, within the folders that the server may use."""

import hashlib
from pathlib import Path

from anyio.to_thread import run_sync

from sync_mcp.api.uploads import OnProgress
from sync_mcp.campaigns.campaigns import new_folder
from sync_mcp.campaigns.plan import Plan
from sync_mcp.campaigns.table import Table, cross_languages, cross_voices, name_of_clips, read_table
from sync_mcp.errors import FileRefused, InvalidRequestError, UnderWay
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.texts import clean
from sync_mcp.tools.agreeing import word_for
from sync_mcp.tools.campaign_runs import PATH_LIMIT, count_unpriced, matter_of, open_campaigns
from sync_mcp.tools.campaigns import PlanAnswer, PlanArguments
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.paid_calls import approval_of, is_quote_enough

_NOTES_TOLD = 5
_PROBE = "campaign-of-sync-mcp"
"""No file is called so: what is asked is whether it could lie there."""
_NAME_LIMIT = 80
_FOLDER_NAME_LIMIT = 60
_FOLDER_NAME_BYTES = 200
"""With what else its name has, every disk takes it."""
_SPENDING_SECONDS = 5.0


async def plan_campaign(context: CallContext, arguments: PlanArguments) -> PlanAnswer:
    campaigns = open_campaigns(context)
    roots = context.account.roots
    if not roots.can_save:
        raise FileRefused(
            "A campaign saves its videos, and this server has no folder to save in.",
            code="file_not_allowed",
            next_step="Ask the user to set SYNC_MCP_DOWNLOAD_DIR or SYNC_MCP_MEDIA_ROOTS.",
        )
    table, source = await run_sync(_read_rows, arguments, roots)
    clips = arguments.clips
    usual = source.name if clips is None else name_of_clips(clips)
    name = clean(arguments.name or usual, _NAME_LIMIT) or "campaign"
    key = ("campaign", hashlib.sha256(arguments.model_dump_json().encode()).hexdigest())

    async def plan(_: OnProgress) -> Plan:
        folder = await run_sync(_folder_of, arguments, roots, name, context.account.sandboxed)
        return await campaigns.plan(
            context.account.client,
            source,
            table=table,
            output=folder,
            name=name,
            model=arguments.model,
            max_usd_per_row=arguments.max_usd_per_row,
            reads_beside=False,
        )

    try:
        made = await context.account.work.join(key, plan, until=context.answer_at)
    except UnderWay as error:
        raise error.advise(
            message="The plan is still being made: files are read and prices asked for. Nothing is paid.",
            next_step="Make exactly this call again: it goes on meanwhile.",
        ) from error
    # The next plan reads the files anew.
    context.account.work.forget(key)
    return await _tell(context, made)


def _read_rows(arguments: PlanArguments, roots: MediaRoots) -> tuple[Table, Path]:
    """Return the rows that are asked for, and what their relative paths lie beside; blocks."""
    ways = [arguments.file, arguments.clips]
    if sum(way is not None for way in ways) != 1:
        raise InvalidRequestError("Give file, or clips with languages, or clips with script and voices.")
    if arguments.file is not None:
        if arguments.languages or arguments.script or arguments.voices:
            raise InvalidRequestError("languages, script and voices are columns of a file: leave them out.")
        found = roots.open(arguments.file, is_media=False)
        return read_table(found.path, lambda _: found), found.path
    clips, beside = arguments.clips or [], Path.home()
    if bool(arguments.languages) == bool(arguments.script):
        raise InvalidRequestError("Clips need languages, or script and voices: one of the two.")
    if arguments.languages:
        return Table(cross_languages(clips, arguments.languages)), beside
    if not arguments.voices:
        raise InvalidRequestError("script needs voices: say who speaks.")
    return Table(cross_voices(clips, arguments.script or "", arguments.voices)), beside


def _folder_of(arguments: PlanArguments, roots: MediaRoots, name: str, is_sandbox: bool) -> Path:
    """Return where the videos go: within the folders that may be written to; blocks."""
    if arguments.folder is not None:
        place = roots.destination(arguments.folder, _PROBE)
        return place.parent if place.name == _PROBE else place
    letters = clean(Path(name).stem.replace("/", "-").strip(". "), _FOLDER_NAME_LIMIT)
    stem = letters.encode()[:_FOLDER_NAME_BYTES].decode(errors="ignore").strip() or "campaign"
    downloads = roots.destination(None, _PROBE).parent
    if is_sandbox:
        return new_folder(downloads / f"{stem}-sandbox-videos")
    return downloads / f"{stem}-videos"


async def _tell(context: CallContext, made: Plan) -> PlanAnswer:
    campaign, rows = made.campaign, made.rows
    guard = context.process.guard
    left = None
    if guard.limits.has_budget:
        spent = await guard.spending(context.account.client, seconds=_SPENDING_SECONDS)
        left = guard.limits.sum_left(spent)
    answer = PlanAnswer(
        campaign_id=campaign.id,
        name=campaign.name,
        rows=len(rows),
        planned_usd=float(campaign.total_usd),
        left_usd=None if left is None else float(left),
        unpriced=count_unpriced(rows) or None,
        folder=clean(campaign.folder, PATH_LIMIT),
        notes=list(made.notes[:_NOTES_TOLD]) or None,
        next_step="",
    )
    start = "start_campaign with this campaign_id makes them"
    if campaign.state != "planned":
        # Of one that has ended, was stopped or is paused start_campaign makes nothing by itself.
        answer.next_step = (
            f"It was planned before, and is {campaign.state}: get_campaign with this campaign_id tells how "
            "far it is, and how it goes on."
        )
        return answer
    approval = approval_of(context)
    if approval.above_usd is not None and approval.nobody_agrees is not None:
        refused = f"Nothing was started, and start_campaign would refuse it: {approval.nobody_agrees}."
        answer.next_step = f"{refused} Tell the user."
        return answer
    is_off = "start_campaign" in context.withheld
    if approval.above_usd is not None and is_quote_enough(context) and not is_off:
        answer.quote_id = word_for(context, matter_of(campaign, rows))
        agreed = f"Tell the user rows, total and folder; only if they agree, {start}, with quote_id"
    else:
        agreed = f"Tell the user the total; {start}"
    short = (
        " The budgets leave less: it goes on the next day (UTC), or once the user raises them."
        if left is not None and left < campaign.total_usd
        else ""
    )
    answer.next_step = f"{agreed}, within the hour.{short}"
    return answer
