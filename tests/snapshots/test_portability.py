"""What breaks some client or other if it stands in a tool's definition."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from mcp_types import Tool

from sync_mcp.server import instructions
from sync_mcp.tools import core
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.toolsets import select_tools
from tests.bench.words import LARGEST_INSTRUCTIONS, LARGEST_LISTING, SANDBOX_ORIGIN, listing_bytes

Schema = dict[str, Any]

_UNPORTABLE = {
    "$ref",
    "$defs",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "prefixItems",
    "discriminator",
    "const",
    "format",
}
_NOISE = {"title", "default"}
_TYPES = {"object", "array", "string", "number", "integer", "boolean"}
_DEFINITIONS = [tool.definition for tool in TOOLS]
_BY_DEFAULT = [tool.definition for tool in core.TOOLS]
_LATE_SETS = [name for name in TOOLS.sets if name not in ("default", "all", "core")]
_LARGEST_SET = 4_000
"""Of each set that is off by default, as a model sees it, in bytes."""
_LARGEST_LISTING_OF_ALL = 28_000
_LARGEST_INSTRUCTIONS_OF_ALL = 1_800
_LARGEST_DEFINITION = 6_000
_MOST_TOOLS = 33
_LARGEST_TOGETHER = 1_200
"""Of `create_generations`, as a model sees it, in bytes."""
_LARGEST_FIRST_TOOLS = 13_000
"""Of the first four tools, in bytes."""
_FIRST_TOOLS = ("create_generation", "get_generation", "list_generations", "estimate_cost")

every_tool = pytest.mark.parametrize("tool", _DEFINITIONS, ids=lambda tool: tool.name)


def nodes(schema: Schema, place: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema inside `schema` with its place, itself first."""
    yield place, schema
    for name, inner in cast("dict[str, Schema]", schema.get("properties", {})).items():
        yield from nodes(inner, f"{place}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{place}[]")


@every_tool
def test_an_input_schema_has_no_reference_union_null_or_tuple(tool: Tool) -> None:
    for place, node in nodes(tool.input_schema):
        assert not (_UNPORTABLE | _NOISE) & node.keys(), place
        assert node["type"] in _TYPES, place


@every_tool
def test_every_input_property_is_described(tool: Tool) -> None:
    for place, node in nodes(tool.input_schema):
        for name, inner in node.get("properties", {}).items():
            # Said once, by create_generation.
            if (tool.name, place) != ("estimate_cost", ".input[]"):
                assert len(inner.get("description", "")) > 4, f"{place}.{name}"


@every_tool
def test_every_input_object_whose_parts_are_told_is_closed_and_lists_what_it_requires(tool: Tool) -> None:
    objects = [(place, node) for place, node in nodes(tool.input_schema) if node["type"] == "object"]
    assert tool.input_schema["type"] == "object"
    assert "properties" in tool.input_schema
    for place, node in objects:
        if place and "properties" not in node:
            # One that were closed would take nothing.
            assert "additionalProperties" not in node, place
            continue
        assert node["additionalProperties"] is False, place
        assert set(node.get("required", [])) <= node["properties"].keys(), place


@every_tool
def test_every_input_array_says_what_it_holds(tool: Tool) -> None:
    for place, node in nodes(tool.input_schema):
        if node["type"] == "array":
            assert node["items"]["type"] in _TYPES, place


@every_tool
def test_every_enum_holds_strings(tool: Tool) -> None:
    for place, node in nodes(tool.input_schema):
        assert all(isinstance(word, str) for word in node.get("enum", [])), place


@pytest.mark.parametrize(
    "tool", [tool.definition for tool in TOOLS if tool.answer is not None], ids=lambda tool: tool.name
)
def test_an_output_schema_is_an_open_object_without_references(tool: Tool) -> None:
    assert tool.output_schema is not None
    assert tool.output_schema["type"] == "object"
    for place, node in nodes(tool.output_schema):
        assert not _UNPORTABLE & node.keys(), place
        assert "additionalProperties" not in node, place


@every_tool
def test_names_are_short_and_plain(tool: Tool) -> None:
    assert re.fullmatch(r"[a-z0-9_]{1,32}", tool.name)
    for _, node in nodes(tool.input_schema):
        assert all(re.fullmatch(r"[a-z0-9_]{1,32}", name) for name in node.get("properties", {}))


@every_tool
def test_a_tool_has_a_title_a_description_and_all_four_annotations(tool: Tool) -> None:
    assert tool.title
    assert tool.description
    assert tool.annotations is not None
    hints = tool.annotations.model_dump()
    names = ("read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint")
    assert all(isinstance(hints[name], bool) for name in names)


def _bytes(*names: str) -> int:
    listing = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True)
        for tool in _BY_DEFAULT
        if not names or tool.name in names
    ]
    return len(json.dumps(listing, separators=(",", ":"), ensure_ascii=False).encode())


def test_what_a_model_reads_by_default_is_small() -> None:
    assert listing_bytes(_BY_DEFAULT) <= LARGEST_LISTING


def test_what_a_model_reads_of_the_tool_for_several_is_small() -> None:
    assert (
        listing_bytes([tool for tool in _BY_DEFAULT if tool.name == "create_generations"])
        <= _LARGEST_TOGETHER
    )


@pytest.mark.parametrize("name", _LATE_SETS)
def test_what_a_model_reads_of_a_set_that_is_switched_on_is_small(name: str) -> None:
    assert 0 < listing_bytes(tool.definition for tool in TOOLS if tool.toolset.name == name) <= _LARGEST_SET


def test_what_a_model_reads_of_all_sets_together_is_bounded() -> None:
    assert listing_bytes(_DEFINITIONS) <= _LARGEST_LISTING_OF_ALL
    for sandbox_url in (None, SANDBOX_ORIGIN):
        told = instructions(sandbox_url, select_tools(TOOLS, toolsets=["all"]))
        assert len(told.encode()) <= _LARGEST_INSTRUCTIONS_OF_ALL


@every_tool
def test_the_whole_definition_of_a_tool_is_small(tool: Tool) -> None:
    whole = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()) <= _LARGEST_DEFINITION


@pytest.mark.parametrize("is_read_only", [False, True], ids=["pays", "read-only"])
@pytest.mark.parametrize("sandbox_url", [None, SANDBOX_ORIGIN], ids=["API", "sandbox"])
def test_the_instructions_are_short_in_each_form(sandbox_url: str | None, *, is_read_only: bool) -> None:
    told = instructions(sandbox_url, select_tools(TOOLS, is_read_only=is_read_only))
    assert len(told.encode()) <= LARGEST_INSTRUCTIONS


def test_there_are_at_most_so_many_tools_and_the_listing_by_default_is_small() -> None:
    assert len({tool.name for tool in _DEFINITIONS}) == len(_DEFINITIONS) <= _MOST_TOOLS
    assert len(_BY_DEFAULT) <= 20
    assert _bytes(*_FIRST_TOOLS) <= _LARGEST_FIRST_TOOLS
    assert _bytes() <= 20_000
