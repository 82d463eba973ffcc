"""What a URL tells by its letters alone: that it is a page and no file, and until when it holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult, parse_qsl, urlsplit

from sync_mcp.api.public_hosts import is_inside

_FIRST_EPOCH = 1_000_000_000
_AZURE_SIGNED = ("sig", "se")
_YES = ("1", "true")


@dataclass(frozen=True, slots=True)
class _Pages:
    """Where a service shows what people share: its hosts, below which all paths are pages but the `files`."""

    service: str
    hosts: tuple[str, ...]
    pages: re.Pattern[str] = re.compile(r".*")
    files: re.Pattern[str] = re.compile(r"(?!)")
    file_words: Mapping[str, tuple[str, ...]] | None = None
    """What in a query makes a file of a page: its name and values."""


_PAGES = (
    _Pages("YouTube", ("youtube.com", "youtu.be", "youtube-nocookie.com")),
    _Pages(
        "Google Drive",
        ("drive.google.com", "docs.google.com"),
        files=re.compile(r"(?:/u/\d+)?/uc"),
    ),
    _Pages("Google Photos", ("photos.google.com", "photos.app.goo.gl")),
    _Pages("Dropbox", ("dropbox.com",), file_words={"dl": _YES, "raw": _YES}),
    _Pages(
        "OneDrive",
        ("onedrive.live.com", "1drv.ms"),
        files=re.compile(r"/download(?:\.aspx)?"),
        file_words={"download": _YES},
    ),
    _Pages(
        "OneDrive or SharePoint",
        ("sharepoint.com",),
        pages=re.compile(r"/:[a-z]:/.*|.*/stream\.aspx|.*/onedrive\.aspx"),
        file_words={"download": _YES},
    ),
    _Pages("WeTransfer", ("wetransfer.com", "we.tl")),
    _Pages("iCloud", ("icloud.com",)),
    _Pages(
        "Vimeo",
        ("vimeo.com",),
        files=re.compile(r"/(?:external|progressive_redirect)/.*|.*\.mp4"),
    ),
    _Pages("TikTok", ("tiktok.com",)),
    _Pages("Instagram", ("instagram.com", "instagr.am")),
    _Pages("Facebook", ("facebook.com", "fb.watch")),
    _Pages("X", ("x.com", "twitter.com")),
    _Pages("Loom", ("loom.com",), pages=re.compile(r"/(?:share|embed)/.*")),
    _Pages("Box", ("box.com",), pages=re.compile(r"/(?:s|v|file|embed)/.*")),
    _Pages("MEGA", ("mega.nz", "mega.io")),
)
# A service's files lie on hosts of their own below the same name.
_FILE_HOSTS = re.compile(r"(?:dl|download|v\d[^.]*|.*cdn[^.]*)\.[^.]+\.[a-z]+")


def page_behind(url: str) -> str | None:
    """Return the name of the service whose page a URL leads to, instead of to a file; None for any other."""
    try:
        # Without its scheme it is no URL yet, and a page all the same.
        place = urlsplit(url if "://" in url else f"//{url}")
        host = (place.hostname or "").removesuffix(".")
    except ValueError:
        return None
    for pages in _PAGES:
        if any(host == known or host.endswith(f".{known}") for known in pages.hosts):
            return None if _FILE_HOSTS.fullmatch(host) or _is_file(pages, place) else pages.service
    return None


def _is_file(pages: _Pages, place: SplitResult) -> bool:
    if not pages.pages.fullmatch(place.path) or pages.files.fullmatch(place.path):
        return True
    given = {name.lower(): value.lower() for name, value in parse_qsl(place.query)}
    return any(given.get(name) in values for name, values in (pages.file_words or {}).items())


def link_fault(url: str, place: str, *, base_url: str, takes_path: bool = True) -> str | None:
    """Return what is wrong with a URL where a file is wanted that the API is to fetch; None if nothing is.

    `place` is what the argument is called; `base_url` is the API's own, which may lie on this machine;
    `takes_path` says whether a file of the user's disk may stand there instead.
    """
    service = page_behind(url)
    if service is not None:
        direct = " (at Dropbox with dl=1)" if service == "Dropbox" else ""
        by_path = "download it and give path, or " if takes_path else ""
        return f"{place} is a page of {service}, not a file: {by_path}give a direct link to the file{direct}."
    if _origin(url) != _origin(base_url) and is_inside(_origin(url)[1]):
        by_path = "the file as path, or " if takes_path else ""
        return (
            f"{place} leads to this machine or a private network, where the API fetches nothing: give "
            f"{by_path}a public URL."
        )
    return None


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        place = urlsplit(url)
        return place.scheme.lower(), place.hostname or "", place.port
    except ValueError:
        return "", "", None


def expiry(url: str) -> datetime | None:
    """Return until when a signed URL holds, only where the URL itself says so."""
    try:
        query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
        for vendor in ("x-amz", "x-goog"):
            if f"{vendor}-date" in query and f"{vendor}-expires" in query:
                signed_at = datetime.strptime(query[f"{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return signed_at + timedelta(seconds=int(query[f"{vendor}-expires"]))
        if all(name in query for name in _AZURE_SIGNED):
            told = datetime.fromisoformat(query["se"])
            return told if told.tzinfo else told.replace(tzinfo=UTC)
        # A small number is a duration, and its beginning is not told.
        if int(query.get("expires", 0)) >= _FIRST_EPOCH:
            return datetime.fromtimestamp(int(query["expires"]), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
