"""The folder that the ledger and the server's own token lie in."""

import os
import stat
from pathlib import Path


def home_folder(named: Path | str | None = None) -> Path:
    """Return the folder named here, else in SYNC_MCP_HOME, else the user's data directory."""
    chosen = named or os.environ.get("SYNC_MCP_HOME")
    return Path(chosen).expanduser().absolute() if chosen else default_home()


def default_home() -> Path:
    """Return the folder in the user's data directory: the one of a terminal in which nothing is set."""
    # Loaded where no folder is named alone.
    import platformdirs

    return platformdirs.user_data_path("sync-mcp").expanduser().absolute()


def open_to_others(folder: Path) -> Path | None:
    """Return the folder that lets others than this user write into `folder`; None where there is none.

    It is `folder` itself, or one above it in which they can put another in its place.
    """
    if os.name != "posix":
        return None
    try:
        folder = folder.resolve(strict=True)
        for place in (folder, *folder.parents):
            found = place.stat()
            is_shared = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
            # In such a folder everybody can rename what is their own, and nothing else.
            is_sticky = place != folder and bool(found.st_mode & stat.S_ISVTX)
            if found.st_uid not in (0, os.geteuid()) or (is_shared and not is_sticky):
                return place
    except OSError:
        # Not there yet: it is made for this user alone.
        return None
    return None


def open_fault(place: Path) -> str:
    """Return what it means that others can write to `place`, as `open_to_others` found it."""
    return f"others can write to {place}, where the ledger lies: what was paid can be forged"
