import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import audio, code_of, create, lipsync, video


@pytest.mark.parametrize("path", ["/v2/generations/estimate", "/v2/generate/estimate-cost"])
def test_model_and_duration_are_priced_at_30_frames_a_second(api: httpx.Client, path: str) -> None:
    response = api.post(path, json={"model": "lipsync-2", "duration": 10})
    assert response.json() == {
        "estimatedFrameCount": 300,
        "estimatedGenerationCost": 0.6,
        "estimatedCredits": None,
    }
    assert (
        api.post(path, json={"model": "sync-3", "duration": 10, "fps": 25}).json()["estimatedGenerationCost"]
        == 1.335
    )


@pytest.mark.parametrize(
    "body",
    [{}, {"model": "lipsync-2"}, {"model": "x", "duration": 1}, {"model": "lipsync-2", "duration": 0}],
)
def test_an_estimate_without_a_model_or_a_duration_is_400(api: httpx.Client, body: dict[str, object]) -> None:
    assert api.post("/v2/generations/estimate", json=body).status_code == 400


def test_a_whole_request_is_priced_from_its_media_as_it_is_charged(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    (estimate,) = api.post("/v2/analyze/cost", json=lipsync(sandbox)).json()
    assert estimate == {"estimatedFrameCount": 113, "estimatedGenerationCost": 0.226}
    assert sandbox.charges == []
    assert api.get("/v2/generations").json() == []
    create(api, lipsync(sandbox))
    assert float(sandbox.charges[0].amount_usd) == estimate["estimatedGenerationCost"]


def test_media_that_cannot_be_fetched_have_no_estimate(sandbox: Sandbox, api: httpx.Client) -> None:
    items = [video(sandbox, url="https://example.com/v.mp4"), audio(sandbox)]
    response = api.post("/v2/analyze/cost", json=lipsync(sandbox, input=items))
    assert code_of(response) == (422, "cost_estimate_unavailable")
