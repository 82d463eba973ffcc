"""What every model of the wire is: read leniently, kept whole, and spelled as the API spells it.

Python spells every name in snake_case. The API spells most in camelCase and those inside `options` in
snake_case; the two base classes below are the only place that knows which. Reading is lenient: unknown
fields are kept, unknown enum values pass, `""` and null mean absent, and an optional field that does not
parse is kept as it came.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

logger = logging.getLogger("sync_mcp.api")

Json = dict[str, Any]


class _Wire(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        protected_namespaces=(),
        # Kept: as null it would pass for a value that was left out.
        ser_json_inf_nan="constants",
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        fields = cast(Mapping[str, object], data)
        return {name: value for name, value in fields.items() if value is not None and value != ""}

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read an answer of the API, keeping an optional field that does not parse as it came.

        Raises:
            pydantic.ValidationError: a required field is missing or unreadable.
        """
        model, unreadable = cls._read(data)
        if unreadable:
            logger.warning("unreadable fields in %s: %s", cls.__name__, ", ".join(sorted(unreadable)))
        return model

    @classmethod
    def list_from_wire(cls, entries: Sequence[object]) -> list[Self]:
        """Read a list of the API's, without the entries that cannot be read; one line says how many."""
        models: list[Self] = []
        unreadable: Counter[str] = Counter()
        for entry in entries:
            try:
                model, fields = cls._read(entry)
            except ValidationError:
                continue
            models.append(model)
            unreadable.update(fields)
        lost = len(entries) - len(models)
        if lost:
            logger.warning("%d of %d entries cannot be read as %s", lost, len(entries), cls.__name__)
        if unreadable:
            told = ", ".join(f"{name} ({count})" for name, count in sorted(unreadable.items()))
            logger.warning("unreadable fields in a list of %s: %s", cls.__name__, told)
        return models

    @classmethod
    def _read(cls, data: object) -> tuple[Self, set[str]]:
        """Return what was read, and the names of the fields that could not be."""
        try:
            return cls.model_validate(data), set()
        except ValidationError as error:
            if not isinstance(data, Mapping):
                raise
            fields = cast(Mapping[str, object], data)
            faults = error.errors(include_url=False, include_input=False)
            unreadable = {str(fault["loc"][0]) for fault in faults if fault["loc"]} & fields.keys()
            readable = {name: value for name, value in fields.items() if name not in unreadable}
            if not unreadable:
                raise
            # Anew: a second spelling of the same field may be unreadable too.
            model, more = cls._read(readable)
            # Kept beside the typed fields, so that nothing the API said is lost.
            extra = model.__pydantic_extra__
            if extra is not None:
                extra.update({name: fields[name] for name in unreadable})
            return model, unreadable | more

    def to_wire(self) -> Json:
        """Return the JSON object as the API spells it, without empty fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class CamelModel(_Wire):
    """An object that the API spells in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class SnakeModel(_Wire):
    """An object that the API spells in snake_case: everything inside `options`."""
