"""A little of `make torture`, and whether it would see what it looks for."""

import asyncio
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from sync_mcp.jobs.ledger import Entry
from sync_mcp.sandbox import Charge
from sync_mcp.sandbox.clock import Clock
from tests.torture.intents import Intent
from tests.torture.points import POINTS
from tests.torture.run import Outcome, Torture
from tests.torture.verdict import judge

PRICE = Decimal("0.226")
NOW = Clock().now()


# What a slow machine delays beyond a lease would be sent again.
@pytest.mark.alone
@pytest.mark.slow
def test_servers_that_are_killed_at_every_point_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    verdict = judge(asyncio.run(Torture(20, 1, tmp_path).run()))
    assert (verdict.lost, verdict.doubled, verdict.over_budget_usd) == (0, 0, 0)
    assert verdict.faults == []
    assert all(verdict.kills[point] >= 1 for point in POINTS)
    assert verdict.created + verdict.refused + verdict.open >= verdict.intended


def _intent(number: int, *made: str) -> Intent:
    return Intent(
        number, 1, at_once=False, given_up=False, asked_again=False, is_local=False, made=list(made)
    )


def _charge(job: str, key: str, *, released: bool = False) -> Charge:
    return Charge(job, Decimal(0) if released else PRICE, NOW, key, released)


def _entry(id: int, key: str, state: str, job: str | None) -> Entry:
    return Entry(
        id=id, idempotency_key=key, state=state, generation_id=job, body_digest=key, take=1, attempt=1
    )


def _outcome(
    intents: list[Intent], jobs: dict[str, int], charges: list[Charge], entries: list[Entry]
) -> Outcome:
    return Outcome(
        intents=intents,
        charges=charges,
        jobs={
            name: {"input": [{"type": "video", "url": f"http://h/v.mp4?n={n}"}]} for name, n in jobs.items()
        },
        creates=[],
        hidden=set(),
        entries=entries,
        kills=Counter(dict.fromkeys(POINTS, 1)),
        kills_wanted=1,
        most_over_usd=Decimal(-1),
        answers=Counter(),
        seconds=1,
    )


GOOD = _outcome(
    [_intent(1, "job-1")], {"job-1": 1}, [_charge("job-1", "key-1")], [_entry(1, "key-1", "ended", "job-1")]
)


def test_one_job_for_one_intent_is_good() -> None:
    verdict = judge(GOOD)
    assert verdict.holds
    assert (verdict.created, verdict.charged, verdict.charged_usd) == (1, 1, PRICE)


def test_a_second_charge_under_one_key_is_doubled() -> None:
    charges = [_charge("job-1", "key-1"), _charge("job-2", "key-1")]
    verdict = judge(replace(GOOD, charges=charges, jobs={**GOOD.jobs, "job-2": GOOD.jobs["job-1"]}))
    assert verdict.doubled == 1
    assert not verdict.holds


def test_a_job_that_another_take_has_found_for_its_own_is_that_takes() -> None:
    first, second = _entry(1, "key-1", "ended", "job-2"), _entry(2, "key-2", "ended", "job-1")
    second.body_digest, second.take, second.was_found = "key-1", 2, True
    jobs = dict.fromkeys(("job-1", "job-2", "job-3"), GOOD.jobs["job-1"])
    # Under the first one's key both times: the API kept no keys, and the second take's was never sent.
    charges = [_charge("job-1", "key-1"), _charge("job-2", "key-1")]
    takes = replace(
        GOOD, intents=[_intent(1), _intent(1)], jobs=jobs, charges=charges, entries=[first, second]
    )
    assert judge(takes).holds
    assert judge(replace(takes, charges=[*charges, _charge("job-3", "key-1")])).doubled == 1
    assert judge(replace(takes, charges=[*charges, _charge("job-3", "key-2")])).doubled == 1
    second.was_found = False
    assert judge(takes).doubled == 1


def test_a_second_attempt_is_doubled_unless_the_first_one_was_released() -> None:
    jobs = {**GOOD.jobs, "job-2": GOOD.jobs["job-1"]}
    entries = [*GOOD.entries, _entry(2, "key-2", "ended", "job-2")]
    for released, doubled in ((False, 1), (True, 0)):
        charges = [_charge("job-1", "key-1", released=released), _charge("job-2", "key-2")]
        verdict = judge(replace(GOOD, charges=charges, jobs=jobs, entries=entries))
        assert verdict.doubled == doubled


@pytest.mark.parametrize(("state", "lost"), [("refused", 1), ("released", 1), ("unknown", 0), ("sending", 0)])
def test_a_charge_that_the_ledger_does_not_know_is_lost_unless_it_is_in_doubt(state: str, lost: int) -> None:
    verdict = judge(replace(GOOD, entries=[_entry(1, "key-1", state, None)]))
    assert verdict.lost == lost
    assert verdict.unresolved.total() == 1 - lost


def test_an_answer_with_a_job_that_is_not_there_or_of_another_is_lost() -> None:
    verdict = judge(replace(GOOD, intents=[_intent(1, "job-1", "no-job"), _intent(2, "job-1")]))
    assert verdict.lost == 2


def test_money_over_the_budget_and_deaths_that_did_not_come_to_pass_are_told() -> None:
    assert not judge(replace(GOOD, most_over_usd=Decimal("0.01"))).holds
    verdict = judge(replace(GOOD, kills=Counter({"api-received": 1})))
    assert len(verdict.faults) == len(POINTS) - 1
