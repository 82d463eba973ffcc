from dataclasses import replace
from typing import Any

import pytest

from sync_mcp.api.checks import segments_past_end
from sync_mcp.api.models import GenerationRequest, Text, Video
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.lengths import clip_length, missing_lengths, output_length
from sync_mcp.media.suitability import faults_of_media, notes_on_media, notes_on_upload
from sync_mcp.sandbox.api.planning import output_seconds

VIDEO = MediaInfo(
    kind="video",
    format_name="mov,mp4,m4a,3gp,3g2,mj2",
    duration_seconds=10.0,
    fps=25.0,
    width=1280,
    height=720,
    has_video=True,
    has_audio=True,
    video_codec="h264",
    audio_codec="aac",
)
VOICE = MediaInfo(
    kind="audio",
    format_name="wav",
    duration_seconds=8.0,
    fps=None,
    width=None,
    height=None,
    has_video=False,
    has_audio=True,
    audio_codec="pcm_s16le",
)
PHOTO = replace(
    VIDEO,
    kind="image",
    format_name="jpeg_pipe",
    duration_seconds=None,
    fps=None,
    has_video=False,
    has_audio=False,
    video_codec="mjpeg",
    audio_codec=None,
)


def _request(*kinds: str, model: str = "lipsync-2", **more: Any) -> GenerationRequest:
    items: list[dict[str, Any]] = []
    for number, kind in enumerate(kinds):
        item: dict[str, Any] = {"type": kind, "ref_id": f"r{number}"}
        items.append(item | ({"script": "a" * 240, "voice_id": "v"} if kind == "text" else {"asset_id": "a"}))
    return GenerationRequest.model_validate({"model": model, "input": items, **more})


def _faults(
    *infos: MediaInfo, kinds: tuple[str, ...] = ("video", "audio"), plan: str | None = None, **more: Any
) -> list[str]:
    seconds = more.pop("output_seconds", None)
    request = _request(*kinds, **more)
    return faults_of_media(request, dict(enumerate(infos)), plan=plan, output_seconds=seconds)


def _one(faults: list[str]) -> str:
    assert len(faults) == 1, faults
    return faults[0]


def test_a_usual_video_and_voice_have_no_fault() -> None:
    assert _faults(VIDEO, VOICE, plan="creator", output_seconds=8.0) == []


def test_what_is_not_known_is_no_fault() -> None:
    request = _request("video", "audio", model="react-1")
    assert faults_of_media(request, {}, plan=None, output_seconds=None) == []
    assert faults_of_media(request, {}, plan="a plan of tomorrow", output_seconds=9e9) == []


def test_a_still_image_needs_sync_3() -> None:
    assert _one(_faults(PHOTO, VOICE, kinds=("image", "audio"))) == (
        "input[0]: lipsync-2 does not take an image: use sync-3, or a video."
    )
    assert _faults(PHOTO, VOICE, kinds=("image", "audio"), model="sync-3") == []


def test_media_of_another_kind_than_their_place_are_told_apart() -> None:
    assert "still image, not a video: use sync-3" in _one(_faults(PHOTO, VOICE))
    assert 'give it as type "image"' in _one(_faults(PHOTO, VOICE, model="sync-3"))
    assert 'give it as type "audio"' in _one(_faults(VOICE, VOICE))
    assert _one(_faults(VIDEO, VIDEO)).startswith("input[1] is a video, not an audio file")
    assert "is a video, not a still image" in _one(
        _faults(VIDEO, VOICE, kinds=("image", "audio"), model="sync-3")
    )


def test_a_voice_has_to_sound() -> None:
    mute = replace(VIDEO, has_audio=False, audio_codec=None)
    assert "input[1] has no sound" in _one(_faults(VIDEO, mute))
    assert _faults(mute, VOICE) == []


def test_a_dub_needs_speech_in_the_video() -> None:
    mute = replace(VIDEO, has_audio=False, audio_codec=None)
    dub: dict[str, Any] = {"kinds": ("video",), "dub": {"target_lang": "es"}}
    assert "no speech to dub" in _one(_faults(mute, **dub))
    assert _faults(VIDEO, **dub) == []


def test_react_1_takes_fifteen_seconds_of_each_input() -> None:
    long = replace(VOICE, duration_seconds=15.5)
    assert _one(_faults(VIDEO, long, model="react-1")).startswith(
        "input[1] lasts 15.5 s, and react-1 takes 15 s"
    )
    assert _faults(VIDEO, replace(VOICE, duration_seconds=15.03), model="react-1") == []
    assert _faults(VIDEO, long) == []


@pytest.mark.parametrize(
    ("plan", "model", "seconds", "refused"),
    [
        ("free", "sync-3", 16.0, True),
        ("free", "sync-3", 15.0, False),
        ("free", "lipsync-2", 20.0, False),
        ("free", "lipsync-2", 21.0, True),
        ("hobbyist", "lipsync-2", 61.0, True),
        ("Creator (monthly)", "lipsync-2", 301.0, True),
        ("creator", "lipsync-2", 300.0, False),
        ("growth", "lipsync-2", 601.0, True),
        ("SCALE", "lipsync-2", 1801.0, True),
        ("enterprise", "lipsync-2", 9000.0, False),
    ],
)
def test_a_plan_allows_so_many_seconds(plan: str, model: str, seconds: float, refused: bool) -> None:
    faults = _faults(VIDEO, VOICE, plan=plan, model=model, output_seconds=seconds)
    assert any("the output would last" in fault for fault in faults) == refused


def test_a_script_is_too_long_only_if_nobody_could_say_it_in_time() -> None:
    kinds = ("video", "text")
    assert _faults(VIDEO, kinds=kinds, plan="free", output_seconds=30.0) == []
    assert "would last 40.0 s" in _one(_faults(VIDEO, kinds=kinds, plan="free", output_seconds=40.0))


def test_plans_leave_out_models_and_options() -> None:
    assert "does not include react-1" in _one(_faults(VIDEO, VOICE, plan="free", model="react-1"))
    picked: dict[str, Any] = {"options": {"active_speaker_detection": {"auto_detect": True}}}
    assert "active_speaker_detection" in _one(_faults(VIDEO, VOICE, plan="hobbyist", **picked))
    assert _faults(VIDEO, VOICE, plan="creator", **picked) == []


@pytest.mark.parametrize(
    ("size", "fitting"),
    [
        ((4098, 2160), "4096 by 2158"),
        ((4096, 2162), "4092 by 2160"),
        ((2162, 4096), "2160 by 4092"),
        ((3024, 4032), "2160 by 2880"),
    ],
)
def test_a_video_may_be_4k_at_most_whichever_way_it_stands_and_is_told_what_fits(
    size: tuple[int, int], fitting: str
) -> None:
    large = replace(VIDEO, width=size[0], height=size[1])
    fault = _one(_faults(large, VOICE))
    assert f"{size[0]} by {size[1]} pixels" in fault
    assert f"make it {fitting}." in fault
    [note] = notes_on_upload(large)
    assert note.startswith(f"It is {size[0]} by {size[1]} pixels, and the API takes videos of 4096 by 2160")
    assert note.endswith(f"make it {fitting}.")


def test_a_large_photo_is_no_fault_and_has_a_note() -> None:
    photo = replace(PHOTO, width=4032, height=3024)
    assert _faults(photo, VOICE, kinds=("image", "audio"), model="sync-3") == []
    [note] = notes_on_upload(photo)
    assert note == "It is 4032 by 3024 pixels: if the API refuses it, 2880 by 2160 fits."
    assert notes_on_upload(PHOTO) == []


def test_sound_in_a_container_of_videos_is_called_that_once_in_either_place() -> None:
    note = replace(VOICE, format_name="matroska,webm", audio_codec="opus")
    said = "is sound in WebM, which the API does not take as audio: convert it to WAV or MP3."
    assert _one(_faults(VIDEO, note)) == f"input[1] {said}"
    assert _one(_faults(note, VOICE)) == f"input[0] {said}"
    avi = replace(note, format_name="avi", audio_codec="mp3")
    assert "is sound in AVI" in _one(_faults(VIDEO, avi))


def test_a_silent_first_sound_is_a_fault_where_it_would_be_heard_and_a_note_elsewhere() -> None:
    screen = replace(VIDEO, first_sound_is_silent=True)
    assert "the API dubs no other" in _one(_faults(screen, kinds=("video",), dub={"target_lang": "es"}))
    assert "the API hears no other" in _one(_faults(VIDEO, replace(VOICE, first_sound_is_silent=True)))
    assert _faults(screen, VOICE) == []
    [note] = notes_on_media(_request("video", "audio"), {0: screen, 1: VOICE})
    assert note.startswith("The first sound of input[0] is silent")


def test_a_still_video_has_a_note() -> None:
    [note] = notes_on_media(_request("video", "audio"), {0: replace(VIDEO, stands_still=True), 1: VOICE})
    assert note.startswith("input[0] stands still")
    assert notes_on_media(_request("video", "audio"), {0: VIDEO, 1: VOICE}) == []


@pytest.mark.parametrize(
    ("point", "is_in_one"),
    [([100, 100], True), ([1000, 1800], True), ([1800, 1000], True), ([1100, 1100], False)],
)
def test_a_point_on_a_turned_video_is_noted_where_it_lies_in_either_picture(
    point: list[float], is_in_one: bool
) -> None:
    turned = replace(VIDEO, width=1080, height=1920, is_turned=True)
    speaker = {"active_speaker_detection": {"coordinates": point, "frame_number": 0}}
    for request in (
        _request("video", "audio", options=speaker),
        _request("video", "audio", segments=_override(speaker)),
    ):
        faults = faults_of_media(request, {0: turned, 1: VOICE})
        assert (faults == []) == is_in_one
        [note] = notes_on_media(request, {0: turned, 1: VOICE})
        assert "shown it is 1080 by 1920, stored 1920 by 1080" in note
        assert notes_on_media(request, {0: VIDEO, 1: VOICE}) == []


def _override(speaker: dict[str, Any]) -> list[dict[str, Any]]:
    audio = {"ref_id": "r1"}
    return [{"start_time": 0, "end_time": 1, "audio_input": audio, "options_override": speaker}]


def test_a_picture_of_4k_standing_is_taken() -> None:
    assert _faults(replace(VIDEO, width=2160, height=4096), VOICE) == []


def test_a_format_that_the_api_does_not_name_is_a_fault() -> None:
    matroska = replace(VIDEO, format_name="matroska,webm")
    assert "convert it to MP4" in _one(_faults(matroska, VOICE))
    webm = replace(matroska, video_codec="vp9", audio_codec="opus")
    assert _faults(webm, VOICE) == []
    windows = replace(VIDEO, format_name="asf", video_codec="wmv2", audio_codec="wmav2")
    assert "convert it to MP4" in _one(_faults(windows, VOICE))


def test_a_long_recording_is_no_fault_where_the_plan_allows_it() -> None:
    long = replace(VOICE, duration_seconds=900.0)
    assert _faults(VIDEO, long, plan="scale", output_seconds=900.0) == []


def test_a_speaker_is_pointed_at_within_the_picture_and_its_frames() -> None:
    def pointed(x: float, y: float, frame: int) -> dict[str, Any]:
        return {"options": {"active_speaker_detection": {"coordinates": [x, y], "frame_number": frame}}}

    assert _faults(VIDEO, VOICE, **pointed(1279, 719, 249)) == []
    assert "[1280, 0] lie outside" in _one(_faults(VIDEO, VOICE, **pointed(1280, 0, 0)))
    assert "its last frame is 249" in _one(_faults(VIDEO, VOICE, **pointed(0, 0, 250)))
    still = _faults(PHOTO, VOICE, kinds=("image", "audio"), model="sync-3", **pointed(0, 0, 1))
    assert "its only frame is 0" in _one(still)


def test_a_segment_begins_within_the_video_and_within_its_voice() -> None:
    def segment(start: float, crop: float) -> dict[str, Any]:
        audio = {"ref_id": "r1", "start_time": crop, "end_time": crop + 1}
        return {"segments": [{"start_time": start, "end_time": start + 1, "audio_input": audio}]}

    assert _faults(VIDEO, VOICE, **segment(9, 7)) == []
    assert "after the end of the video at 10.00 s" in _one(_faults(VIDEO, VOICE, **segment(10, 0)))
    assert "after the end of the voice at 8.00 s" in _one(_faults(VIDEO, VOICE, **segment(0, 8)))


def _segments(*times: tuple[float, float]) -> dict[str, Any]:
    audio = {"ref_id": "r1"}
    return {"segments": [{"start_time": a, "end_time": b, "audio_input": audio} for a, b in times]}


def test_a_segment_ends_within_the_video_but_for_the_rounding_of_its_length() -> None:
    assert _faults(VIDEO, VOICE, **_segments((0, 5), (5, 10.04))) == []
    assert _one(_faults(VIDEO, VOICE, **_segments((0, 5), (5, 10.1)))) == (
        "segments[1] ends at 10.1 s, after the end of the video at 10.00 s: it must end within it."
    )


def test_a_segment_is_held_against_the_length_of_a_video_that_is_no_file_here() -> None:
    request = _request("video", "audio", **_segments((0, 12)))
    assert clip_length(request, {0: 10.0, 1: VOICE}) == 10.0
    assert "ends at 12 s" in _one(faults_of_media(request, {1: VOICE}, clip_seconds=10.0))
    assert faults_of_media(request, {1: VOICE}) == []
    assert segments_past_end(request, None) == []


def test_an_image_has_no_end_that_a_segment_could_pass() -> None:
    moment = replace(PHOTO, duration_seconds=0.04)
    assert _faults(moment, VOICE, kinds=("image", "audio"), model="sync-3", **_segments((0, 5))) == []


@pytest.mark.parametrize("mode", ["bounce", "loop", "cut_off", "silence", "remap"])
@pytest.mark.parametrize(("video", "voice"), [(10.0, 8.0), (8.0, 10.0)])
def test_the_output_is_as_long_as_the_sandbox_makes_it(mode: str, video: float, voice: float) -> None:
    expected = output_length(
        _request("video", "audio", options={"sync_mode": mode}),
        {0: replace(VIDEO, duration_seconds=video), 1: replace(VOICE, duration_seconds=voice)},
    )
    assert expected.seconds == output_seconds(mode, video, voice)


def test_without_a_mode_the_output_is_as_long_as_the_voice() -> None:
    expected = output_length(_request("video", "audio"), {0: VIDEO, 1: 8.0})
    assert (expected.seconds, expected.note) == (8.0, "as long as the voice")


def test_an_image_lasts_as_long_as_its_voice() -> None:
    request = _request("image", "audio", model="sync-3", options={"sync_mode": "silence"})
    assert output_length(request, {0: PHOTO, 1: VOICE}).seconds == 8.0


def test_a_dub_and_segments_last_as_long_as_the_video() -> None:
    assert output_length(_request("video", dub={"target_lang": "es"}), {0: VIDEO}).seconds == 10.0
    audio = {"ref_id": "r1"}
    segments = [{"start_time": 0, "end_time": 3, "audio_input": audio}]
    assert output_length(_request("video", "audio", segments=segments), {0: VIDEO}).seconds == 10.0
    still = _request("image", "audio", model="sync-3", segments=segments)
    assert output_length(still, {0: PHOTO}).seconds == 3.0


def test_a_script_is_measured_by_its_characters_and_says_so() -> None:
    expected = output_length(_request("video", "text"), {})
    assert expected.seconds == 20.0
    assert expected.note == "as long as a script of 240 characters, taken to be said at 12 a second"


def test_a_length_that_is_needed_and_not_known_is_asked_for() -> None:
    request = _request("video", "audio", options={"sync_mode": "cut_off"})
    assert missing_lengths(request, {}) == [0, 1]
    assert missing_lengths(request, {0: VIDEO, 1: None}) == [1]
    expected = output_length(request, {0: VIDEO})
    assert (expected.seconds, expected.note) == (None, "the length of input[1] is not known")
    assert missing_lengths(_request("video", "audio"), {1: VOICE}) == []


def test_a_mode_of_tomorrow_leaves_the_length_open() -> None:
    request = _request("video", "audio", options={"sync_mode": "weave"})
    expected = output_length(request, {0: VIDEO, 1: VOICE})
    assert (expected.seconds, expected.note) == (
        None,
        "what sync_mode weave makes of the lengths is not known",
    )


@pytest.mark.parametrize(("script", "seconds"), [("a" * 120, 10), ("你好" * 20, 10), ("1" * 30, 10)])
def test_a_script_is_as_long_as_it_takes_to_say_it(script: str, seconds: float) -> None:
    request = GenerationRequest(
        model="lipsync-2", input=[Video(url="https://h/v.mp4"), Text(script=script, voice_id="v")]
    )
    assert output_length(request, {0: 3.0}).seconds == seconds
