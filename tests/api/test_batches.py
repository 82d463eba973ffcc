"""Batches by the client: our key in their rows, results by a redirect without it, a check for nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sync_mcp import (
    AsyncSync,
    Audio,
    BatchRow,
    GenerationRequest,
    InvalidRequestError,
    NoOutput,
    NotFoundError,
    OutcomeUnknown,
    RequestRejectedError,
    SyncError,
    Video,
)
from sync_mcp.api.batch_results import BatchResult
from sync_mcp.api.models import LocalMedia
from sync_mcp.sandbox import Fault, Sandbox

from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

BATCH = "/v2/batch"


def request(sandbox: Sandbox | None, number: int = 0, **more: Any) -> GenerationRequest:
    url = sandbox.samples.video if sandbox else "https://media.example/clip.mp4"
    sound = sandbox.samples.audio if sandbox else "https://media.example/speech.wav"
    media = [Video(url=f"{url}?clip={number}"), Audio(url=sound)]
    return GenerationRequest.model_validate({"model": "lipsync-2", "input": media, **more})


def rows(sandbox: Sandbox | None = None, count: int = 20) -> list[GenerationRequest]:
    return [request(sandbox, number) for number in range(count)]


async def test_a_batch_runs_and_its_results_name_the_callers_rows(sync: AsyncSync, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=BATCH, job="fail", error_code="voice_blocked", rows=(2,)))
    named = [BatchRow(one, f"scene-{number}") for number, one in enumerate(rows(sandbox), 1)]
    made = await sync.batches.create(named, webhook_url="https://example.com/hook")
    assert (made.status, made.metrics.pending_count, made.finished) == ("PENDING", 20, False)
    with pytest.raises(NoOutput, match="no results yet"):
        await sync.batches.results(made.id)
    assert await sync.batches.wait(made.id, 0, known=made) == made
    sandbox.advance(60)
    ended = await sync.batches.wait(made.id, 30)
    assert (ended.status, ended.metrics.success_count, ended.metrics.failed_count) == ("COMPLETED", 19, 1)
    results = await sync.batches.results(made.id)
    assert [row.request_id for row in results] == [f"scene-{number}" for number in range(1, 21)]
    assert (results[1].status, results[1].error_code) == ("FAILED", "voice_blocked")
    assert {row.generation_id for row in results} == set(sandbox.generations)
    assert (results[0].output_url or "").startswith(sandbox.url)
    # The key went to the API, and not to where it led.
    assert not any(one.flags for one in sandbox.requests)
    [sent] = [one.body for one in sandbox.requests if one.method == "POST"]
    assert isinstance(sent, dict)
    assert sent["webhook_url"] == "https://example.com/hook"
    assert str(sent["rows"]).count("scene-1~sync-mcp-") == 1


async def test_batches_are_listed_by_status_and_time(sync: AsyncSync, sandbox: Sandbox) -> None:
    made = await sync.batches.create(rows(sandbox))
    since = made.created_at
    assert since is not None
    assert [one.id for one in await sync.batches.list(status="PENDING", created_after=since)] == [made.id]
    assert await sync.batches.list(created_before=since - timedelta(days=1)) == []
    with pytest.raises(InvalidRequestError, match="created_after must be before created_before"):
        await sync.batches.list(created_after=since, created_before=since.replace(tzinfo=None))
    with pytest.raises(NotFoundError):
        await sync.batches.get("other")


async def test_a_lost_batch_is_found_by_our_key_and_never_sent_again(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=0, batch_result_keys="snake")
    sandbox.add_fault(Fault(method="POST", path=BATCH, drop="after"))
    made = await sync.batches.create(rows(sandbox))
    assert (made.status, len(sandbox.charges)) == ("COMPLETED", 20)
    sandbox.configure(job_seconds=30)
    sandbox.add_fault(Fault(method="POST", path=BATCH, drop="after"))
    with pytest.raises(OutcomeUnknown, match=r"Batch .* of the API's list may be this job") as unknown:
        await sync.batches.create(rows(sandbox), request_options={"max_retries": 0})
    # It runs, and its rows cannot be seen.
    assert (unknown.value.reason, len(unknown.value.maybe_ids)) == ("maybe_seen", 1)
    assert len([one for one in sandbox.requests if one.method == "POST"]) == 2


async def test_a_check_makes_nothing_and_names_the_line_that_is_wrong(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    await sync.batches.dry_run(rows(sandbox), webhook_url="https://example.com/hook")
    bad = rows(sandbox)
    bad[3] = request(sandbox, 3, model="lipsync-9")
    with pytest.raises(RequestRejectedError, match="line 4: model"):
        await sync.batches.dry_run(bad)
    assert (sandbox.charges, sandbox.generations) == ([], {})


async def test_a_check_that_made_a_batch_after_all_says_so(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync]
) -> None:
    client = client_of(serve(answer(201, {"id": "b1", "status": "PENDING"})))
    with pytest.raises(SyncError, match="has made one: b1") as made:
        await client.batches.dry_run(rows())
    assert (made.value.money_spent, made.value.retryable) == ("yes", False)


def two_alike() -> list[GenerationRequest]:
    alike = rows()
    alike[12] = request(None, 4, output_file_name="other")
    return alike


def named(name: str) -> list[BatchRow | GenerationRequest]:
    return [BatchRow(request(None, 20), name), *rows(count=19)]


def replaced(**more: Any) -> list[GenerationRequest]:
    return [request(None, 20, **more), *rows(count=19)]


LARGE = "x" * (6 * 1024**2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rows(count=19), "20 to 500 rows, and this one has 19"),
        (rows(count=501), "20 to 500 rows, and this one has 501"),
        (two_alike(), "row 13 is the same as row 5, and would be paid twice"),
        (named("row-2"), "row 2: request_id row-2 is that of row 1 too"),
        (named("a b"), "row 1: request_id has 1 to 64"),
        (replaced(padding=LARGE), "has 6.0 MB, and the API takes 5"),
        (replaced(webhook_url="https://example.com/x"), "row 1: the webhook is that of the whole batch"),
        (replaced(input=[]), "row 1: "),
        (
            replaced(
                input=[LocalMedia(type="video", sha256="0" * 64, name="a.mp4"), Audio(url="https://a.b/c")]
            ),
            "row 1: a file on this machine is uploaded first",
        ),
    ],
    ids=lambda one: one[:24] if isinstance(one, str) else "",
)
async def test_what_can_be_no_batch_is_refused_before_anything_is_sent(
    sync: AsyncSync, sandbox: Sandbox, given: list[BatchRow | GenerationRequest], words: str
) -> None:
    for send in (sync.batches.create, sync.batches.dry_run):
        with pytest.raises(InvalidRequestError) as refused:
            await send(given)
        assert words in str(refused.value)
    with pytest.raises(InvalidRequestError, match="https URL"):
        await sync.batches.create(rows(), webhook_url="http://example.com")
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"requestId": "a", "status": "completed", "generationId": "g", "outputUrl": "u"}, "COMPLETED"),
        ({"request_id": "a", "generation_id": "g", "output_media_url": "u"}, "COMPLETED"),
        ({"request_id": "a", "status": "COMPLETED", "id": "g", "outputMediaUrl": "u"}, "COMPLETED"),
        (
            {
                "request_id": "a",
                "id": "line",
                "generation": {"id": "g", "outputUrl": "u"},
            },
            "COMPLETED",
        ),
    ],
)
def test_a_line_of_the_results_is_read_whatever_its_keys_are(line: dict[str, Any], told: str) -> None:
    row = BatchResult.read(line)
    assert (row.request_id, row.status, row.generation_id, row.output_url) == ("a", told, "g", "u")


def test_why_a_row_failed_is_read_as_text_or_object() -> None:
    plain = BatchResult.read({"requestId": "a", "error": "No voice.", "errorCode": "voice_blocked"})
    inner = BatchResult.read({"requestId": "a", "error": {"message": "No voice.", "code": "voice_blocked"}})
    assert plain == inner
    assert (plain.status, plain.error, plain.error_code) == ("FAILED", "No voice.", "voice_blocked")
    assert BatchResult.read({"requestId": "a"}).status == "UNKNOWN"


async def test_results_that_the_api_sends_itself_are_read_and_a_page_is_no_result(
    sync: AsyncSync, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=0)
    made = await sync.batches.create(rows(sandbox))
    path = f"/v2/batches/{made.id}/result"
    sandbox.add_fault(Fault(path=path, status=200, body='{"request_id":"a~k","status":"COMPLETED"}\nno\n'))
    assert [row.request_id for row in await sync.batches.results(made.id)] == ["a"]
    sandbox.add_fault(Fault(path=path, status=200, body="<html></html>"))
    with pytest.raises(SyncError, match="no result of a batch"):
        await sync.batches.results(made.id)
    sandbox.add_fault(Fault(path=path, status=302, headers={"location": "https://10.0.0.1/x"}))
    with pytest.raises(SyncError, match="this machine, or in its network"):
        await sync.batches.results(made.id)
