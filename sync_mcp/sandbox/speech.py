"""Speech: what was asked, how far it is by the sandbox's clock, and how the API shows it (API §9)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import JsonValue

from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.faults.records import Charge
from sync_mcp.sandbox.faults.script import Fault

_PENDING_SHARE = 1 / 3
_DEFAULT_CODE = "elevenlabs_service_unavailable"


@dataclass(slots=True)
class SpeechJob:
    """A script that was accepted to be spoken; at once where it takes no time."""

    id: str
    created_at: datetime
    seconds: float
    """How long it takes."""
    script: str
    path: Path
    """The sound."""
    duration_seconds: float
    cost_usd: Decimal
    idempotency_key: str | None
    is_durable: bool
    """Whether it can be asked for by its id."""
    fate: Fault | None = None

    def has_ended(self, now: datetime) -> bool:
        """Return whether its status can no longer change."""
        is_stuck = self.fate is not None and self.fate.job == "stuck"
        return not is_stuck and now >= self.created_at + timedelta(seconds=self.seconds)

    def has_output(self, now: datetime) -> bool:
        """Return whether there is a sound."""
        return not self._fails and self.has_ended(now)

    def is_found(self, now: datetime) -> bool:
        """Return whether it is known by its id by now."""
        lag = (self.fate.get_lag_seconds if self.fate else None) or 0.0
        is_forgotten = self.fate is not None and self.fate.job == "forget"
        return self.is_durable and not is_forgotten and now >= self.created_at + timedelta(seconds=lag)

    def charge(self, now: datetime) -> Charge:
        """Return what it costs, which is nothing once it has gone wrong uncharged."""
        released = self._fails and self.has_ended(now) and not (self.fate and self.fate.charged)
        return Charge(
            generation_id=self.id,
            amount_usd=Decimal(0) if released else self.cost_usd,
            at=self.created_at,
            idempotency_key=self.idempotency_key,
            released=released,
        )

    def to_wire(self, now: datetime, url: str | None) -> dict[str, JsonValue]:
        """Return it as the API shows it; `url` is that of its sound."""
        has_ended, has_output = self.has_ended(now), self.has_output(now)
        begins = self.created_at + timedelta(seconds=self.seconds * _PENDING_SHARE)
        ends = self.created_at + timedelta(seconds=self.seconds)
        running = "PENDING" if now < begins else "PROCESSING"
        return {
            "id": self.id,
            "status": ("SUCCESS" if has_output else "FAILED") if has_ended else running,
            "url": url if has_output else None,
            "duration": self.duration_seconds if has_output else None,
            "error": self._error() if has_ended and not has_output else None,
            "createdAt": timestamp(self.created_at),
            "startedAt": timestamp(begins) if now >= begins else None,
            "finishedAt": timestamp(ends) if has_ended else None,
        }

    @property
    def _fails(self) -> bool:
        return self.fate is not None and self.fate.job in ("fail", "reject")

    def _error(self) -> JsonValue:
        code = (self.fate and self.fate.error_code) or _DEFAULT_CODE
        return {"code": code, "message": (self.fate and self.fate.error) or "The script could not be spoken."}
