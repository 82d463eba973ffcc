"""The routes of projects (API §10)."""

from typing import Annotated, Literal, cast

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import as_json, page_limit, page_start, require_key
from sync_mcp.sandbox.api.bodies import Body, read_body
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import is_uuid
from sync_mcp.sandbox.jobs import Job
from sync_mcp.sandbox.world import Project, World

_DEFAULT_PAGE = 10

Visibility = Literal["USER", "ORGANIZATION"]
Workflow = Literal["lipsync", "translate_and_dub", "change_appearance", "image_to_video", "edit_dialogue"]


class _CreateBody(Body):
    name: Annotated[str, Field(min_length=1)]
    id: str | None = None
    description: str | None = None
    visibility: Visibility = "USER"
    mode: Literal["CREATOR", "DEVELOPER"] = "CREATOR"
    default_workflow: Workflow | None = None


class _EditBody(Body):
    name: Annotated[str, Field(min_length=1)] | None = None
    description: str | None = None
    visibility: Visibility | None = None
    default_workflow: Workflow | None = None


class _AssetBody(Body):
    asset_id: str


class Projects:
    """Keeps the projects, and what lies in them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        one, assets = "/v2/projects/{id}", "/v2/projects/{id}/assets"
        return [
            Route("/v2/projects", require_key(self.create), methods=["POST"]),
            Route("/v2/projects", require_key(self.index), methods=["GET"]),
            Route(one, require_key(self.get), methods=["GET"]),
            Route(one, require_key(self.edit), methods=["PATCH"]),
            Route(one, require_key(self.delete), methods=["DELETE"]),
            Route(assets, require_key(self.add_asset), methods=["POST"]),
            Route(f"{assets}/{{asset_id}}", require_key(self.remove_asset), methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make a project, or show the one that has the id already."""
        body = await read_body(request, _CreateBody)
        if body.id is not None and not is_uuid(body.id):
            raise bare_refusal(400, ["id must be a UUID"])
        world, contents = self._world, self._world.contents
        id = body.id.lower() if body.id else world.new_id("project made")
        if id in contents.deleted_projects or id == world.foreign_project_id:
            raise bare_refusal(409, "The id is another project's, or that of one that was deleted.")
        project = contents.projects.get(id)
        if project is None:
            now = world.clock.now()
            fields = body.model_dump(by_alias=True, exclude_none=True, exclude={"id"})
            project = contents.projects[id] = Project(id, now, now, fields)
        return as_json(project.to_json(), 201)

    async def index(self, request: Request) -> Response:
        """List projects in pages, those changed last first unless `sortBy` says otherwise."""
        limit = page_limit(request) or _DEFAULT_PAGE
        search = request.query_params.get("searchQuery", "").casefold()
        projects = [
            project
            for project in self._world.contents.projects.values()
            if search in str(project.fields["name"]).casefold()
        ]
        match request.query_params.get("sortBy", "updatedAt"):
            case "updatedAt":
                projects.sort(key=lambda one: one.updated_at)
                projects.reverse()
            case "name":
                projects.sort(key=lambda one: str(one.fields["name"]).casefold())
            case _:
                raise bare_refusal(400, ["sortBy must be one of: updatedAt, name"])
        start = page_start(request, [project.id for project in projects])
        page = projects[start : start + limit]
        answer: dict[str, JsonValue] = {"items": [project.to_json() for project in page]}
        if start + limit < len(projects):
            answer["nextCursor"] = page[-1].id
        return as_json(answer)

    async def get(self, request: Request) -> Response:
        """Show a project."""
        return as_json(self._find(request).to_json())

    async def edit(self, request: Request) -> Response:
        """Change what is said of a project."""
        project = self._find(request)
        body = await read_body(request, _EditBody)
        project.fields |= body.model_dump(by_alias=True, exclude_none=True)
        project.updated_at = self._world.clock.now()
        return as_json(project.to_json())

    async def delete(self, request: Request) -> Response:
        """Delete a project, its generations, and the assets that lie in no other; not while one runs."""
        project, contents, now = self._find(request), self._world.contents, self._world.clock.now()
        jobs = self._jobs_in(project)
        if not all(job.has_ended(now) for job in jobs):
            raise refusal("generation_not_deletable_while_processing")
        for job in jobs:
            del contents.jobs[job.id]
        del contents.projects[project.id]
        contents.deleted_projects.add(project.id)
        shared = {id for other in contents.projects.values() for id in other.asset_ids}
        for id in project.asset_ids - shared:
            contents.assets.pop(id, None)
        return as_json({"id": project.id})

    async def add_asset(self, request: Request) -> Response:
        """Put an asset into a project."""
        project = self._find(request)
        body = await read_body(request, _AssetBody)
        self._check_asset(body.asset_id)
        project.asset_ids.add(body.asset_id.lower())
        return Response(status_code=204)

    async def remove_asset(self, request: Request) -> Response:
        """Take an asset out of a project."""
        project = self._find(request)
        asset_id = cast(str, request.path_params["asset_id"])
        self._check_asset(asset_id)
        if asset_id.lower() not in project.asset_ids:
            raise refusal("asset_not_found")
        project.asset_ids.remove(asset_id.lower())
        return Response(status_code=204)

    def _find(self, request: Request) -> Project:
        project = self._world.contents.projects.get(cast(str, request.path_params["id"]).lower())
        if project is None:
            # The same code has another status where a create or an asset asks for the project.
            raise refusal("project_not_found", status=404)
        return project

    def _check_asset(self, id: str) -> None:
        if not is_uuid(id):
            raise refusal("invalid_asset_id_format", field="assetId")
        if id.lower() not in self._world.contents.assets:
            raise refusal("asset_not_found", field="assetId")

    def _jobs_in(self, project: Project) -> list[Job]:
        return [job for job in self._world.list_jobs() if job.asked.get("projectId") == project.id]
