"""Work that outlasts the call that began it and is joined by those who come back; turns under one key."""

import math
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.background import work as work_module
from sync_mcp.background.work import MOST_KEPT, Work
from sync_mcp.errors import FileRefused, Handle, InternalError, SyncError, UnderWay

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

AT_ONCE = -math.inf
HALF = Transfer("send", 1_500_000, 3_000_000)


class Task:
    """A piece of work that ends when the test says so, and what it ends with."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self.begun = 0
        self.released = anyio.Event()
        self.at_half = anyio.Event()
        self.ended = False
        self._outcomes = outcomes or ("done",)

    async def __call__(self, on_progress: OnProgress) -> str:
        outcome = self._outcomes[min(self.begun, len(self._outcomes) - 1)]
        self.begun += 1
        await on_progress(HALF)
        self.at_half.set()
        await self.released.wait()
        self.ended = True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


@pytest.fixture
async def background() -> AsyncIterator[Work]:
    async with anyio.create_task_group() as task_group:
        yield Work(task_group)
        task_group.cancel_scope.cancel()


async def join(background: Work, work: Task, *, until: float = math.inf, key: str = "k") -> str:
    return await background.join(key, work, until=until)


async def leave(background: Work, work: Task, key: str = "k") -> UnderWay:
    """Begin the work, or join it, and give up at once."""
    with pytest.raises(UnderWay) as caught:
        await join(background, work, until=AT_ONCE, key=key)
    return caught.value


@both_backends
async def test_a_call_that_has_time_is_answered_with_the_result(background: Work) -> None:
    work = Task("the asset")
    work.released.set()
    assert await join(background, work) == "the asset"


@both_backends
async def test_a_call_whose_time_is_up_says_how_far_it_is_and_the_work_goes_on(background: Work) -> None:
    work = Task()
    early = await leave(background, work)
    assert (early.code, early.retryable, early.money_spent) == ("transfer_under_way", True, "no")
    await work.at_half.wait()
    late = await leave(background, work)
    assert late.handle.progress == HALF
    assert late.message == "Not finished: 1,500,000 of 3,000,000 bytes sent."
    assert "exactly this call again" in late.next_step
    work.released.set()
    assert await join(background, work) == "done"
    assert work.begun == 1


@both_backends
async def test_a_cancelled_caller_does_not_cancel_the_work(background: Work) -> None:
    work = Task()
    async with anyio.create_task_group() as callers:
        callers.start_soon(join, background, work)
        await work.at_half.wait()
        callers.cancel_scope.cancel()
    work.released.set()
    assert await join(background, work) == "done"
    assert work.begun == 1


@both_backends
async def test_all_who_wait_get_the_one_result(background: Work) -> None:
    work, results = Task(), list[str]()

    async def wait() -> None:
        results.append(await join(background, work))

    async with anyio.create_task_group() as callers:
        for _ in range(5):
            callers.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        work.released.set()
    assert (results, work.begun) == (["done"] * 5, 1)


async def test_a_result_is_kept_for_all_who_come_back_even_without_time(background: Work) -> None:
    work = Task("first", "second")
    await leave(background, work)
    work.released.set()
    await anyio.wait_all_tasks_blocked()
    assert [await join(background, work, until=AT_ONCE) for _ in range(3)] == ["first"] * 3
    assert work.begun == 1


async def test_a_result_is_not_kept_for_ever(background: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Task("first", "second")
    work.released.set()
    assert await join(background, work) == "first"
    monkeypatch.setattr(work_module, "KEPT_SECONDS", -1.0)
    assert await join(background, work) == "second"


async def test_the_oldest_results_give_way_when_many_are_kept(background: Work) -> None:
    work = Task()
    work.released.set()
    for number in range(MOST_KEPT + 1):
        await join(background, work, key=str(number))
    begun = work.begun
    await join(background, work, key=str(MOST_KEPT))
    await join(background, work, key="1")
    assert work.begun == begun
    await join(background, work, key="0")
    assert work.begun == begun + 1


async def test_what_is_under_way_never_gives_way(background: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "KEPT_SECONDS", -1.0)
    monkeypatch.setattr(work_module, "MOST_KEPT", 0)
    work = Task()
    for _ in range(3):
        await leave(background, work)
        await anyio.wait_all_tasks_blocked()
    assert work.begun == 1


@both_backends
async def test_an_error_is_told_to_those_who_wait_and_the_next_call_begins_anew(background: Work) -> None:
    work, told = Task(FileRefused("no", code="file_changed"), "second"), list[str]()

    async def wait() -> None:
        with pytest.raises(FileRefused) as caught:
            await join(background, work)
        told.append(caught.value.code)

    async with anyio.create_task_group() as callers:
        callers.start_soon(wait)
        callers.start_soon(wait)
        await work.at_half.wait()
        work.released.set()
    assert told == ["file_changed"] * 2
    assert await join(background, work) == "second"


@both_backends
async def test_an_error_that_nobody_waited_for_is_told_once_to_who_comes_back(background: Work) -> None:
    work = Task(FileRefused("no", code="file_changed"), "second")
    await leave(background, work)
    work.released.set()
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(FileRefused):
        await join(background, work, until=AT_ONCE)
    assert await join(background, work) == "second"


@both_backends
async def test_a_fault_of_the_work_reaches_the_caller_and_ends_nothing_else(background: Work) -> None:
    work, other = Task(ZeroDivisionError()), Task()
    await leave(background, other, key="other")
    work.released.set()
    with pytest.raises(ZeroDivisionError):
        await join(background, work)
    other.released.set()
    assert await join(background, other, key="other") == "done"


@both_backends
async def test_progress_tells_the_newest_state_and_a_slow_listener_holds_nothing_up(
    background: Work,
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

    assert await background.join("k", work, until=math.inf, on_progress=listen) == "done"
    assert heard == [0, 100]


@both_backends
async def test_the_end_of_the_server_leaves_nobody_waiting() -> None:
    work, told = Task(), list[SyncError]()

    async def wait() -> None:
        with pytest.raises(InternalError) as caught:
            await join(background, work)
        told.append(caught.value)

    async with anyio.create_task_group() as callers, anyio.create_task_group() as server:
        background = Work(server)
        callers.start_soon(wait)
        await work.at_half.wait()
        server.cancel_scope.cancel()
    assert [error.money_spent for error in told] == ["no"]


async def test_a_forgotten_result_is_made_anew_and_what_is_under_way_is_left(background: Work) -> None:
    work = Task("first", "second")
    await leave(background, work)
    await work.at_half.wait()
    background.forget("k")
    background.forget("unknown")
    work.released.set()
    assert await join(background, work) == "first"
    background.forget("k")
    assert await join(background, work) == "second"


async def test_different_keys_are_different_work(background: Work) -> None:
    work = Task("a", "b")
    work.released.set()
    assert [await join(background, work, key="a"), await join(background, work, key="b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("transfer", "said"),
    [
        (None, "it has just begun"),
        (Transfer("hash", 10, 5_000), "10 of 5,000 bytes read"),
        (Transfer("fetch", 12_345, None), "12,345 bytes fetched"),
    ],
)
async def test_how_far_it_is_stands_in_the_message(transfer: Transfer | None, said: str) -> None:
    assert UnderWay(Handle("k", transfer)).message == f"Not finished: {said}."


async def test_the_handle_joins_what_goes_on(background: Work) -> None:
    work = Task("first", "second")
    handle = (await leave(background, work)).handle
    work.released.set()
    assert await background.join(handle.key, work, until=math.inf) == "first"


async def test_a_handle_shows_no_key() -> None:
    assert str(Handle("https://host/clip.mp4?signature=1", HALF)) == f"Handle(progress={HALF})"


class Calls:
    """Calls that do work to its end, and what became of them."""

    def __init__(self, background: Work, work: Task) -> None:
        self._background = background
        self._work = work
        self.left = 0
        self.results: list[str] = []

    async def call(self) -> None:
        self.results.append(await self._background.finish(self._do, on_left=self._leave))

    async def _do(self) -> str:
        return await self._work(ignore)

    def _leave(self) -> None:
        self.left += 1


async def ignore(transfer: Transfer) -> None:
    del transfer


@both_backends
async def test_what_must_not_stop_in_the_middle_is_done_for_each_call_by_itself(background: Work) -> None:
    work = Task("first", "second")
    work.released.set()
    calls = Calls(background, work)
    for _ in range(2):
        await calls.call()
    assert (calls.results, calls.left) == (["first", "second"], 0)


@both_backends
@pytest.mark.parametrize("has_task_group", [True, False])
async def test_a_call_that_is_cancelled_says_so_at_once_and_what_it_began_is_done(
    background: Work, *, has_task_group: bool
) -> None:
    work = Task()
    calls = Calls(background if has_task_group else Work(None), work)
    async with anyio.create_task_group() as callers:
        callers.start_soon(calls.call)
        await work.at_half.wait()
        callers.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            while not calls.left:
                await anyio.lowlevel.checkpoint()
            work.released.set()
    with anyio.fail_after(5):
        while not work.ended:
            await anyio.lowlevel.checkpoint()
    assert (calls.results, calls.left) == ([], 1)


async def test_without_a_task_group_a_cancelled_call_is_held_up_until_what_it_began_is_done() -> None:
    work = Task()
    calls = Calls(Work(None), work)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as callers:
            callers.start_soon(calls.call)
            await work.at_half.wait()
            tasks.start_soon(_release_once_left, calls, work)
            callers.cancel_scope.cancel()
        assert work.ended
    assert (calls.results, calls.left) == ([], 1)


async def _release_once_left(calls: Calls, work: Task) -> None:
    while not calls.left:
        await anyio.lowlevel.checkpoint()
    work.released.set()


@both_backends
async def test_a_fault_of_what_is_done_to_its_end_is_raised_where_it_is_waited_for(background: Work) -> None:
    work = Task(ZeroDivisionError())
    work.released.set()
    with pytest.raises(ZeroDivisionError):
        await Calls(background, work).call()


async def test_a_fault_that_nobody_waits_for_is_logged(
    background: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work = Task(FileRefused("It is gone.", code="file_changed"))
    async with anyio.create_task_group() as callers:
        callers.start_soon(Calls(background, work).call)
        await work.at_half.wait()
        callers.cancel_scope.cancel()
    work.released.set()
    await anyio.wait_all_tasks_blocked()
    assert "work whose call was cancelled ended: file_changed: It is gone." in caplog.text


@both_backends
async def test_whether_what_the_end_of_the_server_broke_off_cost_money_is_unknown() -> None:
    work, told = Task(), list[SyncError]()

    async def wait(calls: Calls) -> None:
        with pytest.raises(InternalError) as caught:
            await calls.call()
        told.append(caught.value)

    async with anyio.create_task_group() as callers, anyio.create_task_group() as server:
        callers.start_soon(wait, Calls(Work(server), work))
        await work.at_half.wait()
        server.cancel_scope.cancel()
    assert [error.money_spent for error in told] == ["unknown"]


async def test_what_is_done_to_its_end_takes_the_place_of_no_kept_result(background: Work) -> None:
    work = Task("kept", "done")
    work.released.set()
    assert await join(background, work) == "kept"
    for _ in range(MOST_KEPT + 1):
        await Calls(background, work).call()
    await join(background, work, key="other")
    assert await join(background, work) == "kept"


def busy() -> SyncError:
    return UnderWay(Handle("k"), "Another has its turn.")


@both_backends
async def test_those_of_one_key_go_one_after_another_and_those_of_another_do_not_wait() -> None:
    background, order, first = Work(None), list[str](), anyio.Event()

    async def go(name: str, key: str, may_end: anyio.Event | None = None) -> None:
        async with background.turn(key, until=math.inf, busy=busy):
            order.append(f"{name} begins")
            if may_end is not None:
                await may_end.wait()
            order.append(f"{name} ends")

    async with anyio.create_task_group() as callers:
        callers.start_soon(go, "a", "k", first)
        await anyio.wait_all_tasks_blocked()
        callers.start_soon(go, "b", "k")
        callers.start_soon(go, "c", "other")
        await anyio.wait_all_tasks_blocked()
        assert order == ["a begins", "c begins", "c ends"]
        first.set()
    assert order[3:] == ["a ends", "b begins", "b ends"]


@both_backends
async def test_who_does_not_get_a_turn_in_time_is_told_and_stands_in_nobodys_way() -> None:
    background = Work(None)
    async with background.turn("k", until=math.inf, busy=busy):
        with pytest.raises(UnderWay, match="Another has its turn"):
            async with background.turn("k", until=AT_ONCE, busy=busy):
                pytest.fail("Two have one turn.")
    # A turn that is free is had even by a call whose time is up.
    async with background.turn("k", until=AT_ONCE, busy=busy):
        pass


@both_backends
async def test_a_turn_that_is_left_by_an_error_or_a_cancellation_is_free() -> None:
    background = Work(None)
    with pytest.raises(ZeroDivisionError):
        async with background.turn("k", until=math.inf, busy=busy):
            raise ZeroDivisionError
    with anyio.move_on_after(0):
        async with background.turn("k", until=math.inf, busy=busy):
            await anyio.sleep_forever()
    async with background.turn("k", until=AT_ONCE, busy=busy):
        pass


async def test_a_turn_is_not_joined_by_work_of_the_same_key(background: Work) -> None:
    work = Task()
    work.released.set()
    async with background.turn("k", until=math.inf, busy=busy):
        assert await join(background, work) == "done"
