"""Which options each model takes; the API ignores all others without a word (API §3.1.2, §18).

Only what is documented is judged: of a model that is not known here nothing is said. A value that is the
API's own default asks for nothing, and is never remarked on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from sync_mcp.api.fields import OPTIONS
from sync_mcp.api.models import GenerationOptions, GenerationRequest, SegmentOptions
from sync_mcp.texts import clean

_VALUE_LIMIT = 60


@dataclass(frozen=True, slots=True)
class _Option:
    models: tuple[str, ...]
    """The models that take it."""
    is_for_segments: bool = True
    """Whether a segment can set it for itself."""
    makes_another_video: bool = False
    """Whether it asks for another video, not for a better one of the same."""


_MODELS = ("sync-3", "lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta", "react-1")
_OPTIONS: Mapping[str, _Option] = {
    "sync_mode": _Option(_MODELS),
    "temperature": _Option(("lipsync-2", "lipsync-2-pro")),
    "active_speaker_detection": _Option(("sync-3", "lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta")),
    "occlusion_detection_enabled": _Option(("lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta")),
    "reasoning_enabled": _Option(("lipsync-2-pro",), is_for_segments=False),
    "model_mode": _Option(("react-1",), is_for_segments=False, makes_another_video=True),
    "prompt": _Option(("react-1",), is_for_segments=False, makes_another_video=True),
}
_BY_ITSELF = ("sync-3", "occlusion_detection_enabled")


@dataclass(frozen=True, slots=True)
class IgnoredOption:
    """An option that would be paid for and do nothing."""

    name: str
    """Where it stands in the request, such as `options.prompt`."""
    value: object
    """What was asked for."""
    model: str
    """The request's model."""
    why: str
    models: tuple[str, ...]
    """The models that take it."""
    is_to_refuse: bool
    """Whether the video would not be the one asked for: it lacks an emotion, or another part is moved."""

    @property
    def sentence(self) -> str:
        """What is ignored, and why, for whoever asked for it."""
        return f"{self.name}{_format_value(self.value)} does nothing with {self.model}: {self.why}."


def find_ignored_options(request: GenerationRequest) -> list[IgnoredOption]:
    """Return the options of a request that the API would ignore, those of its segments too."""
    found = [*_find_ignored(request, request.options, "options")]
    for number, segment in enumerate(request.segments or []):
        found += _find_ignored(request, segment.options_override, f"segments[{number}].options_override")
    return found


def options_to_refuse(request: GenerationRequest) -> list[IgnoredOption]:
    """Return the ignored options without which the video would not be the one that was asked for."""
    return [option for option in find_ignored_options(request) if option.is_to_refuse]


def _find_ignored(
    request: GenerationRequest, options: GenerationOptions | SegmentOptions | None, place: str
) -> Iterator[IgnoredOption]:
    model = request.model.strip()
    if options is None or model not in _MODELS:
        return
    for name, option in _OPTIONS.items():
        # What a segment cannot set is no field of its own, and stands beside them.
        value: object = getattr(options, name, None)
        if not _asks_for_something(value, OPTIONS[name].default):
            continue
        why = _reason(request, model, name, is_in_segment=isinstance(options, SegmentOptions))
        if why is not None:
            yield IgnoredOption(
                f"{place}.{name}", value, model, why, option.models, option.makes_another_video
            )


def _reason(request: GenerationRequest, model: str, name: str, *, is_in_segment: bool) -> str | None:
    """Return why an option does nothing, or None where it does something."""
    option = _OPTIONS[name]
    if (model, name) == _BY_ITSELF:
        return f"{model} minds covered faces by itself"
    if model not in option.models:
        *others, last = option.models
        return f"only {', '.join(others)} and {last} take it" if others else f"only {last} takes it"
    if is_in_segment and not option.is_for_segments:
        return "a segment cannot set it; give it in options"
    if name == "sync_mode" and any(item.type == "image" for item in request.input):
        return "an image has no length to be fitted"
    return None


def _asks_for_something(value: object, default: object) -> bool:
    if isinstance(value, BaseModel):
        return any(part not in (None, False) for part in value.model_dump().values())
    return value is not None and value != default


def _format_value(value: object) -> str:
    """Return a value as it is shown behind its name: one that is short, or nothing."""
    if isinstance(value, bool):
        return f" {str(value).lower()}"
    if isinstance(value, str | int | float):
        return f" {clean(str(value), _VALUE_LIMIT)!r}" if isinstance(value, str) else f" {value:g}"
    return ""
