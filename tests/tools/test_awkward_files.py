"""Awkward files from the first price to the upload: one figure everywhere, and a word before it is paid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from sync_mcp.sandbox import Sandbox
from tests.media import awkward
from tests.media.clips import frozen, make_media

from .assistant import Assistant, Facts, creates, quote_in

pytestmark = pytest.mark.anyio


def _voice(movies: Path, voice: Path) -> Facts:
    video = {"type": "video", "path": str(movies / "talk.mp4")}
    return {"input": [video, {"type": "audio", "path": str(voice)}], "model": "lipsync-2"}


def _dub(video: Path) -> Facts:
    return {"input": [{"type": "video", "path": str(video)}], "dub": {"target_lang": "es"}}


def _uploads(sandbox: Sandbox) -> list[object]:
    return [request for request in sandbox.requests if request.method == "PUT"]


@pytest.mark.parametrize(
    ("make", "name", "usd"),
    [
        (awkward.talk_then_quiet, "talk.aac", (1.500, 1.508)),
        (awkward.two_rates, "two.mp3", (0.400, 0.412)),
        (awkward.chained, "notes.ogg", (0.400, 0.402)),
    ],
)
async def test_one_figure_stands_in_the_estimate_the_question_the_upload_and_the_answer(
    sandbox: Sandbox,
    movies: Path,
    served: Callable[..., Client],
    make: Callable[[Path], Path],
    name: str,
    usd: tuple[float, float],
) -> None:
    request = _voice(movies, make(movies / name))
    async with served(approve_above_usd=0) as client:
        assistant = Assistant(client)
        told = await assistant.facts("estimate_cost", request)
        asked = await assistant.error("create_generation", request)
        made = await assistant.facts("create_generation", request, quote_id=quote_in(asked))
        uploaded = await assistant.facts("upload_asset", path=str(movies / name))
    assert usd[0] <= told["cost_usd"] <= usd[1]
    assert told["cost_usd"] == pytest.approx(told["frames"] * 0.002)
    figure = f"{uploaded['duration_seconds']:g} s at 25 fps"
    assert figure in told["assumptions"][0]
    assert figure in asked.text
    # What an encoder of MP3 pads is known to a decoder alone.
    assert made["estimated_cost_usd"] == pytest.approx(told["cost_usd"], abs=0.004)
    is_ours = made["estimated_cost_usd"] == told["cost_usd"]
    assert (figure if is_ours else "as the API measured the files") in made["note"]
    assert is_ours or name == "two.mp3"
    # The sandbox decodes all of it, and finds the same but for what an encoder pads.
    [charge] = sandbox.charges
    assert float(charge.amount_usd) == pytest.approx(told["cost_usd"], abs=0.012)


async def test_the_true_length_is_held_against_the_model_and_a_crop(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    request = _voice(movies, awkward.talk_then_quiet(movies / "talk.aac"))
    told = await local.error("create_generation", {**request, "model": "react-1"})
    assert "react-1 takes 15 s at most" in told.text
    request["input"][1]["ref_id"] = "a"
    crop = {"ref_id": "a", "start_time": 20, "end_time": 24}
    await local.facts(
        "estimate_cost", request, segments=[{"start_time": 0, "end_time": 4, "audio_input": crop}]
    )
    crop["start_time"], crop["end_time"] = 31, 32
    told = await local.error(
        "estimate_cost", request, segments=[{"start_time": 0, "end_time": 1, "audio_input": crop}]
    )
    assert "after the end of the voice" in told.text
    assert sandbox.charges == []


@pytest.mark.parametrize("tool", ["estimate_cost", "create_generation", "dub", "upload_asset"])
async def test_a_file_that_is_cut_short_is_refused_as_that_before_it_is_uploaded(
    sandbox: Sandbox, local: Assistant, movies: Path, tool: str
) -> None:
    path = awkward.half(movies / "half.mp4")
    voice = {"type": "audio", "path": str(movies / "voice.wav")}
    arguments: dict[str, Facts] = {
        "dub": _dub(path),
        "upload_asset": {"path": str(path)},
    }
    usual: Facts = {"input": [{"type": "video", "path": str(path)}, voice]}
    told = await local.error("estimate_cost" if tool == "dub" else tool, arguments.get(tool, usual))
    assert (told.code, told.money_spent) == ("file_damaged", "no")
    assert "half.mp4 is cut short" in told.text
    assert (_uploads(sandbox), creates(sandbox)) == ([], [])


@pytest.mark.parametrize("kind", ["audio", "video", None])
async def test_sound_alone_in_webm_gets_one_refusal_wherever_it_is_given(
    sandbox: Sandbox, local: Assistant, movies: Path, kind: str | None
) -> None:
    path = awkward.sound_alone(movies / "note.webm")
    if kind is None:
        told = await local.error("upload_asset", path=str(path))
    else:
        other = {"type": "audio" if kind == "video" else "video"}
        other["path"] = str(movies / ("voice.wav" if kind == "video" else "talk.mp4"))
        told = await local.error("estimate_cost", input=[{"type": kind, "path": str(path)}, other])
    assert "is sound in WebM, which the API does not take as audio: convert it to WAV or MP3" in told.text
    assert _uploads(sandbox) == []


async def test_sound_alone_in_mp4_is_a_sound_wherever_it_is_given(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    path = awkward.sound_alone(movies / "note.mp4")
    voice = {"type": "audio", "path": str(movies / "voice.wav")}
    told = await local.error("estimate_cost", input=[{"type": "video", "path": str(path)}, voice])
    assert 'give it as type "audio"' in told.text
    assert "convert it to WAV or MP3" in told.text
    price = await local.facts("estimate_cost", _voice(movies, path))
    assert price["cost_usd"] == pytest.approx(0.2, abs=0.004)
    uploaded = await local.facts("upload_asset", path=str(path))
    assert uploaded["type"] == "audio"
    video = {"type": "video", "path": str(movies / "talk.mp4")}
    await local.facts(
        "estimate_cost", input=[video, {"type": "audio", "asset_id": uploaded["asset_id"]}], model="lipsync-2"
    )


async def test_a_video_is_no_sound_for_an_upload_either(local: Assistant, movies: Path) -> None:
    told = await local.error("upload_asset", path=str(movies / "talk.mp4"), type="audio")
    assert "save its sound alone, as WAV or MP3" in told.text


@pytest.mark.parametrize("box", [b"free", b"skip", b"uuid", b"styp"])
async def test_a_clip_whose_first_box_says_nothing_is_priced(
    local: Assistant, movies: Path, box: bytes
) -> None:
    path = awkward.behind(movies / "clip.mp4", box)
    told = await local.facts("estimate_cost", {**_dub(path), "model": "lipsync-2"})
    assert "4 s at 10 fps" in told["assumptions"][0]
    assert told["cost_usd"] == 0.08


async def test_a_silent_first_sound_stops_a_dub_and_is_told_with_a_price(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    path = awkward.make_tracks(movies / "screen.mp4", [(16_000, 0.0), (16_000, 4.0)], picture=True)
    told = await local.error("create_generation", _dub(path))
    assert "first sound of input[0] is silent, and the API dubs no other" in told.text
    assert told.money_spent == "no"
    sound = awkward.make_tracks(movies / "two.m4a", [(16_000, 0.0), (16_000, 4.0)], format="ipod")
    told = await local.error("estimate_cost", _voice(movies, sound))
    assert "first sound of input[1] is silent, and the API hears no other" in told.text
    video = {"type": "video", "path": str(path)}
    voice = {"type": "audio", "path": str(movies / "voice.wav")}
    price = await local.facts("estimate_cost", input=[video, voice])
    assert any("first sound of input[0] is silent" in line for line in price["assumptions"])
    uploaded = await local.facts("upload_asset", path=str(path))
    assert "is silent, and the API hears no other" in uploaded["note"]
    assert creates(sandbox) == []


async def test_a_still_video_is_warned_of_before_it_is_paid(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    make_media(movies / "still.mp4", picture="libx264", sound="aac", frames=50, size=(320, 240), draw=frozen)
    video = {"type": "video", "path": str(movies / "still.mp4")}
    request: Facts = {"input": [video, {"type": "audio", "path": str(movies / "voice.wav")}]}
    told = await local.facts("estimate_cost", request)
    assert any("input[0] stands still" in line for line in told["assumptions"])
    made = await local.facts("create_generation", request)
    assert "input[0] stands still" in made["note"]
    sandbox.advance(61)
    saved = await local.facts(
        "download_generation", generation_id=made["generation_id"], path=str(movies / "o.mp4")
    )
    assert saved["checks"]["movement"].startswith(
        "not checked: the picture stands still, and so does its video"
    )
    assert saved["path"] == str(movies / "o.mp4")
    assert "again" not in saved["next_step"]


async def test_a_photo_of_12_megapixels_is_priced_and_uploaded_with_a_note(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    path = awkward.photo(movies / "phone.jpg", 4032, 3024)
    voice = {"type": "audio", "path": str(movies / "voice.wav")}
    request: Facts = {"input": [{"type": "image", "path": str(path)}, voice], "model": "sync-3"}
    told = await local.facts("estimate_cost", request)
    assert told["cost_usd"] > 0
    assert any("4032 by 3024 pixels" in line and "2880 by 2160 fits" in line for line in told["assumptions"])
    uploaded = await local.facts("upload_asset", path=str(path))
    assert "2880 by 2160 fits" in uploaded["note"]
    made = await local.facts("create_generation", request)
    assert made["generation_id"] in sandbox.generations


@pytest.mark.parametrize(("fps", "shown"), [(1, "4 s at 1 fps"), (50, "4 s at 50 fps")])
async def test_a_price_says_by_which_rate_it_was_counted_and_it_is_what_is_charged(
    sandbox: Sandbox, local: Assistant, movies: Path, fps: int, shown: str
) -> None:
    make_media(movies / "rate.mp4", picture="libx264", sound="aac", frames=4 * fps, fps=fps)
    request: Facts = {**_dub(movies / "rate.mp4"), "model": "lipsync-2"}
    told = await local.facts("estimate_cost", request)
    assert shown in told["assumptions"][0]
    assert (told["frames"], told["cost_usd"]) == (4 * fps, pytest.approx(4 * fps * 0.002))
    await local.facts("create_generation", request)
    [charge] = sandbox.charges
    assert float(charge.amount_usd) == told["cost_usd"]


async def test_frames_of_unequal_length_are_counted_by_their_mean(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    make_media(
        movies / "vfr.mp4", picture="libx264", sound="aac", fps=25, times=[*range(30), *range(30, 100, 10)]
    )
    request: Facts = {**_dub(movies / "vfr.mp4"), "model": "lipsync-2"}
    told = await local.facts("estimate_cost", request)
    seconds, _, fps = told["assumptions"][0].partition(" s at ")
    length, rate = float(seconds.rpartition(" ")[2]), float(fps.removesuffix(" fps"))
    assert told["frames"] == round(length * rate) == pytest.approx(37, abs=1)


async def test_a_point_on_a_turned_video_is_noted_where_it_lies_in_either_picture(
    sandbox: Sandbox, local: Assistant, movies: Path
) -> None:
    make_media(movies / "phone.mp4", picture="libx264", size=(640, 360), frames=20, rotation=90)
    items = [
        {"type": "video", "path": str(movies / "phone.mp4")},
        {"type": "audio", "path": str(movies / "voice.wav")},
    ]

    def request(x: int, y: int) -> dict[str, Any]:
        speaker = {"coordinates": [x, y], "frame_number": 0}
        return {"input": items, "model": "lipsync-2", "options": {"active_speaker_detection": speaker}}

    for x, y in ((100, 100), (300, 600), (600, 300)):
        told = await local.facts("estimate_cost", request(x, y))
        assert any(
            "shown it is 360 by 640, stored 640 by 360" in line and "not known" in line
            for line in told["assumptions"]
        )
        await local.facts("create_generation", request(x, y))
    refused = await local.error("create_generation", request(500, 500))
    assert "lie outside of the picture" in refused.text
    assert len(sandbox.charges) == 3
