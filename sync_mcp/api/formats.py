"""What kind of media a file is: by its first bytes, and by its name where they leave it open (API §19)."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from sync_mcp.errors import FileRefused

MediaKind = Literal["video", "audio", "image"]

HEAD_BYTES = 64 * 1024
"""How much of a file's beginning `media_format` looks at: boxes, tags and zeros may come before the media."""


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """A format that the API takes."""

    kind: MediaKind
    content_type: str
    endings: tuple[str, ...]
    """The first one is the usual one."""


_MP4 = MediaFormat("video", "video/mp4", (".mp4", ".m4v"))
_MOV = MediaFormat("video", "video/quicktime", (".mov", ".qt"))
_WEBM = MediaFormat("video", "video/webm", (".webm",))
_AVI = MediaFormat("video", "video/x-msvideo", (".avi",))
_WAV = MediaFormat("audio", "audio/wav", (".wav",))
_MP3 = MediaFormat("audio", "audio/mpeg", (".mp3", ".m3a", ".mpga"))
_OGG = MediaFormat("audio", "audio/ogg", (".ogg", ".oga", ".opus"))
_FLAC = MediaFormat("audio", "audio/flac", (".flac",))
_M4A = MediaFormat("audio", "audio/x-m4a", (".m4a", ".m4b", ".alac"))
_MP4_SOUND = MediaFormat("audio", "audio/mp4", (".mp4", ".m4a"))
_AAC = MediaFormat("audio", "audio/aac", (".aac",))
_WMA = MediaFormat("audio", "audio/x-ms-wma", (".wma",))
_JPEG = MediaFormat("image", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"))
_PNG = MediaFormat("image", "image/png", (".png",))
_WEBP = MediaFormat("image", "image/webp", (".webp",))

_ALL = (_MP4, _MOV, _WEBM, _AVI, _WAV, _MP3, _OGG, _FLAC, _M4A, _AAC, _WMA, _JPEG, _PNG, _WEBP)

_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_QUICKTIME = b"qt  "
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"pnot")
_PASSED_OVER = (b"free", b"skip", b"uuid", b"styp", b"sidx", b"junk")
"""Boxes of MP4 and MOV that say nothing of the format, and may come first."""
_ASF = bytes.fromhex("3026b2758e66cf11")
_DOC_TYPE = re.compile(rb"\x42\x82.([a-z]{1,16})", re.DOTALL)
_CODEC_ID = re.compile(rb"\x86[\x81-\xbf]([VA])_")
_CLUSTER = b"\x1f\x43\xb6\x75"
_MARKUP_BYTES = 2048
_FRAMES_IN_A_ROW = 3
"""So many frames of sound, each where the one before it ends, are no accident."""
_SMALLEST_FRAME, _LARGEST_FRAME = 7, 8192
# By version 1 or later ones, then by layer as a header tells it (1 is layer III, 2 is layer II): kbit/s.
_BITRATES = {
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = (44_100, 48_000, 32_000)
# Media of other formats, by what they begin with: a refusal can say what to do about them.
_OTHERS = (
    (re.compile(rb"\x1aE\xdf\xa3"), "Matroska video", "MP4 (H.264)"),
    (
        re.compile(rb"....ftyp(?:" + b"|".join(_STILL_BRANDS) + rb")", re.DOTALL),
        "a HEIC or AVIF image",
        "JPEG",
    ),
    (re.compile(re.escape(_ASF)), "Windows Media video", "MP4 (H.264)"),
    (re.compile(rb"FLV\x01"), "Flash video", "MP4 (H.264)"),
    (re.compile(rb"\x00\x00\x01[\xb3\xba]|G.{187}G", re.DOTALL), "MPEG video", "MP4 (H.264)"),
    (re.compile(rb"OggS"), "Ogg video", "MP4 (H.264)"),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), "AIFF sound", "WAV"),
    (re.compile(rb"caff\x00"), "Core Audio sound", "WAV"),
    (re.compile(rb"#!AMR"), "AMR sound", "WAV"),
    (re.compile(rb"GIF8[79]a"), "a GIF", "PNG, or MP4 if it moves"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "a TIFF image", "PNG"),
    (re.compile(rb"BM.{4}\x00{4}", re.DOTALL), "a BMP image", "PNG"),
)
# What is saved under the name of a media file by mistake, and what to do instead.
_ITSELF = "Download the media file itself, by a direct link, and name that file."
_NO_MEDIA = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "a Git LFS pointer, not the file that it stands for",
        'Fetch the file itself ("git lfs pull") and name it again.',
    ),
    (
        re.compile(rb"#EXTM3U|ffconcat version|\[playlist\]", re.IGNORECASE),
        "a playlist, not the media that it lists",
        "Download the media that it lists as one file, and name that.",
    ),
    (
        re.compile(
            rb"PK\x03\x04|PK\x05\x06|Rar!\x1a|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ|.{257}ustar",
            re.DOTALL,
        ),
        "an archive",
        "Unpack it and name the media file in it.",
    ),
    (re.compile(rb"[\[{]\s*(?:[\"\[{\]}0-9-]|true|false|null)"), "JSON, not media", _ITSELF),
)


def media_format(head: bytes, name: str, kind: MediaKind | None = None) -> MediaFormat:
    """Return the format of a file that begins with `head`, as one of `kind` where that is asked for.

    Raises:
        FileRefused: it is no media, or media that the API does not take, or of another kind.
    """
    ending = PurePath(name).suffix.lower()
    found = _find_format(head, ending, kind)
    if found is None:
        raise _refusal(head, name)
    if found is _WEBM and _has_sound_alone(head):
        raise sound_in_webm(_subject(name))
    if _is_animated(head):
        raise FileRefused(
            f"{_subject(name)} is an animated image, not a still one.",
            code="file_not_media",
            next_step="Save one picture of it as PNG, or convert it to MP4 (H.264), and name that file.",
        )
    if kind is not None and kind != found.kind:
        raise FileRefused(
            f"{_subject(name)} is {_with_article(found.kind)}, not {_with_article(kind)}.",
            code="file_not_media",
            next_step=f"Name {_with_article(kind)}, or use this file as {_with_article(found.kind)}.",
        )
    return found


def kind_of_name(name: str) -> MediaKind | None:
    """Return what a file is by its name's ending alone, or None where that tells nothing."""
    ending = PurePath(name.strip()).suffix.lower()
    return next((each.kind for each in _ALL if ending in each.endings), None)


def _find_format(head: bytes, ending: str, kind: MediaKind | None) -> MediaFormat | None:
    sound_wanted = kind == "audio" or (kind is None and ending in _M4A.endings)
    brand = _iso_brand(head)
    if brand is not None:
        return _iso_format(brand, ending, sound_wanted=sound_wanted)
    if head[:4] == b"\x1aE\xdf\xa3":
        told = _DOC_TYPE.search(head[:256])
        return _WEBM if told and told[1] == b"webm" else None
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return {b"AVI ": _AVI, b"WAVE": _WAV, b"WEBP": _WEBP}.get(head[8:12])
    if head[:4] == b"OggS":
        return None if b"theora" in head[:256] else _OGG
    if head[:8] == _ASF:
        return _WMA if sound_wanted or ending == ".wma" else None
    for mark, found in ((b"fLaC", _FLAC), (b"\xff\xd8\xff", _JPEG), (b"\x89PNG\r\n\x1a\n", _PNG)):
        if head.startswith(mark):
            return found
    return _elementary_sound(head, ending)


def _iso_brand(head: bytes) -> bytes | None:
    """Return the brand of an MP4 or MOV, that of QuickTime for one without; None where it is neither."""
    at, brand = 0, b""
    while True:
        box = head[at + 4 : at + 8]
        if box == b"ftyp":
            return head[at + 8 : at + 12]
        if box in _OLD_QUICKTIME:
            return brand or _QUICKTIME
        # A size in letters is text.
        if box not in _PASSED_OVER or head[at] >= 0x20:
            return brand if at else None
        if box == b"styp":
            brand = head[at + 8 : at + 12]
        size = int.from_bytes(head[at : at + 4])
        # The size 1 says that the true one comes behind the name.
        size = int.from_bytes(head[at + 8 : at + 16]) if size == 1 else size
        if size < 8:
            return brand
        at += size


def _iso_format(brand: bytes, ending: str, *, sound_wanted: bool) -> MediaFormat | None:
    if brand in _STILL_BRANDS:
        return None
    if brand in _SOUND_BRANDS or sound_wanted:
        return _MP4_SOUND if ending == ".mp4" else _M4A
    return _MOV if brand == _QUICKTIME or ending in _MOV.endings else _MP4


def _elementary_sound(head: bytes, ending: str) -> MediaFormat | None:
    """Return the format of sound that has no container: frames, perhaps behind a tag."""
    if head.startswith(b"ID3"):
        return _AAC if ending == ".aac" else _FLAC if ending == ".flac" else _MP3
    first = _sound_frame(head, 0)
    if first is not None:
        return first[0]
    # Behind zeros, or behind the rest of a frame whose beginning is missing.
    start = len(head) - len(head.lstrip(b"\0"))
    at = head.find(b"\xff", start)
    while 0 <= at < start + _LARGEST_FRAME:
        found = _frames_in_a_row(head, at)
        if found is not None:
            return found
        at = head.find(b"\xff", at + 1)
    return None


def _frames_in_a_row(head: bytes, at: int) -> MediaFormat | None:
    found: MediaFormat | None = None
    for _ in range(_FRAMES_IN_A_ROW):
        frame = _sound_frame(head, at)
        if frame is None or frame[1] < _SMALLEST_FRAME or found not in (None, frame[0]):
            return None
        found, at = frame[0], at + frame[1]
    return found


def _sound_frame(head: bytes, at: int) -> tuple[MediaFormat, int] | None:
    """Return the format of the frame of sound that begins at `at`, and how many bytes it has."""
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return None
    header = head[at : at + 6].ljust(6, b"\0")
    layer, version = header[1] >> 1 & 3, header[1] >> 3 & 3
    rate = header[2] >> 2 & 3
    if header[1] & 0xF6 == 0xF0:
        size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        # A sampling rate that does not exist tells text from sound.
        return (_AAC, size) if header[2] >> 2 & 15 < 13 else None
    bits = header[2] >> 4
    if layer not in (1, 2) or version == 1 or bits in (0, 15) or rate == 3:
        return None
    kbits = _BITRATES[version == 3, layer][bits - 1]
    # Version 2 has half the rates of version 1, and version 2.5 half of those.
    hertz = _SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples_by_8 = 72 if layer == 1 and version != 3 else 144
    return _MP3, samples_by_8 * kbits * 1000 // hertz + (header[2] >> 1 & 1)


def _has_sound_alone(head: bytes) -> bool:
    """Return whether a WebM tells of its tracks in `head`, and none of them is a picture."""
    tracks = head.partition(_CLUSTER)[0]
    return len(tracks) < len(head) and {kind[1] for kind in _CODEC_ID.finditer(tracks)} == {b"A"}


def sound_in_webm(shown: str) -> FileRefused:
    """Return the refusal of a WebM that has no picture, such as what a browser records."""
    return FileRefused(
        f"{shown} is sound in WebM, which the API does not take as audio: convert it to WAV or MP3.",
        code="file_not_media",
        next_step="Name the converted file as audio.",
    )


def _is_animated(head: bytes) -> bool:
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head.partition(b"IDAT")[0]
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _refusal(head: bytes, name: str) -> FileRefused:
    for begins, what, better in _OTHERS:
        if begins.match(head):
            return FileRefused(
                f"{_subject(name)} is {what}, which is not among the formats that the API takes.",
                code="file_not_media",
                next_step=f"Convert it to {better} and name that file.",
            )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for begins, what, instead in _NO_MEDIA:
        if begins.match(text):
            return FileRefused(f"{_subject(name)} is {what}.", code="file_not_media", next_step=instead)
    if text.startswith(b"<"):
        return FileRefused(
            f"{_subject(name)} is {_markup(text[:_MARKUP_BYTES].lower())}, not media.",
            code="file_not_media",
            next_step=_ITSELF,
        )
    return FileRefused(
        f"{_subject(name)} is no video, audio or image file by its content.",
        code="file_not_media",
        next_step="Name a video (MP4, MOV, WebM, AVI), an audio file (WAV, MP3, Ogg, FLAC, M4A, AAC, WMA) "
        "or an image (JPEG, PNG, WebP).",
    )


def _markup(text: bytes) -> str:
    marks = ((b"<html", "a web page"), (b"<!doctype html", "a web page"), (b"<svg", "an SVG drawing"))
    found = [what for mark, what in (*marks, (b"<mpd", "a playlist")) if mark in text]
    return found[0] if found else "XML" if text.startswith(b"<?xml") else "markup"


def _subject(name: str) -> str:
    return name or "The file"


def _with_article(kind: MediaKind) -> str:
    return {"video": "a video", "audio": "an audio file", "image": "an image"}[kind]
