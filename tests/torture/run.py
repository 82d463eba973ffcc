"""The run: servers that die and are started anew, an assistant that goes on as one would, and the count."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random

from sync_mcp import AsyncSync, Audio, Video
from sync_mcp.jobs.ledger import Entry, Ledger
from sync_mcp.sandbox import Charge, RecordedRequest, Sandbox
from sync_mcp.sandbox.faults import CREATE_PATH
from sync_mcp.sandbox.storage import SPEECH
from tests.torture.client import CallGivenUp, Frame, ServerDied, ServerProcess
from tests.torture.intents import Heard, Intent, arguments_of, heard, intents
from tests.torture.points import DOOMED_HEADER, KILL_VARIABLE, PID_HEADER, POINTS, Point
from tests.torture.weather import PARTS, Part, set_weather

MOST_SERVERS = 6
_CREATES_A_SERVER = 50
"""A server is worth its start only where it has so many creates to make."""
AT_ONCE = 24
TRIES = 16
UNKNOWNS = 2
"""After so many answers that the outcome is unknown, an assistant leaves it for later."""
SHARE_OF_BUDGET = 0.9
"""How many of a part's intents the budget pays for."""
JOB_SECONDS = 2.0
_LOOK_SECONDS = 0.02
_SAMPLE_SECONDS = 0.5
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


class _Slot:
    """A place for a server: when one dies, the next is started."""

    def __init__(self, run: "Torture", number: int) -> None:
        self._run = run
        self._number = number
        self.current: ServerProcess | None = None
        self._ready = asyncio.Event()

    async def server(self) -> ServerProcess:
        while True:
            await self._ready.wait()
            assert self.current
            if self.current.alive:
                return self.current
            # The keeper has not seen it yet.
            self._ready.clear()

    async def keep(self) -> None:
        """Keep a server running until the task is cancelled."""
        while True:
            arm = self._run.arms.popleft() if self._run.arms else None
            try:
                await self._live(arm)
            except asyncio.CancelledError:
                # The part is over; what did not come to pass is left for the next one.
                if arm:
                    self._run.arms.append(arm)
                raise
            except (ServerDied, TimeoutError) as error:
                self._run.crashes.append(f"server {self._number} did not start: {error!r}")
                await asyncio.sleep(1)
            finally:
                self._ready.clear()

    async def _live(self, arm: "_Arm | None") -> None:
        env = self._run.env | ({KILL_VARIABLE: f"{arm.point}:{arm.number}"} if arm else {})
        server = await ServerProcess.start(env, self._run.folder / f"server-{self._number}.log")
        try:
            self.current = server
            self._ready.set()
            await server.ended()
        finally:
            await asyncio.shield(server.kill())
        if arm and server.process.returncode == -9:
            self._run.kills[arm.point] += 1
        else:
            self._run.crashes.append(f"server {self._number} ended with {server.process.returncode}")


@dataclass
class _Arm:
    point: Point
    number: int


class Torture:
    """Makes so many creates, in four parts, and kills so many servers at each point."""

    def __init__(self, creates: int, seed: int, folder: Path, *, say: Callable[[str], object] = str) -> None:
        self.creates = creates
        self.servers = min(MOST_SERVERS, max(3, creates // _CREATES_A_SERVER))
        self.random = Random(seed)
        self.folder = folder
        self.kills_wanted = max(1, creates // 100)
        self._say = say
        self.kills: Counter[str] = Counter()
        self.crashes: list[str] = []
        self.answers: Counter[str] = Counter()
        self.arms: deque[_Arm] = deque()
        self.env: dict[str, str] = {}
        self.budget_usd = Decimal(0)
        self._over_usd = Decimal(0)
        self._hidden: set[str] = set()
        self._faults: set[str] = set()
        self._slots: list[_Slot] = []
        self._home = folder / "home"
        self._recordings = folder / "recordings"
        self._ledger = Ledger(self._home)

    async def run(self) -> Outcome:
        """Do it all and return what came of it."""
        began = time.monotonic()
        every: list[Intent] = []
        deaths: list[Point] = [point for point in POINTS for _ in range(self.kills_wanted)]
        self.random.shuffle(deaths)
        with Sandbox(job_seconds=JOB_SECONDS, plan="enterprise") as sandbox:
            self.sandbox = sandbox
            price = await self._price()
            for index, part in enumerate(PARTS):
                count = self.creates * (index + 1) // len(PARTS) - len(every)
                wanted = intents(count, len(every) + 1, self.random)
                self._arm(deaths[index :: len(PARTS)], count)
                await self._part(part, wanted, price, before=every, is_last=index + 1 == len(PARTS))
                every += wanted
            for _ in range(_ROUNDS_MORE):
                if self.arms:
                    # Some deaths have not come to pass: more creates, each of them one that can kill.
                    wanted = intents(len(self.arms) * _CREATES_FOR_A_DEATH, len(every) + 1, self.random)
                    self.arms = deque(_Arm(arm.point, 1) for arm in self.arms)
                    await self._part(PARTS[-1], wanted, price, before=every, is_last=True)
                    every += wanted
            # What was made to fail is charged until it does.
            sandbox.advance(3600)
            outcome = Outcome(
                intents=every,
                charges=sandbox.charges,
                jobs={name: dict(job) for name, job in sandbox.generations.items()},
                creates=[request for request in sandbox.requests if request.path == CREATE_PATH],
                hidden=self._hidden,
                entries=self._ledger.entries(limit=1_000_000),
                kills=self.kills,
                kills_wanted=self.kills_wanted,
                most_over_usd=self._over_usd,
                answers=self.answers,
                seconds=time.monotonic() - began,
                crashes=self.crashes,
            )
        self._ledger.close()
        return outcome

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
        self.arms += [_Arm(point, self.random.randint(1, latest)) for point in deaths]

    async def _part(
        self, part: Part, wanted: list[Intent], price: Decimal, *, before: list[Intent], is_last: bool
    ) -> None:
        """Make what is wanted in this part, and go on with what earlier ones left."""
        began = time.monotonic()
        first_request = len(self.sandbox.requests)
        hiding = set_weather(self.sandbox, part, len(wanted), self.random)
        self.budget_usd = self._counted_usd() + price * int(SHARE_OF_BUDGET * len(wanted))
        self.env = {
            "SYNC_API_KEY": "torture",
            "SYNC_BASE_URL": self.sandbox.url,
            "SYNC_MCP_HOME": str(self._home),
            "SYNC_MCP_APPROVE_ABOVE_USD": "never",
            "SYNC_MCP_BUDGET_USD": str(self.budget_usd),
            "SYNC_MCP_MEDIA_ROOTS": str(self._recordings),
        }
        async with self._servers(), self._watches():
            await self._pursue_all([*_open(before), *wanted], waits=is_last)
            if is_last:
                # Once more in fair weather.
                self.sandbox.clear_faults()
                await self._pursue_all(_open([*before, *wanted]), waits=True, unknowns=1)
        self._look_at_the_money()
        self._hidden |= {
            request.headers["idempotency-key"]
            for request in self.sandbox.requests[first_request:]
            if request.fault in hiding
        }
        self._say(
            f"  {part.name:<9} {len(wanted)} intended, {len(_open([*before, *wanted]))} open, "
            f"{self.kills.total()} kills so far, {time.monotonic() - began:.0f} s"
        )

    @asynccontextmanager
    async def _servers(self) -> AsyncGenerator[None]:
        self._slots = [_Slot(self, number) for number in range(self.servers)]
        keepers = [asyncio.create_task(slot.keep()) for slot in self._slots]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            ends = await asyncio.gather(*keepers, return_exceptions=True)
            self.crashes += [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]

    @asynccontextmanager
    async def _watches(self) -> AsyncGenerator[None]:
        watches = [asyncio.create_task(self._kill_doomed()), asyncio.create_task(self._watch_money())]
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
                pair = self.random.sample(self._slots, 2)
                await asyncio.gather(*(self._call(intent, slot) for slot in pair))
            else:
                give_up = self.random.uniform(0.0, 0.4) if number == 0 and intent.given_up else None
                await self._call(intent, self.random.choice(self._slots), give_up_after=give_up)
            if intent.is_settled or intent.answers.count("outcome_unknown") >= most_unknown:
                break
            await asyncio.sleep(min(2.0, 0.1 * 2**number) * self.random.uniform(0.5, 1.0))
        if intent.made and intent.asked_again:
            await self._call(intent, self.random.choice(self._slots))

    async def _call(self, intent: Intent, slot: _Slot, *, give_up_after: float | None = None) -> None:
        samples = self.sandbox.samples
        local_audio = self._local_audio(intent)
        arguments = arguments_of(intent, samples.video, samples.audio, local_audio, self.random)
        server = await slot.server()
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
        self.answers[told.code] += 1
        if told.is_fault and told.code not in self._faults:
            # One of a kind says enough.
            self._faults.add(told.code)
            self.crashes.append(f"intent {intent.number}: {told.code}: {told.text}")
        intent.answers.append(told.code)
        if told.kind == "made" and told.generation_id is not None:
            intent.made.append(told.generation_id)
        intent.refused = intent.refused or told.kind == "refused"

    def _local_audio(self, intent: Intent) -> Path:
        """Return the recording of an intent, which no other has; it is written when it is first wanted."""
        path = self._recordings / f"voice-{intent.number}.wav"
        if intent.is_local and not path.exists():
            self._recordings.mkdir(exist_ok=True)
            # After the sound, what is not heard.
            path.write_bytes(SPEECH.read_bytes() + intent.number.to_bytes(4, "big"))
        return path

    async def _kill_doomed(self) -> None:
        """Kill the senders of creates that hang at the API."""
        seen = 0
        accepting: list[tuple[ServerProcess, str, float]] = []
        while True:
            requests = self.sandbox.requests
            for request in requests[seen:]:
                point = request.headers.get(DOOMED_HEADER)
                server = self._by_pid(request.headers.get(PID_HEADER))
                if point == "api-received" and server:
                    server.strike()
                elif point == "api-accepted" and server:
                    give_up_at = time.monotonic() + _ACCEPTED_WITHIN_SECONDS
                    accepting.append((server, request.headers["idempotency-key"], give_up_at))
            seen = len(requests)
            if accepting:
                accepting = self._kill_accepted(accepting)
            await asyncio.sleep(_LOOK_SECONDS)

    def _kill_accepted(
        self, accepting: list[tuple[ServerProcess, str, float]]
    ) -> list[tuple[ServerProcess, str, float]]:
        charged = {charge.idempotency_key for charge in self.sandbox.charges}
        left: list[tuple[ServerProcess, str, float]] = []
        for server, key, give_up_at in accepting:
            if not server.alive:
                continue
            if key in charged:
                server.strike()
            elif time.monotonic() < give_up_at:
                left.append((server, key, give_up_at))
        return left

    def _by_pid(self, pid: str | None) -> ServerProcess | None:
        for slot in self._slots:
            server = slot.current
            if server is not None and pid == str(server.process.pid) and server.alive:
                return server
        return None

    async def _watch_money(self) -> None:
        while True:
            self._look_at_the_charges()
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _look_at_the_charges(self) -> None:
        charged = sum((charge.amount_usd for charge in self.sandbox.charges), Decimal(0))
        self._over_usd = max(self._over_usd, charged - self.budget_usd)

    def _look_at_the_money(self) -> None:
        self._look_at_the_charges()
        self._over_usd = max(self._over_usd, self._counted_usd() - self.budget_usd)

    def _counted_usd(self) -> Decimal:
        """Return what stands against the budget in the ledger."""
        now = time.time()
        entries = self._ledger.entries(limit=1_000_000)
        # What died before it was sent holds nothing any more.
        return sum((entry.counted_usd for entry in entries if not entry.is_abandoned(now)), Decimal(0))


def _open(every: list[Intent]) -> list[Intent]:
    return [intent for intent in every if not intent.is_settled]
