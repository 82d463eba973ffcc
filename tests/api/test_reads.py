"""Reading jobs, lists, costs, models and error codes, and deleting what has ended."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sync_mcp import (
    APIResponseError,
    AsyncSync,
    ConflictError,
    Generation,
    InvalidRequestError,
    NotFoundError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import KEY, job, make, trail
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]
NOT_FOUND = answer(404, {"message": "There is none.", "errorCode": "generation_not_found"})
BAD_IDS = ["", ".", "../models", "a/b", "a?b=c", "a b", "a\n", "ä", "x" * 129, "%2e%2e"]


async def all_of(client: AsyncSync, **filters: Any) -> list[Generation]:
    return [generation async for generation in client.generations.iterate(**filters)]


@both_backends
async def test_get_returns_the_present_state_of_a_job(sandbox: Sandbox, sync: AsyncSync) -> None:
    created = await make(sync, sandbox)
    sandbox.advance(60)
    generation = await sync.generations.get(created.id)
    assert (generation.id, generation.status) == (created.id, "COMPLETED")
    assert generation.output_url
    assert generation.created_at == created.created_at


async def test_a_job_of_a_colleague_is_found_under_the_organizations_path(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(NOT_FOUND, answer(200, job(status="COMPLETED")))
    generation = await client_of(server).generations.get("job-1")
    assert generation.status == "COMPLETED"
    assert trail(server.received) == ["GET /v2/generate/job-1", "GET /v2/generations/job-1"]


async def test_a_job_that_neither_path_knows_is_not_found(serve: Serve, client_of: ClientOf) -> None:
    server = serve(NOT_FOUND, answer(404, {"message": "Cannot GET", "error": "Not Found"}))
    with pytest.raises(NotFoundError, match="There is none") as caught:
        await client_of(server).generations.get("job-1")
    assert caught.value.api_code == "generation_not_found"
    assert server.connections == 2


@pytest.mark.parametrize("body", [[], {}, {"id": "job-1"}, {"status": "PENDING"}, "job", [job()]])
async def test_an_answer_that_is_no_generation_is_told(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError, match="no generation"):
        await client_of(serve(answer(200, body))).generations.get("job-1")


@pytest.mark.parametrize("id", BAD_IDS)
async def test_an_id_that_would_lead_to_another_path_is_refused(
    serve: Serve, client_of: ClientOf, id: str
) -> None:
    server = serve(answer(200, job()))
    generations = client_of(server).generations
    for call in (generations.get, generations.delete, generations.get_cost, generations.wait):
        with pytest.raises(InvalidRequestError, match="generation id"):
            await call(id)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({}, "limit=100"),
        ({"status": ["PENDING", "PROCESSING"]}, "status=PENDING%2CPROCESSING&limit=100"),
        ({"status": "PENDING"}, "status=PENDING&limit=100"),
        ({"status": []}, "limit=100"),
        ({"ids": ("a", "b"), "project_id": "p"}, "ids=a%2Cb&projectId=p&limit=100"),
        ({"limit": 7, "cursor": "job-7"}, "limit=7&cursor=job-7"),
    ],
)
async def test_filters_go_out_as_comma_lists(
    serve: Serve, client_of: ClientOf, filters: Any, query: str
) -> None:
    server = serve(answer(200, []))
    assert await client_of(server).generations.list(**filters) == []
    assert server.received[0].target == f"/v2/generations?{query}"


@both_backends
async def test_a_list_is_filtered_and_paged_by_the_api(sandbox: Sandbox, sync: AsyncSync) -> None:
    made = [(await make(sync, sandbox)).id for _ in range(3)]
    sandbox.advance(60)
    made.append((await make(sync, sandbox)).id)
    newest_first = made[::-1]
    page = await sync.generations.list(limit=2)
    assert [generation.id for generation in page] == newest_first[:2]
    rest = await sync.generations.list(limit=2, cursor=page[-1].id)
    assert [generation.id for generation in rest] == newest_first[2:]
    running = await sync.generations.list(status=["PENDING", "PROCESSING"])
    assert [generation.id for generation in running] == newest_first[:1]
    some = await sync.generations.list(ids=made[:2], status=["COMPLETED"])
    assert [generation.id for generation in some] == made[1::-1]
    assert await sync.generations.list(project_id=sandbox.project_id) == []


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_limit_that_cannot_be_is_refused(sandbox: Sandbox, sync: AsyncSync, limit: int) -> None:
    with pytest.raises(InvalidRequestError, match="between 1 and 100"):
        await sync.generations.list(limit=limit)
    assert sandbox.requests == []


async def test_a_page_is_no_longer_than_asked_even_if_the_api_ignores_the_limit(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(answer(200, [job(f"job-{place}") for place in range(30)]))
    assert len(await client_of(server).generations.list(limit=10)) == 10


@pytest.mark.parametrize("body", [{"items": []}, {}, "none", 3])
async def test_a_list_that_is_no_list_is_an_error_and_not_an_empty_list(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    server = serve(answer(200, body))
    with pytest.raises(APIResponseError, match="no list"):
        await client_of(server).generations.list()
    with pytest.raises(APIResponseError, match="no list"):
        await all_of(client_of(server))


async def test_entries_that_cannot_be_read_are_left_out_and_counted_in_one_line(
    serve: Serve, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    page = [job("a"), {"id": 7}, None, "x", {"status": "PENDING"}, job("b", outputDuration="long")]
    listed = await client_of(serve(answer(200, page))).generations.list()
    assert [generation.id for generation in listed] == ["a", "b"]
    assert listed[1].to_wire()["outputDuration"] == "long"
    assert [record.message for record in caplog.records] == [
        "4 of 6 entries cannot be read as Generation",
        "unreadable fields in a list of Generation: outputDuration (1)",
    ]


@both_backends
async def test_iterate_reads_page_after_page_to_the_end(serve: Serve, client_of: ClientOf) -> None:
    first = [job(f"a-{place}") for place in range(100)]
    # Between two pages a new job may have pushed an old one onto the second.
    second: list[object] = [job("a-99"), *[job(f"b-{place}") for place in range(98)], {"not": "readable"}]
    server = serve(answer(200, first), answer(200, second), answer(200, [job("last")]))
    seen = [generation.id for generation in await all_of(client_of(server), status=["COMPLETED"])]
    assert len(seen) == len(set(seen)) == 199
    assert (seen[0], seen[-1]) == ("a-0", "last")
    assert [one.target.rpartition("=")[2] for one in server.received] == ["100", "a-99", "b-97"]
    assert all("status=COMPLETED" in one.target for one in server.received)


async def test_iterate_fetches_no_page_that_is_not_asked_for(serve: Serve, client_of: ClientOf) -> None:
    server = serve(answer(200, [job(f"a-{place}") for place in range(100)]))
    async for generation in client_of(server).generations.iterate():
        assert generation.id == "a-0"
        break
    assert server.connections == 1


async def test_an_api_that_ignores_the_cursor_is_not_read_for_ever(serve: Serve, client_of: ClientOf) -> None:
    server = serve(answer(200, [job(f"a-{place}") for place in range(100)]))
    assert len(await all_of(client_of(server))) == 100
    assert server.connections == 2


@both_backends
async def test_delete_takes_an_ended_job_away(sandbox: Sandbox, sync: AsyncSync) -> None:
    created = await make(sync, sandbox)
    with pytest.raises(ConflictError) as caught:
        await sync.generations.delete(created.id)
    assert caught.value.api_code == "generation_not_deletable_while_processing"
    sandbox.advance(60)
    await sync.generations.delete(created.id)
    with pytest.raises(NotFoundError):
        await sync.generations.get(created.id)
    with pytest.raises(NotFoundError):
        await sync.generations.delete(created.id)


async def test_the_cost_of_a_job_is_exact_money_once_the_api_knows_it(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    created = await make(sync, sandbox)
    pending = await sync.generations.get_cost(created.id)
    assert (pending.availability, pending.total_cost_usd) == ("pending", None)
    sandbox.advance(60)
    cost = await sync.generations.get_cost(created.id)
    assert cost.availability == "complete"
    assert cost.total_cost_usd == sandbox.charges[0].amount_usd
    assert isinstance(cost.total_cost_usd, Decimal)
    assert cost.to_wire()["currency"] == "USD"


async def test_a_cost_that_is_no_object_is_told(serve: Serve, client_of: ClientOf) -> None:
    with pytest.raises(APIResponseError, match="no cost"):
        await client_of(serve(answer(200, ["0.5"]))).generations.get_cost("job-1")


async def test_models_and_error_codes_are_listed(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(extra_models=["lipsync-9"])
    models = {model.name: model for model in await sync.models.list()}
    assert {"sync-3", "lipsync-2", "react-1", "lipsync-9"} <= models.keys()
    assert (models["react-1"].type, models["sync-3"].type) == ("react", "lipsync")
    errors = {error.code: error for error in await sync.errors.list()}
    assert errors["concurrency_limit_reached"].message
    assert errors["concurrency_limit_reached"].suggestion


@pytest.mark.parametrize("body", [{"items": []}, [{"id": "m-1"}], ["sync-3"]])
async def test_models_that_cannot_be_read_are_told(serve: Serve, client_of: ClientOf, body: object) -> None:
    with pytest.raises(APIResponseError, match="/v2/models"):
        await client_of(serve(answer(200, body))).models.list()


async def test_a_client_that_was_closed_can_be_used_again(sandbox: Sandbox) -> None:
    client = AsyncSync(api_key=KEY, base_url=sandbox.url)
    for _ in range(2):
        assert await client.generations.list() == []
        await client.aclose()
        await client.aclose()


async def test_the_mark_of_a_sandbox_is_seen_on_refusals_too(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault.api_error("account_on_hold"))
    assert not sync.sandboxed
    with pytest.raises(Exception, match="account_on_hold"):
        await sync.models.list()
    assert sync.sandboxed


async def test_jobs_are_counted_by_what_tells_them_apart(sandbox: Sandbox, sync: AsyncSync) -> None:
    await make(sync, sandbox)
    sandbox.advance(60)
    await make(sync, sandbox, {"additional_headers": {"x-sync-source": "comfyui"}})
    assert await sync.generations.count() == 2
    assert await sync.generations.count(status=["COMPLETED"], type="api", current_user_only=True) == 1
    assert await sync.generations.count(generation_source="comfyui") == 1
    assert await sync.generations.count(type="playground") == 0
