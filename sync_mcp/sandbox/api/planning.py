"""From a create's body to what it will be: the length of the output, its price, and how it is rendered."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sync_mcp.sandbox.api.catalogue import refusal
from sync_mcp.sandbox.api.contract import CreateBody, MediaItem, SegmentItem, TextItem
from sync_mcp.sandbox.api.inputs import Media, MediaInputs, place_of
from sync_mcp.sandbox.api.rules import media_items
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.jobs import Job, JsonObject, sources_of
from sync_mcp.sandbox.media.picture import Walk
from sync_mcp.sandbox.media.render import RenderPlan, Voice
from sync_mcp.sandbox.settings import FREE_SYNC_3_SECONDS, REACT_1_SECONDS, SandboxSettings
from sync_mcp.sandbox.world import World

IMAGE_FPS = 25.0
_LEAST_FPS, _MOST_FPS = 10.0, 60.0
_LONGEST_SIDE, _SHORTER_SIDE = 4096, 2160
_WALKS: dict[str, Walk] = {"loop": "loop", "bounce": "bounce", "remap": "stretch"}


@dataclass(frozen=True, slots=True)
class Quote:
    """What a create will make and cost."""

    plan: RenderPlan
    frames: int
    cost_usd: Decimal
    longest_input_seconds: float
    speech: Path | None
    """The speech made from a script, where there is one."""


async def quote(create: CreateBody, inputs: MediaInputs, settings: SandboxSettings) -> Quote:
    """Look at the media of a create and work out what it will make.

    Raises:
        Refusal: media that cannot be fetched, decoded or used like this.
    """
    media: dict[int, Media] = {}
    for field, item in media_items(create):
        media[id(item)] = await inputs.media(item, field)
    for item in create.voices:
        if isinstance(item, TextItem):
            media[id(item)] = await inputs.speech(item.provider.script)
    visual = media[id(create.visuals[0])]
    _check_picture(create, visual)
    voices: list[tuple[str | None, Media]] = [(voice.ref_id, media[id(voice)]) for voice in create.voices]
    if create.dub_params:
        _check_speech(create.visuals[0], visual)
        voices = [(None, visual)]
    if create.dialogue_edit:
        voices = [(None, inputs.dialogue_edit(create.dialogue_edit.id, visual))]
    plan = _plan(create, visual, voices)
    await inputs.try_picture(plan, create.visuals[0])
    # Counted by the rate that the video has, whatever it is rendered at.
    frames = max(1, round(plan.seconds * (visual.info.fps or IMAGE_FPS)))
    spoken = next((media[id(voice)].path for voice in create.voices if isinstance(voice, TextItem)), None)
    return Quote(
        plan=plan,
        frames=frames,
        cost_usd=frames * settings.frame_price(create.model),
        longest_input_seconds=max(_seconds(item) for item in media.values()),
        speech=spoken,
    )


def new_job(world: World, asked: JsonObject, made: Quote, key_name: str, fate: Fault | None) -> Job:
    """Return the job of a create that was checked; it is not accepted yet."""
    return Job(
        id=world.new_id("generation"),
        created_at=world.clock.now(),
        seconds=world.settings.job_seconds,
        asked=asked,
        plan=made.plan,
        cost_usd=made.cost_usd,
        frames=made.frames,
        key_name=key_name,
        idempotency_key=None,
        source="api",
        fate=fate,
        speech=made.speech,
        render_path=world.storage.fresh("outputs", ".mp4"),
        sources=sources_of(made.plan),
    )


def check_limits(create: CreateBody, made: Quote, settings: SandboxSettings) -> None:
    """Check the lengths that the model and the plan allow.

    Raises:
        Refusal: 422 for the model, 402 for the plan.
    """
    if create.model == "react-1" and made.longest_input_seconds > REACT_1_SECONDS:
        message = f"react-1 takes inputs of {REACT_1_SECONDS} seconds at most."
        raise refusal("generation_model_duration_exceeded", message=message, field="input")
    too_long_for_free = (
        settings.plan == "free" and create.model == "sync-3" and made.plan.seconds > FREE_SYNC_3_SECONDS
    )
    if too_long_for_free or not settings.limits.allows(made.plan.seconds):
        raise refusal("generation_plan_duration_exceeded", field="input")


def _seconds(media: Media) -> float:
    return media.info.duration_seconds or 0.0


def _check_speech(item: MediaItem, visual: Media) -> None:
    # Which code the API has for it is not known.
    if not visual.info.is_heard:
        message = "A dub takes the voice from its video, and there is nothing to hear in this one."
        raise refusal(
            "generation_input_video_invalid",
            message=message,
            suggestion="Use a video with speech, or add an audio or text input in place of dubParams.",
            field=place_of(item, "input[0]"),
        )


def _check_picture(create: CreateBody, visual: Media) -> None:
    width, height = visual.info.width or 0, visual.info.height or 0
    too_large = max(width, height) > _LONGEST_SIDE or min(width, height) > _SHORTER_SIDE
    # The documented limit is one of videos alone (API §19).
    if visual.info.has_video and too_large:
        raise refusal("generation_input_resolution_unsupported", field="input")
    speaker = create.options.active_speaker_detection if create.options else None
    if speaker is None or speaker.coordinates is None or speaker.frame_number is None:
        return
    x, y = speaker.coordinates
    frames = 1 if visual.info.kind == "image" else round(_seconds(visual) * (visual.info.fps or IMAGE_FPS))
    # In which of the two pictures the API takes the point of a turned video is not known.
    sizes = [(width, height), (height, width)] if visual.info.is_sideways else [(width, height)]
    within = any(0 <= x < size[0] and 0 <= y < size[1] for size in sizes)
    if not (within and speaker.frame_number < max(1, frames)):
        message = f"The picture has {frames} frames of {width} by {height} pixels; the point lies outside."
        field = "options.active_speaker_detection.coordinates"
        raise refusal("generation_input_face_selection_invalid", message=message, field=field)


def _plan(create: CreateBody, visual: Media, voices: list[tuple[str | None, Media]]) -> RenderPlan:
    still = visual.info.kind == "image"
    source_seconds = _seconds(visual)
    mode = (create.options and create.options.sync_mode) or "bounce"
    voice_seconds = _seconds(voices[0][1])
    walk: Walk = "forward"
    if create.segments:
        last = max(segment.end_time for segment in create.segments)
        seconds = last if still else source_seconds
        sounds = _segment_voices(create.segments, visual, dict(voices), seconds)
    else:
        sounds = (Voice(voices[0][1].path),)
        if create.dub_params:
            seconds = source_seconds
        elif create.dialogue_edit:
            # What is said now may take longer than before, or less: the picture goes along.
            seconds, walk = voice_seconds, "stretch"
        elif still:
            seconds = voice_seconds
        else:
            seconds = output_seconds(mode, source_seconds, voice_seconds)
            walk = _WALKS.get(mode, "forward")
    return RenderPlan(
        visual=visual.path,
        still=still,
        width=visual.info.shown_width or 0,
        height=visual.info.shown_height or 0,
        fps=IMAGE_FPS if still else min(_MOST_FPS, max(_LEAST_FPS, visual.info.fps or IMAGE_FPS)),
        seconds=seconds,
        source_seconds=source_seconds,
        walk=walk,
        voices=sounds,
    )


def output_seconds(sync_mode: str, video_seconds: float, audio_seconds: float) -> float:
    """Return how long the output is where picture and sound differ in length (API §3.1.2)."""
    if sync_mode == "cut_off":
        return min(video_seconds, audio_seconds)
    if sync_mode == "silence":
        return video_seconds
    return audio_seconds


def _segment_voices(
    segments: list[SegmentItem], visual: Media, voices: dict[str | None, Media], seconds: float
) -> tuple[Voice, ...]:
    sounds = [Voice(visual.path)] if visual.info.has_audio else []
    for number, segment in enumerate(segments):
        field = f"segments[{number}]"
        if segment.start_time >= seconds:
            message = f"The segment starts after the end of the video at {seconds:g} seconds."
            raise refusal("generation_input_segments_invalid", message=message, field=field)
        audio = segment.audio_input
        voice = voices[audio.ref_id]
        if audio.start_time is not None and audio.start_time >= _seconds(voice):
            message = f"The crop starts after the end of the audio at {_seconds(voice):g} seconds."
            raise refusal("generation_input_trim_invalid", message=message, field=f"{field}.audioInput")
        sounds.append(_segment_voice(segment, voice))
    return tuple(sounds)


def _segment_voice(segment: SegmentItem, voice: Media) -> Voice:
    audio = segment.audio_input
    skip = audio.start_time or 0.0
    longest = segment.end_time - segment.start_time
    if audio.end_time is not None:
        longest = min(longest, audio.end_time - skip)
    return Voice(voice.path, at=segment.start_time, skip=skip, seconds=longest)
