"""What is made or fetched again on the user's word, and how a row begins anew for that."""

import json
import os
from collections.abc import Mapping
from typing import Any, cast

from sync_mcp.campaigns.rows import NEEDS_USER, Campaign, Row, RowState, request_of
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.intention import Intention

AGAIN: tuple[RowState, ...] = (*NEEDS_USER, "skipped")
"""What a retry goes on with that names no rows."""


def key_of(row: Row) -> str:
    """Return by what rows are told to be takes of one thing, wherever its clips lie."""
    return json.dumps(cast(Mapping[str, Any], row.request)["body"], sort_keys=True)


def why_not_again(row: Row | None) -> str | None:
    """Return why a row is not to be made or fetched again; None where it is."""
    if row is None:
        return "there is none"
    if not has_request(row):
        return "it cannot be made: correct its line and plan again"
    if row.state == "saved":
        return None if is_gone(row) else "it is saved, and its video is there"
    return None if row.state in AGAIN else f"it is {row.state}"


def has_request(row: Row) -> bool:
    """Return whether there is something to be made, and not only what is wrong with a line."""
    return bool(cast(Mapping[str, Any], row.request)["body"])


def is_free_again(row: Row) -> bool:
    """Return whether a row can be made or fetched again for no more than was agreed to; blocks."""
    return row.state not in ("charged", "dearer") and why_not_again(row) is None


def is_gone(row: Row) -> bool:
    """Return whether a row was saved and its video is not there any more; blocks."""
    return row.state == "saved" and not os.path.lexists(row.saved_as or "")


def begin_again(campaign: Campaign, row: Row, next_take: int, *, is_left: bool = False) -> Mapping[str, Any]:
    """Return what is written into a row that the user has made after all.

    `is_left` is whether its file was there before, and is of another request.
    """
    match row.state:
        case "charged":
            act = GenerationAct.of(request_of(row))
            digest = Intention(act, campaign.account, campaign.base_url, next_take).digest
            again = {"take": next_take, "digest": digest, "generation_id": None, "is_begun": False}
            return {"state": "planned", **again}
        case "saved" if is_left:
            return {"state": "planned", "generation_id": None, "is_begun": False, "saved_as": None}
        case "unsaved" | "saved":
            return {"state": "made", "saved_as": None}
        case "unknown" | "stuck":
            # Something may have been sent: what there is, is found.
            return {"state": "planned", "is_begun": True}
        case "dearer" if row.dearer_usd is not None:
            return {"state": "planned", "price_usd": row.dearer_usd, "dearer_usd": None}
        case _:
            return {"state": "planned", "generation_id": None, "is_begun": False}
