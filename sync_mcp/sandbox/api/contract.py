"""The shape of a create's body (API §3.1): types, ranges and names, before any sense is made of it."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from sync_mcp.sandbox.api.catalogue import bare_refusal

LANGUAGES = frozenset(
    re.findall(
        r"\w+",
        """
        en gu no sl pa ta az gl is sw my fi el he lt ms sv fr ca hr lv ro sd th tn pl ceb da hu mr tl ug wo zu
        zh hi as ha kk ki rn ky st te war ak be cs ka mn bo ts ar ss nl tr af bs et rw ne ko it es sq eu kn sk
        su ve pt am hy doi de jv mk ja vi cy nso uk bg id lg yo ml fa tg ur uz ru fil
        """,
    )
)
_TAGS = ("video", "image", "audio")


def _empty_to_none(value: object) -> object:
    return None if value == "" else value


def _flag_to_object(value: object) -> object:
    return {"auto_detect": value} if isinstance(value, bool) else value


OptionalText = Annotated[str | None, BeforeValidator(_empty_to_none)]
Share = Annotated[float, Field(ge=0, le=1)]
SyncMode = Literal["bounce", "loop", "cut_off", "silence", "remap"]


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)


class _Snake(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class MediaItem(_Camel):
    """A video, image or audio input."""

    type: Literal["video", "image", "audio"]
    url: OptionalText = None
    asset_id: OptionalText = None
    ref_id: OptionalText = None


class Provider(_Camel):
    """The voice and script of a text input."""

    name: Literal["elevenlabs"] = "elevenlabs"
    voice_id: Annotated[str, Field(min_length=1)]
    script: Annotated[str, Field(min_length=1)]
    stability: Share | None = None
    similarity_boost: Share | None = None


class TextItem(_Camel):
    """A text input."""

    type: Literal["text"]
    provider: Provider
    ref_id: OptionalText = None


Item = Annotated[MediaItem | TextItem, Field(discriminator="type")]


class ActiveSpeaker(_Snake):
    """Which face speaks."""

    auto_detect: bool | None = None
    frame_number: Annotated[int, Field(ge=0)] | None = None
    coordinates: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    bounding_boxes: list[Annotated[list[float], Field(min_length=4, max_length=4)] | None] | None = None
    bounding_boxes_url: OptionalText = None


class Options(_Snake):
    """The options that the sandbox acts on or checks; others are ignored, as the API does."""

    sync_mode: SyncMode | None = None
    temperature: Share | None = None
    active_speaker_detection: Annotated[ActiveSpeaker | None, BeforeValidator(_flag_to_object)] = None
    occlusion_detection_enabled: bool | None = None
    model_mode: Literal["lips", "face", "head"] | None = None
    prompt: str | None = None
    reasoning_enabled: bool | None = None


class SegmentAudio(_Camel):
    """The voice of a segment."""

    ref_id: Annotated[str, Field(min_length=1)]
    start_time: float | None = None
    end_time: float | None = None


class SegmentItem(_Camel):
    """A part of the video and its voice."""

    start_time: float
    end_time: float
    audio_input: SegmentAudio
    options_override: Options | None = None


class DubParams(_Camel):
    """The languages of a dub."""

    provider_name: Literal["elevenlabs"] = "elevenlabs"
    target_lang: str
    source_lang: str | None = None


class DialogueEditItem(_Camel):
    """The dialogue edit that is to be rendered."""

    id: Annotated[str, Field(min_length=1)]


class CreateBody(_Camel):
    """The body of `POST /v2/generate`."""

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[list[Item], Field(min_length=1)]
    options: Options | None = None
    segments: list[SegmentItem] | None = None
    webhook_url: OptionalText = None
    output_file_name: Annotated[
        Annotated[str, Field(max_length=255)] | None, BeforeValidator(_empty_to_none)
    ] = None
    project_id: OptionalText = None
    dub_params: DubParams | None = None
    dialogue_edit: DialogueEditItem | None = None

    @property
    def visuals(self) -> list[MediaItem]:
        """The video and image inputs."""
        return [item for item in self.input if isinstance(item, MediaItem) and item.type != "audio"]

    @property
    def voices(self) -> list[MediaItem | TextItem]:
        """The audio and text inputs."""
        return [item for item in self.input if item.type in ("audio", "text")]


def read_create(body: object, models: tuple[str, ...]) -> CreateBody:
    """Return the body of a create.

    Raises:
        Refusal: 400 with a sentence for every fault of its shape.
    """
    if not isinstance(body, Mapping):
        raise bare_refusal(400, ["the body must be a JSON object"])
    try:
        create = CreateBody.model_validate(body)
    except ValidationError as error:
        raise bare_refusal(400, sentences(error)) from error
    faults = [
        *_model_faults(create, models),
        *_language_faults(create),
        *_address_faults(create),
    ]
    if faults:
        raise bare_refusal(400, faults)
    return create


def sentences(error: ValidationError) -> list[str]:
    """Return one sentence for each fault that pydantic found."""
    return [
        f"{_place(fault['loc'])} {_predicate(fault['msg'])}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _model_faults(create: CreateBody, models: tuple[str, ...]) -> list[str]:
    if create.model in models:
        return []
    return [f"model must be one of: {', '.join(models)}"]


def _language_faults(create: CreateBody) -> list[str]:
    dub = create.dub_params
    if dub is None:
        return []
    faults: list[str] = []
    if dub.target_lang not in LANGUAGES:
        faults.append("dubParams.targetLang must be a language code such as es")
    if dub.source_lang not in (None, "auto", *LANGUAGES):
        faults.append("dubParams.sourceLang must be auto or a language code such as en")
    return faults


def _address_faults(create: CreateBody) -> list[str]:
    faults: list[str] = []
    if create.webhook_url is not None and not re.match(r"https://[^/\s]", create.webhook_url):
        faults.append("webhookUrl must be an https URL")
    if create.project_id is not None and not is_uuid(create.project_id):
        faults.append("projectId must be a UUID")
    return faults


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for number, part in enumerate(location):
        if isinstance(part, int):
            place += f"[{part}]"
        elif number < len(location) - 1 and (part in _TAGS or (part == "text" and number == 2)):
            continue  # pydantic names the kind of item here, which is no field of the body
        else:
            place += f".{part}" if place else str(part)
    return place or "the body"


def _predicate(message: str) -> str:
    if message == "Field required":
        return "is required"
    return re.sub(r"^(Input|String|List|Value) should", "must", message)
