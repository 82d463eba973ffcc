"""The package as a user meets it: installed in every way of docs/install.md, far from the clone, and started.

    python -m tests.package.install TOOLS NODE

TOOLS is the folder of the commands of .package/tools.txt, NODE that of node_modules with mcpb. `make package`
comes first.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError
from urllib.request import urlopen

from sync_mcp.tools.core import TOOLS
from tests.package.build import DIST
from tests.package.facts import ROOT, Facts

GUIDE = ROOT / "docs" / "install.md"
WAIT_SECONDS = 180
MOST_DEMO_SECONDS = 60
"""From an empty environment to the end of the demo, with a warm cache of packages."""
FACTS = Facts.read()
WHEEL = DIST / FACTS.wheel


class Place:
    """A folder far from the clone, with an environment that knows nothing of this one but the tools."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder = folder
        self.home = folder / "home of a user"
        self.work = folder / "elsewhere"
        for path in (self.home, self.work):
            path.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SYNC_", "VIRTUAL_ENV", "PYTHONPATH"))
        } | {
            "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{tools}:/usr/local/bin:/usr/bin:/bin",
            "UV_TOOL_DIR": str(self.home / "tools"),
            "UV_TOOL_BIN_DIR": str(self.home / "bin"),
            "PIPX_HOME": str(self.home / "pipx"),
            "PIPX_BIN_DIR": str(self.home / "bin"),
            "UV_PYTHON": _python(),
            "PIPX_DEFAULT_PYTHON": _python(),
            # Which index, and what was fetched from it before, stays what it is here.
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser()),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser()),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR") or str(Path("~/.cache/pip").expanduser()),
        }

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command in the folder, return what it printed; unless it `fails` as told, the suite ends."""
        # The program is looked for where the user would find it.
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.work,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT_SECONDS,
        )
        if bool(done.returncode) != fails:
            sys.exit(f"{shlex.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return done.stdout

    def initialize(self, *command: str, **environment: str) -> list[str]:
        """Start a server over stdio and return the names of its tools."""
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        with subprocess.Popen(
            [program, *command[1:]],
            cwd=self.work,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as server:
            limit = threading.Timer(WAIT_SECONDS, server.kill)
            limit.start()
            try:
                assert server.stdin
                assert server.stdout
                for message in _INTRODUCTION:
                    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
                server.stdin.flush()
                names: list[str] | None = None
                for line in server.stdout:
                    answer: dict[str, Any] = json.loads(line)
                    if answer.get("id") == 1:
                        told = answer["result"]["serverInfo"]["version"]
                        _expect(told == FACTS.version, f"the server says that it is {told}")
                    if answer.get("id") == 2:
                        names = [tool["name"] for tool in answer["result"]["tools"]]
                        break
                server.stdin.close()
                said = server.stderr.read() if server.stderr else ""
            finally:
                limit.cancel()
        if names is None:
            sys.exit(f"{shlex.join(command)} did not answer:\n{said}")
        return names


_INTRODUCTION: tuple[dict[str, Any], ...] = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "install", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
)
_ALL = [tool.name for tool in TOOLS if tool.toolset.is_default]


def _python() -> str:
    """Return the interpreter that the environment of this one was made from."""
    return str(Path(sys.executable).resolve())


def _expect(holds: bool, told: str) -> None:
    if not holds:
        sys.exit(told)


def documented(heading: str) -> list[list[str]]:
    """Return the commands below a heading of the guide, with the wheel that was built."""
    [section] = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", GUIDE.read_text(encoding="utf-8"), re.M | re.S
    )
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    _expect(bool(lines), f"{GUIDE.name} has no command below {heading!r}")
    return [shlex.split(line.replace("WHEEL", str(WHEEL))) for line in lines]


def try_with_pip(place: Place) -> None:
    """A bare environment: the demo, the server, and what a host is told."""
    make, install = documented("With pip")
    place.run(_python(), *make[1:])
    place.run(*install)
    command = str(place.work / "sync" / "bin" / "sync-mcp")
    _try_demo(place, command)
    # What is told where the extra is missing works without an index that knows the project.
    pip = [str(place.work / "sync" / "bin" / "python"), "-m", "pip"]
    place.run(*pip, "uninstall", "--quiet", "--yes", "av", "pillow")
    told = re.search(
        r"pip install '(sync-mcp\[media\])'", place.run(command, "doctor", "--sandbox", fails=True)
    )
    _expect(told is not None, "doctor does not say how the extra is installed")
    place.run(*pip, "install", "--quiet", told[1] if told else "")
    _try_server(place, command)
    _try_host(place, command)


def try_from_nothing(place: Place) -> None:
    """An empty environment: one command installs what was fetched before, one plays the demo."""
    make, install = documented("With pip")
    place.run(_python(), *make[1:])
    begun = time.monotonic()
    place.run(*install)
    installed = time.monotonic()
    place.run(str(place.work / "sync" / "bin" / "sync-mcp"), "demo")
    _expect((place.work / "demo-output" / "lipsync.mp4").exists(), "the demo made no video")
    ended = time.monotonic()
    told = f"{ended - begun:.0f} s (at most {MOST_DEMO_SECONDS}): {installed - begun:.0f} s install"
    print(f"  from an empty environment to the end of the demo: {told}")
    _expect(ended - begun <= MOST_DEMO_SECONDS, "that is too long")


def try_with_uvx(place: Place) -> None:
    """Out of uv's cache, by the wheel and by the address of a repository."""
    once, _ = documented("With uv")
    shown = place.run(*once)
    _expect((place.work / "demo-output" / "lipsync.mp4").exists(), f"uvx made no video:\n{shown}")
    _try_server(place, *once[:-1])
    _try_host(place, *once[:-1])
    # What is committed stands for the address, in a repository that is whole: uv takes no shallow one.
    copy = place.folder / "sync-mcp"
    place.run("git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(copy))
    shutil.rmtree(copy / ".git")
    git = ("git", "-C", str(copy), "-c", "user.name=install", "-c", "user.email=install@example.com")
    place.run(*git, "init", "--quiet", "--initial-branch", "main")
    place.run(*git, "add", "--all")
    place.run(*git, "commit", "--quiet", "--message", "A copy")
    requirement = FACTS.requirement.replace(FACTS.repository, f"file://{copy}")
    _try_server(place, "uvx", "--from", requirement, "sync-mcp")


def try_with_uv_tool(place: Place) -> None:
    """As a tool of uv's, on the PATH."""
    _, stay = documented("With uv")
    place.run(*stay)
    _try_server(place, "sync-mcp")
    _try_host(place, "sync-mcp")


def try_with_pipx(place: Place) -> None:
    """As a tool of pipx's, on the PATH."""
    [stay] = documented("With pipx")
    place.run(*stay)
    _try_server(place, "sync-mcp")
    _try_host(place, "sync-mcp")


def _try_demo(place: Place, *command: str) -> None:
    begun = time.monotonic()
    shown = place.run(*command, "demo", "--output", "made")
    video = place.work / "made" / "lipsync.mp4"
    _expect(video.exists() and video.stat().st_size > 1000, f"the demo made no video:\n{shown}")
    print(f"  the demo took {time.monotonic() - begun:.0f} s")


def _try_server(place: Place, *command: str) -> None:
    _expect(place.initialize(*command, "--sandbox") == _ALL, f"{command}: other tools than here")


def _try_host(place: Place, *command: str) -> None:
    """What a host is told starts the same server again."""
    told = place.run(*command, "config", "claude-desktop", "--sandbox", "--root", str(place.home))
    [server] = json.loads(told[told.index("{") :])["mcpServers"].values()
    _expect(str(ROOT / "sync_mcp") not in told, f"a host is told of the clone:\n{told}")
    _expect(place.initialize(server["command"], *server["args"]) == _ALL, f"a host cannot start it:\n{told}")


def try_bundle(place: Place, node: Path) -> None:
    """The bundle, unpacked and started as a host does: with its own function that fills in the settings."""
    node_binary = shutil.which("node") or "node"
    mcpb = str(node / "node_modules" / ".bin" / "mcpb")
    unpacked = place.folder / "unpacked bundle"
    place.run(mcpb, "unpack", str(DIST / FACTS.bundle), str(unpacked))
    place.run(mcpb, "validate", str(unpacked))
    for name, spoil in _SPOILT_MANIFESTS.items():
        spoilt = place.folder / f"spoilt {name}"
        shutil.copytree(unpacked, spoilt)
        manifest: dict[str, Any] = json.loads((spoilt / "manifest.json").read_text(encoding="utf-8"))
        spoil(manifest)
        (spoilt / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        done = subprocess.run([mcpb, "validate", str(spoilt)], capture_output=True, timeout=WAIT_SECONDS)
        _expect(done.returncode != 0, f"mcpb takes a manifest with {name}")

    def start(**settings: object) -> tuple[list[str], dict[str, str]]:
        script = _FILL.replace(
            "MODULE", json.dumps(str(node / "node_modules/@anthropic-ai/mcpb/dist/index.js"))
        )
        told = place.run(
            node_binary, "--input-type=module", "--eval", script, str(unpacked), json.dumps(settings)
        )
        filled: dict[str, Any] = json.loads(told)
        return [filled["command"], *filled["args"]], filled["env"]

    folders = [str(place.home), str(place.work)]
    command, variables = start(folders=folders)
    _expect(command[-2:] == folders, f"the folders are no arguments of their own: {command}")
    _expect(variables["SYNC_MCP_BUDGET_USD_PER_DAY"] == "20", f"there is no budget: {variables}")
    # Until the index has the project, the wheel stands in for it: in a folder that no other run had, for uv
    # takes the wheel of this name that it once found in a folder, and looks at that one no more.
    found = place.folder / "an index"
    found.mkdir()
    shutil.copy(WHEEL, found)
    index = str(found)
    variables["UV_FIND_LINKS"] = index
    _expect(place.initialize(*command, **variables) == _ALL, "the bundle has other tools than here")
    command, variables = start()
    _expect(any("Downloads" in word for word in command), f"there are no folders by default: {command}")
    variables["UV_FIND_LINKS"] = index
    _expect(place.initialize(*command, **variables) == _ALL, "the bundle does not start as it arrives")
    command, variables = start(folders=folders, sandbox=False, api_key="sk_Secret-0123456789")
    _expect(place.initialize(*command, **variables, UV_FIND_LINKS=index) == _ALL, "no start with a key")
    command, variables = start(folders=folders, sandbox=False)
    done = subprocess.run(
        [shutil.which(command[0], path=place.environment["PATH"]) or "uv", *command[1:]],
        env=place.environment | variables | {"UV_FIND_LINKS": index},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    told = "SYNC_API_KEY was left unfilled by the host"
    _expect(done.returncode == 2 and told in done.stderr, f"an unfilled key is not told:\n{done.stderr}")


_FILL = """
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
const { getMcpConfigForManifest } = await import(MODULE);
const [folder, settings] = process.argv.slice(1);
const filled = await getMcpConfigForManifest({
  manifest: JSON.parse(readFileSync(`${folder}/manifest.json`, "utf8")),
  extensionPath: folder, systemDirs: { HOME: homedir() },
  userConfig: JSON.parse(settings), pathSeparator: "/",
});
console.log(JSON.stringify(filled));
"""


def _without_description(manifest: dict[str, Any]) -> None:
    del manifest["description"]


def _of_older_version(manifest: dict[str, Any]) -> None:
    manifest["manifest_version"] = "0.3"


def _with_mute_field(manifest: dict[str, Any]) -> None:
    del manifest["user_config"]["api_key"]["description"]


_SPOILT_MANIFESTS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "no description": _without_description,
    "an older manifest version": _of_older_version,
    "a field without a description": _with_mute_field,
}


def try_registry_entry(place: Place) -> None:
    """server.json, by the registry's own rules; one that breaks them is refused."""
    good = place.folder / "registry"
    good.mkdir()
    shutil.copy(DIST / "server.json", good)
    _expect(not _faults_of_entry(place, good), f"server.json is refused: {_faults_of_entry(place, good)}")
    entry: dict[str, Any] = json.loads((good / "server.json").read_text(encoding="utf-8"))
    for name, change in _SPOILT_ENTRIES.items():
        bad = place.folder / f"registry with {name}"
        bad.mkdir()
        (bad / "server.json").write_text(json.dumps(entry | change), encoding="utf-8")
        _expect(bool(_faults_of_entry(place, bad)), f"a server.json with {name} is taken")


_SPOILT_ENTRIES: Mapping[str, dict[str, Any]] = {
    "a long description": {"description": "x" * 101},
    "a version that is none": {"version": "latest"},
    "no name": {"name": "sync-mcp"},
    "a bundle without a digest": {
        "packages": [
            {
                "registryType": "mcpb",
                "identifier": "https://example.com/x.mcpb",
                "transport": {"type": "stdio"},
            }
        ]
    },
}


def _faults_of_entry(place: Place, folder: Path) -> list[str]:
    program = shutil.which("skillsaw", path=place.environment["PATH"]) or "skillsaw"
    done = subprocess.run(
        [program, "lint", "--format", "json", "--no-custom-rules", str(folder)],
        cwd=folder,
        env=place.environment,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"skillsaw said: {done.stdout}{done.stderr}")
    found = cast(list[dict[str, Any]], report["violations"])
    return [str(one.get("message")) for one in found if str(one.get("severity")).lower() == "error"]


def try_image(place: Place) -> None:
    """The lines of the Dockerfile in a virtual environment, and the server with its variables."""
    place.run("hadolint", str(ROOT / "Dockerfile"))
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    build, _, image = text.partition("\n\nFROM ")
    files, environment = place.folder / "build", place.folder / "opt"
    files.mkdir()
    shutil.copy(ROOT / ".package" / "runtime.txt", files)
    shutil.copy(WHEEL, files)

    def here(word: str) -> str:
        for there, path in (("/opt/sync-mcp", environment), ("/build", files), ("/data", place.home)):
            word = re.sub(rf"^{there}(?=/|$)", str(path), word)
        return word

    for line in re.findall(r"^RUN (.*)$", build, re.M):
        words = [here(word) for word in cast(list[str], json.loads(line))]
        place.run(_python() if words[0] == "python" else words[0], *words[1:])
    variables = {
        name: here(value)
        for name, value in re.findall(r"^(?:ENV| +) ?(SYNC_\w+|PYTHON\w+)=(.*?)(?: \\)?$", image, re.M)
    }
    _expect("SYNC_MCP_HTTP" in variables, "the Dockerfile sets no variable for HTTP")
    Path(variables["SYNC_MCP_MEDIA_ROOTS"]).mkdir(parents=True)
    tokens = place.folder / "tokens"
    tokens.write_text("ann a-token-of-many-letters-0123456789\n", encoding="utf-8")
    tokens.chmod(0o600)
    port = _free_port()
    variables |= {
        "SYNC_MCP_HTTP_PORT": str(port),
        # What examples/compose.yaml adds.
        "SYNC_API_KEY": "sk_Secret-0123456789",
        "SYNC_MCP_HTTP_ALLOWED_HOSTS": "mcp.example.com",
        "SYNC_MCP_HTTP_TOKENS_FILE": str(tokens),
        "SYNC_MCP_BUDGET_USD_PER_DAY": "20",
    }
    [entry] = re.findall(r"^ENTRYPOINT (.*)$", image, re.M)
    [health] = re.findall(r"^ +CMD (.*)$", image, re.M)
    words = cast(list[str], json.loads(entry))
    with subprocess.Popen(
        [str(environment / "bin" / words[0]), *words[1:]],
        cwd=place.work,
        env=place.environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as server:
        try:
            _await_health(server, port)
            check = [word.replace(":8000/", f":{port}/") for word in cast(list[str], json.loads(health))]
            place.run(str(environment / "bin" / check[0]), *check[1:])
        finally:
            server.terminate()
            server.wait(WAIT_SECONDS)


def _await_health(server: "subprocess.Popen[str]", port: int) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"the server of the image ended:\n{server.stderr.read() if server.stderr else ''}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                _expect(json.load(answer) == {"status": "ok"}, "the server of the image is not well")
                return
        except (URLError, OSError):
            time.sleep(0.2)
    sys.exit("the server of the image did not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def try_as_an_index(place: Place) -> None:
    """What an index looks at before it takes a package."""
    place.run("twine", "check", "--strict", str(WHEEL), str(DIST / FACTS.sdist))


def main() -> None:
    tools, node = (Path(word).absolute() for word in sys.argv[1:])
    attempts: tuple[tuple[str, Callable[[Place], None]], ...] = (
        ("an index", try_as_an_index),
        ("pip, in a bare environment", try_with_pip),
        ("pip, with a warm cache", try_from_nothing),
        ("uvx", try_with_uvx),
        ("uv tool install", try_with_uv_tool),
        ("pipx install", try_with_pipx),
        ("the bundle", lambda place: try_bundle(place, node)),
        ("the registry's entry", try_registry_entry),
        ("the image", try_image),
    )
    for name, attempt in attempts:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            attempt(Place(Path(folder).resolve(), tools))
        print(f"{name}: good, in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
