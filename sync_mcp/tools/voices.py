"""The toolset `voices`: speech, and voices of one's own, in words and shapes."""

from typing import Annotated

from pydantic import Field

from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.generation_arguments import Dollars, Share, Take
from sync_mcp.tools.registry import CHANGES, DELETES, MAY_OVERWRITE, LateRun, Tool, Tools, Toolset

VOICES = Toolset(
    "voices",
    (
        "create_speech says a script without a video, for create_generation or by itself; clone_voice makes "
        "a voice from a recording, with its owner's consent alone.",
        "create_speech says a script without a video.",
    ),
    is_default=False,
)

_QUOTE = "From an answer that asked for approval."


class SpeechArguments(Arguments):
    script: str = Field(description="What is said, up to 5000 characters.")
    voice_id: str = Field(description="Of list_voices, or its name.")
    stability: Share | None = Field(None, description="Default 0.5.")
    similarity_boost: Share | None = Field(None, description="Default 0.75.")
    path: str | None = Field(None, description="File or folder; default: the download folder.")
    overwrite: bool = Field(False, description="Default false.")
    take: Take = Field(1, description="2, 3, ... makes and pays the same again; asks the user.")
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown price.")
    quote_id: str | None = Field(None, description=_QUOTE)


class SpeechAnswer(Answer):
    speech_id: str
    status: str
    path: str | None = None
    asset_id: str | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None
    duration_seconds: float | None = None
    api_code: str | None = None
    api_says: str | None = None
    remedy: str | None = None
    charged: str | None = None
    held_usd: float | None = None
    """What the user lets hold for it: the API publishes no price."""
    reused: bool | None = None
    note: str | None = None


class CloneArguments(Arguments):
    name: str = Field(description="What to call the voice; no other has this name.")
    path: str | None = Field(None, description="Local recording: 30 s to 2 min of one voice are best.")
    url: str | None = Field(None, description="Or a public https URL of it.")
    asset_id: str | None = Field(None, description="Or an uploaded asset.")
    consent: str = Field(
        description="Whose voice it is and that they agreed, in the user's words: ask them, never assume it."
    )
    max_cost_usd: Dollars | None = Field(None, description="Refuse a higher or unknown price.")
    quote_id: str | None = Field(None, description=_QUOTE)


class CloneAnswer(Answer):
    voice_id: str
    name: str | None = None
    held_usd: float | None = None
    reused: bool | None = None
    note: str | None = None


class DeleteVoiceArguments(Arguments):
    voice_id: str = Field(description="A cloned one of list_voices.")
    confirm: str | None = Field(
        None, description="Only where the host cannot ask: what the first call names, once the user agrees."
    )


class DeleteVoiceAnswer(Answer):
    voice_id: str
    name: str | None = None


TOOLS: Tools = (
    Tool(
        name="create_speech",
        toolset=VOICES,
        title="Say a script",
        description=(
            "Have a script said by a voice, which is paid and cannot be cancelled; waits, saves the sound on "
            "the user's disk and returns it as an asset. The same call again returns the same speech."
        ),
        arguments=SpeechArguments,
        answer=SpeechAnswer,
        annotations=MAY_OVERWRITE,
        run=LateRun("speech:create_speech"),
        paid=True,
    ),
    Tool(
        name="clone_voice",
        toolset=VOICES,
        title="Clone a voice",
        description=(
            "Make a voice from a recording of it, which is paid, and only with its owner's consent. The same "
            "call again returns the same voice."
        ),
        arguments=CloneArguments,
        answer=CloneAnswer,
        annotations=CHANGES,
        run=LateRun("clones:clone_voice"),
        paid=True,
    ),
    Tool(
        name="delete_voice",
        toolset=VOICES,
        title="Delete a cloned voice",
        description="Delete a cloned voice for good.",
        arguments=DeleteVoiceArguments,
        answer=DeleteVoiceAnswer,
        annotations=DELETES,
        run=LateRun("clones:delete_voice"),
        other_names={"id": "voice_id"},
    ),
)
