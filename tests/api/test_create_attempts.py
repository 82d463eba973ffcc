"""A create of which somebody keeps book: what the book is asked, and what it is told."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from sync_mcp import AsyncSync, LedgerError, OutcomeUnknown
from sync_mcp.api.book import Claim
from sync_mcp.errors import NotSent
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import (
    CREATE,
    KEY,
    LIST,
    ago,
    fail_to_resolve_localhost,
    in_turn,
    job,
    jobs,
    keys,
    make,
    make_as,
    paged,
    trail,
)
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio
LOST = Answer()


class Permits:
    """Says yes so many times, and no ever after."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left >= 0


# What the book knows


async def test_jobs_that_the_book_knows_as_those_of_others_do_not_stand_in_the_way(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    asked: list[Sequence[str]] = []

    async def knows(ids: Sequence[str]) -> Collection[str]:
        asked.append(ids)
        return {"take-1", "take-2", "whoever"}

    seen = [job("take-1", createdAt=ago(600)), job("take-2", createdAt=ago(900)), *jobs(50)]
    server = serve(create=in_turn(LOST, answer(201, job("take-3"))), listed=paged(seen, 20))
    assert (await make_as(client_of(server), knows=knows)).id == "take-3"
    # All at once, and only of those that may be it.
    assert asked == [["take-1", "take-2"]] * 2


async def test_a_job_that_the_book_does_not_know_stands_in_the_way(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    async def knows(ids: Sequence[str]) -> Collection[str]:
        return ids[:1]

    seen = [job("take-1", createdAt=ago(600)), job("whose", createdAt=ago(900))]
    server = serve(create=in_turn(LOST, answer(201, job("take-2"))), listed=paged(seen))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), knows=knows)
    assert caught.value.maybe_ids == ("whose",)
    assert len(keys(server.received)) == 1


async def test_a_book_that_cannot_be_asked_leaves_the_outcome_unknown(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    async def knows(ids: Sequence[str]) -> Collection[str]:
        raise LedgerError("The disk is full.")

    server = serve(create=in_turn(LOST, answer(201, job("new"))), listed=paged([job("old", createdAt=None)]))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), knows=knows)
    assert caught.value.maybe_ids == ("old",)
    assert len(keys(server.received)) == 1


async def test_a_job_whose_owner_the_book_cannot_tell_yet_is_not_paid_beside(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    async def claim(generation_id: str) -> Claim:
        return "unclear"

    server = serve(create=in_turn(LOST, answer(201, job("new"))), listed=paged([job("whose")]))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), claims=claim)
    assert (caught.value.reason, caught.value.maybe_ids) == ("maybe_seen", ("whose",))
    assert len(keys(server.received)) == 1


async def test_a_job_that_does_not_show_what_tells_it_apart_is_not_taken_long_after_nor_paid_beside(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job("new")), listed=paged([job("whose")]))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(
            client_of(server),
            more={"dubParams": {"targetLang": "es"}},
            sent_at=datetime.now(UTC) - timedelta(hours=2),
        )
    assert caught.value.maybe_ids == ("whose",)
    assert keys(server.received) == []


async def test_what_may_differ_in_a_repeat_by_the_word_of_the_book_does_not_hide_the_job(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = paged([job("mine", webhookUrl="https://hook.example/first")])
    server = serve(create=answer(201, job("second")), listed=listed)
    again = {"webhookUrl": "https://hook.example/again"}
    made = await make_as(client_of(server), more=again, sent_at=datetime.now(UTC), drops=["webhookUrl"])
    assert made.id == "mine"
    assert keys(server.received) == []


# What may be sent


async def test_a_create_that_is_called_off_before_its_first_send_was_not_sent(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    permits = Permits(0)
    with pytest.raises(NotSent) as caught:
        await make_as(sync, may_send=permits)
    assert caught.value.money_spent == "no"
    assert sandbox.requests == []


async def test_a_create_that_is_called_off_while_nobody_can_be_reached_was_not_sent(
    client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    gone = RawServer([Answer()])
    gone.close()
    permits = Permits(2)
    with pytest.raises(NotSent):
        await make_as(client_of(gone), retries=4, may_send=permits)
    assert permits.asked == 3


async def test_a_create_that_is_called_off_after_a_send_of_unknown_outcome_stays_unknown(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=LOST, listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), retries=4, may_send=Permits(1))
    assert len(keys(server.received)) == 1
    assert caught.value.reason == "not_found"


async def test_a_create_in_doubt_that_may_not_be_sent_is_looked_for_once(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job()), listed=answer(200, []))
    with pytest.raises(OutcomeUnknown):
        await make_as(client_of(server), retries=4, may_send=Permits(0), sent_at=datetime.now(UTC))
    assert trail(server.received) == [LIST]


# How often


@pytest.mark.parametrize("idempotency", ["honour", "ignore"])
async def test_a_create_goes_out_at_most_twice_in_one_call(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    sandbox.add_fault(Fault(path="/v2/generate", drop="before", times=None))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox, {"idempotency_key": "mine", "max_retries": 8})
    assert keys(sandbox.requests) == ["mine"] * 2
    assert caught.value.reason == "sends_used_up"
    assert "twice" in caught.value.message


async def test_the_rest_is_for_the_next_call(sandbox: Sandbox, sync: AsyncSync, pauses: list[float]) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", drop="before", times=3))
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox, {"idempotency_key": "mine", "max_retries": 8})
    await make(sync, sandbox, {"idempotency_key": "mine", "max_retries": 8})
    assert keys(sandbox.requests) == ["mine"] * 4
    assert len(sandbox.charges) == 1


async def test_after_two_sends_the_job_is_still_looked_for(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    none, shown = answer(200, []), answer(200, [job("mine")])
    server = serve(create=LOST, listed=in_turn(*[none] * 5, shown))
    assert (await make(client_of(server, max_retries=8))).id == "mine"
    assert trail(server.received) == [CREATE, LIST, LIST, CREATE, *[LIST] * 4]


async def test_a_send_that_reached_nobody_does_not_count(
    sandbox: Sandbox, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_resolve_localhost(monkeypatch, times=3)
    sandbox.add_fault(Fault(path="/v2/generate", drop="before"))
    url = sandbox.url.replace("127.0.0.1", "localhost")
    async with AsyncSync(api_key=KEY, base_url=url, max_retries=8) as client:
        await make(client, sandbox)
    assert (len(keys(sandbox.requests)), len(sandbox.charges)) == (2, 1)


# What is told


async def test_an_unknown_outcome_says_that_the_list_could_not_be_read_and_why(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    broken = answer(500, {"message": "The list is on fire.", "statusCode": 500})
    server = serve(create=LOST, listed=broken)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=1))
    assert caught.value.reason == "list_unreadable"
    assert "It cannot be found out now whether the job was made: The API has trouble" in caught.value.message


async def test_an_unknown_outcome_says_that_the_list_does_not_show_the_job(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=LOST, listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=0))
    assert (caught.value.reason, caught.value.maybe_ids) == ("not_found", ())
    assert "The API's list does not show the job." in caught.value.message
