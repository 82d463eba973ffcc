"""Where the end of a job is told that names no webhook of its own."""

from typing import Any

import pytest
from mcp import Client

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Sandbox

from .assistant import Assistant, creates, media

pytestmark = pytest.mark.anyio

OURS = "https://mcp.example.com/webhooks/sync"
PUBLIC: dict[str, Any] = {"public_url": "https://mcp.example.com/"}


def served(sandbox: Sandbox, **settings: Any) -> Client:
    """A server whose user is asked about nothing, and lets no webhook be told but what the settings allow."""
    chosen = {"api_key": "any", "base_url": sandbox.url, "approve_above_usd": "never", **settings}
    return Client(create_server(Settings.model_validate(chosen)), mode="legacy", read_timeout_seconds=60)


async def test_it_is_told_to_this_servers_own_url_which_needs_no_yes(sandbox: Sandbox) -> None:
    async with served(sandbox, **PUBLIC) as client:
        made = await Assistant(client).facts("create_generation", input=media(sandbox))
    assert sandbox.generations[made["generation_id"]]["webhookUrl"] == OURS


async def test_a_webhook_that_the_call_names_is_kept(sandbox: Sandbox) -> None:
    own = "https://hooks.example.net/done"
    async with served(sandbox, **PUBLIC, webhook_hosts=("hooks.example.net",)) as client:
        made = await Assistant(client).facts("create_generation", input=media(sandbox), webhook_url=own)
    assert sandbox.generations[made["generation_id"]]["webhookUrl"] == own


async def test_where_no_public_url_is_set_nobody_is_told(sandbox: Sandbox) -> None:
    async with served(sandbox) as client:
        made = await Assistant(client).facts("create_generation", input=media(sandbox))
    assert sandbox.generations[made["generation_id"]]["webhookUrl"] is None


async def test_a_job_from_before_the_public_url_was_set_is_known_again(
    sandbox: Sandbox,
) -> None:
    every: list[dict[str, Any]] = [{}, PUBLIC, {"public_url": "https://elsewhere.example.com"}]
    ids: set[str] = set()
    for settings in every:
        async with served(sandbox, **settings) as client:
            made = await Assistant(client).facts("create_generation", input=media(sandbox))
            ids.add(made["generation_id"])
    assert len(ids) == len(creates(sandbox)) == 1


async def test_who_names_no_webhook_is_not_told_that_theirs_differs(sandbox: Sandbox) -> None:
    """The call is the same one, whatever the server puts in its place by now."""
    notes: list[str] = []
    every: list[dict[str, Any]] = [{}, PUBLIC]
    for settings in every:
        async with served(sandbox, **settings) as client:
            made = await Assistant(client).facts("create_generation", input=media(sandbox))
            notes.append(made.get("note", ""))
    assert notes[1] == "The same call made this job before: nothing new was made or paid."


async def test_where_an_end_is_told_after_the_public_url_has_changed_is_said(sandbox: Sandbox) -> None:
    every: list[dict[str, Any]] = [PUBLIC, {"public_url": "https://elsewhere.example.com"}, {}]
    notes: list[str] = []
    for settings in every:
        async with served(sandbox, **settings) as client:
            made = await Assistant(client).facts("create_generation", input=media(sandbox))
            notes.append(made.get("note", ""))
    assert [note.endswith("The job's end is told where the first call said.") for note in notes] == [
        False,
        True,
        True,
    ]


async def test_a_webhook_that_the_call_names_and_the_first_did_not_is_told_to_be_left_out(
    sandbox: Sandbox,
) -> None:
    async with served(sandbox, **PUBLIC, webhook_hosts=("hooks.example.net",)) as client:
        assistant = Assistant(client)
        await assistant.facts("create_generation", input=media(sandbox))
        again = await assistant.facts(
            "create_generation", input=media(sandbox), webhook_url="https://hooks.example.net/done"
        )
    assert again["note"].endswith("The job keeps the first call's webhook_url, not this call's.")


async def test_a_row_of_a_batch_is_not_given_this_servers_url(sandbox: Sandbox) -> None:
    """The API takes a webhook of the whole batch alone."""
    rows = [{"model": "lipsync-2", "input": media(sandbox, number)} for number in range(20)]
    async with served(sandbox, **PUBLIC, toolsets=("core", "batch")) as client:
        made = await Assistant(client).facts("create_batch", rows=rows)
    assert made["total"] == 20
