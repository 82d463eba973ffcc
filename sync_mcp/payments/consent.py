"""The user's yes to a paid call: when it is needed, and what they are asked about.

What may be paid unasked is a sum over a day, by the ledger. Whatever the price, the user is asked before a
thing is paid again that was or may have been charged, before a finished job's URL is sent to a host, and
before an act for which the API publishes no price.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from sync_mcp.errors import ApprovalRequired, QuoteRefused
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.attempt import Attempt
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import TokenKind


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the user is asked, in a sentence of our own, and the way on where nobody can be asked.

    `to_user` is the sentence as they read it, where it speaks of them.
    """

    text: str
    way_on: str = ""
    to_user: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the user is to agree to: one act, or several with a total.

    Attributes:
        attempts: what is to be made, each at its price; at least one.
        price: what all of it is likely to cost.
        reasons: why the user is asked.
        notes: what is to be known of the request besides, in sentences of our own.
        unasked_usd: what was paid or is held within a day without asking; None where that is not bounded.
        left_usd: what the budgets leave, or None where there is none.
        is_sandbox: whether no real money is spent.
        hand_out: makes a quote or a question's token for all of it.
        voice_names: what voices are called, by their ids, as far as that is known.
    """

    attempts: Sequence[Attempt]
    price: Price
    reasons: Sequence[Reason]
    notes: Sequence[str]
    unasked_usd: Decimal | None
    left_usd: Decimal | None
    is_sandbox: bool
    hand_out: Callable[[TokenKind], Awaitable[str]]
    voice_names: Mapping[str, str] = field(default_factory=dict[str, str])


class Approval(Protocol):
    """How the user is asked."""

    @property
    def above_usd(self) -> Decimal | None:
        """The most that may be paid unasked within a day; None asks about no price that the API publishes."""
        ...

    async def ask(self, proposal: Proposal) -> None:
        """Return when the user has agreed.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not.
        """
        ...


class Nobody:
    """Where nobody can be asked: no price is asked about, published or not; what else must be is refused."""

    above_usd: Decimal | None = None

    async def ask(self, proposal: Proposal) -> None:
        """Refuse.

        Raises:
            ApprovalRequired: always.
        """
        raise ApprovalRequired(
            "Nothing was sent: the user would have to agree, and nobody can be asked here. "
            + " ".join(reason.text for reason in proposal.reasons),
            question="",
            quote_id=None,
            price_is_known=proposal.price.usd is not None,
            next_step=" ".join(dict.fromkeys(reason.way_on for reason in proposal.reasons)),
        )


NOBODY_TO_ASK = Nobody()


def repeat_reason(note: str, entry_id: int) -> Reason:
    """Return that a thing may be paid a second time, though nobody asked for another take."""
    return Reason(
        f"{note} Made again, it may be paid again.",
        "To make and pay for it again on purpose give another take; or the user lets go of the earlier "
        f"attempt: {ledger_command('release', str(entry_id))}.",
    )


def refusal_reason(refused: QuoteRefused) -> Reason:
    """Return why the user is asked anew by whom a yes was not taken.

    Raises:
        QuoteRefused: it tells them nothing that they did not know.
    """
    if not refused.to_user:
        raise refused
    return Reason(refused.message, to_user=refused.to_user)


WEBHOOK_REASON = Reason(
    "It names a webhook, to which the finished video's URL is sent.",
    "Leave webhook_url out, or the user allows its host in SYNC_MCP_WEBHOOK_HOSTS.",
)


UNPRICED_REASON = Reason("The API publishes no price for it: only the bill tells what it costs.")
ANOTHER_TAKE_REASON = Reason("Of some of it this is another take: the same thing is made and paid again.")
DECLINED_REASON = Reason(
    "The user said no to this within a day.", to_user="You said no to this within a day."
)


def price_reasons(
    price: Price, unasked_usd: Decimal, above_usd: Decimal | None, *, take: int
) -> list[Reason]:
    """Return why the user has to agree to a price; nothing where they need not."""
    text = _price_reason(price, unasked_usd, above_usd, take)
    return [] if text is None else [Reason(text)]


def _price_reason(price: Price, unasked_usd: Decimal, above_usd: Decimal | None, take: int) -> str | None:
    if above_usd is None:
        return None
    if take > 1:
        return f"It is take {take}: the same thing is made and paid again."
    if price.usd is None:
        return f"The price is unknown: {price.note}." if price.note else "The price is unknown."
    if above_usd == 0:
        return "Every price is asked about."
    if price.usd > above_usd:
        return f"It costs more than {dollars(above_usd)}."
    if unasked_usd + price.usd > above_usd:
        return (
            f"With the {dollars(unasked_usd)} paid or held without asking within a day it is more than "
            f"{dollars(above_usd)}."
        )
    return None
