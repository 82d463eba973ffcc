"""Deletions of jobs that have ended, by two servers at once that die of it: what they cost stays spent."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from sync_mcp.payments.book.endings import LEFT_OPEN_AFTER_SECONDS
from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Fault
from sync_mcp.sandbox.faults.script import CREATE_PATH
from tests.torture.asked import ASKED
from tests.torture.client import Frame, ServerDied
from tests.torture.intents import Intent, arguments_of, heard, plain_intent
from tests.torture.points import DELETED_PATH, Point
from tests.torture.pool import Arm

if TYPE_CHECKING:
    from tests.torture.pool import Slot
    from tests.torture.run import Torture

# The points that there are on the way of a deletion: it is no intention of the ledger's.
_POINTS: tuple[Point, ...] = ("api-received", "api-accepted", "api-answered", "before-recorded")
_CREATES_FOR_DEATHS = 100
_GROUP = 3
"""So many jobs are deleted by one call, in the middle of which a server dies."""
_GROUPS = 6
_CREATES_FOR_MORE = 100
"""For so many creates of the run there is one group more."""
_TRIES = 8
_PAUSE_SECONDS = 0.2
_LOOKS, _LOOK_PAUSE_SECONDS = 60, 1.0
"""A look has a request a second."""
_COST_SECONDS = 300.0
_KNOWN_SECONDS = 900.0
"""By then every cost is told, and that of a failure believed."""
_FAILURES: tuple[Mapping[str, object], ...] = ({"job": "fail"}, {"job": "fail", "charged": True})
_FAULTS: tuple[Mapping[str, object], ...] = (
    {"drop": "before"},
    {"drop": "after"},
    {"html": True, "when": "after"},
    {"status": 500, "body": {"message": "later"}},
    {"delay_seconds": 0.3},
)
_REPEATS = 3


@dataclass
class Group:
    """Jobs that are to be deleted by one call."""

    intents: list[Intent]
    codes: list[str] = field(default_factory=list[str])

    @property
    def ids(self) -> list[str]:
        return [intent.made[-1] for intent in self.intents]


async def try_deletions(run: "Torture") -> None:
    """Have jobs made, end and deleted, and count what is left of their costs."""
    run.clear_weather()
    run.sandbox.configure(concurrency=None, cost_seconds=_COST_SECONDS)
    dies = run.creates >= _CREATES_FOR_DEATHS
    async with run.serving(2, toolsets="core,library"):
        known = await _make_groups(run, _GROUPS + run.creates // _CREATES_FOR_MORE)
        run.advance(_KNOWN_SECONDS)
        late = await _make_groups(run, _GROUPS)
        run.advance(60)
    groups = [*known, *late]
    ids = [id for group in groups for id in group.ids]
    jobs = run.jobs()
    run.deleted |= {id: jobs[id] for id in ids}
    if dies:
        run.pool.arms.extend(Arm(point, run.random.randint(1, _GROUP)) for point in _POINTS)
    async with run.serving(2, toolsets="core,library"), run.killing_the_doomed():
        if dies:
            # Of both kinds.
            await _die_at_each_point(run, [one for pair in zip(known, late, strict=False) for one in pair])
        _set_faults(run, len(ids))
        await _pursue(run, groups)
        run.sandbox.clear_faults()
        await _pursue(run, groups)
        costs = {charge.generation_id: charge.amount_usd for charge in run.sandbox.charges}
        run.crashes += judge_deletions(groups, set(run.jobs()))
        # What the API could tell of a cost was read before its job was gone.
        known_ids = [id for group in known for id in group.ids]
        run.crashes += judge_costs(known_ids, costs, run.entries())
    # What it cost is looked for in the export once a day has passed, by who has not asked in vain.
    run.advance(LEFT_OPEN_AFTER_SECONDS + _KNOWN_SECONDS)
    async with run.serving(2, toolsets="core,library"):
        await _settle(run, ids, costs)
        run.crashes += judge_costs(ids, costs, run.entries())
        await _call_again(run, groups[0].intents[:_REPEATS])
    run.crashes += [f"deletions: no server died at {arm.point}" for arm in run.pool.arms]
    run.pool.arms.clear()
    run.sandbox.configure(cost_seconds=0.0)


async def _make_groups(run: "Torture", count: int) -> list[Group]:
    """Have jobs made, of which some fail, free or charged."""
    numbers = range(len(run.every) + 1, len(run.every) + 1 + count * _GROUP)
    wanted = [plain_intent(number) for number in numbers]
    run.every += wanted
    run.sandbox.clear_faults()
    for place, what in enumerate(_FAILURES):
        for skip in range(place, len(wanted), 2 * _GROUP):
            fault = {"method": "POST", "path": CREATE_PATH, "skip": skip, **what}
            run.sandbox.add_fault(Fault.model_validate(fault))
    for number, intent in enumerate(wanted):
        await run.call(intent, run.pool.slots[number % 2])
    run.sandbox.clear_faults()
    return [Group(wanted[first : first + _GROUP]) for first in range(0, len(wanted), _GROUP)]


async def _die_at_each_point(run: "Torture", groups: Sequence[Group]) -> None:
    """Make a call on each server, which it dies of; the next servers die at the next points."""
    for first in range(0, len(_POINTS), len(run.pool.slots)):
        pairs = zip(groups[first:], run.pool.slots, strict=False)
        await asyncio.gather(*(_call(run, group, slot) for group, slot in pairs))


def _set_faults(run: "Torture", count: int) -> None:
    """Strike about every second deletion."""
    for number in range(count):
        what = run.random.choice(_FAULTS)
        fault = {"method": "DELETE", "path": f"{DELETED_PATH}*", "skip": number, **what}
        run.sandbox.add_fault(Fault.model_validate(fault))


async def _pursue(run: "Torture", groups: Sequence[Group]) -> None:
    """Make each call on both servers at once, and again for what is there still."""
    for _ in range(_TRIES):
        there = run.jobs()
        left = [group for group in groups if any(id in there for id in group.ids)]
        await asyncio.gather(*(_call(run, group, slot) for group in left for slot in run.pool.slots))
        if not left:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


async def _call(run: "Torture", group: Group, slot: "Slot") -> None:
    """Delete what is there of a group."""
    server = await slot.server()
    there = run.jobs()
    ids = [id for id in group.ids if id in there]
    if not ids:
        return
    try:
        result = await server.call("delete_generations", {"generation_ids": ids})
    except ServerDied:
        group.codes.append("server died")
        return
    group.codes.append("deleted" if "structuredContent" in result else heard(result).code)


async def _settle(run: "Torture", ids: Sequence[str], costs: Mapping[str, Decimal]) -> None:
    """Ask for the sums until all is known: of many that are left open each look reads of some."""
    for _ in range(_LOOKS):
        for slot in run.pool.slots:
            await (await slot.server()).call("get_account", {})
        if not any(judge_costs(ids, costs, run.entries())):
            return
        await asyncio.sleep(_LOOK_PAUSE_SECONDS)


async def _call_again(run: "Torture", intents: Sequence[Intent]) -> None:
    """Make the calls of jobs that were deleted again: the user has to agree, and nobody is asked.

    So is a call whose deletion a server died of before it could note it: more than an hour after it was sent,
    a job that nobody sees is no longer one that may appear.
    """
    samples = run.sandbox.samples
    count = len(run.sandbox.charges)
    for intent in intents:
        given: Frame = arguments_of(intent, samples.video, samples.audio, run.folder, run.random)
        told = heard(await (await run.pool.slots[0].server()).call("create_generation", given))
        if told.code != ASKED:
            run.crashes.append(f"intent {intent.number}, whose job was deleted, was told {told.code}")
    if len(run.sandbox.charges) != count:
        run.crashes.append("doubled: what was deleted was paid again unasked")


def judge_deletions(groups: Sequence[Group], there: set[str]) -> Iterator[str]:
    """Yield what was not deleted after all repeats."""
    for group in groups:
        if left := [id for id in group.ids if id in there]:
            yield f"not deleted: {', '.join(left)} ({', '.join(group.codes)})"


def judge_costs(ids: Sequence[str], costs: Mapping[str, Decimal], entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the jobs whose cost does not stand in the ledger as the API charges it."""
    by_job = {entry.generation_id: entry for entry in entries}
    for id in ids:
        entry = by_job.get(id)
        if entry is None:
            yield f"lost: {id} was deleted, and the ledger does not know it"
        elif entry.cost_usd != costs[id] or entry.counted_usd != costs[id]:
            yield (
                f"lost: {id} was deleted and cost {costs[id]} USD; entry {entry.id} {entry.state} has "
                f"{entry.cost_usd} and counts {entry.counted_usd} USD"
            )
