"""What stands between a create and the money: limits, consent, the ledger, and outcomes in doubt."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sync_mcp.errors.base import SyncError
from sync_mcp.errors.codes import Code
from sync_mcp.machine.installed import ledger_command
from sync_mcp.texts import ID_LIMIT, MESSAGE_LIMIT, REASON_LIMIT, format_id, plain_id, safe

DoubtReason = Literal[
    "not_searched",
    "list_unreadable",
    "maybe_seen",
    "named_not_visible",
    "named_is_anothers",
    "sends_used_up",
    "not_found",
    "no_list",
    "untraceable",
]
"""Why the outcome of a create stays unknown."""
Standing = Literal["held", "spent", "let_go", "named"]
"""What the ledger says of a job that is not shown: its money is held; it has ended, and what it cost is
spent; the user let go of it; the API named it for a create of unknown outcome, and no more is known."""

_QUESTION_LIMIT = 900
"""Of one line: the question's own sentences, which are one, are never cut."""
_WHY_LIMIT = 120
_IDS_KEPT = 20


class OutcomeUnknown(SyncError):
    """A create was sent, and whether the API took it cannot be known: it may run and cost money.

    Attributes:
        idempotency_key: send the same request again under this key, and under no other; "" where such a call
            has none.
        generation_id: the job that the API named, where it named one.
        sent_at: when the first attempt went out, ISO 8601 UTC.
        advice: what a refusal of a later attempt asks for, or "".
        reason: why the search for the job does not decide it: the list was not searched, or cannot be read;
            it shows jobs that may be this one; the API named a job that it does not show, or that is
            another's; the job is in no list, and went out as often as one call may send it, or may not be
            sent by this call now; the API has no list of such jobs, and knows a key again, or does not.
        maybe_ids: jobs of the API's list that may be this one.
        retry_after_seconds: from when on it may be sent again, as the API's list, which may lag, shows no job
            of it until then, or the API's export of finished jobs can be read.
    """

    code = "outcome_unknown"
    money_spent = "unknown"

    def __init__(
        self,
        failure: str,
        *,
        idempotency_key: str,
        sent_at: str,
        generation_id: str | None = None,
        advice: str = "",
        reason: DoubtReason = "not_searched",
        maybe_ids: Sequence[str] = (),
        search_failure: str = "",
        retry_after_seconds: float | None = None,
        api_code: str | None = None,
        api_says: str = "",
        job: str = "generation",
    ) -> None:
        self.idempotency_key = idempotency_key
        self._job = job
        self.generation_id = safe(generation_id, ID_LIMIT) if generation_id else None
        self.sent_at = sent_at
        self.advice = safe(advice, MESSAGE_LIMIT)
        self.reason: DoubtReason = reason
        self.maybe_ids = tuple(safe(name, ID_LIMIT) for name in maybe_ids[:_IDS_KEPT])
        named = f"The API named {job} {format_id(self.generation_id)}." if self.generation_id else ""
        sentences = (
            f"The create was sent at {sent_at}, and its outcome is unknown.",
            _sentence(failure, REASON_LIMIT),
            named,
            self._why(search_failure),
            f"Idempotency key: {idempotency_key}." if idempotency_key else "",
        )
        super().__init__(
            "", next_step="", retry_after_seconds=retry_after_seconds, api_code=api_code, api_says=api_says
        )
        self.next_step = safe(self._way_out(), MESSAGE_LIMIT)
        # Each is shortened for itself, so that the key at the end is not cut off.
        self.message = " ".join(filter(None, sentences))
        self.args = (self.message,)

    def _why(self, search_failure: str) -> str:
        """Say why the search does not decide it."""
        match self.reason:
            case "not_searched":
                return "The API's list has not been searched to its end."
            case "list_unreadable":
                told = _sentence(search_failure, _WHY_LIMIT)
                return f"It cannot be found out now whether the job was made: {told}".rstrip(" :")
            case "maybe_seen":
                more = len(self.maybe_ids) - 1
                others = f", and so may {more} more" if more > 0 else ""
                first = "".join(map(format_id, self.maybe_ids[:1]))
                return f"{self._job.capitalize()} {first} of the API's list may be this job{others}."
            case "named_not_visible":
                return "The API does not show that job yet."
            case "named_is_anothers":
                return "That job is another call's, or was asked for in other words."
            case "sends_used_up":
                return "It went out twice in this call, and the API's list does not show the job."
            case "not_found":
                return "The API's list does not show the job."
            case "no_list":
                return "The API has no list of such jobs in which to look for it."
            case "untraceable" if not self.idempotency_key:
                return "The API has no list of such jobs, and takes no key with them."
            case "untraceable":
                return "The API has no list of such jobs, and does not say that it keeps their keys."

    def _way_out(self) -> str:
        if not self.idempotency_key:
            look = "" if self.reason == "untraceable" else "Look in the API's list in a while. "
            return f"{look}Ask the user before making it again: it may be paid twice. {self.advice}".rstrip()
        match self.reason:
            case "no_list":
                told = (
                    "Make it again under the same idempotency key alone: the API answers with the same job."
                )
            case "untraceable":
                told = (
                    "Ask the user before making it again: under the same idempotency key too it may be paid."
                )
            case _:
                told = self._look_first()
        return f"{told} {self.advice}".rstrip()

    def _look_first(self) -> str:
        look = "Look for the job in the list of generations before making it again"
        if self.reason == "maybe_seen":
            job = f"generation {''.join(map(plain_id, self.maybe_ids[:1]))}".rstrip()
            look = f"Look whether it is {job} of that list before making it again"
        elif self.reason == "named_not_visible":
            job = f"{self._job} {plain_id(self.generation_id or '')}".rstrip()
            look = f"Wait a while, then look at {job}; do not create it again"
        wait = (
            ""
            if self.retry_after_seconds is None
            else f" It is not sent again for {self.retry_after_seconds:.0f} s, while the API's list may lag."
        )
        return (
            f"{look}: a repeat is safe only under the same idempotency key, and begins with a search.{wait}"
        )


class NotVisibleYet(SyncError):
    """A job was made, and the API's reads do not show it: they may lag behind its writes.

    Attributes:
        generation_id: the job.
        ledger_id: its entry in the ledger.
        may_appear: whether it was made so short a time ago that waiting is likely to help.
        standing: what the ledger says of it.
    """

    code = "generation_not_visible"
    money_spent = "yes"

    def __init__(
        self,
        generation_id: str,
        *,
        ledger_id: int,
        made_at: str,
        may_appear: bool,
        standing: Standing = "held",
        job: str = "generation",
        tool: str = "create_generation",
    ) -> None:
        self._job = job
        self._tool = tool
        self.generation_id = safe(generation_id, ID_LIMIT)
        self.ledger_id = ledger_id
        self.may_appear = may_appear
        self.standing: Standing = standing
        self.retryable = may_appear and standing != "spent"
        if standing in ("let_go", "named"):
            self.money_spent = "unknown"
        super().__init__(self._what(made_at), next_step=self._way_on())

    def _what(self, made_at: str) -> str:
        if self.standing == "named":
            yet = "does not show it yet" if self.may_appear else "does not show it"
            return (
                f"The API named {self._job} {format_id(self.generation_id)} for a create that was sent at "
                f"{made_at} and whose outcome is unknown, and {yet}."
            )
        made = f"{self._job.capitalize()} {format_id(self.generation_id)} was made at {made_at}"
        match self.standing:
            case "let_go":
                return f"{made}, the user let go of it since, and the API does not show it."
            case "spent":
                return f"{made} and has ended, and the API does not show it any more."
            case _ if self.may_appear:
                return f"{made}, and is not visible yet: the API's reads lag behind."
            case _:
                return f"{made}, and the API does not show it any more."

    def _way_on(self) -> str:
        look = ledger_command("show", str(self.ledger_id))
        match self.standing:
            case "let_go":
                return (
                    f"Its money is not held any more, and {self._tool} with its arguments makes and pays "
                    f"a new one. If this one shows after all, it is paid as well: the user looks at {look}."
                )
            case "spent":
                return f"Tell the user: what it cost stays spent ({look}). Making it again may be paid again."
            case "named" if self.may_appear:
                return (
                    f"Wait, then make exactly the same {self._tool} call: it looks for the job first. Do "
                    f"not create another one; the money is held ({look})."
                )
            case "named":
                return (
                    f"Tell the user. Exactly the same {self._tool} call looks for the job once more, and "
                    f"asks before it is sent again; until then the money is held ({look})."
                )
            case _ if self.may_appear and self._job != "generation":
                return (
                    f"Wait, then make exactly the same {self._tool} call: it is made, and its money is held."
                )
            case _ if self.may_appear:
                return (
                    f"Wait, then call get_generation{_by_id(self.generation_id)}; do not create it again: it "
                    "is made, and its money is held."
                )
            case _:
                return (
                    "Tell the user: its money stays held in the ledger until they settle it "
                    f"({look} says how). Making it again may be paid again."
                )


class LedgerError(SyncError):
    """The ledger of paid calls cannot be read or written; nothing was sent.

    `code` says why: `ledger_corrupt`, `ledger_missing`, `ledger_newer`, `ledger_replaced`,
    `ledger_untouched`, and `ledger_unavailable` for everything else.

    Attributes:
        to_user: what the user can do about it, put to them; the next step asks them to.
    """

    code = "ledger_unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        to_user: str | None = None,
        next_step: str | None = None,
    ) -> None:
        what = to_user or _TO_USER.get(code or self.code, "").format(check=ledger_command("check"))
        super().__init__(
            message, code=code, next_step=next_step or f"Ask the user to {what[:1].lower()}{what[1:]}"
        )
        self.to_user = safe(what, MESSAGE_LIMIT)


_TO_USER: Mapping[Code, str] = {
    "ledger_corrupt": "Run `{check}`, which says what can be done.",
    "ledger_missing": "Run `{check}`, which says what can be done; they may know where it is.",
    "ledger_newer": "Update sync-mcp. The file was left as it is.",
    "ledger_replaced": "Run `{check}`, which says what can be done; the newer file may exist.",
    "ledger_unavailable": "Look at the ledger: {check}.",
    "ledger_untouched": "Run `{check}`.",
}
"""What each code asks of the user."""


class LimitReached(SyncError):
    """The call would cost more than a limit allows, or nobody knows how much; nothing was sent.

    It is `retryable` where the price is unknown because the API could not tell it for now.

    Attributes:
        limit: the limit: a field of `Limits`, or `max_cost_usd`, which is the call's own; None where no one
            limit is it: then the price is unknown, and there are limits.
        limit_usd: its amount.
        left_usd: what is left of it, at least 0.
        until: when a limit of a period begins anew, or None where it never does.
        price_usd: what the job would cost, or None where nobody knows.
        what: what would cost it, as a sentence begins: "The job", "The jobs".
        is_unpriced: whether nobody can know before it is made: the API publishes no price.
    """

    code = "limit_reached"
    next_step = "Raise the limit, or make something that costs less."

    def __init__(
        self,
        message: str,
        *,
        limit: str | None = None,
        limit_usd: Decimal | None = None,
        left_usd: Decimal | None = None,
        until: datetime | None = None,
        price_usd: Decimal | None = None,
        what: str = "The job",
        next_step: str | None = None,
        is_unpriced: bool = False,
    ) -> None:
        self.limit = limit
        self.limit_usd = limit_usd
        self.left_usd = left_usd
        self.until = until
        self.price_usd = price_usd
        self.what = what
        self.is_unpriced = is_unpriced
        super().__init__(message, next_step=next_step)


class QuoteRefused(SyncError):
    """The quote is unknown, used, expired, or for another call; nothing was sent.

    `code` says why: `price_changed`, `webhook_changed`, `quote_revoked` where the user has said no since, and
    `quote_refused` for everything else.

    Attributes:
        to_user: of a quote that covers less than the call, the message as the user reads it: they are asked
            again, about all of it; else "".
    """

    code = "quote_refused"
    next_step = (
        "Call estimate_cost with the same arguments: where the user has to agree, it gives a quote to put to "
        "them; else make the call without quote_id."
    )

    def __init__(
        self, message: str, *, code: Code | None = None, next_step: str | None = None, to_user: str = ""
    ) -> None:
        super().__init__(message, code=code, next_step=next_step)
        self.to_user = to_user


class ApprovalRequired(SyncError):
    """The user has to agree before this is paid; nothing was sent.

    Attributes:
        question: the words to put to the user, in lines; none where they can only agree by another way.
        quote_id: what the same call is to be made with once the user has agreed, or None where the user can
            only agree by another way.
        price_is_known: whether the user can be told what it costs.
    """

    code = "approval_required"

    def __init__(
        self,
        message: str,
        *,
        question: str,
        quote_id: str | None,
        next_step: str,
        price_is_known: bool = True,
    ) -> None:
        self.price_is_known = price_is_known
        self.question = tuple(safe(line, _QUESTION_LIMIT) for line in question.splitlines())
        self.quote_id = safe(quote_id, ID_LIMIT) if quote_id else None
        super().__init__(message, next_step=next_step)


class ApprovalDenied(SyncError):
    """The user was asked and did not agree; nothing was sent.

    `code` says how: `approval_denied`, `approval_cancelled` where they have not decided, and
    `approval_closed_at_once` where most likely nobody was shown the question.

    Attributes:
        is_the_users: whether a person can have given this answer; a host that closes a question at once has
            most likely shown it to nobody.
    """

    code = "approval_denied"
    next_step = "Nothing was sent. Ask the user what to do instead; do not repeat the call by yourself."
    is_the_users = True


class NotSent(SyncError):
    """A create may not go out any more, and nothing was sent that the API may have made a job of.

    It is for who keeps book of the attempt, and who knows why.
    """

    code = "not_sent"
    retryable = True
    next_step = "Call again to make it."


def _by_id(name: str) -> str:
    return f' with generation_id "{name}"' if plain_id(name) else ""


def _sentence(text: str, limit: int) -> str:
    """Return foreign words as a sentence that ends, in whatever state they came."""
    shown = safe(text, limit).rstrip(" .…")
    return f"{shown}." if shown else ""
