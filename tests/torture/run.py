"""The run: servers that die and are started anew, an assistant that goes on as one would, and the count."""

import asyncio
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from sync_mcp import AsyncSync, Audio, Video
from sync_mcp.api.create import LISTED_WITHIN_SECONDS
from sync_mcp.payments.acts.act import FIRST_KIND
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Charge, RecordedRequest, Sandbox
from sync_mcp.sandbox.clock import Clock
from sync_mcp.sandbox.faults.script import CREATE_PATH
from sync_mcp.sandbox.media.samples import sample
from tests.torture.client import CallGivenUp, Frame, ServerDied, ServerProcess
from tests.torture.intents import Heard, Intent, arguments_of, heard, intents, number_in
from tests.torture.points import DELETED_PATH, DOOMED_HEADER, PID_HEADER, POINTS, Point
from tests.torture.pool import Arm, Pool, Slot
from tests.torture.record import Called, Records
from tests.torture.trials import try_all
from tests.torture.weather import PARTS, Part, Weather, oddities, set_weather

MOST_SERVERS = 6
_CREATES_A_SERVER = 100
"""A server is worth its start, which takes a second and more, only where it has so many creates to make."""
AT_ONCE = 24
TRIES = 16
UNKNOWNS = 2
"""After so many answers that the outcome is unknown, an assistant leaves it for later."""
SHARE_OF_BUDGET = 0.85
"""How many of a part's intents the budget pays for."""
SHARE_OF_DAY = 0.45
"""How many of them the budget of a day pays for: a part lies on two days, about half of it on each."""
JOB_SECONDS = 2.0
_BEFORE_MIDNIGHT = timedelta(minutes=10)
_SHORTLY_BEFORE = timedelta(seconds=3)
"""Midnight itself is come to as it always is, in the middle of what is under way."""
_LOOK_SECONDS = 0.02
_SAMPLE_SECONDS = 0.5
_ODD_FOR_SECONDS = 1.5
_ACCEPTED_WITHIN_SECONDS = 5.0
_LATE_SECONDS = 3.0
_ROUNDS_MORE = 3
_CREATES_FOR_A_DEATH = 4
_EARLY = 0.6
"""A server dies so early that all deaths come to pass: its number is drawn up to this share of the creates
that there are for each death."""


@dataclass
class Outcome:
    """What there is to judge by when all is over."""

    intents: list[Intent]
    charges: list[Charge]
    jobs: dict[str, Frame]
    creates: list[RecordedRequest]
    hidden: set[str]
    """Keys of the creates whose jobs no list shows."""
    entries: list[Entry]
    kills: Counter[str]
    kills_wanted: int
    most_over_usd: Decimal
    answers: Counter[str]
    seconds: float
    crashes: list[str] = field(default_factory=list[str])
    calls: list[Called] = field(default_factory=list[Called])
    gone: set[str] = field(default_factory=set[str])
    """Keys of the creates whose jobs are seen nowhere."""
    looked_at: dict[str, list[datetime]] = field(default_factory=dict[str, list[datetime]])
    """When each job was asked for by its id."""
    day_budgets: dict[date, Decimal] = field(default_factory=dict[date, Decimal])
    parts_end: datetime | None = None
    """From then on the weather is fair, and what is charged is of no day's budget."""
    called_off: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """Intents whose calls were cancelled while they waited for a slot, with when the next slot came free."""
    acts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    """What came of each kind of other acts, by where it is sent."""
    price_usd: Decimal = Decimal(0)
    job_seconds: float = JOB_SECONDS


@dataclass(frozen=True)
class _Accepting:
    """A server that is to die once the API has done what it sent."""

    server: ServerProcess
    is_accepted: Callable[[], bool]
    give_up_at: float = field(default_factory=lambda: time.monotonic() + _ACCEPTED_WITHIN_SECONDS)


class Torture:
    """Makes so many creates, in four parts, and kills so many servers at each point; then come the trials."""

    def __init__(
        self,
        creates: int,
        seed: int,
        folder: Path,
        records: Records,
        *,
        say: Callable[[str], object] = str,
    ) -> None:
        self.creates = creates
        self.servers = min(MOST_SERVERS, max(2, creates // _CREATES_A_SERVER))
        self.random = Random(seed)
        self.folder = folder
        self.kills_wanted = max(1, creates // 100)
        self.say = say
        self.records = records
        self.crashes: list[str] = []
        self.pool = Pool(folder, self.crashes)
        self.answers: Counter[str] = Counter()
        self.calls: list[Called] = []
        self.every: list[Intent] = []
        self.called_off: dict[int, datetime] = {}
        self.deleted: dict[str, Frame] = {}
        """The jobs that were deleted, as they were."""
        self.acts: dict[str, Counter[str]] = {}
        """What came of each kind of other acts, by where it is sent."""
        self.price_usd = Decimal(0)
        self.home = folder / "home"
        self.job_seconds = JOB_SECONDS
        self._above_usd: Decimal | None = None
        self._budget_usd: Decimal | None = None
        self._day_budgets: dict[date, Decimal] = {}
        self._over_usd = Decimal(0)
        self._hidden: set[str] = set()
        self._gone: set[str] = set()
        self._faults: set[str] = set()
        self._pursued = 0
        # The sandbox's, read without asking it.
        self._clock = Clock()
        self._recordings = folder / "recordings"

    async def run(self) -> Outcome:
        """Do it all and return what came of it."""
        began = time.monotonic()
        self._recordings.mkdir(parents=True)
        deaths: list[Point] = [point for point in POINTS for _ in range(self.kills_wanted)]
        self.random.shuffle(deaths)
        with Sandbox(job_seconds=JOB_SECONDS, plan="enterprise") as sandbox:
            self.sandbox = sandbox
            self._clock = Clock()
            self.price_usd = await self._price()
            for index, part in enumerate(PARTS):
                count = self.creates * (index + 1) // len(PARTS) - len(self.every)
                self._arm(deaths[index :: len(PARTS)], count)
                await self._part(part, count, is_last=index + 1 == len(PARTS))
            for _ in range(_ROUNDS_MORE):
                if arms := self.pool.arms:
                    # Some deaths have not come to pass: more creates, each of them one that can kill.
                    self.pool.arms = deque(Arm(arm.point, 1) for arm in arms)
                    await self._part(PARTS[-1], len(arms) * _CREATES_FOR_A_DEATH, is_last=True)
            self._budget_usd = None
            parts_end = self.now
            await try_all(self)
            # What was made to fail is charged until it does.
            self.advance(3600)
            requests = sandbox.requests
            # Other acts than videos are judged by their own trial.
            jobs = {**self.deleted, **self.jobs()}
            return Outcome(
                intents=self.every,
                charges=[charge for charge in sandbox.charges if charge.generation_id in jobs],
                jobs=jobs,
                creates=[request for request in requests if request.path == CREATE_PATH],
                hidden=self._hidden,
                entries=[entry for entry in self.entries() if entry.kind == FIRST_KIND],
                kills=self.pool.kills,
                kills_wanted=self.kills_wanted,
                most_over_usd=self._over_usd,
                answers=self.answers,
                seconds=time.monotonic() - began,
                crashes=self.crashes,
                calls=self.calls,
                gone=self._gone,
                looked_at=_looked_at(requests),
                day_budgets=self._day_budgets,
                parts_end=parts_end,
                called_off=self.called_off,
                acts=self.acts,
                price_usd=self.price_usd,
            )

    @property
    def now(self) -> datetime:
        """The time by the sandbox's clock."""
        return self._clock.now()

    def jobs(self) -> dict[str, Frame]:
        """Return the jobs of all intents that the API has now, by their ids."""
        every = {id: dict(job) for id, job in self.sandbox.generations.items()}
        return {id: job for id, job in every.items() if number_in(job) is not None}

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock."""
        self.sandbox.advance(seconds)
        self._clock.advance(seconds)

    def fresh(self, count: int) -> list[Intent]:
        """Return intents of the ordinary kind that nobody has had yet."""
        made = intents(count, len(self.every) + 1, self.random)
        self.every += made
        return made

    @asynccontextmanager
    async def serving(
        self, count: int, *, above_usd: Decimal | None = None, **settings: Decimal | str
    ) -> AsyncGenerator[None]:
        """Keep so many servers running that ask above a sum, or never, with these budgets and settings."""
        self._above_usd = above_usd
        env = {
            "SYNC_API_KEY": "torture",
            "SYNC_BASE_URL": self.sandbox.url,
            "SYNC_MCP_HOME": str(self.home),
            "SYNC_MCP_APPROVE_ABOVE_USD": "never" if above_usd is None else str(above_usd),
            "SYNC_MCP_MEDIA_ROOTS": str(self._recordings),
            # The clock of the sandbox is moved on by days.
            "SYNC_MCP_RESEND_HOURS": "168",
            **{f"SYNC_MCP_{name.upper()}": str(value) for name, value in settings.items()},
        }
        async with self.pool.running(count, env):
            yield

    async def call(
        self,
        intent: Intent,
        slot: Slot,
        *,
        give_up_after: float | None = None,
        is_fault_told: bool = True,
        **more: object,
    ) -> Heard:
        """Make a create's call once, write down what comes of it, and return that."""
        samples = self.sandbox.samples
        local_audio = self._local_audio(intent)
        arguments = arguments_of(intent, samples.video, samples.audio, local_audio, self.random) | more
        server = await slot.server()
        began = self.now
        try:
            result = await server.call("create_generation", arguments, give_up_after=give_up_after)
        except ServerDied:
            told = Heard("again", "server died")
        except CallGivenUp:
            told = Heard("again", "given up")
        except TimeoutError:
            # No call may take longer than the client waits.
            self.crashes.append(f"intent {intent.number}: no answer")
            told = Heard("again", "no answer")
        else:
            told = heard(result)
        called = Called(
            intent.number,
            intent.take,
            began,
            self.now,
            told.code,
            told.generation_id,
            self._above_usd,
            has_quote="quote_id" in more,
            has_webhook=intent.has_webhook,
        )
        self._note(intent, called, told)
        self.records.write_call(called, slot.number, told.text)
        if is_fault_told and told.is_fault and told.code not in self._faults:
            # One of a kind says enough.
            self._faults.add(told.code)
            self.crashes.append(f"intent {intent.number}: {told.code}: {told.text}")
        return told

    async def pursue_the_rest(self) -> None:
        """Go on with what is open; where nothing stands in its way it comes to an end."""
        await self._pursue_all(_open(self.every), waits=True)

    def is_gone(self, generation_id: str) -> bool:
        """Whether a job is seen nowhere."""
        return any(
            charge.generation_id == generation_id and charge.idempotency_key in self._gone
            for charge in self.sandbox.charges
        )

    def entries(self) -> list[Entry]:
        """Return what stands in the ledger, read from a copy: to look at it must change nothing."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            copy = Path(folder) / "home"
            if not self.home.exists():
                return []
            shutil.copytree(self.home, copy)
            ledger = Ledger(copy)
            try:
                self.crashes += [
                    f"the sum of {wrong.day} was {wrong.kept_usd} USD, and its entries count "
                    f"{wrong.entries_usd} USD"
                    for wrong in ledger.find_wrong_days()
                ]
                return ledger.entries(limit=1_000_000)
            finally:
                ledger.close()

    def _note(self, intent: Intent, called: Called, told: Heard) -> None:
        self.calls.append(called)
        self.answers[told.code] += 1
        intent.answers.append(told.code)
        if told.kind == "made" and told.generation_id is not None:
            intent.made.append(told.generation_id)
        intent.refused = intent.refused or told.kind == "refused"
        intent.quote_id = told.quote_id or intent.quote_id

    async def _price(self) -> Decimal:
        samples = self.sandbox.samples
        async with AsyncSync(api_key="torture", base_url=self.sandbox.url) as sync:
            cost = await sync.generations.estimate_cost(
                model="lipsync-2", input=[Video(url=samples.video), Audio(url=samples.audio)]
            )
        assert cost.estimated_generation_cost
        return cost.estimated_generation_cost

    def _arm(self, deaths: Sequence[Point], count: int) -> None:
        """Choose with which of their creates the servers of a part die."""
        latest = max(1, int(_EARLY * count / max(self.servers, len(deaths))))
        self.pool.arms += [Arm(point, self.random.randint(1, latest)) for point in deaths]

    async def _part(self, part: Part, count: int, *, is_last: bool) -> None:
        """Make what is wanted in this part, and go on with what earlier ones left."""
        began = time.monotonic()
        before = _open(self.every)
        wanted = self.fresh(count)
        first_request = len(self.sandbox.requests)
        weather = set_weather(self.sandbox, part, count, self.random)
        self._go_to_the_evening()
        budgets = self._set_budgets(count)
        self.records.write(
            "part",
            name=part.name,
            creates=count,
            settings=self.sandbox.settings.model_dump(mode="json"),
            day=self.now.date(),
            **budgets,
        )
        self._pursued = 0
        half = (len(before) + count) // 2
        async with self.serving(self.servers, **budgets), self._watches(part, half):
            await self._pursue_all([*before, *wanted], waits=is_last)
            if is_last:
                # Once more in fair weather, and when the lists have had their time.
                self.clear_weather()
                self.advance(LISTED_WITHIN_SECONDS)
                await self._pursue_all(_open(self.every), waits=True, unknowns=1)
        self._look_at_the_money()
        self._note_what_is_hidden(weather, self.sandbox.requests[first_request:])
        self.say(
            f"  {part.name:<9} {count} intended, {len(_open(self.every))} open, "
            f"{self.pool.kills.total()} kills so far, {time.monotonic() - began:.0f} s"
        )

    def _set_budgets(self, count: int) -> dict[str, Decimal]:
        """Set the budgets of a part of so many creates, which lies on today and tomorrow."""
        self._budget_usd = self.counted_usd() + self._price_of(SHARE_OF_BUDGET * count)
        per_day = self._price_of(SHARE_OF_DAY * count)
        today = self.now.date()
        self._day_budgets |= dict.fromkeys((today, today + timedelta(days=1)), per_day)
        return {"budget_usd": self._budget_usd, "budget_usd_per_day": per_day}

    def _note_what_is_hidden(self, weather: Weather, requests: Sequence[RecordedRequest]) -> None:
        for request in requests:
            key = request.headers.get("idempotency-key", "")
            if request.fault in weather.hiding:
                self._hidden.add(key)
            if request.fault in weather.forgetting:
                self._gone.add(key)

    def clear_weather(self) -> None:
        """Let everything go well from now on."""
        self.sandbox.clear_faults()
        self.sandbox.configure(list_oddities=(), cost_seconds=0.0, usage_lag_seconds=0.0)

    def _price_of(self, jobs: float) -> Decimal:
        return self.price_usd * max(1, int(jobs))

    def _go_to_the_evening(self) -> None:
        """Go on to an evening: of today where nothing was made yet, else of the day after tomorrow."""
        days = 1 if not self._day_budgets else 2
        midnight = _midnight(self.now) + timedelta(days=days)
        seconds = (midnight - _BEFORE_MIDNIGHT - self.now).total_seconds()
        self.advance(max(0.0, seconds))

    @asynccontextmanager
    async def _watches(self, part: Part, half: int) -> AsyncGenerator[None]:
        works = (
            self._kill_doomed(),
            self._watch_money(),
            self._turn_the_lists(part),
            self._let_day_end(half),
        )
        async with self._watching(works):
            yield

    @asynccontextmanager
    async def killing_the_doomed(self) -> AsyncGenerator[None]:
        """Kill the senders of what hangs at the API."""
        async with self._watching([self._kill_doomed()]):
            yield

    @asynccontextmanager
    async def _watching(self, works: Sequence[Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
        watches = [asyncio.create_task(_endless(work)) for work in works]
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
            ends = await asyncio.gather(*watches, return_exceptions=True)
            self.crashes += [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]

    async def _pursue_all(self, wanted: list[Intent], *, waits: bool, unknowns: int = UNKNOWNS) -> None:
        """Pursue many at once; without `waits` those that take long are left for the next part."""
        waiting = iter(wanted)

        async def work() -> None:
            for intent in waiting:
                self._pursued += 1
                await self._pursue(intent, unknowns)

        workers = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        # From here on nothing new is begun.
        _, late = await asyncio.wait(workers, timeout=None if waits else _LATE_SECONDS)
        for worker in late:
            worker.cancel()
        ends = await asyncio.gather(*workers, return_exceptions=True)
        self.crashes += [repr(end) for end in ends if isinstance(end, Exception)]

    async def _pursue(self, intent: Intent, unknowns: int) -> None:
        """Make the same call until it gives a job or a refusal, or for so long as anybody would."""
        most_unknown = intent.answers.count("outcome_unknown") + unknowns
        for number in range(TRIES):
            if number == 0 and intent.at_once:
                pair = self.random.sample(self.pool.slots, 2)
                await asyncio.gather(*(self.call(intent, slot) for slot in pair))
            else:
                give_up = self.random.uniform(0.0, 0.4) if number == 0 and intent.given_up else None
                await self.call(intent, self._any_slot(), give_up_after=give_up)
            if intent.is_settled or intent.answers.count("outcome_unknown") >= most_unknown:
                break
            await asyncio.sleep(min(2.0, 0.1 * 2**number) * self.random.uniform(0.5, 1.0))
        if intent.made and intent.asked_again:
            await self.call(intent, self._any_slot())

    def _any_slot(self) -> Slot:
        return self.random.choice(self.pool.slots)

    def _local_audio(self, intent: Intent) -> Path:
        """Return the recording of an intent, which no other has; it is written when it is first wanted."""
        path = self._recordings / f"voice-{intent.number}.wav"
        if intent.is_local and not path.exists():
            # After the sound, what is not heard.
            path.write_bytes(sample("speech.wav").read_bytes() + intent.number.to_bytes(4, "big"))
        return path

    async def _kill_doomed(self) -> None:
        """Kill the senders of creates that hang at the API."""
        seen = len(self.sandbox.requests)
        accepting: list[_Accepting] = []
        while True:
            requests = self.sandbox.requests
            for request in requests[seen:]:
                point = request.headers.get(DOOMED_HEADER)
                server = self.pool.by_pid(request.headers.get(PID_HEADER))
                if point == "api-received" and server:
                    server.strike()
                elif point == "api-accepted" and server:
                    accepting.append(_Accepting(server, self._has_accepted(request)))
            seen = len(requests)
            for one in accepting:
                if one.server.alive and one.is_accepted():
                    one.server.strike()
            accepting = [one for one in accepting if one.server.alive and time.monotonic() < one.give_up_at]
            await asyncio.sleep(_LOOK_SECONDS)

    def _has_accepted(self, request: RecordedRequest) -> Callable[[], bool]:
        """Return what tells whether the API has done what a request asks for."""
        if request.method == "DELETE":
            return lambda: request.path.removeprefix(DELETED_PATH) not in self.sandbox.generations
        key, count = request.headers.get("idempotency-key"), len(self.sandbox.charges)
        if key is None:
            # It may be another's: the API goes on with it when its sender is dead.
            return lambda: len(self.sandbox.charges) > count
        return lambda: any(charge.idempotency_key == key for charge in self.sandbox.charges)

    async def _turn_the_lists(self, part: Part) -> None:
        # Drawn apart: how often they turn is a matter of time, and nothing else may hang on it.
        random = Random(self.random.random())
        while True:
            odd = oddities(part, random)
            self.sandbox.configure(list_oddities=odd)
            self.records.write("lists", oddities=list(odd))
            await asyncio.sleep(_ODD_FOR_SECONDS)

    async def _let_day_end(self, half: int) -> None:
        """Come to midnight when half of a part is begun."""
        while self._pursued < half:  # noqa: ASYNC110 - a look now and then will do
            await asyncio.sleep(_LOOK_SECONDS)
        midnight = _midnight(self.now) + timedelta(days=1)
        seconds = (midnight - _SHORTLY_BEFORE - self.now).total_seconds()
        if 0 < seconds < _BEFORE_MIDNIGHT.total_seconds():
            self.advance(seconds)
        self.records.write("midnight", at=midnight)

    async def _watch_money(self) -> None:
        while True:
            self._look_at_the_charges()
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _look_at_the_charges(self) -> None:
        assert self._budget_usd is not None
        charged = sum((charge.amount_usd for charge in self.sandbox.charges), Decimal(0))
        self._over_usd = max(self._over_usd, charged - self._budget_usd)

    def _look_at_the_money(self) -> None:
        assert self._budget_usd is not None
        self._look_at_the_charges()
        self._over_usd = max(self._over_usd, self.counted_usd() - self._budget_usd)

    def counted_usd(self) -> Decimal:
        """Return what stands against the budget in the ledger."""
        now = time.time()
        # What died before it was sent holds nothing any more.
        return sum((entry.counted_usd for entry in self.entries() if not entry.is_abandoned(now)), Decimal(0))


async def _endless(work: Coroutine[Any, Any, None]) -> None:
    """Do some work, and then wait to be cancelled."""
    await work
    await asyncio.Event().wait()


def _open(every: list[Intent]) -> list[Intent]:
    return [intent for intent in every if not intent.is_settled]


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _looked_at(requests: Sequence[RecordedRequest]) -> dict[str, list[datetime]]:
    looks: dict[str, list[datetime]] = {}
    for request in requests:
        place, _, name = request.path.partition("/v2/generate/")
        if request.method == "GET" and not place and name and request.status == 200:
            looks.setdefault(name.partition("/")[0], []).append(request.at)
    return looks
