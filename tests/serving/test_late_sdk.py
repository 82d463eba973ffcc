"""Packages that are put off until a name of theirs is used."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

import pytest

from sync_mcp.serving.late_sdk import put_off

NAME = "put_off_in_a_test"
WAIT_SECONDS = 60.0
A_MOMENT_SECONDS = 0.02
"""In which a thread that does not wait for the package has failed."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the modules of the package go; afterwards nothing knows of it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    finders = list(sys.meta_path)
    (tmp_path / NAME).mkdir()
    yield tmp_path / NAME
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if NAME in name]:
        del sys.modules[name]


def test_a_package_that_is_put_off_runs_at_the_first_use_of_a_name_and_once(place: Path) -> None:
    (place / "__init__.py").write_text("from .part import ran\nran.append(1)\nvalue = 'late'\n", "utf-8")
    (place / "part.py").write_text("ran = []\n", "utf-8")
    put_off(NAME)
    ran: list[int] = import_module(f"{NAME}.part").ran
    assert ran == []
    package = import_module(NAME)
    assert (package.value, package.value, ran) == ("late", "late", [1])
    with pytest.raises(AttributeError, match=f"module '{NAME}' has no attribute 'other'"):
        _ = package.other


def test_threads_that_use_a_package_while_another_runs_it_wait_for_its_end(place: Path) -> None:
    (place / "__init__.py").write_text(
        "from .part import begun, go_on\nbegun()\ngo_on()\nvalue = 'late'\n", "utf-8"
    )
    (place / "part.py").write_text("begun = go_on = None\n", "utf-8")
    put_off(NAME)
    package, part = import_module(NAME), import_module(f"{NAME}.part")
    running, going_on = Event(), Event()
    vars(part).update(begun=running.set, go_on=lambda: going_on.wait(WAIT_SECONDS))
    told: list[object] = []

    def use() -> None:
        try:
            told.append(package.value)
        except (AttributeError, KeyError) as error:
            told.append(error)

    first, second = Thread(target=use), Thread(target=use)
    first.start()
    assert running.wait(WAIT_SECONDS)
    second.start()
    second.join(A_MOMENT_SECONDS)
    going_on.set()
    for thread in (first, second):
        thread.join(WAIT_SECONDS)
    assert told == ["late", "late"]


def test_a_package_that_could_not_run_is_tried_again_at_the_next_use(place: Path) -> None:
    (place / "__init__.py").write_text("from .part import fail\nfail()\nvalue = 'late'\n", "utf-8")
    (place / "part.py").write_text("def fail(): raise ImportError('not now')\n", "utf-8")
    put_off(NAME)
    package, part = import_module(NAME), import_module(f"{NAME}.part")
    with pytest.raises(ImportError, match="not now"):
        _ = package.value
    vars(part).update(fail=lambda: None)
    assert package.value == "late"
