"""The command on the ledger that a server names goes to its ledger, typed in a terminal of the user's."""

import os
import re
import shlex
from pathlib import Path

import pytest

from sync_mcp.machine.home import default_home
from sync_mcp.sandbox import Fault, Sandbox
from tests.server.host import COMMAND, KEY, embedded, hosted, media, text
from tests.serving.stdio.forked import run_forked
from tests.serving.stdio.process import WAIT_SECONDS, Frame

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="the commands are taken apart as a POSIX shell does"
)

LOST: Frame = {"method": "POST", "path": "/v2/generate", "drop": "before", "times": None}


def settling_command(told: str) -> list[str]:
    """The words of the command that a create of unknown outcome is told to be settled with."""
    [line] = re.findall(r"the user can settle it: (.*)\.$", told, re.MULTILINE)
    words = shlex.split(line)
    assert words[:3] == [COMMAND, "ledger", "show"]
    return words


def typed(words: list[str], home: Path) -> str:
    """What a terminal of the user's prints, which knows nothing of the server's environment."""
    done = run_forked(words, {"HOME": str(home)}, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_where_the_host_sets_the_home_the_command_goes_to_the_ledger_there(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="before", times=None))
    home = tmp_path / "of the host"
    settings = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": sandbox.url, "SYNC_MCP_HOME": str(home)}
    with hosted(env=settings) as host:
        told = text(host.call("create_generation", model="lipsync-2", input=media(sandbox.url)))
    words = settling_command(told)
    assert words[-2:] == ["--home", str(home)]
    shown = typed(words, tmp_path)
    assert "unresolved" in shown
    # What is told there goes there too.
    assert f"ledger release 1 --home {shlex.quote(str(home))}\n" in shown


def test_on_the_embedded_sandbox_the_command_goes_to_its_ledger(tmp_path: Path) -> None:
    with hosted("--sandbox") as host:
        there = embedded(host)
        there.control("faults", LOST)
        told = text(host.call("create_generation", model="lipsync-2", input=there.media))
        assert "unresolved" in typed(settling_command(told), tmp_path)


def test_where_the_home_is_the_default_one_the_command_names_none(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    sandbox.add_fault(Fault(method="POST", path="/v2/generate", drop="before", times=None))
    # Named or not, it is where the user's terminal looks.
    settings = {"SYNC_API_KEY": KEY, "SYNC_BASE_URL": sandbox.url, "HOME": str(tmp_path)}
    with hosted(env={**settings, "SYNC_MCP_HOME": str(default_home())}) as host:
        told = text(host.call("create_generation", model="lipsync-2", input=media(sandbox.url)))
    assert settling_command(told) == [COMMAND, "ledger", "show", "1"]
    assert "unresolved" in typed(settling_command(told), tmp_path)
