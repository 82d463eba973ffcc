"""What decoding finds in a media file, as it is told to who does not decode: no decoder is needed for it."""

from dataclasses import dataclass
from typing import Literal

LONGEST_SIDE, SHORTER_SIDE = 4096, 2160
"""The largest picture that is documented for videos (API §19)."""

SHEET_BYTES = 90_000
"""Some hosts hand the picture to the model as text."""
SHEET_WIDTH = 640
SMALL_SHEET_BYTES = 12_000
"""Hundreds of them stand in one page."""
SMALL_SHEET_WIDTH = 480


class MediaError(Exception):
    """A file is no media, or cannot be decoded.

    Attributes:
        fault: what is the matter with it, a sentence without its subject, such as "holds no picture.".
    """

    def __init__(self, fault: str, *, subject: str = "It") -> None:
        self.fault = fault
        super().__init__(f"{subject} {fault}")


class NotDecodedHere(MediaError):
    """A file may be whole, but what it needs to be decoded is not here."""


class CutShort(MediaError):
    """A file ends before what its header promises."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a media file holds; width and height are as the picture is shown, after any rotation."""

    kind: Literal["video", "audio", "image"]
    format_name: str
    """The container as FFmpeg names it, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration_seconds: float | None
    """None for an image, and where a length that no header tells was not counted in time.

    Of sound it is what all packets last together; of a picture, from the first to the end of the last.
    """
    fps: float | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool
    video_codec: str | None = None
    """The codec of the moving or still picture as FFmpeg names it, such as `h264`."""
    audio_codec: str | None = None
    is_turned: bool = False
    """Whether the picture lies on its side in the file, and is shown upright."""
    stands_still: bool = False
    """Whether it was looked for movement in a video, and there was none."""
    first_sound_is_silent: bool = False
    """Whether there is nothing to hear in its first sound, and something in another."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What decoding a file has shown."""

    info: MediaInfo
    counted_seconds: float
    """Where its last picture ends as far as it was seen, or its last sound where it has no picture."""
    sound_seconds: float | None
    """Where its last sound ends; None where it has none, or where that was not reached in time."""
    decodes_to_end: bool
    """Whether nothing failed in what was decoded, and it lasts as long as its header tells."""
    decoded_whole: bool
    """False for a file so long that there was time for its beginning and its last seconds alone."""
    picture_moves: bool | None
    """None where there is no picture, or a single one."""
    sound_is_heard: bool | None
    """False for silence; None where there is no sound."""
    sound_peak: float
    """The loudest sample, 1 being the most there can be; what comes after one above 1/8 is not counted."""


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """The sheet, and what it shows."""

    jpeg: bytes
    """At most `SHEET_BYTES`; of a small one, `SMALL_SHEET_BYTES`."""
    width: int
    """Pixels; at most `SHEET_WIDTH`; of a small one, `SMALL_SHEET_WIDTH`."""
    height: int
    duration_seconds: float | None
    """None for a still image, and where the length is not known."""
    frame_seconds: tuple[float, ...]
    """When the frames are shown, row by row; empty for a still image."""


def size_that_fits(width: int, height: int) -> tuple[int, int]:
    """Return the largest size of this shape that the API documents for videos (API §19), in even numbers."""
    share = min(1.0, LONGEST_SIDE / max(width, height), SHORTER_SIDE / min(width, height))
    return max(2, int(width * share / 2) * 2), max(2, int(height * share / 2) * 2)
