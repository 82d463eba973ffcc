"""What the command calls itself, as a real process of installations of every kind."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sync_mcp
from sync_mcp.machine.installed import join_words, ledger_command, name_home
from tests.docs.pages import read_pages
from tests.package.facts import Facts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the installations are made of links")

WAIT_SECONDS = 60
WHEEL: dict[str, Any] = {"url": "file:///home/jane/sync_mcp-0.1.0-py3-none-any.whl", "archive_info": {}}


@dataclass(frozen=True)
class Installed:
    """An installation that tools of this kind make, and programs that stand on the PATH beside it."""

    script: Path
    path: Path

    def run(self, *words: str, by: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [by or str(self.script), *words],
            env={"PATH": f"{self.path}{os.pathsep}/usr/bin:/bin", "HOME": str(self.path), "COLUMNS": "500"}
            | environment,
            cwd=self.path,
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT_SECONDS,
        )

    def command(self, **environment: str) -> list[str]:
        """The command and arguments that a host is told."""
        done = self.run("config", "cursor", "--sandbox", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        server = json.loads(done.stdout.split("\n\n", 1)[1])["mcpServers"]["sync-sandbox"]
        return [server["command"], *server["args"]]


def installed(
    root: Path, place: str, *programs: str, source: Mapping[str, Any] | None = None, has_pipx: bool = False
) -> Installed:
    prefix = root / place
    venv.create(prefix, symlinks=True)
    packages = prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    # Its own note of where it comes from, and the packages of the tests.
    note = packages / "sync_mcp-0.1.0.dist-info"
    note.mkdir()
    (note / "METADATA").write_text("Metadata-Version: 2.1\nName: sync-mcp\nVersion: 0.1.0\n")
    if source is not None:
        (note / "direct_url.json").write_text(json.dumps(source))
    (packages / "rest.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{Path(sync_mcp.__file__).parents[1]}\n"
    )
    if has_pipx:
        (prefix / "pipx_metadata.json").write_text("{}")
    script = prefix / "bin" / "sync-mcp"
    script.write_text(f"#!{prefix}/bin/python\nfrom sync_mcp.cli.main import main\nmain()\n")
    script.chmod(0o755)
    path = root / "on-the-path"
    path.mkdir()
    for program in programs:
        (path / program).write_text("#!/bin/sh\n")
        (path / program).chmod(0o755)
    return Installed(script, path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "sync-mcp[media,postgres]==0.1.0"),
        (WHEEL, f"sync-mcp[media,postgres] @ {WHEEL['url']}"),
        (
            {"url": "file:///home/jane/sync", "dir_info": {}},
            "sync-mcp[media,postgres] @ file:///home/jane/sync",
        ),
        (
            {
                "url": "https://jane:hunter2@git.example/sync.git",
                "vcs_info": {"vcs": "git", "commit_id": "7f4c8e1"},
                "subdirectory": "server",
            },
            "sync-mcp[media,postgres] @ git+https://git.example/sync.git@7f4c8e1#subdirectory=server",
        ),
        (
            {
                "url": "ssh://git@git.example/sync.git",
                "vcs_info": {"vcs": "git", "commit_id": "7f4c8e1"},
            },
            "sync-mcp[media,postgres] @ git+ssh://git@git.example/sync.git@7f4c8e1",
        ),
    ],
    ids=["an index", "a wheel", "a folder", "git", "git over SSH"],
)
def test_under_uvx_config_prints_uvx_with_the_source(
    tmp_path: Path, source: Mapping[str, Any] | None, told: str
) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", "uvx", source=source)
    assert there.command() == [str(there.path / "uvx"), "--from", told, "sync-mcp", "--sandbox"]


def test_where_uvx_is_not_on_the_path_the_uv_that_runs_it_is_named(tmp_path: Path) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", source=WHEEL)
    assert there.command(UV="/opt/uv")[:4] == ["/opt/uv", "tool", "run", "--from"]


def test_under_uvx_every_host_gets_the_command_word_for_word_and_no_path_into_the_cache(
    tmp_path: Path,
) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", "uvx", source=WHEEL)
    for host in ("claude-code", "codex", "opencode", "inspector"):
        told = there.run("config", host, "--sandbox").stdout
        assert "archive-v0" not in told
        assert f"sync-mcp[media,postgres] @ {WHEEL['url']}" in told
    help_text = there.run("--help").stdout
    assert "archive-v0" not in help_text
    assert f"usage: {there.path}/uvx --from" in help_text


def test_what_runs_out_of_a_cache_is_named_as_it_is_run_though_its_folder_is_on_the_path_meanwhile(
    tmp_path: Path,
) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", "uvx", source=WHEEL)
    path = os.pathsep.join(map(str, (there.script.parent, there.path)))
    assert there.run("--help", PATH=path).stdout.startswith(f"usage: {there.path}/uvx --from")


def test_under_uvx_the_extra_is_had_by_uvx(tmp_path: Path) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", "uvx", source=WHEEL)
    (there.path / "av.py").write_text("raise ImportError('not here')\n")
    refused = there.run("--sandbox", PYTHONPATH=str(there.path))
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        f": {there.path}/uvx --from 'sync-mcp[media,postgres] @ {WHEEL['url']}' sync-mcp\n"
    )


def test_under_pipx_run_config_prints_pipx_with_the_source(tmp_path: Path) -> None:
    there = installed(tmp_path, ".cache/pipx/19e1e67ab619621", "pipx", source=WHEEL, has_pipx=True)
    spec = f"sync-mcp[media,postgres] @ {WHEEL['url']}"
    assert there.command() == [str(there.path / "pipx"), "run", "--spec", spec, "sync-mcp", "--sandbox"]


@pytest.mark.parametrize(
    ("place", "has_pipx"),
    [(".local/share/uv/tools/sync-mcp", False), (".local/share/pipx/venvs/sync-mcp", True)],
    ids=["uv tool", "pipx"],
)
def test_what_a_tool_has_installed_is_named_by_its_link_on_the_path_or_where_it_stays(
    tmp_path: Path, place: str, has_pipx: bool
) -> None:
    there = installed(tmp_path, place, has_pipx=has_pipx)
    assert there.command() == [str(there.script), "--sandbox"]
    (there.path / "sync-mcp").symlink_to(there.script)
    assert there.command() == [str(there.path / "sync-mcp"), "--sandbox"]


def test_help_names_the_command_by_what_starts_it_here(tmp_path: Path) -> None:
    there = installed(tmp_path, "clone/.venv")
    typed = "../clone/.venv/bin/sync-mcp"
    assert there.run("--help", by=str(there.script)).stdout.startswith(f"usage: {there.script} [-h]")
    done = subprocess.run(
        [typed, "--nope"],
        cwd=there.path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    assert f"(try {typed} --help)".encode() in done.stderr
    # Another program of this name is another program.
    (there.path / "sync-mcp").write_text("#!/bin/sh\n")
    (there.path / "sync-mcp").chmod(0o755)
    assert there.run("--help").stdout.startswith(f"usage: {there.script} [-h]")
    (there.path / "sync-mcp").unlink()
    (there.path / "sync-mcp").symlink_to(there.script)
    assert there.run("--help").stdout.startswith("usage: sync-mcp [-h]")


def test_an_error_names_the_command_so_that_it_can_be_typed_in_any_folder(tmp_path: Path) -> None:
    there = installed(tmp_path, "clone/.venv")
    home = {"SYNC_MCP_HOME": str(tmp_path / "home")}

    def told(by: str) -> str:
        return there.run("ledger", "show", "1", by=by, **home).stderr

    assert told(str(there.script)).endswith(f": {there.script} ledger list shows them.\n")
    from_here = "../clone/.venv/bin/sync-mcp"
    assert told(from_here).endswith(f": {there.path}/{from_here} ledger list shows them.\n")
    (there.path / "sync-mcp").symlink_to(there.script)
    assert told("sync-mcp").endswith(": sync-mcp ledger list shows them.\n")


def test_the_ledger_that_is_in_use_is_named_as_long_as_it_is() -> None:
    plain = ledger_command("show", "3")
    with name_home(Path("/one")), name_home(Path("/another one")):
        assert ledger_command("show", "3") == f"{plain} --home '/another one'"
    assert ledger_command("show", "3") == plain


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sync-mcp", "ledger", "show", "3"], "sync-mcp ledger show 3"),
        # Single quotes are letters to cmd; a text in quotes at the beginning is no program to PowerShell.
        ([r"C:\Program Files\py\sync-mcp.exe", "ledger"], r'C:\"Program Files"\py\sync-mcp.exe ledger'),
        ([r"my tools\sync-mcp.exe", "ledger"], r'.\"my tools"\sync-mcp.exe ledger'),
        (["sync-mcp", "--home", r"C:\Users\Jörg Maier\sync"], r'sync-mcp --home "C:\Users\Jörg Maier\sync"'),
        (["sync-mcp", "--home", r"C:\Users\O'Neil & (co)"], 'sync-mcp --home "C:\\Users\\O\'Neil & (co)"'),
        # A backslash before the last quote would take that away from it.
        (["sync-mcp", "--home", "C:\\a b\\"], r'sync-mcp --home "C:\a b\\"'),
        (["sync-mcp", "--home", ""], 'sync-mcp --home ""'),
        (["pip", "install", "sync-mcp[media]"], 'pip install "sync-mcp[media]"'),
        # A comma makes a list of it in PowerShell, a semicolon ends the command, an at sign takes it apart.
        (["sync-mcp", "a,b", "a;b", "@a"], 'sync-mcp "a,b" "a;b" "@a"'),
    ],
)
def test_on_windows_a_command_is_quoted_as_cmd_and_powershell_both_read_it(
    words: list[str], line: str
) -> None:
    assert join_words(words, is_windows=True) == line


def test_elsewhere_a_command_is_quoted_for_a_shell_of_posix() -> None:
    assert join_words(["sync-mcp", "--home", "/a b"], is_windows=False) == "sync-mcp --home '/a b'"


def test_under_uvx_an_error_names_uvx(tmp_path: Path) -> None:
    there = installed(tmp_path, ".cache/uv/archive-v0/Ewez", "uvx", source=WHEEL)
    told = there.run("ledger", "show", "1", SYNC_MCP_HOME=str(tmp_path / "home")).stderr
    assert (
        f": {there.path}/uvx --from 'sync-mcp[media,postgres] @ {WHEEL['url']}' sync-mcp ledger list" in told
    )


def test_a_program_that_uses_the_client_is_told_a_command_that_runs_beside_it(tmp_path: Path) -> None:
    there = installed(tmp_path, "clone/.venv")
    program = "from sync_mcp import LedgerError; print(LedgerError('It is gone.').next_step)"
    python = there.script.with_name("python")
    told = there.run("-c", program, by=str(python)).stdout
    assert told == f"Ask the user to look at the ledger: {python} -m sync_mcp ledger check.\n"
    done = there.run(
        "-m", "sync_mcp", "ledger", "check", by=str(python), SYNC_MCP_HOME=str(tmp_path / "home")
    )
    assert done.returncode == 0


def test_no_text_of_ours_names_the_ledgers_command_bare() -> None:
    """It is made at one place: `ledger_command`. Docstrings speak to who reads the code."""
    for path in Path(sync_mcp.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
                assert "sync-mcp ledger" not in node.value, f"{path.name}:{node.lineno}"


def test_no_page_names_a_command_that_is_not_where_it_says() -> None:
    commands = ("config", "doctor", "demo", "sandbox", "ledger", "--sandbox", "--http", "--help")
    for line in read_pages().splitlines():
        for command in commands:
            for before in line.split(f"sync-mcp {command}")[:-1]:
                assert before.endswith((".venv/bin/", f"uvx --from '{Facts.read().requirement}' ")), line
