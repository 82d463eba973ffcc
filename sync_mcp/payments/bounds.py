"""What a call may cost by the user's limits and its own."""

from decimal import Decimal
from functools import partial

from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LimitReached
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Spent, call_refusal, refusal_of_unpriced, until_priced
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import SETTLE_SECONDS, Settling


class Bounds:
    """The limits, and what stands against them by now."""

    def __init__(self, ledger: Ledger, settling: Settling) -> None:
        self.ledger = ledger
        self._settling = settling

    async def standing_refusal(self, call: PaidCall[Job], price: Price) -> LimitReached | None:
        """Return which limit stands against a price, once it is known what has ended since."""
        refusal = await self.refusal(call, price.usd)
        if refusal is None:
            return None
        if price.usd is None:
            # No sum that is spent decides it.
            if not call.act.is_priced and refusal.limit is None:
                return refusal_of_unpriced(call.act.noun)
            return until_priced(refusal, price.fault) if price.fault else refusal
        await self._settle(call)
        return await self.refusal(call, price.usd)

    async def refusal(
        self, call: PaidCall[Job], usd: Decimal | None, *, held_by: Entry | None = None
    ) -> LimitReached | None:
        """Return which limit stands against a price, if any, besides what an entry holds for it already."""
        refusal = self.max_cost_refusal(call, usd)
        if refusal is not None or not call.limits.any:
            return refusal
        spent = await self._sum_spent(call)
        if held_by is not None:
            spent = spent.without(held_by.counted_usd, held_by.created_at)
        return call.limits.refusal(usd, spent)

    async def refusal_of_all(self, call: PaidCall[Job], total_usd: Decimal) -> LimitReached | None:
        """Return which budget several calls of an account would pass together, if any.

        What has ended since is asked before one is refused.
        """
        if not call.limits.has_budget:
            return None
        refusal = call.limits.refusal_of_all(total_usd, await self._sum_spent(call))
        if refusal is None:
            return None
        await self._settle(call)
        return call.limits.refusal_of_all(total_usd, await self._sum_spent(call))

    def max_cost_refusal(self, call: PaidCall[Job], usd: Decimal | None) -> LimitReached | None:
        """Return that the call's own limit stands against a price, if it does."""
        most = call.max_cost_usd
        return None if most is None else call_refusal(usd, most)

    async def _settle(self, call: PaidCall[Job]) -> None:
        options = call.reading(SETTLE_SECONDS)
        await self._settling.settle_account(call.sync, call.whose, options, is_due=True)

    async def _sum_spent(self, call: PaidCall[Job]) -> Spent:
        return await do_in_thread(partial(self.ledger.sum_spent, is_sandbox=call.is_sandbox, now=call.now))

    async def most_usd(self, call: PaidCall[Job]) -> Decimal | None:
        """Return the most that a job may cost now, or None where nothing limits it."""
        bounds: list[Decimal] = []
        if call.limits.any:
            bounds = [limit.left_usd for limit in call.limits.standings(await self._sum_spent(call))]
        if call.max_cost_usd is not None:
            bounds.append(call.max_cost_usd)
        return min(bounds, default=None)

    async def sum_left(self, call: PaidCall[Job]) -> Decimal | None:
        """Return what is left of the budgets, or None where there is none."""
        return call.limits.sum_left(await self._sum_spent(call)) if call.limits.has_budget else None
