"""Projects: made once under an id of one's own, listed, renamed, filled and deleted."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from sync_mcp import (
    APIResponseError,
    AsyncSync,
    Audio,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RequestRejectedError,
    Video,
)
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import trail
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]
NOBODY = "00000000-0000-4000-8000-000000000000"


@both_backends
async def test_a_project_is_made_read_changed_and_deleted(sync: AsyncSync) -> None:
    made = await sync.projects.create("Spring", description="The campaign", default_workflow="lipsync")
    assert (made.name, made.description, made.visibility, made.mode, made.default_workflow) == (
        *("Spring", "The campaign", "USER", "CREATOR"),
        "lipsync",
    )
    renamed = await sync.projects.update(made.id, name="Summer", visibility="ORGANIZATION")
    assert (renamed.id, renamed.name, renamed.visibility) == (made.id, "Summer", "ORGANIZATION")
    assert await sync.projects.get(made.id) == renamed
    await sync.projects.delete(made.id)
    with pytest.raises(NotFoundError) as missing:
        await sync.projects.get(made.id)
    assert missing.value.api_code == "project_not_found"


async def test_a_create_whose_answer_is_lost_makes_one_project(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/projects", drop="after"))
    made = await sync.projects.create("Spring")
    found = (await sync.projects.list(search_query="spring")).items
    assert [project.id for project in found] == [made.id]
    assert trail(sandbox.requests).count("POST /v2/projects") == 2


async def test_the_same_id_is_the_same_project_and_one_of_others_or_deleted_is_a_conflict(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    id = str(uuid4())
    first = await sync.projects.create("Spring", id=id)
    assert await sync.projects.create("Another name", id=id) == first
    await sync.projects.delete(id)
    for taken in (id, sandbox.foreign_project_id):
        with pytest.raises(ConflictError):
            await sync.projects.create("Spring", id=taken)


async def test_pages_of_projects_follow_each_other_the_one_changed_last_first(sync: AsyncSync) -> None:
    made = [await sync.projects.create(f"Take {number}") for number in range(3)]
    first = await sync.projects.list(search_query="take", limit=2)
    assert [project.id for project in first.items] == [made[2].id, made[1].id]
    second = await sync.projects.list(search_query="take", limit=2, cursor=first.next_cursor)
    assert ([project.id for project in second.items], second.next_cursor) == ([made[0].id], None)
    by_name = await sync.projects.list(sort_by="name", search_query="take")
    assert [project.name for project in by_name.items] == ["Take 0", "Take 1", "Take 2"]


async def test_an_asset_is_put_into_a_project_and_taken_out(sync: AsyncSync) -> None:
    asset = await sync.assets.upload(sample("speech.wav"))
    project = await sync.projects.create("Spring")
    await sync.projects.add_asset(project.id, asset.id)
    assert (await sync.assets.list(project_id=project.id)).items == [asset]
    await sync.projects.remove_asset(project.id, asset.id)
    assert (await sync.assets.list(project_id=project.id)).items == []
    assert await sync.assets.get(asset.id) == asset
    with pytest.raises(NotFoundError):
        await sync.projects.remove_asset(project.id, asset.id)


async def test_with_a_project_its_own_assets_go_and_shared_ones_stay(sync: AsyncSync) -> None:
    own, shared = [await sync.assets.upload(sample(name)) for name in ("speech.wav", "speaker.mp4")]
    one, two = [await sync.projects.create(name) for name in ("One", "Two")]
    for asset in (own, shared):
        await sync.projects.add_asset(one.id, asset.id)
    await sync.projects.add_asset(two.id, shared.id)
    await sync.projects.delete(one.id)
    assert [asset.id for asset in (await sync.assets.list()).items] == [shared.id]


async def test_a_project_in_which_a_job_runs_stays(sandbox: Sandbox, sync: AsyncSync) -> None:
    project = await sync.projects.create("Spring")
    await _make(sync, sandbox, project.id)
    with pytest.raises(ConflictError):
        await sync.projects.delete(project.id)
    assert await sync.projects.get(project.id)


async def test_what_is_no_project_or_says_nothing_is_not_sent(sandbox: Sandbox, sync: AsyncSync) -> None:
    for refused in (
        sync.projects.create(" "),
        sync.projects.create("Spring", id="mine"),
        sync.projects.update(NOBODY),
        sync.projects.get("a/b"),
        sync.projects.list(limit=101),
        sync.projects.add_asset(NOBODY, "../x"),
    ):
        with pytest.raises(InvalidRequestError):
            await refused
    assert sandbox.requests == []


async def test_a_project_of_another_organization_is_not_found_and_takes_no_job(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    with pytest.raises(NotFoundError):
        await sync.projects.get(sandbox.foreign_project_id)
    with pytest.raises(RequestRejectedError) as refused:
        await _make(sync, sandbox, sandbox.foreign_project_id)
    assert (refused.value.api_code, refused.value.field) == ("project_not_found", "projectId")


async def test_an_answer_with_nothing_in_it_is_no_project(serve: Serve, client_of: ClientOf) -> None:
    server = serve(answer(204, b""))
    client = client_of(server)
    await client.projects.add_asset(NOBODY, NOBODY)
    with pytest.raises(APIResponseError, match="no project"):
        await client.projects.get(NOBODY)


async def _make(sync: AsyncSync, sandbox: Sandbox, project_id: str) -> str:
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    made = await sync.generations.create(model="lipsync-2", input=media, project_id=project_id)
    return made.id
