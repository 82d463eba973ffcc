"""A ledger that is gone, or has an older or another one in its place, is no new ledger."""

import errno
import importlib.util
import inspect
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from sync_mcp import Ledger, LedgerError
from sync_mcp.machine.installed import ledger_command
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.rows import METADATA
from sync_mcp.payments.stores import mark as mark_module, sqlite
from sync_mcp.payments.stores.mark import UNREADABLE, Mark, advance_mark, read_mark
from sync_mcp.payments.stores.schema import VERSIONS
from tests.serving.stdio.forked import run_forked

from .entries import (
    ACCOUNT,
    BASE_URL,
    JOB,
    LedgerOf,
    begun,
    counted,
    ended,
    found,
    intended,
    is_taken,
    made,
    refuse,
    settle,
    wished,
)

pytestmark = pytest.mark.file

PATIENCE_SECONDS = 60
VERSION_1 = Path(__file__).with_name("ledger_version_1.sql")
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs kills or locks of POSIX")

_DIES_AFTER_A_CREATE = """
import os, signal, sys
from sync_mcp import Ledger
from tests.payments.entries import begun, ended, made
ledger = Ledger(sys.argv[1])
ended(ledger, "done", "2", charged="yes", cost="1.25", job="j1")
made(ledger, "running", "0.5", job="j2")
begun(ledger, "sending", "1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def new_ledgers_are_copies() -> None:
    """Here they are not: each ledger is made as the product makes it."""


def copied(ledger: Ledger) -> Path:
    """A copy of the file as it is now, made while nothing runs."""
    ledger.close()
    return Path(shutil.copy(ledger.file.path, ledger.file.folder.with_name("copy")))


def moved_in(copy: Path, ledger: Ledger) -> None:
    copy.replace(ledger.file.path)


def written_over(copy: Path, ledger: Ledger) -> None:
    ledger.file.path.write_bytes(copy.read_bytes())


def refused(ledger: Ledger, code: str) -> str:
    """What a paid call is told, twice, and a look as well, while no file is changed."""
    before = {path: path.read_bytes() for path in ledger.file.folder.iterdir()}
    told: set[str] = set()
    for _ in range(2):
        with pytest.raises(LedgerError) as paying:
            ledger.begin(wished("new"))
        with pytest.raises(LedgerError) as looking:
            ledger.spending()
        assert (paying.value.code, looking.value.code, paying.value.money_spent) == (code, code, "no")
        assert ledger_command("check") in paying.value.next_step
        told |= {paying.value.message, looking.value.message}
    assert {path: path.read_bytes() for path in ledger.file.folder.iterdir()} == before
    [message] = told
    return message


@contextmanager
def program_of_version(version: int) -> Generator[None]:
    """Let this process be one that knows no later version of the ledger."""
    known = sqlite._MIGRATIONS[:version]  # pyright: ignore[reportPrivateUsage]
    with pytest.MonkeyPatch.context() as older:
        older.setattr(sqlite, "_MIGRATIONS", known)
        yield


def version_1_file(home: Path) -> sqlite3.Connection:
    """Make a ledger as version 1 left it, and return what has it open."""
    home.mkdir(mode=0o700)
    connection = sqlite3.connect(home / "ledger.sqlite3", isolation_level=None)
    connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


# What stands in the file


@posix_only
def test_after_a_kill_every_entry_stands_in_the_file_alone(ledger: Ledger, home: Path) -> None:
    command = [sys.executable, "-c", _DIES_AFTER_A_CREATE, str(home)]
    assert run_forked(command, os.environ, timeout=PATIENCE_SECONDS).returncode == -9
    for path in home.iterdir():
        if path.name not in ("ledger.sqlite3", "ledger.mark.json"):
            path.unlink()
    states = [entry.state for entry in ledger.entries(limit=None)]
    assert states == ["sending", "accepted", "ended"]
    assert counted(ledger) == Decimal("2.75")


def test_the_journal_that_stays_beside_the_file_takes_nothing_back(ledger: Ledger, home: Path) -> None:
    # Its header is emptied and synced as each transaction ends: after a power cut too it is no open one.
    begun(ledger, "one")
    journal = home / "ledger.sqlite3-journal"
    assert journal.read_bytes()[:28] == bytes(28)
    of_one = journal.read_bytes()
    begun(ledger, "two")
    ledger.close()
    journal.write_bytes(of_one)
    assert len(ledger.entries(limit=None)) == 2
    ledger.close()
    journal.unlink()
    assert ledger.check() == 2


def test_every_connection_syncs_what_it_commits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[tuple[object, ...]] = []
    # As it is outside the suite, which leaves the disk to the system.
    prepare = inspect.unwrap(sqlite.prepare)  # pyright: ignore[reportPrivateUsage]

    def note(connection: sqlite3.Connection, record: object) -> None:
        prepare(connection, record)
        asked = ("PRAGMA journal_mode", "PRAGMA synchronous")
        modes.append(tuple(connection.execute(one).fetchone()[0] for one in asked))

    monkeypatch.setattr(sqlite, "prepare", note)
    made(ledger)
    # 2 is FULL.
    assert set(modes) == {("persist", 2)}


def test_a_plain_copy_of_the_file_is_a_whole_ledger(ledger_of: LedgerOf, ledger: Ledger, home: Path) -> None:
    id = made(ledger)
    folder = home.with_name("copied")
    folder.mkdir()
    # While it is open, and no call is under way.
    shutil.copy(ledger.file.path, folder)
    assert found(ledger_of(folder), id).generation_id == JOB


# Gone


@pytest.mark.parametrize("is_open", [True, False])
def test_a_ledger_that_is_gone_is_refused_and_not_made_anew(ledger: Ledger, is_open: bool) -> None:
    made(ledger, "one", "2")
    made(ledger, "two", "0.5", job="j2")
    if not is_open:
        ledger.close()
    ledger.file.path.unlink()
    assert ledger.exists()
    message = refused(ledger, "ledger_missing")
    assert "entries up to 2, of 2.50 USD together" in message
    assert not ledger.file.path.exists()


def test_where_the_mark_is_gone_too_a_process_that_knew_neither_begins_anew(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    begun(ledger)
    for path in (ledger.file.path, ledger.file.mark_path):
        path.unlink()
    anew = ledger_of()
    assert not anew.exists()
    begun(anew)
    assert len(anew.entries(limit=None)) == 1


def test_a_process_whose_ledgers_folder_is_deleted_under_it_refuses_until_the_user_decides(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    made(ledger, "one", "2")
    shutil.rmtree(ledger.file.folder)
    assert ledger.exists()
    with pytest.raises(LedgerError) as lost:
        begun(ledger, "new")
    assert lost.value.code == "ledger_missing"
    assert "entries up to 1, of 2.00 USD together" in lost.value.message
    refused(ledger, "ledger_missing")
    # Another process, such as the command line's, sees the loss as well, and is the way out.
    user = ledger_of()
    refused(user, "ledger_missing")
    user.file.give_up()
    begun(ledger, "new")
    assert len(ledger.entries(limit=None)) == 1


def test_a_ledger_without_a_paid_call_leaves_no_mark(ledger: Ledger, home: Path) -> None:
    ledger.check()
    ledger.keep_account("print", BASE_URL, ACCOUNT)
    assert {path.name for path in home.iterdir()} == {"ledger.sqlite3", "ledger.sqlite3-journal"}


# Older, or another


@pytest.mark.parametrize("put_back", [moved_in, written_over])
@pytest.mark.parametrize("is_open", [True, False])
def test_an_older_copy_in_its_place_is_refused(
    ledger: Ledger, put_back: Callable[[Path, Ledger], None], is_open: bool
) -> None:
    made(ledger, "one", "2")
    copy = copied(ledger)
    made(ledger, "two", "0.5", job="j2")
    if not is_open:
        ledger.close()
    put_back(copy, ledger)
    message = refused(ledger, "ledger_replaced")
    assert "entries up to 1, of 2.00 USD together" in message
    assert "entries up to 2, of 2.50 USD together" in message


def test_a_copy_is_older_though_it_counts_more(ledger: Ledger) -> None:
    id = made(ledger, usd="2")
    copy = copied(ledger)
    settle(ledger, id, "COMPLETED", charged="yes", cost="0.5")
    moved_in(copy, ledger)
    message = refused(ledger, "ledger_replaced")
    assert "entries up to 1, of 2.00 USD together" in message
    assert "entries up to 1, of 0.50 USD together" in message


@pytest.mark.parametrize("change", ["accept", "doubt", "refuse", "renew", "take_over", "release", "prune"])
def test_no_change_of_an_entry_can_be_taken_back_by_a_copy(ledger: Ledger, change: str) -> None:
    id = begun(ledger)
    if change in ("take_over", "release"):
        ledger.doubt(id, "me", None)
    if change == "prune":
        refuse(ledger, id, "me", "nope")
    copy = copied(ledger)
    match change:
        case "accept":
            ledger.accept(id, JOB)
        case "doubt":
            ledger.doubt(id, "me", None)
        case "refuse":
            refuse(ledger, id, "me", "nope")
        case "renew":
            assert ledger.renew(id, "me")
        case "take_over":
            assert is_taken(ledger, id, "second")
        case "release":
            ledger.release(id)
        case _:
            assert ledger.prune(2e10) == 1
    moved_in(copy, ledger)
    refused(ledger, "ledger_replaced")


def test_a_ledger_that_was_pruned_is_no_older_one(ledger: Ledger, ledger_of: LedgerOf) -> None:
    made(ledger, "one")
    id = begun(ledger, "two")
    refuse(ledger, id, "me", "nope")
    assert ledger.prune(2e10) == 1
    assert ledger_of().check() == 1
    begun(ledger, "three")


def test_another_ledger_in_its_place_is_refused_though_it_is_longer(
    ledger: Ledger, ledger_of: LedgerOf, tmp_path: Path
) -> None:
    other = ledger_of(tmp_path / "other")
    for number in range(3):
        begun(other, f"clip-{number}")
    begun(ledger)
    moved_in(copied(other), ledger)
    assert "is another one than its mark" in refused(ledger, "ledger_replaced")


def test_an_older_copy_of_version_1_is_refused_and_left_as_it_is(ledger: Ledger, home: Path) -> None:
    version_1_file(home).close()
    copy = copied(ledger)
    begun(ledger)
    ledger.close()
    moved_in(copy, ledger)
    with pytest.raises(LedgerError) as told:
        begun(ledger, "new")
    assert told.value.code == "ledger_replaced"
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(1,)]


def test_a_folder_that_was_moved_is_the_same_ledger(ledger: Ledger, ledger_of: LedgerOf, home: Path) -> None:
    id = made(ledger)
    ledger.close()
    moved = ledger_of(home.rename(home.with_name("moved")))
    assert found(moved, id).state == "accepted"
    begun(moved, "new")


# The mark


def test_the_mark_tells_how_far_the_ledger_has_come(ledger: Ledger) -> None:
    made(ledger, "one", "2")
    ended(ledger, "two", "1", charged="yes", cost="0.000000001", job="j2")
    mark = read_mark(ledger.file.mark_path)
    assert mark is not None
    assert (mark.last_entry, mark.counted_usd) == (2, Decimal("2.000000001"))
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        assert connection.execute("SELECT id, revision FROM ledger").fetchall() == [
            (mark.ledger, mark.revision)
        ]


def test_a_ledger_without_its_mark_is_taken_and_marked_anew(ledger: Ledger, ledger_of: LedgerOf) -> None:
    begun(ledger)
    mark = read_mark(ledger.file.mark_path)
    ledger.file.mark_path.unlink()
    assert ledger_of().check() == 1
    assert read_mark(ledger.file.mark_path) == mark


def test_a_ledger_that_is_ahead_of_its_mark_is_taken_and_the_mark_catches_up(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    # As after a death between the two.
    begun(ledger, "one")
    behind = ledger.file.mark_path.read_bytes()
    begun(ledger, "two")
    mark = read_mark(ledger.file.mark_path)
    ledger.file.mark_path.write_bytes(behind)
    assert ledger_of().check() == 2
    assert read_mark(ledger.file.mark_path) == mark


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b'{"ledger": "x", "rev',
        b"[1]",
        b"{}",
        b'{"ledger": 1, "revision": "2", "last_entry": 3, "counted_usd": "1"}',
        b'{"ledger": "x", "revision": 9, "last_entry": 3, "counted_usd": "a lot"}',
        b'{"ledger": "x", "revision": 9, "last_entry": 3, "counted_usd": "1e300"}',
        b"[" * 4000,
        b"\xff\xfe" * 50,
    ],
)
def test_a_mark_that_says_nothing_stands_against_no_ledger_but_for_one_that_is_gone(
    ledger: Ledger, ledger_of: LedgerOf, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    begun(ledger)
    mark = read_mark(ledger.file.mark_path)
    ledger.close()
    ledger.file.mark_path.write_bytes(content)
    assert read_mark(ledger.file.mark_path) == UNREADABLE
    assert ledger.check() == 1
    assert "whether entries are missing is not known" in caplog.text
    assert read_mark(ledger.file.mark_path) == mark

    ledger.file.mark_path.write_bytes(content)
    ledger.file.path.unlink()
    assert "its mark ledger.mark.json is still there" in refused(ledger_of(), "ledger_missing")


def test_a_mark_that_cannot_be_read_refuses_before_anything_is_written(ledger: Ledger) -> None:
    begun(ledger)
    ledger.file.mark_path.unlink()
    ledger.file.mark_path.mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        begun(ledger, "new")
    ledger.file.mark_path.rmdir()
    assert len(ledger.entries(limit=None)) == 1


def test_a_mark_that_cannot_be_written_keeps_no_answer_of_the_api_out_of_the_ledger(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    id = begun(ledger)

    def fail(path: Path, mark: Mark) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing:
        failing.setattr(sqlite, "advance_mark", fail)
        ledger.accept(id, JOB)
        assert found(ledger, id).state == "accepted"
    assert "mark cannot be written" in caplog.text
    begun(ledger, "next")
    mark = read_mark(ledger.file.mark_path)
    assert mark is not None
    assert mark.last_entry == 2


def test_a_mark_never_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    marks = [Mark("x", revision, revision, Decimal(revision)) for revision in (1, 3, 2)]
    for mark in marks:
        advance_mark(path, mark)
    assert read_mark(path) == marks[1]


_ADVANCES = """
import sys
from decimal import Decimal
from pathlib import Path
from sync_mcp.payments.stores.mark import Mark, advance_mark, read_mark
path = Path(sys.argv[1])
for revision in range(int(sys.argv[2]), 401, 4):
    advance_mark(path, Mark("x", revision, revision, Decimal(1)))
    mark = read_mark(path)
    assert mark is not None
    assert mark.revision >= revision
"""


def test_of_several_processes_that_write_the_mark_at_once_none_sets_it_back(tmp_path: Path) -> None:
    def advance(first: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", _ADVANCES, str(tmp_path / "mark"), str(first)]
        return run_forked(command, os.environ, timeout=PATIENCE_SECONDS)

    with ThreadPoolExecutor(4) as processes:
        assert [(done.returncode, done.stderr) for done in processes.map(advance, range(1, 5))] == [
            (0, "")
        ] * 4
    mark = read_mark(tmp_path / "mark")
    assert mark is not None
    assert mark.revision == 400


class _MsvcrtLocks:
    """Locks bytes as the module of Windows does by its documentation: from where the file stands, once."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}
        self.places: set[tuple[int, int]] = set()

    def locking(self, file: int, mode: int, count: int) -> None:
        at = os.lseek(file, 0, os.SEEK_CUR)
        place = (os.fstat(file).st_ino, at)
        self.places.add((at, count))
        if mode == self.LK_UNLCK:
            if self.held.pop(place, None) != file:
                raise OSError(errno.EACCES, "not locked by this file")
        elif place in self.held:
            raise OSError(errno.EACCES, "locked by another file")
        else:
            self.held[place] = file


def test_on_windows_a_mark_is_locked_behind_its_content_and_unlocked_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = _MsvcrtLocks()
    monkeypatch.setitem(sys.modules, "msvcrt", cast(ModuleType, locks))
    spec = importlib.util.spec_from_file_location("mark_of_windows", mark_module.__file__)
    assert spec is not None
    assert spec.loader is not None
    windows = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, windows)
    with monkeypatch.context() as there:
        there.setattr(sys, "platform", "win32")
        spec.loader.exec_module(windows)
    path = tmp_path / "mark"
    for revision in (1, 3, 2):
        windows.advance_mark(path, windows.Mark("x", revision, revision, Decimal(revision)))
        assert locks.held == {}
    assert windows.read_mark(path) == windows.Mark("x", 3, 3, Decimal(3))
    assert (locks.held, locks.places) == ({}, {(path.stat().st_size, 1)})

    # Another has its turn, and does not end it: nothing is written, and what is there is read.
    monkeypatch.setattr(windows, "_WAIT_SECONDS", 0.01)
    locks.held[path.stat().st_ino, path.stat().st_size] = -1
    windows.advance_mark(path, windows.Mark("x", 4, 4, Decimal(4)))
    assert windows.read_mark(path).revision == 3


@posix_only
def test_a_process_that_was_stopped_in_its_turn_holds_up_nobody(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    id = begun(ledger)
    mark = read_mark(ledger.file.mark_path)
    monkeypatch.setattr(mark_module, "_WAIT_SECONDS", 0.01)
    stopped = os.open(ledger.file.mark_path, os.O_RDONLY)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    ledger.accept(id, JOB)
    os.close(stopped)
    assert read_mark(ledger.file.mark_path) == mark
    assert found(ledger, id).state == "accepted"


# Going on


def test_without_the_ledger_one_goes_on_with_nothing(ledger: Ledger, ledger_of: LedgerOf) -> None:
    begun(ledger)
    ledger.file.path.unlink()
    refused(ledger, "ledger_missing")
    assert ledger.file.give_up() == []
    assert ledger.entries(limit=None) == []
    begun(ledger_of(), "new")
    assert len(ledger.entries(limit=None)) == 1


def test_with_an_older_copy_one_goes_on_with_what_stands_in_it(ledger: Ledger, ledger_of: LedgerOf) -> None:
    id = made(ledger, "one", "2")
    copy = copied(ledger)
    made(ledger, "two", job="j2")
    moved_in(copy, ledger)
    refused(ledger, "ledger_replaced")
    assert ledger.file.give_up() == []
    for each in (ledger, ledger_of()):
        assert found(each, id).state == "accepted"
        assert counted(each) == 2
    begun(ledger, "three")


def test_the_ledger_that_was_given_up_for_its_copy_is_another_one_from_then_on(ledger: Ledger) -> None:
    made(ledger, "one")
    copy = copied(ledger)
    for number in range(5):
        begun(ledger, f"clip-{number}")
    ledger.close()
    lost = ledger.file.path.rename(ledger.file.folder.with_name("lost"))
    moved_in(copy, ledger)
    ledger.file.give_up()
    begun(ledger, "paid since")
    # It is found again, and has come further: what was paid since does not stand in it.
    moved_in(lost, ledger)
    assert "is another one than its mark" in refused(ledger, "ledger_replaced")


def test_a_copy_is_put_back_in_the_place_of_a_damaged_file_in_one_step(ledger: Ledger) -> None:
    id = made(ledger, "one")
    copy = copied(ledger)
    begun(ledger, "two")
    ledger.close()
    ledger.file.path.write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="damaged"):
        ledger.check()
    moved_in(copy, ledger)
    with pytest.raises(LedgerError, match="damaged"):
        ledger.check()
    [given_up] = ledger.file.give_up()
    assert given_up.read_bytes() == b"no database" * 1000
    assert [entry.id for entry in ledger.entries(limit=None)] == [id]


def test_a_damaged_file_that_was_moved_away_by_hand_is_still_missed(ledger: Ledger) -> None:
    begun(ledger)
    ledger.close()
    ledger.file.path.write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="damaged"):
        ledger.check()
    [damaged] = ledger.file.set_aside()
    damaged.unlink()
    refused(ledger, "ledger_missing")


def test_what_was_emptied_while_it_was_open_is_seen_as_damaged(ledger: Ledger) -> None:
    begun(ledger)
    written_over(Path(os.devnull), ledger)
    with pytest.raises(LedgerError):
        begun(ledger, "new")
    with pytest.raises(LedgerError, match="damaged"):
        begun(ledger, "new")


# Version 1


def test_a_ledger_of_version_1_is_brought_up_to_date_without_loss(ledger: Ledger, home: Path) -> None:
    version_1_file(home).close()
    assert ledger.check() == 4
    assert [(entry.id, entry.state, entry.generation_id) for entry in ledger.entries(limit=None)] == [
        (4, "refused", None),
        (3, "unknown", None),
        (2, "accepted", "job-running"),
        (1, "ended", "job-done"),
    ]
    assert (found(ledger, 1).cost_usd, found(ledger, 3).named_id) == (Decimal("1.2345"), "job-named")
    assert counted(ledger) == Decimal("2.7345")
    assert ledger.account_of("0123456789abcdef", BASE_URL) == (ACCOUNT, False)
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(len(VERSIONS),)]
    # Its fifth was deleted: its number is not given again.
    assert begun(ledger) == 6
    kept = {"ledger.sqlite3", "ledger.sqlite3-journal", "ledger.mark.json"}
    assert {path.name for path in home.iterdir()} == kept


@pytest.mark.parametrize("version", [2, 3])
def test_a_ledger_of_each_later_version_is_brought_up_to_date_without_loss(
    ledger_of: LedgerOf, home: Path, tmp_path: Path, version: int
) -> None:
    version_1_file(home).close()
    with program_of_version(version):
        ledger_of().check()
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as connection:
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(version,)]
        connection.row_factory = sqlite3.Row
        before = [dict(row) for row in connection.execute("SELECT * FROM entries ORDER BY id")]
    ledger = ledger_of()
    assert ledger.check() == len(before) == 4
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(len(VERSIONS),)]
        connection.row_factory = sqlite3.Row
        after = [dict(row) for row in connection.execute("SELECT * FROM entries ORDER BY id")]
    assert [{**row, **earlier_row} for row, earlier_row in zip(after, before, strict=True)] == after
    assert [(row["last_sent_at"], row["caller"]) for row in after] == [
        (row["first_sent_at"], None) for row in before
    ]
    new = ledger_of(tmp_path / "new")
    new.check()
    assert _schema(ledger.file.path) == _schema(new.file.path)
    assert begun(ledger) == 6


def test_a_ledger_of_version_1_is_marked_as_soon_as_it_is_brought_up_to_date(
    ledger: Ledger, home: Path
) -> None:
    version_1_file(home).close()
    ledger.check()
    mark = read_mark(ledger.file.mark_path)
    assert mark is not None
    assert (mark.last_entry, mark.counted_usd) == (5, Decimal("2.7345"))
    ledger.file.path.unlink()
    refused(ledger, "ledger_missing")


def test_a_quote_of_version_1_is_good_once(
    ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1_file(home).close()
    with closing(sqlite3.connect(ledger.file.path)) as connection, connection:
        connection.execute("UPDATE quotes SET digest = ?", (intended("quoted").digest,))
        [(made_at,)] = connection.execute("SELECT made_at FROM quotes").fetchall()
    monkeypatch.setattr("time.time", lambda: made_at + 60.0)
    begun(ledger, "quoted", "0.75", token=Token("q_fixed0quote1"))


def test_a_file_made_now_has_the_same_tables_as_one_brought_up_to_date(
    ledger_of: LedgerOf, home: Path, tmp_path: Path
) -> None:
    version_1_file(home).close()
    new, upgraded = ledger_of(tmp_path / "new"), ledger_of()
    for each in (new, upgraded):
        each.check()
    assert _schema(upgraded.file.path) == _schema(new.file.path)


def _schema(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
        return {
            f"{kind} {name} of {table}": connection.execute(f"PRAGMA table_info({name})").fetchall()
            for kind, name, table in names
        }


def test_every_column_that_is_mapped_is_in_the_file(ledger: Ledger) -> None:
    ledger.check()
    mapped = METADATA.tables
    with closing(sqlite3.connect(ledger.file.path)) as connection:
        for name, table in mapped.items():
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            assert {column[1] for column in columns} == set(table.columns.keys())
            is_needed = {column[1]: bool(column[3]) for column in columns}
            assert is_needed == {column.name: not column.nullable for column in table.columns}


def test_version_1_refuses_a_ledger_of_version_2_as_newer(ledger: Ledger) -> None:
    begun(ledger)
    ledger.close()
    with program_of_version(1):
        with pytest.raises(LedgerError) as told:
            ledger.check()
        assert told.value.code == "ledger_newer"
    assert ledger.check() == 1


def test_while_a_process_of_version_1_has_it_open_it_is_not_brought_up_to_date(
    home: Path,
) -> None:
    ledger = Ledger(home, busy_seconds=0.05)
    with closing(version_1_file(home)) as running:
        running.execute("SELECT * FROM entries").fetchall()
        with pytest.raises(LedgerError) as told:
            begun(ledger)
        assert "those of an earlier version" in told.value.next_step
        assert running.execute("SELECT version FROM ledger").fetchall() == [(1,)]
    begun(ledger)
    ledger.close()


# Version 2


def version_2_file(ledger_of: LedgerOf) -> None:
    """Make a ledger as version 2 left it, with one entry."""
    with program_of_version(2):
        ledger = ledger_of()
        ledger.check()
        ledger.close()
    with closing(sqlite3.connect(ledger.file.path)) as connection, connection:
        connection.execute(_ENTRY_OF_VERSION_2, {"digest": "d-1", "key": "k-1", "job": "job-before"})


# As a process of version 2 writes it: with the columns of its own version alone.
_ENTRY_OF_VERSION_2 = f"""
    INSERT INTO entries (account, base_url, tool, digest, body_digest, digest_version, take, attempt,
        idempotency_key, model, summary, extras, state, owner, leased_until, counted_usd, charged, was_found,
        assets, created_at, first_sent_at, is_sandbox, is_unasked, generation_id)
    VALUES ('{ACCOUNT}', '{BASE_URL}', 'create_generation', :digest, 'b', 2, 1, 1, :key, 'lipsync-2',
        'lipsync-2: video https://h/talk.mp4, dubbed into fr', '{{}}', 'accepted', 'me', 0, 1500000000,
        'unknown', 0, '{{}}', 1700000000, 1700000000, 0, 0, :job)
"""


def test_a_ledger_of_version_2_is_brought_up_to_date_without_loss(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    version_2_file(ledger_of)
    assert ledger.check() == 1
    entry = found(ledger, 1)
    assert (entry.generation_id, entry.saved_as, counted(ledger)) == ("job-before", None, Decimal("1.5"))
    # What it was called then has to do.
    assert entry.title == "video https://h/talk.mp4, dubbed into fr"


def test_what_a_process_of_version_2_writes_that_has_the_file_open_counts_and_has_a_title(
    ledger: Ledger, ledger_of: LedgerOf
) -> None:
    version_2_file(ledger_of)
    with closing(sqlite3.connect(ledger.file.path)) as running:
        running.execute("SELECT * FROM entries").fetchall()
        begun(ledger, "new", "1")
        with running:
            running.execute(_ENTRY_OF_VERSION_2, {"digest": "d-2", "key": "k-2", "job": "job-after"})
    assert counted(ledger) == Decimal("4")
    [entry] = [entry for entry in ledger.entries(limit=None) if entry.generation_id == "job-after"]
    assert entry.title == "video https://h/talk.mp4, dubbed into fr"


def test_an_entry_says_what_it_is_about_and_no_signature(ledger: Ledger) -> None:
    id = made(ledger, "clip", intention=intended("clip", query="?X-Amz-Signature=s3cret"))
    assert found(ledger, id).title == "clip.mp4 + a.wav"
    assert b"s3cret" not in ledger.file.path.read_bytes()


def test_where_a_result_was_saved_is_noted_of_its_own_job_alone(ledger: Ledger) -> None:
    one, other = made(ledger, "one", job="j-1"), made(ledger, "two", job="j-2")
    ledger.note_saved("j-1", BASE_URL, "/movies/one.mp4")
    ledger.note_saved("j-1", "https://elsewhere.example", "/movies/no.mp4")
    ledger.note_saved("nobody", BASE_URL, "/movies/no.mp4")
    assert [found(ledger, id).saved_as for id in (one, other)] == ["/movies/one.mp4", None]
    ledger.note_saved("j-1", BASE_URL, "/movies/again.mp4")
    assert found(ledger, one).saved_as == "/movies/again.mp4"


# Looking only


def test_a_ledger_that_is_only_looked_at_cannot_be_written(ledger: Ledger, home: Path) -> None:
    begun(ledger)
    with closing(Ledger(home, read_only=True)) as looking:
        assert looking.check() == 1
        with pytest.raises(LedgerError):
            begun(looking, "new")
    assert len(ledger.entries(limit=None)) == 1


def test_the_mark_is_plain_to_read(ledger: Ledger) -> None:
    begun(ledger, usd="1.5")
    told = json.loads(ledger.file.mark_path.read_text(encoding="utf-8"))
    assert told.keys() == {"ledger", "revision", "last_entry", "counted_usd"}
    assert (told["last_entry"], told["counted_usd"]) == (1, "1.5")


_OF_AN_ENTRY: Mapping[str, Callable[[Ledger], object]] = {
    "find_known_to_others": lambda ledger: ledger.find_known_to_others(7, [JOB]),
    "take_over": lambda ledger: ledger.take_over(7, wished()),
    "move_to_today": lambda ledger: ledger.move_to_today(7, wished()),
    "claim": lambda ledger: ledger.claim(7, JOB),
    "accept": lambda ledger: ledger.accept(7, JOB),
    "doubt": lambda ledger: ledger.doubt(7, "me", None),
    "refuse": lambda ledger: ledger.refuse(7, "me", "nope", gives_quote_back=False),
}


@pytest.mark.parametrize("act", _OF_AN_ENTRY)
def test_an_act_on_an_entry_that_a_ledger_begun_anew_does_not_have_is_an_error_of_the_ledger(
    ledger: Ledger, act: str
) -> None:
    begun(ledger)
    with pytest.raises(LedgerError):
        _OF_AN_ENTRY[act](ledger)
