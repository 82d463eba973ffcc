"""Every error that this package raises on purpose.

SyncError
 x ConfigurationError         a setting is missing or wrong; nothing was sent
 x InvalidRequestError        the request breaks a rule that is known here; nothing was sent
 x FileRefused                a local file cannot be used as it is; nothing was made of it
 x APIConnectionError         the API could not be reached; nothing was sent
 x APITimeoutError            no whole answer within the time limit
 x APIResponseError           an answer that the API does not give: HTML, empty, cut short, a redirect
 x APIStatusError             the API said no
   · RequestRejectedError     400, 413, 422: change the request
   · AuthenticationError      401: change the key
   · PaymentRequiredError     402: billing or plan
   · PermissionDeniedError    403: not with this key
   · NotFoundError            404
   · ConflictError            409
   · RateLimitError           429, too many requests: slow down
   · ConcurrencyLimitError    429, too many jobs at once: wait for one to end
   · ServerError              408, 5xx, and statuses that nobody documents: try later
 x NoOutput                   a generation has no output to fetch: it runs still, or failed
 x OutcomeUnknown             a create was sent, and whether the API took it cannot be known
 x NotVisibleYet              a job was made, and the API's reads do not show it: wait, do not make it again
 x LedgerError                the ledger of paid calls cannot be used; nothing was sent
 x LimitReached               it would cost more than the user's limits allow; nothing was sent
 x QuoteRefused               the quote is not for this call, or no longer good; nothing was sent
 x ApprovalRequired           the user has to agree first; nothing was sent
 x ApprovalDenied             the user did not agree; nothing was sent
 x ReadOnlyError              the server was started so that nothing can be paid or changed
 x CreateUnderWay             the same create is on its way elsewhere; nothing was sent by this call
 x NotSent                    a create may not go out any more, and nothing was sent; for who keeps book
 x TransferUnderWay           a file is still read, sent or fetched; that goes on
 x InternalError              a fault of this package

`code` is one of `Code`, and always a word of ours. What the API says stands apart from it: its `errorCode` in
`api_code`, its words in `api_says`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol, Self

from sync_mcp.machine.installed import ledger_command
from sync_mcp.texts import plain_id, safe

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "ApprovalDenied",
    "ApprovalRequired",
    "AuthenticationError",
    "Code",
    "ConcurrencyLimitError",
    "ConfigurationError",
    "ConflictError",
    "CreateUnderWay",
    "FileRefused",
    "InternalError",
    "InvalidRequestError",
    "LedgerError",
    "LimitReached",
    "MoneySpent",
    "NoOutput",
    "NotFoundError",
    "NotSent",
    "NotVisibleYet",
    "OutcomeUnknown",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "QuoteRefused",
    "RateLimitError",
    "ReadOnlyError",
    "RequestRejectedError",
    "ServerError",
    "SyncError",
    "TransferUnderWay",
]

MoneySpent = Literal["no", "yes", "unknown"]
Code = Literal[
    "api_error",
    "api_key_missing",
    "api_response_unreadable",
    "api_timeout",
    "api_unreachable",
    "approval_cancelled",
    "approval_closed_at_once",
    "approval_denied",
    "approval_required",
    "authentication_failed",
    "concurrency_limit_reached",
    "configuration_error",
    "conflict",
    "create_under_way",
    "file_changed",
    "file_damaged",
    "file_empty",
    "file_exists",
    "file_not_allowed",
    "file_not_found",
    "file_not_media",
    "file_not_readable",
    "file_not_writable",
    "file_refused",
    "file_too_large",
    "file_too_slow",
    "folder_not_found",
    "generation_failed",
    "generation_not_visible",
    "generation_running",
    "internal_error",
    "invalid_request",
    "ledger_corrupt",
    "ledger_missing",
    "ledger_newer",
    "ledger_replaced",
    "ledger_unavailable",
    "ledger_untouched",
    "limit_reached",
    "media_extra_missing",
    "media_worker_failed",
    "no_output",
    "not_found",
    "not_sent",
    "outcome_unknown",
    "payment_required",
    "permission_denied",
    "price_changed",
    "quote_refused",
    "quote_revoked",
    "rate_limit_exceeded",
    "read_only",
    "request_rejected",
    "server_error",
    "storage_refused",
    "sync_error",
    "transfer_under_way",
    "url_refused",
    "webhook_changed",
]
"""Every word that an error's `code` can be."""
DoubtReason = Literal[
    "not_searched",
    "list_unreadable",
    "maybe_seen",
    "named_not_visible",
    "named_is_anothers",
    "sends_used_up",
    "not_found",
]
"""Why the outcome of a create stays unknown."""
Standing = Literal["held", "spent", "let_go", "named"]
"""What the ledger says of a job that is not shown: its money is held; it has ended, and what it cost is
spent; the user let go of it; the API named it for a create of unknown outcome, and no more is known."""

_TEXT_LIMIT = 600
_SAYS_LIMIT = 300
_QUESTION_LIMIT = 900
"""Of one line: the question's own sentences, which are one, are never cut."""
_REASON_LIMIT = 200
_WHY_LIMIT = 120
_ID_LIMIT = 128
_IDS_KEPT = 20
_NOT_OF_ONE_JOB = frozenset({401, 402, 403, 408, 409, 429})


def is_unknown_id(status: int | None) -> bool:
    """Return whether an answer of this status to a question about one job may mean that there is no such job.

    Any 4xx may, and not 404 alone, but for those about the key, the bill, or the moment.
    """
    return status is not None and 400 <= status < 500 and status not in _NOT_OF_ONE_JOB


_NEXT_STEPS: Mapping[Code, str] = {
    "api_key_missing": "Set SYNC_API_KEY (made at https://sync.so/settings/api-keys).",
    "approval_cancelled": (
        "Nothing was sent, and the user has not decided: the same call asks them again, when they want it."
    ),
    "approval_closed_at_once": (
        "Nothing was sent. Tell the user. For unattended work they set SYNC_MCP_APPROVE_ABOVE_USD together "
        "with SYNC_MCP_BUDGET_USD_PER_DAY or SYNC_MCP_BUDGET_USD."
    ),
    "ledger_corrupt": "Ask the user to run `{ledger_check}`, which says what can be done.",
    "ledger_missing": (
        "Ask the user to run `{ledger_check}`, which says what can be done; they may know where it is."
    ),
    "ledger_newer": "Ask the user to update sync-mcp. The file was left as it is.",
    "ledger_replaced": (
        "Ask the user to run `{ledger_check}`, which says what can be done; the newer file may exist."
    ),
    "ledger_unavailable": "Ask the user to look at the ledger: {ledger_check}.",
    "ledger_untouched": "Ask the user to run `{ledger_check}`.",
    "price_changed": "Tell the user the price of now: estimate_cost tells it, with a new quote.",
    "quote_revoked": "Do not repeat the call by yourself: ask the user what to do instead.",
    "storage_refused": "Call again; if it stays, quote this to Sync's support.",
    "url_refused": (
        "Only public https hosts and the API's own are asked: give such a URL, or check SYNC_BASE_URL where "
        "the API named it."
    ),
    "webhook_changed": (
        "Tell the user who gets the finished job's URL; estimate_cost gives a new quote for that."
    ),
}
"""Where a class has several codes, of different causes, or the step names a command."""


def _step_of(code: Code) -> str:
    """Return the step of a code, "" where its class has it; a command is named as it is typed here."""
    step = _NEXT_STEPS.get(code, "")
    return step.format(ledger_check=ledger_command("check")) if "{" in step else step


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
        self.message = safe(message, _TEXT_LIMIT)
        self.code = code or self.code
        self.api_code = safe(api_code or "", 80) or None
        self.api_says = safe(api_says, _TEXT_LIMIT)
        self.next_step = safe(next_step or "", _TEXT_LIMIT) or _step_of(self.code) or self.next_step
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
        """Say more, or better, what is known only where the error is met; what is None stays.

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


class ConfigurationError(SyncError):
    """A setting is missing or wrong; nothing was sent."""

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
        self.message = " ".join(safe(fault, _TEXT_LIMIT) for fault in self.faults[:20])
        self.args = (self.message,)


class FileRefused(SyncError):
    """A local file cannot be read, sent or written as it is; nothing was made of it, here or there.

    `code` says why: `file_not_allowed`, `file_not_found`, `folder_not_found`, `file_not_readable`,
    `file_not_media`, `file_damaged`, `file_too_large`, `file_empty`, `file_changed`, `file_exists`,
    `file_not_writable`, `file_too_slow`, `media_extra_missing`, `media_worker_failed`.
    """

    code = "file_refused"
    next_step = "Name another file."


class APIConnectionError(SyncError):
    """The API could not be reached (name, connection refused, TLS): nothing was sent."""

    code = "api_unreachable"
    retryable = True
    next_step = "Check the network and SYNC_BASE_URL, then call again."


class APITimeoutError(SyncError):
    """No whole answer came within the time limit."""

    code = "api_timeout"
    retryable = True
    next_step = "Call again."


class APIResponseError(SyncError):
    """Something answered that does not speak as the API does: HTML, nothing, half a body, a redirect.

    Attributes:
        status: the HTTP status of the answer, or None where the answer broke off before it.
    """

    code = "api_response_unreadable"
    retryable = True
    next_step = "Call again; if it stays, check SYNC_BASE_URL and any proxy on the way."

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: Code | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        super().__init__(message, code=code, retry_after_seconds=retry_after_seconds)


class APIStatusError(SyncError):
    """The API answered with an error; `message` is ours, and what the API says stands in `api_says`.

    Attributes:
        status: the HTTP status.
        suggestion: the API's own advice, where it gives any; `api_says` ends with it.
        field: the request field that the API objects to, where it names one.
        request_id: to quote to Sync's support, where there is one.
    """

    code = "api_error"
    meaning = "The API answered with an error"

    def __init__(
        self,
        said: str,
        *,
        status: int,
        api_code: str | None = None,
        suggestion: str | None = None,
        field: str | None = None,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.suggestion = safe(suggestion, _SAYS_LIMIT) if suggestion else None
        self.field = safe(field, 120) if field else None
        self.request_id = safe(request_id, 120) if request_id else None
        super().__init__(
            f"{self.meaning} (HTTP {status}).",
            retry_after_seconds=retry_after_seconds,
            api_code=api_code,
            api_says=" ".join(filter(None, (safe(said, _SAYS_LIMIT), self.suggestion))),
        )


class RequestRejectedError(APIStatusError):
    """400, 413 or 422: the API does not accept the request as it is."""

    code = "request_rejected"
    meaning = "The API does not accept the request"
    next_step = "Change the request as the API says and call again."


class AuthenticationError(APIStatusError):
    """401: no key, or a key that the API does not know."""

    code = "authentication_failed"
    meaning = "The API does not accept the key"
    next_step = (
        "Set SYNC_API_KEY to a valid key (made at https://sync.so/settings/api-keys), restart the server, "
        "and call again."
    )


class PaymentRequiredError(APIStatusError):
    """402: billing or the plan stands in the way."""

    code = "payment_required"
    meaning = "The plan or the billing stands in the way"
    next_step = "Look at the plan and the billing page at https://sync.so/billing."


class PermissionDeniedError(APIStatusError):
    """403: this key may not do that."""

    code = "permission_denied"
    meaning = "This key may not do that"
    next_step = "Use a key of the organization that owns it."


class NotFoundError(APIStatusError):
    """404: there is nothing by that id, for this key."""

    code = "not_found"
    meaning = "The API has nothing by that name"
    next_step = "Check the id."


class ConflictError(APIStatusError):
    """409: what was asked does not fit the present state."""

    code = "conflict"
    meaning = "What was asked does not fit the present state"


class RateLimitError(APIStatusError):
    """429: too many requests; the same request is fine later."""

    code = "rate_limit_exceeded"
    meaning = "Too many requests came in too short a time"
    retryable = True
    next_step = "Wait, then call again."


class ConcurrencyLimitError(APIStatusError):
    """429: as many jobs are running as the plan allows; one has to end first.

    Attributes:
        active_generations: how many jobs the API counts as running, where it says so.
        concurrency_limit: how many the plan allows, where the API says so.
    """

    code = "concurrency_limit_reached"
    meaning = "As many jobs are running as the plan allows"
    retryable = True
    next_step = "Wait for a running job to end, then call again."
    active_generations: int | None = None
    concurrency_limit: int | None = None


class ServerError(APIStatusError):
    """408, 5xx and statuses that nobody documents: the API's own trouble."""

    code = "server_error"
    meaning = "The API has trouble of its own"
    retryable = True
    next_step = "Call again in a while."


class NoOutput(SyncError):
    """A generation has no output that could be fetched.

    `code` says why: `generation_running` while it has not ended, `generation_failed` where it ended without
    one, and `no_output` where the API names none for a completed one.
    """

    code = "no_output"


class OutcomeUnknown(SyncError):
    """A create was sent, and whether the API took it cannot be known: it may run and cost money.

    Attributes:
        idempotency_key: send the same request again under this key, and under no other.
        generation_id: the job that the API named, where it named one.
        sent_at: when the first attempt went out, ISO 8601 UTC.
        advice: what a refusal of a later attempt asks for, or "".
        reason: why the search for the job does not decide it: the list was not searched, or cannot be read;
            it shows jobs that may be this one; the API named a job that it does not show, or that is
            another's; the job is in no list, and went out as often as one call may send it, or may not be
            sent by this call now.
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
    ) -> None:
        self.idempotency_key = idempotency_key
        self.generation_id = safe(generation_id, _ID_LIMIT) if generation_id else None
        self.sent_at = sent_at
        self.advice = safe(advice, _TEXT_LIMIT)
        self.reason: DoubtReason = reason
        self.maybe_ids = tuple(safe(name, _ID_LIMIT) for name in maybe_ids[:_IDS_KEPT])
        named = f"The API named generation {shown_id(self.generation_id)}." if self.generation_id else ""
        sentences = (
            f"The create was sent at {sent_at}, and its outcome is unknown.",
            _sentence(failure, _REASON_LIMIT),
            named,
            self._why(search_failure),
            f"Idempotency key: {idempotency_key}.",
        )
        super().__init__(
            "", next_step="", retry_after_seconds=retry_after_seconds, api_code=api_code, api_says=api_says
        )
        self.next_step = safe(self._way_out(), _TEXT_LIMIT)
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
                first = "".join(map(shown_id, self.maybe_ids[:1]))
                return f"Generation {first} of the API's list may be this job{others}."
            case "named_not_visible":
                return "The API does not show that job yet."
            case "named_is_anothers":
                return "That job is another call's, or was asked for in other words."
            case "sends_used_up":
                return "It went out twice in this call, and the API's list does not show the job."
            case "not_found":
                return "The API's list does not show the job."

    def _way_out(self) -> str:
        look = "Look for the job in the list of generations before making it again"
        if self.reason == "maybe_seen":
            job = f"generation {''.join(map(plain_id, self.maybe_ids[:1]))}".rstrip()
            look = f"Look whether it is {job} of that list before making it again"
        elif self.reason == "named_not_visible":
            job = f"generation {plain_id(self.generation_id or '')}".rstrip()
            look = f"Wait a while, then look at {job}; do not create it again"
        wait = (
            ""
            if self.retry_after_seconds is None
            else f" It is not sent again for {self.retry_after_seconds:.0f} s, while the API's list may lag."
        )
        return (
            f"{look}: a repeat is safe only under the same idempotency key, and begins with a search.{wait} "
            f"{self.advice}"
        ).rstrip()


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
    ) -> None:
        self.generation_id = safe(generation_id, _ID_LIMIT)
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
                f"The API named generation {shown_id(self.generation_id)} for a create that was sent at "
                f"{made_at} and whose outcome is unknown, and {yet}."
            )
        made = f"Generation {shown_id(self.generation_id)} was made at {made_at}"
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
                    "Its money is not held any more, and create_generation with its arguments makes and pays "
                    f"a new one. If this one shows after all, it is paid as well: the user looks at {look}."
                )
            case "spent":
                return f"Tell the user: what it cost stays spent ({look}). Making it again may be paid again."
            case "named" if self.may_appear:
                return (
                    "Wait, then make exactly the same create_generation call: it looks for the job first. Do "
                    f"not create another one; the money is held ({look})."
                )
            case "named":
                return (
                    "Tell the user. Exactly the same create_generation call looks for the job once more, and "
                    f"asks before it is sent again; until then the money is held ({look})."
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
    """The ledger of paid calls cannot be read or written; nothing was sent."""

    code = "ledger_unavailable"


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
        next_step: str | None = None,
    ) -> None:
        self.limit = limit
        self.limit_usd = limit_usd
        self.left_usd = left_usd
        self.until = until
        self.price_usd = price_usd
        super().__init__(message, next_step=next_step)


class QuoteRefused(SyncError):
    """The quote is unknown, used, expired, or for another call; nothing was sent.

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
        self.quote_id = safe(quote_id, _ID_LIMIT) if quote_id else None
        super().__init__(message, next_step=next_step)


class ApprovalDenied(SyncError):
    """The user was asked and did not agree; nothing was sent.

    Attributes:
        is_the_users: whether a person can have given this answer; a host that closes a question at once has
            most likely shown it to nobody.
    """

    code = "approval_denied"
    next_step = "Nothing was sent. Ask the user what to do instead; do not repeat the call by yourself."
    is_the_users = True


class ReadOnlyError(SyncError):
    """The server was started read-only: it pays for nothing and changes nothing."""

    code = "read_only"
    next_step = "Tell the user: SYNC_MCP_READ_ONLY=1 is set in the server's environment, by their own choice."


class CreateUnderWay(SyncError):
    """The same create is on its way in another call or process, which did not end in this call's time."""

    code = "create_under_way"
    retryable = True
    money_spent = "unknown"
    next_step = "Make exactly this call again in a while: it joins the job. Nothing is paid twice."


class NotSent(SyncError):
    """A create may not go out any more, and nothing was sent that the API may have made a job of.

    It is for who keeps book of the attempt, and who knows why.
    """

    code = "not_sent"
    retryable = True
    next_step = "Call again to make it."


class _Transfer(Protocol):
    """How far a transfer is."""

    @property
    def step(self) -> Literal["hash", "send", "fetch"]: ...

    @property
    def done_bytes(self) -> int: ...

    @property
    def total_bytes(self) -> int | None: ...


class TransferUnderWay(SyncError):
    """A transfer did not end in this call's time; it goes on in the process.

    Attributes:
        transfer: how far it is, or None where nothing has moved yet.
    """

    code = "transfer_under_way"
    retryable = True
    next_step = "Make exactly this call again: it joins the transfer, which goes on in the server."

    def __init__(self, transfer: _Transfer | None) -> None:
        self.transfer = transfer
        super().__init__(f"Not finished: {_told_transfer(transfer)}.")


class InternalError(SyncError):
    """A fault of this package; the log on standard error says more."""

    code = "internal_error"
    next_step = "Report it with the server's log. If the call was a create, look at list_generations first."

    def __init__(self, message: str, *, money_spent: MoneySpent) -> None:
        self.money_spent = money_spent
        super().__init__(message)


def shown_id(name: str) -> str:
    """Return an id as it stands in a sentence: what is none is in quotes, which it cannot close."""
    return plain_id(name) or json.dumps(name, ensure_ascii=False)


def _by_id(name: str) -> str:
    return f' with generation_id "{name}"' if plain_id(name) else ""


def _sentence(text: str, limit: int) -> str:
    """Return foreign words as a sentence that ends, in whatever state they came."""
    shown = safe(text, limit).rstrip(" .…")
    return f"{shown}." if shown else ""


_DONE = {"hash": "read", "send": "sent", "fetch": "fetched"}


def _told_transfer(transfer: _Transfer | None) -> str:
    """Return how far a transfer is, as a phrase."""
    if transfer is None:
        return "it has just begun"
    total = "" if transfer.total_bytes is None else f" of {transfer.total_bytes:,}"
    return f"{transfer.done_bytes:,}{total} bytes {_DONE[transfer.step]}"
