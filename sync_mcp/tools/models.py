"""The tool for models: what each can take, and what it costs about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from sync_mcp.text import clean, safe
from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.backend import MODEL_PURPOSES, CallContext
from sync_mcp.tools.registry import READS, Tool, Tools

if TYPE_CHECKING:
    from sync_mcp.api.models import ModelInfo

_MOST_ROWS = 25
_NAME_LIMIT = 60
_TEXT_LIMIT = 120


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model beside the API's own list (API §17, §18)."""

    usd_per_second: str
    """From the highest plan to the lowest, at 25 frames per second."""
    limits: str | None = None
    takes: str = "video"


KNOWN_MODELS: Mapping[str, ModelFacts] = {
    "sync-3": ModelFacts("0.107-0.133", "15 s on the free plan", takes="video or image"),
    "lipsync-2": ModelFacts("0.04-0.05", "needs natural motion in the clip"),
    "lipsync-2-pro": ModelFacts("0.067-0.083", "needs natural motion in the clip"),
    "lipsync-1.9.0-beta": ModelFacts("0.02-0.025"),
    "react-1": ModelFacts("0.133-0.167", "paid plans only; no active_speaker_detection"),
}


class ModelsArguments(Arguments):
    """None: all models of the account are listed."""


class ModelRow(BaseModel):
    model: str
    purpose: str | None = None
    takes: str | None = None
    usd_per_second: str | None = None
    limits: str | None = None
    deprecated: str | None = None


class ModelsAnswer(Answer):
    models: list[ModelRow]
    note: str | None = None


async def _list_models(context: CallContext, _: ModelsArguments) -> ModelsAnswer:
    listed = {model.name: model for model in await context.backend.models()}
    known = [name for name in MODEL_PURPOSES if name in listed]
    # What cannot be shown letter for letter cannot be named in a create either.
    others = [name for name in listed if name not in MODEL_PURPOSES and name == clean(name, _NAME_LIMIT)]
    rows = [_row(listed[name]) for name in [*known, *others][:_MOST_ROWS]]
    return ModelsAnswer(
        models=rows,
        note=_note(lacking=[name for name in MODEL_PURPOSES if name not in listed]),
        next_step="estimate_cost tells the real price; create_generation takes one as model.",
    )


def _row(model: "ModelInfo") -> ModelRow:
    facts = KNOWN_MODELS.get(model.name)
    told = safe(model.description or "", _TEXT_LIMIT)
    return ModelRow(
        model=model.name,
        purpose=MODEL_PURPOSES.get(model.name) or told or None,
        takes=facts.takes if facts else None,
        usd_per_second=facts.usd_per_second if facts else None,
        limits=facts.limits if facts else None,
        deprecated=f"{model.deprecated_at:%Y-%m-%d}" if model.deprecated_at else None,
    )


def _note(*, lacking: Sequence[str]) -> str:
    sentences = [
        "All speak audio or a text, or dub a video.",
        "Prices are for output of 25 frames per second, the lower ones on higher plans.",
    ]
    if lacking:
        sentences.append(f"This account's list lacks {', '.join(lacking)}.")
    return " ".join(sentences)


TOOLS: Tools = (
    Tool(
        name="list_models",
        title="List models",
        description="What each of the account's models is for, takes, and costs about.",
        arguments=ModelsArguments,
        answer=ModelsAnswer,
        annotations=READS,
        run=_list_models,
    ),
)
