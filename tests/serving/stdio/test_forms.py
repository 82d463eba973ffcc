"""How a user is asked, letter for letter, in the revision that a host speaks."""

import sys

import pytest

from sync_mcp.sandbox import Sandbox
from tests.server.host import media
from tests.serving.stdio.process import INITIALIZED, Frame, request, started


@pytest.mark.parametrize(("revision", "has_mode"), [("2025-06-18", False), ("2025-11-25", True)])
def test_a_question_carries_its_mode_only_in_revisions_that_know_it(
    sandbox: Sandbox, revision: str, has_mode: bool
) -> None:
    client: Frame = {
        "protocolVersion": revision,
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "test", "version": "1"},
    }
    env = {
        "SYNC_API_KEY": "sk_of_the_test_0123",
        "SYNC_BASE_URL": sandbox.url,
        "SYNC_MCP_APPROVE_ABOVE_USD": "0",
    }
    with started([sys.executable, "-m", "sync_mcp"], env) as server:
        assert server.ask(request("init", "initialize", client))["result"]["protocolVersion"] == revision
        server.send(INITIALIZED)
        call = {"name": "create_generation", "arguments": {"input": media(sandbox.url)}}
        server.send(request("create", "tools/call", call))
        question = server.frame(lambda frame: frame.get("method") == "elicitation/create")
        params: Frame = question["params"]
        assert params.get("mode") == ("form" if has_mode else None)
        assert set(params) - {"mode", "_meta"} == {"message", "requestedSchema"}
        server.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        assert server.answer("create")["result"]["isError"]
    assert sandbox.charges == []
