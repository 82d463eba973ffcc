"""The tools for generations: price, create, watch, list."""

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from sync_mcp.errors import (
    APITimeoutError,
    ApprovalRequired,
    InvalidRequestError,
    LedgerError,
    QuoteRefused,
    SyncError,
)
from sync_mcp.texts import clean, count_of, plain_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.approval import NOBODY_IS_ASKED, UserApproval, denial_of
from sync_mcp.tools.backend import ANSWER_SECONDS, MODEL_PURPOSES, Backend, CallContext
from sync_mcp.tools.generation_answers import (
    COPY_THE_ID,
    EstimateAnswer,
    GenerationAnswer,
    ListAnswer,
    WaitAnswer,
    after_estimate,
    explained_if_missing,
    fitting_rows,
    generation_answer,
    is_about_job,
    known_jobs,
    list_next_step,
    tell_foresight,
    unresolved_lines,
    unresolved_step,
    wait_answer,
)
from sync_mcp.tools.generation_arguments import (
    CreateArguments,
    EstimateArguments,
    GetArguments,
    InputItem,
    ListArguments,
    RequestArguments,
    WaitArguments,
)
from sync_mcp.tools.input_files import InputFiles, gone_links, input_files
from sync_mcp.tools.models import KNOWN_MODELS
from sync_mcp.tools.registry import CHANGES, READS, Tool, Tools
from sync_mcp.tools.withheld import READ_ONLY

if TYPE_CHECKING:
    from sync_mcp.api.models import Generation, GenerationRequest
    from sync_mcp.payments.call import Foresight, Made, Terms
    from sync_mcp.payments.pricing import Price
    from sync_mcp.payments.rows import Entry
    from sync_mcp.payments.wish import Token

_PROGRESS_SECONDS = 4.0
_PROGRESS_READ_SECONDS = 1.5
"""How long the answer of a wait is held up to say how far the jobs are."""
_FIRST_LOOK_SECONDS = 2.5
_STATUS_LIMIT = 40
_ID_LIMIT = 128
_REASON_LIMIT = 300
_SHOWN_ID = 40
_MOST_SHOWN = 8
_SENDING_SECONDS = 15.0
"""What is left of a call for the create itself, once the user has been asked."""

logger = logging.getLogger("sync_mcp.tools")


async def _create_generation(context: CallContext, arguments: CreateArguments) -> GenerationAnswer:
    backend = context.backend
    request = await _request(backend, arguments)
    wait_until = anyio.current_time() + arguments.wait_seconds
    async with input_files(context, arguments.input, request) as files:
        told = _told_before(request, files)
        gone: list[str] = []

        async def look_at_links() -> Sequence[str]:
            # Beside a local file they were looked at, and the price says it.
            gone[:] = await gone_links(context, request) if files is None else []
            return gone

        terms = _terms(context, arguments, files, notes=told, slot_until=wait_until)
        terms = replace(terms, approval=replace(_approval(context), doubts=look_at_links))
        await _check_answer(context, request, terms)
        try:
            made = await backend.guard.create(backend.client, request, None, terms)
        except ApprovalRequired as error:
            if gone:
                _tell_gone(error, gone)
            raise
    wait_seconds = max(0.0, wait_until - anyio.current_time())
    answer = await _accepted(context, made.generation, wait_seconds)
    # Who makes a job knows what it is about.
    answer.about = None
    answer.reused = made.reused or None
    if not made.reused:
        answer.created_at = None
    if made.price_usd is not None and answer.cost_usd is None:
        answer.estimated_cost_usd = float(made.price_usd)
    notes = [*_how_told(made), *made.notes]
    if made.price is not None and made.price.note:
        # Once it has the files, the API may price them by a length of its own.
        is_ours = made.price_usd in (None, made.price.usd)
        notes.append(f"Price: {made.price.note if is_ours else 'as the API measured the files'}.")
    if files is not None and files.unseen and not made.reused:
        notes.append(files.unseen)
    notes.extend(told)
    answer.note = " ".join(notes) or None
    return answer


def _tell_gone(error: ApprovalRequired, gone: Sequence[str]) -> None:
    """Tell the model, too, which files cannot be had."""
    error.message = f"{error.message} {'; '.join(gone)}."
    error.next_step = f"{_MEND_LINKS} If the user says that it is there all the same: {error.next_step}"


def _how_told(made: "Made") -> Iterator[str]:
    from sync_mcp.payments.limits import dollars

    if made.how == "was there":
        yield "The same call made this job before: nothing new was made or paid."
    elif made.how == "found":
        yield "The answer to an earlier send was lost, and this is its job: nothing new was made or paid."
    elif made.how == "sent now":
        price = "" if made.price_usd is None else f", for about {dollars(made.price_usd)}"
        yield f"The first send had not arrived; it was sent now{price}."


def _terms(
    context: CallContext,
    arguments: CreateArguments | EstimateArguments,
    files: InputFiles | None,
    *,
    notes: Sequence[str],
    slot_until: float = -math.inf,
) -> "Terms":
    from sync_mcp.payments.call import Terms

    backend = context.backend
    return Terms(
        take=arguments.take,
        max_cost_usd=arguments.max_cost_usd,
        duration_seconds=arguments.duration_seconds,
        files=files,
        token=_token(context, arguments.quote_id),
        approval=_approval(context),
        webhook_hosts=backend.webhook_hosts,
        refuses_late_segments=True,
        notes=notes,
        voice_names=backend.voice_names,
        on_begin=context.payment.begin,
        slot_until=slot_until,
        ends_at=context.answer_at,
        caller=context.caller,
    )


def _approval(context: CallContext) -> UserApproval:
    backend = context.backend
    return UserApproval(
        context.user,
        backend.approve_above_usd,
        backend.approve_by,
        seconds_left=lambda: context.seconds_left - _SENDING_SECONDS,
    )


def _token(context: CallContext, quote_id: str | None) -> "Token | None":
    """Return what the user agreed by: a question of the host's that came back, or a quote.

    Where forms are switched off no answer to one counts, whichever it is: another server may have put it.
    """
    from sync_mcp.payments.wish import Token

    if context.user.choice is not None and context.backend.approve_by != "quote":
        return Token(context.user.question_id, "question")
    return None if quote_id is None else Token(quote_id)


async def _check_answer(context: CallContext, request: "GenerationRequest", terms: "Terms") -> None:
    """Check what came with a call as the user's yes.

    Raises:
        ApprovalDenied: the user was asked by the host, and did not agree: then no quote of it holds any more.
        QuoteRefused: the host asks the user by itself, or no quote counts on this server.
    """
    backend, said = context.backend, context.user.choice
    if said is not None and backend.approve_by != "quote":
        denied = denial_of(said, await backend.guard.question_age(context.user.question_id, terms.caller))
        if denied is not None:
            if denied.is_the_users:
                await backend.guard.revoke(backend.client, request, terms)
            raise denied
    if terms.token is not None and backend.approve_above_usd is None:
        raise QuoteRefused(
            f"No quote is taken: {NOBODY_IS_ASKED}.",
            next_step=(
                "Make the same call without quote_id: no price is asked about here. What must be asked "
                "about whatever the price is refused, and the refusal says what the user can do."
            ),
        )
    if said is None and terms.token is not None and not _quotes_count(context):
        why = (
            "on this server only the user's own answer counts (SYNC_MCP_APPROVE_BY=user)"
            if backend.approve_by == "user"
            else "this host asks the user by itself"
        )
        counts = (
            "Make the same call without quote_id: where the user has to agree, the host asks them."
            if context.user.can_be_asked
            else "This host cannot ask the user: tell them to use a host with elicitation, or to change "
            "SYNC_MCP_APPROVE_BY in the server's settings."
        )
        raise QuoteRefused(f"No quote is taken: {why}.", next_step=counts)


def _quotes_count(context: CallContext) -> bool:
    """Return whether a quote can stand for the user's yes."""
    by = context.backend.approve_by
    if context.backend.approve_above_usd is None or not context.backend.can_create:
        return False
    return by == "quote" or (by == "ask" and not context.user.can_be_asked)


async def _accepted(context: CallContext, generation: "Generation", wait_seconds: float) -> GenerationAnswer:
    # The job is accepted: whatever happens to the wait, the answer is its handle.
    if wait_seconds:
        try:
            generation = await _wait(context, generation.id, wait_seconds, generation)
        except Exception as error:  # noqa: BLE001 - no fault here may hide what was paid for
            reason = safe(repr(error), _REASON_LIMIT)
            logger.warning("the wait for generation %s ended: %s", clean(generation.id, _ID_LIMIT), reason)
    return await generation_answer(context, generation)


async def _get_generation(context: CallContext, arguments: GetArguments) -> GenerationAnswer:
    async with explained_if_missing(context, arguments.generation_id):
        generation = await _wait(context, arguments.generation_id.strip(), arguments.wait_seconds, None)
    return await generation_answer(context, generation)


async def _wait_for_generations(context: CallContext, arguments: WaitArguments) -> WaitAnswer:
    ids = list(dict.fromkeys(id.strip() for id in arguments.generation_ids))
    malformed = [f"{clean(id, _SHOWN_ID)!r}" for id in ids if not plain_id(id)]
    if malformed:
        more = f" and {len(malformed) - _MOST_SHOWN} more" if len(malformed) > _MOST_SHOWN else ""
        error = InvalidRequestError(
            f"generation_ids: {', '.join(malformed[:_MOST_SHOWN])}{more} cannot be an id, which has letters, "
            "digits, _ and - only: copy it whole from list_generations or create_generation."
        )
        error.next_step = COPY_THE_ID
        raise error
    watch = _ManyWatch(context, len(ids))

    async def wait(seconds: float) -> None:
        watch.outcomes = await context.backend.watcher.wait_for_many(
            ids, seconds, until=arguments.until, on_news=watch.note
        )

    await _reporting(context, arguments.wait_seconds, watch.report, wait, lambda: bool(watch.outcomes))
    outcomes = watch.outcomes
    if not outcomes:
        raise APITimeoutError(f"The API did not answer in {arguments.wait_seconds:.0f} s.")
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, SyncError)]
    if len(failures) == len(ids) and not any(map(is_about_job, failures)):
        # What stands in the way of all of them is no matter of the jobs.
        raise failures[0]
    known = await known_jobs(context, [job for job in outcomes.values() if not isinstance(job, SyncError)])
    progress = await _progress(context, outcomes)
    can_save = context.backend.can_save
    answer = wait_answer(ids, outcomes, known, progress, wants_urls=arguments.urls, can_save=can_save)
    for row in answer.generations:
        context.backend.outputs.note(row.output_url)
    if len(ids) < len(arguments.generation_ids):
        answer.next_step += " Ids given more than once are told once."
    return answer


async def _progress(
    context: CallContext, outcomes: "Mapping[str, Generation | SyncError]"
) -> Mapping[str, float]:
    """Return how far the jobs are that run still, by their ids, as far as the API tells it at once."""
    running = [job for job in outcomes.values() if not isinstance(job, SyncError) and not job.finished]
    told = {job.id: job.progress_percent for job in running if job.progress_percent is not None}
    asked = [job.id for job in running if job.id not in told and job.status != "PENDING"]
    if asked and not context.backend.stopping.is_set():
        seconds = min(_PROGRESS_READ_SECONDS, max(0.0, context.seconds_left - ANSWER_SECONDS))
        told |= await context.backend.watcher.progress_of(asked, seconds)
    return told


async def _list_generations(context: CallContext, arguments: ListArguments) -> ListAnswer:
    unresolved, ledger_fault = ([], None) if arguments.cursor else await _unresolved(context)
    # One row more than is shown tells whether there is a next page, without a second request.
    try:
        page = await context.backend.client.generations.list(
            status=arguments.status,
            project_id=arguments.project_id,
            limit=arguments.limit + 1,
            cursor=arguments.cursor,
            request_options=context.reading,
        )
    except SyncError as error:
        if not unresolved:
            raise
        # What may have been paid for is told by the ledger, above all when the API tells nothing.
        return ListAnswer(
            unresolved=unresolved_lines(unresolved),
            generations=[],
            next_step=(
                f"The API's list cannot be read now ({error.code}): call list_generations again in a "
                f"while. {unresolved_step(len(unresolved))}"
            ),
        )
    rows = fitting_rows(page[: arguments.limit], await known_jobs(context, page[: arguments.limit]))
    more = len(page) > len(rows) or len(page) + page.unreadable > arguments.limit
    # What is no id is text of a stranger's.
    cursor = (plain_id(page[len(rows) - 1].id) or None) if rows and more else None
    return ListAnswer(
        unresolved=unresolved_lines(unresolved),
        generations=rows,
        next_cursor=cursor,
        next_step=list_next_step(
            rows,
            cursor=cursor,
            narrowed=bool(arguments.status or arguments.project_id or arguments.cursor),
            unreadable=page.unreadable,
            unresolved=len(unresolved),
            ledger_fault=ledger_fault,
        ),
        note=f"What is unresolved cannot be told: {ledger_fault.message}" if ledger_fault else None,
    )


async def _unresolved(context: CallContext) -> "tuple[list[Entry], LedgerError | None]":
    try:
        return await context.backend.guard.unresolved(context.backend.client), None
    except LedgerError as error:
        # The list is the way to see what there is, above all when the ledger is broken.
        return [], error


async def _estimate_cost(context: CallContext, arguments: EstimateArguments) -> EstimateAnswer:
    backend = context.backend
    request = await _request(backend, arguments)
    async with input_files(context, arguments.input, request) as files:
        price = await backend.guard.pricing.price(
            backend.client,
            request,
            arguments.duration_seconds,
            context.reading,
            files=files,
            fps=arguments.fps,
        )
        fault = price.fault or price.hint_fault
        if fault is not None and price.hint_usd is None:
            raise fault
        late = price.segments_past_end(request)
        if late:
            raise InvalidRequestError(late)
        gone = [] if files is None else files.gone
        if price.usd is None and files is None:
            gone = await gone_links(context, request)
            price = _with_reasons(price, gone)
        told = _told_before(request, files)
        terms = _terms(context, arguments, files, notes=told)
        foresight, unforeseen = await _foreseen(context, request, replace(terms, token=None), price)
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
            *_unseen(files),
            *([] if files is not None else _lengths_of_scripts(request)),
            *told,
            *unforeseen,
        ],
        next_step="",
    )
    if foresight is not None:
        tell_foresight(answer, foresight, price, request)
    if backend.can_create or (foresight is not None and foresight.course != "new attempt"):
        nobody_agrees = _approval(context).nobody_agrees
        answer.next_step = after_estimate(
            answer, foresight, can_ask=context.user.can_be_asked, nobody_agrees=nobody_agrees
        )
    else:
        # Nobody is asked about what cannot be made here.
        answer.asks, answer.next_step = None, f"Tell the user what it would cost. {READ_ONLY}"
    if gone and (foresight is None or foresight.course == "new attempt"):
        answer.next_step = _MEND_LINKS
    return answer


def _with_reasons(price: "Price", gone: Sequence[str]) -> "Price":
    """Return a price whose note says which files cannot be had: that is the better reason for none."""
    kept = [price.note] if price.note and price.hint_usd is not None else []
    return replace(price, note="; ".join([*gone, *kept])) if gone else price


def _told_before(request: "GenerationRequest", files: InputFiles | None) -> list[str]:
    """Return what is told before a request is paid for: options that do nothing, and what its files are."""
    from sync_mcp.api.option_matrix import find_ignored_options

    ignored = [option.sentence for option in find_ignored_options(request)]
    return [*ignored, *(files.notes if files is not None else ())]


def _lengths_of_scripts(request: "GenerationRequest") -> list[str]:
    """Return how long the scripts are, which make the output so long; beside files the price says it."""
    from sync_mcp.api.models import Text

    return [
        f"the script of input[{number}] has {count_of(len(item.script), 'character')}"
        for number, item in enumerate(request.input)
        if isinstance(item, Text)
    ]


def _unseen(files: InputFiles | None) -> list[str]:
    return [files.unseen] if files is not None and files.unseen else []


async def _foreseen(
    context: CallContext, request: "GenerationRequest", terms: "Terms", price: "Price"
) -> "tuple[Foresight | None, list[str]]":
    """Return what a create would meet with, or why that cannot be told now."""
    backend = context.backend
    if not request.input and price.hint_usd is not None:
        # There is nothing to pay for yet: the limits are told as they would be.
        price = replace(price, usd=price.hint_usd)
    try:
        foresight = await backend.guard.foresee(
            backend.client, request, terms, price, wants_quote=_quotes_count(context)
        )
    except SyncError as error:
        logger.warning("what a create would meet with is not known: %s", error)
        return None, [f"limits and consent could not be looked at ({error.code})"]
    return foresight, []


async def _request(backend: Backend, arguments: RequestArguments) -> "GenerationRequest":
    """Return what is to be made or priced."""
    # Imported by the first call: serving tools/list does not need the wire models.
    from sync_mcp.api import models
    from sync_mcp.api.checks import faults_of, faults_without_input
    from sync_mcp.api.fields import REQUEST

    model = _chosen_model(arguments)
    fields = arguments.model_dump(exclude_none=True, include=set(REQUEST))
    faults = [fault for number, item in enumerate(arguments.input) for fault in _misplaced(item, number)]
    told: set[str] = set()
    for number, item in enumerate(fields["input"]):
        place = f"input[{number}]"
        faults.extend(await _faults_of_places(backend, item, place))
        has_file = item.pop("path", None) is not None
        if item["type"] != "text" and not (has_file or item.get("url") or item.get("asset_id")):
            faults.append(f"{place} ({item['type']}) has no path, url or asset_id: {_GIVE_A_FILE}")
            told.add(place)
        if has_file:
            # What it holds is read once all else is known to be right.
            told.add(place)
    for name, language_faults in _put_languages(fields.get("dub", {})):
        faults.extend(language_faults)
        told.add(f"dub.{name}")
    given = models.GenerationRequest.model_validate({**fields, "model": model})
    prices_alone = isinstance(arguments, EstimateArguments) and not given.input
    of_request = faults_without_input if prices_alone else faults_of
    faults += [
        *of_request(given, told=told),
        *_faults_of_options(given),
        *await _faults_of_boxes(backend, given),
    ]
    model_faults = await backend.model_faults(model)
    # Voices are looked for once all else is right: the list is long.
    voice_faults = [] if faults or model_faults else await _put_voices(backend, given)
    if faults or model_faults or voice_faults:
        raise _invalid(faults + model_faults + voice_faults, arguments, is_model=bool(model_faults))
    return given


def _invalid(faults: list[str], arguments: RequestArguments, *, is_model: bool) -> InvalidRequestError:
    """Return the error of a request that cannot be; its step names who helps with what is missing."""
    error = InvalidRequestError(faults)
    if any(item.type == "text" and not (item.voice_id or "").strip() for item in arguments.input):
        error.next_step = "Call list_voices, and give one of its voice_id."
    elif is_model and len(faults) == 1:
        error.next_step = "Take one of these models; list_models says what each is for."
    return error


_GIVE_A_FILE = "give path, a file on the user's disk, or a public url."


def _faults_of_options(request: "GenerationRequest") -> Iterator[str]:
    """Yield the options without which another video would be made and paid than the one asked for."""
    from sync_mcp.api.estimate import PRICED_FPS
    from sync_mcp.api.option_matrix import options_to_refuse
    from sync_mcp.payments.limits import dollars

    for option in options_to_refuse(request):
        price = dollars(KNOWN_MODELS[_REACTING].usd_per_frame * PRICED_FPS)
        yield f"{option.sentence} Leave it out, or take {_REACTING}, about {price} a second."


_REACTING = "react-1"
_MEND_LINKS = (
    "Nothing was started, and the job would most likely fail: tell the user what is wrong with the file. "
    "Give a URL that anybody can fetch, or the file as path; do not guess its length."
)
_TEXT_FIELDS = ("script", "voice_id", "stability", "similarity_boost")
_FILE_FIELDS = ("url", "path", "asset_id")


def _misplaced(item: InputItem, number: int) -> Iterator[str]:
    foreign = _FILE_FIELDS if item.type == "text" else _TEXT_FIELDS
    for name in foreign:
        if getattr(item, name) is not None:
            yield f"input[{number}] ({item.type}) does not take {name}."
    if item.type != "text" and item.path is not None and (item.url or item.asset_id):
        yield f"input[{number}] has path and {'url' if item.url else 'asset_id'}: give one of them."


async def _faults_of_places(backend: Backend, item: Mapping[str, str], place: str) -> list[str]:
    """Return what is wrong with where an item lies, as far as its letters tell."""
    faults: list[str] = []
    asset_id, url = item.get("asset_id"), item.get("url")
    if asset_id is not None and not plain_id(asset_id.strip()):
        faults.append(
            f"{place}.asset_id {clean(asset_id, _SHOWN_ID)!r} can be no id: copy it from upload_asset, or "
            "give a local file as path, and what is on the web as url."
        )
    fault = None if url is None else await backend.url_fault(url, f"{place}.url")
    return faults if fault is None else [*faults, fault]


async def _faults_of_boxes(backend: Backend, request: "GenerationRequest") -> list[str]:
    """Return what is wrong with where the file lies that tells who speaks, as far as its letters tell."""
    speaker = request.options.active_speaker_detection if request.options is not None else None
    url = speaker.bounding_boxes_url if speaker is not None else None
    if url is None:
        return []
    place = "options.active_speaker_detection.bounding_boxes_url"
    fault = await backend.url_fault(url, place, takes_path=False)
    return [] if fault is None else [fault]


async def _put_voices(backend: Backend, request: "GenerationRequest") -> list[str]:
    """Put the ids of voices in place of their names; return what is wrong with those that are none."""
    from sync_mcp.api.models import Text

    texts = {number: item for number, item in enumerate(request.input) if isinstance(item, Text)}
    found = await backend.find_voices(item.voice_id for item in texts.values())
    faults: list[str] = []
    for number, item in texts.items():
        item.voice_id, fault = found[item.voice_id]
        faults.extend([] if fault is None else [f"input[{number}].voice_id {fault}"])
    return faults


def _put_languages(dub: dict[str, str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Put the codes of the languages of a dub in place of their names; yield which are none, and why."""
    from sync_mcp.api.languages import language_code

    for name in dub:
        try:
            dub[name] = language_code(dub[name], source=name == "source_lang")
        except InvalidRequestError as error:
            yield name, error.faults


def _chosen_model(arguments: RequestArguments) -> str:
    if arguments.model:
        return arguments.model.strip()
    return "sync-3" if _has_image(arguments) else "lipsync-2"


def _has_image(arguments: RequestArguments) -> bool:
    return any(item.type == "image" for item in arguments.input)


def _model_note(arguments: RequestArguments, model: str) -> str | None:
    """Return what else could be taken, where the model was chosen here."""
    if arguments.model:
        return None
    fitting = [
        name
        for name in MODEL_PURPOSES
        if name != model and ("image" in KNOWN_MODELS[name].takes or not _has_image(arguments))
    ]
    if not fitting:
        return "taken by default: no other takes an image"
    return f"taken by default; list_models tells what {', '.join(fitting)} are for"


async def _wait(
    context: CallContext, generation_id: str, seconds: float, known: "Generation | None"
) -> "Generation":
    """Return the job at its end, or as it is after `seconds`, reporting progress meanwhile."""
    backend = context.backend
    if not seconds:
        return await backend.client.generations.get(generation_id, request_options=context.reading)
    watch = _Watch(context, known)

    async def wait(seconds: float) -> None:
        watch.latest = await backend.watcher.wait(generation_id, seconds, on_update=watch.note, known=known)

    await _reporting(context, seconds, watch.report, wait, lambda: watch.latest is not None)
    if watch.latest is None:
        raise APITimeoutError(f"The API did not answer in {seconds:.0f} s.")
    return watch.latest


async def _reporting(
    context: CallContext,
    seconds: float,
    report: Callable[[], Coroutine[Any, Any, None]],
    wait: Callable[[float], Awaitable[None]],
    knows: Callable[[], bool],
) -> None:
    """Await `wait` with the seconds that it has, and `report` meanwhile; it ends early with the server.

    `knows` says whether there is something to answer with.
    """
    seconds = min(seconds, max(0.0, context.seconds_left - ANSWER_SECONDS))
    # Where many jobs are waited for, one that joins is looked at with the next tick.
    longest = min(
        max(seconds, _FIRST_LOOK_SECONDS) + ANSWER_SECONDS / 2, context.seconds_left - ANSWER_SECONDS / 2
    )
    failure: SyncError | None = None
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(report)
        try:
            # The API's last answer may come a little late; what is known by then is answer enough.
            with anyio.move_on_after(longest) as waiting:
                task_group.start_soon(_end_with_the_server, context.backend, waiting, knows)
                await wait(seconds)
        except SyncError as error:
            failure = error
        task_group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _end_with_the_server(
    backend: Backend, waiting: anyio.CancelScope, knows: Callable[[], bool]
) -> None:
    await backend.stopping.wait()
    longest = 0.0 if knows() else _FIRST_LOOK_SECONDS
    waiting.deadline = min(waiting.deadline, anyio.current_time() + longest)


class _Watch:
    """The latest state of a job that is waited for, told to the client every few seconds."""

    def __init__(self, context: CallContext, known: "Generation | None") -> None:
        self._context = context
        self._started_at = anyio.current_time()
        self.latest = known

    async def note(self, generation: "Generation") -> None:
        self.latest = generation

    async def report(self) -> None:
        while True:
            elapsed = anyio.current_time() - self._started_at
            await self._context.report_progress(self._line(elapsed))
            await anyio.sleep(_PROGRESS_SECONDS)

    def _line(self, elapsed: float) -> str:
        status = clean(self.latest.status, _STATUS_LIMIT) if self.latest else "asking"
        percent = finite(self.latest.progress_percent) if self.latest else None
        share = "" if percent is None else f", {percent:.0f} %"
        return f"{status}{share}, {elapsed:.0f} s waited"


class _ManyWatch:
    """How the jobs are that are waited for; how many have ended is told to the client as they do."""

    def __init__(self, context: CallContext, total: int) -> None:
        self._context = context
        self._started_at = anyio.current_time()
        self._total = total
        self._ended = 0
        self._another_ended = anyio.Event()
        self.outcomes: Mapping[str, Generation | SyncError] = {}

    async def note(self, outcomes: "Mapping[str, Generation | SyncError]") -> None:
        self.outcomes = outcomes
        ended = sum(isinstance(outcome, SyncError) or outcome.finished for outcome in outcomes.values())
        if ended > self._ended:
            self._ended = ended
            self._another_ended.set()

    async def report(self) -> None:
        while True:
            self._another_ended = anyio.Event()
            elapsed = anyio.current_time() - self._started_at
            await self._context.report_progress(
                f"{self._ended} of {self._total} ended, {elapsed:.0f} s waited"
            )
            with anyio.move_on_after(_PROGRESS_SECONDS):
                await self._another_ended.wait()


TOOLS: Tools = (
    Tool(
        name="create_generation",
        title="Create a lip-sync video",
        description=(
            "Start a paid job, which cannot be cancelled: the speaker of a video or image says a recording "
            "or a script, or a video is dubbed. First estimate_cost, and let the user agree. Returns the "
            "generation_id, or the finished job if it ends within wait_seconds; then get_generation. "
            "The same call again returns the same job; after a failure it makes a new attempt."
        ),
        arguments=CreateArguments,
        answer=GenerationAnswer,
        annotations=CHANGES,
        run=_create_generation,
        paid=True,
    ),
    Tool(
        name="get_generation",
        title="Get a lip-sync video",
        description=(
            "State of one job: its output URL when COMPLETED; what went wrong and what to change when it "
            "failed. wait_seconds waits for the end."
        ),
        arguments=GetArguments,
        answer=GenerationAnswer,
        annotations=READS,
        run=_get_generation,
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="wait_for_generations",
        title="Wait for jobs",
        description="Wait for several jobs.",
        arguments=WaitArguments,
        answer=WaitAnswer,
        annotations=READS,
        run=_wait_for_generations,
        other_names={"ids": "generation_ids", "generation_id": "generation_ids"},
    ),
    Tool(
        name="list_generations",
        title="List lip-sync videos",
        description="The account's jobs, newest first, a page of short rows.",
        arguments=ListArguments,
        answer=ListAnswer,
        annotations=READS,
        run=_list_generations,
    ),
    Tool(
        name="estimate_cost",
        title="Estimate the cost",
        description=(
            "What create_generation would cost with the same arguments, and what was assumed. Free, and "
            "starts nothing."
        ),
        description_alone="What a video of these arguments would cost, and what was assumed. Free.",
        arguments=EstimateArguments,
        answer=EstimateAnswer,
        annotations=READS,
        run=_estimate_cost,
        arguments_told_by="create_generation",
        arguments_outlined=("input",),
    ),
)
