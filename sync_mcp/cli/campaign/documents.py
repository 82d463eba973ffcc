"""Campaigns for programs: one JSON document."""

from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from sync_mcp.campaigns.rows import Campaign, Money, Row
from sync_mcp.campaigns.tables import Counts
from sync_mcp.cli.documents import money, timestamp
from sync_mcp.texts import MESSAGE_LIMIT, safe

_PATH_LIMIT = 4096


def describe_list(found: Iterable[tuple[Campaign, Counts, Money]]) -> dict[str, JsonValue]:
    """Return all campaigns, the newest first."""
    listed: list[JsonValue] = []
    for campaign, counts, sums in found:
        states: dict[str, JsonValue] = dict(counts.by_state.items())
        listed.append({**_describe(campaign, sums), "rows_by_state": states})
    return {"campaigns": listed}


def describe(campaign: Campaign, rows: Sequence[Row], sums: Money) -> dict[str, JsonValue]:
    """Return one campaign with its rows."""
    return {"campaign": _describe(campaign, sums), "rows": [_describe_row(row) for row in rows]}


def _describe(campaign: Campaign, sums: Money) -> dict[str, JsonValue]:
    return {
        "id": campaign.id,
        "name": safe(campaign.name, MESSAGE_LIMIT),
        "state": campaign.state,
        "reason": campaign.reason,
        "resumes_at": timestamp(campaign.resumes_at),
        "is_sandbox": campaign.is_sandbox,
        "planned_usd": money(sums.planned),
        "spent_usd": money(sums.spent),
        "held_usd": money(sums.held),
        "budget_usd": money(campaign.budget_usd),
        "folder": campaign.folder[:_PATH_LIMIT],
        "created_at": timestamp(campaign.created_at),
        "approved_at": timestamp(campaign.approved_at),
    }


def _describe_row(row: Row) -> dict[str, JsonValue]:
    return {
        "row": row.number,
        "line": row.line,
        "about": row.about,
        "language": row.language or None,
        "state": row.state,
        "take": row.take,
        "price_usd": money(row.price_usd),
        "cost_usd": money(row.cost_usd),
        "generation_id": row.generation_id,
        "saved_as": row.saved_as,
        "output": row.output,
        "error": row.error,
    }
