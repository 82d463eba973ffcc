"""The command sync-mcp: serve over stdio (the default) or HTTP, and what helps to set it up and to try it."""

import argparse
import gc
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sync_mcp._version import __version__
from sync_mcp.access import LOOPBACK
from sync_mcp.errors import ConfigurationError
from sync_mcp.hosts import HOSTS, Installation, configuration, http_origin, this_command
from sync_mcp.text import safe

if TYPE_CHECKING:
    from io import TextIOWrapper

    from sync_mcp.doctor import Finding
    from sync_mcp.sandbox import Sandbox
    from sync_mcp.settings import Settings

logger = logging.getLogger("sync_mcp")

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PLANS = ("free", "hobbyist", "creator", "growth", "scale", "enterprise")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_USAGE_ERROR = 2
_LINE_LIMIT = 600
_LOG_LIMIT = 16_000
_LONG_WORD = re.compile(r"(?<![\w-])\w[^\s'\"=,()]{15,}")
_LAST_MOMENTS_SECONDS = 0.5
"""How long the end may take when something cannot be cancelled."""
_MEDIA_MISSING = (
    "the sandbox renders real video and needs PyAV, which is not installed: pip install 'sync-mcp[media]'"
)


def main() -> None:
    """Run the command line; exit code 2 for a setting or a flag that is wrong."""
    try:
        # Until serving begins, a host that asks for the end gets the same orderly one as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        arguments = _parser().parse_args()
        run: Callable[[argparse.Namespace], None] = arguments.run
        run(arguments)
    except ConfigurationError as error:
        _stop(error.message)
    except KeyboardInterrupt:
        # Before serving began; from then on the server itself ends on the signal.
        sys.exit(0)


class _OneLineParser(argparse.ArgumentParser):
    """A wrong flag is one clear line; its subcommands' parsers are of the same kind."""

    def error(self, message: str) -> NoReturn:
        # A key that was given by mistake must not stand in the host's log.
        _stop(f"{_LONG_WORD.sub('...', message)} (try {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="sync-mcp",
        allow_abbrev=False,
        description="MCP server for the Sync API: lip-synced and dubbed video. Without a command it serves "
        "stdio.",
        epilog="The README describes the environment variables SYNC_API_KEY, SYNC_BASE_URL and SYNC_MCP_*.",
    )
    parser.add_argument("--version", action="version", version=f"sync-mcp {__version__}")
    _add_server_flags(parser, default=None)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    config = commands.add_parser(
        "config", allow_abbrev=False, help="print what to paste into a host, such as Claude Desktop"
    )
    config.add_argument("client", choices=tuple(HOSTS), metavar="CLIENT", help=", ".join(HOSTS))
    _add_server_flags(config, default=argparse.SUPPRESS)
    config.set_defaults(run=_config)

    doctor = commands.add_parser(
        "doctor", allow_abbrev=False, help="report what is installed and set, and what is wrong"
    )
    _add_server_flags(doctor, default=argparse.SUPPRESS)
    doctor.set_defaults(run=_doctor)

    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="make a video on the sandbox, step by step, as an assistant would",
    )
    demo.add_argument(
        "--output",
        default="demo-output",
        metavar="FOLDER",
        help="where the video goes (default: demo-output)",
    )
    demo.set_defaults(run=_demo)

    sandbox = commands.add_parser(
        "sandbox", allow_abbrev=False, help="run the sandbox alone, for clients in any language"
    )
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


def _add_server_flags(parser: argparse.ArgumentParser, *, default: object) -> None:
    """Add the flags that override settings; their names in the namespace are those of the settings."""

    def add(flag: str, setting: str, **how: Any) -> None:
        parser.add_argument(flag, dest=setting, default=default, **how)

    add("--sandbox", "sandbox", action="store_true", help="run on the embedded sandbox, without a key")
    add(
        "--log-level",
        "log_level",
        type=str.lower,
        choices=_LOG_LEVELS,
        metavar="LEVEL",
        help=f"{', '.join(_LOG_LEVELS)} (default: info)",
    )
    add("--http", "http", action="store_true", help="serve Streamable HTTP at /mcp instead of stdio")
    add("--host", "http_host", metavar="HOST", help="with --http: address (default: 127.0.0.1)")
    add("--port", "http_port", type=_port, metavar="PORT", help="with --http: port (default: 8000)")
    add(
        "--allowed-host",
        "http_allowed_hosts",
        action="append",
        metavar="NAME",
        help="with --http: a further name that clients may call the server by; may be given again",
    )


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
    # First: what is set wrong needs no server to be told.
    settings = _settings(arguments)
    _log_to_stderr(settings)
    if settings.http:
        _serve_http(settings)
    else:
        _serve_stdio(settings)


def _serve_stdio(settings: "Settings") -> None:
    import anyio

    from sync_mcp.server import create_server
    from sync_mcp.stdio import exit_within, serve_stdio

    if sys.stdin.isatty():
        hint = "Waiting for MCP on standard input: a host should start this, see sync-mcp config --help."
        print(hint, file=sys.stderr)
    with _embedded_sandbox(settings) as sandbox:
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None)
        gc.freeze()
        gc.enable()
        anyio.run(partial(serve_stdio, server, on_stop=partial(exit_within, _LAST_MOMENTS_SECONDS)))


def _serve_http(settings: "Settings") -> None:
    import anyio

    from sync_mcp.http import MCP_PATH, create_app, listen, serve_http
    from sync_mcp.server import create_server

    token = _checked_token(settings)
    with listen(settings.http_host, settings.http_port) as listening, _embedded_sandbox(settings) as sandbox:
        stopping = anyio.Event()
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None, stopping=stopping)
        app = create_app(server, allowed_hosts=settings.http_allowed_hosts, token=token)
        gc.freeze()
        gc.enable()
        port = int(listening.getsockname()[1])
        logger.info("serving %s%s", http_origin(settings.http_host, port), MCP_PATH)
        serve_http(app, listening, on_stop=stopping.set)


def _checked_token(settings: "Settings") -> str | None:
    """Return the token to serve HTTP with, having made sure that it is enough."""
    from sync_mcp.http import check_exposure

    token = settings.http_token.get_secret_value() if settings.http_token else None
    check_exposure(settings.http_host, settings.http_allowed_hosts, token)
    return token


def _settings(arguments: argparse.Namespace) -> "Settings":
    from sync_mcp.settings import Settings

    given = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    return Settings.from_environment(os.environ, **given)


def _config(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    if settings.http:
        _check_reachable(settings)
    level = ("--log-level", settings.log_level) if "log_level" in settings.model_fields_set else ()
    server = Installation(
        command=(*this_command(), *level),
        sandbox=settings.sandbox,
        url=_url(settings) if settings.http else None,
        has_token=settings.http_token is not None,
        http_flags=_http_flags(settings),
    )
    _print(configuration(arguments.client, server))


def _url(settings: "Settings") -> str:
    address, names = settings.http_host, settings.http_allowed_hosts
    # The server answers to its own address on loopback alone; elsewhere it has to be called by a name.
    called_by_address = address in LOOPBACK or address in ("", "0.0.0.0", "::") or address in names  # noqa: S104
    return f"{http_origin(address if called_by_address else names[0], settings.http_port)}/mcp"


def _check_reachable(settings: "Settings") -> None:
    """Refuse to describe a server that would not start, or whose place nobody can know."""
    _checked_token(settings)
    if settings.http_port == 0:
        raise ConfigurationError("Port 0 takes a free port, which nobody knows beforehand: give --port.")


def _http_flags(settings: "Settings") -> tuple[str, ...]:
    given = {"http_host": "--host", "http_port": "--port"}
    changed = settings.model_dump(include=set(given), exclude_defaults=True)
    names = (part for name in settings.http_allowed_hosts for part in ("--allowed-host", name))
    return (*(part for name, value in changed.items() for part in (given[name], str(value))), *names)


def _doctor(arguments: argparse.Namespace) -> None:
    from sync_mcp.doctor import faults, report, unusable

    try:
        findings = _examined(_settings(arguments), arguments)
    except ConfigurationError as error:
        findings = unusable(error)
    _print(report(findings))
    sys.exit(1 if faults(findings) else 0)


def _examined(settings: "Settings", arguments: argparse.Namespace) -> "list[Finding]":
    import anyio

    from sync_mcp.doctor import examine

    has_media = _has_media()
    # Without PyAV there is no sandbox to ask; the report says what to do about it.
    with _embedded_sandbox(settings) if has_media else nullcontext() as sandbox:
        url = sandbox.url if sandbox else None
        look = partial(examine, settings, _sources(arguments), has_media=has_media, sandbox_url=url)
        return anyio.run(look)


def _sources(arguments: argparse.Namespace) -> dict[str, str]:
    """Return where each setting came from."""
    from sync_mcp.settings import Settings

    return {
        name: "flag"
        if vars(arguments).get(name) is not None
        else "environment"
        if os.environ.get(variable, "").strip()
        else "default"
        for name, variable in Settings.VARIABLES.items()
    }


def _embedded_sandbox(settings: "Settings") -> "AbstractContextManager[Sandbox | None]":
    if not settings.sandbox:
        return nullcontext()
    _require_media()
    from sync_mcp.sandbox import Sandbox

    logger.info("SANDBOX: answers come from a stand-in; no money is spent")
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
        _stop(error.strerror or str(error))


def _require_media() -> None:
    if not _has_media():
        _stop(_MEDIA_MISSING)


def _has_media() -> bool:
    from importlib import import_module

    try:
        import_module("av")
    except ImportError:
        # Not there, or there and broken: the same command mends both.
        return False
    return True


def _print(text: str) -> None:
    # A path or the API's words may have letters that the console's code page lacks.
    cast("TextIOWrapper[Any]", sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    print(text)


def _log_to_stderr(settings: "Settings") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(tracebacks=settings.log_level == "debug"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sync_mcp").setLevel(settings.log_level.upper())


class _OneLine(logging.Formatter):
    """One record, one printable line without signed URLs: what the network says cannot forge a second one.

    Tracebacks are for debugging.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._tracebacks = tracebacks

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's own name
        return super().formatException(ei) if self._tracebacks else repr(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record).replace("\n", " | "), _LOG_LIMIT)


def _stop(message: str) -> NoReturn:
    print(f"sync-mcp: {safe(message, _LINE_LIMIT)}", file=sys.stderr)
    sys.exit(_USAGE_ERROR)
