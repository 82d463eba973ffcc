"""A watcher that is told by webhooks: it reads the job again at once, and looks at it slowly beside that."""

from collections.abc import Sequence

import pytest
from anyio.abc import TaskGroup

from sync_mcp import AsyncSync, Audio, Generation, LedgerError, Video
from sync_mcp.api.looks import Outcome
from sync_mcp.background import watching
from sync_mcp.background.watching import Hearing, Watcher
from sync_mcp.sandbox import Sandbox
from tests.api.conftest import until

from .conftest import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"]),
]

PATH = "/webhooks/sync"
OURS = f"https://mcp.example.com{PATH}"


class Book:
    """What webhooks have told, in place of a ledger; it may be unreadable."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.readings = 0
        self.is_broken = False

    async def read(self, after: int) -> Sequence[tuple[int, str]]:
        self.readings += 1
        if self.is_broken:
            raise LedgerError("The ledger is broken.", code="ledger_corrupt")
        return list(enumerate(self.told, 1))[after:]


@pytest.fixture
def book() -> Book:
    return Book()


def watcher_of(sync: AsyncSync, tasks: TaskGroup, book: Book, url: str | None = OURS) -> Watcher:
    return Watcher(lambda: sync, tasks, hearing=Hearing(book.read, PATH, url))


async def make(sync: AsyncSync, sandbox: Sandbox, hook: str | None = OURS) -> Generation:
    sandbox.configure(plan="enterprise")
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    return await sync.generations.create(model="lipsync-2", input=media, webhook_url=hook)


class Waiting:
    """A wait for jobs until the first of them ends."""

    def __init__(self, watcher: Watcher, tasks: TaskGroup, jobs: Sequence[Generation]) -> None:
        self._watcher = watcher
        self._ids = [job.id for job in jobs]
        self.outcomes: dict[str, Outcome] = {}
        tasks.start_soon(self._wait)

    async def _wait(self) -> None:
        self.outcomes = await self._watcher.wait_for_many(self._ids, PATIENCE_SECONDS, until="any")

    @property
    def has_ended(self) -> bool:
        return bool(self.outcomes)


def lists(sandbox: Sandbox) -> int:
    return sum(one.path == "/v2/generations" for one in sandbox.requests)


def singly(sandbox: Sandbox) -> list[str]:
    return [one.path.rpartition("/")[2] for one in sandbox.requests if one.path.startswith("/v2/generate/")]


@pytest.mark.parametrize("url", [OURS, None], ids=["with a public URL", "without settings"])
async def test_a_job_that_was_told_of_is_read_at_once_and_by_itself(
    sandbox: Sandbox,
    sync: AsyncSync,
    tasks: TaskGroup,
    book: Book,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 10.0)
    jobs = [await make(sync, sandbox) for _ in range(2)]
    waiting = Waiting(watcher_of(sync, tasks, book, url), tasks, jobs)
    await until(lambda: book.readings > 0)
    sandbox.advance(60)
    book.told.append(jobs[1].id)
    await until(lambda: waiting.has_ended)
    assert singly(sandbox) == [jobs[1].id]
    assert lists(sandbox) == 1


async def test_the_long_poll_of_a_single_job_is_overtaken(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup, book: Book
) -> None:
    job = await make(sync, sandbox)
    outcomes: list[Generation] = []

    async def wait() -> None:
        outcomes.append(await watcher_of(sync, tasks, book).wait(job.id, PATIENCE_SECONDS))

    tasks.start_soon(wait)
    await until(lambda: any("wait" in one.query for one in sandbox.requests))
    book.told.append(job.id)
    await until(lambda: len(singly(sandbox)) > 2)
    sandbox.advance(60)
    await until(lambda: bool(outcomes))
    assert outcomes[0].status == "COMPLETED"


async def test_where_no_job_names_our_path_nothing_is_read_for_it(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    hooks = (None, "https://hooks.example.com/done")
    waiting = Waiting(
        watcher_of(sync, tasks, book), tasks, [await make(sync, sandbox, hook) for hook in hooks]
    )
    await until(lambda: lists(sandbox) > 5)
    sandbox.advance(60)
    await until(lambda: waiting.has_ended)
    assert book.readings == 0


@pytest.mark.parametrize("case", ["one names nobody", "no public URL", "told and runs still", "unreadable"])
async def test_jobs_are_looked_at_as_ever_unless_the_ends_of_all_are_to_be_told(
    sandbox: Sandbox,
    sync: AsyncSync,
    tasks: TaskGroup,
    book: Book,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "TOLD_TICK_SECONDS", 600.0)
    jobs = [
        await make(sync, sandbox, None if case == "one names nobody" else OURS),
        await make(sync, sandbox),
    ]
    book.is_broken = case == "unreadable"
    watcher = watcher_of(sync, tasks, book, None if case == "no public URL" else OURS)
    waiting = Waiting(watcher, tasks, jobs)
    if case == "told and runs still":
        await until(lambda: book.readings > 0)
        book.told.append(jobs[0].id)
    await until(lambda: lists(sandbox) > 3)
    sandbox.advance(60)
    await until(lambda: waiting.has_ended)


async def test_jobs_whose_ends_are_all_told_are_looked_at_slowly_and_one_that_joins_soon(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "HEARING_SECONDS", 0.02)
    monkeypatch.setattr(watching, "TOLD_TICK_SECONDS", 600.0)
    jobs = [await make(sync, sandbox) for _ in range(3)]
    watcher = watcher_of(sync, tasks, book)
    Waiting(watcher, tasks, jobs[:2])
    # In so many readings of the book there would be several looks.
    await until(lambda: book.readings > 10)
    assert lists(sandbox) == 1
    Waiting(watcher, tasks, jobs[2:])
    await until(lambda: lists(sandbox) == 2)


async def test_an_end_that_nobody_tells_is_found_by_the_slow_look(
    sandbox: Sandbox, sync: AsyncSync, tasks: TaskGroup, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "TOLD_TICK_SECONDS", 0.2)
    waiting = Waiting(watcher_of(sync, tasks, book), tasks, [await make(sync, sandbox) for _ in range(2)])
    await until(lambda: lists(sandbox) > 0)
    sandbox.advance(60)
    await until(lambda: waiting.has_ended)
