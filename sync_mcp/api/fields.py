"""The fields of a create, declared once: how the API spells them, what it takes by default, what they decide.

What is sent, what counts as the same create, and what is copied from a request all go by these tables.
Whatever else spells the fields (the models, the signatures, the tools' arguments, the sandbox) is compared
with them by `tests/payments/test_fields.py`, which says what a new field still needs.

The idempotency key is no field: it stands in a header, and follows from the fields that count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["makes", "names", "tells"]
"""What a field decides: what is *made*, so that another value is another create and another payment; what the
job is *named* and where it is filed; who is *told* of its end, which is a secret between the two."""


@dataclass(frozen=True, slots=True)
class WireField:
    """One field of a create.

    Attributes:
        wire: its name on the wire.
        default: the value that the API takes where it is left out, where one is documented; spelled out it
            means the same, so it does not count in the digest. One that was declared never changes: a digest
            rests on it.
        role: what it decides.
    """

    wire: str
    default: str | float | bool | None = None
    role: Role = "makes"


Fields = Mapping[str, WireField]
"""The fields of one object by their names in Python."""

REQUEST: Fields = {
    "model": WireField("model"),
    "input": WireField("input"),
    "options": WireField("options"),
    "segments": WireField("segments"),
    "dub": WireField("dubParams"),
    "output_file_name": WireField("outputFileName", role="names"),
    "webhook_url": WireField("webhookUrl", role="tells"),
    "project_id": WireField("projectId", role="names"),
}
"""The body of a create (API §3.1)."""

BESIDE_THE_REQUEST = ("take", "request_options")
"""What a create takes that is no field of its body."""

EXTRAS: Mapping[str, str] = {field.wire: name for name, field in REQUEST.items() if field.role != "makes"}
"""The names in Python, by those on the wire, of what says what becomes of the result, not what is made."""

MEDIA: Fields = {
    "type": WireField("type"),
    "url": WireField("url"),
    "asset_id": WireField("assetId"),
    "ref_id": WireField("refId"),
}
"""A video, an image or a recording (API §3.1.1)."""

VOICE: Fields = {
    "provider_name": WireField("name"),
    "voice_id": WireField("voiceId"),
    "script": WireField("script"),
    "stability": WireField("stability", default=0.5),
    "similarity_boost": WireField("similarityBoost", default=0.75),
}
"""What stands inside `provider` of a script."""

TEXT: Fields = {"type": WireField("type"), "ref_id": WireField("refId")}
"""What stands beside `provider` of a script."""

SPEAKER: Fields = {
    "auto_detect": WireField("auto_detect", default=False),
    "v3": WireField("v3", default=False),
    "frame_number": WireField("frame_number"),
    "coordinates": WireField("coordinates"),
    "bounding_boxes": WireField("bounding_boxes"),
    "bounding_boxes_url": WireField("bounding_boxes_url"),
}
"""Who speaks (API §3.1.2)."""

OPTIONS: Fields = {
    "sync_mode": WireField("sync_mode", default="bounce"),
    "temperature": WireField("temperature", default=0.5),
    "active_speaker_detection": WireField("active_speaker_detection"),
    "occlusion_detection_enabled": WireField("occlusion_detection_enabled", default=False),
    "model_mode": WireField("model_mode", default="face"),
    "prompt": WireField("prompt"),
    "reasoning_enabled": WireField("reasoning_enabled", default=False),
}
"""The options of the whole (API §3.1.2)."""

# What is the default for the whole may be a change in a part: no field of a segment has one.
SEGMENT_OPTIONS: Fields = {
    name: replace(OPTIONS[name], default=None)
    for name in ("sync_mode", "temperature", "active_speaker_detection", "occlusion_detection_enabled")
}
SEGMENT: Fields = {
    "start_time": WireField("startTime"),
    "end_time": WireField("endTime"),
    "audio_input": WireField("audioInput"),
    "options_override": WireField("optionsOverride"),
}
"""A part of the video and its voice (API §3.1.3)."""

SEGMENT_AUDIO: Fields = {
    "ref_id": WireField("refId"),
    "start_time": WireField("startTime"),
    "end_time": WireField("endTime"),
}

DUB: Fields = {
    "target_lang": WireField("targetLang"),
    "source_lang": WireField("sourceLang", default="auto"),
    "provider_name": WireField("providerName"),
}
"""The languages of a dub (API §3.1.4)."""


def defaults_of(fields: Fields) -> Mapping[str, object]:
    """Return what the API takes where a field is left out, by its name on the wire."""
    return {field.wire: field.default for field in fields.values() if field.default is not None}
