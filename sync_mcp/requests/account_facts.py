"""Whose names are looked up: the account's client, and what the API told it."""

from typing import Protocol

from sync_mcp.api.client import AsyncSync
from sync_mcp.requests.kept_lists import KeptLists
from sync_mcp.requests.own_outputs import OwnOutputs


class AccountFacts(Protocol):
    """One account, as far as a request is looked up for it."""

    @property
    def client(self) -> AsyncSync:
        """Its client."""
        ...

    @property
    def base_url(self) -> str:
        """The API's origin, or "" where there is no client that knows it."""
        ...

    @property
    def lists(self) -> KeptLists:
        """What the API lists for it."""
        ...

    @property
    def outputs(self) -> OwnOutputs:
        """The output URLs that were told."""
        ...
