"""The usages that the reference of the API's own SDK shows, line for line.

Nothing is changed but the import line, the class name and `await`.
"""

import pytest

from sync_mcp import AsyncSync, Audio, GenerationOptions, Video
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]


@pytest.fixture(autouse=True)
def at_the_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_BASE_URL", sandbox.url)


async def test_create_runs_as_the_reference_shows_it(sandbox: Sandbox) -> None:
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    generation = await client.generations.create(
        input=[
            Video(
                url="https://assets.sync.so/docs/example-video.mp4",
            ),
            Audio(
                url="https://assets.sync.so/docs/example-audio.wav",
            ),
        ],
        model="lipsync-2",
        options=GenerationOptions(
            sync_mode="loop",
        ),
    )
    await client.aclose()
    assert generation.status == "PENDING"
    assert generation.options is not None
    assert generation.options.sync_mode == "loop"
    assert [item.type for item in generation.input] == ["video", "audio"]
    assert [charge.generation_id for charge in sandbox.charges] == [generation.id]


async def test_get_runs_as_the_reference_shows_it(sandbox: Sandbox) -> None:
    id = "6533643b-aceb-4c40-967e-d9ba9baac39e"
    answer = {"id": id, "status": "COMPLETED", "createdAt": "2026-10-02T09:30:00.000Z"}
    sandbox.add_fault(Fault(path=f"/v2/generate/{id}", status=200, body={**answer}))
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    generation = await client.generations.get(
        id="6533643b-aceb-4c40-967e-d9ba9baac39e",
    )
    await client.aclose()
    assert (generation.id, generation.status) == (id, "COMPLETED")


async def test_list_runs_as_the_reference_shows_it() -> None:
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    generations = await client.generations.list()
    await client.aclose()
    assert generations == []


async def test_estimate_cost_runs_as_the_reference_shows_it(sandbox: Sandbox) -> None:
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    cost = await client.generations.estimate_cost(
        input=[
            Video(
                url="https://assets.sync.so/docs/example-video.mp4",
            ),
            Audio(
                url="https://assets.sync.so/docs/example-audio.wav",
            ),
        ],
        model="lipsync-2",
        options=GenerationOptions(
            sync_mode="loop",
        ),
    )
    await client.aclose()
    assert cost.estimated_generation_cost is not None
    assert cost.estimated_generation_cost > 0
    assert sandbox.charges == []


async def test_assets_list_runs_as_the_reference_shows_it() -> None:
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    page = await client.assets.list(
        limit=10,
        sort_by="dateDesc",
    )
    await client.aclose()
    assert (page.items, page.next_cursor, page.total_count) == ([], None, 0)


async def test_assets_get_runs_as_the_reference_shows_it(sandbox: Sandbox) -> None:
    id = "550e8400-e29b-41d4-a716-446655440000"
    answer = {"id": id, "createdAt": "2026-10-02T09:30:00.000Z", "type": "VIDEO", "visibility": "USER"}
    sandbox.add_fault(Fault(path=f"/v2/assets/{id}", status=200, body={**answer}))
    client = AsyncSync(
        api_key="YOUR_API_KEY",
    )
    asset = await client.assets.get(
        id="550e8400-e29b-41d4-a716-446655440000",
    )
    await client.aclose()
    assert (asset.id, asset.type, asset.visibility) == (id, "VIDEO", "USER")


async def test_the_key_and_the_place_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYNC_API_KEY", KEY)
    # It lets nobody in but with this key.
    with Sandbox(tokens=[KEY]) as sandbox:
        monkeypatch.setenv("SYNC_BASE_URL", sandbox.url)
        async with AsyncSync() as client:
            assert client.base_url == sandbox.url
            assert not client.sandboxed
            await client.generations.list()
            assert client.sandboxed
