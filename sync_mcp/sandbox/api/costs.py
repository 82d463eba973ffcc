"""What the API tells of a job's cost, which may come late (API §3.9); `Job.charge` tells the truth."""

import math
from datetime import datetime
from decimal import Decimal

from pydantic import JsonValue

from sync_mcp.sandbox.jobs import Job, JsonObject
from sync_mcp.sandbox.settings import SandboxSettings


def to_costs(job: Job, now: datetime, settings: SandboxSettings) -> JsonObject:
    """Return a job's cost as the API shows it; money is a decimal string."""
    job.fail_without_sources(now)
    availability, known = _cost_so_far(job, now, settings)
    is_complete = availability == "complete"
    component: JsonValue = {
        "type": "dubbing" if "dubParams" in job.asked else "lipsync",
        "costUsd": str(known),
    }
    return {
        "generationId": job.id,
        "generationStatus": job.status(now),
        "currency": "USD",
        "availability": availability,
        "totalCostUsd": str(known) if is_complete else None,
        "knownSubtotalUsd": str(known),
        "retryAfterSeconds": None if is_complete else math.ceil(job.cost_seconds_left(now, settings)),
        "components": [] if availability == "pending" else [component],
        "excludedCosts": [],
    }


def _cost_so_far(job: Job, now: datetime, settings: SandboxSettings) -> tuple[str, Decimal]:
    if not job.has_ended(now):
        return "pending", Decimal(0)
    truth = job.charge(now).amount_usd
    match job.cost_at_first(now, settings):
        case "pending":
            return "pending", Decimal(0)
        case "zero":
            return "complete", Decimal(0)
        case "partial":
            return "partial", truth / 2
        case None:
            return "complete", truth
