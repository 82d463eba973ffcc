"""The standard streams of the command: what it prints, what it complains of, and what it logs."""

import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, cast

from sync_mcp.serving.caller import caller
from sync_mcp.texts import safe

_USAGE_ERROR = 2
_LINE_LIMIT = 600
_LOG_LIMIT = 16_000

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def open_standard_streams() -> None:
    """Put an empty file in the place of each standard stream that is closed: its number must stay taken."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number is the one that is missing.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def flush() -> None:
    """Write out what was printed; the program ends with exit code 1 where that is impossible."""
    try:
        sys.stdout.flush()
    except OSError as error:
        end_unread(error)


def end_unread(error: OSError) -> NoReturn:
    """End the program with exit code 1: `error` says why its output cannot be written."""
    # What was not written would be tried once more at the very end.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if not isinstance(error, BrokenPipeError):
        reason = error.strerror or type(error).__name__
        print(f"sync-mcp: The output cannot be written: {reason}.", file=sys.stderr)
    sys.exit(1)


def stop(message: str) -> NoReturn:
    """End the program with exit code 2 and `message`, on one line of standard error."""
    print(f"sync-mcp: {safe(message, _LINE_LIMIT)}", file=sys.stderr)
    sys.exit(_USAGE_ERROR)


def print_text(text: str) -> None:
    """Print a text at once, whatever letters it has."""
    take_all_letters()
    try:
        print(text, flush=True)
    except OSError as error:
        end_unread(error)


def take_all_letters() -> None:
    """Let what is printed, such as a path, have any letter, whatever the console's code page lacks."""
    cast("TextIOWrapper[Any]", sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")


def log_to_stderr(level: str) -> None:
    """Send the log to standard error: of this package what is of `level`, of others warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(tracebacks=level == "debug"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sync_mcp").setLevel(level.upper())


class _OneLine(logging.Formatter):
    """One record, one printable line without signed URLs: what the network says cannot forge a second one.

    It begins with the caller's name, where it has one. Tracebacks are for debugging.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        form = "%(asctime)s %(levelname)s %(name)s: %(caller)s%(message)s"
        super().__init__(form, "%Y-%m-%dT%H:%M:%S%z")
        self._tracebacks = tracebacks

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's own name
        """Return the traceback where it is wanted, else the exception alone."""
        return super().formatException(ei) if self._tracebacks else repr(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of a record."""
        name = caller.get()
        record.caller = f"[{name}] " if name else ""
        return safe(super().format(record).replace("\n", " | "), _LOG_LIMIT)
