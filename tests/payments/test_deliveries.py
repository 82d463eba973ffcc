"""What webhooks told, as the ledger keeps it: each news once, and for all processes."""

from pathlib import Path

import pytest

from sync_mcp.payments.book import deliveries
from sync_mcp.payments.ledger import Ledger

API, ELSEWHERE = "https://api.sync.so", "http://127.0.0.1:8123"


def jobs(ledger: Ledger, after: int = 0, base_url: str = API) -> list[str]:
    return [job_id for _, job_id in ledger.read_deliveries(base_url, after)]


def test_what_was_told_of_a_job_is_news_once_for_each_status(ledger: Ledger) -> None:
    assert ledger.keep_delivery(API, "a", "PROCESSING")
    assert ledger.keep_delivery(API, "a", "COMPLETED")
    assert not ledger.keep_delivery(API, "a", "COMPLETED")
    assert jobs(ledger) == ["a", "a"]


def test_another_process_reads_what_has_come_since_it_last_looked(ledger: Ledger, home: Path) -> None:
    ledger.keep_delivery(API, "a", "COMPLETED")
    other = Ledger(home)
    [(number, _)] = other.read_deliveries(API, 0)
    for job_id in ("b", "c"):
        ledger.keep_delivery(API, job_id, "FAILED")
    assert jobs(other, number) == ["b", "c"]
    other.close()


def test_what_one_api_told_is_no_news_of_another(ledger: Ledger) -> None:
    assert ledger.keep_delivery(API, "a", "COMPLETED")
    assert jobs(ledger, base_url=ELSEWHERE) == []
    assert ledger.keep_delivery(ELSEWHERE, "a", "COMPLETED")


def test_what_was_told_is_forgotten_once_no_replay_of_it_is_believed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = ledger.store.now()
    ledger.keep_delivery(API, "a", "COMPLETED")
    monkeypatch.setattr(ledger.store, "now", lambda: now + deliveries.KEPT_SECONDS + 60)
    [(first, _)] = ledger.read_deliveries(API, 0)
    assert ledger.keep_delivery(API, "b", "COMPLETED")
    # Its number is given to no other: who has read so far misses nothing.
    assert jobs(ledger) == jobs(ledger, first) == ["b"]


def test_where_nothing_was_ever_paid_no_ledger_is_made_to_listen(ledger: Ledger, home: Path) -> None:
    assert jobs(ledger) == []
    assert not home.exists()


@pytest.mark.file
def test_what_is_told_changes_nothing_of_what_the_mark_beside_the_ledger_says(ledger: Ledger) -> None:
    ledger.keep_delivery(API, "a", "COMPLETED")
    assert not ledger.file.mark_path.exists()
