"""Other things that cost money than videos: each paid once, within the budget, whatever breaks.

Two servers make each call at once while answers get lost, and die at each of the points. A job of speech has
a key, so it comes to its end. The others have none: nothing may go out for them a second time, and what came
of a lost answer stays unknown where no job of it is found. A clone is found by its name, a batch by our key.

Another kind is a `Kind` in `KINDS`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from sync_mcp.payments.rows import Entry
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.api.transcriptions import PASSAGE
from sync_mcp.sandbox.dialogue import PREVIEW_USD
from sync_mcp.sandbox.faults.script import BATCH_PATH, SPEECH_PATH
from tests.sandbox.wire import VOICE
from tests.torture.client import Frame, ServerDied
from tests.torture.intents import heard
from tests.torture.points import EDITS_PATH, POINTS
from tests.torture.pool import Arm

if TYPE_CHECKING:
    from tests.torture.pool import Slot
    from tests.torture.run import Torture

HOLD_USD = Decimal("0.01")
"""What is held for a thing without a price: no less than what the sandbox charges."""
SHARE_OF_BUDGET = 0.8
_CREATES_FOR_DEATHS = 100
"""Servers die only in a run that is long enough: their leases are waited for."""
_REPEATED = "it may be paid again"
_TRIES = 5
_PAUSE_SECONDS = 0.2
_CONSENT = "It is the voice of Ada Li, who agreed to this."
_ROWS = 20
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


@dataclass(frozen=True)
class Paid:
    """What the sandbox made and charged: what it is called, and what names the key that it was sent under."""

    name: str
    usd: Decimal
    key: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of thing that costs money."""

    name: str
    """As it stands in the ledger."""
    tool: str
    path: str
    """Where it is sent."""
    id_field: str
    """What an answer calls it by."""
    arguments: Callable[[Sandbox, str], Frame]
    """Returns the arguments of the call for what has this name."""
    paid: Callable[[Sandbox], Mapping[str, Paid]]
    """Returns all that the sandbox has ever made of it, by its id."""
    hold_usd: Callable[["Torture"], Decimal]
    """Returns what is held for one: no less than what the sandbox charges."""
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the sandbox is like for it."""
    has_key: bool = False
    """Whether it may be sent again: then nothing may stay unknown of it in fair weather."""
    is_listed: bool = True
    """Whether what was made of it is found in fair weather, by a name or by our key."""
    number: int = 6
    creates_for_more: int = 50
    """For so many creates of the run there is one more."""


def _list_speech(sandbox: Sandbox) -> Mapping[str, Paid]:
    return _list_named(sandbox, sandbox.scripts)


def _list_clones(sandbox: Sandbox) -> Mapping[str, Paid]:
    return _list_named(sandbox, sandbox.clones)


def _list_named(sandbox: Sandbox, names: Mapping[str, str]) -> Mapping[str, Paid]:
    charges = {charge.generation_id: charge.amount_usd for charge in sandbox.charges}
    return {id: Paid(name, charges[id]) for id, name in names.items()}


def _list_batches(sandbox: Sandbox) -> Mapping[str, Paid]:
    charges = {charge.generation_id: charge.amount_usd for charge in sandbox.charges}
    return {
        id: Paid(
            f"create_batch-{next(iter(rows)).partition('row-')[0]}",
            sum((charges[job] for job in rows.values() if job is not None), Decimal(0)),
            key=next(iter(rows)),
        )
        for id, rows in sandbox.batches.items()
    }


def _speech(_: Sandbox, name: str) -> Frame:
    return {"script": name, "voice_id": VOICE}


def _clone(sandbox: Sandbox, name: str) -> Frame:
    return {"name": name, "consent": _CONSENT, "url": sandbox.samples.audio}


def _batch(sandbox: Sandbox, name: str) -> Frame:
    samples, number = sandbox.samples, name.partition("-")[2]
    rows = [
        {
            "request_id": f"{number}row-{row}",
            "model": "lipsync-2",
            "input": [
                {"type": "video", "url": f"{samples.video}?batch={number}&row={row}"},
                {"type": "audio", "url": samples.audio},
            ],
        }
        for row in range(_ROWS)
    ]
    return {"rows": rows}


def _list_edits(sandbox: Sandbox) -> Mapping[str, Paid]:
    named = {
        id: str(cast(list[Frame], asked["edits"])[0]["replacement"])
        for id, asked in sandbox.dialogue_edits.items()
    }
    return _list_named(sandbox, named)


def _edit(sandbox: Sandbox, name: str) -> Frame:
    # A name is one word: the API takes an edit for each.
    change = {"words": PASSAGE.split()[0], "replacement": name}
    return {"url": sandbox.samples.speaking, "changes": [change]}


def _hold(_: "Torture") -> Decimal:
    return HOLD_USD


KINDS: tuple[Kind, ...] = (
    Kind(
        "speech",
        "create_speech",
        SPEECH_PATH,
        "speech_id",
        _speech,
        _list_speech,
        _hold,
        has_key=True,
    ),
    Kind(
        "speech",
        "create_speech",
        "/v2/tts",
        "speech_id",
        _speech,
        _list_speech,
        _hold,
        settings={"speech_jobs": False},
        is_listed=False,
    ),
    Kind(
        "dialogue_edit",
        "edit_dialogue",
        EDITS_PATH,
        "dialogue_edit_id",
        _edit,
        _list_edits,
        lambda _: PREVIEW_USD,
        is_listed=False,
    ),
    Kind("clone", "clone_voice", "/v2/voices", "voice_id", _clone, _list_clones, _hold),
    Kind(
        "batch",
        "create_batch",
        BATCH_PATH,
        "batch_id",
        _batch,
        _list_batches,
        lambda run: run.price_usd * _ROWS,
        number=4,
        creates_for_more=500,
    ),
)


@dataclass
class Wanted:
    """One that is to be made."""

    kind: Kind
    name: str
    arguments: Frame
    ids: list[str] = field(default_factory=list[str])
    codes: list[str] = field(default_factory=list[str])

    @property
    def is_settled(self) -> bool:
        return bool(self.ids) or self.codes[-1:] == ["limit_reached"]


async def try_acts(run: "Torture") -> None:
    """Have some of each kind made by two servers, and count what came of it."""
    for number, kind in enumerate(KINDS):
        await _try_kind(run, kind, f"{kind.tool}-{number}")


async def _try_kind(run: "Torture", kind: Kind, begin: str) -> None:
    run.clear_weather()
    run.sandbox.configure(
        job_seconds=0.0,
        speech_per_minute=None,
        clones_per_hour=None,
        batches_at_once=10_000,
        **kind.settings,
    )
    dies = run.creates >= _CREATES_FOR_DEATHS
    count = kind.number + run.creates // kind.creates_for_more + (len(POINTS) if dies else 0)
    # Of the same length, no name stands in another one.
    wanted = [_want(run, kind, f"{begin}{number:03}.") for number in range(count)]
    before = set(kind.paid(run.sandbox))
    most_usd = kind.hold_usd(run) * int(SHARE_OF_BUDGET * count)
    budget_usd = run.counted_usd() + most_usd
    folder = run.folder / begin
    folder.mkdir()
    if dies:
        run.pool.arms.extend(Arm(point, 1) for point in POINTS)
    async with (
        run.serving(
            2,
            budget_usd=budget_usd,
            toolsets="core,voices,batch,dialogue",
            unpriced_usd=kind.hold_usd(run),
            download_dir=str(folder),
        ),
        run.killing_the_doomed(),
    ):
        if dies:
            await _die_at_each_point(run, wanted)
        _set_faults(run, kind.path, count)
        await _pursue(run, wanted)
        run.clear_weather()
        await _pursue(run, wanted)
    run.crashes += [f"{kind.path}: no server died at {arm.point}" for arm in run.pool.arms]
    run.pool.arms.clear()
    paid = {id: one for id, one in kind.paid(run.sandbox).items() if id not in before}
    run.acts[kind.path] = Counter(charged=len(paid), refused=_count_refused(wanted))
    run.crashes += judge_acts(wanted, paid, run.entries())
    charged_usd = sum((one.usd for one in paid.values()), Decimal(0))
    if charged_usd > most_usd or run.counted_usd() > budget_usd:
        run.crashes.append(f"over budget: {charged_usd} of {most_usd} USD at {kind.path}")
    made = {one.name for one in paid.values()}
    run.crashes += [
        f"never came to an end: {one.name} at {kind.path}: {', '.join(one.codes)}"
        for one in wanted
        if not one.is_settled and (kind.has_key or (kind.is_listed and one.name in made))
    ]
    run.sandbox.configure(job_seconds=run.job_seconds, speech_jobs=True)


def _count_refused(wanted: Sequence[Wanted]) -> int:
    return sum(not one.ids and one.is_settled for one in wanted)


def _want(run: "Torture", kind: Kind, name: str) -> Wanted:
    return Wanted(kind, name, kind.arguments(run.sandbox, name))


async def _die_at_each_point(run: "Torture", wanted: Sequence[Wanted]) -> None:
    """Make a call on each server, which it dies of; the next servers die at the next points."""
    for first in range(0, len(POINTS), len(run.pool.slots)):
        pairs = zip(wanted[first:], run.pool.slots, strict=False)
        await asyncio.gather(*(_call(one, slot) for one, slot in pairs))


def _set_faults(run: "Torture", path: str, count: int) -> None:
    """Strike about every second send to a path."""
    for number in range(count):
        what = run.random.choice(_FAULTS)
        fault = {"method": "POST", "path": path, "skip": 2 * number, **what}
        run.sandbox.add_fault(Fault.model_validate(fault))


async def _pursue(run: "Torture", wanted: Sequence[Wanted]) -> None:
    """Make each call on both servers at once, and again until it is settled."""
    for _ in range(_TRIES):
        left = [one for one in wanted if not one.is_settled]
        await asyncio.gather(*(_call(one, slot) for one in left for slot in run.pool.slots))
        if not left:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


async def _call(wanted: Wanted, slot: "Slot") -> None:
    """Make a call, and again with the user's yes where they are asked, but never to pay for it again."""
    server = await slot.server()
    agreed: Frame = {}
    try:
        result = await server.call(wanted.kind.tool, wanted.arguments)
        asked = heard(result)
        if (quote_id := asked.quote_id) and _REPEATED not in asked.text:
            agreed = {"quote_id": quote_id}
            result = await server.call(wanted.kind.tool, {**wanted.arguments, **agreed})
    except ServerDied:
        wanted.codes.append("server died")
        return
    facts = cast(dict[str, Any], result.get("structuredContent") or {})
    id = facts.get(wanted.kind.id_field)
    if id:
        wanted.ids.append(str(id))
    wanted.codes.append("made" if id else heard(result).code)


def judge_acts(wanted: Sequence[Wanted], paid: Mapping[str, Paid], entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what was lost, doubled, or told wrongly."""
    known = {entry.generation_id for entry in entries if entry.generation_id}
    unknown = [entry for entry in entries if entry.state in ("sending", "unknown")]
    count = Counter(one.name for one in paid.values())
    for one in wanted:
        tool = one.kind.tool
        if count[one.name] > 1:
            yield f"doubled: {tool} {one.name!r} was charged {count[one.name]} times"
        for id in dict.fromkeys(one.ids):
            what = paid.get(id)
            if what is None or what.name != one.name:
                yield f"lost: {tool} {one.name!r} was told {id}, which is {what}"
    for id, what in paid.items():
        if id not in known and not any(_may_be(entry, what) for entry in unknown):
            yield f"lost: {what.name!r} was charged as {id}, and the ledger does not know it"


def _may_be(entry: Entry, what: Paid) -> bool:
    """Whether an entry in doubt stands for what was made."""
    return what.name in entry.summary or (
        bool(entry.idempotency_key) and what.key.endswith(entry.idempotency_key)
    )
