"""Folders for what is fetched only to be looked at or passed on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from anyio.to_thread import run_sync

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.errors import FileRefused
from sync_mcp.machine.scratch import ScratchFolder

MOST_BYTES = 4 * 1024**3
"""How much may lie in all such folders of a process together: their disk is often small, or memory."""


class TemporaryFolder:
    """A folder for one file, and how much room that takes.

    Attributes:
        path: where it is.
    """

    _all: ClassVar["set[TemporaryFolder]"] = set()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = 0

    def count(self, on_progress: OnProgress | None = None) -> OnProgress:
        """Return what is to be told how far the fetch into it is; it passes that on.

        It raises FileRefused once all such folders together would hold more than they may.
        """

        async def note(transfer: Transfer) -> None:
            wanted = max(transfer.done_bytes, transfer.total_bytes or 0)
            held = sum(folder._bytes for folder in self._all if folder is not self)
            if held + wanted > MOST_BYTES:
                raise FileRefused(
                    f"There is no room: {held:,} bytes of other files are in the temporary folder, this one "
                    f"has {wanted:,} or more, and {MOST_BYTES:,} may lie there together.",
                    code="file_not_writable",
                    next_step="Wait until what else is looked at or copied has ended, then call again.",
                ).advise(retryable=True)
            self._bytes = wanted
            if on_progress is not None:
                await on_progress(transfer)

        return note

    def __enter__(self) -> "TemporaryFolder":
        self._all.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._all.discard(self)


@asynccontextmanager
async def temporary_folder() -> AsyncGenerator[TemporaryFolder]:
    """Make a folder that is gone afterwards; what killed processes have left of theirs goes too."""
    with await run_sync(ScratchFolder, "output") as scratch, TemporaryFolder(scratch.path) as folder:
        yield folder


@asynccontextmanager
async def temporary_copy(
    sync: AsyncSync, url: str, *, limit_bytes: int, on_progress: OnProgress | None = None
) -> AsyncGenerator[Path]:
    """Fetch a file into such a folder, for as long as it is used.

    Raises:
        FileRefused: as `AsyncSync.fetch`, or there is no room for it.
        SyncError: as `AsyncSync.fetch`.
    """
    async with (
        temporary_folder() as folder,
        sync.fetch(url, folder.path, limit_bytes=limit_bytes, on_progress=folder.count(on_progress)) as path,
    ):
        yield path
