"""What goes wrong with the API: it cannot be reached, answers what it should not, or says no."""

from typing import Required, Self, TypedDict, Unpack

from sync_mcp.errors.base import SyncError
from sync_mcp.errors.codes import Code
from sync_mcp.texts import SAYING_LIMIT, safe

_NOT_OF_ONE_JOB = frozenset({401, 402, 403, 408, 409, 429})


def is_unknown_id(status: int | None) -> bool:
    """Return whether an answer of this status to a question about one job may mean that there is no such job.

    Any 4xx may, and not 404 alone, but for those about the key, the bill, or the moment.
    """
    return status is not None and 400 <= status < 500 and status not in _NOT_OF_ONE_JOB


class APIConnectionError(SyncError):
    """The API could not be reached (name, connection refused, TLS): nothing was sent.

    Attributes:
        by_certificate: whether it answered with a certificate that is not trusted here.
    """

    code = "api_unreachable"
    retryable = True
    next_step = "Check the network and SYNC_BASE_URL, then call again."

    def __init__(self, message: str, *, next_step: str | None = None, by_certificate: bool = False) -> None:
        self.by_certificate = by_certificate
        super().__init__(message, next_step=next_step)


class APITimeoutError(SyncError):
    """No whole answer came within the time limit."""

    code = "api_timeout"
    retryable = True
    next_step = "Call again."


class APIResponseError(SyncError):
    """Something answered that does not speak as the API does: HTML, nothing, half a body, a redirect.

    `code` is `storage_refused` where a storage said no, `url_refused` where a URL was not asked at all, and
    `api_response_unreadable` for everything else.

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


class _Told(TypedDict, total=False):
    """What an answer of the API's tells of an error, beside its words: see `APIStatusError`."""

    status: Required[int]
    api_code: str | None
    suggestion: str | None
    field: str | None
    request_id: str | None
    retry_after_seconds: float | None


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
        self.suggestion = safe(suggestion, SAYING_LIMIT) if suggestion else None
        self.field = safe(field, 120) if field else None
        self.request_id = safe(request_id, 120) if request_id else None
        super().__init__(
            f"{self.meaning} (HTTP {status}).",
            retry_after_seconds=retry_after_seconds,
            api_code=api_code,
            api_says=" ".join(filter(None, (safe(said, SAYING_LIMIT), self.suggestion))),
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

    def __init__(
        self,
        said: str,
        *,
        active_generations: int | None = None,
        concurrency_limit: int | None = None,
        **told: Unpack[_Told],
    ) -> None:
        self.active_generations = active_generations
        self.concurrency_limit = concurrency_limit
        super().__init__(said, **told)
        if active_generations is not None and concurrency_limit is not None:
            self.advise(
                message=f"{self.message} {active_generations} jobs run, and the plan allows "
                f"{concurrency_limit}."
            )


class ServerError(APIStatusError):
    """408, 5xx and statuses that nobody documents: the API's own trouble."""

    code = "server_error"
    meaning = "The API has trouble of its own"
    retryable = True
    next_step = "Call again in a while."


class NotOffered(APIStatusError):
    """The API does not have this for the organization: a rollout that it is no part of. Nothing was made."""

    code = "not_offered"
    meaning = "The API does not offer this to the organization"
    next_step = "Ask Sync's support whether the organization can have it."

    @classmethod
    def of(cls, error: APIStatusError) -> Self:
        """Return it as what an answer of the API's says."""
        told = cls("", status=error.status, api_code=error.api_code, request_id=error.request_id)
        told.api_says = error.api_says
        return told


class NoOutput(SyncError):
    """A generation has no output that could be fetched.

    `code` says why: `generation_running` while it has not ended, `generation_failed` where it ended without
    one, and `no_output` where the API names none for a completed one.
    """

    code = "no_output"


class WebhookRefused(SyncError):
    """A request that came as a webhook is not believed: nothing is to be done for it.

    `code` says why: `signature_missing`, it has none that can be read; `signature_wrong`, it is of another
    secret or body; `signature_stale`, its time is not now; `event_unreadable`, it is signed, and tells of no
    job.
    """

    code = "signature_wrong"
    next_step = "Answer 401, and do nothing more; where all are refused, the user checks the secret."
