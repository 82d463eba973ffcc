"""The run of create_generation: a request, its terms, and the job that came of it."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.errors import ApprovalRequired
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.requests.input_files import find_gone_links
from sync_mcp.texts import FAULT_LIMIT, ID_LIMIT, clean, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_answers import GenerationAnswer
from sync_mcp.tools.generation_arguments import CreateArguments
from sync_mcp.tools.input_files import input_files
from sync_mcp.tools.job_answers import generation_answer
from sync_mcp.tools.jobs import wait_for_job
from sync_mcp.tools.paid_calls import (
    MEND_LINKS,
    approval_of,
    check_answer,
    make_paid_call,
    notes_before,
    tell_how,
)
from sync_mcp.tools.requests import read_request

logger = logging.getLogger("sync_mcp.tools")


async def create_generation(context: CallContext, arguments: CreateArguments) -> GenerationAnswer:
    request = await read_request(context.account, arguments)
    wait_until = anyio.current_time() + arguments.wait_seconds
    async with input_files(context, arguments.input, request) as files:
        told = notes_before(request, files)
        gone: list[str] = []

        async def look_at_links() -> Sequence[str]:
            # Beside a local file they were looked at, and the price says it.
            gone[:] = (
                await find_gone_links(context.account, request, until=context.answer_at)
                if files is None
                else []
            )
            return gone

        act = GenerationAct.of(request)
        call = make_paid_call(context, arguments, act, files, notes=told, slot_until=wait_until)
        call = replace(call, approval=replace(approval_of(context), doubts=look_at_links))
        await check_answer(context, call)
        try:
            made = await context.process.guard.create(call)
        except ApprovalRequired as error:
            if gone:
                _tell_gone(error, gone)
            raise
    wait_seconds = max(0.0, wait_until - anyio.current_time())
    answer = await _wait_and_answer(context, made.job, wait_seconds)
    # Who makes a job knows what it is about.
    answer.about = None
    answer.reused = made.reused or None
    if not made.reused:
        answer.created_at = None
    if made.price_usd is not None and answer.cost_usd is None:
        answer.estimated_cost_usd = float(made.price_usd)
    notes = [*tell_how(made), *made.notes]
    if made.price is not None and made.price.note:
        # Once it has the files, the API may price them by a length of its own.
        is_ours = made.price_usd in (None, made.price.usd)
        notes.append(f"Price: {made.price.note if is_ours else 'as the API measured the files'}.")
    if files is not None and files.note_on_unseen and not made.reused:
        notes.append(files.note_on_unseen)
    notes.extend(told)
    answer.note = " ".join(notes) or None
    return answer


def _tell_gone(error: ApprovalRequired, gone: Sequence[str]) -> None:
    """Tell the model, too, which files cannot be had."""
    error.advise(
        message=f"{error.message} {'; '.join(gone)}.",
        next_step=f"{MEND_LINKS} If the user says that it is there all the same: {error.next_step}",
    )


async def _wait_and_answer(
    context: CallContext, generation: Generation, wait_seconds: float
) -> GenerationAnswer:
    # The job is accepted: whatever happens to the wait, the answer is its handle.
    if wait_seconds:
        try:
            generation = await wait_for_job(context, generation.id, wait_seconds, generation)
        except Exception as error:  # noqa: BLE001 - no fault here may hide what was paid for
            reason = safe(repr(error), FAULT_LIMIT)
            logger.warning("the wait for generation %s ended: %s", clean(generation.id, ID_LIMIT), reason)
    return await generation_answer(context, generation)
