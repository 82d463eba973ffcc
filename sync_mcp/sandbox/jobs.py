"""Jobs: what was asked, how far it is by the sandbox's clock, and how the API shows it (API §3.3, §12)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from sync_mcp.sandbox.api.catalogue import CATALOGUE
from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.faults.records import Charge
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.media.render import RenderPlan
from sync_mcp.sandbox.settings import CostAtFirst, SandboxSettings

STATUSES = ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "REJECTED")
JsonObject = dict[str, JsonValue]
T = TypeVar("T")

_PENDING_SHARE = 1 / 3
_TEXT_FIELDS = ("webhookUrl", "outputUrl", "segmentOutputUrl", "error", "errorCode", "outputFileName")
_END_STATUSES = {"fail": "FAILED", "reject": "REJECTED"}
_DEFAULT_CODES = {"fail": "generation_pipeline_failed", "reject": "generation_input_validation_failed"}


@dataclass(slots=True)
class Job:
    """A generation that was accepted."""

    id: str
    created_at: datetime
    seconds: float
    """How long it takes."""
    asked: JsonObject
    """The fields of the request that a generation shows again."""
    plan: RenderPlan
    cost_usd: Decimal
    frames: int
    """How many frames of output that price is for."""
    key_name: str
    """The name of the API key that made it."""
    idempotency_key: str | None
    source: str
    fate: Fault | None = None
    speech: Path | None = None
    """The speech made from a script."""
    render_path: Path = field(default_factory=Path)
    sources: Mapping[Path, tuple[int, int]] = field(default_factory=dict[Path, tuple[int, int]])
    """The files that its output is made of, as they were when they were measured."""
    is_of_batch: bool = False
    """Whether it is a row of a batch, which counts against no limit of jobs at once."""

    def fail_without_sources(self, now: datetime) -> None:
        """Let it fail where its output can no longer be made: what was measured is gone or another by now."""
        if self.has_output(now) and not self.render_path.is_file() and self.sources != sources_of(self.plan):
            self.fate = Fault(job="fail")

    def is_found(self, now: datetime, settings: SandboxSettings) -> bool:
        """Return whether the paths of one job know it by now."""
        lag = _choose(self.fate and self.fate.get_lag_seconds, settings.get_lag_seconds)
        return not self.is_forgotten and self._age_seconds(now) >= lag

    def is_listed(self, now: datetime, settings: SandboxSettings) -> bool:
        """Return whether lists show it by now."""
        hidden = self.is_forgotten or (self.fate is not None and self.fate.job == "hide")
        lag = _choose(self.fate and self.fate.list_lag_seconds, settings.list_lag_seconds)
        return not hidden and self._age_seconds(now) >= lag

    def cost_at_first(self, now: datetime, settings: SandboxSettings) -> CostAtFirst | None:
        """Return what is told of its cost before the truth is, or None once that is told."""
        left = self.cost_seconds_left(now, settings)
        return _choose(self.fate and self.fate.cost_at_first, settings.cost_at_first) if left > 0 else None

    def cost_seconds_left(self, now: datetime, settings: SandboxSettings) -> float:
        """Return how long it takes, once it has ended, until its true cost is told."""
        late = _choose(self.fate and self.fate.cost_seconds, settings.cost_seconds)
        return self.seconds + late - self._age_seconds(now)

    @property
    def is_forgotten(self) -> bool:
        """Whether the API knows nothing of it any more."""
        return self.fate is not None and self.fate.job == "forget"

    @property
    def ends_at(self) -> datetime | None:
        """When it ends, or None for a job that never does."""
        if self.fate is not None and self.fate.job == "stuck":
            return None
        return self.created_at + timedelta(seconds=self.seconds)

    @property
    def end_status(self) -> str:
        """The status it has once it has ended."""
        if self.fate is None:
            return "COMPLETED"
        return self.fate.end_status or _END_STATUSES.get(self.fate.job or "", "COMPLETED")

    @property
    def completes(self) -> bool:
        """Whether it ends with an output."""
        return self.end_status.upper() == "COMPLETED"

    def status(self, now: datetime) -> str:
        """Return how far it is."""
        if not self.has_ended(now):
            early = self._age_seconds(now) < self.seconds * _PENDING_SHARE
            return "PENDING" if early else "PROCESSING"
        return self.end_status

    def has_output(self, now: datetime) -> bool:
        """Return whether its output is there."""
        return self.completes and self.has_ended(now)

    def has_ended(self, now: datetime) -> bool:
        """Return whether its status can no longer change."""
        return self.ends_at is not None and now >= self.ends_at

    def progress_percent(self, now: datetime) -> float:
        """Return how much of it is done."""
        if self.has_ended(now):
            return 100
        share = self._age_seconds(now) / self.seconds if self.seconds else 1.0
        return min(99, round(share * 100))

    def charge(self, now: datetime) -> Charge:
        """Return what it costs, which is nothing once it has gone wrong uncharged."""
        uncharged = not self.completes and self.fate is not None and not self.fate.charged
        released = uncharged and self.has_ended(now)
        return Charge(
            generation_id=self.id,
            amount_usd=Decimal(0) if released else self.cost_usd,
            at=self.created_at,
            idempotency_key=self.idempotency_key,
            released=released,
        )

    def error(self, now: datetime) -> tuple[str | None, str | None]:
        """Return the code and the sentence of its failure, as far as it has them."""
        if self.completes or self.fate is None or not self.has_ended(now):
            return None, None
        code = self.fate.error_code or _DEFAULT_CODES.get(self.fate.job or "")
        if code is None:
            return None, self.fate.error
        known = CATALOGUE.get(code)
        return code, self.fate.error or (known.message if known else "The generation failed.")

    def _age_seconds(self, now: datetime) -> float:
        return (now - self.created_at).total_seconds()


def sources_of(plan: RenderPlan) -> dict[Path, tuple[int, int]]:
    """Return the files that an output is made of, each with when it was changed and its size."""
    return {path: _state(path) for path in (plan.visual, *(voice.path for voice in plan.voices))}


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def to_wire(
    job: Job, now: datetime, settings: SandboxSettings, *, output_url: str | None, speech_url: str | None
) -> JsonObject:
    """Return a generation as the API shows it."""
    done = job.has_output(now)
    code, error = job.error(now)
    generation: JsonObject = {
        "id": job.id,
        "createdAt": timestamp(job.created_at),
        "status": job.status(now),
        **job.asked,
        "outputUrl": output_url if done else None,
        "outputDuration": round(job.plan.seconds, 3) if done else None,
        "segmentOutputUrl": None,
        "error": error,
        "errorCode": code,
    }
    if speech_url:
        generation["synthesizedAudioUrl"] = speech_url
    return _spell(generation, settings)


def _choose(own: T | None, setting: T) -> T:
    return setting if own is None else own


def _spell(generation: JsonObject, settings: SandboxSettings) -> JsonObject:
    shown: JsonObject = {}
    for name, value in generation.items():
        if value is None and settings.unset_fields != "null":
            if settings.unset_fields == "absent" or name not in _TEXT_FIELDS:
                continue
            value = ""
        shown[settings.error_code_name if name == "errorCode" else name] = value
    return shown
