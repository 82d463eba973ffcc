"""How many connections a server holds at once, and how many of them one caller may have."""

import sys
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address

if sys.platform != "win32":
    import resource

_MOST = 8_192
"""More would cost more memory than a small machine has."""
_SHARE = 4
"""One address has a part of all connections: so many have to come together to take all."""
_DESCRIPTORS_UNTOLD = 10_240
_PREFIX_BITS = 64
_PROXIES = ("127.0.0.1", "::1")


def raise_descriptors() -> int:
    """Let the process open as many descriptors as it may, and return how many that are."""
    if sys.platform == "win32":
        return _DESCRIPTORS_UNTOLD
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS_UNTOLD if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        # Some systems allow less than they say.
        return soft
    return wanted


class Connections:
    """The connections of a server that has so many descriptors: three quarters of them, and no more.

    An address has a part of them; one of IPv6 stands for its whole network, which is one customer's. A proxy
    on this machine has them all: behind it is everybody.

    Attributes:
        accepted_at_once: how many may be taken from the system before they are counted.
    """

    def __init__(self, descriptors: int) -> None:
        self._most = min(descriptors * 3 // 4, _MOST)
        self._most_of_one = max(1, self._most // _SHARE)
        # Some rounds of the event loop go by until a refused one is closed.
        self.accepted_at_once = max(1, min(descriptors // 32, 128))
        self._held: Counter[str] = Counter()

    def admit(self, address: str) -> str | None:
        """Return whom a new connection counts for, to be given back to `leave`; None where it is too many."""
        party = _party(address)
        most = self._most if party in _PROXIES else self._most_of_one
        if self._held.total() >= self._most or self._held[party] >= most:
            return None
        self._held[party] += 1
        return party

    def leave(self, party: str) -> None:
        """Note that one of its connections is closed."""
        self._held[party] -= 1
        if not self._held[party]:
            del self._held[party]


def _party(address: str) -> str:
    try:
        ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        if str(ip) not in _PROXIES:
            return f"{int(ip) >> _PREFIX_BITS:x}"
    return str(ip)
