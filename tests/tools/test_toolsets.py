"""Which tools are on: by sets, by names and by read-only; what is off costs nothing and says by what."""

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from pydantic import SecretStr

from sync_mcp import ConfigurationError, Settings, create_server
from sync_mcp.sandbox import Sandbox
from sync_mcp.server import instructions
from sync_mcp.serving.caller import asked_toolsets
from sync_mcp.texts import near
from sync_mcp.tools import core
from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.late import load
from sync_mcp.tools.registry import READS, LateRun, Tool, Toolset
from sync_mcp.tools.toolsets import Catalogue, select_tools
from sync_mcp.tools.withheld import READ_ONLY, say_no_video_is_made, tell_withheld

from .assistant import Assistant, media
from .test_read_only import descriptions

pytestmark = pytest.mark.anyio

NAMES = [tool.name for tool in core.TOOLS]
EVERY = [tool.name for tool in TOOLS]


async def _measure(_: CallContext, __: Arguments) -> Answer:
    return Answer(next_step="Call measure_more, or list_voices.")


def _extra(name: str) -> Tool[Arguments]:
    extra = Toolset("extra", ("measure tells a measure, measure_more two.",), is_default=False)
    return Tool(
        name=name,
        toolset=extra,
        title=name,
        description="Measure.",
        arguments=Arguments,
        answer=Answer,
        annotations=READS,
        run=_measure,
    )


MORE = (*core.TOOLS, _extra("measure"), _extra("measure_more"))


def on(**chosen: Any) -> list[str]:
    """Return the names of the tools that are listed, of those with a set that is off by default."""
    return [tool.name for tool in select_tools(MORE, **chosen).listing.tools]


@asynccontextmanager
async def serving(sandbox: Sandbox, home: Path, **settings: Any) -> AsyncGenerator[Assistant]:
    given: dict[str, Any] = {
        "api_key": SecretStr("sk_one"),
        "base_url": sandbox.url,
        "home": str(home),
        **settings,
    }
    server = create_server(Settings(**given), tools=MORE)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        yield Assistant(client)


def test_without_a_setting_the_default_sets_are_listed_as_they_are() -> None:
    assert select_tools(TOOLS).listing.tools == [tool.definition for tool in core.TOOLS]
    assert on() == on(toolsets=["default"]) == NAMES


def test_a_set_is_switched_on_by_its_name_and_all_of_them_by_all() -> None:
    assert on(toolsets=["extra"]) == ["measure", "measure_more"]
    assert on(toolsets=["core"]) == NAMES
    assert on(toolsets=["default", "extra"]) == on(toolsets=["all"]) == [tool.name for tool in MORE]


def test_a_tool_is_switched_on_by_its_name_beside_the_sets_and_alone() -> None:
    assert on(names=["list_voices", "measure"]) == ["list_voices", "measure"]
    assert on(names=["measure"], toolsets=["core"]) == [*NAMES, "measure"]


def test_read_only_wins_over_sets_and_names() -> None:
    assert on(names=["create_generation", "list_voices"], is_read_only=True) == ["list_voices"]
    assert "create_generation" not in on(toolsets=["all"], is_read_only=True)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            {"toolsets": ("cor",)},
            "SYNC_MCP_TOOLSETS names a toolset that does not exist, 'cor'; did you mean ",
        ),
        ({"toolsets": ("pictures",)}, f"'pictures'. There are {', '.join(TOOLS.sets)}."),
        ({"tools": ("list_voice",)}, "does not exist, 'list_voice'; did you mean 'list_voices'?"),
    ],
)
def test_a_set_or_a_tool_that_does_not_exist_is_refused_with_the_name_that_is_near(
    chosen: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        create_server(Settings(**chosen))


def test_the_instructions_tell_one_sentence_for_each_set_that_is_on() -> None:
    core = "The way: list_voices if a script needs a voice"
    extra = "measure tells a measure, measure_more two."
    told = {
        "core": select_tools(MORE).instructions,
        "extra": select_tools(MORE, toolsets=["extra"]).instructions,
        "all": select_tools(MORE, toolsets=["all"]).instructions,
    }
    assert {name: (core in text, extra in text) for name, text in told.items()} == {
        "core": (True, False),
        "extra": (False, True),
        "all": (True, True),
    }
    assert "costs money" not in told["extra"]
    assert instructions(None, select_tools(MORE)) == told["core"]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("is_on", [True, False], ids=["alone", "missing"])
def test_whichever_tools_are_on_nothing_that_is_listed_names_one_that_is_off(name: str, is_on: bool) -> None:
    chosen = [name] if is_on else [other for other in EVERY if other != name]
    selection = select_tools(TOOLS, names=chosen)
    named = re.compile("|".join(rf"\b{off}\b" for off in selection.withheld))
    listed = selection.listing.tools
    assert [tool.name for tool in listed] == [other for other in EVERY if other in chosen]
    words = [text for tool in listed for text in (tool.description or "", *descriptions(tool.input_schema))]
    for text in (selection.instructions, *words):
        assert text
        assert named.search(text) is None, text


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"toolsets": ("extra",)}, "SYNC_MCP_TOOLSETS"),
        ({"tools": ("measure", "measure_more")}, "SYNC_MCP_TOOLS"),
    ],
)
async def test_a_tool_that_is_off_answers_with_the_setting_by_which_it_is(
    sandbox: Sandbox, home: Path, settings: dict[str, Any], setting: str
) -> None:
    async with serving(sandbox, home, **settings) as assistant:
        refused = await assistant.client.call_tool("create_generation", {"input": media(sandbox)})
        answer = await assistant.client.call_tool("measure")
    assert refused.is_error
    assert (refused.meta or {})["code"] == "tool_off"
    assert f"{setting} does not include it (its toolset is core)" in str(refused.content)
    assert not sandbox.charges
    steps: dict[str, str] = answer.structured_content or {}
    assert steps["next_step"].endswith(f"list_voices is switched off on this server ({setting}).")


async def test_an_estimate_where_no_video_can_be_made_asks_nobody_and_tells_the_setting(
    sandbox: Sandbox, home: Path
) -> None:
    async with serving(sandbox, home, tools=("estimate_cost", "measure")) as assistant:
        price = await assistant.facts("estimate_cost", input=media(sandbox))
    assert not {"asks", "quote_id"} & price.keys()
    assert price["next_step"] == (
        "Tell the user what it would cost. No video is made here, by the user's own choice (SYNC_MCP_TOOLS)."
    )
    assert READ_ONLY not in price["next_step"]


def test_a_connection_narrows_what_is_on_and_never_widens_it() -> None:
    both = select_tools(MORE, toolsets=["all"])
    core = select_tools(MORE)
    assert [tool.name for tool in both.narrow("Core").listing.tools] == NAMES
    assert [tool.name for tool in both.narrow("extra, core").listing.tools] == [tool.name for tool in MORE]
    assert [tool.name for tool in core.narrow("all").listing.tools] == NAMES
    assert core.narrow("extra").listing.tools == []
    assert core.narrow("extra").withheld["measure"].setting == "SYNC_MCP_TOOLSETS"
    assert both.narrow("extra").withheld["list_voices"].setting == "the header X-MCP-Toolsets"
    assert both.narrow("extra") is both.narrow(" EXTRA,")
    with pytest.raises(ConfigurationError, match="did you mean 'core'"):
        core.narrow("cores")


def test_of_many_unknown_sets_only_those_that_are_told_are_compared_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    def note(word: str, known: Iterable[str]) -> str:
        compared.append(word)
        return near(word, known)

    monkeypatch.setattr("sync_mcp.tools.toolsets.near", note)
    many = [f"corn-{number}" for number in range(10_000)]
    with pytest.raises(ConfigurationError, match="names 9,997 more"):
        select_tools(MORE).narrow(",".join(many))
    with pytest.raises(ConfigurationError, match="names 9,997 more"):
        select_tools(MORE, names=many)
    assert len(compared) == 6


def test_what_a_client_left_out_by_its_header_is_told_as_its_own_choice() -> None:
    withheld = select_tools(MORE).narrow("extra").withheld
    off = {"create_generation": withheld["create_generation"]}
    assert say_no_video_is_made(off) == (
        "No video is made here, by this client's choice (the header X-MCP-Toolsets)."
    )
    assert tell_withheld("Call create_generation.", off).endswith(
        " create_generation is switched off for this client (the header X-MCP-Toolsets)."
    )


async def test_a_request_with_the_header_lists_calls_and_is_told_of_its_sets_alone(
    sandbox: Sandbox, home: Path
) -> None:
    asked = asked_toolsets.set("extra")
    try:
        async with serving(sandbox, home, toolsets=("all",)) as assistant:
            listed = (await assistant.client.list_tools()).tools
            refused = await assistant.client.call_tool("create_generation", {"input": media(sandbox)})
            told = assistant.client.instructions or ""
    finally:
        asked_toolsets.reset(asked)
    assert [tool.name for tool in listed] == ["measure", "measure_more"]
    assert "the header X-MCP-Toolsets does not include it (its toolset is core)" in str(refused.content)
    assert "measure tells a measure" in told
    assert "create_generation" not in told
    assert not sandbox.charges


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_run_that_a_tool_names_is_there_and_takes_its_arguments(tool: Tool[Any]) -> None:
    run = tool.run.load() if isinstance(tool.run, LateRun) else tool.run
    assert run.__name__ == tool.name
    assert list(run.__annotations__.values())[:2] == [CallContext, tool.arguments]


def test_what_is_off_is_not_loaded_until_it_is_asked_for() -> None:
    loaded: list[str] = []
    catalogue = Catalogue(core.TOOLS, late=("library",))
    selection = _noting_loads(loaded, lambda: select_tools(catalogue))
    assert (loaded, len(selection.listing.tools), bool(selection.instructions)) == ([], len(NAMES), True)
    assert _noting_loads(loaded, lambda: selection.withheld["list_projects"].setting) == "SYNC_MCP_TOOLSETS"
    assert loaded == ["library:TOOLS"]


def _noting_loads(loaded: list[str], do: Callable[[], Any]) -> Any:
    def note(place: str) -> object:
        loaded.append(place)
        return load(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_mcp.tools.toolsets.load", note)
        return do()


@pytest.mark.parametrize("name", [name for name in TOOLS.sets if name not in ("default", "all")])
def test_what_is_told_of_a_set_names_tools_of_its_own_and_of_the_default_sets_alone(name: str) -> None:
    own = {tool.name for tool in TOOLS if tool.toolset.name == name}
    foreign = re.compile(
        "|".join(rf"\b{other}\b" for other in EVERY if other not in own | set(NAMES)) or "$^"
    )
    selection = select_tools(TOOLS, toolsets=["default", name])
    assert own <= {tool.name for tool in selection.listing.tools}
    words = [
        text
        for tool in selection.listing.tools
        for text in (tool.description or "", *descriptions(tool.input_schema))
    ]
    for text in (selection.instructions, *words):
        assert foreign.search(text) is None, text
    [toolset] = {tool.toolset for tool in TOOLS if tool.toolset.name == name}
    # One sentence of it, and of the others none.
    assert sum(way in selection.instructions for way in toolset.ways) == 1
