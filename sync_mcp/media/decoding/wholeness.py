"""Whether a file holds what its header promises: a download that broke off, a copy that is not finished."""

import os
from contextlib import suppress
from typing import BinaryIO

from sync_mcp.media.decoding.findings import CutShort, MediaError
from sync_mcp.media.decoding.headers import boxes, bytes_by_header
from sync_mcp.media.decoding.probe import open_container, sound_stream

_MEDIA_BOXES = (b"moov", b"moof", b"mdat")
_END_SECONDS = 1.0
_MISSING_SECONDS = 0.5
"""Less than this is no sign of a file that is cut short."""
_MICROSECONDS = 1_000_000


def check_whole(file: BinaryIO) -> None:
    """Return where `file` holds what its header promises, or promises nothing.

    Raises:
        CutShort: it holds less.
    """
    size = file.seek(0, os.SEEK_END)
    outermost = dict(boxes(file))
    if not outermost:
        promised = bytes_by_header(file)
    elif b"moov" not in outermost and b"moof" not in outermost:
        raise CutShort("is cut short: the index that an MP4 or MOV has at its end is missing.")
    elif b"moof" in outermost:
        # Each part has an index of its own.
        promised = max(end for name, end in outermost.items() if name in _MEDIA_BOXES)
    else:
        promised = _end_of_index(file)
    if promised is not None and promised > size:
        raise CutShort(f"is cut short: by its header it goes on after its {size:,} bytes.")
    told, there = _flac_seconds(file) if _begins_with(file, b"fLaC") else (0.0, 0.0)
    if there < told - _MISSING_SECONDS:
        raise CutShort(f"is cut short: its header tells {told:.1f} s, and {there:.1f} s are there.")


def _begins_with(file: BinaryIO, mark: bytes) -> bool:
    file.seek(0)
    return file.read(len(mark)) == mark


def _end_of_index(file: BinaryIO) -> int | None:
    """Return where the last picture or sound ends of which the index of an MP4 or MOV tells."""
    end = 0
    with suppress(MediaError), open_container(file) as container:
        for stream in (*container.streams.video, *container.streams.audio):
            end = max(end, *(entry.pos + entry.size for entry in stream.index_entries), 0)
    return end or None


def _flac_seconds(file: BinaryIO) -> tuple[float, float]:
    """Return how long the header of a FLAC tells it to be, and when its last sound ends."""
    told = there = 0.0
    with suppress(MediaError), open_container(file) as container:
        sound = sound_stream(container)
        if container.format.name == "flac" and sound is not None and sound.duration and sound.time_base:
            told = float(sound.duration * sound.time_base)
            container.seek(round(max(0.0, told - _END_SECONDS) * _MICROSECONDS))
            for packet in container.demux(sound):
                if packet.size and packet.pts is not None:
                    there = float((packet.pts + (packet.duration or 0)) * packet.time_base)
    return told, there
