"""The count: what the API charged, held against what the ledger knows and what the assistant was told."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Charge
from tests.torture.asked import Asking, Truth, judge_asking
from tests.torture.days import over_days
from tests.torture.intents import number_of
from tests.torture.points import POINTS
from tests.torture.run import Outcome

_UNRESOLVED = ("sending", "unknown")
_HIDDEN = "hidden from lists"
_KNOWN = ("accepted", "ended", "deleted")


@dataclass
class Verdict:
    """The figures of a run."""

    intended: int
    created: int
    charged: int
    charged_usd: Decimal
    refused: int
    """Intents that the budget does not pay for."""
    called_off: int
    """Intents that came to nothing because their calls were cancelled while they waited for a slot."""
    open: int
    """Intents that are neither made nor refused nor called off after all repeats."""
    lost: int
    doubled: int
    over_budget_usd: Decimal
    over_days: list[str]
    """One line for each day on which more was charged than its budget."""
    asking: Asking
    unresolved: Counter[str]
    """Attempts, by what the API has of them."""
    in_doubt: list[str]
    """One line for each attempt that is unresolved though its job, if there is one, could be found."""
    acts: dict[str, Counter[str]]
    """What came of each kind of other acts, by where it is sent."""
    deleted: int
    kills: Counter[str]
    kills_wanted: int
    calls: Counter[str]
    seconds: float
    findings: list[str] = field(default_factory=list[str])
    """One line for each job that was lost, doubled, or paid after its call was cancelled."""
    crashes: list[str] = field(default_factory=list[str])
    """What went wrong that nobody had planned."""

    @property
    def holds(self) -> bool:
        return not (self.over_budget_usd or self.faults)

    @property
    def faults(self) -> list[str]:
        """One line for each thing that is not as it must be."""
        missing = [
            f"killed {self.kills[point]} times instead of {self.kills_wanted}: {point}"
            for point in POINTS
            if self.kills[point] < self.kills_wanted
        ]
        return [*self.findings, *self.over_days, *self.asking.faults, *self.crashes, *missing]

    def table(self) -> str:
        """Return the one table."""
        rows: list[tuple[str, object]] = [
            ("intended", self.intended),
            ("created", self.created),
            ("charged", f"{self.charged} ({self.charged_usd} USD)"),
            ("refused by the budget", self.refused),
            ("called off", self.called_off),
            ("open after all repeats", self.open),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("over budget", f"{self.over_budget_usd} USD, on {len(self.over_days)} days"),
            (
                "asked",
                f"{self.asking.asked} of {self.asking.must} that had to be and "
                f"{_shown(self.asking.may)} that could be",
            ),
            ("unresolved", _shown(self.unresolved)),
            *((path, _shown(counts)) for path, counts in self.acts.items()),
            ("deleted", self.deleted),
            *((f"killed {point}", self.kills[point]) for point in POINTS),
            ("calls", _shown(self.calls)),
            ("seconds", f"{self.seconds:.0f}"),
        ]
        return "\n".join(f"{name:<24} {value}" for name, value in rows)


def judge(outcome: Outcome) -> Verdict:
    """Return what the run proves."""
    lost = [*_lost_charges(outcome), *_told_wrongly(outcome)]
    doubled = list(_doubled(outcome))
    live = [charge for charge in outcome.charges if not charge.released]
    until = outcome.parts_end
    in_budget = [charge for charge in outcome.charges if until is None or charge.at <= until]
    return Verdict(
        intended=len(outcome.intents),
        created=len(outcome.charges),
        charged=len(live),
        charged_usd=sum((charge.amount_usd for charge in live), Decimal(0)),
        refused=sum(intent.refused and not intent.made for intent in outcome.intents),
        called_off=sum(
            not intent.is_settled and intent.number in outcome.called_off for intent in outcome.intents
        ),
        open=sum(
            not intent.is_settled and intent.number not in outcome.called_off for intent in outcome.intents
        ),
        lost=len(lost),
        doubled=len(doubled),
        over_budget_usd=max(outcome.most_over_usd, Decimal(0)),
        over_days=list(over_days(in_budget, outcome.creates, outcome.day_budgets)),
        asking=judge_asking(_truth(outcome)),
        unresolved=Counter(_fate(outcome, entry) for entry in outcome.entries if entry.state in _UNRESOLVED),
        in_doubt=list(_in_doubt(outcome)),
        acts=outcome.acts,
        deleted=sum(entry.state == "deleted" for entry in outcome.entries),
        kills=outcome.kills,
        kills_wanted=outcome.kills_wanted,
        calls=outcome.answers,
        seconds=outcome.seconds,
        findings=[*lost, *doubled, *_paid_when_called_off(outcome)],
        crashes=outcome.crashes,
    )


def _truth(outcome: Outcome) -> Truth:
    takes = Counter(intent.number for intent in outcome.intents)
    return Truth(
        calls=outcome.calls,
        charges=outcome.charges,
        number_of={name: number_of(job) for name, job in outcome.jobs.items()},
        statuses={name: str(job.get("status", "COMPLETED")) for name, job in outcome.jobs.items()},
        gone=frozenset(outcome.gone),
        looked_at=outcome.looked_at,
        sends=_sends(outcome),
        job_seconds=outcome.job_seconds,
        price_usd=outcome.price_usd,
        shared=frozenset(number for number, count in takes.items() if count > 1),
        fair_from=outcome.parts_end,
    )


def _sends(outcome: Outcome) -> dict[str, list[datetime]]:
    sends: defaultdict[str, list[datetime]] = defaultdict(list)
    for request in outcome.creates:
        sends[request.headers.get("idempotency-key", "")].append(request.at)
    return sends


def _paid_when_called_off(outcome: Outcome) -> Iterator[str]:
    """Yield each job of a call that was cancelled while it waited for a slot."""
    for charge in outcome.charges:
        number = number_of(outcome.jobs[charge.generation_id])
        if number in outcome.called_off:
            yield f"paid after it was cancelled: {_charge(outcome, charge)}"


def _in_doubt(outcome: Outcome) -> Iterator[str]:
    for entry in outcome.entries:
        if entry.state in _UNRESOLVED and _fate(outcome, entry) != _HIDDEN:
            jobs = [charge for charge in outcome.charges if charge.idempotency_key == entry.idempotency_key]
            owners = [
                owner
                for owner in outcome.entries
                if owner.generation_id in {job.generation_id for job in jobs}
            ]
            shown = [*(_charge(outcome, job) for job in jobs), *map(_entry, owners)]
            yield f"in doubt: {_entry(entry)}: {', '.join(shown) or 'no job'}"


def _fate(outcome: Outcome, entry: Entry) -> str:
    key = entry.idempotency_key
    if not any(charge.idempotency_key == key for charge in outcome.charges):
        return "never made"
    return _HIDDEN if key in outcome.hidden else "in the list"


def _lost_charges(outcome: Outcome) -> Iterator[str]:
    """Yield the jobs that the API charged and the ledger neither knows nor is in doubt about."""
    by_key = {entry.idempotency_key: entry for entry in outcome.entries}
    by_job = {entry.generation_id: entry for entry in outcome.entries if entry.state in _KNOWN}
    for charge in outcome.charges:
        entry = by_key.get(charge.idempotency_key or "")
        owner = by_job.get(charge.generation_id)
        stands_for_it = by_key.get(_attempt_of(outcome, charge) or "")
        in_doubt = stands_for_it is not None and stands_for_it.state in _UNRESOLVED
        # A job may have gone to another take of the same: both are the same video at the same price.
        is_known = entry is not None and owner is not None and owner.body_digest == entry.body_digest
        if not (is_known or in_doubt):
            yield f"lost: {_charge(outcome, charge)}; ledger: {_entry(entry)}"


def _told_wrongly(outcome: Outcome) -> Iterator[str]:
    """Yield the answers that named a job that is not there, or not this intent's."""
    for intent in outcome.intents:
        for name in dict.fromkeys(intent.made):
            job = outcome.jobs.get(name)
            if job is None or number_of(job) != intent.number:
                what = "no job" if job is None else f"of intent {number_of(job)}"
                yield f"lost: intent {intent.number} take {intent.take} was told {name}, which is {what}"


def _doubled(outcome: Outcome) -> Iterator[str]:
    """Yield each charge beyond the one of its attempt, and beyond those that its takes account for.

    Each repeat that the user agreed to accounts for one more.
    """
    takes = Counter(intent.number for intent in outcome.intents)
    by_number: defaultdict[int, list[Charge]] = defaultdict(list)
    for charge in outcome.charges:
        by_number[number_of(outcome.jobs[charge.generation_id])].append(charge)
    for number, charges in by_number.items():
        keys = {charge.idempotency_key for charge in charges}
        attempts = Counter(_attempt_of(outcome, charge) for charge in charges)
        twice = sum(count - 1 for count in attempts.values())
        live = sum(not charge.released for charge in charges)
        entries = [entry for entry in outcome.entries if entry.idempotency_key in keys]
        shown = "; ".join(_charge(outcome, charge) for charge in charges)
        agreed = sum(
            call.number == number and call.has_quote and call.began > charges[0].at for call in outcome.calls
        )
        for _ in range(max(twice, live - takes[number]) - agreed):
            yield f"doubled: {shown}; ledger: {', '.join(map(_entry, entries))}"


def _attempt_of(outcome: Outcome, charge: Charge) -> str | None:
    """Return the key of the attempt whose job it is.

    Of two takes in doubt one may have found the other's job and taken it. The other's is then made anew,
    under its own key, which an API that keeps no keys sees twice; or it is the job that the first one made
    and nobody has found yet. Each take has one job in the end.
    """
    by_key = {entry.idempotency_key: entry for entry in outcome.entries}
    made = by_key.get(charge.idempotency_key or "")
    for owner in outcome.entries:
        if owner.generation_id == charge.generation_id and _has_found(owner) and _are_takes(owner, made):
            return owner.idempotency_key
    if made is not None and _has_found(made) and made.generation_id != charge.generation_id:
        found = next((other for other in outcome.charges if other.generation_id == made.generation_id), None)
        robbed = by_key.get(found.idempotency_key or "") if found else None
        if robbed is not None and _are_takes(made, robbed):
            return robbed.idempotency_key
    return charge.idempotency_key


def _has_found(entry: Entry) -> bool:
    return bool(entry.was_found) and entry.state in _KNOWN


def _are_takes(one: Entry, other: Entry | None) -> bool:
    return other is not None and one.body_digest == other.body_digest and one.take != other.take


def _charge(outcome: Outcome, charge: Charge) -> str:
    number = number_of(outcome.jobs[charge.generation_id])
    released = ", released" if charge.released else ""
    return (
        f"intent {number} job {charge.generation_id[:8]} key ..{str(charge.idempotency_key)[-8:]} at "
        f"{charge.at:%H:%M:%S.%f}{released}"
    )


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    return (
        f"entry {entry.id} take {entry.take} attempt {entry.attempt} {entry.state} "
        f"{(entry.generation_id or '-')[:8]} key ..{entry.idempotency_key[-8:]}"
    )


def _shown(counts: Counter[Any]) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return f"{counts.total()} ({parts})" if parts else "0"
