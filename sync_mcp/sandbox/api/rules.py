"""The sense of a create's body (API §3.1): what goes with what, before any media are looked at."""

from collections.abc import Container, Sequence
from itertools import pairwise

from sync_mcp.sandbox.api.catalogue import Refusal, refusal
from sync_mcp.sandbox.api.contract import CreateBody, MediaItem, SegmentItem, TextItem
from sync_mcp.sandbox.api.voices import is_voice
from sync_mcp.sandbox.settings import SandboxSettings

SCRIPT_LIMIT = 5000
_INVALID = "generation_input_validation_failed"
_SEGMENTS = "generation_input_segments_invalid"


def check(
    create: CreateBody, settings: SandboxSettings, project_ids: Container[str], clones: Container[str]
) -> None:
    """Check what can be told from the body alone.

    Raises:
        Refusal: 422 for the first rule that it breaks, 402 for what the plan does not include.
    """
    _check_visuals(create)
    if create.dialogue_edit:
        _check_dialogue_edit(create)
    elif create.dub_params:
        _check_dub(create)
    else:
        _check_voices(create)
    _check_items(create, clones)
    _check_segments(create)
    _check_face(create)
    if create.project_id is not None and create.project_id not in project_ids:
        raise refusal("project_not_found", field="projectId")
    _check_plan(create, settings)


def _invalid(message: str, field: str) -> Refusal:
    return refusal(_INVALID, message=message, field=field)


def _check_visuals(create: CreateBody) -> None:
    visuals = create.visuals
    if len(visuals) > 1:
        raise refusal("generation_input_too_many_visual", field="input")
    if not visuals:
        raise _invalid("There is no video or image to work on.", "input")
    if visuals[0].type == "image" and (create.model != "sync-3" or create.dub_params):
        raise refusal("generation_unsupported_model", field="model")


def _check_dialogue_edit(create: CreateBody) -> None:
    if create.voices or create.segments or create.dub_params:
        raise refusal("dialogue_edit_audio_conflict", field="input")
    if create.visuals[0].type != "video":
        raise _invalid("A dialogue edit is rendered into its video.", "input")
    if create.model != "sync-3":
        raise refusal("generation_unsupported_model", field="model")


def _check_dub(create: CreateBody) -> None:
    if create.voices:
        raise refusal("generation_input_dub_audio_conflict", field="input")
    if create.segments:
        raise _invalid("A dub is made of the whole video: segments do not go with it.", "segments")


def _check_voices(create: CreateBody) -> None:
    voices = create.voices
    if not voices:
        raise _invalid("There is no voice: add an audio or text input.", "input")
    if len(voices) > 1 and not create.segments:
        raise _invalid("More than one audio or text input needs segments.", "input")


def _check_items(create: CreateBody, clones: Container[str]) -> None:
    for number, item in enumerate(create.input):
        field = f"input[{number}]"
        if isinstance(item, TextItem):
            if len(item.provider.script) > SCRIPT_LIMIT:
                message = f"The script is longer than {SCRIPT_LIMIT} characters."
                raise _invalid(message, f"{field}.provider.script")
            if not is_voice(item.provider.voice_id, clones):
                raise refusal("voice_not_found", field=f"{field}.provider.voiceId")
        elif item.url is None and item.asset_id is None:
            raise _invalid("The input has neither url nor assetId.", field)


def _check_segments(create: CreateBody) -> None:
    segments = create.segments
    if not segments:
        return
    names = [voice.ref_id for voice in create.voices]
    if None in names or len(set(names)) != len(names):
        message = "With segments, every audio and text input needs a refId of its own."
        raise refusal(_SEGMENTS, message=message, field="input")
    for number, segment in enumerate(segments):
        _check_segment(segment, f"segments[{number}]", names)
    ordered = sorted(segments, key=lambda segment: segment.start_time)
    if any(later.start_time < earlier.end_time for earlier, later in pairwise(ordered)):
        raise refusal(_SEGMENTS, message="Segments overlap.", field="segments")


def _check_segment(segment: SegmentItem, field: str, names: Sequence[str | None]) -> None:
    if segment.start_time < 0 or segment.end_time < segment.start_time:
        raise refusal(_SEGMENTS, message="A segment ends before it starts.", field=field)
    voice = segment.audio_input
    if voice.ref_id not in names:
        message = f"No audio or text input has the refId {voice.ref_id}."
        raise refusal(_SEGMENTS, message=message, field=f"{field}.audioInput.refId")
    start, end = voice.start_time, voice.end_time
    if (start is None) != (end is None):
        message = "startTime and endTime of audioInput go together."
        raise refusal("generation_input_trim_invalid", message=message, field=f"{field}.audioInput")
    if start is not None and end is not None and not 0 <= start < end:
        raise refusal("generation_input_trim_invalid", field=f"{field}.audioInput")


def _check_face(create: CreateBody) -> None:
    speaker = create.options.active_speaker_detection if create.options else None
    if speaker is None:
        return
    field = "options.active_speaker_detection"
    code = "generation_input_face_selection_invalid"
    if speaker.auto_detect and create.visuals[0].type == "image":
        message = "A face in an image cannot be found automatically."
        raise refusal(code, message=message, field=f"{field}.auto_detect")
    if (speaker.coordinates is None) != (speaker.frame_number is None):
        raise refusal(code, message="coordinates and frame_number go together.", field=field)


def _check_plan(create: CreateBody, settings: SandboxSettings) -> None:
    if create.model == "react-1" and settings.plan == "free":
        raise refusal("plan_feature_unavailable", message="The plan does not include react-1.", field="model")
    speaker = create.options.active_speaker_detection if create.options else None
    picks = speaker is not None and any(value not in (None, False) for _, value in speaker)
    if picks and create.model != "react-1" and not settings.limits.picks_speaker:
        message = "The plan does not include active speaker detection."
        raise refusal("plan_feature_unavailable", message=message, field="options.active_speaker_detection")


def media_items(create: CreateBody) -> list[tuple[str, MediaItem]]:
    """Return the video, image and audio inputs with their place in the body."""
    return [(f"input[{n}]", item) for n, item in enumerate(create.input) if isinstance(item, MediaItem)]
