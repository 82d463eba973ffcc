"""Projects: the folders in which an organization keeps its generations and assets (API §10)."""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias
from uuid import uuid4

from pydantic import Field

from sync_mcp.api.assets import Visibility
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id, is_uuid
from sync_mcp.api.models import CamelModel, Moment
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import InvalidRequestError

ProjectMode = Literal["CREATOR", "DEVELOPER"] | str
ProjectOrder = Literal["updatedAt", "name"] | str
GuardedDelete: TypeAlias = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Deletes a project once what its jobs cost has been read."""
Workflow = (
    Literal["lipsync", "translate_and_dub", "change_appearance", "image_to_video", "edit_dialogue"] | str
)

_PAGE_LIMIT = 100


class Project(CamelModel):
    """A project of the organization (API §10)."""

    id: str
    """What the `project_id` of a create, an upload and the lists takes."""
    name: str | None = None
    description: str | None = None
    visibility: Visibility | None = None
    mode: ProjectMode | None = None
    default_workflow: Workflow | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None


class ProjectPage(CamelModel):
    """A page of projects; `next_cursor` asks for the next one, and is None on the last."""

    items: list[Project] = Field(default_factory=list[Project])
    next_cursor: str | None = None


class Projects:
    """The projects of an organization; reached as `AsyncSync.projects`."""

    def __init__(self, transport: Transport, guarded_delete: GuardedDelete | None = None) -> None:
        self._transport = transport
        self._guarded_delete = guarded_delete

    async def create(
        self,
        name: str,
        *,
        id: str | None = None,
        description: str | None = None,
        visibility: Visibility | None = None,
        mode: ProjectMode | None = None,
        default_workflow: Workflow | None = None,
        request_options: RequestOptions | None = None,
    ) -> Project:
        """Make a project and return it.

        Its id is chosen here, by the caller or at random: whatever becomes of an answer, a repeat under the
        same id makes no second one, and returns the first. The API's own defaults are the visibility `USER`
        and the mode `CREATOR`.

        Raises:
            ConflictError: the id is another organization's, or that of a project that was deleted.
        """
        if not name.strip():
            raise InvalidRequestError("name is empty: a project needs one.")
        if id is not None and not is_uuid(id):
            raise InvalidRequestError("id must be a UUID; left out, one is made.")
        body = {
            "id": id or str(uuid4()),
            **_fields_of(name, description, visibility, default_workflow),
            **({"mode": mode} if mode else {}),
        }
        reply = await self._transport.read(Call("POST", "/v2/projects", body=body), request_options)
        return reply.read_as(Project, "project")

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Project:
        """Return one project.

        Raises:
            NotFoundError: the organization has no project by this id.
        """
        reply = await self._transport.read(Call("GET", _path(id)), request_options)
        return reply.read_as(Project, "project")

    async def list(
        self,
        *,
        search_query: str | None = None,
        sort_by: ProjectOrder | None = None,
        limit: int = 10,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> ProjectPage:
        """Return one page of projects.

        `limit` runs from 1 to 100. `cursor` is the `next_cursor` of the page before.
        """
        if not 1 <= limit <= _PAGE_LIMIT:
            raise InvalidRequestError(f"limit must lie between 1 and {_PAGE_LIMIT}.")
        query = {"searchQuery": search_query, "sortBy": sort_by, "limit": str(limit), "cursor": cursor}
        given = {name: value for name, value in query.items() if value}
        call = Call("GET", "/v2/projects", query=given, is_list=True)
        reply = await self._transport.read(call, request_options)
        items, _ = reply.read_list(Project, "list of projects", under="items")
        return ProjectPage.from_wire({**reply.fields, "items": items})

    async def update(
        self,
        id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        visibility: Visibility | None = None,
        default_workflow: Workflow | None = None,
        request_options: RequestOptions | None = None,
    ) -> Project:
        """Change what is said of a project and return it; what is left out stays.

        Raises:
            NotFoundError: the organization has no project by this id.
        """
        body = _fields_of(name, description, visibility, default_workflow)
        if not body:
            raise InvalidRequestError("There is nothing to change: give name, description or visibility.")
        reply = await self._transport.read(Call("PATCH", _path(id), body=body), request_options)
        return reply.read_as(Project, "project")

    async def delete(self, id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete a project, and with it its generations, and the assets that lie in no other.

        With a guard, what its generations cost is read first and stays spent.

        Raises:
            ConflictError: generations of it have not ended yet.
            NotFoundError: the organization has no project by this id.
        """
        path = _path(id)

        async def delete() -> None:
            await self._transport.read(Call("DELETE", path), request_options)

        await (delete() if self._guarded_delete is None else self._guarded_delete(id, delete))

    async def add_asset(
        self, id: str, asset_id: str, *, request_options: RequestOptions | None = None
    ) -> None:
        """Put an asset into a project.

        Raises:
            NotFoundError: there is no such project or asset.
        """
        call = Call("POST", f"{_path(id)}/assets", body={"assetId": check_id(asset_id, "An asset")})
        await self._transport.read(call, request_options)

    async def remove_asset(
        self, id: str, asset_id: str, *, request_options: RequestOptions | None = None
    ) -> None:
        """Take an asset out of a project; the asset itself stays.

        Raises:
            NotFoundError: there is no such project, or the asset is not in it.
        """
        path = f"{_path(id)}/assets/{check_id(asset_id, 'An asset')}"
        await self._transport.read(Call("DELETE", path), request_options)


def _path(id: str) -> str:
    return f"/v2/projects/{check_id(id, 'A project')}"


def _fields_of(
    name: str | None, description: str | None, visibility: Visibility | None, workflow: Workflow | None
) -> dict[str, str]:
    """Return what is said of a project, as the API spells it; an empty description takes it away."""
    fields = {
        "name": name,
        "description": description,
        "visibility": visibility,
        "defaultWorkflow": workflow,
    }
    return {label: value for label, value in fields.items() if value is not None}
