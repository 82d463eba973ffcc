"""What is known of the models beside the API's own list: prices, limits, and what each takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sync_mcp.api.estimate import PRICED_FPS


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model beside the API's own list (API §17, §18)."""

    usd_per_frame: Decimal
    """The price of the lowest plan: an estimate counts with it."""
    lowest_usd_per_second: Decimal
    """On the highest plan. Which of the others has which price is documented nowhere."""
    limits: str | None = None
    takes: str = "video"

    def usd_per_second(self, *, plan_is_known: bool) -> str:
        """Return the price of a second at 25 frames: one, or where the plan is not known from which to which.

        For a plan it is what an estimate comes to, so that no two tools tell two prices.
        """
        price = f"{(self.usd_per_frame * PRICED_FPS).normalize():f}"
        return price if plan_is_known else f"{self.lowest_usd_per_second}-{price}"


KNOWN_MODELS: Mapping[str, ModelFacts] = {
    "sync-3": ModelFacts(
        Decimal("0.00534"), Decimal("0.107"), "15 s on the free plan", takes="video or image"
    ),
    "lipsync-2": ModelFacts(Decimal("0.002"), Decimal("0.04"), "needs natural motion in the clip"),
    "lipsync-2-pro": ModelFacts(Decimal("0.00333"), Decimal("0.067"), "needs natural motion in the clip"),
    "lipsync-1.9.0-beta": ModelFacts(Decimal("0.001"), Decimal("0.02")),
    "react-1": ModelFacts(
        Decimal("0.00667"), Decimal("0.133"), "paid plans only; no active_speaker_detection"
    ),
}
