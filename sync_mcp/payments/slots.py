"""Waiting until the account has room for one more job."""

import logging
from collections.abc import Sequence

import anyio

from sync_mcp.api.models import RUNNING_STATUSES, Generation
from sync_mcp.background.watching import Watcher
from sync_mcp.errors import ConcurrencyLimitError, NotFoundError, SyncError
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.call import PaidCall
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.payments")

_SLOT_POLL_SECONDS = 2.0
"""How long a refusal holds in any case: the API may know of a free slot a moment later than of the end."""
_RUNNING_SHOWN = 15


async def slot_came_free(call: PaidCall[Job], error: ConcurrencyLimitError) -> bool:
    """Wait for one of the account's jobs to end; return False, with the error made out, if none does.

    Once the caller is gone nothing is waited for: a free slot would be paid for unasked.
    """
    if call.gone.is_set():
        return False
    # A create that goes out in the last moment has no time to be answered.
    until = min(call.slot_until, call.ends_at) - _SLOT_POLL_SECONDS
    running = await list_running(call, until)
    if anyio.current_time() < until:
        with anyio.move_on_after(_SLOT_POLL_SECONDS):
            await call.gone.wait()
        # Where the list names none, it says that there is room.
        if not running or await _one_ends(call, running, until):
            return not call.gone.is_set()
    _advise_to_wait(error, running)
    return False


async def list_running(call: PaidCall[Job], until: float) -> list[str]:
    """Return the ids of the account's jobs that run; none where they cannot be listed.

    The turn to read is waited for until a time, and then taken.
    """
    with anyio.CancelScope(deadline=until):
        await call.sync.generations.allowance.take()
    try:
        jobs = await call.sync.generations.list(status=RUNNING_STATUSES, request_options=call.reading())
    except SyncError as error:
        logger.warning("the running jobs cannot be listed: %s", error)
        return []
    return [job.id for job in jobs if plain_id(job.id)]


async def _one_ends(call: PaidCall[Job], ids: Sequence[str], until: float) -> bool:
    """Return whether one of these jobs has ended, once one has, the time is up or the caller is gone."""
    has_ended = False
    async with anyio.create_task_group() as tasks:
        tasks.cancel_scope.deadline = until
        tasks.start_soon(call.cancel_once_gone, tasks.cancel_scope)
        seconds = until - anyio.current_time()
        watcher = call.watcher or Watcher(lambda: call.sync, tasks)
        outcomes = await watcher.wait_for_many(ids, seconds, until="any")
        # What is not there any more has ended; what cannot be read has not for that.
        has_ended = any(
            job.finished if isinstance(job, Generation) else isinstance(job, NotFoundError)
            for job in outcomes.values()
        )
        tasks.cancel_scope.cancel()
    return has_ended


def _advise_to_wait(error: ConcurrencyLimitError, running: list[str]) -> None:
    shown = running[:_RUNNING_SHOWN]
    if shown:
        more = f" and {len(running) - len(shown)} more" if len(running) > len(shown) else ""
        ids = ", ".join(f'"{name}"' for name in shown)
        error.advise(
            message=f"{error.message} Running: {', '.join(shown)}{more}.",
            next_step=(
                "Nothing was sent or charged. Call wait_for_generations with generation_ids "
                f'[{ids}] and until "any", then make this call again.'
            ),
        )
    else:
        error.advise(next_step="Nothing was sent or charged. Wait for a running job to end, then call again.")
