"""What the first bytes of a media file promise: how many bytes it has, and whether they tell its length.

Nothing is decoded here, and a file that promises nothing is no fault.
"""

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

_HEAD_BYTES = 64 * 1024
_MOST_BOXES = 100_000
_LARGEST_PICTURE = 256 * 1024 * 1024
_SLACK_BYTES = 64
"""Some programs count their own header into a size, or leave a last padding out."""
_STREAMED = 0x7FFF_0000
"""A size of RIFF from here on stands for one that was not known when the header was written."""
_TAG_BYTES = 4096
"""What may come after the sound that a header of MP3 counts, such as a tag."""

_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pnot", b"junk")
_ASF = bytes.fromhex("3026b2758e66cf11")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT = b"\x18\x53\x80\x67"
# A mark of JPEG that is neither a byte of the picture nor one to begin anew at.
_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_LENGTH = (0x01, *range(0xD0, 0xD9))


def bytes_by_header(file: BinaryIO) -> int | None:
    """Return how many bytes `file` has to have by its header; None where none tells, as for MP4."""
    head = _read(file, 0, _HEAD_BYTES)
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _riff_bytes(file, head)
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_bytes(head)
    if head.startswith(_ASF):
        return _asf_bytes(head)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_bytes(file)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_bytes(file)
    return _mp3_bytes(head)


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each outermost box of an MP4 or MOV, and where it ends; nothing for another file."""
    size, at = _size(file), 0
    for number in range(_MOST_BOXES):
        head = _read(file, at, 16)
        name = head[4:8]
        if len(head) < 8 or (not number and name not in _BOXES):
            return
        length = int.from_bytes(head[:4])
        length = int.from_bytes(head[8:16]) if length == 1 else length or size - at
        if length < 8:
            return
        at += length
        yield name, at


def tells_its_length(file: BinaryIO) -> bool:
    """Return whether an MP3 says at its beginning how long it is, and has just the sound that it counts."""
    promised = _mp3_bytes(_read(file, 0, _HEAD_BYTES))
    return promised is not None and 0 <= _size(file) - promised <= _TAG_BYTES


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    found = b""
    while len(found) < count and (piece := file.read(count - len(found))):
        found += piece
    return found


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _riff_bytes(file: BinaryIO, head: bytes) -> int | None:
    if head[:4] != b"RIFF":
        size = int.from_bytes(head[20:28], "little") if head[12:16] == b"ds64" else 0
        return size + 8 - _SLACK_BYTES if 0 < size < 2**62 else None
    at, slack = 0, 1 if head[8:12] == b"WEBP" else _SLACK_BYTES
    for _ in range(_MOST_BOXES):
        chunk = _read(file, at, 12)
        # A long AVI goes on in further ones.
        if chunk[:4] != b"RIFF" or len(chunk) < 12:
            break
        size = int.from_bytes(chunk[4:8], "little")
        if not 0 < size < _STREAMED:
            return None
        at += 8 + size + size % 2
    return at - slack


def _matroska_bytes(head: bytes) -> int | None:
    _, at = _vint(head, 4)
    size, start = _vint(head, head.find(_SEGMENT, at) + 4) if head.find(_SEGMENT, at) >= 0 else (None, 0)
    return None if size is None else start + size


def _vint(head: bytes, at: int) -> tuple[int | None, int]:
    """Return a number of Matroska and where it ends; None for one that is left open."""
    if at >= len(head) or not head[at]:
        return None, at
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length]) & (1 << 7 * length) - 1
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def _asf_bytes(head: bytes) -> int | None:
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return None
    return int.from_bytes(head[at + 40 : at + 48], "little") or None


def _png_bytes(file: BinaryIO) -> int:
    at = 8
    for _ in range(_MOST_BOXES):
        chunk = _read(file, at, 8)
        at += 12 + (int.from_bytes(chunk[:4]) if len(chunk) == 8 else 0)
        if len(chunk) < 8 or chunk[4:] == b"IEND":
            break
    return at


def _jpeg_bytes(file: BinaryIO) -> int | None:
    """Return where a JPEG ends, or one byte more than there is where its end is missing."""
    size = _size(file)
    if size > _LARGEST_PICTURE:
        return None
    content = _read(file, 0, size)
    at = 2
    while (found := _MARK.search(content, at)) is not None:
        mark = content[found.start() + 1]
        if mark == 0xD9:
            return found.end()
        at = found.end()
        if mark not in _NO_LENGTH:
            at += int.from_bytes(content[at : at + 2])
    return size + 1


def _mp3_bytes(head: bytes) -> int | None:
    """Return where the sound of an MP3 ends by the header of Xing, LAME or Fraunhofer in its first frame."""
    start = 0
    if head.startswith(b"ID3") and len(head) >= 10:
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
    if head[start : start + 1] != b"\xff":
        return None
    frame = head[start : start + 200]
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if 4 < at <= 40:
            flags = int.from_bytes(frame[at + 4 : at + 8])
            # The number of frames comes first, if there is one.
            at += 8 + 4 * (flags & 1)
            size = int.from_bytes(frame[at : at + 4])
            return start + size if flags & 3 == 3 and size else None
    if frame[36:40] == b"VBRI":
        return start + int.from_bytes(frame[46:50])
    return None
