"""Jobs that are watched together, where their ends and their faults come at once."""

from collections.abc import Mapping
from typing import cast

import anyio
import pytest

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.generation_reads import GenerationReads
from sync_mcp.api.looks import Looks
from sync_mcp.api.models import Generation
from sync_mcp.api.news import News
from sync_mcp.api.running import RunningJobs
from sync_mcp.api.wait import Look
from sync_mcp.errors import PermissionDeniedError, SyncError

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def _job(id: str, status: str) -> Generation:
    return Generation.model_validate({"id": id, "status": status, "createdAt": "2026-01-01T00:00:00Z"})


class _Reads:
    """Reads whose list knows no job; each that is asked for is refused when the test says so."""

    def __init__(self) -> None:
        self.allowance = Allowance()
        self.asked: Mapping[str, anyio.Event] = {id: anyio.Event() for id in "ABC"}
        self.refused: Mapping[str, anyio.Event] = {id: anyio.Event() for id in "ABC"}

    async def list(self, **_: object) -> list[Generation]:
        return []

    async def get(self, id: str, **_: object) -> Generation:
        self.asked[id].set()
        await self.refused[id].wait()
        raise PermissionDeniedError("No.", status=403)


@both_backends
async def test_one_that_is_left_alone_by_an_end_and_a_fault_at_once_is_still_watched() -> None:
    reads, ended = _Reads(), anyio.Event()
    held_last = anyio.Event()
    told: list[str] = []

    async def hold(id: str) -> Look:
        if id == "C":
            held_last.set()
            await anyio.sleep_forever()
        await ended.wait()
        return Look(_job(id, "COMPLETED"), long_polled=True)

    def note(job: Generation, _: SyncError | None) -> None:
        told.append(job.id)
        if job.id == "A":
            # While the others are expected to end with it.
            reads.refused["B"].set()

    looks = Looks(lambda: cast(GenerationReads, reads))
    running = RunningJobs(hold, looks, note, News())
    async with anyio.create_task_group() as tasks:
        for id in "ABC":
            running.add(_job(id, "PROCESSING"))
        looks.next_at = 0.0
        tasks.start_soon(running.watch, lambda: True)
        await reads.asked["B"].wait()
        ended.set()
        with anyio.fail_after(10):
            await held_last.wait()
        tasks.cancel_scope.cancel()
    assert told == ["A", "B"]
