"""Voices: the API's own and the account's, as they are told."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest

from sync_mcp import APIResponseError, AsyncSync, InvalidRequestError, NotFoundError, OutcomeUnknown, Voice
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import trail
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_list_has_the_apis_hundreds_of_voices_and_the_cloned_ones(sync: AsyncSync) -> None:
    voices = await sync.voices.list()
    assert len({voice.id for voice in voices}) == len(voices) > 200
    assert len({voice.name for voice in voices}) == len(voices)
    assert {voice.provider for voice in voices} == {"elevenlabs"}
    cloned = [voice for voice in voices if voice.internal_voice_id]
    assert {voice.name for voice in cloned} >= {"My own voice"}
    assert all(voice.preview_url for voice in voices if voice not in cloned)


async def test_the_provider_goes_out_as_the_api_spells_it(sandbox: Sandbox, sync: AsyncSync) -> None:
    await sync.voices.list()
    (asked,) = sandbox.requests
    assert (asked.method, asked.path, asked.query) == ("GET", "/v2/voices", {"provider": "elevenlabs"})


async def test_a_search_finds_the_voices_with_any_of_its_words_the_best_first(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    found = await sync.voices.list(search="Nils calm")
    assert found[0].name == "Nils - calm narrator"
    every = await sync.voices.list()
    wanted = {voice.id for voice in every if "nils" in str(voice.name).lower() or "calm" in str(voice.name)}
    assert {voice.id for voice in found} == wanted
    assert await sync.voices.list(search="") == every
    assert await sync.voices.list(search="xyzzy") == []
    # The API has no search: nothing of it goes out.
    assert all(request.query == {"provider": "elevenlabs"} for request in sandbox.requests)


async def test_a_name_that_is_the_search_comes_before_those_that_only_hold_it(
    serve: Serve, client_of: ClientOf
) -> None:
    names = ("Climax", "maxim", "Max - deep", "Tom Max", "Max", None)
    server = serve(answer(200, [{"id": f"v{number}", "name": name} for number, name in enumerate(names)]))
    found = await client_of(server).voices.list(search=" MAX ")
    assert [voice.name for voice in found] == ["Max", "Max - deep", "maxim", "Tom Max", "Climax"]


async def test_one_voice_is_found_by_its_id(sync: AsyncSync) -> None:
    voices = await sync.voices.list()
    for voice in (voices[0], voices[-1]):
        assert await sync.voices.get(voice.id) == voice


async def test_a_voice_that_is_not_there_is_not_found(sync: AsyncSync) -> None:
    with pytest.raises(NotFoundError) as caught:
        await sync.voices.get("nobody")
    assert (caught.value.status, caught.value.api_code) == (404, "voice_not_found")


@pytest.mark.parametrize("id", ["", "../account", "a/b", "a?b=c", "a b"])
async def test_what_is_no_id_is_not_asked_for(sandbox: Sandbox, sync: AsyncSync, id: str) -> None:
    with pytest.raises(InvalidRequestError, match="copy it whole"):
        await sync.voices.get(id)
    assert sandbox.requests == []


async def test_a_list_that_fails_is_asked_for_again(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(path="/v2/voices", status=503, body={"message": "Not now."}))
    sandbox.add_fault(Fault(path="/v2/voices", cut_body=True))
    assert len(await sync.voices.list()) > 200
    assert trail(sandbox.requests) == ["GET /v2/voices"] * 3


async def test_fields_that_nobody_knows_are_kept_and_entries_without_an_id_left_out(
    serve: Serve, client_of: ClientOf
) -> None:
    told = {"id": "v1", "name": "Ada", "labels": {"language": "en"}, "restriction": {"plan": "creator"}}
    server = serve(answer(200, [told, {"name": "nobody"}, "Ada", {"id": "v2", "previewUrl": ""}]))
    first, second = await client_of(server).voices.list()
    assert first.to_wire() == told
    assert second == Voice(id="v2")


@pytest.mark.parametrize("body", [{}, {"voices": []}, "voices", 7])
async def test_an_answer_that_is_no_list_is_one_typed_error(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError, match="no list"):
        await client_of(serve(answer(200, body))).voices.list()


async def test_an_answer_that_is_no_voice_is_one_typed_error(serve: Serve, client_of: ClientOf) -> None:
    with pytest.raises(APIResponseError, match="no voice"):
        await client_of(serve(answer(200, {"name": "Ada"}))).voices.get("v1")


# Of one's own

CONSENT = "It is the voice of Ada Li, who agreed on 2 May."


def posts(sandbox: Sandbox) -> list[object]:
    return [one.body for one in sandbox.requests if (one.method, one.path) == ("POST", "/v2/voices")]


async def test_a_voice_is_cloned_from_an_asset_found_by_its_id_and_deleted(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    asset = await sync.assets.upload(sample("speech.wav"))
    made = await sync.voices.clone(name=" Ada Li ", consent=CONSENT, asset_id=asset.id)
    assert posts(sandbox) == [{"name": "Ada Li", "provider": "elevenlabs", "assetId": asset.id}]
    assert (await sync.voices.get(made.id)).name == made.name == "Ada Li"
    await sync.voices.delete(made.id)
    # Who deletes it once more wants it gone, and it is.
    await sync.voices.delete(made.id)
    with pytest.raises(NotFoundError):
        await sync.voices.get(made.id)


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_clone_is_sent_once_and_looked_for_by_its_name_where_the_answer_is_lost(
    sandbox: Sandbox, sync: AsyncSync, drop: Literal["before", "after"]
) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/voices", drop=drop))
    clone = partial(sync.voices.clone, name="Ada Li", consent=CONSENT, url=sandbox.samples.audio)
    if drop == "after":
        assert (await clone()).id in sandbox.clones
    else:
        with pytest.raises(OutcomeUnknown, match="The API's list does not show the job") as unknown:
            await clone()
        assert "may be paid twice" in unknown.value.next_step
    assert (len(posts(sandbox)), len(sandbox.charges)) == (1, 1 if drop == "after" else 0)


def ada(sandbox: Sandbox, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a voice is cloned from, as far as it is not given otherwise."""
    return {"name": "Ada", "consent": CONSENT, "url": sandbox.samples.audio, **given}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"name": " "}, "name must have"),
        ({"url": None}, "as asset_id or as url"),
        ({"asset_id": "asset-1"}, "as asset_id or as url"),
        ({"url": None, "asset_id": "no id!"}, "can be no id"),
        ({"name": "My own voice"}, "is called 'My own voice' already"),
    ],
)
async def test_a_clone_that_cannot_be_is_not_sent(
    sandbox: Sandbox, sync: AsyncSync, given: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidRequestError, match=word):
        await sync.voices.clone(**ada(sandbox, given))
    assert posts(sandbox) == []
