"""Asking the user: whether that is needed, and taking their no."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial

import anyio

from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import ApprovalDenied, SyncError
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.attempt import Attempt, Token
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import LOOK_SECONDS, PaidCall
from sync_mcp.payments.consent import (
    ANOTHER_TAKE_REASON,
    DECLINED_REASON,
    NOBODY_TO_ASK,
    UNPRICED_REASON,
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

    async def note_newest(self, attempt: Attempt) -> Attempt:
        """Return an attempt as the user is told of it now: what is made later their yes does not cover."""
        return replace(attempt, known_until=await do_in_thread(self.ledger.newest_id))

    async def reasons_for(self, call: PaidCall[Job], attempt: Attempt) -> list[Reason]:
        """Return why the user is asked about an attempt; nothing where they need not be."""
        return [
            *await self._reasons_besides_price(call, attempt),
            *await self._price_reasons(call, attempt.price, call.take),
        ]

    async def _reasons_besides_price(self, call: PaidCall[Job], attempt: Attempt) -> list[Reason]:
        reasons: list[Reason] = []
        if attempt.paid_before is not None:
            reasons.append(repeat_reason(attempt.note or "", attempt.paid_before))
        else:
            twin = await do_in_thread(self.ledger.twin_elsewhere, call.intention)
            if twin is not None:
                note = f"The same was made or sent with another key of this address (ledger entry {twin.id})."
                reasons.append(repeat_reason(note, twin.id))
        if call.host_to_ask_about is not None:
            reasons.append(WEBHOOK_REASON)
        above, is_always_asked = call.approval.above_usd, _is_always_asked(call)
        # Where prices are asked about, an unknown one says so itself.
        if is_always_asked and (above is None or attempt.price.usd is not None):
            reasons.append(UNPRICED_REASON)
        # Where nobody is asked about a price, nobody is asked about a no of before either.
        is_asked = above is not None or is_always_asked
        if is_asked and await do_in_thread(self.ledger.was_declined, call.intention, call.caller):
            reasons.append(DECLINED_REASON)
        return reasons

    async def _price_reasons(self, call: PaidCall[Job], price: Price, take: int) -> list[Reason]:
        above = call.approval.above_usd
        if above is None and take > 1 and _is_always_asked(call):
            # They are asked all the same, and told this too.
            above = Decimal(0)
        unasked = Decimal(0) if above is None else await self._sum_unasked(call)
        return price_reasons(price, unasked, above, take=take)

    async def _sum_unasked(self, call: PaidCall[Job]) -> Decimal:
        return await do_in_thread(partial(self.ledger.sum_unasked, is_sandbox=call.is_sandbox, now=call.now))

    async def ask(self, call: PaidCall[Job], attempt: Attempt, because: Sequence[Reason] = ()) -> bool:
        """Have the user agree where that is needed; return whether they were asked.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not agreed; nothing was sent.
        """
        reasons = because or await self.reasons_for(call, attempt)
        if not reasons:
            return False
        await self._propose([call], [attempt], attempt.price, reasons)
        return True

    async def reasons_for_all(
        self, made_out: Sequence[tuple[PaidCall[Job], Attempt]], total: Price
    ) -> list[Reason]:
        """Return why the user is asked about several attempts at once; nothing where they need not be."""
        calls = [call for call, _ in made_out]
        reasons: list[Reason] = []
        for call, attempt in made_out:
            reasons += await self._reasons_besides_price(call, attempt)
        reasons += await self._price_reasons(calls[0], total, take=1)
        is_any_again = any(call.take > 1 for call in calls)
        if is_any_again and calls[0].approval.above_usd is not None:
            reasons.append(ANOTHER_TAKE_REASON)
        return list(dict.fromkeys(reasons))

    async def ask_for_all(
        self,
        made_out: Sequence[tuple[PaidCall[Job], Attempt]],
        total: Price,
        because: Sequence[Reason] = (),
    ) -> Token | None:
        """Have the user agree to several attempts at once, with their total; None where that is not needed.

        Raises:
            ApprovalRequired, ApprovalDenied: the user has not agreed; nothing was sent.
        """
        reasons = [*because, *await self.reasons_for_all(made_out, total)]
        if not reasons:
            return None
        await self._propose([call for call, _ in made_out], [one for _, one in made_out], total, reasons)
        return Token(await self.hand_out_for_all(made_out))

    async def hand_out_for_all(self, made_out: Sequence[tuple[PaidCall[Job], Attempt]]) -> str:
        """Write down a quote for several attempts, each at its price; return its name."""
        return await self._hand_out(made_out[0][0], [attempt for _, attempt in made_out], "quote")

    async def _propose(
        self,
        calls: Sequence[PaidCall[Job]],
        attempts: Sequence[Attempt],
        total: Price,
        reasons: Sequence[Reason],
    ) -> None:
        """Have the user agree to these attempts of calls; how they are asked follows from the first call."""
        first = calls[0]
        approval = first.approval
        proposal = Proposal(
            attempts,
            total,
            reasons,
            list(dict.fromkeys(note for call in calls for note in call.notes)),
            None if approval.above_usd is None else await self._sum_unasked(first),
            await self._bounds.sum_left(first),
            first.is_sandbox,
            partial(self._hand_out, first, attempts),
            first.voice_names,
        )
        try:
            await approval.ask(proposal)
        except ApprovalDenied as denied:
            if denied.is_the_users:
                for call in calls:
                    await self.revoke(call)
            raise

    async def revoke(self, call: PaidCall[Job]) -> None:
        """Take back what the user was told of a call they said no to, also where it names known assets."""
        await do_in_thread(partial(self.ledger.revoke, call.intention, caller=call.caller))
        files = call.files
        if files is None:
            return
        assets: Mapping[str, str] | None = None
        with anyio.move_on_after(min(LOOK_SECONDS, max(1.0, call.seconds_left))):
            try:
                assets = await files.find_assets(call.sync)
            except SyncError as error:
                logger.warning("which assets have the content of files cannot be told: %s", error)
        if assets is not None:
            sent = call.intention.with_assets(assets)
            await do_in_thread(partial(self.ledger.revoke, call.intention, sent, caller=call.caller))

    async def hand_out(self, call: PaidCall[Job], attempt: Attempt) -> str:
        """Write down a quote for an attempt at its price; return its name."""
        return await self._hand_out(call, [attempt], "quote")

    async def _hand_out(self, call: PaidCall[Job], attempts: Sequence[Attempt], kind: TokenKind) -> str:
        return await do_in_thread(partial(self.ledger.quote, attempts, call.now, kind, caller=call.caller))


def _is_always_asked(call: PaidCall[Job]) -> bool:
    """Whether the user is asked whatever may be paid unasked: the API publishes no price of it.

    A program that names nobody to ask has said by its call what it wants.
    """
    return not call.act.is_priced and call.approval is not NOBODY_TO_ASK
