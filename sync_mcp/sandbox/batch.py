"""Batches: many generations asked for at once, how far they are, and how the API shows it (API §5)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.jobs import Job, JsonObject
from sync_mcp.sandbox.settings import SandboxSettings

_PENDING_SHARE = 1 / 6
_JOBS_CREATED_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a batch: its generation, or why none was made of it."""

    request_id: str
    job: Job | None
    refusal: JsonObject

    def has_ended(self, now: datetime) -> bool:
        """Return whether nothing more comes of it."""
        return self.job is None or self.job.has_ended(now)

    def has_output(self, now: datetime) -> bool:
        """Return whether its video is there."""
        return self.job is not None and self.job.has_output(now)


@dataclass(slots=True)
class Batch:
    """A batch that was accepted."""

    id: str
    created_at: datetime
    seconds: float
    """How long it takes."""
    rows: list[Row]
    webhook_url: str | None
    fate: Fault | None = None

    def is_found(self, now: datetime, settings: SandboxSettings) -> bool:
        """Return whether it is known by its id by now."""
        own = self.fate.get_lag_seconds if self.fate else None
        lag = settings.get_lag_seconds if own is None else own
        is_forgotten = self.fate is not None and self.fate.job == "forget"
        return not is_forgotten and now >= self.created_at + timedelta(seconds=lag)

    def is_listed(self, now: datetime, settings: SandboxSettings) -> bool:
        """Return whether the list shows it by now."""
        own = self.fate.list_lag_seconds if self.fate else None
        lag = settings.list_lag_seconds if own is None else own
        is_hidden = self.fate is not None and self.fate.job in ("hide", "forget")
        return not is_hidden and now >= self.created_at + timedelta(seconds=lag)

    def has_ended(self, now: datetime) -> bool:
        """Return whether all its rows have ended."""
        return all(row.has_ended(now) for row in self.rows) and self._age_seconds(now) >= self.seconds

    def status(self, now: datetime) -> str:
        """Return how far it is."""
        if self.has_ended(now):
            # Which word the API has where some rows fail is not known.
            return "COMPLETED" if any(row.has_output(now) for row in self.rows) else "FAILED"
        if self._age_seconds(now) < self.seconds * _PENDING_SHARE:
            return "PENDING"
        return "JOBS_CREATED" if self._age_seconds(now) < self.seconds * _JOBS_CREATED_SHARE else "PROCESSING"

    def to_wire(self, now: datetime, result_url: str) -> JsonObject:
        """Return it as the API shows it; `result_url` is told once it has ended."""
        done = sum(row.has_output(now) for row in self.rows)
        pending = sum(not row.has_ended(now) for row in self.rows)
        return {
            "id": self.id,
            "created_at": timestamp(self.created_at),
            "status": self.status(now),
            "metrics": {
                "total_generations": len(self.rows),
                "success_count": done,
                "failed_count": len(self.rows) - done - pending,
                "pending_count": pending,
            },
            "webhookUrl": self.webhook_url,
            "outputUrl": result_url if self.has_ended(now) else "",
        }

    def _age_seconds(self, now: datetime) -> float:
        return (now - self.created_at).total_seconds()


def result_line(row: Row, now: datetime, output_url: str | None, settings: SandboxSettings) -> JsonObject:
    """Return the line of the result file that tells of a row; the API's own keys are documented nowhere."""
    job = row.job
    code, error = (None, None) if job is None else job.error(now)
    told: dict[str, tuple[str, JsonValue]] = {
        "request_id": ("requestId", row.request_id),
        "status": ("status", "FAILED" if job is None else job.status(now)),
        "generation_id": ("generationId", None if job is None else job.id),
        "output_url": ("outputMediaUrl", output_url),
        "error": ("error", row.refusal.get("message") if job is None else error),
        "error_code": ("errorCode", row.refusal.get("errorCode") if job is None else code),
    }
    is_snake = settings.batch_result_keys == "snake"
    return {snake if is_snake else camel: value for snake, (camel, value) in told.items()}
