"""A read-only server lists no tool that is not there, and a next step that names one says that it is off."""

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent, Tool
from pydantic import SecretStr

from sync_mcp import Settings, create_server
from sync_mcp.errors import Code
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.answers import error_result
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.remedies import API_REMEDIES
from sync_mcp.tools.toolsets import select_tools
from sync_mcp.tools.withheld import READ_ONLY, tell_withheld, without_tools
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, media, names_somebody
from .test_next_steps import API_CODES, own, refusal

pytestmark = pytest.mark.anyio

WITHHELD = select_tools(TOOLS, is_read_only=True).withheld
NOBODY = "00000000-0000-0000-0000-000000000000"
_NAMED = re.compile("|".join(sorted(WITHHELD)))


def says_nothing_of_what_is_withheld(text: str) -> bool:
    return _NAMED.search(text) is None


_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')


def off(*names: str) -> str:
    """Return the sentence behind a next step that names these tools."""
    are = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {are} switched off on this server (SYNC_MCP_READ_ONLY=1)."


def says_what_is_switched_off(step: str) -> bool:
    """Return whether a step ends by saying of each withheld tool that it names that it is switched off."""
    told, _, _ = step.partition(" switched off on this server")
    named = set(_NAMED.findall(_QUOTED.sub("", step)))
    if not named:
        return told == step
    last = told.rsplit(". ", 1)[-1]
    return set(_NAMED.findall(last)) == named and step.endswith("(SYNC_MCP_READ_ONLY=1).")


@asynccontextmanager
async def serving(sandbox: Sandbox, home: Path, **settings: Any) -> AsyncGenerator[Assistant]:
    """Start a server on a ledger that others share."""
    given: dict[str, Any] = {
        "api_key": SecretStr("sk_one"),
        "base_url": sandbox.url,
        "home": str(home),
        "approve_above_usd": "never",
        **settings,
    }
    async with Client(create_server(Settings(**given)), mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client)


def descriptions(node: object) -> Iterator[str]:
    """Yield every description inside a schema."""
    if isinstance(node, dict):
        for name, inner in cast(Facts, node).items():
            if name == "description" and isinstance(inner, str):
                yield inner
            yield from descriptions(inner)
    elif isinstance(node, list):
        for inner in cast(list[object], node):
            yield from descriptions(inner)


def test_what_is_withheld_is_what_pays_or_changes_anything() -> None:
    off = select_tools(TOOLS, toolsets=["all"], is_read_only=True).withheld
    assert off.keys() == {
        *("create_generation", "create_generations", "upload_asset", "download_generation"),
        *("update_asset", "delete_assets", "save_project", "delete_project", "delete_generations"),
        "export_usage",
        *("create_speech", "clone_voice", "delete_voice"),
        *("transcribe", "edit_dialogue", "get_dialogue_edit"),
        *("create_batch", "get_batch", "start_campaign"),
    }


async def test_the_listing_and_the_instructions_name_no_tool_that_is_not_there(
    sandbox: Sandbox, home: Path
) -> None:
    async with serving(sandbox, home, read_only=True) as assistant:
        listed = (await assistant.client.list_tools()).tools
        instructions = assistant.client.instructions or ""
    assert not {tool.name for tool in listed} & WITHHELD.keys()
    assert READ_ONLY in instructions
    for text in (instructions, *(text for tool in listed for text in _words_of(tool))):
        assert says_nothing_of_what_is_withheld(text), text
        assert text


def _words_of(tool: Tool) -> list[str]:
    return [tool.description or "", *descriptions(tool.input_schema)]


async def test_an_estimate_that_stands_alone_tells_its_arguments_itself(sandbox: Sandbox, home: Path) -> None:
    async with serving(sandbox, home, read_only=True) as assistant:
        [tool] = [
            tool for tool in (await assistant.client.list_tools()).tools if tool.name == "estimate_cost"
        ]
    words = _words_of(tool)
    assert not {"Same.", "As in create_generation."} & set(words)
    parts = tool.input_schema["properties"]["input"]["items"]["properties"]
    assert "what is said" in parts["script"]["description"]


async def test_every_next_step_of_a_read_only_server_says_which_tools_are_switched_off(
    sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    texts: list[str] = []
    ids: list[str] = []
    async with serving(sandbox, home, read_only=True) as reader:
        texts += [(await reader.call(tool)).text for tool in ("list_generations", "get_account")]
    fates: list[Facts] = [
        {},
        {"job": "fail", "charged": False, "error_code": "generation_input_segments_invalid"},
        {"job": "fail", "charged": True, "error_code": "generation_pipeline_failed"},
        {"job": "reject", "error_code": "generation_input_video_inaccessible"},
    ]
    async with serving(sandbox, home) as maker:
        for number, fate in enumerate(fates):
            if fate:
                sandbox.add_fault(Fault(path="/v2/generate", **fate))
            made = await maker.facts("create_generation", input=media(sandbox, number))
            ids.append(made["generation_id"])
    running: list[Facts] = [
        {"generation_id": ids[0]},
        {"generation_id": NOBODY},
        {"generation_id": "no id"},
    ]
    async with serving(sandbox, home, read_only=True) as reader:

        async def look() -> None:
            for arguments in running:
                texts.append((await reader.call("get_generation", arguments)).text)
            for more in ({}, {"urls": True}):
                told = await reader.call(
                    "wait_for_generations", generation_ids=[*ids, NOBODY], wait_seconds=0, **more
                )
                texts.append(told.text)
            texts.append((await reader.call("wait_for_generations", generation_ids=["no id"])).text)
            for tool in ("list_generations", "get_account", "list_models", "list_voices"):
                texts.append((await reader.call(tool)).text)
            texts.append((await reader.call("list_voices", search="nobody at all")).text)
            for number in range(5):
                texts.append((await reader.call("estimate_cost", input=media(sandbox, number))).text)
            texts.append((await reader.call("estimate_cost", model="sync-3", duration_seconds=9)).text)
            texts.append((await reader.call("estimate_cost", model="lipsync-3", input=[])).text)
            texts.append((await reader.call("estimate_cost", input=media(sandbox)[:1])).text)
            said = {"type": "text", "script": "Hello.", "voice_id": VOICE}
            texts.append((await reader.call("estimate_cost", input=[media(sandbox)[0], said])).text)
            absent = [{"type": "video", "url": f"{sandbox.url}/samples/absent.mp4"}, media(sandbox)[1]]
            texts.append((await reader.call("estimate_cost", input=absent)).text)

        await look()
        sandbox.advance(1000)
        running += [{"generation_id": id} for id in ids[1:]]
        await look()
        shown = await reader.client.call_tool("preview_generation", {"generation_id": ids[0]})
        texts += [block.text for block in shown.content if isinstance(block, TextContent)]
        texts.append((await reader.call("preview_generation", generation_id=ids[1])).text)
        sandbox.add_fault(Fault(path="/v2/voices", status=200, body=[], times=None))
        sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, times=None))
    async with serving(sandbox, home, read_only=True) as reader:
        texts += [(await reader.call(tool)).text for tool in ("list_voices", "list_generations")]
    for text in texts:
        assert not re.search(r"(?:Next: |next_step: )\W*$", text, re.MULTILINE), text
        step = re.search(r"^(?:Next|next_step): (.+)$", text, re.MULTILINE)
        if step is None:
            assert says_nothing_of_what_is_withheld(text), text
        else:
            assert names_somebody(step[1]), text
            assert says_what_is_switched_off(step[1]), text


async def test_what_is_in_doubt_is_told_whole_with_the_create_that_is_switched_off(
    sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 4.0)
    sandbox.add_fault(Fault(path="/v2/generate", drop="after", times=None))
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, times=None))
    async with serving(sandbox, home) as maker:
        # It may as well end in its time limit: the ledger says the same of it.
        assert (await maker.error("create_generation", input=media(sandbox))).money_spent == "unknown"
    async with serving(sandbox, home, read_only=True) as reader:
        listed = await reader.facts("list_generations")
        account = await reader.call("get_account")
        price = await reader.facts("estimate_cost", input=media(sandbox))
    assert "ledger show" in listed["next_step"]
    assert "1 create has an unknown outcome: the same create_generation call " in listed["next_step"]
    assert "its outcome is not known" in price["next_step"]
    [settles] = re.findall(r"The user can settle it: .* ledger show \d+ --home \S+\.", price["next_step"])
    assert settles
    for step in (listed["next_step"], price["next_step"]):
        assert step.endswith(off("create_generation"))
    assert says_nothing_of_what_is_withheld(account.text)


async def test_an_estimate_of_a_read_only_server_asks_nobody_and_hands_out_no_quote(
    sandbox: Sandbox, home: Path
) -> None:
    settings = {"approve_above_usd": Decimal(0), "budget_usd": Decimal("0.1")}
    async with serving(sandbox, home, read_only=True, **settings) as reader:
        refused = await reader.facts("estimate_cost", input=media(sandbox))
    async with serving(sandbox, home, read_only=True, approve_above_usd=Decimal(0)) as reader:
        price = await reader.facts("estimate_cost", input=media(sandbox))
    for told in (refused, price):
        assert not {"asks", "quote_id"} & told.keys()
        assert told["next_step"] == f"Tell the user what it would cost. {READ_ONLY}"
    assert price["cost_usd"] == 0.226


def test_every_error_is_told_whole_and_its_step_says_which_tools_are_switched_off() -> None:
    errors = [refusal(code, status) for code, status in API_CODES.items()]
    errors += [own(code) for code in get_args(Code) if code not in ("sync_error", "api_error")]
    for error in errors:
        whole = _lines(error_result(error, sandboxed=False, tool="estimate_cost"))
        told = _lines(error_result(error, sandboxed=False, tool="estimate_cost", withheld=WITHHELD))
        for line, on_read_only in zip(whole, told, strict=True):
            assert on_read_only.startswith(line)
            is_step = line.startswith("Next: ")
            assert says_what_is_switched_off(on_read_only) if is_step else on_read_only == line


def _lines(result: CallToolResult) -> list[str]:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text.split("\n")


async def test_what_users_and_the_api_say_comes_through_whole_whatever_it_names(
    sandbox: Sandbox, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "create_generation" / "a.mp4"
    there = media(sandbox)[1]
    async with serving(sandbox, home, read_only=True) as reader, serving(sandbox, home) as maker:
        for input in (
            [{"type": "video", "path": str(path)}, there],
            [{"type": "video", "path": "/create_generation/a.mp4"}, there],
            [{"type": "video", "asset_id": "a b"}, there],
        ):
            told = await reader.error("estimate_cost", input=input)
            whole = await maker.error("estimate_cost", input=input)
            assert told.text.split("\n")[0] == whole.text.split("\n")[0]
        assert "upload_asset" in told.text
        for tool, arguments in (
            ("list_generations", {"status": "create_generation"}),
            ("get_generation", {"generation_id": "create_generation"}),
            ("wait_for_generations", {"generation_ids": ["create_generation now"]}),
        ):
            told, whole = await reader.call(tool, arguments), await maker.call(tool, arguments)
            assert told.text.split("\n")[0] == whole.text.split("\n")[0]


async def test_the_remedy_of_a_failed_job_is_told_whole_on_a_read_only_server(
    sandbox: Sandbox, home: Path
) -> None:
    code = "generation_infra_resource_exhausted"
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", charged=False, error_code=code))
    async with serving(sandbox, home) as maker:
        made = await maker.facts("create_generation", input=media(sandbox))
    sandbox.advance(1000)
    async with serving(sandbox, home, read_only=True) as reader:
        failed = await reader.facts("get_generation", generation_id=made["generation_id"])
    assert failed["remedy"] == API_REMEDIES[code]
    assert READ_ONLY in failed["next_step"]


@pytest.mark.parametrize("remedy", API_REMEDIES.values())
def test_what_is_left_of_a_remedy_is_whole_sentences(remedy: str) -> None:
    kept = without_tools(remedy, WITHHELD)
    assert says_nothing_of_what_is_withheld(kept)
    assert kept.count("(") == kept.count(")")
    assert not kept or re.fullmatch(r"[A-Za-z].*[\w)]\.", kept), kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ask the user.", "Ask the user."),
        (
            "None yet: estimate_cost prices one, and create_generation makes it.",
            "None yet: estimate_cost prices one.",
        ),
        ("Do this, then call create_generation again. Tell the user.", "Do this. Tell the user."),
        ("Call create_generation again once; if it fails, ask the user.", ""),
        ("Take one from list_generations or create_generation.", "Take one from list_generations."),
        ("Look at it (by upload_asset), and go on.", ""),
    ],
)
def test_a_sentence_ends_before_it_comes_to_a_tool_that_is_not_there(text: str, kept: str) -> None:
    assert without_tools(text, WITHHELD) == kept
    assert without_tools(text, ()) == text


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ("Call create_generation again.", ["create_generation"]),
        (
            "Give it to upload_asset, then call create_generation. Or upload_asset.",
            ["upload_asset", "create_generation"],
        ),
        ("Ask the user.", []),
        ('Look at generation "create_generation now".', []),
        ("Run '/opt/my create_generation x/sync-mcp' ledger show 3.", []),
        ("Run /opt/create_generation/sync-mcp ledger show 3.", []),
        ("Look at my_create_generation, create_generation-2 and create_generation.mp4.", []),
    ],
)
def test_a_step_is_followed_by_the_withheld_tools_that_it_names_itself(step: str, named: list[str]) -> None:
    assert tell_withheld(step, WITHHELD) == (f"{step} {off(*named)}" if named else step)
    assert tell_withheld(step, {}) == step
