"""What kind of media a file is: by its first bytes, and by its name where they leave it open (API §19)."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from sync_mcp.errors import FileRefused

MediaKind = Literal["video", "audio", "image"]

HEAD_BYTES = 4096
"""How much of a file's beginning `media_format` looks at."""


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

_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"pnot")
_ASF = bytes.fromhex("3026b2758e66cf11")
_DOC_TYPE = re.compile(rb"\x42\x82.([a-z]{1,16})", re.DOTALL)
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


def media_format(head: bytes, name: str, kind: MediaKind | None = None) -> MediaFormat:
    """Return the format of a file that begins with `head`, as one of `kind` where that is asked for.

    Raises:
        FileRefused: it is no media, or media that the API does not take, or of another kind.
    """
    ending = PurePath(name).suffix.lower()
    found = _found(head, ending, kind)
    if found is None:
        raise _refused(head, name)
    if kind is not None and kind != found.kind:
        raise FileRefused(
            f"{_shown(name)} is {_with_article(found.kind)}, not {_with_article(kind)}.",
            code="file_not_media",
            next_step=f"Name {_with_article(kind)}, or use this file as {_with_article(found.kind)}.",
        )
    return found


def _found(head: bytes, ending: str, kind: MediaKind | None) -> MediaFormat | None:
    sound_wanted = kind == "audio" or (kind is None and ending in _M4A.endings)
    if head[4:8] == b"ftyp":
        return _iso_format(head[8:12], ending, sound_wanted=sound_wanted)
    if head[4:8] in _OLD_QUICKTIME:
        return _MOV
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


def _iso_format(brand: bytes, ending: str, *, sound_wanted: bool) -> MediaFormat | None:
    if brand in _STILL_BRANDS:
        return None
    if brand in _SOUND_BRANDS or sound_wanted:
        return _MP4_SOUND if ending == ".mp4" else _M4A
    return _MOV if brand == b"qt  " or ending in _MOV.endings else _MP4


def _elementary_sound(head: bytes, ending: str) -> MediaFormat | None:
    """Return the format of sound that has no container: frames, perhaps behind a tag."""
    if head.startswith(b"ID3"):
        return _AAC if ending == ".aac" else _FLAC if ending == ".flac" else _MP3
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = head[1] >> 1 & 3
    if head[1] & 0xF6 == 0xF0:
        # A sampling rate that does not exist tells text from sound.
        return _AAC if head[2] >> 2 & 15 < 13 else None
    possible = (
        layer in (1, 2) and head[1] >> 3 & 3 != 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
    )
    return _MP3 if possible else None


def _refused(head: bytes, name: str) -> FileRefused:
    for begins, what, better in _OTHERS:
        if begins.match(head):
            return FileRefused(
                f"{_shown(name)} is {what}, which is not among the formats that the API takes.",
                code="file_not_media",
                next_step=f"Convert it to {better} and name that file.",
            )
    return FileRefused(
        f"{_shown(name)} is no video, audio or image file by its content.",
        code="file_not_media",
        next_step="Name a video (MP4, MOV, WebM, AVI), an audio file (WAV, MP3, Ogg, FLAC, M4A, AAC, WMA) "
        "or an image (JPEG, PNG, WebP).",
    )


def _shown(name: str) -> str:
    return name or "The file"


def _with_article(kind: MediaKind) -> str:
    return {"video": "a video", "audio": "an audio file", "image": "an image"}[kind]
