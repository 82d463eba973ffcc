"""What is tried in fair weather when the parts are over, where what is right can be told exactly."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sync_mcp.sandbox.faults.script import CREATE_PATH
from tests.torture.acts import try_acts
from tests.torture.asked import ASKED
from tests.torture.deletions import try_deletions
from tests.torture.intents import Heard, Intent, number_in, number_of, plain_intent

if TYPE_CHECKING:
    from tests.torture.pool import Slot
    from tests.torture.run import Torture

A_DAY_LATER = timedelta(hours=26).total_seconds()
"""More than the day over which is summed what was paid unasked."""
_LATER_SECONDS = (700.0, 3000.0)
"""More than the ten minutes in which a failure may be charged; costs come hours later too."""
_MOST_REPEATS = 12
"""How many of each kind are asked for again."""
_UNASKED_JOBS = 3
"""So many jobs may be paid unasked within a day in the trial of the sum."""
_SUM_CALLS = 8
_SLOTS = 2
_TOO_MANY = 429
_WAITERS = 6
_WAIT_SECONDS = 12
_GIVEN_UP_AFTER = 4.0
_SLOW_JOB_SECONDS = 600.0
_AFTER_SLOT_SECONDS = 5.0
"""Long enough for a server that still waits to see that a slot came free, and to send."""
_PAUSE_SECONDS = 0.05
_UNDER_WAY = timedelta(seconds=5)

Loss = Literal["journal", "older", "gone"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
"""What becomes of the ledger's file when its servers were killed."""
_LOSS_CALLS = 3


async def try_all(run: "Torture") -> None:
    """Try each, one after another."""
    run.clear_weather()
    run.sandbox.configure(plan="enterprise", idempotency="honour")
    older = run.folder / "older"
    shutil.copytree(run.home, older)
    async with run.serving(2):
        await _told_of(run, "the rest", run.pursue_the_rest())
        await _told_of(run, "repeats", _repeat(run))
        await _told_of(run, "slots", _cancel_waits(run))
    async with run.serving(2, above_usd=run.price_usd * _UNASKED_JOBS):
        await _told_of(run, "sum", _pass_the_sum(run))
        wanted = [_added(run) for _ in range(_LOSS_CALLS)]
        run.advance(A_DAY_LATER)
        await _call_each(run, wanted)
    await _told_of(run, "acts", try_acts(run))
    await _told_of(run, "deletions", try_deletions(run))
    await _told_of(run, "losses", _lose_the_ledger(run, older, wanted))


async def _told_of(run: "Torture", name: str, trial: Coroutine[Any, Any, None]) -> None:
    run.records.write("trial", name=name)
    began, calls = time.monotonic(), len(run.calls)
    await trial
    run.say(f"  {name:<9} {len(run.calls) - calls} calls, {time.monotonic() - began:.0f} s")


async def _repeat(run: "Torture") -> None:
    """Call for what failed, what is seen nowhere and what is fine once more: at once, later and a day later.

    What is new in between has each server ask what has ended, and what that cost.
    """
    chosen = _to_repeat(run)
    # What ended a moment ago has ended for everybody.
    for seconds in (60, *_LATER_SECONDS):
        run.advance(seconds)
        await _call_each(run, [_added(run) for _ in run.pool.slots])
        await _call_each(run, chosen)
    run.advance(A_DAY_LATER)
    await _call_each(run, chosen)


def _to_repeat(run: "Torture") -> list[Intent]:
    """Return intents whose last job the assistant was told of, some of each kind."""
    takes = Counter(intent.number for intent in run.every)
    jobs = run.sandbox.generations
    latest = {number_of(dict(job)): id for id, job in run.jobs().items()}
    kinds: dict[object, list[Intent]] = {}
    # The youngest first: what failed a few minutes ago may be charged still.
    for intent in reversed(run.every):
        job_id = latest.get(intent.number)
        if takes[intent.number] == 1 and job_id is not None and job_id in intent.made:
            is_gone = run.is_gone(job_id)
            kinds.setdefault("gone" if is_gone else jobs[job_id]["status"], []).append(intent)
    return [intent for of_kind in kinds.values() for intent in of_kind[:_MOST_REPEATS]]


async def _pass_the_sum(run: "Torture") -> None:
    """Make more than may be paid unasked within a day: one by one, agreed to, and many at once."""
    run.advance(A_DAY_LATER)
    wanted = [_added(run) for _ in range(_SUM_CALLS)]
    with_webhook = _added(run, has_webhook=True)
    await _call_each(run, [*wanted, with_webhook])
    for intent in (*[intent for intent in wanted if intent.quote_id][:2], with_webhook):
        await _agree(run, intent)
    # What was agreed to leaves no room for others.
    await _call_each(run, [_added(run)])
    for intent in _refused_repeats(run):
        if (await run.call(intent, run.pool.slots[0])).code == ASKED:
            await _agree(run, intent)
    run.advance(A_DAY_LATER)
    told = await asyncio.gather(
        *(run.call(_added(run), run.pool.slots[number % 2]) for number in range(2 * _SUM_CALLS))
    )
    made = sum(heard.code == "made" for heard in told)
    if made != _UNASKED_JOBS:
        run.crashes.append(f"of calls at once {made} were made unasked, not {_UNASKED_JOBS}")


def _refused_repeats(run: "Torture") -> list[Intent]:
    """Return what was refused where nobody could agree to it."""
    refused = [intent for intent in run.every if intent.answers[-1:] == [ASKED] and intent.made]
    return refused[:_MOST_REPEATS]


async def _agree(run: "Torture", intent: Intent) -> None:
    """Make a call again by the quote that it was answered with."""
    if intent.quote_id is None:
        run.crashes.append(f"intent {intent.number} was asked about without a quote")
        return
    told = await run.call(intent, run.pool.slots[1], quote_id=intent.quote_id)
    if told.kind != "made":
        run.crashes.append(f"intent {intent.number} was agreed to and not made: {told.code}: {told.text}")


async def _cancel_waits(run: "Torture") -> None:
    """Cancel calls that wait for a slot, let the slots come free, and see that nothing is sent for them."""
    run.advance(A_DAY_LATER)
    run.sandbox.configure(concurrency=_SLOTS, job_seconds=_SLOW_JOB_SECONDS)
    await _call_each(run, [_added(run) for _ in range(_SLOTS)])
    staying = _added(run)
    stays = asyncio.create_task(run.call(staying, run.pool.slots[0], wait_seconds=_WAIT_SECONDS))
    waiters = [_added(run) for _ in range(_WAITERS)]
    await asyncio.gather(*(_call_off(run, intent, run.pool.slots[n % 2]) for n, intent in enumerate(waiters)))
    for slot in run.pool.slots:
        await (await slot.server()).ping()
    await _creates_are_answered(run)
    waited = {number_in(request.body) for request in run.sandbox.requests if request.status == _TOO_MANY}
    run.called_off |= {intent.number: run.now for intent in waiters if intent.number in waited}
    if not run.called_off:
        run.crashes.append("no call waited for a slot")
    run.sandbox.configure(job_seconds=run.job_seconds)
    run.advance(_SLOW_JOB_SECONDS + 1)
    told, _ = await asyncio.gather(stays, asyncio.sleep(_AFTER_SLOT_SECONDS))
    # For the one that was not cancelled it did come free.
    if told.kind != "made":
        run.crashes.append(f"intent {staying.number} got no slot: {told.code}")
    run.sandbox.configure(concurrency=None)


async def _call_off(run: "Torture", intent: Intent, slot: "Slot") -> None:
    await run.call(intent, slot, give_up_after=_GIVEN_UP_AFTER, wait_seconds=_WAIT_SECONDS)


async def _creates_are_answered(run: "Torture") -> None:
    while True:
        under_way = any(
            request.path == CREATE_PATH and request.status is None and run.now - request.at < _UNDER_WAY
            for request in run.sandbox.requests[-100:]
        )
        if not under_way:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


async def _lose_the_ledger(run: "Torture", older: Path, wanted: Sequence[Intent]) -> None:
    """Take the file or the journal of servers that were killed, and see that nothing begins anew."""
    kept = run.folder / "kept"
    shutil.copytree(run.home, kept)
    for loss in LOSSES:
        _lose(loss, run.home, older)
        async with run.serving(1):
            for intent in wanted:
                told = await run.call(intent, run.pool.slots[0], is_fault_told=False)
                if not _is_a_word(told, intent):
                    run.crashes.append(f"began anew without a word ({loss}): intent {intent.number} {told}")
        shutil.rmtree(run.home)
        shutil.copytree(kept, run.home)


def _lose(loss: Loss, home: Path, older: Path) -> None:
    beside = ("-journal", "-wal", "-shm")
    for suffix in beside if loss == "journal" else ("", *beside):
        with contextlib.suppress(FileNotFoundError):
            (home / f"ledger.sqlite3{suffix}").unlink()
    if loss == "older":
        for path in older.glob("ledger.sqlite3*"):
            shutil.copy(path, home / path.name)


def _is_a_word(told: Heard, intent: Intent) -> bool:
    """Whether an answer is the job of before, or says that the ledger is not what it was."""
    return told.code.startswith("ledger_") or told.generation_id in intent.made[:1]


async def _call_each(run: "Torture", wanted: Sequence[Intent]) -> None:
    for number, intent in enumerate(wanted):
        await run.call(intent, run.pool.slots[number % len(run.pool.slots)])


def _added(run: "Torture", *, has_webhook: bool = False) -> Intent:
    intent = plain_intent(len(run.every) + 1, has_webhook=has_webhook)
    run.every.append(intent)
    return intent
