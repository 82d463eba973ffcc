"""A second kind of job goes through the same resolver: one of which the API has no list (API §9.2)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_mcp import AsyncSync, OutcomeUnknown, PaymentRequiredError, RequestOptions
from sync_mcp.api.kinds import GENERATIONS, JobKind
from sync_mcp.api.models import CamelModel
from sync_mcp.errors import NotSent

from .conftest import KeptBook, ago, in_turn, job, make
from .raw_server import Answer, RawServer, Received, answer

pytestmark = pytest.mark.anyio

LOST = Answer()
SPEECHES = "/v2/tts/jobs"
MADE = f"POST {SPEECHES}"
READ = f"GET {SPEECHES}/speech-1"
BODY: dict[str, Any] = {"script": "Good day.", "voiceId": "v", "provider": "elevenlabs"}
UNKNOWN = answer(500, {"message": "broken", "statusCode": 500})


class Speech(CamelModel):
    id: str
    status: str
    url: str | None = None
    created_at: datetime | None = None


SPEECH = JobKind(name="speech job", path=SPEECHES, model=Speech, keeps_keys=True)
UNKEPT = replace(SPEECH, keeps_keys=False)

Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


def speech(id: str = "speech-1", /, **more: object) -> dict[str, object]:
    return {"id": id, "status": "PENDING", "url": None, "createdAt": ago(0), **more}


async def say(
    client: AsyncSync, kind: JobKind[Speech] = SPEECH, *, key: str = "mine", retries: int = 4, **kept: Any
) -> Speech:
    """Make a speech job, of which the client alone keeps book, or a `KeptBook` with these fields."""
    book = KeptBook(client.memory, **kept) if kept else client.memory
    options: RequestOptions = {"max_retries": retries}
    return await client.create_as(kind, book, key, BODY, request_options=options)


def asked(server: RawServer) -> list[str]:
    return [f"{one.method} {one.path}" for one in server.received]


def keys(server: RawServer) -> list[str | None]:
    return [one.headers.get("idempotency-key") for one in server.received if one.method == "POST"]


@pytest.fixture(autouse=True)
def _lists_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the API's list as in a day of work: where there is none, nothing is waited for."""
    monkeypatch.setattr("sync_mcp.api.create.LISTED_WITHIN_SECONDS", 60.0)


async def test_a_job_of_another_kind_is_made_where_its_kind_says_and_read_as_its_model(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(answer(202, speech()))
    made = await say(client_of(server))
    assert isinstance(made, Speech)
    assert (made.id, made.status) == ("speech-1", "PENDING")
    assert (asked(server), keys(server)) == ([MADE], ["mine"])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("lost", [LOST, UNKNOWN, answer(202, b"made")], ids=["lost", "an error", "no JSON"])
async def test_without_a_list_a_lost_answer_is_asked_for_again_once_under_the_same_key(
    serve: Serve, client_of: ClientOf, pauses: list[float], lost: Answer
) -> None:
    server = serve(lost, answer(202, speech(status="SUCCESS")))
    made = await say(client_of(server))
    assert made.status == "SUCCESS"
    assert (asked(server), keys(server)) == ([MADE, MADE], ["mine", "mine"])
    assert len(pauses) == 1


async def test_without_a_list_it_goes_out_at_most_twice_in_one_call_and_nothing_else_is_asked(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(LOST)
    with pytest.raises(OutcomeUnknown) as caught:
        await say(client_of(server))
    assert (asked(server), keys(server)) == ([MADE, MADE], ["mine", "mine"])
    error = caught.value
    assert (error.reason, error.money_spent, error.retry_after_seconds) == ("no_list", "unknown", None)
    assert "The API has no list of such jobs" in error.message
    assert "under the same idempotency key alone" in error.next_step
    assert "generation" not in str(error)


async def test_without_a_list_the_next_call_under_the_key_repeats_it_once_and_returns_its_job(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(LOST, answer(202, speech()))
    client = client_of(server)
    with pytest.raises(OutcomeUnknown):
        await say(client, retries=0)
    assert (await say(client, retries=0)).id == "speech-1"
    assert keys(server) == ["mine", "mine"]


async def test_a_refusal_of_another_kind_is_told_and_not_repeated(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    refusal = {"message": "No credits.", "errorCode": "elevenlabs_quota_exceeded", "statusCode": 402}
    server = serve(answer(402, refusal), answer(202, speech()))
    client = client_of(server)
    with pytest.raises(PaymentRequiredError) as caught:
        await say(client)
    assert (caught.value.money_spent, caught.value.api_code) == ("no", "elevenlabs_quota_exceeded")
    assert (asked(server), pauses) == ([MADE], [])
    # Nothing is in doubt: the next call begins with a send.
    await say(client)
    assert asked(server) == [MADE, MADE]


async def test_where_the_api_does_not_say_that_it_keeps_such_keys_nothing_goes_out_again(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(LOST, answer(202, speech()))
    client = client_of(server)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as caught:
            await say(client, UNKEPT)
        assert caught.value.reason == "untraceable"
        assert "Ask the user before making it again" in caught.value.next_step
    assert (asked(server), pauses) == ([MADE], [])


async def test_a_job_of_another_kind_that_its_answer_names_is_read_at_its_own_path(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(answer(202, {"id": "speech-1"}), answer(200, speech(status="SUCCESS")))
    assert (await say(client_of(server))).status == "SUCCESS"
    assert asked(server) == [MADE, READ]


async def test_a_named_job_of_another_kind_that_is_not_visible_is_not_made_again(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    hidden = answer(404, {"message": "no", "statusCode": 404})
    server = serve(answer(202, {"id": "speech-1"}), hidden)
    with pytest.raises(OutcomeUnknown) as caught:
        await say(client_of(server))
    assert asked(server).count(MADE) == 1
    assert (caught.value.reason, caught.value.generation_id) == ("named_not_visible", "speech-1")
    assert "The API named speech job speech-1." in caught.value.message


@pytest.mark.parametrize("kind", [SPEECH, UNKEPT], ids=["kept keys", "no kept keys"])
async def test_what_its_book_does_not_let_go_out_is_not_sent(
    serve: Serve, client_of: ClientOf, pauses: list[float], kind: JobKind[Speech]
) -> None:
    async def no() -> bool:
        return False

    server = serve(answer(202, speech()))
    with pytest.raises(NotSent):
        await say(client_of(server), kind, may_send=no)
    with pytest.raises(OutcomeUnknown):
        await say(client_of(server), kind, may_send=no, sent_at=datetime.now(UTC))
    assert asked(server) == []


async def test_two_kinds_share_no_doubt_no_job_and_no_word_of_kept_keys(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    def unlisted(_: Received) -> Answer:
        return answer(500, {"message": "later"})

    server = serve(answer(202, speech("one")), create=in_turn(LOST, answer(201, job("one"))), listed=unlisted)
    client = client_of(server)
    mine: RequestOptions = {"idempotency_key": "mine", "max_retries": 0}
    with pytest.raises(OutcomeUnknown):
        await make(client, options=mine)
    # The generation under this key is in doubt, the speech job is not; and both kinds number from one.
    assert (await say(client)).id == "one"
    assert (await make(client, options={"idempotency_key": "another"})).id == "one"
    client.memory.note_kept(SPEECH, 60.0)
    assert client.memory.keeps_keys_for(SPEECH, 30.0)
    assert not client.memory.keeps_keys_for(GENERATIONS, 30.0)


async def test_one_kind_in_doubt_does_not_keep_the_job_of_another_from_its_create(
    serve: Serve, client_of: ClientOf, pauses: list[float]
) -> None:
    server = serve(LOST, create=LOST, listed=answer(200, [job("job-1")]))
    client = client_of(server)
    with pytest.raises(OutcomeUnknown):
        await say(client)
    assert (await make(client)).id == "job-1"


async def test_where_only_the_answer_tells_what_was_made_it_is_waited_for_as_long_as_there_is_time(
    serve: Serve, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is kept of the time for a look at a list: there is none.
    monkeypatch.setattr("sync_mcp.api.create._SEND_SECONDS", 0.0)
    server = serve(answer(202, speech()))
    assert (await say(client_of(server), UNKEPT)).id == "speech-1"
    assert asked(server) == [MADE]
