"""A little of `make torture`, and whether it would see what it looks for."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sync_mcp.payments.intention import DIGEST_VERSION
from sync_mcp.payments.rows import Entry, State
from sync_mcp.sandbox import Charge, RecordedRequest
from sync_mcp.sandbox.clock import Clock
from tests.torture.acts import KINDS, Paid, Wanted, judge_acts
from tests.torture.deletions import Group, judge_costs, judge_deletions
from tests.torture.intents import Intent
from tests.torture.points import POINTS
from tests.torture.record import Called, Records
from tests.torture.run import JOB_SECONDS, Outcome, Torture
from tests.torture.verdict import judge

PRICE = Decimal("0.226")
NOW = Clock().now()


# Most of its time it waits for the leases of those it killed. A lease lasts 12 seconds and is renewed every
# 3: no test beside it holds a server up for so long.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_servers_that_are_killed_at_every_point_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    with Records.into(tmp_path / "record.jsonl") as records:
        verdict = judge(asyncio.run(Torture(20, 1, tmp_path / "run", records).run()))
    assert (verdict.lost, verdict.doubled, verdict.over_budget_usd) == (0, 0, 0)
    assert verdict.faults == []
    assert all(verdict.kills[point] >= 1 for point in POINTS)
    # What was paid once more, because somebody agreed to it, comes on top.
    told = verdict.created + verdict.refused + verdict.called_off + verdict.open
    assert told >= verdict.intended


def _intent(number: int, *made: str) -> Intent:
    return Intent(
        number, 1, at_once=False, given_up=False, asked_again=False, is_local=False, made=list(made)
    )


def _charge(job: str, key: str, *, released: bool = False, at: datetime = NOW) -> Charge:
    return Charge(job, Decimal(0) if released else PRICE, at, key, released)


def _entry(id: int, key: str, state: State, job: str | None) -> Entry:
    return Entry(
        id=id,
        account="org:one",
        base_url="https://api.example.com",
        tool="create_generation",
        digest=key,
        body_digest=key,
        digest_version=DIGEST_VERSION,
        take=1,
        attempt=1,
        idempotency_key=key,
        model="lipsync-2",
        summary="",
        extras={},
        state=state,
        owner="",
        leased_until=0,
        estimate_usd=PRICE,
        counted_usd=PRICE,
        assets={},
        generation_id=job,
        created_at=NOW.timestamp(),
        first_sent_at=NOW.timestamp(),
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
    second = replace(second, body_digest="key-1", take=2, was_found=True)
    jobs = dict.fromkeys(("job-1", "job-2", "job-3"), GOOD.jobs["job-1"])
    # Under the first one's key both times: the API kept no keys, and the second take's was never sent.
    charges = [_charge("job-1", "key-1"), _charge("job-2", "key-1")]
    takes = replace(
        GOOD, intents=[_intent(1), _intent(1)], jobs=jobs, charges=charges, entries=[first, second]
    )
    assert judge(takes).holds
    assert judge(replace(takes, charges=[*charges, _charge("job-3", "key-1")])).doubled == 1
    assert judge(replace(takes, charges=[*charges, _charge("job-3", "key-2")])).doubled == 1
    takes = replace(takes, entries=[first, replace(second, was_found=False)])
    assert judge(takes).doubled == 1


def test_a_take_whose_job_another_has_taken_stands_for_the_job_that_the_other_made() -> None:
    first, second = _entry(1, "key-1", "ended", "job-2"), _entry(2, "key-2", "unknown", None)
    first, second = replace(first, was_found=True), replace(second, body_digest="key-1", take=2)
    charges = [_charge("job-1", "key-1"), _charge("job-2", "key-2")]
    takes = replace(
        GOOD,
        intents=[_intent(1), _intent(1)],
        jobs=dict.fromkeys(("job-1", "job-2"), GOOD.jobs["job-1"]),
        charges=charges,
        entries=[first, second],
    )
    assert judge(takes).holds
    refused = replace(takes, entries=[first, replace(second, state="refused")])
    assert judge(refused).lost == 1
    told_apart = replace(takes, entries=[replace(first, was_found=False), second])
    assert judge(told_apart).lost == 1


def test_a_second_attempt_is_doubled_unless_the_first_one_was_released() -> None:
    jobs = {**GOOD.jobs, "job-2": GOOD.jobs["job-1"]}
    entries = [*GOOD.entries, _entry(2, "key-2", "ended", "job-2")]
    for released, doubled in ((False, 1), (True, 0)):
        charges = [_charge("job-1", "key-1", released=released), _charge("job-2", "key-2")]
        verdict = judge(replace(GOOD, charges=charges, jobs=jobs, entries=entries))
        assert verdict.doubled == doubled


@pytest.mark.parametrize(("state", "lost"), [("refused", 1), ("released", 1), ("unknown", 0), ("sending", 0)])
def test_a_charge_that_the_ledger_does_not_know_is_lost_unless_it_is_in_doubt(
    state: State, lost: int
) -> None:
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


MIDNIGHT = datetime(2026, 11, 28, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
OVER = NOW + (JOB_SECONDS + 10) * SECOND
"""When the job of `GOOD` has ended, surely."""


def _create(key: str, at: datetime) -> RecordedRequest:
    return RecordedRequest("POST", "/v2/generate", {}, {"idempotency-key": key}, None, at)


def _called(code: str, began: datetime, number: int = 1, **more: Any) -> Called:
    return Called(number, 1, began, began + SECOND, code, **more)


def _made(number: int = 1, at: datetime = NOW, **more: Any) -> Called:
    return replace(_called("made", at - SECOND / 2, number, **more), generation_id=f"job-{number}")


def _with_job(status: str, *calls: Called, released: bool = False, gone: bool = False) -> Outcome:
    """Return what there is to judge by after a first call that made a job, and these calls."""
    return replace(
        GOOD,
        jobs={"job-1": {**GOOD.jobs["job-1"], "status": status}},
        charges=[_charge("job-1", "key-1", released=released)],
        calls=[_made(), *calls],
        gone={"key-1"} if gone else set(),
        price_usd=PRICE,
    )


def _many(*at: datetime) -> Outcome:
    """Return what there is to judge by after a job at each of these times, for an intent of its own."""
    numbers = range(1, len(at) + 1)
    return replace(
        _outcome(
            [_intent(n, f"job-{n}") for n in numbers],
            {f"job-{n}": n for n in numbers},
            [_charge(f"job-{n}", f"key-{n}", at=moment) for n, moment in zip(numbers, at, strict=True)],
            [_entry(n, f"key-{n}", "ended", f"job-{n}") for n in numbers],
        ),
        creates=[_create(f"key-{n}", moment) for n, moment in zip(numbers, at, strict=True)],
        price_usd=PRICE,
    )


def test_a_day_on_which_more_was_charged_than_its_budget_is_told() -> None:
    early, late = MIDNIGHT - MINUTE, MIDNIGHT + MINUTE
    budgets = {early.date(): PRICE, late.date(): PRICE}
    assert judge(replace(_many(early, late), day_budgets=budgets)).holds
    verdict = judge(replace(_many(early, late, late), day_budgets=budgets))
    assert f"over budget on {late.date()}: {2 * PRICE} USD of {PRICE} USD" in verdict.faults
    assert not verdict.holds


def test_money_counts_on_the_day_on_which_it_was_asked_for() -> None:
    sent, made = MIDNIGHT - MINUTE, MIDNIGHT + MINUTE
    over = replace(_many(made, made), day_budgets={sent.date(): PRICE, made.date(): PRICE})
    assert not judge(over).holds
    assert judge(replace(over, creates=[_create("key-1", sent), _create("key-2", made)])).holds


def test_what_is_sent_at_midnight_counts_on_one_of_both_days() -> None:
    days = {(MIDNIGHT - MINUTE).date(): PRICE, MIDNIGHT.date(): PRICE}
    at_midnight = _many(MIDNIGHT - SECOND, MIDNIGHT - SECOND)
    assert judge(replace(at_midnight, day_budgets=days)).holds
    three = _many(MIDNIGHT - SECOND, MIDNIGHT - SECOND, MIDNIGHT + SECOND)
    assert not judge(replace(three, day_budgets=days)).holds


@pytest.mark.parametrize(
    ("status", "released", "gone", "after", "duty"),
    [
        ("COMPLETED", False, False, OVER - NOW, "not"),
        ("FAILED", False, False, OVER - NOW, "ask"),
        ("FAILED", True, False, OVER - NOW, "ask"),
        ("REJECTED", False, False, timedelta(days=1), "ask"),
        ("TIMED_OUT", False, False, timedelta(hours=23), "not"),
        ("TIMED_OUT", False, False, timedelta(hours=25), "ask"),
        ("COMPLETED", False, True, 59 * MINUTE, "not"),
        ("COMPLETED", False, True, 61 * MINUTE, "ask"),
    ],
)
def test_who_pays_again_for_what_was_or_may_have_been_charged_must_be_asked(
    status: str, released: bool, gone: bool, after: timedelta, duty: str
) -> None:
    asked, reused = (
        judge(
            replace(
                _with_job(status, _called(code, NOW + after), released=released, gone=gone), parts_end=NOW
            )
        )
        for code in ("approval_required", "reused")
    )
    assert [fault.partition(":")[0] for fault in asked.faults] == (
        ["asked needlessly"] if duty == "not" else []
    )
    assert [fault.partition(":")[0] for fault in reused.faults] == (["not asked"] if duty == "ask" else [])
    assert (asked.asking.asked, asked.asking.must) == (1, int(duty == "ask"))


def test_a_job_seen_nowhere_that_a_repeat_of_its_create_named_need_not_be_asked_about_for_another_hour() -> (
    None
):
    again = NOW + 3 * 60 * MINUTE
    waits = replace(_called("generation_not_visible", again), generation_id="job-1")
    for repeated, faults in ((61 * MINUTE, ["not asked"]), (59 * MINUTE, [])):
        outcome = _with_job("COMPLETED", waits, gone=True)
        creates = [_create("key-1", NOW), _create("key-1", again - repeated)]
        verdict = judge(replace(outcome, creates=creates))
        assert [fault.partition(":")[0] for fault in verdict.faults] == faults


def test_a_failure_that_has_been_free_for_ten_minutes_is_asked_about_needlessly() -> None:
    seen = replace(_with_job("FAILED", released=True), looked_at={"job-1": [OVER]})
    for minutes, needless in ((9, False), (11, True)):
        again = _called("approval_required", OVER + minutes * MINUTE)
        assert bool(judge(replace(seen, calls=[*seen.calls, again])).faults) == needless


def test_in_fair_weather_a_free_failure_is_asked_about_needlessly_though_nobody_has_looked_at_it() -> None:
    again = _called("approval_required", OVER + 11 * MINUTE)
    for fair_from, doubts, faults in ((None, 1, []), (NOW, 0, ["asked needlessly"])):
        verdict = judge(replace(_with_job("FAILED", again, released=True), parts_end=fair_from))
        assert [fault.partition(":")[0] for fault in verdict.faults] == faults
        assert verdict.asking.may.total() == doubts


def test_a_call_that_begins_where_the_one_before_has_ended_was_alone() -> None:
    first = _called("approval_required", OVER)
    agreed = replace(_called("made", first.ended), has_quote=True)
    verdict = judge(_with_job("FAILED", first, agreed))
    assert (verdict.faults, verdict.asking.must, verdict.asking.may.total()) == ([], 1, 0)


def test_a_charged_failure_that_is_paid_again_unasked_is_told_and_one_that_was_agreed_to_is_not() -> None:
    failed = _with_job("FAILED")
    repeats = replace(
        failed,
        jobs={**failed.jobs, "job-2": GOOD.jobs["job-1"]},
        charges=[*failed.charges, _charge("job-2", "key-2", at=OVER + SECOND / 2)],
        entries=[*GOOD.entries, _entry(2, "key-2", "ended", "job-2")],
    )
    unasked = judge(replace(repeats, calls=[*failed.calls, _called("made", OVER)]))
    assert [fault.partition(":")[0] for fault in unasked.faults] == ["doubled", "paid unasked"]
    assert judge(replace(repeats, calls=[*failed.calls, _called("made", OVER, has_quote=True)])).holds


def test_a_sum_paid_unasked_that_passes_its_bound_is_told() -> None:
    both = _many(NOW, OVER)
    for bound, faults in ((2 * PRICE, 0), (PRICE, 2)):
        calls = [_made(1, above_usd=bound), _made(2, OVER, above_usd=bound)]
        assert len(judge(replace(both, calls=calls)).faults) == faults
    agreed = [_made(1, above_usd=PRICE), _made(2, OVER, above_usd=PRICE, has_quote=True)]
    assert judge(replace(both, calls=agreed)).holds
    day_later = _many(NOW, OVER + timedelta(days=1))
    calls = [_made(1, above_usd=PRICE), _made(2, OVER + timedelta(days=1), above_usd=PRICE)]
    assert judge(replace(day_later, calls=calls)).holds


def test_a_question_that_the_sum_does_not_call_for_is_told() -> None:
    one = _many(NOW)
    for bound, is_needless in ((PRICE, False), (2 * PRICE, True)):
        asked = _called("approval_required", OVER, 2, above_usd=bound)
        verdict = judge(replace(one, calls=[_made(1, above_usd=bound), asked]))
        assert bool(verdict.faults) == is_needless
        assert verdict.asking.must == int(not is_needless)


def test_of_calls_at_the_same_moment_each_may_be_the_one_that_passes_the_sum() -> None:
    calls = [_made(1, above_usd=PRICE), _called("approval_required", NOW, 2, above_usd=PRICE)]
    verdict = judge(replace(_many(NOW), calls=calls))
    assert verdict.holds
    assert (verdict.asking.asked, verdict.asking.must, verdict.asking.may.total()) == (1, 1, 0)


def test_of_calls_at_the_same_moment_none_is_one_too_many_where_the_sum_had_room_for_all() -> None:
    took, asked = _made(1, above_usd=PRICE), _called("approval_required", NOW, 2, above_usd=PRICE)
    nothing_made = replace(_many(NOW), charges=[], calls=[replace(took, code="reused"), asked])
    assert [fault.partition(":")[0] for fault in judge(nothing_made).faults] == ["asked needlessly"]
    # It may have held the money for a while.
    died = judge(replace(nothing_made, calls=[replace(took, code="server died"), asked]))
    assert (died.faults, died.asking.may) == ([], {"at the same moment as others": 1})
    assert "(at the same moment as others 1) that could be" in died.table()


def test_a_webhook_that_nobody_agreed_to_is_paid_unasked() -> None:
    for code, faults in (("approval_required", 0), ("made", 2)):
        calls = [_called(code, NOW - SECOND / 2, has_webhook=True)]
        outcome = GOOD if faults else _outcome([_intent(1)], {}, [], [])
        assert len(judge(replace(outcome, calls=calls)).faults) == faults


def test_where_nobody_is_asked_a_question_about_a_price_is_needless() -> None:
    verdict = judge(replace(_many(NOW), calls=[_called("approval_required", NOW, 2)]))
    assert [fault.partition(":")[0] for fault in verdict.faults] == ["asked needlessly"]


def test_a_user_who_has_agreed_is_not_asked_again() -> None:
    verdict = judge(_with_job("FAILED", _called("approval_required", OVER, has_quote=True)))
    assert [fault.partition(":")[0] for fault in verdict.faults] == ["asked needlessly"]


def test_a_job_of_a_call_that_was_cancelled_while_it_waited_is_told() -> None:
    verdict = judge(replace(GOOD, called_off={1: NOW}))
    assert [fault.partition(":")[0] for fault in verdict.faults] == ["paid after it was cancelled"]


def test_an_intent_whose_call_was_cancelled_while_it_waited_is_not_open() -> None:
    withdrawn = replace(_outcome([_intent(1), _intent(2)], {}, [], []), called_off={1: NOW})
    verdict = judge(withdrawn)
    assert (verdict.called_off, verdict.open) == (1, 1)


def test_every_outcome_is_written_down_as_a_line_of_json(tmp_path: Path) -> None:
    with Records.into(tmp_path / "record.jsonl") as records:
        records.write("run", seed=4)
        records.write_call(_made(1, above_usd=PRICE), server=2)
    run, call = map(json.loads, (tmp_path / "record.jsonl").read_text().splitlines())
    assert run == {"what": "run", "seed": 4}
    assert (call["what"], call["number"], call["code"], call["server"]) == ("call", 1, "made", 2)
    assert (call["generation_id"], call["above_usd"]) == ("job-1", str(PRICE))


def test_acts_that_are_lost_doubled_or_told_wrongly_are_seen() -> None:
    cost = Decimal("0.01")
    said = Wanted(KINDS[0], "Good day.", {}, ids=["one"])
    one, two = Paid("Good day.", cost, "row-1..a"), Paid("Good day.", cost, "row-1..b")
    known = [replace(_entry(1, "a", "ended", "one"), kind="speech", summary="speech: Good day.")]
    assert list(judge_acts([said], {"one": one}, known)) == []
    doubled = list(judge_acts([said], {"one": one, "two": two}, known))
    assert [line.partition(":")[0] for line in doubled] == ["doubled", "lost"]
    # What the ledger is in doubt about is not lost, by whichever it is known.
    in_doubt = replace(known[0], generation_id=None, state="unknown")
    for doubt in (replace(in_doubt, idempotency_key=""), replace(in_doubt, summary="")):
        assert list(judge_acts([said], {"one": one}, [doubt])) == []
    other = replace(in_doubt, summary="", idempotency_key="")
    assert [line.partition(":")[0] for line in judge_acts([said], {"one": one}, [other])] == ["lost"]
    wrong = list(judge_acts([said], {"one": Paid("Bye.", cost)}, known))
    assert [line.partition(":")[0] for line in wrong] == ["lost"]


def test_a_deletion_that_loses_a_cost_or_does_not_come_to_pass_is_seen() -> None:
    costs = {"job-1": PRICE}
    deleted = replace(_entry(1, "key-1", "deleted", "job-1"), cost_usd=PRICE)
    assert list(judge_costs(["job-1"], costs, [deleted])) == []
    for wrong in (
        replace(deleted, cost_usd=None),
        replace(deleted, counted_usd=Decimal(0)),
        replace(deleted, generation_id=None),
    ):
        [fault] = judge_costs(["job-1"], costs, [wrong])
        assert fault.startswith("lost: job-1")
    group = Group([_intent(1, "job-1")], ["api_error"])
    assert list(judge_deletions([group], set())) == []
    assert list(judge_deletions([group], {"job-1"})) == ["not deleted: job-1 (api_error)"]
    assert judge(replace(GOOD, entries=[replace(deleted, state="deleted")])).holds
