"""The toolset `campaigns`: many videos by one plan and one approval, in words and shapes."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.generation_arguments import LONGEST_WAIT_SECONDS, Dollars
from sync_mcp.tools.registry import CHANGES, READS, LateRun, Tool, Tools, Toolset

CAMPAIGNS = Toolset(
    "campaigns",
    (
        "Dozens of videos by one approval: plan_campaign, start_campaign; get_campaign tells how far it is.",
        "get_campaign tells how far a campaign is.",
    ),
    is_default=False,
)

MOST_ROWS_TOLD = 10


class PlanArguments(Arguments):
    file: str | None = Field(
        None,
        description=(
            "CSV or JSON lines, a row for each video. Columns: video or image; language, or audio, or script "
            "and voice; model, output, take, sync_mode, ..."
        ),
    )
    clips: list[str] | None = Field(None, description="Instead of file: paths, URLs or asset:ID.")
    languages: list[str] | None = Field(None, description="Dub each clip into each.")
    script: str | None = Field(None, description="Or have each clip say it, by each of voices.")
    voices: list[str] | None = Field(None, description="Names or ids.")
    model: str | None = Field(None, description="Where a row names none.")
    folder: str | None = Field(None, description="For videos and report; default a new one in downloads.")
    max_usd_per_row: Dollars | None = Field(None, description="What a row counts whose price is unknown.")
    name: str | None = Field(None, description="Default the file's.")


class StartArguments(Arguments):
    campaign_id: str = Field(description="Of plan_campaign.")
    quote_id: str | None = Field(None, description="From plan_campaign, once the user agrees.")


class GetCampaignArguments(Arguments):
    campaign_id: str | None = Field(None, description="Without it the newest are listed.")
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        0, description="Wait so long for its end. Default 0."
    )
    status: Literal["needs_user", "left", "saved", "all"] = Field(
        "needs_user", description="Which rows are listed; default needs_user."
    )
    cursor: str | None = Field(None, description="A next_cursor.")


class CampaignRow(BaseModel):
    row: int
    about: str
    state: str
    error: str | None = None


class CampaignListRow(BaseModel):
    campaign_id: str = Field(description="Of plan_campaign.")
    name: str
    state: str
    rows: int
    saved: int


class CampaignAnswer(Answer):
    campaign_id: str | None = None
    name: str | None = None
    state: str | None = None
    reason: str | None = None
    """Why it waits or is paused."""
    rows: int | None = None
    saved: int | None = None
    left: int | None = None
    """To be made or saved still."""
    need_user: int | None = None
    skipped: int | None = None
    planned_usd: float | None = None
    spent_usd: float | None = None
    held_usd: float | None = None
    made_by: str | None = None
    """The process that makes it now."""
    folder: str | None = None
    report_path: str | None = None
    listed: list[CampaignRow] | None = None
    next_cursor: str | None = None
    campaigns: list[CampaignListRow] | None = None


class PlanAnswer(Answer):
    campaign_id: str = Field(description="Of plan_campaign.")
    name: str
    rows: int
    planned_usd: float
    left_usd: float | None = None
    """What the server's budgets leave now; None where there is none."""
    unpriced: int | None = None
    """Rows whose price nobody can tell; each counts max_usd_per_row."""
    folder: str
    notes: list[str] | None = None
    quote_id: str | None = None


TOOLS: Tools = (
    Tool(
        name="plan_campaign",
        toolset=CAMPAIGNS,
        title="Plan many videos",
        description=(
            "Check up to 5,000 videos and tell what they cost together: the rows of file, or clips in "
            "languages, or clips with script and voices. Nothing is uploaded or paid. All that is wrong is "
            "told at once."
        ),
        arguments=PlanArguments,
        answer=PlanAnswer,
        annotations=READS,
        run=LateRun("campaign_plans:plan_campaign"),
    ),
    Tool(
        name="start_campaign",
        toolset=CAMPAIGNS,
        title="Have a planned campaign made",
        description=(
            "Make and pay a campaign's videos, as planned within the hour, and save them in its folder, "
            "while this server runs. Asks the user once for all. The same call again goes on, and pays "
            "nothing twice."
        ),
        arguments=StartArguments,
        answer=CampaignAnswer,
        annotations=CHANGES,
        run=LateRun("campaign_runs:start_campaign"),
        paid=True,
    ),
    Tool(
        name="get_campaign",
        toolset=CAMPAIGNS,
        title="Look at a campaign",
        description=(
            "Tell how far a campaign is, what it has cost, which rows need the user, and where its report is."
        ),
        arguments=GetCampaignArguments,
        answer=CampaignAnswer,
        annotations=READS,
        run=LateRun("campaign_runs:get_campaign"),
        other_names={"id": "campaign_id"},
    ),
)
