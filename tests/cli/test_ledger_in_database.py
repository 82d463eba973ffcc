"""The commands on a ledger in a database: as on a file; and how it is begun, copied to and told of."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sync_mcp import Ledger
from sync_mcp.campaigns.book import CampaignBook
from tests.campaigns.parts import planned
from tests.cli.here import Done, complaint, run_here
from tests.payments.entries import begun, counted, ended, found, intended, made, now_of, priced
from tests.postgres import WITHOUT, is_available, run_statement
from tests.stores import Databases

pytestmark = pytest.mark.skipif(not is_available(), reason=WITHOUT)
Run = Callable[..., Done]


@pytest.fixture(scope="module")
def shared_url(databases: Databases) -> str:
    return databases.make()


@pytest.fixture
def url(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database in which nothing is, and that is set."""
    run_statement(shared_url, "DROP SCHEMA IF EXISTS sync_mcp CASCADE")
    monkeypatch.setenv("SYNC_MCP_DATABASE_URL", shared_url)
    return shared_url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url=url)
    yield ledger
    ledger.close()


@pytest.fixture
def in_file(home: Path) -> Iterator[Ledger]:
    ledger = Ledger(home)
    yield ledger
    ledger.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str) -> Run:
    """The command in this process, without a terminal; it never tells the password."""

    def command(*arguments: str) -> Done:
        done = run_here(monkeypatch, capsys, *arguments)
        for password in ("s3cret", urlsplit(url).password or "-"):
            assert password not in done.stdout + done.stderr
        return done

    return command


def test_the_commands_go_to_the_database_that_is_set_and_to_a_file_that_is_named(
    run: Run, ledger: Ledger, in_file: Ledger, home: Path
) -> None:
    id = begun(ledger, usd="3", intention=intended(account="org:shared"))
    ledger.doubt(id, "me", None)
    assert "org:shared" in run("ledger", "list").stdout
    assert "state      unresolved" in run("ledger", "show", str(id)).stdout
    assert run("ledger", "release", str(id), "--yes").returncode == 0
    assert found(ledger, id).state == "released"
    made(in_file, intention=intended(account="org:mine"))
    assert "org:mine" in run("ledger", "list", "--home", str(home)).stdout


def test_it_is_begun_on_the_users_word_once(run: Run, ledger: Ledger) -> None:
    assert (
        "There is none yet; the first paid call begins one in postgresql://" in run("ledger", "list").stdout
    )
    assert "version 14 is begun in" in run("ledger", "migrate").stdout
    assert "has version 14 already: nothing was changed" in run("ledger", "migrate").stdout
    assert ledger.check() == 0


def test_a_file_needs_no_migration(run: Run, in_file: Ledger, home: Path) -> None:
    made(in_file)
    assert "is up to date" in run("ledger", "migrate", "--home", str(home)).stdout


def test_a_check_and_the_doctor_tell_what_the_server_is_and_how_far_away(run: Run, ledger: Ledger) -> None:
    ended(ledger, charged="yes", cost="1")
    checked = run("ledger", "check")
    assert checked.returncode == 0, checked.stdout
    assert re.search(
        r"^server +PostgreSQL \d+; schema version 14; a transaction that reads takes \d+\.\d ms; "
        r"this machine's clock is [+-]\d+\.\d{3} s beside",
        checked.stdout,
        re.MULTILINE,
    )
    assert re.search(r"^commit +\d+\.\d ms", checked.stdout, re.MULTILINE)
    told = run("doctor").stdout
    assert re.search(r"^ledger +postgresql://\S+; entries: 1, unresolved: 0$", told, re.MULTILINE)
    assert re.search(r"^database +PostgreSQL \d+; schema version 14", told, re.MULTILINE)
    assert "SYNC_MCP_DATABASE_URL = set, not shown (environment)" in told


def test_the_doctor_begins_none(run: Run, ledger: Ledger) -> None:
    assert "none yet; the first paid call begins one in postgresql://" in run("doctor").stdout
    assert not ledger.exists()


# Copying


def test_all_of_a_file_is_copied_under_its_numbers_once(run: Run, ledger: Ledger, in_file: Ledger) -> None:
    gone = begun(in_file, "gone", has_files=True)
    paid = ended(in_file, "paid", "2", charged="yes", cost="1.234567891")
    in_doubt = begun(in_file, "doubted", "0.5")
    in_file.doubt(in_doubt, "me", None)
    last = begun(in_file, "withdrawn", has_files=True)
    for id in (gone, last):
        in_file.withdraw(id, "me")
    in_file.quote([priced(intended("asked"))], now_of())
    in_file.revoke(intended("declined"))
    in_file.keep_account("print", "https://h", "org:one", is_sandbox=True)
    in_file.keep_delivery("https://h", "job", "COMPLETED")
    planned(CampaignBook(in_file.store), 3)
    told = run("ledger", "copy")
    assert told.returncode == 0, told.stderr
    assert "Copied 2 entries, 1 quote, 1 campaign" in told.stdout
    assert [found(ledger, id) for id in (paid, in_doubt)] == [found(in_file, id) for id in (paid, in_doubt)]
    assert counted(ledger) == counted(in_file) == Decimal("1.734567891")
    assert ledger.find_wrong_days() == []
    assert ledger.was_declined(intended("declined"), None)
    assert ledger.account_of("print", "https://h") == ("org:one", True)
    assert ledger.read_deliveries("https://h", 0) == in_file.read_deliveries("https://h", 0)
    book, copied = CampaignBook(in_file.store), CampaignBook(ledger.store)
    assert copied.rows(copied.get("c-1")) == book.rows(book.get("c-1"))
    # Numbers that were given once are not given again.
    assert begun(ledger, "next") == last + 1
    assert "is not empty" in complaint(run("ledger", "copy"))
    assert ledger.check() == 3


def test_what_is_under_way_is_not_copied(run: Run, ledger: Ledger, in_file: Ledger) -> None:
    id = begun(in_file)
    assert "is under way" in complaint(run("ledger", "copy"))
    in_file.accept(id, "job")
    book = CampaignBook(in_file.store)
    planned(book)
    book.hold_runner("org:one", "https://h", "holder", "here")
    assert "is under way" in complaint(run("ledger", "copy"))
    book.let_go_runner("org:one", "https://h", "holder")
    assert run("ledger", "copy").returncode == 0
    assert counted(ledger) == 1


def test_where_there_is_no_file_nothing_is_copied(run: Run, url: str) -> None:
    assert "there is nothing to copy" in complaint(run("ledger", "copy", "--to", url))


# What is given


@pytest.mark.parametrize(
    "wrong",
    ["mysql://jane:s3cret@h/d", "postgresql://jane:s3cret@h", "postgresql://jane:s3cret/@127.0.0.1/d"],
)
def test_a_place_that_is_no_database_is_told_without_its_password(run: Run, wrong: str) -> None:
    complaint(run("ledger", "copy", "--to", wrong))


@pytest.mark.parametrize("command", [("ledger", "list"), ("campaign", "list"), ("--log-level", "error")])
def test_a_database_that_lets_nobody_in_ends_each_command_with_one_line(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SYNC_MCP_DATABASE_URL", url.replace(urlsplit(url).password or "", "s3cret"))
    assert "password authentication failed" in complaint(run(*command))


def test_without_the_extra_it_is_said_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sync_mcp.payments.stores.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    told = complaint(run("ledger", "list"))
    assert "SYNC_MCP_DATABASE_URL needs what is not installed" in told
    assert "sync-mcp[postgres]" in told


def test_who_has_no_database_loads_no_driver() -> None:
    script = (
        "import sys, tempfile\n"
        "from sync_mcp import Ledger\n"
        "import sync_mcp.server, sync_mcp.cli.ledger.command, sync_mcp.cli.campaign.command\n"
        "Ledger(tempfile.mkdtemp()).check()\n"
        "print(*[name for name in sys.modules if 'psycopg' in name or 'postgres' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "\n", done.stderr
