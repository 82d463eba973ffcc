"""How long the output will be, by the request and what is known of its files; nothing is asked here."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from sync_mcp.api.checks import is_visual, is_voice
from sync_mcp.api.models import GenerationRequest, Text
from sync_mcp.media.decoding.findings import MediaInfo

SPOKEN_CHARACTERS_PER_SECOND = 12
"""Voices say about 15; a price should rather be too high than too low."""

Lengths = Mapping[int, MediaInfo | float | None]
"""What is known of inputs by their number: what they hold, or the seconds that they last."""


@dataclass(frozen=True, slots=True)
class ExpectedLength:
    """How long the output will be."""

    seconds: float | None
    note: str
    """On what the length rests; or why it is not known."""


def missing_lengths(request: GenerationRequest, lengths: Lengths) -> list[int]:
    """Return the numbers of the inputs whose length decides that of the output and is not known."""
    return [number for number in deciding_inputs(request) if _seconds(request, lengths, number) is None]


def clip_length(request: GenerationRequest, lengths: Lengths) -> float | None:
    """Return how long the video of a request is, where there is one and that is known."""
    picture = picture_input(request)
    if picture is None or request.input[picture].type != "video":
        return None
    return _seconds(request, lengths, picture)


def output_length(request: GenerationRequest, lengths: Lengths) -> ExpectedLength:
    """Return how long the output will be, by what the request does with picture and sound (API §3.1.2)."""
    picture, voice = picture_input(request), _voice_input(request)
    mode = _sync_mode(request)
    if request.segments and picture is not None and request.input[picture].type == "image":
        last = max(segment.end_time for segment in request.segments)
        return ExpectedLength(last, "as long as the segments")
    if request.dialogue_edit:
        return ExpectedLength(
            None, "only the API knows how long the edited dialogue is, once it has the video: give its url"
        )
    missing = missing_lengths(request, lengths)
    deciding = deciding_inputs(request)
    if missing or not deciding:
        places = " and ".join(f"input[{number}]" for number in missing) or "the media"
        return ExpectedLength(None, f"the length of {places} is not known")
    if mode not in (None, "bounce", "loop", "remap", "cut_off", "silence") and len(deciding) > 1:
        return ExpectedLength(None, f"what sync_mode {mode} makes of the lengths is not known")
    seconds = {number: _seconds(request, lengths, number) or 0.0 for number in deciding}
    number = min(seconds, key=lambda each: seconds[each])
    return ExpectedLength(seconds[number], _rests_on(request, number, picture, voice, mode))


def deciding_inputs(request: GenerationRequest) -> list[int]:
    """Return the numbers of the inputs whose lengths decide that of the output."""
    picture, voice = picture_input(request), _voice_input(request)
    still = picture is not None and request.input[picture].type == "image"
    if request.segments:
        wanted = [] if still else [picture]
    elif request.dialogue_edit:
        # It is as long as the preview, which the API has.
        wanted = []
    elif request.dub:
        wanted = [picture]
    elif still:
        wanted = [voice]
    else:
        mode = _sync_mode(request)
        by_mode = {"cut_off": [picture, voice], "silence": [picture]}
        known = mode in (None, "bounce", "loop", "remap")
        wanted = by_mode.get(mode or "", [voice] if known else [picture, voice])
    return [number for number in wanted if number is not None]


def _rests_on(
    request: GenerationRequest, number: int, picture: int | None, voice: int | None, mode: str | None
) -> str:
    item = request.input[number]
    if isinstance(item, Text):
        return (
            f"as long as a script of {len(item.script)} characters, taken to be said at "
            f"{SPOKEN_CHARACTERS_PER_SECOND} a second"
        )
    what = "the video" if number == picture else "the voice"
    told = f" (sync_mode {mode})" if mode and picture is not None and voice is not None else ""
    return f"as long as {what}{told}"


def _seconds(request: GenerationRequest, lengths: Lengths, number: int) -> float | None:
    item = request.input[number]
    if isinstance(item, Text):
        return max(1.0, sum(map(_letters_said, item.script)) / SPOKEN_CHARACTERS_PER_SECOND)
    known = lengths.get(number)
    return known.duration_seconds if isinstance(known, MediaInfo) else known


def _letters_said(character: str) -> int:
    """Return how many letters a character is worth when it is said."""
    if unicodedata.east_asian_width(character) in "WF":
        return 3
    return 4 if character.isdigit() else 1


def picture_input(request: GenerationRequest) -> int | None:
    """Return the number of the first video or image; None where there is none."""
    return next((n for n, item in enumerate(request.input) if is_visual(item)), None)


def _voice_input(request: GenerationRequest) -> int | None:
    return next((n for n, item in enumerate(request.input) if is_voice(item)), None)


def _sync_mode(request: GenerationRequest) -> str | None:
    return request.options.sync_mode if request.options else None
