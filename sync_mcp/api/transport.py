"""HTTP to the Sync API: the only module that speaks it.

It adds the key, keeps the time limits, retries what is safe to repeat, obeys Retry-After, and turns every
way to fail into one of the errors of `sync_mcp.errors`. The key travels to the API's own origin only:
redirects are never followed.
"""

import hashlib
import json
import logging
import math
import platform
import random
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypedDict, cast
from urllib.parse import urlsplit

import anyio
import httpx

from sync_mcp._version import __version__
from sync_mcp.access import LOOPBACK, checked_key, checked_origin
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConcurrencyLimitError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SyncError,
)
from sync_mcp.text import clean, near

logger = logging.getLogger("sync_mcp.api")

SANDBOX_HEADER = "x-sync-sandbox"
"""Response header by which the embedded sandbox marks every answer of its own."""

_CONNECT_SECONDS = 10.0
_ATTEMPT_SECONDS = 30.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 16.0
_BODY_LIMIT = 64 * 1024 * 1024
_SCRUBBED_LIMIT = 2400
_LONGEST_RETRY_AFTER = 86_400.0
_LEAST_SECRET = 16
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~]+(?:[ \t]+[!-~]+)*)?")


@cache
def _tls_context() -> ssl.SSLContext:
    # Reading the certificates takes longer than most calls: once per process is enough.
    return httpx.create_ssl_context()


_USER_AGENT = f"sync-mcp/{__version__} python/{platform.python_version()}"


class RequestOptions(TypedDict, total=False):
    """What one call may set for itself; the keys are those of the API's own SDK, and `idempotency_key`.

    `timeout_in_seconds` bounds the whole call with its retries, `max_retries` their number.
    `idempotency_key` (1 to 128 letters, digits and `. _ ~ -`) counts for a create alone.
    """

    timeout_in_seconds: float
    max_retries: int
    additional_headers: Mapping[str, Any]
    additional_query_parameters: Mapping[str, Any]
    additional_body_parameters: Mapping[str, Any]
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API, before the call's own options."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; `data` is None where the body is not JSON."""

    status: int
    headers: httpx.Headers
    data: object

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def server_time(self) -> datetime | None:
        """The API's clock when it answered, where it tells it."""
        try:
            told = parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, TypeError, OverflowError):
            return None
        return told if told.tzinfo else told.replace(tzinfo=UTC)

    @property
    def fields(self) -> Mapping[str, object]:
        """The body as an object; empty where it is none."""
        data = self.data
        return cast(Mapping[str, object], data) if isinstance(data, Mapping) else {}

    @property
    def entries(self) -> list[object] | None:
        """The body as an array, or None where it is none."""
        data = self.data
        return cast(list[object], data) if isinstance(data, list) else None


class Budget:
    """The time and the retries that one call has, all attempts together."""

    def __init__(self, options: RequestOptions, *, timeout_seconds: float, max_retries: int) -> None:
        self.seconds = options.get("timeout_in_seconds", timeout_seconds)
        self.retries_left = options.get("max_retries", max_retries)
        self._ends_at = anyio.current_time() + self.seconds
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at - anyio.current_time())

    async def pause(self, retry_after_seconds: float | None = None) -> bool:
        """Wait for the next attempt; return False at once where none is left."""
        seconds = random.uniform(0, self._backoff_seconds)  # noqa: S311 - jitter, not a secret
        self._backoff_seconds = min(self._backoff_seconds * 2, _LONGEST_BACKOFF_SECONDS)
        if retry_after_seconds is not None:
            seconds = max(seconds, retry_after_seconds)
        if self.retries_left <= 0 or seconds >= self.seconds_left:
            return False
        self.retries_left -= 1
        await anyio.sleep(seconds)
        return True


class Transport:
    """A connection pool to one API origin with one key."""

    def __init__(self, *, api_key: str, base_url: str, timeout_seconds: float, max_retries: int) -> None:
        self.base_url = _checked_base_url(base_url)
        self._api_key = _checked_api_key(api_key)
        self._timeout_seconds = timeout_seconds
        self._max_retries = max_retries
        self._http: httpx.AsyncClient | None = None
        self._api_is_ahead = timedelta(0)
        self.sandboxed = False
        """Whether the answers come from a sandbox; known from the first answer on."""

    def __repr__(self) -> str:
        return f"Transport(base_url={self.base_url!r})"

    @property
    def api_time(self) -> datetime:
        """Now, by the API's clock as its last answer told it."""
        return datetime.now(UTC) + self._api_is_ahead

    @property
    def key_fingerprint(self) -> str:
        """What tells one key from another, and from which no key can be found."""
        return hashlib.sha256(f"sync-mcp {self._api_key}".encode()).hexdigest()[:24]

    def budget(self, options: RequestOptions | None) -> Budget:
        """Start the clock of one call.

        Raises:
            InvalidRequestError: `options` holds an unknown key or an unusable value.
        """
        checked = options or RequestOptions()
        check_options(checked)
        return Budget(checked, timeout_seconds=self._timeout_seconds, max_retries=self._max_retries)

    async def read(
        self, call: Call, options: RequestOptions | None = None, *, attempt_seconds: float = _ATTEMPT_SECONDS
    ) -> Reply:
        """Make a call that is safe to repeat, and repeat it while that can help.

        Raises:
            APIStatusError: the API said no.
            APIConnectionError, APITimeoutError, APIResponseError: no usable answer within the budget.
        """
        budget = self.budget(options)
        maybe_done = False
        while True:
            try:
                reply = await self.attempt(call, budget, options, attempt_seconds=attempt_seconds)
                if reply.ok and reply.data is not None:
                    return reply
                if maybe_done and call.method == "DELETE" and reply.status == 404:
                    # An attempt before this one did it, and its answer was lost.
                    return reply
                raise self.error_from(reply)
            except (APIConnectionError, APITimeoutError, APIResponseError, APIStatusError) as error:
                # Nothing was sent, or it was plainly refused: then a 404 later on is no echo of success.
                maybe_done = maybe_done or not isinstance(error, APIConnectionError | RateLimitError)
                if not _is_worth_repeating(error) or not await budget.pause(error.retry_after_seconds):
                    raise

    async def attempt(
        self,
        call: Call,
        budget: Budget,
        options: RequestOptions | None = None,
        *,
        attempt_seconds: float = _ATTEMPT_SECONDS,
    ) -> Reply:
        """Send a call once.

        Raises:
            InvalidRequestError: no request can be made of it; nothing was sent.
            APIConnectionError: nothing was sent.
            APIResponseError, APITimeoutError: it was sent, at least in part, and no whole answer came.
        """
        seconds = min(attempt_seconds, budget.seconds_left)
        progress = _Progress()
        request = self._request(call, options or RequestOptions(), progress)
        try:
            with anyio.fail_after(seconds):
                reply = await self._exchange(request)
        except TimeoutError as error:
            raise self._timed_out(call, seconds, progress.sent) from error
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            reason = self._scrub(str(error)).rstrip(".") or type(error).__name__
            if progress.sent:
                # The cause quotes what came, and that may quote the key.
                raise APIResponseError(
                    f"The answer to {call.method} {call.path} broke off: {reason}."
                ) from None
            raise APIConnectionError(f"{self.base_url} cannot be reached: {reason}.") from error
        self.sandboxed = self.sandboxed or SANDBOX_HEADER in reply.headers
        told = reply.server_time
        if told is not None:
            self._api_is_ahead = told - datetime.now(UTC)
        return reply

    def error_from(self, reply: Reply) -> APIStatusError | APIResponseError:
        """Return the error that an answer stands for."""
        if 300 <= reply.status < 400:
            place = self._scrub(_host_of(reply.headers.get("location", ""))) or "another place"
            message = f"{self.base_url} redirects to {place}, and the key is not sent there."
        elif reply.ok or not isinstance(reply.data, Mapping):
            kind = self._scrub(reply.headers.get("content-type", "no content type").split(";")[0])
            message = f"HTTP {reply.status} from {self.base_url} is not the API's JSON ({kind})."
        else:
            return _status_error(reply.status, reply.headers, reply.fields, self._scrub)
        error = APIResponseError(message, status=reply.status)
        error.retryable = _may_pass(reply.status)
        error.retry_after_seconds = _retry_after(reply.headers, {})
        return error

    async def aclose(self) -> None:
        """Close the connections; the transport opens new ones when it is used again."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def _request(self, call: Call, options: RequestOptions, progress: "_Progress") -> httpx.Request:
        headers = httpx.Headers({"accept": "application/json", "x-api-key": self._api_key, **call.headers})
        body = call.body
        try:
            more = options.get("additional_headers", {})
            headers.update({name: str(value) for name, value in more.items()})
            _check_headers(headers)
            if body is not None:
                body = {**body, **options.get("additional_body_parameters", {})}
                headers["content-type"] = "application/json"
            return self._client().build_request(
                call.method,
                self.base_url + call.path,
                params={**call.query, **options.get("additional_query_parameters", {})} or None,
                content=_json(body) if body is not None else None,
                headers=headers,
                extensions={"trace": progress.note},
            )
        except ImportError as error:
            # A kind of proxy that httpx has an extra for.
            raise ConfigurationError(
                f"The proxy of the environment cannot be used: {self._scrub(str(error))}",
                next_step="Install what it names, or take the proxy out of the environment.",
            ) from None
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            # What the caller put in has no form on the wire: too long an address, NaN, a header not in ASCII.
            raise InvalidRequestError(f"No request can be made of this: {self._scrub(str(error))}.") from None

    async def _exchange(self, request: httpx.Request) -> Reply:
        response = await self._client().send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _BODY_LIMIT:
                    raise httpx.DecodingError("The answer is too large.", request=request)
        finally:
            await response.aclose()
        return Reply(response.status_code, response.headers, _parsed(self._without_key(bytes(body))))

    def _without_key(self, body: bytes) -> bytes:
        # An API that echoes the key must not bring it into a job's fields. A short one, as the sandbox takes
        # it, may be a part of any word.
        key = self._api_key.encode()
        return body.replace(key, b"***") if len(key) >= _LEAST_SECRET else body

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                # Without TLS there is nothing to verify.
                verify=_tls_context() if self.base_url.startswith("https:") else False,
                headers={"user-agent": _USER_AGENT},
                timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=1000, max_keepalive_connections=20),
                follow_redirects=False,
                # A proxy of the environment cannot reach this machine's own sandbox.
                trust_env=urlsplit(self.base_url).hostname not in LOOPBACK,
            )
        return self._http

    def _timed_out(self, call: Call, seconds: float, sent: bool) -> SyncError:
        if not sent:
            return APIConnectionError(f"{self.base_url} did not accept a connection in {seconds:.3g} s.")
        return APITimeoutError(f"No answer to {call.method} {call.path} in {seconds:.3g} s.")

    def _scrub(self, text: str) -> str:
        # Cleaned first: the key must not come together when an invisible character in it is taken out.
        return re.sub(
            re.escape(self._api_key), "***", clean(text, _SCRUBBED_LIMIT), flags=re.IGNORECASE | re.ASCII
        )


class _Progress:
    """Whether a request has begun to leave: only until then is it certain that the API has not seen it."""

    def __init__(self) -> None:
        self.sent = False

    async def note(self, event: str, info: Mapping[str, object]) -> None:
        if event.endswith("send_request_headers.started"):
            # What is said to a proxy to reach the API is not said to the API.
            to_proxy = getattr(info.get("request"), "method", b"") == b"CONNECT"
            self.sent = self.sent or not to_proxy


def _checked_base_url(base_url: str) -> str:
    try:
        return checked_origin(base_url)
    except ValueError as error:
        raise ConfigurationError(f"The API's base URL {base_url.strip()!r} {error}.") from None


def _checked_api_key(api_key: str) -> str:
    try:
        key = checked_key(api_key)
    except ValueError as error:
        raise ConfigurationError(f"The API key {error}.") from None
    if not key:
        raise ConfigurationError(
            "There is no API key.",
            code="api_key_missing",
            next_step="Set SYNC_API_KEY (made at https://sync.so/settings/api-keys).",
        )
    return key


_OPTION_NAMES = tuple(RequestOptions.__annotations__)


def check_options(options: RequestOptions) -> None:
    """Refuse options that are unknown or unusable.

    Raises:
        InvalidRequestError: one sentence for each fault.
    """
    faults = [
        f"request_options has no key {name!r}{near(name, _OPTION_NAMES)}"
        for name in options
        if name not in _OPTION_NAMES
    ]
    seconds = options.get("timeout_in_seconds", 1.0)
    if not (math.isfinite(seconds) and seconds > 0):
        faults.append("request_options.timeout_in_seconds must be more than 0.")
    if options.get("max_retries", 0) < 0:
        faults.append("request_options.max_retries must be 0 or more.")
    if faults:
        raise InvalidRequestError(faults)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _check_headers(headers: httpx.Headers) -> None:
    # The connection would find it out too, but only when the request counts as on its way.
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError(f"the header {name!r} has characters that no header has")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_worth_repeating(error: SyncError) -> bool:
    if isinstance(error, APIStatusError | APIResponseError) and error.status is not None:
        # Jobs take longer to end than a call has time.
        return _may_pass(error.status) and not isinstance(error, ConcurrencyLimitError)
    return True


def _may_pass(status: int) -> bool:
    # A redirect or a plain 4xx stays what it is, whoever sent it; a 2xx was spoilt on its way.
    return not 300 <= status < 500 or status in (408, 429)


_ERRORS: dict[int, type[APIStatusError]] = {
    400: RequestRejectedError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: RequestRejectedError,
    422: RequestRejectedError,
    429: RateLimitError,
}


def _status_error(
    status: int, headers: httpx.Headers, body: Mapping[str, object], scrub: Callable[[str], str]
) -> APIStatusError:
    def word(*names: str) -> str | None:
        for name in names:
            value = body.get(name)
            if isinstance(value, str) and value.strip():
                return scrub(value)
        return None

    lines = body.get("message")
    message = (
        "; ".join(map(str, cast(list[object], lines)))
        if isinstance(lines, list)
        else word("message", "error")
    )
    code = word("errorCode", "error_code")
    error = _error_class(status, code, message or "", body)(
        scrub(message or f"HTTP {status}"),
        status=status,
        api_code=code,
        suggestion=word("suggestion"),
        field=word("field"),
        request_id=word("requestId"),
        retry_after_seconds=_retry_after(headers, body),
    )
    if isinstance(error, ConcurrencyLimitError):
        error.active_generations = _whole(body.get("activeGenerations"))
        error.concurrency_limit = _whole(body.get("concurrencyLimit"))
        if error.active_generations is not None and error.concurrency_limit is not None:
            error.message += (
                f" {error.active_generations} jobs run, and the plan allows {error.concurrency_limit}."
            )
    return error


def _error_class(
    status: int, code: str | None, message: str, body: Mapping[str, object]
) -> type[APIStatusError]:
    if status == 429:
        told = code in ("concurrency_limit_reached", "batch_concurrency_limit_reached")
        guessed = code is None and ("concurrencyLimit" in body or "concurren" in message.lower())
        return ConcurrencyLimitError if told or guessed else RateLimitError
    return _ERRORS.get(status, ServerError)


def _retry_after(headers: httpx.Headers, body: Mapping[str, object]) -> float | None:
    """Return the seconds to wait by the header (a number or an HTTP date), else by the body."""
    told = (_seconds_until(headers.get("retry-after")), _seconds_until(body.get("retryAfterSeconds")))
    return next((seconds for seconds in told if seconds is not None), None)


def _seconds_until(value: object) -> float | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        try:
            seconds = (parsedate_to_datetime(str(value)) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
