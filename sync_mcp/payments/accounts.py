"""Whose money it is: asked of the API once for each key."""

import math
from functools import partial

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import APIResponseError, APIStatusError, AuthenticationError
from sync_mcp.payments.attempt import Account
from sync_mcp.payments.call import LOOK_SECONDS
from sync_mcp.payments.ledger import Ledger
from sync_mcp.texts import ID_LIMIT, safe

ORGANIZATION_HEADER = "x-sync-organization-id"
_ACCOUNT_KEPT_SECONDS = 600.0
"""How long an account that the API would not name goes by its key, before it is asked again."""


class Accounts:
    """The accounts of the keys that calls came with."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._accounts: dict[tuple[str, str, str], tuple[Account, float]] = {}
        """By key, address and chosen organization, with the time up to which it is believed."""

    async def get(
        self, sync: AsyncSync, options: RequestOptions | None = None, *, seconds: float = math.inf
    ) -> Account:
        """Return whose money the client's key spends; the API is asked once for each key.

        Raises:
            SyncError: it is not known yet, and the API cannot tell it now.
        """
        headers = (options or RequestOptions()).get("additional_headers", {})
        chosen = next((str(headers[n]) for n in headers if n.lower() == ORGANIZATION_HEADER), "")
        place = (sync.key_fingerprint, sync.base_url, chosen)
        known, until = self._accounts.get(place, (None, 0.0))
        if known is not None and anyio.current_time() < until:
            return known
        if chosen:
            known = Account(f"org:{safe(chosen, ID_LIMIT)}", sync.base_url, sync.sandboxed)
        else:
            known = await self._own(sync, seconds)
        is_final = known.name.startswith("org:")
        until = math.inf if is_final else anyio.current_time() + _ACCOUNT_KEPT_SECONDS
        self._accounts[place] = (known, until)
        return known

    def recall(self, sync: AsyncSync) -> Account:
        """Return the account of the client's key as far as it was asked for; nothing is asked."""
        known, _ = self._accounts.get((sync.key_fingerprint, sync.base_url, ""), (None, 0.0))
        return known or Account(f"key:{sync.key_fingerprint}", sync.base_url, sync.sandboxed)

    async def _own(self, sync: AsyncSync, seconds: float) -> Account:
        fingerprint, base_url = sync.key_fingerprint, sync.base_url
        known = await do_in_thread(self.ledger.account_of, fingerprint, base_url)
        # One that was named after its key may have a name by now.
        if known is not None and known[0].startswith("org:"):
            return Account(known[0], base_url, known[1])
        organization: str | None = None
        try:
            within = max(1.0, min(LOOK_SECONDS, seconds))
            told = await sync.account.get(request_options={"timeout_in_seconds": within})
            organization = told.organization_id
            if organization is None and told.account is None and told.plan is None:
                raise APIResponseError("The API's answer is no account.")
        except AuthenticationError:
            raise
        except (APIStatusError, APIResponseError) as error:
            # An API that has no such page can still make videos: the account goes by its key for now.
            if error.retryable or not 400 <= (error.status or 0) < 500:
                raise
        if organization is None:
            return Account(f"key:{fingerprint}", base_url, sync.sandboxed)
        name = f"org:{safe(organization, ID_LIMIT)}"
        note = partial(self.ledger.keep_account, fingerprint, base_url, name, is_sandbox=sync.sandboxed)
        return Account(await do_in_thread(note), base_url, sync.sandboxed)
