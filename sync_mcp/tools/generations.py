"""The tools for generations: price, create, watch, list."""

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

import anyio
from mcp_types import ToolAnnotations

from sync_mcp.errors import APITimeoutError, InvalidRequestError, NotFoundError, OutcomeUnknown, SyncError
from sync_mcp.text import clean, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.backend import MODEL_PURPOSES, Backend, CallContext
from sync_mcp.tools.generation_answers import (
    EstimateAnswer,
    GenerationAnswer,
    ListAnswer,
    fitting_rows,
    generation_answer,
    list_next_step,
)
from sync_mcp.tools.generation_arguments import (
    CreateArguments,
    EstimateArguments,
    GetArguments,
    InputItem,
    ListArguments,
    RequestArguments,
)
from sync_mcp.tools.registry import Tool, Tools

if TYPE_CHECKING:
    from sync_mcp.api.models import Dub, Generation, GenerationOptions, Input, Segment
    from sync_mcp.api.transport import RequestOptions

_PROGRESS_SECONDS = 4.0
_ANSWER_SECONDS = 2.0
_STATUS_LIMIT = 40
_ID_LIMIT = 128
_REASON_LIMIT = 300

logger = logging.getLogger("sync_mcp.tools")


async def _create_generation(context: CallContext, arguments: CreateArguments) -> GenerationAnswer:
    backend = context.backend
    request, model_note = await _request(backend, arguments)

    async def send(idempotency_key: str) -> "Generation":
        options: RequestOptions = {**_within(context), "idempotency_key": idempotency_key}
        return await backend.client.generations.create(**request, request_options=options)

    try:
        async with backend.creates.outcome(_canonical(request), send) as (generation, joined):
            answer = await _accepted(context, generation, arguments.wait_seconds)
    except OutcomeUnknown as error:
        error.next_step = (
            "Call list_generations to look for the job. Repeating exactly this call is safe as long as this "
            f"server runs: it goes out under the same key. {error.advice}"
        ).rstrip()
        raise
    answer.model_note = model_note
    if joined:
        answer.note = "The same call was on its way or cut off before: this is its job, made and paid once."
    return answer


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


async def _list_generations(context: CallContext, arguments: ListArguments) -> ListAnswer:
    from sync_mcp.api.models import GENERATION_ID

    # One row more than is shown tells whether there is a next page, without a second request.
    page = await context.backend.client.generations.list(
        status=arguments.status,
        project_id=arguments.project_id,
        limit=arguments.limit + 1,
        cursor=arguments.cursor,
        request_options=_within(context),
    )
    rows = fitting_rows(page[: arguments.limit])
    more = len(page) > len(rows) or len(page) + page.unreadable > arguments.limit
    cursor = page[len(rows) - 1].id if rows and more else None
    # What is no id is text of a stranger's.
    cursor = cursor if cursor and GENERATION_ID.fullmatch(cursor) else None
    return ListAnswer(
        generations=rows,
        next_cursor=cursor,
        next_step=list_next_step(
            rows,
            cursor=cursor,
            narrowed=bool(arguments.status or arguments.project_id or arguments.cursor),
            unreadable=page.unreadable,
        ),
    )


async def _estimate_cost(context: CallContext, arguments: EstimateArguments) -> EstimateAnswer:
    backend = context.backend
    request, model_note = await _request(backend, arguments)
    cost = await backend.client.generations.estimate_cost(
        **request,
        duration_seconds=arguments.duration_seconds,
        fps=arguments.fps,
        request_options=_within(context),
    )
    dollars, frames = cost.estimated_generation_cost, finite(cost.estimated_frame_count)
    return EstimateAnswer(
        model=request["model"],
        model_note=model_note,
        cost_usd=None if dollars is None else float(dollars),
        frames=None if frames is None else round(frames),
        credits=finite(cost.estimated_credits),
        assumptions=cost.assumptions,
        next_step=(
            "Nothing was started. If the user agrees to the price, call create_generation with the same "
            "arguments."
            if dollars is not None
            else "The price is unknown: call estimate_cost again with duration_seconds, or ask the user."
        ),
    )


class _RequestFields(TypedDict):
    model: str
    input: "list[Input]"
    options: "GenerationOptions | None"
    segments: "list[Segment] | None"
    webhook_url: str | None
    output_file_name: str | None
    project_id: str | None
    dub: "Dub | None"


async def _request(backend: Backend, arguments: RequestArguments) -> tuple[_RequestFields, str | None]:
    """Return what the client's create and estimate take, and a note where the model was chosen here."""
    # Imported by the first call: serving tools/list does not need the wire models.
    from sync_mcp.api import models
    from sync_mcp.api.checks import faults_of

    model, note = _chosen_model(arguments)
    given = models.GenerationRequest.model_validate(
        {**arguments.model_dump(exclude_none=True, exclude=_BESIDE_THE_REQUEST), "model": model},
    )
    misplaced = [fault for number, item in enumerate(arguments.input) for fault in _misplaced(item, number)]
    faults = [*misplaced, *faults_of(given), *await backend.model_faults(model)]
    if faults:
        raise InvalidRequestError(faults)
    fields: _RequestFields = {
        "model": model,
        "input": given.input,
        "options": given.options,
        "segments": given.segments,
        "webhook_url": given.webhook_url,
        "output_file_name": given.output_file_name,
        "project_id": given.project_id,
        "dub": given.dub,
    }
    return fields, note


_BESIDE_THE_REQUEST = {"wait_seconds", "duration_seconds", "fps"}
_TEXT_FIELDS = ("script", "voice_id", "stability", "similarity_boost")
_FILE_FIELDS = ("url", "asset_id")


def _misplaced(item: InputItem, number: int) -> Iterator[str]:
    foreign = _FILE_FIELDS if item.type == "text" else _TEXT_FIELDS
    for name in foreign:
        if getattr(item, name) is not None:
            yield f"input[{number}] ({item.type}) does not take {name}."


def _chosen_model(arguments: RequestArguments) -> tuple[str, str | None]:
    if arguments.model:
        return arguments.model.strip(), None
    model = "sync-3" if any(item.type == "image" for item in arguments.input) else "lipsync-2"
    others = "; ".join(f"{name}: {purpose}" for name, purpose in MODEL_PURPOSES.items() if name != model)
    return model, f"{model} was taken by default ({MODEL_PURPOSES[model]}). Others: {others}."


def _canonical(fields: _RequestFields) -> str:
    from sync_mcp.api.models import GenerationRequest

    wire = GenerationRequest.model_validate(dict(fields)).to_wire()
    return json.dumps({name: value for name, value in wire.items() if value not in ({}, [])}, sort_keys=True)


def _within(context: CallContext) -> "RequestOptions":
    return {"timeout_in_seconds": max(1.0, context.seconds_left - _ANSWER_SECONDS)}


async def _wait(
    context: CallContext, generation_id: str, seconds: float, known: "Generation | None"
) -> "Generation":
    """Return the job at its end, or as it is after `seconds`, reporting progress meanwhile."""
    generations = context.backend.client.generations
    if not seconds:
        return await generations.get(generation_id, request_options=_within(context))
    seconds = min(seconds, max(0.0, context.seconds_left - _ANSWER_SECONDS))
    watch = _Watch(context, known)
    failure: SyncError | None = None
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(watch.report)
        try:
            # The API's last answer may come a little late; what is known by then is answer enough.
            with anyio.move_on_after(seconds + _ANSWER_SECONDS / 2) as waiting:
                task_group.start_soon(_end_with_the_server, context.backend, waiting)
                watch.latest = await generations.wait(generation_id, seconds, on_update=watch.note)
        except SyncError as error:
            failure = error
        task_group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if watch.latest is None:
        raise APITimeoutError(f"The API did not answer in {seconds:.0f} s.")
    return watch.latest


async def _end_with_the_server(backend: Backend, waiting: anyio.CancelScope) -> None:
    await backend.stopping.wait()
    waiting.cancel()


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


_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)

TOOLS: Tools = (
    Tool(
        name="create_generation",
        title="Create a lip-sync video",
        description=(
            "Start a paid job: the speaker of a video (or image) says an audio recording or a script, or a "
            "video is dubbed into another language. It costs money and cannot be cancelled: ask "
            "estimate_cost first and let the user agree. Returns the generation_id at once, or the finished "
            "job if it ends within wait_seconds; then use get_generation. If an answer is late, look in "
            "list_generations before you call it again."
        ),
        arguments=CreateArguments,
        answer=GenerationAnswer,
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
        ),
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
        annotations=_READS,
        run=_get_generation,
        other_names={"id": "generation_id"},
    ),
    Tool(
        name="list_generations",
        title="List lip-sync videos",
        description="The account's jobs, newest first, a page of short rows.",
        arguments=ListArguments,
        answer=ListAnswer,
        annotations=_READS,
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
        annotations=_READS,
        run=_estimate_cost,
        takes_media=True,
        arguments_told_by="create_generation",
    ),
)
