import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.models import (
    ActiveSpeaker,
    Audio,
    CamelModel,
    Dub,
    Generation,
    GenerationOptions,
    GenerationRequest,
    Image,
    Segment,
    SegmentAudioInput,
    SegmentOptions,
    SnakeModel,
    Text,
    Video,
)

Wire = dict[str, Any]
Model = CamelModel | SnakeModel

# Each model as Python spells it, and as the API does.
SPELLINGS: list[tuple[Model, Wire]] = [
    (
        Video(url="https://h/v.mp4", asset_id="a", ref_id="r"),
        {"type": "video", "url": "https://h/v.mp4", "assetId": "a", "refId": "r"},
    ),
    (Image(asset_id="a"), {"type": "image", "assetId": "a"}),
    (Audio(url="https://h/a.wav", ref_id="r"), {"type": "audio", "url": "https://h/a.wav", "refId": "r"}),
    (
        Text(script="Hi.", voice_id="v", stability=0.1, similarity_boost=0.2, ref_id="r"),
        {
            "type": "text",
            "provider": {
                "name": "elevenlabs",
                "voiceId": "v",
                "script": "Hi.",
                "stability": 0.1,
                "similarityBoost": 0.2,
            },
            "refId": "r",
        },
    ),
    (
        GenerationOptions(
            sync_mode="loop",
            temperature=0.5,
            active_speaker_detection=ActiveSpeaker(
                auto_detect=False,
                v3=True,
                frame_number=0,
                coordinates=[1, 2],
                bounding_boxes=[[1, 2, 3, 4], None],
                bounding_boxes_url="https://h/b.json",
            ),
            occlusion_detection_enabled=True,
            model_mode="face",
            prompt="happy",
            reasoning_enabled=False,
        ),
        {
            "sync_mode": "loop",
            "temperature": 0.5,
            "active_speaker_detection": {
                "auto_detect": False,
                "v3": True,
                "frame_number": 0,
                "coordinates": [1, 2],
                "bounding_boxes": [[1, 2, 3, 4], None],
                "bounding_boxes_url": "https://h/b.json",
            },
            "occlusion_detection_enabled": True,
            "model_mode": "face",
            "prompt": "happy",
            "reasoning_enabled": False,
        },
    ),
    (
        Segment(
            start_time=0,
            end_time=1.5,
            audio_input=SegmentAudioInput(ref_id="a1", start_time=0, end_time=1.5),
            options_override=SegmentOptions(
                sync_mode="loop",
                temperature=0.4,
                occlusion_detection_enabled=False,
                active_speaker_detection=ActiveSpeaker(auto_detect=True),
            ),
        ),
        {
            "startTime": 0,
            "endTime": 1.5,
            "audioInput": {"refId": "a1", "startTime": 0, "endTime": 1.5},
            "optionsOverride": {
                "sync_mode": "loop",
                "temperature": 0.4,
                "occlusion_detection_enabled": False,
                "active_speaker_detection": {"auto_detect": True},
            },
        },
    ),
    (
        Dub(target_lang="es", source_lang="en"),
        {"targetLang": "es", "sourceLang": "en", "providerName": "elevenlabs"},
    ),
    (
        GenerationRequest(
            model="lipsync-2",
            input=[Video(url="https://h/v.mp4")],
            options=GenerationOptions(sync_mode="bounce"),
            segments=[Segment(start_time=0, end_time=1, audio_input=SegmentAudioInput(ref_id="a"))],
            webhook_url="https://h/x",
            output_file_name="o",
            project_id="p",
        ).model_copy(update={"dub": Dub(target_lang="es")}),
        {
            "model": "lipsync-2",
            "input": [{"type": "video", "url": "https://h/v.mp4"}],
            "options": {"sync_mode": "bounce"},
            "segments": [{"startTime": 0, "endTime": 1, "audioInput": {"refId": "a"}}],
            "webhookUrl": "https://h/x",
            "outputFileName": "o",
            "projectId": "p",
            "dubParams": {"targetLang": "es", "providerName": "elevenlabs"},
        },
    ),
    (
        Generation(
            id="g",
            status="FAILED",
            created_at=datetime(2026, 10, 2, 9, 30, tzinfo=UTC),
            model="lipsync-2",
            input=[Video(url="https://h/v.mp4")],
            options=GenerationOptions(sync_mode="loop"),
            segments=[Segment(start_time=0, end_time=1, audio_input=SegmentAudioInput(ref_id="a"))],
            webhook_url="https://h/x",
            output_url="https://h/o?s=1",
            output_duration=4.5,
            segment_output_url="https://h/s",
            output_file_name="o",
            project_id="p",
            synthesized_audio_url="https://h/t",
            error="No.",
            error_code="controller_error",
            progress_percent=50,
        ),
        {
            "id": "g",
            "status": "FAILED",
            "createdAt": "2026-10-02T09:30:00Z",
            "model": "lipsync-2",
            "input": [{"type": "video", "url": "https://h/v.mp4"}],
            "options": {"sync_mode": "loop"},
            "segments": [{"startTime": 0, "endTime": 1, "audioInput": {"refId": "a"}}],
            "webhookUrl": "https://h/x",
            "outputUrl": "https://h/o?s=1",
            "outputDuration": 4.5,
            "segmentOutputUrl": "https://h/s",
            "outputFileName": "o",
            "projectId": "p",
            "synthesizedAudioUrl": "https://h/t",
            "error": "No.",
            "errorCode": "controller_error",
            "progress_percent": 50,
        },
    ),
    (
        ModelInfo(
            id="m",
            name="sync-3",
            type="lipsync",
            version="1",
            description="d",
            deprecated_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
        {
            "id": "m",
            "name": "sync-3",
            "type": "lipsync",
            "version": "1",
            "description": "d",
            "deprecatedAt": "2026-01-01T00:00:00Z",
        },
    ),
    (ErrorInfo(code="c", message="m", suggestion="s"), {"code": "c", "message": "m", "suggestion": "s"}),
]
OF_A_REQUEST = (GenerationRequest, Image, Audio, Text)
EVERY_SPELLING = pytest.mark.parametrize(
    ("model", "wire"), SPELLINGS, ids=[type(model).__name__ for model, _ in SPELLINGS]
)


@EVERY_SPELLING
def test_a_model_is_sent_as_the_api_spells_it(model: Model, wire: Wire) -> None:
    assert model.to_wire() == wire
    # Every field is there, so that none can be misspelt unseen; the fields of a request are spelled by the
    # sandbox too, with which `tests/payments/test_fields.py` compares them.
    assert len(wire) >= len(type(model).model_fields) or isinstance(model, OF_A_REQUEST)
    json.dumps(model.to_wire())


@EVERY_SPELLING
def test_what_the_api_sends_is_read_back_into_the_same_model(model: Model, wire: Wire) -> None:
    assert type(model).from_wire(wire) == model


@EVERY_SPELLING
def test_a_model_is_also_made_from_names_as_python_spells_them(model: Model, wire: Wire) -> None:
    given = {name: getattr(model, name) for name in type(model).model_fields}
    assert type(model).model_validate(given) == model
