"""The tool for models: what each can take, and what it costs about."""

from collections.abc import Sequence

from sync_mcp.api.catalogue import ModelInfo
from sync_mcp.media.suitability import is_in_plan, plan_of
from sync_mcp.requests.model_facts import KNOWN_MODELS
from sync_mcp.requests.model_purposes import MODEL_PURPOSES
from sync_mcp.texts import clean, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import ModelRow, ModelsAnswer, ModelsArguments

_MOST_ROWS = 25
_NAME_LIMIT = 60
_TEXT_LIMIT = 120


async def list_models(context: CallContext, _: ModelsArguments) -> ModelsAnswer:
    listed = {model.name: model for model in await context.account.lists.models()}
    plan = plan_of(await context.account.lists.plan())
    known = [name for name in MODEL_PURPOSES if name in listed and is_in_plan(name, plan)]
    # What cannot be shown letter for letter cannot be named in a create either.
    others = [name for name in listed if name not in MODEL_PURPOSES and name == clean(name, _NAME_LIMIT)]
    rows = [_row(listed[name], plan_is_known=plan is not None) for name in [*known, *others][:_MOST_ROWS]]
    return ModelsAnswer(
        models=rows,
        note=_note(
            plan,
            beyond_plan=[name for name in MODEL_PURPOSES if not is_in_plan(name, plan)],
            lacking=[name for name in MODEL_PURPOSES if name not in listed and is_in_plan(name, plan)],
        ),
        next_step="estimate_cost tells the real price; create_generation takes one as model.",
    )


def _row(model: ModelInfo, *, plan_is_known: bool) -> ModelRow:
    facts = KNOWN_MODELS.get(model.name)
    told = safe(model.description or "", _TEXT_LIMIT)
    return ModelRow(
        model=model.name,
        purpose=MODEL_PURPOSES.get(model.name) or told or None,
        takes=facts.takes if facts else None,
        usd_per_second=facts.usd_per_second(plan_is_known=plan_is_known) if facts else None,
        limits=facts.limits if facts else None,
        deprecated=f"{model.deprecated_at:%Y-%m-%d}" if model.deprecated_at else None,
    )


def _note(plan: str | None, *, beyond_plan: Sequence[str], lacking: Sequence[str]) -> str:
    sentences = ["All speak audio or a text, or dub a video."]
    if plan is None:
        sentences.append(
            "Prices are for output of 25 frames per second, the lower ones on higher plans: this account's "
            "plan is not known."
        )
    else:
        sentences.append(
            "Prices are for output of 25 frames per second, as estimate_cost counts; the highest plans may "
            "pay less."
        )
    if beyond_plan:
        sentences.append(f"The {plan} plan does not include {', '.join(beyond_plan)}.")
    if lacking:
        sentences.append(f"This account's list lacks {', '.join(lacking)}.")
    return " ".join(sentences)
