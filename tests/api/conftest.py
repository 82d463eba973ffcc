import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Audio, Generation, RequestOptions, Video
from sync_mcp.api.book import Claim, Create, MemoryBook, Sends, Step
from sync_mcp.api.kinds import GENERATIONS, Job, JobKind
from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.sandbox import RecordedRequest, Sandbox

from .raw_server import Answer, RawServer, Received, answer

KEY = "sk_Test-1234567890"
VIDEO = "https://media.example/clip.mp4"
AUDIO = "https://media.example/speech.wav"
CREATE = "POST /v2/generate"
LIST = "GET /v2/generations"
COUNT = "GET /v2/generations/count"
_PATHS = {"create": "/v2/generate", "listed": "/v2/generations", "count": "/v2/generations/count"}

Requests = Sequence[RecordedRequest] | Sequence[Received]
_SLEEP: Callable[[float], Awaitable[None]] = anyio.sleep


async def make(
    client: AsyncSync, sandbox: Sandbox | None = None, options: RequestOptions | None = None
) -> Generation:
    """Create a generation from the sandbox's samples, or from media that nobody fetches."""
    return await client.generations.create(
        model="lipsync-2",
        input=[
            Video(url=sandbox.samples.video if sandbox else VIDEO),
            Audio(url=sandbox.samples.audio if sandbox else AUDIO),
        ],
        request_options=options,
    )


def fail_to_resolve_localhost(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let the name localhost be unknown so many times: nothing can be sent to it until then."""
    failures = [socket.gaierror(-3, "Temporary failure in name resolution")] * times
    resolve: Callable[..., object] = socket.getaddrinfo

    def fail_first(host: str | bytes, *arguments: Any, **more: Any) -> object:
        if host in ("localhost", b"localhost") and failures:
            raise failures.pop()
        return resolve(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", fail_first)


@dataclass
class KeptBook:
    """A book as a test keeps it, over the client's memory; it takes any job for its own."""

    memory: MemoryBook
    sent_at: datetime | None = None
    last_sent_at: datetime | None = None
    named_id: str | None = None
    resend_despite_named: bool = False
    drops: Collection[str] = ()
    """Fields in which a repeat may differ."""
    claims: Callable[[str], Awaitable[Claim]] | None = None
    knows: Callable[[Sequence[str]], Awaitable[Collection[str]]] | None = None
    may_send: Callable[[], Awaitable[bool]] | None = None
    tell: Callable[[Step], Awaitable[None]] | None = None
    is_lasting: bool = True
    repeats_made_job: bool = False

    def recall(self, kind: JobKind[Job], key: str) -> Sends | None:  # noqa: ARG002 - it is of one create
        if self.sent_at is None:
            return None
        return Sends(
            self.sent_at,
            is_by_the_apis_clock=True,
            last_sent_at=self.last_sent_at,
            named_id=self.named_id,
            may_go_despite_named=self.resend_despite_named,
        )

    def comparable(self, body: Json) -> Json:
        return {name: value for name, value in body.items() if name not in self.drops}

    async def is_permitted(self) -> bool:
        return await self.permit()

    async def permit(self) -> bool:
        return self.may_send is None or await self.may_send()

    async def note(self, step: Step) -> None:
        if self.tell is not None:
            await self.tell(step)

    async def claim(self, create: Create, job: Job, seconds: float) -> Claim:
        whose = await self.memory.claim(create, job, seconds)
        return await self.claims(job.id) if whose == "mine" and self.claims is not None else whose

    async def find_others(self, create: Create, job_ids: Sequence[str]) -> Collection[str]:
        known = await self.memory.find_others(create, job_ids)
        return known if self.knows is None else {*known, *await self.knows(job_ids)}


async def make_as(
    client: AsyncSync,
    *,
    retries: int = 1,
    more: Mapping[str, object] | None = None,
    idempotency_key: str = "mine",
    **kept: Any,
) -> Generation:
    """Make what `make` makes as a create of which a `KeptBook` with these fields is kept."""
    media = [{"type": "video", "url": VIDEO}, {"type": "audio", "url": AUDIO}]
    request = GenerationRequest.from_wire({"model": "lipsync-2", "input": media, **(more or {})})
    book = KeptBook(client.memory, **kept)
    options: RequestOptions = {"max_retries": retries}
    return await client.create_as(
        GENERATIONS, book, idempotency_key, request.to_wire(), request_options=options
    )


def job(id: str = "job-1", /, **more: object) -> dict[str, object]:
    """Return what the API shows of the job that `make` makes without a sandbox, created just now."""
    media = [{"type": "video", "url": VIDEO}, {"type": "audio", "url": AUDIO}]
    shown = {"id": id, "status": "PENDING", "createdAt": ago(0), "model": "lipsync-2", "input": media}
    return {**shown, "options": {}, **more}


def jobs(count: int, *, since: float = 0, name: str = "other", **more: object) -> list[dict[str, object]]:
    """Return so many jobs that `make` surely did not make, newest first, the newest so many seconds old."""
    return [
        job(f"{name}-{place}", **{"model": "sync-3", "createdAt": ago(since + place), **more})
        for place in range(count)
    ]


def paged(newest_first: Sequence[Mapping[str, object]], size: int = 100) -> Callable[[Received], Answer]:
    """Answer the API's list in pages of this size, whatever the limit."""

    def page(request: Received) -> Answer:
        ids = [entry["id"] for entry in newest_first]
        start = ids.index(request.query["cursor"]) + 1 if "cursor" in request.query else 0
        return answer(200, newest_first[start : start + size])

    return page


def ago(seconds: float) -> str:
    """Return a moment as the API writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def trail(requests: Requests) -> list[str]:
    """Return what was asked of the API, in order."""
    return [f"{one.method} {one.path}" for one in requests if one.path.startswith("/v2/")]


def keys(requests: Requests) -> list[str]:
    """Return the idempotency key of each create that was sent."""
    return [one.headers["idempotency-key"] for one in requests if f"{one.method} {one.path}" == CREATE]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    with anyio.fail_after(15):
        while not holds():
            await _SLEEP(0.01)


def in_turn(*answers: Answer) -> Callable[[Received], Answer]:
    """Give these answers one after the other, and the last one again and again."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, timeout=20) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start a raw server with these answers: in turn, or by what is asked for."""
    with ExitStack() as running:

        def start(*answers: Answer, **by_path: Answer | Callable[[Received], Answer]) -> RawServer:
            paths = {_PATHS[name]: given for name, given in by_path.items()}
            return running.enter_context(RawServer(list(answers or [answer(404, {})]), paths))

        yield start


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., AsyncSync]]:
    """Make a client of a raw server; its time is short, since nothing there deserves patience."""
    made: list[AsyncSync] = []

    def make(server: RawServer, *, timeout: float = 5, max_retries: int = 0) -> AsyncSync:
        made.append(AsyncSync(api_key=KEY, base_url=server.url, timeout=timeout, max_retries=max_retries))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client makes, in seconds; none of them takes any time."""
    made: list[float] = []

    async def note(seconds: float) -> None:
        made.append(seconds)
        await _SLEEP(0)

    monkeypatch.setattr(anyio, "sleep", note)
    return made
