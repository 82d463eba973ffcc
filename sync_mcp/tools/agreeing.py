"""The user's yes to a deletion or a campaign, by the host's own form, or in two steps where it has none.

What is paid for by itself the guard asks about.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from sync_mcp.errors import ApprovalDenied, ApprovalRequired
from sync_mcp.tools.answers import SANDBOX_MARK
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.question import denial_of
from sync_mcp.tools.user import Ask, InputNeeded, form_of

_WORD = 8
"""Letters of the word that stands for a question where the host cannot ask."""


@dataclass(frozen=True, slots=True)
class Matter:
    """What the user is asked about.

    Attributes:
        question: as they read it, without the sandbox's mark.
        of: what their yes is for: once that is another, it is another question.
        not_done: what has not happened as long as they have not agreed, as a sentence without its end.
        argument: in which the same call brings the word that stands for their yes.
    """

    question: str
    of: str
    not_done: str
    argument: Literal["confirm", "quote_id"]


async def agree_to_delete(context: CallContext, what: str, lines: Sequence[str], confirm: str | None) -> None:
    """Return when the user has agreed that these things go, as far as somebody is to be asked.

    `what` is what goes, as the object of a sentence; `lines` name each. On a server that asks nobody
    (`SYNC_MCP_APPROVE_ABOVE_USD=never`) they go at once.

    Raises:
        ApprovalDenied, ApprovalRequired, InputNeeded: as `agree`.
    """
    question = "\n".join([f"Delete {what} for good? It cannot be undone.", *lines])
    await agree(context, Matter(question, question, "Nothing was deleted", "confirm"), confirm)


async def agree(context: CallContext, matter: Matter, word: str | None) -> None:
    """Return when the user has agreed, as far as somebody is to be asked; `word` is what the call brought.

    Raises:
        ApprovalDenied: the user said no.
        ApprovalRequired: the user has not answered, or is to be asked by the model.
        InputNeeded: the client asks by itself.
    """
    policy, user = context.account.policy, context.user
    if policy.approve_above_usd is None:
        return
    mark = [SANDBOX_MARK] if context.account.sandboxed else []
    question = "\n".join([*mark, matter.question])
    token = _token_of(context, matter)
    if policy.approve_by != "quote" and user.is_asked_by_answer:
        if user.choice is None or user.question_id != token:
            raise InputNeeded(question, token)
        _check(denial_of(user.choice, None), matter)
    elif policy.approve_by != "quote" and user.ask is not None:
        await _ask_by_form(context, user.ask, question, matter)
    elif policy.approve_by == "user":
        raise _agreement_missing(
            f"{matter.not_done}: the user has to agree by the host's own form (SYNC_MCP_APPROVE_BY=user), "
            "and this host has none.",
            "Tell the user: a host with elicitation can ask them, or they change SYNC_MCP_APPROVE_BY in the "
            "server's settings.",
        )
    elif word is None or word.strip().lower() != word_for(context, matter):
        raise _agreement_missing(
            f"{matter.not_done}: the user has to agree first, and this host does not ask them.",
            f"Put the question below to the user, and only if they agree make the same call with "
            f'{matter.argument} "{word_for(context, matter)}".',
            question,
        )


def word_for(context: CallContext, matter: Matter) -> str:
    """Return the word that stands for the user's yes where the host cannot ask."""
    return _token_of(context, matter)[:_WORD]


def _token_of(context: CallContext, matter: Matter) -> str:
    mark = f"{SANDBOX_MARK}\n" if context.account.sandboxed else ""
    asked = f"{context.account.client.key_fingerprint} {mark}{matter.of}"
    return hashlib.sha256(asked.encode()).hexdigest()


async def _ask_by_form(context: CallContext, ask: Ask, question: str, matter: Matter) -> None:
    asked_at = anyio.current_time()
    with anyio.move_on_after(max(0.0, context.answer_at - asked_at)):
        said = await ask(form_of(question))
        if said is None:
            raise _agreement_missing(
                f"{matter.not_done}: the host failed to ask the user.",
                "Make the same call again. If it fails again tell the user: for a host whose forms do not "
                "work they set SYNC_MCP_APPROVE_BY=quote in the server's settings.",
            ).advise(retryable=True)
        _check(denial_of(said, anyio.current_time() - asked_at), matter)
        return
    raise _agreement_missing(
        f"{matter.not_done}: the user has not answered the question yet.",
        "Make the same call again when the user is there: they are asked again.",
    ).advise(retryable=True)


def _check(denied: ApprovalDenied | None, matter: Matter) -> None:
    if denied is None:
        return
    if denied.is_the_users:
        how = "declined" if denied.code == "approval_denied" else "closed the question without an answer"
        raise denied.advise(message=f"{matter.not_done}: the user {how}.")
    raise denied.advise(next_step=f"{matter.not_done}. Tell the user that this host shows them no questions.")


def _agreement_missing(message: str, next_step: str, question: str = "") -> ApprovalRequired:
    return ApprovalRequired(
        message, question=question, quote_id=None, price_is_known=True, next_step=next_step
    )
