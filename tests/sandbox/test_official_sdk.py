"""The API's own SDK against the sandbox, as its reference shows it."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from sync import AsyncSync, Audio, GenerationOptions, Sync, Video
from sync.common import BatchResponse, Generation
from sync.core.api_error import ApiError

from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.wire import ask, lipsync, uploaded

VIDEO = "https://assets.sync.so/docs/example-video.mp4"
AUDIO = "https://assets.sync.so/docs/example-audio.wav"


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Sync]:
    with httpx.Client(verify=False) as http:
        yield Sync(base_url=sandbox.url, api_key="sk_test", httpx_client=http)


def _create(client: Sync) -> Generation:
    return client.generations.create(
        input=[Video(url=VIDEO), Audio(url=AUDIO)],
        model="lipsync-2",
        options=GenerationOptions(sync_mode="loop"),
    )


def test_it_creates_and_gets_a_generation(sandbox: Sandbox, client: Sync) -> None:
    generation = _create(client)
    assert (generation.status, generation.model) == ("PENDING", "lipsync-2")
    sandbox.advance(60)
    done = client.generations.get(generation.id)
    assert done.status == "COMPLETED"
    assert done.output_duration == pytest.approx(4.5, abs=0.01)
    assert done.created_at == generation.created_at
    assert done.output_url
    assert ask("GET", done.output_url).headers["content-type"] == "video/mp4"


def test_it_lists_generations(client: Sync) -> None:
    ids = {_create(client).id for _ in range(2)}
    assert {generation.id for generation in client.generations.list(status=["PENDING", "PROCESSING"])} == ids
    assert client.generations.list(status=["COMPLETED"]) == []


def test_it_estimates_the_cost(client: Sync) -> None:
    (estimate,) = client.generations.estimate_cost(
        input=[Video(url=VIDEO), Audio(url=AUDIO)],
        model="lipsync-2",
        options=GenerationOptions(sync_mode="loop"),
    )
    assert (estimate.estimated_frame_count, estimate.estimated_generation_cost) == (113, 0.226)


def test_it_lists_models_and_assets(client: Sync) -> None:
    assert "sync-3" in {model.name for model in client.models.list()}
    assert client.assets.list().items == []


def test_it_checks_creates_gets_and_lists_batches(sandbox: Sandbox, client: Sync) -> None:
    row = {"endpoint": "/v2/generate", "payload": lipsync(sandbox)}
    file = "\n".join(json.dumps({"request_id": f"row-{number}", **row}) for number in range(20)).encode()
    assert client.batch.create(input=("rows.jsonl", file), dry_run=True).status == "VALIDATED"
    assert sandbox.charges == []
    batch = client.batch.create(input=("rows.jsonl", file), webhook_url="https://example.com/hook")
    assert isinstance(batch, BatchResponse)
    shown = client.batch.get(batch.id)
    assert (shown.metrics.total_generations, shown.output_url) == (20, "")
    assert shown.webhook_url == "https://example.com/hook"
    listed = client.batch.list(status="PENDING", created_after=shown.created_at)
    assert [one.id for one in listed] == [batch.id]


def test_it_pages_through_assets_and_gets_one(sandbox: Sandbox, client: Sync, api: httpx.Client) -> None:
    clip, speech = sample("speaker.mp4").read_bytes(), sample("speech.wav").read_bytes()
    ids = [
        uploaded(api, "one.mp4", "video/mp4", clip),
        uploaded(api, "two.wav", "audio/wav", speech),
        uploaded(api, "three.mp4", "video/mp4", clip),
    ]
    first = client.assets.list(limit=2, sort_by="dateDesc")
    assert [asset.id for asset in first.items] == [ids[2], ids[1]]
    assert first.total_count == 3
    rest = client.assets.list(limit=2, sort_by="dateDesc", cursor=first.next_cursor)
    assert [asset.id for asset in rest.items] == [ids[0]]
    assert rest.next_cursor is None
    assert [asset.name for asset in client.assets.list(types=["AUDIO"]).items] == ["two.wav"]
    assert len(client.assets.list(types=["VIDEO", "AUDIO"], search_query="T").items) == 2
    assert client.assets.list(project_id=sandbox.project_id).items == []
    asset = client.assets.get(ids[1])
    assert (asset.type, asset.visibility, asset.format, asset.size) == ("AUDIO", "USER", "wav", len(speech))
    with pytest.raises(ApiError) as missing:
        client.assets.get("00000000-0000-4000-8000-000000000000")
    assert missing.value.status_code == 404


def test_it_reads_failures_in_its_own_spelling(sandbox: Sandbox, client: Sync) -> None:
    sandbox.configure(error_code_name="error_code")
    sandbox.add_fault(Fault(job="fail"))
    generation = _create(client)
    sandbox.advance(60)
    assert client.generations.get(generation.id).error_code == "generation_pipeline_failed"


def test_it_raises_its_errors(sandbox: Sandbox, client: Sync) -> None:
    with pytest.raises(ApiError) as not_found:
        client.generations.get("00000000-0000-4000-8000-000000000000")
    assert not_found.value.status_code == 404
    sandbox.add_fault(Fault.api_error("concurrency_limit_reached"))
    with pytest.raises(ApiError) as busy:
        _create(client)
    assert busy.value.status_code == 429


def test_its_async_client_does_the_same(sandbox: Sandbox) -> None:
    async def work() -> None:
        async with httpx.AsyncClient(verify=False) as http:
            client = AsyncSync(base_url=sandbox.url, api_key="sk_test", httpx_client=http)
            inputs = [Video(url=VIDEO), Audio(url=AUDIO)]
            generation = await client.generations.create(input=inputs, model="lipsync-2")
            sandbox.advance(60)
            assert (await client.generations.get(generation.id)).status == "COMPLETED"
            assert [row.id for row in await client.generations.list()] == [generation.id]
            (estimate,) = await client.generations.estimate_cost(input=inputs, model="lipsync-2")
            assert estimate.estimated_frame_count == 113

    asyncio.run(asyncio.wait_for(work(), 20))
