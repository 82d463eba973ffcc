"""A ledger asks seven things of the place where it lies: another place can stand beside the file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection

from sync_mcp import AsyncSync, Ledger
from sync_mcp.api.models import GenerationRequest
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.book.rules import Rules
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.stores.sqlite import SqliteStore
from sync_mcp.payments.stores.store import Finding, Store
from sync_mcp.sandbox import Sandbox

from .conftest import PRICE, Asker
from .entries import counted, found, intended, made, now_of, priced, quoted, settle

pytestmark = [pytest.mark.anyio, pytest.mark.file]
NAMES = {"transaction", "reading", "now", "check", "exists", "place", "findings"}


class Shelf:
    """A store that is no file to whoever uses it, and has nothing but what a store has."""

    def __init__(self, folder: Path) -> None:
        self._file = SqliteStore(folder)

    def transaction(self, *, is_sandbox: bool | None = None) -> AbstractContextManager[Connection]:
        return self._file.transaction(is_sandbox=is_sandbox)

    def reading(self) -> AbstractContextManager[Connection]:
        return self._file.reading()

    def now(self) -> float:
        return self._file.now()

    def check(self, connection: Connection) -> None:
        self._file.check(connection)

    def exists(self) -> bool:
        return self._file.exists()

    @property
    def place(self) -> str:
        return "the third shelf"

    def findings(self) -> Iterator[Finding]:
        yield "shelf", "dusted", None


class ShelvedLedger(Ledger):
    """A ledger on a shelf."""

    def __init__(self, store: Store) -> None:
        Rules.__init__(self, store)


@pytest.fixture
def shelved(tmp_path: Path) -> ShelvedLedger:
    return ShelvedLedger(Shelf(tmp_path / "shelf"))


def test_a_store_has_seven_names() -> None:
    assert {name for name in vars(Store) if not name.startswith("_")} == NAMES


def test_the_rules_of_the_ledger_need_nothing_else_of_the_place_where_it_lies(shelved: ShelvedLedger) -> None:
    id = made(shelved, usd="1")
    settle(shelved, id, "COMPLETED", charged="yes", cost="2")
    assert (found(shelved, id).state, counted(shelved)) == ("ended", Decimal(2))
    token = quoted(shelved, intended("other"), 1, Decimal(1))
    shelved.revoke(intended("other"))
    assert shelved.was_declined(intended("other"), None)
    assert token != Token(shelved.quote([priced(intended("third"))], now_of()))
    shelved.keep_account("print", "https://h", "org:one")
    assert shelved.account_of("print", "https://h") == ("org:one", False)
    assert shelved.check() == 1
    assert shelved.exists()


async def test_the_guard_pays_by_a_ledger_that_lies_in_no_file(
    sandbox: Sandbox, sync: AsyncSync, shelved: ShelvedLedger, request_of: Callable[..., GenerationRequest]
) -> None:
    call = PaidCall(sync, GenerationAct.of(request_of()), approval=Asker("1"))
    assert (await Guard(shelved).create(call)).how == "made"
    assert (await Guard(shelved).create(call)).how == "was there"
    assert len(sandbox.charges) == 1
    assert shelved.spending(is_sandbox=True).ever_usd == PRICE
