"""The tools for what jobs did cost: by the job, the model, the project and the day, and as a file."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.models import GenerationCost
from sync_mcp.api.uploads import OnProgress
from sync_mcp.api.usage import UsageItem
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import (
    FileRefused,
    InvalidRequestError,
    LedgerError,
    NotFoundError,
    PermissionDeniedError,
    SyncError,
    UnderWay,
)
from sync_mcp.media.tables import save_table
from sync_mcp.payments.bill import Bill, find_projects, read_bill
from sync_mcp.payments.limits import minute
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import ID_LIMIT, REASON_LIMIT, WORD_LIMIT, clean, count_of, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.periods import Period, read_period
from sync_mcp.tools.usage import CostRow, CostsAnswer, CostsArguments, ExportAnswer, ExportArguments

_AT_ONCE = 4
_PATH_LIMIT = 4096
_MODEL_LIMIT = 60
_NO_PROJECT = "none"
_UNKNOWN_PROJECT = "not told: the job was deleted, or is hidden"
_HEAD = (
    *("generation_id", "status", "model", "created_at", "finished_at", "cost_usd", "cost_is_final"),
    *("billed_frames", "api_key", "ledger_entry", "about"),
)

_T = TypeVar("_T")

logger = logging.getLogger("sync_mcp.tools")


async def get_costs(context: CallContext, arguments: CostsArguments) -> CostsAnswer:
    if arguments.generation_ids is not None:
        if arguments.period is not None or arguments.by != "job":
            raise InvalidRequestError(
                "Give generation_ids or a period: by and period go without generation_ids."
            )
        return await _costs_of(context, arguments.generation_ids)
    period = read_period(arguments.period, context.account.client.api_time)
    bill = await _read(context, period, is_first_page=arguments.cursor is None)
    rows = await _ROWS[arguments.by](context, bill)
    begin = read_cursor(arguments.cursor, len(rows))
    shown = rows[begin : begin + arguments.limit]
    if arguments.by == "job":
        await _tell_about(context, shown)
    cursor = str(begin + arguments.limit) if len(rows) > begin + arguments.limit else None
    return CostsAnswer(
        period_from=minute(period.start),
        period_until=minute(period.end),
        jobs=len(bill.rows),
        total_usd=float(bill.total_usd),
        pending=len(bill.pending) or None,
        rows=shown,
        next_cursor=cursor,
        next_step=_next_step(len(bill.rows), len(bill.pending), cursor),
    )


async def export_usage(context: CallContext, arguments: ExportArguments) -> ExportAnswer:
    account = context.account
    period = read_period(arguments.period, account.client.api_time)
    name = f"sync-usage-{period.start:%Y%m%d}-{period.end:%Y%m%d}.csv"
    destination = await run_sync(_destination, context, arguments.path, name)
    bill = await _read(context, period, is_first_page=True)
    known = await _find_entries(context, [str(row.generation_id) for row in bill.rows if row.generation_id])
    lines = [_line(row, known.get(row.generation_id or "")) for row in bill.rows]

    def save() -> ExportAnswer:
        saved = save_table(_HEAD, lines, destination, account.roots, overwrite=arguments.overwrite)
        pending = len(bill.pending)
        open_ = f" {pending} of them have no final cost yet: save it again later." if pending else ""
        return ExportAnswer(
            path=clean(str(saved.path), _PATH_LIMIT),
            bytes=saved.size,
            sha256=saved.sha256,
            jobs=saved.rows,
            total_usd=float(bill.total_usd),
            pending=pending or None,
            next_step=f"Tell the user the path.{open_} compare_ledger says whether the ledger agrees.",
        )

    return await run_sync(save)


async def read_for_pages(
    context: CallContext, key: Hashable, read: Callable[[], Awaitable[_T]], *, is_first_page: bool
) -> _T:
    """Return what `read` returns, for a first page read anew; the pages after it are of that reading.

    A long reading goes on when the call has ended: the same call joins it.
    """
    work = context.account.work

    async def begin(_: OnProgress) -> _T:
        return await read()

    async with _explain_bill():
        found = await work.join(("reading", key) if is_first_page else key, begin, until=context.answer_at)
    if is_first_page:
        # Told once: what the API did not know now it may know the next time.
        work.forget(("reading", key))
        work.forget(key)

        async def keep(_: OnProgress) -> _T:
            return found

        await work.join(key, keep, until=context.answer_at)
    return found


@asynccontextmanager
async def _explain_bill() -> AsyncGenerator[None]:
    """Say of a bill that cannot be read what else there is."""
    try:
        yield
    except (NotFoundError, PermissionDeniedError) as error:
        raise error.advise(
            message="This organization has no usage export, from which the bill is read.",
            next_step="get_costs with generation_ids tells what single jobs did cost; get_account what the "
            "ledger counts.",
        ) from None
    except UnderWay as under_way:
        raise under_way.advise(
            message="Not finished: the bill is long, and is read on in the server.",
            next_step="Make exactly this call again: it joins the reading. Or ask the user for less.",
        ) from None


def read_cursor(cursor: str | None, total: int) -> int:
    """Return at which row a page begins.

    Raises:
        InvalidRequestError: there is none of that number.
    """
    if cursor is None:
        return 0
    if cursor.strip().isdecimal() and len(cursor) < 8 and int(cursor) < total:
        return int(cursor)
    raise InvalidRequestError(
        "cursor is no next_cursor of this list: copy it and keep the other arguments, or leave it out to "
        "begin again."
    )


async def _read(context: CallContext, period: Period, *, is_first_page: bool) -> Bill:
    """Return the bill of a period; the pages after the first show it as the first one was told."""
    client = context.account.client
    key = ("bill", client.key_fingerprint, period)

    async def read() -> Bill:
        return await read_bill(client, period.start, period.end)

    return await read_for_pages(context, key, read, is_first_page=is_first_page)


async def _costs_of(context: CallContext, given: Sequence[str]) -> CostsAnswer:
    ids = list(dict.fromkeys(id.strip() for id in given))
    outcomes: dict[str, GenerationCost | SyncError] = {}
    turns = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(id: str) -> None:
        async with turns:
            try:
                outcomes[id] = await context.account.client.generations.get_cost(
                    id, request_options=context.reading
                )
            except SyncError as error:
                outcomes[id] = error

    async with anyio.create_task_group() as tasks:
        for id in ids:
            tasks.start_soon(ask, id)
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, SyncError)]
    if len(failures) == len(ids):
        raise failures[0]
    told = [outcome for outcome in outcomes.values() if not isinstance(outcome, SyncError)]
    rows = [_row_of(id, outcomes[id]) for id in ids]
    await _tell_about(context, rows)
    pending = sum(cost.final_usd is None for cost in told)
    step = _next_step(len(told), pending, None)
    if failures:
        step = f"Tell the user of which jobs it is not known, and why: list_generations has the ids. {step}"
    return CostsAnswer(
        jobs=len(told),
        total_usd=float(sum((cost.so_far_usd for cost in told), Decimal(0))),
        pending=pending or None,
        rows=rows,
        next_step=step,
    )


def _row_of(id: str, outcome: GenerationCost | SyncError) -> CostRow:
    shown = safe(id, ID_LIMIT)
    if isinstance(outcome, SyncError):
        return CostRow(generation_id=shown, failure=safe(f"{outcome.code}: {outcome.message}", REASON_LIMIT))
    return CostRow(
        generation_id=shown,
        cost_usd=_figure(outcome.final_usd),
        status=safe(outcome.generation_status or "", WORD_LIMIT) or None,
    )


async def _by_job(_: CallContext, bill: Bill) -> list[CostRow]:
    return [
        CostRow(
            generation_id=safe(row.generation_id or "", ID_LIMIT) or None,
            model=safe(row.model or "", _MODEL_LIMIT) or None,
            cost_usd=_figure(row.final_usd),
            status=safe(row.generation_status or "", WORD_LIMIT) or None,
            finished_at=minute(row.finished_at) if row.finished_at else None,
        )
        for row in bill.rows
    ]


async def _by_model(_: CallContext, bill: Bill) -> list[CostRow]:
    sums = _sum_by(bill, lambda row: safe(row.model or "", _MODEL_LIMIT) or "not told")
    return _dearest_first([row.model_copy(update={"model": name}) for name, row in sums.items()])


async def _by_day(_: CallContext, bill: Bill) -> list[CostRow]:
    sums = _sum_by(bill, lambda row: minute(row.finished_at)[:10] if row.finished_at else "not told")
    return [sums[day].model_copy(update={"day": day}) for day in sorted(sums)]


async def _by_project(context: CallContext, bill: Bill) -> list[CostRow]:
    ids = [row.generation_id for row in bill.rows if row.generation_id]
    projects = await find_projects(context.account.client, ids)

    def project_of(row: UsageItem) -> str:
        id = row.generation_id or ""
        return safe(projects[id] or "", ID_LIMIT) or _NO_PROJECT if id in projects else _UNKNOWN_PROJECT

    sums = _sum_by(bill, project_of)
    return _dearest_first([row.model_copy(update={"project_id": id}) for id, row in sums.items()])


_ROWS = {"job": _by_job, "model": _by_model, "day": _by_day, "project": _by_project}


def _sum_by(bill: Bill, name_of: Callable[[UsageItem], str]) -> dict[str, CostRow]:
    groups: dict[str, list[UsageItem]] = {}
    for row in bill.rows:
        groups.setdefault(name_of(row), []).append(row)
    return {name: _sum_of(Bill(rows)) for name, rows in groups.items()}


def _sum_of(part: Bill) -> CostRow:
    return CostRow(jobs=len(part.rows), cost_usd=float(part.total_usd), pending=len(part.pending) or None)


def _dearest_first(rows: list[CostRow]) -> list[CostRow]:
    return sorted(rows, key=lambda row: -(row.cost_usd or 0))


async def _tell_about(context: CallContext, rows: Sequence[CostRow]) -> None:
    """Say of each job what it was, where the ledger knows it."""
    known = await _find_entries(context, [row.generation_id for row in rows if row.generation_id])
    for row in rows:
        entry = known.get(row.generation_id or "")
        if entry is not None:
            row.about = entry.title or None
            row.model = row.model or safe(entry.model, _MODEL_LIMIT) or None


async def _find_entries(context: CallContext, ids: Sequence[str]) -> Mapping[str, Entry]:
    """Return what the ledger has of these jobs, by their ids; nothing where it cannot be read."""
    ledger = context.process.guard.ledger
    try:
        if not ids or not ledger.exists():
            return {}
        return await do_in_thread(ledger.makers_of, ids, context.account.client.base_url)
    except LedgerError as error:
        logger.warning("what the ledger says of jobs cannot be told: %s", error)
        return {}


def _line(row: UsageItem, entry: Entry | None) -> list[str]:
    """Return a job's line of the table, in the order of its head."""
    cost = row.final_usd
    return [
        row.generation_id or "",
        row.generation_status or "",
        row.model or "",
        row.created_at.isoformat() if row.created_at else "",
        row.finished_at.isoformat() if row.finished_at else "",
        f"{row.so_far_usd if cost is None else cost:f}",
        "no" if cost is None else "yes",
        "" if row.billed_frames is None else f"{row.billed_frames:g}",
        clean(row.api_key_name or "", _MODEL_LIMIT),
        str(entry.id) if entry else "",
        entry.title if entry else "",
    ]


def _destination(context: CallContext, path: str | None, name: str) -> Path:
    roots = context.account.roots
    try:
        return roots.destination(path, name)
    except FileRefused as error:
        if not roots.can_save:
            error.advise(
                next_step="Ask the user to set SYNC_MCP_DOWNLOAD_DIR; get_costs tells the same here."
            )
        raise


def _next_step(jobs: int, pending: int, cursor: str | None) -> str:
    steps: list[str] = []
    if pending:
        steps.append(
            f"Of {count_of(pending, 'job')} the cost is not final yet, which may take ten minutes from the "
            "end: then this call again."
        )
    if cursor:
        steps.append(f"For more rows, the same call with cursor {cursor}.")
    elif not jobs:
        steps.append("No job ended then: list_generations shows what runs.")
    steps.append("compare_ledger holds this server's ledger against it.")
    return " ".join(steps)


def _figure(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
