"""Which tests may run at once, in the processes of one run or of several of this checkout."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows has none: there those that are to be alone have a run of their own.
    fcntl = None

_TESTS = Path(__file__).parent


@contextmanager
def place_of_its_own(*, is_alone: bool) -> Generator[None]:
    """Be beside others, or alone once those that are there have gone; nothing new comes before that."""
    if fcntl is None:
        yield
        return
    # Two files that are there in any case; nothing is written.
    with place(_TESTS / "__init__.py", _TESTS / "conftest.py", is_alone=is_alone):
        yield


@contextmanager
def place(gate: Path, room: Path, *, is_alone: bool) -> Generator[None]:
    """Be in a room, to which all go through one gate; whoever wants to be alone waits in the gate."""
    assert fcntl
    with gate.open("rb") as opened_gate, room.open("rb") as opened_room:
        fcntl.flock(opened_gate, fcntl.LOCK_EX)
        fcntl.flock(opened_room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        fcntl.flock(opened_gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Said, for a process that a test has forked and left there holds the same file.
            fcntl.flock(opened_room, fcntl.LOCK_UN)
