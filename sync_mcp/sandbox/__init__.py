"""An embedded stand-in for the Sync API: a real HTTP server on loopback, with faults by script.

`with Sandbox() as sandbox:` serves the API's contract at `sandbox.url`, takes real media, and gives back
playable MP4 files. It needs the extra `sync-mcp[media]`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_mcp.sandbox.faults.records import Charge, RecordedRequest
    from sync_mcp.sandbox.faults.script import Fault
    from sync_mcp.sandbox.server import Sandbox, serve
    from sync_mcp.sandbox.settings import SandboxSettings

# Resolved on first use: naming the sandbox must not pay for a web server.
_HOMES = {
    "Charge": "sync_mcp.sandbox.faults.records",
    "Fault": "sync_mcp.sandbox.faults.script",
    "RecordedRequest": "sync_mcp.sandbox.faults.records",
    "Sandbox": "sync_mcp.sandbox.server",
    "SandboxSettings": "sync_mcp.sandbox.settings",
    "serve": "sync_mcp.sandbox.server",
}

__all__ = ["Charge", "Fault", "RecordedRequest", "Sandbox", "SandboxSettings", "serve"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
