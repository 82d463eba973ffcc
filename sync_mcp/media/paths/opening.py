"""Opening a media file inside an allowed folder, whatever somebody puts in its place meanwhile."""

import io
import os
import stat
import sys
from pathlib import Path

from sync_mcp.api.formats import HEAD_BYTES, media_format
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.inside import Outside, Place, is_marked_hidden, refuse_irregular
from sync_mcp.media.paths.typed import display_path

if sys.platform == "win32":
    from sync_mcp.media.paths.open_windows import is_at, open_below, path_on_disk, walk
else:
    from sync_mcp.media.paths.open_posix import is_at, open_below, path_on_disk, walk

__all__ = ["MediaFile", "is_at", "open_any", "open_media", "walk"]


class MediaFile(io.FileIO):
    """A file that may be read, open for it.

    It is closed with the last one who knows of it: work may need it longer than who has opened it.

    Attributes:
        path: where it is, without links.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        # By its path, so that who takes the file over knows its name.
        super().__init__(str(path), "rb", opener=lambda _path, _flags: descriptor)

    def __del__(self) -> None:
        self.close()


def open_media(place: Place) -> MediaFile:
    """Open what `place` leads to, as `open_any`, and look at its first bytes.

    Raises:
        Outside: it is hidden, or has become a link.
        OSError: it is missing, or must not be read.
        FileRefused: it is no media file.
    """
    file = open_any(place)
    try:
        media_format(file.read(HEAD_BYTES), file.path.name)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def open_any(place: Place) -> MediaFile:
    """Open what `place` leads to without following any link, whatever it holds.

    Raises:
        Outside: it is hidden, or has become a link.
        OSError: it is missing, or must not be read.
        FileRefused: it is no file, or empty.
    """
    path = place.path
    if not place.parts:
        refuse_irregular(path, stat.S_IFDIR)
    descriptor = open_below(place)

    try:
        opened = os.fstat(descriptor)
        refuse_irregular(path, opened.st_mode)
        if is_marked_hidden(opened):
            raise Outside
        if not opened.st_size:
            raise FileRefused(f"{display_path(path)} is empty.", code="file_empty")
        return MediaFile(path_on_disk(descriptor, path), descriptor)
    except BaseException:
        os.close(descriptor)
        raise
