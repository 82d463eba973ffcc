"""Jobs of every kind by their ids: waited for in one list of states, and told by the tool of their kind."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import anyio
import pytest
from mcp import Client

from sync_mcp import AsyncSync, GenerationRequest, WordChange
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, arrived, media

pytestmark = pytest.mark.anyio

TOOL_OF = {
    "speech": "create_speech",
    "dialogue edit": "get_dialogue_edit",
    "transcription": "transcribe",
    "batch": "get_batch",
}

NOBODYS = "5beec400-0000-4000-8000-000000000000"


@pytest.fixture
async def elsewhere(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    """A client with the key of `everything`, of whose jobs no ledger knows."""
    async with AsyncSync(api_key="sk_embedded_sandbox", base_url=sandbox.url) as client:
        yield client


@pytest.fixture
async def everything(served: Callable[..., Client], sandbox: Sandbox) -> AsyncIterator[Assistant]:
    """An assistant that has every tool, and whose user is asked for nothing."""
    sandbox.configure(job_seconds=0)
    async with served(toolsets=("all",)) as client:
        yield Assistant(client)


def rows(sandbox: Sandbox) -> list[Facts]:
    return [{"model": "lipsync-2", "input": media(sandbox, number)} for number in range(20)]


async def make_one_of_each(sync: AsyncSync, sandbox: Sandbox) -> dict[str, str]:
    """Return the id of a job of each kind but generations, by what such a job is called."""
    url = (await sync.assets.upload(sample("speaking.mp4"))).url or ""
    heard = await sync.transcriptions.create(source_video_url=url)
    transcript = (await sync.transcriptions.wait(heard.id, 5)).transcript
    assert transcript
    changes = [WordChange(word_id=transcript.words[0].id, replacement="Hi")]
    edit = await sync.dialogue_edits.create(source_video_url=url, transcript=transcript, edits=changes)
    speech = await sync.speech.create(script="Hi.", voice_id=VOICE)
    batch = await sync.batches.create([GenerationRequest.from_wire(row) for row in rows(sandbox)])
    return {"speech": speech.id, "dialogue edit": edit.id, "transcription": heard.id, "batch": batch.id}


async def test_all_kinds_of_jobs_are_waited_for_by_their_ids_in_one_list_of_states(
    everything: Assistant, elsewhere: AsyncSync, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/dialogue-edits", end_status="COMPLETED_PARTIAL"))
    ids = await make_one_of_each(elsewhere, sandbox)
    made = await everything.facts("create_generation", model="lipsync-2", input=media(sandbox))
    asked = [*ids.values(), made["generation_id"], NOBODYS]
    waited = await everything.facts("wait_for_generations", generation_ids=asked, wait_seconds=5)
    assert [(row.get("kind"), row["status"]) for row in waited["generations"]] == [
        *((noun, "COMPLETED") for noun in ids),
        (None, "COMPLETED"),
        (None, "NOT_FOUND"),
    ]
    assert (waited["completed"], waited["unknown"]) == (5, 1)
    assert all(tool in waited["next_step"] for tool in TOOL_OF.values())
    [alone] = (await everything.facts("wait_for_generations", generation_ids=[ids["batch"]]))["generations"]
    assert (alone["kind"], alone["status"]) == ("batch", "COMPLETED")


async def test_a_video_that_failed_is_told_of_apart_from_jobs_of_other_kinds(
    everything: Assistant, elsewhere: AsyncSync, sandbox: Sandbox
) -> None:
    url = (await elsewhere.assets.upload(sample("speaker.mp4"))).url or ""
    mute = await elsewhere.transcriptions.create(source_video_url=url)
    waited = await everything.facts("wait_for_generations", generation_ids=[mute.id])
    assert (waited["failed"], waited["generations"][0]["api_code"]) == (1, "NO_AUDIO_TRACK")
    assert "get_generation" not in waited["next_step"]
    sandbox.add_fault(Fault(job="fail"))
    made = await everything.facts("create_generation", model="lipsync-2", input=media(sandbox))
    asked = [mute.id, made["generation_id"]]
    waited = await everything.facts("wait_for_generations", generation_ids=asked)
    assert "get_generation tells why one failed" in waited["next_step"]


async def test_however_many_jobs_no_ledger_knows_each_is_found(
    everything: Assistant, elsewhere: AsyncSync
) -> None:
    url = (await elsewhere.assets.upload(sample("speaking.mp4"))).url or ""
    jobs = [
        await elsewhere.transcriptions.create(source_video_url=url, end_ms=1_000 + number)
        for number in range(12)
    ]
    waited = await everything.facts("wait_for_generations", generation_ids=[job.id for job in jobs])
    assert waited["completed"] == 12


async def test_after_some_ids_that_are_nobodys_no_more_are_looked_for(
    everything: Assistant, sandbox: Sandbox
) -> None:
    ids = [str(UUID(int=number, version=4)) for number in range(40)]
    waited = await everything.facts("wait_for_generations", generation_ids=ids, wait_seconds=5)
    assert waited["unknown"] == 40
    looked_for = [request for request in sandbox.requests if request.path.startswith("/v2/transcriptions/")]
    assert 5 <= len(looked_for) < 10


async def test_a_wait_for_any_goes_on_past_an_id_that_is_of_a_job_of_another_kind(
    everything: Assistant, elsewhere: AsyncSync, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.transcriptions._LOOK_SECONDS", 0.05)
    url = (await elsewhere.assets.upload(sample("speaking.mp4"))).url or ""
    sandbox.configure(job_seconds=30)
    heard = await elsewhere.transcriptions.create(source_video_url=url)
    async with anyio.create_task_group() as task_group:

        async def end_the_job() -> None:
            await arrived(sandbox, "GET", f"/v2/transcriptions/{heard.id}")
            sandbox.advance(60)

        task_group.start_soon(end_the_job)
        waited = await everything.facts("wait_for_generations", generation_ids=[heard.id], until="any")
        assert [row["status"] for row in waited["generations"]] == ["COMPLETED"]


async def test_an_id_of_another_kind_is_told_as_what_it_is_with_the_tool_that_reads_it(
    everything: Assistant, elsewhere: AsyncSync, sandbox: Sandbox
) -> None:
    for noun, id in (await make_one_of_each(elsewhere, sandbox)).items():
        for tool in ("get_generation", "download_generation"):
            refused = await everything.error(tool, generation_id=id)
            assert f"This is the id of a {noun}, and of no video." in refused.text
            assert TOOL_OF[noun] in refused.text.partition("Next: ")[2]


async def test_what_the_ledger_has_made_is_told_as_what_it_is_though_the_api_shows_nothing(
    everything: Assistant, sandbox: Sandbox
) -> None:
    made = await everything.facts("create_batch", rows=rows(sandbox))
    sandbox.add_fault(Fault(method="GET", path="/v2/batch/*", status=404, body={"message": "no"}, times=None))
    refused = await everything.error("get_generation", generation_id=made["batch_id"])
    assert "This is the id of a batch, and of no video." in refused.text
