"""What the API and the network do to the calls, in four parts: by how the API keeps idempotency keys.

Where the API forgets keys, and its lists and the export never show a job whose answer was lost, nobody could
ever know of it: there, lists neither skip nor hide. They lag for as long as anywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import get_args

from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.faults.script import CREATE_PATH
from sync_mcp.sandbox.settings import ListOddity

CREATES_STRUCK = 0.4
READS_STRUCK = 0.06
REQUESTS_A_CREATE = 2
"""Creates that reach the API for one that is intended, at most: the rest of the faults would never strike."""
READS_A_CREATE = 8
_OUTAGE = 8
_LATE_SECONDS = (0.1, 1.5)
_LAG_SECONDS = 30.0
_COST_SECONDS = 500.0
"""Within the ten minutes in which the cost of a failure is not believed to be 0."""
_STRANGE_COST_SECONDS = 6 * 3600.0
"""Of a job in a status that nobody knows: it must not be taken for free before a day."""
_USAGE_LAG_SECONDS = 30.0
_ODD_SHARE = 0.6
"""How often the lists are odd."""

_READS = (("GET", "/v2/generations"), ("GET", "/v2/generate/*"), ("POST", "/v2/analyze/cost"))
_UPLOADS = (("POST", "/v2/assets/upload"), ("PUT", "*"), ("POST", "/v2/assets"))
UPLOADS_A_CREATE = 0.3


@dataclass(frozen=True)
class Part:
    """A part of the run."""

    name: str
    settings: Mapping[str, object]
    hides: bool = False
    """Whether lists may leave jobs out."""


# First those that hide nothing: what one part leaves open goes on in the next.
PARTS = (
    Part("ignore", {"idempotency": "ignore", "plan": "enterprise"}),
    Part("expire", {"idempotency": "expire", "idempotency_expiry_seconds": 2.0, "plan": "scale"}),
    Part("honour", {"idempotency": "honour", "plan": "enterprise"}, hides=True),
    Part("conflict", {"idempotency": "conflict", "plan": "enterprise"}, hides=True),
)

_Make = Callable[[Random, int], Fault]


def _create(**what: object) -> _Make:
    def make(_: Random, skip: int) -> Fault:
        return Fault.model_validate({"method": "POST", "path": CREATE_PATH, "skip": skip, **what})

    return make


def _late(when: str) -> _Make:
    def make(random: Random, skip: int) -> Fault:
        return _create(delay_seconds=random.uniform(*_LATE_SECONDS), when=when)(random, skip)

    return make


def _lagging(**what: object) -> _Make:
    def make(random: Random, skip: int) -> Fault:
        get_lag, list_lag = random.uniform(0, _LAG_SECONDS), random.uniform(0, _LAG_SECONDS)
        # The one without the other too.
        lags = random.choice(
            (
                {"get_lag_seconds": get_lag},
                {"list_lag_seconds": list_lag},
                {"get_lag_seconds": get_lag, "list_lag_seconds": list_lag},
            )
        )
        return _create(**lags, **what)(random, skip)

    return make


def _told_late(within: float = _COST_SECONDS, **what: object) -> _Make:
    def make(random: Random, skip: int) -> Fault:
        at_first = random.choice(("pending", "zero", "partial"))
        late = {"cost_seconds": random.uniform(0, within), "cost_at_first": at_first}
        return _create(**late, **what)(random, skip)

    return make


def _api_error(code: str, **what: object) -> _Make:
    def make(_: Random, skip: int) -> Fault:
        return Fault.api_error(code, method="POST", path=CREATE_PATH, skip=skip, **what)  # type: ignore[arg-type]

    return make


_ON_CREATES: tuple[_Make, ...] = (
    _create(drop="before"),
    _create(drop="after"),
    _create(drop="after"),
    # Time for another process to make the same call.
    *[_late("before")] * 3,
    _late("after"),
    _create(html=True),
    _create(html=True, when="after"),
    _create(cut_body=True),
    _create(empty=True),
    _create(no_id=True),
    _create(idempotency_outcome_unknown="with_id"),
    _create(idempotency_outcome_unknown="without_id"),
    _create(idempotency_outcome_unknown="without_id", when="before"),
    _api_error("internal_error"),
    _api_error("internal_error", when="after"),
    _api_error("rate_limit_exceeded", headers={"Retry-After": "1"}),
    _api_error("concurrency_limit_reached", headers={"Retry-After": "1"}, retryAfterSeconds=1),
    _create(job="fail"),
    _create(job="reject", drop="after"),
    _told_late(job="fail"),
    *[_told_late(job="fail", charged=True)] * 2,
    _told_late(job="reject", charged=True),
    _told_late(_STRANGE_COST_SECONDS, end_status="TIMED_OUT", charged=True),
    _told_late(_STRANGE_COST_SECONDS, end_status="completed", charged=True),
    *[_lagging()] * 2,
    *[_lagging(drop="after")] * 2,
    _lagging(cut_body=True),
)
_HIDING: tuple[_Make, ...] = (
    _create(job="hide"),
    _create(job="hide", drop="after"),
    _create(job="forget"),
)

_HIDING_ODDITIES: tuple[ListOddity, ...] = ("skip",)
_ODDITIES: tuple[ListOddity, ...] = tuple(
    oddity for oddity in get_args(ListOddity) if oddity not in _HIDING_ODDITIES
)

_ON_READS: tuple[Mapping[str, object], ...] = (
    {"drop": "before"},
    {"drop": "after"},
    {"html": True},
    {"cut_body": True},
    {"empty": True},
    {"status": 503, "body": {"message": "later"}},
    {"status": 429, "body": {"message": "slow down"}, "headers": {"Retry-After": "1"}},
    {"delay_seconds": 1.0},
)


@dataclass
class Weather:
    """What a part has put in force, by the ids of its faults."""

    hiding: set[str] = field(default_factory=set[str])
    """Those whose jobs no list shows."""
    forgetting: set[str] = field(default_factory=set[str])
    """Those whose jobs are seen nowhere."""


def oddities(part: Part, random: Random) -> Sequence[ListOddity]:
    """Return what the lists are like for the next while."""
    if random.random() > _ODD_SHARE:
        return ()
    of = _ODDITIES + (_HIDING_ODDITIES if part.hides else ())
    return random.sample(of, random.randint(1, 2))


def set_weather(sandbox: Sandbox, part: Part, creates: int, random: Random) -> Weather:
    """Put a part's settings and faults in force, enough for so many creates."""
    sandbox.clear_faults()
    sandbox.configure(
        **part.settings,
        cost_seconds=random.uniform(0, _COST_SECONDS),
        cost_at_first=random.choice(("pending", "zero", "partial")),
        usage_lag_seconds=random.uniform(0, _USAGE_LAG_SECONDS),
    )
    makes = _ON_CREATES + (_HIDING if part.hides else ())
    weather = Weather()
    for number in range(creates * REQUESTS_A_CREATE):
        if random.random() < CREATES_STRUCK:
            fault = random.choice(makes)(random, number)
            name = sandbox.add_fault(fault)
            if fault.job in ("hide", "forget"):
                weather.hiding.add(name)
            if fault.job == "forget":
                weather.forgetting.add(name)
    reads, uploads = creates * READS_A_CREATE // len(_READS), int(creates * UPLOADS_A_CREATE)
    for method, path, count in (
        *((method, path, reads) for method, path in _READS),
        *((method, path, uploads) for method, path in _UPLOADS),
    ):
        for number in range(count):
            if random.random() < READS_STRUCK:
                what = random.choice(_ON_READS)
                sandbox.add_fault(
                    Fault.model_validate({"method": method, "path": path, "skip": number, **what})
                )
    for _ in range(max(1, creates // 100)):
        start = random.randrange(creates * READS_A_CREATE)
        sandbox.add_fault(Fault(status=503, body={"message": "outage"}, skip=start, times=_OUTAGE))
    return weather
