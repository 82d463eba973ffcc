"""The command sync-mcp: serve over stdio (the default), show the demo, or run the sandbox alone."""

import argparse
import gc
import logging
import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from sync_mcp._version import __version__
from sync_mcp.errors import ConfigurationError

if TYPE_CHECKING:
    from sync_mcp.sandbox import Sandbox
    from sync_mcp.settings import Settings

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PLANS = ("free", "hobbyist", "creator", "growth", "scale", "enterprise")
_USAGE_ERROR = 2
_LAST_MOMENTS_SECONDS = 0.5
"""How long the end may take when something cannot be cancelled."""
_MEDIA_MISSING = (
    "the sandbox renders real video and needs PyAV, which is not installed: pip install 'sync-mcp[media]'"
)


def main() -> None:
    """Run the command line; exit code 2 for a setting or a flag that is wrong."""
    arguments = _parser().parse_args()
    run: Callable[[argparse.Namespace], None] = arguments.run
    try:
        run(arguments)
    except ConfigurationError as error:
        _stop(error.message)
    except KeyboardInterrupt:
        # Before serving began; from then on the server itself ends on the signal.
        sys.exit(0)


class _OneLineParser(argparse.ArgumentParser):
    """A wrong flag is one clear line; its subcommands' parsers are of the same kind."""

    def error(self, message: str) -> NoReturn:
        _stop(f"{message} (try {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="sync-mcp",
        allow_abbrev=False,
        description="MCP server for the Sync API: lip-synced and dubbed video. Without a command it serves "
        "stdio.",
        epilog="The README describes the environment variables SYNC_API_KEY, SYNC_BASE_URL and SYNC_MCP_*.",
    )
    parser.add_argument("--version", action="version", version=f"sync-mcp {__version__}")
    parser.add_argument(
        "--sandbox", action="store_true", default=None, help="run on the embedded sandbox, without a key"
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (default: info)")
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="make a video on the sandbox, step by step, as an assistant would"
    )
    demo.add_argument(
        "--output",
        default="demo-output",
        metavar="FOLDER",
        help="where the video goes (default: demo-output)",
    )
    demo.set_defaults(run=_demo)

    sandbox = commands.add_parser("sandbox", help="run the sandbox alone, for clients in any language")
    sandbox.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=_port, default=8787, help="port to listen on (default: 8787)")
    sandbox.add_argument(
        "--plan", default="scale", choices=_PLANS, help="plan of the account (default: scale)"
    )
    sandbox.add_argument(
        "--job-seconds",
        type=_seconds,
        default=3.0,
        metavar="SECONDS",
        help="how long a job takes (default: 3)",
    )
    sandbox.set_defaults(run=_sandbox)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError
    return seconds


# What argparse calls them when it complains.
_port.__name__, _seconds.__name__ = "port", "number of seconds"


def _serve(arguments: argparse.Namespace) -> None:
    # Building hundreds of pydantic models leaves no garbage, and looking for some costs a fifth of the start.
    gc.disable()
    import anyio

    from sync_mcp.server import create_server
    from sync_mcp.settings import Settings
    from sync_mcp.stdio import exit_within, serve_stdio

    settings = Settings.from_environment(os.environ, sandbox=arguments.sandbox, log_level=arguments.log_level)
    _log_to_stderr(settings)
    with _embedded_sandbox(settings) as sandbox:
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None)
        gc.freeze()
        gc.enable()
        anyio.run(partial(serve_stdio, server, on_stop=partial(exit_within, _LAST_MOMENTS_SECONDS)))


def _embedded_sandbox(settings: "Settings") -> "AbstractContextManager[Sandbox | None]":
    if not settings.sandbox:
        return nullcontext()
    _require_media()
    from sync_mcp.sandbox import Sandbox

    return Sandbox()


def _demo(arguments: argparse.Namespace) -> None:
    _require_media()
    import anyio

    from sync_mcp.demo import run_demo

    sys.exit(anyio.run(run_demo, arguments.output))


def _sandbox(arguments: argparse.Namespace) -> None:
    _require_media()
    from sync_mcp.sandbox.server import serve

    try:
        serve(arguments.host, arguments.port, plan=arguments.plan, job_seconds=arguments.job_seconds)
    except OSError as error:
        _stop(str(error))


def _require_media() -> None:
    from importlib.util import find_spec

    if find_spec("av") is None:
        _stop(_MEDIA_MISSING)


def _log_to_stderr(settings: "Settings") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(tracebacks=settings.log_level == "debug"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sync_mcp").setLevel(settings.log_level.upper())
    if settings.sandbox:
        logging.getLogger("sync_mcp").info("SANDBOX: answers come from a stand-in; no money is spent")


class _OneLine(logging.Formatter):
    """One record, one line: what the network says cannot forge a second one. Tracebacks are for debugging."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._tracebacks = tracebacks

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's own name
        return super().formatException(ei) if self._tracebacks else repr(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", " ").replace("\n", " | ")


def _stop(message: str) -> NoReturn:
    print(f"sync-mcp: {message}", file=sys.stderr)
    sys.exit(_USAGE_ERROR)
