"""What tests fork in the place of the command behaves as the command does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.host import COMMAND
from tests.serving.stdio.forked import CLOSED, ForkedProcess, run_forked
from tests.serving.stdio.process import WAIT_SECONDS, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked on this system")


@pytest.mark.parametrize(
    "words",
    [("--version",), ("--nonsense",), ("config", "cursor", "--sandbox"), ("--http", "--host", "192.0.2.1")],
    ids=" ".join,
)
def test_a_forked_command_says_and_ends_as_the_command_does(words: tuple[str, ...], tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "SYNC_MCP_HOME": str(tmp_path), "COLUMNS": "60"}
    real = subprocess.run(
        [COMMAND, *words], env=env, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS
    )
    forked = run_forked([COMMAND, *words], env, timeout=WAIT_SECONDS)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize(
    "words", [("-m", "sync_mcp", "--nonsense"), ("-c", "import sys; print(__name__, sys.argv)", "a b")]
)
def test_forked_code_is_what_it_is_when_python_is_started_for_it(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, *words]
    env = {"PATH": os.environ["PATH"], "SYNC_MCP_HOME": str(tmp_path), "COLUMNS": "60"}
    real = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS)
    forked = run_forked(command, env, timeout=WAIT_SECONDS)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("last", ["", "sys.exit(256 + 7)", "sys.exit('No.')", "1 / 0", "os.close(1)"])
def test_a_forked_process_ends_as_python_does(last: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, os, sys, threading\n"
        "atexit.register(print, 'at exit')\n"
        "may_end = threading.Event()\n"
        "threading.Thread(target=lambda: print('thread ended' if may_end.wait() else '')).start()\n"
        f"print('said')\nmay_end.set()\n{last}\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(program)]
    real = subprocess.run(command, env={}, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS)
    forked = run_forked(command, {}, timeout=WAIT_SECONDS)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    # A traceback from there begins where the file is run.
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_a_forked_file_is_the_main_program_with_its_own_arguments_input_and_folder(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import neighbour, os, sys\n"
        "print(__name__, sys.argv[1:], input(), os.getcwd(), dict(os.environ), neighbour.WORD)\n"
        "sys.exit(3)\n",
        encoding="utf-8",
    )
    (tmp_path / "neighbour.py").write_text("WORD = 'next door'\n", encoding="utf-8")
    done = run_forked(
        [sys.executable, str(program), "a b"], {"ONE": "1"}, typed="typed\n", timeout=WAIT_SECONDS
    )
    assert done.stdout == f"__main__ ['a b'] typed {Path.cwd()} {{'ONE': '1'}} next door\n"
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("closed", [0, 1, 2], ids=["stdin", "stdout", "stderr"])
def test_a_forked_process_without_a_stream_is_as_python_starts_without_it(
    closed: int, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    program = (
        "import os, sys\n"
        "names = ('stdin', 'stdout', 'stderr', '__stdin__', '__stdout__', '__stderr__')\n"
        "told = [getattr(sys, name) is None for name in names]\n"
        "told += [os.open('.', os.O_RDONLY)]\n"
        f"open({str(told)!r}, 'w').write(repr(told))\n"
    )
    command = [sys.executable, "-c", program]
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}<&-', "sh", *command]
    subprocess.run(shell, env={}, check=True, timeout=WAIT_SECONDS, stdin=subprocess.DEVNULL)
    real = told.read_text(encoding="utf-8")
    told.unlink()
    stdin, stdout, stderr = (CLOSED if stream == closed else None for stream in range(3))
    with ForkedProcess(command, {}, stdin=stdin, stdout=stdout, stderr=stderr) as forked:
        assert forked.wait(WAIT_SECONDS) == 0
    assert told.read_text(encoding="utf-8") == real


def test_a_forked_server_hears_signals_and_leaves_no_process() -> None:
    with started((COMMAND, "--http", "--sandbox", "--port", "0"), {}, forked=True) as server:
        server.stderr.until(lambda line: b"/mcp" in line)
        assert os.getpgid(server.process.pid) == server.process.pid
        server.process.kill()
        assert server.process.wait(WAIT_SECONDS) == -signal.SIGKILL
        assert not server.left_processes()
