import io
import random
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding.findings import ContactSheet
from sync_mcp.media.decoding.look import contact_sheet, examine, small_sheet
from sync_mcp.sandbox.media.samples import sample
from tests.media.clips import make_media

pytestmark = pytest.mark.anyio


def _opened(sheet: ContactSheet) -> Image.Image:
    assert len(sheet.jpeg) <= 90_000
    assert sheet.width <= 640
    image = Image.open(io.BytesIO(sheet.jpeg))
    assert (image.format, image.size) == ("JPEG", (sheet.width, sheet.height))
    return image.convert("RGB")


def _noise(number: int, width: int, height: int) -> bytes:
    return random.Random(number).randbytes(width * height * 3)


def _halves(number: int, width: int, height: int) -> bytes:
    """Red above blue."""
    del number
    return b"\xff\0\0" * (width * (height // 2)) + b"\0\0\xff" * (width * (height - height // 2))


def _red(pixel: float | tuple[int, ...] | None) -> bool:
    assert isinstance(pixel, tuple)
    return pixel[0] > 150 and pixel[2] < 100


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_nine_frames_show_the_whole_length() -> None:
    sheet = await contact_sheet(sample("speaker.mp4"))
    assert _opened(sheet).size == (639, 639)
    assert sheet.duration_seconds == 5.0
    times = sheet.frame_seconds
    assert len(times) == 9
    assert times[0] < 0.3
    assert times[-1] > 4.7
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert max(steps) - min(steps) < 0.1


async def test_each_frame_is_the_one_of_its_time(tmp_path: Path) -> None:
    # The grey of each frame is its number times 8, and 40 more; the key frames lie far apart.
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=(320, 240), frames=26, fps=1)
    sheet = await contact_sheet(clip)
    image = _opened(sheet)
    for number, at in enumerate(sheet.frame_seconds):
        pixel = image.getpixel((number % 3 * 213 + 106, number // 3 * 160 + 40))
        assert isinstance(pixel, tuple)
        assert pixel[0] == pytest.approx(40 + round(at) * 8, abs=6)


async def test_the_times_can_be_read_on_white_and_on_black(tmp_path: Path) -> None:
    for shade in (b"\0", b"\xff"):
        clip = make_media(
            tmp_path / "clip.mp4",
            picture="libx264",
            size=(320, 240),
            draw=lambda _, width, height, shade=shade: shade * (width * height * 3),
        )
        corner = _opened(await contact_sheet(clip)).crop((0, 120, 80, 160)).convert("L")
        darkest, lightest = corner.getextrema()
        assert isinstance(darkest, int | float)
        assert isinstance(lightest, int | float)
        assert lightest - darkest > 200


@pytest.mark.parametrize(
    ("size", "sheet_size"),
    [((320, 180), (639, 360)), ((180, 320), (360, 639)), ((16, 16), (192, 120)), ((64, 48), (384, 288))],
)
async def test_a_sheet_has_the_shape_of_its_video(
    size: tuple[int, int], sheet_size: tuple[int, int], tmp_path: Path
) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=size)
    assert _opened(await contact_sheet(clip)).size == sheet_size


async def test_noise_in_4k_fits_into_the_sheet(tmp_path: Path) -> None:
    clip = make_media(
        tmp_path / "clip.mp4", picture="mpeg4", size=(3840, 2160), frames=2, draw=_noise, format="mp4"
    )
    sheet = await contact_sheet(clip)
    _opened(sheet)
    assert len(sheet.frame_seconds) == 2


async def test_a_busy_picture_gives_up_quality_before_size(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.avi", picture="mpeg4", size=(320, 320), frames=18, draw=_noise)
    sheet = await contact_sheet(clip)
    assert _opened(sheet).width == 639 or len(sheet.jpeg) > 45_000


async def test_a_rotated_video_is_shown_upright(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "phone.mp4", picture="libx264", size=(320, 180), draw=_halves, rotation=90)
    image = _opened(await contact_sheet(clip))
    assert image.size == (360, 639)
    # A turn of 90 degrees against the clock puts what is above to the left.
    assert _red(image.getpixel((20, 106)))
    assert not _red(image.getpixel((100, 106)))


async def test_a_video_of_one_frame_has_a_sheet_of_one(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", frames=1)
    sheet = await contact_sheet(clip)
    _opened(sheet)
    assert sheet.frame_seconds == (0.0,)


async def test_frames_that_come_at_uneven_times_are_told_by_their_own(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 40, 41, 80, 99]
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", times=times)
    sheet = await contact_sheet(clip)
    _opened(sheet)
    assert {round(at * 10) for at in sheet.frame_seconds} <= set(times)
    assert len(sheet.frame_seconds) >= 4


async def test_a_video_whose_header_tells_no_length_is_shown_whole(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "live.webm", picture="libvpx", frames=40, options={"live": "1"})
    sheet = await contact_sheet(clip)
    assert sheet.duration_seconds == pytest.approx(4.0, abs=0.2)
    assert sheet.frame_seconds[-1] > 3.5
    assert len(sheet.frame_seconds) == 9


async def test_a_video_that_breaks_off_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = make_media(
        tmp_path / "clip.mp4", picture="mpeg4", frames=200, draw=_noise, options={"movflags": "+faststart"}
    )
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 4])
    sheet = await contact_sheet(clip)
    assert len(sheet.frame_seconds) == 9
    assert sheet.frame_seconds[-1] == pytest.approx((await examine(clip)).counted_seconds, abs=0.4)


async def test_a_photo_is_shown_without_a_time() -> None:
    sheet = await contact_sheet(sample("speaker.jpg"))
    _opened(sheet)
    assert (sheet.duration_seconds, sheet.frame_seconds) == (None, ())


async def test_sound_alone_is_refused_for_that() -> None:
    with pytest.raises(FileRefused, match=r"speech\.wav has sound alone, and no picture") as refused:
        await contact_sheet(sample("speech.wav"))
    assert refused.value.code == "file_damaged"


async def test_a_small_sheet_shows_the_middle_of_each_third(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=(320, 180), frames=30, fps=10)
    sheet = await small_sheet(clip)
    assert _opened(sheet).size == (480, 90)
    assert sheet.frame_seconds == pytest.approx((0.5, 1.5, 2.5), abs=0.11)


async def test_a_small_sheet_of_noise_is_small_too(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.avi", picture="mpeg4", size=(320, 320), frames=6, draw=_noise)
    assert len((await small_sheet(clip)).jpeg) <= 12_000
