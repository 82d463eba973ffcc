"""Prices of acts, with what the API said of local files once it had them."""

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.price import Price
from sync_mcp.payments.row_prices import RowPrices


class Pricing:
    """Prices acts; it remembers what the API said of local files once it had them."""

    def __init__(self) -> None:
        self._measured: dict[tuple[str, str, str], Price] = {}
        """By key, address and what is made: plans may have prices of their own."""
        self._rows = RowPrices()

    def learn(self, sync: AsyncSync, act: PaidAct[Job], price: Price) -> None:
        """Note what the API says that an act costs this account, whose files it has."""
        self._measured[_place(sync, act)] = price

    async def price(
        self,
        sync: AsyncSync,
        act: PaidAct[Job],
        options: RequestOptions,
        *,
        hint_seconds: float | None = None,
        fps: float | None = None,
        files: LocalFiles | None = None,
        planned: Price | None = None,
    ) -> Price:
        """Return what an act is likely to cost; `hint_seconds` and `fps` are the caller's word.

        With `planned`, what was asked before of local files that hold the same still, they are not priced
        again before the API has them.

        Raises:
            SyncError: it could not be sent either.
        """
        if act.parts:
            return await self._rows.price(sync, act.parts, options)
        # Few calls have files: for the others there is nothing to digest.
        measured = self._measured.get(_place(sync, act)) if self._measured else None
        if planned is not None and measured is None and act.local_media:
            return planned
        return await act.price(
            sync, options, hint_seconds=hint_seconds, fps=fps, files=files, measured=measured
        )


def _place(sync: AsyncSync, act: PaidAct[Job]) -> tuple[str, str, str]:
    return sync.key_fingerprint, sync.base_url, act.made_digest
