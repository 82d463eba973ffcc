from email.utils import parsedate_to_datetime

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import audio, code_of, create, finished, image, lipsync, text, video


def test_the_plans_concurrency_is_kept_until_a_job_ends(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(plan="creator")
    for _ in range(3):
        create(api, lipsync(sandbox))
    response = api.post("/v2/generate", json=lipsync(sandbox))
    assert code_of(response) == (429, "concurrency_limit_reached")
    body = response.json()
    assert (body["activeGenerations"], body["concurrencyLimit"]) == (3, 3)
    assert 55 <= body["retryAfterSeconds"] <= 60
    assert body["upgradeUrl"]
    sandbox.advance(60)
    create(api, lipsync(sandbox))


def test_creates_a_minute_are_counted_by_key_on_the_sandboxs_clock(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.configure(generate_per_minute=2)
    for _ in range(2):
        create(api, lipsync(sandbox))
    assert code_of(api.post("/v2/generate", json=lipsync(sandbox))) == (429, "rate_limit_exceeded")
    create(api, lipsync(sandbox), x_api_key="sk_other")
    sandbox.advance(61)
    create(api, lipsync(sandbox))


@pytest.mark.parametrize("style", ["absent", "seconds", "date"])
def test_a_429_says_when_to_come_back_as_the_setting_wants(
    sandbox: Sandbox, api: httpx.Client, style: str
) -> None:
    sandbox.configure(generate_per_minute=1, retry_after=style)
    create(api, lipsync(sandbox))
    header = api.post("/v2/generate", json=lipsync(sandbox)).headers.get("retry-after")
    if style == "absent":
        assert header is None
    elif style == "seconds":
        assert 50 <= int(header or "") <= 60
    else:
        assert parsedate_to_datetime(header or "").tzinfo is not None


def test_the_free_plan_has_three_generations_a_month(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(plan="free", job_seconds=0)
    for _ in range(3):
        create(api, lipsync(sandbox))
    assert code_of(api.post("/v2/generate", json=lipsync(sandbox))) == (
        402,
        "free_tier_generations_exhausted",
    )
    sandbox.advance(32 * 24 * 3600)
    create(api, lipsync(sandbox))


def test_the_free_plan_has_one_sync_3_generation_and_no_react_1(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(plan="free", job_seconds=0)
    body = {"model": "sync-3", "input": [image(sandbox), audio(sandbox)]}
    create(api, body)
    assert code_of(api.post("/v2/generate", json=body)) == (402, "free_tier_generations_exhausted")
    assert code_of(api.post("/v2/generate", json=lipsync(sandbox, model="react-1"))) == (
        402,
        "plan_feature_unavailable",
    )


def test_the_length_of_the_output_is_limited_by_plan_and_model(sandbox: Sandbox, api: httpx.Client) -> None:
    long_speech = [video(sandbox), text("x" * 15 * 70)]
    sandbox.configure(plan="hobbyist")
    response = api.post("/v2/generate", json=lipsync(sandbox, input=long_speech))
    assert code_of(response) == (402, "generation_plan_duration_exceeded")
    cut = lipsync(sandbox, input=long_speech, options={"sync_mode": "cut_off"})
    assert finished(sandbox, api, cut)["outputDuration"] == pytest.approx(5.0, abs=0.05)
    sandbox.configure(plan="scale")
    response = api.post("/v2/generate", json=lipsync(sandbox, input=long_speech, model="react-1"))
    assert code_of(response) == (422, "generation_model_duration_exceeded")
    assert len(sandbox.charges) == 1


def test_picking_a_speaker_needs_the_creator_plan(sandbox: Sandbox, api: httpx.Client) -> None:
    body = lipsync(sandbox, options={"active_speaker_detection": {"auto_detect": True}})
    sandbox.configure(plan="hobbyist")
    assert code_of(api.post("/v2/generate", json=body)) == (402, "plan_feature_unavailable")
    sandbox.configure(plan="creator")
    create(api, body)
