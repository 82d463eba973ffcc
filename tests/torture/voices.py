"""Speech and clones while their answers get lost and a server dies: each paid once, within the budget.

A job of speech has a key, so it comes to its end. Speech at once and a clone have none: what came of a lost
answer may stay unknown, and nothing may go out for it a second time.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Fault
from tests.sandbox.wire import VOICE
from tests.torture.client import ServerDied

if TYPE_CHECKING:
    from tests.torture.pool import Slot
    from tests.torture.run import Torture

HOLD_USD = Decimal("0.01")
"""What is held for each: no less than what the sandbox charges."""
SHARE_OF_BUDGET = 0.8
_OF_EACH = 6
_CREATES_FOR_MORE = 50
"""For so many creates of the run there is one more of each."""
_CREATES_FOR_A_KILL = 100
"""A server dies only in a run that is long enough: its lease is waited for."""
_TRIES = 5
_PAUSE_SECONDS = 0.2
_CONSENT = "It is the voice of Ada Li, who agreed to this."
_JOBS, _AT_ONCE, _VOICES = "/v2/tts/jobs", "/v2/tts", "/v2/voices"
_SETTLED = ("limit_reached",)
_FAULTS: tuple[Mapping[str, object], ...] = (
    {"drop": "before"},
    {"drop": "after"},
    {"html": True, "when": "after"},
    {"cut_body": True},
    {"empty": True},
    {"no_id": True},
    {"delay_seconds": 0.3},
    {"status": 429, "body": {"statusCode": 429, "message": "slow down"}, "headers": {"Retry-After": "1"}},
)


@dataclass
class Wanted:
    """A script that is to be said, or a voice that is to be cloned."""

    tool: str
    name: str
    arguments: dict[str, Any]
    ids: list[str] = field(default_factory=list[str])
    codes: list[str] = field(default_factory=list[str])

    @property
    def is_settled(self) -> bool:
        return bool(self.ids) or self.codes[-1:] in ([code] for code in _SETTLED)


async def try_voices(run: "Torture") -> None:
    """Have them made by two servers at once, and count what came of it."""
    run.clear_weather()
    run.sandbox.configure(job_seconds=0.0, speech_per_minute=None, clones_per_hour=None, concurrency=None)
    count = _OF_EACH + run.creates // _CREATES_FOR_MORE
    voice = VOICE
    before = {charge.generation_id for charge in run.sandbox.charges}
    jobs = [_speech(f"Job number {number}.", voice) for number in range(count)]
    at_once = [_speech(f"At once, number {number}.", voice) for number in range(count)]
    clones = [_clone(f"Voice {number}", run.sandbox.samples.audio) for number in range(count)]
    most_usd = HOLD_USD * int(SHARE_OF_BUDGET * 3 * count)
    folder = run.folder / "speeches"
    folder.mkdir()
    async with run.serving(
        2,
        budget_usd=run.counted_usd() + most_usd,
        toolsets="core,voices",
        unpriced_usd=HOLD_USD,
        download_dir=str(folder),
    ):
        kills = run.creates >= _CREATES_FOR_A_KILL
        _set_faults(run, [(_JOBS, count), (_VOICES, count)])
        await _pursue(run, [*jobs, *clones], kills=kills)
        run.sandbox.configure(speech_jobs=False)
        _set_faults(run, [(_AT_ONCE, count)])
        await _pursue(run, at_once, kills=False)
        run.clear_weather()
        run.sandbox.configure(speech_jobs=True)
        await _pursue(run, [*jobs, *clones, *at_once], kills=False)
    made = {**run.sandbox.scripts, **run.sandbox.clones}
    new = {charge.generation_id: charge.amount_usd for charge in run.sandbox.charges}
    charged = {id: usd for id, usd in new.items() if id not in before and id in made}
    run.crashes += judge_voices([*jobs, *clones, *at_once], made, charged, run.entries())
    if sum(charged.values()) > most_usd:
        run.crashes.append(f"over budget: {sum(charged.values())} of {most_usd} USD for speech and clones")
    run.crashes += [f"speech job that never came to an end: {one}" for one in jobs if not one.is_settled]
    run.sandbox.configure(job_seconds=run.job_seconds)


def _speech(script: str, voice_id: str) -> Wanted:
    return Wanted("create_speech", script, {"script": script, "voice_id": voice_id})


def _clone(name: str, recording: str) -> Wanted:
    return Wanted("clone_voice", name, {"name": name, "consent": _CONSENT, "url": recording})


def _set_faults(run: "Torture", paths: list[tuple[str, int]]) -> None:
    """Strike about every second send to these paths."""
    run.sandbox.clear_faults()
    for path, count in paths:
        for number in range(count):
            what = run.random.choice(_FAULTS)
            fault = {"method": "POST", "path": path, "skip": number, **what}
            run.sandbox.add_fault(Fault.model_validate(fault))


async def _pursue(run: "Torture", wanted: list[Wanted], *, kills: bool) -> None:
    """Make each call on both servers at once, and again until it is settled."""
    for number in range(_TRIES):
        left = [one for one in wanted if not one.is_settled]
        calls = [_call(one, slot) for one in left for slot in run.pool.slots]
        work = asyncio.gather(*calls)
        if kills and number == 0:
            await asyncio.sleep(_PAUSE_SECONDS)
            await run.pool.slots[0].strike()
        await work
        if not left:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


async def _call(wanted: Wanted, slot: "Slot") -> None:
    server = await slot.server()
    try:
        result = await server.call(wanted.tool, wanted.arguments)
    except ServerDied:
        wanted.codes.append("server died")
        return
    facts: dict[str, Any] = result.get("structuredContent") or {}
    id = facts.get("speech_id") or facts.get("voice_id")
    if id:
        wanted.ids.append(str(id))
    wanted.codes.append("made" if id else str(result.get("_meta", {}).get("code")))


def judge_voices(
    wanted: list[Wanted], made: Mapping[str, str], charged: Mapping[str, Decimal], entries: list[Entry]
) -> Iterator[str]:
    """Yield what was lost, doubled, or told wrongly."""
    known = {entry.generation_id for entry in entries if entry.generation_id}
    unknown = [entry for entry in entries if entry.state in ("sending", "unknown")]
    count = Counter(made[id] for id in charged)
    for one in wanted:
        if count[one.name] > 1:
            yield f"doubled: {one.tool} {one.name!r} was charged {count[one.name]} times"
        for id in dict.fromkeys(one.ids):
            if made.get(id) != one.name:
                yield f"lost: {one.tool} {one.name!r} was told {id}, which is {made.get(id)!r}"
    for id in charged:
        in_doubt = any(made[id] in entry.summary for entry in unknown)
        if id not in known and not in_doubt:
            yield f"lost: {made[id]!r} was charged as {id}, and the ledger does not know it"
