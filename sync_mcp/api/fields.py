"""The fields of a create: how the API spells them, what it takes by default, what they decide.

What is sent, what counts as the same create, and what is copied from a request all go by these tables, which
are made of the models (`models.py`), where each field is declared once. Whatever else spells the fields (the
tools' arguments, the sandbox) is compared with them by `tests/payments/test_fields.py`, which says what a new
field still needs.

The idempotency key is no field: it stands in a header, and follows from the fields that count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from sync_mcp.api.declared import Declared, Role
from sync_mcp.api.models import (
    ActiveSpeaker,
    Dub,
    GenerationOptions,
    GenerationRequest,
    RequestFields,
    Segment,
    SegmentAudioInput,
    SegmentOptions,
    Text,
    Video,
)


@dataclass(frozen=True, slots=True)
class WireField:
    """One field of a create.

    Attributes:
        wire: its name on the wire.
        default: the value that the API takes where it is left out, as `Declared` has it.
        role: what it decides.
    """

    wire: str
    default: str | float | bool | None = None
    role: Role = "makes"


Fields = Mapping[str, WireField]
"""The fields of one object by their names in Python."""


def _table(model: type[BaseModel], wires: Mapping[str, str] | None = None) -> Fields:
    """Return the fields of a model, or those of `wires`, which names them by their names on the wire."""
    known = model.model_fields
    names = wires or {field.alias or name: name for name, field in known.items()}
    table: dict[str, WireField] = {}
    for wire, name in names.items():
        declared = next((one for one in known[name].metadata if isinstance(one, Declared)), Declared())
        table[name] = WireField(wire, declared.default, declared.role)
    return table


REQUEST = _table(GenerationRequest)
"""The body of a create (API §3.1)."""

EXTRAS: Mapping[str, str] = {
    REQUEST[name].wire: name for name in RequestFields.__annotations__ if REQUEST[name].role != "makes"
}
"""The names in Python, by those on the wire, of what says what becomes of the result, not what is made."""

MEDIA = _table(Video)
"""A video, an image or a recording (API §3.1.1)."""

VOICE = _table(Text, Text.PROVIDER_FIELDS)
"""What stands inside `provider` of a script."""

TEXT = _table(Text, {"type": "type", "refId": "ref_id"})
"""What stands beside `provider` of a script."""

SPEAKER = _table(ActiveSpeaker)
"""Who speaks (API §3.1.2)."""

OPTIONS = _table(GenerationOptions)
"""The options of the whole (API §3.1.2)."""

SEGMENT_OPTIONS = _table(SegmentOptions)
SEGMENT = _table(Segment)
"""A part of the video and its voice (API §3.1.3)."""

SEGMENT_AUDIO = _table(SegmentAudioInput)

DUB = _table(Dub)
"""The languages of a dub (API §3.1.4)."""


def defaults_of(fields: Fields) -> Mapping[str, object]:
    """Return what the API takes where a field is left out, by its name on the wire."""
    return {field.wire: field.default for field in fields.values() if field.default is not None}
