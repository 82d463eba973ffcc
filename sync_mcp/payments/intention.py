"""What a paid call means, however it is spelled: the same intention is made and paid once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from sync_mcp.api.fields import EXTRAS
from sync_mcp.api.models import Json
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments import digest_v1
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.canonical import sha256_of

DIGEST_VERSION = 2
"""Written beside each digest. What goes into a digest changes with a new version only: an upgrade that
digested the same call differently would pay for it again."""

HIGHEST_TAKE = 10_000
ABOUT_LIMIT = 60
"""The most characters of what a job is called in a list."""


@dataclass(frozen=True)
class Intention:
    """One act of one account.

    Attributes:
        act: what is to be made.
        account: whose it is.
        base_url: the API that is to make it.
        take: tells apart what is made again on purpose.
    """

    act: PaidAct[Job]
    account: str
    base_url: str
    take: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.take <= HIGHEST_TAKE:
            raise InvalidRequestError(f"take must lie between 1 and {HIGHEST_TAKE}.")

    @cached_property
    def body_digest(self) -> str:
        """SHA-256 of what is made, for whichever take."""
        return sha256_of([DIGEST_VERSION, self.base_url, self.account, self.act.identity])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the intention."""
        return sha256_of([self.body_digest, self.take])

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of what is made and its take: two accounts that mean the same share it."""
        return sha256_of([DIGEST_VERSION, self.act.identity, self.take])

    @cached_property
    def earlier_digests(self) -> tuple[str, ...]:
        """What the versions before made of this: under these an entry of theirs is found."""
        bodies = self.act.earlier_body_digests(self.account, self.base_url)
        return tuple(digest_v1.digest(body, self.take) for body in bodies)

    def idempotency_key(self, attempt: int) -> str:
        """Return the key under which this attempt is sent, from every process and machine."""
        return f"sync-mcp-{sha256_of([self.digest, attempt])[:48]}"

    def with_assets(self, assets: Mapping[str, str]) -> "Intention":
        """Return it with the asset of each local file, by its `asset_key`, in its place.

        Raises:
            KeyError: a file has none.
        """
        act = self.act.with_assets(assets)
        return self if act is self.act else replace(self, act=act)

    @property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        return f"{self.act.summary}{self._take_suffix}"

    @property
    def about(self) -> str:
        """What it is called in a list: "talk.mp4 + ben.wav", "talk.mp4, dubbed into fr, take 2"."""
        return f"{self.act.name(ABOUT_LIMIT - len(self._take_suffix))}{self._take_suffix}"

    @property
    def _take_suffix(self) -> str:
        return f", take {self.take}" if self.take > 1 else ""


def differing_extras(first: Json, second: Json) -> list[str]:
    """Return the names, as tools spell them, of what two calls with one intention say differently."""
    return [name for wire, name in EXTRAS.items() if first.get(wire) != second.get(wire)]
