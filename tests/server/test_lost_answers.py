import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio
import pytest

from sync_mcp import AsyncSync, Audio, Generation, Video
from sync_mcp.sandbox import Fault, RecordedRequest, Sandbox
from tests.server.host import KEY, Host, hosted, media, until
from tests.serving.stdio.process import WAIT_SECONDS, Frame, ServerProcess, close_stdin, send_sigterm

ERAS = pytest.mark.parametrize("modern_era", [False, True], ids=["legacy", "modern"])


def on(sandbox: Sandbox, *, modern_era: bool = False) -> AbstractContextManager[Host]:
    return hosted(env={"SYNC_API_KEY": KEY, "SYNC_BASE_URL": sandbox.url}, modern_era=modern_era)


def request_of(sandbox: Sandbox) -> Frame:
    return {"model": "lipsync-2", "input": media(sandbox.url)}


def creates(sandbox: Sandbox) -> list[RecordedRequest]:
    return [one for one in sandbox.requests if (one.method, one.path) == ("POST", "/v2/generate")]


def key_in(line: str) -> str:
    found = re.search(r"key=(\S+)", line)
    assert found, line
    return found.group(1)


@ERAS
def test_a_call_that_was_cancelled_during_its_create_is_joined_by_the_same_call(
    sandbox: Sandbox, modern_era: bool
):
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=1, when="after"))
    with on(sandbox, modern_era=modern_era) as host:
        cancelled = host.start("create_generation", request_of(sandbox))
        host.logged("sending")
        host.cancel(cancelled)
        answered = host.call("create_generation", **request_of(sandbox))["structuredContent"]
    [charge] = sandbox.charges
    assert answered["generation_id"] == charge.generation_id
    assert answered["reused"] is True
    assert len(creates(sandbox)) == 1


def test_the_job_of_a_cancelled_call_is_told_to_the_same_call_as_often_as_it_is_made(sandbox: Sandbox):
    with on(sandbox) as host:
        sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=1, when="after"))
        cancelled = host.start("create_generation", request_of(sandbox))
        host.logged("sending")
        host.cancel(cancelled)
        host.logged("accepted as generation")
        told = [host.call("create_generation", **request_of(sandbox))["structuredContent"] for _ in range(2)]
    [charge] = sandbox.charges
    assert [one["generation_id"] for one in told] == [charge.generation_id] * 2
    assert [one["reused"] for one in told] == [True] * 2


def kill(server: ServerProcess) -> None:
    server.process.kill()


@pytest.mark.parametrize("stop", [close_stdin, send_sigterm, kill])
def test_a_create_whose_server_ends_is_found_by_the_key_in_its_log(
    sandbox: Sandbox, stop: Callable[[ServerProcess], None]
):
    sandbox.add_fault(Fault(path="/v2/generate", delay_seconds=30, when="after"))
    with on(sandbox) as host:
        host.start("create_generation", request_of(sandbox))
        until(lambda: bool(sandbox.charges))
        stop(host.server)
        host.server.process.wait(WAIT_SECONDS)
        host.server.all_stderr()
        key = key_in(host.logged("sending"))
    found = anyio.run(create_again, sandbox, key)
    [charge] = sandbox.charges
    assert (charge.idempotency_key, charge.generation_id) == (key, found.id)


async def create_again(sandbox: Sandbox, key: str) -> Generation:
    with anyio.fail_after(WAIT_SECONDS):
        async with AsyncSync(api_key=KEY, base_url=sandbox.url) as sync:
            return await sync.generations.create(
                model="lipsync-2",
                input=[Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)],
                request_options={"idempotency_key": key},
            )


def test_a_host_that_asks_for_videos_and_is_gone_at_once_pays_for_nothing_that_is_not_in_the_log(
    sandbox: Sandbox,
):
    with on(sandbox) as host:
        for number in range(5):
            name = {"output_file_name": f"video {number}"}
            host.start("create_generation", request_of(sandbox) | name)
        close_stdin(host.server)
        log = host.server.all_stderr()
    assert [charge for charge in sandbox.charges if f"key={charge.idempotency_key} " not in log] == []
