"""Small files beside the videos: subtitles and sounds, given their name at once and whole."""

import os
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.downloads import move_into_place
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.roots import MediaRoots

LARGEST_SOUND_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file that was saved; `was_there` says that the same content had the name already."""

    path: Path
    was_there: bool


async def save_text(text: str, destination: Path, roots: MediaRoots) -> SmallFile:
    """Save a text as `destination`, which `roots` has given.

    Raises:
        FileRefused: another file has the name, or it cannot be written.
    """
    return await run_sync(_save_bytes, text.encode(), destination, roots)


async def save_sound(sync: AsyncSync, url: str, destination: Path, roots: MediaRoots) -> SmallFile:
    """Fetch a sound that the API has made, and save it as `destination`, which `roots` has given.

    Raises:
        FileRefused: another file has the name, or it cannot be written.
        APIConnectionError, APITimeoutError, APIResponseError: it could not be had.
    """
    async with sync.fetch(url, destination.parent, limit_bytes=LARGEST_SOUND_BYTES) as part:
        return await run_sync(_keep, part, destination, roots)


def replace_file(pieces: Iterable[bytes], destination: Path) -> None:
    """Write `pieces` as `destination`, whole, in the place of what has that name; blocks.

    Raises:
        FileRefused: it cannot be written.
    """
    with _write_part(pieces, destination) as part:
        move_into_place(part, destination, overwrite=True)


def _save_bytes(content: bytes, destination: Path, roots: MediaRoots) -> SmallFile:
    with _write_part([content], destination) as part:
        return _keep(part, destination, roots)


@contextmanager
def _write_part(pieces: Iterable[bytes], destination: Path) -> Generator[Path]:
    """Write what is to be `destination` under a temporary name; it is gone afterwards unless it was moved.

    Raises:
        FileRefused: it cannot be written.
    """
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(".part", ".sync-mcp-", destination.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
        yield part
    except OSError as error:
        raise FileRefused(
            f"{destination.name} cannot be written: {error.strerror}.", code="file_not_writable"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _keep(part: Path, destination: Path, roots: MediaRoots) -> SmallFile:
    with part.open("r+b") as file:
        roots.check_open(file.fileno(), part)
    with suppress(OSError):
        if (
            destination.stat().st_size == part.stat().st_size
            and destination.read_bytes() == part.read_bytes()
        ):
            return SmallFile(destination, was_there=True)
    move_into_place(part, destination, overwrite=False)
    return SmallFile(destination, was_there=False)
