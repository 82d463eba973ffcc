"""A job that the answer to a create names is made, whether it is visible yet or not."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_mcp import AsyncSync, OutcomeUnknown, RequestOptions
from sync_mcp.api.book import Claim
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import AUDIO, CREATE, KEY, VIDEO, in_turn, job, keys, make, make_as, paged, trail
from .raw_server import Answer, RawServer, Received, answer

pytestmark = pytest.mark.anyio
FORGOTTEN = Fault(path="/v2/generate", job="forget", idempotency_outcome_unknown="with_id")
MEDIA = [{"type": "video", "url": VIDEO}, {"type": "audio", "url": AUDIO}]


def unknown(named: str) -> Answer:
    body = {"message": "unknown", "errorCode": "IDEMPOTENCY_OUTCOME_UNKNOWN", "generationId": named}
    return answer(503, {**body, "statusCode": 503})


async def test_a_named_job_that_is_not_visible_is_not_sent_again(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(FORGOTTEN)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox)
    named = sandbox.charges[0].generation_id
    assert trail(sandbox.requests).count(CREATE) == len(sandbox.charges) == 1
    assert (caught.value.reason, caught.value.generation_id) == ("named_not_visible", named)
    assert named in caught.value.message
    assert "do not create it again" in caught.value.next_step


@pytest.mark.parametrize(
    "spoilt",
    [
        answer(201, {"id": "job-7"}),
        answer(201, {"id": "job-7", "status": {"of": "another form"}}),
        unknown("job-7"),
        answer(500, {"message": "broken", "generationId": "job-7"}),
    ],
    ids=["an id alone", "an unreadable status", "an unknown outcome", "an error"],
)
async def test_whatever_answer_names_a_job_that_nobody_shows_nothing_is_sent_again(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float], spoilt: Answer
) -> None:
    server = serve(create=in_turn(spoilt, answer(201, job())), listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=2))
    assert len(keys(server.received)) == 1
    assert (caught.value.reason, caught.value.generation_id) == ("named_not_visible", "job-7")


@pytest.mark.parametrize("strange", ["gen/1", "a b", "x?y=z", "..", "x" * 200])
async def test_an_id_that_can_never_be_asked_for_is_a_named_job_all_the_same(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float], strange: str
) -> None:
    server = serve(create=in_turn(answer(201, job(strange)), answer(201, job())), listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=2))
    assert {one.path for one in server.received} == {"/v2/generate", "/v2/generations"}
    assert len(keys(server.received)) == 1
    assert caught.value.reason == "named_not_visible"


async def test_a_later_call_under_its_key_does_not_send_it_either(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(FORGOTTEN)
    options: RequestOptions = {"idempotency_key": "mine"}
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as caught:
            await make(sync, sandbox, options)
        assert caught.value.reason == "named_not_visible"
    assert keys(sandbox.requests) == ["mine"]


async def test_a_named_job_that_comes_into_sight_is_returned(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    hidden, shown = answer(404, {"message": "no", "statusCode": 404}), answer(200, job("job-7"))
    server = serve(unknown("job-7"), hidden, answer(200, []), hidden, answer(200, []), shown)
    assert (await make(client_of(server, max_retries=4))).id == "job-7"
    assert len(keys(server.received)) == 1


async def test_a_named_job_that_only_the_list_shows_is_returned_whatever_its_time(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = paged([job("other", model="sync-3"), job("job-7", createdAt=None)])
    server = serve(create=unknown("job-7"), listed=listed)
    assert (await make(client_of(server))).id == "job-7"


async def test_a_named_job_that_only_the_list_shows_waits_for_no_other_create_in_doubt(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    unlisted, listed = answer(500, {"message": "later"}), answer(200, [job("job-7")])
    server = serve(create=in_turn(Answer(), unknown("job-7")), listed=in_turn(unlisted, listed))
    client = client_of(server)
    with pytest.raises(OutcomeUnknown):
        await make(client)
    assert (await make(client)).id == "job-7"


async def test_a_job_is_found_in_the_list_although_the_api_takes_the_name_it_gave_for_no_id(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    no_id = answer(400, {"message": "no id", "errorCode": "invalid_generation_id", "statusCode": 400})
    server = serve(unknown("job-7"), no_id, answer(200, [job("real")]))
    assert (await make(client_of(server))).id == "real"


CONTRADICTING: dict[str, dict[str, Any]] = {
    "by another model": {"model": "sync-3"},
    "of another video": {"input": [{"type": "video", "url": "https://media.example/x.mp4"}, MEDIA[1]]},
}


@pytest.mark.parametrize("shown", CONTRADICTING.values(), ids=CONTRADICTING.keys())
async def test_a_named_job_that_clearly_contradicts_is_not_taken(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    shown: dict[str, Any],
) -> None:
    server = serve(unknown("job-7"), answer(200, job("job-7", **shown)), answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server))
    assert (caught.value.reason, caught.value.generation_id) == ("named_is_anothers", "job-7")


async def test_another_job_than_the_named_one_is_not_taken_for_it(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(unknown("job-7"), answer(200, job("job-8")))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server))
    assert (caught.value.reason, caught.value.generation_id) == ("list_unreadable", "job-7")


async def test_a_named_job_of_another_create_of_this_client_is_not_taken(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    first = await make(sync, sandbox)
    sandbox.add_fault(Fault(path="/v2/generate", status=201, body={"id": first.id}))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox)
    assert (caught.value.reason, caught.value.generation_id) == ("named_is_anothers", first.id)
    assert len(keys(sandbox.requests)) == 2


@pytest.mark.parametrize(
    ("whose", "reason"), [("another's", "named_is_anothers"), ("unclear", "maybe_seen"), ("mine", None)]
)
async def test_a_named_job_is_claimed_in_the_book_before_it_is_taken(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], whose: Claim, reason: str | None
) -> None:
    first = await make(sync, sandbox)
    claimed: list[str] = []

    async def claim(generation_id: str) -> Claim:
        claimed.append(generation_id)
        return whose

    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as client:
        sent_at = datetime.now(UTC)
        kept: dict[str, Any] = {"claims": claim, "sent_at": sent_at, "named_id": first.id}
        more = {"input": first.to_wire()["input"]}
        if reason is None:
            assert (await make_as(client, more=more, **kept)).id == first.id
        else:
            with pytest.raises(OutcomeUnknown) as caught:
                await make_as(client, more=more, **kept)
            assert caught.value.reason == reason
    assert first.id in claimed
    assert len(keys(sandbox.requests)) == 1


async def test_with_the_users_word_it_goes_out_again_under_its_key(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job("job-8")), listed=answer(200, []))
    sent_at = datetime.now(UTC)
    made = await make_as(client_of(server), sent_at=sent_at, named_id="job-7", resend_despite_named=True)
    assert made.id == "job-8"
    assert keys(server.received) == ["mine"]


async def test_without_the_users_word_a_named_job_of_the_book_is_only_looked_for(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=answer(201, job("job-8")), listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(client_of(server), sent_at=datetime.now(UTC), named_id="job-7")
    assert (caught.value.reason, caught.value.generation_id) == ("named_not_visible", "job-7")
    assert keys(server.received) == []


async def test_the_users_word_is_for_the_job_named_before_and_not_for_one_named_since(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=in_turn(unknown("job-8"), answer(201, job("job-9"))), listed=answer(200, []))
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(
            client_of(server),
            retries=4,
            sent_at=datetime.now(UTC),
            named_id="job-7",
            resend_despite_named=True,
        )
    assert caught.value.generation_id == "job-8"
    assert keys(server.received) == ["mine"]


async def test_the_users_word_does_not_send_beside_a_job_that_may_be_it(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed: Callable[[Received], Answer] = paged([job("whose", createdAt=None)])
    server = serve(create=answer(201, job("job-8")), listed=listed)
    with pytest.raises(OutcomeUnknown) as caught:
        await make_as(
            client_of(server), sent_at=datetime.now(UTC), named_id="job-7", resend_despite_named=True
        )
    assert (caught.value.reason, caught.value.maybe_ids) == ("maybe_seen", ("whose",))
    assert keys(server.received) == []
