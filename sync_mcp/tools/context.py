"""One tool call: the process and the account that it runs on, and when it must have ended."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from sync_mcp.tools.late import Late
from sync_mcp.tools.opening import AccountOpening
from sync_mcp.tools.process import Process
from sync_mcp.tools.user import NOBODY, User
from sync_mcp.tools.withheld import Off

if TYPE_CHECKING:
    from sync_mcp.api.options import RequestOptions
    from sync_mcp.tools.account import Account

CALL_SECONDS = 55.0
"""A whole tool call ends within this time of its arrival: hosts give up after sixty."""

ANSWER_SECONDS = 2.0
"""What is left of a call to answer with."""

ReportProgress = Callable[[str], Awaitable[None]]
"""Tells the client in a line that a call goes on; the figure beside it is the seconds since the call came."""


_OPEN_ACCOUNT: "Late[[Process, AccountOpening], Account]" = Late("account:open_account")


class Served:
    """What a server's calls run on: a process, and the account they are for, which the first one opens."""

    def __init__(self, process: Process, opening: AccountOpening) -> None:
        self.process = process
        self._opening = opening
        self._account: Account | None = None

    @property
    def account(self) -> "Account":
        """The account that the calls are for."""
        if self._account is None:
            self._account = _OPEN_ACCOUNT(self.process, self._opening)
        return self._account


@dataclass(slots=True)
class Payment:
    """Whether a call has come so far that it can have cost money."""

    has_begun: bool = False

    def begin(self) -> None:
        """Note that it has."""
        self.has_begun = True


@dataclass(frozen=True, slots=True)
class CallContext:
    """One tool call: its process and its account, the client's progress, and when it must have ended."""

    process: Process
    account: "Account"
    report_progress: ReportProgress
    ends_at: float
    user: User = NOBODY
    payment: Payment = field(default_factory=Payment)
    caller: str | None = None
    """The name of the token that the call came with over HTTP, where it has one."""
    withheld: Mapping[str, Off] = field(default_factory=dict[str, Off])
    """The tools that are off for this call, by name."""

    @property
    def can_save(self) -> bool:
        """Whether a result can be saved by another call: the tool is on, and there is a folder for it."""
        return "download_generation" not in self.withheld and self.account.roots.can_save

    @property
    def can_create(self) -> bool:
        """Whether a video can be made by another call."""
        return "create_generation" not in self.withheld

    @property
    def seconds_left(self) -> float:
        """How long the call may still take."""
        return max(0.0, min(self.ends_at, self.process.ends_at) - anyio.current_time())

    @property
    def answer_at(self) -> float:
        """When, on anyio's clock, what there is then has to be put into an answer."""
        return anyio.current_time() + max(0.0, self.seconds_left - ANSWER_SECONDS)

    @property
    def reading(self) -> "RequestOptions":
        """The options of a read that is to end in time for an answer."""
        return {"timeout_in_seconds": max(1.0, self.seconds_left - ANSWER_SECONDS)}
