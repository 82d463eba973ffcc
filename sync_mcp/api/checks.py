"""The rules for a generation that are known without asking the API (API §3.1).

Each broken rule is one sentence that says how to mend it.
"""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import TypeGuard
from urllib.parse import urlsplit

from sync_mcp.api.ids import is_uuid
from sync_mcp.api.languages import language_fault
from sync_mcp.api.models import (
    SCRIPT_LIMIT,
    ActiveSpeaker,
    Audio,
    Dub,
    GenerationOptions,
    GenerationRequest,
    Image,
    Input,
    LocalMedia,
    OtherInput,
    Segment,
    SegmentOptions,
    Text,
    Video,
)

_OUTPUT_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_HTTPS_URL = re.compile(r"https://[^/?#\s]", re.IGNORECASE)
_ROUNDING_SECONDS = 0.05
"""A container may tell its length without the last frame, or with a little silence."""


def faults_of(
    request: GenerationRequest, *, told: Collection[str] = (), for_price: bool = False
) -> list[str]:
    """Return a sentence for every rule that `request` breaks; an empty list means it may be sent.

    `told` are the places of which it is not asked what they hold, such as `input[0]` and `dub.target_lang`:
    their own fault is told already, or they are filled in later. `for_price` says that it is to be priced
    alone: then it may lack its input, and no rule is asked that needs one.
    """
    needs_input = bool(request.input) or not for_price
    return [
        *_model_faults(request),
        *(_input_faults(request) if needs_input else ()),
        *_item_faults(request.input, told),
        *_options_faults(request.options, request.input, "options"),
        *(_segment_faults(request.segments or [], request.input) if needs_input else ()),
        *_dub_faults(request.dub, told),
        *_delivery_faults(request),
    ]


def segments_past_end(
    request: GenerationRequest, clip_seconds: float | None, *, slack_seconds: float = _ROUNDING_SECONDS
) -> list[str]:
    """Return a sentence for every segment that ends after the video does, where its length is known.

    The slack is by how much the video may be longer than that.
    """
    if clip_seconds is None:
        return []
    faults: list[str] = []
    for number, segment in enumerate(request.segments or []):
        if segment.end_time > clip_seconds + slack_seconds:
            starts_late = segment.start_time >= clip_seconds
            verb, seconds = ("starts", segment.start_time) if starts_late else ("ends", segment.end_time)
            faults.append(
                f"segments[{number}] {verb} at {seconds:g} s, after the end of the video at "
                f"{clip_seconds:.2f} s: it must end within it."
            )
    return faults


def _model_faults(request: GenerationRequest) -> Iterator[str]:
    if not request.model.strip():
        yield "model is empty: name one, for example lipsync-2."


def _input_faults(request: GenerationRequest) -> Iterator[str]:
    visuals = [item for item in request.input if is_visual(item)]
    voices = [item for item in request.input if is_voice(item)]
    if request.dialogue_edit:
        yield from _dialogue_edit_faults(request, len(visuals), has_voice=bool(voices))
        return
    if request.dub:
        if len(visuals) != 1 or visuals[0].type != "video" or voices:
            yield "With dub, input holds exactly one video and nothing else: its own speech is translated."
        if request.segments:
            yield "dub and segments exclude each other: leave one of them out."
        return
    # A kind that is new to this version may be the picture or the voice: the API knows.
    whole = not any(isinstance(item, OtherInput) for item in request.input)
    if len(visuals) > 1 or (whole and not visuals):
        yield f"input needs exactly one video or image, and has {len(visuals)}."
    if not voices and whole:
        yield "input needs a voice: one audio or text item; or dub, to translate what the video says."
    elif len(voices) > 1 and not request.segments:
        yield f"input has {len(voices)} voices: more than one audio or text item needs segments."
    if any(item.type == "image" for item in visuals) and request.model.strip() not in ("", "sync-3"):
        yield f"{request.model} does not take an image: use sync-3, or a video."


def _dialogue_edit_faults(request: GenerationRequest, visuals: int, *, has_voice: bool) -> Iterator[str]:
    items = request.input
    if visuals != 1 or len(items) != 1 or items[0].type != "video" or has_voice:
        yield "With a dialogue edit, input holds the original video and nothing else: the edit is its voice."
    if request.segments or request.dub:
        yield "A dialogue edit goes with neither segments nor dub: leave them out."
    if request.model.strip() not in ("", "sync-3"):
        yield f"{request.model} does not render a dialogue edit: use sync-3."


def _item_faults(items: Sequence[Input], told: Collection[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        place = f"input[{number}]"
        if isinstance(item, Video | Image | Audio):
            if not item.url and not item.asset_id and place not in told:
                yield f"{place} ({item.type}) has neither url nor asset_id: give one of them."
            if item.url and not _is_web_url(item.url):
                yield f"{place}.url must be a whole http or https URL that the API can fetch."
        elif isinstance(item, Text):
            yield from _text_faults(item, place)


def _text_faults(item: Text, place: str) -> Iterator[str]:
    if not item.script.strip():
        yield f"{place}.script is empty: write what is to be said."
    if len(item.script) > SCRIPT_LIMIT:
        yield (
            f"{place}.script has {len(item.script)} characters and the API takes {SCRIPT_LIMIT}: "
            "make several generations."
        )
    if not item.voice_id.strip():
        yield f"{place}.voice_id is missing: name the voice that speaks the script."
    yield from _share_fault(item.stability, f"{place}.stability")
    yield from _share_fault(item.similarity_boost, f"{place}.similarity_boost")


def _share_fault(value: float | None, name: str) -> Iterator[str]:
    # Written so that NaN, which compares with nothing, is a fault too.
    if value is not None and not 0 <= value <= 1:
        yield f"{name} must lie between 0 and 1."


def _options_faults(
    options: GenerationOptions | SegmentOptions | None, items: Sequence[Input], place: str
) -> Iterator[str]:
    if options is None:
        return
    yield from _share_fault(options.temperature, f"{place}.temperature")
    speaker = options.active_speaker_detection
    if speaker:
        yield from _speaker_faults(speaker, f"{place}.active_speaker_detection")
        if speaker.auto_detect and any(item.type == "image" for item in items):
            yield (
                f"{place}.active_speaker_detection.auto_detect does not work with an image: "
                "give coordinates and frame_number 0."
            )


def _speaker_faults(speaker: ActiveSpeaker, place: str) -> Iterator[str]:
    point = speaker.coordinates
    if point is not None and (len(point) != 2 or not all(_is_time(value) for value in point)):
        yield f"{place}.coordinates must be two pixel positions, [x, y]."
    if (point is None) != (speaker.frame_number is None):
        yield f"{place}: coordinates and frame_number go together; one is missing."
    if speaker.frame_number is not None and speaker.frame_number < 0:
        yield f"{place}.frame_number must be 0 or more."
    boxes = speaker.bounding_boxes
    if boxes is not None and any(
        box is not None and not (len(box) == 4 and all(map(math.isfinite, box))) for box in boxes
    ):
        yield f"{place}.bounding_boxes must hold [x1, y1, x2, y2] or null for each frame."
    address = speaker.bounding_boxes_url
    if address is not None and not _is_web_url(address):
        yield f"{place}.bounding_boxes_url must be a whole http or https URL that the API can fetch."
    ways = (point, boxes, speaker.bounding_boxes_url)
    if sum(way is not None for way in ways) > 1:
        yield f"{place}: give one of coordinates, bounding_boxes and bounding_boxes_url."


def _segment_faults(segments: Sequence[Segment], items: Sequence[Input]) -> Iterator[str]:
    if not segments:
        return
    voices = [item for item in items if is_voice(item)]
    names = {voice.ref_id for voice in voices}
    if not all(names) or len(names) != len(voices):
        yield "With segments, every audio or text item needs a ref_id of its own."
    for number, segment in enumerate(segments):
        place = f"segments[{number}]"
        if not (_is_time(segment.start_time) and _is_time(segment.end_time)):
            yield f"{place}: start_time and end_time must be seconds, 0 or more."
        elif segment.end_time <= segment.start_time:
            yield f"{place}.end_time must be later than its start_time."
        if segment.audio_input.ref_id not in names:
            yield f"{place}.audio_input.ref_id {segment.audio_input.ref_id!r} is no item of input."
        yield from _crop_faults(segment, place)
        yield from _options_faults(segment.options_override, items, f"{place}.options_override")
    ordered = sorted(segments, key=lambda segment: segment.start_time)
    if any(later.start_time < earlier.end_time for earlier, later in pairwise(ordered)):
        yield "segments overlap: each must start when the one before it has ended."


def _crop_faults(segment: Segment, place: str) -> Iterator[str]:
    start, end = segment.audio_input.start_time, segment.audio_input.end_time
    if (start is None) != (end is None):
        yield f"{place}.audio_input: start_time and end_time go together; give both or neither."
    elif start is not None and end is not None and not (_is_time(start) and _is_time(end) and start < end):
        yield f"{place}.audio_input: the crop must start at 0 or later and end after its start."


def _dub_faults(dub: Dub | None, told: Collection[str]) -> Iterator[str]:
    if dub is None:
        return
    for name, language in (("target_lang", dub.target_lang), ("source_lang", dub.source_lang)):
        fault = None if language is None else language_fault(language, source=name == "source_lang")
        if fault is not None and f"dub.{name}" not in told:
            yield fault


def _delivery_faults(request: GenerationRequest) -> Iterator[str]:
    name = request.output_file_name
    if name is not None and not _OUTPUT_FILE_NAME.fullmatch(name):
        yield (
            "output_file_name may hold 1 to 255 letters, digits, _ and - without an extension; "
            "the API would rewrite anything else."
        )
    hook = request.webhook_url
    if hook is not None and not _HTTPS_URL.match(hook):
        yield "webhook_url must be a whole https URL."
    elif hook is not None and plain_host(hook) is None:
        yield (
            "webhook_url must read plainly, as https://host/path: without a backslash, a user name or "
            "password before the host, blanks and control characters."
        )
    if request.project_id is not None and not is_uuid(request.project_id):
        yield "project_id must be the UUID of a project."


def is_visual(item: Input) -> TypeGuard[Video | Image | LocalMedia]:
    """Return whether an input is the picture: a video or an image."""
    return not isinstance(item, OtherInput) and item.type in ("video", "image")


def is_voice(item: Input) -> TypeGuard[Audio | Text | LocalMedia]:
    """Return whether an input is a voice: a recording or a script."""
    return not isinstance(item, OtherInput) and item.type in ("audio", "text")


def plain_host(url: str) -> str | None:
    """Return the host of a web URL as all who read it read it, or None where they may not agree on one.

    Of a backslash some make a slash, which ends the host; others read on to an @.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not _is_web_url(url) or host is None or "\\" in url or "@" in parts.netloc or "%" in host:
        return None
    return host.removesuffix(".") or None


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    printable = url.isprintable() and not any(character.isspace() for character in url)
    return parts.scheme.lower() in ("http", "https") and bool(host) and printable


def _is_time(value: float) -> bool:
    return math.isfinite(value) and value >= 0
