"""The root of all errors."""

import json
from typing import Literal, Self

from sync_mcp.errors.codes import NEXT_STEPS, Code
from sync_mcp.texts import MESSAGE_LIMIT, safe

MoneySpent = Literal["no", "yes", "unknown"]


class SyncError(Exception):
    """The root of the tree.

    Attributes:
        code: a stable word to branch on, of ours.
        message: what went wrong in our words, one line, without keys and signed query strings.
        next_step: what the caller can do about it in our words, or "".
        api_code: the API's own `errorCode`, where it gave one.
        api_says: what the API said of it, in its words, or "".
        retryable: whether the same call may succeed later without a change.
        retry_after_seconds: when to try again, where that is known.
        money_spent: whether this failure may have cost money.
    """

    code: Code = "sync_error"
    retryable: bool = False
    next_step: str = ""
    money_spent: MoneySpent = "no"

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        next_step: str | None = None,
        retry_after_seconds: float | None = None,
        api_code: str | None = None,
        api_says: str = "",
    ) -> None:
        self.message = safe(message, MESSAGE_LIMIT)
        self.code = code or self.code
        self.api_code = safe(api_code or "", 80) or None
        self.api_says = safe(api_says, MESSAGE_LIMIT)
        self.next_step = safe(next_step or "", MESSAGE_LIMIT) or NEXT_STEPS.get(self.code) or self.next_step
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def advise(
        self,
        *,
        message: str | None = None,
        next_step: str | None = None,
        retryable: bool | None = None,
        money_spent: MoneySpent | None = None,
    ) -> Self:
        """Say more, or better, where more is known than where the error was built; None changes nothing.

        It is the only way to change an error that was made. The words are taken as they are: whoever adds
        foreign ones cleans them first.

        Returns:
            the error itself, so that it can be raised in one line.
        """
        if message is not None:
            self.message = message
            self.args = (message,)
        if next_step is not None:
            self.next_step = next_step
        if retryable is not None:
            self.retryable = retryable
        if money_spent is not None:
            self.money_spent = money_spent
        return self

    @property
    def whole_message(self) -> str:
        """What went wrong, and in quotes what the API says of it, on one line."""
        said = f" The API says: {json.dumps(self.api_says, ensure_ascii=False)}" if self.api_says else ""
        return f"{self.message}{said}{f' ({self.api_code})' if self.api_code else ''}"

    def __str__(self) -> str:
        return f"{self.code}: {self.whole_message}"
