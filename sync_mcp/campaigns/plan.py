"""A campaign's plan: its lines made into rows, each with its request, its files and its price.

Nothing is uploaded, made or paid. All that is wrong is said at once, with the number of each line.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TypeVar, cast

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.formats import MediaKind
from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.api.news import News
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.campaigns.drafts import Draft, draft_line, find_odd_texts
from sync_mcp.campaigns.faults import Faults
from sync_mcp.campaigns.outputs import name_output
from sync_mcp.campaigns.priced import Priced, make_rows, note_over_limit, note_refused, note_unpriced, refuse
from sync_mcp.campaigns.rows import Campaign, Row, count_usd
from sync_mcp.campaigns.table import Line, Table, check_number
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
from sync_mcp.payments.price import Price
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.input_files import InputFiles, find_gone_links, measure, put_files
from sync_mcp.requests.lookups import TELL_VOICES, match_voices
from sync_mcp.requests.model_purposes import MODEL_PURPOSES
from sync_mcp.requests.wanted import make_request
from sync_mcp.texts import clean

_FILES_AT_ONCE = 4
_PRICES_AT_ONCE = 8
_PAUSE_SECONDS = 1.0
_MOST_PAUSES = 60
_LOOK_SECONDS = 20.0
_NAME_LIMIT = 80
_ASKING: RequestOptions = {"timeout_in_seconds": 60.0, "max_retries": 4}
_GIVE_MOST = "Say what such a row may cost: max_usd_per_row (--max-usd-per-row)."

_ItemT = TypeVar("_ItemT")


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
        source: the file that it is planned from, or the folder of its clips: what lies beside may be read;
            None where nothing there may.
        folder: where the videos and the report go.
        beside: from where relative paths are read.
        model: where a line names none; None for the API's usual one.
        budget_usd: the most that it may spend.
        max_usd_per_row: what a row counts whose price nobody can tell.
        keep_going: whether a line that cannot be made becomes a row that says so, and stops no other.
        on_progress: is told how many rows of how many are read or priced by now.
    """

    name: str
    source: Path | None
    folder: Path
    beside: Path
    model: str | None = None
    budget_usd: Decimal | None = None
    max_usd_per_row: Decimal | None = None
    keep_going: bool = False
    on_progress: Callable[[str, int, int], None] | None = None

    def tell(self, what: str, done: int, of: int) -> None:
        """Tell how far the plan is."""
        if self.on_progress is not None:
            self.on_progress(what, done, of)


async def make_plan(
    guard: Guard, facts: AccountFacts, reader: LocalReader, table: Table, terms: Terms
) -> Plan:
    """Return the plan of a campaign's lines.

    Raises:
        InvalidRequestError: all that is wrong with them; with `keep_going`, with their file alone.
        FileRefused: the file or the folder has a name that is no text.
        SyncError: prices, voices, models or whose money it is cannot be told now.
    """
    for path in (terms.source, terms.folder):
        if path is not None:
            _check_is_text(path)
    faults = Faults(table.faults)
    if not table.lines or terms.keep_going:
        # Of a file that cannot be read nothing else can be said, whatever the API does; no row stands for it.
        faults.check()
    if not table.faults:
        check_number(len(table.lines))
    planner = _Planner(guard, facts, reader, terms, faults)
    priced = await planner.price(table.lines)
    if terms.keep_going:
        wrong = [refuse(line, found) for line in table.lines if (found := faults.list_of(line))]
        priced = sorted([*priced, *wrong], key=lambda each: each.line.number)
    id = f"c-{token_hex(3)}"
    rows, notes = make_rows(id, priced, faults, keep_going=terms.keep_going)
    if not terms.keep_going:
        faults.check()
    account = planner.check_is_told()
    notes += note_refused(rows)
    notes += note_unpriced(rows, terms.max_usd_per_row)
    notes += note_over_limit(rows, guard.limits.per_job_usd)
    # Two rows with one digest are one job.
    prices = {row.digest: count_usd(row.price_usd, terms.max_usd_per_row) for row in rows}
    campaign = Campaign(
        id=id,
        account=account.name,
        base_url=account.base_url,
        is_sandbox=account.is_sandbox or facts.client.sandboxed,
        name=clean(terms.name, _NAME_LIMIT),
        digest=sha256_of(
            [
                [
                    row.digest,
                    row.output,
                    row.price_usd is None,
                    str(count_usd(row.price_usd, terms.max_usd_per_row)),
                ]
                for row in rows
            ]
        ),
        total_usd=sum(prices.values(), Decimal(0)),
        budget_usd=terms.budget_usd,
        max_usd_per_row=terms.max_usd_per_row,
        source=str(terms.source or ""),
        folder=str(terms.folder),
        created_at=guard.ledger.store.now(),
    )
    return Plan(campaign, rows, notes)


def _check_is_text(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise FileRefused(
            f"The name {clean(str(path), _NAME_LIMIT)} has letters that are no text.",
            code="file_not_allowed",
            next_step="Give the file or the folder another name.",
        ) from None


class _Planner:
    """Finds out what each line comes to, and what is wrong with it.

    Once something cannot be told now there will be no plan: only what needs no API is looked at further.
    """

    def __init__(
        self, guard: Guard, facts: AccountFacts, reader: LocalReader, terms: Terms, faults: Faults
    ) -> None:
        self._guard = guard
        self._facts = facts
        self._reader = reader
        self._terms = terms
        self._faults = faults
        self._account: Account | None = None
        self._files: dict[tuple[str, MediaKind], InputFile | FileRefused] = {}
        self._read = News()
        self._voices: Mapping[str, tuple[str, str | None]] = {}
        self._some_voice: str | None = None
        self._has_lists = False
        self._failure: SyncError | None = None

    def check_is_told(self) -> Account:
        """Return whose money it is.

        Raises:
            SyncError: this or something else could not be told.
        """
        if self._failure is not None:
            raise self._failure
        assert self._account is not None
        return self._account

    async def price(self, lines: Sequence[Line]) -> list[Priced]:
        """Return what each line comes to that is right, in their order."""
        await self._ask_lists(lines)
        found: dict[int, Priced] = {}
        done = 0

        async def price_one(item: tuple[int, Line]) -> None:
            nonlocal done
            number, line = item
            wrong: list[str] = []
            priced = await self._price_line(line, wrong)
            for fault in wrong:
                self._faults.add(line, fault)
            if priced is not None and not wrong:
                found[number] = priced
            done += 1
            self._terms.tell("prices", done, len(lines))

        # Prices are asked for while files are read still: each takes another's time.
        both = (
            partial(self._read_files, lines),
            partial(_do_each, enumerate(lines), price_one, at_once=_PRICES_AT_ONCE),
        )
        await _do_each(both, _call, at_once=2)
        return [found[number] for number in sorted(found)]

    async def _ask_lists(self, lines: Sequence[Line]) -> None:
        """Ask whose money it is, and for what the lines name, once for all of them."""
        voices = {line.voice for line in lines if line.script is not None and line.voice}
        try:
            self._account = await self._guard.account(self._facts.client)
            if any(map(self._names_model_of_list, lines)):
                await self._facts.lists.models()
            if voices:
                listed = await self._facts.lists.voices()
                self._some_voice = next((voice.id for voice in listed), None)
                self._voices = await match_voices(self._facts, sorted(voices))
            self._has_lists = True
        except SyncError as error:
            self._failure = error

    def _names_model_of_list(self, line: Line) -> bool:
        """Return whether only the API's list tells whether there is its model."""
        model = line.model or self._terms.model
        return model is not None and model not in MODEL_PURPOSES

    async def _read_files(self, lines: Sequence[Line]) -> None:
        """Open, look at and hash each local file once, however many rows have it."""
        drafts = (draft_line(line, self._terms.beside) for line in lines)
        wanted = {place: None for draft in drafts for place in draft.files.values()}

        async def read(place: tuple[str, MediaKind]) -> None:
            try:
                media = await self._reader.read(*place, until=math.inf, progress_of=_no_progress)
            except FileRefused as error:
                self._files[place] = error
            else:
                # Thousands of files are not kept open: at its turn a row opens its own anew.
                await run_sync(media.file.close)
                self._files[place] = media
            self._read.spread()
            self._terms.tell("files", len(self._files), len(wanted))

        await _do_each(wanted, read, at_once=_FILES_AT_ONCE)

    async def _price_line(self, line: Line, wrong: list[str]) -> Priced | None:
        """Return what a line comes to, or None; where that is the line's own fault, `wrong` says why."""
        wrong += find_odd_texts(line)
        if line.fault is not None:
            wrong.append(line.fault)
        if wrong:
            return None
        output = None
        try:
            output = name_output(line)
        except InvalidRequestError as error:
            wrong += error.faults
        draft = draft_line(line, self._terms.beside)
        media: dict[int, InputFile] = {}
        await self._read.until(lambda: self._files.keys() >= set(draft.files.values()))
        for number, place in draft.files.items():
            found = self._files[place]
            if isinstance(found, FileRefused):
                wrong.append(f"{draft.columns[number]}: {found.message}")
            else:
                media[number] = found
        request = await self._make_request(draft, wrong)
        if wrong or request is None or self._failure is not None:
            return None
        put_files(request, media)
        try:
            return await self._price_request(draft, request, media, output, wrong)
        except InvalidRequestError as error:
            wrong += [draft.tell(fault) for fault in error.faults]
        except SyncError as error:
            is_of_all = error.retryable or isinstance(error, AuthenticationError)
            if isinstance(error, APIStatusError) and not is_of_all:
                wrong.append(draft.tell(error.whole_message))
            else:
                self._failure = self._failure or error
        return None

    async def _make_request(self, draft: Draft, wrong: list[str]) -> GenerationRequest | None:
        line = draft.line
        needs_lists = line.script is not None or self._names_model_of_list(line)
        if needs_lists and not self._has_lists:
            return None
        voice, fault = self._voices.get(line.voice or "", (line.voice, None))
        if fault is not None:
            wrong.append(f"voice {fault.removesuffix(TELL_VOICES)}")
            # With another one all else that is wrong is found too.
            voice = self._some_voice or voice
        try:
            return await make_request(self._facts, draft.list_fields(self._terms.model, voice))
        except InvalidRequestError as error:
            wrong += [draft.tell(fault) for fault in error.faults]
        except SyncError as error:
            self._failure = self._failure or error
        return None

    async def _price_request(
        self,
        draft: Draft,
        request: GenerationRequest,
        media: Mapping[int, InputFile],
        output: str | None,
        wrong: list[str],
    ) -> Priced:
        """Return what a request comes to; `wrong` says what is found to be wrong with it on the way.

        Raises:
            InvalidRequestError: the model or the plan cannot make it of these files.
            SyncError: its price cannot be told, now or at all.
        """
        assert self._account is not None
        files = None
        if media:
            files = InputFiles(self._facts.client, self._reader, media)
            await measure(self._facts, request, files, until=math.inf)
            wrong += [draft.tell(reason) for reason in files.gone]
        act = GenerationAct.of(request)
        price = await self._ask_price(act, files)
        if price.usd is None and files is None:
            until = anyio.current_time() + _LOOK_SECONDS
            gone = await find_gone_links(self._facts, request, until=until)
            wrong += [draft.tell(reason) for reason in gone]
        wrong += [draft.tell(fault) for fault in act.faults_at(price)]
        if price.usd is None and self._terms.max_usd_per_row is None and not wrong:
            why = f": {draft.tell(price.note)}" if price.note else ""
            wrong.append(f"its price is not known{why}. {_GIVE_MOST}")
        intention = Intention(act, self._account.name, self._account.base_url, draft.line.take)
        return Priced(
            line=draft.line,
            output=output,
            about=intention.about,
            language=request.dub.target_lang if request.dub is not None else "",
            request=_keep(draft, request, media),
            digest=intention.digest,
            price_usd=price.usd,
        )

    async def _ask_price(self, act: GenerationAct, files: InputFiles | None) -> Price:
        """Return the price of an act; it can be one that nobody knows.

        Raises:
            SyncError: it can be told, only not now: a plan stands on what is known.
        """
        sync = self._facts.client
        pauses = 0
        while True:
            price = await self._guard.pricing.price(sync, act, _ASKING, files=files)
            if price.fault is None or not price.fault.retryable:
                return price
            if not isinstance(price.fault, RateLimitError) or pauses == _MOST_PAUSES:
                raise price.fault
            pauses += 1
            pause = price.fault.retry_after_seconds
            await anyio.sleep(_PAUSE_SECONDS if pause is None else pause)


async def _call(act: Callable[[], Awaitable[None]]) -> None:
    await act()


async def _do_each(
    items: Iterable[_ItemT], act: Callable[[_ItemT], Awaitable[None]], *, at_once: int
) -> None:
    """Act on each of many items; the first error ends it, and is raised as it is."""
    left: Iterator[_ItemT] = iter(items)
    errors: list[Exception] = []

    async def act_in_turn() -> None:
        try:
            for item in left:
                await act(item)
        except Exception as error:  # noqa: BLE001 - a task group would put it into a group of its own
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(act_in_turn)
    if errors:
        raise errors[0]


def _no_progress(_: str) -> OnProgress:
    async def ignore(_: Transfer) -> None:
        pass

    return ignore


def _keep(draft: Draft, request: GenerationRequest, media: Mapping[int, InputFile]) -> Json:
    """Return all that a row is made of at its turn."""
    files = [
        {
            "input": number,
            "path": path,
            "type": kind,
            "sha256": media[number].sha256,
            "name": media[number].name,
        }
        for number, (path, kind) in draft.files.items()
    ]
    return cast(Json, {"body": by_content(request).to_wire(), "files": files})
