"""A folder of clips as a campaign's rows: real files, and on the sandbox the voices and prices of a plan."""

import shutil
from pathlib import Path

import pytest

from sync_mcp.campaigns.folders import read_folder
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.sandbox.media.samples import sample

from .parts import Studio

VOICE = "My own voice"


def fill(folder: Path, **files: bytes | str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def lines_of(folder: Path, voice: str | None = "v") -> dict[str, Line]:
    return {Path(line.video or "").name: line for line in read_folder(folder, voice).lines}


def test_each_clip_is_said_by_the_script_or_the_recording_of_its_name(tmp_path: Path) -> None:
    fill(tmp_path, two__mp4="v", two__WAV="a", one__MOV="v", one__txt="\ufeff Hello.\n", notes__txt="x")
    table = read_folder(tmp_path, "v-1")
    one, two = (str(tmp_path / name) for name in ("one.MOV", "two.mp4"))
    recording = str(tmp_path / "two.WAV")
    assert table == Table(
        [
            Line(number=1, is_in_file=False, video=one, script="Hello.", voice="v-1", output="one.synced"),
            Line(number=2, is_in_file=False, video=two, audio=recording, output="two.synced"),
        ]
    )


def test_what_is_hidden_was_made_of_a_clip_or_is_a_folder_is_no_clip(tmp_path: Path) -> None:
    fill(tmp_path, one__mp4="v", one__txt="A", one__synced__mp4="v", __DS__mp4="v", picture__jpg="p")
    (tmp_path / "deep.mp4").mkdir()
    assert list(lines_of(tmp_path)) == ["one.mp4"]


def test_a_clip_without_its_one_usable_speech_says_what_to_do(tmp_path: Path) -> None:
    for name in ("bare", "both", "empty", "large", "latin", "twin"):
        fill(tmp_path, **{f"{name}__mp4": "v"})
    fill(tmp_path, twin__MOV="v", twin__txt="A", both__txt="A", both__mp3="B")
    fill(tmp_path, empty__txt=" \n", latin__txt=b"caf\xe9", large__txt=b"A" * (1024**2 + 1))
    faults = {name: line.fault or "" for name, line in lines_of(tmp_path).items()}
    assert faults["bare.mp4"] == "Put bare.txt or bare.wav beside it, not both; there is neither."
    assert faults["both.mp4"].endswith(" not both; there is both.mp3 and both.txt.")
    assert faults["empty.mp4"] == "empty.txt is empty."
    assert faults["large.mp4"] == "large.txt has more than 1024 KB: that is no script."
    assert faults["latin.mp4"].startswith("latin.txt cannot be read as UTF-8 text")
    assert faults["twin.mp4"] == faults["twin.MOV"] == "Another clip is called twin too: rename one."


def test_a_script_needs_a_voice_and_a_recording_none(tmp_path: Path) -> None:
    fill(tmp_path, one__mp4="v", one__txt="A", two__mp4="v", two__wav="a")
    faults = [line.fault for line in lines_of(tmp_path, None).values()]
    assert faults == ["Say with --voice who speaks one.txt.", None]


def test_a_video_is_called_after_its_clip_in_plain_letters(tmp_path: Path) -> None:
    fill(tmp_path, **{"-Lektion #1: été.mp4": "v", "Lektion.1.mp4": "v"})
    names = [line.output for line in lines_of(tmp_path).values()]
    assert names == ["Lektion _1_ été.synced", "Lektion.1.synced"]


def test_a_folder_without_clips_or_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "course").mkdir()
    with pytest.raises(InvalidRequestError, match="There is no clip in course"):
        read_folder(tmp_path / "course", None)
    with pytest.raises(FileRefused, match="gone cannot be read"):
        read_folder(tmp_path / "gone", None)


@pytest.fixture
def course(studio: Studio) -> Path:
    folder = studio.folder / "course"
    folder.mkdir()
    shutil.copy(sample("speaker.mp4"), folder / "one.mp4")
    (folder / "one.txt").write_text("Welcome.", encoding="utf-8")
    return folder


@pytest.mark.anyio
async def test_a_folder_is_planned_with_a_voice_by_its_name(studio: Studio, course: Path) -> None:
    [row] = (await studio.campaigns.plan(studio.sync, course, voice=VOICE)).rows
    assert (row.clip, row.output) == ("one.mp4", "one.synced.mp4")
    assert row.price_usd is not None


@pytest.mark.anyio
@pytest.mark.parametrize("voice", ["Ada", "nobody"])
async def test_a_voice_that_is_not_the_only_one_stops_the_plan_and_others_are_named(
    studio: Studio, course: Path, voice: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"voice '{voice}' is no voice of this") as refused:
        await studio.campaigns.plan(studio.sync, course, voice=voice, keep_going=True)
    assert "such as: My own voice (" in refused.value.next_step


@pytest.mark.anyio
async def test_a_file_of_rows_takes_no_voice_for_all(studio: Studio) -> None:
    with pytest.raises(InvalidRequestError, match="rows of a file name their own"):
        await studio.campaigns.plan(studio.sync, studio.folder / "rows.csv", voice=VOICE)
