"""A create as somebody keeps book of it, beyond this process."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Claim = Literal["mine", "another's", "unclear"]
Step = Literal["sends", "made nothing", "looks"]
"""What happens to an attempt: it is about to be sent; that send made nothing; it is looked for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A create as somebody keeps book of it, beyond this process.

    Attributes:
        idempotency_key: what it is sent under, each time.
        sent_at: when it was first sent, by the API's clock; None where it never was.
        named_id: the job that the API named when its outcome was unknown.
        may_send: is asked before each send whether it is still this caller's to send; else it is only looked
            for.
        claim: is asked, before a job of the API's list is taken for this attempt's, whether it can be.
        unsigned: returns JSON without what may differ in a repeat, such as the signature of a link: without
            it the repeat would not know the job that the first call made.
        knows: is asked which of these jobs the book knows as those of other attempts.
        resend_despite_named: whether the user agreed that it goes out again, under its key, although the API
            named a job that it does not show.
        last_sent_at: when it last went out, by the API's clock; None where that is not kept.
        tell: is told each step of it, before it is taken.
        is_repeat: whether it goes out under the key of a job that was made and that nobody sees: then a 409
            says that nothing was made by it.
    """

    idempotency_key: str
    claim: Callable[[str], Awaitable[Claim]]
    sent_at: datetime | None = None
    named_id: str | None = None
    may_send: Callable[[], Awaitable[bool]] | None = None
    unsigned: Callable[[object], object] | None = None
    knows: Callable[[Sequence[str]], Awaitable[Collection[str]]] | None = None
    resend_despite_named: bool = False
    last_sent_at: datetime | None = None
    tell: Callable[[Step], Awaitable[None]] | None = None
    is_repeat: bool = False
