import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from sync_mcp import AsyncSync, Audio, Ledger, OutcomeUnknown, Video
from sync_mcp.api.models import Generation, GenerationRequest, LocalMedia
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APITimeoutError, ApprovalDenied, ApprovalRequired, SyncError
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.consent import Proposal
from sync_mcp.payments.files import asset_key
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.stores.postgres import PostgresStore
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.payments.stores.store import Store
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .entries import LedgerOf

CREATE = "/v2/generate"
PRICE = Decimal("0.226")
"""Of a job from the samples with lipsync-2."""
NEVER_MADE = Fault(method="POST", path=CREATE, drop="before")


class Clock:
    """The time by which a ledger goes, moved by hand."""

    def __init__(self) -> None:
        # In the middle of a day, and of a month.
        self.now = 1_789_560_000.0


class Asker:
    """Is asked in the user's place, notes what, and says yes, no, or that a quote is to be brought."""

    def __init__(self, above_usd: str | None, says: str = "yes") -> None:
        self.above_usd = None if above_usd is None else Decimal(above_usd)
        self.says = says
        self.asked: list[Proposal] = []

    async def ask(self, proposal: Proposal) -> None:
        self.asked.append(proposal)
        if self.says == "no":
            raise ApprovalDenied("The user declined.")
        if self.says == "quote":
            quote_id = await proposal.hand_out("quote")
            raise ApprovalRequired("no", question="?", quote_id=quote_id, next_step="")


class Files:
    """A clip on this machine, which is uploaded when it may be."""

    output_seconds: float | None = 5.0
    fps: float | None = 25.0
    length_note: str | None = "as long as the video"
    hint_helps: bool = True

    def __init__(self, clip: Path) -> None:
        self.clip = clip
        self.sha256 = hashlib.sha256(clip.read_bytes()).hexdigest()
        self.may_go = anyio.Event()
        self.may_go.set()
        self.begun = anyio.Event()
        self.uploads = 0
        self.error: SyncError | None = None
        self.asset_id = ""
        self.forgotten = False

    def request(self, sandbox: Sandbox, **fields: Any) -> GenerationRequest:
        clip = LocalMedia(type="video", sha256=self.sha256, name=self.clip.name)
        media = [clip, Audio(url=sandbox.samples.audio)]
        return GenerationRequest.model_validate({"model": "lipsync-2", "input": media, **fields})

    async def find_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:  # noqa: ARG002 - as it is called
        raise AssertionError("nobody says no here")

    async def report(self) -> None:
        pass

    def forget(self) -> None:
        self.forgotten = True

    async def upload(self, sync: AsyncSync) -> Mapping[str, str]:
        self.uploads += 1
        self.begun.set()
        await self.may_go.wait()
        if self.error is not None:
            raise self.error
        asset = await sync.assets.upload(self.clip, sha256=self.sha256)
        self.asset_id = asset.id
        return {asset_key("video", self.sha256): asset.id}

    def under_way(self) -> SyncError:
        return APITimeoutError("The clip is half way.")


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as client:
        yield client


@pytest.fixture
def ledger_of(home: Path) -> Iterator[LedgerOf]:
    """Make ledgers as processes of their own have them, over one file or in a folder of their own."""
    opened: list[Ledger] = []

    def make(folder: Path = home) -> Ledger:
        opened.append(Ledger(folder))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(ledger_of: LedgerOf) -> Ledger:
    return ledger_of()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    def now(_: Store) -> float:
        return clock.now

    monkeypatch.setattr(SqliteStore, "now", now)
    monkeypatch.setattr(PostgresStore, "now", now)
    return clock


@pytest.fixture
def guard_of(home: Path) -> Callable[..., Guard]:
    """Make guards as processes of their own have them, over one ledger."""

    def make(**given: Any) -> Guard:
        named = {field.name for field in fields(Limits)} & {f"{name}_usd" for name in given}
        limits = {name: Decimal(given.pop(name.removesuffix("_usd"))) for name in named}
        return Guard(Ledger(home), Limits(**limits), **given)

    return make


@pytest.fixture
def guard(guard_of: Callable[..., Guard]) -> Guard:
    return guard_of()


@pytest.fixture
def request_of(sandbox: Sandbox) -> Callable[..., GenerationRequest]:
    def make(query: str = "", **fields: Any) -> GenerationRequest:
        media = [Video(url=sandbox.samples.video + query), Audio(url=sandbox.samples.audio)]
        return GenerationRequest.model_validate({"model": "lipsync-2", "input": media, **fields})

    return make


@pytest.fixture
def make(sync: AsyncSync, guard: Guard, request_of: Callable[..., GenerationRequest]) -> Callable[..., Any]:
    """Make a create, by default always the same one."""

    async def create(
        request: GenerationRequest | None = None, *, by: Guard = guard, client: AsyncSync = sync, **terms: Any
    ) -> Made[Generation]:
        return await by.create(PaidCall(client, GenerationAct.of(request or request_of()), **terms))

    return create


@pytest.fixture
def files(tmp_path: Path) -> Files:
    clip = tmp_path / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    return Files(clip)


async def leave_in_doubt(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard: Guard,
    request: GenerationRequest,
    fault: Fault,
    take: int = 1,
    **terms: Any,
) -> None:
    """Make a create of which, by this fault, nobody knows whether it made its job."""
    sandbox.add_fault(fault)
    sandbox.add_fault(Fault(path="/v2/generations", status=503, times=None))
    act, options = GenerationAct.of(request), RequestOptions(max_retries=0)
    with pytest.raises(OutcomeUnknown):
        await guard.create(PaidCall(sync, act, options=options, take=take, **terms))
    sandbox.clear_faults()


def paid(sandbox: Sandbox) -> list[Decimal]:
    return [charge.amount_usd for charge in sandbox.charges if not charge.released]


def sent(sandbox: Sandbox) -> list[str | None]:
    """Return the keys of the creates that reached the API."""
    return [
        request.headers.get("idempotency-key")
        for request in sandbox.requests
        if (request.method, request.path) == ("POST", CREATE)
    ]


@pytest.fixture(autouse=True)
def _settles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What settling waits for in a day of work would hold a test up."""
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e6)


@pytest.fixture(autouse=True)
def _repeats_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the client pauses between two attempts is for its own tests."""
    monkeypatch.setattr("sync_mcp.api.retry._FIRST_BACKOFF_SECONDS", 0.005)


@pytest.fixture(autouse=True)
def _on_each_store(store: None) -> None:
    """What is told here of a ledger holds wherever that lies."""
