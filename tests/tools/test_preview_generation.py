"""Looking at a result: one small picture, one line, and nothing left behind."""

import io
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import PIL.Image
import pytest
from mcp import Client
from mcp_types import CallToolResult, ImageContent, TextContent

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools import context as context_module
from sync_mcp.tools.catalogue import TOOLS
from tests.media.outputs import completed, completed_with, names_in

from .assistant import MARK, Assistant, Facts, told

NOBODY = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def assistant(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Assistant]:
    server = create_server(Settings(download_dir=tmp_path), sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client)


async def preview(assistant: Assistant, generation_id: str) -> CallToolResult:
    return await assistant.client.call_tool("preview_generation", {"generation_id": generation_id})


def fetches(sandbox: Sandbox) -> int:
    return len([one for one in sandbox.requests if one.path.startswith("/outputs/")])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_result_is_shown_as_one_small_picture_and_one_line(
    sandbox: Sandbox, assistant: Assistant
) -> None:
    generation = await completed(sandbox)
    result = await preview(assistant, generation.id)
    picture, text = result.content
    assert isinstance(picture, ImageContent)
    assert isinstance(text, TextContent)
    assert (result.structured_content, result.is_error) == (None, False)
    jpeg = b64decode(picture.data)
    assert len(jpeg) <= 90_000
    image = PIL.Image.open(io.BytesIO(jpeg))
    assert (picture.mime_type, image.format) == ("image/jpeg", "JPEG")
    assert image.width <= 640
    assert "\n" not in text.text
    assert "9 frames of 4.5 s" in text.text
    assert text.text.count(", ") >= 8
    assert "download_generation" in text.text
    assert MARK in text.text


async def test_it_has_no_output_schema_and_a_small_definition() -> None:
    [tool] = [tool for tool in TOOLS if tool.name == "preview_generation"]
    assert tool.definition.output_schema is None
    told = json.dumps(
        tool.definition.model_dump(mode="json", by_alias=True, exclude_none=True), separators=(",", ":")
    )
    assert len(told) <= 500


async def test_a_second_look_fetches_nothing_again(sandbox: Sandbox, assistant: Assistant) -> None:
    generation = await completed(sandbox)
    first = await preview(assistant, generation.id)
    assert (await preview(assistant, generation.id)).content == first.content
    assert fetches(sandbox) == 1


async def test_nothing_of_it_stays_on_the_disk(
    sandbox: Sandbox, assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await preview(assistant, (await completed(sandbox)).id)
    assert names_in(tmp_path) == set()


async def test_what_cannot_be_decoded_is_told(sandbox: Sandbox, assistant: Assistant, tmp_path: Path) -> None:
    generation = await completed_with(sandbox, b"<html>not today</html>", tmp_path)
    answer = told("preview_generation", await preview(assistant, generation.id))
    assert (answer.is_error, answer.code) == (True, "file_damaged")


async def test_without_the_extra_it_says_what_to_install_and_fetches_nothing(
    sandbox: Sandbox, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    monkeypatch.setattr("sync_mcp.media.decoding.look.is_available", lambda: False)
    answer = told("preview_generation", await preview(assistant, generation.id))
    assert (answer.code, "sync-mcp[media]" in answer.text) == ("media_extra_missing", True)
    assert fetches(sandbox) == 0


async def test_a_job_that_runs_or_is_unknown_says_how_to_go_on(
    sandbox: Sandbox, assistant: Assistant
) -> None:
    generation = await completed(sandbox)
    running: Facts = {"id": generation.id, "status": "PENDING"}
    sandbox.add_fault(Fault(path="/v2/generate/*", status=200, body=running))
    answer = told("preview_generation", await preview(assistant, generation.id))
    assert (answer.code, "wait_for_generations" in answer.text) == ("generation_running", True)
    answer = told("preview_generation", await preview(assistant, NOBODY))
    assert "list_generations" in answer.text


async def test_a_private_address_is_not_asked(sandbox: Sandbox, assistant: Assistant) -> None:
    generation = await completed(sandbox)
    elsewhere: Facts = {
        "id": generation.id,
        "status": "COMPLETED",
        "outputUrl": "http://169.254.169.254/?s=s3cret",
    }
    sandbox.add_fault(Fault(path="/v2/generate/*", status=200, body=elsewhere))
    answer = told("preview_generation", await preview(assistant, generation.id))
    assert (answer.code, "s3cret" in answer.text) == ("url_refused", False)


async def test_a_fetch_longer_than_the_call_goes_on_and_a_repeat_joins_it(
    sandbox: Sandbox, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    with monkeypatch.context() as patch:
        patch.setattr("sync_mcp.tools.context.ANSWER_SECONDS", context_module.CALL_SECONDS)
        answer = told("preview_generation", await preview(assistant, generation.id))
        assert answer.code == "transfer_under_way"
    with anyio.fail_after(20):
        assert len((await preview(assistant, generation.id)).content) == 2
    assert fetches(sandbox) == 1
