"""A PostgreSQL server for tests: one for a run, on a free port of this machine, with databases of its own.

`SYNC_MCP_TEST_DATABASE_URL` names one that runs already, by a role that may make databases; else the programs
of Debian's package `postgresql` start one, as another user where the tests run as root. It writes to the disk
as any server does.

`python -m tests.postgres PID FILE` is such a server, until the process of this number has ended; its URL goes
into the file.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

try:
    import fcntl
except ImportError:
    # On Windows no server is started, only one used that is there.
    fcntl = None

VARIABLE = "SYNC_MCP_TEST_DATABASE_URL"
WITHOUT = f"no PostgreSQL: install Debian's package postgresql, or name a server in {VARIABLE}"
_KEPT = "TEST_DATABASE_URL"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.1
_INSTALLED = Path("/usr/lib/postgresql")
_ROLE = "tester"
# The user of Debian's package: the server does not run as root.
_USER = "postgres"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
lc_messages = 'C'
"""


def hide_variable() -> None:
    """Keep the variable from the commands that tests start: it is no setting of theirs."""
    given = os.environ.pop(VARIABLE, "")
    if given:
        os.environ[_KEPT] = given


def find_programs() -> Path | None:
    """Return the folder of the server's programs, of the newest that is installed; None where none is."""
    installed = [path.parent for path in _INSTALLED.glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


def is_available() -> bool:
    """Return whether there is a server for tests, or one can be started."""
    return _KEPT in os.environ or (os.name == "posix" and find_programs() is not None)


def server_url(told: Path, run: int) -> str:
    """Return the URL of the server for tests, which is started where it is not there yet.

    Args:
        told: the file in which its URL stands for all workers of a run.
        run: the process with which the run ends.
    """
    if _KEPT in os.environ:
        return os.environ[_KEPT]
    with _hold(told.with_name(f"{told.name}.lock")):
        _start_once(told, run)
    return told.read_text(encoding="utf-8")


def _start_once(told: Path, run: int) -> None:
    if not told.exists():
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres", str(run), str(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        ends_at = time.monotonic() + _START_SECONDS
        while not told.exists():
            assert keeper.poll() is None, "the server for tests did not start"
            assert time.monotonic() < ends_at, "the server for tests did not start in time"
            time.sleep(_POLL_SECONDS)
        # It ends after the process that began it.
        keeper.returncode = 0


@contextmanager
def _hold(path: Path) -> Generator[None]:
    with path.open("wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def run_statement(url: str, statement: Any) -> list[tuple[Any, ...]]:
    """Run one statement beside the program under test; return its rows."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _keep_server(run: int, told: Path) -> None:
    """Have a server run until a process has ended."""
    programs = find_programs()
    assert programs is not None
    who: dict[str, Any] = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
    # Not below the tests' own folders, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="sync-mcp-postgres-", dir="/tmp"))
    data, password = folder / "data", secrets.token_hex(8)
    server = None
    try:
        (folder / "password").write_text(password, encoding="utf-8")
        if who:
            shutil.chown(folder, _USER, _USER)
            shutil.chown(folder / "password", _USER, _USER)
        subprocess.run(
            [
                *(
                    programs / "initdb",
                    "--pgdata",
                    data,
                    "--username",
                    _ROLE,
                    "--pwfile",
                    folder / "password",
                ),
                *("--auth=password", "--encoding=UTF8", "--locale=C.UTF-8"),
            ],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **who,
        )
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_CONFIGURATION)
        port = _find_port()
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(port)],
                cwd=folder,
                stdout=log,
                stderr=log,
                **who,
            )
        url = f"postgresql://{_ROLE}:{password}@127.0.0.1:{port}/postgres"
        while not _answers(url):
            assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
            time.sleep(_POLL_SECONDS)
        written = told.with_name(f"{told.name}.new")
        written.write_text(url, encoding="utf-8")
        written.rename(told)
        while _is_alive(run) and server.poll() is None:
            time.sleep(_POLL_SECONDS)
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _keep_server(int(sys.argv[1]), Path(sys.argv[2]))
