"""What a request is likely to cost, and on whose word.

Only lengths that the API or this server measured make a price. What the caller says of a length is a hint: it
is shown, and a price that stands on it alone is unknown to consent and limits, or whoever calls would set it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

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
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import HIGHEST_USD, dollars

_BAD_INPUT = ("generation_input_", "asset_")
_BY_THE_API = "as the API measured the files"
_SLOWEST_FPS = 24_000 / 1001
"""Of films: few videos have fewer frames in a second."""
_FRAME_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Price:
    """What a job is likely to cost.

    Attributes:
        usd: None where nobody measured it.
        note: on what it stands, or why nobody knows it.
        duration_seconds: the length of the output that it is for, as measured.
        counted: the length and the frame rate that it is for, as they are read.
        frames: how many frames the API says it has.
        credits: what the API says it costs in credits.
        hint_usd: what it would cost by the length that the caller tells.
        fault: why the API did not tell the price, where asking it failed.
        hint_fault: why the API did not tell the hint, where asking it failed.
        assumptions: on what the API's figures rest.
    """

    usd: Decimal | None
    note: str | None = None
    duration_seconds: float | None = None
    counted: str | None = None
    frames: float | None = None
    credits: float | None = None
    hint_usd: Decimal | None = None
    fault: SyncError | None = None
    hint_fault: SyncError | None = None
    assumptions: Sequence[str] = ()

    def segments_past_end(self, request: GenerationRequest) -> list[str]:
        """Return a sentence for every segment that ends after the video, as long as that was measured.

        With segments the output is as long as the video (API §3.1.2).
        """
        if self.duration_seconds is None or not any(item.type == "video" for item in request.input):
            return []
        # The API tells frames, and not how many of them are a second of this video.
        slack = self.duration_seconds * (PRICED_FPS / _SLOWEST_FPS - 1) + _FRAME_SECONDS
        return segments_past_end(request, self.duration_seconds, slack_seconds=slack)


def counted_by(seconds: float, fps: float) -> str:
    """Return a length and a frame rate as they are read."""
    return f"{_plain(seconds)} s at {_plain(fps)} fps"


def _plain(figure: float) -> str:
    return f"{figure:.2f}".rstrip("0").rstrip(".")


class Pricing:
    """Prices requests; it remembers what the API said of local files once it had them."""

    def __init__(self) -> None:
        self._measured: dict[str, Price] = {}

    def learn(self, intention: Intention, price: Price) -> None:
        """Note what the API says that a request costs whose files it has."""
        self._measured[intention.made_digest] = price

    async def price(
        self,
        sync: AsyncSync,
        request: GenerationRequest,
        duration_seconds: float | None,
        options: RequestOptions,
        *,
        files: LocalFiles | None = None,
        fps: float | None = None,
        intention: Intention | None = None,
    ) -> Price:
        """Return what a request is likely to cost; what is still a local file counts by its measured length.

        `intention` is the request's, where it is known already.

        Raises:
            AuthenticationError, ConfigurationError: nothing could be sent either.
            APIStatusError: the API does not take the input.
        """
        ask = _Asking(sync, request, options)
        if not request.input:
            return await self._hinted(ask, duration_seconds, fps, "there is no media to measure")
        if not request.local_media:
            try:
                estimate = await ask()
            except (AuthenticationError, ConfigurationError):
                raise
            except InvalidRequestError:
                return await self._hinted(
                    ask, duration_seconds, fps, "the API cannot price these media by themselves"
                )
            except SyncError as error:
                if isinstance(error, APIStatusError) and (error.api_code or "").startswith(_BAD_INPUT):
                    raise
                # It can tell, only not now: the caller's figure does not take its place.
                return _failed(error)
            usd = believable(estimate.estimated_generation_cost)
            if usd is not None:
                frames = estimate.estimated_frame_count
                length = None if frames is None or not math.isfinite(frames) else frames / PRICED_FPS
                # The API tells frames alone: how long they last is a matter of the rate.
                counted = f"{frames:g} frames, {counted_by(round(length, 1), PRICED_FPS)}" if length else None
                told = [] if duration_seconds is None else ["duration_seconds was not used: it was measured"]
                return Price(
                    usd,
                    None,
                    length,
                    counted,
                    frames,
                    estimate.estimated_credits,
                    assumptions=[*estimate.assumptions, *([counted] if counted else []), *told],
                )
            return await self._hinted(
                ask, duration_seconds, fps, "the API cannot tell the price of these media"
            )
        told = self._told_of(intention, request)
        if files is None or files.output_seconds is None:
            if told is not None:
                return _as_told(told)
            why = (files.length_note if files else None) or "the length is not known"
            if files is not None and not files.hint_helps:
                # Of a file that nobody gets, a guess at its length would only look like a price.
                return Price(None, why)
            return await self._hinted(ask, duration_seconds, fps, why)
        return await self._measured_price(ask, files, fps, told)

    def _told_of(self, intention: Intention | None, request: GenerationRequest) -> Price | None:
        if not self._measured:
            return None
        made = intention or Intention.of(request, account="", base_url="")
        return self._measured.get(made.made_digest)

    async def _measured_price(
        self, ask: "_Asking", files: LocalFiles, fps: float | None, told: Price | None
    ) -> Price:
        """Price local files by the length that this server measured, or by what the API `told` of them."""
        seconds = files.output_seconds
        assert seconds is not None
        # What was measured goes before what the caller says.
        rate = files.fps or fps or PRICED_FPS
        try:
            estimate = await ask(duration_seconds=seconds, fps=rate)
        except (AuthenticationError, ConfigurationError):
            raise
        except SyncError as error:
            if told is not None:
                return _as_told(told)
            return _failed(error, seconds)
        usd = believable(estimate.estimated_generation_cost)
        frames, credits = estimate.estimated_frame_count, estimate.estimated_credits
        if told is not None and told.usd is not None and (usd is None or told.usd > usd):
            return _as_told(told)
        counted = counted_by(seconds, rate)
        return Price(usd, f"{files.length_note}: {counted}", seconds, counted, frames, credits)

    async def _hinted(
        self, ask: "_Asking", duration_seconds: float | None, fps: float | None, why: str
    ) -> Price:
        """Return an unknown price, with what it would be by the caller's own length."""
        if duration_seconds is None:
            return Price(None, why)
        try:
            estimate = await ask(duration_seconds=duration_seconds, fps=fps)
        except SyncError as error:
            return Price(None, why, hint_fault=error)
        hint = believable(estimate.estimated_generation_cost)
        if hint is None:
            return Price(None, why)
        note = f"{why}; {duration_seconds:g} s, which nobody measured, would cost about {dollars(hint)}"
        return Price(
            None,
            note,
            frames=estimate.estimated_frame_count,
            credits=estimate.estimated_credits,
            hint_usd=hint,
            assumptions=estimate.assumptions,
        )


def _failed(error: SyncError, seconds: float | None = None) -> Price:
    """Return an unknown price: the API can tell it, and asking it failed."""
    now = " for now" if error.retryable else ""
    return Price(None, f"the estimate failed{now} ({error.code})", seconds, fault=error)


def _as_told(price: Price) -> Price:
    note = f"{_BY_THE_API}: {price.counted}" if price.counted else _BY_THE_API
    return replace(price, note=note, assumptions=())


class _Asking:
    """One request as the API is asked for its price."""

    def __init__(self, sync: AsyncSync, request: GenerationRequest, options: RequestOptions) -> None:
        self._sync = sync
        self._request = request
        self._options = options

    async def __call__(
        self, *, duration_seconds: float | None = None, fps: float | None = None
    ) -> CostEstimate:
        return await self._sync.generations.estimate_request(
            self._request, duration_seconds=duration_seconds, fps=fps, request_options=self._options
        )


def believable(usd: Decimal | None) -> Decimal | None:
    """Return a price, or None for one that no job has: then nobody knows it."""
    return usd if usd is not None and usd.is_finite() and 0 < usd <= HIGHEST_USD else None
