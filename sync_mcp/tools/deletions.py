"""The tools that delete for good: what goes is read and named, agreed to, and only then deleted."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence

import anyio

from sync_mcp.api.assets import Asset
from sync_mcp.api.models import Generation
from sync_mcp.api.uploads import OnProgress
from sync_mcp.errors import (
    InvalidRequestError,
    NotFoundError,
    SyncError,
    UnderWay,
)
from sync_mcp.payments.limits import dollars, minute
from sync_mcp.payments.rows import Entry
from sync_mcp.texts import (
    FILE_NAME_LIMIT,
    REASON_LIMIT,
    WORD_LIMIT,
    clean,
    count_of,
    in_quotes,
    plain_id,
    safe,
)
from sync_mcp.tools.agreeing import agree_to_delete
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.job_answers import find_entries
from sync_mcp.tools.library import (
    DeleteAssetsArguments,
    DeletedAnswer,
    DeletedRow,
    DeleteGenerationsArguments,
    DeleteProjectArguments,
)
from sync_mcp.tools.projects import NAME_LIMIT, find_project

_AT_ONCE = 4
_MOST_COUNTED = 1000
"""So many jobs of a project are counted before its deletion is asked about."""
_SHOWN_IDS = 8
_COSTS_STAY = "What they cost stays in the ledger."
_COSTS_OPEN = "Of {} the cost is not known yet: the estimate stays held until the API's export tells it."


async def delete_assets(context: CallContext, arguments: DeleteAssetsArguments) -> DeletedAnswer:
    ids = _read_ids(arguments.asset_ids, "asset_ids", "list_assets")
    client = context.account.client

    async def decide() -> Callable[[], Awaitable[DeletedAnswer]]:
        found = {
            asset.id: asset for asset in await client.assets.batch_get(ids, request_options=context.reading)
        }
        _refuse_missing([id for id in ids if id not in found], "asset", "list_assets")
        lines = [f"- {in_quotes(found[id].name or id)}{_of_asset(found[id])}" for id in ids]
        await agree_to_delete(context, count_of(len(ids), "file"), lines, arguments.confirm)

        async def delete(id: str) -> SyncError | None:
            try:
                await client.assets.delete(id)
            except SyncError as error:
                return error
            return None

        async def work() -> DeletedAnswer:
            outcomes = await _each(ids, delete)
            rows = [_row(id, found[id].name, outcomes[id]) for id in ids]
            return _answer(rows, "list_assets shows what is left.")

        return work

    return await _once(context, "assets", ids, decide)


async def delete_generations(context: CallContext, arguments: DeleteGenerationsArguments) -> DeletedAnswer:
    ids = _read_ids(arguments.generation_ids, "generation_ids", "list_generations")
    guard, client = context.process.guard, context.account.client

    async def decide() -> Callable[[], Awaitable[DeletedAnswer]]:
        jobs = await _find_jobs(context, ids)
        running = [id for id in ids if not jobs[id].finished]
        if running:
            raise _running(
                _name(running),
                several=len(running) > 1,
                step="Call wait_for_generations first, or leave out what has not ended.",
            )
        known = await find_entries(context, list(jobs.values()))
        lines = [f"- {_of_job(jobs[id], known.get(id))}" for id in ids]
        await agree_to_delete(
            context, f"{count_of(len(ids), 'job')} with the video", lines, arguments.confirm
        )

        async def work() -> DeletedAnswer:
            outcomes = await guard.delete_jobs(client, [jobs[id] for id in ids])
            told = await guard.find_entries(client, [jobs[id] for id in ids])
            rows = [_row(id, _title(jobs[id], told.get(id)), outcomes[id], told.get(id)) for id in ids]
            answer = _answer(rows, "list_generations shows what is left.")
            answer.note = _note_on_costs(told.values()) if told else None
            return answer

        return work

    return await _once(context, "generations", ids, decide)


async def delete_project(context: CallContext, arguments: DeleteProjectArguments) -> DeletedAnswer:
    [id] = _read_ids([arguments.project_id], "project_id", "list_projects")
    guard, client = context.process.guard, context.account.client

    async def decide() -> Callable[[], Awaitable[DeletedAnswer]]:
        project = await find_project(context, id)
        jobs, running = await _count_jobs(context, id)
        if running:
            raise _running(
                f"{count_of(running, 'job')} of the project",
                several=running > 1,
                step="list_generations with this project_id tells when they have ended; then call "
                "delete_project again.",
            )
        assets = await client.assets.list(project_id=id, limit=1, request_options=context.reading)
        files = assets.total_count if assets.total_count is not None else len(assets.items)
        more = "" if jobs < _MOST_COUNTED else " or more"
        lines = [
            f"- {in_quotes(project.name or id)}",
            f"- {count_of(jobs, 'job')}{more} in it, with the videos",
            f"- of its {count_of(files, 'file')} those that are in no other project",
        ]
        await agree_to_delete(context, "this project", lines, arguments.confirm)

        async def delete() -> None:
            await client.projects.delete(id)

        async def work() -> DeletedAnswer:
            await guard.delete_project_for(client, id, delete)
            row = DeletedRow(id=id, name=safe(project.name or "", NAME_LIMIT) or None)
            answer = _answer([row], "list_projects shows what is left.")
            gone = [f"{count_of(jobs, 'job')}{more}"] if jobs else []
            gone += [f"of its {count_of(files, 'file')} those that were in no other project"] if files else []
            kept = f" {_COSTS_STAY}" if jobs else ""
            answer.note = f"With it went {', and '.join(gone)}.{kept}" if gone else None
            return answer

        return work

    return await _once(context, "project", [id], decide)


async def _once(
    context: CallContext,
    kind: str,
    ids: Sequence[str],
    decide: Callable[[], Awaitable[Callable[[], Awaitable[DeletedAnswer]]]],
) -> DeletedAnswer:
    """Delete what `decide` has had agreed to; the same call again is told what came of it.

    What has begun is done to its end, whatever becomes of the call.
    """
    account = context.account
    key: Hashable = ("delete", kind, account.client.key_fingerprint, tuple(ids))
    begin: Callable[[], Awaitable[DeletedAnswer]] | None = None
    if not account.work.is_known(key):
        begin = await decide()

    async def work(_: OnProgress) -> DeletedAnswer:
        assert begin is not None
        return await begin()

    try:
        answer = await account.work.join(key, work, until=context.answer_at)
    except UnderWay as under_way:
        raise under_way.advise(
            message="Not finished: the deletion goes on in the server.",
            next_step="Make exactly this call again: it tells what came of it. Tell the user.",
        ) from None
    if answer.failed:
        # Told once: the next call tries what is left.
        account.work.forget(key)
    return answer


async def _find_jobs(context: CallContext, ids: Sequence[str]) -> Mapping[str, Generation]:
    """Return jobs by their ids.

    Raises:
        InvalidRequestError: the account has not all of them.
    """
    generations, options = context.account.client.generations, context.reading
    found = {job.id: job for job in await generations.list(ids=ids, request_options=options)}
    missing: list[str] = []
    for id in ids:
        if id not in found:
            # The list may lag.
            try:
                found[id] = await generations.get(id, request_options=options)
            except NotFoundError:
                missing.append(id)
    _refuse_missing(missing, "job", "list_generations")
    return found


async def _count_jobs(context: CallContext, project_id: str) -> tuple[int, int]:
    """Return how many jobs a project has, and how many of them have not ended."""
    count = running = 0
    jobs = context.account.client.generations.iterate(project_id=project_id, request_options=context.reading)
    async for job in jobs:
        count += 1
        running += not job.finished
        if count >= _MOST_COUNTED:
            break
    return count, running


async def _each(
    ids: Sequence[str], delete: Callable[[str], Awaitable[SyncError | None]]
) -> Mapping[str, SyncError | None]:
    outcomes: dict[str, SyncError | None] = {}
    turns = anyio.CapacityLimiter(_AT_ONCE)

    async def in_turn(id: str) -> None:
        async with turns:
            outcomes[id] = await delete(id)

    async with anyio.create_task_group() as tasks:
        for id in ids:
            tasks.start_soon(in_turn, id)
    return outcomes


def _read_ids(given: Sequence[str], place: str, teller: str) -> list[str]:
    ids = list(dict.fromkeys(id.strip() for id in given))
    malformed = [id for id in ids if not plain_id(id)]
    if malformed:
        shown = ", ".join(f"{clean(id, WORD_LIMIT)!r}" for id in malformed[:_SHOWN_IDS])
        error = InvalidRequestError(
            f"{place}: {shown} cannot be an id, which has letters, digits, _ and - only."
        )
        raise error.advise(next_step=f"Copy each whole from {teller}.")
    return ids


def _running(which: str, *, several: bool, step: str) -> InvalidRequestError:
    verb = "have" if several else "has"
    error = InvalidRequestError(
        f"Nothing was deleted: {which} {verb} not ended, and the API deletes and cancels no running job."
    )
    return error.advise(next_step=step)


def _refuse_missing(ids: Sequence[str], noun: str, teller: str) -> None:
    if ids:
        error = InvalidRequestError(f"Nothing was deleted: this account has no {noun} {_name(ids)}.")
        raise error.advise(next_step=f"Look in {teller}, or leave out what is not there.")


def _name(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return f"{', '.join(ids[:_SHOWN_IDS])}{more}"


def _of_asset(asset: Asset) -> str:
    kind = safe(asset.type or "", WORD_LIMIT).lower()
    seconds = "" if asset.duration_seconds is None else f"{asset.duration_seconds:.1f} s"
    told = ", ".join(filter(None, [kind, seconds]))
    return f" ({told})" if told else ""


def _of_job(job: Generation, entry: Entry | None) -> str:
    made = "" if job.created_at is None else f", made {minute(job.created_at)}"
    cost = "" if entry is None or entry.cost_usd is None else f", cost {dollars(entry.cost_usd)}"
    return f"{in_quotes(_title(job, entry))} ({safe(job.status, WORD_LIMIT)}{made}{cost})"


def _title(job: Generation, entry: Entry | None) -> str:
    return (entry.title if entry else "") or job.output_file_name or f"{job.model or 'job'} {job.id}"


def _row(id: str, name: str | None, failure: SyncError | None, entry: Entry | None = None) -> DeletedRow:
    # What another has deleted meanwhile is gone all the same.
    is_gone = failure is None or isinstance(failure, NotFoundError)
    return DeletedRow(
        id=id,
        name=safe(name or "", FILE_NAME_LIMIT) or None,
        cost_usd=None if entry is None or entry.cost_usd is None else float(entry.cost_usd),
        failure=None
        if is_gone or failure is None
        else safe(f"{failure.code}: {failure.message}", REASON_LIMIT),
    )


def _answer(rows: list[DeletedRow], step: str) -> DeletedAnswer:
    failed = sum(row.failure is not None for row in rows)
    if failed:
        step = f"Tell the user what is still there, and why. The same call tries it again. {step}"
    return DeletedAnswer(
        deleted=len(rows) - failed,
        failed=failed or None,
        rows=rows,
        next_step=f"Done. {step}" if not failed else step,
    )


def _note_on_costs(entries: Iterable[Entry]) -> str:
    unknown = sum(entry.cost_usd is None for entry in entries)
    return _COSTS_OPEN.format(count_of(unknown, "job")) if unknown else _COSTS_STAY
