"""What is fetched from hosts that others name: no inside address is ever connected to."""

import socket
import ssl
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from sync_mcp.api import public_hosts
from sync_mcp.api.http import Transport
from sync_mcp.api.storage import download, read_chunks
from sync_mcp.errors import APIConnectionError, APIResponseError, SyncError

from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
HERE, INSIDE = "127.0.0.1", "10.1.2.3"
NAME = "media.example"
Resolve = Callable[..., list[str]]


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Let names lead to these addresses, turn by turn; what it returns lists each name that was asked for."""
    real = socket.getaddrinfo

    def resolve(*turns: list[str], **more: list[str]) -> list[str]:
        asked: list[str] = []

        def answered(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name != NAME and name not in more:
                return real(host, port, *arguments, **named)
            asked.append(name)
            addresses = more[name] if name in more else turns[min(asked.count(name), len(turns)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", answered)
        return asked

    return resolve


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Who signs the certificates that the client trusts."""
    made = trustme.CA()
    context = ssl.create_default_context(cadata=made.cert_pem.bytes().decode())
    monkeypatch.setattr("sync_mcp.api.http._tls_context", lambda: context)
    return made


@pytest.fixture
def here_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's address pass for a public one, since no test reaches another."""
    real = public_hosts.is_public

    def is_public(address: str) -> bool:
        return address == HERE or real(address)

    monkeypatch.setattr(public_hosts, "is_public", is_public)


def certified(authority: trustme.CA, folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = folder / f"{name}.pem"
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
    context.load_cert_chain(path)
    return context


async def fetched(url: str, base_url: str = "https://api.example") -> bytes:
    transport = Transport(api_key="sk_Test-1234567890", base_url=base_url, timeout_seconds=10, max_retries=0)
    try:
        async with download(transport, url) as got:
            return b"".join([piece async for piece in read_chunks(got, 1024)])
    finally:
        await transport.aclose()


async def refusal(url: str, **more: str) -> tuple[str, str, bool]:
    with pytest.raises(SyncError) as caught:
        await fetched(url, **more)
    return caught.value.code, caught.value.message, caught.value.retryable


@contextmanager
def port(kind: str) -> Generator[tuple[int, socket.socket]]:
    """A port of this machine: one that takes connections, one that is silent, or a closed one."""
    with socket.create_server((HERE, 0), backlog=8) as listener:
        listener.setblocking(False)
        number = int(listener.getsockname()[1])
        if kind == "closed":
            listener.close()
        yield number, listener


def was_connected_to(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except OSError:
        return False
    return True


@both_backends
async def test_open_closed_and_silent_inside_ports_get_one_answer_and_no_connection(
    resolved: Resolve,
) -> None:
    resolved([HERE])
    told: set[tuple[str, str, bool]] = set()
    for kind in ("open", "closed"):
        with port(kind) as (number, listener):
            told.add(await refusal(f"https://{NAME}:{number}/v.mp4"))
            assert not was_connected_to(listener)
    # Nobody answers there: whoever tried to connect would wait in vain.
    resolved([INSIDE])
    told.add(await refusal(f"https://{NAME}:9/v.mp4"))
    [(code, message, retryable)] = told
    assert (code, retryable) == ("url_refused", False)
    assert "is an address of this machine or its network" in message


@both_backends
async def test_a_redirect_to_an_inside_name_is_not_followed(
    resolved: Resolve, authority: trustme.CA, here_is_public: None, tmp_path: Path
) -> None:
    resolved([HERE], **{"inside.example": [INSIDE]})
    moved = answer(302, b"", {"Location": "https://inside.example/latest"})
    with RawServer([moved], tls=certified(authority, tmp_path, NAME)) as outside:
        code, message, _ = await refusal(f"https://{NAME}:{outside.port}/v.mp4")
    assert (code, "inside.example" in message) == ("url_refused", True)


@both_backends
async def test_the_address_that_was_checked_is_the_one_connected_to(
    resolved: Resolve, authority: trustme.CA, here_is_public: None, tmp_path: Path
) -> None:
    asked = resolved([HERE], [INSIDE])
    with RawServer([answer(200, b"film")], tls=certified(authority, tmp_path, NAME)) as outside:
        assert await fetched(f"https://{NAME}:{outside.port}/v.mp4") == b"film"
    # Asked again, the name would have led inside.
    assert asked == [NAME]
    assert outside.received[0].headers["host"] == f"{NAME}:{outside.port}"


async def test_a_name_that_leads_inside_by_one_of_its_addresses_is_refused(
    resolved: Resolve, here_is_public: None
) -> None:
    resolved([HERE, INSIDE])
    with port("open") as (number, listener):
        assert (await refusal(f"https://{NAME}:{number}/v.mp4"))[0] == "url_refused"
        assert not was_connected_to(listener)


async def test_the_certificate_is_still_one_of_the_name(
    resolved: Resolve, authority: trustme.CA, here_is_public: None, tmp_path: Path
) -> None:
    resolved([HERE])
    with (
        RawServer([answer(200, b"film")], tls=certified(authority, tmp_path, "other.example")) as outside,
        pytest.raises(APIConnectionError, match="certificate"),
    ):
        await fetched(f"https://{NAME}:{outside.port}/v.mp4")
    assert outside.received == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="127.0.0.2 is an address on Linux alone")
async def test_where_one_address_refuses_the_next_is_tried(
    resolved: Resolve, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(public_hosts, "is_public", {"127.0.0.2", HERE}.__contains__)
    resolved(["127.0.0.2", HERE])
    with RawServer([answer(200, b"film")], tls=certified(authority, tmp_path, NAME)) as outside:
        assert await fetched(f"https://{NAME}:{outside.port}/v.mp4") == b"film"


async def test_a_name_without_any_address_cannot_be_reached(resolved: Resolve) -> None:
    resolved([])
    with pytest.raises(APIConnectionError, match=r"media\.example cannot be reached"):
        await fetched(f"https://{NAME}/v.mp4")


async def test_another_port_of_the_apis_own_host_is_as_inside_as_any() -> None:
    with port("open") as (number, listener):
        told = await refusal(f"https://{HERE}:{number}/v.mp4", base_url=f"http://{HERE}:8787")
        assert told[0] == "url_refused"
        assert not was_connected_to(listener)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with RawServer([answer(502, b"")]) as server:
        monkeypatch.setenv("https_proxy", server.url)
        yield server


async def test_behind_a_proxy_names_are_the_proxys_own_to_resolve(
    resolved: Resolve, proxy: RawServer
) -> None:
    asked = resolved([INSIDE])
    with pytest.raises(APIConnectionError):
        await fetched(f"https://{NAME}/v.mp4")
    assert asked == []
    assert [(sent.method, sent.target) for sent in proxy.received] == [("CONNECT", f"{NAME}:443")]


async def test_what_the_proxy_is_not_for_is_checked_here(
    resolved: Resolve, proxy: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "example")
    resolved([INSIDE])
    with pytest.raises(APIResponseError, match="this machine or its network"):
        await fetched(f"https://{NAME}/v.mp4")
    assert proxy.connections == 0
