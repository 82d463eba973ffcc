"""A command in this process, without a terminal: what it says, and how it ends."""

import io
import re
import signal
import subprocess
import sys
from typing import cast

import pytest

from sync_mcp.cli.main import main

Done = subprocess.CompletedProcess[str]


def run_here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    **environment: str,
) -> Done:
    """Run `sync-mcp` with these arguments; what handles SIGTERM here does so again afterwards."""
    ends_by = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.delenv("COLUMNS", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["sync-mcp", *arguments])
            patch.setattr(sys, "stdin", io.StringIO())
            with pytest.raises(SystemExit) as end:
                main()
    finally:
        signal.signal(signal.SIGTERM, ends_by)
    told = capsys.readouterr()
    return Done(arguments, cast(int, end.value.code), told.out, told.err)


def complaint(done: Done) -> str:
    """The one line by which a command is refused."""
    assert done.returncode == 2, done.stdout
    assert re.fullmatch(r"sync-mcp: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.removeprefix("sync-mcp: ").strip()
