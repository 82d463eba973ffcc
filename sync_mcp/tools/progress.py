"""How far a file is, told to the client while a call waits for it."""

import math

import anyio

from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.tools.context import CallContext

_TOLD_EVERY_SECONDS = 1.0
_KILOBYTE, _MEGABYTE = 1_000, 1_000_000
_ROUNDED = 999_500
"""From here on it is a megabyte, as it is told."""
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
    done, total = transfer.done_bytes, transfer.total_bytes
    unit_bytes, decimals, unit = _unit_of(done if total is None else total)
    of = "" if total is None else f" of {total / unit_bytes:.{decimals}f}"
    return f"{_ACTS[transfer.step]} {name}: {done / unit_bytes:.{decimals}f}{of} {unit}"


def _unit_of(size: int) -> tuple[int, int, str]:
    """Return how many bytes the unit has in which this size can be seen, its decimals, and its name."""
    if size >= _ROUNDED:
        return _MEGABYTE, 1, "MB"
    return (_KILOBYTE, 0, "kB") if size >= _KILOBYTE else (1, 0, "bytes")
