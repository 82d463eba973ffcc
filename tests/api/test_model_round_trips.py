import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, strategies as st
from pydantic import BaseModel

from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.models import (
    ActiveSpeaker,
    CamelModel,
    Generation,
    GenerationOptions,
    Segment,
    SegmentAudioInput,
    SnakeModel,
    Text,
    Video,
)

Wire = dict[str, Any]
Model = CamelModel | SnakeModel

JOB: Wire = {"id": "6533643b-aceb-4c40-967e-d9ba9baac39e", "status": "PROCESSING"}

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_PRESENT = _JSON.filter(lambda value: value is not None and value != "")

READERS: dict[str, tuple[type[Model], Wire, Callable[[Wire], Wire]]] = {
    "generation": (Generation, {**JOB, "input": []}, lambda wire: wire),
    "options": (
        Generation,
        {**JOB, "input": [], "options": {"sync_mode": "loop", "active_speaker_detection": {"v3": True}}},
        lambda wire: wire["options"],
    ),
    "speaker": (
        Generation,
        {**JOB, "input": [], "options": {"active_speaker_detection": {"v3": True}}},
        lambda wire: wire["options"]["active_speaker_detection"],
    ),
    "video": (
        Generation,
        {**JOB, "input": [{"type": "video", "url": "u", "refId": "r"}]},
        lambda wire: wire["input"][0],
    ),
    "text": (
        Generation,
        {**JOB, "input": [{"type": "text", "provider": {"name": "elevenlabs", "script": "s"}}]},
        lambda wire: wire["input"][0],
    ),
    "provider": (
        Generation,
        {**JOB, "input": [{"type": "text", "provider": {"name": "elevenlabs", "script": "s"}}]},
        lambda wire: wire["input"][0]["provider"],
    ),
    "segment": (
        Generation,
        {**JOB, "input": [], "segments": [{"startTime": 0, "endTime": 1, "audioInput": {"refId": "a"}}]},
        lambda wire: wire["segments"][0]["audioInput"],
    ),
    "model": (ModelInfo, {"name": "m"}, lambda wire: wire),
    "error": (ErrorInfo, {"code": "c"}, lambda wire: wire),
}


def _names(model: type[BaseModel]) -> set[str]:
    return {name for field in model.model_fields.items() for name in (field[0], field[1].alias or "")}


_READ = (Generation, GenerationOptions, ActiveSpeaker, Video, Text, Segment, SegmentAudioInput, ModelInfo)
_KNOWN = {name for model in _READ for name in _names(model)} | {"code", "message", "suggestion"}
_PROVIDER_NAMES = {"provider", "name", "voiceId", "similarityBoost"}


@given(
    reader=st.sampled_from(sorted(READERS)),
    new=st.dictionaries(
        st.text().filter(lambda name: name not in _KNOWN | _PROVIDER_NAMES), _PRESENT, max_size=4
    ),
)
def test_fields_that_nobody_knows_survive_a_round_trip(reader: str, new: Wire) -> None:
    model, wire, place = READERS[reader]
    told = json.loads(json.dumps(wire))
    place(told).update(new)
    assert model.from_wire(told).to_wire() == told


@given(st.dictionaries(st.sampled_from(sorted(_KNOWN - {"id", "status"})) | st.text(), _JSON))
def test_no_answer_with_an_id_and_a_status_is_lost_or_shortened(told: Wire) -> None:
    told |= JOB
    generation = Generation.from_wire(json.loads(json.dumps(told)))
    assert (generation.id, generation.status) == (JOB["id"], JOB["status"])
    wire = generation.to_wire()
    missing = {name for name, value in told.items() if value not in (None, "")} - wire.keys()
    assert {_camel(name) for name in missing} <= wire.keys()
    assert Generation.from_wire(wire).to_wire() == wire


def _camel(name: str) -> str:
    field = Generation.model_fields.get(name)
    return field.alias or name if field else name


@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["video", "image", "audio", "text", "other", 5, None])},
            optional={"provider": _JSON, "url": _JSON, "refId": _JSON, "script": _JSON, "new": _JSON},
        )
        | _JSON,
        max_size=3,
    )
)
def test_no_input_that_the_api_shows_hides_a_job(items: list[object]) -> None:
    generation = Generation.from_wire({**JOB, "input": items})
    assert generation.id == JOB["id"]
    wire = generation.to_wire()
    assert len(wire["input"]) == len(items)
    assert Generation.from_wire(wire).to_wire() == wire
