"""The arguments of the generation tools, in the words that the model reads."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from sync_mcp.requests.model_purposes import MODEL_PURPOSES
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.schema import SAME, TOLD_IN_WORDS, only_with

LONGEST_WAIT_SECONDS = 50
USUAL_WAIT_SECONDS = 45
LONGEST_VIDEO_SECONDS = 24 * 3600
HIGHEST_FPS = 1000
HIGHEST_TAKE = 10_000
HIGHEST_USD = 1_000_000
DEFAULT_ROWS = 10
MOST_ROWS = 50
MOST_AWAITED = 50
MOST_TOGETHER = 20

Share = Annotated[float, Field(ge=0, le=1)]
# What is told elsewhere, or goes without saying, is checked all the same.
Take = Annotated[int, Field(ge=1, le=HIGHEST_TAKE), WithJsonSchema({"type": "integer"})]
VideoSeconds = Annotated[float, Field(gt=0, le=LONGEST_VIDEO_SECONDS), WithJsonSchema({"type": "number"})]
FramesPerSecond = Annotated[float, Field(gt=0, le=HIGHEST_FPS), WithJsonSchema({"type": "number"})]
SameWaitSeconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS), WithJsonSchema({"type": "number"})]
Dollars = Annotated[Decimal, Field(ge=0, le=HIGHEST_USD), WithJsonSchema({"type": "number"})]


class InputItem(Arguments):
    type: Literal["video", "image", "audio", "text"] = Field(
        description="video or image: the face; audio or text: the voice."
    )
    url: str | None = Field(None, description="Public URL of the file.")
    path: str | None = Field(None, description="Local file, instead of url.")
    asset_id: str | None = Field(None, description="Uploaded asset.")
    ref_id: str | None = Field(None, description="Name for segments.")
    script: str | None = Field(None, description="text: what is said, up to 5000 characters.")
    voice_id: str | None = Field(None, description="text: whose voice.")
    stability: Share | None = Field(None, description="text; default 0.5.")
    similarity_boost: Share | None = Field(None, description="text; default 0.75.")


class SegmentSpeakerArguments(Arguments):
    auto_detect: bool | None = None
    frame_number: int | None = None
    coordinates: list[float] | None = None


class SpeakerArguments(Arguments):
    auto_detect: bool | None = Field(None, description="Find who talks; not in an image.")
    frame_number: int | None = Field(None, description="Frame of coordinates; 0 for an image.")
    coordinates: list[float] | None = Field(None, description="[x, y] of the face in source pixels.")
    bounding_boxes_url: str | None = Field(None, description="JSON file, a box for each frame.")


SyncModeArgument = Literal["bounce", "loop", "cut_off", "silence", "remap"]
_SYNC_MODE = (
    "If lengths differ: bounce (default) or loop repeat the picture, cut_off cuts the voice, silence pads "
    "it, remap changes the picture's speed."
)


class OptionsArguments(Arguments):
    sync_mode: SyncModeArgument | None = Field(None, description=_SYNC_MODE)
    temperature: Share | None = Field(None, description="Expressiveness, default 0.5; lipsync-2(-pro).")
    active_speaker_detection: SpeakerArguments | None = Field(
        None, description="Which of several faces speaks; not react-1."
    )
    occlusion_detection_enabled: bool | None = Field(None, description="For covered faces; slower.")
    model_mode: Literal["lips", "face", "head"] | None = Field(
        None, description="What react-1 changes; default face."
    )
    prompt: Literal["happy", "sad", "angry", "disgusted", "surprised", "neutral"] | None = Field(
        None, description="Emotion; react-1."
    )
    reasoning_enabled: bool | None = Field(None, description="lipsync-2-pro.")


class SegmentOptionsArguments(Arguments):
    sync_mode: SyncModeArgument | None = None
    temperature: Share | None = None
    occlusion_detection_enabled: bool | None = None
    active_speaker_detection: SegmentSpeakerArguments | None = None


_OVERRIDE = f"For this part, as in options: {', '.join(SegmentOptionsArguments.model_fields)}."


class SegmentAudioArguments(Arguments):
    ref_id: str = Field(description="Of an audio or text item.")
    start_time: float | None = Field(None, description="Crop from here (s); with end_time.")
    end_time: float | None = Field(None, description="Crop to here (s).")


class SegmentArguments(Arguments):
    start_time: float = Field(description="From, in the video (s).")
    end_time: float = Field(description="To, in the video (s).")
    audio_input: SegmentAudioArguments = Field(description="Its voice.")
    options_override: SegmentOptionsArguments | None = Field(
        None, description=_OVERRIDE, json_schema_extra=TOLD_IN_WORDS
    )


class DubArguments(Arguments):
    target_lang: str = Field(description="Code or English name.")
    source_lang: str | None = Field(None, description="Of the video; default: found out.")


_INPUT_EXAMPLE = (
    '[{"type":"video","path":"/clip.mp4"},{"type":"text","script":"Hi","voice_id":"x","stability":0.5,'
    '"similarity_boost":0.75,"ref_id":"a"}]'
)
"""Holds every name of an item, with what is said of it: some hosts do not show what is inside an argument."""


class RequestArguments(Arguments):
    """What a generation is made of."""

    model: str | None = Field(
        None,
        description=f"{', '.join(MODEL_PURPOSES)}. Default: sync-3 for an image, lipsync-2 for a video.",
    )
    input: list[InputItem] = Field(
        description=(
            "One video or image, and one audio or text item; with segments one for each voice, with dub a "
            f"video alone. Like {_INPUT_EXAMPLE}, or url or asset_id for path."
        )
    )
    options: OptionsArguments | None = Field(None, description="How it is made.")
    segments: list[SegmentArguments] | None = Field(None, description="Parts with own voices.")
    webhook_url: str | None = Field(None, description="https URL to call at the end.")
    output_file_name: str | None = Field(None, description="Letters, digits, _ and -; no extension.")
    project_id: str | None = Field(None, description="UUID of a project.")
    dub: DubArguments | None = Field(None, description="Translate the video's own speech.")
    dialogue_edit_id: str | None = Field(
        None,
        description="From edit_dialogue; with its video alone.",
        json_schema_extra=only_with("edit_dialogue"),
    )
    take: Take = Field(1, description="2, 3, ... makes and pays the same again; asks the user.")


class CreateArguments(RequestArguments):
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(0, description="Default 0.")
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown price.")
    quote_id: str | None = Field(None, description="From an answer that asked for approval.")
    duration_seconds: VideoSeconds | None = Field(None, description="A hint where nobody can measure it.")


class OneOfSeveral(RequestArguments):
    """One of the requests that are made together."""

    duration_seconds: VideoSeconds | None = Field(None, description="A hint where nobody can measure it.")


_ONE_OF_SEVERAL = '{"input":[{"type":"video","path":"/clip.mp4"}],"dub":{"target_lang":"es"}}'


class SeveralArguments(Arguments):
    requests: Annotated[list[OneOfSeveral], Field(min_length=1, max_length=MOST_TOGETHER)] = Field(
        description=f"1 to {MOST_TOGETHER}, each like {_ONE_OF_SEVERAL}: what create_generation takes.",
        json_schema_extra=TOLD_IN_WORDS,
    )
    dry_run: bool = Field(False, description="Only check and price all; free. Default false.")
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        0, description="For free slots; default 0."
    )
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown total.")
    quote_id: str | None = Field(None, description="From an answer that asked for approval.")


class EstimateArguments(RequestArguments):
    input: list[InputItem] = Field(
        default_factory=list[InputItem],
        description="As in create_generation.",
    )
    model: str | None = Field(None, description=SAME)
    webhook_url: str | None = Field(None, description=SAME)
    output_file_name: str | None = Field(None, description=SAME)
    project_id: str | None = Field(None, description=SAME)
    dialogue_edit_id: str | None = Field(None, description=SAME, json_schema_extra=only_with("edit_dialogue"))
    take: Take = Field(1, description=SAME)
    wait_seconds: SameWaitSeconds = Field(0, description="Unused.")
    max_cost_usd: Dollars | None = Field(None, description=SAME)
    quote_id: str | None = Field(None, description="Unused.")
    duration_seconds: VideoSeconds | None = Field(
        None, description="Of the output; with model enough for a hint."
    )
    fps: FramesPerSecond | None = Field(None, description="Frame rate, if known.")


class GetArguments(Arguments):
    generation_id: str = Field(description="From list_generations or create_generation.")
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        0,
        description=f"Default 0; {USUAL_WAIT_SECONDS} is good.",
    )


class WaitArguments(Arguments):
    generation_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_AWAITED)] = Field(
        description=f"At most {MOST_AWAITED}."
    )
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        USUAL_WAIT_SECONDS, description=f"Default {USUAL_WAIT_SECONDS}."
    )
    until: Literal["all", "any"] = Field("all", description="Default all.")
    urls: bool = Field(False, description="URLs too.")


class ListArguments(Arguments):
    status: list[Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "REJECTED"]] | None = Field(
        None, description="Only these."
    )
    project_id: str | None = Field(None, description="Only this project.")
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = Field(
        DEFAULT_ROWS, description=f"Default {DEFAULT_ROWS}."
    )
    cursor: str | None = Field(None, description="next_cursor of the page before.")
