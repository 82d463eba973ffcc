"""The forked worker answers as one that was started, with as few rights."""

import json
import subprocess
import sys

import anyio
import pytest

from sync_mcp.sandbox.media.samples import sample
from tests.media.forked_worker import started
from tests.serving.stdio.forked import ForkedProcess, run_forked

WAIT_SECONDS = 60
CLIP = sample("speaker.mp4")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked on this system")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("task", ["look", "examine", "contact_sheet"])
async def test_a_forked_worker_answers_as_one_that_was_started(task: str) -> None:
    with CLIP.open("rb") as clip:
        command = [sys.executable, "-m", "sync_mcp.media.decoding.worker", task, "60"]
        real = await anyio.run_process(command, stdin=clip, check=False)
    with CLIP.open("rb") as clip, anyio.fail_after(WAIT_SECONDS):
        process = await started(["sync_mcp.media.decoding.worker", task, "60"], clip.fileno())
        assert process.stdout
        answer = b"".join([piece async for piece in process.stdout])
        assert (await process.wait(), answer) == (real.returncode, real.stdout)
        await process.aclose()


def test_a_forked_worker_has_given_up_the_rights_that_one_has_that_was_started() -> None:
    program = (
        "import json, resource\n"
        "from sync_mcp.media.decoding import worker\n"
        "worker.import_decoders(), worker._give_up_rights(60.0)\n"
        "limits = 'AS CPU NOFILE FSIZE CORE'.split()\n"
        "print(json.dumps([resource.getrlimit(getattr(resource, f'RLIMIT_{name}')) for name in limits]))\n"
        "try: open('/dev/null')\nexcept OSError as error: print(error.strerror)\n"
    )
    command = [sys.executable, "-c", program]
    real = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS, check=True)
    forked = ForkedProcess(command, {})
    assert forked.stdin
    assert forked.stdout
    assert forked.stderr
    with forked.stdin, forked.stdout, forked.stderr:
        assert forked.stdout.read().decode() == real.stdout
        assert forked.wait(WAIT_SECONDS) == 0
    assert json.loads(real.stdout.splitlines()[0])[2] == [3, 3]


def test_what_decodes_for_a_forked_process_is_forked_too_and_in_its_group() -> None:
    program = (
        "import anyio, os, pathlib, socket\n"
        "from sync_mcp.media.decoding import look\n"
        "anyio.open_process = None\n"
        "async def main():\n"
        "    ours, its = socket.socketpair()\n"
        "    with ours:\n"
        "        server = await look._start([look._FORK_SERVER], its.fileno())\n"
        "        print(os.getpgid(server.pid) == os.getpgrp() != os.getpgid(os.getppid()))\n"
        "        its.close()\n"
        "    print(await server.wait())\n"
        "    await server.aclose()\n"
        f"    print((await look.look(pathlib.Path({str(CLIP)!r}))).width)\n"
        "anyio.run(main)\n"
    )
    done = run_forked([sys.executable, "-c", program], {}, timeout=WAIT_SECONDS)
    assert (done.stdout.splitlines(), done.stderr) == (["True", "0", "360"], "")
