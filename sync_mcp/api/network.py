"""Connections to hosts that anybody may name: an address is checked first, and is the one connected to."""

import math
import socket
from collections.abc import Iterable
from typing import cast

import anyio
import httpcore

from sync_mcp.api.public_hosts import check_addresses


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once: what it would lead to a moment later does not count.

    TLS, which comes on top, goes by the name all the same.
    """

    def __init__(self, trusted: tuple[str, int]) -> None:
        self._network = cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())
        self._trusted = trusted

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers, within `timeout` seconds in all."""
        if (host, port) == self._trusted:
            return await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        ends_at = anyio.current_time() + (math.inf if timeout is None else timeout)
        addresses = await _addresses(host, port, timeout)
        check_addresses(host, addresses)
        failure: Exception = httpcore.ConnectError("the name has no address")
        for number, address in enumerate(addresses):
            # One that is silent must leave time for the others.
            seconds = (ends_at - anyio.current_time()) / (len(addresses) - number)
            try:
                return await self._network.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


async def _addresses(host: str, port: int, timeout: float | None) -> list[str]:
    try:
        with anyio.fail_after(timeout):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from None
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None
    # Where IPv6 is set up and leads nowhere, trying it first would cost half of the time.
    return sorted(dict.fromkeys(str(place[4][0]) for place in found), key=lambda address: ":" in address)
