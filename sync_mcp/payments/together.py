"""Several calls at once: what each would meet with, what they cost together, and one yes to all of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import anyio

from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LimitReached, NotVisibleYet, QuoteRefused, SyncError
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.asking import Asking
from sync_mcp.payments.attempt import Attempt, Token
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import Reason, refusal_reason
from sync_mcp.payments.history import History
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import call_refusal
from sync_mcp.payments.paying import Payer
from sync_mcp.payments.price import Price, total_of
from sync_mcp.payments.rows import Entry

_AT_ONCE = 4
"""The API measures what it prices: that takes its time."""

Found = Made[Job] | Attempt | Entry | SyncError
"""What a create meets with: its job, the attempt that it makes at its price, the one that is in doubt or
under way, or what it would be told."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What creates of one account would meet with now.

    Attributes:
        calls: the calls, with all that the guard knows.
        found: what each of them meets with, in their order.
        same_as: the calls that mean the same as one before them, each with that one, by their indexes.
        total: what the attempts that would be made cost together.
        refusal: which limit stands against all of them together, if any.
    """

    calls: Sequence[PaidCall[Job]]
    found: Sequence[Found]
    same_as: Mapping[int, int]
    total: Price
    refusal: LimitReached | None = None

    @property
    def attempts(self) -> list[tuple[PaidCall[Job], Attempt]]:
        """What would be made, each once."""
        return [
            (call, found)
            for number, (call, found) in enumerate(zip(self.calls, self.found, strict=True))
            if isinstance(found, Attempt) and number not in self.same_as
        ]

    @property
    def failures(self) -> Mapping[int, SyncError]:
        """Why calls cannot be made, by their indexes. A job that is not visible yet is told by its create."""
        return {
            number: found
            for number, found in enumerate(self.found)
            if isinstance(found, SyncError) and not isinstance(found, NotVisibleYet)
        }


class Together:
    """Looks at several calls before one is sent, and has the user agree to all of them at once."""

    def __init__(
        self,
        ledger: Ledger,
        history: History,
        payer: Payer,
        bounds: Bounds,
        asking: Asking,
        open_call: Callable[[PaidCall[Job]], Awaitable[PaidCall[Job]]],
    ) -> None:
        self._ledger = ledger
        self._history = history
        self._payer = payer
        self._bounds = bounds
        self._asking = asking
        self._open = open_call

    async def look(self, calls: Sequence[PaidCall[Job]], *, max_total_usd: Decimal | None = None) -> Outlook:
        """Look up and price calls of one account; nothing is sent.

        `max_total_usd` is what they may cost together.

        Raises:
            LedgerError, SyncError: what stands in the way of all of them.
        """
        opened = [await self._open(call) for call in calls]
        firsts: dict[str, int] = {}
        same_as: dict[int, int] = {}
        for number, call in enumerate(opened):
            first = firsts.setdefault(call.intention.digest, number)
            if first != number:
                same_as[number] = first
        found: dict[int, Found] = {}
        turns = anyio.CapacityLimiter(_AT_ONCE)

        async def look_at(number: int) -> None:
            async with turns:
                found[number] = await self._look_at(opened[number])

        async with anyio.create_task_group() as tasks:
            for number in firsts.values():
                tasks.start_soon(look_at, number)
        every = [found[same_as.get(number, number)] for number in range(len(opened))]
        outlook = Outlook(opened, every, same_as, Price(Decimal(0)))
        made_out = outlook.attempts
        if outlook.failures or not made_out:
            return outlook
        total = total_of([attempt.price for _, attempt in made_out])
        refusal = None if max_total_usd is None else call_refusal(total.usd, max_total_usd)
        if refusal is None and total.usd is not None:
            # Where there is a budget, each price is known by now.
            refusal = await self._bounds.refusal_of_all(made_out[0][0], total.usd)
        return replace(outlook, total=total, refusal=refusal)

    async def _look_at(self, call: PaidCall[Job]) -> Found:
        try:
            found = await self._history.find(call)
            if not isinstance(found, Attempt):
                return found
            attempt = replace(found, price=await self._payer.price(call))
            refusal = await self._bounds.standing_refusal(call, attempt.price)
            return refusal or await self._asking.note_newest(attempt)
        except SyncError as error:
            # Out of a task group it would come in a group.
            return error

    async def ask(self, outlook: Outlook) -> Token | None:
        """Have the user agree to what would be made; return what each call is made by, None for nothing.

        A yes that they have given to all of it, and more, holds for what is left of it.

        Raises:
            LimitReached: all together would pass a limit; nothing was sent.
            QuoteRefused, ApprovalRequired, ApprovalDenied: the user has not agreed; nothing was sent.
        """
        made_out = outlook.attempts
        if not made_out:
            return None
        if outlook.refusal is not None:
            raise outlook.refusal
        attempts = [attempt for _, attempt in made_out]
        because: list[Reason] = []
        token = attempts[0].token
        if token is None:
            token = await do_in_thread(self._ledger.find_agreed, attempts)
            if token is not None:
                return token
        else:
            try:
                await do_in_thread(self._ledger.check_agreed, attempts)
            except QuoteRefused as refused:
                because = [refusal_reason(refused)]
            else:
                return token
        return await self._asking.ask_for_all(made_out, outlook.total, because)

    async def foresee(self, outlook: Outlook, *, wants_quote: bool) -> tuple[list[Reason], str | None]:
        """Say why the user would be asked, and hand out a quote for all of it where one is wanted."""
        made_out = outlook.attempts
        if not made_out or outlook.refusal is not None:
            return [], None
        if await do_in_thread(self._ledger.find_agreed, [attempt for _, attempt in made_out]) is not None:
            return [], None
        reasons = await self._asking.reasons_for_all(made_out, outlook.total)
        if not (reasons and wants_quote):
            return reasons, None
        return reasons, await self._asking.hand_out_for_all(made_out)
