"""What the user must be asked about, by what is true at the API: a model of its own, not the product's.

Asked must be whoever would pay again for a job that failed and was or may have been charged, or for one that
is seen nowhere more than an hour after its create was last sent; who sends a webhook to a host that is not
allowed; and who would pass, with what was paid unasked within a day, the sum that may be paid so. Nobody else
may be asked.

A job in a status that nobody knows is its own call's for a day: nobody is asked, and nothing is made again.
After that it has ended without a result. Of calls at the same moment of which not all fit into the sum, so
many must be asked as do not fit, whichever they are.

Not modelled: forms and what is answered to them (the client cannot ask), a job that was deleted, and a second
take after the first one was charged. Where the model does not know enough of a call, or what is right hangs
on which of two things came first, the user could be asked or not: for each such `Doubt` that is counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal

from sync_mcp.sandbox import Charge
from tests.torture.record import Called

Doubt = Literal[
    "at the same moment as others",
    "beside another call of the same",
    "of several takes",
    "near a bound of time",
    "not told of the job before",
    "its create came again since",
    "what it cost may not have been read",
]
"""Why a user could be asked or not."""
AT_ONCE: Doubt = "at the same moment as others"
Duty = Literal["ask", "not"] | Doubt

ASKED = "approval_required"
ANSWERED = ("made", "reused", ASKED, "generation_not_visible")
"""Other answers say nothing of consent: something else stood in the way before."""
INVISIBLE_AFTER = timedelta(hours=1)
METERED_WITHIN = timedelta(minutes=10)
STRANGE_FOR = timedelta(days=1)
UNASKED_WITHIN = timedelta(days=1)
_MARGIN = timedelta(seconds=3)
"""So near to a bound both are right."""
_FAILED = ("FAILED", "REJECTED")
_FINE = ("PENDING", "PROCESSING", "COMPLETED")


@dataclass(frozen=True)
class Truth:
    """What is true at the API about what was made, and what was asked of it."""

    calls: Sequence[Called]
    charges: Sequence[Charge]
    number_of: dict[str, int]
    """The number of the intent that a job belongs to."""
    statuses: dict[str, str]
    """The status that a job ended with."""
    gone: frozenset[str]
    """Keys of the creates whose jobs are seen nowhere."""
    looked_at: dict[str, list[datetime]]
    """When each job was asked for by its id."""
    sends: dict[str, list[datetime]]
    """When a create arrived under each key."""
    job_seconds: float
    price_usd: Decimal
    shared: frozenset[int]
    """Numbers that several takes have."""
    fair_from: datetime | None = None
    """From when on every read is answered."""

    @cached_property
    def by_number(self) -> dict[int, list[Charge]]:
        """The charges of each intent, oldest first."""
        found: defaultdict[int, list[Charge]] = defaultdict(list)
        for charge in self.charges:
            found[self.number_of[charge.generation_id]].append(charge)
        return found

    @cached_property
    def calls_by_number(self) -> dict[int, list[Called]]:
        """The calls of each intent."""
        found: defaultdict[int, list[Called]] = defaultdict(list)
        for call in self.calls:
            found[call.number].append(call)
        return found

    def is_agreed(self, charge: Charge) -> bool:
        """Whether the user had agreed before it was charged."""
        calls = self.calls_by_number.get(self.number_of[charge.generation_id], [])
        return any(call.has_quote and call.began <= charge.at for call in calls)

    @cached_property
    def unasked(self) -> list[Charge]:
        """The charges that nobody agreed to."""
        return [charge for charge in self.charges if not self.is_agreed(charge)]

    def is_fair(self, call: Called) -> bool:
        """Whether every read was answered while a call was made."""
        return self.fair_from is not None and call.began >= self.fair_from

    def ended_at(self, charge: Charge) -> datetime:
        """Return when a job ended."""
        return charge.at + timedelta(seconds=self.job_seconds)


@dataclass(frozen=True)
class Asking:
    """How often was asked, held against how often it had to be."""

    asked: int
    must: int
    may: Counter[Doubt]
    """Questions that could be asked or not, by why that is."""
    faults: list[str]


def judge_asking(truth: Truth) -> Asking:
    """Return what is wrong about whom was asked."""
    asked = must = 0
    may: Counter[Doubt] = Counter()
    faults: list[str] = []
    for call in truth.calls:
        if call.code not in ANSWERED:
            continue
        duty = duty_of(call, truth)
        was_asked = call.code == ASKED
        if duty == AT_ONCE and was_asked:
            duty = _duty_of_one_too_many(call, truth)
        asked += was_asked
        must += duty == "ask"
        if was_asked and duty not in ("ask", "not"):
            may[duty] += 1
        if was_asked and duty == "not":
            faults.append(f"asked needlessly: {shown(call)}")
        elif duty == "ask" and not was_asked:
            is_paid = any(call.began <= charge.at <= call.ended for charge in _charges_of(call, truth))
            faults.append(f"{'paid unasked' if is_paid else 'not asked'}: {shown(call)}")
    faults += [*_webhooks_paid_unasked(truth), *_sums_passed(truth)]
    return Asking(asked, must, may, faults)


def duty_of(call: Called, truth: Truth) -> Duty:
    """Return whether the user had to be asked in a call."""
    if call.has_quote:
        return "not"
    charges = _charges_of(call, truth)
    before = [charge for charge in charges if charge.at < call.began]
    if all(_is_fine(charge, truth) for charge in charges if charge.at <= call.ended):
        # It is the job's own call again; or the first one.
        return "not" if before else _duty_of_new(call, truth)
    if call.number in truth.shared:
        return "of several takes"
    if _has_company(call, truth):
        return "beside another call of the same"
    if not before:
        return _duty_of_new(call, truth)
    return _duty_of_repeat(call, before[-1], truth)


def _duty_of_new(call: Called, truth: Truth) -> Duty:
    """Return the duty of a call that makes something new, as far as anybody knows."""
    if call.has_webhook:
        return "ask"
    if call.above_usd is None:
        return "not"
    if call.take > 1:
        return "ask"
    left = call.above_usd - truth.price_usd
    since = call.began - UNASKED_WITHIN
    certain = [charge for charge in truth.unasked if since + _MARGIN < charge.at < call.began]
    if _sum(certain) > left:
        return "ask"
    possible = {
        truth.number_of[charge.generation_id]
        for charge in truth.unasked
        if since - _MARGIN < charge.at <= call.ended
    } | {other.number for other in truth.calls if _overlap(other, call) and not other.has_quote}
    return "not" if len(possible - {call.number}) * truth.price_usd <= left else AT_ONCE


def _duty_of_one_too_many(call: Called, truth: Truth) -> Duty:
    """Return the duty of a call that was asked about while others may have taken what the sum left.

    Had the sum room for it when all of them had ended, none of them was one too many.
    """
    assert call.above_usd is not None
    others = [other for other in truth.calls if other is not call and _overlap(other, call)]
    until = max((other.ended for other in others), default=call.ended)
    since = call.began - UNASKED_WITHIN - _MARGIN
    taken = _sum([charge for charge in truth.unasked if since < charge.at <= until])
    if taken > call.above_usd - truth.price_usd:
        return "ask"
    # What held the money for a while may have let it go.
    return "not" if all(other.code in ANSWERED for other in others) else AT_ONCE


def _duty_of_repeat(call: Called, last: Charge, truth: Truth) -> Duty:
    """Return the duty of a call whose last job failed, is gone, or nobody knows what it is."""
    was_told = any(
        earlier.generation_id == last.generation_id and earlier.ended <= call.began
        for earlier in truth.calls_by_number[call.number]
    )
    if last.idempotency_key in truth.gone:
        age = call.began - last.at
        if age < INVISIBLE_AFTER - _MARGIN:
            return "not"
        # A repeat that was answered with the job may have made it, for all that anybody knows.
        if not was_told:
            return "not told of the job before"
        since = call.began - INVISIBLE_AFTER - _MARGIN
        return "its create came again since" if _was_sent_since(since, call, last, truth) else "ask"
    if not was_told:
        return "not told of the job before"
    status, ended_at = truth.statuses[last.generation_id], truth.ended_at(last)
    if status in _FINE:
        # Those before it had failed; it is the job's own call again.
        return "not"
    if status not in _FAILED:
        if call.ended - last.at < STRANGE_FOR - _MARGIN:
            return "not"
        if call.began - last.at < STRANGE_FOR + _MARGIN:
            return "near a bound of time"
        return "ask" if truth.is_fair(call) else "what it cost may not have been read"
    if ended_at + _MARGIN >= call.began:
        return "near a bound of time"
    if not last.released or call.ended - ended_at < METERED_WITHIN - _MARGIN:
        return "ask"
    return _duty_of_freed(call, last, truth)


def _duty_of_freed(call: Called, last: Charge, truth: Truth) -> Duty:
    """Return the duty of a call whose last job failed ten minutes ago, or nearly, and was not charged."""
    if not _has_been_free(call, last, truth):
        # When it ended the export tells, where that can be read.
        if not truth.is_fair(call):
            return "what it cost may not have been read"
        if call.began - truth.ended_at(last) < METERED_WITHIN + _MARGIN:
            return "near a bound of time"
        if _was_sent_since(last.at + _MARGIN, call, last, truth):
            return "its create came again since"
    return _duty_of_new(call, truth)


def _has_been_free(call: Called, last: Charge, truth: Truth) -> bool:
    """Whether it was asked for when it had ended, and ten minutes have passed since."""
    looks = truth.looked_at.get(last.generation_id, [])
    return any(truth.ended_at(last) < look < call.began - METERED_WITHIN - _MARGIN for look in looks)


def _was_sent_since(since: datetime, call: Called, charge: Charge, truth: Truth) -> bool:
    """Whether a create under the key of a charge arrived since a time, before a call."""
    sends = truth.sends.get(charge.idempotency_key or "", [])
    return any(since <= at < call.began for at in sends)


def _is_fine(charge: Charge, truth: Truth) -> bool:
    return truth.statuses[charge.generation_id] in _FINE and charge.idempotency_key not in truth.gone


def _charges_of(call: Called, truth: Truth) -> list[Charge]:
    return truth.by_number.get(call.number, [])


def _has_company(call: Called, truth: Truth) -> bool:
    """Whether another call on the same intention was under way, or may have gone on when nobody waited."""
    return any(
        other is not call
        and (
            _overlap(other, call)
            or (other.code not in ANSWERED and call.began - timedelta(minutes=1) < other.ended <= call.began)
        )
        for other in truth.calls_by_number[call.number]
    )


def _overlap(one: Called, other: Called) -> bool:
    return one.began < other.ended and other.began < one.ended


def _webhooks_paid_unasked(truth: Truth) -> Iterator[str]:
    with_webhook = {call.number for call in truth.calls if call.has_webhook}
    for charge in truth.unasked:
        number = truth.number_of[charge.generation_id]
        if number in with_webhook:
            yield f"paid unasked: intent {number} with a webhook, job {charge.generation_id[:8]}"


def _sums_passed(truth: Truth) -> Iterator[str]:
    """Yield each charge with which more was paid unasked within a day than may be."""
    for charge in truth.unasked:
        number = truth.number_of[charge.generation_id]
        # What was charged where nobody is asked stands against a bound too, but passes none itself.
        bound = next(
            (
                call.above_usd
                for call in truth.calls_by_number.get(number, [])
                if call.above_usd is not None and call.began <= charge.at <= call.ended
            ),
            None,
        )
        if bound is None:
            continue
        within = [
            other for other in truth.unasked if charge.at - UNASKED_WITHIN + _MARGIN < other.at <= charge.at
        ]
        if _sum(within) > bound:
            yield f"paid unasked: intent {number}: {_sum(within)} USD within a day, bound {bound} USD"


def _sum(charges: Sequence[Charge]) -> Decimal:
    return sum((charge.amount_usd for charge in charges), Decimal(0))


def shown(call: Called) -> str:
    """Return a call in a line."""
    return (
        f"intent {call.number} take {call.take} {call.code} {(call.generation_id or '-')[:8]} "
        f"{call.began:%d %H:%M:%S.%f}"
    )
