import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters

from sync_mcp.sandbox.media.samples import sample
from tests.api.raw_server import RawServer, answer
from tests.bench.words import LANGUAGES, MANY_JOBS, MOST_CALLS_TOGETHER
from tests.server.host import COMMAND, KEY, SANDBOX_MARK, Embedded, Host, embedded, hosted, media, text
from tests.serving.stdio.process import WAIT_SECONDS, Frame, close_stdin, started
from tests.tools.calls import ARGUMENTS, BY_DEFAULT

ERAS = {"legacy": (False, False), "modern": (True, False), "probe and fall back": (False, True)}
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of media that the host's user has allowed."""
    folder = tmp_path_factory.mktemp("clips")
    shutil.copy(sample("speaker.mp4"), folder / "talk.mp4")
    shutil.copy(sample("speech.wav"), folder / "voice.wav")
    return folder


@pytest.fixture(scope="module", params=list(ERAS))
def shared_host(request: pytest.FixtureRequest, clips: Path) -> Iterator[Host]:
    modern_era, probes_first = ERAS[request.param]
    env = {"SYNC_MCP_MEDIA_ROOTS": str(clips)}
    with hosted("--sandbox", env=env, modern_era=modern_era, probes_first=probes_first) as host:
        yield host


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """A host of each era in turn, on a sandbox that begins anew."""
    sandbox = embedded(shared_host)
    sandbox.control("reset", {}, method="POST")
    sandbox.control("settings", {"job_seconds": 60}, method="PATCH")
    yield shared_host
    assert shared_host.server.process.poll() is None
    shared_host.server.stdout.seen.clear()
    shared_host.server.stderr.seen.clear()


def tool_names(host: Host) -> list[str]:
    return [tool["name"] for tool in host.ask("tools/list")["tools"]]


def test_a_host_lists_prices_creates_waits_and_lists_again(host: Host):
    sandbox = embedded(host)
    assert tool_names(host) == BY_DEFAULT
    request: Frame = {"model": "lipsync-2", "input": sandbox.media}

    price = host.call("estimate_cost", **request)["structuredContent"]
    assert price["cost_usd"] == pytest.approx(0.226)
    assert sandbox.control("charges") == []

    created = host.call("create_generation", **request)["structuredContent"]
    assert created["status"] == "PENDING"
    assert "get_generation with wait_seconds 45" in created["next_step"]

    question = {"generation_id": created["generation_id"], "wait_seconds": 45}
    asked = host.start("get_generation", question, progressToken="the wait")
    progress = host.progress("the wait")
    assert progress["progress"] < WAIT_SECONDS
    assert "total" not in progress
    assert "waited" in progress["message"]
    sandbox.control("clock", {"advance_seconds": 60})
    finished = host.result(asked)["structuredContent"]
    assert finished["status"] == "COMPLETED"
    assert finished["output_url"].startswith(f"{sandbox.url}/outputs/")

    [row] = host.call("list_generations")["structuredContent"]["generations"]
    assert (row["generation_id"], row["status"]) == (created["generation_id"], "COMPLETED")
    assert [charge["generationId"] for charge in sandbox.control("charges")] == [created["generation_id"]]
    frames = [json.loads(line) for line in host.server.stdout.seen]
    assert all(frame["jsonrpc"] == "2.0" for frame in frames)
    answered = [frame["id"] for frame in frames if "id" in frame]
    assert len(answered) == len(set(answered))


def test_twelve_jobs_are_priced_made_waited_for_and_told_by_at_most_six_calls(host: Host):
    sandbox = embedded(host)
    sandbox.control("settings", {"plan": "enterprise"}, method="PATCH")
    clip: Frame = {"type": "video", "url": f"{sandbox.url}/samples/speaking.mp4"}
    wanted: list[Frame] = [{"input": [clip], "dub": {"target_lang": language}} for language in LANGUAGES]
    answers: list[Frame] = []

    def call(tool: str, **arguments: Any) -> Frame:
        answers.append(host.call(tool, **arguments))
        return answers[-1]["structuredContent"]

    quote = call("create_generations", requests=wanted, dry_run=True)["quote_id"]
    made = call("create_generations", requests=wanted, quote_id=quote)["generations"]
    jobs = [row["generation_id"] for row in made]
    running = call("wait_for_generations", generation_ids=jobs, wait_seconds=0)
    assert running["running"] == MANY_JOBS
    sandbox.control("clock", {"advance_seconds": 60})
    ended = call("wait_for_generations", generation_ids=jobs)
    assert ended["completed"] == MANY_JOBS
    assert len({row["about"] for row in ended["generations"]}) == MANY_JOBS
    assert len(answers) <= MOST_CALLS_TOGETHER
    assert sorted(charge["generationId"] for charge in sandbox.control("charges")) == sorted(jobs)


def test_the_progress_of_one_call_only_rises_from_the_upload_to_the_wait_for_the_job(host: Host, clips: Path):
    sandbox = embedded(host)
    # The second file's upload is told of more than a second after the first one's, and so is the wait.
    sandbox.control("faults", {"method": "PUT", "path": "/sandbox/storage/*", "delay_seconds": 1.1})
    files: list[Frame] = [
        {"type": "video", "path": str(clips / "talk.mp4")},
        {"type": "audio", "path": str(clips / "voice.wav")},
    ]
    asked = host.start("create_generation", {"input": files, "wait_seconds": 45}, progressToken="all")
    host.progress("all", "s waited")
    sandbox.control("clock", {"advance_seconds": 60})
    assert host.result(asked)["structuredContent"]["status"] == "COMPLETED"
    frames = [json.loads(line) for line in host.server.stdout.seen]
    told = [frame["params"] for frame in frames if frame.get("method") == "notifications/progress"]
    acts = [params["message"].split()[0].rstrip(",") for params in told]
    assert ("Reading" in acts, "Uploading" in acts) == (True, True)
    figures = [params["progress"] for params in told]
    assert all(earlier < later for earlier, later in pairwise(figures)), told


def test_every_answer_and_every_error_of_the_sandbox_is_marked(host: Host):
    # Another clip than the tests before: what the ledger knows to be made is waited for, not made again.
    clip = media(embedded(host).url, "?marked")
    good = [
        host.call("estimate_cost", input=clip),
        host.call("create_generation", input=clip),
        host.call("list_generations"),
    ]
    created = good[1]["structuredContent"]["generation_id"]
    good.append(host.call("get_generation", generation_id=created))
    good.append(host.call("wait_for_generations", generation_ids=[created], wait_seconds=0))
    good.append(host.call("get_account"))
    bad = [
        host.call("get_generation", generation_id=NOBODY),
        host.call("list_generations", limt=3),
        host.call("create_generation", input=[]),
    ]
    assert [result["isError"] for result in (*good, *bad)] == [False] * 6 + [True] * 3
    assert all(SANDBOX_MARK in result["structuredContent"]["sandbox"] for result in good)
    assert all(result["_meta"]["sandbox"] is True for result in bad)
    assert all(SANDBOX_MARK in text(result) for result in (*good, *bad))
    assert SANDBOX_MARK in host.instructions
    assert SANDBOX_MARK in host.logged(f"accepted as generation {created}")


def test_the_samples_are_named_where_they_are_looked_for(host: Host):
    url = embedded(host).url
    samples = [
        f"{url}/samples/{name}" for name in ("speaker.mp4", "speaker.jpg", "speech.wav", "speaking.mp4")
    ]
    elsewhere = [{"type": "video", "url": "https://example.com/a.mp4"}, media(url)[1]]
    refused = host.call("create_generation", input=elsewhere)
    for told in (host.instructions, text(refused)):
        assert [sample for sample in samples if sample not in told] == []
    assert "/samples/" not in text(host.call("create_generation", input=[]))


def test_the_users_key_address_and_proxy_are_never_used_on_the_sandbox():
    with RawServer([answer(500)]) as trap:
        names = ("SYNC_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
        env = {"SYNC_API_KEY": KEY} | dict.fromkeys(names, trap.url)
        with hosted("--sandbox", "--log-level", "debug", env=env) as host:
            sandbox = embedded(host)
            created = host.call("create_generation", input=sandbox.media)["structuredContent"]
            assert not host.call("get_generation", generation_id=created["generation_id"])["isError"]
            assert host.call("get_generation", generation_id=NOBODY)["isError"]
            received = sandbox.control("requests")
            close_stdin(host.server)
            assert host.server.process.wait(WAIT_SECONDS) == 0
            told = json.dumps(received) + json.dumps(host.server.all_frames()) + host.server.all_stderr()
        assert trap.connections == 0
        assert len(received) >= 3
        assert KEY not in told


@pytest.mark.parametrize(
    ("command", "env"),
    [((COMMAND,), {"SYNC_MCP_SANDBOX": "1"}), ((sys.executable, "-m", "sync_mcp", "--sandbox"), {})],
    ids=["SYNC_MCP_SANDBOX=1", "python -m sync_mcp"],
)
def test_the_sandbox_is_also_reached_by(command: Sequence[str], env: dict[str, str], tmp_path: Path):
    with started(command, env | {"TMPDIR": str(tmp_path)}) as server:
        host = Host(server).connect()
        assert tool_names(host) == BY_DEFAULT
        made = host.call("create_generation", input=embedded(host).media)
        assert SANDBOX_MARK in made["structuredContent"]["sandbox"]


def test_without_a_key_tools_are_listed_and_each_call_tells_how_to_set_it():
    with hosted() as host:
        assert tool_names(host) == BY_DEFAULT
        assert SANDBOX_MARK not in host.instructions
        for tool in BY_DEFAULT:
            refused = host.call(tool, **ARGUMENTS[tool])
            assert refused["isError"] is True
            assert refused["_meta"]["code"] == "api_key_missing"
            assert refused["_meta"]["money_spent"] == "no"
            for hint in ("SYNC_API_KEY", "https://sync.so/settings/api-keys", "--sandbox"):
                assert hint in text(refused)


async def use_client() -> None:
    parameters = StdioServerParameters(command=COMMAND, args=["--sandbox"], env={"HOME": os.environ["HOME"]})
    told: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")
        await anyio.to_thread.run_sync(partial(sandbox.control, "clock", {"advance_seconds": 60}))

    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        result = await client.call_tool(tool, arguments, progress_callback=on_progress)
        assert result.structured_content is not None
        return result.structured_content

    with anyio.fail_after(2 * WAIT_SECONDS):
        async with Client(parameters, mode="legacy") as client:
            sandbox = Embedded.named_in(client.instructions or "")
            created = await call("create_generation", input=sandbox.media)
            assert told == []
            finished = await call(
                "get_generation", generation_id=created["generation_id"], wait_seconds=WAIT_SECONDS
            )
            assert finished["status"] == "COMPLETED"
            assert told


def test_a_client_of_the_sdk_makes_a_video():
    anyio.run(use_client)
