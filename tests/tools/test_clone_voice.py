"""clone_voice and delete_voice: a voice of one's own, with its owner's consent, paid once."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import mcp_types as types
import pytest
from mcp import Client

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, asked, quote_in, sent

pytestmark = pytest.mark.anyio

VOICES = "/v2/voices"
CONSENT = "It is my own voice, I am Ada Li, and I agree to the clone."
ADA: Facts = {"name": "Ada Li", "consent": CONSENT}
Served = Callable[..., Client]


@pytest.fixture
async def cloner(served: Served, sandbox: Sandbox, movies: Path) -> AsyncIterator[Assistant]:
    """An assistant with the set voices and an account without delays, whose user agrees to what is asked."""
    sandbox.configure(job_seconds=0)
    async with served(agrees=True, toolsets=("core", "voices"), download_dir=movies) as client:
        yield Assistant(client)


async def test_the_story_my_voice_says_a_script_from_a_photo(
    cloner: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    shutil.copy(sample("speaker.jpg"), movies / "photo.jpg")
    voice = await cloner.facts("clone_voice", ADA, path=str(movies / "voice.wav"))
    assert voice["name"] == "Ada Li"
    assert voice["voice_id"] in voice["next_step"]
    listed = await cloner.facts("list_voices", search="Ada Li")
    assert (listed["voices"][0]["voice_id"], listed["voices"][0]["kind"]) == (voice["voice_id"], "cloned")
    speech = await cloner.facts("create_speech", script="Good day, it is me.", voice_id="Ada Li")
    face = {"type": "image", "path": str(movies / "photo.jpg")}
    inputs = [face, {"type": "audio", "asset_id": speech["asset_id"]}]
    price = await cloner.facts("estimate_cost", input=inputs)
    video = await cloner.facts("create_generation", input=inputs)
    ids = [speech["speech_id"], video["generation_id"]]
    ended = await cloner.facts("wait_for_generations", generation_ids=ids)
    assert [row["status"] for row in ended["generations"]] == ["COMPLETED"] * 2
    saved = await cloner.facts("download_generation", generation_id=video["generation_id"])
    assert saved["duration_seconds"] == pytest.approx(speech["duration_seconds"], abs=0.2)
    assert saved["checks"]["voice"] == saved["checks"]["sound"] == "ok"
    assert price["cost_usd"] == pytest.approx(float(sandbox.charges[-1].amount_usd))
    assert len(sandbox.charges) == 3
    # All of it again is the same, and costs nothing.
    for tool, given in (
        ("clone_voice", {**ADA, "path": str(movies / "voice.wav")}),
        ("create_speech", {"script": "Good day, it is me.", "voice_id": voice["voice_id"]}),
        ("create_generation", {"input": inputs}),
    ):
        assert (await cloner.facts(tool, given))["reused"] is True
    assert len(sandbox.charges) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"consent": "yes"}, ("consent must say in words whose voice", "Ask the user whose voice it is")),
        ({"consent": ""}, ("consent",)),
        ({"consent": None}, ("consent",)),
        ({"name": "x" * 101}, ("name must have 1 to 100",)),
        ({"asset_id": None}, ("one of path, url and asset_id",)),
        ({"path": "voice.wav"}, ("one of path, url and asset_id",)),
        ({"asset_id": "no id!"}, ("can be no id",)),
    ],
)
async def test_a_clone_that_cannot_be_is_refused_with_what_to_do_and_nothing_is_spent(
    cloner: Assistant, sandbox: Sandbox, change: Facts, words: tuple[str, ...]
) -> None:
    given = {
        name: value for name, value in {**ADA, "asset_id": "asset-1", **change}.items() if value is not None
    }
    answer = await cloner.error("clone_voice", given)
    assert (answer.code, answer.money_spent) == ("invalid_request", "no")
    assert all(word in answer.text for word in words), answer.text
    assert sandbox.requests == []


async def test_a_recording_without_sound_or_of_a_picture_is_refused_before_it_is_uploaded(
    cloner: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    shutil.copy(sample("speaker.jpg"), movies / "photo.jpg")
    for name in ("talk.mp4", "photo.jpg"):
        answer = await cloner.error("clone_voice", ADA, path=str(movies / name))
        assert (answer.code, answer.money_spent) == ("file_not_media", "no")
        assert "has no sound" in answer.text
    assert [one for one in sandbox.requests if one.method != "GET"] == []


async def test_what_the_api_refuses_says_what_to_do_and_costs_nothing(
    cloner: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    silent = (await cloner.facts("upload_asset", path=str(movies / "talk.mp4")))["asset_id"]
    answer = await cloner.error("clone_voice", ADA, asset_id=silent)
    assert answer.meta["api_code"] == "voice_sample_extraction_failed"
    assert "nothing can be heard" in answer.text
    sandbox.configure(clones_per_hour=10)
    for number in range(9):
        await cloner.facts("clone_voice", ADA, name=f"Ada {number}", url=sandbox.samples.audio)
    eleventh = await cloner.error("clone_voice", ADA, url=sandbox.samples.audio)
    assert (eleventh.code, eleventh.money_spent) == ("rate_limit_exceeded", "no")
    assert 3500 < eleventh.meta["retry_after_seconds"] <= 3600
    assert len(sandbox.charges) == 9


async def test_a_name_that_is_taken_is_told_with_the_voice_that_has_it(
    cloner: Assistant, sandbox: Sandbox
) -> None:
    answer = await cloner.error("clone_voice", ADA, name="My own voice", url=sandbox.samples.audio)
    assert "is called 'My own voice' already" in answer.text
    assert asked(sandbox, "POST", VOICES) == []


async def test_a_clone_of_unknown_outcome_says_where_to_look_and_is_never_sent_again(
    cloner: Assistant, sandbox: Sandbox, short_pauses: None
) -> None:
    sandbox.add_fault(Fault(method="POST", path=VOICES, drop="before"))
    for _ in range(2):
        answer = await cloner.error("clone_voice", ADA, url=sandbox.samples.audio)
        assert (answer.code, answer.money_spent) == ("outcome_unknown", "unknown")
        assert "sends nothing" in answer.text
        assert "list_voices" in answer.text
        assert "ledger show" in answer.text
    assert len(asked(sandbox, "POST", VOICES)) == 1


async def test_the_question_has_the_name_the_recording_and_the_consent(
    served: Served, sandbox: Sandbox, movies: Path
) -> None:
    async with served(approve_above_usd=1000, toolsets=("voices",)) as client:
        assistant = Assistant(client)
        given = {**ADA, "path": str(movies / "voice.wav")}
        question = await assistant.error("clone_voice", given)
        for words in (
            "this voice clone?",
            "publishes no price",
            "owner agreed to this",
            CONSENT,
            "voice.wav",
        ):
            assert words in question.text, question.text
        assert asked(sandbox, "POST", "/v2/assets/upload") == []
        made = await assistant.facts("clone_voice", given, quote_id=quote_in(question))
    assert sent(sandbox, VOICES)[0]["name"] == made["name"]
    assert len(sandbox.charges) == 1


async def test_the_consent_is_read_to_its_end_by_whom_it_is_the_word_of(
    served: Served, sandbox: Sandbox
) -> None:
    consent = f"It is the voice of Ada Li, {'who is here with me, ' * 12}and did not agree."
    assert 250 < len(consent) <= 300
    async with served(toolsets=("voices",)) as client:
        given = {**ADA, "url": sandbox.samples.audio, "consent": consent}
        question = await Assistant(client).error("clone_voice", given)
    assert consent in question.text


async def test_a_yes_is_for_the_consent_that_the_user_read_and_for_no_other_words(
    served: Served, sandbox: Sandbox
) -> None:
    given = {**ADA, "url": sandbox.samples.audio}
    other = "It is the voice of Ben Ott, who agreed on 3 June."
    async with served(approve_above_usd=1000, toolsets=("voices",)) as client:
        assistant = Assistant(client)
        quote_id = quote_in(await assistant.error("clone_voice", given))
        asked_anew = await assistant.error("clone_voice", {**given, "consent": other}, quote_id=quote_id)
        assert asked_anew.code == "approval_required"
        assert "What you agreed to has other words of consent." in asked_anew.text
        assert other in asked_anew.text
        assert sandbox.charges == []
        # The words that were read are still agreed to.
        await assistant.facts("clone_voice", given, quote_id=quote_id)
    assert len(sandbox.charges) == 1


# Deleting


async def test_a_voice_that_was_cloned_is_deleted_for_good_and_its_clone_is_no_longer_given_back(
    served: Served, sandbox: Sandbox
) -> None:
    given = {**ADA, "url": sandbox.samples.audio}
    async with served(toolsets=("voices",)) as client:
        cloner = Assistant(client)
        quote_id = quote_in(await cloner.error("clone_voice", given))
        made = await cloner.facts("clone_voice", given, quote_id=quote_id)
        gone = await cloner.facts("delete_voice", voice_id="Ada Li")
        assert (gone["voice_id"], gone["name"]) == (made["voice_id"], "Ada Li")
        said = await cloner.error("create_speech", script="Hello.", voice_id=made["voice_id"])
        assert "is no voice of this account" in said.text
        again = await cloner.error("clone_voice", given)
    assert again.code == "approval_required"
    assert "this voice clone?" in again.text
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(("id", "words"), [(VOICE, "comes with Sync"), ("nobody", "is no voice")])
async def test_a_voice_of_syncs_or_of_nobody_is_not_deleted(
    cloner: Assistant, sandbox: Sandbox, id: str, words: str
) -> None:
    answer = await cloner.error("delete_voice", voice_id=id)
    assert (answer.code, words in answer.text) == ("invalid_request", True)
    assert [one for one in sandbox.requests if one.method == "DELETE"] == []


async def test_the_user_is_asked_by_the_hosts_form_before_a_voice_goes(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A person takes longer.
    monkeypatch.setattr("sync_mcp.tools.question.AT_ONCE_SECONDS", 0.0)
    questions: list[str] = []

    async def decline(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context
        questions.append(params.message)
        return types.ElicitResult(action="decline")

    server = create_server(Settings(toolsets=("voices",)), sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", elicitation_callback=decline) as client:
        answer = await Assistant(client).error("delete_voice", voice_id="My own voice")
    assert answer.code == "approval_denied"
    assert 'voice: "My own voice"' in questions[0]
    assert [one for one in sandbox.requests if one.method == "DELETE"] == []


async def test_a_clone_in_doubt_is_told_first_in_the_list_with_its_own_tool(
    cloner: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(method="POST", path=VOICES, drop="before"))
    await cloner.error("clone_voice", ADA, url=sandbox.samples.audio)
    listed = await cloner.facts("list_generations")
    assert "voice clone: Ada Li" in listed["unresolved"][0]
    assert "the same clone_voice call looks for its job" in listed["next_step"]
