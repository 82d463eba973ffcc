"""The bodies of answers: unpacked no further than a limit, and read as JSON."""

import json
import zlib
from collections.abc import AsyncIterator

PACKED = "gzip"
"""The one way in which an answer may be packed; it is asked for."""


class UnreadableBody(Exception):
    """A body is too long, cut short, or packed in a way that was not asked for."""


async def read_body(chunks: AsyncIterator[bytes], coding: str, limit_bytes: int) -> bytes:
    """Return the whole body, unpacked.

    Args:
        chunks: the body as it comes, still packed.
        coding: the answer's Content-Encoding, "" where it has none.
        limit_bytes: how long it may be, both packed and unpacked: a small body may unpack to gigabytes.

    Raises:
        UnreadableBody: it is longer, or packed in another way than was asked for, or more than once.
    """
    coding = coding.strip().lower() or "identity"
    if coding not in ("identity", PACKED):
        raise UnreadableBody(f"It is packed as {coding[:40]!r}, which was not asked for.")
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS) if coding == PACKED else None
    body = bytearray()
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        try:
            body += unpacking.decompress(chunk, limit_bytes + 1 - len(body)) if unpacking else chunk
        except zlib.error as error:
            raise UnreadableBody(f"It is no {PACKED}: {error}.") from None
        if max(len(body), received) > limit_bytes:
            raise UnreadableBody(f"It is longer than {limit_bytes:,} bytes.")
    if unpacking and received and not unpacking.eof:
        raise UnreadableBody("It is cut short.")
    return bytes(body)


def parse_json(body: bytes) -> object:
    """Return what a body says in JSON, or None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
