"""A tool's arguments as a paid call: whose yes counts for it, and what the user is told before."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TypeVar

from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.api.option_matrix import find_ignored_options
from sync_mcp.errors import QuoteRefused
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.limits import dollars
from sync_mcp.requests.input_files import InputFiles
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_arguments import CreateArguments, EstimateArguments, OneOfSeveral
from sync_mcp.tools.question import NOBODY_IS_ASKED, UserApproval, denial_of

MEND_LINKS = (
    "Nothing was started, and the job would most likely fail: tell the user what is wrong with the file. "
    "Give a URL that anybody can fetch, or the file as path; do not guess its length."
)
JobT = TypeVar("JobT", bound=Job)

_SENDING_SECONDS = 15.0
"""What is left of a call for the create itself, once the user has been asked."""


def make_paid_call(
    context: CallContext,
    arguments: CreateArguments | EstimateArguments | OneOfSeveral,
    act: GenerationAct,
    files: InputFiles | None,
    *,
    notes: Sequence[str],
    slot_until: float = -math.inf,
    tool: str = "create_generation",
    quote_id: str | None = None,
) -> PaidCall[Generation]:
    """Return the call that pays for a video; one of several has what they have together from its tool."""
    account = context.account
    is_alone = not isinstance(arguments, OneOfSeveral)
    return PaidCall(
        account.client,
        act,
        take=arguments.take,
        tool=tool,
        max_cost_usd=arguments.max_cost_usd if is_alone else None,
        duration_seconds=arguments.duration_seconds,
        files=files,
        token=_token(context, arguments.quote_id if is_alone else quote_id),
        approval=approval_of(context),
        webhook_hosts=account.policy.webhook_hosts,
        own_webhook_url=account.policy.webhook_url,
        refuses_late_segments=True,
        notes=notes,
        voice_names=account.lists.voice_names,
        on_begin=context.payment.begin,
        slot_until=slot_until,
        watcher=account.watcher,
        ends_at=context.answer_at,
        caller=context.caller,
    )


def call_of_act(
    context: CallContext,
    act: PaidAct[JobT],
    tool: str,
    *,
    take: int = 1,
    quote_id: str | None = None,
    max_cost_usd: Decimal | None = None,
    files: InputFiles | None = None,
    notes: Sequence[str] = (),
    on_made: Callable[[Job], None] | None = None,
) -> PaidCall[JobT]:
    """Return the call of a tool that pays for something other than a video."""
    account = context.account
    return PaidCall(
        account.client,
        act,
        take=take,
        tool=tool,
        max_cost_usd=max_cost_usd,
        files=files,
        token=_token(context, quote_id),
        approval=approval_of(context),
        webhook_hosts=account.policy.webhook_hosts,
        own_webhook_url=account.policy.webhook_url,
        notes=notes,
        voice_names=account.lists.voice_names,
        on_begin=context.payment.begin,
        on_made=on_made,
        ends_at=context.answer_at,
        caller=context.caller,
    )


@contextmanager
def advise_without_estimate() -> Generator[None]:
    """Have a refused quote say what to do where nothing can be estimated."""
    try:
        yield
    except QuoteRefused as error:
        if "estimate_cost" in error.next_step:
            error.advise(
                next_step="Make the same call without quote_id: where the user has to agree, they are asked."
            )
        raise


def approval_of(context: CallContext) -> UserApproval:
    policy = context.account.policy
    return UserApproval(
        context.user,
        policy.approve_above_usd,
        policy.approve_by,
        seconds_left=lambda: context.seconds_left - _SENDING_SECONDS,
    )


def _token(context: CallContext, quote_id: str | None) -> Token | None:
    """Return what the user agreed by: a question of the host's that came back, or a quote.

    Where forms are switched off no answer to one counts, whichever it is: another server may have put it.
    """
    if context.user.choice is not None and context.account.policy.approve_by != "quote":
        return Token(context.user.question_id, "question")
    return None if quote_id is None else Token(quote_id)


async def check_answer(context: CallContext, call: PaidCall[Job]) -> None:
    """Check what came with a call as the user's yes.

    Raises:
        ApprovalDenied: the user was asked by the host, and did not agree: then no quote of it holds any more.
        QuoteRefused: the host asks the user by itself, or no quote counts on this server.
    """
    policy, said, guard = context.account.policy, context.user.choice, context.process.guard
    if said is not None and policy.approve_by != "quote":
        denied = denial_of(said, await guard.question_age(context.user.question_id, call.caller))
        if denied is not None:
            if denied.is_the_users:
                await guard.revoke(call)
            raise denied
    if call.token is not None and policy.approve_above_usd is None and call.act.is_priced:
        raise QuoteRefused(
            f"No quote is taken: {NOBODY_IS_ASKED}.",
            next_step=(
                "Make the same call without quote_id: no price is asked about here. What must be asked "
                "about whatever the price is refused, and the refusal says what the user can do."
            ),
        )
    if said is None and call.token is not None and not is_quote_enough(context):
        why = (
            "on this server only the user's own answer counts (SYNC_MCP_APPROVE_BY=user)"
            if policy.approve_by == "user"
            else "this host asks the user by itself"
        )
        counts = (
            "Make the same call without quote_id: where the user has to agree, the host asks them."
            if context.user.can_be_asked
            else "This host cannot ask the user: tell them to use a host with elicitation, or to change "
            "SYNC_MCP_APPROVE_BY in the server's settings."
        )
        raise QuoteRefused(f"No quote is taken: {why}.", next_step=counts)


def do_quotes_count(context: CallContext) -> bool:
    """Return whether a quote of a video can stand for the user's yes."""
    is_asked = context.account.policy.approve_above_usd is not None
    return is_asked and context.can_create and is_quote_enough(context)


def is_quote_enough(context: CallContext) -> bool:
    """Return whether a quote can stand for the user's yes, where they are asked at all."""
    by = context.account.policy.approve_by
    return by == "quote" or (by == "ask" and not context.user.can_be_asked)


def notes_before(request: GenerationRequest, files: InputFiles | None) -> list[str]:
    """Return what is told before a request is paid for: options that do nothing, and what its files are."""
    ignored = [option.sentence for option in find_ignored_options(request)]
    return [*ignored, *(files.notes if files is not None else ())]


def tell_how(made: Made[JobT]) -> Iterator[str]:
    """Yield how a call came by its job, where it did not make it."""
    if made.how == "was there":
        yield "The same call made this job before: nothing new was made or paid."
    elif made.how == "found":
        yield "The answer to an earlier send was lost, and this is its job: nothing new was made or paid."
    elif made.how == "sent now":
        price = "" if made.price_usd is None else f", for about {dollars(made.price_usd)}"
        yield f"The first send had not arrived; it was sent now{price}."
