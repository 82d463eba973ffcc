"""JSON Schemas that every client takes, from pydantic models.

Clients differ in what they choke on: references, unions, null types, titles, open objects. None of these is
left in an input schema; an output schema stays open to new fields.
"""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "default", "$defs", "discriminator"})


def input_schema(model: type[BaseModel], *, told_by: str = "") -> Schema:
    """Return the portable schema of a tool's arguments.

    Of arguments with parts, descriptions, ranges and words give way to a reference to the tool `told_by`,
    where one is named: what is said once need not be read twice.
    """
    schema = _portable(model, closed=True)
    if told_by:
        for argument in schema["properties"].values():
            if _refer(argument):
                argument["description"] = f"As in {told_by}."
    return schema


def _refer(node: Schema) -> bool:
    """Let what is inside `node` refer to what is said elsewhere; return whether there is anything inside."""
    inner = cast(Mapping[str, Schema], node.get("properties", {}))
    for described in inner.values():
        described["description"] = "Same."
        for told in ("minimum", "maximum", "enum"):
            described.pop(told, None)
        _refer(described)
    return _refer(node["items"]) if "items" in node else bool(inner)


def output_schema(model: type[BaseModel]) -> Schema:
    """Return the portable schema of a tool's structured answer."""
    return _portable(model, closed=False)


def _portable(model: type[BaseModel], *, closed: bool) -> Schema:
    raw = model.model_json_schema()
    definitions = cast(Mapping[str, Schema], raw.get("$defs", {}))
    schema = _simplified(raw, definitions, closed=closed)
    schema.pop("description", None)
    return schema


def _simplified(node: Schema, definitions: Mapping[str, Schema], *, closed: bool) -> Schema:
    if "$ref" in node:
        target = definitions[str(node["$ref"]).rsplit("/", 1)[-1]]
        # What is said where a model is used is truer than what is said of the model.
        return _simplified(
            {**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions, closed=closed
        )
    if "anyOf" in node:
        branches = [branch for branch in cast(list[Schema], node["anyOf"]) if branch.get("type") != "null"]
        rest = {name: value for name, value in node.items() if name != "anyOf"}
        return _simplified({**branches[0], **rest}, definitions, closed=closed)
    schema: Schema = {}
    for name, value in node.items():
        if name in _DROPPED or (name == "additionalProperties" and not closed):
            continue
        if name == "properties":
            schema[name] = {
                field: _simplified(cast(Schema, inner), definitions, closed=closed)
                for field, inner in cast(Schema, value).items()
            }
        elif name == "items":
            schema[name] = _simplified(cast(Schema, value), definitions, closed=closed)
        elif name == "const":
            schema["enum"] = [value]
        else:
            schema[name] = value
    if closed and schema.get("type") == "object":
        schema["additionalProperties"] = False
    return schema
