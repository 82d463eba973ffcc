import pytest

from sync_mcp.sandbox import Fault, Sandbox

from .assistant import Assistant, Facts, media, sent

pytestmark = pytest.mark.anyio

BY_DURATION = "/v2/generations/estimate"
BY_REQUEST = "/v2/analyze/cost"


async def test_media_are_priced_as_the_api_measures_them_and_nothing_is_started(
    either_era: Assistant, sandbox: Sandbox
) -> None:
    told = await either_era.facts("estimate_cost", input=media(sandbox), model="lipsync-2-pro")
    assert told["model"] == "lipsync-2-pro"
    assert told["frames"] > 50
    assert told["cost_usd"] == pytest.approx(told["frames"] * 0.00333)
    assert told["assumptions"] == ["the media are as long as the API measured them"]
    assert "Nothing was started" in told["next_step"]
    assert "create_generation" in told["next_step"]
    assert sandbox.generations == {}
    assert sandbox.charges == []


async def test_a_known_duration_and_frame_rate_are_used(assistant: Assistant, sandbox: Sandbox) -> None:
    request = {"input": media(sandbox), "duration_seconds": 12, "fps": 25}
    told = await assistant.facts("estimate_cost", request)
    assert (told["frames"], told["cost_usd"]) == (300, 0.6)
    assert sent(sandbox, BY_DURATION) == [{"model": "lipsync-2", "duration": 12, "fps": 25}]
    assert "12 s, as the caller says" in told["assumptions"][0]
    assert "25 frames per second, as the caller says" in told["assumptions"][1]


async def test_an_assumed_frame_rate_is_said(assistant: Assistant, sandbox: Sandbox) -> None:
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=10)
    assert told["frames"] == 250
    assert any("25 frames per second, at which Sync quotes" in line for line in told["assumptions"])


async def test_credits_are_told_where_the_api_tells_them(assistant: Assistant, sandbox: Sandbox) -> None:
    figures: Facts = {"estimatedFrameCount": 100, "estimatedGenerationCost": 0.2, "estimatedCredits": 7.5}
    sandbox.add_fault(Fault(path=BY_DURATION, status=200, body=figures))
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=4)
    assert (told["frames"], told["cost_usd"], told["credits"]) == (100, 0.2, 7.5)


@pytest.mark.parametrize(
    ("path", "duration"), [(BY_DURATION, 5), (BY_REQUEST, None)], ids=["by duration", "by media"]
)
async def test_a_price_that_the_api_does_not_know_is_not_made_up(
    assistant: Assistant, sandbox: Sandbox, path: str, duration: int | None
) -> None:
    sandbox.add_fault(Fault.api_error("cost_estimate_unavailable", path=path))
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=duration)
    assert not {"cost_usd", "frames", "credits"} & told.keys()
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
    sandbox.add_fault(Fault(path=BY_DURATION, status=200, body=figures))
    told = await assistant.facts("estimate_cost", input=media(sandbox), duration_seconds=4)
    assert told["cost_usd"] == 0.2
    assert not {"frames", "credits"} & told.keys()


@pytest.mark.parametrize("cost", [1e30, "1E+400", 1_000_001, -1])
async def test_a_price_that_no_job_has_is_told_and_asked_about_as_an_unknown_one(
    assistant: Assistant, sandbox: Sandbox, cost: float | str
) -> None:
    body: Facts = {"estimatedFrameCount": 25, "estimatedGenerationCost": cost}
    sandbox.add_fault(Fault(path=BY_REQUEST, status=200, body=[body], times=None))
    told = await assistant.facts("estimate_cost", input=media(sandbox))
    assert "cost_usd" not in told
    assert "price is unknown" in told["next_step"]
    refused = await assistant.error("create_generation", input=media(sandbox))
    assert (refused.code, refused.money_spent) == ("approval_required", "no")
    assert "an unknown price" in refused.text


@pytest.mark.parametrize("visual", ["video", "image"])
async def test_the_model_taken_by_default_is_the_one_that_create_generation_takes(
    assistant: Assistant, sandbox: Sandbox, visual: str
) -> None:
    url = sandbox.samples.video if visual == "video" else sandbox.samples.image
    request = {"input": [{"type": visual, "url": url}, media(sandbox)[1]]}
    estimate = await assistant.facts("estimate_cost", request)
    created = await assistant.facts("create_generation", request)
    assert estimate["model"] == created["model"]
    assert estimate["model_note"] == created["model_note"]


async def test_it_takes_and_refuses_what_create_generation_does(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    video, audio = media(sandbox)
    segments = [{"start_time": 0, "end_time": 1, "audio_input": {"ref_id": "a"}}]
    request = {
        "input": [video, {**audio, "ref_id": "a"}],
        "options": {"sync_mode": "loop"},
        "segments": segments,
        "webhook_url": "https://example.com/hook",
        "output_file_name": "clip",
        "project_id": sandbox.project_id,
    }
    await assistant.facts("estimate_cost", request)
    await assistant.facts("create_generation", request)
    # create_generation prices it too, before it is sent.
    assert sent(sandbox, BY_REQUEST) == sent(sandbox) * 2
    wrong = {"input": [video, audio, audio], "webhook_url": "ftp://x"}
    refused = [await assistant.error(tool, wrong) for tool in ("estimate_cost", "create_generation")]
    assert refused[0].text == refused[1].text
    told = await assistant.error("estimate_cost", {**request, "wait_seconds": 5})
    assert "There is no argument 'wait_seconds'" in told.text


async def test_a_refusal_of_the_api_is_an_error_that_cost_nothing(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("generation_input_video_inaccessible", path=BY_REQUEST))
    told = await assistant.error("estimate_cost", input=media(sandbox))
    assert (told.code, told.money_spent) == ("generation_input_video_inaccessible", "no")
    assert sandbox.samples.video in told.text


async def test_a_price_by_duration_says_what_it_leaves_out(assistant: Assistant, sandbox: Sandbox) -> None:
    video, _ = media(sandbox)
    dub = {"input": [video], "dub": {"target_lang": "es"}, "duration_seconds": 60}
    told = await assistant.facts("estimate_cost", dub)
    assert any("dubbing" in assumption for assumption in told["assumptions"])
    speech = {"type": "text", "script": "Hello.", "voice_id": "v1"}
    told = await assistant.facts("estimate_cost", input=[video, speech], duration_seconds=60)
    assert any("speech from a script" in assumption for assumption in told["assumptions"])
