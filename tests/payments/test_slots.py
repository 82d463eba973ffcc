"""Waiting for a slot: by the one watching, out of the one allowance of the account."""

from collections.abc import Callable

import anyio
import pytest

from sync_mcp import AsyncSync, CreateFields, Guard
from sync_mcp.api.allowance import Allowance
from sync_mcp.api.models import GenerationRequest
from sync_mcp.background.watching import Watcher
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import PaidCall
from sync_mcp.sandbox import RecordedRequest, Sandbox
from tests.api.conftest import make, until

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
LIST = "/v2/generations"


class Counted(Allowance):
    """An allowance that tells how much of it was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    async def take(self) -> None:
        await super().take()
        self.taken += 1


def listed(sandbox: Sandbox, *ids: str) -> int:
    """Return how often the states of just these jobs were listed."""
    asked = (one.query.get("ids", "") for one in sandbox.requests if one.path == LIST)
    return sum(set(each.split(",")) == set(ids) for each in asked)


def reads(sandbox: Sandbox) -> list[RecordedRequest]:
    """Return what those who wait have asked: lists of jobs by id or status, and jobs one by one."""
    return [
        one
        for one in sandbox.requests
        if one.method == "GET"
        and (one.path.startswith("/v2/generate/") or {"ids", "status"} & one.query.keys())
    ]


def polled(sandbox: Sandbox, id: str) -> bool:
    return any(one.path == f"/v2/generate/{id}" and "wait" in one.query for one in sandbox.requests)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_wait_create_many_the_watcher_and_the_wait_for_a_slot_share_one_allowance(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard: Guard,
    request_of: Callable[..., GenerationRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.01)
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.01)
    sandbox.configure(plan="creator")
    allowance = sync.generations.allowance = Counted()
    many: list[CreateFields] = [
        {"model": "lipsync-2", "input": request_of(f"?many={number}").input} for number in range(2)
    ]
    until_then = anyio.current_time() + PATIENCE_SECONDS
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks, sync.generations.create_many(many, 2) as created:
            await until(lambda: len(created.pending) == 2)
            first, second = (one.generation.id for one in created.pending)
            third = (await make(sync, sandbox)).id
            tasks.start_soon(sync.generations.wait, third)
            tasks.start_soon(Watcher(lambda: sync, tasks).wait_for_many, [second, third], PATIENCE_SECONDS)
            # All three slots are taken.
            tasks.start_soon(
                guard.create, PaidCall(sync, GenerationAct.of(request_of("?one=more")), slot_until=until_then)
            )
            await until(
                lambda: (
                    polled(sandbox, third)
                    and listed(sandbox, first, second) >= 5
                    and listed(sandbox, second, third) >= 5
                    and listed(sandbox, first, second, third) >= 5
                )
            )
            assert 0 < len(reads(sandbox)) <= allowance.taken
            tasks.cancel_scope.cancel()


async def test_the_only_job_that_runs_is_waited_for_by_long_poll(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, request_of: Callable[..., GenerationRequest]
) -> None:
    sandbox.configure(plan="hobbyist")
    running = (await make(sync, sandbox)).id
    until_then = anyio.current_time() + PATIENCE_SECONDS
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                guard.create, PaidCall(sync, GenerationAct.of(request_of("?n=2")), slot_until=until_then)
            )
            await until(lambda: polled(sandbox, running))
            sandbox.advance(60)
    assert len(sandbox.charges) == 2
    assert sum("status" in one.query for one in reads(sandbox)) == 1


async def test_a_wait_for_a_slot_is_the_watchers_of_the_account_where_it_has_one(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard: Guard,
    request_of: Callable[..., GenerationRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.slots._SLOT_POLL_SECONDS", 0.01)
    sandbox.configure(plan="hobbyist")
    running = (await make(sync, sandbox)).id
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            watcher = Watcher(lambda: sync, tasks)
            # No other can be made.
            monkeypatch.setattr("sync_mcp.payments.slots.Watcher", None)
            until_then = anyio.current_time() + PATIENCE_SECONDS
            tasks.start_soon(
                guard.create,
                PaidCall(sync, GenerationAct.of(request_of("?n=2")), slot_until=until_then, watcher=watcher),
            )
            await until(lambda: polled(sandbox, running))
            sandbox.advance(60)
    assert len(sandbox.charges) == 2
