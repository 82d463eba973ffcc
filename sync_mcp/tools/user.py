"""The user behind a client: whether they can be asked, and what they said."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import mcp_types as types

ApproveBy = Literal["ask", "user", "quote"]
Ask = Callable[[types.ElicitRequestFormParams], Awaitable[types.ElicitResult | None]]
"""Puts a form to the user; answers None where the host failed to."""

QUESTION = "approve_payment"
"""Name of the question among the requests to a client of the modern era."""

# Accept is the yes: a box to tick besides would only be forgotten.
_FORM: dict[str, object] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class User:
    """The user behind a client, as far as the client lets them be asked.

    `ask` puts a form to them while the call waits (handshake era); a client of the modern era is answered
    with the question, and makes the call again with `choice` and the question's token.
    """

    ask: Ask | None = None
    is_asked_by_answer: bool = False
    choice: types.ElicitResult | None = None
    question_id: str = ""

    @property
    def can_be_asked(self) -> bool:
        """Whether the host can put a form to them."""
        return self.ask is not None or self.is_asked_by_answer


NOBODY = User()


class InputNeeded(Exception):
    """The call is answered with a question, and made again with what the user says."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        request = types.ElicitRequest(params=form_of(message))
        self.result = types.InputRequiredResult(input_requests={QUESTION: request}, request_state=state)


def form_of(message: str) -> types.ElicitRequestFormParams:
    """Return the form that puts a question: whoever accepts it agrees."""
    return types.ElicitRequestFormParams(message=message, requested_schema=_FORM)
