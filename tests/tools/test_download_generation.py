"""Saving a result: where, under which name, checked, and what is said where it cannot be."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from anyio.to_thread import run_sync
from mcp import Client

from sync_mcp import AsyncSync, Generation, Settings, create_server
from sync_mcp.media.decoding import look as look_module
from sync_mcp.media.decoding.findings import Examination
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools import context as context_module
from tests.media.clips import make_media
from tests.media.outputs import KEY, completed, completed_with, names_in

from .assistant import Assistant, arrived

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

OUTPUTS = "/outputs/*"
NOBODY = "00000000-0000-4000-8000-000000000000"
Serve = Callable[..., AbstractAsyncContextManager[Assistant]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    return made


@pytest.fixture
def serve(sandbox: Sandbox, folder: Path) -> Serve:
    @asynccontextmanager
    async def start(**settings: Any) -> AsyncGenerator[Assistant]:
        chosen: dict[str, Any] = {"download_dir": folder, "media_roots": (), **settings}
        server = create_server(Settings(**chosen), sandbox_url=sandbox.url)
        async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
            yield Assistant(client)

    return start


@both_backends
async def test_a_result_is_saved_in_the_download_folder_under_its_own_name(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox, output_file_name="my_talk")
    async with serve() as assistant:
        facts = await assistant.facts("download_generation", generation_id=generation.id)
    content = (folder / "my_talk.mp4").read_bytes()
    assert facts["path"] == str(folder / "my_talk.mp4")
    assert (facts["bytes"], facts["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert facts["duration_seconds"] == pytest.approx(generation.output_duration, abs=0.1)
    assert set(facts["checks"].values()) == {"ok"}
    assert facts["next_step"] == "Done: tell the user the path."
    assert names_in(folder) == {"my_talk.mp4"}


async def test_a_path_may_be_a_file_or_a_folder_and_both_spellings_of_a_name_are_taken(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox)
    (folder / "inner").mkdir()
    async with serve() as assistant:
        one = await assistant.facts(
            "download_generation", generationId=generation.id, path=str(folder / "a.mp4")
        )
        two = await assistant.facts("download_generation", id=generation.id, path=str(folder / "inner"))
    assert one["path"] == str(folder / "a.mp4")
    assert two["path"] == str(folder / "inner" / f"sync-{generation.id}.mp4")


async def test_the_same_call_again_answers_with_the_file_and_fetches_nothing(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox)
    async with serve() as assistant:
        first = await assistant.facts("download_generation", generation_id=generation.id)
        fetched = len([one for one in sandbox.requests if one.path.startswith("/outputs/")])
        assert await assistant.facts("download_generation", generation_id=generation.id) == first
        assert len([one for one in sandbox.requests if one.path.startswith("/outputs/")]) == fetched
        # Gone or changed meanwhile, it is fetched anew.
        await run_sync(Path(first["path"]).unlink)
        assert await assistant.facts("download_generation", generation_id=generation.id) == first
    async with serve() as assistant:
        again = await assistant.facts("download_generation", generation_id=generation.id)
    assert (again["path"], again["note"]) == (first["path"], "This content was there already.")
    assert names_in(folder) == {Path(first["path"]).name}


async def test_another_file_by_that_name_stays_until_overwrite_is_said(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox)
    place = folder / "mine.mp4"
    place.write_bytes(b"mine")
    async with serve() as assistant:
        arguments = {"generation_id": generation.id, "path": str(place)}
        refused = await assistant.error("download_generation", arguments)
        assert (refused.code, place.read_bytes()) == ("file_exists", b"mine")
        assert "overwrite only if the user says so" in refused.text
        facts = await assistant.facts("download_generation", arguments, overwrite=True)
    assert hashlib.sha256(place.read_bytes()).hexdigest() == facts["sha256"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "~/.ssh/x.mp4", "../x.mp4", "/dev/null", "a\0b", "https://x/y"]
)
async def test_nothing_is_written_outside_the_folders(
    sandbox: Sandbox, folder: Path, serve: Serve, path: str
) -> None:
    generation = await completed(sandbox)
    async with serve() as assistant:
        refused = await assistant.error("download_generation", generation_id=generation.id, path=path)
    assert refused.code is not None
    assert refused.code.startswith("file_")
    assert names_in(folder) == set()


async def test_over_http_nothing_is_written_unless_roots_are_set(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox)
    async with serve(http=True, media_roots=None) as assistant:
        refused = await assistant.error("download_generation", generation_id=generation.id)
        assert (refused.code, "SYNC_MCP_MEDIA_ROOTS" in refused.text) == ("file_not_allowed", True)
    async with serve(http=True, media_roots=(folder,), download_dir=None) as assistant:
        refused = await assistant.error("download_generation", generation_id=generation.id)
        assert refused.code == "folder_not_found"
        facts = await assistant.facts("download_generation", generation_id=generation.id, path=str(folder))
    assert Path(facts["path"]).parent == folder


@pytest.mark.parametrize(
    "settings",
    [{"http": True, "media_roots": None, "download_dir": None}, {"read_only": True}],
    ids=["over HTTP", "read only"],
)
async def test_where_nothing_can_be_saved_no_answer_offers_to(
    sandbox: Sandbox, serve: Serve, settings: dict[str, Any]
) -> None:
    id = (await completed(sandbox)).id
    async with serve(**settings) as assistant:
        told = [
            await assistant.facts("get_generation", generation_id=id),
            await assistant.facts("wait_for_generations", generation_ids=[id]),
        ]
        shown = await assistant.client.call_tool("preview_generation", {"generation_id": id})
        refused = await assistant.call("download_generation", generation_id=id)
    assert all("give the user" in answer["next_step"].lower() for answer in told)
    assert "download_generation" not in str([told, shown.content[-1], refused.text.split("\n")[3:]])
    if "http" in settings:
        assert "Next: get_generation tells output_url" in refused.text


async def test_a_job_that_has_not_ended_or_failed_says_how_to_go_on(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", skip=1))
    done = await completed(sandbox)
    failed = await completed(sandbox, output_file_name="other")
    async with serve() as assistant:
        told = await assistant.error("download_generation", generation_id=failed.id)
        assert (told.code, "generation_pipeline_failed" in told.text) == ("generation_failed", True)
        assert "get_generation" in told.text
        sandbox.add_fault(
            Fault(path="/v2/generate/*", status=200, body={"id": done.id, "status": "PROCESSING"})
        )
        told = await assistant.error("download_generation", generation_id=done.id)
        assert (told.code, "wait_for_generations" in told.text) == ("generation_running", True)
        sandbox.add_fault(
            Fault(path="/v2/generate/*", status=200, body={"id": done.id, "status": "COMPLETED"})
        )
        told = await assistant.error("download_generation", generation_id=done.id)
        assert told.code == "no_output"
        told = await assistant.error("download_generation", generation_id=NOBODY)
        assert "list_generations" in told.text
    assert names_in(folder) == set()


async def test_a_failed_check_says_so_and_keeps_the_file_under_another_name(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    silent = make_media(folder / "silent.mp4", picture="libx264", frames=45)
    content = silent.read_bytes()
    silent.unlink()
    generation = await completed_with(sandbox, content, folder, output_file_name="talk")
    async with serve() as assistant:
        facts = await assistant.facts("download_generation", generation_id=generation.id)
    assert facts["checks"]["sound"] == "failed: it has none"
    assert "sound failed the check" in facts["next_step"]
    assert facts["path"] == str(folder / "talk.failed-check.mp4")
    assert names_in(folder) == {"talk.failed-check.mp4"}


async def test_after_a_failed_check_the_same_call_fetches_anew_as_it_says(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    good = await completed(sandbox)
    [output_of_good] = await rendered(sandbox, good, folder)
    content = output_of_good.read_bytes()
    generation = await completed_with(sandbox, content[: len(content) // 2], folder, output_file_name="talk")
    [output] = set((sandbox.folder / "outputs").iterdir()) - {output_of_good}
    async with serve() as assistant:
        first = await assistant.facts("download_generation", generation_id=generation.id)
        assert "This call again fetches it anew." in first["next_step"]
        again = await assistant.facts("download_generation", generation_id=generation.id)
        assert (again["path"], again["note"]) == (first["path"], "This content was there already.")
        await run_sync(output.write_bytes, content)
        repaired = await assistant.facts("download_generation", generation_id=generation.id)
    assert (repaired["path"], set(repaired["checks"].values())) == (str(folder / "talk.mp4"), {"ok"})
    assert names_in(folder) == {"talk.mp4", "talk.failed-check.mp4"}


async def rendered(sandbox: Sandbox, generation: Generation, folder: Path) -> set[Path]:
    """Have an output made; return the file that the sandbox sends."""
    before = set((sandbox.folder / "outputs").iterdir())
    async with AsyncSync(api_key=KEY, base_url=sandbox.url) as sync:
        (await sync.generations.download(generation.id, folder / "rendered.mp4")).unlink()
    return set((sandbox.folder / "outputs").iterdir()) - before


async def test_what_was_not_checked_is_said_next(
    sandbox: Sandbox, folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)

    async def examine_the_beginning(file: BinaryIO | Path) -> Examination:
        return replace(await look_module.examine(file), decoded_whole=False)

    async with serve() as assistant:
        with monkeypatch.context() as patch:
            patch.setattr("sync_mcp.media.saving.examine", examine_the_beginning)
            facts = await assistant.facts("download_generation", id=generation.id, path=str(folder / "a.mp4"))
        assert facts["next_step"] == "Tell the user the path, and that decodes could not be checked."
        monkeypatch.setattr(look_module, "is_available", lambda: False)
        facts = await assistant.facts("download_generation", id=generation.id, path=str(folder / "b.mp4"))
    assert facts["next_step"] == (
        "Tell the user the path, and that only the length and the container were checked."
    )


async def test_it_is_said_to_be_able_to_destroy_and_its_definition_is_small(serve: Serve) -> None:
    async with serve() as assistant:
        [tool] = [
            tool for tool in (await assistant.client.list_tools()).tools if tool.name == "download_generation"
        ]
    assert tool.annotations is not None
    assert tool.annotations.destructive_hint
    assert len(tool.model_dump_json(by_alias=True, exclude_none=True)) <= 1000


async def test_a_transfer_longer_than_the_call_goes_on_and_a_repeat_joins_it(
    sandbox: Sandbox, folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    async with serve() as assistant:
        with monkeypatch.context() as patch:
            patch.setattr("sync_mcp.tools.context.ANSWER_SECONDS", context_module.CALL_SECONDS)
            early = await assistant.error("download_generation", generation_id=generation.id)
            assert (early.code, early.money_spent) == ("transfer_under_way", "no")
            assert "exactly this call again" in early.text
        await arrived(sandbox, "GET", OUTPUTS)
        facts = await assistant.facts("download_generation", generation_id=generation.id)
    assert names_in(folder) == {Path(facts["path"]).name}
    assert len([one for one in sandbox.requests if one.path.startswith("/outputs/")]) == 1


async def test_progress_is_told_in_bytes(sandbox: Sandbox, folder: Path, serve: Serve) -> None:
    generation = await completed(sandbox, output_file_name="talk")
    async with serve() as assistant:
        await assistant.facts("download_generation", generation_id=generation.id)
    assert assistant.progress
    assert assistant.progress[0][2].startswith("Downloading talk.mp4: ")


async def test_a_read_only_server_withholds_it_and_says_why(
    sandbox: Sandbox, folder: Path, serve: Serve
) -> None:
    generation = await completed(sandbox)
    async with serve(read_only=True) as assistant:
        names = {tool.name for tool in (await assistant.client.list_tools()).tools}
        refused = await assistant.error("download_generation", generation_id=generation.id)
    assert ("download_generation" in names, "preview_generation" in names) == (False, True)
    assert (refused.code, names_in(folder)) == ("read_only", set())
