"""Why a file could not be looked at where its URL leads: told before anybody guesses its length."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import HEAD_BYTES, MediaKind, media_format
from sync_mcp.api.links import expiry
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    FileRefused,
    SyncError,
)
from sync_mcp.texts import REASON_LIMIT, clean, safe

PEEK_SECONDS = 8.0
_HOST_LIMIT = 80
_NAME_LIMIT = 80
# As systems word it, and by their numbers; a name server that fails says something else.
_NO_SUCH_NAME = re.compile(
    r"\[Errno (?:-2|-5|8|11001)\]|name or service not known|nodename nor servname|no address associated",
    re.IGNORECASE,
)
_STATUSES: Mapping[int, str] = {
    401: "does not give it without signing in",
    403: "does not give it to everybody",
    404: "has nothing there",
    410: "has nothing there any more",
}
_PAGE = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
# They hold for what this server can do, and say nothing about the file.
_OF_THIS_SERVER = ("media_extra_missing", "media_worker_failed", "file_too_large", "file_too_slow")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a file could not be looked at."""

    reason: str
    is_gone: bool
    """Whether the API would most likely not get it either: then no length helps."""


async def peek(sync: AsyncSync, url: str, kind: MediaKind) -> Unseen | None:
    """Return why a URL leads to no file of this kind, by its first bytes; None if it may be one."""
    try:
        with anyio.fail_after(PEEK_SECONDS):
            check_head(await sync.first_bytes(url, HEAD_BYTES), url, kind)
    except TimeoutError:
        return Unseen(f"{_host(url)} did not send it within {PEEK_SECONDS:g} s", is_gone=False)
    except SyncError as error:
        return why_unseen(error, url, sync)
    return None


def check_head(head: bytes, url: str, kind: MediaKind | None = None) -> None:
    """Check that what a URL leads to begins like a media file.

    Raises:
        FileRefused: `file_not_media`.
    """
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    what = "a web page" if _PAGE.match(begin) else "JSON" if begin[:1] in (b"{", b"[") else ""
    if what or begin.startswith(b"<?xml"):
        raise FileRefused(f"What it leads to is {what or 'XML'}, not a media file.", code="file_not_media")
    media_format(head, _name(url), kind)


def why_unseen(error: SyncError, url: str, sync: AsyncSync) -> Unseen:
    """Return what the failure of a look means for the file."""
    host, until = _host(url), expiry(url)
    if until is not None and until < sync.api_time:
        return Unseen(f"it has expired, by its own query on {until:%Y-%m-%d at %H:%M} UTC", is_gone=True)
    if isinstance(error, FileRefused):
        told = clean(error.message, REASON_LIMIT).rstrip(".")
        return Unseen(told[:1].lower() + told[1:], is_gone=error.code not in _OF_THIS_SERVER)
    if isinstance(error, APIResponseError) and error.status is not None:
        said = _STATUSES.get(error.status)
        told = f"{host} {said} (HTTP {error.status})" if said else f"{host} answers HTTP {error.status}"
        return Unseen(told, is_gone=said is not None)
    if isinstance(error, APIConnectionError):
        if _NO_SUCH_NAME.search(error.message):
            return Unseen(f"there is no such host as {host}", is_gone=True)
        return Unseen(f"{host} cannot be reached from here", is_gone=True)
    if isinstance(error, APITimeoutError):
        return Unseen(f"{host} did not answer in time", is_gone=False)
    return Unseen(safe(error.message, REASON_LIMIT).rstrip("."), is_gone=False)


def _host(url: str) -> str:
    try:
        return clean(urlsplit(url).hostname or "", _HOST_LIMIT) or "it"
    except ValueError:
        return "it"


def _name(url: str) -> str:
    try:
        return clean(unquote(urlsplit(url).path.rpartition("/")[2]), _NAME_LIMIT)
    except ValueError:
        return ""
