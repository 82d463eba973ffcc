"""The command sync-mcp: its entry point, which loads what the command line asks for and nothing else."""

import argparse
import gc
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType

from sync_mcp.cli.parser import create_parser
from sync_mcp.cli.streams import end_unread, flush, open_standard_streams, stop
from sync_mcp.errors import ConfigurationError

_SERVING = ("sync_mcp.cli.serve", "sync_mcp.cli.sandbox")
"""What runs until it is told to end, and then has done all that it was to do."""


def main() -> None:
    """Run the command line; it ends the program by an exit code.

    2 stands for a setting or a flag that is wrong, 1 for output that nobody reads, and 130 or 143, as in a
    shell, for Ctrl-C and SIGTERM, at which what serves ends with 0.
    """
    open_standard_streams()
    module, is_terminated = "", False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):
            # A script has it ignored by what it puts into the background.
            interrupt = signal.default_int_handler
        interrupt(signum, frame)

    try:
        # Until serving begins, a host that asks for the end gets the same orderly one as Ctrl-C.
        signal.signal(signal.SIGTERM, end)
        try:
            arguments = create_parser().parse_args()
            module = arguments.module
            _run(arguments)
        finally:
            # Left to the interpreter, a failure would be told with a traceback.
            flush()
    except BrokenPipeError as error:
        end_unread(error)
    except ConfigurationError as error:
        stop(f"{error.message} {error.next_step}".rstrip())
    except (KeyboardInterrupt, Exception) as error:
        # What a signal breaks off in the middle of an import may come out of that as another exception.
        if isinstance(error, Exception) and not is_terminated:
            raise
        number = signal.SIGTERM if is_terminated else signal.SIGINT
        # Of what serves: before that began; from then on the server itself ends on the signal.
        sys.exit(0 if module in _SERVING else 128 + number)


def _run(arguments: argparse.Namespace) -> None:
    """Run the module that the parser names, loaded here: a server must not wait for the other commands."""
    # Building hundreds of pydantic models leaves no garbage, and looking for some costs a fifth of the start.
    gc.disable()
    run: Callable[[argparse.Namespace], None] = import_module(arguments.module).run
    gc.enable()
    run(arguments)
