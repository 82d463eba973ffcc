"""How far a file is, told to the client while a call waits for it."""

import math

import anyio

from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.tools.context import CallContext

_TOLD_EVERY_SECONDS = 1.0
_MEGABYTE = 1_000_000
_ACTS = {"hash": "Reading", "send": "Uploading", "fetch": "Downloading"}


def transfer_reporter(context: CallContext, name: str) -> OnProgress:
    """Return what tells the client how far the file `name` is, once a second at most."""
    told_at = -math.inf

    async def report(transfer: Transfer) -> None:
        nonlocal told_at
        now = anyio.current_time()
        if now - told_at >= _TOLD_EVERY_SECONDS:
            told_at = now
            await context.report_progress(transfer_line(name, transfer))

    return report


def transfer_line(name: str, transfer: Transfer) -> str:
    """Return one line on how far a file is."""
    done = transfer.done_bytes / _MEGABYTE
    of = "" if transfer.total_bytes is None else f" of {transfer.total_bytes / _MEGABYTE:.1f}"
    return f"{_ACTS[transfer.step]} {name}: {done:.1f}{of} MB"
