"""What a generation is likely to cost: by the API's estimate, of the media as they are measured."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from sync_mcp.api.checks import segments_past_end
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.estimate import PRICED_FPS
from sync_mcp.api.models import CostEstimate, GenerationRequest
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    SyncError,
)
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.price import Price, believable

_BAD_INPUT = ("generation_input_", "asset_", "dialogue_edit_")
_BY_THE_API = "as the API measured the files"
_SLOWEST_FPS = 24_000 / 1001
"""Of films: few videos have fewer frames in a second."""
_FRAME_SECONDS = 0.05
_Ask = Callable[..., Awaitable[CostEstimate]]
"""Asks the API for the price of one request, by the caller's length and rate where they are given."""


async def price_request(
    sync: AsyncSync,
    request: GenerationRequest,
    options: RequestOptions,
    *,
    hint_seconds: float | None,
    fps: float | None,
    files: LocalFiles | None,
    measured: Price | None,
) -> Price:
    """Return what a request is likely to cost; what is still a local file counts by its measured length.

    Raises:
        AuthenticationError, ConfigurationError: nothing could be sent either.
        APIStatusError: the API does not take the input.
    """
    ask = partial(sync.generations.estimate_request, request, request_options=options)
    if not request.input:
        return await _hint(ask, hint_seconds, fps, "there is no media to measure")
    if not request.local_media:
        try:
            estimate = await ask()
        except (AuthenticationError, ConfigurationError):
            raise
        except InvalidRequestError:
            return await _hint(ask, hint_seconds, fps, "the API cannot price these media by themselves")
        except SyncError as error:
            if isinstance(error, APIStatusError) and (error.api_code or "").startswith(_BAD_INPUT):
                raise
            # It can tell, only not now: the caller's figure does not take its place.
            return _price_unknown_for(error)
        usd = believable(estimate.estimated_generation_cost)
        if usd is not None:
            frames = estimate.estimated_frame_count
            length = None if frames is None or not math.isfinite(frames) else frames / PRICED_FPS
            # The API tells frames alone: how long they last is a matter of the rate.
            counted = f"{frames:g} frames, {format_length(round(length, 1), PRICED_FPS)}" if length else None
            told = [] if hint_seconds is None else ["duration_seconds was not used: it was measured"]
            return Price(
                usd,
                None,
                length,
                counted,
                frames,
                estimate.estimated_credits,
                assumptions=[*estimate.assumptions, *([counted] if counted else []), *told],
            )
        return await _hint(ask, hint_seconds, fps, "the API cannot tell the price of these media")
    if files is None or files.output_seconds is None:
        if measured is not None:
            return _by_the_api(measured)
        why = (files.length_note if files else None) or "the length is not known"
        if files is not None and not files.hint_helps:
            # Of a file that nobody gets, a guess at its length would only look like a price.
            return Price(None, why)
        return await _hint(ask, hint_seconds, fps, why)
    return await _price_files(ask, files, measured)


async def _price_files(ask: _Ask, files: LocalFiles, measured: Price | None) -> Price:
    """Price local files by the length that this server measured, or by what the API said of them."""
    seconds = files.output_seconds
    assert seconds is not None
    # The caller's rate sets no price, as their length sets none: fewer frames would only look cheaper.
    rate = files.fps or PRICED_FPS
    try:
        estimate = await ask(duration_seconds=seconds, fps=rate)
    except (AuthenticationError, ConfigurationError):
        raise
    except SyncError as error:
        if measured is not None:
            return _by_the_api(measured)
        return _price_unknown_for(error, seconds)
    usd = believable(estimate.estimated_generation_cost)
    frames, credits = estimate.estimated_frame_count, estimate.estimated_credits
    if measured is not None and measured.usd is not None and (usd is None or measured.usd > usd):
        return _by_the_api(measured)
    counted = format_length(seconds, rate)
    return Price(usd, f"{files.length_note}: {counted}", seconds, counted, frames, credits)


async def _hint(ask: _Ask, hint_seconds: float | None, fps: float | None, why: str) -> Price:
    """Return an unknown price, with what it would be by the caller's own length."""
    if hint_seconds is None:
        return Price(None, why)
    try:
        estimate = await ask(duration_seconds=hint_seconds, fps=fps)
    except SyncError as error:
        return Price(None, why, hint_fault=error)
    hint = believable(estimate.estimated_generation_cost)
    if hint is None:
        return Price(None, why)
    note = f"{why}; {hint_seconds:g} s, which nobody measured, would cost about {dollars(hint)}"
    return Price(
        None,
        note,
        frames=estimate.estimated_frame_count,
        credits=estimate.estimated_credits,
        hint_usd=hint,
        assumptions=estimate.assumptions,
    )


def segments_past_its_end(request: GenerationRequest, price: Price) -> list[str]:
    """Return a sentence for every segment that ends after the video, as long as that was measured.

    With segments the output is as long as the video (API §3.1.2).
    """
    if price.duration_seconds is None or not any(item.type == "video" for item in request.input):
        return []
    # The API tells frames, and not how many of them are a second of this video.
    slack = price.duration_seconds * (PRICED_FPS / _SLOWEST_FPS - 1) + _FRAME_SECONDS
    return segments_past_end(request, price.duration_seconds, slack_seconds=slack)


def format_length(seconds: float, fps: float) -> str:
    """Return a length and a frame rate as they are read."""
    return f"{_plain(seconds)} s at {_plain(fps)} fps"


def _plain(figure: float) -> str:
    return f"{figure:.2f}".rstrip("0").rstrip(".")


def _price_unknown_for(error: SyncError, seconds: float | None = None) -> Price:
    """Return an unknown price: the API can tell it, and asking it failed."""
    now = " for now" if error.retryable else ""
    return Price(None, f"the estimate failed{now} ({error.code})", seconds, fault=error)


def _by_the_api(price: Price) -> Price:
    note = f"{_BY_THE_API}: {price.counted}" if price.counted else _BY_THE_API
    return replace(price, note=note, assumptions=())
