"""Waiting until the account has room for one more job."""

import logging

import anyio

from sync_mcp.api.models import Generation
from sync_mcp.errors import ConcurrencyLimitError, SyncError
from sync_mcp.payments.call import Call
from sync_mcp.texts import plain_id

logger = logging.getLogger("sync_mcp.payments")

_SLOT_POLL_SECONDS = 2.0
_RUNNING_SHOWN = 15


async def slot_came_free(call: Call, error: ConcurrencyLimitError) -> bool:
    """Wait for one of the account's jobs to end; return False, with the error made out, if none does.

    Once the caller is gone nothing is waited for: a free slot would be paid for unasked.
    """
    before: set[str] | None = None
    while not call.gone.is_set():
        running = await list_running(call)
        ids = {job.id for job in running}
        if before is not None and (before - ids):
            return not call.gone.is_set()
        before = ids if before is None else before
        if anyio.current_time() + _SLOT_POLL_SECONDS >= min(call.terms.slot_until, call.terms.ends_at):
            _advise_to_wait(error, [job.id for job in running])
            return False
        with anyio.move_on_after(_SLOT_POLL_SECONDS):
            await call.gone.wait()
        if not running:
            # The list says that there is room: a moment later the API may know it too.
            return not call.gone.is_set()
    return False


async def list_running(call: Call) -> list[Generation]:
    """Return the jobs of the account that run; none where they cannot be listed."""
    try:
        return await call.sync.generations.list(
            status=["PENDING", "PROCESSING"], request_options=call.reading()
        )
    except SyncError as error:
        logger.warning("the running jobs cannot be listed: %s", error)
        return []


def _advise_to_wait(error: ConcurrencyLimitError, running: list[str]) -> None:
    shown = [name for name in running if plain_id(name)][:_RUNNING_SHOWN]
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
