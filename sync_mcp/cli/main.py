"""The command sync-mcp: serve over stdio (the default) or HTTP, and what helps to set it up and to try it."""

import argparse
import gc
import logging
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sync_mcp._version import __version__
from sync_mcp.access import LOOPBACK
from sync_mcp.cli.hosts import ALIASES, HOSTS, Installation, configuration, http_origin
from sync_mcp.errors import ConfigurationError, InvalidRequestError, LedgerError
from sync_mcp.machine.home import home_folder, open_fault, open_to_others
from sync_mcp.machine.installed import called_by, media_install, this_command
from sync_mcp.machine.scratch import sweep
from sync_mcp.serving.caller import caller
from sync_mcp.serving.tokens import FILE_NAME, named_tokens, own_token
from sync_mcp.texts import safe

if TYPE_CHECKING:
    from io import TextIOWrapper

    from sync_mcp.cli.doctor import Finding
    from sync_mcp.cli.ledger import Plan, Sighting
    from sync_mcp.payments.ledger import Ledger
    from sync_mcp.payments.rows import Entry
    from sync_mcp.sandbox import Sandbox
    from sync_mcp.settings import Settings

logger = logging.getLogger("sync_mcp")

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PLANS = ("free", "hobbyist", "creator", "growth", "scale", "enterprise")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_USAGE_ERROR = 2
_INTERRUPTED = 130
_LINE_LIMIT = 600
_LOG_LIMIT = 16_000
_LONG_WORD = re.compile(r"(?<![\w-])\w[^\s'\"=,()]{15,}")
_LAST_MOMENTS_SECONDS = 0.5
"""How long the end may take when something cannot be cancelled."""
_HTTP_FLAGS = {"http_host": "--host", "http_port": "--port", "http_allowed_hosts": "--allowed-host"}
_TOLD_TO_HOSTS = {"api_key", "sandbox", "log_level", "http", "http_token", *_HTTP_FLAGS}
_MEDIA_MISSING = "the sandbox renders real video and needs PyAV, which is not installed"


def main() -> None:
    """Run the command line; exit code 2 for a setting or a flag that is wrong, 1 where nobody reads on."""
    _open_standard_streams()
    try:
        # Until serving begins, a host that asks for the end gets the same orderly one as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            arguments = _parser().parse_args()
            run: Callable[[argparse.Namespace], None] = arguments.run
            run(arguments)
        finally:
            # Left to the interpreter, a failure would be told with a traceback.
            _flush()
    except BrokenPipeError as error:
        _end_unread(error)
    except ConfigurationError as error:
        _stop(f"{error.message} {error.next_step}".rstrip())
    except KeyboardInterrupt:
        # Before serving began; from then on the server itself ends on the signal.
        sys.exit(0)


def _open_standard_streams() -> None:
    """Put an empty file in the place of each standard stream that is closed: its number must stay taken."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number is the one that is missing.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        _end_unread(error)


def _end_unread(error: OSError) -> NoReturn:
    # What was not written would be tried once more at the very end.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if not isinstance(error, BrokenPipeError):
        reason = error.strerror or type(error).__name__
        print(f"sync-mcp: The output cannot be written: {reason}.", file=sys.stderr)
    sys.exit(1)


class _OneLineParser(argparse.ArgumentParser):
    """A wrong flag is one clear line; its subcommands' parsers are of the same kind."""

    def error(self, message: str) -> NoReturn:
        # A key that was given by mistake must not stand in the host's log.
        _stop(f"{_LONG_WORD.sub('...', message)} (try {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog=called_by(),
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
    config.add_argument("client", choices=(*HOSTS, *ALIASES), metavar="CLIENT", help=", ".join(HOSTS))
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
        "--allowed-host",
        dest="http_allowed_hosts",
        action="append",
        metavar="NAME",
        help="a further name that clients may call it by; may be given again. Who lets others in sets "
        "SYNC_MCP_HTTP_TOKEN, which then is their x-api-key",
    )
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

    _add_ledger_commands(
        commands.add_parser(
            "ledger", allow_abbrev=False, help="look at what was paid, and settle what hangs in doubt"
        )
    )
    return parser


def _add_ledger_commands(ledger: argparse.ArgumentParser) -> None:
    commands = ledger.add_subparsers(title="commands", metavar="COMMAND", required=True)
    ledger.set_defaults(run=_ledger)

    def add(name: str, act: "Callable[[Ledger, argparse.Namespace], int]", told: str) -> Any:
        command = commands.add_parser(name, allow_abbrev=False, help=told, description=told)
        command.set_defaults(act=act)
        return command

    def add_yes(command: Any) -> None:
        command.add_argument("--yes", action="store_true", help="do it without asking")

    listing = add("list", _ledger_list, "list paid calls, what is unresolved first, and what was spent")
    how_many = listing.add_mutually_exclusive_group()
    how_many.add_argument("--all", action="store_true", help="list them all")
    how_many.add_argument("--limit", type=_count, metavar="N", help="list so many (default: 20)")

    show = add("show", _ledger_show, "show all of one entry, and what can be done about it")
    show.add_argument("entry", type=_entry_id, metavar="ID")

    resolve = add("resolve", _ledger_resolve, "say which job an unresolved call made: its money counts")
    resolve.add_argument("entry", type=_entry_id, metavar="ID")
    resolve.add_argument("generation", metavar="GENERATION_ID")
    resolve.add_argument("--unseen", action="store_true", help="though the API knows no such job")
    add_yes(resolve)

    release = add(
        "release", _ledger_release, "say that an unresolved call made nothing: its money stands free again"
    )
    release.add_argument("entry", type=_entry_id, metavar="ID")
    add_yes(release)

    check = add(
        "check", _ledger_check, "look whether the ledger is whole; it changes nothing about the money"
    )
    check.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on without what a damaged, missing or older ledger lost: what was spent counts no more",
    )
    add_yes(check)

    prune = add("prune", _ledger_prune, "delete what is old and cost nothing; what was paid stays")
    prune.add_argument(
        "--before", type=_days, metavar="DAYS", help="settled more than so many days ago (default: 90)"
    )
    add_yes(prune)


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


def _count(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def _days(text: str) -> int:
    return _whole(text, 0, 36_500)


def _entry_id(text: str) -> int:
    return _whole(text, 1, 2**53)


def _whole(text: str, least: int, most: int) -> int:
    number = int(text)
    if not least <= number <= most:
        raise ValueError
    return number


# What argparse calls them when it complains.
_port.__name__, _seconds.__name__ = "port", "number of seconds"
_count.__name__, _days.__name__, _entry_id.__name__ = "number", "number of days", "entry id"


def _serve(arguments: argparse.Namespace) -> None:
    # Building hundreds of pydantic models leaves no garbage, and looking for some costs a fifth of the start.
    gc.disable()
    # First: what is set wrong needs no server to be told.
    settings = _settings(arguments)
    settings.check_key()
    _log_to_stderr(settings)
    _warn_of_open_home(settings)
    sweep()
    if settings.http:
        _serve_http(settings)
    else:
        _serve_stdio(settings)


def _serve_stdio(settings: "Settings") -> None:
    import anyio

    from sync_mcp.server import create_server
    from sync_mcp.serving.ending import exit_within
    from sync_mcp.serving.stdio import serve_stdio

    if sys.stdin.isatty():
        hint = (
            f"Waiting for MCP on standard input: a host should start this, see {called_by()} config --help."
        )
        print(hint, file=sys.stderr)
    with _embedded_sandbox(settings) as sandbox:
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None)
        gc.freeze()
        gc.enable()
        anyio.run(partial(serve_stdio, server, on_stop=partial(exit_within, _LAST_MOMENTS_SECONDS)))


def _serve_http(settings: "Settings") -> None:
    import anyio

    from sync_mcp.server import create_server
    from sync_mcp.serving.http import MCP_PATH, create_app, listen, serve_http

    _check_exposure(settings)
    tokens = _tokens(settings)
    with listen(settings.http_host, settings.http_port) as listening, _embedded_sandbox(settings) as sandbox:
        stopping = anyio.Event()
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None, stopping=stopping)
        app = create_app(server, allowed_hosts=settings.http_allowed_hosts, tokens=tokens)
        gc.freeze()
        gc.enable()
        port = int(listening.getsockname()[1])
        logger.info("serving %s%s", http_origin(settings.http_host, port), MCP_PATH)
        if settings.makes_token:
            place = home_folder(settings.home) / FILE_NAME
            logger.info(
                "clients need the token in %s: %s config CLIENT --http prints its header", place, called_by()
            )
        serve_http(app, listening, on_stop=stopping.set)


def _check_exposure(settings: "Settings") -> None:
    from sync_mcp.serving.http import check_exposure

    check_exposure(settings.http_host, settings.http_allowed_hosts, has_token=settings.has_token)


def _tokens(settings: "Settings") -> dict[str, str | None]:
    """Return the tokens that clients may come with over HTTP, and the name of each that has one."""
    tokens: dict[str, str | None] = {}
    try:
        if settings.http_tokens_file is not None:
            tokens.update(named_tokens(settings.http_tokens_file))
        if settings.http_token is not None:
            tokens.setdefault(settings.http_token.get_secret_value(), None)
        if settings.makes_token:
            tokens[own_token(home_folder(settings.home))] = None
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return tokens


def _warn_of_open_home(settings: "Settings") -> None:
    place = None if settings.sandbox else open_to_others(home_folder(settings.home))
    if place is not None:
        logger.warning("%s", open_fault(place))


def _settings(arguments: argparse.Namespace) -> "Settings":
    from sync_mcp.settings import Settings

    settings = Settings.from_environment(os.environ, **_given(arguments))
    idle = [flag for name, flag in _HTTP_FLAGS.items() if vars(arguments).get(name) is not None]
    if idle and not settings.http:
        raise ConfigurationError(f"{', '.join(idle)} says nothing without --http: add that, or leave it out.")
    return settings


def _given(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings that flags give."""
    from sync_mcp.settings import Settings

    return {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}


def _config(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    token = None
    if settings.http:
        _check_reachable(settings)
        [token] = _tokens(settings) if settings.makes_token else [None]
    level = ("--log-level", settings.log_level) if "log_level" in settings.model_fields_set else ()
    server = Installation(
        command=(*this_command(), *level),
        sandbox=settings.sandbox,
        url=_url(settings) if settings.http else None,
        has_token=settings.has_token,
        token=token,
        has_token_file=settings.http_tokens_file is not None,
        http_flags=_http_flags(settings),
    )
    _print(configuration(arguments.client, server))
    untold = [
        variable
        for name, variable in settings.VARIABLES.items()
        if name in settings.model_fields_set - _TOLD_TO_HOSTS
    ]
    if untold:
        told = f"set here and not in this configuration: {', '.join(untold)}"
        print(f"sync-mcp: {told}; the server needs it in its own environment.", file=sys.stderr)


def _url(settings: "Settings") -> str:
    address, names = settings.http_host, settings.http_allowed_hosts
    # The server answers to its own address on loopback alone; elsewhere it has to be called by a name.
    called_by_address = address in LOOPBACK or address in ("0.0.0.0", "::") or address in names  # noqa: S104
    return f"{http_origin(address if called_by_address else names[0], settings.http_port)}/mcp"


def _check_reachable(settings: "Settings") -> None:
    """Refuse to describe a server that would not start, or whose place nobody can know."""
    _check_exposure(settings)
    if settings.http_port == 0:
        raise ConfigurationError("Port 0 takes a free port, which nobody knows beforehand: give --port.")


def _http_flags(settings: "Settings") -> tuple[str, ...]:
    changed = settings.model_dump(include={"http_host", "http_port"}, exclude_defaults=True)
    names = (part for name in settings.http_allowed_hosts for part in ("--allowed-host", name))
    return (*(part for name, value in changed.items() for part in (_HTTP_FLAGS[name], str(value))), *names)


def _doctor(arguments: argparse.Namespace) -> None:
    from sync_mcp.cli.doctor import faults, report, unusable

    try:
        findings = _examined(_settings(arguments), arguments)
    except ConfigurationError as error:
        from sync_mcp.settings import Settings

        findings = unusable(Settings.faults(os.environ, **_given(arguments)) or [error.message])
    _print(report(findings))
    sys.exit(1 if faults(findings) else 0)


def _examined(settings: "Settings", arguments: argparse.Namespace) -> "list[Finding]":
    import anyio

    from sync_mcp.cli.doctor import examine

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

    from sync_mcp.cli.demo import run_demo

    sys.exit(anyio.run(run_demo, arguments.output))


def _sandbox(arguments: argparse.Namespace) -> None:
    _require_media()
    from sync_mcp.sandbox.server import serve
    from sync_mcp.serving.http import check_exposure
    from sync_mcp.settings import Settings

    # Its callers are let in as those of the server over HTTP are.
    settings = Settings.from_environment(
        os.environ, sandbox=True, http=True, http_allowed_hosts=arguments.http_allowed_hosts
    )
    check_exposure(arguments.host, settings.http_allowed_hosts, has_token=settings.has_token)
    try:
        serve(
            arguments.host,
            arguments.port,
            plan=arguments.plan,
            job_seconds=arguments.job_seconds,
            tokens=_tokens(settings),
            allowed_hosts=settings.http_allowed_hosts,
        )
    except OSError as error:
        _stop(error.strerror or str(error))


def _ledger(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    from sync_mcp.payments.ledger import Ledger, remedy

    ledger = Ledger(settings.home)
    act: Callable[[Ledger, argparse.Namespace], int] = arguments.act
    try:
        sys.exit(act(ledger, arguments))
    except LedgerError as error:
        _stop(f"{error.message} {remedy(error)}")
    except InvalidRequestError as error:
        _stop(error.message)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        ledger.close()


def _ledger_list(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import SHOWN, listed

    _print_fitted(listed(ledger, None if arguments.all else arguments.limit or SHOWN))
    return 0


def _ledger_show(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import shown

    _print_fitted(shown(ledger, arguments.entry))
    return 0


def _ledger_resolve(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import resolving

    look = _look(arguments)
    plan = resolving(ledger, arguments.entry, arguments.generation, look=look, unseen=arguments.unseen)
    return _done(plan, arguments)


def _ledger_release(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import releasing

    return _done(releasing(ledger, arguments.entry, look=_look(arguments)), arguments)


def _look(arguments: argparse.Namespace) -> "Callable[[Ledger, Entry, str], Sighting]":
    """Return what asks the API for a job, by the key and the address of the settings."""
    from sync_mcp.cli.ledger import look_up

    settings = _settings(arguments)
    key = None
    # A placeholder is no key: the ledger can be looked at and settled without one.
    if settings.api_key is not None and not settings.sandbox and not settings.sends_placeholder:
        key = settings.api_key.get_secret_value()
    return partial(look_up, api_key=key, base_url=settings.base_url)


def _ledger_check(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import checked, giving_up

    plan = giving_up(ledger) if arguments.accept_loss else None
    if plan is not None and _done(plan, arguments):
        return 1
    told, is_well = checked(ledger)
    _print_fitted(told)
    return 0 if is_well else 1


def _ledger_prune(ledger: "Ledger", arguments: argparse.Namespace) -> int:
    from sync_mcp.cli.ledger import PRUNED_AFTER_DAYS, pruning

    days = PRUNED_AFTER_DAYS if arguments.before is None else arguments.before
    plan = pruning(ledger, days)
    if plan is None:
        _print_fitted(
            f"Nothing that cost nothing was settled more than {days} days ago: there is nothing to delete."
        )
        return 0
    return _done(plan, arguments)


def _done(plan: "Plan", arguments: argparse.Namespace) -> int:
    """Carry a plan out once the user has agreed; the exit code says whether it was."""
    _print_fitted(plan.told)
    if not arguments.yes and not _agreed():
        _print_fitted("Nothing was changed.")
        return 1
    _print_fitted(plan.do())
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        _stop("nothing was changed: there is no terminal to ask on; give --yes to do it")
    try:
        return input("Do it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _require_media() -> None:
    if not _has_media():
        _stop(f"{_MEDIA_MISSING}: {media_install()}")


def _has_media() -> bool:
    from importlib import import_module

    try:
        import_module("av")
    except ImportError:
        # Not there, or there and broken: the same command mends both.
        return False
    return True


def _print_fitted(text: str) -> None:
    """Print a text in lines that the terminal, where there is one, need not break inside a word."""
    from sync_mcp.cli.ledger import fitted

    _print(fitted(text, shutil.get_terminal_size((0, 0)).columns))


def _print(text: str) -> None:
    # A path or the API's words may have letters that the console's code page lacks.
    cast("TextIOWrapper[Any]", sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError as error:
        _end_unread(error)


def _log_to_stderr(settings: "Settings") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(tracebacks=settings.log_level == "debug"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sync_mcp").setLevel(settings.log_level.upper())


class _OneLine(logging.Formatter):
    """One record, one printable line without signed URLs: what the network says cannot forge a second one.

    It begins with the caller's name, where it has one. Tracebacks are for debugging.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        form = "%(asctime)s %(levelname)s %(name)s: %(caller)s%(message)s"
        super().__init__(form, "%Y-%m-%dT%H:%M:%S%z")
        self._tracebacks = tracebacks

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's own name
        return super().formatException(ei) if self._tracebacks else repr(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        name = caller.get()
        record.caller = f"[{name}] " if name else ""
        return safe(super().format(record).replace("\n", " | "), _LOG_LIMIT)


def _stop(message: str) -> NoReturn:
    print(f"sync-mcp: {safe(message, _LINE_LIMIT)}", file=sys.stderr)
    sys.exit(_USAGE_ERROR)
