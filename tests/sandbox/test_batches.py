"""Batches of the sandbox keep the API's contract (API §5)."""

import json
from collections.abc import Sequence

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import Json, ask, code_of, lipsync

BATCH = "/v2/batch"


def rows(sandbox: Sandbox, count: int = 20, **more: object) -> list[Json]:
    return [
        {
            "request_id": f"row-{number}",
            "endpoint": "/v2/generate",
            "payload": lipsync(sandbox, outputFileName=f"clip_{number}", **more),
        }
        for number in range(1, count + 1)
    ]


def made(api: httpx.Client, sent: Sequence[object], **more: object) -> Json:
    answer = api.post(BATCH, json={"rows": sent, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def lines(api: httpx.Client, batch: Json) -> list[Json]:
    """Return the lines of a batch's results, by the redirect that its output URL answers."""
    led = api.get(batch["outputUrl"])
    assert led.status_code == 302
    return [json.loads(line) for line in ask("GET", led.headers["location"]).text.splitlines()]


def test_a_batch_runs_beside_the_limit_of_jobs_and_its_results_are_behind_a_redirect(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    sandbox.configure(concurrency=1)
    batch = made(api, rows(sandbox), webhook_url="https://example.com/hook")
    assert batch == {
        "id": batch["id"],
        "created_at": batch["created_at"],
        "status": "PENDING",
        "metrics": {"total_generations": 20, "success_count": 0, "failed_count": 0, "pending_count": 20},
        "webhookUrl": "https://example.com/hook",
        "outputUrl": "",
    }
    assert api.post("/v2/generate", json=lipsync(sandbox)).status_code == 201
    told = [api.get(f"{BATCH}/{batch['id']}").json()["status"]]
    for _ in range(3):
        sandbox.advance(sandbox.settings.job_seconds / 4)
        told.append(api.get(f"{BATCH}/{batch['id']}").json()["status"])
    assert told == ["PENDING", "JOBS_CREATED", "PROCESSING", "PROCESSING"]
    assert api.get(f"/v2/batches/{batch['id']}/result").status_code == 404
    sandbox.advance(60)
    ended = api.get(f"{BATCH}/{batch['id']}").json()
    assert (ended["status"], ended["metrics"]["success_count"]) == ("COMPLETED", 20)
    results = lines(api, ended)
    assert [line["requestId"] for line in results] == [f"row-{number}" for number in range(1, 21)]
    assert ask("GET", results[0]["outputMediaUrl"]).headers["content-type"] == "video/mp4"
    assert {line["generationId"] for line in results} <= set(sandbox.generations)
    assert sandbox.batches == {batch["id"]: {line["requestId"]: line["generationId"] for line in results}}
    assert len(sandbox.charges) == 21


def test_rows_fail_for_themselves_and_the_others_go_on(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.configure(batch_result_keys="snake")
    sent = rows(sandbox)
    sent[2]["payload"]["input"][0]["url"] = "https://gone.example.com/clip.mp4"
    sandbox.add_fault(Fault(path=BATCH, job="fail", error_code="voice_blocked", rows=(5, 6)))
    batch = made(api, sent)
    sandbox.advance(60)
    ended = api.get(f"{BATCH}/{batch['id']}").json()
    assert ended["metrics"] == {
        "total_generations": 20,
        "success_count": 17,
        "failed_count": 3,
        "pending_count": 0,
    }
    failed = {line["request_id"]: line for line in lines(api, ended) if line["status"] == "FAILED"}
    assert failed.keys() == {"row-3", "row-5", "row-6"}
    assert failed["row-3"]["error_code"] == "generation_input_video_inaccessible"
    assert (failed["row-3"]["generation_id"], failed["row-5"]["error_code"]) == (None, "voice_blocked")
    assert len([charge for charge in sandbox.charges if not charge.released]) == 17


@pytest.mark.parametrize("count", [19, 501])
def test_a_batch_has_20_to_500_rows(api: httpx.Client, sandbox: Sandbox, count: int) -> None:
    refused = api.post(BATCH, json={"rows": rows(sandbox, count)})
    assert (refused.status_code, f"this one {count}" in refused.json()["message"]) == (400, True)
    assert sandbox.charges == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"request_id": "row-1"}, "line 7: the request_id row-1 stands there twice"),
        ({"endpoint": "/v2/tts"}, "line 7: endpoint must be /v2/generate"),
        ({"payload": {"model": "none", "input": []}}, "line 7: input"),
        ({"payload": None}, "line 7: the body must be a JSON object"),
        ({"more": 1}, "line 7: it must have request_id, endpoint, payload"),
    ],
)
def test_a_row_that_is_wrong_is_named_by_its_line(
    api: httpx.Client, sandbox: Sandbox, change: Json, words: str
) -> None:
    sent = rows(sandbox)
    sent[6] |= change
    refused = api.post(BATCH, json={"rows": sent})
    assert (refused.status_code, words in refused.json()["message"]) == (400, True), refused.text
    assert sandbox.charges == []


def test_what_is_too_large_of_another_plan_or_too_much_at_once_is_refused(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    large = rows(sandbox)
    large[0]["payload"]["padding"] = "x" * 6 * 1024**2
    assert api.post(BATCH, json={"rows": large}).status_code == 413
    assert api.post(BATCH, json={"rows": {}}).status_code == 400
    sandbox.configure(plan="growth")
    assert code_of(api.post(BATCH, json={"rows": rows(sandbox)})) == (402, "plan_feature_unavailable")
    sandbox.configure(plan="scale", batches_at_once=1)
    made(api, rows(sandbox))
    refused = api.post(BATCH, json={"rows": rows(sandbox)})
    assert code_of(refused) == (429, "concurrency_limit_reached")
    assert "Batch concurrency" in refused.json()["message"]
    assert len(sandbox.charges) == 20


def test_batches_are_listed_newest_first_by_status_and_time(api: httpx.Client, sandbox: Sandbox) -> None:
    first = made(api, rows(sandbox))
    sandbox.advance(60)
    second = made(api, rows(sandbox))
    assert [one["id"] for one in api.get(BATCH).json()] == [second["id"], first["id"]]
    since = {"created_after": second["created_at"]}
    assert [one["id"] for one in api.get(BATCH, params=since).json()] == [second["id"]]
    until = {"created_before": first["created_at"], "status": "COMPLETED"}
    assert [one["id"] for one in api.get(BATCH, params=until).json()] == [first["id"]]
    assert api.get(BATCH, params={"status": "DONE"}).status_code == 400
    assert api.get(BATCH, params={"created_after": "yesterday"}).status_code == 400
    assert api.get(f"{BATCH}/{'0' * 8}").status_code == 404
