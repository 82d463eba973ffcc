"""Asking the user: whether that is needed, and taking their no."""

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial

import anyio

from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import ApprovalDenied, SyncError
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import LOOK_SECONDS, Call, Next, host_to_ask_about
from sync_mcp.payments.consent import (
    DECLINED_REASON,
    WEBHOOK_REASON,
    Proposal,
    Reason,
    price_reasons,
    repeat_reason,
)
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import TokenKind

logger = logging.getLogger("sync_mcp.payments")


class Asking:
    """What the user is asked about a call, and what came of it."""

    def __init__(self, ledger: Ledger, bounds: Bounds) -> None:
        self.ledger = ledger
        self._bounds = bounds

    async def reasons_for(self, call: Call, following: Next, price: Price) -> list[Reason]:
        """Return why the user is asked about an attempt; nothing where they need not be."""
        reasons: list[Reason] = []
        if following.paid_before is not None:
            reasons.append(repeat_reason(following.note or "", following.paid_before))
        else:
            twin = await do_in_thread(self.ledger.twin_elsewhere, call.intention)
            if twin is not None:
                note = f"The same was made or sent with another key of this address (ledger entry {twin.id})."
                reasons.append(repeat_reason(note, twin.id))
        if host_to_ask_about(call) is not None:
            reasons.append(WEBHOOK_REASON)
        above = call.terms.approval.above_usd
        # Where nobody is asked about a price, nobody is asked about a no of before either.
        if above is not None and await do_in_thread(
            self.ledger.was_declined, call.intention, call.terms.caller
        ):
            reasons.append(DECLINED_REASON)
        unasked = Decimal(0) if above is None else await self._unasked_usd(call)
        return [*reasons, *price_reasons(price, unasked, above, take=call.intention.take)]

    async def _unasked_usd(self, call: Call) -> Decimal:
        return await do_in_thread(partial(self.ledger.unasked_usd, is_sandbox=call.is_sandbox, now=call.now))

    async def ask(self, call: Call, following: Next, price: Price, because: Sequence[Reason] = ()) -> bool:
        """Have the user agree where that is needed; return whether they were asked.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not agreed; nothing was sent.
        """
        reasons = because or await self.reasons_for(call, following, price)
        if not reasons:
            return False
        approval = call.terms.approval
        proposal = Proposal(
            call.intention,
            following.attempt,
            price,
            reasons,
            call.terms.notes,
            None if approval.above_usd is None else await self._unasked_usd(call),
            await self._bounds.left_usd(call),
            call.is_sandbox,
            partial(self.hand_out, call, following, price),
            call.terms.voice_names,
        )
        try:
            await approval.ask(proposal)
        except ApprovalDenied as denied:
            if denied.is_the_users:
                await self.revoke(call)
            raise
        return True

    async def revoke(self, call: Call) -> None:
        """Take back what the user was told of a call they said no to, also where it names known assets."""
        await do_in_thread(partial(self.ledger.revoke, call.intention, caller=call.terms.caller))
        files = call.terms.files
        if files is None:
            return
        assets: Mapping[str, str] | None = None
        with anyio.move_on_after(min(LOOK_SECONDS, max(1.0, call.seconds_left))):
            try:
                assets = await files.known_assets(call.sync)
            except SyncError as error:
                logger.warning("which assets have the content of files cannot be told: %s", error)
        if assets is not None:
            sent = call.intention.with_assets(assets)
            await do_in_thread(partial(self.ledger.revoke, call.intention, sent, caller=call.terms.caller))

    async def hand_out(self, call: Call, following: Next, price: Price, kind: TokenKind) -> str:
        """Write down a quote or a question for a call at this price; return its name."""
        return await do_in_thread(
            partial(
                self.ledger.quote,
                call.intention,
                following.attempt,
                price.usd,
                call.now,
                kind,
                caller=call.terms.caller,
                webhook_host=call.intention.act.webhook_host,
            )
        )
