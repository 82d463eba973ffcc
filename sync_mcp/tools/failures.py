"""What a failed generation means, whether it cost anything, and what to change."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.errors import SyncError
from sync_mcp.texts import safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.remedies import REMEDY_ELSE, api_remedy

_ANSWER_SECONDS = 1.0
_TEXT_LIMIT = 200


@dataclass(slots=True)
class Explanation:
    """A failure: what the API says of it, a remedy in our words, and `charged` as far as the API tells.

    `cost_usd` is what it did cost, where that is finally known.
    """

    api_says: str
    remedy: str
    charged: Literal["yes", "no", "unknown"]
    cost_usd: Decimal | None = None


async def explain_failure(context: CallContext, generation: Generation) -> Explanation:
    """Explain a job that ended without a result, from the API's own catalogue where that can be read.

    What cannot be found out within the call's time is left unknown.
    """
    code = generation.error_code or ""
    said = [safe(generation.error or "", _TEXT_LIMIT)]
    told = Explanation(said[0], api_remedy(code) or REMEDY_ELSE, charged="unknown")
    with anyio.move_on_after(max(0.0, context.seconds_left - _ANSWER_SECONDS)):
        info = await context.account.lists.error_info(code) if code else None
        if info:
            said.extend(safe(text or "", _TEXT_LIMIT) for text in (info.message, info.suggestion))
            told.api_says = " ".join(dict.fromkeys(filter(None, said)))
        told.charged, told.cost_usd = await _cost(context, generation)
    return told


async def _cost(
    context: CallContext, generation: Generation
) -> tuple[Literal["yes", "no", "unknown"], Decimal | None]:
    """Return whether a job was charged, and what it cost where that is known.

    Of one that ended a short time ago a cost of 0 is no answer yet.
    """
    guard, client = context.process.guard, context.account.client
    try:
        entry = await guard.settle_failure(client, generation)
    except SyncError:
        entry = None
    if entry is not None and entry.generation_id == generation.id:
        return entry.charged, Decimal(0) if entry.charged == "no" else entry.cost_usd
    cost = (await guard.find_costs(client, [generation])).get(generation.id)
    return ("unknown", None) if cost is None else (cost.charged, cost.usd)
