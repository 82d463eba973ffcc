import json
import os
import sys

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import PROTOCOL_VERSION_META_KEY, TextContent

from .process import (
    FIXTURE_SERVER,
    INITIALIZE,
    ROOT,
    WAIT_SECONDS,
    ServerProcess,
    call,
    modern,
    notification,
    request,
    text_of,
)

ERAS = pytest.mark.parametrize("modern_era", [False, True], ids=["legacy", "modern"])


async def use_client(mode: str, era: str) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(FIXTURE_SERVER)],
        env={"PYTHONPATH": str(ROOT), "HOME": os.environ["HOME"]},
    )
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        waiting.cancel()

    with anyio.fail_after(WAIT_SECONDS):
        async with Client(parameters, mode=mode) as client:
            assert client.protocol_version == era
            assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
            with anyio.CancelScope() as waiting:
                await client.call_tool("wait_forever", {"text": "a"}, progress_callback=on_progress)
            assert seen == [1]
            result = await client.call_tool("echo", {"text": "after a cancelled call"})
            assert result.content == [TextContent(type="text", text="after a cancelled call")]


@pytest.mark.parametrize(("mode", "era"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_a_client_of_the_sdk_lists_calls_and_cancels(mode: str, era: str):
    anyio.run(use_client, mode, era)


def test_a_client_that_probes_and_falls_back_to_initialize_is_served(fresh_server: ServerProcess):
    probe = fresh_server.ask(modern(request(1, "server/discover")))
    assert probe["result"]["supportedVersions"] == ["2026-07-28"]
    assert "error" in fresh_server.ask(call(2, "echo", "before the handshake"))
    fresh_server.initialize()
    assert text_of(fresh_server.ask(call(3, "echo", "legacy after all"))) == "legacy after all"


def test_a_client_that_initializes_before_it_probes_is_served(fresh_server: ServerProcess):
    fresh_server.initialize()
    assert "result" in fresh_server.ask(modern(request(1, "server/discover")))
    assert text_of(fresh_server.ask(modern(call(2, "echo", "modern after all")))) == "modern after all"


def test_a_probe_of_a_version_not_served_is_told_which_are(server: ServerProcess):
    probe = request(1, "server/discover", {"_meta": {PROTOCOL_VERSION_META_KEY: "2099-01-01"}})
    assert server.ask(modern(probe))["error"]["code"] == -32022
    assert "result" in server.ask(INITIALIZE)


def test_initialize_is_a_handshake_even_in_a_modern_envelope(server: ServerProcess):
    server.ask(modern(request(1, "server/discover")))
    assert server.ask(modern(INITIALIZE))["result"]["protocolVersion"] == "2025-11-25"


def test_calls_of_both_eras_in_one_write_are_each_answered_in_their_own_way(server: ServerProcess):
    calls = [call(n, "echo", str(n)) for n in range(40)]
    server.send(*(modern(frame) if n % 2 else frame for n, frame in enumerate(calls)))
    answers = [server.answer(n)["result"] for n in range(40)]
    assert [answer["content"][0]["text"] for answer in answers] == [str(n) for n in range(40)]
    assert ["resultType" in answer for answer in answers] == [bool(n % 2) for n in range(40)]


def test_both_eras_see_the_one_lifespan(server: ServerProcess):
    assert text_of(server.ask(call(1, "lifespan_state"))) == "shared"
    assert text_of(server.ask(modern(call(2, "lifespan_state")))) == "shared"


@ERAS
@pytest.mark.parametrize("sent_as", ["7", 7])
def test_a_cancellation_reaches_the_handler_of_its_request(
    server: ServerProcess, modern_era: bool, sent_as: str | int
):
    frame = call(7, "wait_forever", "the call", progressToken="p")
    server.send(modern(frame) if modern_era else frame)
    progress = server.frame(lambda frame: frame.get("method") == "notifications/progress")
    assert progress["params"] == {"progressToken": "p", "progress": 1.0}
    server.send(notification("notifications/cancelled", requestId=sent_as))
    server.told("cancelled the call")
    server.ask(call(8, "echo"))
    assert not [frame for frame in map(json.loads, server.stdout.seen) if frame.get("id") == 7]


def test_a_cancellation_of_an_id_in_flight_in_both_eras_reaches_the_later_one_first(server: ServerProcess):
    for first, second, frames in (
        (
            "legacy",
            "modern",
            [call(1, "wait_forever", "legacy 1"), modern(call(1, "wait_forever", "modern 1"))],
        ),
        (
            "modern",
            "legacy",
            [modern(call(2, "wait_forever", "modern 2")), call(2, "wait_forever", "legacy 2")],
        ),
    ):
        request_id = frames[0]["id"]
        server.send(*frames)
        server.told(f"waiting {first} {request_id}")
        server.told(f"waiting {second} {request_id}")
        server.send(notification("notifications/cancelled", requestId=request_id))
        server.told(f"cancelled {second} {request_id}")
        server.send(notification("notifications/cancelled", requestId=request_id))
        server.told(f"cancelled {first} {request_id}")
    # What an earlier test had cancelled may be told only now.
    told = [line for line in server.stderr.seen if line.startswith((b"cancelled l", b"cancelled m"))]
    assert told == [
        b"cancelled modern 1\n",
        b"cancelled legacy 1\n",
        b"cancelled legacy 2\n",
        b"cancelled modern 2\n",
    ]


@pytest.mark.parametrize("params", [{}, {"requestId": 99}, {"requestId": [1]}, {"requestId": True}], ids=str)
def test_a_cancellation_of_nothing_is_ignored(server: ServerProcess, params: dict[str, object]):
    server.send(notification("notifications/cancelled", **params))
    assert text_of(server.ask(call(1, "echo", "still here"))) == "still here"


def test_an_id_in_use_twice_is_answered_twice(server: ServerProcess):
    server.send(call(1, "echo", "a"), call(1, "echo", "b"))
    for text in ("a", "b"):
        server.frame(lambda frame, text=text: frame["id"] == 1 and text_of(frame) == text)
