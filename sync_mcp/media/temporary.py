"""Folders for what is fetched only to be looked at or passed on."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio.to_thread import run_sync

from sync_mcp.api.downloads import left_behind, remove_left_behind

_PREFIX = "sync-mcp-output-"
_NAME = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")


@asynccontextmanager
async def temporary_folder() -> AsyncGenerator[Path]:
    """Make a folder that is gone afterwards; what killed processes have left of theirs goes too."""
    with await run_sync(_new_folder) as name:
        yield Path(name)


def _new_folder() -> TemporaryDirectory[str]:
    made = TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    for entry in left_behind(Path(made.name).parent, _NAME):
        if entry.is_dir(follow_symlinks=False):
            remove_left_behind(Path(entry.path))
            with suppress(OSError):
                Path(entry.path).rmdir()
    return made
