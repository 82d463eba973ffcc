"""Which job is which: what it is about, and where its result was saved, in every answer about jobs."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mcp import Client
from pydantic import SecretStr

from sync_mcp import AsyncSync, Ledger, LedgerError, Settings, create_server
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.media.clips import make_media
from tests.media.outputs import completed, names_in
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, media

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "Movies"
    folder.mkdir()
    # A dub needs speech in the clip.
    make_media(folder / "talk.mp4", picture="libx264", sound="aac", size=(320, 240), frames=30)
    shutil.copy(sample("speech.wav"), folder / "ben.wav")
    return folder


@pytest.fixture
def connected(sandbox: Sandbox, folder: Path) -> Callable[[], Client]:
    """Connect to servers as new chats have them: over one ledger, on a sandbox of its own."""
    sandbox.configure(plan="enterprise")
    settings = Settings(
        api_key=SecretStr("sk_first"),
        base_url=sandbox.url,
        media_roots=(folder,),
        download_dir=folder,
        approve_above_usd="never",
    )
    return lambda: Client(create_server(settings), mode="legacy", read_timeout_seconds=60)


@pytest.fixture
async def assistant(connected: Callable[[], Client]) -> AsyncIterator[Assistant]:
    async with connected() as client:
        yield Assistant(client)


def clip(folder: Path) -> Facts:
    return {"type": "video", "path": str(folder / "talk.mp4")}


async def listed(assistant: Assistant) -> dict[str, Facts]:
    rows = (await assistant.facts("list_generations"))["generations"]
    return {row["generation_id"]: row for row in rows}


async def test_dubs_of_one_clip_are_told_apart_in_a_new_chat(
    connected: Callable[[], Client], sandbox: Sandbox, folder: Path
) -> None:
    jobs: dict[str, str] = {}
    async with connected() as client:
        for language in ("es", "fr", "de"):
            made = await Assistant(client).facts(
                "create_generation", input=[clip(folder)], dub={"target_lang": language}
            )
            jobs[made["generation_id"]] = f"talk.mp4, dubbed into {language}"
    sandbox.advance(60)
    async with connected() as client:
        assistant = Assistant(client)
        assert {id: row["about"] for id, row in (await listed(assistant)).items()} == jobs
        waited = await assistant.call("wait_for_generations", generation_ids=list(jobs))
        assert {row["generation_id"]: row["about"] for row in waited.facts["generations"]} == jobs
        assert 'about "talk.mp4, dubbed into es"' in waited.text
        for id, about in jobs.items():
            assert (await assistant.facts("get_generation", generation_id=id))["about"] == about


async def test_a_clip_with_a_voice_or_a_script_is_called_by_both(assistant: Assistant, folder: Path) -> None:
    voice = {"type": "audio", "path": str(folder / "ben.wav")}
    script = {"type": "text", "voice_id": VOICE, "script": "Welcome to our spring collection of hats"}
    for said in (voice, script):
        await assistant.facts("create_generation", input=[clip(folder), said])
    assert [row["about"] for row in (await listed(assistant)).values()] == [
        'talk.mp4: "Welcome to our spring collection of hats"',
        "talk.mp4 + ben.wav",
    ]


async def test_a_job_of_another_ledger_has_no_name(assistant: Assistant, sandbox: Sandbox) -> None:
    job = await completed(sandbox)
    told = await assistant.facts("get_generation", generation_id=job.id)
    waited = await assistant.facts("wait_for_generations", generation_ids=[job.id])
    assert not {"about", "saved_as"} & {*told, *waited["generations"][0]}


async def test_who_makes_a_job_is_not_told_what_it_is_about(assistant: Assistant, sandbox: Sandbox) -> None:
    made = await assistant.facts("create_generation", input=media(sandbox))
    assert not {"about", "created_at"} & made.keys()


async def test_once_it_is_saved_every_answer_about_a_job_says_where(
    connected: Callable[[], Client], sandbox: Sandbox, folder: Path
) -> None:
    async with connected() as client:
        assistant = Assistant(client)
        made = await assistant.facts("create_generation", input=media(sandbox))
        job = made["generation_id"]
        sandbox.advance(60)
        assert "saved_as" not in await assistant.facts("get_generation", generation_id=job)
        path = str(folder / "hats, in spring.mp4")
        await assistant.facts("download_generation", generation_id=job, path=path)
    async with connected() as client:
        assistant = Assistant(client)
        assert (await assistant.facts("get_generation", generation_id=job))["saved_as"] == path
        assert (await listed(assistant))[job]["saved_as"] == path
        waited = await assistant.call("wait_for_generations", generation_ids=[job])
        assert waited.facts["generations"][0]["saved_as"] == path
        assert f'saved_as "{path}"' in waited.text


async def test_what_is_saved_is_not_offered_to_be_saved_again(
    connected: Callable[[], Client], sandbox: Sandbox
) -> None:
    async with connected() as client:
        assistant = Assistant(client)
        jobs = [
            (await assistant.facts("create_generation", input=media(sandbox, number)))["generation_id"]
            for number in range(2)
        ]
        sandbox.advance(60)
        for number, job in enumerate(jobs):
            got = await assistant.facts("get_generation", generation_id=job)
            assert "download_generation saves it" in got["next_step"]
            waited = await assistant.facts("wait_for_generations", generation_ids=jobs)
            assert "download_generation saves it" in waited["next_step"]
            assert ("Where saved_as stands, it was saved there." in waited["next_step"]) == bool(number)
            await assistant.facts("download_generation", generation_id=job)
            got = await assistant.facts("get_generation", generation_id=job)
            assert "It was saved as saved_as" in got["next_step"]
            assert "download_generation" not in got["next_step"]
        waited = await assistant.facts("wait_for_generations", generation_ids=jobs)
        assert "download_generation" not in waited["next_step"]
        assert "preview_generation" in waited["next_step"]


async def test_a_result_that_failed_its_check_does_not_count_as_saved(
    assistant: Assistant, sandbox: Sandbox, tmp_path: Path
) -> None:
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)
    job = made["generation_id"]
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as sync:
        # The sandbox makes it when it is fetched first.
        await sync.generations.download(job, tmp_path / "first.mp4")
    [output] = (sandbox.folder / "outputs").iterdir()
    output.write_bytes(b"<html>not today</html>")
    saved = await assistant.facts("download_generation", generation_id=job)
    assert "failed" in saved["next_step"]
    assert "saved_as" not in await assistant.facts("get_generation", generation_id=job)


async def test_a_result_is_saved_though_the_ledger_cannot_be_written(
    assistant: Assistant, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)

    def full(*_: object) -> None:
        raise LedgerError("The disk is full.")

    monkeypatch.setattr(Ledger, "note_saved", full)
    saved = await assistant.facts("download_generation", generation_id=made["generation_id"])
    assert Path(saved["path"]).name in names_in(folder)
