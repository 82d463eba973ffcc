"""The sound of a speech: fetched whole, looked at, named on the disk, and kept as an asset."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anyio.to_thread import run_sync

from sync_mcp.api.assets import Asset
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.downloads import check_destination, move_into_place
from sync_mcp.api.formats import HEAD_BYTES, media_format
from sync_mcp.api.uploads import OnProgress, open_file
from sync_mcp.errors import APIResponseError, FileRefused, SyncError
from sync_mcp.media.decoding.look import is_available, look
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.temporary import temporary_folder

LARGEST_SOUND_BYTES = 200 * 1024**2
_TOLERANCE_SECONDS = 0.5
_TOLERANCE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class SavedSound:
    """A sound that was fetched, and where it is now."""

    path: Path | None
    """None where nothing can be saved on this machine, or not as it was asked."""
    size: int
    """Bytes."""
    duration_seconds: float | None
    """As measured; None where media cannot be looked at on this machine."""
    asset: Asset | None
    fault: SyncError | None
    """Why it is no asset."""
    note: str | None
    """What is wrong with it."""
    refusal: FileRefused | None = None
    """Why it could not be saved as it was asked."""


async def save_sound(
    sync: AsyncSync,
    url: str,
    roots: MediaRoots,
    path: str | None,
    *,
    stem: str,
    told_seconds: float | None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> SavedSound:
    """Fetch a sound, save it where `path` says, as `stem` and its ending in a folder, and upload it.

    Where the same content has the name already, that is the answer. Where nothing may be saved, or not as it
    is asked, it is an asset alone: the API may tell a sound that is paid for only once.

    Raises:
        FileRefused: it is no file that can be kept.
        APIConnectionError, APITimeoutError, APIResponseError: it could not be had.
    """
    try:
        format = media_format(await sync.first_bytes(url, HEAD_BYTES), "speech", "audio")
    except FileRefused as error:
        raise APIResponseError("What the API gives as the speech is no sound.") from error
    name = f"{stem}{format.endings[0]}"

    async def save(destination: Path | None) -> SavedSound:
        async with _fetch(sync, url, destination, on_progress) as part:
            size = await run_sync(lambda: part.stat().st_size)
            info = await look(part) if is_available() else None
            seconds = info.duration_seconds if info else None
            where = part
            if destination is not None:
                if not await _has_content(destination, part):
                    await run_sync(partial(check_destination, destination, overwrite=overwrite))
                    await run_sync(partial(_move, part, destination, roots, overwrite=overwrite))
                where = destination
            asset, fault = await _keep(sync, where, name, on_progress)
        return SavedSound(destination, size, seconds, asset, fault, _fault_of_length(seconds, told_seconds))

    try:
        return await save(await run_sync(roots.destination, path, name) if roots.can_save else None)
    except FileRefused as error:
        return replace(await save(None), refusal=error)


@asynccontextmanager
async def _fetch(
    sync: AsyncSync, url: str, destination: Path | None, on_progress: OnProgress | None
) -> AsyncGenerator[Path]:
    if destination is not None:
        async with sync.fetch(
            url, destination.parent, limit_bytes=LARGEST_SOUND_BYTES, on_progress=on_progress
        ) as part:
            yield part
        return
    async with (
        temporary_folder() as folder,
        sync.fetch(
            url, folder.path, limit_bytes=LARGEST_SOUND_BYTES, on_progress=folder.count(on_progress)
        ) as part,
    ):
        yield part


def _move(part: Path, destination: Path, roots: MediaRoots, *, overwrite: bool) -> None:
    with part.open("rb") as file:
        roots.check_open(file.fileno(), part)
    move_into_place(part, destination, overwrite=overwrite)


async def _keep(
    sync: AsyncSync, path: Path, name: str, on_progress: OnProgress | None
) -> tuple[Asset | None, SyncError | None]:
    """Upload a sound that is paid for; where that fails, it is there all the same."""
    try:
        return await sync.assets.upload(path, name=name, kind="audio", on_progress=on_progress), None
    except SyncError as error:
        return None, error


async def _has_content(destination: Path, part: Path) -> bool:
    """Return whether a file has this content already."""
    try:
        if not await run_sync(os.path.lexists, destination):
            return False
        async with open_file(destination, destination.name) as there, open_file(part, part.name) as new:
            return there.size == new.size and await there.sha256() == await new.sha256()
    except FileRefused:
        return False


def _fault_of_length(seconds: float | None, told: float | None) -> str | None:
    if seconds is None or told is None or abs(seconds - told) <= _TOLERANCE_SECONDS + _TOLERANCE_SHARE * told:
        return None
    return f"It lasts {seconds:.1f} s, and the API tells {told:.1f} s: tell the user."
