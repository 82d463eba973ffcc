"""A campaign's plan: its lines made into rows, each with its request, its files and its price.

Nothing is uploaded, made or paid. All that is wrong is said at once, with the number of each line.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path, PurePath
from secrets import token_hex
from typing import Any, cast

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import MediaKind
from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.campaigns.outputs import check_name, list_names
from sync_mcp.campaigns.rows import Campaign, Row
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.errors import (
    APIStatusError,
    AuthenticationError,
    FileRefused,
    InvalidRequestError,
    RateLimitError,
    SyncError,
)
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Account
from sync_mcp.payments.canonical import sha256_of
from sync_mcp.payments.files import by_content
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.price import Price
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.input_files import InputFiles, measure, put_files
from sync_mcp.requests.lookups import TELL_VOICES
from sync_mcp.requests.wanted import make_request
from sync_mcp.texts import clean, count_of

MOST_FAULTS = 20
_FILES_AT_ONCE = 4
_PRICES_AT_ONCE = 8
_PAUSE_SECONDS = 1.0
_NAME_LIMIT = 80
_NOTES = 5
_ASSET = "asset:"
_URL = re.compile(r"(?i)[a-z][a-z0-9+.-]*://")
_UUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INPUT = re.compile(r"\binput\[(\d+)\](?: \(\w+\))?")


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign that nobody has agreed to yet.

    Attributes:
        campaign: what it is called, comes to, and where its videos go.
        rows: one for each video.
        notes: what should be known before it is agreed to, in sentences.
    """

    campaign: Campaign
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all rows of a plan.

    Attributes:
        name: what the user calls it.
        source: the file that it is planned from.
        folder: where the videos and the report go.
        beside: from where relative paths are read.
        model: where a line names none; None for the API's usual one.
        budget_usd: the most that it may spend.
        max_usd_per_row: what a row counts whose price nobody can tell.
        on_progress: is told how many rows of how many are read or priced by now.
    """

    name: str
    source: Path
    folder: Path
    beside: Path
    model: str | None = None
    budget_usd: Decimal | None = None
    max_usd_per_row: Decimal | None = None
    on_progress: Callable[[str, int, int], None] | None = None

    def tell(self, what: str, done: int, of: int) -> None:
        """Tell how far the plan is."""
        if self.on_progress is not None:
            self.on_progress(what, done, of)


@dataclass(slots=True)
class _Draft:
    """A row on the way to be one."""

    line: Line
    fields: dict[str, Any]
    columns: Sequence[str]
    """The column that each input came from."""
    paths: Mapping[int, str]
    request: GenerationRequest | None = None
    media: Mapping[int, InputFile] = field(default_factory=dict[int, InputFile])
    act: GenerationAct | None = None
    files: InputFiles | None = None
    price: Price | None = None


class _Faults:
    """What is wrong with lines, in their order."""

    def __init__(self, told: Sequence[str] = ()) -> None:
        self._told = list(told)

    def add(self, line: Line, fault: str) -> None:
        self._told.append(f"line {line.number}: {fault}")

    def check(self) -> None:
        """Raise where there is any.

        Raises:
            InvalidRequestError: all of them, the first twenty in words.
        """
        if not self._told:
            return
        told = sorted(dict.fromkeys(self._told), key=_number_of)
        more = [f"and {len(told) - MOST_FAULTS + 1} more."] if len(told) > MOST_FAULTS else []
        error = InvalidRequestError([*told[: MOST_FAULTS - len(more)], *more])
        raise error.advise(next_step="Correct these lines and plan again: nothing was uploaded or paid.")


def _number_of(fault: str) -> int:
    return int(fault.removeprefix("line ").partition(":")[0])


async def make_plan(
    guard: Guard, facts: AccountFacts, reader: LocalReader, table: Table, terms: Terms
) -> Plan:
    """Return the plan of a campaign's lines.

    Raises:
        InvalidRequestError: all that is wrong with them.
        SyncError: prices, models or whose money it is cannot be told now.
    """
    sync, faults = facts.client, _Faults(table.faults)
    if not table.lines:
        # Of a file that cannot be read nothing else can be said, whatever the API does.
        faults.check()
    account = await guard.account(sync)
    drafts = [_draft(line, terms) for line in table.lines]
    await _make_requests(facts, drafts, faults)
    await _read_files(reader, drafts, faults, terms)
    await _measure(facts, reader, drafts, faults)
    faults.check()
    await _price(guard, sync, drafts, faults, terms)
    faults.check()
    rows, notes = _make_rows(account, drafts, faults)
    faults.check()
    notes += _note_unpriced(rows, terms.max_usd_per_row)
    is_sandbox = account.is_sandbox or sync.sandboxed
    id = f"c-{token_hex(3)}"
    # Two rows with one digest are one job.
    prices = {row.digest: row.price_usd or terms.max_usd_per_row or Decimal(0) for row in rows}
    total = sum(prices.values(), Decimal(0))
    digest = sha256_of([[row.digest, row.output, str(row.price_usd)] for row in rows])
    campaign = Campaign(
        id=id,
        account=account.name,
        base_url=account.base_url,
        is_sandbox=is_sandbox,
        name=clean(terms.name, _NAME_LIMIT),
        digest=digest,
        total_usd=total,
        budget_usd=terms.budget_usd,
        max_usd_per_row=terms.max_usd_per_row,
        source=str(terms.source),
        folder=str(terms.folder),
        created_at=guard.ledger.store.now(),
    )
    return Plan(campaign, [replace(row, campaign=id) for row in rows], notes)


def _draft(line: Line, terms: Terms) -> _Draft:
    inputs: list[dict[str, Any]] = []
    columns: list[str] = []
    paths: dict[int, str] = {}

    def add(column: str, text: str | None) -> None:
        if text is None:
            return
        item: dict[str, Any] = {"type": column}
        if _URL.match(text):
            item["url"] = text
        elif text.startswith(_ASSET) or _UUID.fullmatch(text):
            item["asset_id"] = text.removeprefix(_ASSET).strip()
        else:
            paths[len(inputs)] = item["path"] = _beside(terms.beside, text)
        inputs.append(item)
        columns.append(column)

    for column, text in (("video", line.video), ("image", line.image), ("audio", line.audio)):
        add(column, text)
    if line.script is not None:
        inputs.append({"type": "text", "script": line.script, "voice_id": line.voice or ""})
        columns.append("script")
    fields: dict[str, Any] = {"input": inputs}
    if line.model or terms.model:
        fields["model"] = line.model or terms.model
    if line.options:
        fields["options"] = dict(line.options)
    if line.language is not None:
        fields["dub"] = {"target_lang": line.language}
    return _Draft(line, fields, columns, paths)


def _beside(folder: Path, text: str) -> str:
    """Return a path as it is opened: one that is not absolute lies beside the file that names it."""
    is_whole = text.startswith("~") or PurePath(text).is_absolute() or text.lower().startswith("file:")
    return text if is_whole else str(folder / text)


async def _make_requests(facts: AccountFacts, drafts: Sequence[_Draft], faults: _Faults) -> None:
    for draft in drafts:
        try:
            if draft.line.output is not None:
                check_name(draft.line.output)
            draft.request = await make_request(facts, draft.fields)
        except InvalidRequestError as error:
            for fault in error.faults:
                faults.add(draft.line, _by_columns(fault, draft.columns))


def _by_columns(fault: str, columns: Sequence[str]) -> str:
    """Return a fault with the names of columns in place of those of a request's inputs."""

    def name(found: re.Match[str]) -> str:
        number = int(found[1])
        return columns[number] if number < len(columns) else found[0]

    told = _INPUT.sub(name, fault).removesuffix(TELL_VOICES)
    return told.replace("script.voice_id", "voice").replace("dub.target_lang", "language")


async def _read_files(reader: LocalReader, drafts: Sequence[_Draft], faults: _Faults, terms: Terms) -> None:
    """Open, look at and hash each local file once, however many rows have it."""
    wanted: set[tuple[str, MediaKind]] = {
        (path, _kind_of(draft, number)) for draft in drafts for number, path in draft.paths.items()
    }
    found: dict[tuple[str, MediaKind], InputFile | FileRefused] = {}
    limiter = anyio.CapacityLimiter(_FILES_AT_ONCE)

    async def read(path: str, kind: MediaKind) -> None:
        async with limiter:
            try:
                media = await reader.read(path, kind, until=math.inf, progress_of=_no_progress)
            except FileRefused as error:
                found[path, kind] = error
            else:
                # Thousands of files are not kept open: at its turn a row opens its own anew.
                await run_sync(media.file.close)
                found[path, kind] = media
            terms.tell("files", len(found), len(wanted))

    async with anyio.create_task_group() as tasks:
        for path, kind in wanted:
            tasks.start_soon(read, path, kind)
    for draft in drafts:
        media: dict[int, InputFile] = {}
        for number, path in draft.paths.items():
            each = found[path, _kind_of(draft, number)]
            if isinstance(each, FileRefused):
                faults.add(draft.line, f"{draft.columns[number]}: {each.message}")
            else:
                media[number] = each
        if draft.request is not None and media and len(media) == len(draft.paths):
            draft.media = media
            put_files(draft.request, media)


def _no_progress(_: str) -> OnProgress:
    async def ignore(_: Transfer) -> None:
        pass

    return ignore


def _kind_of(draft: _Draft, number: int) -> MediaKind:
    match draft.columns[number]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case _:
            return "video"


async def _measure(
    facts: AccountFacts, reader: LocalReader, drafts: Sequence[_Draft], faults: _Faults
) -> None:
    """Find out how long the videos will be, and whether the models and the plan can make them."""
    limiter = anyio.CapacityLimiter(_PRICES_AT_ONCE)

    async def measure_one(draft: _Draft, media: Mapping[int, InputFile]) -> None:
        assert draft.request is not None
        async with limiter:
            files = InputFiles(facts.client, reader, media)
            try:
                await measure(facts, draft.request, files, until=math.inf)
            except InvalidRequestError as error:
                for fault in error.faults:
                    faults.add(draft.line, _by_columns(fault, draft.columns))
            draft.files = files

    async with anyio.create_task_group() as tasks:
        for draft in drafts:
            if draft.media:
                tasks.start_soon(measure_one, draft, draft.media)


async def _price(
    guard: Guard, sync: AsyncSync, drafts: Sequence[_Draft], faults: _Faults, terms: Terms
) -> None:
    """Ask for the price of each row; what cannot be told now ends the plan, what nobody knows is a fault."""
    limiter = anyio.CapacityLimiter(_PRICES_AT_ONCE)
    failures: list[SyncError] = []
    done = 0

    async with anyio.create_task_group() as tasks:

        async def price_one(draft: _Draft) -> None:
            nonlocal done
            assert draft.request is not None
            async with limiter:
                try:
                    draft.act = GenerationAct.of(draft.request)
                    draft.price = await _ask_price(guard, sync, draft)
                except InvalidRequestError as error:
                    for fault in error.faults:
                        faults.add(draft.line, _by_columns(fault, draft.columns))
                except APIStatusError as error:
                    if error.retryable or isinstance(error, AuthenticationError):
                        failures.append(error)
                        tasks.cancel_scope.cancel()
                    faults.add(draft.line, error.whole_message)
                except SyncError as error:
                    failures.append(error)
                    tasks.cancel_scope.cancel()
            done += 1
            terms.tell("prices", done, len(drafts))

        for draft in drafts:
            tasks.start_soon(price_one, draft)
    if failures:
        raise failures[0]
    for draft in drafts:
        if draft.price is None or draft.act is None:
            continue
        for fault in draft.act.faults_at(draft.price):
            faults.add(draft.line, fault)
        if draft.price.usd is None and terms.max_usd_per_row is None:
            why = f": {draft.price.note}" if draft.price.note else ""
            faults.add(draft.line, f"its price is not known{why}. {_GIVE_MOST}")


_GIVE_MOST = "Say what such a row may cost: max_usd_per_row (--max-usd-per-row)."


async def _ask_price(guard: Guard, sync: AsyncSync, draft: _Draft) -> Price:
    assert draft.act is not None
    while True:
        price = await guard.pricing.price(sync, draft.act, _ASKING, files=draft.files)
        if isinstance(price.fault, RateLimitError):
            await anyio.sleep(price.fault.retry_after_seconds or _PAUSE_SECONDS)
        elif price.fault is not None and price.fault.retryable:
            # It can be told, only not now: a plan stands on what is known.
            raise price.fault
        else:
            return price


_ASKING: RequestOptions = {"timeout_in_seconds": 60.0, "max_retries": 4}


def _make_rows(account: Account, drafts: Sequence[_Draft], faults: _Faults) -> tuple[list[Row], list[str]]:
    """Return the rows, and which lines are one; a line that asks for what an earlier one does is none."""
    rows: dict[str, Row] = {}
    notes: list[str] = []
    for draft in drafts:
        line, request, act, price = draft.line, draft.request, draft.act, draft.price
        assert request is not None
        assert act is not None
        assert price is not None
        intention = Intention(act, account.name, account.base_url, line.take)
        # The first that is free, or that has the same video already.
        names = list_names(line, request)
        output = next(name for name in names if _is_free(rows.get(name.casefold()), intention, line))
        same = rows.get(output.casefold())
        if same is not None and same.digest == intention.digest:
            notes.append(f"Line {line.number} asks for the video of line {same.line}: it is made once.")
        elif same is not None:
            faults.add(line, f"output {output} is that of line {same.line} too: give each its own.")
        else:
            rows[output.casefold()] = Row(
                campaign="",
                number=len(rows) + 1,
                line=line.number,
                about=intention.about,
                language=request.dub.target_lang if request.dub is not None else "",
                request=_keep(draft, request),
                digest=intention.digest,
                take=line.take,
                price_usd=price.usd,
                output=output,
            )
    if len(notes) > _NOTES:
        notes[_NOTES - 1 :] = [f"So do {len(notes) - _NOTES + 1} more lines."]
    return list(rows.values()), notes


def _is_free(row: Row | None, intention: Intention, line: Line) -> bool:
    return row is None or row.digest == intention.digest or line.output is not None


def _note_unpriced(rows: Sequence[Row], most_usd: Decimal | None) -> list[str]:
    unpriced = sum(row.price_usd is None for row in rows)
    if not unpriced or most_usd is None:
        return []
    have = count_of(unpriced, "row has", "rows have")
    return [f"{have} no known price and counts {dollars(most_usd)}: what it costs is known once it is made."]


def _keep(draft: _Draft, request: GenerationRequest) -> Json:
    """Return all that a row is made of at its turn."""
    files = [
        {
            "input": number,
            "path": path,
            "type": _kind_of(draft, number),
            "sha256": draft.media[number].sha256,
            "name": draft.media[number].name,
        }
        for number, path in draft.paths.items()
    ]
    return cast(Json, {"body": by_content(request).to_wire(), "files": files})
