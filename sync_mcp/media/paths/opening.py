"""Opening a media file inside an allowed folder, whatever somebody puts in its place meanwhile."""

import io
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sync_mcp.api.formats import HEAD_BYTES, media_format
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.inside import Outside, Place, is_marked_hidden, refuse_irregular
from sync_mcp.media.paths.typed import display_path

if sys.platform == "win32":
    from sync_mcp.media.paths.open_windows import is_at, open_below, path_on_disk, walk
else:
    from sync_mcp.media.paths.open_posix import is_at, open_below, path_on_disk, walk

__all__ = ["OpenMedia", "is_at", "open_media", "walk"]


@dataclass(frozen=True, slots=True)
class OpenMedia:
    """A media file that may be read, open for it; its content begins like a format that the API takes."""

    path: Path
    """Without links."""
    file: BinaryIO
    """Unbuffered, at its beginning."""
    name: str

    def __enter__(self) -> "OpenMedia":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def open_media(place: Place) -> OpenMedia:
    """Open what `place` leads to without following any link, and look at its first bytes.

    Raises:
        Outside: it is hidden, or has become a link.
        OSError: it is missing, or must not be read.
        FileRefused: it is no media file.
    """
    path = place.path
    if not place.parts:
        refuse_irregular(path, stat.S_IFDIR)
    descriptor = open_below(place)

    def opened_already(_path: str, _flags: int) -> int:
        return descriptor

    try:
        opened = os.fstat(descriptor)
        refuse_irregular(path, opened.st_mode)
        if is_marked_hidden(opened):
            raise Outside
        if not opened.st_size:
            raise FileRefused(f"{display_path(path)} is empty.", code="file_empty")
        path = path_on_disk(descriptor, path)
        # By its path, so that who takes the file over knows its name.
        file = io.FileIO(str(path), "rb", opener=opened_already)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        media_format(file.read(HEAD_BYTES), path.name)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return OpenMedia(path, file, path.name)
