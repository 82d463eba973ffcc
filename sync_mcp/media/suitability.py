"""What the chosen model or plan cannot make of the media at hand.

Pure functions of a request and what is known of its files: nothing is read or asked here. A fault is said
only where the API's documentation is plain (API §17, §18, §19): the formats that it names, its largest
video, the lengths that models and plans allow; what may go wrong is a note. It names no codecs but those
that are formats of their own (FLAC, ALAC), so a codec is never a fault as long as it is decoded; and its
limit of 300 s of sound contradicts the plans' own lengths (API §21), which hold here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from sync_mcp.api.checks import is_voice, segments_past_end
from sync_mcp.api.models import (
    ActiveSpeaker,
    GenerationOptions,
    GenerationRequest,
    Segment,
    Text,
)
from sync_mcp.media.decoding.findings import LONGEST_SIDE, SHORTER_SIDE, MediaInfo, size_that_fits
from sync_mcp.media.lengths import SPOKEN_CHARACTERS_PER_SECOND, clip_length, deciding_inputs, picture_input

_FASTEST_CHARACTERS_PER_SECOND = 20
"""A script that is too long even so is refused for its length."""
_REACT_1_SECONDS = 15.0
_FREE_SYNC_3_SECONDS = 15.0
_ROUNDING_SECONDS = 0.05
"""Containers pad the last frame of a sound."""

_PLAN_SECONDS = {"free": 20.0, "hobbyist": 60.0, "creator": 300.0, "growth": 600.0, "scale": 1800.0}
_PLANS_WITHOUT_SPEAKER = ("free", "hobbyist")
_PLANS_WITHOUT_REACT_1 = ("free",)

# FFmpeg's names. WebM and Matroska have one: what WebM cannot hold tells them apart.
_FORMATS: dict[Literal["video", "audio", "image"], tuple[str, ...]] = {
    "video": ("mov", "webm", "avi"),
    "audio": ("wav", "mp3", "ogg", "flac", "mov", "aac", "asf"),
    "image": ("jpeg_pipe", "png_pipe", "webp_pipe"),
}
_FORMAT_NAMES = {
    "video": "MP4, MOV, WebM or AVI",
    "audio": "WAV, MP3, Ogg, FLAC, M4A, AAC or WMA",
    "image": "JPEG, PNG or WebP",
}
_CONTAINERS = {"matroska,webm": "WebM", "avi": "AVI"}
_KEEP_THE_VOICE = "save it with the sound that has the voice alone"
_WEBM_PICTURES = ("vp8", "vp9", "av1", None)
_WEBM_SOUNDS = ("vorbis", "opus", None)


def faults_of_media(
    request: GenerationRequest,
    infos: Mapping[int, MediaInfo],
    *,
    plan: str | None = None,
    output_seconds: float | None = None,
    clip_seconds: float | None = None,
) -> list[str]:
    """Return a sentence for everything that the model or the plan cannot do with these media.

    `infos` holds what is known of inputs by their number; `plan` is the plan's name as the API spells it;
    `clip_seconds` is the length of a video that is not among them.
    What is not known is no fault.
    """
    return [
        *_plan_faults(request, plan_of(plan), output_seconds),
        *_kind_faults(request, infos),
        *_format_faults(infos),
        *_length_faults(request, infos),
        *_speaker_faults(request, infos),
        *_segment_faults(request, infos, clip_seconds),
    ]


def notes_on_media(request: GenerationRequest, infos: Mapping[int, MediaInfo]) -> list[str]:
    """Return a sentence for everything about these media that should be known before it is paid for."""
    notes = [note for number, info in infos.items() for note in notes_on_file(info, f"input[{number}]")]
    picture = picture_input(request)
    info = infos.get(picture) if picture is not None else None
    if info is not None and info.is_turned and any(speaker.coordinates for _, speaker in _speakers(request)):
        notes.append(
            f"input[{picture}] is turned: shown it is {info.width} by {info.height}, stored {info.height} by "
            f"{info.width}, and in which of the two the API takes the point is not known."
        )
    return notes


def notes_on_file(info: MediaInfo, shown: str) -> list[str]:
    """Return a sentence for everything about a file that should be known before it is paid for."""
    notes: list[str] = []
    if info.stands_still:
        notes.append(f"{shown} stands still: a video whose speaker moves gives a better result.")
    if info.first_sound_is_silent:
        notes.append(f"The first sound of {shown} is silent, and the API hears no other: {_KEEP_THE_VOICE}.")
    if info.kind == "image" and _is_large(info):
        notes.append(f"{shown} is {_size(info)}: if the API refuses it, {_largest_size(info)} fits.")
    return notes


def notes_on_upload(info: MediaInfo) -> list[str]:
    """Return a sentence for everything about a file that should be known before it is used."""
    large = [f"It {fault}." for fault in _large_fault(info)]
    return [*large, *(note[0].upper() + note[1:] for note in notes_on_file(info, "it"))]


def _large_fault(info: MediaInfo) -> Iterator[str]:
    if info.kind == "video" and _is_large(info):
        yield (
            f"is {_size(info)}, and the API takes videos of {LONGEST_SIDE} by {SHORTER_SIDE} at most: "
            f"make it {_largest_size(info)}"
        )


def _is_large(info: MediaInfo) -> bool:
    width, height = info.width or 0, info.height or 0
    return max(width, height) > LONGEST_SIDE or min(width, height) > SHORTER_SIDE


def _size(info: MediaInfo) -> str:
    return f"{info.width} by {info.height} pixels"


def _largest_size(info: MediaInfo) -> str:
    width, height = size_that_fits(info.width or 1, info.height or 1)
    return f"{width} by {height}"


# What cannot be done.


def _plan_faults(request: GenerationRequest, plan: str | None, output_seconds: float | None) -> Iterator[str]:
    model = request.model.strip()
    if not is_in_plan(model, plan):
        yield f"model: the {plan} plan does not include {model}; use lipsync-2."
    if plan in _PLANS_WITHOUT_SPEAKER and model != "react-1" and _picks_speaker(request.options):
        yield (
            f"options.active_speaker_detection: the {plan} plan does not include it, the creator plan does; "
            "leave it out."
        )
    longest = _PLAN_SECONDS.get(plan or "")
    if longest is None or output_seconds is None:
        return
    whose = f"the {plan} plan"
    if plan == "free" and model == "sync-3":
        longest, whose = _FREE_SYNC_3_SECONDS, "the free plan, with sync-3,"
    seconds = output_seconds
    if any(isinstance(request.input[number], Text) for number in deciding_inputs(request)):
        seconds *= SPOKEN_CHARACTERS_PER_SECOND / _FASTEST_CHARACTERS_PER_SECOND
    if seconds > longest + _ROUNDING_SECONDS:
        yield (
            f"input: the output would last {output_seconds:.1f} s, and {whose} allows {longest:g} s: "
            "shorten the voice or the video, or make several generations."
        )


def _picks_speaker(options: GenerationOptions | None) -> bool:
    speaker = options.active_speaker_detection if options else None
    return speaker is not None and any(value not in (None, False) for _, value in speaker)


def plan_of(name: str | None) -> str | None:
    """Return the plan that a name means, such as "Creator (monthly)"; None for one that is not known here."""
    words = "".join(letter if letter.isalpha() else " " for letter in (name or "").lower()).split()
    meant = [plan for plan in (*_PLAN_SECONDS, "enterprise") if plan in words]
    return meant[0] if len(meant) == 1 else None


def is_in_plan(model: str, plan: str | None) -> bool:
    """Return whether a plan, by its known name, includes a model; what is not known includes all."""
    return not (model == "react-1" and plan in _PLANS_WITHOUT_REACT_1)


def _kind_faults(request: GenerationRequest, infos: Mapping[int, MediaInfo]) -> Iterator[str]:
    for number, info in infos.items():
        item, place = request.input[number], f"input[{number}]"
        if item.type == "video":
            if info.kind == "image":
                better = 'give it as type "image"' if _takes_images(request) else "use sync-3, or a video"
                yield f"{place} is a still image, not a video: {better}."
            elif not info.has_video:
                # What is no audio for the API either is told by its format.
                if _is_of_audio(info):
                    yield (
                        f'{place} has sound alone and no picture: give a video, or give it as type "audio" '
                        "(or convert it to WAV or MP3 first)."
                    )
            elif request.dub and not info.has_audio:
                yield f"{place} has no sound: there is no speech to dub."
            elif request.dub and info.first_sound_is_silent:
                yield f"The first sound of {place} is silent, and the API dubs no other: {_KEEP_THE_VOICE}."
        elif item.type == "image":
            if info.kind != "image":
                yield f'{place} is {_kind_in_words(info)}, not a still image: give it as type "{info.kind}".'
            elif not _takes_images(request):
                yield f"{place}: {request.model} does not take an image: use sync-3, or a video."
        elif item.type == "audio":
            if not info.has_audio:
                yield f"{place} has no sound: give the recording of a voice."
            elif info.has_video:
                yield f"{place} is a video, not an audio file: save its sound alone, as WAV or MP3."
            elif info.first_sound_is_silent:
                yield f"The first sound of {place} is silent, and the API hears no other: {_KEEP_THE_VOICE}."


def fault_of_sound(info: MediaInfo, shown: str) -> str | None:
    """Return what is said of sound alone that lies in a container of videos."""
    if info.kind != "audio" or _is_of_audio(info):
        return None
    what = _CONTAINERS.get(info.format_name, "a format")
    return f"{shown} is sound in {what}, which the API does not take as audio: convert it to WAV or MP3."


def _is_of_audio(info: MediaInfo) -> bool:
    return bool(set(info.format_name.split(",")) & set(_FORMATS["audio"]))


def _takes_images(request: GenerationRequest) -> bool:
    return request.model.strip() in ("", "sync-3")


def _kind_in_words(info: MediaInfo) -> str:
    return "a video" if info.kind == "video" else "sound alone"


def _format_faults(infos: Mapping[int, MediaInfo]) -> Iterator[str]:
    for number, info in infos.items():
        place = f"input[{number}]"
        sound_fault = fault_of_sound(info, place)
        if sound_fault is not None:
            yield sound_fault
        elif not set(info.format_name.split(",")) & set(_FORMATS[info.kind]) or _is_matroska(info):
            better = _FORMAT_NAMES[info.kind]
            yield f"{place} is of a format that the API does not take: convert it to {better}."
        yield from (f"{place} {fault}." for fault in _large_fault(info))


def _is_matroska(info: MediaInfo) -> bool:
    return "webm" in info.format_name and not (
        info.video_codec in _WEBM_PICTURES and info.audio_codec in _WEBM_SOUNDS
    )


def _length_faults(request: GenerationRequest, infos: Mapping[int, MediaInfo]) -> Iterator[str]:
    if request.model.strip() != "react-1":
        return
    for number, info in infos.items():
        seconds = info.duration_seconds
        if seconds is not None and seconds > _REACT_1_SECONDS + _ROUNDING_SECONDS:
            yield (
                f"input[{number}] lasts {seconds:.1f} s, and react-1 takes {_REACT_1_SECONDS:g} s at most: "
                "shorten it, or use another model."
            )


def _speaker_faults(request: GenerationRequest, infos: Mapping[int, MediaInfo]) -> Iterator[str]:
    picture = picture_input(request)
    info = infos.get(picture) if picture is not None else None
    if info is None or info.width is None or info.height is None:
        return
    for place, speaker in _speakers(request):
        yield from _point_faults(f"{place}.active_speaker_detection", speaker, info)


def _speakers(request: GenerationRequest) -> Iterator[tuple[str, ActiveSpeaker]]:
    """Yield each choice of a speaker with its place in the request."""
    if request.options and request.options.active_speaker_detection is not None:
        yield "options", request.options.active_speaker_detection
    for number, segment in enumerate(request.segments or []):
        override = segment.options_override
        if override and override.active_speaker_detection is not None:
            yield f"segments[{number}].options_override", override.active_speaker_detection


def _point_faults(place: str, speaker: ActiveSpeaker, info: MediaInfo) -> Iterator[str]:
    shown = info.width or 0, info.height or 0
    # In which of the two the API takes a point is not known.
    pictures = [shown, shown[::-1]] if info.is_turned else [shown]
    point = speaker.coordinates
    if point is not None and len(point) == 2 and not any(_is_within(point, size) for size in pictures):
        yield (
            f"{place}.coordinates [{point[0]:g}, {point[1]:g}] lie outside of the picture, which is "
            f"{_size(info)}."
        )
    frames = _frames(info)
    if speaker.frame_number is not None and frames is not None and speaker.frame_number >= frames:
        last = f"its last frame is {frames - 1}" if frames > 1 else "its only frame is 0"
        yield f"{place}.frame_number {speaker.frame_number} lies past the end: {last}."


def _is_within(point: Sequence[float], size: tuple[float, ...]) -> bool:
    return 0 <= point[0] < size[0] and 0 <= point[1] < size[1]


def _frames(info: MediaInfo) -> int | None:
    if info.kind == "image":
        return 1
    if info.duration_seconds is None or info.fps is None:
        return None
    return max(1, round(info.duration_seconds * info.fps))


def _segment_faults(
    request: GenerationRequest, infos: Mapping[int, MediaInfo], clip_seconds: float | None
) -> Iterator[str]:
    measured = clip_length(request, infos)
    yield from segments_past_end(request, clip_seconds if measured is None else measured)
    for number, segment in enumerate(request.segments or []):
        yield from _crop_faults(f"segments[{number}]", segment, request, infos)


def _crop_faults(
    place: str, segment: Segment, request: GenerationRequest, infos: Mapping[int, MediaInfo]
) -> Iterator[str]:
    crop = segment.audio_input
    for number, info in infos.items():
        item = request.input[number]
        end = info.duration_seconds
        named = item.type == "audio" and is_voice(item) and item.ref_id == crop.ref_id
        if named and end is not None and crop.start_time is not None and crop.start_time >= end:
            yield (
                f"{place}.audio_input starts at {crop.start_time:g} s, after the end of the voice at "
                f"{end:.2f} s."
            )
