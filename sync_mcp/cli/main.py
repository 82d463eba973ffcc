"""The command sync-mcp: its entry point, which loads what the command line asks for and nothing else."""

import argparse
import gc
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from sync_mcp.cli.parser import create_parser
from sync_mcp.cli.streams import end_unread, flush, open_standard_streams, stop
from sync_mcp.errors import ConfigurationError


def main() -> None:
    """Run the command line; exit code 2 for a setting or a flag that is wrong, 1 where nobody reads on."""
    open_standard_streams()
    try:
        # Until serving begins, a host that asks for the end gets the same orderly one as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _run(create_parser().parse_args())
        finally:
            # Left to the interpreter, a failure would be told with a traceback.
            flush()
    except BrokenPipeError as error:
        end_unread(error)
    except ConfigurationError as error:
        stop(f"{error.message} {error.next_step}".rstrip())
    except KeyboardInterrupt:
        # Before serving began; from then on the server itself ends on the signal.
        sys.exit(0)


def _run(arguments: argparse.Namespace) -> None:
    """Run the module that the parser names, loaded here: a server must not wait for the other commands."""
    # Building hundreds of pydantic models leaves no garbage, and looking for some costs a fifth of the start.
    gc.disable()
    run: Callable[[argparse.Namespace], None] = import_module(arguments.module).run
    gc.enable()
    run(arguments)
