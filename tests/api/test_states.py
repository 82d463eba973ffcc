"""The states of many jobs at once: an answer for each, in few requests."""

import pytest
from anyio.lowlevel import checkpoint

from sync_mcp import (
    AsyncSync,
    AuthenticationError,
    Generation,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    SyncError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import LIST, make, trail

pytestmark = pytest.mark.anyio

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def made(sync: AsyncSync, sandbox: Sandbox, *fates: str | None) -> list[str]:
    """Make a job for each fate and return the ids."""
    ids: list[str] = []
    for fate in fates:
        if fate:
            sandbox.add_fault(Fault.model_validate({"path": "/v2/generate", "job": fate}))
        ids.append((await make(sync, sandbox)).id)
    return ids


def words(states: dict[str, Generation | SyncError]) -> list[str]:
    """Return the status or the kind of error of each."""
    return [
        state.status if isinstance(state, Generation) else type(state).__name__ for state in states.values()
    ]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_states_of_many_jobs_cost_one_list(sandbox: Sandbox, sync: AsyncSync) -> None:
    ids = await made(sync, sandbox, None, "fail", None)
    sandbox.advance(60)
    before = len(sandbox.requests)
    states = await sync.generations.states([*ids, ids[0]])
    assert set(states) == set(ids)
    assert sorted(words(states)) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert trail(sandbox.requests[before:]) == [LIST]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_jobs_that_the_list_leaves_out_are_asked_for_singly(sandbox: Sandbox, sync: AsyncSync) -> None:
    shown, hidden, forgotten = await made(sync, sandbox, None, "hide", "forget")
    before = len(sandbox.requests)
    states = await sync.generations.states([shown, hidden, forgotten, UNKNOWN])
    assert {id: type(state) for id, state in states.items()} == {
        shown: Generation,
        hidden: Generation,
        forgotten: NotFoundError,
        UNKNOWN: NotFoundError,
    }
    singly = {one.path.rpartition("/")[2] for one in sandbox.requests[before + 1 :]}
    assert singly == {hidden, forgotten, UNKNOWN}


async def test_an_api_that_cannot_list_by_id_is_asked_for_each_job(sandbox: Sandbox, sync: AsyncSync) -> None:
    ids = await made(sync, sandbox, None, None)
    body = {"message": ["property ids should not exist"]}
    fault = {"path": "/v2/generations", "status": 400, "body": body, "times": None}
    sandbox.add_fault(Fault.model_validate(fault))
    assert words(await sync.generations.states(ids)) == ["PENDING", "PENDING"]


async def test_a_list_that_fails_is_the_answer_for_each_job(sandbox: Sandbox, sync: AsyncSync) -> None:
    ids = await made(sync, sandbox, None, None)
    before = len(sandbox.requests)
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/generations"))
    states = await sync.generations.states(ids, request_options={"max_retries": 0})
    assert [type(states[id]) for id in ids] == [ServerError, ServerError]
    sandbox.add_fault(Fault(path="/v2/generations", status=401, body={"message": "Unauthorized"}))
    states = await sync.generations.states(ids)
    assert [type(states[id]) for id in ids] == [AuthenticationError, AuthenticationError]
    # Asked one by one, each would be refused in the same way.
    assert trail(sandbox.requests[before:]) == [LIST, LIST]


async def test_what_cannot_be_an_id_is_answered_and_touches_no_other(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    (id,) = await made(sync, sandbox, None)
    before = len(sandbox.requests)
    states = await sync.generations.states(["a,b", id, "../x"])
    assert isinstance(states["a,b"], InvalidRequestError)
    assert isinstance(states["../x"], InvalidRequestError)
    assert isinstance(states[id], Generation)
    assert [one.query.get("ids") for one in sandbox.requests[before:]] == [id]


async def test_more_than_a_hundred_jobs_are_asked_for_by_the_hundred(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    for places in (range(100), range(100, 150)):
        body = [{"id": f"job-{place}", "status": "PENDING"} for place in places]
        sandbox.add_fault(Fault.model_validate({"path": "/v2/generations", "status": 200, "body": body}))
    states = await sync.generations.states(f"job-{place}" for place in range(150))
    assert words(states) == ["PENDING"] * 150
    assert [len(one.query["ids"].split(",")) for one in sandbox.requests] == [100, 50]


async def test_no_jobs_cost_no_request(sandbox: Sandbox, sync: AsyncSync) -> None:
    assert await sync.generations.states([]) == {}
    assert sandbox.requests == []


async def test_each_request_waits_for_its_turn(sandbox: Sandbox, sync: AsyncSync) -> None:
    ids = await made(sync, sandbox, "hide", "hide")
    before = len(sandbox.requests)
    turns: list[int] = []

    async def turn() -> None:
        turns.append(len(sandbox.requests) - before)
        await checkpoint()

    await sync.generations.states(ids, turn=turn)
    assert len(turns) == 3
    assert turns[:2] == [0, 1]
