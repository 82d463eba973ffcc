"""What a failed generation means, whether it cost anything, and what to change."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

import anyio

from sync_mcp.errors import LedgerError, SyncError
from sync_mcp.text import safe
from sync_mcp.tools.backend import Backend, CallContext

if TYPE_CHECKING:
    from sync_mcp.api.models import Generation

_COST_TIMEOUT_SECONDS = 5.0
_ANSWER_SECONDS = 1.0
_METERED_WITHIN = timedelta(minutes=10)
_TEXT_LIMIT = 300

# By the start of the code, the first match counts; used where the API's own catalogue has no advice.
_REMEDIES = (
    ("generation_input_duration", "Shorten the input."),
    ("generation_model_duration", "Shorten the input, or take another model."),
    ("generation_plan_duration", "Shorten the input, or ask the user about the plan."),
    ("dubbing_duration", "Shorten the video."),
    ("generation_input", "Correct the input: a file that opens in a player, at a public URL."),
    ("generation_infra", "Wait some minutes, then create it again."),
    ("generation_pipeline", "Create it again; if it fails again, try another clip."),
    ("generation_media_probe", "Create it again in a while."),
    ("controller", "Create it again in a while."),
)
_ELSE = "Create it again; if it fails again, change the input."


@dataclass(slots=True)
class Explanation:
    """A failure in words; `charged` is as far as the API tells."""

    meaning: str | None
    remedy: str
    charged: Literal["yes", "no", "unknown"]


async def explain_failure(context: CallContext, generation: "Generation") -> Explanation:
    """Explain a job that ended without a result, from the API's own catalogue where that can be read.

    What cannot be found out within the call's time is left unknown.
    """
    code = generation.error_code or ""
    remedy = next((advice for start, advice in _REMEDIES if code.startswith(start)), _ELSE)
    told = Explanation(meaning=None, remedy=remedy, charged="unknown")
    with anyio.move_on_after(max(0.0, context.seconds_left - _ANSWER_SECONDS)):
        info = await context.backend.error_info(code) if code else None
        if info:
            told.meaning = _line(info.message)
            told.remedy = _line(info.suggestion) or remedy
        told.charged = await _charged(context.backend, generation)
    return told


async def _charged(backend: Backend, generation: "Generation") -> Literal["yes", "no", "unknown"]:
    """Return whether a job was charged; of one that ended a short time ago a cost of 0 is no answer yet."""
    try:
        entry = await backend.guard.settle_failure(backend.client, generation)
    except LedgerError:
        entry = None
    if entry is not None and entry.generation_id == generation.id:
        return cast(Literal["yes", "no", "unknown"], entry.charged)
    try:
        cost = await backend.client.generations.get_cost(
            generation.id, request_options={"timeout_in_seconds": _COST_TIMEOUT_SECONDS, "max_retries": 1}
        )
    except SyncError:
        return "unknown"
    created_at = generation.created_at
    is_young = created_at is None or backend.client.api_time - created_at < _METERED_WITHIN
    return "unknown" if cost.charged == "no" and is_young else cost.charged


def _line(text: str | None) -> str | None:
    return safe(text, _TEXT_LIMIT) if text else None
