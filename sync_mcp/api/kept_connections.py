"""Connections that are kept for the next request: each carries one at a time, and is that one's alone.

The pool that httpx comes with looks at all its connections for each request, at its start and at its end, and
promises one that has just become free to all who ask at that moment; all but one of them then ask again. With
thirty requests at once that takes more time than the requests do.
"""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, cast

import anyio
import httpcore
from anyio.lowlevel import current_token

from sync_mcp.errors import ConfigurationError

_MOST_AT_ONCE = 1000
"""How many requests are under way at once; more wait for their turn."""
_MOST_KEPT = 100
_KEPT_SECONDS = 5.0
"""How long one rests. Servers close such a one sooner or later, at worst as the next request leaves."""

_Place = tuple[bytes, bytes, int]


class KeptConnections:
    """What `httpx.AsyncHTTPTransport` sends its requests by, in place of a pool of httpcore's.

    The newest is taken first, so that those which few requests need come to rest and are closed.
    """

    def __init__(self, context: ssl.SSLContext | None, network: httpcore.AsyncNetworkBackend | None) -> None:
        self._context = context
        self._network = network
        self._turns = anyio.Semaphore(_MOST_AT_ONCE, fast_acquire=True)
        self._kept: dict[_Place, deque[httpcore.AsyncConnectionInterface]] = {}
        self._under_way: set[httpcore.AsyncConnectionInterface] = set()
        self._is_closed = False

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, and return the head of its answer; its connection is kept once that is closed.

        Raises:
            httpcore.ConnectError, httpcore.ConnectTimeout, ...: as a connection of httpcore's does.
        """
        await self._turns.acquire()
        try:
            connection = await self._take(request.url.origin)
        except BaseException:
            self._turns.release()
            raise
        self._under_way.add(connection)
        give_back = partial(self._give_back, request.url.origin, connection)
        try:
            answer = await connection.handle_async_request(request)
        except httpcore.ConnectionNotAvailable:
            await give_back()
            # It was closed as the request came to it: nothing of that has left.
            raise httpcore.ConnectError("the client was closed meanwhile") from None
        except BaseException:
            await give_back()
            raise
        answer.stream = _Body(cast(_Chunks, answer.stream), give_back)
        return answer

    async def aclose(self) -> None:
        """Close them all, those too that a request is under way on; none is kept from now on."""
        self._is_closed = True
        kept, self._kept = self._kept, {}
        for connection in (*self._under_way, *(one for place in kept.values() for one in place)):
            await _close(connection)

    async def __aenter__(self) -> "KeptConnections":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _take(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        kept = self._kept.get(_place(origin))
        while kept:
            connection = kept.pop()
            if not connection.has_expired():
                return connection
            await _close(connection)
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self._context,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=self._network,
        )

    async def _give_back(
        self, origin: httpcore.Origin, connection: httpcore.AsyncConnectionInterface
    ) -> None:
        self._turns.release()
        self._under_way.discard(connection)
        # One that never came about counts as idle too, and as closed.
        if self._is_closed or _has_more_than_its_answer(connection):
            await _close(connection)
        elif connection.is_idle() and not connection.is_closed():
            self._kept.setdefault(_place(origin), deque()).append(connection)
        for kept in self._kept.values():
            while kept and (len(kept) > _MOST_KEPT or kept[0].has_expired()):
                await _close(kept.popleft())


class _Chunks(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class _Body:
    """The body of an answer, whose end or closing gives its connection back."""

    def __init__(self, chunks: _Chunks, give_back: Callable[[], Awaitable[None]]) -> None:
        self._chunks = chunks
        self._give_back: Callable[[], Awaitable[None]] | None = give_back

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._chunks)

    async def aclose(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            with anyio.CancelScope(shield=True):
                await self._chunks.aclose()
                await give_back()


def _has_more_than_its_answer(connection: httpcore.AsyncConnectionInterface) -> bool:
    """Return whether more came than the answer to the one request: it would be taken for that to the next.

    What comes later is seen by `has_expired`.
    """
    # Neither httpcore nor the connection tells it; one of another make is taken to have nothing.
    parser = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return parser is not None and parser.trailing_data[0] != b""


def _place(origin: httpcore.Origin) -> _Place:
    return origin.scheme, origin.host, origin.port


async def _close(connection: httpcore.AsyncConnectionInterface) -> None:
    with anyio.CancelScope(shield=True):
        await connection.aclose()


class OneLoop:
    """The event loop that connections belong to: that in which the first of them was wanted."""

    def __init__(self) -> None:
        self._token: object = None

    def enter(self) -> None:
        """Check that they belong to the loop that runs.

        Raises:
            ConfigurationError: they belong to another.
        """
        token = current_token()
        if self._token is None:
            self._token = token
        elif self._token != token:
            raise ConfigurationError(
                "This client has been used in another event loop, and its connections cannot leave that.",
                next_step="Make one client for each event loop, inside it: async with AsyncSync() as sync.",
            )

    def leave(self) -> None:
        """Let the next loop have the next connections; those that there are end in their own.

        Raises:
            ConfigurationError: as `enter`.
        """
        if self._token is not None:
            self.enter()
        self._token = None
