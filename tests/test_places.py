"""A test that judges by a short time runs alone, however many workers there are."""

import sys
from pathlib import Path
from threading import Barrier, Event, Lock, Thread
from typing import BinaryIO

import pytest

from tests.places import place

if sys.platform != "win32":
    import fcntl

WAIT_SECONDS = 60

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of this kind")


def test_whoever_is_alone_has_nobody_beside_it_and_gets_its_turn_among_those_who_come_again_and_again(
    tmp_path: Path,
) -> None:
    gate, room = tmp_path / "gate", tmp_path / "room"
    gate.touch()
    room.touch()
    has_been_alone, both_there, counting = Event(), Event(), Lock()
    there: set[int] = set()
    beside: list[set[int]] = []

    def come_again_and_again(number: int) -> None:
        while not has_been_alone.is_set():
            with place(gate, room, is_alone=False):
                with counting:
                    there.add(number)
                    if len(there) == 2:
                        both_there.set()
                both_there.wait(WAIT_SECONDS)
                with counting:
                    there.discard(number)

    def be_alone() -> None:
        both_there.wait(WAIT_SECONDS)
        with place(gate, room, is_alone=True):
            beside.append(set(there))
        has_been_alone.set()

    threads = [Thread(target=come_again_and_again, args=(number,), daemon=True) for number in range(2)]
    threads.append(Thread(target=be_alone, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert both_there.is_set()
    assert has_been_alone.is_set()
    assert beside == [set()]


def test_of_two_that_want_to_be_alone_once_they_are_there_each_is(tmp_path: Path) -> None:
    gate, room = tmp_path / "gate", tmp_path / "room"
    gate.touch()
    room.touch()
    both_there = Barrier(2, timeout=WAIT_SECONDS)
    could_others_come: list[bool] = []

    def stay() -> None:
        with place(gate, room, is_alone=False) as be_alone, room.open("rb") as opened:
            both_there.wait()
            be_alone()
            could_others_come.append(_may_enter(opened))

    threads = [Thread(target=stay, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert could_others_come == [False, False]


def _may_enter(room: BinaryIO) -> bool:
    try:
        fcntl.flock(room, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
