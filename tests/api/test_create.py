"""A create is charged once and its job is returned, whatever becomes of the answer to it."""

from itertools import pairwise
from typing import Any

import anyio
import pytest

from sync_mcp import (
    AsyncSync,
    ConcurrencyLimitError,
    Generation,
    OutcomeUnknown,
    RateLimitError,
    RequestOptions,
    SyncError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, KEY, LIST, keys, make, trail, until

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

# Every way in which an answer says nothing certain about the create.
SPOILT: dict[str, dict[str, Any]] = {
    "request timeout": {"status": 408, "body": {"message": "late", "statusCode": 408}},
    "conflict": {"status": 409, "body": {"message": "busy", "errorCode": "IDEMPOTENCY_CONFLICT"}},
    "server error": {"status": 500, "body": {"message": "broken", "errorCode": "internal_error"}},
    "gateway timeout": {"status": 504, "body": {"message": "late", "errorCode": "controller_timeout"}},
    "undocumented status": {"status": 418, "body": {"message": "teapot"}},
    "refusal in plain text": {"status": 400, "body": "Bad Request"},
    "refusal without a body": {"status": 403},
    "refusal as a list": {"status": 422, "body": ["no"]},
    "throttled by a page": {"status": 429, "body": "slow down", "headers": {"Retry-After": "1"}},
    "redirect": {"status": 302, "headers": {"Location": "https://elsewhere.example/"}},
    "accepted in plain text": {"status": 201, "body": "created"},
    "accepted as a list": {"status": 201, "body": []},
    "accepted with a number for an id": {"status": 201, "body": {"id": 7, "status": "PENDING"}},
    "dropped": {},
    "cut": {"cut_body": True},
    "page of a gateway": {"html": True},
    "empty": {"empty": True},
    "without an id": {"no_id": True},
    "outcome unknown": {"idempotency_outcome_unknown": "without_id"},
}


def spoil(kind: str, when: str) -> Fault:
    how = {"drop": when} if kind == "dropped" else {**SPOILT[kind], "when": when}
    return Fault.model_validate({"method": "POST", "path": "/v2/generate", **how})


def assert_paid_once(sandbox: Sandbox, generation: Generation) -> None:
    assert [charge.generation_id for charge in sandbox.charges] == [generation.id]
    sent = keys(sandbox.requests)
    assert set(sent) == {sandbox.charges[0].idempotency_key}
    assert "," not in sent[0]
    steps = trail(sandbox.requests)
    creates = [place for place, step in enumerate(steps) if step == CREATE]
    for earlier, later in pairwise(creates):
        assert LIST in steps[earlier:later], "sent again before the list was searched"


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_create_whose_answer_is_spoilt_after_accepting_is_found_in_the_list(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], kind: str
) -> None:
    # The list alone has to hold: nobody has seen the key work on the live API.
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(spoil(kind, "after"))
    generation = await make(sync, sandbox)
    assert_paid_once(sandbox, generation)
    assert trail(sandbox.requests) == [CREATE, LIST]
    assert pauses == []


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_create_that_was_spoilt_before_accepting_goes_out_again_under_its_key(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], kind: str
) -> None:
    sandbox.add_fault(spoil(kind, "before"))
    generation = await make(sync, sandbox)
    assert_paid_once(sandbox, generation)
    assert trail(sandbox.requests) == [CREATE, LIST, LIST, CREATE]
    assert len(pauses) == 1


@both_backends
@pytest.mark.parametrize("idempotency", ["honour", "ignore", "expire", "conflict"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_dropped_create_is_paid_once_whatever_the_api_makes_of_its_key(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], when: str, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(spoil("dropped", when))
    assert_paid_once(sandbox, await make(sync, sandbox))


@pytest.mark.parametrize("replay_status", [200, 201])
async def test_a_job_that_the_list_does_not_show_is_replayed_under_the_key(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], replay_status: int
) -> None:
    sandbox.configure(replay_status=replay_status)
    sandbox.add_fault(Fault(path="/v2/generate", drop="after", job="hide"))
    assert_paid_once(sandbox, await make(sync, sandbox))
    assert trail(sandbox.requests) == [CREATE, LIST, LIST, CREATE]


@pytest.mark.parametrize("idempotency", ["honour", "ignore"])
async def test_a_job_that_comes_late_into_the_list_is_found_before_anything_is_sent_again(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(spoil("dropped", "after"))
    sandbox.add_fault(Fault(path="/v2/generations", status=200, body=[]))
    assert_paid_once(sandbox, await make(sync, sandbox))
    assert trail(sandbox.requests) == [CREATE, LIST, LIST]


@pytest.mark.parametrize("idempotency", ["honour", "ignore"])
async def test_the_job_that_the_api_names_is_asked_for_and_returned(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path="/v2/generate", job="hide", idempotency_outcome_unknown="with_id"))
    generation = await make(sync, sandbox)
    assert trail(sandbox.requests) == [CREATE, f"GET /v2/generate/{generation.id}"]
    assert_paid_once(sandbox, generation)


async def test_a_hidden_job_whose_key_only_conflicts_stays_unknown_and_is_paid_once(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="conflict")
    sandbox.add_fault(Fault(path="/v2/generate", drop="after", job="hide"))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox)
    assert keys(sandbox.requests) == [caught.value.idempotency_key] * 2
    assert len(sandbox.charges) == 1


async def test_an_answer_with_an_id_and_no_status_leads_to_its_job(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as other:
        first = await make(other, sandbox)
    sandbox.add_fault(Fault(path="/v2/generate", status=201, body={"id": first.id}))
    assert (await make(sync, sandbox)).id == first.id
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(("anyio_backend", "idempotency"), [("asyncio", "honour"), ("trio", "ignore")])
async def test_a_create_whose_answer_is_too_late_is_found_in_the_list(
    sandbox: Sandbox, sync: AsyncSync, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=60))
    with anyio.fail_after(15):
        generation = await make(sync, sandbox, {"timeout_in_seconds": 3})
    assert_paid_once(sandbox, generation)
    assert trail(sandbox.requests) == [CREATE, LIST]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_asset_id_format", 400),
        ("account_payment_required", 402),
        ("account_on_hold", 403),
        ("asset_not_found", 404),
        ("voice_sample_source_too_large", 413),
        ("generation_input_video_invalid", 422),
        ("rate_limit_exceeded", 429),
        ("concurrency_limit_reached", 429),
        (None, 401),
    ],
)
async def test_a_refusal_is_told_and_neither_repeated_nor_searched_for(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], code: str | None, status: int
) -> None:
    body: dict[str, Any] = {"message": "Unauthorized", "statusCode": 401}
    sandbox.add_fault(Fault.api_error(code, times=None) if code else Fault(status=401, body=body, times=None))
    with pytest.raises(SyncError) as caught:
        await make(sync, sandbox)
    assert (getattr(caught.value, "status", None), caught.value.money_spent) == (status, "no")
    assert caught.value.api_code == code
    assert isinstance(caught.value, RateLimitError | ConcurrencyLimitError) == (status == 429)
    assert trail(sandbox.requests) == [CREATE]
    assert (sandbox.charges, pauses) == ([], [])


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "account_payment_required", "asset_not_found"])
async def test_a_refused_repeat_does_not_make_the_first_attempt_a_refusal(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], code: str
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", drop="after", job="hide"))
    sandbox.add_fault(Fault.api_error(code, path="/v2/generate", times=None))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox, {"max_retries": 2})
    assert caught.value.money_spent == "unknown"
    assert caught.value.idempotency_key == sandbox.charges[0].idempotency_key
    assert len(sandbox.charges) == 1


async def test_a_create_that_stays_unknown_says_so_with_its_key_id_and_time(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", idempotency_outcome_unknown="with_id"))
    sandbox.add_fault(Fault.api_error("internal_error", method="GET", times=None))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox, {"idempotency_key": "mine", "max_retries": 3})
    error = caught.value
    assert (error.code, error.money_spent, error.retryable) == ("outcome_unknown", "unknown", False)
    assert (error.idempotency_key, error.generation_id) == ("mine", sandbox.charges[0].generation_id)
    assert error.sent_at.endswith("Z")
    for told in ("mine", sandbox.charges[0].generation_id, error.sent_at):
        assert told in str(error)
    assert keys(sandbox.requests) == ["mine"]
    assert len(pauses) == 3


UNSEARCHABLE: list[dict[str, Any]] = [
    {"status": 500, "body": {"message": "broken"}},
    {"status": 404, "body": {"message": "Cannot GET /v2/generations", "statusCode": 404}},
    {"status": 401, "body": {"message": "Unauthorized"}},
    {"status": 200, "body": {"items": []}},
    {"status": 200, "body": "[]]"},
    {"html": True},
    {"drop": "before"},
    {"cut_body": True},
]


@pytest.mark.parametrize("fault", UNSEARCHABLE)
async def test_nothing_is_sent_again_while_the_list_cannot_be_searched(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], fault: dict[str, Any]
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(spoil("dropped", "after"))
    sandbox.add_fault(Fault.model_validate({"path": "/v2/generations", "times": None, **fault}))
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox)
    assert trail(sandbox.requests).count(CREATE) == len(sandbox.charges) == 1


async def test_a_search_that_fails_once_is_made_again(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(spoil("dropped", "after"))
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", path="/v2/generations"))
    assert_paid_once(sandbox, await make(sync, sandbox))


@both_backends
@pytest.mark.parametrize("idempotency", ["honour", "ignore", "conflict"])
async def test_a_create_cancelled_on_its_way_is_not_paid_again_by_a_repeat_under_its_key(
    sandbox: Sandbox, sync: AsyncSync, idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=60))
    options: RequestOptions = {"idempotency_key": "mine"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, sync, sandbox, options)
        await until(lambda: len(sandbox.charges) == 1)
        tasks.cancel_scope.cancel()
    generation = await make(sync, sandbox, options)
    assert_paid_once(sandbox, generation)
    assert trail(sandbox.requests) == [CREATE, LIST]


async def test_a_create_cancelled_before_it_was_accepted_is_charged_once_when_both_arrive(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=0.3, when="before"))
    options: RequestOptions = {"idempotency_key": "mine"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, sync, sandbox, options)
        await until(lambda: len(sandbox.requests) == 1)
        tasks.cancel_scope.cancel()
    generation = await make(sync, sandbox, options)
    await until(lambda: all(request.status for request in sandbox.requests))
    assert_paid_once(sandbox, generation)


async def test_the_key_is_in_the_log_before_anything_is_sent_and_the_id_after(
    sandbox: Sandbox, sync: AsyncSync, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    sandbox.add_fault(spoil("dropped", "after"))
    generation = await make(sync, sandbox, {"idempotency_key": "mine"})
    lines = [record.getMessage() for record in caplog.records]
    ours = [line for line in lines if line.startswith("create key=mine")]
    assert "sending" in ours[0]
    assert "outcome unknown" in ours[1]
    assert f"accepted as generation {generation.id} (SANDBOX)" in ours[2]
    network = next(place for place, record in enumerate(caplog.records) if record.name.startswith("httpcore"))
    assert lines.index(ours[0]) < network
    assert KEY not in caplog.text
