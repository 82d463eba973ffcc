"""Deletions are asked about: by the host's own form, or in two steps where it has none."""

import hashlib
from collections.abc import Sequence

import anyio

from sync_mcp.errors import ApprovalDenied, ApprovalRequired
from sync_mcp.tools.answers import SANDBOX_MARK
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.question import denial_of
from sync_mcp.tools.user import Ask, InputNeeded, form_of

_WORD = 8
"""Letters of the word that stands for a question where the host cannot ask."""
_NOT_DELETED = "Nothing was deleted"


async def agree_to_delete(context: CallContext, what: str, lines: Sequence[str], confirm: str | None) -> None:
    """Return when the user has agreed that these things go, as far as somebody is to be asked.

    `what` is what goes, as the object of a sentence; `lines` name each. On a server that asks nobody
    (`SYNC_MCP_APPROVE_ABOVE_USD=never`) they go at once.

    Raises:
        ApprovalDenied: the user said no.
        ApprovalRequired: the user has not answered, or is to be asked by the model.
        InputNeeded: the client asks by itself.
    """
    policy, user = context.account.policy, context.user
    if policy.approve_above_usd is None:
        return
    mark = [SANDBOX_MARK] if context.account.sandboxed else []
    question = "\n".join([*mark, f"Delete {what} for good? It cannot be undone.", *lines])
    # Of what it is about: once anything of it is another, it is another question.
    asked = f"{context.account.client.key_fingerprint} {question}"
    token = hashlib.sha256(asked.encode()).hexdigest()
    if policy.approve_by != "quote" and user.is_asked_by_answer:
        if user.choice is None or user.question_id != token:
            raise InputNeeded(question, token)
        _check(denial_of(user.choice, None))
    elif policy.approve_by != "quote" and user.ask is not None:
        await _ask_by_form(context, user.ask, question)
    elif policy.approve_by == "user":
        raise _agreement_missing(
            f"{_NOT_DELETED}: the user has to agree by the host's own form (SYNC_MCP_APPROVE_BY=user), and "
            "this host has none.",
            "Tell the user: a host with elicitation can ask them, or they change SYNC_MCP_APPROVE_BY in the "
            "server's settings.",
        )
    elif confirm is None or confirm.strip().lower() != token[:_WORD]:
        raise _agreement_missing(
            f"{_NOT_DELETED}: the user has to agree first, and this host does not ask them.",
            "Put the question below to the user, and only if they agree make the same call with confirm "
            f'"{token[:_WORD]}".',
            question,
        )


async def _ask_by_form(context: CallContext, ask: Ask, question: str) -> None:
    asked_at = anyio.current_time()
    with anyio.move_on_after(max(0.0, context.answer_at - asked_at)):
        said = await ask(form_of(question))
        if said is None:
            raise _agreement_missing(
                f"{_NOT_DELETED}: the host failed to ask the user.",
                "Make the same call again. If it fails again tell the user: for a host whose forms do not "
                "work they set SYNC_MCP_APPROVE_BY=quote in the server's settings.",
            ).advise(retryable=True)
        _check(denial_of(said, anyio.current_time() - asked_at))
        return
    raise _agreement_missing(
        f"{_NOT_DELETED}: the user has not answered the question yet.",
        "Make the same call again when the user is there: they are asked again.",
    ).advise(retryable=True)


def _check(denied: ApprovalDenied | None) -> None:
    if denied is None:
        return
    if denied.is_the_users:
        how = "declined" if denied.code == "approval_denied" else "closed the question without an answer"
        raise denied.advise(message=f"{_NOT_DELETED}: the user {how}.")
    raise denied.advise(next_step=f"{_NOT_DELETED}. Tell the user that this host shows them no questions.")


def _agreement_missing(message: str, next_step: str, question: str = "") -> ApprovalRequired:
    return ApprovalRequired(
        message, question=question, quote_id=None, price_is_known=True, next_step=next_step
    )
