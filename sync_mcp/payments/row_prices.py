"""The price of an act of many parts: the sum of theirs, each asked once and remembered for a while."""

from collections.abc import Sequence
from functools import partial

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APITimeoutError, InvalidRequestError, RateLimitError, SyncError
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.price import Price, total_of

_AT_ONCE = 8
_SECONDS = 30.0
"""The longest that one call asks; the next one goes on from there."""
_REMEMBERED_SECONDS = 900.0
_REMEMBERED = 5000
_PAUSE_SECONDS = 1.0
_ROWS_NAMED = 5
_Place = tuple[str, str, str]


class RowPrices:
    """Prices acts row by row; what the API told lately is not asked again."""

    def __init__(self) -> None:
        self._known: dict[_Place, tuple[float, Price]] = {}

    async def price(self, sync: AsyncSync, rows: Sequence[PaidAct[Job]], options: RequestOptions) -> Price:
        """Return what these are likely to cost together; unknown where the price of one is.

        Raises:
            InvalidRequestError: a row does not go with its media as they were measured.
            APITimeoutError: there are too many to ask for in one call; the next one goes on.
            SyncError: a row could not be sent either, or its price cannot be told now.
        """
        prices: list[Price | None] = [None] * len(rows)
        failures: list[SyncError] = []
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        with anyio.move_on_after(_SECONDS):
            async with anyio.create_task_group() as asking:

                async def ask(number: int, row: PaidAct[Job]) -> None:
                    try:
                        async with limiter:
                            prices[number] = await self._price_one(sync, row, options)
                    except SyncError as error:
                        failures.append(error.advise(message=f"row {number + 1}: {error.message}"))
                        asking.cancel_scope.cancel()

                for number, row in enumerate(rows):
                    asking.start_soon(partial(ask, number, row))
        if failures:
            raise failures[0]
        known = [price for price in prices if price is not None]
        if len(known) < len(rows):
            raise APITimeoutError(
                f"The API told the prices of {len(known)} of {len(rows)} rows in {_SECONDS:.0f} s."
            ).advise(
                money_spent="no",
                retryable=True,
                next_step="Make exactly the same call again: it goes on from there, and nothing was sent.",
            )
        faults = [
            f"row {number}: {fault}"
            for number, (row, price) in enumerate(zip(rows, known, strict=True), 1)
            for fault in row.faults_at(price)
        ]
        if faults:
            raise InvalidRequestError(faults)
        return _total(known)

    async def _price_one(self, sync: AsyncSync, row: PaidAct[Job], options: RequestOptions) -> Price:
        place = sync.key_fingerprint, sync.base_url, row.made_digest
        known = self._known.get(place)
        if known is not None and anyio.current_time() - known[0] < _REMEMBERED_SECONDS:
            return known[1]
        price = await row.price(sync, options)
        while isinstance(price.fault, RateLimitError):
            await anyio.sleep(price.fault.retry_after_seconds or _PAUSE_SECONDS)
            price = await row.price(sync, options)
        if price.fault is not None and price.fault.retryable:
            # It can be told, only not now: nothing so large goes out on a price that nobody knows.
            raise price.fault
        if price.usd is not None:
            self._known.pop(place, None)
            self._known[place] = anyio.current_time(), price
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return price


def _total(prices: Sequence[Price]) -> Price:
    total = total_of(prices)
    if total.usd is None:
        unknown = [number for number, price in enumerate(prices, 1) if price.usd is None]
        named = ", ".join(map(str, unknown[:_ROWS_NAMED]))
        more = f" and {len(unknown) - _ROWS_NAMED} more" if len(unknown) > _ROWS_NAMED else ""
        first = prices[unknown[0] - 1]
        which = "row" if len(unknown) == 1 else "rows"
        return Price(None, f"that of {which} {named}{more} is not known: {first.note}", fault=first.fault)
    frames = [price.frames for price in prices if price.frames is not None]
    counted = f", {sum(frames):,.0f} frames" if len(frames) == len(prices) else ""
    return Price(total.usd, frames=sum(frames) or None, assumptions=(f"{len(prices)} rows{counted}",))
