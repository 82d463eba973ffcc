"""The wire models of the Sync API: a create and what it is made of, a generation, and what they cost."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Literal, TypedDict, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from sync_mcp.api.declared import Declared
from sync_mcp.api.wire import CamelModel as CamelModel, Json as Json, SnakeModel as SnakeModel
from sync_mcp.errors import InvalidRequestError

SCRIPT_LIMIT = 5000
"""Characters of a `Text` script that the API takes."""

HIGHEST_USD = Decimal(1_000_000)
"""No job costs more: what the API names above it is no amount of money."""
_HIGHEST_FIGURE = 1e9

ModelName = Literal["sync-3", "lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta", "react-1"] | str
SyncMode = Literal["bounce", "loop", "cut_off", "silence", "remap"] | str
ModelMode = Literal["lips", "face", "head"] | str
Emotion = Literal["happy", "sad", "angry", "disgusted", "surprised", "neutral"] | str
GenerationStatus = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "REJECTED"] | str

RUNNING_STATUSES = ("PENDING", "PROCESSING")
"""Statuses of a generation that is to end yet."""
TERMINAL_STATUSES = frozenset({"COMPLETED", "FAILED", "REJECTED", "CANCELED"})
"""Statuses that never change again; CANCELED comes from older jobs."""


class _Media(CamelModel):
    url: str | None = None
    """Public URL; the API fetches it."""
    asset_id: str | None = None
    """Id of an uploaded asset; give this or `url`."""
    ref_id: str | None = None
    """Name by which a segment refers to this item."""


class Video(_Media):
    """A video whose speaker is to be lip-synced (API §3.1.1)."""

    type: Literal["video"] = "video"


class Image(_Media):
    """A still picture of a speaker; only the model sync-3 takes one."""

    type: Literal["image"] = "image"


class Audio(_Media):
    """Recorded speech."""

    type: Literal["audio"] = "audio"


class Text(CamelModel):
    """Speech made from a script of at most 5,000 characters, in the voice `voice_id`.

    `stability` and `similarity_boost` run from 0 to 1; the API's defaults are 0.5 and 0.75. On the wire all
    but `ref_id` stands inside `provider`.
    """

    type: Literal["text"] = "text"
    script: str = ""
    voice_id: str = ""
    stability: Annotated[float | None, Declared(0.5)] = None
    similarity_boost: Annotated[float | None, Declared(0.75)] = None
    provider_name: Literal["elevenlabs"] | str = "elevenlabs"
    ref_id: str | None = None
    provider_extra: Json = Field(default_factory=dict)
    """Fields inside `provider` that this version does not know."""

    PROVIDER_FIELDS: ClassVar[Mapping[str, str]] = {
        "name": "provider_name",
        **{to_camel(name): name for name in ("voice_id", "script", "stability", "similarity_boost")},
    }
    """The names in Python of what stands inside `provider`, by those on the wire."""

    @model_validator(mode="before")
    @classmethod
    def _open_provider(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        item = dict(cast(Mapping[str, object], data))
        provider = item.pop("provider", None)
        if isinstance(provider, Mapping):
            inner = dict(cast(Mapping[str, object], provider))
            for wire_name, name in cls.PROVIDER_FIELDS.items():
                if inner.get(wire_name) is not None:
                    item[name] = inner.pop(wire_name)
            item["provider_extra"] = {
                name: value for name, value in inner.items() if value is not None and value != ""
            }
        elif provider is not None:
            item["provider"] = provider
        return item

    @model_serializer(mode="plain")
    def _close_provider(self) -> Json:
        fields = {wire_name: getattr(self, name) for wire_name, name in self.PROVIDER_FIELDS.items()}
        provider = {name: value for name, value in fields.items() if value is not None and value != ""}
        item: Json = {"type": self.type, "provider": provider | self.provider_extra}
        if self.ref_id is not None:
            item["refId"] = self.ref_id
        return item | (self.model_extra or {})


class OtherInput(CamelModel):
    """An input item of a kind that this version does not know."""

    type: str = Field(default="", exclude_if=lambda kind: kind == "")


class LocalMedia(BaseModel):
    """A file on this machine, by what it holds: a video, an image or a recording before it is an asset.

    The API never sees one. No JSON is read as one, and a request that has one is made into none.
    """

    model_config = ConfigDict(frozen=True)

    type: Literal["video", "image", "audio"]
    sha256: str
    """Of its content, in hex."""
    name: str
    """What the file is called, for the user alone: under another name it is the same input."""
    ref_id: str | None = None

    def to_wire(self) -> Json:
        """Raise InvalidRequestError: it has no form that the API knows."""
        raise InvalidRequestError(
            "A file on this machine is sent as nothing: upload it, and give its asset_id."
        )


_KNOWN_INPUTS = ("video", "image", "audio", "text")


def _input_kind(item: object) -> str:
    if isinstance(item, LocalMedia):
        return "local"
    if isinstance(item, Mapping):
        kind = cast(Mapping[str, object], item).get("type")
    else:
        kind = getattr(item, "type", None)
    return kind if kind in _KNOWN_INPUTS else "other"


Input = Annotated[
    Annotated[Video, Tag("video")]
    | Annotated[Image, Tag("image")]
    | Annotated[Audio, Tag("audio")]
    | Annotated[Text, Tag("text")]
    | Annotated[LocalMedia, Tag("local")]
    | Annotated[OtherInput, Tag("other")],
    Discriminator(_input_kind),
]


class ActiveSpeaker(SnakeModel):
    """Which of several faces speaks: found automatically, or pointed at (API §3.1.2).

    `coordinates` are `[x, y]` in raw pixels of frame `frame_number`; `bounding_boxes` holds
    `[x1, y1, x2, y2]` or null for each frame, `bounding_boxes_url` the same as a JSON file.
    """

    auto_detect: Annotated[bool | None, Declared(False)] = None
    v3: Annotated[bool | None, Declared(False)] = None
    frame_number: int | None = None
    coordinates: list[float] | None = None
    bounding_boxes: list[list[float] | None] | None = None
    bounding_boxes_url: str | None = None


class GenerationOptions(SnakeModel):
    """Options of a generation; the API ignores those that the model does not have (API §3.1.2, §18)."""

    sync_mode: Annotated[SyncMode | None, Declared("bounce")] = None
    """What to do where picture and sound differ in length; the API's default is bounce."""
    temperature: Annotated[float | None, Declared(0.5)] = None
    """How expressive the lips are, 0 to 1; lipsync-2 and lipsync-2-pro."""
    active_speaker_detection: ActiveSpeaker | None = None
    occlusion_detection_enabled: Annotated[bool | None, Declared(False)] = None
    model_mode: Annotated[ModelMode | None, Declared("face")] = None
    """Region to edit; react-1."""
    prompt: Emotion | None = None
    """Emotion; react-1."""
    reasoning_enabled: Annotated[bool | None, Declared(False)] = None
    """lipsync-2-pro."""


class SegmentAudioInput(CamelModel):
    """The voice of a segment: an audio or text input by its `ref_id`, cropped where both times are given."""

    ref_id: str
    start_time: float | None = None
    end_time: float | None = None


class SegmentOptions(SnakeModel):
    """Options that a segment may set for itself."""

    # What is the default for the whole may be a change in a part: no field of a segment has one.
    sync_mode: SyncMode | None = None
    temperature: float | None = None
    active_speaker_detection: ActiveSpeaker | None = None
    occlusion_detection_enabled: bool | None = None


class Segment(CamelModel):
    """A part of the video, in seconds, and the voice that speaks in it (API §3.1.3)."""

    start_time: float
    end_time: float
    audio_input: SegmentAudioInput
    options_override: SegmentOptions | None = None


class Dub(CamelModel):
    """Translate the video's own speech into another language (`dubParams`, API §3.1.4)."""

    target_lang: str = ""
    """Language code, such as es; the API needs one."""
    source_lang: Annotated[str | None, Declared("auto")] = None
    """Language code; the API finds it out by itself where this is left out."""
    provider_name: Literal["elevenlabs"] | str = "elevenlabs"


class DialogueEditRef(CamelModel):
    """The dialogue edit that is rendered into its original video (`dialogueEdit`, API §25.2)."""

    id: str


class RequestFields(TypedDict, total=False):
    """What a create takes besides the model and the input, as `GenerationRequest` has it."""

    options: GenerationOptions | None
    segments: Sequence[Segment] | None
    output_file_name: str | None
    webhook_url: str | None
    project_id: str | None
    dub: Dub | None
    dialogue_edit: DialogueEditRef | None


class GenerationRequest(CamelModel):
    """The body of a create (API §3.1)."""

    model: ModelName = ""
    input: list[Input]
    options: GenerationOptions | None = None
    segments: list[Segment] | None = None
    webhook_url: Annotated[str | None, Declared(role="tells")] = None
    output_file_name: Annotated[str | None, Declared(role="names")] = None
    project_id: Annotated[str | None, Declared(role="names")] = None
    dub: Dub | None = Field(default=None, alias="dubParams")
    dialogue_edit: DialogueEditRef | None = None

    @property
    def local_media(self) -> list[LocalMedia]:
        """The files on this machine among the inputs, which are to be uploaded before it can be sent."""
        return [item for item in self.input if isinstance(item, LocalMedia)]

    def to_wire(self) -> Json:
        """Return the JSON object as the API spells it, without empty fields.

        Raises:
            InvalidRequestError: an input is a file on this machine, of which the API knows nothing.
        """
        self.check_is_sendable()
        return super().to_wire()

    def check_is_sendable(self) -> None:
        """Raise InvalidRequestError where an input is a file on this machine."""
        faults = [
            f"input[{number}] is a file on this machine, of which the API knows nothing: upload it, and give "
            "its asset_id."
            for number, item in enumerate(self.input)
            if isinstance(item, LocalMedia)
        ]
        if faults:
            raise InvalidRequestError(faults)

    def with_fields(self, fields: Mapping[str, object]) -> "GenerationRequest":
        """Return the request with these fields, by the API's names, in place of its own; None takes one out.

        Raises:
            pydantic.ValidationError: the input is unreadable.
        """
        own = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items()}
        # What it says besides may have a name that is null above: it is said all the same.
        told = {name: value for name, value in own.items() if value is not None}
        return GenerationRequest.from_wire({**told, **(self.model_extra or {}), **fields})


def _no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("yes or no is no figure")
    return value


def _exact(value: object) -> object:
    # Through its shortest decimal form: money must not carry the noise of a binary float.
    return Decimal(repr(value)) if isinstance(value, float) else _no_flag(value)


Usd = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=HIGHEST_USD)]
"""US dollars that a job may cost; what is no such amount is unreadable."""

Figure = Annotated[FiniteFloat, BeforeValidator(_no_flag), Field(ge=0, le=_HIGHEST_FIGURE)]
"""A count or a length in seconds; what nothing is as many or as long as is unreadable."""

Percent = Annotated[FiniteFloat, BeforeValidator(_no_flag), Field(ge=0, le=100)]


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


Moment = Annotated[datetime, AfterValidator(_aware)]
"""A time; one that names no zone is in UTC."""


class Generation(CamelModel):
    """A lip-sync job: what was asked, how far it is, and what came of it (API §3.3)."""

    id: str
    status: GenerationStatus
    created_at: Moment | None = None
    model: ModelName | None = None
    input: list[Input] = Field(default_factory=list[Input])
    options: GenerationOptions | None = None
    segments: list[Segment] | None = None
    webhook_url: str | None = None
    output_url: str | None = None
    """Signed; use it letter for letter, and get the generation again when it has expired."""
    output_duration: Figure | None = None
    """Seconds."""
    segment_output_url: str | None = None
    output_file_name: str | None = None
    project_id: str | None = None
    synthesized_audio_url: str | None = None
    error: str | None = None
    error_code: str | None = None
    progress_percent: Percent | None = Field(default=None, alias="progress_percent")
    """0 to 100, only where the API was asked for it and tells."""

    @property
    def finished(self) -> bool:
        """Whether the status can no longer change."""
        return self.status in TERMINAL_STATUSES


class CostEstimate(CamelModel):
    """What a generation is likely to cost (API §4).

    Every figure is None where the API does not tell it; `assumptions` says on what the others rest.
    """

    estimated_generation_cost: Usd | None = None
    """US dollars."""
    estimated_frame_count: Figure | None = None
    estimated_credits: Figure | None = None
    assumptions: list[str] = Field(default_factory=list)


class GenerationCost(CamelModel):
    """What a job really cost, as far as the API has recorded it (API §3.9)."""

    generation_id: str | None = None
    generation_status: GenerationStatus | None = None
    availability: Literal["complete", "pending", "partial", "unavailable"] | str | None = None
    total_cost_usd: Usd | None = None
    """None until the API knows the whole."""
    known_subtotal_usd: Usd | None = None

    @property
    def final_usd(self) -> Decimal | None:
        """What it cost, where the API says that nothing is to come."""
        told = self.availability == "complete" or (self.availability is None and bool(self.total_cost_usd))
        return self.total_cost_usd if told else None

    @property
    def so_far_usd(self) -> Decimal:
        """What it cost at least."""
        return max(self.known_subtotal_usd or Decimal(0), self.total_cost_usd or Decimal(0))

    @property
    def charged(self) -> Literal["yes", "no", "unknown"]:
        """Whether the job cost anything, as far as the API has recorded it."""
        if (self.total_cost_usd or self.known_subtotal_usd or 0) > 0:
            return "yes"
        known = self.availability == "complete" and self.total_cost_usd is not None
        return "no" if known else "unknown"
