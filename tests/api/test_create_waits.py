"""How long a create in doubt waits before it goes out again: lists may lag, and keys may be ignored."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_mcp import AsyncSync, OutcomeUnknown, RequestOptions
from sync_mcp.api.book import Step
from sync_mcp.api.kinds import GENERATIONS
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, KEY, fail_to_resolve_localhost, in_turn, job, keys, make, make_as, trail
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio

LISTED_WITHIN_SECONDS = 60.0
LOST = Answer()
MINE: RequestOptions = {"idempotency_key": "mine", "max_retries": 4}
CONFLICT = answer(409, {"message": "Seen before.", "errorCode": "IDEMPOTENCY_CONFLICT", "statusCode": 409})


@pytest.fixture(autouse=True)
def _lists_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.api.create.LISTED_WITHIN_SECONDS", LISTED_WITHIN_SECONDS)


def sent_before(seconds: float) -> dict[str, Any]:
    """Return the attempt of an earlier call that went out so long ago."""
    sent_at = datetime.now(UTC) - timedelta(seconds=seconds)
    return {"sent_at": sent_at, "last_sent_at": sent_at}


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_create_whose_answer_is_lost_while_the_list_lags_is_paid_once(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    await sync.account.get()
    sandbox.configure(idempotency="ignore", list_lag_seconds=30, get_lag_seconds=30)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="after"))
    for _ in range(3):
        with pytest.raises(OutcomeUnknown, match="does not show the job"):
            await make(sync, sandbox, MINE)
    sandbox.advance(30)
    made = await make(sync, sandbox, MINE)
    assert [charge.generation_id for charge in sandbox.charges] == [made.id]
    assert keys(sandbox.requests) == ["mine"]


async def test_an_unknown_outcome_says_when_it_may_be_sent_again(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=LOST, listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), **sent_before(20))
    seconds = caught.value.retry_after_seconds
    assert seconds is not None
    assert 30 <= seconds <= 42
    assert f"not sent again for {seconds:.0f} s" in caught.value.next_step


async def test_a_create_goes_out_again_once_the_list_has_had_its_time_and_lacks_the_job(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job("mine")), listed=answer(200, []))
    client = client_of(server)
    with pytest.raises(OutcomeUnknown):
        await make_as(client, **sent_before(LISTED_WITHIN_SECONDS - 10))
    assert keys(server.received) == []
    assert (await make_as(client, **sent_before(LISTED_WITHIN_SECONDS + 5))).id == "mine"


async def test_the_time_runs_from_the_last_send(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job("mine")), listed=answer(200, []))
    last = datetime.now(UTC) - timedelta(seconds=5)
    with pytest.raises(OutcomeUnknown):
        await make_as(client_of(server), sent_at=last - timedelta(hours=1), last_sent_at=last)
    assert keys(server.received) == []


async def test_a_send_that_is_lost_again_is_waited_for_anew(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=LOST, listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), retries=4, **sent_before(600))
    assert len(keys(server.received)) == 1
    assert (caught.value.retry_after_seconds or 0) > LISTED_WITHIN_SECONDS - 10


async def test_a_repeat_that_was_refused_made_nothing_and_is_not_waited_for(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    refused = answer(429, {"message": "Slow down.", "errorCode": "rate_limit_exceeded", "statusCode": 429})
    server = serve(create=in_turn(refused, answer(201, job("mine"))), listed=answer(200, []))
    steps: list[Step] = []

    async def tell(step: Step) -> None:
        steps.append(step)

    made = await make_as(client_of(server), retries=4, tell=tell, **sent_before(600))
    assert (made.id, len(keys(server.received))) == ("mine", 2)
    assert steps == ["looks", "looks", "sends", "made nothing", "looks", "looks", "sends"]


async def test_a_create_that_reached_nobody_goes_out_at_once(
    sandbox: Sandbox, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_resolve_localhost(monkeypatch, times=2)
    async with AsyncSync(api_key=KEY, base_url=sandbox.url.replace("127.0.0.1", "localhost")) as client:
        await make(client, sandbox)
    assert trail(sandbox.requests) == [CREATE]


# Who knows that the API keeps keys


async def test_after_a_repeat_was_answered_with_its_job_a_create_in_doubt_goes_out_at_once(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    await make(sync, sandbox, MINE)
    sandbox.advance(30)
    await make(sync, sandbox, MINE)
    sandbox.configure(list_lag_seconds=30)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="after"))
    made = await make(sync, sandbox, {"idempotency_key": "another", "max_retries": 4})
    assert [charge.generation_id for charge in sandbox.charges][1:] == [made.id]
    assert keys(sandbox.requests) == ["mine", "mine", "another", "another"]


async def test_a_job_that_the_api_named_and_answers_a_repeat_with_shows_that_it_keeps_keys(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(
        create=in_turn(answer(201, job("named")), LOST, answer(201, job())), listed=answer(200, [])
    )
    client = client_of(server)
    agreed = {"named_id": "named", "resend_despite_named": True}
    await make_as(client, **agreed, **sent_before(90))
    await make_as(client, retries=4, idempotency_key="another")
    assert keys(server.received) == ["mine", "another", "another"]


@pytest.mark.parametrize(
    ("refusal", "sends"),
    [
        (CONFLICT, 2),
        (answer(409, {"message": "No.", "errorCode": "project_conflict", "statusCode": 409}), 1),
        (answer(409, {"message": "No."}), 1),
    ],
    ids=["of the key", "of something else", "of a gateway"],
)
async def test_a_conflict_shows_that_the_api_keeps_keys_where_it_is_about_the_key(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    refusal: Answer,
    sends: int,
) -> None:
    server = serve(create=in_turn(refusal, LOST, answer(201, job())), listed=answer(200, []))
    client = client_of(server)
    with pytest.raises(OutcomeUnknown):
        await make_as(client, retries=1, **sent_before(90))
    try:
        await make_as(client, retries=4, idempotency_key="another")
    except OutcomeUnknown:
        assert sends == 1
    assert keys(server.received).count("another") == sends


async def test_a_key_counts_as_kept_for_no_longer_than_was_seen(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="expire", idempotency_expiry_seconds=20)
    await make(sync, sandbox, MINE)
    sandbox.advance(10)
    await make(sync, sandbox, MINE)
    sandbox.configure(list_lag_seconds=45)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="after"))
    another: RequestOptions = {"idempotency_key": "another", "max_retries": 0}
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox, another)
    sandbox.advance(30)
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox, another)
    assert len(sandbox.charges) == 2


async def test_a_first_answer_shows_nothing_of_keys(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="ignore")
    await make(sync, sandbox, MINE)
    sandbox.advance(30)
    await make(sync, sandbox, MINE)
    assert not sync.memory.keeps_keys_for(GENERATIONS, 1)
