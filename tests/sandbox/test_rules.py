import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import Json, audio, code_of, create, image, lipsync, text, video

INVALID = "generation_input_validation_failed"
SEGMENTS = "generation_input_segments_invalid"
FACE = "generation_input_face_selection_invalid"


def _segment(start: float, end: float, ref: str = "a", **crop: float) -> Json:
    return {"startTime": start, "endTime": end, "audioInput": {"refId": ref, **crop}}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"model": "lipsync-9"}, "model"),
        ({"model": None}, "model"),
        ({"input": []}, "input"),
        ({"input": [{"type": "hologram"}]}, "input[0]"),
        ({"input": [{"type": "text", "provider": {"voiceId": "v"}}]}, "input[0].provider.script"),
        ({"options": {"sync_mode": "backwards"}}, "options.sync_mode"),
        ({"options": {"temperature": 1.5}}, "options.temperature"),
        ({"options": {"active_speaker_detection": {"coordinates": [1]}}}, "options.active_speaker_detection"),
        ({"segments": [{"startTime": 0}]}, "segments[0].endTime"),
        ({"webhookUrl": "http://example.com/"}, "webhookUrl"),
        ({"outputFileName": "x" * 256}, "outputFileName"),
        ({"projectId": "mine"}, "projectId"),
        ({"dubParams": {"targetLang": "klingon"}}, "dubParams.targetLang"),
    ],
)
def test_a_misshapen_body_is_400_and_the_place_is_named(
    sandbox: Sandbox, api: httpx.Client, change: Json, place: str
) -> None:
    response = api.post("/v2/generate", json=lipsync(sandbox) | change)
    body = response.json()
    assert (response.status_code, body["error"]) == (400, "Bad Request")
    assert any(message.startswith(place) for message in body["message"]), body
    assert sandbox.charges == []


def test_all_faults_of_the_shape_are_told_together(sandbox: Sandbox, api: httpx.Client) -> None:
    body = lipsync(sandbox, webhookUrl=7, options={"temperature": "hot"})
    assert len(api.post("/v2/generate", json=body).json()["message"]) == 2


def test_semantic_faults_have_their_code_and_field(sandbox: Sandbox, api: httpx.Client) -> None:
    seen, heard = video(sandbox), audio(sandbox)
    named = [seen, audio(sandbox, refId="a"), text(refId="b")]
    cases: list[tuple[Json, int, str, str]] = [
        ({"input": [seen, seen, heard]}, 422, "generation_input_too_many_visual", "input"),
        ({"input": [heard]}, 422, INVALID, "input"),
        ({"input": [seen]}, 422, INVALID, "input"),
        ({"input": [seen, heard, heard]}, 422, INVALID, "input"),
        ({"input": [{"type": "video"}, heard]}, 422, INVALID, "input[0]"),
        ({"input": [seen, text("x" * 5001)]}, 422, INVALID, "input[1].provider.script"),
        ({"input": [image(sandbox), heard]}, 422, "generation_unsupported_model", "model"),
        ({"projectId": "00000000-0000-4000-8000-000000000000"}, 422, "project_not_found", "projectId"),
        ({"dubParams": {"targetLang": "es"}}, 422, "generation_input_dub_audio_conflict", "input"),
        (
            {"input": [{"type": "video", "assetId": "x"}, heard]},
            400,
            "invalid_asset_id_format",
            "input[0].assetId",
        ),
        ({"input": [seen, heard], "segments": [_segment(0, 1)]}, 422, SEGMENTS, "input"),
        ({"input": named, "segments": [_segment(0, 1, "c")]}, 422, SEGMENTS, "segments[0].audioInput.refId"),
        ({"input": named, "segments": [_segment(0, 2), _segment(1, 3)]}, 422, SEGMENTS, "segments"),
        ({"input": named, "segments": [_segment(2, 1)]}, 422, SEGMENTS, "segments[0]"),
        ({"input": named, "segments": [_segment(7, 8)]}, 422, SEGMENTS, "segments[0]"),
        (
            {"input": named, "segments": [_segment(0, 1, startTime=1)]},
            422,
            "generation_input_trim_invalid",
            "segments[0].audioInput",
        ),
        (
            {"input": named, "segments": [_segment(0, 1, startTime=60, endTime=61)]},
            422,
            "generation_input_trim_invalid",
            "segments[0].audioInput",
        ),
        (
            {"options": {"active_speaker_detection": {"frame_number": 0, "coordinates": [900, 10]}}},
            422,
            FACE,
            "options.active_speaker_detection.coordinates",
        ),
        (
            {"options": {"active_speaker_detection": {"coordinates": [10, 10]}}},
            422,
            FACE,
            "options.active_speaker_detection",
        ),
        (
            {
                "model": "sync-3",
                "input": [image(sandbox), heard],
                "options": {"active_speaker_detection": True},
            },
            422,
            FACE,
            "options.active_speaker_detection.auto_detect",
        ),
    ]
    for change, status, code, field in cases:
        response = api.post("/v2/generate", json=lipsync(sandbox) | change)
        assert (*code_of(response), response.json().get("field")) == (status, code, field), change
    assert sandbox.charges == []


def test_options_that_the_model_does_not_have_and_unknown_fields_are_ignored(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    options = {
        "model_mode": "head",
        "blending_mode": "soft",
        "active_speaker_detection": {"auto_detect": True},
    }
    generation = create(api, lipsync(sandbox, options=options, novelty=1))
    assert generation["options"] == options


def test_an_empty_url_or_name_counts_as_left_out(sandbox: Sandbox, api: httpx.Client) -> None:
    items = [video(sandbox, assetId=""), audio(sandbox, refId=None)]
    assert create(api, lipsync(sandbox, input=items, outputFileName=""))["outputFileName"] is None


def test_an_output_file_name_is_rewritten(sandbox: Sandbox, api: httpx.Client) -> None:
    assert (
        create(api, lipsync(sandbox, outputFileName="my clip: (final)"))["outputFileName"] == "my_clip_final"
    )
