"""A socket that listens, for the servers of this package."""

import os
import socket

BACKLOG = 512


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket that listens at `host`, an IPv4 or IPv6 address or a name, and `port`.

    Raises:
        OSError: the address cannot be had; its `strerror` is the reason.
    """
    # With its protocol named: otherwise asyncio leaves the delay of small packets on, 40 ms to an answer.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        # Elsewhere it would let a second server take the same port.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
