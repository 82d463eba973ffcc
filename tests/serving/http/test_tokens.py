"""Whose token a request came with: the server's own, or one of several with names."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_mcp.cli.ledger.entries import describe_entry
from sync_mcp.machine.home import home_folder
from sync_mcp.payments.ledger import Ledger
from sync_mcp.sandbox import Sandbox
from sync_mcp.serving.tokens import own_token, read_named_tokens
from tests.server.host import COMMAND, media
from tests.serving.http.web import TOKEN, Mode, Web, both_eras, connected, post, serving
from tests.serving.stdio.forked import run_forked
from tests.serving.stdio.process import WAIT_SECONDS

BEN, EVA = "Bens-token-of-27-characters", "Evas-token-of-27-characters"
LISTING: dict[str, Any] = {"name": "list_generations", "arguments": {}}
QUOTES = {"SYNC_MCP_APPROVE_ABOVE_USD": "0", "SYNC_MCP_APPROVE_BY": "quote"}

on_posix = pytest.mark.skipif(os.name != "posix", reason="this system has no modes")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\n\nben {BEN}\n  eva\t{EVA}\n", encoding="utf-8")
    return path


def named(names: Path, **more: str) -> dict[str, str]:
    return {"SYNC_MCP_HTTP_TOKEN": "", "SYNC_MCP_HTTP_TOKENS_FILE": str(names), **more}


def status(web: Web, token: str | None) -> int:
    return post(
        web.url, "tools/call", LISTING, authorization=None if token is None else f"Bearer {token}"
    ).status_code


def called(web: Web, token: str, tool: str, **arguments: Any) -> dict[str, Any]:
    asked = {"name": tool, "arguments": arguments}
    return post(web.url, "tools/call", asked, authorization=f"Bearer {token}").json()["result"]


def test_a_server_with_a_key_makes_a_token_keeps_it_for_its_user_alone_and_says_where(
    sandbox: Sandbox, home: Path
) -> None:
    path = home / "http-token"
    for _ in range(2):
        with serving(sandbox, env={"SYNC_MCP_HTTP_TOKEN": ""}) as web:
            line = web.server.stderr.until(lambda line: b"http-token" in line).decode()
            assert f" the token in {path}: " in line
            token = path.read_text(encoding="ascii").strip()
            assert token not in line
            assert len(token) >= 32
            assert [status(web, given) for given in (None, TOKEN, token)] == [401, 401, 200]
    # The second start took the one that was there.
    assert [path for path in home.iterdir() if "token" in path.name] == [path]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_sandbox_needs_no_token_though_there_is_a_key(sandbox: Sandbox, home: Path) -> None:
    with serving(sandbox, "--sandbox", env={"SYNC_MCP_HTTP_TOKEN": ""}) as web:
        assert status(web, None) == 200
    assert not (home / "http-token").exists()


def refused(**environment: str) -> str:
    env = {"SYNC_MCP_HOME": os.environ["SYNC_MCP_HOME"], **environment}
    done = run_forked([COMMAND, "--http", "--port", "0"], env, timeout=WAIT_SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr), done.stderr
    return done.stderr


@on_posix
def test_a_token_that_others_can_read_or_that_is_none_is_refused_with_what_to_do(home: Path) -> None:
    token = own_token(home)
    path = home / "http-token"
    path.chmod(0o644)
    told = refused()
    assert str(path) in told
    assert "SYNC_MCP_HTTP_TOKEN" in told
    assert token not in told
    path.chmod(0o600)
    path.write_text("short\n", encoding="ascii")
    assert "another one is made" in refused()


def test_two_that_make_the_token_at_once_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: list[str] = []
    fsync: Callable[..., Any] = os.fdopen

    def fdopen(*given: Any) -> Any:
        # While the first one writes, the second comes and is faster.
        if not other:
            other.append("")
            other[0] = own_token(tmp_path)
        return fsync(*given)

    monkeypatch.setattr(os, "fdopen", fdopen)
    assert own_token(tmp_path) == other[0] == own_token(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["http-token"]


@pytest.mark.anyio
@both_eras
async def test_the_name_of_a_token_stands_in_the_ledger_and_in_the_log(
    sandbox: Sandbox, names: Path, home: Path, mode: Mode
) -> None:
    with serving(sandbox, env=named(names)) as web:
        for token, name in ((BEN, "ben"), (EVA, "eva")):
            asked = {"input": media(sandbox.url, f"?{name}")}
            async with connected(web.url, mode, token) as client:
                made = await client.call_tool("create_generation", asked)
            assert made.structured_content
            job = made.structured_content["generation_id"]
            line = web.server.stderr.until(lambda line, job=job: job.encode() in line).decode()
            assert f": [{name}] " in line
        ledger = Ledger(home)
        entries = ledger.entries(limit=None, are_open=True)
        assert sorted(str(entry.caller) for entry in entries) == ["ben", "eva"]
        assert "\n  asked by   ben\n" in describe_entry(ledger, 1)
    ledger.close()


def test_callers_who_are_told_apart_have_no_campaigns_of_each_other_s(sandbox: Sandbox, names: Path) -> None:
    with serving(sandbox, env=named(names, SYNC_MCP_TOOLSETS="campaigns")) as web:
        for tool, asked in (
            ("plan_campaign", {"clips": [sandbox.samples.speaking], "languages": ["fr"]}),
            ("start_campaign", {"campaign_id": "c-0"}),
            ("get_campaign", {}),
        ):
            told = called(web, BEN, tool, **asked)
            assert told["isError"]
            assert "a server for one user" in told["content"][0]["text"]
            assert "`sync-mcp campaign`" in told["content"][0]["text"]


def test_without_a_folder_to_save_in_nothing_is_planned(sandbox: Sandbox) -> None:
    with serving(sandbox, env={"SYNC_MCP_TOOLSETS": "campaigns"}) as web:
        told = called(web, TOKEN, "plan_campaign", clips=[sandbox.samples.speaking], languages=["fr"])
    assert "this server has no folder to save in" in told["content"][0]["text"]
    assert "SYNC_MCP_DOWNLOAD_DIR" in told["content"][0]["text"]


def test_a_quote_is_good_for_the_one_alone_who_got_it(sandbox: Sandbox, names: Path) -> None:
    asked = {"input": media(sandbox.url)}
    with serving(sandbox, env=named(names, **QUOTES)) as web:
        question = called(web, BEN, "create_generation", **asked)["content"][0]["text"]
        [quote] = set(re.findall(r"\bq_[\w-]+", question))
        refusal = called(web, EVA, "create_generation", **asked, quote_id=quote)
        assert refusal["_meta"]["code"] == "quote_refused"
        assert "There is no such quote" in refusal["content"][0]["text"]
        assert sandbox.charges == []
        called(web, BEN, "create_generation", **asked, quote_id=quote)
    assert len(sandbox.charges) == 1


def test_the_one_token_without_a_name_goes_on_beside_those_with_names(sandbox: Sandbox, names: Path) -> None:
    with serving(sandbox, env=named(names, SYNC_MCP_HTTP_TOKEN=TOKEN)) as web:
        assert [status(web, token) for token in (TOKEN, BEN, EVA, BEN[:-1], "ben", None)] == [
            200,
            200,
            200,
            401,
            401,
            401,
        ]


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (f"ben {BEN}\n{EVA}", 2),
        ("ben short", 1),
        (f"ben {BEN}\nben {EVA}", 2),
        (f"ben {BEN}\neva {BEN}", 2),
        (f"[ben] {BEN}", 1),
        (f"ben {BEN} {EVA}", 1),
        (f"ben {BEN}ä", 1),
    ],
)
def test_a_line_that_is_no_name_and_token_is_named_and_not_shown(
    tmp_path: Path, lines: str, number: int
) -> None:
    path = tmp_path / "tokens"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=f"^Line {number} of ") as refusal:
        read_named_tokens(path)
    assert BEN not in str(refusal.value)
    assert EVA not in str(refusal.value)


def test_a_file_of_tokens_that_is_missing_or_empty_does_not_leave_the_server_open(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    assert str(path) in refused(SYNC_MCP_HTTP_TOKENS_FILE=str(path))
    path.write_text("# nobody yet\n", encoding="utf-8")
    assert str(path) in refused(SYNC_MCP_HTTP_TOKENS_FILE=str(path))
    assert "whole path" in refused(SYNC_MCP_HTTP_TOKENS_FILE="tokens")


def test_the_home_is_the_one_of_the_ledger(home: Path) -> None:
    assert Ledger().file.folder == home_folder() == home
