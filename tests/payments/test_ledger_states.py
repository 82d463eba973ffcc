"""The states of an attempt: each act is tried in each of them, and held against the table in the ledger."""

from collections.abc import Callable, Mapping
from typing import get_args

import pytest

from sync_mcp import Ledger
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments import ledger as ledger_module
from sync_mcp.payments.rows import LEASE_SECONDS, State

from .entries import begun, ended, found, intended, made, refuse, run_sql, settle, wished

STATES: tuple[State, ...] = get_args(State)
JOB = "0b5fda45-0000"
OTHER_JOB = "0b5fda45-0001"
GONE = "gone"
REFUSED = "!"
SAME = "."
_LAPSED = "*"
"""Behind a state: its process has died."""
BEFORE = ("preparing", f"preparing{_LAPSED}", "sending", f"sending{_LAPSED}", *STATES[2:])

_Act = Callable[[Ledger, int], object]

ACTS: Mapping[str, _Act] = {
    "send": lambda ledger, id: ledger.send(id, wished(has_files=True), intended("sent")),
    "withdraw": lambda ledger, id: ledger.withdraw(id, "me"),
    "call_off": lambda ledger, id: ledger.call_off(id, "me"),
    "withdraw_abandoned": lambda ledger, _: ledger.withdraw_abandoned(intended()),
    "take_over": lambda ledger, id: ledger.take_over(id, wished(owner="another")),
    "claim": lambda ledger, id: ledger.claim(id, JOB),
    "accept": lambda ledger, id: ledger.accept(id, JOB),
    "doubt": lambda ledger, id: ledger.doubt(id, "me", None),
    "refuse": lambda ledger, id: refuse(ledger, id, "me", "nope"),
    "settle": lambda ledger, id: settle(ledger, id, "COMPLETED", charged="yes", cost="2"),
    "delete_job": lambda ledger, id: ledger.delete_job(id, generation_id=JOB, now=0),
    "resolve": lambda ledger, id: ledger.resolve(id, JOB),
    "release": lambda ledger, id: ledger.release(id),
}
"""What changes an attempt, each done by its owner, of the job that the attempt has or may have."""


def _in_state(ledger: Ledger, state: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Make an attempt and bring it into a state."""
    name = state.rstrip(_LAPSED)
    match name:
        case "preparing" | "sending" | "unknown":
            id = begun(ledger, has_files=name == "preparing")
            if name == "unknown":
                ledger.doubt(id, "me", None)
        case "accepted":
            id = made(ledger)
        case "refused":
            id = begun(ledger)
            refuse(ledger, id, "me", "nope")
        case "released":
            id = made(ledger)
            ledger.release(id)
        case "deleted":
            id = made(ledger)
            ledger.delete_job(id, generation_id=JOB, now=0)
        case "closed":
            id = _close(ledger, ended(ledger, charged="unknown"))
        case _:
            id = ended(ledger, charged="unknown")
    assert found(ledger, id).state == name
    if state.endswith(_LAPSED):
        clock = ledger.store.now() + 2 * LEASE_SECONDS
        monkeypatch.setattr(ledger.store, "now", lambda: clock)
    return id


def _close(ledger: Ledger, id: int) -> int:
    # No act leads there any more.
    run_sql(ledger, f"UPDATE entries SET state = 'closed' WHERE id = {id}")
    return id


def _row(ledger: Ledger, id: int) -> tuple[object, ...] | None:
    """Return all that stands in an entry, as the database has it."""
    return next(iter(run_sql(ledger, f"SELECT * FROM entries WHERE id = {id}")), None)


def _outcome(ledger: Ledger, act: str, id: int) -> str:
    """Do an act; return the state after it, or that it was refused, or that nothing has come of it."""
    before = _row(ledger, id)
    try:
        ACTS[act](ledger, id)
    except InvalidRequestError:
        return REFUSED if _row(ledger, id) == before else "changed, and refused"
    if _row(ledger, id) == before:
        return SAME
    after = ledger.entry(id)
    return GONE if after is None else after.state


def _table() -> dict[tuple[str, str], str]:
    """Return what the ledger's docstring says comes of each act in each state."""
    told: dict[tuple[str, str], str] = {}
    states: list[str] = []
    for line in (ledger_module.__doc__ or "").splitlines():
        name, *cells = line.split() or [""]
        if name == "act":
            states = cells
        elif name in ACTS:
            told |= {(name, state): cell for state, cell in zip(states, cells, strict=True)}
    return told


@pytest.mark.both
def test_the_table_tells_of_each_act_in_each_state() -> None:
    assert _table().keys() == {(act, state) for act in ACTS for state in BEFORE}


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("act", ACTS)
def test_an_act_has_the_outcome_that_the_table_tells(
    ledger: Ledger, act: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = _in_state(ledger, state, monkeypatch)
    assert _outcome(ledger, act, id) == _table()[act, state]


def test_what_is_found_takes_no_known_job_from_an_attempt(ledger: Ledger) -> None:
    id = made(ledger, job=OTHER_JOB)
    assert ledger.claim(id, JOB) == "another's"
    assert ledger.claim(id, OTHER_JOB) == "mine"
    assert (found(ledger, id).state, found(ledger, id).generation_id) == ("accepted", OTHER_JOB)


@pytest.mark.parametrize("state", ["refused", "released"])
def test_a_job_of_what_was_taken_for_nothing_may_have_been_charged(ledger: Ledger, state: str) -> None:
    id = begun(ledger)
    if state == "refused":
        refuse(ledger, id, "me", "nope")
    else:
        ledger.doubt(id, "me", None)
        ledger.release(id)
    ledger.accept(id, JOB)
    assert (found(ledger, id).state, found(ledger, id).charged) == ("accepted", "unknown")
    assert found(ledger, id).counted_usd == 1
