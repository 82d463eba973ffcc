from decimal import Decimal
from typing import Any, cast

import pytest
from mcp import Client
from pydantic import JsonValue

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, media, quote_in, sent

pytestmark = pytest.mark.anyio

BY_DURATION = "/v2/generations/estimate"
BY_REQUEST = "/v2/analyze/cost"
CREATE = "/v2/generate"
NO_PRICE = Fault.api_error("cost_estimate_unavailable", path=BY_REQUEST, times=None)


async def test_media_are_priced_as_the_api_measures_them_and_nothing_is_started(
    either_era: Assistant, sandbox: Sandbox
) -> None:
    told = await either_era.facts("estimate_cost", input=media(sandbox), model="lipsync-2-pro")
    assert told["model"] == "lipsync-2-pro"
    assert told["frames"] > 50
    assert told["cost_usd"] == pytest.approx(told["frames"] * 0.00333)
    assert told["assumptions"] == [
        "the media are as long as the API measured them",
        "113 frames, 4.5 s at 25 fps",
    ]
    assert "create_generation" in told["next_step"]
    assert sandbox.generations == {}
    assert sandbox.charges == []


async def test_what_the_api_measured_goes_before_what_the_caller_says(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=0.1)
    assert told["cost_usd"] == 0.226
    assert "duration_seconds was not used: it was measured" in told["assumptions"]
    assert sent(sandbox, BY_DURATION) == []


async def test_a_length_that_nobody_measured_is_a_hint_for_which_no_quote_is_given(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(NO_PRICE)
    request = {"input": media(sandbox), "duration_seconds": 12, "fps": 50}
    told = await assistant.facts("estimate_cost", request)
    assert "cost_usd" not in told
    assert (told["frames"], told["hint_usd"]) == (600, 1.2)
    assert sent(sandbox, BY_DURATION) == [{"model": "lipsync-2", "duration": 12, "fps": 50}]
    assert "the output lasts 12 s, as the caller says" in told["assumptions"]
    assert "The price is unknown" in told["asks"]


async def test_a_model_and_a_length_are_enough_for_a_hint(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.facts("estimate_cost", model="react-1", duration_seconds=10)
    assert (told["hint_usd"], told["frames"]) == (1.6675, 250)
    assert not {"cost_usd", "quote_id"} & told.keys()
    assert any("25 frames per second, at which Sync quotes" in line for line in told["assumptions"])


async def test_without_media_and_without_a_length_it_says_what_is_missing(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told = await assistant.facts("estimate_cost", model="lipsync-2")
    assert not {"cost_usd", "hint_usd", "quote_id"} & told.keys()
    assert "duration_seconds" in told["next_step"]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"max_usd_per_job": "0.2"}, "SYNC_MCP_MAX_USD_PER_JOB"),
        ({"budget_usd_per_day": "0.2"}, "SYNC_MCP_BUDGET_USD_PER_DAY"),
        ({"budget_usd": "0.2"}, "SYNC_MCP_BUDGET_USD"),
        ({}, "max_cost_usd of this call"),
    ],
)
async def test_what_a_limit_would_refuse_is_told_with_what_would_fit_and_without_a_quote(
    sandbox: Sandbox, limit: Facts, told: str
) -> None:
    limits: Any = {name: Decimal(usd) for name, usd in limit.items()}
    settings = Settings(approve_above_usd=Decimal(0), **limits)
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        assistant = Assistant(client)
        asked = {"input": media(sandbox), **({} if limit else {"max_cost_usd": 0.2})}
        price = await assistant.facts("estimate_cost", asked)
        assert told in price["would_be_refused"]
        assert ("only they can change a limit" in price["next_step"]) == bool(limit)
        own = "max_cost_usd is this call's own argument: raise it, or leave it out, only if they agree."
        assert (own in price["next_step"]) == (not limit)
        assert "quote_id" not in price
        assert price["would_fit"] == "lipsync-1.9.0-beta, about 0.113 USD; or at most 4 s with lipsync-2"
        refused = await assistant.error("create_generation", asked)
        assert refused.code == "limit_reached"
        # One story: the way that the estimate shows is the user's to choose, and no way round the limit.
        assert "would_fit is theirs to choose" in price["next_step"]
        not_round_it = "Do not try to get round it by yourself, with other arguments or in parts"
        assert not_round_it in price["next_step"]
        if limit:
            assert not_round_it in refused.text
            assert (
                "what would fit is theirs to choose, and estimate_cost tells it as would_fit" in refused.text
            )


async def test_an_estimate_tells_how_many_characters_a_script_has(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    video, _ = media(sandbox)
    said = {"type": "text", "voice_id": VOICE}
    one = await assistant.facts("estimate_cost", input=[video, {**said, "script": "Hello there. " * 100}])
    assert "the script of input[1] has 1,300 characters" in one["assumptions"]
    none = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "characters" not in str(none["assumptions"])


async def test_no_model_is_named_that_would_not_take_the_request(sandbox: Sandbox) -> None:
    settings = Settings(max_usd_per_job=Decimal("0.7"))
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        asked = {"input": media(sandbox), "model": "react-1"}
        plain = await Assistant(client).facts("estimate_cost", asked)
        assert "sync-3" in plain["would_fit"]
        with_prompt = await Assistant(client).facts("estimate_cost", asked, options={"prompt": "happy"})
    assert with_prompt["would_fit"] == "at most 4.1 s with react-1"


async def test_the_limits_are_told_for_a_length_without_media_too(sandbox: Sandbox) -> None:
    settings = Settings(budget_usd=Decimal(1))
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        price = await Assistant(client).facts("estimate_cost", model="lipsync-2", duration_seconds=60)
    assert "SYNC_MCP_BUDGET_USD" in price["would_be_refused"]
    assert "at most 20 s with lipsync-2" in price["would_fit"]


async def test_what_is_made_already_is_told_to_cost_nothing_more(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    await assistant.facts("create_generation", input=media(sandbox))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "made already" in told["next_step"]


async def test_a_failure_that_was_charged_is_told_before_it_is_paid_again(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(job="fail", charged=True))
    created = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)
    await assistant.facts("get_generation", id=created["generation_id"])
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "ended FAILED and was charged. Made again, it may be paid again." in told["asks"]
    assert told["quote_id"]


async def test_an_option_that_the_model_ignores_is_told_and_the_default_is_not(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    request: Facts = {"input": media(sandbox), "model": "sync-3"}
    ignored = await assistant.facts("estimate_cost", request, options={"temperature": 0.9})
    assert any(
        "temperature" in line and "does nothing with sync-3" in line for line in ignored["assumptions"]
    )
    plain = await assistant.facts("estimate_cost", request, options={"temperature": 0.5})
    assert not any("temperature" in line for line in plain["assumptions"])
    made = await assistant.facts("create_generation", request, options={"temperature": 0.9})
    assert "does nothing with sync-3" in made["note"]


@pytest.mark.parametrize("tool", ["estimate_cost", "create_generation"])
@pytest.mark.parametrize("option", [{"prompt": "happy"}, {"model_mode": "head"}])
async def test_an_option_for_another_video_than_the_model_makes_is_refused_before_it_is_paid(
    assistant: Assistant, sandbox: Sandbox, tool: str, option: Facts
) -> None:
    told = await assistant.error(tool, input=media(sandbox), options=option)
    assert (told.code, told.money_spent) == ("invalid_request", "no")
    assert "take react-1, about 0.1668 USD a second" in told.text
    assert sent(sandbox) == []


@pytest.mark.parametrize("tool", ["estimate_cost", "create_generation"])
async def test_a_segment_after_the_end_that_the_api_measured_is_refused_before_it_is_paid(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    refused = await assistant.error(tool, _in_segments(sandbox, (0, 2), (2, 5.5)))
    assert refused.code == "invalid_request"
    assert "segments[1] ends at 5.5 s, after the end of the video at 5.00 s" in refused.text
    assert sent(sandbox, CREATE) == []
    assert sandbox.charges == []
    assert not (await assistant.call(tool, _in_segments(sandbox, (0, 2), (2, 5)))).is_error


@pytest.mark.parametrize("tool", ["estimate_cost", "create_generation"])
async def test_a_film_of_fewer_frames_a_second_is_not_taken_for_a_shorter_one(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    # Five seconds, at 24 in a second.
    figures: JsonValue = [{"estimatedFrameCount": 120, "estimatedGenerationCost": 0.24}]
    sandbox.add_fault(Fault(path=BY_REQUEST, status=200, body=figures, times=None))
    assert not (await assistant.call(tool, _in_segments(sandbox, (0, 5)))).is_error


@pytest.mark.parametrize("tool", ["estimate_cost", "create_generation"])
async def test_a_length_that_the_caller_says_refuses_no_segment(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    sandbox.add_fault(NO_PRICE)
    asked = {**_in_segments(sandbox, (0, 5)), "duration_seconds": 2}
    told = await assistant.call(tool, asked)
    assert "after the end" not in told.text


def _in_segments(sandbox: Sandbox, *times: tuple[float, float]) -> Facts:
    video, audio = media(sandbox)
    return {
        "input": [video, {**audio, "ref_id": "voice"}],
        "segments": [
            {"start_time": start, "end_time": end, "audio_input": {"ref_id": "voice"}} for start, end in times
        ],
    }


async def test_credits_are_told_where_the_api_tells_them(assistant: Assistant, sandbox: Sandbox) -> None:
    figures: Facts = {"estimatedFrameCount": 100, "estimatedGenerationCost": 0.2, "estimatedCredits": 7.5}
    sandbox.add_fault(Fault(path=BY_REQUEST, status=200, body=figures))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert (told["frames"], told["cost_usd"], told["credits"]) == (100, 0.2, 7.5)


@pytest.mark.parametrize("duration", [5, None])
async def test_a_price_that_the_api_does_not_know_is_not_made_up(
    assistant: Assistant, sandbox: Sandbox, duration: int | None
) -> None:
    sandbox.add_fault(NO_PRICE)
    sandbox.add_fault(Fault.api_error("cost_estimate_unavailable", path=BY_DURATION))
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=duration)
    assert not {"cost_usd", "hint_usd", "frames", "credits"} & told.keys()
    assert told["assumptions"]
    assert "price is unknown" in told["next_step"]
    assert "duration_seconds" in told["next_step"]


@pytest.mark.parametrize(
    "figures",
    [
        {
            "estimatedFrameCount": float("inf"),
            "estimatedGenerationCost": 0.2,
            "estimatedCredits": float("nan"),
        },
        {"estimatedFrameCount": "many", "estimatedGenerationCost": 0.2, "estimatedCredits": []},
    ],
)
async def test_a_figure_that_nobody_can_read_is_left_out(
    assistant: Assistant, sandbox: Sandbox, figures: Facts
) -> None:
    sandbox.add_fault(Fault(path=BY_REQUEST, status=200, body=figures))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert told["cost_usd"] == 0.2
    assert not {"frames", "credits"} & told.keys()


@pytest.mark.parametrize("usd", [1e30, -1, "NaN"])
async def test_a_price_that_no_job_has_is_unknown_and_hides_no_job(
    assistant: Assistant, sandbox: Sandbox, usd: object
) -> None:
    figures: Facts = {"estimatedFrameCount": 100, "estimatedGenerationCost": usd}
    sandbox.add_fault(Fault(path=BY_REQUEST, status=200, body=cast(JsonValue, figures), times=None))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "cost_usd" not in told
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert "Pay an unknown price for this video?" in asked.text
    made = await assistant.facts("create_generation", input=media(sandbox), quote_id=quote_in(asked))
    assert made["generation_id"] == sandbox.charges[0].generation_id


@pytest.mark.parametrize("visual", ["video", "image"])
async def test_the_model_taken_by_default_is_the_one_that_create_generation_takes(
    assistant: Assistant, sandbox: Sandbox, visual: str
) -> None:
    url = sandbox.samples.video if visual == "video" else sandbox.samples.image
    request = {"input": [{"type": visual, "url": url}, media(sandbox)[1]]}
    estimate = await assistant.facts("estimate_cost", request)
    created = await assistant.facts("create_generation", request)
    assert estimate["model"] == created["model"]


async def test_what_else_could_be_taken_is_said_with_the_price_alone_and_in_few_words(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert told["model_note"].startswith("taken by default; list_models tells what ")
    for other in ("sync-3", "lipsync-2-pro", "lipsync-1.9.0-beta", "react-1"):
        assert other in told["model_note"]
    assert len(told["model_note"]) < 120
    assert "model_note" not in await assistant.facts("estimate_cost", input=media(sandbox), model="react-1")


async def test_of_an_image_nothing_else_is_offered_than_what_takes_one(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    face = {"type": "image", "url": sandbox.samples.image}
    told = await assistant.facts("estimate_cost", input=[face, media(sandbox)[1]])
    assert (told["model"], told["model_note"]) == ("sync-3", "taken by default: no other takes an image")


async def test_it_takes_and_refuses_what_create_generation_does(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    video, audio = media(sandbox)
    segments = [{"start_time": 0, "end_time": 1, "audio_input": {"ref_id": "a"}}]
    request = {
        "input": [video, {**audio, "ref_id": "a"}],
        "options": {"sync_mode": "loop"},
        "segments": segments,
        "output_file_name": "clip",
        "project_id": sandbox.project_id,
    }
    await assistant.facts("estimate_cost", request)
    await assistant.facts("create_generation", request)
    # create_generation prices it too, before it is sent.
    assert sent(sandbox, BY_REQUEST) == sent(sandbox) * 2
    wrong = {"input": [video, audio, audio], "webhook_url": "ftp://x"}
    refused = [await assistant.error(tool, wrong) for tool in ("estimate_cost", "create_generation")]
    assert refused[0].text.replace("estimate_cost again", "create_generation again") == refused[1].text
    # The arguments mean the same: those of paying and waiting do nothing here, and stand in nobody's way.
    await assistant.facts(
        "estimate_cost", {**request, "wait_seconds": 5, "quote_id": "q_x", "max_cost_usd": 9}
    )


async def test_a_refusal_of_the_api_is_an_error_that_cost_nothing(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("generation_input_video_inaccessible", path=BY_REQUEST))
    told = await assistant.error("estimate_cost", input=media(sandbox))
    assert (told.code, told.money_spent) == ("request_rejected", "no")
    assert told.meta["api_code"] == "generation_input_video_inaccessible"
    assert sandbox.samples.video in told.text


async def test_a_price_by_duration_says_what_it_leaves_out(assistant: Assistant, sandbox: Sandbox) -> None:
    sandbox.add_fault(NO_PRICE)
    video, _ = media(sandbox)
    dub = {"input": [video], "dub": {"target_lang": "es"}, "duration_seconds": 60}
    told = await assistant.facts("estimate_cost", dub)
    assert any("dubbing" in assumption for assumption in told["assumptions"])
    speech = {"type": "text", "script": "Hello.", "voice_id": VOICE}
    told = await assistant.facts("estimate_cost", input=[video, speech], duration_seconds=60)
    assert any("speech from a script" in assumption for assumption in told["assumptions"])
