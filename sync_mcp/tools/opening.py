"""With what a book and an account are opened: plain values, which need nothing of either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from sync_mcp.tools.user import ApproveBy

WEBHOOK_PATH = "/webhooks/sync"
"""Where a server over HTTP takes the API's webhooks."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an account's user lets be done unasked, and how they are asked.

    Attributes:
        approve_above_usd: the most that may be paid unasked within a day; None asks about no price.
        approve_by: whose yes counts.
        webhook_hosts: the hosts that may be told of a job's end unasked.
        webhook_url: whom a job's end is told where a call names nobody; None for nobody.
    """

    approve_above_usd: Decimal | None
    approve_by: ApproveBy = "ask"
    webhook_hosts: Sequence[str] = ()
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class Folders:
    """Where an account's local files may be.

    Attributes:
        roots: where files may be read; None stands for the usual folders.
        download_dir: where results are saved; None stands for the usual folder.
        has_usual: whether there are usual ones: else None is none at all.
    """

    roots: Sequence[Path] | None = None
    download_dir: Path | None = None
    has_usual: bool = True


@dataclass(frozen=True, slots=True)
class AccountOpening:
    """With what an account is opened; an empty key is none."""

    api_key: str = field(repr=False)
    base_url: str
    policy: Policy
    folders: Folders = Folders()
    campaign_slots: int | None = None
    """The most rows of campaigns that are made at once."""
    is_sandbox: bool = False
    """Whether it is known beforehand that no real API answers."""


@dataclass(frozen=True, slots=True)
class BookOpening:
    """With what the book is opened: where it lies, and the user's limits in US dollars, by the names that
    `Limits` has for them.

    `is_scratch` says that it ends with the process, `unpriced_usd` what is held for a thing without a
    published price, `database_url` that it lies in a database, and not in the folder `home`.
    """

    home: str | None
    is_scratch: bool
    limits: Mapping[str, Decimal]
    resend_hours: float
    unpriced_usd: Decimal | None = None
    database_url: str | None = field(default=None, repr=False)
