from typing import Any, Literal

import pytest

from sync_mcp import (
    ActiveSpeaker,
    AsyncSync,
    Audio,
    Dub,
    GenerationOptions,
    GenerationRequest,
    Image,
    Input,
    InvalidRequestError,
    Segment,
    SegmentAudioInput,
    SegmentOptions,
    Text,
    Video,
)
from sync_mcp.api.checks import faults_of
from sync_mcp.api.models import LocalMedia
from sync_mcp.sandbox import Sandbox

pytestmark = pytest.mark.anyio

NAN, INFINITE = float("nan"), float("inf")
VIDEO = Video(url="https://example.com/v.mp4")
AUDIO = Audio(url="https://example.com/a.wav")
IMAGE = Image(url="https://example.com/i.jpg")
TEXT = Text(script="Hello.", voice_id="v1")
Request = dict[str, Any]


def _request(**changes: Any) -> Request:
    return {"model": "lipsync-2", "input": [VIDEO, AUDIO], **changes}


def _text(**changes: Any) -> Request:
    return _request(input=[VIDEO, Text.model_validate({"script": "Hello.", "voice_id": "v1", **changes})])


def _options(**options: Any) -> Request:
    return _request(options=GenerationOptions(**options))


def _speaker(**speaker: Any) -> Request:
    return _options(active_speaker_detection=ActiveSpeaker(**speaker))


def _part(start: float = 0, end: float = 1, ref_id: str = "a", **more: Any) -> Segment:
    crop = {name: more.pop(name) for name in ("start_time", "end_time") if name in more}
    voice = SegmentAudioInput(ref_id=ref_id, **crop)
    return Segment(start_time=start, end_time=end, audio_input=voice, **more)


def _segments(*segments: Segment, voices: tuple[str | None, ...] = ("a", "b")) -> Request:
    named = [Audio(url=f"https://example.com/{n}.wav", ref_id=ref_id) for n, ref_id in enumerate(voices)]
    return _request(input=[VIDEO, *named], segments=list(segments))


def _dub(**changes: Any) -> Request:
    return {"model": "lipsync-2", "input": [VIDEO], "dub": Dub(target_lang="es"), **changes}


SPEAKER = "options.active_speaker_detection"
FETCHABLE = "must be a whole http or https URL that the API can fetch."
NEITHER = "has neither url nor asset_id: give one of them."
SHARE = "must lie between 0 and 1."
NO_SHARES = (-0.1, 1.01, NAN, INFINITE)
NO_SPANS = ((-1, 1), (NAN, 1), (0, NAN), (0, INFINITE))
UUID = "6533643b-aceb-4c40-967e-d9ba9baac39e"

# Each rule's sentence, and requests that break this rule alone.
BROKEN: dict[str, list[Request]] = {
    "model is empty: name one, for example lipsync-2.": [_request(model=name) for name in ("", " ", None)],
    "input needs exactly one video or image, and has 0.": [_request(input=[AUDIO])],
    "input needs exactly one video or image, and has 2.": [
        _request(input=[VIDEO, VIDEO, AUDIO]),
        _request(model="sync-3", input=[VIDEO, IMAGE, TEXT]),
    ],
    "input needs a voice: one audio or text item; or dub, to translate what the video says.": [
        _request(input=[VIDEO])
    ],
    "input has 2 voices: more than one audio or text item needs segments.": [
        _request(input=[VIDEO, AUDIO, TEXT]),
        _request(input=[VIDEO, AUDIO, AUDIO], segments=[]),
    ],
    "lipsync-2 does not take an image: use sync-3, or a video.": [_request(input=[IMAGE, AUDIO])],
    f"input[0] (video) {NEITHER}": [_request(input=[Video(), AUDIO])],
    f"input[0] (image) {NEITHER}": [_request(model="sync-3", input=[Image(url=""), AUDIO])],
    f"input[1] (audio) {NEITHER}": [_request(input=[VIDEO, Audio(asset_id="")])],
    f"input[0].url {FETCHABLE}": [
        _request(input=[Video(url=url), AUDIO])
        for url in (
            "clip.mp4",
            "ftp://h/v.mp4",
            "file:///etc/passwd",
            "https://",
            "https://h/a b.mp4",
            "https://[::1",
            " ",
        )
    ],
    "input[1].script is empty: write what is to be said.": [_text(script=" \n"), _text(script="")],
    "input[1].script has 5001 characters and the API takes 5000: make several generations.": [
        _text(script="x" * 5001)
    ],
    "input[1].voice_id is missing: name the voice that speaks the script.": [_text(voice_id=" ")],
    f"input[1].stability {SHARE}": [_text(stability=value) for value in NO_SHARES],
    f"input[1].similarity_boost {SHARE}": [_text(similarity_boost=value) for value in NO_SHARES],
    f"options.temperature {SHARE}": [_options(temperature=value) for value in NO_SHARES],
    f"{SPEAKER}.coordinates must be two pixel positions, [x, y].": [
        _speaker(frame_number=0, coordinates=point)
        for point in ([], [1], [1, 2, 3], [-1, 2], [NAN, 2], [1, INFINITE])
    ],
    f"{SPEAKER}: coordinates and frame_number go together; one is missing.": [
        _speaker(coordinates=[1, 2]),
        _speaker(frame_number=3),
    ],
    f"{SPEAKER}.frame_number must be 0 or more.": [_speaker(coordinates=[1, 2], frame_number=-1)],
    f"{SPEAKER}.bounding_boxes must hold [x1, y1, x2, y2] or null for each frame.": [
        _speaker(bounding_boxes=[None, box]) for box in ([], [1, 2, 3], [1, 2, 3, NAN])
    ],
    f"{SPEAKER}.bounding_boxes_url {FETCHABLE}": [_speaker(bounding_boxes_url="boxes.json")],
    f"{SPEAKER}: give one of coordinates, bounding_boxes and bounding_boxes_url.": [
        _speaker(frame_number=0, coordinates=[1, 2], bounding_boxes=[None]),
        _speaker(bounding_boxes=[None], bounding_boxes_url="https://h/b.json"),
    ],
    f"{SPEAKER}.auto_detect does not work with an image: give coordinates and frame_number 0.": [
        _speaker(auto_detect=True) | {"model": "sync-3", "input": [IMAGE, AUDIO]}
    ],
    "With segments, every audio or text item needs a ref_id of its own.": [
        _segments(_part(), voices=("a", None)),
        _segments(_part(), voices=("a", "a")),
    ],
    "segments[0]: start_time and end_time must be seconds, 0 or more.": [
        _segments(_part(*span)) for span in NO_SPANS
    ],
    "segments[0].end_time must be later than its start_time.": [
        _segments(_part(*span)) for span in ((1, 1), (2, 1))
    ],
    "segments[0].audio_input.ref_id 'c' is no item of input.": [_segments(_part(ref_id="c"))],
    "segments[0].audio_input: start_time and end_time go together; give both or neither.": [
        _segments(_part(start_time=0)),
        _segments(_part(end_time=1)),
    ],
    "segments[0].audio_input: the crop must start at 0 or later and end after its start.": [
        _segments(_part(start_time=start, end_time=end)) for start, end in (*NO_SPANS, (1, 1))
    ],
    "segments overlap: each must start when the one before it has ended.": [
        _segments(_part(0, 2), _part(5, 6), _part(1, 3, "b"))
    ],
    f"segments[0].options_override.temperature {SHARE}": [
        _segments(_part(options_override=SegmentOptions(temperature=value))) for value in NO_SHARES
    ],
    "With dub, input holds exactly one video and nothing else: its own speech is translated.": [
        _dub(input=[VIDEO, AUDIO]),
        _dub(input=[VIDEO, TEXT]),
        _dub(input=[VIDEO, VIDEO]),
        _dub(input=[IMAGE], model="sync-3"),
    ],
    "dub.target_lang is empty: give a language code, such as es.": [
        _dub(dub=Dub(target_lang=name)) for name in ("", " ")
    ],
    "dub.target_lang 'Spanish' is no language code; did you mean 'es' (Spanish)?": [
        _dub(dub=Dub(target_lang="Spanish"))
    ],
    "dub.source_lang 'Englisch' is no language code; did you mean 'en' (English)?": [
        _dub(dub=Dub(target_lang="es", source_lang="Englisch"))
    ],
    "dub.target_lang cannot be auto: name the language to dub into.": [_dub(dub=Dub(target_lang="auto"))],
    "output_file_name may hold 1 to 255 letters, digits, _ and - without an extension; the API would "
    "rewrite anything else.": [
        _request(output_file_name=name) for name in ("clip.mp4", "my clip", "a/b", "ü", "x" * 256, "a\n")
    ],
    "webhook_url must read plainly, as https://host/path: without a backslash, a user name or password "
    "before the host, blanks and control characters.": [
        *(_request(webhook_url=url) for url in (r"https://h\@g/x", r"https://h\x", "https://u@h/x")),
        *(_request(webhook_url=url) for url in ("https://u:p@h", "https://h%2f/x", "https://h:x/")),
        *(_request(webhook_url=url) for url in ("https://h/ x", "https://h/\x01", "https://h\t.g/")),
    ],
    "webhook_url must be a whole https URL.": [
        _request(webhook_url=url) for url in ("http://h/x", "h/x", "https://", "https:///x", "https:/h")
    ],
    "project_id must be the UUID of a project.": [
        _request(project_id=name) for name in ("mine", UUID[:8], f"{UUID} ", f"{UUID}0")
    ],
}


@pytest.mark.parametrize("sentence", BROKEN)
async def test_a_broken_rule_is_told_in_its_own_sentence_and_nothing_is_sent(
    sandbox: Sandbox, sync: AsyncSync, sentence: str
) -> None:
    for request in BROKEN[sentence]:
        for ask in (sync.generations.create, sync.generations.estimate_cost):
            with pytest.raises(InvalidRequestError) as caught:
                await ask(**request)
            assert caught.value.faults == (sentence,), request
            assert (caught.value.code, caught.value.money_spent) == ("invalid_request", "no")
    assert sandbox.requests == []


async def test_segments_do_not_go_with_a_dub(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(
        InvalidRequestError, match="dub and segments exclude each other: leave one of them out"
    ):
        await sync.generations.create(**_dub(segments=[_part()]))
    assert sandbox.requests == []


@pytest.mark.parametrize("code", ["xx", "kok", "zh-Hant", "pt_BR"])
def test_a_language_code_that_is_not_known_here_is_left_to_the_api_to_judge(code: str) -> None:
    for dub in (Dub(target_lang=code), Dub(target_lang="es", source_lang=code)):
        assert faults_of(GenerationRequest(**_dub(dub=dub))) == []


async def test_several_faults_are_told_together(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await sync.generations.create(
            model="",
            input=[Video(url="v.mp4"), Audio(), Text(script="", voice_id="", stability=9)],
            options=GenerationOptions(temperature=9),
            output_file_name="a b",
            webhook_url="http://h",
            project_id="p",
        )
    subjects = [fault.split()[0].rstrip(":") for fault in caught.value.faults]
    assert subjects == [
        "model",
        "input",
        "input[0].url",
        "input[1]",
        "input[2].script",
        "input[2].voice_id",
        "input[2].stability",
        "options.temperature",
        "output_file_name",
        "webhook_url",
        "project_id",
    ]
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"input": [{"type": "video", "url": 5}, {"type": "audio", "url": "https://h/a"}]}, "url"),
        ({"input": [{"type": "video", "url": "https://h/v"}, "an audio"]}, "input"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"segments": [{"start_time": 0}]}, "segments"),
        ({"output_file_name": 5}, "output_file_name"),
        ({"model": 5}, "model"),
    ],
)
async def test_a_value_of_the_wrong_type_is_refused_by_its_place(
    sandbox: Sandbox, sync: AsyncSync, changes: Request, place: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await sync.generations.create(**_request(**changes))
    assert place in caught.value.message
    assert "pydantic" not in str(caught.value)
    assert sandbox.requests == []


async def test_what_json_cannot_say_is_not_sent_as_something_else(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(InvalidRequestError, match="No request can be made"):
        await sync.generations.create(**_options(brightness=NAN))
    assert sandbox.requests == []


def _faults(*items: object, told: set[str] | None = None, **fields: Any) -> list[str]:
    request = GenerationRequest.model_validate({"model": "lipsync-2", "input": list(items), **fields})
    return faults_of(request, told=told or set())


def _local(type: Literal["video", "image", "audio"], **more: Any) -> LocalMedia:
    return LocalMedia(type=type, sha256="0f" * 32, name="file", **more)


@pytest.mark.parametrize(
    ("local", "told"),
    [
        ([_local("video"), AUDIO], [VIDEO, AUDIO]),
        ([_local("video"), _local("audio")], [VIDEO, AUDIO]),
        ([_local("video"), _local("image")], [VIDEO, IMAGE]),
        ([_local("image"), AUDIO], [IMAGE, AUDIO]),
        ([_local("audio")], [AUDIO]),
        ([_local("video"), AUDIO, _local("audio")], [VIDEO, AUDIO, AUDIO]),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"dub": Dub(target_lang="es")}, {"segments": [_part()]}])
def test_the_rules_for_a_local_file_are_those_for_its_kind(
    local: list[Input], told: list[Input], fields: Request
) -> None:
    assert _faults(*local, **fields) == _faults(*told, **fields)


def test_a_local_voice_is_named_by_a_segment_as_any_other() -> None:
    assert _faults(VIDEO, _local("audio", ref_id="a"), segments=[_part()]) == []


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        (_request(input=[Video(), AUDIO]), "input[0]"),
        (_dub(dub=Dub(target_lang="Elvish")), "dub.target_lang"),
        (_dub(dub=Dub(target_lang="es", source_lang="Elvish")), "dub.source_lang"),
    ],
)
def test_what_is_told_of_a_place_elsewhere_is_not_told_twice(request_: Request, place: str) -> None:
    request = GenerationRequest.model_validate(request_)
    assert len(faults_of(request)) == 1
    assert faults_of(request, told={"input[1]"}) == faults_of(request)
    assert faults_of(request, told={place}) == []
