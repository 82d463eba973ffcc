"""What a reservation takes in a ledger that has grown large: a figure for the table of `make bench`."""

import sqlite3
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from statistics import median

from sync_mcp.api.models import GenerationRequest, Video
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt, Instant
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import Price

ENTRIES = 100_000
RESERVATIONS = 100
_DAY_SECONDS = 86_400.0
_MOST_USD = Decimal(1_000_000)
_LIMITS = Limits(per_day_usd=_MOST_USD, ever_usd=_MOST_USD)
_PRICE = Price(Decimal("0.5"))
_OWN = ("digest", "body_digest", "content_digest", "idempotency_key", "generation_id")
"""What no two entries have in common."""
_TIMES = ("created_at", "first_sent_at", "last_sent_at", "settled_at")


def reservation_seconds() -> float:
    """Return the median of a reservation that is held against every limit, among 100,000 paid entries.

    It is the hardest case: all of them are of the last day, and nobody was asked about any, so that what was
    paid unasked within a day is the sum of all.
    """
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(folder)
        try:
            _fill(ledger)
            ledger.check()
            seconds: list[float] = []
            for number in range(RESERVATIONS):
                attempt = _attempt(f"new-{number}")
                began = time.perf_counter()
                _, is_ours = ledger.begin(attempt)
                seconds.append(time.perf_counter() - began)
                assert is_ours
        finally:
            ledger.close()
    return median(seconds)


def _attempt(name: str) -> Attempt:
    request = GenerationRequest(model="lipsync-2", input=[Video(url=f"https://example.com/{name}.mp4")])
    intention = Intention(GenerationAct.of(request), account="key:bench", base_url="https://api.sync.so")
    now = Instant(time.time())
    return Attempt(intention, 1, "bench", "bench", _LIMITS, now, _PRICE, unasked_usd=_MOST_USD)


def _fill(ledger: Ledger) -> None:
    """Make one entry as the program does, and all others in one statement, like it."""
    entry, _ = ledger.begin(_attempt("old"))
    ledger.accept(entry.id, "job")
    ledger.settle(
        entry.id,
        generation_id="job",
        status="COMPLETED",
        error_code=None,
        cost_usd=_PRICE.usd,
        charged="yes",
        now=time.time(),
    )
    ledger.close()
    multiply_entries(ledger.file.path, ENTRIES)


def multiply_entries(path: Path, number: int) -> None:
    """Make as many entries of the first one, over a day, as if the program had made them."""
    with closing(sqlite3.connect(path)) as file, file:
        columns = [row[1] for row in file.execute("PRAGMA table_info(entries)") if row[1] != "id"]
        values = {name: name for name in columns}
        values |= {name: f"{name} || '-' || number" for name in _OWN}
        values |= {name: f"{name} - {_DAY_SECONDS / number} * number" for name in _TIMES}
        file.execute(
            f"""WITH RECURSIVE numbers(number) AS (
                SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {number - 1}
            ) INSERT INTO entries ({", ".join(values)})
            SELECT {", ".join(values.values())} FROM entries, numbers WHERE id = 1"""
        )
