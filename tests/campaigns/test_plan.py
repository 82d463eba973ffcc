"""A campaign's plan, of real files and on the sandbox: its rows, and all that is wrong with its lines."""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from anyio.abc import Process
from pydantic import JsonValue

from sync_mcp import AsyncSync, Guard, Ledger, Limits
from sync_mcp.api.languages import LANGUAGES
from sync_mcp.campaigns.campaigns import Campaigns
from sync_mcp.campaigns.outputs import Names, invent_output
from sync_mcp.campaigns.plan import Plan
from sync_mcp.campaigns.table import Line, Table, cross_languages, cross_voices
from sync_mcp.errors import (
    AuthenticationError,
    FileRefused,
    InvalidRequestError,
    ServerError,
)
from sync_mcp.media.decoding import look
from sync_mcp.media.decoding.fork_servers import can_fork
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

pytestmark = pytest.mark.anyio

PlanRows = Callable[..., Awaitable[Plan]]
ESTIMATE = "/v2/generations/estimate"
"""Prices what lies on this machine, by its length."""
ESTIMATE_OF_LINKS = "/v2/analyze/cost"
VOICE = "Ada - calm narrator"
PRICE = Decimal("0.25")
"""Of the speaking sample, dubbed."""
DOWN: JsonValue = {"message": "Try again later."}
READS = ("GET", "HEAD")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a clip that speaks, a sound and a picture."""
    folder = tmp_path / "course"
    folder.mkdir()
    for name, called in (
        ("speaking.mp4", "talk.mp4"),
        ("speech.wav", "voice.wav"),
        ("speaker.jpg", "face.jpg"),
    ):
        shutil.copy(sample(name), folder / called)
    return folder


@pytest.fixture
def campaigns(ledger: Ledger) -> Campaigns:
    return Campaigns(Guard(ledger, Limits()))


@pytest.fixture
async def sync(sandbox: Sandbox, campaigns: Campaigns) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key="sk_plan", base_url=sandbox.url, guard=campaigns.guard) as sync:
        yield sync


@pytest.fixture
def plan(folder: Path, campaigns: Campaigns, sync: AsyncSync) -> PlanRows:
    """What plans a file with these lines of CSV, or of JSON where they are objects."""

    async def plan(*rows: str | dict[str, object], **terms: Any) -> Plan:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = folder / ("rows.csv" if isinstance(rows[0], str) else "rows.jsonl")
        path.write_text("\n".join(lines), "utf-8")
        return await campaigns.plan(sync, path, **terms)

    return plan


async def faults_of(planned: Awaitable[Plan]) -> list[str]:
    with pytest.raises(InvalidRequestError) as raised:
        await planned
    return list(raised.value.faults)


def sent(sandbox: Sandbox) -> list[str]:
    """Return what was asked of the sandbox beside reads and prices."""
    return [
        f"{request.method} {request.path}"
        for request in sandbox.requests
        if request.method not in READS and request.path not in (ESTIMATE, ESTIMATE_OF_LINKS)
    ]


# Rows


async def test_a_clip_is_a_path_a_url_or_an_asset(
    plan: PlanRows, sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    asset = await sync.assets.upload(folder / "talk.mp4")
    planned = await plan(
        "video,language,output",
        "talk.mp4,fr,path",
        f"{folder / 'talk.mp4'},fr,whole path",
        f"{(folder / 'talk.mp4').as_uri()},es,file url",
        f"{sandbox.samples.speaking},fr,url",
        f"asset:{asset.id},fr,asset",
        f"{asset.id},es,asset id",
    )

    wanted = [(body_of(row)["url"], body_of(row)["assetId"], len(files_of(row))) for row in planned.rows]
    content = f"sha256:{files_of(planned.rows[0])[0]['sha256']}"
    assert wanted == [
        (None, content, 1),
        (None, content, 1),
        (None, content, 1),
        (sandbox.samples.speaking, None, 0),
        (None, asset.id, 0),
        (None, asset.id, 0),
    ]


def body_of(row: Any) -> dict[str, Any]:
    (item,) = row.request["body"]["input"]
    return {"url": None, "assetId": None, **item}


def files_of(row: Any) -> list[dict[str, Any]]:
    return row.request["files"]


async def test_each_kind_of_row_has_its_request_and_its_price(plan: PlanRows, sandbox: Sandbox) -> None:
    planned = await plan(
        "video;image;audio;script;voice;language;model;sync_mode;take",
        "talk.mp4;;;;;French;;;",
        "talk.mp4;;voice.wav;;;;lipsync-2-pro;loop;2",
        f"talk.mp4;;;Good morning.;{VOICE};;;;",
        ";face.jpg;voice.wav;;;;;;",
    )

    bodies = [row.request["body"] for row in planned.rows]
    assert [(body["model"], [item["type"] for item in body["input"]]) for body in bodies] == [
        ("lipsync-2", ["video"]),
        ("lipsync-2-pro", ["video", "audio"]),
        ("lipsync-2", ["video", "text"]),
        ("sync-3", ["image", "audio"]),
    ]
    assert bodies[0]["dubParams"]["targetLang"] == "fr"
    assert bodies[1]["options"] == {"sync_mode": "loop"}
    assert [(row.line, row.language, row.take) for row in planned.rows] == [
        (2, "fr", 1),
        (3, "", 2),
        (4, "", 1),
        (5, "", 1),
    ]
    assert all(row.price_usd is not None and row.price_usd > 0 for row in planned.rows)
    assert planned.campaign.total_usd == sum(row.price_usd or 0 for row in planned.rows)
    assert sent(sandbox) == []


async def test_a_voice_is_named_or_told_by_its_id(plan: PlanRows, sync: AsyncSync) -> None:
    voice = next(voice for voice in await sync.voices.list() if voice.name == VOICE)
    planned = await plan("video,script,voice", f"talk.mp4,Hello,{VOICE.upper()}", f"talk.mp4,Bye,{voice.id}")
    spoken = [row.request["body"]["input"][1] for row in planned.rows]
    assert [item["provider"]["voiceId"] for item in spoken] == [voice.id, voice.id]


async def test_clips_are_crossed_with_languages_and_with_voices(
    campaigns: Campaigns, sync: AsyncSync, folder: Path
) -> None:
    clip = str(folder / "talk.mp4")
    dubs = await campaigns.plan(sync, folder, table=Table(cross_languages([clip], ["fr", "German"])))
    spoken = await campaigns.plan(
        sync, folder, table=Table(cross_voices([clip], "Hello", [VOICE, "Felix - calm narrator"]))
    )

    assert [(row.language, row.output, row.line) for row in dubs.rows] == [
        ("fr", "talk.fr.mp4", None),
        ("de", "talk.de.mp4", None),
    ]
    assert [row.output for row in spoken.rows] == [f"talk.{VOICE}.mp4", "talk.Felix - calm narrator.mp4"]


async def test_what_is_wrong_with_crossed_clips_is_told_by_rows(
    campaigns: Campaigns, sync: AsyncSync, folder: Path
) -> None:
    clips = [str(folder / "talk.mp4"), str(folder / "gone.mp4")]
    faults = await faults_of(
        campaigns.plan(sync, folder, table=Table(cross_languages(clips, ["fr", "klingon"])))
    )
    assert [fault.partition(":")[0] for fault in faults] == ["rows 2 and 4", "rows 3-4"]


async def test_no_rows_and_too_many_are_no_campaign(
    campaigns: Campaigns, sync: AsyncSync, folder: Path
) -> None:
    many = [Line(number=number, video="talk.mp4", language="fr") for number in range(5001)]
    for lines in ([], many):
        assert await faults_of(campaigns.plan(sync, folder, table=Table(lines))) == [
            f"A campaign has 1 to 5,000 rows, and these are {len(lines):,}."
        ]


async def test_relative_paths_lie_beside_the_file(
    plan: PlanRows, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lesson 1").mkdir()
    (folder / "talk.mp4").rename(folder / "lesson 1" / "one.mp4")
    monkeypatch.chdir(tmp_path)
    planned = await plan("video,language", "lesson 1/one.mp4,fr", "./lesson 1/one.mp4,es")
    assert [Path(files_of(row)[0]["path"]) for row in planned.rows] == [folder / "lesson 1" / "one.mp4"] * 2


async def test_each_local_file_is_read_once_however_many_rows_use_it(
    plan: PlanRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: dict[str, list[InputFile]] = {}
    read = LocalReader.read

    async def note(self: LocalReader, path: str, *given: Any, **named: Any) -> InputFile:
        media = await read(self, path, *given, **named)
        reads.setdefault(Path(path).name, []).append(media)
        return media

    monkeypatch.setattr(LocalReader, "read", note)
    planned = await plan(
        "video,audio,language,take",
        *(f"talk.mp4,,{language},1" for language in ("fr", "de", "es")),
        *(f"talk.mp4,voice.wav,,{take}" for take in range(1, 4)),
    )

    assert len(planned.rows) == 6
    assert {name: len(found) for name, found in reads.items()} == {"talk.mp4": 1, "voice.wav": 1}
    # A plan of thousands keeps none of them open.
    assert all(media.file.closed for found in reads.values() for media in found)


@pytest.mark.skipif(not can_fork(), reason="nothing is forked on this system")
async def test_many_files_are_looked_at_by_two_servers_which_end_with_the_plan(
    plan: PlanRows, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = look._start, list[tuple[Sequence[str], Process]]()  # pyright: ignore[reportPrivateUsage]

    async def start(program: Sequence[str], stdin: int) -> Process:
        begun.append((program, await begin(program, stdin)))
        return begun[-1][1]

    monkeypatch.setattr(look, "_start", start)
    for number in range(4):
        with (folder / f"clip-{number}.mp4").open("wb") as clip:
            clip.write((folder / "talk.mp4").read_bytes() + b"\0\0\0\x09free%d" % number)

    planned = await plan("video,language", *(f"clip-{number}.mp4,fr" for number in range(4)))

    assert len(planned.rows) == 4
    assert {tuple(program) for program, _ in begun} == {("sync_mcp.media.decoding.fork_server",)}
    assert [process.returncode for _, process in begun] in ([0], [0, 0])


async def test_progress_is_told_of_files_and_of_prices(plan: PlanRows) -> None:
    told: list[tuple[str, int, int]] = []

    def note(what: str, done: int, of: int) -> None:
        told.append((what, done, of))

    await plan("video,language", "talk.mp4,fr", "talk.mp4,es", on_progress=note)
    assert told == [("files", 1, 1), ("prices", 1, 2), ("prices", 2, 2)]


# One job


async def test_the_same_row_twice_is_one_job_and_said_so(plan: PlanRows) -> None:
    planned = await plan("video,language", "talk.mp4,fr", "talk.mp4,es", "./talk.mp4,French")
    assert [(row.number, row.line, row.language) for row in planned.rows] == [(1, 2, "fr"), (2, 3, "es")]
    assert planned.notes == ["Line 4 asks for the video of line 2: it is made once."]
    assert planned.campaign.total_usd == 2 * PRICE


async def test_one_video_under_two_names_is_one_job_and_said_so(plan: PlanRows) -> None:
    planned = await plan("video,language,output", "talk.mp4,fr,a", "talk.mp4,fr,b", "talk.mp4,fr,")
    assert [row.output for row in planned.rows] == ["a.mp4", "b.mp4"]
    assert len({row.digest for row in planned.rows}) == 1
    assert planned.notes == [
        "Line 3 asks for the video of line 2: it is made once, and saved under both names.",
        "Line 4 asks for the video of line 2: it is made once.",
    ]
    assert planned.campaign.total_usd == PRICE


async def test_many_rows_that_are_one_are_told_in_a_few_sentences(plan: PlanRows) -> None:
    planned = await plan("video,language", *["talk.mp4,fr"] * 30)
    assert len(planned.rows) == 1
    assert len(planned.notes) == 5
    assert planned.notes[-1] == "So it is with 25 more."


async def test_another_take_is_another_job(plan: PlanRows) -> None:
    planned = await plan("video,language,take", "talk.mp4,fr,1", "talk.mp4,fr,2")
    assert [row.output for row in planned.rows] == ["talk.fr.mp4", "talk.fr.take2.mp4"]
    assert len({row.digest for row in planned.rows}) == 2


# Outputs


async def test_videos_of_one_name_are_numbered_and_leave_the_names_that_are_asked_for(
    plan: PlanRows, folder: Path
) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "TALK.mp4").write_bytes((folder / "talk.mp4").read_bytes() + b"\0\0\0\x08free")
    planned = await plan(
        "video,language,model,output",
        "talk.mp4,fr,,",
        "talk.mp4,fr,lipsync-2-pro,",
        "b/TALK.mp4,fr,,",
        "talk.mp4,es,,Talk.fr-2",
    )
    assert [row.output for row in planned.rows] == [
        "talk.fr.mp4",
        "talk.fr-3.mp4",
        "TALK.fr-4.mp4",
        "Talk.fr-2.mp4",
    ]


async def test_an_output_twice_or_in_a_folder_is_a_fault(plan: PlanRows) -> None:
    faults = await faults_of(
        plan(
            "video,language,output",
            "talk.mp4,fr,one",
            "talk.mp4,es,ONE.mp4",
            "talk.mp4,de,sub/one.mp4",
            "talk.mp4,it,..\\one.mp4",
            "talk.mp4,pt,.hidden",
            "talk.mp4,pl,nul",
            f"talk.mp4,nl,{'x' * 300}",
        )
    )
    assert faults[0] == "line 3: output ONE.mp4 is that of line 2 too: give each its own."
    assert [fault.partition(":")[0] for fault in faults] == [f"line {number}" for number in range(3, 9)]
    assert all("is no plain file name" in fault for fault in faults[1:3])
    assert "is hidden" in faults[3]
    assert "a device on Windows" in faults[4]
    assert "is too long" in faults[5]


async def test_an_output_may_have_letters_of_any_script(plan: PlanRows) -> None:
    planned = await plan(
        "video,language,output",
        "talk.mp4,fr,Le\u0301c\u0327on 1 (v2)",
        "talk.mp4,hi,हिन्दी",
        "talk.mp4,ja,日本語",
    )
    assert [row.output for row in planned.rows] == ["L\u00e9\u00e7on 1 (v2).mp4", "हिन्दी.mp4", "日本語.mp4"]


@pytest.mark.parametrize(
    ("clip", "output"),
    [
        ("nul.mp4", "video-nul.fr.mp4"),
        ("日" * 80 + ".mp4", "日" * 30 + ".fr.mp4"),
        ("=cmd|x.mp4", "_cmd_x.fr.mp4"),
        ("...mp4", "video.fr.mp4"),
        ("..-1.mp4", "1.fr.mp4"),
    ],
)
def test_a_video_gets_a_name_that_every_disk_takes_whatever_its_clip_is_called(
    clip: str, output: str
) -> None:
    assert Names([]).find_free(invent_output(Line(number=2, video=clip, language="fr"), "fr")) == output


# Faults


async def test_all_that_is_wrong_is_told_at_once_before_anything_is_uploaded(
    plan: PlanRows, sandbox: Sandbox, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.mp4"
    shutil.copy(sample("speaking.mp4"), outside)
    faults = await faults_of(
        plan(
            "video;image;audio;script;voice;language;model;sync_mode;take;output",
            "talk.mp4;;;;;fr;;;;",
            "gone.mp4;;;;;fr;;;;",
            f"{outside};;;;;fr;;;;",
            "talk.mp4;;;;;frnch;;;;",
            "talk.mp4;;;Hello;Ada - calm narator;;;;;",
            "talk.mp4;;voice.wav;;;;lipsink-2;;;",
            "talk.mp4;;voice.wav;;;;;sideways;;",
            "talk.mp4;;voice.wav;;;;;;none;",
            "talk.mp4;;;Hello;;;;;;",
            "talk.mp4;face.jpg;voice.wav;;;;;;;",
            "voice.wav;;;;;fr;;;;",
            "talk.mp4;;;;;es;;;;a/b",
        )
    )
    found = {
        3: ["video: ", "gone.mp4 is not there"],
        4: ["video: ", "outside.mp4 is not in a folder that may be read"],
        5: ["language 'frnch'", "did you mean 'fr' (French)?"],
        6: ["voice 'Ada - calm narator' is no voice of this account; did you mean 'Ada - calm narrator'"],
        7: ["There is no model 'lipsink-2'; did you mean 'lipsync-2'"],
        8: ["sync_mode is one of bounce, loop", "'sideways'"],
        9: ["take is a whole number"],
        10: ["the script has no voice"],
        11: ["video and image are both named"],
        12: ["video: ", "voice.wav"],
        13: ["output 'a/b' is no plain file name"],
    }
    assert [fault.partition(":")[0] for fault in faults] == [f"line {number}" for number in found]
    for fault, words in zip(faults, found.values(), strict=True):
        assert all(word in fault for word in words), fault
    assert sent(sandbox) == []
    assert sandbox.charges == []


async def test_several_faults_of_one_row_are_told_together(plan: PlanRows) -> None:
    faults = await faults_of(
        plan({"video": "gone.mp4", "script": "Hi", "voice": "Nobody", "model": "none", "output": "a/b"})
    )
    assert len(faults) == 4
    assert all(fault.startswith("line 1: ") for fault in faults)


async def test_what_the_api_says_of_other_rows_is_told_beside(plan: PlanRows, sandbox: Sandbox) -> None:
    faults = await faults_of(
        plan(
            "video,language",
            "gone.mp4,fr",
            "asset:00000000-0000-4000-8000-000000000000,fr",
            f"{sandbox.url}/samples/nothing.mp4,fr",
        )
    )
    assert [fault.partition(":")[0] for fault in faults] == ["line 2", "line 3", "line 4"]
    assert "no such asset" in faults[1]
    assert faults[2].startswith("line 4: video: ")


async def test_what_is_wrong_with_many_lines_is_told_once_with_their_numbers(plan: PlanRows) -> None:
    lines = ["talk.mp4,xx" if number % 3 else "talk.mp4,klingon" for number in range(60)]
    klingon, other = await faults_of(plan("video,language", *lines))
    assert klingon.startswith("lines 2, 5, 8, 11, 14, 17, 20, 23 and 12 more: language 'klingon'")
    assert other.startswith("lines 3-4, 6-7, 9-10, 12-13, 15-16, 18-19, 21-22, 24-25 and 24 more: ")


async def test_more_than_twenty_faults_are_counted(plan: PlanRows) -> None:
    faults = await faults_of(plan("video,language", *(f"{number}.mp4,fr" for number in range(30))))
    assert len(faults) == 20
    assert faults[-1] == "and 11 more."


async def test_a_long_list_of_languages_is_left_out_of_a_fault(plan: PlanRows) -> None:
    (fault,) = await faults_of(plan("video,language", "talk.mp4,klingon"))
    assert fault == (
        "line 2: language 'klingon' is no language that the API dubs: give its code, such as es, or its "
        "English name."
    )
    assert " ".join(LANGUAGES) not in fault


ODD = (
    "=cmd|' /C calc'!A0",
    "\udcff",
    "a\0b",
    "http://[",
    "https://a b/c.mp4",
    "ftp://a/b",
    "https://user:secret99@127.0.0.1/x.mp4",
    "file:///etc/passwd",
    "~nobody/x",
    "/",
    "..",
    "x" * 5000,
    "\u202egpj.mp4",
    "asset:",
    "asset:sha256:0",
    "C:\\a\\b.mp4",
    "\\\\server\\x",
    "data:video/mp4;base64,AA",
    "\U0001f4a5",
    "nul",
)


@pytest.mark.parametrize("column", ["video", "audio", "voice", "language", "model", "output"])
async def test_odd_letters_in_any_cell_are_a_fault_of_their_line_and_nothing_worse(
    campaigns: Campaigns, sync: AsyncSync, folder: Path, sandbox: Sandbox, column: str
) -> None:
    others: dict[str, dict[str, Any]] = {
        "audio": {"video": "talk.mp4"},
        "voice": {"video": "talk.mp4", "script": "Hi"},
    }
    given = others.get(column, {"video": "talk.mp4", "language": "fr"})
    cells: list[dict[str, Any]] = [{**given, column: odd} for odd in ODD]
    lines = [Line(number=number, **each) for number, each in enumerate(cells, 1)]
    rows = await faults_of(campaigns.plan(sync, folder / "rows.csv", table=Table(lines)))

    told = " ".join(rows)
    assert not any(0xD800 <= ord(letter) <= 0xDFFF or letter == "\0" for letter in told)
    assert "secret99" not in told
    assert max(map(len, rows)) < 700
    assert sent(sandbox) == []


async def test_a_script_whose_letters_are_no_text_is_a_fault(
    campaigns: Campaigns, sync: AsyncSync, folder: Path
) -> None:
    clip = str(folder / "talk.mp4")
    for script in ("a\0b", "\udcff"):
        (fault,) = await faults_of(
            campaigns.plan(sync, folder, table=Table(cross_voices([clip], script, [VOICE])))
        )
        assert fault == "row 1: script has letters in it that are no text: write it anew."


async def test_a_formula_in_a_script_is_said_as_it_is_written(plan: PlanRows) -> None:
    planned = await plan("video,script,voice", f"talk.mp4,=1+1,{VOICE}")
    assert planned.rows[0].request["body"]["input"][1]["provider"]["script"] == "=1+1"


async def test_a_file_or_a_folder_whose_name_is_no_text_is_refused(
    campaigns: Campaigns, sync: AsyncSync, folder: Path
) -> None:
    rows = cross_languages([str(folder / "talk.mp4")], ["fr"])
    with pytest.raises(FileRefused, match="no text"):
        await campaigns.plan(sync, folder, table=Table(rows), output=folder / "\udcff")
    with pytest.raises(FileRefused, match="Nobody knows where"):
        await campaigns.plan(sync, "~nobody-by-that-name/rows.csv")


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal(-5), Decimal("1e30"), 2.5])
@pytest.mark.parametrize("name", ["budget_usd", "max_usd_per_row"])
async def test_an_amount_that_is_none_is_told_before_anything_is_asked(
    plan: PlanRows, sandbox: Sandbox, name: str, amount: object
) -> None:
    [fault] = await faults_of(plan("video,language", "talk.mp4,fr", **{name: amount}))
    assert fault.startswith(f"{name} must be a Decimal of US dollars from 0 to ")
    assert sandbox.requests == []


@pytest.mark.parametrize("output", ["", "talk.mp4", "talk.mp4/below", "x" * 300, "a\0b"])
async def test_a_folder_that_cannot_be_is_told_before_anything_is_read_or_asked(
    plan: PlanRows, folder: Path, sandbox: Sandbox, output: str
) -> None:
    with pytest.raises(FileRefused, match="No video can be saved in") as raised:
        await plan("video,language", "none.mp4,fr", output=output and str(folder / output))
    assert raised.value.code == "file_not_writable"
    assert sandbox.requests == []


async def test_a_report_that_is_no_campaign_s_is_not_written_over(
    plan: PlanRows, campaigns: Campaigns, folder: Path
) -> None:
    rows = ("video,language", "talk.mp4,fr")
    (folder / "report.html").write_text("mine", "utf-8")
    [fault] = await faults_of(plan(*rows, output=folder))
    assert fault.startswith("report.html is in ")
    assert fault.endswith(" already, and is no report of a campaign.")
    (folder / "report.html").unlink()
    planned = await plan(*rows, output=folder)
    await campaigns.report(planned.campaign.id)
    assert (await campaigns.approve(planned.campaign.id)).state == "approved"


# Prices


async def test_a_price_that_cannot_be_told_now_ends_the_plan(plan: PlanRows, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=ESTIMATE, status=503, body=DOWN, times=None))
    with pytest.raises(ServerError) as raised:
        await plan("video,language", "talk.mp4,fr", "talk.mp4,es", max_usd_per_row=Decimal(1))
    assert raised.value.retryable


async def test_what_is_wrong_with_lines_goes_before_what_cannot_be_told_now(
    plan: PlanRows, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/*", status=503, body=DOWN, times=None))
    faults = await faults_of(
        plan("video,language,script,voice", "talk.mp4,fr,,", "gone.mp4,fr,,", "talk.mp4,,Hi,Nobody")
    )
    assert [fault.partition(":")[0] for fault in faults] == ["line 3"]


async def test_voices_and_models_that_cannot_be_listed_now_end_the_plan(
    plan: PlanRows, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/voices*", status=503, body=DOWN, times=None))
    sandbox.add_fault(Fault(path="/v2/models*", status=503, body=DOWN, times=None))
    with pytest.raises(ServerError):
        await plan("video,script,voice", f"talk.mp4,Hi,{VOICE}")
    with pytest.raises(ServerError):
        await plan("video,language,model", "talk.mp4,fr,lipsync-9")


async def test_a_key_that_is_wrong_ends_the_plan(plan: PlanRows, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path="/v2/*", status=401, body={"message": "Unauthorized"}, times=None))
    with pytest.raises(AuthenticationError):
        await plan("video,language", "talk.mp4,fr")


async def test_a_price_is_asked_for_again_where_the_api_is_asked_too_often(
    plan: PlanRows, sandbox: Sandbox
) -> None:
    often = Fault(path=ESTIMATE, status=429, body=DOWN, times=6, headers={"Retry-After": "0"})
    sandbox.add_fault(often)
    planned = await plan("video,language", "talk.mp4,fr")
    assert planned.rows[0].price_usd == PRICE


async def test_a_price_that_nobody_knows_is_a_fault(plan: PlanRows, sandbox: Sandbox) -> None:
    unpriced(sandbox)
    (fault,) = await faults_of(plan("video,language", "talk.mp4,fr", "talk.mp4,es"))
    assert fault.startswith("lines 2-3: its price is not known")
    assert fault.endswith("Say what such a row may cost: max_usd_per_row (--max-usd-per-row).")


async def test_rows_that_cost_more_than_one_job_may_are_told_with_the_plan(
    folder: Path, campaigns: Campaigns, sync: AsyncSync
) -> None:
    (folder / "rows.csv").write_text("video,audio\ntalk.mp4,voice.wav\n", "utf-8")
    for most, notes in (
        ("0.01", ["1 row costs more than one job may, 0.01 USD, and will not be made."]),
        ("9", []),
    ):
        limited = Campaigns(Guard(campaigns.guard.ledger, Limits(per_job_usd=Decimal(most))))
        planned = await limited.plan(sync, folder / "rows.csv")
        assert list(planned.notes) == notes


async def test_a_row_without_a_known_price_counts_what_it_may_cost(plan: PlanRows, sandbox: Sandbox) -> None:
    unpriced(sandbox)
    planned = await plan("video,language", "talk.mp4,fr", "talk.mp4,es", max_usd_per_row=Decimal("1.5"))
    assert [row.price_usd for row in planned.rows] == [None, None]
    assert planned.campaign.total_usd == 3
    (note,) = planned.notes
    assert note.startswith("2 rows without a known price each count 1.50 USD")


def unpriced(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=ESTIMATE, status=200, body={"estimatedFrameCount": 1}, times=None))


# Kept


@pytest.mark.parametrize("name", ["sub/../videos", "link"])
async def test_a_folder_is_the_same_by_each_of_its_names(plan: PlanRows, folder: Path, name: str) -> None:
    for made in ("sub", "videos"):
        (folder / made).mkdir()
    (folder / "link").symlink_to(folder / "videos", target_is_directory=True)
    first = await plan("video,language", "talk.mp4,fr", output=folder / "videos")
    again = await plan("video,language", "talk.mp4,fr", output=folder / name)
    assert again.campaign.id == first.campaign.id


async def test_the_same_plan_again_is_the_one_that_was_kept(plan: PlanRows, campaigns: Campaigns) -> None:
    first = await plan("video,language", "talk.mp4,fr", "talk.mp4,es")
    again = await plan("video,language", "talk.mp4,fr", "talk.mp4,es")
    assert again.campaign.id == first.campaign.id
    assert {row.campaign for row in again.rows} == {first.campaign.id}
    assert len(campaigns.book.list_campaigns()) == 1


@pytest.mark.parametrize("change", ["row", "output", "most"])
async def test_what_the_user_would_agree_to_anew_is_another_plan(
    plan: PlanRows, sandbox: Sandbox, change: str
) -> None:
    unpriced(sandbox)
    rows = ["talk.mp4,fr,", "talk.mp4,es,"]
    first = await plan("video,language,output", *rows, max_usd_per_row=Decimal(1))
    if change == "row":
        rows[1] = "talk.mp4,de,"
    elif change == "output":
        rows[1] += "spanish"
    most = Decimal(2) if change == "most" else Decimal(1)
    other = await plan("video,language,output", *rows, max_usd_per_row=most)
    assert other.campaign.digest != first.campaign.digest
    assert other.campaign.id != first.campaign.id
