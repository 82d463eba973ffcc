import json
import subprocess
import sys
from pathlib import Path

import pytest

from sync_mcp.machine.scratch import LOCK_NAME
from tests.server.host import KEY
from tests.serving.stdio.process import close_stdin, request, started

WATCHED = """
import atexit, json, sys

events = []

def note(event, arguments):
    if event == "open" or event.startswith("socket."):
        events.append((event, str(arguments[0])))

sys.addaudithook(note)
atexit.register(lambda: print(json.dumps([list(sys.modules), list(events)]), file=sys.stderr))
"""
OURS = f"""{WATCHED}
sys.argv = ["sync-mcp"]
from sync_mcp.cli.main import main
main()
"""
BARE = f"""{WATCHED}
import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import ListToolsResult

async def list_tools(context, params):
    return ListToolsResult(tools=[])

async def serve():
    server = Server("bare", on_list_tools=list_tools)
    async with stdio_server() as (reads, writes):
        await server.run(reads, writes, server.create_initialization_options())

anyio.run(serve)
"""
PUT_OFF = """
import sys
from sync_mcp.serving.late_sdk import put_off_sdk_packages
put_off_sdk_packages()
import mcp.server.lowlevel
print("mcp.client.client" in sys.modules)
from mcp import Client, MCPError
from mcp.server import MCPServer, Server
import mcp.client.client, mcp.server.mcpserver, mcp.shared.exceptions
print(Client is mcp.client.client.Client and MCPError is mcp.shared.exceptions.MCPError)
print(MCPServer is mcp.server.mcpserver.MCPServer and Server is mcp.server.lowlevel.Server)
put_off_sdk_packages()
print(mcp.Client is Client and mcp.server.MCPServer is MCPServer)
"""
HEAVY = {"httpx", "httpcore", "h11", "av", "PIL", "starlette", "uvicorn", "sqlalchemy", "certifi"}
OF_LATER = ("sync_mcp.api", "sync_mcp.sandbox", "sync_mcp.media", "sync_mcp.cli.demo")
CODE = (".py", ".pyc", ".so", ".pyd", ".zip")


class Watched:
    """What a server had loaded and done when it had listed its tools and ended."""

    def __init__(self, program: str) -> None:
        with started((sys.executable, "-c", program), {"SYNC_API_KEY": KEY}, forked=False) as server:
            server.initialize()
            server.ask(request("list", "tools/list"))
            close_stdin(server)
            modules, events = json.loads(server.all_stderr().splitlines()[-1])
        self.modules: set[str] = set(modules)
        self.events: list[tuple[str, str]] = [(event, argument) for event, argument in events]

    @property
    def packages(self) -> set[str]:
        return {module.partition(".")[0] for module in self.modules}

    @property
    def data_files(self) -> set[str]:
        opened = {argument for event, argument in self.events if event == "open"}
        # What is meant by /proc/self there is the pipe to this process, and here something else.
        named = {name for name in opened if not name.startswith("/proc/self/")}
        return {name for name in named if Path(name).is_file() and not name.endswith(CODE)}


@pytest.fixture(scope="module")
def ours() -> Watched:
    return Watched(OURS)


@pytest.fixture(scope="module")
def bare() -> Watched:
    """A server made of nothing but the SDK: what that loads cannot be left out."""
    return Watched(BARE)


def test_a_server_that_lists_its_tools_has_loaded_nothing_heavy_that_the_sdk_does_not(
    ours: Watched, bare: Watched
):
    assert "sync_mcp.tools.core" in ours.modules
    assert HEAVY & (ours.packages - bare.packages) == set()
    assert ours.packages - bare.packages - sys.stdlib_module_names == {"sync_mcp"}


def test_a_server_that_lists_its_tools_has_loaded_no_client_and_no_sandbox(ours: Watched):
    assert [module for module in sorted(ours.modules) if module.startswith(OF_LATER)] == []


def test_a_server_that_lists_its_tools_has_loaded_no_client_and_no_other_server_of_the_sdk(
    ours: Watched, bare: Watched
):
    unused = ("mcp.client", "mcp.server.mcpserver")
    assert [module for module in sorted(ours.modules) if module.startswith(unused)] == []
    assert [module for module in sorted(bare.modules) if module.startswith(unused)]


def test_a_name_of_the_sdk_that_is_put_off_is_there_when_it_is_asked_for():
    used = subprocess.run([sys.executable, "-c", PUT_OFF], capture_output=True, encoding="utf-8", timeout=60)
    assert (used.stdout.split(), used.stderr) == (["False", "True", "True", "True"], "")


def test_the_start_does_no_network_and_reads_no_data(ours: Watched, bare: Watched):
    network = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
    assert [event for event in ours.events if event[0] in network] == []
    # Of folders that killed processes have left, it asks for the lock.
    assert {name for name in ours.data_files - bare.data_files if Path(name).name != LOCK_NAME} == set()
