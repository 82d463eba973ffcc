"""The user's way out of each dead end: what `sync-mcp ledger` says of the money before it does anything."""

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import pytest

from sync_mcp import AsyncSync, Audio, InvalidRequestError, Ledger, LedgerError, Video
from sync_mcp.cli.ledger.checks import check_ledger
from sync_mcp.cli.ledger.entries import describe_entry, list_entries
from sync_mcp.cli.ledger.plans import Plan, plan_loss, plan_prune, plan_release, plan_resolve
from sync_mcp.cli.ledger.sightings import Sighting
from sync_mcp.payments.attempt import Instant
from sync_mcp.payments.ledger import TERMINAL_BUSY_SECONDS
from sync_mcp.payments.rows import LEASE_SECONDS, Entry
from sync_mcp.payments.stores.schema import VERSIONS
from sync_mcp.payments.stores.sqlite_file import BUSY_SECONDS
from sync_mcp.sandbox import Fault, Sandbox
from tests.api.raw_server import Answer, RawServer, answer
from tests.cli.here import Done, complaint, run_here
from tests.payments.entries import (
    ACCOUNT,
    JOB,
    begun,
    counted,
    ended,
    found,
    intended,
    made,
    quoted,
    refuse,
    settle,
)
from tests.serving.stdio.forked import ForkedProcess

COMMAND = (str(Path(sys.executable).with_name("sync-mcp")), "ledger")
WAIT_SECONDS = 30.0
ANOTHER = "0b5fda45-0001"
NOT_FOUND = answer(404, {"message": "Not found"})
Run = Callable[..., Done]
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs a terminal or modes of POSIX")


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    ledger = Ledger(home)
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is called in this process be called by the command."""
    monkeypatch.setattr(sys, "argv", ["sync-mcp", "ledger"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`sync-mcp ledger` in this process, without a terminal."""
    return partial(run_here, monkeypatch, capsys, "ledger")


def doubted(ledger: Ledger, *args: str | None, named: str | None = None, **kwargs: object) -> int:
    id = begun(ledger, *args, **kwargs)
    ledger.doubt(id, "me", named)
    return id


def look_in_vain(ledger: Ledger, entry: Entry, generation_id: str) -> Sighting:
    """Look where the API cannot be asked."""
    return Sighting(None, "Not looked up.")


def resolving(ledger: Ledger, entry_id: int, generation_id: str) -> Plan:
    """The plan where the API cannot be asked."""
    return plan_resolve(ledger, entry_id, generation_id, look=look_in_vain)


def releasing(ledger: Ledger, entry_id: int) -> Plan:
    """The plan where the API cannot be asked."""
    return plan_release(ledger, entry_id, look=look_in_vain)


def die(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the leases of all processes end."""
    now = time.time() + LEASE_SECONDS + 1
    monkeypatch.setattr("time.time", lambda: now)


def newer(ledger: Ledger) -> None:
    begun(ledger)
    ledger.close()
    with closing(sqlite3.connect(ledger.file.path)) as connection, connection:
        connection.execute("UPDATE ledger SET version = 99")


def damaged(ledger: Ledger) -> None:
    begun(ledger, "lost")
    ledger.close()
    ledger.file.path.write_bytes(b"no database" * 1000)


# Before there is a ledger


@pytest.mark.parametrize("command", ["list", "check", "prune", "check --accept-loss"])
def test_where_there_is_no_ledger_none_is_made(run: Run, home: Path, command: str) -> None:
    done = run(*command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert not home.exists()


@pytest.mark.parametrize("command", ["show 1", "resolve 1 abc --yes", "release 1 --yes"])
def test_where_there_is_no_ledger_there_is_no_entry(run: Run, home: Path, command: str) -> None:
    assert complaint(run(*command.split())).startswith("There is no entry 1 in ")
    assert not home.exists()


def test_the_settings_say_where_the_ledger_lies(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    begun(ledger)
    assert "lipsync-2" in run("list").stdout
    assert "There is none yet" in run("list", SYNC_MCP_HOME=str(tmp_path / "other")).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "the following arguments are required: COMMAND (try sync-mcp ledger --help)"),
        ("lis", "invalid choice: 'lis'"),
        ("show", "required: ID"),
        ("show one", "argument ID: invalid entry id value: 'one'"),
        ("show 0", "argument ID: invalid entry id value: '0'"),
        ("show 99999999999999999999", "invalid entry id value"),
        ("resolve 1", "required: GENERATION_ID"),
        ("list --limit 0", "argument --limit: invalid number value: '0'"),
        ("list --all --limit 3", "not allowed with argument"),
        ("prune --before -1", "--before"),
        ("prune --before soon", "argument --before: invalid number of days value: 'soon'"),
        ("release 1 --ye", "--ye"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(run: Run, arguments: str, told: str) -> None:
    assert told in complaint(run(*arguments.split()))


def test_a_wrong_setting_is_one_line_that_names_it(run: Run) -> None:
    assert "SYNC_MCP_HOME" in complaint(run("list", SYNC_MCP_HOMES="x"))


def test_a_setting_that_a_command_does_not_use_does_not_stop_it(ledger: Ledger, run: Run) -> None:
    id = str(begun(ledger))
    others = {"SYNC_MCP_BUDGET_USD": "abc", "SYNC_MCP_HTTP_PORT": "-", "SYNC_MCP_BUGDET_USD": "1"}
    for command in (["list"], ["show", id], ["check"], ["prune"]):
        assert run(*command, SYNC_BASE_URL="nowhere", SYNC_API_KEY="“k”", **others).returncode == 0
    in_doubt = str(doubted(ledger, "another"))
    assert run("release", in_doubt, "--yes", **others).returncode == 0
    # This one asks the API.
    assert "SYNC_BASE_URL" in complaint(run("release", id, "--yes", SYNC_BASE_URL="nowhere"))


@pytest.mark.parametrize("arguments", ["list", "show 1", "prune --yes"])
def test_a_ledger_that_another_process_uses_is_told_as_that_and_not_waited_for_as_a_server_does(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    assert TERMINAL_BUSY_SECONDS < BUSY_SECONDS
    monkeypatch.setattr("sync_mcp.cli.ledger.command.TERMINAL_BUSY_SECONDS", 0.01)
    begun(ledger)
    ledger.close()
    with closing(sqlite3.connect(ledger.file.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        told = complaint(run(*arguments.split()))
    assert (
        f"{ledger.file.path} is in use by another process, which did not let go of it in time. Try again"
        in told
    )


# list


def test_what_is_open_is_listed_first_and_the_unresolved_before_the_rest(ledger: Ledger) -> None:
    refused = begun(ledger, "refused")
    refuse(ledger, refused, "me", "nope")
    unresolved = doubted(ledger, "unknown", named=ANOTHER)
    running = made(ledger, "running", "0.5")
    done = ended(ledger, "done", "2", charged="yes", cost="1.2345", job="j2")
    failed = ended(ledger, "failed", charged="no", job="j3")
    sending = begun(ledger, "sending", None)
    table = [re.split(r" {2,}", line) for line in list_entries(ledger, 20).splitlines()[:7]]
    assert table[0] == ["ID", "WRITTEN (UTC)", "STATE", "MODEL", "USD", "ACCOUNT", "GENERATION"]
    assert [(row[0], row[2], row[4], row[6]) for row in table[1:]] == [
        (str(unresolved), "unresolved", "~1.00", ANOTHER),
        (str(sending), "being sent", "?", "-"),
        (str(running), "made, not settled", "~0.50", JOB),
        (str(failed), "failed, free", "0.00", "j3"),
        (str(done), "done", "1.2345", "j2"),
        (str(refused), "refused, free", "0.00", "-"),
    ]


def test_what_each_account_has_spent_is_told(ledger: Ledger) -> None:
    made(ledger, "running", "0.5")
    ended(ledger, "done", "2", charged="yes", cost="1.25", job="j2")
    id = begun(ledger, usd="3", intention=intended(account="key:0123456789abcdef"))
    ledger.doubt(id, "me", None)
    text = list_entries(ledger, 20)
    assert "key:0123456789a…" in text
    assert (
        f"{ACCOUNT} at https://api.example.com\n"
        "  spent today (UTC) 1.75 USD, this month 1.75 USD, ever 1.75 USD;\n"
        "  of it reserved for jobs whose cost is not known yet 0.50 USD, unresolved 0.00 USD\n"
    ) in text
    assert (
        "ever 3.00 USD;\n"
        "  of it reserved for jobs whose cost is not known yet 0.00 USD, unresolved 3.00 USD in 1"
    ) in text
    assert text.endswith(f"Unresolved: {id}. Each one's `sync-mcp ledger show ID` says what to do.")


def test_a_listing_is_limited_but_for_what_is_open(run: Run, ledger: Ledger) -> None:
    for number in range(4):
        ended(ledger, f"done-{number}", charged="yes", job=f"j{number}")
    for number in range(3):
        begun(ledger, f"open-{number}")

    def shown_ids(limit: int | None) -> list[str]:
        return re.findall(r"^(\d+) ", list_entries(ledger, limit), re.MULTILINE)

    assert shown_ids(2) == ["7", "6", "5"]
    assert shown_ids(4) == ["7", "6", "5", "4"]
    assert shown_ids(7) == shown_ids(None) == ["7", "6", "5", "4", "3", "2", "1"]
    assert "--all shows them" in list_entries(ledger, 6)
    assert "--all" not in list_entries(ledger, 7)
    assert run("list", "--all").stdout.strip() == list_entries(ledger, None)
    assert run("list", "--limit", "4").stdout.strip() == list_entries(ledger, 4)


# --home


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
def test_the_ledger_that_home_names_is_looked_at_and_named_in_every_command_that_is_told(
    run: Run, ledger: Ledger, tmp_path: Path, before: bool
) -> None:
    there = tmp_path / "of a host's"
    with closing(Ledger(there)) as another:
        id = doubted(another)
    home = ["--home", str(there)]
    done = run(*home, "show", str(id)) if before else run("show", str(id), *home)
    assert done.returncode == 0, done.stderr
    named = shlex.quote(str(there))
    assert f"sync-mcp ledger release {id} --home {named}\n" in done.stdout
    assert f"sync-mcp ledger list --home {named} shows them" in complaint(run(*home, "show", "99"))
    assert run(*home, "release", str(id), "--yes").returncode == 0
    with closing(Ledger(there)) as another:
        assert found(another, id).state == "released"
    # The next command goes where it always went.
    assert not ledger.exists()
    assert complaint(run("show", "1")).endswith("sync-mcp ledger list shows them.")


# show


def test_a_text_that_is_too_long_is_cut_between_words(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.cli.ledger.entries._TEXT_LIMIT", 30)
    id = doubted(ledger)
    summary = next(entry.summary for entry in ledger.entries(limit=None, are_open=True) if entry.id == id)
    told = describe_entry(ledger, id)
    cut = next(line for line in told.splitlines() if line.startswith("  what")).split(maxsplit=1)[1]
    assert cut.endswith(" …")
    assert set(cut.removesuffix(" …").split()) <= set(summary.split())


def test_all_of_an_entry_is_shown_without_query_strings(run: Run, ledger: Ledger) -> None:
    sent_at = Instant(1_795_167_000.0)
    id = begun(ledger, intention=intended(query="?X-Amz-Signature=SECRET"), usd="1.000000001", now=sent_at)
    ledger.accept(id, JOB)
    settle(ledger, id, "FAILED", charged="yes", cost="0.25", error_code="boom")
    done = run("show", str(id))
    assert (done.returncode, done.stderr) == (0, "")
    entry = found(ledger, id)
    for fact in (
        "video https://h/clip.mp4?..., audio https://h/a.wav",
        f"{ACCOUNT} at https://api.example.com",
        JOB,
        "FAILED",
        "boom",
        "1.000000001 USD",
        "0.25 USD against the budgets",
        entry.idempotency_key,
        entry.digest,
        "2026-11-20 09:30:00 UTC",
    ):
        assert fact in done.stdout, fact
    assert "SECRET" not in done.stdout


def test_of_what_is_in_doubt_each_way_out_is_named_with_what_it_does_to_the_money(ledger: Ledger) -> None:
    id = doubted(ledger, named=ANOTHER)
    text = describe_entry(ledger, id)
    assert "1.00 USD counts as spent" in text
    assert "Make the same call again" in text
    assert f"sync-mcp ledger resolve {id} {ANOTHER}\n    it made this job: its money counts" in text
    assert f"sync-mcp ledger release {id}\n    it made nothing: its money stands free" in text


def test_what_the_api_named_and_is_no_id_is_quoted_and_stands_in_no_command(ledger: Ledger) -> None:
    id = doubted(ledger, named="x`; rm -r ~")
    text = describe_entry(ledger, id)
    assert '"x`; rm -r ~"' in text
    assert f"sync-mcp ledger resolve {id} GENERATION_ID\n" in text
    told = releasing(ledger, id).told
    assert 'The API named generation "x`; rm -r ~" for it' in told
    assert "resolve" not in told


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("sending", "A process is sending it."),
        ("done", "answered with it and pays nothing"),
        ("free", "It cost nothing."),
        ("refused", "It made nothing and cost nothing."),
        ("released", "It made nothing and cost nothing."),
    ],
)
def test_of_what_is_not_in_doubt_it_is_said_why_nothing_is_to_be_decided(
    ledger: Ledger, state: str, told: str
) -> None:
    id = begun(ledger)
    match state:
        case "refused":
            refuse(ledger, id, "me", "nope")
        case "released":
            ledger.doubt(id, "me", None)
            ledger.release(id)
        case "done" | "free":
            ledger.accept(id, JOB)
        case _:
            pass
    if state in ("done", "free"):
        charged = "no" if state == "free" else "yes"
        status = "COMPLETED" if state == "done" else "FAILED"
        settle(ledger, id, status, charged=charged, ended_at=time.time() - 3600)
    assert told in describe_entry(ledger, id)
    before = found(ledger, id).state
    with pytest.raises(InvalidRequestError) as refused:
        releasing(ledger, id)
    assert told in refused.value.message
    with pytest.raises(InvalidRequestError, match="not in doubt"):
        resolving(ledger, id, ANOTHER)
    assert found(ledger, id).state == before


def test_a_job_that_was_made_can_be_ended_or_let_go_of_at_any_time(ledger: Ledger) -> None:
    id = made(ledger)
    text = describe_entry(ledger, id)
    assert "1.00 USD counts until the real cost is known." in text
    assert f"sync-mcp ledger resolve {id} {JOB}\n    it has ended: its estimate stands" in text
    assert f"sync-mcp ledger release {id}\n    it was never made: its money stands free" in text
    plan = releasing(ledger, id)
    assert "if the API shows its job again, that is paid all the same" in plan.told
    assert plan.do() == f"Entry {id} is released."
    assert found(ledger, id).state == "released"


@pytest.mark.parametrize("state", ["charged", "deleted"])
def test_what_was_or_may_have_been_charged_can_be_let_go_of_and_stays_spent(
    ledger: Ledger, state: str
) -> None:
    id = made(ledger)
    settle(ledger, id, "FAILED", charged="yes")
    if state == "deleted":
        ledger.delete_job(id, generation_id=JOB, now=time.time())
    text = describe_entry(ledger, id)
    assert "The same call asks you before a new attempt is paid. 1.00 USD counts until its real cost" in text
    with pytest.raises(InvalidRequestError, match="not in doubt"):
        resolving(ledger, id, ANOTHER)
    plan = releasing(ledger, id)
    assert "paid as a new attempt, without asking" in plan.told
    plan.do()
    entry = found(ledger, id)
    assert (entry.state, entry.counted_usd) == ("released", 1)
    assert "released, charged" in describe_entry(ledger, id)


@pytest.mark.parametrize("cost", [None, "0.75"])
def test_of_a_failure_is_told_whether_its_cost_is_known_or_still_asked_for(
    ledger: Ledger, cost: str | None
) -> None:
    id = made(ledger)
    settle(ledger, id, "FAILED", charged="unknown" if cost is None else "yes", cost=cost)
    asked = "1.00 USD counts until its real cost is known. Paid calls, and get_account, ask the API for it."
    told = asked if cost is None else "0.75 USD stays spent."
    assert told in describe_entry(ledger, id)
    plan = releasing(ledger, id)
    assert told in plan.told
    plan.do()
    assert told in describe_entry(ledger, id)


# resolve and release


def test_resolving_says_that_the_money_counts_and_does_so(ledger: Ledger) -> None:
    id = doubted(ledger)
    plan = resolving(ledger, id, JOB)
    assert "1.00 USD, counts against the budgets until the job's real cost is known" in plan.told
    assert found(ledger, id).state == "unknown"
    assert plan.do() == f"Entry {id} is the job {JOB} now."
    assert (found(ledger, id).state, found(ledger, id).generation_id) == ("accepted", JOB)
    assert counted(ledger) == 1


def test_releasing_says_that_the_money_stands_free_and_warns_and_does_so(ledger: Ledger) -> None:
    id = doubted(ledger, named=ANOTHER)
    plan = releasing(ledger, id)
    assert "1.00 USD, stands free again" in plan.told
    assert (
        f"WARNING: it was sent at {datetime.fromtimestamp(found(ledger, id).first_sent_at, UTC):%Y-%m-%d}"
        in (plan.told)
    )
    assert "a repeat is paid a second time" in plan.told
    assert f"sync-mcp ledger resolve {id} {ANOTHER}" in plan.told
    assert counted(ledger) == 1
    plan.do()
    assert (found(ledger, id).state, counted(ledger)) == ("released", 0)


def test_what_a_dead_process_was_sending_can_be_decided(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = begun(ledger, "one"), begun(ledger, "two")
    with pytest.raises(InvalidRequestError, match="A process is sending it"):
        releasing(ledger, first)
    die(monkeypatch)
    releasing(ledger, first).do()
    resolving(ledger, second, JOB).do()
    assert [found(ledger, id).state for id in (first, second)] == ["released", "accepted"]


def test_what_was_decided_elsewhere_meanwhile_is_not_decided_again(ledger: Ledger) -> None:
    id = doubted(ledger)
    release, resolve = releasing(ledger, id), resolving(ledger, id, JOB)
    ledger.accept(id, ANOTHER)
    for plan in (release, resolve):
        with pytest.raises(InvalidRequestError, match="has changed meanwhile"):
            plan.do()
    assert found(ledger, id).generation_id == ANOTHER


@pytest.mark.parametrize("generation_id", ["", "a b", "../x", "https://sync.so/x", "x" * 129, "é"])
def test_what_is_no_id_of_a_generation_is_refused(ledger: Ledger, generation_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="no id of a generation"):
        resolving(ledger, doubted(ledger), generation_id)


def test_the_job_of_another_entry_is_refused_and_another_job_than_the_named_one_is_told(
    ledger: Ledger,
) -> None:
    owner = made(ledger, "owner")
    id = doubted(ledger, "doubted", named=ANOTHER)
    with pytest.raises(InvalidRequestError, match=f"{JOB} is the job of entry {owner}"):
        resolving(ledger, id, JOB)
    assert f"named another job for it: {ANOTHER}" in resolving(ledger, id, "third").told
    assert "named" not in resolving(ledger, id, ANOTHER).told


def test_money_of_an_unknown_amount_is_told_as_such(ledger: Ledger) -> None:
    assert "an unknown amount" in releasing(ledger, doubted(ledger, "clip", None)).told


def doubted_at(ledger: Ledger, base_url: str, **more: object) -> int:
    """An attempt of unknown outcome at an API."""
    return doubted(ledger, intention=replace(intended(), base_url=base_url, **more))


def resolved(run: Run, id: int, job: str, base_url: str, *flags: str, key: str = "sk_first") -> Done:
    return run("resolve", str(id), job, "--yes", *flags, SYNC_API_KEY=key, SYNC_BASE_URL=base_url)


async def made_at(base_url: str, sandbox: Sandbox) -> str:
    async with AsyncSync(api_key="sk_first", base_url=base_url) as sync:
        media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
        return (await sync.generations.create(model="lipsync-2", input=media)).id


def test_with_a_key_the_job_is_looked_up_and_shown(run: Run, ledger: Ledger, sandbox: Sandbox) -> None:
    job = anyio.run(made_at, sandbox.url, sandbox)
    id = doubted_at(ledger, sandbox.url)
    done = resolved(run, id, job, sandbox.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^The API knows this job: lipsync-2, \w+, made .* UTC\.$", done.stdout, re.MULTILINE)
    assert found(ledger, id).generation_id == job


def test_a_job_that_the_api_does_not_know_is_refused_unless_the_user_insists(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    id = doubted_at(ledger, sandbox.url)
    # One that could be, and one that is as no id of the API's.
    for job in ("6533643b-aceb-4c40-967e-d9ba9baac39e", JOB):
        told = complaint(resolved(run, id, job, sandbox.url))
        assert f"The API knows no generation {job} for this key." in told
        assert f"sync-mcp ledger resolve {id} {job} --unseen" in told
        assert found(ledger, id).state == "unknown"
    done = resolved(run, id, JOB, sandbox.url, "--unseen")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The API knows no generation {JOB}" in done.stdout
    assert found(ledger, id).generation_id == JOB


def test_a_job_that_shows_in_the_list_alone_is_known(run: Run, ledger: Ledger) -> None:
    job = {"id": JOB, "status": "PENDING", "model": "sync-3"}
    # The client asks for one job under two paths.
    with RawServer([NOT_FOUND, NOT_FOUND, answer(200, [job])]) as api:
        id = doubted_at(ledger, api.url)
        done = resolved(run, id, JOB, api.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The API knows this job: sync-3, PENDING.\n" in done.stdout


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            [answer(401, {"message": "No such key"})],
            'accept the key (HTTP 401). The API says: "No such key"',
        ),
        ([NOT_FOUND] * 3, "the API could not tell: The API has nothing by that name (HTTP 404)."),
        ([NOT_FOUND, NOT_FOUND, answer(200, [{"garbage": 1}])], "the API could not tell: The API's list has"),
        (
            [answer(500, {"message": "Down"})] * 2,
            'trouble of its own (HTTP 500). The API says: "Down"',
        ),
    ],
)
def test_where_the_api_cannot_tell_the_job_is_noted_and_that_is_said(
    run: Run, ledger: Ledger, answers: list[Answer], reason: str
) -> None:
    with RawServer(answers) as api:
        id = doubted_at(ledger, api.url)
        done = resolved(run, id, JOB, api.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The id is not looked up, as the API could not tell: " in done.stdout
    assert reason in done.stdout
    assert found(ledger, id).generation_id == JOB


def test_where_nothing_listens_the_job_is_noted_and_that_is_said(run: Run, ledger: Ledger) -> None:
    id = doubted_at(ledger, "http://127.0.0.1:9")
    done = resolved(run, id, JOB, "http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The id is not looked up, as the API could not tell" in done.stdout
    assert found(ledger, id).generation_id == JOB


def test_without_a_key_or_with_another_accounts_or_apis_the_job_is_not_looked_up(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    plain = doubted_at(ledger, sandbox.url)
    done = run("resolve", str(plain), "j1", "--yes", SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="")
    assert "not looked up, as no key is set (SYNC_API_KEY)" in done.stdout
    elsewhere = doubted_at(ledger, "https://api.example.com")
    done = resolved(run, elsewhere, "j2", sandbox.url)
    assert "the call went to https://api.example.com, and SYNC_BASE_URL is http://127.0.0.1:" in done.stdout
    with_sandbox = doubted_at(ledger, sandbox.url, take=2)
    done = run("resolve", str(with_sandbox), "j3", "--yes", SYNC_MCP_SANDBOX="1", SYNC_API_KEY="sk_first")
    assert "not looked up, as no key is set" in done.stdout

    async def fingerprint() -> str:
        async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as sync:
            return sync.key_fingerprint

    ledger.keep_account(anyio.run(fingerprint), sandbox.url, "org:other")
    of_another = doubted_at(ledger, sandbox.url, take=3)
    done = resolved(run, of_another, "j4", sandbox.url)
    assert f"not looked up, as the key is of org:other, and the call was of {ACCOUNT}" in done.stdout
    assert list(sandbox.requests) == []
    assert [entry.state for entry in ledger.entries(limit=None)] == ["accepted"] * 4


def test_what_cannot_be_resolved_is_not_looked_up(run: Run, ledger: Ledger, sandbox: Sandbox) -> None:
    id = doubted_at(ledger, sandbox.url)
    assert "is no id of a generation" in complaint(resolved(run, id, "a/b", sandbox.url))
    assert "There is no entry 99" in complaint(resolved(run, 99, JOB, sandbox.url))
    assert list(sandbox.requests) == []


def released(run: Run, id: int, base_url: str, key: str = "sk_first") -> Done:
    return run("release", str(id), "--yes", SYNC_API_KEY=key, SYNC_BASE_URL=base_url)


@pytest.mark.parametrize(
    ("seconds", "shown_as", "way"),
    [
        (0, "PENDING", "Wait for it: get_generation with {} shows when it has ended."),
        (100, "COMPLETED", "get_generation with {} shows its result or its error, and notes what it cost."),
    ],
)
def test_a_job_that_the_api_shows_is_not_let_go_of_and_its_money_stays(
    run: Run, ledger: Ledger, sandbox: Sandbox, seconds: float, shown_as: str, way: str
) -> None:
    job = anyio.run(made_at, sandbox.url, sandbox)
    sandbox.advance(seconds)
    id = doubted_at(ledger, sandbox.url)
    ledger.resolve(id, job)
    told = complaint(released(run, id, sandbox.url))
    assert f"Entry {id} is not released: it made {job}, and its money counts." in told
    assert f"The API knows this job: lipsync-2, {shown_as}, made " in told
    assert told.endswith(way.format(job))
    assert (found(ledger, id).state, counted(ledger)) == ("accepted", 1)


@pytest.mark.parametrize("ends_it", ["release", "resolve"])
def test_a_status_that_nobody_knows_is_ended_by_either_command_after_a_day_and_its_money_stays(
    run: Run, ledger: Ledger, sandbox: Sandbox, ends_it: str
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", end_status="TIMED_OUT"))
    job = anyio.run(made_at, sandbox.url, sandbox)
    id = doubted_at(ledger, sandbox.url)
    ledger.resolve(id, job)
    sandbox.advance(3600)
    told = complaint(released(run, id, sandbox.url))
    assert "Once its status, which is not known here, has lasted a day, this command ends it." in told
    assert (found(ledger, id).state, counted(ledger)) == ("accepted", 1)
    sandbox.advance(86_400)
    if ends_it == "release":
        told = released(run, id, sandbox.url).stdout
        assert "is paid as a new attempt, without asking. " in told
        assert "counts until its real cost is known." in told
    else:
        told = resolved(run, id, job, sandbox.url).stdout
        assert "The same call, made again, asks you before it is paid as a new attempt." in told
        assert "pays nothing" not in told
        assert found(ledger, id).asks_again
        released(run, id, sandbox.url)
    assert (found(ledger, id).state, counted(ledger)) == ("released", 1)


def test_what_is_noted_as_made_by_a_failed_job_is_not_said_to_answer_the_same_call(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", job="fail"))
    job = anyio.run(made_at, sandbox.url, sandbox)
    sandbox.advance(100)
    id = doubted_at(ledger, sandbox.url)
    told = resolved(run, id, job, sandbox.url).stdout
    assert "Its job ended FAILED: the same call, made again, is paid as a new attempt" in told
    assert "pays nothing" not in told


def test_what_is_noted_anew_as_made_by_a_job_that_runs_is_said_to_answer_the_same_call(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    job = anyio.run(made_at, sandbox.url, sandbox)
    id = doubted_at(ledger, sandbox.url)
    ledger.resolve(id, job)
    told = resolved(run, id, job, sandbox.url)
    assert "is answered with this job and pays nothing" in told.stdout + told.stderr
    assert "asks you" not in told.stdout


def test_an_attempt_in_doubt_whose_named_job_the_api_shows_is_to_be_resolved(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    job = anyio.run(made_at, sandbox.url, sandbox)
    id = begun(ledger, intention=replace(intended(), base_url=sandbox.url))
    ledger.doubt(id, "me", job)
    told = complaint(released(run, id, sandbox.url))
    assert told.endswith(f"Note it as this entry's job: sync-mcp ledger resolve {id} {job}")
    assert (found(ledger, id).state, counted(ledger)) == ("unknown", 1)


def test_a_job_that_the_api_does_not_show_is_let_go_of_and_that_is_said(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    id = doubted_at(ledger, sandbox.url)
    ledger.resolve(id, JOB)
    done = released(run, id, sandbox.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The API knows no generation {JOB}.\n" in done.stdout
    assert found(ledger, id).state == "released"


def test_where_the_api_cannot_be_asked_a_release_says_that_the_job_was_not_looked_up(
    run: Run, ledger: Ledger, sandbox: Sandbox
) -> None:
    id = doubted_at(ledger, sandbox.url)
    ledger.resolve(id, JOB)
    done = released(run, id, sandbox.url, key="")
    assert "The id is not looked up, as no key is set (SYNC_API_KEY).\n" in done.stdout
    assert found(ledger, id).state == "released"
    assert list(sandbox.requests) == []


@pytest.mark.parametrize("command", ["resolve {} " + JOB, "release {}"])
def test_without_a_terminal_nothing_is_done_before_yes_is_given(
    run: Run, ledger: Ledger, command: str
) -> None:
    id = doubted(ledger)
    arguments = command.format(id).split()
    asked = run(*arguments)
    assert "nothing was changed" in complaint(asked)
    assert f"Entry {id}, " in asked.stdout
    assert "Its money, 1.00 USD" in asked.stdout
    assert found(ledger, id).state == "unknown"
    done = run(*arguments, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(asked.stdout)
    assert found(ledger, id).state != "unknown"


@posix_only
@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1), ("\x04", 1), (signal.SIGINT, 130)]
)
def test_on_a_terminal_the_user_is_asked(ledger: Ledger, answer: str | signal.Signals, code: int) -> None:
    id = doubted(ledger)
    terminal, line = os.openpty()
    command = [*COMMAND, "release", str(id)]
    process = (
        ForkedProcess(command, os.environ, stdin=line)
        if sys.platform == "linux"
        else subprocess.Popen(
            command, stdin=line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    )
    os.close(line)
    assert process.stdout
    assert process.stderr
    with process.stdout, process.stderr:
        try:
            # It has told what it will do before it reads the answer.
            assert process.stdout.readline().decode().startswith(f"Entry {id}, ")
            if isinstance(answer, signal.Signals):
                process.send_signal(answer)
            else:
                os.write(terminal, answer.encode())
            code_told = process.wait(WAIT_SECONDS)
        finally:
            process.kill()
        rest = process.stdout.read().decode()
        assert code_told == code, rest + process.stderr.read().decode()
    os.close(terminal)
    assert ("Nothing was changed." in rest) == (code == 1)
    assert found(ledger, id).state == ("unknown" if code else "released")


# check


def test_a_whole_ledger_is_well(run: Run, ledger: Ledger) -> None:
    made(ledger)
    ended(ledger, "done", charged="yes", job="j2")
    done = run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 entries: 1 settled, 1 open" in done.stdout
    assert f"whole      yes; version {len(VERSIONS)}" in done.stdout
    assert "ledger.mark.json 0600" not in done.stdout
    assert str(ledger.file.path) in done.stdout
    assert done.stdout.endswith("All is well.\n")


def test_what_is_unresolved_is_not_well(run: Run, ledger: Ledger) -> None:
    id = doubted(ledger, "one", "1.5")
    done = run("check")
    assert done.returncode == 1
    assert re.search(
        rf"unresolved {id}: .* 1\.50 USD counts as spent\n  WRONG -> `sync-mcp ledger show ID`", done.stdout
    )


def test_a_sum_that_is_not_what_its_entries_count_is_mended_and_told_once(run: Run, ledger: Ledger) -> None:
    made(ledger, usd="1.5")
    ledger.close()
    with closing(sqlite3.connect(ledger.file.path)) as file, file:
        file.execute("UPDATE days SET counted_usd = 7000000000")
    done = run("check")
    assert done.returncode == 0, done.stdout
    told = r"sum +of \d{4}-\d\d-\d\d was kept as 7\.00 USD; its entries count 1\.50 USD, and so do"
    assert re.search(told, done.stdout)
    assert ledger.spending().today_usd == Decimal("1.5")
    assert "was kept as" not in run("check").stdout


@posix_only
def test_a_ledger_that_others_can_read_or_replace_is_not_well(ledger: Ledger, home: Path) -> None:
    begun(ledger)
    ledger.file.path.chmod(0o644)
    home.chmod(0o777)
    text, is_well = check_ledger(ledger)
    assert not is_well
    assert f"chmod 600 '{ledger.file.path}'" in text
    assert f"chmod 700 '{home}'" in text
    ledger.file.path.chmod(0o600)
    ledger.file.mark_path.chmod(0o666)
    assert f"chmod 600 '{ledger.file.mark_path}'" in check_ledger(ledger)[0]
    ledger.file.mark_path.chmod(0o600)
    # That others can see its name is no harm.
    home.chmod(0o755)
    assert check_ledger(ledger)[1]


def test_a_newer_ledger_is_left_alone_by_every_command(run: Run, ledger: Ledger) -> None:
    newer(ledger)
    content = ledger.file.path.read_bytes()
    done = run("check")
    assert done.returncode == 1
    assert "WRONG -> Update sync-mcp." in done.stdout
    for command in ("list", "show 1", "resolve 1 x --yes", "release 1 --yes", "prune --yes"):
        assert complaint(run(*command.split())).endswith("Update sync-mcp. The file was left as it is.")
    assert run("check", "--accept-loss", "--yes").returncode == 1
    assert ledger.file.path.read_bytes() == content


def test_a_damaged_ledger_is_told_with_what_is_lost_and_given_up_on_the_users_word_alone(
    run: Run, ledger: Ledger, home: Path
) -> None:
    damaged(ledger)
    assert complaint(run("list")).endswith("Run `sync-mcp ledger check`, which says what can be done.")
    done = run("check")
    assert done.returncode == 1
    [kept] = ledger.file.set_aside()
    for told in (
        kept.name,
        "11000 bytes",
        "paid again",
        "Budgets begin anew",
        "sync-mcp ledger check --accept-loss",
    ):
        assert told in done.stdout, told

    asked = run("check", "--accept-loss")
    assert "nothing was changed" in complaint(asked)
    assert "paid again" in asked.stdout
    assert ledger.file.set_aside() == [kept]

    done = run("check", "--accept-loss", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    [given_up] = ledger.file.find_given_up()
    assert given_up.read_bytes() == b"no database" * 1000
    assert given_up.name in done.stdout
    begun(ledger, "new")
    assert given_up.name in check_ledger(ledger)[0]


def test_a_missing_ledger_is_told_with_what_is_lost_and_begun_anew_on_the_users_word_alone(
    run: Run, ledger: Ledger
) -> None:
    made(ledger, "lost", "2.5")
    ledger.close()
    ledger.file.path.unlink()
    assert "is gone, which knew entries up to 1, of 2.50 USD together" in complaint(run("list"))
    done = run("check")
    assert done.returncode == 1
    for told in ("is gone", "paid again", "Budgets begin anew", "put it at", "check --accept-loss"):
        assert told in done.stdout, told

    asked = run("check", "--accept-loss")
    assert "nothing was changed" in complaint(asked)
    assert "The next paid call begins a new ledger." in asked.stdout
    assert ledger.file.mark_path.exists()

    done = run("check", "--accept-loss", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("All is well.\n")
    begun(ledger, "new")


def test_an_older_ledger_is_told_with_what_is_lost_and_gone_on_with_on_the_users_word_alone(
    run: Run, ledger: Ledger
) -> None:
    made(ledger, "kept", "2")
    ledger.close()
    copy = ledger.file.path.read_bytes()
    made(ledger, "lost", "0.5", job="j2")
    ledger.close()
    ledger.file.path.write_bytes(copy)
    assert "an older copy, or has lost entries" in complaint(run("list"))
    done = run("check")
    assert done.returncode == 1
    for told in (
        "it knows entries up to 1, of 2.00 USD together",
        "its mark ledger.mark.json entries up to 2, of 2.50 USD together",
        "Jobs that do not stand in it are not known",
        "Budgets count what stands in it",
        "or a newer one",
        "sync-mcp ledger check --accept-loss",
    ):
        assert told in done.stdout, told
    assert "Budgets begin anew" not in done.stdout

    asked = run("check", "--accept-loss")
    assert "nothing was changed" in complaint(asked)
    assert f"The ledger is {ledger.file.path} as it is now." in asked.stdout
    assert ledger.file.path.read_bytes() == copy

    done = run("check", "--accept-loss", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert (len(ledger.entries(limit=None)), counted(ledger)) == (1, 2)


def test_nothing_is_given_up_where_nothing_is_damaged(run: Run, ledger: Ledger) -> None:
    begun(ledger)
    assert plan_loss(ledger) is None
    done = run("check", "--accept-loss", "--yes")
    assert (done.returncode, len(ledger.entries(limit=None))) == (0, 1)


def test_a_folder_that_cannot_be_used_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("check", SYNC_MCP_HOME=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "WRONG -> Make room on the disk and the folder writable, or name another" in done.stdout
    with pytest.raises(LedgerError):
        list_entries(Ledger(tmp_path / "file"), 20)


# prune


def test_pruning_says_what_goes_and_what_stays_and_why(run: Run, ledger: Ledger) -> None:
    ids = [begun(ledger, name) for name in ("one", "two")]
    for id in ids:
        refuse(ledger, id, "me", "nope")
    paid = ended(ledger, "paid", charged="yes", job="j1")
    quoted(ledger, intended("quoted"), 1, None)
    assert "nothing to delete" in run("prune", "--yes").stdout
    asked = run("prune", "--before", "0")
    assert "nothing was changed" in complaint(asked)
    assert "2 entries settled more than 0 days ago that cost nothing are deleted, and 1 quote" in asked.stdout
    assert "What was paid, or may have been, stays: it counts against the budgets" in asked.stdout
    done = run("prune", "--before", "0", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 entries deleted.\n")
    assert [entry.id for entry in ledger.entries(limit=None)] == [paid]


def test_pruning_begins_ninety_days_back_by_default(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(ledger, begun(ledger), "me", "nope")
    began = time.time()
    for days, is_old in ((89, False), (91, True)):
        monkeypatch.setattr("time.time", lambda days=days: began + days * 86_400)
        assert (plan_prune(ledger, 90) is not None) == is_old


def test_an_upload_is_shown_as_what_it_is_and_one_whose_process_died_counts_nothing(ledger: Ledger) -> None:
    id = begun(ledger, usd="0.5", has_files=True)
    alive = describe_entry(ledger, id)
    assert "uploading its files" in alive
    assert "0.5 USD against the budgets" in alive
    assert "A process is uploading its files; nothing was sent yet." in alive
    with closing(sqlite3.connect(ledger.file.path)) as file, file:
        file.execute("UPDATE entries SET leased_until = 0")
    dead = describe_entry(ledger, id)
    assert "given up before it was sent" in dead
    assert "0 USD against the budgets" in dead


def test_a_placeholder_in_place_of_the_key_bars_nobody_from_the_ledger(ledger: Ledger, run: Run) -> None:
    id = begun(ledger)
    ledger.doubt(id, "me", None)
    assert run("list", SYNC_API_KEY="your key").returncode == 0
    assert run("release", str(id), "--yes", SYNC_API_KEY="your key").returncode == 0
    assert found(ledger, id).state == "released"


def test_a_home_of_no_user_is_told_in_one_line(run: Run) -> None:
    done = run("--home", "~nobody-here/sync", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint(done) == "--home must be a folder, not '~nobody-here/sync'."
