"""The runs of create_batch and get_batch."""

import logging
from collections.abc import Sequence
from datetime import UTC
from functools import partial
from pathlib import Path

from anyio.to_thread import run_sync

from sync_mcp.api.batch_results import BatchResult
from sync_mcp.api.batches import (
    FEWEST_ROWS,
    Batch,
    BatchRow,
    check_number,
    check_rows,
    make_batch_request,
)
from sync_mcp.api.models import RUNNING_STATUSES
from sync_mcp.errors import InvalidRequestError, LedgerError, NotFoundError, SyncError
from sync_mcp.media.tables import save_table
from sync_mcp.payments.acts.act import COMPLETED
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import ID_LIMIT, SAYING_LIMIT, WORD_LIMIT, clean, count_of, plain_id, safe
from sync_mcp.tools.batch import (
    BatchAnswer,
    BatchArguments,
    BatchCounts,
    BatchListRow,
    BatchResultRow,
    CreateBatchAnswer,
    GetBatchArguments,
    RowArguments,
)
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.job_answers import STRANGE
from sync_mcp.tools.paid_calls import advise_without_estimate, call_of_act, check_answer, tell_how
from sync_mcp.tools.requests import read_request

_ROWS_SHOWN = 20
_LISTED = 10
_PATH_LIMIT = 4096
_URL_LIMIT = 8000
_HEAD = ("request_id", "status", "generation_id", "output_url", "error_code", "error")
_LOOK = (
    "A batch takes up to a day: get_batch with this batch_id tells how far it is, wait_for_generations waits "
    "for it too."
)

_ENDED = "It has ended: get_batch with this batch_id tells what came of its rows."

logger = logging.getLogger("sync_mcp.tools")


async def create_batch(context: CallContext, arguments: BatchArguments) -> CreateBatchAnswer:
    rows = await _read_rows(context, arguments.rows)
    act = BatchAct.of(make_batch_request(rows, arguments.webhook_url))
    if arguments.dry_run:
        return await _check(context, act, rows, arguments.webhook_url)
    call = call_of_act(
        context,
        act,
        "create_batch",
        take=arguments.take,
        quote_id=arguments.quote_id,
        max_cost_usd=arguments.max_cost_usd,
    )
    with advise_without_estimate():
        await check_answer(context, call)
        made = await context.process.guard.create(call)
    answer = CreateBatchAnswer(
        status=_status(made.job),
        estimated_cost_usd=None if made.price_usd is None else float(made.price_usd),
        reused=made.reused or None,
        next_step=_ENDED if made.job.finished else _LOOK,
    )
    _put_counts(answer, made.job)
    answer.note = " ".join([*tell_how(made), *made.notes]) or None
    return answer


async def get_batch(context: CallContext, arguments: GetBatchArguments) -> BatchAnswer:
    client = context.account.client
    if arguments.batch_id is None:
        return await _list(context)
    id = arguments.batch_id.strip()
    destination = None
    if arguments.path is not None:
        # Where nothing can be saved, that is said before anything is asked.
        name = f"batch-{plain_id(id) or 'sync'}.csv"
        destination = await run_sync(context.account.roots.destination, arguments.path, name)
    try:
        batch = await client.batches.get(id, request_options=context.reading)
    except NotFoundError as error:
        raise await context.account.explain_missing(id, BatchAct.kind) or error.advise(
            message="This account has no batch by this id.",
            next_step="Copy the batch_id whole: get_batch without it lists the newest.",
        ) from None
    answer = BatchAnswer(status=_status(batch), created_at=_moment(batch), next_step=_LOOK)
    _put_counts(answer, batch)
    if not batch.finished:
        if answer.status not in RUNNING_STATUSES:
            answer.next_step = f"{STRANGE}: get_batch does."
        if destination is not None:
            answer.note = "Nothing was saved: the results come once all its rows have ended."
        return answer
    entry = await _settle(context, batch)
    if entry is not None and entry.cost_usd is not None:
        answer.cost_usd = float(entry.cost_usd)
    elif entry is not None and entry.estimate_usd is not None:
        answer.estimated_cost_usd = float(entry.estimate_usd)
    try:
        results = await client.batches.results(id, request_options=context.reading)
    except NotFoundError as error:
        raise error.advise(
            message="This batch has ended, and the API does not show its results.",
            next_step="Tell the user, and call get_batch again in a while.",
        ) from None
    missing = (answer.total or 0) - len(results)
    if missing > 0:
        rows = count_of(missing, "row is", "rows are")
        answer.note = f"{rows} missing in the API's results, whatever became of them."
    unmade = [row for row in results if row.status != COMPLETED]
    answer.rows = [_tell_row(row) for row in unmade[:_ROWS_SHOWN]] or None
    answer.rows_left_out = max(0, len(unmade) - _ROWS_SHOWN) or None
    if destination is not None:
        answer.path = clean(str(await _save(context, results, destination, arguments.overwrite)), _PATH_LIMIT)
    answer.next_step = _after_end(answer, len(unmade))
    return answer


async def _read_rows(context: CallContext, given: Sequence[RowArguments]) -> list[BatchRow]:
    """Return the rows as the API takes them.

    Raises:
        InvalidRequestError: what is wrong with the first of them.
    """
    check_number(len(given))
    rows: list[BatchRow] = []
    faults: list[str] = []
    for number, row in enumerate(given, 1):
        if row.take != 1:
            faults.append(f"row {number}: take is that of the whole batch: leave it out here.")
        if any(item.path is not None for item in row.input):
            faults.append(
                f"row {number}: a batch takes no path: upload_asset uploads the file, and its asset_id "
                "stands for it."
            )
            continue
        try:
            request = await read_request(context.account, row, is_row=True)
        except InvalidRequestError as error:
            faults += [f"row {number}: {fault}" for fault in error.faults]
        else:
            rows.append(BatchRow(request, (row.request_id or f"row-{number}").strip()))
    check_rows(faults)
    return rows


async def _check(
    context: CallContext, act: BatchAct, rows: Sequence[BatchRow], webhook_url: str | None
) -> CreateBatchAnswer:
    """Have the API look at the rows, and price them; nothing is made."""
    client = context.account.client
    await client.batches.dry_run(rows, webhook_url=webhook_url, request_options=context.reading)
    price = await context.process.guard.pricing.price(client, act, context.reading)
    usd = None if price.usd is None else float(price.usd)
    told = "Tell the user the price" if usd is not None else "Tell the user that the price is not known"
    return CreateBatchAnswer(
        status="VALIDATED",
        total=len(rows),
        estimated_cost_usd=usd,
        note=f"The price is unknown: {price.note}." if usd is None and price.note else None,
        next_step=f"Nothing was made or paid. {told}; the same call without dry_run makes the batch.",
    )


async def _list(context: CallContext) -> BatchAnswer:
    batches = await context.account.client.batches.list(request_options=context.reading)
    rows = [
        BatchListRow(
            batch_id=safe(batch.id, ID_LIMIT),
            status=_status(batch),
            created_at=_moment(batch),
            total=batch.metrics.total_generations,
            failed=batch.metrics.failed_count or None,
        )
        for batch in batches[:_LISTED]
    ]
    more = f" {len(batches) - _LISTED} older ones are not shown." if len(batches) > _LISTED else ""
    told = "get_batch with a batch_id tells more of one." if rows else "There is no batch yet."
    return BatchAnswer(status="LISTED", total=len(batches), batches=rows, next_step=f"{told}{more}")


async def _settle(context: CallContext, batch: Batch) -> Entry | None:
    """Write down how a batch ended, where the ledger knows it; return its entry then."""
    try:
        return await context.process.guard.settle_failure(context.account.client, batch)
    except (LedgerError, SyncError) as error:
        logger.warning("how a batch ended cannot be noted: %s", error)
        return None


async def _save(
    context: CallContext, results: Sequence[BatchResult], destination: Path, overwrite: bool
) -> Path:
    lines = [
        (
            clean(row.request_id, ID_LIMIT),
            clean(row.status, WORD_LIMIT),
            clean(row.generation_id or "", ID_LIMIT),
            clean(row.output_url or "", _URL_LIMIT),
            clean(row.error_code or "", WORD_LIMIT),
            safe(row.error or "", SAYING_LIMIT),
        )
        for row in results
    ]
    save = partial(save_table, _HEAD, lines, destination, context.account.roots, overwrite=overwrite)
    return (await run_sync(save)).path


def _after_end(answer: BatchAnswer, unmade: int) -> str:
    steps = [f"Tell the user {'the path and ' if answer.path else ''}how many rows have a video."]
    if answer.path:
        steps.append("The URLs in the file are signed and expire: get_batch with overwrite saves fresh ones.")
    elif answer.completed:
        steps.append("get_batch with path saves the URLs of all results as CSV.")
    if unmade:
        again = (
            f"{FEWEST_ROWS} and more of them as a batch" if unmade >= FEWEST_ROWS else "by create_generation"
        )
        rows = count_of(unmade, "row has", "rows have")
        steps.append(
            f"{rows} no video, and may have been charged: ask the user before making them again, {again}."
        )
    return " ".join(steps)


def _tell_row(row: BatchResult) -> BatchResultRow:
    return BatchResultRow(
        request_id=safe(row.request_id, ID_LIMIT),
        status=safe(row.status, WORD_LIMIT),
        generation_id=safe(row.generation_id, ID_LIMIT) if row.generation_id else None,
        api_code=safe(row.error_code, WORD_LIMIT) if row.error_code else None,
        api_says=safe(row.error, SAYING_LIMIT) if row.error else None,
    )


def _put_counts(answer: BatchCounts, batch: Batch) -> None:
    counts = batch.metrics
    answer.batch_id = safe(batch.id, ID_LIMIT)
    answer.total, answer.completed = counts.total_generations, counts.success_count
    answer.failed, answer.pending = counts.failed_count, counts.pending_count


def _status(batch: Batch) -> str:
    return safe(BatchAct.status_of(batch), WORD_LIMIT)


def _moment(batch: Batch) -> str | None:
    return batch.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if batch.created_at else None
