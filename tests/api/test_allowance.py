"""How many reads may go out: so many at once, and then so many a second, whoever asks first going first."""

import anyio
import pytest

from sync_mcp import RateLimitError
from sync_mcp.api import allowance
from sync_mcp.api.allowance import Allowance

pytestmark = pytest.mark.anyio

SECONDS_EACH = 1000.0
TOLERANCE = 60.0
"""No machine takes so long over a line."""


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "_READS_AT_ONCE", 3)
    monkeypatch.setattr(allowance, "_READS_PER_SECOND", 1 / SECONDS_EACH)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_so_many_go_out_at_once_and_the_next_ones_each_wait_for_their_turn(
    pauses: list[float],
) -> None:
    reads = Allowance()
    for spare in (3, 2, 1):
        assert reads.spare == spare
        await reads.take()
    assert (reads.spare, pauses) == (0, [])
    for _ in range(2):
        await reads.take()
    assert pauses == pytest.approx([SECONDS_EACH, 2 * SECONDS_EACH], abs=TOLERANCE)


async def test_what_was_not_asked_is_saved_up_to_as_many_as_may_go_out_at_once(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    reads, later = Allowance(), anyio.current_time()
    for _ in range(4):
        await reads.take()
    pauses.clear()
    for turns, spare in ((2.5, 1), (3.5, 2), (100.0, 3)):
        at = later + turns * SECONDS_EACH
        monkeypatch.setattr(anyio, "current_time", lambda at=at: at)
        assert reads.spare == spare
    assert pauses == []


async def test_those_who_wait_at_the_same_time_do_not_go_at_the_same_time(pauses: list[float]) -> None:
    reads = Allowance()
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(reads.take)
    turns = [SECONDS_EACH, 2 * SECONDS_EACH, 3 * SECONDS_EACH]
    assert sorted(pauses) == pytest.approx(turns, abs=TOLERANCE)


async def test_the_turn_of_one_who_goes_away_is_the_next_ones(pauses: list[float]) -> None:
    reads = Allowance()
    for _ in range(3):
        await reads.take()
    for _ in range(5):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await reads.take()
    pauses.clear()
    await reads.take()
    assert pauses == pytest.approx([SECONDS_EACH], abs=TOLERANCE)


async def test_no_turn_comes_while_the_api_wants_to_be_left_alone(pauses: list[float]) -> None:
    reads = Allowance()
    reads.rest_for(RateLimitError("Slow down.", status=429, retry_after_seconds=200.0))
    for _ in range(2):
        await reads.take()
    assert pauses == pytest.approx([200, 200], abs=TOLERANCE)
