"""The toolset `usage`: what jobs did cost, and whether the ledger agrees, in words and shapes."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.registry import MAY_OVERWRITE, READS, LateRun, Tool, Tools, Toolset

USAGE = Toolset(
    "usage",
    (
        "What was really billed: get_costs tells it by job, model, project or day, compare_ledger whether "
        "this server's ledger agrees, export_usage saves it as CSV.",
        "What was really billed: get_costs tells it by job, model, project or day, compare_ledger whether "
        "this server's ledger agrees.",
        "get_costs tells what was really billed.",
    ),
    is_default=False,
)

MOST_IDS = 50
MOST_ROWS = 30
DEFAULT_ROWS = 20
_PERIOD = "UTC: 2026-10, 2026-10-31, 2026, or 2026-10-01/2026-10-15, the last day in it; default this month."


class CostsArguments(Arguments):
    generation_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_IDS)] | None = Field(
        None, description=f"These jobs, at most {MOST_IDS}; or give period."
    )
    period: str | None = Field(None, description=f"Jobs that ended then. {_PERIOD}")
    by: Literal["job", "model", "project", "day"] = Field("job", description="A row for each; default job.")
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = Field(
        DEFAULT_ROWS, description=f"Default {DEFAULT_ROWS}."
    )
    cursor: str | None = Field(None, description="A next_cursor.")


class CostRow(BaseModel):
    generation_id: str | None = None
    model: str | None = None
    project_id: str | None = None
    day: str | None = None
    jobs: int | None = None
    cost_usd: float | None = None
    """None where the API does not know it yet; of several jobs, as far as it is known."""
    pending: int | None = None
    status: str | None = None
    finished_at: str | None = None
    about: str | None = None
    failure: str | None = None


class CostsAnswer(Answer):
    period_from: str | None = None
    period_until: str | None = None
    jobs: int
    total_usd: float
    pending: int | None = None
    """So many jobs have no final cost yet: the total is what is known."""
    rows: list[CostRow]
    next_cursor: str | None = None


class ExportArguments(Arguments):
    period: str | None = Field(None, description=_PERIOD)
    path: str | None = Field(None, description="File or folder; default: the download folder.")
    overwrite: bool = Field(False, description="Default false.")


class ExportAnswer(Answer):
    path: str
    bytes: int
    sha256: str
    jobs: int
    total_usd: float
    pending: int | None = None


class CompareArguments(Arguments):
    period: str | None = Field(None, description=f"Jobs that ended then. {_PERIOD}")
    cursor: str | None = Field(None, description="A next_cursor.")


class DifferenceRow(BaseModel):
    generation_id: str
    what: str
    ledger_usd: float | None = None
    bill_usd: float | None = None
    about: str | None = None


class CompareAnswer(Answer):
    period_from: str
    period_until: str
    agrees: bool
    bill_usd: float
    ledger_usd: float
    agreeing: int
    differing: int
    missing_in_ledger: int
    missing_in_bill: int
    open: int | None = None
    unresolved: int | None = None
    not_in_bill: int | None = None
    """So many are of kinds that the bill does not tell, such as speech: they are not compared."""
    differences: list[DifferenceRow]
    next_cursor: str | None = None


TOOLS: Tools = (
    Tool(
        name="get_costs",
        toolset=USAGE,
        title="Get what jobs did cost",
        description=(
            "What jobs did cost by the API's bill, of the whole organization: of jobs by id, or of all that "
            "ended in a period, with the total. A cost is known some minutes after the end."
        ),
        arguments=CostsArguments,
        answer=CostsAnswer,
        annotations=READS,
        run=LateRun("costs:get_costs"),
        other_names={"ids": "generation_ids", "generation_id": "generation_ids"},
    ),
    Tool(
        name="export_usage",
        toolset=USAGE,
        title="Save the bill as CSV",
        description="Save the bill of a period on the user's disk as CSV, a line for each job, and check it.",
        arguments=ExportArguments,
        answer=ExportAnswer,
        annotations=MAY_OVERWRITE,
        run=LateRun("costs:export_usage"),
    ),
    Tool(
        name="compare_ledger",
        toolset=USAGE,
        title="Compare the ledger with the bill",
        description=(
            "Whether this server's ledger agrees with the API's bill of a period, to the cent; names each "
            "job that differs, or is missing in one of the two."
        ),
        arguments=CompareArguments,
        answer=CompareAnswer,
        annotations=READS,
        run=LateRun("comparing:compare_ledger"),
    ),
)
