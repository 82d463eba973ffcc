from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.schema import input_schema, output_schema

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
    assert told["centre"]["description"] == told["corners"]["description"] == "As in draw."
    assert told["size"] == {"type": "integer", "minimum": 1, "maximum": 9, "description": "How large."}
    for point in (told["centre"], told["corners"]["items"]):
        assert point["properties"] == {
            "x": {"type": "number", "description": "Same."},
            "kind": {"type": "string", "description": "Same."},
        }
    # Nothing of it rubs off on the tool that tells it.
    assert input_schema(Shape)["properties"]["centre"]["properties"] == POINT["properties"]


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


def test_estimate_cost_takes_every_argument_of_create_generation() -> None:
    create = by_name["create_generation"].input_schema["properties"]
    estimate = by_name["estimate_cost"].input_schema["properties"]
    assert estimate.keys() == create.keys() | {"fps"}
    assert _names(estimate["input"]) == _names(create["input"])
    assert _names(estimate["options"]) == _names(create["options"])
    assert _names(estimate["segments"]) == _names(create["segments"])


def _names(node: Schema) -> Any:
    """The names in a schema, as they are nested."""
    inner = node.get("properties", {})
    below = _names(node["items"]) if "items" in node else None
    return {name: _names(value) for name, value in inner.items()} or below


_CHANGING = ("create_generation", "upload_asset", "download_generation")


def test_only_create_generation_costs_money_and_every_annotation_is_true() -> None:
    for name, tool in by_name.items():
        hints = tool.annotations
        assert hints.read_only_hint == (name not in _CHANGING)
        assert hints.idempotent_hint is True
        assert hints.destructive_hint is (tool.name == "download_generation"), tool.name
        assert hints.open_world_hint is True
        assert tool.paid == (name == "create_generation")
