import json
import re
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from sync_mcp.tools.arguments import Arguments, parse_arguments
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.generation_arguments import CreateArguments, SegmentOptionsArguments
from sync_mcp.tools.schema import TOLD_IN_WORDS, input_schema, output_schema, whole_schema

Schema = dict[str, Any]
by_name = {tool.name: tool for tool in TOOLS}


class Point(Arguments):
    """Said of the model."""

    x: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="Across.")
    kind: Literal["only"] = Field("only", description="Kind.")


class Shape(Arguments):
    """Said of the whole."""

    centre: Point | None = Field(None, description="Said of the centre.")
    corners: list[Point] = Field(description="Said of the corners.")
    colour: Literal["red", "green"] | None = Field(None, description="Paint.")
    size: Annotated[int, Field(ge=1, le=9)] = Field(3, description="How large.")


class Worded(Arguments):
    inner: Point | None = Field(None, description="x and kind.", json_schema_extra=TOLD_IN_WORDS)


class Told(BaseModel):
    model_config = ConfigDict(extra="forbid")

    points: list[Point]
    size: int | None = None


POINT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "x": {"type": "number", "minimum": 0, "maximum": 1, "description": "Across."},
        "kind": {"type": "string", "enum": ["only"], "description": "Kind."},
    },
}


def test_references_unions_nulls_titles_and_defaults_are_resolved() -> None:
    assert input_schema(Shape) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["corners"],
        "properties": {
            "centre": {**POINT, "description": "Said of the centre."},
            "corners": {
                "type": "array",
                "description": "Said of the corners.",
                "items": {**POINT, "description": "Said of the model."},
            },
            "colour": {"type": "string", "enum": ["red", "green"], "description": "Paint."},
            "size": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How large."},
        },
    }


def test_of_an_argument_with_parts_another_tool_tells_and_a_plain_one_speaks_for_itself() -> None:
    told = input_schema(Shape, told_by="draw")["properties"]
    assert told["centre"] == {"type": "object", "description": "As in draw."}
    assert told["corners"] == {"type": "array", "items": {"type": "object"}, "description": "As in draw."}
    assert told["size"] == {"type": "integer", "minimum": 1, "maximum": 9, "description": "How large."}
    # Nothing of it rubs off on the tool that tells it.
    assert input_schema(Shape)["properties"]["centre"]["properties"] == POINT["properties"]


def test_of_an_outlined_argument_the_names_and_types_stay() -> None:
    told = input_schema(Shape, told_by="draw", outlined=("centre",))["properties"]
    assert told["centre"] == {
        "type": "object",
        "additionalProperties": False,
        "description": "As in draw.",
        "properties": {"x": {"type": "number"}, "kind": {"type": "string", "enum": ["only"]}},
    }
    assert "properties" not in told["corners"]["items"]


def test_an_argument_that_is_told_in_words_keeps_its_parts_for_the_reading_alone() -> None:
    assert input_schema(Worded)["properties"]["inner"] == {"type": "object", "description": "x and kind."}
    assert whole_schema(Worded)["properties"]["inner"]["properties"] == POINT["properties"]


def test_an_output_schema_is_open_at_every_depth_and_requires_what_is_always_there() -> None:
    schema = output_schema(Told)
    assert schema["required"] == ["points"]
    assert "additionalProperties" not in str(schema)
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_schemas_are_json_schemas(tool: Any) -> None:
    Draft202012Validator.check_schema(tool.definition.input_schema)
    # What is answered with a picture has no structured content.
    schema = tool.definition.output_schema
    assert (schema is None) == (tool.name == "preview_generation")
    Draft202012Validator.check_schema(schema or {})


def test_estimate_cost_takes_every_argument_of_create_generation_and_says_nothing_twice() -> None:
    create = by_name["create_generation"].input_schema["properties"]
    estimate = by_name["estimate_cost"].input_schema["properties"]
    assert estimate.keys() == create.keys() | {"fps"}
    # A host that loads tools late may show this one first.
    assert _types(estimate["input"]) == _types(create["input"])
    assert all("description" not in part for part in estimate["input"]["items"]["properties"].values())
    told = {"description": "As in create_generation."}
    assert estimate["options"] == estimate["dub"] == {"type": "object", **told}
    assert estimate["segments"] == {"type": "array", "items": {"type": "object"}, **told}


def _types(argument: Schema) -> dict[str, str]:
    return {name: part["type"] for name, part in argument["items"]["properties"].items()}


def test_the_description_of_input_holds_an_example_with_every_name_of_an_item() -> None:
    told = by_name["create_generation"].input_schema["properties"]["input"]
    example = json.loads(re.findall(r"\[\{.*\}\]", told["description"])[0])
    parse_arguments(CreateArguments, whole_schema(CreateArguments), {"input": example}, {})
    shown = {name for item in example for name in item}
    after = told["description"].rpartition("]")[2]
    assert (
        shown | {name for name in ("url", "asset_id") if name in after} == told["items"]["properties"].keys()
    )


def test_the_descriptions_say_what_makes_it_again() -> None:
    create = by_name["create_generation"]
    assert "after a failure it makes a new attempt" in create.description
    assert "asks the user" in create.input_schema["properties"]["take"]["description"]
    assert "with segments one for each voice" in create.input_schema["properties"]["input"]["description"]


def test_the_parts_of_a_segments_own_options_are_named() -> None:
    parts = by_name["create_generation"].input_schema["properties"]["segments"]["items"]["properties"]
    assert parts["options_override"]["type"] == "object"
    for name in SegmentOptionsArguments.model_fields:
        assert name in parts["options_override"]["description"]


_PAYING = (
    *("create_generation", "create_generations", "create_speech", "clone_voice"),
    *("edit_dialogue", "create_batch", "start_campaign"),
)
_DESTROYING = (
    *("download_generation", "export_usage", "create_speech", "get_batch"),
    *("delete_assets", "delete_project", "delete_generations", "delete_voice"),
)
"""What writes over a file, or removes for good."""
_CHANGING = (
    *_PAYING,
    *("upload_asset", "update_asset", "save_project", "transcribe", "get_dialogue_edit"),
    *_DESTROYING,
)


def test_only_what_makes_something_costs_money_and_every_annotation_is_true() -> None:
    for name, tool in by_name.items():
        hints = tool.annotations
        assert hints.read_only_hint == (name not in _CHANGING)
        assert hints.idempotent_hint is True
        assert hints.destructive_hint is (tool.name in _DESTROYING), tool.name
        assert hints.open_world_hint is True
        assert tool.paid == (name in _PAYING)
