"""The tools for projects: list them, make one, change one."""

from collections.abc import Iterator
from uuid import NAMESPACE_URL, UUID, uuid5

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.projects import Project
from sync_mcp.errors import ConflictError, InvalidRequestError, NotFoundError
from sync_mcp.payments.limits import minute
from sync_mcp.texts import WORD_LIMIT, clean, plain_id, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.library import (
    ListProjectsArguments,
    ProjectAnswer,
    ProjectRow,
    ProjectsAnswer,
    SaveProjectArguments,
)

NAME_LIMIT = 120
_DESCRIPTION_LIMIT = 200
_SEARCHED = 25
_TRIES = 5
"""So many projects of a name may have been deleted before; the ids of those come back no more."""


async def list_projects(context: CallContext, arguments: ListProjectsArguments) -> ProjectsAnswer:
    page = await context.account.client.projects.list(
        search_query=arguments.search,
        limit=arguments.limit,
        cursor=arguments.cursor,
        request_options=context.reading,
    )
    cursor = plain_id(page.next_cursor or "") or None
    rows = [_row(project) for project in page.items if plain_id(project.id)]
    if cursor:
        step = f"For more, the same call with cursor {cursor}."
    elif rows:
        step = "create_generation and list_assets take a project_id; save_project changes one."
    else:
        step = "There is none" + (" of that name" if arguments.search else "") + ": save_project makes one."
    return ProjectsAnswer(projects=rows, next_cursor=cursor, next_step=step)


async def save_project(context: CallContext, arguments: SaveProjectArguments) -> ProjectAnswer:
    client = context.account.client
    if arguments.project_id is not None:
        return await _change(context, arguments, arguments.project_id.strip())
    name = clean(arguments.name or "", NAME_LIMIT)
    if not name:
        raise InvalidRequestError(
            "name is missing: a new project needs one; or give project_id to change it."
        )
    found = await _find_by_name(context, name)
    project = found or await _make(context, client, name, arguments)
    answer = _answer(project)
    answer.reused = found is not None or None
    if found is not None:
        answer.next_step = f"A project of this name was there, and nothing was changed. {answer.next_step}"
    return answer


async def find_project(context: CallContext, project_id: str) -> Project:
    """Return a project by its id.

    Raises:
        NotFoundError: the organization has none by it.
    """
    try:
        return await context.account.client.projects.get(project_id.strip(), request_options=context.reading)
    except NotFoundError as error:
        raise error.advise(
            message="This organization has no project by this id.",
            next_step="Copy the project_id whole from list_projects, or ask the user which one they mean.",
        ) from None


async def _change(context: CallContext, arguments: SaveProjectArguments, project_id: str) -> ProjectAnswer:
    if not (arguments.name or arguments.description or arguments.visibility):
        raise InvalidRequestError("There is nothing to change: give name, description or visibility.")
    before = await find_project(context, project_id)
    changed = await context.account.client.projects.update(
        project_id,
        name=clean(arguments.name or "", NAME_LIMIT) or None,
        description=arguments.description,
        visibility=arguments.visibility,
        request_options=context.reading,
    )
    answer = _answer(changed)
    if before.name and before.name != changed.name:
        answer.before = safe(before.name, NAME_LIMIT)
    return answer


async def _find_by_name(context: CallContext, name: str) -> Project | None:
    page = await context.account.client.projects.list(
        search_query=name, limit=_SEARCHED, request_options=context.reading
    )
    return next((one for one in page.items if clean(one.name or "", NAME_LIMIT) == name), None)


async def _make(
    context: CallContext, client: AsyncSync, name: str, arguments: SaveProjectArguments
) -> Project:
    """Make a project under an id that follows from its name: a call whose answer was lost finds it again."""
    ids = list(_ids_of(f"{client.base_url}/{client.key_fingerprint}/{name}"))
    for id in ids:
        try:
            return await client.projects.create(
                name,
                id=str(id),
                description=arguments.description,
                visibility=arguments.visibility,
                request_options=context.reading,
            )
        except ConflictError:
            if id == ids[-1]:
                raise
    raise AssertionError


def _ids_of(what: str) -> Iterator[UUID]:
    return (uuid5(NAMESPACE_URL, f"sync-mcp project {what} {number}") for number in range(_TRIES))


def _row(project: Project) -> ProjectRow:
    return ProjectRow(
        project_id=project.id,
        name=safe(project.name or "", NAME_LIMIT) or None,
        description=safe(project.description or "", _DESCRIPTION_LIMIT) or None,
        visibility=safe(project.visibility or "", WORD_LIMIT) or None,
        updated_at=minute(project.updated_at) if project.updated_at else None,
    )


def _answer(project: Project) -> ProjectAnswer:
    row = _row(project)
    id = plain_id(project.id)
    return ProjectAnswer(
        project_id=id or safe(project.id, NAME_LIMIT),
        name=row.name,
        description=row.description,
        visibility=row.visibility,
        next_step="create_generation takes this project_id; update_asset puts files into it.",
    )
