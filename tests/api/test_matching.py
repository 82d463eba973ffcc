"""What is shown of a job agrees with what was sent, clearly contradicts it, or leaves open whose it is."""

from typing import Any

import pytest

from sync_mcp.api.matching import compare, is_other_model
from sync_mcp.api.models import Generation

VIDEO = {"type": "video", "url": "https://media.example/clips/clip.mp4?id=7"}
AUDIO = {"type": "audio", "url": "https://media.example/speech.wav"}
VOICE = {"name": "elevenlabs", "voiceId": "v1", "script": "Good day.\nGood night.", "stability": 0.7}
TEXT = {"type": "text", "provider": VOICE}
PART = {"startTime": 0, "endTime": 1.5, "audioInput": {"refId": "a"}}
LAST = {"startTime": 1.5, "endTime": 3, "audioInput": {"refId": "b"}}
SENT: dict[str, Any] = {"model": "lipsync-2", "input": [VIDEO, AUDIO]}


def likeness(sent: dict[str, Any], shown: dict[str, Any]) -> str:
    """Compare as the search does: what is shown has been read as a generation."""
    job = Generation.from_wire({"id": "job", "status": "PENDING", **SENT, **sent, **shown})
    return compare({**SENT, **sent}, job.to_wire())


def url(text: str) -> dict[str, Any]:
    return {"input": [{"type": "video", "url": text}, AUDIO]}


def said(**voice: object) -> dict[str, Any]:
    return {"input": [VIDEO, {"type": "text", "provider": {**VOICE, **voice}}]}


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"input": [AUDIO, VIDEO]}),
    ({}, {"options": {"sync_mode": "bounce"}, "projectId": "p", "tomorrow": [1]}),
    ({"options": {"temperature": 0.7}}, {"options": {"temperature": 0.699999988, "model_mode": "face"}}),
    ({"options": {"temperature": 1}}, {"options": {"temperature": 1.0}}),
    ({"outputFileName": "my take!"}, {"outputFileName": "my_take"}),
    ({"segments": [PART, LAST]}, {"segments": [LAST, PART]}),
    ({"dubParams": {"targetLang": "es"}}, {"dubParams": {"targetLang": "es", "sourceLang": "auto"}}),
    (said(), said()),
]


@pytest.mark.parametrize(("sent", "shown"), SAME)
def test_what_agrees_in_all_that_is_shown_is_the_same(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    assert likeness(sent, shown) == "same"


HIDDEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"dubParams": {"targetLang": "es"}}, {"dubParams": None}),
    ({"options": {"sync_mode": "loop"}}, {"options": {}}),
    ({"segments": [PART]}, {"segments": None}),
]


@pytest.mark.parametrize(("sent", "shown"), HIDDEN)
def test_what_agrees_and_leaves_out_what_tells_two_jobs_apart_is_no_sure_thing(
    sent: dict[str, Any], shown: dict[str, Any]
) -> None:
    assert likeness(sent, shown) == "hidden"


POSSIBLE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": "lipsync-2-20260101"}),
    ({}, {"model": "LIPSYNC-2"}),
    ({}, {"model": None}),
    ({}, {"model": "sync-4"}),
    ({"model": "sync-4"}, {"model": "lipsync-2"}),
    ({}, {"input": None}),
    ({}, url("https://cdn.example/other/path.mp4")),
    ({}, url("https://media.example/clips/clip.mp4")),
    ({}, url("https://media.example:443/clips/cli%70.mp4?id=7")),
    ({}, url("https://media.example/clips/clip.mp4?id=7&again=1")),
    (url("https://media.example/a.mp4?token=1&e=2"), url("https://media.example/a.mp4?token=2&e=3")),
    (url("https://media.example/gr%C3%BC%C3%9Fe.mp4"), url("https://media.example/gru\u0308ße.mp4")),
    (url("https://storage.googleapis.com/ours/a.mp4"), url("https://storage.googleapis.com/theirs/b.mp4")),
    (url("https://s3.eu-west-1.amazonaws.com/ours/a"), url("https://s3.eu-west-1.amazonaws.com/theirs/b")),
    ({}, {"input": [{"type": "video", "assetId": "a-1"}, AUDIO]}),
    (
        {"input": [{"type": "video", "assetId": "A-1"}, AUDIO]},
        {"input": [{"type": "video", "assetId": "a-1"}, AUDIO]},
    ),
    ({"input": [{"type": "video", "assetId": "a-1"}, AUDIO]}, {"input": [VIDEO, AUDIO]}),
    (said(), said(script="Good day.\r\nGood night. ")),
    (said(), {"input": [VIDEO, {"type": "text"}]}),
    ({}, {"segments": [PART]}),
    ({}, {"dubParams": {"targetLang": "fr"}}),
    ({"dubParams": {"targetLang": "es"}}, {"dubParams": {"targetLang": "es-419"}}),
    (
        {"options": {"active_speaker_detection": True}},
        {"options": {"active_speaker_detection": {"auto_detect": True}}},
    ),
    ({"priority": "high"}, {"priority": "low"}),
]


@pytest.mark.parametrize(("sent", "shown"), POSSIBLE)
def test_what_a_rewriting_can_explain_is_possible(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    assert likeness(sent, shown) == "possible"


OTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": "lipsync-2-pro"}),
    ({"model": "lipsync-2-pro"}, {"model": "lipsync-2"}),
    ({}, {"model": "sync-3"}),
    ({}, {"model": "sync-3-20260101"}),
    ({}, {"input": [VIDEO]}),
    ({}, {"input": [VIDEO, AUDIO, AUDIO]}),
    ({}, {"input": [VIDEO, VIDEO]}),
    ({}, {"input": [{**VIDEO, "type": "image"}, AUDIO]}),
    ({}, url("https://media.example/clips/other.mp4?id=7")),
    ({}, url("http://MEDIA.example:8443/clips/other.mp4")),
    ({}, url("https://media.example/clips/clip.mp4?id=8")),
    (url("https://storage.googleapis.com/ours/a.mp4"), url("https://storage.googleapis.com/ours/b.mp4")),
    (
        {"input": [{"type": "video", "assetId": "a-1"}, AUDIO]},
        {"input": [{"type": "video", "assetId": "a-2"}, AUDIO]},
    ),
    (said(), said(script="Bye.")),
    (said(), said(voiceId="v2")),
    (said(), said(stability=0.1)),
    ({"dubParams": {"targetLang": "es"}}, {"dubParams": {"targetLang": "fr"}}),
    ({"options": {"sync_mode": "loop"}}, {"options": {"sync_mode": "bounce"}}),
    ({"options": {"temperature": 0.5}}, {"options": {"temperature": 0.6}}),
    ({"options": {"occlusion_detection_enabled": True}}, {"options": {"occlusion_detection_enabled": False}}),
    (
        {"options": {"active_speaker_detection": {"coordinates": [1, 2]}}},
        {"options": {"active_speaker_detection": {"coordinates": [1, 3]}}},
    ),
    ({"segments": [PART]}, {"segments": [PART, LAST]}),
    ({"segments": [PART]}, {"segments": [LAST]}),
    ({"outputFileName": "take-1"}, {"outputFileName": "take-2"}),
    ({"projectId": "p-1"}, {"projectId": "p-2"}),
    ({"webhookUrl": "https://a.example/hook"}, {"webhookUrl": "https://b.example/hook"}),
    ({"webhookUrl": "https://a.example/hook"}, {"webhookUrl": "https://a.example/other"}),
    ({"dialogueEdit": {"id": "e-1"}}, {"dialogueEdit": {"id": "e-2"}}),
]


@pytest.mark.parametrize(("sent", "shown"), OTHER)
def test_what_no_rewriting_can_explain_is_another_job(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    assert likeness(sent, shown) == "other"


def test_many_inputs_are_paired_off_whatever_their_order() -> None:
    voices = [{"type": "audio", "url": f"https://media.example/{number}.wav"} for number in range(300)]
    elsewhere = [{"type": "audio", "url": f"https://cdn.example/{number}.wav"} for number in range(299)]
    assert likeness({"input": [VIDEO, *voices]}, {"input": [*voices[::-1], VIDEO]}) == "same"
    # Of one that was not rewritten it is known which it is, and the rest may be any.
    assert likeness({"input": voices}, {"input": [*elsewhere, voices[7]]}) == "possible"
    assert likeness({"input": voices}, {"input": [*elsewhere, AUDIO]}) == "other"


STRANGE: list[Any] = ["text", 7, [], [[]], {}, {"x": [None]}, [None, 7, "x"], True]


@pytest.mark.parametrize("strange", STRANGE, ids=repr)
@pytest.mark.parametrize(
    "name", ["model", "input", "options", "segments", "dubParams", "outputFileName", "webhookUrl"]
)
def test_what_has_no_form_that_the_api_gives_it_does_not_break_the_search(name: str, strange: Any) -> None:
    asked = {**SENT, "options": {"sync_mode": "loop"}, "segments": [PART], "dubParams": {"targetLang": "es"}}
    asked |= {"outputFileName": "take", "webhookUrl": "https://a.example/hook"}
    assert likeness(asked, {name: strange}) in ("same", "hidden", "possible", "other")


@pytest.mark.parametrize(
    "shown", ["lipsync-2-pro", "Lipsync-2 Pro", "lipsync-2_pro", "LIPSYNC_2_PRO:v2", "pro"]
)
def test_a_model_in_another_spelling_is_no_other_model(shown: str) -> None:
    assert not is_other_model("lipsync-2-pro", shown)


@pytest.mark.parametrize("shown", ["lipsync-2", "Lipsync 2", "sync-3", "lipsync-2-20260101"])
def test_another_model_is_another_one_in_any_spelling(shown: str) -> None:
    assert is_other_model("lipsync-2-pro", shown)
