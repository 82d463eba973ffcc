"""Which tests may run at once, in the processes of one run or of several of this checkout."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows has none: there those that are to be alone have a run of their own.
    fcntl = None

_TESTS = Path(__file__).parent
_here: list[Callable[[], None]] = []


@contextmanager
def place_of_its_own(*, is_alone: bool) -> Generator[None]:
    """Be beside others, or alone once those that are there have gone; nothing new comes before that."""
    if fcntl is None:
        yield
        return
    # Two files that are there in any case; nothing is written.
    with place(_TESTS / "__init__.py", _TESTS / "conftest.py", is_alone=is_alone) as be_alone_here:
        _here.append(be_alone_here)
        try:
            yield
        finally:
            _here.pop()


def be_alone() -> None:
    """Let those beside this test finish, and nothing new begin before it ends: what it judges comes now.

    What takes long and is not judged, such as the start of a process, comes before.
    """
    for be_alone_here in _here:
        be_alone_here()


@contextmanager
def place(gate: Path, room: Path, *, is_alone: bool) -> Generator[Callable[[], None]]:
    """Be in a room, to which all go through one gate; whoever wants to be alone waits in the gate.

    Yields:
        what makes one who is there be alone for the rest of the stay, by leaving and coming in again.
    """
    assert fcntl
    with gate.open("rb") as opened_gate, room.open("rb") as opened_room:

        def enter(kind: int) -> None:
            assert fcntl
            fcntl.flock(opened_gate, fcntl.LOCK_EX)
            fcntl.flock(opened_room, kind)
            fcntl.flock(opened_gate, fcntl.LOCK_UN)

        def be_alone_here() -> None:
            assert fcntl
            # Of two that stay there and want to be alone none would ever be.
            fcntl.flock(opened_room, fcntl.LOCK_UN)
            enter(fcntl.LOCK_EX)

        enter(fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        try:
            yield be_alone_here
        finally:
            # Said, for a process that a test has forked and left there holds the same file.
            fcntl.flock(opened_room, fcntl.LOCK_UN)
