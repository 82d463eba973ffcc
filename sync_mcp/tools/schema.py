"""JSON Schemas that every client takes, from pydantic models.

Clients differ in what they choke on: references, unions, null types, titles, open objects. None of these is
left in an input schema; an output schema stays open to new fields.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Schema = dict[str, Any]

_IN_WORDS = "told_in_words"
TOLD_IN_WORDS: dict[str, JsonValue] = {_IN_WORDS: True}
"""Marks a field (`json_schema_extra`) whose description says what its parts are: the schema does not."""

_ONLY_WITH = "only_with"


def only_with(tool: str) -> dict[str, JsonValue]:
    """Return what marks a field (`json_schema_extra`) that is told of only where another tool is on."""
    return {_ONLY_WITH: tool}


SAME = "Same."
"""The description of an argument of which another tool tells."""
_DROPPED = frozenset({"title", "default", "$defs", "discriminator"})


def whole_schema(model: type[BaseModel]) -> Schema:
    """Return what a tool's arguments are read by, with all their parts."""
    return _portable(model, closed=True)


def input_schema(
    model: type[BaseModel],
    *,
    told_by: str = "",
    outlined: Collection[str] = (),
    beside: Collection[str] = (),
) -> Schema:
    """Return the portable schema of a tool's arguments.

    Of arguments with parts, what is inside gives way to a reference to the tool `told_by`, where one is
    named: what is said once need not be read twice. Of those in `outlined` the names and types of the parts
    stay, for a host that shows this tool before the other. An argument that goes with another tool
    is told of where that is among those `beside`.
    """
    schema = whole_schema(model)
    properties = cast(dict[str, Schema], schema["properties"])
    for name, argument in list(properties.items()):
        if argument.pop(_ONLY_WITH, None) not in (None, *beside):
            del properties[name]
    _leave_to_words(schema)
    if told_by:
        for name, argument in cast(Mapping[str, Schema], schema["properties"]).items():
            if not _has_parts(argument):
                continue
            argument["description"] = f"As in {told_by}."
            if name in outlined:
                _leave_names_and_types(argument)
            else:
                _leave_type(argument)
    return schema


def with_words_of(teller: Schema, schema: Schema, name: str) -> Schema:
    """Return the schema of a tool that leaves words to the tool `name`, with those of that one's schema."""
    told = cast(Mapping[str, Schema], teller["properties"])
    arguments = {
        argument: told[argument] if inner["description"] in (SAME, f"As in {name}.") else inner
        for argument, inner in cast(Mapping[str, Schema], schema["properties"]).items()
    }
    return {**schema, "properties": arguments}


def with_descriptions(node: Schema, tell: Callable[[str], str], name: str = "") -> Schema:
    """Return a schema whose descriptions are told in another way; what is left empty, by its name."""
    told: Schema = dict(node)
    if "description" in node:
        told["description"] = tell(node["description"]) or f"{name.replace('_', ' ').capitalize()}."
    if "properties" in node:
        inner = cast(Mapping[str, Schema], node["properties"])
        told["properties"] = {name: with_descriptions(part, tell, name) for name, part in inner.items()}
    if "items" in node:
        told["items"] = with_descriptions(node["items"], tell)
    return told


def _leave_to_words(node: Schema) -> None:
    if node.pop(_IN_WORDS, False):
        _leave_type(node)
    for inner in cast(Mapping[str, Schema], node.get("properties", {})).values():
        _leave_to_words(inner)
    if "items" in node:
        _leave_to_words(node["items"])


def _has_parts(node: Schema) -> bool:
    return "properties" in node.get("items", node)


def _leave_names_and_types(argument: Schema) -> None:
    parts = cast(Mapping[str, Schema], argument.get("items", argument)["properties"])
    for part in parts.values():
        for told in ("description", "minimum", "maximum"):
            part.pop(told, None)


def _leave_type(argument: Schema) -> None:
    # Open: the server checks what stands inside.
    inner = argument.get("items", argument)
    for told in ("properties", "required", "additionalProperties"):
        inner.pop(told, None)
    if inner is not argument:
        inner.pop("description", None)


class _Bare(GenerateJsonSchema):
    """Makes no defaults and titles, which would be dropped: they take as long as all the rest."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False


def output_schema(model: type[BaseModel]) -> Schema:
    """Return the portable schema of a tool's structured answer."""
    return _portable(model, closed=False)


def _portable(model: type[BaseModel], *, closed: bool) -> Schema:
    raw = model.model_json_schema(schema_generator=_Bare)
    definitions = cast(Mapping[str, Schema], raw.get("$defs", {}))
    schema = _simplify(raw, definitions, closed=closed)
    schema.pop("description", None)
    return schema


def _simplify(node: Schema, definitions: Mapping[str, Schema], *, closed: bool) -> Schema:
    if "$ref" in node:
        target = definitions[str(node["$ref"]).rsplit("/", 1)[-1]]
        # What is said where a model is used is truer than what is said of the model.
        return _simplify(
            {**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions, closed=closed
        )
    if "anyOf" in node:
        branches = [branch for branch in cast(list[Schema], node["anyOf"]) if branch.get("type") != "null"]
        rest = {name: value for name, value in node.items() if name != "anyOf"}
        return _simplify({**branches[0], **rest}, definitions, closed=closed)
    schema: Schema = {}
    for name, value in node.items():
        if name in _DROPPED or (name == "additionalProperties" and not closed):
            continue
        if name == "properties":
            schema[name] = {
                field: _simplify(cast(Schema, inner), definitions, closed=closed)
                for field, inner in cast(Schema, value).items()
            }
        elif name == "items":
            schema[name] = _simplify(cast(Schema, value), definitions, closed=closed)
        elif name == "const":
            schema["enum"] = [value]
        else:
            schema[name] = value
    if closed and schema.get("type") == "object":
        schema["additionalProperties"] = False
    return schema
