"""The toolset `core`: pricing, making, watching and keeping a video, in words and shapes."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.generation_answers import (
    EstimateAnswer,
    GenerationAnswer,
    ListAnswer,
    SeveralAnswer,
    WaitAnswer,
)
from sync_mcp.tools.generation_arguments import (
    CreateArguments,
    EstimateArguments,
    GetArguments,
    ListArguments,
    SeveralArguments,
    WaitArguments,
)
from sync_mcp.tools.registry import CHANGES, MAY_OVERWRITE, READS, LateRun, Tool, Tools, Toolset

CORE = Toolset(
    "core",
    (
        "The way: list_voices if a script needs a voice, estimate_cost, the user's yes to the price, "
        "create_generation, get_generation with wait_seconds 45 until it has ended (several: "
        "wait_for_generations), preview_generation to look, download_generation.",
        "list_generations and get_generation tell of the account's jobs (for several, wait_for_generations), "
        "preview_generation shows a result; estimate_cost prices a video without making it, list_models and "
        "list_voices tell what there is, get_account tells of the money.",
    ),
)


class UploadArguments(Arguments):
    path: str | None = Field(None, description="Local file.")
    url: str | None = Field(None, description="Or a public https URL to copy.")
    type: Literal["video", "audio", "image"] | None = Field(
        None, description="What it has to be; default: as it is."
    )
    name: str | None = Field(None, description="What to call it.")


class UploadAnswer(Answer):
    asset_id: str
    type: str
    name: str | None = None
    bytes: int | None = None
    duration_seconds: float | None = None
    width: int | None = None
    height: int | None = None
    note: str | None = None


class PreviewArguments(Arguments):
    generation_id: str = Field(description="A COMPLETED one.")


class DownloadArguments(Arguments):
    generation_id: str = Field(description="A COMPLETED one.")
    path: str | None = Field(None, description="File or folder; default: the download folder.")
    overwrite: bool = Field(False, description="Default false.")


class DownloadAnswer(Answer):
    path: str
    bytes: int
    sha256: str
    duration_seconds: float | None = None
    checks: dict[str, str]
    note: str | None = None


_Kind = Annotated[Literal["cloned", "premade"], WithJsonSchema({"type": "string"})]


class VoicesArguments(Arguments):
    search: str | None = Field(None, description="In the name.")
    language: str | None = Field(None, description="If told.")
    cursor: str | None = Field(None, description="A next_cursor.")


class VoiceRow(BaseModel):
    voice_id: str
    name: str | None = None
    kind: _Kind = "premade"
    note: str | None = None
    """The language, where the API tells one, and what stands in the way of its use."""


class VoicesAnswer(Answer):
    kinds: str | None = None
    """Which kinds of voices there are, by the names that the API gives them, and how many of each."""
    voices: list[VoiceRow]
    next_cursor: str | None = None
    note: str | None = None
    """Which words no voice has, or why none was found: it may quote names that others have given."""


class ModelsArguments(Arguments):
    """None: all models of the account are listed."""


class ModelRow(BaseModel):
    model: str
    purpose: str | None = None
    takes: str | None = None
    usd_per_second: str | None = None
    limits: str | None = None
    deprecated: str | None = None


class ModelsAnswer(Answer):
    models: list[ModelRow]
    note: str | None = None


class AccountArguments(Arguments):
    """None: there is one account."""


class LimitRow(BaseModel):
    limit: str
    period: str
    usd: float
    left_usd: float | None = None
    until: str | None = None


class AccountAnswer(Answer):
    plan: str | None = None
    billing_model: str | None = None
    balance_usd: float | None = None
    balance_credits: float | None = None
    concurrency: int | None = None
    billing_url: str | None = None
    spent_today_usd: float | None = None
    spent_this_month_usd: float | None = None
    spent_ever_usd: float | None = None
    reserved_usd: float | None = None
    unresolved: int | None = None
    unresolved_usd: float | None = None
    limits: list[LimitRow] | None = None
    approve_above_usd: float | None = None
    approve_above_period: str | None = None
    unasked_left_usd: float | None = None
    note: str | None = None


TOOLS: Tools = (
    Tool(
        name="create_generation",
        toolset=CORE,
        title="Create a lip-sync video",
        description=(
            "Start a paid job, which cannot be cancelled: the speaker of a video or image says a recording "
            "or a script, or a video is dubbed. First estimate_cost, and let the user agree. Returns the "
            "generation_id, or the finished job if it ends within wait_seconds; then get_generation. "
            "The same call again returns the same job; after a failure it makes a new attempt."
        ),
        arguments=CreateArguments,
        answer=GenerationAnswer,
        annotations=CHANGES,
        run=LateRun("create:create_generation"),
        paid=True,
    ),
    Tool(
        name="create_generations",
        toolset=CORE,
        title="Create several videos",
        description=(
            "Start several paid jobs by one yes of the user's to their total; none can be cancelled. All are "
            "checked before one is sent. First dry_run, and let the user agree. Returns a row for each; then "
            "wait_for_generations. The same call again makes what is missing, and pays nothing twice."
        ),
        arguments=SeveralArguments,
        answer=SeveralAnswer,
        annotations=CHANGES,
        run=LateRun("several:create_generations"),
        paid=True,
    ),
    Tool(
        name="get_generation",
        toolset=CORE,
        title="Get a lip-sync video",
        description=(
            "State of one job: its output URL when COMPLETED; what went wrong and what to change when it "
            "failed. wait_seconds waits for the end."
        ),
        arguments=GetArguments,
        answer=GenerationAnswer,
        annotations=READS,
        run=LateRun("jobs:get_generation"),
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="wait_for_generations",
        toolset=CORE,
        title="Wait for jobs",
        description="Wait for several jobs.",
        arguments=WaitArguments,
        answer=WaitAnswer,
        annotations=READS,
        run=LateRun("jobs:wait_for_generations"),
        other_names={"ids": "generation_ids", "generation_id": "generation_ids"},
    ),
    Tool(
        name="list_generations",
        toolset=CORE,
        title="List lip-sync videos",
        description="The account's jobs, newest first, a page of short rows.",
        arguments=ListArguments,
        answer=ListAnswer,
        annotations=READS,
        run=LateRun("jobs:list_generations"),
    ),
    Tool(
        name="estimate_cost",
        toolset=CORE,
        title="Estimate the cost",
        description=(
            "What create_generation would cost with the same arguments, and what was assumed. Free, and "
            "starts nothing."
        ),
        description_alone="What a video of these arguments would cost, and what was assumed. Free.",
        arguments=EstimateArguments,
        answer=EstimateAnswer,
        annotations=READS,
        run=LateRun("estimate:estimate_cost"),
        arguments_told_by="create_generation",
        arguments_outlined=("input",),
    ),
    Tool(
        name="upload_asset",
        toolset=CORE,
        title="Upload a file",
        description=(
            "Put a video, audio or image file into the account's storage, free; the same content is not sent "
            "twice. create_generation takes a path by itself."
        ),
        arguments=UploadArguments,
        answer=UploadAnswer,
        annotations=CHANGES,
        run=LateRun("assets:upload_asset"),
    ),
    Tool(
        name="preview_generation",
        toolset=CORE,
        title="Look at a result",
        description="Nine frames over the whole length of a finished video, as one picture.",
        arguments=PreviewArguments,
        answer=None,
        annotations=READS,
        run=LateRun("results:preview_generation"),
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="download_generation",
        toolset=CORE,
        title="Save a result",
        description=(
            "Save a finished video on the user's disk and check it. A video that fails a check is kept under "
            "another name."
        ),
        arguments=DownloadArguments,
        answer=DownloadAnswer,
        annotations=MAY_OVERWRITE,
        run=LateRun("results:download_generation"),
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="list_voices",
        toolset=CORE,
        title="List voices",
        description="Voices for a script, one of each kind first.",
        arguments=VoicesArguments,
        answer=VoicesAnswer,
        annotations=READS,
        run=LateRun("voice_list:list_voices"),
    ),
    Tool(
        name="list_models",
        toolset=CORE,
        title="List models",
        description="What each of the account's models is for, takes, and costs about.",
        arguments=ModelsArguments,
        answer=ModelsAnswer,
        annotations=READS,
        run=LateRun("models:list_models"),
    ),
    Tool(
        name="get_account",
        toolset=CORE,
        title="Get the account and the money",
        description=(
            "Plan, balance and concurrency; what this server's ledger counts as spent, reserved and "
            "unresolved money included; the user's limits and what is left of each."
        ),
        arguments=AccountArguments,
        answer=AccountAnswer,
        annotations=READS,
        run=LateRun("money:get_account"),
    ),
)
