"""Many files, looked at one after another: each by a process of its own, forked from one that reads none."""

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding import look as looking
from sync_mcp.media.decoding.fork_servers import can_fork
from sync_mcp.media.decoding.look import Look, look, look_at_many
from sync_mcp.sandbox.media.samples import sample
from tests.media.forked_worker import fork_python

CLIP, VOICE = sample("speaking.mp4"), sample("speech.wav")
WAIT_SECONDS = 60
_START = looking._start  # pyright: ignore[reportPrivateUsage]
TRAP = """
import os, signal, time
from sync_mcp.media.decoding import fork_server, worker
from sync_mcp.media.decoding.findings import MediaError

def trap(file, deadline):
    content = file.read()
    if content != b"trap":
        return usual(file, deadline)
    {act}

usual = worker.TASKS["look"]
worker.TASKS["look"] = trap
fork_server.main()
"""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not can_fork(), reason="nothing is forked on this system"),
]


class Servers:
    """The servers that were started."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.start = looking._start  # pyright: ignore[reportPrivateUsage]

    async def begin(self, program: list[str], stdin: int) -> Process:
        process = await self.start(program, stdin)
        self.processes.append(process)
        return process

    def trap(self, act: str) -> None:
        """Have a decoder do this with a file that is a trap."""

        async def start(_: object, stdin: int) -> Process:
            return fork_python(["-c", TRAP.format(act=act)], stdin)

        self.start = start

    @property
    def left(self) -> int:
        """How many of them have left a process behind, of themselves or their workers."""
        return sum(map(_has_members, [process.pid for process in self.processes]))


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(looking, "_start", servers.begin)
    return servers


@pytest.fixture
async def look_at(servers: Servers) -> AsyncIterator[Look]:
    with anyio.fail_after(WAIT_SECONDS):
        async with look_at_many() as look_at:
            yield look_at
        assert not servers.left


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    path = tmp_path / "trap.mp4"
    path.write_bytes(b"trap")
    return path


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_each_of_many_files_is_told_of_as_one_alone(look_at: Look, servers: Servers) -> None:
    for file in (CLIP, VOICE, CLIP):
        assert await look_at(file) == await look(file)
    by_servers = [each for each in servers.processes if each.returncode is None]
    assert len(by_servers) == 1


async def test_a_server_that_is_started_does_as_one_that_is_forked(servers: Servers) -> None:
    servers.start = _START
    async with look_at_many() as look_at:
        assert (await look_at(CLIP)).duration_seconds == 5.0
        [process] = servers.processes
    assert process.returncode == 0


async def test_many_files_at_once_have_two_servers_at_most(look_at: Look, servers: Servers) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look_at, CLIP)
    assert len(servers.processes) in (1, 2)


async def test_a_damaged_file_is_refused_by_its_name_and_those_behind_it_are_looked_at(
    look_at: Look, servers: Servers, trap: Path
) -> None:
    with pytest.raises(FileRefused, match=r"trap\.mp4 cannot be decoded"):
        await look_at(trap)
    assert (await look_at(CLIP)).kind == "video"
    assert len(servers.processes) == 1


@pytest.mark.parametrize("act", ["os.abort()", "os._exit(0)", "raise RuntimeError", "os.close(1)"])
async def test_a_file_that_breaks_its_decoder_breaks_no_other(
    look_at: Look, servers: Servers, trap: Path, act: str
) -> None:
    servers.trap(act)
    with pytest.raises(FileRefused, match="broke the decoder off") as refused:
        await look_at(trap)
    assert refused.value.code == "file_damaged"
    assert (await look_at(CLIP)).kind == "video"
    assert len(servers.processes) == 1


async def test_what_a_file_has_made_of_its_decoder_is_gone_with_it(
    look_at: Look, servers: Servers, trap: Path
) -> None:
    servers.trap("worker.TASKS['look'] = lambda *_: ({}, b''); return worker.TASKS['look']()")
    with pytest.raises(FileRefused, match="its answer cannot be read"):
        await look_at(trap)
    assert (await look_at(CLIP)).duration_seconds == 5.0


async def test_a_decoder_has_its_file_and_its_answer_open_alone_and_can_open_nothing(
    look_at: Look, servers: Servers, trap: Path
) -> None:
    servers.trap(
        "def is_open(number):\n"
        "        try: return bool(os.fstat(number))\n"
        "        except OSError: return False\n"
        "    try: open('/dev/null')\n"
        "    except OSError as error: raise MediaError(f'{[*filter(is_open, range(99))]} {error.strerror}')"
    )
    # A second server's channel is there, and is not its own.
    await look_at(CLIP)
    with pytest.raises(FileRefused) as refused:
        await look_at(trap)
    assert refused.value.message == "trap.mp4 [0, 1, 2] Too many open files"


async def hang(act: str, servers: Servers, trap: Path, look_at: Look) -> None:
    # A hostile one lets no alarm end it.
    servers.trap(f"{act}; signal.alarm(0); time.sleep(60)")
    await look_at(trap)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("act", ["pass", "os.close(1)"])
async def test_a_decoder_that_hangs_is_killed_in_its_time_and_those_behind_it_are_looked_at(
    look_at: Look, servers: Servers, trap: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(looking, "LOOK_SECONDS", 0.3)
        with pytest.raises(FileRefused) as refused:
            await hang(act, servers, trap, look_at)
    assert refused.value.code == "file_too_slow"
    assert not servers.left
    assert (await look_at(CLIP)).kind == "video"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_look_that_is_cancelled_leaves_no_process(
    look_at: Look, servers: Servers, trap: Path
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(hang, "pass", servers, trap, look_at))
        while not servers.processes:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert not servers.left


async def test_a_decoder_that_talks_without_end_is_not_listened_to(
    look_at: Look, servers: Servers, trap: Path
) -> None:
    servers.trap("while True: os.write(1, b'x' * 65536)")
    with pytest.raises(FileRefused, match="broke the decoder off"):
        await look_at(trap)
    assert not servers.left


@pytest.mark.parametrize("program", [["-c", ""], ["-c", "import os; os.close(0); input()"]])
async def test_a_server_that_cannot_run_says_nothing_of_the_file(
    look_at: Look, servers: Servers, program: list[str]
) -> None:
    async def start(_: object, stdin: int) -> Process:
        return fork_python(program, stdin)

    servers.start = start
    for _ in range(2):
        with pytest.raises(FileRefused, match="does not run it") as refused:
            await look_at(CLIP)
        assert refused.value.code == "media_worker_failed"


async def test_where_nothing_can_be_forked_each_file_has_a_worker_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looking, "can_fork", lambda: False)
    async with look_at_many() as look_at:
        assert look_at is look
