"""The price of a generation before it is made: two contracts of the API behind one answer (API §4)."""

import math
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CostEstimate, GenerationRequest, Json, Text
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIResponseError, InvalidRequestError, NotFoundError, RequestRejectedError

_BY_DURATION = ("/v2/generations/estimate", "/v2/generate/estimate-cost")
_BY_REQUEST = "/v2/analyze/cost"

PRICED_FPS = 25
"""Frames per second at which Sync quotes its prices (API §17), and counted where nobody knows better.

They are always sent: by itself the API would take 30, and a second would have two prices (API §4).
"""


async def estimate(
    transport: Transport,
    request: GenerationRequest,
    duration_seconds: float | None,
    fps: float | None,
    options: RequestOptions | None,
) -> CostEstimate:
    """Ask the API what `request` would cost.

    With a duration the newer contract answers (model and duration), else the older one (the whole request),
    each standing in for the other where the API does not have it. A request without input is priced by its
    duration alone.

    Raises:
        InvalidRequestError: a duration or frame rate that cannot be.
        SyncError: neither contract answered.
    """
    _check_figure(duration_seconds, "duration_seconds")
    _check_figure(fps, "fps")
    if duration_seconds is None:
        try:
            return await _by_request(transport, request, fps, options)
        except NotFoundError as error:
            if error.api_code is not None:
                raise
            raise InvalidRequestError(
                "The API cannot price this from the media alone: give duration_seconds."
            ) from error
    for path in _BY_DURATION:
        try:
            return await _by_duration(transport, path, request, duration_seconds, fps, options)
        except NotFoundError:
            continue
    if not request.input:
        raise InvalidRequestError("The API has no estimate by duration: give input.")
    estimated = await _by_request(transport, request, fps, options)
    estimated.assumptions.append(
        "duration_seconds was not used: the API has no estimate by duration, and looked at the media itself."
    )
    return estimated


async def _by_duration(
    transport: Transport,
    path: str,
    request: GenerationRequest,
    duration_seconds: float,
    fps: float | None,
    options: RequestOptions | None,
) -> CostEstimate:
    body: Json = {"model": request.model, "duration": duration_seconds, "fps": fps or PRICED_FPS}
    if request.options and request.options.reasoning_enabled is not None:
        body["reasoningEnabled"] = request.options.reasoning_enabled
    estimated = _sum(await _ask(transport, path, body, options))
    if estimated.estimated_generation_cost is None:
        estimated.assumptions.append("the API could not tell the price of this model")
        return estimated
    estimated.assumptions.append(f"the output lasts {duration_seconds:g} s, as the caller says")
    estimated.assumptions.append(
        f"{fps:g} frames per second, as the caller says"
        if fps is not None
        else f"{PRICED_FPS} frames per second, at which Sync quotes its prices: a clip of more costs more"
    )
    if request.dub:
        estimated.assumptions.append("what the dubbing itself may cost is not in this price")
    if any(isinstance(item, Text) for item in request.input):
        estimated.assumptions.append("what making the speech from a script may cost is not in this price")
    return estimated


async def _by_request(
    transport: Transport, request: GenerationRequest, fps: float | None, options: RequestOptions | None
) -> CostEstimate:
    estimated = _sum(await _ask(transport, _BY_REQUEST, request.to_wire(), options))
    if estimated.estimated_generation_cost is None:
        estimated.assumptions.append("the API could not tell the price of these media: give duration_seconds")
    else:
        estimated.assumptions.append("the media are as long as the API measured them")
    if fps is not None:
        estimated.assumptions.append("fps was not used: the API measured the media itself")
    return estimated


async def _ask(
    transport: Transport, path: str, body: Mapping[str, object], options: RequestOptions | None
) -> list[CostEstimate]:
    try:
        reply = await transport.read(Call("POST", path, body=body), options)
    except RequestRejectedError as error:
        if error.api_code != "cost_estimate_unavailable":
            raise
        return []
    entries = [reply.data] if reply.entries is None else reply.entries
    try:
        return [CostEstimate.from_wire(entry) for entry in entries]
    except ValidationError as error:
        raise APIResponseError("The API's estimate has no readable figures.", status=reply.status) from error


def _sum(figures: Sequence[CostEstimate]) -> CostEstimate:
    """Add up what the API lists; a figure that one entry lacks is not known for the whole."""
    listed = {
        "estimatedGenerationCost": [entry.estimated_generation_cost for entry in figures],
        "estimatedFrameCount": [entry.estimated_frame_count for entry in figures],
        "estimatedCredits": [entry.estimated_credits for entry in figures],
    }
    # Read as an entry is: a sum too can be more than any job has.
    return CostEstimate.from_wire(
        {
            name: sum(value for value in values if value is not None)
            for name, values in listed.items()
            if values and None not in values
        }
    )


def _check_figure(value: float | None, name: str) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise InvalidRequestError(f"{name} must be more than 0.")
