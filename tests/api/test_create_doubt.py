"""What is not believed while a create is in doubt: a job of another's, half a list, the machine's clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest

from sync_mcp import (
    AsyncSync,
    Audio,
    Dub,
    Generation,
    GenerationOptions,
    OutcomeUnknown,
    PaymentRequiredError,
    Video,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, LIST, ago, in_turn, job, make, trail, until
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio
LOST = Answer()


def media(sandbox: Sandbox) -> list[Video | Audio]:
    return [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]


async def test_a_create_that_never_arrived_does_not_take_the_job_of_one_like_it_whose_answer_is_late(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    late = Fault(method="POST", path="/v2/generate", delay_seconds=1.5, when="after")
    sandbox.add_fault(late)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="before"))
    made: list[Generation] = []

    async def create(options: GenerationOptions | None) -> None:
        made.append(await sync.generations.create(model="lipsync-2", input=media(sandbox), options=options))

    async with anyio.create_task_group() as creates:
        creates.start_soon(create, None)
        await until(lambda: len(sandbox.charges) == 1)
        creates.start_soon(create, GenerationOptions(sync_mode="loop"))
    plain, looped = made
    assert plain.id != looped.id
    assert (plain.options, looped.options and looped.options.sync_mode) == (GenerationOptions(), "loop")
    assert len(sandbox.charges) == 2


async def test_a_job_that_may_be_that_of_an_unresolved_create_is_not_taken(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    # The first create is lost, and so is the list; then the list shows a job that both may have made.
    unlisted = answer(500, {"message": "later"})
    server = serve(LOST, unlisted, LOST, answer(200, [job("whose")]), answer(200, []))
    client = client_of(server, max_retries=0)
    with pytest.raises(OutcomeUnknown):
        await make(client)
    with pytest.raises(OutcomeUnknown):
        await make(client)
    assert trail(server.received) == [CREATE, LIST, CREATE, LIST, LIST]


async def test_of_an_earlier_dub_whose_language_is_not_shown_it_cannot_be_told_whose_it_is(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    other = job("spanish", input=[{"type": "video", "url": "https://media.example/v.mp4"}], createdAt=ago(30))
    server = serve(LOST, answer(200, [other]))
    with pytest.raises(OutcomeUnknown):
        await client_of(server, max_retries=0).generations.create(
            model="lipsync-2", input=[Video(url="https://media.example/v.mp4")], dub=Dub(target_lang="fr")
        )


async def test_a_job_of_this_call_is_taken_although_it_does_not_show_what_tells_it_apart(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    only_video = job("french", input=[{"type": "video", "url": "https://media.example/v.mp4"}])
    client = client_of(serve(LOST, answer(200, [only_video])))
    made = await client.generations.create(
        model="lipsync-2", input=[Video(url="https://media.example/v.mp4")], dub=Dub(target_lang="fr")
    )
    assert made.id == "french"


async def test_a_later_call_remembers_a_job_that_may_be_its_own_when_the_list_leaves_it_out(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = in_turn(answer(200, [job("whose", createdAt=None)]), answer(200, []))
    server = serve(create=in_turn(LOST, answer(201, job("second"))), listed=listed)
    client = client_of(server)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as caught:
            await make(client, options={"idempotency_key": "mine"})
        assert caught.value.maybe_ids == ("whose",)
    assert trail(server.received).count(CREATE) == 1


async def test_a_list_with_an_entry_that_cannot_be_read_does_not_say_that_the_job_is_not_there(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="after"))
    sandbox.add_fault(Fault(path="/v2/generations", status=200, body=[{"id": "a"}], times=None))
    with pytest.raises(OutcomeUnknown):
        await sync.generations.create(model="lipsync-2", input=media(sandbox))
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("minutes", [-30, 30], ids=["behind", "ahead"])
async def test_a_wrong_clock_of_this_machine_does_not_hide_the_job(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], minutes: int
) -> None:
    theirs = datetime.now(UTC) + timedelta(minutes=minutes)
    listed = answer(
        200,
        [job("mine", createdAt=theirs.isoformat())],
        {"Date": format_datetime(theirs)},
    )
    server = serve(LOST, listed)
    assert (await make(client_of(server))).id == "mine"


async def test_a_repeat_that_is_plainly_refused_is_not_sent_again_and_its_advice_is_told(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    refusal = answer(402, {"message": "No credits.", "suggestion": "Top up.", "statusCode": 402})
    none = answer(200, [])
    server = serve(LOST, none, none, refusal, none)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=4))
    assert trail(server.received) == [CREATE, LIST, LIST, CREATE, LIST]
    assert "The plan or the billing stands in the way" in caught.value.message
    assert caught.value.advice == PaymentRequiredError.next_step
    # What the API says of it stands by itself.
    assert caught.value.api_says == "No credits. Top up."
    assert "Top up" not in f"{caught.value.message} {caught.value.next_step}"


@pytest.mark.parametrize("strange", ["gen/1", "a b", "x?y=z", "../account", "x" * 200])
async def test_an_id_that_can_never_be_asked_for_is_no_id(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], strange: str
) -> None:
    server = serve(answer(201, job(strange)), answer(200, []))
    with pytest.raises(OutcomeUnknown):
        await make(client_of(server, max_retries=0))
