import os
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from sync_mcp import Ledger, LedgerError
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.catalogue import TOOLS
from tests.api.raw_server import RawServer, answer
from tests.payments.entries import begun, made
from tests.serving.stdio.forked import run_forked

KEY, TOKEN = "sk_Secret-0123456789", "a-Token-of-24-characters"
COMMAND = str(Path(sys.executable).with_name("sync-mcp"))
_found = shutil.which("sync-mcp")
TYPED = "sync-mcp" if _found is not None and Path(_found).samefile(COMMAND) else COMMAND
WAIT_SECONDS = 60
VERSION_1 = Path(__file__).parents[1] / "payments" / "ledger_version_1.sql"
_WITHOUT_PYAV = """
import importlib.metadata, sys
sys.modules["av"] = None
found = importlib.metadata.version
def version(name):
    if name == "av" and MISSING:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
from sync_mcp.cli.main import main
main()
"""


def examined(
    *flags: str, command: tuple[str, ...] = (COMMAND,), **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SYNC_") or name == "SYNC_MCP_HOME"
    }
    if command == (COMMAND,):
        return run_forked([COMMAND, "doctor", *flags], kept | environment, timeout=WAIT_SECONDS)
    return subprocess.run(
        [*command, "doctor", *flags],
        env=kept | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


def remedies(report: str) -> dict[str, str]:
    """What is to be done, by the name of what is wrong."""
    return dict(re.findall(r"^(\w+) +.*\n  WRONG -> (.+)$", report, re.MULTILINE))


def test_where_all_is_well_it_says_so_and_ends_with_0(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("All is well.\n")
    assert re.search(rf"^api +{sandbox.url} answers in \d+ ms \(SANDBOX\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^clock +[+-]\d+ s beside the API's$", done.stdout, re.MULTILINE)
    assert "models: sync-3" in done.stdout
    for name in ("sync-mcp", "python", "platform", "packages", "media"):
        assert re.search(rf"^{name} +\S", done.stdout, re.MULTILINE)


def test_it_asks_for_nothing_but_lists(sandbox: Sandbox) -> None:
    examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert [(one.method, one.path) for one in sandbox.requests] == [
        ("GET", "/v2/errors"),
        ("GET", "/v2/models"),
    ]


def test_no_secret_stands_in_it(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY, SYNC_MCP_HTTP_TOKEN=TOKEN)
    assert "SYNC_API_KEY = set, not shown (environment)" in done.stdout
    assert "SYNC_MCP_HTTP_TOKEN = set, not shown (environment)" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_it_says_where_each_setting_came_from(sandbox: Sandbox) -> None:
    done = examined("--http", "--port", "0", SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert "SYNC_MCP_HTTP_PORT = 0 (flag)" in done.stdout
    assert f"SYNC_BASE_URL = {sandbox.url} (environment)" in done.stdout
    assert "SYNC_MCP_LOG_LEVEL = info (default)" in done.stdout


def test_a_missing_key_is_wrong_and_the_api_is_looked_at_all_the_same(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url)
    assert done.returncode == 1
    assert remedies(done.stdout).keys() == {"key"}
    assert "SYNC_API_KEY" in remedies(done.stdout)["key"]
    assert "answers in" in done.stdout
    assert done.stdout.endswith("1 thing is wrong.\n")


def test_a_key_that_the_api_does_not_know_is_wrong(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="sk_invalid")
    assert done.returncode == 1
    assert "SYNC_API_KEY" in remedies(done.stdout)["key"]


def test_an_api_whose_certificate_is_not_trusted_is_told_apart(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    certificate.write_to_path(str(tmp_path / "server.pem"))
    tls.load_cert_chain(tmp_path / "server.pem")
    with RawServer([answer(200, [])], tls=tls) as server:
        done = examined(SYNC_BASE_URL=server.url, SYNC_API_KEY=KEY)
    assert "SSL_CERT_FILE" in remedies(done.stdout)["api"]


def test_an_api_that_cannot_be_reached_is_wrong() -> None:
    done = examined(SYNC_BASE_URL="http://127.0.0.1:9", SYNC_API_KEY=KEY)
    assert done.returncode == 1
    # One fault is told once: the key cannot be judged.
    assert remedies(done.stdout).keys() == {"api"}
    assert "SYNC_BASE_URL" in remedies(done.stdout)["api"]
    assert "key        not tried" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_page_in_the_place_of_the_api_is_wrong(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(html=True, times=None))
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert done.returncode == 1
    assert "is not the API's JSON (text/html)" in done.stdout
    assert remedies(done.stdout).keys() == {"api"}


@pytest.mark.parametrize(
    ("date", "wrong"),
    [("Tue, 24 Nov 2020 05:00:00 GMT", True), ("Tue, 24 Nov 2020 05:00:00 -0000", True), ("no date", False)],
)
def test_a_clock_that_is_far_off_is_wrong(date: str, wrong: bool) -> None:
    with RawServer([answer(200, [], {"Date": date})]) as api:
        done = examined(SYNC_BASE_URL=api.url, SYNC_API_KEY=KEY)
    assert done.returncode == int(wrong), done.stdout
    assert remedies(done.stdout).keys() == ({"clock"} if wrong else set())


@pytest.mark.parametrize(
    ("missing", "fault"), [(True, "PyAV is not installed"), (False, r"PyAV [\d.]+ cannot be imported")]
)
def test_a_missing_extra_is_told_and_wrong_only_where_it_is_needed(
    sandbox: Sandbox, missing: bool, fault: str
) -> None:
    without = (sys.executable, "-c", _WITHOUT_PYAV.replace("MISSING", str(missing)))
    done = examined(command=without, SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert done.returncode == 0
    [told] = re.findall(
        rf"^media +{fault}; (.*): pip install 'sync-mcp\[media\]'$", done.stdout, re.MULTILINE
    )
    assert "preview_generation does not work" in told
    assert "not checked before they are paid for" in told
    assert "sandbox" in told
    done = examined("--sandbox", command=without)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(rf"^media +{fault}", done.stdout, re.MULTILINE)
    assert remedies(done.stdout) == {"media": "Run pip install 'sync-mcp[media]'."}


def test_with_the_sandbox_it_needs_neither_key_nor_network() -> None:
    done = examined("--sandbox", https_proxy="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert "(SANDBOX)" in done.stdout


def test_with_the_sandbox_nothing_is_said_of_the_key_that_is_set(sandbox: Sandbox) -> None:
    # It is never used there, so it may be a wrong one, and the API may be anywhere.
    done = examined("--sandbox", SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="sk_invalid")
    assert done.returncode == 0, done.stdout
    assert "key        not needed on the sandbox\n" in done.stdout
    assert "SYNC_MCP_SANDBOX = 1 (flag)" in done.stdout
    assert list(sandbox.requests) == []


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        ({"SYNC_MCP_SANDBX": "1"}, "did you mean 'SYNC_MCP_SANDBOX'?"),
        ({"SYNC_BASE_URL": "https://jane:hunter2@api.sync.so"}, "SYNC_BASE_URL must be https://host"),
        ({"SYNC_BASE_URL": "https://api.sync.so/?token=hunter2"}, "SYNC_BASE_URL must be https://host"),
        ({"SYNC_MCP_HTTP_TOKEN": "hunter2"}, "SYNC_MCP_HTTP_TOKEN must be at least 16"),
        ({"SYNC_API_KEY": "“hunter2”"}, "SYNC_API_KEY must be a key"),
    ],
)
def test_settings_that_end_every_start_are_reported_and_not_repeated(
    environment: dict[str, str], remedy: str
) -> None:
    done = examined(command=(COMMAND,), **environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert remedy in remedies(done.stdout)["settings"]
    assert re.search(r"^python +\S", done.stdout, re.MULTILINE)
    assert "hunter2" not in done.stdout


def test_which_tools_are_on_is_told_and_a_name_that_does_not_exist_is_wrong(sandbox: Sandbox) -> None:
    wrong = examined(SYNC_BASE_URL=sandbox.url, SYNC_MCP_TOOLSETS="cora")
    assert "did you mean 'core'?" in remedies(wrong.stdout)["tools"]
    report = examined(SYNC_BASE_URL=sandbox.url, SYNC_MCP_READ_ONLY="1").stdout
    sets = (
        "the set library, the set usage, the set voices, the set dialogue, the set batch, the set campaigns"
    )
    off = f"create_generation, create_generations, upload_asset, download_generation, {sets}"
    assert re.search(rf"^tools +8 of {len(TOOLS)} are on; off: {off}$", report, re.MULTILINE)


def test_a_server_without_any_tool_is_wrong(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_MCP_READ_ONLY="1", SYNC_MCP_TOOLS="create_generation")
    assert "an assistant sees no tool" in remedies(done.stdout)["tools"]


def test_http_that_would_not_start_is_wrong_and_says_what_is_missing() -> None:
    done = examined("--sandbox", "--http", "--host", "0.0.0.0", "--allowed-host", "mcp.example.com")
    assert done.returncode == 1
    assert remedies(done.stdout).keys() == {"http"}
    assert "SYNC_MCP_HTTP_TOKEN" in remedies(done.stdout)["http"]
    assert "SYNC_MCP_HTTP_ALLOWED_HOSTS = mcp.example.com (flag)" in done.stdout


@pytest.mark.parametrize(
    ("status", "body", "state", "remedy"),
    [
        (
            409,
            {"message": "Twice"},
            'fit the present state (HTTP 409). The API says: "Twice"',
            "SYNC_BASE_URL",
        ),
        (402, {"message": "No plan"}, 'way (HTTP 402). The API says: "No plan"', "https://sync.so/billing"),
        (503, {"message": "Busy"}, 'its own (HTTP 503). The API says: "Busy"', "again in a while"),
        (200, {"models": []}, "no list", "SYNC_BASE_URL"),
    ],
)
def test_whatever_the_api_says_to_the_key_has_a_remedy(
    status: int, body: object, state: str, remedy: str
) -> None:
    with RawServer([answer(200, []), answer(status, body)]) as api:
        done = examined(SYNC_BASE_URL=api.url, SYNC_API_KEY=KEY)
    assert done.returncode == 1
    assert state in done.stdout
    assert remedies(done.stdout).keys() == {"key"}
    assert remedy in remedies(done.stdout)["key"]


def test_what_the_api_says_makes_no_lines_of_its_own() -> None:
    forged = {"name": "sync-3\nAll is well.\x1b[2J\n" + "x" * 5000}
    echo = {"message": f"The key {KEY} is bad\nAll is well."}
    for listed in (answer(200, [forged]), answer(401, echo)):
        with RawServer([answer(200, []), listed]) as api:
            done = examined(SYNC_BASE_URL=api.url, SYNC_API_KEY=KEY)
        lines = done.stdout.splitlines()
        assert (lines[-1] == "All is well.") == (done.returncode == 0)
        assert lines.count("All is well.") == (done.returncode == 0)
        assert all(len(line) < 230 and line.isprintable() for line in lines)
        assert KEY not in done.stdout


def test_letters_that_the_console_lacks_do_not_end_it() -> None:
    with RawServer([answer(200, []), answer(200, [{"name": "模型"}])]) as api:
        done = examined(SYNC_BASE_URL=api.url, SYNC_API_KEY=KEY, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "works; models: 模型" in done.stdout


def test_a_ledger_is_made_by_the_first_paid_call_and_not_by_looking(sandbox: Sandbox, home: Path) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert done.returncode == 0
    assert f"ledger     none yet; the first paid call makes {home / 'ledger.sqlite3'}\n" in done.stdout
    assert not home.exists()


def test_what_is_unresolved_in_the_ledger_is_told_and_is_no_fault(sandbox: Sandbox, home: Path) -> None:
    with closing(Ledger(home)) as ledger:
        made(ledger, "one")
        ledger.doubt(begun(ledger, "two"), "me", None)
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert done.returncode == 0
    assert (
        f"ledger     {home / 'ledger.sqlite3'}; entries: 2, unresolved: 1: `{TYPED} ledger list`"
        in done.stdout
    )


def test_the_ledger_that_home_names_is_looked_at(sandbox: Sandbox, tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "there")) as ledger:
        ledger.doubt(begun(ledger, "one"), "me", None)
    done = examined("--home", str(ledger.file.folder), SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert f"SYNC_MCP_HOME = {ledger.file.folder} (flag)\n" in done.stdout
    assert f"unresolved: 1: `{TYPED} ledger list --home {ledger.file.folder}` says" in done.stdout


def _newer(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.file.path)) as connection, connection:
        connection.execute("UPDATE ledger SET version = 99")


def _damaged(ledger: Ledger) -> None:
    ledger.file.path.write_bytes(b"no database" * 1000)


def _emptied(ledger: Ledger) -> None:
    ledger.file.path.write_bytes(b"")


def _gone(ledger: Ledger) -> None:
    ledger.file.path.unlink()


def _older(ledger: Ledger) -> None:
    copy = ledger.file.path.read_bytes()
    made(ledger, "lost", job="j2")
    ledger.close()
    ledger.file.path.write_bytes(copy)


def _summed_wrongly(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.file.path)) as connection, connection:
        connection.execute("UPDATE days SET counted_usd = counted_usd + 1")


def _set_aside(ledger: Ledger) -> None:
    _damaged(ledger)
    with pytest.raises(LedgerError):
        ledger.check()


def _unmarked(ledger: Ledger) -> None:
    ledger.file.mark_path.unlink()


def _whole(ledger: Ledger) -> None:
    assert ledger.file.path.exists()


def _of_version_1(ledger: Ledger) -> None:
    for path in ledger.file.folder.iterdir():
        path.unlink()
    script = """
import os, pathlib, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.executescript(pathlib.Path(sys.argv[2]).read_text())
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("DELETE FROM quotes")
os._exit(0)
"""
    subprocess.run(
        [sys.executable, "-c", script, ledger.file.path, VERSION_1], check=True, timeout=WAIT_SECONDS
    )


def _half_written(ledger: Ledger) -> None:
    # Its process dies after pages of the file itself were written.
    script = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE large (content BLOB)")
for _ in range(100):
    connection.execute("INSERT INTO large VALUES (zeroblob(4000))")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script, ledger.file.path], check=True, timeout=WAIT_SECONDS)
    assert ledger.file.path.with_name("ledger.sqlite3-journal").stat().st_size


def _everything_in(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """What stands in a folder, with the mode and the time of each file."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


CHECK = f"Run `{TYPED} ledger check`"


@pytest.mark.parametrize(
    ("make", "told", "remedy"),
    [
        (_whole, "entries: 1, unresolved: 0", None),
        (_unmarked, "entries: 1, unresolved: 0", None),
        (_summed_wrongly, "; the sums of 1 day are not what the entries count", CHECK),
        (_of_version_1, "is as an earlier sync-mcp wrote it", None),
        (_half_written, "was being written by a process that died", None),
        (_newer, "was written by a newer sync-mcp", "Update sync-mcp."),
        (_damaged, "is damaged", CHECK),
        (_emptied, "is damaged", CHECK),
        (_set_aside, "has been set aside", CHECK),
        (_gone, "is gone", CHECK),
        (_older, "is an older copy, or has lost entries", CHECK),
    ],
)
def test_a_ledger_is_looked_at_and_never_changed(
    sandbox: Sandbox, home: Path, make: Callable[[Ledger], None], told: str, remedy: str | None
) -> None:
    with closing(Ledger(home)) as ledger:
        made(ledger)
        ledger.close()
        make(ledger)
    before, listed_at = _everything_in(home), home.stat().st_mtime_ns
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    [line] = re.findall(r"^ledger +(.+)$", done.stdout, re.MULTILINE)
    assert told in line
    assert remedies(done.stdout).keys() == ({"ledger"} if remedy else set())
    assert (remedy or "") in remedies(done.stdout).get("ledger", "")
    assert done.returncode == (1 if remedy else 0)
    assert (_everything_in(home), home.stat().st_mtime_ns) == (before, listed_at)


@pytest.mark.parametrize("make", [_of_version_1, _half_written])
def test_what_cannot_be_looked_at_without_a_change_is_brought_up_to_date_by_its_use(
    home: Path, make: Callable[[Ledger], None]
) -> None:
    with closing(Ledger(home)) as ledger:
        made(ledger)
        ledger.close()
        make(ledger)
        ledger.check()
    with closing(Ledger(home, read_only=True)) as looking:
        assert looking.check() == len(ledger.entries(limit=None))


@pytest.mark.parametrize("place", ["file", "file/inner"])
def test_a_ledger_that_cannot_be_made_is_wrong(sandbox: Sandbox, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY, SYNC_MCP_HOME=str(tmp_path / place))
    assert done.returncode == 1
    assert "SYNC_MCP_HOME" in remedies(done.stdout)["ledger"]


def test_on_the_sandbox_the_users_ledger_is_not_looked_at(home: Path) -> None:
    home.mkdir()
    (home / "ledger.sqlite3").write_bytes(b"no database" * 1000)
    done = examined("--sandbox")
    assert done.returncode == 0
    assert "ledger     not looked at" in done.stdout
    assert [path.name for path in home.iterdir()] == ["ledger.sqlite3"]


@pytest.mark.parametrize(
    ("environment", "is_told"),
    [
        ({"SYNC_MCP_APPROVE_ABOVE_USD": "never", "SYNC_MCP_MAX_USD_PER_JOB": "5"}, True),
        ({"SYNC_MCP_APPROVE_ABOVE_USD": "never", "SYNC_MCP_BUDGET_USD_PER_DAY": "20"}, False),
        ({"SYNC_MCP_APPROVE_ABOVE_USD": "never", "SYNC_MCP_READ_ONLY": "1"}, False),
        ({"SYNC_MCP_APPROVE_ABOVE_USD": "never", "SYNC_MCP_TOOLS": "list_models"}, False),
        ({"SYNC_MCP_APPROVE_ABOVE_USD": "never", "SYNC_MCP_TOOLS": "create_generation"}, True),
    ],
)
def test_spending_without_asking_and_without_end_is_told_and_is_no_fault(
    sandbox: Sandbox, environment: dict[str, str], is_told: bool
) -> None:
    known = {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": KEY}
    done = examined(command=(COMMAND,), **known, **environment)
    assert done.returncode == 0
    assert ("money      nobody is asked" in done.stdout) == is_told


@pytest.mark.parametrize(
    ("environment", "state", "remedy"),
    [
        ({"SYNC_MCP_BUDGET_USD": "20"}, "SYNC_MCP_UNPRICED_USD would say what to hold", None),
        (
            {"SYNC_MCP_BUDGET_USD": "20", "SYNC_MCP_UNPRICED_USD": "3", "SYNC_MCP_MAX_USD_PER_JOB": "2.50"},
            "SYNC_MCP_UNPRICED_USD is above a limit",
            "Set it to 2.50 at most",
        ),
        ({"SYNC_MCP_BUDGET_USD": "20", "SYNC_MCP_UNPRICED_USD": "0.1"}, None, None),
        ({}, None, None),
        ({"SYNC_MCP_BUDGET_USD": "20", "SYNC_MCP_TOOLSETS": "core"}, None, None),
    ],
)
def test_what_has_no_published_price_and_is_refused_under_the_limits_is_told(
    sandbox: Sandbox, environment: dict[str, str], state: str | None, remedy: str | None
) -> None:
    known = {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": KEY, "SYNC_MCP_TOOLSETS": "core,voices"}
    done = examined(command=(COMMAND,), **{**known, **environment})
    told = re.findall(r"^money .*SYNC_MCP_UNPRICED_USD.*$", done.stdout, re.MULTILINE)
    assert [(state or "") in line for line in told] == ([] if state is None else [True])
    assert (remedies(done.stdout).get("money") or "").startswith(remedy or "")
    assert done.returncode == (0 if remedy is None else 1)


HTTP = ["--http", "--port", "0"]
PUBLIC = {"SYNC_MCP_PUBLIC_URL": "https://mcp.example.com"}
SECRET = {"SYNC_MCP_WEBHOOK_SECRET": "whsec_0123456789abcdef0123"}


@pytest.mark.parametrize(
    ("flags", "environment", "state", "remedy"),
    [
        (HTTP, PUBLIC, "this server takes no webhooks", "Set the organization's secret"),
        (HTTP, PUBLIC | SECRET, "taken, and named by each job", None),
        (HTTP, SECRET, "named by no job by itself", None),
        ([], SECRET, "counts over HTTP alone", None),
        ([], PUBLIC, "a server over HTTP with the same ledger", None),
        (
            HTTP,
            SECRET | {"SYNC_MCP_PUBLIC_URL": "https://10.0.0.5:8443"},
            "https://10.0.0.5:8443 is within a private network",
            "reached from the internet",
        ),
        ([], {"SYNC_MCP_PUBLIC_URL": "https://localhost"}, "is within a private network", "internet"),
    ],
)
def test_settings_of_webhooks_that_do_not_go_together_are_told(
    sandbox: Sandbox, flags: list[str], environment: dict[str, str], state: str, remedy: str | None
) -> None:
    known = {"SYNC_BASE_URL": sandbox.url, "SYNC_API_KEY": KEY, "SYNC_MCP_HTTP_TOKEN": TOKEN}
    done = examined(*flags, command=(COMMAND,), **known, **environment)
    assert re.search(rf"^webhooks +.*{re.escape(state)}", done.stdout, re.MULTILINE)
    assert (remedy or "") in remedies(done.stdout).get("webhooks", "")
    assert done.returncode == (0 if remedy is None else 1)


def test_nothing_is_said_of_webhooks_where_none_are_asked_for(sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert not re.search(r"^webhooks ", done.stdout, re.MULTILINE)


def test_the_limits_are_shown_as_they_are_set(sandbox: Sandbox) -> None:
    done = examined(
        SYNC_BASE_URL=sandbox.url,
        SYNC_API_KEY=KEY,
        SYNC_MCP_BUDGET_USD="1e2",
        SYNC_MCP_APPROVE_ABOVE_USD="2.50",
    )
    assert "SYNC_MCP_BUDGET_USD = 100 (environment)" in done.stdout
    assert "SYNC_MCP_APPROVE_ABOVE_USD = 2.50 (environment)" in done.stdout
    assert "SYNC_MCP_MAX_USD_PER_JOB = not set (default)" in done.stdout
    assert "SYNC_MCP_APPROVE_BY = ask (default)" in done.stdout


def test_all_settings_that_cannot_be_used_are_told_at_once() -> None:
    wrong = {
        "SYNC_MCP_BUDGET_USD": "much",
        "SYNC_MCP_BUDGT_USD": "5",
        "SYNC_MCP_DOWNLOAD_DIR": "here",
        "SYNC_API_KEY": "“hunter2”",
    }
    done = examined(command=(COMMAND,), **wrong)
    told = re.findall(r"^settings +cannot be used\n  WRONG -> (.+)$", done.stdout, re.MULTILINE)
    assert [re.findall(r"SYNC_[A-Z_]+", line)[0] for line in told] == [
        "SYNC_MCP_BUDGT_USD",
        "SYNC_API_KEY",
        "SYNC_MCP_BUDGET_USD",
        "SYNC_MCP_DOWNLOAD_DIR",
    ]
    assert "hunter2" not in done.stdout
    assert done.stdout.endswith("4 things are wrong.\n")


@pytest.mark.parametrize("quoted", [f'"{KEY}"', f"'{KEY}'", f'"{KEY}'])
def test_a_key_in_quotes_is_told_as_that_and_not_sent(sandbox: Sandbox, quoted: str) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=quoted)
    assert "quotes" in remedies(done.stdout)["key"]
    assert KEY not in done.stdout
    assert [request.path for request in sandbox.requests] == ["/v2/errors"]


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "closed").mkdir(mode=0o000)
    yield tmp_path
    (tmp_path / "closed").chmod(0o700)


needs_modes = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="a mode keeps this user out of nothing"
)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("there", None),
        ("missing", "is not there"),
        ("file", "is no folder"),
        pytest.param("closed", "cannot be read", marks=needs_modes),
    ],
)
def test_a_root_that_cannot_be_read_from_is_wrong(
    sandbox: Sandbox, folders: Path, name: str, told: str | None
) -> None:
    roots = os.pathsep.join([str(folders / "there"), str(folders / name)])
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY, SYNC_MCP_MEDIA_ROOTS=roots)
    assert remedies(done.stdout).keys() == ({"roots"} if told else set())
    assert told is None or f"{folders / name} {told}" in done.stdout
    assert "SYNC_MCP_MEDIA_ROOTS" in remedies(done.stdout).get("roots", "SYNC_MCP_MEDIA_ROOTS")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("there", None),
        ("there/new", None),
        ("there/two/new", "new cannot be made: there is no folder above it"),
        ("file", "file is no folder"),
        ("file/new", "new cannot be made: there is no folder above it"),
        pytest.param("closed/new", "cannot be made in the folder above it", marks=needs_modes),
    ],
)
def test_a_download_folder_that_cannot_be_is_wrong(
    sandbox: Sandbox, folders: Path, name: str, told: str | None
) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY, SYNC_MCP_DOWNLOAD_DIR=str(folders / name))
    assert remedies(done.stdout).keys() == ({"results"} if told else set())
    assert told is None or told in done.stdout
    assert not (folders / "there" / "new").exists()
