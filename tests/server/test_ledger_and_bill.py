"""compare_ledger, after a day on which much went wrong, against what the API has charged by its own books."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.wire import VOICE
from tests.serving.stdio.forked import start_forked
from tests.torture.client import Frame, ServerDied, ServerProcess
from tests.torture.intents import heard

pytestmark = pytest.mark.anyio

GENERATIONS, SPEECHES, CLONES, BATCHES, ROWS = 100, 12, 8, 4, 45
"""300 jobs together."""
CONSENT = "It is the voice of Ada Li, who agreed to this."
MODELS = ("lipsync-2", "lipsync-2-pro", "lipsync-1.9.0-beta")
AT_ONCE = 8
KILLED_AFTER = 50
TRIES = 4
SETTINGS: Frame = {"batches_at_once": 100, "clones_per_hour": None, "speech_per_minute": None}
LATER_SECONDS = 3600
"""By then all jobs have ended, and the API knows what they cost."""
GENERATE = "/v2/generate"
FAULTS: tuple[Frame, ...] = (
    # Its answer would come when the server that waits for it is long dead.
    {"path": GENERATE, "delay_seconds": 600, "when": "after", "skip": 30},
    {"path": GENERATE, "drop": "after"},
    {"path": GENERATE, "html": True, "when": "after"},
    {"path": GENERATE, "drop": "before"},
    {"path": GENERATE, "job": "fail"},
    {"path": GENERATE, "job": "fail", "charged": True},
    {"path": GENERATE, "job": "fail", "charged": True, "cost_seconds": 900, "cost_at_first": "zero"},
    {"path": GENERATE, "job": "reject", "drop": "after"},
    {"path": "/v2/tts/jobs", "drop": "after", "skip": 2},
    {"path": "/v2/voices", "drop": "after", "skip": 2},
    {"path": "/v2/batch", "drop": "after", "skip": 1},
    {"path": "/v2/batch", "job": "fail", "rows": [3, 7], "skip": 2},
)
"""Each strikes once; whose answer is lost is asked for again by the same call."""


class Books:
    """The sandbox, a process of its own, and what it says of itself, which does not go through our client."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def do(self, method: str, path: str, body: object = None) -> Any:
        return self._http.request(method, path, json=body).raise_for_status().json()

    def charges(self) -> dict[str, Decimal]:
        """Return what each job was charged, by its id."""
        return {
            str(charge["generationId"]): Decimal(str(charge["amountUsd"]))
            for charge in self.do("GET", "/sandbox/charges")
        }

    def generations(self) -> dict[str, str]:
        """Return the mark of each generation, by its id: what its video's URL ends with."""
        return {
            str(job["id"]): str(job["input"][0]["url"]).partition("?")[2]
            for job in self.do("GET", "/sandbox/generations")
        }

    def today(self) -> str:
        """Return the day by its clock, and the one before: jobs may end at midnight."""
        now = datetime.fromisoformat(self.do("GET", "/sandbox/clock")["now"])
        return f"{now - timedelta(days=1):%Y-%m-%d}/{now:%Y-%m-%d}"

    def close(self) -> None:
        self._http.close()


@contextmanager
def sandbox_of_its_own(folder: Path) -> Generator[Books]:
    words = ["sandbox", "--port", "0", "--plan", "enterprise", "--job-seconds", "0"]
    env = {"TMPDIR": str(folder)}
    with start_forked([sys.executable, "-m", "sync_mcp", *words], env) as process:
        assert process.stdout
        books = Books(process.stdout.readline().decode().split()[-1])
        try:
            yield books
        finally:
            books.close()
            process.kill()


def calls(books: Books) -> list[tuple[str, Frame]]:
    """Return the calls of a day, mixed."""
    video, audio = f"{books.url}/samples/speaker.mp4", f"{books.url}/samples/speech.wav"

    def media(mark: str) -> list[Frame]:
        return [{"type": "video", "url": f"{video}?{mark}"}, {"type": "audio", "url": audio}]

    made: list[tuple[float, str, Frame]] = [
        *(
            (n / GENERATIONS, "create_generation", {"model": MODELS[n % 3], "input": media(f"n={n}")})
            for n in range(GENERATIONS)
        ),
        *(
            (n / SPEECHES, "create_speech", {"script": f"Script {n}.", "voice_id": VOICE})
            for n in range(SPEECHES)
        ),
        *(
            (n / CLONES, "clone_voice", {"name": f"Voice {n}", "consent": CONSENT, "url": audio})
            for n in range(CLONES)
        ),
        *(
            (
                n / BATCHES,
                "create_batch",
                {"rows": [{"input": media(f"batch={n}&row={row}")} for row in range(ROWS)]},
            )
            for n in range(BATCHES)
        ),
    ]
    return [(tool, arguments) for _, tool, arguments in sorted(made, key=lambda one: one[0])]


class Day:
    """Makes the calls of a day, by a server that is killed in the middle, and by the next one."""

    def __init__(self, books: Books, folder: Path) -> None:
        self._books = books
        self._folder = folder
        self._waiting = iter(calls(books))
        self._answered = 0
        self.in_flight: list[Frame] = []
        """Arguments of the calls that the server died of."""
        self.made: list[Frame] = []
        """What the calls were answered with in the end."""

    async def run(self) -> None:
        """Make them all."""
        async with self.server() as first:
            await asyncio.gather(*(self._work(first) for _ in range(AT_ONCE)))
            assert not first.alive
        async with self.server() as second:
            await asyncio.gather(*(self._work(second) for _ in range(AT_ONCE)))

    @asynccontextmanager
    async def server(self) -> AsyncGenerator[ServerProcess]:
        env = {
            "SYNC_API_KEY": "sk_day",
            "SYNC_BASE_URL": self._books.url,
            "SYNC_MCP_HOME": str(self._folder / "home"),
            "SYNC_MCP_APPROVE_ABOVE_USD": "100000",
            "SYNC_MCP_TOOLSETS": "all",
            "SYNC_MCP_DOWNLOAD_DIR": str(self._folder),
        }
        server = await ServerProcess.start(env, self._folder / "server.log")
        try:
            yield server
        finally:
            await server.kill()

    async def _work(self, server: ServerProcess) -> None:
        while server.alive and (call := next(self._waiting, None)):
            try:
                self.made.append(await self._make(server, *call))
            except ServerDied:
                self.in_flight.append(call[1])
            self._answered += 1
            if self._answered == KILLED_AFTER:
                server.strike()

    async def _make(self, server: ServerProcess, tool: str, arguments: Frame) -> Frame:
        """Make a call until it gives its job, with the user's yes where they are asked."""
        given, told = arguments, ""
        for _ in range(TRIES):
            result = await server.call(tool, given)
            if "structuredContent" in result:
                return result["structuredContent"]
            answer = heard(result)
            told = answer.text
            given = {**arguments, "quote_id": answer.quote_id} if answer.quote_id else arguments
        raise AssertionError(f"{tool} comes to no end: {told}")


def marks_of(arguments: Frame) -> set[str]:
    """Return the marks of the generations that a call makes."""
    rows = arguments.get("rows") or ([arguments] if "input" in arguments else [])
    return {str(row["input"][0]["url"]).partition("?")[2] for row in rows}


def of(result: Frame) -> Frame:
    """Return the facts of an answer."""
    assert "structuredContent" in result, result
    return result["structuredContent"]


async def compare(server: ServerProcess, period: str) -> tuple[Frame, list[Frame]]:
    """Return what the ledger and the bill of a period have, and all that is named."""
    told = first = of(await server.call("compare_ledger", {"period": period}))
    named = [*first["differences"]]
    while cursor := told.get("next_cursor"):
        told = of(await server.call("compare_ledger", {"period": period, "cursor": cursor}))
        named += told["differences"]
    return first, named


async def delete_some(server: ServerProcess, ids: list[str]) -> None:
    given: Frame = {"generation_ids": ids}
    asked = await server.call("delete_generations", given)
    word = re.search(r'confirm "([^"]+)"', asked["content"][0]["text"])
    assert word, asked
    assert of(await server.call("delete_generations", {**given, "confirm": word[1]}))["deleted"] == len(ids)


def exact(amount: float) -> Decimal:
    return Decimal(str(round(amount, 6)))


@pytest.mark.slow
async def test_after_300_mixed_jobs_with_faults_and_a_kill_the_ledger_agrees_or_names_each_difference(
    tmp_path: Path,
) -> None:
    with sandbox_of_its_own(tmp_path) as books:
        books.do("PATCH", "/sandbox/settings", SETTINGS)
        for number, fault in enumerate(FAULTS):
            books.do("POST", "/sandbox/faults", {"method": "POST", "skip": 3 * number, **fault})
        day = Day(books, tmp_path)
        await day.run()
        books.do("POST", "/sandbox/clock", {"advance_seconds": LATER_SECONDS})
        marks, charges = books.generations(), books.charges()
        assert [fault["struck"] for fault in books.do("GET", "/sandbox/faults")] == [1] * len(FAULTS)
        async with day.server() as server:
            await delete_some(
                server, [made["generation_id"] for made in day.made if "generation_id" in made][:3]
            )
            told, named = await compare(server, books.today())
    # By the books of the API, not by ours: each was made once, but what the server may not have sent yet.
    in_flight = set[str]().union(*map(marks_of, day.in_flight))
    billed = {id: charges[id] for id in marks}
    assert len(marks) == len(set(marks.values())) >= GENERATIONS + BATCHES * ROWS - len(in_flight)
    # What is named is what the server died of, each with what it cost.
    assert {row["what"] for row in named} <= {"missing in the ledger"}
    missing = {row["generation_id"]: exact(row["bill_usd"]) for row in named}
    assert missing == {id: billed[id] for id in missing}
    assert missing
    assert {marks[id] for id in missing} <= in_flight
    # All else agrees to the cent.
    assert exact(told["bill_usd"]) == sum(billed.values())
    assert exact(told["ledger_usd"]) == sum(billed.values()) - sum(missing.values())
    assert told["agreeing"] == len(billed) - len(missing)
    assert "open" not in told
    # What the API's bill never tells is counted.
    others = len(charges) - len(billed)
    assert others - len(day.in_flight) <= told["not_in_bill"] <= others
    assert told["agrees"] == (not named and "unresolved" not in told)
