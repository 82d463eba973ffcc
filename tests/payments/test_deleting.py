"""Deletions: what jobs cost is read before they are gone, and stays spent."""

from decimal import Decimal

import pytest

from sync_mcp import AsyncSync, Audio, Guard, Ledger, ServerError, Video
from sync_mcp.api.models import Generation
from sync_mcp.errors import NotFoundError
from sync_mcp.sandbox import Fault, Sandbox
from tests.api.conftest import KEY, trail

from .conftest import PRICE

pytestmark = pytest.mark.anyio


def client(sandbox: Sandbox, guard: Guard) -> AsyncSync:
    return AsyncSync(api_key=KEY, base_url=sandbox.url, guard=guard, max_retries=0)


async def make(
    sync: AsyncSync, sandbox: Sandbox, number: int = 0, project_id: str | None = None
) -> Generation:
    media = [Video(url=f"{sandbox.samples.video}?n={number}"), Audio(url=sandbox.samples.audio)]
    return await sync.generations.create(model="lipsync-2", input=media, project_id=project_id)


def standing(ledger: Ledger) -> list[tuple[str, Decimal | None, Decimal]]:
    return [(entry.state, entry.cost_usd, entry.counted_usd) for entry in ledger.entries(limit=None)]


async def test_what_a_deleted_projects_jobs_cost_is_read_first_and_stays_spent(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    async with client(sandbox, Guard(ledger)) as sync:
        project = await sync.projects.create("Spring")
        job = await make(sync, sandbox, project_id=project.id)
        sandbox.advance(60)
        await sync.projects.delete(project.id)
    assert standing(ledger) == [("deleted", PRICE, PRICE)]
    asked = trail(sandbox.requests)
    assert asked.index(f"GET /v2/generate/{job.id}/costs") < asked.index(f"DELETE /v2/projects/{project.id}")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="DELETE", path="/v2/projects/*", status=200, body={"id": "x"}),
        Fault(method="GET", path="/v2/generations", skip=1, status=503, body={"message": "x"}),
    ],
    ids=["kept by the API", "not told"],
)
async def test_jobs_that_are_there_after_their_projects_deletion_stand_as_they_are(
    sandbox: Sandbox, ledger: Ledger, fault: Fault
) -> None:
    async with client(sandbox, Guard(ledger)) as sync:
        project = await sync.projects.create("Spring")
        await make(sync, sandbox, project_id=project.id)
        sandbox.advance(60)
        sandbox.add_fault(fault)
        await sync.projects.delete(project.id)
    assert standing(ledger) == [("ended", PRICE, PRICE)]


async def test_where_the_jobs_of_a_project_cannot_be_listed_nothing_is_deleted(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    async with client(sandbox, Guard(ledger)) as sync:
        project = await sync.projects.create("Spring")
        await make(sync, sandbox, project_id=project.id)
        sandbox.advance(60)
        sandbox.add_fault(Fault(path="/v2/generations", status=503, body={"message": "x"}))
        with pytest.raises(ServerError):
            await sync.projects.delete(project.id)
        assert await sync.projects.get(project.id)
    assert [state for state, *_ in standing(ledger)] == ["accepted"]


async def test_of_many_jobs_the_costs_are_read_from_one_page_of_the_export(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    guard = Guard(ledger)
    async with client(sandbox, guard) as sync:
        made = [await make(sync, sandbox, number) for number in range(4)]
        sandbox.advance(60)
        jobs = await sync.generations.list(ids=[job.id for job in made])
        before = len(sandbox.requests)
        outcomes = await guard.delete_jobs(sync, jobs)
    assert outcomes == {job.id: None for job in made}
    assert standing(ledger) == [("deleted", PRICE, PRICE)] * 4
    asked = trail(sandbox.requests)[before:]
    assert asked.count("GET /v2/usage/generations") == 1
    assert not [path for path in asked if path.endswith("/costs")]


async def test_a_cost_that_is_known_late_leaves_the_estimate_of_a_deleted_job_held(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    sandbox.configure(cost_seconds=3600.0)
    guard = Guard(ledger)
    async with client(sandbox, guard) as sync:
        job = await make(sync, sandbox)
        sandbox.advance(60)
        await guard.delete_jobs(sync, [await sync.generations.get(job.id)])
        assert standing(ledger) == [("deleted", None, PRICE)]
        # The export tells of deleted ones too; what stayed open is asked for after a day.
        sandbox.advance(2 * 86_400)
        await sync.ping()
        await guard.spending(sync)
    assert standing(ledger) == [("deleted", PRICE, PRICE)]


async def test_one_deletion_that_fails_leaves_the_others_deleted_and_its_own_job_as_it_was(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    guard = Guard(ledger)
    async with client(sandbox, guard) as sync:
        made = [await make(sync, sandbox, number) for number in range(3)]
        sandbox.advance(60)
        jobs = await sync.generations.list(ids=[job.id for job in made])
        stays = made[1].id
        sandbox.add_fault(Fault.api_error("generation_conflict", path=f"/v2/generations/{stays}"))
        outcomes = await guard.delete_jobs(sync, jobs)
        with pytest.raises(NotFoundError):
            await sync.generations.get(made[0].id)
    failed = outcomes[stays]
    assert failed
    assert failed.api_code == "generation_conflict"
    assert [id for id, failure in outcomes.items() if failure] == [stays]
    states = {entry.generation_id: entry.state for entry in ledger.entries(limit=None)}
    assert states == {made[0].id: "deleted", stays: "ended", made[2].id: "deleted"}
