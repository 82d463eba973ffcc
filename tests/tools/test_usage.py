"""The toolset `usage`: what was billed, as a file too, and whether the ledger agrees to the cent."""

import csv
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from sync_mcp import AsyncSync, Audio, InvalidRequestError, Settings, Video, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.periods import read_period

from .assistant import Assistant, Facts, asked, media, quote_in

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"
KEY = "sk_embedded_sandbox"
COST = 0.226
EXPORT = "/v2/usage/generations"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "Bills"
    folder.mkdir()
    return folder


@pytest.fixture
async def keeper(sandbox: Sandbox, folder: Path) -> AsyncIterator[Assistant]:
    """An assistant with every set on, in the middle of a month."""
    settings = Settings(
        toolsets=("all",), approve_above_usd=Decimal(1000), download_dir=folder, media_roots=()
    )
    now = now_of(sandbox)
    middle = (now.replace(day=1) + timedelta(days=32)).replace(day=15, hour=12)
    sandbox.advance((middle - now).total_seconds())
    server = create_server(settings, sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        assistant = Assistant(client)
        # It hears the time.
        await assistant.facts("get_account")
        yield assistant


def now_of(sandbox: Sandbox) -> datetime:
    return sandbox._world.clock.now()  # pyright: ignore[reportPrivateUsage]


def month_of(sandbox: Sandbox) -> str:
    return f"{now_of(sandbox):%Y-%m}"


async def make(assistant: Assistant, sandbox: Sandbox, *numbers: int, **more: Any) -> list[str]:
    """Make jobs, let them end, and return their ids."""
    ids = [
        (await assistant.facts("create_generation", input=media(sandbox, number), **more))["generation_id"]
        for number in numbers
    ]
    sandbox.advance(60)
    return ids


async def make_elsewhere(sandbox: Sandbox) -> str:
    """Make a job with another program of the same account, which this ledger does not know."""
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as client:
        made = await client.generations.create(
            model="sync-3", input=[Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
        )
    sandbox.advance(60)
    return made.id


def bill_of(*rows: Any) -> Any:
    """Return what the export answers where it has these rows alone."""
    return {"items": list(rows), "nextCursor": None}


def lines_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def hash_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# The story


async def test_what_a_month_cost_job_by_job_and_whether_the_ledger_agrees_to_the_cent(
    keeper: Assistant, sandbox: Sandbox, folder: Path
) -> None:
    month = month_of(sandbox)
    sandbox.configure(cost_seconds=1800.0, cost_at_first="partial")
    ids = await make(keeper, sandbox, 1, 2, 3)
    sandbox.add_fault(Fault(job="fail", charged=False))
    [free] = await make(keeper, sandbox, 4)
    sandbox.add_fault(Fault(job="fail", charged=True))
    [charged] = await make(keeper, sandbox, 5)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="after"))
    [answer_lost] = await make(keeper, sandbox, 6)

    early = await keeper.facts("get_costs", period=month)
    assert (early["jobs"], early["pending"]) == (6, 6)
    assert early["total_usd"] == pytest.approx(5 * COST / 2)
    assert "Of 6 jobs the cost is not final yet" in early["next_step"]
    undecided = await keeper.facts("compare_ledger", period=month)
    assert (undecided["agrees"], undecided["open"], undecided["differences"]) == (False, 6, [])

    # In the month after, the bill of it is read page by page, once the API is over a fault.
    sandbox.advance(30 * 86_400)
    await keeper.facts("get_account")
    sandbox.add_fault(Fault.api_error("usage_dependency_unavailable", path=EXPORT))
    first = await keeper.facts("get_costs", period=month, limit=4)
    rest = await keeper.facts("get_costs", period=month, limit=4, cursor=first["next_cursor"])
    rows = [*first["rows"], *rest["rows"]]
    assert {row["generation_id"]: row["cost_usd"] for row in rows} == {
        **dict.fromkeys([*ids, charged, answer_lost], COST),
        free: 0.0,
    }
    assert [row["status"] for row in rows].count("FAILED") == 2
    assert (first["jobs"], first["total_usd"]) == (6, pytest.approx(5 * COST))
    assert not {"pending"} & first.keys()
    assert all(row["about"] for row in rows)

    agreed = await keeper.facts("compare_ledger", period=month)
    assert (agreed["agrees"], agreed["agreeing"], agreed["differences"]) == (True, 6, [])
    assert agreed["bill_usd"] == agreed["ledger_usd"] == pytest.approx(5 * COST)
    assert agreed["next_step"] == "Tell the user that ledger and bill agree on 6 jobs: 1.13 USD."

    saved = await keeper.facts("export_usage", period=month)
    lines = lines_of(saved["path"])
    assert sum(Decimal(line["cost_usd"]) for line in lines) == Decimal("1.13")
    assert {line["cost_is_final"] for line in lines} == {"yes"}
    assert (saved["jobs"], saved["sha256"]) == (6, hash_of(saved["path"]))


# What it cost


async def test_costs_are_summed_by_model_project_and_day(keeper: Assistant, sandbox: Sandbox) -> None:
    [filed] = await make(keeper, sandbox, 1, project_id=sandbox.project_id)
    await make(keeper, sandbox, 2, model="lipsync-2-pro")
    day = f"{now_of(sandbox):%Y-%m-%d}"
    sandbox.advance(86_400)
    [last] = await make(keeper, sandbox, 3)
    month = month_of(sandbox)
    models = (await keeper.facts("get_costs", period=month, by="model"))["rows"]
    assert [(row["model"], row["jobs"]) for row in models] == [("lipsync-2", 2), ("lipsync-2-pro", 1)]
    assert models[0]["cost_usd"] == pytest.approx(2 * COST)
    projects = (await keeper.facts("get_costs", period=month, by="project"))["rows"]
    assert {row["project_id"]: row["jobs"] for row in projects} == {sandbox.project_id: 1, "none": 2}
    days = (await keeper.facts("get_costs", period=month, by="day"))["rows"]
    assert [row["jobs"] for row in days] == [2, 1]
    assert days[0]["day"] == day
    one = await keeper.facts("get_costs", period=day)
    assert one["jobs"] == 2
    # What was deleted was paid all the same; of its project nothing is known.
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as client:
        await client.generations.delete(filed)
    gone = (await keeper.facts("get_costs", period=month, by="project"))["rows"]
    assert {row["project_id"]: row["jobs"] for row in gone} == {
        "not told: the job was deleted, or is hidden": 1,
        "none": 2,
    }
    assert last


async def test_costs_of_single_jobs_are_told_by_their_ids_and_of_which_they_are_not(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    ids = await make(keeper, sandbox, 1, 2)
    told = await keeper.facts("get_costs", generation_ids=[*ids, NOBODY, ids[0]])
    assert (told["jobs"], told["total_usd"]) == (2, pytest.approx(2 * COST))
    assert [row.get("cost_usd") for row in told["rows"]] == [COST, COST, None]
    assert told["rows"][2]["failure"].startswith("not_found: ")
    sandbox.configure(cost_seconds=3600.0)
    [late] = await make(keeper, sandbox, 3)
    pending = await keeper.facts("get_costs", generation_ids=late)
    assert (pending["pending"], pending["total_usd"]) == (1, 0.0)
    assert (await keeper.error("get_costs", generation_ids=[NOBODY])).code == "not_found"


async def test_a_page_after_the_first_is_of_the_same_reading(keeper: Assistant, sandbox: Sandbox) -> None:
    await make(keeper, sandbox, 1, 2)
    month = month_of(sandbox)
    first = await keeper.facts("get_costs", period=month, limit=1)
    read = len(asked(sandbox, "GET", EXPORT))
    await keeper.facts("get_costs", period=month, limit=1, cursor=first["next_cursor"])
    assert len(asked(sandbox, "GET", EXPORT)) == read
    await make(keeper, sandbox, 3)
    assert (await keeper.facts("get_costs", period=month))["jobs"] == 3


async def test_a_long_bill_is_read_over_all_pages_of_the_export(
    keeper: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.payments.bill.USAGE_PAGE_LIMIT", 2)
    await make(keeper, sandbox, *range(5))
    before = len(asked(sandbox, "GET", EXPORT))
    told = await keeper.facts("get_costs", period=month_of(sandbox))
    assert (told["jobs"], len(asked(sandbox, "GET", EXPORT)) - before) == (5, 3)
    monkeypatch.setattr("sync_mcp.payments.bill.MOST_ROWS", 4)
    refused = await keeper.error("get_costs", period=month_of(sandbox))
    assert "name a shorter one" in refused.text


@pytest.mark.parametrize(
    ("period", "told"),
    [
        ("2026-10-15/2026-10-01", "ends before it begins"),
        ("2026-10/2026-09", "ends before it begins"),
        ("2026-10-01T10:00Z/2026-10-01T10:00Z", "ends before it begins"),
        ("2026-10-01T10:00Z", "is a moment"),
        ("2026-02-30", "names no time"),
        ("October", "names no time"),
        ("2026-10-01/", "names no time"),
        ("2999", "has not begun"),
        ("9999-12/9999", "names no time"),
    ],
)
def test_a_text_that_names_no_time_or_none_yet_is_refused_with_what_to_write(period: str, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        read_period(period, datetime(2026, 12, 1, tzinfo=UTC))


async def test_a_period_that_ends_before_it_begins_is_refused_before_anything_is_asked(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    for tool in ("get_costs", "export_usage", "compare_ledger"):
        refused = await keeper.error(tool, period="2026-10-15/2026-10-01")
        assert (refused.code, refused.money_spent) == ("invalid_request", "no")
        assert "ends before it begins: name the earlier time first" in refused.text
    assert asked(sandbox, "GET", EXPORT) == []


async def test_arguments_that_do_not_go_together_and_a_foreign_cursor_are_refused(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    for arguments in (
        {"generation_ids": [NOBODY], "period": "2026"},
        {"generation_ids": [NOBODY], "by": "model"},
        {"cursor": "7"},
        {"cursor": "x"},
    ):
        assert (await keeper.error("get_costs", arguments)).code == "invalid_request"


async def test_an_organization_without_the_export_is_told_what_else_there_is(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    ids = await make(keeper, sandbox, 1)
    sandbox.configure(usage_export=False)
    for tool in ("get_costs", "export_usage", "compare_ledger"):
        refused = await keeper.error(tool)
        assert refused.code == "not_found"
        assert "has no usage export" in refused.text
        assert "get_costs with generation_ids" in refused.text
    assert (await keeper.facts("get_costs", generation_ids=ids))["total_usd"] == COST


# As a file


async def test_a_cell_that_would_be_a_formula_is_text_and_names_come_whole(
    keeper: Assistant, sandbox: Sandbox, folder: Path
) -> None:
    row: Facts = {
        "generationId": '=HYPERLINK("http://evil")',
        "generationStatus": "@SUM(A1)",
        "model": "+1",
        "availability": "complete",
        "totalCostUsd": "0.1",
        "apiKey": '\tcmd,\n"Señora"',
    }
    sandbox.add_fault(Fault(path=EXPORT, status=200, body=bill_of(row)))
    saved = await keeper.facts("export_usage", path="bill")
    [line] = lines_of(saved["path"])
    assert Path(saved["path"]) == folder / "bill.csv"
    assert line["generation_id"] == '\'=HYPERLINK("http://evil")'
    assert (line["status"], line["model"], line["api_key"]) == ("'@SUM(A1)", "'+1", 'cmd, "Señora"')


async def test_a_table_that_cannot_be_written_leaves_nothing_and_says_what_to_do(
    keeper: Assistant, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(keeper, sandbox, 1)
    first = await keeper.facts("export_usage", path="bill.csv")
    there = hash_of(first["path"])
    for arguments, code in (
        ({"path": "bill.csv"}, "file_exists"),
        ({"path": str(folder / "missing" / "bill.csv")}, "folder_not_found"),
        ({"path": str(folder.parent / "bill.csv")}, "file_not_allowed"),
        ({"path": "a:b.csv"}, "file_not_writable"),
    ):
        refused = await keeper.error("export_usage", arguments)
        assert (refused.code, refused.money_spent) == (code, "no")
    assert hash_of(first["path"]) == there
    assert (await keeper.facts("export_usage", path="bill.csv", overwrite=True))["jobs"] == 1

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sync_mcp.media.tables.os.fsync", full)
    refused = await keeper.error("export_usage", path="other.csv")
    assert refused.code == "file_not_writable"
    assert "No space left on device" in refused.text
    assert names_in(folder) == ["bill.csv"]


async def test_where_nothing_can_be_saved_the_setting_is_named(sandbox: Sandbox) -> None:
    settings = Settings(toolsets=("usage",), http=True, sandbox=True)
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        refused = await Assistant(client).error("export_usage")
    assert refused.code == "file_not_allowed"
    assert "SYNC_MCP_DOWNLOAD_DIR" in refused.text
    assert "output_url" not in refused.text


# Ledger and bill


async def test_each_difference_is_named_with_both_figures(keeper: Assistant, sandbox: Sandbox) -> None:
    one, two, unbilled = await make(keeper, sandbox, 1, 2, 3)
    month = month_of(sandbox)
    assert (await keeper.facts("compare_ledger", period=month))["agrees"]
    foreign = await make_elsewhere(sandbox)

    def row(id: str, cost: str, **more: Any) -> Facts:
        ended = now_of(sandbox).isoformat()
        told = {"generationId": id, "generationStatus": "COMPLETED", "availability": "complete"}
        return {**told, "totalCostUsd": cost, "finishedAt": ended, **more}

    billed = bill_of(row(one, "0.226"), row(two, "0.2261"), row(foreign, "0.5"))
    for body in (billed, bill_of()):
        sandbox.add_fault(Fault(path=EXPORT, status=200, body=body))
    told = await keeper.facts("compare_ledger", period=month)
    assert (told["agrees"], told["agreeing"]) == (False, 1)
    assert [
        (row["generation_id"], row["what"], row.get("ledger_usd"), row.get("bill_usd"))
        for row in told["differences"]
    ] == [
        (two, "differing", 0.226, 0.2261),
        (foreign, "missing in the ledger", None, 0.5),
        (unbilled, "missing in the bill", 0.226, None),
    ]
    assert (told["differing"], told["missing_in_ledger"], told["missing_in_bill"]) == (1, 1, 1)
    assert told["bill_usd"] == pytest.approx(0.9521)
    assert told["ledger_usd"] == pytest.approx(3 * COST)


async def test_a_job_that_ends_in_the_next_period_is_missing_in_neither(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    sent = now_of(sandbox)
    await make(keeper, sandbox, 1)
    period = f"{(sent - timedelta(minutes=1)).isoformat()}/{(sent + timedelta(seconds=2)).isoformat()}"
    told = await keeper.facts("compare_ledger", period=period)
    assert (told["agrees"], told["agreeing"], told["bill_usd"]) == (True, 0, 0.0)


async def test_a_batch_is_compared_as_one_by_the_rows_of_its_generations(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    rows = [{"model": "lipsync-2", "input": media(sandbox, number)} for number in range(20)]
    await make(keeper, sandbox, 50)
    made = await keeper.facts("create_batch", rows=rows)
    running = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (running["agrees"], running["open"], running["differences"]) == (False, 1, [])
    sandbox.advance(900)
    told = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (told["agrees"], told["agreeing"], told["differences"]) == (True, 21, [])
    assert told["bill_usd"] == told["ledger_usd"] == pytest.approx(21 * COST)
    # What the bill says of one row is held against the whole.
    [one, *rest] = (await keeper.facts("get_costs", period=month_of(sandbox), limit=30))["rows"]
    ended = now_of(sandbox).isoformat()
    bill = [
        {
            "generationId": row["generation_id"],
            "generationStatus": "COMPLETED",
            "availability": "complete",
            "totalCostUsd": str(row["cost_usd"]),
            "finishedAt": ended,
        }
        for row in (one, *rest)
    ]
    bill[-1]["totalCostUsd"] = "0.3"
    sandbox.add_fault(Fault(path=EXPORT, status=200, body=bill_of(*bill)))
    told = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (told["agrees"], told["agreeing"]) == (False, 1)
    [difference] = told["differences"]
    assert (difference["generation_id"], difference["what"]) == (made["batch_id"], "differing")
    assert difference["ledger_usd"] == pytest.approx(20 * COST)
    assert difference["bill_usd"] == pytest.approx(19 * COST + 0.3)


async def test_a_batch_whose_rows_end_in_two_periods_agrees_in_each(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    rows = [{"model": "lipsync-2", "input": media(sandbox, number)} for number in range(20)]
    made = await keeper.facts("create_batch", rows=rows)
    sandbox.advance(900)
    assert (await keeper.facts("get_batch", batch_id=made["batch_id"]))["cost_usd"]
    costs = await keeper.facts("get_costs", period=month_of(sandbox), limit=30)
    assert costs["jobs"] == 20

    def row(told: Facts) -> Facts:
        return {
            "generationId": told["generation_id"],
            "generationStatus": "COMPLETED",
            "availability": "complete",
            "totalCostUsd": str(told["cost_usd"]),
        }

    here, there = costs["rows"][:12], costs["rows"][12:]
    # The bill of the period, of the day before it, and of the day after it.
    for part in (here, here[:0], there):
        sandbox.add_fault(Fault(path=EXPORT, status=200, body=bill_of(*map(row, part))))
    told = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (told["agrees"], told["agreeing"], told["differences"]) == (True, 12, [])
    assert told["bill_usd"] == told["ledger_usd"] == pytest.approx(12 * COST)


async def test_what_the_bill_never_tells_is_not_compared_and_said_to_be(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_jobs=False)
    voice = (await keeper.facts("list_voices"))["voices"][0]["voice_id"]
    speech: Facts = {"script": "Good morning.", "voice_id": voice}
    asked_for = await keeper.error("create_speech", speech)
    await keeper.facts("create_speech", speech, quote_id=quote_in(asked_for))
    told = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (told["agrees"], told["not_in_bill"], told.get("open")) == (True, 1, None)
    assert "could not be compared" in told["next_step"]


async def test_a_period_without_jobs_is_said_to_have_none(keeper: Assistant) -> None:
    told = await keeper.facts("compare_ledger", period="2025")
    assert (
        told["next_step"] == "Tell the user that neither the bill nor the ledger has a job that ended then."
    )


async def test_running_jobs_and_creates_of_unknown_outcome_keep_it_undecided(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    await keeper.facts("create_generation", input=media(sandbox, 1))
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="before", times=None))
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, body={}, times=None))
    lost = await keeper.error("create_generation", input=media(sandbox, 2))
    assert lost.money_spent == "unknown"
    told = await keeper.facts("compare_ledger", period=month_of(sandbox))
    assert (told["agrees"], told["open"], told["unresolved"]) == (False, 1, 1)
    assert "list_generations shows what to do" in told["next_step"]


async def test_without_a_ledger_all_that_is_billed_is_missing_in_it(
    keeper: Assistant, sandbox: Sandbox
) -> None:
    foreign = await make_elsewhere(sandbox)
    told = await keeper.facts("compare_ledger")
    assert [row["generation_id"] for row in told["differences"]] == [foreign]
    assert told["differences"][0]["what"] == "missing in the ledger"


async def test_a_row_of_the_bill_that_cannot_be_read_is_no_sum(keeper: Assistant, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=EXPORT, status=200, body=bill_of(7)))
    refused = await keeper.error("get_costs")
    assert refused.code == "api_response_unreadable"
    assert "a row that cannot be read" in refused.text


def test_months_days_years_and_moments_are_read_with_their_last_day_in_them() -> None:
    now = datetime(2026, 12, 31, 23, tzinfo=UTC)
    read = {
        text: (f"{period.start:%Y%m%dT%H%M}", f"{period.end:%Y%m%dT%H%M}")
        for text in ("2026-10", "2026-12", "2026", "2026-2-28", "2026-10-01/2026-10-15", "2025/2026-03")
        for period in [read_period(text, now)]
    }
    assert read == {
        "2026-10": ("20261001T0000", "20261101T0000"),
        "2026-12": ("20261201T0000", "20270101T0000"),
        "2026": ("20260101T0000", "20270101T0000"),
        "2026-2-28": ("20260228T0000", "20260301T0000"),
        "2026-10-01/2026-10-15": ("20261001T0000", "20261016T0000"),
        "2025/2026-03": ("20250101T0000", "20260401T0000"),
    }
    moments = read_period("2026-10-01T10:00+02:00 / 2026-10-01T09:30", now)
    assert (moments.start.hour, moments.end.hour, moments.end.minute) == (8, 9, 30)
    assert read_period(None, now) == read_period("2026-12", now)
