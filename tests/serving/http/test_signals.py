import os
import signal
import sys

import pytest

from sync_mcp.sandbox import Sandbox
from tests.server.host import KEY
from tests.server.test_end import DEAF_NAME_SERVER
from tests.serving.http.web import TOKEN, Web, call, connection, said, serving
from tests.serving.stdio.process import started

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="this system ends a process by force, whatever the signal"
)

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
IDLE_ENDS_WITHIN_SECONDS = 5.0
ANSWERED_ENDS_WITHIN_SECONDS = 3.0
SIGNALLED_AT_THE_START = """
import signal, sys
import anyio
from sync_mcp.cli import main as cli
number, run = int(sys.argv.pop(1)), anyio.run

def signalled(*args, **kwargs):
    signal.raise_signal(number)
    return run(*args, **kwargs)

anyio.run = signalled
cli.main()
"""


@SIGNALS
def test_a_signal_before_the_event_loop_runs_ends_the_server(
    sandbox: Sandbox, number: signal.Signals
) -> None:
    command = (sys.executable, "-c", SIGNALLED_AT_THE_START, str(int(number)), "--http", "--port", "0")
    with started(command, {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": sandbox.url}) as server:
        assert server.process.wait(IDLE_ENDS_WITHIN_SECONDS) == 0
        assert "Traceback" not in server.all_stderr()


@SIGNALS
def test_a_signal_as_soon_as_the_server_says_that_it_serves_ends_it(
    sandbox: Sandbox, number: signal.Signals
) -> None:
    for _ in range(2):
        with serving(sandbox) as web:
            web.server.process.send_signal(number)
            assert web.server.process.wait(IDLE_ENDS_WITHIN_SECONDS) == 0
            assert "Traceback" not in web.server.all_stderr()


def test_a_name_server_that_never_answers_cannot_hold_up_the_end() -> None:
    env = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": "https://api.example", "SYNC_MCP_HTTP_TOKEN": TOKEN}
    with started((sys.executable, "-c", DEAF_NAME_SERVER, "--http", "--port", "0"), env) as server:
        url = server.stderr.until(lambda line: b"/mcp" in line).decode().split()[-1]
        web = Web(server, url)
        with connection(web) as caller:
            caller.sendall(call("list_generations", {}))
            server.told("resolving")
            server.process.send_signal(signal.SIGTERM)
            assert b"once the server runs again" in said(caller)
            assert server.process.wait(ANSWERED_ENDS_WITHIN_SECONDS) == 0
        assert "Traceback" not in server.all_stderr()
