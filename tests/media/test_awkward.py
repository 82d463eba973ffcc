"""The length of a file is the true one, a file that is cut short is told as that, and what it is is said."""

# pyright: reportUnknownMemberType=false

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sync_mcp.api.formats import HEAD_BYTES, MediaKind, media_format
from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding import probe as probe_module
from sync_mcp.media.decoding.look import look
from sync_mcp.media.decoding.probe import probe
from tests.media import awkward
from tests.media.clips import frozen, make_media

pytestmark = pytest.mark.anyio


def _content_type(path: Path, kind: MediaKind | None = None) -> str:
    with path.open("rb") as file:
        return media_format(file.read(HEAD_BYTES), path.name, kind).content_type


async def _refused(path: Path) -> FileRefused:
    with pytest.raises(FileRefused) as refused:
        await look(path)
    return refused.value


# The length


@pytest.mark.parametrize(
    ("make", "name", "seconds"),
    [
        (awkward.talk_then_quiet, "talk.aac", 30.0),
        (awkward.two_rates, "two.mp3", 8.1),
        (awkward.chained, "notes.ogg", 8.0),
    ],
)
async def test_what_is_joined_or_has_no_length_in_a_header_is_counted(
    tmp_path: Path, make: Callable[[Path], Path], name: str, seconds: float
) -> None:
    info = await look(make(tmp_path / name))
    assert info.duration_seconds == pytest.approx(seconds, abs=0.13)


@pytest.mark.parametrize(("write_xing", "tolerance"), [("1", 0.01), ("0", 0.1)])
async def test_an_mp3_is_as_long_as_its_header_or_its_frames_tell(
    tmp_path: Path, write_xing: str, tolerance: float
) -> None:
    path = make_media(
        tmp_path / "voice.mp3",
        sound="libmp3lame",
        seconds=6.0,
        format="mp3",
        options={"write_xing": write_xing},
    )
    assert (await look(path)).duration_seconds == pytest.approx(6.0, abs=tolerance)


async def test_an_mp3_that_a_short_one_was_joined_to_is_longer_than_its_header_tells(tmp_path: Path) -> None:
    long = make_media(tmp_path / "long.mp3", sound="libmp3lame", seconds=60.0).read_bytes()
    short = make_media(tmp_path / "short.mp3", sound="libmp3lame", seconds=2.0).read_bytes()
    path = tmp_path / "both.mp3"
    path.write_bytes(long + short)
    assert (await look(path)).duration_seconds == pytest.approx(62.0, abs=0.3)


@pytest.mark.parametrize(
    ("name", "codec", "format", "rate"),
    [
        ("v.ogg", "libopus", "ogg", 48_000),
        ("v.wma", "wmav2", "asf", 16_000),
        ("v.m4a", "aac", "ipod", 16_000),
    ],
)
async def test_the_time_before_the_first_sound_does_not_count(
    tmp_path: Path, name: str, codec: str, format: str, rate: int
) -> None:
    path = awkward.make_tracks(tmp_path / name, [(rate, 4.0)], codec=codec, format=format, late=30.0)
    assert (await look(path)).duration_seconds == pytest.approx(4.0, abs=0.2)


async def test_a_webm_that_begins_late_is_as_long_as_its_pictures(tmp_path: Path) -> None:
    path = make_media(tmp_path / "late.webm", picture="libvpx", times=range(300, 340))
    info = await look(path)
    assert info.duration_seconds == pytest.approx(4.0, abs=0.01)
    assert info.fps == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    "flags", ["frag_keyframe+empty_moov", "frag_every_frame+empty_moov", "dash+global_sidx"]
)
async def test_an_mp4_in_fragments_has_the_length_and_the_rate_of_its_pictures(
    tmp_path: Path, flags: str
) -> None:
    path = make_media(
        tmp_path / "f.mp4", picture="libx264", sound="aac", frames=60, options={"movflags": flags}
    )
    info = await look(path)
    assert info.duration_seconds == pytest.approx(6.0, abs=0.01)
    assert info.fps == pytest.approx(10, abs=0.01)


async def test_what_a_pipe_wrote_without_a_length_is_counted(tmp_path: Path) -> None:
    wav = bytearray(make_media(tmp_path / "v.wav", sound="pcm_s16le", seconds=3.0).read_bytes())
    at = wav.index(b"data")
    wav[4:8] = wav[at + 4 : at + 8] = b"\xff" * 4
    (tmp_path / "pipe.wav").write_bytes(wav)
    flac = bytearray(make_media(tmp_path / "v.flac", sound="flac", seconds=3.0).read_bytes())
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    (tmp_path / "pipe.flac").write_bytes(flac)
    for name in ("pipe.wav", "pipe.flac"):
        assert (await look(tmp_path / name)).duration_seconds == pytest.approx(3.0, abs=0.01)


def test_a_length_that_a_header_tells_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(*_: object) -> object:
        raise AssertionError("the packets were counted")

    monkeypatch.setattr(probe_module, "_count_packets", counted)
    for name, sound in (("v.mp3", "libmp3lame"), ("v.flac", "flac"), ("v.wav", "pcm_s16le")):
        path = make_media(tmp_path / name, sound=sound, seconds=2.0)
        assert probe(path).duration_seconds == pytest.approx(2.0, abs=0.1)
    clip = make_media(tmp_path / "v.mp4", picture="libx264", sound="aac")
    assert probe(clip).duration_seconds == 2.0


def test_where_there_is_no_time_to_count_no_guess_stands_for_it(tmp_path: Path) -> None:
    assert probe(awkward.talk_then_quiet(tmp_path / "v.aac"), count_until=0).duration_seconds is None


# Cut short


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("v.mp4", {"picture": "libx264", "sound": "aac", "options": {"movflags": "+faststart"}}),
        ("v.mov", {"picture": "libx264", "sound": "aac"}),
        ("f.mp4", {"picture": "libx264", "options": {"movflags": "frag_keyframe+empty_moov"}, "frames": 40}),
        ("v.webm", {"picture": "libvpx", "sound": "libopus"}),
        ("v.avi", {"picture": "mpeg4", "sound": "libmp3lame"}),
        ("v.flac", {"sound": "flac", "seconds": 6.0}),
        ("v.mp3", {"sound": "libmp3lame", "seconds": 6.0}),
        ("v.wav", {"sound": "pcm_s16le"}),
        ("v.wma", {"sound": "wmav2", "format": "asf"}),
        ("v.jpg", {"picture": "mjpeg", "pixels": "yuvj420p", "frames": 1, "format": "image2"}),
        ("v.png", {"picture": "png", "pixels": "rgb24", "frames": 1, "format": "image2"}),
        ("v.webp", {"picture": "libwebp", "frames": 1, "format": "webp"}),
    ],
)
async def test_a_file_that_ends_before_what_its_header_promises_is_told_as_that(
    tmp_path: Path, name: str, more: dict[str, object]
) -> None:
    path = make_media(tmp_path / name, **more)  # pyright: ignore[reportArgumentType]
    await look(path)
    refused = await _refused(awkward.cut(path, 0.7))
    assert refused.code == "file_damaged"
    assert f"{name} is cut short" in refused.message
    assert "again" in refused.next_step


# What is taken, and what it is called


@pytest.mark.parametrize("box", [b"free", b"skip", b"uuid", b"styp"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
async def test_an_mp4_whose_first_box_says_nothing_is_taken(tmp_path: Path, box: bytes, name: str) -> None:
    path = awkward.behind(tmp_path / name, box)
    assert _content_type(path) in ("video/mp4", "video/quicktime")
    assert (await look(path)).duration_seconds == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("damage", ["zeros", "in the middle of a frame"])
async def test_an_mp3_that_does_not_begin_with_a_frame_is_taken(tmp_path: Path, damage: str) -> None:
    path = make_media(
        tmp_path / "v.mp3", sound="libmp3lame", seconds=6.0, format="mp3", options={"write_xing": "0"}
    )
    content = path.read_bytes()
    path.write_bytes(bytes(9000) + content if damage == "zeros" else content[100:])
    assert _content_type(path) == "audio/mpeg"
    assert (await look(path)).duration_seconds == pytest.approx(6.0, abs=0.15)


@pytest.mark.parametrize(("name", "content", "what", "way_on"), awkward.NO_MEDIA)
def test_what_lies_under_the_name_of_a_media_file_is_called_what_it_is(
    name: str, content: bytes, what: str, way_on: str
) -> None:
    with pytest.raises(FileRefused, match=f"{name} is .*{what}") as refused:
        media_format(content, name)
    assert refused.value.code == "file_not_media"
    assert way_on in refused.value.next_step


@pytest.mark.parametrize("kind", [None, "audio", "video"])
def test_sound_alone_in_webm_is_refused_in_one_way_as_whatever_it_is_given(
    tmp_path: Path, kind: MediaKind | None
) -> None:
    path = awkward.sound_alone(tmp_path / "note.webm")
    with pytest.raises(FileRefused, match=r"is sound in WebM.*: convert it to WAV or MP3"):
        _content_type(path, kind)


def test_an_animated_image_is_told_as_that() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"acTL", bytes(8)) + chunk(b"IDAT", b"")
    webp = b"RIFF\x00\x01\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(9)
    for content, name in ((png, "a.png"), (webp, "a.webp")):
        with pytest.raises(FileRefused, match="is an animated image") as refused:
            media_format(content, name)
        assert "MP4" in refused.value.next_step


async def test_a_wav_of_gsm_is_taken(tmp_path: Path) -> None:
    info = await look(awkward.gsm(tmp_path / "call.wav"))
    assert (info.audio_codec, info.duration_seconds) == ("gsm_ms", 4.0)


async def test_a_sound_that_nobody_decodes_does_not_condemn_the_one_beside_it(tmp_path: Path) -> None:
    info = await look(awkward.spatial_first(tmp_path / "phone.mov"))
    assert (info.kind, info.has_audio, info.audio_codec) == ("video", True, "aac")


async def test_a_sound_that_is_broken_does_not_condemn_the_picture(tmp_path: Path) -> None:
    path = make_media(tmp_path / "v.mov", picture="libx264", sound="aac", options={"movflags": "+faststart"})
    content = bytearray(path.read_bytes())
    at = content.index(b"esds")
    # Of the settings of its decoder nothing is left.
    content[at + 12 : at + 40] = bytes(28)
    path.write_bytes(content)
    assert (await look(path)).has_video


@pytest.mark.parametrize(
    ("name", "more", "what"),
    [
        ("old.mov", {"picture": "cinepak", "pixels": "rgb24"}, "its picture in cinepak"),
        ("film.mov", {"picture": "jpeg2000"}, "its picture in jpeg2000"),
    ],
)
async def test_what_others_decode_is_to_be_converted_and_not_damaged(
    tmp_path: Path, name: str, more: dict[str, object], what: str
) -> None:
    refused = await _refused(make_media(tmp_path / name, **more))  # pyright: ignore[reportArgumentType]
    assert refused.code == "file_not_media"
    assert what in refused.message
    assert refused.next_step.startswith("Convert it")


async def test_the_voice_of_an_old_phone_is_to_be_converted(tmp_path: Path) -> None:
    path = awkward.make_tracks(tmp_path / "old.3gp", [(8000, 4.0)], codec="libopencore_amrnb", format="3gp")
    refused = await _refused(path)
    assert refused.next_step.startswith("Convert it")
    assert "its sound in amr_nb" in refused.message


async def test_a_photo_that_is_too_large_to_be_decoded_is_told_a_size_that_fits(tmp_path: Path) -> None:
    Image.new("L", (12_000, 9000)).save(tmp_path / "photo.jpg")
    refused = await _refused(tmp_path / "photo.jpg")
    assert "12000 by 9000 pixels" in refused.message
    assert "such as 2880 by 2160" in refused.message
    assert refused.next_step.startswith("Convert it")


# What is noticed


async def test_a_silent_first_sound_with_a_voice_in_the_second_is_noticed(tmp_path: Path) -> None:
    silent_first = awkward.make_tracks(tmp_path / "a.mp4", [(16_000, 0.0), (16_000, 4.0)], picture=True)
    voice_first = awkward.make_tracks(tmp_path / "b.mp4", [(16_000, 4.0), (16_000, 0.0)], picture=True)
    both_silent = awkward.make_tracks(tmp_path / "c.mp4", [(16_000, 0.0), (16_000, 0.0)], picture=True)
    assert (await look(silent_first)).first_sound_is_silent
    assert not (await look(voice_first)).first_sound_is_silent
    assert not (await look(both_silent)).first_sound_is_silent


async def test_a_still_video_is_noticed_and_one_that_moves_at_its_end_alone_is_none(tmp_path: Path) -> None:
    def late(number: int, width: int, height: int) -> bytes:
        return frozen(number, width, height) if number < 50 else bytes(width * height * 3)

    still = make_media(tmp_path / "still.mp4", picture="libx264", frames=60, draw=frozen)
    moving = make_media(tmp_path / "late.mp4", picture="libx264", frames=60, draw=late)
    assert (await look(still)).stands_still
    assert not (await look(moving)).stands_still
    assert not (await look(make_media(tmp_path / "photo.mp4", picture="libx264", frames=1))).stands_still


async def test_a_turned_picture_is_noticed(tmp_path: Path) -> None:
    assert (await look(make_media(tmp_path / "t.mp4", picture="libx264", rotation=90))).is_turned
    assert not (await look(make_media(tmp_path / "u.mp4", picture="libx264", rotation=180))).is_turned
