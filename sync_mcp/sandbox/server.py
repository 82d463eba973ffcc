"""The sandbox as a running server: the handle that Python code holds, and the command that serves it."""

import asyncio
import importlib.util
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from pydantic import JsonValue
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sync_mcp import access
from sync_mcp.machine.listen import listening_socket
from sync_mcp.sandbox.api.entrance import Entrance
from sync_mcp.sandbox.api.webhooks import WebhookSender
from sync_mcp.sandbox.app import create_app
from sync_mcp.sandbox.faults.control import PATHS, good_keys
from sync_mcp.sandbox.faults.records import Charge, RecordedRequest, SentWebhook
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.settings import SandboxSettings
from sync_mcp.sandbox.world import World

MARK = "X-Sync-Sandbox"
LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SampleURLs:
    """Where the samples are served."""

    video: str
    image: str
    audio: str
    speaking: str
    """A video with speech, which alone can be dubbed."""


class Sandbox:
    """A stand-in for the Sync API on this machine, in a thread of its own.

    `with Sandbox() as sandbox:` starts and stops it; `settings` are the fields of `SandboxSettings`. The
    address is taken at once, so `url` holds before the start. Where there are `tokens`, they alone are good
    as an API key. Callers name this machine by its loopback names, or by one of `allowed_hosts`; the first of
    those stands in `url` where it is served elsewhere than on loopback.

    Raises:
        ValueError: others can reach it, and there is no token or no name for them to call it by.
        OSError: the port is taken.
        pydantic.ValidationError: an unknown setting, or a value that cannot be.
        ImportError: PyAV is not installed.
    """

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int = 0,
        *,
        tokens: Collection[str] = (),
        allowed_hosts: Sequence[str] = (),
        **settings: object,
    ) -> None:
        if importlib.util.find_spec("av") is None:
            raise ImportError("The sandbox renders real video with PyAV: install sync-mcp[media].")
        wanted = SandboxSettings.model_validate(settings)
        outside = host not in access.LOOPBACK
        if (outside or allowed_hosts) and not (tokens and (allowed_hosts or not outside)):
            raise ValueError(f"A sandbox on {host} that others can reach needs tokens and allowed_hosts.")
        self._socket = _bind(host, port)
        self.url = _origin(allowed_hosts[0] if outside else host, self._socket.getsockname()[1])
        self.samples = SampleURLs(
            video=f"{self.url}/samples/speaker.mp4",
            image=f"{self.url}/samples/speaker.jpg",
            audio=f"{self.url}/samples/speech.wav",
            speaking=f"{self.url}/samples/speaking.mp4",
        )
        self._world = World(wanted, self.url, has_token=bool(tokens))
        app, self._generations = create_app(self._world)
        self._webhooks = WebhookSender(self._world, self._generations)
        app = Entrance(app, allowed_hosts, tokens)
        config = uvicorn.Config(
            _date_answers(app, self._world),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            headers=[(MARK, "1")],
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name="sync-sandbox", daemon=True)

    def start(self) -> Self:
        """Start serving; requests that came before are answered now."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop at once: break off what is under way, end the threads, remove the files."""
        self._world.pulse.stop()
        self._world.contents.cancelled.set()
        self._world.fetcher.close()
        self._server.should_exit = True
        # Before anything that takes time: a process that is made to leave meanwhile leaves no files behind.
        self._world.storage.remove()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self._socket.close()
        self._world.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def settings(self) -> SandboxSettings:
        """The settings in force."""
        return self._world.settings

    @property
    def project_id(self) -> str:
        """The project that the organization has from the start."""
        return self._world.project_id

    @property
    def foreign_project_id(self) -> str:
        """A project of another organization's."""
        return self._world.foreign_project_id

    @property
    def has_token(self) -> bool:
        """Whether only a token is good as an API key."""
        return self._world.has_token

    @property
    def folder(self) -> Path:
        """Where its files lie; gone once it has stopped."""
        return self._world.storage.root

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request to the API and the storage, oldest first."""
        return self._world.records.listing()

    @property
    def charges(self) -> list[Charge]:
        """One charge for each job that was accepted, oldest first."""
        return self._world.charges()

    @property
    def webhooks(self) -> list[SentWebhook]:
        """Every webhook that was sent, in the order of the answers."""
        return self._world.records.webhooks()

    @property
    def generations(self) -> dict[str, dict[str, JsonValue]]:
        """Every generation in its present state by its id, hidden and forgotten ones too."""
        return {job.id: self._generations.wire(job) for job in list(self._world.contents.jobs.values())}

    @property
    def scripts(self) -> dict[str, str]:
        """The script of every speech that was ever accepted, by its id."""
        return {job.id: job.script for job in list(self._world.contents.speeches.values())}

    @property
    def clones(self) -> dict[str, str]:
        """The name of every voice that was ever cloned, by its id."""
        return {clone.id: clone.name for clone in list(self._world.contents.cloned)}

    @property
    def batches(self) -> dict[str, dict[str, str | None]]:
        """The generation of each row by its `request_id`, of each batch by its id; None for a row without."""
        return {
            batch.id: {row.request_id: row.job.id if row.job else None for row in batch.rows}
            for batch in list(self._world.contents.batches.values())
        }

    @property
    def dialogue_edits(self) -> dict[str, dict[str, JsonValue]]:
        """What every dialogue edit that was ever accepted asks for, by its id."""
        return {job.id: dict(job.asked) for job in list(self._world.contents.dialogue_edits.values())}

    def advance(self, seconds: float) -> None:
        """Move the clock: jobs end, long polls answer, URLs expire."""
        self._world.advance(seconds)

    def add_fault(self, fault: Fault) -> str:
        """Put a fault in force and return its id."""
        return self._world.faults.add(fault)

    def clear_faults(self) -> None:
        """Take every fault out of force."""
        self._world.faults.clear()

    def configure(self, **changes: object) -> None:
        """Change settings for what comes from now on.

        Raises:
            pydantic.ValidationError: an unknown setting, or a value that cannot be.
        """
        self._world.configure(changes)

    def reset(self) -> None:
        """Go back to how it began: no jobs, charges, requests or faults, real time, the first settings."""
        self._world.reset()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            self._world.pulse.attach(loop)
            try:
                runner.run(self._serve())
            finally:
                self._world.pulse.attach(None)

    async def _serve(self) -> None:
        telling = asyncio.create_task(self._webhooks.run())
        await self._server.serve(sockets=[self._socket])
        telling.cancel()


class _Protocol(H11Protocol):
    """Hands the transport to the application, so that a fault can close the connection under it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)

    def send_400_response(self, msg: str) -> None:
        # The server's own answer to what is no HTTP would lack the mark.
        lines = ["HTTP/1.1 400 Bad Request", f"{MARK}: 1", "Connection: close", f"Content-Length: {len(msg)}"]
        self.transport.write("\r\n".join([*lines, "", msg]).encode())
        self.transport.close()


def _date_answers(app: ASGIApp, world: World) -> ASGIApp:
    """Return an app that dates its answers by the sandbox's clock: an API has one for all it says."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("date", format_datetime(world.clock.now(), usegmt=True))
            await send(message)

        await app(scope, receive, send_dated)

    return answer


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Idle connections would be waited for, and a client that is gone never answers.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise OSError(error.errno, f"The sandbox cannot listen on {host}:{port}: {error.strerror}") from error


def _origin(name: str, port: int) -> str:
    """Return where a server is that is called by a name, which may have a port of its own."""
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"
    return f"http://{name}" if re.search(r":\d+$", name) else f"http://{name}:{port}"


def serve(
    host: str,
    port: int,
    *,
    plan: str,
    job_seconds: float,
    tokens: Collection[str] = (),
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Run a sandbox until SIGINT or SIGTERM, having told on standard output how to use it.

    Raises:
        OSError: the port is taken.
        ValueError: as `Sandbox`.
    """
    ended = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        ended.set()

    with Sandbox(
        host, port, tokens=tokens, allowed_hosts=allowed_hosts, plan=plan, job_seconds=job_seconds
    ) as sandbox:
        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            sys.stdout.write(_welcome(sandbox))
            sys.stdout.flush()
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _welcome(sandbox: Sandbox) -> str:
    items = [{"type": "video", "url": sandbox.samples.video}, {"type": "audio", "url": sandbox.samples.audio}]
    body = json.dumps({"model": "lipsync-2", "input": items}, separators=(",", ":"))
    key = "TOKEN" if sandbox.has_token else "any"
    paths = "\n".join(f"  {path:<32} {what}" for path, what in PATHS.items())
    return f"""Sync API sandbox: {sandbox.url}
{good_keys(has_token=sandbox.has_token)} Nothing here costs money. Plan: {sandbox.settings.plan}.

Samples:
  {sandbox.samples.video}
  {sandbox.samples.image}
  {sandbox.samples.audio}
  {sandbox.samples.speaking} (with speech: to dub)

Try it:
  curl -X POST {sandbox.url}/v2/generate -H 'x-api-key: {key}' -H 'Content-Type: application/json' \\
    -d '{body}'

Control:
{paths}

Ctrl-C ends it.
"""
