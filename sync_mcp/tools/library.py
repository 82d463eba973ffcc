"""The toolset `library`: what the account keeps, in words and shapes."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.registry import CHANGES, DELETES, READS, LateRun, Tool, Tools, Toolset

LIBRARY = Toolset(
    "library",
    (
        "To tidy up: list_assets, list_projects and list_generations show what there is, save_project and "
        "update_asset name and file it, delete_assets, delete_project and delete_generations remove it for "
        "good once the user agrees.",
        "To see what is kept: list_assets, list_projects and list_generations.",
        "list_assets and list_projects show what is kept.",
    ),
    is_default=False,
)

MOST_DELETED = 50
MOST_ROWS = 25
DEFAULT_ROWS = 10
_CONFIRM = "Only where the host cannot ask: what the first call names, once the user agrees."

Limit = Annotated[int, Field(ge=1, le=MOST_ROWS)]
_Visibility = Literal["USER", "ORGANIZATION"]


class ListAssetsArguments(Arguments):
    search: str | None = Field(None, description="In the name.")
    types: list[Literal["VIDEO", "AUDIO", "IMAGE"]] | None = Field(None, description="Only these.")
    project_id: str | None = Field(None, description="Only this project.")
    sort_by: Literal["dateDesc", "dateAsc", "nameAsc", "durationDesc", "sizeDesc"] | None = Field(
        None, description="Default dateDesc."
    )
    limit: Limit = Field(DEFAULT_ROWS, description=f"Default {DEFAULT_ROWS}.")
    cursor: str | None = Field(None, description="A next_cursor.")


class AssetRow(BaseModel):
    asset_id: str
    type: str | None = None
    name: str | None = None
    bytes: int | None = None
    duration_seconds: float | None = None
    width: int | None = None
    height: int | None = None
    visibility: str | None = None
    created_at: str | None = None


class AssetsAnswer(Answer):
    total: int | None = None
    assets: list[AssetRow]
    next_cursor: str | None = None


class UpdateAssetArguments(Arguments):
    asset_id: str = Field(description="Which one.")
    name: str | None = Field(None, description="Its new name.")
    visibility: _Visibility | None = Field(None, description="Who sees it.")
    project_id: str | None = Field(None, description="Put it into this project.")
    leave_project_id: str | None = Field(None, description="Take it out of this one.")


class AssetAnswer(Answer):
    asset_id: str
    name: str | None = None
    visibility: str | None = None
    before: str | None = None
    """What it was called, where that is changed."""


class DeleteAssetsArguments(Arguments):
    asset_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_DELETED)] = Field(
        description=f"1 to {MOST_DELETED}."
    )
    confirm: str | None = Field(None, description=_CONFIRM)


class DeletedRow(BaseModel):
    id: str
    name: str | None = None
    cost_usd: float | None = None
    failure: str | None = None
    """Why it is still there."""


class DeletedAnswer(Answer):
    deleted: int
    failed: int | None = None
    rows: list[DeletedRow]
    note: str | None = None


class ListProjectsArguments(Arguments):
    search: str | None = Field(None, description="In the name.")
    limit: Limit = Field(DEFAULT_ROWS, description=f"Default {DEFAULT_ROWS}.")
    cursor: str | None = Field(None, description="A next_cursor.")


class ProjectRow(BaseModel):
    project_id: str
    name: str | None = None
    description: str | None = None
    visibility: str | None = None
    updated_at: str | None = None


class ProjectsAnswer(Answer):
    projects: list[ProjectRow]
    next_cursor: str | None = None


class SaveProjectArguments(Arguments):
    name: str | None = Field(None, description="Required for a new one.")
    project_id: str | None = Field(None, description="One to change; without it one is made.")
    description: str | None = Field(None, description="What it is for.")
    visibility: _Visibility | None = Field(None, description="Who sees it; default USER.")


class ProjectAnswer(Answer):
    project_id: str
    name: str | None = None
    description: str | None = None
    visibility: str | None = None
    before: str | None = None
    """What it was called, where that is changed."""
    reused: bool | None = None


class DeleteProjectArguments(Arguments):
    project_id: str = Field(description="Which one.")
    confirm: str | None = Field(None, description=_CONFIRM)


class DeleteGenerationsArguments(Arguments):
    generation_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_DELETED)] = Field(
        description=f"1 to {MOST_DELETED} that have ended."
    )
    confirm: str | None = Field(None, description=_CONFIRM)


TOOLS: Tools = (
    Tool(
        name="list_assets",
        toolset=LIBRARY,
        title="List files",
        description="Files in the account's storage; create_generation takes an asset_id.",
        arguments=ListAssetsArguments,
        answer=AssetsAnswer,
        annotations=READS,
        run=LateRun("assets:list_assets"),
    ),
    Tool(
        name="update_asset",
        toolset=LIBRARY,
        title="Rename or file a file",
        description="Rename a stored file, share it, or move it between projects.",
        arguments=UpdateAssetArguments,
        answer=AssetAnswer,
        annotations=CHANGES,
        run=LateRun("assets:update_asset"),
        other_names={"id": "asset_id"},
    ),
    Tool(
        name="delete_assets",
        toolset=LIBRARY,
        title="Delete files for good",
        description="Delete stored files for good. The user is asked first, file by file in one question.",
        arguments=DeleteAssetsArguments,
        answer=DeletedAnswer,
        annotations=DELETES,
        run=LateRun("deletions:delete_assets"),
        other_names={"ids": "asset_ids", "asset_id": "asset_ids"},
    ),
    Tool(
        name="list_projects",
        toolset=LIBRARY,
        title="List projects",
        description="Projects, the one changed last first; create_generation takes a project_id.",
        arguments=ListProjectsArguments,
        answer=ProjectsAnswer,
        annotations=READS,
        run=LateRun("projects:list_projects"),
    ),
    Tool(
        name="save_project",
        toolset=LIBRARY,
        title="Make or rename a project",
        description="Make a project, or change one. The same call again makes no second one.",
        arguments=SaveProjectArguments,
        answer=ProjectAnswer,
        annotations=CHANGES,
        run=LateRun("projects:save_project"),
        other_names={"id": "project_id"},
    ),
    Tool(
        name="delete_project",
        toolset=LIBRARY,
        title="Delete a project for good",
        description=(
            "Delete a project for good, with its generations, and its files that are in no other project. "
            "The user is asked first. What the jobs cost stays in the ledger."
        ),
        arguments=DeleteProjectArguments,
        answer=DeletedAnswer,
        annotations=DELETES,
        run=LateRun("deletions:delete_project"),
        other_names={"id": "project_id"},
    ),
    Tool(
        name="delete_generations",
        toolset=LIBRARY,
        title="Delete jobs for good",
        description=(
            "Delete ended jobs and their videos for good. The user is asked first. What they cost is read "
            "before, and stays in the ledger; a running job cannot be deleted."
        ),
        arguments=DeleteGenerationsArguments,
        answer=DeletedAnswer,
        annotations=DELETES,
        run=LateRun("deletions:delete_generations"),
        other_names={"ids": "generation_ids", "generation_id": "generation_ids"},
    ),
)
