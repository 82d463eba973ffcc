import gc
import json
import math
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache, wraps
from importlib import import_module
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import settings
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine

from sync_mcp.payments.stores import sqlite
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.api import files
from sync_mcp.tools import registry, schema
from sync_mcp.tools.schema import Schema
from tests.copied_ledgers import LedgerCopies
from tests.media import forked_worker
from tests.places import place_of_its_own
from tests.postgres import WITHOUT, hide_variable, is_available
from tests.sandbox.rendered import render_once
from tests.serving.stdio.forked import share_parent, start_parent
from tests.signals import hear_sigint
from tests.stores import Databases

hide_variable()

# No verdict may depend on how fast the machine is, nor on what an earlier run found.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

# Most of what a test leaves goes by itself: the rest need not be searched for as often as Python does. What
# is searched for late is found all the same.
gc.set_threshold(20_000, 20, 50)

_FIRST = ("slow", "alone")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in the order of this seed")
    parser.addoption(
        "--stores",
        choices=("some", "every"),
        default="some",
        help="on PostgreSQL too: some tests of the ledger, or every one that is not about a file",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what `store` says on a ledger in a file, and where it is wanted on one in a database."""
    if "store" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    in_file = pytest.param("file", id=pytest.HIDDEN_PARAM)
    if "file" in marks or (metafunc.config.getoption("--stores") == "some" and "both" not in marks):
        metafunc.parametrize("store", [in_file], indirect=True)
        return
    is_skipped = pytest.mark.skipif(not is_available(), reason=WITHOUT)
    in_database = pytest.param("postgres", id="postgres", marks=is_skipped)
    metafunc.parametrize("store", [in_file, in_database], indirect=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are processors: many tests wait for a process of their own, or for a time limit."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let the workers of a run share the process that forks: to start, it imports all that there is."""
    if sys.platform == "linux":
        node.workerinput["forks"] = _start_shared_parent()


@cache
def _start_shared_parent() -> bytes:
    return start_parent()


def pytest_configure(config: pytest.Config) -> None:
    if address := getattr(config, "workerinput", {}).get("forks"):
        share_parent(address)


def pytest_report_header(config: pytest.Config) -> str | None:
    seed: int | None = config.getoption("--shuffle")
    return None if seed is None else f"order: --shuffle {seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed: int | None = config.getoption("--shuffle")
    if seed is not None:
        Random(seed).shuffle(items)
    else:
        # No worker is to begin a long one, or to wait until it is alone, when the others are done.
        items.sort(key=lambda item: not any(mark.name in _FIRST for mark in item.iter_markers()))


def pytest_collection_finish() -> None:
    """Leave what stays for the whole run, the tests themselves above all, out of each search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Let nothing run in other workers beside a test that is to be alone, or from where it says so itself."""
    with place_of_its_own(is_alone=any(not mark.args for mark in item.iter_markers("alone"))):
        return (yield)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Databases for the ledgers of this worker, on the server of the whole run."""
    folder = tmp_path_factory.getbasetemp()
    run = os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, run = folder.parent, os.getppid()
    databases = Databases(folder, run)
    yield databases
    databases.drop()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the ledger of each folder lie in a file there, or in a database of its own in place of that."""
    if request.param == "file":
        yield
        return
    databases: Databases = request.getfixturevalue("databases")
    with databases.in_place_of_files():
        yield


@pytest.fixture
def anyio_backend() -> str:
    # Tests of the main paths say for themselves that they run under trio as well.
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _sigint_is_heard() -> None:
    hear_sigint()


@pytest.fixture(scope="session", autouse=True)
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what outlives a test away from the user's ledger too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNC_MCP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Keep temporary files away from the user's: each server that starts looks among all that are there."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr("tempfile.tempdir", folder)
        yield


@pytest.fixture(scope="session")
def new_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make folders whose names begin as given; none is there yet."""
    numbers = count()
    base = tmp_path_factory.getbasetemp()

    def make(name: str) -> Path:
        path = base / f"{name}{next(numbers)}"
        path.mkdir(mode=0o700)
        return path

    return make


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, new_folders: Callable[[str], Path]) -> Path:
    """Count the folders: pytest's own looks through those of all tests before, for each test."""
    return new_folders(re.sub(r"\W", "_", request.node.name)[:30])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep each test's ledger to itself, and away from the user's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SYNC_MCP_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _lists_at_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Send a create in doubt again at once: the time in which the API's list may lag is for its own tests."""
    # It takes the time as it is, also in a test that is the first to load it.
    import_module("sync_mcp.payments.export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_mcp.api.create.LISTED_WITHIN_SECONDS", -math.inf)
        yield


@pytest.fixture(scope="session", autouse=True)
def _commits_without_the_disk() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave it to the system when a commit reaches the disk: no test cuts the power, and a kill loses none.

    Only in this process: the commands that tests start sync as ever.
    """
    prepare = sqlite.prepare

    @wraps(prepare)
    def prepare_without_the_disk(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "prepare", prepare_without_the_disk)
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiles_each_statement_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Let the ledgers of this process share what SQLAlchemy compiles: each of them would compile it anew."""
    open_engine = sqlite.open_engine
    of_all = create_engine("sqlite://")
    of_all.connect().close()
    compiled: dict[Any, Any] = {}

    def open_engine_of_all(path: Path, busy_seconds: float, *, mode: Literal["rw", "ro"] = "rw") -> Engine:
        engine = open_engine(path, busy_seconds, mode=mode)
        engine.dialect = of_all.dialect
        engine.update_execution_options(compiled_cache=compiled)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "open_engine", open_engine_of_all)
        yield
    of_all.dispose()


@pytest.fixture(scope="session")
def ledger_copies(tmp_path_factory: pytest.TempPathFactory) -> LedgerCopies:
    return LedgerCopies(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(autouse=True)
def new_ledgers_are_copies(ledger_copies: LedgerCopies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the file of a new ledger: how it is made has tests of its own, which make it."""

    def make(store: sqlite.SqliteStore) -> None:
        ledger_copies.make(store)

    monkeypatch.setattr(sqlite.SqliteStore, "_make", make)


@pytest.fixture(autouse=True)
def _forks_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the worker that decodes: to import the decoders takes longer than a small clip does."""
    if sys.platform == "linux":
        monkeypatch.setattr("sync_mcp.media.decoding.look._start", forked_worker.started)


@pytest.fixture(scope="session", autouse=True)
def _decodes_without_haste() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Let the decoder take as long as a busy machine needs: its limits have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_mcp.media.decoding.look.LOOK_SECONDS", 45.0)
        patch.setattr("sync_mcp.media.decoding.look.EXAMINE_SECONDS", 45.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _checks_each_schema_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Check a schema against its dialect once: each client of a test would check those of the tools anew."""
    check = Draft202012Validator.check_schema
    checked: set[str] = set()

    def check_once(schema: Any) -> None:
        written = json.dumps(schema)
        if written not in checked:
            check(schema)
            checked.add(written)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft202012Validator, "check_schema", staticmethod(check_once))
        yield


@pytest.fixture(scope="session", autouse=True)
def _makes_each_schema_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Make the schema of a model once: each server of a test would make those of all its tools anew."""

    def once(make: Callable[[type[BaseModel]], Schema]) -> Callable[[type[BaseModel]], Schema]:
        @cache
        def write(model: type[BaseModel]) -> str:
            return json.dumps(make(model))

        def read(model: type[BaseModel]) -> Schema:
            return json.loads(write(model))

        return read

    with pytest.MonkeyPatch.context() as patch:
        for name in ("whole_schema", "output_schema"):
            made = once(getattr(schema, name))
            patch.setattr(schema, name, made)
            patch.setattr(registry, name, made)
        yield


@pytest.fixture(scope="session", autouse=True)
def _renders_each_output_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Render what the sandboxes of this process deliver once, for all workers of a run."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder = run / "rendered"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "render", render_once(files.render, folder))
        yield


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    # Long enough that no job ends but by the clock that a test moves.
    with Sandbox(job_seconds=60) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox
