"""Many creates: the slots are full, each outcome is told once, and no fault costs another its job."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from sync_mcp import (
    AsyncSync,
    Audio,
    CreateFields,
    CreateMany,
    CreateOutcome,
    Generation,
    GenerationRequest,
    Guard,
    InternalError,
    InvalidRequestError,
    Ledger,
    NotFoundError,
    NotVisibleYet,
    OutcomeUnknown,
    PaymentRequiredError,
    RequestOptions,
    Video,
)
from sync_mcp.api import looks
from sync_mcp.api.batches import Batch, BatchRequest
from sync_mcp.api.create import Creator
from sync_mcp.api.dialogue_edits import DialogueEdit
from sync_mcp.api.models import Json, LocalMedia
from sync_mcp.api.speech import Speech, SpeechRequest
from sync_mcp.api.voices import ClonedVoice, CloneRequest
from sync_mcp.sandbox import Fault, RecordedRequest, Sandbox

from .conftest import KEY, keys, make, until

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
CREATE_PATH = "/v2/generate"
JOB_SECONDS = 60


def requests(sandbox: Sandbox, count: int, options: RequestOptions | None = None) -> list[CreateFields]:
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    return [
        {
            "model": "lipsync-2",
            "input": media,
            "output_file_name": f"clip-{place}",
            "request_options": options,
        }
        for place in range(count)
    ]


def alive(sandbox: Sandbox) -> int:
    return sum(job["status"] in ("PENDING", "PROCESSING") for job in sandbox.generations.values())


def runs(sandbox: Sandbox, count: int) -> bool:
    return alive(sandbox) == count


def creates(sandbox: Sandbox) -> list[RecordedRequest]:
    return [one for one in sandbox.requests if (one.method, one.path) == ("POST", CREATE_PATH)]


def answered(sandbox: Sandbox) -> int:
    return sum(one.status is not None for one in creates(sandbox))


async def collect(many: CreateMany, told: list[CreateOutcome]) -> None:
    async for outcome in many:
        told.append(outcome)


@asynccontextmanager
async def iterating(many: CreateMany) -> AsyncGenerator[list[CreateOutcome]]:
    """Iterate beside the block, which holds what was told so far, and on to the end after it."""
    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, many, told)
            yield told


async def outcomes(sandbox: Sandbox, many: CreateMany, slots: int, count: int) -> list[CreateOutcome]:
    """Iterate to the end, and let the jobs end whenever the slots are full or all are made."""
    async with iterating(many) as told:
        while len(told) < count:
            await until(lambda: alive(sandbox) == min(slots, count - len(told)) or len(told) == count)
            sandbox.advance(JOB_SECONDS)
            await until(lambda: alive(sandbox) > 0 or len(told) == count)
    return sorted(told, key=lambda outcome: outcome.index)


def jobs(told: list[CreateOutcome]) -> list[Generation]:
    return [outcome.last_seen for outcome in told if outcome.last_seen]


def statuses(told: list[CreateOutcome]) -> list[str | None]:
    return [outcome.last_seen.status if outcome.last_seen else None for outcome in told]


@both_backends
async def test_each_request_is_made_once_and_told_when_its_job_ends(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    asked = requests(sandbox, 5)
    told = await outcomes(sandbox, sync.generations.create_many(asked), 15, 5)
    assert statuses(told) == ["COMPLETED"] * 5
    for place, outcome in enumerate(told):
        assert (outcome.index, outcome.error) == (place, None)
        assert outcome.request is asked[place]
        assert outcome.generation.output_file_name == f"clip-{place}"
    assert len(sandbox.charges) == len(set(keys(sandbox.requests))) == 5


@both_backends
async def test_the_slots_of_the_account_are_kept_full_and_never_asked_for_too_many(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.configure(plan="creator")
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 8)), 3, 8)
    assert statuses(told) == ["COMPLETED"] * 8
    assert [one.status for one in creates(sandbox)] == [201] * 8


async def test_a_concurrency_of_the_callers_own_holds_and_the_account_is_not_asked(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 5), 2), 2, 5)
    assert statuses(told) == ["COMPLETED"] * 5
    assert not [one for one in sandbox.requests if one.path == "/v2/account"]
    # Two by two: between them the clock was moved.
    made = sorted(one.created_at for one in jobs(told) if one.created_at)
    assert [(later - earlier).total_seconds() > 50 for earlier, later in pairwise(made)] == [
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("account", [{"status": 404, "body": {"message": "No"}}, {"status": 200, "body": {}}])
async def test_without_a_word_of_the_account_the_slots_are_found_out_by_one_refusal(
    sandbox: Sandbox, sync: AsyncSync, account: dict[str, object]
) -> None:
    sandbox.configure(plan="creator")
    sandbox.add_fault(Fault.model_validate({"path": "/v2/account", **account}))
    many = sync.generations.create_many(requests(sandbox, 7))
    async with iterating(many) as told:
        await until(lambda: answered(sandbox) == 4)
        for count in (3, 1, 0):
            sandbox.advance(JOB_SECONDS)
            await until(partial(runs, sandbox, count))
    assert statuses(told) == ["COMPLETED"] * 7
    # One after the other until the API says that it is enough, and no more often than that.
    assert [one.status for one in creates(sandbox)] == [201, 201, 201, 429, 201, 201, 201, 201]


@both_backends
async def test_a_refused_create_waits_for_a_job_to_end_and_goes_out_under_its_key(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.configure(plan="creator")
    # Refusals are heard before the acceptances are.
    sandbox.add_fault(Fault(method="POST", path=CREATE_PATH, times=2, delay_seconds=0.2, when="after"))
    many = sync.generations.create_many(requests(sandbox, 5), 5)
    async with iterating(many) as told:
        await until(lambda: len(many.pending) == 3 and answered(sandbox) == 5)
        # The API asks for a minute's patience; the end of a job makes it needless.
        sandbox.advance(JOB_SECONDS)
        await until(lambda: alive(sandbox) == 2 and len(told) == 3)
        sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 5
    sent = [(one.headers["idempotency-key"], one.status) for one in creates(sandbox)]
    assert sorted(status or 0 for _, status in sent) == [201] * 5 + [429] * 2
    refused = {key for key, status in sent if status == 429}
    assert len(refused) == 2
    assert refused <= {key for key, status in sent if status == 201}


async def test_a_refusal_that_comes_after_the_end_of_a_job_asks_for_no_patience(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    full = Fault.api_error("concurrency_limit_reached", path=CREATE_PATH, skip=1, concurrencyLimit=15)
    sandbox.add_fault(full.model_copy(update={"delay_seconds": 0.3}))
    many = sync.generations.create_many(requests(sandbox, 2), 2)
    async with iterating(many) as told:
        # The one that is refused hears of it when the other has ended.
        await until(lambda: len(creates(sandbox)) == 2 and len(many.pending) == 1)
        sandbox.advance(JOB_SECONDS)
        await until(lambda: len(sandbox.charges) == 2)
        sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 2
    assert [one.status for one in creates(sandbox)] == [201, 429, 201]


async def test_slots_that_others_hold_are_tried_again_after_a_pause(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    full = Fault.api_error(
        "concurrency_limit_reached", path=CREATE_PATH, times=3, concurrencyLimit=15, retryAfterSeconds=0.05
    )
    sandbox.add_fault(full)
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 1)), 1, 1)
    assert statuses(told) == ["COMPLETED"]
    assert [one.status for one in creates(sandbox)] == [429, 429, 429, 201]
    assert len(set(keys(sandbox.requests))) == 1


async def test_of_many_that_find_no_slot_one_alone_tries_again(sandbox: Sandbox, sync: AsyncSync) -> None:
    full = Fault.api_error(
        "concurrency_limit_reached", path=CREATE_PATH, times=6, concurrencyLimit=15, retryAfterSeconds=0.05
    )
    sandbox.add_fault(full)
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 4)), 4, 4)
    assert statuses(told) == ["COMPLETED"] * 4
    sent = creates(sandbox)
    assert [one.status for one in sent] == [429] * 6 + [201] * 4
    assert (sent[4].at - sent[3].at).total_seconds() > 0.04
    assert (sent[5].at - sent[4].at).total_seconds() > 0.04


async def test_a_throttled_create_waits_and_goes_out_under_its_key(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(
        Fault.api_error("rate_limit_exceeded", path=CREATE_PATH, times=2, retryAfterSeconds=0.05)
    )
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 2)), 2, 2)
    assert statuses(told) == ["COMPLETED"] * 2
    assert sorted(one.status or 0 for one in creates(sandbox)) == [201, 201, 429, 429]
    assert len(set(keys(sandbox.requests))) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": "lipsync-2", "input": []}, "input"),
        ({"input": [Video(url="https://media.example/a.mp4")]}, "needs model"),
        (
            {"model": "lipsync-2", "input": [], "webhok_url": "https://a.example"},
            "did you mean 'webhook_url'",
        ),
        ({"model": "lipsync-2", "input": 7}, "input must be a list"),
        ({"model": "lipsync-2", "input": [], "request_options": {"idempotency_key": "a b"}}, "idempotency"),
        ({"model": "lipsync-2", "input": [], "request_options": 7}, "request_options must be a mapping"),
        ("lipsync-2", "mapping"),
        (None, "mapping"),
    ],
)
async def test_an_invalid_request_is_told_as_such_and_stops_no_other(
    sandbox: Sandbox, sync: AsyncSync, wrong: CreateFields, says: str
) -> None:
    asked = requests(sandbox, 3)
    asked.insert(1, wrong)
    told = await outcomes(sandbox, sync.generations.create_many(asked), 3, 4)
    assert statuses(told) == ["COMPLETED", None, "COMPLETED", "COMPLETED"]
    assert isinstance(told[1].error, InvalidRequestError)
    assert says in told[1].error.message
    assert told[1].request is wrong
    assert len(creates(sandbox)) == 3


@both_backends
async def test_a_refused_request_is_told_as_such_and_stops_no_other(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault.api_error("account_payment_required", path=CREATE_PATH, skip=1))
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 4), 1), 1, 4)
    assert statuses(told) == ["COMPLETED", None, "COMPLETED", "COMPLETED"]
    assert isinstance(told[1].error, PaymentRequiredError)
    assert len(creates(sandbox)) == 4


@both_backends
@pytest.mark.parametrize("idempotency", ["honour", "ignore"])
async def test_a_create_whose_answer_is_dropped_is_not_paid_twice(
    sandbox: Sandbox, sync: AsyncSync, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(method="POST", path=CREATE_PATH, drop="after", times=2))
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 4)), 4, 4)
    assert statuses(told) == ["COMPLETED"] * 4
    paid = {charge.generation_id for charge in sandbox.charges}
    assert len(sandbox.charges) == 4
    assert {one.id for one in jobs(told)} == paid


async def test_an_unknown_outcome_is_told_as_such_and_never_sent_again(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault(method="POST", path=CREATE_PATH, drop="after", job="hide", skip=1))
    asked = requests(sandbox, 4, {"max_retries": 0})
    async with iterating(sync.generations.create_many(asked, 2)) as told:
        await until(lambda: len(told) == 1 and alive(sandbox) == 3)
        sandbox.advance(JOB_SECONDS)
        await until(partial(runs, sandbox, 1))
        sandbox.advance(JOB_SECONDS)
    assert statuses(told).count("COMPLETED") == 3
    (unknown,) = [outcome for outcome in told if outcome.error]
    assert isinstance(unknown.error, OutcomeUnknown)
    assert unknown.last_seen is None
    assert len(creates(sandbox)) == len(sandbox.charges) == 4


async def test_an_outcome_has_an_error_or_else_its_job(sandbox: Sandbox, sync: AsyncSync) -> None:
    refused: CreateFields = {"model": "lipsync-2", "input": []}
    told = await outcomes(sandbox, sync.generations.create_many([refused, *requests(sandbox, 1)]), 1, 2)
    for outcome in told:
        # Type checkers follow this: in the second branch there is a job.
        if outcome.error:
            assert outcome.index == 0
            with pytest.raises(InvalidRequestError) as raised:
                _ = outcome.generation
            assert raised.value is outcome.error
        else:
            assert outcome.generation.id in sandbox.generations
    assert len(told) == 2


async def test_a_fault_of_the_package_in_one_create_stops_no_other(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Creator.create_as

    async def create_or_fail(
        creator: Creator, kind: Any, book: Any, key: str, body: Json, options: Any
    ) -> Any:
        if body["outputFileName"] == "clip-1":
            raise ZeroDivisionError("by zero")
        return await create(creator, kind, book, key, body, options)

    monkeypatch.setattr(Creator, "create_as", create_or_fail)
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 3)), 2, 3)
    assert statuses(told) == ["COMPLETED", None, "COMPLETED"]
    assert isinstance(told[1].error, InternalError)
    assert "by zero" in told[1].error.message


@pytest.mark.parametrize(("fate", "status"), [("fail", "FAILED"), ("reject", "REJECTED")])
async def test_a_job_that_fails_has_ended_like_any_other(
    sandbox: Sandbox, sync: AsyncSync, fate: str, status: str
) -> None:
    fault = {"path": CREATE_PATH, "job": fate, "error_code": "generation_pipeline_failed", "skip": 1}
    sandbox.add_fault(Fault.model_validate(fault))
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 3), 1), 1, 3)
    assert statuses(told) == ["COMPLETED", status, "COMPLETED"]
    assert told[1].error is None
    assert told[1].generation.error_code == "generation_pipeline_failed"


@pytest.mark.parametrize("count", [1, 3])
async def test_a_job_that_the_api_forgets_is_told_with_its_last_state(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0.05)
    sandbox.add_fault(Fault(path=CREATE_PATH, job="forget"))
    async with iterating(sync.generations.create_many(requests(sandbox, count))) as told:
        await until(lambda: len(told) == 1)
        assert isinstance(told[0].error, NotFoundError)
        assert statuses(told) == ["PENDING"]
        # It was looked for a second time, since it had only just been made.
        path = f"{CREATE_PATH}/{told[0].generation.id}"
        assert sum(one.path == path for one in sandbox.requests) >= 2
        await until(lambda: len(sandbox.charges) == count)
        sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["PENDING"] + ["COMPLETED"] * (count - 1)


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_job_that_a_guard_says_is_not_visible_yet_keeps_no_slot_from_the_others(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0.05)
    sandbox.add_fault(Fault(path=CREATE_PATH, job="forget"))
    asked = requests(sandbox, slots + 1)
    for take, request in enumerate(asked, 1):
        request["take"] = take
    guard = Guard(Ledger(tmp_path))
    async with (
        AsyncSync(api_key=KEY, base_url=sandbox.url, guard=guard) as sync,
        iterating(sync.generations.create_many(asked, slots)) as told,
    ):
        await until(lambda: len(told) == 1)
        assert isinstance(told[0].error, NotVisibleYet)
        # It was looked for a second time, since it had only just been made.
        path = f"{CREATE_PATH}/{told[0].generation.id}"
        assert sum(one.path == path for one in sandbox.requests) >= 2
        await until(lambda: len(sandbox.charges) == slots + 1)
        sandbox.advance(JOB_SECONDS)
    guard.ledger.close()
    assert statuses(told) == ["PENDING"] + ["COMPLETED"] * slots


async def test_jobs_that_the_list_leaves_out_end_like_any_other(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault(path=CREATE_PATH, job="hide", times=None))
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 4)), 4, 4)
    assert statuses(told) == ["COMPLETED"] * 4


async def test_an_api_without_the_long_poll_is_asked_by_lists(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0.05)
    body = {"message": ["property wait should not exist"]}
    fault = {"method": "GET", "path": f"{CREATE_PATH}/*", "status": 400, "body": body, "times": None}
    sandbox.add_fault(Fault.model_validate(fault))
    told = await outcomes(sandbox, sync.generations.create_many(requests(sandbox, 4)), 4, 4)
    assert statuses(told) == ["COMPLETED"] * 4
    assert sum("wait" in one.query for one in sandbox.requests) == 1


async def test_faults_while_jobs_are_watched_are_waited_out(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0.05)
    sandbox.add_fault(Fault(method="GET", path=f"{CREATE_PATH}/*", drop="before", times=2))
    sandbox.add_fault(Fault(path="/v2/generations", html=True, times=2))
    throttled = Fault.api_error("rate_limit_exceeded", path="/v2/generations", retryAfterSeconds=0.05)
    sandbox.add_fault(throttled)
    async with iterating(sync.generations.create_many(requests(sandbox, 3))) as told:
        await until(lambda: sum(one.path == "/v2/generations" for one in sandbox.requests) > 4)
        sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 3


async def test_ends_at_the_same_time_cost_few_requests(sandbox: Sandbox, sync: AsyncSync) -> None:
    many = sync.generations.create_many(requests(sandbox, 15))
    async with iterating(many) as told:
        await until(lambda: len(many.pending) == 15 and any("wait" in one.query for one in sandbox.requests))
        before = len(sandbox.requests)
        sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 15
    # A long poll and a list, and what was on its way when the clock moved.
    assert len(sandbox.requests) - before <= 6


@both_backends
async def test_cancelling_begins_no_more_and_leaves_the_jobs_alone(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(plan="creator")
    many = sync.generations.create_many(requests(sandbox, 7))
    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, many, told)
            await until(lambda: alive(sandbox) == 3)
            sandbox.advance(JOB_SECONDS)
            await until(lambda: len(told) == 3 and alive(sandbox) == 3)
            tasks.cancel_scope.cancel()
    assert len(creates(sandbox)) == 6
    assert alive(sandbox) == 3
    assert [outcome.index for outcome in many.pending] == [3, 4, 5]
    assert {one.last_seen.id for one in many.pending if one.last_seen} <= sandbox.generations.keys()
    # What was left can be taken up again.
    told += await outcomes(sandbox, many, 3, 4)
    assert sorted(outcome.index for outcome in told) == list(range(7))
    assert many.pending == []
    assert len(sandbox.charges) == 7


async def test_a_look_that_is_broken_off_is_made_at_once_when_the_iteration_goes_on(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0.05)
    body = {"message": ["property wait should not exist"]}
    fault = {"method": "GET", "path": f"{CREATE_PATH}/*", "status": 400, "body": body, "times": None}
    sandbox.add_fault(Fault.model_validate(fault))
    sandbox.add_fault(Fault(path="/v2/generations", delay_seconds=30, when="before"))
    many = sync.generations.create_many(requests(sandbox, 2))
    look = looks.Looks.look

    async def look_and_then_rest_for_long(self: looks.Looks, *given: Any) -> None:
        self.tick_seconds = 1000
        await look(self, *given)

    monkeypatch.setattr(looks.Looks, "look", look_and_then_rest_for_long)
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, many, list[CreateOutcome]())
            await until(lambda: any(one.path == "/v2/generations" for one in sandbox.requests))
            tasks.cancel_scope.cancel()
    sandbox.advance(JOB_SECONDS)
    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        await collect(many, told)
    assert statuses(told) == ["COMPLETED"] * 2


@both_backends
async def test_a_create_on_its_way_is_answered_before_a_cancelled_iteration_ends(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.add_fault(Fault(method="POST", path=CREATE_PATH, delay_seconds=0.3, when="after"))
    many = sync.generations.create_many(requests(sandbox, 1))
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, many, list[CreateOutcome]())
            await until(lambda: len(sandbox.charges) == 1)
            tasks.cancel_scope.cancel()
    (left,) = many.pending
    assert left.generation.id == sandbox.charges[0].generation_id


async def test_a_create_that_is_not_answered_in_time_is_left_in_doubt(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.many._GRACE_SECONDS", 0.05)
    sandbox.add_fault(Fault(method="POST", path=CREATE_PATH, delay_seconds=20, when="after"))
    many = sync.generations.create_many(requests(sandbox, 1))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, many, list[CreateOutcome]())
            await until(lambda: len(sandbox.charges) == 1)
            tasks.cancel_scope.cancel()
    (left,) = many.pending
    assert isinstance(left.error, OutcomeUnknown)
    assert left.error.idempotency_key == sandbox.charges[0].idempotency_key


@both_backends
async def test_a_loop_that_is_left_leaves_nothing_running_here(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(plan="creator")
    many = sync.generations.create_many(requests(sandbox, 9))
    told: list[int] = []
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                async for outcome in many:
                    told.append(outcome.index)
                    break

            tasks.start_soon(first)
            await until(lambda: len(many.pending) == 3)
            sandbox.advance(JOB_SECONDS)
    # The slots of those that ended were filled before the first was told.
    assert alive(sandbox) == 3
    assert sorted([*told, *(outcome.index for outcome in many.pending)]) == list(range(6))
    assert len(told) == 1


@both_backends
async def test_entered_it_goes_on_while_the_body_runs(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(plan="hobbyist")
    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        async with sync.generations.create_many(requests(sandbox, 3)) as many:
            for _ in range(3):
                await until(partial(runs, sandbox, 1))
                sandbox.advance(JOB_SECONDS)
            await collect(many, told)
    assert [outcome.index for outcome in told] == [0, 1, 2]
    assert statuses(told) == ["COMPLETED"] * 3


@both_backends
async def test_what_the_body_raises_comes_out_as_it_is(sandbox: Sandbox, sync: AsyncSync) -> None:
    many = sync.generations.create_many(requests(sandbox, 2))

    async def break_off() -> None:
        async with many:
            await until(lambda: alive(sandbox) == 2)
            raise ZeroDivisionError

    with anyio.fail_after(15):
        with pytest.raises(ZeroDivisionError):
            await break_off()
    assert len(many.pending) == 2


async def test_requests_are_taken_only_as_slots_get_free(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(plan="creator")
    taken: list[int] = []

    def lazily() -> Iterator[CreateFields]:
        for place, request in enumerate(requests(sandbox, 6)):
            taken.append(place)
            yield request

    async with iterating(sync.generations.create_many(lazily())) as told:
        await until(lambda: alive(sandbox) == 3)
        assert len(taken) == 3
        sandbox.advance(JOB_SECONDS)
        await until(lambda: alive(sandbox) == 3 and len(told) == 3)
        sandbox.advance(JOB_SECONDS)
    assert len(told) == 6


@both_backends
async def test_requests_may_come_one_by_one_from_an_async_iterable(sandbox: Sandbox, sync: AsyncSync) -> None:
    ended = anyio.Event()

    async def after_each_other() -> AsyncIterator[CreateFields]:
        first, second = requests(sandbox, 2)
        yield first
        await ended.wait()
        yield second

    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        async with sync.generations.create_many(after_each_other()) as many:
            await until(lambda: alive(sandbox) == 1)
            sandbox.advance(JOB_SECONDS)
            told.append(await anext(many))
            ended.set()
            await until(lambda: alive(sandbox) == 1)
            sandbox.advance(JOB_SECONDS)
            await collect(many, told)
    assert [outcome.index for outcome in told] == [0, 1]


async def test_a_fault_of_the_iterable_is_raised_when_all_that_was_begun_is_told(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    def breaking() -> Iterator[CreateFields]:
        yield from requests(sandbox, 2)
        raise ZeroDivisionError

    told: list[CreateOutcome] = []
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:

            async def take_all() -> None:
                with pytest.raises(ZeroDivisionError):
                    await collect(sync.generations.create_many(breaking()), told)

            tasks.start_soon(take_all)
            await until(lambda: alive(sandbox) == 2)
            sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 2


async def test_a_generation_request_is_taken_as_it_is(sandbox: Sandbox, sync: AsyncSync) -> None:
    (fields,) = requests(sandbox, 1)
    request = GenerationRequest.from_wire(
        {
            "model": fields["model"],
            "input": [item.to_wire() for item in fields["input"] if not isinstance(item, LocalMedia)],
            "outputFileName": "whole",
            "newThing": {"a": 1},
        }
    )
    (told,) = await outcomes(sandbox, sync.generations.create_many([request]), 1, 1)
    assert told.request is request
    assert told.generation.output_file_name == "whole"
    (sent,) = creates(sandbox)
    assert isinstance(sent.body, dict)
    assert sent.body["newThing"] == {"a": 1}


async def test_a_key_of_the_callers_own_is_the_one_that_is_sent(sandbox: Sandbox, sync: AsyncSync) -> None:
    asked = requests(sandbox, 1, {"idempotency_key": "mine-1"})
    await outcomes(sandbox, sync.generations.create_many(asked), 1, 1)
    assert keys(sandbox.requests) == ["mine-1"]


async def test_common_options_hold_for_every_request_beside_its_own(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    asked = requests(sandbox, 2, {"additional_headers": {"x-own": "1"}})
    common: RequestOptions = {"additional_headers": {"x-sync-organization-id": "org-2"}}
    await outcomes(sandbox, sync.generations.create_many(asked, request_options=common), 2, 2)
    assert {one.headers.get("x-sync-organization-id") for one in sandbox.requests if "/v2/" in one.path} == {
        "org-2"
    }
    assert [one.headers.get("x-own") for one in creates(sandbox)] == ["1", "1"]


async def test_nothing_to_make_asks_for_nothing(sandbox: Sandbox, sync: AsyncSync) -> None:
    told: list[CreateOutcome] = []
    await collect(sync.generations.create_many([]), told)
    assert told == []
    assert sandbox.requests == []


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_a_concurrency_below_one_is_refused(sync: AsyncSync, concurrency: int) -> None:
    with pytest.raises(InvalidRequestError, match="concurrency must be 1 or more"):
        sync.generations.create_many([], concurrency)


@pytest.mark.parametrize(
    "wrong", [{"model": "lipsync-2", "input": []}, "lipsync-2", GenerationRequest(input=[]), 7, None]
)
async def test_what_is_no_list_of_requests_is_refused(sync: AsyncSync, wrong: list[CreateFields]) -> None:
    with pytest.raises(InvalidRequestError, match="must be a list"):
        sync.generations.create_many(wrong)


@pytest.mark.parametrize(
    "options", [{"idempotency_key": "one"}, {"additional_headers": {"IDEMPOTENCY-KEY": "one"}}]
)
async def test_one_key_for_all_requests_is_refused(
    sandbox: Sandbox, sync: AsyncSync, options: RequestOptions
) -> None:
    with pytest.raises(InvalidRequestError, match="belongs to one request"):
        sync.generations.create_many(requests(sandbox, 2), request_options=options)


class _Memory:
    """A guard that makes one job for all requests."""

    def __init__(self) -> None:
        self.job: Generation | None = None
        self.given: list[RequestOptions] = []
        self.takes: list[int] = []
        self._turn = anyio.Lock()

    async def create_for(
        self, sync: AsyncSync, request: GenerationRequest, options: RequestOptions | None, take: int
    ) -> Generation:
        self.given.append(options or RequestOptions())
        self.takes.append(take)
        async with self._turn:
            if self.job is None:
                async with AsyncSync(api_key=KEY, base_url=sync.base_url) as plain:
                    self.job = await plain.generations.create(model=request.model, input=request.input)
        return self.job

    async def speech_for(
        self, sync: AsyncSync, request: SpeechRequest, options: RequestOptions | None, take: int
    ) -> Speech:
        raise NotImplementedError((sync, request, options, take))

    async def clone_for(
        self, sync: AsyncSync, request: CloneRequest, consent: str, options: RequestOptions | None
    ) -> ClonedVoice:
        raise NotImplementedError((sync, request, consent, options))

    async def batch_for(
        self, sync: AsyncSync, request: BatchRequest, options: RequestOptions | None, take: int
    ) -> Batch:
        raise NotImplementedError((sync, request, options, take))

    async def dialogue_edit_for(
        self, sync: AsyncSync, body: Json, options: RequestOptions | None, take: int
    ) -> DialogueEdit:
        raise NotImplementedError((sync, body, options, take))

    async def delete_voice_for(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        raise NotImplementedError((sync, id, delete))

    async def delete_for(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        raise NotImplementedError((sync, id, delete))

    async def delete_project_for(
        self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]
    ) -> None:
        raise NotImplementedError((sync, id, delete))

    async def explain_missing(self, sync: AsyncSync, generation_id: str) -> None:
        raise NotImplementedError((sync, generation_id))


async def test_requests_for_which_a_guard_has_one_job_are_all_told_its_end(sandbox: Sandbox) -> None:
    guard = _Memory()
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, guard=guard) as sync:
        asked = requests(sandbox, 3)
        asked[2]["take"] = 2
        many = sync.generations.create_many(asked)
        async with iterating(many) as told:
            await until(lambda: len(many.pending) == 3)
            sandbox.advance(JOB_SECONDS)
    assert statuses(told) == ["COMPLETED"] * 3
    assert len({one.id for one in jobs(told)}) == 1
    assert len(sandbox.charges) == 1
    assert sorted(guard.takes) == [1, 1, 2]
    # The key of a guarded create is the guard's.
    assert not [options for options in guard.given if "idempotency_key" in options]


async def test_a_job_that_a_guard_knows_to_have_ended_is_told_at_once(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    guard = _Memory()
    guard.job = await make(sync, sandbox)
    sandbox.advance(JOB_SECONDS)
    guard.job = await sync.generations.get(guard.job.id)
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, guard=guard) as guarded:
        told: list[CreateOutcome] = []
        with anyio.fail_after(15):
            await collect(guarded.generations.create_many(requests(sandbox, 2)), told)
    assert statuses(told) == ["COMPLETED"] * 2
