from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sync_mcp import AsyncSync, Ledger
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.payments.stores.postgres import PostgresStore
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.payments.stores.store import Store
from sync_mcp.sandbox import Sandbox

from .parts import Clock, Desk, Studio


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    ledger = Ledger(home)
    yield ledger
    ledger.close()


@pytest.fixture
def book(ledger: Ledger, clock: Clock) -> CampaignBook:
    """The campaigns of a ledger whose clock stands still."""
    del clock
    return CampaignBook(ledger.store)


@pytest.fixture
def desk(book: CampaignBook) -> Desk:
    """A runner that has the account."""
    desk = Desk(book)
    assert desk.hold() is None
    return desk


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    def now(_: Store) -> float:
        return clock.now

    monkeypatch.setattr(SqliteStore, "now", now)
    monkeypatch.setattr(PostgresStore, "now", now)
    return clock


@pytest.fixture
async def studio(sandbox: Sandbox, tmp_path: Path, home: Path) -> AsyncIterator[Studio]:
    sandbox.configure(job_seconds=0)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as sync:
        studio = Studio(sandbox, sync, tmp_path, home)
        yield studio
        studio.campaigns.guard.ledger.close()


@pytest.fixture(autouse=True)
def _waits_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a night's work waits for would hold a test up."""
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("sync_mcp.payments.settling_pace._REQUESTS_PER_SECOND", 1e6)
    monkeypatch.setattr("sync_mcp.api.retry._FIRST_BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr("sync_mcp.campaigns.lanes._POLL_SECONDS", 0.01)
    monkeypatch.setattr("sync_mcp.campaigns.turns._LEDGER_PAUSE_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def _on_each_store(store: None) -> None:
    """What is told here of a ledger holds wherever that lies."""
