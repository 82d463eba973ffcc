from collections.abc import Iterator

import pytest

from .process import ServerProcess, running


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ServerProcess]:
    with running() as process:
        process.initialize()
        process.stdout.seen.clear()
        yield process


@pytest.fixture
def server(shared_server: ServerProcess) -> Iterator[ServerProcess]:
    """An initialized server that has lived through the tests before this one, and must live on."""
    yield shared_server
    assert shared_server.process.poll() is None
    shared_server.stdout.seen.clear()
    shared_server.stderr.seen.clear()


@pytest.fixture
def fresh_server() -> Iterator[ServerProcess]:
    with running() as process:
        yield process
