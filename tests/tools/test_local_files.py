"""Paths where media are wanted: priced and agreed to first, then uploaded, once."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from mcp import Client

from sync_mcp import AsyncSync
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.tools import context as context_module
from tests.media.clips import make_media
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, asked, creates, quote_in, sent

pytestmark = pytest.mark.anyio

PUT = "/sandbox/storage/*"


@pytest.fixture
def movies(movies: Path) -> Path:
    """With a photo besides."""
    shutil.copy(sample("speaker.jpg"), movies / "face.jpg")
    return movies


def paths(movies: Path, *, voice: str = "voice.wav") -> list[Facts]:
    return [
        {"type": "video", "path": str(movies / "talk.mp4")},
        {"type": "audio", "path": str(movies / voice)},
    ]


def uploads(sandbox: Sandbox) -> int:
    return len([request for request in sandbox.requests if request.method == "PUT"])


async def test_a_create_from_paths_sends_what_the_files_became(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    told = await local.facts("create_generation", input=paths(movies))
    [body] = sent(sandbox)
    assert [set(item) for item in body["input"]] == [{"type", "assetId"}, {"type", "assetId"}]
    assert uploads(sandbox) == 2
    assert told["generation_id"] in sandbox.generations
    [charge] = sandbox.charges
    assert told["estimated_cost_usd"] == pytest.approx(float(charge.amount_usd), rel=0.05)


async def test_the_price_of_paths_is_known_and_nothing_is_uploaded(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    told = await local.facts("estimate_cost", input=paths(movies))
    assert uploads(sandbox) == 0
    made = await local.facts("create_generation", input=paths(movies))
    assert told["cost_usd"] == made["estimated_cost_usd"]
    assert told["assumptions"] == ["the output is as long as the voice: 4.5 s at 25 fps"]


async def test_a_script_is_priced_by_its_length(local: Assistant, sandbox: Sandbox, movies: Path) -> None:
    speech = {"type": "text", "script": "Hello there. " * 20, "voice_id": VOICE}
    told = await local.facts("estimate_cost", input=[paths(movies)[0], speech])
    await local.facts("create_generation", input=[paths(movies)[0], speech])
    [charge] = sandbox.charges
    # Rather too much than too little: by it the budget is held.
    assert float(charge.amount_usd) <= told["cost_usd"] <= 1.5 * float(charge.amount_usd)


async def test_what_lies_elsewhere_is_measured_there(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    voice = {"type": "audio", "url": sandbox.samples.audio}
    both = await local.facts("estimate_cost", input=paths(movies))
    assert (await local.facts("estimate_cost", input=[paths(movies)[0], voice]))["cost_usd"] == both[
        "cost_usd"
    ]
    asset = await local.facts("upload_asset", path=str(movies / "voice.wav"))
    voice = {"type": "audio", "asset_id": asset["asset_id"]}
    assert (await local.facts("estimate_cost", input=[paths(movies)[0], voice]))["cost_usd"] == both[
        "cost_usd"
    ]


async def test_the_user_is_asked_before_anything_is_uploaded(
    sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    async with served(approve_above_usd=0) as client:
        assistant = Assistant(client)
        told = await assistant.error("create_generation", input=paths(movies))
        assert (told.code, told.money_spent, uploads(sandbox)) == ("approval_required", "no", 0)
        await assistant.facts("create_generation", input=paths(movies), quote_id=quote_in(told))
    assert (uploads(sandbox), len(sandbox.charges)) == (2, 1)


async def test_a_limit_refuses_before_anything_is_uploaded(
    sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    async with served(max_usd_per_job="0.01") as client:
        told = await Assistant(client).error("create_generation", input=paths(movies))
    assert (told.code, told.money_spent, uploads(sandbox)) == ("limit_reached", "no", 0)


async def test_the_same_content_under_another_name_is_the_same_job(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    first = await local.facts("create_generation", input=paths(movies))
    shutil.copy(movies / "voice.wav", movies / "again.wav")
    again = await local.facts("create_generation", input=paths(movies, voice="again.wav"))
    assert (again["generation_id"], again["reused"]) == (first["generation_id"], True)
    assert (uploads(sandbox), len(sandbox.charges)) == (2, 1)


async def test_a_changed_file_is_another_job(local: Assistant, sandbox: Sandbox, movies: Path) -> None:
    await local.facts("create_generation", input=paths(movies))
    voice = movies / "voice.wav"
    voice.write_bytes(voice.read_bytes()[:-200] + bytes([7] * 200))
    await local.facts("create_generation", input=paths(movies))
    assert (uploads(sandbox), len(sandbox.charges)) == (3, 2)


async def test_a_changed_file_whose_time_was_put_back_is_another_job(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    await local.facts("create_generation", input=paths(movies))
    voice = movies / "voice.wav"
    times = voice.stat().st_atime_ns, voice.stat().st_mtime_ns
    voice.write_bytes(voice.read_bytes()[:-200] + bytes([7] * 200))
    os.utime(voice, ns=times)
    await local.facts("create_generation", input=paths(movies))
    assert (uploads(sandbox), len(sandbox.charges)) == (3, 2)


async def test_a_file_that_was_uploaded_is_not_sent_again(
    local: Assistant, sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    await local.facts("create_generation", input=paths(movies))
    async with served() as client:
        await Assistant(client).facts("create_generation", input=paths(movies), take=2)
    assert (uploads(sandbox), len(sandbox.charges)) == (2, 2)


async def test_content_that_was_uploaded_before_is_said_to_be_the_same_asset(
    local: Assistant, sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    same = "Already uploaded: it is the same asset."
    path = str(movies / "voice.wav")
    first = await local.facts("upload_asset", path=path)
    assert same not in first.get("note", "")
    again = await local.facts("upload_asset", path=path)
    assert again["note"].startswith(same)
    async with served() as client:
        elsewhere = await Assistant(client).facts("upload_asset", path=path)
    assert elsewhere["note"].startswith(same)
    assert first["asset_id"] == again["asset_id"] == elsewhere["asset_id"]
    assert uploads(sandbox) == 1


async def test_content_of_a_url_that_was_copied_before_is_said_to_be_the_same_asset(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    first = await assistant.facts("upload_asset", url=sandbox.samples.audio)
    again = await assistant.facts("upload_asset", url=sandbox.samples.audio)
    other = await assistant.facts("upload_asset", url=f"{sandbox.samples.audio}?n=2")
    assert "Already uploaded" not in first.get("note", "")
    assert "Already uploaded" in again["note"]
    assert "Already uploaded" in other["note"]
    assert first["asset_id"] == again["asset_id"] == other["asset_id"]


async def test_an_asset_that_was_deleted_meanwhile_is_uploaded_anew_by_the_next_call(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    asset = await local.facts("upload_asset", path=str(movies / "voice.wav"))
    async with AsyncSync(api_key="sk_embedded_sandbox", base_url=sandbox.url) as sync:
        await sync.assets.delete(asset["asset_id"])
    told = await local.error("create_generation", input=paths(movies))
    assert (told.meta["api_code"], told.money_spent) == ("asset_not_found", "no")
    await local.facts("create_generation", input=paths(movies))
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"type": "video", "path": "{movies}/talk.MP4"}], "did you mean"),
        ([{"type": "video", "path": "{movies}/voice.wav"}], "an audio file, not a video"),
        ([{"type": "video", "path": "/etc/passwd"}], "not in a folder that may be read"),
        ([{"type": "video", "path": "{movies}/talk.mp4", "url": "https://h/v.mp4"}], "give one of them"),
        (
            [{"type": "text", "script": "a", "voice_id": "v", "path": "{movies}/voice.wav"}],
            "does not take path",
        ),
        ([{"type": "image", "path": "{movies}/face.jpg"}], "does not take an image"),
    ],
)
async def test_a_path_that_will_not_do_is_refused_before_anything_is_sent(
    local: Assistant, sandbox: Sandbox, movies: Path, items: list[Facts], words: str
) -> None:
    given = [
        {**item, "path": item["path"].format(movies=movies)} if "path" in item else item for item in items
    ]
    voice = [] if items[0]["type"] == "text" else [paths(movies)[1]]
    told = await local.error("create_generation", input=[*given, *voice], model="lipsync-2")
    assert told.money_spent == "no"
    assert words in told.text
    assert (creates(sandbox), uploads(sandbox)) == ([], 0)


async def test_what_the_model_cannot_do_with_a_file_is_said_before_it_is_uploaded(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    make_media(movies / "long.mp4", picture="mpeg4", sound="aac", frames=170)
    item = {"type": "video", "path": str(movies / "long.mp4")}
    told = await local.error("create_generation", input=[item, paths(movies)[1]], model="react-1")
    assert "15" in told.text
    assert uploads(sandbox) == 0


async def test_a_long_upload_goes_on_when_the_call_ends_and_a_repeat_joins_it(
    sandbox: Sandbox, movies: Path, served: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_module, "CALL_SECONDS", 5.0)
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 5.0)
    sandbox.add_fault(Fault(method="PUT", delay_seconds=4))
    async with served() as client:
        assistant = Assistant(client)
        told = await assistant.error("create_generation", input=paths(movies))
        assert (told.code, told.money_spent) == ("transfer_under_way", "no"), told.text
        assert "exactly this call again" in told.text
        with anyio.fail_after(20):
            while True:
                made = await assistant.call("create_generation", input=paths(movies))
                if not made.is_error:
                    break
    assert (uploads(sandbox), len(sandbox.charges)) == (2, 1)


async def test_an_upload_that_fails_costs_nothing_and_the_next_call_begins_anew(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    sandbox.add_fault(Fault(method="PUT", status=403, times=None))
    told = await local.error("create_generation", input=paths(movies))
    assert told.money_spent == "no"
    sandbox.clear_faults()
    account = await local.facts("get_account")
    assert (account["spent_ever_usd"], account["reserved_usd"]) == (0, 0)
    await local.facts("create_generation", input=paths(movies))
    assert len(sandbox.charges) == 1


async def test_over_http_there_are_no_local_paths_unless_folders_are_named(
    sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    async with served(http=True, media_roots=None) as client:
        told = await Assistant(client).error("estimate_cost", input=paths(movies))
    assert told.code == "file_not_allowed"
    assert "SYNC_MCP_MEDIA_ROOTS" in told.text


async def test_an_upload_answers_with_the_asset_and_what_it_holds(
    local: Assistant, sandbox: Sandbox, movies: Path
) -> None:
    told = await local.facts("upload_asset", path=str(movies / "talk.mp4"), name="My talk")
    content = (movies / "talk.mp4").read_bytes()
    assert (told["type"], told["bytes"]) == ("video", len(content))
    assert told["duration_seconds"] > 1
    assert told["width"] > 0
    assert told["asset_id"] in told["next_step"]
    [body] = sent(sandbox, "/v2/assets")
    assert (body["name"], body["contentSha256"]) == ("My talk", hashlib.sha256(content).hexdigest())
    again = await local.facts("upload_asset", path=str(movies / "talk.mp4"))
    assert again["asset_id"] == told["asset_id"]
    assert uploads(sandbox) == 1


@pytest.mark.parametrize("status", [403, 404, 503])
async def test_a_link_that_does_not_give_its_file_is_the_users_to_mend(
    local: Assistant, sandbox: Sandbox, status: int
) -> None:
    url = f"{sandbox.url}/samples/gone.mp4"
    sandbox.add_fault(Fault(path="/samples/gone.mp4", status=status, times=None))
    refused = await local.error("upload_asset", url=url)
    assert (refused.code, refused.money_spent) == ("storage_refused", "no")
    step = refused.text.partition("Next: ")[2]
    assert "the link does not give the file" in step
    assert "support" not in step


async def test_what_a_url_leads_to_is_copied(local: Assistant, sandbox: Sandbox) -> None:
    told = await local.facts("upload_asset", url=sandbox.samples.audio, type="audio")
    assert told["type"] == "audio"
    assert uploads(sandbox) == 1
    await local.facts("upload_asset", url=sandbox.samples.audio, type="audio")
    assert uploads(sandbox) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1:1/clip.mp4",
        "file:///etc/passwd",
        "clip.mp4",
    ],
)
async def test_no_private_address_is_copied_from(local: Assistant, sandbox: Sandbox, url: str) -> None:
    told = await local.error("upload_asset", url=url)
    assert told.money_spent == "no"
    assert uploads(sandbox) == 0


@pytest.mark.parametrize("arguments", [{}, {"path": "a.mp4", "url": "https://h/a.mp4"}])
async def test_an_upload_takes_a_path_or_a_url(local: Assistant, arguments: Facts) -> None:
    told = await local.error("upload_asset", arguments)
    assert "path or url" in told.text


async def test_a_server_that_only_reads_uploads_nothing(
    sandbox: Sandbox, movies: Path, served: Callable[..., Client]
) -> None:
    async with served(read_only=True) as client:
        told = await Assistant(client).error("upload_asset", path=str(movies / "talk.mp4"))
        await Assistant(client).facts("estimate_cost", input=paths(movies))
    assert told.code == "read_only"
    assert asked(sandbox, "POST", "/v2/assets") == []


async def test_what_was_made_of_other_names_asks_once_and_then_goes_by_the_quote(
    served: Callable[..., Client], sandbox: Sandbox, movies: Path
) -> None:
    async with served(approve_above_usd="100") as client:
        local = Assistant(client)
        sandbox.add_fault(Fault(method="POST", path="/v2/generate", job="fail", charged=True))
        await local.facts("create_generation", input=paths(movies))
        sandbox.advance(1000)
        asset = await local.facts("upload_asset", path=str(movies / "voice.wav"))
        video = paths(movies)[0]
        mixed: list[Facts] = [video, {"type": "audio", "asset_id": asset["asset_id"]}]
        asked = await local.error("create_generation", input=mixed)
        assert asked.code == "approval_required"
        told = await local.facts("estimate_cost", input=mixed)
        assert "was charged" in told["asks"]
        made = await local.facts("create_generation", input=mixed, quote_id=told["quote_id"])
        again = await local.facts("create_generation", input=paths(movies))
    assert (again["generation_id"], again["reused"]) == (made["generation_id"], True)
    assert len(sandbox.charges) == 2
