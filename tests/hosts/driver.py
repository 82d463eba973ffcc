"""Plays the flow with a host, through the player that runs in the host's own environment."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel

from tests.hosts.flow import Answer, Call, FlowBroken, Sight, play
from tests.hosts.pins import HERE, Host, Transport

TOOLS: Final = {path.stem.removeprefix("tool_") for path in (HERE.parent / "snapshots").glob("tool_*.json")}
_SERVERS: Final = {
    "sync-mcp": [str(Path(sys.executable).with_name("sync-mcp"))],
    "python -m sync_mcp": [sys.executable, "-m", "sync_mcp"],
}
_LIMIT_SECONDS: Final = 180
# Nobody is told that a test ran.
_SILENCE: Final = {
    "AGNO_TELEMETRY": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MCP_USE_ANONYMIZED_TELEMETRY": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
}


class _Tools(BaseModel):
    tools: list[str]


def drive(host: Host, transport: Transport, player: list[str], programs: Path, work: Path) -> Sight:
    """Play the flow with `host` over `transport`.

    `player` is the command of its player, `programs` where programs of Node lie, `work` an empty folder.

    Raises:
        FlowBroken: the host cannot connect, or the flow cannot go on.
    """
    media = _prepare(work)
    own = {"SYNC_MCP_HOME": str(work / "ledger"), "SYNC_MCP_MEDIA_ROOTS": str(media)}
    command = [*_SERVERS[host.command], "--sandbox", "--log-level", "warning"]
    environment = _environment(work)
    server: dict[str, object] = {"command": command, "env": {**environment, **own}}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    if transport == "stdio":
        return _play([*player, json.dumps(server)], environment, work)
    with _listening(command, {**environment, **own}, work / "server.log") as url:
        return _play([*player, json.dumps({**server, "url": url})], environment, work)


def _prepare(work: Path) -> Path:
    samples = HERE.parents[1] / "sync_mcp" / "sandbox" / "media" / "samples"
    media = work / "media"
    media.mkdir(parents=True)
    for sample, name in (("speaker.mp4", "clip.mp4"), ("speech.wav", "speech.wav")):
        (media / name).write_bytes((samples / sample).read_bytes())
    return media


def _environment(work: Path) -> dict[str, str]:
    """Nothing of who runs it: neither keys nor settings, and a home of its own."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), **_SILENCE}


def _play(player: list[str], environment: dict[str, str], work: Path) -> Sight:
    with (
        (work / "player.log").open("w", encoding="utf-8") as log,
        _started(player, environment, work, log) as process,
    ):
        turns = _Turns(process, work / "player.log")
        if (tools := set(_Tools.model_validate_json(turns.read()).tools)) != TOOLS:
            raise FlowBroken(f"it lists {sorted(tools)}")
        return _follow(play(work / "media"), turns)


class _Turns:
    """The calls that go to a player, and its answers."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        assert process.stdin
        assert process.stdout
        self._calls, self._answers, self._log = process.stdin, process.stdout, log

    def take(self, call: Call) -> Answer:
        print(json.dumps({"tool": call.tool, "arguments": call.arguments}), file=self._calls, flush=True)
        return Answer.model_validate_json(self.read())

    def read(self) -> str:
        if line := self._answers.readline():
            return line
        said = [
            line
            for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        raise FlowBroken(f"the player ended: {said[-1].strip() if said else 'without a word'}")


def _follow(flow: Generator[Call, Answer, Sight], turns: _Turns) -> Sight:
    call = next(flow)
    while True:
        try:
            call = flow.send(turns.take(call))
        except StopIteration as end:
            return end.value


@contextmanager
def _started(
    command: list[str], environment: dict[str, str], work: Path, log: IO[str]
) -> Generator[subprocess.Popen[str]]:
    """A process that ends with the block, with all that it started, and after a limit in any case."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=work,
        env=environment,
        encoding="utf-8",
        start_new_session=True,
    )
    limit = threading.Timer(_LIMIT_SECONDS, _end, [process])
    limit.daemon = True
    limit.start()
    try:
        with process:
            try:
                yield process
            finally:
                _end(process)
    finally:
        limit.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _listening(command: list[str], environment: dict[str, str], log: Path) -> Generator[str]:
    """The server over HTTP, on a free port of this machine; its URL."""
    with log.open("w", encoding="utf-8") as lines:
        # What it says of where it listens is no warning.
        told = [word for word in command if word not in ("--log-level", "warning")]
        with _started([*told, "--http", "--port", "0"], environment, log.parent, lines) as process:
            yield _read_url(process, log)


def _read_url(process: subprocess.Popen[str], log: Path) -> str:
    while process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/mcp", log.read_text(encoding="utf-8")):
            return found[0]
        threading.Event().wait(0.1)
    raise FlowBroken("the server over HTTP did not start")
