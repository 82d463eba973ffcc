"""Damaged and hostile media, made from real files; and `python -m tests.media.damaged --count 1000`.

A file is made from its number alone: the same number is the same file.
"""

import argparse
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import anyio

from sync_mcp.api.uploads import open_file
from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding.look import contact_sheet, look
from tests.media.clips import make_media

HANG_SECONDS = 30.0
"""More than a look and a contact sheet may take together."""

_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file, and what was done to it."""

    name: str
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What looking, the contact sheet and the sniff before an upload made of a file."""

    file: Damaged
    look: str
    """The kind of media, or the code of the refusal; so for the others."""
    sheet: str
    sniff: str
    slowest_seconds: float


@dataclass(slots=True)
class Tally:
    """What came of many files."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    failures: list[str] = field(default_factory=list[str])

    @property
    def summary(self) -> str:
        """One line."""
        slowest = max(self.outcomes, key=lambda outcome: outcome.slowest_seconds)
        looks = Counter(outcome.look for outcome in self.outcomes)
        told = ", ".join(f"{count} {name}" for name, count in looks.most_common())
        return (
            f"{len(self.outcomes)} damaged files: {told}; {len(self.failures)} failures; slowest "
            f"{slowest.slowest_seconds:.1f} s ({slowest.file.name}, {slowest.file.what})"
        )


async def try_files(numbers: Iterable[int], folder: Path) -> Tally:
    """Look at the files of these numbers, draw their contact sheets and sniff them, two at a time."""
    tally = Tally()
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            file = damaged(number)
            path = folder / f"{number}-{file.name}"
            path.write_bytes(file.content)
            try:
                with anyio.fail_after(HANG_SECONDS):
                    tally.outcomes.append(await _outcome(file, path))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the failure that is looked for
                tally.failures.append(f"{number} {file.name}, {file.what}: {error!r}")
            path.unlink()

    async with anyio.create_task_group() as tasks:
        for _ in range(_AT_ONCE):
            tasks.start_soon(work)
    return tally


async def _outcome(file: Damaged, path: Path) -> Outcome:
    began = time.monotonic()
    try:
        looked = (await look(path)).kind
    except FileRefused as refused:
        looked = refused.code
    between = time.monotonic()
    try:
        sheet = await contact_sheet(path)
        assert sheet.jpeg.startswith(b"\xff\xd8")
        assert len(sheet.jpeg) <= 90_000
        assert sheet.width <= 640
        drawn = "sheet"
    except FileRefused as refused:
        drawn = refused.code
    slowest = max(between - began, time.monotonic() - between)
    try:
        async with open_file(path) as local:
            sniffed = local.format().kind
    except FileRefused as refused:
        sniffed = refused.code
    return Outcome(file, looked, drawn, sniffed, slowest)


def damaged(number: int) -> Damaged:
    """Return the file of this number."""
    if number < len(_HOSTILE):
        name, what, make = _HOSTILE[number]
        return Damaged(name, what, make())
    dice = random.Random(number)
    name, content = dice.choice(whole_files())
    what, damage = dice.choice(_DAMAGES)
    return Damaged(name, what, damage(content, dice))


@cache
def whole_files() -> list[tuple[str, bytes]]:
    """Return a small real file of each format that the API takes (API §19)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [
            make_media(
                folder / "faststart.mp4", picture="libx264", sound="aac", options={"movflags": "+faststart"}
            ),
            make_media(folder / "plain.mp4", picture="libx264", sound="aac"),
            make_media(
                folder / "fragments.mp4", picture="libx264", options={"movflags": "frag_keyframe+empty_moov"}
            ),
            make_media(folder / "clip.mov", picture="mpeg4", sound="pcm_s16le"),
            make_media(folder / "turned.mov", picture="libx265", rotation=90),
            make_media(folder / "clip.webm", picture="libvpx", sound="libopus"),
            make_media(folder / "live.webm", picture="libvpx-vp9", options={"live": "1"}),
            make_media(folder / "clip.avi", picture="mpeg4", sound="libmp3lame"),
            make_media(folder / "still.avi", picture="mjpeg", pixels="yuvj420p"),
            make_media(folder / "voice.wav", sound="pcm_s16le"),
            make_media(folder / "voice.mp3", sound="libmp3lame"),
            make_media(folder / "voice.ogg", sound="libopus"),
            make_media(folder / "voice.flac", sound="flac"),
            make_media(folder / "voice.m4a", sound="aac", format="ipod"),
            make_media(folder / "lossless.m4a", sound="alac", format="ipod"),
            make_media(folder / "voice.aac", sound="aac", format="adts"),
            make_media(folder / "voice.wma", sound="wmav2", format="asf"),
            make_media(folder / "photo.jpg", picture="mjpeg", pixels="yuvj420p", frames=1, format="image2"),
            make_media(folder / "photo.png", picture="png", pixels="rgb24", frames=1, format="image2"),
            make_media(folder / "photo.webp", picture="libwebp", frames=1, format="webp"),
        ]
        return [(path.name, path.read_bytes()) for path in made]


def _whole(name: str) -> bytes:
    return dict(whole_files())[name]


# What happens to files on disks and lines.


def _truncated(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(1, len(content))]


def _beheaded(content: bytes, dice: random.Random) -> bytes:
    return content[dice.randrange(1, min(len(content), 4096)) :]


def _flipped(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 8, 64, 512))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _flipped_header(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 4, 16))):
        changed[dice.randrange(min(512, len(changed)))] = dice.randrange(256)
    return bytes(changed)


def _zeroed(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    length = min(dice.choice((16, 512, 4096, len(content))), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def _noisy(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(min(64, len(content)), len(content))
    return content[:start] + dice.randbytes(len(content) - start)


def _swapped(content: bytes, dice: random.Random) -> bytes:
    first, second = sorted(dice.randrange(len(content)) for _ in range(2))
    return content[:first] + content[second:] + content[first:second]


def _repeated(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    return content[:start] + content[start : start + 2048] * dice.choice((2, 20, 200)) + content[start:]


def _spliced(content: bytes, dice: random.Random) -> bytes:
    other = dice.choice(whole_files())[1]
    return content[: dice.randrange(1, len(content))] + other[dice.randrange(len(other)) :]


def _joined(content: bytes, dice: random.Random) -> bytes:
    return content + dice.choice(whole_files())[1]


def _absurd_numbers(content: bytes, dice: random.Random) -> bytes:
    """Put numbers that are too large, none or negative in place of sizes, lengths and counts."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 3, 10))):
        at = dice.randrange(0, max(1, min(len(changed), 2048) - 8))
        absurd = dice.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000000))
        struct.pack_into(dice.choice((">I", "<I")), changed, at, absurd)
    return bytes(changed)


def _absurd_atoms(content: bytes, dice: random.Random) -> bytes:
    """Put absurd numbers into the atoms that tell times, sizes and counts; elsewhere anywhere."""
    atoms = [
        b"mvhd",
        b"tkhd",
        b"mdhd",
        b"stts",
        b"stsz",
        b"stco",
        b"stsc",
        b"stsd",
        b"ctts",
        b"elst",
        b"trun",
    ]
    present = [content.index(atom) for atom in atoms if atom in content]
    if not present:
        return _absurd_numbers(content, dice)
    changed = bytearray(content)
    for _ in range(dice.choice((1, 2, 4))):
        at = dice.choice(present) + dice.choice((-4, 8, 12, 16, 20, 24, 28))
        struct.pack_into(">I", changed, at, dice.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x01000000)))
    return bytes(changed)


_DAMAGES: list[tuple[str, Callable[[bytes, random.Random], bytes]]] = [
    ("truncated", _truncated),
    ("without its beginning", _beheaded),
    ("with bits flipped", _flipped),
    ("with its header changed", _flipped_header),
    ("with a hole of zeros", _zeroed),
    ("noise after its header", _noisy),
    ("with two parts swapped", _swapped),
    ("with a part repeated", _repeated),
    ("spliced with another", _spliced),
    ("another one behind it", _joined),
    ("with absurd numbers", _absurd_numbers),
    ("with absurd atoms", _absurd_atoms),
]


# What somebody makes on purpose.


def _png_bomb(width: int, height: int, rows: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width * 3)
    packed = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _large_jpeg(width: int, height: int) -> bytes:
    content = bytearray(_whole("photo.jpg"))
    at = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, height, width)
    return bytes(content)


def _with_atom(name: str, atom: bytes, offset: int, number: int) -> bytes:
    content = bytearray(_whole(name))
    struct.pack_into(">I", content, content.index(atom) + offset, number)
    return bytes(content)


def _wav(riff_bytes: int, data_bytes: int, *, rate: int = 16_000, channels: int = 1, align: int = 2) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 % 2**32, align, 16)
    head = b"RIFF" + struct.pack("<I", riff_bytes) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    return head + b"data" + struct.pack("<I", data_bytes) + bytes(1000)


def _playlist(address: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n".encode()


def _dash(address: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT5S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ).encode()


def _many_atoms(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(inner) + 8) + b"moov" + inner
    return struct.pack(">I", 16) + b"ftypisom" + bytes(4) + inner


def _ebml(size: bytes) -> bytes:
    content = _whole("clip.webm")
    at = content.index(b"\x18\x53\x80\x67") + 4
    return content[:at] + size + content[at + len(size) :]


def _id3_of(size: bytes) -> bytes:
    return b"ID3\x04\x00\x00" + size + _whole("voice.mp3")


_SECRET = "file:///etc/passwd"

_HOSTILE: list[tuple[str, str, Callable[[], bytes]]] = [
    ("empty.mp4", "nothing", bytes),
    ("one.mp4", "one byte", lambda: b"\0"),
    ("text.mp4", "text", lambda: b"This is no video.\n" * 100),
    ("page.mp4", "an HTML page", lambda: b"<!doctype html><title>Sign in</title>" * 50),
    ("zip.mov", "a ZIP archive", lambda: b"PK\x03\x04" + bytes(2000)),
    ("program.avi", "a program", lambda: b"\x7fELF" + bytes(range(256)) * 20),
    ("hls.mp4", "an HLS playlist of a local file", lambda: _playlist(_SECRET)),
    ("hls.m3u8", "an HLS playlist of the network", lambda: _playlist("http://127.0.0.1:9/a.ts")),
    ("self.mp4", "an HLS playlist of itself", lambda: _playlist("self.mp4") * 50),
    ("concat.mp4", "a concat script", lambda: f"ffconcat version 1.0\nfile '{_SECRET}'\n".encode()),
    ("dash.mp4", "a DASH manifest", lambda: _dash(_SECRET)),
    ("session.mp4", "an SDP session", lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n"),
    ("list.avi", "an HLS playlist behind an AVI", lambda: _whole("clip.avi") + _playlist(_SECRET)),
    ("subtitles.mp4", "subtitles of another file", lambda: b"1\n00:00:00,000 --> 00:00:01,000\n{file}\n" * 9),
    ("drawing.png", "an SVG of another file", lambda: f'<svg><image href="{_SECRET}"/></svg>'.encode()),
    ("bomb.png", "a PNG of 900 million pixels", lambda: _png_bomb(30_000, 30_000, 30)),
    ("wide.png", "a PNG a pixel high", lambda: _png_bomb(100_000, 1, 1)),
    ("full.png", "a PNG that unpacks to 300 MB", lambda: _png_bomb(10_000, 10_000, 10_000)),
    ("nothing.png", "a PNG of no size", lambda: _png_bomb(0, 0, 0)),
    ("bomb.jpg", "a JPEG of 4 billion pixels", lambda: _large_jpeg(65_500, 65_500)),
    ("large.jpg", "a JPEG of 400 million pixels", lambda: _large_jpeg(20_000, 20_000)),
    ("zero.jpg", "a JPEG of no height", lambda: _large_jpeg(64, 0)),
    ("long.mp4", "a film of years", lambda: _with_atom("faststart.mp4", b"mvhd", 20, 0xFFFFFFFF)),
    ("track.mp4", "a track of years", lambda: _with_atom("faststart.mp4", b"mdhd", 20, 0xFFFFFFFF)),
    ("clock.mp4", "a clock that stands", lambda: _with_atom("faststart.mp4", b"mdhd", 16, 0)),
    ("empty-track.mp4", "tracks of no length", lambda: _with_atom("faststart.mp4", b"stsz", 12, 0)),
    ("counts.mp4", "4 billion frames", lambda: _with_atom("faststart.mp4", b"stsz", 12, 0xFFFFFFFF)),
    ("times.mp4", "4 billion times", lambda: _with_atom("faststart.mp4", b"stts", 8, 0xFFFFFFFF)),
    (
        "atom.mp4",
        "an atom larger than the file",
        lambda: _with_atom("faststart.mp4", b"moov", -4, 0x7FFFFFFF),
    ),
    ("size.mp4", "a picture of no size", lambda: _with_atom("faststart.mp4", b"avc1", 28, 0)),
    ("large.mp4", "a picture of 65,535 by 65,535", lambda: _with_atom("clip.mov", b"mp4v", 28, 0xFFFFFFFF)),
    ("deep.mp4", "atoms in atoms", lambda: _many_atoms(20_000)),
    ("segment.webm", "a segment without an end", lambda: _ebml(b"\x01\xff\xff\xff\xff\xff\xff\xff")),
    ("segment-long.webm", "a segment of a petabyte", lambda: _ebml(b"\x01\x7f\xff\xff\xff\xff\xff\xff")),
    ("header.webm", "a header alone", lambda: _whole("clip.webm")[:60]),
    ("riff.wav", "a RIFF of 4 GB", lambda: _wav(0xFFFFFFFF, 0xFFFFFFFF)),
    ("nothing.wav", "a WAV of no sound", lambda: _wav(36, 0)),
    ("channels.wav", "a WAV of 65,535 channels", lambda: _wav(1036, 1000, channels=65_535)),
    ("still.wav", "a WAV of no rate", lambda: _wav(1036, 1000, rate=0)),
    ("align.wav", "a WAV of no frame", lambda: _wav(1036, 1000, align=0)),
    ("fast.wav", "a WAV of 4 billion samples a second", lambda: _wav(1036, 1000, rate=0xFFFFFFFF)),
    ("riff.avi", "a WAV that calls itself AVI", lambda: _whole("voice.wav").replace(b"WAVE", b"AVI ", 1)),
    ("riff.webp", "an AVI that calls itself WebP", lambda: _whole("clip.avi").replace(b"AVI ", b"WEBP", 1)),
    ("tag.mp3", "a tag larger than the file", lambda: _id3_of(b"\x7f\x7f\x7f\x7f")),
    ("text-tag.mp3", "a tag with text behind it", lambda: b"ID3\x04\0\0\0\0\0\x0a" + b"no sound " * 500),
    ("pages.ogg", "the first page again and again", lambda: _whole("voice.ogg")[:200] * 500),
    ("photo-song.mp3", "a photo before a song", lambda: _whole("photo.jpg") + _whole("voice.mp3")),
    ("song-page.mp4", "a page before a video", lambda: b"<html>" + _whole("plain.mp4")),
    ("zip-photo.jpg", "a photo with an archive behind it", lambda: _whole("photo.jpg") + b"PK\x03\x04" * 99),
    ("photo.mp4", "a photo that is called a video", lambda: _whole("photo.png")),
    ("noise.mp4", "noise", lambda: random.Random(1).randbytes(50_000)),
    ("zeros.mp4", "zeros", lambda: bytes(100_000)),
]

HOSTILE = len(_HOSTILE)
"""How many of the first files were made by hand."""


def main() -> int:
    """Run the count and print the summary; 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.media.damaged")
    parser.add_argument("--count", type=int, default=1000)
    count: int = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        tally = anyio.run(try_files, range(count), Path(folder))
    for failure in tally.failures:
        print(failure, file=sys.stderr)  # noqa: T201
    print(tally.summary)  # noqa: T201
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
