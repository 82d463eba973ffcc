"""Serve an MCP server over Streamable HTTP, stateless, to clients of both protocol eras.

`/mcp` speaks the protocol; `/health` tells that the process is there; a hook takes what others post to a path
of its own. Any process with the same settings can answer any request.
"""

import hmac
import logging
import re
import signal
import socket
from asyncio import AbstractEventLoop, Protocol, TimerHandle, Transport, get_running_loop, timeout
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.dispatcher import as_request_id
from mcp_types import INVALID_REQUEST
from pydantic_core import from_json
from sse_starlette.sse import AppStatus
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import HANDLED_SIGNALS

from sync_mcp.access import LOOPBACK
from sync_mcp.errors import ConfigurationError, WebhookRefused
from sync_mcp.machine.listen import BACKLOG, listening_socket
from sync_mcp.serving.caller import asked_toolsets, caller
from sync_mcp.serving.connections import Connections, raise_descriptors
from sync_mcp.serving.ending import exit_within
from sync_mcp.texts import clean

logger = logging.getLogger(__name__)

MCP_PATH = "/mcp"
HEALTH_PATH = "/health"
DRAIN_SECONDS = 8
"""How long calls that are under way at the end may go on."""
_LAST_MOMENTS_SECONDS = 1.5
"""How long the end may take beside that, when something cannot be cancelled."""

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(?P<name>.+?)(:[0-9]{1,5})?")
_SHOWN = 200
_UNUSABLE_ID = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": INVALID_REQUEST, "message": "an id is a string or an integer"},
}
_BODY_BYTES = 4 * 1024 * 1024
_HOOK_BYTES = 1024 * 1024
_SILENT_SECONDS = 5.0
_HEAD_SECONDS = 15.0
_BODY_SECONDS = 30.0
_KEEP_ALIVE_SECONDS = 30
_LINE_SECONDS = 1.0
_NOISE = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")
"""What uvicorn says of single requests."""
_ACCEPT_FAILED = "socket.accept() out of system resource"


@dataclass(frozen=True, slots=True)
class Hook:
    """What takes requests at a path of its own, from whoever signs them.

    Attributes:
        path: the path, as in `/hooks`.
        hosts: the names that they may call this server by, beside those of its clients.
        take: takes the raw body of a request and its headers, and returns whether there was room for it;
            raises `WebhookRefused` where it is not believed, or cannot be read.
    """

    path: str
    hosts: Sequence[str]
    take: Callable[[bytes, Mapping[str, str]], Awaitable[bool]]


def check_exposure(host: str, allowed_hosts: Sequence[str], *, has_token: bool) -> None:
    """Refuse to serve where strangers could reach the server and nothing would stop them.

    Raises:
        ConfigurationError: it is to be reached from elsewhere, without a token or without named hosts.
    """
    outside = host not in LOOPBACK
    missing = [
        *(["the environment variable SYNC_MCP_HTTP_TOKEN"] if not has_token else []),
        *(["--allowed-host NAME, the name that clients call it by"] if outside and not allowed_hosts else []),
    ]
    if missing and (outside or allowed_hosts):
        place = f"on {host}" if outside else f"as {', '.join(allowed_hosts)}"
        raise ConfigurationError(f"Serving HTTP {place} also needs {' and '.join(missing)}.")


def create_app(
    server: Server[Any],
    *,
    allowed_hosts: Sequence[str] = (),
    tokens: Mapping[str, str | None] | None = None,
    hook: Hook | None = None,
) -> ASGIApp:
    """Return the ASGI application; `allowed_hosts` are accepted beside this machine's own loopback names.

    With `tokens` one of them is needed; the value of each is the name of whom it was given to, or None. What
    `hook` takes needs none.
    """
    routes = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        stateless_http=True,
        # An answer in one JSON object could carry no progress.
        json_response=False,
        max_request_body_size=_BODY_BYTES,
        # Its own check takes every host that begins with a name and a colon.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        custom_starlette_routes=[Route(HEALTH_PATH, _health, methods=["GET"])],
    )
    # It would lead to the host that the client names, whichever that is.
    routes.router.redirect_slashes = False
    names = (*_LOOPBACK_HOSTS, *allowed_hosts)
    app: ASGIApp = _Entrance(routes, server.session_manager.handle_request, names)
    if tokens:
        app = _BearerOnly(app, tokens)
    return _OneLength(app if hook is None else _Hooked(app, hook, names))


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


class _CountedLine:
    """A log line that strangers can cause: at most one a second, with how often it was to be said."""

    def __init__(self) -> None:
        self._text = ""
        self._times = 0
        self._rest: TimerHandle | None = None

    def say(self, text: str) -> None:
        """Log a text, at once or with those that follow within the second; the last one stands for them."""
        self._text = text
        self._times += 1
        if self._rest is None:
            self._log()

    def _log(self) -> None:
        more = f" ({self._times:,} times within a second)" if self._times > 1 else ""
        logger.warning("%s%s", self._text, more)
        self._times = 0
        self._rest = get_running_loop().call_later(_LINE_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if self._times:
            self._log()


class _OneLength:
    """Refuses a request that tells its length in two ways: another server would see another end of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (
            _values(scope, b"content-length") and _values(scope, b"transfer-encoding")
        ):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse("Content-Length beside Transfer-Encoding", 400, {"Connection": "close"})
        await refusal(scope, receive, send)


class _Hooked:
    """Hands a hook what comes to its path; all else goes on to what lies behind."""

    def __init__(self, app: ASGIApp, hook: Hook, names: Sequence[str]) -> None:
        self._app = app
        self._hook = hook
        self._names = frozenset(name.lower() for name in (*names, *hook.hosts))
        self._refused = _CountedLine()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._hook.path:
            await self._app(scope, receive, send)
            return
        answer = await self._answer(scope, receive)
        if answer is not None:
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer; None where nobody is left to be told."""
        [host] = _header(scope, b"host") or [""]
        if not _is_named(host, self._names):
            self._refused.say(f"refused the host {clean(host, _SHOWN)}")
            return PlainTextResponse("Invalid Host header", 421)
        if scope["method"] != "POST":
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "POST"})
        messages = await _whole(receive, _HOOK_BYTES)
        if isinstance(messages, Response):
            return messages
        if messages[-1]["type"] == "http.disconnect":
            return None
        body = b"".join(message.get("body", b"") for message in messages)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            has_room = await self._hook.take(body, headers)
        except WebhookRefused as error:
            self._refused.say(f"refused a webhook: {error.message} ({error.code})")
            return PlainTextResponse(error.message, 400 if error.code == "event_unreadable" else 401)
        return Response(status_code=204) if has_room else PlainTextResponse("Too many at once", 503)


class _Entrance:
    """Lets a request in when it names this server, is whole, and can be answered.

    What it lets through to `/mcp` goes to the protocol at once, past the routes that lead elsewhere.
    """

    def __init__(self, routes: ASGIApp, protocol: ASGIApp, names: Sequence[str]) -> None:
        self._routes = routes
        self._protocol = protocol
        self._names = frozenset(name.lower() for name in names)
        self._strangers = _CountedLine()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        is_protocol = scope["path"] == MCP_PATH
        refusal = None if scope["path"] == HEALTH_PATH else self._refusal(scope)
        if refusal is None:
            messages = await _whole(receive)
            if isinstance(messages, Response):
                refusal = messages
            elif messages[-1]["type"] == "http.disconnect":
                # Half a request is none, and nobody is left to be told.
                return
            elif is_protocol and _has_unusable_id(messages):
                refusal = JSONResponse(_UNUSABLE_ID, 400)
            else:

                async def again() -> Message:
                    return messages.popleft() if messages else await receive()

                asked_toolsets.set(",".join(_header(scope, b"x-mcp-toolsets")))
                await (self._protocol if is_protocol else self._routes)(scope, again, send)
                return
        await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to who calls by another name, as a page does whose own name leads here.

        So is one who asks for a stream of its own: a stateless server would keep it open and never use it.
        """
        [host] = _header(scope, b"host") or [""]
        if not _is_named(host, self._names):
            self._strangers.say(f"refused the host {clean(host, _SHOWN)}")
            return PlainTextResponse("Invalid Host header", 421)
        for origin in filter(None, _header(scope, b"origin")):
            scheme, _, place = origin.partition("://")
            if scheme not in ("http", "https") or not _is_named(place, self._names):
                self._strangers.say(f"refused the origin {clean(origin, _SHOWN)}")
                return PlainTextResponse("Invalid Origin header", 403)
        if scope["path"] == MCP_PATH and scope["method"] != "POST":
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "POST"})
        return None


def _is_named(host: str, names: Collection[str]) -> bool:
    if host in names:
        return True
    found = _HOST.fullmatch(host)
    return found is not None and found["name"] in names


class _BearerOnly:
    """Lets only requests with a token through to what lies behind; anybody may ask for the health."""

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str | None]) -> None:
        self._app = app
        self._wanted = [(token.encode(), name) for token, name in tokens.items()]
        self._refused = _CountedLine()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH_PATH:
            await self._app(scope, receive, send)
            return
        # All of them, so that the time that it takes tells nothing.
        given = _bearer(scope)
        names = [name for token, name in self._wanted if hmac.compare_digest(given, token)]
        if names:
            caller.set(names[0])
            await self._app(scope, receive, send)
            return
        self._refused.say("refused a request without a right token")
        challenge = 'Bearer error="invalid_token"' if _values(scope, b"authorization") else "Bearer"
        answer = PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": challenge})
        await answer(scope, receive, send)


def _bearer(scope: Scope) -> bytes:
    """Return the one token that a request came with; empty where it has none, or several."""
    given = _values(scope, b"authorization")
    kind, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else b""


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for given, value in scope["headers"] if given == name]


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for value in _values(scope, name)]


async def _whole(receive: Receive, most_bytes: int = _BODY_BYTES) -> deque[Message] | Response:
    """Return all messages of a request, or the refusal of one too large or too slow.

    It is read whole before it is looked at: it may be so large, and take so long, and no more.
    """
    messages: deque[Message] = deque()
    length = 0
    try:
        async with timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                messages.append(message)
                length += len(message.get("body", b""))
                if length > most_bytes:
                    return PlainTextResponse("Content Too Large", 413, {"Connection": "close"})
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return messages
    except TimeoutError:
        return PlainTextResponse("Request Timeout", 408, {"Connection": "close"})


def _has_unusable_id(messages: Sequence[Message]) -> bool:
    """Whether this is a request that the SDK takes for a notification, so that nobody would be answered."""
    try:
        frame: object = from_json(b"".join(message.get("body", b"") for message in messages))
    except ValueError:
        return False
    if not isinstance(frame, dict):
        return False
    fields = cast("dict[str, object]", frame)
    method, request_id = fields.get("method"), fields.get("id", 0)
    # Some clients write a notification's missing id as null.
    is_notification = request_id is None and str(method).startswith("notifications/")
    return method is not None and as_request_id(request_id) is None and not is_notification


class _Protocol(H11Protocol):
    """Closes a connection that is too many, or that opens and does not say a whole request's head."""

    _head_timer: TimerHandle | None = None
    _has_spoken = False

    def __init__(self, held: Connections, too_many: _CountedLine, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._held, self._too_many = held, too_many
        self._party: str | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._party = self._held.admit(address)
        if self._party is None:
            self._too_many.say(f"closed a connection from {clean(address, _SHOWN)}: there are too many")
            transport.abort()
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        if not self._has_spoken:
            self._has_spoken = True
            self._forget_head()
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._party is not None:
            self._held.leave(self._party)
        self._forget_head()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        # None until the first request, whatever its annotation says.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            self._forget_head()
        elif self._head_timer is None:
            seconds = _HEAD_SECONDS if self._has_spoken else _SILENT_SECONDS
            self._head_timer = self.loop.call_later(seconds, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def serve_http(app: ASGIApp, listening: socket.socket, on_stop: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_stop` is called then, and what is under way has `DRAIN_SECONDS`.

    Call it in the main thread. The process leaves soon after that, whatever still runs in its threads.
    """
    held = Connections(raise_descriptors())
    config = uvicorn.Config(
        app,
        http=cast("type[Protocol]", partial(_Protocol, held, _CountedLine())),
        backlog=held.accepted_at_once,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    noise = _CountedLine()

    def is_no_noise(record: logging.LogRecord) -> bool:
        is_noise = str(record.msg).startswith(_NOISE)
        if is_noise:
            noise.say(record.getMessage())
        return not is_noise

    logging.getLogger("uvicorn.error").addFilter(is_no_noise)
    # At the signal it would cut off each answer of the handshake era that is under way.
    AppStatus.disable_automatic_graceful_drain()
    server = _Server(config, on_stop)
    # Heard from now on, and not only once it serves. When it has ended it raises the signal once more: that
    # must not spoil the exit code.
    for number in HANDLED_SIGNALS:
        signal.signal(number, server.handle_exit)
    anyio.run(partial(server.serve, sockets=[listening]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._exhausted = _CountedLine()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        get_running_loop().set_exception_handler(self._on_fault)
        await super().startup(sockets)
        for listening in sockets or []:
            # As many as are accepted at once would be too few to wait for it.
            listening.listen(BACKLOG)

    def _on_fault(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _ACCEPT_FAILED:
            self._exhausted.say(f"no connection can be accepted: {context.get('exception')}")
        else:
            loop.default_exception_handler(context)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        exit_within(DRAIN_SECONDS + _LAST_MOMENTS_SECONDS)
        self._on_stop()
        await super().shutdown(sockets)
        # All are answered. A name server that does not answer holds a thread, which the end would wait for.
        exit_within(_LAST_MOMENTS_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    try:
        return listening_socket(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"HTTP cannot be served on {host}:{port}: {reason}.") from error
