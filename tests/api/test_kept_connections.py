"""Connections that are kept: each carries one request at a time, and no request waits for another's."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import httpcore
import pytest
from anyio.abc import SocketStream

from sync_mcp import APIConnectionError, AsyncSync
from sync_mcp.api import kept_connections
from sync_mcp.api.kept_connections import KeptConnections

from .conftest import until
from .raw_server import RawServer, answer

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]


@dataclass
class Host:
    """A server that answers each request with the number of its connection, and keeps that open."""

    port: int
    opened: int = 0
    open: list[SocketStream] = field(default_factory=list[SocketStream])
    held: anyio.Event = field(default_factory=anyio.Event)
    """What requests for `/held` wait for."""
    asked: list[str] = field(default_factory=list[str])

    async def serve(self, stream: SocketStream) -> None:
        self.opened += 1
        number = self.opened
        self.open.append(stream)
        async with stream:
            with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
                while True:
                    await self._answer(stream, number)
            self.open.remove(stream)

    async def _answer(self, stream: SocketStream, number: int) -> None:
        head = await stream.receive()
        self.asked.append(head.split(b" ")[1].decode())
        if self.asked[-1] == "/held":
            await self.held.wait()
        times = 2 if self.asked[-1] == "/twice" else 1
        content = str(number).encode()
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
        await stream.send(whole * times)

    def request(self, path: str = "/") -> httpcore.Request:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpcore.Request("GET", url, headers={"Host": "127.0.0.1"})


@asynccontextmanager
async def running() -> AsyncGenerator[tuple[Host, KeptConnections]]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
        KeptConnections(None, None) as kept,
    ):
        host = Host(listener.extra(anyio.abc.SocketAttribute.local_port))
        tasks.start_soon(listener.serve, host.serve)
        yield host, kept
        tasks.cancel_scope.cancel()


async def ask(kept: KeptConnections, request: httpcore.Request) -> int:
    """Return the number of the connection that a request took."""
    response = await kept.handle_async_request(request)
    content = await response.aread()
    await response.aclose()
    return int(content)


async def ask_at_once(kept: KeptConnections, host: Host, times: int) -> list[int]:
    """Return the connections of so many requests that are all under way before one of them is answered."""
    numbers: list[int] = []
    before = len(host.asked)

    async def note() -> None:
        numbers.append(await ask(kept, host.request("/held")))

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(note)
        await until(lambda: len(host.asked) == before + times)
        host.held.set()
    host.held = anyio.Event()
    return numbers


async def test_requests_that_follow_each_other_take_one_connection() -> None:
    async with running() as (host, kept):
        assert [await ask(kept, host.request()) for _ in range(4)] == [1, 1, 1, 1]


async def test_requests_at_once_have_a_connection_each_and_the_next_ones_take_the_same() -> None:
    async with running() as (host, kept):
        first = await ask_at_once(kept, host, 30)
        assert sorted(first) == list(range(1, 31))
        assert sorted(await ask_at_once(kept, host, 30)) == sorted(first)


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with running() as (host, kept):
        assert await ask(kept, host.request()) == 1
        await host.open[0].aclose()
        await until(lambda: not host.open)
        assert await ask(kept, host.request()) == 2


async def test_a_second_answer_to_one_request_is_not_taken_for_that_to_the_next() -> None:
    async with running() as (host, kept):
        assert await ask(kept, host.request("/twice")) == 1
        assert await ask(kept, host.request()) == 2
        await until(lambda: len(host.open) == 1)


async def test_a_request_that_is_given_up_takes_its_connection_with_it() -> None:
    async with running() as (host, kept):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, kept, host.request("/held"))
            await until(lambda: host.asked == ["/held"])
            tasks.cancel_scope.cancel()
        assert await ask(kept, host.request()) == 2
        host.held.set()
        await until(lambda: len(host.open) == 1)


async def test_an_answer_that_is_closed_unread_takes_its_connection_with_it() -> None:
    async with running() as (host, kept):
        response = await kept.handle_async_request(host.request())
        await response.aclose()
        assert await ask(kept, host.request()) == 2
        await until(lambda: len(host.open) == 1)


async def test_one_that_rested_too_long_is_closed_though_no_request_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_connections, "_KEPT_SECONDS", -1)
    async with running() as (host, kept):
        await ask_at_once(kept, host, 2)
        await until(lambda: not host.open)


async def test_few_requests_take_the_newest_and_let_the_others_rest() -> None:
    async with running() as (host, kept):
        *_, newest = await ask_at_once(kept, host, 3)
        assert [await ask(kept, host.request()) for _ in range(3)] == [newest] * 3


async def test_no_more_are_kept_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_connections, "_MOST_KEPT", 2)
    async with running() as (host, kept):
        await ask_at_once(kept, host, 5)
        await until(lambda: len(host.open) == 2)
        assert len(set(await ask_at_once(kept, host, 2))) == 2
        assert host.opened == 5


async def test_closing_closes_the_kept_and_those_that_a_request_is_on() -> None:
    async with running() as (host, kept):
        await ask_at_once(kept, host, 2)
        response = await kept.handle_async_request(host.request())
        await kept.aclose()
        await until(lambda: not host.open)
        await response.aclose()


async def test_a_request_that_comes_as_all_are_closed_is_told_so_or_answered_and_keeps_nothing_open() -> None:
    async with running() as (host, kept):
        await ask(kept, host.request())

        async def try_to_ask() -> None:
            with suppress(httpcore.ConnectError):
                await ask(kept, host.request())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(try_to_ask)
            await anyio.lowlevel.checkpoint()
            await kept.aclose()
        await until(lambda: not host.open)


async def _refuse(kept: KeptConnections, _: Host) -> None:
    free = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = free.extra(anyio.abc.SocketAttribute.local_port)
    await free.aclose()
    request = httpcore.Request("GET", f"http://127.0.0.1:{port}/", headers={"Host": "127.0.0.1"})
    with pytest.raises(httpcore.ConnectError):
        await kept.handle_async_request(request)


async def _give_up(kept: KeptConnections, host: Host) -> None:
    before = len(host.asked)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, kept, host.request("/held"))
        await until(lambda: len(host.asked) == before + 1)
        tasks.cancel_scope.cancel()


async def _answer(kept: KeptConnections, host: Host) -> None:
    await ask(kept, host.request())


@pytest.mark.parametrize("end", [_answer, _refuse, _give_up])
async def test_each_end_of_a_request_gives_its_turn_to_the_next(
    end: Callable[[KeptConnections, Host], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "_MOST_AT_ONCE", 1)
    async with running() as (host, kept):
        for _ in range(2):
            await end(kept, host)
        with anyio.fail_after(15):
            assert await ask(kept, host.request())


async def test_a_request_beyond_the_bound_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_connections, "_MOST_AT_ONCE", 1)
    async with running() as (host, kept), anyio.create_task_group() as tasks:
        tasks.start_soon(ask, kept, host.request("/held"))
        await until(lambda: host.asked == ["/held"])
        tasks.start_soon(ask, kept, host.request("/next"))
        await anyio.wait_all_tasks_blocked()
        assert host.asked == ["/held"]
        host.held.set()
        await until(lambda: host.asked == ["/held", "/next"])
        assert host.opened == 1


async def test_the_api_is_asked_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with RawServer([answer(502, b"")]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with AsyncSync(api_key="a" * 20, base_url="https://api.example", max_retries=0) as client:
            with pytest.raises(APIConnectionError):
                await client.models.list()
        assert [(one.method, one.target) for one in proxy.received] == [("CONNECT", "api.example:443")]
