"""The sound of a speech on the disk, and as an asset."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync_mcp import APIResponseError, AsyncSync
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.saving_sound import SavedSound, save_sound
from sync_mcp.sandbox import Fault, Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as client:
        yield client


async def save(sync: AsyncSync, url: str, folder: Path | None, path: str | None = None) -> SavedSound:
    roots = MediaRoots([folder] if folder else [], folder)
    return await save_sound(sync, url, roots, path, stem="hello", told_seconds=1.0)


async def test_where_nothing_can_be_saved_it_is_an_asset_alone(sync: AsyncSync, sandbox: Sandbox) -> None:
    saved = await save(sync, sandbox.samples.audio, None)
    assert saved.path is None
    assert saved.asset is not None
    assert (saved.asset.type, saved.asset.name) == ("AUDIO", "hello.wav")


async def test_what_lasts_longer_than_the_api_tells_is_told(
    sync: AsyncSync, sandbox: Sandbox, tmp_path: Path
) -> None:
    saved = await save(sync, sandbox.samples.audio, tmp_path)
    assert saved.path == tmp_path / "hello.wav"
    assert "the API tells 1.0 s" in (saved.note or "")


async def test_a_sound_that_cannot_be_uploaded_is_on_the_disk_all_the_same(
    sync: AsyncSync, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.add_fault(Fault.api_error("file_size_exceeds_plan_limit", path="/v2/assets/upload", times=None))
    saved = await save(sync, sandbox.samples.audio, tmp_path)
    assert (saved.path, saved.asset) == (tmp_path / "hello.wav", None)
    assert saved.fault is not None


async def test_another_file_of_that_name_stays_and_the_sound_is_an_asset_all_the_same(
    sync: AsyncSync, sandbox: Sandbox, tmp_path: Path
) -> None:
    mine = tmp_path / "hello.wav"
    mine.write_bytes(b"mine")
    saved = await save(sync, sandbox.samples.audio, tmp_path)
    assert saved.refusal is not None
    assert (saved.refusal.code, mine.read_bytes(), saved.path) == ("file_exists", b"mine", None)
    assert saved.asset is not None


async def test_what_is_no_sound_is_not_saved(sync: AsyncSync, sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(APIResponseError, match="is no sound"):
        await save(sync, sandbox.samples.image, tmp_path)
