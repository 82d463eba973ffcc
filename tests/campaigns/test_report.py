"""The report of a campaign: a table and a page, of real files, and the pictures on it of real videos."""

import csv
import os
import re
import shutil
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import pytest

from sync_mcp.api.models import Json
from sync_mcp.campaigns.report import Report, is_report, write_report
from sync_mcp.campaigns.rows import Campaign, Money, Row
from sync_mcp.campaigns.sheets import MOST_SHEETS, make_sheets, sheet_path
from sync_mcp.errors import FileRefused
from sync_mcp.media import small_files
from sync_mcp.media.decoding import look
from sync_mcp.sandbox.media.samples import sample

NOW = 1_900_000_000.0
MONEY = Money(planned=Decimal("230.40"), spent=Decimal("38.5"), held=Decimal("31.24"))
HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>"'&\x1b[31m\u202e"""


def campaign(**changes: Any) -> Campaign:
    plan = Campaign(
        id="c-5f0a91",
        account="acct",
        base_url="http://127.0.0.1:8787",
        is_sandbox=False,
        name="course.csv",
        digest="d",
        state="approved",
        total_usd=Decimal("230.40"),
        source="/videos/course.csv",
        folder="",
        created_at=NOW - 60,
    )
    return replace(plan, **changes)


def request_for(*clips: str) -> Json:
    """Return what a row is kept with that has these files."""
    files = [{"input": number, "path": path, "type": "video"} for number, path in enumerate(clips)]
    return cast(Json, {"body": {"model": "sync-3", "input": []}, "files": files})


def row(number: int = 1, **changes: Any) -> Row:
    plan = Row(
        campaign="c-5f0a91",
        number=number,
        about=f"clip-{number}.mp4, dubbed into fr",
        language="fr",
        request=request_for(f"/clips/clip-{number}.mp4"),
        digest=f"d{number}",
        price_usd=Decimal("1.28"),
        output=f"clip-{number}.fr.mp4",
    )
    return replace(plan, **changes)


def saved_row(folder: Path, number: int = 1, name: str | None = None, content: Path | None = None) -> Row:
    path = folder / (name or f"clip-{number}.fr.mp4")
    shutil.copyfile(content or sample("speaking.mp4"), path)
    return row(number, state="saved", saved_as=str(path), cost_usd=Decimal("1.2833"), generation_id="g")


class Page(HTMLParser):
    """What a browser finds in the page."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.html = report.html.read_text(encoding="utf-8")
        self.lines: list[str] = []
        self.feed(self.html)
        self.text = " ".join(" ".join(self.lines).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.lines.append(data)

    def all_of(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def write(folder: Path, *rows: Row, plan: Campaign | None = None) -> Report:
    return write_report(plan or campaign(), rows, MONEY, folder, now=NOW)


def table_of(report: Report) -> list[dict[str, str]]:
    with report.csv.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_columns_of_a_dubbed_folder_behind_row_and_language(tmp_path: Path) -> None:
    report = write(tmp_path, saved_row(tmp_path), row(2, state="refused", error="Too long. Cut it."))
    assert report.csv.read_bytes().startswith(b"\xef\xbb\xbf")
    assert table_of(report) == [
        {
            "row": "1",
            "language": "fr",
            "clip": "clip-1.mp4",
            "take": "1",
            "generation_id": "g",
            "status": "saved",
            "estimate_usd": "1.28",
            "cost_usd": "1.2833",
            "output": "clip-1.fr.mp4",
            "error": "",
        },
        {
            "row": "2",
            "language": "fr",
            "clip": "clip-2.mp4",
            "take": "1",
            "generation_id": "",
            "status": "refused",
            "estimate_usd": "1.28",
            "cost_usd": "",
            "output": "",
            "error": "Too long. Cut it.",
        },
    ]


def test_a_report_is_told_from_another_file_by_that_name(tmp_path: Path) -> None:
    report = write(tmp_path, row())
    assert is_report(report.csv)
    assert is_report(report.html)
    for place in (report.csv, report.html):
        place.write_text("mine", encoding="utf-8")
        assert not is_report(place)
        place.unlink()
        assert not is_report(place)


def test_no_cell_of_the_table_is_a_formula(tmp_path: Path) -> None:
    request = request_for("/clips/=cmd|'calc'!A0.mp4")
    [line] = table_of(write(tmp_path, row(request=request, language="+1", error="@SUM(1)")))
    assert (line["clip"], line["language"], line["error"]) == ("'=cmd|'calc'!A0.mp4", "'+1", "'@SUM(1)")


def test_a_clip_without_a_file_is_called_what_the_row_is_about(tmp_path: Path) -> None:
    [line] = table_of(
        write(tmp_path, row(request=request_for(), about="https://a.example/b.mp4?signature=secret"))
    )
    assert line["clip"] == "https://a.example/b.mp4?..."


def test_the_page_needs_no_script_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = Page(write(tmp_path, saved_row(tmp_path), row(2, state="stuck", error="See https://a.example/")))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert sorted(page.all_of("href")) == ["clip-1.fr.mp4", "clip-1.fr.mp4", "report.csv"]
    assert "url(" not in page.html
    assert "@import" not in page.html
    [policy] = [value for value in page.all_of("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_what_others_wrote_is_text(tmp_path: Path) -> None:
    before = Page(write(tmp_path, row(state="failed", error="x"), plan=campaign(reason="x")))
    hostile = row(about=HOSTILE, language=HOSTILE, state="failed", error=HOSTILE)
    page = Page(write(tmp_path, hostile, plan=campaign(name=HOSTILE, id=HOSTILE, reason=HOSTILE)))
    assert page.tags == before.tags
    assert page.text.count("<img src=x onerror=alert(2)>\"'&") == 6
    assert "\x1b" not in page.html
    assert "\u202e" not in page.html


def test_a_signed_query_does_not_stand_in_the_report(tmp_path: Path) -> None:
    report = write(tmp_path, row(state="failed", error="Look at https://a.example/b?signature=secret now."))
    assert "secret" not in report.html.read_text(encoding="utf-8") + report.csv.read_text(encoding="utf-8")


def test_the_totals_are_the_rows(tmp_path: Path) -> None:
    states = ["planned"] * 5 + ["running"] * 2 + ["made", "failed", "dearer", "dearer", "skipped"]
    page = Page(write(tmp_path, *(row(number + 1, state=state) for number, state in enumerate(states))))
    for told in (
        *("0 Done", "3 Running", "5 Left", "3 Needs you", "1 Skipped"),
        *("waiting for a turn 5", "being made 2", "made, to be fetched 1", "failed, not charged 1"),
        *("dearer than planned, not sent 2", "skipped: stopped before its turn 1", "all 12"),
    ):
        assert told in page.text


def test_each_language_has_a_bar_with_its_rows(tmp_path: Path) -> None:
    rows = [row(1), row(2, state="running"), row(3, language="de"), row(4, language="")]
    page = Page(write(tmp_path, *rows))
    assert "Done Running Left Needs you" in page.text
    for told in ("French 0 1 1 0", "German 0 0 1 0", "No language of its own 0 0 1 0"):
        assert told in page.text
    assert page.all_of("style") == ["flex:1"] * 4


def test_the_money_is_told_with_what_is_left_of_the_budget(tmp_path: Path) -> None:
    page = Page(write(tmp_path, row(), plan=campaign(budget_usd=Decimal(200))))
    for told in ("planned 230.40 USD", "by now 38.50 USD", "cost yet 31.24 USD", "left of it 130.26 USD"):
        assert told in page.text
    assert "SANDBOX" not in page.text


def test_a_passed_budget_is_told_by_how_much(tmp_path: Path) -> None:
    page = Page(write(tmp_path, row(), plan=campaign(budget_usd=Decimal(60))))
    assert "above it 9.74 USD" in page.text


def test_rows_without_a_price_are_told_apart_from_what_is_planned(tmp_path: Path) -> None:
    plan = campaign(max_usd_per_row=Decimal(2))
    page = Page(write(tmp_path, row(), row(2, price_usd=None), plan=plan))
    assert "1 row has no known price" in page.text
    assert "Each may cost 2.00 USD at most." in page.text


def test_a_campaign_on_the_sandbox_says_that_no_real_money_is_in_it(tmp_path: Path) -> None:
    page = Page(write(tmp_path, row(), plan=campaign(is_sandbox=True)))
    assert page.text.count("SANDBOX: no real money") == 2


def test_a_waiting_campaign_says_until_when_and_why(tmp_path: Path) -> None:
    plan = campaign(state="waiting", resumes_at=NOW, reason="The day's budget is spent.")
    assert (
        "Waiting until 2030-03-17T17:46Z. The day's budget is spent." in Page(write(tmp_path, plan=plan)).text
    )


def test_the_newest_rows_that_need_the_user_stand_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    rows = [
        row(number, state="charged", error=f"Reason {number}.", changed_at=number) for number in range(1, 54)
    ]
    page = Page(write(tmp_path, *rows))
    assert "53 rows need you" in page.text
    assert [int(found) for found in re.findall(r"Reason (\d+)\.", page.text)] == list(range(53, 3, -1))
    assert "and 3 more in report.csv" in page.text


def test_a_link_to_a_video_leads_from_the_page_to_it_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    names = ["javascript:alert(1).mp4", "a #1?b=%2e 'é'.mp4"] if os.name == "posix" else ["a #1 'é'.mp4"]
    rows = [saved_row(folder, number, name) for number, name in enumerate(names, 1)]
    links = Page(write(folder, *rows, saved_row(tmp_path, 9))).all_of("href")
    assert all(re.fullmatch(r"[\w./%-]+", link) for link in links)
    found = {(folder / unquote(link)).resolve() for link in links}
    assert {Path(each.saved_as or "").resolve() for each in rows} | {
        (tmp_path / "clip-9.fr.mp4").resolve()
    } < found


def test_a_video_that_is_gone_is_no_link(tmp_path: Path) -> None:
    gone = saved_row(tmp_path)
    (tmp_path / "clip-1.fr.mp4").unlink()
    page = Page(write(tmp_path, gone))
    assert "Its file is not there any more." in page.text
    assert page.all_of("href") == ["report.csv"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_each_saved_video_has_a_picture_in_the_page(tmp_path: Path) -> None:
    rows = [saved_row(tmp_path, 1), saved_row(tmp_path, 2), row(3)]
    assert "No picture yet." in Page(write(tmp_path, *rows)).text
    assert await make_sheets(rows, tmp_path, limit_at_once=2) == 2
    page = Page(write(tmp_path, *rows))
    assert [source[:27] for source in page.all_of("src")] == ["data:image/jpeg;base64,/9j/"] * 2
    assert "No picture" not in page.text


@pytest.mark.anyio
async def test_a_picture_is_drawn_once_for_each_file_as_it_is(tmp_path: Path) -> None:
    rows = [saved_row(tmp_path)]
    assert [await make_sheets(rows, tmp_path), await make_sheets(rows, tmp_path)] == [1, 0]
    os.utime(tmp_path / "clip-1.fr.mp4", (NOW, NOW))
    assert await make_sheets(rows, tmp_path) == 1


@pytest.mark.anyio
async def test_what_cannot_be_drawn_is_tried_once(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"no video")
    rows = [saved_row(tmp_path, content=nonsense)]
    assert [await make_sheets(rows, tmp_path), await make_sheets(rows, tmp_path)] == [1, 0]
    assert "No picture can be drawn of it." in Page(write(tmp_path, *rows)).text


@pytest.mark.anyio
async def test_without_what_decodes_the_page_says_so_and_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_EXTRA", ("no_such_module",))
    rows = [saved_row(tmp_path)]
    assert await make_sheets(rows, tmp_path) == 0
    assert "Install sync-mcp[media] there." in Page(write(tmp_path, *rows)).text


@pytest.mark.anyio
async def test_no_picture_keeps_the_campaign_from_its_work(tmp_path: Path) -> None:
    (tmp_path / ".sheets").write_text("a file in the place of the folder")
    assert await make_sheets([saved_row(tmp_path)], tmp_path) == 0


def test_a_foreign_file_among_the_pictures_is_not_shown(tmp_path: Path) -> None:
    saved = saved_row(tmp_path)
    sheet = sheet_path(saved, tmp_path)
    assert sheet is not None
    sheet.parent.mkdir()
    sheet.write_bytes(b"root:x:0:0:")
    assert not Page(write(tmp_path, saved)).all_of("src")


def test_of_many_videos_the_first_have_pictures_and_the_others_a_line(tmp_path: Path) -> None:
    first = saved_row(tmp_path)
    many = [replace(first, number=number) for number in range(1, MOST_SHEETS + 4)]
    page = Page(write(tmp_path, *many))
    assert page.text.count("No picture yet.") == MOST_SHEETS
    assert "3 more, without a picture" in page.text


def test_five_thousand_rows_with_long_words_are_a_page_that_opens_at_once(tmp_path: Path) -> None:
    first = saved_row(tmp_path)
    long = "very long words " * 20
    rows = [
        replace(first, number=number, about=long, error=long, state="saved" if number % 2 else "failed")
        for number in range(1, 5001)
    ]
    report = write(tmp_path, *rows)
    assert len(table_of(report)) == 5000
    # The pictures of the most rows that have one come on top.
    assert report.html.stat().st_size < 1_000_000


def test_what_was_half_written_never_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write(tmp_path, row())
    before = report.html.read_bytes()

    def full(descriptor: int) -> None:
        assert report.html.read_bytes() == before
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(small_files.os, "fsync", full)
    with pytest.raises(FileRefused) as refused:
        write(tmp_path, row(state="running"))
    assert refused.value.code == "file_not_writable"
    assert report.html.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} - {"home"} == {"report.csv", "report.html"}


def test_a_table_that_cannot_be_replaced_leaves_the_page_new(tmp_path: Path) -> None:
    (tmp_path / "report.csv").mkdir()
    with pytest.raises(FileRefused, match=r"report\.csv is a folder") as refused:
        write(tmp_path, row(about="new.mp4", state="failed"))
    assert str(tmp_path) in refused.value.next_step
    assert "new.mp4" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused) as refused:
        write(tmp_path / "file" / "out", row())
    assert refused.value.code == "file_not_writable"
    assert "may be written to" in refused.value.next_step


def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    assert write(tmp_path / "a" / "b", row()).html.exists()
