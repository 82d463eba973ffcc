"""The ledger as the resolver's book: what the client remembers comes first, and then what the file knows."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sync_mcp import AsyncSync, Ledger
from sync_mcp.api.book import Create
from sync_mcp.api.http import Transport
from sync_mcp.api.kinds import GENERATIONS
from sync_mcp.api.models import Generation
from sync_mcp.api.speech import make_speech_request
from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.attempt import Account
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.ledger_book import LedgerBook
from sync_mcp.payments.settling import Settling
from sync_mcp.sandbox import Fault, Sandbox

from .entries import ACCOUNT, BASE_URL, JOB, begun, found, intended

pytestmark = pytest.mark.anyio

_SAID = make_speech_request("Hello.", "voice-1")
UNLISTED = SpeechAct(_SAID, _SAID.to_wire())
BookOf = Callable[..., LedgerBook]


def shown(id: str = JOB) -> Generation:
    return Generation(id=id, status="PENDING", created_at=datetime.now(UTC))


@pytest.fixture
def book_of(sync: AsyncSync, ledger: Ledger) -> BookOf:
    """Make the book of an attempt that was just written down, or of one of unknown outcome."""

    def make(entry_id: int, act: PaidAct[Job] | None = None, *, is_new: bool = True) -> LedgerBook:
        account = Account(ACCOUNT, BASE_URL, is_sandbox=True)
        call = PaidCall(sync, intended().act if act is None else act, account=account, owner="me")
        entry = found(ledger, entry_id)
        return LedgerBook(ledger, Settling(ledger), call, entry, 86_400.0, is_new=is_new)

    return make


@pytest.fixture
def create_of(sandbox: Sandbox) -> Callable[[LedgerBook], Create]:
    transport = Transport(api_key="sk_first", base_url=sandbox.url, timeout_seconds=5, max_retries=0)
    return lambda book: Create(GENERATIONS, book.entry.idempotency_key, {}, book, transport)


async def test_a_job_that_the_client_remembers_as_anothers_is_not_taken_in_the_ledger(
    sync: AsyncSync, ledger: Ledger, book_of: BookOf, create_of: Callable[[LedgerBook], Create]
) -> None:
    first, second = book_of(begun(ledger)), book_of(begun(ledger, intention=intended("other")))
    sync.memory.note_made(create_of(first), JOB)
    assert await second.claim(create_of(second), shown(), 1.0) == "another's"
    assert await second.find_others(create_of(second), [JOB, "new"]) == {JOB}
    assert found(ledger, second.entry.id).generation_id is None


async def test_a_job_that_no_create_of_the_client_made_is_decided_by_the_ledger(
    ledger: Ledger, book_of: BookOf, create_of: Callable[[LedgerBook], Create]
) -> None:
    first, second = book_of(begun(ledger)), book_of(begun(ledger, intention=intended("other")))
    assert await first.claim(create_of(first), shown(), 1.0) == "mine"
    assert found(ledger, first.entry.id).generation_id == JOB
    assert await second.claim(create_of(second), shown(), 1.0) == "another's"
    assert await second.find_others(create_of(second), [JOB, "new"]) == {JOB}


async def test_the_export_holds_back_only_what_the_api_has_a_list_of(
    sandbox: Sandbox, ledger: Ledger, book_of: BookOf
) -> None:
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/usage/generations", times=None))
    entry_id = begun(ledger)
    hindrance = await book_of(entry_id, is_new=False).hindrance()
    assert hindrance is not None
    assert "the API's export of finished jobs" in hindrance.why
    assert await book_of(entry_id, UNLISTED, is_new=False).hindrance() is None
