"""Many waits, one watcher: each ends soon after its job, and the API is asked as little as can be."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from sync_mcp import (
    APIConnectionError,
    APITimeoutError,
    AsyncSync,
    AuthenticationError,
    ConfigurationError,
    Generation,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    SyncError,
)
from sync_mcp.api.looks import Looks
from sync_mcp.background.watching import Watcher
from sync_mcp.sandbox import Fault, RecordedRequest, Sandbox
from tests.api.conftest import KEY, make, until

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

LIST = "/v2/generations"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks follow each other fast."""
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.1)


@pytest.fixture
def watcher(sync: AsyncSync, tasks: TaskGroup) -> Watcher:
    return Watcher(lambda: sync, tasks)


async def jobs(sync: AsyncSync, sandbox: Sandbox, count: int, **fate: Any) -> list[str]:
    """Make jobs and return their ids."""
    sandbox.configure(plan="enterprise")
    if fate:
        sandbox.add_fault(Fault(times=count, **fate))
    made = [(await make(sync, sandbox)).id for _ in range(count)]
    return made


class Waits:
    """Waits that go on at the same time, and what came of each."""

    def __init__(self, watcher: Watcher, tasks: TaskGroup) -> None:
        self._watcher = watcher
        self._tasks = tasks
        self.outcomes: list[tuple[str, Generation | SyncError]] = []

    def start(self, id: str, seconds: float = 60) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        self._tasks.start_soon(self._wait, scope, id, seconds)
        return scope

    async def _wait(self, scope: anyio.CancelScope, id: str, seconds: float) -> None:
        with scope:
            try:
                self.outcomes.append((id, await self._watcher.wait(id, seconds)))
            except SyncError as error:
                self.outcomes.append((id, error))

    @property
    def states(self) -> dict[str, str]:
        return {
            id: type(outcome).__name__ if isinstance(outcome, SyncError) else outcome.status
            for id, outcome in self.outcomes
        }


@pytest.fixture
def waits(watcher: Watcher, tasks: TaskGroup) -> Waits:
    return Waits(watcher, tasks)


def reads(sandbox: Sandbox) -> list[RecordedRequest]:
    return [request for request in sandbox.requests if request.method == "GET"]


def lists(sandbox: Sandbox) -> list[list[str]]:
    """Return the ids that each list was asked for."""
    return [request.query["ids"].split(",") for request in reads(sandbox) if request.path == LIST]


def polls(sandbox: Sandbox, id: str) -> int:
    return sum(one.path == f"/v2/generate/{id}" and "wait" in one.query for one in reads(sandbox))


def asked_singly(sandbox: Sandbox) -> set[str]:
    return {one.path.rpartition("/")[2] for one in reads(sandbox) if one.path.startswith("/v2/generate/")}


def listed(*states: tuple[str, str]) -> Any:
    return [{"id": id, "status": status} for id, status in states]


@both_backends
async def test_a_single_job_is_waited_for_by_long_poll_alone(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    [id] = await jobs(sync, sandbox, 1)
    before = len(reads(sandbox))
    waits.start(id)
    await until(lambda: polls(sandbox, id) == 1)
    sandbox.advance(60)
    await until(lambda: waits.states == {id: "COMPLETED"})
    assert [request.query for request in reads(sandbox)[before:]] == [
        {"include": "progress"},
        {"wait": "true", "timeout": "4"},
    ]


async def test_waits_for_the_same_job_share_one_long_poll(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    [id] = await jobs(sync, sandbox, 1)
    for _ in range(3):
        waits.start(id)
    await until(lambda: polls(sandbox, id) == 1)
    for _ in range(3):
        waits.start(id)
    await anyio.wait_all_tasks_blocked()
    sandbox.advance(60)
    await until(lambda: len(waits.outcomes) == 6)
    assert waits.states == {id: "COMPLETED"}
    assert polls(sandbox, id) == 1
    assert lists(sandbox) == []


@both_backends
async def test_many_jobs_are_looked_at_by_one_list_in_a_tick(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 12)
    for id in ids:
        waits.start(id)
    await until(lambda: len(lists(sandbox)) == 2)
    sandbox.advance(60)
    await until(lambda: len(waits.outcomes) == 12)
    assert waits.states == dict.fromkeys(ids, "COMPLETED")
    assert {frozenset(asked) for asked in lists(sandbox)} == {frozenset(ids)}
    assert asked_singly(sandbox) == set()
    assert {one.query["limit"] for one in reads(sandbox) if one.path == LIST} == {"100"}
    asked_at = [one.at for one in reads(sandbox) if one.path == LIST]
    assert all((later - earlier).total_seconds() > 0.09 for earlier, later in pairwise(asked_at))


async def test_a_list_asks_for_a_hundred_ids_at_most(sandbox: Sandbox, watcher: Watcher) -> None:
    ids = [f"00000000-0000-0000-0000-{number:012}" for number in range(103)]
    outcomes = await watcher.wait_for_many(ids, 60)
    assert all(isinstance(outcome, NotFoundError) for outcome in outcomes.values())
    assert list(outcomes) == ids
    assert sorted(map(len, lists(sandbox)[:2])) == [3, 100]


async def test_a_list_of_long_ids_is_cut_before_its_address_is_too_long(
    sandbox: Sandbox, watcher: Watcher
) -> None:
    ids = [f"{number:0128}" for number in range(60)]
    await watcher.wait_for_many(ids, 60)
    first, second = lists(sandbox)[:2]
    assert set(first) | set(second) == set(ids)
    assert max(len("%2C".join(asked)) for asked in lists(sandbox)) < 6000


async def test_a_job_that_lists_hide_is_asked_for_singly(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    shown, hidden = *await jobs(sync, sandbox, 1), *await jobs(sync, sandbox, 1, job="hide")
    waits.start(shown)
    waits.start(hidden)
    await until(lambda: len(lists(sandbox)) == 2)
    sandbox.advance(60)
    await until(lambda: len(waits.outcomes) == 2)
    assert waits.states == {shown: "COMPLETED", hidden: "COMPLETED"}
    assert polls(sandbox, shown) == 0


@both_backends
async def test_a_job_that_is_not_there_is_told_at_once_and_the_others_are_waited_for(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 2)
    forgotten = await jobs(sync, sandbox, 1, job="forget")
    for id in (*ids, *forgotten, NOBODY):
        waits.start(id)
    await until(lambda: len(waits.outcomes) == 2)
    assert waits.states == dict.fromkeys((*forgotten, NOBODY), "NotFoundError")
    # A list that was sent before they were told of asks for them still.
    await until(lambda: set(lists(sandbox)[-1]) == set(ids))
    sandbox.advance(60)
    await until(lambda: len(waits.outcomes) == 4)
    assert set(lists(sandbox)[-1]) == set(ids)


async def test_a_single_job_that_is_not_there_is_told_at_once(sandbox: Sandbox, watcher: Watcher) -> None:
    with pytest.raises(NotFoundError):
        await watcher.wait(NOBODY, 60)


@both_backends
async def test_who_joins_in_the_middle_of_many_is_answered_within_a_tick(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    [ended] = await jobs(sync, sandbox, 1)
    sandbox.advance(60)
    ids = await jobs(sync, sandbox, 2)
    for id in ids:
        waits.start(id)
    await until(lambda: bool(lists(sandbox)))
    waits.start(ended)
    await until(lambda: waits.states == {ended: "COMPLETED"})
    assert sum(ended in asked for asked in lists(sandbox)) == 1
    assert asked_singly(sandbox) <= {ids[0]}


@both_backends
async def test_a_second_job_turns_the_long_poll_into_lists_and_the_last_one_turns_it_back(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    one, other = await jobs(sync, sandbox, 2)
    waits.start(one)
    await until(lambda: polls(sandbox, one) == 1)
    ending = waits.start(other)
    await until(lambda: len(lists(sandbox)) == 2)
    ending.cancel()
    await until(lambda: polls(sandbox, one) == 2)
    assert polls(sandbox, other) == 0
    sandbox.advance(60)
    await until(lambda: waits.states == {one: "COMPLETED"})


@both_backends
async def test_nobody_waiting_nothing_is_asked(sandbox: Sandbox, sync: AsyncSync, waits: Waits) -> None:
    one, other, third = await jobs(sync, sandbox, 3)
    scopes = [waits.start(one), waits.start(other)]
    await until(lambda: bool(lists(sandbox)))
    for scope in scopes:
        scope.cancel()
    await anyio.wait_all_tasks_blocked()
    before = len(reads(sandbox))
    # Much longer than a tick.
    await sync.generations.wait(third, 1)
    assert {request.path for request in reads(sandbox)[before:]} == {f"/v2/generate/{third}"}
    assert waits.outcomes == []


async def test_a_wait_that_ends_takes_its_job_off(sandbox: Sandbox, sync: AsyncSync, waits: Waits) -> None:
    short, *ids = await jobs(sync, sandbox, 3)
    for id in ids:
        waits.start(id)
    waits.start(short, 0.3)
    await until(lambda: waits.states == {short: "PENDING"})
    seen = len(lists(sandbox))
    await until(lambda: len(lists(sandbox)) > seen + 1)
    assert set(lists(sandbox)[-1]) == set(ids)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "body": {"message": "down"}},
        {"drop": "before"},
        {"html": True},
        {"empty": True},
        {"status": 200, "body": {"not": "a list"}},
    ],
    ids=str,
)
@both_backends
async def test_passing_faults_are_waited_out(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits, fault: Mapping[str, Any]
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.add_fault(Fault(path=LIST, times=2, **fault))
    sandbox.advance(60)
    for id in ids:
        waits.start(id)
    await until(lambda: len(waits.outcomes) == 3)
    assert waits.states == dict.fromkeys(ids, "COMPLETED")
    assert len(lists(sandbox)) == 3


async def test_a_list_that_fails_for_good_is_done_without(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.add_fault(Fault(path=LIST, times=None, status=400, body={"message": ["ids must be UUIDs"]}))
    for id in ids:
        waits.start(id)
    await until(lambda: len(lists(sandbox)) == 2)
    sandbox.advance(60)
    await until(lambda: len(waits.outcomes) == 3)
    assert waits.states == dict.fromkeys(ids, "COMPLETED")


async def test_a_list_that_keeps_failing_is_done_without(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.add_fault(Fault(path=LIST, times=None, status=500, body={"message": "broken"}))
    sandbox.advance(60)
    for id in ids:
        waits.start(id)
    await until(lambda: len(waits.outcomes) == 3)
    assert waits.states == dict.fromkeys(ids, "COMPLETED")
    assert len(lists(sandbox)) == 3


@both_backends
async def test_a_throttled_watcher_keeps_to_the_time_that_it_is_told(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path=LIST, headers={"Retry-After": "1"}))
    sandbox.advance(60)
    for id in ids[:2]:
        waits.start(id)
    await until(lambda: bool(lists(sandbox)))
    # Neither one more nor one less changes that.
    waits.start(ids[2])
    await until(lambda: len(waits.outcomes) == 3)
    # Whoever comes after that time has passed reads once more.
    first, second, *_ = (request.at for request in reads(sandbox))
    assert (second - first).total_seconds() >= 0.99
    assert waits.states == dict.fromkeys(ids, "COMPLETED")


async def test_a_throttled_watcher_asks_for_nothing_by_long_poll_either(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    one, other = await jobs(sync, sandbox, 2)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path=LIST, headers={"Retry-After": "1"}))
    waits.start(one)
    scope = waits.start(other)
    await until(lambda: bool(lists(sandbox)))
    scope.cancel()
    sandbox.advance(60)
    await until(lambda: waits.states == {one: "COMPLETED"})
    throttled, then = (request.at for request in reads(sandbox))
    assert (then - throttled).total_seconds() >= 60.99


async def test_a_throttled_watcher_looks_less_often_until_all_is_well(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await jobs(sync, sandbox, 2)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path=LIST, times=2))
    began: list[float] = []
    planned: list[float] = []
    look = Looks.look

    async def note_and_look(looks: Looks, *given: Any) -> None:
        # When a request arrives, is a matter of the machine.
        began.append(anyio.current_time())
        planned.append(looks.tick_seconds)
        await look(looks, *given)

    monkeypatch.setattr(Looks, "look", note_and_look)
    for id in ids:
        waits.start(id)
    await until(lambda: len(began) == 6)
    assert planned == [0.1, 0.2, 0.4, 0.2, 0.1, 0.1]
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert all(pause > least for pause, least in zip(pauses, [0.19, 0.39, 0.39, 0.19, 0.09], strict=True))


@both_backends
async def test_what_one_is_told_of_the_rate_limit_holds_for_all_who_look_at_jobs_of_the_account(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup
) -> None:
    ids = await jobs(sync, sandbox, 4)
    one, other = (Waits(Watcher(lambda: sync, tasks), tasks) for _ in range(2))
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path=LIST, headers={"Retry-After": "1"}))
    for id in ids[:2]:
        one.start(id)
    await until(lambda: any(request.status == 429 for request in reads(sandbox)))
    await until(lambda: sync.generations.allowance.rests_for is not None)
    for id in ids[2:]:
        other.start(id)
    await until(lambda: len(lists(sandbox)) == 3)
    throttled, *later = (request.at for request in reads(sandbox))
    assert all((at - throttled).total_seconds() >= 0.99 for at in later)


async def test_how_far_jobs_are_is_not_asked_while_the_api_wants_to_be_left_alone(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    [id] = await jobs(sync, sandbox, 1)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", headers={"Retry-After": "60"}))
    before = len(reads(sandbox))
    assert await watcher.progress_of([id], 10) == {}
    assert await watcher.progress_of([id], 0.1) == {}
    assert len(reads(sandbox)) == before + 1


async def test_a_wait_that_was_throttled_to_its_end_says_so(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path=LIST, headers={"Retry-After": "60"}))
    for id in ids[:2]:
        waits.start(id, 0.4)
    await until(lambda: bool(lists(sandbox)))
    waits.start(ids[2], 0.2)
    await until(lambda: len(waits.outcomes) == 3)
    assert set(waits.states.values()) == {RateLimitError.__name__}
    assert len(lists(sandbox)) == 1


async def test_no_more_is_asked_than_the_read_limit_allows(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.01)
    monkeypatch.setattr("sync_mcp.api.allowance._READS_AT_ONCE", 5)
    monkeypatch.setattr("sync_mcp.api.allowance._READS_PER_SECOND", 20.0)
    ids = await jobs(sync, sandbox, 12, job="hide")
    before = len(reads(sandbox))
    for id in ids:
        waits.start(id)
    await until(lambda: len(reads(sandbox)) >= before + 30)
    asked_at = [request.at for request in reads(sandbox)[before:]]
    took = (asked_at[-1] - asked_at[0]).total_seconds()
    assert len(asked_at) <= 5 + 20 * took + 2
    # All have had their turn.
    assert asked_singly(sandbox) == set(ids)


async def test_an_answer_that_is_late_does_not_hold_up_the_others(
    sandbox: Sandbox, sync: AsyncSync, waits: Waits
) -> None:
    shown, other = await jobs(sync, sandbox, 2)
    [hidden] = await jobs(sync, sandbox, 1, job="hide")
    sandbox.add_fault(Fault(path=f"/v2/generate/{hidden}", delay_seconds=30, when="before", times=None))
    for id in (shown, other, hidden):
        waits.start(id)
    await until(lambda: hidden in asked_singly(sandbox))
    sandbox.advance(60)
    began = anyio.current_time()
    await until(lambda: len(waits.outcomes) == 2)
    assert anyio.current_time() - began < 2
    assert waits.states == {shown: "COMPLETED", other: "COMPLETED"}


async def test_a_job_never_goes_back_to_where_it_was(sandbox: Sandbox, watcher: Watcher) -> None:
    for status in ("PROCESSING", "PENDING", "COMPLETED"):
        sandbox.add_fault(Fault(path=LIST, status=200, body=listed(("a", status), ("b", status))))
    seen: list[dict[str, str]] = []

    async def note(outcomes: Mapping[str, Generation | SyncError]) -> None:
        seen.append({id: job.status for id, job in outcomes.items() if isinstance(job, Generation)})

    await watcher.wait_for_many(["a", "b"], 60, on_news=note)
    order = ["", "PROCESSING", "COMPLETED"]
    for id in ("a", "b"):
        ranks = [order.index(states.get(id, "")) for states in seen]
        assert ranks == sorted(ranks)


async def test_a_finished_job_stays_finished_whatever_a_late_answer_says(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher, tasks: TaskGroup
) -> None:
    [id] = await jobs(sync, sandbox, 1)
    sandbox.configure(job_seconds=120)
    [longer] = await jobs(sync, sandbox, 1)
    sandbox.advance(30)
    sandbox.add_fault(Fault(path=LIST, status=200, body=listed((longer, "PENDING"))))
    path = f"/v2/generate/{id}"
    sandbox.add_fault(Fault(path=path, delay_seconds=1, when="after"))
    seen: list[str] = []
    ended: list[str] = []

    async def note(outcomes: Mapping[str, Generation | SyncError]) -> None:
        told = outcomes.get(id)
        seen.append(told.status if isinstance(told, Generation) else "")

    async def wait() -> None:
        outcomes = await watcher.wait_for_many([id, longer], 60, on_news=note)
        ended.extend(job.status for job in outcomes.values() if isinstance(job, Generation))

    def late_answer() -> bool:
        return any(request.path == path and request.status for request in reads(sandbox))

    tasks.start_soon(wait)
    await until(lambda: id in asked_singly(sandbox))
    sandbox.advance(60)
    await until(lambda: "COMPLETED" in seen)
    assert not late_answer()
    await until(late_answer)
    sandbox.advance(60)
    await until(lambda: ended == ["COMPLETED", "COMPLETED"])
    assert set(seen[seen.index("COMPLETED") :]) == {"COMPLETED"}


async def test_a_wait_returns_the_latest_state_when_its_time_is_up(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    [id] = await jobs(sync, sandbox, 1)
    began = anyio.current_time()
    assert (await watcher.wait(id, 0.3)).status == "PENDING"
    assert 0.29 <= anyio.current_time() - began < 1.3


async def test_a_wait_of_no_time_reads_the_state_once(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    ids = await jobs(sync, sandbox, 2)
    assert (await watcher.wait(ids[0], 0)).status == "PENDING"
    assert len(reads(sandbox)) == 1
    outcomes = await watcher.wait_for_many(ids, 0)
    assert [job.status for job in outcomes.values() if isinstance(job, Generation)] == ["PENDING"] * 2
    assert len(lists(sandbox)) == 1
    assert len(reads(sandbox)) == 2


async def test_a_state_that_the_caller_knows_is_answer_enough_from_an_api_that_says_nothing(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    known = await make(sync, sandbox)
    sandbox.add_fault(Fault(delay_seconds=30, when="before", times=None))
    began = anyio.current_time()
    assert await watcher.wait(known.id, 0.2, known=known) is known
    assert anyio.current_time() - began < 1.2


@pytest.mark.parametrize("count", [1, 2])
async def test_a_wait_in_which_nothing_was_ever_read_is_an_error(
    sandbox: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("sync_mcp.background.watching._FIRST_ANSWER_SECONDS", 0.2)
    sandbox.add_fault(Fault(delay_seconds=30, when="before", times=None))
    ids = [NOBODY, "other"][:count]
    outcomes = await watcher.wait_for_many(ids, 0.1)
    assert {id: type(outcome) for id, outcome in outcomes.items()} == dict.fromkeys(ids, APITimeoutError)


@pytest.mark.parametrize("count", [1, 2])
async def test_an_api_that_is_not_there_is_told_as_that(tasks: TaskGroup, count: int) -> None:
    async with AsyncSync(api_key=KEY, base_url="http://127.0.0.1:9") as sync:
        outcomes = await Watcher(lambda: sync, tasks).wait_for_many([NOBODY, "other"][:count], 0.2)
    assert {type(outcome) for outcome in outcomes.values()} == {APIConnectionError}


@pytest.mark.parametrize("count", [1, 2])
async def test_a_key_that_the_api_does_not_know_ends_every_wait(
    sandbox: Sandbox, tasks: TaskGroup, count: int
) -> None:
    async with AsyncSync(api_key="sk_invalid", base_url=sandbox.url) as sync:
        outcomes = await Watcher(lambda: sync, tasks).wait_for_many([NOBODY, "other"][:count], 60)
    assert {type(outcome) for outcome in outcomes.values()} == {AuthenticationError}
    assert len(reads(sandbox)) == 1


async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    sandbox: Sandbox, watcher: Watcher, tasks: TaskGroup
) -> None:
    for malformed in ("", "a b", "../models", "x" * 129, "a,b"):
        with pytest.raises(InvalidRequestError):
            await watcher.wait(malformed, 60)
        with pytest.raises(InvalidRequestError):
            await watcher.wait_for_many(["a", malformed], 60)

    def no_client() -> AsyncSync:
        raise ConfigurationError("There is no API key.")

    with pytest.raises(ConfigurationError):
        await Watcher(no_client, tasks).wait("a", 60)
    assert sandbox.requests == []


@both_backends
async def test_any_of_many_ends_with_the_first_and_tells_how_the_others_are(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    [ended] = await jobs(sync, sandbox, 1)
    sandbox.advance(60)
    ids = [*await jobs(sync, sandbox, 2), *await jobs(sync, sandbox, 1, job="hide"), ended]
    outcomes = await watcher.wait_for_many([*ids, ended], 60, until="any")
    states = [job.status for job in outcomes.values() if isinstance(job, Generation)]
    assert list(outcomes) == ids
    assert states == ["PENDING"] * 3 + ["COMPLETED"]


async def test_all_of_many_are_told_as_they_end_and_answered_when_the_last_one_has(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher
) -> None:
    ids = await jobs(sync, sandbox, 3)
    sandbox.configure(job_seconds=120)
    ids += await jobs(sync, sandbox, 2)
    ended: list[int] = []

    async def note(outcomes: Mapping[str, Generation | SyncError]) -> None:
        count = sum(isinstance(job, Generation) and job.finished for job in outcomes.values())
        if len(outcomes) == 6 and count not in ended:
            ended.append(count)
            sandbox.advance(60)

    outcomes = await watcher.wait_for_many([*ids, NOBODY], 60, on_news=note)
    assert ended == [0, 3, 5]
    assert isinstance(outcomes.pop(NOBODY), NotFoundError)
    assert {job.status for job in outcomes.values() if isinstance(job, Generation)} == {"COMPLETED"}


async def test_each_new_state_is_reported_once(sandbox: Sandbox, watcher: Watcher, waits: Waits) -> None:
    for status in ("PENDING", "PROCESSING", "COMPLETED"):
        sandbox.add_fault(Fault(path=LIST, status=200, body=listed(("a", status), ("b", "PENDING"))))
    waits.start("b")
    seen: list[str] = []

    async def note(generation: Generation) -> None:
        seen.append(generation.status)

    sandbox.add_fault(Fault(path="/v2/generate/b", status=200, body={"id": "b", "status": "PENDING"}))
    assert (await watcher.wait("a", 60, on_update=note)).status == "COMPLETED"
    assert seen == ["PENDING", "PROCESSING", "COMPLETED"]


async def test_an_error_of_a_callers_own_ends_its_wait_alone(
    sandbox: Sandbox, sync: AsyncSync, watcher: Watcher, waits: Waits
) -> None:
    [id] = await jobs(sync, sandbox, 1)

    async def fail(generation: Generation) -> None:
        raise LookupError(generation.id)

    waits.start(id)
    with pytest.raises(LookupError):
        await watcher.wait(id, 60, on_update=fail)
    sandbox.advance(60)
    await until(lambda: waits.states == {id: "COMPLETED"})


async def test_a_fault_of_the_watcher_ends_the_waits_and_not_the_process(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup
) -> None:
    calls = 0

    def client_of() -> AsyncSync:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError
        return sync

    watcher = Watcher(client_of, tasks)
    [id] = await jobs(sync, sandbox, 1)
    sandbox.advance(60)
    with pytest.raises(InternalError):
        await watcher.wait(id, 60)
    assert (await watcher.wait(id, 60)).status == "COMPLETED"


@both_backends
async def test_who_waits_when_the_watchers_tasks_are_ended_is_told(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup
) -> None:
    ids = await jobs(sync, sandbox, 2)
    own = anyio.create_task_group()
    waits = Waits(Watcher(lambda: sync, own), tasks)
    async with own:
        for id in ids:
            waits.start(id)
        await until(lambda: bool(lists(sandbox)))
        own.cancel_scope.cancel()
    await until(lambda: waits.states == dict.fromkeys(ids, "InternalError"))
