"""A tool's arguments as assistants send them, made into its pydantic model.

Strict where a slip would cost money: a name that the tool does not have is a fault. Forgiving where the
meaning is plain: camelCase names, arrays and objects sent as JSON strings, null and "" for what may be left
out, another case of an enum's word, and what `forgiving` takes off. All faults are reported together.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, TypeVar, cast

from annotated_types import Le
from pydantic import BaseModel, ConfigDict, ValidationError

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import clean, did_you_mean, near
from sync_mcp.tools.forgiving import interpret, stands_for_nothing
from sync_mcp.tools.schema import Schema

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# JSON can spell half a surrogate pair, which no API takes.
_BROKEN_TEXT = re.compile("[\ud800-\udfff]")
_PLAIN = {"number": "a number", "integer": "a whole number", "boolean": "true or false"}
_KINDS = {"array": "a JSON array", "object": "a JSON object", **_PLAIN}
# Never taken for one: the value of an option decides what is paid for.
_LEFT_OUT = ("none", "null", "undefined", "default")
_MOST_FAULTS = 12
MOST_NAMES = 200
"""How many names one object may have; of a text with more nothing is looked at."""
_SHOWN_VALUE = 60
_LIKE_ELSEWHERE = 0.8
# More than their most of these only asks for the most there is.
_CUT_TO_MOST = ("wait_seconds", "limit")
_INDEX = re.compile(r"\[\d+\]")
_OF_MEDIA = re.compile(r"(?:video|image|audio|media|source|face|voice|speech)_(?P<name>url|path|asset_id)")
_MEDIA = ("video", "image", "audio", "text", "video_file", "image_file", "audio_file", "media")


class Arguments(BaseModel):
    """Base of every model of arguments; the fields are the tool's own names."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


_ArgumentsT = TypeVar("_ArgumentsT", bound=Arguments)


def parse_arguments(
    model: type[_ArgumentsT], schema: Schema, given: Mapping[str, object], other_names: Mapping[str, str]
) -> tuple[_ArgumentsT, list[str]]:
    """Return `given` as `model`, and a sentence for each value that was cut; `schema` is its portable schema.

    `other_names` are further spellings of top-level names that are accepted (`{"id": "generation_id"}`).

    Raises:
        InvalidRequestError: a sentence for every fault.
    """
    reader = _Reader(schema)
    plain = reader.read_values(dict(given), schema, "", other_names)
    notes = _cut_to_most(model, plain)
    known_faults = list(reader.faults)
    try:
        parsed = model.model_validate(plain)
    except ValidationError as error:
        faults = [*known_faults, *_sentences(error, reader.places)]
        raise InvalidRequestError(faults[:_MOST_FAULTS]) from None
    if known_faults:
        raise InvalidRequestError(known_faults[:_MOST_FAULTS])
    return parsed, notes


def _cut_to_most(model: type[Arguments], plain: dict[str, object]) -> list[str]:
    notes: list[str] = []
    for name in _CUT_TO_MOST:
        field, number = model.model_fields.get(name), _number(plain.get(name))
        most = next((told.le for told in field.metadata if isinstance(told, Le)), None) if field else None
        if isinstance(most, int | float) and number is not None and number > most:
            plain[name] = most
            notes.append(f"{name} {number:g} was taken as {most:g}, the most of one call.")
    return notes


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class _Reader:
    """Walks the arguments along the schema, and notes what is at fault."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.faults: list[str] = []
        self.places: set[str] = set()
        """Places that already have a sentence; the model need not complain of them again."""

    def value(self, value: object, schema: Schema, place: str) -> object:
        kind = schema.get("type")
        if kind in ("object", "array") and isinstance(value, str):
            value = self._from_json(value, schema, place)
        if kind == "object" and isinstance(value, Mapping):
            return self.read_values(dict(cast(Mapping[str, object], value)), schema, place, {})
        if kind == "array" and isinstance(value, Sequence) and not isinstance(value, str):
            items = cast(Sequence[object], value)
            return [self.value(item, schema["items"], f"{place}[{n}]") for n, item in enumerate(items)]
        if isinstance(value, str) and "enum" in schema:
            return self._word(value, schema["enum"], place)
        if isinstance(value, str) and _BROKEN_TEXT.search(value):
            self._fault(place, f"{place} holds half characters that no text has: write it anew.")
        if isinstance(value, bool) and kind in ("number", "integer"):
            self._fault(place, f"{place} must be {_KINDS[kind]}, not {str(value).lower()}.")
        return value

    def read_values(
        self, given: dict[str, object], schema: Schema, place: str, other_names: Mapping[str, str]
    ) -> dict[str, object]:
        if len(given) > MOST_NAMES:
            told = f"{len(given):,} names in {place or 'the arguments'}"
            raise InvalidRequestError([f"There are {told}: more than {MOST_NAMES} are not looked at."])
        properties = cast(Mapping[str, Schema], schema.get("properties", {}))
        required = cast(Sequence[str], schema.get("required", ()))
        read: dict[str, object] = {}
        for spelled, value in given.items():
            name = _snake(spelled, properties)
            name = other_names.get(name, name)
            where = f"{place}.{name}" if place else name
            if name not in properties:
                # To look for a near name takes its time, and no more faults than these are told.
                hint = self._hint(name[:80], properties, place) if len(self.faults) < _MOST_FAULTS else "."
                self._fault(where, f"There is no argument {clean(where, 80)!r}{hint}")
            elif stands_for_nothing(name, value, in_options="options" in place):
                continue
            elif name not in required and self._is_left_out_in_words(value, properties[name], place):
                wanted = _kind_of_value(properties[name])
                shown = clean(str(value), _SHOWN_VALUE)
                self._fault(where, f"{where} must be {wanted}, not {shown!r}; leave it out for the default.")
            else:
                said = self.value(interpret(name, value), properties[name], where)
                if read.setdefault(name, said) != said:
                    self._fault(where, f"{where} is given twice with different values: keep one.")
        return read

    def _is_left_out_in_words(self, value: object, schema: Schema, place: str) -> bool:
        """Return whether a word says that there is no value where an option or one of some words is due."""
        takes_words = "enum" in schema or ("options" in place and schema.get("type") in _PLAIN)
        return takes_words and isinstance(value, str) and value.strip().casefold() in _LEFT_OUT

    def _hint(self, name: str, properties: Mapping[str, Schema], place: str) -> str:
        """Return the end of a sentence that names what was meant, with its place where that is another."""
        here = _INDEX.sub("[]", place)
        elsewhere = self._places.get(name, ())
        below = [known for known in elsewhere if known.startswith(here)]
        media = _OF_MEDIA.fullmatch(name)
        if elsewhere:
            return did_you_mean((below or elsewhere)[0])
        if media and "input" in self._schema.get("properties", {}):
            return did_you_mean(f"input[].{media['name']}")
        if name in _MEDIA and "input" in properties:
            return did_you_mean("input")
        told = near(name, properties)
        like = get_close_matches(name, self._places, n=1, cutoff=_LIKE_ELSEWHERE) if told == "." else ()
        return did_you_mean(self._places[like[0]][0]) if like else told

    @cached_property
    def _places(self) -> Mapping[str, Sequence[str]]:
        """Where each name stands, the outer places first."""
        places: dict[str, list[str]] = {}
        for place in sorted(_places_in(self._schema, ""), key=lambda place: place.count(".")):
            places.setdefault(place.rpartition(".")[2].removesuffix("[]"), []).append(place)
        return places

    def _from_json(self, text: str, schema: Schema, place: str) -> object:
        try:
            return cast(object, json.loads(text))
        except (ValueError, RecursionError):
            # A list of plain words needs no brackets to be understood.
            if schema.get("type") == "array" and schema["items"].get("type") == "string":
                return [word.strip() for word in text.split(",") if word.strip()]
            self._fault(place, f"{place} must be {_KINDS[schema['type']]}; the text given is not valid JSON.")
            return text

    def _word(self, value: str, words: Sequence[str], place: str) -> str:
        for word in words:
            if value.strip().casefold().replace("-", "_") == word.casefold().replace("-", "_"):
                return word
        shown = clean(value, _SHOWN_VALUE)
        self._fault(place, f"{place} must be {_one_of(words)}, not {shown!r}{near(value[:80], words)}")
        return words[0]

    def _fault(self, place: str, sentence: str) -> None:
        self.faults.append(sentence)
        self.places.add(place)


def _kind_of_value(schema: Schema) -> str:
    return _one_of(schema["enum"]) if "enum" in schema else _PLAIN[schema["type"]]


def _one_of(words: Sequence[str]) -> str:
    return f"one of {', '.join(words)}"


def _places_in(schema: Schema, place: str) -> Iterator[str]:
    """Yield the place of every name inside a schema: `input[].url`."""
    for name, inner in cast(Mapping[str, Schema], schema.get("properties", {})).items():
        where = f"{place}.{name}" if place else name
        yield where
        items = cast(Schema | None, inner.get("items"))
        yield from _places_in(items, f"{where}[]") if items else _places_in(inner, where)


def _snake(name: str, properties: Mapping[str, Any]) -> str:
    if name in properties:
        return name
    return _WORD_START.sub("_", name).replace("-", "_").lower()


_WANTED = {
    "int_": "a whole number",
    "float_": "a number",
    "decimal_": "a number",
    "bool_": "true or false",
    "string_": "a text",
    "list_": "an array",
    "model_": "an object",
    "dict_": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _sentences(error: ValidationError, told: set[str]) -> list[str]:
    sentences: list[str] = []
    for fault in error.errors(include_url=False, include_input=False):
        place = ""
        for part in fault["loc"]:
            place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
        if place not in told:
            sentences.append(_sentence(place, fault["type"], cast(Mapping[str, Any], fault.get("ctx", {}))))
    return sentences


def _sentence(place: str, kind: str, context: Mapping[str, Any]) -> str:
    if kind == "missing":
        return f"{place} is missing."
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{place} must be {words} {context[name]:g}."
    if kind in ("too_long", "string_too_long"):
        return f"{place} may hold at most {context['max_length']}."
    if kind in ("too_short", "string_too_short"):
        return f"{place} must hold at least {context['min_length']}."
    if kind == "finite_number":
        return f"{place} must be a finite number."
    if kind == "literal_error":
        return f"{place} must be one of {context['expected']}."
    wanted = next((words for prefix, words in _WANTED.items() if kind.startswith(prefix)), "of another type")
    return f"{place} must be {wanted}."
