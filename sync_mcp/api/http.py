"""HTTP to the Sync API, and to the hosts that it names: the only module that speaks it.

It adds the key, keeps the time limits, repeats what is safe to repeat, and turns every way to fail into one
of the errors of `sync_mcp.errors`. The key travels to the API's own origin only: redirects of it are never
followed. Others, which the API names by signed URLs, are spoken to without it (`send_without_key`).
"""

import hashlib
import json
import platform
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpcore
import httpx

from sync_mcp._version import __version__
from sync_mcp.access import is_on_loopback
from sync_mcp.api.body import PACKED, UnreadableBody, parse_json, read_body
from sync_mcp.api.credentials import check_api_key, check_base_url
from sync_mcp.api.http_log import hide_queries
from sync_mcp.api.kept_connections import KeptConnections, OneLoop
from sync_mcp.api.network import CheckedNetwork
from sync_mcp.api.options import RequestOptions, check_options
from sync_mcp.api.public_hosts import host_of, may_be_public, port_of, url_refusal
from sync_mcp.api.replies import Reply, reply_error
from sync_mcp.api.retry import Budget, is_worth_repeating
from sync_mcp.api.send_trace import SendTrace
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    InvalidRequestError,
    RateLimitError,
    SyncError,
)
from sync_mcp.texts import clean

SANDBOX_HEADER = "x-sync-sandbox"
"""Response header by which the embedded sandbox marks every answer of its own."""

_CONNECT_SECONDS = 10.0
_SEND_SECONDS = 30.0
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=20)
"""Of the connections to a proxy."""
_BODY_BYTES = 1024 * 1024
_LIST_BYTES = 8 * 1024 * 1024
"""How long an answer may be, that of a list and any other; a compressed one unpacked."""
_NO_CONTENT = 204
_SCRUBBED_LIMIT = 2400
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


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API, before the call's own options."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    """Fields of a form in place of a body, beside its files."""
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    """Of the form, by field: the name, content and type of each file."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    plain: bool = False
    """Whether the answer is bare text, not JSON."""
    is_list: bool = False
    """Whether the answer is a list, which may be longer."""


class Transport:
    """A connection pool to one API origin with one key."""

    def __init__(self, *, api_key: str, base_url: str, timeout_seconds: float, max_retries: int) -> None:
        self.base_url = check_base_url(base_url)
        self._api_key = check_api_key(api_key, self.base_url)
        self._timeout_seconds = timeout_seconds
        self._max_retries = max_retries
        self._http: httpx.AsyncClient | None = None
        self._storage_http: dict[str | None, httpx.AsyncClient] = {}
        self._loop = OneLoop()
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

    async def read(self, call: Call, options: RequestOptions | None = None) -> Reply:
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
                reply = await self.send(call, budget, options)
                if reply.ok and (reply.data is not None or reply.status == _NO_CONTENT):
                    return reply
                if maybe_done and call.method == "DELETE" and reply.status == 404:
                    # A send before this one did it, and its answer was lost.
                    return reply
                raise self.error_from(reply)
            except (APIConnectionError, APITimeoutError, APIResponseError, APIStatusError) as error:
                # Nothing was sent, or it was plainly refused: then a 404 later on is no echo of success.
                maybe_done = maybe_done or not isinstance(error, APIConnectionError | RateLimitError)
                if isinstance(error, APIStatusError | APIResponseError):
                    answered = error
                elif answered is not None and not budget.seconds_left:
                    # The end of the time cut this send short: the answer before it says more.
                    raise answered from None
                if not is_worth_repeating(error) or not await budget.pause(error.retry_after_seconds):
                    raise

    async def send(
        self,
        call: Call,
        budget: Budget,
        options: RequestOptions | None = None,
        *,
        send_seconds: float = _SEND_SECONDS,
    ) -> Reply:
        """Send a call once.

        Raises:
            InvalidRequestError: no request can be made of it; nothing was sent.
            APIConnectionError: nothing was sent.
            APIResponseError, APITimeoutError: it was sent, at least in part, and no whole answer came.
        """
        seconds = min(send_seconds, budget.seconds_left)
        trace = SendTrace()
        request = self._request(call, options or RequestOptions(), trace)
        reply: Reply | None = None
        failure: SyncError | None = None
        try:
            with anyio.fail_after(seconds):
                reply = await self._exchange(request, call)
        except TimeoutError:
            failure = self._timeout_error(call, seconds, trace.sent)
        except (httpx.HTTPError, ssl.SSLError, OSError, UnreadableBody) as error:
            reason = self._scrub(str(error)).rstrip(".") or type(error).__name__
            if trace.sent:
                failure = APIResponseError(f"The answer to {call.method} {call.path} broke off: {reason}.")
            else:
                failure = APIConnectionError(
                    f"{self.base_url} cannot be reached: {reason}.", by_certificate=_is_of_certificate(error)
                )
        if reply is None:
            # Raised here it has no cause: that holds the request with the key, and quotes what came.
            raise failure or self._timeout_error(call, seconds, trace.sent)
        self.sandboxed = self.sandboxed or SANDBOX_HEADER in reply.headers
        told = reply.server_time
        if told is not None:
            self._api_is_ahead = told - datetime.now(UTC)
        return reply

    def error_from(self, reply: Reply) -> APIStatusError | APIResponseError:
        """Return the error that an answer stands for."""
        return reply_error(reply, self.base_url, self._scrub)

    async def send_without_key(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None = None,
        *,
        silence_seconds: float,
    ) -> "OpenReply":
        """Send a request to a public https host, or to the API's own, and return the head of the answer.

        What `body` raises comes out as it is. The caller closes the answer.

        Args:
            silence_seconds: how long the other side may say nothing, or take nothing of what is sent.

        Raises:
            APIConnectionError: nothing was sent.
            APITimeoutError, APIResponseError: the URL is not asked, or the exchange broke off.
        """
        own = self._is_own(url)
        trace = SendTrace()
        try:
            client = self._storage_client(url)
            request = client.build_request(
                method,
                url,
                headers=headers,
                timeout=httpx.Timeout(silence_seconds, connect=_CONNECT_SECONDS),
                extensions={"trace": trace.note},
            )
        except (httpx.InvalidURL, ValueError):
            raise url_refusal(url, "is not a URL that can be asked") from None
        if body is not None:
            request.stream = _Body(body)
        if not own and not may_be_public(request.url.raw_host.decode("ascii")):
            # A proxy would not let it be seen where the connection leads.
            raise url_refusal(url, "is this machine, or in its network")
        host = host_of(url)
        try:
            with hide_queries():
                response = await client.send(request, stream=True)
            return OpenReply(response, host, silence_seconds)
        except (httpx.HTTPError, ssl.SSLError) as error:
            reason = self._scrub(str(error)).rstrip(".") or type(error).__name__
            if not trace.sent:
                failure = APIConnectionError(
                    f"{host} cannot be reached: {reason}.",
                    next_step="Check the network and any proxy on the way, then call again.",
                )
            elif isinstance(error, httpx.TimeoutException):
                failure = APITimeoutError(f"{host} took and answered nothing for {silence_seconds:.0f} s.")
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
            is_own = (place.scheme, place.hostname, port_of(place)) == (
                base.scheme,
                base.hostname,
                port_of(base),
            )
        except ValueError:
            raise url_refusal("", "is not a URL") from None
        if not place.hostname or place.username or not (place.scheme == "https" or is_own):
            raise url_refusal(url, "is no https URL of a host")
        return is_own

    async def aclose(self) -> None:
        """Close the connections; the transport opens new ones when it is used again, in whichever event loop.

        Raises:
            ConfigurationError: they belong to another event loop.
        """
        self._loop.leave()
        http, self._http = self._http, None
        storage_http, self._storage_http = self._storage_http, {}
        for client in (*([http] if http else []), *storage_http.values()):
            await client.aclose()

    def _request(self, call: Call, options: RequestOptions, trace: SendTrace) -> httpx.Request:
        headers = httpx.Headers(
            {
                "accept": "application/json",
                "accept-encoding": PACKED,
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
                data=call.form,
                files=call.files,
                headers=headers,
                extensions={"trace": trace.note},
            )
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            # What the caller put in has no form on the wire: too long an address, NaN, a header not in ASCII.
            raise InvalidRequestError(f"No request can be made of this: {self._scrub(str(error))}.") from None

    async def _exchange(self, request: httpx.Request, call: Call) -> Reply:
        with hide_queries():
            response = await self._client().send(request, stream=True)
        try:
            coding = response.headers.get("content-encoding", "")
            body = await read_body(response.aiter_raw(), coding, _LIST_BYTES if call.is_list else _BODY_BYTES)
        finally:
            await response.aclose()
        content = self._without_key(body)
        text = call.plain and response.is_success
        data = content.decode("utf-8", "replace") if text else parse_json(content)
        return Reply(response.status_code, response.headers, data)

    def _without_key(self, body: bytes) -> bytes:
        # An API that echoes the key must not bring it into a job's fields.
        key = self._api_key.encode()
        return body.replace(key, b"***") if len(key) >= _LEAST_SECRET else body

    def _client(self) -> httpx.AsyncClient:
        self._loop.enter()
        if self._http is None:
            # Without TLS there is nothing to verify.
            context = _tls_context() if self.base_url.startswith("https:") else None
            self._http = self._new_client(context, self._proxy_to(self.base_url), None)
        return self._http

    def _storage_client(self, url: str) -> httpx.AsyncClient:
        if not url.lower().startswith("https:"):
            # Of the API's own origin, which has no TLS: a client's requests carry the key one by one.
            return self._client()
        self._loop.enter()
        proxy = self._proxy_to(url)
        if proxy not in self._storage_http:
            base = urlsplit(self.base_url)
            checked = CheckedNetwork(trusted=(base.hostname or "", port_of(base)))
            self._storage_http[proxy] = self._new_client(_tls_context(), proxy, checked)
        return self._storage_http[proxy]

    def _proxy_to(self, url: str) -> str | None:
        """Return the proxy that the environment sets for a URL.

        Of a proxy it is not known where it goes: names are its own to resolve, and its own to judge.
        """
        # A proxy of the environment cannot reach this machine's own sandbox.
        if is_on_loopback(self.base_url) or proxy_bypass(host_of(url)):
            return None
        proxies = getproxies()
        found = proxies.get(urlsplit(url).scheme) or proxies.get("all")
        return found if not found or "://" in found else f"http://{found}"

    def _new_client(
        self, context: ssl.SSLContext | None, proxy: str | None, network: CheckedNetwork | None
    ) -> httpx.AsyncClient:
        """Return a client that goes by the proxy, or else straight to where `network` leads."""
        try:
            return httpx.AsyncClient(
                verify=context or False,
                headers={"user-agent": _USER_AGENT},
                timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
                limits=_LIMITS,
                follow_redirects=False,
                transport=_Direct(context, network) if proxy is None else None,
                proxy=proxy,
                trust_env=False,
            )
        except (ImportError, httpx.InvalidURL, ValueError, TypeError) as error:
            # One that is none, or of a kind that httpx has an extra for.
            raise ConfigurationError(
                f"The proxy of the environment cannot be used: {self._scrub(str(error))}",
                next_step="Correct HTTPS_PROXY or ALL_PROXY in the environment, install what it needs, or "
                "take it out, and start again.",
            ) from None

    def _timeout_error(self, call: Call, seconds: float, sent: bool) -> SyncError:
        if not sent:
            return APIConnectionError(f"{self.base_url} did not accept a connection in {seconds:.3g} s.")
        return APITimeoutError(f"No answer to {call.method} {call.path} in {seconds:.3g} s.")

    def _scrub(self, text: str) -> str:
        # Cleaned first: the key must not come together when an invisible character in it is taken out.
        shown = clean(text, _SCRUBBED_LIMIT)
        if len(self._api_key) < _LEAST_SECRET:
            return shown
        return re.sub(re.escape(self._api_key), "***", shown, flags=re.IGNORECASE | re.ASCII)


class OpenReply:
    """The head of an answer that was not asked with the key, and its body as it comes."""

    def __init__(self, response: httpx.Response, host: str, silence_seconds: float) -> None:
        self._response = response
        self._silence_seconds = silence_seconds
        self.host = host
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        """By their names in any case."""

    async def chunks(self, size: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the body as it comes, or in chunks of `size` bytes.

        Raises:
            APITimeoutError, APIResponseError: it broke off.
        """
        try:
            body = cast(AsyncGenerator[bytes], self._response.aiter_raw(size))
            async with aclosing(body):
                async for chunk in body:
                    yield chunk
        except httpx.TimeoutException:
            raise APITimeoutError(f"{self.host} sent nothing for {self._silence_seconds:.0f} s.") from None
        except (httpx.HTTPError, ssl.SSLError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise APIResponseError(f"The download from {self.host} broke off: {reason}.") from None

    async def aclose(self) -> None:
        """Leave the rest of the body."""
        await self._response.aclose()


class _Direct(httpx.AsyncHTTPTransport):
    """Sends requests without a proxy."""

    def __init__(self, context: ssl.SSLContext | None, network: CheckedNetwork | None) -> None:
        super().__init__(verify=context or False, trust_env=False)
        self._pool = cast(httpcore.AsyncConnectionPool, KeptConnections(context, network))


class _Body(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


def _is_of_certificate(error: BaseException | None) -> bool:
    """Return whether an exchange failed for the other side's certificate, however deep that stands."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _check_headers(headers: httpx.Headers) -> None:
    # The connection would find it out too, but only when the request counts as on its way.
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError(f"the header {name!r} has characters that no header has")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
