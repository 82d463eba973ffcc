"""The export of what finished jobs cost (API §3.10): a source of its own beside the lists."""

from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import as_json, page_start, read_moment, require_key, whole_limit
from sync_mcp.sandbox.api.catalogue import bare_refusal
from sync_mcp.sandbox.api.costs import to_costs
from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.jobs import Job, JsonObject
from sync_mcp.sandbox.world import World

_DEFAULT_LIMIT = 100
_MOST = 500


class Usage:
    """Tells what the jobs of a time cost: hidden and deleted ones too, for they were paid all the same."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v2/usage/generations", require_key(self.index), methods=["GET"])]

    async def index(self, request: Request) -> Response:
        """List the jobs that finished in a time, the first to finish first."""
        if not self._world.settings.usage_export:
            raise HTTPException(404)
        query = request.query_params
        start, end = (read_moment(query.get(name, ""), name) for name in ("startTime", "endTime"))
        if start > end:
            raise bare_refusal(400, ["endTime must not be before startTime"])
        limit = whole_limit(query.get("limit", str(_DEFAULT_LIMIT)), _MOST)
        rows = self._list_finished(start, end)
        rows = rows[page_start(request, [job.id for _, job in rows]) :]
        is_last = len(rows) <= limit
        return as_json(
            {
                "items": [self._row(job, finished_at) for finished_at, job in rows[:limit]],
                "nextCursor": None if is_last else rows[limit - 1][1].id,
            }
        )

    def _list_finished(self, start: datetime, end: datetime) -> list[tuple[datetime, Job]]:
        now, lag = self._world.clock.now(), self._world.settings.usage_lag_seconds
        jobs = [(job.ends_at, job) for job in self._world.contents.accepted if not job.is_forgotten]
        rows = [
            (ends_at, job)
            for ends_at, job in jobs
            if ends_at is not None and start <= ends_at < end and (now - ends_at).total_seconds() >= lag
        ]
        return sorted(rows, key=lambda row: row[0])

    def _row(self, job: Job, finished_at: datetime) -> JsonObject:
        costs = to_costs(job, self._world.clock.now(), self._world.settings)
        total = costs["totalCostUsd"]
        frames = 0 if total == "0" else job.frames
        return costs | {
            "createdAt": timestamp(job.created_at),
            "finishedAt": timestamp(finished_at),
            "model": job.asked["model"],
            "apiKey": job.key_name,
            "billedFrames": None if total is None else frames,
        }
