"""Entries of a ledger as they come about, without a server and without an API."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sync_mcp import Ledger
from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt, Instant, Token
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import Charged, Entry
from sync_mcp.payments.stores.sqlite import SqliteStore

ACCOUNT, BASE_URL = "org:one", "https://api.example.com"
JOB = "0b5fda45-0000"
LedgerOf = Callable[..., Ledger]
_STORE = SqliteStore(Path())


def run_sql(ledger: Ledger, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement beside the ledger's own; return the rows that it tells."""
    with ledger.store.transaction() as connection:
        done = connection.exec_driver_sql(statement)
        return [tuple(row) for row in done] if done.returns_rows else []


def clock_time() -> float:
    """Return the time by the ledgers' own clock."""
    return _STORE.now()


def intended(name: str = "clip", account: str = ACCOUNT, take: int = 1, query: str = "") -> Intention:
    request = {
        "model": "lipsync-2",
        "input": [
            {"type": "video", "url": f"https://h/{name}.mp4{query}"},
            {"type": "audio", "url": "https://h/a.wav"},
        ],
    }
    return Intention(
        GenerationAct.of(GenerationRequest.from_wire(request)), account=account, base_url=BASE_URL, take=take
    )


def generation_of(intention: Intention) -> GenerationAct:
    """Return what is to be made, where it is a generation."""
    assert isinstance(intention.act, GenerationAct)
    return intention.act


def wire_of(intention: Intention) -> Json:
    """Return the body as it is sent."""
    intention.act.check_is_sendable()
    return intention.act.body


def wished(
    name: str = "clip",
    usd: str | None = "1",
    *,
    attempt: int = 1,
    intention: Intention | None = None,
    **more: Any,
) -> Attempt:
    return Attempt(
        intention=intention or intended(name),
        number=attempt,
        tool="create_generation",
        owner=more.pop("owner", "me"),
        price=Price(None if usd is None else Decimal(usd)),
        limits=Limits(**{name: Decimal(limit) for name, limit in more.pop("limits", {}).items()}),
        now=more.pop("now", None) or Instant(clock_time()),
        **more,
    )


def begun(ledger: Ledger, *args: Any, **kwargs: Any) -> int:
    entry, is_ours = ledger.begin(wished(*args, **kwargs))
    assert is_ours
    return entry.id


def made(ledger: Ledger, *args: Any, job: str = JOB, **kwargs: Any) -> int:
    id = begun(ledger, *args, **kwargs)
    ledger.accept(id, job)
    return id


def ended(ledger: Ledger, *args: Any, charged: Charged, cost: str | None = None, **kwargs: Any) -> int:
    """Make an attempt whose job ended so long ago that a cost of 0 is believed."""
    id = made(ledger, *args, **kwargs)
    status = "COMPLETED" if charged == "yes" else "FAILED"
    job, ended_at = found(ledger, id).generation_id, clock_time() - 7 * 3600
    settle(ledger, id, status, charged=charged, cost=cost, generation_id=job, ended_at=ended_at)
    return id


def settle(
    ledger: Ledger, id: int, status: str, *, charged: Charged, cost: str | None = None, **more: Any
) -> None:
    """Note how a job ended, and what it cost, as it is told now."""
    told: dict[str, Any] = {
        "generation_id": JOB,
        "error_code": None,
        "now": clock_time(),
        **more,
    }
    known = None if cost is None else Decimal(cost)
    ledger.settle(id, status=status, charged=charged, cost_usd=known, **told)


def found(ledger: Ledger, id: int) -> Entry:
    entry = ledger.entry(id)
    assert entry is not None
    return entry


def counted(ledger: Ledger) -> Decimal:
    return ledger.spending().ever_usd


def now_of() -> Instant:
    """Return the time by the ledger's own clock."""
    return Instant(clock_time())


def priced(intention: Intention, attempt: int = 1, usd: str | Decimal | None = "1") -> Attempt:
    """Return an attempt at a price, as the user is asked about it."""
    price = Price(None if usd is None else Decimal(usd))
    return replace(wished(attempt=attempt, intention=intention), price=price)


def quoted(ledger: Ledger, intention: Intention, attempt: int, usd: Decimal | None) -> Token:
    return Token(ledger.quote([priced(intention, attempt, usd)], now_of()))


def refuse(ledger: Ledger, id: int, owner: str, code: str, *, gives_quote_back: bool = False) -> None:
    ledger.refuse(id, owner, code, gives_quote_back=gives_quote_back)


def is_taken(ledger: Ledger, id: int, owner: str, name: str = "clip", **more: Any) -> bool:
    """Return whether an owner could take an attempt over."""
    return ledger.take_over(id, wished(name, owner=owner, **more)) != "lost"


def unsettled(ledger: Ledger, limit: int = 10) -> list[int]:
    now = clock_time()
    return [entry.id for entry in ledger.list_unsettled(ACCOUNT, BASE_URL, limit, now)]


def left_open(ledger: Ledger) -> list[int]:
    now = clock_time()
    return [entry.id for entry in ledger.list_left_open(ACCOUNT, BASE_URL, 10, now)]
