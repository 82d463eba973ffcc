"""Asking the user before money is spent: by the host's own form, or by words for the model to put.

Where the host can ask, its form is the only way: a model that could go on with a quote would make the
user's no worth nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import anyio
import mcp_types as types

from sync_mcp.errors import ApprovalDenied, ApprovalRequired
from sync_mcp.payments.attempt import Attempt
from sync_mcp.payments.consent import Proposal, Reason
from sync_mcp.payments.limits import dollars
from sync_mcp.texts import in_quotes, safe
from sync_mcp.tools.user import ApproveBy, Ask, InputNeeded, User, form_of

AT_ONCE_SECONDS = 0.5
"""A no that comes sooner was given by no person: some hosts answer by themselves at once."""

_ACTS_SHOWN = 20
"""Of several acts, so many have a line of their own in the question."""
_NOTES_SHOWN = 10
_NOTE_LIMIT = 240
_REASON_LIMIT = 600
"""Of a sentence of our own, which it does not reach; ids of others stand in it."""
NOBODY_IS_ASKED = "nobody is asked about it on this server (SYNC_MCP_APPROVE_ABOVE_USD=never)"
_NO_FORM = "the user has to agree by the host's own form (SYNC_MCP_APPROVE_BY=user), and this host has none"


@dataclass(frozen=True, slots=True)
class UserApproval:
    """Has the user agree to what may not be paid unasked; a `PaidCall.approval`.

    `above_usd` is the most that may be paid unasked within a day; None asks about nothing but an act for
    which the API publishes no price.
    """

    user: User
    above_usd: Decimal | None
    by: ApproveBy
    seconds_left: Callable[[], float]
    doubts: Callable[[], Awaitable[Sequence[str]]] | None = None
    """Looks why the files of a job of unknown price may not be had: told in the question."""

    @property
    def nobody_agrees(self) -> str | None:
        """Why nobody agrees to a published price here, as the end of a sentence; None where somebody can."""
        if self.above_usd is None:
            return NOBODY_IS_ASKED
        return _NO_FORM if self.by == "user" and not self.user.can_be_asked else None

    async def ask(self, proposal: Proposal) -> None:
        """Return when the user has agreed.

        Raises:
            ApprovalDenied: the user was asked, and said no.
            ApprovalRequired: nobody could be asked, or the user has not answered yet.
            InputNeeded: the client asks by itself.
        """
        if self.above_usd is None and all(attempt.intention.act.is_priced for attempt in proposal.attempts):
            raise _nobody_is_asked(proposal)
        doubts = await self.doubts() if self.doubts and proposal.price.usd is None else ()
        question = question_of(proposal, doubts)
        if self.by == "quote":
            raise await _by_quote(proposal, question, "Forms are switched off (SYNC_MCP_APPROVE_BY=quote).")
        if self.user.is_asked_by_answer:
            raise InputNeeded(question, await proposal.hand_out("question"))
        if self.user.ask is not None:
            await self._ask_by_form(self.user.ask, proposal, question)
            return
        if self.by == "user":
            raise _approval_error(
                proposal,
                f"Nothing was sent: {_NO_FORM}.",
                "Tell the user: a host with elicitation can ask them, or they change SYNC_MCP_APPROVE_BY in "
                "the server's settings.",
            )
        raise await _by_quote(proposal, question, "This host cannot ask the user.")

    async def _ask_by_form(
        self,
        ask: Ask,
        proposal: Proposal,
        question: str,
    ) -> None:
        asked_at = anyio.current_time()
        with anyio.move_on_after(self.seconds_left()):
            said = await ask(form_of(question))
            if said is None:
                failed = _approval_error(
                    proposal,
                    "Nothing was sent: the user has to agree, and the host failed to ask them.",
                    "Make the same call again. If it fails again tell the user: for a host whose forms do "
                    "not work they set SYNC_MCP_APPROVE_BY=quote in the server's settings.",
                )
                raise failed.advise(retryable=True)
            denied = denial_of(said, anyio.current_time() - asked_at)
            if denied is not None:
                raise denied
            return
        error = _approval_error(
            proposal,
            "Nothing was sent: the user has not answered the question yet.",
            "Make the same call again when the user is there: they are asked again.",
        )
        raise error.advise(retryable=True)


def denial_of(said: types.ElicitResult, seconds: float | None) -> ApprovalDenied | None:
    """Return what an answer that is no yes stands for; `seconds` is how long after the question it came."""
    if said.action == "accept":
        return None
    if seconds is not None and seconds < AT_ONCE_SECONDS:
        denied = ApprovalDenied(
            "The host closed the question at once: perhaps nobody has seen it.",
            code="approval_closed_at_once",
        )
        denied.is_the_users = False
        return denied
    if said.action == "cancel":
        return ApprovalDenied("The user closed the question without an answer.", code="approval_cancelled")
    return ApprovalDenied("The user declined to pay for it.")


def _nobody_is_asked(proposal: Proposal) -> ApprovalRequired:
    return _approval_error(
        proposal,
        f"Nothing was sent: the user would have to agree, and {NOBODY_IS_ASKED}. {_reasons(proposal)}",
        ways_on(proposal.reasons),
    )


async def _by_quote(proposal: Proposal, question: str, why: str) -> ApprovalRequired:
    quote_id = await proposal.hand_out("quote")
    good = "once, for ten minutes" if len(proposal.attempts) == 1 else "for an hour, once for each"
    return ApprovalRequired(
        f"Nothing was sent: the user has to agree first. {why}",
        question=question,
        quote_id=quote_id,
        price_is_known=proposal.price.usd is not None,
        next_step=(
            "Put the question below to the user, and only if they agree make the same call with quote_id "
            f'"{quote_id}" (good {good}).'
        ),
    )


def _approval_error(proposal: Proposal, message: str, next_step: str) -> ApprovalRequired:
    return ApprovalRequired(
        message,
        question="",
        quote_id=None,
        price_is_known=proposal.price.usd is not None,
        next_step=next_step,
    )


def question_of(proposal: Proposal, doubts: Sequence[str] = ()) -> str:
    """Return the question in lines: the fixed sentences, whole; then why it is asked and what else is to be
    known, a line each; then what others wrote, in quotes.

    `doubts` say why the job would most likely fail.
    """
    usd, note = proposal.price.usd, proposal.price.note
    price = "an unknown price" if usd is None else f"about {dollars(usd)}"
    attempts = proposal.attempts
    noun = attempts[0].intention.act.noun
    sentences = [
        f"Pay {price} for {f'this {noun}' if len(attempts) == 1 else f'these {len(attempts)} jobs'}?"
    ]
    if usd is not None and note:
        sentences.append(f"The price is for this: {safe(note, _NOTE_LIMIT)}.")
    elif proposal.price.counted is not None:
        sentences.append(f"Length: {proposal.price.counted}.")
    if proposal.left_usd is None:
        sentences.append("No budget is set.")
    else:
        sentences.append(f"Left of the budget before it: {dollars(proposal.left_usd)}.")
    if proposal.unasked_usd:
        sentences.append(f"Paid or held without asking within a day: {dollars(proposal.unasked_usd)}.")
    sentences.append("It cannot be cancelled once started.")
    mark = [f"SANDBOX: no real {noun} is made and no real money is spent."] if proposal.is_sandbox else []
    reasons = dict.fromkeys(reason.to_user or reason.text for reason in proposal.reasons)
    besides = [
        *_first_of([safe(reason, _REASON_LIMIT) for reason in reasons], _ACTS_SHOWN),
        *([safe(f"It would most likely fail: {'; '.join(doubts)}.", _REASON_LIMIT)] if doubts else []),
        *_first_of([safe(note, _NOTE_LIMIT) for note in proposal.notes], _NOTES_SHOWN),
    ]
    is_one = len(attempts) == 1
    told = attempts[0].intention.act.pieces(proposal.voice_names) if is_one else _list_attempts(attempts)
    return "\n".join([*mark, " ".join(sentences), *besides, *told])


def _first_of(lines: Sequence[str], most: int) -> list[str]:
    """Return lines; of many the first ones, and how many more there are."""
    more = len(lines) - most
    return [*lines[:most], f"and {more} more"] if more > 0 else [*lines]


def _list_attempts(attempts: Sequence[Attempt]) -> list[str]:
    """Return a line for each, with its price; of many the first ones, and how many more there are."""
    lines = [
        f"{in_quotes(one.intention.about)}: "
        f"{'price unknown' if one.price.usd is None else f'about {dollars(one.price.usd)}'}"
        for one in attempts
    ]
    # Of all of them: what the user does not read they have not agreed to.
    hosts = dict.fromkeys(one.intention.act.webhook_host for one in attempts)
    goes_to = [f"a finished job's URL goes to: {in_quotes(host)}" for host in hosts if host is not None]
    return [*_first_of(lines, _ACTS_SHOWN), *goes_to]


def ways_on(reasons: Sequence[Reason]) -> str:
    """Return what can be done where nobody can be asked."""
    return " ".join(dict.fromkeys(reason.way_on for reason in reasons if reason.way_on))


def _reasons(proposal: Proposal) -> str:
    return " ".join(reason.text for reason in proposal.reasons)
