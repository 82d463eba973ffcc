"""A create is made into JSON few times: nobody has to ask which of them is the request."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.sandbox import Sandbox

from .assistant import Assistant, creates, media

pytestmark = pytest.mark.anyio

MOST = 3
"""As it was asked for, as it was first priced, and in its one canonical form, which is sent and kept."""


@pytest.fixture
def made_json(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Every JSON that a request was made into."""
    made: list[Json] = []
    to_wire: Callable[[GenerationRequest], Json] = GenerationRequest.to_wire

    def count(self: GenerationRequest) -> Json:
        made.append(to_wire(self))
        return made[-1]

    monkeypatch.setattr(GenerationRequest, "to_wire", count)
    return made


async def test_a_create_from_urls_is_made_into_json_three_times_at_most(
    unattended: Assistant, sandbox: Sandbox, made_json: list[Json]
) -> None:
    await unattended.facts("create_generation", input=media(sandbox), output_file_name="clip")
    assert len(creates(sandbox)) == 1
    assert 1 <= len(made_json) <= MOST


async def test_a_repeat_that_sends_nothing_is_made_into_json_twice_at_most(
    unattended: Assistant, sandbox: Sandbox, made_json: list[Json]
) -> None:
    await unattended.facts("create_generation", input=media(sandbox))
    made_json.clear()
    told = await unattended.facts("create_generation", input=media(sandbox))
    assert told["reused"]
    assert 1 <= len(made_json) <= MOST - 1


async def test_a_create_from_local_files_is_made_into_json_three_times_at_most(
    local: Assistant, sandbox: Sandbox, movies: Path, made_json: list[Json]
) -> None:
    names = {"video": "talk.mp4", "audio": "voice.wav"}
    given = [{"type": kind, "path": str(movies / name)} for kind, name in names.items()]
    await local.facts("create_generation", input=given)
    assert len(creates(sandbox)) == 1
    assert 1 <= len(made_json) <= MOST
