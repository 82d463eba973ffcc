"""What is listed for an account is kept, and asked for once however many want it."""

import anyio
import pytest

from sync_mcp import AsyncSync, SyncError
from sync_mcp.requests.kept_lists import KeptLists
from sync_mcp.sandbox import Fault, Sandbox

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
pytestmark = pytest.mark.anyio
_WANTING = 8


def _count_asked(sandbox: Sandbox) -> int:
    return sum(request.path == "/v2/models" for request in sandbox.requests)


@both_backends
async def test_many_who_want_a_list_at_once_have_it_asked_for_once(sandbox: Sandbox) -> None:
    async with AsyncSync(api_key="any", base_url=sandbox.url) as sync:
        lists = KeptLists(lambda: sync)
        async with anyio.create_task_group() as tasks:
            for _ in range(_WANTING):
                tasks.start_soon(lists.models)
        assert await lists.models()
    assert _count_asked(sandbox) == 1


@both_backends
async def test_what_one_of_them_is_refused_all_are_told_and_the_next_asks_anew(sandbox: Sandbox) -> None:
    sandbox.add_fault(
        Fault.model_validate({"method": "GET", "path": "/v2/models", "status": 403, "times": 1})
    )
    told: list[SyncError] = []
    async with AsyncSync(api_key="any", base_url=sandbox.url) as sync:
        lists = KeptLists(lambda: sync)

        async def want() -> None:
            try:
                await lists.models()
            except SyncError as error:
                told.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(_WANTING):
                tasks.start_soon(want)
        assert _count_asked(sandbox) == 1
        assert len(told) == _WANTING
        assert await lists.models()
    assert _count_asked(sandbox) == 2
