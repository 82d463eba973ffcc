"""What a caller is told whose call outlasts the server."""

import json
import os
from pathlib import Path

import pytest

from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.serving.http import DRAIN_SECONDS
from sync_mcp.tools.process import STOP_SECONDS
from tests.server.host import media, until
from tests.serving.http.web import Mode, both_eras, call, connection, post, said, serving
from tests.serving.stdio.process import Frame, send_sigterm

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="this system ends a process by force, whatever the signal"
)

SLOW_SECONDS = 25.0


def answered(told: bytes) -> Frame:
    """The result of the one call in a whole answer, an object or a stream of events."""
    frames = [
        json.loads(line.removeprefix(b"data: "))
        for line in told.replace(b"\r\n", b"\n").split(b"\n")
        if line.startswith((b"data: {", b"{"))
    ]
    [result] = [frame["result"] for frame in frames if "result" in frame]
    return result


def test_the_server_waits_longer_for_calls_than_they_take_to_their_last_word() -> None:
    assert STOP_SECONDS + 0.5 <= DRAIN_SECONDS


@both_eras
def test_a_create_that_outlasts_the_server_is_answered_and_the_same_call_after_it_gets_the_job(
    sandbox: Sandbox, mode: Mode, home: Path
) -> None:
    slow = Fault(method="POST", path="/v2/generate", delay_seconds=SLOW_SECONDS, when="after")
    sandbox.add_fault(slow)
    arguments = {"input": media(sandbox.url)}
    with serving(sandbox) as web, connection(web) as caller:
        caller.sendall(call("create_generation", arguments, mode))
        until(lambda: len(sandbox.charges) == 1)
        send_sigterm(web.server)
        result = answered(said(caller))
        assert web.server.process.wait(DRAIN_SECONDS) == 0
        logged = web.server.all_stderr()
    assert result["isError"]
    assert result["_meta"]["money_spent"] == "unknown"
    assert "Make exactly this call again once the server runs again" in result["content"][0]["text"]
    [charge] = sandbox.charges
    assert f"key={charge.idempotency_key}" in logged
    assert "Traceback" not in logged
    with serving(sandbox) as web:
        again = post(web.url, "tools/call", {"name": "create_generation", "arguments": arguments})
        assert charge.generation_id in again.text
    assert len(sandbox.charges) == 1


def test_a_read_that_outlasts_the_server_is_answered(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", delay_seconds=SLOW_SECONDS))
    with serving(sandbox) as web, connection(web) as caller:
        caller.sendall(call("list_generations", {}))
        until(lambda: bool(sandbox.requests))
        send_sigterm(web.server)
        result = answered(said(caller))
        assert web.server.process.wait(DRAIN_SECONDS) == 0
    assert result["_meta"]["money_spent"] == "no"
    assert "Make exactly this call again once the server runs again." in result["content"][0]["text"]


def test_a_wait_that_knows_nothing_yet_gets_the_first_state_though_the_server_is_ending(
    sandbox: Sandbox,
) -> None:
    with serving(sandbox) as web, connection(web) as caller:
        made = post(
            web.url, "tools/call", {"name": "create_generation", "arguments": {"input": media(sandbox.url)}}
        )
        [charge] = sandbox.charges
        assert charge.generation_id in made.text
        state = f"/v2/generate/{charge.generation_id}"
        sandbox.add_fault(Fault(method="GET", path=state, delay_seconds=0.5))
        caller.sendall(call("get_generation", {"generation_id": charge.generation_id, "wait_seconds": 45}))
        until(lambda: any(one.path == state for one in sandbox.requests))
        send_sigterm(web.server)
        result = answered(said(caller))
    assert result["structuredContent"]["status"] == "PENDING"
