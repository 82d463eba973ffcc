"""A client belongs to one event loop."""

from asyncio import Runner

import pytest

from sync_mcp import AsyncSync, ConfigurationError, Generation, Text, Video
from sync_mcp.sandbox import Sandbox

from .conftest import KEY


def test_a_client_says_in_another_event_loop_what_to_do_and_sends_nothing(sandbox: Sandbox) -> None:
    sync = AsyncSync(api_key=KEY, base_url=sandbox.url)

    async def make() -> Generation:
        media = [Video(url=sandbox.samples.video), Text(script="Hello", voice_id="ada")]
        return await sync.generations.create(model="lipsync-2", input=media)

    with Runner() as first, Runner() as second:
        first.run(sync.models.list())
        for call in (sync.models.list(), make(), sync.aclose()):
            with pytest.raises(
                ConfigurationError, match=r"another event loop.*one client for each event loop"
            ):
                second.run(call)
        assert len(sandbox.requests) == 1
        # Its connections were left alone, so in its own loop it goes on.
        first.run(sync.models.list())
        first.run(sync.aclose())


def test_a_client_that_was_closed_is_used_in_whichever_event_loop_comes_next(sandbox: Sandbox) -> None:
    sync = AsyncSync(api_key=KEY, base_url=sandbox.url)
    for _ in range(2):
        with Runner() as loop:
            assert loop.run(sync.models.list())
            loop.run(sync.aclose())
