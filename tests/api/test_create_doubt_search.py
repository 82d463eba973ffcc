"""The search for a create in doubt finds its own job, and never takes another's for it."""

import json
import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Generation, GenerationOptions, OutcomeUnknown, RequestOptions, Text, Video
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import AUDIO, CREATE, LIST, VIDEO, ago, in_turn, job, jobs, keys, make, paged, trail, until
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
LOST = Answer()
SPEECH = {"type": "audio", "url": AUDIO}

OTHERS: dict[str, dict[str, Any]] = {
    "more than an hour older": {"createdAt": ago(3700)},
    "by another model": {"model": "lipsync-2-pro"},
    "of another video": {"input": [{"type": "video", "url": "https://media.example/other.mp4"}, SPEECH]},
    "of more inputs": {"input": [{"type": "video", "url": VIDEO}, SPEECH, SPEECH]},
    "of fewer inputs": {"input": [{"type": "video", "url": VIDEO}]},
    "of other kinds": {"input": [{"type": "image", "url": VIDEO}, SPEECH]},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
async def test_a_job_that_is_too_old_or_contradicts_is_left_to_others(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    other: dict[str, Any],
) -> None:
    create = in_turn(LOST, answer(201, job("mine")))
    server = serve(create=create, listed=paged([job("other", **other)]))
    assert (await make(client_of(server, max_retries=1))).id == "mine"
    assert trail(server.received).count(CREATE) == 2


MAYBES: dict[str, dict[str, Any]] = {
    "made within the hour before the first send": {"seconds_ago": 3000},
    "of an unknown time": {"createdAt": None},
    "of an unreadable time": {"createdAt": "yesterday"},
    "of an id that nobody can ask for": {"id": "gen/1"},
    "by a model with a date behind its name": {"model": "lipsync-2-20260101"},
    "by an unknown model": {"model": None},
    "of media with URLs of another host": {
        "input": [
            {"type": "video", "url": "https://cdn.example/1"},
            {"type": "audio", "url": "https://cdn.example/2"},
        ]
    },
    "of an asset in place of a URL": {"input": [{"type": "video", "assetId": "a-1"}, SPEECH]},
    "without inputs": {"input": None},
}


def _shown(told: dict[str, Any]) -> dict[str, Any]:
    """Return fields as a list shows them by now: the tests were put together some time ago."""
    fields = dict(told)
    if "seconds_ago" in fields:
        fields["createdAt"] = ago(fields.pop("seconds_ago"))
    return fields


@pytest.mark.parametrize("seen", MAYBES.values(), ids=MAYBES.keys())
async def test_a_job_that_does_not_clearly_contradict_is_not_taken_and_nothing_is_sent_again(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    seen: dict[str, Any],
) -> None:
    shown = {**job("whose"), **_shown(seen)}
    server = serve(create=LOST, listed=paged([shown, *jobs(3)]))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=2))
    assert trail(server.received).count(CREATE) == 1
    assert (caught.value.reason, caught.value.maybe_ids) == ("maybe_seen", (shown["id"],))
    # In our own words stands an id alone: another's text is in quotes, and in no next step.
    id = str(shown["id"])
    is_id = re.fullmatch(r"[\w-]{1,128}", id, re.ASCII) is not None
    assert f"Generation {id if is_id else json.dumps(id)} " in caught.value.message
    assert (id in caught.value.next_step) == is_id


SAME: dict[str, dict[str, Any]] = {
    "a second before the first send": {"seconds_ago": 1},
    "by a clock that runs ahead": {"seconds_ago": -60},
    "ended already": {"status": "COMPLETED", "outputUrl": "https://media.example/out.mp4"},
    "with fields of its own": {"options": {"sync_mode": "bounce"}, "projectId": "p", "tomorrow": [1]},
    "with absent fields": {"options": None, "segments": None, "webhookUrl": ""},
    "with its inputs the other way round": {"input": [SPEECH, {"type": "video", "url": VIDEO}]},
}


@pytest.mark.parametrize("same", SAME.values(), ids=SAME.keys())
async def test_a_job_that_matches_is_found_whatever_else_the_list_shows_of_it(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    same: dict[str, Any],
) -> None:
    listed: list[object] = [{"no": "generation"}, job("other", model="sync-3"), job("mine", **_shown(same))]
    server = serve(LOST, answer(200, listed))
    assert (await make(client_of(server))).id == "mine"
    assert trail(server.received) == [CREATE, LIST]


async def test_a_job_that_matches_is_taken_although_another_may_be_it_too(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=LOST, listed=paged([job("whose", model="lipsync-2-20260101"), job("mine")]))
    assert (await make(client_of(server))).id == "mine"


async def test_a_job_with_other_options_script_or_file_name_is_left_to_others(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    asked: dict[str, Any] = {
        "input": [
            {"type": "video", "url": VIDEO},
            {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "script": "Good day."}},
        ],
        "options": {"sync_mode": "loop", "temperature": 1},
        "outputFileName": "take-1",
    }
    other_script = [asked["input"][0], {"type": "text", "provider": {"voiceId": "v", "script": "Bye."}}]
    others: list[dict[str, Any]] = [
        {**asked, "options": {"sync_mode": "bounce"}},
        {**asked, "outputFileName": "take-2"},
        {**asked, "input": other_script},
    ]
    mine = {**asked, "options": {"sync_mode": "loop", "temperature": 1.0, "model_mode": "face"}}
    listed = [job(f"other-{place}", **other) for place, other in enumerate(others)] + [job("mine", **mine)]
    client = client_of(serve(LOST, answer(200, listed)))
    generation = await client.generations.create(
        model="lipsync-2",
        input=[Video(url=VIDEO), Text(script="Good day.", voice_id="v")],
        options=GenerationOptions(sync_mode="loop", temperature=1),
        output_file_name="take-1",
    )
    assert generation.id == "mine"


async def test_a_job_whose_file_name_the_api_rewrote_is_found(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(Fault(path="/v2/generate", drop="after"))
    added: RequestOptions = {"additional_body_parameters": {"outputFileName": "My take (2)"}}
    generation = await make(sync, sandbox, added)
    assert generation.output_file_name == "My_take_2"
    assert [charge.generation_id for charge in sandbox.charges] == [generation.id]


async def test_what_the_caller_added_to_the_body_is_searched_for_too(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = [job("other", projectId="p-1"), job("mine", projectId="p-2")]
    server = serve(LOST, answer(200, listed))
    headers = {"x-sync-organization-id": "o-1"}
    added: Any = {"additional_body_parameters": {"projectId": "p-2"}, "additional_headers": headers}
    assert (await make(client_of(server), options=added)).id == "mine"
    assert [one.headers.get("x-sync-organization-id") for one in server.received] == ["o-1", "o-1"]


async def test_an_earlier_job_of_the_same_request_is_not_taken_for_the_new_one(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    first = await make(sync, sandbox)
    sandbox.add_fault(Fault(path="/v2/generate", drop="before"))
    second = await make(sync, sandbox)
    assert [charge.generation_id for charge in sandbox.charges] == [first.id, second.id]
    assert len(set(keys(sandbox.requests))) == 2


async def make_twins(sync: AsyncSync, sandbox: Sandbox) -> list[Generation]:
    made: list[Generation] = []

    async def one() -> None:
        made.append(await make(sync, sandbox))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            tasks.start_soon(one)
    return made


@both_backends
@pytest.mark.parametrize("idempotency", ["honour", "ignore"])
@pytest.mark.parametrize(
    "faults",
    [[], ["after"], ["after", "after"], ["before", "before"]],
    ids=["none lost", "one answer lost", "both answers lost", "both requests lost"],
)
async def test_twins_at_once_make_two_jobs_and_each_gets_its_own(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], faults: list[Any], idempotency: str
) -> None:
    sandbox.configure(idempotency=idempotency)
    for drop in faults:
        sandbox.add_fault(Fault(path="/v2/generate", drop=drop))
    twins = await make_twins(sync, sandbox)
    charged = {charge.generation_id for charge in sandbox.charges}
    assert len(sandbox.charges) == 2
    assert {twin.id for twin in twins} == charged
    assert len(set(keys(sandbox.requests))) == 2


@both_backends
async def test_a_twin_in_doubt_does_not_take_the_job_whose_answer_is_still_on_its_way(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    # The first is accepted and answered late; the second is lost before it arrives, and searches meanwhile.
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=1.5, when="after"))
    sandbox.add_fault(Fault(path="/v2/generate", drop="before"))
    made: list[Generation] = []

    async def one() -> None:
        made.append(await make(sync, sandbox))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await until(lambda: len(sandbox.charges) == 1)
        tasks.start_soon(one)
    assert {generation.id for generation in made} == {charge.generation_id for charge in sandbox.charges}
    assert len(sandbox.charges) == 2
