"""The run of estimate_cost: a price, and what a create would meet with."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from sync_mcp.api.checks import faults_of
from sync_mcp.api.estimate import PRICED_FPS
from sync_mcp.api.models import Generation, GenerationRequest, Text
from sync_mcp.api.option_matrix import options_to_refuse
from sync_mcp.errors import InvalidRequestError, NotVisibleYet, SyncError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import Foresight, PaidCall
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.price import Price
from sync_mcp.requests.input_files import InputFiles, find_gone_links
from sync_mcp.requests.model_facts import KNOWN_MODELS
from sync_mcp.requests.model_purposes import MODEL_PURPOSES
from sync_mcp.texts import ID_LIMIT, count_of, format_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_answers import EstimateAnswer
from sync_mcp.tools.generation_arguments import EstimateArguments, RequestArguments
from sync_mcp.tools.input_files import input_files
from sync_mcp.tools.limit_words import NOT_ROUND_IT, limit_message
from sync_mcp.tools.paid_calls import MEND_LINKS, approval_of, do_quotes_count, make_paid_call, notes_before
from sync_mcp.tools.question import ways_on
from sync_mcp.tools.requests import has_image, read_request
from sync_mcp.tools.withheld import say_no_video_is_made

logger = logging.getLogger("sync_mcp.tools")


async def estimate_cost(context: CallContext, arguments: EstimateArguments) -> EstimateAnswer:
    account = context.account
    request = await read_request(account, arguments)
    async with input_files(context, arguments.input, request) as files:
        act = GenerationAct.of(request)
        price = await context.process.guard.pricing.price(
            account.client,
            act,
            context.reading,
            hint_seconds=arguments.duration_seconds,
            fps=arguments.fps,
            files=files,
        )
        fault = price.fault or price.hint_fault
        if fault is not None and price.hint_usd is None:
            raise fault
        late = act.faults_at(price)
        if late:
            raise InvalidRequestError(late)
        gone = [] if files is None else files.gone
        if price.usd is None and files is None:
            gone = await find_gone_links(context.account, request, until=context.answer_at)
            price = _with_reasons(price, gone)
        told = notes_before(request, files)
        call = replace(make_paid_call(context, arguments, act, files, notes=told), token=None)
        foresight, unforeseen = await _foresee(context, call, price)
    usd, frames = price.usd, finite(price.frames)
    answer = EstimateAnswer(
        model=request.model,
        model_note=_model_note(arguments, request.model),
        cost_usd=None if usd is None else float(usd),
        hint_usd=None if price.hint_usd is None else float(price.hint_usd),
        frames=None if frames is None else round(frames),
        credits=finite(price.credits),
        assumptions=[
            *price.assumptions,
            *([price.note] if price.note else []),
            *_list_unseen(files),
            *([] if files is not None else _lengths_of_scripts(request)),
            *told,
            *unforeseen,
        ],
        next_step="",
    )
    if foresight is not None:
        tell_foresight(answer, foresight, price, request)
    if context.can_create or (foresight is not None and foresight.course != "new attempt"):
        nobody_agrees = approval_of(context).nobody_agrees
        answer.next_step = after_estimate(
            answer, foresight, can_ask=context.user.can_be_asked, nobody_agrees=nobody_agrees
        )
    else:
        # Nobody is asked about what cannot be made here.
        why = say_no_video_is_made(context.withheld)
        answer.asks, answer.next_step = None, f"Tell the user what it would cost. {why}"
    if gone and (foresight is None or foresight.course == "new attempt"):
        answer.next_step = MEND_LINKS
    return answer


def _model_note(arguments: RequestArguments, model: str) -> str | None:
    """Return what else could be taken, where the model was chosen here."""
    if arguments.model:
        return None
    fitting = [
        name
        for name in MODEL_PURPOSES
        if name != model and ("image" in KNOWN_MODELS[name].takes or not has_image(arguments))
    ]
    if not fitting:
        return "taken by default: no other takes an image"
    return f"taken by default; list_models tells what {', '.join(fitting)} are for"


def _with_reasons(price: Price, gone: Sequence[str]) -> Price:
    """Return a price whose note says which files cannot be had: that is the better reason for none."""
    kept = [price.note] if price.note and price.hint_usd is not None else []
    return replace(price, note="; ".join([*gone, *kept])) if gone else price


def _lengths_of_scripts(request: GenerationRequest) -> list[str]:
    """Return how long the scripts are, which make the output so long; beside files the price says it."""
    return [
        f"the script of input[{number}] has {count_of(len(item.script), 'character')}"
        for number, item in enumerate(request.input)
        if isinstance(item, Text)
    ]


def _list_unseen(files: InputFiles | None) -> list[str]:
    return [files.note_on_unseen] if files is not None and files.note_on_unseen else []


async def _foresee(
    context: CallContext, call: PaidCall[Generation], price: Price
) -> tuple[Foresight | None, list[str]]:
    """Return what a create would meet with, or why that cannot be told now."""
    has_input = bool(call.act.body["input"])
    if not has_input and price.hint_usd is not None:
        # There is nothing to pay for yet: the limits are told as they would be.
        price = replace(price, usd=price.hint_usd)
    try:
        foresight = await context.process.guard.foresee(
            call, price, wants_quote=has_input and do_quotes_count(context)
        )
    except SyncError as error:
        logger.warning("what a create would meet with is not known: %s", error)
        return None, [f"limits and consent could not be looked at ({error.code})"]
    return foresight, []


def tell_foresight(
    answer: EstimateAnswer, foresight: Foresight, price: Price, request: GenerationRequest
) -> None:
    """Put what a create would meet with into an estimate."""
    answer.quote_id = foresight.token
    if foresight.reasons:
        answer.asks = " ".join(reason.text for reason in foresight.reasons)
    if foresight.refusal is not None:
        answer.would_be_refused = limit_message(foresight.refusal)
        answer.would_fit = _what_fits(foresight, price, request)


def _what_fits(foresight: Foresight, price: Price, request: GenerationRequest) -> str | None:
    """Return which cheaper model, or which shorter length, the limits would let through."""
    usd, left = price.usd or price.hint_usd, foresight.most_usd
    if usd is None or left is None or usd <= left:
        return None
    own = KNOWN_MODELS.get(request.model)
    parts: list[str] = []
    if own is not None and not any(item.type == "image" for item in request.input):
        # A frame of each has its price: by it one model's price follows from another's.
        share = usd / own.usd_per_frame
        cheaper = {
            name: share * facts.usd_per_frame
            for name, facts in KNOWN_MODELS.items()
            if facts.usd_per_frame < own.usd_per_frame and _takes(name, request)
        }
        fitting = {name: cost for name, cost in cheaper.items() if cost <= left}
        if fitting:
            name = max(fitting, key=lambda name: fitting[name])
            parts.append(f"{name}, about {dollars(fitting[name])}")
    seconds = price.duration_seconds
    if seconds is None and price.frames is not None:
        seconds = price.frames / PRICED_FPS
    if seconds is not None:
        fits = float(left / usd) * seconds
        if fits >= 1:
            parts.append(f"at most {math.floor(fits * 10) / 10:g} s with {request.model}")
    return "; or ".join(parts) or None


def _takes(model: str, request: GenerationRequest) -> bool:
    """Return whether create would take a request with another model."""
    other = request.model_copy(update={"model": model})
    return not faults_of(other, for_price=True) and not options_to_refuse(other)


def after_estimate(
    answer: EstimateAnswer, foresight: Foresight | None, *, can_ask: bool, nobody_agrees: str | None
) -> str:
    """Return what can be done once a price is told.

    `nobody_agrees` is why nobody can agree to what must be asked about, where that is so.
    """
    if foresight is not None and foresight.course != "new attempt":
        return f"{_no_new_attempt(foresight)} Nothing was started."
    if answer.would_be_refused is not None:
        refusal = None if foresight is None else foresight.refusal
        whose = (
            "max_cost_usd is this call's own argument: raise it, or leave it out, only if they agree."
            if refusal is not None and refusal.limit == "max_cost_usd"
            else "only they can change a limit."
        )
        fits = "would_fit" if answer.would_fit else "what would fit"
        return (
            f"Nothing was started. Tell the user what stands against it; {whose} {NOT_ROUND_IT}: {fits} is "
            "theirs to choose."
        )
    if foresight is not None and foresight.reasons and nobody_agrees is not None:
        refused = f"Nothing was started, and create_generation would refuse it: {nobody_agrees}."
        return f"{refused} {ways_on(foresight.reasons) or 'Tell the user.'}"
    steps = [] if foresight is None or foresight.note is None else [foresight.note]
    if answer.cost_usd is None and answer.hint_usd is None:
        steps.append("The price is unknown: call estimate_cost again with duration_seconds, or ask the user.")
    else:
        steps.append("If the user agrees, call create_generation.")
    if answer.quote_id is not None:
        steps.append("Only with their agreement, add quote_id: it holds once, for ten minutes.")
    elif answer.asks is not None and can_ask:
        steps.append("The user is then asked by the host's own form.")
    return " ".join(steps)


def _no_new_attempt(foresight: Foresight) -> str:
    """Return what the same create does where it makes no new attempt."""
    failure = foresight.failure
    match foresight.course:
        case "was there":
            id = format_id(safe(foresight.job.id, ID_LIMIT)) if foresight.job else ""
            return (
                f"This is made already ({id}): create_generation with the same arguments gives it back, and "
                "nothing is paid."
            )
        case "in doubt":
            sent = (
                f"This was sent before, and its outcome is not known (ledger entry {foresight.ledger_id}): "
            )
            settles = f"The user can settle it: {ledger_command('show', str(foresight.ledger_id))}."
            if foresight.hindrance is not None:
                return (
                    f"{sent}create_generation with the same arguments looks for its job; it is not sent "
                    f"again, since {foresight.hindrance}. {settles}"
                )
            return (
                f"{sent}create_generation with the same arguments looks for its job first, and sends it only "
                f"where it is not there, under the same key: nothing is paid twice. {settles}"
            )
        case "under way":
            return (
                "Another call is sending this now: create_generation with the same arguments waits for it "
                "and gives its job back, and nothing is paid twice."
            )
        case _ if isinstance(failure, NotVisibleYet):
            return f"{failure.message} {failure.next_step}"
        case _:
            told = failure.next_step if failure else ""
            return f"This is made already, and nothing would be paid. {told}".rstrip()
