"""The limits on creates: so many a minute, a month, and at once (API §16, §17)."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from sync_mcp.sandbox.api.catalogue import refusal
from sync_mcp.sandbox.api.contract import CreateBody
from sync_mcp.sandbox.settings import FREE_SYNC_3_PER_MONTH
from sync_mcp.sandbox.world import World

_STUCK_RETRY_SECONDS = 30


class Limits:
    """Counts creates and jobs, and refuses those that are too many."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check_rate(self, key: str) -> None:
        """Count a create of this API key, or refuse it with 429."""
        self.check_rate_of(f"generate {key}", self._world.settings.generate_per_minute, timedelta(minutes=1))

    def check_rate_of(self, what: str, limit: int | None, period: timedelta) -> None:
        """Count one of what may come so often in a period, or refuse it with 429."""
        now = self._world.clock.now()
        window = now - period
        recent = [moment for moment in self._world.contents.creates.get(what, []) if moment > window]
        if limit is not None and len(recent) >= limit:
            seconds = (recent[-limit] - window).total_seconds()
            raise refusal("rate_limit_exceeded", headers=self._retry_after(seconds))
        self._world.contents.creates[what] = [*recent, now]

    def check_month(self, create: CreateBody) -> None:
        """Refuse with 402 what is more than the plan's generations of a month."""
        allowed = self._world.settings.limits.generations_per_month
        if allowed is None:
            return
        now = self._world.clock.now()
        made = [job for job in self._world.contents.accepted if is_same_month(job.created_at, now)]
        with_sync_3 = [job for job in made if job.asked["model"] == "sync-3"]
        if len(made) >= allowed or (create.model == "sync-3" and len(with_sync_3) >= FREE_SYNC_3_PER_MONTH):
            raise refusal("free_tier_generations_exhausted")

    def check_concurrency(self) -> None:
        """Refuse with 429 what is more than the plan runs at once."""
        running = len(self._world.running_jobs())
        limit = self._world.settings.limits.concurrency
        if running < limit:
            return
        seconds = self.seconds_left()
        raise refusal(
            "concurrency_limit_reached",
            headers=self._retry_after(seconds),
            more={
                "activeGenerations": running,
                "concurrencyLimit": limit,
                "retryAfterSeconds": seconds,
                "upgradeUrl": f"{self._world.base_url}/sandbox",
            },
        )

    def seconds_left(self) -> int:
        """Return how long the next job takes that ends, in whole seconds."""
        now = self._world.clock.now()
        ends = [job.ends_at for job in self._world.running_jobs() if job.ends_at]
        if not ends:
            return _STUCK_RETRY_SECONDS
        return max(1, math.ceil((min(ends) - now).total_seconds()))

    def _retry_after(self, seconds: float) -> dict[str, str]:
        style = self._world.settings.retry_after
        whole = max(1, math.ceil(seconds))
        if style == "absent":
            return {}
        if style == "seconds":
            return {"Retry-After": str(whole)}
        # A client reckons with its own clock, so the date is real time.
        moment = datetime.now(UTC) + timedelta(seconds=whole)
        return {"Retry-After": format_datetime(moment, usegmt=True)}


def is_same_month(one: datetime, other: datetime) -> bool:
    """Return whether two times lie in one month."""
    return (one.year, one.month) == (other.year, other.month)
