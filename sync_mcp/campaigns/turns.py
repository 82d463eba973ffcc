"""One turn of a row: made through the guard, waited for, fetched; and what is to become of it next.

A turn may be repeated at any place: the guard gives back the job that is there. What came of it is written
after the ledger's entry.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Generation, GenerationRequest, LocalMedia
from sync_mcp.background.watching import Watcher
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.ends import Ends
from sync_mcp.campaigns.rows import Campaign, CampaignState, Row, RowState, count_usd, request_of
from sync_mcp.campaigns.tables import LONGEST_WAIT_SECONDS
from sync_mcp.errors import (
    APIStatusError,
    ApprovalDenied,
    ApprovalRequired,
    AuthenticationError,
    ConcurrencyLimitError,
    ConfigurationError,
    FileRefused,
    InvalidRequestError,
    LedgerError,
    LimitReached,
    NotVisibleYet,
    OutcomeUnknown,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    SyncError,
    UnderWay,
)
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.saving import Saved, save
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.metering import FAILED_FREE_AFTER_SECONDS
from sync_mcp.payments.price import Price
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.input_files import InputFiles, measure
from sync_mcp.texts import MESSAGE_LIMIT, clean, safe

logger = logging.getLogger("sync_mcp.campaigns")

MOST_FREE_FAILURES = 2
"""So often a row that failed free is made again."""
_BY_THE_PLAN = ("generation_plan_duration_exceeded", "plan_feature_unavailable")
"""What the API calls a matter of payment, and is one of this row: the others may be made."""
_OF_THE_ACCOUNT = "account_"
"""Begins what the API calls a refusal of all; of what it names otherwise, such as an asset, others may go."""
_MOST_LOOKS = 3
_SOON_SECONDS = 15.0
_LATER_SECONDS = 60.0
_LEDGER_PAUSE_SECONDS = 5.0
_LONGEST_LEDGER_PAUSE_SECONDS = 60.0
_PATH_LIMIT = 4096
_NAME_LIMIT = 200

_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the turns of one account's rows need.

    Attributes:
        facts: the account.
        guard: what every payment goes through.
        book: where rows are written.
        watcher: what turns wait for a slot by, where others use the account's.
        ends: what they wait for their jobs by.
        fresh: jobs that have just ended, by their ids.
        work: in which files are read and uploaded.
        roots_of: where a campaign's files are read and its videos saved.
    """

    facts: AccountFacts
    guard: Guard
    book: CampaignBook
    watcher: Watcher
    ends: Ends
    work: Work
    roots_of: Callable[[Campaign], MediaRoots]
    fresh: dict[str, Generation] = field(default_factory=dict[str, Generation])

    def reader_of(self, campaign: Campaign) -> LocalReader:
        """Return what a campaign's local files are read by; blocks."""
        return LocalReader(self.roots_of(campaign), self.work)


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn.

    Attributes:
        row: what is written into the row; its `state` says how it goes on.
        campaign: what becomes of the campaign, where it cannot go on now.
        reason: why, for the user.
        resumes_at: when it goes on by itself, in seconds since 1970.
        is_closed: whether the API took nothing, whatever row it was.
    """

    row: Mapping[str, Any] = field(default_factory=dict[str, Any])
    campaign: CampaignState | None = None
    reason: str | None = None
    resumes_at: float | None = None
    is_closed: bool = False


async def make_row(place: Workplace, campaign: Campaign, row: Row) -> Turn:
    """Have a row's video made, or say what is next; the ledger is waited for, however long it takes."""
    generation: Generation | None = None
    try:
        if row.attempts and row.generation_id is not None and not row.is_begun:
            # It failed, and whether that was charged was not known then.
            failed = await place.facts.client.generations.get(row.generation_id)
            return await _after_failure(place, failed, attempts=row.attempts, is_last_look=True)
        generation = made = await _past_ledger(lambda: _make(place, campaign, row))
        await _past_ledger(lambda: do_in_thread(lambda: place.book.note(row, generation_id=made.id)))
        generation = await place.ends.wait(generation)
        if generation.status == "COMPLETED":
            place.fresh[generation.id] = generation
            done = {"attempts": 0, "looks": 0, "is_begun": False, "error": None}
            return Turn({"state": "made", "generation_id": generation.id, **done})
        return await _after_failure(place, generation, attempts=row.attempts + 1)
    except SyncError as error:
        turn = _after_error(place, campaign, row, error)
        if turn.row["state"] == "refused" and (generation or row.generation_id):
            # There is a job, whatever the API says of it now.
            return replace(turn, row={**turn.row, "state": "unknown"})
        return turn


async def save_row(place: Workplace, campaign: Campaign, row: Row) -> Turn:
    """Fetch a row's video, check it and save it, or say what is next."""
    assert row.generation_id is not None
    try:
        # Its output's address is as fresh as its end; a job of an earlier run is read again.
        known = place.fresh.pop(row.generation_id, None)
        generation = known or await place.facts.client.generations.get(row.generation_id)
        saved = await _save(place, campaign, row, generation)
    except SyncError as error:
        return _after_unsaved(place, row, error)
    path = _spell(saved.path)
    if not saved.failures:
        return Turn({"state": "saved", "saved_as": path, "looks": 0, "error": None})
    failed = " and ".join(saved.failures)
    name = clean(saved.path.name, _NAME_LIMIT)
    told = f"Its video fails the check ({failed}): look at {name}; retry fetches it again."
    return Turn({"state": "unsaved", "saved_as": path, "error": told})


async def _past_ledger(act: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
    """Do what needs the ledger, and again for as long as that cannot be had: no row ends of it."""
    pause = _LEDGER_PAUSE_SECONDS
    while True:
        try:
            return await act()
        except LedgerError as error:
            logger.warning("the ledger is waited for: %s", error)
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LEDGER_PAUSE_SECONDS)


async def prepare_row(place: Workplace, campaign: Campaign, row: Row) -> None:
    """Have a row's files read and uploaded before its turn: then its slot does not wait for them.

    Raises:
        SyncError: they cannot be; its turn will say so.
    """
    reader = await run_sync(place.reader_of, campaign)
    media: dict[int, InputFile] = {}
    try:
        await _open_files(reader, row, request_of(row), media)
        await InputFiles(place.facts.client, reader, media).upload(place.facts.client)
    finally:
        await _close(media)


async def _make(place: Workplace, campaign: Campaign, row: Row) -> Generation:
    """Return the job of a row, which is made where there is none yet.

    Raises:
        SyncError: as `Guard.create`; or a file is not what it was when it was planned.
    """
    reader = await run_sync(place.reader_of, campaign)
    media: dict[int, InputFile] = {}
    try:
        request = request_of(row)
        files: LocalFiles | None = None
        try:
            await _open_files(reader, row, request, media)
        except FileRefused as error:
            # Of a job that is there already nobody needs them any more.
            files = _NoFiles(error)
        else:
            if media:
                files = opened = InputFiles(place.facts.client, reader, media)
                await measure(place.facts, request, opened, until=anyio.current_time() + _LATER_SECONDS)
        if row.begun > 1:
            # A death has met it. What ends the runner from here on is not this row: its files are read.
            await do_in_thread(partial(place.book.note, row, begun=0))
        call = PaidCall(
            place.facts.client,
            GenerationAct.of(request),
            take=row.take,
            tool="campaign",
            max_cost_usd=row.price_usd if row.price_usd is not None else campaign.max_usd_per_row,
            planned=None if row.price_usd is None else Price(row.price_usd),
            campaign=campaign.id,
            files=files,
            is_agreed=True,
            slot_until=math.inf,
            watcher=place.watcher,
        )
        try:
            return (await place.guard.create(call)).job
        except LimitReached as error:
            is_of_this_row = error.limit == "max_cost_usd" and row.price_usd is None
            if not is_of_this_row or error.price_usd is not None or error.retryable:
                raise
            # Nobody can tell its price at its turn either, and the user has said what it may count.
            return (await place.guard.create(replace(call, max_cost_usd=None))).job
    finally:
        await _close(media)


@dataclass(frozen=True, slots=True)
class _NoFiles:
    """The local files of a row, of which one cannot be read or is another by now: none is uploaded."""

    error: FileRefused
    output_seconds: float | None = None
    fps: float | None = None
    length_note: str | None = None
    hint_helps: bool = False

    async def upload(self, sync: AsyncSync) -> Mapping[str, str]:
        del sync
        raise self.error

    async def find_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:
        del sync
        return None

    async def report(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def under_way(self) -> SyncError:
        return self.error


async def _close(media: Mapping[int, InputFile]) -> None:
    with anyio.CancelScope(shield=True):
        for each in media.values():
            await run_sync(each.file.close)


async def _open_files(
    reader: LocalReader, row: Row, request: GenerationRequest, media: dict[int, InputFile]
) -> None:
    """Open the local files of a row, into `media` by their numbers among its inputs.

    Raises:
        FileRefused: one cannot be read, or holds something else than when it was planned.
    """
    for each in cast(Sequence[Mapping[str, Any]], cast(Mapping[str, Any], row.request)["files"]):
        found = await reader.read(each["path"], each["type"], until=math.inf, progress_of=lambda _: _ignore)
        if found.sha256 != each["sha256"]:
            await run_sync(found.file.close)
            raise FileRefused(
                f"{found.name} is not the file that was planned: it was changed since.",
                code="file_changed",
                next_step="Plan a campaign with the file as it is now; nothing was sent for this row.",
            )
        # The canonical form may have put the inputs in another order.
        for number, item in enumerate(request.input):
            if isinstance(item, LocalMedia) and (item.type, item.sha256) == (each["type"], each["sha256"]):
                media[number] = found


async def _ignore(_: object) -> None:
    pass


async def _save(place: Workplace, campaign: Campaign, row: Row, generation: Generation) -> Saved:
    roots = await run_sync(place.roots_of, campaign)
    folder = Path(campaign.folder)
    with suppress(OSError):
        # Where it cannot be made, the next line says so.
        await run_sync(partial(folder.mkdir, parents=True, exist_ok=True))
    destination = await run_sync(roots.destination, str(folder / row.output), row.output)
    saved = await save(place.facts.client, generation, destination, roots)
    if not saved.failures:
        path = clean(str(saved.path), _PATH_LIMIT)
        await _past_ledger(lambda: place.guard.note_saved(place.facts.client, generation.id, path))
    return saved


def _spell(path: Path) -> str:
    """Return a path as the database takes it: letter for letter, where it is a text."""
    return str(path).encode(errors="replace").decode()


async def _after_failure(
    place: Workplace, generation: Generation, *, attempts: int, is_last_look: bool = False
) -> Turn:
    """Return how a row goes on whose job ended without a video, so many of its jobs by now."""
    entry = await _past_ledger(lambda: place.guard.settle_failure(place.facts.client, generation))
    charged = "unknown" if entry is None else entry.charged
    said = safe(generation.error or generation.error_code or generation.status, MESSAGE_LIMIT)
    failed = {"generation_id": generation.id, "attempts": attempts}
    if charged == "yes" or (charged == "unknown" and is_last_look):
        fate = "was" if charged == "yes" else "may have been"
        return Turn(
            {**failed, "state": "charged", "error": f"It failed and {fate} charged: {said} {_PAY_AGAIN}"}
        )
    if charged == "unknown":
        # A cost of nothing is believed some minutes after the end of a job: then it is looked at again.
        pause = FAILED_FREE_AFTER_SECONDS + _SOON_SECONDS
        return _again(place, f"It failed: {said}", pause, is_begun=False, **failed)
    if attempts > MOST_FREE_FAILURES:
        told = f"It failed {attempts} times, free: {said} Change its clip or its model, then retry it."
        return Turn({**failed, "state": "failed", "error": told})
    # It is made anew, as if it had never been begun.
    anew = {"generation_id": None, "is_begun": False, "looks": 0}
    return _again(place, f"It failed, free: {said}", 0.0, attempts=attempts, **anew)


_MOVE_AWAY = "Move that elsewhere, then retry: it is fetched again, and not made again."
_MAKE_ROOM = (
    "See that its folder may be written to and has room, then retry: it is fetched again, and not made again."
)
_PAY_AGAIN = "Made again it is paid again: retry does that."


def _again(place: Workplace, why: str, seconds: float, **changes: Any) -> Turn:
    """Have a row take another turn in a while."""
    state: RowState = "planned"
    not_before = place.book.store.now() + min(seconds, LONGEST_WAIT_SECONDS)
    return Turn({"state": state, "not_before": not_before, "error": why, **changes})


def _after_error(place: Workplace, campaign: Campaign, row: Row, error: SyncError) -> Turn:
    """Return how a row goes on that could not be made, or whose job cannot be seen."""
    told = f"{error.whole_message} {error.next_step}".strip()
    pause = error.retry_after_seconds
    in_doubt = {"is_begun": True, "looks": row.looks + 1}
    match error:
        case LimitReached():
            return _after_limit(place, campaign, row, error)
        case ApprovalRequired() | ApprovalDenied():
            return Turn({"state": "charged", "error": f"{error.message} {_PAY_AGAIN}"})
        case NotVisibleYet() if error.may_appear:
            return _again(place, told, _LATER_SECONDS, **in_doubt)
        case OutcomeUnknown() if row.looks < _MOST_LOOKS:
            return _again(place, told, max(pause or 0.0, _LATER_SECONDS), **in_doubt)
        case OutcomeUnknown() | NotVisibleYet():
            return Turn({"state": "unknown", "error": told})
        case UnderWay():
            return _again(place, told, _SOON_SECONDS, **in_doubt)
        case FileRefused(code="file_too_slow") if row.looks < _MOST_LOOKS:
            # It was fast enough for the plan: by now the machine is busy, or was asleep meanwhile.
            return _again(place, told, _LATER_SECONDS, looks=row.looks + 1)
        case ConcurrencyLimitError() | RateLimitError():
            return _again(place, told, pause or _SOON_SECONDS)
        case PaymentRequiredError() if error.api_code in _BY_THE_PLAN:
            return Turn({"state": "refused", "error": told})
        case PermissionDeniedError() if error.api_code and not error.api_code.startswith(_OF_THE_ACCOUNT):
            return Turn({"state": "refused", "error": told})
        case AuthenticationError() | PaymentRequiredError() | PermissionDeniedError() | ConfigurationError():
            return replace(_again(place, told, 0.0), campaign="paused", reason=told)
        case _ if error.retryable:
            return replace(_again(place, told, 0.0), is_closed=True, reason=told)
        case InvalidRequestError() | FileRefused() | APIStatusError():
            return Turn({"state": "refused", "error": told})
        case _:
            return Turn({"state": "unknown" if error.money_spent != "no" else "refused", "error": told})


_LIMITS: Mapping[str, str] = {
    "per_job_usd": "the limit for one job",
    "per_day_usd": "the budget of a day (UTC)",
    "ever_usd": "the whole budget",
}
"""As users of the command and of the server read of them, who set them by other names than a program does."""


def _tell_limit(error: LimitReached) -> str:
    limit = _LIMITS.get(error.limit or "")
    if limit is None or error.price_usd is None or error.limit_usd is None:
        return error.message
    left = (
        f", of which {dollars(error.left_usd)} is left"
        if error.left_usd is not None and error.limit != "per_job_usd"
        else ""
    )
    return f"It would cost {dollars(error.price_usd)}, and {limit} is {dollars(error.limit_usd)}{left}."


def _after_limit(place: Workplace, campaign: Campaign, row: Row, error: LimitReached) -> Turn:
    told_limit = _tell_limit(error)
    planned = _again(place, told_limit, 0.0)
    if error.retryable:
        reason = f"The API cannot tell now what row {row.number} costs."
        return replace(planned, is_closed=True, reason=reason)
    if error.limit == "max_cost_usd":
        cost = "is not known" if error.price_usd is None else f"is {dollars(error.price_usd)}"
        most = dollars(count_usd(row.price_usd, campaign.max_usd_per_row))
        was = f"and was planned at {most}" if row.price_usd is not None else f"and may be {most}"
        told = f"Its price {cost} now, {was}: nothing was sent."
        return Turn({"state": "dearer", "dearer_usd": error.price_usd, "error": told})
    is_ever_possible = error.limit_usd is None or (error.price_usd or 0) <= error.limit_usd
    if error.until is not None and is_ever_possible:
        # The day is the API's: this machine's clock may differ.
        until = error.until.astimezone(UTC)
        seconds = until.timestamp() - place.facts.client.api_time.timestamp()
        reason = f"{told_limit} It goes on at {until:%Y-%m-%d %H:%M} UTC."
        resumes_at = place.book.store.now() + max(seconds, 0.0)
        return replace(planned, campaign="waiting", reason=reason, resumes_at=resumes_at)
    if error.limit == "ever_usd":
        # A row that fits may come later: but what the user let be spent is spent.
        return replace(planned, campaign="paused", reason=f"{told_limit} {error.next_step}".strip())
    return Turn({"state": "refused", "error": f"{told_limit} {error.next_step}".strip()})


def _after_unsaved(place: Workplace, row: Row, error: SyncError) -> Turn:
    """Return how a row goes on that was made and could not be saved: it is fetched again, not made."""
    way_on = error.next_step
    if isinstance(error, FileRefused):
        way_on = _MOVE_AWAY if error.code == "file_exists" else _MAKE_ROOM
    told = f"Its video was made, and cannot be saved: {error.whole_message} {way_on}".strip()
    looks = row.looks + 1
    if error.retryable and looks <= _MOST_LOOKS:
        not_before = place.book.store.now() + _LATER_SECONDS
        return Turn({"state": "made", "looks": looks, "not_before": not_before, "error": told})
    return Turn({"state": "unsaved", "looks": looks, "error": told})
