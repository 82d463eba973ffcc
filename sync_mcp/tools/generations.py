"""The tools for generations: price, create, watch, list."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio

from sync_mcp.errors import (
    APITimeoutError,
    InvalidRequestError,
    LedgerError,
    NotFoundError,
    QuoteRefused,
    SyncError,
)
from sync_mcp.text import clean, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.approval import UserApproval, check_choice
from sync_mcp.tools.backend import ANSWER_SECONDS, MODEL_PURPOSES, Backend, CallContext
from sync_mcp.tools.generation_answers import (
    EstimateAnswer,
    GenerationAnswer,
    ListAnswer,
    WaitAnswer,
    fitting_rows,
    generation_answer,
    is_no_job,
    list_next_step,
    unresolved_lines,
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
from sync_mcp.tools.input_files import InputFiles, input_files
from sync_mcp.tools.registry import CHANGES, READS, Tool, Tools

if TYPE_CHECKING:
    from sync_mcp.api.models import CostEstimate, Generation, GenerationRequest
    from sync_mcp.jobs.ledger import Entry

_PROGRESS_SECONDS = 4.0
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
    from sync_mcp.jobs.guard import Terms

    backend = context.backend
    request, model_note = await _request(backend, arguments)
    wait_until = anyio.current_time() + arguments.wait_seconds
    async with input_files(context, arguments.input, request) as files:
        terms = Terms(
            take=arguments.take,
            max_cost_usd=arguments.max_cost_usd,
            duration_seconds=arguments.duration_seconds,
            files=files,
            quote_id=_quote_id(context, arguments),
            approval=_approval(context),
            slot_until=wait_until,
            ends_at=context.answer_at,
        )
        made = await backend.guard.create(backend.client, request, None, terms)
    wait_seconds = max(0.0, wait_until - anyio.current_time())
    answer = await _accepted(context, made.generation, wait_seconds)
    answer.model_note = model_note
    answer.reused = made.reused or None
    if made.price is not None and made.price.usd is not None:
        answer.estimated_cost_usd = float(made.price.usd)
    notes = [*made.notes]
    if made.reused:
        notes.insert(0, "The same call made this job before: nothing new was made or paid.")
    elif made.price is not None and made.price.note:
        notes.append(f"Price: {made.price.note}")
    if files is not None and files.unseen and not made.reused:
        notes.append(files.unseen)
    answer.note = " ".join(notes) or None
    return answer


def _quote_id(context: CallContext, arguments: CreateArguments) -> str | None:
    """Return the quote that this call goes ahead with, if any.

    Raises:
        ApprovalDenied: the user was asked, and did not agree.
        QuoteRefused: quotes do not count on this server.
    """
    user = context.user
    if user.choice is not None:
        check_choice(user.choice)
        return user.quote_id
    if arguments.quote_id is not None and context.backend.approve_by == "user":
        raise QuoteRefused("On this server only the user's own answer counts (SYNC_MCP_APPROVE_BY=user).")
    return arguments.quote_id


def _approval(context: CallContext) -> UserApproval | None:
    backend = context.backend
    if backend.approve_above_usd is None:
        return None
    return UserApproval(
        context.user,
        backend.approve_above_usd,
        backend.approve_by,
        seconds_left=lambda: context.seconds_left - _SENDING_SECONDS,
    )


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
    try:
        generation = await _wait(context, arguments.generation_id.strip(), arguments.wait_seconds, None)
    except NotFoundError as error:
        error.next_step = "Copy the whole generation_id from create_generation or list_generations."
        raise
    return await generation_answer(context, generation)


async def _wait_for_generations(context: CallContext, arguments: WaitArguments) -> WaitAnswer:
    from sync_mcp.api.models import GENERATION_ID

    ids = list(dict.fromkeys(id.strip() for id in arguments.generation_ids))
    malformed = [f"{clean(id, _SHOWN_ID)!r}" for id in ids if not GENERATION_ID.fullmatch(id)]
    if malformed:
        more = f" and {len(malformed) - _MOST_SHOWN} more" if len(malformed) > _MOST_SHOWN else ""
        raise InvalidRequestError(
            f"generation_ids: {', '.join(malformed[:_MOST_SHOWN])}{more} cannot be an id, which has letters, "
            "digits, _ and - only: copy it whole from create_generation or list_generations."
        )
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
    if len(failures) == len(ids) and not any(map(is_no_job, failures)):
        # What stands in the way of all of them is no matter of the jobs.
        raise failures[0]
    answer = wait_answer(ids, outcomes)
    if len(ids) < len(arguments.generation_ids):
        answer.next_step += " Ids given more than once are told once."
    return answer


async def _list_generations(context: CallContext, arguments: ListArguments) -> ListAnswer:
    from sync_mcp.api.models import GENERATION_ID

    # One row more than is shown tells whether there is a next page, without a second request.
    page = await context.backend.client.generations.list(
        status=arguments.status,
        project_id=arguments.project_id,
        limit=arguments.limit + 1,
        cursor=arguments.cursor,
        request_options=context.reading,
    )
    unresolved, ledger_fault = ([], None) if arguments.cursor else await _unresolved(context)
    rows = fitting_rows(page[: arguments.limit])
    more = len(page) > len(rows) or len(page) + page.unreadable > arguments.limit
    cursor = page[len(rows) - 1].id if rows and more else None
    # What is no id is text of a stranger's.
    cursor = cursor if cursor and GENERATION_ID.fullmatch(cursor) else None
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
    )


async def _unresolved(context: CallContext) -> "tuple[list[Entry], LedgerError | None]":
    try:
        return await context.backend.guard.unresolved(context.backend.client), None
    except LedgerError as error:
        # The list is the way to see what there is, above all when the ledger is broken.
        return [], error


async def _estimate_cost(context: CallContext, arguments: EstimateArguments) -> EstimateAnswer:
    backend = context.backend
    request, model_note = await _request(backend, arguments)
    async with input_files(context, arguments.input, request) as files:
        cost = await _estimated(context, arguments, request, files)
    usd, frames = cost.estimated_generation_cost, finite(cost.estimated_frame_count)
    quote_id = await _quote(backend, request, usd, arguments.take)
    return EstimateAnswer(
        model=request.model,
        model_note=model_note,
        cost_usd=None if usd is None else float(usd),
        frames=None if frames is None else round(frames),
        credits=finite(cost.estimated_credits),
        quote_id=quote_id,
        assumptions=cost.assumptions,
        next_step=_after_estimate(usd, quote_id),
    )


async def _estimated(
    context: CallContext,
    arguments: EstimateArguments,
    request: "GenerationRequest",
    files: InputFiles | None,
) -> "CostEstimate":
    """Price a request; nothing of what is still on this machine is sent."""
    backend = context.backend
    if files is None:
        return await backend.client.generations.estimate_request(
            request,
            duration_seconds=arguments.duration_seconds,
            fps=arguments.fps,
            request_options=context.reading,
        )
    from sync_mcp.api.estimate import PRICED_FPS
    from sync_mcp.api.models import CostEstimate

    files.fps = arguments.fps or files.fps
    price = await backend.guard.price(
        backend.client, request, arguments.duration_seconds, context.reading, files=files
    )
    seconds = price.duration_seconds
    return CostEstimate(
        estimated_generation_cost=price.usd,
        estimated_frame_count=None if seconds is None else max(1, round(seconds * (files.fps or PRICED_FPS))),
        assumptions=[text for text in (price.note, files.unseen) if text],
    )


async def _quote(
    backend: Backend, request: "GenerationRequest", usd: Decimal | None, take: int
) -> str | None:
    """Return a quote where create_generation would ask for one."""
    from sync_mcp.jobs.limits import reason_to_ask

    above = backend.approve_above_usd
    if above is None or backend.approve_by == "user" or reason_to_ask(usd, above, take=take) is None:
        return None
    from sync_mcp.jobs.guard import Price

    return await backend.guard.quote(backend.client, request, Price(usd), take=take)


def _after_estimate(usd: Decimal | None, quote_id: str | None) -> str:
    if usd is None:
        steps = ["The price is unknown: call estimate_cost again with duration_seconds, or ask the user."]
    else:
        steps = [
            "Nothing was started. If the user agrees to the price, call create_generation with the same "
            "arguments."
        ]
    if quote_id is not None:
        steps.append("Only with their agreement, add quote_id: it holds once, for ten minutes.")
    return " ".join(steps)


async def _request(backend: Backend, arguments: RequestArguments) -> "tuple[GenerationRequest, str | None]":
    """Return what is to be made or priced, and a note where the model was chosen here."""
    # Imported by the first call: serving tools/list does not need the wire models.
    from sync_mcp.api import models
    from sync_mcp.api.checks import faults_of
    from sync_mcp.jobs.files import content_id, is_content_id

    model, note = _chosen_model(arguments)
    fields = arguments.model_dump(exclude_none=True, exclude=_BESIDE_THE_REQUEST)
    faults = [fault for number, item in enumerate(arguments.input) for fault in _misplaced(item, number)]
    for number, item in enumerate(fields["input"]):
        if is_content_id(item.get("asset_id", "")):
            faults.append(f"input[{number}].asset_id is none: copy it from upload_asset, or give the path.")
        if item.pop("path", None) is not None:
            # What it holds is read once all else is known to be right.
            item.setdefault("asset_id", content_id(""))
    faults.extend(_put_languages(fields.get("dub", {})))
    given = models.GenerationRequest.model_validate({**fields, "model": model})
    faults += [*faults_of(given), *await backend.model_faults(model)]
    if faults:
        raise InvalidRequestError(faults)
    return given, note


_BESIDE_THE_REQUEST = {"wait_seconds", "duration_seconds", "fps", "take", "max_cost_usd", "quote_id"}
_TEXT_FIELDS = ("script", "voice_id", "stability", "similarity_boost")
_FILE_FIELDS = ("url", "path", "asset_id")


def _misplaced(item: InputItem, number: int) -> Iterator[str]:
    foreign = _FILE_FIELDS if item.type == "text" else _TEXT_FIELDS
    for name in foreign:
        if getattr(item, name) is not None:
            yield f"input[{number}] ({item.type}) does not take {name}."
    if item.type != "text" and item.path is not None and (item.url or item.asset_id):
        yield f"input[{number}] has path and {'url' if item.url else 'asset_id'}: give one of them."


def _put_languages(dub: dict[str, str]) -> Iterator[str]:
    """Put the codes of the languages of a dub in place of their names; yield what is wrong with them."""
    from sync_mcp.api.languages import language_code

    for name in dub:
        try:
            dub[name] = language_code(dub[name], source=name == "source_lang")
        except InvalidRequestError as error:
            yield from error.faults
            # It is said: in this form it is not at fault a second time.
            dub[name] = "xx"


def _chosen_model(arguments: RequestArguments) -> tuple[str, str | None]:
    if arguments.model:
        return arguments.model.strip(), None
    model = "sync-3" if any(item.type == "image" for item in arguments.input) else "lipsync-2"
    others = "; ".join(f"{name}: {purpose}" for name, purpose in MODEL_PURPOSES.items() if name != model)
    return model, f"{model} was taken by default ({MODEL_PURPOSES[model]}). Others: {others}."


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
            await self._context.report_progress(elapsed, self._line(elapsed))
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
            line = f"{self._ended} of {self._total} ended, {elapsed:.0f} s waited"
            await self._context.report_progress(elapsed, line)
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
            "The same call again returns the same job."
        ),
        arguments=CreateArguments,
        answer=GenerationAnswer,
        annotations=CHANGES,
        run=_create_generation,
        paid=True,
        takes_media=True,
    ),
    Tool(
        name="get_generation",
        title="Get a lip-sync video",
        description=(
            "State of one job: its output URL when COMPLETED; what went wrong and what to change when FAILED "
            "or REJECTED. wait_seconds waits for the end, which comes after ten seconds to ten minutes."
        ),
        arguments=GetArguments,
        answer=GenerationAnswer,
        annotations=READS,
        run=_get_generation,
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="wait_for_generations",
        title="Wait for lip-sync videos",
        description=(
            "Wait for several jobs at once, until all or any have ended: a row each, with its output_url or "
            "error_code."
        ),
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
            "What create_generation would cost with these arguments, which mean the same there: USD, frames "
            "and credits as far as the API tells, and what was assumed. Starts nothing and is free."
        ),
        arguments=EstimateArguments,
        answer=EstimateAnswer,
        annotations=READS,
        run=_estimate_cost,
        takes_media=True,
        arguments_told_by="create_generation",
    ),
)
