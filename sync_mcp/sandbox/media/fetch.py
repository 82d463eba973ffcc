"""Fetching the media of a job from this machine; runs in a worker thread."""

import http.client
import ipaddress
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

FETCH_SECONDS = 10.0
FETCH_BYTES = 200 * 1024 * 1024
_REDIRECTS = 5
_CHUNK = 64 * 1024


class FetchError(Exception):
    """A URL could not be fetched; the text says why."""


def is_loopback(host: str) -> bool:
    """Return whether a host name can only mean this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Fetcher:
    """Downloads from loopback addresses, with a limit of time and size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._closed = False

    def fetch(self, url: str, target: Path) -> None:
        """Write what `url` answers to `target`.

        Raises:
            FetchError: another machine, no answer, a status other than 200, too slow or too large.
        """
        deadline = time.monotonic() + FETCH_SECONDS
        try:
            for _ in range(_REDIRECTS + 1):
                location = self._get(url, target, deadline)
                if location is None:
                    return
                url = urljoin(url, location)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(f"it did not answer as a web server does ({type(error).__name__})") from error
        raise FetchError("it redirects too often")

    def close(self) -> None:
        """Break off every download."""
        with self._lock:
            self._closed = True
            for connection in self._open:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _get(self, url: str, target: Path, deadline: float) -> str | None:
        connection, path = self._connection(url)
        try:
            connection.connect()
            if self._closed:
                raise FetchError("the sandbox stops")
            connection.request("GET", path, headers={"User-Agent": "sync-mcp-sandbox", "Accept": "*/*"})
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                return response.getheader("Location") or ""
            if response.status != 200:
                raise FetchError(f"it answered {response.status}")
            self._save(response, target, deadline)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
        return None

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not is_loopback(parts.hostname):
            raise FetchError("the sandbox fetches http URLs of this machine only")
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=FETCH_SECONDS)
        with self._lock:
            if self._closed:
                raise FetchError("the sandbox stops")
            self._open.add(connection)
        return connection, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _save(self, response: http.client.HTTPResponse, target: Path, deadline: float) -> None:
        size = 0
        with target.open("wb") as file:
            while chunk := response.read1(_CHUNK):
                size += len(chunk)
                if size > FETCH_BYTES:
                    raise FetchError(f"it is larger than {FETCH_BYTES // 1024**2} MB")
                if time.monotonic() > deadline:
                    raise FetchError(f"it took longer than {FETCH_SECONDS:g} seconds")
                file.write(chunk)
        if response.length:
            raise FetchError("it broke off")
