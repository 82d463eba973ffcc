"""A campaign's file, of real files: what its rows ask for, and what is wrong with them, by their lines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pytest

from sync_mcp import AsyncSync, Guard, Ledger, Limits
from sync_mcp.api import models
from sync_mcp.api.fields import OPTIONS
from sync_mcp.campaigns import table
from sync_mcp.campaigns.campaigns import Campaigns
from sync_mcp.campaigns.table import (
    COLUMNS,
    MOST_ROWS,
    Line,
    Table,
    cross_languages,
    cross_voices,
    read_table,
)
from sync_mcp.errors import FileRefused, InvalidRequestError

Read = Callable[..., Table]
DUB = "video,language\na.mp4,fr\n"
DUBBED = Line(number=2, video="a.mp4", language="fr")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """What reads a file with this content."""

    def read(content: str | bytes, name: str = "rows.csv") -> Table:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path)

    return read


def lines_of(table: Table) -> Sequence[Line]:
    assert list(table.faults) == []
    return table.lines


def fault_of(table: Table) -> str:
    (fault,) = table.faults
    return fault


# What is read


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (DUB, "rows.csv"),
        (DUB, "rows"),
        (DUB, "rows.txt"),
        ("\ufeff" + DUB, "rows.csv"),
        ('\ufeff"video","language"\na.mp4,fr\n', "rows.csv"),
        (DUB.replace(",", ";"), "rows.csv"),
        (DUB.replace(",", "\t"), "rows.tsv"),
        (DUB.replace("\n", "\r\n"), "rows.csv"),
        (DUB.replace("\n", "\r"), "rows.csv"),
        (DUB.removesuffix("\n"), "rows.csv"),
        ("VIDEO, Language \n  a.mp4 ,fr\u00a0\n", "rows.csv"),
        ("video,language,,\na.mp4,fr,,\n", "rows.csv"),
        ("video,language\na.mp4,fr,,\n", "rows.csv"),
        ('\n{"video": "a.mp4", "language": "fr"}\n', "rows.jsonl"),
        ('\ufeff\r\n{"Video": " a.mp4 ", "LANGUAGE": "fr", "audio": null}\r\n', "rows.ndjson"),
        ('\n{"video": "a.mp4", "language": "fr", "voice": ""}', "rows.JSON"),
    ],
)
def test_a_row_is_read_however_the_file_is_written(read: Read, content: str, name: str) -> None:
    assert lines_of(read(content, name)) == [DUBBED]


def test_every_column_stands_in_its_field(read: Read) -> None:
    spoken = read("image,script,voice,model,output,take\nhttps://h/a.png?s=1,Hi,Ada,sync-3,out,3\n")
    voiced = read("video,audio\nasset:1,b.wav\n")

    assert lines_of(spoken) == [
        Line(
            number=2,
            image="https://h/a.png?s=1",
            script="Hi",
            voice="Ada",
            model="sync-3",
            output="out",
            take=3,
        )
    ]
    assert lines_of(voiced) == [Line(number=2, video="asset:1", audio="b.wav")]


def test_a_row_has_the_number_of_the_line_on_which_it_begins(read: Read) -> None:
    rows = 'script,video,voice\n\n"one\ntwo\r\nthree",a.mp4,ada\n , ,\n"x ""y"", z",b.mp4,ada\n'
    objects = '\n\n{"video": "a", "language": "fr"}\n \n{"video": "b", "language": "fr"}'

    assert [(line.number, line.script) for line in lines_of(read(rows))] == [
        (3, "one\ntwo\r\nthree"),
        (7, 'x "y", z'),
    ]
    assert [line.number for line in lines_of(read(objects, "rows.jsonl"))] == [3, 5]


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("sync_mode", "LOOP", "loop"),
        ("Sync-Mode", "cut_off", "cut_off"),
        ("temperature", "0.7", 0.7),
        ("temperature", '"0,7"', 0.7),
        ("model mode", "head", "head"),
        ("prompt", "Happy", "happy"),
        ("occlusion_detection_enabled", "TRUE", True),
        ("reasoning_enabled", "no", False),
    ],
)
def test_a_column_may_be_an_option_of_the_api(
    read: Read, name: str, written: str, value: str | float | bool
) -> None:
    (line,) = lines_of(read(f"video,audio,{name}\na.mp4,b.wav,{written}\n"))
    column = name.lower().replace("-", "_").replace(" ", "_")
    assert line.options == {column: value}
    assert type(line.options[column]) is type(value)


def test_json_has_numbers_and_flags_of_its_own(read: Read) -> None:
    written = '{"video": "a", "audio": "b", "take": 2, "temperature": 0.25, "reasoning_enabled": true}'
    (line,) = lines_of(read(written, "rows.jsonl"))
    assert (line.take, line.options) == (2, {"temperature": 0.25, "reasoning_enabled": True})


def test_the_options_are_those_of_the_api() -> None:
    # Who speaks is no plain value: no cell has room for it.
    assert set(OPTIONS) - set(COLUMNS) == {"active_speaker_detection"}


@pytest.mark.parametrize(
    ("name", "named"),
    [("sync_mode", models.SyncMode), ("model_mode", models.ModelMode), ("prompt", models.Emotion)],
)
def test_an_option_takes_what_the_api_names(read: Read, name: str, named: object) -> None:
    words = get_args(get_args(named)[0])
    taken = read(f"video,audio,{name}\n" + "".join(f"a,b,{word}\n" for word in words))
    other = read(f"video,audio,{name}\na,b,other\n")

    assert [line.options[name] for line in lines_of(taken)] == list(words)
    assert fault_of(other) == f"line 2: {name} is one of {', '.join(words)}, and not 'other'."


def test_a_formula_in_a_cell_is_a_text_like_any_other(read: Read) -> None:
    (line,) = lines_of(read("video,language,output\n=cmd|' /C calc'!A0,fr,+1\n"))
    assert (line.video, line.output) == ("=cmd|' /C calc'!A0", "+1")


def test_the_same_row_twice_is_two_lines(read: Read) -> None:
    assert [line.number for line in lines_of(read(DUB + "a.mp4,fr\n"))] == [2, 3]


# What is wrong


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"audio": "b"}, "there is no video and no image"),
        ({"video": "a", "image": "i", "audio": "b"}, "video and image are both named"),
        ({"video": "a"}, "nothing says what is said"),
        ({"video": "a", "script": "s"}, "the script has no voice"),
        ({"video": "a", "voice": "v"}, "the voice has no script: write what it says."),
        ({"video": "a", "voice": "v", "audio": "b"}, "write what it says, or leave voice out"),
        ({"video": "a", "voice": "v", "language": "fr"}, "write what it says, or leave voice out"),
        ({"video": "a", "audio": "b", "script": "s", "voice": "v"}, "audio and script exclude each other:"),
        (
            {"video": "a", "audio": "b", "language": "fr"},
            "exclude each other, since a dub takes the video's own",
        ),
        (
            {"video": "a", "audio": "b", "script": "s", "voice": "v", "language": "fr"},
            "audio, script and language exclude",
        ),
        ({"image": "i", "language": "fr"}, "an image has no speech to dub"),
        (
            {"video": "a", "audio": "b", "take": "two"},
            "take is a whole number from 1 to 10,000, and not 'two'",
        ),
        ({"video": "a", "audio": "b", "take": "0"}, "take is a whole number"),
        ({"video": "a", "audio": "b", "take": "\u0663"}, "take is a whole number"),
        ({"video": "a", "audio": "b", "take": "10001"}, "take is a whole number"),
        ({"video": "a", "audio": "b", "take": "1.5"}, "take is a whole number"),
        ({"video": "a", "audio": "b", "take": "9" * 5000}, "take is a whole number"),
        ({"video": "a", "audio": "b", "take": "000000001" + "9" * 5000}, "take is a whole number"),
        ({"video": "a", "audio": "b", "sync_mode": "stretch"}, "sync_mode is one of bounce, loop, cut_off"),
        (
            {"video": "a", "audio": "b", "temperature": "2"},
            "temperature is a number from 0 to 1, and not '2'",
        ),
        ({"video": "a", "audio": "b", "temperature": "nan"}, "temperature is a number from 0 to 1"),
        ({"video": "a", "audio": "b", "reasoning_enabled": "maybe"}, "reasoning_enabled is true or false"),
    ],
)
def test_what_a_row_lacks_or_contradicts_is_told_with_its_line(
    read: Read, row: dict[str, str], told: str
) -> None:
    found = read(f"{','.join(row)}\n\n{','.join(row.values())}\n")
    assert found.lines == []
    assert fault_of(found).startswith("line 3: ")
    assert told in fault_of(found)


def test_all_faults_of_all_rows_are_told_at_once_beside_the_rows_that_are_right(read: Read) -> None:
    found = read("video,language,take\na.mp4,fr,x\n,fr,0\nb.mp4,de,\n")
    assert [fault.partition(":")[0] for fault in found.faults] == ["line 2", "line 3", "line 3"]
    assert [line.video for line in found.lines] == ["b.mp4"]


def test_an_unknown_column_is_told_with_the_name_that_is_near_it(read: Read) -> None:
    found = read("Vidoe;langauge;colour\na;b;c\n")
    typo, other, foreign = found.faults

    assert typo.startswith("line 1: there is no column 'Vidoe'; did you mean 'video'? The columns are video,")
    assert other == "line 1: there is no column 'langauge'; did you mean 'language'?"
    assert foreign == "line 1: there is no column 'colour'."


def test_thousands_of_unknown_columns_are_told_in_a_few_sentences(read: Read) -> None:
    found = read(",".join(f"c{number}" for number in range(3000)) + "\n")
    assert len(found.faults) == 11
    assert found.faults[-1] == "line 1: 2,990 more of its columns are unknown."


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("video,Video ,language\na,b,fr\n", "rows.csv", "line 1: the column video stands there twice."),
        ("video,language\na,fr,c\n", "rows.csv", "line 2: there are 3 cells, and 2 columns"),
        ("video,language,\na,fr,why\n", "rows.csv", "line 2: 'why' stands in a column without a name"),
        ('video,language\n"a,fr\nb,de\n', "rows.csv", "line 2: this row is no CSV (unexpected end of data)"),
        (
            'video,language\n"' + "a" * 200_000 + '",fr\n',
            "rows.csv",
            "line 2: this row is no CSV (field larger",
        ),
        ("", "rows.csv", "line 1: the file is empty"),
        ("\ufeff\n , \n", "rows.csv", "line 1: there is no row below"),
        ("video,language\n\n,\n", "rows.csv", "line 1: there is no row below the names of the columns"),
        (" \n\n", "rows.jsonl", "line 1: the file is empty"),
        ('\n[{"video": "a"}]', "rows.json", "line 1: this is a JSON array: write one object a line"),
        ('\n{"video": "a",}\n', "rows.jsonl", "line 2: this is no JSON (column"),
        ('{"video": "a"}, \n', "rows.jsonl", "line 1: this is no JSON (column 15)"),
        ('{"a":' + "[" * 200_000, "rows.jsonl", "line 1: this is no JSON"),
        ('"a.mp4"\n', "rows.jsonl", "line 1: this is no object"),
        (
            '{"video": 5, "language": "fr"}',
            "rows.jsonl",
            "line 1: video is no text: write it in double quotes",
        ),
        ('{"video": {}, "language": "fr"}', "rows.jsonl", "line 1: video is no text"),
        (
            '{"video": "a", "language": "fr", "take": [1]}',
            "rows.jsonl",
            "line 1: take is neither text nor a num",
        ),
        (
            '{"video": "a", "language": "fr", "take": ' + "9" * 5000 + "}",
            "rows.jsonl",
            "line 1: take is a whole",
        ),
        ('{"video": "a", "language": "fr", "take": true}', "rows.jsonl", "line 1: take is a whole number"),
        ('{"video": "a", "Video": "b"}', "rows.jsonl", "line 1: the column video stands there twice."),
        ('{"vidoe": "a"}', "rows.jsonl", "line 1: there is no column 'vidoe'; did you mean 'video'?"),
        ('{"video": "a", "": "b"}', "rows.jsonl", "line 1: 'b' stands in a column without a name"),
        ('{"video": "a\\u0000", "language": "fr"}', "rows.jsonl", "line 1: there is a NUL, or half of a"),
        ('{"video": "a", "language": "\\ud83d"}', "rows.jsonl", "line 1: there is a NUL, or half of a"),
    ],
)
def test_a_file_that_cannot_be_read_as_rows_says_where_and_why(
    read: Read, content: str, name: str, told: str
) -> None:
    found = read(content, name)
    assert found.lines == []
    assert fault_of(found).startswith(told)


def test_rows_before_one_that_is_no_csv_are_read_and_none_after_it(read: Read) -> None:
    found = read('video,language\na.mp4,fr\n"b" c,de\nd,es\n')
    assert found.lines == [DUBBED]
    assert fault_of(found) == (
        "line 3: this row is no CSV (',' expected after '\"'): a text in double quotes ends with one, and "
        "one within it is doubled. What follows is not read."
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (DUB.encode("utf-16"), 1),
        (DUB.encode("utf-16-le"), 1),
        ("video,language\na.mp4,fr\né.mp4,fr\n".encode("latin-1"), 3),
        (b"\xef\xbb\xbfvideo,language\n\xff", 2),
        (b"video,language\na.mp4,f\0r\n", 2),
        (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\xff", 1),
    ],
)
def test_what_is_no_utf8_says_how_to_save_it_as_such(read: Read, content: bytes, line: int) -> None:
    assert fault_of(read(content)) == (
        f'line {line}: this is no text in UTF-8: save the file as UTF-8, in a spreadsheet as "CSV UTF-8".'
    )


def test_a_fault_shows_little_of_the_file_and_no_signature(read: Read) -> None:
    found = read(
        "https://host/a.mp4?signature=secret,\x1b[31mred\u202e\n",
    )
    mode = read(f"video,audio,prompt\na,b,{'x' * 5000}\n")

    assert "secret" not in "".join(found.faults)
    assert "'red'" in found.faults[1]
    assert len(fault_of(mode)) < 200


def test_five_thousand_rows_are_read_and_one_more_is_too_many(read: Read) -> None:
    row = "a.mp4,fr\n"
    most = read("video,language\n" + row * MOST_ROWS)
    more = read("video,language\n" + row * (MOST_ROWS + 1))

    assert len(lines_of(most)) == MOST_ROWS
    assert more.lines == ()
    assert fault_of(more) == "line 5002: a campaign has at most 5,000 rows: make several of it."


@pytest.mark.parametrize(("head", "name"), [("video,language\n", "rows.csv"), ("", "rows.jsonl")])
def test_rows_that_are_wrong_count_too_and_what_follows_is_not_read(read: Read, head: str, name: str) -> None:
    found = read(head + "{,fr,x\n" * 2 * MOST_ROWS, name)
    assert len(found.faults) <= MOST_ROWS + 2
    assert "at most 5,000 rows" in found.faults[-1]


def test_a_file_larger_than_any_campaigns_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("wb") as file:
        file.truncate(table.MOST_BYTES + 1)

    with pytest.raises(FileRefused, match=r"rows\.csv has more than 50 MB") as caught:
        read_table(path)
    assert caught.value.code == "file_too_large"


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing.csv", "file_not_found"), (".", "file_not_readable"), ("a\0b", "file_not_found")],
)
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(FileRefused) as caught:
        read_table(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.anyio
async def test_what_is_wrong_with_a_file_without_rows_is_told_without_the_api(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("vidoe\na.mp4\n")
    campaigns = Campaigns(Guard(Ledger(tmp_path / "ledger"), Limits()))

    # Nothing listens there.
    async with AsyncSync(api_key="sk_any", base_url="http://127.0.0.1:9", max_retries=0) as sync:
        with pytest.raises(InvalidRequestError, match="there is no column 'vidoe'"):
            await campaigns.plan(sync, source)


# Without a file


def test_clips_and_languages_are_crossed_clip_by_clip() -> None:
    assert cross_languages(["a.mp4", "b.mp4"], ["fr", "de"]) == [
        Line(number=1, is_in_file=False, video="a.mp4", language="fr"),
        Line(number=2, is_in_file=False, video="a.mp4", language="de"),
        Line(number=3, is_in_file=False, video="b.mp4", language="fr"),
        Line(number=4, is_in_file=False, video="b.mp4", language="de"),
    ]


def test_a_script_is_said_by_each_voice_in_each_video_and_image() -> None:
    assert cross_voices(["a.mp4", "b.PNG"], "Hi", ["ada", "bo"]) == [
        Line(number=1, is_in_file=False, video="a.mp4", script="Hi", voice="ada"),
        Line(number=2, is_in_file=False, video="a.mp4", script="Hi", voice="bo"),
        Line(number=3, is_in_file=False, image="b.PNG", script="Hi", voice="ada"),
        Line(number=4, is_in_file=False, image="b.PNG", script="Hi", voice="bo"),
    ]


@pytest.mark.parametrize(
    ("clips", "others"), [(0, 3), (3, 0), (MOST_ROWS + 1, 1), (MOST_ROWS, MOST_ROWS), (2, 2501)]
)
def test_crossed_rows_are_as_many_as_a_file_may_have(clips: int, others: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"1 to 5,000 rows, and these are {clips * others:,}"):
        cross_languages(["a.mp4"] * clips, ["fr"] * others)
    with pytest.raises(InvalidRequestError, match=f"1 to 5,000 rows, and these are {clips * others:,}"):
        cross_voices(["a.mp4"] * clips, "Hi", ["ada"] * others)
