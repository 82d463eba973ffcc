"""Every snippet of README.md and of the pages that it leads to does what it says."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
from mcp import Client, StdioServerParameters

from sync_mcp import OutcomeUnknown, Video
from sync_mcp.api.models import GenerationRequest
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt, Instant
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import Price
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.tools.core import TOOLS
from sync_mcp.tools.prompts import PROMPTS
from tests.docs.pages import PAGES, README, ROOT, read_pages
from tests.package.facts import Facts
from tests.postgres import WITHOUT, is_available
from tests.server.host import hosted, text
from tests.serving.stdio.forked import run_forked
from tests.stores import Databases

TEXT = read_pages()
COMMAND = str(Path(sys.executable).with_name("sync-mcp"))
CLONE_COMMAND = "/path/to/sync_mcp/.venv/bin/sync-mcp"
WAIT_SECONDS = 60
SANDBOX_PORT = "8787"
_ACCESS = ("SYNC_API_KEY", "SYNC_BASE_URL")

PYTHON_PRINTS = (
    "0.226 USD\nCOMPLETED http://127.0.0.1:",
    "talk.sale.mp4 is saved.",
    "generation_input_audio_inaccessible - ",
    "COMPLETED charges: 1",
)
CURL_PRINTS = (
    '"status":"PENDING"',
    '"model":"lipsync-2"',
    '"id":"fault-1"',
    '"now":',
    '"generationId":',
    "",
    '"fault_schema":',
)


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_commands() -> list[str]:
    """Each command of the shell blocks, however many lines it has."""
    return [command for block in blocks("sh") for command in commands_in(block)]


def commands_in(block: str) -> list[str]:
    commands: list[str] = []
    command = ""
    for line in block.splitlines(keepends=True):
        command += line
        if is_whole(command):
            commands.append(command.strip())
            command = ""
    assert not command
    return commands


def is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.endswith("\\\n")


def server_configurations() -> list[dict[str, Any]]:
    """What hosts are told of the server, without the words of their own for it."""
    tables = [json.loads(block) for block in blocks("json")] + [
        tomllib.loads(block) for block in blocks("toml")
    ]
    found: list[dict[str, Any]] = []
    for table in tables:
        places = ("mcpServers", "servers", "mcp_servers", "mcp", "context_servers")
        [servers] = (table[name] for name in places if name in table)
        found += servers.values()
    for entry in found:
        # One host takes the command and its arguments in one list, and calls the variables by another name.
        if isinstance(entry["command"], list):
            entry["command"], *entry["args"] = entry["command"]
            entry["env"] = entry.get("environment", {})
    return [{name: entry[name] for name in ("command", "args", "env") if name in entry} for entry in found]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(job_seconds=0.5) as sandbox:
        yield sandbox


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)$", TEXT, re.MULTILINE)) == {
        "sh",
        "json",
        "toml",
        "python",
        "text",
    }
    assert len(blocks("python")) == len(PYTHON_PRINTS)
    assert TEXT.count("```") % 2 == 0


def test_one_program_of_forty_lines_shows_what_a_program_of_ones_own_needs() -> None:
    [program] = [block for block in blocks("python") if "create_many" in block]
    assert len(program.splitlines()) <= 40
    for name in ("Text(", "Limits(", "Guard(", "assets.upload(", "generations.download(", "outcome.error"):
        assert name in program


def snippets() -> list[tuple[str, str]]:
    """Each program and each command that speaks to a sandbox, in their order on the page, with its kind."""
    found: list[tuple[str, str]] = []
    for language, block in re.findall(r"^```(python|sh)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        if language == "python":
            found.append((language, block))
        else:
            words = ("curl ", "export ")
            found += [(one.split()[0], one) for one in commands_in(block) if one.startswith(words)]
    return found


def test_what_is_tried_on_the_sandbox_works_in_the_order_of_the_page_and_prints_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in _ACCESS}
    prints = {"python": iter(PYTHON_PRINTS), "curl": iter(CURL_PRINTS), "export": iter([""])}
    has_curl = os.name == "posix" and shutil.which("curl") is not None
    with served_alone() as port:
        for kind, snippet in snippets():
            words, printed = snippet.replace(SANDBOX_PORT, port), next(prints[kind])
            if kind == "export":
                environment |= dict(word.split("=", 1) for word in shlex.split(words)[1:])
            elif kind == "python" or has_curl:
                if kind == "python":
                    done = run_forked([sys.executable, "-c", words], environment, timeout=WAIT_SECONDS)
                else:
                    done = subprocess.run(
                        ["bash", "-c", words],
                        env=environment,
                        capture_output=True,
                        encoding="utf-8",
                        timeout=WAIT_SECONDS,
                    )
                assert done.returncode == 0, (snippet, done.stderr)
                assert printed in done.stdout, snippet
        # Whoever goes on, or begins anew, meets no fault that the page has left there.
        with urlopen(f"http://127.0.0.1:{port}/sandbox/faults", timeout=WAIT_SECONDS) as answer:
            left = json.load(answer)
    assert left == [] or not has_curl
    assert all(next(rest, None) is None for rest in prints.values())


@contextmanager
def served_alone() -> Generator[str]:
    """Run the sandbox as the page says, and yield its port; its jobs alone are shorter."""
    port = free_port()
    words = shlex.split(SANDBOX_COMMAND.replace(SANDBOX_PORT, port), comments=True)
    command = [COMMAND, *words[1:], "--job-seconds", "0.5"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        limit = threading.Timer(2 * WAIT_SECONDS, process.kill)
        limit.start()
        try:
            assert process.stdout
            told = next(line for line in process.stdout if port in line)
            assert f"http://127.0.0.1:{port}" in told
            yield port
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)
            limit.cancel()


def test_every_answer_has_both_forms_but_those_that_the_page_names() -> None:
    without = [tool.name for tool in TOOLS if tool.definition.output_schema is None]
    assert without == ["preview_generation"]
    assert (
        "`preview_generation` answers with a picture and\na line of text, and an error is text alone." in TEXT
    )


def test_each_prompt_is_in_the_table_of_the_page() -> None:
    assert re.findall(r"^\| `(\w+)` \| clip", TEXT, re.MULTILINE) == list(PROMPTS)


def test_the_story_is_six_calls_that_make_and_save_a_video(tmp_path: Path) -> None:
    # One that is allowed on every system, where the user has set no folders.
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    shutil.copy(sample("speaker.mp4"), downloads / "talk.mp4")
    [story] = [block for block in blocks("text") if block.startswith("list_voices ")]
    calls = [line.split(" ", 1) for line in story.splitlines()]
    known: dict[str, str] = {}

    async def told() -> None:
        settings = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
        server = StdioServerParameters(command=COMMAND, args=["--sandbox"], env=settings)
        with anyio.fail_after(WAIT_SECONDS):
            async with Client(server) as client:
                for tool, arguments in calls:
                    for name, value in known.items():
                        arguments = arguments.replace(name, value)
                    result = await client.call_tool(tool, json.loads(arguments))
                    assert not result.is_error, result.content
                    facts: dict[str, Any] = result.structured_content or {}
                    if "voices" in facts:
                        known["VOICE_ID"] = facts["voices"][0]["voice_id"]
                    if "generation_id" in facts:
                        known["GENERATION_ID"] = facts["generation_id"]

    anyio.run(told)
    assert len(calls) == 6
    assert (downloads / "talk.synced.mp4").stat().st_size > 1000


@pytest.mark.parametrize("server", server_configurations())
def test_a_server_from_a_block_for_a_host_starts_and_lists_its_tools(server: dict[str, Any]) -> None:
    assert server["command"] == CLONE_COMMAND
    # The user, or the host, puts the key in.
    key = dict.fromkeys(server.get("env", ()), "sk_Secret-0123456789")
    with hosted(*server.get("args", ()), env=key) as host:
        assert [tool["name"] for tool in host.ask("tools/list")["tools"]] == [tool.name for tool in TOOLS]


def test_the_jobs_of_the_built_in_sandbox_end_with_the_server() -> None:
    assert "The jobs of the built-in sandbox, and their ledger, end with the server" in TEXT
    server = StdioServerParameters(command=COMMAND, args=["--sandbox"])

    async def told() -> None:
        with anyio.fail_after(WAIT_SECONDS):
            async with Client(server) as client:
                [sample] = re.findall(r"http://\S+/samples/speaker\.mp4", client.instructions or "")
                speech = sample.replace("speaker.mp4", "speech.wav")
                items = [{"type": "video", "url": sample}, {"type": "audio", "url": speech}]
                made = await client.call_tool("create_generation", {"input": items})
            async with Client(server) as client:
                again = await client.call_tool("list_generations", {})
        assert (made.structured_content or {})["generation_id"]
        assert (again.structured_content or {})["generations"] == []

    anyio.run(told)


def test_every_shell_command_is_a_make_target_or_is_run_by_a_test() -> None:
    for command in shell_commands():
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            assert re.search(
                rf"^{words[1]}:.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
            )
        elif words[0] == "npx":
            package, _, version = words[2].rpartition("@")
            installed = json.loads((ROOT / ".ci" / "node" / "package.json").read_text(encoding="utf-8"))
            assert installed["dependencies"][package] == version
            assert words[3:] == [".venv/bin/sync-mcp", "--sandbox"]
        elif words[0] == "uvx":
            # The suite of the package starts it so, from what it has built.
            assert words[1:] == ["--from", Facts.read().requirement, "sync-mcp", "demo"]
        elif words[0] == "claude":
            with_uv = ["uvx", "--from", Facts.read().requirement, "sync-mcp", "--sandbox"]
            assert words[words.index("--") + 1 :] in ([CLONE_COMMAND], with_uv)
        else:
            tried = [snippet for _, snippet in snippets()]
            run = (SANDBOX_COMMAND, HTTP_COMMAND, DOCTOR_COMMAND, *LEDGER_COMMANDS, *DATABASE_COMMANDS)
            assert command in (*run, *tried)


def test_each_command_is_on_the_path_as_it_is_printed() -> None:
    # What a page says that one has (`python` is a framework's own), and what make puts into the clone.
    there = {"make", "uvx", "claude", "npx", "curl", "export", "python"}
    there |= {".venv/bin/sync-mcp", ".venv/bin/python"}
    known = re.compile(rf"(\S*bin/)?({'|'.join({program.rpartition('/')[2] for program in there})})(?= |$)")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
        told = [span for span in spans if known.match(span)]
        told += [command for block in blocks("sh", text) for command in commands_in(block)]
        assert {command.split()[0] for command in told} <= there, page.name


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_names_the_targets_of_the_readme() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS
    )
    assert set(re.findall(r"^make (\w+)", shown.stdout, re.MULTILINE)) == set(
        re.findall(r"^\| `make (\w+)` \|", TEXT, re.MULTILINE)
    ) | {"help"}


DATABASE_COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "postgres.md").read_text(), re.M | re.S)
    for command in commands_in(block)
]
LEDGER_COMMANDS = [
    command
    for command in shell_commands()
    if "sync-mcp ledger" in command and command not in DATABASE_COMMANDS
]
# It stands on each page that needs it.
[SANDBOX_COMMAND] = {command for command in shell_commands() if "sync-mcp sandbox" in command}
[DOCTOR_COMMAND] = [command for command in shell_commands() if "sync-mcp doctor" in command]
HTTP_PORT = "8000"
HTTP_COMMAND = f".venv/bin/sync-mcp --http --port {HTTP_PORT}"


def test_the_http_command_serves_where_it_says() -> None:
    port = free_port()
    command = [COMMAND, *shlex.split(HTTP_COMMAND.replace(HTTP_PORT, port))[1:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        limit = threading.Timer(WAIT_SECONDS, process.kill)
        limit.start()
        try:
            assert process.stderr
            told = next(line for line in process.stderr if port in line)
            assert f"http://127.0.0.1:{port}/mcp" in told
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=WAIT_SECONDS) as answer:
                assert json.load(answer) == {"status": "ok"}
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)
            limit.cancel()


def told_errors() -> dict[str, str]:
    """The errors of ours that the page quotes, by code."""
    table = README.read_text(encoding="utf-8").partition("## When it breaks")[2]
    quoted = re.findall(r"^\| `(\w+): ([^`]+)` \|", table, re.MULTILINE)
    return {code: f"{code}: {words}" for code, words in quoted}


def test_the_errors_that_the_page_quotes_are_told_letter_for_letter(tmp_path: Path) -> None:
    def clip(path: Path | str) -> list[Any]:
        return [
            {"type": "video", "path": str(path)},
            {"type": "text", "script": "x" * 600, "voice_id": "Ada - calm narrator"},
        ]

    quoted = told_errors()
    with hosted() as host:
        assert text(host.call("get_account")).startswith(quoted.pop("api_key_missing"))
    with hosted("--sandbox", env={"SYNC_MCP_MEDIA_ROOTS": str(tmp_path)}) as host:
        refused = host.call("create_generation", input=clip("/etc/talk.mp4"))
        assert text(refused).startswith(quoted.pop("file_not_allowed"))
        talk = shutil.copy(sample("speaker.mp4"), tmp_path / "talk.mp4")
        asked = host.call("create_generation", input=clip(talk), model="sync-3")
        assert text(asked).startswith(quoted.pop("approval_required"))
    unknown = OutcomeUnknown("", idempotency_key="key", sent_at="…")
    assert f"{unknown.code}: {unknown.message}".startswith(quoted.pop("outcome_unknown"))
    assert quoted == {}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


GUIDES = sorted((ROOT / "docs").glob("*.md"))


LETTERS = [ROOT / name for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", [README, *GUIDES, *LETTERS], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        if heading:
            assert heading in anchors_of(there.read_text(encoding="utf-8")), target


def anchors_of(text: str) -> set[str]:
    return {re.sub(r"[^\w -]", "", name).strip().lower().replace(" ", "-") for name in headings_of(text)}


def test_the_readme_is_short_and_no_page_is_long() -> None:
    assert README.stat().st_size <= 10_000
    assert all(page.stat().st_size <= 12_000 for page in GUIDES)


def test_each_page_is_in_the_table_of_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in GUIDES} - {"index.md"} == set(re.findall(r"\]\((\w+\.md)\)", contents))
    assert {page.name for page in PAGES} <= {page.name for page in GUIDES} | {"README.md"}


def headings_of(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def test_the_ledger_commands_work_on_a_create_of_unknown_outcome(sandbox: Sandbox, home: Path) -> None:
    ledger = Ledger(home)
    for number in range(1, 13):
        video = Video(url=f"https://example.com/{number}.mp4")
        request = GenerationRequest(model="lipsync-2", input=[video])
        intention = Intention(GenerationAct.of(request), account="key:1", base_url="https://api.sync.so")
        attempt = Attempt(
            intention, 1, "create_generation", "owner", Limits(), Instant(time.time()), Price(Decimal(1))
        )
        entry, _ = ledger.begin(attempt)
        ledger.doubt(entry.id, "owner", None)
    assert len(LEDGER_COMMANDS) == 7
    for command in LEDGER_COMMANDS:
        words = shlex.split(command.replace(" ID ", " 6533643b-aceb-4c40-967e-d9ba9baac39e "), comments=True)
        asks = words[2] in ("resolve", "release", "prune")
        if words[2] == "release":
            words[3] = "11"
        command = [COMMAND, *words[1:], *(["--yes"] if asks else [])]
        done = run_forked(command, os.environ, timeout=WAIT_SECONDS)
        assert "Traceback" not in done.stderr
        # Ten creates are still unresolved when the file is checked, which is not all well.
        expected = 1 if words[2] == "check" else 0
        assert done.returncode == expected, (command, done.stdout, done.stderr)
        if "--json" in words:
            assert_told(json.loads(done.stdout), "ledger list", entries="entries", accounts="accounts")
    states = {entry.id: entry.state for entry in ledger.entries(limit=20)}
    assert (states[12], states[11], states[10]) == ("accepted", "released", "unknown")


@pytest.mark.skipif(not is_available(), reason=WITHOUT)
def test_the_commands_of_a_ledger_in_a_database_work_in_their_order(home: Path, databases: Databases) -> None:
    Ledger(home).check()
    environment = os.environ | {"SYNC_MCP_DATABASE_URL": databases.make()}
    for command in DATABASE_COMMANDS:
        words = shlex.split(command, comments=True)
        done = run_forked([COMMAND, *words[1:]], environment, timeout=WAIT_SECONDS)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_the_report_for_programs_holds_what_the_page_says(sandbox: Sandbox) -> None:
    words = shlex.split(DOCTOR_COMMAND, comments=True)
    environment = os.environ | {"SYNC_API_KEY": "any", "SYNC_BASE_URL": sandbox.url}
    done = run_forked([COMMAND, *words[1:]], environment, timeout=WAIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert_told(json.loads(done.stdout), "doctor", findings="findings")


def assert_told(document: dict[str, Any], name: str, **lists: str) -> None:
    """The page names each field of the document, and each of what stands in its lists."""
    told = {row: set(re.findall(r"`(\w+)`", cell)) for row, cell in _FIELDS.items()}
    assert document.keys() <= told[f"`{name}`"], document.keys() ^ told[f"`{name}`"]
    for field, row in lists.items():
        assert document[field]
        for one in document[field]:
            assert one.keys() <= told[f"each of `{row}`"], one.keys() ^ told[f"each of `{row}`"]


_FIELDS = dict(re.findall(r"^\| ((?:each of )?`[\w ]+`) \| (.+) \|$", TEXT, re.MULTILINE))
