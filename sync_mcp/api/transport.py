"""HTTP to the Sync API: the only module that speaks it.

It adds the key, keeps the time limits, retries what is safe to repeat, obeys Retry-After, and turns every
way to fail into one of the errors of `sync_mcp.errors`. The key travels to the API's own origin only:
redirects of it are never followed. Storages, which the API names by signed URLs, are spoken to without it.
"""

import hashlib
import ipaddress
import json
import logging
import math
import platform
import random
import re
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypedDict, cast
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

from sync_mcp._version import __version__
from sync_mcp.access import checked_key, checked_origin, is_on_loopback, is_placeholder
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
from sync_mcp.texts import clean, near, without_queries, without_secrets

logger = logging.getLogger("sync_mcp.api")

SANDBOX_HEADER = "x-sync-sandbox"
"""Response header by which the embedded sandbox marks every answer of its own."""

_CONNECT_SECONDS = 10.0
_ATTEMPT_SECONDS = 30.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 16.0
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=20)
_BODY_BYTES = 1024 * 1024
_LIST_BYTES = 8 * 1024 * 1024
"""How long an answer may be, that of a list and any other; a compressed one unpacked."""
_PACKED = "gzip"
_STORAGE_SECONDS = 60.0
"""How long a storage may say nothing, or take nothing of what is sent."""
_SLOWEST_BYTES_PER_SECOND = 16 * 1024
_REDIRECTS = 5
_SCRUBBED_LIMIT = 2400
_LONGEST_RETRY_AFTER = 86_400.0
_LEAST_SECRET = 16
"""A shorter key, as the sandbox takes it, may be a part of any word: it is masked nowhere."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~]+(?:[ \t]+[!-~]+)*)?")


@cache
def _tls_context() -> ssl.SSLContext:
    # Reading the certificates takes longer than most calls: once per process is enough.
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise ConfigurationError(
            "The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{error.strerror or type(error).__name__}.",
            next_step="Correct SSL_CERT_FILE and SSL_CERT_DIR in the environment, and start again.",
        ) from None


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
    plain: bool = False
    """Whether the answer is bare text, not JSON."""
    is_list: bool = False
    """Whether the answer is a list, which may be longer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; `data` is None where the body is not JSON, and a string where the call is `plain`."""

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

    def __init__(
        self,
        options: RequestOptions,
        *,
        timeout_seconds: float,
        max_retries: int,
        longest_pause_seconds: float = math.inf,
    ) -> None:
        self._longest_pause_seconds = longest_pause_seconds
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
        if self.retries_left <= 0 or seconds >= self.seconds_left or seconds > self._longest_pause_seconds:
            return False
        self.retries_left -= 1
        await anyio.sleep(seconds)
        return True


class Download:
    """The answer of a storage to a GET: its head, and its body as it comes."""

    def __init__(self, response: httpx.Response, host: str) -> None:
        self._response = response
        self._host = host
        self.status = response.status_code
        """200 for the whole file, 206 for the range that was asked for."""
        self.headers = response.headers

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        """Yield the body, `size` bytes at most.

        Raises:
            APITimeoutError, APIResponseError: it broke off or came too slowly, or is longer than `size`.
        """
        received = 0
        ends_at = anyio.current_time() + _transfer_seconds(size)
        try:
            async with aclosing(cast(AsyncGenerator[bytes], self._response.aiter_raw())) as body:
                async for chunk in body:
                    received += len(chunk)
                    if received > size:
                        raise _final(APIResponseError(f"{self._host} sends more than was announced."))
                    if anyio.current_time() > ends_at:
                        raise APITimeoutError(f"{self._host} sends too slowly.")
                    yield chunk
        except httpx.TimeoutException:
            raise APITimeoutError(f"{self._host} sent nothing for {_STORAGE_SECONDS:.0f} s.") from None
        except (httpx.HTTPError, ssl.SSLError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise APIResponseError(f"The download from {self._host} broke off: {reason}.") from None


class Transport:
    """A connection pool to one API origin with one key."""

    def __init__(self, *, api_key: str, base_url: str, timeout_seconds: float, max_retries: int) -> None:
        self.base_url = _checked_base_url(base_url)
        self._api_key = _checked_api_key(api_key, self.base_url)
        self._timeout_seconds = timeout_seconds
        self._max_retries = max_retries
        self._http: httpx.AsyncClient | None = None
        self._storage_http: dict[str | None, httpx.AsyncClient] = {}
        self._api_is_ahead: timedelta | None = None
        self.sandboxed = False
        """Whether the answers come from a sandbox; known from the first answer on."""

    def __repr__(self) -> str:
        return f"Transport(base_url={self.base_url!r})"

    @property
    def api_time(self) -> datetime:
        """Now, by the API's clock as its last answer told it; until then by this machine's."""
        return datetime.now(UTC) + (self._api_is_ahead or timedelta(0))

    @property
    def has_heard_time(self) -> bool:
        """Whether an answer of the API's has told the time."""
        return self._api_is_ahead is not None

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

    def tries(self, options: RequestOptions | None) -> Budget:
        """Return the tries of a transfer, which may last as long as it goes on.

        Raises:
            InvalidRequestError: as `budget`.
        """
        return Budget(
            {"timeout_in_seconds": math.inf},
            timeout_seconds=math.inf,
            max_retries=self.budget(options).retries_left,
            longest_pause_seconds=_STORAGE_SECONDS,
        )

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
        answered: APIResponseError | APIStatusError | None = None
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
                if isinstance(error, APIStatusError | APIResponseError):
                    answered = error
                elif answered is not None and not budget.seconds_left:
                    # The end of the time cut this attempt short: the answer before it says more.
                    raise answered from None
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
        reply: Reply | None = None
        failure: SyncError | None = None
        try:
            with anyio.fail_after(seconds):
                reply = await self._exchange(request, call)
        except TimeoutError:
            failure = self._timed_out(call, seconds, progress.sent)
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            reason = self._scrub(str(error)).rstrip(".") or type(error).__name__
            if progress.sent:
                failure = APIResponseError(f"The answer to {call.method} {call.path} broke off: {reason}.")
            else:
                failure = APIConnectionError(f"{self.base_url} cannot be reached: {reason}.")
        if reply is None:
            # Raised here it has no cause: that holds the request with the key, and quotes what came.
            raise failure or self._timed_out(call, seconds, progress.sent)
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

    async def put(self, url: str, body: AsyncIterator[bytes], *, size: int, content_type: str) -> None:
        """Send a body of `size` bytes to a signed URL, once, without the key; no redirect is followed.

        What `body` raises comes out as it is, and then the storage has not got the whole.

        Raises:
            APIConnectionError: nothing was sent.
            APITimeoutError, APIResponseError: it broke off; or the storage refused, and then the error has a
                status. `retryable` says whether a fresh URL can help.
        """
        headers = {"content-type": content_type, "content-length": str(size)}
        with anyio.move_on_after(_transfer_seconds(size)):
            response = await self._storage_send("PUT", url, headers, _Body(body))
            try:
                if not 200 <= response.status_code < 300:
                    raise await self._storage_error("PUT", url, response)
            finally:
                await response.aclose()
            return
        raise APITimeoutError(f"{_host_of(url)} takes the file too slowly.")

    @asynccontextmanager
    async def download(self, url: str, headers: Mapping[str, str] | None = None) -> AsyncGenerator[Download]:
        """Get a URL without the key, its redirects too: of a public https host, or of the API's own.

        Raises:
            APIConnectionError: nothing was sent.
            APITimeoutError, APIResponseError: no usable answer; a fresh URL can help if it is `retryable`.
        """
        wanted = {"accept-encoding": "identity", **(headers or {})}
        for _ in range(_REDIRECTS + 1):
            response = None
            with anyio.move_on_after(_STORAGE_SECONDS):
                response = await self._storage_send("GET", url, wanted, None)
            if response is None:
                raise APITimeoutError(f"{_host_of(url)} did not answer in {_STORAGE_SECONDS:.0f} s.")
            try:
                place = response.headers.get("location")
                if response.status_code in (301, 302, 303, 307, 308) and place:
                    url = _joined(url, place)
                    continue
                if response.status_code not in (200, 206):
                    raise await self._storage_error("GET", url, response)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _final(APIResponseError(f"{_host_of(url)} sends the file compressed."))
                yield Download(response, _host_of(url))
                return
            finally:
                await response.aclose()
        raise _final(APIResponseError(f"{_host_of(url)} redirects without end."))

    async def aclose(self) -> None:
        """Close the connections; the transport opens new ones when it is used again."""
        http, self._http = self._http, None
        storage_http, self._storage_http = self._storage_http, {}
        for client in (*([http] if http else []), *storage_http.values()):
            await client.aclose()

    def _request(self, call: Call, options: RequestOptions, progress: "_Progress") -> httpx.Request:
        headers = httpx.Headers(
            {
                "accept": "application/json",
                "accept-encoding": _PACKED,
                "x-api-key": self._api_key,
                **call.headers,
            }
        )
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
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            # What the caller put in has no form on the wire: too long an address, NaN, a header not in ASCII.
            raise InvalidRequestError(f"No request can be made of this: {self._scrub(str(error))}.") from None

    async def _exchange(self, request: httpx.Request, call: Call) -> Reply:
        response = await self._client().send(request, stream=True)
        try:
            body = await _body_of(response, _LIST_BYTES if call.is_list else _BODY_BYTES)
        finally:
            await response.aclose()
        content = self._without_key(body)
        text = call.plain and response.is_success
        data = content.decode("utf-8", "replace") if text else _parsed(content)
        return Reply(response.status_code, response.headers, data)

    async def _storage_send(
        self, method: str, url: str, headers: Mapping[str, str], body: "_Body | None"
    ) -> httpx.Response:
        """Send a request without the key and return the head of the answer."""
        own = self._is_own(url)
        progress = _Progress()
        try:
            client = self._storage_client(url)
            request = client.build_request(
                method,
                url,
                headers=headers,
                timeout=httpx.Timeout(_STORAGE_SECONDS, connect=_CONNECT_SECONDS),
                extensions={"trace": progress.note},
            )
        except (httpx.InvalidURL, ValueError):
            raise _bad_place(url, "is not a URL that can be asked") from None
        if body is not None:
            request.stream = body
        if not own and not _may_be_public(request.url.raw_host.decode("ascii")):
            # A proxy would not let it be seen where the connection leads.
            raise _bad_place(url, "is this machine, or in its network")
        try:
            return await client.send(request, stream=True)
        except (httpx.HTTPError, ssl.SSLError) as error:
            host = _host_of(url)
            reason = self._scrub(str(error)).rstrip(".") or type(error).__name__
            if not progress.sent:
                failure = APIConnectionError(
                    f"{host} cannot be reached: {reason}.",
                    next_step="Check the network and any proxy on the way, then call again.",
                )
            elif isinstance(error, httpx.TimeoutException):
                failure = APITimeoutError(f"{host} took and answered nothing for {_STORAGE_SECONDS:.0f} s.")
            else:
                failure = APIResponseError(f"The {method} to {host} broke off: {reason}.")
        # Raised here it has no cause: that holds the whole request with its signature.
        raise failure

    def _is_own(self, url: str) -> bool:
        """Return whether a URL is of the API's own origin; any other must be a public one with https.

        Raises:
            APIResponseError: it is neither.
        """
        try:
            place, base = urlsplit(url), urlsplit(self.base_url)
            is_own = (place.scheme, place.hostname, _port_of(place)) == (
                base.scheme,
                base.hostname,
                _port_of(base),
            )
        except ValueError:
            raise _bad_place("", "is not a URL") from None
        if not place.hostname or place.username or not (place.scheme == "https" or is_own):
            raise _bad_place(url, "is no https URL of a host")
        return is_own

    async def _storage_error(self, method: str, url: str, response: httpx.Response) -> APIResponseError:
        code = ""
        with suppress(httpx.HTTPError):
            # Storages tell the reason in XML; the first piece of it is enough.
            async for piece in response.aiter_raw(4096):
                found = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", piece)
                code = f" {found[1].decode()}" if found else ""
                break
        status = response.status_code
        error = APIResponseError(
            f"The storage at {_host_of(url)} refused the {method}: HTTP {status}{code}.",
            status=status,
            code="storage_refused",
        )
        # 403 is how a signature that is out of time is told.
        error.retryable = _may_pass(status) or status == 403 or code == " RequestTimeout"
        error.retry_after_seconds = _retry_after(response.headers, {})
        return error

    def _without_key(self, body: bytes) -> bytes:
        # An API that echoes the key must not bring it into a job's fields.
        key = self._api_key.encode()
        return body.replace(key, b"***") if len(key) >= _LEAST_SECRET else body

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            # Without TLS there is nothing to verify.
            self._http = self._new_client(_tls_context() if self.base_url.startswith("https:") else False)
        return self._http

    def _storage_client(self, url: str) -> httpx.AsyncClient:
        if not url.lower().startswith("https:"):
            # Of the API's own origin, which has no TLS: a client's requests carry the key one by one.
            return self._client()
        proxy = self._proxy_to(_host_of(url))
        if proxy not in self._storage_http:
            context = _tls_context()
            if proxy is None:
                base = urlsplit(self.base_url)
                direct = _PublicTransport(context, trusted=(base.hostname or "", _port_of(base)))
                self._storage_http[proxy] = self._new_client(context, transport=direct)
            else:
                self._storage_http[proxy] = self._new_client(context, proxy=proxy)
        return self._storage_http[proxy]

    def _proxy_to(self, host: str) -> str | None:
        """Return the proxy that the environment sets for a host elsewhere.

        Of a proxy it is not known where it goes: names are its own to resolve, and its own to judge.
        """
        if not self._may_use_proxy or proxy_bypass(host):
            return None
        proxies = getproxies()
        found = proxies.get("https") or proxies.get("all")
        return found if not found or "://" in found else f"http://{found}"

    @property
    def _may_use_proxy(self) -> bool:
        # A proxy of the environment cannot reach this machine's own sandbox.
        return not is_on_loopback(self.base_url)

    def _new_client(
        self,
        verify: ssl.SSLContext | bool,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | None = None,
    ) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                verify=verify,
                headers={"user-agent": _USER_AGENT},
                timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
                limits=_LIMITS,
                follow_redirects=False,
                transport=transport,
                proxy=proxy,
                trust_env=self._may_use_proxy,
            )
        except (ImportError, httpx.InvalidURL, ValueError, TypeError) as error:
            # One that is none, or of a kind that httpx has an extra for.
            raise ConfigurationError(
                f"The proxy of the environment cannot be used: {self._scrub(str(error))}",
                next_step="Correct HTTPS_PROXY or ALL_PROXY in the environment, install what it needs, or "
                "take it out, and start again.",
            ) from None

    def _timed_out(self, call: Call, seconds: float, sent: bool) -> SyncError:
        if not sent:
            return APIConnectionError(f"{self.base_url} did not accept a connection in {seconds:.3g} s.")
        return APITimeoutError(f"No answer to {call.method} {call.path} in {seconds:.3g} s.")

    def _scrub(self, text: str) -> str:
        # Cleaned first: the key must not come together when an invisible character in it is taken out.
        shown = clean(text, _SCRUBBED_LIMIT)
        if len(self._api_key) < _LEAST_SECRET:
            return shown
        return re.sub(re.escape(self._api_key), "***", shown, flags=re.IGNORECASE | re.ASCII)


class _Progress:
    """Whether a request has begun to leave: only until then is it certain that the API has not seen it.

    On this stands whether a create that failed is called "not sent", and its money let go. It may be said of
    nothing that was sent; the opposite mistake costs a search. An error does not tell: the same kinds are
    raised by a connection that never came about and by one that broke off after the request. So the
    connection itself is listened to. The first byte of the headers is the earliest that the API can see, and
    what has once begun stays so, whatever the pool tries next.
    """

    def __init__(self) -> None:
        self.sent = False

    async def note(self, event: str, info: Mapping[str, object]) -> None:
        if event.endswith("send_request_headers.started"):
            # What is said to a proxy to reach the API is not said to the API.
            to_proxy = getattr(info.get("request"), "method", b"") == b"CONNECT"
            self.sent = self.sent or not to_proxy


class _PublicTransport(httpx.AsyncHTTPTransport):
    """Connects to public addresses alone, and to `trusted`, the API's own host and port."""

    def __init__(self, context: ssl.SSLContext, *, trusted: tuple[str, int]) -> None:
        super().__init__(verify=context, trust_env=False, limits=_LIMITS)
        # httpx too loads it with the first client.
        import httpcore

        from sync_mcp.api.network import CheckedNetwork

        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_LIMITS.max_connections,
            max_keepalive_connections=_LIMITS.max_keepalive_connections,
            keepalive_expiry=_LIMITS.keepalive_expiry,
            network_backend=CheckedNetwork(_check_addresses, trusted=trusted),
        )


def _check_addresses(host: str, addresses: list[str]) -> None:
    # One answer whatever the port is like: open, closed or silent.
    if not all(map(_is_public, addresses)):
        raise _bad_place(f"//{host}", "is an address of this machine or its network")


class _Body(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class _QueriesHidden(logging.Filter):
    """Takes the signatures of URLs out of what the HTTP library logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                without_queries(str(part)) if isinstance(part, httpx.URL) else part for part in record.args
            )
        record.msg = without_queries(str(record.msg))
        return True


for _name in ("httpx", "httpcore.http11"):
    logging.getLogger(_name).addFilter(_QueriesHidden())


def _checked_base_url(base_url: str) -> str:
    try:
        return checked_origin(base_url)
    except ValueError as error:
        raise ConfigurationError(f"The API's base URL {without_secrets(base_url)!r} {error}.") from None


def _checked_api_key(api_key: str, base_url: str) -> str:
    try:
        key = checked_key(api_key)
    except ValueError as error:
        raise ConfigurationError(f"The API key {error}.") from None
    if not key:
        raise ConfigurationError("There is no API key.", code="api_key_missing")
    # A sandbox takes any.
    if is_placeholder(key) and not is_on_loopback(base_url):
        raise ConfigurationError("The API key is a placeholder.", code="api_key_missing")
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


async def _body_of(response: httpx.Response, limit: int) -> bytes:
    """Return the body of an answer, unpacked no further than `limit` bytes.

    Raises:
        httpx.DecodingError: it is longer, or packed in another way than was asked for, or more than once.
    """
    coding = response.headers.get("content-encoding", "").strip().lower() or "identity"
    if coding not in ("identity", _PACKED):
        raise httpx.DecodingError(f"It is packed as {coding[:40]!r}, which was not asked for.")
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS) if coding == _PACKED else None
    body = bytearray()
    received = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        try:
            body += unpacking.decompress(chunk, limit + 1 - len(body)) if unpacking else chunk
        except zlib.error as error:
            raise httpx.DecodingError(f"It is no {_PACKED}: {error}.") from None
        if max(len(body), received) > limit:
            raise httpx.DecodingError(f"It is longer than {limit:,} bytes.")
    if unpacking and received and not unpacking.eof:
        raise httpx.DecodingError("It is cut short.")
    return bytes(body)


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


def _port_of(place: SplitResult) -> int:
    return place.port or (443 if place.scheme == "https" else 80)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _joined(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError:
        raise _bad_place("", "is not a URL") from None


def _final(error: APIResponseError) -> APIResponseError:
    error.retryable = False
    return error


def _bad_place(url: str, fault: str) -> APIResponseError:
    place = _host_of(url) or "of no host"
    return _final(APIResponseError(f"A URL that was to be asked ({place}) {fault}.", code="url_refused"))


_PRIVATE_NAMES = re.compile(
    r"(?:.+\.)?(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|home\.arpa)"
)
_PUBLIC_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9-]+", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def _may_be_public(host: str) -> bool:
    """Return whether a host is a public address, or a name that can be one's, as far as its letters tell."""
    host = host.removesuffix(".").lower()
    if ":" in host:
        return _is_public(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # In whatever form systems take an address: 127.1, 0x7f.1 and 2130706433 are one.
        try:
            return _is_public(socket.inet_ntoa(socket.inet_aton(host)))
        except OSError:
            return False
    return bool(_PUBLIC_NAME.fullmatch(host)) and not _PRIVATE_NAMES.fullmatch(host)


def is_inside(host: str) -> bool:
    """Return whether a host is, by its letters alone, this machine or one of a private network."""
    host = host.removesuffix(".").lower()
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return not _may_be_public(host)
    return _PRIVATE_NAMES.fullmatch(host) is not None


_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = 0x5EFE
# Where clouds tell a machine its secrets, though the addresses count as public or did so.
_CLOUD_SERVICES = tuple(map(ipaddress.IPv4Network, ("168.63.129.16/32", "192.0.0.0/24")))


def _is_public(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _inner_address(ip)
        if inner is None:
            return ip in _PUBLIC_IPV6 and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _CLOUD_SERVICES)


def _inner_address(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address to which what is sent to an IPv6 one is brought."""
    is_isatap = ip in _PUBLIC_IPV6 and (int(ip) >> 32) & 0xFDFFFFFF == _ISATAP
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 or is_isatap else None
    return ip.ipv4_mapped or ip.sixtofour or last


def _transfer_seconds(size: int) -> float:
    return _STORAGE_SECONDS + size / _SLOWEST_BYTES_PER_SECOND


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
    410: NotFoundError,
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
        scrub(message or ""),
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
