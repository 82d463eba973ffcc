"""A local file is an input of a kind of its own: digested as ever, and never seen by the API."""

import json
from typing import Any, Literal

import pytest

from sync_mcp import AsyncSync, Audio, Guard, InvalidRequestError, Video
from sync_mcp.api.models import GenerationRequest, LocalMedia, OtherInput, Segment, SegmentAudioInput
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.files import asset_key, by_content, with_assets
from sync_mcp.payments.intention import Intention
from sync_mcp.sandbox import Sandbox
from tests.payments.entries import generation_of, wire_of

from .conftest import Files, sent

SHA = "0f" * 32
CLIP = LocalMedia(type="video", sha256=SHA, name="talk.mp4")
URL = "https://media.example.com/voice.wav"


def request(*items: object, **fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate({"model": "lipsync-2", "input": list(items), **fields})


def intended(given: GenerationRequest) -> Intention:
    return Intention(GenerationAct.of(given), account="org:one", base_url="https://h")


def local(type: Literal["video", "image", "audio"], sha256: str = SHA, **more: Any) -> LocalMedia:
    return LocalMedia(type=type, sha256=sha256, name="file", **more)


def test_a_request_with_a_local_file_is_made_into_no_json() -> None:
    with pytest.raises(InvalidRequestError, match=r"input\[1\] is a file on this machine"):
        request(Audio(url=URL), CLIP).to_wire()
    with pytest.raises(InvalidRequestError, match="upload it"):
        CLIP.to_wire()


def test_an_intention_with_a_local_file_has_nothing_that_could_be_sent() -> None:
    with pytest.raises(InvalidRequestError, match="is a file on this machine"):
        _ = wire_of(intended(request(CLIP, Audio(url=URL))))


@pytest.mark.parametrize("type", ["local", "video"])
def test_no_json_is_read_as_a_local_file(type: str) -> None:
    item = {"type": type, "sha256": SHA, "name": "talk.mp4"}
    read = GenerationRequest.from_wire({"model": "lipsync-2", "input": [item]})
    assert isinstance(read.input[0], OtherInput | Video)
    assert read.to_wire()["input"] == [item]


def test_fields_take_the_place_of_those_of_a_request_as_in_its_json() -> None:
    # What stands beside the fields may have the name of one in Python.
    odd = {"output_file_name": "beside", "newThing": [1.0]}
    wire = {"model": "lipsync-2", "input": [{"type": "audio", "url": URL}], "outputFileName": "clip", **odd}
    given = GenerationRequest.from_wire(wire)
    for fields in ({}, {"outputFileName": "other"}, {"newThing": None}, {"projectId": "p", "webhookUrl": ""}):
        told = given.with_fields(fields)
        assert told.to_wire() == GenerationRequest.from_wire({**given.to_wire(), **fields}).to_wire()
    assert given.with_fields({"outputFileName": None}).output_file_name == "beside"


def test_a_local_file_stands_in_the_canonical_form_by_what_it_holds() -> None:
    body = intended(request(Audio(url=URL), CLIP)).act.body
    assert json.dumps(body["input"]) == json.dumps(
        [{"assetId": f"sha256:{SHA}", "type": "video"}, {"url": URL, "type": "audio"}]
    )


def test_under_another_name_a_local_file_is_the_same_input() -> None:
    named = CLIP.model_copy(update={"name": "other.mp4"})
    first, second = (intended(request(clip, Audio(url=URL))) for clip in (CLIP, named))
    assert (first.digest, first.idempotency_key(1)) == (second.digest, second.idempotency_key(1))
    assert (first.about, second.about) == ("talk.mp4 + voice.wav", "other.mp4 + voice.wav")


def test_one_content_as_a_picture_and_as_a_voice_is_two_inputs_in_their_canonical_order() -> None:
    both = intended(request(local("audio"), local("video")))
    assert [item.type for item in generation_of(both).request.local_media] == ["video", "audio"]
    assets = {asset_key("video", SHA): "v", asset_key("audio", SHA): "a"}
    assert wire_of(both.with_assets(assets))["input"] == [
        {"assetId": "v", "type": "video"},
        {"assetId": "a", "type": "audio"},
    ]


def test_what_is_sent_of_local_files_is_what_would_be_made_of_their_assets() -> None:
    part = Segment(start_time=0, end_time=1, audio_input=SegmentAudioInput(ref_id="a"))
    given = request(CLIP, local("audio", "11" * 32, ref_id="a"), segments=[part], output_file_name="clip")
    assets = {asset_key("video", SHA): "v", asset_key("audio", "11" * 32): "a"}
    sent = intended(given).with_assets(assets)
    assert json.dumps(wire_of(sent)) == json.dumps(generation_of(sent).request.to_wire())
    assert wire_of(sent)["input"][1] == {"assetId": "a", "refId": "a", "type": "audio"}
    assert sent.digest == intended(with_assets(given, assets)).digest


def test_a_name_for_segments_is_gone_with_the_segments() -> None:
    plain = intended(request(CLIP, local("audio", "11" * 32)))
    named = intended(request(CLIP, local("audio", "11" * 32, ref_id="a")))
    assert (named.digest, named.act.body) == (plain.digest, plain.act.body)
    assert generation_of(named).request == generation_of(plain).request


def test_a_local_file_that_has_no_asset_is_sent_as_nothing_else() -> None:
    with pytest.raises(KeyError):
        intended(request(CLIP, Audio(url=URL))).with_assets({asset_key("audio", SHA): "a"})


@pytest.mark.parametrize("kind", [Video, Audio])
def test_an_asset_id_that_reads_as_a_local_file_is_refused_where_it_would_be_digested(kind: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no asset"):
        by_content(request(kind(asset_id=f"sha256:{SHA}")))


@pytest.mark.anyio
async def test_a_body_parameter_of_the_callers_own_is_taken_for_no_local_file(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard
) -> None:
    more = {"input": [{"type": "video", "assetId": f"sha256:{SHA}"}, {"type": "audio", "url": URL}]}
    media = Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url, guard=guard) as guarded:
        with pytest.raises(InvalidRequestError, match="no asset"):
            await guarded.generations.create(
                model="lipsync-2", input=media, request_options={"additional_body_parameters": more}
            )
    assert sent(sandbox) == []
    assert guard.ledger.entries(limit=10) == []


@pytest.mark.anyio
@pytest.mark.parametrize("is_guarded", [True, False])
async def test_the_client_alone_makes_nothing_of_a_local_file(
    sandbox: Sandbox, guard: Guard, files: Files, is_guarded: bool
) -> None:
    media = files.request(sandbox).input
    async with AsyncSync(
        api_key="sk_first", base_url=sandbox.url, guard=guard if is_guarded else None
    ) as client:
        with pytest.raises(InvalidRequestError, match="upload it, and give its asset_id"):
            await client.generations.create(model="lipsync-2", input=media)
    assert not [one for one in sandbox.requests if one.path.startswith("/v2/")]
    assert guard.ledger.entries(limit=10) == []


@pytest.mark.anyio
async def test_a_guard_that_is_given_no_files_asks_nobody_about_a_local_one(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard
) -> None:
    given, before = request(CLIP, Audio(url=sandbox.samples.audio)), len(sandbox.requests)
    with pytest.raises(InvalidRequestError, match=r"input\[0\] is a file on this machine"):
        await guard.create(PaidCall(sync, GenerationAct.of(given)))
    assert len(sandbox.requests) == before
