"""Local media of a call: whatever is wrong with a file is told with its name."""

import math
from pathlib import Path

import anyio
import pytest

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.background.work import Work
from sync_mcp.errors import FileRefused, UnderWay
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.sandbox.media.samples import sample

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 60.0


def untold(name: str) -> OnProgress:
    del name

    async def note(transfer: Transfer) -> None:
        del transfer

    return note


async def read(path: Path, seconds: float = WAIT_SECONDS) -> InputFile | FileRefused | UnderWay:
    found: InputFile | FileRefused | UnderWay | None = None
    async with anyio.create_task_group() as task_group:
        reader = LocalReader(MediaRoots([path.parent], None), Work(task_group))
        until = anyio.current_time() + seconds
        try:
            found = await reader.read(str(path), None, until=until, progress_of=untold)
        except (FileRefused, UnderWay) as error:
            found = error
        task_group.cancel_scope.cancel()
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["talk.mp4", "is", "cut short", "The file"])
async def test_a_file_that_cannot_be_decoded_is_named_though_its_name_is_a_word_of_the_sentence(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(sample("speaker.mp4").read_bytes()[:-2000])
    refused = await read(path)
    assert isinstance(refused, FileRefused)
    assert refused.message.startswith(f"{name} is cut short: ")


async def test_a_file_that_is_still_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Not finished"
    path.write_bytes(sample("speaker.mp4").read_bytes())
    under_way = await read(path, seconds=0.0)
    assert isinstance(under_way, UnderWay)
    assert under_way.message.startswith("Not finished: Not finished: ")


async def test_what_was_read_stays_open_and_is_named_as_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(sample("speaker.mp4").read_bytes())
    media = await read(path)
    assert isinstance(media, InputFile)
    path.unlink()
    media.file.seek(0)
    assert media.file.read() == sample("speaker.mp4").read_bytes()
    assert media.name == "talk.mp4"


async def test_no_signed_url_stands_in_what_is_told_of_a_fetch_that_goes_on() -> None:
    url, told = "https://media.example/talk.mp4?signature=SeCrEt", list[UnderWay]()
    async with (
        AsyncSync(api_key="k", base_url="http://127.0.0.1:9") as sync,
        anyio.create_task_group() as task_group,
    ):
        reader = LocalReader(MediaRoots([], None), Work(task_group))
        fetches = [
            reader.copy(sync, url, kind="video", name=None, until=-math.inf),
            reader.look_at_url(sync, url, until=-math.inf),
        ]
        for fetch in fetches:
            with pytest.raises(UnderWay) as caught:
                await fetch
            told.append(caught.value)
        task_group.cancel_scope.cancel()
    assert "SeCrEt" not in repr([(error, vars(error), error.handle.key) for error in told])
