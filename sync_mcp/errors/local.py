"""What goes wrong on this machine: settings, arguments, files, and this package itself."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sync_mcp.errors.base import MoneySpent, SyncError
from sync_mcp.errors.codes import Code
from sync_mcp.texts import MESSAGE_LIMIT, safe


class ConfigurationError(SyncError):
    """A setting is missing or wrong, or a client is in an event loop that is not its own; nothing was sent.

    `code` is `api_key_missing` where there is no key, or a placeholder in place of one, and
    `configuration_error` for everything else.
    """

    code = "configuration_error"

    def __str__(self) -> str:
        # A traceback is all that the user of a script sees, and it is they who can mend it.
        return f"{super().__str__()} {self.next_step}".rstrip()


class InvalidRequestError(SyncError):
    """The request breaks rules that are known without asking the API; nothing was sent.

    Attributes:
        faults: one sentence for each rule broken.
    """

    code = "invalid_request"
    next_step = "Correct the arguments and call again."

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__(" ".join(self.faults))
        # Several faults are several sentences: the limit of one message does not hold for them together.
        self.message = " ".join(safe(fault, MESSAGE_LIMIT) for fault in self.faults[:20])
        self.args = (self.message,)


class FileRefused(SyncError):
    """A local file cannot be read, sent or written as it is; nothing was made of it, here or there.

    `code` says why: `file_not_allowed`, `file_not_found`, `folder_not_found`, `file_not_readable`,
    `file_not_media`, `file_damaged`, `file_too_large`, `file_empty`, `file_changed`, `file_exists`,
    `file_not_writable`, `file_too_slow`, `media_extra_missing`, `media_worker_failed`, and `file_refused`
    for everything else.
    """

    code = "file_refused"
    next_step = "Name another file."


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a file is; `done_bytes` begins anew with each step, and with each new try."""

    step: Literal["hash", "send", "fetch"]
    done_bytes: int
    total_bytes: int | None
    """None where a storage does not tell it."""


@dataclass(frozen=True, slots=True)
class Handle:
    """What goes on: the key by which it is joined, and how far it is; None where nothing has moved yet."""

    key: Hashable = field(repr=False)
    progress: Transfer | None = None


class UnderWay(SyncError):
    """What was called for did not end in this call's time, and goes on: the same call joins it.

    `code` says what goes on: `transfer_under_way`, a file is read, sent or fetched, in this process; or
    `create_under_way`, the same create, in another call or process.

    Attributes:
        handle: what goes on. Of a create its key is the digest of what is made.
    """

    code = "transfer_under_way"
    retryable = True
    next_step = "Make exactly this call again: it joins the transfer, which goes on in the server."

    def __init__(
        self,
        handle: Handle,
        message: str | None = None,
        *,
        code: Code | None = None,
        money_spent: MoneySpent = "no",
    ) -> None:
        self.handle = handle
        self.money_spent = money_spent
        super().__init__(message or f"Not finished: {_describe_transfer(handle.progress)}.", code=code)


class ReadOnlyError(SyncError):
    """The server was started read-only: it pays for nothing and changes nothing."""

    code = "read_only"
    next_step = "Tell the user: SYNC_MCP_READ_ONLY=1 is set in the server's environment, by their own choice."


class ToolOff(SyncError):
    """The tool is not among those that are on."""

    code = "tool_off"
    next_step = (
        "Tell the user: SYNC_MCP_TOOLSETS or SYNC_MCP_TOOLS in the server's environment leaves it out."
    )


class InternalError(SyncError):
    """A fault of this package; the log on standard error says more."""

    code = "internal_error"
    next_step = "Report it with the server's log. If the call was a create, look at list_generations first."

    def __init__(self, message: str, *, money_spent: MoneySpent) -> None:
        self.money_spent = money_spent
        super().__init__(message)


_DONE = {"hash": "read", "send": "sent", "fetch": "fetched"}


def _describe_transfer(transfer: Transfer | None) -> str:
    """Return how far a transfer is, as a phrase."""
    if transfer is None:
        return "it has just begun"
    total = "" if transfer.total_bytes is None else f" of {transfer.total_bytes:,}"
    return f"{transfer.done_bytes:,}{total} bytes {_DONE[transfer.step]}"
