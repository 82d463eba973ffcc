import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

import sync_mcp
from sync_mcp.cli.main import main
from sync_mcp.cli.parser import create_parser
from sync_mcp.cli.sandbox import run as run_sandbox
from sync_mcp.tools.catalogue import TOOLS
from tests.serving.stdio.forked import run_forked, start_forked

SECONDS = 30.0
ENDS_WITHIN_SECONDS = 10.0
KEY = "sk_live-1234567890abcdef"
_SCRIPT = shutil.which("sync-mcp", path=str(Path(sys.executable).parent)) or ""
MODULE, SCRIPT = [sys.executable, "-m", "sync_mcp"], [_SCRIPT]
FORKED = (_SCRIPT,)
"""Of what says the same however it was started."""
EVERY_COMMAND = pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
Done = subprocess.CompletedProcess[str]


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SYNC_")}
    return kept | dict(more or {})


def _run(
    *arguments: str,
    command: Sequence[str] = FORKED,
    told: str = "",
    environment: Mapping[str, str] | None = None,
) -> Done:
    words, env = [*command, *arguments], _environment(environment)
    if command in (MODULE, SCRIPT) or "PYTHONPATH" in (environment or {}):
        return subprocess.run(
            words, input=told, capture_output=True, encoding="utf-8", timeout=SECONDS, env=env
        )
    return run_forked(words, env, typed=told, timeout=SECONDS)


def _complaint(done: Done) -> str:
    """The one line by which a command is refused."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.removeprefix("sync-mcp: ").strip()


@EVERY_COMMAND
def test_the_version_is_told(command: list[str]) -> None:
    done = _run("--version", command=command)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sync-mcp {sync_mcp.__version__}\n", "")


@EVERY_COMMAND
def test_help_names_every_flag_and_command(command: list[str]) -> None:
    done = _run("--help", command=command)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--version", "--sandbox", "--log-level", "demo", "sandbox", "ledger", "SYNC_API_KEY"):
        assert word in done.stdout
    assert " ".join(done.stdout.split()).startswith(f"usage: {' '.join(command)} [-h]")


@EVERY_COMMAND
def test_a_wrong_flag_is_one_line(command: list[str]) -> None:
    assert _complaint(_run("--nope", command=command)) == (
        f"unrecognized arguments: --nope (try {' '.join(command)} --help)"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--log-level"], "--log-level"),
        (["--log-level", "loud"], "--log-level: invalid choice: 'loud' (choose from"),
        (["--sandbox=yes"], "--sandbox"),
        (["--sand"], "--sand"),
        (["serve"], "'serve'"),
        (["demo", "--out", "x"], "--out"),
        (["sandbox", "--port", "http"], "argument --port: invalid port value: 'http'"),
        (["sandbox", "--port", "65536"], "argument --port: invalid port value: '65536'"),
        (["sandbox", "--por", "1"], "--por"),
        (["sandbox", "--plan", "gold"], "--plan"),
        (["campaign", "plan", "f.csv", "--budget-usd", "nan"], "invalid amount value: 'nan'"),
        (["sandbox", "--job-seconds", "nan"], "invalid number of seconds value: 'nan'"),
        (["sandbox", "--job-seconds", "-1"], "--job-seconds"),
        (
            ["sandbox", "--host", "203.0.113.1", "--port", "0"],
            "also needs the environment variable SYNC_MCP_HTTP_TOKEN",
        ),
        (["--x\ny\x1b[31m"], "--x y"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(arguments: list[str], told: str) -> None:
    assert told in _complaint(_run(*arguments))


@pytest.mark.parametrize("arguments", [["--api-key", KEY], [f"--api-key={KEY}"], ["--key", KEY], [KEY]])
def test_a_key_on_the_command_line_is_not_repeated(arguments: list[str]) -> None:
    assert KEY[8:] not in _complaint(_run(*arguments))


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"SYNC_MCP_SANDBX": "1"}, "There is no setting SYNC_MCP_SANDBX; did you mean 'SYNC_MCP_SANDBOX'?"),
        ({"SYNC_MCP_SANDBOX": "maybe"}, "SYNC_MCP_SANDBOX must be 1 or 0, not 'maybe'."),
        (
            {"SYNC_BASE_URL": "http://api.sync.so"},
            "SYNC_BASE_URL must be https://host (or http on this machine), without credentials or query, "
            "not 'http://api.sync.so'.",
        ),
        (
            {"SYNC_API_KEY": f"“{KEY}”"},
            "SYNC_API_KEY must be a key in plain letters and signs; copy it again.",
        ),
        (
            {"SYNC_API_KEY": "your key"},
            "SYNC_API_KEY is a placeholder: put a key in its place, made at "
            "https://sync.so/settings/api-keys, or take --sandbox, which needs none.",
        ),
        (
            {"SYNC_MCP_TOOLSETS": "cor", "SYNC_MCP_TOOLS": "list_voice"},
            "SYNC_MCP_TOOLSETS names a toolset that does not exist, 'cor'; did you mean 'core'? There are "
            f"{', '.join(TOOLS.sets)}. SYNC_MCP_TOOLS names a tool that does not exist, 'list_voice'; did "
            "you mean 'list_voices'?",
        ),
        (
            {"SYNC_MCP_TOOLSETS": ","},
            "SYNC_MCP_TOOLSETS must be default, all, or names of toolsets such as core, with commas between, "
            "not ','.",
        ),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(environment: dict[str, str], complaint: str) -> None:
    assert _complaint(_run(environment=environment)) == complaint


@EVERY_COMMAND
def test_without_a_key_the_server_starts_and_ends_with_its_input(command: list[str]) -> None:
    done = _run(command=command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("level", "shows_sandbox", "shows_detail"),
    [("debug", True, True), ("info", True, False), ("ERROR", False, False)],
)
def test_the_log_level_says_what_goes_to_standard_error(
    level: str, shows_sandbox: bool, shows_detail: bool
) -> None:
    environment = {"SYNC_MCP_LOG_LEVEL": "error", "SYNC_API_KEY": KEY}
    done = _run("--sandbox", "--log-level", level, environment=environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert ("INFO sync_mcp: SANDBOX" in done.stderr) == shows_sandbox
    assert ("DEBUG" in done.stderr) == shows_detail
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ sync_mcp", line)
        for line in done.stderr.splitlines()
    )
    assert KEY not in done.stderr


_LOGGING_SERVER = """
import logging, sys
import sync_mcp.serving.stdio

async def serve(server, on_stop):
    logger = logging.getLogger("sync_mcp.test")
    logger.warning("one\\r\\ntwo\\x1b[31m https://h/p?signature=1")
    try:
        raise ValueError("three\\nfour")
    except ValueError:
        logger.exception("failed")

sync_mcp.serving.stdio.serve_stdio = serve
sys.argv[0] = "sync-mcp"
from sync_mcp.cli.main import main
main()
"""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_log_record_is_one_line_and_has_a_traceback_only_for_debugging(level: str) -> None:
    done = _run("--log-level", level, command=[sys.executable, "-c", _LOGGING_SERVER])
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first.endswith("WARNING sync_mcp.test: one | two https://h/p?...")
    assert "ERROR sync_mcp.test: failed | " in second
    assert ("Traceback" in second) == (level == "debug")


@contextmanager
def _sandbox(
    *arguments: str, folder: Path, **environment: str
) -> Generator[tuple[subprocess.Popen[bytes], str]]:
    """A sandbox of its own process, and its URL."""
    words = [*MODULE, "sandbox", "--port", "0", *arguments]
    with start_forked(words, _environment({"TMPDIR": str(folder), **environment})) as process:
        assert process.stdout
        try:
            # The line comes when it serves; a process that ends before it closes the pipe.
            first = process.stdout.readline().decode()
            assert first.startswith("Sync API sandbox: http://127.0.0.1:"), first
            yield process, first.split()[-1]
        finally:
            process.kill()


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_sandbox_serves_alone_and_ends_on_a_signal_leaving_nothing(
    tmp_path: Path, end: signal.Signals
) -> None:
    with (
        _sandbox("--plan", "creator", "--job-seconds", "0", folder=tmp_path) as (process, url),
        httpx.Client(base_url=url, headers={"x-api-key": "any"}, timeout=SECONDS, verify=False) as client,
    ):
        assert client.get("/v2/account").json()["limits"]["concurrency"] == 3
        items = [
            {"type": "video", "url": f"{url}/samples/speaker.mp4"},
            {"type": "audio", "url": f"{url}/samples/speech.wav"},
        ]
        made = client.post("/v2/generate", json={"model": "lipsync-2", "input": items}).json()
        job = client.get(f"/v2/generate/{made['id']}").json()
        assert job["status"] == "COMPLETED"
        assert client.get(job["outputUrl"]).content[4:8] == b"ftyp"
        assert list(tmp_path.iterdir()) != []
        # With the client's connection still open.
        process.send_signal(end)
        assert process.wait(ENDS_WITHIN_SECONDS) == 0
        assert process.stdout
        assert process.stderr
        told = process.stdout.read().decode()
        assert process.stderr.read() == b""
    assert f"{url}/samples/speaker.mp4" in told
    assert "curl" in told
    assert list(tmp_path.iterdir()) == []


def _break_off(*_: object) -> NoReturn:
    """End the command by a signal, as what it loads takes that for a fault of its own."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        # On the way out of a call the interpreter looks for signals.
        signal.sigpending()
    except KeyboardInterrupt:
        raise ValueError("no model can be built") from None
    raise AssertionError("the signal was not heard")


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
@pytest.mark.parametrize("moment", ["create_parser", "import_module"])
@pytest.mark.parametrize(("command", "code"), [("demo", 143), ("sandbox", 0)])
def test_a_signal_while_a_command_is_read_or_loaded_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, moment: str, command: str, code: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["sync-mcp", command])
    monkeypatch.setattr(f"sync_mcp.cli.main.{moment}", _break_off)
    ends_by = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, ends_by)
        gc.enable()
    # Before the command is known it is none that serves.
    assert end.value.code == (143 if moment == "create_parser" else code)


@pytest.mark.parametrize(
    ("flags", "environment", "missing"),
    [
        (["--host", "0.0.0.0"], {}, ["SYNC_MCP_HTTP_TOKEN", "--allowed-host"]),
        (["--host", "0.0.0.0"], {"SYNC_MCP_HTTP_TOKEN": KEY}, ["--allowed-host"]),
        (["--host", "0.0.0.0", "--allowed-host", "a.example"], {}, ["SYNC_MCP_HTTP_TOKEN"]),
        (["--allowed-host", "a.example"], {}, ["SYNC_MCP_HTTP_TOKEN"]),
    ],
)
def test_a_sandbox_that_others_can_reach_starts_only_with_a_token_and_a_name(
    tmp_path: Path, flags: list[str], environment: dict[str, str], missing: list[str]
) -> None:
    done = _run("sandbox", "--port", "0", *flags, environment={"TMPDIR": str(tmp_path), **environment})
    complaint = _complaint(done)
    for word in ("SYNC_MCP_HTTP_TOKEN", "--allowed-host"):
        assert (f" {word}" in complaint.partition("needs")[2]) == (word in missing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
def test_a_sandbox_with_a_token_says_so_and_takes_no_other_key(
    tmp_path: Path,
) -> None:
    with _sandbox(folder=tmp_path, SYNC_MCP_HTTP_TOKEN=KEY) as (process, url):
        for key, status in (("any", 401), (KEY, 200)):
            answer = httpx.get(f"{url}/v2/models", headers={"x-api-key": key}, trust_env=False, verify=False)
            assert answer.status_code == status
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_SECONDS) == 0
        assert process.stdout
        told = process.stdout.read().decode()
    assert "Only its token is good as x-api-key." in told
    assert "x-api-key: TOKEN" in told
    assert KEY not in told


def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run("sandbox", "--port", port, environment={"TMPDIR": str(tmp_path)})
    assert _complaint(done).startswith(f"The sandbox cannot listen on 127.0.0.1:{port}: ")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_the_sandbox_does_not_use_does_not_stop_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNC_MCP_BUDGET_USD", "abc")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit):
            run_sandbox(create_parser().parse_args(["sandbox", "--port", port]))
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.fixture(params=["missing", "broken"])
def no_pyav(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment in which PyAV cannot be imported."""
    if request.param == "missing":
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n", encoding="utf-8")
    else:
        (tmp_path / "av.py").write_text(
            "raise ImportError('libavcodec.so: cannot open shared object')\n", encoding="utf-8"
        )
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("no_pyav", "arguments"),
    [
        ("missing", ["--sandbox"]),
        ("missing", ["sandbox", "--port", "0"]),
        ("missing", ["demo"]),
        # All three look in one place whether it is broken.
        ("broken", ["--sandbox"]),
    ],
    indirect=["no_pyav"],
)
def test_without_pyav_the_sandbox_says_how_to_install_it(
    no_pyav: dict[str, str], arguments: list[str]
) -> None:
    complaint = _complaint(_run(*arguments, environment=no_pyav))
    assert complaint.endswith("pip install 'sync-mcp[media]'")
    if arguments == ["--sandbox"]:
        assert _complaint(_run(environment=no_pyav | {"SYNC_MCP_SANDBOX": "1"})) == complaint


def test_without_pyav_the_server_still_serves(no_pyav: dict[str, str]) -> None:
    client = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    frames = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    done = _run(told="".join(f"{json.dumps(frame)}\n" for frame in frames), environment=no_pyav)
    assert (done.returncode, done.stderr) == (0, "")
    answers = {frame["id"]: frame for frame in map(json.loads, done.stdout.splitlines())}
    names = {tool["name"] for tool in answers[2]["result"]["tools"]}
    assert {"create_generation", "get_generation", "list_generations", "estimate_cost"} <= names


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "9000"], "--port"),
        (["--host", "127.0.0.1", "--allowed-host", "a.example"], "--host, --allowed-host"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["config", "codex"]])
def test_a_flag_of_http_without_http_is_refused(flags: list[str], named: str, arguments: list[str]) -> None:
    complaint = _complaint(_run(*arguments, *flags))
    assert complaint == f"{named} says nothing without --http: add that, or leave it out."


def test_an_empty_address_is_one_line() -> None:
    assert _complaint(_run("--http", "--host", "")).startswith("--host must be an address")


def test_what_is_set_here_and_not_in_a_hosts_configuration_is_named() -> None:
    secrets = {"SYNC_API_KEY": KEY, "SYNC_MCP_LOG_LEVEL": "debug", "SYNC_MCP_HOME": ""}
    done = _run("config", "codex", environment=secrets)
    assert (done.returncode, done.stderr) == (0, "")
    url = "http://127.0.0.1:8787"
    done = _run("config", "codex", environment=secrets | {"SYNC_BASE_URL": url, "SYNC_MCP_BUDGET_USD": "5"})
    assert done.returncode == 0
    assert "SYNC_BASE_URL, SYNC_MCP_BUDGET_USD" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "[mcp_servers." in done.stdout


# It ends before it serves: nobody else could come, but from a host that is not named.
_OPEN_HTTP = ("--http", "--host", "0.0.0.0")
_PUBLIC = {
    "SYNC_MCP_PUBLIC_URL": "https://mcp.example.com",
    "SYNC_MCP_HTTP_TOKEN": "a-Token-of-24-characters",
}
_WEBHOOKS = {"SYNC_MCP_WEBHOOK_SECRET": "whsec_0123456789abcdef0123"}


@pytest.mark.parametrize(
    ("arguments", "environment", "is_warned"),
    [
        (_OPEN_HTTP, _PUBLIC, True),
        (_OPEN_HTTP, _PUBLIC | _WEBHOOKS, False),
        (_OPEN_HTTP, {}, False),
        # Another server, over HTTP, takes the webhooks that its jobs name.
        ((), _PUBLIC, False),
    ],
    ids=["no secret", "with its secret", "no public URL", "over stdio"],
)
def test_a_server_that_takes_no_webhooks_though_jobs_name_it_says_so_once_at_its_start(
    arguments: Sequence[str], environment: dict[str, str], is_warned: bool
) -> None:
    done = _run(*arguments, environment={"SYNC_API_KEY": KEY, **environment})
    warned = re.findall(r"^.*SYNC_MCP_WEBHOOK_SECRET.*$", done.stderr, re.MULTILINE)
    assert len(warned) == is_warned, done.stderr
    assert all(
        "this server takes no webhooks" in line and "Set the organization's secret" in line for line in warned
    )
