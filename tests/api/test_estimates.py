"""What a generation would cost, by either contract of the API, with its assumptions said."""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sync_mcp import (
    APIResponseError,
    AsyncSync,
    Audio,
    CostEstimate,
    Dub,
    GenerationOptions,
    InvalidRequestError,
    NotFoundError,
    RequestRejectedError,
    ServerError,
    Video,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import AUDIO, VIDEO, trail
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]

BY_REQUEST = "POST /v2/analyze/cost"
BY_DURATION = "POST /v2/generations/estimate"
PROJECT = "6533643b-aceb-4c40-967e-d9ba9baac39e"
ALIAS = "POST /v2/generate/estimate-cost"
NO_ROUTE = answer(404, {"message": "Cannot POST", "error": "Not Found", "statusCode": 404})
UNAVAILABLE = answer(422, {"message": "m", "errorCode": "cost_estimate_unavailable"})


async def price(client: AsyncSync, *, video: str = VIDEO, audio: str = AUDIO, **more: Any) -> CostEstimate:
    return await client.generations.estimate_cost(
        model="lipsync-2-pro", input=[Video(url=video), Audio(url=audio)], **more
    )


@both_backends
async def test_the_media_are_priced_where_their_duration_is_not_known(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    cost = await price(sync, video=sandbox.samples.video, audio=sandbox.samples.audio)
    assert cost.estimated_frame_count
    assert cost.estimated_generation_cost == Decimal("0.00333") * int(cost.estimated_frame_count)
    assert cost.assumptions == ["the media are as long as the API measured them"]
    assert (trail(sandbox.requests)[0], sandbox.charges) == (BY_REQUEST, [])
    assert cost.estimated_credits is None


@both_backends
async def test_a_known_duration_is_priced_by_itself(sandbox: Sandbox, sync: AsyncSync) -> None:
    cost = await price(sync, duration_seconds=12.5, fps=24)
    assert (cost.estimated_frame_count, cost.estimated_generation_cost) == (300, Decimal("0.999"))
    assert cost.assumptions == [
        "the output lasts 12.5 s, as the caller says",
        "24 frames per second, as the caller says",
    ]
    assert trail(sandbox.requests) == [BY_DURATION]
    assert sandbox.requests[0].body == {"model": "lipsync-2-pro", "duration": 12.5, "fps": 24}


async def test_frames_are_counted_at_the_rate_of_the_price_list_where_nobody_knows_another(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    options = GenerationOptions(reasoning_enabled=True)
    cost = await price(sync, duration_seconds=600, options=options)
    assert (cost.estimated_frame_count, cost.estimated_generation_cost) == (15_000, Decimal("49.95"))
    assert any("25 frames per second, at which Sync quotes its prices" in said for said in cost.assumptions)
    assert sandbox.requests[0].body == {
        "model": "lipsync-2-pro",
        "duration": 600,
        "fps": 25,
        "reasoningEnabled": True,
    }


@both_backends
async def test_a_model_and_a_length_are_enough_for_a_price(sandbox: Sandbox, sync: AsyncSync) -> None:
    cost = await sync.generations.estimate_cost(model="sync-3", duration_seconds=600)
    assert cost.estimated_generation_cost == Decimal("80.1")
    assert cost.assumptions[0] == "the output lasts 600 s, as the caller says"
    assert trail(sandbox.requests) == [BY_DURATION]


async def test_without_input_a_length_is_priced_by_the_length_alone_or_not_at_all(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(NO_ROUTE, NO_ROUTE)
    with pytest.raises(InvalidRequestError, match="no estimate by duration: give input"):
        await client_of(server).generations.estimate_cost(model="sync-3", duration_seconds=5)
    assert trail(server.received) == [BY_DURATION, ALIAS]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"model": "sync-3"}, "give input, or duration_seconds"),
        ({"model": " ", "duration_seconds": 5}, "model is empty"),
        ({"model": "m", "duration_seconds": 5, "dub": Dub(target_lang="")}, "language"),
        ({"model": "m", "duration_seconds": 5, "options": GenerationOptions(temperature=2)}, "temperature"),
    ],
)
async def test_what_is_wrong_beside_the_input_is_refused_without_one_too(
    sandbox: Sandbox, sync: AsyncSync, fields: Any, fault: str
) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        await sync.generations.estimate_cost(**fields)
    assert sandbox.requests == []


async def test_the_whole_request_is_priced_with_all_that_create_takes(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(answer(200, [{"estimatedFrameCount": 25, "estimatedGenerationCost": 0.1}]))
    options = GenerationOptions(sync_mode="loop")
    await price(client_of(server), options=options, output_file_name="take-1", project_id=PROJECT)
    sent = json.loads(server.received[0].body)
    assert (sent["options"], sent["outputFileName"], sent["projectId"]) == (
        {"sync_mode": "loop"},
        "take-1",
        PROJECT,
    )
    assert "idempotency-key" not in server.received[0].headers


@pytest.mark.parametrize(
    ("body", "cost", "frames", "credit"),
    [
        ({"estimatedGenerationCost": 0.1, "estimatedFrameCount": 3, "estimatedCredits": 7}, "0.1", 3, 7),
        ([{"estimatedGenerationCost": 0.1, "estimatedFrameCount": 3}], "0.1", 3, None),
        ([{"estimatedGenerationCost": 0.1}, {"estimatedGenerationCost": 0.2}], "0.3", None, None),
        ([{"estimatedGenerationCost": "0.30"}], "0.30", None, None),
        ([{"estimatedGenerationCost": 0}], "0", None, None),
        # Half a sum is no sum.
        ([{"estimatedGenerationCost": 0.1}, {"estimatedFrameCount": 3}], None, None, None),
        ([{"estimatedGenerationCost": "cheap", "estimatedFrameCount": 3}], None, 3, None),
        ({"estimatedGenerationCost": None, "estimatedFrameCount": None}, None, None, None),
        ([], None, None, None),
    ],
)
@pytest.mark.parametrize("known", [{}, {"duration_seconds": 1}], ids=["by request", "by duration"])
async def test_both_shapes_of_an_estimate_are_read(
    serve: Serve,
    client_of: ClientOf,
    body: object,
    cost: str | None,
    frames: float | None,
    credit: float | None,
    known: Any,
) -> None:
    estimate = await price(client_of(serve(answer(200, body))), **known)
    assert estimate.estimated_generation_cost == (None if cost is None else Decimal(cost))
    assert (estimate.estimated_frame_count, estimate.estimated_credits) == (frames, credit)
    assert any("could not tell the price" in said for said in estimate.assumptions) == (cost is None)


@pytest.mark.parametrize(
    "body", [b'[{"estimatedGenerationCost": NaN}]', b'{"estimatedGenerationCost": 1e999}']
)
async def test_a_price_that_is_no_number_is_not_told(serve: Serve, client_of: ClientOf, body: bytes) -> None:
    assert (await price(client_of(serve(answer(200, body))))).estimated_generation_cost is None


@pytest.mark.parametrize("cost", ["1e30", "1000001", "-1", '"1E+400"', "true"])
@pytest.mark.parametrize("known", [{}, {"duration_seconds": 1}], ids=["by request", "by duration"])
async def test_a_price_that_no_job_has_is_an_unknown_price(
    serve: Serve, client_of: ClientOf, cost: str, known: Any
) -> None:
    body = f'[{{"estimatedGenerationCost": {cost}, "estimatedFrameCount": 25}}]'.encode()
    estimate = await price(client_of(serve(answer(200, body))), **known)
    assert (estimate.estimated_generation_cost, estimate.estimated_frame_count) == (None, 25)
    assert any("could not tell the price" in said for said in estimate.assumptions)


async def test_prices_that_add_up_to_what_no_job_costs_are_an_unknown_price(
    serve: Serve, client_of: ClientOf
) -> None:
    part = {"estimatedGenerationCost": 600_000, "estimatedFrameCount": 6e8, "estimatedCredits": 6e8}
    estimate = await price(client_of(serve(answer(200, [part, part]))))
    assert estimate.estimated_generation_cost is None
    assert (estimate.estimated_frame_count, estimate.estimated_credits) == (None, None)


@pytest.mark.parametrize("body", [["0.1"], "0.1", 0.1])
async def test_an_estimate_without_figures_is_an_error(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError, match="no readable figures"):
        await price(client_of(serve(answer(200, body))))


async def test_the_alias_stands_in_for_the_estimate_by_duration(serve: Serve, client_of: ClientOf) -> None:
    server = serve(NO_ROUTE, answer(200, {"estimatedGenerationCost": 1}))
    assert (await price(client_of(server), duration_seconds=5)).estimated_generation_cost == 1
    assert trail(server.received) == [BY_DURATION, ALIAS]


async def test_the_older_contract_stands_in_for_the_newer_and_says_so(
    serve: Serve, client_of: ClientOf
) -> None:
    server = serve(NO_ROUTE, NO_ROUTE, answer(200, [{"estimatedGenerationCost": 1}]))
    estimate = await price(client_of(server), duration_seconds=5, fps=25)
    assert trail(server.received) == [BY_DURATION, ALIAS, BY_REQUEST]
    said = " ".join(estimate.assumptions)
    assert "duration_seconds was not used" in said
    assert "fps was not used" in said
    assert "as the caller says" not in said


async def test_an_api_without_the_older_contract_asks_for_the_duration(
    serve: Serve, client_of: ClientOf
) -> None:
    with pytest.raises(InvalidRequestError, match="give duration_seconds"):
        await price(client_of(serve(NO_ROUTE)))


async def test_an_asset_that_is_not_there_is_not_taken_for_a_missing_contract(
    serve: Serve, client_of: ClientOf
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await price(client_of(serve(answer(404, {"message": "m", "errorCode": "asset_not_found"}))))
    assert caught.value.api_code == "asset_not_found"


async def test_a_price_that_the_api_cannot_tell_is_no_error(sandbox: Sandbox, sync: AsyncSync) -> None:
    estimate = await price(sync, video=f"{sandbox.url}/samples/missing.mp4", audio=sandbox.samples.audio)
    assert estimate.estimated_generation_cost is None
    assert estimate.estimated_frame_count is None
    assert estimate.assumptions == ["the API could not tell the price of these media: give duration_seconds"]


async def test_a_model_that_has_no_price_is_no_error(serve: Serve, client_of: ClientOf) -> None:
    estimate = await price(client_of(serve(UNAVAILABLE)), duration_seconds=5)
    assert estimate.assumptions == ["the API could not tell the price of this model"]


async def test_another_refusal_of_an_estimate_is_told(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        await price(sync, video=sandbox.samples.image, audio=sandbox.samples.audio)
    assert caught.value.api_code == "generation_input_video_invalid"


async def test_trouble_of_the_api_is_not_taken_for_a_missing_contract(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault.api_error("internal_error", times=None))
    with pytest.raises(ServerError):
        await price(sync, duration_seconds=5, request_options={"max_retries": 1})
    assert trail(sandbox.requests) == [BY_DURATION] * 2


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["duration_seconds", "fps"])
async def test_a_duration_or_frame_rate_that_cannot_be_is_refused(
    sandbox: Sandbox, sync: AsyncSync, name: str, value: float
) -> None:
    figure: Any = {name: value}
    with pytest.raises(InvalidRequestError, match=f"{name} must be more than 0"):
        await price(sync, **figure)
    assert sandbox.requests == []


async def test_what_create_refuses_is_not_priced_either(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(InvalidRequestError):
        await sync.generations.estimate_cost(model="lipsync-2", input=[Video(url=VIDEO)])
    assert sandbox.requests == []
