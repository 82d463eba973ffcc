"""The run of create_generations: several requests, one yes to their total, and the jobs that came of them."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

import anyio

from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.errors import (
    ApprovalDenied,
    ApprovalRequired,
    InternalError,
    SyncError,
    UnderWay,
)
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.payments.together import Outlook
from sync_mcp.requests.input_files import InputFiles, find_gone_links
from sync_mcp.texts import FAULT_LIMIT, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_answers import SeveralAnswer
from sync_mcp.tools.generation_arguments import OneOfSeveral, SeveralArguments
from sync_mcp.tools.input_files import input_files
from sync_mcp.tools.paid_calls import (
    MEND_LINKS,
    advise_without_estimate,
    approval_of,
    check_answer,
    do_quotes_count,
    make_paid_call,
    notes_before,
)
from sync_mcp.tools.requests import read_request
from sync_mcp.tools.several_answers import Outcome, check_faults, is_about_all, several_answer, tell_dry_run

_AT_ONCE = 4
_SENDING_SECONDS = 8.0
"""What is left of a call at least where one more create begins."""
_TOOL = "create_generations"

logger = logging.getLogger("sync_mcp.tools")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One of the requests, with its local files open."""

    arguments: OneOfSeveral
    request: GenerationRequest
    files: InputFiles | None
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _AskedTogether:
    """The user is asked about all of them before one is sent, and about none by itself."""

    above_usd: Decimal | None

    async def ask(self, proposal: Proposal) -> None:
        reasons = " ".join(reason.text for reason in proposal.reasons)
        raise ApprovalRequired(
            f"Not sent: since the user agreed it is another thing. {reasons}".rstrip(),
            question="",
            quote_id=None,
            price_is_known=proposal.price.usd is not None,
            next_step="create_generation with this request asks the user about it.",
        )


async def create_generations(context: CallContext, arguments: SeveralArguments) -> SeveralAnswer:
    wait_until = anyio.current_time() + arguments.wait_seconds
    together = context.process.guard.together
    async with AsyncExitStack() as stack:
        wanted = await _read_all(context, arguments.requests, stack)
        gone: list[str] = []
        calls = _make_calls(context, arguments, wanted, gone, wait_until)
        if not arguments.dry_run:
            await _check_answer_to_all(context, calls)
        outlook = await together.look(calls, max_total_usd=arguments.max_cost_usd)
        check_faults(outlook.failures)
        notes = [[*each.notes, *_list_unseen(each.files)] for each in wanted]
        if arguments.dry_run:
            wants_quote = do_quotes_count(context)
            reasons, quote_id = await together.foresee(outlook, wants_quote=wants_quote)
            return tell_dry_run(context, outlook, reasons, quote_id, notes)
        try:
            with advise_without_estimate():
                token = await together.ask(outlook)
        except ApprovalRequired as error:
            if gone:
                error.advise(
                    message=f"{error.message} {'; '.join(gone)}.",
                    next_step=f"{MEND_LINKS} If the user says that it is there all the same: "
                    f"{error.next_step}",
                )
            raise
        approval = _AskedTogether(context.account.policy.approve_above_usd)
        # What is made before, or in doubt, is not among what they agreed to now.
        tokens = [token if isinstance(found, Attempt) else None for found in outlook.found]
        agreed = [
            replace(call, token=own, approval=approval) for call, own in zip(calls, tokens, strict=True)
        ]
        outcomes, stopped = await _make_all(context, agreed, outlook)
    failure = _find_common_failure(list(outcomes.values()), stopped)
    if failure is not None:
        raise failure
    return several_answer(context, outlook, outcomes, stopped, notes)


async def _read_all(
    context: CallContext, requests: Sequence[OneOfSeveral], stack: AsyncExitStack
) -> list[_Wanted]:
    """Return the requests as the API takes them, with their local files open as long as the stack is.

    Raises:
        SyncError: all that is wrong with them.
    """
    faults: dict[int, SyncError] = {}
    read: dict[int, GenerationRequest] = {}
    for number, arguments in enumerate(requests):
        try:
            read[number] = await read_request(context.account, arguments)
        except SyncError as error:
            faults[number] = error
    wanted: list[_Wanted] = []
    for number, request in read.items():
        arguments = requests[number]
        try:
            files = await stack.enter_async_context(input_files(context, arguments.input, request))
        except SyncError as error:
            faults[number] = error
        else:
            wanted.append(_Wanted(arguments, request, files, notes_before(request, files)))
    check_faults(faults)
    return wanted


def _make_calls(
    context: CallContext,
    arguments: SeveralArguments,
    wanted: Sequence[_Wanted],
    gone: list[str],
    wait_until: float,
) -> list[PaidCall[Generation]]:
    async def look_at_links() -> Sequence[str]:
        # Beside a local file they were looked at, and the price says it.
        for number, each in enumerate(wanted, start=1):
            if each.files is None:
                found = await find_gone_links(context.account, each.request, until=context.answer_at)
                gone.extend(f"request {number}: {reason}" for reason in found)
        return gone

    approval = replace(approval_of(context), doubts=look_at_links)
    calls = [
        make_paid_call(
            context,
            each.arguments,
            GenerationAct.of(each.request),
            each.files,
            notes=each.notes,
            slot_until=wait_until,
            tool=_TOOL,
            quote_id=arguments.quote_id,
        )
        for each in wanted
    ]
    return [replace(call, approval=approval) for call in calls]


async def _check_answer_to_all(context: CallContext, calls: Sequence[PaidCall[Generation]]) -> None:
    """Check what came with the call as the user's yes, as `check_answer`: a no is one to all of them."""
    first, *others = calls
    try:
        await check_answer(context, first)
    except ApprovalDenied as denied:
        if denied.is_the_users:
            for call in others:
                await context.process.guard.revoke(call)
        raise


async def _make_all(
    context: CallContext, calls: Sequence[PaidCall[Generation]], outlook: Outlook
) -> tuple[dict[int, Outcome], SyncError | None]:
    """Make the jobs, each once; return what came of the calls, by their indexes, and what stood in the way.

    Of a call that was not begun any more there is nothing.
    """
    outcomes: dict[int, Outcome] = {}
    stopped: list[SyncError] = []
    turns = anyio.CapacityLimiter(_AT_ONCE)

    async def make(number: int) -> None:
        async with turns:
            if stopped or context.seconds_left < _SENDING_SECONDS:
                return
            outcome = outcomes[number] = await _make(context, calls[number])
            if isinstance(outcome, SyncError) and is_about_all(outcome):
                stopped.append(outcome)

    async with anyio.create_task_group() as tasks:
        for number in range(len(calls)):
            if number not in outlook.same_as:
                tasks.start_soon(partial(make, number))
    return outcomes, next(iter(stopped), None)


async def _make(context: CallContext, call: PaidCall[Generation]) -> Outcome:
    try:
        return await context.process.guard.create(call)
    except SyncError as error:
        return error
    except Exception as error:  # noqa: BLE001 - no fault here may hide what the others have made
        logger.error("a create of several failed unexpectedly: %s", safe(repr(error), FAULT_LIMIT))
        return InternalError("It failed in an unexpected way.", money_spent="unknown")


def _find_common_failure(outcomes: Sequence[Outcome], stopped: SyncError | None) -> SyncError | None:
    """Return what stood in the way of all of them, where nothing was made and nothing goes on."""
    failures = [
        one
        for one in outcomes
        if isinstance(one, SyncError) and one.money_spent == "no" and not isinstance(one, UnderWay)
    ]
    if not failures or len(failures) < len(outcomes):
        return None
    if len({(one.code, one.api_code, one.message) for one in failures}) == 1:
        return failures[0]
    return stopped


def _list_unseen(files: InputFiles | None) -> list[str]:
    return [files.note_on_unseen] if files is not None and files.note_on_unseen else []
