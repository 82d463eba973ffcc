"""Transfers that outlast the call that began them, and are joined by those who come back."""

import math
from collections.abc import AsyncIterator

import anyio
import pytest

from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.background import transfers as transfers_module
from sync_mcp.background.transfers import MOST_KEPT, Transfers, TransferUnderWay
from sync_mcp.errors import FileRefused, InternalError, SyncError

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

AT_ONCE = -math.inf
HALF = Transfer("send", 1_500_000, 3_000_000)


class Work:
    """A piece of work that ends when the test says so, and what it ends with."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self.begun = 0
        self.released = anyio.Event()
        self.at_half = anyio.Event()
        self._outcomes = outcomes or ("done",)

    async def __call__(self, on_progress: OnProgress) -> str:
        outcome = self._outcomes[min(self.begun, len(self._outcomes) - 1)]
        self.begun += 1
        await on_progress(HALF)
        self.at_half.set()
        await self.released.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    async with anyio.create_task_group() as task_group:
        yield Transfers(task_group)
        task_group.cancel_scope.cancel()


async def join(transfers: Transfers, work: Work, *, until: float = math.inf, key: str = "k") -> str:
    return await transfers.join(key, work, until=until)


async def leave(transfers: Transfers, work: Work, key: str = "k") -> TransferUnderWay:
    """Begin the work, or join it, and give up at once."""
    with pytest.raises(TransferUnderWay) as caught:
        await join(transfers, work, until=AT_ONCE, key=key)
    return caught.value


@both_backends
async def test_a_call_that_has_time_is_answered_with_the_result(transfers: Transfers) -> None:
    work = Work("the asset")
    work.released.set()
    assert await join(transfers, work) == "the asset"


@both_backends
async def test_a_call_whose_time_is_up_says_how_far_it_is_and_the_work_goes_on(transfers: Transfers) -> None:
    work = Work()
    early = await leave(transfers, work)
    assert (early.code, early.retryable, early.money_spent) == ("transfer_under_way", True, "no")
    await work.at_half.wait()
    late = await leave(transfers, work)
    assert late.transfer == HALF
    assert late.message == "Not finished: 1,500,000 of 3,000,000 bytes sent."
    assert "exactly this call again" in late.next_step
    work.released.set()
    assert await join(transfers, work) == "done"
    assert work.begun == 1


@both_backends
async def test_a_cancelled_caller_does_not_cancel_the_work(transfers: Transfers) -> None:
    work = Work()
    async with anyio.create_task_group() as callers:
        callers.start_soon(join, transfers, work)
        await work.at_half.wait()
        callers.cancel_scope.cancel()
    work.released.set()
    assert await join(transfers, work) == "done"
    assert work.begun == 1


@both_backends
async def test_all_who_wait_get_the_one_result(transfers: Transfers) -> None:
    work, results = Work(), list[str]()

    async def wait() -> None:
        results.append(await join(transfers, work))

    async with anyio.create_task_group() as callers:
        for _ in range(5):
            callers.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        work.released.set()
    assert (results, work.begun) == (["done"] * 5, 1)


async def test_a_result_is_kept_for_all_who_come_back_even_without_time(transfers: Transfers) -> None:
    work = Work("first", "second")
    await leave(transfers, work)
    work.released.set()
    await anyio.wait_all_tasks_blocked()
    assert [await join(transfers, work, until=AT_ONCE) for _ in range(3)] == ["first"] * 3
    assert work.begun == 1


async def test_a_result_is_not_kept_for_ever(transfers: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work("first", "second")
    work.released.set()
    assert await join(transfers, work) == "first"
    monkeypatch.setattr(transfers_module, "KEPT_SECONDS", -1.0)
    assert await join(transfers, work) == "second"


async def test_the_oldest_results_give_way_when_many_are_kept(transfers: Transfers) -> None:
    work = Work()
    work.released.set()
    for number in range(MOST_KEPT + 1):
        await join(transfers, work, key=str(number))
    begun = work.begun
    await join(transfers, work, key=str(MOST_KEPT))
    await join(transfers, work, key="1")
    assert work.begun == begun
    await join(transfers, work, key="0")
    assert work.begun == begun + 1


async def test_what_is_under_way_never_gives_way(
    transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_module, "KEPT_SECONDS", -1.0)
    monkeypatch.setattr(transfers_module, "MOST_KEPT", 0)
    work = Work()
    for _ in range(3):
        await leave(transfers, work)
        await anyio.wait_all_tasks_blocked()
    assert work.begun == 1


@both_backends
async def test_an_error_is_told_to_those_who_wait_and_the_next_call_begins_anew(transfers: Transfers) -> None:
    work, told = Work(FileRefused("no", code="file_changed"), "second"), list[str]()

    async def wait() -> None:
        with pytest.raises(FileRefused) as caught:
            await join(transfers, work)
        told.append(caught.value.code)

    async with anyio.create_task_group() as callers:
        callers.start_soon(wait)
        callers.start_soon(wait)
        await work.at_half.wait()
        work.released.set()
    assert told == ["file_changed"] * 2
    assert await join(transfers, work) == "second"


@both_backends
async def test_an_error_that_nobody_waited_for_is_told_once_to_who_comes_back(transfers: Transfers) -> None:
    work = Work(FileRefused("no", code="file_changed"), "second")
    await leave(transfers, work)
    work.released.set()
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(FileRefused):
        await join(transfers, work, until=AT_ONCE)
    assert await join(transfers, work) == "second"


@both_backends
async def test_a_fault_of_the_work_reaches_the_caller_and_ends_nothing_else(transfers: Transfers) -> None:
    work, other = Work(ZeroDivisionError()), Work()
    await leave(transfers, other, key="other")
    work.released.set()
    with pytest.raises(ZeroDivisionError):
        await join(transfers, work)
    other.released.set()
    assert await join(transfers, other, key="other") == "done"


@both_backends
async def test_progress_tells_the_newest_state_and_a_slow_listener_holds_nothing_up(
    transfers: Transfers,
) -> None:
    heard, moving, listening = list[int](), anyio.Event(), anyio.Event()

    async def work(on_progress: OnProgress) -> str:
        await on_progress(Transfer("fetch", 0, 100))
        await listening.wait()
        for done in range(1, 101):
            await on_progress(Transfer("fetch", done, 100))
        moving.set()
        return "done"

    async def listen(transfer: Transfer) -> None:
        heard.append(transfer.done_bytes)
        listening.set()
        await moving.wait()

    assert await transfers.join("k", work, until=math.inf, on_progress=listen) == "done"
    assert heard == [0, 100]


@both_backends
async def test_the_end_of_the_server_leaves_nobody_waiting() -> None:
    work, told = Work(), list[SyncError]()

    async def wait() -> None:
        with pytest.raises(InternalError) as caught:
            await join(transfers, work)
        told.append(caught.value)

    async with anyio.create_task_group() as callers, anyio.create_task_group() as server:
        transfers = Transfers(server)
        callers.start_soon(wait)
        await work.at_half.wait()
        server.cancel_scope.cancel()
    assert [error.money_spent for error in told] == ["no"]


async def test_a_forgotten_result_is_made_anew_and_what_is_under_way_is_left(transfers: Transfers) -> None:
    work = Work("first", "second")
    await leave(transfers, work)
    await work.at_half.wait()
    transfers.forget("k")
    transfers.forget("unknown")
    work.released.set()
    assert await join(transfers, work) == "first"
    transfers.forget("k")
    assert await join(transfers, work) == "second"


async def test_different_keys_are_different_work(transfers: Transfers) -> None:
    work = Work("a", "b")
    work.released.set()
    assert [await join(transfers, work, key="a"), await join(transfers, work, key="b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("transfer", "said"),
    [
        (None, "it has just begun"),
        (Transfer("hash", 10, 5_000), "10 of 5,000 bytes read"),
        (Transfer("fetch", 12_345, None), "12,345 bytes fetched"),
    ],
)
async def test_how_far_it_is_stands_in_the_message(transfer: Transfer | None, said: str) -> None:
    assert TransferUnderWay(transfer).message == f"Not finished: {said}."
