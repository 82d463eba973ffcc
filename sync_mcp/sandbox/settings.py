"""What can be set in a sandbox, and the plans and prices it keeps to (API §16.2, §17)."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ListOddity = Literal[
    "skip",
    "repeat",
    "reverse",
    "reversed_pages",
    "short_pages",
    "model_suffix",
    "inputs_reordered",
    "urls_rewritten",
    "no_created_at",
    "created_at_shifted",
]
CostAtFirst = Literal["pending", "zero", "partial"]
PlanName = Literal["free", "hobbyist", "creator", "growth", "scale", "enterprise"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan allows."""

    concurrency: int
    """Jobs pending and processing at once."""
    longest_seconds: float | None
    """Output length of one generation; None for no limit."""
    picks_speaker: bool
    """Whether active speaker detection is included."""
    generations_per_month: int | None = None
    speeches_per_month: int | None = None
    voice_clones: int | None = None
    """Voices that may be cloned at once; None for no limit."""
    has_batches: bool = False
    file_bytes: int = 5 * 1024**3

    def allows(self, seconds: float) -> bool:
        """Return whether a generation of this length may be made."""
        return self.longest_seconds is None or seconds <= self.longest_seconds


PLANS: dict[PlanName, Plan] = {
    "free": Plan(1, 20, picks_speaker=False, generations_per_month=3, speeches_per_month=10, voice_clones=0),
    "hobbyist": Plan(1, 60, picks_speaker=False, voice_clones=3),
    "creator": Plan(3, 300, picks_speaker=True, voice_clones=5),
    "growth": Plan(6, 600, picks_speaker=True, voice_clones=15),
    "scale": Plan(15, 1800, picks_speaker=True, voice_clones=50, has_batches=True),
    "enterprise": Plan(50, None, picks_speaker=True, has_batches=True),
}

FREE_SYNC_3_SECONDS = 15
FREE_SYNC_3_PER_MONTH = 1
REACT_1_SECONDS = 15
"""The longest input that the model react-1 takes."""

FRAME_PRICES = {
    "sync-3": Decimal("0.00534"),
    "lipsync-2": Decimal("0.002"),
    "lipsync-2-pro": Decimal("0.00333"),
    "lipsync-1.9.0-beta": Decimal("0.001"),
    "react-1": Decimal("0.00667"),
}
"""US dollars for a frame of output."""

SPEECH_CHARACTER_PRICE = Decimal("0.0002")
"""US dollars for a character of a script that is spoken; the API's own price is published nowhere."""

VOICE_CLONE_PRICE = Decimal("0.01")
"""US dollars for a cloned voice; the API's own price is published nowhere."""

DEFAULT_FRAME_PRICE = FRAME_PRICES["lipsync-2"]
"""What a model costs that only `extra_models` names."""


class SandboxSettings(BaseModel):
    """The settings of a sandbox; every name is also an argument of `Sandbox` and of `Sandbox.configure`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    plan: PlanName = "scale"
    """The organization's plan, which decides what it may make."""
    concurrency: int | None = Field(default=None, ge=1)
    """Jobs at once in place of the plan's number, as an enterprise has it by contract."""
    job_seconds: float = Field(default=3.0, ge=0)
    """How long a job takes on the sandbox's clock: a third of it pending, the rest processing."""
    seed: int = 0
    """Ids follow from it: the same requests in the same order get the same ids."""
    idempotency: Literal["honour", "ignore", "expire", "conflict"] = "honour"
    """What a repeated Idempotency-Key does: replay, nothing, replay until it expires, 409 every time."""
    idempotency_expiry_seconds: float = Field(default=0.0, ge=0)
    """How long a key is known in the mode `expire`; 0 forgets it at once."""
    replay_status: Literal[200, 201] = 201
    """The status of a replayed answer."""
    generate_per_minute: int | None = Field(default=None, ge=1)
    """Creates a minute and key before 429; None for no limit."""
    speech_jobs: bool = True
    """Whether the organization has speech jobs; without them their create answers 503."""
    clones_per_hour: int | None = Field(default=10, ge=1)
    """Voices an hour and key that may be cloned before 429; None for no limit."""
    shortest_sample_seconds: float = Field(default=1.0, ge=0)
    """How long a recording has to be for a voice to be cloned from it; the API's own bound is not known."""
    speech_per_minute: int | None = Field(default=60, ge=1)
    """Speech jobs a minute and key before 429, and as many creates of speech at once; None for no limit."""
    batches_at_once: int = Field(default=5, ge=1)
    """Batches that may run at once before 429; the API's own number is published nowhere."""
    batch_result_keys: Literal["camel", "snake"] = "camel"
    """How the result file of a batch spells the keys of its lines."""
    retry_after: Literal["absent", "seconds", "date"] = "seconds"
    """How a 429 says when to come back."""
    unset_fields: Literal["null", "absent", "empty"] = "null"
    """How a generation shows a field that has no value."""
    error_code_name: Literal["errorCode", "error_code"] = "errorCode"
    """How a generation spells the code of its failure."""
    output_url_seconds: float = Field(default=3600.0, gt=0)
    """How long a signed URL holds on the sandbox's clock."""
    get_lag_seconds: float = Field(default=0.0, ge=0)
    """How long after its create the paths of one job answer 404, on the sandbox's clock."""
    list_lag_seconds: float = Field(default=0.0, ge=0)
    """How long after its create a job is missing from lists and counts, on the sandbox's clock."""
    list_oddities: tuple[ListOddity, ...] = ()
    """What is odd about `GET /v2/generations`, in any combination; the paths of one job stay as they are.

    - skip: a reading leaves out every third entry, and the next reading others: the first reading the newest,
      the second the one before it, the third the one before that, and so on in turns.
    - repeat: each entry stands there twice.
    - reverse: the oldest entry comes first, on the first page.
    - reversed_pages: the pages hold what they should, each with its oldest entry first.
    - short_pages: a page holds 20 entries at most, whatever the limit.
    - model_suffix: the model's name has a date behind it.
    - inputs_reordered: the inputs stand the other way round.
    - urls_rewritten: the inputs' URLs have another host.
    - no_created_at: there is no createdAt.
    - created_at_shifted: createdAt is ten minutes too early.
    """
    cost_seconds: float = Field(default=0.0, ge=0)
    """How long after a job's end its true cost is told, on the sandbox's clock."""
    cost_at_first: CostAtFirst = "pending"
    """What is told until then: no sum, a complete sum of 0, or half of it as partial."""
    usage_export: bool = True
    """Whether the organization has `GET /v2/usage/generations`; without it the path is unknown."""
    usage_lag_seconds: float = Field(default=0.0, ge=0)
    """How long after its end a job is missing from that export, on the sandbox's clock."""
    webhook_secret: str = Field(default="whsec_sandbox_0123456789abcdef", min_length=8)
    """The secret by which webhooks are signed."""
    webhook_origin: str | None = Field(
        default=None, pattern=r"^http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$"
    )
    """Where webhooks go, in place of the host that a job names, such as http://127.0.0.1:8000, with that host
    in their head; none are sent where it is null."""
    dialogue_rollout: Literal["on", "off", "unknown"] = "on"
    """Whether the organization has transcriptions and dialogue edits; unknown answers 503."""
    extra_models: tuple[str, ...] = ()
    """Models that this account has beside the known ones."""

    @property
    def limits(self) -> Plan:
        """What the plan allows."""
        plan = PLANS[self.plan]
        return plan if self.concurrency is None else replace(plan, concurrency=self.concurrency)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that a generation may name."""
        return (*FRAME_PRICES, *self.extra_models)

    def frame_price(self, model: str) -> Decimal:
        """Return the price of one frame of output in US dollars."""
        return FRAME_PRICES.get(model, DEFAULT_FRAME_PRICE)

    def with_changes(self, changes: dict[str, object]) -> "SandboxSettings":
        """Return these settings with some of them changed.

        Raises:
            pydantic.ValidationError: an unknown name or a value that cannot be.
        """
        return SandboxSettings.model_validate(self.model_dump() | changes)
