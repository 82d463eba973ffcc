"""The toolset `dialogue`: what a video says, and making it say something else, in words and shapes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.generation_arguments import LONGEST_WAIT_SECONDS, USUAL_WAIT_SECONDS, Dollars, Take
from sync_mcp.tools.registry import CHANGES, LateRun, Tool, Tools, Toolset

DIALOGUE = Toolset(
    "dialogue",
    (
        "To change what a video says: transcribe, edit_dialogue, let the user hear it, create_generation "
        "with dialogue_edit_id.",
        "transcribe writes down what is said in a video or recording, with its times.",
    ),
    is_default=False,
)

WaitSeconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)]
_WAIT = f"Default {USUAL_WAIT_SECONDS}."
# A server on which the set is off never builds these.
_LATE = ConfigDict(defer_build=True)


class _SourceArguments(Arguments):
    model_config = _LATE

    path: str | None = Field(None, description="Local file.")
    url: str | None = Field(None, description="Or a public URL.")
    asset_id: str | None = Field(None, description="Or an uploaded asset.")


class TranscribeArguments(_SourceArguments):
    from_seconds: Annotated[float, Field(ge=0)] = Field(0, description="Show words from here on.")
    save_as: str | None = Field(None, description="File to save all of it in: .srt, .vtt or .txt.")
    wait_seconds: WaitSeconds = Field(USUAL_WAIT_SECONDS, description=_WAIT)


class SpokenRow(BaseModel):
    model_config = _LATE

    at_seconds: float
    speaker: str | None = None
    words: str
    """Each as `id:word`."""


class TranscribeAnswer(Answer):
    model_config = _LATE

    transcription_id: str
    status: str
    asset_id: str | None = None
    speakers: int | None = None
    seconds: float | None = None
    spoken: list[SpokenRow] | None = None
    saved_as: str | None = None
    api_code: str | None = None
    note: str | None = None


class ChangeArguments(Arguments):
    model_config = _LATE

    words: str | None = Field(None, description="As they are said; they must be said once.")
    word_ids: list[str] | None = Field(None, description="Or their ids, in a row.")
    replacement: str | None = Field(None, description="Said instead; left out, the words are removed.")
    pronunciation: str | None = Field(None, description="If not as written; of one word.")


class EditDialogueArguments(_SourceArguments):
    changes: Annotated[list[ChangeArguments], Field(min_length=1, max_length=100)] = Field(
        description='Like [{"words":"on Tuesday","replacement":"on Thursday"}].'
    )
    transcription_id: str | None = Field(None, description="Where word_ids are from.")
    voice_id: str | None = Field(None, description="Default: the speaker's own.")
    take: Take = Field(1, description="2, 3, ... makes and pays the same again.")
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown price.")
    quote_id: str | None = Field(None, description="From an answer that asked for approval.")
    wait_seconds: WaitSeconds = Field(USUAL_WAIT_SECONDS, description=_WAIT)


class GetDialogueEditArguments(Arguments):
    model_config = _LATE

    dialogue_edit_id: str = Field(description="From edit_dialogue.")
    save_as: str | None = Field(
        None, description="File to save in: .wav the preview; .srt, .vtt or .txt what is said now."
    )
    wait_seconds: WaitSeconds = Field(USUAL_WAIT_SECONDS, description=_WAIT)


class DialogueEditAnswer(Answer):
    model_config = _LATE

    dialogue_edit_id: str
    status: str
    edits: list[str] | None = None
    said_now: str | None = None
    preview_audio_url: str | None = None
    preview_seconds: float | None = None
    missing: str | None = None
    """What a preview in part lacks, as the API says it."""
    saved_as: str | None = None
    api_code: str | None = None
    held_usd: float | None = None
    """What the user lets hold for it: the API publishes no price."""
    reused: bool | None = None
    note: str | None = None


TOOLS: Tools = (
    Tool(
        name="transcribe",
        toolset=DIALOGUE,
        title="Write down what is said",
        description=(
            "What a video or recording says, word by word with ids and times, and as subtitles. Free; waits "
            "for it. The same call goes on where it took longer."
        ),
        arguments=TranscribeArguments,
        answer=TranscribeAnswer,
        annotations=CHANGES,
        run=LateRun("transcribing:transcribe"),
    ),
    Tool(
        name="edit_dialogue",
        toolset=DIALOGUE,
        title="Change what a video says",
        description=(
            "Start a paid preview, in sound alone, of a video with words changed or removed. The API "
            "publishes no price for it. Then create_generation with dialogue_edit_id renders it."
        ),
        arguments=EditDialogueArguments,
        answer=DialogueEditAnswer,
        annotations=CHANGES,
        run=LateRun("dialogue_edits:edit_dialogue"),
        paid=True,
    ),
    Tool(
        name="get_dialogue_edit",
        toolset=DIALOGUE,
        title="Get a changed dialogue",
        description="How a preview of changed words is: its sound once it is done, and what is missing.",
        arguments=GetDialogueEditArguments,
        answer=DialogueEditAnswer,
        annotations=CHANGES,
        run=LateRun("dialogue_edits:get_dialogue_edit"),
        other_names={"id": "dialogue_edit_id"},
    ),
)
