"""Which hosts are public: what others name by a URL is asked of those alone."""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

from sync_mcp.errors import APIResponseError

_PRIVATE_NAMES = re.compile(
    r"(?:.+\.)?(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|home\.arpa)"
)
_PUBLIC_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9-]+", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = 0x5EFE
# Where clouds tell a machine its secrets, though the addresses count as public or did so.
_CLOUD_SERVICES = tuple(map(ipaddress.IPv4Network, ("168.63.129.16/32", "192.0.0.0/24")))


def may_be_public(host: str) -> bool:
    """Return whether a host is a public address, or a name that can be one's, as far as its letters tell."""
    host = host.removesuffix(".").lower()
    if ":" in host:
        return is_public(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # In whatever form systems take an address: 127.1, 0x7f.1 and 2130706433 are one.
        try:
            return is_public(socket.inet_ntoa(socket.inet_aton(host)))
        except OSError:
            return False
    return bool(_PUBLIC_NAME.fullmatch(host)) and not _PRIVATE_NAMES.fullmatch(host)


def is_inside(host: str) -> bool:
    """Return whether a host is, by its letters alone, this machine or one of a private network."""
    host = host.removesuffix(".").lower()
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return not may_be_public(host)
    return _PRIVATE_NAMES.fullmatch(host) is not None


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public network."""
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


def check_addresses(host: str, addresses: list[str]) -> None:
    """Refuse a host that has an address which is not public.

    Raises:
        APIResponseError: `url_refused`.
    """
    # One answer whatever the port is like: open, closed or silent.
    if not all(map(is_public, addresses)):
        raise url_refusal(f"//{host}", "is an address of this machine or its network")


def url_refusal(url: str, fault: str) -> APIResponseError:
    """Return the error for a URL that is not asked; `fault` is the end of a sentence."""
    place = host_of(url) or "of no host"
    error = APIResponseError(f"A URL that was to be asked ({place}) {fault}.", code="url_refused")
    return error.advise(retryable=False)


def host_of(url: str) -> str:
    """Return the host that a URL names, or "" where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def port_of(place: SplitResult) -> int:
    """Return the port that a URL leads to, named or not."""
    return place.port or (443 if place.scheme == "https" else 80)
