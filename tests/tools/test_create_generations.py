"""create_generations: several requests, checked before one is sent, by one yes to their total."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox

from .assistant import Assistant, Facts, asked, creates, media

pytestmark = pytest.mark.anyio

CREATE = "/v2/generate"
TOOL = "create_generations"
PRICE = 0.226
"""Of one of these clips with lipsync-2."""
Served = Callable[..., Client]
Asking = Callable[..., AbstractAsyncContextManager[Assistant]]
REFUSED: Facts = {
    "statusCode": 400,
    "errorCode": "generation_input_video_inaccessible",
    "message": "No such clip",
}


@pytest.fixture(autouse=True)
def _whoever_answers_is_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.tools.question.AT_ONCE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _many_slots(sandbox: Sandbox) -> None:
    sandbox.configure(plan="enterprise")


@pytest.fixture
def asking(sandbox: Sandbox) -> Asking:
    """Start a server that asks about every price, and a client; without `said` one that cannot ask."""

    @asynccontextmanager
    async def start(
        said: list[str] | None = None,
        says: Literal["accept", "decline"] = "accept",
        mode: Literal["legacy", "auto"] = "legacy",
        **settings: Any,
    ):
        async def answer(
            context: ClientRequestContext, params: types.ElicitRequestParams
        ) -> types.ElicitResult:
            assert said is not None
            said.append(params.message)
            return types.ElicitResult(action=says, content={})

        chosen = Settings.model_validate({"approve_above_usd": Decimal(0), **settings})
        server = create_server(chosen, sandbox_url=sandbox.url)
        callback = None if said is None else answer
        async with Client(
            server, mode=mode, elicitation_callback=callback, read_timeout_seconds=60
        ) as client:
            yield Assistant(client)

    return start


def requests(sandbox: Sandbox, count: int) -> list[Facts]:
    return [{"model": "lipsync-2", "input": media(sandbox, number)} for number in range(count)]


def statuses(answer: Facts) -> list[str]:
    return [row["status"] for row in answer["generations"]]


def ids(answer: Facts) -> list[str]:
    return [row["generation_id"] for row in answer["generations"] if "generation_id" in row]


def uploads(sandbox: Sandbox) -> Sequence[object]:
    return asked(sandbox, "POST", "/v2/assets/presigned-upload-url") + [
        one for one in sandbox.requests if one.method == "PUT"
    ]


async def test_a_dry_run_prices_them_and_one_quote_then_makes_each_once(
    sandbox: Sandbox, asking: Asking
) -> None:
    async with asking() as assistant:
        wanted = requests(sandbox, 3)
        priced = await assistant.facts(TOOL, requests=wanted, dry_run=True)
        assert priced["estimated_total_usd"] == pytest.approx(3 * PRICE)
        assert statuses(priced) == ["CHECKED"] * 3
        assert priced["asks"] == "Every price is asked about."
        assert "without dry_run" in priced["next_step"]
        assert creates(sandbox) == []
        made = await assistant.facts(TOOL, requests=wanted, quote_id=priced["quote_id"])
        assert (made["made"], statuses(made)) == (3, ["PENDING"] * 3)
        assert made["estimated_total_usd"] == pytest.approx(3 * PRICE)
        assert [row["about"] for row in made["generations"]] == ["speaker.mp4 + speech.wav"] * 3
        assert made["next_step"] == "Call wait_for_generations with the generation_id of the 3 that run."
        again = await assistant.facts(TOOL, requests=wanted)
        assert (again["made"], again["reused"], ids(again)) == (0, 3, ids(made))
        assert len(creates(sandbox)) == len(sandbox.charges) == 3


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_user_is_asked_once_for_all_with_the_total_and_each_by_its_name(
    sandbox: Sandbox, asking: Asking, mode: Literal["legacy", "auto"]
) -> None:
    said: list[str] = []
    async with asking(said, mode=mode) as assistant:
        made = await assistant.facts(TOOL, requests=requests(sandbox, 4))
    [question] = said
    assert "Pay about 0.904 USD for these 4 jobs?" in question
    assert question.count('"speaker.mp4 + speech.wav": about 0.226 USD') == 4
    assert (made["made"], len(sandbox.charges)) == (4, 4)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_no_is_one_to_all_of_them(
    sandbox: Sandbox, asking: Asking, mode: Literal["legacy", "auto"]
) -> None:
    said: list[str] = []
    wanted = requests(sandbox, 2)
    async with asking(said, "decline", mode) as assistant:
        denied = await assistant.error(TOOL, requests=wanted)
        assert denied.code == "approval_denied"
        await assistant.error("create_generation", **wanted[1])
    assert "You said no to this within a day." in said[1]
    assert creates(sandbox) == []


async def test_where_the_host_cannot_ask_the_quote_for_all_holds_an_hour(
    sandbox: Sandbox, asking: Asking
) -> None:
    async with asking() as assistant:
        answer = await assistant.error(TOOL, requests=requests(sandbox, 2))
    assert answer.code == "approval_required"
    assert "(good for an hour, once for each)" in answer.text
    assert "Pay about 0.452 USD for these 2 jobs?" in answer.text


async def test_all_that_is_wrong_is_said_at_once_by_number_and_nothing_is_sent_or_uploaded(
    sandbox: Sandbox, served: Served, movies: Path
) -> None:
    (movies / "notes.mp4").write_text("no video")
    clip, voice = ({"type": kind, "path": str(movies / name)} for kind, name in _FILES)
    wanted = [
        {"input": [clip, voice]},
        {"input": [clip]},
        {"model": "lipsync-9", "input": [clip, voice]},
        {"model": "lipsync-9", "input": [clip, voice]},
        {"input": [{"type": "video", "path": str(movies / "notes.mp4")}, voice]},
        {"input": [{"type": "video", "path": str(movies / "missing.mp4")}, voice]},
    ]
    async with served() as client:
        answer = await Assistant(client).error(TOOL, requests=wanted)
    assert (answer.code, answer.money_spent) == ("invalid_request", "no")
    for told in (
        "Request 2: input needs a voice",
        "Requests 3, 4: There is no model 'lipsync-9'",
        "Request 5: input[0]: ",
        "Request 6: input[0]: ",
    ):
        assert told in answer.text
    assert "Request 1" not in answer.text
    assert creates(sandbox) == []
    assert uploads(sandbox) == []


_FILES = (("video", "talk.mp4"), ("audio", "voice.wav"))


@pytest.mark.parametrize("count", [0, 21])
async def test_there_are_1_to_20_requests(sandbox: Sandbox, unattended: Assistant, count: int) -> None:
    answer = await unattended.error(TOOL, requests=requests(sandbox, count))
    assert answer.code == "invalid_request"
    assert "requests m" in answer.text
    assert creates(sandbox) == []


async def test_what_they_have_together_is_given_once_beside_them(
    sandbox: Sandbox, unattended: Assistant
) -> None:
    wanted = requests(sandbox, 2)
    wanted[1]["max_cost_usd"] = 1
    answer = await unattended.error(TOOL, requests=wanted)
    assert "'requests[1].max_cost_usd'; did you mean 'max_cost_usd'?" in answer.text
    assert creates(sandbox) == []


async def test_a_limit_of_one_job_names_which_of_them_pass_it(sandbox: Sandbox, asking: Asking) -> None:
    wanted = requests(sandbox, 3)
    wanted[1]["model"] = "lipsync-2-pro"
    async with asking(approve_above_usd="never", max_usd_per_job=Decimal("0.3")) as assistant:
        answer = await assistant.error(TOOL, requests=wanted)
    assert answer.code == "limit_reached"
    assert "Request 2: The job would cost 0.3763 USD" in answer.text
    assert "SYNC_MCP_MAX_USD_PER_JOB" in answer.text
    assert "Request 1" not in answer.text
    assert creates(sandbox) == []


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ({"budget_usd": Decimal("0.5")}, {}, "The jobs would cost 0.678 USD"),
        ({}, {"max_cost_usd": 0.5}, "The price is 0.678 USD, and max_cost_usd of this call is 0.50 USD."),
    ],
)
async def test_what_is_too_much_together_is_refused_before_the_first_is_sent(
    sandbox: Sandbox, asking: Asking, settings: Facts, arguments: Facts, words: str
) -> None:
    async with asking(approve_above_usd="never", **settings) as assistant:
        answer = await assistant.error(TOOL, requests=requests(sandbox, 3), **arguments)
        assert answer.code == "limit_reached"
        assert words in answer.text
        assert creates(sandbox) == []
        priced = await assistant.facts(TOOL, requests=requests(sandbox, 3), dry_run=True, **arguments)
        assert words in priced["would_be_refused"]
        assert "would be refused" in priced["next_step"]
        fits = await assistant.facts(TOOL, requests=requests(sandbox, 2), **arguments)
    assert fits["made"] == 2


async def test_the_same_request_twice_is_one_job_unless_it_is_another_take(
    sandbox: Sandbox, unattended: Assistant
) -> None:
    [one] = requests(sandbox, 1)
    made = await unattended.facts(TOOL, requests=[one, dict(one), {**one, "take": 2}])
    assert (made["made"], "reused" in made, len(sandbox.charges)) == (2, False, 2)
    assert [row["request"] for row in made["generations"]] == [1, 3]
    assert "Request 2 is the same as request 1: it is one job." in made["note"]
    assert made["generations"][1]["about"].endswith("take 2")


async def test_what_became_of_each_is_told_and_the_same_call_pays_nothing_twice(
    sandbox: Sandbox, unattended: Assistant
) -> None:
    wanted = requests(sandbox, 6)
    sandbox.add_fault(Fault(method="POST", path=CREATE, status=400, body=REFUSED, times=3))
    sandbox.add_fault(Fault(method="POST", path=CREATE, drop="after"))
    # The list in which the lost one would be found cannot be read.
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, times=None))
    answer = await unattended.facts(TOOL, requests=wanted)
    told = sorted(statuses(answer))
    assert told == ["PENDING", "PENDING", "REFUSED", "REFUSED", "REFUSED", "UNKNOWN"]
    assert (answer["made"], answer["not_made"], answer["unknown"]) == (2, 3, 1)
    refused = [row for row in answer["generations"] if row["status"] == "REFUSED"]
    assert {row["api_code"] for row in refused} == {"generation_input_video_inaccessible"}
    assert {row["api_says"] for row in refused} == {"No such clip"}
    step = answer["next_step"]
    assert "wait_for_generations with the generation_id of the 2 that run" in step
    assert "UNKNOWN may have been made: make exactly this call again" in step
    # What helps is said once for all three.
    assert step.count("Give the video as path") == 1
    assert f"Requests {refused[0]['request']}" in step
    sandbox.clear_faults()
    again = await unattended.facts(TOOL, requests=wanted)
    assert (again["made"], again["reused"], len(sandbox.charges)) == (3, 3, 6)
    assert set(ids(answer)) < set(ids(again))
    assert len(set(ids(again))) == 6
    assert "this is its job: nothing new was made or paid" in again["note"]


async def test_what_found_no_slot_is_made_by_the_same_call_and_the_user_is_not_asked_again(
    sandbox: Sandbox, asking: Asking
) -> None:
    sandbox.configure(concurrency=2)
    said: list[str] = []
    wanted = requests(sandbox, 5)
    async with asking(said) as assistant:
        first = await assistant.facts(TOOL, requests=wanted)
        assert (first["made"], first["not_made"]) == (2, 3)
        assert sorted(statuses(first)) == ["NOT_MADE"] * 3 + ["PENDING"] * 2
        # What stood in the way of all is said once.
        assert [sorted(row) for row in first["generations"] if row["status"] == "NOT_MADE"] == [
            ["about", "request", "status"]
        ] * 3
        assert "3 are not made: as many jobs run as the plan allows" in first["next_step"]
        sandbox.advance(60)
        left = await assistant.facts(TOOL, requests=wanted, dry_run=True)
        assert (left["reused"], "asks" in left) == (2, False)
        second = await assistant.facts(TOOL, requests=wanted)
        assert (second["made"], second["reused"], second["not_made"]) == (2, 2, 1)
        sandbox.advance(60)
        third = await assistant.facts(TOOL, requests=wanted)
        assert (third["made"], third["reused"]) == (1, 4)
    assert len(said) == 1
    assert len(sandbox.charges) == 5


async def test_another_request_beside_those_that_were_agreed_to_is_asked_about(
    sandbox: Sandbox, asking: Asking
) -> None:
    sandbox.configure(concurrency=1)
    said: list[str] = []
    wanted = requests(sandbox, 3)
    async with asking(said) as assistant:
        await assistant.facts(TOOL, requests=wanted[:2])
        sandbox.advance(60)
        await assistant.facts(TOOL, requests=wanted)
    assert len(said) == 2
    assert "for these 2 jobs" in said[1]


async def test_a_quote_that_is_not_for_these_is_refused_and_nothing_is_sent(
    sandbox: Sandbox, asking: Asking
) -> None:
    async with asking() as assistant:
        priced = await assistant.facts(TOOL, requests=requests(sandbox, 2), dry_run=True)
        answer = await assistant.error(TOOL, requests=requests(sandbox, 3), quote_id=priced["quote_id"])
        assert answer.code == "quote_refused"
        assert "Make the same call without quote_id" in answer.text
        assert "estimate_cost" not in answer.text
    assert creates(sandbox) == []


async def test_what_stands_in_the_way_of_all_is_one_error(sandbox: Sandbox, unattended: Assistant) -> None:
    sandbox.add_fault(Fault(method="POST", path=CREATE, status=400, body=REFUSED, times=None))
    answer = await unattended.error(TOOL, requests=requests(sandbox, 3))
    assert (answer.code, answer.money_spent) == ("request_rejected", "no")
    assert "generation_input_video_inaccessible" in answer.text
    sandbox.clear_faults()
    sandbox.configure(concurrency=1)
    busy = await unattended.facts("create_generation", input=media(sandbox, 99))
    full = await unattended.error(TOOL, requests=requests(sandbox, 2))
    assert full.code == "concurrency_limit_reached"
    assert busy["generation_id"] in full.text
    assert len(sandbox.charges) == 1


async def test_what_there_is_no_time_for_is_left_to_the_same_call(
    sandbox: Sandbox, unattended: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = requests(sandbox, 2)
    with monkeypatch.context() as short:
        short.setattr("sync_mcp.tools.several._SENDING_SECONDS", 1000.0)
        answer = await unattended.facts(TOOL, requests=wanted)
    assert (answer["made"], answer["not_made"], statuses(answer)) == (0, 2, ["NOT_MADE"] * 2)
    assert "2 are not made, for this call's time was up: make exactly this call again" in answer["next_step"]
    assert creates(sandbox) == []
    assert (await unattended.facts(TOOL, requests=wanted))["made"] == 2


async def test_a_key_that_is_refused_in_the_middle_stops_the_others_and_is_told_once(
    sandbox: Sandbox, unattended: Assistant
) -> None:
    body: Facts = {"statusCode": 401, "message": "no"}
    wanted = requests(sandbox, 12)
    sandbox.add_fault(Fault(method="POST", path=CREATE, status=401, body=body, skip=1, times=None))
    answer = await unattended.facts(TOOL, requests=wanted)
    assert sorted(statuses(answer)) == ["NOT_MADE"] * 11 + ["PENDING"]
    assert answer["next_step"].count("SYNC_API_KEY") == 1
    # Those that were on their way then, and none of the others.
    assert len(creates(sandbox)) < 9


async def test_a_local_file_of_several_is_uploaded_once_and_not_before_the_yes(
    sandbox: Sandbox, served: Served, movies: Path
) -> None:
    clip = {"type": "video", "path": str(movies / "talk.mp4")}
    wanted = [
        {"input": [clip, {"type": "audio", "url": f"{sandbox.samples.audio}?n={number}"}]}
        for number in range(3)
    ]
    async with served(approve_above_usd=Decimal(0)) as client:
        assistant = Assistant(client)
        priced = await assistant.facts(TOOL, requests=wanted, dry_run=True)
        assert uploads(sandbox) == []
        made = await assistant.facts(TOOL, requests=wanted, quote_id=priced["quote_id"])
    assert made["made"] == 3
    assert len([one for one in sandbox.requests if one.method == "PUT"]) == 1
    assert {row["about"].split(" + ")[0] for row in made["generations"]} == {"talk.mp4"}


async def test_a_price_that_nobody_knows_is_told_by_row_and_in_the_question_with_its_cause(
    sandbox: Sandbox, asking: Asking
) -> None:
    wanted = requests(sandbox, 2)
    wanted[1]["input"][0]["url"] = f"{sandbox.url}/samples/gone.mp4"
    async with asking() as assistant:
        priced = await assistant.facts(TOOL, requests=wanted, dry_run=True)
        assert "estimated_total_usd" not in priced
        assert "that the total is unknown" in priced["next_step"]
        assert priced["generations"][1]["why"].startswith("The price is unknown")
        answer = await assistant.error(TOOL, requests=wanted)
    assert "It would most likely fail: request 2: input[0].url" in answer.text
    assert "Nothing was started, and the job would most likely fail" in answer.text


async def test_the_answer_of_twelve_jobs_is_short(sandbox: Sandbox, unattended: Assistant) -> None:
    languages = ("es", "fr", "de", "it", "pt", "pl", "nl", "sv", "tr", "ja", "ko", "hi")
    clip = {"type": "video", "url": sandbox.samples.speaking}
    wanted = [{"input": [clip], "dub": {"target_lang": language}} for language in languages]
    made = await unattended.call(TOOL, requests=wanted)
    assert [row["about"] for row in made.facts["generations"]] == [
        f"speaking.mp4, dubbed into {language}" for language in languages
    ]
    assert max(len(made.text), len(json.dumps(made.facts, separators=(",", ":")))) <= 2_600
