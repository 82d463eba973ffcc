"""create_batch and get_batch: many videos as one paid act, and what came of each row."""

import csv
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from mcp import Client

from sync_mcp import AsyncSync, GenerationRequest
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .assistant import Assistant, Facts, quote_in, sent

pytestmark = pytest.mark.anyio

BATCH = "/v2/batch"
NOBODYS = "5beec400-0000-4000-8000-000000000000"
Served = Callable[..., Client]


@pytest.fixture
async def maker(served: Served, movies: Path) -> AsyncIterator[Assistant]:
    """An assistant with the set batch, that saves in `movies`, and whose user is asked for nothing."""
    async with served(toolsets=("core", "batch"), download_dir=movies) as client:
        yield Assistant(client)


def rows(sandbox: Sandbox, count: int = 20) -> list[Facts]:
    return [
        {
            "model": "lipsync-2",
            "input": [
                {"type": "video", "url": f"{sandbox.samples.video}?clip={number}"},
                {"type": "audio", "url": sandbox.samples.audio},
            ],
        }
        for number in range(count)
    ]


def table(path: str) -> list[list[str]]:
    return list(csv.reader(Path(path).read_text("utf-8-sig").splitlines(keepends=True)))


async def test_a_batch_is_made_once_told_as_it_runs_and_saved_with_every_row(
    maker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    given = rows(sandbox)
    given[0]["request_id"] = "-opening"
    sandbox.add_fault(Fault(path=BATCH, job="fail", error_code="voice_blocked", error="=No", rows=(4,)))
    made = await maker.facts("create_batch", rows=given)
    assert (made["status"], made["total"], made["pending"]) == ("PENDING", 20, 20)
    assert made["estimated_cost_usd"] == 4.52
    id = made["batch_id"]
    again = await maker.facts("create_batch", rows=given)
    assert (again["batch_id"], again["reused"], len(sent(sandbox, BATCH))) == (id, True, 1)
    sandbox.advance(1)
    running = await maker.facts("get_batch", batch_id=id, path="early.csv")
    # One vocabulary of states for every kind of job.
    assert running["status"] in ("PENDING", "PROCESSING")
    assert "Nothing was saved" in running["note"]
    assert not (movies / "early.csv").exists()
    sandbox.advance(60)
    ended = await maker.facts("get_batch", batch_id=id, path="results")
    assert (ended["status"], ended["completed"], ended["failed"]) == ("COMPLETED", 19, 1)
    assert ended["cost_usd"] == pytest.approx(19 * 0.226)
    [failed] = ended["rows"]
    assert (failed["request_id"], failed["status"], failed["api_code"]) == (
        "row-4",
        "FAILED",
        "voice_blocked",
    )
    assert "ask the user before making them again" in ended["next_step"]
    [head, first, *_, last] = table(ended["path"])
    assert head == ["request_id", "status", "generation_id", "output_url", "error_code", "error"]
    # What a spreadsheet would work out begins with an apostrophe.
    assert (first[:2], last[0]) == (["'-opening", "COMPLETED"], "row-20")
    assert first[3].startswith(f"{sandbox.url}/outputs/{first[2]}.mp4?")
    assert [row[5] for row in table(ended["path"]) if row[0] == "row-4"] == ["'=No"]


async def test_a_table_that_cannot_be_written_is_said_before_anything_is_asked(
    maker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    before = len(sandbox.requests)
    for path in ("/nowhere/at/all.csv", str(movies / "missing" / "a.csv")):
        refused = await maker.error("get_batch", batch_id="b1", path=path)
        assert refused.money_spent == "no"
    assert [one for one in sandbox.requests[before:] if "batch" in one.path] == []
    sandbox.configure(job_seconds=0)
    made = await maker.facts("create_batch", rows=rows(sandbox))
    (movies / "there.csv").write_text("mine")
    taken = await maker.error("get_batch", batch_id=made["batch_id"], path="there.csv")
    assert (taken.code, (movies / "there.csv").read_text()) == ("file_exists", "mine")
    saved = await maker.facts("get_batch", batch_id=made["batch_id"], path="there.csv", overwrite=True)
    assert len(table(saved["path"])) == 21


async def test_a_dry_run_prices_the_rows_and_makes_nothing(maker: Assistant, sandbox: Sandbox) -> None:
    told = await maker.facts("create_batch", rows=rows(sandbox), dry_run=True)
    assert (told["status"], told["total"], told["estimated_cost_usd"]) == ("VALIDATED", 20, 4.52)
    assert "without dry_run" in told["next_step"]
    assert (sandbox.charges, sandbox.generations) == ([], {})
    # The prices are known by now.
    asked = len([one for one in sandbox.requests if one.path == "/v2/analyze/cost"])
    await maker.facts("create_batch", rows=rows(sandbox))
    assert len([one for one in sandbox.requests if one.path == "/v2/analyze/cost"]) == asked == 20


def with_row(change: Callable[[Facts], object]) -> Callable[[Sandbox], list[Facts]]:
    def make(sandbox: Sandbox) -> list[Facts]:
        given = rows(sandbox)
        change(given[7])
        return given

    return make


def twins(sandbox: Sandbox) -> list[Facts]:
    given = rows(sandbox)
    given[11] = {**given[3], "output_file_name": "other"}
    return given


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(rows, count=19), "20 to 500 rows, and this one has 19"),
        (partial(rows, count=501), "20 to 500 rows, and this one has 501"),
        (twins, "row 12 is the same as row 4, and would be paid twice"),
        (
            with_row(lambda row: row["input"][0].update(url=None, path="/a.mp4")),
            "row 8: a batch takes no path",
        ),
        (with_row(lambda row: row.update(take=2)), "row 8: take is that of the whole batch"),
        (with_row(lambda row: row.update(webhook_url="https://example.com")), "row 8: the webhook is that"),
        (with_row(lambda row: row["input"].pop()), "row 8: "),
        (with_row(lambda row: row.update(request_id="row-1")), "row 8: request_id row-1 is that of row 1"),
        (with_row(lambda row: row.update(request_id="a b")), "row 8: request_id has 1 to 64 letters"),
        (with_row(lambda row: row.update(inputs=[])), "rows[7]"),
    ],
    ids=lambda one: one[:20] if isinstance(one, str) else "",
)
async def test_what_can_be_no_batch_is_refused_and_nothing_is_spent(
    maker: Assistant, sandbox: Sandbox, make: Callable[[Sandbox], list[Facts]], words: str
) -> None:
    for dry_run in (False, True):
        refused = await maker.error("create_batch", rows=make(sandbox), dry_run=dry_run)
        assert (refused.code, refused.money_spent) == ("invalid_request", "no"), refused.text
        assert words in refused.text
        # What to do is said once.
        assert refused.text.count("call create_batch again") <= 1
    assert sent(sandbox, BATCH) == []


async def test_a_batch_that_has_ended_is_told_so_by_the_same_call(maker: Assistant, sandbox: Sandbox) -> None:
    given = rows(sandbox)
    await maker.facts("create_batch", rows=given)
    sandbox.advance(900)
    again = await maker.facts("create_batch", rows=given)
    assert (again["status"], again["reused"]) == ("COMPLETED", True)
    assert again["next_step"].startswith("It has ended: get_batch")


async def test_a_batch_of_the_ledgers_making_is_not_called_a_wrong_id_where_the_api_does_not_show_it(
    maker: Assistant, sandbox: Sandbox
) -> None:
    made = await maker.facts("create_batch", rows=rows(sandbox))
    gone: Facts = {"statusCode": 404, "message": "no"}
    sandbox.add_fault(Fault(method="GET", path="/v2/batch/*", status=404, body=gone, times=None))
    hidden = await maker.error("get_batch", batch_id=made["batch_id"])
    assert (hidden.code, hidden.money_spent) == ("generation_not_visible", "yes")


async def test_results_that_are_not_there_or_not_whole_are_told_as_that(
    maker: Assistant, sandbox: Sandbox
) -> None:
    id = (await maker.facts("create_batch", rows=rows(sandbox)))["batch_id"]
    sandbox.advance(900)
    results = f"/v2/batches/{id}/result"
    none: Facts = {"message": "no", "statusCode": 404}
    sandbox.add_fault(Fault(method="GET", path=results, status=404, body=none, times=None))
    gone = await maker.error("get_batch", batch_id=id)
    assert "has ended, and the API does not show its results" in gone.text
    line = '{"request_id": "r1", "status": "COMPLETED"}'
    sandbox.clear_faults()
    sandbox.add_fault(Fault(method="GET", path="/batch-results/*", status=200, body=line, times=None))
    cut = await maker.facts("get_batch", batch_id=id)
    assert cut["note"].startswith(f"{cut['total'] - 1} rows are missing in the API's results")


async def test_a_batch_in_a_status_that_nobody_knows_is_not_told_as_one_that_runs(
    maker: Assistant, sandbox: Sandbox
) -> None:
    id = (await maker.facts("create_batch", rows=rows(sandbox)))["batch_id"]
    odd: Facts = {"id": id, "status": "CANCELLED"}
    sandbox.add_fault(Fault(method="GET", path=f"/v2/batch/{id}", status=200, body=odd))
    told = await maker.facts("get_batch", batch_id=id)
    assert "This status is not known here" in told["next_step"]


async def test_an_id_that_is_no_batch_is_told_where_the_batches_are(maker: Assistant) -> None:
    refused = await maker.error("get_batch", batch_id="nope")
    assert refused.code == "not_found"
    assert "no batch by this id" in refused.text
    assert "get_batch without it lists the newest" in refused.text


async def test_a_row_of_unknown_price_is_named_when_the_user_is_asked(
    served: Served, sandbox: Sandbox
) -> None:
    given = rows(sandbox)
    given[7]["input"][0]["url"] = "https://gone.example.com/a.mp4"
    async with served(toolsets=("batch",), approve_above_usd=100) as client:
        asked = await Assistant(client).error("create_batch", rows=given)
        assert (asked.code, "that of row 8 is not known" in asked.text) == ("approval_required", True)
    async with served(toolsets=("batch",), budget_usd=100) as client:
        assert (await Assistant(client).error("create_batch", rows=given)).code == "limit_reached"
    assert sent(sandbox, BATCH) == []


async def test_the_user_is_asked_about_the_total_and_their_quote_makes_the_batch(
    served: Served, sandbox: Sandbox
) -> None:
    async with served(toolsets=("batch",), approve_above_usd=1) as client:
        maker = Assistant(client)
        asked = await maker.error("create_batch", rows=rows(sandbox))
        assert (asked.code, "4.52 USD" in asked.text, "20" in asked.text) == ("approval_required", True, True)
        made = await maker.facts("create_batch", rows=rows(sandbox), quote_id=quote_in(asked))
        assert made["total"] == 20
    assert len(sent(sandbox, BATCH)) == 1


async def test_a_lost_batch_is_told_with_the_list_to_look_in(maker: Assistant, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="POST", path=BATCH, drop="after"))
    sandbox.add_fault(Fault(method="GET", path=BATCH, status=403, body={"message": "no"}, times=None))
    lost = await maker.error("create_batch", rows=rows(sandbox))
    assert (lost.code, lost.money_spent, "get_batch" in lost.text) == ("outcome_unknown", "unknown", True)
    sandbox.clear_faults()
    listed = await maker.facts("get_batch")
    assert ([row["total"] for row in listed["batches"]], len(sent(sandbox, BATCH))) == ([20], 1)


async def test_rows_render_dialogue_edits_and_one_that_cannot_refuses_them_all_by_its_line(
    served: Served, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=0)
    clip = await make_clip(sandbox)
    async with served(agrees=True, toolsets=("batch", "dialogue")) as client:
        maker = Assistant(client)
        change = {"words": "Tuesday", "replacement": "Thursday"}
        edit = await maker.facts("edit_dialogue", asset_id=clip, changes=[change])
        given = rows(sandbox)
        video = [{"type": "video", "asset_id": clip}]
        given[7] = {"input": video, "dialogue_edit_id": edit["dialogue_edit_id"]}
        made = await maker.facts("create_batch", rows=given)
        assert (await maker.facts("get_batch", batch_id=made["batch_id"]))["completed"] == 20
        [renders] = [
            row["payload"] for row in sent(sandbox, BATCH)[0]["rows"] if "dialogueEdit" in row["payload"]
        ]
        assert renders["dialogueEdit"] == {"id": edit["dialogue_edit_id"]}
        assert renders["model"] == "sync-3"
        charged = len(sandbox.charges)
        given[7] = {"input": video, "dialogue_edit_id": NOBODYS}
        refused = await maker.error("create_batch", rows=given)
        assert (refused.meta["api_code"], refused.money_spent) == ("dialogue_edit_not_found", "no")
        assert "row 8: " in refused.text
        given[7] = {"input": video, "dialogue_edit_id": edit["dialogue_edit_id"]}
        at_once = Fault.api_error("dialogue_edit_not_found", method="POST", path=BATCH, lineNumber=8)
        sandbox.add_fault(at_once)
        refused = await maker.error("create_batch", rows=given, take=2)
        assert "line 8: " in refused.text
        assert len(sandbox.charges) == charged


async def make_clip(sandbox: Sandbox) -> str:
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as client:
        return (await client.assets.upload(sample("speaking.mp4"))).id


async def test_batches_are_waited_for_by_their_ids_beside_videos(maker: Assistant, sandbox: Sandbox) -> None:
    sandbox.configure(job_seconds=0)
    made = await maker.facts("create_batch", rows=rows(sandbox))
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as elsewhere:
        [video, *_] = await elsewhere.generations.list(limit=1)
    ids = [made["batch_id"], video.id]
    told = await maker.facts("wait_for_generations", generation_ids=ids)
    assert (told["completed"], [row["status"] for row in told["generations"]]) == (2, ["COMPLETED"] * 2)
    assert "get_batch with path saves" in told["next_step"]


async def test_a_batch_that_this_ledger_has_not_made_is_waited_for_too(
    maker: Assistant, sandbox: Sandbox
) -> None:
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as elsewhere:
        made = await elsewhere.batches.create(_requests(sandbox))
    told = await maker.facts("wait_for_generations", generation_ids=[made.id], wait_seconds=0)
    assert (told["running"], told["generations"][0]["status"]) == (1, "PENDING")


def _requests(sandbox: Sandbox) -> list[GenerationRequest]:
    return [GenerationRequest.from_wire(row) for row in rows(sandbox)]
