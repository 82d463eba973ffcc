"""create_speech: a script is said, saved on the disk and kept as an asset, and paid once."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from sync_mcp import AsyncSync
from sync_mcp.media.saving_sound import SavedSound, save_sound
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.registry import MAY_OVERWRITE
from sync_mcp.tools.voices import TOOLS
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, arrived, asked, media, quote_in, refusal, sent

pytestmark = pytest.mark.anyio

JOBS, AT_ONCE = "/v2/tts/jobs", "/v2/tts"
HELLO: Facts = {"script": "Hello, and welcome.", "voice_id": VOICE}
Served = Callable[..., Client]


@pytest.fixture
async def speaker(served: Served, sandbox: Sandbox, movies: Path) -> AsyncIterator[Assistant]:
    """An assistant with the set voices, that saves in `movies`, and whose user agrees to what is asked."""
    sandbox.configure(job_seconds=0)
    async with served(agrees=True, toolsets=("core", "voices"), download_dir=movies) as client:
        yield Assistant(client)


class Hold:
    """Saves no sound before it is let go of."""

    def __init__(self) -> None:
        self.let_go = anyio.Event()

    async def save_sound(self, *given: Any, **named: Any) -> SavedSound:
        await self.let_go.wait()
        return await save_sound(*given, **named)


def files(folder: Path) -> dict[str, int]:
    """Return the speeches in a folder, each with its size."""
    return {path.name: path.stat().st_size for path in folder.glob("*.wav") if path.name != "voice.wav"}


async def test_a_speech_is_saved_and_is_the_voice_of_a_video_by_its_asset(
    speaker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    told = await speaker.facts("create_speech", HELLO)
    assert told["status"] == "COMPLETED"
    path = Path(told["path"])
    assert (path.parent, files(movies)) == (movies, {path.name: told["bytes"]})
    assert told["duration_seconds"] == pytest.approx(19 / 15, abs=0.1)
    assert f'"asset_id": "{told["asset_id"]}"' in told["next_step"]
    voice = {"type": "audio", "asset_id": told["asset_id"]}
    made = await speaker.facts("create_generation", input=[media(sandbox)[0], voice])
    assert made["generation_id"] in sandbox.generations
    assert sent(sandbox, JOBS) == [{"script": HELLO["script"], "voiceId": VOICE, "provider": "elevenlabs"}]


async def test_a_job_that_runs_is_waited_for_and_told_by_its_handle_where_the_time_is_up(
    speaker: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.speech._FIRST_LOOK_SECONDS", 0.0)
    sandbox.configure(job_seconds=30)
    with monkeypatch.context() as patch:
        patch.setattr("sync_mcp.tools.speech._SAVING_SECONDS", 60.0)
        running = await speaker.facts("create_speech", HELLO)
    assert (running["status"], "path" in running) == ("PENDING", False)
    assert running["speech_id"] in sandbox.charges[0].generation_id
    assert "exactly the same create_speech call" in running["next_step"]
    speaker.on_progress = lambda: sandbox.advance(60)
    ended = await speaker.facts("create_speech", HELLO)
    assert (ended["status"], ended["speech_id"]) == ("COMPLETED", running["speech_id"])
    assert len(sandbox.charges) == 1


async def test_the_same_call_gives_the_same_speech_and_pays_nothing(
    speaker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    first = await speaker.facts("create_speech", HELLO)
    again = await speaker.facts("create_speech", HELLO)
    assert {**first, "reused": True, "note": again["note"]} == again
    assert "nothing new was made or paid" in again["note"]
    # What the user calls otherwise is saved there as well.
    named = await speaker.facts("create_speech", HELLO, path=str(movies / "hello"))
    assert (named["asset_id"], len(sandbox.charges)) == (first["asset_id"], 1)
    assert files(movies) == {Path(first["path"]).name: first["bytes"], "hello.wav": first["bytes"]}


async def test_without_speech_jobs_the_answer_is_the_same_now_and_later(
    speaker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.configure(speech_jobs=False)
    first = await speaker.facts("create_speech", HELLO)
    assert first["status"] == "COMPLETED"
    # The API keeps nothing of it: its asset is what is left.
    again = await speaker.facts("create_speech", HELLO, path="again.wav")
    assert (again["asset_id"], again["reused"]) == (first["asset_id"], True)
    assert files(movies) == {Path(first["path"]).name: first["bytes"], "again.wav": first["bytes"]}
    assert (len(asked(sandbox, "POST", AT_ONCE)), len(sandbox.charges)) == (1, 1)


async def test_a_sound_that_was_said_at_once_and_lost_is_told_so_and_not_paid_again(
    speaker: Assistant, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_jobs=False)
    sandbox.add_fault(Fault(path="/speech/*", status=403, times=None))
    paid = await speaker.error("create_speech", HELLO)
    assert (paid.money_spent, "the same create_speech call pays nothing more" in paid.text) == ("yes", True)
    sandbox.clear_faults()
    lost = await speaker.error("create_speech", HELLO)
    assert (lost.code, len(sandbox.charges)) == ("no_output", 1)
    assert "another take" in lost.text
    assert (await speaker.facts("create_speech", HELLO, take=2))["status"] == "COMPLETED"
    assert len(sandbox.charges) == 2


@pytest.mark.parametrize("path", ["/nowhere/hello.wav", "../hello.wav", "missing/hello.wav", "\u202e.wav"])
async def test_a_place_where_nothing_can_be_saved_is_told_before_anything_is_paid(
    speaker: Assistant, sandbox: Sandbox, path: str
) -> None:
    refused = await speaker.error("create_speech", HELLO, path=path)
    assert refused.money_spent == "no", refused.text
    assert sandbox.charges == []


async def test_a_sound_that_was_said_at_once_and_has_no_place_is_kept_and_not_lost(
    speaker: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.configure(speech_jobs=False)
    (movies / "mine.wav").write_bytes(b"mine")
    refused = await speaker.error("create_speech", HELLO, path="mine.wav")
    assert (refused.code, refused.money_spent) == ("file_exists", "yes")
    assert "It is kept as asset " in refused.text
    assert (movies / "mine.wav").read_bytes() == b"mine"
    # The API told it once, and it is there all the same.
    told = await speaker.facts("create_speech", HELLO, path="other.wav")
    assert told["asset_id"] in refused.text
    assert files(movies)["other.wav"] == told["bytes"]
    assert len(sandbox.charges) == 1


async def test_a_sound_that_was_said_once_is_there_for_the_next_call_where_its_own_was_given_up(
    speaker: Assistant, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_jobs=False)
    sandbox.add_fault(Fault(path="/speech/*", status=503, times=None))
    paid = await speaker.error("create_speech", HELLO)
    assert paid.money_spent == "yes"
    sandbox.clear_faults()
    told = await speaker.facts("create_speech", HELLO)
    assert (told["status"], told["reused"], len(sandbox.charges)) == ("COMPLETED", True, 1)


async def test_a_sound_that_is_told_to_nobody_any_more_is_there_for_the_next_call(
    speaker: Assistant, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_jobs=False)
    sandbox.add_fault(Fault(method="POST", path=AT_ONCE, delay_seconds=0.3, when="after"))
    async with anyio.create_task_group() as calls:
        calls.start_soon(speaker.call, "create_speech", HELLO)
        await arrived(sandbox, "POST", AT_ONCE)
        calls.cancel_scope.cancel()
    told = await speaker.facts("create_speech", HELLO)
    assert (told["status"], told["reused"], len(sandbox.charges)) == ("COMPLETED", True, 1)


async def test_a_sound_that_comes_after_the_call_is_kept_for_the_next_one(
    speaker: Assistant, sandbox: Sandbox, movies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure(speech_jobs=False)
    held = Hold()
    monkeypatch.setattr("sync_mcp.tools.speech.save_sound", held.save_sound)
    usual = CallContext.seconds_left.fget
    assert usual
    with monkeypatch.context() as patch:
        # Its time is up as soon as it is paid.
        patch.setattr(
            CallContext, "seconds_left", property(lambda self: 0.0 if sandbox.charges else usual(self))
        )
        early = await speaker.error("create_speech", HELLO)
    assert (early.code, early.money_spent) == ("transfer_under_way", "yes")
    held.let_go.set()
    told = await speaker.facts("create_speech", HELLO)
    assert (told["status"], told["reused"], len(sandbox.charges)) == ("COMPLETED", True, 1)
    # Also once nothing of it is remembered.
    assert (await speaker.facts("create_speech", HELLO, path="b.wav"))["asset_id"] == told["asset_id"]


async def test_a_voice_is_found_by_its_name(speaker: Assistant, sandbox: Sandbox) -> None:
    await speaker.facts("create_speech", HELLO, voice_id="ada - calm narrator")
    assert sent(sandbox, JOBS)[0]["voiceId"] == VOICE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"script": "x" * 5001}, ("5,001 characters", "shorten it")),
        ({"script": "  "}, ("script is empty",)),
        ({"voice_id": "Ada - calm narator"}, ("is no voice of this account", "did you mean")),
        ({"stability": 1.5}, ("stability",)),
        ({"max_cost_usd": -1}, ("max_cost_usd",)),
    ],
)
async def test_what_cannot_be_said_is_refused_with_what_to_do_and_costs_nothing(
    speaker: Assistant, sandbox: Sandbox, change: Facts, words: tuple[str, ...]
) -> None:
    answer = await speaker.error("create_speech", {**HELLO, **change})
    assert (answer.code, answer.money_spent) == ("invalid_request", "no")
    assert all(word in answer.text for word in words), answer.text
    assert (asked(sandbox, "POST", JOBS), sandbox.charges) == ([], [])


async def test_a_job_that_failed_says_why_and_that_it_may_have_been_charged(
    served: Served, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.configure(job_seconds=0)
    sandbox.add_fault(Fault(job="fail", error_code="voice_blocked", error="It is blocked."))
    async with served(toolsets=("voices",), download_dir=movies) as client:
        speaker = Assistant(client)
        quote_id = quote_in(await speaker.error("create_speech", HELLO))
        told = await speaker.facts("create_speech", HELLO, quote_id=quote_id)
        again = await speaker.error("create_speech", HELLO)
    assert (told["status"], told["api_code"], told["charged"]) == ("FAILED", "voice_blocked", "unknown")
    assert "take another one of list_voices" in told["remedy"]
    assert "Ask the user first" in told["next_step"]
    assert again.code == "approval_required"
    assert "may have been charged" in again.text
    assert len(asked(sandbox, "POST", JOBS)) == 1


async def test_the_user_is_asked_first_and_their_yes_is_good_for_it(
    served: Served, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.configure(job_seconds=0)
    asks = served(approve_above_usd=1000, toolsets=("voices",), download_dir=movies)
    async with asks as client:
        assistant = Assistant(client)
        question = await assistant.error("create_speech", HELLO)
        assert (question.code, question.money_spent) == ("approval_required", "no")
        for words in ("Pay an unknown price for this speech?", "publishes no price", "Hello, and welcome."):
            assert words in question.text
        assert sandbox.charges == []
        wrong = await assistant.error("create_speech", HELLO, quote_id="q-none")
        assert "Make the same call without quote_id" in wrong.text
        told = await assistant.facts("create_speech", HELLO, quote_id=quote_in(question))
    assert (told["status"], len(sandbox.charges)) == ("COMPLETED", 1)


@pytest.mark.parametrize("held", [{}, {"unpriced_usd": "0.02", "budget_usd": "1"}])
async def test_what_has_no_published_price_is_asked_about_also_where_no_price_is(
    served: Served, sandbox: Sandbox, movies: Path, held: Facts
) -> None:
    sandbox.configure(job_seconds=0)
    settings = {"approve_above_usd": "never", "toolsets": ("voices",), "download_dir": movies, **held}
    async with served(**settings) as client:
        assistant = Assistant(client)
        question = await assistant.error("create_speech", HELLO)
        assert (question.code, question.money_spent) == ("approval_required", "no")
        assert "The API publishes no price for it: only the bill tells what it costs." in question.text
        assert sandbox.charges == []
        told = await assistant.facts("create_speech", HELLO, quote_id=quote_in(question))
        again = await assistant.error("create_speech", HELLO, take=2)
        assert "It is take 2" in again.text
    assert (told["status"], len(sandbox.charges)) == ("COMPLETED", 1)


async def test_where_only_a_form_counts_and_there_is_none_a_thing_without_a_price_is_refused(
    served: Served, sandbox: Sandbox
) -> None:
    async with served(approve_by="user", toolsets=("voices",)) as client:
        refused = await Assistant(client).error("create_speech", HELLO)
    assert (refused.code, refused.money_spent) == ("approval_required", "no")
    assert "SYNC_MCP_APPROVE_BY=user" in refused.text
    assert sandbox.charges == []


async def test_under_a_limit_the_user_is_told_of_the_setting_that_lets_it_through(
    served: Served, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.configure(job_seconds=0)
    limited = {"budget_usd_per_day": "0.03", "toolsets": ("voices",), "download_dir": movies}
    async with served(**limited) as client:
        refused = await Assistant(client).error("create_speech", HELLO)
    assert (refused.code, refused.money_spent) == ("limit_reached", "no")
    assert "SYNC_MCP_UNPRICED_USD" in refused.text
    assert sandbox.charges == []
    async with served(agrees=True, **limited, unpriced_usd="0.02") as client:
        held = await Assistant(client).facts("create_speech", HELLO)
        full = await Assistant(client).error("create_speech", HELLO, take=2)
    assert (held["held_usd"], full.code) == (0.02, "limit_reached")
    assert "estimate_cost" not in full.text
    assert len(sandbox.charges) == 1


async def test_read_only_offers_no_tool_of_the_set(served: Served) -> None:
    async with served(toolsets=("all",), read_only=True) as client:
        offered = {tool.name for tool in (await client.list_tools()).tools}
    assert not {tool.name for tool in TOOLS} & offered
    assert {tool.name for tool in TOOLS if tool.annotations == MAY_OVERWRITE} >= {"create_speech"}


async def test_a_bad_call_reaches_nobody(speaker: Assistant, sandbox: Sandbox) -> None:
    assert "script" in await refusal(speaker, sandbox, "create_speech", {"voice_id": VOICE})


async def test_speech_is_waited_for_beside_videos_in_the_same_words(
    speaker: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.speech._FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr("sync_mcp.tools.speech._SAVING_SECONDS", 60.0)
    sandbox.configure(job_seconds=30)
    speech = await speaker.facts("create_speech", HELLO)
    video = await speaker.facts("create_generation", input=media(sandbox))
    ids = [speech["speech_id"], video["generation_id"]]
    waiting = await speaker.facts("wait_for_generations", generation_ids=ids, wait_seconds=0)
    assert (waiting["running"], waiting["completed"]) == (2, 0)
    sandbox.advance(60)
    ended = await speaker.facts("wait_for_generations", generation_ids=ids)
    assert {row["generation_id"]: row["status"] for row in ended["generations"]} == dict.fromkeys(
        ids, "COMPLETED"
    )
    assert ended["generations"][0]["about"] == HELLO["script"]
    assert "The same create_speech call saves a speech" in ended["next_step"]
    alone = await speaker.facts("wait_for_generations", generation_ids=ids[:1])
    assert "download_generation" not in alone["next_step"]


async def test_a_speech_in_a_status_that_nobody_knows_is_not_told_as_one_that_runs(
    speaker: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.speech._SAVING_SECONDS", 60.0)
    odd: Facts = {"id": "s-1", "status": "CANCELLED"}
    sandbox.add_fault(Fault(method="POST", path=JOBS, status=201, body=odd))
    told = await speaker.facts("create_speech", HELLO)
    assert told["status"] == "CANCELLED"
    assert "This status is not known here" in told["next_step"]


@pytest.mark.parametrize("has_jobs", [True, False])
async def test_speech_of_another_ledger_and_what_was_said_at_once_are_known_by_their_ids(
    speaker: Assistant, sandbox: Sandbox, has_jobs: bool
) -> None:
    sandbox.configure(speech_jobs=has_jobs)
    if has_jobs:
        async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as other:
            id = (await other.speech.create(script="Hi.", voice_id=VOICE)).id
    else:
        id = (await speaker.facts("create_speech", HELLO))["speech_id"]
    told = await speaker.facts("wait_for_generations", generation_ids=[id])
    assert [row["status"] for row in told["generations"]] == ["COMPLETED"]


async def test_with_any_the_first_that_ends_is_enough_and_each_was_asked_for(
    speaker: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.tools.speech._SAVING_SECONDS", 60.0)
    sandbox.add_fault(Fault(job="stuck"))
    stuck = await speaker.facts("create_speech", HELLO)
    ended = await speaker.facts("create_speech", HELLO, take=2)
    ids = [stuck["speech_id"], ended["speech_id"]]
    told = await speaker.facts("wait_for_generations", generation_ids=ids, until="any")
    assert [row["status"] for row in told["generations"]] == ["PROCESSING", "COMPLETED"]


@pytest.mark.parametrize("has_jobs", [True, False])
async def test_whether_any_call_finds_a_lost_speech_is_told_by_the_way_in_which_it_was_sent(
    speaker: Assistant, sandbox: Sandbox, has_jobs: bool
) -> None:
    sandbox.configure(speech_jobs=has_jobs)
    path = JOBS if has_jobs else "/v2/tts"
    sandbox.add_fault(Fault(method="POST", path=path, drop="after", times=None))
    assert (await speaker.error("create_speech", HELLO)).code == "outcome_unknown"
    listed = await speaker.facts("list_generations")
    assert ("no call finds it out" in listed["unresolved"][0]) is not has_jobs
    assert ("the same create_speech call looks for its job" in listed["next_step"]) is has_jobs
    assert "the user settles it with" in listed["next_step"]
