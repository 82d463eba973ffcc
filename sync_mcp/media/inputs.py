"""Local media of a call: opened once, looked at, hashed, and uploaded where that is wanted."""

import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from anyio.to_thread import run_sync

from sync_mcp.api.assets import Asset
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import HEAD_BYTES, MediaKind
from sync_mcp.api.uploads import OnProgress, Transfer, open_file
from sync_mcp.background.work import Work
from sync_mcp.errors import APIResponseError, FileRefused, Handle, UnderWay
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.decoding.look import Look, is_available, look
from sync_mcp.media.links import check_head
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.suitability import fault_of_sound
from sync_mcp.media.temporary import temporary_copy
from sync_mcp.texts import clean

LARGEST_COPY_BYTES = 1024**3
"""The most that is fetched from the network to be copied into the account's storage."""
LARGEST_LOOK_BYTES = 200 * 1024**2
"""The most that is fetched from the network only to see how long it is."""
_NAME_LIMIT = 80
_NOT_TO_BE_HAD = (
    "Tell the user that the link does not give the file. Give a URL that anybody can fetch, or a path."
)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A local media file that is open, and what is known of it."""

    file: BinaryIO
    """Closed with the last one who knows of it."""
    name: str
    kind: MediaKind
    sha256: str
    info: MediaInfo | None
    """None where media cannot be looked at on this machine."""


class LocalReader:
    """Reads and uploads the local media that may be read; `look` looks at them."""

    def __init__(self, roots: MediaRoots, work: Work, look: Look = look) -> None:
        self._roots = roots
        self._work = work
        self._look = look

    async def read(
        self,
        path: str,
        kind: MediaKind | None,
        *,
        until: float,
        progress_of: Callable[[str], OnProgress],
    ) -> InputFile:
        """Open a file, look at it and hash it; `progress_of` its name is told how far that is.

        Raises:
            FileRefused: it may not be read, is no media, damaged, of another kind, or changed meanwhile.
            UnderWay: it could not be read whole by then; that goes on.
        """
        file = await run_sync(self._roots.open, path)
        name = clean(file.path.name, _NAME_LIMIT) or "the file"
        async with open_file(file, name) as local:
            found = local.format(kind).kind
        identity = await run_sync(_identity, file)

        async def look_at_it(_: OnProgress) -> MediaInfo | None:
            try:
                return await self._look(file)
            except FileRefused as error:
                if error.code == "media_worker_failed":
                    # It says nothing about the file.
                    return None
                raise

        async def hash_it(on_progress: OnProgress) -> str:
            async with open_file(file, name) as local:
                return await local.sha256(on_progress)

        info: MediaInfo | None = None
        try:
            if is_available():
                info = await self._work.join(("look", identity), look_at_it, until=until)
            sha256 = await self._work.join(
                ("hash", identity), hash_it, until=until, on_progress=progress_of(name)
            )
        except UnderWay as error:
            raise _with_name(error, name) from error
        return InputFile(file, name, _kind(kind, found, info, name), sha256, info)

    async def upload(
        self,
        sync: AsyncSync,
        media: InputFile,
        *,
        until: float,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Asset:
        """Upload a file, unless the account has its content already, and return the asset.

        Raises:
            UnderWay: it was not done by then; that goes on, and a repeat joins it.
            SyncError: it cannot be uploaded.
        """

        async def upload(on_progress: OnProgress) -> Asset:
            return await sync.assets.upload(
                media.file,
                name=name or media.name,
                kind=media.kind,
                sha256=media.sha256,
                on_progress=on_progress,
            )

        key = _upload_key(sync, media)
        was_there = self._work.is_done(key)
        try:
            asset = await self._work.join(key, upload, until=until, on_progress=on_progress)
            return asset.as_there_before() if was_there else asset
        except UnderWay as error:
            raise _with_name(error, media.name) from error

    def under_way(self, sync: AsyncSync, media: Sequence[InputFile]) -> UnderWay:
        """Return what a call is told whose time is up before all of these are uploaded."""
        for each in media:
            transfer = self.how_far(sync, each)
            if transfer is not None:
                return _with_name(UnderWay(Handle(_upload_key(sync, each), transfer)), each.name)
        return UnderWay(Handle(_upload_key(sync, media[0])))

    def how_far(self, sync: AsyncSync, media: InputFile) -> Transfer | None:
        """Return how far the upload of a file is that is under way."""
        return self._work.latest(_upload_key(sync, media))

    def forget(self, sync: AsyncSync, media: InputFile) -> None:
        """Have the next upload ask the API again: the asset is gone."""
        self._work.forget(_upload_key(sync, media))

    async def copy(
        self,
        sync: AsyncSync,
        url: str,
        *,
        kind: MediaKind | None,
        name: str | None,
        until: float,
        on_progress: OnProgress | None = None,
    ) -> tuple[Asset, MediaInfo | None]:
        """Fetch a file from a public URL and upload it; return the asset and what the file holds.

        Raises:
            UnderWay: as `upload`.
            FileRefused, SyncError: it cannot be fetched, is no media, or cannot be uploaded.
        """

        async def copy(on_progress: OnProgress) -> tuple[Asset, MediaInfo | None]:
            fetched = temporary_copy(sync, url, limit_bytes=LARGEST_COPY_BYTES, on_progress=on_progress)
            async with AsyncExitStack() as stack:
                try:
                    path = await stack.enter_async_context(fetched)
                except APIResponseError as error:
                    if error.status is not None:
                        # No storage of the API's has said so, but whoever the user's link leads to.
                        error.advise(next_step=_NOT_TO_BE_HAD)
                    raise
                called = name or _name_in(url) or "media"
                async with open_file(path, called) as file:
                    found = file.format(kind).kind
                info = await look(path) if is_available() else None
                asset = await sync.assets.upload(
                    path,
                    name=called,
                    kind=_kind(kind, found, info, clean(called, _NAME_LIMIT)),
                    on_progress=on_progress,
                )
                return asset, info

        key = ("copy", sync.base_url, sync.key_fingerprint, _digest(url), kind, name)
        was_there = self._work.is_done(key)
        asset, info = await self._work.join(key, copy, until=until, on_progress=on_progress)
        return asset.as_there_before() if was_there else asset, info

    async def look_at_url(self, sync: AsyncSync, url: str, *, until: float) -> MediaInfo:
        """Fetch a file from a public URL, for a look alone.

        Raises:
            UnderWay, SyncError: as `copy`.
        """

        async def fetch_and_look(on_progress: OnProgress) -> MediaInfo:
            async with temporary_copy(
                sync, url, limit_bytes=LARGEST_LOOK_BYTES, on_progress=on_progress
            ) as path:
                check_head(await run_sync(_head, path), url)
                return await look(path)

        key = ("look", sync.base_url, sync.key_fingerprint, _digest(url))
        return await self._work.join(key, fetch_and_look, until=until)


def _with_name(error: UnderWay, name: str) -> UnderWay:
    return error.advise(message=f"{name}: {error.message}")


def _kind(wanted: MediaKind | None, found: MediaKind, info: MediaInfo | None, name: str) -> MediaKind:
    """Return as what a file is used: as what is asked for, else as what it holds.

    Raises:
        FileRefused: it holds what the API takes as nothing, or a picture that is asked for as a sound.
    """
    if info is None or info.kind == found:
        return found
    fault = fault_of_sound(info, name)
    if fault is not None:
        raise FileRefused(fault, code="file_not_media", next_step="Name the converted file as audio.")
    if found == "audio":
        raise FileRefused(
            f"{name} is a video, not an audio file: save its sound alone, as WAV or MP3.",
            code="file_not_media",
            next_step="Name that sound, or use this file as a video.",
        )
    return found if wanted is not None else info.kind


def _upload_key(sync: AsyncSync, media: InputFile) -> tuple[str, ...]:
    return ("upload", sync.base_url, sync.key_fingerprint, media.sha256, media.kind)


def _digest(url: str) -> str:
    # Keys stand in errors, and a URL may be signed.
    return sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _name_in(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition("/")[2]


def _identity(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    # The last moment cannot be put back, as that of the content can.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
