"""Asking the user before money is spent: by the client's own form, or by words for the model to put."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import anyio
import mcp_types as types

from sync_mcp.errors import ApprovalDenied, ApprovalRequired
from sync_mcp.text import clean

if TYPE_CHECKING:
    from sync_mcp.jobs.guard import Proposal

ApproveBy = Literal["quote", "user"]
Choice = Literal["accept", "decline", "cancel"]

QUESTION = "approve_payment"
"""Name of the question among the requests to a client of the modern era."""

_QUESTION_LIMIT = 600
_FORM: dict[str, object] = {
    "type": "object",
    "properties": {
        "approve": {"type": "boolean", "title": "Pay for it", "description": "Make the video and pay for it."}
    },
    "required": ["approve"],
}


@dataclass(frozen=True, slots=True)
class User:
    """The user behind a client, as far as the client lets them be asked.

    `ask` puts a form to them while the call waits (handshake era); a client of the modern era is answered
    with the question, and makes the call again with `choice` and `quote_id`.
    """

    ask: Callable[[types.ElicitRequestFormParams], Awaitable[types.ElicitResult | None]] | None = None
    is_asked_by_answer: bool = False
    choice: types.ElicitResult | None = None
    quote_id: str | None = None


NOBODY = User()


class InputNeeded(Exception):
    """The call is answered with a question, and made again with what the user says."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        request = types.ElicitRequest(params=_form(message))
        self.result = types.InputRequiredResult(input_requests={QUESTION: request}, request_state=state)


@dataclass(frozen=True, slots=True)
class UserApproval:
    """Has the user agree to what costs more than `above_usd`; a `Terms.approval`."""

    user: User
    above_usd: Decimal
    by: ApproveBy
    seconds_left: Callable[[], float]

    async def ask(self, proposal: "Proposal") -> None:
        """Return when the user has agreed.

        Raises:
            ApprovalDenied: the user was asked, and said no or nothing.
            ApprovalRequired: the client cannot ask, or the user did not answer in the call's time.
            InputNeeded: the client asks by itself.
        """
        question = _question(proposal)
        if self.user.is_asked_by_answer:
            raise InputNeeded(question, await proposal.quote())
        if self.user.ask is not None:
            with anyio.move_on_after(self.seconds_left()):
                said = await self.user.ask(_form(question))
                if said is None:
                    raise await self._required(proposal, question, "This client failed to ask the user.")
                check_choice(said)
                return
            raise await self._required(proposal, question, "The user did not answer in this call's time.")
        raise await self._required(proposal, question, "This client cannot ask the user.")

    async def _required(self, proposal: "Proposal", question: str, why: str) -> ApprovalRequired:
        if self.by == "user":
            return ApprovalRequired(
                f"The user has to agree, by a form of the client's alone (SYNC_MCP_APPROVE_BY=user). {why}",
                question=question,
                quote_id=None,
                price_is_known=proposal.price.usd is not None,
                next_step=(
                    "Nothing was sent. Tell the user: a client with elicitation, or other settings of the "
                    "server (SYNC_MCP_APPROVE_BY, SYNC_MCP_APPROVE_ABOVE_USD), can make it."
                ),
            )
        quote_id = await proposal.quote()
        return ApprovalRequired(
            f"Nothing was sent: the user has to agree first. {why}",
            question=question,
            quote_id=quote_id,
            price_is_known=proposal.price.usd is not None,
            next_step=(
                "Put exactly this to the user, and only if they agree make the same call again with quote_id "
                f'"{quote_id}" (good once, for ten minutes).'
            ),
        )


def check_choice(said: types.ElicitResult) -> None:
    """Return where the user agreed.

    Raises:
        ApprovalDenied: the user declined, or closed the question.
    """
    if said.action == "cancel":
        raise ApprovalDenied("The user closed the question without an answer.", code="approval_cancelled")
    if said.action == "decline" or (said.content or {}).get("approve") is not True:
        raise ApprovalDenied("The user declined to pay for it.")


def _form(message: str) -> types.ElicitRequestFormParams:
    return types.ElicitRequestFormParams(message=message, requested_schema=_FORM)


def _question(proposal: "Proposal") -> str:
    from sync_mcp.jobs.limits import dollars

    usd, note = proposal.price.usd, proposal.price.note
    price = "an unknown price" if usd is None else f"about {dollars(usd)}"
    parts = [f"Make this video for {price}? {proposal.intention.summary}."]
    if proposal.duration_seconds is not None:
        parts.append(f"Length: {proposal.duration_seconds:.1f} s.")
    if usd is not None and note:
        parts.append(f"Price: {note}.")
    parts.append(proposal.reason)
    if proposal.left_usd is not None:
        parts.append(f"Left of the budget before it: {dollars(proposal.left_usd)}.")
    parts.append("It cannot be cancelled once started.")
    return clean(" ".join(parts), _QUESTION_LIMIT)
