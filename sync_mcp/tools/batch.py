"""The toolset `batch`: many videos in one go, in words and shapes."""

from typing import Annotated

from pydantic import BaseModel, Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.generation_arguments import Dollars, RequestArguments, Take
from sync_mcp.tools.registry import CHANGES, MAY_OVERWRITE, LateRun, Tool, Tools, Toolset
from sync_mcp.tools.schema import TOLD_IN_WORDS

BATCH = Toolset(
    "batch",
    ("create_batch makes 20 to 500 videos in one go, within a day; get_batch tells how far it is.",),
    is_default=False,
)

_ROW = (
    '{"request_id":"scene-1","model":"lipsync-2","input":[{"type":"video","url":"https://..."},'
    '{"type":"audio","asset_id":"..."}],"output_file_name":"one"}'
)


class RowArguments(RequestArguments):
    request_id: str | None = Field(None, description="The user's name for it.")


class BatchArguments(Arguments):
    rows: list[RowArguments] = Field(
        description=(
            f"20 to 500, no two the same, each like {_ROW}: what create_generation takes, but path, "
            "webhook_url and take; files as url or asset_id, at most 30 s. request_id names a row in the "
            "results; default row-1, row-2, ..."
        ),
        json_schema_extra=TOLD_IN_WORDS,
    )
    dry_run: bool = Field(False, description="Only check the rows and price them; free. Default false.")
    webhook_url: str | None = Field(None, description="https URL to call at the end.")
    take: Take = Field(1, description="2, 3, ... makes and pays the same again; asks the user.")
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown price of the whole.")
    quote_id: str | None = Field(None, description="From an answer that asked for approval.")


class BatchCounts(Answer):
    batch_id: str | None = None
    status: str
    total: Annotated[int, Field(ge=0)] | None = None
    completed: int | None = None
    failed: int | None = None
    pending: int | None = None
    cost_usd: float | None = None
    estimated_cost_usd: float | None = None
    """Of all rows together."""
    note: str | None = None


class CreateBatchAnswer(BatchCounts):
    reused: bool | None = None


class GetBatchArguments(Arguments):
    batch_id: str | None = Field(None, description="Of create_batch; without it the newest are listed.")
    path: str | None = Field(None, description="File or folder to save the results in, as CSV.")
    overwrite: bool = Field(False, description="Default false.")


class BatchResultRow(BaseModel):
    request_id: str
    status: str
    generation_id: str | None = None
    api_code: str | None = None
    api_says: str | None = None


class BatchListRow(BaseModel):
    batch_id: str
    status: str
    created_at: str | None = None
    total: int | None = None
    failed: int | None = None


class BatchAnswer(BatchCounts):
    created_at: str | None = None
    rows: list[BatchResultRow] | None = None
    """Those without a video, the first of them."""
    rows_left_out: int | None = None
    path: str | None = None
    batches: list[BatchListRow] | None = None


TOOLS: Tools = (
    Tool(
        name="create_batch",
        toolset=BATCH,
        title="Make many videos in one go",
        description=(
            "Make 20 to 500 videos as one batch, each of which is paid; it cannot be cancelled, and takes up "
            "to a day. The same call again returns the same batch. Needs the plan Scale or Enterprise."
        ),
        arguments=BatchArguments,
        answer=CreateBatchAnswer,
        annotations=CHANGES,
        run=LateRun("batches:create_batch"),
        paid=True,
    ),
    Tool(
        name="get_batch",
        toolset=BATCH,
        title="Look at a batch",
        description=(
            "Tell how far a batch is, and which rows have no video and why; with path save all results, with "
            "their URLs, as CSV."
        ),
        arguments=GetBatchArguments,
        answer=BatchAnswer,
        annotations=MAY_OVERWRITE,
        run=LateRun("batches:get_batch"),
        other_names={"id": "batch_id", "save_as": "path"},
    ),
)
