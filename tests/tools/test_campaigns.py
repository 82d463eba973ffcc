"""The toolset `campaigns`: planned within the server's folders, agreed to once, made while it runs."""

import json
import re
import shutil
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext

from sync_mcp import AsyncSync, Campaigns, Guard, Ledger, Limits, Settings, create_server
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.tools.campaigns import TOOLS
from tests.api.conftest import until
from tests.bench.words import listing_bytes

from .assistant import Assistant, Told

pytestmark = pytest.mark.anyio
Serving = Callable[..., AbstractAsyncContextManager[Assistant]]
LARGEST_ANSWER = 1_500
"""Bytes of an answer, without the sandbox's mark."""


class Person:
    """Who is asked by a form, and what they were asked."""

    def __init__(self) -> None:
        self.says = "accept"
        self.asked: list[str] = []

    async def answer(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the SDK's own signature
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult.model_validate({"action": self.says, "content": {}})


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setattr("sync_mcp.tools.question.AT_ONCE_SECONDS", 0.0)
    return Person()


@pytest.fixture
def clips(tmp_path: Path, sandbox: Sandbox) -> Path:
    """A folder that the server may read, with three clips and a file of rows for them."""
    sandbox.configure(job_seconds=0.2)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(1, 4):
        # Another content each, by an empty box at its end.
        box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / f"clip{number}.mp4").write_bytes(sample("speaking.mp4").read_bytes() + box)
    rows = "".join(f"clip{number}.mp4,{language}\n" for number, language in ((1, "fr"), (2, "de"), (3, "es")))
    (folder / "course.csv").write_text(f"video,language\n{rows}", encoding="utf-8")
    return folder


@pytest.fixture
def serving(sandbox: Sandbox, clips: Path, tmp_path: Path, person: Person) -> Serving:
    """Connect to a server on one ledger, from a host that asks `person` or, without `forms`, nobody."""

    @asynccontextmanager
    async def connect(*, forms: bool = False, mode: str = "legacy", **more: Any) -> AsyncGenerator[Assistant]:
        chosen: dict[str, Any] = {
            "toolsets": ("campaigns",),
            "approve_above_usd": Decimal(1000),
            "home": str(tmp_path / "home"),
            "api_key": "any",
            "base_url": sandbox.url,
            "media_roots": (clips,),
            "download_dir": tmp_path / "downloads",
            **more,
        }
        server = create_server(Settings.model_validate(chosen))
        callback = person.answer if forms else None
        async with Client(
            server, mode=mode, elicitation_callback=callback, read_timeout_seconds=60
        ) as client:
            yield Assistant(client)

    return connect


def _word_in(told: Told) -> str:
    found = re.search(r'with quote_id "([0-9a-f]{8})"', told.text)
    assert found, told.text
    return found[1]


def _put_link(place: Path, target: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(target)


async def _wait(assistant: Assistant, id: str) -> dict[str, Any]:
    while True:
        told = await assistant.facts("get_campaign", campaign_id=id, wait_seconds=30)
        if told["state"] != "approved":
            return told


async def test_a_file_of_rows_is_planned_agreed_to_once_and_each_row_paid_once_and_saved(
    serving: Serving, clips: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with serving() as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        assert (planned["rows"], planned["planned_usd"]) == (3, 0.75)
        assert sandbox.charges == []
        id = planned["campaign_id"]
        started = await assistant.facts("start_campaign", campaign_id=id, quote_id=planned["quote_id"])
        assert started["state"] == "approved"
        ended = await _wait(assistant, id)
        assert (ended["state"], ended["saved"]) == ("ended", 3)
        assert "All is saved: tell the user" in ended["next_step"]
        # The report is written once it is known what the last of them has cost.
        while "report_path" not in ended:
            assert ended["folder"] == planned["folder"]
            ended = await assistant.facts("get_campaign", campaign_id=id)
        assert ended["spent_usd"] + ended.get("held_usd", 0) == 0.75
        assert "tell the user where the report lies" in ended["next_step"]
        # Once more, there is nothing to do, and nobody is asked.
        again = await assistant.facts("start_campaign", campaign_id=id)
        assert again["state"] == "ended"
    folder = tmp_path / "downloads" / "course-sandbox-videos"
    assert str(folder) == planned["folder"]
    saved = ["clip1.fr.mp4", "clip2.de.mp4", "clip3.es.mp4"]
    assert sorted(path.name for path in folder.glob("*.mp4")) == saved
    assert ended["report_path"] == str(folder / "report.html")
    assert len({charge.idempotency_key for charge in sandbox.charges}) == len(sandbox.charges) == 3


async def test_clips_in_languages_and_clips_with_voices_need_no_file(serving: Serving, clips: Path) -> None:
    both = [str(clips / "clip1.mp4"), str(clips / "clip2.mp4")]
    async with serving() as assistant:
        dubs = await assistant.facts("plan_campaign", clips=both, languages=["fr", "German"], name="Two")
        assert (dubs["rows"], dubs["name"]) == (4, "Two")
        said = await assistant.facts("plan_campaign", clips=both, script="Hello.", voices=["My own voice"])
        assert said["rows"] == 2
        told = await assistant.error("plan_campaign", clips=both, languages=["fr"], script="Hello.")
        assert "languages, or script and voices: one of the two" in told.text
        told = await assistant.error("plan_campaign", clips=both, file=str(clips / "course.csv"))
        assert "Give file, or clips" in told.text


@pytest.mark.parametrize("way", ["file", "cell", "clip", "folder"])
async def test_nothing_outside_the_server_s_folders_is_read_or_written(
    serving: Serving, clips: Path, sandbox: Sandbox, tmp_path: Path, way: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(clips / "clip1.mp4", outside / "clip1.mp4")
    shutil.copy(clips / "course.csv", outside / "course.csv")
    rows = f"../outside/clip1.mp4,fr\n{outside}/clip1.mp4,fr\n"
    (clips / "sly.csv").write_text(f"video,language\n{rows}", encoding="utf-8")
    arguments: dict[str, Any] = {
        "file": {"file": str(outside / "course.csv")},
        "cell": {"file": str(clips / "sly.csv")},
        "clip": {"clips": [str(outside / "clip1.mp4")], "languages": ["fr"]},
        "folder": {"file": str(clips / "course.csv"), "folder": str(outside)},
    }[way]
    async with serving() as assistant:
        told = await assistant.error("plan_campaign", arguments)
    assert "is not in a folder that may be" in told.text
    assert not any(request.method == "POST" for request in sandbox.requests)
    assert sorted(path.name for path in outside.iterdir()) == ["clip1.mp4", "course.csv"]


async def test_all_that_is_wrong_is_told_by_the_numbers_of_the_lines_and_nothing_is_uploaded(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    (clips / "bad.csv").write_text("video,language\nclip1.mp4,Klingon\nnone.mp4,fr\n", encoding="utf-8")
    async with serving() as assistant:
        told = await assistant.error("plan_campaign", file=str(clips / "bad.csv"))
    assert "line 2: language 'Klingon'" in told.text
    assert "line 3: video: " in told.text
    assert not any(request.path.startswith("/v2/assets") for request in sandbox.requests)


async def test_without_the_user_s_word_nothing_is_paid(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    async with serving() as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        id = planned["campaign_id"]
        told = await assistant.error("start_campaign", campaign_id=id)
        assert told.code == "approval_required"
        assert "Make and pay for 3 videos, about 0.75 USD together?" in told.text
        assert '"clip2.mp4, dubbed into de": about 0.25 USD' in told.text
        assert _word_in(told) == planned["quote_id"]
        told = await assistant.error("start_campaign", campaign_id=id, quote_id="00000000")
        assert told.code == "approval_required"
        # The word for one plan is none for another.
        other = await assistant.facts(
            "plan_campaign", clips=[str(clips / "clip1.mp4")], languages=["es"], folder=str(clips / "made")
        )
        told = await assistant.error(
            "start_campaign", campaign_id=other["campaign_id"], quote_id=planned["quote_id"]
        )
        assert told.code == "approval_required"
    assert sandbox.charges == []


async def test_a_plan_that_nobody_can_agree_to_says_so_and_hands_out_no_quote(
    serving: Serving, clips: Path
) -> None:
    rows = str(clips / "course.csv")
    async with serving(approve_by="user") as assistant:
        planned = await assistant.facts("plan_campaign", file=rows)
    assert "quote_id" not in planned
    assert (
        "start_campaign would refuse it: the user has to agree by the host's own form" in planned["next_step"]
    )
    async with serving(read_only=True) as assistant:
        planned = await assistant.facts("plan_campaign", file=rows)
    assert "quote_id" not in planned
    assert "start_campaign is switched off on this server" in planned["next_step"]


async def test_what_its_user_planned_and_has_not_agreed_to_is_not_made_where_nobody_is_asked(
    serving: Serving, clips: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    with closing(Ledger(tmp_path / "home")) as ledger:
        guard = Guard(ledger, Limits())
        async with AsyncSync(api_key="any", base_url=sandbox.url, guard=guard) as sync:
            id = (await Campaigns(guard).plan(sync, clips / "course.csv")).campaign.id
    async with serving(approve_above_usd="never") as assistant:
        told = await assistant.error("start_campaign", campaign_id=id)
        assert "was planned on the command line, and nobody has agreed to it" in told.text
        assert f"campaign approve {id} " in told.text
    assert sandbox.charges == []


async def test_a_letter_is_no_campaign_even_where_there_is_one_alone_that_begins_so(
    serving: Serving, clips: Path
) -> None:
    async with serving() as assistant:
        id = (await assistant.facts("plan_campaign", file=str(clips / "course.csv")))["campaign_id"]
        told = await assistant.error("get_campaign", campaign_id=id[:3])
        assert "is no campaign of this account" in told.text
        assert (await assistant.facts("get_campaign", campaign_id=id[:4]))["campaign_id"] == id


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_host_with_forms_asks_once_for_all_and_a_no_pays_nothing(
    serving: Serving, clips: Path, sandbox: Sandbox, person: Person, mode: str
) -> None:
    async with serving(forms=True, mode=mode) as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        assert "quote_id" not in planned
        id = planned["campaign_id"]
        person.says = "decline"
        told = await assistant.error("start_campaign", campaign_id=id)
        assert told.code == "approval_denied"
        assert "Nothing was started: the user declined" in told.text
        assert sandbox.charges == []
        person.says = "accept"
        await assistant.facts("start_campaign", campaign_id=id)
        assert (await _wait(assistant, id))["saved"] == 3
    assert len(person.asked) == 2
    assert len(sandbox.charges) == 3


async def test_what_a_server_has_begun_the_next_one_goes_on_with_unasked_and_pays_nothing_twice(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=60, concurrency=2)
    async with serving() as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        id = planned["campaign_id"]
        await assistant.facts("start_campaign", campaign_id=id, quote_id=planned["quote_id"])
        await until(lambda: len(sandbox.charges) == 2)
    async with serving() as assistant:
        told = await assistant.facts("get_campaign", campaign_id=id, status="left")
        assert "Nobody makes it now: start_campaign goes on, and asks nobody again." in told["next_step"]
        assert [row["row"] for row in told["listed"]] == [1, 2, 3]
        sandbox.configure(job_seconds=0.2)
        await assistant.facts("start_campaign", campaign_id=id)
        sandbox.advance(60)
        assert (await _wait(assistant, id))["saved"] == 3
    assert len({charge.idempotency_key for charge in sandbox.charges}) == len(sandbox.charges) == 3


async def test_rows_that_need_the_user_come_in_pages_and_no_answer_has_more_than_1500_bytes(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    names = [f"a lesson with a rather long name, number {number}.mp4" for number in range(25)]
    for number, name in enumerate(names):
        box = (16).to_bytes(4, "big") + b"free" + (100 + number).to_bytes(8, "big")
        (clips / name).write_bytes(sample("speaking.mp4").read_bytes() + box)
    sandbox.configure(concurrency=15)
    sandbox.add_fault(Fault.api_error("dubbing_duration_exceeded", path="/v2/generate", times=None))
    async with serving(approve_above_usd="never") as assistant:
        planned = await assistant.facts(
            "plan_campaign", clips=[str(clips / name) for name in names], languages=["fr"]
        )
        id = planned["campaign_id"]
        await assistant.facts("start_campaign", campaign_id=id)
        told = await _wait(assistant, id)
        assert told["need_user"] == 25
        assert "only they have those made again" in told["next_step"]
        seen: list[int] = []
        cursor: str | None = None
        while True:
            page = await assistant.facts("get_campaign", campaign_id=id, cursor=cursor)
            shown = {name: value for name, value in page.items() if name != "sandbox"}
            assert len(json.dumps(shown, separators=(",", ":"))) <= LARGEST_ANSWER
            assert len(page["listed"]) <= 10
            seen += [row["row"] for row in page["listed"]]
            if (cursor := page.get("next_cursor")) is None:
                break
    assert seen == list(range(1, 26))


async def test_a_campaign_of_another_account_is_none_of_this_one_s(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    async with serving() as assistant:
        id = (await assistant.facts("plan_campaign", file=str(clips / "course.csv")))["campaign_id"]
    async with serving(base_url=sandbox.url.replace("127.0.0.1", "localhost")) as assistant:
        told = await assistant.error("start_campaign", campaign_id=id)
        assert "is no campaign of this account" in told.text
        assert (await assistant.facts("get_campaign"))["campaigns"] == []


@pytest.mark.parametrize(
    ("limits", "state", "told"),
    [
        ({"budget_usd_per_day": Decimal("0.3")}, "waiting", "It goes on by itself at the time in reason"),
        ({"budget_usd": Decimal("0.3")}, "paused", "Once they have seen to that, and typed"),
        ({"max_usd_per_job": Decimal("0.1")}, "ended", "which rows have no video"),
    ],
)
async def test_what_a_limit_of_the_server_does_to_it_is_told_with_the_way_on(
    serving: Serving, clips: Path, sandbox: Sandbox, limits: dict[str, Decimal], state: str, told: str
) -> None:
    async with serving(approve_above_usd="never", **limits) as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        if state == "ended":
            assert planned["notes"] == ["3 rows cost more than one job may, 0.10 USD, and will not be made."]
        else:
            assert planned["left_usd"] == 0.3
            assert "The budgets leave less" in planned["next_step"]
        id = planned["campaign_id"]
        await assistant.facts("start_campaign", campaign_id=id)
        ended = await _wait(assistant, id)
    assert ended["state"] == state
    assert told in ended["next_step"]
    assert len(sandbox.charges) == (0 if state == "ended" else 1)


async def test_the_quote_of_a_plan_is_good_whatever_its_total_ends_in(
    serving: Serving, clips: Path, sandbox: Sandbox
) -> None:
    async with serving() as assistant:
        planned = await assistant.facts(
            "plan_campaign", clips=[str(clips / "clip1.mp4"), str(clips / "clip2.mp4")], languages=["fr"]
        )
        assert planned["planned_usd"] == 0.5
        started = await assistant.facts(
            "start_campaign", campaign_id=planned["campaign_id"], quote_id=planned["quote_id"]
        )
        assert started["state"] == "approved"
        assert (await _wait(assistant, planned["campaign_id"]))["saved"] == len(sandbox.charges) == 2


@pytest.mark.parametrize("is_agreed_to", [False, True])
async def test_through_a_link_in_the_place_of_its_folder_nothing_is_written_or_paid(
    serving: Serving, clips: Path, sandbox: Sandbox, tmp_path: Path, is_agreed_to: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    async with serving(approve_above_usd="never") as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        folder, id = Path(planned["folder"]), planned["campaign_id"]
        if is_agreed_to:
            ledger = Ledger(tmp_path / "home")
            CampaignBook(ledger.store).approve(id)
            ledger.close()
        _put_link(folder, outside)
        if is_agreed_to:
            await assistant.facts("start_campaign", campaign_id=id)
            assert (await _wait(assistant, id))["need_user"] == 3
        else:
            told = await assistant.error("start_campaign", campaign_id=id)
            assert "a link leads elsewhere by now" in told.text
    assert sandbox.charges == []
    assert list(outside.iterdir()) == []


async def test_to_name_a_folder_for_the_videos_lets_nothing_be_read_there(
    serving: Serving, clips: Path, tmp_path: Path
) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    private = shutil.copy(clips / "clip1.mp4", downloads / "private.mp4")
    async with serving() as assistant:
        told = await assistant.error(
            "plan_campaign", clips=[str(private)], languages=["fr"], folder=str(downloads)
        )
    assert "is not in a folder that may be read" in told.text


async def test_a_plan_of_more_than_an_hour_ago_is_not_asked_about(
    serving: Serving, clips: Path, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(forms=True) as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        monkeypatch.setattr("sync_mcp.campaigns.tables.APPROVED_WITHIN_SECONDS", -1.0)
        told = await assistant.error("start_campaign", campaign_id=planned["campaign_id"])
    assert "was planned more than an hour ago" in told.text
    assert "plan_campaign plans it again" in told.text
    assert person.asked == []


async def test_a_campaign_that_is_started_while_the_last_report_is_written_is_made_too(
    serving: Serving, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = anyio.Event(), anyio.Event()
    report_all = Campaigns._report_all  # pyright: ignore[reportPrivateUsage]

    async def report_late(campaigns: Campaigns, touched: Collection[str]) -> None:
        begun.set()
        await goes_on.wait()
        await report_all(campaigns, touched)

    monkeypatch.setattr(Campaigns, "_report_all", report_late)
    async with serving(approve_above_usd="never") as assistant:
        first, second = [
            await assistant.facts("plan_campaign", clips=[str(clips / clip)], languages=["fr"])
            for clip in ("clip1.mp4", "clip2.mp4")
        ]
        await assistant.facts("start_campaign", campaign_id=first["campaign_id"])
        await begun.wait()
        told = await assistant.facts("start_campaign", campaign_id=second["campaign_id"])
        assert "It goes on by itself, while this server runs" in told["next_step"]
        goes_on.set()
        with anyio.fail_after(60):
            assert (await _wait(assistant, second["campaign_id"]))["saved"] == 1


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 5000])
async def test_a_cursor_that_is_none_is_refused(serving: Serving, clips: Path, cursor: str) -> None:
    async with serving() as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"))
        told = await assistant.error("get_campaign", campaign_id=planned["campaign_id"], cursor=cursor)
    assert "cursor is no next_cursor of this list" in told.text


async def test_a_folder_has_a_name_that_a_disk_takes_whatever_the_campaign_is_called(
    serving: Serving, clips: Path
) -> None:
    async with serving() as assistant:
        for _ in range(2):
            planned = await assistant.facts(
                "plan_campaign", file=str(clips / "course.csv"), name="\N{GRINNING FACE}" * 300
            )
            await anyio.Path(planned["folder"]).mkdir(parents=True)


async def test_the_same_plan_again_of_what_has_ended_does_not_say_that_it_is_made(
    serving: Serving, clips: Path
) -> None:
    async with serving(approve_above_usd="never") as assistant:
        planned = await assistant.facts("plan_campaign", file=str(clips / "course.csv"), folder=str(clips))
        await assistant.facts("start_campaign", campaign_id=planned["campaign_id"])
        await _wait(assistant, planned["campaign_id"])
        again = await assistant.facts("plan_campaign", file=str(clips / "course.csv"), folder=str(clips))
    assert again["campaign_id"] == planned["campaign_id"]
    assert "is ended: get_campaign" in again["next_step"]
    assert "start_campaign" not in again["next_step"]


def test_the_three_tools_are_told_in_3300_bytes() -> None:
    assert listing_bytes([tool.definition for tool in TOOLS]) <= 3_300
